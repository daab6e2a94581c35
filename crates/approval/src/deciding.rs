//! Votes in, one decision out: recorded before anybody is woken, and repeatable at every step.

use access_aws::seal::SealingKey;
use access_aws::table::{Recorded, StoredRequest, Table};
use access_aws::{Error, task};
use access_contract::payload::Outcome;
use access_contract::seal::{self, SealedVote};
use access_contract::{ErrorName, Status, TaskToken};
use access_core::{Decision, RequestId, Vote, decision, time};
use chrono::{DateTime, Utc};
use lambda_shell::Failure;

/// How often counting starts over because another vote came in between.
const MAX_ROUNDS: usize = 10;

pub(crate) struct Deciding {
    pub(crate) table: Table,
    pub(crate) vote_key: SealingKey,
    pub(crate) step_functions: aws_sdk_sfn::Client,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Deciding {
    /// Keeps the token of the waiting task, and answers it at once if everything is decided already.
    pub(crate) async fn await_decision(
        &self,
        id: &RequestId,
        token: &TaskToken,
    ) -> Result<Outcome, Failure> {
        self.table.park_token(id, token).await.map_err(failure)?;
        let stored = self.decide(id).await.map_err(failure)?;
        if stored.status != Status::Pending {
            task::wake(&self.step_functions, id, token)
                .await
                .map_err(failure)?;
        }
        Ok(Outcome::Waiting)
    }

    /// What the state machine goes by: the recorded decision, or none yet.
    pub(crate) async fn settle(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let stored = self.decide(id).await.map_err(failure)?;
        let left = stored.request.decide_by - (self.now)();
        Ok(match (stored.status, stored.window) {
            (Status::Pending, _) => Outcome::Pending {
                decide_within_seconds: left.num_seconds().max(1),
            },
            (Status::Rejected, _) => Outcome::Rejected,
            (Status::Expired, _) => Outcome::Expired,
            (Status::Refused, _) => Outcome::Refused {
                faults: stored.refusal,
            },
            (Status::Approved | Status::Open | Status::Ended | Status::Closed, Some(window)) => {
                Outcome::Approved {
                    start: time::to_wait_timestamp(window.start()),
                    end: time::to_wait_timestamp(window.end()),
                }
            }
            (status, None) => {
                return Err(Failure::new(
                    ErrorName::Internal,
                    format!("request {id} is {} and has no window", status.as_str()),
                ));
            }
        })
    }

    /// Seals and records a vote, counts, and wakes the execution once there is a decision. Doing it
    /// again is harmless, and heals what a crash left undone.
    pub(crate) async fn vote(&self, stored: &StoredRequest, vote: Vote) -> Result<Recorded, Error> {
        let id = &stored.request.request_id;
        let mac = self
            .vote_key
            .seal(&seal::sealed_text(id, &stored.digest, &vote))
            .await?;
        let sealed = SealedVote {
            seal: seal::encode(&mac),
            vote,
        };
        let recorded = self.table.record_vote(id, &sealed).await?;
        let verdict = sealed.vote.verdict;
        tracing::info!(request_id = %id, approver = %sealed.vote.approver, ?verdict, ?recorded, "vote");
        if self.decide(id).await?.status != Status::Pending {
            self.wake(id).await?;
        }
        Ok(recorded)
    }

    /// Counts all votes and records the decision that they amount to, if any.
    async fn decide(&self, id: &RequestId) -> Result<StoredRequest, Error> {
        let mut stored = self.table.request(id).await?;
        for _ in 0..MAX_ROUNDS {
            if stored.status != Status::Pending {
                return Ok(stored);
            }
            let sealed = self.table.votes(id).await?;
            let votes: Vec<_> = sealed.into_iter().map(|sealed| sealed.vote).collect();
            let decision = decision::tally(&stored.request, &votes, (self.now)());
            let (status, window) = match &decision {
                Decision::Pending => return Ok(stored),
                Decision::Approved { at, .. } => {
                    (Status::Approved, stored.request.window.approved_at(*at))
                }
                Decision::Rejected { .. } => (Status::Rejected, None),
                Decision::Expired { .. } => (Status::Expired, None),
            };
            // The condition on the number of votes makes one rejection end it, however close it came.
            self.table
                .record_decision(id, status, &decision, window.as_ref(), stored.n_votes)
                .await?;
            stored = self.table.request(id).await?;
        }
        Ok(stored)
    }

    async fn wake(&self, id: &RequestId) -> Result<(), Error> {
        match self.table.task_token(id).await? {
            Some(token) => task::wake(&self.step_functions, id, &token).await,
            // The execution is not waiting yet; it looks for a decision when it begins to.
            None => Ok(()),
        }
    }
}

pub(crate) fn failure(error: Error) -> Failure {
    Failure::new(error.name(), error.to_string())
}
