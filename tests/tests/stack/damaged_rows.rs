//! What is wrong with one window, one document or one role keeps nobody from looking after the others, and is counted.

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use xtask::postgres::LATCHKEY_DATABASE;
use xtask::stack::{APPROVERS, Stack, TARGET};

use super::attacks::delete_item;
use super::fixture::{alone_on_stack, ask_for, can_log_in, new_role, put_row, request_id, row};
use super::listing::see;

/// A row with these fields beside its key.
fn item(pk: &str, sk: &str, more: Value) -> Value {
    let mut item = json!({ "pk": { "S": pk }, "sk": { "S": sk }, "version": { "N": "1" } });
    for (name, value) in more.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

async fn as_superuser(stack: &Stack, statement: &str) {
    let superuser = &stack.postgres().accounts().superuser;
    let session = stack.postgres().log_in(superuser, LATCHKEY_DATABASE);
    let session = session.await.unwrap();
    session.batch_execute(statement).await.unwrap();
}

async fn round(stack: &Stack) -> Value {
    stack.invoke("ReconcileFunction", &json!({})).await.unwrap()
}

#[test]
fn rows_that_cannot_be_read_hide_no_access_and_no_list() {
    alone_on_stack(async |stack| {
        let role = new_role(stack, json!({ "mode": "enforce" })).await;
        let (damaged, no_id) = ("r-0000000000000bad", "no-id-of-a-request");
        let request = format!("request#{damaged}");
        let unreadable = json!({ "document": { "S": "{" }, "status": { "S": "open" } });
        put_row(stack, &item(&request, "request", unreadable)).await;
        let window = json!({ "document": { "S": "{" }, "kind": { "S": "window" } });
        for id in [damaged, no_id] {
            put_row(stack, &item("windows#nowhere#nobody", id, window.clone())).await;
        }
        // A closing that was killed long ago, which nobody withdrew.
        let windows = format!("windows#{TARGET}#{role}");
        let killed = json!({ "killed": { "S": "\"2020-01-01T00:00:00Z\"" } });
        put_row(stack, &item(&windows, "closings", killed)).await;
        as_superuser(stack, &format!("ALTER ROLE {role} LOGIN")).await;
        assert!(can_log_in(stack, &role).await);

        let found = round(stack).await;
        assert_eq!(found["n_not_asked"], 2, "{found}");
        assert!(!can_log_in(stack, &role).await, "{found}");
        let closings = row(stack, &windows, "closings").await;
        assert!(closings.get("pk").is_some(), "{closings}");
        assert!(closings.get("killed").is_none(), "{closings}");
        let alice = stack.keys_of(APPROVERS[0]).unwrap();
        let listed = see(stack, Some(alice), "/access").await;
        assert_eq!(listed.status, 200, "{listed:?}");

        delete_item(stack, &request, "request").await;
        for id in [damaged, no_id] {
            delete_item(stack, "windows#nowhere#nobody", id).await;
        }
        let found = round(stack).await;
        assert_eq!(found["n_not_asked"], 0, "{found}");
    });
}

#[test]
fn a_faulty_document_is_counted_instead_of_turning_enforce_into_observe_unseen() {
    alone_on_stack(async |stack| {
        let role = new_role(stack, json!({ "mode": "enforce" })).await;
        let names = [
            format!("roles/{TARGET}/{role}"),
            "databases/faulty".to_owned(),
        ];
        for name in &names {
            let faulty = json!({ "role": role, "approvers": 7 });
            stack.put_catalogue(name, &faulty).await.unwrap();
        }
        let found = round(stack).await;
        assert_eq!(found["n_not_asked"], 2, "{found}");
        let prefix = stack.output("CataloguePrefix").unwrap();
        for name in &names {
            let name = format!("{prefix}/{name}");
            let delete = ["ssm", "delete-parameter", "--name", &name];
            stack.aws().aws(&delete).await.unwrap();
        }
        let found = round(stack).await;
        assert_eq!(found["n_not_asked"], 0, "{found}");
    });
}

#[test]
fn a_registered_role_that_no_request_can_name_is_counted_while_it_can_log_in() {
    alone_on_stack(async |stack| {
        let name = "\"odd\u{202e}name\"";
        let before = round(stack).await["n_not_closed"].as_u64().unwrap();
        let register = format!(
            "CREATE ROLE {name}; GRANT {name} TO {} WITH ADMIN OPTION",
            stack.postgres().accounts().master.user
        );
        as_superuser(stack, &register).await;
        let master = &stack.postgres().accounts().master;
        let master = stack.postgres().log_in(master, LATCHKEY_DATABASE).await;
        let master = master.unwrap();
        let register = "SELECT latchkey.register('odd\u{202e}name', '1 hour')";
        master.batch_execute(register).await.unwrap();
        as_superuser(stack, &format!("ALTER ROLE {name} LOGIN")).await;
        let found = round(stack).await;
        // Other names of this server in the catalogue see it too.
        assert!(found["n_not_closed"].as_u64().unwrap() > before, "{found}");

        as_superuser(stack, &format!("ALTER ROLE {name} NOLOGIN")).await;
        let found = round(stack).await;
        assert_eq!(found["n_not_closed"], before, "{found}");
        let unregister = "SELECT latchkey.unregister('odd\u{202e}name')";
        master.batch_execute(unregister).await.unwrap();
    });
}

#[test]
fn a_window_is_finished_and_overdue_although_its_execution_cannot_be_asked_after() {
    alone_on_stack(async |stack| {
        let role = new_role(stack, json!({})).await;
        let asked = ask_for(stack, &role, json!({})).await;
        let id = request_id(stack, &asked.execution).await;
        let stored = row(stack, &format!("request#{id}"), "request").await;
        let mut document: Value =
            serde_json::from_str(stored["document"]["S"].as_str().unwrap()).unwrap();
        // Another request, whose window is over for long, of an execution whose ARN is none.
        let other = "r-00000000000000ff";
        document["request_id"] = json!(other);
        document["execution_arn"] = json!("no-arn");
        let request = format!("request#{other}");
        let open = json!({
            "document": { "S": document.to_string() },
            "status": { "S": "open" },
            "n_votes": { "N": "0" },
        });
        put_row(stack, &item(&request, "request", open)).await;
        let at = |ago: i64| {
            let at = Utc::now() - TimeDelta::seconds(ago);
            at.to_rfc3339_opts(SecondsFormat::Secs, true)
        };
        let window = json!({
            "request_id": other,
            "window": { "start": at(600), "end": at(300) },
            "ended_at": null,
        });
        let windows = format!("windows#{TARGET}#{role}");
        let window = json!({ "document": { "S": window.to_string() }, "kind": { "S": "window" } });
        put_row(stack, &item(&windows, other, window)).await;

        let found = round(stack).await;
        assert_eq!(found["n_not_asked"], 1, "{found}");
        assert!(
            found["overdue_seconds"].as_f64().unwrap() > 290.0,
            "{found}"
        );
        // It has got a closing of its own.
        while row(stack, &request, "request").await["status"]["S"] != "closed" {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert!(row(stack, &windows, other).await.is_null());
        stack.stop_execution(&asked.execution).await.unwrap();
    });
}

/// Each of two closings is tried for half of what the database's round may take.
#[test]
fn roles_that_cannot_be_closed_take_nothing_from_the_others() {
    alone_on_stack(async |stack| {
        let enforced = async || new_role(stack, json!({ "mode": "enforce" })).await;
        let stuck = [enforced().await, enforced().await];
        let (by_hand, last) = (enforced().await, enforced().await);
        let master = &stack.postgres().accounts().master;
        let master = stack.postgres().log_in(master, LATCHKEY_DATABASE).await;
        let open = "SELECT latchkey.open_by_hand($1, now() + interval '10 minutes', 'outage')";
        master.unwrap().execute(open, &[&by_hand]).await.unwrap();
        for role in stuck.iter().chain([&last]) {
            as_superuser(stack, &format!("ALTER ROLE {role} LOGIN")).await;
        }
        let superuser = &stack.postgres().accounts().superuser;
        let holder = stack.postgres().log_in(superuser, LATCHKEY_DATABASE).await;
        let holder = holder.unwrap();
        let [first, second] = &stuck;
        let hold = format!(
            "BEGIN; ALTER ROLE {first} CONNECTION LIMIT 9; ALTER ROLE {second} CONNECTION LIMIT 9"
        );
        holder.batch_execute(&hold).await.unwrap();

        let found = round(stack).await;
        assert!(found["n_not_closed"].as_u64().unwrap() >= 2, "{found}");
        assert!(found["n_by_hand"].as_u64().unwrap() > 0, "{found}");
        assert!(!can_log_in(stack, &last).await, "{found}");
        assert!(can_log_in(stack, &by_hand).await, "{found}");

        holder.batch_execute("ROLLBACK").await.unwrap();
        let found = round(stack).await;
        for role in &stuck {
            assert!(!can_log_in(stack, role).await, "{found}");
        }
        as_superuser(stack, &format!("ALTER ROLE {by_hand} NOLOGIN")).await;
    });
}
