//! Functions that are killed in the middle of their work, or get no concurrency.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use xtask::stack::{Execution, Stack};

use super::super::fixture::{Asked, SOON};
use super::evidence::{Defence, Row, closed};
use super::site::{LOOK_AGAIN_AFTER, Open, Site, approve};

/// The functions that faults take all concurrency from.
pub(super) const THROTTLED: [&str; 4] = [
    "ComputeWaitFunction",
    "ApprovalFunction",
    "EnableLoginFunction",
    "DisableLoginFunction",
];

/// enable-login dies while its `LOGIN` waits for somebody who holds the row; the server carries it out all the same.
pub(super) async fn killed_while_opening(site: Site<'_>) -> Row {
    let asked = site.ask(json!({ "duration": "PT40S" })).await;
    let row = site.hold_row(&asked.role).await;
    approve(&asked).await;
    row.until_waited_for_by("latchkey_opener").await;
    assert!(site.stack.kill_function("EnableLoginFunction").unwrap() > 0);
    until_failed(
        site.stack,
        &asked.execution,
        "Enable Login",
        "Runtime.ExitError",
    )
    .await;
    row.let_go().await;
    let open = site.open_asked_before(asked).await;
    let end = open.end;
    let fault = "enable-login killed while it opens";
    closed(
        site,
        open,
        end,
        fault,
        &[Defence::StateMachine, Defence::Schedule],
    )
    .await
}

/// The same, and the execution is stopped too: nobody is left who knows that a `LOGIN` is on its way.
pub(super) async fn killed_and_stopped_while_opening(site: Site<'_>) -> Row {
    let asked = site.ask(json!({ "duration": "PT300S" })).await;
    let row = site.hold_row(&asked.role).await;
    approve(&asked).await;
    row.until_waited_for_by("latchkey_opener").await;
    site.stack.stop_execution(&asked.execution).await.unwrap();
    assert!(site.stack.kill_function("EnableLoginFunction").unwrap() > 0);
    let due = Utc::now();
    row.until_waited_for_by("latchkey_closer").await;
    row.let_go().await;
    let open = site.without_session(asked).await;
    let fault = "enable-login killed, its execution stopped";
    closed(site, open, due, fault, &[Defence::Event]).await
}

/// disable-login dies while its `NOLOGIN` waits for somebody who holds the row.
pub(super) async fn killed_while_closing(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let row = site.hold_row(&open.role).await;
    row.until_waited_for_by("latchkey_closer").await;
    assert!(site.stack.kill_function("DisableLoginFunction").unwrap() > 0);
    until_failed(
        site.stack,
        open.execution(),
        "Disable Login",
        "Runtime.ExitError",
    )
    .await;
    row.let_go().await;
    let end = open.end;
    let fault = "disable-login killed while it closes";
    closed(
        site,
        open,
        end,
        fault,
        &[Defence::StateMachine, Defence::Schedule],
    )
    .await
}

/// disable-login gets no concurrency at the end of the window.
pub(super) async fn throttled_at_the_end(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    throttle(site.stack, "DisableLoginFunction").await;
    let execution = open.execution();
    let error = "Lambda.TooManyRequestsException";
    until_failed(site.stack, execution, "Disable Login", error).await;
    let_run(site.stack, "DisableLoginFunction").await;
    let end = open.end;
    let fault = "disable-login throttled at the end";
    closed(
        site,
        open,
        end,
        fault,
        &[Defence::StateMachine, Defence::Schedule],
    )
    .await
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
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
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
