//! Decisions that are recorded count, whatever becomes of the task that waits for them and of the answer to it.

use serde_json::{Value, json};
use xtask::callback;
use xtask::stack::Stack;

use super::fixture::{
    Asked, SOON, ask_for, new_role, on_stack, outcome, request_id, until_open, was_ever_opened,
};

/// How often the waiting task is tried again before the click: the pause before each try is longer, and random.
const N_FAILURES: usize = 4;
/// How often a click may come after the next try instead of before it, until a test gives up.
const N_ROUNDS: usize = 5;

fn token_row(id: &str) -> Value {
    json!({ "pk": { "S": format!("token#{id}") }, "sk": { "S": "token" } })
}

async fn approve(asked: &Asked) {
    let answer = callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("Approved") || answer.body.contains("approved"));
}

/// Fails the task that waits with `token`, as Lambda does when it cannot run the function.
async fn fail_task(stack: &Stack, token: &str) {
    let fail = [
        "stepfunctions",
        "send-task-failure",
        "--task-token",
        token,
        "--error",
        "Lambda.ServiceException",
        "--cause",
        "not run",
    ];
    // It answers nothing.
    let _ = stack.aws().aws(&fail).await;
}

/// The token of the task that waits next, once it is not `before` any more.
async fn next_token(stack: &Stack, id: &str, before: &str) -> String {
    loop {
        let token = stack.task_token(id, SOON).await.unwrap();
        if token != before {
            return token;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn a_click_between_two_tries_of_the_waiting_task_counts() {
    on_stack(async |stack| {
        for _ in 0..N_ROUNDS {
            let role = new_role(stack, json!({})).await;
            // Longer than the pause before the next try.
            let asked = ask_for(stack, &role, json!({ "duration": "PT60S" })).await;
            let id = request_id(stack, &asked.execution).await;
            let mut token = stack.task_token(&id, SOON).await.unwrap();
            for n in 1..=N_FAILURES {
                fail_task(stack, &token).await;
                if n < N_FAILURES {
                    token = next_token(stack, &id, &token).await;
                }
            }
            approve(&asked).await;
            let is_between = stack.task_token(&id, SOON).await.unwrap() == token;
            assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
            if is_between {
                assert!(was_ever_opened(stack, &asked).await);
                let last = stack.task_token(&id, SOON).await.unwrap();
                assert_ne!(last, token, "no other try came after the click");
                return;
            }
        }
        panic!("the click never fell between two tries");
    });
}

/// Between the vote and the answer to the waiting task approval needs the task's token: without it, everything is as
/// after a crash in between.
#[test]
fn what_was_recorded_before_a_crash_counts_and_is_answered_by_the_next_click() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT60S" })).await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        let token = stack.task_token(&id, SOON).await.unwrap();
        let table = stack.output("TableName").unwrap();
        let key = token_row(&id).to_string();
        let delete = [
            "dynamodb",
            "delete-item",
            "--table-name",
            table,
            "--key",
            &key,
        ];
        // It answers nothing.
        let _ = stack.aws().aws(&delete).await;
        approve(&asked).await;
        let states = stack.states_entered(&asked.execution).await.unwrap();
        let last = states.last().map(|(state, _)| state.as_str());
        assert_eq!(last, Some("Await Approval"), "something woke it");

        let mut row = token_row(&id);
        row["token"] = json!({ "S": token });
        let row = row.to_string();
        let put = [
            "dynamodb",
            "put-item",
            "--table-name",
            table,
            "--item",
            &row,
        ];
        let _ = stack.aws().aws(&put).await;
        // The same click again, as of somebody who saw no answer: it changes nothing, and wakes the task.
        let again = callback::reject(&asked.link, "I take it back")
            .await
            .unwrap();
        assert!(
            again.body.contains("You decided on this request at"),
            "{}",
            again.body
        );
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}

#[test]
fn what_was_recorded_before_a_crash_counts_at_the_deadline() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "approval_deadline": "PT60S" })).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT75S" })).await;
        stack
            .wait_for_state(&asked.execution, "Await Approval", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        stack.task_token(&id, SOON).await.unwrap();
        let table = stack.output("TableName").unwrap();
        let key = token_row(&id).to_string();
        let delete = [
            "dynamodb",
            "delete-item",
            "--table-name",
            table,
            "--key",
            &key,
        ];
        let _ = stack.aws().aws(&delete).await;
        approve(&asked).await;
        // Nobody comes again; the deadline does.
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(was_ever_opened(stack, &asked).await);
    });
}
