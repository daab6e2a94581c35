//! Converge: from all windows of a role to whether it may log in now. The only place that decides it.
//! [`carry_out`] makes it so.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::names::RequestId;
use crate::request::PersonRef;
use crate::window::Window;

pub mod carry_out;

/// A window that is not proved closed yet, as the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRow {
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// Whose it is. Windows of release 0.1 do not say, and those opened by hand are nobody's.
    #[serde(default)]
    pub requester: Option<PersonRef>,
    /// From when to when.
    pub window: Window,
    /// When the role was first seen open for it. Whoever finds it closed after that must not open it again:
    /// the database's owner has the last word.
    #[serde(default)]
    pub opened_at: Option<DateTime<Utc>>,
    /// When it was ended early, if it was.
    pub ended_at: Option<DateTime<Utc>>,
    /// By whom or what it was ended early.
    #[serde(default)]
    pub ended_by: Option<String>,
    /// Whether the database's owner opened it by hand: then no request made it, and only reconcile closes it.
    #[serde(default)]
    pub by_hand: bool,
}

impl WindowRow {
    /// Whether it gives access at `now`.
    #[must_use]
    pub fn covers(&self, now: DateTime<Utc>) -> bool {
        self.window.covers(now) && self.ended_at.is_none_or(|ended_at| now < ended_at)
    }

    /// Whether nothing of it is left at `now`.
    #[must_use]
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        now >= self.over_at()
    }

    /// When it gives no access any more: its end, or its early end.
    #[must_use]
    pub fn over_at(&self) -> DateTime<Utc> {
        self.ended_at.map_or(self.window.end(), |ended_at| {
            ended_at.min(self.window.end())
        })
    }
}

/// What a role should be now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// LOGIN, valid until the latest end of the windows that cover now.
    Open {
        /// That end.
        until: DateTime<Utc>,
    },
    /// NOLOGIN, and no sessions.
    Closed,
}

/// What a role with these windows should be at `now`.
#[must_use]
pub fn desired(rows: &[WindowRow], now: DateTime<Utc>) -> Desired {
    rows.iter()
        .filter(|row| row.covers(now))
        .map(|row| row.window.end())
        .max()
        .map_or(Desired::Closed, |until| Desired::Open { until })
}

/// Whether a window of the role has just ended and is not proved closed yet. Opening waits for that, so that
/// nobody's sessions reach over into the window of somebody else; for `patience` at most.
#[must_use]
pub fn is_being_closed(rows: &[WindowRow], now: DateTime<Utc>, patience: Duration) -> bool {
    rows.iter()
        .any(|row| !row.by_hand && row.is_over(now) && now < row.over_at() + patience)
}

/// Whether somebody took LOGIN away by hand: a window that covers now was seen open, and the role cannot log in.
/// That is never undone.
#[must_use]
pub fn was_closed_by_hand(rows: &[WindowRow], now: DateTime<Utc>, can_login: bool) -> bool {
    !can_login
        && rows
            .iter()
            .any(|row| row.covers(now) && row.opened_at.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn row(start: i64, end: i64, ended: Option<i64>) -> WindowRow {
        WindowRow {
            request_id: RequestId::of_execution("arn", start * 1000 + end),
            requester: None,
            window: Window::new(at(start), at(end)).unwrap(),
            opened_at: None,
            ended_at: ended.map(at),
            ended_by: None,
            by_hand: false,
        }
    }

    #[test]
    fn overlapping_windows_neither_cut_nor_extend_each_other() {
        let rows = [row(0, 10, None), row(5, 20, None)];
        assert_eq!(desired(&rows, at(7)), Desired::Open { until: at(20) });
        assert_eq!(desired(&rows, at(10)), Desired::Open { until: at(20) });
        assert_eq!(desired(&rows, at(20)), Desired::Closed);
        // A window that has not begun does not lend its end to one that has.
        assert_eq!(desired(&rows, at(3)), Desired::Open { until: at(10) });
    }

    #[test]
    fn opening_waits_for_a_closing_but_not_for_ever() {
        let rows = [row(0, 10, None), row(10, 20, None)];
        let patience = Duration::seconds(60);
        assert!(!is_being_closed(&rows, at(9), patience));
        assert!(is_being_closed(&rows, at(10), patience));
        assert!(!is_being_closed(&[row(0, 10, None)], at(70), patience));
    }

    #[test]
    fn a_role_that_was_open_and_is_not_was_closed_by_hand() {
        let opened = WindowRow {
            opened_at: Some(at(1)),
            ..row(0, 10, None)
        };
        let opened = std::slice::from_ref(&opened);
        assert!(was_closed_by_hand(opened, at(5), false));
        assert!(!was_closed_by_hand(opened, at(5), true));
        assert!(!was_closed_by_hand(opened, at(10), false));
        assert!(!was_closed_by_hand(&[row(0, 10, None)], at(5), false));
    }

    #[test]
    fn an_early_end_counts_at_once() {
        assert_eq!(desired(&[row(0, 10, Some(4))], at(4)), Desired::Closed);
        assert_eq!(
            desired(&[row(0, 10, Some(4))], at(3)),
            Desired::Open { until: at(10) }
        );
    }

    proptest! {
        #[test]
        fn a_role_is_open_exactly_when_a_window_covers_now(
            windows in prop::collection::vec((0i64..50, 1i64..30, prop::option::of(0i64..60)), 0..12),
            now in -5i64..90,
        ) {
            let rows: Vec<_> = windows.iter().map(|&(start, length, ended)| row(start, start + length, ended)).collect();
            let covered = windows.iter().any(|&(start, length, ended)| {
                start <= now && now < start + length && ended.is_none_or(|ended| now < ended)
            });
            match desired(&rows, at(now)) {
                Desired::Open { until } => {
                    prop_assert!(covered);
                    prop_assert!(until > at(now));
                    prop_assert!(rows.iter().any(|row| row.window.end() == until));
                }
                Desired::Closed => prop_assert!(!covered),
            }
            prop_assert!(desired(&rows, at(now)) == desired(&rows, at(now) + Duration::milliseconds(999)));
        }
    }
}
