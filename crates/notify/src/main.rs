//! notify: asks approvers, each with a link of their own, and tells everybody concerned what happened.

use access_aws::catalogue::Catalogue;
use access_aws::clients::{environment, sdk_config};
use access_aws::message::{ChatTopic, Topic};
use access_aws::schedule::{NoticeSchedules, NoticeSettings};
use access_aws::seal::SealingKey;
use access_aws::table::{Recorder, Table};
use access_contract::record::Part;
use access_core::Language;
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
                Part::Notify,
                &environment("LATCHKEY_RECORD_DAYS")?,
                chrono::Utc::now,
            )?,
        ),
        topic: Topic::new(
            aws_sdk_sns::Client::new(&config),
            environment("LATCHKEY_TOPIC_ARN")?,
        ),
        chat: ChatTopic::new(
            aws_sdk_sns::Client::new(&config),
            environment("LATCHKEY_CHAT_TOPIC_ARN")?,
        ),
        chat_language: Language::of_tag(&environment("LATCHKEY_CHAT_LANGUAGE")?)
            .unwrap_or_default(),
        notices: NoticeSchedules::new(
            aws_sdk_scheduler::Client::new(&config),
            NoticeSettings {
                group: environment("LATCHKEY_SCHEDULE_GROUP")?,
                role_arn: environment("LATCHKEY_NOTICE_ROLE_ARN")?,
                dead_letter_arn: environment("LATCHKEY_DEAD_LETTER_ARN")?,
            },
        ),
        catalogue: Catalogue::new(
            aws_sdk_ssm::Client::new(&config),
            environment("LATCHKEY_CATALOGUE_PREFIX")?,
        ),
        deployment: environment("LATCHKEY_DEPLOYMENT")?,
        region: config.region().map(ToString::to_string).unwrap_or_default(),
        link_key: SealingKey::new(
            aws_sdk_kms::Client::new(&config),
            environment("LATCHKEY_LINK_KEY_ARN")?,
        ),
        callback_url: environment("LATCHKEY_CALLBACK_URL")?,
        now: chrono::Utc::now,
    };
    lambda_shell::serve(|invocation| handler.handle(invocation)).await
}
