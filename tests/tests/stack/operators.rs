//! Operators hear of the requests that they may end, with a link that ends and decides nothing.

use serde_json::json;
use xtask::callback;
use xtask::inbox::{Inbox, Message};
use xtask::stack::Stack;

use super::fixture::{SOON, ask_for, can_log_in, new_role, on_stack, outcome, was_ever_opened};

/// A person who is subscribed, and nothing else.
async fn operator(stack: &Stack, id: &str) -> Inbox {
    let name = format!("Operator {id}");
    let person = json!({ "id": id, "name": name, "mailbox": format!("{id}@example.com") });
    let document = format!("people/{id}");
    stack.put_catalogue(&document, &person).await.unwrap();
    stack.subscribe(id).await.unwrap()
}

async fn mail(inbox: &Inbox, role: &str, subject: &str) -> Message {
    let wanted = |message: &Message| message.is_about(role) && message.subject.contains(subject);
    inbox.next(SOON, wanted).await.unwrap()
}

#[test]
fn an_operator_takes_a_pending_request_back_by_link_and_decides_nothing() {
    on_stack(async |stack| {
        let inbox = operator(stack, "olga").await;
        let role = new_role(stack, json!({ "operators": ["olga"] })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let message = mail(&inbox, &role, "waits for approval").await;
        assert_eq!(message.decision_link(), None, "{}", message.text);
        let link = message.end_link().unwrap();
        let page = callback::get(link).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(callback::head(link).await.unwrap().status, 200);
        let as_decision = link.replace("/end/", "/decide/");
        let decided = callback::approve(&as_decision, &role, "").await.unwrap();
        assert_eq!(decided.status, 404, "{}", decided.body);
        assert!(!was_ever_opened(stack, &asked).await);

        let ended = callback::end(link, &role, "maintenance tonight")
            .await
            .unwrap();
        assert_eq!(ended.status, 200, "{}", ended.body);
        let ended = outcome(stack, &asked.execution).await;
        assert_eq!(ended.outcome(), "cancelled", "{}", ended.output);
        let told = mail(&inbox, &role, "cancelled").await;
        assert!(told.text.contains("Operator olga"), "{}", told.text);
        assert!(told.text.contains("> maintenance tonight"), "{}", told.text);
        assert!(!was_ever_opened(stack, &asked).await);
    });
}

#[test]
fn an_operator_revokes_an_open_window_by_link_and_never_hears_of_its_password() {
    on_stack(async |stack| {
        let inbox = operator(stack, "omar").await;
        let change = json!({ "operators": ["omar"], "credential": null });
        let role = new_role(stack, change).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT10M" })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        let message = mail(&inbox, &role, "login open").await;
        assert!(
            !message.text.contains("get-secret-value"),
            "{}",
            message.text
        );
        let link = message.end_link().unwrap();
        let ended = callback::end(link, &role, "wrong database").await.unwrap();
        assert_eq!(ended.status, 200, "{}", ended.body);
        let told = mail(&inbox, &role, "login closed").await;
        assert!(told.text.contains("> wrong database"), "{}", told.text);
        assert!(!can_log_in(stack, &role).await);
        // Its execution sleeps until the window would have ended; that is an operator's to stop.
        let stop = [
            "stepfunctions",
            "stop-execution",
            "--execution-arn",
            &asked.execution.arn,
        ];
        stack.aws().aws(&stop).await.unwrap();
    });
}
