//! Readers: a session there is a session too, and the writer may be another instance than we thought.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use access_postgres::{ClosingTargets, Endpoint, Error};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::fixture::*;

/// An address that leads to one server or another, as the name of a cluster's writer does.
struct WriterAddress {
    port: u16,
    leads_to: Arc<AtomicU16>,
}

impl WriterAddress {
    async fn leading_to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = Self {
            port: listener.local_addr().unwrap().port(),
            leads_to: Arc::new(AtomicU16::new(port)),
        };
        let leads_to = Arc::clone(&address.leads_to);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let port = leads_to.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    // A server that is down refuses; here the connection breaks.
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        address
    }

    fn fail_over_to(&self, port: u16) {
        self.leads_to.store(port, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_failover_in_the_middle_of_a_closing_ends_closed() {
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
        let on_writer = session(&primary, &role).await;
        let writer = WriterAddress::leading_to(primary.port()).await;
        let targets = ClosingTargets {
            writer: Endpoint {
                port: writer.port,
                ..endpoint(&primary)
            },
            readers: vec![endpoint(&standby)],
            role_oid: None,
            system_identifier: Some(
                closer(&primary)
                    .await
                    .server()
                    .await
                    .unwrap()
                    .system_identifier,
            ),
        };
        // LOGIN cannot be taken on the first writer.
        let dba = master(&primary).await;
        dba.batch_execute(&format!(
            "BEGIN; ALTER ROLE {} CONNECTION LIMIT 7",
            quoted(&role.user)
        ))
        .await
        .unwrap();
        let closing = close_targets(&standby, &targets, &role, Duration::from_secs(60));
        let failing_over = async {
            eventually("the closing has begun", async || {
                !is_alive(&on_writer).await
            })
            .await;
            primary.stop().unwrap();
            run_as_superuser(&standby, "SELECT pg_promote()").await;
            writer.fail_over_to(standby.port());
        };
        let (proof, ()) = tokio::join!(closing, failing_over);
        let proof = proof.unwrap();
        assert_eq!(proof.instances.len(), 2);
        assert!(!can_log_in(&standby, &role).await);
        assert!(!is_alive(&on_reader).await);
        assert_eq!(n_sessions(&standby, &role).await, 0);
    }
}

#[tokio::test]
async fn a_reader_that_is_listed_and_cannot_be_reached_keeps_it_unproved() {
    for major in majors() {
        let mut primary = start(*major).await;
        let mut standby = primary.add_standby().await.unwrap();
        let role = primary.accounts().target.clone();
        open(&primary, &role).await;
        let mut targets = ClosingTargets {
            writer: endpoint(&primary),
            readers: vec![endpoint(&standby)],
            role_oid: None,
            system_identifier: None,
        };
        standby.stop().unwrap();
        let unproved = close_targets(&primary, &targets, &role, Duration::from_secs(5)).await;
        let Err(Error::NotProved(not_proved)) = unproved else {
            panic!("{unproved:?}")
        };
        assert!(not_proved.login_refused_at.is_some());
        assert!(not_proved.instances[0].proved, "{not_proved}");
        assert!(
            matches!(
                not_proved.instances[1].error,
                Some(Error::Unreachable { .. })
            ),
            "{not_proved:?}"
        );
        // Closed as far as possible all the same, and proved once it is not a server of this database any more.
        assert!(!can_log_in(&primary, &role).await);
        targets.readers.clear();
        close_targets(&primary, &targets, &role, Duration::from_secs(30))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn sessions_on_a_reader_are_ended_and_the_writer_is_found() {
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
        let on_writer = session(&primary, &role).await;

        // Changes are refused on a reader.
        let refused = closer(&standby).await.close_login(&role.user).await;
        assert!(
            matches!(refused, Err(Error::ReadOnly { .. })),
            "{refused:?}"
        );

        // The catalogue is wrong about which one is the writer, as after a failover.
        let targets = ClosingTargets {
            writer: endpoint(&standby),
            readers: vec![endpoint(&primary)],
            role_oid: None,
            system_identifier: Some(
                closer(&primary)
                    .await
                    .server()
                    .await
                    .unwrap()
                    .system_identifier,
            ),
        };
        let proof = close_targets(&primary, &targets, &role, Duration::from_secs(60))
            .await
            .unwrap();
        assert!(!is_alive(&on_reader).await);
        assert!(!is_alive(&on_writer).await);
        assert!(!can_log_in(&standby, &role).await);
        assert!(!can_log_in(&primary, &role).await);
        assert_eq!(proof.n_sessions_ended, 2);
        assert!(proof.instances[0].server.in_recovery);
        assert!(!proof.instances[1].server.in_recovery);

        // A reader that lags is not proved closed until it has caught up.
        open(&primary, &role).await;
        eventually("the reader follows", async || {
            can_log_in(&standby, &role).await
        })
        .await;
        run_as_superuser(&standby, "SELECT pg_wal_replay_pause()").await;
        let lagging = close_targets(&primary, &targets, &role, Duration::from_secs(6)).await;
        let Err(Error::NotProved(not_proved)) = lagging else {
            panic!("{lagging:?}")
        };
        assert!(not_proved.login_refused_at.is_some());
        assert!(!not_proved.instances[0].proved, "{not_proved}");
        assert!(not_proved.instances[1].proved, "{not_proved}");
        run_as_superuser(&standby, "SELECT pg_wal_replay_resume()").await;
        close_targets(&primary, &targets, &role, Duration::from_secs(60))
            .await
            .unwrap();
        assert!(!can_log_in(&standby, &role).await);

        // After a failover the former reader takes the change.
        open(&primary, &role).await;
        eventually("the reader follows", async || {
            can_log_in(&standby, &role).await
        })
        .await;
        primary.stop().unwrap();
        run_as_superuser(&standby, "SELECT pg_promote()").await;
        let after_failover = ClosingTargets {
            writer: endpoint(&primary),
            readers: vec![endpoint(&standby)],
            role_oid: None,
            system_identifier: None,
        };
        let half = close_targets(&standby, &after_failover, &role, Duration::from_secs(10)).await;
        let Err(Error::NotProved(not_proved)) = half else {
            panic!("{half:?}")
        };
        assert!(not_proved.login_refused_at.is_some(), "{not_proved}");
        assert!(!can_log_in(&standby, &role).await);
    }
}
