//! Builds the functions and deploys the template, with the same commands as to AWS.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ministack::{Keys, MiniStack};
use crate::process;
use crate::tools::Tools;
use crate::workspace::{self, FUNCTIONS};

/// The name of the CloudFormation stack, as in `samconfig.toml`.
pub const STACK_NAME: &str = "latchkey";
/// The section of `samconfig.toml` for the local stack.
const ENVIRONMENT: &str = "local";

/// What `sam build` made.
#[derive(Debug)]
pub struct Built {
    folder: PathBuf,
    /// How long it took.
    pub took: Duration,
}

/// How much the compiler optimises the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimisation {
    /// As in production: link-time optimisation takes minutes after every change.
    Production,
    /// Hardly: seconds after a change, for trying things out. Everything runs several times slower.
    Quick,
}

impl Optimisation {
    /// The variable that asks for [`Optimisation::Quick`].
    pub const QUICK_VARIABLE: &str = "LATCHKEY_QUICK";

    /// [`Optimisation::Quick`] where the environment asks for it.
    pub fn of_environment() -> Self {
        match std::env::var_os(Self::QUICK_VARIABLE) {
            Some(_) => Self::Quick,
            None => Self::Production,
        }
    }

    /// What overrides the release profile of the root `Cargo.toml`
    /// (<https://doc.rust-lang.org/cargo/reference/environment-variables.html>).
    fn overrides(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Production => &[],
            Self::Quick => &[
                ("CARGO_PROFILE_RELEASE_LTO", "off"),
                ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
                ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"),
                ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true"),
            ],
        }
    }
}

/// Builds the functions in release mode and the template for `sam deploy`; nothing is done twice.
///
/// # Errors
/// What the compiler or SAM says.
pub async fn build(tools: &Tools, optimisation: Optimisation) -> Result<Built> {
    let _one_at_a_time = workspace::lock("build")?;
    let folder = workspace::target().join("sam").join("build");
    let log = workspace::target().join("sam").join("build.log");
    workspace::remove(&log)?;

    // All functions in one go, on every core; `sam build` then finds them done. Its own five builds, one after
    // the other, would link on one core and show nothing meanwhile.
    let mut took = compile(tools, optimisation, &log).await?;

    let stamp = folder.join("inputs");
    let inputs = inputs()?;
    if std::fs::read_to_string(&stamp).is_ok_and(|built| built == inputs) {
        return Ok(Built { folder, took });
    }
    let mut package = tools.command(tools.program("sam"));
    package
        .args(["build", "--config-env", ENVIRONMENT, "--build-dir"])
        .arg(&folder)
        .env("CARGO_LAMBDA_COMPILER", "cargo")
        .envs(optimisation.overrides().iter().copied())
        .envs(some_region());
    took += process::run_step("sam build", &log, package).await?;
    workspace::write(&stamp, &inputs)?;
    Ok(Built { folder, took })
}

/// Compiles the functions in release mode, each to `target/lambda/NAME/bootstrap`; nothing is done twice.
///
/// # Errors
/// What the compiler says.
pub async fn compile(tools: &Tools, optimisation: Optimisation, log: &Path) -> Result<Duration> {
    let mut compile = tools.command("cargo");
    compile.args(["lambda", "build", "--release", "--locked"]);
    for function in FUNCTIONS {
        compile.args(["--bin", function]);
    }
    compile
        .env("CARGO_LAMBDA_COMPILER", "cargo")
        .envs(optimisation.overrides().iter().copied());
    process::run_step("Compile the functions", log, compile).await
}

/// Deploys what was built to the local AWS and returns the stack's outputs.
///
/// # Errors
/// What SAM says.
pub async fn deploy(
    built: &Built,
    ministack: &MiniStack,
    log_folder: &Path,
) -> Result<BTreeMap<String, String>> {
    let mut deploy = ministack.command("sam", &Keys::of_root());
    deploy
        .args(["deploy", "--config-env", ENVIRONMENT, "--no-progressbar"])
        // SAM looks for it beside the template otherwise.
        .arg("--config-file")
        .arg(workspace::root().join("samconfig.toml"))
        .arg("--template-file")
        .arg(built.folder.join("template.yaml"));
    process::run("sam deploy", &log_folder.join("deploy.log"), deploy).await?;
    let aws = ministack.command("aws", &Keys::of_root());
    outputs_of(STACK_NAME, aws, Some(&ministack.endpoint())).await
}

/// Deploys another release over the running one. The packages differ from those before by a file that is never
/// read, the template by its description; `parameters` are set beside those of `samconfig.toml`.
///
/// # Errors
/// What SAM says.
pub(crate) async fn deploy_again(
    built: &Built,
    parameters: &[(&str, &str)],
    ministack: &MiniStack,
    run_folder: &Path,
) -> Result<()> {
    let folder = run_folder.join("release");
    workspace::remove(&folder)?;
    let log = run_folder.join("log").join("deploy-again.log");
    let mut copy = process::command("cp");
    copy.arg("-r").arg(&built.folder).arg(&folder);
    process::run("copy what was built", &log, copy).await?;
    let release = workspace::make_folder(folder.clone())?;
    for entry in std::fs::read_dir(&release).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            workspace::write(&entry.path().join("release"), "another one\n")?;
        }
    }
    let template = folder.join("template.yaml");
    // SAM wrote how to get from its own folder to the state machines.
    let machines = workspace::root().join("statemachine");
    let changed = workspace::read(&template)?
        .replace("../../../statemachine", &machines.to_string_lossy())
        .replacen("Latchkey:", "Latchkey, another release:", 1);
    workspace::write(&template, &changed)?;

    let config = workspace::root().join("samconfig.toml");
    let mut deploy = ministack.command("sam", &Keys::of_root());
    deploy
        .args(["deploy", "--config-env", ENVIRONMENT, "--no-progressbar"])
        .arg("--config-file")
        .arg(&config)
        .arg("--template-file")
        .arg(&template)
        .arg("--parameter-overrides")
        .args(local_parameters(&workspace::read(&config)?))
        .args(
            parameters
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
    process::run("sam deploy", &log, deploy).await
}

/// The parameters of the local stack in `samconfig.toml`, which those of the command line would replace.
fn local_parameters(samconfig: &str) -> Vec<String> {
    let section = format!("[{ENVIRONMENT}.deploy.parameters]");
    samconfig
        .lines()
        .skip_while(|line| *line != section)
        .find_map(|line| line.strip_prefix("parameter_overrides = "))
        .unwrap_or_default()
        .trim_matches('"')
        .split(' ')
        .map(str::to_owned)
        .collect()
}

/// The outputs of a deployed stack. `aws` is the AWS command line in the environment of whoever asks.
///
/// # Errors
/// When there is no such stack, or it has no outputs.
pub async fn outputs_of(
    stack: &str,
    mut aws: Command,
    endpoint: Option<&str>,
) -> Result<BTreeMap<String, String>> {
    if let Some(endpoint) = endpoint {
        aws.args(["--endpoint-url", endpoint]);
    }
    aws.args(["cloudformation", "describe-stacks", "--output", "json"]);
    aws.args(["--stack-name", stack]);
    let what = format!("read the outputs of the stack {stack}");
    let log = workspace::target().join("outputs.log");
    let answer = process::capture(&what, &log, aws).await?;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    let outputs = answer["Stacks"][0]["Outputs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    if outputs.is_empty() {
        return Err(Error::Aws {
            action: what,
            reason: "there are none; template.yaml must have Outputs".to_owned(),
        });
    }
    Ok(outputs
        .iter()
        .map(|output| (text(&output["OutputKey"]), text(&output["OutputValue"])))
        .collect())
}

/// What `sam build` reads, in one line: the same line means that its result would be the same.
fn inputs() -> Result<String> {
    let mut hasher = DefaultHasher::new();
    let root = workspace::root();
    let mut files = vec![root.join("template.yaml"), root.join("samconfig.toml")];
    for machine in ["access-window.asl.json", "close-window.asl.json"] {
        files.push(root.join("statemachine").join(machine));
    }
    for function in FUNCTIONS {
        files.push(
            workspace::target()
                .join("lambda")
                .join(function)
                .join("bootstrap"),
        );
    }
    for file in files {
        let content = std::fs::read(&file).map_err(|source| Error::File {
            action: "read",
            path: file,
            source,
        })?;
        content.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// SAM wants a region even where it calls nothing.
pub fn some_region() -> [(&'static str, &'static str); 1] {
    [("AWS_DEFAULT_REGION", crate::ministack::REGION)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_keeps_the_local_parameters() {
        let parameters = local_parameters(
            "[local.build.parameters]\nparameter_overrides = \"A=1\"\n\n[local.deploy.parameters]\nregion = \"x\"\nparameter_overrides = \"A=2 B=3\"\n",
        );
        assert_eq!(parameters, ["A=2", "B=3"]);
    }
}
