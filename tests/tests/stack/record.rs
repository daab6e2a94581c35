//! The record: exactly the lines that should be there, exported as it is documented, and nobody takes one back.

use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback;
use xtask::ministack::Keys;
use xtask::stack::{APPROVERS, Execution, REQUESTER, Stack, TARGET};

use super::fixture::{
    SOON, alone_on_stack, ask, ask_for, file, new_role, on_stack, outcome, request_id, until_open,
};

/// An auditor of this name, by the deployment's own policy.
pub(super) async fn auditor(stack: &Stack, name: &str) -> Keys {
    let policy = stack.output("AuditorPolicyArn").unwrap();
    stack.make_user(name, policy).await.unwrap()
}

/// The lines about a request.
pub(super) async fn lines(stack: &Stack, keys: &Keys, id: &str) -> Vec<Value> {
    let mut lines = all_lines(stack, keys);
    lines.retain(|line| line["request_id"] == id);
    lines
}

/// All lines of yesterday and today, by the command of docs/record.md.
fn all_lines(stack: &Stack, keys: &Keys) -> Vec<Value> {
    let document = include_str!("../../../docs/record.md");
    let command = document
        .split("```console\n$ aws ")
        .nth(1)
        .and_then(|rest| rest.split_once(" > "))
        .expect("docs/record.md has the command")
        .0;
    let mut lines = Vec::new();
    for day in [Utc::now() - TimeDelta::days(1), Utc::now()] {
        let command = command.replace("2026-11-25", &day.format("%Y-%m-%d").to_string());
        let aws = stack.aws().command("aws", keys);
        let mut shell = Command::new("bash");
        for (name, value) in aws.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let aws = aws.get_program().to_str().unwrap();
        shell
            .args(["-o", "pipefail", "-c"])
            .arg(format!(
                "{aws} --endpoint-url {} {command}",
                stack.aws().endpoint()
            ))
            .env("TABLE", stack.output("TableName").unwrap());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        lines.extend(text.lines().filter(|line| !line.is_empty()).map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no line: {line}"))
        }));
    }
    lines
}

/// What happened, without the messages, and how many messages of which kind.
pub(super) fn summary(lines: &[Value]) -> (Vec<&str>, Vec<&str>) {
    let (messages, events): (Vec<&Value>, Vec<&Value>) = lines
        .iter()
        .partition(|line| line["event"] == "message_sent");
    (
        events
            .iter()
            .map(|line| line["event"].as_str().unwrap())
            .collect(),
        messages
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect(),
    )
}

#[test]
fn a_window_from_request_to_closed_leaves_exactly_its_lines() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-a-window").await;
        let asked = ask(stack).await;
        callback::approve(&asked.link, &asked.role, "go")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        let id = request_id(stack, &asked.execution).await;
        let lines = lines(stack, &keys, &id).await;
        let (events, messages) = summary(&lines);
        assert_eq!(
            events,
            [
                "requested",
                "voted",
                "decided",
                "requester_confirmed",
                "armed",
                "opened",
                "closed"
            ]
        );
        assert_eq!(
            messages,
            [
                "asked",
                "asked",
                "accepted",
                "chat-asked",
                "opened",
                "opened",
                "opened",
                "chat-opened",
                "closed",
                "closed",
                "closed",
                "chat-closed"
            ]
        );
        let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
        assert_eq!(of("requested")["by"]["person"], REQUESTER);
        assert_eq!(of("requested")["role"], asked.role.as_str());
        assert_eq!(of("voted")["comment"], "go");
        assert!(
            of("requester_confirmed")["by"]["principal"]
                .as_str()
                .unwrap()
                .ends_with("user/riko")
        );
        let text = json!(lines).to_string();
        assert!(
            !text.contains("/decide/") && !text.contains("password"),
            "{text}"
        );

        // Called again, nothing is recorded twice.
        for (function, action) in [("DisableLoginFunction", "close"), ("NotifyFunction", "ask")] {
            let step = json!({ "version": 1, "request_id": id, "action": action });
            stack.invoke(function, &step).await.unwrap();
        }
        let again = self::lines(stack, &keys, &id).await;
        assert_eq!(again, lines);
    });
}

#[test]
fn what_ends_otherwise_leaves_exactly_its_lines() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-ends").await;
        let rejected = ask(stack).await;
        callback::reject(&rejected.link, "no").await.unwrap();
        assert_eq!(
            outcome(stack, &rejected.execution).await.outcome(),
            "rejected"
        );
        let id = request_id(stack, &rejected.execution).await;
        let of_rejected = lines(stack, &keys, &id).await;
        assert_eq!(summary(&of_rejected).0, ["requested", "voted", "decided"]);

        let role = new_role(stack, json!({ "approval_deadline": "PT10S" })).await;
        let expired = ask_for(stack, &role, json!({})).await;
        assert_eq!(
            outcome(stack, &expired.execution).await.outcome(),
            "expired"
        );
        let id = request_id(stack, &expired.execution).await;
        let of_expired = lines(stack, &keys, &id).await;
        assert_eq!(summary(&of_expired).0, ["requested", "decided"]);

        let cancelled = ask(stack).await;
        let id = request_id(stack, &cancelled.execution).await;
        end(stack, &id, "not needed").await;
        assert_eq!(
            outcome(stack, &cancelled.execution).await.outcome(),
            "cancelled"
        );
        let of_cancelled = lines(stack, &keys, &id).await;
        assert_eq!(summary(&of_cancelled).0, ["requested", "cancelled"]);
        assert_eq!(of_cancelled.last().unwrap()["event"], "message_sent");
        let line = of_cancelled
            .iter()
            .find(|line| line["event"] == "cancelled")
            .unwrap();
        assert_eq!(line["reason"], "not needed");
        assert_eq!(line["ended_as"], "requester");
        assert_eq!(line["by"]["person"], REQUESTER);

        // Refused before it is stored: its faults are there, once.
        let change = json!({ "duration": "PT999H" });
        let execution = file(stack, &role, change).await;
        assert_eq!(outcome(stack, &execution).await.outcome(), "refused");
        let mut refused = all_lines(stack, &keys);
        refused.retain(|line| line["event"] == "refused" && line["role"] == role.as_str());
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0]["faults"][0]["name"], "WindowTooLong");
        assert_eq!(refused[0]["by"]["person"], REQUESTER);
    });
}

#[test]
fn a_window_that_is_given_back_says_by_whom() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-early-ends").await;
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT10M" })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        stack
            .wait_for_state(&asked.execution, "Wait Until End", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        end(stack, &id, "repaired").await;
        let inbox = stack.inbox(REQUESTER).unwrap();
        let is_closed = |message: &xtask::inbox::Message| {
            message.is_about(&role) && message.subject.contains("login closed")
        };
        inbox.next(SOON, is_closed).await.unwrap();
        // Who is refused is recorded too.
        let url = format!("{}/{id}/decision", stack.output("RequestsUrl").unwrap());
        let approve = json!({ "verdict": "approve" }).to_string();
        let alice = stack.keys_of(APPROVERS[0]).unwrap();
        let answer = callback::call(Some(alice), "POST", &url, &[], &approve);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 409, "{answer:?}");
        let lines = lines(stack, &keys, &id).await;
        assert_eq!(
            summary(&lines).0[4..],
            [
                "armed",
                "opened",
                "window_ended",
                "ended_by_person",
                "closed",
                "call_refused"
            ]
        );
        let refused = lines.last().unwrap();
        assert_eq!(refused["error"], "already_decided");
        assert!(
            refused["by"]["principal"]
                .as_str()
                .unwrap()
                .ends_with(APPROVERS[0])
        );
        let by = lines
            .iter()
            .find(|line| line["event"] == "ended_by_person")
            .unwrap();
        assert_eq!(by["reason"], "repaired");
        assert_eq!(by["by"]["person"], REQUESTER);
        assert!(by["by"]["principal"].is_string());
        stack.stop_execution(&asked.execution).await.unwrap();
    });
}

#[test]
fn a_window_that_is_ended_by_link_says_by_whom() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-links").await;
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT10M" })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        let inbox = stack.inbox(REQUESTER).unwrap();
        let is_opened = |message: &xtask::inbox::Message| {
            message.is_about(&role) && message.subject.contains("login open")
        };
        let opened = inbox.next(SOON, is_opened).await.unwrap();
        let link = opened.end_link().unwrap();
        let answer = callback::end(link, &role, "repaired").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let is_closed = |message: &xtask::inbox::Message| {
            message.is_about(&role) && message.subject.contains("login closed")
        };
        inbox.next(SOON, is_closed).await.unwrap();
        let id = request_id(stack, &asked.execution).await;
        let lines = lines(stack, &keys, &id).await;
        assert_eq!(
            summary(&lines).0[4..],
            [
                "armed",
                "opened",
                "window_ended",
                "ended_by_person",
                "closed"
            ]
        );
        let by = lines
            .iter()
            .find(|line| line["event"] == "ended_by_person")
            .unwrap();
        assert_eq!(by["reason"], "repaired");
        assert_eq!(by["ended_as"], "requester");
        assert_eq!(by["by"]["person"], REQUESTER);
        // Who holds the link is who it is for: there is no signature.
        assert!(by["by"]["principal"].is_null(), "{by}");
        stack.stop_execution(&asked.execution).await.unwrap();
    });
}

#[test]
fn what_is_refused_after_it_was_asked_says_why_once() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-refusals").await;
        // Somebody else has the role.
        let role = new_role(stack, json!({})).await;
        let first = ask_for(stack, &role, json!({ "duration": "PT10M" })).await;
        callback::approve(&first.link, &role, "").await.unwrap();
        until_open(stack, &first).await;
        let mut document = Stack::request_document(&role, "PT10S");
        document.as_object_mut().unwrap().remove("requester");
        let sayo = super::overlapping::somebody(stack, "sayo-asks", "Sayo Example").await;
        let answer = stack.ask(Some(&sayo), &document, None).await.unwrap();
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let arn = answer["execution_arn"].as_str().unwrap().to_owned();
        let second = Execution { arn };
        assert_eq!(outcome(stack, &second).await.outcome(), "refused");
        let id = request_id(stack, &second).await;
        let in_use = lines(stack, &keys, &id).await;
        assert_eq!(summary(&in_use).0, ["requested", "refused"]);
        let line = in_use
            .iter()
            .find(|line| line["event"] == "refused")
            .unwrap();
        assert_eq!(line["faults"][0]["name"], "RoleInUse", "{line}");
        assert!(line["faults"][0]["message"].is_string());
        stack.stop_execution(&first.execution).await.unwrap();

        // The catalogue asks for more approvals by the start.
        let role = new_role(stack, json!({})).await;
        let start = DateTime::from_timestamp(Utc::now().timestamp() + 45, 0).unwrap();
        let asked = ask_for(stack, &role, json!({ "start": start.to_rfc3339() })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        let mut stricter = Stack::role_document(&role);
        stricter["required_approvals"] = json!(2);
        let name = format!("roles/{TARGET}/{role}");
        stack.put_catalogue(&name, &stricter).await.unwrap();
        assert!(Utc::now() < start, "the machine was too slow for this test");
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "refused");
        let id = request_id(stack, &asked.execution).await;
        let changed = lines(stack, &keys, &id).await;
        assert_eq!(
            summary(&changed).0,
            [
                "requested",
                "voted",
                "decided",
                "requester_confirmed",
                "refused"
            ]
        );
        let line = changed
            .iter()
            .find(|line| line["event"] == "refused")
            .unwrap();
        assert_eq!(line["faults"][0]["name"], "CatalogueChanged", "{line}");
    });
}

#[test]
fn a_window_that_the_owner_opened_by_hand_is_recorded_until_it_is_over() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-adopted").await;
        let role = new_role(stack, json!({})).await;
        let dba = &stack.postgres().accounts().master;
        let session = stack.postgres().log_in(dba, "latchkey").await.unwrap();
        let open = "SELECT latchkey.open_by_hand($1, now() + interval '10 minutes', 'outage')";
        session.execute(open, &[&role]).await.unwrap();
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        let adopted = |event: &str| {
            let mut lines = all_lines(stack, &keys);
            // Other tests have this server in the catalogue under other names, where it is adopted too.
            lines.retain(|line| {
                line["event"] == event && line["role"] == role.as_str() && line["target"] == TARGET
            });
            lines
        };
        let lines_of_adopted = adopted("adopted");
        assert_eq!(lines_of_adopted.len(), 1, "{lines_of_adopted:?}");
        assert_eq!(
            lines_of_adopted[0]["database_user"].as_str(),
            Some(dba.user.as_str())
        );
        let id = lines_of_adopted[0]["request_id"].as_str().unwrap();

        // A second round finds the same opening, and records nothing more.
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        assert_eq!(summary(&lines(stack, &keys, id).await).0, ["adopted"]);
        session
            .execute("SELECT latchkey.close($1)", &[&role])
            .await
            .unwrap();
    });
}

/// Nobody looked while it was not over. LOGIN is left, so that it is adopted, told and closed, and once for all.
#[test]
fn an_opening_by_hand_that_is_over_before_anybody_looked_is_adopted_and_closed_once() {
    alone_on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-late-adopted").await;
        let role = new_role(stack, json!({ "mode": "observe" })).await;
        let dba = &stack.postgres().accounts().master;
        let session = stack.postgres().log_in(dba, "latchkey").await.unwrap();
        let open = "SELECT latchkey.open_by_hand($1, now() + interval '3 seconds', 'outage')";
        session.execute(open, &[&role]).await.unwrap();
        let seen = async |what: &str| -> bool {
            let seen = format!("SELECT {what} FROM pg_roles WHERE rolname = $1");
            let row = session.query_one(&seen, &[&role]).await.unwrap();
            row.get(0)
        };
        while !seen("rolvaliduntil < clock_timestamp()").await {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert!(seen("rolcanlogin").await);
        let first = stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        assert!(first["n_by_hand"].as_u64().unwrap() > 0, "{first}");
        assert!(!seen("rolcanlogin").await, "{first}");
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        let mut adopted = all_lines(stack, &keys);
        adopted.retain(|line| {
            line["event"] == "adopted" && line["role"] == role.as_str() && line["target"] == TARGET
        });
        assert_eq!(adopted.len(), 1, "{adopted:?}");
        let id = adopted[0]["request_id"].as_str().unwrap();
        let of_adopted = lines(stack, &keys, id).await;
        assert_eq!(summary(&of_adopted).0, ["adopted", "adopted_over"]);
    });
}

#[test]
fn a_function_that_is_killed_in_the_middle_leaves_neither_a_hole_nor_a_second_line() {
    alone_on_stack(async |stack| {
        let keys = auditor(stack, "auditor-of-killed").await;
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT60S" })).await;
        let superuser = &stack.postgres().accounts().superuser;
        let holder = stack.postgres().log_in(superuser, "postgres").await;
        let holder = holder.unwrap();
        let hold = format!("BEGIN; ALTER ROLE \"{role}\" CONNECTION LIMIT 9");
        holder.batch_execute(&hold).await.unwrap();
        callback::approve(&asked.link, &role, "").await.unwrap();
        until_the_opener_waits(stack).await;
        assert!(stack.kill_function("EnableLoginFunction").unwrap() > 0);
        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        let id = request_id(stack, &asked.execution).await;
        assert_eq!(
            summary(&lines(stack, &keys, &id).await).0,
            [
                "requested",
                "voted",
                "decided",
                "requester_confirmed",
                "armed",
                "opened",
                "closed"
            ]
        );
    });
}

async fn end(stack: &Stack, id: &str, reason: &str) {
    let url = format!("{}/{id}/end", stack.output("RequestsUrl").unwrap());
    let body = json!({ "reason": reason }).to_string();
    let answer = callback::call(Some(stack.requester_keys()), "POST", &url, &[], &body);
    let answer = answer.await.unwrap();
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

/// Waits until enable-login's session waits for a lock.
async fn until_the_opener_waits(stack: &Stack) {
    let superuser = &stack.postgres().accounts().superuser;
    let observer = stack.postgres().log_in(superuser, "postgres").await;
    let observer = observer.unwrap();
    let query = "SELECT FROM pg_stat_activity WHERE usename = 'latchkey_opener' AND wait_event_type = 'Lock'";
    let until = Utc::now() + TimeDelta::from_std(SOON).unwrap();
    while observer.query(query, &[]).await.unwrap().is_empty() {
        assert!(Utc::now() < until, "enable-login never waited for the lock");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn nobody_who_reads_the_record_writes_it() {
    on_stack(async |stack| {
        let keys = auditor(stack, "auditor-who-writes").await;
        let table = stack.output("TableName").unwrap();
        let key = json!({ "pk": { "S": "record#2026-01-01" }, "sk": { "S": "x" } }).to_string();
        let request = json!({ ":day": { "S": "request#r-0123456789abcdef" } }).to_string();
        for call in [
            &["put-item", "--item", &key][..],
            &["delete-item", "--key", &key],
            &[
                "query",
                "--key-condition-expression",
                "pk = :day",
                "--expression-attribute-values",
                &request,
            ],
        ] {
            let mut command = stack.aws().command("aws", &keys);
            command.args([
                "--endpoint-url",
                &stack.aws().endpoint(),
                "dynamodb",
                call[0],
                "--table-name",
                table,
            ]);
            command.args(&call[1..]);
            let output = command.output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("AccessDenied"), "{call:?}: {output:?}");
        }
    });
}
