//! The form on the decision page: the names of its fields, and what counts as an answer.
//!
//! A decision takes a human act. Mail scanners fetch links, submit forms and press buttons; so an approval needs the
//! role's name typed, a rejection needs a comment, and a form without a pressed button is no answer at all.

use access_core::plain_text::same_name;

/// The pressed button: [`DECISION_APPROVE`] or [`DECISION_REJECT`].
pub const FIELD_DECISION: &str = "decision";
/// The typed name of the role.
pub const FIELD_ROLE: &str = "role";
/// The comment.
pub const FIELD_COMMENT: &str = "comment";
/// The value of the approving button.
pub const DECISION_APPROVE: &str = "approve";
/// The value of the rejecting button.
pub const DECISION_REJECT: &str = "reject";
/// How long a comment may be, in characters, a line break being one.
pub const COMMENT_MAX_CHARS: usize = 500;

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Approved, perhaps with a comment.
    Approve {
        /// What the approver wrote; may be empty.
        comment: String,
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
    /// The comment as typed.
    pub comment: String,
    /// The role's name as typed.
    pub role: String,
}

/// What is wrong with a submitted form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormProblem {
    /// No button was pressed, or an unknown one.
    NoDecision,
    /// Approved, but the typed name is not the role's.
    RoleDoesNotMatch,
    /// The comment is longer than [`COMMENT_MAX_CHARS`].
    CommentTooLong,
    /// Rejected without a comment.
    CommentMissing,
}

/// Reads a submitted form; `decision` is `None` if the field is absent. Fields are percent-decoded already.
///
/// # Errors
/// A [`Draft`] for [`crate::decision_page`] if the answer is incomplete.
pub fn read_form(
    decision: Option<&str>,
    role: &str,
    comment: &str,
    role_name: &str,
) -> Result<Answer, Draft> {
    // Browsers send line breaks as CR LF (https://html.spec.whatwg.org/#multipart-form-data); a person counts one.
    let comment = comment.replace("\r\n", "\n").trim().to_owned();
    let problem = match decision {
        _ if comment.chars().count() > COMMENT_MAX_CHARS => FormProblem::CommentTooLong,
        Some(DECISION_APPROVE) if same_name(role, role_name) => {
            return Ok(Answer::Approve { comment });
        }
        Some(DECISION_APPROVE) => FormProblem::RoleDoesNotMatch,
        Some(DECISION_REJECT) if comment.is_empty() => FormProblem::CommentMissing,
        Some(DECISION_REJECT) => return Ok(Answer::Reject { comment }),
        _ => FormProblem::NoDecision,
    };
    Err(Draft {
        problem,
        comment,
        role: role.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(decision: Option<&str>, role: &str, comment: &str) -> FormProblem {
        read_form(decision, role, comment, "breakglass")
            .unwrap_err()
            .problem
    }

    #[test]
    fn approval_needs_the_typed_role() {
        let answer = read_form(Some("approve"), " breakglass ", "", "breakglass");
        assert_eq!(
            answer,
            Ok(Answer::Approve {
                comment: String::new()
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
        let answer = read_form(Some("reject"), "", "not tonight\r\nask Bob", "breakglass");
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
        assert!(read_form(Some("reject"), "", &fits, "breakglass").is_ok());
        assert_eq!(
            problem(Some("reject"), "", &format!("{fits}x")),
            FormProblem::CommentTooLong
        );
    }

    #[test]
    fn a_draft_keeps_what_was_typed() {
        let draft = read_form(Some("approve"), "breakglas", "go\r\non", "breakglass").unwrap_err();
        assert_eq!(draft.comment, "go\non");
        assert_eq!(draft.role, "breakglas");
    }
}
