//! An AWS that answers at once, over HTTPS: the calls that the functions make, in the shapes that AWS answers in.
//!
//! It costs a client what AWS costs it: TLS, signing, requests and answers of the same size. It checks nothing that
//! the tests on the emulated AWS check: no signature, no right, no condition of a write. Its table does change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use xtask::error::{Error, Result};
use xtask::workspace;

use super::serving::{Answer, Asked, Serving};

/// A partition key and a sort key.
type Key = (String, String);

/// What the AWS of the bench knows.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// The items of the one table.
    pub(crate) items: BTreeMap<Key, Value>,
    /// Parameters by name.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Passwords by the ARN of their secret.
    pub(crate) passwords: BTreeMap<String, String>,
    /// The calls so far, by operation.
    pub(crate) calls: Vec<String>,
}

impl State {
    /// Adds or replaces an item whose attributes are texts.
    pub(crate) fn put(&mut self, pk: &str, sk: &str, attributes: &[(&str, String)]) {
        let mut item = json!({ "pk": {"S": pk}, "sk": {"S": sk} });
        for (name, text) in attributes {
            item[*name] = if *name == "n_votes" || *name == "n_parts" {
                json!({ "N": text })
            } else {
                json!({ "S": text })
            };
        }
        self.items.insert((pk.to_owned(), sk.to_owned()), item);
    }

    /// Whether a request is stored, and the line of the record that says so.
    pub(crate) fn holds_request(&self) -> bool {
        let holds = |kind: &str| self.items.keys().any(|(pk, _)| pk.starts_with(kind));
        holds("request#") && holds("record#")
    }

    /// A text attribute of an item.
    pub(crate) fn text(&self, pk: &str, sk: &str, attribute: &str) -> Option<String> {
        let item = self.items.get(&(pk.to_owned(), sk.to_owned()))?;
        Some(item[attribute]["S"].as_str()?.to_owned())
    }
}

/// The running AWS; it ends when this is dropped.
pub(crate) struct Aws {
    serving: Serving,
    /// The certificate of its authority.
    pub(crate) ca_file: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Aws {
    /// Starts it with a certificate of its own.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let (tls, ca) = tls().map_err(|source| Error::Aws {
            action: "make the certificate of the bench's AWS".to_owned(),
            reason: source.to_string(),
        })?;
        let ca_file = folder.join("aws-ca.pem");
        workspace::write(&ca_file, &ca)?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serving = Serving::start(Some(tls), move |asked| {
            let answered = answer(&asked, &mut locked(&shared));
            std::future::ready(answered)
        })
        .await?;
        Ok(Self {
            serving,
            ca_file,
            state,
        })
    }

    /// Its address.
    pub(crate) fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.serving.port)
    }

    /// What it knows now, to read or change.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An authority and a certificate for localhost, P-256 as AWS's newer ones. AWS's chains have one certificate more.
fn tls() -> std::result::Result<(TlsAcceptor, String), Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "AWS of the bench");
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let authority = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), ca))
}

fn answer(asked: &Asked, state: &mut State) -> Answer {
    if let Some(name) = asked.path.strip_prefix("/schedules/") {
        state.calls.push("CreateSchedule".to_owned());
        let arn = format!("arn:aws:scheduler:eu-west-1:123456789012:schedule/latchkey/{name}");
        return as_json(&json!({ "ScheduleArn": arn }));
    }
    if asked.target.is_empty() {
        return message_service(&String::from_utf8_lossy(&asked.body), state);
    }
    let operation = asked.target.rsplit('.').next().unwrap_or_default();
    state.calls.push(operation.to_owned());
    let input: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
    match called(operation, &input, state) {
        Some(output) => as_json(&output),
        None => Answer {
            status: 400,
            headers: vec![("content-type", "application/x-amz-json-1.0".to_owned())],
            body: json!({ "__type": "ValidationException", "message": format!("the bench knows no {operation}") }).to_string(),
        },
    }
}

/// SNS speaks the query protocol: a form in, XML out. The approvers' mailboxes are subscribed.
fn message_service(form: &str, state: &mut State) -> Answer {
    let person = if form.contains("%3Aalice") {
        "alice"
    } else {
        "bob"
    };
    let (operation, result) = if form.contains("Action=ListSubscriptionsByTopic") {
        let members: String = ["alice", "bob"]
            .map(|person| {
                format!("<member><SubscriptionArn>arn:aws:sns:eu-west-1:123456789012:latchkey:{person}</SubscriptionArn><Owner>123456789012</Owner><Protocol>email</Protocol><Endpoint>{person}@example.com</Endpoint><TopicArn>arn:aws:sns:eu-west-1:123456789012:latchkey</TopicArn></member>")
            })
            .concat();
        (
            "ListSubscriptionsByTopic",
            format!("<Subscriptions>{members}</Subscriptions>"),
        )
    } else if form.contains("Action=GetSubscriptionAttributes") {
        let entries: String = [
            ("Protocol", "email".to_owned()),
            ("Endpoint", format!("{person}@example.com")),
            ("PendingConfirmation", "false".to_owned()),
            ("ConfirmationWasAuthenticated", "true".to_owned()),
            ("FilterPolicyScope", "MessageAttributes".to_owned()),
            ("FilterPolicy", format!(r#"{{"recipient":["{person}"]}}"#)),
        ]
        .map(|(key, value)| format!("<entry><key>{key}</key><value>{value}</value></entry>"))
        .concat();
        (
            "GetSubscriptionAttributes",
            format!("<Attributes>{entries}</Attributes>"),
        )
    } else {
        let id = "94f20ce6-13c5-43a0-9a9e-ca52d816e90b";
        ("Publish", format!("<MessageId>{id}</MessageId>"))
    };
    state.calls.push(operation.to_owned());
    Answer {
        status: 200,
        headers: vec![("content-type", "text/xml".to_owned())],
        body: format!(
            r#"<{operation}Response xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><{operation}Result>{result}</{operation}Result><ResponseMetadata><RequestId>f187a3c1-376f-11df-8963-01868b7c937a</RequestId></ResponseMetadata></{operation}Response>"#
        ),
    }
}

fn as_json(body: &Value) -> Answer {
    Answer {
        status: 200,
        headers: vec![
            ("content-type", "application/x-amz-json-1.0".to_owned()),
            (
                "x-amzn-requestid",
                "4f8ce5b4-6d0f-4a53-8d1b-3a9c1f5f2a10".to_owned(),
            ),
        ],
        body: body.to_string(),
    }
}

fn called(operation: &str, input: &Value, state: &mut State) -> Option<Value> {
    let mac = data_encoding::BASE64.encode(&[7; 32]);
    Some(match operation {
        "GetItem" => match state.items.get(&key_of(&input["Key"])) {
            Some(item) => json!({ "Item": item }),
            None => json!({}),
        },
        // Of the index of open windows.
        "Query" if input["IndexName"].is_string() => {
            let kind = &input["ExpressionAttributeValues"][":window"]["S"];
            let of_kind = |item: &&Value| item["kind"]["S"] == *kind;
            let items: Vec<_> = state.items.values().filter(of_kind).collect();
            json!({ "Items": items, "Count": items.len(), "ScannedCount": items.len() })
        }
        "Query" => {
            let pk = input["ExpressionAttributeValues"][":pk"]["S"].as_str()?;
            let items: Vec<_> = state
                .items
                .iter()
                .filter(|((key, _), _)| key == pk)
                .map(|(_, item)| item)
                .collect();
            json!({ "Items": items, "Count": items.len(), "ScannedCount": items.len() })
        }
        "PutItem" => {
            put(state, input);
            json!({})
        }
        "UpdateItem" => {
            update(state, input);
            json!({})
        }
        "TransactWriteItems" => {
            for item in input["TransactItems"].as_array()? {
                match item.as_object()?.iter().next()? {
                    (kind, action) if kind == "Put" => put(state, action),
                    (kind, action) if kind == "Update" => update(state, action),
                    (kind, action) if kind == "Delete" => {
                        state.items.remove(&key_of(&action["Key"]));
                    }
                    _ => {}
                }
            }
            json!({})
        }
        "GenerateMac" => {
            json!({ "KeyId": input["KeyId"], "Mac": mac, "MacAlgorithm": "HMAC_SHA_256" })
        }
        "VerifyMac" => {
            json!({ "KeyId": input["KeyId"], "MacValid": true, "MacAlgorithm": "HMAC_SHA_256" })
        }
        "GetSecretValue" => {
            let arn = input["SecretId"].as_str()?;
            let password = state.passwords.get(arn)?;
            json!({
                "ARN": arn,
                "Name": "latchkey/bench",
                "VersionId": "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111",
                "VersionStages": ["AWSCURRENT"],
                "CreatedDate": 1_700_000_000,
                "SecretString": json!({ "username": "latchkey", "password": password }).to_string(),
            })
        }
        "GetParameter" => {
            let name = input["Name"].as_str()?;
            json!({ "Parameter": parameter(name, state.parameters.get(name)?) })
        }
        "GetParameters" => {
            let names = input["Names"].as_array()?.iter().filter_map(Value::as_str);
            let (mut found, mut unknown) = (Vec::new(), Vec::new());
            for name in names {
                match state.parameters.get(name) {
                    Some(text) => found.push(parameter(name, text)),
                    None => unknown.push(name),
                }
            }
            json!({ "Parameters": found, "InvalidParameters": unknown })
        }
        // Ten at a time, as AWS does
        // (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html).
        "GetParametersByPath" => {
            let path = input["Path"].as_str()?;
            let after = input["NextToken"].as_str().unwrap_or_default();
            let mut found: Vec<_> = state
                .parameters
                .iter()
                .filter(|(name, _)| name.starts_with(&format!("{path}/")) && name.as_str() > after)
                .map(|(name, text)| parameter(name, text))
                .take(11)
                .collect();
            match found.len() {
                11 => {
                    found.pop();
                    let last = found.last().map(|parameter| parameter["Name"].clone());
                    json!({ "Parameters": found, "NextToken": last })
                }
                _ => json!({ "Parameters": found }),
            }
        }
        "DescribeExecution" => json!({
            "executionArn": input["executionArn"],
            "stateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:latchkey",
            "status": "RUNNING",
            "startDate": 1_700_000_000,
        }),
        "ListSecrets" => json!({ "SecretList": [] }),
        "SendTaskSuccess" => json!({}),
        _ => return None,
    })
}

fn parameter(name: &str, text: &str) -> Value {
    json!({
        "Name": name,
        "Type": "String",
        "Value": text,
        "Version": 1,
        "LastModifiedDate": 1_700_000_000.123,
        "ARN": format!("arn:aws:ssm:eu-west-1:123456789012:parameter{name}"),
        "DataType": "text",
    })
}

fn key_of(key: &Value) -> Key {
    let part = |name: &str| key[name]["S"].as_str().unwrap_or_default().to_owned();
    (part("pk"), part("sk"))
}

fn put(state: &mut State, input: &Value) {
    state
        .items
        .insert(key_of(&input["Item"]), input["Item"].clone());
}

/// `SET a = :v, b = if_not_exists(b, :v)`, `ADD a :v` and `REMOVE a`: what the functions write.
fn update(state: &mut State, input: &Value) {
    let item = state
        .items
        .entry(key_of(&input["Key"]))
        .or_insert_with(|| input["Key"].clone());
    let expression = input["UpdateExpression"].as_str().unwrap_or_default();
    let name = |word: &str| {
        let word = word.trim();
        let named = input["ExpressionAttributeNames"][word].as_str();
        named.unwrap_or(word).to_owned()
    };
    let value = |word: &str| input["ExpressionAttributeValues"][word.trim()].clone();
    if let Some(added) = expression.strip_prefix("ADD ") {
        if let Some((attribute, by)) = added.split_once(' ') {
            let number = |value: &Value| value["N"].as_str()?.parse::<u64>().ok();
            let attribute = name(attribute);
            let sum =
                number(&item[&attribute]).unwrap_or(0) + number(&value(by)).unwrap_or_default();
            item[attribute] = json!({ "N": sum.to_string() });
        }
        return;
    }
    if let (Some(attribute), Some(item)) =
        (expression.strip_prefix("REMOVE "), item.as_object_mut())
    {
        item.remove(&name(attribute));
        return;
    }
    let set = expression.strip_prefix("SET ").unwrap_or_default();
    let clauses = set.replace("if_not_exists(", "?");
    for clause in clauses.split(", ").filter(|clause| clause.contains(" = ")) {
        let Some((attribute, right)) = clause.split_once(" = ") else {
            continue;
        };
        if right.starts_with('?') {
            // Its value stands after the next comma; which one is told by the names.
            let after = clauses
                .split(clause)
                .nth(1)
                .and_then(|rest| rest.trim_start_matches(", ").split(')').next());
            if item[name(attribute)].is_null() {
                item[name(attribute)] = value(after.unwrap_or_default());
            }
        } else {
            item[name(attribute)] = value(right);
        }
    }
}

/// How often each operation was called since the calls were last cleared.
pub(crate) fn counted(calls: &[String]) -> BTreeMap<&str, usize> {
    let names: BTreeSet<&str> = calls.iter().map(String::as_str).collect();
    names
        .into_iter()
        .map(|name| (name, calls.iter().filter(|call| *call == name).count()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_updates_that_the_functions_write() {
        let mut state = State::default();
        state.put("a", "b", &[("n_votes", "1".to_owned())]);
        let key = json!({ "pk": {"S": "a"}, "sk": {"S": "b"} });
        let values = json!({ ":one": {"N": "1"}, ":x": {"S": "x"}, ":y": {"S": "y"} });
        let names = json!({ "#status": "status" });
        for expression in [
            "ADD n_votes :one",
            "SET #status = :x, decision = :y",
            "SET #status = if_not_exists(#status, :y)",
            "SET refusal = if_not_exists(refusal, :y)",
            "SET gone = :x",
            "REMOVE gone",
        ] {
            update(
                &mut state,
                &json!({
                    "Key": key, "UpdateExpression": expression,
                    "ExpressionAttributeNames": names, "ExpressionAttributeValues": values,
                }),
            );
        }
        let item = &state.items[&("a".to_owned(), "b".to_owned())];
        assert_eq!(item["n_votes"], json!({ "N": "2" }));
        assert_eq!(item["status"], json!({ "S": "x" }));
        assert_eq!(item["decision"], json!({ "S": "y" }));
        assert_eq!(item["refusal"], json!({ "S": "y" }));
        assert_eq!(item["gone"], Value::Null);
    }

    #[test]
    fn calls_are_counted_by_operation() {
        let calls = ["GetItem", "Query", "GetItem"].map(str::to_owned);
        assert_eq!(
            counted(&calls),
            BTreeMap::from([("GetItem", 2), ("Query", 1)])
        );
    }
}
