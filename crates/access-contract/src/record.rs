//! The record: one line for each thing that happened, as it is kept in the table and exported.
//!
//! `docs/record.md` documents the lines for those who read them. A field is never renamed or taken away under the
//! same [`VERSION`]; readers ignore fields and events that they do not know.

use access_core::{
    Decision, Digest, EndedAs, Fault, Narrowing, PersonId, RequestId, RequesterProof, RoleName,
    TargetId, Verdict, Window, WindowSpec, plain_text,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The version of the lines that this code writes.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// [`VERSION`].
    pub version: u32,
    /// When it was recorded, in UTC, to the nanosecond.
    #[serde(serialize_with = "nanoseconds")]
    pub at: DateTime<Utc>,
    /// Which request; what was refused at the front door has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The function that recorded it.
    pub part: Part,
    /// Whose act it was, if it was a person's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The functions that record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // They are named as the functions are.
pub enum Part {
    FrontDoor,
    ComputeWait,
    Notify,
    Approval,
    ConfirmRequester,
    EnableLogin,
    DisableLogin,
    GrantPolicy,
    RevokePolicy,
    Reconcile,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct By {
    /// The person of the catalogue, if they are one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// The ARN that AWS has verified, if it was a signed call or CloudTrail said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

impl By {
    /// A person, and the ARN by which AWS knows them.
    #[must_use]
    pub fn person(person: &PersonId, principal: Option<&str>) -> Self {
        Self {
            person: Some(person.clone()),
            principal: principal.map(str::to_owned),
        }
    }

    /// The requester, and the ARN by which AWS has verified them, if it has.
    #[must_use]
    pub fn requester(person: &PersonId, proof: &RequesterProof) -> Self {
        match proof {
            RequesterProof::Verified { principal } => Self::person(person, Some(principal)),
            RequesterProof::Claimed => Self::person(person, None),
        }
    }

    /// A caller who is nobody of the catalogue.
    #[must_use]
    pub fn principal(principal: &str) -> Self {
        Self {
            person: None,
            principal: Some(principal.to_owned()),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The front door took a call, and starts this execution.
    Asked {
        /// The execution.
        execution_arn: String,
        /// The request document.
        request: Value,
    },
    /// A request stands in the table.
    Requested {
        /// The execution that made it.
        execution_arn: String,
        /// The database, by its name in the catalogue.
        target: TargetId,
        /// The role.
        role: RoleName,
        /// Whether AWS has verified the requester; otherwise it is a claim.
        requester_verified: bool,
        /// Why, as they wrote it.
        reason: String,
        /// From when to when.
        window: WindowSpec,
        /// Until when it can be decided.
        decide_by: DateTime<Utc>,
        /// Who may decide.
        approvers: Vec<PersonId>,
        /// How many of them must approve.
        required_approvals: u8,
        /// The digest that links and votes are bound to.
        digest: Digest,
    },
    /// A request was refused: before it was stored, or later.
    Refused {
        /// The database, where it was refused before it was stored and said so.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<TargetId>,
        /// The role, likewise.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<RoleName>,
        /// Why; the first [`MAX_FAULTS`] of it. Empty if a step broke or the execution was stopped.
        faults: Vec<Fault>,
    },
    /// Who asked is who the request says.
    RequesterConfirmed {
        /// CloudTrail's id of the event; empty if the front door had verified them.
        event_id: String,
    },
    /// Somebody was refused what they called for: to decide, to end or to review.
    CallRefused {
        /// The route, such as `POST /requests/{id}/decision`.
        route: String,
        /// The error's name.
        error: String,
        /// The sentence that they were told.
        message: String,
    },
    /// Somebody voted.
    Voted {
        /// What.
        verdict: Verdict,
        /// What they added, as they wrote it.
        comment: String,
        /// What they approve of the window, if not all of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        narrowing: Option<Narrowing>,
    },
    /// The votes amount to this.
    Decided {
        /// The decision.
        decision: Decision,
        /// The window that approval made of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<Window>,
    },
    /// The requester opens it without approval, for an emergency.
    GlassBroken {
        /// From when to when.
        window: Window,
    },
    /// Somebody reviewed what was opened without approval.
    Reviewed {
        /// What they found, as they wrote it.
        comment: String,
    },
    /// Somebody took it back before it was armed.
    Cancelled {
        /// In which capacity.
        ended_as: EndedAs,
        /// Why, as they wrote it.
        reason: String,
    },
    /// The window's row stands; the login may open from here on.
    Armed {
        /// From when to when.
        window: Window,
    },
    /// The role was seen open.
    Opened,
    /// The window is over before its time.
    WindowEnded {
        /// By what.
        ended_by: String,
    },
    /// Who ended it before its time, if it was a person, and why.
    EndedByPerson {
        /// In which capacity.
        ended_as: EndedAs,
        /// Why, as they wrote it.
        reason: String,
    },
    /// Proved closed.
    Closed {
        /// How many sessions were ended.
        n_sessions_ended: u64,
        /// When NOLOGIN was committed.
        login_refused_at: Option<DateTime<Utc>>,
        /// When the last session was gone.
        sessions_gone_at: Option<DateTime<Utc>>,
        /// How much of what the window left behind is grave.
        n_grave: u64,
        /// What it left behind, as the closed message shows it; empty if nothing was found. Lines of before this field
        /// was written do not have it, which is not the same as nothing.
        #[serde(serialize_with = "bounded")]
        left_behind: Vec<String>,
    },
    /// This window is over, another one keeps the role open.
    EndedRoleStillOpen {
        /// Until when.
        open_until: DateTime<Utc>,
    },
    /// reconcile took over a window that was opened by hand.
    Adopted {
        /// The database, by its name in the catalogue.
        target: TargetId,
        /// The role.
        role: RoleName,
        /// The database user who opened it.
        database_user: String,
        /// From when to when.
        window: Window,
    },
    /// An adopted window is over, with its role closed or under another window.
    AdoptedOver,
    /// reconcile found access that no window gives, and is about to cut it.
    AccessFound {
        /// The database, by its name in the catalogue.
        target: TargetId,
        /// The role.
        role: RoleName,
        /// Whether it could log in.
        can_login: bool,
        /// Its sessions.
        n_sessions: u64,
    },
    /// reconcile cut it, and has proved that.
    AccessCut {
        /// The database, by its name in the catalogue.
        target: TargetId,
        /// The role.
        role: RoleName,
        /// How many sessions were ended.
        n_sessions_ended: u64,
    },
    /// A message was handed over to SNS.
    MessageSent {
        /// What it says.
        message: String,
        /// To whom.
        to: PersonId,
    },
    /// One try to send a message failed.
    MessageNotSent {
        /// What it says.
        message: String,
        /// To whom.
        to: PersonId,
        /// The error's name; the log has its chain.
        error: String,
    },
}

/// How many faults a line holds, so that it fits into an item of the table whatever somebody sent.
pub const MAX_FAULTS: usize = 20;

impl Event {
    /// A refusal.
    #[must_use]
    pub fn refused(target: Option<TargetId>, role: Option<RoleName>, faults: &[Fault]) -> Self {
        let mut faults: Vec<_> = faults.iter().take(MAX_FAULTS).cloned().collect();
        for fault in &mut faults {
            fault.path = plain_text::shorten(&fault.path, MAX_FAULT_CHARS);
            fault.message = plain_text::shorten(&fault.message, MAX_FAULT_CHARS);
            // The names in it have no bound; the sentence says the same.
            fault.because = None;
        }
        Self::Refused {
            target,
            role,
            faults,
        }
    }
}

const MAX_FAULT_CHARS: usize = 1000;

/// How long one difference is: a hundred of them, each character escaped in twelve bytes, fit into an item of the table.
const MAX_DIFFERENCE_CHARS: usize = 250;

fn bounded<S: Serializer>(lines: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        lines
            .iter()
            .map(|line| plain_text::shorten(line, MAX_DIFFERENCE_CHARS)),
    )
}

impl Line {
    /// The line as JSON, without its line break. What would break it, or is invisible, is escaped.
    ///
    /// # Errors
    /// Never for our own types, whose maps have string keys.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let json = serde_json::to_string(self)?;
        let mut line = String::with_capacity(json.len());
        // Outside its strings JSON is graphic ASCII, so all that is escaped here stands in a string.
        for character in json.chars() {
            if plain_text::is_refused_in_names(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    line.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                line.push(character);
            }
        }
        Ok(line)
    }
}

fn nanoseconds<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hostile_text_stays_one_line_and_is_kept() {
        let reason = "a\r\nb\u{0}\u{2028}\u{2029}\u{85}\u{202e}\u{7f}\"}\\\t日本\u{1f600}\u{e0001}<!channel>";
        let line = Line {
            version: VERSION,
            at: DateTime::from_timestamp(0, 1).unwrap(),
            request_id: None,
            part: Part::Approval,
            by: None,
            event: Event::Voted {
                verdict: Verdict::Reject,
                comment: reason.to_owned(),
                narrowing: None,
            },
        };
        let text = line.to_json().unwrap();
        assert!(!text.chars().any(plain_text::is_refused_in_names), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["comment"], json!(reason));
        assert_eq!(read["at"], "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn a_closing_fits_into_an_item_whatever_was_left_behind() {
        let line = Line {
            version: VERSION,
            at: DateTime::UNIX_EPOCH,
            request_id: None,
            part: Part::DisableLogin,
            by: None,
            event: Event::Closed {
                n_sessions_ended: 0,
                login_refused_at: None,
                sessions_gone_at: None,
                n_grave: 100,
                left_behind: vec!["\u{e0001}".repeat(400); 101],
            },
        };
        assert!(line.to_json().unwrap().len() < 350_000);
    }

    #[test]
    fn a_refusal_fits_into_an_item_whatever_was_sent() {
        let fault = Fault::new(
            access_core::FaultName::UnknownField,
            "x".repeat(9000),
            "y".repeat(9000),
        );
        let event = Event::refused(None, None, &vec![fault; 500]);
        assert!(serde_json::to_string(&event).unwrap().len() < 100_000);
    }
}
