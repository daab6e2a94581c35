//! The execution is stopped in every state in which it can be stopped. What is too short to be caught is held up by
//! something real: an open transaction on the role's row, a topic that takes nothing, a lost password, a throttled
//! function.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::join;
use xtask::stack::{Execution, Stack};
use xtask::{callback, workspace};

use super::super::fixture::{Asked, SOON, file, request_id, row_version};
use super::database::{lock_out, readmit};
use super::evidence::{Defence, Row, closed, until_its_end_was_seen};
use super::functions::{let_run, throttle};
use super::site::{LOOK_AGAIN_AFTER, Open, Site, approve};

/// Every state in which an execution of the deployed state machine can be stopped: it does not stay in others.
pub(super) fn stoppable() -> BTreeSet<String> {
    let file = workspace::root().join("statemachine/access-window.asl.json");
    let machine: Value = serde_json::from_str(&workspace::read(&file).unwrap()).unwrap();
    let states = machine["States"].as_object().unwrap().iter();
    let stays = states.filter(|(_, state)| state["Type"] == "Task" || state["Type"] == "Wait");
    stays.map(|(name, _)| name.clone()).collect()
}

/// Where it waits by itself.
pub(super) async fn in_await_approval(site: Site<'_>) -> Row {
    let asked = site.ask(json!({})).await;
    never_opened_after_stopping(site, asked, "Await Approval").await
}

/// Approved, and the start is yet to come.
pub(super) async fn in_wait_until_start(site: Site<'_>) -> Row {
    let start = whole_second(Utc::now() + TimeDelta::seconds(40));
    let end = start + TimeDelta::seconds(20);
    let change = json!({ "duration": null, "start": start.to_rfc3339(), "end": end.to_rfc3339() });
    let asked = site.ask(change).await;
    approve(&asked).await;
    let role = asked.role.clone();
    let row = never_opened_after_stopping(site, asked, "Wait Until Start").await;
    while Utc::now() < start + TimeDelta::seconds(1) {
        assert!(!site.can_log_in(&role).await, "opened by a dead execution");
        tokio::time::sleep(LOOK_AGAIN_AFTER * 10).await;
    }
    row
}

/// In mid-window.
pub(super) async fn in_wait_until_end(site: Site<'_>) -> Row {
    let open = site.open("PT300S").await;
    stop_in(site.stack, open.execution(), "Wait Until End").await;
    closed_after_stopping(site, open, Utc::now(), "Wait Until End", &[Defence::Event]).await
}

/// While enable-login waits for somebody who holds the role's row: its call goes on and opens a window that is over.
pub(super) async fn in_enable_login(site: Site<'_>) -> Row {
    let asked = site.ask(json!({ "duration": "PT300S" })).await;
    let before = row_version(site.stack, &asked.role).await;
    let row = site.hold_row(&asked.role).await;
    approve(&asked).await;
    row.until_waited_for_by("latchkey_opener").await;
    stop_in(site.stack, &asked.execution, "Enable Login").await;
    let stopped_at = Utc::now();
    row.let_go().await;
    let open = site.without_session(asked).await;
    let role = open.role.clone();
    let closed =
        closed_after_stopping(site, open, stopped_at, "Enable Login", &[Defence::Event]).await;
    let after = row_version(site.stack, &role).await;
    assert_ne!(after, before, "neither LOGIN nor NOLOGIN came through");
    closed
}

/// While disable-login waits for somebody who holds the role's row.
pub(super) async fn in_disable_login(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let row = site.hold_row(&open.role).await;
    row.until_waited_for_by("latchkey_closer").await;
    stop_in(site.stack, open.execution(), "Disable Login").await;
    row.let_go().await;
    let end = open.end;
    let allowed = [Defence::StateMachine, Defence::Event, Defence::Schedule];
    closed_after_stopping(site, open, end, "Disable Login", &allowed).await
}

/// The topic takes nothing, as with a broken policy: asking and announcing take their time, and are stopped.
pub(super) async fn in_what_sends_messages(site: Site<'_>) -> Vec<Row> {
    let stack = site.stack;
    let (ends, opens) = join!(
        site.open("PT30S"),
        site.ask(json!({ "duration": "PT300S" }))
    );
    let role = site.new_role().await;
    let topic = DeafTopic::make(stack).await;
    let asks = file(stack, &role, json!({})).await;

    let asking = async {
        stop_in(stack, &asks, "Ask Approvers").await;
        until_never_opened(site, &asks, &role, "Ask Approvers").await
    };
    let opened = async {
        let open = site.approve_and_log_in(opens).await;
        stop_in(stack, open.execution(), "Announce Opened").await;
        let due = Utc::now();
        closed_after_stopping(site, open, due, "Announce Opened", &[Defence::Event]).await
    };
    let outcome = async {
        stop_in(stack, ends.execution(), "Announce Outcome").await;
        let end = ends.end;
        let allowed = [Defence::StateMachine, Defence::Schedule];
        closed_after_stopping(site, ends, end, "Announce Outcome", &allowed).await
    };
    let rows = join!(asking, opened, outcome);
    topic.hear_again(stack).await;
    vec![rows.0, rows.1, rows.2]
}

/// Our own passwords do not work any more, and the topic takes nothing: closing fails, round after round.
pub(super) async fn in_what_follows_a_failure(site: Site<'_>) -> Vec<Row> {
    let stack = site.stack;
    let (pages, waits, fails) = join!(site.open("PT60S"), site.open("PT60S"), site.ask(json!({})));
    let topic = DeafTopic::make(stack).await;
    let closer = lock_out(site, "latchkey_closer").await;
    let opener = lock_out(site, "latchkey_opener").await;
    approve(&fails).await;
    let failing = async {
        let execution = fails.execution.clone();
        stop_in(stack, &execution, "Announce Failed").await;
        until_never_opened(site, &execution, &fails.role, "Announce Failed").await
    };
    let paging = stack.wait_for_state(pages.execution(), "Announce Close Failing", SOON);
    let (failed, paged) = join!(failing, paging);
    paged.unwrap();
    readmit(site, "latchkey_opener", &opener).await;
    readmit(site, "latchkey_closer", &closer).await;
    stop_in(stack, pages.execution(), "Announce Close Failing").await;
    stop_in(stack, waits.execution(), "Wait Before Closing Again").await;
    topic.hear_again(stack).await;
    let (end_1, end_2) = (pages.end, waits.end);
    let allowed = [Defence::Event, Defence::Schedule];
    let closed = join!(
        closed_after_stopping(site, pages, end_1, "Announce Close Failing", &allowed),
        closed_after_stopping(site, waits, end_2, "Wait Before Closing Again", &allowed),
    );
    vec![failed, closed.0, closed.1]
}

/// Functions that get no concurrency: whatever calls them tries again, and is stopped meanwhile.
pub(super) async fn in_what_a_throttled_function_holds(site: Site<'_>) -> Vec<Row> {
    let stack = site.stack;
    let settles = site.ask(json!({})).await;
    let settles_id = request_id(stack, &settles.execution).await;
    let token = stack.task_token(&settles_id, SOON).await.unwrap();
    let (role_1, role_2) = join!(site.new_role(), site.new_role());

    throttle(stack, "EnableLoginFunction").await;
    let checks = file(stack, &role_1, json!({})).await;
    stop_in(stack, &checks, "Preflight").await;
    throttle(stack, "ComputeWaitFunction").await;
    let comes_in = file(stack, &role_2, json!({})).await;
    stop_in(stack, &comes_in, "Compute Wait").await;
    throttle(stack, "ApprovalFunction").await;
    // Awake without a decision, as after a callback that somebody forged.
    wake(stack, &token).await;
    stop_in(stack, &settles.execution, "Settle Decision").await;
    for function in [
        "EnableLoginFunction",
        "ComputeWaitFunction",
        "ApprovalFunction",
    ] {
        let_run(stack, function).await;
    }
    let rows = join!(
        until_never_opened(site, &checks, &role_1, "Preflight"),
        until_never_opened(site, &comes_in, &role_2, "Compute Wait"),
        until_never_opened(site, &settles.execution, &settles.role, "Settle Decision"),
    );
    let answer = callback::approve(&settles.link, &settles.role, "").await;
    answer.unwrap();
    assert!(!site.can_log_in(&settles.role).await);
    vec![rows.0, rows.1, rows.2]
}

async fn wake(stack: &Stack, token: &str) {
    let arguments = ["stepfunctions", "send-task-success", "--task-token", token];
    let output = ["--task-output", "{}"];
    stack
        .aws()
        .aws(&[&arguments[..], &output].concat())
        .await
        .unwrap();
}

/// Waits for the state, stops the execution, and proves that it stopped there.
async fn stop_in(stack: &Stack, execution: &Execution, state: &str) {
    let entered = stack.wait_for_state(execution, state, SOON).await;
    entered.unwrap();
    stack.stop_execution(execution).await.unwrap();
    let history = stack.history(execution).await.unwrap();
    let last = history.states.last().map(|(name, _)| name.as_str());
    assert_eq!(last, Some(state), "it slipped through");
    let ended = stack.wait_for_end(execution, SOON).await.unwrap();
    assert_eq!(ended.status, "ABORTED");
}

async fn never_opened_after_stopping(site: Site<'_>, asked: Asked, state: &str) -> Row {
    stop_in(site.stack, &asked.execution, state).await;
    let row = until_never_opened(site, &asked.execution, &asked.role, state).await;
    // Nobody can approve it any more.
    let page = callback::get(&asked.link).await.unwrap();
    assert!(!page.body.contains("<form"), "{}", page.body);
    callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert!(!site.can_log_in(&asked.role).await);
    row
}

/// Waits until the end of the execution was seen to, and looks that the role was not opened.
async fn until_never_opened(site: Site<'_>, execution: &Execution, role: &str, state: &str) -> Row {
    let outcome = until_its_end_was_seen(site.stack, execution).await;
    assert_eq!(outcome, "nothing_to_close", "{state}");
    let seen = site.look(&site.observer().await, role).await;
    assert!(!seen.can_login, "{state}");
    assert_eq!(seen.valid_until, None, "{state}: it was opened");
    assert!(!site.can_log_in(role).await, "{state}");
    Row {
        fault: stopped(state),
        closed_by: format!("never opened ({})", Defence::Event),
        lag: None,
        n_survivors: seen.n_sessions,
        stopped_in: Some(state.to_owned()),
    }
}

async fn closed_after_stopping(
    site: Site<'_>,
    open: Open,
    due: DateTime<Utc>,
    state: &str,
    allowed: &[Defence],
) -> Row {
    let row = closed(site, open, due, &stopped(state), allowed).await;
    Row {
        stopped_in: Some(state.to_owned()),
        ..row
    }
}

fn stopped(state: &str) -> String {
    format!("execution stopped in {state}")
}

fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp(), 0).unwrap()
}

/// The topic with a policy under which nobody may publish.
struct DeafTopic {
    policy: String,
}

impl DeafTopic {
    async fn make(stack: &Stack) -> Self {
        let topic = stack.output("TopicArn").unwrap();
        let policy = topic_policy(stack).await;
        let mut changed: Value = serde_json::from_str(&policy).unwrap();
        let nobody = json!({
            "Sid": "NobodyPublishes", "Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": topic,
        });
        changed["Statement"].as_array_mut().unwrap().push(nobody);
        set_topic_policy(stack, &changed.to_string()).await;
        Self { policy }
    }

    async fn hear_again(self, stack: &Stack) {
        set_topic_policy(stack, &self.policy).await;
    }
}

/// Who may publish to the topic.
pub(super) async fn topic_policy(stack: &Stack) -> String {
    let topic = stack.output("TopicArn").unwrap();
    let attributes = ["sns", "get-topic-attributes", "--topic-arn", topic];
    let attributes = stack.aws().aws(&attributes).await.unwrap();
    let policy = attributes["Attributes"]["Policy"].as_str().unwrap();
    policy.to_owned()
}

pub(super) async fn set_topic_policy(stack: &Stack, policy: &str) {
    let topic = stack.output("TopicArn").unwrap();
    let arguments = ["sns", "set-topic-attributes", "--topic-arn", topic];
    let value = ["--attribute-name", "Policy", "--attribute-value", policy];
    let set = stack.aws().aws(&[&arguments[..], &value].concat()).await;
    set.unwrap();
}
