//! A password made for a window: it opens, it dies with the window, and nobody's is replaced silently.

use access_postgres::{Error, WindowPassword};
use xtask::postgres::{Account, LATCHKEY_DATABASE, LocalPostgres};

use super::fixture::*;

/// The role with another password than its own.
fn with(role: &Account, password: &WindowPassword) -> Account {
    Account {
        user: role.user.clone(),
        password: password.expose().to_owned(),
    }
}

async fn open_with(
    server: &LocalPostgres,
    role: &Account,
    password: &WindowPassword,
) -> Result<(), Error> {
    opener(server)
        .await
        .open_login_with_password(&role.user, in_one_hour(), password)
        .await
}

async fn has_password(server: &LocalPostgres, role: &Account) -> bool {
    superuser(server)
        .await
        .query_one(
            "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname::text = $1",
            &[&role.user],
        )
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_windows_password_works_from_opening_to_closing_only() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let password = WindowPassword::random().unwrap();
        let given = with(&role, &password);
        assert!(!can_log_in(server, &given).await);

        open_with(server, &role, &password).await.unwrap();
        assert!(can_log_in(server, &given).await);
        assert!(!can_log_in(server, &role).await, "the old password works");
        let standing = closer(server)
            .await
            .standing_password(&role.user)
            .await
            .unwrap();
        assert_eq!(standing.fingerprint, Some(password.fingerprint()));

        close(server, &role).await.unwrap();
        assert!(!can_log_in(server, &given).await);
        assert!(!has_password(server, &role).await);
        let standing = closer(server)
            .await
            .standing_password(&role.user)
            .await
            .unwrap();
        assert_eq!((standing.fingerprint, standing.kept_because), (None, None));
        run_as_master(
            server,
            &format!(
                "ALTER ROLE {} LOGIN VALID UNTIL 'infinity'",
                quoted(&role.user)
            ),
        )
        .await;
        assert!(
            !can_log_in(server, &given).await,
            "the password is not dead"
        );
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn each_window_has_a_password_of_its_own() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let (first, second) = (
            WindowPassword::random().unwrap(),
            WindowPassword::random().unwrap(),
        );
        open_with(server, &role, &first).await.unwrap();
        close(server, &role).await.unwrap();
        open_with(server, &role, &second).await.unwrap();
        assert!(!can_log_in(server, &with(&role, &first)).await);
        assert!(can_log_in(server, &with(&role, &second)).await);
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_open_role_keeps_its_password() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let (first, second) = (
            WindowPassword::random().unwrap(),
            WindowPassword::random().unwrap(),
        );
        open_with(server, &role, &first).await.unwrap();
        let refused = open_with(server, &role, &second).await;
        assert!(
            matches!(refused, Err(Error::AnotherPasswordStands { .. })),
            "{refused:?}"
        );
        assert!(can_log_in(server, &with(&role, &first)).await);
        // The same again, as a retry does, and also after the role has changed it by itself.
        session(server, &with(&role, &first))
            .await
            .batch_execute("ALTER ROLE CURRENT_USER PASSWORD 'mine now'")
            .await
            .unwrap();
        open_with(server, &role, &first).await.unwrap();
        assert!(can_log_in(server, &with(&role, &first)).await);
        close(server, &role).await.unwrap();
        assert!(!has_password(server, &role).await);

        open(server, &role).await;
        let refused = open_with(server, &role, &second).await;
        assert!(
            matches!(refused, Err(Error::AnotherPasswordStands { .. })),
            "opened without a password of ours: {refused:?}"
        );
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn of_two_openings_at_once_one_password_stands() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        for _ in 0..3 {
            let (first, second) = (
                WindowPassword::random().unwrap(),
                WindowPassword::random().unwrap(),
            );
            let (one, other) = tokio::join!(
                open_with(server, &role, &first),
                open_with(server, &role, &second)
            );
            for (opened, password) in [(&one, &first), (&other, &second)] {
                assert_eq!(
                    opened.is_ok(),
                    can_log_in(server, &with(&role, password)).await,
                    "{one:?} {other:?}"
                );
            }
            assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
            close(server, &role).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_password_that_the_dba_set_is_left_alone() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        assert!(can_log_in(server, &role).await);
        close(server, &role).await.unwrap();
        assert!(has_password(server, &role).await);
        open(server, &role).await;
        assert!(can_log_in(server, &role).await);
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_a_scram_verifier_is_taken() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let raw = server
            .log_in(&server.accounts().opener, LATCHKEY_DATABASE)
            .await
            .unwrap();
        let id = "x".repeat(43);
        let key = format!("{}=", "A".repeat(43));
        let salt = format!("{}==", "A".repeat(22));
        let sound = format!("SCRAM-SHA-256$4096:{salt}${key}:{key}");
        for verifier in [
            "hunter2".to_owned(),
            String::new(),
            "md50123456789abcdef0123456789abcdef".to_owned(),
            sound.to_lowercase(),
            sound.replace("4096", "1"),
            sound.replace("4096", "04096"),
            format!("{sound} "),
            format!("{sound}\n"),
            format!("x\n{sound}"),
            sound.replace("==", ""),
            format!("SCRAM-SHA-256$4096:{salt}${key}"),
            format!("{sound}' SUPERUSER PASSWORD 'x"),
        ] {
            let refused = raw
                .query_one(
                    "SELECT latchkey.open($1, now() + interval '1 hour', $2, $3)",
                    &[&role.user, &verifier, &id],
                )
                .await;
            assert_eq!(
                refused.unwrap_err().code().unwrap().code(),
                "LK007",
                "{verifier:?}"
            );
        }
        for id in [None, Some(""), Some("short")] {
            let refused = raw
                .query_one(
                    "SELECT latchkey.open($1, now() + interval '1 hour', $2, $3)",
                    &[&role.user, &sound, &id],
                )
                .await;
            assert_eq!(
                refused.unwrap_err().code().unwrap().code(),
                "LK007",
                "{id:?}"
            );
        }
        let state = opener(server).await.role_state(&role.user).await.unwrap();
        assert!(!state.can_login);
    })
    .await;
}

#[tokio::test]
async fn nologin_stands_when_the_password_cannot_be_taken_away() {
    // On a server of its own, whose function is made to fail as a forbidden password command would.
    for major in majors() {
        let server = start(*major).await;
        let role = new_role(&server).await;
        let in_latchkey = server
            .log_in(&server.accounts().superuser, LATCHKEY_DATABASE)
            .await
            .unwrap();
        let definition: String = in_latchkey
            .query_one(
                "SELECT pg_get_functiondef('latchkey.close(text)'::regprocedure)",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        let forbidden = definition.replace("%I PASSWORD NULL", "%I PASSWORD NULL SUPERUSER");
        assert_ne!(forbidden, definition);

        let password = WindowPassword::random().unwrap();
        open_with(&server, &role, &password).await.unwrap();
        in_latchkey.batch_execute(&forbidden).await.unwrap();
        close(&server, &role).await.unwrap();
        assert!(!can_log_in(&server, &with(&role, &password)).await);
        assert!(has_password(&server, &role).await);
        let closer = closer(&server).await;
        let standing = closer.standing_password(&role.user).await.unwrap();
        assert_eq!(standing.fingerprint, Some(password.fingerprint()));
        assert_eq!(standing.kept_because.as_deref(), Some("42501"));

        in_latchkey.batch_execute(&definition).await.unwrap();
        close(&server, &role).await.unwrap();
        assert!(!has_password(&server, &role).await);
        let standing = closer.standing_password(&role.user).await.unwrap();
        assert_eq!((standing.fingerprint, standing.kept_because), (None, None));
    }
}

#[tokio::test]
async fn neither_password_nor_verifier_is_in_the_servers_log() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let password = WindowPassword::random().unwrap();
        open_with(server, &role, &password).await.unwrap();
        let verifier: String = superuser(server)
            .await
            .query_one(
                "SELECT rolpassword FROM pg_authid WHERE rolname::text = $1",
                &[&role.user],
            )
            .await
            .unwrap()
            .get(0);
        assert!(verifier.starts_with("SCRAM-SHA-256$"));
        close(server, &role).await.unwrap();
        let log = server.log();
        assert!(
            log.contains("connection authorized"),
            "an empty log proves nothing"
        );
        assert!(!log.contains(password.expose()));
        assert!(!log.contains(&verifier));
    })
    .await;
}
