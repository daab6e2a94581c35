//! The mailbox of one person on the local stack: a queue, to which the local AWS brings their mail.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;

use crate::error::{Error, Result, with_causes};

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a person gets.
#[derive(Clone, Debug)]
pub struct Message {
    /// The subject line.
    pub subject: String,
    /// The text.
    pub text: String,
}

impl Message {
    /// Whether it is about a request for `role`. Others may mention the role too, among what their window left behind.
    pub fn is_about(&self, role: &str) -> bool {
        let what = format!("What: role {role} on ");
        self.text.lines().any(|line| line.starts_with(&what))
    }

    /// The first link in the text that leads to a decision.
    pub fn decision_link(&self) -> Option<&str> {
        self.link_below("/decide/")
    }

    /// The first link in the text that ends something.
    pub fn end_link(&self) -> Option<&str> {
        self.link_below("/end/")
    }

    fn link_below(&self, path: &str) -> Option<&str> {
        let is_boundary = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"');
        self.text
            .split(is_boundary)
            .find(|word| word.starts_with("http") && word.contains(path))
    }
}

/// The mailbox of one person. Clones share it, so that several tests can each wait for their own messages.
#[derive(Clone, Debug)]
pub struct Inbox {
    client: Client,
    queue_url: String,
    person: String,
    /// What has come and nobody wanted yet.
    received: Arc<Mutex<Vec<Message>>>,
    /// Held while the queue is emptied: between the queue and the list, a message could be seen by nobody else.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

impl Inbox {
    /// The mailbox of `person` behind `queue_url`.
    pub fn new(client: Client, queue_url: String, person: String) -> Self {
        Self {
            client,
            queue_url,
            person,
            received: Arc::default(),
            fetching: Arc::default(),
        }
    }

    /// The address of the queue behind it.
    pub fn queue_url(&self) -> &str {
        &self.queue_url
    }

    /// Takes the first message for which `wanted` is true out of the mailbox, and waits for it if need be.
    ///
    /// # Errors
    /// [`Error::Waited`] when none comes within `at_most`, and when the queue cannot be read.
    pub async fn next(
        &self,
        at_most: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message> {
        let started = Instant::now();
        loop {
            self.fetch().await?;
            if let Some(message) = self.take_first(&wanted) {
                return Ok(message);
            }
            if started.elapsed() > at_most {
                let others = self.received();
                return Err(Error::Waited {
                    what: format!("a message to {}", self.person),
                    waited: at_most,
                    last_seen: others
                        .last()
                        .map(|message| format!("another message: {}", message.subject)),
                });
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Takes every message that is there now and for which `wanted` is true out of the mailbox.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn take_all(&self, wanted: impl Fn(&Message) -> bool) -> Result<Vec<Message>> {
        self.fetch().await?;
        let mut taken = Vec::new();
        while let Some(message) = self.take_first(&wanted) {
            taken.push(message);
        }
        Ok(taken)
    }

    fn take_first(&self, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let mut received = self.received();
        let position = received.iter().position(wanted)?;
        Some(received.remove(position))
    }

    fn received(&self) -> std::sync::MutexGuard<'_, Vec<Message>> {
        // A test that panicked meanwhile left a whole list behind.
        self.received
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes what is in the queue into the mailbox.
    async fn fetch(&self) -> Result<()> {
        let failed = |error: &dyn std::error::Error| Error::Aws {
            action: format!("read the mailbox of {}", self.person),
            reason: with_causes(error),
        };
        let _one_at_a_time = self.fetching.lock().await;
        loop {
            let receive = self
                .client
                .receive_message()
                .queue_url(&self.queue_url)
                .max_number_of_messages(10);
            let batch = receive.send().await.map_err(|error| failed(&error))?;
            if batch.messages().is_empty() {
                return Ok(());
            }
            for message in batch.messages() {
                let handle = message.receipt_handle().unwrap_or_default();
                let delete = self
                    .client
                    .delete_message()
                    .queue_url(&self.queue_url)
                    .receipt_handle(handle);
                delete.send().await.map_err(|error| failed(&error))?;
                self.received()
                    .push(open_envelope(message.body().unwrap_or_default()));
            }
        }
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
