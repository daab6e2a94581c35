//! What users would write instead: Python and Node doing the same, installed below target/ from `tests/bench/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::error::{Error, Result};
use xtask::{console, process, workspace};

/// The peers that this machine can run.
pub(crate) struct Peers {
    python: Option<PathBuf>,
    node: Option<(PathBuf, PathBuf)>,
    /// Which are missing, and what to do about it, a sentence each.
    pub(crate) missing: Vec<String>,
}

impl Peers {
    /// Installs what is not there yet; what cannot be installed is said to be missing.
    pub(crate) async fn install(log: &Path) -> Result<Self> {
        let mut missing = Vec::new();
        let python = match install_python(log).await {
            Ok(python) => Some(python),
            Err(error) => {
                missing.push(format!("Python is not measured: {}", error.with_causes()));
                None
            }
        };
        let node = match install_node(log).await {
            Ok(node) => Some(node),
            Err(error) => {
                missing.push(format!("Node is not measured: {}", error.with_causes()));
                None
            }
        };
        for sentence in &missing {
            console::say(&console::red(sentence));
        }
        Ok(Self {
            python,
            node,
            missing,
        })
    }

    /// A function in Python under AWS's own runtime client, as in Lambda: `login_core` or `enable_login`.
    pub(crate) fn python(&self, module: &str) -> Option<Command> {
        let mut command = process::command(self.python.as_ref()?);
        command
            .args(["-m", "awslambdaric", &format!("{module}.handler")])
            .env("PYTHONPATH", source("python"))
            // Compiled at the first run, beside nobody's sources.
            .env(
                "PYTHONPYCACHEPREFIX",
                workspace::target().join("bench/python-compiled"),
            );
        Some(command)
    }

    /// A function in Node, in one minified file.
    pub(crate) fn node(&self, module: &str) -> Option<Command> {
        let (node, folder) = self.node.as_ref()?;
        let mut command = process::command(node);
        command.arg(folder.join(format!("{module}.js")));
        Some(command)
    }
}

fn source(language: &str) -> PathBuf {
    workspace::root().join("tests/bench/peers").join(language)
}

async fn install_python(log: &Path) -> Result<PathBuf> {
    let found = process::find_program("python3").ok_or(Error::ProgramMissing {
        program: "python3",
        remedy: "install Python 3.11 or newer with its venv module",
    })?;
    let folder = workspace::target().join("bench/python");
    let python = folder.join("bin/python");
    let requirements = source("python").join("requirements.txt");
    let stamp = folder.join("installed");
    let wanted = workspace::read(&requirements)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    workspace::remove(&folder)?;
    let mut make = process::command(found);
    make.args(["-m", "venv"]).arg(&folder);
    process::run_step("Make a Python environment", log, make).await?;
    let mut install = process::command(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&requirements);
    process::run_step("Install boto3 and psycopg", log, install).await?;
    workspace::write(&stamp, &wanted)?;
    Ok(python)
}

async fn install_node(log: &Path) -> Result<(PathBuf, PathBuf)> {
    let remedy = "install Node 20 or newer with npm";
    let missing = |program| Error::ProgramMissing { program, remedy };
    let node = process::find_program("node").ok_or(missing("node"))?;
    let npm = process::find_program("npm").ok_or(missing("npm"))?;
    let folder = workspace::make_folder(workspace::target().join("bench/node"))?;
    let mut wanted = String::new();
    for file in FILES_OF_NODE {
        wanted.push_str(&workspace::read(&source("node").join(file))?);
    }
    let stamp = folder.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok((node, folder));
    }
    for file in FILES_OF_NODE {
        workspace::write(
            &folder.join(file),
            &workspace::read(&source("node").join(file))?,
        )?;
    }
    let mut install = process::command(npm);
    install
        .args(["ci", "--silent", "--no-audit", "--no-fund"])
        .current_dir(&folder);
    process::run_step("Install the AWS SDK for JavaScript and pg", log, install).await?;
    let mut bundle = process::command(folder.join("node_modules/.bin/esbuild"));
    bundle
        .args(["login_core.mjs", "enable_login.mjs", "--bundle", "--minify"])
        .args(["--platform=node", "--target=node20", "--format=cjs"])
        .args(["--external:pg-native", "--outdir=."])
        .current_dir(&folder);
    process::run_step("Bundle the functions in Node", log, bundle).await?;
    workspace::write(&stamp, &wanted)?;
    Ok((node, folder))
}

const FILES_OF_NODE: [&str; 6] = [
    "package.json",
    "package-lock.json",
    "runtime.mjs",
    "secret.mjs",
    "login_core.mjs",
    "enable_login.mjs",
];
