//! How the password of a window reaches its requester and nobody else: the secret's name, and who may read it.

use serde_json::{Value, json};

use crate::names::RequestId;
use crate::principal::Principal;

/// The names of all secrets with passwords of windows begin so, in one deployment.
#[must_use]
pub fn secret_prefix(deployment: &str) -> String {
    format!("latchkey/{deployment}/windows/")
}

/// The name of the secret that holds the password of this request's window.
#[must_use]
pub fn secret_name(deployment: &str, id: &RequestId) -> String {
    format!("{}{id}", secret_prefix(deployment))
}

/// What the requester types to read it: no part of it is anybody's text, so that a shell needs no quotes.
#[must_use]
pub fn read_command(deployment: &str, region: &str, id: &RequestId) -> String {
    let name = secret_name(deployment, id);
    format!(
        "aws secretsmanager get-secret-value --region {region} --secret-id {name} --query SecretString --output text"
    )
}

/// The request whose password a secret of this name holds; `None` for any other secret.
#[must_use]
pub fn request_of(deployment: &str, secret_name: &str) -> Option<RequestId> {
    RequestId::new(secret_name.strip_prefix(&secret_prefix(deployment))?).ok()
}

/// What `aws:PrincipalArn` is for a principal, as patterns: for a session it is the ARN of its role, whose path the
/// catalogue leaves out
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn>).
fn arns(principal: &Principal) -> Vec<String> {
    match principal {
        Principal::User(arn) => vec![arn.clone()],
        Principal::Role {
            partition,
            account,
            name,
            ..
        } => {
            let roles = format!("arn:{partition}:iam::{account}:role/");
            vec![format!("{roles}{name}"), format!("{roles}*/{name}")]
        }
    }
}

/// What `aws:userid` is for the only session of a role that is meant, as a pattern: `AROA…:session`
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#principaltable>).
fn only_session(principal: &Principal) -> Option<String> {
    match principal {
        Principal::Role {
            session_name: Some(name),
            ..
        } => Some(format!("*:{name}")),
        Principal::User(_) | Principal::Role { .. } => None,
    }
}

/// The resource policy of a window's secret. The requester's principals may read it; the `keeper` (the role of the
/// function that makes it) may do everything that it may do anyhow; whoever may delete secrets may delete it; and
/// nobody else may do anything with it, whatever other policies say.
///
/// Every statement takes everybody and tells them apart by conditions, because a policy that names a user or role as
/// `Principal` is refused once they are gone, and an `Allow` for a role would be narrowed by its sessions' policies.
#[must_use]
pub fn secret_policy(readers: &[Principal], keeper: &str) -> Value {
    let mut known = vec![keeper.to_owned()];
    let mut statements = Vec::new();
    for (n, reader) in readers.iter().enumerate() {
        let arns = arns(reader);
        let mut condition = json!({ "StringLike": { "aws:PrincipalArn": arns } });
        if let Some(session) = only_session(reader) {
            condition["StringLike"]["aws:userid"] = json!(session);
        }
        statements.push(json!({
            "Sid": format!("RequesterReads{n}"),
            "Effect": "Allow",
            "Principal": "*",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": "*",
            "Condition": condition,
        }));
        known.extend(arns);
    }
    statements.push(json!({
        "Sid": "NobodyElseReads",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "secretsmanager:GetSecretValue",
        "Resource": "*",
        "Condition": { "StringNotLike": { "aws:PrincipalArn": known } },
    }));
    statements.extend(other_sessions_do_not_read(readers));
    statements.push(json!({
        "Sid": "NobodyElseChanges",
        "Effect": "Deny",
        "Principal": "*",
        "NotAction": [
            "secretsmanager:GetSecretValue",
            "secretsmanager:DescribeSecret",
            "secretsmanager:DeleteSecret"
        ],
        "Resource": "*",
        "Condition": { "StringNotLike": { "aws:PrincipalArn": keeper } },
    }));
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Where only some sessions of a role are the requester, its other sessions are not.
fn other_sessions_do_not_read(readers: &[Principal]) -> Option<Value> {
    let (of_one_session, whole): (Vec<_>, Vec<_>) = readers
        .iter()
        .partition(|reader| only_session(reader).is_some());
    let sessions: Vec<_> = of_one_session
        .iter()
        .filter_map(|it| only_session(it))
        .collect();
    let arns_of = |principals: &[&Principal]| -> Vec<String> {
        principals.iter().flat_map(|it| arns(it)).collect()
    };
    let mut condition = json!({
        "StringLike": { "aws:PrincipalArn": arns_of(&of_one_session) },
        "StringNotLike": { "aws:userid": sessions },
    });
    if !whole.is_empty() {
        condition["StringNotLike"]["aws:PrincipalArn"] = json!(arns_of(&whole));
    }
    (!sessions.is_empty()).then(|| {
        json!({
            "Sid": "OtherSessionsDoNotRead",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": "*",
            "Condition": condition,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Faults;

    const KEEPER: &str = "arn:aws:iam::123456789012:role/enable-login";
    const RIKO: &str = "arn:aws:iam::123456789012:user/riko";

    fn policy(principals: Value) -> Value {
        let mut faults = Faults::new();
        let readers: Vec<_> = principals
            .as_array()
            .unwrap()
            .iter()
            .map(|value| Principal::read(value, "$", &mut faults).unwrap())
            .collect();
        secret_policy(&readers, KEEPER)
    }

    fn sids(policy: &Value) -> Vec<&str> {
        let statements = policy["Statement"].as_array().unwrap();
        statements
            .iter()
            .map(|statement| statement["Sid"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn the_name_tells_the_request_and_back() {
        let id = RequestId::of_execution("arn", 0);
        let name = secret_name("prod", &id);
        assert_eq!(name, format!("latchkey/prod/windows/{id}"));
        assert_eq!(request_of("prod", &name), Some(id));
        for other in [
            "latchkey/prod/windows/",
            "latchkey/prod/windows/x",
            "latchkey/opener/prod",
        ] {
            assert_eq!(request_of("prod", other), None, "{other}");
        }
        assert_eq!(request_of("test", &name), None);
    }

    #[test]
    fn only_the_requester_and_the_keeper_are_known() {
        let policy = policy(json!([RIKO]));
        assert_eq!(
            sids(&policy),
            ["RequesterReads0", "NobodyElseReads", "NobodyElseChanges"]
        );
        assert_eq!(
            policy["Statement"][0]["Condition"],
            json!({"StringLike": {"aws:PrincipalArn": [RIKO]}})
        );
        assert_eq!(
            policy["Statement"][1]["Condition"],
            json!({"StringNotLike": {"aws:PrincipalArn": [KEEPER, RIKO]}})
        );
    }

    #[test]
    fn one_session_of_a_role_is_not_another() {
        let policy = policy(json!([
            {"role": "arn:aws:iam::123456789012:role/team/Engineer", "session_name": "riko"},
            RIKO
        ]));
        assert_eq!(
            sids(&policy),
            [
                "RequesterReads0",
                "RequesterReads1",
                "NobodyElseReads",
                "OtherSessionsDoNotRead",
                "NobodyElseChanges"
            ]
        );
        let roles = json!([
            "arn:aws:iam::123456789012:role/Engineer",
            "arn:aws:iam::123456789012:role/*/Engineer"
        ]);
        assert_eq!(
            policy["Statement"][0]["Condition"],
            json!({"StringLike": {"aws:PrincipalArn": roles, "aws:userid": "*:riko"}})
        );
        assert_eq!(
            policy["Statement"][3]["Condition"],
            json!({
                "StringLike": {"aws:PrincipalArn": roles},
                "StringNotLike": {"aws:userid": ["*:riko"], "aws:PrincipalArn": [RIKO]}
            })
        );
    }

    #[test]
    fn without_readers_nobody_reads() {
        assert_eq!(
            sids(&policy(json!([]))),
            ["NobodyElseReads", "NobodyElseChanges"]
        );
    }
}
