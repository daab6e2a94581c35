//! The statements of opening and closing a login, with their values: what a plan shows is what a connection sends.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio_postgres::types::{ToSql, Type};

/// One statement. Its values are bound, never part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    sql: &'static str,
    values: Vec<Value<'a>>,
}

/// The value of a parameter.
#[derive(Clone, PartialEq, Eq)]
enum Value<'a> {
    Text(&'a str),
    Time(DateTime<Utc>),
    Flag(bool),
    /// The system identifier of the pinned cluster, as the server shows it.
    Server(Option<i64>),
    /// What a password is checked by. It is no password, and still nobody is shown one.
    Verifier(&'a str),
}

/// Which servers get a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// The one that takes changes.
    Writer,
    /// Each one, readers too, on a connection of its own.
    Every,
}

/// What closing the login of `role` sends; `close` by itself only comes where the first of these could not do it. What
/// every server gets is repeated, the first statements excepted, until it has been quiet for several rounds.
#[must_use]
pub fn closing(role: &str) -> Vec<(Servers, Statement<'_>)> {
    vec![
        (Servers::Writer, Statement::strike(role, None, true)),
        (Servers::Every, Statement::strike(role, None, false)),
        (Servers::Every, Statement::sweep(role, true)),
        (Servers::Every, Statement::state(role)),
    ]
}

impl<'a> Statement<'a> {
    /// Who the server is.
    pub(crate) fn server() -> Self {
        Self {
            sql: "SELECT system_identifier, pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
                        pg_catalog.pg_is_in_recovery(), pg_catalog.clock_timestamp()
                   FROM pg_catalog.pg_control_system()",
            values: Vec::new(),
        }
    }

    pub(crate) fn state(role: &'a str) -> Self {
        Self {
            sql: "SELECT role_oid, current_name, name_taken, can_login, valid_until, sessions, starting, prepared,
                        in_recovery, members, is_superuser, is_createrole, could_undo, manageable,
                        max_window_seconds, max_connections
                   FROM latchkey.state($1)",
            values: vec![Value::Text(role)],
        }
    }

    pub(crate) fn window_password(role: &'a str) -> Self {
        Self {
            sql: "SELECT password_id, password_kept FROM latchkey.window_password($1)",
            values: vec![Value::Text(role)],
        }
    }

    /// Opens the login of `role` until `until`, with the password that the role has.
    #[must_use]
    pub fn open(role: &'a str, until: DateTime<Utc>) -> Self {
        Self {
            sql: "SELECT latchkey.open($1, $2)",
            values: vec![Value::Text(role), Value::Time(until)],
        }
    }

    /// The same with a password that is still to be made.
    #[must_use]
    pub fn open_with_new_password(role: &'a str, until: DateTime<Utc>) -> Self {
        Self::open_with_password(role, until, "", "(fingerprint of the password)")
    }

    pub(crate) fn open_with_password(
        role: &'a str,
        until: DateTime<Utc>,
        verifier: &'a str,
        fingerprint: &'a str,
    ) -> Self {
        Self {
            sql: "SELECT latchkey.open($1, $2, $3, $4)",
            values: vec![
                Value::Text(role),
                Value::Time(until),
                Value::Verifier(verifier),
                Value::Text(fingerprint),
            ],
        }
    }

    /// What gives the membership registered as `name`, of `user` in `role`, until `until`.
    #[must_use]
    pub fn open_membership(
        name: &'a str,
        role: &'a str,
        user: &'a str,
        until: DateTime<Utc>,
    ) -> Self {
        Self {
            sql: "SELECT latchkey.open_membership($1, $2, $3, $4)",
            values: vec![
                Value::Text(name),
                Value::Text(role),
                Value::Text(user),
                Value::Time(until),
            ],
        }
    }

    /// Moves the end of the open login of `role` to `until`, if that is later.
    #[must_use]
    pub fn extend(role: &'a str, until: DateTime<Utc>) -> Self {
        Self {
            sql: "SELECT latchkey.extend($1, $2)",
            values: vec![Value::Text(role), Value::Time(until)],
        }
    }

    /// Who the server is, and then, on the right one only, an end to the role's sessions, and then, if asked for, to LOGIN:
    /// signals reach those sessions at once, even if our own is ended before LOGIN is taken. `CASE` keeps that order:
    /// <https://www.postgresql.org/docs/current/sql-expressions.html#SYNTAX-EXPRESS-EVAL>. A reader is not asked to take
    /// LOGIN: its refusal would take with it the answer which sessions were ended.
    pub(crate) fn strike(role: &'a str, server: Option<i64>, close_login: bool) -> Self {
        Self {
            sql: "SELECT s.*, CASE WHEN $3 AND s.ended_pids IS NOT NULL AND NOT s.in_recovery THEN latchkey.close($1) END
                   FROM (SELECT c.system_identifier, pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
                                pg_catalog.pg_is_in_recovery() AS in_recovery, pg_catalog.clock_timestamp(),
                                CASE WHEN $2 IS NULL OR $2 = c.system_identifier
                                     THEN latchkey.end_sessions($1) END AS ended_pids
                           FROM pg_catalog.pg_control_system() c) s",
            values: vec![
                Value::Text(role),
                Value::Server(server),
                Value::Flag(close_login),
            ],
        }
    }

    pub(crate) fn close(role: &'a str) -> Self {
        Self {
            sql: "SELECT latchkey.close($1)",
            values: vec![Value::Text(role)],
        }
    }

    pub(crate) fn sweep(role: &'a str, force: bool) -> Self {
        Self {
            sql: "SELECT ended_pids, refused FROM latchkey.sweep($1, $2)",
            values: vec![Value::Text(role), Value::Flag(force)],
        }
    }

    /// The text, as the server gets it.
    #[must_use]
    pub fn sql(&self) -> &'static str {
        self.sql
    }

    /// The values in the order of their numbers, for people: times in UTC, and no verifier.
    #[must_use]
    pub fn shown_values(&self) -> Vec<String> {
        self.values.iter().map(Value::to_string).collect()
    }

    pub(crate) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(Value::parameter).collect()
    }
}

impl Value<'_> {
    fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) | Self::Verifier(text) => (text, Type::TEXT),
            Self::Time(time) => (time, Type::TIMESTAMPTZ),
            Self::Flag(flag) => (flag, Type::BOOL),
            Self::Server(number) => (number, Type::INT8),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Time(time) => {
                formatter.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Server(Some(number)) => number.fmt(formatter),
            Self::Server(None) => formatter.write_str("(system identifier of the server)"),
            Self::Verifier(_) => formatter.write_str("(SCRAM-SHA-256 verifier of the password)"),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_sent_and_never_shown() {
        let until = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let statement = Statement::open_with_password("app", until, "SCRAM-SHA-256$4096:x", "f");
        assert_eq!(
            statement.shown_values(),
            [
                "app",
                "2027-01-15T08:00:00Z",
                "(SCRAM-SHA-256 verifier of the password)",
                "f"
            ]
        );
        assert_eq!(statement.parameters().len(), 4);
        assert!(!format!("{statement:?}").contains("4096"));
    }

    #[test]
    fn a_value_is_never_in_the_text() {
        let role = "a\"; DROP ROLE b; --";
        let until = DateTime::UNIX_EPOCH;
        let opening = [
            Statement::open(role, until),
            Statement::open_with_new_password(role, until),
            Statement::extend(role, until),
        ];
        let closing = closing(role).into_iter().map(|(_, statement)| statement);
        for statement in opening.into_iter().chain(closing) {
            assert!(!statement.sql().contains("DROP"), "{statement:?}");
            let numbers = (1..=statement.shown_values().len()).map(|n| format!("${n}"));
            for number in numbers {
                assert!(statement.sql().contains(&number), "{statement:?}");
            }
        }
    }
}
