//! What every function that opens or closes a window asks of the table first, whatever the window gives.

use access_contract::ErrorName;

mod admission;
mod ending;

pub use admission::{Admission, Admitted, ToOpen};
pub use ending::{ToClose, end_early, end_with_execution, nothing_if_cancelled, outcome, to_close};

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on AWS.
    #[error(transparent)]
    Aws(#[from] access_aws::Error),
    /// Other windows of the role were armed in every round.
    #[error("other windows of role {0:?} came in between all the time")]
    Restless(String),
}

impl Error {
    /// The name that reaches the state machine.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        match self {
            Self::Aws(error) => error.name(),
            Self::Restless(_) => ErrorName::Internal,
        }
    }
}
