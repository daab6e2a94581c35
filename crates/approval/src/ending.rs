//! Ending a request: taken back before it is opened, given back or revoked while it is open.

use access_aws::table::StoredRequest;
use access_aws::{Error, execution};
use access_contract::Status;
use access_core::document::Object;
use access_core::request::PersonRef;
use access_core::{Ending, FaultName, Faults, Person, PersonId};
use serde_json::Value;

use crate::answers;
use crate::handler::Handler;

/// How often ending starts over because the request moved on in between.
const MAX_ROUNDS: usize = 5;

/// What became of an attempt to end a request.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was taken back: nothing opens.
    Cancelled(Ending),
    /// Its window is over, and the role is being closed.
    Window(Ending),
    /// There was nothing left to end.
    AlreadyOver(Box<StoredRequest>),
}

/// `POST /requests/{id}/end`: ends the request for a caller whom IAM has verified.
pub(crate) async fn by_call(
    handler: &Handler,
    stored: StoredRequest,
    person: &Person,
    caller: &str,
    body: &Value,
) -> Result<Value, Error> {
    let Some(ended_as) = stored.request.may_end(&person.id) else {
        return Ok(answers::may_not_end());
    };
    let mut faults = Faults::new();
    let missing = "say why you end it; the others read it";
    let why = read_words(body, "reason", missing, &mut faults);
    let Some(why) = why.filter(|_| faults.is_empty()) else {
        return Ok(answers::faulty(faults.as_slice()));
    };
    let ending = Ending {
        by: PersonRef {
            id: person.id.clone(),
            name: person.name.clone(),
            language: person.language,
        },
        ended_as,
        why,
        at: (handler.deciding.now)(),
        principal: Some(caller.to_owned()),
    };
    let id = stored.request.request_id.clone();
    Ok(match end(handler, stored, ending).await? {
        Ended::Cancelled(ending) => answers::cancelled(&id, &ending),
        Ended::Window(ending) => answers::ending(&id, &ending),
        Ended::AlreadyOver(stored) => answers::already_over(&stored),
    })
}

/// The same for the holder of a link; `None` if they have no part in the request.
pub(crate) async fn by_link(
    handler: &Handler,
    stored: StoredRequest,
    holder: &PersonId,
    why: String,
) -> Result<Option<Ended>, Error> {
    let request = &stored.request;
    let (Some(by), Some(ended_as)) = (request.person(holder), request.may_end(holder)) else {
        return Ok(None);
    };
    let ending = Ending {
        by: by.clone(),
        ended_as,
        why,
        at: (handler.deciding.now)(),
        principal: None,
    };
    end(handler, stored, ending).await.map(Some)
}

/// Ends the request at once. Doing it again is harmless, and heals what a crash left undone.
async fn end(handler: &Handler, mut stored: StoredRequest, ending: Ending) -> Result<Ended, Error> {
    let table = &handler.deciding.table;
    let id = stored.request.request_id.clone();
    let (by, ended_as) = (&ending.by.id, ending.ended_as);
    for _ in 0..MAX_ROUNDS {
        match stored.status {
            Status::Pending | Status::Approved => {
                if table.cancel(&id, &ending).await? {
                    tracing::info!(request_id = %id, %by, ?ended_as, "request cancelled");
                    handler.deciding.wake(&id).await?;
                    tell_the_others(handler, &table.request(&id).await?).await?;
                    return Ok(Ended::Cancelled(ending));
                }
            }
            Status::Open => {
                // The row first: from here on the window is over, whatever happens to us.
                let noted = format!("{by} ({ended_as:?})");
                table.end_early(&stored.request, &noted, ending.at).await?;
                let is_first = table.note_ending(&id, &ending).await?;
                tracing::info!(request_id = %id, %by, ?ended_as, is_first, "window ended");
                let name = format!("end-{id}");
                execution::start_closing(
                    &handler.deciding.step_functions,
                    &handler.close_window_arn,
                    &name,
                    &stored.request,
                )
                .await?;
                let stored = table.request(&id).await?;
                return Ok(Ended::Window(stored.ending.unwrap_or(ending)));
            }
            // What woke the execution may have been lost with a crash.
            Status::Cancelled => {
                handler.deciding.wake(&id).await?;
                tell_the_others(handler, &stored).await?;
                return Ok(Ended::AlreadyOver(Box::new(stored)));
            }
            _ => return Ok(Ended::AlreadyOver(Box::new(stored))),
        }
        stored = table.request(&id).await?;
    }
    Ok(Ended::AlreadyOver(Box::new(stored)))
}

/// An approved request's execution sleeps until the start, so somebody else says at once that it is cancelled.
async fn tell_the_others(handler: &Handler, cancelled: &StoredRequest) -> Result<(), Error> {
    if cancelled.window.is_none() {
        return Ok(());
    }
    let id = &cancelled.request.request_id;
    execution::start_closing(
        &handler.deciding.step_functions,
        &handler.close_window_arn,
        &format!("cancel-{id}"),
        &cancelled.request,
    )
    .await
}

/// The only field of a body, in which the caller has to write something; `missing` says what for.
pub(crate) fn read_words(
    body: &Value,
    field: &'static str,
    missing: &str,
    faults: &mut Faults,
) -> Option<String> {
    let mut object = Object::new(body, "$", faults)?;
    let path = object.path_of(field);
    let words = object.text(field, faults).map(str::trim);
    object.finish(faults);
    let words = words?;
    if words.is_empty() {
        faults.add(FaultName::ReasonEmpty, &path, missing);
    }
    if words.chars().count() > access_text::COMMENT_MAX_CHARS {
        let message = format!(
            "shorten it to {} characters",
            access_text::COMMENT_MAX_CHARS
        );
        faults.add(FaultName::ReasonTooLong, &path, message);
    }
    Some(words.to_owned())
}
