//! A dry run says what a request would come to, and nothing can make an opening of it.

use serde_json::{Value, json};
use xtask::callback;
use xtask::ministack::ACCOUNT;
use xtask::stack::{APPROVERS, Ended, Execution, REQUESTER, Stack, TARGET};

use super::fixture::{
    WINDOW, ask_for, can_log_in, merge, new_role, new_role_name, on_stack, outcome, request_id,
    row_version, until_open,
};

/// What a dry run for `role` answers, with `change` made to the plain request, through the front door.
async fn dry_run(stack: &Stack, role: &str, change: Value) -> Ended {
    let mut document = Stack::request_document(role, &format!("PT{}S", WINDOW.as_secs()));
    merge(&mut document, json!({ "dry_run": true }));
    merge(&mut document, change);
    let execution = stack.ask_as_requester(&document).await.unwrap();
    outcome(stack, &execution).await
}

/// How many messages about `role` anybody got.
async fn n_messages(stack: &Stack, role: &str) -> usize {
    let mut n = 0;
    for person in [REQUESTER, APPROVERS[0], APPROVERS[1]] {
        let inbox = stack.inbox(person).unwrap();
        let messages = inbox.take_all(|message| message.is_about(role)).await;
        n += messages.unwrap().len();
    }
    n
}

/// The rows of the table whose partition key ends with the id.
async fn rows_of(stack: &Stack, id: &str) -> Vec<String> {
    let table = stack.output("TableName").unwrap();
    let values = json!({ ":id": { "S": id } }).to_string();
    let found = stack
        .aws()
        .aws(&[
            "dynamodb",
            "scan",
            "--table-name",
            table,
            "--filter-expression",
            "contains(pk, :id)",
            "--expression-attribute-values",
            &values,
        ])
        .await
        .unwrap();
    let rows = found["Items"].as_array().unwrap().iter();
    rows.map(|row| row["pk"]["S"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_dry_run_answers_everything_and_asks_nobody() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "required_approvals": 2 })).await;
        let before = row_version(stack, &role).await;
        let ended = dry_run(stack, &role, json!({ "start": "2100-01-01T00:00:00Z" })).await;
        assert_eq!(ended.outcome(), "refused", "{}", ended.output);
        assert_eq!(ended.fault_names(), ["StartTooFarAhead"]);

        let ended = dry_run(stack, &role, json!({})).await;
        assert_eq!(ended.outcome(), "dry_run", "{}", ended.output);
        let answer = &ended.output;
        assert_eq!(answer["faults"], json!([]), "{answer}");
        let request = &answer["request"];
        assert_eq!(request["role"], json!(role));
        assert_eq!(request["target"], json!(TARGET));
        assert_eq!(request["grant"]["kind"], "login");
        assert_eq!(request["required_approvals"], 2);
        assert_eq!(request["approvers"][0]["id"], APPROVERS[0]);
        assert!(request["requester_proof"]["verified"].is_object());
        assert!(answer["window_if_approved_now"]["end"].is_string());
        let opening = answer["plan"]["opening"].as_array().unwrap();
        assert_eq!(opening.len(), 1, "{answer}");
        assert_eq!(opening[0]["login"], "latchkey_opener");
        assert_eq!(opening[0]["values"][0], json!(role));
        assert_eq!(
            opening[0]["values"][1],
            answer["window_if_approved_now"]["end"]
        );
        let text = answer.to_string();
        assert!(!text.contains("secretsmanager") && !text.contains("SCRAM-SHA-256$"));

        assert_eq!(n_messages(stack, &role).await, 0);
        assert_eq!(row_version(stack, &role).await, before);
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn a_dry_run_says_all_that_stands_in_the_way() {
    on_stack(async |stack| {
        // In the catalogue, and not registered in the database.
        let unknown = new_role_name();
        let document = Stack::role_document(&unknown);
        let name = format!("roles/{TARGET}/{unknown}");
        stack.put_catalogue(&name, &document).await.unwrap();
        let ended = dry_run(stack, &unknown, json!({})).await;
        assert_eq!(ended.outcome(), "dry_run", "{}", ended.output);
        assert_eq!(ended.fault_names(), ["RoleNotRegistered"]);
        assert_eq!(ended.output["findings"], json!([]));

        let role = new_role(stack, json!({ "max_duration": "P2D" })).await;
        let superuser = &stack.postgres().accounts().superuser;
        let session = stack
            .postgres()
            .log_in(superuser, "postgres")
            .await
            .unwrap();
        let grant = format!("GRANT pg_signal_backend TO \"{role}\"");
        session.batch_execute(&grant).await.unwrap();
        let ended = dry_run(stack, &role, json!({ "duration": "P2D" })).await;
        assert_eq!(ended.fault_names(), ["WindowTooLongForDatabase"]);
        let findings = ended.output["findings"].to_string();
        assert!(findings.contains("ends_sessions"), "{findings}");
    });
}

#[test]
fn a_dry_run_says_whom_a_request_would_not_reach() {
    on_stack(async |stack| {
        // In the catalogue, without a subscription.
        let person = json!({
            "id": "nadia", "name": "Nadia Example", "mailbox": "nadia@example.com",
            "principals": [format!("arn:aws:iam::{ACCOUNT}:user/nadia")],
        });
        stack.put_catalogue("people/nadia", &person).await.unwrap();
        let approvers = json!({ "approvers": [APPROVERS[0], "nadia"], "required_approvals": 2 });
        let role = new_role(stack, approvers).await;
        let ended = dry_run(stack, &role, json!({})).await;
        assert_eq!(ended.outcome(), "dry_run", "{}", ended.output);
        assert_eq!(ended.fault_names(), ["ApproverUnreachable"]);
        let because = &ended.output["faults"][0]["because"];
        assert_eq!(because["id"], "nadia", "{because}");
        assert!(ended.output["plan"]["opening"][0]["sql"].is_string());
        // As in earnest.
        let request = Stack::request_document(&role, "PT1H");
        let execution = stack.ask_as_requester(&request).await.unwrap();
        let refused = outcome(stack, &execution).await;
        assert_eq!(refused.output["faults"], ended.output["faults"]);
    });
}

#[test]
fn a_dry_run_is_read_back_by_its_requester_alone() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let mut document = Stack::request_document(&role, "PT1H");
        merge(&mut document, json!({ "dry_run": true, "requester": null }));
        let riko = stack.keys_of(REQUESTER).unwrap();
        let answer = stack.ask(Some(riko), &document, None).await.unwrap();
        let accepted: Value = serde_json::from_str(&answer.body).unwrap();
        let id = accepted["request_id"].as_str().unwrap();
        let arn = accepted["execution_arn"].as_str().unwrap().to_owned();
        let ended = outcome(stack, &Execution { arn }).await;
        let url = format!("{}/{id}", stack.output("RequestsUrl").unwrap());
        let read = async |keys| callback::call(keys, "GET", &url, &[], "").await.unwrap();
        let answer = read(Some(riko)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(seen["request_id"], *id);
        assert_eq!(seen["status"], "answered", "{seen}");
        assert_eq!(seen["dry_run"], ended.output);
        assert_eq!(seen["dry_run"]["request"]["role"], json!(role));
        assert!(seen["dry_run"]["plan"]["closing"][0]["sql"].is_string());
        assert!(seen["dry_run"]["findings"].is_array());
        // It is no request, and nobody else's.
        let approver = read(Some(stack.keys_of(APPROVERS[0]).unwrap())).await;
        assert_eq!(approver.status, 404, "{approver:?}");
        assert_eq!(read(None).await.status, 403);
    });
}

#[test]
fn a_database_that_cannot_be_asked_is_part_of_the_answer() {
    on_stack(async |stack| {
        let target = "unreachable";
        let mut document = stack.add_database(target, stack.postgres()).await.unwrap();
        // Nothing listens there: it belonged to a listener that is gone.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        merge(&mut document, json!({ "port": port }));
        let database = format!("databases/{target}");
        stack.put_catalogue(&database, &document).await.unwrap();
        let role = new_role_name();
        let document = Stack::role_document(&role);
        let policy = format!("roles/{target}/{role}");
        stack.put_catalogue(&policy, &document).await.unwrap();

        let ended = dry_run(stack, &role, json!({ "target": target })).await;
        // reconcile looks at every database of the catalogue.
        for name in [policy, database] {
            stack.forget_catalogue(&name).await.unwrap();
        }
        assert_eq!(ended.outcome(), "dry_run", "{}", ended.output);
        let not_asked = &ended.output["database_not_asked"];
        assert_eq!(not_asked["error"], "DatabaseUnreachable", "{not_asked}");
        assert!(not_asked["message"].is_string());
        assert_eq!(ended.output["faults"], json!([]));
        assert_eq!(ended.output["findings"], json!([]));
        assert_eq!(ended.output["request"]["target"], target);
        assert!(ended.output["plan"]["opening"][0]["sql"].is_string());
    });
}

#[test]
fn nothing_makes_an_opening_of_a_dry_run() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let before = row_version(stack, &role).await;
        // In somebody's name, without the front door.
        let mut document = Stack::request_document(&role, "PT1H");
        merge(&mut document, json!({ "dry_run": true }));
        let execution = stack.file_request(&document).await.unwrap();
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "dry_run", "{}", ended.output);
        assert_eq!(ended.output["request"]["requester_proof"], "claimed");
        let id = request_id(stack, &execution).await;
        assert_eq!(rows_of(stack, &id).await, [format!("dry-run#{id}")]);

        let url = stack.output("RequestsUrl").unwrap();
        let alice = Some(stack.keys_of(APPROVERS[0]).unwrap());
        for (verb, body) in [
            ("decision", json!({ "verdict": "approve" })),
            ("end", json!({ "reason": "not needed" })),
        ] {
            let url = format!("{url}/{id}/{verb}");
            let answer = callback::call(alice, "POST", &url, &[], &body.to_string())
                .await
                .unwrap();
            assert_eq!(answer.status, 404, "{verb}: {answer:?}");
        }
        for (function, action) in [
            ("EnableLoginFunction", "open"),
            ("EnableLoginFunction", "preflight"),
            ("ApprovalFunction", "settle"),
            ("NotifyFunction", "ask"),
        ] {
            let payload = json!({ "version": 1, "request_id": id, "action": action });
            let answer = stack.invoke(function, &payload).await.unwrap();
            assert_eq!(answer["errorType"], "RequestNotFound", "{action}: {answer}");
        }
        // A waiting task that nobody started, and a vote that nobody cast.
        let waits = json!({
            "version": 1, "request_id": id, "action": "await_decision", "task_token": "forged",
        });
        let answer = stack.invoke("ApprovalFunction", &waits).await.unwrap();
        assert_eq!(answer["errorType"], "RequestNotFound", "{answer}");
        let vote = json!({
            "vote": { "approver": "alice", "verdict": "approve", "at": "2026-01-01T00:00:00Z", "comment": "" },
            "seal": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        });
        let row = json!({
            "pk": { "S": format!("vote#{id}") }, "sk": { "S": "alice" }, "version": { "N": "1" },
            "document": { "S": vote.to_string() },
        })
        .to_string();
        let table = stack.output("TableName").unwrap();
        let put = [
            "dynamodb",
            "put-item",
            "--table-name",
            table,
            "--item",
            &row,
        ];
        stack.aws().aws(&put).await.unwrap();
        let open = json!({ "version": 1, "request_id": id, "action": "open" });
        let answer = stack.invoke("EnableLoginFunction", &open).await.unwrap();
        assert_eq!(answer["errorType"], "RequestNotFound", "{answer}");

        assert_eq!(row_version(stack, &role).await, before);
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn what_a_dry_run_plans_is_what_the_database_gets() {
    on_stack(async |stack| {
        let superuser = &stack.postgres().accounts().superuser;
        let session = stack
            .postgres()
            .log_in(superuser, "postgres")
            .await
            .unwrap();
        for login in ["latchkey_opener", "latchkey_closer"] {
            let logged = format!("ALTER ROLE {login} SET log_statement = 'all'");
            session.batch_execute(&logged).await.unwrap();
        }
        let role = new_role(stack, json!({})).await;
        let ended = dry_run(stack, &role, json!({})).await;
        let plan = &ended.output["plan"];
        let planned = |part: &str| -> Vec<String> {
            let statements = plan[part].as_array().unwrap().iter();
            statements
                .map(|it| words(it["sql"].as_str().unwrap()))
                .collect()
        };
        let n_before = logged(stack, &role).len();
        let asked = ask_for(stack, &role, json!({})).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");

        let sent = logged(stack, &role).split_off(n_before);
        let all = [planned("opening"), planned("closing")].concat();
        for statement in &all {
            assert!(
                sent.contains(statement),
                "not sent: {statement} in {sent:?}"
            );
        }
        // What changes something, and not only looks, was planned.
        for statement in &sent {
            let changes = ["open", "extend", "narrow", "close", "sweep"]
                .iter()
                .any(|function| statement.contains(&format!("latchkey.{function}(")));
            assert!(
                !changes || all.contains(statement),
                "not planned: {statement}"
            );
        }
        let opens = sent.iter().position(|it| planned("opening").contains(it));
        let closes = sent.iter().position(|it| *it == planned("closing")[0]);
        assert!(opens < closes, "{sent:?}");
    });
}

/// The statements about `role` in the server's log, in order.
fn logged(stack: &Stack, role: &str) -> Vec<String> {
    let log = stack.postgres().log();
    let entries = log.split("execute <unnamed>: ").skip(1);
    entries
        .filter_map(|entry| {
            let (statement, rest) = entry.split_once("\n")?;
            let (more, parameters) = rest.split_once("DETAIL:").unwrap_or((rest, ""));
            let is_about = parameters
                .lines()
                .next()
                .is_some_and(|line| line.contains(&format!("$1 = '{role}'")));
            // A statement of several lines goes on with tabs.
            let more = more.lines().take_while(|line| line.starts_with('\t'));
            let whole = std::iter::once(statement).chain(more).collect::<Vec<_>>();
            is_about.then(|| words(&whole.join(" ")))
        })
        .collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
