//! Opening lets the role in until the end, and refuses what could not be closed again.

use std::time::Duration;

use access_postgres::{ClosingTargets, Error, Obstacle, ValidUntil};
use chrono::{SubsecRound, TimeDelta, Utc};
use xtask::postgres::{Account, LATCHKEY_DATABASE};

use super::fixture::*;

#[tokio::test]
async fn a_role_can_log_in_from_opening_to_closing_only() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        assert!(!can_log_in(server, &role).await);

        open(server, &role).await;
        assert!(can_log_in(server, &role).await);

        close(server, &role).await.unwrap();
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn opening_sets_the_end_and_the_connection_limit() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let opener = opener(server).await;
        let end = in_one_hour().trunc_subsecs(0);
        opener.open_login(&role.user, end).await.unwrap();

        let state = opener.role_state(&role.user).await.unwrap();
        assert!(state.can_login);
        assert_eq!(state.valid_until, ValidUntil::At(end));
        assert_eq!(state.max_window, Duration::from_secs(8 * 3600));
        assert_eq!(state.max_connections, 10);
        assert_eq!(state.current_name.as_deref(), Some(role.user.as_str()));
        assert!(!state.in_recovery && !state.name_taken && state.is_manageable);
        assert_eq!(state.obstacles(&role.user), []);
        let limit: i32 = superuser(server)
            .await
            .query_one(
                "SELECT rolconnlimit FROM pg_roles WHERE rolname::text = $1",
                &[&role.user],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(limit, 10);
    })
    .await;
}

#[tokio::test]
async fn what_a_role_may_do_is_told_to_those_who_decide() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let opener = opener(server).await;
        let oid = opener.role_state(&role.user).await.unwrap().oid;
        let plain = opener.role_powers(oid).await.unwrap();
        assert_eq!(plain.member_of, Vec::<String>::new());
        assert!(!plain.create_role && !plain.create_database && !plain.replication);
        assert!(!plain.end_sessions && !plain.reaches_latchkey);

        // Through another role, and by an attribute.
        let user = quoted(&role.user);
        let between = quoted(&format!("{}_team", role.user));
        superuser(server)
            .await
            .batch_execute(&format!(
                "CREATE ROLE {between}; GRANT pg_monitor, pg_signal_backend TO {between};
                 GRANT {between} TO {user};
                 GRANT CONNECT ON DATABASE latchkey TO {between};
                 ALTER ROLE {user} CREATEDB BYPASSRLS"
            ))
            .await
            .unwrap();
        let powers = opener.role_powers(oid).await.unwrap();
        let team = format!("{}_team", role.user);
        for expected in [team.as_str(), "pg_monitor", "pg_read_all_stats"] {
            assert!(
                powers.member_of.iter().any(|name| name == expected),
                "{expected}: {powers:?}"
            );
        }
        assert!(powers.create_database && powers.bypass_row_security && !powers.create_role);
        assert!(powers.end_sessions && powers.reaches_latchkey);
    })
    .await;
}

#[tokio::test]
async fn nobody_gets_in_after_the_end_even_if_nobody_closes() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let opener = opener(server).await;
        let end = Utc::now() + TimeDelta::milliseconds(1500);
        opener.open_login(&role.user, end).await.unwrap();
        assert!(can_log_in(server, &role).await);

        eventually("the password is refused", async || {
            !can_log_in(server, &role).await
        })
        .await;
        assert!(opener.role_state(&role.user).await.unwrap().can_login);
    })
    .await;
}

#[tokio::test]
async fn opening_again_moves_the_end_later_only_and_narrowing_earlier_only() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let opener = opener(server).await;
        let end = |hours| (Utc::now() + TimeDelta::hours(hours)).trunc_subsecs(0);
        let (one, two, three) = (end(1), end(2), end(3));
        let is_valid_until = async |end| {
            let state = opener.role_state(&role.user).await.unwrap();
            assert!(state.can_login);
            assert_eq!(state.valid_until, ValidUntil::At(end));
        };
        opener.open_login(&role.user, two).await.unwrap();
        opener.open_login(&role.user, one).await.unwrap();
        opener.extend(&role.user, one).await.unwrap();
        is_valid_until(two).await;
        opener.extend(&role.user, three).await.unwrap();
        is_valid_until(three).await;
        // Those who can only close may do this, and no more than this.
        let closer = closer(server).await;
        closer.narrow(&role.user, two).await.unwrap();
        closer.narrow(&role.user, three).await.unwrap();
        is_valid_until(two).await;
        let refused = closer.extend(&role.user, three).await;
        assert!(
            matches!(refused, Err(Error::Forbidden { .. })),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn an_end_in_the_past_or_beyond_the_limit_is_refused() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let opener = opener(server).await;
        let now = Utc::now();
        for end in [
            now - TimeDelta::seconds(1),
            now - TimeDelta::days(10_000),
            now + TimeDelta::hours(8) + TimeDelta::minutes(1),
            now + TimeDelta::days(10_000),
        ] {
            let refused = opener.open_login(&role.user, end).await;
            assert!(
                matches!(refused, Err(Error::WindowOutOfRange { .. })),
                "{end}: {refused:?}"
            );
        }
        let raw = server
            .log_in(&server.accounts().opener, "latchkey")
            .await
            .unwrap();
        for end in ["'infinity'", "'-infinity'", "NULL"] {
            let refused = raw
                .batch_execute(&format!("SELECT latchkey.open('{}', {end})", role.user))
                .await;
            assert_eq!(
                refused.unwrap_err().code().unwrap().code(),
                "22023",
                "{end}"
            );
        }
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn a_role_that_nobody_registered_is_not_opened() {
    on_each_version(async |server| {
        let role = new_unregistered_role(server, "nobody_registered_me").await;
        let opener = opener(server).await;
        for name in [role.user.as_str(), "no_such_role", "", "master", "rdsadmin"] {
            let refused = opener.open_login(name, in_one_hour()).await;
            assert!(
                matches!(refused, Err(Error::NotRegistered { .. })),
                "{name}: {refused:?}"
            );
        }
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn a_renamed_role_is_not_opened_and_still_closed() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let renamed = Account {
            user: format!("{}_renamed", role.user),
            password: role.password.clone(),
        };
        run_as_master(
            server,
            &format!(
                "ALTER ROLE {} RENAME TO {}",
                quoted(&role.user),
                quoted(&renamed.user)
            ),
        )
        .await;
        assert!(can_log_in(server, &renamed).await);

        let opener = opener(server).await;
        let refused = opener.open_login(&role.user, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::RoleChangedIdentity { .. })),
            "{refused:?}"
        );
        let state = opener.role_state(&role.user).await.unwrap();
        assert_eq!(
            state.obstacles(&role.user),
            [Obstacle::Renamed {
                now: renamed.user.clone()
            }]
        );

        let session = session(server, &renamed).await;
        close(server, &role).await.unwrap();
        assert!(!can_log_in(server, &renamed).await);
        assert!(!is_alive(&session).await);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_role_counts_as_closed_and_its_successor_is_not_opened() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        run_as_master(server, &format!("DROP ROLE {}", quoted(&role.user))).await;
        let opener = opener(server).await;
        let state = opener.role_state(&role.user).await.unwrap();
        assert_eq!(state.obstacles(&role.user)[0], Obstacle::Dropped);
        close(server, &role).await.unwrap();

        let successor = new_unregistered_role(server, &role.user).await;
        let refused = opener.open_login(&role.user, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::RoleChangedIdentity { .. })),
            "{refused:?}"
        );
        let state = opener.role_state(&role.user).await.unwrap();
        assert!(state.name_taken && state.current_name.is_none());
        assert!(!can_log_in(server, &successor).await);

        register(server, &role.user).await.unwrap();
        open(server, &role).await;
        assert!(can_log_in(server, &successor).await);
        close(server, &role).await.unwrap();
    })
    .await;
}

/// Who registers another role under the name of one that is open would leave that one to nobody.
#[tokio::test]
async fn another_role_takes_no_name_under_which_one_is_open() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let opened = closer(server)
            .await
            .role_state(&role.user)
            .await
            .unwrap()
            .oid;
        let former = Account {
            user: format!("{}_former", role.user),
            password: role.password.clone(),
        };
        let rename = format!(
            "ALTER ROLE {} RENAME TO {}",
            quoted(&role.user),
            quoted(&former.user)
        );
        run_as_master(server, &rename).await;
        let session = session(server, &former).await;
        new_unregistered_role(server, &role.user).await;
        let refused = register(server, &role.user).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "LK004", "{refused:?}");

        // As an installation of before would have it.
        let successor = format!("{}_successor", role.user);
        run_as_master(server, &format!("DROP ROLE {}", quoted(&role.user))).await;
        new_role_named(server, &successor).await;
        let superuser = &server.accounts().superuser;
        let superuser = server.log_in(superuser, LATCHKEY_DATABASE).await.unwrap();
        let in_its_place = format!(
            "ALTER ROLE {} RENAME TO {};
             DELETE FROM latchkey.target WHERE role_name = '{1}';
             UPDATE latchkey.target SET role_name = '{1}' WHERE role_name = '{0}'",
            successor, role.user
        );
        superuser.batch_execute(&in_its_place).await.unwrap();
        let targets = ClosingTargets {
            role_oid: Some(opened),
            ..only(server)
        };
        let closing = close_targets(server, &targets, &role, Duration::from_secs(3)).await;
        let Err(Error::NotProved(seen)) = closing else {
            panic!("the role that was opened is open: {closing:?}")
        };
        assert!(seen.to_string().contains(&opened.to_string()), "{seen}");
        assert!(is_alive(&session).await);

        run_as_master(
            server,
            &format!("ALTER ROLE {} NOLOGIN", quoted(&former.user)),
        )
        .await;
        drop(session);
        close_targets(server, &targets, &role, Duration::from_secs(30))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_no_request_could_name_is_not_registered() {
    on_each_version(async |server| {
        for name in [
            "RDS_admin",
            "Pg_admin",
            "Latchkey_x",
            " ada",
            "ada ",
            "a\tb",
            "a\u{308}da",
        ] {
            new_unregistered_role(server, name).await;
            let refused = register(server, name).await.unwrap_err();
            assert_eq!(
                refused.code().unwrap().code(),
                "LK004",
                "{name:?}: {refused:?}"
            );
            run_as_master(server, &format!("DROP ROLE {}", quoted(name))).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_that_could_undo_its_window_is_not_opened() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        run_as_superuser(
            server,
            &format!("ALTER ROLE {} SUPERUSER", quoted(&role.user)),
        )
        .await;
        let opener = opener(server).await;
        let refused = opener.open_login(&role.user, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::CouldUndoItsWindow { .. })),
            "{refused:?}"
        );
        let obstacles = opener
            .role_state(&role.user)
            .await
            .unwrap()
            .obstacles(&role.user);
        assert!(obstacles.contains(&Obstacle::CouldUndoItsWindow));
        run_as_superuser(
            server,
            &format!("ALTER ROLE {} NOSUPERUSER CREATEROLE", quoted(&role.user)),
        )
        .await;
        let before_16 = opener.server().await.unwrap().version < 160_000;
        let opened = opener.open_login(&role.user, in_one_hour()).await;
        if before_16 {
            assert!(
                matches!(opened, Err(Error::CouldUndoItsWindow { .. })),
                "{opened:?}"
            );
        } else {
            opened.unwrap();
        }
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn members_of_the_role_are_shown() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let member = new_unregistered_role(server, "a_friend_of_the_role").await;
        run_as_master(
            server,
            &format!("GRANT {} TO {}", quoted(&role.user), quoted(&member.user)),
        )
        .await;
        let state = opener(server).await.role_state(&role.user).await.unwrap();
        assert_eq!(state.members, ["a_friend_of_the_role"]);
    })
    .await;
}

#[tokio::test]
async fn opening_waits_for_a_lock_and_closing_does_not() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let mut dba = master(server).await;
        let transaction = dba.transaction().await.unwrap();
        transaction
            .batch_execute(&format!(
                "ALTER ROLE {} CONNECTION LIMIT 3",
                quoted(&role.user)
            ))
            .await
            .unwrap();

        let opener = opener(server).await;
        let opening = opener.open_login(&role.user, in_one_hour());
        let closer = closer(server).await;
        let closing = closer.close_login(&role.user);
        let rolling_back = async {
            let refused = closing.await;
            assert!(
                matches!(refused, Err(Error::RoleLocked { .. })),
                "{refused:?}"
            );
            transaction.rollback().await.unwrap();
        };
        let (opened, ()) = tokio::join!(opening, rolling_back);
        opened.unwrap();
        assert!(can_log_in(server, &role).await);
        close(server, &role).await.unwrap();
    })
    .await;
}
