//! Deciding by a signed call: the caller whom IAM has verified must be an approver, and the same rule decides.

use serde_json::{Value, json};
use xtask::callback::{self, Answer};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, REQUESTER, Stack};

use super::fixture::{
    SOON, ask, ask_for, new_role, on_stack, outcome, request_id, until_open, was_ever_opened,
};
use super::observations::Matrix;

async fn decide(stack: &Stack, keys: Option<&Keys>, id: &str, body: &Value) -> Answer {
    let url = format!("{}/{id}/decision", stack.output("RequestsUrl").unwrap());
    callback::call(keys, "POST", &url, &[], &body.to_string())
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

fn approve() -> Value {
    json!({ "verdict": "approve", "comment": "fine" })
}

/// An IAM user with the rights of approvers, who is this person of the catalogue if it has one.
async fn user(stack: &Stack, name: &str, person: Option<&str>) -> Keys {
    let policy = stack.output("ApproverPolicyArn").unwrap();
    let keys = stack.make_user(name, policy).await.unwrap();
    if let Some(id) = person {
        put_person(
            stack,
            id,
            json!([format!("arn:aws:iam::{ACCOUNT}:user/{name}")]),
        )
        .await;
    }
    keys
}

async fn put_person(stack: &Stack, id: &str, principals: Value) {
    let person = json!({
        "id": id, "name": id, "mailbox": format!("{id}@example.com"), "principals": principals,
    });
    stack
        .put_catalogue(&format!("people/{id}"), &person)
        .await
        .unwrap();
}

#[test]
fn an_approver_decides_by_a_signed_call_and_again_is_harmless() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT45S" })).await;
        let id = request_id(stack, &asked.execution).await;
        let [alice, bob] = APPROVERS.map(|person| stack.keys_of(person).unwrap());
        let answer = decide(stack, Some(alice), &id, &approve()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(body(&answer)["request_status"], "approved", "{answer:?}");
        let again = decide(stack, Some(alice), &id, &approve()).await;
        refused(&again, 409, "already_decided");
        assert!(
            body(&again)["message"]
                .as_str()
                .unwrap()
                .starts_with("already decided by you, at 2"),
            "{again:?}"
        );
        let late = decide(
            stack,
            Some(bob),
            &id,
            &json!({ "verdict": "reject", "comment": "no" }),
        )
        .await;
        refused(&late, 409, "already_decided");
        assert!(
            body(&late)["message"]
                .as_str()
                .unwrap()
                .starts_with("already decided by Alice Example, at 2"),
            "{late:?}"
        );
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}

#[test]
fn a_rejection_by_a_signed_call_ends_it() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let id = request_id(stack, &asked.execution).await;
        let bob = stack.keys_of(APPROVERS[1]).unwrap();
        let answer = decide(
            stack,
            Some(bob),
            &id,
            &json!({ "verdict": "reject", "comment": "not tonight" }),
        )
        .await;
        assert_eq!(body(&answer)["request_status"], "rejected", "{answer:?}");
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        assert!(!was_ever_opened(stack, &asked).await);
    });
}

#[test]
fn who_is_no_approver_decides_nothing() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let id = request_id(stack, &asked.execution).await;
        assert_eq!(decide(stack, None, &id, &approve()).await.status, 403);
        // Without the right to call the route, even an approver's own person.
        assert_eq!(
            decide(stack, Some(stack.requester_keys()), &id, &approve())
                .await
                .status,
            403
        );
        let stranger = user(stack, "stranger-decides", None).await;
        refused(
            &decide(stack, Some(&stranger), &id, &approve()).await,
            403,
            "not_in_the_catalogue",
        );
        let eve = user(stack, "eve", Some("eve")).await;
        refused(
            &decide(stack, Some(&eve), &id, &approve()).await,
            403,
            "not_an_approver",
        );
        refused(
            &decide(stack, Some(&eve), "r-0000000000000000", &approve()).await,
            404,
            "no_request",
        );
        refused(
            &decide(stack, Some(&eve), "nonsense", &approve()).await,
            404,
            "no_request",
        );
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        assert!(!was_ever_opened(stack, &asked).await);
    });
}

#[test]
fn nobody_approves_their_own_request_by_a_signed_call() {
    on_stack(async |stack| {
        // The same person under another principal, with the rights of approvers, and listed as an approver.
        let other_self = user(stack, "riko-decides", None).await;
        let principals =
            ["riko", "riko-decides"].map(|name| format!("arn:aws:iam::{ACCOUNT}:user/{name}"));
        put_person(stack, REQUESTER, json!(principals)).await;
        let role = new_role(stack, json!({ "approvers": [APPROVERS[0], REQUESTER] })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let id = request_id(stack, &asked.execution).await;
        refused(
            &decide(stack, Some(&other_self), &id, &approve()).await,
            403,
            "own_request",
        );
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

#[test]
fn two_sessions_of_one_role_are_one_approver() {
    on_stack(async |stack| {
        stack
            .make_role("Role-pat", stack.output("ApproverPolicyArn").unwrap())
            .await
            .unwrap();
        put_person(
            stack,
            "pat",
            json!([format!("arn:aws:iam::{ACCOUNT}:role/people/Role-pat")]),
        )
        .await;
        stack.subscribe("pat").await.unwrap();
        let role = new_role(
            stack,
            json!({ "approvers": ["alice", "pat"], "required_approvals": 2 }),
        )
        .await;
        let asked = ask_for(stack, &role, json!({})).await;
        let id = request_id(stack, &asked.execution).await;
        let one = stack.session("Role-pat", "laptop").await.unwrap();
        let two = stack.session("Role-pat", "alice").await.unwrap();
        let mut matrix = Matrix::about("session names of approvers");
        for (session, keys, expected) in [
            ("laptop", &one, "200 pending"),
            ("alice", &two, "409 already_decided"),
        ] {
            let answer = decide(stack, Some(keys), &id, &approve()).await;
            let said = body(&answer);
            let said = said["error"].as_str().or(said["request_status"].as_str());
            let observed = format!("{} {}", answer.status, said.unwrap_or("-"));
            let who = format!("pat's role as session {session:?}");
            matrix.note(&who, "approve, 2 are needed", expected, observed);
        }
        matrix.check();
        callback::approve(&asked.link, &role, "").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}

#[test]
fn where_only_signed_calls_decide_links_show_and_decide_nothing() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "decide_by": "iam" })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let page = callback::get(&asked.link).await.unwrap();
        assert!(
            page.body.contains("Links do not decide on this role"),
            "{}",
            page.body
        );
        assert!(!page.body.contains("<form"), "{}", page.body);
        assert_eq!(
            callback::approve(&asked.link, &role, "")
                .await
                .unwrap()
                .status,
            403
        );
        assert_eq!(
            callback::reject(&asked.link, "no").await.unwrap().status,
            403
        );
        let id = request_id(stack, &asked.execution).await;
        let answer = decide(
            stack,
            Some(stack.keys_of(APPROVERS[1]).unwrap()),
            &id,
            &approve(),
        )
        .await;
        assert_eq!(body(&answer)["request_status"], "approved", "{answer:?}");
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}

#[test]
fn every_slip_in_a_decision_is_named() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        let alice = Some(stack.keys_of(APPROVERS[0]).unwrap());
        for (wrong, n_faults) in [
            (json!({}), 1),
            (json!([]), 1),
            (json!({ "verdict": "APPROVE" }), 1),
            (json!({ "verdict": "reject" }), 1),
            (json!({ "verdict": "reject", "comment": "  " }), 1),
            (
                json!({ "verdict": "approve", "comment": "x".repeat(501) }),
                1,
            ),
            (json!({ "verdict": "approve", "approver": "bob" }), 1),
            (
                json!({ "verdict": "approve", "end": "soon", "start": 7 }),
                2,
            ),
            (
                json!({ "verdict": "reject", "comment": "no", "end": "2100-01-01T00:00:00Z" }),
                1,
            ),
        ] {
            let answer = decide(stack, alice, &id, &wrong).await;
            refused(&answer, 400, "faulty_document");
            let faults = body(&answer)["faults"].as_array().map_or(0, Vec::len);
            assert_eq!(faults, n_faults, "{wrong}: {answer:?}");
        }
        let too_late = json!({ "verdict": "approve", "end": "2100-01-01T00:00:00Z" });
        refused(
            &decide(stack, alice, &id, &too_late).await,
            422,
            "cannot_approve",
        );
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}
