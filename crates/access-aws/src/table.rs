//! The table: requests, votes, task tokens and windows, with the conditional writes that keep them honest.
//!
//! | partition key | sort key | what |
//! |---|---|---|
//! | `request#<id>` | `request` | the request, immutable, with its status beside it |
//! | `request#<id>` | `message#<event>#<person>` | a message that was sent |
//! | `request#<id>` | `facts#before`, `facts#after` | the facts about the cluster before and after the window |
//! | `requests-of#<part>#<person>` | `<time>#<id>` | that this person has this part in this request |
//! | `dry-run#<id>` | `dry-run` | what a dry run would ask for: no request, so that nothing could ever open it |
//! | `vote#<id>` | `<person>` | a sealed vote |
//! | `asked#<execution ARN>` | `asked` | who asked through the front door, and what; taken once |
//! | `confirmed#<id>` | `requester` | CloudTrail's word for a requester who was a claim |
//! | `review#<person>` | `review` | which request of theirs, opened without approval, waits for its review: one at most |
//! | `token#<id>` | `token` | the token of the waiting task |
//! | `windows#<target>#<role>` | `<id>` | a window that is not closed yet |
//! | `windows#<target>#<role>` | `closings` | until when whoever closes the role may act on what it read |
//! | `armed#<target>#<role>` | `armed` | how many windows of the role there ever were: who arms one has seen all of them |
//! | `record#<UTC day>` | `<instant>#<request>` | a line of the record: written once, with the change that it tells of |

use std::collections::HashMap;

use access_contract::record::{self, By, Event, Line, Part};
use access_contract::seal::SealedVote;
use access_contract::{Asked, Confirmation, Status, TaskToken};
use access_core::{
    Decision, Digest, EndedAs, Ending, Facts, Fault, Finding, LeftBehind, PersonId, Request,
    RequestId, Review, RoleName, TargetId, Window, WindowRow, Windows,
};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValue, TransactWriteItem, Update,
};
use aws_types::SdkConfig;
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use self::conflict::RetryConflicts;
use crate::Error;
use crate::error::chain;

mod conflict;

type Item = HashMap<String, AttributeValue>;

/// The index over the windows that are not closed yet: rows leave it when they are closed.
const OPEN_WINDOWS_INDEX: &str = "open-windows";
/// How much text of facts one item holds: below the 400 KB of
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>, the attributes beside it included.
const MAX_PART_BYTES: usize = 300_000;
/// The value of `kind` on those rows.
const WINDOW_KIND: &str = "window";
/// The sort key of the announced closings of a role, one attribute each. No request id is like it.
const CLOSINGS: &str = "closings";

/// How long after its end an announced closing is forgotten: longer than any two clocks differ.
const OVER_FOR_LONG: Duration = Duration::hours(1);
/// How many of those one closing forgets.
const MAX_FORGOTTEN: usize = 10;

/// Why a transaction is canceled when one of its conditions does not hold.
const CONDITION_FAILED: &str = "ConditionalCheckFailed";
/// The sort key of what waits for its review.
const REVIEW: &str = "review";
/// The sort key of the number of windows of a role.
const ARMED: &str = "armed";

/// The table.
pub struct Table {
    client: Client,
    name: String,
    recorder: Recorder,
}

/// Who writes lines of the record, when, and for how long they are kept.
pub struct Recorder {
    part: Part,
    retention: Option<Duration>,
    now: fn() -> DateTime<Utc>,
}

impl Recorder {
    /// Lines of `part` are kept for `retention_days`, or for ever if that is 0.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it is not a number of days.
    pub fn new(
        part: Part,
        retention_days: &str,
        now: fn() -> DateTime<Utc>,
    ) -> Result<Self, Error> {
        let days: u16 = retention_days
            .parse()
            .map_err(|_| Error::Configuration("LATCHKEY_RECORD_DAYS"))?;
        Ok(Self {
            part,
            retention: (days > 0).then(|| Duration::days(days.into())),
            now,
        })
    }
}

/// A request as the table has it now.
#[derive(Debug, Clone)]
pub struct StoredRequest {
    /// What was asked, as it was when it was made.
    pub request: Request,
    /// The digest of its stored text.
    pub digest: Digest,
    /// Where it stands.
    pub status: Status,
    /// How many votes have been recorded; a decision is only recorded over all of them.
    pub n_votes: u64,
    /// What was decided.
    pub decision: Option<Decision>,
    /// The window that approval made of it.
    pub window: Option<Window>,
    /// The server and role that it was checked against.
    pub server: Option<ServerPin>,
    /// What that check found about the role that approvers should know; `None` before it, and in release 0.1.
    pub findings: Option<Vec<Finding>>,
    /// Why it could not be opened.
    pub refusal: Vec<Fault>,
    /// How it was closed.
    pub closing: Option<Closing>,
    /// Who ended it before its time, if somebody did.
    pub ending: Option<Ending>,
    /// Who reviewed it, if it was opened without approval and somebody has.
    pub review: Option<Review>,
    /// The unique id of the role of AWS that it was checked against, where Latchkey may look at that.
    pub aws_role_id: Option<String>,
    /// When policies of it were last changed to end it.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl StoredRequest {
    /// Whether its policies are taken back, and AWS may not know it everywhere yet.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.status == Status::Open && self.revoked_at.is_some()
    }
}

/// Which server and which role: closing goes to these, whatever answers to the names by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPin {
    /// PostgreSQL's system identifier.
    pub system_identifier: String,
    /// The role's OID.
    pub role_oid: u32,
    /// Of a membership, the user's OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_oid: Option<u32>,
}

/// The proof of a closing, or the end under another window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When it was proved, or when the window ended.
    pub at: DateTime<Utc>,
    /// How many sessions were ended.
    pub n_sessions_ended: u64,
    /// When the call that proved it began; what lies between the end and this is waiting.
    #[serde(default)]
    pub invoked_at: Option<DateTime<Utc>>,
    /// When that call could first speak to the database.
    #[serde(default)]
    pub connected_at: Option<DateTime<Utc>>,
    /// When NOLOGIN was committed, if this closing had to.
    pub login_refused_at: Option<DateTime<Utc>>,
    /// When the last visible session was gone.
    pub sessions_gone_at: Option<DateTime<Utc>>,
    /// Until when another window keeps the role open.
    pub open_until: Option<DateTime<Utc>>,
    /// What the window left behind ([`LeftBehind::lines`]); empty if nothing was found.
    #[serde(default = "from_before_comparing")]
    pub left_behind: Vec<String>,
    /// How much of that is grave.
    #[serde(default)]
    pub n_grave: u64,
}

/// A closing of release 0.1 says nothing about what was left behind, which is not the same as nothing.
fn from_before_comparing() -> Vec<String> {
    LeftBehind::not_compared("this release of Latchkey did not look").lines
}

/// A page of the requests in which somebody has a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestsOf {
    /// The newest first.
    pub ids: Vec<RequestId>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
}

/// At which end of a window facts were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsTaken {
    /// Before the role was opened.
    Before,
    /// After it was proved closed, or the window ended under another one.
    After,
}

impl Table {
    /// The table of this name.
    #[must_use]
    pub fn new(config: &SdkConfig, name: String, recorder: Recorder) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(config)
            .retry_classifier(RetryConflicts)
            .build();
        Self {
            client: Client::from_conf(config),
            name,
            recorder,
        }
    }

    /// Records what changes nothing in the table.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record(
        &self,
        id: Option<&RequestId>,
        by: Option<By>,
        event: Event,
    ) -> Result<(), Error> {
        let items = vec![self.line(id, by, event)?];
        self.transact(items, "write the record").await.map(drop)
    }

    /// Records that a request was refused before it was stored, once for its execution.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_unstored(
        &self,
        id: &RequestId,
        started_at: DateTime<Utc>,
        by: Option<By>,
        event: Event,
    ) -> Result<(), Error> {
        let items = vec![self.line_at(started_at, Some(id), by, event)?];
        self.transact(items, "write the record").await.map(drop)
    }

    fn line(
        &self,
        id: Option<&RequestId>,
        by: Option<By>,
        event: Event,
    ) -> Result<TransactWriteItem, Error> {
        self.line_at((self.recorder.now)(), id, by, event)
    }

    fn line_at(
        &self,
        at: DateTime<Utc>,
        id: Option<&RequestId>,
        by: Option<By>,
        event: Event,
    ) -> Result<TransactWriteItem, Error> {
        let instant = at.to_rfc3339_opts(SecondsFormat::Nanos, true);
        let line = Line {
            version: record::VERSION,
            at,
            request_id: id.cloned(),
            part: self.recorder.part,
            by,
            event,
        };
        let json = line
            .to_json()
            .map_err(|error| damaged("line of the record", error))?;
        let mut put = Put::builder()
            .table_name(&self.name)
            .item("pk", text(record_key(at)))
            .item(
                "sk",
                text(format!("{instant}#{}", id.map_or("", RequestId::as_str))),
            )
            .item("line", text(json))
            .condition_expression("attribute_not_exists(pk)");
        if let Some(retention) = self.recorder.retention {
            let expires_at = (at + retention).timestamp().unsigned_abs();
            put = put.item("expires_at", number(expires_at));
        }
        transact_put(put)
    }

    /// Stores a new request. `false` if this execution stored one before, which stands.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn create_request(&self, request: &Request) -> Result<bool, Error> {
        let mut items = self.put_request(request)?;
        items.push(self.requested(request)?);
        self.transact(items, "store the request").await
    }

    /// Stores a new request and takes what the front door recorded for its execution, both or neither. `false` if
    /// there is such a request already, or if another one took it.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn create_asked_request(&self, request: &Request) -> Result<bool, Error> {
        let mut items = self.put_request(request)?;
        items.push(self.take_asked(request)?);
        items.push(self.requested(request)?);
        self.transact(items, "store the request").await
    }

    /// Keeps what a dry run would ask for, under a key of its own: no step takes it for a request. `false` if this
    /// execution kept it before, which stands.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn create_dry_run(&self, request: &Request) -> Result<bool, Error> {
        let items = vec![self.put_dry_run(request)?];
        self.transact(items, "keep the dry run").await
    }

    /// The same, and takes what the front door recorded for its execution, both or neither.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn create_asked_dry_run(&self, request: &Request) -> Result<bool, Error> {
        let items = vec![self.put_dry_run(request)?, self.take_asked(request)?];
        self.transact(items, "keep the dry run").await
    }

    /// What a dry run would ask for.
    ///
    /// # Errors
    /// [`Error::RequestNotFound`], [`Error::DamagedRow`] or [`Error::Table`].
    pub async fn dry_run(&self, id: &RequestId) -> Result<Request, Error> {
        let key = dry_run_key(id);
        let item = self.get(&key, "dry-run", "read the dry run").await?;
        let item = item.ok_or_else(|| Error::RequestNotFound(id.to_string()))?;
        document(&item, &key)
    }

    fn requested(&self, request: &Request) -> Result<TransactWriteItem, Error> {
        let stored = serde_json::to_string(request).map_err(|error| damaged("request", error))?;
        let event = Event::Requested {
            execution_arn: request.execution_arn.clone(),
            target: request.target.clone(),
            role: request.role.clone(),
            requester_verified: !request.requester_proof.is_claim(),
            reason: request.reason.clone(),
            window: request.window,
            decide_by: request.decide_by,
            approvers: request.approvers.iter().map(|it| it.id.clone()).collect(),
            required_approvals: request.required_approvals,
            digest: Digest::of(&stored),
        };
        let by = By::requester(&request.requester.id, &request.requester_proof);
        self.line(Some(&request.request_id), Some(by), event)
    }

    fn put_dry_run(&self, request: &Request) -> Result<TransactWriteItem, Error> {
        transact_put(
            Put::builder()
                .table_name(&self.name)
                .item("pk", text(dry_run_key(&request.request_id)))
                .item("sk", text("dry-run"))
                .item("version", number(1))
                .item("document", json(request))
                .condition_expression("attribute_not_exists(pk)"),
        )
    }

    fn take_asked(&self, request: &Request) -> Result<TransactWriteItem, Error> {
        transact_update(
            Update::builder()
                .table_name(&self.name)
                .key("pk", text(asked_key(&request.execution_arn)))
                .key("sk", text("asked"))
                .update_expression("SET taken_by = :id")
                .condition_expression("attribute_exists(pk) AND attribute_not_exists(taken_by)")
                .expression_attribute_values(":id", text(request.request_id.as_str())),
        )
    }

    /// The request, and for everybody who has a part in it that they have.
    fn put_request(&self, request: &Request) -> Result<Vec<TransactWriteItem>, Error> {
        let put = Put::builder()
            .table_name(&self.name)
            .item("pk", text(request_key(&request.request_id)))
            .item("sk", text("request"))
            .item("version", number(1))
            .item("document", json(request))
            .item("status", text(Status::Pending.as_str()))
            .item("n_votes", number(0))
            .condition_expression("attribute_not_exists(pk)");
        let mut items = vec![transact_put(put)?];
        let at = request
            .requested_at
            .to_rfc3339_opts(SecondsFormat::Millis, true);
        for (part, person) in request.parts() {
            let pointer = Put::builder()
                .table_name(&self.name)
                .item("pk", text(requests_of_key(part, &person.id)))
                .item("sk", text(format!("{at}#{}", request.request_id)));
            items.push(transact_put(pointer)?);
        }
        Ok(items)
    }

    /// The requests in which `person` has this part, the newest first: `limit` at most, from the one after `after` on.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn requests_of(
        &self,
        part: EndedAs,
        person: &PersonId,
        after: Option<&str>,
        limit: i32,
    ) -> Result<RequestsOf, Error> {
        let key = requests_of_key(part, person);
        let start = after.map(|after| {
            HashMap::from([
                ("pk".to_owned(), text(&key)),
                ("sk".to_owned(), text(after)),
            ])
        });
        let output = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(&key))
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| failed("list the requests", error))?;
        let ids = output.items.unwrap_or_default().into_iter().map(|item| {
            let pointer = string(&item, "sk").unwrap_or_default();
            let id = pointer.rsplit('#').next().unwrap_or_default();
            RequestId::new(id).map_err(|error| damaged(&key, error))
        });
        Ok(RequestsOf {
            ids: ids.collect::<Result<_, _>>()?,
            next: output
                .last_evaluated_key
                .and_then(|last| string(&last, "sk").map(str::to_owned)),
        })
    }

    /// Records who asks for what, before the execution is started. `false` if something stands there for this
    /// execution already.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_asked(&self, execution_arn: &str, asked: &Asked) -> Result<bool, Error> {
        let put = Put::builder()
            .table_name(&self.name)
            .item("pk", text(asked_key(execution_arn)))
            .item("sk", text("asked"))
            .item("version", number(1))
            .item("document", json(asked))
            .condition_expression("attribute_not_exists(pk)");
        let event = Event::Asked {
            execution_arn: execution_arn.to_owned(),
            request: asked.input.clone(),
        };
        let by = By::person(&asked.person, Some(&asked.principal));
        let items = vec![transact_put(put)?, self.line(None, Some(by), event)?];
        self.transact(items, "record who asks").await
    }

    /// What the front door recorded for this execution, with the request that took it.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn asked(
        &self,
        execution_arn: &str,
    ) -> Result<Option<(Asked, Option<RequestId>)>, Error> {
        let key = asked_key(execution_arn);
        let Some(item) = self.get(&key, "asked", "read who asked").await? else {
            return Ok(None);
        };
        let taken_by = string(&item, "taken_by")
            .map(|id| RequestId::new(id).map_err(|error| damaged(&key, error)))
            .transpose()?;
        Ok(Some((document(&item, &key)?, taken_by)))
    }

    /// Records that CloudTrail names the requester. The first word stands.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_confirmation(
        &self,
        id: &RequestId,
        confirmation: &Confirmation,
    ) -> Result<(), Error> {
        let put = Put::builder()
            .table_name(&self.name)
            .item("pk", text(confirmed_key(id)))
            .item("sk", text("requester"))
            .item("version", number(1))
            .item("document", json(confirmation))
            .condition_expression("attribute_not_exists(pk)");
        let event = Event::RequesterConfirmed {
            event_id: confirmation.event_id.clone(),
        };
        let by = By::principal(&confirmation.principal);
        let items = vec![transact_put(put)?, self.line(Some(id), Some(by), event)?];
        self.transact(items, "record the confirmation")
            .await
            .map(drop)
    }

    /// CloudTrail's word for the requester, if it was recorded.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn confirmation(&self, id: &RequestId) -> Result<Option<Confirmation>, Error> {
        let key = confirmed_key(id);
        let item = self.get(&key, "requester", "read the confirmation").await?;
        item.map(|item| document(&item, &key)).transpose()
    }

    /// Reads a request, consistently.
    ///
    /// # Errors
    /// [`Error::RequestNotFound`], [`Error::DamagedRow`] or [`Error::Table`].
    pub async fn request(&self, id: &RequestId) -> Result<StoredRequest, Error> {
        let item = self
            .get(&request_key(id), "request", "read the request")
            .await?
            .ok_or_else(|| Error::RequestNotFound(id.to_string()))?;
        read_request(id, &item)
    }

    /// Keeps the token of the waiting task. A later one replaces it: only the newest task waits.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn park_token(&self, id: &RequestId, token: &TaskToken) -> Result<(), Error> {
        self.client
            .put_item()
            .table_name(&self.name)
            .item("pk", text(token_key(id)))
            .item("sk", text("token"))
            .item("token", text(token.expose()))
            .send()
            .await
            .map_err(|error| failed("keep the task token", error))?;
        Ok(())
    }

    /// The token of the waiting task, if one was kept.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn task_token(&self, id: &RequestId) -> Result<Option<TaskToken>, Error> {
        let item = self
            .get(&token_key(id), "token", "read the task token")
            .await?;
        Ok(item
            .and_then(|item| string(&item, "token").map(|token| TaskToken::new(token.to_owned()))))
    }

    /// Records a vote that was checked beside the `n_votes` there are. `false` if this person has voted, there are
    /// other votes by now, or the request is decided: read again.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_vote(
        &self,
        id: &RequestId,
        vote: &SealedVote,
        n_votes: u64,
    ) -> Result<bool, Error> {
        let count = self
            .update_request(id)
            .update_expression("ADD n_votes :one")
            .condition_expression("#status = :pending AND n_votes = :n_votes")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":n_votes", number(n_votes))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":pending", text(Status::Pending.as_str()));
        let cast = &vote.vote;
        let event = Event::Voted {
            verdict: cast.verdict,
            comment: cast.comment.clone(),
            narrowing: cast.narrowing,
        };
        let by = By::person(&cast.approver, cast.principal.as_deref());
        let items = vec![
            transact_put(self.put_vote(id, vote))?,
            transact_update(count)?,
            self.line(Some(id), Some(by), event)?,
        ];
        self.transact(items, "record the vote").await
    }

    /// Records the vote of a requester who breaks the glass, and what it decides, both at once. `false` if the request
    /// is decided already.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_broken_glass(
        &self,
        id: &RequestId,
        vote: &SealedVote,
        decision: &Decision,
        window: &Window,
    ) -> Result<bool, Error> {
        let decide = self.decide(id, Status::Approved, decision, Some(window), 0, 1);
        let cast = &vote.vote;
        let by = By::person(&cast.approver, cast.principal.as_deref());
        let event = Event::GlassBroken { window: *window };
        let items = vec![
            transact_put(self.put_vote(id, vote))?,
            transact_update(decide)?,
            self.line(Some(id), Some(by), event)?,
        ];
        self.transact(items, "record who breaks the glass").await
    }

    fn put_vote(
        &self,
        id: &RequestId,
        vote: &SealedVote,
    ) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        Put::builder()
            .table_name(&self.name)
            .item("pk", text(vote_key(id)))
            .item("sk", text(vote.vote.approver.as_str()))
            .item("version", number(1))
            .item("document", json(vote))
            .condition_expression("attribute_not_exists(pk)")
    }

    /// All votes on a request, consistently.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn votes(&self, id: &RequestId) -> Result<Vec<SealedVote>, Error> {
        let key = vote_key(id);
        let items = self.query(&key, "read the votes").await?;
        items.iter().map(|item| document(item, &key)).collect()
    }

    /// Records the decision over `n_votes` votes. `false` if there are more votes by now, or a
    /// decision: read again.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_decision(
        &self,
        id: &RequestId,
        status: Status,
        decision: &Decision,
        window: Option<&Window>,
        n_votes: u64,
    ) -> Result<bool, Error> {
        let update = self.decide(id, status, decision, window, n_votes, n_votes);
        let event = Event::Decided {
            decision: decision.clone(),
            window: window.copied(),
        };
        let items = vec![transact_update(update)?, self.line(Some(id), None, event)?];
        self.transact(items, "record the decision").await
    }

    /// What a decision over `n_votes_before` votes makes of a request, which has `n_votes` then.
    fn decide(
        &self,
        id: &RequestId,
        status: Status,
        decision: &Decision,
        window: Option<&Window>,
        n_votes_before: u64,
        n_votes: u64,
    ) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        let set_window = window.map_or("", |_| ", #window = :window");
        let update = self
            .update_request(id)
            .update_expression(format!(
                "SET #status = :status, decision = :decision, n_votes = :n_votes{set_window}"
            ))
            .condition_expression("#status = :pending AND n_votes = :n_votes_before")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", text(status.as_str()))
            .expression_attribute_values(":decision", json(decision))
            .expression_attribute_values(":pending", text(Status::Pending.as_str()))
            .expression_attribute_values(":n_votes_before", number(n_votes_before))
            .expression_attribute_values(":n_votes", number(n_votes));
        match window {
            Some(window) => update
                .expression_attribute_names("#window", "window")
                .expression_attribute_values(":window", json(window)),
            None => update,
        }
    }

    /// Remembers the server and role that a request was checked against, and what was found. The first check stands.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn pin_server(
        &self,
        id: &RequestId,
        pin: &ServerPin,
        findings: &[Finding],
    ) -> Result<(), Error> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.name)
            .key("pk", text(request_key(id)))
            .key("sk", text("request"))
            .update_expression(
                "SET #server = if_not_exists(#server, :pin), findings = if_not_exists(findings, :findings)",
            )
            .expression_attribute_values(":findings", json(findings))
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#server", "server")
            .expression_attribute_values(":pin", json(pin))
            .send()
            .await;
        updated(answer, "pin the server").map(drop)
    }

    /// Remembers what was found about a role of AWS, and its unique id where that could be looked at. The first check
    /// stands.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn pin_aws_role(
        &self,
        id: &RequestId,
        aws_role_id: Option<&str>,
        findings: &[Finding],
    ) -> Result<(), Error> {
        let pin = aws_role_id.map_or(AttributeValue::Null(true), text);
        let answer = self
            .client
            .update_item()
            .table_name(&self.name)
            .key("pk", text(request_key(id)))
            .key("sk", text("request"))
            .update_expression(
                "SET aws_role_id = if_not_exists(aws_role_id, :pin), findings = if_not_exists(findings, :findings)",
            )
            .expression_attribute_values(":pin", pin)
            .expression_attribute_values(":findings", json(findings))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await;
        updated(answer, "pin the role of AWS").map(drop)
    }

    /// Records that a request cannot be opened. Before it is armed that is also the end of it.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_refusal(&self, id: &RequestId, faults: &[Fault]) -> Result<(), Error> {
        let update = || {
            self.update_request(id)
                .expression_attribute_names("#status", "status")
                .expression_attribute_values(":faults", json(&faults))
        };
        let refused = update()
            .update_expression("SET #status = :refused, refusal = :faults")
            .condition_expression("#status IN (:pending, :approved)")
            .expression_attribute_values(":refused", text(Status::Refused.as_str()))
            .expression_attribute_values(":pending", text(Status::Pending.as_str()))
            .expression_attribute_values(":approved", text(Status::Approved.as_str()));
        let line = || self.line(Some(id), None, Event::refused(None, None, faults));
        let items = vec![transact_update(refused)?, line()?];
        if self.transact(items, "record the refusal").await? || faults.is_empty() {
            return Ok(());
        }
        let noted = update()
            .update_expression("SET refusal = :faults")
            .condition_expression("#status = :open AND attribute_not_exists(refusal)")
            .expression_attribute_values(":open", text(Status::Open.as_str()));
        let items = vec![transact_update(noted)?, line()?];
        self.transact(items, "record the refusal").await.map(drop)
    }

    /// Cancels a request that is not armed: after this nothing can arm it. `false` if it is armed or over.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn cancel(&self, id: &RequestId, ending: &Ending) -> Result<bool, Error> {
        let update = self
            .update_request(id)
            .update_expression("SET #status = :cancelled, ending = :ending")
            .condition_expression("#status IN (:pending, :approved)")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":cancelled", text(Status::Cancelled.as_str()))
            .expression_attribute_values(":pending", text(Status::Pending.as_str()))
            .expression_attribute_values(":approved", text(Status::Approved.as_str()))
            .expression_attribute_values(":ending", json(ending));
        let event = Event::Cancelled {
            ended_as: ending.ended_as,
            reason: ending.why.clone(),
        };
        let by = By::person(&ending.by.id, ending.principal.as_deref());
        let items = vec![
            transact_update(update)?,
            self.line(Some(id), Some(by), event)?,
        ];
        self.transact(items, "cancel the request").await
    }

    /// Remembers who ended an open window. The first ending stands. `false` if there is one, or if it is not open.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn note_ending(&self, id: &RequestId, ending: &Ending) -> Result<bool, Error> {
        let update = self
            .update_request(id)
            .update_expression("SET ending = :ending")
            .condition_expression("#status = :open AND attribute_not_exists(ending)")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":ending", json(ending));
        let event = Event::EndedByPerson {
            ended_as: ending.ended_as,
            reason: ending.why.clone(),
        };
        let by = By::person(&ending.by.id, ending.principal.as_deref());
        let items = vec![
            transact_update(update)?,
            self.line(Some(id), Some(by), event)?,
        ];
        self.transact(items, "note who ended the window").await
    }

    /// Remembers when policies of a request were changed to end it: IAM needs a while from then on.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn note_revoked(&self, id: &RequestId, at: DateTime<Utc>) -> Result<(), Error> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.name)
            .key("pk", text(request_key(id)))
            .key("sk", text("request"))
            .update_expression("SET revoked_at = :at")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":at", json(&at))
            .send()
            .await;
        updated(answer, "note when policies were changed").map(drop)
    }

    /// How many windows of a role there ever were, consistently. Whoever arms a window reads this first, and the windows
    /// then: if another one comes in between, [`Table::arm`] says so.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn n_armed(&self, target: &TargetId, role: &RoleName) -> Result<u64, Error> {
        let key = armed_key(target, role);
        let counted = self.get(&key, ARMED, "count the windows").await?;
        counted.map_or(Ok(0), |item| count(&item, "n_armed", &key))
    }

    /// Arms a window, which may be shorter than the approved one: its row stands before the role is opened, only for an
    /// approved request, and only beside the `n_armed` windows that it was checked with; if it is opened without approval,
    /// only while no other such window of its requester waits for its review. `false` if one of these does not hold any
    /// more: read again.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn arm(
        &self,
        request: &Request,
        window: Window,
        n_armed: u64,
    ) -> Result<bool, Error> {
        let id = &request.request_id;
        let row = WindowRow {
            request_id: id.clone(),
            requester: Some(request.requester.clone()),
            window,
            opened_at: None,
            ended_at: None,
            ended_by: None,
            by_hand: false,
        };
        let put = self.put_window(&request.target, &request.role, &row);
        let open = self
            .update_request(id)
            .update_expression("SET #status = :open, #window = :window")
            .condition_expression("#status = :approved")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#window", "window")
            .expression_attribute_values(":window", json(&window))
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":approved", text(Status::Approved.as_str()));
        let counted = self.count_armed(&request.target, &request.role);
        let counted = match n_armed {
            0 => counted.condition_expression("attribute_not_exists(pk)"),
            _ => counted
                .condition_expression("n_armed = :n_armed")
                .expression_attribute_values(":n_armed", number(n_armed)),
        };
        let mut items = vec![
            transact_put(put)?,
            transact_update(open)?,
            transact_update(counted)?,
            self.line(Some(id), None, Event::Armed { window })?,
        ];
        if request.break_glass.is_some() {
            items.push(self.await_review(request)?);
        }
        self.transact(items, "arm the window").await
    }

    fn await_review(&self, request: &Request) -> Result<TransactWriteItem, Error> {
        transact_put(
            Put::builder()
                .table_name(&self.name)
                .item("pk", text(review_key(&request.requester.id)))
                .item("sk", text(REVIEW))
                .item("request_id", text(request.request_id.as_str()))
                .condition_expression("attribute_not_exists(pk)"),
        )
    }

    /// The request of this person that was opened without approval and waits for its review, consistently.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn missing_review(&self, person: &PersonId) -> Result<Option<RequestId>, Error> {
        let key = review_key(person);
        let Some(item) = self
            .get(&key, REVIEW, "read who waits for a review")
            .await?
        else {
            return Ok(None);
        };
        let id = string(&item, "request_id").unwrap_or_default();
        let id = RequestId::new(id).map_err(|error| damaged(&key, error))?;
        Ok(Some(id))
    }

    /// Records a review, so that its requester may break the glass again. `false` if it waits for none.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_review(&self, request: &Request, review: &Review) -> Result<bool, Error> {
        let id = &request.request_id;
        let waits_no_more = Delete::builder()
            .table_name(&self.name)
            .key("pk", text(review_key(&request.requester.id)))
            .key("sk", text(REVIEW))
            .condition_expression("request_id = :id")
            .expression_attribute_values(":id", text(id.as_str()))
            .build()
            .map_err(|error| damaged("review", error))?;
        let update = self
            .update_request(id)
            .update_expression("SET review = :review")
            .condition_expression("attribute_exists(pk) AND attribute_not_exists(review)")
            .expression_attribute_values(":review", json(review));
        let event = Event::Reviewed {
            comment: review.comment.clone(),
        };
        let by = By::person(&review.by.id, Some(&review.principal));
        let items = vec![
            TransactWriteItem::builder().delete(waits_no_more).build(),
            transact_update(update)?,
            self.line(Some(id), Some(by), event)?,
        ];
        self.transact(items, "record the review").await
    }

    fn count_armed(
        &self,
        target: &TargetId,
        role: &RoleName,
    ) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        Update::builder()
            .table_name(&self.name)
            .key("pk", text(armed_key(target, role)))
            .key("sk", text(ARMED))
            .update_expression("ADD n_armed :one")
            .expression_attribute_values(":one", number(1))
    }

    /// Takes over a window that was opened by hand, which no request made. The first row stands.
    /// `true` if it was not known before.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn adopt_window(
        &self,
        target: &TargetId,
        role: &RoleName,
        row: &WindowRow,
        database_user: &str,
    ) -> Result<bool, Error> {
        let put = self.put_window(target, role, row);
        let event = Event::Adopted {
            target: target.clone(),
            role: role.clone(),
            database_user: database_user.to_owned(),
            window: row.window,
        };
        let items = vec![
            transact_put(put)?,
            transact_update(self.count_armed(target, role))?,
            self.line(Some(&row.request_id), None, event)?,
        ];
        self.transact(items, "adopt the window").await
    }

    fn put_window(
        &self,
        target: &TargetId,
        role: &RoleName,
        row: &WindowRow,
    ) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        Put::builder()
            .table_name(&self.name)
            .item("pk", text(windows_key(target, role)))
            .item("sk", text(row.request_id.as_str()))
            .item("version", number(1))
            .item("kind", text(WINDOW_KIND))
            .item("document", json(row))
            .condition_expression("attribute_not_exists(pk)")
    }

    /// Takes an adopted window off the list, once its role is proved closed or another window covers it.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn remove_adopted(
        &self,
        target: &TargetId,
        role: &RoleName,
        id: &RequestId,
    ) -> Result<(), Error> {
        let delete = Delete::builder()
            .table_name(&self.name)
            .key("pk", text(windows_key(target, role)))
            .key("sk", text(id.as_str()))
            .condition_expression("attribute_exists(pk)")
            .build()
            .map_err(|error| damaged("window", error))?;
        let items = vec![
            TransactWriteItem::builder().delete(delete).build(),
            self.line(Some(id), None, Event::AdoptedOver)?,
        ];
        self.transact(items, "remove the adopted window")
            .await
            .map(drop)
    }

    /// Ends a window early, once: the first end stands. Nothing happens if it is closed already.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn end_early(
        &self,
        request: &Request,
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let key = windows_key(&request.target, &request.role);
        let event = Event::WindowEnded {
            ended_by: by.to_owned(),
        };
        let doing = "end the window early";
        self.change_window(&key, &request.request_id, event, doing, |row| {
            if row.ended_at.is_none() {
                row.ended_at = Some(now);
                row.ended_by = Some(by.to_owned());
            }
        })
        .await
    }

    /// Remembers that the role was seen open for a window, once.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn mark_opened(
        &self,
        target: &TargetId,
        role: &RoleName,
        id: &RequestId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let key = windows_key(target, role);
        self.change_window(&key, id, Event::Opened, "mark the window opened", |row| {
            row.opened_at.get_or_insert(now);
        })
        .await
    }

    /// Changes a window that is still there, against whatever else changes it at the same time.
    async fn change_window(
        &self,
        key: &str,
        request_id: &RequestId,
        event: Event,
        doing: &'static str,
        change: impl Fn(&mut WindowRow),
    ) -> Result<(), Error> {
        let id = request_id.as_str();
        loop {
            let Some(item) = self.get(key, id, doing).await? else {
                return Ok(());
            };
            let before: WindowRow = document(&item, key)?;
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(());
            }
            let update = Update::builder()
                .table_name(&self.name)
                .key("pk", text(key))
                .key("sk", text(id))
                .update_expression("SET document = :after")
                .condition_expression("document = :before")
                .expression_attribute_values(":after", json(&after))
                .expression_attribute_values(
                    ":before",
                    text(string(&item, "document").unwrap_or_default()),
                );
            let line = self.line(Some(request_id), None, event.clone())?;
            if self
                .transact(vec![transact_update(update)?, line], doing)
                .await?
            {
                return Ok(());
            }
        }
    }

    /// The requests whose windows are not closed yet, of all roles. It comes from an index, so a window of
    /// the last second may be missing. One whose key is no request's is an [`Error::DamagedRow`] among the others.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn open_windows(&self) -> Result<Vec<Result<RequestId, Error>>, Error> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(OPEN_WINDOWS_INDEX)
            .key_condition_expression("kind = :window")
            .expression_attribute_values(":window", text(WINDOW_KIND))
            .into_paginator()
            .send();
        let mut requests = Vec::new();
        while let Some(page) = pages.next().await {
            let items = page
                .map_err(|error| failed("list the open windows", error))?
                .items;
            for item in items.unwrap_or_default() {
                let id = string(&item, "sk").unwrap_or_default();
                requests.push(RequestId::new(id).map_err(|error| {
                    let key = string(&item, "pk").unwrap_or_default();
                    damaged(&format!("{key} {id}"), error)
                }));
            }
        }
        Ok(requests)
    }

    /// All windows of a role that are not closed yet, and the closings that were announced, consistently.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn windows(&self, target: &TargetId, role: &RoleName) -> Result<Windows, Error> {
        let key = windows_key(target, role);
        let mut windows = Windows::default();
        for item in self.query(&key, "read the windows").await? {
            if string(&item, "sk") == Some(CLOSINGS) {
                windows.closing_until = closings(&item, &key)?.into_values().max();
            } else {
                windows.rows.push(document(&item, &key)?);
            }
        }
        Ok(windows)
    }

    /// Says that `closing` may act on what it will read now, until `until` at the latest.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn announce_closing(
        &self,
        target: &TargetId,
        role: &RoleName,
        closing: &str,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.update_closings(target, role, closing)
            .update_expression("SET #closing = :until")
            .expression_attribute_values(":until", json(&until))
            .send()
            .await
            .map_err(|error| failed("announce the closing", error))?;
        Ok(())
    }

    /// Says that `closing` does nothing more, and forgets those that could not say so and are long over.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn withdraw_closing(
        &self,
        target: &TargetId,
        role: &RoleName,
        closing: &str,
    ) -> Result<(), Error> {
        let left = self
            .update_closings(target, role, closing)
            .update_expression("REMOVE #closing")
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| failed("withdraw the closing", error))?;
        let key = windows_key(target, role);
        let left = closings(&left.attributes.unwrap_or_default(), &key)?;
        for closing in long_over(&left, (self.recorder.now)()) {
            self.update_closings(target, role, closing)
                .update_expression("REMOVE #closing")
                .send()
                .await
                .map_err(|error| failed("forget a closing", error))?;
        }
        Ok(())
    }

    fn update_closings(
        &self,
        target: &TargetId,
        role: &RoleName,
        closing: &str,
    ) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.name)
            .key("pk", text(windows_key(target, role)))
            .key("sk", text(CLOSINGS))
            .expression_attribute_names("#closing", closing)
    }

    /// Takes a window off the list and records how it ended. `false` if that was done before.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_closing(
        &self,
        request: &Request,
        from: Status,
        to: Status,
        closing: &Closing,
    ) -> Result<bool, Error> {
        let delete = Delete::builder()
            .table_name(&self.name)
            .key("pk", text(windows_key(&request.target, &request.role)))
            .key("sk", text(request.request_id.as_str()))
            .build()
            .map_err(|error| damaged("window", error))?;
        let close = self
            .update_request(&request.request_id)
            .update_expression("SET #status = :to, closing = :closing")
            .condition_expression("#status = :from")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":to", text(to.as_str()))
            .expression_attribute_values(":from", text(from.as_str()))
            .expression_attribute_values(":closing", json(closing));
        let event = match closing.open_until {
            Some(open_until) => Event::EndedRoleStillOpen { open_until },
            None => Event::Closed {
                n_sessions_ended: closing.n_sessions_ended,
                login_refused_at: closing.login_refused_at,
                sessions_gone_at: closing.sessions_gone_at,
                n_grave: closing.n_grave,
                left_behind: closing.left_behind.clone(),
            },
        };
        let items = vec![
            TransactWriteItem::builder().delete(delete).build(),
            transact_update(close)?,
            self.line(Some(&request.request_id), None, event)?,
        ];
        self.transact(items, "record the closing").await
    }

    /// Keeps the facts of a window, once: the first ones stand.
    ///
    /// They can be longer than an item may be (400 KB), so their text is cut into parts, and the first part, which
    /// is written last, says how many there are and what the others are called: others' parts never mix with them.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn keep_facts(
        &self,
        id: &RequestId,
        taken: FactsTaken,
        facts: &Facts,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let doing = "keep the facts";
        let written = serde_json::to_string(facts).map_err(|error| damaged("facts", error))?;
        let parts = parts_of(&written, MAX_PART_BYTES);
        let taken_at = now.to_rfc3339_opts(SecondsFormat::Nanos, true);
        for (n, part) in parts.iter().enumerate().skip(1) {
            self.client
                .update_item()
                .table_name(&self.name)
                .key("pk", text(request_key(id)))
                .key("sk", text(facts_part_key(taken, &taken_at, n)))
                .update_expression("SET document = :part")
                .expression_attribute_values(":part", text(*part))
                .send()
                .await
                .map_err(|error| failed(doing, error))?;
        }
        let first = self
            .client
            .update_item()
            .table_name(&self.name)
            .key("pk", text(request_key(id)))
            .key("sk", text(facts_key(taken)))
            .update_expression("SET document = :part, n_parts = :n_parts, taken_at = :taken_at")
            .condition_expression("attribute_not_exists(pk)")
            .expression_attribute_values(":part", text(parts[0]))
            .expression_attribute_values(":n_parts", number(parts.len() as u64))
            .expression_attribute_values(":taken_at", text(taken_at))
            .send()
            .await;
        updated(first, doing).map(drop)
    }

    /// Whether facts were kept.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn has_facts(&self, id: &RequestId, taken: FactsTaken) -> Result<bool, Error> {
        let first = self
            .get(&request_key(id), facts_key(taken), "read the facts")
            .await?;
        Ok(first.is_some())
    }

    /// The facts that were kept, if any were.
    ///
    /// # Errors
    /// [`Error::Table`] or [`Error::DamagedRow`].
    pub async fn facts(&self, id: &RequestId, taken: FactsTaken) -> Result<Option<Facts>, Error> {
        let doing = "read the facts";
        let (key, first_key) = (request_key(id), facts_key(taken));
        let Some(first) = self.get(&key, first_key, doing).await? else {
            return Ok(None);
        };
        let incomplete = || damaged(&key, "incomplete facts");
        let field = |name| string(&first, name).ok_or_else(incomplete);
        let n_parts = first
            .get("n_parts")
            .and_then(|value| value.as_n().ok())
            .ok_or_else(incomplete)?;
        let n_parts: usize = n_parts.parse().map_err(|error| damaged(&key, error))?;
        let mut written = field("document")?.to_owned();
        for n in 1..n_parts {
            let part_key = facts_part_key(taken, field("taken_at")?, n);
            let part = self.get(&key, &part_key, doing).await?.unwrap_or_default();
            written.push_str(string(&part, "document").ok_or_else(incomplete)?);
        }
        serde_json::from_str(&written)
            .map(Some)
            .map_err(|error| damaged(&key, error))
    }

    /// Whether this message went out before.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn was_sent(
        &self,
        id: &RequestId,
        event: &str,
        to: &PersonId,
    ) -> Result<bool, Error> {
        let item = self
            .get(
                &request_key(id),
                &message_key(event, to),
                "read the sent messages",
            )
            .await?;
        Ok(item.is_some())
    }

    /// Remembers that this message went out.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub async fn record_sent(
        &self,
        id: &RequestId,
        event: &str,
        to: &PersonId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let put = Put::builder()
            .table_name(&self.name)
            .item("pk", text(request_key(id)))
            .item("sk", text(message_key(event, to)))
            .item("at", text(now.to_rfc3339_opts(SecondsFormat::Millis, true)));
        let sent = Event::MessageSent {
            message: event.to_owned(),
            to: to.clone(),
        };
        let items = vec![transact_put(put)?, self.line(Some(id), None, sent)?];
        self.transact(items, "remember the sent message")
            .await
            .map(drop)
    }

    async fn get(&self, pk: &str, sk: &str, doing: &'static str) -> Result<Option<Item>, Error> {
        let output = self
            .client
            .get_item()
            .table_name(&self.name)
            .key("pk", text(pk))
            .key("sk", text(sk))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed(doing, error))?;
        Ok(output.item)
    }

    async fn query(&self, pk: &str, doing: &'static str) -> Result<Vec<Item>, Error> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(pk))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut items = Vec::new();
        while let Some(page) = pages.next().await {
            items.extend(
                page.map_err(|error| failed(doing, error))?
                    .items
                    .unwrap_or_default(),
            );
        }
        Ok(items)
    }

    fn update_request(&self, id: &RequestId) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        Update::builder()
            .table_name(&self.name)
            .key("pk", text(request_key(id)))
            .key("sk", text("request"))
    }

    /// Writes all or nothing; `false` if a condition did not hold.
    async fn transact(
        &self,
        items: Vec<TransactWriteItem>,
        doing: &'static str,
    ) -> Result<bool, Error> {
        let answer = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(error))
                if is_canceled_for(error.err(), CONDITION_FAILED) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed(doing, error)),
        }
    }
}

/// Whether a transaction was canceled for a reason with this code.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
fn is_canceled_for(error: &TransactWriteItemsError, code: &str) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else {
        return false;
    };
    canceled
        .cancellation_reasons()
        .iter()
        .any(|reason| reason.code() == Some(code))
}

fn updated<T>(
    answer: Result<T, SdkError<UpdateItemError>>,
    doing: &'static str,
) -> Result<bool, Error> {
    match answer {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(error))
            if matches!(
                error.err(),
                UpdateItemError::ConditionalCheckFailedException(_)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(failed(doing, error)),
    }
}

fn read_request(id: &RequestId, item: &Item) -> Result<StoredRequest, Error> {
    let key = request_key(id);
    let stored = string(item, "document").ok_or_else(|| damaged(&key, "no document"))?;
    let status = string(item, "status")
        .and_then(Status::from_word)
        .ok_or_else(|| damaged(&key, "no status"))?;
    let n_votes = count(item, "n_votes", &key)?;
    Ok(StoredRequest {
        request: serde_json::from_str(stored).map_err(|error| damaged(&key, error))?,
        digest: Digest::of(stored),
        status,
        n_votes,
        decision: optional(item, "decision", &key)?,
        window: optional(item, "window", &key)?,
        server: optional(item, "server", &key)?,
        findings: optional(item, "findings", &key)?,
        refusal: optional(item, "refusal", &key)?.unwrap_or_default(),
        closing: optional(item, "closing", &key)?,
        ending: optional(item, "ending", &key)?,
        review: optional(item, "review", &key)?,
        aws_role_id: string(item, "aws_role_id").map(str::to_owned),
        revoked_at: optional(item, "revoked_at", &key)?,
    })
}

fn document<T: serde::de::DeserializeOwned>(item: &Item, key: &str) -> Result<T, Error> {
    optional(item, "document", key)?.ok_or_else(|| damaged(key, "no document"))
}

fn optional<T: serde::de::DeserializeOwned>(
    item: &Item,
    field: &str,
    key: &str,
) -> Result<Option<T>, Error> {
    string(item, field)
        .map(|text| serde_json::from_str(text).map_err(|error| damaged(key, error)))
        .transpose()
}

/// Until when each of the announced closings may act.
fn closings(item: &Item, key: &str) -> Result<HashMap<String, DateTime<Utc>>, Error> {
    let mut closings = HashMap::new();
    for closing in item.keys().filter(|name| *name != "pk" && *name != "sk") {
        if let Some(until) = optional(item, closing, key)? {
            closings.insert(closing.clone(), until);
        }
    }
    Ok(closings)
}

/// Closings that were killed, one attribute each, lest they grow beyond what an item may hold. At most
/// [`MAX_FORGOTTEN`] at a time; more than one is rare.
fn long_over(
    closings: &HashMap<String, DateTime<Utc>>,
    now: DateTime<Utc>,
) -> impl Iterator<Item = &str> {
    closings
        .iter()
        .filter(move |(_, until)| now - **until > OVER_FOR_LONG)
        .map(|(closing, _)| closing.as_str())
        .take(MAX_FORGOTTEN)
}

fn string<'a>(item: &'a Item, field: &str) -> Option<&'a str> {
    item.get(field)
        .and_then(|value| value.as_s().ok())
        .map(String::as_str)
}

fn count(item: &Item, field: &str, key: &str) -> Result<u64, Error> {
    item.get(field)
        .and_then(|value| value.as_n().ok())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| damaged(key, format!("no number in {field}")))
}

fn request_key(id: &RequestId) -> String {
    format!("request#{id}")
}

fn requests_of_key(part: EndedAs, person: &PersonId) -> String {
    format!("requests-of#{}#{person}", part.as_str())
}

fn dry_run_key(id: &RequestId) -> String {
    format!("dry-run#{id}")
}

fn record_key(at: DateTime<Utc>) -> String {
    format!("record#{}", at.format("%Y-%m-%d"))
}

fn asked_key(execution_arn: &str) -> String {
    format!("asked#{execution_arn}")
}

fn confirmed_key(id: &RequestId) -> String {
    format!("confirmed#{id}")
}

fn vote_key(id: &RequestId) -> String {
    format!("vote#{id}")
}

fn review_key(person: &PersonId) -> String {
    format!("review#{person}")
}

fn token_key(id: &RequestId) -> String {
    format!("token#{id}")
}

fn windows_key(target: &TargetId, role: &RoleName) -> String {
    // A target id has no "#", so the first one ends it whatever the role is called.
    format!("windows#{target}#{role}")
}

fn armed_key(target: &TargetId, role: &RoleName) -> String {
    format!("armed#{target}#{role}")
}

fn message_key(event: &str, to: &PersonId) -> String {
    format!("message#{event}#{to}")
}

fn facts_key(taken: FactsTaken) -> &'static str {
    match taken {
        FactsTaken::Before => "facts#before",
        FactsTaken::After => "facts#after",
    }
}

fn facts_part_key(taken: FactsTaken, taken_at: &str, n: usize) -> String {
    format!("{}#{taken_at}#{n}", facts_key(taken))
}

/// Cuts a text into parts of at most `max_bytes`, at least one.
fn parts_of(whole: &str, max_bytes: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = whole;
    while rest.len() > max_bytes {
        let (part, after) = rest.split_at(rest.floor_char_boundary(max_bytes));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn json<T: Serialize + ?Sized>(value: &T) -> AttributeValue {
    // Our own types have string keys only, which is all that this conversion can fail on.
    AttributeValue::S(serde_json::to_string(value).unwrap_or_default())
}

fn transact_put(
    put: aws_sdk_dynamodb::types::builders::PutBuilder,
) -> Result<TransactWriteItem, Error> {
    let put = put.build().map_err(|error| damaged("put", error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn transact_update(
    update: aws_sdk_dynamodb::types::builders::UpdateBuilder,
) -> Result<TransactWriteItem, Error> {
    let update = update.build().map_err(|error| damaged("update", error))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

fn failed(doing: &'static str, error: impl std::error::Error) -> Error {
    Error::Table {
        doing,
        cause: chain(error),
    }
}

fn damaged(key: &str, cause: impl ToString) -> Error {
    Error::DamagedRow {
        key: key.to_owned(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_short_and_whole_together() {
        let long = "é".repeat(1000);
        for (whole, max_bytes) in [("", 4), ("abcd", 4), ("abcde", 4), (long.as_str(), 7)] {
            let parts = parts_of(whole, max_bytes);
            assert!(parts.iter().all(|part| part.len() <= max_bytes));
            assert_eq!(parts.concat(), whole);
        }
        assert_eq!(parts_of("", 4), [""]);
    }

    #[test]
    fn announced_closings_are_read_whoever_announced_them() {
        let until = "2026-11-22T12:00:03Z".parse::<DateTime<Utc>>().unwrap();
        let item = Item::from([
            ("pk".to_owned(), text("windows#orders#breakglass")),
            ("sk".to_owned(), text(CLOSINGS)),
            ("r-0000000000000000 at 1".to_owned(), json(&until)),
        ]);
        let read = closings(&item, "windows#orders#breakglass").unwrap();
        assert_eq!(read.into_values().max(), Some(until));
        assert!(RequestId::new(CLOSINGS).is_err());
    }

    #[test]
    fn killed_closings_are_forgotten_some_at_a_time_and_never_one_that_may_act() {
        let now = "2026-11-22T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
        let mut closings: HashMap<_, _> = (0..25)
            .map(|n| (format!("killed {n}"), now - Duration::hours(2)))
            .collect();
        closings.insert("over".to_owned(), now - Duration::minutes(59));
        closings.insert("acting".to_owned(), now + Duration::minutes(1));
        let mut n_rounds = 0;
        while closings.len() > 2 {
            let forgotten: Vec<_> = long_over(&closings, now).map(str::to_owned).collect();
            assert!((1..=MAX_FORGOTTEN).contains(&forgotten.len()));
            closings.retain(|closing, _| !forgotten.contains(closing));
            n_rounds += 1;
        }
        assert_eq!(n_rounds, 3);
        assert!(closings.contains_key("over") && closings.contains_key("acting"));
    }

    #[test]
    fn a_closing_of_0_1_is_read_and_does_not_claim_that_nothing_was_left() {
        let closing: Closing = serde_json::from_str(
            r#"{"at":"2026-11-22T12:00:03Z","n_sessions_ended":1,"login_refused_at":null,"sessions_gone_at":null,"open_until":null}"#,
        )
        .unwrap();
        assert_eq!(
            closing.left_behind,
            ["not compared: this release of Latchkey did not look"]
        );
        assert_eq!(closing.n_grave, 0);
        assert_eq!((closing.invoked_at, closing.connected_at), (None, None));
    }
}
