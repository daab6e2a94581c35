//! The world that a measured function works in: PostgreSQL, AWS, and a request in the state in which its step finds it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use access_contract::{Link, Purpose};
use access_core::catalogue::Database;
use access_core::{Digest, Faults, PersonId, RequestId};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio_postgres::Client;
use xtask::error::{Error, Result};
use xtask::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres, Settings};
use xtask::workspace;

use super::aws::{Aws, State};

const TARGET: &str = "bench";
/// The role that windows open and close.
const ROLE: &str = "breakglass";
/// The role of the login core and of psql, so that nobody's work is done by another one.
pub(crate) const CORE_ROLE: &str = "core";
const REQUEST: &str = "r-0123456789abcdef";
const PREFIX: &str = "/latchkey/bench";
const OPENER_SECRET: &str =
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:latchkey/opener/bench-AbCdEf";
const CLOSER_SECRET: &str =
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:latchkey/closer/bench-AbCdEf";
const KEY_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// A step of a request, as the state machine or a browser asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing at all: the floor.
    Nothing,
    /// Read the secret, connect, take LOGIN from a role.
    LoginCore,
    /// compute-wait takes a request in.
    TakeIn,
    /// notify asks two approvers.
    Ask,
    /// approval takes the deciding vote from the page and wakes the execution.
    Approve,
    /// enable-login opens the approved window.
    Open,
    /// disable-login closes it, proves it and looks for what it left behind.
    Close,
}

/// How much there is to look after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) databases: usize,
    /// Open ones, spread evenly.
    pub(crate) windows: usize,
    /// Requests that are closed by now.
    pub(crate) history: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            databases,
            windows,
            history,
        } = self;
        write!(
            formatter,
            "{databases} databases, {windows} open windows, {history} closed"
        )
    }
}

/// The running world.
pub(crate) struct World {
    pub(crate) postgres: LocalPostgres,
    pub(crate) aws: Aws,
    /// Sees everything, and takes LOGIN back.
    admin: Client,
    pub(crate) database_ca: PathBuf,
    system_identifier: String,
    role_oid: u32,
    /// The facts that were taken before the window, once there are some.
    facts_before: Option<Value>,
}

impl World {
    /// Starts PostgreSQL and AWS, and registers the roles.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let postgres = LocalPostgres::start(&Settings::default()).await?;
        let aws = Aws::start(folder).await?;
        let database_ca = folder.join("database-ca.pem");
        workspace::write(&database_ca, postgres.ca_pem())?;
        let accounts = postgres.accounts().clone();
        let master = log_in(&postgres, &accounts.master).await?;
        let admin = log_in(&postgres, &accounts.superuser).await?;
        let make = format!(
            "CREATE ROLE {CORE_ROLE} NOLOGIN; SELECT latchkey.register('{CORE_ROLE}', '8 hours')"
        );
        master.batch_execute(&make).await.map_err(asking)?;
        let row = admin
            .query_one(
                "SELECT system_identifier::text, (SELECT oid FROM pg_roles WHERE rolname = $1) FROM pg_control_system()",
                &[&ROLE],
            )
            .await
            .map_err(asking)?;
        Ok(Self {
            system_identifier: row.get(0),
            role_oid: row.get(1),
            postgres,
            aws,
            admin,
            database_ca,
            facts_before: None,
        })
    }

    /// Everything that a function or a peer finds in its environment.
    pub(crate) fn equip(&self, command: &mut Command) {
        let arn =
            |service: &str, rest: &str| format!("arn:aws:{service}:eu-west-1:123456789012:{rest}");
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env(
                "AWS_SECRET_ACCESS_KEY",
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            )
            // As long as Lambda's are.
            .env("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2VjE".repeat(50))
            .env("AWS_ENDPOINT_URL", self.aws.endpoint())
            .env("AWS_CA_BUNDLE", &self.aws.ca_file)
            .env("NODE_EXTRA_CA_CERTS", &self.aws.ca_file)
            .env("LATCHKEY_TABLE", "latchkey")
            .env("LATCHKEY_RECORD_DAYS", "0")
            .env("LATCHKEY_DEPLOYMENT", "bench")
            .env("LATCHKEY_IAM_SETTLES_WITHIN_SECONDS", "60")
            .env("LATCHKEY_CATALOGUE_PREFIX", PREFIX)
            .env("LATCHKEY_TOPIC_ARN", arn("sns", "latchkey"))
            .env("LATCHKEY_CHAT_TOPIC_ARN", arn("sns", "chat"))
            .env("LATCHKEY_CHAT_LANGUAGE", "en")
            .env(
                "LATCHKEY_NOTICE_ROLE_ARN",
                "arn:aws:iam::123456789012:role/notice",
            )
            .env(
                "LATCHKEY_LINK_KEY_ARN",
                arn("kms", &format!("key/{KEY_ID}")),
            )
            .env(
                "LATCHKEY_VOTE_KEY_ARN",
                arn("kms", &format!("key/{KEY_ID}")),
            )
            .env(
                "LATCHKEY_CALLBACK_URL",
                "https://example.execute-api.eu-west-1.amazonaws.com",
            )
            .env("LATCHKEY_SCHEDULE_GROUP", "latchkey")
            .env(
                "LATCHKEY_CLOSE_WINDOW_ARN",
                arn("states", "stateMachine:close"),
            )
            .env(
                "LATCHKEY_SCHEDULE_ROLE_ARN",
                "arn:aws:iam::123456789012:role/end",
            )
            .env("LATCHKEY_DEAD_LETTER_ARN", arn("sqs", "dead-letters"))
            .env(
                "LATCHKEY_DATA_KEY_ARN",
                arn("kms", &format!("key/{KEY_ID}")),
            )
            .env(
                "LATCHKEY_OWN_ROLE_ARN",
                "arn:aws:iam::123456789012:role/own",
            )
            .env("BENCH_HOST", self.postgres.host())
            .env("BENCH_PORT", self.postgres.port().to_string())
            .env("BENCH_DATABASE", LATCHKEY_DATABASE)
            .env("BENCH_CA", &self.database_ca)
            .env("BENCH_USER", &self.postgres.accounts().closer.user)
            .env("BENCH_SECRET_ARN", CLOSER_SECRET)
            .env("BENCH_ROLE", CORE_ROLE);
    }

    /// Puts the world into the state in which `work` finds it, and says with which event it is asked for.
    pub(crate) async fn prepare(&mut self, work: Work) -> Result<Value> {
        let request = self.request_at(work);
        self.aws.state().clone_from(&request.state);
        match work {
            Work::Open => self.set_login(ROLE, false).await?,
            Work::Close => self.set_login(ROLE, true).await?,
            Work::LoginCore => self.set_login(CORE_ROLE, true).await?,
            Work::Nothing | Work::TakeIn | Work::Ask | Work::Approve => {}
        }
        Ok(request.event)
    }

    /// Whether the answer is the right one, and what it claims is so.
    pub(crate) async fn check(&mut self, work: Work, answer: &Value) -> Result<()> {
        let held = match work {
            Work::Nothing => true,
            Work::LoginCore => answer["closed"] == true && !self.can_login(CORE_ROLE).await?,
            Work::TakeIn => answer["outcome"] == "accepted" && self.aws.state().holds_request(),
            Work::Ask => {
                let state = self.aws.state();
                // Both approvers, the requester and the chat channels.
                answer["n_asked"] == 2
                    && state.calls.iter().filter(|call| *call == "Publish").count() == 4
            }
            Work::Approve => {
                let state = self.aws.state();
                let status = state.text(&format!("request#{REQUEST}"), "request", "status");
                answer["statusCode"] == 200
                    && status.as_deref() == Some("approved")
                    && state.calls.contains(&"SendTaskSuccess".to_owned())
            }
            Work::Open => {
                let open = self.can_login(ROLE).await?;
                let facts = (format!("request#{REQUEST}"), "facts#before".to_owned());
                let state = self.aws.state();
                if let Some(facts) = state.items.get(&facts) {
                    self.facts_before = Some(facts.clone());
                }
                answer["outcome"] == "opened" && open && state.items.contains_key(&facts)
            }
            Work::Close => answer["outcome"] == "closed" && !self.can_login(ROLE).await?,
        };
        if held {
            return Ok(());
        }
        Err(Error::NotAsPromised(format!(
            "a measured program did not do its work ({work:?}); it answered {answer}"
        )))
    }

    /// Makes a world of this size, in which there is nothing to do but to look.
    pub(crate) async fn prepare_scale(&mut self, size: Size) -> Result<()> {
        self.set_login(ROLE, true).await?;
        let mut state = self.catalogue();
        let database = format!("{PREFIX}/databases/{TARGET}");
        let role = format!("{PREFIX}/roles/{TARGET}/{ROLE}");
        let documents = [database, role].map(|name| state.parameters.remove(&name));
        let [database, role] = documents.map(Option::unwrap_or_default);
        for n in 0..size.databases {
            let target = target(n);
            let name = format!("{PREFIX}/databases/{target}");
            state.parameters.insert(name, database.clone());
            let name = format!("{PREFIX}/roles/{target}/{ROLE}");
            state.parameters.insert(name, role.clone());
        }
        // The functions compare what is pinned with what the catalogue says.
        let pinned = serde_json::from_str(&database)
            .ok()
            .and_then(|document| Database::read(&document, &mut Faults::new()));
        let mut like = self.request_at(Work::Close).document;
        like["database"] = json!(pinned);
        for n in 0..size.windows {
            like["target"] = json!(target(n % size.databases));
            put_open(&mut state, n, &like);
        }
        for n in size.windows..size.windows + size.history {
            let row = [
                ("document", like.to_string()),
                ("status", "closed".to_owned()),
                ("n_votes", "1".to_owned()),
            ];
            state.put(&format!("request#{}", numbered(n)), "request", &row);
        }
        self.aws.state().clone_from(&state);
        Ok(())
    }

    /// A database that takes connections on this port of ours and never says a word.
    pub(crate) fn add_silent_database(&mut self, port: u16) {
        let mut state = self.aws.state();
        let name = format!("{PREFIX}/databases/{}", target(0));
        let document = state.parameters.get(&name).cloned().unwrap_or_default();
        let mut document: Value = serde_json::from_str(&document).unwrap_or_default();
        document["port"] = json!(port);
        // First in line, so that it keeps waiting whom it can.
        let name = format!("{PREFIX}/databases/a-silent-one");
        state.parameters.insert(name, document.to_string());
    }

    /// A window of the role is over, and `n_others` are not; with which event it is asked for.
    pub(crate) async fn prepare_ending(&mut self, n_others: usize) -> Result<Value> {
        let step = self.request_at(Work::Close);
        let mut state = step.state;
        for n in 0..n_others {
            put_open(&mut state, n, &step.document);
        }
        self.set_login(ROLE, true).await?;
        self.aws.state().clone_from(&state);
        Ok(step.event)
    }

    /// How many transactions were ever finished in Latchkey's database, once nobody of ours is connected to it.
    pub(crate) async fn transactions(&self) -> Result<i64> {
        let accounts = self.postgres.accounts();
        let elsewhere = self
            .postgres
            .log_in(&accounts.superuser, APPLICATION_DATABASE)
            .await
            .map_err(asking)?;
        let user = &accounts.closer.user;
        while is_connected(&elsewhere, user).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let row = elsewhere
            .query_one(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
                &[&LATCHKEY_DATABASE],
            )
            .await
            .map_err(asking)?;
        Ok(row.get(0))
    }

    /// When the closing login was last seen connected, before it was not for two seconds.
    pub(crate) async fn last_work(&self, since: Instant) -> Result<Duration> {
        let user = &self.postgres.accounts().closer.user;
        let mut last_seen = None;
        loop {
            if is_connected(&self.admin, user).await? {
                last_seen = Some(Instant::now());
            }
            match last_seen {
                Some(last_seen) if last_seen.elapsed() > Duration::from_secs(2) => {
                    return Ok(last_seen - since);
                }
                None if since.elapsed() > Duration::from_secs(60) => {
                    return Err(Error::NotAsPromised(
                        "no database was looked after within a minute".to_owned(),
                    ));
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Logs in as the person whose window is open.
    pub(crate) async fn session_of_the_role(&self) -> Result<Client> {
        self.postgres
            .log_in(&self.postgres.accounts().target, APPLICATION_DATABASE)
            .await
            .map_err(asking)
    }

    /// Somebody who sees when a role is closed; connected before it begins, so that it misses nothing.
    pub(crate) async fn watcher(&self) -> Result<Watcher> {
        let client = log_in(&self.postgres, &self.postgres.accounts().superuser).await?;
        let statement = client
            .prepare(
                "SELECT rolcanlogin, EXISTS (SELECT FROM pg_stat_activity WHERE usename = rolname)
                   FROM pg_roles WHERE rolname = $1",
            )
            .await
            .map_err(asking)?;
        Ok(Watcher { client, statement })
    }

    async fn can_login(&self, role: &str) -> Result<bool> {
        let row = self
            .admin
            .query_one(
                "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1",
                &[&role],
            )
            .await
            .map_err(asking)?;
        Ok(row.get(0))
    }

    async fn set_login(&self, role: &str, on: bool) -> Result<()> {
        // As if it had never been opened: NOLOGIN alone would look like somebody's who closed it by hand.
        let mut statements = format!("ALTER ROLE {role} NOLOGIN VALID UNTIL 'infinity'");
        if on {
            statements.push_str(&format!(
                "; SELECT latchkey.open('{role}', now() + interval '1 hour')"
            ));
        }
        self.admin.batch_execute(&statements).await.map_err(asking)
    }

    fn request_at(&self, work: Work) -> Step {
        let now = Utc::now();
        let (requested_at, voted_at) = (now - TimeDelta::minutes(3), now - TimeDelta::minutes(2));
        let decide_by = now + TimeDelta::minutes(10);
        let database = self.database();
        let document = json!({
            "request_id": REQUEST,
            "execution_arn": "arn:aws:states:eu-west-1:123456789012:execution:latchkey:bench",
            "requested_at": timestamp(requested_at),
            "target": TARGET,
            "role": ROLE,
            "requester": { "id": "riko", "name": "Riko Example" },
            "requester_proof": { "verified": { "principal": "arn:aws:iam::123456789012:user/riko" } },
            "reason": "repair the orders that the import at 02:00 left half done",
            "window": { "kind": "for_duration", "seconds": 3600 },
            "decide_by": timestamp(decide_by),
            "approvers": [{ "id": "alice", "name": "Alice Example" }, { "id": "bob", "name": "Bob Example" }],
            "required_approvals": 1,
            "mode": "enforce",
            "database": database,
            "catalogue_versions": {},
        });
        let stored = document.to_string();
        let vote = json!({
            "vote": { "approver": "alice", "verdict": "approve", "at": timestamp(voted_at), "comment": "go" },
            "seal": data_encoding::BASE64.encode(&[7; 32]),
        });
        let start = round_up(voted_at);
        let window = json!({
            "start": timestamp(start), "end": timestamp(start + TimeDelta::hours(1)),
        });
        let pin = json!({ "system_identifier": self.system_identifier, "role_oid": self.role_oid });
        let mut state = self.catalogue();
        let request_key = format!("request#{REQUEST}");
        let mut row = vec![("document", stored.clone())];
        let decided = |row: &mut Vec<(&'static str, String)>, status: &str| {
            let decision =
                json!({ "outcome": "approved", "at": timestamp(voted_at), "by": ["alice"] });
            row.push(("status", status.to_owned()));
            row.push(("n_votes", "1".to_owned()));
            row.push(("decision", decision.to_string()));
            row.push(("window", window.to_string()));
            row.push(("server", pin.to_string()));
        };
        match work {
            Work::Open => decided(&mut row, "approved"),
            Work::Close => decided(&mut row, "open"),
            _ => {
                row.push(("status", "pending".to_owned()));
                row.push(("n_votes", "0".to_owned()));
            }
        }
        if work != Work::TakeIn {
            state.put(&request_key, "request", &row);
        }
        match work {
            Work::Open => {
                state.put(
                    &format!("vote#{REQUEST}"),
                    "alice",
                    &[("document", vote.to_string())],
                );
            }
            Work::Close => {
                let ended = json!({
                    "request_id": REQUEST, "window": window, "opened_at": timestamp(start),
                    "ended_at": timestamp(now - TimeDelta::seconds(1)), "ended_by": "the bench",
                });
                let key = format!("windows#{TARGET}#{ROLE}");
                state.put(&key, REQUEST, &[("document", ended.to_string())]);
                if let Some(facts) = &self.facts_before {
                    let key = (request_key, "facts#before".to_owned());
                    state.items.insert(key, facts.clone());
                }
            }
            Work::Approve => {
                state.put(
                    &format!("token#{REQUEST}"),
                    "token",
                    &[("token", "AAAAKgAAAAIAAAAA".repeat(40))],
                );
            }
            _ => {}
        }
        let action =
            |action: &str| json!({ "version": 1, "request_id": REQUEST, "action": action });
        let event = match work {
            Work::Nothing | Work::LoginCore => json!({}),
            Work::TakeIn => json!({
                "version": 1,
                "execution": {
                    "arn": "arn:aws:states:eu-west-1:123456789012:execution:latchkey:bench",
                    "started_at": timestamp(now),
                },
                "request": {
                    "target": TARGET, "role": ROLE, "duration": "PT1H", "requester": "riko",
                    "reason": "repair the orders that the import at 02:00 left half done",
                },
            }),
            Work::Ask => action("ask"),
            Work::Approve => page_event(&stored, decide_by),
            Work::Open => action("open"),
            Work::Close => action("close"),
        };
        Step {
            state,
            event,
            document,
        }
    }

    fn database(&self) -> Value {
        json!({
            "location": { "hosts": {
                "writer": { "host": self.postgres.host(), "port": self.postgres.port() }, "readers": [],
            } },
            "database": LATCHKEY_DATABASE,
            "opener": { "user": self.postgres.accounts().opener.user, "credential": { "secret": OPENER_SECRET } },
            "closer": { "user": self.postgres.accounts().closer.user, "credential": { "secret": CLOSER_SECRET } },
            "ca": { "parameter": format!("{PREFIX}/ca/{TARGET}") },
            "region": null,
            "time_zone": "Asia/Tokyo",
        })
    }

    fn catalogue(&self) -> State {
        let mut state = State::default();
        let mut document = |name: &str, document: &Value| {
            state
                .parameters
                .insert(format!("{PREFIX}/{name}"), document.to_string());
        };
        document(
            &format!("databases/{TARGET}"),
            &json!({
                "host": self.postgres.host(),
                "port": self.postgres.port(),
                "database": LATCHKEY_DATABASE,
                "opener": { "user": "latchkey_opener", "secret": OPENER_SECRET },
                "closer": { "user": "latchkey_closer", "secret": CLOSER_SECRET },
                "ca": { "parameter": format!("{PREFIX}/ca/{TARGET}") },
                "time_zone": "Asia/Tokyo",
            }),
        );
        document(
            &format!("roles/{TARGET}/{ROLE}"),
            &xtask::stack::Stack::role_document(ROLE),
        );
        for (id, name) in [
            ("riko", "Riko Example"),
            ("alice", "Alice Example"),
            ("bob", "Bob Example"),
        ] {
            document(
                &format!("people/{id}"),
                &json!({
                    "id": id,
                    "name": name,
                    "mailbox": format!("{id}@example.com"),
                    "principals": [format!("arn:aws:iam::123456789012:user/{id}")],
                }),
            );
        }
        state.parameters.insert(
            format!("{PREFIX}/ca/{TARGET}"),
            self.postgres.ca_pem().to_owned(),
        );
        let accounts = self.postgres.accounts();
        state
            .passwords
            .insert(OPENER_SECRET.to_owned(), accounts.opener.password.clone());
        state
            .passwords
            .insert(CLOSER_SECRET.to_owned(), accounts.closer.password.clone());
        state
    }
}

/// See [`World::watcher`].
pub(crate) struct Watcher {
    client: Client,
    statement: tokio_postgres::Statement,
}

impl Watcher {
    /// Looks every millisecond until the role can no longer log in and has no session: when each was first seen.
    pub(crate) async fn watch_closing(&self) -> Result<(Instant, Instant)> {
        let (started, mut refused) = (Instant::now(), None);
        while started.elapsed() < Duration::from_secs(60) {
            let row = self
                .client
                .query_one(&self.statement, &[&ROLE])
                .await
                .map_err(asking)?;
            let now = Instant::now();
            if !row.get::<_, bool>(0) {
                let refused_at = *refused.get_or_insert(now);
                if !row.get::<_, bool>(1) {
                    return Ok((refused_at, now));
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(Error::NotAsPromised(
            "the role was not closed within a minute".to_owned(),
        ))
    }
}

struct Step {
    state: State,
    event: Value,
    document: Value,
}

fn target(n: usize) -> String {
    format!("{TARGET}-{n}")
}

fn numbered(n: usize) -> String {
    format!("r-{n:016x}")
}

/// An open window like that of `document`, which lasts for another hour.
fn put_open(state: &mut State, n: usize, document: &Value) {
    let id = numbered(n);
    let mut document = document.clone();
    document["request_id"] = json!(id);
    let now = round_up(Utc::now());
    let window = json!({
        "start": timestamp(now - TimeDelta::minutes(1)), "end": timestamp(now + TimeDelta::hours(1)),
    });
    let row = [
        ("document", document.to_string()),
        ("status", "open".to_owned()),
        ("n_votes", "1".to_owned()),
        ("window", window.to_string()),
    ];
    state.put(&format!("request#{id}"), "request", &row);
    let open = json!({
        "request_id": id, "window": window, "opened_at": timestamp(now), "ended_at": null, "ended_by": null,
    });
    let target = document["target"].as_str().unwrap_or_default();
    let row = [
        ("document", open.to_string()),
        ("kind", "window".to_owned()),
    ];
    state.put(&format!("windows#{target}#{ROLE}"), &id, &row);
}

async fn is_connected(client: &Client, user: &str) -> Result<bool> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1)",
            &[&user],
        )
        .await
        .map_err(asking)?;
    Ok(row.get(0))
}

/// Alice approves on the page, as the HTTP API passes it on
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).
fn page_event(document: &str, decide_by: DateTime<Utc>) -> Value {
    let known = "the bench's own names are well-formed";
    let link = Link {
        purpose: Some(Purpose::Decide),
        request_id: RequestId::new(REQUEST).expect(known),
        person: PersonId::new("alice").expect(known),
        expires_at: decide_by + TimeDelta::days(7),
        digest: Digest::of(document),
        key_id: KEY_ID.to_owned(),
    };
    let link = link.to_segment(&[7; 32]);
    json!({
        "version": "2.0",
        "routeKey": "POST /decide/{link}",
        "rawPath": format!("/decide/{link}"),
        "rawQueryString": "",
        "headers": { "content-type": "application/x-www-form-urlencoded" },
        "pathParameters": { "link": link },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "example",
            "domainName": "example.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "example",
            "http": {
                "method": "POST",
                "path": format!("/decide/{link}"),
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "bench",
            },
            "requestId": "id",
            "routeKey": "POST /decide/{link}",
            "stage": "$default",
            "time": "22/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1_795_348_800_000_i64,
        },
        "body": format!("decision=approve&role={ROLE}&comment=go"),
        "isBase64Encoded": false,
    })
}

fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn round_up(at: DateTime<Utc>) -> DateTime<Utc> {
    access_core::time::round_up(at)
}

async fn log_in(postgres: &LocalPostgres, account: &Account) -> Result<Client> {
    postgres
        .log_in(account, LATCHKEY_DATABASE)
        .await
        .map_err(asking)
}

fn asking(source: tokio_postgres::Error) -> Error {
    Error::Postgres {
        action: "prepare or check what is measured".to_owned(),
        source: Box::new(source),
    }
}
