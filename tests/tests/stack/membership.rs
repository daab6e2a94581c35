//! Membership of a user in a role, from the request to the proof: can this user act as that role now?

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback;
use xtask::login_probe::{Attempt, Session};
use xtask::postgres::LATCHKEY_DATABASE;
use xtask::stack::{REQUESTER, Stack};

use super::fixture::{Asked, SOON, WINDOW, ask_for, file, merge, on_stack, outcome, request_id};

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A membership of the local database.
struct Membership {
    name: String,
    role: String,
    user: String,
}

/// A new membership of a new user in a new role, with `change` made to its document.
async fn new_membership(stack: &Stack, change: Value) -> Membership {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let membership = Membership {
        name: format!("member-{n:03}"),
        role: format!("dba_{n:03}"),
        user: format!("user_{n:03}"),
    };
    let mut document = Stack::role_document(&membership.name);
    merge(
        &mut document,
        json!({
            "kind": "membership",
            "membership": { "role": membership.role, "user": membership.user },
            "credential": null,
        }),
    );
    merge(&mut document, change);
    stack.add_membership(&document).await.unwrap();
    membership
}

async fn try_to_act(stack: &Stack, membership: &Membership) -> Attempt {
    stack
        .try_act_as(&membership.user, &membership.role)
        .await
        .unwrap()
}

async fn can_act(stack: &Stack, membership: &Membership) -> bool {
    try_to_act(stack, membership).await.is_accepted()
}

/// A session of the user, as it has it every day.
async fn session(stack: &Stack, membership: &Membership) -> Session {
    match stack.try_log_in(&membership.user).await.unwrap() {
        Attempt::Accepted(session) => session,
        Attempt::Refused { sqlstate } => panic!("the user cannot log in: {sqlstate}"),
    }
}

async fn ask(stack: &Stack, membership: &Membership, change: Value) -> Asked {
    ask_for(stack, &membership.name, change).await
}

async fn approve(asked: &Asked) {
    let answer = callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn until_open(stack: &Stack, asked: &Asked, membership: &Membership) {
    tokio::select! {
        () = async {
            while !can_act(stack, membership).await {
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
        } => {}
        ended = stack.wait_for_end(&asked.execution, SOON) => panic!("it was never opened: {ended:?}"),
    }
}

async fn open_until(stack: &Stack, membership: &Membership) -> DateTime<Utc> {
    let query = "SELECT open_until FROM latchkey.membership WHERE name::text = $1";
    let superuser = &stack.postgres().accounts().superuser;
    let observer = stack
        .postgres()
        .log_in(superuser, LATCHKEY_DATABASE)
        .await
        .unwrap();
    observer
        .query_one(query, &[&membership.name])
        .await
        .unwrap()
        .get(0)
}

/// The message with this subject that the requester gets.
async fn message(stack: &Stack, membership: &Membership, subject: &str) -> String {
    let inbox = stack.inbox(REQUESTER).unwrap();
    let is_it = |message: &xtask::inbox::Message| {
        message.is_about(&membership.name) && message.subject.contains(subject)
    };
    inbox.next(SOON, is_it).await.unwrap().text
}

#[test]
fn an_approved_window_gives_the_membership_and_takes_it_at_its_end() {
    on_stack(async |stack| {
        let membership = new_membership(stack, json!({})).await;
        let asked = ask(stack, &membership, json!({})).await;
        let page = callback::get(&asked.link).await.unwrap().body;
        assert!(
            page.contains(&membership.user) && page.contains(&membership.role),
            "{page}"
        );
        assert!(!can_act(stack, &membership).await);

        approve(&asked).await;
        until_open(stack, &asked, &membership).await;
        let end = open_until(stack, &membership).await;
        assert!(end <= Utc::now() + TimeDelta::from_std(WINDOW).unwrap());
        message(stack, &membership, "membership given").await;
        let Attempt::Accepted(acting) = try_to_act(stack, &membership).await else {
            panic!("refused inside the window");
        };
        let idle = session(stack, &membership).await;
        let as_whom = acting
            .query_text("SELECT current_user::text")
            .await
            .unwrap();
        assert_eq!(as_whom, membership.role);

        for session in [acting, idle] {
            let cut = session.cut(WINDOW + SOON).await.unwrap();
            assert!(cut.at >= end, "cut {} before the end", end - cut.at);
        }
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(!can_act(stack, &membership).await);
        let told = message(stack, &membership, "membership ended").await;
        assert!(told.contains("is over. Checked on the database"), "{told}");

        // Nothing of a window that is over touches what the user does every day.
        let everyday = session(stack, &membership).await;
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        everyday.query_text("SELECT 'still here'").await.unwrap();
    });
}

#[test]
fn overlapping_windows_of_a_membership_end_with_the_last_one() {
    on_stack(async |stack| {
        let membership = new_membership(stack, json!({})).await;
        let short = ask(stack, &membership, json!({ "duration": "PT12S" })).await;
        let long = ask(stack, &membership, json!({ "duration": "PT40S" })).await;
        approve(&short).await;
        until_open(stack, &short, &membership).await;
        approve(&long).await;
        stack
            .wait_for_state(&long.execution, "Wait Until End", SOON)
            .await
            .unwrap();
        let ended = outcome(stack, &short.execution).await;
        assert_eq!(ended.outcome(), "ended_role_still_open", "{ended:?}");
        assert!(can_act(stack, &membership).await);
        assert_eq!(outcome(stack, &long.execution).await.outcome(), "closed");
        assert!(!can_act(stack, &membership).await);
    });
}

#[test]
fn a_membership_that_is_given_back_is_revoked_at_once() {
    on_stack(async |stack| {
        let membership = new_membership(stack, json!({})).await;
        let asked = ask(stack, &membership, json!({ "duration": "PT10M" })).await;
        approve(&asked).await;
        until_open(stack, &asked, &membership).await;
        let acting = try_to_act(stack, &membership).await;
        let Attempt::Accepted(acting) = acting else {
            panic!("refused inside the window");
        };
        let id = request_id(stack, &asked.execution).await;
        let url = format!("{}/{id}/end", stack.output("RequestsUrl").unwrap());
        let reason = json!({ "reason": "repaired" }).to_string();
        let answer = callback::call(Some(stack.requester_keys()), "POST", &url, &[], &reason)
            .await
            .unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        acting.cut(SOON).await.unwrap();
        let told = message(stack, &membership, "membership ended").await;
        assert!(told.contains("repaired"), "{told}");
        assert!(!can_act(stack, &membership).await);
        let arn = asked.execution.arn.as_str();
        let stop = ["stepfunctions", "stop-execution", "--execution-arn", arn];
        stack.aws().aws(&stop).await.unwrap();
    });
}

#[test]
fn what_could_not_be_ended_is_refused_before_anybody_is_asked() {
    on_stack(async |stack| {
        let refused = async |membership: &Membership| {
            let execution = file(stack, &membership.name, json!({})).await;
            let ended = outcome(stack, &execution).await;
            assert_eq!(ended.outcome(), "refused", "{}", ended.output);
            ended.fault_names().join(", ")
        };
        let server = stack.postgres();
        let master = server
            .log_in(&server.accounts().master, LATCHKEY_DATABASE)
            .await
            .unwrap();

        let held = new_membership(stack, json!({})).await;
        let grant = format!("GRANT {} TO {}", held.role, held.user);
        master.batch_execute(&grant).await.unwrap();
        assert_eq!(refused(&held).await, "MemberAlready");

        let shared = new_membership(stack, json!({})).await;
        let grant = format!("GRANT {} TO {}", shared.user, held.user);
        master.batch_execute(&grant).await.unwrap();
        assert_eq!(refused(&shared).await, "UserActedAsByOthers");

        // The catalogue says another role than the database's owner has registered.
        let other = new_membership(stack, json!({})).await;
        let mut document = Stack::role_document(&other.name);
        let pair = json!({ "role": held.role, "user": other.user });
        let change = json!({ "kind": "membership", "membership": pair, "credential": null });
        merge(&mut document, change);
        let name = format!("roles/{}/{}", xtask::stack::TARGET, other.name);
        stack.put_catalogue(&name, &document).await.unwrap();
        assert_eq!(refused(&other).await, "RoleNotRegistered");
        // And a login.
        let kind = new_membership(stack, json!({})).await;
        let document = Stack::role_document(&kind.name);
        let name = format!("roles/{}/{}", xtask::stack::TARGET, kind.name);
        stack.put_catalogue(&name, &document).await.unwrap();
        assert_eq!(refused(&kind).await, "RoleNotRegistered");
        for membership in [&shared, &other, &kind] {
            assert!(!can_act(stack, membership).await);
        }
        let revoke = format!("REVOKE {} FROM {}", held.role, held.user);
        master.batch_execute(&revoke).await.unwrap();
    });
}

#[test]
fn a_membership_that_no_window_gives_is_revoked_by_reconcile_alone() {
    on_stack(async |stack| {
        let membership = new_membership(stack, json!({})).await;
        // As whoever has stolen the opener's credential could do it at most.
        let server = stack.postgres();
        let thief = server
            .log_in(&server.accounts().opener, LATCHKEY_DATABASE)
            .await
            .unwrap();
        let open = "SELECT latchkey.open_membership($1, $2, $3, now() + interval '1 hour')";
        thief
            .execute(
                open,
                &[&membership.name, &membership.role, &membership.user],
            )
            .await
            .unwrap();
        let Attempt::Accepted(acting) = try_to_act(stack, &membership).await else {
            panic!("it is open");
        };
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        acting.cut(SOON).await.unwrap();
        assert!(!can_act(stack, &membership).await);
    });
}
