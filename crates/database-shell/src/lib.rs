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
        "closed on every server that is known, but the database has others in other regions ({}); list them as \"readers\" in the catalogue, or remove them",
        .0.join(", ")
    )]
    ReadersNotListed(Vec<String>),
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
            Self::ReadersNotListed(_) => ErrorName::NotProvedClosed,
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

    /// Connects to the server that takes changes.
    ///
    /// # Errors
    /// [`Error`] named `DatabaseUnreachable`, `DatabaseRefused` or `SecretUnavailable`.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let writer = &self.servers.writer;
        let endpoint = self.endpoint(writer);
        let proven = self.proven(writer).await?;
        match access_postgres::connect(&endpoint, &proven, &self.tls).await {
            // A secret that was rotated a moment ago: what was read may have been the old one.
            Err(access_postgres::Error::AuthenticationRefused { .. }) => {
                let proven = self.proven(writer).await?;
                Ok(access_postgres::connect(&endpoint, &proven, &self.tls).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Connects to every server, the one that takes changes first. One that cannot be reached fails all:
    /// what cannot be seen is not known to be closed.
    ///
    /// # Errors
    /// As [`Located::connect`].
    pub async fn connect_everywhere(&self) -> Result<Vec<Connection>, Error> {
        let mut connections = vec![self.connect().await?];
        for reader in &self.servers.readers {
            let proven = self.proven(reader).await?;
            connections
                .push(access_postgres::connect(&self.endpoint(reader), &proven, &self.tls).await?);
        }
        Ok(connections)
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
            readers: self
                .servers
                .readers
                .iter()
                .map(|reader| self.endpoint(reader))
                .collect(),
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
            for reader in &self.servers.readers {
                let token = self.password(reader).await?;
                proven = proven.and_token_for(&reader.host, reader.port, token);
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
