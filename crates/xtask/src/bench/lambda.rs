//! One process of a Lambda function, fed by a Runtime API of its own
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use xtask::error::{Error, Result};
use xtask::process::last_lines;

use super::process::{cpu_millis, peak_memory_mb};
use super::serving::{Answer, Serving};

/// Python at a fourteenth of a CPU takes seconds, a thousand windows on a busy machine minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// A started function. It ends when this is dropped.
pub(crate) struct Lambda {
    child: tokio::process::Child,
    process_id: u32,
    log: std::path::PathBuf,
    asks: mpsc::UnboundedReceiver<Ask>,
    waiting: Option<oneshot::Sender<Answer>>,
    n_invoked: u64,
    _api: Serving,
    /// From the start of the process to its first question for work.
    pub(crate) init: Duration,
}

/// One answered invocation.
pub(crate) struct Invoked {
    /// From the moment the event was sent.
    pub(crate) wall: Duration,
    /// What the function answered.
    pub(crate) answer: Value,
}

enum Ask {
    Next(oneshot::Sender<Answer>),
    Answered(Value, Instant, oneshot::Sender<Answer>),
    Failed(String),
}

impl Lambda {
    /// Starts a function in no other environment than the command's own and waits until it asks for work.
    pub(crate) async fn start(command: &Command, log: &Path) -> Result<Self> {
        let (sender, asks) = mpsc::unbounded_channel();
        let api = Serving::start(None, move |asked| {
            let (reply, answer) = oneshot::channel();
            let ask = match asked.path.rsplit('/').next() {
                Some("next") => Ask::Next(reply),
                Some("response") => {
                    let body = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
                    Ask::Answered(body, Instant::now(), reply)
                }
                _ => Ask::Failed(String::from_utf8_lossy(&asked.body).into_owned()),
            };
            let sender = sender.clone();
            async move {
                // The receiver is gone once the function was measured, and then nobody waits for an answer.
                let _ = sender.send(ask);
                answer.await.unwrap_or(accepted())
            }
        })
        .await?;
        let mut process = Command::new(command.get_program());
        process.args(command.get_args()).env_clear();
        process.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        process
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{}", api.port))
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "bench")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench");
        let file = |source| Error::File {
            action: "create",
            path: log.to_owned(),
            source,
        };
        let output = std::fs::File::create(log).map_err(file)?;
        let errors = output.try_clone().map_err(file)?;
        process.stdin(Stdio::null()).stdout(output).stderr(errors);
        let started = Instant::now();
        let child = tokio::process::Command::from(process)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Start {
                program: command.get_program().to_string_lossy().into_owned(),
                source,
            })?;
        let mut lambda = Self {
            process_id: child.id().unwrap_or_default(),
            child,
            log: log.to_owned(),
            asks,
            waiting: None,
            n_invoked: 0,
            _api: api,
            init: Duration::ZERO,
        };
        lambda.wait_for_next().await?;
        lambda.init = started.elapsed();
        Ok(lambda)
    }

    /// CPU time that the process has used so far, in milliseconds.
    pub(crate) fn cpu_millis(&self) -> f64 {
        cpu_millis(self.process_id)
    }

    /// The most memory that it has held so far, in MB.
    pub(crate) fn peak_memory_mb(&self) -> f64 {
        peak_memory_mb(self.process_id)
    }

    /// Its process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Sends an event and waits for the answer.
    pub(crate) async fn invoke(&mut self, event: &Value) -> Result<Invoked> {
        self.wait_for_next().await?;
        self.n_invoked += 1;
        let deadline = chrono::Utc::now() + chrono::Duration::minutes(10);
        let work = Answer {
            status: 200,
            headers: vec![
                ("content-type", "application/json".to_owned()),
                (
                    "lambda-runtime-aws-request-id",
                    format!("00000000-0000-4000-8000-{:012}", self.n_invoked),
                ),
                (
                    "lambda-runtime-deadline-ms",
                    deadline.timestamp_millis().to_string(),
                ),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:eu-west-1:123456789012:function:bench".to_owned(),
                ),
            ],
            body: event.to_string(),
        };
        let sent = Instant::now();
        if let Some(next) = self.waiting.take() {
            // A process that has ended is noticed below.
            let _ = next.send(work);
        }
        match self.ask().await? {
            Ask::Answered(answer, at, reply) => {
                let _ = reply.send(accepted());
                Ok(Invoked {
                    wall: at - sent,
                    answer,
                })
            }
            Ask::Failed(error) => Err(self.failed(&error)),
            Ask::Next(_) => Err(self.failed("it asked for more work before it answered")),
        }
    }

    async fn wait_for_next(&mut self) -> Result<()> {
        if self.waiting.is_some() {
            return Ok(());
        }
        match self.ask().await? {
            Ask::Next(reply) => {
                self.waiting = Some(reply);
                Ok(())
            }
            Ask::Answered(..) => Err(self.failed("it answered what it was not asked")),
            Ask::Failed(error) => Err(self.failed(&error)),
        }
    }

    async fn ask(&mut self) -> Result<Ask> {
        let asked = tokio::select! {
            asked = self.asks.recv() => asked,
            _ = self.child.wait() => None,
            () = tokio::time::sleep(PATIENCE) => None,
        };
        asked.ok_or_else(|| self.failed("it ended, or asked and answered nothing for five minutes"))
    }

    fn failed(&self, reason: &str) -> Error {
        Error::NotAsPromised(format!(
            "a measured function did not do its work: {reason}\n{}",
            last_lines(&self.log, 20)
        ))
    }
}

fn accepted() -> Answer {
    Answer {
        status: 202,
        headers: vec![("content-type", "application/json".to_owned())],
        body: r#"{"status":"OK"}"#.to_owned(),
    }
}
