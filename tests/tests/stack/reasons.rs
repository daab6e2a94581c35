//! What people write reaches no log, and not every length of it is taken.

use serde_json::json;
use xtask::callback;
use xtask::inbox::Message;
use xtask::stack::{APPROVERS, Stack};

use super::fixture::{SOON, file, new_role, on_stack, outcome, request_id};

/// What stands in every reason, to find it by.
const MARK: &str = "zq7mark";

#[test]
fn what_people_write_is_in_no_log() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let reason = "zq7notinalog \r\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"forged\"}}";
        let execution = file(stack, &role, json!({ "reason": reason })).await;
        let about = |message: &Message| message.is_about(&role);
        let mail = stack
            .inbox(APPROVERS[0])
            .unwrap()
            .next(SOON, about)
            .await
            .unwrap();
        let link = mail.decision_link().unwrap();
        callback::reject(link, "zq7notinalog\r\nforged")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &execution).await.outcome(), "rejected");
        let id = request_id(stack, &execution).await;
        let log = std::fs::read_to_string(stack.save_function_logs().await.unwrap()).unwrap();
        assert!(log.contains(&id), "nothing was logged about the request");
        assert!(
            !log.contains("zq7notinalog"),
            "what people wrote is in the log"
        );
    });
}

#[test]
fn a_reason_as_long_as_a_book_is_refused_and_stored_nowhere() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let long = format!("{MARK} {}", "x".repeat(100_000));
        let execution = file(stack, &role, json!({ "reason": long })).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "refused");
        assert_eq!(ended.fault_names(), ["ReasonTooLong"]);
        assert!(
            ended.output.to_string().len() < 1_000,
            "it is answered in full"
        );
        let mut document = Stack::request_document(&role, "PT10S");
        document["reason"] = json!(long);
        document.as_object_mut().unwrap().remove("requester");
        let answer = stack
            .ask(Some(stack.requester_keys()), &document, None)
            .await
            .unwrap();
        assert_eq!(answer.status, 400, "{}", answer.status);
        assert!(answer.body.len() < 1_000, "it is answered in full");
    });
}
