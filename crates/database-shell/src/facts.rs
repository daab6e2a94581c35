//! The facts that decide about access, of a whole cluster: what can be read is read, the rest is said to be unread.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use access_core::{DatabaseFacts, Digest, Facts, WhyUnread};
use access_postgres::{
    Endpoint, Error, FACTS_SQL, ListedDatabase, Login, MAX_FACTS, TlsSettings, connect,
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::chain;

/// How many databases are read at the same time. Closings need the login's connections more.
const AT_ONCE: usize = 4;

/// How long one database may take; one that hangs leaves time for the others.
const PER_DATABASE: Duration = Duration::from_secs(4);

/// How many facts of all databases together are kept, so that nobody can fill our memory.
const MAX_FACTS_OF_ALL: usize = 5 * MAX_FACTS;

/// Reads the facts about the cluster and about every database that `login` may connect to. `home` is the database of
/// Latchkey. Takes at most `within`: a database that could not be read by then, or at all, is noted as unread.
///
/// # Errors
/// As [`access_postgres::connect`] and [`access_postgres::Connection::cluster_facts`], if there are not even facts about
/// the cluster.
pub async fn read_facts(
    home: &Endpoint,
    login: &Login,
    tls: &TlsSettings,
    within: Duration,
) -> Result<Facts, Error> {
    let deadline = Instant::now() + within;
    let (mut facts, others) = timeout_at(deadline, read_home(home, login, tls))
        .await
        .map_err(|_elapsed| Error::TimedOut {
            endpoint: home.clone(),
            limit: within,
        })??;
    let mut reading = futures_util::stream::iter(&others)
        .map(|database| async move {
            let endpoint = Endpoint {
                database: database.name.clone(),
                ..home.clone()
            };
            (
                database,
                read_other(database, &endpoint, login, tls, deadline).await,
            )
        })
        .buffer_unordered(AT_ONCE);
    let mut n_facts = 0;
    while let Some((database, mut read)) = reading.next().await {
        if let DatabaseFacts::Read(rows) = &read {
            n_facts += rows.len();
            if n_facts > MAX_FACTS_OF_ALL {
                read = DatabaseFacts::Unread(WhyUnread::TooManyFacts);
            }
        }
        facts.databases.insert(database.name.clone(), read);
    }
    Ok(facts)
}

/// The facts about the cluster and the database of Latchkey, and which other databases there are.
async fn read_home(
    home: &Endpoint,
    login: &Login,
    tls: &TlsSettings,
) -> Result<(Facts, Vec<ListedDatabase>), Error> {
    let connection = connect(home, login, tls).await?;
    let major = connection.server().await?.version / 10_000;
    let questions = Digest::of(&FACTS_SQL.concat());
    let mut facts = Facts {
        questions: format!("{} on {major}", questions.as_str()),
        cluster: connection.cluster_facts().await?,
        databases: BTreeMap::new(),
    };
    let read = connection.database_facts().await;
    facts
        .databases
        .insert(home.database.clone(), read_or_why(&home.database, read));
    let mut others = connection.databases().await?;
    others.retain(|database| database.name != home.database);
    connection.end().await;
    Ok((facts, others))
}

async fn read_other(
    database: &ListedDatabase,
    endpoint: &Endpoint,
    login: &Login,
    tls: &TlsSettings,
    deadline: Instant,
) -> DatabaseFacts {
    if !database.may_connect {
        return DatabaseFacts::Unread(WhyUnread::NotAllowed);
    }
    if database.has_login_trigger {
        return DatabaseFacts::Unread(WhyUnread::LoginTrigger);
    }
    let reading = async {
        let connection = connect(endpoint, login, tls).await?;
        let facts = connection.database_facts().await?;
        connection.end().await;
        Ok(facts)
    };
    let read = timeout_at(deadline.min(Instant::now() + PER_DATABASE), reading).await;
    let read = read.unwrap_or_else(|_elapsed| {
        Err(Error::TimedOut {
            endpoint: endpoint.clone(),
            limit: PER_DATABASE,
        })
    });
    read_or_why(&database.name, read)
}

fn read_or_why(database: &str, read: Result<BTreeSet<String>, Error>) -> DatabaseFacts {
    match read {
        Ok(facts) => DatabaseFacts::Read(facts),
        Err(error) => {
            tracing::warn!(database, "facts not read: {}", chain(&error));
            DatabaseFacts::Unread(match error {
                Error::TooManyFacts { .. } => WhyUnread::TooManyFacts,
                _ => WhyUnread::Failed,
            })
        }
    }
}
