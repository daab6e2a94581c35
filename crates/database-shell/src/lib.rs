//! The only library that knows both AWS and PostgreSQL: from a catalogue entry to an open connection or a proof.

use std::time::Duration;

use access_aws::account;
use access_aws::database::{self, Servers};
use access_aws::error::chain;
use access_aws::rds_roots;
use access_aws::secret::Secrets;
use access_contract::ErrorName;
use access_core::catalogue::{CaSource, Credential, Database, HostPort, Login};
use access_core::{Facts, RoleName};
use access_postgres::{
    ClosingPace, ClosingTargets, Connection, Endpoint, Password, ProofOfClosing, SystemIdentifier,
    TlsSettings, TrustedRoots,
};
use aws_types::SdkConfig;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;

mod converging;
mod facts;

pub use converging::{RoleToClose, RoleToOpen, WindowsInTable, login_seen};
pub use facts::read_facts;

/// Why a database could not be reached or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on AWS.
    #[error(transparent)]
    Aws(#[from] access_aws::Error),
    /// Something on PostgreSQL.
    #[error("{}", chain(.0))]
    Postgres(#[from] access_postgres::Error),
    /// There are servers on which nobody could see whether a role is closed.
    #[error(
        "closed on every server that is known, but the database has others in other regions ({}); list each of them under \"readers\" in the catalogue, or remove them",
        .0.join(", ")
    )]
    ReadersNotListed(Vec<String>),
    /// There are servers that have no address now.
    #[error(
        "closed on every server that has an address, but RDS names others that have none now ({}), because they are being made or removed; wait until they are available or gone, then this is proved",
        .0.join(", ")
    )]
    ServersNotAvailable(Vec<String>),
    /// The server that takes changes was not among those that were seen closed.
    #[error(
        "every server that was seen closed is a standby by now; the one that takes changes is looked up anew at the next try"
    )]
    WriterNotSeen,
    /// No roots are known for the database's region.
    #[error(
        "no RDS roots are built in for region {0}; name a parameter with the region's roots as \"ca\" in the catalogue"
    )]
    UnknownRegion(String),
}

impl Error {
    /// The name that reaches the state machine.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        use access_postgres::Error as Postgres;
        match self {
            Self::Aws(error) => error.name(),
            Self::UnknownRegion(_) => ErrorName::CatalogueFaulty,
            Self::ReadersNotListed(_) | Self::ServersNotAvailable(_) | Self::WriterNotSeen => {
                ErrorName::NotProvedClosed
            }
            Self::Postgres(error) => match error {
                Postgres::NotTheRegisteredServer { .. } => ErrorName::NotTheRegisteredDatabase,
                Postgres::NotProved(_) => ErrorName::NotProvedClosed,
                Postgres::NoRoots
                | Postgres::InvalidRoots { .. }
                | Postgres::UnusableRoot { .. }
                | Postgres::TlsUnavailable { .. } => ErrorName::CatalogueFaulty,
                error if error.retryable() => ErrorName::DatabaseUnreachable,
                _ => ErrorName::DatabaseRefused,
            },
        }
    }
}

/// What it takes to reach databases.
pub struct Reach {
    rds: aws_sdk_rds::Client,
    ssm: aws_sdk_ssm::Client,
    secrets: Secrets,
    region: String,
    config: SdkConfig,
}

/// A database whose servers and certificates are known, to one of its logins.
pub struct Located<'a> {
    reach: &'a Reach,
    database: &'a Database,
    login: &'a Login,
    /// The function's own, or those of the role that the login assumes.
    rights: SdkConfig,
    servers: Servers,
    tls: TlsSettings,
}

/// Connections to the servers of a database.
pub struct Reached {
    /// To each that could be reached, the one that takes changes first. At least one.
    pub connections: Vec<Connection>,
    /// How many could not, those without an address included: of them nothing is known.
    pub n_missing: usize,
}

impl Reach {
    /// Reaches databases with the function's own rights.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            rds: aws_sdk_rds::Client::new(config),
            ssm: aws_sdk_ssm::Client::new(config),
            secrets: Secrets::new(config),
            region: config.region().map(ToString::to_string).unwrap_or_default(),
            config: config.clone(),
        }
    }

    /// Finds the servers of `database` and whom to trust for them, to connect to them as `login`.
    ///
    /// # Errors
    /// [`Error`] named `DatabaseUnreachable`, `CatalogueUnavailable` or `CatalogueFaulty`.
    pub async fn locate<'a>(
        &'a self,
        database: &'a Database,
        login: &'a Login,
    ) -> Result<Located<'a>, Error> {
        let (rights, servers) = match &login.assume {
            None => {
                let servers = database::locate(&self.rds, database).await?;
                (self.config.clone(), servers)
            }
            Some(role) => {
                let rights = account::assume(&self.config, role).await?;
                let rds = aws_sdk_rds::Client::new(&rights);
                let servers = database::locate(&rds, database).await?;
                (rights, servers)
            }
        };
        let tls = match &database.ca {
            CaSource::Rds => {
                let region = database.region.as_deref().unwrap_or(&self.region);
                let roots = rds_roots::of_region(region)
                    .ok_or_else(|| Error::UnknownRegion(region.to_owned()))?;
                TlsSettings::verify_full(TrustedRoots::from_pem(roots)?)?
            }
            CaSource::Parameter(name) => {
                let pem = access_aws::catalogue::Catalogue::certificate_authority(&self.ssm, name)
                    .await?;
                TlsSettings::verify_full(TrustedRoots::from_pem(&pem)?)?
            }
        };
        Ok(Located {
            reach: self,
            database,
            login,
            rights,
            servers,
            tls,
        })
    }
}

/// Refuses a proof that does not hold for every server of a database.
fn require_all(servers: &Servers, proof: &ProofOfClosing) -> Result<(), Error> {
    if !servers.not_listed.is_empty() {
        return Err(Error::ReadersNotListed(servers.not_listed.clone()));
    }
    if !servers.not_available.is_empty() {
        return Err(Error::ServersNotAvailable(servers.not_available.clone()));
    }
    // As they were seen last: one that was promoted meanwhile takes changes now.
    if proof.instances.iter().all(|it| it.state.in_recovery) {
        return Err(Error::WriterNotSeen);
    }
    Ok(())
}

impl Located<'_> {
    /// The server that takes changes.
    #[must_use]
    pub fn writer(&self) -> &HostPort {
        &self.servers.writer
    }

    /// Other servers of the database that RDS names and nobody lists: on those nothing can be proved.
    #[must_use]
    pub fn not_listed(&self) -> &[String] {
        &self.servers.not_listed
    }

    fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Connects to the server that takes changes.
    ///
    /// # Errors
    /// [`Error`] named `DatabaseUnreachable`, `DatabaseRefused` or `SecretUnavailable`.
    pub async fn connect(&self) -> Result<Connection, Error> {
        self.connect_to(&self.servers.writer).await
    }

    async fn connect_to(&self, server: &HostPort) -> Result<Connection, Error> {
        let endpoint = self.endpoint(server);
        let proven = self.proven(server).await?;
        match access_postgres::connect(&endpoint, &proven, &self.tls).await {
            // A secret that was rotated a moment ago: what was read may have been the old one.
            Err(access_postgres::Error::AuthenticationRefused { .. }) => {
                let proven = self.proven(server).await?;
                Ok(access_postgres::connect(&endpoint, &proven, &self.tls).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Connects to every server that can be reached, the one that takes changes first.
    ///
    /// # Errors
    /// As [`Located::connect`], if not one can be.
    pub async fn connect_everywhere(&self) -> Result<Reached, Error> {
        let servers = || std::iter::once(&self.servers.writer).chain(&self.servers.readers);
        let connected = join_all(servers().map(|server| self.connect_to(server))).await;
        let mut reached = Reached {
            connections: Vec::new(),
            n_missing: self.servers.not_available.len(),
        };
        let mut first_error = None;
        for (server, connected) in servers().zip(connected) {
            match connected {
                Ok(connection) => reached.connections.push(connection),
                Err(error) => {
                    tracing::error!(
                        host = server.host,
                        port = server.port,
                        "server not reached: {error}"
                    );
                    reached.n_missing += 1;
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if reached.connections.is_empty() => Err(error),
            _ => Ok(reached),
        }
    }

    /// Closes `role` on every server of the database, and proves it.
    ///
    /// # Errors
    /// [`Error`] named `NotProvedClosed`, or as for [`Located::connect`].
    pub async fn close(
        &self,
        role: &RoleName,
        system_identifier: Option<SystemIdentifier>,
        role_oid: Option<u32>,
        deadline: Duration,
        now: fn() -> DateTime<Utc>,
    ) -> Result<ProofOfClosing, Error> {
        let targets = ClosingTargets {
            writer: self.endpoint(&self.servers.writer),
            readers: self.others().map(|server| self.endpoint(server)).collect(),
            system_identifier,
            role_oid,
        };
        let pace = ClosingPace::within(deadline);
        let proven = self.proven_everywhere().await?;
        match access_postgres::close(&targets, &proven, &self.tls, role.as_str(), &pace, now).await
        {
            Err(access_postgres::Error::AuthenticationRefused { .. }) => {
                let proven = self.proven_everywhere().await?;
                Ok(
                    access_postgres::close(&targets, &proven, &self.tls, role.as_str(), &pace, now)
                        .await?,
                )
            }
            answer => Ok(answer?),
        }
    }

    /// Reads the facts that decide about access, on the server that takes changes. Takes at most `within`, but for
    /// the time it takes to read the secret; what cannot be read is noted as unread.
    ///
    /// # Errors
    /// [`Error`] named `DatabaseUnreachable`, `DatabaseRefused` or `SecretUnavailable`, if there are not even facts
    /// about the cluster.
    pub async fn facts(&self, within: Duration) -> Result<Facts, Error> {
        let writer = &self.servers.writer;
        let endpoint = self.endpoint(writer);
        let proven = self.proven(writer).await?;
        match read_facts(&endpoint, &proven, &self.tls, within).await {
            Err(access_postgres::Error::AuthenticationRefused { .. }) => {
                let proven = self.proven(writer).await?;
                Ok(read_facts(&endpoint, &proven, &self.tls, within).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Every server by its own name; the writer too, if it has one beside that of its cluster.
    fn others(&self) -> impl Iterator<Item = &HostPort> {
        let Servers {
            writer_itself,
            readers,
            ..
        } = &self.servers;
        writer_itself.iter().chain(readers)
    }

    fn endpoint(&self, server: &HostPort) -> Endpoint {
        Endpoint {
            host: server.host.clone(),
            port: server.port,
            database: self.database.database.clone(),
        }
    }

    /// One login for every server: a password is the same everywhere, a token is not.
    async fn proven_everywhere(&self) -> Result<access_postgres::Login, Error> {
        let mut proven = self.proven(&self.servers.writer).await?;
        if self.login.credential == Credential::Iam {
            for server in self.others() {
                let token = self.password(server).await?;
                proven = proven.and_token_for(&server.host, server.port, token);
            }
        }
        Ok(proven)
    }

    async fn proven(&self, server: &HostPort) -> Result<access_postgres::Login, Error> {
        let password = self.password(server).await?;
        let user = &self.login.user;
        Ok(match self.login.credential {
            Credential::Secret(_) => access_postgres::Login::with_password(user, password),
            Credential::Iam => access_postgres::Login::with_token(user, password),
        })
    }

    async fn password(&self, server: &HostPort) -> Result<Password, Error> {
        let region = self.database.region.as_deref();
        let password = self
            .reach
            .secrets
            .password(self.login, server, region, &self.rights)
            .await?;
        Ok(Password::new(password.expose().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use access_postgres::{InstanceProof, RoleState, Server, ValidUntil};

    use super::*;

    fn proof(in_recovery: &[bool]) -> ProofOfClosing {
        let at = DateTime::UNIX_EPOCH;
        let state = |in_recovery| RoleState {
            oid: 1,
            current_name: Some("breakglass".to_owned()),
            name_taken: false,
            can_login: false,
            valid_until: ValidUntil::Never,
            n_sessions: 0,
            n_starting: 0,
            n_prepared: 0,
            in_recovery,
            members: Vec::new(),
            is_superuser: false,
            is_createrole: false,
            could_undo_its_window: false,
            is_manageable: true,
            max_window: Duration::from_secs(3600),
            max_connections: 10,
        };
        let instances = in_recovery.iter().map(|in_recovery| InstanceProof {
            endpoint: Endpoint {
                host: "db".to_owned(),
                port: 5432,
                database: "latchkey".to_owned(),
            },
            // As it was when it was connected to.
            server: Server {
                system_identifier: "1".parse().unwrap(),
                version: 180_000,
                in_recovery: true,
                clock: at,
            },
            sessions_gone_at: at,
            proved_at: at,
            n_sessions_ended: 0,
            state: state(*in_recovery),
        });
        ProofOfClosing {
            started_at: at,
            connected_at: at,
            login_refused_at: at,
            sessions_gone_at: at,
            proved_at: at,
            n_sessions_ended: 0,
            instances: instances.collect(),
        }
    }

    #[test]
    fn a_proof_without_the_server_that_takes_changes_is_none() {
        let servers = Servers {
            writer: HostPort {
                host: "db".to_owned(),
                port: 5432,
            },
            writer_itself: None,
            readers: Vec::new(),
            not_listed: Vec::new(),
            not_available: Vec::new(),
        };
        let standbys = require_all(&servers, &proof(&[true, true])).unwrap_err();
        assert!(matches!(standbys, Error::WriterNotSeen), "{standbys:?}");
        assert_eq!(standbys.name(), ErrorName::NotProvedClosed);
        require_all(&servers, &proof(&[true, false])).unwrap();
    }
}
