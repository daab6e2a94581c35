//! Confirmed, not yet, or refused: and what was found is recorded before it is said.

use access_aws::Error;
use access_aws::catalogue::Catalogue;
use access_aws::table::{StoredRequest, Table};
use access_aws::trail::{self, Start};
use access_contract::payload::{Answer, Outcome, Step};
use access_contract::{Confirmation, Status};
use access_core::{Decision, Refusal, RequestId, RequesterProof};
use chrono::{DateTime, Duration, Utc};
use lambda_shell::{Failure, Invocation, Unit};
use serde_json::Value;

use crate::judge::{Finding, judge};

pub(crate) struct Handler {
    pub(crate) catalogue: Catalogue,
    pub(crate) table: Table,
    pub(crate) cloud_trail: aws_sdk_cloudtrail::Client,
    pub(crate) deployment: String,
    /// How long after a request CloudTrail may take to show who made it.
    pub(crate) patience: Duration,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let step: Step = lambda_shell::read(invocation.payload)?;
        let outcome = self
            .confirm(&step.request_id)
            .await
            .map_err(|error| Failure::new(error.name(), error.to_string()))?;
        lambda_shell::write(&Answer::from(outcome))
    }

    async fn confirm(&self, id: &RequestId) -> Result<Outcome, Error> {
        let stored = self.table.request(id).await?;
        if stored.status == Status::Cancelled {
            return Ok(Outcome::Cancelled);
        }
        if stored.status == Status::Refused {
            return Ok(Outcome::Refused {
                faults: stored.refusal,
            });
        }
        let Some(Decision::Approved {
            by: approved_by, ..
        }) = &stored.decision
        else {
            return Err(Error::RequestConflict {
                request_id: id.to_string(),
                status: stored.status.as_str().to_owned(),
            });
        };
        if self.table.confirmation(id).await?.is_some() {
            return Ok(Outcome::Confirmed);
        }
        let request = &stored.request;
        let starts = match &request.requester_proof {
            RequesterProof::Verified { principal } => vec![Start {
                event_id: String::new(),
                principal: Some(principal.clone()),
            }],
            RequesterProof::Claimed => {
                trail::starts(
                    &self.cloud_trail,
                    &request.execution_arn,
                    request.requested_at,
                )
                .await?
            }
        };
        let people = self.catalogue.everybody().await?;
        // Who breaks the glass stands in for the approvers, and is meant to.
        let approved_by: &[_] = match request.break_glass {
            Some(_) => &[],
            None => approved_by,
        };
        match judge(&request.requester.id, approved_by, &starts, &people) {
            Finding::Requester(start) => self.record(id, &start).await,
            Finding::NotShown if (self.now)() < request.requested_at + self.patience => {
                Ok(Outcome::NotYetConfirmed)
            }
            Finding::NotShown => self.give_up(&stored).await,
            Finding::SomebodyElse(why) => self.refuse_and_alarm(id, why).await,
        }
    }

    async fn record(&self, id: &RequestId, start: &Start) -> Result<Outcome, Error> {
        let confirmation = Confirmation {
            principal: start.principal.clone().unwrap_or_default(),
            event_id: start.event_id.clone(),
            at: (self.now)(),
        };
        self.table.record_confirmation(id, &confirmation).await?;
        tracing::info!(request_id = %id, principal = confirmation.principal, "requester confirmed");
        Ok(Outcome::Confirmed)
    }

    async fn give_up(&self, stored: &StoredRequest) -> Result<Outcome, Error> {
        let refusal = Refusal::RequesterNotShown {
            minutes: self.patience.num_minutes(),
        };
        self.refuse(&stored.request.request_id, refusal).await
    }

    async fn refuse_and_alarm(&self, id: &RequestId, why: Refusal) -> Result<Outcome, Error> {
        tracing::error!(request_id = %id, ?why, "somebody else than the requester started it");
        let now = (self.now)();
        lambda_shell::metrics(
            &self.deployment,
            &[("RequesterMismatches", Unit::Count, 1.0)],
            now.timestamp_millis(),
        );
        self.refuse(id, why).await
    }

    async fn refuse(&self, id: &RequestId, refusal: Refusal) -> Result<Outcome, Error> {
        let faults = vec![access_text::fault(refusal)];
        self.table.record_refusal(id, &faults).await?;
        tracing::info!(request_id = %id, "request refused");
        Ok(Outcome::Refused { faults })
    }
}
