//! Samples of many rounds, and their median and ninth decile.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What is measured of a subject. Times in milliseconds, memory and sizes in MB (2^20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// From the start of the process to its first question for work.
    Init,
    /// The first answer, from the event.
    First,
    /// From the start of the process to its first answer.
    Cold,
    /// CPU time up to the first answer.
    ColdCpu,
    /// A later answer, from the event.
    Warm,
    /// CPU time of a later answer.
    WarmCpu,
    /// The most memory held.
    Memory,
    /// As [`Metric::First`], at the CPU share of 128 MB.
    First128,
    /// As [`Metric::Cold`], at the CPU share of 128 MB from the first event on.
    Cold128,
    /// The program.
    Binary,
    /// The program, compressed.
    Zip,
    /// Closing: from the event to NOLOGIN, in a process that just started (its start included) or a warm one.
    RefusedCold,
    /// See [`Metric::RefusedCold`].
    RefusedWarm,
    /// Closing: from the event to no visible session.
    GoneCold,
    /// See [`Metric::GoneCold`].
    GoneWarm,
}

impl Metric {
    /// Its name in tables and JSON, with its unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "init_ms",
            Self::First => "first_ms",
            Self::Cold => "cold_ms",
            Self::ColdCpu => "cold_cpu_ms",
            Self::Warm => "warm_ms",
            Self::WarmCpu => "warm_cpu_ms",
            Self::Memory => "memory_mb",
            Self::First128 => "first_at_128_mb_ms",
            Self::Cold128 => "cold_at_128_mb_ms",
            Self::Binary => "binary_mb",
            Self::Zip => "zip_mb",
            Self::RefusedCold => "cold_refused_ms",
            Self::RefusedWarm => "warm_refused_ms",
            Self::GoneCold => "cold_gone_ms",
            Self::GoneWarm => "warm_gone_ms",
        }
    }
}

/// Every sample of one run, by subject and metric.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(BTreeMap<(String, Metric), Vec<f64>>);

impl Samples {
    /// Adds one.
    pub(crate) fn add(&mut self, subject: &str, metric: Metric, value: f64) {
        self.0
            .entry((subject.to_owned(), metric))
            .or_default()
            .push(value);
    }

    /// The median; `None` if nothing was measured.
    pub(crate) fn median(&self, subject: &str, metric: Metric) -> Option<f64> {
        self.quantile(subject, metric, 0.5)
    }

    /// The value that nine of ten samples do not exceed.
    pub(crate) fn ninth_decile(&self, subject: &str, metric: Metric) -> Option<f64> {
        self.quantile(subject, metric, 0.9)
    }

    /// The median of `subject` over that of `other`.
    pub(crate) fn ratio(&self, subject: &str, other: &str, metric: Metric) -> Option<f64> {
        let ratio = self.median(subject, metric)? / self.median(other, metric)?;
        ratio.is_finite().then_some(ratio)
    }

    /// Everything, for machines.
    pub(crate) fn as_json(&self) -> Value {
        let mut subjects = json!({});
        for ((subject, metric), values) in &self.0 {
            subjects[subject][metric.name()] = json!({
                "median": rounded(self.median(subject, *metric)),
                "p90": rounded(self.ninth_decile(subject, *metric)),
                "n": values.len(),
            });
        }
        subjects
    }

    fn quantile(&self, subject: &str, metric: Metric, part: f64) -> Option<f64> {
        let mut values = self.0.get(&(subject.to_owned(), metric))?.clone();
        values.sort_by(f64::total_cmp);
        let place = part * (values.len().checked_sub(1)?) as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        Some(values[below] + (values[above] - values[below]) * place.fract())
    }
}

fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|value| (value * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_deciles_and_ratios() {
        let mut samples = Samples::default();
        for value in [3.0, 1.0, 2.0, 4.0] {
            samples.add("ours", Metric::Cold, value);
        }
        samples.add("floor", Metric::Cold, 0.5);
        assert_eq!(samples.median("ours", Metric::Cold), Some(2.5));
        assert_eq!(samples.ninth_decile("ours", Metric::Cold), Some(3.7));
        assert_eq!(samples.ratio("ours", "floor", Metric::Cold), Some(5.0));
        assert_eq!(samples.ratio("ours", "nobody", Metric::Cold), None);
        assert_eq!(samples.median("ours", Metric::Warm), None);
    }
}
