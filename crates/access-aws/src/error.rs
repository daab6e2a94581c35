//! What can go wrong on AWS, by what was being done.

use access_contract::ErrorName;
use access_core::Fault;

/// Why something on AWS could not be done. The messages carry the SDK's whole chain, for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Parameter Store.
    #[error("read the catalogue: {0}")]
    Catalogue(String),
    /// A document is there but faulty.
    #[error("catalogue document {name} is faulty; mend it: {}", list(.faults))]
    CatalogueFaulty {
        /// The parameter's name.
        name: String,
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
    /// DynamoDB.
    #[error("{doing}: {cause}")]
    Table {
        /// What was being done.
        doing: &'static str,
        /// The SDK's error chain.
        cause: String,
    },
    /// A row cannot be read as what it should be.
    #[error("row {key} in the table is damaged: {cause}")]
    DamagedRow {
        /// The row's key.
        key: String,
        /// What was expected.
        cause: String,
    },
    /// No such request.
    #[error("the table has no request {0}")]
    RequestNotFound(String),
    /// The request is not where it must be for this step.
    #[error("request {request_id} is {status}; this step needs another state")]
    RequestConflict {
        /// Which request.
        request_id: String,
        /// Where it stands.
        status: String,
    },
    /// RDS could not say where the database is.
    #[error("ask RDS where the database is: {0}")]
    Rds(String),
    /// IAM.
    #[error("{doing}: {cause}")]
    Policy {
        /// What was being done.
        doing: String,
        /// The SDK's error chain.
        cause: String,
    },
    /// IAM does not let Latchkey do this with that user or role.
    #[error("{0}: not permitted")]
    PolicyNotPermitted(String),
    /// IAM has no room for one more policy of somebody.
    #[error("the inline policies of {0} would be longer than IAM allows")]
    PoliciesTooLong(String),
    /// STS, for the role of another account.
    #[error("assume {role}: {cause}")]
    AssumeRole {
        /// The role's ARN.
        role: String,
        /// The SDK's error chain.
        cause: String,
    },
    /// Secrets Manager, or the making of an IAM token.
    #[error("read the password of Latchkey's login: {0}")]
    Secret(String),
    /// Secrets Manager, for the password of a window.
    #[error("hand over the password of a window: {0}")]
    WindowSecret(String),
    /// KMS.
    #[error("use the sealing key: {0}")]
    Seal(String),
    /// SNS.
    #[error("publish a message: {0}")]
    Message(String),
    /// Step Functions, for the waiting task.
    #[error("answer the waiting task: {0}")]
    Callback(String),
    /// Step Functions, for an execution.
    #[error("ask after or start an execution: {0}")]
    Execution(String),
    /// EventBridge Scheduler.
    #[error("make a one-time schedule: {0}")]
    Schedule(String),
    /// CloudTrail.
    #[error("ask CloudTrail who started the execution: {0}")]
    Trail(String),
    /// An environment variable is missing or wrong.
    #[error("environment variable {0} is missing; deploy the template as it is")]
    Configuration(&'static str),
    /// The file that `AWS_CA_BUNDLE` names.
    #[error("use the certificates in {path}, which AWS_CA_BUNDLE names: {cause}")]
    CaBundle {
        /// The file.
        path: String,
        /// Why not.
        cause: String,
    },
}

impl Error {
    /// The name that reaches the state machine.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        match self {
            Self::Catalogue(_) => ErrorName::CatalogueUnavailable,
            Self::CatalogueFaulty { .. } => ErrorName::CatalogueFaulty,
            Self::Table { .. } => ErrorName::TableUnavailable,
            Self::RequestNotFound(_) => ErrorName::RequestNotFound,
            Self::RequestConflict { .. } => ErrorName::RequestConflict,
            Self::Rds(_) | Self::AssumeRole { .. } => ErrorName::DatabaseUnreachable,
            Self::Policy { .. } | Self::PolicyNotPermitted(_) | Self::PoliciesTooLong(_) => {
                ErrorName::PolicyUnavailable
            }
            Self::Secret(_) | Self::WindowSecret(_) => ErrorName::SecretUnavailable,
            Self::Seal(_) => ErrorName::SealUnavailable,
            Self::Message(_) => ErrorName::MessageNotSent,
            Self::Callback(_) => ErrorName::CallbackFailed,
            Self::Execution(_) => ErrorName::ExecutionUnavailable,
            Self::Schedule(_) => ErrorName::ScheduleUnavailable,
            Self::Trail(_) => ErrorName::TrailUnavailable,
            Self::DamagedRow { .. } | Self::Configuration(_) | Self::CaBundle { .. } => {
                ErrorName::Internal
            }
        }
    }
}

/// An error and everything below it, for the log: the SDK, tokio-postgres and rustls say the cause only there.
/// Not its `Debug`, which holds an SDK error's raw response.
#[must_use]
pub fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn list(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
