//! A name means exactly one role, to the last byte, and never a piece of SQL.

use access_postgres::Error;

use super::fixture::*;

#[tokio::test]
async fn names_that_need_quotes_are_opened_and_closed() {
    on_each_version(async |server| {
        for name in [
            "Ops Team",
            "we\"ird",
            "o'hara",
            "x; DROP TABLE latchkey.target; --",
            "select",
            "current_user",
            "\u{e9}quipe",
            "%I %L $1",
        ] {
            let role = new_role_named(server, name).await;
            assert!(!can_log_in(server, &role).await, "{name}");
            open(server, &role).await;
            assert!(can_log_in(server, &role).await, "{name}");
            close(server, &role).await.unwrap();
            assert!(!can_log_in(server, &role).await, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_of_64_bytes_does_not_reach_the_role_it_would_be_cut_to() {
    on_each_version(async |server| {
        let name = "a".repeat(63);
        let role = new_role_named(server, &name).await;
        let opener = opener(server).await;
        let longer = format!("{name}a");
        let refused = opener.open_login(&longer, in_one_hour()).await;
        assert!(
            matches!(refused, Err(Error::NotRegistered { .. })),
            "{refused:?}"
        );
        assert!(!can_log_in(server, &role).await);
        assert_eq!(
            register(server, &longer)
                .await
                .unwrap_err()
                .code()
                .unwrap()
                .code(),
            "LK004"
        );

        open(server, &role).await;
        let refused = opener.close_login(&longer).await;
        assert!(
            matches!(refused, Err(Error::NotRegistered { .. })),
            "{refused:?}"
        );
        assert!(can_log_in(server, &role).await);
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn look_alikes_of_a_registered_name_are_not_registered() {
    on_each_version(async |server| {
        let role = new_role_named(server, "\u{e9}tienne").await;
        let opener = opener(server).await;
        for look_alike in [
            "e\u{301}tienne",
            "\u{c9}tienne",
            "\u{e9}tienne ",
            "\"\u{e9}tienne\"",
        ] {
            let refused = opener.open_login(look_alike, in_one_hour()).await;
            assert!(
                matches!(refused, Err(Error::NotRegistered { .. })),
                "{look_alike:?}: {refused:?}"
            );
        }
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn roles_of_the_system_and_of_latchkey_cannot_be_registered() {
    on_each_version(async |server| {
        new_unregistered_role(server, "rds_like").await;
        run_as_superuser(server, "CREATE ROLE another_superuser SUPERUSER NOLOGIN").await;
        for name in [
            "pg_monitor",
            "pg_signal_backend",
            "rdsadmin",
            "rds_like",
            "latchkey_opener",
            "latchkey_closer",
            "latchkey_owner",
            "latchkey_killer",
            "master",
            "another_superuser",
            "no_such_role",
        ] {
            let refused = register(server, name).await;
            assert_eq!(
                refused.unwrap_err().code().unwrap().code(),
                "LK004",
                "{name}"
            );
        }
    })
    .await;
}
