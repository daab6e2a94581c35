//! What the catalogue says at the start counts too: of both versions the stricter holds.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback;
use xtask::stack::{Ended, Stack, TARGET};

use super::fixture::{
    Asked, SOON, ask_for, can_log_in, merge, new_role, on_stack, outcome, until_open, valid_until,
    was_ever_opened,
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
