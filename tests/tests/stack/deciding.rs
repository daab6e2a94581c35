//! What a link can do, and what it cannot.

use std::time::Duration;

use serde_json::json;
use xtask::callback;
use xtask::stack::{APPROVERS, REQUESTER};

use super::fixture::{
    SOON, ask, ask_for, can_log_in, link_to, new_role, on_stack, outcome, request_id,
    told_requester, until_open, was_ever_opened,
};
use super::observations::Matrix;

#[test]
fn a_rejected_request_never_opens_and_the_requester_hears_of_it() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let answer = callback::reject(&asked.link, "not during the audit")
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        assert!(!was_ever_opened(stack, &asked).await);
        assert_eq!(told_requester(stack, &asked.role).await.len(), 1);
    });
}

#[test]
fn a_request_that_nobody_decides_expires() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "approval_deadline": "PT8S" })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "expired");

        let late = callback::approve(&asked.link, &role, "").await.unwrap();
        assert!(
            [404, 410].contains(&late.status),
            "{}: {}",
            late.status,
            late.body
        );
        assert!(!was_ever_opened(stack, &asked).await);
        assert_eq!(told_requester(stack, &role).await.len(), 1);
    });
}

#[test]
fn looking_at_the_page_decides_nothing() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let page = callback::get(&asked.link).await.unwrap();
        assert_eq!(page.status, 200);
        assert!(page.body.contains(&asked.role));
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'"), "{:?}", page.headers);
        let head = callback::head(&asked.link).await.unwrap();
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        for query in ["?decision=approve", "?decision=reject&comment=no"] {
            callback::get(&format!("{}{query}", asked.link))
                .await
                .unwrap();
        }
        // A button pressed without the words that a person types decides nothing either.
        let pressed = callback::post_form(&asked.link, &[("decision", "approve")])
            .await
            .unwrap();
        assert_eq!(pressed.status, 422, "{}", pressed.body);

        let states = stack.states_entered(&asked.execution).await.unwrap();
        assert_eq!(states.last().unwrap().0, "Await Approval");
        assert!(!was_ever_opened(stack, &asked).await);
        callback::reject(&asked.link, "only looked").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

#[test]
fn a_tampered_link_shows_and_decides_nothing() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let (base, segment) = asked.link.rsplit_once('/').unwrap();
        let middle = segment.len() / 2;
        let mut changed = segment.to_owned();
        let other = if segment.as_bytes()[middle] == b'A' {
            "B"
        } else {
            "A"
        };
        changed.replace_range(middle..=middle, other);
        let cut = &segment[..segment.len() - 1];
        for tampered in [changed.as_str(), cut, "x", &"A".repeat(4000), "..%2f..%2f"] {
            let link = format!("{base}/{tampered}");
            let page = callback::get(&link).await.unwrap();
            assert_eq!(page.status, 404, "{tampered}: {}", page.body);
            assert!(!page.body.contains(&asked.role), "{tampered}");
            let decided = callback::approve(&link, &asked.role, "").await.unwrap();
            assert_eq!(decided.status, 404, "{tampered}: {}", decided.body);
        }
        assert!(!was_ever_opened(stack, &asked).await);
        callback::reject(&asked.link, "the true link still works")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

#[test]
fn a_double_click_counts_once() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "required_approvals": 2 })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let (first, second) = tokio::join!(
            callback::approve(&asked.link, &role, ""),
            callback::approve(&asked.link, &role, "")
        );
        assert_eq!((first.unwrap().status, second.unwrap().status), (200, 200));
        // The same person cannot take it back either.
        callback::reject(&asked.link, "changed my mind")
            .await
            .unwrap();
        assert!(!can_log_in(stack, &role).await, "one person counted twice");
        let states = stack.states_entered(&asked.execution).await.unwrap();
        assert_eq!(states.last().unwrap().0, "Await Approval");

        let of_bob = link_to(stack, APPROVERS[1], &role, &asked.execution).await;
        assert_ne!(of_bob, asked.link);
        callback::approve(&of_bob, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}

#[test]
fn nobody_is_asked_about_their_own_request() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "approvers": [REQUESTER, APPROVERS[0]] })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let own = stack.inbox(REQUESTER).unwrap();
        let own_link = own
            .take_all(|message| message.is_about(&role) && message.decision_link().is_some())
            .await
            .unwrap();
        assert!(own_link.is_empty(), "{own_link:?}");
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}

#[test]
fn a_task_token_alone_approves_nothing() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        let execution = &asked.execution;
        stack
            .wait_for_state(execution, "Await Approval", SOON)
            .await
            .unwrap();

        // Whoever holds the token can wake the execution, but it believes only the recorded votes.
        let id = request_id(stack, execution).await;
        let token = stack.task_token(&id, SOON).await.unwrap();
        let claim = json!({ "version": 1, "request_id": id, "outcome": "approved" }).to_string();
        let sent = stack
            .aws()
            .aws(&[
                "stepfunctions",
                "send-task-success",
                "--task-token",
                &token,
                "--task-output",
                &claim,
            ])
            .await;
        let mut matrix = Matrix::about("a stolen task token");
        let who = "token thief";
        matrix.note(
            who,
            "SendTaskSuccess with \"approved\" is sent",
            true,
            sent.is_ok(),
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        let opened = was_ever_opened(stack, &asked).await;
        matrix.note(
            who,
            "SendTaskSuccess with \"approved\": ever opened",
            false,
            opened,
        );
        callback::reject(&asked.link, "nobody approved")
            .await
            .unwrap();
        let ended = outcome(stack, execution).await;
        matrix.note(
            who,
            "the request, rejected by a person after that",
            "rejected",
            ended.outcome(),
        );
        matrix.check();
    });
}

#[test]
fn an_approver_opens_less_than_was_asked_for_and_no_more() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "required_approvals": 2 })).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT30M" })).await;
        let of_bob = link_to(stack, APPROVERS[1], &role, &asked.execution).await;
        let end = chrono::Utc::now() + chrono::TimeDelta::seconds(25);
        // The catalogue's zone is Asia/Tokyo, nine hours ahead.
        let local = |at: chrono::DateTime<chrono::Utc>| {
            let in_tokyo = at + chrono::TimeDelta::hours(9);
            in_tokyo.format("%Y-%m-%dT%H:%M:%S").to_string()
        };
        let approve = |end: String| {
            [
                ("decision", "approve".to_owned()),
                ("role", role.clone()),
                ("comment", String::new()),
                ("start", String::new()),
                ("end", end),
            ]
        };
        let post = async |link: &str, fields: &[(&str, String)]| {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            callback::post_form(link, &fields).await.unwrap()
        };
        // More than was asked for, and less than a second, are answered and not recorded.
        let next_week = local(end + chrono::TimeDelta::days(7));
        let too_much = post(&asked.link, &approve(next_week)).await;
        assert_eq!(too_much.status, 422, "{}", too_much.body);
        assert!(too_much.body.contains("cannot end after"));
        let passed = local(end - chrono::TimeDelta::hours(1));
        let too_little = post(&asked.link, &approve(passed)).await;
        assert_eq!(too_little.status, 422, "{}", too_little.body);
        assert!(too_little.body.contains("the shortest window"));

        let narrowed = post(&asked.link, &approve(local(end))).await;
        assert_eq!(narrowed.status, 200, "{}", narrowed.body);
        let page = callback::get(&of_bob).await.unwrap();
        assert!(page.body.contains("narrowed by approvers"), "{}", page.body);
        callback::approve(&of_bob, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        let until = super::fixture::valid_until(stack, &role).await;
        assert_eq!(until.timestamp(), end.timestamp());
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(chrono::Utc::now() >= until);
    });
}
