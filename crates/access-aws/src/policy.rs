//! Inline policies of IAM users and roles, in one account.

use std::borrow::Cow;
use std::time::Duration;

use access_core::Principal;
use access_core::grant::assume_role;
use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_types::SdkConfig;
use serde_json::Value;

use crate::Error;
use crate::error::chain;

/// How long a change is waited for until it can be read. IAM keeps many copies, and a reader may meet an old one
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency>).
const READ_BACK_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked for.
const BETWEEN_READINGS: Duration = Duration::from_millis(500);

/// IAM's error codes for what is no failure here
/// (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutUserPolicy.html#API_PutUserPolicy_Errors>).
const NOT_THERE: &str = "NoSuchEntity";
const TOO_LONG: &str = "LimitExceeded";
const NOT_PERMITTED: &str = "AccessDenied";

/// The inline policies of users and roles of one account.
pub struct Policies {
    client: Client,
}

/// Who has inline policies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The user of this name.
    User(String),
    /// The role of this name.
    Role(String),
}

/// What became of writing a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It can be read as it was written.
    Yes,
    /// All inline policies of the holder together would be longer than IAM allows.
    TooLong,
}

/// A role, as IAM describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSeen {
    /// Its unique id: a role that is made anew under its name has another.
    pub id: String,
    /// Its ARN, with its path.
    pub arn: String,
    /// Who may assume it, and under which conditions.
    pub trust: Value,
    /// The longest that a session of it lasts, in seconds.
    pub max_session_seconds: i64,
}

impl Holder {
    /// The user or role that a person's principal is.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        match principal {
            Principal::User(_) => Self::User(principal.name().to_owned()),
            Principal::Role { name, .. } => Self::Role(name.clone()),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name}"),
            Self::Role(name) => write!(f, "role {name}"),
        }
    }
}

impl Policies {
    /// Those of the account whose rights `config` has: IAM takes names of no other.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            client: Client::new(config),
        }
    }

    /// The names of the policies of `holder`; `None` if there is no such user or role.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub async fn names(&self, holder: &Holder) -> Result<Option<Vec<String>>, Error> {
        const DOING: &str = "list the policies of";
        let mut names = Vec::new();
        let mut marker = None;
        loop {
            let page = match holder {
                Holder::User(user) => {
                    let call = self.client.list_user_policies().user_name(user);
                    let answer = call.set_marker(marker).send().await;
                    unless(NOT_THERE, answer, DOING, holder)?
                        .map(|page| (page.policy_names, page.marker))
                }
                Holder::Role(role) => {
                    let call = self.client.list_role_policies().role_name(role);
                    let answer = call.set_marker(marker).send().await;
                    unless(NOT_THERE, answer, DOING, holder)?
                        .map(|page| (page.policy_names, page.marker))
                }
            };
            let Some((page, next)) = page else {
                return Ok(None);
            };
            names.extend(page);
            if next.is_none() {
                return Ok(Some(names));
            }
            marker = next;
        }
    }

    /// The text of a policy; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub async fn read(&self, holder: &Holder, name: &str) -> Result<Option<String>, Error> {
        const DOING: &str = "read a policy of";
        let encoded = match holder {
            Holder::User(user) => {
                let call = self.client.get_user_policy().user_name(user);
                let answer = call.policy_name(name).send().await;
                unless(NOT_THERE, answer, DOING, holder)?.map(|policy| policy.policy_document)
            }
            Holder::Role(role) => {
                let call = self.client.get_role_policy().role_name(role);
                let answer = call.policy_name(name).send().await;
                unless(NOT_THERE, answer, DOING, holder)?.map(|policy| policy.policy_document)
            }
        };
        Ok(encoded.map(|encoded| decode(&encoded).into_owned()))
    }

    /// The same as JSON. What is no JSON is `null`: it is none of ours.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub async fn read_json(&self, holder: &Holder, name: &str) -> Result<Option<Value>, Error> {
        let text = self.read(holder, name).await?;
        Ok(text.map(|text| serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// How many characters of policies `holder` has, apart from the one called `except`.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub async fn n_characters(&self, holder: &Holder, except: &str) -> Result<usize, Error> {
        let mut n_characters = 0;
        for name in self.names(holder).await?.unwrap_or_default() {
            if name != except
                && let Some(text) = self.read(holder, &name).await?
            {
                n_characters += assume_role::n_characters(&text);
            }
        }
        Ok(n_characters)
    }

    /// Writes a policy, and reads it back until it is as it was written.
    ///
    /// # Errors
    /// [`Error::Policy`], also if it cannot be read back in time.
    pub async fn write(
        &self,
        holder: &Holder,
        name: &str,
        policy: &Value,
    ) -> Result<Written, Error> {
        const DOING: &str = "write a policy of";
        let document = policy.to_string();
        let written = match holder {
            Holder::User(user) => {
                let call = self.client.put_user_policy().user_name(user);
                let answer = call
                    .policy_name(name)
                    .policy_document(document)
                    .send()
                    .await;
                unless(TOO_LONG, answer, DOING, holder)?.is_some()
            }
            Holder::Role(role) => {
                let call = self.client.put_role_policy().role_name(role);
                let answer = call
                    .policy_name(name)
                    .policy_document(document)
                    .send()
                    .await;
                unless(TOO_LONG, answer, DOING, holder)?.is_some()
            }
        };
        if !written {
            return Ok(Written::TooLong);
        }
        self.read_back(holder, name, Some(policy)).await?;
        Ok(Written::Yes)
    }

    /// Deletes a policy, and looks until it is gone. `false` if it was not there.
    ///
    /// # Errors
    /// [`Error::Policy`], also if it is still read after that.
    pub async fn delete(&self, holder: &Holder, name: &str) -> Result<bool, Error> {
        const DOING: &str = "delete a policy of";
        let deleted = match holder {
            Holder::User(user) => {
                let call = self.client.delete_user_policy().user_name(user);
                let answer = call.policy_name(name).send().await;
                unless(NOT_THERE, answer, DOING, holder)?.is_some()
            }
            Holder::Role(role) => {
                let call = self.client.delete_role_policy().role_name(role);
                let answer = call.policy_name(name).send().await;
                unless(NOT_THERE, answer, DOING, holder)?.is_some()
            }
        };
        self.read_back(holder, name, None).await?;
        Ok(deleted)
    }

    /// A role by its name; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub async fn role(&self, name: &str) -> Result<Option<RoleSeen>, Error> {
        let holder = Holder::Role(name.to_owned());
        let answer = self.client.get_role().role_name(name).send().await;
        let found = unless(NOT_THERE, answer, "look at", &holder)?.and_then(|found| found.role);
        Ok(found.map(|role| {
            let trust = role.assume_role_policy_document.unwrap_or_default();
            RoleSeen {
                id: role.role_id,
                arn: role.arn,
                trust: serde_json::from_str(&decode(&trust)).unwrap_or(Value::Null),
                // What IAM means where it says nothing
                // (https://docs.aws.amazon.com/IAM/latest/APIReference/API_Role.html).
                max_session_seconds: role.max_session_duration.map_or(3_600, i64::from),
            }
        }))
    }

    async fn read_back(
        &self,
        holder: &Holder,
        name: &str,
        expected: Option<&Value>,
    ) -> Result<(), Error> {
        let looked = tokio::time::timeout(READ_BACK_WITHIN, async {
            while self.read_json(holder, name).await?.as_ref() != expected {
                tokio::time::sleep(BETWEEN_READINGS).await;
            }
            Ok(())
        });
        looked.await.unwrap_or_else(|_| {
            Err(Error::Policy {
                doing: format!("read the policy {name} of {holder} back"),
                cause: format!(
                    "it is not as it was changed after {} seconds",
                    READ_BACK_WITHIN.as_secs()
                ),
            })
        })
    }
}

/// IAM gives policies percent-encoded (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetUserPolicy.html>).
fn decode(policy: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(policy).decode_utf8_lossy()
}

/// What was answered; `None` if that is the error called `code`.
fn unless<T, E, R>(
    code: &str,
    answer: Result<T, SdkError<E, R>>,
    doing: &str,
    holder: &Holder,
) -> Result<Option<T>, Error>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some(code) => Ok(None),
        Err(error) if error.code() == Some(NOT_PERMITTED) => {
            Err(Error::PolicyNotPermitted(format!("{doing} {holder}")))
        }
        Err(error) => Err(Error::Policy {
            doing: format!("{doing} {holder}"),
            cause: chain(error),
        }),
    }
}
