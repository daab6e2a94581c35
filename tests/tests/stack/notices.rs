//! Reminders, warnings, and the word to those who need not decide any more.

use std::time::{Duration, Instant};

use aws_sdk_sns::Client;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback;
use xtask::inbox::Message;
use xtask::stack::{APPROVERS, Execution, REQUESTER, Stack};

use super::fixture::{
    Asked, SOON, alone_on_stack, ask_for, link_to, new_role, on_stack, outcome, request_id,
    until_open,
};

/// Calls notify as Scheduler does, but waits for the answer.
async fn call(stack: &Stack, asked: &Asked, action: &str) -> Value {
    let payload = payload(stack, asked, action).await;
    stack.invoke("NotifyFunction", &payload).await.unwrap()
}

async fn payload(stack: &Stack, asked: &Asked, action: &str) -> Value {
    let id = request_id(stack, &asked.execution).await;
    json!({ "version": 1, "request_id": id, "action": action })
}

/// The messages with these words in the subject that `person` got about `role` by now.
async fn got(stack: &Stack, person: &str, role: &str, subject: &str) -> Vec<Message> {
    let inbox = stack.inbox(person).unwrap();
    inbox
        .take_all(|message| message.is_about(role) && message.subject.contains(subject))
        .await
        .unwrap()
}

/// When the schedule of a notice is due.
async fn due(stack: &Stack, asked: &Asked, action: &str) -> DateTime<Utc> {
    let name = format!(
        "notice-{}-{action}",
        request_id(stack, &asked.execution).await
    );
    let group = stack.output("WindowEndsGroup").unwrap();
    let schedule = stack
        .aws()
        .aws(&[
            "scheduler",
            "get-schedule",
            "--group-name",
            group,
            "--name",
            &name,
        ])
        .await
        .unwrap();
    let target = schedule["Target"]["Arn"].as_str().unwrap();
    assert!(target.contains(":function:"), "{schedule}");
    let expression = schedule["ScheduleExpression"].as_str().unwrap();
    NaiveDateTime::parse_from_str(expression, "at(%Y-%m-%dT%H:%M:%S)")
        .unwrap()
        .and_utc()
}

async fn stop(stack: &Stack, execution: &Execution) {
    let arn = execution.arn.as_str();
    stack
        .aws()
        .aws(&["stepfunctions", "stop-execution", "--execution-arn", arn])
        .await
        .unwrap();
}

/// Calls notify as Scheduler does: nobody waits for the answer.
async fn call_later(stack: &Stack, payload: &Value) {
    let function = stack.output("NotifyFunctionArn").unwrap();
    let answer = stack.folder().join("answer-of-a-later-call.json");
    stack
        .aws()
        .aws(&[
            "lambda",
            "invoke",
            "--invocation-type",
            "Event",
            "--function-name",
            function,
            "--payload",
            &payload.to_string(),
            answer.to_str().unwrap(),
        ])
        .await
        .unwrap();
}

/// The next dead letter, taken from the queue.
async fn dead_letter(stack: &Stack) -> Value {
    let queue = stack.output("DeadLettersUrl").unwrap();
    let started = Instant::now();
    while started.elapsed() < SOON {
        let answer = stack
            .aws()
            .aws(&["sqs", "receive-message", "--queue-url", queue])
            .await
            .unwrap();
        if let Some(letter) = answer["Messages"].get(0) {
            let handle = letter["ReceiptHandle"].as_str().unwrap();
            stack
                .aws()
                .aws(&[
                    "sqs",
                    "delete-message",
                    "--queue-url",
                    queue,
                    "--receipt-handle",
                    handle,
                ])
                .await
                .unwrap();
            return serde_json::from_str(letter["Body"].as_str().unwrap()).unwrap();
        }
    }
    panic!("no dead letter within {SOON:?}");
}

#[test]
fn who_has_not_decided_is_reminded_once() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "required_approvals": 2 })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let of_bob = link_to(stack, "bob", &role, &asked.execution).await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        // Ten minutes to decide, so it is due five minutes after the question.
        let until_due = due(stack, &asked, "remind").await - Utc::now();
        assert!(until_due > TimeDelta::minutes(3), "{until_due}");
        assert!(until_due <= TimeDelta::minutes(5), "{until_due}");

        callback::approve(&asked.link, &role, "fine by me")
            .await
            .unwrap();
        let (first, second) =
            tokio::join!(call(stack, &asked, "remind"), call(stack, &asked, "remind"));
        assert_eq!(first["outcome"], "asked", "{first}");
        assert_eq!(second["outcome"], "asked", "{second}");
        call(stack, &asked, "remind").await;
        assert!(got(stack, "alice", &role, "reminder").await.is_empty());
        let reminders = got(stack, "bob", &role, "reminder").await;
        // Two calls in the same instant may both send; one after the other may not.
        assert!((1..=2).contains(&reminders.len()), "{reminders:?}");
        assert!(reminders[0].text.contains("fine by me"));
        let link = reminders[0].decision_link().unwrap();
        assert_eq!(callback::get(link).await.unwrap().status, 200);

        callback::reject(&of_bob, "not today").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        let late = call(stack, &asked, "remind").await;
        assert_eq!(
            (&late["outcome"], &late["n_asked"]),
            (&json!("asked"), &json!(0))
        );
        assert!(got(stack, "bob", &role, "reminder").await.is_empty());
    });
}

#[test]
fn scheduler_reminds_by_itself_and_the_requester_hears_of_the_expiry() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "approval_deadline": "PT66S" })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let reminds =
            |message: &Message| message.is_about(&role) && message.subject.contains("reminder");
        let inbox = stack.inbox("alice").unwrap();
        inbox.next(Duration::from_secs(90), reminds).await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "expired");
        assert_eq!(got(stack, REQUESTER, &role, "expired").await.len(), 1);
    });
}

#[test]
fn the_others_hear_that_it_is_handled_and_the_requester_why() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let later = (Utc::now() + TimeDelta::minutes(30)).to_rfc3339();
        let asked = ask_for(stack, &role, json!({ "start": later })).await;
        callback::approve(&asked.link, &role, "good luck")
            .await
            .unwrap();
        stack
            .wait_for_state(&asked.execution, "Wait Until Start", SOON)
            .await
            .unwrap();
        for (person, is_spared) in [(REQUESTER, false), ("alice", false), ("bob", true)] {
            let approved = got(stack, person, &role, "approved").await;
            assert_eq!(approved.len(), 1, "{person}: {approved:?}");
            let text = &approved[0].text;
            assert_eq!(
                text.contains("Already handled"),
                is_spared,
                "{person}: {text}"
            );
            assert!(text.contains("Alice Example approved"), "{person}: {text}");
            assert!(text.contains("good luck"), "{person}: {text}");
            assert_eq!(approved[0].decision_link(), None, "{person}");
        }
        stop(stack, &asked.execution).await;
    });
}

#[test]
fn a_rejection_tells_the_others_that_it_is_handled() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({})).await;
        link_to(stack, "bob", &role, &asked.execution).await;
        callback::reject(&asked.link, "during the audit? no")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        for (person, is_spared) in [(REQUESTER, false), ("alice", false), ("bob", true)] {
            let rejected = got(stack, person, &role, "rejected").await;
            let text = &rejected[0].text;
            assert_eq!(
                text.contains("Already handled"),
                is_spared,
                "{person}: {text}"
            );
            assert!(text.contains("during the audit?"), "{person}: {text}");
        }
    });
}

#[test]
fn the_requester_is_warned_before_the_window_ends() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT12M" })).await;
        // Not open yet: nothing to warn of.
        assert_eq!(call(stack, &asked, "warn").await["outcome"], "announced");
        callback::approve(&asked.link, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        stack
            .wait_for_state(&asked.execution, "Wait Until End", SOON)
            .await
            .unwrap();
        let until_due = due(stack, &asked, "warn").await - Utc::now();
        assert!(until_due > TimeDelta::minutes(8), "{until_due}");
        assert!(until_due <= TimeDelta::minutes(10), "{until_due}");
        assert!(got(stack, REQUESTER, &role, "closes soon").await.is_empty());

        call(stack, &asked, "warn").await;
        call(stack, &asked, "warn").await;
        let warnings = got(stack, REQUESTER, &role, "closes soon").await;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for approver in APPROVERS {
            assert!(got(stack, approver, &role, "closes soon").await.is_empty());
        }
        stop(stack, &asked.execution).await;
        let closed =
            |message: &Message| message.is_about(&role) && message.subject.contains("login closed");
        let requester = stack.inbox(REQUESTER).unwrap();
        requester.next(SOON, closed).await.unwrap();
        assert_eq!(call(stack, &asked, "warn").await["outcome"], "announced");
        assert!(got(stack, REQUESTER, &role, "closes soon").await.is_empty());
    });
}

#[test]
fn a_reminder_that_cannot_be_sent_is_a_dead_letter() {
    alone_on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let client = Client::new(stack.people().unwrap().sdk_config());
        stack.make_mailbox("stranger").await.unwrap();
        let subscription = client
            .subscribe()
            .topic_arn(stack.output("TopicArn").unwrap())
            .protocol("sqs")
            .endpoint("arn:aws:sqs:us-east-1:123456789012:mailbox-stranger")
            .send()
            .await
            .unwrap();

        let payload = payload(stack, &asked, "remind").await;
        let answer = stack.invoke("NotifyFunction", &payload).await.unwrap();
        assert_eq!(answer["errorType"], "MessageNotSent", "{answer}");
        call_later(stack, &payload).await;
        let letter = dead_letter(stack).await;
        assert_eq!(letter["requestPayload"], payload, "{letter}");
        assert!(got(stack, "alice", &role, "reminder").await.is_empty());

        Client::new(stack.root_config())
            .unsubscribe()
            .subscription_arn(subscription.subscription_arn().unwrap())
            .send()
            .await
            .unwrap();
        let answer = call(stack, &asked, "remind").await;
        assert_eq!(answer["n_asked"], 2, "{answer}");
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}
