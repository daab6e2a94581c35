//! What can go wrong in a developer command, each with the next step.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// The result of a developer command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a developer command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that the command needs is not on the `PATH`.
    #[error("{program} is not on the PATH; {remedy}")]
    ProgramMissing {
        /// The program's name.
        program: &'static str,
        /// How to get it.
        remedy: &'static str,
    },

    /// A program could not be started.
    #[error("start {program}")]
    Start {
        /// The program's name.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },

    /// A program ended with a failure.
    #[error("{what} failed ({status})\n{said}\nits whole output is in {}", log.display())]
    Failed {
        /// What was being done.
        what: String,
        /// How the program ended.
        status: ExitStatus,
        /// The last lines it printed.
        said: String,
        /// Where everything that it printed is.
        log: PathBuf,
    },

    /// A server did not become ready.
    #[error("{server} was not ready after {} s: {reason}; its log is {}", waited.as_secs(), log.display())]
    NotReady {
        /// The server's name.
        server: &'static str,
        /// How long we waited.
        waited: Duration,
        /// What we saw instead.
        reason: String,
        /// Where its output is.
        log: PathBuf,
    },

    /// A file or folder could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done, as a verb: "read", "create".
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },

    /// The local AWS refused a call, or answered something that we cannot use.
    #[error("{action}: {reason}")]
    Aws {
        /// What was being done.
        action: String,
        /// What came back, with its causes.
        reason: String,
    },

    /// An HTTP request to the local AWS failed.
    #[error("{method} {url}: {reason}")]
    Http {
        /// The request's method.
        method: &'static str,
        /// The request's address.
        url: String,
        /// Why it failed.
        reason: String,
    },

    /// The local PostgreSQL server could not be used.
    #[error("{action}")]
    Postgres {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Something that we waited for did not happen.
    #[error("{what} did not happen within {} s{}", waited.as_secs(), last_seen.as_ref().map(|seen| format!("; last seen: {seen}")).unwrap_or_default())]
    Waited {
        /// What we waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last state that we saw.
        last_seen: Option<String>,
    },

    /// A file of this repository is not as the command needs it.
    #[error("{0}")]
    Repository(String),

    /// Tests failed, lints failed, or an observation of the demo did not hold; all was said already.
    #[error("{0}")]
    NotAsPromised(String),
}

impl Error {
    /// This error and its causes in one line.
    pub fn with_causes(&self) -> String {
        with_causes(self)
    }
}

/// An error and its causes in one line: `SdkError` alone says only "service error".
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
