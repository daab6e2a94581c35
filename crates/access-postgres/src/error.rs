//! What can go wrong with a database, told apart by SQLSTATE and by type, never by text.

use std::io;
use std::time::Duration;

use rustls::pki_types::pem;
use tokio_postgres::error::SqlState;

use crate::{Endpoint, NotProved, SystemIdentifier};

/// Why something could not be done or seen in a database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA text holds no certificate.
    #[error(
        "the CA bundle holds no certificate; give PEM text with at least one CERTIFICATE block"
    )]
    NoRoots,
    /// The CA text is damaged.
    #[error("the CA bundle is not valid PEM; fetch it again")]
    InvalidRoots {
        /// What the PEM reader says.
        #[source]
        source: pem::Error,
    },
    /// A certificate of the CA text cannot be a trust anchor.
    #[error("a certificate of the CA bundle cannot be a trust anchor; give CA certificates only")]
    UnusableRoot {
        /// What the verifier says.
        #[source]
        source: rustls::Error,
    },
    /// The crypto provider cannot speak TLS 1.2 or 1.3.
    #[error("no usable TLS version")]
    TlsUnavailable {
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },

    /// The server does not answer, is starting or stopping, or the connection broke.
    #[error(
        "{endpoint} cannot be reached or the connection broke; check network, security groups and the server"
    )]
    Unreachable {
        /// Which server.
        endpoint: Endpoint,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server did not answer in time.
    #[error(
        "{endpoint} did not answer within {limit:?}; check network, security groups and the server"
    )]
    TimedOut {
        /// Which server.
        endpoint: Endpoint,
        /// How long we waited.
        limit: Duration,
    },
    /// The server's certificate was not accepted.
    #[error(
        "the TLS certificate of {endpoint} was not accepted; check the CA and the host name in the catalogue"
    )]
    UntrustedServer {
        /// Which server.
        endpoint: Endpoint,
        /// What the driver says; the verifier's words are further down the chain.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server offers no TLS, or no SCRAM with channel binding. Nothing was sent in clear.
    #[error(
        "{endpoint} did not agree to TLS and SCRAM with channel binding; it must have ssl = on and store the password as scram-sha-256"
    )]
    HandshakeRefused {
        /// Which server.
        endpoint: Endpoint,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server does not accept user and password (28P01, 28000).
    #[error(
        "{endpoint} refused the login of {user:?}; the secret may have been rotated: read it again"
    )]
    AuthenticationRefused {
        /// Which server.
        endpoint: Endpoint,
        /// The user we tried.
        user: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// No connection is free (53300).
    #[error("{endpoint} has no free connection")]
    TooManyConnections {
        /// Which server.
        endpoint: Endpoint,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It answers, but it is another cluster than the one pinned at registration.
    #[error(
        "{endpoint} is another server than the registered one: its system identifier is {found}, not {expected}"
    )]
    NotTheRegisteredServer {
        /// Which server.
        endpoint: Endpoint,
        /// The pinned identifier.
        expected: SystemIdentifier,
        /// Its identifier.
        found: SystemIdentifier,
    },

    /// The functions are not there (3D000, 3F000, 42883, 42P01).
    #[error("latchkey is not installed in {endpoint}; run install.sql there")]
    NotInstalled {
        /// Which database.
        endpoint: Endpoint,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Our user may not do this (42501).
    #[error("the server forbids this to our user; run install.sql again")]
    Forbidden {
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server is a standby (25006): the writer is another one now.
    #[error("{endpoint} is read-only; the writer is another instance now: resolve it again")]
    ReadOnly {
        /// Which server.
        endpoint: Endpoint,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The DBA has not registered the role (42704).
    #[error("role {role:?} is not registered in the database; ask its owner to register it")]
    NotRegistered {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The registered role was renamed, dropped or re-created (LK001).
    #[error(
        "role {role:?} is not the role that was registered any more; the DBA registers it again"
    )]
    RoleChangedIdentity {
        /// The registered name.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The role could lift its own limits (LK002).
    #[error(
        "role {role:?} could undo its own window; take SUPERUSER from it, and before PostgreSQL 16 CREATEROLE too"
    )]
    CouldUndoItsWindow {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It has the end of an opening and is not open: somebody took LOGIN, or the membership, by hand (LK005).
    #[error(
        "somebody closed {role:?} by hand while it was open; to let it be opened again, the DBA runs latchkey.close for it"
    )]
    ClosedByHand {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The role can log in, and the sweep was to spare such a role (LK003).
    #[error("role {role:?} can log in, so its sessions were left alone")]
    StillOpen {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The role owns a prepared transaction, which could block closing (55006).
    #[error("role {role:?} owns a prepared transaction; roll it back (see pg_prepared_xacts)")]
    OwnsPreparedTransaction {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The end is in the past, or further away than the DBA allows (22023).
    #[error(
        "the end of the window is in the past or further away than the registration of {role:?} allows"
    )]
    WindowOutOfRange {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The role can log in with another password, which somebody was given (LK006).
    #[error("role {role:?} can log in with another password already, which is left as it is")]
    AnotherPasswordStands {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The user is a member without Latchkey, which a closing could not end (LK008).
    #[error(
        "the user of {role:?} is a member already, by others than Latchkey; latchkey.membership says by whom"
    )]
    MemberAlready {
        /// The registered name of the membership.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Somebody else holds or has just changed the role's row (55P03, XX000, 40001, 40P01).
    #[error("role {role:?} is locked or was changed at the same moment")]
    RoleLocked {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server cancelled the statement, mostly because of `statement_timeout` (57014).
    #[error("the server cancelled the statement about role {role:?}")]
    Cancelled {
        /// The role.
        role: String,
        /// What the server says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There are more facts than are compared ([`MAX_FACTS`](crate::MAX_FACTS)).
    #[error("{endpoint} has more facts about access than can be compared")]
    TooManyFacts {
        /// Which database.
        endpoint: Endpoint,
    },
    /// The server says what we did not expect.
    #[error("{endpoint} gave an unexpected answer")]
    Unexpected {
        /// Which server.
        endpoint: Endpoint,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },

    /// The role was not seen closed on every instance in time.
    #[error(transparent)]
    NotProved(#[from] Box<NotProved>),
}

impl Error {
    /// Whether trying again, without anybody changing anything, can succeed.
    ///
    /// After [`Error::ReadOnly`] and [`Error::Unreachable`] the writer is to be resolved again first.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::TooManyConnections { .. }
            | Self::ReadOnly { .. }
            | Self::RoleLocked { .. }
            | Self::Cancelled { .. }
            | Self::NotProved(_) => true,
            Self::NoRoots
            | Self::InvalidRoots { .. }
            | Self::UnusableRoot { .. }
            | Self::TlsUnavailable { .. }
            | Self::UntrustedServer { .. }
            | Self::HandshakeRefused { .. }
            | Self::AuthenticationRefused { .. }
            | Self::NotTheRegisteredServer { .. }
            | Self::NotInstalled { .. }
            | Self::Forbidden { .. }
            | Self::NotRegistered { .. }
            | Self::RoleChangedIdentity { .. }
            | Self::CouldUndoItsWindow { .. }
            | Self::ClosedByHand { .. }
            | Self::StillOpen { .. }
            | Self::AnotherPasswordStands { .. }
            | Self::MemberAlready { .. }
            | Self::OwnsPreparedTransaction { .. }
            | Self::WindowOutOfRange { .. }
            | Self::TooManyFacts { .. }
            | Self::Unexpected { .. } => false,
        }
    }

    /// Whether the server says that somebody ended our session, or that it is being shut down (57P01).
    pub(crate) fn session_was_ended(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.code() == Some(&SqlState::ADMIN_SHUTDOWN))
    }

    /// Sorts a failure of connecting.
    pub(crate) fn connecting(
        endpoint: &Endpoint,
        user: &str,
        source: tokio_postgres::Error,
    ) -> Self {
        let endpoint = endpoint.clone();
        if let Some(state) = source.code() {
            return match *state {
                SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                    Self::AuthenticationRefused {
                        endpoint,
                        user: user.to_owned(),
                        source,
                    }
                }
                SqlState::TOO_MANY_CONNECTIONS => Self::TooManyConnections { endpoint, source },
                SqlState::INVALID_CATALOG_NAME => Self::NotInstalled { endpoint, source },
                SqlState::INSUFFICIENT_PRIVILEGE => Self::Forbidden { source },
                _ if connection_is_lost(state) => Self::Unreachable { endpoint, source },
                _ => Self::Unexpected { endpoint, source },
            };
        }
        match io_cause(&source) {
            Some(cause) if is_tls(cause) => Self::UntrustedServer { endpoint, source },
            Some(_) => Self::Unreachable { endpoint, source },
            None if source.is_closed() => Self::Unreachable { endpoint, source },
            None => Self::HandshakeRefused { endpoint, source },
        }
    }

    /// Sorts a failure of a statement about `role`.
    pub(crate) fn of_statement(
        endpoint: &Endpoint,
        role: &str,
        source: tokio_postgres::Error,
    ) -> Self {
        let endpoint = endpoint.clone();
        let role = role.to_owned();
        let Some(state) = source.code() else {
            return if source.is_closed() || io_cause(&source).is_some() {
                Self::Unreachable { endpoint, source }
            } else {
                Self::Unexpected { endpoint, source }
            };
        };
        match *state {
            SqlState::UNDEFINED_OBJECT => Self::NotRegistered { role, source },
            SqlState::INVALID_PARAMETER_VALUE => Self::WindowOutOfRange { role, source },
            SqlState::OBJECT_IN_USE => Self::OwnsPreparedTransaction { role, source },
            SqlState::LOCK_NOT_AVAILABLE
            | SqlState::INTERNAL_ERROR
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED => Self::RoleLocked { role, source },
            SqlState::QUERY_CANCELED => Self::Cancelled { role, source },
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly { endpoint, source },
            SqlState::INSUFFICIENT_PRIVILEGE => Self::Forbidden { source },
            SqlState::INVALID_SCHEMA_NAME
            | SqlState::UNDEFINED_FUNCTION
            | SqlState::UNDEFINED_TABLE => Self::NotInstalled { endpoint, source },
            SqlState::TOO_MANY_CONNECTIONS => Self::TooManyConnections { endpoint, source },
            _ if connection_is_lost(state) => Self::Unreachable { endpoint, source },
            _ => match state.code() {
                CHANGED_IDENTITY => Self::RoleChangedIdentity { role, source },
                COULD_UNDO_ITS_WINDOW => Self::CouldUndoItsWindow { role, source },
                STILL_OPEN => Self::StillOpen { role, source },
                CLOSED_BY_HAND => Self::ClosedByHand { role, source },
                MEMBER_ALREADY => Self::MemberAlready { role, source },
                ANOTHER_PASSWORD => Self::AnotherPasswordStands { role, source },
                _ => Self::Unexpected { endpoint, source },
            },
        }
    }
}

/// Whether the server is going away, coming up, or the connection broke: class 08 and the shutdown states.
///
/// See <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn connection_is_lost(state: &SqlState) -> bool {
    state.code().starts_with("08")
        || matches!(
            *state,
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW
        )
}

fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn is_tls(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>())
}

// SQLSTATEs that `sql/install.sql` raises; class LK is free for us, since the standard and PostgreSQL use 0-4 and A-H,
// F0, HV, P0, XX.
const CHANGED_IDENTITY: &str = "LK001";
const COULD_UNDO_ITS_WINDOW: &str = "LK002";
const STILL_OPEN: &str = "LK003";
const CLOSED_BY_HAND: &str = "LK005";
const ANOTHER_PASSWORD: &str = "LK006";
const MEMBER_ALREADY: &str = "LK008";
