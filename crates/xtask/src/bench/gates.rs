//! What the figures of one run must hold, as ratios: milliseconds differ from machine to machine.

use serde_json::{Value, json};

use super::statistics::{Metric, Samples};
use super::{
    APPROVAL, COMPUTE_WAIT, DISABLE_LOGIN, ENABLE_LOGIN, FLOOR, LOGIN_CORE, NODE_LOGIN, NOTIFY,
    PSQL, PYTHON_ENABLE, PYTHON_LOGIN, RAW,
};

/// A figure, what it must be, and what to reach for.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) name: String,
    /// `None` if it could not be measured, which is not met.
    pub(crate) value: Option<f64>,
    pub(crate) bound: Bound,
    pub(crate) reach: Option<f64>,
}

/// Which side of a number is good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Gate {
    pub(crate) fn is_met(&self) -> bool {
        self.holds(self.bound.limit())
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.reach.is_some_and(|reach| self.holds(reach))
    }

    /// "≤ 4" and the like.
    pub(crate) fn demands(&self) -> String {
        match self.bound {
            Bound::AtMost(limit) => format!("≤ {limit}"),
            Bound::AtLeast(limit) => format!("≥ {limit}"),
        }
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value.map(|value| (value * 1000.0).round() / 1000.0),
            "gate": self.demands(),
            "reach": self.reach,
            "met": self.is_met(),
            "reached": self.is_reached(),
        })
    }

    fn holds(&self, limit: f64) -> bool {
        self.value.is_some_and(|value| match self.bound {
            Bound::AtMost(_) => value <= limit,
            Bound::AtLeast(_) => value >= limit,
        })
    }
}

impl Bound {
    fn limit(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }
}

/// Every gate over the medians of a run; `round_trips` are those of the login core's first connection.
pub(crate) fn gates(samples: &Samples, round_trips: Option<u32>) -> Vec<Gate> {
    use Bound::{AtLeast, AtMost};
    use Metric::{Cold, Cold128, ColdCpu, Memory, WarmCpu};
    let gate = |name: &str, value: Option<f64>, bound: Bound, reach: Option<f64>| Gate {
        name: name.to_owned(),
        value,
        bound,
        reach,
    };
    let ratio = |subject: &str, other: &str, metric: Metric| samples.ratio(subject, other, metric);
    let over_raw = |metric: Metric| {
        let raw = samples.median(RAW, Metric::Warm)?;
        Some(samples.median(DISABLE_LOGIN, metric)? / raw)
    };
    let functions = [COMPUTE_WAIT, NOTIFY, APPROVAL, ENABLE_LOGIN, DISABLE_LOGIN];
    let largest = |metric: Metric| {
        let sizes: Option<Vec<f64>> = functions
            .iter()
            .map(|function| samples.median(function, metric))
            .collect();
        sizes?.into_iter().reduce(f64::max)
    };
    vec![
        gate(
            "login core: cold CPU / floor",
            ratio(LOGIN_CORE, FLOOR, ColdCpu),
            AtMost(4.0),
            Some(3.0),
        ),
        gate(
            "login core: whole cold start / one psql, wall",
            ratio(LOGIN_CORE, PSQL, Cold),
            AtMost(0.6),
            Some(0.4),
        ),
        gate(
            "login core: whole cold start / one psql, CPU",
            ratio(LOGIN_CORE, PSQL, ColdCpu),
            AtMost(0.35),
            Some(0.2),
        ),
        gate(
            "login core: Python / ours, cold CPU",
            ratio(PYTHON_LOGIN, LOGIN_CORE, ColdCpu),
            AtLeast(60.0),
            Some(110.0),
        ),
        gate(
            "login core: Node / ours, cold CPU",
            ratio(NODE_LOGIN, LOGIN_CORE, ColdCpu),
            AtLeast(35.0),
            Some(60.0),
        ),
        gate(
            "login core at 128 MB: Python / ours",
            ratio(PYTHON_LOGIN, LOGIN_CORE, Cold128),
            AtLeast(18.0),
            Some(30.0),
        ),
        gate(
            "login core: warm CPU / raw connect in one process",
            ratio(LOGIN_CORE, RAW, WarmCpu),
            AtMost(1.5),
            Some(1.1),
        ),
        gate(
            "login core: round trips of the first PostgreSQL connection",
            round_trips.map(f64::from),
            AtMost(7.0),
            Some(6.0),
        ),
        gate(
            "enable-login: Python / ours, cold CPU",
            ratio(PYTHON_ENABLE, ENABLE_LOGIN, ColdCpu),
            AtLeast(50.0),
            Some(100.0),
        ),
        gate(
            "enable-login: Python / ours, cold wall",
            ratio(PYTHON_ENABLE, ENABLE_LOGIN, Cold),
            AtLeast(20.0),
            Some(40.0),
        ),
        gate(
            "peak memory: Python / ours, login core",
            ratio(PYTHON_LOGIN, LOGIN_CORE, Memory),
            AtLeast(6.0),
            Some(10.0),
        ),
        gate(
            "peak memory: Python / ours, enable-login",
            ratio(PYTHON_ENABLE, ENABLE_LOGIN, Memory),
            AtLeast(6.0),
            Some(10.0),
        ),
        gate(
            "peak memory: the most of any function / floor",
            largest(Memory).and_then(|most| Some(most / samples.median(FLOOR, Memory)?)),
            AtMost(4.0),
            Some(2.5),
        ),
        gate(
            "zip of the largest function, MB",
            largest(Metric::Zip),
            AtMost(4.0),
            Some(2.5),
        ),
        gate(
            "compute-wait: cold CPU / floor",
            ratio(COMPUTE_WAIT, FLOOR, ColdCpu),
            AtMost(3.5),
            Some(2.5),
        ),
        gate(
            "closing: refused after the end / raw connect and ALTER, warm",
            over_raw(Metric::RefusedWarm),
            AtMost(6.0),
            None,
        ),
        gate(
            "closing: refused after the end / raw connect and ALTER, cold",
            over_raw(Metric::RefusedCold),
            AtMost(10.0),
            None,
        ),
        gate(
            "closing: sessions gone / raw connect and ALTER, warm",
            over_raw(Metric::GoneWarm),
            AtMost(12.0),
            None,
        ),
        gate(
            "closing: sessions gone / raw connect and ALTER, cold",
            over_raw(Metric::GoneCold),
            AtMost(12.0),
            None,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_met() {
        let gates = gates(&Samples::default(), None);
        assert!(
            gates
                .iter()
                .all(|gate| !gate.is_met() && !gate.is_reached())
        );
    }

    #[test]
    fn a_gate_is_met_on_its_side_only() {
        let mut samples = Samples::default();
        samples.add(FLOOR, Metric::ColdCpu, 1.0);
        samples.add(LOGIN_CORE, Metric::ColdCpu, 4.5);
        samples.add(PYTHON_LOGIN, Metric::ColdCpu, 540.0);
        let gates = gates(&samples, Some(7));
        let is_met = |name: &str| gates.iter().any(|gate| gate.name == name && gate.is_met());
        assert!(!is_met("login core: cold CPU / floor"));
        assert!(is_met("login core: Python / ours, cold CPU"));
        assert!(is_met(
            "login core: round trips of the first PostgreSQL connection"
        ));
    }
}
