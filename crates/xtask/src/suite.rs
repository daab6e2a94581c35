//! `cargo xtask test`: every test, part by part, and one closing line that counts them.

use std::io::Write;

use clap::{Args, ValueEnum};
use xtask::deploy::Optimisation;
use xtask::error::{Error, Result};
use xtask::{console, process, workspace};

/// The features of the tests package that turn its slower parts on.
pub(crate) const FEATURES: &str =
    "latchkey-tests/postgres,latchkey-tests/stack,latchkey-tests/browser";

/// How much the part `chaos` does: `long` or `short`.
const CHAOS_VARIABLE: &str = "LATCHKEY_CHAOS";
/// The versions of PostgreSQL that the tests use.
const VERSIONS_VARIABLE: &str = "LATCHKEY_PG_VERSIONS";
const ALL_VERSIONS: &str = "13,14,15,16,17,18";

/// Which tests to run.
#[derive(Args)]
pub(crate) struct Options {
    /// The part to run; all of them if none is named.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Build the deployed functions without optimisation: seconds instead of minutes after a change.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The tests inside the crates: rules, texts, handlers. Needs nothing else.
    Unit,
    /// That template, state machine, crates and recorded payloads agree. Needs nothing else.
    Contract,
    /// The SQL and the connection, on a real PostgreSQL server. Alone it runs on PostgreSQL 13 to 18, or on those that
    /// LATCHKEY_PG_VERSIONS names; among all parts on one.
    Postgres,
    /// The deployed template on the local AWS, with a real PostgreSQL server. Prints at its end who tried what, what
    /// should have come of it, and what did.
    Stack,
    /// Faults while windows are open; prints which defence closed each, and how long after. Alone it is long: every
    /// fault on PostgreSQL 13 to 18, or on those that LATCHKEY_PG_VERSIONS names. Among all parts it is short.
    Chaos,
    /// The approval page in headless Chromium; screenshots are kept in target/screenshots.
    Browser,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Unit,
        Self::Contract,
        Self::Postgres,
        Self::Stack,
        Self::Chaos,
        Self::Browser,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Unit => "unit: rules, texts, handlers",
            Self::Contract => "contract: template, state machine, crates",
            Self::Postgres => "postgres: a real server",
            Self::Stack => "stack: deployed on the local AWS",
            Self::Chaos => "chaos: faults while windows are open",
            Self::Browser => "browser: the approval page in Chromium",
        }
    }

    /// Which targets of the workspace to test. All parts are built with the same features, so that they share
    /// one build of the dependencies.
    fn targets(self) -> Result<Vec<String>> {
        let targets = match self {
            Self::Unit => {
                let mut targets = vec!["--lib".to_owned(), "--bins".to_owned()];
                for test in tests_of_crates()? {
                    targets.extend(["--test".to_owned(), test]);
                }
                return Ok(targets);
            }
            Self::Contract => "--test contract",
            Self::Postgres => "--test postgres",
            // They wait more than they work, so more of them run at once than there are cores.
            Self::Stack => "--test stack -- --test-threads 6",
            Self::Chaos => "--test chaos -- --nocapture",
            Self::Browser => "--test browser --test browser_on_stack",
        };
        Ok(targets.split(' ').map(str::to_owned).collect())
    }
}

/// The names of the test files of all crates but the tests package, whose files are parts of their own.
fn tests_of_crates() -> Result<Vec<String>> {
    let mut tests = Vec::new();
    let crates = workspace::root().join("crates");
    let unreadable = |source| Error::File {
        action: "read",
        path: crates.clone(),
        source,
    };
    for folder in std::fs::read_dir(&crates).map_err(unreadable)? {
        let Ok(files) = std::fs::read_dir(folder.map_err(unreadable)?.path().join("tests")) else {
            continue;
        };
        for file in files {
            let path = file.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                tests.extend(
                    path.file_stem()
                        .map(|name| name.to_string_lossy().into_owned()),
                );
            }
        }
    }
    tests.sort_unstable();
    Ok(tests)
}

/// Runs the tests and ends with the line `N passed, N failed`.
///
/// # Errors
/// [`Error::NotAsPromised`] if a test failed or a part did not run.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let parts = options
        .part
        .map_or_else(|| Part::ALL.to_vec(), |part| vec![part]);
    let mut counted = Counted::default();
    let mut broken = Vec::new();
    for part in parts {
        console::heading(part.title());
        let (of_part, ended_well) = run_part(part, options).await?;
        counted.add(&of_part);
        if !ended_well || of_part.n_run() == 0 {
            broken.push(part);
        }
    }
    // A part that broke without a failed test, say because it does not compile, must not look like a success.
    if !broken.is_empty() && counted.n_failed == 0 {
        counted.n_failed = broken.len();
    }
    let mut stdout = std::io::stdout();
    // Nobody is left to read it when standard output is gone.
    let _ = writeln!(
        stdout,
        "\n{} passed, {} failed",
        counted.n_passed, counted.n_failed
    );
    if broken.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = broken
        .iter()
        .map(|part| format!("{part:?}").to_lowercase())
        .collect();
    Err(Error::NotAsPromised(format!(
        "failed: {}",
        names.join(", ")
    )))
}

async fn run_part(part: Part, options: &Options) -> Result<(Counted, bool)> {
    let mut command = process::command("cargo");
    command
        .args([
            "test",
            "--locked",
            "--no-fail-fast",
            "--workspace",
            "--features",
            FEATURES,
        ])
        .args(part.targets()?)
        .current_dir(workspace::root());
    if options.quick {
        command.env(Optimisation::QUICK_VARIABLE, "1");
    }
    let alone = options.part.is_some();
    if part == Part::Chaos {
        command.env(CHAOS_VARIABLE, if alone { "long" } else { "short" });
    }
    let is_of_a_version = matches!(part, Part::Postgres | Part::Chaos);
    if alone && is_of_a_version && std::env::var_os(VERSIONS_VARIABLE).is_none() {
        command.env(VERSIONS_VARIABLE, ALL_VERSIONS);
    }
    let matrix = workspace::target().join("tmp/approval-matrix.md");
    if part == Part::Stack {
        // What an earlier run saw, this one has not seen.
        let _ = std::fs::remove_file(&matrix);
    }
    let mut counted = Counted::default();
    let status = process::run_line_by_line(command, |line| {
        // Nobody is left to read it when standard output is gone.
        let _ = writeln!(std::io::stdout(), "{line}");
        if let Some(result) = Counted::from_closing_line(line) {
            counted.add(&result);
        }
    })
    .await?;
    if part == Part::Stack
        && let Ok(observed) = std::fs::read_to_string(&matrix)
    {
        console::heading("stack: who × what × expected × observed");
        let _ = writeln!(std::io::stdout(), "{observed}");
    }
    Ok((counted, status.success()))
}

/// How many tests passed and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    n_passed: usize,
    n_failed: usize,
}

impl Counted {
    /// Reads `test result: ok. 12 passed; 0 failed; 0 ignored; ...`, libtest's closing line.
    fn from_closing_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            counts
                .split("; ")
                .find_map(|count| count.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Self {
            n_passed: count("passed")?,
            n_failed: count("failed")?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.n_passed += other.n_passed;
        self.n_failed += other.n_failed;
    }

    fn n_run(&self) -> usize {
        self.n_passed + self.n_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let passed = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(
            Counted::from_closing_line(passed),
            Some(Counted {
                n_passed: 12,
                n_failed: 0
            })
        );
        let failed = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s";
        assert_eq!(
            Counted::from_closing_line(failed),
            Some(Counted {
                n_passed: 3,
                n_failed: 1
            })
        );
        assert_eq!(
            Counted::from_closing_line("test result: not one of libtest's"),
            None
        );
    }
}
