//! From the start to the end of an approved window, and not a second before or after.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::login_probe::Attempt;
use xtask::ministack::Keys;
use xtask::stack::Stack;
use xtask::{callback, process};

use super::fixture::{
    Asked, SOON, WINDOW, ask, ask_for, can_log_in, file, merge, new_role, on_stack, outcome,
    request_id, told_requester, until_open, valid_until,
};

#[test]
fn an_approved_window_opens_the_login_and_closes_it_at_its_end() {
    on_stack(async |stack| {
        let asked = ask(stack).await;
        assert!(!can_log_in(stack, &asked.role).await);

        approve(&asked).await;
        until_open(stack, &asked).await;
        let end = valid_until(stack, &asked.role).await;
        assert!(end <= Utc::now() + TimeDelta::from_std(WINDOW).unwrap());
        let Attempt::Accepted(session) = stack.try_log_in(&asked.role).await.unwrap() else {
            panic!("refused inside the window");
        };
        let user = session
            .query_text("SELECT current_user::text")
            .await
            .unwrap();
        assert_eq!(user, asked.role);

        let cut = session.cut(WINDOW + SOON).await.unwrap();
        assert!(cut.at >= end, "cut {} before the end", end - cut.at);
        let ended = outcome(stack, &asked.execution).await;
        assert_eq!(ended.outcome(), "closed");
        assert!(!can_log_in(stack, &asked.role).await);
        let told = told_requester(stack, &asked.role).await;
        assert_eq!(told.len(), 2, "opened and closed, once each: {told:?}");
    });
}

#[test]
fn a_window_with_a_start_stays_shut_until_then() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let start = whole_seconds(Utc::now()) + TimeDelta::seconds(15);
        let end = start + TimeDelta::from_std(WINDOW).unwrap();
        let change =
            json!({ "duration": null, "start": start.to_rfc3339(), "end": end.to_rfc3339() });
        let asked = ask_for(stack, &role, change).await;
        approve(&asked).await;
        stack
            .wait_for_state(&asked.execution, "Wait Until Start", SOON)
            .await
            .unwrap();

        while Utc::now() < start - TimeDelta::milliseconds(200) {
            assert!(
                !can_log_in(stack, &role).await,
                "open {} before the start",
                start - Utc::now()
            );
        }
        until_open(stack, &asked).await;
        assert!(Utc::now() >= start);
        assert_eq!(valid_until(stack, &role).await, end);
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
    });
}

#[test]
fn functions_woken_early_change_nothing_and_tell_nobody() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        // Both calls must come before their time, on a busy machine too.
        let start = whole_seconds(Utc::now()) + TimeDelta::seconds(40);
        let window = json!({ "start": start.to_rfc3339(), "duration": "PT25S" });
        let asked = ask_for(stack, &role, window).await;
        let id = request_id(stack, &asked.execution).await;
        approve(&asked).await;
        stack
            .wait_for_state(&asked.execution, "Wait Until Start", SOON)
            .await
            .unwrap();

        let open = json!({ "version": 1, "request_id": id, "action": "open" });
        let answer = stack.invoke("EnableLoginFunction", &open).await.unwrap();
        assert_eq!(answer["outcome"], "not_yet", "{answer}");
        assert!(!can_log_in(stack, &role).await);

        until_open(stack, &asked).await;
        stack
            .wait_for_state(&asked.execution, "Wait Until End", SOON)
            .await
            .unwrap();
        let told_before = told_requester(stack, &role).await;
        let close = json!({ "version": 1, "request_id": id, "action": "close" });
        let answer = stack.invoke("DisableLoginFunction", &close).await.unwrap();
        assert_eq!(answer["outcome"], "not_yet", "{answer}");
        assert!(can_log_in(stack, &role).await, "closed before its end");
        assert_eq!(
            told_requester(stack, &role).await,
            Vec::<String>::new(),
            "after {told_before:?}"
        );

        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn overlapping_windows_end_with_the_last_one() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let short = ask_for(stack, &role, json!({})).await;
        let long = ask_for(stack, &role, json!({ "duration": "PT25S" })).await;
        approve(&short).await;
        approve(&long).await;
        until_open(stack, &short).await;

        let first = outcome(stack, &short.execution).await;
        assert_eq!(first.outcome(), "ended_role_still_open");
        assert!(
            can_log_in(stack, &role).await,
            "the first window cut the second one"
        );
        let last = outcome(stack, &long.execution).await;
        assert_eq!(last.outcome(), "closed");
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn rds_says_where_an_instance_is() {
    on_stack(async |stack| {
        let port = stack.postgres().port().to_string();
        let create = creation("orders-1", &port);
        stack.aws().aws(&create).await.unwrap();
        let mut database = stack.database_document().clone();
        let place = json!({ "host": null, "port": null, "instance": "orders-1" });
        merge(&mut database, place);
        stack
            .put_catalogue("databases/by-rds", &database)
            .await
            .unwrap();
        let role = new_role(stack, json!({})).await;
        let policy = Stack::role_document(&role);
        stack
            .put_catalogue(&format!("roles/by-rds/{role}"), &policy)
            .await
            .unwrap();

        let asked = ask_for(stack, &role, json!({ "target": "by-rds" })).await;
        approve(&asked).await;
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn an_instance_with_readers_in_other_regions_is_opened_only_when_they_are_listed() {
    on_stack(async |stack| {
        let port = stack.postgres().port().to_string();
        let create = creation("orders-here", &port);
        stack.aws().aws(&create).await.unwrap();
        // The local AWS knows no reader in another region, so one is called what RDS would call it here.
        let reader = "arn:aws:rds:eu-west-1:000000000000:db:orders-there";
        let create_reader = [
            "rds",
            "create-db-instance-read-replica",
            "--source-db-instance-identifier=orders-here",
            "--db-instance-identifier",
            reader,
        ];
        stack.aws().aws(&create_reader).await.unwrap();
        let role = new_role(stack, json!({})).await;
        let policy = Stack::role_document(&role);
        let put = async |readers: Value| {
            let mut database = stack.database_document().clone();
            merge(
                &mut database,
                json!({ "host": null, "port": null, "instance": "orders-here", "readers": readers }),
            );
            let catalogue = [
                ("databases/global".to_owned(), &database),
                (format!("roles/global/{role}"), &policy),
            ];
            for (name, document) in catalogue {
                stack.put_catalogue(&name, document).await.unwrap();
            }
        };

        put(Value::Null).await;
        let execution = file(stack, &role, json!({ "target": "global" })).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "refused", "{}", ended.output);
        assert_eq!(
            ended.fault_names(),
            ["ReadersNotListed"],
            "{}",
            ended.output
        );

        // There is one server only. By another name it is a reader, which has to be proved closed as well.
        put(json!([{ "host": stack.postgres().host(), "port": stack.postgres().port() }])).await;
        let asked = ask_for(stack, &role, json!({ "target": "global" })).await;
        approve(&asked).await;
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(!can_log_in(stack, &role).await);
    });
}

/// What makes an instance known to RDS whose server listens here.
fn creation<'a>(id: &'a str, port: &'a str) -> [&'a str; 11] {
    [
        "rds",
        "create-db-instance",
        "--db-instance-identifier",
        id,
        "--engine=postgres",
        "--db-instance-class=db.t4g.medium",
        "--allocated-storage=20",
        "--master-username=master",
        "--master-user-password=not-used-here",
        "--port",
        port,
    ]
}

/// An account of its own on the local AWS; its root user is the account's id.
const OTHER_ACCOUNT: &str = "210987654321";
const EXTERNAL_ID: &str = "deployment:1";

#[test]
fn a_database_in_another_account_is_reached_through_a_role_there() {
    on_stack(async |stack| {
        let port = stack.postgres().port().to_string();
        in_other_account(stack, &creation("elsewhere-1", &port)).await;
        for login in ["opener", "closer"] {
            new_role_for_latchkey(stack, login).await;
        }
        for (target, external_id) in [
            ("elsewhere", Some(EXTERNAL_ID)),
            ("elsewhere-of-others", Some("deployment:2")),
            ("not-here", None),
        ] {
            let mut database = stack.database_document().clone();
            merge(
                &mut database,
                json!({ "host": null, "port": null, "instance": "elsewhere-1" }),
            );
            for login in ["opener", "closer"] {
                let role =
                    format!("arn:aws:iam::{OTHER_ACCOUNT}:role/latchkey/{login}/Elsewhere{login}");
                if let Some(external_id) = external_id {
                    database[login]["assume"] = json!({ "role": role, "external_id": external_id });
                }
            }
            let name = format!("databases/{target}");
            stack.put_catalogue(&name, &database).await.unwrap();
        }

        let role = new_role(stack, json!({})).await;
        let policy = Stack::role_document(&role);
        for target in ["elsewhere", "elsewhere-of-others", "not-here"] {
            let name = format!("roles/{target}/{role}");
            stack.put_catalogue(&name, &policy).await.unwrap();
        }
        let mut never_ready = Vec::new();
        for target in ["elsewhere-of-others", "not-here"] {
            never_ready.push(file(stack, &role, json!({ "target": target })).await);
        }
        let asked = ask_for(stack, &role, json!({ "target": "elsewhere" })).await;
        approve(&asked).await;
        until_open(stack, &asked).await;
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "closed");
        assert!(!can_log_in(stack, &role).await);
        // With another external id the role is not theirs, and without the role there is no such database.
        for execution in never_ready {
            let ended = stack.wait_for_end(&execution, SOON * 4).await.unwrap();
            assert_eq!(ended.status, "FAILED", "{}", ended.output);
        }
    });
}

/// A role that the deployment's account may assume with the external id, and that may look for databases.
async fn new_role_for_latchkey(stack: &Stack, login: &str) {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": { "AWS": format!("arn:aws:iam::{}:root", xtask::ministack::ACCOUNT) },
        "Condition": { "StringEquals": { "sts:ExternalId": EXTERNAL_ID } },
    }] });
    let rights = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "rds:DescribeDBInstances",
        "Resource": format!("arn:aws:rds:*:{OTHER_ACCOUNT}:db:*"),
    }] });
    let (trust, rights, path) = (
        trust.to_string(),
        rights.to_string(),
        format!("/latchkey/{login}/"),
    );
    let name = format!("Elsewhere{login}");
    let create = [
        "iam",
        "create-role",
        "--role-name",
        &name,
        "--path",
        &path,
        "--assume-role-policy-document",
        &trust,
    ];
    in_other_account(stack, &create).await;
    let put = [
        "iam",
        "put-role-policy",
        "--role-name",
        &name,
        "--policy-name=FindServers",
        "--policy-document",
        &rights,
    ];
    in_other_account(stack, &put).await;
}

/// Calls the AWS command line as root of the other account.
async fn in_other_account(stack: &Stack, arguments: &[&str]) {
    let root = Keys {
        access_key_id: OTHER_ACCOUNT.to_owned(),
        ..Keys::of_root()
    };
    let mut aws = stack.aws().command("aws", &root);
    aws.args(["--endpoint-url", &stack.aws().endpoint()])
        .args(arguments);
    let log = stack.folder().join("log").join("other-account.log");
    process::capture("aws in the other account", &log, aws)
        .await
        .unwrap();
}

async fn approve(asked: &Asked) {
    let answer = callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn whole_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp(), 0).unwrap()
}
