//! Where a database is, by RDS's own word.

use std::collections::BTreeSet;

use access_core::catalogue::{Database, HostPort, Location};
use aws_sdk_rds::Client;
use aws_sdk_rds::types::{DbCluster, DbInstance};

use crate::Error;
use crate::error::chain;

/// Every server of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// The one that takes writes. For a cluster it is the cluster's own name, which follows a failover.
    pub writer: HostPort,
    /// The instance that RDS says is a cluster's writer, by its own name. In a failover the cluster's name leads to
    /// another one before RDS says so, and this one still has sessions.
    pub writer_itself: Option<HostPort>,
    /// Every other one, by its own name: the reader endpoint would hide all but one.
    pub readers: Vec<HostPort>,
    /// What RDS says of others, elsewhere, whose addresses it does not tell here; nothing if the catalogue lists at
    /// least as many.
    pub not_listed: Vec<String>,
    /// Others that RDS names and gives no address for now: they are being made, or removed.
    pub not_available: Vec<String>,
}

/// Finds every server of `database`.
///
/// # Errors
/// [`Error::Rds`] if RDS cannot be asked about it, does not know it, or does not name the writer's address.
pub async fn locate(client: &Client, database: &Database) -> Result<Servers, Error> {
    let mut servers = match &database.location {
        Location::Hosts { writer, readers } => Servers {
            readers: readers.clone(),
            ..Servers::of(writer.clone())
        },
        Location::Cluster(id) => locate_cluster(client, id).await?,
        Location::Instance(id) => locate_instance(client, id).await?,
    };
    let listed = &database.readers_elsewhere;
    servers.readers.extend(listed.iter().cloned());
    // RDS does not say their addresses, so that they can only be counted.
    if listed.len() >= servers.not_listed.len() {
        servers.not_listed.clear();
    }
    Ok(servers)
}

impl Servers {
    fn of(writer: HostPort) -> Self {
        Self {
            writer,
            writer_itself: None,
            readers: Vec::new(),
            not_listed: Vec::new(),
            not_available: Vec::new(),
        }
    }

    /// One without an address keeps nobody from closing on the others.
    fn miss(&mut self, id: String, error: &Error) {
        tracing::warn!(server = id, "not reached: {error}");
        self.not_available.push(id);
    }

    /// The replicas of `instance` here; RDS asks about instances of its own region only, and names those of another by
    /// their ARN.
    fn replicas_of(&mut self, instance: &DbInstance) -> Vec<String> {
        let clusters = instance.read_replica_db_cluster_identifiers();
        self.not_listed.extend(clusters.iter().cloned());
        let (elsewhere, here) = instance
            .read_replica_db_instance_identifiers()
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|replica| replica.starts_with("arn:"));
        self.not_listed.extend(elsewhere);
        here
    }
}

async fn locate_cluster(client: &Client, id: &str) -> Result<Servers, Error> {
    let output = client
        .describe_db_clusters()
        .db_cluster_identifier(id)
        .send()
        .await
        .map_err(|error| Error::Rds(chain(error)))?;
    let cluster = output
        .db_clusters
        .unwrap_or_default()
        .into_iter()
        .next()
        .ok_or_else(|| Error::Rds(format!("there is no cluster {id}")))?;
    let not_listed = elsewhere_of_cluster(&cluster);
    let mut servers = Servers {
        not_listed,
        ..Servers::of(host_port(cluster.endpoint, cluster.port, id)?)
    };
    for member in cluster.db_cluster_members.unwrap_or_default() {
        let Some(member_id) = member.db_instance_identifier else {
            continue;
        };
        let described = describe_instance(client, &member_id).await;
        match described.and_then(|instance| address(&instance, &member_id)) {
            Ok(address) if member.is_cluster_writer == Some(true) => {
                servers.writer_itself = Some(address);
            }
            Ok(address) => servers.readers.push(address),
            Err(error) => servers.miss(member_id, &error),
        }
    }
    Ok(servers)
}

/// The global database that a cluster belongs to, and its replicas in other regions
/// (<https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBCluster.html>).
fn elsewhere_of_cluster(cluster: &DbCluster) -> Vec<String> {
    let global = cluster
        .global_cluster_identifier()
        .filter(|id| !id.is_empty());
    let replicas = cluster.read_replica_identifiers().iter().cloned();
    global
        .map(str::to_owned)
        .into_iter()
        .chain(replicas)
        .collect()
}

/// Replicas can have replicas of their own
/// (<https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PostgreSQL.Replication.ReadReplicas.html>).
async fn locate_instance(client: &Client, id: &str) -> Result<Servers, Error> {
    let instance = describe_instance(client, id).await?;
    let mut servers = Servers::of(address(&instance, id)?);
    let mut seen = BTreeSet::from([id.to_owned()]);
    let mut replicas = servers.replicas_of(&instance);
    while let Some(replica) = replicas.pop() {
        if !seen.insert(replica.clone()) {
            continue;
        }
        match describe_instance(client, &replica).await {
            Ok(instance) => {
                replicas.extend(servers.replicas_of(&instance));
                match address(&instance, &replica) {
                    Ok(address) => servers.readers.push(address),
                    Err(error) => servers.miss(replica, &error),
                }
            }
            Err(error) => servers.miss(replica, &error),
        }
    }
    Ok(servers)
}

async fn describe_instance(client: &Client, id: &str) -> Result<DbInstance, Error> {
    let output = client
        .describe_db_instances()
        .db_instance_identifier(id)
        .send()
        .await
        .map_err(|error| Error::Rds(chain(error)))?;
    output
        .db_instances
        .unwrap_or_default()
        .into_iter()
        .next()
        .ok_or_else(|| Error::Rds(format!("there is no instance {id}")))
}

fn address(instance: &DbInstance, id: &str) -> Result<HostPort, Error> {
    let endpoint = instance.endpoint();
    host_port(
        endpoint.and_then(|endpoint| endpoint.address().map(str::to_owned)),
        endpoint.and_then(aws_sdk_rds::types::Endpoint::port),
        id,
    )
}

fn host_port(host: Option<String>, port: Option<i32>, id: &str) -> Result<HostPort, Error> {
    let port = port.and_then(|port| u16::try_from(port).ok());
    match (host, port) {
        (Some(host), Some(port)) => Ok(HostPort { host, port }),
        _ => Err(Error::Rds(format!(
            "{id} has no address yet; try again when it is available"
        ))),
    }
}
