//! The password of a window, as its requester reads it: with the command in the message that says the login is open.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::inbox::Message;
use crate::ministack::Keys;
use crate::process;
use crate::stack::{REQUESTER, Stack};

/// What a message says to type, and what the secret is called in it.
#[derive(Clone, Debug)]
pub struct ReadCommand {
    words: Vec<String>,
}

impl ReadCommand {
    /// The command in `message`, if it has one.
    pub fn in_message(message: &Message) -> Option<Self> {
        let line = message
            .text
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with("aws secretsmanager get-secret-value "))?;
        let words = line.split(' ').skip(1).map(str::to_owned).collect();
        Some(Self { words })
    }

    /// The name of the secret.
    pub fn secret_name(&self) -> &str {
        let mut words = self.words.iter().skip_while(|word| *word != "--secret-id");
        words.nth(1).map(String::as_str).unwrap_or_default()
    }

    /// Types it as whoever holds `keys`, and returns the secret's JSON document.
    ///
    /// # Errors
    /// When AWS refuses, or the secret is gone.
    pub async fn run(&self, stack: &Stack, keys: &Keys) -> Result<Value> {
        let mut command = stack.aws().command("aws", keys);
        command
            .args(["--endpoint-url", &stack.aws().endpoint()])
            .args(&self.words);
        let log = stack.folder().join("log").join("window-password.log");
        let printed = process::capture("aws", &log, command).await?;
        serde_json::from_str(&printed).map_err(|_| Error::Aws {
            action: format!("read the secret {}", self.secret_name()),
            reason: "it holds no JSON".to_owned(),
        })
    }
}

/// Waits for the message that tells the requester how to read the password for `role`.
///
/// # Errors
/// [`Error::Waited`] if none comes within `at_most`.
pub async fn told(stack: &Stack, role: &str, at_most: Duration) -> Result<(Message, ReadCommand)> {
    let inbox = stack.inbox(REQUESTER)?;
    let message = inbox
        .next(at_most, |message| {
            message.is_about(role) && ReadCommand::in_message(message).is_some()
        })
        .await?;
    match ReadCommand::in_message(&message) {
        Some(command) => Ok((message, command)),
        None => Err(Error::NotAsPromised(
            "the message does not say how to read the password".to_owned(),
        )),
    }
}
