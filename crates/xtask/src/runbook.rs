//! `cargo xtask catalogue import-runbook`: the parameters of a Systems Manager runbook as catalogue documents and a request.
//!
//! The runbook is an Automation that pauses in `aws:approve`, sleeps until a start, lets a database user log in, sleeps
//! until an end and takes the login back. Its parameters are `DBUser`, `DBName`, `StartTime`, `EndTime`, `Approvers` and
//! `SnsTopicArn`; what `aws:approve` takes is at
//! <https://docs.aws.amazon.com/systems-manager/latest/userguide/automation-action-approve.html>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use access_core::catalogue::{Kind, check_document};
use access_core::{
    Fault, FaultName, Faults, PersonId, RequestDraft, RoleName, TargetId, document, time,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use xtask::console::{self, green, red};
use xtask::error::{Error, Result};
use xtask::workspace;

/// What the runbook does not know and Latchkey must.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The parameters as JSON: what `start-automation-execution --parameters` takes, or what
    /// `get-automation-execution` answers.
    parameters: PathBuf,
    /// The requester's id in the catalogue. A runbook does not say who asks.
    #[arg(long)]
    requester: String,
    /// Why the access is needed; approvers read it.
    #[arg(long)]
    reason: String,
    /// The database's name in the catalogue, if DBName is not to be it.
    #[arg(long)]
    target: Option<String>,
    /// The domain of the approvers' mailboxes, for those whose principal does not tell it.
    #[arg(long)]
    mail_domain: Option<String>,
    /// The folder of the catalogue; what is there already is kept.
    #[arg(long, default_value = "catalogue")]
    into: PathBuf,
}

/// What an import makes.
#[derive(Debug, PartialEq)]
struct Imported {
    /// The documents by their paths in the catalogue.
    documents: BTreeMap<String, Value>,
    /// The input of the execution, or the body of the call to the front door without `requester`.
    request: Value,
    /// What is left to do by hand.
    remarks: Vec<String>,
}

/// Writes the documents and the request, and says what is left to do.
///
/// # Errors
/// [`Error::NotAsPromised`] with every fault said before; when a file cannot be read or written.
pub(crate) fn import(options: &Options) -> Result<()> {
    let text = workspace::read(&options.parameters)?;
    let value = serde_json::from_str(&text).map_err(|error| {
        Error::Repository(format!(
            "{} is not JSON: {error}",
            options.parameters.display()
        ))
    })?;
    let imported = match convert(&value, options) {
        Ok(imported) => imported,
        Err(faults) => {
            for fault in &faults {
                let (name, path) = (red(fault.name.as_str()), &fault.path);
                console::say(&format!("{name} {path}: {}", fault.message));
            }
            return Err(Error::NotAsPromised(format!(
                "faults to mend: {}",
                faults.len()
            )));
        }
    };
    for (path, document) in &imported.documents {
        write_new(&options.into.join(path), document)?;
    }
    write_new(&options.into.join("request.json"), &imported.request)?;
    for remark in imported.remarks {
        console::say(&remark);
    }
    Ok(())
}

/// Somebody may have edited what is there.
fn write_new(file: &Path, document: &Value) -> Result<()> {
    if file.exists() {
        console::say(&format!("{}: kept as it is", file.display()));
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        workspace::make_folder(folder.to_owned())?;
    }
    workspace::write(file, &format!("{document:#}\n"))?;
    console::say(&format!("{}: {}", file.display(), green("written")));
    Ok(())
}

fn convert(value: &Value, options: &Options) -> std::result::Result<Imported, Vec<Fault>> {
    let mut faults = Faults::new();
    let mut parameters = Parameters::new(value);
    let role = parameters.one("DBUser", &mut faults);
    let database = parameters.one("DBName", &mut faults);
    let start = parameters.one("StartTime", &mut faults);
    let end = parameters.one("EndTime", &mut faults);
    let approvers = parameters.all("Approvers", &mut faults);
    let topic = parameters.one("SnsTopicArn", &mut faults);
    parameters.finish(&mut faults);

    let target = options.target.clone().or(database);
    check_name(target.as_deref(), TargetId::new, "$.DBName", &mut faults);
    check_name(role.as_deref(), RoleName::new, "$.DBUser", &mut faults);
    let seconds = window_seconds(start.as_deref(), end.as_deref(), &mut faults);
    let topic = topic.and_then(|arn| read_topic(&arn, &mut faults));
    let mut people = BTreeMap::new();
    for approver in &approvers {
        let Some(person) = read_approver(approver, topic.as_ref(), options, &mut faults) else {
            continue;
        };
        let id = person["id"].as_str().unwrap_or_default().to_owned();
        if people.insert(id.clone(), person).is_some() {
            let message = format!(
                "{approver} and another approver would both be {id}; import them one by one, or name one approver once"
            );
            faults.add(FaultName::InvalidValue, "$.Approvers", message);
        }
    }
    let (Some(target), Some(role), Some(seconds), true) =
        (target, role, seconds, faults.is_empty())
    else {
        return Err(faults.into_vec());
    };

    let ids: Vec<&String> = people.keys().collect();
    let policy = json!({
        "role": role, "approvers": ids, "required_approvals": 1,
        "max_duration": as_duration(seconds), "max_ahead": "P7D", "approval_deadline": "PT4H",
        "mode": "observe", "credential": "existing",
    });
    let request = json!({
        "target": target, "role": role, "requester": options.requester,
        "start": start, "end": end, "reason": options.reason,
    });
    let remarks = vec![
        format!(
            "Register the database as databases/{target}.json; a runbook does not say how to reach it."
        ),
        format!(
            "{role} is only observed, and keeps its password, as under the runbook. \
             Set \"mode\" to \"enforce\" and remove \"credential\" when you are ready."
        ),
        format!(
            "Subscribe each of {} with `cargo xtask people subscribe`; subscriptions of the runbook's topic are not used.",
            ids.iter()
                .map(|id| id.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    ];
    let file = parameter_name(&role);
    let mut documents = BTreeMap::from([(format!("roles/{target}/{file}.json"), policy)]);
    documents.extend(
        people
            .into_iter()
            .map(|(id, person)| (format!("people/{id}.json"), person)),
    );
    for (path, document) in &documents {
        let kind = Kind::of_path(path).unwrap_or(Kind::Person);
        for fault in check_document(kind, &document.to_string()) {
            faults.add(fault.name, format!("{path} {}", fault.path), fault.message);
        }
    }
    RequestDraft::read(&request, &mut faults);
    if faults.is_empty() {
        Ok(Imported {
            documents,
            request,
            remarks,
        })
    } else {
        Err(faults.into_vec())
    }
}

/// The parameters, each a list of texts as Systems Manager keeps them, or a text alone.
struct Parameters<'a> {
    fields: Option<document::Object<'a>>,
}

impl<'a> Parameters<'a> {
    /// The answer of `get-automation-execution` holds them two levels down.
    fn new(value: &'a Value) -> Self {
        let value = value.get("AutomationExecution").unwrap_or(value);
        let value = value.get("Parameters").unwrap_or(value);
        Self {
            fields: document::Object::new(value, "$", &mut Faults::new()),
        }
    }

    fn all(&mut self, name: &'static str, faults: &mut Faults) -> Vec<String> {
        let Some(fields) = &mut self.fields else {
            return Vec::new();
        };
        let path = fields.path_of(name);
        match fields.required(name, faults) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(|item| document::text(item, &path, faults))
                .map(str::to_owned)
                .collect(),
            Some(value) => document::text(value, &path, faults)
                .into_iter()
                .flat_map(|text| text.split(','))
                .map(|text| text.trim().to_owned())
                .collect(),
        }
    }

    fn one(&mut self, name: &'static str, faults: &mut Faults) -> Option<String> {
        let n_before = faults.as_slice().len();
        let mut all = self.all(name, faults);
        if all.len() != 1 && faults.as_slice().len() == n_before {
            let message = format!("give one value; there are {}", all.len());
            faults.add(FaultName::InvalidValue, format!("$.{name}"), message);
        }
        all.pop()
    }

    fn finish(self, faults: &mut Faults) {
        match self.fields {
            // The runbook's own role is of no use here.
            Some(mut fields) => {
                fields.optional("AutomationAssumeRole");
                fields.finish(faults);
            }
            None => faults.add(
                FaultName::NotADocument,
                "$",
                "give the runbook's parameters as a JSON object",
            ),
        }
    }
}

fn check_name<T>(
    name: Option<&str>,
    read: impl Fn(String) -> std::result::Result<T, access_core::names::NameError>,
    path: &str,
    faults: &mut Faults,
) {
    if let Some(Err(error)) = name.map(|name| read(name.to_owned())) {
        faults.add(error.fault, path, error.why);
    }
}

/// How long the window is.
fn window_seconds(start: Option<&str>, end: Option<&str>, faults: &mut Faults) -> Option<i64> {
    let mut read = |text: Option<&str>, path: &str| -> Option<DateTime<Utc>> {
        match time::read_time(text?, None) {
            Ok(time) => Some(time),
            Err(error) => {
                faults.add(error.fault, path, error.message);
                None
            }
        }
    };
    let (start, end) = (read(start, "$.StartTime"), read(end, "$.EndTime"));
    let seconds = (end? - start?).num_seconds();
    if seconds < 1 {
        faults.add(
            FaultName::EndNotAfterStart,
            "$.EndTime",
            "give an end after the start",
        );
    }
    Some(seconds)
}

/// A role's name as the last part of a parameter's name: others than these characters would be another parameter, or a
/// file outside the catalogue
/// (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html>).
fn parameter_name(role: &str) -> String {
    role.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => c,
            _ => '-',
        })
        .collect()
}

fn as_duration(seconds: i64) -> String {
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("PT{}H", seconds / 3600),
        (_, 0) => format!("PT{}M", seconds / 60),
        _ => format!("PT{seconds}S"),
    }
}

/// Where the runbook ran: its topic's partition and account.
struct Home {
    partition: String,
    account: String,
}

fn read_topic(arn: &str, faults: &mut Faults) -> Option<Home> {
    let parts: Vec<&str> = arn.split(':').collect();
    if let ["arn", partition, "sns", _, account, _] = parts[..] {
        return Some(Home {
            partition: partition.to_owned(),
            account: account.to_owned(),
        });
    }
    let message = "give the ARN of an SNS topic";
    faults.add(FaultName::InvalidValue, "$.SnsTopicArn", message);
    None
}

/// An approver as `aws:approve` takes one: a user's name, or the ARN of a user, a role or a role session.
fn read_approver(
    approver: &str,
    home: Option<&Home>,
    options: &Options,
    faults: &mut Faults,
) -> Option<Value> {
    let home = home?;
    let session = approver.split_once(":assumed-role/").and_then(|(of, at)| {
        let account = of.replacen(":sts:", ":iam:", 1);
        let (role, session_name) = at.split_once('/')?;
        Some((format!("{account}:role/{role}"), session_name))
    });
    let (principal, name) = if let Some((role, session_name)) = session {
        let principal = json!({"role": role, "session_name": session_name});
        (principal, session_name)
    } else if approver.starts_with("arn:") {
        let name = approver.rsplit('/').next()?;
        (json!(approver), name)
    } else {
        let Home { partition, account } = home;
        let arn = format!("arn:{partition}:iam::{account}:user/{approver}");
        (json!(arn), approver)
    };
    let (id, domain) = match name.split_once('@') {
        Some((id, domain)) => (id, Some(domain.to_owned())),
        None => (name, options.mail_domain.clone()),
    };
    let id = id.to_lowercase();
    check_name(Some(&id), PersonId::new, "$.Approvers", faults);
    let Some(domain) = domain else {
        let message = format!("give --mail-domain: nothing says where {name} reads mail");
        faults.add(FaultName::MissingField, "$.Approvers", message);
        return None;
    };
    Some(
        json!({"id": id, "name": name, "mailbox": format!("{id}@{domain}"), "principals": [principal]}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            parameters: PathBuf::new(),
            requester: "dave".to_owned(),
            reason: "INC-4711: unblock the stuck migration".to_owned(),
            target: None,
            mail_domain: Some("example.com".to_owned()),
            into: PathBuf::new(),
        }
    }

    fn parameters() -> Value {
        json!({
            "DBUser": ["breakglass"],
            "DBName": ["orders-prod"],
            "StartTime": ["2026-03-01T13:00:00Z"],
            "EndTime": ["2026-03-01T14:30:00Z"],
            "Approvers": [
                "Alice",
                "arn:aws-cn:iam::123456789012:role/team/Bob",
                "arn:aws:sts::123456789012:assumed-role/OnCall/carol@example.org"
            ],
            "SnsTopicArn": ["arn:aws:sns:eu-west-1:123456789012:AutomationApprovals"],
        })
    }

    fn faults_of(parameters: &Value, options: &Options) -> Vec<(FaultName, String)> {
        convert(parameters, options)
            .expect_err("something is wrong with them")
            .into_iter()
            .map(|fault| (fault.name, fault.path))
            .collect()
    }

    #[test]
    fn a_runbooks_parameters_become_a_catalogue_and_a_request() {
        let imported = convert(&parameters(), &options()).unwrap();
        let person = |id: &str| &imported.documents[&format!("people/{id}.json")];
        assert_eq!(
            imported.documents["roles/orders-prod/breakglass.json"],
            json!({
                "role": "breakglass", "approvers": ["alice", "bob", "carol"], "required_approvals": 1,
                "max_duration": "PT90M", "max_ahead": "P7D", "approval_deadline": "PT4H",
                "mode": "observe", "credential": "existing",
            })
        );
        assert_eq!(
            *person("alice"),
            json!({"id": "alice", "name": "Alice", "mailbox": "alice@example.com",
                   "principals": ["arn:aws:iam::123456789012:user/Alice"]})
        );
        assert_eq!(
            person("bob")["principals"],
            json!(["arn:aws-cn:iam::123456789012:role/team/Bob"])
        );
        assert_eq!(
            *person("carol"),
            json!({"id": "carol", "name": "carol@example.org", "mailbox": "carol@example.org",
                   "principals": [{"role": "arn:aws:iam::123456789012:role/OnCall", "session_name": "carol@example.org"}]})
        );
        assert_eq!(
            imported.request,
            json!({"target": "orders-prod", "role": "breakglass", "requester": "dave",
                   "start": "2026-03-01T13:00:00Z", "end": "2026-03-01T14:30:00Z",
                   "reason": "INC-4711: unblock the stuck migration"})
        );
    }

    #[test]
    fn the_answer_of_systems_manager_is_read_as_well() {
        let mut started = parameters();
        started["AutomationAssumeRole"] = json!(["arn:aws:iam::123456789012:role/Runbook"]);
        let answer =
            json!({"AutomationExecution": {"Parameters": started, "DocumentName": "OpenDB"}});
        let expected = convert(&parameters(), &options()).unwrap();
        assert_eq!(convert(&answer, &options()).unwrap(), expected);
        let mut of_texts = parameters();
        of_texts["DBUser"] = json!("breakglass");
        of_texts["Approvers"] = json!(
            "Alice, arn:aws-cn:iam::123456789012:role/team/Bob,arn:aws:sts::123456789012:assumed-role/OnCall/carol@example.org"
        );
        assert_eq!(convert(&of_texts, &options()).unwrap(), expected);
    }

    #[test]
    fn every_fault_is_said_at_once() {
        let faulty = json!({
            "DBUser": ["rds_superuser"], "DBName": ["Orders Prod"], "StartTime": ["2026-03-01T13:00:00"],
            "EndTime": [], "Approvers": ["alice"], "SnsTopicArn": ["arn:aws:sqs:eu-west-1:123456789012:q"], "Extra": ["x"],
        });
        assert_eq!(
            faults_of(&faulty, &options()),
            [
                (FaultName::InvalidValue, "$.EndTime".to_owned()),
                (FaultName::UnknownField, "$[\"Extra\"]".to_owned()),
                (FaultName::InvalidName, "$.DBName".to_owned()),
                (FaultName::ProtectedRole, "$.DBUser".to_owned()),
                (FaultName::TimeWithoutOffset, "$.StartTime".to_owned()),
                (FaultName::InvalidValue, "$.SnsTopicArn".to_owned()),
            ]
        );
    }

    #[test]
    fn a_role_names_no_file_outside_the_catalogue() {
        let mut elsewhere = parameters();
        elsewhere["DBUser"] = json!(["../../\u{e9}l\u{e8}ve"]);
        let imported = convert(&elsewhere, &options()).unwrap();
        let path = "roles/orders-prod/-------l-ve.json";
        assert_eq!(
            imported.documents[path]["role"],
            json!("../../\u{e9}l\u{e8}ve")
        );
    }

    #[test]
    fn what_would_not_work_is_not_written() {
        let mut backwards = parameters();
        backwards["EndTime"] = json!(["2026-03-01T13:00:00Z"]);
        let found = faults_of(&backwards, &options());
        assert_eq!(found[0].0, FaultName::EndNotAfterStart);
        let mut twice = parameters();
        twice["Approvers"] = json!(["Alice", "arn:aws:iam::123456789012:role/alice"]);
        assert_eq!(
            faults_of(&twice, &options()),
            [(FaultName::InvalidValue, "$.Approvers".to_owned())]
        );
        let without_domain = Options {
            mail_domain: None,
            ..options()
        };
        let found = faults_of(&parameters(), &without_domain);
        assert_eq!(found[0].0, FaultName::MissingField);
        let without_reason = Options {
            reason: String::new(),
            ..options()
        };
        let found = faults_of(&parameters(), &without_reason);
        assert_eq!(found, [(FaultName::ReasonEmpty, "$.reason".to_owned())]);
    }
}
