//! One fault at a time against an open window, and what closed it.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use xtask::callback;
use xtask::deploy::Optimisation;
use xtask::login_probe::Attempt;
use xtask::stack::Stack;

use super::fixture::{
    Asked, SOON, ask_for, can_log_in, new_role, told_requester, until_open, valid_until,
};

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A line of the table.
struct Closed {
    fault: &'static str,
    defence: &'static str,
    lag: TimeDelta,
    n_survivors: i64,
}

/// The faults change what the whole stack does, so they come one after the other on a stack of their own.
#[test]
fn whatever_breaks_the_window_ends_closed() {
    let runtime = Runtime::new().unwrap();
    let started = runtime.block_on(Stack::start("chaos", Optimisation::of_environment()));
    let mut stack =
        started.unwrap_or_else(|error| panic!("start the stack: {}", error.with_causes()));
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(break_it(&mut stack))));
    if let Err(failure) = outcome {
        match runtime.block_on(stack.save_function_logs()) {
            Ok(file) => println!("what the functions logged: {}", file.display()),
            Err(error) => println!("the functions' logs are lost: {}", error.with_causes()),
        }
        resume_unwind(failure);
    }
}

async fn break_it(stack: &mut Stack) {
    let mut table = Vec::new();
    for row in [
        stopped_execution(stack).await,
        stopped_before_it_opened(stack).await,
        login_granted_outside_windows(stack).await,
        closed_by_hand(stack).await,
        opened_by_hand(stack).await,
        catalogue_entry_broken(stack).await,
        secret_rotated(stack).await,
        lost_event(stack).await,
        lost_event_and_no_reconcile(stack).await,
        database_down_across_the_end(stack).await,
    ] {
        assert_eq!(row.n_survivors, 0, "{}", row.fault);
        table.push(row);
    }
    println!("{}", print(&table));
}

/// Somebody stops the execution in the console: the window ends with it.
async fn stopped_execution(stack: &Stack) -> Closed {
    let open = open(stack, "PT120S").await;
    stop(stack, &open).await;
    let row = closed(
        stack,
        &open.role,
        Utc::now(),
        "execution stopped in mid-window",
        "status-change event",
    )
    .await;
    until_told(stack, &open.role, "closed").await;
    row
}

/// The same while people are being asked: nothing can be approved any more.
async fn stopped_before_it_opened(stack: &Stack) -> Closed {
    let role = new_role(stack, json!({})).await;
    let asked = ask_for(stack, &role, json!({})).await;
    let stopped_at = Utc::now();
    stop(stack, &asked).await;
    let answer = loop {
        // Until the event has come through, the page still asks.
        let answer = callback::get(&asked.link).await.unwrap();
        if !answer.body.contains("<form") {
            break answer;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    };
    assert!(answer.body.contains("not"), "{}", answer.body);
    callback::approve(&asked.link, &role, "").await.unwrap();
    assert!(!can_log_in(stack, &role).await);
    closed(
        stack,
        &role,
        stopped_at,
        "execution stopped before approval",
        "status-change event",
    )
    .await
}

/// Somebody with the rights gives LOGIN without a window.
async fn login_granted_outside_windows(stack: &Stack) -> Closed {
    let role = new_role(stack, json!({})).await;
    alter(stack, &format!("ALTER ROLE {role} LOGIN")).await;
    let Attempt::Accepted(_session) = stack.try_log_in(&role).await.unwrap() else {
        panic!("LOGIN was given")
    };
    let due = Utc::now();
    let round = reconcile(stack).await;
    assert!(round["n_cut"].as_u64() >= Some(1), "{round}");
    closed(
        stack,
        &role,
        due,
        "LOGIN given outside any window",
        "reconcile",
    )
    .await
}

/// The database's owner takes LOGIN away in mid-window: that is never undone.
async fn closed_by_hand(stack: &Stack) -> Closed {
    let open = open(stack, "PT20S").await;
    let end = valid_until(stack, &open.role).await;
    alter(stack, &format!("ALTER ROLE {} NOLOGIN", open.role)).await;
    let round = reconcile(stack).await;
    assert!(round["n_not_open"].as_u64() >= Some(1), "{round}");
    assert!(
        !can_log_in(stack, &open.role).await,
        "NOLOGIN by hand was undone"
    );
    closed(
        stack,
        &open.role,
        end,
        "NOLOGIN by hand",
        "the state machine",
    )
    .await
}

/// In an outage the DBA opens by hand; Latchkey adopts it and closes it.
async fn opened_by_hand(stack: &Stack) -> Closed {
    let role = new_role(stack, json!({})).await;
    let master = stack
        .postgres()
        .log_in(&stack.postgres().accounts().master, "latchkey")
        .await
        .unwrap();
    master
        .query(&format!("SELECT latchkey.open_by_hand('{role}', now() + interval '12 s', 'the outage of tonight')"), &[])
        .await
        .unwrap();
    let end = valid_until(stack, &role).await;
    let Attempt::Accepted(_session) = stack.try_log_in(&role).await.unwrap() else {
        panic!("opened by hand")
    };
    let round = reconcile(stack).await;
    assert_eq!(round["n_by_hand"], 1, "{round}");
    assert!(can_log_in(stack, &role).await, "an adopted window was cut");
    while Utc::now() < end {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    reconcile(stack).await;
    closed(stack, &role, end, "opened by hand by the DBA", "reconcile").await
}

/// The catalogue forgets the database in mid-window: closing goes where it was opened.
async fn catalogue_entry_broken(stack: &Stack) -> Closed {
    let open = open(stack, "PT10S").await;
    let end = valid_until(stack, &open.role).await;
    let saved = stack.database_document().clone();
    stack
        .put_catalogue("databases/local", &json!({ "host": "nowhere.invalid" }))
        .await
        .unwrap();
    let row = closed(
        stack,
        &open.role,
        end,
        "catalogue entry broken in mid-window",
        "the state machine",
    )
    .await;
    stack
        .put_catalogue("databases/local", &saved)
        .await
        .unwrap();
    row
}

/// The closer's password changes in mid-window.
async fn secret_rotated(stack: &Stack) -> Closed {
    let open = open(stack, "PT10S").await;
    let end = valid_until(stack, &open.role).await;
    let password = "rotated-in-mid-window";
    alter(
        stack,
        &format!("ALTER ROLE latchkey_closer PASSWORD '{password}'"),
    )
    .await;
    let secret = stack.database_document()["closer"]["secret"]
        .as_str()
        .unwrap();
    let value = json!({ "password": password }).to_string();
    stack
        .aws()
        .aws(&[
            "secretsmanager",
            "put-secret-value",
            "--secret-id",
            secret,
            "--secret-string",
            &value,
        ])
        .await
        .unwrap();
    closed(
        stack,
        &open.role,
        end,
        "closer's secret rotated",
        "the state machine",
    )
    .await
}

/// The execution is stopped and its event is lost.
async fn lost_event(stack: &Stack) -> Closed {
    switch_rule(stack, "disable-rule").await;
    let open = open(stack, "PT120S").await;
    stop(stack, &open).await;
    assert!(
        can_log_in(stack, &open.role).await,
        "the event was to be lost"
    );
    let due = Utc::now();
    let round = reconcile(stack).await;
    assert!(round["n_orphaned"].as_u64() >= Some(1), "{round}");
    closed(
        stack,
        &open.role,
        due,
        "execution stopped, event lost",
        "reconcile",
    )
    .await
}

/// The event is lost and reconcile does not come in time: the schedule that was armed before the opening does.
async fn lost_event_and_no_reconcile(stack: &Stack) -> Closed {
    let open = open(stack, "PT10S").await;
    let end = valid_until(stack, &open.role).await;
    stop(stack, &open).await;
    let row = closed(
        stack,
        &open.role,
        end,
        "execution stopped, event lost, no reconcile",
        "schedule at the end",
    )
    .await;
    switch_rule(stack, "enable-rule").await;
    row
}

/// The database is away when the window ends.
async fn database_down_across_the_end(stack: &mut Stack) -> Closed {
    let open = open(stack, "PT10S").await;
    let end = valid_until(stack, &open.role).await;
    stack.postgres_mut().stop().unwrap();
    while Utc::now() < end + TimeDelta::seconds(3) {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    stack.postgres_mut().start_again().await.unwrap();
    let row = closed(
        stack,
        &open.role,
        end,
        "database down across the end",
        "the state machine, again",
    )
    .await;
    stack.wait_for_end(&open.execution, SOON * 2).await.unwrap();
    row
}

async fn open(stack: &Stack, duration: &str) -> Asked {
    let role = new_role(stack, json!({})).await;
    let asked = ask_for(stack, &role, json!({ "duration": duration })).await;
    let answer = callback::approve(&asked.link, &role, "").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    until_open(stack, &asked).await;
    stack
        .wait_for_state(&asked.execution, "Wait Until End", SOON)
        .await
        .unwrap();
    asked
}

async fn stop(stack: &Stack, asked: &Asked) {
    stack
        .aws()
        .aws(&[
            "stepfunctions",
            "stop-execution",
            "--execution-arn",
            &asked.execution.arn,
        ])
        .await
        .unwrap();
}

async fn reconcile(stack: &Stack) -> Value {
    stack.invoke("ReconcileFunction", &json!({})).await.unwrap()
}

async fn switch_rule(stack: &Stack, command: &str) {
    let rules = stack.aws().aws(&["events", "list-rules"]).await.unwrap();
    let rules = rules["Rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "{rules:?}");
    let name = rules[0]["Name"].as_str().unwrap();
    stack
        .aws()
        .aws(&["events", command, "--name", name])
        .await
        .unwrap();
}

async fn alter(stack: &Stack, statement: &str) {
    let superuser = &stack.postgres().accounts().superuser;
    let session = stack
        .postgres()
        .log_in(superuser, "postgres")
        .await
        .unwrap();
    session.batch_execute(statement).await.unwrap();
}

/// Waits until the role has neither LOGIN nor sessions, by the server's own word, and says how long after `due`.
async fn closed(
    stack: &Stack,
    role: &str,
    due: DateTime<Utc>,
    fault: &'static str,
    defence: &'static str,
) -> Closed {
    let superuser = &stack.postgres().accounts().superuser;
    let until = Utc::now().max(due) + TimeDelta::from_std(SOON * 3).unwrap();
    loop {
        let session = stack
            .postgres()
            .log_in(superuser, "postgres")
            .await
            .unwrap();
        let row = session
            .query_one(
                "SELECT rolcanlogin, (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid)
                   FROM pg_roles r WHERE rolname = $1",
                &[&role],
            )
            .await
            .unwrap();
        let (can_login, n_sessions): (bool, i64) = (row.get(0), row.get(1));
        let now = Utc::now();
        if !can_login && n_sessions == 0 {
            assert!(!can_log_in(stack, role).await, "{fault}: it can log in");
            return Closed {
                fault,
                defence,
                lag: now - due,
                n_survivors: n_sessions,
            };
        }
        assert!(
            now < until,
            "{fault}: still open, LOGIN {can_login}, {n_sessions} sessions"
        );
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

async fn until_told(stack: &Stack, role: &str, word: &str) {
    let until = Utc::now() + TimeDelta::from_std(SOON).unwrap();
    while !told_requester(stack, role)
        .await
        .iter()
        .any(|subject| subject.contains(word))
    {
        assert!(
            Utc::now() < until,
            "the requester was not told that {role} is {word}"
        );
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

fn print(table: &[Closed]) -> String {
    let mut text = format!(
        "\n{:<46} {:<26} {:>9}  survivors\n",
        "fault", "closed by", "after"
    );
    for row in table {
        let lag = row.lag.num_milliseconds().max(0);
        let _ = writeln!(
            text,
            "{:<46} {:<26} {:>6} ms  {}",
            row.fault, row.defence, lag, row.n_survivors
        );
    }
    text
}
