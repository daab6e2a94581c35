//! Signed calls: deciding, by the same rule and with the same sealed vote as by link, ending, and reviewing what was opened
//! without approval. Answered in JSON.

use access_aws::Error;
use access_aws::table::StoredRequest;
use access_contract::ErrorName;
use access_contract::record::{By, Event};
use access_core::document::Object;
use access_core::{
    FaultName, Faults, Narrowing, Person, RequestId, Verdict, Vote, principal, time,
};
use chrono::{DateTime, Utc};
use lambda_shell::http::{self, HttpCall};
use serde_json::Value;

use crate::answers;
use crate::breaking;
use crate::deciding::Voted;
use crate::ending;
use crate::handler::Handler;

/// The routes, as the template names them.
const DECISION: &str = "POST /requests/{id}/decision";
const END: &str = "POST /requests/{id}/end";
const REVIEW: &str = "POST /requests/{id}/review";

/// The largest body that is read, in bytes: the longest comment takes a third of it when it is all escapes.
const MAX_BODY_BYTES: usize = 16_384;

pub(crate) fn is_ours(call: &HttpCall) -> bool {
    [DECISION, END, REVIEW].contains(&call.route.as_str())
}

/// Answers one signed call. Whatever breaks becomes an answer with a reference; the log has the rest.
pub(crate) async fn answer(handler: &Handler, call: &HttpCall, reference: &str) -> Value {
    let answer = enter(handler, call).await.unwrap_or_else(|error| {
        tracing::error!(reference, error = error.name().as_str(), "{error}");
        answers::trouble(reference)
    });
    if let Err(error) = record_refusal(handler, call, &answer).await {
        tracing::error!(reference, "not in the record: {error}");
    }
    answer
}

/// Who was refused what: it changes nothing else.
async fn record_refusal(handler: &Handler, call: &HttpCall, answer: &Value) -> Result<(), Error> {
    let (Some(caller), Some((error, message))) = (&call.caller, http::refusal(answer)) else {
        return Ok(());
    };
    let id = RequestId::new(call.path_parameter("id").unwrap_or_default()).ok();
    let refused = Event::CallRefused {
        route: call.route.clone(),
        error,
        message,
    };
    let by = By::principal(caller);
    let table = &handler.deciding.table;
    table.record(id.as_ref(), Some(by), refused).await
}

/// Who calls, and about which request.
async fn enter(handler: &Handler, call: &HttpCall) -> Result<Value, Error> {
    let Some(caller) = &call.caller else {
        return Ok(answers::not_signed());
    };
    let people = handler.catalogue.everybody().await?;
    let person = match principal::person_of(caller, &people) {
        Ok(person) => person,
        Err(why) => {
            tracing::warn!("{why}");
            return Ok(answers::nobody(&why));
        }
    };
    let Ok(id) = RequestId::new(call.path_parameter("id").unwrap_or_default()) else {
        return Ok(answers::no_request());
    };
    let stored = match handler.deciding.table.request(&id).await {
        Err(error) if error.name() == ErrorName::RequestNotFound => {
            return Ok(answers::no_request());
        }
        stored => stored?,
    };
    let Some(body) = call.json(MAX_BODY_BYTES) else {
        return Ok(answers::no_document(MAX_BODY_BYTES));
    };
    match call.route.as_str() {
        END => ending::by_call(handler, stored, person, caller, &body).await,
        REVIEW => breaking::review(handler, stored, person, caller, &body).await,
        _ => decide(handler, stored, person, caller, &body).await,
    }
}

async fn decide(
    handler: &Handler,
    stored: StoredRequest,
    person: &Person,
    caller: &str,
    body: &Value,
) -> Result<Value, Error> {
    let id = &stored.request.request_id;
    if person.id == stored.request.requester.id {
        return Ok(answers::own_request());
    }
    if !stored.request.may_decide(&person.id) {
        return Ok(answers::not_an_approver());
    }
    let mut faults = Faults::new();
    let answer = Answer::read(body, &stored, &mut faults);
    let Some(answer) = answer.filter(|_| faults.is_empty()) else {
        return Ok(answers::faulty(faults.as_slice()));
    };
    let vote = Vote {
        approver: person.id.clone(),
        verdict: answer.verdict,
        at: (handler.deciding.now)(),
        comment: answer.comment,
        narrowing: answer.narrowing,
        principal: Some(caller.to_owned()),
    };
    let voted = handler.deciding.vote(&stored, vote).await?;
    let now = handler.deciding.table.request(id).await?;
    let votes = handler.deciding.votes(id).await?;
    Ok(match voted {
        Voted::Recorded => answers::recorded(&now, &votes),
        Voted::Refused(why) => answers::cannot_approve(&why),
        Voted::NotAnyMore => answers::already_decided(&now, &votes, &person.id),
    })
}

/// What an approver sends.
struct Answer {
    verdict: Verdict,
    comment: String,
    narrowing: Option<Narrowing>,
}

impl Answer {
    fn read(body: &Value, stored: &StoredRequest, faults: &mut Faults) -> Option<Self> {
        let mut object = Object::new(body, "$", faults)?;
        let verdict = object.text("verdict", faults).and_then(|word| match word {
            "approve" => Some(Verdict::Approve),
            "reject" => Some(Verdict::Reject),
            _ => {
                let message = "give \"approve\" or \"reject\"";
                faults.add(FaultName::InvalidValue, "$.verdict", message);
                None
            }
        });
        let comment = object.optional_text("comment", faults).unwrap_or_default();
        if comment.chars().count() > access_text::COMMENT_MAX_CHARS {
            let message = format!(
                "shorten the comment to {} characters",
                access_text::COMMENT_MAX_CHARS
            );
            faults.add(FaultName::InvalidValue, "$.comment", message);
        }
        if verdict == Some(Verdict::Reject) && comment.trim().is_empty() {
            faults.add(
                FaultName::MissingField,
                "$.comment",
                "say why you reject it",
            );
        }
        let zone = Some(stored.request.place.display_zone());
        let mut read_time =
            |field: &'static str, object: &mut Object<'_>| -> Option<DateTime<Utc>> {
                let text = object.optional_text(field, faults)?;
                time::read_time(text, zone)
                    .map_err(|error| faults.add(error.fault, object.path_of(field), error.message))
                    .ok()
            };
        let start = read_time("start", &mut object);
        let end = read_time("end", &mut object);
        let narrowing = Narrowing::new(start, end);
        if verdict == Some(Verdict::Reject) && narrowing.is_some() {
            let message = "leave out \"start\" and \"end\", or approve";
            faults.add(FaultName::ConflictingFields, "$", message);
        }
        object.finish(faults);
        Some(Self {
            verdict: verdict?,
            comment: comment.trim().to_owned(),
            narrowing,
        })
    }
}
