//! A request while a window of the same person is open: shown as an extension, and the role stays open without a gap.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use xtask::callback;
use xtask::inbox::Message;
use xtask::login_probe::Attempt;
use xtask::stack::{APPROVERS, Stack};
use xtask::window_password::told;

use super::fixture::{
    Asked, SOON, ask_for, new_role, on_stack, request_id, told_requester, valid_until,
};

async fn approve(asked: &Asked) {
    let answer = callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// What the requester is told when a window of `role` opens, and the password that they read then.
async fn opened(stack: &Stack, role: &str) -> (String, String) {
    let (message, read) = told(stack, role, SOON).await.unwrap();
    let secret = read.run(stack, stack.requester_keys()).await.unwrap();
    let password = secret["password"].as_str().unwrap().to_owned();
    (message.text, password)
}

#[test]
fn an_extension_is_shown_as_one_and_leaves_no_gap() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "credential": null })).await;
        let first = ask_for(stack, &role, json!({ "duration": "PT90S" })).await;
        let page = callback::get(&first.link).await.unwrap().body;
        assert!(!page.contains(">Extension<"), "{page}");
        approve(&first).await;
        let (message, password) = opened(stack, &role).await;
        assert!(!message.contains("Extension: "), "{message}");
        let first_end = valid_until(stack, &role).await;
        let attempt = stack.try_log_in_with(&role, &password).await.unwrap();
        let Attempt::Accepted(session) = attempt else {
            panic!("refused inside the window");
        };

        let second = ask_for(stack, &role, json!({ "duration": "PT2M" })).await;
        let page = callback::get(&second.link).await.unwrap().body;
        let until = first_end.format("%H:%M:%S UTC").to_string();
        assert!(
            page.contains(">Extension<") && page.contains(&until),
            "{page}"
        );
        let asks_bob =
            |message: &Message| message.is_about(&role) && message.text.contains("\nExtension: ");
        let inbox = stack.inbox(APPROVERS[1]).unwrap();
        let to_bob = inbox.next(SOON, asks_bob).await.unwrap().text;
        assert!(to_bob.contains(&until), "{to_bob}");
        approve(&second).await;
        let (message, same) = opened(stack, &role).await;
        assert!(message.contains("\nExtension: "), "{message}");
        assert!(
            message.contains("of your window that is open already"),
            "{message}"
        );
        assert_eq!(same, password, "the password of an open window changed");
        let second_end = valid_until(stack, &role).await;
        assert!(
            second_end > first_end,
            "{second_end} is not after {first_end}"
        );
        assert!(Utc::now() < first_end, "approved too late to show anything");

        // The first window's end is not the end any more, so nobody is warned of it.
        let id = request_id(stack, &first.execution).await;
        let warn = json!({ "version": 1, "request_id": id, "action": "warn" });
        stack.invoke("NotifyFunction", &warn).await.unwrap();
        let told = told_requester(stack, &role).await;
        assert!(
            !told.iter().any(|subject| subject.contains("closes soon")),
            "{told:?}"
        );

        while Utc::now() < first_end + TimeDelta::seconds(5) {
            let attempt = stack.try_log_in_with(&role, &password).await.unwrap();
            assert!(
                attempt.is_accepted(),
                "a gap {} after the end",
                Utc::now() - first_end
            );
            let user = session.query_text("SELECT current_user::text").await;
            assert_eq!(user.unwrap(), role);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ended = stack.wait_for_end(&first.execution, SOON).await.unwrap();
        assert_eq!(ended.outcome(), "ended_role_still_open", "{ended:?}");
        let user = session.query_text("SELECT current_user::text").await;
        assert_eq!(user.unwrap(), role, "cut with the first window");

        let cut = session.cut(2 * SOON).await.unwrap();
        assert!(
            cut.at >= second_end,
            "cut {} before the end",
            second_end - cut.at
        );
        let ended = stack.wait_for_end(&second.execution, SOON).await.unwrap();
        assert_eq!(ended.outcome(), "closed", "{ended:?}");
        let attempt = stack.try_log_in_with(&role, &password).await.unwrap();
        assert!(!attempt.is_accepted());
    });
}
