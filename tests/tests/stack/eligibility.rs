//! What the catalogue says at the start counts too: of both versions the stricter holds.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback;
use xtask::ministack::ACCOUNT;
use xtask::stack::{APPROVERS, Ended, Execution, Stack, TARGET};

use super::fixture::{
    Asked, SOON, ask_for, can_log_in, link_to, merge, new_role, on_stack, outcome, row_version,
    until_open, valid_until, was_ever_opened,
};

/// Long enough ahead to change the catalogue after the approval.
const AHEAD: TimeDelta = TimeDelta::seconds(30);

/// A window of `role` that is approved, and starts a little later.
async fn approved(stack: &Stack, role: &str, change: Value) -> Asked {
    let start = DateTime::from_timestamp((Utc::now() + AHEAD).timestamp(), 0).unwrap();
    let mut request = json!({ "start": start.to_rfc3339() });
    merge(&mut request, change);
    let asked = ask_for(stack, role, request).await;
    let answer = callback::approve(&asked.link, role, "").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    stack
        .wait_for_state(&asked.execution, "Wait Until Start", SOON)
        .await
        .unwrap();
    assert!(Utc::now() < start, "the machine was too slow for this test");
    asked
}

async fn put_role(stack: &Stack, role: &str, change: Value) {
    let mut document = Stack::role_document(role);
    merge(&mut document, change);
    stack
        .put_catalogue(&format!("roles/{TARGET}/{role}"), &document)
        .await
        .unwrap();
}

async fn refused(stack: &Stack, asked: &Asked, name: &str, says: &str) -> Ended {
    let ended = outcome(stack, &asked.execution).await;
    assert_eq!(ended.outcome(), "refused", "{}", ended.output);
    assert_eq!(ended.fault_names(), [name], "{}", ended.output);
    let message = ended.output["faults"][0]["message"].as_str().unwrap();
    assert!(message.contains(says), "{message}");
    assert!(!was_ever_opened(stack, asked).await);
    ended
}

#[test]
fn a_stricter_policy_holds_for_what_was_approved_under_another() {
    on_stack(async |stack| {
        let (more, gone, signed) = tokio::join!(
            new_role(stack, json!({})),
            new_role(stack, json!({})),
            new_role(stack, json!({}))
        );
        let more = approved(stack, &more, json!({})).await;
        put_role(stack, &more.role, json!({ "required_approvals": 2 })).await;
        let gone = approved(stack, &gone, json!({})).await;
        put_role(stack, &gone.role, json!({ "approvers": ["bob"] })).await;
        let signed = approved(stack, &signed, json!({})).await;
        put_role(stack, &signed.role, json!({ "decide_by": "iam" })).await;

        refused(stack, &more, "CatalogueChanged", "2 people must approve").await;
        refused(
            stack,
            &gone,
            "CatalogueChanged",
            "Alice Example, who approved",
        )
        .await;
        refused(stack, &signed, "CatalogueChanged", "signed calls only").await;
    });
}

#[test]
fn a_role_that_left_the_catalogue_is_not_opened() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = approved(stack, &role, json!({})).await;
        let prefix = stack.output("CataloguePrefix").unwrap();
        let name = format!("{prefix}/roles/{TARGET}/{role}");
        // It answers nothing.
        let _ = stack
            .aws()
            .aws(&["ssm", "delete-parameter", "--name", &name])
            .await;
        refused(stack, &asked, "UnknownRole", "any more").await;
    });
}

/// How a verified request of `name` ended, whose principals became `later` between the approval and the start; and
/// whether the role was opened.
async fn with_principals_later(stack: &Stack, name: &str, later: &[&str]) -> (Ended, bool) {
    let put_person = async |principals: &[&str]| {
        let arns = principals
            .iter()
            .map(|user| format!("arn:aws:iam::{ACCOUNT}:user/{user}"));
        let person = json!({
            "id": name, "name": name, "mailbox": format!("{name}@example.com"),
            "principals": arns.collect::<Vec<_>>(),
        });
        let document = format!("people/{name}");
        stack.put_catalogue(&document, &person).await.unwrap();
    };
    let policy = stack.output("RequesterPolicyArn").unwrap();
    let keys = stack.make_user(name, policy).await.unwrap();
    put_person(&[name]).await;
    let role = new_role(stack, json!({})).await;
    let before = row_version(stack, &role).await;
    let start = DateTime::from_timestamp((Utc::now() + AHEAD).timestamp(), 0).unwrap();
    let mut document = Stack::request_document(&role, "PT10S");
    merge(
        &mut document,
        json!({ "requester": null, "start": start.to_rfc3339() }),
    );
    let answer = stack.ask(Some(&keys), &document, None).await.unwrap();
    let accepted: Value = serde_json::from_str(&answer.body).unwrap();
    let arn = accepted["execution_arn"].as_str().unwrap().to_owned();
    let execution = Execution { arn };
    let link = link_to(stack, APPROVERS[0], &role, &execution).await;
    callback::approve(&link, &role, "").await.unwrap();
    stack
        .wait_for_state(&execution, "Wait Until Start", SOON)
        .await
        .unwrap();
    put_person(later).await;
    assert!(Utc::now() < start, "the machine was too slow for this test");
    let ended = outcome(stack, &execution).await;
    (ended, row_version(stack, &role).await != before)
}

#[test]
fn a_requester_who_lost_a_principal_since_the_request_is_refused() {
    on_stack(async |stack| {
        let (ended, was_opened) = with_principals_later(stack, "nora", &["somebody-else"]).await;
        assert_eq!(ended.outcome(), "refused", "{}", ended.output);
        assert_eq!(ended.fault_names(), ["CatalogueChanged"]);
        let fault = &ended.output["faults"][0];
        assert_eq!(fault["path"], "$.requester");
        assert!(
            fault["message"].to_string().contains("IAM principal"),
            "{fault}"
        );
        assert!(!was_opened);
        // One more takes nothing away.
        let (ended, was_opened) = with_principals_later(stack, "nils", &["nils", "nils-too"]).await;
        assert_eq!(ended.outcome(), "closed", "{}", ended.output);
        assert!(was_opened);
    });
}

#[test]
fn a_role_that_somebody_else_can_act_as_since_the_approval_is_not_opened() {
    on_stack(async |stack| {
        let (role, same) = tokio::join!(new_role(stack, json!({})), new_role(stack, json!({})));
        let superuser = &stack.postgres().accounts().superuser;
        let session = stack
            .postgres()
            .log_in(superuser, "postgres")
            .await
            .unwrap();
        let grant = async |role: &str, to: &str| {
            let sql = format!("CREATE ROLE {to}; GRANT \"{role}\" TO {to}");
            session.batch_execute(&sql).await.unwrap();
        };
        // A member that approvers are told of is no surprise at the start.
        grant(&same, "known_member").await;
        let same = approved(stack, &same, json!({})).await;
        let asked = approved(stack, &role, json!({})).await;
        grant(&role, "new_member").await;
        refused(stack, &asked, "RoleChanged", "new_member").await;
        assert_eq!(outcome(stack, &same.execution).await.outcome(), "closed");
        assert!(was_ever_opened(stack, &same).await);
    });
}

#[test]
fn a_role_that_may_do_more_since_it_was_asked_for_is_not_opened() {
    on_stack(async |stack| {
        let superuser = &stack.postgres().accounts().superuser;
        let session = stack
            .postgres()
            .log_in(superuser, "postgres")
            .await
            .unwrap();
        let (signal, reach, login, power) = (
            "GRANT pg_signal_backend TO $role",
            "GRANT CONNECT ON DATABASE latchkey TO $role",
            "ALTER ROLE $role LOGIN",
            "ALTER ROLE $role SUPERUSER",
        );
        let run = async |sql: &str, role: &str| {
            let sql = sql.replace("$role", role);
            session.batch_execute(&sql).await.unwrap();
        };
        // reconcile leaves a role in `observe` as somebody made it.
        let observed = || new_role(stack, json!({ "mode": "observe" }));
        let (known, role_signal, role_reach, role_login, role_power) =
            tokio::join!(observed(), observed(), observed(), observed(), observed());
        run(signal, &known).await;
        run(reach, &known).await;
        let ask = |role: String| async move { approved(stack, &role, json!({})).await };
        let (known, with_signal, with_reach, with_login, with_power) = tokio::join!(
            ask(known),
            ask(role_signal),
            ask(role_reach),
            ask(role_login),
            ask(role_power)
        );
        let changed = [
            (
                with_signal,
                signal,
                "REVOKE pg_signal_backend FROM $role",
                "RoleChanged",
                "end other people's sessions",
            ),
            (
                with_reach,
                reach,
                "REVOKE CONNECT ON DATABASE latchkey FROM $role",
                "RoleChanged",
                "connect to Latchkey's own database",
            ),
            (
                with_login,
                login,
                "ALTER ROLE $role NOLOGIN",
                "RoleChanged",
                "outside of every window",
            ),
            (
                with_power,
                power,
                "ALTER ROLE $role NOSUPERUSER",
                "RoleTooPowerful",
                "SUPERUSER",
            ),
        ];
        // They all start at about the same time.
        for (asked, change, ..) in &changed {
            run(change, &asked.role).await;
        }
        for (asked, change, undo, name, says) in changed {
            let ended = outcome(stack, &asked.execution).await;
            assert_eq!(ended.outcome(), "refused", "{change}: {}", ended.output);
            // Before PostgreSQL 16 a superuser is out of our functions' hands too.
            assert_eq!(ended.fault_names()[0], name, "{change}: {}", ended.output);
            let message = ended.output["faults"][0]["message"].as_str().unwrap();
            assert!(message.contains(says), "{change}: {message}");
            let states = stack.states_entered(&asked.execution).await.unwrap();
            let opened = states.iter().any(|(state, _)| state == "Announce Opened");
            assert!(!opened, "{change}: {states:?}");
            run(undo, &asked.role).await;
        }
        // What its approvers were told of is no surprise.
        assert_eq!(outcome(stack, &known.execution).await.outcome(), "closed");
        assert!(was_ever_opened(stack, &known).await);
    });
}

#[test]
fn a_shorter_limit_shortens_the_window() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = approved(stack, &role, json!({ "duration": "PT10M" })).await;
        put_role(stack, &role, json!({ "max_duration": "PT20S" })).await;
        until_open(stack, &asked).await;
        let end = valid_until(stack, &role).await;
        assert!(end <= Utc::now() + TimeDelta::seconds(20), "until {end}");
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn a_catalogue_that_cannot_be_read_opens_nothing() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = approved(stack, &role, json!({})).await;
        put_role(stack, &role, json!({ "max_duration": "a while" })).await;
        let ended = stack.wait_for_end(&asked.execution, SOON).await.unwrap();
        assert_eq!(ended.status, "FAILED", "{ended:?}");
        assert!(!was_ever_opened(stack, &asked).await);
    });
}
