//! Whether an approved request may be opened now. Every function that opens asks this first, whatever it opens.
//!
//! It believes neither the callback nor the recorded decision: it verifies the votes' seals and counts them again, wants
//! the requester confirmed, and holds the request against the catalogue as it is by now.

use access_aws::catalogue::Catalogue;
use access_aws::seal::SealingKey;
use access_aws::table::{StoredRequest, Table};
use access_contract::payload::Outcome;
use access_contract::{Status, seal};
use access_core::eligibility::{self, Eligible};
use access_core::overlap::{self, InUse};
use access_core::{Refusal, Request, RequestId, Vote, Window, decision, time};
use chrono::{DateTime, Duration, Utc};
use lambda_shell::Unit;

use crate::Error;

/// How often arming starts over because other windows of the role are armed at the same time.
const MAX_ARMING_ROUNDS: usize = 10;

/// What it takes to admit requests.
pub struct Admission {
    /// Where requests, votes and windows are.
    pub table: Table,
    /// What the catalogue says by now.
    pub catalogue: Catalogue,
    /// The key under which votes are sealed.
    pub vote_key: SealingKey,
    /// Whose metrics count windows without approval.
    pub deployment: String,
    /// The clock.
    pub now: fn() -> DateTime<Utc>,
}

/// What became of asking.
#[derive(Debug)]
pub enum Admitted {
    /// It may be opened.
    Open(Box<ToOpen>),
    /// It may not, or not now: the answer to the state machine.
    Answer(Outcome),
}

/// A request that may be opened.
#[derive(Debug)]
pub struct ToOpen {
    /// As the table has it.
    pub stored: StoredRequest,
    /// With the stricter rule of both versions of the catalogue.
    pub stricter: Request,
    /// From when to when: as it was approved, or shorter.
    pub window: Window,
}

impl Admission {
    /// Whether the request may be opened, from `ahead` before its start on. What may never be opened is recorded as
    /// refused.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn admit(&self, id: &RequestId, ahead: Duration) -> Result<Admitted, Error> {
        let stored = self.table.request(id).await?;
        let window = match (stored.status, stored.window) {
            (Status::Approved | Status::Open, Some(window)) => window,
            (Status::Cancelled, _) => return Ok(Admitted::Answer(Outcome::Cancelled)),
            (Status::Refused, _) => {
                return Ok(Admitted::Answer(Outcome::Refused {
                    faults: stored.refusal,
                }));
            }
            (Status::Closed | Status::Ended, _) => {
                return Ok(Admitted::Answer(Outcome::Refused {
                    faults: access_text::faults([Refusal::WindowOver]),
                }));
            }
            (status, _) => {
                return Err(access_aws::Error::RequestConflict {
                    request_id: id.to_string(),
                    status: status.as_str().to_owned(),
                }
                .into());
            }
        };
        let now = (self.now)();
        let opens_at = window.start() - ahead;
        if now < opens_at {
            return Ok(Admitted::Answer(Outcome::NotYet {
                wait_until: time::to_wait_timestamp(opens_at),
            }));
        }
        if now >= window.end() {
            return self.refused(id, vec![Refusal::WindowOver]).await;
        }
        let votes = self.verified_votes(&stored).await?;
        if !is_proved_approved(&stored.request, &votes, window) {
            tracing::error!(request_id = %id, "the recorded votes do not prove the approval");
            return self.refused(id, vec![Refusal::NotApproved]).await;
        }
        if stored.request.requester_proof.is_claim() && self.table.confirmation(id).await?.is_none()
        {
            tracing::error!(request_id = %id, "nothing confirms the requester");
            return self.refused(id, vec![Refusal::RequesterNotConfirmed]).await;
        }
        let found = self.catalogue.find_again(&stored.request).await?;
        let Eligible { request, window } =
            match eligibility::check_again(&stored.request, &votes, window, &found) {
                Ok(eligible) => eligible,
                Err(refusals) => return self.refused(id, refusals).await,
            };
        if now >= window.end() {
            return self.refused(id, vec![Refusal::WindowOver]).await;
        }
        Ok(Admitted::Open(Box::new(ToOpen {
            stored,
            stricter: request,
            window,
        })))
    }

    /// Arms the window, unless somebody else has the role in that time: of two who come at the same instant, one is
    /// counted first, and the other sees it. `None` if it is armed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn arm(&self, request: &Request, window: Window) -> Result<Option<Outcome>, Error> {
        let id = &request.request_id;
        for _ in 0..MAX_ARMING_ROUNDS {
            let n_armed = self.table.n_armed(&request.target, &request.role).await?;
            if let Some(in_use) = self.in_use(request, window).await? {
                return self.refuse(id, vec![in_use.refusal()]).await.map(Some);
            }
            if request.break_glass.is_some()
                && let Some(unreviewed) = self.table.missing_review(&request.requester.id).await?
                && unreviewed != *id
            {
                let missing = Refusal::ReviewMissing { unreviewed };
                return self.refuse(id, vec![missing]).await.map(Some);
            }
            if self.table.arm(request, window, n_armed).await? {
                self.measure_broken_glass(request);
                return Ok(None);
            }
            match self.table.request(id).await?.status {
                Status::Approved => {}
                Status::Open => return Ok(None),
                _ => {
                    return Ok(Some(Outcome::Refused {
                        faults: access_text::faults([Refusal::WindowOver]),
                    }));
                }
            }
        }
        Err(Error::Restless(request.role.as_str().to_owned()))
    }

    /// Each window without approval raises an alarm.
    fn measure_broken_glass(&self, request: &Request) {
        if request.break_glass.is_some() {
            lambda_shell::metrics(
                &self.deployment,
                &[("GlassBroken", Unit::Count, 1.0)],
                (self.now)().timestamp_millis(),
            );
        }
    }

    /// Whether somebody else has the role during `window`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn in_use(&self, request: &Request, window: Window) -> Result<Option<InUse>, Error> {
        let windows = self.table.windows(&request.target, &request.role).await?;
        let now = (self.now)();
        Ok(overlap::in_use_by_another(
            request,
            &windows.rows,
            window,
            now,
        ))
    }

    /// Records that it cannot be opened.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refuse(&self, id: &RequestId, refusals: Vec<Refusal>) -> Result<Outcome, Error> {
        let faults = access_text::faults(refusals);
        self.table.record_refusal(id, &faults).await?;
        tracing::info!(request_id = %id, n_faults = faults.len(), "request refused");
        Ok(Outcome::Refused { faults })
    }

    async fn refused(&self, id: &RequestId, refusals: Vec<Refusal>) -> Result<Admitted, Error> {
        self.refuse(id, refusals).await.map(Admitted::Answer)
    }

    /// The votes whose seal KMS verifies: only they count.
    async fn verified_votes(&self, stored: &StoredRequest) -> Result<Vec<Vote>, Error> {
        let request = &stored.request;
        let mut votes = Vec::new();
        for sealed in self.table.votes(&request.request_id).await? {
            let sealed_text = match request.break_glass {
                Some(_) => seal::break_glass_text,
                None => seal::sealed_text,
            };
            let text = sealed_text(&request.request_id, &stored.digest, &sealed.vote);
            if self
                .vote_key
                .verify(&text, &seal::decode(&sealed.seal))
                .await?
            {
                votes.push(sealed.vote);
            } else {
                tracing::error!(request_id = %request.request_id, approver = %sealed.vote.approver, "vote with a wrong seal");
            }
        }
        Ok(votes)
    }
}

/// Whether these votes leave `window`, or more; neither the recorded decision nor the callback is believed. A window that
/// was armed may be shorter than they left it.
fn is_proved_approved(request: &Request, votes: &[Vote], window: Window) -> bool {
    let decision = decision::tally(request, votes, request.decide_by);
    decision::approved_window(request, votes, &decision).is_some_and(|left| left.contains(&window))
}
