//! Whether somebody else has a role during a window: different people do not overlap on one role, unless its document
//! lets them share it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::converge::WindowRow;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::window::Window;

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// The person of this name, through a window of theirs.
    Person(String),
    /// Whoever the database's owner opened it for by hand.
    ByHand,
    /// Somebody: the windows of release 0.1 do not say whose they are.
    Unknown,
}

/// A role that somebody else has during a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Who has it the longest.
    pub holder: Holder,
    /// Until when: nobody else is known to have it from then on.
    pub until: DateTime<Utc>,
}

/// Whether somebody else has the role of `request` during what is left of `window` at `now`. `rows` are the windows of
/// that role. A window of the same person never stands in the way; one opened by hand is somebody else's.
#[must_use]
pub fn in_use_by_another(
    request: &Request,
    rows: &[WindowRow],
    window: Window,
    now: DateTime<Utc>,
) -> Option<InUse> {
    if request.shared {
        return None;
    }
    let start = window.start().max(now);
    rows.iter()
        .filter(|row| row.request_id != request.request_id)
        .filter(|row| {
            let same_person = row
                .requester
                .as_ref()
                .is_some_and(|person| person.id == request.requester.id);
            row.by_hand || !same_person
        })
        .filter(|row| row.window.start() < window.end() && start < row.over_at())
        .max_by_key(|row| row.over_at())
        .map(|row| InUse {
            holder: match &row.requester {
                _ if row.by_hand => Holder::ByHand,
                Some(person) => Holder::Person(person.name.clone()),
                None => Holder::Unknown,
            },
            until: row.over_at(),
        })
}

impl InUse {
    /// The refusal of a request that wants the role in that time.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::RoleInUse {
            holder: self.holder.clone(),
            until: self.until,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;
    use crate::names::{PersonId, RequestId};
    use crate::request::PersonRef;
    use crate::request::tests::request;

    fn asked(request: &Request) -> Window {
        request.window.approved_at(request.requested_at).unwrap()
    }

    /// A window of `who` that begins and ends so many minutes after the asked one begins.
    fn row(request: &Request, who: Option<&str>, from: i64, to: i64) -> WindowRow {
        let at = |minute: i64| asked(request).start() + Duration::minutes(minute);
        WindowRow {
            request_id: RequestId::of_execution("another", from),
            requester: who.map(|id| PersonRef {
                id: PersonId::new(id).unwrap(),
                name: id.to_uppercase(),
                language: Default::default(),
            }),
            window: Window::new(at(from), at(to)).unwrap(),
            opened_at: None,
            ended_at: None,
            ended_by: None,
            by_hand: false,
        }
    }

    fn found(request: &Request, rows: &[WindowRow]) -> Option<InUse> {
        in_use_by_another(request, rows, asked(request), request.requested_at)
    }

    #[test]
    fn somebody_else_stands_in_the_way_for_as_long_as_they_have_it() {
        let request = request();
        for (from, to) in [(-30, 1), (-30, 90), (10, 20), (59, 90)] {
            let row = row(&request, Some("bob"), from, to);
            let expected = InUse {
                holder: Holder::Person("BOB".to_owned()),
                until: row.window.end(),
            };
            assert_eq!(found(&request, &[row]), Some(expected), "{from} to {to}");
        }
        // The end belongs to nobody: windows that only touch do not overlap.
        for (from, to) in [(-30, 0), (60, 90)] {
            assert_eq!(
                found(&request, &[row(&request, Some("bob"), from, to)]),
                None
            );
        }
    }

    #[test]
    fn the_one_who_has_it_longest_is_named() {
        let request = request();
        let rows = [
            row(&request, Some("bob"), 0, 10),
            row(&request, Some("chiyo"), 5, 40),
            row(&request, Some("alice"), 0, 20),
        ];
        let in_use = found(&request, &rows).unwrap();
        assert_eq!(in_use.holder, Holder::Person("CHIYO".to_owned()));
        let Refusal::RoleInUse { holder, until } = in_use.refusal() else {
            panic!("{in_use:?}");
        };
        assert_eq!(holder, Holder::Person("CHIYO".to_owned()));
        assert_eq!(until.to_rfc3339(), "2026-06-01T13:40:00+00:00");
    }

    #[test]
    fn the_same_person_may_overlap_and_whoever_shares_too() {
        let request = request();
        assert_eq!(found(&request, &[row(&request, Some("riko"), 0, 60)]), None);
        let shared = Request {
            shared: true,
            ..request.clone()
        };
        assert_eq!(found(&shared, &[row(&request, Some("bob"), 0, 60)]), None);
        let own = WindowRow {
            request_id: request.request_id.clone(),
            ..row(&request, None, 0, 60)
        };
        assert_eq!(found(&request, &[own]), None);
    }

    #[test]
    fn a_window_by_hand_or_of_nobody_known_is_somebody_elses() {
        let request = request();
        let by_hand = WindowRow {
            by_hand: true,
            ..row(&request, None, 0, 60)
        };
        assert_eq!(found(&request, &[by_hand]).unwrap().holder, Holder::ByHand);
        let old = row(&request, None, 0, 60);
        assert_eq!(found(&request, &[old]).unwrap().holder, Holder::Unknown);
    }

    #[test]
    fn what_was_given_back_or_is_over_stands_in_nobodys_way() {
        let request = request();
        let start = asked(&request).start();
        let given_back = WindowRow {
            ended_at: Some(start - Duration::minutes(1)),
            ..row(&request, Some("bob"), -30, 60)
        };
        assert_eq!(found(&request, &[given_back]), None);
        // A window that opens late needs only what is left of it.
        let rows = [row(&request, Some("bob"), -30, 10)];
        let late = start + Duration::minutes(10);
        assert_eq!(
            in_use_by_another(&request, &rows, asked(&request), late),
            None
        );
    }
}
