//! disable-login: closes a role whose window is over, and proves it. It cannot open anything.

use access_aws::clients::{environment, sdk_config};
use access_aws::table::{Recorder, Table};
use access_aws::window_secret::WindowSecrets;
use access_contract::record::Part;
use database_shell::Reach;
use lambda_shell::RuntimeError;

mod handler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    lambda_shell::start_logging();
    let config = sdk_config()?;
    let handler = handler::Handler {
        table: Table::new(
            &config,
            environment("LATCHKEY_TABLE")?,
            Recorder::new(
                Part::DisableLogin,
                &environment("LATCHKEY_RECORD_DAYS")?,
                chrono::Utc::now,
            )?,
        ),
        deployment: environment("LATCHKEY_DEPLOYMENT")?,
        window_secrets: WindowSecrets::new(
            aws_sdk_secretsmanager::Client::new(&config),
            environment("LATCHKEY_DEPLOYMENT")?,
        ),
        reach: Reach::new(&config),
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
