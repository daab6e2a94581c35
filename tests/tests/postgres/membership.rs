//! A membership for a window: may this user act as that role now, and is every session gone that did?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use access_postgres::{ClosingTargets, Error, Obstacle, ValidUntil, look, sweep_hidden};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres};

use super::fixture::*;

/// A user who may become a member of a role, registered under a name.
pub(super) struct Membership {
    /// The name, in the place where closings expect a role.
    pub(super) registered: Account,
    pub(super) role: String,
    pub(super) user: Account,
}

impl Membership {
    fn name(&self) -> &str {
        &self.registered.user
    }
}

/// A new membership of a new user in a new role, registered for windows of up to 8 hours.
pub(super) async fn new_membership(server: &LocalPostgres) -> Membership {
    let membership = new_unregistered_membership(server).await;
    register(server, &membership).await.unwrap();
    membership
}

async fn new_unregistered_membership(server: &LocalPostgres) -> Membership {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let role = new_unregistered_role(server, &format!("dba_{n}")).await;
    let user = new_unregistered_role(server, &format!("riko_{n}")).await;
    run_as_master(server, &format!("ALTER ROLE {} LOGIN", quoted(&user.user))).await;
    Membership {
        registered: Account {
            user: format!("riko-dba-{n}"),
            password: String::new(),
        },
        role: role.user,
        user,
    }
}

async fn register(
    server: &LocalPostgres,
    membership: &Membership,
) -> Result<(), tokio_postgres::Error> {
    let statement = "SELECT latchkey.register_membership($1, $2, $3, '8 hours')";
    master(server)
        .await
        .query_one(
            statement,
            &[&membership.name(), &membership.role, &membership.user.user],
        )
        .await
        .map(drop)
}

async fn open_until(
    server: &LocalPostgres,
    membership: &Membership,
    until: DateTime<Utc>,
) -> Result<(), Error> {
    opener(server)
        .await
        .open_membership(
            membership.name(),
            &membership.role,
            &membership.user.user,
            until,
        )
        .await
}

pub(super) async fn open(server: &LocalPostgres, membership: &Membership) {
    open_until(server, membership, in_one_hour()).await.unwrap();
}

pub(super) async fn set_role(session: &Client, role: &str) -> Result<(), tokio_postgres::Error> {
    session
        .batch_execute(&format!("SET ROLE {}", quoted(role)))
        .await
}

/// The question of all tests: can the user act as the role now?
pub(super) async fn can_act(server: &LocalPostgres, membership: &Membership) -> bool {
    let session = session(server, &membership.user).await;
    match set_role(&session, &membership.role).await {
        Ok(()) => true,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => false,
        Err(error) => panic!("neither accepted nor refused: {error:?}"),
    }
}

fn is_16_or_later(server: &LocalPostgres) -> bool {
    let major = server.version().split('.').next().unwrap();
    major.parse::<u32>().unwrap() >= 16
}

fn code_of(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", SqlState::code)
}

#[tokio::test]
async fn the_user_acts_as_the_role_only_while_it_is_open() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        assert!(!can_act(server, &membership).await);

        open(server, &membership).await;
        assert!(can_act(server, &membership).await);
        let acting = session(server, &membership.user).await;
        set_role(&acting, &membership.role).await.unwrap();
        let idle = session(server, &membership.user).await;
        let inherits: bool = idle
            .query_one(
                "SELECT pg_has_role(current_user, $1, 'USAGE')",
                &[&membership.role],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(
            inherits,
            !is_16_or_later(server),
            "rights come by SET ROLE where the server can say so"
        );
        let passed_on = idle
            .batch_execute(&format!(
                "GRANT {} TO latchkey_closer",
                quoted(&membership.role)
            ))
            .await;
        assert_eq!(code_of(&passed_on.unwrap_err()), "42501");

        let proof = close(server, &membership.registered).await.unwrap();
        assert_eq!(proof.n_sessions_ended, 2, "{proof:?}");
        assert!(!is_alive(&acting).await && !is_alive(&idle).await);
        assert!(!can_act(server, &membership).await);
        let state = closer(server)
            .await
            .role_state(membership.name())
            .await
            .unwrap();
        assert!(!state.can_login && state.n_sessions == 0);
        assert_eq!(state.valid_until, ValidUntil::At(DateTime::UNIX_EPOCH));
    })
    .await;
}

#[tokio::test]
async fn what_the_user_does_outside_its_windows_is_left_alone() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let before = session(server, &membership.user).await;
        let connections = [closer(server).await];
        let seen = look(&connections, membership.name()).await.unwrap();
        assert!(
            !seen.can_login && seen.n_sessions == 0 && !seen.was_closed,
            "{seen:?}"
        );
        close(server, &membership.registered).await.unwrap();
        assert!(is_alive(&before).await, "it never was a member");

        open(server, &membership).await;
        close(server, &membership.registered).await.unwrap();
        assert!(!is_alive(&before).await, "it could have acted as the role");
        let after = session(server, &membership.user).await;
        let proof = close(server, &membership.registered).await.unwrap();
        assert_eq!(proof.n_sessions_ended, 0);
        let seen = look(&connections, membership.name()).await.unwrap();
        assert!(seen.n_sessions == 0 && seen.was_closed, "{seen:?}");
        let by_hand = connections[0].openings_by_hand(membership.name()).await;
        assert_eq!(by_hand.unwrap(), []);
        assert_eq!(
            sweep_hidden(&connections, membership.name()).await.unwrap(),
            0
        );
        assert!(is_alive(&after).await);
    })
    .await;
}

/// Clients that log in, act as the role, and go, all the time.
struct Storm {
    stop: Arc<AtomicBool>,
    n_acted: Arc<AtomicUsize>,
    n_came: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Storm {
    fn start(server: &'static LocalPostgres, membership: &Membership, n_clients: usize) -> Self {
        let storm = Self {
            stop: Arc::default(),
            n_acted: Arc::default(),
            n_came: Arc::default(),
            clients: Vec::new(),
        };
        let clients = (0..n_clients).map(|_| {
            let (user, role) = (membership.user.clone(), membership.role.clone());
            let (stop, n_acted, n_came) = (
                Arc::clone(&storm.stop),
                Arc::clone(&storm.n_acted),
                Arc::clone(&storm.n_came),
            );
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(session) = server.log_in(&user, APPLICATION_DATABASE).await else {
                        continue;
                    };
                    n_came.fetch_add(1, Ordering::Relaxed);
                    while set_role(&session, &role).await.is_ok() {
                        n_acted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { clients, ..storm }
    }
}

#[tokio::test]
async fn twelve_clients_that_reconnect_all_the_time_never_act_as_the_role_again() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        open(server, &membership).await;
        let storm = Storm::start(server, &membership, 12);
        eventually("every client acted", async || {
            storm.n_acted.load(Ordering::Relaxed) >= 24
        })
        .await;

        close(server, &membership.registered).await.unwrap();
        let n_acted = storm.n_acted.load(Ordering::Relaxed);
        let n_came = storm.n_came.load(Ordering::Relaxed);
        eventually("they came again", async || {
            storm.n_came.load(Ordering::Relaxed) > n_came + 24
        })
        .await;
        assert_eq!(storm.n_acted.load(Ordering::Relaxed), n_acted);
        storm.stop.store(true, Ordering::Relaxed);
        join_all(storm.clients).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_took_the_role_in_its_hidden_start_is_ended() {
    // On servers of its own, because the sweeps of other tests would end the hidden one too.
    for major in majors() {
        let server = start(*major).await;
        let membership = new_membership(&server).await;
        open(&server, &membership).await;
        let options = format!("-c role={} -c post_auth_delay=6", membership.role);
        let hiding = server.log_in_with_options(&membership.user, APPLICATION_DATABASE, &options);
        let closing = async {
            let closer = closer(&server).await;
            until_one_hides(&closer, membership.name()).await;
            close(&server, &membership.registered).await.unwrap()
        };
        let (hidden, proof) = tokio::join!(hiding, closing);
        assert_eq!(proof.n_sessions_ended, 1, "{proof:?}");
        if let Ok(session) = hidden {
            assert!(!is_alive(&session).await);
        }
    }
}

#[tokio::test]
async fn a_session_that_comes_out_of_hiding_after_the_proof_is_seen_and_ended() {
    for major in majors() {
        let server = start(*major).await;
        let membership = new_membership(&server).await;
        open(&server, &membership).await;
        let options = format!("-c role={} -c post_auth_delay=5", membership.role);
        let hiding = server.log_in_with_options(&membership.user, APPLICATION_DATABASE, &options);
        let closing = async {
            let closer = closer(&server).await;
            until_one_hides(&closer, membership.name()).await;
            // As if the closing had not seen it: the membership goes, and nothing is swept.
            eventually("the membership is gone", async || {
                closer.close_login(membership.name()).await.unwrap()
            })
            .await;
        };
        let (hidden, ()) = tokio::join!(hiding, closing);
        let hidden = hidden.unwrap();
        assert!(is_alive(&hidden).await);
        let connections = [closer(&server).await];
        let seen = look(&connections, membership.name()).await.unwrap();
        assert_eq!(seen.n_sessions, 1, "it began while the user was a member");
        close(&server, &membership.registered).await.unwrap();
        assert!(!is_alive(&hidden).await);
    }
}

#[tokio::test]
async fn only_the_opener_gives_and_only_what_is_registered() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let other = new_membership(server).await;
        let (name, role, user) = (
            membership.name(),
            membership.role.as_str(),
            membership.user.user.as_str(),
        );
        let refused = closer(server)
            .await
            .open_membership(name, role, user, in_one_hour())
            .await;
        assert!(
            matches!(refused, Err(Error::Forbidden { .. })),
            "{refused:?}"
        );

        let opener = opener(server).await;
        let changed =
            |answer: &Result<(), Error>| matches!(answer, Err(Error::RoleChangedIdentity { .. }));
        let answer = opener
            .open_membership(name, &other.role, user, in_one_hour())
            .await;
        assert!(changed(&answer), "{answer:?}");
        let answer = opener
            .open_membership(name, role, &other.user.user, in_one_hour())
            .await;
        assert!(changed(&answer), "{answer:?}");
        let answer = opener
            .open_membership("nobody", role, user, in_one_hour())
            .await;
        assert!(
            matches!(answer, Err(Error::NotRegistered { .. })),
            "{answer:?}"
        );
        let answer = opener.open_login(name, in_one_hour()).await;
        assert!(
            matches!(answer, Err(Error::NotRegistered { .. })),
            "{answer:?}"
        );
        for until in [
            Utc::now() - TimeDelta::seconds(1),
            Utc::now() + TimeDelta::hours(9),
        ] {
            let answer = opener.open_membership(name, role, user, until).await;
            assert!(
                matches!(answer, Err(Error::WindowOutOfRange { .. })),
                "{answer:?}"
            );
            let answer = opener.extend(name, until).await;
            assert!(
                matches!(answer, Err(Error::WindowOutOfRange { .. })),
                "{answer:?}"
            );
        }
        assert!(!can_act(server, &membership).await);

        // Neither credential reaches what the functions stand on.
        for account in [&server.accounts().opener, &server.accounts().closer] {
            let thief = server.log_in(account, LATCHKEY_DATABASE).await.unwrap();
            for statement in [
                format!("GRANT {} TO {}", quoted(role), quoted(user)),
                format!("SET ROLE {}", quoted(user)),
                "SELECT * FROM latchkey.membership".to_owned(),
                "UPDATE latchkey.membership SET max_window = '1 year'".to_owned(),
                "SELECT latchkey.close_membership('x')".to_owned(),
                "SELECT latchkey.sessions_of_membership('x', true)".to_owned(),
                format!(
                    "SELECT latchkey.register_membership('x', 'pg_monitor', '{user}', '1 hour')"
                ),
                format!("SELECT latchkey.unregister_membership('{name}')"),
            ] {
                let refused = thief.batch_execute(&statement).await;
                assert_eq!(
                    code_of(&refused.unwrap_err()),
                    "42501",
                    "{}: {statement}",
                    account.user
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn ends_are_moved_and_never_by_an_opening_that_is_shorter() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let opener = opener(server).await;
        let end = async || match opener
            .role_state(membership.name())
            .await
            .unwrap()
            .valid_until
        {
            ValidUntil::At(at) => at,
            other => panic!("{other:?}"),
        };
        let at = |minutes| {
            let now = Utc::now() + TimeDelta::minutes(minutes);
            DateTime::from_timestamp(now.timestamp(), 0).unwrap()
        };
        let (short, middle, long) = (at(10), at(20), at(30));
        open_until(server, &membership, middle).await.unwrap();
        open_until(server, &membership, short).await.unwrap();
        assert_eq!(end().await, middle);
        opener.extend(membership.name(), short).await.unwrap();
        assert_eq!(end().await, middle);
        opener.extend(membership.name(), long).await.unwrap();
        assert_eq!(end().await, long);
        closer(server)
            .await
            .narrow(membership.name(), short)
            .await
            .unwrap();
        assert_eq!(end().await, short);
        assert!(can_act(server, &membership).await);
        close(server, &membership.registered).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_a_window_gives_is_no_fact_and_what_others_grant_is_one() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let opener = opener(server).await;
        let facts_about_the_role = async || {
            let facts = opener.cluster_facts().await.unwrap().into_iter();
            let is_membership = format!(" in {} by ", membership.role);
            facts
                .filter(|fact| fact.contains(&is_membership))
                .collect::<Vec<_>>()
        };
        let before = facts_about_the_role().await;
        open(server, &membership).await;
        assert_eq!(facts_about_the_role().await, before);
        let friend = format!("friend_of_{}", membership.user.user);
        new_unregistered_role(server, &friend).await;
        let grant = format!("GRANT {} TO {friend}", membership.role);
        run_as_master(server, &grant).await;
        assert_eq!(facts_about_the_role().await.len(), before.len() + 1);
        close(server, &membership.registered).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_revoke_by_hand_is_never_undone() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        open(server, &membership).await;
        let by = if is_16_or_later(server) {
            "GRANTED BY latchkey_owner"
        } else {
            ""
        };
        let revoke = format!(
            "REVOKE {} FROM {} {by}",
            quoted(&membership.role),
            quoted(&membership.user.user)
        );
        run_as_superuser(server, &revoke).await;
        let again = open_until(server, &membership, in_one_hour()).await;
        assert!(
            matches!(again, Err(Error::ClosedByHand { .. })),
            "{again:?}"
        );
        opener(server)
            .await
            .extend(membership.name(), in_one_hour())
            .await
            .unwrap();
        assert!(!can_act(server, &membership).await);

        // The database's owner has the last word, and says so with the same function.
        run_as_master(
            server,
            &format!("SELECT latchkey.close('{}')", membership.name()),
        )
        .await;
        open(server, &membership).await;
        assert!(can_act(server, &membership).await);
        close(server, &membership.registered).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn who_is_a_member_already_gets_no_window() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let (role, user) = (quoted(&membership.role), quoted(&membership.user.user));
        run_as_master(server, &format!("GRANT {role} TO {user}")).await;
        let refused = open_until(server, &membership, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::MemberAlready { .. })),
            "{refused:?}"
        );
        let seen = opener(server)
            .await
            .membership(membership.name())
            .await
            .unwrap();
        assert_eq!(seen.held_by, ["granted by master"]);
        run_as_master(server, &format!("REVOKE {role} FROM {user}")).await;

        let team =
            new_unregistered_role(server, &format!("team_of_{}", membership.user.user)).await;
        let team = quoted(&team.user);
        run_as_master(
            server,
            &format!("GRANT {role} TO {team}; GRANT {team} TO {user}"),
        )
        .await;
        let refused = open_until(server, &membership, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::MemberAlready { .. })),
            "{refused:?}"
        );
        let seen = opener(server)
            .await
            .membership(membership.name())
            .await
            .unwrap();
        assert_eq!(
            seen.held_by,
            [format!("through {}", team.trim_matches('"'))]
        );
        run_as_master(server, &format!("REVOKE {role} FROM {team}")).await;
        open(server, &membership).await;
        close(server, &membership.registered).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_membership_that_others_gave_meanwhile_keeps_it_unproved_until_they_take_it() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let (role, user) = (quoted(&membership.role), quoted(&membership.user.user));
        open(server, &membership).await;
        let team =
            new_unregistered_role(server, &format!("team_of_{}", membership.user.user)).await;
        run_as_master(server, &format!("GRANT {role} TO {user}")).await;
        run_as_master(
            server,
            &format!(
                "GRANT {role} TO {}; GRANT {} TO {user}",
                team.user, team.user
            ),
        )
        .await;
        let acting = session(server, &membership.user).await;
        set_role(&acting, &membership.role).await.unwrap();

        let targets = only(server);
        let unproved = close_targets(
            server,
            &targets,
            &membership.registered,
            Duration::from_secs(4),
        )
        .await;
        let Err(Error::NotProved(not_proved)) = unproved else {
            panic!("{unproved:?}")
        };
        let said = not_proved.to_string();
        assert!(said.contains(&format!("through {}", team.user)), "{said}");
        assert_eq!(
            said.contains("granted by master"),
            is_16_or_later(server),
            "{said}"
        );
        assert!(
            !is_alive(&acting).await,
            "its sessions are ended all the same"
        );

        run_as_master(server, &format!("REVOKE {role} FROM {}", team.user)).await;
        if is_16_or_later(server) {
            run_as_master(server, &format!("REVOKE {role} FROM {user}")).await;
        }
        close(server, &membership.registered).await.unwrap();
        assert!(!can_act(server, &membership).await);
    })
    .await;
}

#[tokio::test]
async fn a_user_as_whom_others_can_act_gets_no_window() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let other =
            new_unregistered_role(server, &format!("friend_of_{}", membership.user.user)).await;
        let user = quoted(&membership.user.user);
        run_as_master(server, &format!("GRANT {user} TO {}", other.user)).await;
        let refused = open_until(server, &membership, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::CouldUndoItsWindow { .. })),
            "{refused:?}"
        );
        let seen = opener(server)
            .await
            .membership(membership.name())
            .await
            .unwrap();
        assert_eq!(seen.acted_as_by, [other.user.as_str()]);
        run_as_master(server, &format!("REVOKE {user} FROM {}", other.user)).await;

        // The database's owner can do anything anyhow.
        run_as_superuser(server, &format!("GRANT {user} TO master")).await;
        open(server, &membership).await;
        close(server, &membership.registered).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_renamed_role_or_user_is_closed_by_what_it_is_and_opened_by_nobody() {
    on_each_version(async |server| {
        for renames_the_user in [true, false] {
            let mut membership = new_membership(server).await;
            open(server, &membership).await;
            let name = if renames_the_user {
                &membership.user.user
            } else {
                &membership.role
            };
            let renamed = format!("{name}_renamed");
            // A user with sessions may be renamed; its password stays, being SCRAM.
            run_as_master(
                server,
                &format!("ALTER ROLE {} RENAME TO {}", quoted(name), quoted(&renamed)),
            )
            .await;
            let refused = open_until(server, &membership, in_one_hour()).await;
            assert!(
                matches!(refused, Err(Error::RoleChangedIdentity { .. })),
                "{refused:?}"
            );
            let seen = look(&[closer(server).await], membership.name())
                .await
                .unwrap();
            assert!(
                matches!(seen.identity[..], [Obstacle::Renamed { .. }]),
                "{seen:?}"
            );
            if renames_the_user {
                membership.user.user = renamed;
            } else {
                membership.role = renamed;
            }
            assert!(can_act(server, &membership).await);
            close(server, &membership.registered).await.unwrap();
            assert!(!can_act(server, &membership).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_that_was_made_anew_is_not_the_registered_one() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        open(server, &membership).await;
        let user = quoted(&membership.user.user);
        if is_16_or_later(server) {
            // Without that the server refuses to drop the role that the grant was made by or to.
            run_as_superuser(server, &format!("DROP ROLE {user}")).await;
        } else {
            run_as_master(server, &format!("DROP ROLE {user}")).await;
        }
        let create = format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{}'",
            membership.user.password
        );
        run_as_master(server, &create).await;
        let seen = look(&[closer(server).await], membership.name())
            .await
            .unwrap();
        assert_eq!(
            (seen.identity, seen.name_taken),
            (vec![Obstacle::Dropped], true)
        );
        close(server, &membership.registered).await.unwrap();
        let refused = open_until(server, &membership, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::RoleChangedIdentity { .. })),
            "{refused:?}"
        );

        register(server, &membership).await.unwrap();
        open(server, &membership).await;
        assert!(can_act(server, &membership).await);
        close(server, &membership.registered).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn sessions_of_the_user_cannot_hold_up_the_closing() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        open(server, &membership).await;
        let blockers = join_all((0..4).map(|_| session(server, &membership.user))).await;
        for blocker in &blockers {
            blocker
                .batch_execute("BEGIN; SELECT * FROM pg_auth_members")
                .await
                .unwrap();
        }
        blockers[0]
            .batch_execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
            .await
            .unwrap();
        set_role(&blockers[1], &membership.role).await.unwrap();
        blockers[1]
            .batch_execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
            .await
            .unwrap();
        let proof = close(server, &membership.registered).await.unwrap();
        assert_eq!(proof.n_sessions_ended, 4);
        for blocker in &blockers {
            assert!(!is_alive(blocker).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_login_and_a_membership_of_the_same_user_are_closed_each_for_itself() {
    on_each_version(async |server| {
        let membership = new_membership(server).await;
        let user = &membership.user;
        run_as_master(
            server,
            &format!("ALTER ROLE {} NOLOGIN", quoted(&user.user)),
        )
        .await;
        run_as_master(
            server,
            &format!("SELECT latchkey.register('{}', '8 hours')", user.user),
        )
        .await;
        super::fixture::open(server, user).await;
        open(server, &membership).await;
        assert!(can_act(server, &membership).await);

        close(server, &membership.registered).await.unwrap();
        assert!(can_log_in(server, user).await);
        assert!(!can_act(server, &membership).await);
        open(server, &membership).await;
        close(server, user).await.unwrap();
        assert!(!can_log_in(server, user).await);
        close(server, &membership.registered).await.unwrap();

        // What one of them needs is left when the other one is unregistered.
        run_as_master(
            server,
            &format!("SELECT latchkey.unregister('{}')", user.user),
        )
        .await;
        let state = closer(server)
            .await
            .role_state(membership.name())
            .await
            .unwrap();
        assert!(state.is_manageable, "{state:?}");
    })
    .await;
}

#[tokio::test]
async fn only_what_can_be_ended_is_registered() {
    on_each_version(async |server| {
        let membership = new_unregistered_membership(server).await;
        let (role, user) = (membership.role.as_str(), membership.user.user.as_str());
        let strong = format!("strong_{role}");
        run_as_superuser(server, &format!("CREATE ROLE {strong} SUPERUSER")).await;
        let dba = master(server).await;
        for (name, role, user) in [
            ("x", "nobody", user),
            ("x", role, "nobody"),
            ("", role, user),
            ("pg_x", role, user),
            ("rds_x", role, user),
            ("latchkey_x", role, user),
            ("breakglass", role, user),
            ("x", role, "latchkey_closer"),
            ("x", "latchkey_owner", user),
            ("x", role, "master"),
            ("x", role, role),
            ("x", strong.as_str(), user),
            ("x", role, strong.as_str()),
            ("x", "pg_execute_server_program", user),
        ] {
            let statement = "SELECT latchkey.register_membership($1, $2, $3, '1 hour')";
            let refused = dba.query_one(statement, &[&name, &role, &user]).await;
            assert_eq!(
                code_of(&refused.unwrap_err()),
                "LK004",
                "{name:?}, {role:?}, {user:?}"
            );
        }
        register(server, &membership).await.unwrap();
        let second_name = dba
            .query_one(
                "SELECT latchkey.register_membership('y', $1, $2, '1 hour')",
                &[&role, &user],
            )
            .await;
        assert_eq!(code_of(&second_name.unwrap_err()), "LK004");
        let taken = format!("CREATE ROLE {} NOLOGIN", quoted(membership.name()));
        dba.batch_execute(&taken).await.unwrap();
        let as_a_role = dba
            .query_one(
                "SELECT latchkey.register($1, '1 hour')",
                &[&membership.name()],
            )
            .await;
        assert_eq!(code_of(&as_a_role.unwrap_err()), "LK004");

        open(server, &membership).await;
        let unregister = "SELECT latchkey.unregister_membership($1)";
        let refused = dba.query_one(unregister, &[&membership.name()]).await;
        assert_eq!(code_of(&refused.unwrap_err()), "LK004");
        close(server, &membership.registered).await.unwrap();
        dba.query_one(unregister, &[&membership.name()])
            .await
            .unwrap();
        let n_left: i64 = dba
            .query_one(
                "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                  WHERE r.rolname::text IN ($1, $2)
                    AND m.member IN ('latchkey_owner'::regrole, 'latchkey_killer'::regrole)",
                &[&role, &user],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(n_left, 0);
    })
    .await;
}

/// RDS lets only members of `rds_superuser` grant it; PostgreSQL itself wants ADMIN, which this server's owner gets too.
#[tokio::test]
async fn rds_superuser_is_registered_only_after_the_dba_has_put_our_owner_into_it() {
    for major in majors() {
        let server = start(*major).await;
        let mut membership = new_unregistered_membership(&server).await;
        membership.role = "rds_superuser".to_owned();
        run_as_master(&server, "CREATE ROLE rds_superuser NOLOGIN").await;
        let refused = register(&server, &membership).await;
        assert_eq!(code_of(&refused.unwrap_err()), "LK004");
        run_as_master(
            &server,
            "GRANT rds_superuser TO latchkey_owner WITH ADMIN OPTION",
        )
        .await;
        register(&server, &membership).await.unwrap();
        open(&server, &membership).await;
        assert!(can_act(&server, &membership).await);
        close(&server, &membership.registered).await.unwrap();
        assert!(!can_act(&server, &membership).await);
    }
}

#[tokio::test]
async fn sessions_on_a_reader_are_ended_and_later_ones_are_not() {
    for major in majors() {
        let mut primary = start(*major).await;
        let standby = primary.add_standby().await.unwrap();
        let membership = new_membership(&primary).await;
        open(&primary, &membership).await;
        eventually(
            "the reader knows the membership",
            async || match session_if_there(&standby, &membership.user).await {
                Some(session) => set_role(&session, &membership.role).await.is_ok(),
                None => false,
            },
        )
        .await;
        let acting = session(&standby, &membership.user).await;
        set_role(&acting, &membership.role).await.unwrap();
        let targets = ClosingTargets {
            writer: endpoint(&primary),
            readers: vec![endpoint(&standby)],
            role_oid: None,
            system_identifier: None,
        };
        // The reader hears of the end later than the writer: what begins there meanwhile may still act as the role.
        run_as_superuser(&standby, "SELECT pg_wal_replay_pause()").await;
        let closing = close_targets(
            &primary,
            &targets,
            &membership.registered,
            Duration::from_secs(60),
        );
        let meanwhile = async {
            eventually("the writer took it", async || {
                let state = closer(&primary).await.role_state(membership.name()).await;
                !state.unwrap().can_login
            })
            .await;
            // Sweeps end its sessions as soon as they see them, so that it takes some tries.
            let late = loop {
                if let Some(session) = session_if_there(&standby, &membership.user).await
                    && set_role(&session, &membership.role).await.is_ok()
                {
                    break session;
                }
            };
            run_as_superuser(&standby, "SELECT pg_wal_replay_resume()").await;
            late
        };
        let (proof, late) = tokio::join!(closing, meanwhile);
        proof.unwrap();
        assert!(!is_alive(&acting).await && !is_alive(&late).await);

        let after = session(&standby, &membership.user).await;
        let connections = [closer(&primary).await, closer(&standby).await];
        let seen = look(&connections, membership.name()).await.unwrap();
        assert!(!seen.can_login && seen.n_sessions == 0, "{seen:?}");
        assert!(is_alive(&after).await);
    }
}

async fn session_if_there(server: &LocalPostgres, account: &Account) -> Option<Client> {
    server.log_in(account, APPLICATION_DATABASE).await.ok()
}
