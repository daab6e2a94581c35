//! What converge acts on: the windows of a role in the table, and the role in its database, whatever a window gives.

use std::time::Duration;

use access_aws::table::Table;
use access_core::catalogue::{Database, Login};
use access_core::converge::carry_out::{
    ClosableRole, LONGEST_CLOSING, LONGEST_STATEMENT, OpenableRole, WindowList,
};
use access_core::{Grant, LoginSeen, RequestId, RoleName, TargetId, Windows};
use access_postgres::{
    Connection, NotProved, ProofOfClosing, RoleState, SystemIdentifier, ValidUntil, WindowPassword,
};
use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

use crate::{Error, Reach, require_all};

/// How long the servers of a closing are believed: after this they are looked up again, because a failover or a
/// removed reader changes them.
const SERVERS_ARE_BELIEVED_FOR: Duration = Duration::from_secs(15);

/// The windows of one role in the table, for one converge.
pub struct WindowsInTable<'a> {
    table: &'a Table,
    target: &'a TargetId,
    role: &'a RoleName,
    /// How this converge announces its closings.
    closing: String,
    now: fn() -> DateTime<Utc>,
}

impl<'a> WindowsInTable<'a> {
    /// The windows of `role` at `target`; `who` names whoever converges, in the table.
    #[must_use]
    pub fn new(
        table: &'a Table,
        target: &'a TargetId,
        role: &'a RoleName,
        who: &str,
        now: fn() -> DateTime<Utc>,
    ) -> Self {
        // To the nanosecond, so that two calls for one request do not withdraw each other's.
        let at = now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        Self {
            table,
            target,
            role,
            closing: format!("{who} {at}"),
            now,
        }
    }
}

impl WindowList for WindowsInTable<'_> {
    type Error = Error;

    fn now(&self) -> DateTime<Utc> {
        (self.now)()
    }

    async fn windows(&self) -> Result<Windows, Error> {
        Ok(self.table.windows(self.target, self.role).await?)
    }

    async fn announce_closing(&self) {
        let until = (self.now)() + LONGEST_CLOSING + LONGEST_STATEMENT;
        if let Err(error) = self
            .table
            .announce_closing(self.target, self.role, &self.closing, until)
            .await
        {
            tracing::error!(target = %self.target, role = %self.role, "a window that opens now may be cut: {error}");
        }
    }

    async fn withdraw_closing(&self) {
        if let Err(error) = self
            .table
            .withdraw_closing(self.target, self.role, &self.closing)
            .await
        {
            tracing::warn!(target = %self.target, role = %self.role, "openings will wait longer than needed: {error}");
        }
    }

    async fn mark_opened(&self, id: &RequestId) -> Result<(), Error> {
        let now = (self.now)();
        Ok(self
            .table
            .mark_opened(self.target, self.role, id, now)
            .await?)
    }
}

/// A role in its database, on whichever servers it has by the time.
pub struct RoleToClose<'a> {
    /// How to get there.
    pub reach: &'a Reach,
    /// Where.
    pub database: &'a Database,
    /// As whom.
    pub login: &'a Login,
    /// The registered name.
    pub role: &'a RoleName,
    /// The cluster that was opened; `None` accepts any.
    pub system_identifier: Option<SystemIdentifier>,
    /// The role that was opened; `None` for whichever is registered.
    pub role_oid: Option<u32>,
    /// How long one closing is tried.
    pub deadline: Duration,
    /// The clock.
    pub now: fn() -> DateTime<Utc>,
}

impl ClosableRole for RoleToClose<'_> {
    type Error = Error;
    type Proof = ProofOfClosing;

    async fn close(&self) -> Result<ProofOfClosing, Error> {
        let deadline = Instant::now() + self.deadline;
        let mut n_ended_before = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let located = self.reach.locate(self.database, self.login).await?;
            let closed = located
                .close(
                    self.role,
                    self.system_identifier,
                    self.role_oid,
                    left.min(SERVERS_ARE_BELIEVED_FOR),
                    self.now,
                )
                .await;
            match closed {
                Ok(mut proof) => match require_all(located.servers(), &proof) {
                    Err(Error::WriterNotSeen) if left > SERVERS_ARE_BELIEVED_FOR => {
                        tracing::warn!(role = %self.role, "looking the servers up again: no writer was seen");
                        n_ended_before += proof.n_sessions_ended;
                    }
                    Err(error) => return Err(error),
                    Ok(()) => {
                        proof.n_sessions_ended += n_ended_before;
                        return Ok(proof);
                    }
                },
                Err(Error::Postgres(access_postgres::Error::NotProved(not_proved)))
                    if left > SERVERS_ARE_BELIEVED_FOR =>
                {
                    tracing::warn!(role = %self.role, "looking the servers up again: {not_proved}");
                    n_ended_before += n_ended(&not_proved);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn narrow(&self, until: DateTime<Utc>) -> Result<(), Error> {
        let located = self.reach.locate(self.database, self.login).await?;
        let connection = located.connect().await?;
        connection.expect_server(self.system_identifier).await?;
        connection.narrow(self.role.as_str(), until).await?;
        connection.end().await;
        Ok(())
    }
}

fn n_ended(not_proved: &NotProved) -> usize {
    let instances = not_proved.instances.iter();
    instances.map(|instance| instance.n_sessions_ended).sum()
}

/// A role in its database, to whoever has a login that may open it.
pub struct RoleToOpen<'a> {
    /// How to take back what was given.
    pub to_close: RoleToClose<'a>,
    /// What the window gives, as people approved it.
    pub grant: &'a Grant,
    /// To the pinned server.
    pub connection: &'a Connection,
    /// The password made for the window of a login; `None` leaves the role the one that it has.
    pub password: Option<&'a WindowPassword>,
}

impl ClosableRole for RoleToOpen<'_> {
    type Error = Error;
    type Proof = ProofOfClosing;

    async fn close(&self) -> Result<ProofOfClosing, Error> {
        self.to_close.close().await
    }

    async fn narrow(&self, until: DateTime<Utc>) -> Result<(), Error> {
        self.to_close.narrow(until).await
    }
}

impl OpenableRole for RoleToOpen<'_> {
    async fn login(&self) -> Result<LoginSeen, Error> {
        let role = self.to_close.role.as_str();
        Ok(login_seen(&self.connection.role_state(role).await?))
    }

    async fn open(&self, until: DateTime<Utc>) -> Result<bool, Error> {
        let role = self.to_close.role.as_str();
        let connection = self.connection;
        let opened = match (self.grant.membership(), self.password) {
            (None, Some(password)) => {
                connection
                    .open_login_with_password(role, until, password)
                    .await
            }
            (None, None) => connection.open_login(role, until).await,
            (Some(membership), _) => {
                let (granted, user) = (membership.role.as_str(), membership.user.as_str());
                connection.open_membership(role, granted, user, until).await
            }
        };
        match opened {
            Ok(()) => Ok(true),
            Err(access_postgres::Error::ClosedByHand { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn extend(&self, until: DateTime<Utc>) -> Result<(), Error> {
        let role = self.to_close.role.as_str();
        Ok(self.connection.extend(role, until).await?)
    }
}

/// What converge wants to know of a role's state.
#[must_use]
pub fn login_seen(state: &RoleState) -> LoginSeen {
    LoginSeen {
        can_login: state.can_login,
        valid_until: match state.valid_until {
            ValidUntil::At(at) => Some(at),
            ValidUntil::Always | ValidUntil::Never => None,
        },
    }
}
