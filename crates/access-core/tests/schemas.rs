//! The published JSON Schemas and the reader in Rust agree on what is sound and what is not.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used)]

use access_core::catalogue::{Kind, check_document};
use access_core::{Faults, RequestDraft};
use serde_json::{Value, json};

const DATABASE: &str = include_str!("../schemas/database.schema.json");
const ACCOUNT: &str = include_str!("../schemas/account.schema.json");
const ROLE: &str = include_str!("../schemas/role.schema.json");
const PERSON: &str = include_str!("../schemas/person.schema.json");
const REQUEST: &str = include_str!("../schemas/request.schema.json");

/// Both say yes to `sound`; both say no to each change of it.
fn check(
    schema: &str,
    accepts: impl Fn(&Value) -> bool,
    sound: &[Value],
    changes: &[(&str, Value)],
) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for document in sound {
        assert!(schema.is_valid(document), "the schema refuses {document}");
        assert!(accepts(document), "the reader refuses {document}");
    }
    for (pointer, value) in changes {
        let mut document = sound[0].clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = document
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap();
        if value.is_null() {
            parent.remove(field);
        } else {
            parent.insert(field.to_owned(), value.clone());
        }
        assert!(!schema.is_valid(&document), "the schema accepts {document}");
        assert!(!accepts(&document), "the reader accepts {document}");
    }
}

fn reader(kind: Kind) -> impl Fn(&Value) -> bool {
    move |document| check_document(kind, &document.to_string()).is_empty()
}

#[test]
fn databases() {
    let login =
        |user: &str| json!({"user": user, "secret": "arn:aws:secretsmanager:eu-west-1:1:secret:x"});
    let assume = |role: &str, external_id: &str| json!({"role": format!("arn:aws:iam::210987654321:role/{role}"), "external_id": external_id});
    let at = |place: Value| {
        let mut document = json!({"database": "latchkey", "opener": login("o"), "closer": login("c"), "ca": "rds"});
        document
            .as_object_mut()
            .unwrap()
            .extend(place.as_object().unwrap().clone());
        document
    };
    let sound = [
        at(
            json!({"host": "db", "port": 5432, "readers": [{"host": "r1"}, {"host": "r2", "port": 5433}]}),
        ),
        at(json!({"cluster": "orders", "time_zone": "Asia/Tokyo", "region": "eu-west-1"})),
        at(json!({"cluster": "orders", "readers": [{"host": "in-another-region"}]})),
        at(
            json!({"instance": "orders-1", "ca": {"parameter": "/ca"}, "closer": {"user": "c", "iam": true}}),
        ),
        at(json!({"host": "db", "opener": {"user": "o", "secret": "arn:x", "iam": false}})),
        at(json!({
            "cluster": "orders",
            "opener": {"user": "o", "iam": true, "assume": assume("latchkey/opener/Orders", "deployment:1")},
            "closer": {"user": "c", "iam": true, "assume": assume("latchkey/closer/Orders", "deployment:1")},
        })),
    ];
    let changes = [
        ("/host", Value::Null),
        ("/cluster", json!("orders")),
        ("/port", json!(0)),
        ("/port", json!("5432")),
        ("/readers", json!([{"port": 1}])),
        ("/database", Value::Null),
        ("/opener", json!({"user": "o"})),
        ("/opener/iam", json!(true)),
        ("/opener/secret", json!("name")),
        ("/opener/password", json!("x")),
        (
            "/opener/assume",
            json!("arn:aws:iam::210987654321:role/Orders"),
        ),
        (
            "/opener/assume",
            json!({"role": "arn:aws:iam::210987654321:role/Orders"}),
        ),
        ("/opener/assume", assume("*", "deployment:1")),
        ("/opener/assume", assume("Orders/", "deployment:1")),
        ("/opener/assume", assume("Orders", "1")),
        ("/opener/assume", assume("Orders", "a b")),
        ("/closer", json!("c")),
        ("/ca", json!("mine")),
        ("/ca", json!({"parameter": "/ca", "object": "x"})),
        ("/tls", json!(false)),
    ];
    check(DATABASE, reader(Kind::Database), &sound, &changes);
}

#[test]
fn accounts() {
    let assumed = |name: &str| json!({"role": format!("arn:aws:iam::210987654321:role/latchkey/{name}"), "external_id": "deployment:1"});
    let sound = [
        json!({"account": "210987654321", "granter": assumed("granter/A"), "revoker": assumed("revoker/A"), "time_zone": "Asia/Tokyo"}),
        json!({"account": "123456789012"}),
    ];
    let changes = [
        ("/account", Value::Null),
        ("/account", json!("21098765432")),
        ("/account", json!(210987654321_u64)),
        ("/granter", Value::Null),
        ("/revoker", Value::Null),
        (
            "/granter",
            json!({"role": "arn:aws:iam::210987654321:role/A"}),
        ),
        ("/revoker/external_id", json!("1")),
        ("/region", json!("eu-west-1")),
    ];
    check(ACCOUNT, reader(Kind::Account), &sound, &changes);
}

#[test]
fn roles_that_people_assume() {
    let sound = json!({
        "role": "orders-admin", "kind": "assume-role",
        "assume_role": {"role": "arn:aws:iam::210987654321:role/latchkey/privileged/OrdersAdmin", "max_session": "PT1H", "live_sessions": "run_out"},
        "approvers": ["alice", "bob"], "required_approvals": 1,
        "max_duration": "PT8H", "max_ahead": "P7D", "approval_deadline": "4h", "mode": "enforce"
    });
    let changes = [
        ("/kind", json!("login")),
        ("/kind", Value::Null),
        ("/assume_role", Value::Null),
        (
            "/assume_role",
            json!("arn:aws:iam::210987654321:role/OrdersAdmin"),
        ),
        ("/assume_role/role", json!("OrdersAdmin")),
        ("/assume_role/max_session", Value::Null),
        ("/assume_role/live_sessions", json!("ignored")),
        ("/assume_role/path", json!("/")),
        ("/credential", json!("per_window")),
    ];
    check(ROLE, reader(Kind::Role), &[sound], &changes);
}

#[test]
fn roles() {
    let sound = json!({
        "role": "breakglass", "approvers": ["alice", "bob"], "required_approvals": 1,
        "max_duration": "PT8H", "max_ahead": "P7D", "approval_deadline": "4h", "mode": "observe"
    });
    let changes = [
        ("/role", json!("")),
        ("/role", json!("x".repeat(64))),
        ("/role", json!("PG_monitor")),
        ("/role", json!("rdsadmin")),
        ("/kind", json!("sudo")),
        ("/kind", json!(true)),
        ("/kind", json!("membership")),
        ("/membership", json!({"role": "dba", "user": "riko"})),
        ("/approvers", json!([])),
        ("/approvers", json!(["Alice"])),
        ("/approvers", json!(["alice", "alice"])),
        ("/required_approvals", json!(0)),
        ("/required_approvals", json!(1.5)),
        ("/max_duration", json!(8)),
        ("/min_duration", json!(8)),
        ("/mode", json!("off")),
        ("/mode", Value::Null),
        ("/credential", json!("shared")),
        ("/credential", json!(true)),
        ("/decide_by", json!("link")),
        ("/shared", json!("yes")),
        ("/operators", json!(["Olga"])),
        ("/operators", json!(["olga", "olga"])),
        ("/topic", json!("arn:x")),
    ];
    let with = |field: &str, value: Value| {
        let mut document = sound.clone();
        document[field] = value;
        document
    };
    let membership = |membership: Value| {
        let mut document = with("kind", json!("membership"));
        document["membership"] = membership;
        document
    };
    let sound = [
        sound.clone(),
        with("kind", json!("login")),
        membership(json!({"role": "rds_superuser", "user": "riko"})),
        with("min_duration", json!("PT5M")),
        with("credential", json!("existing")),
        with("credential", json!("per_window")),
        with("shared", json!(true)),
    ];
    check(ROLE, reader(Kind::Role), &sound, &changes);

    let sound = membership(json!({"role": "pg_monitor", "user": "riko"}));
    let changes = [
        ("/kind", Value::Null),
        ("/kind", json!("login")),
        ("/membership", Value::Null),
        ("/membership", json!("dba")),
        ("/membership/role", Value::Null),
        ("/membership/role", json!("latchkey_owner")),
        ("/membership/user", json!("RDSadmin")),
        ("/membership/user", json!("x".repeat(64))),
        ("/membership/admin", json!(true)),
        ("/credential", json!("per_window")),
    ];
    check(ROLE, reader(Kind::Role), &[sound], &changes);
}

#[test]
fn people() {
    let sound = json!({
        "id": "alice", "name": "Alice", "mailbox": "alice@example.com", "language": "ja",
        "principals": [
            "arn:aws:iam::123456789012:user/alice",
            {"role": "arn:aws:iam::123456789012:role/team/Ops", "session_name": "alice@example.com"}
        ]
    });
    let changes = [
        ("/id", json!("Alice")),
        ("/name", json!("")),
        ("/name", json!("x".repeat(101))),
        ("/mailbox", json!("alice")),
        ("/mailbox", json!("a@b@c")),
        ("/language", json!("de")),
        ("/language", json!(["ja"])),
        ("/principals", json!(["alice"])),
        ("/principals", json!(["arn:aws:iam::123456789012:role/*"])),
        ("/principals", json!(["arn:aws:iam::123456789012:root"])),
        (
            "/principals",
            json!(["arn:aws:sts::123456789012:assumed-role/Ops/alice"]),
        ),
        ("/principals/1/session_name", json!("*")),
        ("/principals/1/session_name", Value::Null),
        (
            "/principals/1/role",
            json!("arn:aws:iam::123456789012:user/alice"),
        ),
        ("/principals/1/path", json!("/")),
        ("/phone", json!("1")),
    ];
    check(PERSON, reader(Kind::Person), &[sound], &changes);
}

#[test]
fn requests() {
    let accepts = |document: &Value| {
        let mut faults = Faults::new();
        RequestDraft::read(document, &mut faults);
        faults.is_empty()
    };
    let sound = json!({
        "target": "orders", "role": "breakglass", "start": "2026-06-01T13:00:00Z", "duration": "PT1H",
        "reason": "ticket 42", "requester": "riko"
    });
    let changes = [
        ("/target", json!("Orders!")),
        ("/target", Value::Null),
        ("/role", json!("x".repeat(64))),
        ("/duration", Value::Null),
        ("/end", json!("2026-06-01T13:00:00Z")),
        ("/reason", json!("")),
        ("/reason", json!("x".repeat(1001))),
        ("/requester", json!(["riko"])),
        ("/approvers", json!(["riko"])),
        ("/dry_run", json!("yes")),
    ];
    let mut dry_run = sound.clone();
    dry_run["dry_run"] = json!(true);
    check(REQUEST, accepts, &[sound, dry_run], &changes);
}
