//! What pages and messages are made of: plain data, filled from the table by the functions.

use access_core::RoleCredential;
use access_core::{Finding, Grant, Narrowing};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// A person, as the catalogue (or, for the requester, the request) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonView {
    /// The catalogue's id, such as `alice`.
    pub id: String,
    /// The name for people, such as `Alice Example`.
    pub name: String,
}

/// One recorded vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionView {
    /// Who decided.
    pub person: PersonView,
    /// Whether it was an approval; otherwise a rejection.
    pub approved: bool,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// What the person wrote; empty if nothing.
    pub comment: String,
    /// What they approved of the window, if not all of it.
    pub narrowing: Option<Narrowing>,
}

/// Another window of the same role that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherWindow {
    /// The request that it belongs to.
    pub request_id: String,
    /// Opens at, or opened at.
    pub start: DateTime<Utc>,
    /// Closes at.
    pub end: DateTime<Utc>,
    /// Whether it is the requester's too.
    pub of_requester: bool,
}

/// What a request adds to a window that its requester has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extension {
    /// Until when the role is open now.
    pub(crate) open_until: DateTime<Utc>,
    /// Until when it would be open with this request, approved now or as it was approved. Never earlier.
    pub(crate) until: DateTime<Utc>,
}

/// Who ended a request or its window before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingView {
    /// Who.
    pub by: PersonView,
    /// When.
    pub at: DateTime<Utc>,
    /// Why, as they wrote it.
    pub why: String,
}

/// When the login is open, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowView {
    /// From one moment to another. Also what an approved request has settled to.
    Fixed {
        /// Opens at.
        start: DateTime<Utc>,
        /// Closes at.
        end: DateTime<Utc>,
    },
    /// Opens with the last approval that is needed.
    FromApprovalUntil {
        /// Closes at.
        end: DateTime<Utc>,
    },
    /// Opens with the last approval that is needed, and stays open for a while.
    FromApprovalFor {
        /// Stays open for.
        duration: TimeDelta,
        /// Closes at this at the latest, whenever it is approved.
        latest_end: DateTime<Utc>,
        /// Does not open before this, if approvers want it so.
        not_before: Option<DateTime<Utc>>,
    },
}

/// One request, as the people who decide on it see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestView {
    /// The request's id: `a-z`, `0-9` and `-`.
    pub request_id: String,
    /// The catalogue's id of the database: `a-z`, `0-9` and `-`.
    pub target: String,
    /// The name of the `PostgreSQL` role.
    pub role: String,
    /// What the window gives.
    pub grant: Grant,
    /// What the database says about the role.
    pub findings: Vec<Finding>,
    /// Other windows of the role.
    pub other_windows: Vec<OtherWindow>,
    /// Who asks.
    pub requester: PersonView,
    /// Whether AWS has verified that; otherwise it is shown as a claim.
    pub requester_is_verified: bool,
    /// Who ended it before its time, if somebody did.
    pub ending: Option<EndingView>,
    /// Who must review it, if it is opened without approval.
    pub reviewers: Option<Vec<PersonView>>,
    /// Why, as the requester wrote it.
    pub reason: String,
    /// Whose password opens the role.
    pub credential: RoleCredential,
    /// When the login is open, as far as approvers have left it.
    pub window: WindowView,
    /// What was asked for, if approvers left less.
    pub asked: Option<WindowView>,
    /// The catalogue's time zone; every time is shown in it and in UTC.
    pub zone: Tz,
    /// When the request expires.
    pub decide_by: DateTime<Utc>,
    /// How many people must approve.
    pub required_approvals: usize,
    /// Who may decide.
    pub approvers: Vec<PersonView>,
    /// The votes so far, in order of time.
    pub decisions: Vec<DecisionView>,
}

/// Where a request stands, by its votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// So many approvals are still needed.
    Waiting { n_missing: usize },
    /// Enough people approved.
    Approved,
    /// Somebody rejected.
    Rejected,
}

impl RequestView {
    /// One rejection ends it; otherwise the approvals count.
    pub(crate) fn standing(&self) -> Standing {
        if self.decisions.iter().any(|decision| !decision.approved) {
            return Standing::Rejected;
        }
        match self.required_approvals.saturating_sub(self.decisions.len()) {
            0 => Standing::Approved,
            n_missing => Standing::Waiting { n_missing },
        }
    }

    /// Whether another window of the requester is armed and covers this moment.
    #[must_use]
    pub fn goes_on_at(&self, at: DateTime<Utc>) -> bool {
        self.others_to_go_on_from()
            .any(|other| other.start <= at && at < other.end)
    }

    /// The requester's other windows that one goes on from. Of a role of AWS there is none: each window has sessions of its
    /// own.
    fn others_to_go_on_from(&self) -> impl Iterator<Item = &OtherWindow> {
        let can_go_on = self.grant.assume_role().is_none();
        let others = self.other_windows.iter();
        others.filter(move |other| other.of_requester && can_go_on)
    }

    /// What it adds to a window of the same person that is open now, if it begins before that one ends; `None` if it is
    /// over, will not be, or stands by itself.
    pub(crate) fn extension(&self, now: DateTime<Utc>) -> Option<Extension> {
        let is_out = match self.standing() {
            Standing::Rejected => true,
            Standing::Waiting { .. } => self.decide_by <= now,
            Standing::Approved => false,
        };
        let (start, end) = match self.window {
            WindowView::Fixed { start, end } => (start, end),
            WindowView::FromApprovalUntil { end } => (now, end),
            WindowView::FromApprovalFor {
                duration,
                latest_end,
                not_before,
            } => {
                let start = not_before.map_or(now, |start| start.max(now));
                (start, (now + duration).min(latest_end))
            }
        };
        if is_out || self.ending.is_some() || end <= now {
            return None;
        }
        let before = self.others_to_go_on_from().filter(|other| {
            let is_open = other.start <= now && now < other.end;
            is_open && other.start <= start && start < other.end
        });
        let open_until = before.map(|other| other.end).max()?;
        Some(Extension {
            open_until,
            until: end.max(open_until),
        })
    }

    /// The earliest start and the latest end that an approval at `now` can leave.
    pub(crate) fn bounds(&self, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        match *self.asked.as_ref().unwrap_or(&self.window) {
            WindowView::Fixed { start, end } => (start.max(now), end),
            WindowView::FromApprovalUntil { end } => (now, end),
            WindowView::FromApprovalFor { latest_end, .. } => (now, latest_end),
        }
    }

    /// The vote of this person, if there is one.
    pub(crate) fn decision_of(&self, person: &PersonView) -> Option<&DecisionView> {
        self.decisions
            .iter()
            .find(|decision| decision.person.id == person.id)
    }
}
