//! We talk to the right server or to none: TLS, the CA, the host name, the password, the cluster.

use access_postgres::{Endpoint, Error, Login, Password, TlsSettings, TrustedRoots, connect};
use xtask::postgres::Account;

use super::fixture::*;

#[tokio::test]
async fn a_connection_is_encrypted_and_knows_its_server() {
    on_each_version(async |server| {
        let connection = opener(server).await;
        let said = connection.server().await.unwrap();
        let superuser = superuser(server).await;
        let row = superuser
            .query_one(
                "SELECT (SELECT system_identifier::text FROM pg_control_system()),
                        (SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                          WHERE a.usename = 'latchkey_opener')",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(said.system_identifier.to_string(), row.get::<_, String>(0));
        assert!(row.get::<_, bool>(1));
        assert!(!said.in_recovery);
        let major = server.version().split('.').next().unwrap().parse::<u32>().unwrap();
        assert_eq!(said.version / 10_000, major);
        connection.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    on_each_version(async |server| {
        for (user, password) in [("latchkey_opener", "wrong"), ("no_such_user", "wrong")] {
            let login = Login::with_password(user, Password::new(password.to_owned()));
            let refused = connect(&endpoint(server), &login, &tls(server)).await;
            assert!(
                matches!(&refused, Err(error @ Error::AuthenticationRefused { .. }) if !error.retryable()),
                "{refused:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_vouched_for_by_another_ca_is_refused() {
    on_each_version(async |server| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        let tls = TlsSettings::verify_full(TrustedRoots::from_pem(&pem).unwrap()).unwrap();
        let refused = connect(&endpoint(server), &login(&server.accounts().opener), &tls).await;
        assert!(
            matches!(&refused, Err(error @ Error::UntrustedServer { .. }) if !error.retryable()),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_database_without_latchkey_is_told_apart() {
    on_each_version(async |server| {
        let login = login(&server.accounts().opener);
        let elsewhere = |database: &str| Endpoint {
            database: database.to_owned(),
            ..endpoint(server)
        };
        let connection = connect(&elsewhere("orders"), &login, &tls(server))
            .await
            .unwrap();
        let state = connection.role_state("breakglass").await;
        assert!(
            matches!(state, Err(Error::NotInstalled { .. })),
            "{state:?}"
        );
        let missing = connect(&elsewhere("no_such_database"), &login, &tls(server)).await;
        assert!(
            matches!(missing, Err(Error::NotInstalled { .. })),
            "{missing:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_another_try() {
    on_each_version(async |server| {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let nowhere = Endpoint {
            port: free.local_addr().unwrap().port(),
            ..endpoint(server)
        };
        drop(free);
        let refused = connect(&nowhere, &login(&server.accounts().opener), &tls(server)).await;
        assert!(
            matches!(&refused, Err(error @ Error::Unreachable { .. }) if error.retryable()),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_full_server_is_worth_another_try() {
    on_each_version(async |server| {
        let account = Account {
            user: "somebody_with_one_connection".to_owned(),
            password: "correct horse battery staple".to_owned(),
        };
        run_as_master(
            server,
            &format!(
                "CREATE ROLE {} LOGIN CONNECTION LIMIT 1 PASSWORD '{}';
                 GRANT CONNECT ON DATABASE latchkey TO {}",
                account.user, account.password, account.user
            ),
        )
        .await;
        let login = login(&account);
        let _first = connect(&endpoint(server), &login, &tls(server))
            .await
            .unwrap();
        let refused = connect(&endpoint(server), &login, &tls(server)).await;
        assert!(
            matches!(&refused, Err(error @ Error::TooManyConnections { .. }) if error.retryable()),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    for major in majors() {
        let server = start(*major).await;
        let login = login(&server.accounts().opener);
        let (endpoint, tls) = (endpoint(&server), tls(&server));

        server
            .replace_certificate(&["db.example.com"])
            .await
            .unwrap();
        eventually("the certificate names another host", async || {
            matches!(
                connect(&endpoint, &login, &tls).await,
                Err(Error::UntrustedServer { .. })
            )
        })
        .await;
        server
            .replace_certificate(&["localhost", "127.0.0.1"])
            .await
            .unwrap_err();
    }
}

#[tokio::test]
async fn settings_that_an_owner_made_hostile_do_not_stop_us() {
    for major in majors() {
        let server = start(*major).await;
        run_as_superuser(
            &server,
            "ALTER DATABASE latchkey SET default_transaction_read_only = on;
             ALTER DATABASE latchkey SET statement_timeout = 1;
             ALTER DATABASE latchkey SET lock_timeout = 1;
             ALTER DATABASE latchkey SET search_path = stolen;
             ALTER ROLE latchkey_closer SET default_transaction_isolation = serializable;
             ALTER ROLE latchkey_closer SET statement_timeout = 1;
             ALTER ROLE latchkey_opener SET default_transaction_read_only = on",
        )
        .await;
        let role = &server.accounts().target;
        open(&server, role).await;
        assert!(can_log_in(&server, role).await);
        close(&server, role).await.unwrap();
        assert!(!can_log_in(&server, role).await);
    }
}
