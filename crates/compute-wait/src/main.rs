//! compute-wait: takes a request in, or says everything that is wrong with it.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, environment_seconds, sdk_config};
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use lambda_shell::RuntimeError;

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
                Part::ComputeWait,
                &environment("LATCHKEY_RECORD_DAYS")?,
                chrono::Utc::now,
            )?,
        ),
        iam_settles_within_seconds: environment_seconds("LATCHKEY_IAM_SETTLES_WITHIN_SECONDS")?
            .num_seconds(),
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
