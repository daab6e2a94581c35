//! Messages to people through SNS.

use access_core::PersonId;
use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;

use crate::Error;
use crate::error::chain;

/// The message attribute that subscriptions filter on.
pub const RECIPIENT: &str = "recipient";

/// The topic that people are subscribed to, each with a filter on their own id.
pub struct Topic {
    client: Client,
    arn: String,
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
}
