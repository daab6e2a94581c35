//! What the role itself, its sessions or others on the server do against the end of its window.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::TimeDelta;
use futures_util::future::join_all;
use tokio::join;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use xtask::postgres::{APPLICATION_DATABASE, Account};

use super::database::BOTH;
use super::evidence::{Row, closed, until_proved};
use super::site::{Open, Site, until};

/// How many clients log in again as soon as they were cut.
const N_CLIENTS: usize = 12;

/// Each fault by itself, one after the other.
pub(super) async fn each(site: Site<'_>) -> Vec<Row> {
    vec![
        clients_that_come_back(site).await,
        session_that_hides(site).await,
        session_that_holds_its_row(site).await,
        server_without_a_free_connection(site).await,
        role_with_another_name(site).await,
    ]
}

async fn clients_that_come_back(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let account = account(site, &open);
    let (is_over, n_logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    let storm = join_all((0..N_CLIENTS).map(async |_| {
        while !is_over.load(Ordering::Relaxed) {
            if let Ok(session) = site.postgres.log_in(&account, APPLICATION_DATABASE).await {
                n_logins.fetch_add(1, Ordering::Relaxed);
                let _ = session.simple_query("SELECT pg_sleep(random())").await;
            }
        }
    }));
    let closing = async {
        until_proved(site.stack, &open.request_id).await;
        is_over.store(true, Ordering::Relaxed);
    };
    join!(storm, closing);
    let n_logins = n_logins.into_inner();
    assert!(n_logins > 0, "nobody came");
    let end = open.end;
    Row {
        note: format!("{n_logins} logins"),
        ..closed(site, open, end, "12 clients log in again and again", &BOTH).await
    }
}

/// Past the login check before the end, and a session after it: `post_auth_delay` is anybody's to set.
async fn session_that_hides(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let account = account(site, &open);
    let end = open.end;
    let hiding = async {
        until(end - TimeDelta::seconds(2)).await;
        let options = "-c post_auth_delay=20";
        site.postgres
            .log_in_with_options(&account, APPLICATION_DATABASE, options)
            .await
    };
    let fault = "a session hides in its start across the end";
    let (row, hidden) = join!(closed(site, open, end, fault, &BOTH), hiding);
    // Whatever signal wakes it brings it out of hiding early, and then it is ended like any.
    if let Ok(session) = hidden {
        let lives = session.simple_query("SELECT 1").await.is_ok();
        assert!(!lives, "it came out of hiding, and lives");
    }
    row
}

/// An open transaction that changes the role's own password keeps `NOLOGIN` waiting.
async fn session_that_holds_its_row(site: Site<'_>) -> Row {
    let open = site.open("PT20S").await;
    let account = account(site, &open);
    let holder = site
        .postgres
        .log_in(&account, APPLICATION_DATABASE)
        .await
        .unwrap();
    let statement = "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'another'";
    holder.batch_execute(statement).await.unwrap();
    let end = open.end;
    closed(site, open, end, "a session holds its own role's row", &BOTH).await
}

/// Others hold every connection; some seconds after the end a few of them leave.
async fn server_without_a_free_connection(site: Site<'_>) -> Row {
    let open = site.open("PT30S").await;
    let end = open.end;
    let bystander = &site.postgres.accounts().master;
    let mut others: Vec<Client> = Vec::new();
    let full = loop {
        match site.postgres.log_in(bystander, APPLICATION_DATABASE).await {
            Ok(other) => others.push(other),
            Err(full) => break full,
        }
    };
    assert_eq!(full.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "{full}");
    let freeing = async {
        until(end + TimeDelta::seconds(3)).await;
        others.truncate(others.len() - 3);
    };
    let fault = "no connection is free across the end";
    let (row, ()) = join!(closed(site, open, end, fault, &BOTH), freeing);
    for other in &others {
        other
            .simple_query("SELECT 1")
            .await
            .expect("a bystander was ended");
    }
    row
}

async fn role_with_another_name(site: Site<'_>) -> Row {
    let mut open = site.open("PT20S").await;
    let renamed = format!("{}_renamed", open.role);
    let rename = format!("ALTER ROLE \"{}\" RENAME TO \"{renamed}\"", open.role);
    site.alter(&rename).await;
    open.role = renamed;
    let end = open.end;
    closed(site, open, end, "role renamed in mid-window", &BOTH).await
}

fn account(site: Site<'_>, open: &Open) -> Account {
    Account {
        user: open.role.clone(),
        password: site.postgres.target_password().to_owned(),
    }
}
