//! Executions: whether one still runs, starting one for a request, and starting the closing of a window.

use access_core::Request;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::SdkError;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionError;
use aws_sdk_sfn::operation::start_execution::{StartExecutionError, StartExecutionOutput};
use aws_sdk_sfn::types::{ExecutionStatus, IncludedData};
use serde_json::Value;

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

/// How an execution stands, and what it answered if it succeeded.
///
/// # Errors
/// [`Error::Execution`].
pub async fn answer(client: &Client, arn: &str) -> Result<(Execution, Option<Value>), Error> {
    let standing = status(client, arn).await?;
    if !matches!(&standing, Execution::Ended(status) if status == SUCCEEDED) {
        return Ok((standing, None));
    }
    let found = client
        .describe_execution()
        .execution_arn(arn)
        .send()
        .await
        .map_err(|error| Error::Execution(chain(error)))?;
    let answer = serde_json::from_str(found.output().unwrap_or_default());
    answer
        .map(|answer| (standing, Some(answer)))
        .map_err(|error| Error::Execution(format!("its output is no JSON: {error}")))
}

/// The status of an execution that came to its end.
const SUCCEEDED: &str = "SUCCEEDED";

/// What became of starting an execution for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It runs, or ran, with this input.
    At {
        /// When it started, in milliseconds since 1970.
        started_at_millis: i64,
    },
    /// An execution of this name was started before with another input.
    AnotherInput,
}

/// The ARN of the execution `name` of a state machine
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html>).
#[must_use]
pub fn arn_of(state_machine_arn: &str, name: &str) -> String {
    let execution = state_machine_arn.replacen(":stateMachine:", ":execution:", 1);
    format!("{execution}:{name}")
}

/// Starts the execution `name` with this input. One of the same name and input that was started before is as good.
///
/// # Errors
/// [`Error::Execution`].
pub async fn begin(
    client: &Client,
    state_machine_arn: &str,
    name: &str,
    input: &Value,
) -> Result<Begun, Error> {
    if let Some(started) = start(client, state_machine_arn, name, input).await? {
        return Ok(begun_at(&started.start_date));
    }
    let found = client
        .describe_execution()
        .execution_arn(arn_of(state_machine_arn, name))
        .send()
        .await
        .map_err(|error| Error::Execution(chain(error)))?;
    let found_input = found.input.as_deref().unwrap_or_default();
    match serde_json::from_str::<Value>(found_input) {
        Ok(found_input) if found_input == *input => Ok(begun_at(&found.start_date)),
        _ => Ok(Begun::AnotherInput),
    }
}

/// Starts an execution; `None` if one of that name ran before, with whichever input.
async fn start(
    client: &Client,
    state_machine_arn: &str,
    name: &str,
    input: &Value,
) -> Result<Option<StartExecutionOutput>, Error> {
    let answer = client
        .start_execution()
        .state_machine_arn(state_machine_arn)
        .name(name)
        .input(input.to_string())
        .send()
        .await;
    match answer {
        Ok(output) => Ok(Some(output)),
        Err(SdkError::ServiceError(error))
            if matches!(error.err(), StartExecutionError::ExecutionAlreadyExists(_)) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::Execution(chain(error))),
    }
}

fn begun_at(start: &aws_sdk_sfn::primitives::DateTime) -> Begun {
    // Whole milliseconds, which the SDK reads as a fraction of a second: 0.123 may be 0.122999999.
    let half_a_milli = 500_000;
    let rounded = i64::from((start.subsec_nanos() + half_a_milli) / 1_000_000);
    Begun::At {
        started_at_millis: start.secs() * 1000 + rounded,
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
    request: &Request,
) -> Result<(), Error> {
    let input = access_contract::payload::to_close(request);
    start(client, state_machine_arn, name, &input).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_in_whole_milliseconds() {
        let start =
            |nanos| aws_sdk_sfn::primitives::DateTime::from_secs_and_nanos(1_767_225_600, nanos);
        for (nanos, millis) in [
            (123_000_000, 123),
            (122_999_906, 123),
            (123_000_094, 123),
            (999_999_999, 1000),
        ] {
            let started_at_millis = 1_767_225_600_000 + millis;
            assert_eq!(begun_at(&start(nanos)), Begun::At { started_at_millis });
        }
    }

    #[test]
    fn an_execution_has_the_arn_that_step_functions_gives_it() {
        assert_eq!(
            arn_of(
                "arn:aws:states:eu-west-1:123456789012:stateMachine:requests",
                "asked-1"
            ),
            "arn:aws:states:eu-west-1:123456789012:execution:requests:asked-1"
        );
    }
}
