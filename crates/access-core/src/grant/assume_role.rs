//! The kind `assume-role`: who gets which policy, and what it says. Pure: a policy is data made from the request.
//!
//! Two policies make a window, both named after its request. The name is also the source identity of its sessions.
//!
//! - The requester's IAM user or role may assume the role from the window's start to its end, if it sets that
//!   source identity ([`allow`]). The date ends new sessions only.
//! - The role itself denies everything to sessions of that source identity from the end on ([`deny`]). It stands
//!   before the first, so that sessions which live on are worth nothing after the end, whatever still runs of
//!   Latchkey. Other windows have other source identities.
//!
//! A source identity cannot be changed once it is set, not even by assuming a further role
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>).

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::document::Object;
use crate::fault::{FaultName, Faults};
use crate::names::RequestId;
use crate::principal::{self, Principal};
use crate::request::{Request, RequesterProof};
use crate::time;
use crate::window::Window;

/// What the names of policies begin with, before the request's id.
const NAME_PREFIX: &str = "latchkey-";

/// The shortest and the longest that AWS lets a role's sessions last, in seconds
/// (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>).
const SESSION_SECONDS: std::ops::RangeInclusive<i64> = 3_600..=43_200;

/// The most characters, without white space, of all inline policies of a user together
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).
pub const MAX_USER_CHARACTERS: usize = 2_048;

/// The same for a role.
pub const MAX_ROLE_CHARACTERS: usize = 10_240;

/// Which role may be assumed, and what becomes of its sessions at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssumeRole {
    /// The role's ARN.
    pub role_arn: String,
    /// The longest that its sessions may last, in seconds: its MaxSessionDuration.
    pub max_session_seconds: i64,
    /// What becomes of sessions that live at the end.
    pub live_sessions: LiveSessions,
}

/// What becomes of sessions that live at the end of their window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveSessions {
    /// The role denies them everything.
    Denied,
    /// They go on until they expire, because Latchkey may not change the role.
    RunOut,
}

/// The characters of policies that an IAM user or role has room for.
#[must_use]
pub fn max_characters(grantee: &Principal) -> usize {
    match grantee {
        Principal::User(_) => MAX_USER_CHARACTERS,
        Principal::Role { .. } => MAX_ROLE_CHARACTERS,
    }
}

/// The name of a window's policies, which is the source identity of its sessions too.
#[must_use]
pub fn policy_name(id: &RequestId) -> String {
    format!("{NAME_PREFIX}{id}")
}

/// The request that a policy of this name belongs to; `None` if it is none of Latchkey's.
#[must_use]
pub fn request_of(policy_name: &str) -> Option<RequestId> {
    RequestId::new(policy_name.strip_prefix(NAME_PREFIX)?).ok()
}

/// Who gets the policy: the principal that signed the request, or the first of the requester's document if none did.
#[must_use]
pub fn grantee(request: &Request) -> Option<&Principal> {
    let mut principals = request.requester_principals.iter();
    match &request.requester_proof {
        RequesterProof::Verified { principal } => principals.find(|listed| listed.is(principal)),
        RequesterProof::Claimed => principals.next(),
    }
}

/// What lets `grantee` assume the role in `window`.
#[must_use]
pub fn allow(grant: &AssumeRole, grantee: &Principal, id: &RequestId, window: Window) -> Value {
    let mut condition = json!({
        "DateGreaterThanEquals": {"aws:CurrentTime": instant(window.start())},
        "DateLessThan": {"aws:CurrentTime": instant(window.end())},
        "StringEquals": {"sts:SourceIdentity": policy_name(id)},
    });
    // Of a role that people share, only the sessions that are this person.
    if let Principal::Role {
        session_name: Some(session_name),
        ..
    } = grantee
    {
        condition["StringLike"] = json!({"aws:userid": format!("*:{session_name}")});
    }
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
            "Resource": grant.role_arn,
            "Condition": condition,
        }],
    })
}

/// What ends the sessions of a window: the role denies them everything from `from` on.
#[must_use]
pub fn deny(id: &RequestId, from: DateTime<Utc>) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "StringEquals": {"aws:SourceIdentity": policy_name(id)},
                "DateGreaterThanEquals": {"aws:CurrentTime": instant(from)},
            },
        }],
    })
}

/// From when on a policy that [`deny`] made denies; `None` if it did not make it.
#[must_use]
pub fn denied_from(id: &RequestId, policy: &Value) -> Option<DateTime<Utc>> {
    let from = date(policy, "DateGreaterThanEquals")?;
    (deny(id, from) == *policy).then_some(from)
}

/// When a policy of [`allow`] ends; `None` if it does not say.
#[must_use]
pub fn allowed_until(policy: &Value) -> Option<DateTime<Utc>> {
    date(policy, "DateLessThan")
}

fn date(policy: &Value, operator: &str) -> Option<DateTime<Utc>> {
    let text = policy["Statement"][0]["Condition"][operator]["aws:CurrentTime"].as_str()?;
    let at = DateTime::parse_from_rfc3339(text).ok()?;
    Some(at.with_timezone(&Utc))
}

/// When the role may stop denying the sessions of a window that was over at `over_at`: none of them is left.
#[must_use]
pub fn deny_may_go_at(grant: &AssumeRole, over_at: DateTime<Utc>) -> DateTime<Utc> {
    over_at + Duration::seconds(grant.max_session_seconds)
}

/// How many characters of a policy count against the limit.
#[must_use]
pub fn n_characters(policy: &str) -> usize {
    policy.chars().filter(|c| !c.is_whitespace()).count()
}

/// The command with which the requester assumes the role, for a shell.
#[must_use]
pub fn command(grant: &AssumeRole, id: &RequestId) -> String {
    let name = policy_name(id);
    format!(
        "aws sts assume-role --role-arn {} --role-session-name {name} --source-identity {name}",
        quoted(&grant.role_arn)
    )
}

/// The commands with which an administrator of the accounts ends a window at `now`, for a shell. `grantee` is
/// [`Principal::arn`] of whoever has the policy.
#[must_use]
pub fn commands_to_end(
    grant: &AssumeRole,
    grantee: &str,
    id: &RequestId,
    now: DateTime<Utc>,
) -> Vec<String> {
    let name = policy_name(id);
    let (kind, grantee) = if let Some((_, path)) = grantee.split_once(":user/") {
        ("user", path.rsplit('/').next())
    } else {
        ("role", grantee.split('/').nth(1))
    };
    let grantee = quoted(grantee.unwrap_or_default());
    let mut commands = vec![format!(
        "aws iam delete-{kind}-policy --{kind}-name {grantee} --policy-name {name}"
    )];
    if grant.live_sessions == LiveSessions::Denied {
        commands.push(format!(
            "aws iam put-role-policy --role-name {} --policy-name {name} --policy-document {}",
            quoted(grant.role_name()),
            quoted(&deny(id, now).to_string())
        ));
    }
    commands
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether every statement of a trust policy that lets somebody assume the role requires a source identity of
/// Latchkey's. Only then is every session that a window gives under its Deny.
///
/// It takes the one form that the README gives: `StringLike` with `sts:SourceIdentity` of `latchkey-*` alone.
#[must_use]
pub fn trust_requires_source_identity(trust: &Value) -> bool {
    let statements = match &trust["Statement"] {
        Value::Array(statements) => statements.as_slice(),
        one @ Value::Object(_) => std::slice::from_ref(one),
        _ => return false,
    };
    let mut allowing = statements
        .iter()
        .filter(|statement| statement["Effect"] == "Allow")
        .peekable();
    allowing.peek().is_some()
        && allowing.all(|statement| {
            let required = &statement["Condition"]["StringLike"]["sts:SourceIdentity"];
            *required == json!(format!("{NAME_PREFIX}*"))
                || *required == json!([format!("{NAME_PREFIX}*")])
        })
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl AssumeRole {
    /// How long a session may go on after the end of its window, in seconds; 0 if the role denies it everything.
    #[must_use]
    pub fn overrun_seconds(&self) -> i64 {
        match self.live_sessions {
            LiveSessions::Denied => 0,
            LiveSessions::RunOut => self.max_session_seconds,
        }
    }

    /// The account of the role, twelve digits.
    #[must_use]
    pub fn account(&self) -> &str {
        principal::account_of_role(&self.role_arn).unwrap_or_default()
    }

    /// The role's name, without its path.
    #[must_use]
    pub fn role_name(&self) -> &str {
        self.role_arn.rsplit('/').next().unwrap_or_default()
    }

    /// Reads the field `assume_role` of a role document; `None` if a fault was found.
    pub(crate) fn read(object: &mut Object<'_>, faults: &mut Faults) -> Option<Self> {
        let value = object.required("assume_role", faults)?;
        let path = object.path_of("assume_role");
        let mut field = Object::new(value, &path, faults)?;
        let role_arn = field.text("role", faults).map(str::to_owned);
        if let Some(arn) = &role_arn
            && !principal::is_role_arn(arn)
        {
            faults.add(
                FaultName::InvalidValue,
                format!("{path}.role"),
                "give the ARN of an IAM role",
            );
        }
        let max_session = field.text("max_session", faults).and_then(|text| {
            let seconds = time::read_duration(text).ok().map(|it| it.num_seconds());
            let seconds = seconds.filter(|seconds| SESSION_SECONDS.contains(seconds));
            if seconds.is_none() {
                faults.add(
                    FaultName::InvalidDuration,
                    format!("{path}.max_session"),
                    "give the role's MaxSessionDuration, from PT1H to PT12H",
                );
            }
            seconds
        });
        let live_sessions = match field.optional_text("live_sessions", faults) {
            None | Some("denied") => Some(LiveSessions::Denied),
            Some("run_out") => Some(LiveSessions::RunOut),
            Some(_) => {
                faults.add(
                    FaultName::InvalidValue,
                    format!("{path}.live_sessions"),
                    "give \"denied\" or \"run_out\"; \"denied\" if absent",
                );
                None
            }
        };
        field.finish(faults);
        Some(Self {
            role_arn: role_arn?,
            max_session_seconds: max_session?,
            live_sessions: live_sessions?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn id() -> RequestId {
        RequestId::of_execution("arn", 1)
    }

    fn grant() -> AssumeRole {
        AssumeRole {
            role_arn: "arn:aws:iam::210987654321:role/latchkey/privileged/OrdersAdmin".to_owned(),
            max_session_seconds: 3_600,
            live_sessions: LiveSessions::Denied,
        }
    }

    fn user() -> Principal {
        Principal::User("arn:aws:iam::123456789012:user/staff/dave".to_owned())
    }

    #[test]
    fn a_policy_is_named_after_its_request_and_tells_it_again() {
        let name = policy_name(&id());
        assert_eq!(request_of(&name), Some(id()));
        for other in [
            "latchkey-",
            "latchkey-x",
            "other-r-0123456789abcdef",
            "r-0123456789abcdef",
        ] {
            assert_eq!(request_of(other), None, "{other}");
        }
    }

    #[test]
    fn both_policies_say_exactly_this() {
        let window = Window::new(at(0), at(3_600)).unwrap();
        let name = policy_name(&id());
        assert_eq!(
            allow(&grant(), &user(), &id(), window),
            json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow",
                "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
                "Resource": "arn:aws:iam::210987654321:role/latchkey/privileged/OrdersAdmin",
                "Condition": {
                    "DateGreaterThanEquals": {"aws:CurrentTime": "2027-01-15T08:00:00Z"},
                    "DateLessThan": {"aws:CurrentTime": "2027-01-15T09:00:00Z"},
                    "StringEquals": {"sts:SourceIdentity": name},
                },
            }]})
        );
        assert_eq!(
            deny(&id(), at(3_600)),
            json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Deny", "Action": "*", "Resource": "*",
                "Condition": {
                    "StringEquals": {"aws:SourceIdentity": name},
                    "DateGreaterThanEquals": {"aws:CurrentTime": "2027-01-15T09:00:00Z"},
                },
            }]})
        );
    }

    #[test]
    fn of_a_shared_role_only_the_persons_sessions_get_it() {
        let window = Window::new(at(0), at(60)).unwrap();
        let on_call = Principal::Role {
            partition: "aws".to_owned(),
            account: "123456789012".to_owned(),
            name: "OnCall".to_owned(),
            session_name: Some("dave@example.com".to_owned()),
        };
        let policy = allow(&grant(), &on_call, &id(), window);
        assert_eq!(
            policy["Statement"][0]["Condition"]["StringLike"],
            json!({"aws:userid": "*:dave@example.com"})
        );
    }

    #[test]
    fn commands_are_one_line_for_a_shell() {
        let name = policy_name(&id());
        assert_eq!(
            command(&grant(), &id()),
            format!(
                "aws sts assume-role --role-arn 'arn:aws:iam::210987654321:role/latchkey/privileged/OrdersAdmin' --role-session-name {name} --source-identity {name}"
            )
        );
        let ending = commands_to_end(
            &grant(),
            "arn:aws:iam::123456789012:user/staff/d'ave",
            &id(),
            at(0),
        );
        assert_eq!(
            ending[0],
            format!(r"aws iam delete-user-policy --user-name 'd'\''ave' --policy-name {name}")
        );
        assert!(ending[1].starts_with("aws iam put-role-policy --role-name 'OrdersAdmin' "));
        assert_eq!(ending.len(), 2);
    }

    #[test]
    fn white_space_does_not_count() {
        assert_eq!(n_characters("{ \"a\":\n\t1 }"), 7);
    }

    #[test]
    fn a_trust_policy_that_does_not_require_the_source_identity_is_seen() {
        let statement = |condition: Value| json!({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"], "Condition": condition});
        let required = json!({"StringLike": {"sts:SourceIdentity": "latchkey-*"}});
        let trust = |statements: Value| {
            trust_requires_source_identity(
                &json!({"Version": "2012-10-17", "Statement": statements}),
            )
        };
        assert!(trust(json!([statement(required.clone())])));
        assert!(trust(statement(required.clone())));
        assert!(!trust(json!([])));
        assert!(!trust(json!([statement(required), statement(json!({}))])));
        for other in [
            json!({"StringLike": {"sts:SourceIdentity": "*"}}),
            json!({"StringLike": {"sts:SourceIdentity": ["latchkey-*", "dave"]}}),
            json!({"StringLikeIfExists": {"sts:SourceIdentity": "latchkey-*"}}),
        ] {
            assert!(!trust(json!([statement(other.clone())])), "{other}");
        }
    }

    proptest! {
        #[test]
        fn dates_are_read_back_as_they_were_written(start in 0i64..100_000_000, length in 1i64..1_000_000) {
            let window = Window::new(at(start), at(start + length)).unwrap();
            prop_assert_eq!(allowed_until(&allow(&grant(), &user(), &id(), window)), Some(window.end()));
            let denying = deny(&id(), window.end());
            prop_assert_eq!(denied_from(&id(), &denying), Some(window.end()));
            let other = RequestId::of_execution("arn", 2);
            prop_assert_eq!(denied_from(&other, &denying), None);
        }
    }
}
