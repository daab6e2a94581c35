//! One connection to one server, and what is asked of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use postgres_protocol::message::backend::DataRowBody;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, Config, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{Timestamp, ToSql, Type};
use tokio_postgres::{Client, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::first_statement::{Answer, FirstStatement, value};
use crate::login::SecretKind;
use crate::statement::Statement;
use crate::{
    Error, Fingerprint, Login, RoleState, StandingPassword, Swept, TlsSettings, WindowPassword,
};

/// One server of a cluster, and the database in it where `install.sql` was run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// DNS name or IP address. It must stand in the server's certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database of Latchkey, by custom `latchkey`.
    pub database: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}/{}", self.host, self.port, self.database)
    }
}

/// The number that tells one cluster from another; a standby has the number of its writer.
///
/// See <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-CONTROL-SYSTEM>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SystemIdentifier(u64);

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for SystemIdentifier {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a server says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Which cluster it belongs to.
    pub system_identifier: SystemIdentifier,
    /// `server_version_num`: 150018 is 15.18.
    pub version: u32,
    /// Whether it is a standby (a reader).
    pub in_recovery: bool,
    /// Its clock, which decides about `VALID UNTIL`.
    pub clock: DateTime<Utc>,
}

/// Connects with TLS and logs in; never in clear, whatever the server offers.
///
/// # Errors
///
/// [`Error::Unreachable`], [`Error::TimedOut`], [`Error::TooManyConnections`] (worth another try);
/// [`Error::UntrustedServer`], [`Error::HandshakeRefused`], [`Error::AuthenticationRefused`],
/// [`Error::NotInstalled`], [`Error::Forbidden`], [`Error::Unexpected`].
pub async fn connect(
    endpoint: &Endpoint,
    login: &Login,
    tls: &TlsSettings,
) -> Result<Connection, Error> {
    let tls = MakeRustlsConnect::new(tls.client_config());
    connect_with(endpoint, login, tls).await
}

/// As [`connect`], and ends the role's sessions that can be seen on this server, if it belongs to the expected cluster;
/// `None` accepts any. If asked for, takes LOGIN from the role too. All that in a statement that leaves with the login
/// itself: whoever ends our sessions in a loop has no time in between.
///
/// Without [`Struck`], the statement was not answered: an older installation does not know it, or not everything in it
/// could be done at once. Sessions may have been ended all the same.
///
/// # Errors
///
/// As [`connect`], and [`Error::NotTheRegisteredServer`]: nothing was changed there.
pub(crate) async fn connect_and_strike(
    endpoint: &Endpoint,
    login: &Login,
    tls: &TlsSettings,
    role: &str,
    expected: Option<SystemIdentifier>,
    close_login: bool,
) -> Result<(Connection, Option<Struck>), Error> {
    let number = expected.map(|SystemIdentifier(number)| number.cast_signed());
    let statement = Statement::strike(role, number, close_login);
    let tls = MakeRustlsConnect::new(tls.client_config());
    let (tls, mut answers) = FirstStatement::new(tls, &statement);
    let connection = connect_with(endpoint, login, tls).await?;
    let answer = timeout(ANSWER_LIMIT, answers.recv())
        .await
        .map_err(|_elapsed| Error::TimedOut {
            endpoint: endpoint.clone(),
            limit: ANSWER_LIMIT,
        })?;
    let struck = match answer {
        Some(Answer::Row(row)) => struck_of(&row).ok(),
        Some(Answer::NoRow) | None => None,
    };
    if let Some(struck) = &struck {
        connection.require(expected, struck.server)?;
    }
    Ok((connection, struck))
}

async fn connect_with<T>(endpoint: &Endpoint, login: &Login, tls: T) -> Result<Connection, Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let config = config(endpoint, login);
    let (client, driver) = timeout(CONNECT_LIMIT, config.connect(tls))
        .await
        .map_err(|_elapsed| Error::TimedOut {
            endpoint: endpoint.clone(),
            limit: CONNECT_LIMIT,
        })?
        .map_err(|source| Error::connecting(endpoint, login.user(), source))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = driver.await {
            // Whoever waits for an answer gets this as their error; here it is only a trace.
            tracing::debug!(%error, "the connection ended");
        }
    });
    Ok(Connection {
        endpoint: endpoint.clone(),
        client,
        driver: Driver(driver),
    })
}

fn config(endpoint: &Endpoint, login: &Login) -> Config {
    let channel_binding = match login.kind() {
        SecretKind::Password => ChannelBinding::Require,
        SecretKind::Token => ChannelBinding::Disable,
    };
    let mut config = Config::new();
    config
        .host(&endpoint.host)
        .port(endpoint.port)
        .dbname(&endpoint.database)
        .user(login.user())
        .password(login.secret(endpoint))
        .ssl_mode(SslMode::Require)
        .channel_binding(channel_binding)
        .options(SESSION_OPTIONS)
        .application_name("latchkey")
        .connect_timeout(CONNECT_LIMIT)
        .tcp_user_timeout(ANSWER_LIMIT)
        .keepalives_idle(Duration::from_secs(10));
    config
}

/// A session in the database of Latchkey. Dropping it cuts the connection; [`Connection::end`] says goodbye first.
#[derive(Debug)]
pub struct Connection {
    endpoint: Endpoint,
    client: Client,
    driver: Driver,
}

/// The task that moves the bytes. It ends with the connection, also if nobody says goodbye.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the first statement of a closing saw and did.
#[derive(Debug)]
pub(crate) struct Struck {
    pub(crate) server: Server,
    /// The sessions that were ended.
    pub(crate) ended_pids: Vec<i32>,
    /// Whether LOGIN was to be taken, and the role was then seen without.
    pub(crate) login_is_closed: bool,
}

/// What the database's owner opened by hand in an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpeningByHand {
    /// When.
    pub opened_at: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// The database user who did.
    pub by: String,
}

impl Connection {
    /// The server this connection leads to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks the server who it is.
    ///
    /// `pg_control_system()` may be called by everybody since PostgreSQL 9.6.
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`], [`Error::NotRegistered`] excepted.
    pub async fn server(&self) -> Result<Server, Error> {
        let row = self.run("", &Statement::server()).await?;
        self.decode(|| server_of(&row))
    }

    /// Asks the server who it is and refuses another cluster than the pinned one; `None` accepts any.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheRegisteredServer`], and as [`Connection::server`].
    pub async fn expect_server(&self, expected: Option<SystemIdentifier>) -> Result<Server, Error> {
        let server = self.server().await?;
        self.require(expected, server)?;
        Ok(server)
    }

    fn require(&self, expected: Option<SystemIdentifier>, server: Server) -> Result<(), Error> {
        match expected {
            Some(expected) if expected != server.system_identifier => {
                Err(Error::NotTheRegisteredServer {
                    endpoint: self.endpoint.clone(),
                    expected,
                    found: server.system_identifier,
                })
            }
            _ => Ok(()),
        }
    }

    /// The names under which roles are registered in this cluster.
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`], [`Error::NotRegistered`] excepted.
    pub async fn registered_roles(&self) -> Result<Vec<String>, Error> {
        let row = self
            .ask(
                "",
                "SELECT coalesce(pg_catalog.array_agg(name), '{}') FROM latchkey.registered() AS name",
                &[],
            )
            .await?;
        self.decode(|| row.try_get(0))
    }

    /// The openings of a registered role by hand that are not over.
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`].
    pub async fn openings_by_hand(&self, role: &str) -> Result<Vec<OpeningByHand>, Error> {
        let row = self
            .ask(
                role,
                "SELECT opened_at, opened_till, opened_by FROM latchkey.openings_by_hand($1)",
                &[(&role, Type::TEXT)],
            )
            .await?;
        self.decode(|| {
            let opened_at: Vec<DateTime<Utc>> = row.try_get(0)?;
            let until: Vec<DateTime<Utc>> = row.try_get(1)?;
            let by: Vec<String> = row.try_get(2)?;
            let openings = opened_at.into_iter().zip(until).zip(by);
            Ok(openings
                .map(|((opened_at, until), by)| OpeningByHand {
                    opened_at,
                    until,
                    by,
                })
                .collect())
        })
    }

    /// What this server says about a registered role. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotRegistered`], [`Error::NotInstalled`], [`Error::Forbidden`]; [`Error::Unreachable`],
    /// [`Error::TimedOut`], [`Error::Cancelled`] (worth another try); [`Error::Unexpected`].
    pub async fn role_state(&self, role: &str) -> Result<RoleState, Error> {
        let row = self.run(role, &Statement::state(role)).await?;
        self.decode(|| {
            Ok(RoleState {
                oid: row.try_get(0)?,
                current_name: row.try_get(1)?,
                name_taken: row.try_get(2)?,
                can_login: row.try_get(3)?,
                valid_until: row
                    .try_get::<_, Option<Timestamp<DateTime<Utc>>>>(4)?
                    .into(),
                n_sessions: row.try_get::<_, i64>(5)?.cast_unsigned(),
                n_starting: row.try_get::<_, i64>(6)?.cast_unsigned(),
                n_prepared: row.try_get::<_, i64>(7)?.cast_unsigned(),
                in_recovery: row.try_get(8)?,
                members: row.try_get(9)?,
                is_superuser: row.try_get(10)?,
                is_createrole: row.try_get(11)?,
                could_undo_its_window: row.try_get(12)?,
                is_manageable: row.try_get(13)?,
                max_window: Duration::from_secs(row.try_get::<_, i64>(14)?.cast_unsigned()),
                max_connections: row.try_get::<_, i32>(15)?.cast_unsigned(),
            })
        })
    }

    /// Whether the role with this OID can log in or has a session on this server, registered or not.
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`], [`Error::NotRegistered`] excepted.
    pub(crate) async fn is_open(&self, role_oid: u32) -> Result<bool, Error> {
        let row = self
            .ask(
                "",
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = $1 AND r.rolcanlogin)
                     OR EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = $1)",
                &[(&role_oid, Type::OID)],
            )
            .await?;
        self.decode(|| row.try_get(0))
    }

    /// Gives the role LOGIN, its password being accepted until `until`; again with another end is fine.
    /// The end of a role that can log in is never moved back: that is [`Connection::narrow`].
    ///
    /// May wait for a lock, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// [`Error::WindowOutOfRange`], [`Error::RoleChangedIdentity`], [`Error::CouldUndoItsWindow`],
    /// [`Error::OwnsPreparedTransaction`], [`Error::ClosedByHand`], [`Error::ReadOnly`], [`Error::RoleLocked`],
    /// and as [`Connection::role_state`]. [`Error::Forbidden`] for a login that may only close.
    pub async fn open_login(&self, role: &str, until: DateTime<Utc>) -> Result<(), Error> {
        self.run(role, &Statement::open(role, until)).await?;
        Ok(())
    }

    /// Moves the end of the role's login to `until` if it is earlier, and gives no LOGIN: not to a role from which
    /// somebody took it.
    ///
    /// May wait for a lock, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// [`Error::WindowOutOfRange`], [`Error::RoleChangedIdentity`], [`Error::ReadOnly`], [`Error::RoleLocked`],
    /// and as [`Connection::role_state`]. [`Error::Forbidden`] for a login that may only close.
    pub async fn extend(&self, role: &str, until: DateTime<Utc>) -> Result<(), Error> {
        self.run(role, &Statement::extend(role, until)).await?;
        Ok(())
    }

    /// Moves the end of the role's login to `until` if it is later. Gives nothing to anybody.
    ///
    /// Waits 3 seconds for a lock at most.
    ///
    /// # Errors
    ///
    /// [`Error::RoleLocked`], [`Error::ReadOnly`], and as [`Connection::role_state`].
    pub async fn narrow(&self, role: &str, until: DateTime<Utc>) -> Result<(), Error> {
        self.ask(
            role,
            "SELECT latchkey.narrow($1, $2)",
            &[(&role, Type::TEXT), (&until, Type::TIMESTAMPTZ)],
        )
        .await?;
        Ok(())
    }

    /// As [`Connection::open_login`], and in the same statement gives the role `password`, of which only a verifier
    /// leaves this process. A role that can log in already keeps its password, unless it is this one.
    ///
    /// # Errors
    ///
    /// [`Error::AnotherPasswordStands`], [`Error::NotInstalled`] for an installation that knows no passwords, and as
    /// [`Connection::open_login`].
    pub async fn open_login_with_password(
        &self,
        role: &str,
        until: DateTime<Utc>,
        password: &WindowPassword,
    ) -> Result<(), Error> {
        let (verifier, fingerprint) = (password.verifier(), password.fingerprint());
        let statement = Statement::open_with_password(role, until, &verifier, fingerprint.as_str());
        self.run(role, &statement).await?;
        Ok(())
    }

    /// What the database knows of the password that was made for a window of this role.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] for an installation that knows no passwords, and as [`Connection::role_state`].
    pub async fn standing_password(&self, role: &str) -> Result<StandingPassword, Error> {
        let row = self.run(role, &Statement::window_password(role)).await?;
        self.decode(|| {
            Ok(StandingPassword {
                fingerprint: row
                    .try_get::<_, Option<String>>(0)?
                    .map(Fingerprint::from_text),
                kept_because: row.try_get(1)?,
            })
        })
    }

    /// Takes LOGIN from the role, whatever it is called now; again is fine. Ends no session.
    ///
    /// `true` if the role was then seen without LOGIN. Waits 3 seconds for a lock at most.
    ///
    /// # Errors
    ///
    /// [`Error::RoleLocked`], [`Error::ReadOnly`], and as [`Connection::role_state`].
    pub async fn close_login(&self, role: &str) -> Result<bool, Error> {
        let row = self.run(role, &Statement::close(role)).await?;
        self.decode(|| row.try_get(0))
    }

    /// Ends every session of the role on this server, those still starting too, even while it can log in.
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`].
    pub async fn sweep(&self, role: &str) -> Result<Swept, Error> {
        self.run_sweep(role, true).await
    }

    /// As [`Connection::sweep`], but touches nothing while the role can log in.
    ///
    /// # Errors
    ///
    /// [`Error::StillOpen`], and as [`Connection::role_state`].
    pub async fn sweep_if_closed(&self, role: &str) -> Result<Swept, Error> {
        self.run_sweep(role, false).await
    }

    async fn run_sweep(&self, role: &str, force: bool) -> Result<Swept, Error> {
        let row = self.run(role, &Statement::sweep(role, force)).await?;
        self.decode(|| {
            Ok(Swept {
                ended_pids: row.try_get(0)?,
                n_refused: row.try_get::<_, i32>(1)?.cast_unsigned(),
            })
        })
    }

    /// Says goodbye to the server and waits, briefly, until the connection is closed.
    pub async fn end(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        // Whatever goes wrong with a goodbye, the connection is gone when `driver` is dropped.
        let _ = timeout(GOODBYE_LIMIT, &mut driver.0).await;
    }

    /// One statement that a plan can show.
    pub(crate) async fn run(&self, role: &str, statement: &Statement<'_>) -> Result<Row, Error> {
        self.ask(role, statement.sql(), &statement.parameters())
            .await
    }

    /// One statement, one round trip, one row.
    pub(crate) async fn ask(
        &self,
        role: &str,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Error> {
        timeout(
            ANSWER_LIMIT,
            self.client.query_typed_one(statement, parameters),
        )
        .await
        .map_err(|_elapsed| Error::TimedOut {
            endpoint: self.endpoint.clone(),
            limit: ANSWER_LIMIT,
        })?
        .map_err(|source| Error::of_statement(&self.endpoint, role, source))
    }

    /// One statement, one round trip, any number of rows.
    pub(crate) async fn ask_all(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        timeout(ANSWER_LIMIT, self.client.query_typed(statement, parameters))
            .await
            .map_err(|_elapsed| Error::TimedOut {
                endpoint: self.endpoint.clone(),
                limit: ANSWER_LIMIT,
            })?
            .map_err(|source| Error::of_statement(&self.endpoint, "", source))
    }

    pub(crate) fn decode<T>(
        &self,
        read: impl FnOnce() -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        read().map_err(|source| Error::Unexpected {
            endpoint: self.endpoint.clone(),
            source,
        })
    }
}

fn server_of(row: &Row) -> Result<Server, tokio_postgres::Error> {
    Ok(Server {
        // The server keeps 64 bits without a sign and shows them as a bigint.
        system_identifier: SystemIdentifier(row.try_get::<_, i64>(0)?.cast_unsigned()),
        version: row.try_get::<_, i32>(1)?.cast_unsigned(),
        in_recovery: row.try_get(2)?,
        clock: row.try_get(3)?,
    })
}

fn struck_of(row: &DataRowBody) -> Result<Struck, Box<dyn std::error::Error + Sync + Send>> {
    let server = Server {
        // As in `server_of`.
        system_identifier: SystemIdentifier(value::<i64>(row, 0, &Type::INT8)?.cast_unsigned()),
        version: value::<i32>(row, 1, &Type::INT4)?.cast_unsigned(),
        in_recovery: value(row, 2, &Type::BOOL)?,
        clock: value(row, 3, &Type::TIMESTAMPTZ)?,
    };
    let ended_pids: Option<Vec<i32>> = value(row, 4, &Type::INT4_ARRAY)?;
    let login_is_closed: Option<bool> = value(row, 5, &Type::BOOL)?;
    Ok(Struck {
        server,
        // Without any: another cluster.
        ended_pids: ended_pids.unwrap_or_default(),
        login_is_closed: login_is_closed.unwrap_or(false),
    })
}

/// Settings that the owner of a database or role could have made hostile: `ALTER DATABASE ... SET` and
/// `ALTER ROLE ... SET` lose against the start-up packet.
///
/// See <https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-SHELL>.
const SESSION_OPTIONS: &str = "-c default_transaction_read_only=off -c statement_timeout=30000 \
     -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c search_path=pg_catalog \
     -c default_transaction_isolation=read\\ committed -c client_min_messages=warning -c quote_all_identifiers=off";
/// For the whole of TCP, TLS and login, a sleeping `post_auth_delay` or a busy host included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Above the server's own `statement_timeout`, for a server that has become silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Password;

    #[test]
    fn a_system_identifier_is_written_and_read_as_a_number() {
        let identifier: SystemIdentifier = "18446744073709551615".parse().unwrap();
        assert_eq!(identifier.to_string(), "18446744073709551615");
        assert!("-1".parse::<SystemIdentifier>().is_err());
    }

    #[test]
    fn a_password_login_demands_tls_and_channel_binding() {
        let endpoint = Endpoint {
            host: "db.example.com".to_owned(),
            port: 5432,
            database: "latchkey".to_owned(),
        };
        let login = Login::with_password("latchkey_closer", Password::new("secret".to_owned()));
        let config = config(&endpoint, &login);
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
    }
}
