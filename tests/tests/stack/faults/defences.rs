//! All defences but one are taken away, or the access came from elsewhere.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::join;
use xtask::login_probe::Attempt;
use xtask::stack::Stack;

use super::super::fixture::{SOON, told_requester};
use super::evidence::{Defence, PROVED_WITHIN, Row, closed};
use super::site::{LOOK_AGAIN_AFTER, Open, Site, until};

/// Nothing breaks.
pub(super) async fn nothing(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let end = open.end;
    let both = [Defence::StateMachine, Defence::Schedule];
    closed(site, open, end, "none", &both).await
}

/// The execution is stopped and the schedule is gone: the event is left. The requester is told.
pub(super) async fn only_the_event(site: Site<'_>) -> Row {
    let open = site.open("PT300S").await;
    delete_schedule(site.stack, &open).await;
    site.stack.stop_execution(open.execution()).await.unwrap();
    let (due, role) = (Utc::now(), open.role.clone());
    let fault = "execution stopped, schedule deleted";
    let row = closed(site, open, due, fault, &[Defence::Event]).await;
    until_told(site.stack, &role, "closed").await;
    row
}

/// Events are dropped, and each of the other defences is left alone in turn.
pub(super) async fn without_events(site: Site<'_>) -> Vec<Row> {
    let stack = site.stack;
    switch_rule(stack, "disable-rule").await;
    let (machine, schedule, reconciled) =
        join!(site.open("PT30S"), site.open("PT30S"), site.open("PT300S"));
    delete_schedule(stack, &machine).await;
    let machine_closes = async {
        let end = machine.end;
        let fault = "events dropped, schedule deleted";
        closed(site, machine, end, fault, &[Defence::StateMachine]).await
    };
    let schedule_closes = async {
        stack.stop_execution(schedule.execution()).await.unwrap();
        assert!(
            site.can_log_in(&schedule.role).await,
            "the event was to be lost"
        );
        let end = schedule.end;
        let fault = "execution stopped, events dropped";
        closed(site, schedule, end, fault, &[Defence::Schedule]).await
    };
    let rows = join!(machine_closes, schedule_closes);

    // The last one has nothing left, and its role is not in the catalogue any more.
    delete_schedule(stack, &reconciled).await;
    delete_role_entry(stack, &reconciled.role).await;
    stack.stop_execution(reconciled.execution()).await.unwrap();
    assert!(
        site.can_log_in(&reconciled.role).await,
        "the event was to be lost"
    );
    let due = Utc::now();
    let round = reconcile(stack).await;
    assert!(round["n_orphaned"].as_u64() >= Some(1), "{round}");
    let fault = "execution stopped, schedule, events, role entry lost";
    let row = closed(site, reconciled, due, fault, &[Defence::Reconcile]).await;
    switch_rule(stack, "enable-rule").await;
    vec![rows.0, rows.1, row]
}

/// Access that no window gave, a window that the owner ended, an opening by hand, and a role that left the catalogue.
pub(super) async fn by_hand(site: Site<'_>) -> Vec<Row> {
    let stack = site.stack;
    let (outside, adopted) = join!(site.new_role(), site.new_role());
    let (ended, removed) = join!(site.open("PT60S"), site.open("PT60S"));
    site.alter(&format!("ALTER ROLE {outside} LOGIN")).await;
    site.alter(&format!("ALTER ROLE {} NOLOGIN", ended.role))
        .await;
    delete_role_entry(stack, &removed.role).await;
    let master = &stack.postgres().accounts().master;
    let master = stack.postgres().log_in(master, "latchkey").await.unwrap();
    let statement = format!(
        "SELECT latchkey.open_by_hand('{adopted}', now() + interval '40 s', 'the outage of tonight')"
    );
    master.query(&statement, &[]).await.unwrap();
    let seen = site.look(&site.observer().await, &adopted).await;
    let adopted_end = seen.valid_until.unwrap();
    let Attempt::Accepted(_in_adopted) = site.try_log_in(&adopted).await.unwrap() else {
        panic!("opened by hand")
    };
    let Attempt::Accepted(_outside) = site.try_log_in(&outside).await.unwrap() else {
        panic!("LOGIN was given")
    };

    let both = [Defence::StateMachine, Defence::Schedule];
    let (end_1, end_2) = (ended.end, removed.end);
    let (ended_role, removed_role) = (ended.role.clone(), removed.role.clone());
    let by_reconcile = async {
        let fault = "LOGIN given outside any window";
        let (round, outside) = cut_by_reconcile(site, &outside, Utc::now(), fault).await;
        assert_eq!(round["n_cut"], 1, "{round}");
        assert_eq!(round["n_not_open"], 1, "{round}");
        assert_eq!(round["n_by_hand"], 1, "{round}");
        let (adopted_seen, removed_seen) = {
            let observer = site.observer().await;
            let adopted = site.look(&observer, &adopted).await;
            (adopted, site.look(&observer, &removed_role).await)
        };
        assert!(
            Utc::now() < adopted_end.min(end_2),
            "a round took longer than the windows"
        );
        assert!(adopted_seen.can_login, "an adopted window was cut");
        assert!(
            removed_seen.can_login,
            "a window was cut with its catalogue entry"
        );
        assert!(
            !site.can_log_in(&ended_role).await,
            "NOLOGIN by hand was undone"
        );
        until(adopted_end).await;
        let fault = "opened by hand by the DBA";
        let (round, adopted) = cut_by_reconcile(site, &adopted, adopted_end, fault).await;
        assert!(round["n_cut"].as_u64() >= Some(1), "{round}");
        [outside, adopted]
    };
    let from_its_end = async |open: Open, end, fault| {
        // LOGIN may be gone before.
        until(end).await;
        closed(site, open, end, fault, &both).await
    };
    let (by_reconcile, row_1, row_2) = join!(
        by_reconcile,
        from_its_end(ended, end_1, "NOLOGIN by hand in mid-window"),
        from_its_end(removed, end_2, "role's catalogue entry deleted"),
    );
    let [row_3, row_4] = by_reconcile;
    vec![row_3, row_4, row_1, row_2]
}

/// Calls reconcile, watches the role meanwhile, and returns what reconcile said: for a role without a request there is
/// no other record.
async fn cut_by_reconcile(
    site: Site<'_>,
    role: &str,
    due: DateTime<Utc>,
    fault: &str,
) -> (Value, Row) {
    let before = site.look(&site.observer().await, role).await;
    assert!(before.can_login, "{fault}: closed by somebody else");
    let watching = site.until_closed(role, PROVED_WITHIN);
    let (round, closed_at) = join!(reconcile(site.stack), watching);
    assert!(!site.can_log_in(role).await, "{fault}");
    let row = Row {
        fault: fault.to_owned(),
        closed_by: Defence::Reconcile.to_string(),
        lag: Some((closed_at - due).max(TimeDelta::zero())),
        n_survivors: 0,
        stopped_in: None,
    };
    (round, row)
}

pub(super) async fn reconcile(stack: &Stack) -> Value {
    stack.invoke("ReconcileFunction", &json!({})).await.unwrap()
}

/// Takes the schedule at the end of a window away. That it was there is a part of the promise.
pub(super) async fn delete_schedule(stack: &Stack, open: &Open) {
    let group = stack.output("WindowEndsGroup").unwrap();
    let schedule = ["--group-name", group, "--name", &open.request_id];
    for command in ["get-schedule", "delete-schedule"] {
        let arguments = [&["scheduler", command][..], &schedule].concat();
        stack.aws().aws(&arguments).await.unwrap();
    }
}

async fn delete_role_entry(stack: &Stack, role: &str) {
    let prefix = stack.output("CataloguePrefix").unwrap();
    let name = format!("{prefix}/roles/local/{role}");
    let arguments = ["ssm", "delete-parameter", "--name", &name];
    stack.aws().aws(&arguments).await.unwrap();
}

/// Switches the rule for ended executions off or on.
pub(super) async fn switch_rule(stack: &Stack, command: &str) {
    let rules = stack.aws().aws(&["events", "list-rules"]).await.unwrap();
    let rules = rules["Rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "{rules:?}");
    let name = rules[0]["Name"].as_str().unwrap();
    let arguments = ["events", command, "--name", name];
    stack.aws().aws(&arguments).await.unwrap();
}

/// Takes reconcile's own schedule away, so that it comes when a fault calls it and never by chance.
pub(super) async fn stop_reconciling(stack: &Stack) {
    let listed = stack.aws().aws(&["scheduler", "list-schedules"]).await;
    let listed = listed.unwrap();
    let ours: Vec<_> = listed["Schedules"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|schedule| schedule.to_string().contains("ReconcileFunction"))
        .collect();
    assert_eq!(ours.len(), 1, "{listed}");
    let text = |field: &str| ours[0][field].as_str().unwrap();
    let (name, group) = (text("Name"), text("GroupName"));
    let arguments = [
        "scheduler",
        "delete-schedule",
        "--name",
        name,
        "--group-name",
        group,
    ];
    stack.aws().aws(&arguments).await.unwrap();
}

async fn until_told(stack: &Stack, role: &str, word: &str) {
    let until = Utc::now() + TimeDelta::from_std(SOON).unwrap();
    let is_told = async || {
        let subjects = told_requester(stack, role).await;
        subjects.iter().any(|subject| subject.contains(word))
    };
    while !is_told().await {
        assert!(Utc::now() < until, "nobody was told that {role} is {word}");
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}
