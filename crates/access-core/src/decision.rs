//! Who has decided what: counting votes.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::names::PersonId;
use crate::request::Request;

/// What one approver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No; one is enough.
    Reject,
}

/// One approver's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub approver: PersonId,
    /// What.
    pub verdict: Verdict,
    /// When.
    pub at: DateTime<Utc>,
    /// What they added, as they wrote it.
    pub comment: String,
}

/// What the votes amount to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Decision {
    /// Not enough votes yet.
    Pending,
    /// Enough people approved.
    Approved {
        /// When the last needed approval was given.
        at: DateTime<Utc>,
        /// By whom, in order.
        by: Vec<PersonId>,
    },
    /// Somebody rejected.
    Rejected {
        /// When.
        at: DateTime<Utc>,
        /// By whom.
        by: PersonId,
    },
    /// Nobody decided in time, or the window passed first.
    Expired {
        /// When the time was up.
        at: DateTime<Utc>,
    },
}

/// Counts the votes for `request` in the order of their times. Only its approvers count, each once,
/// never the requester, and nothing after the deadline. The first rejection ends it.
#[must_use]
pub fn tally(request: &Request, votes: &[Vote], now: DateTime<Utc>) -> Decision {
    let mut votes: Vec<&Vote> = votes.iter().filter(|vote| counts(request, vote)).collect();
    votes.sort_by_key(|vote| (vote.at, vote.verdict == Verdict::Approve));
    let mut seen = BTreeSet::new();
    let mut by = Vec::new();
    for vote in votes {
        if !seen.insert(&vote.approver) {
            continue;
        }
        match vote.verdict {
            Verdict::Reject => {
                return Decision::Rejected {
                    at: vote.at,
                    by: vote.approver.clone(),
                };
            }
            Verdict::Approve => by.push(vote.approver.clone()),
        }
        if by.len() >= usize::from(request.required_approvals) {
            return Decision::Approved { at: vote.at, by };
        }
    }
    if now >= request.decide_by {
        Decision::Expired {
            at: request.decide_by,
        }
    } else {
        Decision::Pending
    }
}

fn counts(request: &Request, vote: &Vote) -> bool {
    vote.at < request.decide_by
        && request.may_decide(&vote.approver)
        && request.window.approved_at(vote.at).is_some()
}

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use proptest::prelude::*;

    use super::*;
    use crate::request::tests::request;

    fn vote(request: &Request, who: &str, verdict: Verdict, second: i64) -> Vote {
        Vote {
            approver: PersonId::new(who).unwrap(),
            verdict,
            at: request.requested_at + Duration::seconds(second),
            comment: String::new(),
        }
    }

    fn late(request: &Request) -> DateTime<Utc> {
        request.decide_by + Duration::hours(1)
    }

    #[test]
    fn enough_distinct_people_approve() {
        let request = Request {
            required_approvals: 2,
            ..request()
        };
        let once = vote(&request, "alice", Verdict::Approve, 1);
        let again = vote(&request, "alice", Verdict::Approve, 2);
        let other = vote(&request, "bob", Verdict::Approve, 3);
        assert_eq!(
            tally(
                &request,
                &[once.clone(), again.clone()],
                request.requested_at
            ),
            Decision::Pending
        );
        let Decision::Approved { at, by } =
            tally(&request, &[other.clone(), again, once], late(&request))
        else {
            panic!("two people approved");
        };
        assert_eq!((at, by.len()), (other.at, 2));
    }

    #[test]
    fn one_rejection_ends_it_even_in_the_same_instant() {
        let request = request();
        let yes = vote(&request, "alice", Verdict::Approve, 1);
        let no = vote(&request, "bob", Verdict::Reject, 1);
        assert!(matches!(
            tally(&request, &[yes, no], late(&request)),
            Decision::Rejected { .. }
        ));
    }

    #[test]
    fn the_requester_strangers_and_late_votes_do_not_count() {
        let request = request();
        let deadline = (request.decide_by - request.requested_at).num_seconds();
        for (who, second) in [("riko", 1), ("mallory", 1), ("alice", deadline)] {
            let vote = vote(&request, who, Verdict::Approve, second);
            assert!(
                matches!(
                    tally(&request, &[vote], late(&request)),
                    Decision::Expired { .. }
                ),
                "{who} {second}"
            );
        }
    }

    proptest! {
        #[test]
        fn fewer_people_than_required_never_approve(
            votes in prop::collection::vec((prop::sample::select(vec!["alice", "riko", "mallory"]), 0i64..100), 0..40)
        ) {
            let request = Request { required_approvals: 2, ..request() };
            let votes: Vec<_> =
                votes.into_iter().map(|(who, second)| vote(&request, who, Verdict::Approve, second)).collect();
            let decision = tally(&request, &votes, request.requested_at);
            prop_assert_eq!(decision, Decision::Pending);
        }
    }
}
