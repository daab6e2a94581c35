//! Breaking the glass: in an emergency, listed people open a role at once, for a short time, and are reviewed after.
//!
//! Nobody approves such a window beforehand. In place of approvals stands one vote, the requester's own, which
//! `approval` seals as nothing else; afterwards somebody else of a list must review it, and until then the person
//! breaks no glass again.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::catalogue;
use crate::document::Object;
use crate::fault::{FaultName, Faults};
use crate::names::PersonId;
use crate::refusal::Refusal;
use crate::request::{Found, PersonRef, RequesterProof, iso};
use crate::window::WindowSpec;

/// What a role's document says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlassPolicy {
    /// Who may.
    pub people: Vec<PersonId>,
    /// The longest such window, in seconds.
    pub max_duration_seconds: i64,
    /// Who reviews it afterwards; never their own.
    pub reviewers: Vec<PersonId>,
}

/// What a request of this kind remembers of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlass {
    /// Who was to review it when it was made, without its requester.
    pub reviewers: Vec<PersonRef>,
}

/// That somebody has reviewed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Who.
    pub by: PersonRef,
    /// What they found, as they wrote it.
    pub comment: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The caller's ARN, whose signature AWS verified.
    pub principal: String,
}

impl BreakGlassPolicy {
    /// Reads the field of a role document; `None` if it is absent or faulty.
    pub(crate) fn read(document: &mut Object<'_>, faults: &mut Faults) -> Option<Self> {
        let value = document.optional("break_glass")?;
        let path = document.path_of("break_glass");
        let mut object = Object::new(value, &path, faults)?;
        let mut people = |field: &'static str, faults: &mut Faults| {
            let items = object.list(field, faults)?;
            let path = object.path_of(field);
            if items.is_empty() {
                faults.add(FaultName::InvalidValue, &path, "list 1 to 10 people");
            }
            Some(catalogue::read_people(&path, items, faults))
        };
        let listed = people("people", faults);
        let reviewers = people("reviewers", faults);
        let max_duration_seconds = catalogue::read_seconds(&mut object, "max_duration", faults);
        object.finish(faults);
        let (people, reviewers) = (listed?, reviewers?);
        if let Some(alone) = people
            .iter()
            .find(|person| reviewers.iter().all(|reviewer| reviewer == *person))
        {
            faults.add(
                FaultName::InvalidValue,
                format!("{path}.reviewers"),
                format!("list somebody beside {alone}: nobody reviews themself"),
            );
        }
        Some(Self {
            people,
            max_duration_seconds: max_duration_seconds?,
            reviewers,
        })
    }

    fn may(&self, person: &PersonId) -> bool {
        self.people.contains(person)
    }

    fn max_duration(&self) -> Duration {
        Duration::seconds(self.max_duration_seconds)
    }
}

/// Whether `requester` may have `window` at `now` without being approved, and who reviews that. What stands against it
/// is added to `faults`.
pub(crate) fn resolve(
    policy: Option<&BreakGlassPolicy>,
    requester: &PersonId,
    proof: &RequesterProof,
    window: Option<&WindowSpec>,
    found: &Found,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Option<BreakGlass> {
    if proof.is_claim() {
        faults.add(
            FaultName::BreakGlassNotVerified,
            PATH,
            "ask through the front door, POST /requests: only a signed call proves who breaks the glass",
        );
    }
    let Some(policy) = policy.filter(|policy| policy.may(requester)) else {
        faults.add(
            FaultName::BreakGlassNotAllowed,
            PATH,
            "leave out \"break_glass\" and wait for approval: this role's document does not list you for emergencies",
        );
        return None;
    };
    match window {
        Some(WindowSpec::Fixed { .. }) => faults.add(
            FaultName::ConflictingFields,
            "$.start",
            "leave out \"start\": a window without approval opens at once",
        ),
        Some(WindowSpec::UntilEnd { end }) => cap(policy, *end - now, faults),
        Some(WindowSpec::ForDuration { seconds }) => {
            cap(policy, Duration::seconds(*seconds), faults);
        }
        None => {}
    }
    let reviewers: Vec<_> = policy
        .reviewers
        .iter()
        .filter(|id| *id != requester)
        .filter_map(|id| found.people.get(id))
        .map(|(person, _)| PersonRef::of(person))
        .collect();
    if reviewers.is_empty() {
        faults.add(
            FaultName::BreakGlassNotAllowed,
            PATH,
            "ask the platform team: the catalogue has none of those who would review it",
        );
    }
    Some(BreakGlass { reviewers })
}

fn cap(policy: &BreakGlassPolicy, length: Duration, faults: &mut Faults) {
    if length > policy.max_duration() {
        let longest = iso(policy.max_duration());
        faults.add(
            FaultName::WindowTooLong,
            "$",
            format!("ask for at most {longest} without approval"),
        );
    }
}

/// Whether the catalogue as it is now still lets `requester` break the glass: the longest window that it allows.
///
/// # Errors
/// The [`Refusal`] if it does not.
pub(crate) fn longest_now(
    policy: Option<&BreakGlassPolicy>,
    requester: &PersonId,
) -> Result<Duration, Refusal> {
    policy
        .filter(|policy| policy.may(requester))
        .map(BreakGlassPolicy::max_duration)
        .ok_or(Refusal::BreakGlassWithdrawn)
}

const PATH: &str = "$.break_glass";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Mode;
    use crate::catalogue::RolePolicy;
    use crate::decision::{self, Decision, Verdict, Vote};
    use crate::eligibility;
    use crate::names::RequestId;
    use crate::request::tests::{found, now};
    use crate::request::{Request, RequestDraft};
    use serde_json::{Value, json};

    fn id(id: &str) -> PersonId {
        PersonId::new(id).unwrap()
    }

    fn policy(people: &[&str], reviewers: &[&str]) -> BreakGlassPolicy {
        BreakGlassPolicy {
            people: people.iter().map(|it| id(it)).collect(),
            max_duration_seconds: 1800,
            reviewers: reviewers.iter().map(|it| id(it)).collect(),
        }
    }

    fn with(policy: Option<BreakGlassPolicy>) -> Found {
        let mut found = found();
        found.role.as_mut().unwrap().0.break_glass = policy;
        found
    }

    fn verified() -> RequesterProof {
        RequesterProof::Verified {
            principal: "arn:aws:iam::123456789012:user/riko".to_owned(),
        }
    }

    fn ask(change: Value, proof: RequesterProof, found: &Found) -> Result<Request, Vec<FaultName>> {
        let mut input = json!({
            "target": "orders", "role": "breakglass", "duration": "PT20M", "reason": "outage", "requester": "riko",
            "break_glass": true
        });
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        let mut faults = Faults::new();
        let draft = RequestDraft::read(&input, &mut faults);
        let id = RequestId::of_execution("arn", 0);
        let request = draft.resolve(found, id, "arn", proof, now(), &mut faults);
        let names = faults.into_vec().into_iter().map(|fault| fault.name);
        request.ok_or_else(|| names.collect())
    }

    fn listed() -> Found {
        with(Some(policy(&["riko"], &["alice", "riko"])))
    }

    fn broken() -> Request {
        ask(json!({}), verified(), &listed()).unwrap()
    }

    fn own_vote() -> Vote {
        Vote {
            approver: id("riko"),
            verdict: Verdict::Approve,
            at: now() + Duration::seconds(2),
            comment: String::new(),
            narrowing: None,
            principal: Some("arn:aws:iam::123456789012:user/riko".to_owned()),
        }
    }

    #[test]
    fn a_listed_person_opens_at_once_and_somebody_else_reviews_it() {
        let request = broken();
        let break_glass = request.break_glass.as_ref().unwrap();
        let reviewers: Vec<_> = break_glass.reviewers.iter().map(|it| &it.id).collect();
        assert_eq!(reviewers, [&id("alice")]);
        let stored = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&stored).unwrap(), request);
        let votes = [own_vote()];
        let decision = decision::tally(&request, &votes, now());
        assert_eq!(
            decision,
            Decision::Approved {
                at: votes[0].at,
                by: vec![id("riko")]
            }
        );
    }

    #[test]
    fn who_is_not_listed_claims_or_wants_too_much_is_refused() {
        use FaultName::{
            BreakGlassNotAllowed, BreakGlassNotVerified, ConflictingFields, WindowTooLong,
        };
        let refused = |change, proof, found: &Found| ask(change, proof, found).unwrap_err();
        let none = json!({});
        assert_eq!(
            refused(none.clone(), verified(), &with(None)),
            [BreakGlassNotAllowed]
        );
        let others = with(Some(policy(&["bob"], &["alice"])));
        assert_eq!(
            refused(none.clone(), verified(), &others),
            [BreakGlassNotAllowed]
        );
        let nobody = with(Some(policy(&["riko"], &["riko", "gone"])));
        assert_eq!(
            refused(none.clone(), verified(), &nobody),
            [BreakGlassNotAllowed]
        );
        let claim = RequesterProof::Claimed;
        assert_eq!(refused(none, claim, &listed()), [BreakGlassNotVerified]);
        for long in [
            json!({ "duration": "PT31M" }),
            json!({ "duration": null, "end": "2026-06-01T12:30:01Z" }),
        ] {
            assert_eq!(refused(long, verified(), &listed()), [WindowTooLong]);
        }
        let later = json!({ "start": "2026-06-01T12:05:00Z" });
        assert_eq!(refused(later, verified(), &listed()), [ConflictingFields]);
        let word = json!({ "break_glass": "yes" });
        assert_eq!(refused(word, verified(), &listed()), [FaultName::WrongType]);
    }

    #[test]
    fn it_needs_no_approver_who_could_be_asked() {
        let mut found = listed();
        found.role.as_mut().unwrap().0.required_approvals = 10;
        assert_eq!(
            ask(json!({}), verified(), &found)
                .unwrap()
                .required_approvals,
            1
        );
        let ordinary = ask(json!({ "break_glass": false }), verified(), &found);
        assert_eq!(ordinary.unwrap_err(), [FaultName::TooFewApprovers]);
    }

    #[test]
    fn only_the_requesters_own_signed_vote_counts_and_only_there() {
        let request = broken();
        let pending = |votes: &[Vote]| {
            decision::tally(&request, votes, now() + Duration::seconds(3)) == Decision::Pending
        };
        let own = own_vote();
        for (approver, principal, verdict) in [
            ("alice", Some("arn:alice"), Verdict::Approve),
            ("alice", Some("arn:alice"), Verdict::Reject),
            ("riko", None, Verdict::Approve),
        ] {
            let vote = Vote {
                approver: id(approver),
                principal: principal.map(str::to_owned),
                verdict,
                ..own.clone()
            };
            assert!(pending(&[vote]));
        }
        assert!(!request.may_decide(&id("alice")) && !request.may_decide(&id("riko")));
        let ordinary = ask(json!({ "break_glass": false }), verified(), &listed()).unwrap();
        let decision = decision::tally(&ordinary, &[own], now() + Duration::seconds(3));
        assert_eq!(decision, Decision::Pending);
    }

    #[test]
    fn at_the_start_the_list_and_its_cap_hold_as_they_are_then() {
        let request = broken();
        let votes = [own_vote()];
        let window = request.window.approved_at(votes[0].at).unwrap();
        let again = |found: &Found| eligibility::check_again(&request, &votes, window, found);
        assert_eq!(again(&listed()).unwrap().window, window);
        let mut shorter = policy(&["riko"], &["alice"]);
        shorter.max_duration_seconds = 60;
        let left = again(&with(Some(shorter))).unwrap().window;
        assert_eq!(left.length(), Duration::seconds(60));
        for changed in [None, Some(policy(&["bob"], &["alice"]))] {
            let refused = again(&with(changed)).unwrap_err();
            assert_eq!(refused, [Refusal::BreakGlassWithdrawn]);
        }
        // More approvals by now are no matter: none was needed.
        let mut more = listed();
        more.role.as_mut().unwrap().0.required_approvals = 3;
        assert!(again(&more).is_ok());
    }

    #[test]
    fn a_document_names_a_reviewer_beside_each_person_and_a_cap_within_the_roles() {
        let faults_of = |break_glass: Value| {
            let document = json!({
                "role": "breakglass", "approvers": ["alice"], "required_approvals": 1, "max_duration": "PT8H",
                "max_ahead": "P7D", "approval_deadline": "PT4H", "mode": "enforce", "break_glass": break_glass
            });
            let mut faults = Faults::new();
            let read = RolePolicy::read(&document, &mut faults);
            assert!(read.is_none_or(|policy| policy.mode == Mode::Enforce));
            let places = faults.into_vec().into_iter();
            places.map(|it| (it.name, it.path)).collect::<Vec<_>>()
        };
        let sound = json!({ "people": ["riko"], "max_duration": "PT30M", "reviewers": ["alice"] });
        assert_eq!(faults_of(sound), []);
        let places = |break_glass| {
            let faults = faults_of(break_glass);
            faults.into_iter().map(|(_, path)| path).collect::<Vec<_>>()
        };
        let own = json!({ "people": ["riko"], "max_duration": "PT30M", "reviewers": ["riko"] });
        assert_eq!(places(own), ["$.break_glass.reviewers"]);
        let long = json!({ "people": ["riko"], "max_duration": "PT9H", "reviewers": ["alice"] });
        assert_eq!(places(long), ["$.break_glass.max_duration"]);
        let short = json!({ "people": ["riko"], "max_duration": "PT5S", "reviewers": ["alice"] });
        assert_eq!(places(short), ["$.break_glass.max_duration"]);
        let nobody = json!({ "people": [], "max_duration": "PT30M", "reviewers": ["alice"] });
        assert_eq!(places(nobody), ["$.break_glass.people"]);
    }
}
