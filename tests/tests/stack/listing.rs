//! What people may see by a signed call: what they have a part in, and nothing else.

use serde_json::{Value, json};
use xtask::callback::{self, Answer};
use xtask::ministack::{ACCOUNT, Keys};
use xtask::stack::{APPROVERS, Execution, Stack, TARGET};

use super::fixture::{SOON, ask_for, link_to, merge, new_role, on_stack, outcome, request_id};

/// An IAM user who is the person of this name, with the rights of requesters, or none.
async fn user(stack: &Stack, name: &str, is_known: bool) -> Keys {
    let policy = stack.output("RequesterPolicyArn").unwrap();
    let keys = stack.make_user(name, policy).await.unwrap();
    if is_known {
        let person = json!({
            "id": name, "name": name, "mailbox": format!("{name}@example.com"),
            "principals": [format!("arn:aws:iam::{ACCOUNT}:user/{name}")],
        });
        let document = format!("people/{name}");
        stack.put_catalogue(&document, &person).await.unwrap();
    }
    keys
}

pub(super) async fn see(stack: &Stack, keys: Option<&Keys>, path: &str) -> Answer {
    let requests = stack.output("RequestsUrl").unwrap();
    let api = requests.strip_suffix("/requests").unwrap();
    callback::call(keys, "GET", &format!("{api}{path}"), &[], "")
        .await
        .unwrap()
}

fn body(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for secret in [
        "secretsmanager",
        "/decide/",
        "/end/",
        // The principals of people; a role that may be asked for is shown.
        ":user/",
        "\"opener\"",
    ] {
        assert!(!answer.body.contains(secret), "{secret}: {answer:?}");
    }
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("not JSON: {answer:?}"))
}

fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["error"], error, "{answer:?}");
}

fn ids(list: &Value) -> Vec<&str> {
    let requests = list["requests"].as_array().unwrap().iter();
    requests
        .map(|request| request["request_id"].as_str().unwrap())
        .collect()
}

/// Asks as `keys` through the front door, and waits until the approvers have been asked.
async fn ask(stack: &Stack, keys: &Keys, role: &str, duration: &str) -> (Execution, String) {
    let mut document = Stack::request_document(role, duration);
    merge(&mut document, json!({ "requester": null }));
    let answer = stack.ask(Some(keys), &document, None).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let accepted: Value = serde_json::from_str(&answer.body).unwrap();
    let arn = accepted["execution_arn"].as_str().unwrap().to_owned();
    let execution = Execution { arn };
    let link = link_to(stack, APPROVERS[0], role, &execution).await;
    (execution, link)
}

#[test]
fn everybody_sees_what_they_have_a_part_in_and_nobody_else_does() {
    on_stack(async |stack| {
        let lena = user(stack, "lena", true).await;
        let otto = user(stack, "otto", true).await;
        let eva = user(stack, "eva", true).await;
        let stranger = user(stack, "stranger-looks", false).await;
        let role = new_role(stack, json!({ "operators": ["otto"] })).await;
        let (execution, link) = ask(stack, &lena, &role, "PT40S").await;
        let id = request_id(stack, &execution).await;
        let path = format!("/requests/{id}");
        let alice = stack.keys_of(APPROVERS[0]).unwrap();

        for (keys, part) in [
            (&lena, "requester"),
            (alice, "approver"),
            (&otto, "operator"),
        ] {
            let seen = body(&see(stack, Some(keys), &path).await);
            assert_eq!(seen["your_part"], part, "{seen}");
            assert_eq!(seen["status"], "pending", "{seen}");
            assert_eq!(seen["requester"]["id"], "lena", "{seen}");
            assert_eq!(seen["requester_is_verified"], true, "{seen}");
            let list = body(&see(stack, Some(keys), &format!("/requests?part={part}")).await);
            assert_eq!(ids(&list)[0], id, "{list}");
        }
        // Her own are what she sees if she names no part; others' parts are not hers.
        assert_eq!(
            ids(&body(&see(stack, Some(&lena), "/requests").await)),
            [&id]
        );
        for part in ["approver", "operator"] {
            let list = body(&see(stack, Some(&lena), &format!("/requests?part={part}")).await);
            assert!(!ids(&list).contains(&id.as_str()), "{list}");
        }
        for part in ["requester", "approver", "operator"] {
            let list = body(&see(stack, Some(&eva), &format!("/requests?part={part}")).await);
            assert_eq!(list, json!({ "requests": [], "next": null }));
        }
        refused(&see(stack, Some(&eva), &path).await, 404, "no_request");
        let none = see(stack, Some(&eva), "/requests/r-0000000000000000").await;
        refused(&none, 404, "no_request");
        refused(
            &see(stack, Some(&eva), "/requests/nonsense").await,
            404,
            "no_request",
        );
        for path in ["/requests", "/access", path.as_str()] {
            let answer = see(stack, Some(&stranger), path).await;
            refused(&answer, 403, "not_in_the_catalogue");
            assert_eq!(see(stack, None, path).await.status, 403, "{path}");
        }
        for (query, error) in [
            ("part=owner", "no_part"),
            ("part=", "no_part"),
            ("after=yesterday", "no_page"),
            ("after=", "no_page"),
        ] {
            let answer = see(stack, Some(&lena), &format!("/requests?{query}")).await;
            refused(&answer, 400, error);
        }

        // While it is open, those who have a part see that it is, and nobody else.
        callback::approve(&link, &role, "").await.unwrap();
        let state = stack
            .wait_for_state(&execution, "Wait Until End", SOON)
            .await;
        state.unwrap();
        let is_open = |access: &Value| {
            let open = access["open"].as_array().unwrap().iter();
            open.filter(|window| window["request_id"] == json!(id))
                .count()
                == 1
        };
        let of_lena = body(&see(stack, Some(&lena), "/access").await);
        assert!(is_open(&of_lena), "{of_lena}");
        assert!(is_open(&body(&see(stack, Some(&otto), "/access").await)));
        let of_eva = body(&see(stack, Some(&eva), "/access").await);
        assert_eq!(of_eva["open"], json!([]), "{of_eva}");
        assert_eq!(outcome(stack, &execution).await.outcome(), "closed");
        let of_lena = body(&see(stack, Some(&lena), "/access").await);
        assert!(!is_open(&of_lena), "{of_lena}");
        let seen = body(&see(stack, Some(&lena), &path).await);
        assert_eq!(seen["status"], "closed", "{seen}");
        assert!(seen["closing"]["at"].is_string(), "{seen}");
        assert!(seen["decision"].is_object(), "{seen}");
    });
}

#[test]
fn what_one_may_ask_for_is_what_would_not_be_refused() {
    on_stack(async |stack| {
        let otis = user(stack, "otis", true).await;
        let open_to_all = new_role(stack, json!({ "max_duration": "PT30M" })).await;
        // Without the requester nobody is left who could approve.
        let only_otis = new_role(stack, json!({ "approvers": ["otis"] })).await;
        let unknown_approver =
            new_role(stack, json!({ "approvers": ["nobody-of-this-name"] })).await;
        let access = body(&see(stack, Some(&otis), "/access").await);
        let may = access["may_request"].as_array().unwrap();
        let find = |role: &str| may.iter().find(|it| it["role"] == json!(role));
        let found = find(&open_to_all).unwrap_or_else(|| panic!("{access}"));
        assert_eq!(found["target"], json!(TARGET));
        assert_eq!(found["max_duration_seconds"], 1800);
        assert_eq!(found["approvers"], json!(APPROVERS));
        assert_eq!(find(&only_otis), None);
        assert_eq!(find(&unknown_approver), None);
        // Somebody else may ask for it.
        let alice = stack.keys_of(APPROVERS[0]).unwrap();
        let access = body(&see(stack, Some(alice), "/access").await);
        let may = access["may_request"].as_array().unwrap();
        assert!(
            may.iter().any(|it| it["role"] == json!(only_otis)),
            "{access}"
        );
    });
}

#[test]
fn a_long_list_comes_in_pages_the_newest_first() {
    on_stack(async |stack| {
        let petra = user(stack, "petra", true).await;
        let role = new_role(stack, json!({})).await;
        let (execution, link) = ask(stack, &petra, &role, "PT10S").await;
        let id = request_id(stack, &execution).await;
        // As if she had asked for it many times before.
        let table = stack.output("TableName").unwrap();
        for n in 0..25 {
            let item = json!({
                "pk": { "S": "requests-of#requester#petra" },
                "sk": { "S": format!("2026-01-01T00:00:{n:02}.000Z#{id}") },
            });
            let item = item.to_string();
            let put = [
                "dynamodb",
                "put-item",
                "--table-name",
                table,
                "--item",
                &item,
            ];
            stack.aws().aws(&put).await.unwrap();
        }
        let first = body(&see(stack, Some(&petra), "/requests").await);
        assert_eq!(ids(&first).len(), 20);
        let next = first["next"].as_str().unwrap();
        assert_eq!(next, format!("2026-01-01T00:00:06.000Z#{id}"), "{first}");
        let encoded = next.replace(':', "%3A").replace('#', "%23");
        let path = format!("/requests?after={encoded}");
        let second = body(&see(stack, Some(&petra), &path).await);
        assert_eq!((ids(&second).len(), &second["next"]), (6, &Value::Null));
        // Where a page of hers begins says nothing to somebody else.
        let lars = user(stack, "lars", true).await;
        let other = body(&see(stack, Some(&lars), &path).await);
        assert_eq!(other["requests"], json!([]));
        callback::reject(&link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &execution).await.outcome(), "rejected");
    });
}

#[test]
fn a_claim_in_ones_name_is_seen_as_one() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let id = request_id(stack, &asked.execution).await;
        let path = format!("/requests/{id}");
        let seen = body(&see(stack, Some(stack.requester_keys()), &path).await);
        assert_eq!(seen["requester_is_verified"], false, "{seen}");
        callback::reject(&asked.link, "enough seen").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        let seen = body(&see(stack, Some(stack.requester_keys()), &path).await);
        assert_eq!(seen["status"], "rejected", "{seen}");
    });
}
