//! What a stolen credential of ours can do: the installed functions, for registered roles. Each other thing is tried.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE};

use super::fixture::*;

#[tokio::test]
async fn the_closer_cannot_open() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        let refused = closer(server)
            .await
            .open_login(&role.user, in_one_hour())
            .await;
        assert!(
            matches!(refused, Err(access_postgres::Error::Forbidden { .. })),
            "{refused:?}"
        );
        assert!(!can_log_in(server, &role).await);
    })
    .await;
}

#[tokio::test]
async fn neither_the_opener_nor_the_closer_may_do_anything_else() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let session_of_the_role = session(server, &role).await;
        let session_of_the_master = session(server, &server.accounts().master).await;
        let session_of_the_superuser = superuser(server).await;
        let pids = [
            pid(&session_of_the_role).await,
            pid(&session_of_the_master).await,
            pid(&session_of_the_superuser).await,
        ];
        for account in [&server.accounts().opener, &server.accounts().closer] {
            let thief = server.log_in(account, LATCHKEY_DATABASE).await.unwrap();
            for statement in forbidden(&role, &pids) {
                let refused = thief.batch_execute(&statement).await;
                let code = refused
                    .err()
                    .and_then(|error| error.code().cloned())
                    .unwrap_or(SqlState::SUCCESSFUL_COMPLETION);
                if statement == format!("ALTER ROLE {} RENAME TO stolen", account.user) {
                    assert_eq!(
                        code,
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "nobody renames themselves"
                    );
                    continue;
                }
                assert_eq!(
                    code,
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    "{} on PostgreSQL {}: {statement}",
                    account.user,
                    server.version()
                );
            }
        }
        assert!(is_alive(&session_of_the_role).await);
        assert!(is_alive(&session_of_the_master).await);
        assert!(is_alive(&session_of_the_superuser).await);
        close(server, &role).await.unwrap();
    })
    .await;
}

fn forbidden(role: &Account, pids: &[i32]) -> Vec<String> {
    let role_name = quoted(&role.user);
    let mut statements = Vec::new();
    for name in [
        role_name.as_str(),
        "latchkey_owner",
        "latchkey_killer",
        "master",
        "rdsadmin",
        "pg_signal_backend",
        "pg_monitor",
    ] {
        statements.push(format!("SET ROLE {name}"));
        statements.push(format!("GRANT {name} TO CURRENT_USER"));
    }
    for name in [
        role_name.as_str(),
        "latchkey_owner",
        "latchkey_killer",
        "latchkey_opener",
        "latchkey_closer",
        "master",
        "rdsadmin",
    ] {
        statements.push(format!("ALTER ROLE {name} LOGIN"));
        statements.push(format!("ALTER ROLE {name} VALID UNTIL 'infinity'"));
        statements.push(format!("ALTER ROLE {name} RENAME TO stolen"));
        statements.push(format!("DROP ROLE {name}"));
    }
    for name in [role_name.as_str(), "latchkey_owner", "master"] {
        statements.push(format!("ALTER ROLE {name} PASSWORD 'stolen'"));
        statements.push(format!("ALTER ROLE {name} SET search_path = stolen"));
    }
    for pid in pids {
        statements.push(format!("SELECT pg_terminate_backend({pid})"));
        statements.push(format!("SELECT pg_cancel_backend({pid})"));
    }
    statements.extend(
        [
            "SET SESSION AUTHORIZATION rdsadmin",
            "CREATE ROLE stolen",
            "CREATE DATABASE stolen",
            "ALTER DATABASE latchkey SET statement_timeout = 1",
            "ALTER DATABASE latchkey RENAME TO stolen",
            "CREATE SCHEMA stolen",
            "CREATE TABLE latchkey.stolen ()",
            "CREATE TEMPORARY TABLE stolen ()",
            "CREATE FUNCTION latchkey.stolen() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT * FROM latchkey.target",
            "INSERT INTO latchkey.target SELECT 'master', 10, '1 year', 1, 'master', now()",
            "UPDATE latchkey.target SET max_window = '1 year'",
            "UPDATE latchkey.target SET password_id = NULL",
            "DELETE FROM latchkey.target",
            "DROP TABLE latchkey.target",
            "DO $$ BEGIN LOCK TABLE latchkey.target; END $$",
            "TRUNCATE latchkey.target",
            "SELECT latchkey.registered_oid('master')",
            "SELECT latchkey.register('master', '1 hour')",
            "SELECT latchkey.unregister('breakglass')",
            "ALTER FUNCTION latchkey.close(text) RENAME TO stolen",
            "ALTER FUNCTION latchkey.open(text, timestamptz) SECURITY INVOKER",
            "DROP FUNCTION latchkey.sweep(text, boolean)",
            "DROP SCHEMA latchkey CASCADE",
            "SELECT * FROM pg_catalog.pg_authid",
            "COPY pg_catalog.pg_class TO PROGRAM 'true'",
            "SELECT pg_read_file('postgresql.conf')",
            "ALTER SYSTEM SET ssl = off",
            "SELECT pg_reload_conf()",
            "CREATE EXTENSION dblink",
        ]
        .map(str::to_owned),
    );
    statements
}

async fn pid(session: &Client) -> i32 {
    session
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn only_the_functions_meant_for_them_can_be_executed() {
    on_each_version(async |server| {
        for (user, expected) in [
            (
                "latchkey_opener",
                vec![
                    "close",
                    "end_sessions",
                    "extend",
                    "membership",
                    "narrow",
                    "open",
                    "open",
                    "open_membership",
                    "openings_by_hand",
                    "registered",
                    "state",
                    "sweep",
                    "window_password",
                ],
            ),
            (
                "latchkey_closer",
                vec![
                    "close",
                    "end_sessions",
                    "membership",
                    "narrow",
                    "openings_by_hand",
                    "registered",
                    "state",
                    "sweep",
                    "window_password",
                ],
            ),
            ("breakglass", vec![]),
        ] {
            let names: Vec<String> = server
                .log_in(&server.accounts().superuser, LATCHKEY_DATABASE)
                .await
                .unwrap()
                .query(
                    "SELECT p.proname::text FROM pg_proc p
                      WHERE p.pronamespace = 'latchkey'::regnamespace
                        AND has_schema_privilege($1::text, 'latchkey', 'USAGE')
                        AND has_function_privilege($1::text, p.oid, 'EXECUTE')
                      ORDER BY 1",
                    &[&user],
                )
                .await
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            assert_eq!(names, expected, "{user}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_installing_dba_keeps_no_right_on_the_owner_or_the_killer() {
    on_each_version(async |server| {
        let master = master(server).await;
        for name in ["latchkey_owner", "latchkey_killer"] {
            let refused = master.batch_execute(&format!("SET ROLE {name}")).await;
            assert_eq!(
                refused.unwrap_err().code(),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{name}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_role_itself_cannot_reach_the_database_of_latchkey() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let refused = server.log_in(&role, LATCHKEY_DATABASE).await;
        assert_eq!(
            refused.unwrap_err().code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE)
        );
        let session = server.log_in(&role, APPLICATION_DATABASE).await.unwrap();
        for statement in [
            "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT 100",
            "ALTER ROLE latchkey_closer NOLOGIN",
            "ALTER ROLE latchkey_closer PASSWORD 'mine'",
            "SET ROLE latchkey_killer",
        ] {
            let refused = session.batch_execute(statement).await;
            assert_eq!(
                refused.unwrap_err().code(),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{statement}"
            );
        }
        close(server, &role).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_person_acting_as_the_master_can_install_again_and_nothing_is_lost() {
    // On a server of its own: functions that are replaced fail for those who call them in that moment.
    for major in majors() {
        let server = start(*major).await;
        let dba = Account {
            user: "a_dba".to_owned(),
            password: "correct horse battery staple".to_owned(),
        };
        run_as_superuser(
            &server,
            &format!(
                "CREATE ROLE a_dba LOGIN PASSWORD '{}'; GRANT master TO a_dba",
                dba.password
            ),
        )
        .await;
        run_as_master(&server, "GRANT CONNECT ON DATABASE latchkey TO a_dba").await;
        let registered_before = &server.accounts().target;
        open(&server, registered_before).await;
        let role = new_unregistered_role(&server, "registered_by_a_dba").await;

        let session = server.log_in(&dba, LATCHKEY_DATABASE).await.unwrap();
        session.batch_execute("SET ROLE master").await.unwrap();
        for _ in 0..2 {
            session
                .batch_execute(access_postgres::INSTALL_SQL)
                .await
                .unwrap();
        }
        session
            .batch_execute("SELECT latchkey.register('registered_by_a_dba', '8 hours')")
            .await
            .unwrap();
        open(&server, &role).await;
        for role in [registered_before, &role] {
            let state = opener(&server).await.role_state(&role.user).await.unwrap();
            assert!(state.can_login && state.is_manageable);
            assert!(can_log_in(&server, role).await);
            close(&server, role).await.unwrap();
            assert!(!can_log_in(&server, role).await);
        }
    }
}

#[tokio::test]
async fn a_superuser_can_install_and_register_as_well() {
    for major in majors() {
        let settings = xtask::postgres::Settings {
            major: *major,
            install: false,
            ..Default::default()
        };
        let server = xtask::postgres::LocalPostgres::start(&settings)
            .await
            .unwrap();
        let superuser = server
            .log_in(&server.accounts().superuser, LATCHKEY_DATABASE)
            .await
            .unwrap();
        superuser
            .batch_execute(access_postgres::INSTALL_SQL)
            .await
            .unwrap();
        for account in [&server.accounts().opener, &server.accounts().closer] {
            superuser
                .batch_execute(&format!(
                    "ALTER ROLE {} PASSWORD '{}'",
                    account.user, account.password
                ))
                .await
                .unwrap();
        }
        superuser
            .batch_execute("SELECT latchkey.register('breakglass', '1 hour')")
            .await
            .unwrap();
        let role = &server.accounts().target;
        opener(&server)
            .await
            .open_login(
                &role.user,
                chrono::Utc::now() + chrono::TimeDelta::minutes(5),
            )
            .await
            .unwrap();
        assert!(can_log_in(&server, role).await);
        close(&server, role).await.unwrap();
        assert!(!can_log_in(&server, role).await);
        uninstall(&superuser).await;
    }
}

#[tokio::test]
async fn the_dba_can_take_everything_out_again_once_nothing_is_registered() {
    for major in majors() {
        let server = start(*major).await;
        let dba = master(&server).await;
        dba.batch_execute(
            "CREATE ROLE dba; CREATE ROLE riko;
             SELECT latchkey.register_membership('riko-dba', 'dba', 'riko', '1 hour')",
        )
        .await
        .unwrap();
        let refused = dba.batch_execute(access_postgres::UNINSTALL_SQL).await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "LK004");
        dba.batch_execute("ROLLBACK").await.unwrap();
        uninstall(&dba).await;
        dba.batch_execute(access_postgres::INSTALL_SQL)
            .await
            .unwrap();
    }
}

async fn uninstall(dba: &Client) {
    dba.batch_execute(
        "SELECT latchkey.unregister_membership(name::text) FROM latchkey.membership;
         SELECT latchkey.unregister(role_name::text) FROM latchkey.target",
    )
    .await
    .unwrap();
    dba.batch_execute(access_postgres::UNINSTALL_SQL)
        .await
        .unwrap();
    let n_left: i64 = dba
        .query_one(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'latchkey%'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(n_left, 0);
}

#[tokio::test]
async fn a_role_is_unregistered_only_when_it_is_closed() {
    on_each_version(async |server| {
        let role = new_role(server).await;
        open(server, &role).await;
        let dba = master(server).await;
        let unregister = "SELECT latchkey.unregister($1)";
        let refused = dba.query_one(unregister, &[&role.user]).await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "LK004");
        close(server, &role).await.unwrap();
        dba.query_one(unregister, &[&role.user]).await.unwrap();
        let gone = closer(server).await.role_state(&role.user).await;
        assert!(
            matches!(gone, Err(access_postgres::Error::NotRegistered { .. })),
            "{gone:?}"
        );
        let members: i64 = dba
            .query_one(
                "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                  WHERE r.rolname::text = $1 AND m.member IN ('latchkey_owner'::regrole, 'latchkey_killer'::regrole)",
                &[&role.user],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(members, 0);
    })
    .await;
}
