//! What a role may do beside logging in: for the people who decide whether it should.

use tokio_postgres::types::Type;

use crate::{Connection, Error};

/// What a role may do, as the catalogues say to every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePowers {
    /// The roles whose rights it has, directly or through others, in order.
    pub member_of: Vec<String>,
    /// It may create and change roles.
    pub create_role: bool,
    /// It may create databases.
    pub create_database: bool,
    /// It may replicate the whole cluster.
    pub replication: bool,
    /// Row-level security does not hold for it.
    pub bypass_row_security: bool,
    /// It may end the sessions of everybody who is no superuser, as `pg_signal_backend` or a member of it
    /// (<https://www.postgresql.org/docs/current/predefined-roles.html>); `rds_superuser` is one.
    pub end_sessions: bool,
    /// It may connect to the database in which Latchkey is installed, which a role that is registered may not.
    pub reaches_latchkey: bool,
}

impl Connection {
    /// What the role with this OID may do.
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`], [`Error::NotRegistered`] excepted; [`Error::Unexpected`] if there is no such role.
    pub async fn role_powers(&self, role_oid: u32) -> Result<RolePowers, Error> {
        let row = self
            .ask(
                "",
                "SELECT (SELECT coalesce(pg_catalog.array_agg(g.rolname::pg_catalog.text ORDER BY g.rolname), '{}')
                           FROM pg_catalog.pg_roles g
                          WHERE g.oid <> r.oid AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')),
                        r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls,
                        pg_catalog.pg_has_role(r.oid, 'pg_signal_backend', 'MEMBER'),
                        pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
                   FROM pg_catalog.pg_roles r
                  WHERE r.oid = $1",
                &[(&role_oid, Type::OID)],
            )
            .await?;
        self.decode(|| {
            Ok(RolePowers {
                member_of: row.try_get(0)?,
                create_role: row.try_get(1)?,
                create_database: row.try_get(2)?,
                replication: row.try_get(3)?,
                bypass_row_security: row.try_get(4)?,
                end_sessions: row.try_get(5)?,
                reaches_latchkey: row.try_get(6)?,
            })
        })
    }
}
