//! The core of every function that logs in, for `cargo xtask bench`: read the secret, connect, one statement. It uses
//! the same clients, TLS settings and runtime as the functions do, and nothing else of them.

use access_aws::clients::{environment, sdk_config};
use access_aws::secret::Secrets;
use access_contract::ErrorName;
use access_core::catalogue::{Credential, HostPort, Login};
use access_postgres::{Endpoint, Password, TlsSettings, TrustedRoots, connect};
use lambda_shell::{Failure, RuntimeError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    lambda_shell::start_logging();
    let config = sdk_config()?;
    let secrets = Secrets::new(&config);
    let roots = std::fs::read_to_string(environment("BENCH_CA")?)?;
    let tls = TlsSettings::verify_full(TrustedRoots::from_pem(&roots)?)?;
    let login = Login {
        user: environment("BENCH_USER")?,
        credential: Credential::Secret(environment("BENCH_SECRET_ARN")?),
        assume: None,
    };
    let server = HostPort {
        host: environment("BENCH_HOST")?,
        port: environment("BENCH_PORT")?.parse()?,
    };
    let endpoint = Endpoint {
        host: server.host.clone(),
        port: server.port,
        database: environment("BENCH_DATABASE")?,
    };
    let role = environment("BENCH_ROLE")?;
    let handle = async |_| {
        let password = secrets
            .password(&login, &server, None, &config)
            .await
            .map_err(|error| Failure::new(error.name(), error.to_string()))?;
        let password = Password::new(password.expose().to_owned());
        let proven = access_postgres::Login::with_password(&login.user, password);
        let connection = connect(&endpoint, &proven, &tls).await.map_err(refused)?;
        let closed = connection.close_login(&role).await.map_err(refused)?;
        connection.end().await;
        Ok(serde_json::json!({ "closed": closed }))
    };
    lambda_shell::serve(handle).await
}

fn refused(error: access_postgres::Error) -> Failure {
    Failure::new(ErrorName::DatabaseRefused, error.to_string())
}
