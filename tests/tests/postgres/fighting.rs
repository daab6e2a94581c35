//! A role that may end everybody's sessions (`pg_signal_backend`, and so `rds_superuser`), and ends ours in a loop.

use std::time::Duration;

use access_postgres::Error;
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres};

use super::fixture::*;

/// How often each fight is fought on each version; more of them say more about how long they take.
const N_FIGHTS: usize = 1;

/// As many sessions as the test's server has cores at least. More of them take the machine from us too, and nine have kept
/// a closing from its proof for a minute: hence the advice to register such a role for few connections.
const N_FIGHTERS: usize = 2;

/// How often a closing of a minute is tried. It has taken three, on a machine that did much else at the same time.
const MAX_ROUNDS: u32 = 10;

/// Loops on the server itself, without a pause: each round looks anew, because `n` is in what it asks.
const BY_NAME: &str = "WITH RECURSIVE forever(n) AS (
    SELECT 0::bigint
    UNION ALL
    SELECT n + length(pg_stat_clear_snapshot()::text)
             + (SELECT count(CASE WHEN pg_get_userbyid(usesysid) IN ('latchkey_opener', 'latchkey_closer')
                                  THEN pg_terminate_backend(pid) END)
                  FROM pg_stat_get_activity(CASE WHEN n < 0 THEN 0 END))
      FROM forever
  )
  SELECT max(n) FROM forever";

/// The same against everybody else, those too who are still starting.
const EVERYBODY_ELSE: &str = "DO $$
  DECLARE
    v_pid int;
  BEGIN
    LOOP
      PERFORM pg_stat_clear_snapshot();
      FOR v_pid IN
        SELECT l.pid FROM pg_locks l
         WHERE l.locktype = 'virtualxid'
           AND l.pid NOT IN (SELECT a.pid FROM pg_stat_activity a WHERE a.usename = session_user)
      LOOP
        BEGIN
          PERFORM pg_terminate_backend(v_pid);
        EXCEPTION WHEN insufficient_privilege THEN
          NULL;
        END;
      END LOOP;
    END LOOP;
  END $$";

/// What a client asks again and again, each time in a transaction of its own.
const ONCE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity(NULL)
   WHERE pg_get_userbyid(usesysid) IN ('latchkey_opener', 'latchkey_closer')";

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_ends_our_sessions_in_a_loop_is_closed_all_the_same() {
    for major in majors() {
        // Of its own, because the fighters end the sessions of others too.
        let server = &start(*major).await;
        let role = fighter(server).await;
        for (name, pattern) in [
            ("by name", BY_NAME),
            ("everybody else", EVERYBODY_ELSE),
            ("in transactions", ONCE),
        ] {
            let mut took = Vec::new();
            for _ in 0..N_FIGHTS {
                open(server, &role).await;
                // All are in before one of them begins.
                let sessions = join_all((0..N_FIGHTERS).map(|_| session(server, &role))).await;
                let fighters: Vec<_> = sessions
                    .into_iter()
                    .map(|session| fight_on(session, pattern))
                    .collect();
                until_they_fight(server).await;
                let started = Instant::now();
                until_proved(server, &role).await;
                took.push(started.elapsed());
                for fighter in fighters {
                    fighter.await.unwrap();
                }
                assert_eq!(n_sessions(server, &role).await, 0);
                assert!(!can_log_in(server, &role).await);
            }
            println!(
                "PostgreSQL {}: {N_FIGHTERS} fight {name}: proved closed after {took:.1?}",
                server.version()
            );
        }
    }
}

/// Before the end of its window, so that its password lets it in until LOGIN is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_ends_our_sessions_and_comes_back_each_time_is_closed_all_the_same() {
    for major in majors() {
        let server = &start(*major).await;
        let role = fighter(server).await;
        let mut took = Vec::new();
        for _ in 0..N_FIGHTS {
            open(server, &role).await;
            let fighting = join_all((0..N_FIGHTERS).map(async |_| {
                // Refused: LOGIN is gone.
                while let Ok(session) = server.log_in(&role, APPLICATION_DATABASE).await {
                    let _ = session.simple_query(BY_NAME).await;
                }
            }));
            let closing = async {
                until_they_fight(server).await;
                let started = Instant::now();
                until_proved(server, &role).await;
                took.push(started.elapsed());
            };
            tokio::join!(fighting, closing);
            assert_eq!(n_sessions(server, &role).await, 0);
            assert!(!can_log_in(server, &role).await);
        }
        println!(
            "PostgreSQL {}: {N_FIGHTERS} come back each time: proved closed after {took:.1?}",
            server.version()
        );
    }
}

#[tokio::test]
async fn the_first_statement_of_a_closing_ends_sessions_of_registered_roles_only() {
    for major in majors() {
        let server = &start(*major).await;
        // latchkey_killer has its rights, and so could end anybody's.
        let role = fighter(server).await;
        open(server, &role).await;
        let master = master(server).await;
        let closer = &server.accounts().closer;
        let thief = server.log_in(closer, LATCHKEY_DATABASE).await.unwrap();
        for name in [server.accounts().master.user.as_str(), "nobody"] {
            let row = thief
                .query_one("SELECT latchkey.end_sessions($1)", &[&name])
                .await
                .unwrap();
            assert_eq!(row.get::<_, Vec<i32>>(0), Vec::<i32>::new(), "{name}");
        }
        assert!(is_alive(&master).await);
    }
}

#[tokio::test]
async fn an_installation_that_does_not_have_it_yet_is_closed_all_the_same() {
    for major in majors() {
        let server = &start(*major).await;
        let role = server.accounts().target.clone();
        server
            .log_in(&server.accounts().superuser, LATCHKEY_DATABASE)
            .await
            .unwrap()
            .batch_execute("DROP FUNCTION latchkey.end_sessions(text)")
            .await
            .unwrap();
        open(server, &role).await;
        let session = session(server, &role).await;
        let proof = close(server, &role).await.unwrap();
        assert_eq!(proof.n_sessions_ended, 1);
        assert!(!is_alive(&session).await);
        assert!(!can_log_in(server, &role).await);
    }
}

/// The role of the server, with the right to end everybody's sessions.
async fn fighter(server: &LocalPostgres) -> Account {
    let role = server.accounts().target.clone();
    let grant = format!("GRANT pg_signal_backend TO {}", quoted(&role.user));
    run_as_superuser(server, &grant).await;
    role
}

/// Closes as the state machine does, which calls again.
async fn until_proved(server: &LocalPostgres, role: &Account) {
    for _ in 0..MAX_ROUNDS {
        match close(server, role).await {
            Ok(_) => return,
            Err(Error::NotProved(seen)) => println!("{seen}"),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("{} was not proved closed", role.user)
}

/// Fights until the session is ended.
fn fight_on(session: Client, pattern: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move { while session.simple_query(pattern).await.is_ok() {} })
}

/// Waits until a session of ours is ended as soon as it comes.
async fn until_they_fight(server: &LocalPostgres) {
    eventually("a session of ours is ended", async || {
        let closer = &server.accounts().closer;
        match server.log_in(closer, LATCHKEY_DATABASE).await {
            Ok(session) => !lives_on(&session).await,
            Err(_) => true,
        }
    })
    .await;
}

async fn lives_on(session: &Client) -> bool {
    sleep(Duration::from_millis(100)).await;
    is_alive(session).await
}
