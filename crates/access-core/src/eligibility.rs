//! Whether an approved request may still be opened, as the catalogue is now: of both versions the stricter holds.

use std::collections::BTreeSet;

use chrono::Duration;

use crate::break_glass;
use crate::catalogue::{DecideBy, RoleCredential, RolePolicy};
use crate::decision::{self, Decision, Vote};
use crate::fault::{Fault, FaultName, Faults};
use crate::names::PersonId;
use crate::principal;
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
/// Every [`Fault`] at once, if it may not be opened any more.
pub fn check_again(
    request: &Request,
    votes: &[Vote],
    window: Window,
    now: &Found,
) -> Result<Eligible, Vec<Fault>> {
    let mut faults = Faults::new();
    check_target(request, now, &mut faults);
    check_requester(request, now, &mut faults);
    let Some((policy, _)) = &now.role else {
        if now.place.is_some() {
            faults.add(
                FaultName::UnknownRole,
                "$.role",
                "choose another role: the catalogue does not have this one any more",
            );
        }
        return Err(faults.into_vec());
    };
    check_kind(request, policy, &mut faults);
    let stricter = stricter(request, policy, now);
    let longest = longest(request, policy, &mut faults);
    let left = still_approved(request, &stricter, votes, window, now, &mut faults)
        .and_then(|window| within_limits(policy, window, longest?, &mut faults));
    match left {
        Some(window) if faults.is_empty() => Ok(Eligible {
            request: stricter,
            window,
        }),
        _ => Err(faults.into_vec()),
    }
}

fn changed(path: &str, message: impl Into<String>, faults: &mut Faults) {
    faults.add(FaultName::CatalogueChanged, path, message);
}

fn check_target(request: &Request, now: &Found, faults: &mut Faults) {
    let Some((place, _)) = &now.place else {
        faults.add(
            FaultName::UnknownTarget,
            "$.target",
            "choose another target: the catalogue does not have this one any more",
        );
        return;
    };
    if !place.is_same_as(&request.place) {
        changed(
            "$.target",
            "ask again: this name stands for another database or account than when the request was made",
            faults,
        );
    }
}

fn check_requester(request: &Request, now: &Found, faults: &mut Faults) {
    let Some((person, _)) = now.people.get(&request.requester.id) else {
        faults.add(
            FaultName::UnknownRequester,
            "$.requester",
            "ask the platform team: the catalogue does not have the requester any more",
        );
        return;
    };
    let has_lost_one = request
        .requester_principals
        .iter()
        .any(|pinned| !person.principals.contains(pinned));
    if has_lost_one {
        changed(
            "$.requester",
            "ask again: an IAM principal that was the requester when the request was made is not any more",
            faults,
        );
    }
}

fn check_kind(request: &Request, policy: &RolePolicy, faults: &mut Faults) {
    if policy.grant != request.grant {
        changed(
            "$.role",
            "ask again: windows of this role give something else than when the request was made",
            faults,
        );
    }
    if request.credential == RoleCredential::Existing
        && policy.credential == RoleCredential::PerWindow
    {
        changed(
            "$.role",
            "ask again: this role is opened with a password of each window's own by now",
            faults,
        );
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
    faults: &mut Faults,
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
        for why in why_not_approved(request, stricter, votes, now) {
            changed("$", format!("ask again: {why}"), faults);
        }
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
) -> Vec<String> {
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
        let name = request.name_of(&vote.approver);
        if !stricter.may_decide(&vote.approver) {
            why.push(format!(
                "{name}, who approved it, is not an approver of this role any more"
            ));
        } else if !is_still_theirs(vote, now) {
            why.push(format!(
                "the IAM principal with which {name} approved it is not theirs any more"
            ));
        } else if vote.principal.is_none() && !stricter.deciding.takes_links() {
            why.push(format!(
                "{name} approved it by a link, and this role is decided by signed calls only by now"
            ));
        } else if vote.at >= stricter.decide_by {
            why.push(format!(
                "{name} approved it later than approvers of this role may by now"
            ));
        }
    }
    if stricter.required_approvals > request.required_approvals {
        why.push(format!(
            "{} people must approve by now, and it was approved when {} had to",
            stricter.required_approvals, request.required_approvals
        ));
    }
    if why.is_empty() {
        why.push("its approvals do not count any more".to_owned());
    }
    why
}

/// The longest window that the request may have now; `None` if it may have none.
fn longest(request: &Request, policy: &RolePolicy, faults: &mut Faults) -> Option<Duration> {
    let longest = Duration::seconds(policy.max_duration_seconds);
    if request.break_glass.is_none() {
        return Some(longest);
    }
    match break_glass::longest_now(policy.break_glass.as_ref(), &request.requester.id) {
        Ok(longest_without_approval) => Some(longest.min(longest_without_approval)),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// The window under the limits as they are now.
fn within_limits(
    policy: &RolePolicy,
    window: Window,
    longest: Duration,
    faults: &mut Faults,
) -> Option<Window> {
    let window = Window::new(window.start(), window.end().min(window.start() + longest))?;
    let least = Duration::seconds(policy.min_duration_seconds);
    if window.length() < least {
        changed(
            "$",
            format!(
                "ask again for a longer window: the shortest of this role is {} seconds by now, and this one has {}",
                least.num_seconds(),
                window.length().num_seconds()
            ),
            faults,
        );
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
    fn after(change: impl FnOnce(&mut Found)) -> Result<Eligible, Vec<Fault>> {
        let mut now = found();
        change(&mut now);
        let request = request();
        let votes = [approval(&request, "alice", None)];
        check_again(&request, &votes, asked(&request), &now)
    }

    fn policy(change: impl FnOnce(&mut RolePolicy)) -> impl FnOnce(&mut Found) {
        |now| change(&mut now.role.as_mut().unwrap().0)
    }

    fn refused(change: impl FnOnce(&mut Found)) -> Vec<(FaultName, String, String)> {
        let faults = after(change).unwrap_err();
        faults
            .into_iter()
            .map(|fault| (fault.name, fault.path, fault.message))
            .collect()
    }

    fn refused_once(change: impl FnOnce(&mut Found), name: FaultName, path: &str, says: &str) {
        let faults = refused(change);
        let [(found, at, message)] = &faults[..] else {
            panic!("one fault: {faults:?}");
        };
        assert_eq!((*found, at.as_str()), (name, path), "{message}");
        assert!(message.contains(says), "{message}");
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
        use FaultName::{UnknownRequester, UnknownRole, UnknownTarget};
        refused_once(|now| now.role = None, UnknownRole, "$.role", "any more");
        let no_place = |now: &mut Found| (now.place, now.role) = (None, None);
        refused_once(no_place, UnknownTarget, "$.target", "any more");
        let no_requester = |now: &mut Found| drop(now.people.remove(&id("riko")));
        refused_once(no_requester, UnknownRequester, "$.requester", "any more");
        let nothing = refused(|now| *now = Found::default());
        assert_eq!(nothing.len(), 2, "all at once: {nothing:?}");
    }

    #[test]
    fn another_database_requester_or_kind_of_password_is_another_request() {
        let changed = FaultName::CatalogueChanged;
        let elsewhere = |now: &mut Found| {
            let Some((Place::Database(database), _)) = &mut now.place else {
                unreachable!("the fixture has a database");
            };
            database.location = Location::Cluster("other".to_owned());
        };
        refused_once(elsewhere, changed, "$.target", "another database");
        let other_principal = |now: &mut Found| {
            let (riko, _) = now.people.get_mut(&id("riko")).unwrap();
            let other = "arn:aws:iam::123456789012:user/other".to_owned();
            riko.principals = vec![Principal::User(other)];
        };
        refused_once(other_principal, changed, "$.requester", "IAM principal");

        let existing = Request {
            credential: RoleCredential::Existing,
            ..request()
        };
        let votes = [approval(&existing, "alice", None)];
        let faults = check_again(&existing, &votes, asked(&existing), &found()).unwrap_err();
        assert!(faults[0].message.contains("password"), "{faults:?}");
        let kept = policy(|role| role.credential = RoleCredential::Existing);
        let kept = after(kept).unwrap().request.credential;
        assert_eq!(kept, RoleCredential::PerWindow);
    }

    #[test]
    fn approvals_that_do_not_count_any_more_are_named() {
        let changed = FaultName::CatalogueChanged;
        let not_alice = || policy(|role| role.approvers.retain(|person| *person != id("alice")));
        refused_once(not_alice(), changed, "$", "ALICE, who approved it");
        let gone = |now: &mut Found| drop(now.people.remove(&id("alice")));
        refused_once(gone, changed, "$", "ALICE, who approved it");
        let two = policy(|role| role.required_approvals = 2);
        refused_once(two, changed, "$", "2 people must approve");
        let iam = policy(|role| role.decide_by = DecideBy::Iam);
        refused_once(iam, changed, "$", "signed calls only");
        let sooner = policy(|role| role.approval_deadline_seconds = 300);
        refused_once(sooner, changed, "$", "later than");
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
        let faults = check_again(&request, &votes, asked(&request), &now).unwrap_err();
        assert!(
            faults[0].message.contains("not theirs any more"),
            "{faults:?}"
        );
    }

    #[test]
    fn limits_shorten_the_window_or_end_it() {
        let start = asked(&request()).start();
        let half_an_hour = policy(|role| role.max_duration_seconds = 1800);
        let window = after(half_an_hour).unwrap().window;
        assert_eq!(window.start(), start);
        assert_eq!(window.length(), Duration::minutes(30));
        let two_hours = policy(|role| role.min_duration_seconds = 7200);
        let changed = FaultName::CatalogueChanged;
        refused_once(two_hours, changed, "$", "shortest");
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
