//! Facts that decide about access, read before and after a window: what differs, the window left behind.
//!
//! They are read from catalogues that every login may read, so that no login gets a right for it. What the catalogues
//! hide from such a login does not show: passwords above all.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use crate::{Connection, Error};

/// The statements that the facts come from. Facts that other statements gave cannot be compared with these.
pub const FACTS_SQL: [&str; 2] = [CLUSTER_SQL, DATABASE_SQL];

/// How many facts are read of one cluster or database; one with more is not compared, so that nobody can fill our memory.
pub const MAX_FACTS: usize = 20_000;

/// A database of a cluster, as far as it matters for reading facts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDatabase {
    /// Its name.
    pub name: String,
    /// Whether this login has CONNECT.
    pub may_connect: bool,
    /// Whether it may have a trigger that runs at login (since PostgreSQL 17), with the rights of whoever logs in.
    pub has_login_trigger: bool,
}

impl Connection {
    /// The facts about the whole cluster; only in the database of Latchkey.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyFacts`], and as [`Connection::role_state`], [`Error::NotRegistered`] excepted.
    pub async fn cluster_facts(&self) -> Result<BTreeSet<String>, Error> {
        self.facts(CLUSTER_SQL).await
    }

    /// The facts about the database this connection leads to, whichever that is.
    ///
    /// # Errors
    ///
    /// As [`Connection::cluster_facts`].
    pub async fn database_facts(&self) -> Result<BTreeSet<String>, Error> {
        self.facts(DATABASE_SQL).await
    }

    /// The databases that anybody can connect to.
    ///
    /// Do not enter one with a login trigger: the trigger would run with our login's rights, and could change its
    /// password. The flag can stay for a while after the trigger is gone
    /// (<https://www.postgresql.org/docs/current/catalog-pg-database.html>). `rdsadmin`, in which RDS keeps its own
    /// things, is left out, and so is a database whose removal was interrupted (connection limit -2).
    ///
    /// # Errors
    ///
    /// As [`Connection::role_state`], [`Error::NotRegistered`] excepted.
    pub async fn databases(&self) -> Result<Vec<ListedDatabase>, Error> {
        let rows = self
            .ask_all(
                "SELECT d.datname::text, has_database_privilege(d.oid, 'CONNECT'),
                        coalesce((to_jsonb(d) ->> 'dathasloginevt')::boolean, false)
                   FROM pg_catalog.pg_database d
                  WHERE d.datallowconn AND d.datconnlimit <> -2 AND d.datname NOT IN ('template0', 'rdsadmin')
                  ORDER BY 1",
                &[],
            )
            .await?;
        self.decode(|| {
            let read = |row: &tokio_postgres::Row| {
                Ok(ListedDatabase {
                    name: row.try_get(0)?,
                    may_connect: row.try_get(1)?,
                    has_login_trigger: row.try_get(2)?,
                })
            };
            rows.iter().map(read).collect()
        })
    }

    async fn facts(&self, statement: &str) -> Result<BTreeSet<String>, Error> {
        let limit = i64::try_from(MAX_FACTS + 1).unwrap_or(i64::MAX);
        let rows = self.ask_all(statement, &[(&limit, Type::INT8)]).await?;
        if rows.len() > MAX_FACTS {
            return Err(Error::TooManyFacts {
                endpoint: self.endpoint().clone(),
            });
        }
        self.decode(|| rows.iter().map(|row| row.try_get(0)).collect())
    }
}

const CLUSTER_SQL: &str = include_str!("../sql/facts-cluster.sql");
const DATABASE_SQL: &str = include_str!("../sql/facts-database.sql");
