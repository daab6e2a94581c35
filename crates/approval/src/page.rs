//! The callback page: `GET` shows and changes nothing, `POST` decides.

use access_aws::Error;
use access_aws::table::StoredRequest;
use access_contract::{ErrorName, Link, Status};
use access_core::{PersonId, RequestId, Verdict, Vote};
use access_text::{
    Answer, CannotDecide, Draft, ENGLISH, FormProblem, Page, PersonView, RequestView, Stage,
    Trouble, Typed,
};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use lambda_shell::Failure;
use serde_json::{Value, json};

use crate::deciding::Voted;
use crate::handler::Handler;

/// The largest form that is read, in bytes: the longest comment takes a third of it when it is all escapes.
const MAX_FORM_BYTES: usize = 20_000;

/// Answers one HTTP request. Whatever breaks becomes a page with a reference; the log has the rest.
pub(crate) async fn answer(
    handler: &Handler,
    request: &ApiGatewayV2httpRequest,
    invocation_id: &str,
) -> Result<Value, Failure> {
    let method = request.request_context.http.method.as_str();
    let link = request
        .path_parameters
        .get("link")
        .map_or("", String::as_str);
    let page = match method {
        "POST" => post(handler, link, request).await,
        _ => get(handler, link).await,
    };
    let page = page.unwrap_or_else(|error| {
        tracing::error!(invocation_id, error = error.name().as_str(), "{error}");
        access_text::trouble_page(&ENGLISH, Trouble::Temporary, invocation_id)
    });
    Ok(http(page, method == "HEAD"))
}

/// A link that was proved, and what it leads to.
struct Opened {
    stored: StoredRequest,
    view: RequestView,
    approver: PersonId,
    person: PersonView,
}

async fn get(handler: &Handler, link: &str) -> Result<Page, Error> {
    let Some(opened) = open(handler, link).await? else {
        return Ok(access_text::invalid_link_page(&ENGLISH));
    };
    Ok(opened
        .settled_page(handler)
        .unwrap_or_else(|| opened.decision_page(handler, None)))
}

async fn post(
    handler: &Handler,
    link: &str,
    request: &ApiGatewayV2httpRequest,
) -> Result<Page, Error> {
    let Some(opened) = open(handler, link).await? else {
        return Ok(access_text::invalid_link_page(&ENGLISH));
    };
    if let Some(page) = opened.settled_page(handler) {
        return Ok(page);
    }
    let Some(typed) = read(request) else {
        return Ok(access_text::trouble_page(
            &ENGLISH,
            Trouble::BadForm,
            opened.view.request_id.as_str(),
        ));
    };
    let answer = access_text::read_form(&typed, &opened.view.role, opened.view.zone);
    let (verdict, comment, narrowing) = match answer {
        Ok(Answer::Approve { comment, narrowing }) => (Verdict::Approve, comment, narrowing),
        Ok(Answer::Reject { comment }) => (Verdict::Reject, comment, None),
        Err(problem) => {
            return Ok(opened.decision_page(handler, Some(&Draft::new(problem, typed))));
        }
    };
    let vote = Vote {
        approver: opened.approver.clone(),
        verdict,
        at: (handler.deciding.now)(),
        comment,
        narrowing,
    };
    let voted = handler.deciding.vote(&opened.stored, vote).await?;
    let Some(opened) = open(handler, link).await? else {
        return Ok(access_text::invalid_link_page(&ENGLISH));
    };
    let now = (handler.deciding.now)();
    Ok(match voted {
        Voted::Recorded => access_text::decided_page(&ENGLISH, &opened.view, &opened.person, now),
        Voted::Refused(why) => {
            let problem = FormProblem::CannotApprove(why);
            opened.decision_page(handler, Some(&Draft::new(problem, typed)))
        }
        Voted::NotAnyMore => opened.settled_page(handler).unwrap_or_else(|| {
            access_text::trouble_page(&ENGLISH, Trouble::Temporary, &opened.view.request_id)
        }),
    })
}

/// Proves a link: its form and expiry first, then its seal, then that it speaks of the request as it is.
async fn open(handler: &Handler, segment: &str) -> Result<Option<Opened>, Error> {
    let deciding = &handler.deciding;
    let Ok((link, mac)) = Link::parse(segment) else {
        return Ok(None);
    };
    if (deciding.now)() >= link.expires_at || link.key_id != handler.link_key.key_id() {
        return Ok(None);
    }
    if !handler.link_key.verify(&link.sealed_text(), &mac).await? {
        tracing::warn!(request_id = %link.request_id, "link with a wrong seal");
        return Ok(None);
    }
    let stored = match deciding.table.request(&link.request_id).await {
        Err(error) if error.name() == ErrorName::RequestNotFound => return Ok(None),
        stored => stored?,
    };
    if stored.digest != link.digest {
        tracing::error!(request_id = %link.request_id, "the request is not the one that the link was made for");
        return Ok(None);
    }
    Ok(Some(see(handler, stored, link.approver).await?))
}

async fn see(
    handler: &Handler,
    stored: StoredRequest,
    approver: PersonId,
) -> Result<Opened, Error> {
    let id: &RequestId = &stored.request.request_id;
    let sealed = handler.deciding.table.votes(id).await?;
    let votes: Vec<_> = sealed.into_iter().map(|sealed| sealed.vote).collect();
    let view = RequestView::of(&stored.request, stored.window, &votes);
    let person = PersonView {
        id: approver.to_string(),
        name: stored.request.name_of(&approver).to_owned(),
    };
    Ok(Opened {
        stored,
        view,
        approver,
        person,
    })
}

impl Opened {
    /// The page for somebody who cannot decide, or not any more; `None` if they can.
    fn settled_page(&self, handler: &Handler) -> Option<Page> {
        let now = (handler.deciding.now)();
        if self.approver == self.stored.request.requester.id {
            let why = CannotDecide::YouAreTheRequester;
            return Some(access_text::cannot_decide_page(
                &ENGLISH, &self.view, why, now,
            ));
        }
        if !self.stored.request.may_decide(&self.approver) {
            let why = CannotDecide::NotAnApprover;
            return Some(access_text::cannot_decide_page(
                &ENGLISH, &self.view, why, now,
            ));
        }
        let has_voted = self
            .view
            .decisions
            .iter()
            .any(|decision| decision.person.id == self.person.id);
        let stage = match self.stored.status {
            Status::Pending if has_voted => {
                return Some(access_text::already_decided_page(
                    &ENGLISH,
                    &self.view,
                    &self.person,
                    now,
                ));
            }
            Status::Pending if now < self.view.decide_by => return None,
            Status::Pending | Status::Expired => {
                return Some(access_text::expired_page(&ENGLISH, &self.view, now));
            }
            Status::Approved => Stage::Approved,
            Status::Open => Stage::Open,
            Status::Ended => Stage::EndedRoleStillOpen,
            Status::Closed => Stage::Closed,
            Status::Rejected => Stage::Rejected,
            Status::Refused => Stage::Refused,
        };
        Some(access_text::settled_page(
            &ENGLISH,
            &self.view,
            &self.person,
            stage,
            now,
        ))
    }

    fn decision_page(&self, handler: &Handler, draft: Option<&Draft>) -> Page {
        access_text::decision_page(
            &ENGLISH,
            &self.view,
            &self.person,
            draft,
            (handler.deciding.now)(),
        )
    }
}

/// The fields of the submitted form; `None` if the body is no form of ours: another type, too large, not UTF-8, or a
/// field given twice.
fn read(request: &ApiGatewayV2httpRequest) -> Option<Typed> {
    let content_type = request.headers.get("content-type")?.to_str().ok()?;
    if !content_type
        .split(';')
        .next()?
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return None;
    }
    let body = request.body.as_deref().unwrap_or_default();
    if body.len() > MAX_FORM_BYTES {
        return None;
    }
    let bytes = if request.is_base64_encoded {
        data_encoding::BASE64.decode(body.as_bytes()).ok()?
    } else {
        body.as_bytes().to_vec()
    };
    std::str::from_utf8(&bytes).ok()?;
    let (mut decision, mut role, mut comment) = (None, None, None);
    let (mut start, mut end) = (None, None);
    for (name, value) in form_urlencoded::parse(&bytes) {
        let field = match name.as_ref() {
            access_text::FIELD_DECISION => &mut decision,
            access_text::FIELD_ROLE => &mut role,
            access_text::FIELD_COMMENT => &mut comment,
            access_text::FIELD_START => &mut start,
            access_text::FIELD_END => &mut end,
            _ => return None,
        };
        if field.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    Some(Typed {
        decision,
        role: role.unwrap_or_default(),
        comment: comment.unwrap_or_default(),
        start: start.unwrap_or_default(),
        end: end.unwrap_or_default(),
    })
}

/// The answer in the HTTP API's payload format 2.0
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).
fn http(page: Page, head_only: bool) -> Value {
    let headers: serde_json::Map<_, _> = access_text::security_headers()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    json!({
        "statusCode": page.status,
        "headers": headers,
        "body": if head_only { String::new() } else { page.html },
        "isBase64Encoded": false,
    })
}
