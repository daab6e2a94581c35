//! What the demo does in a way of its own for each kind of access to a database: register it, try it, and look at it on the server.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio_postgres::Client;
use xtask::error::{Error, Result};
use xtask::login_probe::Attempt;
use xtask::stack::{REQUESTER, ROLE, Stack, TARGET};

const MEMBERSHIP: &str = "riko-dba";
const GRANTED_ROLE: &str = "dba";

/// A kind of access to a database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// LOGIN of a privileged PostgreSQL user, with a password of the window's own.
    Login,
    /// Membership of a PostgreSQL user in a privileged role.
    Membership,
}

/// What the server says, seen by its superuser.
pub(crate) struct State {
    pub(crate) is_open: bool,
    /// Of a membership's user, those that began before the moment that was asked for.
    pub(crate) n_sessions: i64,
    pub(crate) until: Option<DateTime<Utc>>,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Membership => "membership",
        }
    }

    /// What is asked for, as the catalogue calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Login => ROLE,
            Self::Membership => MEMBERSHIP,
        }
    }

    /// The PostgreSQL user who logs in.
    pub(crate) fn user(self) -> &'static str {
        match self {
            Self::Login => ROLE,
            Self::Membership => REQUESTER,
        }
    }

    /// What trying it looks like.
    pub(crate) fn attempt_in_words(self) -> String {
        match self {
            Self::Login => format!("{ROLE} logs in"),
            Self::Membership => format!("{REQUESTER} logs in and does SET ROLE {GRANTED_ROLE}"),
        }
    }

    pub(crate) async fn register(self, stack: &Stack) -> Result<()> {
        let mut document = Stack::role_document(self.name());
        match self {
            Self::Login => {
                // The window makes the password; what the role had before is worth nothing.
                document["credential"] = json!("per_window");
                let name = format!("roles/{TARGET}/{ROLE}");
                stack.put_catalogue(&name, &document).await
            }
            Self::Membership => {
                document["kind"] = json!("membership");
                document["membership"] = json!({ "role": GRANTED_ROLE, "user": REQUESTER });
                if let Some(fields) = document.as_object_mut() {
                    fields.remove("credential");
                }
                stack.add_membership(&document).await
            }
        }
    }

    /// Tries it; `password` is the window's own, if it has one.
    pub(crate) async fn attempt(self, stack: &Stack, password: Option<&str>) -> Result<Attempt> {
        match self {
            Self::Login => {
                let password = password.unwrap_or(stack.postgres().target_password());
                stack.try_log_in_with(ROLE, password).await
            }
            Self::Membership => stack.try_act_as(REQUESTER, GRANTED_ROLE).await,
        }
    }

    /// Looks as the superuser, in the database of Latchkey.
    pub(crate) async fn look(self, superuser: &Client, before: DateTime<Utc>) -> Result<State> {
        let failed = |source| Error::Postgres {
            action: format!("look at {}", self.name()),
            source: Box::new(source),
        };
        let row = match self {
            Self::Login => {
                let query = "SELECT rolcanlogin, rolvaliduntil,
                                    (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid)
                               FROM pg_roles r WHERE rolname = $1";
                superuser.query_one(query, &[&ROLE]).await
            }
            Self::Membership => {
                let query = "SELECT pg_has_role(user_oid, role_oid, 'MEMBER'), open_until,
                                    (SELECT count(*) FROM pg_stat_activity
                                      WHERE usesysid = user_oid AND backend_start < $2)
                               FROM latchkey.membership WHERE name = $1";
                superuser.query_one(query, &[&MEMBERSHIP, &before]).await
            }
        };
        let row = row.map_err(failed)?;
        Ok(State {
            is_open: row.try_get(0).map_err(failed)?,
            // A role that was never opened may have 'infinity' here, which is no point in time.
            until: row.try_get(1).unwrap_or_default(),
            n_sessions: row.try_get(2).map_err(failed)?,
        })
    }

    /// `login_before` and the like.
    pub(crate) fn key(self, when: &str) -> String {
        format!("{}_{when}", self.as_str())
    }

    /// The document of a request for it.
    pub(crate) fn request(self, duration: &str) -> Value {
        Stack::request_document(self.name(), duration)
    }
}
