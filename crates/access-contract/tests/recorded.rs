//! Payloads of every released version are still read: an old execution survives a new deployment.
//!
//! Never change a recorded file; add a folder for each release that writes something new.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used)]

use access_contract::payload::{
    Approval, ComputeWait, DisableLogin, EnableLogin, Notify, RevokePolicy,
};
use access_contract::seal::{self, SealedVote};
use access_core::{
    Decision, Digest, Fault, Faults, Finding, Location, Request, RequestDraft, RequestId, Review,
    WindowRow, WindowSpec,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn check<T: DeserializeOwned>(recorded: &Value, function: &str, n_expected: usize) {
    let payloads = recorded[function].as_array().unwrap();
    assert_eq!(payloads.len(), n_expected, "{function}");
    for payload in payloads {
        if let Err(error) = serde_json::from_value::<T>(payload.clone()) {
            panic!("{function} does not read {payload} any more: {error}");
        }
    }
}

#[test]
fn payloads_of_0_1() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/0.1/payloads.json")).unwrap();
    check::<ComputeWait>(&recorded, "compute-wait", 1);
    check::<EnableLogin>(&recorded, "enable-login", 2);
    check::<DisableLogin>(&recorded, "disable-login", 3);
    check::<Notify>(&recorded, "notify", 9);
    check::<Approval>(&recorded, "approval", 2);
}

#[test]
fn payloads_of_0_2() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/0.2/payloads.json")).unwrap();
    check::<ComputeWait>(&recorded, "compute-wait", 2);
    check::<EnableLogin>(&recorded, "enable-login", 1);
    check::<DisableLogin>(&recorded, "disable-login", 0);
    check::<Notify>(&recorded, "notify", 5);
    check::<Approval>(&recorded, "approval", 0);
    for asked in recorded["compute-wait"].as_array().unwrap() {
        let mut faults = Faults::new();
        let draft = RequestDraft::read(&asked["request"], &mut faults);
        assert_eq!(faults.as_slice(), [], "{asked}");
        assert!(draft.dry_run != draft.break_glass, "{asked}");
    }
}

#[test]
fn an_execution_and_its_status_event_name_the_same_request() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/0.1/payloads.json")).unwrap();
    let started: ComputeWait = serde_json::from_value(recorded["compute-wait"][0].clone()).unwrap();
    let by_context = RequestId::of_execution(
        &started.execution.arn,
        started.execution.started_at.timestamp_millis(),
    );
    let DisableLogin::ExecutionEnded {
        execution_arn,
        started_at_millis,
        ..
    } = serde_json::from_value(recorded["disable-login"][2].clone()).unwrap()
    else {
        panic!("the third one is the event");
    };
    assert_eq!(
        by_context,
        RequestId::of_execution(&execution_arn, started_at_millis)
    );
    // Recorded: a release that derived it otherwise would not find the requests of the one before.
    assert_eq!(by_context.as_str(), "r-qd1589184mhy6ynt");
}

#[test]
fn rows_of_0_1() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/0.1/rows.json")).unwrap();
    let request: Request = read(&recorded["request"]);
    assert_eq!(request.place.display_zone().name(), "Asia/Tokyo");
    // What is read is what would be written: nothing of an old row is dropped unseen.
    assert_eq!(serde_json::to_value(&request).unwrap(), recorded["request"]);
    for spec in recorded["window specs"].as_array().unwrap() {
        assert_eq!(
            serde_json::to_value(read::<WindowSpec>(spec)).unwrap(),
            *spec
        );
    }
    for location in recorded["locations"].as_array().unwrap() {
        assert_eq!(
            serde_json::to_value(read::<Location>(location)).unwrap(),
            *location
        );
    }
    assert_eq!(
        serde_json::to_value(read::<SealedVote>(&recorded["vote"])).unwrap(),
        recorded["vote"]
    );
    for decision in recorded["decisions"].as_array().unwrap() {
        assert_eq!(
            serde_json::to_value(read::<Decision>(decision)).unwrap(),
            *decision
        );
    }
    let windows: Vec<WindowRow> = read(&recorded["windows"]);
    assert_eq!(windows[0].opened_at, None);
    assert!(windows[1].ended_at.is_some());
}

#[test]
fn rows_of_0_2() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/0.2/rows.json")).unwrap();
    for request in recorded["requests"].as_array().unwrap() {
        let read: Request = read(request);
        assert_eq!(serde_json::to_value(&read).unwrap(), *request);
        assert!(read.break_glass.is_some() == read.grant.is_login());
    }
    let review: Review = read(&recorded["review"]);
    assert_eq!(serde_json::to_value(review).unwrap(), recorded["review"]);
    let faults: Vec<Fault> = read(&recorded["refusals"]);
    assert_eq!(serde_json::to_value(faults).unwrap(), recorded["refusals"]);
    let windows: Vec<WindowRow> = read(&recorded["windows"]);
    assert_eq!(serde_json::to_value(windows).unwrap(), recorded["windows"]);
    let sealed: SealedVote = read(&recorded["own vote"]);
    assert_eq!(serde_json::to_value(&sealed).unwrap(), recorded["own vote"]);
    let id = RequestId::new("r-0123456789abcdef").unwrap();
    assert_eq!(
        seal::break_glass_text(&id, &Digest::of("{}"), &sealed.vote),
        r#"["latchkey-break-glass-1","[\"latchkey-vote-3\",\"r-0123456789abcdef\",\"RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o\",\"riko\",\"approve\",\"2026-11-22T10:00:01.000123456Z\",\"\",null,null,\"arn:aws:iam::123456789012:user/riko\"]"]"#
    );
}

#[test]
fn the_seal_of_a_recorded_vote_covers_the_same_text() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/0.1/rows.json")).unwrap();
    let sealed: SealedVote = read(&recorded["vote"]);
    let id = RequestId::new("r-0123456789abcdef").unwrap();
    assert_eq!(
        seal::sealed_text(&id, &Digest::of("{}"), &sealed.vote),
        r#"["latchkey-vote-1","r-0123456789abcdef","RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o","alice","approve","2026-11-22T10:05:00.000123456Z","go"]"#
    );
}

#[test]
fn a_vote_that_narrows_is_read_as_it_was_written() {
    let recorded = serde_json::json!({
        "vote": {
            "approver": "alice", "verdict": "approve", "at": "2026-11-22T10:05:00.000123456Z", "comment": "go",
            "narrowing": { "start": "2026-11-22T11:10:00Z", "end": "2026-11-22T11:30:00Z" }
        },
        "seal": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    });
    let sealed: SealedVote = read(&recorded);
    assert_eq!(serde_json::to_value(&sealed).unwrap(), recorded);
    let id = RequestId::new("r-0123456789abcdef").unwrap();
    assert_eq!(
        seal::sealed_text(&id, &Digest::of("{}"), &sealed.vote),
        r#"["latchkey-vote-2","r-0123456789abcdef","RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o","alice","approve","2026-11-22T10:05:00.000123456Z","go","2026-11-22T11:10:00Z","2026-11-22T11:30:00Z"]"#
    );
}

#[test]
fn what_is_written_of_a_role_of_aws() {
    let recorded = include_str!("recorded/unreleased/assume-role.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let request: Request = read(&recorded["request"]);
    assert!(request.place.account().is_some() && request.grant.assume_role().is_some());
    assert_eq!(serde_json::to_value(&request).unwrap(), recorded["request"]);
    let findings: Vec<Finding> = read(&recorded["findings"]);
    assert_eq!(
        serde_json::to_value(&findings).unwrap(),
        recorded["findings"]
    );
    check::<DisableLogin>(&recorded, "disable-login", 1);
    check::<RevokePolicy>(&recorded, "revoke-policy", 5);
}

fn read<T: DeserializeOwned>(recorded: &Value) -> T {
    match serde_json::from_value(recorded.clone()) {
        Ok(read) => read,
        Err(error) => panic!("{recorded} is not read any more: {error}"),
    }
}
