//! Executions: whether one still runs, and starting the closing of a window.

use access_core::RequestId;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::SdkError;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionError;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_sfn::types::{ExecutionStatus, IncludedData};

use crate::Error;
use crate::error::chain;

/// What became of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution {
    /// It runs.
    Running,
    /// It has ended, as Step Functions says: `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`, …
    Ended(String),
    /// Step Functions does not know it, or no longer.
    Unknown,
}

/// Asks after an execution.
///
/// # Errors
/// [`Error::Execution`].
pub async fn status(client: &Client, arn: &str) -> Result<Execution, Error> {
    let answer = client
        .describe_execution()
        .execution_arn(arn)
        // The data is encrypted with a key that we need not be able to use.
        .included_data(IncludedData::MetadataOnly)
        .send()
        .await;
    match answer {
        Ok(output) => Ok(match output.status {
            // A redrive goes on where it stopped, so that the end of its window is still its own.
            ExecutionStatus::Running | ExecutionStatus::PendingRedrive => Execution::Running,
            status => Execution::Ended(status.as_str().to_owned()),
        }),
        Err(SdkError::ServiceError(error))
            if matches!(
                error.err(),
                DescribeExecutionError::ExecutionDoesNotExist(_)
            ) =>
        {
            Ok(Execution::Unknown)
        }
        Err(error) => Err(Error::Execution(chain(error))),
    }
}

/// Starts the state machine that closes the window of a request and announces it. An execution of the
/// same name that was started before is as good.
///
/// # Errors
/// [`Error::Execution`].
pub async fn start_closing(
    client: &Client,
    state_machine_arn: &str,
    name: &str,
    request_id: &RequestId,
) -> Result<(), Error> {
    let input = serde_json::json!({
        "version": access_contract::PAYLOAD_VERSION, "request_id": request_id, "action": "close"
    });
    let answer = client
        .start_execution()
        .state_machine_arn(state_machine_arn)
        .name(name)
        .input(input.to_string())
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(SdkError::ServiceError(error))
            if matches!(error.err(), StartExecutionError::ExecutionAlreadyExists(_)) =>
        {
            Ok(())
        }
        Err(error) => Err(Error::Execution(chain(error))),
    }
}
