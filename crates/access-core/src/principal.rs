//! Which person of the catalogue an IAM principal is.
//!
//! The caller comes from AWS, as the ARN that API Gateway and CloudTrail report: an IAM user's, or a role session's
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns>). Names are compared
//! as they are written, upper and lower case apart, as IAM compares ARNs in policies.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalogue::Person;
use crate::document::{self, Object};
use crate::fault::{FaultName, Faults};
use crate::names::PersonId;

/// The partitions of AWS whose principals are known.
const PARTITIONS: [&str; 3] = ["aws", "aws-cn", "aws-us-gov"];

/// An IAM principal as a person's document lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// An IAM user, by its ARN with its path.
    User(String),
    /// Sessions of an IAM role.
    Role {
        /// The partition, such as `aws`.
        partition: String,
        /// The account, twelve digits.
        account: String,
        /// The role's name. Its path is no part of a session's ARN, and names are unique in an account without it.
        name: String,
        /// The only session that is this person, where something enforces that name; otherwise all sessions are.
        session_name: Option<String>,
    },
}

/// Why a caller is no person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    /// Neither an IAM user nor a session of a role: an account's root, a service, a federated user.
    #[error("{0} is neither an IAM user nor a session of an IAM role")]
    NeitherUserNorRole(String),
    /// No document lists it.
    #[error("no person of the catalogue lists {0} among their principals")]
    Unknown(String),
    /// More than one document lists it, so it tells nobody apart.
    #[error("{caller} is a principal of more than one person of the catalogue: {}", names(.people))]
    Ambiguous {
        /// The caller.
        caller: String,
        /// Everybody who lists it.
        people: BTreeSet<PersonId>,
    },
}

/// The one person whose document lists `caller`, an ARN that AWS reported. All sessions of a role are one person,
/// unless the document names the session; a caller that two people list is nobody.
///
/// # Errors
/// [`Nobody`], which says what to look for in the catalogue.
pub fn person_of<'a>(
    caller: &str,
    people: impl IntoIterator<Item = &'a Person>,
) -> Result<&'a Person, Nobody> {
    let Some(known) = Caller::read(caller) else {
        return Err(Nobody::NeitherUserNorRole(caller.to_owned()));
    };
    let matching: Vec<&Person> = people
        .into_iter()
        .filter(|person| person.principals.iter().any(|listed| known.is(listed)))
        .collect();
    let ids: BTreeSet<PersonId> = matching.iter().map(|person| person.id.clone()).collect();
    match (matching.first(), ids.len()) {
        (Some(person), 1) => Ok(person),
        (None, _) => Err(Nobody::Unknown(caller.to_owned())),
        (Some(_), _) => Err(Nobody::Ambiguous {
            caller: caller.to_owned(),
            people: ids,
        }),
    }
}

/// The account of an IAM role, by its ARN; `None` if it is none.
pub(crate) fn account_of_role(arn: &str) -> Option<&str> {
    is_role_arn(arn).then(|| Arn::read(arn).map(|arn| arn.account))?
}

/// Whether `arn` is the ARN of an IAM role of AWS.
pub(crate) fn is_role_arn(arn: &str) -> bool {
    matches!(read_arn(arn, None), Some(Principal::Role { .. }))
}

/// The pairs of people with a principal that could be either of them.
#[must_use]
pub fn clashes(people: &[Person]) -> Vec<(PersonId, PersonId)> {
    let mut clashes = Vec::new();
    for (i, one) in people.iter().enumerate() {
        for other in &people[i + 1..] {
            let clash = one.principals.iter().any(|principal| {
                other
                    .principals
                    .iter()
                    .any(|of_other| principal.overlaps(of_other))
            });
            if clash && one.id != other.id {
                clashes.push((one.id.clone(), other.id.clone()));
            }
        }
    }
    clashes
}

impl Principal {
    /// The account that it belongs to, twelve digits.
    #[must_use]
    pub fn account(&self) -> &str {
        match self {
            Self::User(arn) => Arn::read(arn).map_or("", |arn| arn.account),
            Self::Role { account, .. } => account,
        }
    }

    /// The name of the user or role, without its path.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(arn) => arn.rsplit('/').next().unwrap_or_default(),
            Self::Role { name, .. } => name,
        }
    }

    /// Its ARN as people know it; of a role, without its path, and with the session that alone is meant.
    #[must_use]
    pub fn arn(&self) -> String {
        match self {
            Self::User(arn) => arn.clone(),
            Self::Role {
                partition,
                account,
                name,
                session_name,
            } => match session_name {
                None => format!("arn:{partition}:iam::{account}:role/{name}"),
                Some(session) => {
                    format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}")
                }
            },
        }
    }

    /// Whether `caller`, an ARN that AWS reported, is this principal.
    #[must_use]
    pub fn is(&self, caller: &str) -> bool {
        Caller::read(caller).is_some_and(|known| known.is(self))
    }

    /// Reads one entry of a person's list at `path`; `None` if a fault was found.
    pub fn read(value: &Value, path: &str, faults: &mut Faults) -> Option<Self> {
        if !value.is_object() {
            let arn = document::text(value, path, faults)?;
            return read_arn(arn, None).or_else(|| {
                let message = "give the ARN of an IAM user or role of AWS, or {\"role\": its ARN, \"session_name\": \"…\"}";
                faults.add(FaultName::InvalidValue, path, message);
                None
            });
        }
        let mut object = Object::new(value, path, faults)?;
        let role = object.text("role", faults);
        let session_name = object.text("session_name", faults);
        let session_path = object.path_of("session_name");
        let role_path = object.path_of("role");
        object.finish(faults);
        let (role, session_name) = (role?, session_name?);
        if !is_session_name(session_name) {
            let message = "give the session's whole name: 2 to 64 of the characters A-Z, a-z, 0-9 and _+=,.@-";
            faults.add(FaultName::InvalidValue, session_path, message);
            return None;
        }
        let principal =
            read_arn(role, Some(session_name)).filter(|read| matches!(read, Self::Role { .. }));
        if principal.is_none() {
            faults.add(
                FaultName::InvalidValue,
                role_path,
                "give the ARN of an IAM role",
            );
        }
        principal
    }

    /// Whether a caller could be both.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::User(one), Self::User(other)) => one == other,
            (
                Self::Role {
                    partition,
                    account,
                    name,
                    session_name,
                },
                Self::Role {
                    partition: partition2,
                    account: account2,
                    name: name2,
                    session_name: session_name2,
                },
            ) => {
                (partition, account, name) == (partition2, account2, name2)
                    && (session_name.is_none()
                        || session_name2.is_none()
                        || session_name == session_name2)
            }
            _ => false,
        }
    }
}

fn names(people: &BTreeSet<PersonId>) -> String {
    let names: Vec<_> = people.iter().map(PersonId::as_str).collect();
    names.join(", ")
}

/// A user, or a role with every session or with one, by an ARN of IAM.
fn read_arn(arn: &str, session_name: Option<&str>) -> Option<Principal> {
    let parts = Arn::read(arn)?;
    if parts.service != "iam" {
        return None;
    }
    let (kind, path) = parts.resource.split_once('/')?;
    if path.split('/').any(|part| !is_path_part(part)) {
        return None;
    }
    let name = path.rsplit('/').next()?;
    match kind {
        "user" if session_name.is_none() => Some(Principal::User(arn.to_owned())),
        "role" => Some(Principal::Role {
            partition: parts.partition.to_owned(),
            account: parts.account.to_owned(),
            name: name.to_owned(),
            session_name: session_name.map(str::to_owned),
        }),
        _ => None,
    }
}

/// Who calls, as AWS reports it.
enum Caller<'a> {
    User(&'a str),
    Session {
        partition: &'a str,
        account: &'a str,
        role: &'a str,
        session_name: &'a str,
    },
}

impl<'a> Caller<'a> {
    fn read(arn: &'a str) -> Option<Self> {
        let parts = Arn::read(arn)?;
        let (kind, rest) = parts.resource.split_once('/')?;
        match (parts.service, kind) {
            ("iam", "user") => Some(Self::User(arn)),
            ("sts", "assumed-role") => {
                let (role, session_name) = rest.split_once('/')?;
                let whole =
                    !role.is_empty() && !session_name.is_empty() && !session_name.contains('/');
                whole.then_some(Self::Session {
                    partition: parts.partition,
                    account: parts.account,
                    role,
                    session_name,
                })
            }
            _ => None,
        }
    }

    fn is(&self, listed: &Principal) -> bool {
        match (self, listed) {
            (Self::User(arn), Principal::User(listed)) => arn == listed,
            (
                Self::Session {
                    partition,
                    account,
                    role,
                    session_name,
                },
                Principal::Role {
                    partition: partition2,
                    account: account2,
                    name,
                    session_name: only,
                },
            ) => {
                partition == partition2
                    && account == account2
                    && role == name
                    && only.as_deref().is_none_or(|only| only == *session_name)
            }
            _ => false,
        }
    }
}

/// `arn:PARTITION:SERVICE::ACCOUNT:RESOURCE`, without a region.
struct Arn<'a> {
    partition: &'a str,
    service: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    fn read(arn: &'a str) -> Option<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, resource] = parts[..] else {
            return None;
        };
        let of_twelve_digits =
            account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        (of_twelve_digits && PARTITIONS.contains(&partition)).then_some(Self {
            partition,
            service,
            account,
            resource,
        })
    }
}

/// Names and paths of users and roles without wildcards, which only policies know
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).
fn is_path_part(part: &str) -> bool {
    !part.is_empty()
        && part
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'?' | b':'))
}

/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
fn is_session_name(name: &str) -> bool {
    (2..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn person(id: &str, principals: Value) -> Person {
        let document = json!({"id": id, "name": id, "mailbox": format!("{id}@example.com"), "principals": principals});
        let mut faults = Faults::new();
        let person = Person::read(&document, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        person.unwrap()
    }

    fn people() -> Vec<Person> {
        vec![
            person(
                "alice",
                json!([
                    "arn:aws:iam::123456789012:user/staff/alice",
                    "arn:aws:iam::123456789012:role/Alice"
                ]),
            ),
            person(
                "bob",
                json!([
                    "arn:aws:iam::123456789012:role/team/on-call/Bob",
                    "arn:aws-cn:iam::123456789012:user/bob"
                ]),
            ),
            person(
                "carol",
                json!([{"role": "arn:aws:iam::123456789012:role/Ops", "session_name": "carol@example.com"}]),
            ),
            person(
                "dave",
                json!([{"role": "arn:aws:iam::123456789012:role/Ops", "session_name": "dave@example.com"}]),
            ),
        ]
    }

    #[test]
    fn one_principal_is_one_person() {
        let people = people();
        for (caller, expected) in [
            ("arn:aws:iam::123456789012:user/staff/alice", Some("alice")),
            ("arn:aws-cn:iam::123456789012:user/bob", Some("bob")),
            // All sessions of a role are one person; a session's ARN has no path.
            (
                "arn:aws:sts::123456789012:assumed-role/Alice/laptop",
                Some("alice"),
            ),
            (
                "arn:aws:sts::123456789012:assumed-role/Alice/bob",
                Some("alice"),
            ),
            ("arn:aws:sts::123456789012:assumed-role/Bob/x1", Some("bob")),
            // Unless the catalogue names the session.
            (
                "arn:aws:sts::123456789012:assumed-role/Ops/carol@example.com",
                Some("carol"),
            ),
            (
                "arn:aws:sts::123456789012:assumed-role/Ops/dave@example.com",
                Some("dave"),
            ),
            (
                "arn:aws:sts::123456789012:assumed-role/Ops/Carol@example.com",
                None,
            ),
            ("arn:aws:sts::123456789012:assumed-role/Ops/laptop", None),
            // Another partition, account, path or spelling is another principal.
            ("arn:aws:iam::123456789012:user/bob", None),
            ("arn:aws:iam::210987654321:user/staff/alice", None),
            ("arn:aws:iam::123456789012:user/alice", None),
            ("arn:aws:iam::123456789012:user/staff/Alice", None),
            ("arn:aws:sts::123456789012:assumed-role/alice/laptop", None),
            ("arn:aws:sts::123456789012:assumed-role/AliceX/laptop", None),
        ] {
            let found = person_of(caller, &people)
                .ok()
                .map(|person| person.id.as_str());
            assert_eq!(found, expected, "{caller}");
        }
    }

    #[test]
    fn what_is_neither_user_nor_session_is_nobody() {
        let people = people();
        for caller in [
            "",
            "alice",
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:role/Alice",
            "arn:aws:sts::123456789012:federated-user/alice",
            "arn:aws:sts::123456789012:assumed-role/Alice",
            "arn:aws:sts::123456789012:assumed-role/Alice/",
            "arn:aws:sts::123456789012:assumed-role/Alice/laptop/more",
            "arn:aws:sts:us-east-1:123456789012:assumed-role/Alice/laptop",
            "arn:evil:iam::123456789012:user/staff/alice",
            "arn:aws:iam::12345678901:user/staff/alice",
            "ARN:aws:iam::123456789012:user/staff/alice",
        ] {
            let nobody = person_of(caller, &people);
            assert_eq!(
                nobody,
                Err(Nobody::NeitherUserNorRole(caller.to_owned())),
                "{caller}"
            );
        }
    }

    #[test]
    fn a_principal_of_two_people_is_nobody() {
        let mut people = people();
        people.push(person("eve", json!(["arn:aws:iam::123456789012:role/Ops"])));
        let carol = "arn:aws:sts::123456789012:assumed-role/Ops/carol@example.com";
        let Err(Nobody::Ambiguous { people: both, .. }) = person_of(carol, &people) else {
            panic!("two people list it");
        };
        assert_eq!(
            both.iter().map(PersonId::as_str).collect::<Vec<_>>(),
            ["carol", "eve"]
        );
        let other = "arn:aws:sts::123456789012:assumed-role/Ops/laptop";
        assert_eq!(person_of(other, &people).unwrap().id.as_str(), "eve");
        let clashing: Vec<_> = clashes(&people)
            .iter()
            .map(|(one, other)| format!("{one} {other}"))
            .collect();
        assert_eq!(clashing, ["carol eve", "dave eve"]);
        // Twice in one document is no other person.
        let twice = [person(
            "alice",
            json!(["arn:aws:iam::123456789012:role/A", {"role": "arn:aws:iam::123456789012:role/A", "session_name": "alice"}]),
        )];
        assert!(person_of("arn:aws:sts::123456789012:assumed-role/A/alice", &twice).is_ok());
        assert_eq!(clashes(&twice), []);
    }

    #[test]
    fn each_slip_in_a_principal_is_named() {
        for (entry, path) in [
            (json!("alice"), "$"),
            (json!(7), "$"),
            (json!("arn:aws:iam::123456789012:role/*"), "$"),
            (json!("arn:aws:iam::123456789012:group/ops"), "$"),
            (json!("arn:aws:iam::123456789012:root"), "$"),
            (json!("arn:aws:iam::123456789012:user/"), "$"),
            (
                json!("arn:aws:sts::123456789012:assumed-role/Ops/alice"),
                "$",
            ),
            (
                json!({"role": "arn:aws:iam::123456789012:user/alice", "session_name": "alice"}),
                "$.role",
            ),
            (
                json!({"role": "arn:aws:iam::123456789012:role/Ops", "session_name": "a"}),
                "$.session_name",
            ),
            (
                json!({"role": "arn:aws:iam::123456789012:role/Ops", "session_name": "*@example.com"}),
                "$.session_name",
            ),
            (
                json!({"role": "arn:aws:iam::123456789012:role/Ops"}),
                "$.session_name",
            ),
            (json!({"session_name": "alice"}), "$.role"),
        ] {
            let mut faults = Faults::new();
            assert_eq!(Principal::read(&entry, "$", &mut faults), None, "{entry}");
            let paths: Vec<_> = faults
                .as_slice()
                .iter()
                .map(|fault| fault.path.as_str())
                .collect();
            assert_eq!(paths, [path], "{entry}");
        }
    }
}
