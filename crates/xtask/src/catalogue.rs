//! `cargo xtask catalogue check`: the faults of catalogue documents, offline.

use std::path::{Path, PathBuf};

use access_core::catalogue::{Kind, check_document};
use xtask::console::{self, green, red};
use xtask::error::{Error, Result};
use xtask::workspace;

/// Says every fault of every file.
///
/// # Errors
/// [`Error::NotAsPromised`] if a document has a fault, and when a file cannot be read or placed.
pub(crate) fn check(files: &[PathBuf]) -> Result<()> {
    let mut n_faulty = 0;
    for file in files {
        let faults = check_document(kind_of(file)?, &workspace::read(file)?);
        if faults.is_empty() {
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
    if n_faulty == 0 {
        Ok(())
    } else {
        Err(Error::NotAsPromised(format!(
            "documents to mend: {n_faulty}"
        )))
    }
}

/// The folder of the catalogue that a file stands in says what it must be.
fn kind_of(file: &Path) -> Result<Kind> {
    Kind::of_path(&file.to_string_lossy()).ok_or_else(|| {
        Error::Repository(format!(
            "{} is in no folder databases, roles or people, so it does not say what it is; save it as in the catalogue, \
             such as catalogue/roles/orders/breakglass.json",
            file.display()
        ))
    })
}
