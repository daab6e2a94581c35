//! Whether there is a window to close, and ending one before its time.

use access_aws::table::{Closing, StoredRequest, Table};
use access_contract::payload::Outcome;
use access_contract::{ErrorName, Status};
use access_core::{RequestId, time};
use chrono::{DateTime, Utc};

/// What there is to close of a request.
#[derive(Debug)]
pub enum ToClose {
    /// Its window, which is armed and not proved closed.
    Window(Box<StoredRequest>),
    /// Nothing: the answer to the state machine.
    Answer(Outcome),
}

/// What there is to close of a request.
///
/// # Errors
/// [`access_aws::Error`], also if it may still be armed.
pub async fn to_close(table: &Table, id: &RequestId) -> Result<ToClose, access_aws::Error> {
    let stored = table.request(id).await?;
    match stored.status {
        Status::Open => Ok(ToClose::Window(Box::new(stored))),
        Status::Ended | Status::Closed => Ok(ToClose::Answer(
            stored.closing.as_ref().map_or(Outcome::Closed, outcome),
        )),
        Status::Cancelled => Ok(ToClose::Answer(Outcome::Cancelled)),
        Status::Refused | Status::Rejected | Status::Expired => {
            Ok(ToClose::Answer(Outcome::NothingToClose))
        }
        Status::Pending | Status::Approved => Err(access_aws::Error::RequestConflict {
            request_id: id.to_string(),
            status: stored.status.as_str().to_owned(),
        }),
    }
}

/// Ends a window now, whatever became of its opening.
///
/// # Errors
/// [`access_aws::Error`].
pub async fn end_early(
    table: &Table,
    id: &RequestId,
    by: &str,
    now: DateTime<Utc>,
) -> Result<(), access_aws::Error> {
    // While it is not armed nothing can be open, and after this nothing can arm it.
    table.record_refusal(id, &[]).await?;
    let stored = table.request(id).await?;
    if stored.status == Status::Open {
        table.end_early(&stored.request, by, now).await?;
    }
    Ok(())
}

/// Ends the window of an execution that has ended as `status` says: it looks after nothing any more. `false` if there is
/// nothing to end.
///
/// # Errors
/// [`access_aws::Error`].
pub async fn end_with_execution(
    table: &Table,
    id: &RequestId,
    status: &str,
    now: DateTime<Utc>,
) -> Result<bool, access_aws::Error> {
    match table.request(id).await {
        Ok(stored)
            if matches!(
                stored.status,
                Status::Pending | Status::Approved | Status::Open
            ) =>
        {
            end_early(table, id, &format!("the execution is {status}"), now).await?;
            Ok(true)
        }
        Ok(_) => Ok(false),
        // A request that was refused at once is not in the table.
        Err(error) if error.name() == ErrorName::RequestNotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// That a request was cancelled is told by whoever is asked to close it, since its own execution sleeps until its start; to
/// others there is nothing to close.
#[must_use]
pub fn nothing_if_cancelled(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Cancelled => Outcome::NothingToClose,
        outcome => outcome,
    }
}

/// What a recorded closing came to.
#[must_use]
pub fn outcome(closing: &Closing) -> Outcome {
    match closing.open_until {
        Some(until) => Outcome::EndedRoleStillOpen {
            open_until: time::to_wait_timestamp(until),
        },
        None => Outcome::Closed,
    }
}
