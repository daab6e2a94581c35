//! Who has decided what: counting votes, and the window that they leave.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::names::PersonId;
use crate::overlap::InUse;
use crate::request::Request;
use crate::window::{Narrowing, Window};

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
    /// What they approve of the window, if not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowing: Option<Narrowing>,
    /// The caller's ARN, if they decided by a signed call; otherwise it was by a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
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

/// Why an approval cannot be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CannotApprove {
    /// The start is before the one that was asked for, or has passed.
    StartTooEarly {
        /// The first start that is possible.
        earliest: DateTime<Utc>,
    },
    /// The end is after the one that was asked for.
    EndTooLate {
        /// The last end that is possible.
        latest: DateTime<Utc>,
    },
    /// The approver leaves nothing, or less than the shortest window.
    TooShort {
        /// What would be left.
        left: Duration,
        /// The shortest window.
        least: Duration,
    },
    /// Together with what the others leave, nothing is left, or less than the shortest window.
    TooShortTogether {
        /// What would be left.
        left: Duration,
        /// The shortest window.
        least: Duration,
    },
    /// Somebody else has the role in the window that this approval would settle.
    RoleInUse(InUse),
}

/// Counts the votes for `request` in the order of their times. Only its approvers count, each once,
/// never the requester, and nothing after the deadline. The first rejection ends it. Approvals that together leave
/// no window, or one that is too short, approve nothing. Of a request that breaks the glass only its requester's own
/// vote counts.
#[must_use]
pub fn tally(request: &Request, votes: &[Vote], now: DateTime<Utc>) -> Decision {
    let mut approvals: Vec<&Vote> = Vec::new();
    for vote in counting(request, votes) {
        if vote.verdict == Verdict::Reject {
            return Decision::Rejected {
                at: vote.at,
                by: vote.approver.clone(),
            };
        }
        approvals.push(vote);
        if approvals.len() >= usize::from(request.required_approvals) {
            if window_left(request, &approvals, vote.at).is_some() {
                return Decision::Approved {
                    at: vote.at,
                    by: approvals.iter().map(|vote| vote.approver.clone()).collect(),
                };
            }
            approvals.pop();
        }
    }
    let deadline = deadline(request, votes);
    if now >= deadline {
        Decision::Expired { at: deadline }
    } else {
        Decision::Pending
    }
}

/// The window that the votes of an approved request leave: what was asked for, from the last needed approval on, inside
/// the narrowing of each approving vote. `None` for any other decision.
#[must_use]
pub fn approved_window(request: &Request, votes: &[Vote], decision: &Decision) -> Option<Window> {
    let Decision::Approved { at, by } = decision else {
        return None;
    };
    let approvals: Vec<&Vote> = counting(request, votes)
        .into_iter()
        .filter(|vote| by.contains(&vote.approver))
        .collect();
    window_left(request, &approvals, *at)
}

/// What the approving votes so far leave of the window, beside the window itself; `None` if they take nothing away.
#[must_use]
pub fn narrowed_by(request: &Request, votes: &[Vote]) -> Option<Narrowing> {
    all_together(&counting(request, votes))
}

/// Until when `request` can be decided, after these votes: an approval after that would leave less than the shortest
/// window.
#[must_use]
pub fn deadline(request: &Request, votes: &[Vote]) -> DateTime<Utc> {
    narrowed_by(request, votes)
        .and_then(|narrowing| narrowing.end())
        .into_iter()
        .chain(request.window.fixed_end())
        .map(|end| end - request.min_duration())
        .fold(request.decide_by, DateTime::min)
}

/// Whether `approval` may be added to `votes`, so that an approver hears at once what cannot be.
///
/// # Errors
/// [`CannotApprove`].
pub fn check_approval(
    request: &Request,
    votes: &[Vote],
    approval: &Vote,
) -> Result<(), CannotApprove> {
    let least = request.min_duration();
    let left = |window: Option<Window>| window.map_or(Duration::zero(), |window| window.length());
    let asked = request.window.approved_at(approval.at);
    if let (Some(narrowing), Some(asked)) = (approval.narrowing, asked) {
        if narrowing.start().is_some_and(|start| start < asked.start()) {
            let earliest = asked.start();
            return Err(CannotApprove::StartTooEarly { earliest });
        }
        let latest = request.latest_end();
        if narrowing.end().is_some_and(|end| end > latest) {
            return Err(CannotApprove::EndTooLate { latest });
        }
    }
    let own = left(within(asked, approval.narrowing));
    if own < least {
        return Err(CannotApprove::TooShort { left: own, least });
    }
    let mut approvals = counting(request, votes);
    approvals.push(approval);
    let together = left(within(asked, all_together(&approvals)));
    if together < least {
        let left = together;
        return Err(CannotApprove::TooShortTogether { left, least });
    }
    Ok(())
}

/// The votes that count, in the order of their times, a rejection first: those of its approvers, the first of each, and
/// where links do not decide, only those of signed calls.
fn counting<'a>(request: &Request, votes: &'a [Vote]) -> Vec<&'a Vote> {
    let mut votes: Vec<&Vote> = votes
        .iter()
        .filter(|vote| vote.at < request.decide_by && is_entitled(request, vote))
        .collect();
    votes.sort_by_key(|vote| (vote.at, vote.verdict == Verdict::Approve));
    let mut seen = BTreeSet::new();
    votes.retain(|vote| seen.insert(&vote.approver));
    votes
}

/// Whether who cast it may, in this way: an approver, or, where the glass is broken, the requester alone.
fn is_entitled(request: &Request, vote: &Vote) -> bool {
    let is_signed = vote.principal.is_some();
    match request.break_glass {
        Some(_) => vote.approver == request.requester.id && is_signed,
        None => request.may_decide(&vote.approver) && (request.deciding.takes_links() || is_signed),
    }
}

/// The narrowings of all approvals at once.
fn all_together(votes: &[&Vote]) -> Option<Narrowing> {
    votes
        .iter()
        .filter(|vote| vote.verdict == Verdict::Approve)
        .filter_map(|vote| vote.narrowing)
        .reduce(|one, two| one.and(&two))
}

/// The window if these approvals are all that is needed and the last came at `approved_at`; `None` if it is too short.
fn window_left(
    request: &Request,
    approvals: &[&Vote],
    approved_at: DateTime<Utc>,
) -> Option<Window> {
    within(
        request.window.approved_at(approved_at),
        all_together(approvals),
    )
    .filter(|window| window.length() >= request.min_duration())
}

fn within(window: Option<Window>, narrowing: Option<Narrowing>) -> Option<Window> {
    match narrowing {
        Some(narrowing) => narrowing.applied_to(window?),
        None => window,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::DecideBy;
    use crate::request::tests::request;
    use crate::window::WindowSpec;

    fn vote(request: &Request, who: &str, verdict: Verdict, second: i64) -> Vote {
        Vote {
            approver: PersonId::new(who).unwrap(),
            verdict,
            at: request.requested_at + Duration::seconds(second),
            comment: String::new(),
            narrowing: None,
            principal: None,
        }
    }

    /// An approval that narrows to these seconds after the asked start.
    fn narrowed(
        request: &Request,
        who: &str,
        second: i64,
        start: Option<i64>,
        end: Option<i64>,
    ) -> Vote {
        let at = |second: i64| asked(request).start() + Duration::seconds(second);
        Vote {
            narrowing: Narrowing::new(start.map(at), end.map(at)),
            principal: None,
            ..vote(request, who, Verdict::Approve, second)
        }
    }

    /// The window of the plain request: an hour, from an hour after it was made.
    fn asked(request: &Request) -> Window {
        request.window.approved_at(request.requested_at).unwrap()
    }

    fn late(request: &Request) -> DateTime<Utc> {
        request.decide_by + Duration::hours(1)
    }

    fn two_of_two() -> Request {
        Request {
            required_approvals: 2,
            ..request()
        }
    }

    fn opened(request: &Request, votes: &[Vote]) -> Option<Window> {
        approved_window(request, votes, &tally(request, votes, late(request)))
    }

    #[test]
    fn enough_distinct_people_approve() {
        let request = two_of_two();
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
    fn where_only_signed_calls_decide_links_do_not_count() {
        let request = Request {
            deciding: DecideBy::Iam,
            ..request()
        };
        let by_link = vote(&request, "alice", Verdict::Approve, 1);
        let rejected_by_link = vote(&request, "bob", Verdict::Reject, 1);
        let signed = Vote {
            principal: Some("arn:aws:iam::123456789012:user/alice".to_owned()),
            ..vote(&request, "alice", Verdict::Approve, 2)
        };
        let votes = [by_link, rejected_by_link];
        assert_eq!(
            tally(&request, &votes, request.requested_at),
            Decision::Pending
        );
        assert!(matches!(
            tally(&request, &[signed], request.requested_at),
            Decision::Approved { .. }
        ));
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

    #[test]
    fn the_window_is_what_all_approvals_leave() {
        let request = two_of_two();
        let (start, hour) = (asked(&request).start(), Duration::hours(1));
        let alice = narrowed(&request, "alice", 1, Some(600), None);
        let bob = narrowed(&request, "bob", 2, Some(300), Some(1800));
        let both = [alice.clone(), bob];
        let expected = Window::new(start + Duration::minutes(10), start + Duration::minutes(30));
        assert_eq!(opened(&request, &both), expected);
        // A narrowing on a rejection, of a stranger or of the requester says nothing.
        let plain = vote(&request, "bob", Verdict::Approve, 2);
        let stranger = narrowed(&request, "mallory", 1, None, Some(60));
        let own = narrowed(&request, "riko", 1, None, Some(60));
        let expected = Window::new(start + Duration::minutes(10), start + hour);
        assert_eq!(opened(&request, &[alice, plain, stranger, own]), expected);
    }

    #[test]
    fn the_end_stays_when_the_approval_is_late() {
        let request = request();
        let end = asked(&request).end();
        // 40 minutes into the hour that was asked for.
        let alice = narrowed(&request, "alice", 100 * 60, None, Some(3000));
        let expected = Window::new(alice.at, end - Duration::minutes(10));
        assert_eq!(opened(&request, &[alice]), expected);
    }

    #[test]
    fn narrowings_that_leave_too_little_are_named_at_the_vote() {
        let request = two_of_two();
        let check = |votes: &[Vote], start: Option<i64>, end: Option<i64>| {
            check_approval(&request, votes, &narrowed(&request, "bob", 5, start, end))
        };
        let (minute, zero) = (Duration::minutes(1), Duration::zero());
        let asked = asked(&request);
        assert_eq!(check(&[], None, None), Ok(()));
        assert_eq!(check(&[], Some(0), Some(60)), Ok(()));
        assert_eq!(
            check(&[], Some(-1), None),
            Err(CannotApprove::StartTooEarly {
                earliest: asked.start()
            })
        );
        assert_eq!(
            check(&[], None, Some(3601)),
            Err(CannotApprove::EndTooLate {
                latest: asked.end()
            })
        );
        assert_eq!(
            check(&[], None, Some(59)),
            Err(CannotApprove::TooShort {
                left: Duration::seconds(59),
                least: minute
            })
        );
        assert_eq!(
            check(&[], Some(100), Some(100)),
            Err(CannotApprove::TooShort {
                left: zero,
                least: minute
            })
        );
        let alice = [narrowed(&request, "alice", 1, None, Some(600))];
        assert_eq!(check(&alice, Some(540), None), Ok(()));
        assert_eq!(
            check(&alice, Some(900), None),
            Err(CannotApprove::TooShortTogether {
                left: zero,
                least: minute
            })
        );
        // Recorded all the same, by whatever mistake, they approve nothing.
        let bob = narrowed(&request, "bob", 5, Some(900), None);
        let [alice] = alice;
        assert_eq!(opened(&request, &[alice, bob]), None);
    }

    #[test]
    fn a_narrowed_end_brings_the_deadline_forward() {
        let request = two_of_two();
        let alice = [narrowed(&request, "alice", 1, None, Some(600))];
        let end = asked(&request).start() + Duration::minutes(10);
        let deadline = end - Duration::minutes(1);
        assert_eq!(super::deadline(&request, &alice), deadline);
        let second = Duration::seconds(1);
        assert_eq!(
            tally(&request, &alice, deadline - second),
            Decision::Pending
        );
        assert_eq!(
            tally(&request, &alice, deadline),
            Decision::Expired { at: deadline }
        );
        let bob = Vote {
            at: deadline + second,
            ..vote(&request, "bob", Verdict::Approve, 0)
        };
        assert!(check_approval(&request, &alice, &bob).is_err());
    }

    #[test]
    fn a_window_that_begins_with_the_approval_is_narrowed_too() {
        let request = Request {
            window: WindowSpec::ForDuration { seconds: 1800 },
            ..two_of_two()
        };
        let at = |minute: i64| request.requested_at + Duration::minutes(minute);
        let approval = |who: &str, minute: i64, start: Option<i64>, end: Option<i64>| Vote {
            at: at(minute),
            narrowing: Narrowing::new(start.map(at), end.map(at)),
            principal: None,
            ..vote(&request, who, Verdict::Approve, 0)
        };
        let alice = approval("alice", 0, Some(10), Some(40));
        assert_eq!(check_approval(&request, &[], &alice), Ok(()));
        let bob = approval("bob", 20, None, None);
        let votes = [alice, bob];
        assert_eq!(opened(&request, &votes), Window::new(at(20), at(40)));
        let far = approval("alice", 0, None, Some(10_000));
        assert!(matches!(
            check_approval(&request, &[], &far),
            Err(CannotApprove::EndTooLate { .. })
        ));
        let next_day = approval("alice", 0, Some(1_440), None);
        assert!(matches!(
            check_approval(&request, &[], &next_day),
            Err(CannotApprove::TooShort { .. })
        ));
    }

    fn any_spec() -> impl Strategy<Value = WindowSpec> {
        let request = request();
        let window = asked(&request);
        prop_oneof![
            Just(WindowSpec::Fixed { window }),
            Just(WindowSpec::UntilEnd { end: window.end() }),
            (1i64..4000).prop_map(|seconds| WindowSpec::ForDuration { seconds }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whoever votes, however often, in whatever order, with whatever narrowing: no window opens without enough
        /// others, and the one that opens is inside the asked one and inside what each of them approved.
        #[test]
        fn no_votes_open_a_window_without_enough_others_or_outside_what_each_approved(
            spec in any_spec(),
            required in 1u8..=3,
            least in prop::sample::select(vec![1i64, 60, 900]),
            votes in prop::collection::vec(
                (
                    prop::sample::select(vec!["alice", "bob", "chiyo", "riko", "mallory"]),
                    prop::bool::weighted(0.95),
                    -100i64..9_000,
                    prop::option::of(-500i64..9_000),
                    prop::option::of(-500i64..9_000),
                ),
                0..12,
            ),
            checked in any::<bool>(),
        ) {
            let mut request = Request { window: spec, required_approvals: required, min_duration_seconds: least, ..request() };
            let mut chiyo = request.approvers[0].clone();
            chiyo.id = PersonId::new("chiyo").unwrap();
            request.approvers.push(chiyo);
            let at = |second: i64| request.requested_at + Duration::seconds(second);
            let mut recorded: Vec<Vote> = Vec::new();
            for (who, approves, second, start, end) in votes {
                let vote = Vote {
                    verdict: if approves { Verdict::Approve } else { Verdict::Reject },
                    narrowing: Narrowing::new(start.map(at), end.map(at)),
                    principal: None,
                    ..vote(&request, who, Verdict::Approve, second)
                };
                if !checked || !approves || check_approval(&request, &recorded, &vote).is_ok() {
                    recorded.push(vote);
                }
            }
            let decision = tally(&request, &recorded, late(&request));
            let window = approved_window(&request, &recorded, &decision);
            let Decision::Approved { at, by } = &decision else {
                prop_assert_eq!(window, None);
                return Ok(());
            };
            let window = window.unwrap();
            let people: BTreeSet<_> = by.iter().collect();
            prop_assert!(people.len() >= usize::from(required));
            prop_assert!(people.iter().all(|person| request.may_decide(person)));
            prop_assert!(!people.contains(&request.requester.id));
            let rejected =
                counting(&request, &recorded).iter().any(|vote| vote.verdict == Verdict::Reject && vote.at <= *at);
            prop_assert!(!rejected);
            prop_assert!(window.length() >= Duration::seconds(least));
            let asked = request.window.approved_at(*at).unwrap();
            prop_assert!(asked.start() <= window.start() && window.end() <= asked.end());
            prop_assert!(window.start() >= *at);
            for person in people {
                let vote = counting(&request, &recorded).into_iter().find(|vote| vote.approver == *person).unwrap();
                prop_assert_eq!(vote.verdict, Verdict::Approve);
                if let Some(narrowing) = vote.narrowing {
                    prop_assert!(narrowing.start().is_none_or(|start| start <= window.start()));
                    prop_assert!(narrowing.end().is_none_or(|end| window.end() <= end));
                }
            }
        }

        #[test]
        fn fewer_people_than_required_never_approve(
            votes in prop::collection::vec((prop::sample::select(vec!["alice", "riko", "mallory"]), 0i64..100), 0..40)
        ) {
            let request = two_of_two();
            let votes: Vec<_> =
                votes.into_iter().map(|(who, second)| vote(&request, who, Verdict::Approve, second)).collect();
            let decision = tally(&request, &votes, request.requested_at);
            prop_assert_eq!(decision, Decision::Pending);
        }
    }
}
