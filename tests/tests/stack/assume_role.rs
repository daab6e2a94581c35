//! Roles of AWS accounts: can this principal assume the role now, and do anything with a session of it?
//!
//! What the local AWS cannot show: how long IAM takes until a policy holds everywhere (here it does at once), that a
//! session lasts no longer than its role's MaxSessionDuration, and roles of IAM Identity Center. Source identities, the
//! sizes of inline policies and the paths of ARNs are corrections of ours to it
//! (`crates/xtask/tools/ministack_as_aws.py`); `policies.rs` asks an evaluator that is nobody's here.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::assuming::{self, Person, Privileged, assume, make_user};
use xtask::callback;
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Execution, Stack};

use super::fixture::{
    SOON, alone_on_stack, link_to, merge, new_role_name, on_stack, outcome, put_row, request_id,
    row,
};
use super::record::{auditor, lines, summary};

/// An account of its own on the local AWS.
const OTHER_ACCOUNT: &str = "210987654321";

async fn person(stack: &Stack, id: &str) -> Person {
    Person::make(stack, id).await.unwrap()
}

/// A privileged role with the trust policy of the README, and its documents in the catalogue, with `change` made to the
/// grant's.
async fn privileged(stack: &Stack, account: &'static str, change: Value) -> Privileged {
    privileged_with(stack, account, &Privileged::trust(), change).await
}

async fn privileged_with(
    stack: &Stack,
    account: &'static str,
    trust: &Value,
    change: Value,
) -> Privileged {
    let role = Privileged::make(stack, account, &new_role_name(), trust).await;
    let role = role.unwrap();
    let mut document = role.document();
    merge(&mut document, change);
    role.put(stack, &document).await.unwrap();
    role
}

async fn ask(stack: &Stack, person: &Person, role: &Privileged, change: Value) -> Execution {
    let mut document = Stack::request_document(&role.name, "PT45S");
    merge(
        &mut document,
        json!({ "requester": null, "target": role.target }),
    );
    merge(&mut document, change);
    let answer = stack
        .ask(Some(&person.keys), &document, None)
        .await
        .unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    Execution {
        arn: body["execution_arn"].as_str().unwrap().to_owned(),
    }
}

/// Asks, and has it approved. Returns the name of the policies too.
async fn ask_and_approve(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    change: Value,
) -> (Execution, String) {
    let execution = ask(stack, person, role, change).await;
    let link = link_to(stack, APPROVERS[0], &role.name, &execution).await;
    let id = request_id(stack, &execution).await;
    let answer = callback::approve(&link, &role.name, "").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    (execution, format!("latchkey-{id}"))
}

async fn as_root(stack: &Stack, account: &str, arguments: &[&str]) -> Value {
    assuming::as_root(stack, account, arguments).await.unwrap()
}

async fn can_act(stack: &Stack, session: &Keys) -> bool {
    assuming::can_act(stack, session).await.unwrap()
}

/// Whether the person gets a session of the role with this source identity.
async fn is_let_in(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    source_identity: Option<&str>,
) -> bool {
    let session = assume(stack, &person.keys, role, source_identity).await;
    session.unwrap().is_some()
}

/// The inline policies of a user or role, by name.
async fn policies(stack: &Stack, account: &str, kind: &str, name: &str) -> Vec<String> {
    let call = format!("list-{kind}-policies");
    let holder = format!("--{kind}-name");
    let listed = as_root(stack, account, &["iam", &call, &holder, name]).await;
    let names = listed["PolicyNames"].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Waits until the person can assume the role.
async fn until_assumed(
    stack: &Stack,
    person: &Person,
    role: &Privileged,
    name: &str,
    execution: &Execution,
) -> Keys {
    tokio::select! {
        session = async {
            loop {
                let session = assume(stack, &person.keys, role, Some(name)).await;
                if let Some(session) = session.unwrap() {
                    return session;
                }
            }
        } => session,
        ended = stack.wait_for_end(execution, SOON) => panic!("it was never opened: {ended:?}"),
    }
}

async fn until_denied(stack: &Stack, session: &Keys) {
    let denied = tokio::time::timeout(SOON, async { while can_act(stack, session).await {} });
    denied.await.expect("the live session can still act");
}

fn in_seconds(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(Utc::now().timestamp() + seconds, 0).unwrap()
}

async fn end_early(stack: &Stack, person: &Person, name: &str) -> DateTime<Utc> {
    let id = name.strip_prefix("latchkey-").unwrap();
    let url = format!("{}/{id}/end", stack.output("RequestsUrl").unwrap());
    let body = json!({ "reason": "done" }).to_string();
    let at = Utc::now();
    let answer = callback::call(Some(&person.keys), "POST", &url, &[], &body)
        .await
        .unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    at
}

/// Where the request stands, as the front door says it.
async fn status(stack: &Stack, person: &Person, name: &str) -> String {
    let id = name.strip_prefix("latchkey-").unwrap();
    let url = format!("{}/{id}", stack.output("RequestsUrl").unwrap());
    let answer = callback::call(Some(&person.keys), "GET", &url, &[], "").await;
    let seen: Value = serde_json::from_str(&answer.unwrap().body).unwrap();
    seen["status"].as_str().unwrap().to_owned()
}

/// Before refused, during assumed and used, after refused, new sessions and live ones.
async fn one_window(stack: &Stack, account: &'static str, id: &str) {
    let person = person(stack, id).await;
    let role = privileged(stack, account, json!({})).await;
    let start = in_seconds(60);
    let change = json!({ "start": start.to_rfc3339(), "duration": "PT60S" });
    let end = start + TimeDelta::seconds(60);
    let (execution, name) = ask_and_approve(stack, &person, &role, change).await;
    assert!(!is_let_in(stack, &person, &role, Some(&name)).await);

    // Both are written before the start, and give nothing before it.
    tokio::time::timeout(SOON, async {
        while !policies(stack, ACCOUNT, "user", id).await.contains(&name) {}
    })
    .await
    .unwrap();
    assert!(
        policies(stack, account, "role", &role.name)
            .await
            .contains(&name)
    );
    let before = is_let_in(stack, &person, &role, Some(&name)).await;
    assert!(!before || Utc::now() >= start, "assumed before the start");

    let session = until_assumed(stack, &person, &role, &name, &execution).await;
    assert!(Utc::now() >= start);
    assert!(can_act(stack, &session).await);
    assert!(!is_let_in(stack, &person, &role, None).await);
    assert!(!is_let_in(stack, &person, &role, Some("latchkey-other")).await);

    until_denied(stack, &session).await;
    assert!(Utc::now() >= end, "denied before the end");
    assert!(!is_let_in(stack, &person, &role, Some(&name)).await);
    assert_eq!(outcome(stack, &execution).await.outcome(), "closed");
    assert_eq!(
        policies(stack, ACCOUNT, "user", id).await,
        Vec::<String>::new()
    );
    // It stays until no session of the window can be left.
    assert!(
        policies(stack, account, "role", &role.name)
            .await
            .contains(&name)
    );
    assert!(!can_act(stack, &session).await);
}

#[test]
fn a_role_can_be_assumed_and_used_only_within_its_window() {
    on_stack(async |stack| one_window(stack, ACCOUNT, "ren").await);
}

#[test]
fn a_role_of_another_account_likewise() {
    on_stack(async |stack| one_window(stack, OTHER_ACCOUNT, "ren-elsewhere").await);
}

#[test]
fn an_early_end_ends_live_sessions_and_is_closed_only_when_iam_has_settled() {
    on_stack(async |stack| {
        let person = person(stack, "yui").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let change = json!({ "duration": "PT60S" });
        let (execution, name) = ask_and_approve(stack, &person, &role, change).await;
        let session = until_assumed(stack, &person, &role, &name, &execution).await;
        assert!(can_act(stack, &session).await);

        let ended_at = end_early(stack, &person, &name).await;
        let ending = async { while status(stack, &person, &name).await != "ending" {} };
        tokio::time::timeout(SOON, ending).await.unwrap();
        until_denied(stack, &session).await;
        assert!(!is_let_in(stack, &person, &role, Some(&name)).await);
        let inbox = stack.inbox(APPROVERS[0]).unwrap();
        let closed = |message: &xtask::inbox::Message| {
            message.is_about(&role.name) && message.subject.contains("access closed")
        };
        let told = inbox.next(SOON, closed).await.unwrap();
        let settled = Utc::now() - ended_at;
        assert!(settled >= TimeDelta::seconds(5), "closed after {settled}");
        assert!(
            told.text.contains("policies were read back"),
            "{}",
            told.text
        );
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");
        assert_eq!(status(stack, &person, &name).await, "closed");
    });
}

#[test]
fn the_end_of_one_window_leaves_other_people_and_later_windows_alone() {
    on_stack(async |stack| {
        let (one, other) = (person(stack, "mei").await, person(stack, "kai").await);
        let role = privileged(stack, ACCOUNT, json!({ "shared": true })).await;
        let long = json!({ "duration": "PT5M" });
        let (first, first_name) = ask_and_approve(stack, &one, &role, long.clone()).await;
        let (second, second_name) = ask_and_approve(stack, &other, &role, long).await;
        let of_one = until_assumed(stack, &one, &role, &first_name, &first).await;
        let of_other = until_assumed(stack, &other, &role, &second_name, &second).await;
        // Nobody uses the window of somebody else.
        assert!(!is_let_in(stack, &other, &role, Some(&first_name)).await);

        end_early(stack, &one, &first_name).await;
        until_denied(stack, &of_one).await;
        assert!(can_act(stack, &of_other).await);
        assert!(is_let_in(stack, &other, &role, Some(&second_name)).await);

        let later = json!({ "duration": "PT5M" });
        let (third, third_name) = ask_and_approve(stack, &one, &role, later).await;
        let later = until_assumed(stack, &one, &role, &third_name, &third).await;
        assert!(can_act(stack, &later).await);
        assert!(!can_act(stack, &of_one).await);
        for (person, name) in [(&one, &third_name), (&other, &second_name)] {
            end_early(stack, person, name).await;
        }
    });
}

#[test]
fn stopping_the_execution_ends_the_window() {
    on_stack(async |stack| {
        let person = person(stack, "emi").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let change = json!({ "duration": "PT10M" });
        let (execution, name) = ask_and_approve(stack, &person, &role, change).await;
        let session = until_assumed(stack, &person, &role, &name, &execution).await;
        stack
            .wait_for_state(&execution, "Wait Until End", SOON)
            .await
            .unwrap();
        let stop = [
            "stepfunctions",
            "stop-execution",
            "--execution-arn",
            &execution.arn,
        ];
        as_root(stack, ACCOUNT, &stop).await;
        until_denied(stack, &session).await;
        let gone = tokio::time::timeout(SOON, async {
            while !policies(stack, ACCOUNT, "user", &person.id)
                .await
                .is_empty()
            {}
        });
        gone.await.unwrap();
    });
}

#[test]
fn live_sessions_end_at_the_end_with_nothing_of_ours_running() {
    alone_on_stack(async |stack| {
        let person = person(stack, "leo").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let (execution, name) = ask_and_approve(stack, &person, &role, json!({})).await;
        let session = until_assumed(stack, &person, &role, &name, &execution).await;
        let function = stack.output("RevokePolicyFunctionArn").unwrap();
        let throttle = [
            "lambda",
            "put-function-concurrency",
            "--function-name",
            function,
        ];
        let none = ["--reserved-concurrent-executions", "0"];
        as_root(stack, ACCOUNT, &[&throttle[..], &none].concat()).await;
        until_denied(stack, &session).await;
        assert!(
            policies(stack, ACCOUNT, "user", &person.id)
                .await
                .contains(&name)
        );
        assert!(!is_let_in(stack, &person, &role, Some(&name)).await);
        let release = [
            "lambda",
            "delete-function-concurrency",
            "--function-name",
            function,
        ];
        as_root(stack, ACCOUNT, &release).await;
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");
        assert_eq!(
            policies(stack, ACCOUNT, "user", &person.id).await,
            Vec::<String>::new()
        );
    });
}

#[test]
fn what_a_window_left_behind_is_collected() {
    on_stack(async |stack| {
        let person = person(stack, "noa").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let (execution, name) = ask_and_approve(stack, &person, &role, json!({})).await;
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");
        let auditor = auditor(stack, "auditor-of-policies").await;
        let id = request_id(stack, &execution).await;
        let recorded = lines(stack, &auditor, &id).await;
        let of_window = [
            "requested",
            "voted",
            "decided",
            "requester_confirmed",
            "armed",
            "opened",
            "closed",
        ];
        assert_eq!(summary(&recorded).0, of_window);
        let parts = |event: &str| {
            let line = recorded.iter().find(|line| line["event"] == event);
            line.unwrap()["part"].clone()
        };
        assert_eq!(parts("armed"), "grant-policy");
        assert_eq!(parts("closed"), "revoke-policy");
        let left = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"], "Resource": role.arn(),
        }] });
        let others = "latchkey-r-0000000000000000";
        for (name, policy) in [(name.as_str(), &left), (others, &left)] {
            let document = policy.to_string();
            let put = ["iam", "put-user-policy", "--user-name", &person.id];
            let policy = ["--policy-name", name, "--policy-document", &document];
            as_root(stack, ACCOUNT, &[&put[..], &policy].concat()).await;
        }
        let round = collect(stack).await;
        // What is no request of this deployment is another's, and reported.
        assert_eq!(policies(stack, ACCOUNT, "user", &person.id).await, [others]);
        assert!(round["n_unknown"].as_u64() >= Some(1), "{round}");
        // The round that its schedule starts may find it at the same moment.
        let recorded = lines(stack, &auditor, &id).await;
        let cut = &summary(&recorded).0[of_window.len()..];
        assert_eq!(cut.first(), Some(&"access_found"), "{cut:?}");
        assert_eq!(cut.last(), Some(&"access_cut"), "{cut:?}");
        // Sessions of the window may still live.
        assert!(
            policies(stack, ACCOUNT, "role", &role.name)
                .await
                .contains(&name)
        );
    });
}

#[test]
fn what_could_not_be_ended_on_time_is_refused_before_anybody_is_asked() {
    on_stack(async |stack| {
        let asks = person(stack, "sora").await;
        let refused = async |person: &Person, role: &Privileged| {
            let execution = ask(stack, person, role, json!({})).await;
            let ended = outcome(stack, &execution).await;
            assert_eq!(ended.outcome(), "refused", "{}", ended.output);
            ended.output["faults"].clone()
        };
        // A trust policy that lets sessions be anybody's.
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
        }] });
        let open = privileged_with(stack, ACCOUNT, &trust, json!({})).await;
        let faults = refused(&asks, &open).await;
        assert_eq!(faults[0]["name"], "RoleNotRegistered", "{faults}");
        assert!(
            faults[0]["message"]
                .as_str()
                .unwrap()
                .contains("source identity"),
            "{faults}"
        );

        // A user that is full.
        let full = person(stack, "full").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let filler = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sqs:ListQueues",
            "Resource": format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{}", "x".repeat(1_700)),
        }] })
        .to_string();
        let put = [
            "iam",
            "put-user-policy",
            "--user-name=full",
            "--policy-name=Other",
        ];
        as_root(
            stack,
            ACCOUNT,
            &[&put[..], &["--policy-document", &filler]].concat(),
        )
        .await;
        let faults = refused(&full, &role).await;
        assert_eq!(faults[0]["name"], "PoliciesTooLong", "{faults}");

        // A user whose policies are none of Latchkey's business.
        let keys = make_user(stack, "/elsewhere/", "far").await.unwrap();
        let document = json!({ "id": "far", "name": "far", "mailbox": "far@example.com",
            "principals": [format!("arn:aws:iam::{ACCOUNT}:user/elsewhere/far")] });
        stack.put_catalogue("people/far", &document).await.unwrap();
        let far = Person {
            id: "far".to_owned(),
            keys,
        };
        let faults = refused(&far, &role).await;
        assert_eq!(faults[0]["name"], "GranteeOutOfReach", "{faults}");
    });
}

#[test]
fn where_the_role_may_not_be_changed_sessions_run_out_and_approvers_are_told() {
    on_stack(async |stack| {
        let person = person(stack, "aki").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let mut document = role.document();
        document["assume_role"]["live_sessions"] = json!("run_out");
        role.put(stack, &document).await.unwrap();
        let execution = ask(stack, &person, &role, json!({})).await;
        let link = link_to(stack, APPROVERS[0], &role.name, &execution).await;
        let page = callback::get(&link).await.unwrap();
        for said in [
            role.arn().as_str(),
            "go on for up to 1 h",
            "go on until they expire",
        ] {
            assert!(page.body.contains(said), "{said}: {}", page.body);
        }
        let name = format!("latchkey-{}", request_id(stack, &execution).await);
        let answer = callback::approve(&link, &role.name, "").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let session = until_assumed(stack, &person, &role, &name, &execution).await;
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");
        assert!(!is_let_in(stack, &person, &role, Some(&name)).await);
        assert!(
            can_act(stack, &session).await,
            "nothing denies it, and the page said so"
        );
        assert_eq!(policies(stack, ACCOUNT, "role", &role.name).await, ["Work"]);
    });
}

/// Has revoke-policy look after what windows left behind.
async fn collect(stack: &Stack) -> Value {
    let collect = json!({ "version": 1, "action": "collect" });
    let round = stack.invoke("RevokePolicyFunction", &collect).await;
    round.unwrap()
}

#[test]
fn a_denial_goes_once_no_session_of_its_window_can_be_left() {
    on_stack(async |stack| {
        let person = person(stack, "ume").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let change = json!({ "duration": "PT20S" });
        let (execution, name) = ask_and_approve(stack, &person, &role, change).await;
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");

        // As if it had been closed so long ago; sessions of the role last an hour.
        let pk = format!("request#{}", name.strip_prefix("latchkey-").unwrap());
        for (minutes, stands) in [(59, true), (61, false)] {
            let mut item = row(stack, &pk, "request").await;
            let closing = item["closing"]["S"].as_str().unwrap();
            let mut closing: Value = serde_json::from_str(closing).unwrap();
            closing["at"] = json!(Utc::now() - TimeDelta::minutes(minutes));
            item["closing"] = json!({ "S": closing.to_string() });
            put_row(stack, &item).await;
            collect(stack).await;
            let left = policies(stack, ACCOUNT, "role", &role.name).await;
            assert_eq!(left.contains(&name), stands, "{minutes} minutes: {left:?}");
        }
        assert_eq!(policies(stack, ACCOUNT, "role", &role.name).await, ["Work"]);
    });
}

#[test]
fn a_dry_run_shows_the_policies_and_writes_none() {
    on_stack(async |stack| {
        let person = person(stack, "rin").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let execution = ask(stack, &person, &role, json!({ "dry_run": true })).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "dry_run", "{}", ended.output);
        let answer = &ended.output;
        assert_eq!(answer["faults"], json!([]), "{answer}");
        let request = &answer["request"];
        assert_eq!(request["grant"]["kind"], "assume-role", "{answer}");
        assert_eq!(request["role"], json!(role.name), "{answer}");
        assert_eq!(answer["plan"]["opening"], json!([]), "{answer}");
        let planned = answer["plan"]["policies"].as_array().unwrap();
        let seen: Vec<_> = planned
            .iter()
            .map(|policy| {
                let effect = &policy["document"]["Statement"][0]["Effect"];
                (policy["holder"].as_str(), effect.as_str())
            })
            .collect();
        let privileged = format!("role {}", role.name);
        let expected = [
            (Some(privileged.as_str()), Some("Deny")),
            (Some("user rin"), Some("Allow")),
        ];
        assert_eq!(seen, expected, "{answer}");
        assert_eq!(policies(stack, ACCOUNT, "role", &role.name).await, ["Work"]);
        let of_person = policies(stack, ACCOUNT, "user", &person.id).await;
        assert_eq!(of_person, Vec::<String>::new());
    });
}

#[test]
fn who_may_break_the_glass_assumes_the_role_at_once_and_is_reviewed() {
    on_stack(async |stack| {
        let person = person(stack, "gin").await;
        stack.subscribe(&person.id).await.unwrap();
        let break_glass = json!({
            "people": [person.id], "max_duration": "PT60S", "reviewers": [APPROVERS[1]],
        });
        let change = json!({ "break_glass": break_glass });
        let role = privileged(stack, ACCOUNT, change).await;
        let change = json!({ "break_glass": true });
        let execution = ask(stack, &person, &role, change.clone()).await;
        stack
            .wait_for_state(&execution, "Preflight", SOON)
            .await
            .unwrap();
        let name = format!("latchkey-{}", request_id(stack, &execution).await);
        let session = until_assumed(stack, &person, &role, &name, &execution).await;
        assert!(can_act(stack, &session).await);
        until_denied(stack, &session).await;
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");

        let again = ask(stack, &person, &role, change).await;
        let ended = outcome(stack, &again).await;
        assert_eq!(ended.fault_names(), ["ReviewMissing"], "{}", ended.output);
    });
}

#[test]
fn a_role_that_was_made_anew_since_it_was_asked_for_is_not_opened() {
    on_stack(async |stack| {
        let person = person(stack, "kou").await;
        let role = privileged(stack, ACCOUNT, json!({})).await;
        let execution = ask(stack, &person, &role, json!({})).await;
        let link = link_to(stack, APPROVERS[0], &role.name, &execution).await;
        let named = ["--role-name", &role.name];
        let delete = ["iam", "delete-role-policy", "--policy-name=Work"];
        as_root(stack, ACCOUNT, &[&delete[..], &named].concat()).await;
        let delete = ["iam", "delete-role"];
        as_root(stack, ACCOUNT, &[&delete[..], &named].concat()).await;
        let trust = Privileged::trust();
        let anew = Privileged::make(stack, ACCOUNT, &role.name, &trust).await;
        assert_eq!(anew.unwrap().arn(), role.arn());

        callback::approve(&link, &role.name, "").await.unwrap();
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.outcome(), "refused", "{}", ended.output);
        assert_eq!(policies(stack, ACCOUNT, "role", &role.name).await, ["Work"]);
    });
}
