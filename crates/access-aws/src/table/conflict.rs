//! A write that meets somebody else's transaction is tried again by the SDK, which by itself gives up at once.

use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;

use super::{CONDITION_FAILED, is_canceled_for};

/// Why a transaction is canceled that meets another one.
const CONFLICT: &str = "TransactionConflict";

/// Tells the SDK's retries of conflicts with other transactions. Nothing was written then, and all retries of a call
/// carry the same `ClientRequestToken`, so that what was written after all is not written twice.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling>
#[derive(Debug)]
pub(super) struct RetryConflicts;

impl ClassifyRetry for RetryConflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = match context.output_or_error() {
            Some(Err(error)) => error.as_operation_error(),
            _ => None,
        };
        let is_conflict = error.is_some_and(|error| {
            if let Some(error) = error.downcast_ref() {
                transaction_met_another(error)
            } else if let Some(error) = error.downcast_ref::<UpdateItemError>() {
                error.is_transaction_conflict_exception()
            } else if let Some(error) = error.downcast_ref::<PutItemError>() {
                error.is_transaction_conflict_exception()
            } else {
                false
            }
        });
        if is_conflict {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "conflicts with other transactions"
    }
}

/// A condition that failed beside the conflict fails again.
fn transaction_met_another(error: &TransactWriteItemsError) -> bool {
    is_canceled_for(error, CONFLICT) && !is_canceled_for(error, CONDITION_FAILED)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use access_contract::record::{Event, Part};
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use aws_sdk_dynamodb::config::BehaviorVersion;
    use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
    use aws_smithy_async::time::SharedTimeSource;
    use aws_smithy_http_client::Builder;
    use aws_smithy_types::retry::RetryConfig;
    use aws_types::SdkConfig;
    use aws_types::region::Region;
    use serde_json::{Value, json};

    use super::super::{Recorder, Table};
    use super::*;

    /// Answers one call after the other with what DynamoDB answers, and hands back the calls' bodies.
    fn answer_with(answers: Vec<(u16, Value)>) -> (String, thread::JoinHandle<Vec<Value>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answering = thread::spawn(move || {
            let mut bodies = Vec::new();
            for (status, answer) in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut call = Vec::new();
                let body = loop {
                    let mut part = [0; 4096];
                    let n = connection.read(&mut part).unwrap();
                    call.extend_from_slice(&part[..n]);
                    let text = String::from_utf8(call.clone()).unwrap();
                    if let Some((_, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str(body)
                    {
                        break body;
                    }
                    assert!(n > 0, "the call ends in the middle");
                };
                bodies.push(body);
                let answer = answer.to_string();
                write!(
                    connection,
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{answer}",
                    answer.len()
                )
                .unwrap();
            }
            bodies
        });
        (endpoint, answering)
    }

    fn canceled_for(codes: &[&str]) -> (u16, Value) {
        let reasons: Vec<_> = codes.iter().map(|code| json!({ "Code": code })).collect();
        let name = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
        (
            400,
            json!({ "__type": name, "CancellationReasons": reasons }),
        )
    }

    fn table(endpoint: &str) -> Table {
        let credentials = Credentials::new("key", "secret", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(Builder::new().build_http())
            .retry_config(RetryConfig::standard())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::default())
            .endpoint_url(endpoint)
            .build();
        let recorder = Recorder::new(Part::Notify, "0", || chrono::DateTime::UNIX_EPOCH).unwrap();
        Table::new(&config, "latchkey".to_owned(), recorder)
    }

    async fn record(answers: Vec<(u16, Value)>) -> (Result<(), crate::Error>, Vec<Value>) {
        let (endpoint, answering) = answer_with(answers);
        let result = table(&endpoint).record(None, None, Event::Opened).await;
        (result, answering.join().unwrap())
    }

    #[tokio::test]
    async fn a_transaction_that_meets_another_is_tried_again_as_the_same_one() {
        let answers = vec![
            canceled_for(&["None", CONFLICT]),
            canceled_for(&[CONFLICT]),
            (200, json!({})),
        ];
        let (result, calls) = record(answers).await;
        result.unwrap();
        let token = &calls[0]["ClientRequestToken"];
        assert!(token.is_string());
        assert!(
            calls
                .iter()
                .all(|call| call["ClientRequestToken"] == *token)
        );
    }

    #[tokio::test]
    async fn a_failed_condition_is_an_answer_and_not_tried_again() {
        for codes in [&[CONDITION_FAILED][..], &[CONFLICT, CONDITION_FAILED]] {
            let (result, calls) = record(vec![canceled_for(codes)]).await;
            result.unwrap();
            assert_eq!(calls.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_conflict_that_stays_is_an_error() {
        let (result, _) = record(vec![canceled_for(&[CONFLICT]); 3]).await;
        let name = result.unwrap_err().name();
        assert_eq!(name, access_contract::ErrorName::TableUnavailable);
    }

    #[tokio::test]
    async fn a_single_write_that_meets_a_transaction_is_tried_again() {
        let name = "com.amazonaws.dynamodb.v20120810#TransactionConflictException";
        let (endpoint, answering) =
            answer_with(vec![(400, json!({ "__type": name })), (200, json!({}))]);
        let id = access_core::RequestId::new("r-0123456789abcdef").unwrap();
        let token = access_contract::TaskToken::new("token".to_owned());
        table(&endpoint).park_token(&id, &token).await.unwrap();
        assert_eq!(answering.join().unwrap().len(), 2);
    }
}
