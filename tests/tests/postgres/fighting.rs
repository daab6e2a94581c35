//! A role that may end everybody's sessions (`pg_signal_backend`, and so `rds_superuser`), and ends ours in a loop.

use std::time::Duration;

use access_postgres::{ClosingTargets, Endpoint, Error};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres};

use super::fixture::*;
use super::membership::{can_act, new_membership, open as open_membership, set_role};

/// How often each fight is fought on each version; more of them say more about how long they take.
const N_FIGHTS: usize = 1;

/// Several for each core of the test's machine, so that they take it from us too.
const N_FIGHTERS: usize = 9;

/// How often a closing of a minute is tried. One has been enough each time; the state machine goes on longer than this.
const MAX_ROUNDS: u32 = 10;

/// How long each direction of a distant network takes.
const DELAY: Duration = Duration::from_millis(20);

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

/// Far away, our statements come long after our session can be seen, except the one that comes with the login.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_closed_over_a_slow_network_too() {
    for major in majors() {
        let server = &start(*major).await;
        let role = fighter(server).await;
        open(server, &role).await;
        let sessions = join_all((0..N_FIGHTERS).map(|_| session(server, &role))).await;
        let fighters: Vec<_> = sessions
            .into_iter()
            .map(|session| fight_on(session, BY_NAME))
            .collect();
        until_they_fight(server).await;
        let targets = ClosingTargets {
            writer: Endpoint {
                port: distant(server.port()).await,
                ..endpoint(server)
            },
            ..only(server)
        };
        let started = Instant::now();
        until_targets_proved(server, &targets, &role).await;
        println!(
            "PostgreSQL {}: {N_FIGHTERS} fight, each direction takes {DELAY:?}: proved closed after {:.1?}",
            server.version(),
            started.elapsed()
        );
        for fighter in fighters {
            fighter.await.unwrap();
        }
        assert_eq!(n_sessions(server, &role).await, 0);
        assert!(!can_log_in(server, &role).await);
    }
}

/// Its role has the right, so the user has it while it is a member.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_ends_our_sessions_in_a_loop_is_closed_all_the_same() {
    for major in majors() {
        let server = &start(*major).await;
        let membership = new_membership(server).await;
        let grant = format!("GRANT pg_signal_backend TO {}", quoted(&membership.role));
        run_as_superuser(server, &grant).await;
        open_membership(server, &membership).await;
        let sessions = join_all((0..N_FIGHTERS).map(async |_| {
            let session = session(server, &membership.user).await;
            set_role(&session, &membership.role).await.unwrap();
            session
        }));
        let fighters: Vec<_> = sessions
            .await
            .into_iter()
            .map(|session| fight_on(session, BY_NAME))
            .collect();
        until_they_fight(server).await;
        let started = Instant::now();
        until_proved(server, &membership.registered).await;
        println!(
            "PostgreSQL {}: {N_FIGHTERS} members fight: proved closed after {:.1?}",
            server.version(),
            started.elapsed()
        );
        for fighter in fighters {
            fighter.await.unwrap();
        }
        assert!(!can_act(server, &membership).await);
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

async fn until_proved(server: &LocalPostgres, role: &Account) {
    until_targets_proved(server, &only(server), role).await;
}

/// Closes as the state machine does, which calls again.
async fn until_targets_proved(server: &LocalPostgres, targets: &ClosingTargets, role: &Account) {
    for _ in 0..MAX_ROUNDS {
        match close_targets(server, targets, role, Duration::from_secs(60)).await {
            Ok(_) => return,
            Err(Error::NotProved(seen)) => println!("{seen}"),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("{} was not proved closed", role.user)
}

/// A port that leads to the server, with [`DELAY`] on the way.
async fn distant(port: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let distant = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::join!(carry(from_client, to_server), carry(from_server, to_client));
            });
        }
    });
    distant
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        sleep(DELAY).await;
        if to.write_all(&bytes[..n]).await.is_err() {
            break;
        }
    }
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
