//! approval: the page on which people decide, and the only holder of task tokens.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, sdk_config};
use access_aws::schedule::{NoticeSchedules, NoticeSettings};
use access_aws::seal::SealingKey;
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use lambda_shell::RuntimeError;

mod answers;
mod breaking;
mod deciding;
mod ending;
mod handler;
mod page;
mod route;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    lambda_shell::start_logging();
    let config = sdk_config()?;
    let kms = aws_sdk_kms::Client::new(&config);
    let handler = handler::Handler {
        close_window_arn: environment("LATCHKEY_CLOSE_WINDOW_ARN")?,
        notices: NoticeSchedules::new(
            aws_sdk_scheduler::Client::new(&config),
            NoticeSettings {
                group: environment("LATCHKEY_SCHEDULE_GROUP")?,
                role_arn: environment("LATCHKEY_NOTICE_ROLE_ARN")?,
                dead_letter_arn: environment("LATCHKEY_DEAD_LETTER_ARN")?,
            },
        ),
        notify_arn: environment("LATCHKEY_NOTIFY_ARN")?,
        catalogue: Catalogue::new(
            aws_sdk_ssm::Client::new(&config),
            environment("LATCHKEY_CATALOGUE_PREFIX")?,
        ),
        link_key: SealingKey::new(kms.clone(), environment("LATCHKEY_LINK_KEY_ARN")?),
        deciding: deciding::Deciding {
            table: Table::new(
                &config,
                environment("LATCHKEY_TABLE")?,
                Recorder::new(
                    Part::Approval,
                    &environment("LATCHKEY_RECORD_DAYS")?,
                    chrono::Utc::now,
                )?,
            ),
            vote_key: SealingKey::new(kms, environment("LATCHKEY_VOTE_KEY_ARN")?),
            step_functions: aws_sdk_sfn::Client::new(&config),
            now: chrono::Utc::now,
        },
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
