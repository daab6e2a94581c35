//! One-time schedules: the end of a window, which stands before the window is opened; reminders, warnings, and what is
//! told of a review.

use access_contract::PAYLOAD_VERSION;
use access_core::{Request, RequestId};
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
    pub async fn arm(&self, request: &Request, end: DateTime<Utc>) -> Result<(), Error> {
        let once = Once {
            name: request.request_id.to_string(),
            at: end,
            input: access_contract::payload::to_close(request),
            max_age_seconds: 86_400,
        };
        let settings = &self.settings;
        once.schedule(
            &self.client,
            &settings.group,
            &settings.state_machine_arn,
            &settings.role_arn,
            &settings.dead_letter_arn,
        )
        .await
    }
}

/// Where the schedules of reminders and warnings are kept, beside those of window ends.
pub struct NoticeSchedules {
    client: Client,
    settings: NoticeSettings,
}

/// What the template gives.
pub struct NoticeSettings {
    /// The schedule group.
    pub group: String,
    /// The role with which Scheduler calls the function.
    pub role_arn: String,
    /// The queue for what could not be called.
    pub dead_letter_arn: String,
}

/// A message that is sent later, if there still is a reason for it by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// To those who have not decided.
    Reminder,
    /// To the requester, before the window ends.
    Warning,
    /// To the requester and the other reviewers, once a window without approval was reviewed.
    Review,
}

impl Notice {
    /// The action of the payload.
    fn action(self) -> &'static str {
        match self {
            Self::Reminder => "remind",
            Self::Warning => "warn",
            Self::Review => "reviewed",
        }
    }
}

impl NoticeSchedules {
    /// Schedules with these settings.
    #[must_use]
    pub fn new(client: Client, settings: NoticeSettings) -> Self {
        Self { client, settings }
    }

    /// Makes sure that the function is called for a notice at that time, exact to the minute. The names begin with
    /// `notice-`: notify and approval may make no others, so that they can never take the place of a window's end.
    ///
    /// # Errors
    /// [`Error::Schedule`].
    pub async fn set(
        &self,
        request_id: &RequestId,
        notice: Notice,
        at: DateTime<Utc>,
        function_arn: &str,
    ) -> Result<(), Error> {
        let action = notice.action();
        let once = Once {
            name: format!("notice-{request_id}-{action}"),
            at,
            input: serde_json::json!({
                "version": PAYLOAD_VERSION, "request_id": request_id, "action": action
            }),
            max_age_seconds: 3_600,
        };
        let settings = &self.settings;
        once.schedule(
            &self.client,
            &settings.group,
            function_arn,
            &settings.role_arn,
            &settings.dead_letter_arn,
        )
        .await
    }
}

/// One call of a target.
struct Once {
    name: String,
    at: DateTime<Utc>,
    input: serde_json::Value,
    /// For how long Scheduler tries, in seconds, 60 to 86,400.
    max_age_seconds: i32,
}

impl Once {
    /// Makes the schedule; one of this name that stands already stays as it is.
    async fn schedule(
        &self,
        client: &Client,
        group: &str,
        target_arn: &str,
        role_arn: &str,
        dead_letter_arn: &str,
    ) -> Result<(), Error> {
        let failed =
            |error: aws_sdk_scheduler::error::BuildError| Error::Schedule(error.to_string());
        let target = Target::builder()
            .arn(target_arn)
            .role_arn(role_arn)
            .input(self.input.to_string())
            .retry_policy(
                RetryPolicy::builder()
                    .maximum_retry_attempts(185)
                    .maximum_event_age_in_seconds(self.max_age_seconds)
                    .build(),
            )
            .dead_letter_config(DeadLetterConfig::builder().arn(dead_letter_arn).build())
            .build()
            .map_err(failed)?;
        let window = FlexibleTimeWindow::builder()
            .mode(FlexibleTimeWindowMode::Off)
            .build()
            .map_err(failed)?;
        let answer = client
            .create_schedule()
            .name(&self.name)
            .group_name(group)
            .schedule_expression(format!("at({})", self.at.format("%Y-%m-%dT%H:%M:%S")))
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
