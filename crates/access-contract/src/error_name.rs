//! The closed list of error names that reach the state machine.

/// What went wrong in a function, by what happened; the state machine decides what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorName {
    /// The payload is not one that this function takes.
    InvalidPayload,
    /// The catalogue could not be read.
    CatalogueUnavailable,
    /// A document of the catalogue is faulty.
    CatalogueFaulty,
    /// The table could not be read or written.
    TableUnavailable,
    /// The table has no such request.
    RequestNotFound,
    /// The stored request is not in a state that allows this step.
    RequestConflict,
    /// The database could not be reached.
    DatabaseUnreachable,
    /// The database refused Latchkey's login or statement.
    DatabaseRefused,
    /// Another server answers at the address than the one that was registered or opened.
    NotTheRegisteredDatabase,
    /// The secret with the password could not be read.
    SecretUnavailable,
    /// KMS could not make or verify a seal.
    SealUnavailable,
    /// A message could not be handed over.
    MessageNotSent,
    /// The role could not be proved closed in time.
    NotProvedClosed,
    /// The waiting task could not be answered.
    CallbackFailed,
    /// Step Functions could not be asked about an execution, or start one.
    ExecutionUnavailable,
    /// The closing could not be scheduled, so nothing was opened.
    ScheduleUnavailable,
    /// CloudTrail could not be asked who started an execution.
    TrailUnavailable,
    /// IAM could not be asked for a policy, or to change one, or did not show the change in time.
    PolicyUnavailable,
    /// A fault of Latchkey's own.
    Internal,
}

impl ErrorName {
    /// Every name.
    pub const ALL: [Self; 19] = [
        Self::InvalidPayload,
        Self::CatalogueUnavailable,
        Self::CatalogueFaulty,
        Self::TableUnavailable,
        Self::RequestNotFound,
        Self::RequestConflict,
        Self::DatabaseUnreachable,
        Self::DatabaseRefused,
        Self::NotTheRegisteredDatabase,
        Self::SecretUnavailable,
        Self::SealUnavailable,
        Self::MessageNotSent,
        Self::NotProvedClosed,
        Self::CallbackFailed,
        Self::ExecutionUnavailable,
        Self::ScheduleUnavailable,
        Self::TrailUnavailable,
        Self::PolicyUnavailable,
        Self::Internal,
    ];

    /// The name as `Retry` and `Catch` match it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPayload => "InvalidPayload",
            Self::CatalogueUnavailable => "CatalogueUnavailable",
            Self::CatalogueFaulty => "CatalogueFaulty",
            Self::TableUnavailable => "TableUnavailable",
            Self::RequestNotFound => "RequestNotFound",
            Self::RequestConflict => "RequestConflict",
            Self::DatabaseUnreachable => "DatabaseUnreachable",
            Self::DatabaseRefused => "DatabaseRefused",
            Self::NotTheRegisteredDatabase => "NotTheRegisteredDatabase",
            Self::SecretUnavailable => "SecretUnavailable",
            Self::SealUnavailable => "SealUnavailable",
            Self::MessageNotSent => "MessageNotSent",
            Self::NotProvedClosed => "NotProvedClosed",
            Self::CallbackFailed => "CallbackFailed",
            Self::ExecutionUnavailable => "ExecutionUnavailable",
            Self::ScheduleUnavailable => "ScheduleUnavailable",
            Self::TrailUnavailable => "TrailUnavailable",
            Self::PolicyUnavailable => "PolicyUnavailable",
            Self::Internal => "Internal",
        }
    }

    /// Whether trying the same again may help. The state machine retries exactly these.
    #[must_use]
    pub fn retryable(self) -> bool {
        match self {
            Self::CatalogueUnavailable
            | Self::TableUnavailable
            | Self::DatabaseUnreachable
            | Self::SecretUnavailable
            | Self::SealUnavailable
            | Self::MessageNotSent
            | Self::NotProvedClosed
            | Self::CallbackFailed
            | Self::ExecutionUnavailable
            | Self::ScheduleUnavailable
            | Self::TrailUnavailable
            | Self::PolicyUnavailable
            | Self::Internal => true,
            Self::InvalidPayload
            | Self::CatalogueFaulty
            | Self::RequestNotFound
            | Self::RequestConflict
            | Self::DatabaseRefused
            | Self::NotTheRegisteredDatabase => false,
        }
    }
}

impl std::fmt::Display for ErrorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed_once() {
        let mut names: Vec<_> = ErrorName::ALL.iter().map(|name| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorName::ALL.len());
    }
}
