//! What a dry run answers: the request as the catalogue resolves it, what would be done, and what stands in its way.

use std::collections::BTreeMap;

use access_core::catalogue::{DecideBy, Mode, RoleCredential};
use access_core::request::PersonRef;
use access_core::{
    Fault, Finding, Grant, Request, RequesterProof, RoleName, TargetId, Window, WindowSpec,
};
use chrono::{DateTime, Utc};
use serde::Serialize;

#[cfg(doc)]
use crate::ErrorName;

/// The answer. It is no promise: everything is looked at again when somebody asks in earnest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryRun {
    /// What would be asked for.
    pub request: Resolved,
    /// The window if it were approved now; absent if nothing would be left of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_if_approved_now: Option<Window>,
    /// Why it would be refused, all at once; empty if approvers would be asked.
    pub faults: Vec<Fault>,
    /// Why the database could not be asked, if so: then nothing of what it would refuse is among the faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_not_asked: Option<NotAsked>,
    /// What approvers would be told about the role.
    pub findings: Vec<Finding>,
    /// What would be sent to the database, or written in the accounts.
    pub plan: Plan,
}

/// Why the database could not be asked. A request would fail in the same way; the log has the details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotAsked {
    /// The name of the error with which a request would fail, of [`ErrorName`].
    pub error: &'static str,
    /// One sentence in English that says what to do.
    pub message: String,
}

/// A request as the catalogue resolves it, without what only functions need to know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resolved {
    /// The database.
    pub target: TargetId,
    /// The role.
    pub role: RoleName,
    /// What the window would give. Kinds have fields that are called like those of a request.
    pub grant: Grant,
    /// Who asks.
    pub requester: PersonRef,
    /// Who says so.
    pub requester_proof: RequesterProof,
    /// Why.
    pub reason: String,
    /// From when to when.
    pub window: WindowSpec,
    /// Until when it could be decided.
    pub decide_by: DateTime<Utc>,
    /// Who would be asked.
    pub approvers: Vec<PersonRef>,
    /// How many of them must approve.
    pub required_approvals: u8,
    /// In which ways it could be decided.
    pub deciding: DecideBy,
    /// Who could end it, beside the requester and the approvers.
    pub operators: Vec<PersonRef>,
    /// The shortest window that would be opened, in seconds.
    pub min_duration_seconds: i64,
    /// Whose password would open the role.
    pub credential: RoleCredential,
    /// What happens to access outside windows.
    pub mode: Mode,
    /// Whether different people may have the role at the same time.
    pub shared: bool,
    /// The versions of the catalogue's documents that this was resolved against.
    pub catalogue_versions: BTreeMap<String, i64>,
}

impl From<&Request> for Resolved {
    fn from(request: &Request) -> Self {
        Self {
            target: request.target.clone(),
            role: request.role.clone(),
            grant: request.grant.clone(),
            requester: request.requester.clone(),
            requester_proof: request.requester_proof.clone(),
            reason: request.reason.clone(),
            window: request.window,
            decide_by: request.decide_by,
            approvers: request.approvers.clone(),
            required_approvals: request.required_approvals,
            deciding: request.deciding,
            operators: request.operators.clone(),
            min_duration_seconds: request.min_duration_seconds,
            credential: request.credential,
            mode: request.mode,
            shared: request.shared,
            catalogue_versions: request.catalogue_versions.clone(),
        }
    }
}

/// What opening and closing would send, in this order.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// At the start; empty if nothing of the window would be left.
    pub opening: Vec<Planned>,
    /// At the end, unless another window covers by then.
    pub closing: Vec<Planned>,
    /// For a role of an account: the policies that opening would write, in this order, and closing would take back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PlannedPolicy>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPolicy {
    /// The account of its user or role.
    pub account: String,
    /// The user or role, such as `user dave`.
    pub holder: String,
    /// Its name. The request's id is part of it, and a dry run has another than the request would have.
    pub name: String,
    /// Its text.
    pub document: serde_json::Value,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// As which database user.
    pub login: String,
    /// To which servers.
    pub servers: Servers,
    /// Its text.
    pub sql: String,
    /// Its values, in the order of their numbers. What a password is checked by is never among them.
    pub values: Vec<String>,
}

/// To which servers a statement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Servers {
    /// The one that takes changes.
    Writer,
    /// Each one, readers too.
    Every,
}
