//! Ending a request: taken back before it is opened, given back or revoked while it is open.

use access_aws::table::StoredRequest;
use access_aws::{Error, execution};
use access_contract::Status;
use access_core::document::Object;
use access_core::request::PersonRef;
use access_core::{Ending, FaultName, Faults, Person};
use serde_json::Value;

use crate::answers;
use crate::handler::Handler;

/// How often ending starts over because the request moved on in between.
const MAX_ROUNDS: usize = 5;

/// Ends the request at once. Doing it again is harmless, and heals what a crash left undone.
pub(crate) async fn end(
    handler: &Handler,
    mut stored: StoredRequest,
    person: &Person,
    caller: &str,
    body: &Value,
) -> Result<Value, Error> {
    let Some(ended_as) = stored.request.may_end(&person.id) else {
        return Ok(answers::may_not_end());
    };
    let mut faults = Faults::new();
    let why = read_reason(body, &mut faults);
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
    let table = &handler.deciding.table;
    let id = stored.request.request_id.clone();
    for _ in 0..MAX_ROUNDS {
        match stored.status {
            Status::Pending | Status::Approved => {
                if table.cancel(&id, &ending).await? {
                    tracing::info!(request_id = %id, by = %person.id, ?ended_as, "request cancelled");
                    handler.deciding.wake(&id).await?;
                    tell_the_others(handler, &table.request(&id).await?).await?;
                    return Ok(answers::cancelled(&id, &ending));
                }
            }
            Status::Open => {
                // The row first: from here on the window is over, whatever happens to us.
                let by = format!("{} ({ended_as:?})", person.id);
                table.end_early(&stored.request, &by, ending.at).await?;
                let is_first = table.note_ending(&id, &ending).await?;
                tracing::info!(request_id = %id, by = %person.id, ?ended_as, is_first, "window ended");
                let name = format!("end-{id}");
                execution::start_closing(
                    &handler.deciding.step_functions,
                    &handler.close_window_arn,
                    &name,
                    &id,
                )
                .await?;
                let stored = table.request(&id).await?;
                return Ok(answers::ending(
                    &id,
                    stored.ending.as_ref().unwrap_or(&ending),
                ));
            }
            // What woke the execution may have been lost with a crash.
            Status::Cancelled => {
                handler.deciding.wake(&id).await?;
                tell_the_others(handler, &stored).await?;
                return Ok(answers::already_over(&stored));
            }
            _ => return Ok(answers::already_over(&stored)),
        }
        stored = table.request(&id).await?;
    }
    Ok(answers::already_over(&stored))
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
        id,
    )
    .await
}

fn read_reason(body: &Value, faults: &mut Faults) -> Option<String> {
    let mut object = Object::new(body, "$", faults)?;
    let reason = object.text("reason", faults).map(str::trim);
    object.finish(faults);
    let reason = reason?;
    if reason.is_empty() {
        faults.add(
            FaultName::ReasonEmpty,
            "$.reason",
            "say why you end it; the others read it",
        );
    }
    if reason.chars().count() > access_text::COMMENT_MAX_CHARS {
        let message = format!(
            "shorten the reason to {} characters",
            access_text::COMMENT_MAX_CHARS
        );
        faults.add(FaultName::ReasonTooLong, "$.reason", message);
    }
    Some(reason.to_owned())
}
