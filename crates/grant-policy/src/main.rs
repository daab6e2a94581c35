//! grant-policy: says whether somebody could be let into an account, and lets them in for an approved window. The only
//! function that may.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, environment_seconds, sdk_config};
use access_aws::schedule::{EndSchedules, Settings};
use access_aws::seal::SealingKey;
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use lambda_shell::RuntimeError;
use window_shell::Admission;

mod handler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    lambda_shell::start_logging();
    let config = sdk_config()?;
    let handler = handler::Handler {
        admission: Admission {
            catalogue: Catalogue::new(
                aws_sdk_ssm::Client::new(&config),
                environment("LATCHKEY_CATALOGUE_PREFIX")?,
            ),
            table: Table::new(
                &config,
                environment("LATCHKEY_TABLE")?,
                Recorder::new(
                    Part::GrantPolicy,
                    &environment("LATCHKEY_RECORD_DAYS")?,
                    chrono::Utc::now,
                )?,
            ),
            vote_key: SealingKey::new(
                aws_sdk_kms::Client::new(&config),
                environment("LATCHKEY_VOTE_KEY_ARN")?,
            ),
            deployment: environment("LATCHKEY_DEPLOYMENT")?,
            now: chrono::Utc::now,
        },
        end_schedules: EndSchedules::new(
            aws_sdk_scheduler::Client::new(&config),
            Settings {
                group: environment("LATCHKEY_SCHEDULE_GROUP")?,
                state_machine_arn: environment("LATCHKEY_CLOSE_WINDOW_ARN")?,
                role_arn: environment("LATCHKEY_SCHEDULE_ROLE_ARN")?,
                dead_letter_arn: environment("LATCHKEY_DEAD_LETTER_ARN")?,
            },
        ),
        own_account: environment("LATCHKEY_ACCOUNT_ID")?,
        settles_within: environment_seconds("LATCHKEY_IAM_SETTLES_WITHIN_SECONDS")?,
        config,
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
