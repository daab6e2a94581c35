//! The callback pages: `GET` shows and changes nothing, `POST` decides or ends.

use std::collections::BTreeMap;

use access_aws::Error;
use access_aws::table::StoredRequest;
use access_contract::{ErrorName, Link, Purpose, Status};
use access_core::{Language, PersonId, Verdict, Vote};
use access_text::{
    Answer, CannotDecide, Draft, EndDraft, EndOffer, EndTyped, FormProblem, Page, PersonView,
    RequestView, Stage, Texts, Trouble, Typed,
};
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use chrono::{DateTime, Utc};
use lambda_shell::Failure;
use serde_json::{Value, json};

use crate::deciding::Voted;
use crate::ending::{self, Ended};
use crate::handler::Handler;

/// The largest form that is read, in bytes: the longest comment takes a third of it when it is all escapes.
const MAX_FORM_BYTES: usize = 20_000;

/// The paths of links to end something, as the template names them.
const END_PATH: &str = "/end/{link}";

/// Answers one HTTP request. Whatever breaks becomes a page with a reference; the log has the rest.
pub(crate) async fn answer(
    handler: &Handler,
    request: &ApiGatewayV2httpRequest,
    invocation_id: &str,
) -> Result<Value, Failure> {
    let method = request.request_context.http.method.as_str();
    let route = request.route_key.as_deref().unwrap_or_default();
    let visit = Visit {
        handler,
        purpose: if route.ends_with(END_PATH) {
            Purpose::End
        } else {
            Purpose::Decide
        },
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
    /// What links are for on this path.
    purpose: Purpose,
    link: &'a str,
}

/// A link that was proved, and what it leads to.
struct Opened {
    stored: StoredRequest,
    view: RequestView,
    holder: PersonId,
    person: PersonView,
}

/// A submitted form of ours.
enum Form {
    Decide(Typed),
    End(EndTyped),
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
            .settled_page(&opened, None)
            .unwrap_or_else(|| self.decision_page(&opened, None)))
    }

    async fn post(&self, request: &ApiGatewayV2httpRequest) -> Result<Page, Error> {
        let Some(opened) = self.open().await? else {
            return Ok(access_text::invalid_link_page(self.texts));
        };
        let settled = self.settled_page(&opened, None);
        let typed = match (settled, read(request)) {
            (Some(_), Some(Form::End(typed))) => return self.end(opened, typed).await,
            (Some(page), form) => {
                // Of somebody who saw no answer before: a crash may have come between recording and waking.
                if let Some(Form::Decide(_)) = form {
                    let id = &opened.stored.request.request_id;
                    self.handler.deciding.carry_on(id).await?;
                }
                return Ok(page);
            }
            (None, Some(Form::Decide(typed))) => typed,
            (None, _) => {
                let id = opened.view.request_id.as_str();
                return Ok(access_text::trouble_page(self.texts, Trouble::BadForm, id));
            }
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
            approver: opened.holder.clone(),
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
            Voted::NotAnyMore => self.settled_page(&opened, None).unwrap_or_else(|| {
                let id = opened.view.request_id.as_str();
                access_text::trouble_page(self.texts, Trouble::Temporary, id)
            }),
        })
    }

    /// Ends what there is to end, if the form says so, and shows where the request stands then.
    async fn end(&self, opened: Opened, typed: EndTyped) -> Result<Page, Error> {
        let why = match access_text::read_end_form(&typed, &opened.view.role) {
            Ok(why) => why,
            Err(problem) => {
                let draft = EndDraft::new(problem, typed);
                let page = self.settled_page(&opened, Some(&draft));
                return Ok(page.unwrap_or_else(|| self.decision_page(&opened, None)));
            }
        };
        let ended = if self.can_be_ended(&opened) {
            ending::by_link(self.handler, opened.stored, &opened.holder, why).await?
        } else {
            None
        };
        let Some(opened) = self.open().await? else {
            return Ok(access_text::invalid_link_page(self.texts));
        };
        let stage = match ended {
            Some(Ended::Cancelled(_)) => Stage::Cancelled,
            Some(Ended::Window(_)) => Stage::Closing,
            Some(Ended::AlreadyOver(_)) | None => self.stage(&opened),
        };
        let (texts, now) = (self.texts, self.now());
        Ok(access_text::standing_page(
            texts,
            &opened.view,
            stage,
            None,
            now,
        ))
    }

    /// Proves the link: its form and expiry first, then its seal, then that it speaks of the request as it is.
    async fn open(&self) -> Result<Option<Opened>, Error> {
        let (handler, deciding) = (self.handler, &self.handler.deciding);
        let Ok((link, mac)) = Link::parse(self.link) else {
            return Ok(None);
        };
        if self.now() >= link.expires_at
            || link.purpose() != self.purpose
            || link.key_id != handler.link_key.key_id()
        {
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
        Ok(Some(self.see(stored, link.person).await?))
    }

    async fn see(&self, stored: StoredRequest, holder: PersonId) -> Result<Opened, Error> {
        let votes = self
            .handler
            .deciding
            .votes(&stored.request.request_id)
            .await?;
        let request = &stored.request;
        let table = &self.handler.deciding.table;
        let windows = table.windows(&request.target, &request.role).await?;
        let mut view = RequestView::of(request, stored.window, &votes)
            .ended_by(stored.ending.as_ref())
            .beside(request, &windows.rows, self.now());
        view.findings = stored.findings.clone().unwrap_or_default();
        let person = PersonView {
            id: holder.to_string(),
            name: stored.request.name_of(&holder).to_owned(),
        };
        Ok(Opened {
            stored,
            view,
            holder,
            person,
        })
    }

    /// The page for somebody who cannot decide, or not any more; `None` if they can. It offers to end what there is to
    /// end, with `draft` as it was sent.
    fn settled_page(&self, opened: &Opened, draft: Option<&EndDraft>) -> Option<Page> {
        let (texts, now) = (self.texts, self.now());
        let Opened {
            stored,
            view,
            holder,
            person,
        } = opened;
        let stage = self.stage(opened);
        let offer = self.can_be_ended(opened).then_some(EndOffer {
            person,
            is_open: stage == Stage::Open,
            draft,
        });
        let offer = offer.as_ref();
        let is_late = matches!(stored.status, Status::Pending | Status::Expired)
            && (stored.status == Status::Expired || now >= view.decide_by);
        if self.purpose == Purpose::End {
            return Some(if is_late {
                access_text::expired_page(texts, view, now)
            } else {
                access_text::standing_page(texts, view, stage, offer, now)
            });
        }
        if *holder == stored.request.requester.id {
            let why = CannotDecide::YouAreTheRequester;
            return Some(access_text::cannot_decide_page(texts, view, why, now));
        }
        if !stored.request.may_decide(holder) {
            let why = CannotDecide::NotAnApprover;
            return Some(access_text::cannot_decide_page(texts, view, why, now));
        }
        if is_late {
            return Some(access_text::expired_page(texts, view, now));
        }
        if stored.status != Status::Pending {
            let page = access_text::settled_page(texts, view, person, stage, offer, now);
            return Some(page);
        }
        if has_voted(opened) {
            let page = access_text::already_decided_page(texts, view, person, offer, now);
            return Some(page);
        }
        let why = CannotDecide::OnlyBySignedCall;
        (!stored.request.deciding.takes_links())
            .then(|| access_text::cannot_decide_page(texts, view, why, now))
    }

    /// Where the request stands now.
    fn stage(&self, opened: &Opened) -> Stage {
        let stored = &opened.stored;
        let is_over = stored.ending.is_some()
            || stored
                .window
                .is_some_and(|window| window.end() <= self.now());
        let is_ahead = stored
            .window
            .is_some_and(|window| self.now() < window.start());
        match stored.status {
            Status::Pending | Status::Expired => Stage::Waiting,
            Status::Approved => Stage::Approved,
            Status::Open if is_over => Stage::Closing,
            // A policy is written before the start that it holds.
            Status::Open if is_ahead => Stage::Approved,
            Status::Open => Stage::Open,
            Status::Ended => Stage::EndedRoleStillOpen,
            Status::Closed => Stage::Closed,
            Status::Rejected => Stage::Rejected,
            Status::Refused => Stage::Refused,
            Status::Cancelled => Stage::Cancelled,
        }
    }

    /// Whether the holder of this link may end something by it: a link to decide does so once it has decided.
    fn can_be_ended(&self, opened: &Opened) -> bool {
        let stored = &opened.stored;
        let is_pending = stored.status == Status::Pending && self.now() < opened.view.decide_by;
        let has_decided = !is_pending || has_voted(opened);
        let has_something_to_end = match self.stage(opened) {
            Stage::Waiting => is_pending,
            Stage::Approved | Stage::Open => true,
            Stage::Closing
            | Stage::EndedRoleStillOpen
            | Stage::Closed
            | Stage::Rejected
            | Stage::Refused
            | Stage::Cancelled => false,
        };
        let may = match self.purpose {
            Purpose::End => stored.request.may_end(&opened.holder).is_some(),
            Purpose::Decide => stored.request.may_decide(&opened.holder) && has_decided,
        };
        may && has_something_to_end
    }

    fn decision_page(&self, opened: &Opened, draft: Option<&Draft>) -> Page {
        access_text::decision_page(self.texts, &opened.view, &opened.person, draft, self.now())
    }
}

fn has_voted(opened: &Opened) -> bool {
    let mut decisions = opened.view.decisions.iter();
    decisions.any(|decision| decision.person.id == opened.person.id)
}

/// The submitted form; `None` if the body is no form of ours: another type, too large, not UTF-8, fields of another
/// form, or one given twice.
fn read(request: &ApiGatewayV2httpRequest) -> Option<Form> {
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
    let mut fields = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(&bytes) {
        if fields
            .insert(name.into_owned(), value.into_owned())
            .is_some()
        {
            return None;
        }
    }
    let mut take = |name: &str| fields.remove(name);
    let role = take(access_text::FIELD_ROLE).unwrap_or_default();
    let (ending, reason) = (
        take(access_text::FIELD_ENDING),
        take(access_text::FIELD_REASON),
    );
    // Only the form to end something has a reason, which a browser sends even when it is empty.
    let form = if ending.is_some() || reason.is_some() {
        let reason = reason.unwrap_or_default();
        Form::End(EndTyped {
            ending,
            role,
            reason,
        })
    } else {
        Form::Decide(Typed {
            decision: take(access_text::FIELD_DECISION),
            role,
            comment: take(access_text::FIELD_COMMENT).unwrap_or_default(),
            start: take(access_text::FIELD_START).unwrap_or_default(),
            end: take(access_text::FIELD_END).unwrap_or_default(),
        })
    };
    fields.is_empty().then_some(form)
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
