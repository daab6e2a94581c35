//! Everything that the front door answers.

use access_core::{Fault, Nobody, RequestId};
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
