//! The end of a window as a one-time schedule, which stands before the window is opened.

use access_core::RequestId;
use aws_sdk_scheduler::Client;
use aws_sdk_scheduler::error::SdkError;
use aws_sdk_scheduler::operation::create_schedule::CreateScheduleError;
use aws_sdk_scheduler::types::{
    ActionAfterCompletion, DeadLetterConfig, FlexibleTimeWindow, FlexibleTimeWindowMode,
    RetryPolicy, Target,
};
use chrono::{DateTime, Utc};

use crate::Error;
use crate::error::chain;

/// Where the schedules of window ends are kept and what they start.
pub struct EndSchedules {
    client: Client,
    settings: Settings,
}

/// What the template gives.
pub struct Settings {
    /// The schedule group.
    pub group: String,
    /// The state machine that closes a window.
    pub state_machine_arn: String,
    /// The role with which Scheduler starts it.
    pub role_arn: String,
    /// The queue for what could not be started in a day.
    pub dead_letter_arn: String,
}

impl EndSchedules {
    /// Schedules with these settings.
    #[must_use]
    pub fn new(client: Client, settings: Settings) -> Self {
        Self { client, settings }
    }

    /// Makes sure that the closing of a window is scheduled at its end. Scheduler is exact to the minute
    /// (<https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>), tries for a day, and
    /// deletes the schedule afterwards.
    ///
    /// # Errors
    /// [`Error::Schedule`].
    pub async fn arm(&self, request_id: &RequestId, end: DateTime<Utc>) -> Result<(), Error> {
        let failed =
            |error: aws_sdk_scheduler::error::BuildError| Error::Schedule(error.to_string());
        let input = serde_json::json!({
            "version": access_contract::PAYLOAD_VERSION, "request_id": request_id, "action": "close"
        });
        let target = Target::builder()
            .arn(&self.settings.state_machine_arn)
            .role_arn(&self.settings.role_arn)
            .input(input.to_string())
            .retry_policy(
                RetryPolicy::builder()
                    .maximum_retry_attempts(185)
                    .maximum_event_age_in_seconds(86_400)
                    .build(),
            )
            .dead_letter_config(
                DeadLetterConfig::builder()
                    .arn(&self.settings.dead_letter_arn)
                    .build(),
            )
            .build()
            .map_err(failed)?;
        let window = FlexibleTimeWindow::builder()
            .mode(FlexibleTimeWindowMode::Off)
            .build()
            .map_err(failed)?;
        let answer = self
            .client
            .create_schedule()
            .name(request_id.as_str())
            .group_name(&self.settings.group)
            .schedule_expression(format!("at({})", end.format("%Y-%m-%dT%H:%M:%S")))
            .schedule_expression_timezone("UTC")
            .flexible_time_window(window)
            .action_after_completion(ActionAfterCompletion::Delete)
            .target(target)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), CreateScheduleError::ConflictException(_)) =>
            {
                Ok(())
            }
            Err(error) => Err(Error::Schedule(chain(error))),
        }
    }
}
