//! A request in words: the parts that pages and messages share.

use access_core::RoleCredential;
use access_core::plain_text::{
    Layout, REPLACEMENT, code_points, is_neutralised, is_refused_in_names, neutralise, shorten,
};
use access_core::{Finding, Grant, Narrowing};
use chrono::{DateTime, TimeDelta, Utc};

use crate::moment::{Moment, duration, time_left};
use crate::texts::{Given, Texts};
use crate::view::{DecisionView, Extension, PersonView, RequestView, Standing, WindowView};

/// More than any rule lets through, made harmless; a second lock against flooding a page or a message.
const MAX_TEXT_CHARS: usize = 4_000;

/// The same for a name or a sentence.
const MAX_LINE_CHARS: usize = 600;

/// Text of a person, harmless, on one line.
pub(crate) fn line(text: &str) -> String {
    shorten(&neutralise(text, Layout::OneLine), MAX_LINE_CHARS)
}

/// Text of a person, harmless, with its line breaks.
pub(crate) fn lines(text: &str) -> String {
    shorten(&neutralise(text, Layout::Lines), MAX_TEXT_CHARS)
}

/// One end of the window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct When {
    /// In words, such as "as soon as it is approved"; empty where the moment says it all.
    pub(crate) said: String,
    /// The moment, if it is known.
    pub(crate) moment: Option<Moment>,
    /// What to add, such as how long until then; may be empty.
    pub(crate) note: String,
}

/// A request in words, at one moment.
#[derive(Debug)]
pub(crate) struct RequestText {
    pub(crate) requester: String,
    pub(crate) requester_name: String,
    /// Whether the requester is verified or claimed, and what that means.
    pub(crate) proof: &'static str,
    pub(crate) proof_hint: &'static str,
    pub(crate) role: String,
    /// What the window gives.
    pub(crate) kind: String,
    /// What ending the window does.
    pub(crate) end_means: &'static str,
    /// What the role's name contains beside ASCII; empty if nothing.
    pub(crate) role_note: String,
    pub(crate) findings: Vec<FindingText>,
    pub(crate) other_windows: Vec<String>,
    /// The label of the target.
    pub(crate) place: &'static str,
    pub(crate) target: String,
    pub(crate) request_id: String,
    pub(crate) reason: String,
    pub(crate) reason_was_changed: bool,
    pub(crate) opens: When,
    pub(crate) closes: When,
    pub(crate) how_long: String,
    /// What was asked for, if approvers left less.
    pub(crate) asked: Option<String>,
    /// What it adds to an open window of the same person, if it does.
    pub(crate) extension: Option<String>,
    pub(crate) rule: String,
    pub(crate) rule_sentence: String,
    pub(crate) progress: String,
    pub(crate) is_waiting: bool,
    pub(crate) decide_by: Moment,
    pub(crate) decide_note: String,
    pub(crate) decisions: Vec<DecisionText>,
    /// When the login opens; `None` when it never will, or has.
    pub(crate) opening: Option<String>,
    pub(crate) risk: String,
    pub(crate) closing: String,
    /// What happens without approval; `None` once it is decided.
    pub(crate) expiry: Option<String>,
}

/// What the database says about the role, in words.
#[derive(Debug)]
pub(crate) struct FindingText {
    pub(crate) said: String,
    pub(crate) is_grave: bool,
}

/// A vote in words.
#[derive(Debug)]
pub(crate) struct DecisionText {
    pub(crate) approved: bool,
    pub(crate) said: String,
    pub(crate) at: Moment,
    /// What of the window was approved; empty if all of it.
    pub(crate) narrowing: String,
    /// Empty if there is none.
    pub(crate) comment: String,
}

impl RequestText {
    pub(crate) fn new(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> Self {
        let moment = |at| Moment::new(texts, at, request.zone);
        let approvers: Vec<String> = request
            .approvers
            .iter()
            .map(|person| line(&person.name))
            .collect();
        let (proof, proof_hint) = if request.requester_is_verified {
            (texts.request.verified, texts.request.verified_hint)
        } else {
            (texts.request.claimed, texts.request.claimed_hint)
        };
        let is_waiting = matches!(request.standing(), Standing::Waiting { .. });
        let n_approved = request
            .decisions
            .iter()
            .filter(|decision| decision.approved)
            .count();
        let decide_note = if request.decide_by > now {
            (texts.request.time_left)(&time_left(texts, now, request.decide_by))
        } else {
            texts.request.deadline_passed.to_owned()
        };
        let says = texts.of_grant(&request.grant);
        let given = given(request);
        let requester_name = line(&request.requester.name);
        let (rule, progress) = match reviewers(request) {
            None => (
                (texts.request.approvals_needed)(request.required_approvals, &approvers),
                (texts.request.progress)(n_approved, request.required_approvals),
            ),
            Some(reviewers) => (
                (texts.request.without_approval)(&requester_name, &reviewers),
                (texts.request.opened_without_approval)(&requester_name),
            ),
        };
        Self {
            requester: person(texts, &request.requester),
            requester_name,
            proof,
            proof_hint,
            role: name(&request.role),
            kind: (says.kind)(&given),
            end_means: says.end_window_means,
            role_note: code_points(&request.role)
                .map(|code_points| (texts.request.foreign_characters)(&code_points))
                .unwrap_or_default(),
            findings: request
                .findings
                .iter()
                .map(|finding| finding_text(texts, finding))
                .collect(),
            other_windows: other_windows(texts, request, now),
            place: texts.of_grant(&request.grant).place,
            target: name(&request.target),
            request_id: name(&request.request_id),
            reason: lines(&request.reason),
            reason_was_changed: is_neutralised(&request.reason),
            opens: opens(texts, request, now),
            closes: closes(texts, request),
            how_long: how_long(texts, request, now),
            asked: request
                .asked
                .as_ref()
                .map(|asked| asked_for(texts, request, asked)),
            extension: extension(texts, request, now),
            rule_sentence: (texts.words.sentence)(&rule),
            rule,
            progress,
            is_waiting,
            decide_by: moment(request.decide_by),
            decide_note,
            decisions: request
                .decisions
                .iter()
                .map(|decision| decision_text(texts, request, decision))
                .collect(),
            opening: opening(texts, request, now),
            risk: match request.credential {
                RoleCredential::PerWindow => {
                    (texts.request.next_is_open_for)(&line(&request.requester.name))
                }
                RoleCredential::Existing => (says.next_is_open)(&given),
            },
            closing: closing(texts, request),
            expiry: is_waiting
                .then(|| (texts.request.next_expires)(&moment(request.decide_by).utc)),
        }
    }

    /// What happens next, in order; empty when it is over.
    pub(crate) fn next_steps(&self) -> Vec<String> {
        let Some(opening) = &self.opening else {
            return Vec::new();
        };
        let mut steps = vec![opening.clone(), self.risk.clone(), self.closing.clone()];
        steps.extend(self.expiry.clone());
        steps
    }

    /// `breakglass`, or `rоle (contains U+043E)`.
    pub(crate) fn role_spelt_out(&self, texts: &Texts) -> String {
        if self.role_note.is_empty() {
            self.role.clone()
        } else {
            (texts.words.noted)(&self.role, &self.role_note)
        }
    }
}

/// A name from the catalogue, to be read and typed letter by letter: nothing is defanged, hidden characters are shown.
/// The rules for names let none through; this is the second lock.
pub(crate) fn name(name: &str) -> String {
    name.chars()
        .map(|character| {
            if is_refused_in_names(character) {
                REPLACEMENT
            } else {
                character
            }
        })
        .collect()
}

fn given(request: &RequestView) -> Given {
    let (role, user) = match &request.grant {
        Grant::Login | Grant::AssumeRole(_) => (request.role.as_str(), request.role.as_str()),
        Grant::Membership(membership) => (membership.role.as_str(), membership.user.as_str()),
    };
    Given {
        role: name(role),
        user: name(user),
    }
}

/// `Alice Example (alice)`.
fn person(texts: &Texts, person: &PersonView) -> String {
    (texts.words.person)(&line(&person.name), &line(&person.id))
}

fn decision_text(texts: &Texts, request: &RequestView, decision: &DecisionView) -> DecisionText {
    let name = line(&decision.person.name);
    let said = if request.reviewers.is_some() {
        (texts.request.opened_without_approval)(&name)
    } else if decision.approved {
        (texts.request.approved_by)(&name)
    } else {
        (texts.request.rejected_by)(&name)
    };
    DecisionText {
        approved: decision.approved,
        said,
        at: Moment::new(texts, decision.at, request.zone),
        narrowing: decision
            .narrowing
            .map(|narrowing| only(texts, request, narrowing))
            .unwrap_or_default(),
        comment: lines(&decision.comment),
    }
}

/// The names of those who must review it, if it is opened without approval.
pub(crate) fn reviewers(request: &RequestView) -> Option<Vec<String>> {
    let reviewers = request.reviewers.as_ref()?;
    Some(reviewers.iter().map(|it| line(&it.name)).collect())
}

/// The most names in one sentence.
const MAX_NAMES: usize = 8;

pub(crate) fn finding_text(texts: &Texts, finding: &Finding) -> FindingText {
    let says = &texts.request;
    let listed = |roles: &[String]| -> Vec<String> {
        let mut names: Vec<String> = roles
            .iter()
            .take(MAX_NAMES)
            .map(|role| line(role))
            .collect();
        if roles.len() > MAX_NAMES {
            names.push((says.and_more)(roles.len() - MAX_NAMES));
        }
        names
    };
    let said = match finding {
        Finding::MemberOf { roles } => (says.member_of)(&listed(roles)),
        Finding::ActedAsBy { roles } => (says.acted_as_by)(&listed(roles)),
        Finding::CreateRole => says.creates_roles.to_owned(),
        Finding::CreateDatabase => says.creates_databases.to_owned(),
        Finding::Replication => says.replicates.to_owned(),
        Finding::BypassRowSecurity => says.bypasses_row_security.to_owned(),
        Finding::EndsSessions => says.ends_sessions.to_owned(),
        Finding::MayAssume {
            grantee,
            role_arn,
            policy_name,
        } => (says.may_assume)(&line(grantee), &line(role_arn), &line(policy_name)),
        Finding::SessionsRunOut { seconds } => {
            (says.sessions_run_out)(&duration(texts, TimeDelta::seconds(*seconds)))
        }
        Finding::OpenedOutsideWindows => says.opened_outside_windows.to_owned(),
        Finding::ReachesLatchkey => says.reaches_latchkey.to_owned(),
    };
    FindingText {
        said,
        is_grave: finding.is_grave(),
    }
}

fn other_windows(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> Vec<String> {
    let says = &texts.request;
    let line = |at| Moment::new(texts, at, request.zone).line();
    request
        .other_windows
        .iter()
        .map(|other| {
            let id = name(&other.request_id);
            if other.start <= now {
                (says.other_window_is_open)(&line(other.end), &id)
            } else {
                (says.other_window)(&line(other.start), &line(other.end), &id)
            }
        })
        .collect()
}

fn extension(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> Option<String> {
    let says = &texts.request;
    let line = |at| Moment::new(texts, at, request.zone).line();
    let Extension { open_until, until } = request.extension(now)?;
    Some(if until == open_until {
        (says.extends_nothing)(&line(open_until))
    } else if request.standing() == Standing::Approved {
        (says.extended)(&line(open_until), &line(until))
    } else {
        (says.extends)(&line(open_until), &line(until))
    })
}

/// What one approver left of the window.
fn only(texts: &Texts, request: &RequestView, narrowing: Narrowing) -> String {
    let says = &texts.request;
    let line = |at| Moment::new(texts, at, request.zone).line();
    match (narrowing.start().map(line), narrowing.end().map(line)) {
        (Some(start), Some(end)) => (says.only_from_to)(&start, &end),
        (Some(start), None) => (says.only_from)(&start),
        (None, Some(end)) => (says.only_until)(&end),
        (None, None) => String::new(),
    }
}

/// The window that was asked for, on one line.
fn asked_for(texts: &Texts, request: &RequestView, asked: &WindowView) -> String {
    let says = &texts.request;
    let line = |at| Moment::new(texts, at, request.zone).line();
    match *asked {
        WindowView::Fixed { start, end } => (says.from_to)(&line(start), &line(end)),
        WindowView::FromApprovalUntil { end } => (says.from_approval_until)(&line(end)),
        WindowView::FromApprovalFor {
            duration: length, ..
        } => (says.from_approval_for)(&duration(texts, length)),
    }
}

/// Whether approvals are still awaited and can still be given.
fn is_undecided(request: &RequestView, now: DateTime<Utc>) -> bool {
    matches!(request.standing(), Standing::Waiting { .. }) && request.decide_by > now
}

fn opens(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> When {
    let as_soon_as = |note| When {
        said: texts.request.as_soon_as_approved.to_owned(),
        moment: None,
        note,
    };
    match request.window {
        WindowView::Fixed { start, .. } if start <= now && is_undecided(request, now) => {
            let start = Moment::new(texts, start, request.zone);
            as_soon_as((texts.request.planned_start_passed)(&start.utc))
        }
        WindowView::Fixed { start, .. } => When {
            said: String::new(),
            moment: Some(Moment::new(texts, start, request.zone)),
            note: if start > now && request.standing() != Standing::Rejected {
                (texts.request.starts_in)(&time_left(texts, now, start))
            } else {
                String::new()
            },
        },
        WindowView::FromApprovalFor {
            not_before: Some(start),
            ..
        } if start > now => {
            let start = Moment::new(texts, start, request.zone);
            as_soon_as((texts.request.not_before)(&start.line()))
        }
        WindowView::FromApprovalUntil { .. } | WindowView::FromApprovalFor { .. } => {
            as_soon_as(String::new())
        }
    }
}

fn closes(texts: &Texts, request: &RequestView) -> When {
    let moment = |at| Some(Moment::new(texts, at, request.zone));
    match request.window {
        WindowView::Fixed { end, .. } | WindowView::FromApprovalUntil { end } => When {
            said: String::new(),
            moment: moment(end),
            note: String::new(),
        },
        WindowView::FromApprovalFor {
            duration: length,
            latest_end,
            ..
        } => {
            let latest = Moment::new(texts, latest_end, request.zone);
            When {
                said: (texts.request.after_approval)(&duration(texts, length)),
                moment: None,
                note: (texts.request.latest_end)(&latest.line()),
            }
        }
    }
}

fn how_long(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> String {
    match request.window {
        WindowView::Fixed { start, end } => {
            let asked = duration(texts, end - start);
            if start < now && is_undecided(request, now) {
                (texts.request.would_remain)(&time_left(texts, now, end), &asked)
            } else {
                asked
            }
        }
        WindowView::FromApprovalUntil { end } => {
            (texts.request.if_approved_now)(&time_left(texts, now, end))
        }
        WindowView::FromApprovalFor {
            duration: length,
            latest_end,
            not_before,
        } => {
            let start = not_before.map_or(now, |start| start.max(now));
            let left = (now + length).min(latest_end) - start;
            if left == length {
                duration(texts, length)
            } else {
                (texts.request.if_approved_now)(&time_left(texts, start, start + left))
            }
        }
    }
}

/// When the login opens, while it is undecided or once it is approved; `None` when it is over.
fn opening(texts: &Texts, request: &RequestView, now: DateTime<Utc>) -> Option<String> {
    let said = texts.of_grant(&request.grant);
    let utc = |at| Moment::new(texts, at, request.zone).utc;
    match (request.standing(), &request.window) {
        (Standing::Rejected, _) => None,
        (Standing::Waiting { .. }, _) if request.decide_by <= now => None,
        (Standing::Waiting { n_missing }, WindowView::Fixed { start, .. }) if *start > now => {
            Some((said.next_opens_at_when_approved)(n_missing, &utc(*start)))
        }
        (
            Standing::Waiting { n_missing },
            WindowView::FromApprovalFor {
                not_before: Some(start),
                ..
            },
        ) if *start > now => Some((said.next_opens_at_when_approved)(n_missing, &utc(*start))),
        (Standing::Waiting { n_missing }, _) => Some((said.next_opens_when_approved)(n_missing)),
        (Standing::Approved, WindowView::Fixed { start, .. }) if *start > now => {
            Some((said.next_opens_at)(&utc(*start)))
        }
        (Standing::Approved, WindowView::Fixed { end, .. }) if *end <= now => None,
        (Standing::Approved, _) => Some(said.next_opens_now.to_owned()),
    }
}

fn closing(texts: &Texts, request: &RequestView) -> String {
    let said = texts.of_grant(&request.grant);
    match request.window {
        WindowView::Fixed { end, .. } | WindowView::FromApprovalUntil { end } => {
            (said.next_closes_at)(&Moment::new(texts, end, request.zone).utc)
        }
        WindowView::FromApprovalFor {
            duration: length,
            latest_end,
            ..
        } if request.asked.is_some() => (said.next_closes_after_at_latest)(
            &duration(texts, length),
            &Moment::new(texts, latest_end, request.zone).utc,
        ),
        WindowView::FromApprovalFor {
            duration: length, ..
        } => (said.next_closes_after)(&duration(texts, length)),
    }
}
