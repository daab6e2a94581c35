//! Everything that the front door answers.

use access_aws::execution::Execution;
use access_aws::table::StoredRequest;
use access_core::request::PersonRef;
use access_core::{EndedAs, Fault, Nobody, RequestId, RolePolicy, TargetId};
use lambda_shell::http::json_answer;
use serde_json::{Value, json};

/// Taken: the execution runs, or ran.
pub(crate) fn accepted(request_id: &RequestId, execution_arn: &str) -> Value {
    let body = json!({
        "status": "accepted",
        "request_id": request_id,
        "execution_arn": execution_arn,
    });
    json_answer(202, &body)
}

/// A request as somebody with this part in it sees it. What is not named here is not shown: no secret, no token, no link,
/// no principal.
pub(crate) fn seen(stored: &StoredRequest, part: EndedAs) -> Value {
    let request = &stored.request;
    let people = |people: &[PersonRef]| people.iter().map(person).collect::<Vec<_>>();
    let status = if stored.is_ending() {
        "ending"
    } else {
        stored.status.as_str()
    };
    json!({
        "request_id": request.request_id,
        "your_part": part,
        "status": status,
        "target": request.target,
        "role": request.role,
        "grant": request.grant,
        "requester": person(&request.requester),
        "requester_is_verified": !request.requester_proof.is_claim(),
        "reason": request.reason,
        "requested_at": request.requested_at,
        "asked": request.window,
        "decide_by": request.decide_by,
        "approvers": people(&request.approvers),
        "required_approvals": request.required_approvals,
        "decision": stored.decision,
        "window": stored.window,
        "refusal": stored.refusal,
        "ending": stored.ending.as_ref().map(|ending| json!({
            "by": person(&ending.by),
            "as": ending.ended_as,
            "why": ending.why,
            "at": ending.at,
        })),
        "closing": stored.closing.as_ref().map(|closing| json!({
            "at": closing.at,
            "sessions_ended": closing.n_sessions_ended,
            "role_open_until": closing.open_until,
            "left_behind": closing.left_behind,
        })),
    })
}

/// A dry run as its requester sees it: what its execution answered, once it has.
pub(crate) fn dry_run(id: &RequestId, execution: &Execution, answer: Option<Value>) -> Value {
    let status = match (execution, &answer) {
        (_, Some(_)) => "answered",
        (Execution::Running, None) => "running",
        (Execution::Ended(_), None) => "failed",
        (Execution::Unknown, None) => "forgotten",
    };
    json!({
        "request_id": id,
        "your_part": EndedAs::Requester,
        "status": status,
        "dry_run": answer,
    })
}

fn person(person: &PersonRef) -> Value {
    json!({"id": person.id, "name": person.name})
}

/// A role that may be asked for, with its limits.
pub(crate) fn role(target: &TargetId, policy: &RolePolicy) -> Value {
    json!({
        "target": target,
        "role": policy.role,
        "grant": policy.grant,
        "approvers": policy.approvers,
        "required_approvals": policy.required_approvals,
        "min_duration_seconds": policy.min_duration_seconds,
        "max_duration_seconds": policy.max_duration_seconds,
        "max_ahead_seconds": policy.max_ahead_seconds,
        "approval_deadline_seconds": policy.approval_deadline_seconds,
        "credential": policy.credential,
        "shared": policy.shared,
    })
}

/// One request.
pub(crate) fn request(request: &Value) -> Value {
    json_answer(200, request)
}

/// A page of requests.
pub(crate) fn requests(requests: Vec<Value>, next: Option<&str>) -> Value {
    json_answer(200, &json!({"requests": requests, "next": next}))
}

/// What somebody may ask for, and what is open.
pub(crate) fn access(may_request: Vec<Value>, open: Vec<Value>) -> Value {
    json_answer(200, &json!({"may_request": may_request, "open": open}))
}

pub(crate) fn no_part() -> Value {
    refused(
        400,
        "no_part",
        "give \"part\" as requester, approver or operator, or leave it out",
    )
}

pub(crate) fn no_page() -> Value {
    refused(
        400,
        "no_page",
        "give \"after\" as the \"next\" of the page before, encoded for a URL, or leave it out",
    )
}

pub(crate) fn no_request() -> Value {
    refused(
        404,
        "no_request",
        "give the id of a request in which you have a part, such as r-0123456789abcdef",
    )
}

pub(crate) fn not_signed() -> Value {
    refused(
        403,
        "not_signed",
        "sign the request with your AWS credentials (Signature Version 4, service execute-api)",
    )
}

pub(crate) fn nobody(why: &Nobody) -> Value {
    let name = match why {
        Nobody::NeitherUserNorRole(_) | Nobody::Unknown(_) => "not_in_the_catalogue",
        Nobody::Ambiguous { .. } => "ambiguous_principal",
    };
    let message = format!(
        "{why}; ask the platform team to mend the principals in the catalogue's documents of people"
    );
    refused(403, name, &message)
}

pub(crate) fn no_document(max_bytes: usize) -> Value {
    let message =
        format!("send the request document as one JSON object of at most {max_bytes} bytes");
    refused(400, "not_a_document", &message)
}

pub(crate) fn names_requester() -> Value {
    refused(
        400,
        "requester_given",
        "leave out \"requester\": your signature says who you are",
    )
}

pub(crate) fn bad_key() -> Value {
    refused(
        400,
        "bad_idempotency_key",
        "send an Idempotency-Key of 1 to 128 visible ASCII characters, or none",
    )
}

pub(crate) fn faulty(faults: &[Fault]) -> Value {
    let body = json!({
        "error": "faulty_request",
        "message": "mend what the faults name, and ask again",
        "faults": faults,
    });
    json_answer(400, &body)
}

pub(crate) fn key_was_used() -> Value {
    refused(
        422,
        "idempotency_key_used",
        "this Idempotency-Key belongs to another request of yours; send a new one",
    )
}

pub(crate) fn name_was_taken() -> Value {
    refused(
        409,
        "name_taken",
        "somebody started an execution of this name with another input; ask again with another Idempotency-Key, and tell the platform team",
    )
}

pub(crate) fn trouble(reference: &str) -> Value {
    let body = json!({
        "error": "trouble",
        "message": "something on our side failed; try again with the same Idempotency-Key, or tell the platform team the reference",
        "reference": reference,
    });
    json_answer(503, &body)
}

fn refused(status: u16, error: &str, message: &str) -> Value {
    json_answer(status, &json!({"error": error, "message": message}))
}
