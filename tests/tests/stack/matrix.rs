//! Who may do what with a request: real principals, each tries everything.

use serde_json::{Value, json};
use xtask::callback;
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{Execution, Stack, TARGET};

use super::fixture::{SOON, link_to, merge, new_role, on_stack, outcome, request_id};
use super::observations::Matrix;
use super::rights::is_allowed;

const REQUESTER: &str = "RequesterPolicyArn";
const APPROVER: &str = "ApproverPolicyArn";
const OPERATOR: &str = "OperatorPolicyArn";

/// An IAM user with these of the template's policies, who is the person of that name if the catalogue is told so.
async fn user(stack: &Stack, name: &str, policies: &[&str], is_known: bool) -> Keys {
    let [first, others @ ..] = policies else {
        panic!("{name} has no rights");
    };
    let keys = stack.make_user(name, stack.output(first).unwrap()).await;
    for policy in others {
        let arn = stack.output(policy).unwrap();
        let attach = [
            "iam",
            "attach-user-policy",
            "--user-name",
            name,
            "--policy-arn",
            arn,
        ];
        // It answers nothing.
        let _ = stack.aws().aws(&attach).await;
    }
    if is_known {
        let person = json!({
            "id": name, "name": name, "mailbox": format!("{name}@example.com"),
            "principals": [format!("arn:aws:iam::{ACCOUNT}:user/{name}")],
        });
        let document = format!("people/{name}");
        stack.put_catalogue(&document, &person).await.unwrap();
    }
    keys.unwrap()
}

/// The status, and what the answer calls itself; IAM's own refusal has no name of ours.
async fn call(
    stack: &Stack,
    keys: Option<&Keys>,
    verb: &'static str,
    path: &str,
    body: &Value,
) -> String {
    let requests = stack.output("RequestsUrl").unwrap();
    let api = requests.strip_suffix("/requests").unwrap();
    let body = if verb == "GET" {
        String::new()
    } else {
        body.to_string()
    };
    let answer = callback::call(keys, verb, &format!("{api}{path}"), &[], &body)
        .await
        .unwrap();
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let word = ["error", "request_status", "status"]
        .iter()
        .find_map(|field| said[field].as_str());
    format!("{} {}", answer.status, word.unwrap_or("-"))
}

fn approve() -> Value {
    json!({ "verdict": "approve", "comment": "fine" })
}

fn reject() -> Value {
    json!({ "verdict": "reject", "comment": "not tonight" })
}

fn end() -> Value {
    json!({ "reason": "enough" })
}

/// Asks as `keys` through the front door, until the first approver has been asked.
async fn ask(stack: &Stack, keys: &Keys, role: &str, duration: &str) -> (Execution, String) {
    let mut document = Stack::request_document(role, duration);
    merge(&mut document, json!({ "requester": null }));
    let answer = stack.ask(Some(keys), &document, None).await.unwrap();
    let accepted: Value = serde_json::from_str(&answer.body).unwrap();
    let arn = accepted["execution_arn"].as_str().unwrap().to_owned();
    let execution = Execution { arn };
    link_to(stack, "alice", role, &execution).await;
    stack
        .wait_for_state(&execution, "Await Approval", SOON)
        .await
        .unwrap();
    let id = request_id(stack, &execution).await;
    (execution, id)
}

#[test]
fn everybody_can_do_their_part_and_nobody_elses() {
    on_stack(async |stack| {
        let mut matrix = Matrix::about("people and signed calls");
        let all = [REQUESTER, APPROVER, OPERATOR];
        let mia = user(stack, "mia", &[REQUESTER, APPROVER], true).await;
        let opal = user(stack, "opal", &[OPERATOR], true).await;
        let evan = user(stack, "evan", &all, true).await;
        let stranger = user(stack, "stranger-of-all", &all, false).await;
        let [alice, bob] = ["alice", "bob"].map(|person| stack.keys_of(person).unwrap());
        let change = json!({ "required_approvals": 2, "operators": ["opal"] });
        let role = new_role(stack, change).await;

        // Asking.
        let mut document = Stack::request_document(&role, "PT10S");
        let claim = document.clone();
        merge(&mut document, json!({ "requester": null }));
        for (who, keys, expected) in [
            ("nobody", None, "403 -"),
            ("stranger", Some(&stranger), "403 not_in_the_catalogue"),
            ("approver", Some(alice), "403 -"),
            ("operator", Some(&opal), "403 -"),
        ] {
            let seen = call(stack, keys, "POST", "/requests", &document).await;
            matrix.note(who, "ask", expected, seen);
        }
        let seen = call(stack, Some(&mia), "POST", "/requests", &claim).await;
        matrix.note(
            "requester",
            "ask in somebody's name",
            "400 requester_given",
            seen,
        );

        // What waits for its approval.
        let (execution, id) = ask(stack, &mia, &role, "PT40S").await;
        let show = format!("/requests/{id}");
        let decision = format!("/requests/{id}/decision");
        let ending = format!("/requests/{id}/end");
        let people = [
            ("nobody", None),
            ("stranger", Some(&stranger)),
            ("no part", Some(&evan)),
            ("requester", Some(&mia)),
            ("operator", Some(&opal)),
            ("approver", Some(alice)),
        ];
        let no_one = ["403 -", "403 not_in_the_catalogue"];
        let expected = [
            no_one[0],
            no_one[1],
            "404 no_request",
            "200 pending",
            "200 pending",
            "200 pending",
        ];
        for ((who, keys), expected) in people.into_iter().zip(expected) {
            let seen = call(stack, keys, "GET", &show, &Value::Null).await;
            matrix.note(who, "see the request", expected, seen);
        }
        let expected = [
            no_one[0],
            no_one[1],
            "403 not_an_approver",
            "403 own_request",
            "403 -",
        ];
        for ((who, keys), expected) in people.into_iter().zip(expected) {
            let seen = call(stack, keys, "POST", &decision, &approve()).await;
            matrix.note(who, "approve", expected, seen);
        }
        let expected = [
            no_one[0],
            no_one[1],
            "403 not_an_approver",
            "403 own_request",
            "403 -",
        ];
        for ((who, keys), expected) in people.into_iter().zip(expected) {
            let seen = call(stack, keys, "POST", &decision, &reject()).await;
            matrix.note(who, "reject", expected, seen);
        }
        for ((who, keys), expected) in
            people
                .into_iter()
                .zip([no_one[0], no_one[1], "403 may_not_end"])
        {
            let seen = call(stack, keys, "POST", &ending, &end()).await;
            matrix.note(who, "end", expected, seen);
        }
        for (verb, path) in [("GET", decision.as_str()), ("GET", &ending)] {
            let seen = call(stack, Some(alice), verb, path, &Value::Null).await;
            matrix.note(
                "approver",
                &format!("{verb} of what only POST does"),
                true,
                seen.starts_with('4'),
            );
        }

        // Two of two.
        let wider = json!({ "verdict": "approve", "end": "2100-01-01T00:00:00Z" });
        for (who, keys, what, body, expected) in [
            (
                "approver",
                alice,
                "approve more than was asked",
                &wider,
                "422 cannot_approve",
            ),
            (
                "approver",
                alice,
                "approve, 1 of 2",
                &approve(),
                "200 pending",
            ),
            (
                "approver",
                alice,
                "approve again",
                &approve(),
                "409 already_decided",
            ),
            (
                "approver",
                alice,
                "reject after approving",
                &reject(),
                "409 already_decided",
            ),
            (
                "2nd approver",
                bob,
                "approve, 2 of 2",
                &approve(),
                "200 approved",
            ),
            (
                "2nd approver",
                bob,
                "reject when it is decided",
                &reject(),
                "409 already_decided",
            ),
        ] {
            let seen = call(stack, Some(keys), "POST", &decision, body).await;
            matrix.note(who, what, expected, seen);
        }
        stack
            .wait_for_state(&execution, "Wait Until End", SOON)
            .await
            .unwrap();
        for ((who, keys), expected) in
            people
                .into_iter()
                .zip(["403 -", no_one[1], "403 may_not_end"])
        {
            let seen = call(stack, keys, "POST", &ending, &end()).await;
            matrix.note(who, "end the open window", expected, seen);
        }
        let seen = call(stack, Some(&opal), "POST", &ending, &end()).await;
        matrix.note("operator", "end the open window", "202 ending", seen);
        let closed = outcome(stack, &execution).await;
        matrix.note(
            "operator",
            "the role after that",
            "closed",
            closed.outcome(),
        );
        for (who, keys) in [
            ("requester", &mia),
            ("operator", &opal),
            ("approver", alice),
        ] {
            let seen = call(stack, Some(keys), "POST", &ending, &end()).await;
            matrix.note(who, "end what is over", "409 already_over", seen);
        }
        let seen = call(stack, Some(bob), "POST", &decision, &approve()).await;
        matrix.note(
            "2nd approver",
            "approve what is over",
            "409 already_decided",
            seen,
        );

        // One rejection ends it; who may end it, takes it back.
        let (execution, id) = ask(stack, &mia, &role, "PT10S").await;
        let decision = format!("/requests/{id}/decision");
        let seen = call(stack, Some(alice), "POST", &decision, &reject()).await;
        matrix.note("approver", "reject, 1 of 2", "200 rejected", seen);
        let seen = call(stack, Some(bob), "POST", &decision, &approve()).await;
        matrix.note(
            "2nd approver",
            "approve what is rejected",
            "409 already_decided",
            seen,
        );
        let ended = outcome(stack, &execution).await;
        matrix.note(
            "approver",
            "the request after that",
            "rejected",
            ended.outcome(),
        );
        for (who, keys) in [
            ("requester", &mia),
            ("operator", &opal),
            ("approver", alice),
        ] {
            let (execution, id) = ask(stack, &mia, &role, "PT10S").await;
            let ending = format!("/requests/{id}/end");
            let seen = call(stack, Some(keys), "POST", &ending, &end()).await;
            matrix.note(who, "take the request back", "200 cancelled", seen);
            let decision = format!("/requests/{id}/decision");
            let seen = call(stack, Some(bob), "POST", &decision, &approve()).await;
            matrix.note(
                "2nd approver",
                "approve what was taken back",
                "409 already_decided",
                seen,
            );
            let ended = outcome(stack, &execution).await;
            matrix.note(who, "the request after that", "cancelled", ended.outcome());
        }

        // What would open or decide without all this.
        let (execution, id) = ask(stack, &mia, &role, "PT10S").await;
        let table = stack.output("TableName").unwrap();
        let vote_key = stack.output("VoteKeyArn").unwrap();
        let topic = stack.output("TopicArn").unwrap();
        let prefix = stack.output("CataloguePrefix").unwrap();
        let role_name = format!("{prefix}/roles/{TARGET}/{role}");
        let row =
            json!({ "pk": { "S": format!("vote#{id}") }, "sk": { "S": "alice" } }).to_string();
        let token = stack.task_token(&id, SOON).await.unwrap();
        let enable = stack.output("EnableLoginFunctionArn").unwrap();
        let answer = stack.folder().join("answer-of-the-matrix");
        let answer = answer.to_string_lossy();
        let forbidden: [(&str, &[&str]); 8] = [
            (
                "answer the waiting task",
                &[
                    "stepfunctions",
                    "send-task-success",
                    "--task-token",
                    &token,
                    "--task-output",
                    "{}",
                ],
            ),
            (
                "write a vote",
                &[
                    "dynamodb",
                    "put-item",
                    "--table-name",
                    table,
                    "--item",
                    &row,
                ],
            ),
            (
                "read the table",
                &["dynamodb", "scan", "--table-name", table],
            ),
            (
                "seal a vote",
                &[
                    "kms",
                    "generate-mac",
                    "--key-id",
                    vote_key,
                    "--message",
                    "YQ==",
                    "--mac-algorithm",
                    "HMAC_SHA_256",
                ],
            ),
            (
                "change the catalogue",
                &[
                    "ssm",
                    "put-parameter",
                    "--overwrite",
                    "--type",
                    "String",
                    "--name",
                    &role_name,
                    "--value",
                    "{}",
                ],
            ),
            (
                "call enable-login",
                &["lambda", "invoke", "--function-name", enable, &answer],
            ),
            (
                "send a message to people",
                &[
                    "sns",
                    "publish",
                    "--topic-arn",
                    topic,
                    "--message",
                    "approve here",
                ],
            ),
            (
                "read the opener's password",
                &[
                    "secretsmanager",
                    "get-secret-value",
                    "--secret-id",
                    "latchkey/opener/local",
                ],
            ),
        ];
        for (who, keys) in [
            ("requester", &mia),
            ("approver", alice),
            ("operator", &opal),
            ("no part", &evan),
        ] {
            for (what, arguments) in forbidden {
                let seen = if is_allowed(stack, keys, arguments).await {
                    "allowed"
                } else {
                    "refused"
                };
                matrix.note(who, what, "refused", seen);
            }
        }
        let seen = call(
            stack,
            Some(&mia),
            "POST",
            &format!("/requests/{id}/end"),
            &end(),
        )
        .await;
        matrix.note("requester", "take the request back", "200 cancelled", seen);
        assert_eq!(outcome(stack, &execution).await.outcome(), "cancelled");
        matrix.check();
    });
}
