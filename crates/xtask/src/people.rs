//! Who gets messages: subscribes people of the catalogue to the topic, confirms them, and says whom messages reach.
//!
//! With AWS it speaks as the deployment's own role, which alone may subscribe; the caller's credentials only take it on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use access_core::PersonId;
use access_core::catalogue::{Kind, Person, check_document, parse};
use access_core::fault::Faults;
use access_core::subscription::{self, Reach, Subscription};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::error::{Error, Result, with_causes};
use crate::{process, workspace};

/// What the template's outputs say.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The topic that people are subscribed to.
    pub topic_arn: String,
    /// The path of the catalogue in Parameter Store.
    pub catalogue_prefix: String,
    /// The role that may subscribe them.
    pub subscriber_role_arn: String,
}

impl Deployment {
    /// Picks what is needed from the outputs of a deployed template.
    ///
    /// # Errors
    /// [`Error::Repository`] if one is missing.
    pub fn of_outputs(outputs: &BTreeMap<String, String>) -> Result<Self> {
        let output = |name: &str| {
            outputs.get(name).cloned().ok_or_else(|| {
                Error::Repository(format!(
                    "the stack has no output {name}; deploy this version of template.yaml first"
                ))
            })
        };
        Ok(Self {
            topic_arn: output("TopicArn")?,
            catalogue_prefix: output("CataloguePrefix")?,
            subscriber_role_arn: output("SubscriberRoleArn")?,
        })
    }
}

/// The people of one deployment, with the rights of its role.
#[derive(Debug)]
pub struct People {
    config: aws_config::SdkConfig,
    sns: aws_sdk_sns::Client,
    ssm: aws_sdk_ssm::Client,
    deployment: Deployment,
}

/// Whom messages reach.
#[derive(Debug)]
pub struct Report {
    /// The people of the catalogue.
    pub people: BTreeSet<PersonId>,
    /// What the subscriptions amount to.
    pub reach: Reach,
}

impl People {
    /// Takes on the deployment's role. `aws` is the AWS command line in the environment of whoever calls.
    ///
    /// # Errors
    /// When the role cannot be taken on.
    pub async fn of(
        deployment: Deployment,
        mut aws: Command,
        endpoint: Option<&str>,
    ) -> Result<Self> {
        let role = deployment.subscriber_role_arn.as_str();
        if let Some(endpoint) = endpoint {
            aws.args(["--endpoint-url", endpoint]);
        }
        aws.args([
            "sts",
            "assume-role",
            "--role-session-name",
            "latchkey-people",
        ]);
        aws.args(["--role-arn", role, "--output", "json"]);
        let log = workspace::target().join("people.log");
        let what = format!("take on the role {role}");
        let answer = process::capture(&what, &log, aws).await?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let text = |field: &str| {
            let value = answer["Credentials"][field].as_str();
            value.map(str::to_owned).ok_or_else(|| Error::Aws {
                action: what.clone(),
                reason: format!("the answer has no {field}"),
            })
        };
        let credentials = aws_credential_types::Credentials::new(
            text("AccessKeyId")?,
            text("SecretAccessKey")?,
            Some(text("SessionToken")?),
            None,
            "the deployment's role",
        );
        // arn:PARTITION:sns:REGION:ACCOUNT:NAME
        let region = deployment.topic_arn.split(':').nth(3).unwrap_or_default();
        let client = match endpoint {
            Some(_) => Builder::new().build_http(),
            None => Builder::new()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .build_https(),
        };
        let mut config = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_owned()))
            .credentials_provider(
                aws_credential_types::provider::SharedCredentialsProvider::new(credentials),
            )
            .http_client(client);
        config.set_endpoint_url(endpoint.map(str::to_owned));
        let config = config.build();
        Ok(Self {
            sns: aws_sdk_sns::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            config,
            deployment,
        })
    }

    /// The settings of SDK clients that may do what the deployment's role may.
    pub fn sdk_config(&self) -> &aws_config::SdkConfig {
        &self.config
    }

    /// Subscribes a person's mailbox, with the filter in the same call: there is no moment without it. Returns the
    /// mailbox, to which AWS sends a link.
    ///
    /// # Errors
    /// When the catalogue has no sound document of the person, and when SNS refuses.
    pub async fn subscribe(&self, person: &PersonId) -> Result<String> {
        let mailboxes = self.mailboxes(&[person.clone()].into()).await?;
        let Some(mailbox) = mailboxes.get(person) else {
            return Err(Error::NotAsPromised(format!(
                "the catalogue has no sound document {}/people/{person}; save one and check it with `cargo xtask catalogue check`",
                self.deployment.catalogue_prefix
            )));
        };
        let filter = subscription::filter_policy(person);
        let call = self
            .sns
            .subscribe()
            .topic_arn(&self.deployment.topic_arn)
            .protocol("email")
            .endpoint(mailbox)
            .attributes("FilterPolicy", filter);
        call.send()
            .await
            .map_err(|error| failed(format!("subscribe {person}"), &error))?;
        Ok(mailbox.clone())
    }

    /// Confirms a subscription so that ending it takes a signature too
    /// (<https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html>).
    ///
    /// # Errors
    /// When it is neither a token nor a link with one, and when SNS refuses it.
    pub async fn confirm(&self, token_or_link: &str) -> Result<String> {
        let token = token_of(token_or_link)?;
        let confirmed = self
            .sns
            .confirm_subscription()
            .topic_arn(&self.deployment.topic_arn)
            .token(token)
            .authenticate_on_unsubscribe("true")
            .send()
            .await
            .map_err(|error| failed("confirm the subscription".to_owned(), &error))?;
        Ok(confirmed.subscription_arn().unwrap_or_default().to_owned())
    }

    /// Judges the subscriptions as notify does before it sends a link.
    ///
    /// # Errors
    /// When SNS or the catalogue cannot be read.
    pub async fn check(&self) -> Result<Report> {
        let subscriptions = self.subscriptions().await?;
        let mut people = self.people().await?;
        let named = subscription::people_named(&subscriptions);
        let mailboxes = self.mailboxes(&named).await?;
        people.extend(mailboxes.keys().cloned());
        Ok(Report {
            people,
            reach: subscription::judge(&subscriptions, &mailboxes),
        })
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>> {
        let action = || "list the subscriptions".to_owned();
        let mut pages = self
            .sns
            .list_subscriptions_by_topic()
            .topic_arn(&self.deployment.topic_arn)
            .into_paginator()
            .send();
        let mut subscriptions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(action(), &error))?;
            for listed in page.subscriptions() {
                let mut subscription = Subscription {
                    arn: listed.subscription_arn().unwrap_or_default().to_owned(),
                    endpoint: listed.endpoint().unwrap_or_default().to_owned(),
                    attributes: BTreeMap::new(),
                };
                if subscription.has_attributes() {
                    let answer = self
                        .sns
                        .get_subscription_attributes()
                        .subscription_arn(&subscription.arn)
                        .send()
                        .await
                        .map_err(|error| failed(action(), &error))?;
                    subscription.attributes =
                        answer.attributes.unwrap_or_default().into_iter().collect();
                }
                subscriptions.push(subscription);
            }
        }
        Ok(subscriptions)
    }

    /// The people of the catalogue, sound or not.
    async fn people(&self) -> Result<BTreeSet<PersonId>> {
        let path = format!("{}/people", self.deployment.catalogue_prefix);
        let mut pages = self
            .ssm
            .get_parameters_by_path()
            .path(&path)
            .into_paginator()
            .send();
        let mut people = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(format!("read {path}"), &error))?;
            for parameter in page.parameters() {
                let id = parameter.name().unwrap_or_default().rsplit('/').next();
                people.extend(id.and_then(|id| PersonId::new(id).ok()));
            }
        }
        Ok(people)
    }

    /// The mailboxes of those whose documents are there and sound.
    async fn mailboxes(&self, people: &BTreeSet<PersonId>) -> Result<BTreeMap<PersonId, String>> {
        let mut mailboxes = BTreeMap::new();
        for person in people {
            let name = format!("{}/people/{person}", self.deployment.catalogue_prefix);
            let answer = self
                .ssm
                .get_parameters()
                .names(&name)
                .send()
                .await
                .map_err(|error| failed(format!("read {name}"), &error))?;
            let text = answer
                .parameters()
                .first()
                .and_then(|parameter| parameter.value());
            if let Some(read) = text.and_then(read_person)
                && read.id == *person
            {
                mailboxes.insert(read.id, read.mailbox);
            }
        }
        Ok(mailboxes)
    }
}

fn read_person(text: &str) -> Option<Person> {
    if !check_document(Kind::Person, text).is_empty() {
        return None;
    }
    let mut faults = Faults::new();
    parse(text, &mut faults).and_then(|value| Person::read(&value, &mut faults))
}

/// The token of the link in AWS's mail, or the token itself.
fn token_of(token_or_link: &str) -> Result<&str> {
    let text = token_or_link.trim();
    let token = match text.split_once("Token=") {
        Some((_, rest)) => rest.split('&').next().unwrap_or_default(),
        None => text,
    };
    let is_token = (16..=1024).contains(&token.len())
        && token
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    if is_token {
        return Ok(token);
    }
    Err(Error::NotAsPromised(
        "give the whole link of the mail \"Subscription Confirmation\", in quotes, or what follows Token= in it"
            .to_owned(),
    ))
}

fn failed(action: String, error: &dyn std::error::Error) -> Error {
    Error::Aws {
        action,
        reason: with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_in_the_link_or_alone() {
        let token = "2336412f37fb687f5d51e6e241d44a2cb136d1f";
        for given in [
            token.to_owned(),
            format!(" {token}\n"),
            format!(
                "https://sns.us-east-1.amazonaws.com/confirmation.html?TopicArn=arn:aws:sns:us-east-1:1:t&Token={token}&Endpoint=alice@example.com"
            ),
            format!(
                "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn&Token={token}"
            ),
        ] {
            assert_eq!(token_of(&given).unwrap(), token, "{given}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_sent() {
        for given in [
            "",
            "short",
            "https://sns.us-east-1.amazonaws.com/confirmation.html",
            "https://sns.us-east-1.amazonaws.com/?Token=",
            "https://sns.us-east-1.amazonaws.com/?Token=2336412f37fb687f%00",
            "alice@example.com is the mailbox",
        ] {
            assert!(token_of(given).is_err(), "{given}");
        }
    }
}
