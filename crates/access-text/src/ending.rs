//! The form that ends a request or its window: the names of its fields, and what counts as an answer.
//!
//! It takes the same human act as an approval, the role's name typed, and a reason beside it, so that what follows
//! links and presses buttons ends nothing.

use access_core::plain_text::same_name;

use crate::form::{COMMENT_MAX_CHARS, plain_text_area};
use crate::view::PersonView;

/// The pressed button: [`ENDING_END`].
pub const FIELD_ENDING: &str = "ending";
/// Why it is ended. The typed role has the name that it has on the form to decide.
pub const FIELD_REASON: &str = "reason";
/// The value of the button.
pub const ENDING_END: &str = "end";

/// A submitted form to end something as it was typed: percent-decoded, and empty where a field was absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndTyped {
    /// The value of the pressed button; `None` if the field was absent.
    pub ending: Option<String>,
    /// The role's name.
    pub role: String,
    /// Why.
    pub reason: String,
}

/// An incomplete form: shown again with what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndDraft {
    /// What is wrong with it.
    pub problem: EndProblem,
    /// What was typed.
    pub typed: EndTyped,
}

/// What is wrong with a submitted form to end something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndProblem {
    /// The button was not pressed.
    NotPressed,
    /// No reason is given.
    ReasonMissing,
    /// The reason is longer than [`COMMENT_MAX_CHARS`].
    ReasonTooLong,
    /// The typed name is not the role's.
    RoleDoesNotMatch,
}

/// The form to end something, as it is offered under what has become of the request.
#[derive(Debug, Clone, Copy)]
pub struct EndOffer<'a> {
    /// Who would end it.
    pub person: &'a PersonView,
    /// Whether a window is open by it; otherwise nothing has been opened yet.
    pub is_open: bool,
    /// What they sent, if it was incomplete.
    pub draft: Option<&'a EndDraft>,
}

impl EndDraft {
    /// What was typed, to be shown again with its problem.
    #[must_use]
    pub fn new(problem: EndProblem, typed: EndTyped) -> Self {
        let reason = plain_text_area(&typed.reason);
        Self {
            problem,
            typed: EndTyped { reason, ..typed },
        }
    }
}

/// Reads a submitted form for the role of this name: why it is ended.
///
/// # Errors
/// An [`EndProblem`] if the form is incomplete: show it again with an [`EndDraft`].
pub fn read_end_form(typed: &EndTyped, role_name: &str) -> Result<String, EndProblem> {
    let reason = plain_text_area(&typed.reason);
    if typed.ending.as_deref() != Some(ENDING_END) {
        Err(EndProblem::NotPressed)
    } else if reason.is_empty() {
        Err(EndProblem::ReasonMissing)
    } else if reason.chars().count() > COMMENT_MAX_CHARS {
        Err(EndProblem::ReasonTooLong)
    } else if !same_name(&typed.role, role_name) {
        Err(EndProblem::RoleDoesNotMatch)
    } else {
        Ok(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ending_needs_the_button_a_reason_and_the_typed_role() {
        let long = "ä".repeat(COMMENT_MAX_CHARS + 1);
        for (ending, role, reason, expected) in [
            (
                Some("end"),
                " breakglass ",
                "done\r\nthanks",
                Ok("done\nthanks"),
            ),
            (None, "breakglass", "done", Err(EndProblem::NotPressed)),
            (Some(""), "breakglass", "done", Err(EndProblem::NotPressed)),
            (
                Some("approve"),
                "breakglass",
                "done",
                Err(EndProblem::NotPressed),
            ),
            (
                Some("end"),
                "breakglass",
                " \r\n",
                Err(EndProblem::ReasonMissing),
            ),
            (
                Some("end"),
                "breakglass",
                long.as_str(),
                Err(EndProblem::ReasonTooLong),
            ),
            (Some("end"), "", "done", Err(EndProblem::RoleDoesNotMatch)),
            (
                Some("end"),
                "BREAKGLASS",
                "done",
                Err(EndProblem::RoleDoesNotMatch),
            ),
        ] {
            let typed = EndTyped {
                ending: ending.map(str::to_owned),
                role: role.to_owned(),
                reason: reason.to_owned(),
            };
            let read = read_end_form(&typed, "breakglass");
            assert_eq!(
                read.as_deref().map_err(|problem| *problem),
                expected,
                "{typed:?}"
            );
        }
    }
}
