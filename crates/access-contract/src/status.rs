//! Where a request stands, as the table keeps it.

use serde::{Deserialize, Serialize};

/// Where a request stands. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for votes.
    Pending,
    /// Enough people approved; the window has not been opened.
    Approved,
    /// Armed: the window row stands and the role may be open.
    Open,
    /// Its window is over while another one keeps the role open.
    Ended,
    /// Proved closed.
    Closed,
    /// Somebody rejected it.
    Rejected,
    /// Not decided in time.
    Expired,
    /// It could not be opened, and never was.
    Refused,
    /// Somebody took it back before it was opened.
    Cancelled,
}

impl Status {
    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Open => "open",
            Self::Ended => "ended",
            Self::Closed => "closed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that this word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Approved,
            Self::Open,
            Self::Ended,
            Self::Closed,
            Self::Rejected,
            Self::Expired,
            Self::Refused,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}
