//! Who asks: through the front door IAM says it, beside it CloudTrail must.

use serde_json::{Value, json};
use xtask::callback::{self, Answer};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Execution, REQUESTER, Stack};

use super::fixture::{
    SOON, WINDOW, ask_for, can_log_in, file, link_to, merge, new_role, on_stack, outcome, put_row,
    request_id, row, row_version, told_requester, until_open,
};
use super::observations::Matrix;

/// A request for `role` as the front door takes it: without its requester.
fn document(role: &str) -> Value {
    let mut document = Stack::request_document(role, &format!("PT{}S", WINDOW.as_secs()));
    merge(&mut document, json!({ "requester": null }));
    document
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("not JSON: {answer:?}"))
}

/// The status, and what a refusal calls itself.
fn named(answer: &Answer) -> String {
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    format!(
        "{} {}",
        answer.status,
        said["error"].as_str().unwrap_or("-")
    )
}

fn execution(answer: &Answer) -> Execution {
    assert_eq!(answer.status, 202, "{answer:?}");
    let arn = body(answer)["execution_arn"].as_str().unwrap().to_owned();
    Execution { arn }
}

fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(body(answer)["error"], error, "{answer:?}");
    assert!(!body(answer)["message"].as_str().unwrap().is_empty());
}

/// The request as it is stored.
async fn stored(stack: &Stack, id: &str) -> Value {
    let item = row(stack, &format!("request#{id}"), "request").await;
    serde_json::from_str(item["document"]["S"].as_str().unwrap()).unwrap()
}

/// Makes a role of IAM, and a person of the catalogue who is these of its sessions.
async fn person_with_role(stack: &Stack, id: &str, session_name: Option<&str>) {
    let policy = stack.output("RequesterPolicyArn").unwrap();
    let role = format!("Role-{id}");
    stack.make_role(&role, policy).await.unwrap();
    put_person(stack, id, &role, session_name).await;
}

async fn put_person(stack: &Stack, id: &str, role: &str, session_name: Option<&str>) {
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/people/{role}");
    let principal = match session_name {
        None => json!(arn),
        Some(name) => json!({ "role": arn, "session_name": name }),
    };
    let person = json!({
        "id": id, "name": id, "mailbox": format!("{id}@example.com"), "principals": [principal],
    });
    stack
        .put_catalogue(&format!("people/{id}"), &person)
        .await
        .unwrap();
}

#[test]
fn a_signed_request_is_its_callers_and_opens() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let answer = stack
            .ask(Some(stack.requester_keys()), &document(&role), None)
            .await
            .unwrap();
        let execution = execution(&answer);
        let link = link_to(stack, APPROVERS[0], &role, &execution).await;
        let id = request_id(stack, &execution).await;
        assert_eq!(body(&answer)["request_id"], id);
        let proof = &stored(stack, &id).await["requester_proof"];
        let principal = format!("arn:aws:iam::{ACCOUNT}:user/{REQUESTER}");
        assert_eq!(*proof, json!({ "verified": { "principal": principal } }));
        let page = callback::get(&link).await.unwrap().body;
        assert!(
            page.contains("verified by AWS") && !page.contains("not verified"),
            "{page}"
        );

        callback::approve(&link, &role, "").await.unwrap();
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "closed", "{}", ended.output);
        assert!(!can_log_in(stack, &role).await);
        assert_eq!(told_requester(stack, &role).await.len(), 2);
    });
}

#[test]
fn who_cannot_be_told_apart_cannot_ask() {
    on_stack(async |stack| {
        let mut matrix = Matrix::about("who asks through the front door");
        let role = new_role(stack, json!({})).await;
        let before = row_version(stack, &role).await;
        let document = document(&role);
        let policy = stack.output("RequesterPolicyArn").unwrap();
        let stranger = stack.make_user("stranger", policy).await.unwrap();
        let forged = Keys {
            secret_access_key: "not-the-secret".to_owned(),
            ..stack.requester_keys().clone()
        };
        let alice = stack.keys_of(APPROVERS[0]).unwrap();
        for (who, keys, expected) in [
            ("nobody: no signature", None, "403 -"),
            (
                "a user whom the catalogue does not know",
                Some(&stranger),
                "403 not_in_the_catalogue",
            ),
            (
                "a signature by a key that is not theirs",
                Some(&forged),
                "403 -",
            ),
            ("an approver, by their policy", Some(alice), "403 -"),
        ] {
            let answer = stack.ask(keys, &document, None).await.unwrap();
            matrix.note(who, "ask", expected, named(&answer));
            if expected.ends_with("catalogue") {
                let message = body(&answer)["message"].to_string();
                assert!(message.contains("user/stranger"), "{message}");
            }
        }
        let untouched = row_version(stack, &role).await == before;
        matrix.note(
            "all of them",
            "all of it: the role is as it was",
            true,
            untouched,
        );
        matrix.check();
    });
}

#[test]
fn a_role_under_two_session_names_is_one_person_unless_the_name_is_enforced() {
    on_stack(async |stack| {
        let mut matrix = Matrix::about("session names of requesters");
        let role = new_role(stack, json!({})).await;
        person_with_role(stack, "sam", None).await;
        let mut executions = Vec::new();
        for session_name in ["laptop", "alice"] {
            let keys = stack.session("Role-sam", session_name).await.unwrap();
            let answer = stack
                .ask(Some(&keys), &document(&role), Some("k"))
                .await
                .unwrap();
            let who = format!("a role's session {session_name:?}");
            matrix.note(&who, "ask with the key k", "202 -", named(&answer));
            executions.push(execution(&answer).arn);
        }
        let is_one = executions[0] == executions[1];
        matrix.note(
            "both sessions",
            "one person's key, so one execution",
            true,
            is_one,
        );

        person_with_role(stack, "kim", Some("kim@example.com")).await;
        let kim = stack.session("Role-kim", "kim@example.com").await.unwrap();
        let other = stack.session("Role-kim", "laptop").await.unwrap();
        for (who, keys, expected) in [
            ("the session whose name is enforced", &kim, "202 -"),
            (
                "another session of that role",
                &other,
                "403 not_in_the_catalogue",
            ),
        ] {
            let answer = stack.ask(Some(keys), &document(&role), None).await.unwrap();
            matrix.note(who, "ask", expected, named(&answer));
        }
        // Now it is two people's, and so nobody's.
        put_person(stack, "twin", "Role-kim", None).await;
        let answer = stack.ask(Some(&kim), &document(&role), None).await.unwrap();
        matrix.note(
            "a session that two people list",
            "ask",
            "403 ambiguous_principal",
            named(&answer),
        );
        matrix.check();
    });
}

#[test]
fn a_request_that_makes_no_sense_is_answered_at_once() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let keys = Some(stack.requester_keys());
        let mut forged = document(&role);
        merge(&mut forged, json!({ "requester": APPROVERS[0] }));
        refused(
            &stack.ask(keys, &forged, None).await.unwrap(),
            400,
            "requester_given",
        );
        let own = Stack::request_document(&role, "PT10S");
        refused(
            &stack.ask(keys, &own, None).await.unwrap(),
            400,
            "requester_given",
        );
        for nothing in [json!([]), json!("x"), json!(null)] {
            refused(
                &stack.ask(keys, &nothing, None).await.unwrap(),
                400,
                "not_a_document",
            );
        }
        let mut long = document(&role);
        merge(&mut long, json!({ "reason": "x".repeat(20_000) }));
        refused(
            &stack.ask(keys, &long, None).await.unwrap(),
            400,
            "not_a_document",
        );
        let mut faulty = document(&role);
        merge(&mut faulty, json!({ "urgent": true, "reason": "" }));
        let answer = stack.ask(keys, &faulty, None).await.unwrap();
        refused(&answer, 400, "faulty_request");
        assert_eq!(
            body(&answer)["faults"].as_array().unwrap().len(),
            2,
            "{answer:?}"
        );
        for key in ["", "with space", &"k".repeat(129)] {
            let answer = stack.ask(keys, &document(&role), Some(key)).await.unwrap();
            refused(&answer, 400, "bad_idempotency_key");
        }
    });
}

#[test]
fn asking_again_with_a_key_is_answered_the_same() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let keys = Some(stack.requester_keys());
        let key = format!("key-of-{role}");
        let document = document(&role);
        let (one, two) = tokio::join!(
            stack.ask(keys, &document, Some(&key)),
            stack.ask(keys, &document, Some(&key))
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(body(&one), body(&two));
        let link = link_to(stack, APPROVERS[0], &role, &execution(&one)).await;
        callback::reject(&link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &execution(&one)).await.outcome(), "rejected");
        let later = stack.ask(keys, &document, Some(&key)).await.unwrap();
        assert_eq!(body(&later), body(&one), "also when it is over");
        let mut other = document.clone();
        merge(&mut other, json!({ "reason": "something else" }));
        refused(
            &stack.ask(keys, &other, Some(&key)).await.unwrap(),
            422,
            "idempotency_key_used",
        );
        // Without a key, every call is a request of its own.
        let first = execution(&stack.ask(keys, &document, None).await.unwrap());
        let second = execution(&stack.ask(keys, &document, None).await.unwrap());
        assert_ne!(first.arn, second.arn);
    });
}

#[test]
fn a_claim_is_shown_as_one_and_opens_once_cloudtrail_names_the_requester() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT45S" })).await;
        let page = callback::get(&asked.link).await.unwrap().body;
        assert!(page.contains("claimed, not verified"), "{page}");
        callback::approve(&asked.link, &role, "").await.unwrap();
        until_open(stack, &asked).await;
        let id = request_id(stack, &asked.execution).await;
        let item = row(stack, &format!("confirmed#{id}"), "requester").await;
        let confirmed: Value =
            serde_json::from_str(item["document"]["S"].as_str().unwrap()).unwrap();
        let mut matrix = Matrix::about("claims: the requester's own");
        let riko = format!("arn:aws:iam::{ACCOUNT}:user/{REQUESTER}");
        let principal = confirmed["principal"].as_str().unwrap();
        matrix.note("CloudTrail", "names who started it", riko, principal);
        let ended = outcome(stack, &asked.execution).await;
        matrix.note(
            "requester",
            "opens, and is closed",
            "closed",
            ended.outcome(),
        );
        matrix.check();
    });
}

#[test]
fn who_claims_to_be_somebody_else_is_refused() {
    on_stack(async |stack| {
        // riko asks in bob's name, and alice believes it.
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({ "requester": APPROVERS[1] })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        let ended = outcome(stack, &asked.execution).await;
        let mut matrix = Matrix::about("claims: in somebody else's name");
        let (who, what) = ("riko", "asks in bob's name, and alice approves");
        matrix.note(
            who,
            what,
            "RequesterMismatch",
            ended.fault_names().join(", "),
        );
        let opened = super::fixture::was_ever_opened(stack, &asked).await;
        matrix.note(who, "ever opened", false, opened);
        matrix.check();
    });
}

#[test]
fn nobody_approves_what_they_started_themselves_under_another_name() {
    on_stack(async |stack| {
        // riko is an approver of this role, asks as bob, and approves as riko.
        let role = new_role(stack, json!({ "approvers": [REQUESTER, APPROVERS[1]] })).await;
        let before = row_version(stack, &role).await;
        let execution = file(stack, &role, json!({ "requester": APPROVERS[1] })).await;
        let link = link_to(stack, REQUESTER, &role, &execution).await;
        callback::approve(&link, &role, "looks fine to me")
            .await
            .unwrap();
        let ended = outcome(stack, &execution).await;
        let mut matrix = Matrix::about("claims: approved under another name by who made them");
        let (who, what) = ("riko", "asks as bob, and approves as riko");
        matrix.note(
            who,
            what,
            "RequesterMismatch",
            ended.fault_names().join(", "),
        );
        let because = &ended.output["faults"][0]["because"]["kind"];
        let because = because.as_str().unwrap_or_default();
        matrix.note(who, "why", "started_by_approver", because);
        let untouched = row_version(stack, &role).await == before;
        matrix.note(who, "the role is as it was", true, untouched);
        matrix.check();
    });
}

#[test]
fn what_cloudtrail_never_shows_is_refused_in_the_end() {
    on_stack(async |stack| {
        // An approved claim, and a copy of it that some other execution made an hour ago.
        let role = new_role(stack, json!({})).await;
        let start = (chrono::Utc::now() + chrono::TimeDelta::minutes(30)).to_rfc3339();
        let asked = ask_for(stack, &role, json!({ "start": start })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        stack
            .wait_for_state(&asked.execution, "Wait Until Start", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        let mut copy = row(stack, &format!("request#{id}"), "request").await;
        let copy_id = "r-000000000000000c";
        let mut document: Value =
            serde_json::from_str(copy["document"]["S"].as_str().unwrap()).unwrap();
        document["request_id"] = json!(copy_id);
        document["execution_arn"] = json!(format!("{}-unknown", asked.execution.arn));
        copy["pk"]["S"] = json!(format!("request#{copy_id}"));
        copy["document"]["S"] = json!(document.to_string());
        put_row(stack, &copy).await;
        let step = json!({ "version": 1, "request_id": copy_id });
        let answer = stack
            .invoke("ConfirmRequesterFunction", &step)
            .await
            .unwrap();
        let mut matrix = Matrix::about("claims: CloudTrail shows nothing");
        let said = |answer: &Value| answer["outcome"].as_str().unwrap_or_default().to_owned();
        matrix.note(
            "nobody",
            "a moment later",
            "not_yet_confirmed",
            said(&answer),
        );

        document["requested_at"] = json!("2026-01-01T00:00:00Z");
        copy["document"]["S"] = json!(document.to_string());
        put_row(stack, &copy).await;
        let answer = stack
            .invoke("ConfirmRequesterFunction", &step)
            .await
            .unwrap();
        matrix.note("nobody", "in the end", "refused", said(&answer));
        let why = answer["faults"][0]["name"].as_str().unwrap_or_default();
        matrix.note("nobody", "why", "RequesterNotConfirmed", why);
        assert!(
            answer["faults"][0]["message"]
                .as_str()
                .unwrap()
                .contains("POST /requests")
        );
        let again = stack
            .invoke("ConfirmRequesterFunction", &step)
            .await
            .unwrap();
        matrix.note(
            "nobody",
            "asked after again: it stands",
            true,
            again == answer,
        );
        matrix.check();
    });
}

#[test]
fn what_the_front_door_recorded_is_for_its_own_execution_only() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let answer = stack
            .ask(Some(stack.requester_keys()), &document(&role), None)
            .await
            .unwrap();
        let theirs = execution(&answer);
        let link = link_to(stack, APPROVERS[0], &role, &theirs).await;

        // The same input, started directly: a claim.
        let copy = file(stack, &role, json!({})).await;
        link_to(stack, APPROVERS[0], &role, &copy).await;
        let id = request_id(stack, &copy).await;
        let mut matrix = Matrix::about("what the front door recorded");
        let proof = |stored: Value| match stored["requester_proof"] {
            Value::Null => "a claim",
            _ => "verified",
        };
        matrix.note(
            "requester",
            "starts the same input directly",
            "a claim",
            proof(stored(stack, &id).await),
        );

        // What was recorded for one execution, moved to another one: taken already, or with another input.
        let mut asked = row(stack, &format!("asked#{}", theirs.arn), "asked").await;
        assert_eq!(asked["taken_by"]["S"], body(&answer)["request_id"]);
        let name = "forged-by-a-test";
        let machine = stack.output("StateMachineArn").unwrap();
        let forged_arn = format!(
            "{}:{name}",
            machine.replacen(":stateMachine:", ":execution:", 1)
        );
        asked["pk"]["S"] = json!(format!("asked#{forged_arn}"));
        put_row(stack, &asked).await;
        let input = Stack::request_document(&role, &format!("PT{}S", WINDOW.as_secs())).to_string();
        let start = [
            "stepfunctions",
            "start-execution",
            "--state-machine-arn",
            machine,
            "--name",
            name,
            "--input",
            &input,
        ];
        stack.aws().aws(&start).await.unwrap();
        let forged = Execution { arn: forged_arn };
        link_to(stack, APPROVERS[0], &role, &forged).await;
        let id = request_id(stack, &forged).await;
        matrix.note(
            "table writer",
            "moves the record to another execution",
            "a claim",
            proof(stored(stack, &id).await),
        );
        matrix.check();

        for execution in [&theirs, &copy, &forged] {
            let arn = execution.arn.as_str();
            stack
                .aws()
                .aws(&["stepfunctions", "stop-execution", "--execution-arn", arn])
                .await
                .unwrap();
        }
        callback::reject(&link, "over").await.unwrap();
    });
}

#[test]
fn the_rows_that_prove_a_requester_are_written_by_nobody_else() {
    on_stack(async |stack| {
        let table = stack.output("TableName").unwrap();
        for pk in ["asked#arn", "confirmed#r-0123456789abcdef"] {
            let item = json!({ "pk": { "S": pk }, "sk": { "S": "asked" } }).to_string();
            for keys in [stack.requester_keys(), stack.keys_of(APPROVERS[0]).unwrap()] {
                let mut command = stack.aws().command("aws", keys);
                command.args([
                    "--endpoint-url",
                    &stack.aws().endpoint(),
                    "dynamodb",
                    "put-item",
                ]);
                command.args(["--table-name", table, "--item", &item]);
                let log = stack.folder().join("log").join("rights.log");
                assert!(
                    xtask::process::capture("aws", &log, command).await.is_err(),
                    "{pk}"
                );
            }
        }
    });
}

#[test]
fn a_claim_that_nothing_confirms_is_not_opened() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let start = (chrono::Utc::now() + chrono::TimeDelta::seconds(30)).to_rfc3339();
        let asked = ask_for(stack, &role, json!({ "start": start, "duration": "PT10M" })).await;
        callback::approve(&asked.link, &role, "").await.unwrap();
        stack
            .wait_for_state(&asked.execution, "Wait Until Start", SOON)
            .await
            .unwrap();
        let id = request_id(stack, &asked.execution).await;
        let key = json!({ "pk": { "S": format!("confirmed#{id}") }, "sk": { "S": "requester" } })
            .to_string();
        let table = stack.output("TableName").unwrap();
        stack
            .aws()
            .aws(&[
                "dynamodb",
                "delete-item",
                "--table-name",
                table,
                "--key",
                &key,
            ])
            .await
            .unwrap();
        let ended = outcome(stack, &asked.execution).await;
        let mut matrix = Matrix::about("claims: the confirmation is gone by the start");
        let why = ended.fault_names().join(", ");
        matrix.note("table writer", "deletes it", "RequesterNotConfirmed", why);
        let opened = super::fixture::was_ever_opened(stack, &asked).await;
        matrix.note("table writer", "ever opened", false, opened);
        matrix.check();
    });
}
