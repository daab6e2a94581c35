//! The plot in the README: cold CPU time of every subject as a bar on a logarithmic axis, as SVG text.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    APPROVAL, COMPUTE_WAIT, DISABLE_LOGIN, ENABLE_LOGIN, FLOOR, LOGIN_CORE, NODE_ENABLE,
    NODE_LOGIN, NOTIFY, PSQL, PYTHON_ENABLE, PYTHON_LOGIN,
};

/// From the top; a gap stands before each group.
const GROUPS: [&[&str]; 4] = [
    &[FLOOR],
    &[COMPUTE_WAIT, NOTIFY, APPROVAL, DISABLE_LOGIN],
    &[ENABLE_LOGIN, NODE_ENABLE, PYTHON_ENABLE],
    &[LOGIN_CORE, PSQL, NODE_LOGIN, PYTHON_LOGIN],
];

const LEFT: f64 = 190.0;
const WIDTH: f64 = 440.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const GAP: f64 = 10.0;
const TOP: f64 = 56.0;

/// The whole picture of a run's summary. Its colours are readable on light and dark pages.
pub(crate) fn svg(summary: &Value) -> String {
    let mut bars = String::new();
    let mut y = TOP;
    for group in GROUPS {
        for subject in group {
            let median = &summary["subjects"][*subject]["cold_cpu_ms"]["median"];
            let Some(millis) = median.as_f64() else {
                continue;
            };
            let theirs = subject.contains(" in ") || *subject == PSQL;
            let colour = if theirs { "#b35c1e" } else { "#1a7f5a" };
            let (width, middle) = (length(millis), y + BAR * 0.78);
            // Writing to a text cannot fail.
            let _ = writeln!(
                bars,
                r#"<text x="{:.0}" y="{middle:.1}" text-anchor="end">{subject}</text><rect x="{LEFT}" y="{y:.1}" width="{width:.1}" height="{BAR}" fill="{colour}"/><text x="{:.1}" y="{middle:.1}">{}</text>"#,
                LEFT - 8.0,
                LEFT + width + 6.0,
                written(millis)
            );
            y += STEP;
        }
        y += GAP;
    }
    let mut axis = String::new();
    for millis in [1.0, 10.0, 100.0, 1000.0] {
        let x = LEFT + length(millis);
        let _ = writeln!(
            axis,
            r##"<line x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{:.1}" stroke="#888" stroke-width="0.5"/><text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="#888">{}</text>"##,
            TOP - 6.0,
            y - GAP,
            y + 8.0,
            written(millis)
        );
    }
    let height = y + 40.0;
    let title = "CPU time from process start to the first answer (median, logarithmic)";
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height:.0}" width="720" height="{height:.0}" role="img" aria-label="{title}" font-family="sans-serif" font-size="12" fill="#777">
<text x="16" y="22" font-size="14" font-weight="bold">{title}</text>
<text x="16" y="40">{machine}, {rounds} rounds, load {before} to {after}: only ratios count. Green is ours.</text>
{axis}{bars}</svg>
"##,
        machine = escaped(summary["machine"].as_str().unwrap_or_default()),
        rounds = summary["rounds"],
        before = summary["load"][0].as_str().unwrap_or_default(),
        after = summary["load"][1].as_str().unwrap_or_default(),
    )
}

/// From a tenth of a millisecond to a little over a second.
fn length(millis: f64) -> f64 {
    (((millis.max(0.2) / 0.1).log10() / 4.1) * WIDTH).clamp(1.0, WIDTH)
}

fn written(millis: f64) -> String {
    if millis >= 10.0 || millis.fract() == 0.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{millis:.1} ms")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_shows_what_was_measured_and_nothing_else() {
        let picture = svg(&serde_json::json!({
            "machine": "2 × <some> processor", "rounds": 20, "load": ["0.1", "0.2"],
            "subjects": {
                FLOOR: { "cold_cpu_ms": { "median": 1.5 } },
                PYTHON_ENABLE: { "cold_cpu_ms": { "median": 700.0 } },
            },
        }));
        assert!(picture.contains("1.5 ms") && picture.contains("700 ms"));
        assert!(picture.contains("load 0.1 to 0.2") && picture.contains("&lt;some>"));
        assert!(!picture.contains(NODE_LOGIN));
        assert_eq!(picture.matches("<rect").count(), 2);
    }
}
