//! `cargo xtask catalogue check`: the faults of catalogue documents, and of the people among them together, offline.

use std::path::{Path, PathBuf};

use access_core::catalogue::{Kind, Person, check_document};
use access_core::{Faults, principal};
use xtask::console::{self, green, red};
use xtask::error::{Error, Result};
use xtask::workspace;

/// Says every fault of every file.
///
/// # Errors
/// [`Error::NotAsPromised`] if a document has a fault, and when a file cannot be read or placed.
pub(crate) fn check(files: &[PathBuf]) -> Result<()> {
    let mut n_faulty = 0;
    let mut people = Vec::new();
    for file in files {
        let (kind, text) = (kind_of(file)?, workspace::read(file)?);
        let faults = check_document(kind, &text);
        if faults.is_empty() {
            if kind == Kind::Person {
                people.extend(read_person(&text));
            }
            console::say(&format!("{}: {}", file.display(), green("sound")));
            continue;
        }
        n_faulty += 1;
        for fault in faults {
            console::say(&format!(
                "{}: {} {}: {}",
                file.display(),
                red(fault.name.as_str()),
                fault.path,
                fault.message
            ));
        }
    }
    for (one, other) in principal::clashes(&people) {
        n_faulty += 1;
        console::say(&format!(
            "{}: {one} and {other} share a principal, so whoever uses it is nobody; give it to one of them, or say \
             each one's session_name",
            red("ambiguous")
        ));
    }
    if n_faulty == 0 {
        Ok(())
    } else {
        Err(Error::NotAsPromised(format!("faults to mend: {n_faulty}")))
    }
}

fn read_person(text: &str) -> Option<Person> {
    Person::read(&serde_json::from_str(text).ok()?, &mut Faults::new())
}

/// The folder of the catalogue that a file stands in says what it must be.
fn kind_of(file: &Path) -> Result<Kind> {
    Kind::of_path(&file.to_string_lossy()).ok_or_else(|| {
        Error::Repository(format!(
            "{} is in no folder databases, accounts, roles or people, so it does not say what it is; save it as in the catalogue, \
             such as catalogue/roles/orders/breakglass.json",
            file.display()
        ))
    })
}
