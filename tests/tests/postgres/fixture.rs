//! Servers shared by the tests, and a role of its own for each test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use access_postgres::{
    ClosingPace, ClosingTargets, Connection, Endpoint, Error, Login, Password, ProofOfClosing,
    TlsSettings, TrustedRoots, connect,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres, Settings};

/// Runs a check on each version that was asked for.
pub(super) async fn on_each_version(check: impl AsyncFn(&'static LocalPostgres)) {
    for server in servers().await {
        println!("on PostgreSQL {}", server.version());
        check(server).await;
    }
}

/// The servers that the tests of this process share. They end with the process.
async fn servers() -> &'static [LocalPostgres] {
    static SERVERS: OnceCell<Vec<LocalPostgres>> = OnceCell::const_new();
    SERVERS
        .get_or_init(async || {
            let mut servers = Vec::new();
            for major in majors() {
                servers.push(start(*major).await);
            }
            servers
        })
        .await
}

/// The major versions to test on.
pub(super) fn majors() -> &'static [Option<u32>] {
    static MAJORS: OnceLock<Vec<Option<u32>>> = OnceLock::new();
    MAJORS.get_or_init(|| match std::env::var("LATCHKEY_PG_VERSIONS") {
        Ok(list) => list
            .split(',')
            .map(|major| {
                Some(
                    major
                        .trim()
                        .parse()
                        .expect("LATCHKEY_PG_VERSIONS is like 13,15,18"),
                )
            })
            .collect(),
        Err(_) => vec![None],
    })
}

/// A server of its own for a test that would disturb the others.
pub(super) async fn start(major: Option<u32>) -> LocalPostgres {
    let settings = Settings {
        major,
        parameters: vec![("max_prepared_transactions".to_owned(), "10".to_owned())],
        ..Settings::default()
    };
    LocalPostgres::start(&settings)
        .await
        .unwrap_or_else(|error| panic!("start PostgreSQL: {error}: {error:?}"))
}

/// A new role, registered for windows of up to 8 hours, that cannot log in yet.
pub(super) async fn new_role(server: &LocalPostgres) -> Account {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = format!("breakglass_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    new_role_named(server, &name).await
}

/// As [`new_role`], with a name that matters.
pub(super) async fn new_role_named(server: &LocalPostgres, name: &str) -> Account {
    let role = new_unregistered_role(server, name).await;
    register(server, name).await.unwrap();
    role
}

/// A role made by the master that is not registered and cannot log in.
pub(super) async fn new_unregistered_role(server: &LocalPostgres, name: &str) -> Account {
    let account = Account {
        user: name.to_owned(),
        password: "correct horse battery staple".to_owned(),
    };
    run_as_master(
        server,
        &format!(
            "CREATE ROLE {} NOLOGIN PASSWORD '{}'",
            quoted(name),
            account.password
        ),
    )
    .await;
    account
}

/// Registers a role as the DBA would.
pub(super) async fn register(
    server: &LocalPostgres,
    name: &str,
) -> Result<(), tokio_postgres::Error> {
    master(server)
        .await
        .query_one("SELECT latchkey.register($1, '8 hours')", &[&name])
        .await
        .map(drop)
}

/// The DBA's session in the database of Latchkey.
pub(super) async fn master(server: &LocalPostgres) -> Client {
    server
        .log_in(&server.accounts().master, LATCHKEY_DATABASE)
        .await
        .unwrap()
}

pub(super) async fn run_as_master(server: &LocalPostgres, statement: &str) {
    master(server).await.batch_execute(statement).await.unwrap();
}

pub(super) async fn run_as_superuser(server: &LocalPostgres, statement: &str) {
    superuser(server)
        .await
        .batch_execute(statement)
        .await
        .unwrap();
}

pub(super) async fn superuser(server: &LocalPostgres) -> Client {
    server
        .log_in(&server.accounts().superuser, "postgres")
        .await
        .unwrap()
}

pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

pub(super) fn endpoint(server: &LocalPostgres) -> Endpoint {
    Endpoint {
        host: server.host().to_owned(),
        port: server.port(),
        database: LATCHKEY_DATABASE.to_owned(),
    }
}

pub(super) fn tls(server: &LocalPostgres) -> TlsSettings {
    TlsSettings::verify_full(TrustedRoots::from_pem(server.ca_pem()).unwrap()).unwrap()
}

pub(super) fn login(account: &Account) -> Login {
    Login::with_password(&account.user, Password::new(account.password.clone()))
}

/// A connection that may open and close.
pub(super) async fn opener(server: &LocalPostgres) -> Connection {
    connect(
        &endpoint(server),
        &login(&server.accounts().opener),
        &tls(server),
    )
    .await
    .unwrap()
}

/// A connection that may only close.
pub(super) async fn closer(server: &LocalPostgres) -> Connection {
    connect(
        &endpoint(server),
        &login(&server.accounts().closer),
        &tls(server),
    )
    .await
    .unwrap()
}

/// Opens the role for an hour.
pub(super) async fn open(server: &LocalPostgres, role: &Account) {
    opener(server)
        .await
        .open_login(&role.user, in_one_hour())
        .await
        .unwrap();
}

/// Closes the role on a server that stands alone.
pub(super) async fn close(server: &LocalPostgres, role: &Account) -> Result<ProofOfClosing, Error> {
    close_targets(server, &only(server), role, Duration::from_secs(60)).await
}

/// A cluster of one server, and whatever role is registered there.
pub(super) fn only(server: &LocalPostgres) -> ClosingTargets {
    ClosingTargets {
        writer: endpoint(server),
        readers: Vec::new(),
        role_oid: None,
        system_identifier: None,
    }
}

/// Closes the role on all instances with the closing login of `server`.
pub(super) async fn close_targets(
    server: &LocalPostgres,
    targets: &ClosingTargets,
    role: &Account,
    deadline: Duration,
) -> Result<ProofOfClosing, Error> {
    access_postgres::close(
        targets,
        &login(&server.accounts().closer),
        &tls(server),
        &role.user,
        &ClosingPace::within(deadline),
        Utc::now,
    )
    .await
}

/// The question of all tests: can this role log in now?
pub(super) async fn can_log_in(server: &LocalPostgres, role: &Account) -> bool {
    match server.log_in(role, APPLICATION_DATABASE).await {
        Ok(_) => true,
        // Not permitted to log in; or the password is not valid any more.
        Err(error)
            if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
                || error.code() == Some(&SqlState::INVALID_PASSWORD) =>
        {
            false
        }
        Err(error) => panic!("neither accepted nor refused: {error:?}"),
    }
}

/// A session of the role, as a person would have it.
pub(super) async fn session(server: &LocalPostgres, role: &Account) -> Client {
    server.log_in(role, APPLICATION_DATABASE).await.unwrap()
}

/// Whether a session still answers.
pub(super) async fn is_alive(session: &Client) -> bool {
    session.simple_query("SELECT 1").await.is_ok()
}

/// How many backends of the role a superuser sees.
pub(super) async fn n_sessions(server: &LocalPostgres, role: &Account) -> i64 {
    superuser(server)
        .await
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE usename::text = $1",
            &[&role.user],
        )
        .await
        .unwrap()
        .get(0)
}

/// Waits until the condition holds, for thirty seconds at most.
pub(super) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "did not happen in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn in_one_hour() -> DateTime<Utc> {
    Utc::now() + TimeDelta::hours(1)
}

/// Waits until a session that is still starting stays so. Others start too, and are done in milliseconds.
pub(super) async fn until_one_hides(closer: &Connection, name: &str) {
    eventually("it hides", async || {
        for _ in 0..10 {
            if closer.role_state(name).await.unwrap().n_starting == 0 {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    })
    .await;
}
