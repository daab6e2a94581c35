//! From a verified caller to an execution: who asks for what is recorded before the execution starts. Or to what they
//! may see.

use access_aws::Error;
use access_aws::catalogue::Catalogue;
use access_aws::execution::{self, Begun};
use access_aws::table::Table;
use access_contract::record::{By, Event};
use access_contract::{Asked, ErrorName};
use access_core::names::AskingName;
use access_core::{Fault, FaultName, Faults, Person, RequestDraft, RequestId, principal};
use chrono::{DateTime, Utc};
use lambda_shell::http::HttpCall;
use lambda_shell::{Failure, Invocation};
use serde_json::Value;

use crate::answers;

/// The largest body that is read, in bytes: the longest reason takes half of it when it is all escapes.
const MAX_BODY_BYTES: usize = 16_384;

pub(crate) struct Handler {
    pub(crate) catalogue: Catalogue,
    pub(crate) table: Table,
    pub(crate) step_functions: aws_sdk_sfn::Client,
    pub(crate) state_machine_arn: String,
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Handler {
    pub(crate) async fn handle(&self, invocation: Invocation) -> Result<Value, Failure> {
        let Some(call) = HttpCall::read(invocation.payload) else {
            return Err(Failure::new(
                ErrorName::InvalidPayload,
                "this function answers the HTTP API only",
            ));
        };
        let answer = self.enter(&call).await;
        Ok(answer.unwrap_or_else(|error| {
            let reference = &invocation.invocation_id;
            tracing::error!(reference, error = error.name().as_str(), "{error}");
            answers::trouble(reference)
        }))
    }

    /// Who calls, and what for.
    async fn enter(&self, call: &HttpCall) -> Result<Value, Error> {
        let Some(caller) = &call.caller else {
            return Ok(answers::not_signed());
        };
        let people = self.catalogue.everybody().await?;
        let person = match principal::person_of(caller, &people) {
            Ok(person) => person,
            Err(why) => {
                tracing::warn!("{why}");
                let fault = Fault::new(FaultName::UnknownRequester, "$", why.to_string());
                let refused = Event::refused(None, None, &[fault]);
                self.table
                    .record(None, Some(By::principal(caller)), refused)
                    .await?;
                return Ok(answers::nobody(&why));
            }
        };
        match call.route.as_str() {
            "GET /requests" => self.list(person, call).await,
            "GET /requests/{id}" => self.show(person, call).await,
            "GET /access" => self.access(person, &people).await,
            _ => self.ask(person, caller, call).await,
        }
    }

    /// `POST /requests`: the request document without its requester.
    async fn ask(&self, person: &Person, caller: &str, call: &HttpCall) -> Result<Value, Error> {
        let name = match call.header("idempotency-key") {
            None => AskingName::of_call(&person.id, &call.call_id),
            Some(key) if is_key(key) => AskingName::of_key(&person.id, key),
            Some(_) => return Ok(answers::bad_key()),
        };
        let Some(Value::Object(mut document)) = call.json(MAX_BODY_BYTES) else {
            return Ok(answers::no_document(MAX_BODY_BYTES));
        };
        if document.contains_key("requester") {
            return Ok(answers::names_requester());
        }
        document.insert("requester".to_owned(), person.id.as_str().into());
        let input = Value::Object(document);
        let mut faults = Faults::new();
        let draft = RequestDraft::read(&input, &mut faults);
        if !faults.is_empty() {
            let by = By::person(&person.id, Some(caller));
            let refused = Event::refused(draft.target, draft.role, faults.as_slice());
            self.table.record(None, Some(by), refused).await?;
            return Ok(answers::faulty(faults.as_slice()));
        }
        self.start(person, caller, &name, input).await
    }

    /// Records who asks, then starts the execution of this name. Doing it again is answered the same.
    async fn start(
        &self,
        person: &Person,
        caller: &str,
        name: &AskingName,
        input: Value,
    ) -> Result<Value, Error> {
        let arn = execution::arn_of(&self.state_machine_arn, name.as_str());
        let asked = Asked {
            person: person.id.clone(),
            principal: caller.to_owned(),
            input,
            at: (self.now)(),
        };
        if !self.table.record_asked(&arn, &asked).await? {
            let before = self.table.asked(&arn).await?;
            let is_the_same = before.is_some_and(|(before, _)| {
                (before.person, before.input) == (asked.person, asked.input.clone())
            });
            if !is_the_same {
                return Ok(answers::key_was_used());
            }
        }
        let begun = execution::begin(
            &self.step_functions,
            &self.state_machine_arn,
            name.as_str(),
            &asked.input,
        );
        match begun.await? {
            Begun::AnotherInput => {
                tracing::error!(execution = arn, "somebody else started this execution");
                Ok(answers::name_was_taken())
            }
            Begun::At { started_at_millis } => {
                let request_id = RequestId::of_execution(&arn, started_at_millis);
                tracing::info!(%request_id, requester = %person.id, principal = caller, "asked");
                Ok(answers::accepted(&request_id, &arn))
            }
        }
    }
}

fn is_key(key: &str) -> bool {
    (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}
