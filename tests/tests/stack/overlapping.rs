//! Different people do not overlap on one role, unless the catalogue lets them share it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::callback::{self, Answer};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Ended, Execution, Stack};

use super::fixture::{
    Asked, SOON, ask_for, can_log_in, file, link_to, merge, new_role, on_stack, outcome,
    request_id, until_open,
};

/// Another person of the catalogue, who may ask.
pub(super) async fn somebody(stack: &Stack, id: &str, name: &str) -> Keys {
    let policy = stack.output("RequesterPolicyArn").unwrap();
    let keys = stack.make_user(id, policy).await.unwrap();
    let person = json!({
        "id": id, "name": name, "mailbox": format!("{id}@example.com"),
        "principals": [format!("arn:aws:iam::{ACCOUNT}:user/{id}")],
    });
    stack
        .put_catalogue(&format!("people/{id}"), &person)
        .await
        .unwrap();
    keys
}

/// Asks for `role` through the front door as whoever has `keys`.
pub(super) async fn ask_as(stack: &Stack, keys: &Keys, role: &str, change: Value) -> Execution {
    let mut document = Stack::request_document(role, "PT30S");
    merge(&mut document, json!({ "requester": null }));
    merge(&mut document, change);
    let answer = stack.ask(Some(keys), &document, None).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    Execution {
        arn: body["execution_arn"].as_str().unwrap().to_owned(),
    }
}

async fn approve(link: &str, role: &str) -> Answer {
    callback::approve(link, role, "").await.unwrap()
}

async fn open_for_riko(stack: &Stack, role: &str, change: Value) -> Asked {
    let asked = ask_for(stack, role, change).await;
    assert_eq!(approve(&asked.link, role).await.status, 200);
    until_open(stack, &asked).await;
    asked
}

fn said(ended: &Ended) -> &str {
    ended.output["faults"][0]["message"].as_str().unwrap()
}

fn in_seconds(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(Utc::now().timestamp() + seconds, 0).unwrap()
}

#[test]
fn who_asks_while_somebody_else_has_the_role_hears_who_and_until_when() {
    on_stack(async |stack| {
        let sakura = somebody(stack, "sakura-asks", "Sakura Example").await;
        let role = new_role(stack, json!({})).await;
        let end = in_seconds(60);
        let change = json!({ "duration": null, "end": end.to_rfc3339() });
        let first = open_for_riko(stack, &role, change).await;

        let refused = ask_as(stack, &sakura, &role, json!({})).await;
        let refused = outcome(stack, &refused).await;
        assert_eq!(refused.outcome(), "refused", "{}", refused.output);
        assert_eq!(refused.fault_names(), ["RoleInUse"]);
        let because = &refused.output["faults"][0]["because"];
        assert_eq!(because["holder"], json!({ "person": "Riko Example" }));
        let until: DateTime<Utc> = because["until"].as_str().unwrap().parse().unwrap();
        assert_eq!(until, end, "{because}");
        let message = said(&refused);
        assert!(message.contains("Riko Example"), "{message}");

        // From then on it is nobody's, so it can be asked for.
        let after = json!({ "start": until });
        let later = ask_as(stack, &sakura, &role, after).await;
        link_to(stack, APPROVERS[0], &role, &later).await;
        assert_eq!(outcome(stack, &first.execution).await.outcome(), "closed");
    });
}

#[test]
fn an_approval_that_would_overlap_is_not_taken_and_a_later_start_is() {
    on_stack(async |stack| {
        let sakura = somebody(stack, "sakura-waits", "Sakura Example").await;
        let role = new_role(stack, json!({})).await;
        let waiting = ask_as(stack, &sakura, &role, json!({ "duration": "PT5M" })).await;
        let link = link_to(stack, APPROVERS[0], &role, &waiting).await;
        let first = open_for_riko(stack, &role, json!({ "duration": "PT45S" })).await;

        let answer = approve(&link, &role).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert!(
            answer.body.contains("Riko Example has this role until"),
            "{}",
            answer.body
        );
        let id = request_id(stack, &waiting).await;
        let alice = stack.keys_of(APPROVERS[0]).unwrap();
        let url = format!("{}/{id}/decision", stack.output("RequestsUrl").unwrap());
        let decide = async |body: Value| {
            callback::call(Some(alice), "POST", &url, &[], &body.to_string())
                .await
                .unwrap()
        };
        let answer = decide(json!({ "verdict": "approve", "comment": "" })).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(
            answer
                .body
                .contains("Riko Example has this role until then"),
            "{answer:?}"
        );
        // Nothing was recorded, so the same approver may still leave what nobody has.
        let start = in_seconds(60) + TimeDelta::minutes(1);
        let later = json!({ "verdict": "approve", "comment": "", "start": start.to_rfc3339() });
        let answer = decide(later).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(outcome(stack, &first.execution).await.outcome(), "closed");
    });
}

#[test]
fn of_two_who_start_at_the_same_instant_exactly_one_opens() {
    on_stack(async |stack| {
        let sakura = somebody(stack, "sakura-races", "Sakura Example").await;
        let role = new_role(stack, json!({})).await;
        let start = in_seconds(60);
        let change = json!({ "start": start.to_rfc3339(), "duration": "PT20S" });
        let riko = ask_for(stack, &role, change.clone()).await;
        let other = ask_as(stack, &sakura, &role, change).await;
        let link = link_to(stack, APPROVERS[0], &role, &other).await;
        assert_eq!(approve(&riko.link, &role).await.status, 200);
        // Nothing is armed before the start, so both can be approved.
        assert_eq!(approve(&link, &role).await.status, 200);
        assert!(Utc::now() < start, "the machine was too slow for this test");

        let mut ended = [
            outcome(stack, &riko.execution).await,
            outcome(stack, &other).await,
        ];
        ended.sort_by_key(|ended| ended.outcome().to_owned());
        assert_eq!(
            ended.each_ref().map(Ended::outcome),
            ["closed", "refused"],
            "{ended:?}"
        );
        assert_eq!(ended[1].fault_names(), ["RoleInUse"], "{ended:?}");
        assert!(said(&ended[1]).contains(" Example has this role"));
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn people_share_a_role_where_its_document_says_so() {
    on_stack(async |stack| {
        let sakura = somebody(stack, "sakura-shares", "Sakura Example").await;
        let role = new_role(stack, json!({ "shared": true })).await;
        let short = open_for_riko(stack, &role, json!({ "duration": "PT20S" })).await;
        let long = ask_as(stack, &sakura, &role, json!({ "duration": "PT40S" })).await;
        let link = link_to(stack, APPROVERS[0], &role, &long).await;
        assert_eq!(approve(&link, &role).await.status, 200);

        let first = outcome(stack, &short.execution).await;
        assert_eq!(first.outcome(), "ended_role_still_open");
        assert!(can_log_in(stack, &role).await);
        let second = stack.wait_for_end(&long, SOON).await.unwrap();
        assert_eq!(second.outcome(), "closed", "{second:?}");
        assert!(!can_log_in(stack, &role).await);
    });
}

#[test]
fn what_was_opened_by_hand_is_somebody_elses() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let dba = &stack.postgres().accounts().master;
        let session = stack.postgres().log_in(dba, "latchkey").await.unwrap();
        let open = "SELECT latchkey.open_by_hand($1, now() + interval '10 minutes', 'outage')";
        session.execute(open, &[&role]).await.unwrap();
        stack.invoke("ReconcileFunction", &json!({})).await.unwrap();

        let execution = file(stack, &role, json!({})).await;
        let ended = outcome(stack, &execution).await;
        assert_eq!(ended.fault_names(), ["RoleInUse"], "{ended:?}");
        assert!(said(&ended).contains("by hand"), "{ended:?}");
        session
            .execute("SELECT latchkey.close($1)", &[&role])
            .await
            .unwrap();
    });
}
