//! Closing leaves nobody in, whatever the role does against it, and touches nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use access_postgres::{ClosingTargets, Error, ValidUntil};
use chrono::Utc;
use futures_util::future::join_all;
use tokio::time::timeout;
use xtask::postgres::{APPLICATION_DATABASE, Account, LocalPostgres};

use super::fixture::*;

#[tokio::test]
async fn closing_ends_sessions_and_says_when() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let sessions = join_all((0..3).map(|_| session(server, &role))).await;

        let before = Utc::now();
        let proof = close(server, &role).await.unwrap();
        for session in &sessions {
            assert!(!is_alive(session).await);
        }
        assert!(!can_log_in(server, &role).await);
        assert_eq!(n_sessions(server, &role).await, 0);
        assert_eq!(proof.n_sessions_ended, 3);
        assert!(before <= proof.started_at && proof.started_at <= proof.connected_at);
        assert!(proof.connected_at <= proof.login_refused_at);
        assert!(proof.login_refused_at <= proof.sessions_gone_at);
        assert!(proof.sessions_gone_at < proof.proved_at && proof.proved_at <= Utc::now());
        assert_eq!(proof.instances.len(), 1);
        assert!(proof.instances[0].state.is_closed());
    })
    .await;
}

#[tokio::test]
async fn closing_twice_or_at_once_is_fine() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let (first, second) = tokio::join!(close(server, &role), close(server, &role));
        first.unwrap();
        second.unwrap();
        let proof = close(server, &role).await.unwrap();
        assert_eq!(proof.n_sessions_ended, 0);
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn closing_takes_the_end_away_too() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        close(server, &role).await.unwrap();
        let state = closer(server).await.role_state(&role.user).await.unwrap();
        assert_eq!(
            state.valid_until,
            ValidUntil::At(chrono::DateTime::UNIX_EPOCH)
        );
    })
    .await;
}

#[tokio::test]
async fn twelve_clients_that_reconnect_all_the_time_leave_no_session() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        run_as_master(
            server,
            &format!("SELECT latchkey.register('{}', '8 hours', 40)", role.user),
        )
        .await;
        open(server, &role).await;
        let storm = Storm::start(server, &role, 12, "");
        eventually("every client was in once", async || storm.n_logins() >= 24).await;

        let proof = close(server, &role).await.unwrap();
        let n_logins = storm.n_logins();
        assert_eq!(n_sessions(server, &role).await, 0);
        assert!(proof.n_sessions_ended > 0);
        storm.stop().await;
        assert_eq!(storm.n_logins(), n_logins, "nobody got in afterwards");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_hides_in_its_start_is_ended_and_a_hidden_bystander_is_not() {
    // On servers of its own, because the sweeps of other tests would end the hidden ones too.
    for major in majors() {
        let server = start(*major).await;
        let role = server.accounts().target.clone();
        hide_and_close(&server, &role, 0).await;

        // While another registered role can log in, a refusal does not tell whose a starting backend is.
        let other = new_role(&server).await;
        open(&server, &other).await;
        hide_and_close(&server, &role, 1).await;
        assert!(can_log_in(&server, &other).await);
        close(&server, &other).await.unwrap();
    }
}

async fn hide_and_close(server: &LocalPostgres, role: &Account, n_other_open_roles: usize) {
    let delay = "-c post_auth_delay=4";
    let bystander = &server.accounts().master;
    open(server, role).await;
    let hidden = (0..4).map(|_| server.log_in_with_options(role, APPLICATION_DATABASE, delay));
    let hidden_bystander = server.log_in_with_options(bystander, APPLICATION_DATABASE, delay);
    let closing = async {
        let closer = closer(server).await;
        eventually("the hidden ones have started", async || {
            closer.role_state(&role.user).await.unwrap().n_starting >= 5
        })
        .await;
        close(server, role).await.unwrap()
    };
    let (hidden, hidden_bystander, proof) =
        tokio::join!(join_all(hidden), hidden_bystander, closing);

    for session in hidden {
        match session {
            Err(_) => {}
            Ok(session) => assert!(!is_alive(&session).await),
        }
    }
    assert!(
        is_alive(&hidden_bystander.unwrap()).await,
        "{n_other_open_roles} other roles open"
    );
    assert_eq!(proof.n_sessions_ended, 4, "{proof:?}");
    assert_eq!(n_sessions(server, role).await, 0);
}

#[tokio::test]
async fn sessions_that_hold_the_role_s_own_row_cannot_stop_closing() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let blockers = join_all((0..6).map(|_| session(server, &role))).await;
        let blocking = join_all(blockers.iter().map(|blocker| {
            blocker.batch_execute("BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        }));
        // The first holds the row, the others queue for it.
        let closing = async {
            eventually("one of them holds the row", async || {
                closer(server).await.close_login(&role.user).await.is_err()
            })
            .await;
            timeout(Duration::from_secs(30), close(server, &role)).await
        };
        let (_, proof) = tokio::join!(blocking, closing);
        proof.expect("closed in time").unwrap();
        for blocker in &blockers {
            assert!(!is_alive(blocker).await);
        }
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn sessions_of_others_are_left_alone() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let other = new_role(server).await;
        open(server, &role).await;
        open(server, &other).await;
        let of_role = session(server, &role).await;
        let of_other = session(server, &other).await;
        let of_master = session(server, &server.accounts().master).await;

        close(server, &role).await.unwrap();
        assert!(!is_alive(&of_role).await);
        assert!(is_alive(&of_other).await);
        assert!(is_alive(&of_master).await);
        assert!(can_log_in(server, &other).await);
        close(server, &other).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_session_that_took_another_role_is_ended_too() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let group = new_unregistered_role(server, "a_group_of_the_role").await;
        run_as_master(
            server,
            &format!("GRANT {} TO {}", quoted(&group.user), quoted(&role.user)),
        )
        .await;
        open(server, &role).await;
        let session = session(server, &role).await;
        session
            .batch_execute(&format!("SET ROLE {}", quoted(&group.user)))
            .await
            .unwrap();
        close(server, &role).await.unwrap();
        assert!(!is_alive(&session).await);
    })
    .await;
}

#[tokio::test]
async fn a_prepared_transaction_that_blocks_closing_is_named() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let session = session(server, &role).await;
        let name = format!("prepared by {}", role.user);
        session
            .batch_execute(&format!(
                "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'mine'; PREPARE TRANSACTION '{name}'"
            ))
            .await
            .unwrap();

        let targets = only(server);
        let error = close_targets(server, &targets, &role, Duration::from_secs(8))
            .await
            .unwrap_err();
        assert!(error.retryable());
        let Error::NotProved(not_proved) = error else {
            panic!("{error:?}")
        };
        let seen = not_proved.instances[0].state.as_ref().unwrap();
        assert!(seen.can_login && seen.n_sessions == 0);
        assert_eq!(seen.n_prepared, 1);
        assert!(
            matches!(not_proved.disabling, Some(Error::RoleLocked { .. })),
            "{not_proved:?}"
        );
        assert!(
            not_proved.to_string().contains("1 prepared transactions"),
            "{not_proved}"
        );
        let refused = opener(server)
            .await
            .open_login(&role.user, in_one_hour())
            .await;
        assert!(
            matches!(refused, Err(Error::OwnsPreparedTransaction { .. })),
            "{refused:?}"
        );

        server
            .log_in(&server.accounts().superuser, APPLICATION_DATABASE)
            .await
            .unwrap()
            .batch_execute(&format!("ROLLBACK PREPARED '{name}'"))
            .await
            .unwrap();
        close(server, &role).await.unwrap();
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn sessions_of_an_open_role_are_spared_unless_forced() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let session = session(server, &role).await;
        let closer = closer(server).await;
        let spared = closer.sweep_if_closed(&role.user).await;
        assert!(matches!(spared, Err(Error::StillOpen { .. })), "{spared:?}");
        assert!(is_alive(&session).await);
        let swept = closer.sweep(&role.user).await.unwrap();
        assert_eq!(swept.ended_pids.len(), 1);
        assert!(!is_alive(&session).await);
    })
    .await;
}

#[tokio::test]
async fn another_cluster_than_the_pinned_one_is_left_alone() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let targets = ClosingTargets {
            system_identifier: Some("42".parse().unwrap()),
            ..only(server)
        };
        let refused = close_targets(server, &targets, &role, Duration::from_secs(10)).await;
        assert!(
            matches!(refused, Err(Error::NotTheRegisteredServer { .. })),
            "{refused:?}"
        );
        assert!(can_log_in(server, &role).await);

        let pinned = ClosingTargets {
            system_identifier: Some(
                closer(server)
                    .await
                    .server()
                    .await
                    .unwrap()
                    .system_identifier,
            ),
            ..targets
        };
        close_targets(server, &pinned, &role, Duration::from_secs(30))
            .await
            .unwrap();
    })
    .await;
}

/// Its session is still starting, and nobody may end it any more.
#[tokio::test]
async fn a_role_that_is_dropped_while_one_of_its_sessions_hides_is_not_proved() {
    for major in majors() {
        let server = start(*major).await;
        let role = new_role(&server).await;
        open(&server, &role).await;
        let options = "-c post_auth_delay=8";
        let hiding = server.log_in_with_options(&role, "postgres", options);
        let closing = async {
            until_one_hides(&closer(&server).await, &role.user).await;
            run_as_master(&server, &format!("DROP ROLE {}", quoted(&role.user))).await;
            let targets = only(&server);
            close_targets(&server, &targets, &role, Duration::from_secs(4)).await
        };
        let (hidden, closed) = tokio::join!(hiding, closing);
        assert!(matches!(closed, Err(Error::NotProved(_))), "{closed:?}");
        // Once it is gone, nothing is left.
        drop(hidden);
        close(&server, &role).await.unwrap();
    }
}

#[tokio::test]
async fn the_owner_of_our_database_can_keep_us_out_only_until_it_is_mended() {
    for major in majors() {
        let server = start(*major).await;
        let role = new_role(&server).await;
        open(&server, &role).await;
        let session = session(&server, &role).await;
        run_as_superuser(&server, "ALTER DATABASE latchkey CONNECTION LIMIT 0").await;
        let mending = async {
            // Not before the closing was refused a connection.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(is_alive(&session).await);
            run_as_superuser(&server, "ALTER DATABASE latchkey CONNECTION LIMIT -1").await;
        };
        let (proof, ()) = tokio::join!(close(&server, &role), mending);
        proof.unwrap();
        assert!(!is_alive(&session).await);
        assert!(!can_log_in(&server, &role).await);

        // That is no matter of waiting: it is said at once, and whoever calls comes again.
        open(&server, &role).await;
        run_as_superuser(
            &server,
            "REVOKE CONNECT ON DATABASE latchkey FROM latchkey_closer",
        )
        .await;
        let refused = close(&server, &role).await;
        assert!(
            matches!(refused, Err(Error::Forbidden { .. })),
            "{refused:?}"
        );
        run_as_superuser(
            &server,
            "GRANT CONNECT ON DATABASE latchkey TO latchkey_closer",
        )
        .await;
        close(&server, &role).await.unwrap();
        assert!(!can_log_in(&server, &role).await);
    }
}

#[tokio::test]
async fn a_wrong_password_is_reported_at_once() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let targets = only(server);
        let wrong = Account {
            user: server.accounts().closer.user.clone(),
            password: "wrong".to_owned(),
        };
        let refused = access_postgres::close(
            &targets,
            &login(&wrong),
            &tls(server),
            &role.user,
            &access_postgres::ClosingPace::within(Duration::from_secs(30)),
            Utc::now,
        )
        .await;
        assert!(
            matches!(refused, Err(Error::AuthenticationRefused { .. })),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_that_comes_back_in_time_is_closed() {
    for major in majors() {
        let mut server = start(*major).await;
        let role = server.accounts().target.clone();
        open(&server, &role).await;
        server.stop().unwrap();
        let targets = only(&server);
        let closer = login(&server.accounts().closer);
        let tls = tls(&server);
        let down = access_postgres::close(
            &targets,
            &closer,
            &tls,
            &role.user,
            &access_postgres::ClosingPace::within(Duration::from_millis(300)),
            Utc::now,
        )
        .await;
        let Err(Error::NotProved(not_proved)) = down else {
            panic!("{down:?}")
        };
        assert!(not_proved.login_refused_at.is_none());
        assert!(matches!(
            not_proved.disabling,
            Some(Error::Unreachable { .. })
        ));

        let pace = access_postgres::ClosingPace::within(Duration::from_secs(60));
        let closing = access_postgres::close(&targets, &closer, &tls, &role.user, &pace, Utc::now);
        let (proof, started) = tokio::join!(closing, server.start_again());
        started.unwrap();
        proof.unwrap();
        assert!(!can_log_in(&server, &role).await);
    }
}

/// Clients that log in, look, and log in again, until they are told to stop.
struct Storm {
    running: Arc<AtomicBool>,
    n_logins: Arc<AtomicUsize>,
    clients: std::sync::Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Storm {
    fn start(
        server: &'static LocalPostgres,
        role: &Account,
        n_clients: usize,
        options: &'static str,
    ) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let n_logins = Arc::new(AtomicUsize::new(0));
        let clients = (0..n_clients)
            .map(|_| {
                let (running, n_logins, role) =
                    (Arc::clone(&running), Arc::clone(&n_logins), role.clone());
                tokio::spawn(async move {
                    while running.load(Ordering::Relaxed) {
                        let session = server
                            .log_in_with_options(&role, APPLICATION_DATABASE, options)
                            .await;
                        if let Ok(session) = session
                            && is_alive(&session).await
                        {
                            n_logins.fetch_add(1, Ordering::Relaxed);
                            // Some stay in, as a person would.
                            let _ = session.simple_query("SELECT pg_sleep(2 * random())").await;
                        }
                    }
                })
            })
            .collect();
        Self {
            running,
            n_logins,
            clients: std::sync::Mutex::new(clients),
        }
    }

    fn n_logins(&self) -> usize {
        self.n_logins.load(Ordering::Relaxed)
    }

    async fn stop(&self) {
        self.running.store(false, Ordering::Relaxed);
        let clients = std::mem::take(&mut *self.clients.lock().unwrap());
        for client in clients {
            client.await.unwrap();
        }
    }
}
