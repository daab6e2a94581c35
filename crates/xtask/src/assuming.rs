//! Roles of AWS accounts on the local stack: made as the README tells platform teams to, and tried as an outsider would.
//! Who can assume one now, and can a session of it do anything?

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::ministack::{ACCOUNT, Keys};
use crate::process;
use crate::stack::Stack;

const EXTERNAL_ID: &str = "deployment:1";

/// A person of the catalogue with an IAM user that may ask, and that Latchkey may give policies.
#[derive(Debug)]
pub struct Person {
    /// Their id, and the user's name.
    pub id: String,
    /// The user's keys.
    pub keys: Keys,
}

/// A privileged role, and the grant under which it is requested.
#[derive(Debug)]
pub struct Privileged {
    /// The account that has it; on the local AWS each account's root user is the account's id.
    pub account: &'static str,
    /// The account's name in the catalogue.
    pub target: String,
    /// The grant's name, and the role's.
    pub name: String,
}

impl Person {
    /// Makes them.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn make(stack: &Stack, id: &str) -> Result<Self> {
        let keys = make_user(stack, "/latchkey/people/", id).await?;
        let document = json!({
            "id": id, "name": id, "mailbox": format!("{id}@example.com"),
            "principals": [format!("arn:aws:iam::{ACCOUNT}:user/latchkey/people/{id}")],
        });
        stack
            .put_catalogue(&format!("people/{id}"), &document)
            .await?;
        Ok(Self {
            id: id.to_owned(),
            keys,
        })
    }
}

impl Privileged {
    /// Makes the role with the trust policy `trust`, and the document of its account. It may list queues.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn make(
        stack: &Stack,
        account: &'static str,
        name: &str,
        trust: &Value,
    ) -> Result<Self> {
        let rights = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sqs:ListQueues", "Resource": "*",
        }] });
        let path = "/latchkey/privileged/";
        make_role(stack, account, path, name, [trust, &rights]).await?;
        let target = format!("account-{}", name.replace('_', "-"));
        let mut document = json!({ "account": account, "time_zone": "Asia/Tokyo" });
        if account != ACCOUNT {
            for hand in ["granter", "revoker"] {
                let role = make_hand(stack, account, hand, name).await?;
                document[hand] = json!({ "role": role, "external_id": EXTERNAL_ID });
            }
        }
        stack
            .put_catalogue(&format!("accounts/{target}"), &document)
            .await?;
        Ok(Self {
            account,
            target,
            name: name.to_owned(),
        })
    }

    /// The role's ARN.
    pub fn arn(&self) -> String {
        let (account, name) = (self.account, &self.name);
        format!("arn:aws:iam::{account}:role/latchkey/privileged/{name}")
    }

    /// The trust policy of the README.
    pub fn trust() -> Value {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
            "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
            "Condition": { "StringLike": { "sts:SourceIdentity": "latchkey-*" } },
        }] })
    }

    /// The document of the grant, for [`Privileged::put`].
    pub fn document(&self) -> Value {
        let mut document = Stack::role_document(&self.name);
        if let Some(fields) = document.as_object_mut() {
            fields.remove("credential");
            let assume_role = json!({ "role": self.arn(), "max_session": "PT1H" });
            fields.insert("kind".to_owned(), json!("assume-role"));
            fields.insert("assume_role".to_owned(), assume_role);
        }
        document
    }

    /// Puts the grant's document into the catalogue.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn put(&self, stack: &Stack, document: &Value) -> Result<()> {
        let name = format!("roles/{}/{}", self.target, self.name);
        stack.put_catalogue(&name, document).await
    }
}

/// Makes a user with the rights of those who ask, below a path.
///
/// # Errors
/// When the local AWS refuses.
pub async fn make_user(stack: &Stack, path: &str, id: &str) -> Result<Keys> {
    let create = ["iam", "create-user", "--path", path, "--user-name", id];
    as_root(stack, ACCOUNT, &create).await?;
    let policy = stack.output("RequesterPolicyArn")?;
    let attach = ["iam", "attach-user-policy", "--user-name", id];
    as_root(
        stack,
        ACCOUNT,
        &[&attach[..], &["--policy-arn", policy]].concat(),
    )
    .await?;
    let create = ["iam", "create-access-key", "--user-name", id];
    let made = as_root(stack, ACCOUNT, &create).await?;
    Ok(keys_in(&made["AccessKey"]))
}

/// Calls the AWS command line as the root user of an account.
///
/// # Errors
/// When the local AWS refuses.
pub async fn as_root(stack: &Stack, account: &str, arguments: &[&str]) -> Result<Value> {
    let mut root = Keys::of_root();
    if account != ACCOUNT {
        root.access_key_id = account.to_owned();
    }
    let answer = aws(stack, &root, arguments).await?;
    if answer.trim().is_empty() {
        return Ok(Value::Null);
    }
    read(&answer)
}

/// A session of the role with this source identity; `None` if it is refused.
///
/// # Errors
/// When the answer was neither yes nor no.
pub async fn assume(
    stack: &Stack,
    keys: &Keys,
    role: &Privileged,
    source_identity: Option<&str>,
) -> Result<Option<Keys>> {
    let arn = role.arn();
    let mut arguments = vec!["sts", "assume-role", "--role-arn", &arn];
    arguments.extend(["--role-session-name", "at-work"]);
    if let Some(source_identity) = source_identity {
        arguments.extend(["--source-identity", source_identity]);
    }
    let answer = unless_denied(aws(stack, keys, &arguments).await)?;
    let Some(answer) = answer else {
        return Ok(None);
    };
    let made = read(&answer)?;
    if made["SourceIdentity"].as_str() != source_identity {
        return Err(Error::NotAsPromised(format!(
            "the session has another source identity than {source_identity:?}"
        )));
    }
    Ok(Some(keys_in(&made["Credentials"])))
}

/// Whether a session of a [`Privileged`] role can do what the role may do.
///
/// # Errors
/// When the answer was neither yes nor no.
pub async fn can_act(stack: &Stack, session: &Keys) -> Result<bool> {
    let answer = unless_denied(aws(stack, session, &["sqs", "list-queues"]).await)?;
    Ok(answer.is_some())
}

fn unless_denied(answer: Result<String>) -> Result<Option<String>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.with_causes().contains("AccessDenied") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn make_role(
    stack: &Stack,
    account: &str,
    path: &str,
    name: &str,
    documents: [&Value; 2],
) -> Result<()> {
    let [trust, rights] = documents.map(Value::to_string);
    let create = ["iam", "create-role", "--path", path, "--role-name", name];
    let trusting = ["--assume-role-policy-document", &trust];
    as_root(stack, account, &[&create[..], &trusting].concat()).await?;
    let put = ["iam", "put-role-policy", "--role-name", name];
    let policy = ["--policy-name=Work", "--policy-document", &rights];
    as_root(stack, account, &[&put[..], &policy].concat()).await?;
    Ok(())
}

/// The role of Latchkey in another account, as the README says.
async fn make_hand(stack: &Stack, account: &str, hand: &str, of: &str) -> Result<String> {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
        "Condition": { "StringEquals": { "sts:ExternalId": EXTERNAL_ID } },
    }] });
    let own = if hand == "granter" {
        "iam:GetRole"
    } else {
        "iam:DeleteRolePolicy"
    };
    let actions = [
        "iam:ListRolePolicies",
        "iam:GetRolePolicy",
        "iam:PutRolePolicy",
        own,
    ];
    let rights = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": actions,
        "Resource": format!("arn:aws:iam::{account}:role/latchkey/privileged/*"),
    }] });
    let (path, name) = (format!("/latchkey/{hand}/"), format!("{hand}-{of}"));
    make_role(stack, account, &path, &name, [&trust, &rights]).await?;
    Ok(format!(
        "arn:aws:iam::{account}:role/latchkey/{hand}/{name}"
    ))
}

/// Calls the AWS command line with `keys`.
async fn aws(stack: &Stack, keys: &Keys, arguments: &[&str]) -> Result<String> {
    let mut aws = stack.aws().command("aws", keys);
    aws.args(["--endpoint-url", &stack.aws().endpoint(), "--output=json"])
        .args(arguments);
    // Of its own, since an error quotes its last lines.
    static CALLS: AtomicU32 = AtomicU32::new(1);
    let log = format!("assuming-{}.log", CALLS.fetch_add(1, Ordering::Relaxed));
    process::capture("aws", &stack.folder().join("log").join(log), aws).await
}

fn read(answer: &str) -> Result<Value> {
    serde_json::from_str(answer).map_err(|error| Error::Aws {
        action: "read an answer of the local AWS".to_owned(),
        reason: error.to_string(),
    })
}

fn keys_in(made: &Value) -> Keys {
    let text = |field: &str| made[field].as_str().map(str::to_owned);
    Keys {
        access_key_id: text("AccessKeyId").unwrap_or_default(),
        secret_access_key: text("SecretAccessKey").unwrap_or_default(),
        session_token: text("SessionToken"),
    }
}
