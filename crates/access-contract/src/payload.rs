//! The payloads between the state machine and the functions.
//!
//! We own the sender, so unknown fields are refused; what people wrote (`request`) is read by `access_core`.

use access_core::{Fault, Place, Request, RequestId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dry_run::DryRun;

/// To compute-wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeWait {
    /// The payload's version.
    pub version: Version,
    /// The execution that asks.
    pub execution: Execution,
    /// The execution's input, as somebody wrote it.
    pub request: Value,
}

/// Which execution.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
    /// When it started, as the context object writes it.
    pub started_at: DateTime<Utc>,
}

/// To enable-login and grant-policy.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum EnableLogin {
    /// Could it be opened? Changes nothing.
    Preflight(Step),
    /// Arm, then converge.
    Open(Step),
    /// What would preflight say, and what would be done? Changes nothing.
    DryRun(Step),
}

/// To disable-login.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum DisableLogin {
    /// The window is over: converge close-only, and prove it.
    Close(Close),
    /// The window could not be opened as it should: end it now, then the same.
    EndEarly(Step),
    /// The execution that made the request has ended by itself or was stopped: end its window now, then the same.
    ExecutionEnded {
        /// The payload's version.
        version: Version,
        /// The execution that ended.
        execution_arn: String,
        /// When it started, in milliseconds since 1970.
        started_at_millis: i64,
        /// `ABORTED`, `FAILED` or `TIMED_OUT`.
        status: String,
    },
}

/// To revoke-policy.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum RevokePolicy {
    /// As for [`DisableLogin::Close`].
    Close(Close),
    /// As for [`DisableLogin::EndEarly`].
    EndEarly(Step),
    /// As for [`DisableLogin::ExecutionEnded`].
    ExecutionEnded {
        /// The payload's version.
        version: Version,
        /// The execution that ended.
        execution_arn: String,
        /// When it started, in milliseconds since 1970.
        started_at_millis: i64,
        /// `ABORTED`, `FAILED` or `TIMED_OUT`.
        status: String,
    },
    /// Take away what windows left behind.
    Collect {
        /// The payload's version.
        version: Version,
    },
}

/// Which window to close.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The payload's version.
    pub version: Version,
    /// Which request.
    pub request_id: RequestId,
    /// Where it is, so that the state machine finds the function; a database if absent.
    #[serde(default)]
    pub place: Option<PlaceName>,
}

/// The input with which the state machine that closes a window is started.
#[must_use]
pub fn to_close(request: &Request) -> Value {
    let mut input = json!({
        "version": crate::PAYLOAD_VERSION, "request_id": request.request_id, "action": "close"
    });
    if request.place.account().is_some() {
        input["place"] = json!(PlaceName::Account);
    }
    input
}

/// What kind of place a request is about; it decides which functions open and close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceName {
    /// enable-login and disable-login.
    Database,
    /// grant-policy and revoke-policy.
    Account,
}

impl PlaceName {
    /// Of a request's place.
    #[must_use]
    pub fn of(place: &Place) -> Self {
        match place {
            Place::Database(_) => Self::Database,
            Place::Account(_) => Self::Account,
        }
    }
}

/// To notify.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Notify {
    /// Ask each approver, with a link of their own.
    Ask(Step),
    /// Remind those who were asked and have not decided, if there still is something to decide.
    Remind(Step),
    /// Warn the requester that the window ends soon, if it is still open.
    Warn(Step),
    /// Tell the requester and the other reviewers that a window without approval was reviewed, if it was.
    Reviewed(Step),
    /// Whom would messages about a dry run reach? Nobody is told.
    DryRun(Step),
    /// Tell everybody concerned what happened.
    Announce {
        /// The payload's version.
        version: Version,
        /// Which request.
        request_id: RequestId,
        /// What happened.
        event: Event,
    },
}

/// What is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Enough people approved; the role opens later.
    Approved,
    /// The role can log in.
    Opened,
    /// The role is proved closed.
    Closed,
    /// This window is over; another one keeps the role open.
    EndedRoleStillOpen,
    /// Somebody rejected the request.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// It cannot be opened.
    Refused,
    /// Somebody took it back before it was opened.
    Cancelled,
    /// Something broke; the role is proved closed or was never opened.
    Failed,
    /// The window is over and the role is not proved closed.
    CloseFailing,
}

impl Event {
    /// The word in payloads and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::EndedRoleStillOpen => "ended_role_still_open",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::CloseFailing => "close_failing",
        }
    }
}

/// To approval, from the state machine.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Approval {
    /// Keep this token and answer it once there is a decision.
    AwaitDecision {
        /// The payload's version.
        version: Version,
        /// Which request.
        request_id: RequestId,
        /// The waiting task.
        task_token: TaskToken,
    },
    /// Count the votes; expire the request if its time is up.
    Settle(Step),
}

/// All that travels between most states.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The payload's version.
    pub version: Version,
    /// Which request.
    pub request_id: RequestId,
}

/// A function's answer to the state machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The payload's version.
    pub version: u32,
    /// Which request, where the caller does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self {
            version: crate::PAYLOAD_VERSION,
            request_id: None,
            outcome,
        }
    }
}

/// What a step came to. Times are RFC 3339 in UTC with whole seconds, as a Wait state takes them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// compute-wait: the request stands in the table.
    Accepted {
        /// Its id.
        request_id: RequestId,
        /// How long approvers have, in seconds, at least 1.
        decide_within_seconds: i64,
        /// Which functions open and close it.
        place: PlaceName,
        /// How long before its start it is to be opened, in seconds.
        opens_ahead_seconds: i64,
    },
    /// The request cannot be granted; nothing was opened.
    Refused {
        /// Why, all at once.
        faults: Vec<Fault>,
    },
    /// compute-wait: a dry run, which nobody is asked about.
    TakenForDryRun {
        /// Its id, which is no request's.
        request_id: RequestId,
        /// Which function answers it.
        place: PlaceName,
    },
    /// enable-login: what a request would come to. Nothing was opened.
    DryRun(Box<DryRun>),
    /// Preflight: it could be opened now.
    Ready {
        /// Whether nobody is asked, because it is opened without approval.
        break_glass: bool,
    },
    /// notify: this many people were asked, or reminded.
    Asked {
        /// How many.
        n_asked: usize,
    },
    /// notify: the subscriptions were looked at for a dry run.
    SubscriptionsChecked {
        /// Why nobody could be asked, all at once; empty if approvers would be.
        faults: Vec<Fault>,
    },
    /// notify: everybody concerned was told.
    Announced,
    /// approval: the token is kept.
    Waiting,
    /// approval: not decided, and there is time left.
    Pending {
        /// How long, in seconds, at least 1.
        decide_within_seconds: i64,
    },
    /// approval: enough people approved.
    Approved {
        /// When to open.
        start: String,
        /// When to close.
        end: String,
    },
    /// approval: somebody rejected.
    Rejected,
    /// approval: nobody decided in time.
    Expired,
    /// approval, confirm-requester, enable-login: somebody took it back.
    Cancelled,
    /// enable-login: the role can log in.
    Opened {
        /// When to close.
        end: String,
    },
    /// confirm-requester: the requester is who the request says.
    Confirmed,
    /// confirm-requester: CloudTrail does not show the start of the execution yet.
    NotYetConfirmed,
    /// Woken too early.
    NotYet {
        /// When to come again.
        wait_until: String,
    },
    /// revoke-policy: everything is taken back; until then AWS may not know it everywhere.
    Ending {
        /// When it does.
        wait_until: String,
    },
    /// disable-login: another function closes what is at such a place.
    Elsewhere {
        /// Which place.
        place: PlaceName,
    },
    /// disable-login, revoke-policy: proved closed.
    Closed,
    /// disable-login: there was no window to close.
    NothingToClose,
    /// disable-login: this window is over, another one keeps the role open.
    EndedRoleStillOpen {
        /// Until when.
        open_until: String,
    },
}

/// A version of the payloads that this code can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Version(u32);

impl TryFrom<u32> for Version {
    type Error = &'static str;
    fn try_from(version: u32) -> Result<Self, Self::Error> {
        if version == crate::PAYLOAD_VERSION {
            Ok(Self(version))
        } else {
            Err("a payload of an unknown version")
        }
    }
}

/// The token of a waiting task. Whoever has it can answer the task, so it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct TaskToken(String);

impl TaskToken {
    /// Takes a token from the state machine or the table.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the two calls that need it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for TaskToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskToken(_)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_carry_their_version_and_outcome() {
        let answer = Answer::from(Outcome::NotYet {
            wait_until: "2026-01-01T00:00:00Z".to_owned(),
        });
        assert_eq!(
            serde_json::to_value(answer).unwrap(),
            json!({"version": 1, "outcome": "not_yet", "wait_until": "2026-01-01T00:00:00Z"})
        );
    }

    #[test]
    fn payloads_of_another_version_or_with_strange_fields_are_refused() {
        let id = "r-0123456789abcdef";
        let read = |value: Value| serde_json::from_value::<EnableLogin>(value);
        assert!(read(json!({"version": 1, "request_id": id, "action": "open"})).is_ok());
        assert!(read(json!({"version": 2, "request_id": id, "action": "open"})).is_err());
        assert!(
            read(json!({"version": 1, "request_id": id, "action": "open", "until": "never"}))
                .is_err()
        );
        assert!(read(json!({"version": 1, "request_id": "x", "action": "open"})).is_err());
    }

    #[test]
    fn a_token_is_never_printed() {
        let payload = json!({"version": 1, "request_id": "r-0123456789abcdef", "action": "await_decision",
            "task_token": "very-secret"});
        let payload: Approval = serde_json::from_value(payload).unwrap();
        assert!(!format!("{payload:?}").contains("very-secret"));
    }
}
