//! What a window left behind is named, and nothing else is.
//!
//! Facts are about the whole cluster, so these tests have servers of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use access_core::{DatabaseFacts, Facts, LeftBehind, WhyUnread};
use database_shell::read_facts;
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres};

use super::fixture::*;

#[tokio::test]
async fn an_untouched_window_leaves_nothing_behind() {
    on_new_servers(async |server, _major| {
        let role = new_role(server).await;
        let before = facts(server, &server.accounts().opener).await;
        assert!(before.databases.len() >= 4, "{:?}", before.databases.keys());
        assert!(
            before
                .databases
                .values()
                .all(|it| matches!(it, DatabaseFacts::Read(_)))
        );

        open(server, &role).await;
        let session = session(server, &role).await;
        session
            .batch_execute(
                "CREATE TEMPORARY TABLE scratch (n int);
                 CREATE FUNCTION pg_temp.forgotten() RETURNS int LANGUAGE sql AS 'SELECT 1';
                 CREATE TEMPORARY VIEW looked AS SELECT * FROM scratch; SELECT pg_temp.forgotten()",
            )
            .await
            .unwrap();
        // With the temporary things still there, and read by another login.
        let during = facts(server, &server.accounts().closer).await;
        assert_eq!(LeftBehind::between(&before, &during).lines, [""; 0]);

        close(server, &role).await.unwrap();
        let after = facts(server, &server.accounts().closer).await;
        assert_eq!(
            LeftBehind::between(&before, &after),
            LeftBehind {
                lines: Vec::new(),
                n_grave: 0
            }
        );
    })
    .await;
}

#[tokio::test]
async fn each_change_in_a_window_is_named() {
    on_new_servers(async |server, major| {
        let role = new_role(server).await;
        run(server, APPLICATION_DATABASE, PREPARATION).await;
        let mut before = facts(server, &server.accounts().opener).await;
        open(server, &role).await;
        for (since, database, statement, expected) in CHANGES {
            if major < *since {
                continue;
            }
            run(server, database, statement).await;
            let after = facts(server, &server.accounts().closer).await;
            let left_behind = LeftBehind::between(&before, &after);
            for expected in *expected {
                let named = left_behind
                    .lines
                    .iter()
                    .any(|line| line.starts_with(expected));
                assert!(
                    named,
                    "on {major}: {statement}\n gave {:#?}\n not {expected}",
                    left_behind.lines
                );
            }
            // What it names is new in one way only: no other line, grave or not, comes with it unexplained.
            let n_grave = left_behind
                .lines
                .iter()
                .filter(|line| line.starts_with("GRAVE "))
                .count();
            assert_eq!(n_grave as u64, left_behind.n_grave, "{statement}");
            assert_eq!(
                n_grave > 0,
                expected.iter().any(|line| line.starts_with("GRAVE ")),
                "on {major}: {statement}\n gave {:#?}",
                left_behind.lines
            );
            assert!(
                left_behind
                    .lines
                    .iter()
                    .all(|line| !line.contains("hunter2")),
                "{left_behind:?}"
            );
            before = after;
        }

        close(server, &role).await.unwrap();
        let last = facts(server, &server.accounts().closer).await;
        assert_eq!(
            LeftBehind::between(&before, &last).lines,
            [""; 0],
            "closing itself shows nothing"
        );
    })
    .await;
}

#[tokio::test]
async fn another_roles_password_cannot_be_seen() {
    on_new_servers(async |server, _major| {
        let before = facts(server, &server.accounts().opener).await;
        run(server, "postgres", "ALTER ROLE master PASSWORD 'changed'").await;
        let after = facts(server, &server.accounts().closer).await;
        assert_eq!(
            LeftBehind::between(&before, &after).lines,
            [""; 0],
            "mend the words in the message too"
        );
    })
    .await;
}

#[tokio::test]
async fn settings_of_a_hostile_database_neither_hide_nor_invent_anything() {
    on_new_servers(async |server, _major| {
        let before = facts(server, &server.accounts().opener).await;
        let mut expected = Vec::new();
        for setting in [
            "default_transaction_read_only = on",
            "search_path = evil, public",
            "statement_timeout = 1",
            "quote_all_identifiers = on",
            "timezone = 'Asia/Tokyo'",
            "datestyle = 'German'",
            "default_transaction_isolation = serializable",
        ] {
            for database in [APPLICATION_DATABASE, LATCHKEY_DATABASE] {
                run(
                    server,
                    "postgres",
                    &format!("ALTER DATABASE {database} SET {setting}"),
                )
                .await;
                let name = setting.split(' ').next().unwrap();
                expected.push(format!(
                    "GRAVE + setting of every role in {database} {name}="
                ));
            }
        }
        let after = facts(server, &server.accounts().closer).await;
        let left_behind = LeftBehind::between(&before, &after);
        for expected in &expected {
            assert!(
                left_behind
                    .lines
                    .iter()
                    .any(|line| line.to_lowercase().starts_with(&expected.to_lowercase())),
                "{expected}: {left_behind:#?}"
            );
        }
        assert_eq!(left_behind.lines.len(), expected.len(), "{left_behind:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_be_read_is_said_to_be_so() {
    on_new_servers(async |server, major| {
        for database in ["closed", "crowded", "flooded", "gone", "trapped"] {
            run(server, "postgres", &format!("CREATE DATABASE {database}")).await;
        }
        let before = facts(server, &server.accounts().opener).await;
        run(
            server,
            "postgres",
            "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        )
        .await;
        run(
            server,
            "postgres",
            "ALTER DATABASE crowded CONNECTION LIMIT 0",
        )
        .await;
        run(server, "postgres", "DROP DATABASE gone").await;
        run(server, "flooded", FLOOD).await;
        if major >= 17 {
            run(server, "trapped", LOGIN_TRAP).await;
        }
        let after = facts(server, &server.accounts().closer).await;

        let unread: BTreeMap<_, _> = after
            .databases
            .iter()
            .filter_map(|(name, facts)| match facts {
                DatabaseFacts::Unread(why) => Some((name.as_str(), *why)),
                DatabaseFacts::Read(_) => None,
            })
            .collect();
        let mut expected = BTreeMap::from([
            ("closed", WhyUnread::NotAllowed),
            ("crowded", WhyUnread::Failed),
            ("flooded", WhyUnread::TooManyFacts),
        ]);
        if major >= 17 {
            expected.insert("trapped", WhyUnread::LoginTrigger);
        }
        assert_eq!(unread, expected);
        let lines = LeftBehind::between(&before, &after).lines;
        for name in expected.keys() {
            assert!(
                lines
                    .iter()
                    .any(|line| line.starts_with(&format!("not compared: {name}: "))),
                "{lines:#?}"
            );
        }
        assert!(
            lines.contains(&"- database gone owner rdsadmin".to_owned()),
            "{lines:#?}"
        );
        if major >= 17 {
            let trap = "GRAVE + event-trigger at login in trapped".to_owned();
            assert!(lines.contains(&trap), "{lines:#?}");
        }
        // Nobody walked into the trap; and it is one.
        closer(server).await.end().await;
        if major >= 17 {
            let account = &server.accounts().closer;
            drop(server.log_in(account, "trapped").await);
            let caught =
                access_postgres::connect(&endpoint(server), &login(account), &tls(server)).await;
            assert!(
                matches!(
                    caught,
                    Err(access_postgres::Error::AuthenticationRefused { .. })
                ),
                "{caught:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_without_a_free_connection_gives_an_error_in_time() {
    on_new_servers(async |server, _major| {
        run(
            server,
            "postgres",
            "ALTER ROLE latchkey_closer CONNECTION LIMIT 0",
        )
        .await;
        let login = login(&server.accounts().closer);
        let refused = read_facts(&endpoint(server), &login, &tls(server), LIMIT).await;
        assert!(
            matches!(
                refused,
                Err(access_postgres::Error::TooManyConnections { .. })
            ),
            "{refused:?}"
        );
    })
    .await;
}

const LIMIT: Duration = Duration::from_secs(30);

const PREPARATION: &str = "CREATE ROLE app NOLOGIN; CREATE ROLE reporting NOLOGIN;
    CREATE TABLE sales (id int, card text); CREATE VIEW open_sales AS SELECT id FROM sales;
    CREATE FUNCTION settle() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE FOREIGN DATA WRAPPER wrapper";

const FLOOD: &str = "DO $$ BEGIN FOR n IN 1..20000 LOOP
      EXECUTE format('CREATE FUNCTION flood_%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', n);
    END LOOP; END $$";

const LOGIN_TRAP: &str = "CREATE FUNCTION trap() RETURNS event_trigger LANGUAGE plpgsql
      AS 'BEGIN EXECUTE $a$ALTER ROLE CURRENT_USER PASSWORD $b$stolen$b$$a$; END';
    CREATE EVENT TRIGGER trap ON login EXECUTE FUNCTION trap();
    ALTER EVENT TRIGGER trap ENABLE ALWAYS";

/// Since which version, in which database, what is done, and how lines begin that must come of it.
type Change = (u32, &'static str, &'static str, &'static [&'static str]);

const CHANGES: &[Change] = &[
    (
        13,
        "postgres",
        "CREATE ROLE mallory LOGIN PASSWORD 'hunter2'",
        &["GRAVE + role mallory (oid "],
    ),
    (
        13,
        "postgres",
        "ALTER ROLE mallory VALID UNTIL '2040-01-01 00:00Z'",
        &["GRAVE - role mallory", "GRAVE + role mallory"],
    ),
    (
        13,
        "postgres",
        "ALTER ROLE app LOGIN",
        &["GRAVE - role app (oid", "GRAVE + role app (oid"],
    ),
    (
        13,
        "postgres",
        "ALTER ROLE app CREATEDB",
        &["GRAVE + role app (oid"],
    ),
    (
        13,
        "postgres",
        "GRANT pg_monitor TO reporting",
        &["GRAVE + membership reporting in pg_monitor by "],
    ),
    (
        13,
        "postgres",
        "GRANT pg_monitor TO reporting WITH ADMIN OPTION",
        &[
            "GRAVE - membership reporting",
            "GRAVE + membership reporting",
        ],
    ),
    (
        13,
        "postgres",
        "ALTER ROLE app SET search_path = evil",
        &["GRAVE + setting of app in every database search_path=evil"],
    ),
    (
        13,
        "postgres",
        "ALTER ROLE app SET my.token = 'hunter2'",
        &["GRAVE + setting of app in every database my.token (md5 "],
    ),
    (
        13,
        "postgres",
        "ALTER ROLE app RESET ALL",
        &["GRAVE - setting of app in every database search_path=evil"],
    ),
    (
        13,
        "postgres",
        "GRANT CREATE ON DATABASE orders TO app",
        &["- database orders", "+ database orders"],
    ),
    (
        13,
        "postgres",
        "SELECT pg_create_physical_replication_slot('copy')",
        &["+ slot copy physical"],
    ),
    (
        13,
        "postgres",
        "CREATE DATABASE another",
        &["+ database another owner", "+ in another: schema public"],
    ),
    (
        13,
        "orders",
        "BEGIN; CREATE TABLE kept (); PREPARE TRANSACTION 'kept'",
        &["GRAVE + prepared-transaction 'kept' owner "],
    ),
    (
        13,
        "orders",
        "ROLLBACK PREPARED 'kept'",
        &["- prepared-transaction 'kept'"],
    ),
    (
        13,
        "orders",
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()",
        &["GRAVE + in orders: event-trigger watch at ddl_command_end"],
    ),
    (
        13,
        "orders",
        "ALTER EVENT TRIGGER watch DISABLE",
        &[
            "GRAVE - in orders: event-trigger watch",
            "GRAVE + in orders: event-trigger watch",
        ],
    ),
    (
        13,
        "orders",
        "CREATE OR REPLACE FUNCTION settle() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        &[
            "- in orders: function public.settle()",
            "+ in orders: function public.settle()",
        ],
    ),
    (
        13,
        "orders",
        "ALTER FUNCTION settle() SECURITY DEFINER",
        &[
            "- in orders: function public.settle()",
            "+ in orders: definer-function public.settle()",
        ],
    ),
    (
        14,
        "orders",
        "CREATE FUNCTION modern() RETURNS int RETURN 1",
        &["+ in orders: function public.modern()"],
    ),
    (
        14,
        "orders",
        "CREATE OR REPLACE FUNCTION modern() RETURNS int RETURN 2",
        &[
            "- in orders: function public.modern()",
            "+ in orders: function public.modern()",
        ],
    ),
    (
        13,
        "orders",
        "CREATE TRIGGER audit BEFORE INSERT ON sales EXECUTE FUNCTION audit()",
        &["+ in orders: trigger audit on public.sales calls public.audit()"],
    ),
    (
        13,
        "orders",
        "CREATE OR REPLACE VIEW open_sales AS SELECT id FROM sales WHERE id > 0",
        &[
            "- in orders: rule \"_RETURN\" on public.open_sales",
            "+ in orders: rule \"_RETURN\" on public.open_sales",
        ],
    ),
    (
        13,
        "orders",
        "CREATE RULE steal AS ON INSERT TO sales DO ALSO NOTHING",
        &["+ in orders: rule steal on public.sales"],
    ),
    (
        13,
        "orders",
        "DROP EXTENSION plpgsql CASCADE",
        &[
            "- in orders: extension plpgsql",
            "GRAVE - in orders: event-trigger watch",
        ],
    ),
    (
        13,
        "orders",
        "CREATE EXTENSION plpgsql",
        &["+ in orders: extension plpgsql"],
    ),
    (
        13,
        "orders",
        "CREATE POLICY everything ON sales USING (true)",
        &["+ in orders: policy everything on public.sales for * to {-} permissive"],
    ),
    (
        13,
        "orders",
        "ALTER POLICY everything ON sales TO app",
        &["+ in orders: policy everything on public.sales for * to {app}"],
    ),
    (
        13,
        "orders",
        "ALTER POLICY everything ON sales USING (id = 1)",
        &["+ in orders: policy everything on public.sales"],
    ),
    (
        13,
        "orders",
        "ALTER TABLE sales ENABLE ROW LEVEL SECURITY",
        &["+ in orders: relation public.sales of kind r owner rdsadmin row security"],
    ),
    (
        13,
        "orders",
        "GRANT SELECT ON sales TO PUBLIC",
        &["+ in orders: relation public.sales of kind r"],
    ),
    (
        13,
        "orders",
        "GRANT UPDATE (card) ON sales TO app",
        &["+ in orders: column public.sales.card acl {app=w/"],
    ),
    (
        13,
        "orders",
        "ALTER TABLE sales OWNER TO app",
        &["+ in orders: relation public.sales of kind r owner app"],
    ),
    (
        13,
        "orders",
        "CREATE SCHEMA hidden AUTHORIZATION app",
        &["+ in orders: schema hidden owner app"],
    ),
    (
        13,
        "orders",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app",
        &["+ in orders: default-privileges of rdsadmin everywhere for r"],
    ),
    (
        13,
        "orders",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER wrapper",
        &["+ in orders: server elsewhere owner"],
    ),
    (
        13,
        "orders",
        "ALTER SERVER elsewhere OPTIONS (host 'hunter2')",
        &[
            "- in orders: server elsewhere",
            "+ in orders: server elsewhere",
        ],
    ),
    (
        13,
        "orders",
        "CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (password 'hunter2')",
        &["+ in orders: user-mapping of public on elsewhere"],
    ),
    (
        13,
        "orders",
        "CREATE FUNCTION pg_catalog.hidden() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        &["+ in orders: function hidden()"],
    ),
    (
        13,
        "template1",
        "CREATE FUNCTION heirloom() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        &["+ in template1: function public.heirloom()"],
    ),
    (
        13,
        "latchkey",
        "GRANT EXECUTE ON FUNCTION latchkey.open(text, timestamptz) TO latchkey_closer",
        &[
            "GRAVE + in latchkey: manager definer-function latchkey.open(text,timestamp with time zone)",
        ],
    ),
    (
        13,
        "latchkey",
        "ALTER FUNCTION latchkey.close(text) RESET ALL",
        &[
            "GRAVE - in latchkey: manager definer-function latchkey.close(text)",
            "GRAVE + in latchkey: manager definer-function latchkey.close(text)",
        ],
    ),
    (
        13,
        "latchkey",
        "GRANT INSERT ON latchkey.target TO app",
        &["GRAVE + in latchkey: manager relation latchkey.target"],
    ),
    (
        13,
        "latchkey",
        "GRANT CREATE ON SCHEMA latchkey TO app",
        &["GRAVE + in latchkey: manager schema latchkey"],
    ),
    (
        13,
        "latchkey",
        "CREATE FUNCTION latchkey.extra() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        &["GRAVE + in latchkey: manager function latchkey.extra()"],
    ),
];

/// A check on servers that no other test changes.
async fn on_new_servers(check: impl AsyncFn(&LocalPostgres, u32)) {
    for major in majors() {
        let server = start(*major).await;
        println!("on PostgreSQL {}", server.version());
        let major = server.version().split('.').next().unwrap().parse().unwrap();
        check(&server, major).await;
    }
}

async fn facts(server: &LocalPostgres, account: &Account) -> Facts {
    read_facts(&endpoint(server), &login(account), &tls(server), LIMIT)
        .await
        .unwrap()
}

async fn run(server: &LocalPostgres, database: &str, statement: &str) {
    let client = server
        .log_in(&server.accounts().superuser, database)
        .await
        .unwrap();
    client
        .batch_execute(statement)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}
