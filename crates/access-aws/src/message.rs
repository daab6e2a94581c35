//! Messages to people through SNS, and who would get them.

use std::collections::BTreeMap;

use access_core::subscription::{RECIPIENT, Subscription};
use access_core::{PersonId, RequestId};
use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;

use crate::Error;
use crate::error::chain;

/// The topic that people are subscribed to, each with a filter on their own id.
pub struct Topic {
    client: Client,
    arn: String,
}

/// The topic that chat channels are subscribed to. It never gets a link, so that it does not matter who they are.
pub struct ChatTopic {
    client: Client,
    arn: String,
}

impl ChatTopic {
    /// The topic with this ARN.
    #[must_use]
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }

    /// Tells the channels about a request, in the format of custom notifications of Amazon Q Developer in chat
    /// applications, which was AWS Chatbot: one thread for each request, and no buttons
    /// (<https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>).
    ///
    /// # Errors
    /// [`Error::Message`].
    pub async fn send(
        &self,
        id: &RequestId,
        event: &str,
        title: &str,
        description: &str,
        next_steps: &[String],
    ) -> Result<(), Error> {
        let notification = serde_json::json!({
            "version": "1.0",
            "source": "custom",
            "content": {
                "textType": "client-markdown",
                "title": title,
                "description": description,
                "nextSteps": next_steps,
            },
            "metadata": {
                "threadId": id,
                "eventType": event,
                "enableCustomActions": false,
            },
        });
        self.client
            .publish()
            .topic_arn(&self.arn)
            .message(notification.to_string())
            .send()
            .await
            .map_err(|error| Error::Message(chain(error)))?;
        Ok(())
    }
}

impl Topic {
    /// The topic with this ARN.
    #[must_use]
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }

    /// Sends one message to one person.
    ///
    /// # Errors
    /// [`Error::Message`].
    pub async fn send(&self, recipient: &PersonId, subject: &str, body: &str) -> Result<(), Error> {
        let attribute = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(recipient.as_str())
            .build()
            .map_err(|error| Error::Message(error.to_string()))?;
        self.client
            .publish()
            .topic_arn(&self.arn)
            .subject(subject)
            .message(body)
            .message_attributes(RECIPIENT, attribute)
            .send()
            .await
            .map_err(|error| Error::Message(chain(error)))?;
        Ok(())
    }

    /// Every subscription of the topic, with what SNS says of it.
    ///
    /// One after the other: SNS allows few such calls a second, and the SDK tries again those that were too many.
    ///
    /// # Errors
    /// [`Error::Message`].
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        let failed = |cause: String| Error::Message(format!("look at the subscriptions: {cause}"));
        let mut pages = self
            .client
            .list_subscriptions_by_topic()
            .topic_arn(&self.arn)
            .into_paginator()
            .send();
        let mut subscriptions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(chain(error)))?;
            for listed in page.subscriptions() {
                let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
                subscriptions.push(Subscription {
                    arn: text(listed.subscription_arn()),
                    endpoint: text(listed.endpoint()),
                    attributes: BTreeMap::new(),
                });
            }
        }
        for subscription in subscriptions.iter_mut().filter(|it| it.has_attributes()) {
            // Also fails for one that was deleted since the list was made; the next try does not list it.
            let answer = self
                .client
                .get_subscription_attributes()
                .subscription_arn(&subscription.arn)
                .send()
                .await
                .map_err(|error| failed(chain(error)))?;
            let attributes = answer.attributes.unwrap_or_default();
            subscription.attributes = attributes.into_iter().collect();
        }
        Ok(subscriptions)
    }
}
