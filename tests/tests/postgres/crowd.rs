//! Many windows of one cluster that end in the same second.

use std::time::Duration;

use access_postgres::{ClosingTargets, Error};
use futures_util::future::join_all;
use tokio::time::Instant;

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
        let targets = ClosingTargets {
            writer: endpoint(server),
            readers: Vec::new(),
            system_identifier: None,
        };
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
