//! CloudTrail: who started an execution.
//!
//! CloudTrail shows an event some minutes after it happened, usually within fifteen, and best effort
//! (<https://docs.aws.amazon.com/awscloudtrail/latest/userguide/how-cloudtrail-works.html>). The fields are those of
//! <https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cloud-trail.html>.

use std::time::Duration;

use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::Error;
use crate::error::chain;

/// How long before the request was recorded its execution may have started: all tries of Compute Wait.
const STARTED_BEFORE: TimeDelta = TimeDelta::minutes(10);
/// How far the two clocks may be apart.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(1);
/// The most pages of fifty events that are read; in so short a time there are few.
const MAX_PAGES: usize = 10;
/// LookupEvents takes two calls a second
/// (<https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html>).
const BETWEEN_PAGES: Duration = Duration::from_millis(600);

/// One call of StartExecution that was answered with a certain execution. There may be several: the same name and
/// input is answered with the same execution, whoever calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// CloudTrail's id of the event.
    pub event_id: String,
    /// The caller's ARN; none for a service of AWS.
    pub principal: Option<String>,
}

/// The calls that started the execution `arn`, whose request was recorded at `requested_at`, as far as CloudTrail shows
/// them yet.
///
/// # Errors
/// [`Error::Trail`].
pub async fn starts(
    client: &Client,
    arn: &str,
    requested_at: DateTime<Utc>,
) -> Result<Vec<Start>, Error> {
    let at =
        |time: DateTime<Utc>| aws_sdk_cloudtrail::primitives::DateTime::from_secs(time.timestamp());
    let event_name = LookupAttribute::builder()
        .attribute_key(LookupAttributeKey::EventName)
        .attribute_value("StartExecution")
        .build()
        .map_err(|error| Error::Trail(chain(error)))?;
    let mut starts = Vec::new();
    let mut next_page = None;
    for _ in 0..MAX_PAGES {
        let page = client
            .lookup_events()
            .lookup_attributes(event_name.clone())
            .start_time(at(requested_at - STARTED_BEFORE))
            .end_time(at(requested_at + CLOCKS_APART))
            .set_next_token(next_page)
            .send()
            .await
            .map_err(|error| Error::Trail(chain(error)))?;
        let events = page.events.unwrap_or_default();
        starts.extend(
            events
                .iter()
                .filter_map(|event| start_of(arn, event.cloud_trail_event()?)),
        );
        next_page = page.next_token;
        if next_page.is_none() {
            return Ok(starts);
        }
        tokio::time::sleep(BETWEEN_PAGES).await;
    }
    Err(Error::Trail(format!(
        "more than {MAX_PAGES} pages of StartExecution around {requested_at}"
    )))
}

/// An event as CloudTrail writes it, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "eventID")]
    event_id: String,
    event_source: String,
    event_name: String,
    user_identity: Identity,
    response_elements: Option<Started>,
}

#[derive(Deserialize)]
struct Identity {
    arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    execution_arn: Option<String>,
}

fn start_of(arn: &str, event: &str) -> Option<Start> {
    let event: Event = serde_json::from_str(event).ok()?;
    let is_it = event.event_source == "states.amazonaws.com"
        && event.event_name == "StartExecution"
        && event.response_elements?.execution_arn.as_deref() == Some(arn);
    is_it.then_some(Start {
        event_id: event.event_id,
        principal: event.user_identity.arn,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ARN: &str = "arn:aws:states:eu-west-1:123456789012:execution:requests:e";

    /// The shape of the example in the Step Functions guide.
    fn event() -> Value {
        json!({
            "eventVersion": "1.04",
            "userIdentity": {
                "type": "AssumedRole",
                "principalId": "AROAIOSFODNN7EXAMPLE:laptop",
                "arn": "arn:aws:sts::123456789012:assumed-role/Riko/laptop",
                "accountId": "123456789012"
            },
            "eventTime": "2026-06-01T01:18:07Z",
            "eventSource": "states.amazonaws.com",
            "eventName": "StartExecution",
            "awsRegion": "eu-west-1",
            "requestParameters": {"input": "{}", "stateMachineArn": "arn:x", "name": "e"},
            "responseElements": {"startDate": "Jun 1, 2026 1:18:07 AM", "executionArn": ARN},
            "eventID": "c9d5b9e7-0000-0000-0000-000000000000",
            "eventType": "AwsApiCall"
        })
    }

    fn changed(pointer: &str, value: Value) -> String {
        let mut event = event();
        *event.pointer_mut(pointer).unwrap() = value;
        event.to_string()
    }

    #[test]
    fn the_start_of_an_execution_names_its_caller() {
        let start = start_of(ARN, &event().to_string()).unwrap();
        assert_eq!(
            start.principal.as_deref(),
            Some("arn:aws:sts::123456789012:assumed-role/Riko/laptop")
        );
        assert_eq!(start.event_id, "c9d5b9e7-0000-0000-0000-000000000000");
    }

    #[test]
    fn other_events_say_nothing_about_it() {
        for other in [
            changed("/responseElements/executionArn", json!(format!("{ARN}2"))),
            // A call that failed has no answer.
            changed("/responseElements", Value::Null),
            changed("/eventName", json!("StopExecution")),
            changed("/eventSource", json!("lambda.amazonaws.com")),
            "{}".to_owned(),
            "no event".to_owned(),
        ] {
            assert_eq!(start_of(ARN, &other), None, "{other}");
        }
    }

    #[test]
    fn a_service_is_no_principal() {
        let by_service = changed(
            "/userIdentity",
            json!({"type": "AWSService", "invokedBy": "scheduler.amazonaws.com"}),
        );
        assert_eq!(start_of(ARN, &by_service).unwrap().principal, None);
    }
}
