//! The execution is stopped in every state in which it can be stopped. What is too short to be caught is held up by
//! something real: an open transaction on the role's row, a topic that takes nothing, a lost password, a throttled
//! function.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::join;
use xtask::stack::{Execution, Stack};
use xtask::{callback, workspace};

use super::super::fixture::{Asked, SOON, file, put_row, request_id, row};
use super::database::{BOTH, lock_out, readmit};
use super::evidence::{Defence, PROVED_WITHIN, Row, closed, until_its_end_was_seen};
use super::functions::{let_run, throttle};
use super::site::{LOOK_AGAIN_AFTER, Open, Site, approve, on_each, open_together};

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
    let before = site.row_version(&asked.role).await;
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
    let after = site.row_version(&role).await;
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
pub(super) async fn in_what_sends_messages(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let prepared = on_each(sites, async |site| {
        let role = site.new_role().await;
        // Far enough ahead to be announced before the window opens.
        let start = Utc::now() + TimeDelta::minutes(30);
        join!(
            async { role },
            site.ask(json!({ "duration": "PT300S" })),
            site.ask(json!({ "start": start.to_rfc3339() })),
        )
    });
    let (ends, prepared) = join!(open_together(sites, 30), prepared);
    let topic = DeafTopic::make(stack).await;
    let stopping = sites.iter().zip(prepared).zip(ends);
    let rows = stopping.map(async |((site, (role, opens, starts_later)), ends)| {
        let rows = join!(
            stopped_asking(*site, &role),
            stopped_announcing_approved(*site, starts_later),
            stopped_announcing_opened(*site, opens),
            stopped_announcing_outcome(*site, ends)
        );
        [rows.0, rows.1, rows.2, rows.3]
    });
    let rows = join_all(rows).await;
    topic.hear_again(stack).await;
    rows.into_iter().flatten().collect()
}

async fn stopped_asking(site: Site<'_>, role: &str) -> Row {
    let request = json!({ "target": site.target });
    let asks = file(site.stack, role, request).await;
    stop_in(site.stack, &asks, "Ask Approvers").await;
    until_never_opened(site, &asks, role, "Ask Approvers").await
}

async fn stopped_announcing_approved(site: Site<'_>, asked: Asked) -> Row {
    approve(&asked).await;
    let state = "Announce Approved";
    stop_in(site.stack, &asked.execution, state).await;
    until_never_opened(site, &asked.execution, &asked.role, state).await
}

async fn stopped_announcing_opened(site: Site<'_>, asked: Asked) -> Row {
    let open = site.approve_and_log_in(asked).await;
    stop_in(site.stack, open.execution(), "Announce Opened").await;
    let due = Utc::now();
    closed_after_stopping(site, open, due, "Announce Opened", &[Defence::Event]).await
}

async fn stopped_announcing_outcome(site: Site<'_>, open: Open) -> Row {
    stop_in(site.stack, open.execution(), "Announce Outcome").await;
    let end = open.end;
    closed_after_stopping(site, open, end, "Announce Outcome", &BOTH).await
}

/// Our own passwords do not work any more, and the topic takes nothing: closing fails, round after round.
pub(super) async fn in_what_follows_a_failure(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let asking = on_each(sites, async |site| site.ask(json!({})).await);
    let (pages, waits, asked) = join!(open_together(sites, 60), open_together(sites, 60), asking);
    let topic = DeafTopic::make(stack).await;
    let failing = sites.iter().zip(pages).zip(waits).zip(asked);
    let rows = failing.map(async |(((site, pages), waits), fails)| {
        stopped_after_a_failure(*site, pages, waits, fails).await
    });
    let rows = join_all(rows).await;
    topic.hear_again(stack).await;
    rows.into_iter().flatten().collect()
}

async fn stopped_after_a_failure(
    site: Site<'_>,
    pages: Open,
    waits: Open,
    fails: Asked,
) -> [Row; 3] {
    let stack = site.stack;
    let closer = lock_out(site, "latchkey_closer").await;
    let opener = lock_out(site, "latchkey_opener").await;
    approve(&fails).await;
    let failing = async {
        let execution = fails.execution.clone();
        stop_in(stack, &execution, "Announce Failed").await;
        until_never_opened(site, &execution, &fails.role, "Announce Failed").await
    };
    let paging = stack.wait_for_state(pages.execution(), "Announce Close Failing", PROVED_WITHIN);
    let stopping = async {
        paging.await.unwrap();
        stop_in(stack, pages.execution(), "Announce Close Failing").await;
        let waiting = "Wait Before Closing Again";
        stop_in(stack, waits.execution(), waiting).await;
        readmit(site, "latchkey_closer", &closer).await;
    };
    let (failed, ()) = join!(failing, stopping);
    readmit(site, "latchkey_opener", &opener).await;
    let (end_1, end_2) = (pages.end, waits.end);
    let allowed = [Defence::Event, Defence::Schedule];
    let closed = join!(
        closed_after_stopping(site, pages, end_1, "Announce Close Failing", &allowed),
        closed_after_stopping(site, waits, end_2, "Wait Before Closing Again", &allowed),
    );
    [failed, closed.0, closed.1]
}

/// Functions that get no concurrency: whatever calls them tries again, and is stopped meanwhile.
pub(super) async fn in_what_a_throttled_function_holds(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let prepared = on_each(sites, async |site| {
        let settles = site.ask(json!({})).await;
        let settles_id = request_id(stack, &settles.execution).await;
        let token = stack.task_token(&settles_id, SOON).await.unwrap();
        (
            settles,
            token,
            [
                site.new_role().await,
                site.new_role().await,
                site.new_role().await,
            ],
        )
    })
    .await;
    let file_and_stop = async |state: &str, which: usize, dry_run: bool| {
        let stopping = sites
            .iter()
            .zip(&prepared)
            .map(async |(site, (_, _, roles))| {
                let request = json!({ "target": site.target, "dry_run": dry_run });
                let execution = file(stack, &roles[which], request).await;
                stop_in(stack, &execution, state).await;
                execution
            });
        join_all(stopping).await
    };

    throttle(stack, "EnableLoginFunction").await;
    let checks = file_and_stop("Preflight", 0, false).await;
    let plans = file_and_stop("Plan Window", 1, true).await;
    throttle(stack, "ComputeWaitFunction").await;
    let comes_in = file_and_stop("Compute Wait", 2, false).await;
    throttle(stack, "ApprovalFunction").await;
    let settling = prepared.iter().map(async |(settles, token, _)| {
        // Awake without a decision, as after a callback that somebody forged.
        wake(stack, token).await;
        stop_in(stack, &settles.execution, "Settle Decision").await;
    });
    join_all(settling).await;
    for function in [
        "EnableLoginFunction",
        "ComputeWaitFunction",
        "ApprovalFunction",
    ] {
        let_run(stack, function).await;
    }
    let stopped = sites
        .iter()
        .zip(&prepared)
        .zip(checks)
        .zip(plans)
        .zip(comes_in);
    let rows = stopped.map(async |((((site, prepared), checks), plans), comes_in)| {
        let (settles, _, [role_1, role_2, role_3]) = prepared;
        let rows = join!(
            until_never_opened(*site, &checks, role_1, "Preflight"),
            until_never_opened(*site, &plans, role_2, "Plan Window"),
            until_never_opened(*site, &comes_in, role_3, "Compute Wait"),
            until_never_opened(*site, &settles.execution, &settles.role, "Settle Decision"),
        );
        let answer = callback::approve(&settles.link, &settles.role, "").await;
        answer.unwrap();
        assert!(!site.can_log_in(&settles.role).await);
        [rows.0, rows.1, rows.2, rows.3]
    });
    join_all(rows).await.into_iter().flatten().collect()
}

/// Between the approval and the start, CloudTrail is asked who started the execution: first nobody is there to ask, then
/// it has not heard of it.
pub(super) async fn in_what_confirms_the_requester(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let asked = on_each(sites, async |site| {
        join!(site.ask(json!({})), site.ask(json!({})))
    })
    .await;
    throttle(stack, "ConfirmRequesterFunction").await;
    let rows = join_all(asked.iter().map(async |(confirms, waits)| {
        let held = "Confirm Requester";
        approve(confirms).await;
        stop_in(stack, &confirms.execution, held).await;
        approve(waits).await;
        let waiting = stack.wait_for_state(&waits.execution, held, SOON);
        waiting.await.unwrap();
        let id = request_id(stack, &waits.execution).await;
        let original = row(stack, &format!("request#{id}"), "request").await;
        // As if it came of an execution of which CloudTrail knows nothing.
        let document = original["document"]["S"].as_str().unwrap();
        let mut document: Value = serde_json::from_str(document).unwrap();
        document["execution_arn"] = json!(format!("{}-unknown", waits.execution.arn));
        let mut changed = original.clone();
        changed["document"]["S"] = json!(document.to_string());
        put_row(stack, &changed).await;
        original
    }))
    .await;
    let_run(stack, "ConfirmRequesterFunction").await;
    let stopping = sites.iter().zip(asked).zip(rows);
    let rows = stopping.map(async |((site, (confirms, waits)), original)| {
        let state = "Wait For CloudTrail";
        let waiting = stack.wait_for_state(&waits.execution, state, SOON);
        waiting.await.unwrap();
        put_row(stack, &original).await;
        stop_in(stack, &waits.execution, state).await;
        let rows = join!(
            until_never_opened(
                *site,
                &confirms.execution,
                &confirms.role,
                "Confirm Requester"
            ),
            until_never_opened(*site, &waits.execution, &waits.role, state),
        );
        [rows.0, rows.1]
    });
    join_all(rows).await.into_iter().flatten().collect()
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
        closed_by: format!("never opened ({})", Defence::Event),
        n_survivors: seen.n_sessions,
        stopped_in: Some(state.to_owned()),
        ..Row::new(site, &stopped(state))
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
