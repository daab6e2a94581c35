//! Breaking the glass: the sealed vote that stands in place of approvals, and the review after.

use access_aws::Error;
use access_aws::schedule::Notice;
use access_aws::table::StoredRequest;
use access_contract::seal::{self, SealedVote};
use access_contract::{Asked, ErrorName, Status};
use access_core::request::PersonRef;
use access_core::{
    BreakGlass, Faults, Person, Request, RequestId, RequesterProof, Review, Verdict, Vote, decision,
};
use chrono::Duration;
use lambda_shell::Failure;
use serde_json::Value;

use crate::answers;
use crate::deciding::{Deciding, failure};
use crate::ending;
use crate::handler::Handler;

/// Seals and records the requester's own vote on a request that breaks the glass. It stands on nothing but what the
/// front door recorded of their signed call, which is read again here. Doing it again is harmless. `true` if the row of
/// the request may be another by now.
pub(crate) async fn seal(deciding: &Deciding, stored: &StoredRequest) -> Result<bool, Failure> {
    let (id, request) = (&stored.request.request_id, &stored.request);
    if request.break_glass.is_none() || stored.status != Status::Pending {
        return Ok(false);
    }
    let asked = deciding.table.asked(&request.execution_arn).await;
    let Some(principal) = asked
        .map_err(failure)?
        .and_then(|it| signed_by(it, request))
    else {
        tracing::error!(request_id = %id, "no signed call asks to break the glass");
        return Err(Failure::new(
            ErrorName::RequestConflict,
            format!(
                "request {id} breaks the glass, and the front door recorded no call that asks for that"
            ),
        ));
    };
    let now = (deciding.now)();
    let vote = Vote {
        approver: request.requester.id.clone(),
        verdict: Verdict::Approve,
        at: now,
        comment: String::new(),
        narrowing: None,
        principal: Some(principal),
    };
    let decision = decision::tally(request, std::slice::from_ref(&vote), now);
    let window = decision::approved_window(request, std::slice::from_ref(&vote), &decision);
    let Some(window) = window else {
        // Too late; counting expires it.
        return Ok(false);
    };
    let text = seal::break_glass_text(id, &stored.digest, &vote);
    let mac = deciding.vote_key.seal(&text).await.map_err(failure)?;
    let sealed = SealedVote {
        seal: seal::encode(&mac),
        vote,
    };
    let is_first = deciding
        .table
        .record_broken_glass(id, &sealed, &decision, &window)
        .await
        .map_err(failure)?;
    tracing::warn!(request_id = %id, requester = %request.requester.id, is_first, "glass broken");
    Ok(true)
}

/// The ARN that signed the call which asks for exactly this request; `None` if it is for another one.
fn signed_by((asked, taken_by): (Asked, Option<RequestId>), request: &Request) -> Option<String> {
    let proof = RequesterProof::Verified {
        principal: asked.principal.clone(),
    };
    let is_for_it = taken_by.as_ref() == Some(&request.request_id)
        && asked.person == request.requester.id
        && asked.input["break_glass"] == true
        && request.requester_proof == proof;
    is_for_it.then_some(asked.principal)
}

/// `POST /requests/{id}/review`: somebody whom the role's document lists has looked at it.
pub(crate) async fn review(
    handler: &Handler,
    stored: StoredRequest,
    person: &Person,
    caller: &str,
    body: &Value,
) -> Result<Value, Error> {
    let request = &stored.request;
    let Some(break_glass) = &request.break_glass else {
        return Ok(answers::nothing_to_review());
    };
    if person.id == request.requester.id {
        return Ok(answers::own_review());
    }
    if !may_review(handler, request, break_glass, person).await? {
        return Ok(answers::not_a_reviewer());
    }
    if let Some(review) = &stored.review {
        // Whoever recorded it may have gone before this.
        have_it_told(handler, &request.request_id).await?;
        return Ok(answers::already_reviewed(review));
    }
    match stored.status {
        Status::Closed | Status::Ended => {}
        Status::Pending | Status::Approved | Status::Open => {
            return Ok(answers::not_over_yet());
        }
        Status::Rejected | Status::Expired | Status::Refused | Status::Cancelled => {
            return Ok(answers::nothing_to_review());
        }
    }
    let mut faults = Faults::new();
    let missing = "say what you have found";
    let comment = ending::read_words(body, "comment", missing, &mut faults);
    let Some(comment) = comment.filter(|_| faults.is_empty()) else {
        return Ok(answers::faulty(faults.as_slice()));
    };
    let review = Review {
        by: PersonRef::of(person),
        comment,
        at: (handler.deciding.now)(),
        principal: caller.to_owned(),
    };
    let table = &handler.deciding.table;
    if table.record_review(request, &review).await? {
        tracing::info!(request_id = %request.request_id, by = %review.by.id, "reviewed");
        have_it_told(handler, &request.request_id).await?;
        return Ok(answers::reviewed(&request.request_id, &review));
    }
    let now = table.request(&request.request_id).await?;
    Ok(match &now.review {
        Some(review) => answers::already_reviewed(review),
        None => answers::nothing_to_review(),
    })
}

/// Has notify tell of the review, a minute from now: Scheduler takes no instant that has passed when it comes there.
async fn have_it_told(handler: &Handler, id: &RequestId) -> Result<(), Error> {
    let at = (handler.deciding.now)() + Duration::minutes(1);
    handler
        .notices
        .set(id, Notice::Review, at, &handler.notify_arn)
        .await
}

/// By the role's document as it is now; where it names nobody any more, by the people it named then.
async fn may_review(
    handler: &Handler,
    request: &Request,
    break_glass: &BreakGlass,
    person: &Person,
) -> Result<bool, Error> {
    let found = handler.catalogue.find_again(request).await?;
    let policy = found.role.and_then(|(role, _)| role.break_glass);
    Ok(match policy {
        Some(policy) => policy.reviewers.contains(&person.id),
        None => break_glass.reviewers.iter().any(|it| it.id == person.id),
    })
}
