//! Many windows of one cluster that end in the same second.

use std::time::Duration;

use access_postgres::{Error, connect};
use futures_util::future::join_all;
use tokio::time::Instant;
use xtask::postgres::{APPLICATION_DATABASE, LocalPostgres, Settings};

use super::fixture::*;

/// The proportion of fifty windows to the thirty connections of the closing login, and worse.
const N_ROLES: usize = 8;
const N_CONNECTIONS: usize = 3;

/// The time that disable-login gives one try.
const PROOF_DEADLINE: Duration = Duration::from_secs(40);

/// How often the state machine calls before it waits a minute.
const MAX_ROUNDS: u32 = 4;

#[tokio::test]
async fn more_windows_end_at_once_than_there_are_connections_and_all_are_closed() {
    for major in majors() {
        // Of its own, because it takes all connections of the closing login.
        let server = &start(*major).await;
        run_as_superuser(
            server,
            &format!("ALTER ROLE latchkey_closer CONNECTION LIMIT {N_CONNECTIONS}"),
        )
        .await;
        let mut roles = Vec::new();
        let mut sessions = Vec::new();
        for _ in 0..N_ROLES {
            let role = new_role(server).await;
            open(server, &role).await;
            sessions.push(session(server, &role).await);
            roles.push(role);
        }
        let targets = only(server);
        let started = Instant::now();
        let closings = roles.iter().map(|role| async {
            for round in 1..=MAX_ROUNDS {
                match close_targets(server, &targets, role, PROOF_DEADLINE).await {
                    Ok(_) => return round,
                    // The state machine calls again.
                    Err(Error::NotProved(seen)) => println!("{seen}"),
                    Err(error) => panic!("{error:?}"),
                }
            }
            panic!("{} was not proved closed", role.user)
        });
        let closed = join_all(closings).await;
        println!(
            "PostgreSQL {}: {N_ROLES} closings with {N_CONNECTIONS} connections took {:?}, the slowest {} tries",
            server.version(),
            started.elapsed(),
            closed.iter().max().unwrap()
        );
        for (role, session) in roles.iter().zip(&sessions) {
            assert!(!can_log_in(server, role).await, "{}", role.user);
            assert!(!is_alive(session).await, "{}", role.user);
        }
    }
}

/// Others hold every connection that the server has for users who are no superusers, the closing login among them.
#[tokio::test]
async fn a_server_without_a_free_connection_is_closed_as_soon_as_one_is_free() {
    for major in majors() {
        let settings = Settings {
            major: *major,
            parameters: vec![("max_connections".to_owned(), "20".to_owned())],
            ..Settings::default()
        };
        let server = &LocalPostgres::start(&settings).await.unwrap();
        let role = new_role(server).await;
        open(server, &role).await;
        let session = session(server, &role).await;
        let bystander = &server.accounts().master;
        let mut others = Vec::new();
        while let Ok(other) = server.log_in(bystander, APPLICATION_DATABASE).await {
            others.push(other);
        }
        let nobody_gets_in = login(&server.accounts().closer);
        let full = connect(&endpoint(server), &nobody_gets_in, &tls(server)).await;
        assert!(
            matches!(full, Err(Error::TooManyConnections { .. })),
            "{full:?}"
        );
        let freeing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(is_alive(&session).await);
            drop(others.pop());
        };
        let (proof, ()) = tokio::join!(close(server, &role), freeing);
        proof.unwrap();
        assert!(!is_alive(&session).await);
        assert!(!can_log_in(server, &role).await);
        for other in &others {
            assert!(is_alive(other).await, "a bystander was ended");
        }
    }
}
