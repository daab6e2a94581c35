//! The policies of an `assume-role`, as an evaluator decides on them that is neither Latchkey's nor the local AWS's:
//! `@cloud-copilot/iam-simulate`, from npm. It also lints them.

use std::path::PathBuf;

use access_core::grant::assume_role;
use access_core::{AssumeRole, LiveSessions, Principal, RequestId, Window};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::{process, workspace};

const OWN_ACCOUNT: &str = "123456789012";
const OTHER_ACCOUNT: &str = "210987654321";
const FILES: [&str; 3] = ["package.json", "package-lock.json", "evaluate.mjs"];

/// Answers each question with the faults of its policies and the decision.
async fn evaluate(name: &str, questions: &Value) -> Vec<Value> {
    let log = workspace::target().join("tools/policies.log");
    let folder = install().await;
    let file = folder.join(format!("{name}.json"));
    workspace::write(&file, &questions.to_string()).unwrap();
    let mut node =
        process::command(process::find_program("node").expect("install Node 20 or newer"));
    node.arg(folder.join("evaluate.mjs")).arg(&file);
    let answers = process::capture("evaluating policies", &log, node)
        .await
        .unwrap();
    serde_json::from_str(&answers).unwrap()
}

async fn install() -> PathBuf {
    let _one_at_a_time = workspace::lock("policies").unwrap();
    let folder = workspace::make_folder(workspace::target().join("tools/policies")).unwrap();
    let texts = FILES
        .map(|file| workspace::read(&workspace::root().join("tests/policies").join(file)).unwrap());
    let stamp = folder.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == texts.concat()) {
        return folder;
    }
    for (file, text) in FILES.iter().zip(&texts) {
        workspace::write(&folder.join(file), text).unwrap();
    }
    let mut npm = process::command(process::find_program("npm").expect("install npm"));
    npm.args([
        "ci",
        "--silent",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ])
    .current_dir(&folder);
    let log = workspace::target().join("tools/policies.log");
    process::run("installing the evaluator", &log, npm)
        .await
        .unwrap();
    workspace::write(&stamp, &texts.concat()).unwrap();
    folder
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn grant_in(account: &str) -> AssumeRole {
    AssumeRole {
        role_arn: format!("arn:aws:iam::{account}:role/latchkey/privileged/OrdersAdmin"),
        max_session_seconds: 3_600,
        live_sessions: LiveSessions::Denied,
    }
}

/// The trust policy of the README.
fn trust() -> Value {
    let readme = workspace::read(&workspace::root().join("README.md")).unwrap();
    let (_, after) = readme.split_once("and this trust policy").unwrap();
    let (_, policy) = after.split_once("```json").unwrap();
    serde_json::from_str(policy.split_once("```").unwrap().0).unwrap()
}

/// The moments that matter, and whether the window covers them.
fn moments(window: Window) -> [(DateTime<Utc>, bool); 5] {
    let second = TimeDelta::seconds(1);
    [
        (window.start() - second, false),
        (window.start(), true),
        (window.end() - second, true),
        (window.end(), false),
        (window.end() + second, false),
    ]
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

fn check(answers: &[Value], expected: &[(String, bool)]) {
    assert_eq!(answers.len(), expected.len());
    for (answer, (what, allowed)) in answers.iter().zip(expected) {
        assert_eq!(answer["faults"], json!([]), "{what}");
        assert_eq!(answer["decided"] == "Allowed", *allowed, "{what}: {answer}");
    }
}

#[test]
fn the_role_can_be_assumed_from_the_start_to_the_end_with_the_source_identity_alone() {
    run(async {
        let (id, other) = (
            RequestId::of_execution("arn", 1),
            RequestId::of_execution("arn", 2),
        );
        let window = Window::new(at(0), at(600)).unwrap();
        let user = format!("arn:aws:iam::{OWN_ACCOUNT}:user/latchkey/people/dave");
        let on_call = |session: &str| Principal::Role {
            partition: "aws".to_owned(),
            account: OWN_ACCOUNT.to_owned(),
            name: "OnCall".to_owned(),
            session_name: Some(session.to_owned()),
        };
        let (mut questions, mut expected) = (Vec::new(), Vec::new());
        for account in [OWN_ACCOUNT, OTHER_ACCOUNT] {
            let grant = grant_in(account);
            let mut question = |what: &str,
                                grantee: &Principal,
                                caller: &str,
                                context: Value,
                                allowed: bool| {
                for action in ["sts:AssumeRole", "sts:SetSourceIdentity"] {
                    questions.push(json!({
                        "policies": [assume_role::allow(&grant, grantee, &id, window)],
                        "trust": trust(), "action": action, "principal": caller,
                        "resource": { "resource": grant.role_arn, "accountId": account }, "context": context,
                    }));
                    expected.push((format!("{action} in {account}: {what}"), allowed));
                }
            };
            let dave = Principal::User(user.clone());
            let name = assume_role::policy_name(&id);
            for (moment, covered) in moments(window) {
                let now = text(moment);
                let context = json!({"aws:CurrentTime": now, "sts:SourceIdentity": name});
                question(&format!("at {now}"), &dave, &user, context, covered);
                let others = json!({"aws:CurrentTime": now, "sts:SourceIdentity": assume_role::policy_name(&other)});
                question(&format!("as another at {now}"), &dave, &user, others, false);
                let none = json!({"aws:CurrentTime": now});
                question(&format!("as nobody at {now}"), &dave, &user, none, false);
            }
            for (session, allowed) in [("dave@example.com", true), ("eve@example.com", false)] {
                let caller = format!("arn:aws:sts::{OWN_ACCOUNT}:assumed-role/OnCall/{session}");
                let context = json!({
                    "aws:CurrentTime": text(at(1)), "sts:SourceIdentity": name,
                    "aws:userid": format!("AROAEXAMPLEEXAMPLE123:{session}"),
                });
                question(
                    session,
                    &on_call("dave@example.com"),
                    &caller,
                    context,
                    allowed,
                );
            }
        }
        check(&evaluate("assuming", &json!(questions)).await, &expected);
    });
}

#[test]
fn sessions_of_the_window_are_denied_everything_from_the_end_on_and_others_never() {
    run(async {
        let (id, other) = (
            RequestId::of_execution("arn", 1),
            RequestId::of_execution("arn", 2),
        );
        let window = Window::new(at(0), at(600)).unwrap();
        let rights = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "sqs:ListQueues", "Resource": "*" }
        ] });
        let early = at(300);
        let (mut questions, mut expected) = (Vec::new(), Vec::new());
        for end in [window.end(), early] {
            for moment in [
                end - TimeDelta::seconds(1),
                end,
                end + TimeDelta::seconds(1),
            ] {
                for (identity, denied) in [
                    (Some(&id), moment >= end),
                    (Some(&other), false),
                    (None, false),
                ] {
                    let mut context = json!({"aws:CurrentTime": text(moment)});
                    if let Some(identity) = identity {
                        context["aws:SourceIdentity"] = json!(assume_role::policy_name(identity));
                    }
                    questions.push(json!({
                        "policies": [rights, assume_role::deny(&id, end)], "trust": null,
                        "action": "sqs:ListQueues",
                        "principal": format!("arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/OrdersAdmin/at-work"),
                        "resource": { "resource": "*", "accountId": OTHER_ACCOUNT }, "context": context,
                    }));
                    expected.push((
                        format!("{identity:?} at {moment}, denied from {end}"),
                        !denied,
                    ));
                }
            }
        }
        check(&evaluate("denying", &json!(questions)).await, &expected);
    });
}
