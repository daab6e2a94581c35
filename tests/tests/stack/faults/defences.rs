//! All defences but one are taken away, or the access came from elsewhere.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::join;
use xtask::login_probe::{Attempt, Session};
use xtask::stack::Stack;

use super::super::fixture::{SOON, told_requester};
use super::database::BOTH;
use super::evidence::{Defence, PROVED_WITHIN, Row, closed, closed_on_each};
use super::site::{LOOK_AGAIN_AFTER, Open, Site, lasting, on_each, open_together, until};

/// Nothing breaks.
pub(super) async fn nothing(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let end = open.end;
    closed(site, open, end, "none", &BOTH).await
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
pub(super) async fn without_events(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    switch_rule(stack, "disable-rule").await;
    let (machine, schedule, reconciled) = join!(
        open_together(sites, 30),
        open_together(sites, 30),
        open_together(sites, 300)
    );
    let machine_closes = async {
        for open in &machine {
            delete_schedule(stack, open).await;
        }
        let fault = "events dropped, schedule deleted";
        closed_on_each(sites, machine, None, fault, &[Defence::StateMachine]).await
    };
    let schedule_closes = async {
        for (site, open) in sites.iter().zip(&schedule) {
            stop_unseen(*site, open).await;
        }
        let fault = "execution stopped, events dropped";
        closed_on_each(sites, schedule, None, fault, &[Defence::Schedule]).await
    };
    let (mut rows, by_schedule) = join!(machine_closes, schedule_closes);
    rows.extend(by_schedule);

    // The last ones have nothing left, and their roles are not in the catalogue any more.
    for (site, open) in sites.iter().zip(&reconciled) {
        delete_schedule(stack, open).await;
        delete_role_entry(*site, &open.role).await;
        stop_unseen(*site, open).await;
    }
    let due = Utc::now();
    let round = reconcile(stack).await;
    let n_orphaned = round["n_orphaned"].as_u64().unwrap();
    assert!(n_orphaned >= sites.len() as u64, "{round}");
    let fault = "execution stopped, schedule, events, role entry lost";
    let allowed = [Defence::Reconcile];
    rows.extend(closed_on_each(sites, reconciled, Some(due), fault, &allowed).await);
    switch_rule(stack, "enable-rule").await;
    rows
}

/// Stops an execution whose event is lost.
async fn stop_unseen(site: Site<'_>, open: &Open) {
    site.stack.stop_execution(open.execution()).await.unwrap();
    assert!(
        site.can_log_in(&open.role).await,
        "the event was to be lost"
    );
}

/// What was done by hand in one database.
struct ByHand<'a> {
    site: Site<'a>,
    /// Can log in although no window gives it.
    outside: String,
    adopted: String,
    adopted_end: DateTime<Utc>,
    /// Its owner took LOGIN in mid-window.
    ended: Open,
    /// Its catalogue entry was deleted in mid-window.
    removed: Open,
    /// Of `outside` and `adopted`.
    _sessions: [Session; 2],
}

/// Access that no window gave, a window that the owner ended, an opening by hand, a role that left the catalogue, and one
/// that was renamed.
pub(super) async fn by_hand(sites: &[Site<'_>]) -> Vec<Row> {
    let stack = sites[0].stack;
    let by_hand = on_each(sites, async |site| {
        do_by_hand(site, lasting(sites, 60)).await
    })
    .await;
    let first_end = by_hand
        .iter()
        .map(|one| one.adopted_end.min(one.removed.end))
        .min();
    let last_end = by_hand.iter().map(|one| one.adopted_end).max().unwrap();

    let outside: Vec<_> = by_hand
        .iter()
        .map(|one| (one.site, one.outside.as_str()))
        .collect();
    let dues = vec![Utc::now(); sites.len()];
    let fault = "LOGIN given outside any window";
    let (round, mut rows) = cut_by_reconcile(stack, &outside, &dues, fault).await;
    for what in ["n_cut", "n_not_open", "n_by_hand", "n_changed"] {
        assert_eq!(round[what], sites.len(), "{what}: {round}");
    }
    for one in &by_hand {
        let observer = one.site.observer().await;
        let adopted = one.site.look(&observer, &one.adopted).await;
        let removed = one.site.look(&observer, &one.removed.role).await;
        assert!(adopted.can_login, "an adopted window was cut");
        assert!(
            removed.can_login,
            "a window was cut with its catalogue entry"
        );
        assert!(
            !one.site.can_log_in(&one.ended.role).await,
            "NOLOGIN by hand was undone"
        );
    }
    assert!(
        Some(Utc::now()) < first_end,
        "a round took longer than the windows"
    );

    until(last_end).await;
    let adopted: Vec<_> = by_hand
        .iter()
        .map(|one| (one.site, one.adopted.as_str()))
        .collect();
    let dues: Vec<_> = by_hand.iter().map(|one| one.adopted_end).collect();
    let fault = "opened by hand by the DBA";
    let (round, by_reconcile) = cut_by_reconcile(stack, &adopted, &dues, fault).await;
    assert!(
        round["n_cut"].as_u64() >= Some(sites.len() as u64),
        "{round}"
    );
    rows.extend(by_reconcile);

    let (ended, removed): (Vec<_>, Vec<_>) = by_hand
        .into_iter()
        .map(|one| (one.ended, one.removed))
        .unzip();
    // LOGIN may be gone before.
    until(ended.iter().map(|open| open.end).max().unwrap()).await;
    let (fault_1, fault_2) = (
        "NOLOGIN by hand in mid-window",
        "role's catalogue entry deleted",
    );
    let at_their_end = join!(
        closed_on_each(sites, ended, None, fault_1, &BOTH),
        closed_on_each(sites, removed, None, fault_2, &BOTH),
    );
    rows.extend(at_their_end.0);
    rows.extend(at_their_end.1);
    rows
}

async fn do_by_hand(site: Site<'_>, seconds: i64) -> ByHand<'_> {
    let duration = format!("PT{seconds}S");
    let (outside, adopted, renamed) = join!(site.new_role(), site.new_role(), site.new_role());
    let (ended, removed) = join!(site.open(&duration), site.open(&duration));
    site.alter(&format!("ALTER ROLE {outside} LOGIN")).await;
    site.alter(&format!("ALTER ROLE {renamed} RENAME TO {renamed}_of_old"))
        .await;
    site.alter(&format!("ALTER ROLE {} NOLOGIN", ended.role))
        .await;
    delete_role_entry(site, &removed.role).await;
    let master = &site.postgres.accounts().master;
    let master = site.postgres.log_in(master, "latchkey").await.unwrap();
    let open_by_hand = format!(
        "SELECT latchkey.open_by_hand('{adopted}', now() + interval '{} s', 'the outage of tonight')",
        seconds - 20
    );
    master.query(&open_by_hand, &[]).await.unwrap();
    let seen = site.look(&site.observer().await, &adopted).await;
    let Attempt::Accepted(in_adopted) = site.try_log_in(&adopted).await.unwrap() else {
        panic!("opened by hand")
    };
    let Attempt::Accepted(in_outside) = site.try_log_in(&outside).await.unwrap() else {
        panic!("LOGIN was given")
    };
    ByHand {
        site,
        outside,
        adopted,
        adopted_end: seen.valid_until.unwrap(),
        ended,
        removed,
        _sessions: [in_outside, in_adopted],
    }
}

/// Calls reconcile, watches a role of every version meanwhile, and returns what reconcile said: for a role without a
/// request there is no other record.
async fn cut_by_reconcile(
    stack: &Stack,
    roles: &[(Site<'_>, &str)],
    dues: &[DateTime<Utc>],
    fault: &str,
) -> (Value, Vec<Row>) {
    for (site, role) in roles {
        let before = site.look(&site.observer().await, role).await;
        assert!(before.can_login, "{fault}: closed by somebody else");
    }
    let watching = roles.iter().zip(dues).map(async |((site, role), due)| {
        let closed_at = site.until_closed(role, PROVED_WITHIN).await;
        assert!(!site.can_log_in(role).await, "{fault}");
        Row {
            closed_by: Defence::Reconcile.to_string(),
            lag: Some((closed_at - due).max(TimeDelta::zero())),
            ..Row::new(*site, fault)
        }
    });
    join!(reconcile(stack), join_all(watching))
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

async fn delete_role_entry(site: Site<'_>, role: &str) {
    let prefix = site.stack.output("CataloguePrefix").unwrap();
    let name = format!("{prefix}/roles/{}/{role}", site.target);
    let arguments = ["ssm", "delete-parameter", "--name", &name];
    site.stack.aws().aws(&arguments).await.unwrap();
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
