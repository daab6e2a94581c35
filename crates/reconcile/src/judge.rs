//! What a role's state means, given its windows: pure, so that every case stands in one table.

use access_core::catalogue::Mode;
use access_core::{Desired, WindowRow, converge};
use access_postgres::RoleSeen;
use chrono::{DateTime, Utc};

use crate::handler::GRACE;

/// What is to be done about a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is as its windows say.
    Fine,
    /// It has access that no window gives: cut it.
    Close,
    /// It has access that no window gives, and is only watched.
    WouldClose,
    /// It is closed, and somebody's session is still starting somewhere: if it is this role's, end it.
    EndHidden,
    /// A window covers now and it cannot log in: nobody opens it again, somebody should know.
    NotOpen,
}

/// Judges a role by what was seen on any of its servers.
pub(crate) fn judge(
    rows: &[WindowRow],
    seen: &RoleSeen,
    mode: Mode,
    now: DateTime<Utc>,
) -> Judgement {
    // What a window of ours opened is closed whatever the mode says.
    let is_ours = mode == Mode::Enforce || !rows.is_empty();
    match converge::desired(rows, now) {
        // Not opened yet is enable-login's business; opened and closed again is somebody's.
        Desired::Open { .. } if converge::was_closed_by_hand(rows, now, seen.can_login) => {
            Judgement::NotOpen
        }
        Desired::Open { .. } => Judgement::Fine,
        Desired::Closed if !seen.can_login && seen.n_sessions == 0 => {
            if seen.n_starting > 0 && (is_ours || seen.was_closed) {
                Judgement::EndHidden
            } else {
                Judgement::Fine
            }
        }
        // Its execution, event or schedule is at it.
        Desired::Closed if converge::is_being_closed(rows, now, GRACE) => Judgement::Fine,
        Desired::Closed if is_ours => Judgement::Close,
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
            requester: None,
            window: Window::new(at(0), at(10)).unwrap(),
            opened_at: Some(at(0)),
            ended_at: None,
            ended_by: None,
            by_hand: false,
        }
    }

    const CLOSED: RoleSeen = seen(false, 0, 0);
    const OPEN: RoleSeen = seen(true, 0, 0);
    const SESSION: RoleSeen = seen(false, 1, 0);
    const STARTING: RoleSeen = seen(false, 0, 1);

    const fn seen(can_login: bool, n_sessions: u64, n_starting: u64) -> RoleSeen {
        RoleSeen {
            can_login,
            n_sessions,
            n_starting,
            was_closed: false,
            identity: Vec::new(),
            name_taken: false,
        }
    }

    #[test]
    fn hidden_sessions_are_ended_where_latchkey_closes() {
        let ours = RoleSeen {
            was_closed: true,
            ..STARTING
        };
        let judge = |rows: &[WindowRow], seen: &RoleSeen, mode| judge(rows, seen, mode, at(70));
        assert_eq!(judge(&[], &STARTING, Mode::Enforce), Judgement::EndHidden);
        assert_eq!(
            judge(&[row()], &STARTING, Mode::Observe),
            Judgement::EndHidden
        );
        assert_eq!(judge(&[], &ours, Mode::Observe), Judgement::EndHidden);
        assert_eq!(judge(&[], &STARTING, Mode::Observe), Judgement::Fine);
    }

    #[test]
    fn hidden_sessions_of_a_covered_role_are_let_in() {
        assert_eq!(
            judge(&[row()], &seen(true, 0, 1), Mode::Enforce, at(5)),
            Judgement::Fine
        );
    }

    #[test]
    fn access_outside_windows_is_cut_or_reported() {
        for seen in [OPEN, SESSION] {
            assert_eq!(judge(&[], &seen, Mode::Enforce, at(5)), Judgement::Close);
            assert_eq!(
                judge(&[], &seen, Mode::Observe, at(5)),
                Judgement::WouldClose
            );
            assert_eq!(
                judge(&[row()], &seen, Mode::Observe, at(70)),
                Judgement::Close
            );
        }
        assert_eq!(judge(&[], &CLOSED, Mode::Enforce, at(5)), Judgement::Fine);
    }

    #[test]
    fn a_closing_gets_a_moment_unless_nobody_is_at_it() {
        assert_eq!(
            judge(&[row()], &OPEN, Mode::Enforce, at(10)),
            Judgement::Fine
        );
        let by_hand = WindowRow {
            by_hand: true,
            ..row()
        };
        assert_eq!(
            judge(&[by_hand], &OPEN, Mode::Enforce, at(10)),
            Judgement::Close
        );
    }

    #[test]
    fn a_covered_role_is_left_alone_and_never_opened() {
        assert_eq!(
            judge(&[row()], &OPEN, Mode::Enforce, at(5)),
            Judgement::Fine
        );
        assert_eq!(
            judge(&[row()], &CLOSED, Mode::Enforce, at(5)),
            Judgement::NotOpen
        );
        let unopened = WindowRow {
            opened_at: None,
            ..row()
        };
        assert_eq!(
            judge(&[unopened], &CLOSED, Mode::Enforce, at(5)),
            Judgement::Fine
        );
    }
}
