//! Lines of the record, one of each kind: as they were written once, they stay.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used)]

use access_contract::record::{By, Event, Line, Part, VERSION};
use access_core::{
    Decision, Digest, EndedAs, Fault, FaultName, Narrowing, Verdict, Window, WindowSpec,
};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// A name, as its type reads it.
fn name<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(json!(text)).unwrap()
}

fn lines() -> Vec<String> {
    let window = Window::new(at(0), at(3600)).unwrap();
    let (target, role) = (|| name("orders-prod"), || name("breakglass"));
    let faults = [Fault::new(
        FaultName::WindowTooLong,
        "$",
        "ask for at most PT8H",
    )];
    let events = vec![
        (
            Part::FrontDoor,
            Event::Asked {
                execution_arn: "arn:e".to_owned(),
                request: json!({"target": "orders-prod"}),
            },
        ),
        (
            Part::ComputeWait,
            Event::Requested {
                execution_arn: "arn:e".to_owned(),
                target: target(),
                role: role(),
                requester_verified: true,
                reason: "INC-1".to_owned(),
                window: WindowSpec::Fixed { window },
                decide_by: at(60),
                approvers: vec![name("alice"), name("bob")],
                required_approvals: 1,
                digest: Digest::of("x"),
            },
        ),
        (
            Part::ComputeWait,
            Event::refused(Some(target()), Some(role()), &faults),
        ),
        (Part::EnableLogin, Event::refused(None, None, &[])),
        (
            Part::ConfirmRequester,
            Event::RequesterConfirmed {
                event_id: "e-1".to_owned(),
            },
        ),
        (
            Part::Approval,
            Event::CallRefused {
                route: "POST /requests/{id}/decision".to_owned(),
                error: "own_request".to_owned(),
                message: "nobody approves their own request".to_owned(),
            },
        ),
        (
            Part::Approval,
            Event::Voted {
                verdict: Verdict::Approve,
                comment: "ok".to_owned(),
                narrowing: Narrowing::new(None, Some(at(1800))),
            },
        ),
        (
            Part::Approval,
            Event::Decided {
                decision: Decision::Approved {
                    at: at(30),
                    by: vec![name("alice")],
                },
                window: Some(window),
            },
        ),
        (
            Part::Approval,
            Event::Decided {
                decision: Decision::Expired { at: at(60) },
                window: None,
            },
        ),
        (Part::Approval, Event::GlassBroken { window }),
        (
            Part::Approval,
            Event::Reviewed {
                comment: "fine".to_owned(),
            },
        ),
        (
            Part::Approval,
            Event::Cancelled {
                ended_as: EndedAs::Requester,
                reason: "not needed".to_owned(),
            },
        ),
        (Part::EnableLogin, Event::Armed { window }),
        (Part::EnableLogin, Event::Opened),
        (
            Part::DisableLogin,
            Event::WindowEnded {
                ended_by: "the execution is ABORTED".to_owned(),
            },
        ),
        (
            Part::Approval,
            Event::EndedByPerson {
                ended_as: EndedAs::Operator,
                reason: "done".to_owned(),
            },
        ),
        (
            Part::DisableLogin,
            Event::Closed {
                n_sessions_ended: 2,
                login_refused_at: Some(at(3600)),
                sessions_gone_at: Some(at(3601)),
                n_grave: 1,
                left_behind: vec![
                    "GRAVE + cluster: role: intruder".to_owned(),
                    "- orders: table: public.old".to_owned(),
                ],
            },
        ),
        (
            Part::DisableLogin,
            Event::EndedRoleStillOpen {
                open_until: at(7200),
            },
        ),
        (
            Part::Reconcile,
            Event::Adopted {
                target: target(),
                role: role(),
                database_user: "dba".to_owned(),
                window,
            },
        ),
        (Part::Reconcile, Event::AdoptedOver),
        (
            Part::Reconcile,
            Event::AccessFound {
                target: target(),
                role: role(),
                can_login: true,
                n_sessions: 1,
            },
        ),
        (
            Part::Reconcile,
            Event::AccessCut {
                target: target(),
                role: role(),
                n_sessions_ended: 1,
            },
        ),
        (
            Part::Notify,
            Event::MessageSent {
                message: "asked".to_owned(),
                to: name("alice"),
            },
        ),
        (
            Part::Notify,
            Event::MessageNotSent {
                message: "opened".to_owned(),
                to: name("riko"),
                error: "MessageNotSent".to_owned(),
            },
        ),
    ];
    let by = Some(By::person(
        &name("riko"),
        Some("arn:aws:iam::123456789012:user/riko"),
    ));
    events
        .into_iter()
        .map(|(part, event)| {
            let line = Line {
                version: VERSION,
                at: at(1),
                request_id: Some(name("r-0123456789abcdef")),
                part,
                by: by.clone(),
                event,
            };
            line.to_json().unwrap()
        })
        .collect()
}

#[test]
fn each_kind_of_line_is_as_it_was_written_once() {
    let recorded = include_str!("recorded/record-1.jsonl");
    assert_eq!(lines().join("\n") + "\n", recorded);
}

#[test]
fn each_kind_of_line_is_documented_with_its_fields() {
    let document = include_str!("../../../docs/record.md");
    for line in lines() {
        let line: Value = serde_json::from_str(&line).unwrap();
        let event = line["event"].as_str().unwrap();
        let row = document
            .lines()
            .find(|row| row.starts_with(&format!("| `{event}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/record.md does not know {event}"));
        let of_all = ["version", "at", "request_id", "part", "by", "event"];
        for field in line
            .as_object()
            .unwrap()
            .keys()
            .filter(|field| !of_all.contains(&field.as_str()))
        {
            assert!(
                row.contains(&format!("`{field}`")),
                "{event}: {field} is not documented"
            );
        }
    }
}
