//! The mailbox of one person on the local stack: a queue subscribed to the topic for that person only.

use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;

use crate::error::{Error, Result, with_causes};

/// How long one call waits for a message, so that waiting costs no polling.
const LONG_POLL_SECONDS: i32 = 2;

/// What a person gets.
#[derive(Clone, Debug)]
pub struct Message {
    /// The subject line.
    pub subject: String,
    /// The text.
    pub text: String,
}

impl Message {
    /// The first link in the text that leads to a decision.
    pub fn decision_link(&self) -> Option<&str> {
        let is_boundary = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"');
        self.text
            .split(is_boundary)
            .find(|word| word.starts_with("http") && word.contains("/decide/"))
    }
}

/// The mailbox of one person.
#[derive(Clone, Debug)]
pub struct Inbox {
    client: Client,
    queue_url: String,
    person: String,
}

impl Inbox {
    /// The mailbox of `person` behind `queue_url`.
    pub fn new(client: Client, queue_url: String, person: String) -> Self {
        Self {
            client,
            queue_url,
            person,
        }
    }

    /// Takes the next message for which `wanted` is true out of the mailbox, and drops those before it.
    ///
    /// # Errors
    /// [`Error::Waited`] when none comes within `at_most`, and when the queue cannot be read.
    pub async fn next(
        &self,
        at_most: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message> {
        let started = Instant::now();
        let mut others = Vec::new();
        while started.elapsed() < at_most {
            for message in self.receive(LONG_POLL_SECONDS).await? {
                if wanted(&message) {
                    return Ok(message);
                }
                others.push(message.subject);
            }
        }
        Err(Error::Waited {
            what: format!("a message to {}", self.person),
            waited: at_most,
            last_seen: (!others.is_empty())
                .then(|| format!("other messages: {}", others.join("; "))),
        })
    }

    /// Takes every message out of the mailbox that is there now.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn take_all(&self) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let some = self.receive(0).await?;
            if some.is_empty() {
                return Ok(messages);
            }
            messages.extend(some);
        }
    }

    async fn receive(&self, wait_seconds: i32) -> Result<Vec<Message>> {
        let failed = |error: &dyn std::error::Error| Error::Aws {
            action: format!("read the mailbox of {}", self.person),
            reason: with_causes(error),
        };
        // One at a time: a message that nobody looked at must stay in the queue.
        let received = self
            .client
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(1)
            .wait_time_seconds(wait_seconds)
            .send()
            .await
            .map_err(|error| failed(&error))?;
        let mut messages = Vec::new();
        for message in received.messages() {
            if let Some(handle) = message.receipt_handle() {
                self.client
                    .delete_message()
                    .queue_url(&self.queue_url)
                    .receipt_handle(handle)
                    .send()
                    .await
                    .map_err(|error| failed(&error))?;
            }
            messages.push(open_envelope(message.body().unwrap_or_default()));
        }
        Ok(messages)
    }
}

/// Reads a message as SNS delivers it to a queue
/// (<https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html>).
fn open_envelope(body: &str) -> Message {
    let envelope: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| envelope[name].as_str().unwrap_or_default().to_owned();
    Message {
        subject: text("Subject"),
        text: text("Message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_found_wherever_it_stands() {
        let link = "http://abc.execute-api.localhost:4566/decide/eyJ2Ijox";
        for text in [
            format!("Decide here:\n{link}\n\nThank you"),
            format!("see <{link}>."),
        ] {
            let message = Message {
                subject: String::new(),
                text,
            };
            assert_eq!(message.decision_link(), Some(link));
        }
        let without = Message {
            subject: String::new(),
            text: "http://example.com/ ended".to_owned(),
        };
        assert_eq!(without.decision_link(), None);
    }

    #[test]
    fn an_envelope_gives_subject_and_text() {
        let message =
            open_envelope(r#"{"Type":"Notification","Subject":"Hello","Message":"Text"}"#);
        assert_eq!(
            (message.subject.as_str(), message.text.as_str()),
            ("Hello", "Text")
        );
    }
}
