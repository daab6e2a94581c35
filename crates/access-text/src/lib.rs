//! Everything that Latchkey says to a person: the approval page and the messages.
//!
//! Every sentence is in one catalogue per language ([`Texts`]); the views ([`RequestView`] and its parts) are plain data;
//! each function takes the catalogue, the data and the time, and gives back finished HTML or plain text.
//!
//! What people wrote (reasons, comments, names) is handed over as it was written, and made harmless here, at the moment
//! of showing ([`access_core::plain_text`]). A page never holds a link or a task token; a message holds at most the one
//! personal link it was given.

mod assume_role;
mod ending;
mod english;
mod form;
mod headers;
mod japanese;
mod message;
mod moment;
mod of_request;
mod page;
mod refusal;
mod request_text;
mod texts;
mod view;

pub use ending::{
    ENDING_END, EndDraft, EndOffer, EndProblem, EndTyped, FIELD_ENDING, FIELD_REASON, read_end_form,
};
pub use english::{ENGLISH, remedy};
pub use form::{
    Answer, COMMENT_MAX_CHARS, DECISION_APPROVE, DECISION_REJECT, Draft, FIELD_COMMENT,
    FIELD_DECISION, FIELD_END, FIELD_ROLE, FIELD_START, FormProblem, Typed, read_form,
};
pub use headers::security_headers;
pub use japanese::JAPANESE;
pub use message::{
    Announcement, ChatNote, Message, announce, announce_already_handled, announce_with_link, ask,
    chat_about_event, chat_about_request, remind,
};
pub use page::{
    CannotDecide, Page, Stage, Trouble, already_decided_page, cannot_decide_page, decided_page,
    decision_page, expired_page, invalid_link_page, settled_page, standing_page, trouble_page,
};
pub use refusal::{fault, faults};
pub use texts::Texts;
pub use view::{DecisionView, EndingView, OtherWindow, PersonView, RequestView, WindowView};
