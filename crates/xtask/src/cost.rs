//! What one window used of AWS, counted, and what that costs by AWS's list prices.

use std::collections::{BTreeMap, BTreeSet};

use aws_smithy_types::date_time::DateTime as Moment;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::error::{Error, Result, with_causes};
use crate::records::History;
use crate::stack::{Execution, Stack};

/// List prices of us-east-1 in US$, without free tiers.
mod price {
    /// A state transition: <https://aws.amazon.com/step-functions/pricing/>.
    pub(super) const TRANSITION: f64 = 0.025 / 1e3;
    /// A GB-second on arm64, and an invocation: <https://aws.amazon.com/lambda/pricing/>.
    pub(super) const GB_SECOND: f64 = 0.000_013_333_4;
    pub(super) const INVOCATION: f64 = 0.20 / 1e6;
    /// A write and a read unit, on demand: <https://aws.amazon.com/dynamodb/pricing/on-demand/>.
    pub(super) const WRITE_UNIT: f64 = 0.625 / 1e6;
    pub(super) const READ_UNIT: f64 = 0.125 / 1e6;
    /// A use of a key: <https://aws.amazon.com/kms/pricing/>.
    pub(super) const KEY_USE: f64 = 0.03 / 1e4;
    /// A message, and its delivery by mail: <https://aws.amazon.com/sns/pricing/>.
    pub(super) const MESSAGE: f64 = 0.50 / 1e6 + 2.00 / 1e5;
    /// A call, and an hour of a secret: <https://aws.amazon.com/secrets-manager/pricing/>.
    pub(super) const SECRET_CALL: f64 = 0.05 / 1e4;
    pub(super) const SECRET_HOUR: f64 = 0.40 / 730.0;
    /// A call of the front door or the approval page: <https://aws.amazon.com/api-gateway/pricing/>.
    pub(super) const HTTP_CALL: f64 = 1.00 / 1e6;
    /// A schedule that goes off: <https://aws.amazon.com/eventbridge/pricing/>.
    pub(super) const SCHEDULE: f64 = 1.00 / 1e6;
}

/// A schedule goes off beside every window, mostly when it is closed already: Take Request, Disable Login, Closed?,
/// Announce Outcome, All Messages Sent?, Done.
const TRANSITIONS_OF_THE_SCHEDULE: usize = 6;
/// Its two calls of functions, of which one has a whole processor for half a second.
const INVOCATIONS_OF_THE_SCHEDULE: f64 = 2.0;
const GB_SECONDS_OF_THE_SCHEDULE: f64 = 1.0;
/// A row has no more KB than this, facts excepted. What an update writes is its whole row.
const KB_OF_A_ROW: usize = 4;
/// Consistent reads, of 4 KB each; a few find more than one row.
const UNITS_OF_A_READ: f64 = 2.0;

/// What one window used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// State transitions of its execution, retries included.
    pub transitions: usize,
    /// Its functions, by their names in the template.
    pub functions: BTreeMap<String, Invocations>,
    /// The functions' calls of AWS, such as `dynamodb:GetItem`.
    pub calls: BTreeMap<String, usize>,
    /// Write units of the table (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html>).
    pub write_units: usize,
}

/// The invocations of one function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Invocations {
    /// How many.
    pub n: usize,
    /// How long all of them took together.
    pub millis: f64,
    /// The memory that it is given, in MB.
    pub memory_mb: f64,
}

impl Used {
    /// What it costs in US$, part by part.
    pub fn prices(&self) -> Vec<(&'static str, f64)> {
        let calls = |prefix: &str| -> f64 {
            let of_it = self
                .calls
                .iter()
                .filter(|(call, _)| call.starts_with(prefix));
            of_it.map(|(_, n)| *n as f64).sum()
        };
        let functions = self.functions.values();
        let gb_seconds: f64 = functions
            .clone()
            .map(|it| it.millis / 1e3 * it.memory_mb / 1024.0)
            .sum();
        let invocations: f64 = functions.map(|it| it.n as f64).sum();
        let http = ["FrontDoor", "Approval"]
            .map(|name| self.functions.get(name).map_or(0.0, |it| it.n as f64));
        let transitions = (self.transitions + TRANSITIONS_OF_THE_SCHEDULE) as f64;
        let reads = calls("dynamodb:GetItem") + calls("dynamodb:Query");
        vec![
            ("state transitions", transitions * price::TRANSITION),
            (
                "functions",
                (gb_seconds + GB_SECONDS_OF_THE_SCHEDULE) * price::GB_SECOND
                    + (invocations + INVOCATIONS_OF_THE_SCHEDULE) * price::INVOCATION,
            ),
            (
                "table",
                self.write_units as f64 * price::WRITE_UNIT
                    + reads * UNITS_OF_A_READ * price::READ_UNIT,
            ),
            ("messages", calls("sns:Publish") * price::MESSAGE),
            ("keys", calls("kms:") * price::KEY_USE),
            (
                "logins and schedule",
                calls("secretsmanager:") * price::SECRET_CALL
                    + http.into_iter().sum::<f64>() * price::HTTP_CALL
                    + price::SCHEDULE,
            ),
        ]
    }

    /// What its own secret costs for an hour, if it has one.
    pub fn price_of_a_secret_hour(&self) -> f64 {
        match self.calls.get("secretsmanager:CreateSecret") {
            Some(_) => price::SECRET_HOUR,
            None => 0.0,
        }
    }

    /// For machines.
    pub fn as_json(&self) -> Value {
        let rounded = |usd: f64| (usd * 1e7).round() / 1e7;
        let functions: serde_json::Map<String, Value> = self
            .functions
            .iter()
            .map(|(name, it)| {
                let json = json!({ "n": it.n, "ms": it.millis.round(), "memory_mb": it.memory_mb });
                (name.clone(), json)
            })
            .collect();
        let prices: serde_json::Map<String, Value> = self
            .prices()
            .into_iter()
            .map(|(part, usd)| (part.to_owned(), json!(rounded(usd))))
            .collect();
        json!({
            "transitions": self.transitions,
            "transitions_of_the_schedule": TRANSITIONS_OF_THE_SCHEDULE,
            "functions": functions,
            "aws_calls": self.calls,
            "write_units": self.write_units,
            "usd": prices,
            "usd_total": rounded(self.prices().iter().map(|(_, usd)| usd).sum()),
            "usd_secret_hour": rounded(self.price_of_a_secret_hour()),
        })
    }

    fn count_call(&mut self, event: &Value) {
        let source = event["eventSource"].as_str().unwrap_or_default();
        let service = source.split('.').next().unwrap_or_default();
        let asked = &event["requestParameters"];
        // Calls of services with the query protocol name their action in the form, and REST calls in their path only.
        let action = asked["Action"].as_str().or(event["eventName"].as_str());
        let name = action.unwrap_or_default();
        self.write_units += match name {
            "PutItem" => kilobytes(&asked["Item"]),
            "UpdateItem" => units_of_an_update(asked),
            "TransactWriteItems" => {
                let items = asked["TransactItems"].as_array().into_iter().flatten();
                let units = items.map(|item| match item["Put"].as_object() {
                    Some(put) => kilobytes(&put["Item"]),
                    None => units_of_an_update(&item["Update"]),
                });
                // A transaction prepares each write, and then makes it.
                2 * units.sum::<usize>()
            }
            "DeleteItem" => KB_OF_A_ROW,
            _ => 0,
        };
        *self.calls.entry(format!("{service}:{name}")).or_default() += 1;
    }
}

fn kilobytes(item: &Value) -> usize {
    item.to_string().len().div_ceil(1024)
}

fn units_of_an_update(update: &Value) -> usize {
    kilobytes(&update["ExpressionAttributeValues"]).max(KB_OF_A_ROW)
}

/// State transitions: every state that was entered, and every try after the first.
pub fn transitions(history: &History) -> usize {
    let tried: BTreeSet<_> = history
        .calls
        .iter()
        .map(|call| (call.state.as_str(), call.entered_at))
        .collect();
    history.states.len() + history.calls.len() - tried.len()
}

impl Stack {
    /// What `execution` and everything else on this stack used since `since`: nothing else may go on there.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn used(&self, execution: &Execution, since: DateTime<Utc>) -> Result<Used> {
        let mut used = Used {
            transitions: transitions(&self.history(execution).await?),
            functions: self.invocations(since).await?,
            ..Used::default()
        };
        for event in self.calls_of_functions(since).await? {
            used.count_call(&event);
        }
        Ok(used)
    }

    /// By the lines that Lambda writes at the end of every invocation.
    async fn invocations(&self, since: DateTime<Utc>) -> Result<BTreeMap<String, Invocations>> {
        let since = since.timestamp_millis().to_string();
        let mut functions = BTreeMap::new();
        let groups = self.aws().aws(&["logs", "describe-log-groups"]).await?;
        for group in groups["logGroups"].as_array().into_iter().flatten() {
            let name = group["logGroupName"].as_str().unwrap_or_default();
            let asked = ["logs", "filter-log-events", "--log-group-name", name];
            let asked = [&asked[..], &["--start-time", &since]].concat();
            let events = self.aws().aws(&asked).await?;
            let mut all = Invocations::default();
            for event in events["events"].as_array().into_iter().flatten() {
                let line = event["message"].as_str().unwrap_or_default();
                if let Some((millis, memory_mb)) = report(line) {
                    all.n += 1;
                    all.millis += millis;
                    all.memory_mb = memory_mb;
                }
            }
            if all.n > 0 {
                functions.insert(function_of(name), all);
            }
        }
        Ok(functions)
    }

    /// CloudTrail's events of calls that roles made.
    async fn calls_of_functions(&self, since: DateTime<Utc>) -> Result<Vec<Value>> {
        let client = aws_sdk_cloudtrail::Client::new(self.root_config());
        let (mut until, mut seen, mut events) = (None, BTreeSet::new(), Vec::new());
        loop {
            let page = client
                .lookup_events()
                .start_time(Moment::from_millis(since.timestamp_millis()))
                .set_end_time(until)
                .send()
                .await
                .map_err(|error| Error::Aws {
                    action: "look up what was called".to_owned(),
                    reason: with_causes(&error),
                })?;
            let n_before = seen.len();
            // The newest first; the local AWS has no pages, so the next ones are those before the last.
            for event in page.events() {
                until = event.event_time().copied().or(until);
                if !seen.insert(event.event_id().unwrap_or_default().to_owned()) {
                    continue;
                }
                let text = event.cloud_trail_event().unwrap_or_default();
                let event: Value = serde_json::from_str(text).unwrap_or_default();
                let caller = &event["userIdentity"]["arn"];
                if caller
                    .as_str()
                    .unwrap_or_default()
                    .contains(":assumed-role/")
                {
                    events.push(event);
                }
            }
            if seen.len() == n_before {
                return Ok(events);
            }
        }
    }
}

/// Billed milliseconds and memory in MB of a line such as `REPORT RequestId: …, Duration: 12 ms, Billed Duration: 12 ms,
/// Memory Size: 128 MB, Max Memory Used: 14 MB`, with tabs for commas.
fn report(line: &str) -> Option<(f64, f64)> {
    let fields = line.strip_prefix("REPORT ")?;
    let number = |name: &str| {
        let field = fields
            .split('\t')
            .find_map(|field| field.strip_prefix(name))?;
        field.split(' ').next()?.parse().ok()
    };
    Some((number("Billed Duration: ")?, number("Memory Size: ")?))
}

/// `latchkey-EnableLoginLogs-1a2b` is EnableLogin's.
fn function_of(log_group: &str) -> String {
    let name = log_group
        .split(['-', '/'])
        .find_map(|word| word.strip_suffix("Logs"));
    name.unwrap_or(log_group).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_line_is_read() {
        let line = "REPORT RequestId: x\tDuration: 12 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB\tMax Memory Used: 14 MB";
        assert_eq!(report(line), Some((13.0, 128.0)));
        assert_eq!(report("START RequestId: x"), None);
        assert_eq!(function_of("latchkey-NotifyLogs-1"), "Notify");
        assert_eq!(
            function_of("/aws/cloudformation/latchkey/NotifyLogs"),
            "Notify"
        );
    }

    #[test]
    fn a_window_costs_what_its_parts_cost() {
        let mut used = Used {
            transitions: 21,
            ..Used::default()
        };
        let functions = [
            ("Approval", 2, 300.0, 128.0),
            ("DisableLogin", 1, 3000.0, 1792.0),
        ];
        for (name, n, millis, memory_mb) in functions {
            let invocations = Invocations {
                n,
                millis,
                memory_mb,
            };
            used.functions.insert(name.to_owned(), invocations);
        }
        let event = |source: &str, name: &str, asked: Value| json!({ "eventSource": source, "eventName": name, "requestParameters": asked });
        let line = json!({ "Put": { "Item": { "line": { "S": "x".repeat(1500) } } } });
        let row = json!({ "Update": { "ExpressionAttributeValues": { ":a": { "S": "y" } } } });
        used.count_call(&event(
            "dynamodb.amazonaws.com",
            "TransactWriteItems",
            json!({ "TransactItems": [line, row] }),
        ));
        used.count_call(&event("sns.amazonaws.com", "Publish", Value::Null));

        assert_eq!(used.write_units, 2 * (2 + 4));
        let json = used.as_json();
        assert_eq!(json["usd"]["state transitions"], 0.000_675);
        assert_eq!(json["usd"]["messages"], 0.000_020_5);
        assert_eq!(json["aws_calls"]["dynamodb:TransactWriteItems"], 1);
        assert_eq!(json["usd_secret_hour"], 0.0);
        let functions = json["usd"]["functions"].as_f64().unwrap();
        assert!((0.000_08..0.000_09).contains(&functions), "{functions}");
    }
}
