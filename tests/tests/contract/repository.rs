//! The repository's files, for the other tests.

use std::fs;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// The functions: one crate, one binary and one Lambda function each, all of the same name.
pub(crate) const FUNCTIONS: [&str; 10] = [
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

/// Those of them that log in to PostgreSQL; the first is the only one that may open.
pub(crate) const LOG_IN: [&str; 3] = ["enable-login", "disable-login", "reconcile"];

/// The state machines by their logical ids: the one that a request runs through, and the one that closes beside it.
pub(crate) const STATE_MACHINES: [(&str, &str); 2] = [
    ("StateMachine", "statemachine/access-window.asl.json"),
    ("CloseWindow", "statemachine/close-window.asl.json"),
];

/// The top folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// A state machine as it stands in its file, with its `${...}`.
pub(crate) fn state_machine(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
}

/// The state machine that a request runs through.
pub(crate) fn access_window() -> Value {
    state_machine(STATE_MACHINES[0].1)
}

/// The state machine that closes a window beside it.
pub(crate) fn close_window() -> Value {
    state_machine(STATE_MACHINES[1].1)
}

/// Both.
pub(crate) fn state_machines() -> [Value; 2] {
    [access_window(), close_window()]
}

/// The template as JSON, with its short forms (`!Ref x`) written out (`{"Ref": "x"}`).
pub(crate) fn template() -> Value {
    let text = read("template.yaml");
    let documents = Yaml::load_from_str(&text).unwrap();
    assert_eq!(documents.len(), 1);
    to_json(&documents[0])
}

/// Every text file of the repository, as paths below the top folder.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // .git is a file in a working tree of its own.
        if ["target", ".git", ".aws-sam", "node_modules"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if fs::read_to_string(&path).is_ok() {
            files.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
}

fn to_json(node: &Yaml) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(entries) => {
            let text = |key: &Yaml| key.as_str().expect("a key that is no text").to_owned();
            Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (text(key), to_json(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Yaml::Tagged(tag, value) => match (tag.suffix.as_str(), to_json(value)) {
            ("Ref", value) => json!({ "Ref": value }),
            ("Condition", value) => json!({ "Condition": value }),
            ("GetAtt", Value::String(path)) => {
                let (resource, attribute) = path.split_once('.').unwrap();
                json!({ "Fn::GetAtt": [resource, attribute] })
            }
            (function, value) => json!({ format!("Fn::{function}"): value }),
        },
        other => panic!("template.yaml has a node that this test cannot read: {other:?}"),
    }
}

/// Calls `visit` with every object in `value`, from the outside in.
pub(crate) fn visit_objects(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object
                .values()
                .for_each(|value| visit_objects(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| visit_objects(value, visit)),
        _ => {}
    }
}

/// One value or a list of them, as a list of texts.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
