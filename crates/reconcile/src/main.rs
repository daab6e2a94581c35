//! reconcile: every few minutes, from what the databases say: closes what no window covers, and reports the rest.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, sdk_config};
use access_aws::table::{Recorder, Table};
use access_aws::window_secret::WindowSecrets;
use access_contract::record::Part;
use chrono::TimeDelta;
use database_shell::Reach;
use lambda_shell::RuntimeError;

mod handler;
mod judge;

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
                Part::Reconcile,
                &environment("LATCHKEY_RECORD_DAYS")?,
                chrono::Utc::now,
            )?,
        ),
        step_functions: aws_sdk_sfn::Client::new(&config),
        close_window_arn: environment("LATCHKEY_CLOSE_WINDOW_ARN")?,
        deployment: environment("LATCHKEY_DEPLOYMENT")?,
        window_secrets: WindowSecrets::new(
            aws_sdk_secretsmanager::Client::new(&config),
            environment("LATCHKEY_DEPLOYMENT")?,
        ),
        reach: Reach::new(&config),
        review_within: TimeDelta::hours(environment("LATCHKEY_REVIEW_HOURS")?.parse()?),
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
