//! Opens, closes and observes one registered PostgreSQL login or membership through the functions of `sql/install.sql`.
//!
//! The crate knows no window and no clock: whoever calls it has decided what should be so.
//! It connects with TLS (verify-full) only, names roles only as bound parameters, and decides on SQLSTATEs only.
//! [`close`] is the closing of Latchkey: it returns when the database was *seen* closed, not when it was told to close.

mod closing;
mod connection;
mod error;
mod facts;
mod first_statement;
mod login;
mod looking;
mod membership;
mod password;
mod powers;
mod role;
pub mod statement;
mod tls;

pub use closing::{
    ClosingPace, ClosingTargets, InstanceProof, InstanceSighting, NotProved, ProofOfClosing, close,
};
pub use connection::{Connection, Endpoint, OpeningByHand, Server, SystemIdentifier, connect};
pub use error::Error;
pub use facts::{FACTS_SQL, ListedDatabase, MAX_FACTS};
pub use login::{Login, Password};
pub use looking::{RoleSeen, look, sweep_hidden};
pub use membership::Membership;
pub use password::{Fingerprint, StandingPassword, WindowPassword};
pub use powers::RolePowers;
pub use role::{Obstacle, RoleState, Swept, ValidUntil};
pub use tls::{TlsSettings, TrustedRoots};

/// The script a DBA runs once per cluster, in the database `latchkey`: roles, table and functions.
pub const INSTALL_SQL: &str = include_str!("../sql/install.sql");

/// The script that takes all of it out again; it refuses while a role or a membership is registered.
pub const UNINSTALL_SQL: &str = include_str!("../sql/uninstall.sql");
