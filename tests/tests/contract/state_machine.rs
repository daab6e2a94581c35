//! The state machines: errors, timeouts, payloads, and the way that everything takes to Disable Login.

use std::collections::{BTreeMap, BTreeSet};

use access_contract::ErrorName;
use access_contract::payload;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::repository::{
    STATE_MACHINES, access_window, close_window, read, state_machine, state_machines, template,
    texts, visit_objects,
};

/// What Lambda and Step Functions themselves report, and nothing of ours:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
const ERRORS_OF_AWS: [&str; 9] = [
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "States.Timeout",
    "States.ALL",
];

/// Only reconcile has these, and no state machine calls it.
const NEVER_IN_A_STATE_MACHINE: [ErrorName; 1] = [ErrorName::ExecutionUnavailable];

/// An execution with more events fails, and nothing could catch that:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const MAX_EVENTS: u64 = 25_000;

/// How long a slow message may hold up the end of a window.
const MAX_HOLD_UP_SECONDS: u64 = 35;

fn states(machine: &Value) -> &Map<String, Value> {
    machine["States"].as_object().unwrap()
}

fn tasks(machine: &Value) -> impl Iterator<Item = (&String, &Value)> {
    states(machine)
        .iter()
        .filter(|(_, state)| state["Type"] == "Task")
}

fn objects<'a>(state: &'a Value, field: &str) -> &'a [Value] {
    state[field].as_array().map_or(&[], Vec::as_slice)
}

/// Where a state may go next, whatever happens in it.
fn ways_out(state: &Value) -> BTreeSet<String> {
    let mut next: BTreeSet<String> = ["Next", "Default"]
        .iter()
        .filter_map(|field| state[*field].as_str())
        .map(str::to_owned)
        .collect();
    for field in ["Choices", "Catch"] {
        next.extend(
            objects(state, field)
                .iter()
                .map(|way| way["Next"].as_str().unwrap().to_owned()),
        );
    }
    next
}

/// The functions that a task calls: one, or one for each kind of place.
fn functions_of(state: &Value) -> Vec<&str> {
    let name = state["Arguments"]["FunctionName"].as_str().unwrap();
    let functions: Vec<_> = name
        .split("${")
        .skip(1)
        .map(|part| part.split_once("FunctionArn}").unwrap().0)
        .collect();
    assert!(!functions.is_empty(), "{name}");
    functions
}

/// The states that an execution may end in after `from`, if `barrier` were not there.
fn ends_around(machine: &Value, from: &str, barrier: &str) -> BTreeSet<String> {
    let (mut seen, mut todo, mut ends) = (BTreeSet::new(), vec![from.to_owned()], BTreeSet::new());
    while let Some(name) = todo.pop() {
        if name == barrier || !seen.insert(name.clone()) {
            continue;
        }
        let state = &machine["States"][&name];
        let ways = ways_out(state);
        // A Task without a Catch for everything, and a Choice without a Default, end the execution too.
        let catches_everything = objects(state, "Catch")
            .iter()
            .any(|catch| texts(&catch["ErrorEquals"]) == ["States.ALL"]);
        let may_break = match state["Type"].as_str().unwrap() {
            "Task" => !catches_everything,
            "Choice" => state["Default"].is_null(),
            _ => false,
        };
        if ways.is_empty() || may_break {
            ends.insert(name);
        }
        todo.extend(ways);
    }
    ends
}

#[test]
fn from_enable_login_every_path_passes_disable_login() {
    assert_eq!(
        ends_around(&access_window(), "Enable Login", "Disable Login"),
        BTreeSet::new()
    );
}

#[test]
fn the_graph_test_sees_every_way_around_disable_login() {
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut machine = access_window();
        change(&mut machine["States"]);
        !ends_around(&machine, "Enable Login", "Disable Login").is_empty()
    };
    assert!(broken(
        &|states| states["Enable Login"]["Catch"][0]["Next"] = json!("Announce Failed")
    ));
    assert!(broken(&|states| states["Enable Login"]["Catch"] = json!([])));
    assert!(broken(
        &|states| states["Opened?"]["Default"] = json!("Announce Failed")
    ));
    assert!(broken(&|states| states["Opened?"]["Default"] = Value::Null));
    assert!(broken(
        &|states| states["Opened?"]["Choices"][2]["Next"] = json!("Announce Outcome")
    ));
    assert!(broken(
        &|states| states["Announce Opened"]["Catch"][0]["Next"] = json!("Messages Not Sent")
    ));
    assert!(broken(
        &|states| states["Announce Opened"]["Catch"] = Value::Null
    ));
    assert!(broken(
        &|states| states["Wait Until End"]["Next"] = json!("Done")
    ));
}

#[test]
fn a_failing_disable_login_is_tried_again_until_it_ends_in_close_failed() {
    for machine in state_machines() {
        let after_failure =
            ways_out(&json!({"Catch": machine["States"]["Disable Login"]["Catch"]}));
        assert_eq!(after_failure, BTreeSet::from(["Keep Closing?".to_owned()]));
        let ends = ends_around(&machine, "Keep Closing?", "Disable Login");
        assert_eq!(ends, BTreeSet::from(["Close Failed".to_owned()]));
    }
}

#[test]
fn closing_a_window_always_calls_disable_login_and_succeeds_only_on_its_word() {
    let machine = close_window();
    let start = machine["StartAt"].as_str().unwrap();
    assert_eq!(
        ends_around(&machine, start, "Disable Login"),
        BTreeSet::new()
    );
    let closed = &machine["States"]["Closed?"];
    assert_eq!(closed["Default"], "Keep Closing?");
    let on = |outcome: &str| {
        let named = format!("'{outcome}'");
        let choice = objects(closed, "Choices")
            .iter()
            .find(|choice| choice["Condition"].as_str().unwrap().contains(&named))
            .unwrap_or_else(|| panic!("Closed? does not know {outcome}"));
        choice["Next"].as_str().unwrap().to_owned()
    };
    assert_eq!(on("closed"), "Announce Outcome");
    assert_eq!(on("ended_role_still_open"), "Announce Outcome");
    assert_eq!(on("cancelled"), "Announce Outcome");
    assert_eq!(on("nothing_to_close"), "Done");
    assert_eq!(on("not_yet"), "Wait Until End");
    assert_eq!(on("ending"), "Wait Until End");
    assert_eq!(on("elsewhere"), "Disable Login");
}

#[test]
fn what_was_never_armed_ends_as_refused_or_failed() {
    let machine = access_window();
    for choice in objects(&machine["States"]["Closed?"], "Choices") {
        let condition = choice["Condition"].as_str().unwrap();
        let not_as_it_should = condition.contains("$failure != ''")
            || condition.contains("$outcome.outcome in ['refused', 'cancelled']");
        assert_eq!(
            condition.contains("'nothing_to_close'"),
            not_as_it_should,
            "{condition}"
        );
    }
}

#[test]
fn both_machines_close_and_announce_alike() {
    let [access_window, close_window] = state_machines();
    for name in [
        "Disable Login",
        "Announce Close Failing",
        "Announce Outcome",
        "Wait Before Closing Again",
    ] {
        for field in ["TimeoutSeconds", "Retry", "Seconds"] {
            assert_eq!(
                access_window["States"][name][field], close_window["States"][name][field],
                "{name}: {field}"
            );
        }
    }
}

#[test]
fn every_state_is_reached_and_every_next_exists() {
    for machine in state_machines() {
        let mut reached = BTreeSet::new();
        let mut todo = vec![machine["StartAt"].as_str().unwrap().to_owned()];
        while let Some(name) = todo.pop() {
            let state = states(&machine)
                .get(&name)
                .unwrap_or_else(|| panic!("there is no state {name:?}"));
            if reached.insert(name) {
                todo.extend(ways_out(state));
            }
        }
        assert_eq!(reached, states(&machine).keys().cloned().collect());
    }
}

#[test]
fn every_task_has_a_deadline_retries_and_a_catch_for_everything() {
    for machine in state_machines() {
        assert!(
            machine.get("TimeoutSeconds").is_none(),
            "it would cut off Disable Login, and nothing could catch it"
        );
        tasks(&machine).for_each(|(name, task)| assert_guarded(name, task));
    }
}

fn assert_guarded(name: &str, task: &Value) {
    assert!(
        !task["TimeoutSeconds"].is_null(),
        "{name}: no TimeoutSeconds"
    );
    let catchers = objects(task, "Catch");
    let (last, named) = catchers
        .split_last()
        .unwrap_or_else(|| panic!("{name}: no Catch"));
    assert_eq!(
        texts(&last["ErrorEquals"]),
        ["States.ALL"],
        "{name}: the last Catch takes everything, alone"
    );
    assert!(
        named
            .iter()
            .all(|catch| !texts(&catch["ErrorEquals"]).contains(&"States.ALL")),
        "{name}"
    );
    assert!(!objects(task, "Retry").is_empty(), "{name}: no Retry");
    for retrier in objects(task, "Retry") {
        for field in [
            "IntervalSeconds",
            "BackoffRate",
            "MaxAttempts",
            "MaxDelaySeconds",
        ] {
            assert!(
                retrier[field].is_number(),
                "{name}: a retry without {field}"
            );
        }
        assert_eq!(retrier["JitterStrategy"], "FULL", "{name}");
        for of_lambda in &ERRORS_OF_AWS[..7] {
            assert!(
                texts(&retrier["ErrorEquals"]).contains(of_lambda),
                "{name} does not retry {of_lambda}"
            );
        }
    }
    if task["Resource"]
        .as_str()
        .unwrap()
        .ends_with(".waitForTaskToken")
    {
        let timeout = named
            .iter()
            .any(|catch| texts(&catch["ErrorEquals"]).contains(&"States.Timeout"));
        assert!(
            timeout,
            "{name} waits for people, and does not say what happens when they do not come"
        );
    }
}

#[test]
fn tasks_and_choices_say_why_with_their_fields_in_one_order() {
    let order = [
        "Type",
        "Comment",
        "Resource",
        "Arguments",
        "TimeoutSeconds",
        "Retry",
        "Catch",
        "Choices",
        "Timestamp",
        "Seconds",
        "Error",
        "Cause",
        "Assign",
        "Output",
        "Next",
        "Default",
    ];
    for (_, file) in STATE_MACHINES {
        let text = read(file);
        let machine = state_machine(file);
        for (name, state) in states(&machine) {
            assert!(
                state["Comment"]
                    .as_str()
                    .is_some_and(|comment| comment.ends_with('.')),
                "{name}: say why"
            );
            // serde_json sorts keys, so the order is read from the text: fields of a state stand six spaces in.
            let start = text
                .find(&format!("\n    {name:?}: {{"))
                .unwrap_or_else(|| panic!("{name} is not on a line of its own"));
            let lines = text[start + 1..]
                .lines()
                .skip(1)
                .take_while(|line| !line.starts_with("    }"));
            let fields = lines
                .filter_map(|line| line.strip_prefix("      \""))
                .map(|line| line.split('"').next().unwrap());
            let places: Vec<_> = fields
                .map(|field| {
                    order
                        .iter()
                        .position(|known| *known == field)
                        .unwrap_or_else(|| panic!("{name}: {field}?"))
                })
                .collect();
            assert!(
                places.is_sorted(),
                "{name}: fields stand in the order {order:?}"
            );
        }
    }
}

#[test]
fn a_function_is_over_before_its_task() {
    let template = template();
    for machine in state_machines() {
        for (name, task) in tasks(&machine) {
            // Await Approval waits for people, and the others must not hold up the start or the end of the window.
            if ["Await Approval", "Announce Approved", "Announce Opened"].contains(&name.as_str()) {
                continue;
            }
            for function in functions_of(task) {
                let function =
                    &template["Resources"][format!("{function}Function")]["Properties"]["Timeout"];
                assert!(
                    task["TimeoutSeconds"].as_u64() > function.as_u64(),
                    "{name}: a cut-off task would hide why the function was slow"
                );
            }
        }
    }
}

#[test]
fn retries_name_exactly_the_errors_that_may_heal() {
    let machines = state_machines();
    let (mut retried, mut caught) = (BTreeSet::new(), BTreeSet::new());
    for (_, task) in machines.iter().flat_map(tasks) {
        let names = |field: &str| {
            objects(task, field)
                .iter()
                .flat_map(|rule| texts(&rule["ErrorEquals"]))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        retried.extend(names("Retry"));
        caught.extend(names("Catch"));
    }
    for name in ErrorName::ALL {
        if NEVER_IN_A_STATE_MACHINE.contains(&name) {
            continue;
        }
        let (retried, caught) = (retried.remove(name.as_str()), caught.remove(name.as_str()));
        assert_eq!(retried, name.retryable(), "{name}: is it retried?");
        assert_eq!(
            caught,
            !name.retryable(),
            "{name}: is it caught by name, as one that no retry heals?"
        );
    }
    for name in retried.union(&caught) {
        assert!(
            ERRORS_OF_AWS.contains(&name.as_str()),
            "nothing returns the error {name}"
        );
    }
}

/// What starts the machine that closes: Scheduler and reconcile with a request, EventBridge with an execution.
fn closing_inputs() -> [Value; 3] {
    let template = template();
    let transformer =
        &template["Resources"]["ExecutionEnded"]["Properties"]["Targets"][0]["InputTransformer"];
    let event = json!({"detail": {
        "executionArn": "arn:aws:states:us-east-1:123456789012:execution:m:e",
        "startDate": 1_767_225_600_000_i64,
        "status": "ABORTED"
    }});
    let mut ended = transformer["InputTemplate"].as_str().unwrap().to_owned();
    for (name, path) in transformer["InputPathsMap"].as_object().unwrap() {
        let pointer = path.as_str().unwrap().replace(['$', '.'], "/");
        let value = event
            .pointer(&pointer[1..])
            .unwrap_or_else(|| panic!("the event has no {path}"));
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        ended = ended.replace(&format!("<{name}>"), &text);
    }
    [
        json!({"version": 1, "request_id": "r-0123456789abcdef", "action": "close"}),
        json!({"version": 1, "request_id": "r-0123456789abcdef", "action": "close", "place": "account"}),
        serde_json::from_str(&ended).unwrap_or_else(|error| panic!("{ended}: {error}")),
    ]
}

/// A payload as a function gets it, with examples in place of expressions.
fn example(payload: &Value) -> Value {
    match payload {
        Value::String(text) => match text.as_str() {
            "{% $request_id %}" => json!("r-0123456789abcdef"),
            "{% $close_action %}" => json!("close"),
            "{% $outcome.outcome %}" => json!("closed"),
            "{% $states.input %}" => json!({"target": "orders"}),
            "{% $states.context.Task.Token %}" => json!("a token"),
            "{% $states.context.Execution.Id %}" => {
                json!("arn:aws:states:us-east-1:123456789012:execution:m:e")
            }
            "{% $states.context.Execution.StartTime %}" => json!("2026-01-01T00:00:00.000Z"),
            _ if text.starts_with("{%") => panic!("give an example of {text}"),
            _ => payload.clone(),
        },
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (name.clone(), example(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn assert_reads<T: DeserializeOwned>(name: &str, payload: Value) {
    if let Err(error) = serde_json::from_value::<T>(payload.clone()) {
        panic!("{name}: the function does not take {payload}: {error}");
    }
}

#[test]
fn every_function_takes_its_payloads() {
    let machines = state_machines();
    for (name, task) in machines.iter().flat_map(tasks) {
        let payload = &task["Arguments"]["Payload"];
        if payload == "{% $states.context.Execution.Input %}" {
            assert_eq!(
                functions_of(task),
                ["RevokePolicy", "DisableLogin"],
                "{name}"
            );
            for input in closing_inputs() {
                assert_reads::<payload::DisableLogin>(name, input.clone());
                assert_reads::<payload::RevokePolicy>(name, input);
            }
            continue;
        }
        let payload = example(payload);
        for function in functions_of(task) {
            let payload = payload.clone();
            match function {
                "ComputeWait" => assert_reads::<payload::ComputeWait>(name, payload),
                "Notify" => assert_reads::<payload::Notify>(name, payload),
                "Approval" => assert_reads::<payload::Approval>(name, payload),
                "ConfirmRequester" => assert_reads::<payload::Step>(name, payload),
                "EnableLogin" | "GrantPolicy" => {
                    assert_reads::<payload::EnableLogin>(name, payload)
                }
                "DisableLogin" => assert_reads::<payload::DisableLogin>(name, payload),
                "RevokePolicy" => assert_reads::<payload::RevokePolicy>(name, payload),
                other => panic!("{name} calls {other}"),
            }
        }
    }
}

#[test]
fn the_place_of_a_request_picks_the_functions_that_open_and_close_it() {
    for machine in state_machines() {
        for (name, task) in tasks(&machine) {
            let function = &task["Arguments"]["FunctionName"];
            let expected = match name.as_str() {
                "Plan Window" | "Preflight" | "Enable Login" => {
                    "{% $place = 'account' ? '${GrantPolicyFunctionArn}' : '${EnableLoginFunctionArn}' %}"
                }
                "Disable Login" => {
                    "{% $place = 'account' ? '${RevokePolicyFunctionArn}' : '${DisableLoginFunctionArn}' %}"
                }
                _ => {
                    assert_eq!(functions_of(task).len(), 1, "{name}");
                    continue;
                }
            };
            assert_eq!(function, expected, "{name}");
        }
    }
    assert_eq!(
        json!([payload::PlaceName::Account, payload::PlaceName::Database]),
        json!(["account", "database"])
    );
}

#[test]
fn the_end_of_an_execution_is_told_by_its_arn_and_start() {
    // compute-wait makes the request's id of the same two, from the context object: the instants must have one unit.
    let [_, _, ended] = closing_inputs();
    let payload: payload::DisableLogin = serde_json::from_value(ended).unwrap();
    let payload::DisableLogin::ExecutionEnded {
        execution_arn,
        started_at_millis,
        status,
        ..
    } = payload
    else {
        panic!("{payload:?}");
    };
    assert_eq!(
        (execution_arn.as_str(), started_at_millis, status.as_str()),
        (
            "arn:aws:states:us-east-1:123456789012:execution:m:e",
            1_767_225_600_000,
            "ABORTED"
        )
    );
}

#[test]
fn computed_words_of_payloads_are_in_the_contract() {
    let machine = json!(state_machines());
    visit_objects(&machine, &mut |object| {
        if let Some(action) = object.get("close_action") {
            let payload =
                json!({"version": 1, "request_id": "r-0123456789abcdef", "action": action});
            assert_reads::<payload::DisableLogin>("Disable Login", payload);
        }
        if let Some(Value::String(event)) = object.get("outcome")
            && !event.starts_with("{%")
            && !["accepted", "nothing_to_close"].contains(&event.as_str())
        {
            assert_reads::<payload::Event>("Announce Outcome", json!(event));
        }
    });
}

/// The answers of the functions by their first word, and what else is in them.
fn outcomes() -> BTreeMap<String, BTreeSet<String>> {
    use payload::Outcome;
    let text = String::new;
    let request_id = serde_json::from_value(json!("r-0123456789abcdef")).unwrap();
    [
        Outcome::Accepted {
            request_id,
            decide_within_seconds: 1,
            place: payload::PlaceName::Account,
            opens_ahead_seconds: 1,
        },
        Outcome::TakenForDryRun {
            request_id: serde_json::from_value(json!("r-0123456789abcdef")).unwrap(),
            place: payload::PlaceName::Account,
        },
        Outcome::Refused { faults: Vec::new() },
        Outcome::Ready { break_glass: false },
        Outcome::Asked { n_asked: 1 },
        Outcome::Announced,
        Outcome::Waiting,
        Outcome::Pending {
            decide_within_seconds: 1,
        },
        Outcome::Approved {
            start: text(),
            end: text(),
        },
        Outcome::Rejected,
        Outcome::Expired,
        Outcome::Cancelled,
        Outcome::Confirmed,
        Outcome::NotYetConfirmed,
        Outcome::Opened { end: text() },
        Outcome::NotYet { wait_until: text() },
        Outcome::Ending { wait_until: text() },
        Outcome::Elsewhere {
            place: payload::PlaceName::Account,
        },
        Outcome::Closed,
        Outcome::NothingToClose,
        Outcome::EndedRoleStillOpen { open_until: text() },
    ]
    .into_iter()
    .map(|outcome| {
        let answer = payload::Answer {
            request_id: Some(serde_json::from_value(json!("r-0123456789abcdef")).unwrap()),
            ..payload::Answer::from(outcome)
        };
        let answer = serde_json::to_value(answer).unwrap();
        let fields = answer.as_object().unwrap().keys().cloned().collect();
        (answer["outcome"].as_str().unwrap().to_owned(), fields)
    })
    .collect()
}

#[test]
fn choices_know_only_outcomes_of_the_contract() {
    let outcomes = outcomes();
    let text = json!(state_machines()).to_string();
    for part in text.split(".outcome = '").skip(1) {
        let outcome = part.split('\'').next().unwrap();
        assert!(
            outcomes.contains_key(outcome),
            "no function answers {outcome}"
        );
    }
    for list in text.split(".outcome in [").skip(1) {
        for outcome in list.split(']').next().unwrap().split(", ") {
            assert!(
                outcomes.contains_key(outcome.trim_matches('\'')),
                "no function answers {outcome}"
            );
        }
    }
    for part in text.split("$states.result.Payload.").skip(1) {
        let field: String = part
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        assert!(
            outcomes.values().any(|fields| fields.contains(&field)),
            "no answer has a field {field}"
        );
    }
}

/// The most events that one pass through a Task writes: entered, exited, and for each try scheduled, started,
/// submitted (if it waits for a callback) and failed.
fn events_of(task: &Value) -> u64 {
    let of_a_try = if task["Resource"]
        .as_str()
        .unwrap()
        .ends_with(".waitForTaskToken")
    {
        4
    } else {
        3
    };
    2 + of_a_try * (1 + attempts_of(task))
}

fn attempts_of(task: &Value) -> u64 {
    objects(task, "Retry")
        .iter()
        .map(|retrier| retrier["MaxAttempts"].as_u64().unwrap())
        .sum()
}

/// The number that follows `before` in the condition of a choice.
fn limit(machine: &Value, choice: &str, before: &str) -> u64 {
    let conditions = machine["States"][choice].to_string();
    let (_, after) = conditions
        .split_once(before)
        .unwrap_or_else(|| panic!("{choice} does not compare {before}"));
    after
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap()
}

/// Entered and exited.
const EVENTS_OF_CHOICE_OR_WAIT: u64 = 2;

/// The most events of Disable Login with all its rounds, and of every state once.
fn events_of_closing(machine: &Value) -> u64 {
    let state = |name: &str| &machine["States"][name];
    let close = events_of(state("Disable Login")) + EVENTS_OF_CHOICE_OR_WAIT;
    let early =
        limit(machine, "Closed?", "$n_early_wakes <= ") * (close + EVENTS_OF_CHOICE_OR_WAIT);
    let rounds = limit(machine, "Keep Closing?", "$n_close_rounds >= ");
    assert!(
        rounds * 60 > 12 * 60 * 60,
        "a database may be down for half a day"
    );
    let pages = rounds / limit(machine, "Keep Closing?", "$n_close_rounds % ") + 1;
    let closing = rounds * (close + 2 * EVENTS_OF_CHOICE_OR_WAIT)
        + pages * events_of(state("Announce Close Failing"));
    let once: u64 = tasks(machine).map(|(_, task)| events_of(task)).sum::<u64>()
        + 2 * states(machine).len() as u64;
    early + closing + once
}

#[test]
fn an_execution_never_runs_out_of_events() {
    let machine = access_window();
    let state = |name: &str| &machine["States"][name];
    let settling = limit(&machine, "Approved?", "$n_settle_rounds < ")
        * (events_of(state("Await Approval"))
            + events_of(state("Settle Decision"))
            + EVENTS_OF_CHOICE_OR_WAIT);
    let opening = limit(&machine, "Opened?", "$n_early_wakes < ")
        * (events_of(state("Enable Login")) + 2 * EVENTS_OF_CHOICE_OR_WAIT);
    let confirming = limit(&machine, "Requester Confirmed?", "$n_confirm_rounds < ")
        * (events_of(state("Confirm Requester")) + 2 * EVENTS_OF_CHOICE_OR_WAIT);
    let most = settling + confirming + opening + events_of_closing(&machine);
    assert!(most < MAX_EVENTS, "{most} events at worst");

    let most = events_of_closing(&close_window());
    assert!(most < MAX_EVENTS, "{most} events at worst");
}

/// How long a task takes at worst, with all its tries.
fn most_seconds(task: &Value) -> u64 {
    let tries = 1 + attempts_of(task);
    let waits: u64 = objects(task, "Retry")
        .iter()
        .map(|retrier| {
            retrier["MaxDelaySeconds"].as_u64().unwrap() * retrier["MaxAttempts"].as_u64().unwrap()
        })
        .sum();
    tries * task["TimeoutSeconds"].as_u64().unwrap() + waits
}

#[test]
fn a_slow_message_hardly_holds_up_the_end_of_the_window() {
    let machine = access_window();
    let most = most_seconds(&machine["States"]["Announce Opened"]);
    assert!(most <= MAX_HOLD_UP_SECONDS, "{most} seconds at worst");
}

#[test]
fn a_slow_message_never_holds_up_the_start_of_the_window() {
    let machine = access_window();
    let most = most_seconds(&machine["States"]["Announce Approved"]);
    let at_least = limit(
        &machine,
        "Requester Confirmed?",
        "$toMillis($opens_at) - $millis() > ",
    );
    assert!(1000 * most < at_least, "{most} seconds at worst");
}

#[test]
fn what_travels_between_states_is_an_id_and_instants() {
    let machines = json!(state_machines());
    let mut variables = BTreeSet::new();
    visit_objects(&machines, &mut |object| {
        if let Some(Value::Object(assigned)) = object.get("Assign") {
            variables.extend(assigned.keys().cloned());
        }
    });
    let expected = [
        "request_id",
        "place",
        "opens_ahead_millis",
        "decide_by_millis",
        "opens_at",
        "closes_at",
        "close_action",
        "outcome",
        "failure",
        "close_failure",
        "unsent",
        "n_settle_rounds",
        "n_confirm_rounds",
        "n_early_wakes",
        "n_close_rounds",
    ];
    assert_eq!(variables, expected.map(str::to_owned).into());
}

/// What the README says about each machine: from its diagram to the next.
fn readme_by_machine() -> Vec<(Value, String)> {
    let readme = read("statemachine/README.md");
    let parts: Vec<&str> = readme.split("```mermaid").skip(1).collect();
    assert_eq!(parts.len(), STATE_MACHINES.len(), "one diagram for each");
    let machines = state_machines().into_iter();
    machines.zip(parts.into_iter().map(str::to_owned)).collect()
}

#[test]
fn the_readme_names_every_state_and_every_error() {
    for (machine, part) in readme_by_machine() {
        for name in states(&machine).keys() {
            assert!(
                part.contains(&format!("| {name} |")),
                "the table of states has no row for {name}"
            );
        }
    }
    let readme = read("statemachine/README.md");
    for name in ErrorName::ALL {
        assert!(
            readme.contains(&format!("| `{name}` |")),
            "the table of errors has no row for {name}"
        );
    }
}

#[test]
fn each_diagram_in_the_readme_is_the_graph() {
    for (machine, part) in readme_by_machine() {
        let drawn = arrows(part.split("```").next().unwrap());
        let real: BTreeSet<(String, String)> = states(&machine)
            .iter()
            .flat_map(|(name, state)| ways_out(state).into_iter().map(|next| (name.clone(), next)))
            .collect();
        let missing: Vec<_> = real.difference(&drawn).collect();
        let invented: Vec<_> = drawn.difference(&real).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "missing: {missing:?}\ninvented: {invented:?}"
        );
    }
}

/// The arrows of a diagram. A line is `a["State"]`, or `a --> b`, with any label on the arrow.
fn arrows(diagram: &str) -> BTreeSet<(String, String)> {
    let mut names = BTreeMap::new();
    let mut drawn = BTreeSet::new();
    for line in diagram.lines().map(str::trim) {
        if let Some((id, rest)) = line.split_once(['[', '{', '('])
            && !line.contains("-->")
        {
            names.insert(
                id.to_owned(),
                rest.split('"').nth(1).unwrap_or_default().to_owned(),
            );
        } else if let Some((from, to)) = line.split_once("-->") {
            let to = to.rsplit('|').next().unwrap();
            drawn.insert((names[from.trim()].clone(), names[to.trim()].clone()));
        }
    }
    drawn
}
