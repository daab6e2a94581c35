//! Requests that must be refused: with the right names, all at once, and the login never opened.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::stack::{ROLE, Stack, TARGET};

use super::fixture::{file, merge, new_role, on_stack, outcome, row_version};

/// Files the plain request with `change` made to it, and expects exactly these faults.
async fn refused(stack: &Stack, change: Value, faults: &[&str]) {
    let role = change["role"].as_str().unwrap_or(ROLE);
    let before = row_version(stack, role).await;
    let execution = file(stack, ROLE, change.clone()).await;
    let ended = outcome(stack, &execution).await;
    assert_eq!(ended.outcome(), "refused", "{change}: {}", ended.output);
    let mut found = ended.fault_names();
    found.sort_unstable();
    assert_eq!(found, faults, "{change}: {}", ended.output);
    for fault in ended.output["faults"].as_array().unwrap() {
        let message = fault["message"].as_str().unwrap();
        assert!(
            !message.is_empty() && fault["path"].as_str().unwrap().starts_with('$'),
            "{fault}"
        );
    }
    assert_eq!(row_version(stack, role).await, before, "opened: {change}");
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    on_stack(async |stack| {
        let at = |minutes: i64| (Utc::now() + TimeDelta::minutes(minutes)).to_rfc3339();
        let from_to =
            |start: i64, end: i64| json!({ "duration": null, "start": at(start), "end": at(end) });
        refused(stack, from_to(20, 10), &["EndNotAfterStart"]).await;
        refused(
            stack,
            json!({ "duration": null, "end": at(-5) }),
            &["EndInThePast"],
        )
        .await;
        refused(stack, json!({ "duration": "PT2H" }), &["WindowTooLong"]).await;
        refused(
            stack,
            json!({ "start": at(60 * 24 * 30) }),
            &["StartTooFarAhead"],
        )
        .await;
        refused(
            stack,
            json!({ "duration": null, "end": "tomorrow" }),
            &["InvalidTime"],
        )
        .await;
        refused(
            stack,
            json!({ "duration": "a while" }),
            &["InvalidDuration"],
        )
        .await;
        refused(stack, json!({ "duration": null }), &["ConflictingFields"]).await;
        // In the same second there is no whole second between start and end.
        let same_second = json!({ "duration": null, "start": "2100-01-01T10:00:00.2Z", "end": "2100-01-01T10:00:00.8Z" });
        refused(stack, same_second, &["EndNotAfterStart"]).await;
    });
}

#[test]
fn local_times_that_are_not_one_moment_are_refused() {
    on_stack(async |stack| {
        let mut in_berlin = stack.database_document().clone();
        merge(&mut in_berlin, json!({ "time_zone": "Europe/Berlin" }));
        stack
            .put_catalogue("databases/berlin", &in_berlin)
            .await
            .unwrap();
        let mut nowhere = in_berlin;
        merge(&mut nowhere, json!({ "time_zone": null }));
        stack
            .put_catalogue("databases/nowhere", &nowhere)
            .await
            .unwrap();
        for target in ["berlin", "nowhere"] {
            let mut role = Stack::role_document(ROLE);
            merge(&mut role, json!({ "max_ahead": "P700D" }));
            stack
                .put_catalogue(&format!("roles/{target}/{ROLE}"), &role)
                .await
                .unwrap();
        }
        let starting = |target: &str, start: &str| json!({ "target": target, "start": start });
        // Clocks in Berlin go forward on 28 March 2027 at 02:00 and back on 31 October 2027 at 03:00.
        refused(
            stack,
            starting("berlin", "2027-03-28T02:30:00"),
            &["NonexistentLocalTime"],
        )
        .await;
        refused(
            stack,
            starting("berlin", "2027-10-31T02:30:00"),
            &["AmbiguousLocalTime"],
        )
        .await;
        refused(
            stack,
            starting("nowhere", "2027-03-28T12:00:00"),
            &["TimeWithoutOffset"],
        )
        .await;
    });
}

#[test]
fn names_that_are_not_in_the_catalogue_or_never_can_be_are_refused() {
    on_stack(async |stack| {
        refused(stack, json!({ "target": "elsewhere" }), &["UnknownTarget"]).await;
        refused(stack, json!({ "role": "nobody" }), &["UnknownRole"]).await;
        refused(
            stack,
            json!({ "requester": "mallory" }),
            &["UnknownRequester"],
        )
        .await;
        for protected in [
            "pg_monitor",
            "rds_superuser",
            "rds_replication",
            "latchkey_opener",
            "latchkey_owner",
        ] {
            refused(stack, json!({ "role": protected }), &["ProtectedRole"]).await;
        }
        let too_long = "r".repeat(64);
        // Not in NFC; with a control character; with a direction mark; with nothing in it.
        for name in [
            too_long.as_str(),
            "cafe\u{301}",
            "break\u{7}glass",
            "break\u{202e}ssalg",
            "",
        ] {
            refused(stack, json!({ "role": name }), &["InvalidName"]).await;
        }
    });
}

#[test]
fn documents_that_are_not_requests_are_refused_with_all_their_faults() {
    on_stack(async |stack| {
        refused(stack, json!({ "reason": "" }), &["ReasonEmpty"]).await;
        refused(stack, json!({ "reason": " \t " }), &["ReasonEmpty"]).await;
        refused(
            stack,
            json!({ "reason": "x".repeat(1001) }),
            &["ReasonTooLong"],
        )
        .await;
        refused(stack, json!({ "urgent": true }), &["UnknownField"]).await;
        refused(stack, json!({ "role": 7 }), &["WrongType"]).await;
        refused(stack, json!({ "requester": null }), &["MissingField"]).await;
        let everything =
            json!({ "target": "elsewhere", "reason": "", "urgent": true, "duration": "PT0S" });
        refused(
            stack,
            everything,
            &[
                "InvalidDuration",
                "ReasonEmpty",
                "UnknownField",
                "UnknownTarget",
            ],
        )
        .await;
    });
}

#[test]
fn the_database_owner_has_the_last_word() {
    on_stack(async |stack| {
        // In the catalogue, but the database does not know it: the DBA never registered it.
        let unregistered = json!({ "role": "unregistered" });
        let mut document = Stack::role_document("unregistered");
        merge(&mut document, unregistered.clone());
        stack
            .put_catalogue(&format!("roles/{TARGET}/unregistered"), &document)
            .await
            .unwrap();
        refused(stack, unregistered, &["RoleNotRegistered"]).await;

        // Registered for eight hours, whatever the catalogue allows.
        let role = new_role(stack, json!({ "max_duration": "PT12H" })).await;
        refused(
            stack,
            json!({ "role": role, "duration": "PT9H" }),
            &["WindowTooLongForDatabase"],
        )
        .await;
    });
}
