//! Functions that are killed in the middle of their work, or get no concurrency.

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::json;
use xtask::stack::{Execution, Stack};

use super::super::fixture::{Asked, SOON};
use super::database::BOTH;
use super::evidence::{Defence, Row, closed_on_each};
use super::site::{
    HeldRow, LOOK_AT_RECORDS_AFTER, Open, Site, approve, lasting, on_each, open_together,
};

/// The functions that faults take all concurrency from.
pub(super) const THROTTLED: [&str; 5] = [
    "ComputeWaitFunction",
    "ApprovalFunction",
    "ConfirmRequesterFunction",
    "EnableLoginFunction",
    "DisableLoginFunction",
];

/// enable-login dies while its `LOGIN` waits for somebody who holds the row; the server carries it out all the same.
pub(super) async fn killed_while_opening(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let (asked, rows) = held_before_opening(sites, lasting(sites, 40)).await;
    assert!(stack.kill_function("EnableLoginFunction").unwrap() > 0);
    let error = "Runtime.ExitError";
    let failing = asked
        .iter()
        .map(|asked| until_failed(stack, &asked.execution, "Enable Login", error));
    join_all(failing).await;
    join_all(rows.into_iter().map(HeldRow::let_go)).await;
    let opening = sites.iter().zip(asked);
    let opens = join_all(opening.map(|(site, asked)| site.open_asked_before(asked))).await;
    let fault = "enable-login killed while it opens";
    closed_on_each(sites, opens, None, fault, &BOTH).await
}

/// The same, and the execution is stopped too: nobody is left who knows that a `LOGIN` is on its way.
pub(super) async fn killed_and_stopped_while_opening(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let (asked, rows) = held_before_opening(sites, 300).await;
    for asked in &asked {
        stack.stop_execution(&asked.execution).await.unwrap();
    }
    assert!(stack.kill_function("EnableLoginFunction").unwrap() > 0);
    let due = Utc::now();
    join_all(rows.into_iter().map(async |row| {
        row.until_waited_for_by("latchkey_closer").await;
        row.let_go().await;
    }))
    .await;
    let opening = sites.iter().zip(asked);
    let opens = join_all(opening.map(|(site, asked)| site.without_session(asked))).await;
    let fault = "enable-login killed, its execution stopped";
    closed_on_each(sites, opens, Some(due), fault, &[Defence::Event]).await
}

/// Approves a window on every version, while somebody holds each role's row and enable-login waits for it.
async fn held_before_opening(sites: &[Site<'_>], seconds: i64) -> (Vec<Asked>, Vec<HeldRow>) {
    let held = on_each(sites, async |site| {
        let duration = format!("PT{seconds}S");
        let asked = site.ask(json!({ "duration": duration })).await;
        let row = site.hold_row(&asked.role).await;
        (asked, row)
    })
    .await;
    join_all(held.iter().map(async |(asked, row)| {
        approve(asked).await;
        row.until_waited_for_by("latchkey_opener").await;
    }))
    .await;
    held.into_iter().unzip()
}

/// disable-login dies while its `NOLOGIN` waits for somebody who holds the row.
pub(super) async fn killed_while_closing(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let opens = open_together(sites, 20).await;
    let holding = sites.iter().zip(&opens);
    let rows = join_all(holding.map(|(site, open)| site.hold_row(&open.role))).await;
    let waiting = rows
        .iter()
        .map(|row| row.until_waited_for_by("latchkey_closer"));
    join_all(waiting).await;
    assert!(stack.kill_function("DisableLoginFunction").unwrap() > 0);
    until_each_failed(stack, &opens, "Runtime.ExitError").await;
    join_all(rows.into_iter().map(HeldRow::let_go)).await;
    let fault = "disable-login killed while it closes";
    closed_on_each(sites, opens, None, fault, &BOTH).await
}

/// disable-login gets no concurrency at the end of the windows.
pub(super) async fn throttled_at_the_end(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let opens = open_together(sites, 20).await;
    throttle(stack, "DisableLoginFunction").await;
    until_each_failed(stack, &opens, "Lambda.TooManyRequestsException").await;
    let_run(stack, "DisableLoginFunction").await;
    let fault = "disable-login throttled at the end";
    closed_on_each(sites, opens, None, fault, &BOTH).await
}

/// Waits until a call of disable-login has failed with this error for each of them.
async fn until_each_failed(stack: &Stack, opens: &[Open], error: &str) {
    let failing = opens
        .iter()
        .map(|open| until_failed(stack, open.execution(), "Disable Login", error));
    join_all(failing).await;
}

impl Site<'_> {
    /// What was approved already, as soon as it is open.
    async fn open_asked_before(&self, asked: Asked) -> Open {
        let waiting = self
            .stack
            .wait_for_state(&asked.execution, "Wait Until End", SOON);
        waiting.await.unwrap();
        self.log_in_to(asked).await
    }
}

/// Waits until a call of a state has failed with this error.
async fn until_failed(stack: &Stack, execution: &Execution, state: &str, error: &str) {
    let until = Utc::now() + TimeDelta::from_std(SOON).unwrap();
    loop {
        let history = stack.history(execution).await.unwrap();
        let failed = history
            .calls
            .iter()
            .any(|call| call.state == state && call.error() == Some(error));
        if failed {
            return;
        }
        assert!(Utc::now() < until, "no {error}: {:?}", history.calls);
        tokio::time::sleep(LOOK_AT_RECORDS_AFTER).await;
    }
}

/// Takes all concurrency from a function.
pub(super) async fn throttle(stack: &Stack, function: &str) {
    let arn = stack.output(&format!("{function}Arn")).unwrap();
    let arguments = ["lambda", "put-function-concurrency", "--function-name", arn];
    let none = ["--reserved-concurrent-executions", "0"];
    stack
        .aws()
        .aws(&[&arguments[..], &none].concat())
        .await
        .unwrap();
}

/// Gives it back.
pub(super) async fn let_run(stack: &Stack, function: &str) {
    let arn = stack.output(&format!("{function}Arn")).unwrap();
    let arguments = [
        "lambda",
        "delete-function-concurrency",
        "--function-name",
        arn,
    ];
    stack.aws().aws(&arguments).await.unwrap();
}
