//! The pages: plain HTML that needs no script, no image and no second request.

use access_core::overlap::Holder;
use access_core::{CannotApprove, FaultName};
use askama::Template;
use chrono::{DateTime, Utc};

use crate::ending::{ENDING_END, EndOffer, EndProblem, EndTyped, FIELD_ENDING, FIELD_REASON};
use crate::form::{
    COMMENT_MAX_CHARS, DECISION_APPROVE, DECISION_REJECT, Draft, FIELD_COMMENT, FIELD_DECISION,
    FIELD_END, FIELD_ROLE, FIELD_START, FormProblem, Typed,
};
use crate::moment::{Moment, duration, zone_name};
use crate::request_text::{RequestText, line, name};
use crate::texts::Texts;
use crate::view::{PersonView, RequestView, Standing, WindowView};

/// The style sheet of every page, inlined; [`crate::security_headers`] names its hash.
pub(crate) const STYLE: &str = include_str!("../templates/style.css");

/// A finished page; send it with [`crate::security_headers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The document, UTF-8.
    pub html: String,
}

/// Why a person may not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannotDecide {
    /// Nobody approves their own request.
    YouAreTheRequester,
    /// Not, or no longer, on the role's list.
    NotAnApprover,
    /// Links do not decide on this role.
    OnlyBySignedCall,
}

/// What has become of a settled request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for decisions.
    Waiting,
    /// Approved; the window has not been opened yet.
    Approved,
    /// The login is open.
    Open,
    /// The window is over, and the login is being closed.
    Closing,
    /// The window is over, another one keeps the role open.
    EndedRoleStillOpen,
    /// Proved closed.
    Closed,
    /// Somebody rejected it.
    Rejected,
    /// It could not be opened, and never was.
    Refused,
    /// Somebody took it back before it was opened.
    Cancelled,
}

/// Why there is no page about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The body is not a form we know.
    BadForm,
    /// Throttled.
    TooManyRequests,
    /// A part did not answer; trying again may help.
    Temporary,
}

/// What a `GET` of a good link shows; with a draft, what a `POST` that is not an answer shows.
#[must_use]
pub fn decision_page(
    texts: &Texts,
    request: &RequestView,
    approver: &PersonView,
    draft: Option<&Draft>,
    now: DateTime<Utc>,
) -> Page {
    let text = RequestText::new(texts, request, now);
    let problem = draft.map(|draft| problem(texts, draft, request, &text));
    let nothing_typed = Typed::default();
    let typed = draft.map_or(&nothing_typed, |draft| &draft.typed);
    let (earliest, latest) = request.bounds(now);
    let moment = |at| Moment::new(texts, at, request.zone).line();
    let narrows = problem
        .as_ref()
        .is_some_and(|problem| [FIELD_START, FIELD_END].contains(&problem.field))
        || !(typed.start.is_empty() && typed.end.is_empty());
    let heading = (texts.form.heading)(&text.role, &text.target);
    // A screen reader says the title first.
    let title = match problem {
        Some(_) => (texts.words.labelled)(texts.form.not_recorded, &heading),
        None => heading.clone(),
    };
    let page = DecisionPage {
        frame: Frame::new(texts, title, &text.request_id),
        texts,
        heading,
        lead: (texts.of_grant(&request.grant).lead)(&text.requester_name, &text.how_long),
        deciding_as: (texts.form.deciding_as)(&line(&approver.name)),
        comment_hint: (texts.form.comment_hint)(COMMENT_MAX_CHARS),
        as_of: (texts.form.as_of)(&Moment::new(texts, now, chrono_tz::UTC).utc),
        typed,
        narrows,
        narrow_hint: (texts.form.narrow_hint)(&zone_name(request.zone, earliest)),
        not_before_hint: (texts.form.not_before_hint)(&moment(earliest)),
        not_after_hint: (texts.form.not_after_hint)(&moment(latest)),
        problem,
        request: &text,
    };
    page.render_with(if draft.is_some() { 422 } else { 200 })
}

/// The answer to a `POST` that was recorded: waits for others, opens, or is rejected, by the view's decisions.
#[must_use]
pub fn decided_page(
    texts: &Texts,
    request: &RequestView,
    approver: &PersonView,
    now: DateTime<Utc>,
) -> Page {
    let says = &texts.outcome;
    let rejected_it = request
        .decision_of(approver)
        .is_some_and(|decision| !decision.approved);
    let (tone, headline, sentence) = match request.standing() {
        Standing::Waiting { n_missing } => (
            Tone::Good,
            says.approved_waits,
            (says.approved_waits_for)(n_missing),
        ),
        Standing::Approved => (Tone::Good, says.approved, says.approved_done.to_owned()),
        Standing::Rejected if rejected_it => {
            (Tone::Bad, says.rejected, says.rejected_done.to_owned())
        }
        Standing::Rejected => (Tone::Bad, says.rejected, says.already_rejected.to_owned()),
    };
    outcome(
        texts,
        tone,
        headline,
        vec![sentence, says.may_close.to_owned()],
        request,
        now,
    )
    .render_with(200)
}

/// What a link shows once its holder has voted or the request is settled, and what a second `POST` gets.
#[must_use]
pub fn already_decided_page(
    texts: &Texts,
    request: &RequestView,
    approver: &PersonView,
    offer: Option<&EndOffer<'_>>,
    now: DateTime<Utc>,
) -> Page {
    let says = &texts.outcome;
    let mut sentences = Vec::new();
    let tone = match request.standing() {
        Standing::Waiting { n_missing } => {
            sentences.push((says.approved_waits_for)(n_missing));
            Tone::Info
        }
        Standing::Approved => {
            sentences.push(says.already_approved.to_owned());
            Tone::Good
        }
        Standing::Rejected => {
            sentences.push(says.already_rejected.to_owned());
            Tone::Bad
        }
    };
    sentences.splice(0..0, decided_already(texts, request, approver));
    outcome(texts, tone, says.already_decided, sentences, request, now).offering(offer)
}

/// Who has decided, and when: the approver themselves, or those who settled it.
fn decided_already(texts: &Texts, request: &RequestView, approver: &PersonView) -> Option<String> {
    let says = &texts.outcome;
    let moment = |at| Moment::new(texts, at, request.zone).line();
    if let Some(own) = request.decision_of(approver) {
        return Some((says.already_by_you)(&moment(own.at)));
    }
    let by = match request.standing() {
        Standing::Waiting { .. } => return None,
        Standing::Approved => request.decisions.iter().collect::<Vec<_>>(),
        Standing::Rejected => vec![request.decisions.iter().find(|vote| !vote.approved)?],
    };
    let names: Vec<String> = by.iter().map(|vote| line(&vote.person.name)).collect();
    Some((says.already_by)(&names, &moment(by.last()?.at)))
}

/// What a link shows once the request is settled and something has come of it.
#[must_use]
pub fn settled_page(
    texts: &Texts,
    request: &RequestView,
    approver: &PersonView,
    stage: Stage,
    offer: Option<&EndOffer<'_>>,
    now: DateTime<Utc>,
) -> Page {
    let headline = texts.outcome.already_decided;
    let mut page = standing(texts, headline, request, stage, now);
    page.sentences
        .splice(0..0, decided_already(texts, request, approver));
    page.offering(offer)
}

/// What a link to end something shows, and what its `POST` is answered: where the request stands.
#[must_use]
pub fn standing_page(
    texts: &Texts,
    request: &RequestView,
    stage: Stage,
    offer: Option<&EndOffer<'_>>,
    now: DateTime<Utc>,
) -> Page {
    let says = &texts.outcome;
    let headline = match stage {
        Stage::Waiting => says.waits,
        Stage::Approved => says.approved,
        Stage::Open => texts.of_grant(&request.grant).open,
        Stage::Closing | Stage::EndedRoleStillOpen | Stage::Closed => says.over,
        Stage::Rejected => says.rejected,
        Stage::Refused => says.refused,
        Stage::Cancelled => says.cancelled,
    };
    standing(texts, headline, request, stage, now).offering(offer)
}

fn standing<'a>(
    texts: &'a Texts,
    headline: &'static str,
    request: &RequestView,
    stage: Stage,
    now: DateTime<Utc>,
) -> OutcomePage<'a> {
    let says = &texts.outcome;
    let of_grant = texts.of_grant(&request.grant);
    let (tone, sentence) = match stage {
        Stage::Waiting => (Tone::Info, says.still_waits),
        Stage::Open if request.reviewers.is_some() => {
            (Tone::Warn, says.already_open_without_approval)
        }
        Stage::Approved => (Tone::Good, says.already_approved),
        Stage::Open => (Tone::Good, of_grant.already_open),
        Stage::Closing => (Tone::Info, of_grant.closing_now),
        Stage::EndedRoleStillOpen => (Tone::Info, says.already_ended),
        Stage::Closed => (Tone::Info, of_grant.already_closed),
        Stage::Rejected => (Tone::Bad, says.already_rejected),
        Stage::Refused => (Tone::Warn, says.already_refused),
        Stage::Cancelled => (Tone::Warn, says.already_cancelled),
    };
    let mut sentences = vec![sentence.to_owned()];
    if let Some(ending) = &request.ending {
        let at = Moment::new(texts, ending.at, request.zone).line();
        let by = (texts.message.ended_by)(&line(&ending.by.name), &at);
        sentences.push(format!("{by} {}", line(&ending.why)));
    }
    let mut page = outcome(texts, tone, headline, sentences, request, now);
    // The votes alone say "it opens at …"; what has become of it says whether that still holds.
    match stage {
        Stage::Waiting | Stage::Approved => {}
        Stage::Open => page.request.opening = Some(of_grant.next_is_open_now.to_owned()),
        Stage::Closing
        | Stage::EndedRoleStillOpen
        | Stage::Closed
        | Stage::Rejected
        | Stage::Refused
        | Stage::Cancelled => {
            page.request.opening = None;
            page.request.opens.note.clear();
        }
    }
    page
}

/// The deadline, or the time that was asked for, has passed.
#[must_use]
pub fn expired_page(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> Page {
    let says = &texts.outcome;
    let utc = |at| Moment::new(texts, at, request.zone).line();
    let when = match request.window {
        WindowView::Fixed { end, .. } | WindowView::FromApprovalUntil { end }
            if end <= request.decide_by =>
        {
            (says.window_passed)(&utc(end))
        }
        _ => (says.expired_at)(&utc(request.decide_by)),
    };
    let sentences = vec![when, says.nothing_opened.to_owned()];
    outcome(texts, Tone::Warn, says.expired, sentences, request, now).render_with(410)
}

/// The link is good, but its holder may not decide.
#[must_use]
pub fn cannot_decide_page(
    texts: &Texts,
    request: &RequestView,
    why: CannotDecide,
    now: DateTime<Utc>,
) -> Page {
    let says = &texts.outcome;
    let sentence = match why {
        CannotDecide::YouAreTheRequester => says.you_are_the_requester,
        CannotDecide::NotAnApprover => says.not_an_approver,
        CannotDecide::OnlyBySignedCall => says.only_by_signed_call,
    };
    outcome(
        texts,
        Tone::Warn,
        says.cannot_decide,
        vec![sentence.to_owned()],
        request,
        now,
    )
    .render_with(403)
}

/// Unknown, tampered with or cut off: always the same page, which tells a stranger nothing.
#[must_use]
pub fn invalid_link_page(texts: &Texts) -> Page {
    notice(
        texts,
        texts.outcome.invalid_link,
        texts.outcome.invalid_link_help,
        "",
    )
    .render_with(404)
}

/// Something else is wrong; `reference` (the invocation's request id) leads to the log line.
#[must_use]
pub fn trouble_page(texts: &Texts, trouble: Trouble, reference: &str) -> Page {
    let says = &texts.outcome;
    let (status, headline, help) = match trouble {
        Trouble::BadForm => (400, says.bad_form, says.bad_form_help),
        Trouble::TooManyRequests => (429, says.too_many, says.too_many_help),
        Trouble::Temporary => (503, says.temporary, says.temporary_help),
    };
    notice(texts, headline, help, reference).render_with(status)
}

/// What the layout needs.
struct Frame {
    language: &'static str,
    title: String,
    style: &'static str,
    request_label: &'static str,
    /// Empty where no request is shown.
    request_id: String,
    never_asks: &'static str,
}

impl Frame {
    fn new(texts: &Texts, title: String, request_id: &str) -> Self {
        Self {
            language: texts.language.tag(),
            title,
            style: STYLE,
            request_label: texts.request.request_id,
            request_id: request_id.to_owned(),
            never_asks: texts.form.never_asks,
        }
    }
}

/// The field with a problem, and the sentence about it.
struct Problem {
    field: &'static str,
    said: String,
}

fn problem(texts: &Texts, draft: &Draft, request: &RequestView, text: &RequestText) -> Problem {
    let says = &texts.form;
    let typed = &draft.typed;
    match &draft.problem {
        FormProblem::NoDecision => Problem {
            field: FIELD_DECISION,
            said: says.no_decision.to_owned(),
        },
        FormProblem::RoleDoesNotMatch => Problem {
            field: FIELD_ROLE,
            said: (says.role_does_not_match)(&text.role),
        },
        FormProblem::CommentTooLong => {
            let n_chars = typed.comment.chars().count();
            Problem {
                field: FIELD_COMMENT,
                said: (says.comment_too_long)(COMMENT_MAX_CHARS, n_chars),
            }
        }
        FormProblem::CommentMissing => Problem {
            field: FIELD_COMMENT,
            said: says.comment_missing.to_owned(),
        },
        FormProblem::NotATime { field, fault } => Problem {
            field,
            said: match fault {
                FaultName::AmbiguousLocalTime => (says.time_twice)(request.zone.name()),
                FaultName::NonexistentLocalTime => (says.time_never)(request.zone.name()),
                _ => says.time_unreadable.to_owned(),
            },
        },
        FormProblem::CannotApprove(why) => Problem {
            field: match why {
                CannotApprove::StartTooEarly { .. } => FIELD_START,
                CannotApprove::EndTooLate { .. } => FIELD_END,
                CannotApprove::RoleInUse(_) => FIELD_START,
                _ if typed.end.is_empty() => FIELD_START,
                _ => FIELD_END,
            },
            said: cannot_approve(texts, why, request),
        },
    }
}

fn cannot_approve(texts: &Texts, why: &CannotApprove, request: &RequestView) -> String {
    let says = &texts.form;
    let line = |at| Moment::new(texts, at, request.zone).line();
    match *why {
        CannotApprove::StartTooEarly { earliest } => (says.start_too_early)(&line(earliest)),
        CannotApprove::EndTooLate { latest } => (says.end_too_late)(&line(latest)),
        CannotApprove::TooShort { left, least } => {
            (says.too_short)(&duration(texts, left), &duration(texts, least))
        }
        CannotApprove::TooShortTogether { left, least } => {
            (says.too_short_together)(&duration(texts, left), &duration(texts, least))
        }
        CannotApprove::RoleInUse(ref in_use) => {
            let until = line(in_use.until);
            match &in_use.holder {
                Holder::Person(person) => (says.role_in_use)(&name(person), &until),
                Holder::ByHand => (says.role_in_use_by_hand)(&until),
                Holder::Unknown => (says.role_in_use_by_somebody)(&until),
            }
        }
    }
}

#[derive(Template)]
#[template(path = "decision.html")]
struct DecisionPage<'a> {
    frame: Frame,
    texts: &'a Texts,
    heading: String,
    lead: String,
    deciding_as: String,
    comment_hint: String,
    as_of: String,
    typed: &'a Typed,
    /// Whether the fields for less time are shown at once.
    narrows: bool,
    narrow_hint: String,
    not_before_hint: String,
    not_after_hint: String,
    problem: Option<Problem>,
    request: &'a RequestText,
}

impl DecisionPage<'_> {
    fn problem_with(&self, field: &str) -> Option<&str> {
        said_about(self.problem.as_ref(), field)
    }
}

fn said_about<'a>(problem: Option<&'a Problem>, field: &str) -> Option<&'a str> {
    let problem = problem.filter(|problem| problem.field == field)?;
    Some(&problem.said)
}

/// How an outcome feels; the words say it too.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Warn,
    Info,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Warn => "warn",
            Tone::Info => "info",
        }
    }
}

#[derive(Template)]
#[template(path = "outcome.html")]
struct OutcomePage<'a> {
    frame: Frame,
    texts: &'a Texts,
    tone: &'static str,
    headline: &'static str,
    sentences: Vec<String>,
    request: RequestText,
    /// The form to end it, where it can be ended.
    end: Option<EndCard>,
}

/// The form to end something.
struct EndCard {
    heading: &'static str,
    consequence: &'static str,
    ending_as: String,
    reason_hint: String,
    button: &'static str,
    typed: EndTyped,
    problem: Option<Problem>,
}

impl EndCard {
    fn new(texts: &Texts, offer: &EndOffer<'_>, request: &RequestText) -> Self {
        let says = &texts.ending;
        let (heading, consequence, button) = if offer.is_open {
            (says.end_window, request.end_means, says.end_window_now)
        } else {
            (says.cancel, says.cancel_means, says.cancel_now)
        };
        Self {
            heading,
            consequence,
            ending_as: (says.ending_as)(&line(&offer.person.name)),
            reason_hint: (says.reason_hint)(COMMENT_MAX_CHARS),
            button,
            typed: offer
                .draft
                .map(|draft| draft.typed.clone())
                .unwrap_or_default(),
            problem: offer.draft.map(|draft| {
                let (field, said) = match draft.problem {
                    EndProblem::NotPressed => (FIELD_ENDING, (says.not_pressed)(button)),
                    EndProblem::ReasonMissing => (FIELD_REASON, says.reason_missing.to_owned()),
                    EndProblem::ReasonTooLong => {
                        let n_chars = draft.typed.reason.chars().count();
                        (
                            FIELD_REASON,
                            (says.reason_too_long)(COMMENT_MAX_CHARS, n_chars),
                        )
                    }
                    EndProblem::RoleDoesNotMatch => {
                        (FIELD_ROLE, (says.role_does_not_match)(&request.role))
                    }
                };
                Problem { field, said }
            }),
        }
    }

    fn problem_with(&self, field: &str) -> Option<&str> {
        said_about(self.problem.as_ref(), field)
    }
}

impl OutcomePage<'_> {
    /// The finished page, with the form to end it if that is offered.
    fn offering(mut self, offer: Option<&EndOffer<'_>>) -> Page {
        self.end = offer.map(|offer| EndCard::new(self.texts, offer, &self.request));
        let Some(problem) = self.end.as_ref().and_then(|end| end.problem.as_ref()) else {
            return self.render_with(200);
        };
        // A screen reader says the title first.
        let labelled = self.texts.words.labelled;
        self.frame.title = labelled(self.texts.form.not_recorded, &problem.said);
        self.render_with(422)
    }
}

fn outcome<'a>(
    texts: &'a Texts,
    tone: Tone,
    headline: &'static str,
    sentences: Vec<String>,
    request: &RequestView,
    now: DateTime<Utc>,
) -> OutcomePage<'a> {
    let request = RequestText::new(texts, request, now);
    OutcomePage {
        frame: Frame::new(texts, headline.to_owned(), &request.request_id),
        texts,
        tone: tone.class(),
        headline,
        sentences,
        request,
        end: None,
    }
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage {
    frame: Frame,
    tone: &'static str,
    headline: &'static str,
    help: &'static str,
    reference_label: &'static str,
    /// Empty where there is none.
    reference: String,
}

fn notice(
    texts: &Texts,
    headline: &'static str,
    help: &'static str,
    reference: &str,
) -> NoticePage {
    NoticePage {
        tone: Tone::Warn.class(),
        frame: Frame::new(texts, headline.to_owned(), ""),
        headline,
        help,
        reference_label: texts.outcome.reference,
        reference: line(reference),
    }
}

/// Rendering, the same for every template.
trait RenderPage: Template {
    fn render_with(&self, status: u16) -> Page {
        // The only error there is comes from the writer, and a String never refuses.
        let html = self.render().expect("a template renders into a string");
        Page { status, html }
    }
}

impl<T: Template> RenderPage for T {}
