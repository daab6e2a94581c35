//! Times and durations, said so that nobody has to calculate: in UTC and in the catalogue's zone.

use chrono::{DateTime, NaiveTime, Offset, TimeDelta, Timelike, Utc};
use chrono_tz::{OffsetName, Tz};

use crate::texts::Texts;

/// One moment, ready to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// `2026-11-22T10:00:00Z`, for programs.
    pub(crate) machine: String,
    /// `Sun 22 Nov 2026, 10:00 UTC`.
    pub(crate) utc: String,
    /// `19:00 in Asia/Tokyo (UTC+09:00)`, with the date where it is another day; `None` if the zone is UTC.
    pub(crate) local: Option<String>,
}

impl Moment {
    pub(crate) fn new(texts: &Texts, at: DateTime<Utc>, zone: Tz) -> Self {
        let local = at.with_timezone(&zone);
        let date = (texts.words.date)(at.date_naive());
        let local_date = (texts.words.date)(local.date_naive());
        let local_time = if local_date == date {
            clock(local.time())
        } else {
            (texts.words.date_and_clock)(&local_date, &clock(local.time()))
        };
        let offset = format!("UTC{}", local.format("%:z"));
        Self {
            machine: at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
            utc: format!(
                "{} UTC",
                (texts.words.date_and_clock)(&date, &clock(at.time()))
            ),
            local: (!is_utc(&local))
                .then(|| (texts.words.in_zone)(&local_time, zone.name(), &offset)),
        }
    }

    /// Both on one line: `Sun 22 Nov 2026, 10:00 UTC = 19:00 in Asia/Tokyo (UTC+09:00)`.
    pub(crate) fn line(&self) -> String {
        match &self.local {
            Some(local) => format!("{} = {local}", self.utc),
            None => self.utc.clone(),
        }
    }
}

/// `Asia/Tokyo (UTC+09:00)`: the zone's name with its offset at that moment; `UTC` if that is what it is.
pub(crate) fn zone_name(zone: Tz, at: DateTime<Utc>) -> String {
    let local = at.with_timezone(&zone);
    if is_utc(&local) {
        "UTC".to_owned()
    } else {
        format!("{} (UTC{})", zone.name(), local.format("%:z"))
    }
}

/// Whatever it is called (Etc/UTC, Zulu), it is UTC.
fn is_utc(local: &DateTime<Tz>) -> bool {
    local.offset().fix().local_minus_utc() == 0 && local.offset().abbreviation() == Some("UTC")
}

/// `10:00`, or `10:00:20` where the seconds matter.
fn clock(time: NaiveTime) -> String {
    let shown = if time.second() == 0 {
        time.format("%H:%M")
    } else {
        time.format("%H:%M:%S")
    };
    shown.to_string()
}

/// A length of time, exact to the second.
pub(crate) fn duration(texts: &Texts, length: TimeDelta) -> String {
    (texts.words.duration)(length.max(TimeDelta::zero()))
}

/// How long until `then`, exact enough to plan by: the two largest units, never more than is left.
pub(crate) fn time_left(texts: &Texts, now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    let left = (then - now).max(TimeDelta::zero());
    let unit_seconds = match left.num_seconds() {
        86_400.. => 3_600,
        600..86_400 => 60,
        _ => 1,
    };
    duration(
        texts,
        TimeDelta::seconds(left.num_seconds() / unit_seconds * unit_seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ENGLISH;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn check(time: &str, zone: Tz, line: &str) {
        assert_eq!(Moment::new(&ENGLISH, at(time), zone).line(), line);
    }

    #[test]
    fn a_moment_is_said_in_both_zones() {
        check(
            "2026-11-22T10:00:00Z",
            Tz::Asia__Tokyo,
            "Sun 22 Nov 2026, 10:00 UTC = 19:00 in Asia/Tokyo (UTC+09:00)",
        );
        check(
            "2026-11-22T20:15:30Z",
            Tz::Asia__Kolkata,
            "Sun 22 Nov 2026, 20:15:30 UTC = Mon 23 Nov 2026, 01:45:30 in Asia/Kolkata (UTC+05:30)",
        );
    }

    #[test]
    fn the_offset_is_the_one_of_the_day() {
        check(
            "2026-01-05T10:00:00Z",
            Tz::Europe__London,
            "Mon 5 Jan 2026, 10:00 UTC = 10:00 in Europe/London (UTC+00:00)",
        );
        check(
            "2026-07-05T10:00:00Z",
            Tz::America__New_York,
            "Sun 5 Jul 2026, 10:00 UTC = 06:00 in America/New_York (UTC-04:00)",
        );
    }

    #[test]
    fn utc_is_said_once() {
        check(
            "2026-11-22T10:00:00Z",
            Tz::UTC,
            "Sun 22 Nov 2026, 10:00 UTC",
        );
        check(
            "2026-11-22T10:00:00Z",
            Tz::Etc__UTC,
            "Sun 22 Nov 2026, 10:00 UTC",
        );
    }

    #[test]
    fn durations_are_exact_and_time_left_is_rounded_down() {
        let exact = |seconds| duration(&ENGLISH, TimeDelta::seconds(seconds));
        assert_eq!(exact(5_400), "1 h 30 min");
        assert_eq!(exact(20), "20 s");
        assert_eq!(exact(90_061), "1 d 1 h 1 min 1 s");
        assert_eq!(exact(0), "0 s");
        assert_eq!(exact(-5), "0 s");
        let left = |seconds| {
            time_left(
                &ENGLISH,
                at("2026-11-22T10:00:00Z"),
                at("2026-11-22T10:00:00Z") + TimeDelta::seconds(seconds),
            )
        };
        assert_eq!(left(90_061), "1 d 1 h");
        assert_eq!(left(5_459), "1 h 30 min");
        assert_eq!(left(599), "9 min 59 s");
        assert_eq!(left(-1), "0 s");
    }
}
