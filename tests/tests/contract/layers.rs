//! Dependencies point one way: functions → shells → capabilities → contract → rules.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::repository::{FUNCTIONS, LOG_IN, root};

/// What each library of ours may name in its `Cargo.toml`.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("access-core", &[]),
    ("access-contract", &["access-core"]),
    ("access-text", &["access-contract", "access-core"]),
    ("access-postgres", &["access-contract", "access-core"]),
    ("access-aws", &["access-contract", "access-core"]),
    ("lambda-shell", &["access-contract", "access-core"]),
    (
        "window-shell",
        &[
            "access-aws",
            "access-contract",
            "access-core",
            "access-text",
            "lambda-shell",
        ],
    ),
    (
        "database-shell",
        &[
            "access-aws",
            "access-postgres",
            "access-contract",
            "access-core",
        ],
    ),
];

/// Everything that each package is built with, itself included, by name; without build scripts and tests.
struct Packages {
    direct: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeSet<String>,
    /// Every package that anything of ours is built with, as `name version`.
    versions: BTreeSet<String>,
}

impl Packages {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
            ])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let listed = metadata["packages"].as_array().unwrap();
        let versions = listed
            .iter()
            .map(|package| ["name", "version"].map(|field| package[field].as_str().unwrap()))
            .map(|name_and_version| name_and_version.join(" "))
            .collect();
        let names: BTreeMap<&str, &str> = listed
            .iter()
            .map(|package| {
                (
                    package["id"].as_str().unwrap(),
                    package["name"].as_str().unwrap(),
                )
            })
            .collect();
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let uses = direct
                .entry(names[node["id"].as_str().unwrap()].to_owned())
                .or_default();
            for dependency in node["deps"].as_array().unwrap() {
                if dependency["dep_kinds"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|kind| kind["kind"].is_null())
                {
                    uses.insert(names[dependency["pkg"].as_str().unwrap()].to_owned());
                }
            }
        }
        let members = metadata["workspace_members"].as_array().unwrap();
        let ours = members
            .iter()
            .map(|id| names[id.as_str().unwrap()].to_owned())
            .collect();
        Self {
            direct,
            ours,
            versions,
        }
    }

    fn ours_used_by(&self, package: &str) -> BTreeSet<&str> {
        self.direct[package]
            .intersection(&self.ours)
            .map(String::as_str)
            .collect()
    }

    fn built_into(&self, package: &str) -> BTreeSet<&str> {
        let mut built = BTreeSet::new();
        let mut todo = vec![package];
        while let Some(next) = todo.pop() {
            if let Some((name, uses)) = self.direct.get_key_value(next)
                && built.insert(name.as_str())
            {
                todo.extend(uses.iter().map(String::as_str));
            }
        }
        built
    }
}

#[test]
fn libraries_use_only_the_layers_below_them() {
    let packages = Packages::read();
    for (library, allowed) in MAY_USE {
        for used in packages.ours_used_by(library) {
            assert!(
                allowed.contains(&used),
                "{library} may not depend on {used}"
            );
        }
    }
}

#[test]
fn every_package_has_its_place_in_the_layers() {
    let packages = Packages::read();
    let placed: Vec<&str> = MAY_USE
        .iter()
        .map(|(name, _)| *name)
        .chain(FUNCTIONS)
        .collect();
    for package in &packages.ours {
        let tool = ["xtask", "latchkey-tests"].contains(&package.as_str());
        assert!(
            tool || placed.contains(&package.as_str()),
            "say in this test which layer {package} is in"
        );
    }
}

#[test]
fn no_function_depends_on_another_nor_on_a_tool() {
    let packages = Packages::read();
    for function in FUNCTIONS {
        for used in packages.ours_used_by(function) {
            assert!(
                MAY_USE.iter().any(|(library, _)| *library == used),
                "{function} may not depend on {used}"
            );
        }
    }
}

#[test]
fn only_the_functions_that_log_in_to_postgresql_can() {
    let packages = Packages::read();
    for function in FUNCTIONS {
        assert_eq!(
            packages.built_into(function).contains("tokio-postgres"),
            LOG_IN.contains(&function),
            "{function}"
        );
    }
}

#[test]
fn the_rules_do_no_io() {
    let packages = Packages::read();
    let built = packages.built_into("access-core");
    for package in built {
        let io = ["tokio", "hyper", "lambda_runtime", "tracing"].contains(&package)
            || package.starts_with("aws-");
        assert!(
            !io,
            "access-core holds pure rules, but is built with {package}"
        );
    }
}

#[test]
fn one_tls_stack_is_in_every_function() {
    let packages = Packages::read();
    for function in FUNCTIONS {
        for package in packages.built_into(function) {
            let other = [
                "openssl",
                "openssl-sys",
                "native-tls",
                "aws-lc-rs",
                "aws-lc-sys",
            ]
            .contains(&package);
            assert!(
                !other,
                "{function} is built with {package}; rustls with ring is the one TLS stack"
            );
        }
    }
}

/// They come with the default features of any `aws-sdk-*` crate: <https://github.com/awslabs/aws-sdk-rust/discussions/1257>.
#[test]
fn the_legacy_stack_of_the_aws_sdks_is_nowhere() {
    let packages = Packages::read();
    for legacy in ["hyper 0.14.", "rustls 0.21.", "h2 0.3."] {
        let found = packages.versions.iter().find(|it| it.starts_with(legacy));
        assert_eq!(found, None, "an aws-sdk crate is used with its defaults");
    }
    assert!(
        packages
            .versions
            .iter()
            .any(|it| it.starts_with("hyper 1."))
    );
}
