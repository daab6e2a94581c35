//! The form on the decision page: the names of its fields, and what counts as an answer.
//!
//! A decision takes a human act. Mail scanners fetch links, submit forms and press buttons; so an approval needs the
//! role's name typed, a rejection needs a comment, and a form without a pressed button is no answer at all.

use access_core::plain_text::same_name;
use access_core::{CannotApprove, FaultName, Narrowing, time};
use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;

/// The pressed button: [`DECISION_APPROVE`] or [`DECISION_REJECT`].
pub const FIELD_DECISION: &str = "decision";
/// The typed name of the role.
pub const FIELD_ROLE: &str = "role";
/// The comment.
pub const FIELD_COMMENT: &str = "comment";
/// The later start that an approver sets.
pub const FIELD_START: &str = "start";
/// The earlier end that an approver sets.
pub const FIELD_END: &str = "end";
/// The value of the approving button.
pub const DECISION_APPROVE: &str = "approve";
/// The value of the rejecting button.
pub const DECISION_REJECT: &str = "reject";
/// How long a comment may be, in characters, a line break being one.
pub const COMMENT_MAX_CHARS: usize = 500;

/// A submitted form as it was typed: percent-decoded, and empty where a field was absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    /// The value of the pressed button; `None` if the field was absent.
    pub decision: Option<String>,
    /// The role's name.
    pub role: String,
    /// The comment.
    pub comment: String,
    /// The later start, a local time in the catalogue's zone.
    pub start: String,
    /// The earlier end, a local time in the catalogue's zone.
    pub end: String,
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Approved, perhaps with a comment.
    Approve {
        /// What the approver wrote; may be empty.
        comment: String,
        /// What of the window they approve, if not all of it.
        narrowing: Option<Narrowing>,
    },
    /// Rejected, and why.
    Reject {
        /// What the approver wrote; not empty.
        comment: String,
    },
}

/// An incomplete answer: shown again with what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What is wrong with it.
    pub problem: FormProblem,
    /// What was typed.
    pub typed: Typed,
}

/// What is wrong with a submitted form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormProblem {
    /// No button was pressed, or an unknown one.
    NoDecision,
    /// Approved, but the typed name is not the role's.
    RoleDoesNotMatch,
    /// The comment is longer than [`COMMENT_MAX_CHARS`].
    CommentTooLong,
    /// Rejected without a comment.
    CommentMissing,
    /// Approved, but the start or the end is not one moment.
    NotATime {
        /// [`FIELD_START`] or [`FIELD_END`].
        field: &'static str,
        /// Why not.
        fault: FaultName,
    },
    /// Approved, but what is left of the window cannot be.
    CannotApprove(CannotApprove),
}

/// What was typed into a text area, with one character for each line break. Browsers send CR LF
/// (<https://html.spec.whatwg.org/#multipart-form-data>); a person counts one.
pub(crate) fn plain_text_area(typed: &str) -> String {
    typed.replace("\r\n", "\n").trim().to_owned()
}

impl Draft {
    /// What was typed, to be shown again with its problem; without a time that a date field could not show.
    #[must_use]
    pub fn new(problem: FormProblem, typed: Typed) -> Self {
        let typed = Typed {
            comment: plain_text_area(&typed.comment),
            start: shown(&typed.start),
            end: shown(&typed.end),
            ..typed
        };
        Self { problem, typed }
    }
}

/// Reads a submitted form for the role of this name; times without an offset are read in `zone`.
///
/// # Errors
/// A [`FormProblem`] if the answer is incomplete: show the form again with a [`Draft`].
pub fn read_form(typed: &Typed, role_name: &str, zone: Tz) -> Result<Answer, FormProblem> {
    let comment = plain_text_area(&typed.comment);
    match typed.decision.as_deref() {
        _ if comment.chars().count() > COMMENT_MAX_CHARS => Err(FormProblem::CommentTooLong),
        Some(DECISION_APPROVE) if !same_name(&typed.role, role_name) => {
            Err(FormProblem::RoleDoesNotMatch)
        }
        Some(DECISION_APPROVE) => {
            let narrowing = read_narrowing(typed, zone)?;
            Ok(Answer::Approve { comment, narrowing })
        }
        Some(DECISION_REJECT) if comment.is_empty() => Err(FormProblem::CommentMissing),
        Some(DECISION_REJECT) => Ok(Answer::Reject { comment }),
        _ => Err(FormProblem::NoDecision),
    }
}

/// A local time as a date field takes it; empty if it is none.
fn shown(typed: &str) -> String {
    let is_local = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
        .iter()
        .any(|form| NaiveDateTime::parse_from_str(typed, form).is_ok());
    if is_local {
        typed.to_owned()
    } else {
        String::new()
    }
}

fn read_narrowing(typed: &Typed, zone: Tz) -> Result<Option<Narrowing>, FormProblem> {
    let start = read_time(FIELD_START, &typed.start, zone)?;
    let end = read_time(FIELD_END, &typed.end, zone)?;
    Ok(Narrowing::new(start, end))
}

/// Reads `2026-11-22T19:30`, as browsers send it (<https://html.spec.whatwg.org/#local-dates-and-times>); with a space,
/// as people type it; or with an offset. Empty is no time.
fn read_time(
    field: &'static str,
    typed: &str,
    zone: Tz,
) -> Result<Option<DateTime<Utc>>, FormProblem> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    time::read_time(&typed.replacen(' ', "T", 1), Some(zone))
        .map(Some)
        .map_err(|error| FormProblem::NotATime {
            field,
            fault: error.fault,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decision: Option<&str>, role: &str, comment: &str) -> Result<Answer, FormProblem> {
        let typed = Typed {
            decision: decision.map(str::to_owned),
            role: role.to_owned(),
            comment: comment.to_owned(),
            ..Typed::default()
        };
        read_form(&typed, "breakglass", Tz::Europe__Berlin)
    }

    fn problem(decision: Option<&str>, role: &str, comment: &str) -> FormProblem {
        read(decision, role, comment).unwrap_err()
    }

    fn narrowed(start: &str, end: &str) -> Result<Option<Narrowing>, FormProblem> {
        let typed = Typed {
            decision: Some("approve".to_owned()),
            role: "breakglass".to_owned(),
            start: start.to_owned(),
            end: end.to_owned(),
            ..Typed::default()
        };
        match read_form(&typed, "breakglass", Tz::Europe__Berlin) {
            Ok(Answer::Approve { narrowing, .. }) => Ok(narrowing),
            Ok(Answer::Reject { .. }) => panic!("nobody rejected"),
            Err(problem) => Err(problem),
        }
    }

    #[test]
    fn approval_needs_the_typed_role() {
        let answer = read(Some("approve"), " breakglass ", "");
        assert_eq!(
            answer,
            Ok(Answer::Approve {
                comment: String::new(),
                narrowing: None
            })
        );
        for typed in ["", "break", "BREAKGLASS", "breakglass2"] {
            assert_eq!(
                problem(Some("approve"), typed, "fine"),
                FormProblem::RoleDoesNotMatch
            );
        }
    }

    #[test]
    fn rejection_needs_a_comment() {
        let answer = read(Some("reject"), "", "not tonight\r\nask Bob");
        assert_eq!(
            answer,
            Ok(Answer::Reject {
                comment: "not tonight\nask Bob".to_owned()
            })
        );
        assert_eq!(
            problem(Some("reject"), "breakglass", " \r\n "),
            FormProblem::CommentMissing
        );
    }

    #[test]
    fn a_form_without_a_pressed_button_is_no_answer() {
        for decision in [None, Some(""), Some("Approve"), Some("approve ")] {
            assert_eq!(
                problem(decision, "breakglass", "ok"),
                FormProblem::NoDecision
            );
        }
    }

    #[test]
    fn a_comment_has_a_limit_in_characters() {
        let fits = format!("{}\r\n{}", "ä".repeat(249), "ö".repeat(250));
        assert!(read(Some("reject"), "", &fits).is_ok());
        assert_eq!(
            problem(Some("reject"), "", &format!("{fits}x")),
            FormProblem::CommentTooLong
        );
    }

    #[test]
    fn a_draft_keeps_what_was_typed() {
        let typed = Typed {
            role: "breakglas".to_owned(),
            comment: "go\r\non".to_owned(),
            start: "2026-11-22T11:00".to_owned(),
            end: "soon".to_owned(),
            ..Typed::default()
        };
        let draft = Draft::new(FormProblem::RoleDoesNotMatch, typed);
        assert_eq!(draft.typed.comment, "go\non");
        assert_eq!(draft.typed.role, "breakglas");
        assert_eq!(draft.typed.start, "2026-11-22T11:00");
        assert_eq!(draft.typed.end, "");
    }

    #[test]
    fn times_are_read_in_the_zone_of_the_catalogue() {
        let at = |text: &str| Some(text.parse::<DateTime<Utc>>().unwrap());
        let (start, end) = (at("2026-11-22T10:00:00Z"), at("2026-11-22T11:30:20Z"));
        assert_eq!(narrowed("", "  "), Ok(None));
        assert_eq!(
            narrowed("2026-11-22T11:00", "2026-11-22T12:30:20"),
            Ok(Narrowing::new(start, end))
        );
        assert_eq!(
            narrowed("2026-11-22 11:00", ""),
            Ok(Narrowing::new(start, None))
        );
        assert_eq!(
            narrowed("", "2026-11-22T20:30:20+09:00"),
            Ok(Narrowing::new(None, end))
        );
    }

    #[test]
    fn what_is_not_one_moment_is_named() {
        for (typed, fault) in [
            ("tomorrow", FaultName::InvalidTime),
            ("2026-11-22", FaultName::InvalidTime),
            ("22.11.2026 11:00", FaultName::InvalidTime),
            ("2026-10-25T02:30", FaultName::AmbiguousLocalTime),
            ("2027-03-28T02:30", FaultName::NonexistentLocalTime),
            (&"9".repeat(10_000), FaultName::InvalidTime),
        ] {
            for field in [FIELD_START, FIELD_END] {
                let narrowed = if field == FIELD_START {
                    narrowed(typed, "")
                } else {
                    narrowed("", typed)
                };
                assert_eq!(narrowed, Err(FormProblem::NotATime { field, fault }));
            }
        }
    }

    #[test]
    fn a_rejection_does_not_mind_times() {
        let typed = Typed {
            decision: Some("reject".to_owned()),
            comment: "no".to_owned(),
            end: "soon".to_owned(),
            ..Typed::default()
        };
        assert!(read_form(&typed, "breakglass", Tz::UTC).is_ok());
    }
}
