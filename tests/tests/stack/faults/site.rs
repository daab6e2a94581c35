//! One database of the deployed stack, as a fault sees it: its roles, windows on them, and what the server itself says.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_postgres::Client;
use xtask::callback;
use xtask::login_probe::{Attempt, Server, Session};
use xtask::postgres::{APPLICATION_DATABASE, LocalPostgres};
use xtask::stack::{Execution, Stack, TARGET};

use super::super::fixture::{Asked, SOON, ask_for, new_role_name, request_id};

/// How often a server is asked: lags are measured by it.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How often records are looked at: they tell their own times, and the local AWS has other work to do.
pub(super) const LOOK_AT_RECORDS_AFTER: Duration = Duration::from_millis(250);
/// How much longer a window is for each further version on which one is opened at the same time.
const LONGER_FOR_EACH_MORE: i64 = 6;

/// A database in the catalogue.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) stack: &'a Stack,
    pub(super) target: &'a str,
    pub(super) postgres: &'a LocalPostgres,
}

/// A window that is open, with a session of the role in it, or that came to be over before anybody could log in.
pub(super) struct Open {
    pub(super) asked: Asked,
    pub(super) role: String,
    pub(super) request_id: String,
    /// Its end, as the database enforces it.
    pub(super) end: DateTime<Utc>,
    pub(super) session: Option<Session>,
}

impl Open {
    pub(super) fn execution(&self) -> &Execution {
        &self.asked.execution
    }
}

/// A role by the server's own word.
pub(super) struct RoleSeen {
    pub(super) can_login: bool,
    pub(super) n_sessions: i64,
    pub(super) valid_until: Option<DateTime<Utc>>,
}

impl<'a> Site<'a> {
    /// The database that the stack starts with.
    pub(super) fn of(stack: &'a Stack) -> Self {
        Self {
            stack,
            target: TARGET,
            postgres: stack.postgres(),
        }
    }

    pub(super) async fn new_role(&self) -> String {
        let role = new_role_name();
        let document = Stack::role_document(&role);
        let made = self
            .stack
            .add_role_on(self.target, self.postgres, &document);
        made.await.unwrap();
        role
    }

    /// Asks for a new role, with `change` made to the plain request, and waits until an approver has the link.
    pub(super) async fn ask(&self, change: Value) -> Asked {
        let role = self.new_role().await;
        let mut request = change;
        request["target"] = json!(self.target);
        ask_for(self.stack, &role, request).await
    }

    /// A window of this length, open.
    pub(super) async fn open(&self, duration: &str) -> Open {
        let asked = self.ask(json!({ "duration": duration })).await;
        self.open_asked(asked).await
    }

    /// Approves what was asked, and waits until its window is open and a session of the role stands.
    pub(super) async fn open_asked(&self, asked: Asked) -> Open {
        let open = self.approve_and_log_in(asked).await;
        let waiting = self
            .stack
            .wait_for_state(open.execution(), "Wait Until End", SOON);
        waiting.await.unwrap();
        open
    }

    /// The same without waiting for the state machine to come to rest.
    pub(super) async fn approve_and_log_in(&self, asked: Asked) -> Open {
        approve(&asked).await;
        self.log_in_to(asked).await
    }

    /// Waits until what was approved is open and a session of the role stands.
    pub(super) async fn log_in_to(&self, asked: Asked) -> Open {
        let role = asked.role.clone();
        let session = tokio::select! {
            session = self.until_logged_in(&role) => session,
            ended = self.stack.wait_for_end(&asked.execution, SOON) => panic!("{role} was never opened: {ended:?}"),
        };
        let seen = self.look(&self.observer().await, &role).await;
        Open {
            request_id: request_id(self.stack, &asked.execution).await,
            end: seen.valid_until.expect("an open login without an end"),
            role,
            session: Some(session),
            asked,
        }
    }

    /// What was approved, without a session.
    pub(super) async fn without_session(&self, asked: Asked) -> Open {
        Open {
            request_id: request_id(self.stack, &asked.execution).await,
            end: Utc::now(),
            role: asked.role.clone(),
            session: None,
            asked,
        }
    }

    async fn until_logged_in(&self, role: &str) -> Session {
        loop {
            // A server that is full or gone gives neither yes nor no.
            if let Ok(Attempt::Accepted(session)) = self.try_log_in(role).await {
                return session;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    pub(super) async fn try_log_in(&self, role: &str) -> xtask::Result<Attempt> {
        let server = Server {
            host: self.postgres.host().to_owned(),
            port: self.postgres.port(),
            ca_pem: self.postgres.ca_pem().to_owned(),
        };
        let password = self.postgres.target_password();
        server.log_in(APPLICATION_DATABASE, role, password).await
    }

    pub(super) async fn can_log_in(&self, role: &str) -> bool {
        self.try_log_in(role).await.unwrap().is_accepted()
    }

    /// A session of the superuser, whom nobody at Latchkey is.
    pub(super) async fn observer(&self) -> Client {
        let superuser = &self.postgres.accounts().superuser;
        self.postgres.log_in(superuser, "postgres").await.unwrap()
    }

    pub(super) async fn alter(&self, statement: &str) {
        let observer = self.observer().await;
        observer.batch_execute(statement).await.unwrap();
    }

    pub(super) async fn look(&self, observer: &Client, role: &str) -> RoleSeen {
        try_to_look(observer, role).await.unwrap()
    }

    /// The version of the role's row: every opening and closing changes it.
    pub(super) async fn row_version(&self, role: &str) -> String {
        let query = "SELECT xmin::text FROM pg_authid WHERE rolname::text = $1";
        let row = self.observer().await.query_one(query, &[&role]).await;
        row.unwrap().get(0)
    }

    /// Waits until the role has neither LOGIN nor sessions by the server's own word, however often the server goes
    /// away meanwhile, and returns when that was.
    pub(super) async fn until_closed(&self, role: &str, at_most: Duration) -> DateTime<Utc> {
        let until = Utc::now() + TimeDelta::from_std(at_most).unwrap();
        let superuser = &self.postgres.accounts().superuser;
        let mut observer = None;
        let mut last_seen = None;
        loop {
            if observer.is_none() {
                observer = self.postgres.log_in(superuser, "postgres").await.ok();
            }
            if let Some(client) = &observer {
                match try_to_look(client, role).await {
                    Ok(seen) if !seen.can_login && seen.n_sessions == 0 => return Utc::now(),
                    Ok(seen) => last_seen = Some((seen.can_login, seen.n_sessions)),
                    Err(_) => observer = None,
                }
            }
            assert!(
                Utc::now() < until,
                "{role} is still open: (LOGIN, sessions) {last_seen:?}"
            );
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Holds the role's own row, as the open transaction of somebody else does: neither LOGIN nor NOLOGIN comes
    /// through until it is let go.
    pub(super) async fn hold_row(&self, role: &str) -> HeldRow {
        let holder = self.observer().await;
        let statement = format!("BEGIN; ALTER ROLE \"{role}\" CONNECTION LIMIT 9");
        holder.batch_execute(&statement).await.unwrap();
        let row = holder.query_one("SELECT pg_backend_pid()", &[]).await;
        HeldRow {
            pid: row.unwrap().get(0),
            holder,
            observer: self.observer().await,
        }
    }
}

/// Does the same on every version at the same time.
pub(super) async fn on_each<'a, T>(
    sites: &[Site<'a>],
    part: impl AsyncFn(Site<'a>) -> T,
) -> Vec<T> {
    join_all(sites.iter().map(|site| part(*site))).await
}

/// Opens a window on every version. All of them end in the same second, `seconds` from now, and later the more there are.
pub(super) async fn open_together(sites: &[Site<'_>], seconds: i64) -> Vec<Open> {
    let end = Utc::now() + TimeDelta::seconds(lasting(sites, seconds));
    let end = DateTime::from_timestamp(end.timestamp(), 0).unwrap();
    let opens = on_each(sites, async |site| {
        let change = json!({ "duration": null, "end": end.to_rfc3339() });
        site.open_asked(site.ask(change).await).await
    })
    .await;
    assert!(Utc::now() < end, "not all were open before their end");
    opens
}

/// How many seconds a window lasts, if one is opened on every version at the same time.
pub(super) fn lasting(sites: &[Site<'_>], seconds: i64) -> i64 {
    seconds + LONGER_FOR_EACH_MORE * (i64::try_from(sites.len()).unwrap() - 1)
}

/// Approves what was asked, as the first approver.
pub(super) async fn approve(asked: &Asked) {
    let answer = callback::approve(&asked.link, &asked.role, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Waits until this moment.
pub(super) async fn until(at: DateTime<Utc>) {
    while Utc::now() < at {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

async fn try_to_look(observer: &Client, role: &str) -> Result<RoleSeen, tokio_postgres::Error> {
    let query = "SELECT rolcanlogin, rolvaliduntil,
                        (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid)
                   FROM pg_roles r WHERE rolname::text = $1";
    let row = observer.query_one(query, &[&role]).await?;
    Ok(RoleSeen {
        can_login: row.get(0),
        // A role that was never opened may have 'infinity' here, which is no point in time.
        valid_until: row.try_get(1).unwrap_or_default(),
        n_sessions: row.get(2),
    })
}

/// The row of a role in somebody else's open transaction.
pub(super) struct HeldRow {
    holder: Client,
    pid: i32,
    observer: Client,
}

impl HeldRow {
    /// Waits until a session of `user` waits for the row, perhaps behind somebody else who does.
    pub(super) async fn until_waited_for_by(&self, user: &str) {
        let query = "SELECT count(*) FROM pg_stat_activity a
                      WHERE usename::text = $1
                        AND ($2 = ANY (pg_blocking_pids(a.pid))
                             OR EXISTS (SELECT FROM unnest(pg_blocking_pids(a.pid)) AS between(pid)
                                         WHERE $2 = ANY (pg_blocking_pids(between.pid))))";
        let until = Utc::now() + TimeDelta::from_std(SOON).unwrap();
        loop {
            let row = self.observer.query_one(query, &[&user, &self.pid]).await;
            if row.unwrap().get::<_, i64>(0) > 0 {
                return;
            }
            assert!(Utc::now() < until, "{user} never came to wait for the row");
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    pub(super) async fn let_go(self) {
        self.holder.batch_execute("ROLLBACK").await.unwrap();
    }
}
