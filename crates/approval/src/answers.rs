//! Everything that signed calls are answered.

use access_aws::table::StoredRequest;
use access_core::decision::CannotApprove;
use access_core::overlap::Holder;
use access_core::{Decision, Ending, Fault, Nobody, PersonId, RequestId, Review, Verdict, Vote};
use chrono::{DateTime, SecondsFormat, Utc};
use lambda_shell::http::json_answer;
use serde_json::{Value, json};

/// The vote counts.
pub(crate) fn recorded(stored: &StoredRequest, votes: &[Vote]) -> Value {
    let approvals = votes.iter().filter(|vote| vote.verdict == Verdict::Approve);
    let body = json!({
        "status": "recorded",
        "request_id": stored.request.request_id,
        "request_status": stored.status.as_str(),
        "approvals": approvals.count(),
        "required_approvals": stored.request.required_approvals,
        "window": stored.window,
    });
    json_answer(200, &body)
}

/// Too late: by whom, and when.
pub(crate) fn already_decided(stored: &StoredRequest, votes: &[Vote], caller: &PersonId) -> Value {
    let request = &stored.request;
    let by_caller = votes.iter().find(|vote| vote.approver == *caller);
    let message = match (&stored.decision, by_caller) {
        (_, Some(vote)) => format!("already decided by you, at {}", moment(vote.at)),
        (Some(Decision::Approved { at, by }), _) => {
            let names: Vec<_> = by.iter().map(|person| request.name_of(person)).collect();
            format!(
                "already decided by {}, at {}",
                names.join(", "),
                moment(*at)
            )
        }
        (Some(Decision::Rejected { at, by }), _) => {
            format!(
                "already decided by {}, at {}",
                request.name_of(by),
                moment(*at)
            )
        }
        (Some(Decision::Expired { at }), _) => {
            format!("nobody decided in time; it expired at {}", moment(*at))
        }
        _ => format!(
            "this request is {}; there is nothing left to decide",
            stored.status.as_str()
        ),
    };
    let body = json!({
        "error": "already_decided",
        "message": message,
        "request_id": request.request_id,
        "request_status": stored.status.as_str(),
    });
    json_answer(409, &body)
}

/// What the approver leaves of the window cannot be.
pub(crate) fn cannot_approve(why: &CannotApprove) -> Value {
    let message = match why {
        CannotApprove::StartTooEarly { earliest } => {
            format!("give a start at or after {}", moment(*earliest))
        }
        CannotApprove::EndTooLate { latest } => {
            format!("give an end at or before {}", moment(*latest))
        }
        CannotApprove::TooShort { left, least } => format!(
            "leave at least {} seconds of the window; this leaves {}",
            least.num_seconds(),
            left.num_seconds()
        ),
        CannotApprove::TooShortTogether { left, least } => format!(
            "leave at least {} seconds of the window together with the other approvers; this leaves {}",
            least.num_seconds(),
            left.num_seconds()
        ),
        CannotApprove::RoleInUse(in_use) => format!(
            "give a start at or after {}, or wait: {} has this role until then, and people do not share it",
            moment(in_use.until),
            match &in_use.holder {
                Holder::Person(name) => name,
                Holder::ByHand => "somebody for whom the database's owner opened it by hand",
                Holder::Unknown => "somebody else",
            }
        ),
    };
    refused(422, "cannot_approve", &message)
}

/// Taken back: nothing opens.
pub(crate) fn cancelled(id: &RequestId, ending: &Ending) -> Value {
    let body =
        json!({"status": "cancelled", "request_id": id, "ended_by": ending.by.id, "at": ending.at});
    json_answer(200, &body)
}

/// The window is over, and the role is being closed.
pub(crate) fn ending(id: &RequestId, ending: &Ending) -> Value {
    let body =
        json!({"status": "ending", "request_id": id, "ended_by": ending.by.id, "at": ending.at});
    json_answer(202, &body)
}

/// There is nothing left to end.
pub(crate) fn already_over(stored: &StoredRequest) -> Value {
    let message = match &stored.ending {
        Some(ending) => format!(
            "already ended by {}, at {}",
            ending.by.name,
            moment(ending.at)
        ),
        None => format!(
            "this request is {}; there is nothing left to end",
            stored.status.as_str()
        ),
    };
    let body = json!({
        "error": "already_over",
        "message": message,
        "request_id": stored.request.request_id,
        "request_status": stored.status.as_str(),
    });
    json_answer(409, &body)
}

pub(crate) fn may_not_end() -> Value {
    refused(
        403,
        "may_not_end",
        "only its requester, its approvers and the role's operators may end a request",
    )
}

/// From here on the requester may break the glass again.
pub(crate) fn reviewed(id: &RequestId, review: &Review) -> Value {
    let body = json!({"status": "reviewed", "request_id": id, "reviewed_by": review.by.id, "at": review.at});
    json_answer(200, &body)
}

pub(crate) fn already_reviewed(review: &Review) -> Value {
    let message = format!(
        "already reviewed by {}, at {}",
        review.by.name,
        moment(review.at)
    );
    refused(409, "already_reviewed", &message)
}

pub(crate) fn nothing_to_review() -> Value {
    refused(
        409,
        "nothing_to_review",
        "this request opened nothing without approval; there is nothing to review",
    )
}

pub(crate) fn not_over_yet() -> Value {
    refused(
        409,
        "not_over_yet",
        "review it when its window is closed; to end it now, send the same call to /end with a reason",
    )
}

pub(crate) fn own_review() -> Value {
    refused(
        403,
        "own_review",
        "nobody reviews their own window; another of its reviewers must",
    )
}

pub(crate) fn not_a_reviewer() -> Value {
    refused(
        403,
        "not_a_reviewer",
        "you are not among the reviewers of this role; its document in the catalogue keeps the list",
    )
}

pub(crate) fn not_signed() -> Value {
    refused(
        403,
        "not_signed",
        "sign the call with your AWS credentials (Signature Version 4, service execute-api)",
    )
}

pub(crate) fn nobody(why: &Nobody) -> Value {
    let message = format!(
        "{why}; ask the platform team to mend the principals in the catalogue's documents of people"
    );
    refused(403, "not_in_the_catalogue", &message)
}

pub(crate) fn no_request() -> Value {
    refused(
        404,
        "no_request",
        "give the id of a request, such as r-0123456789abcdef",
    )
}

pub(crate) fn own_request() -> Value {
    refused(
        403,
        "own_request",
        "nobody approves their own request; the other approvers have been asked",
    )
}

pub(crate) fn not_an_approver() -> Value {
    refused(
        403,
        "not_an_approver",
        "you are not among the approvers of this request; the platform team keeps the list",
    )
}

pub(crate) fn no_document(max_bytes: usize) -> Value {
    let message = format!(
        "send one JSON object of at most {max_bytes} bytes, such as {{\"verdict\": \"approve\", \"comment\": \"\"}}"
    );
    refused(400, "not_a_document", &message)
}

pub(crate) fn faulty(faults: &[Fault]) -> Value {
    let body = json!({
        "error": "faulty_document",
        "message": "mend what the faults name, and send it again",
        "faults": faults,
    });
    json_answer(400, &body)
}

pub(crate) fn trouble(reference: &str) -> Value {
    let body = json!({
        "error": "trouble",
        "message": "something on our side failed; try again, or tell the platform team the reference",
        "reference": reference,
    });
    json_answer(503, &body)
}

fn refused(status: u16, error: &str, message: &str) -> Value {
    json_answer(status, &json!({"error": error, "message": message}))
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
