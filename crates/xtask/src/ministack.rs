//! The local AWS: MiniStack on a free port of 127.0.0.1, enforcing every IAM policy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::{self, Server};
use crate::tools::Tools;
use crate::{callback, workspace};

/// The region of the local AWS.
pub const REGION: &str = "us-east-1";
/// The account of the local AWS.
pub const ACCOUNT: &str = "123456789012";

const READY_WITHIN: Duration = Duration::from_secs(60);

/// The keys of a principal of the local AWS.
#[derive(Clone)]
pub struct Keys {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// The token of a role session.
    pub session_token: Option<String>,
}

impl Keys {
    /// The account's root user: `AUTH=true` lets these well-known keys do everything.
    pub fn of_root() -> Self {
        Self {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
            session_token: None,
        }
    }

    /// The same for the SDKs.
    pub fn credentials(&self) -> aws_credential_types::Credentials {
        aws_credential_types::Credentials::new(
            &self.access_key_id,
            &self.secret_access_key,
            self.session_token.clone(),
            None,
            "local stack",
        )
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// A running MiniStack. It ends when this is dropped.
#[derive(Debug)]
pub struct MiniStack {
    tools: Tools,
    port: u16,
    log: PathBuf,
    cli_log: PathBuf,
    _server: Server,
}

impl MiniStack {
    /// Starts MiniStack with its state, files and logs in `folder`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(tools: &Tools, folder: &Path) -> Result<Self> {
        let port = process::free_port()?;
        let log = folder.join("log").join("ministack.log");
        let mut command = Command::new(tools.program("python"));
        command.arg(workspace::root().join("crates/xtask/tools/ministack_as_aws.py"));
        // The functions inherit this environment, so it holds nothing of the person's own.
        command
            .env("PATH", tools.path())
            .env("LANG", "C.UTF-8")
            .env("HOME", workspace::make_folder(folder.join("home"))?)
            .env("TMPDIR", workspace::make_folder(folder.join("tmp"))?)
            .env("STATE_DIR", workspace::make_folder(folder.join("state"))?)
            .env("S3_DATA_DIR", workspace::make_folder(folder.join("s3"))?)
            .env("PYTHONUNBUFFERED", "1")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
            .env("MINISTACK_REGION", REGION)
            .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
            .env("AUTH", "true")
            .env("CLOUDTRAIL_RECORDING", "1")
            // They would listen on fixed ports, and two stacks could not run at once.
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0")
            .current_dir(folder);
        let mut server = Server::start("the local AWS (MiniStack)", &log, &command)?;
        server
            .wait_until_ready(READY_WITHIN, async || {
                match callback::get_local(port, "/_ministack/ready").await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(format!("it answered {}", answer.status)),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await?;
        let cli_log = folder.join("log").join("aws.log");
        Ok(Self {
            tools: tools.clone(),
            port,
            log,
            cli_log,
            _server: server,
        })
    }

    /// The address of every AWS service.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port of every AWS service.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The tools that it was started with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Where the log of the local AWS is, with the lines of the functions in it.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A command that talks to this local AWS as `keys`.
    pub fn command(&self, program: &str, keys: &Keys) -> Command {
        let mut command = self.tools.command(self.tools.program(program));
        command.envs(self.environment(keys));
        command
    }

    /// The environment in which the AWS command line and SDKs talk to this local AWS as `keys`.
    pub fn environment(&self, keys: &Keys) -> Vec<(&'static str, String)> {
        let token = keys.session_token.clone();
        let mut variables = vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
        ];
        variables.extend(token.map(|token| ("AWS_SESSION_TOKEN", token)));
        variables
    }

    /// Calls the AWS command line as root and returns its answer: for what is rare enough not to be worth
    /// the minutes of compiling another SDK.
    ///
    /// # Errors
    /// When the call is refused, or its answer is not JSON.
    pub async fn aws(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        // Version 1 of the command line ignores AWS_ENDPOINT_URL for some services.
        let mut command = self.command("aws", &Keys::of_root());
        command
            .args(["--endpoint-url", &self.endpoint(), "--output", "json"])
            .args(arguments);
        let what = format!(
            "aws {}",
            arguments
                .iter()
                .take(2)
                .copied()
                .collect::<Vec<_>>()
                .join(" ")
        );
        let answer = process::capture(&what, &self.cli_log, command).await?;
        if answer.trim().is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_str(&answer).map_err(|error| Error::Aws {
            action: what,
            reason: format!("not JSON: {error}"),
        })
    }

    /// Kills every process in which the function called `name` runs, and returns how many there were.
    ///
    /// # Errors
    /// When one of them cannot be killed.
    pub fn kill_function(&self, name: &str) -> Result<usize> {
        let ours = [
            format!("AWS_LAMBDA_FUNCTION_NAME={name}"),
            format!("AWS_ENDPOINT_URL={}", self.endpoint()),
        ];
        let mut n_killed = 0;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            // One that has just ended, or is not a process.
            let Ok(environment) = std::fs::read(entry.path().join("environ")) else {
                continue;
            };
            let variables: Vec<_> = environment.split(|byte| *byte == 0).collect();
            if !ours.iter().all(|our| variables.contains(&our.as_bytes())) {
                continue;
            }
            let pid = entry.file_name().to_string_lossy().parse().ok();
            let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
                continue;
            };
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(
                |source| Error::Aws {
                    action: format!("kill a process of {name}"),
                    reason: source.to_string(),
                },
            )?;
            n_killed += 1;
        }
        Ok(n_killed)
    }

    /// The settings of an SDK client that talks to this local AWS as `keys`.
    pub async fn sdk_config(&self, keys: &Keys) -> aws_config::SdkConfig {
        aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::from_static(REGION))
            .endpoint_url(self.endpoint())
            .credentials_provider(
                aws_credential_types::provider::SharedCredentialsProvider::new(keys.credentials()),
            )
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build()
    }
}
