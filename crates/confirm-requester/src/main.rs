//! confirm-requester: asks CloudTrail who started the execution of a request whose requester is a claim.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, sdk_config};
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use lambda_shell::RuntimeError;

mod handler;
mod judge;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    lambda_shell::start_logging();
    let config = sdk_config()?;
    let patience = environment("LATCHKEY_CONFIRMATION_MINUTES")?;
    let handler = handler::Handler {
        catalogue: Catalogue::new(
            aws_sdk_ssm::Client::new(&config),
            environment("LATCHKEY_CATALOGUE_PREFIX")?,
        ),
        table: Table::new(
            &config,
            environment("LATCHKEY_TABLE")?,
            Recorder::new(
                Part::ConfirmRequester,
                &environment("LATCHKEY_RECORD_DAYS")?,
                chrono::Utc::now,
            )?,
        ),
        cloud_trail: aws_sdk_cloudtrail::Client::new(&config),
        deployment: environment("LATCHKEY_DEPLOYMENT")?,
        patience: chrono::Duration::minutes(patience.parse()?),
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
