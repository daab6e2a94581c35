//! Databases that are away, fail over, are lost from the catalogue, or hold a role that fights back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::join;
use xtask::login_probe::Attempt;
use xtask::postgres::{LocalPostgres, Settings};
use xtask::stack::Stack;

use super::evidence::{Defence, PROVED_WITHIN, Row, closed, until_proved};
use super::site::{LOOK_AGAIN_AFTER, Site};

const BOTH: [Defence; 2] = [Defence::StateMachine, Defence::Schedule];

/// A server of its own in the catalogue: a role that ends our sessions, a lost catalogue entry and a rotated secret,
/// and the server stopped across the end.
pub(super) async fn on_another_server(stack: &Stack) -> Vec<Row> {
    let (mut server, document) = another_server(stack, "second").await;
    let site = |postgres| Site {
        stack,
        target: "second",
        postgres,
    };
    let mut rows = vec![role_that_ends_our_sessions(site(&server)).await];
    rows.extend(entry_broken_and_secret_rotated(site(&server), &document).await);
    rows.push(down_across_the_end(stack, &mut server).await);
    rows
}

async fn another_server(stack: &Stack, target: &str) -> (LocalPostgres, Value) {
    let settings = Settings {
        major: Some(major(stack)),
        ..Settings::default()
    };
    let server = LocalPostgres::start(&settings).await.unwrap();
    let document = stack.add_database(target, &server).await.unwrap();
    (server, document)
}

fn major(stack: &Stack) -> u32 {
    let version = stack.postgres().version();
    version.split('.').next().unwrap().parse().unwrap()
}

/// Sessions of the role end every session of ours that they see, in a loop, and come back while they can.
async fn role_that_ends_our_sessions(site: Site<'_>) -> Row {
    let asked = site.ask(json!({ "duration": "PT15S" })).await;
    site.alter(&format!("GRANT pg_signal_backend TO {}", asked.role))
        .await;
    let open = site.open_asked(asked).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let n_ended = Arc::new(AtomicU64::new(0));
    let fight = async {
        let fighters = (0..FIGHTERS).map(|_| fight(site, &open.role, &is_over, &n_ended));
        futures_util::future::join_all(fighters).await;
    };
    let look = async {
        while Utc::now() < open.end {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        until_proved(site.stack, &open.request_id).await;
        is_over.store(true, Ordering::Relaxed);
    };
    join!(fight, look);
    let n_ended = n_ended.load(Ordering::Relaxed);
    assert!(n_ended > 0, "it ended no session of ours");
    let end = open.end;
    let fault = format!("role ends our sessions in a loop ({n_ended} ended)");
    closed(site, open, end, &fault, &BOTH).await
}

const FIGHTERS: usize = 3;

async fn fight(site: Site<'_>, role: &str, is_over: &AtomicBool, n_ended: &AtomicU64) {
    let query = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
                  WHERE usename IN ('latchkey_opener', 'latchkey_closer')";
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(Attempt::Accepted(session)) = site.try_log_in(role).await {
            while let Ok(n) = session.query_text(query).await {
                n_ended.fetch_add(n.parse().unwrap_or_default(), Ordering::Relaxed);
            }
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// The catalogue forgets the database in mid-window, and the closer's password changes: closing goes where it was
/// opened, with the secret of the moment.
async fn entry_broken_and_secret_rotated(site: Site<'_>, document: &Value) -> Vec<Row> {
    let (broken, rotated) = join!(site.open("PT12S"), site.open("PT12S"));
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
async fn down_across_the_end(stack: &Stack, server: &mut LocalPostgres) -> Row {
    let site = Site {
        stack,
        target: "second",
        postgres: server,
    };
    let open = site.open("PT12S").await;
    let end = open.end;
    server.stop().unwrap();
    until(end + TimeDelta::seconds(3)).await;
    server.start_again().await.unwrap();
    let site = Site {
        stack,
        target: "second",
        postgres: server,
    };
    closed(site, open, end, "database down across the end", &BOTH).await
}

/// The writer dies just before the end, and the reader is promoted. It is closed there; the proof takes the old writer
/// too, so it comes when that one is back, as a reader.
pub(super) async fn failover_at_the_end(stack: &Stack) -> Row {
    let (mut primary, mut document) = another_server(stack, "pair").await;
    let mut standby = primary.add_standby().await.unwrap();
    document["readers"] = json!([{ "host": standby.host(), "port": standby.port() }]);
    stack
        .put_catalogue("databases/pair", &document)
        .await
        .unwrap();
    let site = Site {
        stack,
        target: "pair",
        postgres: &primary,
    };
    let open = site.open("PT20S").await;
    let end = open.end;
    let reader = Site {
        stack,
        target: "pair",
        postgres: &standby,
    };
    let on_reader = loop {
        if let Attempt::Accepted(session) = reader.try_log_in(&open.role).await.unwrap() {
            break session;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    };
    until(end - TimeDelta::seconds(2)).await;
    primary.stop().unwrap();
    reader.alter("SELECT pg_promote()").await;
    assert!(reader.can_log_in(&open.role).await, "closed before the end");
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
        target: "pair",
        postgres: &standby,
    };
    let row = closed(site, open, end, "failover at the end", &BOTH).await;
    let old_writer = Site {
        stack,
        target: "pair",
        postgres: &primary,
    };
    assert!(!old_writer.can_log_in(&role).await);
    Row {
        lag: Some(closed_at - end),
        ..row
    }
}

async fn until(at: DateTime<Utc>) {
    while Utc::now() < at {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Changes the password of a login of ours behind its secret's back, and returns what lets it in again.
pub(super) async fn lock_out(site: Site<'_>, user: &str) -> String {
    let observer = site.observer().await;
    let query = "SELECT rolpassword FROM pg_authid WHERE rolname::text = $1";
    let verifier = observer.query_one(query, &[&user]).await.unwrap().get(0);
    site.alter(&format!("ALTER ROLE {user} PASSWORD 'of somebody else'"))
        .await;
    verifier
}

/// Lets it in again.
pub(super) async fn readmit(site: Site<'_>, user: &str, verifier: &str) {
    site.alter(&format!("ALTER ROLE {user} PASSWORD '{verifier}'"))
        .await;
}
