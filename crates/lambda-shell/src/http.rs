//! HTTP calls through API Gateway in payload format 2.0
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// One call of a route.
#[derive(Debug)]
pub struct HttpCall {
    /// The route as the template names it, such as `POST /requests`.
    pub route: String,
    /// The caller's ARN, on a route with IAM authorisation: API Gateway has verified the signature.
    pub caller: Option<String>,
    /// API Gateway's id of this call.
    pub call_id: String,
    headers: BTreeMap<String, String>,
    path_parameters: BTreeMap<String, String>,
    query_parameters: BTreeMap<String, String>,
    body: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    route_key: String,
    request_context: Context,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    path_parameters: Option<BTreeMap<String, String>>,
    query_string_parameters: Option<BTreeMap<String, String>>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    request_id: String,
    authorizer: Option<Authorizer>,
}

#[derive(Deserialize)]
struct Authorizer {
    iam: Option<Iam>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iam {
    user_arn: Option<String>,
}

impl HttpCall {
    /// Takes the event of an HTTP API; `None` if it is none.
    #[must_use]
    pub fn read(payload: Value) -> Option<Self> {
        let event: Event = serde_json::from_value(payload).ok()?;
        let body = match (event.body, event.is_base64_encoded) {
            (None, _) => Some(Vec::new()),
            (Some(text), false) => Some(text.into_bytes()),
            (Some(text), true) => data_encoding::BASE64.decode(text.as_bytes()).ok(),
        };
        Some(Self {
            route: event.route_key,
            caller: event
                .request_context
                .authorizer
                .and_then(|authorizer| authorizer.iam?.user_arn),
            call_id: event.request_context.request_id,
            headers: event
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
            path_parameters: event.path_parameters.unwrap_or_default(),
            query_parameters: event.query_string_parameters.unwrap_or_default(),
            body,
        })
    }

    /// The header of this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The part of the path that the route calls `name`.
    #[must_use]
    pub fn path_parameter(&self, name: &str) -> Option<&str> {
        self.path_parameters.get(name).map(String::as_str)
    }

    /// What stands after `name=` in the query string.
    #[must_use]
    pub fn query_parameter(&self, name: &str) -> Option<&str> {
        self.query_parameters.get(name).map(String::as_str)
    }

    /// The body as JSON, if it is JSON of at most `max_bytes` bytes.
    #[must_use]
    pub fn json(&self, max_bytes: usize) -> Option<Value> {
        let body = self.body.as_deref()?;
        if body.len() > max_bytes {
            return None;
        }
        serde_json::from_slice(body).ok()
    }
}

/// An answer in JSON that nothing on the way keeps.
#[must_use]
pub fn json_answer(status: u16, body: &Value) -> Value {
    json!({
        "statusCode": status,
        "headers": {
            "content-type": "application/json",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        },
        "body": body.to_string(),
        "isBase64Encoded": false,
    })
}

/// The `error` and `message` of a [`json_answer`] that refuses the caller something.
#[must_use]
pub fn refusal(answer: &Value) -> Option<(String, String)> {
    let status = answer["statusCode"].as_u64()?;
    let body: Value = serde_json::from_str(answer["body"].as_str()?).ok()?;
    let said = |field: &str| body[field].as_str().map(str::to_owned);
    (400..500)
        .contains(&status)
        .then_some((said("error")?, said("message")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_status() {
        let body = json!({"error": "own_request", "message": "nobody approves their own request"});
        let refused = json_answer(403, &body);
        let (error, message) = refusal(&refused).unwrap();
        assert_eq!(
            (error.as_str(), message.as_str()),
            ("own_request", "nobody approves their own request")
        );
        assert_eq!(
            refusal(&json_answer(200, &json!({"status": "recorded"}))),
            None
        );
        assert_eq!(refusal(&json_answer(503, &body)), None);
    }

    fn event() -> Value {
        json!({
            "version": "2.0",
            "routeKey": "POST /requests",
            "rawPath": "/requests",
            "queryStringParameters": {"part": "approver"},
            "headers": {"Idempotency-Key": "k1"},
            "requestContext": {
                "requestId": "JKJaXmPLvHcESHA=",
                "http": {"method": "POST"},
                "authorizer": {"iam": {"userArn": "arn:aws:iam::123456789012:user/riko", "accountId": "123456789012"}}
            },
            "body": "{\"a\":1}",
            "isBase64Encoded": false
        })
    }

    #[test]
    fn a_call_has_its_caller_headers_and_body() {
        let call = HttpCall::read(event()).unwrap();
        assert_eq!(call.route, "POST /requests");
        assert_eq!(
            call.caller.as_deref(),
            Some("arn:aws:iam::123456789012:user/riko")
        );
        assert_eq!(call.header("idempotency-key"), Some("k1"));
        assert_eq!(call.query_parameter("part"), Some("approver"));
        assert_eq!(call.query_parameter("after"), None);
        assert_eq!(call.json(7), Some(json!({"a": 1})));
        assert_eq!(call.json(6), None);
        let mut encoded = event();
        encoded["body"] = json!("eyJhIjoxfQ==");
        encoded["isBase64Encoded"] = json!(true);
        assert_eq!(
            HttpCall::read(encoded.clone()).unwrap().json(7),
            Some(json!({"a": 1}))
        );
        encoded["body"] = json!("{}");
        assert_eq!(HttpCall::read(encoded).unwrap().json(7), None);
    }

    #[test]
    fn without_the_word_of_iam_nobody_calls() {
        for authorizer in [
            Value::Null,
            json!({}),
            json!({"iam": null}),
            json!({"jwt": {"claims": {"sub": "riko"}}}),
            json!({"iam": {}}),
        ] {
            let mut event = event();
            event["requestContext"]["authorizer"] = authorizer.clone();
            assert_eq!(HttpCall::read(event).unwrap().caller, None, "{authorizer}");
        }
        assert!(HttpCall::read(json!({"version": 1, "action": "settle"})).is_none());
    }
}
