//! The matrix that tests of the stack fill: who × what × expected × observed. A row is there only because a test saw it.
//!
//! The tests of one run share a file, which `cargo xtask test stack` prints at its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

type Row = [String; 4];

/// The rows of the tests that are done, by what they are about.
static OBSERVED: Mutex<BTreeMap<&str, Vec<Row>>> = Mutex::new(BTreeMap::new());

/// What one test tried, what should come of it, and what did.
pub(super) struct Matrix {
    about: &'static str,
    rows: Vec<Row>,
}

impl Matrix {
    pub(super) fn about(about: &'static str) -> Self {
        Self {
            about,
            rows: Vec::new(),
        }
    }

    pub(super) fn note(
        &mut self,
        who: &str,
        what: &str,
        expected: impl ToString,
        observed: impl ToString,
    ) {
        self.rows.push([
            who.to_owned(),
            what.to_owned(),
            expected.to_string(),
            observed.to_string(),
        ]);
    }

    /// Adds it to the matrix of the run; a row in which something else was observed than expected fails the test.
    pub(super) fn check(self) {
        let Self { about, rows } = self;
        let own = print(&BTreeMap::from([(about, rows.clone())]));
        let mut observed = OBSERVED.lock().unwrap();
        let earlier = observed.insert(about, rows.clone());
        assert!(earlier.is_none(), "two tests are about {about}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("approval-matrix.md");
        std::fs::write(path, print(&observed)).unwrap();
        drop(observed);
        assert!(!rows.is_empty(), "{about}: nothing was observed");
        let holds = rows
            .iter()
            .all(|[_, _, expected, observed]| expected == observed);
        assert!(holds, "{own}");
    }
}

fn print(observed: &BTreeMap<&str, Vec<Row>>) -> String {
    let mut text = String::new();
    let (mut n_rows, mut n_mismatches) = (0, 0);
    for (about, rows) in observed {
        text.push_str(&format!(
            "\n{about}\n\n| who | what | expected | observed |\n|---|---|---|---|\n"
        ));
        for [who, what, expected, observed] in rows {
            let mismatch = if expected == observed {
                ""
            } else {
                n_mismatches += 1;
                " ← MISMATCH"
            };
            n_rows += 1;
            writeln!(
                text,
                "| {who} | {what} | {expected} | {observed}{mismatch} |"
            )
            .unwrap();
        }
    }
    writeln!(text, "\n{n_rows} rows, {n_mismatches} mismatches").unwrap();
    text
}
