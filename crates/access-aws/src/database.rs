//! Where a database is, by RDS's own word.

use access_core::catalogue::{HostPort, Location};
use aws_sdk_rds::Client;
use aws_sdk_rds::types::DbInstance;

use crate::Error;
use crate::error::chain;

/// Every server of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// The one that takes writes. For a cluster it is the cluster's own name, which follows a failover.
    pub writer: HostPort,
    /// Every other one, by its own name: the reader endpoint would hide all but one.
    pub readers: Vec<HostPort>,
}

/// Finds every server of the database at `location`.
///
/// # Errors
/// [`Error::Rds`] if RDS cannot be asked, does not know it, or does not name an address.
pub async fn locate(client: &Client, location: &Location) -> Result<Servers, Error> {
    match location {
        Location::Hosts { writer, readers } => Ok(Servers {
            writer: writer.clone(),
            readers: readers.clone(),
        }),
        Location::Cluster(id) => locate_cluster(client, id).await,
        Location::Instance(id) => locate_instance(client, id).await,
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
    Ok(Servers { writer, readers })
}

async fn locate_instance(client: &Client, id: &str) -> Result<Servers, Error> {
    let instance = describe_instance(client, id).await?;
    let mut readers = Vec::new();
    for replica in instance.read_replica_db_instance_identifiers() {
        readers.push(address(
            &describe_instance(client, replica).await?,
            replica,
        )?);
    }
    Ok(Servers {
        writer: address(&instance, id)?,
        readers,
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
