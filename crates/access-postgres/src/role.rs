//! What a server says about one registered role.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Timestamp;

/// A registered role as one server sees it at one moment (`latchkey.state`). Of a registered membership: the role whose
/// member the user may be for a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleState {
    /// The OID that was registered. It survives a renaming, and a re-created role has another.
    pub oid: u32,
    /// The name that OID has now; `None` if the role was dropped.
    pub current_name: Option<String>,
    /// Whether the registered name now belongs to a role with another OID.
    pub name_taken: bool,
    /// Whether it is open: the role has LOGIN, or the user is a member.
    pub can_login: bool,
    /// Until when a password login is accepted; of a membership, until when it was opened.
    pub valid_until: ValidUntil,
    /// Sessions of the role that can be seen; of a membership, those of the user that may act as the role.
    pub n_sessions: u64,
    /// Backends still starting, of whichever role: PostgreSQL does not say whose they are.
    pub n_starting: u64,
    /// Prepared transactions the role owns. One of them can block closing, and only its owner or a superuser can end it.
    pub n_prepared: u64,
    /// Whether this server is a standby (a reader).
    pub in_recovery: bool,
    /// Roles that can act as this role although it cannot log in, ours left out; of a membership, by whom or through
    /// what the user is a member beside Latchkey.
    pub members: Vec<String>,
    /// Whether the role is a superuser.
    pub is_superuser: bool,
    /// Whether the role has CREATEROLE.
    pub is_createrole: bool,
    /// Whether the role could change its own LOGIN or VALID UNTIL: a superuser, or CREATEROLE before PostgreSQL 16.
    pub could_undo_its_window: bool,
    /// Whether our functions have the rights they need on the role. If not, the DBA registers it again.
    pub is_manageable: bool,
    /// The longest window the DBA allows, from the moment of opening.
    pub max_window: Duration,
    /// The connection limit the role gets at opening; 0 for a membership.
    pub max_connections: u32,
}

impl RoleState {
    /// Why `open` would refuse this role, registered as `role`; empty if it would not.
    #[must_use]
    pub fn obstacles(&self, role: &str) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        match &self.current_name {
            None => obstacles.push(Obstacle::Dropped),
            Some(name) if name != role => obstacles.push(Obstacle::Renamed { now: name.clone() }),
            Some(_) => {}
        }
        if self.could_undo_its_window {
            obstacles.push(Obstacle::CouldUndoItsWindow);
        }
        if self.n_prepared > 0 {
            obstacles.push(Obstacle::OwnsPreparedTransaction);
        }
        if !self.is_manageable {
            obstacles.push(Obstacle::NotManageable);
        }
        obstacles
    }

    /// Whether a membership is registered under this name. Opening it limits no connections; a login's limit is 1 or more.
    #[must_use]
    pub fn is_membership(&self) -> bool {
        self.max_connections == 0
    }

    /// Whether it is not open, and no session of it can be seen.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.can_login && self.n_sessions == 0
    }
}

/// Until when the server accepts the role's password (`VALID UNTIL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidUntil {
    /// No limit is set, or `infinity`, or a year after 9999.
    Always,
    /// Accepted before this moment.
    At(DateTime<Utc>),
    /// `-infinity`: never accepted.
    Never,
}

impl From<Option<Timestamp<DateTime<Utc>>>> for ValidUntil {
    fn from(value: Option<Timestamp<DateTime<Utc>>>) -> Self {
        match value {
            None | Some(Timestamp::PosInfinity) => Self::Always,
            Some(Timestamp::Value(at)) => Self::At(at),
            Some(Timestamp::NegInfinity) => Self::Never,
        }
    }
}

/// A reason why a registered role cannot be opened now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The registered role does not exist any more.
    Dropped,
    /// The registered role has another name now.
    Renamed {
        /// Its present name.
        now: String,
    },
    /// It could lift its own limits.
    CouldUndoItsWindow,
    /// It owns a prepared transaction, which could block closing.
    OwnsPreparedTransaction,
    /// Our functions lack rights on it.
    NotManageable,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => formatter.write_str(
                "the registered role or user was dropped; register its successor with latchkey.register or register_membership",
            ),
            Self::Renamed { now } => write!(
                formatter,
                "what was registered is now called {now:?}; register that with latchkey.register or register_membership"
            ),
            Self::CouldUndoItsWindow => formatter.write_str(
                "the role could lift its own limits; take SUPERUSER from it, and before PostgreSQL 16 CREATEROLE too",
            ),
            Self::OwnsPreparedTransaction => formatter.write_str(
                "the role owns a prepared transaction, which could block closing; roll it back (see pg_prepared_xacts)",
            ),
            Self::NotManageable => formatter.write_str(
                "latchkey has lost its rights on the role or the user; register it again with latchkey.register or register_membership",
            ),
        }
    }
}

/// What one sweep over a server did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The process ids of the sessions it ended: visible ones and ones still starting.
    pub ended_pids: Vec<i32>,
    /// Starting backends it tried and that turned out to be somebody else's; they were not touched.
    pub n_refused: u32,
}
