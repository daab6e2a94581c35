//! Whether an approved request may still be opened, as the catalogue is now: of both versions the stricter holds.

use std::collections::BTreeSet;

use chrono::Duration;

use crate::break_glass;
use crate::catalogue::{DecideBy, RoleCredential, RolePolicy};
use crate::decision::{self, Decision, Vote};
use crate::names::PersonId;
use crate::principal;
use crate::refusal::Refusal;
use crate::request::{Found, Request};
use crate::window::{Narrowing, Window};

/// What may be opened under both versions of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// The request, with the stricter rule wherever they differ.
    pub request: Request,
    /// Its window: as it was approved, or shorter.
    pub window: Window,
}

/// Holds a request whose `votes` approved `window` against what the catalogue says now. A limit makes the window
/// shorter; what no shorter window would satisfy is a fault.
///
/// # Errors
/// Every [`Refusal`] at once, if it may not be opened any more.
pub fn check_again(
    request: &Request,
    votes: &[Vote],
    window: Window,
    now: &Found,
) -> Result<Eligible, Vec<Refusal>> {
    let mut refusals = Vec::new();
    check_target(request, now, &mut refusals);
    check_requester(request, now, &mut refusals);
    let Some((policy, _)) = &now.role else {
        if now.place.is_some() {
            refusals.push(Refusal::RoleGone);
        }
        return Err(refusals);
    };
    check_kind(request, policy, &mut refusals);
    let stricter = stricter(request, policy, now);
    let longest = longest(request, policy, &mut refusals);
    let left = still_approved(request, &stricter, votes, window, now, &mut refusals)
        .and_then(|window| within_limits(policy, window, longest?, &mut refusals));
    match left {
        Some(window) if refusals.is_empty() => Ok(Eligible {
            request: stricter,
            window,
        }),
        _ => Err(refusals),
    }
}

fn check_target(request: &Request, now: &Found, refusals: &mut Vec<Refusal>) {
    let Some((place, _)) = &now.place else {
        refusals.push(Refusal::TargetGone);
        return;
    };
    if !place.is_same_as(&request.place) {
        refusals.push(Refusal::TargetMoved);
    }
}

fn check_requester(request: &Request, now: &Found, refusals: &mut Vec<Refusal>) {
    let Some((person, _)) = now.people.get(&request.requester.id) else {
        refusals.push(Refusal::RequesterGone);
        return;
    };
    let has_lost_one = request
        .requester_principals
        .iter()
        .any(|pinned| !person.principals.contains(pinned));
    if has_lost_one {
        refusals.push(Refusal::RequesterLostPrincipal);
    }
}

fn check_kind(request: &Request, policy: &RolePolicy, refusals: &mut Vec<Refusal>) {
    if policy.grant != request.grant {
        refusals.push(Refusal::GrantChanged);
    }
    if request.credential == RoleCredential::Existing
        && policy.credential == RoleCredential::PerWindow
    {
        refusals.push(Refusal::CredentialChanged);
    }
}

/// The request, with the rule of the catalogue as it is now wherever that is stricter.
fn stricter(request: &Request, policy: &RolePolicy, now: &Found) -> Request {
    let deadline = request.requested_at + Duration::seconds(policy.approval_deadline_seconds);
    let mut stricter = request.clone();
    stricter.approvers.retain(|approver| {
        policy.approvers.contains(&approver.id) && now.people.contains_key(&approver.id)
    });
    if request.break_glass.is_none() {
        stricter.required_approvals = request.required_approvals.max(policy.required_approvals);
    }
    stricter.shared = request.shared && policy.shared;
    stricter.decide_by = request.decide_by.min(deadline);
    if policy.decide_by == DecideBy::Iam {
        stricter.deciding = DecideBy::Iam;
    }
    stricter
}

/// What the approvals that still count leave of the window.
fn still_approved(
    request: &Request,
    stricter: &Request,
    votes: &[Vote],
    window: Window,
    now: &Found,
    refusals: &mut Vec<Refusal>,
) -> Option<Window> {
    let counting: Vec<Vote> = votes
        .iter()
        .filter(|vote| is_still_theirs(vote, now))
        .cloned()
        .collect();
    let decision = decision::tally(stricter, &counting, stricter.decide_by);
    let left = decision::approved_window(stricter, &counting, &decision)
        .and_then(|left| Narrowing::new(Some(left.start()), Some(left.end()))?.applied_to(window));
    if left.is_none() {
        refusals.extend(why_not_approved(request, stricter, votes, now));
    }
    left
}

/// Whether the principal that signed a decision is still its approver.
fn is_still_theirs(vote: &Vote, now: &Found) -> bool {
    let Some(principal) = &vote.principal else {
        return true;
    };
    let people = now.people.values().map(|(person, _)| person);
    principal::person_of(principal, people).is_ok_and(|person| person.id == vote.approver)
}

fn why_not_approved(
    request: &Request,
    stricter: &Request,
    votes: &[Vote],
    now: &Found,
) -> Vec<Refusal> {
    let mut why = Vec::new();
    let decided = decision::tally(request, votes, request.decide_by);
    let approvers: BTreeSet<&PersonId> = match &decided {
        Decision::Approved { by, .. } => by.iter().collect(),
        _ => BTreeSet::new(),
    };
    let approvals = votes
        .iter()
        .filter(|vote| approvers.contains(&vote.approver));
    for vote in approvals {
        let name = request.name_of(&vote.approver).to_owned();
        if !stricter.may_decide(&vote.approver) {
            why.push(Refusal::NotAnApproverAnyMore { name });
        } else if !is_still_theirs(vote, now) {
            why.push(Refusal::ApproverLostPrincipal { name });
        } else if vote.principal.is_none() && !stricter.deciding.takes_links() {
            why.push(Refusal::ApprovedByLink { name });
        } else if vote.at >= stricter.decide_by {
            why.push(Refusal::ApprovedTooLate { name });
        }
    }
    if stricter.required_approvals > request.required_approvals {
        why.push(Refusal::MoreMustApprove {
            required: stricter.required_approvals,
            required_then: request.required_approvals,
        });
    }
    if why.is_empty() {
        why.push(Refusal::ApprovalsDoNotCount);
    }
    why
}

/// The longest window that the request may have now; `None` if it may have none.
fn longest(
    request: &Request,
    policy: &RolePolicy,
    refusals: &mut Vec<Refusal>,
) -> Option<Duration> {
    let longest = Duration::seconds(policy.max_duration_seconds);
    if request.break_glass.is_none() {
        return Some(longest);
    }
    match break_glass::longest_now(policy.break_glass.as_ref(), &request.requester.id) {
        Ok(longest_without_approval) => Some(longest.min(longest_without_approval)),
        Err(refusal) => {
            refusals.push(refusal);
            None
        }
    }
}

/// The window under the limits as they are now.
fn within_limits(
    policy: &RolePolicy,
    window: Window,
    longest: Duration,
    refusals: &mut Vec<Refusal>,
) -> Option<Window> {
    let window = Window::new(window.start(), window.end().min(window.start() + longest))?;
    let least = Duration::seconds(policy.min_duration_seconds);
    if window.length() < least {
        refusals.push(Refusal::WindowTooShortByNow {
            shortest_seconds: least.num_seconds(),
            left_seconds: window.length().num_seconds(),
        });
        return None;
    }
    Some(window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Location;
    use crate::decision::Verdict;
    use crate::place::Place;
    use crate::principal::Principal;
    use crate::request::tests::{found, request};

    fn id(id: &str) -> PersonId {
        PersonId::new(id).unwrap()
    }

    fn approval(request: &Request, who: &str, principal: Option<&str>) -> Vote {
        Vote {
            approver: id(who),
            verdict: Verdict::Approve,
            at: request.requested_at + Duration::minutes(10),
            comment: String::new(),
            narrowing: None,
            principal: principal.map(str::to_owned),
        }
    }

    fn asked(request: &Request) -> Window {
        request.window.approved_at(request.requested_at).unwrap()
    }

    /// What becomes of the plain request, approved by Alice's link, once the catalogue is changed.
    fn after(change: impl FnOnce(&mut Found)) -> Result<Eligible, Vec<Refusal>> {
        let mut now = found();
        change(&mut now);
        let request = request();
        let votes = [approval(&request, "alice", None)];
        check_again(&request, &votes, asked(&request), &now)
    }

    fn policy(change: impl FnOnce(&mut RolePolicy)) -> impl FnOnce(&mut Found) {
        |now| change(&mut now.role.as_mut().unwrap().0)
    }

    fn refused(change: impl FnOnce(&mut Found)) -> Vec<Refusal> {
        after(change).unwrap_err()
    }

    fn alices_name() -> String {
        "ALICE".to_owned()
    }

    #[test]
    fn an_unchanged_catalogue_changes_nothing() {
        let eligible = after(|_| {}).unwrap();
        assert_eq!(eligible.window, asked(&request()));
        assert_eq!(eligible.request, request());
    }

    #[test]
    fn what_is_more_generous_by_now_changes_nothing_either() {
        let generous = policy(|role| {
            role.max_duration_seconds *= 10;
            role.min_duration_seconds = 1;
            role.approval_deadline_seconds *= 2;
            role.approvers.push(id("chiyo"));
            role.shared = true;
        });
        assert_eq!(after(generous).unwrap().request, request());
        // Another principal more is the requester's too; the pinned ones alone read the password.
        let one_more = |now: &mut Found| {
            let (riko, _) = now.people.get_mut(&id("riko")).unwrap();
            let more = "arn:aws:iam::123456789012:user/riko2".to_owned();
            riko.principals.push(Principal::User(more));
        };
        assert!(after(one_more).is_ok());
    }

    #[test]
    fn what_is_gone_is_named() {
        assert_eq!(refused(|now| now.role = None), [Refusal::RoleGone]);
        let no_place = |now: &mut Found| (now.place, now.role) = (None, None);
        assert_eq!(refused(no_place), [Refusal::TargetGone]);
        let no_requester = |now: &mut Found| drop(now.people.remove(&id("riko")));
        assert_eq!(refused(no_requester), [Refusal::RequesterGone]);
        let nothing = refused(|now| *now = Found::default());
        let at_once = [Refusal::TargetGone, Refusal::RequesterGone];
        assert_eq!(nothing, at_once);
    }

    #[test]
    fn another_database_requester_or_kind_of_password_is_another_request() {
        let elsewhere = |now: &mut Found| {
            let Some((Place::Database(database), _)) = &mut now.place else {
                unreachable!("the fixture has a database");
            };
            database.location = Location::Cluster("other".to_owned());
        };
        assert_eq!(refused(elsewhere), [Refusal::TargetMoved]);
        let other_principal = |now: &mut Found| {
            let (riko, _) = now.people.get_mut(&id("riko")).unwrap();
            let other = "arn:aws:iam::123456789012:user/other".to_owned();
            riko.principals = vec![Principal::User(other)];
        };
        let lost = [Refusal::RequesterLostPrincipal];
        assert_eq!(refused(other_principal), lost);

        let existing = Request {
            credential: RoleCredential::Existing,
            ..request()
        };
        let votes = [approval(&existing, "alice", None)];
        let refused = check_again(&existing, &votes, asked(&existing), &found()).unwrap_err();
        assert_eq!(refused, [Refusal::CredentialChanged]);
        let kept = policy(|role| role.credential = RoleCredential::Existing);
        let kept = after(kept).unwrap().request.credential;
        assert_eq!(kept, RoleCredential::PerWindow);
    }

    #[test]
    fn approvals_that_do_not_count_any_more_are_named() {
        let not_alice = || policy(|role| role.approvers.retain(|person| *person != id("alice")));
        let not_an_approver = || {
            [Refusal::NotAnApproverAnyMore {
                name: alices_name(),
            }]
        };
        assert_eq!(refused(not_alice()), not_an_approver());
        let gone = |now: &mut Found| drop(now.people.remove(&id("alice")));
        assert_eq!(refused(gone), not_an_approver());
        let two = policy(|role| role.required_approvals = 2);
        let more = Refusal::MoreMustApprove {
            required: 2,
            required_then: 1,
        };
        assert_eq!(refused(two), [more]);
        let iam = policy(|role| role.decide_by = DecideBy::Iam);
        assert_eq!(
            refused(iam),
            [Refusal::ApprovedByLink {
                name: alices_name()
            }]
        );
        let sooner = policy(|role| role.approval_deadline_seconds = 300);
        let late = [Refusal::ApprovedTooLate {
            name: alices_name(),
        }];
        assert_eq!(refused(sooner), late);
        // Somebody else who approved in time is enough.
        let request = request();
        let votes = ["alice", "bob"].map(|who| approval(&request, who, None));
        let mut now = found();
        not_alice()(&mut now);
        assert!(check_again(&request, &votes, asked(&request), &now).is_ok());
    }

    #[test]
    fn a_signed_approval_counts_while_its_principal_is_its_approver() {
        let request = request();
        let alice = "arn:aws:iam::123456789012:user/alice";
        let votes = [approval(&request, "alice", Some(alice))];
        let mut now = found();
        now.role.as_mut().unwrap().0.decide_by = DecideBy::Iam;
        assert!(check_again(&request, &votes, asked(&request), &now).is_ok());
        now.people.get_mut(&id("alice")).unwrap().0.principals = Vec::new();
        let refused = check_again(&request, &votes, asked(&request), &now).unwrap_err();
        let lost = Refusal::ApproverLostPrincipal {
            name: alices_name(),
        };
        assert_eq!(refused, [lost]);
    }

    #[test]
    fn limits_shorten_the_window_or_end_it() {
        let start = asked(&request()).start();
        let half_an_hour = policy(|role| role.max_duration_seconds = 1800);
        let window = after(half_an_hour).unwrap().window;
        assert_eq!(window.start(), start);
        assert_eq!(window.length(), Duration::minutes(30));
        let two_hours = policy(|role| role.min_duration_seconds = 7200);
        let too_short = Refusal::WindowTooShortByNow {
            shortest_seconds: 7200,
            left_seconds: 3600,
        };
        assert_eq!(refused(two_hours), [too_short]);
    }

    #[test]
    fn a_role_is_shared_only_if_both_versions_say_so() {
        let shared = Request {
            shared: true,
            ..request()
        };
        let votes = [approval(&shared, "alice", None)];
        let mut now = found();
        let checked = |now: &Found| check_again(&shared, &votes, asked(&shared), now).unwrap();
        assert!(!checked(&now).request.shared);
        now.role.as_mut().unwrap().0.shared = true;
        assert!(checked(&now).request.shared);
    }
}
