//! From a stored request to what people see of it.

use access_core::{Request, Verdict, Vote, Window, WindowSpec};
use chrono::TimeDelta;

use crate::{DecisionView, PersonView, RequestView, WindowView};

impl RequestView {
    /// The view of `request`: with its settled window, if it has one, and the votes in the order of their times.
    #[must_use]
    pub fn of(request: &Request, settled: Option<Window>, votes: &[Vote]) -> Self {
        let person = |person: &access_core::request::PersonRef| PersonView {
            id: person.id.to_string(),
            name: person.name.clone(),
        };
        let mut votes: Vec<&Vote> = votes.iter().collect();
        votes.sort_by_key(|vote| vote.at);
        Self {
            request_id: request.request_id.to_string(),
            target: request.target.to_string(),
            role: request.role.to_string(),
            requester: person(&request.requester),
            reason: request.reason.clone(),
            window: window_view(request, settled),
            zone: request.database.display_zone(),
            decide_by: request.decide_by,
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
                })
                .collect(),
        }
    }
}

fn window_view(request: &Request, settled: Option<Window>) -> WindowView {
    if let Some(window) = settled {
        return WindowView::Fixed {
            start: window.start(),
            end: window.end(),
        };
    }
    match request.window {
        WindowSpec::Fixed { window } => WindowView::Fixed {
            start: window.start(),
            end: window.end(),
        },
        WindowSpec::UntilEnd { end } => WindowView::FromApprovalUntil { end },
        WindowSpec::ForDuration { seconds } => {
            let duration = TimeDelta::seconds(seconds);
            WindowView::FromApprovalFor {
                duration,
                latest_end: request.decide_by + duration,
            }
        }
    }
}
