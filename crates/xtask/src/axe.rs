//! axe-core, which finds what keeps people with disabilities out of a page: a test tool only (MPL-2.0), from npm.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha512};

use crate::error::{Error, Result};
use crate::{process, workspace};

/// The version, and what npm's registry says its package hashes to.
const VERSION: &str = "4.14.1";
const SHA_512: &str =
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==";

/// The script, to be evaluated in a page. Fetched below `target/tools` the first time.
///
/// # Errors
/// [`Error::ProgramMissing`] without npm, [`Error::Repository`] if the package is not the one that we know, and what
/// npm or tar say when they fail.
pub async fn script() -> Result<String> {
    let _one_at_a_time = workspace::lock("axe-core")?;
    let tools = workspace::make_folder(workspace::target().join("tools").join("axe-core"))?;
    let place = tools.join(VERSION).join("axe.min.js");
    if !place.is_file() {
        fetch(&tools).await?;
    }
    workspace::read(&place)
}

async fn fetch(tools: &Path) -> Result<()> {
    let npm = process::find_program("npm").ok_or(Error::ProgramMissing {
        program: "npm",
        remedy: "install Node.js with npm (Debian: apt-get install npm)",
    })?;
    let partial = tools.join("partial");
    workspace::remove(&partial)?;
    workspace::make_folder(partial.clone())?;
    let log = tools.join("fetch.log");
    let mut pack = process::command(npm);
    pack.args(["pack", "--silent", &format!("axe-core@{VERSION}")])
        .current_dir(&partial);
    process::run("fetching axe-core", &log, pack).await?;
    let package = partial.join(format!("axe-core-{VERSION}.tgz"));
    check(&package)?;
    let mut unpack = Command::new("tar");
    unpack
        .args(["--extract", "--gzip", "--no-same-owner", "--file"])
        .arg(&package)
        .current_dir(&partial);
    process::run("unpacking axe-core", &log, unpack).await?;
    let place: PathBuf = tools.join(VERSION);
    workspace::remove(&place)?;
    std::fs::rename(partial.join("package"), &place).map_err(|source| Error::File {
        action: "create",
        path: place,
        source,
    })?;
    workspace::remove(&partial)
}

/// Only the package that somebody has looked at.
fn check(package: &Path) -> Result<()> {
    let bytes = std::fs::read(package).map_err(|source| Error::File {
        action: "read",
        path: package.to_owned(),
        source,
    })?;
    let hash = data_encoding::BASE64.encode(&Sha512::digest(&bytes));
    if hash == SHA_512 {
        return Ok(());
    }
    Err(Error::Repository(format!(
        "npm gave another axe-core {VERSION} than the one that is pinned in crates/xtask/src/axe.rs: its SHA-512 is {hash}"
    )))
}
