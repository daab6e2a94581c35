//! Breaking the glass: who may opens at once, everybody is told, and nobody does it again before a review.

use futures_util::future::join;
use serde_json::{Value, json};
use xtask::callback::{self, Answer};
use xtask::inbox::{Inbox, Message};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Ended, Execution, Stack};

use super::fixture::{
    LOOK_AGAIN_AFTER, SOON, can_log_in, merge, new_role, on_stack, outcome, put_row, request_id,
    row, row_version,
};

/// Somebody of the catalogue with rights of their own and a mailbox.
struct Person {
    id: String,
    keys: Keys,
    inbox: Inbox,
}

async fn person(stack: &Stack, id: &str, policy: &str) -> Person {
    let keys = stack.make_user(id, stack.output(policy).unwrap()).await;
    let document = json!({
        "id": id, "name": format!("{id} Example"), "mailbox": format!("{id}@example.com"),
        "principals": [format!("arn:aws:iam::{ACCOUNT}:user/{id}")],
    });
    let name = format!("people/{id}");
    stack.put_catalogue(&name, &document).await.unwrap();
    Person {
        id: id.to_owned(),
        keys: keys.unwrap(),
        inbox: stack.subscribe(id).await.unwrap(),
    }
}

async fn requester(stack: &Stack, id: &str) -> Person {
    person(stack, id, "RequesterPolicyArn").await
}

/// A role that `who` may open without approval for half a minute, reviewed by the second approver.
async fn role_for(stack: &Stack, who: &str, change: Value) -> String {
    let mut break_glass =
        json!({ "people": [who], "max_duration": "PT30S", "reviewers": [APPROVERS[1], who] });
    merge(&mut break_glass, change);
    new_role(stack, json!({ "break_glass": break_glass })).await
}

async fn ask(stack: &Stack, keys: &Keys, role: &str, change: Value) -> Execution {
    let mut document = Stack::request_document(role, "PT12S");
    merge(
        &mut document,
        json!({ "requester": null, "break_glass": true }),
    );
    merge(&mut document, change);
    let answer = stack.ask(Some(keys), &document, None).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    Execution {
        arn: body(&answer)["execution_arn"].as_str().unwrap().to_owned(),
    }
}

async fn review(stack: &Stack, keys: Option<&Keys>, id: &str, document: &Value) -> Answer {
    let url = format!("{}/{id}/review", stack.output("RequestsUrl").unwrap());
    callback::call(keys, "POST", &url, &[], &document.to_string())
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

async fn until_open(stack: &Stack, role: &str, execution: &Execution) {
    tokio::select! {
        () = async {
            while !can_log_in(stack, role).await {
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
        } => {}
        ended = stack.wait_for_end(execution, SOON) => panic!("it was never opened: {ended:?}"),
    }
}

/// The faults of a request that must be refused without ever having opened `role`.
async fn faults(stack: &Stack, role: &str, execution: &Execution) -> Vec<String> {
    let before = row_version(stack, role).await;
    let ended = outcome(stack, execution).await;
    assert_eq!(ended.outcome(), "refused", "{}", ended.output);
    assert_eq!(row_version(stack, role).await, before);
    let names = ended.fault_names().into_iter();
    names.map(str::to_owned).collect()
}

fn message_of(ended: &Ended) -> &str {
    ended.output["faults"][0]["message"].as_str().unwrap()
}

#[test]
fn who_is_listed_opens_at_once_everybody_is_told_and_the_next_waits_for_a_review() {
    on_stack(async |stack| {
        let who = requester(stack, "gwen").await;
        let policy = stack.output("ApproverPolicyArn").unwrap();
        let attach = ["iam", "attach-user-policy", "--user-name", &who.id];
        let attach = [&attach[..], &["--policy-arn", policy]].concat();
        stack.aws().aws(&attach).await.unwrap();
        let role = role_for(stack, &who.id, json!({})).await;
        let execution = ask(stack, &who.keys, &role, json!({})).await;
        until_open(stack, &role, &execution).await;
        let entered = stack.states_entered(&execution).await.unwrap();
        let asked = entered.iter().any(|(state, _)| state == "Ask Approvers");
        assert!(!asked, "{entered:?}");
        let id = request_id(stack, &execution).await;
        let reviewer = stack.keys_of(APPROVERS[1]).unwrap();
        let comment = json!({ "comment": "restarted the job, nothing else" });
        let early = review(stack, Some(reviewer), &id, &comment).await;
        refused(&early, 409, "not_over_yet");

        // Everybody concerned: the requester, the approvers, and the reviewer, who is one of them.
        let is_told =
            |message: &Message| message.is_about(&role) && message.subject.contains("BREAK-GLASS");
        for inbox in [
            &who.inbox,
            stack.inbox(APPROVERS[0]).unwrap(),
            stack.inbox(APPROVERS[1]).unwrap(),
        ] {
            let message = inbox.next(SOON, is_told).await.unwrap();
            let text = &message.text;
            assert!(
                text.contains("without approval")
                    && text.contains(&format!("/requests/{id}/review")),
                "{text}"
            );
            assert!(message.decision_link().is_none(), "{text}");
        }
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "closed", "{}", ended.output);
        assert!(!can_log_in(stack, &role).await);

        // Not reviewed: not again, on no role.
        let other = role_for(stack, &who.id, json!({})).await;
        for role in [&role, &other] {
            let again = ask(stack, &who.keys, role, json!({})).await;
            assert_eq!(faults(stack, role, &again).await, ["ReviewMissing"]);
            let ended = outcome(stack, &again).await;
            assert!(message_of(&ended).contains(&id), "{}", ended.output);
        }

        let alice = stack.keys_of(APPROVERS[0]).unwrap();
        let empty = json!({ "comment": " " });
        for (keys, document, status, error) in [
            (Some(&who.keys), &comment, 403, "own_review"),
            (Some(alice), &comment, 403, "not_a_reviewer"),
            (Some(reviewer), &empty, 400, "faulty_document"),
        ] {
            refused(&review(stack, keys, &id, document).await, status, error);
        }
        let unsigned = review(stack, None, &id, &comment).await;
        assert_eq!(unsigned.status, 403, "{unsigned:?}");
        let again = ask(stack, &who.keys, &role, json!({})).await;
        assert_eq!(faults(stack, &role, &again).await, ["ReviewMissing"]);

        // A review that takes too long is counted, and has an alarm.
        let reviews_overdue = async || {
            let round = stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
            round["n_reviews_overdue"].as_u64().unwrap()
        };
        assert_eq!(reviews_overdue().await, 0);
        let mut request = row(stack, &format!("request#{id}"), "request").await;
        let closing = request["closing"]["S"].as_str().unwrap();
        let mut closing: Value = serde_json::from_str(closing).unwrap();
        closing["at"] = json!(chrono::Utc::now() - chrono::TimeDelta::hours(25));
        request["closing"] = json!({ "S": closing.to_string() });
        put_row(stack, &request).await;
        assert_eq!(reviews_overdue().await, 1);

        let answer = review(stack, Some(reviewer), &id, &comment).await;
        assert_eq!(body(&answer)["status"], "reviewed", "{answer:?}");
        assert_eq!(reviews_overdue().await, 0);
        let twice = review(stack, Some(reviewer), &id, &comment).await;
        refused(&twice, 409, "already_reviewed");
        // Who opened it hears of that, once and with what was found.
        let is_review =
            |message: &Message| message.is_about(&role) && message.subject.contains("reviewed");
        let told = who.inbox.next(SOON * 2, is_review).await.unwrap();
        assert!(
            told.text.contains("restarted the job, nothing else"),
            "{}",
            told.text
        );

        let next = ask(stack, &who.keys, &role, json!({})).await;
        until_open(stack, &role, &next).await;
        assert_eq!(outcome(stack, &next).await.outcome(), "closed");
    });
}

#[test]
fn a_reviewer_whom_no_message_reaches_is_an_error_that_everybody_sees() {
    on_stack(async |stack| {
        let who = requester(stack, "gerda").await;
        // In the catalogue, and without a subscription.
        let document = json!({
            "id": "ghost", "name": "Ghost Example", "mailbox": "ghost@example.com",
            "principals": [format!("arn:aws:iam::{ACCOUNT}:user/ghost")],
        });
        stack
            .put_catalogue("people/ghost", &document)
            .await
            .unwrap();
        let reviewers = json!({ "reviewers": ["ghost", APPROVERS[1]] });
        let role = role_for(stack, &who.id, reviewers).await;
        let execution = ask(stack, &who.keys, &role, json!({})).await;
        until_open(stack, &role, &execution).await;
        // Whoever can be told is told, the window closes in time, and then a person must look.
        let is_told =
            |message: &Message| message.is_about(&role) && message.subject.contains("BREAK-GLASS");
        who.inbox.next(SOON, is_told).await.unwrap();
        let ended = stack.wait_for_end(&execution, SOON).await.unwrap();
        assert_eq!(ended.status, "FAILED", "{ended:?}");
        let (error, cause) = ended.error.clone().unwrap();
        assert_eq!(error, "MessagesNotSent", "{ended:?}");
        assert!(cause.contains("opened: MessageNotSent"), "{cause}");
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn who_may_not_and_what_is_too_much_is_refused() {
    on_stack(async |stack| {
        let who = requester(stack, "gideon").await;
        let other = requester(stack, "gloria").await;
        let role = role_for(stack, &who.id, json!({})).await;
        let plain = new_role(stack, json!({})).await;
        for (keys, role, change, fault) in [
            (&other.keys, &role, json!({}), "BreakGlassNotAllowed"),
            (&who.keys, &plain, json!({}), "BreakGlassNotAllowed"),
            (
                &who.keys,
                &role,
                json!({ "duration": "PT31S" }),
                "WindowTooLong",
            ),
            (
                &who.keys,
                &role,
                json!({ "start": (chrono::Utc::now() + chrono::TimeDelta::minutes(1)).to_rfc3339() }),
                "ConflictingFields",
            ),
        ] {
            let execution = ask(stack, keys, role, change).await;
            assert_eq!(faults(stack, role, &execution).await, [fault]);
        }
        // Beside the front door nothing proves who asks.
        let mut document = Stack::request_document(&role, "PT12S");
        merge(
            &mut document,
            json!({ "requester": who.id, "break_glass": true }),
        );
        let execution = stack.file_request(&document).await.unwrap();
        assert_eq!(
            faults(stack, &role, &execution).await,
            ["BreakGlassNotVerified"]
        );
    });
}

#[test]
fn of_two_at_the_same_instant_one_opens() {
    on_stack(async |stack| {
        let who = requester(stack, "gustav").await;
        let roles = [
            role_for(stack, &who.id, json!({})).await,
            role_for(stack, &who.id, json!({})).await,
        ];
        let asked = join(
            ask(stack, &who.keys, &roles[0], json!({})),
            ask(stack, &who.keys, &roles[1], json!({})),
        );
        let asked = asked.await;
        let ended = join(outcome(stack, &asked.0), outcome(stack, &asked.1)).await;
        let mut outcomes = [ended.0.outcome(), ended.1.outcome()];
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["closed", "refused"], "{ended:?}");
        let refused = [&ended.0, &ended.1]
            .into_iter()
            .find(|it| it.outcome() == "refused");
        assert_eq!(refused.unwrap().fault_names(), ["ReviewMissing"]);
    });
}

#[test]
fn nothing_forged_stands_for_the_requesters_own_word() {
    on_stack(async |stack| {
        let who = requester(stack, "greta").await;
        let role = role_for(stack, &who.id, json!({})).await;
        let genuine = ask(stack, &who.keys, &role, json!({})).await;
        until_open(stack, &role, &genuine).await;
        let genuine_id = request_id(stack, &genuine).await;
        let vote = row(stack, &format!("vote#{genuine_id}"), &who.id).await;
        assert_eq!(outcome(stack, &genuine).await.outcome(), "closed");

        // Their sealed word on one request, put under another one of theirs that waits for approval.
        let change = json!({ "break_glass": null });
        let ordinary = ask(stack, &who.keys, &role, change).await;
        stack
            .wait_for_state(&ordinary, "Await Approval", SOON)
            .await
            .unwrap();
        let before = row_version(stack, &role).await;
        let id = request_id(stack, &ordinary).await;
        let mut forged = vote.clone();
        forged["pk"] = json!({ "S": format!("vote#{id}") });
        put_row(stack, &forged).await;
        let mut request = row(stack, &format!("request#{id}"), "request").await;
        let now = chrono::Utc::now();
        let end = now + chrono::TimeDelta::minutes(5);
        let decision = json!({ "outcome": "approved", "at": now, "by": [who.id] });
        let window = json!({
            "start": now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "end": end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        });
        request["status"] = json!({ "S": "approved" });
        request["n_votes"] = json!({ "N": "1" });
        request["decision"] = json!({ "S": decision.to_string() });
        request["window"] = json!({ "S": window.to_string() });
        put_row(stack, &request).await;
        let step = json!({ "version": 1, "request_id": id, "action": "open" });
        let answer = stack.invoke("EnableLoginFunction", &step).await.unwrap();
        assert_eq!(answer["outcome"], "refused", "{answer}");
        assert_eq!(answer["faults"][0]["name"], "NotApproved", "{answer}");

        // And made into a request of that kind, for which no signed call asked.
        let mut document: Value =
            serde_json::from_str(request["document"]["S"].as_str().unwrap()).unwrap();
        document["break_glass"] = json!({ "reviewers": [] });
        request["document"] = json!({ "S": document.to_string() });
        request["status"] = json!({ "S": "approved" });
        put_row(stack, &request).await;
        let answer = stack.invoke("EnableLoginFunction", &step).await.unwrap();
        assert_eq!(answer["faults"][0]["name"], "NotApproved", "{answer}");
        request["status"] = json!({ "S": "pending" });
        put_row(stack, &request).await;
        let settle = json!({ "version": 1, "request_id": id, "action": "settle" });
        let answer = stack.invoke("ApprovalFunction", &settle).await;
        let said = format!("{answer:?}");
        assert!(said.contains("RequestConflict"), "{said}");
        assert_eq!(row_version(stack, &role).await, before);
        stack.stop_execution(&ordinary).await.unwrap();
    });
}
