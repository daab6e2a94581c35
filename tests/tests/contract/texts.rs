//! Rules on every file.

use std::fs;

use crate::repository::{files, root};

#[test]
fn every_rust_file_says_first_what_it_is_for() {
    for path in files()
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
    {
        let text = fs::read_to_string(root().join(path)).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} must start with a //! line",
            path.display()
        );
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = files();
    for path in manifests
        .iter()
        .filter(|path| path.ends_with("Cargo.toml") && path.components().count() > 1)
    {
        let text = fs::read_to_string(root().join(path)).unwrap();
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} must take the workspace's lints",
            path.display()
        );
    }
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    // In pieces, so that this file does not name them either.
    let paths = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    for path in files() {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for machine in &paths {
            let named = text.match_indices(machine).any(|(at, _)| {
                // At the start of a path, not within one such as target/home/.
                text[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|before| !(before.is_alphanumeric() || "}_-.".contains(before)))
            });
            assert!(
                !named,
                "{} names {machine}, which other machines do not have",
                path.display()
            );
        }
    }
}
