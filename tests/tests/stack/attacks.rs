//! Who tries what to get a login opened, and what comes of it.

use std::time::Duration;

use access_aws::seal::SealingKey;
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use access_contract::{Link, Status};
use access_core::{Digest, PersonId, RequestId};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use xtask::callback::{self, Answer};
use xtask::stack::{APPROVERS, REQUESTER, Stack, TARGET};

use super::fixture::{
    Asked, SOON, ask, ask_for, link_to, new_role, on_stack, outcome, request_id, was_ever_opened,
};
use super::observations::Matrix;

/// How often two people decide at the same instant.
const ROUNDS: u64 = 200;

async fn still_waits(stack: &Stack, asked: &Asked) -> &'static str {
    let states = stack.states_entered(&asked.execution).await.unwrap();
    let waits = states
        .last()
        .is_some_and(|(state, _)| state == "Await Approval");
    if waits && !was_ever_opened(stack, asked).await {
        "undecided, closed"
    } else {
        "decided or opened"
    }
}

fn link_key(stack: &Stack, key_id: &str) -> SealingKey {
    let kms = aws_sdk_kms::Client::new(stack.root_config());
    SealingKey::new(kms, key_id.to_owned())
}

fn table(stack: &Stack) -> Table {
    let recorder = Recorder::new(Part::Approval, "0", Utc::now).unwrap();
    Table::new(
        stack.root_config(),
        stack.output("TableName").unwrap().to_owned(),
        recorder,
    )
}

pub(super) async fn put_item(stack: &Stack, item: serde_json::Value) {
    let table = stack.output("TableName").unwrap();
    let item = item.to_string();
    stack
        .aws()
        .aws(&[
            "dynamodb",
            "put-item",
            "--table-name",
            table,
            "--item",
            &item,
        ])
        .await
        .unwrap();
}

pub(super) async fn delete_item(stack: &Stack, pk: &str, sk: &str) {
    let table = stack.output("TableName").unwrap();
    let key = json!({ "pk": { "S": pk }, "sk": { "S": sk } }).to_string();
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
}

/// Names and values, as a form sends them.
type Fields = Vec<(String, String)>;

/// The fields of the form on a page with their defaults, and its buttons.
fn form(page: &Answer) -> (Fields, Fields) {
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let tags = |kind: &'static str| {
        page.body
            .split(kind)
            .skip(1)
            .filter_map(move |rest| {
                let tag = rest.split_once('>')?.0;
                Some((
                    attribute(tag, "name")?,
                    attribute(tag, "value").unwrap_or_default(),
                ))
            })
            .collect::<Fields>()
    };
    let mut fields = tags("<input");
    fields.extend(tags("<textarea"));
    (fields, tags("<button"))
}

#[test]
fn a_scanner_that_opens_and_submits_everything_decides_nothing() {
    on_stack(async |stack| {
        let mut matrix = Matrix::about("scanners");
        let asked = ask(stack).await;
        let of_bob = link_to(stack, APPROVERS[1], &asked.role, &asked.execution).await;
        for link in [&asked.link, &of_bob] {
            for _ in 0..2 {
                let page = callback::get(link).await.unwrap();
                matrix.note("scanner", "GET of a link", 200, page.status);
                let head = callback::head(link).await.unwrap();
                matrix.note("scanner", "HEAD of a link", 200, head.status);
            }
            let page = callback::get(link).await.unwrap();
            let (fields, buttons) = form(&page);
            assert_eq!((fields.len(), buttons.len()), (4, 2), "{}", page.body);
            let defaults: Vec<(&str, &str)> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let submitted = callback::post_form(link, &defaults).await.unwrap();
            matrix.note(
                "scanner",
                "form with its defaults, no button",
                422,
                submitted.status,
            );
            for (name, value) in &buttons {
                let mut pressed = defaults.clone();
                pressed.push((name, value));
                let submitted = callback::post_form(link, &pressed).await.unwrap();
                matrix.note(
                    "scanner",
                    &format!("form with its defaults, button {value}"),
                    422,
                    submitted.status,
                );
            }
        }
        matrix.note(
            "scanner",
            "all of it",
            "undecided, closed",
            still_waits(stack, &asked).await,
        );
        callback::reject(&asked.link, "a person at last")
            .await
            .unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        matrix.check();
    });
}

#[test]
fn links_that_are_not_ones_own_and_whole_decide_nothing() {
    on_stack(async |stack| {
        let mut matrix = Matrix::about("links");
        let asked = ask(stack).await;
        let other = ask(stack).await;
        let of_bob = link_to(stack, APPROVERS[1], &asked.role, &asked.execution).await;
        let (base, segment) = asked.link.rsplit_once('/').unwrap();
        let segment_of = |link: &str| link.rsplit_once('/').unwrap().1.to_owned();
        let (link, mac) = Link::parse(segment).unwrap();
        let (bobs, _) = Link::parse(&segment_of(&of_bob)).unwrap();
        let (others, _) = Link::parse(&segment_of(&other.link)).unwrap();
        let key = link_key(stack, &link.key_id);
        let sealed = async |link: &Link| {
            let mac = key.seal(&link.sealed_text()).await.unwrap();
            link.to_segment(&mac)
        };
        let hour_ago = Utc::now() - TimeDelta::hours(1);
        let person = |id: &str| PersonId::new(id).unwrap();
        let later = Link {
            expires_at: link.expires_at + TimeDelta::days(365),
            ..link.clone()
        };
        let expired = Link {
            expires_at: chrono::DateTime::from_timestamp(hour_ago.timestamp(), 0).unwrap(),
            ..link.clone()
        };
        let another_digest = Link {
            digest: Digest::of("another request"),
            ..link.clone()
        };
        let unknown = Link {
            request_id: RequestId::of_execution("nobody's", 1),
            ..link.clone()
        };
        let of_requester = Link {
            person: person(REQUESTER),
            ..link.clone()
        };
        let of_mallory = Link {
            person: person("mallory"),
            ..link.clone()
        };
        let upper = segment.to_uppercase();
        let cut = &segment[..segment.len() - 1];
        let padded = format!("{segment}=");
        let encoded_twice = segment.replace('~', "%257E");
        let mut flipped = mac.clone();
        flipped[0] ^= 1;
        let cases: Vec<(&str, &str, String, u16)> = vec![
            (
                "forger",
                "a bit of the seal flipped",
                link.to_segment(&flipped),
                404,
            ),
            ("forger", "an empty seal", link.to_segment(&[]), 404),
            (
                "forger",
                "alice's seal on bob's link",
                bobs.to_segment(&mac),
                404,
            ),
            (
                "forger",
                "the seal of another request",
                others.to_segment(&mac),
                404,
            ),
            (
                "forger",
                "a later expiry under the old seal",
                later.to_segment(&mac),
                404,
            ),
            ("forger", "cut by a character", cut.to_owned(), 404),
            ("forger", "padded", padded, 404),
            ("forger", "in capital letters", upper, 404),
            ("forger", "percent-encoded twice", encoded_twice, 404),
            ("alice", "expired, well sealed", sealed(&expired).await, 404),
            (
                "alice",
                "another request's digest, well sealed",
                sealed(&another_digest).await,
                404,
            ),
            (
                "alice",
                "an unknown request, well sealed",
                sealed(&unknown).await,
                404,
            ),
            (
                "requester",
                "a link, well sealed",
                sealed(&of_requester).await,
                403,
            ),
            (
                "stranger",
                "a link, well sealed",
                sealed(&of_mallory).await,
                403,
            ),
        ];
        for (who, what, tried, expected) in cases {
            let url = format!("{base}/{tried}");
            let page = callback::get(&url).await.unwrap();
            matrix.note(who, &format!("GET: {what}"), expected, page.status);
            let decided = callback::approve(&url, &asked.role, "").await.unwrap();
            matrix.note(who, &format!("approve: {what}"), expected, decided.status);
        }
        // The role's name of another request does not do for this one.
        let wrong_role = callback::approve(&asked.link, &other.role, "")
            .await
            .unwrap();
        matrix.note(
            "alice",
            "approve with another role's name",
            422,
            wrong_role.status,
        );
        matrix.note(
            "all of them",
            "all of it",
            "undecided, closed",
            still_waits(stack, &asked).await,
        );
        for asked in [&asked, &other] {
            callback::reject(&asked.link, "enough").await.unwrap();
            assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
        }
        let replayed = callback::approve(&asked.link, &asked.role, "")
            .await
            .unwrap();
        matrix.note("alice", "approve after rejecting", 200, replayed.status);
        matrix.note(
            "alice",
            "approve after rejecting: says when she decided",
            true,
            replayed.body.contains("You decided on this request at"),
        );
        let late = callback::approve(&of_bob, &asked.role, "").await.unwrap();
        matrix.note(
            "bob",
            "approve after alice rejected: says who and when",
            true,
            late.body.contains("Decided by Alice Example, at"),
        );
        matrix.note(
            "bob",
            "approve after alice rejected",
            false,
            was_ever_opened(stack, &asked).await,
        );
        matrix.check();
    });
}

#[test]
fn forged_rows_and_callbacks_open_nothing() {
    on_stack(async |stack| {
        let mut matrix = Matrix::about("forged rows and callbacks");
        // Two must approve, so that the one real vote below is not enough by itself.
        let role = new_role(stack, json!({ "required_approvals": 2 })).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let execution = &asked.execution;
        stack
            .wait_for_state(execution, "Await Approval", SOON)
            .await
            .unwrap();
        let id = request_id(stack, execution).await;
        let token = stack.task_token(&id, SOON).await.unwrap();
        let failed = stack
            .aws()
            .aws(&[
                "stepfunctions",
                "send-task-failure",
                "--task-token",
                &token,
                "--error",
                "Approved",
                "--cause",
                "approved",
            ])
            .await;
        matrix.note(
            "token thief",
            "SendTaskFailure is sent",
            true,
            failed.is_ok(),
        );
        let (start, end) = (
            Utc::now() - TimeDelta::minutes(1),
            Utc::now() + TimeDelta::minutes(5),
        );
        let seconds =
            |at: chrono::DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let window = json!({
            "request_id": id,
            "window": { "start": seconds(start), "end": seconds(end) },
            "ended_at": null,
        });
        let windows_key = format!("windows#{TARGET}#{}", asked.role);
        put_item(
            stack,
            json!({
                "pk": { "S": windows_key }, "sk": { "S": id }, "version": { "N": "1" },
                "kind": { "S": "window" }, "document": { "S": window.to_string() },
            }),
        )
        .await;
        let swept = stack.invoke("ReconcileFunction", &json!({})).await;
        matrix.note(
            "table writer",
            "a window row; reconcile runs",
            true,
            swept.is_ok(),
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        matrix.note(
            "table writer",
            "a window row",
            false,
            was_ever_opened(stack, &asked).await,
        );
        delete_item(stack, &windows_key, &id).await;

        // A vote that nobody cast, with a seal that nobody made.
        let vote = json!({
            "vote": { "approver": APPROVERS[0], "verdict": "approve", "at": Utc::now().to_rfc3339(), "comment": "" },
            "seal": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        });
        put_item(
            stack,
            json!({
                "pk": { "S": format!("vote#{id}") }, "sk": { "S": APPROVERS[0] }, "version": { "N": "1" },
                "document": { "S": vote.to_string() },
            }),
        )
        .await;
        // Whatever wakes it now finds that vote.
        let of_bob = link_to(stack, APPROVERS[1], &asked.role, execution).await;
        callback::approve(&of_bob, &asked.role, "").await.unwrap();
        let ended = outcome(stack, execution).await;
        matrix.note(
            "table writer",
            "a vote row with a forged seal",
            "refused",
            ended.outcome(),
        );
        matrix.note(
            "table writer",
            "why",
            "NotApproved",
            ended.fault_names().join(", "),
        );
        matrix.note(
            "table writer",
            "a vote row with a forged seal: ever opened",
            false,
            was_ever_opened(stack, &asked).await,
        );
        matrix.check();
    });
}

#[test]
fn a_requester_who_is_the_sole_approver_is_refused_at_once() {
    on_stack(async |stack| {
        let role = new_role(stack, json!({ "approvers": [REQUESTER] })).await;
        let execution = super::fixture::file(stack, &role, json!({})).await;
        let ended = outcome(stack, &execution).await;
        let mut matrix = Matrix::about("the requester as sole approver");
        let why = ended.fault_names().join(", ");
        matrix.note("requester", "ask for it", "refused", ended.outcome());
        matrix.note("requester", "why", "TooFewApprovers", why);
        matrix.check();
    });
}

#[test]
fn two_people_at_the_same_instant_are_both_answered_two_hundred_times() {
    on_stack(async |stack| {
        // One request through the state machine is the pattern; the others stand in the table only, since what decides
        // between two votes is the table's conditional writes and the page before them.
        let role = new_role(stack, json!({ "required_approvals": 2 })).await;
        let asked = ask_for(stack, &role, json!({ "duration": "PT30M" })).await;
        let table = table(stack);
        let (base, segment) = asked.link.rsplit_once('/').unwrap();
        let (pattern, _) = Link::parse(segment).unwrap();
        let key = link_key(stack, &pattern.key_id);
        let request = table.request(&pattern.request_id).await.unwrap().request;
        let mut seen = std::collections::BTreeMap::<String, u64>::new();
        for round in 0..ROUNDS {
            let mut request = request.clone();
            request.request_id =
                RequestId::of_execution("same instant", i64::try_from(round).unwrap());
            let both_approve = round % 2 == 0;
            // With one approval enough, the two of them race for the decision.
            request.required_approvals = if round % 4 < 2 { 2 } else { 1 };
            assert!(table.create_request(&request).await.unwrap());
            let digest = table.request(&request.request_id).await.unwrap().digest;
            let mut links = Vec::new();
            for approver in APPROVERS {
                let link = Link {
                    request_id: request.request_id.clone(),
                    person: PersonId::new(approver).unwrap(),
                    digest: digest.clone(),
                    ..pattern.clone()
                };
                let mac = key.seal(&link.sealed_text()).await.unwrap();
                links.push(format!("{base}/{}", link.to_segment(&mac)));
            }
            let second = async {
                if both_approve {
                    callback::approve(&links[1], &role, "").await
                } else {
                    callback::reject(&links[1], "no").await
                }
            };
            let (first, second) = tokio::join!(callback::approve(&links[0], &role, ""), second);
            let (first, second) = (first.unwrap(), second.unwrap());
            assert_eq!(
                (first.status, second.status),
                (200, 200),
                "round {round}: {} {}",
                first.body,
                second.body
            );
            let stored = table.request(&request.request_id).await.unwrap();
            let votes = table.votes(&request.request_id).await.unwrap();
            assert_eq!(
                u64::try_from(votes.len()).unwrap(),
                stored.n_votes,
                "round {round}"
            );
            let n_needed = u64::from(request.required_approvals);
            let expected: &[Status] = match (both_approve, n_needed) {
                (true, _) => &[Status::Approved],
                (false, 1) => &[Status::Approved, Status::Rejected],
                (false, _) => &[Status::Rejected],
            };
            assert!(
                expected.contains(&stored.status),
                "round {round}: {:?}",
                stored.status
            );
            if stored.status == Status::Approved {
                assert!(
                    stored.n_votes >= n_needed && stored.window.is_some(),
                    "round {round}"
                );
            }
            let what = if both_approve {
                "both approve"
            } else {
                "one approves, one rejects"
            };
            *seen
                .entry(format!(
                    "{what}, {n_needed} needed: {}",
                    stored.status.as_str()
                ))
                .or_default() += 1;
        }
        let mut matrix = Matrix::about("two people at the same instant");
        for (what, times) in &seen {
            println!("{what}: {times} times");
        }
        let answered = seen.values().sum::<u64>();
        matrix.note(
            "two approvers",
            "decide at the same instant: times both are answered, and the table agrees",
            ROUNDS,
            answered,
        );
        matrix.check();
        callback::reject(&asked.link, "enough").await.unwrap();
        assert_eq!(outcome(stack, &asked.execution).await.outcome(), "rejected");
    });
}
