//! `cargo xtask bench readme`: the figures of the last run in the README, and its plot in docs.

use std::path::PathBuf;

use serde_json::Value;
use xtask::error::{Error, Result};
use xtask::{console, workspace};

use super::plot;

const BEGIN: &str = "<!-- cargo xtask bench readme: begin -->";
const END: &str = "<!-- cargo xtask bench readme: end -->";
/// Fewer rounds are for trying something out.
const FEWEST_ROUNDS: u64 = 20;

/// Columns of the table of figures: heading, metric, and whether the ninth decile stands beside the median.
const COLUMNS: [(&str, &str, bool); 8] = [
    ("cold, ms", "cold_ms", true),
    ("cold CPU, ms", "cold_cpu_ms", true),
    ("warm, ms", "warm_ms", true),
    ("warm CPU, ms", "warm_cpu_ms", true),
    ("cold at 128 MB, ms", "cold_at_128_mb_ms", true),
    ("memory, MB", "memory_mb", false),
    ("binary, MB", "binary_mb", false),
    ("zip, MB", "zip_mb", false),
];

/// Writes `docs/bench.json`, `docs/bench.svg` and the part of `README.md` that stands between its marks.
pub(crate) fn write() -> Result<()> {
    let measured = workspace::read(&workspace::target().join("bench/bench.json"))?;
    let summary = parsed(&measured)?;
    if summary["rounds"].as_u64().unwrap_or_default() < FEWEST_ROUNDS {
        return Err(Error::NotAsPromised(format!(
            "the last run has {} rounds; run cargo xtask bench with at least {FEWEST_ROUNDS} before",
            summary["rounds"]
        )));
    }
    let pretty = serde_json::to_string_pretty(&summary).unwrap_or_default();
    workspace::write(&file("docs/bench.json"), &format!("{pretty}\n"))?;
    workspace::write(&file("docs/bench.svg"), &plot::svg(&summary))?;
    let readme = workspace::read(&file("README.md"))?;
    let readme = with_section(&readme, &section(&summary)).ok_or_else(|| {
        Error::Repository(format!("README.md has no place between {BEGIN} and {END}"))
    })?;
    workspace::write(&file("README.md"), &readme)?;
    console::say("wrote docs/bench.json, docs/bench.svg and README.md");
    Ok(())
}

fn file(path: &str) -> PathBuf {
    workspace::root().join(path)
}

fn parsed(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::Repository(format!("the figures are not JSON: {error}")))
}

fn with_section(readme: &str, section: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

/// The part of the README: where it was measured, the ratios, the figures.
fn section(summary: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        "<p align=\"center\"><img src=\"docs/bench.svg\" width=\"720\" alt=\"CPU time from process start to the first answer, each function beside Python, Node and psql, as in the table below.\"></p>".to_owned(),
        String::new(),
        format!(
            "{} rounds on {}, shared with other work (load {} before and {} after), PostgreSQL {}. So only ratios within this run count.",
            summary["rounds"],
            text(&summary["machine"]),
            text(&summary["load"][0]),
            text(&summary["load"][1]),
            text(&summary["postgres"]),
        ),
        String::new(),
        "| ratio of medians | measured | gate | reach for |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for gate in summary["gates"].as_array().into_iter().flatten() {
        let demanded = text(&gate["gate"]);
        let side: String = demanded.chars().take(1).collect();
        let reach = gate["reach"]
            .as_f64()
            .map_or(String::new(), |reach| format!("{side} {reach}"));
        let verdict = if gate["met"] == true {
            ""
        } else {
            " **missed**"
        };
        lines.push(format!(
            "| {} | {}{verdict} | {demanded} | {reach} |",
            text(&gate["name"]),
            number(&gate["value"]),
        ));
    }
    let headings = COLUMNS.map(|(heading, ..)| heading).join(" | ");
    lines.extend([
        String::new(),
        format!("| median (ninth decile) | {headings} |"),
        format!("|---{}|", "|---".repeat(COLUMNS.len())),
    ]);
    for subject in summary["order"].as_array().into_iter().flatten() {
        let name = text(subject);
        let cells = COLUMNS.map(|(_, metric, with_decile)| {
            let measured = &summary["subjects"][&name][metric];
            match (&measured["median"], &measured["p90"]) {
                (Value::Null, _) => String::new(),
                (median, decile) if with_decile => {
                    format!("{} ({})", number(median), number(decile))
                }
                (median, _) => number(median),
            }
        });
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Three digits are more than a repetition gives.
fn number(value: &Value) -> String {
    match value.as_f64() {
        None => String::new(),
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) if number >= 10.0 => format!("{number:.1}"),
        Some(number) => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_section_stands_between_its_marks_and_says_what_was_missed() {
        let summary = json!({
            "machine": "2 × processor", "postgres": "15.1", "rounds": 20, "load": ["1", "2"],
            "order": ["floor", "enable-login"],
            "gates": [
                { "name": "a / b", "value": 3.456, "gate": "≤ 4", "reach": 3.0, "met": true },
                { "name": "c / d", "value": null, "gate": "≥ 4", "reach": null, "met": false },
            ],
            "subjects": { "floor": { "cold_ms": { "median": 1.234, "p90": 123.4, "n": 20 } } },
        });
        let readme = with_section(
            &format!("a\n{BEGIN}\nstale\n{END}\nz\n"),
            &section(&summary),
        )
        .unwrap();
        assert!(
            readme.starts_with("a\n") && readme.ends_with("\nz\n") && !readme.contains("stale")
        );
        assert!(readme.contains("| a / b | 3.46 | ≤ 4 | ≤ 3 |"), "{readme}");
        assert!(
            readme.contains("| c / d |  **missed** | ≥ 4 |  |"),
            "{readme}"
        );
        assert!(readme.contains("| floor | 1.23 (123) |"), "{readme}");
        assert_eq!(with_section(&readme, &section(&summary)).unwrap(), readme);
    }

    #[test]
    fn the_readme_has_a_place_for_the_figures() {
        let readme = workspace::read(&file("README.md")).unwrap();
        assert!(with_section(&readme, "").is_some());
    }
}
