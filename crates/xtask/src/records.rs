//! What the local AWS remembers: the histories of executions and the rows of requests. Read as only an
//! administrator can, to say by evidence what happened.

use aws_sdk_sfn::types::{ExecutionStatus, HistoryEvent, HistoryEventType};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::error::{Error, Result, with_causes};
use crate::stack::{Execution, Stack, to_utc};

/// The history of an execution, as far as it has come.
#[derive(Clone, Debug)]
pub struct History {
    /// What it was started with.
    pub input: Value,
    /// The states that it entered, with when, in order.
    pub states: Vec<(String, DateTime<Utc>)>,
    /// The calls of functions, in order.
    pub calls: Vec<Call>,
}

/// One call of a function by a state machine.
#[derive(Clone, Debug)]
pub struct Call {
    /// The state that made it.
    pub state: String,
    /// When that state was entered, which is before the first of its calls.
    pub entered_at: DateTime<Utc>,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// What came of it; `None` while it runs, and for ever if the execution was stopped meanwhile.
    pub result: Option<Answered>,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Answered {
    /// When the state machine had the answer.
    pub at: DateTime<Utc>,
    /// The function's answer, or the name of its error.
    pub answer: std::result::Result<Value, String>,
}

impl Call {
    /// The outcome in the function's answer; empty without an answer.
    pub fn outcome(&self) -> &str {
        self.answer()["outcome"].as_str().unwrap_or_default()
    }

    /// The function's answer; `null` without one.
    pub fn answer(&self) -> &Value {
        match &self.result {
            Some(Answered {
                answer: Ok(answer), ..
            }) => answer,
            _ => &Value::Null,
        }
    }

    /// The name of the function's error, if it failed.
    pub fn error(&self) -> Option<&str> {
        self.result
            .as_ref()?
            .answer
            .as_ref()
            .err()
            .map(String::as_str)
    }
}

impl History {
    /// The id of the request, as compute-wait gave it; `None` before that.
    pub fn request_id(&self) -> Option<&str> {
        self.calls
            .iter()
            .find(|call| call.state == "Compute Wait")?
            .answer()["request_id"]
            .as_str()
    }

    fn read(events: &[HistoryEvent]) -> Self {
        let mut history = Self {
            input: Value::Null,
            states: Vec::new(),
            calls: Vec::new(),
        };
        for event in events {
            let Some(at) = to_utc(event.timestamp()) else {
                continue;
            };
            if let Some(started) = event.execution_started_event_details() {
                history.input = parsed(started.input());
            }
            if let Some(entered) = event.state_entered_event_details() {
                history.states.push((entered.name().to_owned(), at));
            }
            if *event.r#type() == HistoryEventType::TaskScheduled
                && let Some((state, entered_at)) = history.states.last()
            {
                history.calls.push(Call {
                    state: state.clone(),
                    entered_at: *entered_at,
                    made_at: at,
                    result: None,
                });
            }
            let answer = match (
                event.task_succeeded_event_details(),
                event.task_failed_event_details(),
            ) {
                (Some(succeeded), _) => Ok(parsed(succeeded.output())["Payload"].take()),
                (None, Some(failed)) => Err(failed.error().unwrap_or_default().to_owned()),
                (None, None) => continue,
            };
            if let Some(call) = history.calls.last_mut() {
                call.result = Some(Answered { at, answer });
            }
        }
        history
    }
}

fn parsed(text: Option<&str>) -> Value {
    serde_json::from_str(text.unwrap_or("null")).unwrap_or_default()
}

/// How a window was closed, as the table keeps it with the request.
#[derive(Clone, Debug)]
pub struct RequestRow {
    /// Where the request stands: `pending`, `approved`, `open`, `closed` ...
    pub status: String,
    /// The proof of its closing; `null` before that.
    pub closing: Value,
}

impl RequestRow {
    /// A moment of the closing: `invoked_at`, `connected_at`, `login_refused_at`, `sessions_gone_at`, or `at`, when it
    /// was proved. `None` if the row has none.
    pub fn closing_moment(&self, name: &str) -> Option<DateTime<Utc>> {
        self.closing[name].as_str()?.parse().ok()
    }
}

impl Stack {
    /// Everything that an execution did so far.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub async fn history(&self, execution: &Execution) -> Result<History> {
        let client = aws_sdk_sfn::Client::new(self.root_config());
        let mut pages = client
            .get_execution_history()
            .execution_arn(&execution.arn)
            .max_results(1000)
            .into_paginator()
            .send();
        let mut events = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("read the execution's history", &error))?;
            events.extend(page.events);
        }
        Ok(History::read(&events))
    }

    /// The executions of a state machine that were started at `since` or later, each with its name. `machine` is the
    /// output with its ARN.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn executions_since(
        &self,
        machine: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<(String, Execution)>> {
        let client = aws_sdk_sfn::Client::new(self.root_config());
        let mut pages = client
            .list_executions()
            .state_machine_arn(self.output(machine)?)
            .into_paginator()
            .send();
        let mut executions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("list the executions", &error))?;
            let found = page
                .executions
                .into_iter()
                .filter(|item| to_utc(&item.start_date).is_none_or(|at| at >= since));
            executions.extend(found.map(|item| {
                let arn = item.execution_arn;
                (item.name, Execution { arn })
            }));
        }
        Ok(executions)
    }

    /// Stops an execution, as an operator does in the console.
    ///
    /// # Errors
    /// When it does not run any more.
    pub async fn stop_execution(&self, execution: &Execution) -> Result<()> {
        let client = aws_sdk_sfn::Client::new(self.root_config());
        let seen = client
            .describe_execution()
            .execution_arn(&execution.arn)
            .send()
            .await
            .map_err(|error| failed("look at the execution", &error))?;
        if *seen.status() != ExecutionStatus::Running {
            return Err(Error::Aws {
                action: "stop the execution".to_owned(),
                reason: format!("it is {}", seen.status()),
            });
        }
        client
            .stop_execution()
            .execution_arn(&execution.arn)
            .send()
            .await
            .map_err(|error| failed("stop the execution", &error))?;
        Ok(())
    }

    /// What the table says of a request; `None` if there is no such request.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn request_row(&self, request_id: &str) -> Result<Option<RequestRow>> {
        use aws_sdk_dynamodb::types::AttributeValue;
        let client = aws_sdk_dynamodb::Client::new(self.root_config());
        let answer = client
            .get_item()
            .table_name(self.output("TableName")?)
            .key("pk", AttributeValue::S(format!("request#{request_id}")))
            .key("sk", AttributeValue::S("request".to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed("read the request's row", &error))?;
        let Some(item) = answer.item else {
            return Ok(None);
        };
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
        Ok(Some(RequestRow {
            status: text("status").cloned().unwrap_or_default(),
            closing: parsed(text("closing").map(String::as_str)),
        }))
    }
}

fn failed(action: &str, error: &dyn std::error::Error) -> Error {
    Error::Aws {
        action: action.to_owned(),
        reason: with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sfn::types::{
        StateEnteredEventDetails, TaskFailedEventDetails, TaskSucceededEventDetails,
    };
    use aws_smithy_types::DateTime as Moment;

    use super::*;

    #[test]
    fn a_history_tells_each_call_with_its_answer() {
        let event = |second, kind| {
            HistoryEvent::builder()
                .id(second)
                .timestamp(Moment::from_secs(second))
                .r#type(kind)
        };
        let entered = StateEnteredEventDetails::builder().name("Disable Login");
        let failed = TaskFailedEventDetails::builder()
            .resource("")
            .resource_type("")
            .error("NotProvedClosed");
        let succeeded = TaskSucceededEventDetails::builder()
            .resource("")
            .resource_type("")
            .output(r#"{"StatusCode": 200, "Payload": {"outcome": "closed"}}"#);
        let events = [
            event(1, HistoryEventType::TaskStateEntered)
                .state_entered_event_details(entered.build().unwrap()),
            event(2, HistoryEventType::TaskScheduled),
            event(3, HistoryEventType::TaskFailed)
                .task_failed_event_details(failed.build().unwrap()),
            event(4, HistoryEventType::TaskScheduled),
            event(5, HistoryEventType::TaskSucceeded)
                .task_succeeded_event_details(succeeded.build().unwrap()),
            event(6, HistoryEventType::TaskScheduled),
        ];
        let events: Vec<_> = events
            .into_iter()
            .map(|event| event.build().unwrap())
            .collect();

        let history = History::read(&events);

        assert_eq!(history.states.len(), 1);
        let calls = &history.calls;
        assert_eq!(calls[0].error(), Some("NotProvedClosed"));
        assert_eq!(calls[1].outcome(), "closed");
        assert_eq!(calls[1].made_at.timestamp(), 4);
        assert_eq!(calls[1].entered_at.timestamp(), 1);
        assert!(calls[2].result.is_none());
    }
}
