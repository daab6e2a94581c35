//! The figures of a run, ratios first, for people and for machines.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};
use xtask::console;

use super::gates::Gate;
use super::statistics::{Metric, Samples};
use super::{DISABLE_LOGIN, FLOOR, PSQL, RAW};

/// Where and how a run was made.
pub(crate) struct Facts {
    pub(crate) machine: String,
    pub(crate) postgres: String,
    /// The load average of the last minute.
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    pub(crate) rounds: usize,
    /// What could not be measured, and what to do about it.
    pub(crate) missing: Vec<String>,
}

/// The processor and how many of it.
pub(crate) fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} × {model}")
}

const COLUMNS: [Metric; 10] = [
    Metric::Init,
    Metric::First,
    Metric::Cold,
    Metric::ColdCpu,
    Metric::Warm,
    Metric::WarmCpu,
    Metric::Memory,
    Metric::Cold128,
    Metric::Binary,
    Metric::Zip,
];

/// The gates, then the figures.
pub(crate) fn print(
    samples: &Samples,
    subjects: &[&str],
    gates: &[Gate],
    facts: &Facts,
    calls: &[(&str, String)],
) {
    line(&format!(
        "\n{}; PostgreSQL {}; {} rounds; load {} before and {} after",
        facts.machine, facts.postgres, facts.rounds, facts.load_before, facts.load_after
    ));
    line("\nRatios of medians");
    for gate in gates {
        let value = gate
            .value
            .map_or("not measured".to_owned(), |value| format!("{value:.2}"));
        let verdict = match (gate.is_met(), gate.is_reached()) {
            (false, _) => console::red("does not hold"),
            (true, false) => console::green("holds"),
            (true, true) => console::green("holds, and more"),
        };
        let reach = gate
            .reach
            .map_or(String::new(), |reach| format!(" (reach {reach})"));
        line(&format!(
            "  {:<64} {value:>12}  {:>6}{reach}  {verdict}",
            gate.name,
            gate.demands()
        ));
    }
    line("\nMedian / p90; milliseconds and MB");
    let names: Vec<String> = COLUMNS
        .iter()
        .map(|metric| format!("{:>16}", metric.name().replace("_ms", "")))
        .collect();
    line(&format!("  {:<24}{}", "", names.concat()));
    for subject in subjects.iter().chain(&[PSQL, RAW]) {
        let cells: Vec<String> = COLUMNS
            .iter()
            .map(|metric| cell(samples, subject, *metric))
            .collect();
        line(&format!("  {subject:<24}{}", cells.concat()));
    }
    line("\nCold CPU in floors, and AWS calls of one invocation");
    for (subject, calls) in calls {
        if let Some(ratio) = samples.ratio(subject, FLOOR, Metric::ColdCpu) {
            line(&format!("  {subject:<24}{ratio:>8.1}  {calls}"));
        }
    }
    line("\nA window ends: milliseconds to refused, and to no visible session (median / p90)");
    for (kind, refused, gone) in [
        (
            "cold, process start included",
            Metric::RefusedCold,
            Metric::GoneCold,
        ),
        ("warm", Metric::RefusedWarm, Metric::GoneWarm),
    ] {
        line(&format!(
            "  {kind:<32}{}{}",
            cell(samples, DISABLE_LOGIN, refused),
            cell(samples, DISABLE_LOGIN, gone)
        ));
    }
    for sentence in &facts.missing {
        line(&format!("\n{sentence}"));
    }
}

fn cell(samples: &Samples, subject: &str, metric: Metric) -> String {
    match (
        samples.median(subject, metric),
        samples.ninth_decile(subject, metric),
    ) {
        (Some(size), _) if matches!(metric, Metric::Binary | Metric::Zip) => {
            format!("{size:>16.2}")
        }
        (Some(median), Some(decile)) => format!("{:>16}", format!("{median:.2} / {decile:.2}")),
        _ => format!("{:>16}", "-"),
    }
}

/// Everything, for machines and for the README.
pub(crate) fn as_json(
    samples: &Samples,
    subjects: &[&str],
    gates: &[Gate],
    facts: &Facts,
    calls: &[(&str, String)],
) -> Value {
    let order: Vec<&str> = subjects.iter().copied().chain([PSQL, RAW]).collect();
    let calls: BTreeMap<&str, &str> = calls
        .iter()
        .map(|(name, it)| (*name, it.as_str()))
        .collect();
    json!({
        "machine": facts.machine,
        "postgres": facts.postgres,
        "rounds": facts.rounds,
        "load": [facts.load_before, facts.load_after],
        "missing": facts.missing,
        "gates": gates.iter().map(Gate::as_json).collect::<Vec<_>>(),
        "order": order,
        "calls": calls,
        "subjects": samples.as_json(),
    })
}

/// One line on standard output.
pub(crate) fn print_json(summary: &Value) {
    line(&summary.to_string());
}

fn line(text: &str) {
    // A reader that has gone away does not want the rest.
    let _ = writeln!(std::io::stdout(), "{text}");
}
