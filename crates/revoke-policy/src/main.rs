//! revoke-policy: takes the policies of a window back, and collects what windows left behind. It can let nobody in.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, environment_seconds, sdk_config};
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use lambda_shell::RuntimeError;

mod collecting;
mod handler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    lambda_shell::start_logging();
    let config = sdk_config()?;
    let handler = handler::Handler {
        catalogue: Catalogue::new(
            aws_sdk_ssm::Client::new(&config),
            environment("LATCHKEY_CATALOGUE_PREFIX")?,
        ),
        table: Table::new(
            &config,
            environment("LATCHKEY_TABLE")?,
            Recorder::new(
                Part::RevokePolicy,
                &environment("LATCHKEY_RECORD_DAYS")?,
                chrono::Utc::now,
            )?,
        ),
        deployment: environment("LATCHKEY_DEPLOYMENT")?,
        own_account: environment("LATCHKEY_ACCOUNT_ID")?,
        settles_within: environment_seconds("LATCHKEY_IAM_SETTLES_WITHIN_SECONDS")?,
        config,
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
