//! When people are reminded and warned.

use chrono::{DateTime, Duration, Utc};

use crate::time;
use crate::window::Window;

/// With less time than this left, the question itself is the reminder.
const SHORTEST_WAIT: Duration = Duration::minutes(1);
/// Shorter windows end without a warning: it would come with the opening.
const SHORTEST_WARNED_WINDOW: Duration = Duration::minutes(2);
/// How long before its end a long window is warned of.
const LONGEST_LEAD: Duration = Duration::minutes(10);

/// When those who have not decided are reminded: at half of the time that is left.
#[must_use]
pub fn reminder_at(now: DateTime<Utc>, decide_by: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let left = decide_by - now;
    (left >= SHORTEST_WAIT).then(|| time::round_up(now + left / 2))
}

/// When the requester is warned of the end: ten minutes before it, or a sixth of a shorter window.
#[must_use]
pub fn warning_at(window: Window) -> Option<DateTime<Utc>> {
    let lead = LONGEST_LEAD.min(window.length() / 6);
    (window.length() >= SHORTEST_WARNED_WINDOW).then(|| time::round_up(window.end() - lead))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn the_reminder_comes_at_half_of_what_is_left() {
        for (left, reminded) in [
            (-5, None),
            (0, None),
            (59, None),
            (60, Some(30)),
            (61, Some(31)),
            (4 * 3600, Some(2 * 3600)),
        ] {
            assert_eq!(
                reminder_at(at(0), at(left)),
                reminded.map(at),
                "{left} seconds left"
            );
        }
    }

    #[test]
    fn the_warning_leaves_time_and_stays_inside_the_window() {
        for (length, before_the_end) in [
            (119, None),
            (120, Some(20)),
            (600, Some(100)),
            (3600, Some(600)),
            (8 * 3600, Some(600)),
        ] {
            let window = Window::new(at(0), at(length)).unwrap();
            assert_eq!(
                warning_at(window),
                before_the_end.map(|lead| at(length - lead)),
                "{length} seconds"
            );
        }
    }
}
