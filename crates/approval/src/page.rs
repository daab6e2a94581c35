//! The callback page: `GET` shows and changes nothing, `POST` decides.

use access_aws::Error;
use access_aws::table::StoredRequest;
use access_contract::{ErrorName, Link, Status};
use access_core::{Language, PersonId, Request, Verdict, Vote};
use access_text::{
    Answer, CannotDecide, Draft, FormProblem, OtherWindow, Page, PersonView, RequestView, Stage,
    Texts, Trouble, Typed,
};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use chrono::{DateTime, Utc};
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
    let visit = Visit {
        handler,
        texts: Texts::of(language(request)),
        link: request
            .path_parameters
            .get("link")
            .map_or("", String::as_str),
    };
    let page = match method {
        "POST" => visit.post(request).await,
        _ => visit.get().await,
    };
    let page = page.unwrap_or_else(|error| {
        tracing::error!(invocation_id, error = error.name().as_str(), "{error}");
        access_text::trouble_page(visit.texts, Trouble::Temporary, invocation_id)
    });
    Ok(http(page, method == "HEAD"))
}

/// The language that the browser asks for.
fn language(request: &ApiGatewayV2httpRequest) -> Language {
    let header = request.headers.get("accept-language");
    Language::of_accept_language(header.and_then(|it| it.to_str().ok()).unwrap_or_default())
}

/// One request for a page.
struct Visit<'a> {
    handler: &'a Handler,
    texts: &'static Texts,
    link: &'a str,
}

/// A link that was proved, and what it leads to.
struct Opened {
    stored: StoredRequest,
    view: RequestView,
    approver: PersonId,
    person: PersonView,
}

impl Visit<'_> {
    fn now(&self) -> DateTime<Utc> {
        (self.handler.deciding.now)()
    }

    async fn get(&self) -> Result<Page, Error> {
        let Some(opened) = self.open().await? else {
            return Ok(access_text::invalid_link_page(self.texts));
        };
        Ok(self
            .settled_page(&opened)
            .unwrap_or_else(|| self.decision_page(&opened, None)))
    }

    async fn post(&self, request: &ApiGatewayV2httpRequest) -> Result<Page, Error> {
        let Some(opened) = self.open().await? else {
            return Ok(access_text::invalid_link_page(self.texts));
        };
        if let Some(page) = self.settled_page(&opened) {
            return Ok(page);
        }
        let Some(typed) = read(request) else {
            let id = opened.view.request_id.as_str();
            return Ok(access_text::trouble_page(self.texts, Trouble::BadForm, id));
        };
        let answer = access_text::read_form(&typed, &opened.view.role, opened.view.zone);
        let (verdict, comment, narrowing) = match answer {
            Ok(Answer::Approve { comment, narrowing }) => (Verdict::Approve, comment, narrowing),
            Ok(Answer::Reject { comment }) => (Verdict::Reject, comment, None),
            Err(problem) => {
                return Ok(self.decision_page(&opened, Some(&Draft::new(problem, typed))));
            }
        };
        let vote = Vote {
            approver: opened.approver.clone(),
            verdict,
            at: self.now(),
            comment,
            narrowing,
            principal: None,
        };
        let voted = self.handler.deciding.vote(&opened.stored, vote).await?;
        let Some(opened) = self.open().await? else {
            return Ok(access_text::invalid_link_page(self.texts));
        };
        Ok(match voted {
            Voted::Recorded => {
                access_text::decided_page(self.texts, &opened.view, &opened.person, self.now())
            }
            Voted::Refused(why) => {
                let problem = FormProblem::CannotApprove(why);
                self.decision_page(&opened, Some(&Draft::new(problem, typed)))
            }
            Voted::NotAnyMore => self.settled_page(&opened).unwrap_or_else(|| {
                let id = opened.view.request_id.as_str();
                access_text::trouble_page(self.texts, Trouble::Temporary, id)
            }),
        })
    }

    /// Proves the link: its form and expiry first, then its seal, then that it speaks of the request as it is.
    async fn open(&self) -> Result<Option<Opened>, Error> {
        let (handler, deciding) = (self.handler, &self.handler.deciding);
        let Ok((link, mac)) = Link::parse(self.link) else {
            return Ok(None);
        };
        if self.now() >= link.expires_at || link.key_id != handler.link_key.key_id() {
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
        Ok(Some(self.see(stored, link.approver).await?))
    }

    async fn see(&self, stored: StoredRequest, approver: PersonId) -> Result<Opened, Error> {
        let votes = self
            .handler
            .deciding
            .votes(&stored.request.request_id)
            .await?;
        let mut view = RequestView::of(&stored.request, stored.window, &votes)
            .ended_by(stored.ending.as_ref());
        view.findings.clone_from(&stored.findings);
        view.other_windows = self.other_windows(&stored.request).await?;
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

    /// The other windows of the role that are not over, in order.
    async fn other_windows(&self, request: &Request) -> Result<Vec<OtherWindow>, Error> {
        let table = &self.handler.deciding.table;
        let rows = table.windows(&request.target, &request.role).await?;
        let now = self.now();
        let mut others: Vec<_> = rows
            .rows
            .into_iter()
            .filter(|row| row.request_id != request.request_id && !row.is_over(now))
            .map(|row| OtherWindow {
                request_id: row.request_id.to_string(),
                start: row.window.start(),
                end: row.window.end(),
            })
            .collect();
        others.sort_by_key(|other| other.start);
        Ok(others)
    }

    /// The page for somebody who cannot decide, or not any more; `None` if they can.
    fn settled_page(&self, opened: &Opened) -> Option<Page> {
        let (texts, now) = (self.texts, self.now());
        let Opened {
            stored,
            view,
            approver,
            person,
        } = opened;
        if *approver == stored.request.requester.id {
            let why = CannotDecide::YouAreTheRequester;
            return Some(access_text::cannot_decide_page(texts, view, why, now));
        }
        if !stored.request.may_decide(approver) {
            let why = CannotDecide::NotAnApprover;
            return Some(access_text::cannot_decide_page(texts, view, why, now));
        }
        let has_voted = view
            .decisions
            .iter()
            .any(|decision| decision.person.id == person.id);
        let stage = match stored.status {
            Status::Pending if has_voted && now < view.decide_by => {
                return Some(access_text::already_decided_page(texts, view, person, now));
            }
            Status::Pending if now < view.decide_by => {
                let why = CannotDecide::OnlyBySignedCall;
                return (!stored.request.deciding.takes_links())
                    .then(|| access_text::cannot_decide_page(self.texts, view, why, now));
            }
            Status::Pending | Status::Expired => {
                return Some(access_text::expired_page(texts, view, now));
            }
            Status::Approved => Stage::Approved,
            Status::Open => Stage::Open,
            Status::Ended => Stage::EndedRoleStillOpen,
            Status::Closed => Stage::Closed,
            Status::Rejected => Stage::Rejected,
            Status::Refused => Stage::Refused,
            Status::Cancelled => Stage::Cancelled,
        };
        Some(access_text::settled_page(texts, view, person, stage, now))
    }

    fn decision_page(&self, opened: &Opened, draft: Option<&Draft>) -> Page {
        access_text::decision_page(self.texts, &opened.view, &opened.person, draft, self.now())
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
