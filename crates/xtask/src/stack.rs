//! The whole of Latchkey on this machine: PostgreSQL, the local AWS, the deployed template, a catalogue, people
//! with mailboxes. Used by the demo and by the tests of the deployed stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use access_core::PersonId;
use aws_sdk_sfn::types::ExecutionStatus;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::callback::{self, Answer};
use crate::console::Step;
use crate::deploy::{Built, Optimisation};
use crate::error::{Error, Result, with_causes};
use crate::inbox::{Inbox, Message};
use crate::login_probe::{Attempt, Server};
use crate::ministack::{ACCOUNT, Keys, MiniStack};
use crate::people::{Deployment, People};
use crate::postgres::{APPLICATION_DATABASE, Account, LATCHKEY_DATABASE, LocalPostgres, Settings};
use crate::tools::Tools;
use crate::{deploy, workspace};

/// The name of the registered database in the catalogue.
pub const TARGET: &str = "local";
/// The privileged role of the local database, closed until a window opens it.
pub const ROLE: &str = "breakglass";
/// Who asks for access on the local stack.
pub const REQUESTER: &str = "riko";
/// Who decides on the local stack.
pub const APPROVERS: [&str; 2] = ["alice", "bob"];

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The running local stack. Everything ends when this is dropped.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they end: the functions first, then the database they use.
    ministack: MiniStack,
    postgres: LocalPostgres,
    built: Built,
    outputs: BTreeMap<String, String>,
    inboxes: BTreeMap<&'static str, Inbox>,
    people: Option<People>,
    root: aws_config::SdkConfig,
    keys: BTreeMap<&'static str, Keys>,
    database_document: Value,
    folder: PathBuf,
    setup_took: Vec<(&'static str, Duration)>,
}

/// A running or ended execution of the state machine.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
}

/// How an execution ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `SUCCEEDED`, or anything else, for which a person must look.
    pub status: String,
    /// Its output; `null` if it did not succeed.
    pub output: Value,
    /// The name of the error if it failed, and its cause.
    pub error: Option<(String, String)>,
    /// When it ended.
    pub at: DateTime<Utc>,
}

impl Ended {
    /// The outcome that the state machine promises: `closed`, `rejected`, `expired`, `refused` ...
    pub fn outcome(&self) -> &str {
        self.output["outcome"].as_str().unwrap_or_default()
    }

    /// The names of the faults of a refusal.
    pub fn fault_names(&self) -> Vec<&str> {
        let faults = self.output["faults"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        faults
            .iter()
            .filter_map(|fault| fault["name"].as_str())
            .collect()
    }
}

impl Stack {
    /// Sets everything up, from the tools to the people's mailboxes, with what an earlier run left where it
    /// is still right. `name` names the folder of the run below `target/stack`.
    ///
    /// # Errors
    /// The first thing that went wrong, with where to look.
    pub async fn start(name: &str, optimisation: Optimisation) -> Result<Self> {
        Self::start_with(name, optimisation, &Settings::default()).await
    }

    /// The same with another PostgreSQL server than the default one.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_with(
        name: &str,
        optimisation: Optimisation,
        server: &Settings,
    ) -> Result<Self> {
        let mut setup_took = Vec::new();
        let started = Instant::now();
        let tools = Tools::ensure().await?;
        setup_took.push(("tools", started.elapsed()));
        let built = deploy::build(&tools, optimisation).await?;
        setup_took.push(("build", built.took));
        let folder = workspace::run_folder(name)?;
        let logs = workspace::make_folder(folder.join("log"))?;

        let step = Step::begin("Start PostgreSQL and the local AWS");
        let postgres = LocalPostgres::start(server).await?;
        let ministack = MiniStack::start(&tools, &folder).await?;
        setup_took.push((
            "start",
            step.done_with(&format!("PostgreSQL {}", postgres.version())),
        ));

        let step = Step::begin_with_log("Deploy the template", Some(&logs.join("deploy.log")));
        let outputs = deploy::deploy(&built, &ministack, &logs).await?;
        setup_took.push(("deploy", step.done()));

        let step = Step::begin("Fill the catalogue, open the mailboxes");
        let root = ministack.sdk_config(&Keys::of_root()).await;
        let inboxes = BTreeMap::new();
        let mut stack = Self {
            ministack,
            postgres,
            built,
            outputs,
            inboxes,
            people: None,
            root,
            keys: BTreeMap::new(),
            database_document: Value::Null,
            folder,
            setup_took,
        };
        stack.fill_catalogue().await?;
        let deployment = Deployment::of_outputs(&stack.outputs)?;
        let aws = stack.ministack.command("aws", &Keys::of_root());
        let endpoint = stack.ministack.endpoint();
        stack.people = Some(People::of(deployment, aws, Some(&endpoint)).await?);
        for person in [REQUESTER].into_iter().chain(APPROVERS) {
            let inbox = stack.subscribe(person).await?;
            stack.inboxes.insert(person, inbox);
        }
        for (person, policy) in [
            (REQUESTER, "RequesterPolicyArn"),
            (APPROVERS[0], "ApproverPolicyArn"),
            (APPROVERS[1], "ApproverPolicyArn"),
        ] {
            let keys = stack.make_user(person, stack.output(policy)?).await?;
            stack.keys.insert(person, keys);
        }
        let catalogue_took = step.done();
        stack.setup_took.push(("catalogue", catalogue_took));
        Ok(stack)
    }

    /// How long each part of the set-up took.
    pub fn setup_took(&self) -> &[(&'static str, Duration)] {
        &self.setup_took
    }

    /// The local AWS.
    pub fn aws(&self) -> &MiniStack {
        &self.ministack
    }

    /// The local PostgreSQL server.
    pub fn postgres(&self) -> &LocalPostgres {
        &self.postgres
    }

    /// The folder of this run, with its logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An output of the deployed template.
    ///
    /// # Errors
    /// [`Error::Repository`] if the template has no such output.
    pub fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).ok_or_else(|| {
            Error::Repository(format!(
                "template.yaml has no output {name}; the local stack needs it"
            ))
        })
    }

    /// The settings of SDK clients that may do everything.
    pub fn root_config(&self) -> &aws_config::SdkConfig {
        &self.root
    }

    /// The catalogue's document for the local database; save a changed copy under another name to have another
    /// target on the same server.
    pub fn database_document(&self) -> &Value {
        &self.database_document
    }

    /// The keys of the requester, who may do what the template's policy for requesters allows.
    pub fn requester_keys(&self) -> &Keys {
        &self.keys[REQUESTER]
    }

    /// The keys of an approver, who may do what the template's policy for approvers allows.
    ///
    /// # Errors
    /// [`Error::Repository`] for a person who has none.
    pub fn keys_of(&self, person: &str) -> Result<&Keys> {
        self.keys
            .get(person)
            .ok_or_else(|| Error::Repository(format!("{person} has no keys")))
    }

    /// Who gets messages, with the rights of the deployment's own role.
    ///
    /// # Errors
    /// [`Error::Repository`] before the stack is deployed.
    pub fn people(&self) -> Result<&People> {
        let before = || Error::Repository("nobody is subscribed before the deployment".to_owned());
        self.people.as_ref().ok_or_else(before)
    }

    /// The mailbox of one of the people.
    ///
    /// # Errors
    /// [`Error::Repository`] for a person who has none.
    pub fn inbox(&self, person: &str) -> Result<&Inbox> {
        self.inboxes
            .get(person)
            .ok_or_else(|| Error::Repository(format!("{person} has no mailbox")))
    }

    /// Makes another privileged role of the local database, registers it there as the DBA would, and saves its
    /// document in the catalogue. Its password is the one of [`ROLE`].
    ///
    /// # Errors
    /// When the database or the local AWS refuses.
    pub async fn add_role(&self, document: &Value) -> Result<()> {
        self.add_role_on(TARGET, &self.postgres, document).await
    }

    /// The same on another database of the catalogue, which `server` is.
    ///
    /// # Errors
    /// As [`Stack::add_role`].
    pub async fn add_role_on(
        &self,
        target: &str,
        server: &LocalPostgres,
        document: &Value,
    ) -> Result<()> {
        let role = document["role"].as_str().unwrap_or_default();
        let failed = |source| Error::Postgres {
            action: format!("make the role {role}"),
            source: Box::new(source),
        };
        let master = server
            .log_in(&server.accounts().master, LATCHKEY_DATABASE)
            .await
            .map_err(failed)?;
        // Names and password are the test's own and need no escaping.
        let create = format!(
            "CREATE ROLE \"{role}\" NOLOGIN PASSWORD '{}'",
            server.target_password()
        );
        master.batch_execute(&create).await.map_err(failed)?;
        master
            .execute("SELECT latchkey.register($1, '8 hours')", &[&role])
            .await
            .map_err(failed)?;
        self.put_catalogue(&format!("roles/{target}/{role}"), document)
            .await
    }

    /// Makes the user and the role of a membership in the local database, registers it there as the DBA would, and saves
    /// its document in the catalogue. The user's password is the one of [`ROLE`].
    ///
    /// # Errors
    /// When the database or the local AWS refuses.
    pub async fn add_membership(&self, document: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&document["role"]);
        let role = text(&document["membership"]["role"]);
        let user = text(&document["membership"]["user"]);
        let failed = |source| Error::Postgres {
            action: format!("make the membership {name}"),
            source: Box::new(source),
        };
        let server = &self.postgres;
        let master = server
            .log_in(&server.accounts().master, LATCHKEY_DATABASE)
            .await
            .map_err(failed)?;
        // Names and password are the test's own and need no escaping.
        let create = format!(
            "CREATE ROLE \"{role}\" NOLOGIN; CREATE ROLE \"{user}\" LOGIN PASSWORD '{}'",
            server.target_password()
        );
        master.batch_execute(&create).await.map_err(failed)?;
        let register = "SELECT latchkey.register_membership($1, $2, $3, '8 hours')";
        master
            .execute(register, &[&name, &role, &user])
            .await
            .map_err(failed)?;
        self.put_catalogue(&format!("roles/{TARGET}/{name}"), document)
            .await
    }

    /// Registers another database in the catalogue: the CA, the secrets of our logins, and the document, which it
    /// returns.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn add_database(&self, target: &str, server: &LocalPostgres) -> Result<Value> {
        let ca = format!("{}/ca/{target}", self.output("CataloguePrefix")?);
        self.put_parameter(&ca, server.ca_pem()).await?;
        let opener = self
            .make_secret("opener", target, &server.accounts().opener)
            .await?;
        let closer = self
            .make_secret("closer", target, &server.accounts().closer)
            .await?;
        let document = json!({
            "host": server.host(),
            "port": server.port(),
            "database": LATCHKEY_DATABASE,
            "opener": { "user": "latchkey_opener", "secret": opener },
            "closer": { "user": "latchkey_closer", "secret": closer },
            "ca": { "parameter": ca },
            "time_zone": "Asia/Tokyo",
        });
        self.put_catalogue(&format!("databases/{target}"), &document)
            .await?;
        Ok(document)
    }

    /// Saves one document of the catalogue: `databases/TARGET`, `roles/TARGET/ROLE` or `people/PERSON`.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub async fn put_catalogue(&self, name: &str, document: &Value) -> Result<()> {
        self.put_parameter(
            &format!("{}/{name}", self.output("CataloguePrefix")?),
            &document.to_string(),
        )
        .await
    }

    /// Deletes one document of the catalogue.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn forget_catalogue(&self, name: &str) -> Result<()> {
        let name = format!("{}/{name}", self.output("CataloguePrefix")?);
        let client = aws_sdk_ssm::Client::new(&self.root);
        let deleted = client.delete_parameter().name(&name).send().await;
        deleted.map_err(|error| Error::Aws {
            action: format!("delete the parameter {name}"),
            reason: with_causes(&error),
        })?;
        Ok(())
    }

    /// The catalogue's document for a role of the local database, as the stack starts with it; change what
    /// a test needs and save it with [`Stack::put_catalogue`].
    pub fn role_document(role: &str) -> Value {
        json!({
            "role": role,
            "approvers": APPROVERS,
            "required_approvals": 1,
            "min_duration": "PT1S",
            "max_duration": "PT1H",
            "max_ahead": "P7D",
            "approval_deadline": "PT10M",
            "mode": "enforce",
            "credential": "existing",
        })
    }

    /// A request for `role` of the local database that starts as soon as it is approved.
    pub fn request_document(role: &str, duration: &str) -> Value {
        json!({
            "target": TARGET,
            "role": role,
            "duration": duration,
            "reason": "repair the orders that the import at 02:00 left half done",
            "requester": REQUESTER,
        })
    }

    /// Asks for access through the front door, as whoever has `keys`: the document without its requester, signed.
    ///
    /// # Errors
    /// When the API cannot be reached.
    pub async fn ask(
        &self,
        keys: Option<&Keys>,
        document: &Value,
        key: Option<&str>,
    ) -> Result<Answer> {
        let headers: Vec<_> = key.iter().map(|key| ("idempotency-key", *key)).collect();
        let url = self.output("RequestsUrl")?;
        callback::call(keys, "POST", url, &headers, &document.to_string()).await
    }

    /// Asks for access through the front door as the requester, and expects to be taken.
    ///
    /// # Errors
    /// [`Error::NotAsPromised`] if the front door refuses.
    pub async fn ask_as_requester(&self, document: &Value) -> Result<Execution> {
        self.ask_as(self.requester_keys(), document).await
    }

    /// The same as whoever has `keys`.
    ///
    /// # Errors
    /// [`Error::NotAsPromised`] if the front door refuses.
    pub async fn ask_as(&self, keys: &Keys, document: &Value) -> Result<Execution> {
        let mut document = document.clone();
        if let Some(fields) = document.as_object_mut() {
            fields.remove("requester");
        }
        let answer = self.ask(Some(keys), &document, None).await?;
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        match (answer.status, body["execution_arn"].as_str()) {
            (202, Some(arn)) => Ok(Execution {
                arn: arn.to_owned(),
            }),
            _ => Err(Error::NotAsPromised(format!(
                "the front door answered {}: {}",
                answer.status, answer.body
            ))),
        }
    }

    /// Files a request beside the front door as the requester: starts an execution with this input.
    ///
    /// # Errors
    /// When the state machine does not take it.
    pub async fn file_request(&self, input: &Value) -> Result<Execution> {
        let client =
            aws_sdk_sfn::Client::new(&self.ministack.sdk_config(self.requester_keys()).await);
        let started = client
            .start_execution()
            .state_machine_arn(self.output("StateMachineArn")?)
            .input(input.to_string())
            .send()
            .await
            .map_err(|error| Error::Aws {
                action: "file the request".to_owned(),
                reason: with_causes(&error),
            })?;
        Ok(Execution {
            arn: started.execution_arn().to_owned(),
        })
    }

    /// Waits until an execution ends, for at most `at_most`.
    ///
    /// # Errors
    /// [`Error::Waited`] if it is still running then.
    pub async fn wait_for_end(&self, execution: &Execution, at_most: Duration) -> Result<Ended> {
        let client = aws_sdk_sfn::Client::new(&self.root);
        let started = Instant::now();
        loop {
            let seen = client
                .describe_execution()
                .execution_arn(&execution.arn)
                .send()
                .await
                .map_err(|error| Error::Aws {
                    action: "look at the execution".to_owned(),
                    reason: with_causes(&error),
                })?;
            if *seen.status() != ExecutionStatus::Running {
                let error = seen.error().map(|error| {
                    (
                        error.to_owned(),
                        seen.cause().unwrap_or_default().to_owned(),
                    )
                });
                return Ok(Ended {
                    status: seen.status().as_str().to_owned(),
                    output: serde_json::from_str(seen.output().unwrap_or("null"))
                        .unwrap_or_default(),
                    error,
                    at: seen.stop_date().and_then(to_utc).unwrap_or_else(Utc::now),
                });
            }
            if started.elapsed() > at_most {
                let last_seen = self.states_entered(execution).await?.pop();
                return Err(Error::Waited {
                    what: "the end of the execution".to_owned(),
                    waited: at_most,
                    last_seen: last_seen.map(|(name, _)| format!("state {name}")),
                });
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Waits until an execution enters the state called `state`, and returns when that was.
    ///
    /// # Errors
    /// [`Error::Waited`] if it does not within `at_most`, and at once if it ends without.
    pub async fn wait_for_state(
        &self,
        execution: &Execution,
        state: &str,
        at_most: Duration,
    ) -> Result<DateTime<Utc>> {
        let started = Instant::now();
        loop {
            let states = self.states_entered(execution).await?;
            if let Some((_, at)) = states.iter().find(|(name, _)| name == state) {
                return Ok(*at);
            }
            let ended = self.wait_for_end(execution, Duration::ZERO).await.ok();
            if ended.is_some() || started.elapsed() > at_most {
                return Err(Error::Waited {
                    what: format!("the state {state:?}"),
                    waited: started.elapsed(),
                    last_seen: match ended {
                        Some(ended) => Some(format!(
                            "the execution ended {}: {} {:?}",
                            ended.status, ended.output, ended.error
                        )),
                        None => states.last().map(|(name, _)| name.clone()),
                    },
                });
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// The states that an execution has entered so far, with when, in order.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub async fn states_entered(
        &self,
        execution: &Execution,
    ) -> Result<Vec<(String, DateTime<Utc>)>> {
        Ok(self.history(execution).await?.states)
    }

    /// Tries to log in to the local database as a managed role: can it, now?
    ///
    /// # Errors
    /// When the server gives neither yes nor no.
    pub async fn try_log_in(&self, role: &str) -> Result<Attempt> {
        self.try_log_in_with(role, self.postgres.target_password())
            .await
    }

    /// The same, with a password that was made for a window.
    ///
    /// # Errors
    /// When the server gives neither yes nor no.
    pub async fn try_log_in_with(&self, role: &str, password: &str) -> Result<Attempt> {
        self.server()
            .log_in(APPLICATION_DATABASE, role, password)
            .await
    }

    /// Tries to log in as `user` with the password of [`ROLE`] and to act as `role`: can it, now?
    ///
    /// # Errors
    /// When the server gives neither yes nor no.
    pub async fn try_act_as(&self, user: &str, role: &str) -> Result<Attempt> {
        match self.try_log_in(user).await? {
            Attempt::Accepted(session) if !session.act_as(role).await? => Ok(Attempt::Refused {
                sqlstate: "42501".to_owned(),
            }),
            attempt => Ok(attempt),
        }
    }

    /// Deploys another release over the running one: `parameters` change, and so do every function's package and
    /// the template.
    ///
    /// # Errors
    /// What SAM says.
    pub async fn deploy_again(&self, parameters: &[(&str, &str)]) -> Result<()> {
        deploy::deploy_again(&self.built, parameters, &self.ministack, &self.folder).await
    }

    /// Kills every process in which a deployed function runs, as SIGKILL does, and returns how many there were.
    /// `function` is its name in the template.
    ///
    /// # Errors
    /// When one of them cannot be killed.
    pub fn kill_function(&self, function: &str) -> Result<usize> {
        let arn = self.output(&format!("{function}Arn"))?;
        let name = arn.rsplit(':').next().unwrap_or_default();
        self.ministack.kill_function(name)
    }

    /// Calls a deployed function directly, by its name in the template, and returns its answer or its error.
    ///
    /// # Errors
    /// When there is no such function, or it cannot be called.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value> {
        let stack = [
            "cloudformation",
            "describe-stack-resource",
            "--stack-name",
            deploy::STACK_NAME,
        ];
        let found = self
            .ministack
            .aws(&[&stack[..], &["--logical-resource-id", function]].concat())
            .await?;
        let name = found["StackResourceDetail"]["PhysicalResourceId"]
            .as_str()
            .unwrap_or_default();
        let unique = Utc::now().timestamp_nanos_opt().unwrap_or_default();
        let answer = self.folder.join(format!("answer-{unique}.json"));
        let payload = payload.to_string();
        self.ministack
            .aws(&[
                "lambda",
                "invoke",
                "--function-name",
                name,
                "--payload",
                &payload,
                &answer.to_string_lossy(),
            ])
            .await?;
        let text = workspace::read(&answer)?;
        serde_json::from_str(&text).map_err(|_| Error::Aws {
            action: format!("call {function}"),
            reason: text,
        })
    }

    /// The token of the waiting approval task, read from the table as only an administrator can.
    ///
    /// # Errors
    /// [`Error::Waited`] if there is none within `at_most`.
    pub async fn task_token(&self, request_id: &str, at_most: Duration) -> Result<String> {
        let key = json!({ "pk": { "S": format!("token#{request_id}") }, "sk": { "S": "token" } })
            .to_string();
        let started = Instant::now();
        while started.elapsed() < at_most {
            let table = self.output("TableName")?;
            let item = self
                .ministack
                .aws(&["dynamodb", "get-item", "--table-name", table, "--key", &key])
                .await?;
            if let Some(token) = item["Item"]["token"]["S"].as_str() {
                return Ok(token.to_owned());
            }
        }
        Err(Error::Waited {
            what: "a task token in the table".to_owned(),
            waited: at_most,
            last_seen: None,
        })
    }

    /// Writes what the functions logged so far to a file of this run, and returns its path: the local AWS forgets
    /// it when it ends.
    ///
    /// # Errors
    /// When the logs cannot be read.
    pub async fn save_function_logs(&self) -> Result<PathBuf> {
        let file = self.folder.join("log").join("functions.log");
        let mut text = String::new();
        let groups = self.ministack.aws(&["logs", "describe-log-groups"]).await?;
        for group in groups["logGroups"].as_array().into_iter().flatten() {
            let name = group["logGroupName"].as_str().unwrap_or_default();
            let events = self
                .ministack
                .aws(&["logs", "filter-log-events", "--log-group-name", name])
                .await?;
            for event in events["events"].as_array().into_iter().flatten() {
                text.push_str(&format!(
                    "{name} {}\n",
                    event["message"].as_str().unwrap_or_default().trim_end()
                ));
            }
        }
        workspace::write(&file, &text)?;
        Ok(file)
    }

    /// The local PostgreSQL server as an outsider sees it.
    pub fn server(&self) -> Server {
        Server {
            host: self.postgres.host().to_owned(),
            port: self.postgres.port(),
            ca_pem: self.postgres.ca_pem().to_owned(),
        }
    }

    async fn fill_catalogue(&mut self) -> Result<()> {
        self.database_document = self.add_database(TARGET, &self.postgres).await?;
        self.put_catalogue(
            &format!("roles/{TARGET}/{ROLE}"),
            &Self::role_document(ROLE),
        )
        .await?;
        for (id, name) in [
            (REQUESTER, "Riko Example"),
            ("alice", "Alice Example"),
            ("bob", "Bob Example"),
        ] {
            let person = json!({
                "id": id,
                "name": name,
                "mailbox": format!("{id}@example.com"),
                "principals": [format!("arn:aws:iam::{ACCOUNT}:user/{id}")],
            });
            self.put_catalogue(&format!("people/{id}"), &person).await?;
        }
        Ok(())
    }

    async fn put_parameter(&self, name: &str, value: &str) -> Result<()> {
        let client = aws_sdk_ssm::Client::new(&self.root);
        let put = client
            .put_parameter()
            .name(name)
            .value(value)
            .r#type(aws_sdk_ssm::types::ParameterType::String)
            .overwrite(true);
        put.send().await.map_err(|error| Error::Aws {
            action: format!("save the parameter {name}"),
            reason: with_causes(&error),
        })?;
        Ok(())
    }

    /// Saves one of our own logins, under a name that only its function may read, and returns its ARN.
    async fn make_secret(&self, folder: &str, target: &str, account: &Account) -> Result<String> {
        let Account { user, password } = account;
        let client = aws_sdk_secretsmanager::Client::new(&self.root);
        let secret = client
            .create_secret()
            .name(format!("latchkey/{folder}/{target}"))
            .secret_string(json!({ "username": user, "password": password }).to_string())
            .send()
            .await
            .map_err(|error| Error::Aws {
                action: format!("save the secret of {user}"),
                reason: with_causes(&error),
            })?;
        Ok(secret.arn().unwrap_or_default().to_owned())
    }

    /// Gives a person a mailbox that gets only what is for them, as the platform team does it on AWS.
    ///
    /// # Errors
    /// When the local AWS refuses, or brings no mail.
    pub async fn subscribe(&self, person: &str) -> Result<Inbox> {
        let inbox = self.make_mailbox(person).await?;
        let id = PersonId::new(person).map_err(|error| Error::Repository(error.to_string()))?;
        self.people()?.subscribe(&id).await?;
        let asks = |message: &Message| message.text.contains("Token=");
        let mail = inbox.next(Duration::from_secs(30), asks).await?;
        let link = mail.text.split_whitespace().last().unwrap_or_default();
        self.people()?.confirm(link).await?;
        Ok(inbox)
    }

    /// Makes the mailbox of NAME@example.com. What the local AWS mails there comes to it.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn make_mailbox(&self, name: &str) -> Result<Inbox> {
        let action = || format!("make the mailbox of {name}");
        let queue = aws_sdk_sqs::Client::new(&self.root)
            .create_queue()
            .queue_name(format!("mailbox-{name}"))
            .send()
            .await
            .map_err(|error| Error::Aws {
                action: action(),
                reason: with_causes(&error),
            })?;
        let queue_url = queue.queue_url().ok_or_else(|| Error::Aws {
            action: action(),
            reason: "no queue URL".to_owned(),
        })?;
        let client = aws_sdk_sqs::Client::new(&self.root);
        Ok(Inbox::new(client, queue_url.to_owned(), name.to_owned()))
    }

    /// Makes an IAM user with one policy and returns its keys.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn make_user(&self, name: &str, policy_arn: &str) -> Result<Keys> {
        self.ministack
            .aws(&["iam", "create-user", "--user-name", name])
            .await?;
        self.ministack
            .aws(&[
                "iam",
                "attach-user-policy",
                "--user-name",
                name,
                "--policy-arn",
                policy_arn,
            ])
            .await?;
        let made = self
            .ministack
            .aws(&["iam", "create-access-key", "--user-name", name])
            .await?;
        let text = |field: &str| {
            made["AccessKey"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Keys {
            access_key_id: text("AccessKeyId"),
            secret_access_key: text("SecretAccessKey"),
            session_token: None,
        })
    }

    /// Makes an IAM role that everybody in the account may assume, with one policy.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn make_role(&self, name: &str, policy_arn: &str) -> Result<()> {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
                "Action": "sts:AssumeRole",
            }],
        })
        .to_string();
        let create = [
            "iam",
            "create-role",
            "--path",
            "/people/",
            "--role-name",
            name,
        ];
        self.ministack
            .aws(&[&create[..], &["--assume-role-policy-document", &trust]].concat())
            .await?;
        let attach = ["iam", "attach-role-policy", "--role-name", name];
        self.ministack
            .aws(&[&attach[..], &["--policy-arn", policy_arn]].concat())
            .await?;
        Ok(())
    }

    /// The keys of a session of a role that [`Stack::make_role`] made.
    ///
    /// # Errors
    /// When the local AWS refuses.
    pub async fn session(&self, role: &str, session_name: &str) -> Result<Keys> {
        let arn = format!("arn:aws:iam::{ACCOUNT}:role/people/{role}");
        let made = self
            .ministack
            .aws(&[
                "sts",
                "assume-role",
                "--role-arn",
                &arn,
                "--role-session-name",
                session_name,
            ])
            .await?;
        let text = |field: &str| {
            made["Credentials"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Keys {
            access_key_id: text("AccessKeyId"),
            secret_access_key: text("SecretAccessKey"),
            session_token: Some(text("SessionToken")),
        })
    }
}

pub(crate) fn to_utc(at: &aws_smithy_types::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.secs(), at.subsec_nanos())
}
