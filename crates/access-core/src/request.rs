//! The request: read from the execution's input, resolved against the catalogue, and never changed again.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::break_glass::{self, BreakGlass};
use crate::catalogue::{DecideBy, Mode, Person, RoleCredential, RolePolicy, named};
use crate::document::Object;
use crate::fault::{FaultName, Faults};
use crate::grant::Grant;
use crate::language::Language;
use crate::names::{PersonId, RequestId, RoleName, TargetId};
use crate::place::Place;
use crate::principal::Principal;
use crate::time;
use crate::window::{Window, WindowSpec};

/// The longest reason, in characters.
pub const MAX_REASON_CHARACTERS: usize = 1000;

/// A request as far as it could be read without the catalogue. What could not be read is a fault already.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RequestDraft {
    /// The database.
    pub target: Option<TargetId>,
    /// The role.
    pub role: Option<RoleName>,
    /// Who asks, by their own word.
    pub requester: Option<PersonId>,
    /// Why.
    pub reason: Option<String>,
    /// Whether only an answer is wanted: what would be done, and what stands in its way.
    pub dry_run: bool,
    /// Whether they ask to open it at once, without approval.
    pub break_glass: bool,
    start: Option<String>,
    end: Option<String>,
    duration: Option<Duration>,
    times_readable: bool,
}

/// What the catalogue says about the names in a draft; `None` where it has no such document.
#[derive(Debug, Default, Clone)]
pub struct Found {
    /// The database or account, and its version.
    pub place: Option<(Place, i64)>,
    /// The role's policy and its version.
    pub role: Option<(RolePolicy, i64)>,
    /// The people named by the request and the policy, with their versions.
    pub people: BTreeMap<PersonId, (Person, i64)>,
}

/// A request that the catalogue allows: immutable, and all that later steps know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub request_id: RequestId,
    /// The execution that made it.
    pub execution_arn: String,
    /// When it was made.
    pub requested_at: DateTime<Utc>,
    /// The database, by its name in the catalogue.
    pub target: TargetId,
    /// The role, by its name in the catalogue.
    pub role: RoleName,
    /// What the window gives, pinned. A request of release 0.1 has no such field, and is a login.
    #[serde(default, skip_serializing_if = "Grant::is_login")]
    pub grant: Grant,
    /// Who asks.
    pub requester: PersonRef,
    /// Who says so. A request of release 0.1 has no such field, and is a claim.
    #[serde(default, skip_serializing_if = "RequesterProof::is_claim")]
    pub requester_proof: RequesterProof,
    /// Why, as they wrote it.
    pub reason: String,
    /// From when to when.
    pub window: WindowSpec,
    /// Until when it can be decided.
    pub decide_by: DateTime<Utc>,
    /// Who may decide: the policy's approvers without the requester.
    pub approvers: Vec<PersonRef>,
    /// How many of them must approve.
    pub required_approvals: u8,
    /// The shortest window that may be left when it opens, in seconds. Release 0.1 knew none but a second.
    #[serde(default = "one_second", skip_serializing_if = "is_one_second")]
    pub min_duration_seconds: i64,
    /// What happens to access outside windows.
    pub mode: Mode,
    /// Whose password opens the role.
    #[serde(default, skip_serializing_if = "RoleCredential::is_existing")]
    pub credential: RoleCredential,
    /// The IAM principals that are the requester: they alone read the window's password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requester_principals: Vec<Principal>,
    /// Who may end it, beside the requester and the approvers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<PersonRef>,
    /// Whether different people may have the role at the same time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// In which ways it can be decided.
    #[serde(default, skip_serializing_if = "DecideBy::takes_links")]
    pub deciding: DecideBy,
    /// Where it is, and how to get there, pinned: closing uses this whatever the catalogue says by then.
    #[serde(flatten)]
    pub place: Place,
    /// Who reviews it afterwards, if it is opened without approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
    /// The versions of the catalogue documents that this was resolved against.
    pub catalogue_versions: BTreeMap<String, i64>,
}

fn one_second() -> i64 {
    1
}

fn is_one_second(seconds: &i64) -> bool {
    *seconds == one_second()
}

/// Who says that the requester is who the request says.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequesterProof {
    /// Whoever started the execution, and so wrote its input. Believed only once CloudTrail has named them.
    #[default]
    Claimed,
    /// AWS, which verified the signature of the call that asked.
    Verified {
        /// The caller's ARN.
        principal: String,
    },
}

impl RequesterProof {
    /// Whether the requester is only a claim.
    #[must_use]
    pub fn is_claim(&self) -> bool {
        *self == Self::Claimed
    }
}

/// A person as a request remembers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRef {
    /// The id.
    pub id: PersonId,
    /// The name shown to others.
    pub name: String,
    /// The language of the messages to them.
    #[serde(default, skip_serializing_if = "Language::is_default")]
    pub language: Language,
}

impl PersonRef {
    /// What a request remembers of a person of the catalogue.
    #[must_use]
    pub fn of(person: &Person) -> Self {
        Self {
            id: person.id.clone(),
            name: person.name.clone(),
            language: person.language,
        }
    }
}

impl Request {
    /// Whether `person` may decide on it. Nobody decides on one that is opened without approval.
    #[must_use]
    pub fn may_decide(&self, person: &PersonId) -> bool {
        self.break_glass.is_none()
            && *person != self.requester.id
            && self.approvers.iter().any(|approver| approver.id == *person)
    }

    /// The shortest window that may be left when it opens.
    #[must_use]
    pub fn min_duration(&self) -> Duration {
        Duration::seconds(self.min_duration_seconds)
    }

    /// In which capacity `person` may end it; `None` if they may not.
    #[must_use]
    pub fn may_end(&self, person: &PersonId) -> Option<EndedAs> {
        let is_in = |people: &[PersonRef]| people.iter().any(|listed| listed.id == *person);
        if self.requester.id == *person {
            Some(EndedAs::Requester)
        } else if is_in(&self.approvers) {
            Some(EndedAs::Approver)
        } else if is_in(&self.operators) {
            Some(EndedAs::Operator)
        } else {
            None
        }
    }

    /// Everybody who has a part in it, with that part. Somebody can have two.
    pub fn parts(&self) -> impl Iterator<Item = (EndedAs, &PersonRef)> {
        let requester = std::iter::once((EndedAs::Requester, &self.requester));
        let approvers = self.approvers.iter().map(|it| (EndedAs::Approver, it));
        let operators = self.operators.iter().map(|it| (EndedAs::Operator, it));
        requester.chain(approvers).chain(operators)
    }

    /// The requester and the operators, each once, without those who also decide: they have a link of their own for
    /// both.
    pub fn who_only_end_it(&self) -> impl Iterator<Item = &PersonRef> {
        let operators = self
            .operators
            .iter()
            .filter(|operator| operator.id != self.requester.id && !self.may_decide(&operator.id));
        std::iter::once(&self.requester).chain(operators)
    }

    /// The person of this id, if they have a part in it.
    #[must_use]
    pub fn person(&self, id: &PersonId) -> Option<&PersonRef> {
        std::iter::once(&self.requester)
            .chain(&self.approvers)
            .chain(&self.operators)
            .chain(self.break_glass.iter().flat_map(|it| &it.reviewers))
            .find(|known| known.id == *id)
    }

    /// The name of a person in it; the id if it does not know them.
    #[must_use]
    pub fn name_of<'a>(&'a self, person: &'a PersonId) -> &'a str {
        self.person(person)
            .map_or(person.as_str(), |known| known.name.as_str())
    }

    /// The last moment at which its window can end, whenever it is approved.
    #[must_use]
    pub fn latest_end(&self) -> DateTime<Utc> {
        match self.window {
            WindowSpec::Fixed { window } => window.end(),
            WindowSpec::UntilEnd { end } => end,
            WindowSpec::ForDuration { seconds } => self.decide_by + Duration::seconds(seconds),
        }
    }
}

/// SHA-256 over the stored text of a request: what was approved is exactly what was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(String);

/// In which capacity somebody ends a request: the part that they have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedAs {
    /// They take it back.
    Requester,
    /// They revoke it.
    Approver,
    /// They revoke it.
    Operator,
}

impl EndedAs {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requester => "requester",
            Self::Approver => "approver",
            Self::Operator => "operator",
        }
    }

    /// The part that this word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Requester, Self::Approver, Self::Operator]
            .into_iter()
            .find(|part| part.as_str() == word)
    }
}

/// Who ended a request or its window, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Who.
    pub by: PersonRef,
    /// In which capacity.
    pub ended_as: EndedAs,
    /// Why, as they wrote it.
    pub why: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The caller's ARN, if it was a signed call.
    pub principal: Option<String>,
}

impl Digest {
    /// The digest of a stored request, as unpadded base64url.
    #[must_use]
    pub fn of(stored: &str) -> Self {
        use sha2::{Digest as _, Sha256};
        Self(data_encoding::BASE64URL_NOPAD.encode(&Sha256::digest(stored.as_bytes())))
    }

    /// Takes a digest from a link; only its comparison with a computed one says anything.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// 43 characters of base64url.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestDraft {
    /// Reads the execution's input and adds everything that is wrong with it to `faults`.
    pub fn read(value: &Value, faults: &mut Faults) -> Self {
        let Some(mut object) = Object::new(value, "$", faults) else {
            return Self::default();
        };
        let n_before = faults.as_slice().len();
        let start = object.optional_text("start", faults).map(str::to_owned);
        let end = object.optional_text("end", faults).map(str::to_owned);
        let duration_text = object.optional_text("duration", faults);
        let duration = duration_text.and_then(|text| match time::read_duration(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                faults.add(error.fault, "$.duration", error.message);
                None
            }
        });
        let has_end = object.optional("end").is_some();
        let has_duration = object.optional("duration").is_some();
        if has_end == has_duration {
            faults.add(
                FaultName::ConflictingFields,
                "$",
                "say how long: give either \"end\" or \"duration\", not both and not neither",
            );
        }
        let times_readable = faults.as_slice().len() == n_before;
        let target = object
            .text("target", faults)
            .and_then(|text| named(TargetId::new(text), "$.target", faults));
        let role = object
            .text("role", faults)
            .and_then(|text| named(RoleName::new(text), "$.role", faults));
        let requester = object
            .text("requester", faults)
            .and_then(|text| named(PersonId::new(text), "$.requester", faults));
        let reason = object
            .text("reason", faults)
            .and_then(|text| read_reason(text, faults));
        let dry_run = object.optional_flag("dry_run", faults).unwrap_or(false);
        let break_glass = object
            .optional_flag("break_glass", faults)
            .unwrap_or_default();
        object.finish(faults);
        Self {
            target,
            role,
            requester,
            reason,
            dry_run,
            break_glass,
            start,
            end,
            duration,
            times_readable,
        }
    }

    /// Resolves the draft against what the catalogue says. `None` if anything is wrong with it.
    pub fn resolve(
        &self,
        found: &Found,
        request_id: RequestId,
        execution_arn: &str,
        requester_proof: RequesterProof,
        now: DateTime<Utc>,
        faults: &mut Faults,
    ) -> Option<Request> {
        let place = known(
            self.target.as_ref(),
            found.place.as_ref(),
            FaultName::UnknownTarget,
            "$.target",
            "choose a database or an account that the catalogue has",
            faults,
        );
        let policy = match (&self.target, place) {
            (Some(_), None) => None,
            _ => known(
                self.role.as_ref(),
                found.role.as_ref(),
                FaultName::UnknownRole,
                "$.role",
                "choose a role that the catalogue has for this target",
                faults,
            ),
        };
        let requester = known(
            self.requester.as_ref(),
            self.requester.as_ref().and_then(|id| found.people.get(id)),
            FaultName::UnknownRequester,
            "$.requester",
            "give your own id as the catalogue has it",
            faults,
        );
        if requester_proof.is_claim()
            && requester.is_some_and(|(person, _)| person.principals.is_empty())
        {
            faults.add(
                FaultName::UnknownRequester,
                "$.requester",
                "ask the platform team to list your IAM principals in your document: without them nothing can confirm who you are",
            );
        }
        if let (Some((place, _)), Some((policy, _))) = (place, policy) {
            check_kind(place, policy, faults);
        }
        let asked_for = self.role.iter().map(RoleName::as_str);
        let granted = policy.map_or_else(Vec::new, |(policy, _)| policy.grant.roles());
        if let Some(database) = place.and_then(|(place, _)| place.database())
            && asked_for
                .chain(granted)
                .any(|role| role == database.opener.user || role == database.closer.user)
        {
            faults.add(
                FaultName::ProtectedRole,
                "$.role",
                "choose another role; this one is Latchkey's own login",
            );
        }
        if let (Some((policy, _)), Some((requester, _))) = (policy, requester)
            && policy.credential == RoleCredential::PerWindow
            && requester.principals.is_empty()
        {
            faults.add(
                FaultName::NoPrincipals,
                "$.requester",
                "ask the platform team to name your IAM user or role in your document; only that may read the window's password",
            );
        }
        if let (Some((policy, _)), Some((requester, _))) = (policy, requester)
            && policy.grant.assume_role().is_some()
            && requester.principals.is_empty()
        {
            faults.add(
                FaultName::NoPrincipals,
                "$.requester",
                "ask the platform team to name your IAM user or role in your document; that is what may assume the role",
            );
        }
        let zone = place.and_then(|(place, _)| place.time_zone());
        let window = self.resolve_window(zone, policy.map(|(policy, _)| policy), now, faults);
        let approvers = policy.map(|(policy, _)| self.resolve_approvers(policy, found, faults));
        let break_glass = match (&self.requester, policy) {
            (Some(requester), Some((policy, _))) if self.break_glass => break_glass::resolve(
                policy.break_glass.as_ref(),
                requester,
                &requester_proof,
                window.as_ref(),
                found,
                now,
                faults,
            ),
            _ => None,
        };

        if !faults.is_empty() {
            return None;
        }
        let (place, place_version) = place?;
        let (policy, policy_version) = policy?;
        let (requester, _) = requester?;
        let (target, role, window) = (self.target.clone()?, self.role.clone()?, window?);
        let deadline = now + Duration::seconds(policy.approval_deadline_seconds);
        // Approved later than this, a window with a fixed end would be too short.
        let least = Duration::seconds(policy.min_duration_seconds);
        let decide_by = window
            .fixed_end()
            .map_or(deadline, |end| deadline.min(end - least));
        let mut catalogue_versions = BTreeMap::from([
            (format!("{}/{target}", place.folder()), *place_version),
            (format!("roles/{target}/{role}"), *policy_version),
        ]);
        catalogue_versions.extend(
            found
                .people
                .iter()
                .map(|(id, (_, version))| (format!("people/{id}"), *version)),
        );
        Some(Request {
            request_id,
            execution_arn: execution_arn.to_owned(),
            requested_at: now,
            target,
            role,
            grant: policy.grant.clone(),
            requester: PersonRef::of(requester),
            requester_proof,
            reason: self.reason.clone()?,
            window,
            decide_by: time::round_down(decide_by),
            approvers: approvers?,
            // The vote that stands in place of approvals is the requester's own.
            required_approvals: if break_glass.is_some() {
                1
            } else {
                policy.required_approvals
            },
            min_duration_seconds: policy.min_duration_seconds,
            mode: policy.mode,
            credential: policy.credential,
            requester_principals: requester.principals.clone(),
            operators: people_of(&policy.operators, found),
            shared: policy.shared,
            deciding: policy.decide_by,
            place: place.clone(),
            break_glass,
            catalogue_versions,
        })
    }

    /// Whether `requester` could ask for the role of `policy` at all, for the shortest window and as soon as approved.
    #[must_use]
    pub fn may_ask_for(
        target: &TargetId,
        place: &Place,
        policy: &RolePolicy,
        requester: &Person,
        people: &[Person],
        now: DateTime<Utc>,
    ) -> bool {
        let draft = Self {
            target: Some(target.clone()),
            role: Some(policy.role.clone()),
            requester: Some(requester.id.clone()),
            reason: Some(String::new()),
            duration: Some(Duration::seconds(policy.min_duration_seconds)),
            times_readable: true,
            ..Self::default()
        };
        let named = people
            .iter()
            .filter(|person| person.id == requester.id || policy.approvers.contains(&person.id));
        let found = Found {
            place: Some((place.clone(), 0)),
            role: Some((policy.clone(), 0)),
            people: named
                .map(|person| (person.id.clone(), (person.clone(), 0)))
                .collect(),
        };
        let proof = RequesterProof::Verified {
            principal: String::new(),
        };
        let id = RequestId::of_execution("", 0);
        draft
            .resolve(&found, id, "", proof, now, &mut Faults::new())
            .is_some()
    }

    fn resolve_window(
        &self,
        zone: Option<Tz>,
        policy: Option<&RolePolicy>,
        now: DateTime<Utc>,
        faults: &mut Faults,
    ) -> Option<WindowSpec> {
        if !self.times_readable {
            return None;
        }
        let read = |text: &Option<String>, path: &str, faults: &mut Faults| match text {
            None => Ok(None),
            Some(text) => match time::read_time(text, zone) {
                Ok(time) => Ok(Some(time)),
                Err(error) => {
                    faults.add(error.fault, path, error.message);
                    Err(())
                }
            },
        };
        let start = read(&self.start, "$.start", faults);
        let end = read(&self.end, "$.end", faults);
        let (start, end) = (start.ok()?, end.ok()?);
        let spec = match (
            start,
            end.or_else(|| Some(start? + self.duration?)),
            self.duration,
        ) {
            (Some(start), Some(end), _) => {
                let Some(window) = Window::new(start, end) else {
                    faults.add(
                        FaultName::EndNotAfterStart,
                        if self.end.is_some() {
                            "$.end"
                        } else {
                            "$.duration"
                        },
                        "give an end that is at least one whole second after the start",
                    );
                    return None;
                };
                WindowSpec::Fixed { window }
            }
            (None, Some(end), _) => WindowSpec::UntilEnd {
                end: time::round_down(end),
            },
            (None, None, Some(duration)) => WindowSpec::ForDuration {
                seconds: duration.num_seconds(),
            },
            (_, None, _) => return None,
        };
        let n_before = faults.as_slice().len();
        check_limits(&spec, start, policy, now, faults);
        (faults.as_slice().len() == n_before).then_some(spec)
    }

    fn resolve_approvers(
        &self,
        policy: &RolePolicy,
        found: &Found,
        faults: &mut Faults,
    ) -> Vec<PersonRef> {
        let approvers: Vec<_> = policy
            .approvers
            .iter()
            .filter(|id| Some(*id) != self.requester.as_ref())
            .filter_map(|id| found.people.get(id))
            .map(|(person, _)| PersonRef::of(person))
            .collect();
        // Nobody is asked for a window without approval.
        if !self.break_glass && approvers.len() < usize::from(policy.required_approvals) {
            faults.add(
                FaultName::TooFewApprovers,
                "$.role",
                format!(
                    "ask the platform team to name more approvers: {} must approve, and without the requester {} can",
                    policy.required_approvals,
                    approvers.len()
                ),
            );
        }
        approvers
    }
}

/// Those of them that the catalogue has.
fn people_of(ids: &[PersonId], found: &Found) -> Vec<PersonRef> {
    ids.iter()
        .filter_map(|id| found.people.get(id))
        .map(|(person, _)| PersonRef::of(person))
        .collect()
}

/// The kind of access must be one that this kind of place has.
fn check_kind(place: &Place, policy: &RolePolicy, faults: &mut Faults) {
    match (&policy.grant, place) {
        (Grant::Login | Grant::Membership(_), Place::Database(_)) => {}
        (Grant::AssumeRole(grant), Place::Account(account)) if grant.account() == account.id => {}
        (Grant::AssumeRole(_), Place::Account(_)) => faults.add(
            FaultName::InvalidValue,
            "$.role",
            "ask the platform team to mend the catalogue: the role to assume is in another account than the target",
        ),
        (Grant::Login | Grant::Membership(_), Place::Account(_))
        | (Grant::AssumeRole(_), Place::Database(_)) => faults.add(
            FaultName::InvalidValue,
            "$.role",
            "ask the platform team to mend the catalogue: a \"login\" or a \"membership\" belongs to a database, an \"assume-role\" to an account",
        ),
    }
}

fn check_limits(
    spec: &WindowSpec,
    start: Option<DateTime<Utc>>,
    policy: Option<&RolePolicy>,
    now: DateTime<Utc>,
    faults: &mut Faults,
) {
    if spec.fixed_end().is_some_and(|end| end <= now) {
        faults.add(
            FaultName::EndInThePast,
            "$.end",
            "give an end that is still to come",
        );
        return;
    }
    let Some(policy) = policy else { return };
    let length = match *spec {
        WindowSpec::Fixed { window } => window.length(),
        WindowSpec::UntilEnd { end } => end - now,
        WindowSpec::ForDuration { seconds } => Duration::seconds(seconds),
    };
    let shortest = Duration::seconds(policy.min_duration_seconds);
    // What could still be open of it: the past does not count.
    let left = spec.fixed_end().map_or(length, |end| length.min(end - now));
    if left < shortest {
        faults.add(
            FaultName::WindowTooShort,
            "$",
            format!(
                "ask for at least {}; of this window {} can still be used",
                iso(shortest),
                iso(left)
            ),
        );
    }
    let longest = Duration::seconds(policy.max_duration_seconds);
    if length > longest {
        faults.add(
            FaultName::WindowTooLong,
            "$",
            format!(
                "ask for at most {}; this window lasts {}",
                iso(longest),
                iso(length)
            ),
        );
    }
    let furthest = Duration::seconds(policy.max_ahead_seconds);
    if start.is_some_and(|start| start - now > furthest) {
        faults.add(
            FaultName::StartTooFarAhead,
            "$.start",
            format!("choose a start within {} from now", iso(furthest)),
        );
    }
}

/// ISO 8601 in days, hours, minutes and whole seconds (cut), as the catalogue writes durations.
pub(crate) fn iso(duration: Duration) -> String {
    let seconds = duration.num_seconds();
    let parts = [
        (seconds / 3600, 'H'),
        (seconds / 60 % 60, 'M'),
        (seconds % 60, 'S'),
    ];
    let text: String = parts
        .iter()
        .filter(|(n, _)| *n != 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() {
        "PT0S".to_owned()
    } else {
        format!("PT{text}")
    }
}

fn read_reason(text: &str, faults: &mut Faults) -> Option<String> {
    if text.trim().is_empty() {
        faults.add(
            FaultName::ReasonEmpty,
            "$.reason",
            "say why you need this access",
        );
        return None;
    }
    let n_characters = text.chars().count();
    if n_characters > MAX_REASON_CHARACTERS {
        faults.add(
            FaultName::ReasonTooLong,
            "$.reason",
            format!(
                "shorten the reason to {MAX_REASON_CHARACTERS} characters; it has {n_characters}"
            ),
        );
        return None;
    }
    Some(text.to_owned())
}

fn known<'a, N, T>(
    name: Option<&N>,
    document: Option<&'a T>,
    fault: FaultName,
    path: &str,
    message: &str,
    faults: &mut Faults,
) -> Option<&'a T> {
    if name.is_some() && document.is_none() {
        faults.add(fault, path, message);
    }
    document
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue;
    use crate::principal::Principal;

    pub(crate) fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-06-01T12:00:00Z")
            .unwrap()
            .with_timezone(&Utc)
    }

    pub(crate) fn found() -> Found {
        let mut faults = Faults::new();
        let database = json!({
            "host": "db.example.com", "database": "latchkey", "ca": "rds", "time_zone": "Europe/Berlin",
            "opener": {"user": "opens", "iam": true}, "closer": {"user": "closes", "iam": true}
        });
        let role = json!({
            "role": "breakglass", "approvers": ["alice", "bob", "riko"], "required_approvals": 1,
            "max_duration": "PT8H", "max_ahead": "P7D", "approval_deadline": "PT4H", "mode": "enforce"
        });
        let person = |id: &str| {
            let person = Person {
                id: PersonId::new(id).unwrap(),
                name: id.to_uppercase(),
                mailbox: format!("{id}@example.com"),
                language: Language::English,
                principals: vec![Principal::User(format!(
                    "arn:aws:iam::123456789012:user/{id}"
                ))],
            };
            (person.id.clone(), (person, 1))
        };
        Found {
            place: catalogue::Database::read(&database, &mut faults)
                .map(|database| (Place::from(database), 3)),
            role: RolePolicy::read(&role, &mut faults).map(|role| (role, 7)),
            people: ["alice", "bob", "riko"].map(person).into(),
        }
    }

    fn input() -> Value {
        json!({
            "target": "orders", "role": "breakglass", "start": "2026-06-01T13:00:00Z", "duration": "PT1H",
            "reason": "ticket 42", "requester": "riko"
        })
    }

    fn resolve(input: &Value) -> Result<Request, Vec<FaultName>> {
        let mut faults = Faults::new();
        let draft = RequestDraft::read(input, &mut faults);
        let id = RequestId::of_execution("arn", 0);
        let request = draft.resolve(
            &found(),
            id,
            "arn",
            RequesterProof::Claimed,
            now(),
            &mut faults,
        );
        match request {
            Some(request) if faults.is_empty() => Ok(request),
            _ => Err(faults
                .into_vec()
                .into_iter()
                .map(|fault| fault.name)
                .collect()),
        }
    }

    pub(crate) fn request() -> Request {
        resolve(&input()).unwrap()
    }

    fn changed(field: &str, value: Value) -> Value {
        let mut input = input();
        input[field] = value;
        input
    }

    #[test]
    fn a_sound_request_pins_what_it_was_resolved_against() {
        let request = request();
        let window = Window::new(now() + Duration::hours(1), now() + Duration::hours(2)).unwrap();
        assert_eq!(request.window, WindowSpec::Fixed { window });
        // A minute before the end: approved later, less than the shortest window would be left.
        assert_eq!(request.decide_by, now() + Duration::minutes(119));
        assert_eq!(request.catalogue_versions["roles/orders/breakglass"], 7);
        assert_eq!(request.catalogue_versions["databases/orders"], 3);
        assert_eq!(request.grant, Grant::Login);
    }

    #[test]
    fn a_stored_request_says_what_it_grants_unless_that_is_a_login() {
        let mut stored = serde_json::to_value(request()).unwrap();
        assert_eq!(stored.get("grant"), None);
        stored["grant"] = json!({"kind": "login"});
        assert_eq!(
            serde_json::from_value::<Request>(stored.clone()).unwrap(),
            request()
        );
        // Of a release to come: this one must not take it for a login.
        stored["grant"] = json!({"kind": "sudo"});
        assert!(serde_json::from_value::<Request>(stored).is_err());
    }

    #[test]
    fn a_windows_password_needs_somebody_who_may_read_it() {
        let id = RequestId::of_execution("arn", 0);
        let resolved = |credential, principals: &[Principal]| {
            let mut found = found();
            found.role.as_mut().unwrap().0.credential = credential;
            let riko = PersonId::new("riko").unwrap();
            found.people.get_mut(&riko).unwrap().0.principals = principals.to_vec();
            let mut faults = Faults::new();
            let draft = RequestDraft::read(&input(), &mut faults);
            let request = draft.resolve(
                &found,
                id.clone(),
                "arn",
                RequesterProof::Verified {
                    principal: String::new(),
                },
                now(),
                &mut faults,
            );
            let faults: Vec<_> = faults.as_slice().iter().map(|fault| fault.name).collect();
            (request, faults)
        };
        let riko = Principal::User("arn:aws:iam::123456789012:user/riko".to_owned());
        let (request, _) = resolved(RoleCredential::PerWindow, std::slice::from_ref(&riko));
        let request = request.unwrap();
        assert_eq!(request.credential, RoleCredential::PerWindow);
        assert_eq!(request.requester_principals, [riko]);
        let (request, faults) = resolved(RoleCredential::PerWindow, &[]);
        assert_eq!(faults, [FaultName::NoPrincipals]);
        assert_eq!(request, None);
        assert!(resolved(RoleCredential::Existing, &[]).0.is_some());
    }

    #[test]
    fn the_requester_is_not_among_those_who_decide() {
        let request = request();
        assert!(!request.may_decide(&PersonId::new("riko").unwrap()));
        assert!(request.may_decide(&PersonId::new("alice").unwrap()));
    }

    #[test]
    fn a_claim_needs_a_principal_that_can_confirm_it() {
        let mut found = found();
        if let Some((policy, _)) = &mut found.role {
            policy.credential = RoleCredential::Existing;
        }
        let riko = PersonId::new("riko").unwrap();
        if let Some((person, _)) = found.people.get_mut(&riko) {
            person.principals.clear();
        }
        let verified = RequesterProof::Verified {
            principal: "arn:aws:iam::123456789012:user/riko".to_owned(),
        };
        for (proof, is_taken) in [(RequesterProof::Claimed, false), (verified, true)] {
            let mut faults = Faults::new();
            let draft = RequestDraft::read(&input(), &mut faults);
            let id = RequestId::of_execution("arn", 0);
            let request = draft.resolve(&found, id, "arn", proof, now(), &mut faults);
            assert_eq!(request.is_some(), is_taken);
            let names: Vec<_> = faults.as_slice().iter().map(|fault| fault.name).collect();
            assert_eq!(names.contains(&FaultName::UnknownRequester), !is_taken);
        }
    }

    #[test]
    fn requester_approvers_and_operators_may_end_it() {
        let olga = PersonRef {
            id: PersonId::new("olga").unwrap(),
            name: "Olga".to_owned(),
            language: Language::English,
        };
        let request = Request {
            operators: vec![olga],
            ..request()
        };
        for (person, ended_as) in [
            ("riko", Some(EndedAs::Requester)),
            ("alice", Some(EndedAs::Approver)),
            ("olga", Some(EndedAs::Operator)),
            ("mallory", None),
        ] {
            let person = PersonId::new(person).unwrap();
            assert_eq!(request.may_end(&person), ended_as, "{person}");
        }
        assert!(!request.may_decide(&PersonId::new("olga").unwrap()));
    }

    #[test]
    fn each_fault_has_its_name() {
        for (field, value, fault) in [
            ("target", json!("unheard of"), FaultName::InvalidName),
            ("role", json!("pg_monitor"), FaultName::ProtectedRole),
            ("role", json!("closes"), FaultName::ProtectedRole),
            ("role", json!("x".repeat(64)), FaultName::InvalidName),
            ("requester", json!("mallory"), FaultName::UnknownRequester),
            ("reason", json!("  "), FaultName::ReasonEmpty),
            ("reason", json!("x".repeat(1001)), FaultName::ReasonTooLong),
            ("reason", json!(5), FaultName::WrongType),
            ("duration", json!("PT9H"), FaultName::WindowTooLong),
            ("duration", json!("PT59S"), FaultName::WindowTooShort),
            (
                "start",
                json!("2026-06-01T11:00:30Z"),
                FaultName::WindowTooShort,
            ),
            ("duration", json!(60), FaultName::WrongType),
            ("duration", json!("soon"), FaultName::InvalidDuration),
            (
                "end",
                json!("2026-06-01T14:00:00Z"),
                FaultName::ConflictingFields,
            ),
            ("duration", Value::Null, FaultName::ConflictingFields),
            (
                "start",
                json!("2026-06-09T13:00:00Z"),
                FaultName::StartTooFarAhead,
            ),
            (
                "start",
                json!("2026-06-01T01:00:00Z"),
                FaultName::EndInThePast,
            ),
            (
                "start",
                json!("2026-10-25T02:30:00"),
                FaultName::AmbiguousLocalTime,
            ),
            (
                "start",
                json!("2027-03-28T02:30:00"),
                FaultName::NonexistentLocalTime,
            ),
            ("approvers", json!(["riko"]), FaultName::UnknownField),
        ] {
            assert_eq!(
                resolve(&changed(field, value.clone())),
                Err(vec![fault]),
                "{field}: {value}"
            );
        }
        let mut reversed = changed("end", json!("2026-06-01T13:00:00.900Z"));
        reversed["duration"] = Value::Null;
        assert_eq!(resolve(&reversed), Err(vec![FaultName::EndNotAfterStart]));
    }

    #[test]
    fn all_faults_come_at_once() {
        let input = json!({
            "target": "orders", "role": "rds_superuser", "start": "later", "duration": "PT1H", "reason": "",
            "requester": "mallory", "ticket": 42
        });
        assert_eq!(
            resolve(&input),
            Err(vec![
                FaultName::ProtectedRole,
                FaultName::ReasonEmpty,
                FaultName::UnknownField,
                FaultName::UnknownRequester,
                FaultName::InvalidTime,
            ])
        );
    }

    #[test]
    fn without_a_start_the_window_begins_with_the_approval() {
        let request = resolve(&changed("start", Value::Null)).unwrap();
        assert_eq!(request.window, WindowSpec::ForDuration { seconds: 3600 });
        let mut until = changed("start", Value::Null);
        until["duration"] = Value::Null;
        until["end"] = json!("2026-06-01T18:00:00.7");
        let request = resolve(&until).unwrap();
        assert_eq!(
            request.window,
            WindowSpec::UntilEnd {
                end: now() + Duration::hours(4)
            }
        );
    }

    #[test]
    fn a_stored_request_reads_back_the_same() {
        let stored = serde_json::to_string(&request()).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&stored).unwrap(), request());
        assert_eq!(Digest::of(&stored).as_str().len(), 43);
    }

    #[test]
    fn durations_are_said_as_the_catalogue_writes_them() {
        assert_eq!(iso(Duration::seconds(28_800)), "PT8H");
        assert_eq!(iso(Duration::seconds(5_430)), "PT1H30M30S");
    }
}
