//! Who asked: what the front door records before it starts an execution, and what CloudTrail confirms after.

use access_core::PersonId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the front door recorded for one execution before it started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The person that the caller is.
    pub person: PersonId,
    /// The caller's ARN, whose signature AWS verified.
    pub principal: String,
    /// The execution's input, whole, as JSON.
    pub input: Value,
    /// When.
    pub at: DateTime<Utc>,
}

/// What CloudTrail says about the start of the execution that made a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The ARN of the principal that started it; they are the requester.
    pub principal: String,
    /// CloudTrail's id of the event.
    pub event_id: String,
    /// When it was confirmed.
    pub at: DateTime<Utc>,
}
