//! The catalogue: what may be requested, by whom it is decided, and how to reach the place.
//!
//! Four kinds of small JSON documents: databases, accounts, roles and people. Their JSON Schemas are in
//! `crates/access-core/schemas`; a test holds schemas and this reader together.

use std::collections::BTreeSet;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::break_glass::BreakGlassPolicy;
use crate::document::{self, Object};
use crate::fault::{Fault, FaultName, Faults};
use crate::grant::Grant;
use crate::language::Language;
use crate::names::{NameError, PersonId, RoleName};
use crate::place::Account;
use crate::principal::{self, Principal};
use crate::{plain_text, time};

/// The most bytes of a document: a standard parameter of Parameter Store holds 4 KB
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html>).
pub const MAX_DOCUMENT_BYTES: usize = 4096;

/// How to reach a database and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Where it is.
    pub location: Location,
    /// Readers of an RDS database that RDS does not name with it, because they are in other regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers_elsewhere: Vec<HostPort>,
    /// The database that Latchkey's functions are installed in.
    pub database: String,
    /// The login that may open roles.
    pub opener: Login,
    /// The login that may only close them.
    pub closer: Login,
    /// Whom to trust for its certificate.
    pub ca: CaSource,
    /// The AWS region it is in; the deployment's own if absent.
    pub region: Option<String>,
    /// The IANA zone in which people read and write times for it; UTC if absent.
    pub time_zone: Option<Tz>,
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// An Aurora or Multi-AZ cluster; RDS names its writer and members.
    Cluster(String),
    /// A single RDS instance; RDS names its address and its read replicas.
    Instance(String),
    /// Any PostgreSQL: its own address and those of its standbys.
    Hosts {
        /// The primary.
        writer: HostPort,
        /// Every standby that accepts connections.
        readers: Vec<HostPort>,
    },
}

/// A host name and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The name that the server's certificate must carry.
    pub host: String,
    /// The port, 1 to 65,535.
    pub port: u16,
}

/// One of Latchkey's own database logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The PostgreSQL user.
    pub user: String,
    /// How it proves itself.
    pub credential: Credential,
    /// The role that is assumed for it, where the database is in another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume: Option<AssumedRole>,
}

/// A role of another account, with whose rights a database there is found and its IAM tokens are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssumedRole {
    /// The role's ARN.
    pub role: String,
    /// What its trust policy asks for, so that nobody else's Latchkey can use it
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html>).
    pub external_id: String,
}

/// How a login proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The `password` field of a Secrets Manager secret, by ARN.
    Secret(String),
    /// An RDS IAM authentication token
    /// (<https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>).
    Iam,
}

/// Whom to trust for a database's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaSource {
    /// The RDS roots of the database's region, built in.
    Rds,
    /// The PEM text in the Parameter Store parameter of this name.
    Parameter(String),
}

/// The shortest window where a role document names none, in seconds.
const DEFAULT_MIN_DURATION_SECONDS: i64 = 60;

/// What may be requested of one role, and who decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolePolicy {
    /// The name under which it is requested; of a [`Grant::Login`], the PostgreSQL role.
    pub role: RoleName,
    /// What a window gives.
    pub grant: Grant,
    /// The people who may decide, each once.
    pub approvers: Vec<PersonId>,
    /// How many of them must approve, 1 to 10.
    pub required_approvals: u8,
    /// The shortest window, in seconds: nothing shorter is asked for, opened, or left over by approvers.
    pub min_duration_seconds: i64,
    /// The longest window, in seconds.
    pub max_duration_seconds: i64,
    /// How far ahead a window may start, in seconds.
    pub max_ahead_seconds: i64,
    /// How long approvers have, in seconds.
    pub approval_deadline_seconds: i64,
    /// Whether access outside windows is reported or cut.
    pub mode: Mode,
    /// Whose password opens it.
    pub credential: RoleCredential,
    /// Whether different people may have it at the same time.
    pub shared: bool,
    /// In which ways it can be decided.
    pub decide_by: DecideBy,
    /// Who may end any request and window of it, beside the requester and the approvers.
    pub operators: Vec<PersonId>,
    /// Who may open it at once without approval, if anybody may.
    pub break_glass: Option<BreakGlassPolicy>,
}

/// Whose password opens a role during a window.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleCredential {
    /// One that is made for the window, handed to the requester only, and ends with it. What a role's document means
    /// that says nothing.
    PerWindow,
    /// The one that the role has: everyone who knows it gets in. What a request of release 0.1 means, which made no
    /// passwords.
    #[default]
    Existing,
}

impl RoleCredential {
    /// Whether the role keeps the password that it has.
    #[must_use]
    pub fn is_existing(&self) -> bool {
        *self == Self::Existing
    }
}

/// In which ways a request can be decided.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecideBy {
    /// By the link of one's own, or by a signed call.
    #[default]
    LinkOrIam,
    /// By a signed call only.
    Iam,
}

impl DecideBy {
    /// Whether links decide too.
    #[must_use]
    pub fn takes_links(&self) -> bool {
        *self == Self::LinkOrIam
    }
}

/// What happens to access outside windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Report it.
    Observe,
    /// Cut it.
    Enforce,
}

/// A person who requests or decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The id, which is also the name of the message filter.
    pub id: PersonId,
    /// The name shown to others.
    pub name: String,
    /// The mail address of the subscription.
    pub mailbox: String,
    /// The language of the messages to them.
    pub language: Language,
    /// The IAM principals that are this person.
    pub principals: Vec<Principal>,
}

/// The four kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `databases/{target}`
    Database,
    /// `accounts/{target}`
    Account,
    /// `roles/{target}/{name}`
    Role,
    /// `people/{person}`
    Person,
}

impl Kind {
    /// The kind that a parameter or file path tells: its folder `databases`, `accounts`, `roles` or `people`.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        path.rsplit('/').skip(1).find_map(|folder| match folder {
            "databases" => Some(Self::Database),
            "accounts" => Some(Self::Account),
            "roles" => Some(Self::Role),
            "people" => Some(Self::Person),
            _ => None,
        })
    }
}

/// Reads a document and lists everything that is wrong with it; an empty list means that it is sound.
#[must_use]
pub fn check_document(kind: Kind, text: &str) -> Vec<Fault> {
    let mut faults = Faults::new();
    if let Some(value) = parse(text, &mut faults) {
        match kind {
            Kind::Database => drop(Database::read(&value, &mut faults)),
            Kind::Account => drop(Account::read(&value, &mut faults)),
            Kind::Role => drop(RolePolicy::read(&value, &mut faults)),
            Kind::Person => drop(Person::read(&value, &mut faults)),
        }
    }
    faults.into_vec()
}

/// The JSON of a document, if it is JSON and small enough.
pub fn parse(text: &str, faults: &mut Faults) -> Option<Value> {
    if text.len() > MAX_DOCUMENT_BYTES {
        faults.add(
            FaultName::DocumentTooLarge,
            "$",
            format!(
                "shorten the document to {MAX_DOCUMENT_BYTES} bytes; it has {}",
                text.len()
            ),
        );
    }
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            faults.add(
                FaultName::NotADocument,
                "$",
                format!("mend the JSON at line {line}, column {column}"),
            );
            None
        }
    }
}

impl Database {
    /// Reads a database document; `None` if a fault was found.
    pub fn read(value: &Value, faults: &mut Faults) -> Option<Self> {
        let mut object = Object::new(value, "$", faults)?;
        object.optional("$schema");
        let location = read_location(&mut object, faults);
        let database = object.text("database", faults).map(str::to_owned);
        let opener = read_login(&mut object, "opener", faults);
        let closer = read_login(&mut object, "closer", faults);
        if let (Some(opener), Some(closer)) = (&opener, &closer)
            && opener.user == closer.user
        {
            faults.add(
                FaultName::InvalidValue,
                "$.closer.user",
                "name another user than the opener's: the one that closes must not be able to open",
            );
        }
        if let (Some(opener), Some(closer)) = (&opener, &closer)
            && let (Some(opens), Some(closes)) = (&opener.assume, &closer.assume)
            && opens.role == closes.role
        {
            faults.add(
                FaultName::InvalidValue,
                "$.closer.assume.role",
                "name another role than the opener's: the one that closes must not be able to open",
            );
        }
        let ca = read_ca(&mut object, faults);
        let region = object.optional_text("region", faults).map(str::to_owned);
        let time_zone = read_time_zone(&mut object, faults);
        object.finish(faults);
        let (location, readers_elsewhere) = location?;
        Some(Self {
            location,
            readers_elsewhere,
            database: database?,
            opener: opener?,
            closer: closer?,
            ca: ca?,
            region,
            time_zone,
        })
    }
}

/// The IANA zone of a place.
pub(crate) fn read_time_zone(object: &mut Object<'_>, faults: &mut Faults) -> Option<Tz> {
    object.optional_text("time_zone", faults).and_then(|name| {
        let zone = name.parse::<Tz>().ok();
        if zone.is_none() {
            faults.add(
                FaultName::InvalidValue,
                "$.time_zone",
                "give an IANA time zone such as Europe/Berlin or Asia/Tokyo",
            );
        }
        zone
    })
}

/// Where it is, and the readers elsewhere.
fn read_location(
    object: &mut Object<'_>,
    faults: &mut Faults,
) -> Option<(Location, Vec<HostPort>)> {
    let cluster = object.optional_text("cluster", faults).map(str::to_owned);
    let instance = object.optional_text("instance", faults).map(str::to_owned);
    let host = object.optional_text("host", faults).map(str::to_owned);
    let port = object.optional_number("port", 1..=65_535, faults);
    let readers = object.optional_list("readers", faults);
    let readers: Option<Vec<_>> = readers
        .into_iter()
        .map(|(value, path)| {
            let mut reader = Object::new(value, &path, faults)?;
            let host = reader.text("host", faults).map(str::to_owned);
            let port = reader.optional_number("port", 1..=65_535, faults);
            reader.finish(faults);
            Some(HostPort {
                host: host?,
                port: port_or_default(port),
            })
        })
        .collect();
    match (cluster, instance, host) {
        (Some(cluster), None, None) => {
            no_port(port, faults);
            Some((Location::Cluster(cluster), readers?))
        }
        (None, Some(instance), None) => {
            no_port(port, faults);
            Some((Location::Instance(instance), readers?))
        }
        (None, None, Some(host)) => {
            let writer = HostPort {
                host,
                port: port_or_default(port),
            };
            let readers = readers?;
            Some((Location::Hosts { writer, readers }, Vec::new()))
        }
        _ => {
            faults.add(
                FaultName::ConflictingFields,
                "$",
                "give exactly one of \"cluster\", \"instance\" and \"host\"",
            );
            None
        }
    }
}

fn port_or_default(port: Option<u64>) -> u16 {
    port.and_then(|port| u16::try_from(port).ok())
        .unwrap_or(5432)
}

fn no_port(port: Option<u64>, faults: &mut Faults) {
    if port.is_some() {
        faults.add(
            FaultName::ConflictingFields,
            "$.port",
            "remove \"port\"; RDS tells it",
        );
    }
}

fn read_login(object: &mut Object<'_>, field: &'static str, faults: &mut Faults) -> Option<Login> {
    let value = object.required(field, faults)?;
    let path = object.path_of(field);
    let mut login = Object::new(value, &path, faults)?;
    let user = login.text("user", faults).map(str::to_owned);
    let secret = login.optional_text("secret", faults).map(str::to_owned);
    let iam = login.optional("iam").cloned();
    let n_before = faults.as_slice().len();
    let assume = read_assumed_role(&mut login, "assume", faults);
    let assume_is_readable = faults.as_slice().len() == n_before;
    login.finish(faults);
    let credential = match (secret, iam) {
        (Some(secret), None | Some(Value::Bool(false))) => {
            if !secret.starts_with("arn:") {
                faults.add(
                    FaultName::InvalidValue,
                    format!("{path}.secret"),
                    "give the secret's full ARN",
                );
            }
            Credential::Secret(secret)
        }
        (None, Some(Value::Bool(true))) => Credential::Iam,
        _ => {
            faults.add(
                FaultName::ConflictingFields,
                path,
                "give either \"secret\" with the ARN of a secret, or \"iam\": true",
            );
            return None;
        }
    };
    assume_is_readable.then_some(Login {
        user: user?,
        credential,
        assume,
    })
}

/// A role of another account in `field`, if that is there.
pub(crate) fn read_assumed_role(
    object: &mut Object<'_>,
    field: &'static str,
    faults: &mut Faults,
) -> Option<AssumedRole> {
    let value = object.optional(field)?;
    let path = object.path_of(field);
    let mut assume = Object::new(value, &path, faults)?;
    let role = assume.text("role", faults).map(str::to_owned);
    let external_id = assume.text("external_id", faults).map(str::to_owned);
    assume.finish(faults);
    let (role, external_id) = (role?, external_id?);
    if !principal::is_role_arn(&role) {
        let message = "give the ARN of an IAM role";
        faults.add(FaultName::InvalidValue, format!("{path}.role"), message);
    }
    if !is_external_id(&external_id) {
        faults.add(
            FaultName::InvalidValue,
            format!("{path}.external_id"),
            "give 2 to 1,224 of the characters A-Z, a-z, 0-9 and _+=,.@:/-",
        );
    }
    Some(AssumedRole { role, external_id })
}

/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
fn is_external_id(id: &str) -> bool {
    (2..=1224).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte))
}

fn read_ca(object: &mut Object<'_>, faults: &mut Faults) -> Option<CaSource> {
    let value = object.required("ca", faults)?;
    if value.as_str() == Some("rds") {
        return Some(CaSource::Rds);
    }
    if value.is_object() {
        let path = object.path_of("ca");
        let mut source = Object::new(value, &path, faults)?;
        let parameter = source.text("parameter", faults).map(str::to_owned);
        source.finish(faults);
        return Some(CaSource::Parameter(parameter?));
    }
    faults.add(
        FaultName::InvalidValue,
        "$.ca",
        "give \"rds\", or {\"parameter\": \"the name of a parameter\"}",
    );
    None
}

impl RolePolicy {
    /// Reads a role document; `None` if a fault was found.
    pub fn read(value: &Value, faults: &mut Faults) -> Option<Self> {
        let mut object = Object::new(value, "$", faults)?;
        object.optional("$schema");
        let role = object
            .text("role", faults)
            .and_then(|text| named(RoleName::new(text), "$.role", faults));
        let grant = Grant::read(&mut object, faults);
        let approvers = object
            .list("approvers", faults)
            .map(|items| read_people("$.approvers", items, faults));
        if approvers.as_ref().is_some_and(Vec::is_empty) {
            faults.add(
                FaultName::InvalidValue,
                "$.approvers",
                "list 1 to 10 people",
            );
        }
        let operators = object.optional_list("operators", faults);
        let operators = read_people("$.operators", operators, faults);
        let required_approvals = object.number("required_approvals", 1..=10, faults);
        if let (Some(approvers), Some(required)) = (&approvers, required_approvals)
            && (approvers.len() as u64) < required
        {
            faults.add(
                FaultName::TooFewApprovers,
                "$.required_approvals",
                format!(
                    "list more approvers or ask fewer; {} cannot make {required} approvals",
                    approvers.len()
                ),
            );
        }
        let min_duration_seconds = match object.optional("min_duration") {
            None => Some(DEFAULT_MIN_DURATION_SECONDS),
            Some(_) => read_seconds(&mut object, "min_duration", faults),
        };
        let max_duration_seconds = read_seconds(&mut object, "max_duration", faults);
        if let (Some(least), Some(most)) = (min_duration_seconds, max_duration_seconds)
            && least > most
        {
            faults.add(
                FaultName::ConflictingFields,
                "$.min_duration",
                "give a \"min_duration\" (PT1M if absent) that is not longer than \"max_duration\"",
            );
        }
        let max_ahead_seconds = read_seconds(&mut object, "max_ahead", faults);
        let approval_deadline_seconds = read_seconds(&mut object, "approval_deadline", faults);
        let mode = object.text("mode", faults).and_then(|mode| match mode {
            "observe" => Some(Mode::Observe),
            "enforce" => Some(Mode::Enforce),
            _ => {
                faults.add(
                    FaultName::InvalidValue,
                    "$.mode",
                    "give \"observe\" or \"enforce\"",
                );
                None
            }
        });
        let credential = match object.optional_text("credential", faults) {
            // Nothing but a login has a password.
            None if grant.as_ref().is_some_and(|grant| !grant.is_login()) => {
                RoleCredential::Existing
            }
            None | Some("per_window") => RoleCredential::PerWindow,
            Some("existing") => RoleCredential::Existing,
            Some(_) => {
                faults.add(
                    FaultName::InvalidValue,
                    "$.credential",
                    "give \"per_window\" or \"existing\"",
                );
                RoleCredential::PerWindow
            }
        };
        if credential == RoleCredential::PerWindow
            && grant.as_ref().is_some_and(|grant| !grant.is_login())
        {
            faults.add(
                FaultName::ConflictingFields,
                "$.credential",
                "remove \"credential\": only a login has a password",
            );
        }
        let decide_by = match object.optional_text("decide_by", faults) {
            None | Some("link_or_iam") => DecideBy::LinkOrIam,
            Some("iam") => DecideBy::Iam,
            Some(_) => {
                faults.add(
                    FaultName::InvalidValue,
                    "$.decide_by",
                    "give \"link_or_iam\" or \"iam\"",
                );
                DecideBy::Iam
            }
        };
        let shared = object.optional_flag("shared", faults).unwrap_or(false);
        let n_before = faults.as_slice().len();
        let break_glass = BreakGlassPolicy::read(&mut object, faults);
        if let (Some(break_glass), Some(least), Some(most)) =
            (&break_glass, min_duration_seconds, max_duration_seconds)
            && !(least..=most).contains(&break_glass.max_duration_seconds)
        {
            faults.add(
                FaultName::ConflictingFields,
                "$.break_glass.max_duration",
                "give one that is not shorter than \"min_duration\" (PT1M if absent) and not longer than \"max_duration\"",
            );
        }
        let break_glass_is_readable = faults.as_slice().len() == n_before;
        object.finish(faults);
        if !break_glass_is_readable {
            return None;
        }
        Some(Self {
            role: role?,
            grant: grant?,
            shared,
            decide_by,
            operators,
            approvers: approvers?,
            required_approvals: u8::try_from(required_approvals?).ok()?,
            min_duration_seconds: min_duration_seconds?,
            max_duration_seconds: max_duration_seconds?,
            max_ahead_seconds: max_ahead_seconds?,
            approval_deadline_seconds: approval_deadline_seconds?,
            mode: mode?,
            credential,
            break_glass,
        })
    }
}

/// People, each once, at most ten.
pub(crate) fn read_people(
    list: &str,
    items: Vec<(&Value, String)>,
    faults: &mut Faults,
) -> Vec<PersonId> {
    if items.len() > 10 {
        faults.add(FaultName::InvalidValue, list, "list 1 to 10 people");
    }
    let mut seen = BTreeSet::new();
    let mut people = Vec::new();
    for (item, path) in items {
        let id = document::text(item, &path, faults)
            .and_then(|text| named(PersonId::new(text), &path, faults));
        if let Some(id) = id {
            if !seen.insert(id.clone()) {
                faults.add(FaultName::InvalidValue, path, "list each person once");
            }
            people.push(id);
        }
    }
    people
}

pub(crate) fn read_seconds(
    object: &mut Object<'_>,
    field: &'static str,
    faults: &mut Faults,
) -> Option<i64> {
    let text = object.text(field, faults)?;
    match time::read_duration(text) {
        Ok(duration) => Some(duration.num_seconds()),
        Err(error) => {
            faults.add(error.fault, object.path_of(field), error.message);
            None
        }
    }
}

impl Person {
    /// Reads a person document; `None` if a fault was found.
    pub fn read(value: &Value, faults: &mut Faults) -> Option<Self> {
        let mut object = Object::new(value, "$", faults)?;
        object.optional("$schema");
        let id = object
            .text("id", faults)
            .and_then(|text| named(PersonId::new(text), "$.id", faults));
        let name = object.text("name", faults).map(str::to_owned);
        if let Some(name) = &name
            && (name.trim().is_empty()
                || name.chars().count() > 100
                || name
                    .chars()
                    .any(|c| plain_text::refused_in_names(c).is_some()))
        {
            faults.add(
                FaultName::InvalidName,
                "$.name",
                "give a name of 1 to 100 characters without control, invisible or text-direction characters",
            );
        }
        let mailbox = object.text("mailbox", faults).map(str::to_owned);
        if let Some(mailbox) = &mailbox
            && !is_mailbox(mailbox)
        {
            faults.add(
                FaultName::InvalidValue,
                "$.mailbox",
                "give one mail address such as alice@example.com",
            );
        }
        let language = object.optional_text("language", faults).and_then(|tag| {
            let language = Language::of_tag(tag);
            if language.is_none() {
                let known = Language::ALL.map(Language::tag).join(" or ");
                faults.add(
                    FaultName::InvalidValue,
                    "$.language",
                    format!("give {known}; en if absent"),
                );
            }
            language
        });
        let principals = object
            .optional_list("principals", faults)
            .into_iter()
            .filter_map(|(item, path)| Principal::read(item, &path, faults))
            .collect();
        object.finish(faults);
        Some(Self {
            id: id?,
            name: name?,
            mailbox: mailbox?,
            language: language.unwrap_or_default(),
            principals,
        })
    }
}

/// A coarse check: the mail system has the last word, this only keeps header tricks and slips out.
fn is_mailbox(text: &str) -> bool {
    let mut parts = text.split('@');
    let (local, domain, more) = (parts.next(), parts.next(), parts.next());
    text.len() <= 254
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';' | '"'))
        && local.is_some_and(|local| !local.is_empty())
        && domain.is_some_and(|domain| !domain.is_empty())
        && more.is_none()
}

/// The name, if it is one.
pub(crate) fn named<T>(name: Result<T, NameError>, path: &str, faults: &mut Faults) -> Option<T> {
    name.map_err(|error| faults.add(error.fault, path, error.why))
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(kind: Kind, value: &Value) -> Vec<(FaultName, String)> {
        check_document(kind, &value.to_string())
            .into_iter()
            .map(|fault| (fault.name, fault.path))
            .collect()
    }

    fn database() -> Value {
        json!({
            "host": "db.example.com", "port": 5432, "database": "latchkey",
            "opener": {"user": "latchkey_opener", "secret": "arn:aws:secretsmanager:eu-west-1:1:secret:o"},
            "closer": {"user": "latchkey_closer", "iam": true},
            "ca": "rds", "time_zone": "Europe/Berlin"
        })
    }

    fn role() -> Value {
        json!({
            "role": "breakglass", "approvers": ["alice", "bob"], "required_approvals": 2,
            "max_duration": "PT8H", "max_ahead": "P7D", "approval_deadline": "4h", "mode": "enforce"
        })
    }

    #[test]
    fn sound_documents_have_no_fault() {
        assert_eq!(found(Kind::Database, &database()), []);
        assert_eq!(found(Kind::Role, &role()), []);
        let person = json!({"id": "alice", "name": "Alice", "mailbox": "alice@example.com",
            "principals": ["arn:aws:iam::123456789012:user/alice"]});
        assert_eq!(found(Kind::Person, &person), []);
    }

    #[test]
    fn readers_of_a_cluster_are_those_elsewhere() {
        let mut document = database();
        document.as_object_mut().unwrap().remove("host");
        document.as_object_mut().unwrap().remove("port");
        document["cluster"] = json!("orders");
        document["readers"] = json!([{ "host": "in-another-region", "port": 5433 }]);
        let mut faults = Faults::new();
        let database = Database::read(&document, &mut faults).unwrap();
        assert_eq!(database.location, Location::Cluster("orders".to_owned()));
        let elsewhere = HostPort {
            host: "in-another-region".to_owned(),
            port: 5433,
        };
        assert_eq!(database.readers_elsewhere, [elsewhere]);
        // What a release before wrote has none, and is written as it was.
        let mut written = serde_json::to_value(&database).unwrap();
        written.as_object_mut().unwrap().remove("readers_elsewhere");
        let read: Database = serde_json::from_value(written.clone()).unwrap();
        assert!(read.readers_elsewhere.is_empty());
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
    }

    #[test]
    fn one_reading_names_every_fault_of_a_database() {
        let mut document = database();
        document["cluster"] = json!("orders");
        document["port"] = json!(70_000);
        document["closer"] = json!({"user": "latchkey_opener"});
        document["time_zone"] = json!("Berlin");
        document["tls"] = json!(false);
        let names: Vec<_> = found(Kind::Database, &document);
        for expected in [
            (FaultName::InvalidValue, "$.port"),
            (FaultName::ConflictingFields, "$"),
            (FaultName::ConflictingFields, "$.closer"),
            (FaultName::InvalidValue, "$.time_zone"),
            (FaultName::UnknownField, "$[\"tls\"]"),
        ] {
            assert!(
                names.contains(&(expected.0, expected.1.to_owned())),
                "{expected:?} in {names:?}"
            );
        }
    }

    #[test]
    fn the_login_that_closes_is_never_the_one_that_opens() {
        let mut document = database();
        document["closer"]["user"] = json!("latchkey_opener");
        assert_eq!(
            found(Kind::Database, &document),
            [(FaultName::InvalidValue, "$.closer.user".to_owned())]
        );
    }

    #[test]
    fn a_role_cannot_ask_for_more_approvals_than_it_has_approvers() {
        let mut document = role();
        document["required_approvals"] = json!(3);
        assert_eq!(
            found(Kind::Role, &document),
            [(
                FaultName::TooFewApprovers,
                "$.required_approvals".to_owned()
            )]
        );
    }

    #[test]
    fn protected_roles_repeated_people_and_bad_durations_are_named() {
        let mut document = role();
        document["role"] = json!("rds_superuser");
        document["approvers"] = json!(["alice", "alice", "Bob!"]);
        document["max_duration"] = json!("a while");
        let names: Vec<_> = found(Kind::Role, &document)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                FaultName::ProtectedRole,
                FaultName::InvalidValue,
                FaultName::InvalidName,
                FaultName::InvalidDuration
            ]
        );
    }

    #[test]
    fn the_one_that_closes_may_not_take_the_openers_role() {
        let login = |user: &str, role: &str| json!({"user": user, "iam": true, "assume": {"role": format!("arn:aws:iam::210987654321:role/{role}"), "external_id": "deployment:1"}});
        let mut document = json!({"cluster": "orders", "database": "latchkey", "ca": "rds",
            "opener": login("o", "Opener"), "closer": login("c", "Closer")});
        assert_eq!(found(Kind::Database, &document), []);
        document["closer"] = login("c", "Opener");
        let expected = (FaultName::InvalidValue, "$.closer.assume.role".to_owned());
        assert_eq!(found(Kind::Database, &document), [expected]);
    }

    #[test]
    fn a_document_too_large_for_its_store_is_refused() {
        let mut document = role();
        document["$schema"] = json!("x".repeat(MAX_DOCUMENT_BYTES));
        assert_eq!(
            found(Kind::Role, &document)[0].0,
            FaultName::DocumentTooLarge
        );
    }

    #[test]
    fn broken_json_says_where() {
        let faults = check_document(Kind::Person, "{\n  \"id\": }");
        assert_eq!(faults[0].message, "mend the JSON at line 2, column 9");
    }

    #[test]
    fn the_folder_tells_the_kind() {
        assert_eq!(
            Kind::of_path("/latchkey/prod/databases/orders"),
            Some(Kind::Database)
        );
        assert_eq!(
            Kind::of_path("catalogue/roles/orders/breakglass.json"),
            Some(Kind::Role)
        );
        assert_eq!(Kind::of_path("people/alice.json"), Some(Kind::Person));
        assert_eq!(Kind::of_path("alice.json"), None);
    }
}
