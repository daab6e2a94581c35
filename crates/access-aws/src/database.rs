//! Where a database is, by RDS's own word.

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
    /// Every other one, by its own name: the reader endpoint would hide all but one.
    pub readers: Vec<HostPort>,
    /// What RDS says of others, elsewhere, whose addresses it does not tell here; nothing if the catalogue lists them.
    pub not_listed: Vec<String>,
}

/// Finds every server of `database`.
///
/// # Errors
/// [`Error::Rds`] if RDS cannot be asked, does not know it, or does not name an address.
pub async fn locate(client: &Client, database: &Database) -> Result<Servers, Error> {
    let mut servers = match &database.location {
        Location::Hosts { writer, readers } => Servers {
            writer: writer.clone(),
            readers: readers.clone(),
            not_listed: Vec::new(),
        },
        Location::Cluster(id) => locate_cluster(client, id).await?,
        Location::Instance(id) => locate_instance(client, id).await?,
    };
    if !database.readers_elsewhere.is_empty() {
        servers
            .readers
            .extend(database.readers_elsewhere.iter().cloned());
        servers.not_listed.clear();
    }
    Ok(servers)
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
    let writer = host_port(cluster.endpoint, cluster.port, id)?;
    let mut readers = Vec::new();
    for member in cluster.db_cluster_members.unwrap_or_default() {
        if member.is_cluster_writer == Some(true) {
            continue;
        }
        let Some(member_id) = member.db_instance_identifier else {
            continue;
        };
        readers.push(address(
            &describe_instance(client, &member_id).await?,
            &member_id,
        )?);
    }
    Ok(Servers {
        writer,
        readers,
        not_listed,
    })
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

async fn locate_instance(client: &Client, id: &str) -> Result<Servers, Error> {
    let instance = describe_instance(client, id).await?;
    let mut readers = Vec::new();
    // RDS asks about instances of its own region only, and names those of another by their ARN.
    let mut not_listed = instance.read_replica_db_cluster_identifiers().to_vec();
    for replica in instance.read_replica_db_instance_identifiers() {
        if replica.starts_with("arn:") {
            not_listed.push(replica.clone());
            continue;
        }
        readers.push(address(
            &describe_instance(client, replica).await?,
            replica,
        )?);
    }
    Ok(Servers {
        writer: address(&instance, id)?,
        readers,
        not_listed,
    })
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
