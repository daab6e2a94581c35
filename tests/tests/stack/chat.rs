//! Chat channels hear of every request, and nothing that they get decides anything.

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xtask::callback;
use xtask::inbox::{Inbox, Message};
use xtask::ministack::{ACCOUNT, REGION};
use xtask::stack::{APPROVERS, Stack};

use super::fixture::{SOON, ask_for, new_role, on_stack, outcome, request_id, was_ever_opened};

/// A channel that is subscribed to the topic for chat, as nobody in particular.
pub(super) async fn channel(stack: &Stack) -> &'static Inbox {
    static CHANNEL: OnceCell<Inbox> = OnceCell::const_new();
    let made = CHANNEL.get_or_init(async || {
        let inbox = stack.make_mailbox("chat").await.unwrap();
        let queue = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:mailbox-chat");
        let topic = stack.output("ChatTopicArn").unwrap();
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage", "Resource": queue,
            "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
        }]});
        let attributes = json!({ "Policy": policy.to_string() }).to_string();
        let endpoint = stack.aws().endpoint();
        let allow = [
            "sqs",
            "set-queue-attributes",
            "--endpoint-url",
            &endpoint,
            "--queue-url",
            inbox.queue_url(),
            "--attributes",
            &attributes,
        ];
        // It answers nothing.
        let _ = stack.aws().aws(&allow).await;
        let subscribe = [
            "sns",
            "subscribe",
            "--topic-arn",
            topic,
            "--protocol",
            "sqs",
            "--notification-endpoint",
            &queue,
        ];
        stack.aws().aws(&subscribe).await.unwrap();
        inbox
    });
    made.await
}

/// What a channel was told, as chat applications read it.
pub(super) fn notification(message: &Message) -> Value {
    let told: Value = serde_json::from_str(&message.text).unwrap();
    assert_eq!(told["version"], "1.0", "{told}");
    assert_eq!(told["source"], "custom", "{told}");
    assert_eq!(told["content"]["textType"], "client-markdown", "{told}");
    assert_eq!(told["metadata"]["enableCustomActions"], false, "{told}");
    assert!(!told["content"]["description"].as_str().unwrap().is_empty());
    told
}

/// Every address in a message.
fn addresses(message: &Message) -> Vec<&str> {
    let is_boundary = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '`' | '\\');
    let words = message.text.split(is_boundary);
    words.filter(|word| word.starts_with("http")).collect()
}

#[test]
fn a_channel_hears_how_to_decide_and_whoever_reads_it_decides_nothing() {
    on_stack(async |stack| {
        let chat = channel(stack).await;
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT20S" })).await;
        let id = request_id(stack, &asked.execution).await;
        let is_about = |message: &Message| message.text.contains(&id);
        let question = chat.next(SOON, is_about).await.unwrap();
        let told = notification(&question);
        assert_eq!(told["metadata"]["threadId"], json!(id));
        assert_eq!(told["metadata"]["eventType"], "asked");
        let steps = told["content"]["nextSteps"].to_string();
        assert!(
            steps.contains(&format!("/requests/{id}/decision")),
            "{steps}"
        );

        // Whoever calls everything that it names, without the signature of an approver.
        let found = addresses(&question);
        assert_eq!(found.len(), 1, "{}", question.text);
        for url in found {
            for verb in ["GET", "HEAD", "POST"] {
                let body = if verb == "POST" {
                    r#"{"verdict": "approve"}"#
                } else {
                    ""
                };
                let keys = stack.requester_keys();
                for keys in [None, Some(keys)] {
                    let answer = callback::call(keys, verb, url, &[], body).await.unwrap();
                    assert!((400..500).contains(&answer.status), "{verb}: {answer:?}");
                }
            }
        }
        let alice = Some(stack.keys_of(APPROVERS[0]).unwrap());
        let url = stack.output("RequestsUrl").unwrap();
        let seen = callback::call(alice, "GET", &format!("{url}/{id}"), &[], "").await;
        let seen: Value = serde_json::from_str(&seen.unwrap().body).unwrap();
        assert_eq!(seen["status"], "pending", "{seen}");
        assert!(!was_ever_opened(stack, &asked).await);

        // The command itself, for whom it is meant.
        let url = addresses(&question)[0];
        let body = json!({ "verdict": "approve", "comment": "" }).to_string();
        let answer = callback::call(alice, "POST", url, &[], &body)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");

        let later = chat.take_all(is_about).await.unwrap();
        let events: Vec<String> = later
            .iter()
            .map(|message| notification(message)["metadata"]["eventType"].to_string())
            .collect();
        assert_eq!(events, [r#""opened""#, r#""closed""#]);
        for message in later.iter().chain([&question]) {
            let text = &message.text;
            assert!(
                !text.contains("/decide/") && !text.contains("/end/"),
                "{text}"
            );
            assert!(!text.contains("get-secret-value"), "{text}");
        }
        assert!(later.iter().all(|message| addresses(message).is_empty()));
    });
}
