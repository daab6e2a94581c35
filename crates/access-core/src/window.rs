//! The window: from when to when a role may log in, in whole UTC seconds.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::time;

/// From `start` (inclusive) to `end` (exclusive), both whole seconds, the end after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawWindow")]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Window {
    /// The window between two times: the start rounded up and the end rounded down to whole seconds,
    /// because a Wait state cuts to the second. `None` if nothing is left.
    #[must_use]
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Option<Self> {
        let (start, end) = (time::round_up(start), time::round_down(end));
        (start < end).then_some(Self { start, end })
    }

    /// The first second of the window.
    #[must_use]
    pub fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// The first second after the window.
    #[must_use]
    pub fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.end - self.start
    }

    /// Whether `other` lies inside, or is the same.
    #[must_use]
    pub fn contains(&self, other: &Window) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether `now` lies inside.
    #[must_use]
    pub fn covers(&self, now: DateTime<Utc>) -> bool {
        self.start <= now && now < self.end
    }
}

#[derive(Deserialize)]
struct RawWindow {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl TryFrom<RawWindow> for Window {
    type Error = &'static str;
    fn try_from(raw: RawWindow) -> Result<Self, Self::Error> {
        Window::new(raw.start, raw.end)
            .filter(|window| window.start == raw.start && window.end == raw.end)
            .ok_or("a window needs whole seconds and an end after its start")
    }
}

/// The window as it was asked for; approval makes a [`Window`] of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WindowSpec {
    /// From a fixed start to a fixed end. A late approval opens late; the end stays.
    Fixed {
        /// The start and the end.
        window: Window,
    },
    /// From the approval to a fixed end.
    UntilEnd {
        /// The first second after the window.
        end: DateTime<Utc>,
    },
    /// From the approval, for this long.
    ForDuration {
        /// How long, in seconds, at least 1.
        seconds: i64,
    },
}

impl WindowSpec {
    /// The window if approval came at `approved_at`; `None` if nothing of it is left.
    #[must_use]
    pub fn approved_at(&self, approved_at: DateTime<Utc>) -> Option<Window> {
        match *self {
            Self::Fixed { window } => Window::new(window.start.max(approved_at), window.end),
            Self::UntilEnd { end } => Window::new(approved_at, end),
            Self::ForDuration { seconds } => {
                let start = time::round_up(approved_at);
                Window::new(start, start + Duration::seconds(seconds))
            }
        }
    }

    /// The fixed end after which approving would be pointless; `None` if the window begins with the approval.
    #[must_use]
    pub fn fixed_end(&self) -> Option<DateTime<Utc>> {
        match *self {
            Self::Fixed { window } => Some(window.end),
            Self::UntilEnd { end } => Some(end),
            Self::ForDuration { .. } => None,
        }
    }
}

/// How one approver narrows a window: not open before a start, or not after an end, or both; in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawNarrowing")]
pub struct Narrowing {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<DateTime<Utc>>,
}

impl Narrowing {
    /// From these bounds, the start rounded up and the end down to whole seconds; `None` if neither is given.
    #[must_use]
    pub fn new(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Option<Self> {
        (start.is_some() || end.is_some()).then_some(Self {
            start: start.map(time::round_up),
            end: end.map(time::round_down),
        })
    }

    /// Not open before this.
    #[must_use]
    pub fn start(&self) -> Option<DateTime<Utc>> {
        self.start
    }

    /// Not open from this on.
    #[must_use]
    pub fn end(&self) -> Option<DateTime<Utc>> {
        self.end
    }

    /// What is inside both `self` and `other`.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            // `None` is less than any start; an end needs more care.
            start: self.start.max(other.start),
            end: match (self.end, other.end) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }

    /// What it leaves of a window; `None` if nothing.
    #[must_use]
    pub fn applied_to(&self, window: Window) -> Option<Window> {
        Window::new(
            self.start
                .map_or(window.start, |start| start.max(window.start)),
            self.end.map_or(window.end, |end| end.min(window.end)),
        )
    }
}

#[derive(Deserialize)]
struct RawNarrowing {
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
}

impl TryFrom<RawNarrowing> for Narrowing {
    type Error = &'static str;
    fn try_from(raw: RawNarrowing) -> Result<Self, Self::Error> {
        Narrowing::new(raw.start, raw.end)
            .filter(|narrowing| narrowing.start == raw.start && narrowing.end == raw.end)
            .ok_or("a narrowing needs a start or an end, in whole seconds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn a_window_shorter_than_a_second_is_none() {
        let half = Duration::milliseconds(500);
        assert_eq!(Window::new(at(0), at(0) + half), None);
        assert_eq!(Window::new(at(0) + half, at(1) + half), None);
        assert_eq!(Window::new(at(1), at(0)), None);
    }

    #[test]
    fn the_end_belongs_to_nobody() {
        let window = Window::new(at(0), at(10)).unwrap();
        assert!(window.covers(at(0)) && window.covers(at(9)) && !window.covers(at(10)));
        assert!(!window.covers(at(0) - Duration::milliseconds(1)));
    }

    #[test]
    fn late_approval_keeps_a_fixed_end_and_moves_a_relative_one() {
        let fixed = WindowSpec::Fixed {
            window: Window::new(at(0), at(100)).unwrap(),
        };
        assert_eq!(fixed.approved_at(at(-50)), Window::new(at(0), at(100)));
        assert_eq!(fixed.approved_at(at(60)), Window::new(at(60), at(100)));
        assert_eq!(fixed.approved_at(at(100)), None);
        let relative = WindowSpec::ForDuration { seconds: 20 };
        assert_eq!(relative.approved_at(at(60)), Window::new(at(60), at(80)));
        let half = at(60) + Duration::milliseconds(500);
        assert_eq!(relative.approved_at(half), Window::new(at(61), at(81)));
    }

    #[test]
    fn narrowing_only_takes_away() {
        let window = Window::new(at(0), at(100)).unwrap();
        let narrow = |start: Option<i64>, end: Option<i64>| {
            Narrowing::new(start.map(at), end.map(at)).unwrap()
        };
        assert_eq!(Narrowing::new(None, None), None);
        let inner = narrow(Some(20), None).and(&narrow(None, Some(80)));
        assert_eq!(inner.applied_to(window), Window::new(at(20), at(80)));
        assert_eq!(narrow(Some(-5), Some(500)).applied_to(window), Some(window));
        assert_eq!(narrow(Some(50), Some(50)).applied_to(window), None);
        let half = Duration::milliseconds(500);
        let rounded = Narrowing::new(Some(at(20) + half), Some(at(80) + half)).unwrap();
        assert_eq!(rounded, narrow(Some(21), Some(80)));
    }

    #[test]
    fn a_stored_narrowing_is_checked_when_read() {
        for text in ["{}", r#"{"end":"2026-01-01T00:00:00.5Z"}"#] {
            assert!(serde_json::from_str::<Narrowing>(text).is_err(), "{text}");
        }
        let text = r#"{"end":"2026-01-01T00:00:00Z"}"#;
        let read: Narrowing = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn a_stored_window_is_checked_when_read() {
        let text = r#"{"start":"2026-01-01T00:00:00.5Z","end":"2026-01-01T01:00:00Z"}"#;
        assert!(serde_json::from_str::<Window>(text).is_err());
    }
}
