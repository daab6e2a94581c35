//! From a stored request to what people see of it.

use access_core::request::PersonRef;
use access_core::{
    Ending, Narrowing, Request, Verdict, Vote, Window, WindowRow, WindowSpec, decision,
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{DecisionView, EndingView, OtherWindow, PersonView, RequestView, WindowView};

impl RequestView {
    /// The view of `request`: with its settled window, if it has one, and the votes in the order of their times; without
    /// findings and other windows.
    #[must_use]
    pub fn of(request: &Request, settled: Option<Window>, votes: &[Vote]) -> Self {
        let person = |person: &PersonRef| PersonView {
            id: person.id.to_string(),
            name: person.name.clone(),
        };
        let narrowing = decision::narrowed_by(request, votes);
        let decide_by = decision::deadline(request, votes);
        let mut votes: Vec<&Vote> = votes.iter().collect();
        votes.sort_by_key(|vote| vote.at);
        Self {
            request_id: request.request_id.to_string(),
            target: request.target.to_string(),
            role: request.role.to_string(),
            grant: request.grant.clone(),
            findings: Vec::new(),
            other_windows: Vec::new(),
            requester: person(&request.requester),
            requester_is_verified: !request.requester_proof.is_claim(),
            ending: None,
            reviewers: request
                .break_glass
                .as_ref()
                .map(|it| it.reviewers.iter().map(person).collect()),
            reason: request.reason.clone(),
            credential: request.credential,
            window: match settled {
                Some(window) => fixed(window),
                None => undecided(request, narrowing),
            },
            asked: narrowing.map(|_| undecided(request, None)),
            zone: request.place.display_zone(),
            decide_by,
            required_approvals: usize::from(request.required_approvals),
            approvers: request.approvers.iter().map(person).collect(),
            decisions: votes
                .into_iter()
                .map(|vote| DecisionView {
                    person: PersonView {
                        id: vote.approver.to_string(),
                        name: request.name_of(&vote.approver).to_owned(),
                    },
                    approved: vote.verdict == Verdict::Approve,
                    at: vote.at,
                    comment: vote.comment.clone(),
                    narrowing: vote.narrowing,
                })
                .collect(),
        }
    }

    /// The same with those of the role's windows that are not over and are not its own, in order.
    #[must_use]
    pub fn beside(mut self, request: &Request, rows: &[WindowRow], now: DateTime<Utc>) -> Self {
        let is_requester = |person: &PersonRef| person.id == request.requester.id;
        self.other_windows = rows
            .iter()
            .filter(|row| row.request_id != request.request_id && !row.is_over(now))
            .map(|row| OtherWindow {
                request_id: row.request_id.to_string(),
                start: row.window.start(),
                end: row.over_at(),
                of_requester: row.requester.as_ref().is_some_and(is_requester),
            })
            .collect();
        self.other_windows.sort_by_key(|other| other.start);
        self
    }

    /// The same with who ended it, if somebody did.
    #[must_use]
    pub fn ended_by(mut self, ending: Option<&Ending>) -> Self {
        self.ending = ending.map(|ending| EndingView {
            by: PersonView {
                id: ending.by.id.to_string(),
                name: ending.by.name.clone(),
            },
            at: ending.at,
            why: ending.why.clone(),
        });
        self
    }
}

fn fixed(window: Window) -> WindowView {
    WindowView::Fixed {
        start: window.start(),
        end: window.end(),
    }
}

/// The window as it is before the decision: as asked, or what `narrowing` leaves of that.
fn undecided(request: &Request, narrowing: Option<Narrowing>) -> WindowView {
    let not_before = narrowing.and_then(|narrowing| narrowing.start());
    let not_after = narrowing.and_then(|narrowing| narrowing.end());
    let earlier = |end: DateTime<Utc>| not_after.map_or(end, |not_after| end.min(not_after));
    match request.window {
        WindowSpec::Fixed { window } => WindowView::Fixed {
            start: not_before.map_or(window.start(), |start| start.max(window.start())),
            end: earlier(window.end()),
        },
        WindowSpec::UntilEnd { end } => match not_before {
            Some(start) => WindowView::Fixed {
                start,
                end: earlier(end),
            },
            None => WindowView::FromApprovalUntil { end: earlier(end) },
        },
        WindowSpec::ForDuration { seconds } => {
            let duration = TimeDelta::seconds(seconds);
            WindowView::FromApprovalFor {
                duration,
                latest_end: earlier(request.decide_by + duration),
                not_before,
            }
        }
    }
}
