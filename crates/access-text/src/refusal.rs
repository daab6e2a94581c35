//! Why a request is refused: each reason as a fault for programs, and as a sentence for people.

use access_core::{Fault, Refusal};
use chrono_tz::Tz;

use crate::ENGLISH;
use crate::request_text::line;
use crate::texts::Texts;

/// The fault of a refusal. Its message is in English, for logs and programs; times are in UTC.
#[must_use]
pub fn fault(refusal: Refusal) -> Fault {
    let message = (ENGLISH.message.refusal)(&refusal, Tz::UTC);
    Fault::of(refusal, message)
}

/// The faults of all of them.
#[must_use]
pub fn faults(refusals: impl IntoIterator<Item = Refusal>) -> Vec<Fault> {
    refusals.into_iter().map(fault).collect()
}

/// What a fault says in the language of `texts`, harmless and on one line; in English if only that was recorded.
pub(crate) fn said(texts: &Texts, fault: &Fault, zone: Tz) -> String {
    line(&match &fault.because {
        Some(refusal) => (texts.message.refusal)(refusal, zone),
        None => fault.message.clone(),
    })
}
