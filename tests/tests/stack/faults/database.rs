//! Databases that are away, fail over, are lost from the catalogue, or hold a role that fights back.

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::join;
use xtask::login_probe::{Attempt, Session};
use xtask::postgres::{APPLICATION_DATABASE, LocalPostgres, Settings};
use xtask::stack::Stack;

use super::super::fixture::ask_for;
use super::evidence::{Defence, PROVED_WITHIN, Row, closed, until_proved};
use super::sessions;
use super::site::{LOOK_AGAIN_AFTER, Site, until};

pub(super) const BOTH: [Defence; 2] = [Defence::StateMachine, Defence::Schedule];

/// A server of its own in the catalogue: what sessions do against the end, a role that ends ours, a lost catalogue entry
/// and a rotated secret, and the server stopped across the end.
pub(super) async fn on_another_server(beside: Site<'_>) -> Vec<Row> {
    let stack = beside.stack;
    let (mut server, target, document) = another_server(beside, "second").await;
    let site = |postgres| Site {
        stack,
        target: &target,
        postgres,
    };
    let mut rows = sessions::each(site(&server)).await;
    rows.push(role_that_ends_our_sessions(site(&server)).await);
    rows.extend(entry_broken_and_secret_rotated(site(&server), &document).await);
    rows.push(down_across_the_end(stack, &target, &mut server).await);
    forget(stack, &target).await;
    rows
}

/// Takes a database out of the catalogue whose server is about to go.
async fn forget(stack: &Stack, target: &str) {
    let prefix = stack.output("CataloguePrefix").unwrap();
    let name = format!("{prefix}/databases/{target}");
    let arguments = ["ssm", "delete-parameter", "--name", &name];
    stack.aws().aws(&arguments).await.unwrap();
}

/// Another server of the same version, what the catalogue calls it, and its document there.
async fn another_server(beside: Site<'_>, name: &str) -> (LocalPostgres, String, Value) {
    let version = beside.postgres.version();
    let major = version.split('.').next().unwrap().parse().unwrap();
    let settings = Settings {
        major: Some(major),
        // Few, so that they can all be taken.
        parameters: vec![("max_connections".to_owned(), "40".to_owned())],
        ..Settings::default()
    };
    let server = LocalPostgres::start(&settings).await.unwrap();
    let target = format!("{name}-{major}");
    let document = beside.stack.add_database(&target, &server).await.unwrap();
    (server, target, document)
}

/// Sessions of the role end every session of ours that they see, in a loop on the server itself.
async fn role_that_ends_our_sessions(site: Site<'_>) -> Row {
    let role = site.new_role().await;
    // Before it is asked for: approvers are told.
    site.alter(&format!("GRANT pg_signal_backend TO {role}"))
        .await;
    let request = json!({ "duration": "PT20S", "target": site.target });
    let asked = ask_for(site.stack, &role, request).await;
    let superuser = &site.postgres.accounts().superuser;
    let orders = site
        .postgres
        .log_in(superuser, APPLICATION_DATABASE)
        .await
        .unwrap();
    let counter = format!("CREATE SEQUENCE ended; GRANT USAGE ON SEQUENCE ended TO {role}");
    orders.batch_execute(&counter).await.unwrap();
    let open = site.open_asked(asked).await;
    let fight = join_all((0..FIGHTERS).map(async |_| {
        if let Ok(Attempt::Accepted(session)) = site.try_log_in(&role).await {
            // It ends with its session.
            let _ = session.query_text(FIGHT).await;
        }
    }));
    join!(fight, until_proved(site.stack, &open.request_id));
    let query = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ended";
    let n_ended: i64 = orders.query_one(query, &[]).await.unwrap().get(0);
    assert!(n_ended > 0, "it ended no session of ours");
    let end = open.end;
    let fault = "role ends our sessions in a loop";
    Row {
        note: format!("{n_ended} ended"),
        ..closed(site, open, end, fault, &BOTH).await
    }
}

const FIGHTERS: usize = 2;

/// A query that never comes to its end, and looks anew in each round, because `n` is in what it asks. Only a sequence
/// counts what is never committed.
const FIGHT: &str = "WITH RECURSIVE forever(n) AS (
    SELECT 0::bigint
    UNION ALL
    SELECT n + length(pg_stat_clear_snapshot()::text)
             + (SELECT count(CASE WHEN pg_get_userbyid(usesysid) IN ('latchkey_opener', 'latchkey_closer')
                                  THEN CASE WHEN pg_terminate_backend(pid) THEN nextval('ended') END END)
                  FROM pg_stat_get_activity(CASE WHEN n < 0 THEN 0 END))
             + length(pg_sleep(0.001)::text)
      FROM forever
  )
  SELECT max(n)::text FROM forever";

/// The catalogue forgets the database in mid-window, and the closer's password changes: closing goes where it was
/// opened, with the secret of the moment.
async fn entry_broken_and_secret_rotated(site: Site<'_>, document: &Value) -> Vec<Row> {
    let (broken, rotated) = join!(site.open("PT20S"), site.open("PT20S"));
    let entry = format!("databases/{}", site.target);
    let nowhere = json!({ "host": "nowhere.invalid" });
    site.stack.put_catalogue(&entry, &nowhere).await.unwrap();
    let password = "rotated-in-mid-window";
    site.alter(&format!("ALTER ROLE latchkey_closer PASSWORD '{password}'"))
        .await;
    let secret = document["closer"]["secret"].as_str().unwrap();
    let value = json!({ "password": password }).to_string();
    let arguments = ["secretsmanager", "put-secret-value", "--secret-id", secret];
    let value = ["--secret-string", &value];
    site.stack
        .aws()
        .aws(&[&arguments[..], &value].concat())
        .await
        .unwrap();
    let (end_1, end_2) = (broken.end, rotated.end);
    let rows = join!(
        closed(
            site,
            broken,
            end_1,
            "database's catalogue entry broken",
            &BOTH
        ),
        closed(site, rotated, end_2, "closer's secret rotated", &BOTH),
    );
    site.stack.put_catalogue(&entry, document).await.unwrap();
    vec![rows.0, rows.1]
}

/// The server is away when the window ends.
async fn down_across_the_end(stack: &Stack, target: &str, server: &mut LocalPostgres) -> Row {
    let site = Site {
        stack,
        target,
        postgres: server,
    };
    let open = site.open("PT20S").await;
    let end = open.end;
    server.stop().unwrap();
    until(end + TimeDelta::seconds(3)).await;
    server.start_again().await.unwrap();
    let site = Site {
        stack,
        target,
        postgres: server,
    };
    closed(site, open, end, "database down across the end", &BOTH).await
}

/// Waits until the reader has heard that the role can log in.
async fn until_let_in(reader: Site<'_>, role: &str) -> Session {
    loop {
        if let Attempt::Accepted(session) = reader.try_log_in(role).await.unwrap() {
            return session;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// A reader that does not hear of changes across the end still lets the role in: nothing is proved until it goes on.
async fn paused_reader(site: Site<'_>, reader: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let end = open.end;
    drop(until_let_in(reader, &open.role).await);
    reader.alter("SELECT pg_wal_replay_pause()").await;
    until(end + TimeDelta::seconds(3)).await;
    let closed_at = site.until_closed(&open.role, PROVED_WITHIN).await;
    assert!(closed_at >= end);
    let row = site.stack.request_row(&open.request_id).await.unwrap();
    assert_eq!(row.unwrap().status, "open", "proved without the reader");
    reader.alter("SELECT pg_wal_replay_resume()").await;
    let role = open.role.clone();
    let row = closed(
        site,
        open,
        end,
        "a reader stands still across the end",
        &BOTH,
    )
    .await;
    assert!(!reader.can_log_in(&role).await);
    row
}

/// A pair of servers. First the reader stands still across the end. Then the writer dies just before the end, and the
/// reader is promoted: it is closed there; the proof takes the old writer too, so it comes when that one is back, as a
/// reader.
pub(super) async fn with_a_reader(beside: Site<'_>) -> Vec<Row> {
    let stack = beside.stack;
    let (mut primary, target, mut document) = another_server(beside, "pair").await;
    let mut standby = primary.add_standby().await.unwrap();
    document["readers"] = json!([{ "host": standby.host(), "port": standby.port() }]);
    stack
        .put_catalogue(&format!("databases/{target}"), &document)
        .await
        .unwrap();
    let site = Site {
        stack,
        target: &target,
        postgres: &primary,
    };
    let reader = Site {
        stack,
        target: &target,
        postgres: &standby,
    };
    let paused = paused_reader(site, reader).await;
    let open = site.open("PT45S").await;
    let end = open.end;
    let on_reader = until_let_in(reader, &open.role).await;
    until(end - TimeDelta::seconds(10)).await;
    primary.stop().unwrap();
    reader.alter("SELECT pg_promote()").await;
    assert!(Utc::now() < end, "the failover took longer than the window");
    let seen = reader.look(&reader.observer().await, &open.role).await;
    assert!(seen.can_login, "closed before the end");
    let closed_at = reader.until_closed(&open.role, PROVED_WITHIN).await;
    assert!(closed_at >= end);
    on_reader
        .cut(std::time::Duration::from_secs(5))
        .await
        .unwrap();
    assert!(!reader.can_log_in(&open.role).await);
    let status = stack
        .request_row(&open.request_id)
        .await
        .unwrap()
        .unwrap()
        .status;
    assert_eq!(status, "open", "proved without the old writer");

    primary.become_standby_of(&mut standby).await.unwrap();
    let role = open.role.clone();
    let site = Site {
        stack,
        target: &target,
        postgres: &standby,
    };
    let row = closed(site, open, end, "failover at the end", &BOTH).await;
    let old_writer = Site {
        stack,
        target: &target,
        postgres: &primary,
    };
    assert!(!old_writer.can_log_in(&role).await);
    forget(stack, &target).await;
    let failed_over = Row {
        lag: Some(closed_at - end),
        ..row
    };
    vec![paused, failed_over]
}

/// Changes the password of a login of ours behind its secret's back, and returns what lets it in again.
pub(super) async fn lock_out(site: Site<'_>, user: &str) -> String {
    let verifier = verifier(site, user).await;
    site.alter(&format!("ALTER ROLE {user} PASSWORD 'of somebody else'"))
        .await;
    verifier
}

/// What the server keeps of a password.
pub(super) async fn verifier(site: Site<'_>, user: &str) -> String {
    let observer = site.observer().await;
    let query = "SELECT rolpassword FROM pg_authid WHERE rolname::text = $1";
    observer.query_one(query, &[&user]).await.unwrap().get(0)
}

/// Lets it in again.
pub(super) async fn readmit(site: Site<'_>, user: &str, verifier: &str) {
    site.alter(&format!("ALTER ROLE {user} PASSWORD '{verifier}'"))
        .await;
}
