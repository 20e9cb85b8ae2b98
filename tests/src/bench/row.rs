//! A row of the table: one thing that was measured, for one or more sizes of the fleet.

use serde::{Deserialize, Serialize};

/// One thing that was measured. The parts of the benchmark are programs of their own and give their rows as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, as the table says it.
    pub what: String,
    /// The unit of the values and the limit, e.g. `KiB`, `s`, `% of a core`; empty for a ratio.
    pub unit: String,
    /// What it must come to, if there is a target: it holds for the last value.
    pub limit: Option<Limit>,
    /// What was measured, the smallest fleet first.
    pub values: Vec<Value>,
    /// What must be known to read it, in a line; empty if nothing.
    pub note: String,
}

/// What was measured for one size of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Nodes; `None` where the fleet's size does not matter.
    pub nodes: Option<u32>,
    /// In the row's unit.
    pub value: f64,
}

/// What a value must come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// Exactly this; for counts.
    Exactly(f64),
}

impl Row {
    /// A row without values.
    #[must_use]
    pub fn new(what: impl Into<String>, unit: impl Into<String>, limit: Option<Limit>) -> Self {
        Self { what: what.into(), unit: unit.into(), limit, values: Vec::new(), note: String::new() }
    }

    /// With a value for a fleet of so many nodes.
    #[must_use]
    pub fn at(mut self, nodes: u32, value: f64) -> Self {
        self.values.push(Value { nodes: Some(nodes), value });
        self
    }

    /// With a value that has nothing to do with the fleet's size.
    #[must_use]
    pub fn value(mut self, value: f64) -> Self {
        self.values.push(Value { nodes: None, value });
        self
    }

    /// With what must be known to read it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether its target is met; `None` if it has none. A target without a value is not met.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let limit = self.limit?;
        Some(self.values.last().is_some_and(|last| limit.holds(last.value)))
    }
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::Below(end) => value < end,
            Self::Exactly(wanted) => (value - wanted).abs() < f64::EPSILON,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fleet_decides() {
        let row = Row::new("memory", "KiB", Some(Limit::AtMost(24.0))).at(100, 90.0).at(10_000, 24.0);
        assert_eq!(row.met(), Some(true));
        assert_eq!(row.at(20_000, 24.1).met(), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(Row::new("writes", "", Some(Limit::Exactly(0.0))).met(), Some(false));
        assert_eq!(Row::new("writes", "", Some(Limit::Exactly(0.0))).value(1.0).met(), Some(false));
        assert_eq!(Row::new("growth", "", Some(Limit::Below(1.2))).value(1.2).met(), Some(false));
        assert_eq!(Row::new("said only", "", None).value(1.2).met(), None);
    }
}
