//! Reads times and durations as people write them.

use chrono::{
    DateTime, Duration, LocalResult, NaiveDateTime, SecondsFormat, TimeZone as _, Timelike as _,
    Utc,
};
use chrono_tz::Tz;

use crate::fault::FaultName;

/// Why a time or a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TimeError {
    /// The name of the fault.
    pub fault: FaultName,
    /// One sentence that says how to mend it.
    pub message: String,
}

impl TimeError {
    fn new(fault: FaultName, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
        }
    }
}

/// Reads an RFC 3339 time. One without an offset is read in `zone`, if the catalogue names one.
///
/// # Errors
/// [`TimeError`] named `InvalidTime`, `TimeWithoutOffset`, `AmbiguousLocalTime` or `NonexistentLocalTime`.
pub fn read_time(text: &str, zone: Option<Tz>) -> Result<DateTime<Utc>, TimeError> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        // chrono keeps a leap second as a second of 2,000 ms; neither PostgreSQL nor Step Functions has one.
        if time.nanosecond() >= 1_000_000_000 {
            return Err(TimeError::new(
                FaultName::InvalidTime,
                "give a time that is not a leap second",
            ));
        }
        return Ok(time.with_timezone(&Utc));
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
        .ok()
        .filter(|local| local.nanosecond() < 1_000_000_000)
        .ok_or_else(|| {
            TimeError::new(
                FaultName::InvalidTime,
                "give an RFC 3339 time with an offset, such as 2026-03-01T09:00:00+09:00 or 2026-03-01T00:00:00Z",
            )
        })?;
    let Some(zone) = zone else {
        return Err(TimeError::new(
            FaultName::TimeWithoutOffset,
            "add an offset such as Z or +09:00; the catalogue names no time zone to read this in",
        ));
    };
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) => Ok(time.with_timezone(&Utc)),
        LocalResult::Ambiguous(first, second) => Err(TimeError::new(
            FaultName::AmbiguousLocalTime,
            format!(
                "this time happens twice in {zone} because clocks go back; write {} or {}",
                first.to_rfc3339_opts(SecondsFormat::AutoSi, false),
                second.to_rfc3339_opts(SecondsFormat::AutoSi, false),
            ),
        )),
        LocalResult::None => Err(TimeError::new(
            FaultName::NonexistentLocalTime,
            format!(
                "this time never happens in {zone} because clocks go forward; choose another or add an offset"
            ),
        )),
    }
}

/// Reads a duration of at least one second: ISO 8601 (`PT1H`, `P1DT12H`) or plain (`90m`, `1h30m`).
/// A day is 24 hours; months and years have no fixed length and are refused. Fractions of a second are cut.
///
/// # Errors
/// [`TimeError`] named `InvalidDuration`.
pub fn read_duration(text: &str) -> Result<Duration, TimeError> {
    let invalid = || {
        TimeError::new(
            FaultName::InvalidDuration,
            "give a duration such as PT1H, PT90M, 90m or 1h30m, of one second at least and in days, hours, minutes and seconds",
        )
    };
    let span: jiff::Span = text.parse().map_err(|_| invalid())?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(invalid());
    }
    let seconds = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| invalid())?
        .as_secs();
    // Ten years: far above any limit of the catalogue, far below any overflow.
    if !(1..=315_360_000).contains(&seconds) {
        return Err(invalid());
    }
    Ok(Duration::seconds(seconds))
}

/// The first whole second that is not before `time`.
#[must_use]
pub fn round_up(time: DateTime<Utc>) -> DateTime<Utc> {
    if time.nanosecond() == 0 {
        time
    } else {
        round_down(time) + Duration::seconds(1)
    }
}

/// The last whole second that is not after `time`.
#[must_use]
pub fn round_down(time: DateTime<Utc>) -> DateTime<Utc> {
    time.with_nanosecond(0).unwrap_or(time)
}

/// RFC 3339 in UTC with `Z` and whole seconds, as a Wait state takes it
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html>).
#[must_use]
pub fn to_wait_timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .with_timezone(&Utc)
    }

    #[test]
    fn any_offset_becomes_utc() {
        assert_eq!(
            read_time("2026-03-01T09:00:00+09:00", None).unwrap(),
            utc("2026-03-01T00:00:00Z")
        );
        assert_eq!(
            read_time("2026-03-01T00:00:00Z", None).unwrap(),
            utc("2026-03-01T00:00:00Z")
        );
    }

    #[test]
    fn a_local_time_needs_a_zone() {
        let error = read_time("2026-03-01T09:00", None).unwrap_err();
        assert_eq!(error.fault, FaultName::TimeWithoutOffset);
        assert_eq!(
            read_time("2026-03-01T09:00", Some(Tz::Asia__Tokyo)).unwrap(),
            utc("2026-03-01T00:00:00Z")
        );
    }

    #[test]
    fn daylight_saving_gaps_and_repeats_are_refused() {
        let berlin = Some(Tz::Europe__Berlin);
        let repeated = read_time("2026-10-25T02:30:00", berlin).unwrap_err();
        assert_eq!(repeated.fault, FaultName::AmbiguousLocalTime);
        assert!(
            repeated
                .message
                .contains("2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00")
        );
        assert_eq!(
            read_time("2026-03-29T02:30:00", berlin).unwrap_err().fault,
            FaultName::NonexistentLocalTime
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026-02-30T00:00:00Z",
            "2026-03-01",
            "1767225600",
            "2026-12-31T23:59:60Z",
        ] {
            assert_eq!(
                read_time(text, None).unwrap_err().fault,
                FaultName::InvalidTime,
                "{text}"
            );
        }
    }

    #[test]
    fn durations_are_read_in_both_forms() {
        for (text, seconds) in [
            ("PT1H", 3600),
            ("90m", 5400),
            ("1h30m", 5400),
            ("PT20S", 20),
            ("20s", 20),
            ("P1D", 86_400),
            ("1h 30m", 5400),
        ] {
            assert_eq!(
                read_duration(text).unwrap(),
                Duration::seconds(seconds),
                "{text}"
            );
        }
        for text in [
            "", "0s", "-1h", "PT-1H", "1 month", "P1Y", "P1M", "1", "soon", "PT0.4S", "P99999D",
            "1h ago",
        ] {
            assert_eq!(
                read_duration(text).unwrap_err().fault,
                FaultName::InvalidDuration,
                "{text}"
            );
        }
    }

    #[test]
    fn starts_round_up_and_ends_round_down() {
        let time = utc("2026-01-01T00:00:00.001Z");
        assert_eq!(round_up(time), utc("2026-01-01T00:00:01Z"));
        assert_eq!(round_down(time), utc("2026-01-01T00:00:00Z"));
        assert_eq!(
            round_up(utc("2026-01-01T00:00:00Z")),
            utc("2026-01-01T00:00:00Z")
        );
    }
}
