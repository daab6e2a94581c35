//! Ending before the time: a request taken back, a window given back or revoked, by whoever may.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback::{self, Answer};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Execution, REQUESTER, Stack};

use super::fixture::{
    Asked, SOON, ask, ask_for, can_log_in, new_role, on_stack, outcome, request_id, told_requester,
    until_open, was_ever_opened,
};

async fn end(stack: &Stack, keys: Option<&Keys>, id: &str, reason: &Value) -> Answer {
    let url = format!("{}/{id}/end", stack.output("RequestsUrl").unwrap());
    let body = json!({ "reason": reason }).to_string();
    callback::call(keys, "POST", &url, &[], &body)
        .await
        .unwrap()
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("not JSON: {answer:?}"))
}

fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(body(answer)["error"], error, "{answer:?}");
}

/// An IAM user with the rights of operators, who is a person of the catalogue.
async fn operator(stack: &Stack, id: &str) -> Keys {
    let policy = stack.output("OperatorPolicyArn").unwrap();
    let keys = stack.make_user(id, policy).await.unwrap();
    let person = json!({
        "id": id, "name": id, "mailbox": format!("{id}@example.com"),
        "principals": [format!("arn:aws:iam::{ACCOUNT}:user/{id}")],
    });
    stack
        .put_catalogue(&format!("people/{id}"), &person)
        .await
        .unwrap();
    keys
}

/// The message with this subject that the requester gets about `role`.
async fn message(stack: &Stack, role: &str, subject: &str) -> String {
    let inbox = stack.inbox(REQUESTER).unwrap();
    let is_it = |message: &xtask::inbox::Message| {
        message.is_about(role) && message.subject.contains(subject)
    };
    inbox.next(SOON, is_it).await.unwrap().text
}

async fn open(stack: &Stack, change: Value) -> (Asked, String) {
    let role = new_role(stack, change).await;
    let asked = ask_for(stack, &role, json!({ "duration": "PT10M" })).await;
    callback::approve(&asked.link, &role, "").await.unwrap();
    until_open(stack, &asked).await;
    let id = request_id(stack, &asked.execution).await;
    (asked, id)
}

/// Waits until the role is closed, well before its end; the execution that opened it still waits for that end.
async fn closed_early(stack: &Stack, asked: &Asked, by: &str, why: &str) {
    let text = message(stack, &asked.role, "login closed").await;
    assert!(text.contains(by) && text.contains(why), "{text}");
    assert!(!can_log_in(stack, &asked.role).await);
    stop(stack, &asked.execution).await;
}

async fn stop(stack: &Stack, execution: &Execution) {
    let arn = execution.arn.as_str();
    let call = ["stepfunctions", "stop-execution", "--execution-arn", arn];
    stack.aws().aws(&call).await.unwrap();
}

#[test]
fn a_requester_takes_a_pending_request_back() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        let answer = end(
            stack,
            Some(stack.requester_keys()),
            &id,
            &json!("not needed"),
        )
        .await;
        assert_eq!(
            (answer.status, body(&answer)["status"].as_str()),
            (200, Some("cancelled")),
            "{answer:?}"
        );
        assert_eq!(
            outcome(stack, &asked.execution).await.outcome(),
            "cancelled"
        );
        let text = message(stack, &asked.role, "cancelled").await;
        assert!(
            text.contains("Riko Example") && text.contains("not needed"),
            "{text}"
        );
        assert_eq!(
            callback::approve(&asked.link, &asked.role, "")
                .await
                .unwrap()
                .status,
            200
        );
        let again = end(stack, Some(stack.requester_keys()), &id, &json!("again")).await;
        refused(&again, 409, "already_over");
        assert!(
            body(&again)["message"]
                .as_str()
                .unwrap()
                .contains("Riko Example"),
            "{again:?}"
        );
        assert!(!was_ever_opened(stack, &asked).await);
    });
}

#[test]
fn what_was_cancelled_after_its_approval_is_not_opened() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let start = (Utc::now() + TimeDelta::seconds(30)).to_rfc3339();
        let asked = ask_for(stack, &role, json!({ "start": start, "duration": "PT10M" })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        stack
            .wait_for_state(&asked.execution, "Wait Until Start", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        let bob = stack.keys_of(APPROVERS[1]).unwrap();
        let answer = end(stack, Some(bob), &id, &json!("wrong night")).await;
        assert_eq!(body(&answer)["status"], "cancelled", "{answer:?}");
        // Told while the execution still sleeps, and not again when it wakes.
        let text = message(stack, &role, "cancelled").await;
        assert!(
            text.contains("Bob Example") && text.contains("wrong night"),
            "{text}"
        );
        let states = stack.states_entered(&asked.execution).await.unwrap();
        assert_eq!(states.last().unwrap().0, "Wait Until Start", "{states:?}");
        assert_eq!(
            outcome(stack, &asked.execution).await.outcome(),
            "cancelled"
        );
        let told = told_requester(stack, &role).await;
        assert!(
            !told.iter().any(|subject| subject.contains("cancelled")),
            "{told:?}"
        );
        assert!(!was_ever_opened(stack, &asked).await);
    });
}

#[test]
fn requester_approver_and_operator_end_an_open_window() {
    on_stack(async |stack| {
        let olga = operator(stack, "olga").await;
        for (keys, name) in [
            (stack.requester_keys(), "Riko Example"),
            (stack.keys_of(APPROVERS[1]).unwrap(), "Bob Example"),
            (&olga, "olga"),
        ] {
            let (asked, id) = open(stack, json!({ "operators": ["olga"] })).await;
            let answer = end(stack, Some(keys), &id, &json!("done for tonight")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            let again = end(stack, Some(keys), &id, &json!("again")).await;
            assert!([202, 409].contains(&again.status), "{again:?}");
            closed_early(stack, &asked, name, "done for tonight").await;
        }
    });
}

#[test]
fn strangers_end_nothing_and_every_end_has_a_reason() {
    on_stack(async |stack| {
        let other = operator(stack, "oscar").await;
        let (asked, id) = open(stack, json!({})).await;
        let why = json!("because");
        assert_eq!(end(stack, None, &id, &why).await.status, 403);
        refused(
            &end(stack, Some(&other), &id, &why).await,
            403,
            "may_not_end",
        );
        let riko = Some(stack.requester_keys());
        for reason in [
            json!(""),
            json!(" "),
            json!(7),
            json!("x".repeat(501)),
            Value::Null,
        ] {
            refused(
                &end(stack, riko, &id, &reason).await,
                400,
                "faulty_document",
            );
        }
        assert!(can_log_in(stack, &asked.role).await);
        assert_eq!(end(stack, riko, &id, &why).await.status, 202);
        closed_early(stack, &asked, "Riko Example", "because").await;
    });
}

/// The link to end it in the message with this subject that the requester gets about `role`.
async fn end_link(stack: &Stack, role: &str, subject: &str) -> String {
    let inbox = stack.inbox(REQUESTER).unwrap();
    let is_it = |message: &xtask::inbox::Message| {
        message.is_about(role) && message.subject.contains(subject)
    };
    let message = inbox.next(SOON, is_it).await.unwrap();
    assert_eq!(message.decision_link(), None, "{}", message.text);
    message.end_link().unwrap().to_owned()
}

/// What follows links and sends forms as they come ends nothing.
async fn scan(link: &str) {
    for _ in 0..2 {
        let page = callback::get(link).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(page.body.contains("name=\"ending\""), "{}", page.body);
        assert_eq!(callback::head(link).await.unwrap().status, 200);
    }
    for fields in [
        &[("reason", ""), ("role", "")][..],
        &[("reason", ""), ("role", ""), ("ending", "end")],
        &[("reason", "a robot"), ("role", ""), ("ending", "end")],
        &[
            ("reason", "a robot"),
            ("role", "another"),
            ("ending", "end"),
        ],
    ] {
        let answer = callback::post_form(link, fields).await.unwrap();
        assert_eq!(answer.status, 422, "{fields:?}: {}", answer.body);
    }
}

#[test]
fn a_requester_gives_the_window_back_by_link_and_can_do_nothing_else_by_it() {
    on_stack(async |stack| {
        let (asked, _) = open(stack, json!({})).await;
        let link = end_link(stack, &asked.role, "login open").await;
        scan(&link).await;
        // Under the other path, and for a decision, it is no link; nor is a link to decide one to end.
        let as_decision = link.replace("/end/", "/decide/");
        assert_eq!(callback::get(&as_decision).await.unwrap().status, 404);
        let decided = callback::approve(&as_decision, &asked.role, "").await;
        assert_eq!(decided.unwrap().status, 404);
        let of_alice = asked.link.replace("/decide/", "/end/");
        let ended = callback::end(&of_alice, &asked.role, "not by this").await;
        assert_eq!(ended.unwrap().status, 404);
        let renamed = as_decision.replace("~end~", "~decide~");
        assert_eq!(callback::get(&renamed).await.unwrap().status, 404);
        assert!(
            can_log_in(stack, &asked.role).await,
            "nothing has ended it yet"
        );

        let why = "done <b>early</b> see https://evil.example";
        let ended = callback::end(&link, &asked.role, why).await.unwrap();
        assert_eq!(ended.status, 200, "{}", ended.body);
        assert!(
            ended.body.contains("The window is over") && ended.body.contains("Riko Example"),
            "{}",
            ended.body
        );
        assert!(!ended.body.contains("evil.example"), "{}", ended.body);
        closed_early(stack, &asked, "Riko Example", "done ‹b>early‹/b> see hxxps").await;
        let again = callback::end(&link, &asked.role, "again").await.unwrap();
        assert_eq!(again.status, 200, "{}", again.body);
        assert!(!again.body.contains("<form"), "{}", again.body);
    });
}

#[test]
fn an_approver_revokes_the_window_by_the_link_that_decided() {
    on_stack(async |stack| {
        let (asked, _) = open(stack, json!({})).await;
        scan(&asked.link).await;
        assert!(
            can_log_in(stack, &asked.role).await,
            "nothing has ended it yet"
        );
        let ended = callback::end(&asked.link, &asked.role, "wrong database").await;
        assert_eq!(ended.unwrap().status, 200);
        closed_early(stack, &asked, "Alice Example", "wrong database").await;
    });
}

#[test]
fn a_requester_takes_a_pending_request_back_by_link_and_nobody_decides_by_it() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let link = end_link(stack, &asked.role, "waits for approval").await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        scan(&link).await;
        // A link to decide offers no end before it has decided, and takes none.
        let page = callback::get(&asked.link).await.unwrap();
        assert!(!page.body.contains("name=\"ending\""), "{}", page.body);
        let ended = callback::end(&asked.link, &asked.role, "instead").await;
        assert_eq!(ended.unwrap().status, 400);
        // The form to decide is none for a link to end.
        let approved = callback::approve(&link, &asked.role, "mine").await.unwrap();
        assert!(
            approved.body.contains("Waiting for approval"),
            "{}",
            approved.body
        );
        assert!(!was_ever_opened(stack, &asked).await);

        let ended = callback::end(&link, &asked.role, "not needed")
            .await
            .unwrap();
        assert!(ended.body.contains("Taken back"), "{}", ended.body);
        assert_eq!(
            outcome(stack, &asked.execution).await.outcome(),
            "cancelled"
        );
        let text = message(stack, &asked.role, "cancelled").await;
        assert!(
            text.contains("Riko Example") && text.contains("not needed"),
            "{text}"
        );
        assert!(!was_ever_opened(stack, &asked).await);
    });
}
