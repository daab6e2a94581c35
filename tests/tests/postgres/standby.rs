//! Readers: a session there is a session too, and the writer may be another instance than we thought.

use std::time::Duration;

use access_postgres::{ClosingTargets, Error};

use super::fixture::*;

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
