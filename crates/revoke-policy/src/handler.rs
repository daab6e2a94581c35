//! Converge without the right to let anybody in: the end of a window, read back.

use access_aws::assumable::{self, AssumableRole, Hand, OwnWindow, Revoked};
use access_aws::catalogue::Catalogue;
use access_aws::table::{Closing, StoredRequest, Table};
use access_contract::payload::{Answer, Outcome, PlaceName, RevokePolicy};
use access_contract::{ErrorName, Status};
use access_core::converge::carry_out::{self, Closing as Closed, WindowList as _};
use access_core::grant::assume_role;
use access_core::{RequestId, Window, time};
use aws_types::SdkConfig;
use chrono::{DateTime, TimeDelta, Utc};
use lambda_shell::{Failure, Invocation};
use serde_json::Value;
use window_shell::ToClose;

pub(crate) struct Handler {
    pub(crate) catalogue: Catalogue,
    pub(crate) table: Table,
    pub(crate) deployment: String,
    /// The function's own rights.
    pub(crate) config: SdkConfig,
    /// The account that Latchkey is deployed in.
    pub(crate) own_account: String,
    /// How long IAM may need until a change holds everywhere.
    pub(crate) settles_within: TimeDelta,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let (id, outcome) = match lambda_shell::read(invocation.payload)? {
            RevokePolicy::Close(step) => {
                let outcome = self.close(&step.request_id).await?;
                (step.request_id, outcome)
            }
            RevokePolicy::EndEarly(step) => {
                let by = "the state machine: it could not be opened";
                window_shell::end_early(&self.table, &step.request_id, by, (self.now)())
                    .await
                    .map_err(aws)?;
                let outcome = self.close(&step.request_id).await?;
                (step.request_id, window_shell::nothing_if_cancelled(outcome))
            }
            RevokePolicy::ExecutionEnded {
                execution_arn,
                started_at_millis,
                status,
                ..
            } => {
                let id = RequestId::of_execution(&execution_arn, started_at_millis);
                // Whoever found out that it is an account may have ended it already.
                window_shell::end_with_execution(&self.table, &id, &status, (self.now)())
                    .await
                    .map_err(aws)?;
                let outcome = window_shell::nothing_if_cancelled(self.close(&id).await?);
                (id, outcome)
            }
            RevokePolicy::Collect { .. } => {
                return lambda_shell::write(&self.collect().await.map_err(aws)?);
            }
        };
        lambda_shell::write(&Answer {
            request_id: Some(id),
            ..Answer::from(outcome)
        })
    }

    /// Takes the policies of a window back if it is over, and says that it is closed once that holds everywhere.
    async fn close(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let invoked_at = (self.now)();
        let stored = match window_shell::to_close(&self.table, id).await.map_err(aws)? {
            ToClose::Window(stored) => stored,
            ToClose::Answer(outcome) => return Ok(outcome),
        };
        let request = &stored.request;
        let found = request
            .place
            .account()
            .zip(request.grant.assume_role())
            .zip(assume_role::grantee(request))
            .zip(stored.window);
        let Some((((account, grant), grantee), window)) = found else {
            return Ok(Outcome::Elsewhere {
                place: PlaceName::of(&request.place),
            });
        };
        let reached = assumable::reach(
            &self.config,
            &self.own_account,
            account,
            (grant, grantee),
            Hand::Revoker,
        )
        .await
        .map_err(aws)?
        .ok_or_else(|| {
            Failure::new(
                ErrorName::Internal,
                "the policy of an armed window is out of reach",
            )
        })?;
        let list = OwnWindow {
            table: &self.table,
            request,
            not_before: None,
            now: self.now,
        };
        let role = AssumableRole {
            id,
            grant,
            grantee,
            window,
            reached: &reached,
            now: self.now,
        };
        match carry_out::close(&list, &role, Some(id))
            .await
            .map_err(aws)?
        {
            Closed::NotYet { end } => Ok(Outcome::NotYet {
                wait_until: time::to_wait_timestamp(end),
            }),
            // No other window is on its list.
            Closed::StillOpen { until } => Ok(Outcome::NotYet {
                wait_until: time::to_wait_timestamp(until),
            }),
            Closed::Proved(revoked) => {
                let opened_at = self.opened_at(&list, id).await?;
                self.settle(&stored, window, opened_at, &revoked, invoked_at)
                    .await
            }
        }
    }

    async fn opened_at(
        &self,
        list: &OwnWindow<'_>,
        id: &RequestId,
    ) -> Result<Option<DateTime<Utc>>, Failure> {
        let rows = list.windows().await.map_err(aws)?.rows;
        Ok(rows
            .iter()
            .find(|row| row.request_id == *id)
            .and_then(|row| row.opened_at))
    }

    /// Records the closing once IAM has had its time since the last change that matters: the date of a policy ends it on
    /// its own only where the policy has arrived, and what was changed before the end has no date to end it.
    async fn settle(
        &self,
        stored: &StoredRequest,
        window: Window,
        opened_at: Option<DateTime<Utc>>,
        revoked: &Revoked,
        invoked_at: DateTime<Utc>,
    ) -> Result<Outcome, Failure> {
        let request = &stored.request;
        let id = &request.request_id;
        let revoked_at = if revoked.has_changed {
            self.table.note_revoked(id, revoked.at).await.map_err(aws)?;
            Some(revoked.at)
        } else {
            stored.revoked_at
        };
        let before_the_end = revoked_at.filter(|at| *at < window.end());
        if let Some(changed_at) = opened_at.max(before_the_end) {
            let settled_at = time::round_up(changed_at + self.settles_within);
            if (self.now)() < settled_at {
                tracing::info!(request_id = %id, %settled_at, "window ending");
                return Ok(Outcome::Ending {
                    wait_until: time::to_wait_timestamp(settled_at),
                });
            }
        }
        let closing = Closing {
            at: revoked.at,
            n_sessions_ended: 0,
            invoked_at: Some(invoked_at),
            connected_at: None,
            login_refused_at: revoked_at,
            sessions_gone_at: None,
            open_until: None,
            left_behind: Vec::new(),
            n_grave: 0,
        };
        self.table
            .record_closing(request, Status::Open, Status::Closed, &closing)
            .await
            .map_err(aws)?;
        tracing::info!(request_id = %id, ?revoked_at, "policies taken back");
        Ok(Outcome::Closed)
    }
}

pub(crate) fn aws(error: access_aws::Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}
