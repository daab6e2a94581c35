//! Votes in, one decision out: recorded before anybody is woken, and repeatable at every step.

use access_aws::seal::SealingKey;
use access_aws::table::{StoredRequest, Table};
use access_aws::{Error, task};
use access_contract::payload::Outcome;
use access_contract::seal::{self, SealedVote};
use access_contract::{ErrorName, Status, TaskToken};
use access_core::overlap::{self, InUse};
use access_core::{CannotApprove, Decision, Request, RequestId, Verdict, Vote, decision, time};
use chrono::{DateTime, Utc};
use lambda_shell::Failure;

use crate::breaking;

/// How often counting starts over because another vote came in between.
const MAX_ROUNDS: usize = 10;

pub(crate) struct Deciding {
    pub(crate) table: Table,
    pub(crate) vote_key: SealingKey,
    pub(crate) step_functions: aws_sdk_sfn::Client,
    pub(crate) now: fn() -> DateTime<Utc>,
}

/// What became of a vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Voted {
    /// It is recorded, and counts.
    Recorded,
    /// This person has voted before, or the request is decided or expired; nothing changed.
    NotAnyMore,
    /// What this approval leaves of the window cannot be; nothing changed.
    Refused(CannotApprove),
}

impl Deciding {
    /// Keeps the token of the waiting task, and answers it at once if everything is decided already.
    pub(crate) async fn await_decision(
        &self,
        id: &RequestId,
        token: &TaskToken,
    ) -> Result<Outcome, Failure> {
        self.table.park_token(id, token).await.map_err(failure)?;
        let stored = self.table.request(id).await.map_err(failure)?;
        let stored = self.decide(stored).await.map_err(failure)?;
        if stored.status != Status::Pending {
            task::wake(&self.step_functions, id, token)
                .await
                .map_err(failure)?;
        }
        Ok(Outcome::Waiting)
    }

    /// What the state machine goes by: the recorded decision, or none yet.
    pub(crate) async fn settle(&self, id: &RequestId) -> Result<Outcome, Failure> {
        let mut stored = self.table.request(id).await.map_err(failure)?;
        if breaking::seal(self, &stored).await? {
            stored = self.table.request(id).await.map_err(failure)?;
        }
        let stored = self.decide(stored).await.map_err(failure)?;
        Ok(match (stored.status, stored.window) {
            (Status::Pending, _) => {
                let votes = self.votes(id).await.map_err(failure)?;
                let left = decision::deadline(&stored.request, &votes) - (self.now)();
                Outcome::Pending {
                    decide_within_seconds: left.num_seconds().max(1),
                }
            }
            (Status::Rejected, _) => Outcome::Rejected,
            (Status::Expired, _) => Outcome::Expired,
            (Status::Cancelled, _) => Outcome::Cancelled,
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
    pub(crate) async fn vote(&self, stored: &StoredRequest, vote: Vote) -> Result<Voted, Error> {
        let id = &stored.request.request_id;
        let voted = self.record(stored, vote).await?;
        self.carry_on(id).await?;
        Ok(voted)
    }

    /// Counts what is recorded, and wakes the execution if that decides it.
    pub(crate) async fn carry_on(&self, id: &RequestId) -> Result<(), Error> {
        let stored = self.table.request(id).await?;
        if self.decide(stored).await?.status != Status::Pending {
            self.wake(id).await?;
        }
        Ok(())
    }

    /// Records a vote beside exactly those votes that it was checked with: what two people leave of the window at the
    /// same instant is still something.
    async fn record(&self, stored: &StoredRequest, vote: Vote) -> Result<Voted, Error> {
        let (id, request) = (&stored.request.request_id, &stored.request);
        let mac = self
            .vote_key
            .seal(&seal::sealed_text(id, &stored.digest, &vote))
            .await?;
        let sealed = SealedVote {
            seal: seal::encode(&mac),
            vote,
        };
        let vote = &sealed.vote;
        for _ in 0..MAX_ROUNDS {
            let stored = self.table.request(id).await?;
            let votes = self.votes(id).await?;
            let has_voted = votes.iter().any(|other| other.approver == vote.approver);
            let is_late = vote.at >= decision::deadline(request, &votes);
            if stored.status != Status::Pending || has_voted || is_late {
                return Ok(Voted::NotAnyMore);
            }
            if vote.verdict == Verdict::Approve
                && let Err(why) = decision::check_approval(request, &votes, vote)
            {
                return Ok(Voted::Refused(why));
            }
            if let Some(in_use) = self.in_use(request, &votes, vote).await? {
                return Ok(Voted::Refused(CannotApprove::RoleInUse(in_use)));
            }
            if self.table.record_vote(id, &sealed, stored.n_votes).await? {
                let (approver, verdict, narrowing) = (&vote.approver, vote.verdict, vote.narrowing);
                tracing::info!(request_id = %id, %approver, ?verdict, ?narrowing, "vote recorded");
                return Ok(Voted::Recorded);
            }
        }
        Ok(Voted::NotAnyMore)
    }

    /// Whether somebody else has the role in the window that `vote` would settle, if it settles one.
    async fn in_use(
        &self,
        request: &Request,
        votes: &[Vote],
        vote: &Vote,
    ) -> Result<Option<InUse>, Error> {
        let votes = [votes, std::slice::from_ref(vote)].concat();
        let decision = decision::tally(request, &votes, vote.at);
        let Some(window) = decision::approved_window(request, &votes, &decision) else {
            return Ok(None);
        };
        let windows = self.table.windows(&request.target, &request.role).await?;
        let now = (self.now)();
        Ok(overlap::in_use_by_another(
            request,
            &windows.rows,
            window,
            now,
        ))
    }

    /// All votes on a request.
    pub(crate) async fn votes(&self, id: &RequestId) -> Result<Vec<Vote>, Error> {
        let sealed = self.table.votes(id).await?;
        Ok(sealed.into_iter().map(|sealed| sealed.vote).collect())
    }

    /// Counts all votes and records the decision that they amount to, if any. Gives the request as it stands then.
    async fn decide(&self, mut stored: StoredRequest) -> Result<StoredRequest, Error> {
        let id = &stored.request.request_id.clone();
        for _ in 0..MAX_ROUNDS {
            if stored.status != Status::Pending {
                return Ok(stored);
            }
            let votes = self.votes(id).await?;
            let decision = decision::tally(&stored.request, &votes, (self.now)());
            let status = match &decision {
                Decision::Pending => return Ok(stored),
                Decision::Approved { .. } => Status::Approved,
                Decision::Rejected { .. } => Status::Rejected,
                Decision::Expired { .. } => Status::Expired,
            };
            let window = decision::approved_window(&stored.request, &votes, &decision);
            // The condition on the number of votes makes one rejection end it, however close it came.
            self.table
                .record_decision(id, status, &decision, window.as_ref(), stored.n_votes)
                .await?;
            stored = self.table.request(id).await?;
        }
        Ok(stored)
    }

    pub(crate) async fn wake(&self, id: &RequestId) -> Result<(), Error> {
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
