//! Whose password: one made for each window, which its requester alone can read, and which ends with it.

use chrono::Utc;
use serde_json::json;
use xtask::callback;
use xtask::ministack::Keys;
use xtask::stack::{Ended, Execution, Stack};
use xtask::window_password::{ReadCommand, told};

use super::fixture::{
    Asked, SOON, ask_for, file, new_role, on_stack, outcome, request_id, told_requester,
};

async fn approve(asked: &Asked) {
    let answer = callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// How a window ended that is long enough to look around in on a busy machine.
async fn after_the_window(stack: &Stack, execution: &Execution) -> Ended {
    let ended = stack.wait_for_end(execution, 3 * SOON).await.unwrap();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    ended
}

async fn new_role_per_window(stack: &Stack) -> String {
    new_role(stack, json!({ "credential": null })).await
}

/// Whether `password` opens the role now.
async fn opens(stack: &Stack, role: &str, password: &str) -> bool {
    let attempt = stack.try_log_in_with(role, password).await.unwrap();
    attempt.is_accepted()
}

/// What the requester is told about the window, and the password.
async fn read_password(stack: &Stack, role: &str) -> (ReadCommand, String) {
    let (_, read) = told(stack, role, SOON).await.unwrap();
    let secret = read.run(stack, stack.requester_keys()).await.unwrap();
    let password = secret["password"].as_str().unwrap().to_owned();
    (read, password)
}

async fn secret_exists(stack: &Stack, name: &str) -> bool {
    let filter = format!("Key=name,Values={name}");
    let list = ["secretsmanager", "list-secrets", "--filters", &filter];
    let found = stack.aws().aws(&list).await.unwrap();
    !found["SecretList"].as_array().unwrap().is_empty()
}

/// Keys of another IAM user, who may read every secret of the account as far as policies of users can say.
async fn somebody_else(stack: &Stack) -> Keys {
    let name = "somebody-who-may-read-all-secrets";
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["secretsmanager:*", "kms:*"], "Resource": "*"}
    ]});
    let aws = stack.aws();
    aws.aws(&["iam", "create-user", "--user-name", name])
        .await
        .unwrap();
    let put = [
        "iam",
        "put-user-policy",
        "--user-name",
        name,
        "--policy-name",
        "all",
        "--policy-document",
        &policy.to_string(),
    ];
    // It answers nothing.
    let _ = aws.aws(&put).await;
    let made = aws
        .aws(&["iam", "create-access-key", "--user-name", name])
        .await
        .unwrap();
    let text = |field: &str| made["AccessKey"][field].as_str().unwrap().to_owned();
    Keys {
        access_key_id: text("AccessKeyId"),
        secret_access_key: text("SecretAccessKey"),
        session_token: None,
    }
}

#[test]
fn only_the_requester_reads_the_password_and_it_ends_with_the_window() {
    on_stack(async |stack| {
        let role = new_role_per_window(stack).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT75S" })).await;
        let id = request_id(stack, &asked.execution).await;
        approve(&asked).await;
        let (read, password) = read_password(stack, &role).await;
        assert_eq!(
            read.secret_name(),
            format!("latchkey/latchkey/windows/{id}")
        );
        assert_eq!(password.len(), 43);
        let secret = read.run(stack, stack.requester_keys()).await.unwrap();
        assert_eq!(secret["username"], json!(role));
        assert_eq!(secret["port"], json!(stack.postgres().port()));
        assert!(opens(stack, &role, &password).await);
        let old = stack.postgres().target_password();
        assert!(
            !opens(stack, &role, old).await,
            "the role's old password works"
        );

        let other = somebody_else(stack).await;
        let refused = read.run(stack, &other).await;
        assert!(refused.is_err(), "read by somebody else: {refused:?}");
        let name = read.secret_name();
        for change in [
            &[
                "secretsmanager",
                "put-secret-value",
                "--secret-id",
                name,
                "--secret-string",
                "{}",
            ][..],
            &[
                "secretsmanager",
                "delete-resource-policy",
                "--secret-id",
                name,
            ],
            &[
                "secretsmanager",
                "update-secret",
                "--secret-id",
                name,
                "--secret-string",
                "{}",
            ],
        ] {
            let mut command = stack.aws().command("aws", &other);
            command
                .args(["--endpoint-url", &stack.aws().endpoint()])
                .args(change);
            let log = stack.folder().join("log").join("passwords.log");
            let changed = xtask::process::capture("aws", &log, command).await;
            assert!(changed.is_err(), "allowed: {change:?}");
        }
        let again = read.run(stack, stack.requester_keys()).await.unwrap();
        assert_eq!(again["password"], json!(password));

        // Opened again, as a retry of the state machine would: the password stays what it was handed out as.
        let open = json!({ "version": 1, "request_id": id, "action": "open" });
        let answer = stack.invoke("EnableLoginFunction", &open).await.unwrap();
        assert_eq!(answer["outcome"], "opened", "{answer}");
        assert!(opens(stack, &role, &password).await);

        assert_eq!(
            after_the_window(stack, &asked.execution).await.outcome(),
            "closed"
        );
        assert!(!opens(stack, &role, &password).await);
        assert!(!secret_exists(stack, name).await, "the secret was left");
        assert!(!has_password(stack, &role).await);
        let logs = std::fs::read_to_string(stack.save_function_logs().await.unwrap()).unwrap();
        assert!(!logs.contains(&password), "the password is in a log");
    });
}

async fn has_password(stack: &Stack, role: &str) -> bool {
    let superuser = &stack.postgres().accounts().superuser;
    let session = stack
        .postgres()
        .log_in(superuser, "postgres")
        .await
        .unwrap();
    let query = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname::text = $1";
    session.query_one(query, &[&role]).await.unwrap().get(0)
}

#[test]
fn a_second_window_shares_the_password_and_nobody_loses_access() {
    on_stack(async |stack| {
        let role = new_role_per_window(stack).await;
        let short = ask_for(stack, &role, json!({ "duration": "PT45S" })).await;
        approve(&short).await;
        let (first, password) = read_password(stack, &role).await;
        let long = ask_for(stack, &role, json!({ "duration": "PT90S" })).await;
        approve(&long).await;
        let (second, shared) = read_password(stack, &role).await;
        assert_ne!(first.secret_name(), second.secret_name());
        assert_eq!(password, shared);
        assert!(opens(stack, &role, &password).await);

        let ended = after_the_window(stack, &short.execution).await;
        assert_eq!(ended.outcome(), "ended_role_still_open");
        assert!(!secret_exists(stack, first.secret_name()).await);
        assert!(opens(stack, &role, &shared).await);
        assert_eq!(
            after_the_window(stack, &long.execution).await.outcome(),
            "closed"
        );
        assert!(!opens(stack, &role, &shared).await);
        assert!(!secret_exists(stack, second.secret_name()).await);
    });
}

#[test]
fn windows_that_open_at_the_same_moment_share_one_password() {
    on_stack(async |stack| {
        let role = new_role_per_window(stack).await;
        let start = DateTimeOfWholeSecond::in_seconds(30);
        let change = json!({ "start": start, "duration": "PT60S" });
        let one = ask_for(stack, &role, change.clone()).await;
        let other = ask_for(stack, &role, change).await;
        approve(&one).await;
        approve(&other).await;
        let (first, password) = read_password(stack, &role).await;
        let (second, same) = read_password(stack, &role).await;
        assert_ne!(first.secret_name(), second.secret_name());
        assert_eq!(password, same);
        assert!(opens(stack, &role, &password).await);
        after_the_window(stack, &one.execution).await;
        after_the_window(stack, &other.execution).await;
        assert!(!opens(stack, &role, &password).await);
    });
}

struct DateTimeOfWholeSecond;

impl DateTimeOfWholeSecond {
    fn in_seconds(seconds: i64) -> String {
        chrono::DateTime::from_timestamp(Utc::now().timestamp() + seconds, 0)
            .unwrap()
            .to_rfc3339()
    }
}

#[test]
fn a_requester_whom_the_catalogue_knows_by_no_principal_is_refused() {
    on_stack(async |stack| {
        let role = new_role_per_window(stack).await;
        let person =
            json!({ "id": "no-principals", "name": "Nobody Yet", "mailbox": "nobody@example.com" });
        stack
            .put_catalogue("people/no-principals", &person)
            .await
            .unwrap();
        let execution: Execution =
            file(stack, &role, json!({ "requester": "no-principals" })).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "refused");
        // Neither who asks could be told, nor who may read the password.
        assert_eq!(ended.fault_names(), ["UnknownRequester", "NoPrincipals"]);
    });
}

#[test]
fn a_role_that_is_open_with_another_password_is_not_given_a_new_one() {
    on_stack(async |stack| {
        let role = new_role_per_window(stack).await;
        let dba = &stack.postgres().accounts().master;
        let session = stack.postgres().log_in(dba, "latchkey").await.unwrap();
        session
            .execute(
                "SELECT latchkey.open_by_hand($1, now() + interval '10 minutes', 'outage')",
                &[&role],
            )
            .await
            .unwrap();
        let execution = file(stack, &role, json!({})).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.fault_names(), ["OpenOutsideWindows"], "{ended:?}");
        let old = stack.postgres().target_password();
        assert!(opens(stack, &role, old).await, "the DBA's opening was cut");
        session
            .execute("SELECT latchkey.close($1)", &[&role])
            .await
            .unwrap();
    });
}

#[test]
fn reconcile_deletes_the_secrets_that_nobody_needs_and_no_others() {
    on_stack(async |stack| {
        let role = new_role_per_window(stack).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT75S" })).await;
        approve(&asked).await;
        let (read, _) = read_password(stack, &role).await;
        let left = "latchkey/latchkey/windows/r-0123456789abcdef";
        let foreign = "latchkey/latchkey/windows-of-another";
        for name in [left, foreign] {
            let create = [
                "secretsmanager",
                "create-secret",
                "--name",
                name,
                "--secret-string",
                "{}",
            ];
            stack.aws().aws(&create).await.unwrap();
        }
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();
        assert!(!secret_exists(stack, left).await, "a leftover stays");
        assert!(secret_exists(stack, foreign).await);
        assert!(secret_exists(stack, read.secret_name()).await);
        assert_eq!(
            after_the_window(stack, &asked.execution).await.outcome(),
            "closed"
        );
    });
}

#[test]
fn with_an_existing_password_nothing_is_handed_over() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "credential": "existing" })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let id = request_id(stack, &asked.execution).await;
        approve(&asked).await;
        assert_eq!(
            after_the_window(stack, &asked.execution).await.outcome(),
            "closed"
        );
        let told = told_requester(stack, &role).await;
        assert_eq!(told.len(), 2, "{told:?}");
        let name = format!("latchkey/latchkey/windows/{id}");
        assert!(!secret_exists(stack, &name).await);
        assert!(has_password(stack, &role).await);
    });
}
