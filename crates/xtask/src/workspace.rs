//! Where things are in this checkout. Everything that the commands make is below `target/`.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The deployed functions: one crate, one binary and one Lambda function each.
pub const FUNCTIONS: [&str; 10] = [
    "compute-wait",
    "notify",
    "approval",
    "enable-login",
    "disable-login",
    "reconcile",
    "front-door",
    "confirm-requester",
    "grant-policy",
    "revoke-policy",
];

/// The root of this checkout.
pub fn root() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .ancestors()
        .nth(2)
        .expect("crates/xtask is two folders below the root")
}

/// The folder that holds everything built, installed or started.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Makes a folder with its parents, and returns its path.
///
/// # Errors
/// When the folder cannot be made.
pub fn make_folder(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).map_err(|source| Error::File {
        action: "create the folder",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Removes a file or a folder with everything in it; one that is not there is no error.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::File {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes a text file.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Waits until no other command of this checkout holds the lock called `name`, and holds it until the
/// returned file is dropped.
///
/// # Errors
/// When the lock file cannot be made.
pub fn lock(name: &str) -> Result<std::fs::File> {
    let path = make_folder(target().join("locks"))?.join(name);
    let failed = |source| Error::File {
        action: "lock",
        path: path.clone(),
        source,
    };
    let file = std::fs::File::create(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// A folder of our own for one run: `target/stack/<process id>-<name>`. Folders of runs that ended are
/// removed first, so that the newest logs can be looked at after a failure and nothing piles up.
///
/// # Errors
/// When a folder cannot be made or removed.
pub fn run_folder(name: &str) -> Result<PathBuf> {
    let _one_at_a_time = lock("stack")?;
    let runs = make_folder(target().join("stack"))?;
    for entry in std::fs::read_dir(&runs).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let process_id = file_name.to_string_lossy();
        let process_id = process_id.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process_id).exists() {
            remove(&entry.path())?;
        }
    }
    make_folder(runs.join(format!("{}-{name}", std::process::id())))
}
