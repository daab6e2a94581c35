//! From the execution's input to a stored request, or to all of its faults at once.

use access_aws::Error;
use access_aws::catalogue::Catalogue;
use access_aws::table::Table;
use access_contract::payload::{Answer, ComputeWait, Outcome, PlaceName};
use access_contract::record::{By, Event};
use access_core::{Faults, Place, Refusal, RequestDraft, RequestId, RequesterProof};
use chrono::{DateTime, Utc};
use lambda_shell::{Failure, Invocation};
use serde_json::Value;

pub(crate) struct Handler {
    pub(crate) catalogue: Catalogue,
    pub(crate) table: Table,
    pub(crate) iam_settles_within_seconds: i64,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let event: ComputeWait = lambda_shell::read(invocation.payload)?;
        let outcome = self
            .compute_wait(&event)
            .await
            .map_err(|error| Failure::new(error.name(), error.to_string()))?;
        lambda_shell::write(&Answer::from(outcome))
    }

    async fn compute_wait(&self, event: &ComputeWait) -> Result<Outcome, Error> {
        let now = (self.now)();
        let request_id = RequestId::of_execution(
            &event.execution.arn,
            event.execution.started_at.timestamp_millis(),
        );
        let mut faults = Faults::new();
        let draft = RequestDraft::read(&event.request, &mut faults);
        let requester_proof = self.requester_proof(event, &draft, &request_id).await?;
        let was_asked = !requester_proof.is_claim();
        let by = draft
            .requester
            .as_ref()
            .map(|person| By::requester(person, &requester_proof));
        if draft.break_glass
            && let Some(requester) = &draft.requester
            && let Some(unreviewed) = self.table.missing_review(requester).await?
            && unreviewed != request_id
        {
            faults.push(access_text::fault(Refusal::ReviewMissing { unreviewed }));
        }
        let found = self.catalogue.find(&draft).await?;
        let Some(request) = draft.resolve(
            &found,
            request_id.clone(),
            &event.execution.arn,
            requester_proof,
            now,
            &mut faults,
        ) else {
            let faults = faults.into_vec();
            let refused = Event::refused(draft.target.clone(), draft.role.clone(), &faults);
            self.table
                .record_unstored(&request_id, event.execution.started_at, by, refused)
                .await?;
            tracing::info!(%request_id, n_faults = faults.len(), "request refused");
            return Ok(Outcome::Refused { faults });
        };
        if draft.dry_run {
            if was_asked {
                self.table.create_asked_dry_run(&request).await?;
            } else {
                self.table.create_dry_run(&request).await?;
            }
            tracing::info!(%request_id, target = %request.target, requester = %request.requester.id, "dry run");
            return Ok(Outcome::TakenForDryRun {
                request_id,
                place: PlaceName::of(&request.place),
            });
        }
        let created = if was_asked {
            self.table.create_asked_request(&request).await?
        } else {
            self.table.create_request(&request).await?
        };
        let decide_by = if created {
            request.decide_by
        } else {
            // An earlier attempt of this step stored it; what it stored stands.
            self.table.request(&request_id).await?.request.decide_by
        };
        tracing::info!(%request_id, target = %request.target, requester = %request.requester.id, "request stored");
        Ok(Outcome::Accepted {
            request_id,
            decide_within_seconds: (decide_by - now).num_seconds().max(1),
            place: PlaceName::of(&request.place),
            opens_ahead_seconds: match request.place {
                Place::Database(_) => 0,
                // IAM needs a while until a policy holds everywhere, and a policy holds its own start.
                Place::Account(_) => self.iam_settles_within_seconds,
            },
        })
    }

    /// What the front door recorded counts for exactly its execution with exactly its input, once. Whoever starts an
    /// execution otherwise only claims to be the requester.
    async fn requester_proof(
        &self,
        event: &ComputeWait,
        draft: &RequestDraft,
        request_id: &RequestId,
    ) -> Result<RequesterProof, Error> {
        let Some((asked, taken_by)) = self.table.asked(&event.execution.arn).await? else {
            return Ok(RequesterProof::Claimed);
        };
        let is_for_it = asked.input == event.request
            && draft.requester.as_ref() == Some(&asked.person)
            && taken_by.as_ref().is_none_or(|by| by == request_id);
        if !is_for_it {
            tracing::error!(%request_id, execution = event.execution.arn, ?taken_by, "the front door did not start this execution");
            return Ok(RequesterProof::Claimed);
        }
        Ok(RequesterProof::Verified {
            principal: asked.principal,
        })
    }
}
