//! What a role's state means, given its windows: pure, so that every case stands in one table.

use access_core::catalogue::Mode;
use access_core::{Desired, WindowRow, converge};
use chrono::{DateTime, Utc};

use crate::handler::GRACE;

/// What one server of the database says about a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) can_login: bool,
    pub(crate) n_sessions: u64,
}

/// What is to be done about a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is as its windows say.
    Fine,
    /// It has access that no window gives: cut it.
    Close,
    /// It has access that no window gives, and is only watched.
    WouldClose,
    /// A window covers now and it cannot log in: nobody opens it again, somebody should know.
    NotOpen,
}

/// Judges a role by what was seen on any of its servers.
pub(crate) fn judge(rows: &[WindowRow], seen: Seen, mode: Mode, now: DateTime<Utc>) -> Judgement {
    match converge::desired(rows, now) {
        // Not opened yet is enable-login's business; opened and closed again is somebody's.
        Desired::Open { .. } if converge::was_closed_by_hand(rows, now, seen.can_login) => {
            Judgement::NotOpen
        }
        Desired::Open { .. } => Judgement::Fine,
        Desired::Closed if !seen.can_login && seen.n_sessions == 0 => Judgement::Fine,
        // Its execution, event or schedule is at it.
        Desired::Closed if converge::is_being_closed(rows, now, GRACE) => Judgement::Fine,
        // What a window of ours opened is closed whatever the mode says.
        Desired::Closed if mode == Mode::Enforce || !rows.is_empty() => Judgement::Close,
        Desired::Closed => Judgement::WouldClose,
    }
}

#[cfg(test)]
mod tests {
    use access_core::{RequestId, Window};

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn row() -> WindowRow {
        WindowRow {
            request_id: RequestId::of_execution("arn", 0),
            window: Window::new(at(0), at(10)).unwrap(),
            opened_at: Some(at(0)),
            ended_at: None,
            ended_by: None,
            by_hand: false,
        }
    }

    const OPEN: Seen = Seen {
        can_login: true,
        n_sessions: 0,
    };
    const SESSION: Seen = Seen {
        can_login: false,
        n_sessions: 1,
    };
    const CLOSED: Seen = Seen {
        can_login: false,
        n_sessions: 0,
    };

    #[test]
    fn access_outside_windows_is_cut_or_reported() {
        for seen in [OPEN, SESSION] {
            assert_eq!(judge(&[], seen, Mode::Enforce, at(5)), Judgement::Close);
            assert_eq!(
                judge(&[], seen, Mode::Observe, at(5)),
                Judgement::WouldClose
            );
            assert_eq!(
                judge(&[row()], seen, Mode::Observe, at(70)),
                Judgement::Close
            );
        }
        assert_eq!(judge(&[], CLOSED, Mode::Enforce, at(5)), Judgement::Fine);
    }

    #[test]
    fn a_closing_gets_a_moment_unless_nobody_is_at_it() {
        assert_eq!(
            judge(&[row()], OPEN, Mode::Enforce, at(10)),
            Judgement::Fine
        );
        let by_hand = WindowRow {
            by_hand: true,
            ..row()
        };
        assert_eq!(
            judge(&[by_hand], OPEN, Mode::Enforce, at(10)),
            Judgement::Close
        );
    }

    #[test]
    fn a_covered_role_is_left_alone_and_never_opened() {
        assert_eq!(judge(&[row()], OPEN, Mode::Enforce, at(5)), Judgement::Fine);
        assert_eq!(
            judge(&[row()], CLOSED, Mode::Enforce, at(5)),
            Judgement::NotOpen
        );
        let unopened = WindowRow {
            opened_at: None,
            ..row()
        };
        assert_eq!(
            judge(&[unopened], CLOSED, Mode::Enforce, at(5)),
            Judgement::Fine
        );
    }
}
