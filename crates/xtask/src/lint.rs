//! `cargo xtask lint`: format, lints, documentation, dependencies, template.

use std::process::Command;

use xtask::console;
use xtask::error::{Error, Result};
use xtask::tools::Tools;
use xtask::{deploy, process, workspace};

use crate::suite;

/// Runs every check, also after one has failed, so that one run says all there is to mend.
///
/// # Errors
/// [`Error::NotAsPromised`] if any check failed.
pub(crate) async fn run() -> Result<()> {
    let tools = Tools::ensure().await?;
    let mut failed = Vec::new();
    for (name, command) in checks(&tools) {
        let log = workspace::target()
            .join("lint")
            .join(format!("{}.log", name.replace(' ', "-")));
        workspace::remove(&log)?;
        match process::run_step(name, &log, command).await {
            Ok(_) => {}
            Err(error @ Error::Failed { .. }) => {
                console::say(&error.to_string());
                failed.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::NotAsPromised(format!(
        "to mend: {}",
        failed.join(", ")
    )))
}

fn checks(tools: &Tools) -> Vec<(&'static str, Command)> {
    let cargo = |arguments: &[&str]| {
        let mut command = tools.command("cargo");
        command.args(arguments);
        command
    };
    let mut clippy = cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--features",
        suite::FEATURES,
    ]);
    clippy.args(["--", "--deny", "warnings"]);
    let mut doc = cargo(&[
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    let mut cfn_lint = tools.command(tools.program("cfn-lint"));
    cfn_lint.args(["--non-zero-exit-code", "warning", "template.yaml"]);
    let mut sam = tools.command(tools.program("sam"));
    sam.args(["validate", "--lint", "--template-file", "template.yaml"])
        .envs(deploy::some_region());
    vec![
        ("cargo fmt", cargo(&["fmt", "--all", "--check"])),
        ("cargo clippy", clippy),
        ("cargo doc", doc),
        (
            "cargo deny",
            cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"]),
        ),
        ("cfn-lint", cfn_lint),
        ("sam validate", sam),
    ]
}
