//! A fault: one thing wrong with a document, where it is, and how to mend it.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// What is wrong with a request or a catalogue document. The names are an API: they are shown to
/// the requester and appear in the execution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FaultName {
    /// The text is not JSON, or not a JSON object.
    NotADocument,
    /// The document is larger than the store takes.
    DocumentTooLarge,
    /// A required field is not there.
    MissingField,
    /// A field that this kind of document does not have.
    UnknownField,
    /// A field has another JSON type than expected.
    WrongType,
    /// A value that its field does not take.
    InvalidValue,
    /// Two fields that exclude each other, or neither of two of which one is needed.
    ConflictingFields,
    /// A name is empty, too long, or holds characters that names may not have.
    InvalidName,
    /// A role that Latchkey never touches: PostgreSQL's, RDS's, or its own.
    ProtectedRole,
    /// The catalogue has no database of that name.
    UnknownTarget,
    /// The catalogue has no role of that name for that database.
    UnknownRole,
    /// The catalogue has no person with that id.
    UnknownRequester,
    /// Fewer approvers remain than must approve, once the requester is left out.
    TooFewApprovers,
    /// Messages reach fewer approvers than must approve; this is one whom they do not reach.
    ApproverUnreachable,
    /// A subscription of the topic could see somebody else's link, so no link is sent.
    SubscriptionNotTrusted,
    /// The reason is empty.
    ReasonEmpty,
    /// The reason is longer than 1,000 characters.
    ReasonTooLong,
    /// Not an RFC 3339 time.
    InvalidTime,
    /// A time without an offset, and the catalogue names no zone to read it in.
    TimeWithoutOffset,
    /// A local time that happens twice because clocks go back.
    AmbiguousLocalTime,
    /// A local time that never happens because clocks go forward.
    NonexistentLocalTime,
    /// Not an ISO 8601 or plain duration, or not longer than zero.
    InvalidDuration,
    /// The end does not come after the start, in whole seconds.
    EndNotAfterStart,
    /// The end has passed already.
    EndInThePast,
    /// The window is longer than the catalogue allows.
    WindowTooLong,
    /// The window is shorter than the catalogue allows.
    WindowTooShort,
    /// The start is further ahead than the catalogue allows.
    StartTooFarAhead,
    /// The database does not know this role, or not as it was registered.
    RoleNotRegistered,
    /// The role could undo its own window (superuser, or CREATEROLE before PostgreSQL 16).
    RoleTooPowerful,
    /// The role holds a prepared transaction, which would outlive any closing.
    PreparedTransaction,
    /// The user is a member of the role already, by others than Latchkey: no closing could end that.
    MemberAlready,
    /// Others can act as the user, and so would as the role: their sessions would outlive any closing.
    UserActedAsByOthers,
    /// The database allows shorter windows only.
    WindowTooLongForDatabase,
    /// The recorded votes do not prove that enough people approved what was shown.
    NotApproved,
    /// The catalogue has changed since the request was made, and does not allow it any more.
    CatalogueChanged,
    /// The role is not any more what its approvers were told.
    RoleChanged,
    /// The window has ended, or was ended, before it could be opened.
    WindowOver,
    /// The catalogue does not say which IAM principals the requester is, so nobody could read the window's password.
    NoPrincipals,
    /// Somebody else has the role in that time, and people do not share it.
    RoleInUse,
    /// The role's document does not let the requester open it without approval.
    BreakGlassNotAllowed,
    /// A window without approval is asked for by a claim.
    BreakGlassNotVerified,
    /// The requester's last window without approval has not been reviewed.
    ReviewMissing,
    /// The role can log in already, and not through a window of ours.
    OpenOutsideWindows,
    /// The functions that the DBA installed are older than this release needs.
    InstallationTooOld,
    /// The database has readers in other regions that its catalogue document does not list, so nobody could prove them closed.
    ReadersNotListed,
    /// Somebody closed the role by hand inside the window; that is never undone.
    ClosedByHand,
    /// Somebody cancelled the request before it was opened.
    Cancelled,
    /// The requester's IAM user or role is not there, or in an account that Latchkey does not reach.
    GranteeOutOfReach,
    /// IAM has no room for one more inline policy of the requester or of the role.
    PoliciesTooLong,
    /// CloudTrail did not say in time who started the execution, so the requester remains a claim.
    RequesterNotConfirmed,
    /// CloudTrail says that somebody else started the execution.
    RequesterMismatch,
}

impl FaultName {
    /// The name as people and machines see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotADocument => "NotADocument",
            Self::DocumentTooLarge => "DocumentTooLarge",
            Self::MissingField => "MissingField",
            Self::UnknownField => "UnknownField",
            Self::WrongType => "WrongType",
            Self::InvalidValue => "InvalidValue",
            Self::ConflictingFields => "ConflictingFields",
            Self::InvalidName => "InvalidName",
            Self::ProtectedRole => "ProtectedRole",
            Self::UnknownTarget => "UnknownTarget",
            Self::UnknownRole => "UnknownRole",
            Self::UnknownRequester => "UnknownRequester",
            Self::TooFewApprovers => "TooFewApprovers",
            Self::ApproverUnreachable => "ApproverUnreachable",
            Self::SubscriptionNotTrusted => "SubscriptionNotTrusted",
            Self::ReasonEmpty => "ReasonEmpty",
            Self::ReasonTooLong => "ReasonTooLong",
            Self::InvalidTime => "InvalidTime",
            Self::TimeWithoutOffset => "TimeWithoutOffset",
            Self::AmbiguousLocalTime => "AmbiguousLocalTime",
            Self::NonexistentLocalTime => "NonexistentLocalTime",
            Self::InvalidDuration => "InvalidDuration",
            Self::EndNotAfterStart => "EndNotAfterStart",
            Self::EndInThePast => "EndInThePast",
            Self::WindowTooLong => "WindowTooLong",
            Self::WindowTooShort => "WindowTooShort",
            Self::StartTooFarAhead => "StartTooFarAhead",
            Self::RoleNotRegistered => "RoleNotRegistered",
            Self::RoleTooPowerful => "RoleTooPowerful",
            Self::PreparedTransaction => "PreparedTransaction",
            Self::MemberAlready => "MemberAlready",
            Self::UserActedAsByOthers => "UserActedAsByOthers",
            Self::WindowTooLongForDatabase => "WindowTooLongForDatabase",
            Self::NotApproved => "NotApproved",
            Self::CatalogueChanged => "CatalogueChanged",
            Self::RoleChanged => "RoleChanged",
            Self::WindowOver => "WindowOver",
            Self::NoPrincipals => "NoPrincipals",
            Self::RoleInUse => "RoleInUse",
            Self::BreakGlassNotAllowed => "BreakGlassNotAllowed",
            Self::BreakGlassNotVerified => "BreakGlassNotVerified",
            Self::ReviewMissing => "ReviewMissing",
            Self::OpenOutsideWindows => "OpenOutsideWindows",
            Self::InstallationTooOld => "InstallationTooOld",
            Self::ReadersNotListed => "ReadersNotListed",
            Self::ClosedByHand => "ClosedByHand",
            Self::Cancelled => "Cancelled",
            Self::GranteeOutOfReach => "GranteeOutOfReach",
            Self::PoliciesTooLong => "PoliciesTooLong",
            Self::RequesterNotConfirmed => "RequesterNotConfirmed",
            Self::RequesterMismatch => "RequesterMismatch",
        }
    }
}

/// One thing wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What is wrong.
    pub name: FaultName,
    /// Where, as a JSON path such as `$.approvers[1]`; `$` is the whole document.
    pub path: String,
    /// One sentence in English that says how to mend it, for logs and for programs.
    pub message: String,
    /// The same as data, which people are told in their own language. A document's fault has none, nor has one that
    /// release 0.1 recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Refusal>,
}

impl Fault {
    /// A fault at `path`.
    pub fn new(name: FaultName, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            name,
            path: path.into(),
            message: message.into(),
            because: None,
        }
    }

    /// The fault of a refusal, which `message` says in English.
    pub fn of(refusal: Refusal, message: impl Into<String>) -> Self {
        Self {
            because: Some(refusal.clone()),
            ..Self::new(refusal.name(), refusal.path(), message)
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at {}: {}",
            self.name.as_str(),
            self.path,
            self.message
        )
    }
}

/// Every fault found so far. Reading goes on after a fault, so that people mend all of them at once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Nothing wrong yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, name: FaultName, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault::new(name, path, message));
    }

    /// Adds one that was found elsewhere.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// `true` while nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults in the order in which they were found.
    #[must_use]
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    /// The faults in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}
