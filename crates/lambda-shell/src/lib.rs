//! The only library that knows the Lambda runtime: logging, payloads in, answers and named errors out.

pub mod http;

use std::future::Future;
use std::io::Write as _;

use access_contract::ErrorName;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What the runtime reports when it stops.
pub use lambda_runtime::Error as RuntimeError;

/// One call of a function.
pub struct Invocation {
    /// What it was called with.
    pub payload: Value,
    /// Lambda's id of this call, which people can quote.
    pub invocation_id: String,
    /// The ARN by which it was called, for a schedule that calls it again.
    pub function_arn: String,
}

/// Why a function could not do its work: the name for the state machine, the chain for those who look after it.
#[derive(Debug)]
pub struct Failure {
    name: ErrorName,
    message: String,
}

impl Failure {
    /// A failure of this name; `message` says what was being done, why it failed and what to do next.
    #[must_use]
    pub fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self {
            name,
            message: message.into(),
        }
    }

    /// The name that the state machine sees.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        self.name
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Diagnostic {
            error_type: failure.name.as_str().to_owned(),
            error_message: failure.message,
        }
    }
}

/// Logs JSON lines to standard output, where Lambda collects them; `INFO` and above.
pub fn start_logging() {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .init();
}

/// Answers invocations with `handle` until Lambda ends the process.
///
/// # Errors
/// If the runtime itself fails.
pub async fn serve<H, F>(handle: H) -> Result<(), RuntimeError>
where
    H: Fn(Invocation) -> F,
    F: Future<Output = Result<Value, Failure>>,
{
    let handle = &handle;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let invocation = Invocation {
            payload: event.payload,
            invocation_id: event.context.request_id.clone(),
            function_arn: event.context.invoked_function_arn,
        };
        let invocation_id = event.context.request_id;
        let answer = handle(invocation).await;
        if let Err(failure) = &answer {
            tracing::error!(
                invocation_id,
                error = failure.name.as_str(),
                "{}",
                failure.message
            );
        }
        answer
    }))
    .await
}

/// Writes metrics in CloudWatch's embedded form: a log line that becomes metrics without a call
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
/// They stand in namespace `Latchkey` with the deployment as their one dimension.
pub fn metrics(deployment: &str, values: &[(&str, Unit, f64)], now_millis: i64) {
    let definitions: Vec<_> = values
        .iter()
        .map(|(name, unit, _)| serde_json::json!({"Name": name, "Unit": unit.as_str()}))
        .collect();
    let mut line = serde_json::json!({
        "_aws": {
            "Timestamp": now_millis,
            "CloudWatchMetrics": [{
                "Namespace": "Latchkey", "Dimensions": [["Deployment"]], "Metrics": definitions
            }]
        },
        "Deployment": deployment,
    });
    for (name, _, value) in values {
        line[*name] = (*value).into();
    }
    // Losing a metric line must not fail what it measures; a silent metric has an alarm of its own.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Time.
    Seconds,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
        }
    }
}

/// Reads a payload.
///
/// # Errors
/// [`ErrorName::InvalidPayload`], without quoting the payload: it may hold a task token.
pub fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Failure> {
    serde_json::from_value(payload).map_err(|_| {
        Failure::new(
            ErrorName::InvalidPayload,
            "this is not a payload of this function; deploy state machine and functions together",
        )
    })
}

/// Writes an answer.
///
/// # Errors
/// [`ErrorName::Internal`] if it cannot be written as JSON.
pub fn write<T: Serialize>(answer: &T) -> Result<Value, Failure> {
    serde_json::to_value(answer)
        .map_err(|error| Failure::new(ErrorName::Internal, error.to_string()))
}
