//! Can this role log in now? Asked as an outsider would: by logging in, over TLS, with the password.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A PostgreSQL server and how to trust it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host name, as in its certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The certificate authority that vouches for it, in PEM.
    pub ca_pem: String,
}

/// What came of an attempt to log in.
#[derive(Debug)]
pub enum Attempt {
    /// The login was accepted; the session stays open until it is dropped or cut.
    Accepted(Session),
    /// The server refused the login.
    Refused {
        /// The server's code for the reason: `28000` may not log in, `28P01` password not (or no longer) valid, `42501`
        /// no member of the role.
        sqlstate: String,
    },
}

impl Attempt {
    /// Whether the login was accepted.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// An open session, and the moment at which it ends.
#[derive(Debug)]
pub struct Session {
    client: tokio_postgres::Client,
    ended: JoinHandle<SessionEnd>,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// When we noticed.
    pub at: DateTime<Utc>,
    /// The server's code for the reason: `57P01` when another session ended it.
    pub sqlstate: Option<String>,
}

impl Session {
    /// Runs one query and returns its first value, as text.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub async fn query_text(&self, query: &str) -> Result<String> {
        let failed = |source: tokio_postgres::Error| Error::Postgres {
            action: format!("run `{query}`"),
            source: Box::new(source),
        };
        let row = self.client.query_one(query, &[]).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    }

    /// Does `SET ROLE`, and says whether the server let it.
    ///
    /// # Errors
    /// [`Error::Postgres`] when the answer was neither yes nor no.
    pub async fn act_as(&self, role: &str) -> Result<bool> {
        let identifier = role.replace('"', "\"\"");
        let set_role = format!("SET ROLE \"{identifier}\"");
        match self.client.batch_execute(&set_role).await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
            Err(source) => Err(Error::Postgres {
                action: format!("run `{set_role}`"),
                source: Box::new(source),
            }),
        }
    }

    /// Waits until the session ends, for at most `at_most`.
    ///
    /// # Errors
    /// [`Error::Waited`] when it is still open then.
    pub async fn cut(self, at_most: Duration) -> Result<SessionEnd> {
        let still_open = || Error::Waited {
            what: "the end of the open session".to_owned(),
            waited: at_most,
            last_seen: Some("the session was still open".to_owned()),
        };
        let end = tokio::time::timeout(at_most, self.ended)
            .await
            .map_err(|_| still_open())?;
        end.map_err(|_| still_open())
    }
}

impl Server {
    /// Tries to log in to `database` as `role`.
    ///
    /// # Errors
    /// [`Error::Postgres`] when the answer was neither yes nor no: the server could not be reached or trusted.
    pub async fn log_in(&self, database: &str, role: &str, password: &str) -> Result<Attempt> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Postgres {
            action: format!("log in as {role} at {}:{}", self.host, self.port),
            source,
        };
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(database)
            .user(role)
            .password(password)
            .application_name("latchkey login probe")
            .connect_timeout(ANSWER_WITHIN)
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Postgres)
            .channel_binding(ChannelBinding::Prefer);
        let tls = self.tls().map_err(failed)?;
        let connected = tokio::time::timeout(ANSWER_WITHIN, config.connect(tls)).await;
        match connected.map_err(|elapsed| failed(Box::new(elapsed)))? {
            Ok((client, connection)) => {
                let ended = tokio::spawn(async move {
                    let result = connection.await;
                    SessionEnd {
                        at: Utc::now(),
                        sqlstate: result
                            .err()
                            .and_then(|error| error.code().map(|code| code.code().to_owned())),
                    }
                });
                Ok(Attempt::Accepted(Session { client, ended }))
            }
            Err(error) => match error.code() {
                Some(code) if is_refusal(code) => Ok(Attempt::Refused {
                    sqlstate: code.code().to_owned(),
                }),
                _ => Err(failed(Box::new(error))),
            },
        }
    }

    fn tls(
        &self,
    ) -> std::result::Result<MakeRustlsConnect, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

/// "No" as the server says it (<https://www.postgresql.org/docs/current/errcodes-appendix.html>, class 28).
fn is_refusal(code: &SqlState) -> bool {
    *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION || *code == SqlState::INVALID_PASSWORD
}
