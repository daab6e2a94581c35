//! Where the servers of a cluster are, by RDS's word: they change while it is being closed, or are in other regions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access_core::RoleName;
use access_core::catalogue::{CaSource, Credential, Database, HostPort, Location, Login};
use access_core::converge::carry_out::ClosableRole as _;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_http_client::Builder;
use aws_types::SdkConfig;
use chrono::Utc;
use database_shell::{Error, Reach, RoleToClose};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use xtask::postgres::{Account, LATCHKEY_DATABASE, LocalPostgres};

use super::fixture::*;

/// As disable-login.
const PROOF_DEADLINE: Duration = Duration::from_secs(40);

/// A cluster as RDS describes it, the password of the closer, and the roots of its servers.
struct Described {
    writer_port: u16,
    /// The member that RDS says is the writer, if it is behind the cluster's name.
    flagged_port: Option<u16>,
    reader_ports: Vec<u16>,
    /// A member that is being made: it has no address.
    in_the_making: Option<&'static str>,
    /// The replicas of instances.
    replicas: BTreeMap<String, Vec<String>>,
    /// Replicas of the cluster, in other regions.
    replicas_elsewhere: Vec<&'static str>,
    /// The global database that it belongs to.
    global: Option<&'static str>,
    password: String,
    roots: String,
    /// How often the cluster was described.
    n_looks: usize,
}

impl Described {
    fn new(writer: &LocalPostgres, readers: &[&LocalPostgres]) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            writer_port: writer.port(),
            reader_ports: readers.iter().map(|reader| reader.port()).collect(),
            flagged_port: None,
            in_the_making: None,
            replicas: BTreeMap::new(),
            replicas_elsewhere: Vec::new(),
            global: None,
            password: writer.accounts().closer.password.clone(),
            roots: writer.ca_pem().to_owned(),
            n_looks: 0,
        }))
    }
}

/// As the catalogue has it.
fn cluster_with(readers_elsewhere: Vec<HostPort>) -> Database {
    let login = |user: &str| Login {
        user: user.to_owned(),
        credential: Credential::Secret("arn:of:the:password".to_owned()),
        assume: None,
    };
    Database {
        location: Location::Cluster("orders".to_owned()),
        readers_elsewhere,
        database: LATCHKEY_DATABASE.to_owned(),
        opener: login("latchkey_opener"),
        closer: login("latchkey_closer"),
        ca: CaSource::Parameter("/roots".to_owned()),
        region: None,
        time_zone: None,
    }
}

/// The writer dies, its only reader is promoted, and the dead one leaves the cluster. What was looked up before leads to
/// the dead one by both names: its closing is only proved because the servers are looked up again.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_looked_up_again_within_a_closing() {
    for major in majors() {
        let mut primary = start(*major).await;
        let standby = primary.add_standby().await.unwrap();
        let role = primary.accounts().target.clone();
        open(&primary, &role).await;
        eventually("the reader knows that the role is open", async || {
            can_log_in(&standby, &role).await
        })
        .await;
        let on_reader = session(&standby, &role).await;
        let pin = closer(&primary).await.server().await.unwrap();
        let described = Described::new(&primary, &[&standby]);
        let reach = Reach::new(&aws(&described).await);
        let database = cluster_with(Vec::new());
        let to_close = RoleToClose {
            reach: &reach,
            database: &database,
            login: &database.closer,
            role: &RoleName::new(&role.user).unwrap(),
            role_oid: None,
            system_identifier: Some(pin.system_identifier),
            deadline: PROOF_DEADLINE,
            now: Utc::now,
        };
        primary.stop().unwrap();
        let failing_over = async {
            eventually("the servers were looked up", async || {
                described.lock().unwrap().n_looks > 0
            })
            .await;
            run_as_superuser(&standby, "SELECT pg_promote()").await;
            let mut described = described.lock().unwrap();
            described.writer_port = standby.port();
            described.reader_ports.clear();
        };
        let (proof, ()) = tokio::join!(to_close.close(), failing_over);
        let proof = proof.unwrap();
        assert_eq!(proof.instances.len(), 1);
        assert_eq!(proof.instances[0].endpoint.port, standby.port());
        assert_eq!(proof.n_sessions_ended, 1);
        assert!(described.lock().unwrap().n_looks > 1);
        assert!(!can_log_in(&standby, &role).await);
        assert!(!is_alive(&on_reader).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_proved_while_readers_in_other_regions_are_not_listed() {
    for major in majors() {
        let mut primary = start(*major).await;
        let elsewhere = primary.add_standby().await.unwrap();
        let role = primary.accounts().target.clone();
        open(&primary, &role).await;
        eventually("the reader knows that the role is open", async || {
            can_log_in(&elsewhere, &role).await
        })
        .await;
        let on_writer = session(&primary, &role).await;
        let on_reader = session(&elsewhere, &role).await;
        let described = Described::new(&primary, &[]);
        described.lock().unwrap().global = Some("orders-everywhere");
        let reach = Reach::new(&aws(&described).await);
        let name = RoleName::new(&role.user).unwrap();
        let close = async |database: &Database| {
            let to_close = RoleToClose {
                reach: &reach,
                database,
                login: &database.closer,
                role: &name,
                role_oid: None,
                system_identifier: None,
                deadline: PROOF_DEADLINE,
                now: Utc::now,
            };
            to_close.close().await
        };
        // What can be closed is closed all the same.
        let not_listed = close(&cluster_with(Vec::new())).await;
        let Err(Error::ReadersNotListed(names)) = not_listed else {
            panic!("{not_listed:?}")
        };
        assert_eq!(names, ["orders-everywhere"]);
        assert!(!can_log_in(&primary, &role).await);
        assert!(!is_alive(&on_writer).await);
        assert!(is_alive(&on_reader).await);

        let listed = HostPort {
            host: elsewhere.host().to_owned(),
            port: elsewhere.port(),
        };
        let proof = close(&cluster_with(vec![listed])).await.unwrap();
        assert_eq!(proof.instances.len(), 2);
        assert!(!is_alive(&on_reader).await);

        // One that is listed says nothing about two.
        described.lock().unwrap().replicas_elsewhere = vec!["orders-there"];
        let listed = HostPort {
            host: elsewhere.host().to_owned(),
            port: elsewhere.port(),
        };
        let not_listed = close(&cluster_with(vec![listed])).await;
        let Err(Error::ReadersNotListed(names)) = not_listed else {
            panic!("{not_listed:?}")
        };
        assert_eq!(names, ["orders-everywhere", "orders-there"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_in_the_making_keeps_nothing_open_and_nothing_is_proved() {
    for major in majors() {
        let mut primary = start(*major).await;
        let standby = primary.add_standby().await.unwrap();
        let role = primary.accounts().target.clone();
        open_everywhere(&primary, &standby, &role).await;
        let on_writer = session(&primary, &role).await;
        let on_reader = session(&standby, &role).await;
        let described = Described::new(&primary, &[&standby]);
        described.lock().unwrap().in_the_making = Some("orders-new");
        let reach = Reach::new(&aws(&described).await);
        let database = cluster_with(Vec::new());
        let role_name = RoleName::new(&role.user).unwrap();
        let to_close = to_close(&reach, &database, &role_name);
        let not_proved = to_close.close().await;
        let Err(Error::ServersNotAvailable(names)) = not_proved else {
            panic!("{not_proved:?}")
        };
        assert_eq!(names, ["orders-new"]);
        assert!(!can_log_in(&primary, &role).await);
        assert!(!is_alive(&on_writer).await && !is_alive(&on_reader).await);

        described.lock().unwrap().in_the_making = None;
        assert_eq!(to_close.close().await.unwrap().instances.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_replicas_are_closed() {
    for major in majors() {
        let mut primary = start(*major).await;
        let standby = primary.add_standby().await.unwrap();
        let role = primary.accounts().target.clone();
        open_everywhere(&primary, &standby, &role).await;
        let on_last = session(&standby, &role).await;
        let described = Described::new(&primary, &[]);
        let first = primary.port().to_string();
        let last = standby.port().to_string();
        // The one in between is being made anew.
        described.lock().unwrap().replicas = BTreeMap::from([
            (first.clone(), vec!["orders-new".to_owned()]),
            ("orders-new".to_owned(), vec![last, first.clone()]),
        ]);
        described.lock().unwrap().in_the_making = Some("orders-new");
        let reach = Reach::new(&aws(&described).await);
        let database = Database {
            location: Location::Instance(first),
            ..cluster_with(Vec::new())
        };
        let role_name = RoleName::new(&role.user).unwrap();
        let to_close = to_close(&reach, &database, &role_name);
        let not_proved = to_close.close().await;
        assert!(
            matches!(not_proved, Err(Error::ServersNotAvailable(_))),
            "{not_proved:?}"
        );
        assert!(!is_alive(&on_last).await);

        described.lock().unwrap().in_the_making = None;
        described
            .lock()
            .unwrap()
            .replicas
            .insert(primary.port().to_string(), vec![standby.port().to_string()]);
        assert_eq!(to_close.close().await.unwrap().instances.len(), 2);
    }
}

/// In a failover the cluster's name leads to another instance before RDS says so: sessions of the one that it still calls
/// the writer end too.
#[tokio::test(flavor = "multi_thread")]
async fn the_instance_that_rds_calls_the_writer_is_closed_by_its_own_name() {
    for major in majors() {
        let mut primary = start(*major).await;
        let standby = primary.add_standby().await.unwrap();
        let role = primary.accounts().target.clone();
        open_everywhere(&primary, &standby, &role).await;
        let on_flagged = session(&standby, &role).await;
        let on_writer = session(&primary, &role).await;
        let described = Described::new(&primary, &[&primary]);
        described.lock().unwrap().flagged_port = Some(standby.port());
        let reach = Reach::new(&aws(&described).await);
        let database = cluster_with(Vec::new());
        let role_name = RoleName::new(&role.user).unwrap();
        let proof = to_close(&reach, &database, &role_name).close().await;
        let proof = proof.unwrap();
        assert_eq!(proof.instances.len(), 2);
        assert_eq!(proof.n_sessions_ended, 2);
        assert!(!is_alive(&on_flagged).await && !is_alive(&on_writer).await);
    }
}

/// One reader that does not answer keeps nobody from looking at the others, and is counted.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_can_be_reached_are_looked_at_and_the_others_counted() {
    for major in majors() {
        let mut primary = start(*major).await;
        let mut standby = primary.add_standby().await.unwrap();
        let described = Described::new(&primary, &[&standby]);
        let reach = Reach::new(&aws(&described).await);
        let database = cluster_with(Vec::new());
        let located = reach.locate(&database, &database.closer).await.unwrap();
        let looked = async || {
            let reached = located.connect_everywhere().await.unwrap();
            let registered = reached.connections[0].registered_roles().await.unwrap();
            assert!(registered.contains(&primary.accounts().target.user));
            (reached.connections.len(), reached.n_missing)
        };
        assert_eq!(looked().await, (2, 0));
        standby.stop().unwrap();
        assert_eq!(looked().await, (1, 1));

        described.lock().unwrap().in_the_making = Some("orders-new");
        let located = reach.locate(&database, &database.closer).await.unwrap();
        let reached = located.connect_everywhere().await.unwrap();
        assert_eq!((reached.connections.len(), reached.n_missing), (1, 2));
    }
}

async fn open_everywhere(primary: &LocalPostgres, standby: &LocalPostgres, role: &Account) {
    open(primary, role).await;
    eventually("the reader knows that the role is open", async || {
        can_log_in(standby, role).await
    })
    .await;
}

fn to_close<'a>(reach: &'a Reach, database: &'a Database, role: &'a RoleName) -> RoleToClose<'a> {
    RoleToClose {
        reach,
        database,
        login: &database.closer,
        role,
        system_identifier: None,
        role_oid: None,
        deadline: PROOF_DEADLINE,
        now: Utc::now,
    }
}

/// Clients of an AWS that knows one cluster. It ends with the test.
async fn aws(described: &Arc<Mutex<Described>>) -> SdkConfig {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let described = Arc::clone(described);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let described = Arc::clone(&described);
            let answering = service_fn(move |request: Request<Incoming>| {
                let described = Arc::clone(&described);
                async move {
                    let target = request.headers().get("x-amz-target").cloned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let target = target.as_ref().and_then(|target| target.to_str().ok());
                    let answer = answer(target, &body, &mut described.lock().unwrap());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answering));
        }
    });
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "key", "secret", None, None, "test",
        )))
        .http_client(Builder::new().build_http())
        .endpoint_url(endpoint)
        .build()
}

/// JSON services name their operation in a header, RDS in the body.
fn answer(target: Option<&str>, body: &[u8], described: &mut Described) -> String {
    match target {
        Some("secretsmanager.GetSecretValue") => {
            let secret = json!({ "password": described.password }).to_string();
            json!({ "SecretString": secret }).to_string()
        }
        Some("AmazonSSM.GetParameter") => {
            json!({ "Parameter": { "Value": described.roots } }).to_string()
        }
        Some(other) => panic!("{other} is not needed for a closing"),
        None => {
            let body = String::from_utf8_lossy(body);
            let parameter = |name: &str| {
                let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
            };
            if parameter("Action").as_deref() == Some("DescribeDBClusters") {
                described.n_looks += 1;
                cluster(described)
            } else {
                instance(&parameter("DBInstanceIdentifier").unwrap(), described)
            }
        }
    }
}

fn cluster(described: &Described) -> String {
    let member = |id: &dyn std::fmt::Display, is_writer: bool| {
        format!(
            "<DBClusterMember><DBInstanceIdentifier>{id}</DBInstanceIdentifier>\
             <IsClusterWriter>{is_writer}</IsClusterWriter></DBClusterMember>"
        )
    };
    let flagged_port = described.flagged_port.unwrap_or(described.writer_port);
    let mut members = member(&flagged_port, true);
    members.extend(described.in_the_making.map(|id| member(&id, false)));
    members.extend(
        described
            .reader_ports
            .iter()
            .map(|port| member(port, false)),
    );
    let global = described.global.map_or_else(String::new, |id| {
        format!("<GlobalClusterIdentifier>{id}</GlobalClusterIdentifier>")
    });
    let elsewhere = described.replicas_elsewhere.iter();
    let elsewhere: String = elsewhere
        .map(|id| format!("<ReadReplicaIdentifier>{id}</ReadReplicaIdentifier>"))
        .collect();
    format!(
        "<DescribeDBClustersResponse><DescribeDBClustersResult><DBClusters><DBCluster>\
         <Endpoint>127.0.0.1</Endpoint><Port>{}</Port><DBClusterMembers>{members}</DBClusterMembers>{global}\
         <ReadReplicaIdentifiers>{elsewhere}</ReadReplicaIdentifiers>\
         </DBCluster></DBClusters></DescribeDBClustersResult></DescribeDBClustersResponse>",
        described.writer_port
    )
}

/// Instances are called after their ports, but for one that has none yet.
fn instance(id: &str, described: &Described) -> String {
    let endpoint = if described.in_the_making == Some(id) {
        String::new()
    } else {
        format!("<Endpoint><Address>127.0.0.1</Address><Port>{id}</Port></Endpoint>")
    };
    let replicas = described.replicas.get(id).into_iter().flatten();
    let replicas: String = replicas
        .map(|replica| {
            format!("<ReadReplicaDBInstanceIdentifier>{replica}</ReadReplicaDBInstanceIdentifier>")
        })
        .collect();
    format!(
        "<DescribeDBInstancesResponse><DescribeDBInstancesResult><DBInstances><DBInstance>{endpoint}\
         <ReadReplicaDBInstanceIdentifiers>{replicas}</ReadReplicaDBInstanceIdentifiers>\
         </DBInstance></DBInstances></DescribeDBInstancesResult></DescribeDBInstancesResponse>"
    )
}
