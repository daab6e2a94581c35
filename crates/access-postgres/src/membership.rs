//! A membership that is given for a window: what the database says about it, and how it is given. It is closed, narrowed
//! and looked at like a login, by its registered name.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;

use crate::statement::Statement;
use crate::{Connection, Error};

/// A registered membership, as far as a [`RoleState`](crate::RoleState) does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The registered name of the role that the window gives.
    pub role: String,
    /// The registered name of the user who becomes its member.
    pub user: String,
    /// The OID of the user that was registered.
    pub user_oid: u32,
    /// By whom, or through which role, the user is a member beside Latchkey. A closing cannot take that.
    pub held_by: Vec<String>,
    /// Who can act as the user, and so during a window as the role.
    pub acted_as_by: Vec<String>,
}

impl Connection {
    /// What the database says about the membership registered as `name`. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] for an installation that knows no memberships, and as [`Connection::role_state`].
    pub async fn membership(&self, name: &str) -> Result<Membership, Error> {
        let row = self
            .ask(
                name,
                "SELECT role_name, user_name, user_oid, held_by, acted_as_by FROM latchkey.membership($1)",
                &[(&name, Type::TEXT)],
            )
            .await?;
        self.decode(|| {
            Ok(Membership {
                role: row.try_get(0)?,
                user: row.try_get(1)?,
                user_oid: row.try_get(2)?,
                held_by: row.try_get(3)?,
                acted_as_by: row.try_get(4)?,
            })
        })
    }

    /// Grants `role` to `user` until `until`, if that is what is registered as `name`: without ADMIN, and since
    /// PostgreSQL 16 with SET and without INHERIT (<https://www.postgresql.org/docs/current/sql-grant.html>). Again with
    /// another end is fine; an end that stands is never moved back: that is [`Connection::narrow`].
    ///
    /// PostgreSQL does not end it by itself. May wait for a lock, for 30 seconds at most.
    ///
    /// # Errors
    ///
    /// [`Error::MemberAlready`], [`Error::NotInstalled`] for an installation that knows no memberships, and as
    /// [`Connection::open_login`].
    pub async fn open_membership(
        &self,
        name: &str,
        role: &str,
        user: &str,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        let statement = Statement::open_membership(name, role, user, until);
        self.run(name, &statement).await?;
        Ok(())
    }
}
