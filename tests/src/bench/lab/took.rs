//! How long an upgrade took, and what several of them come to.

use std::fmt::{Display, Formatter};

use super::steps::Steps;
use crate::evidence::STAGES;

/// How long an upgrade took, in seconds.
#[derive(Debug, Clone, Default)]
pub struct Took {
    /// From its start to its end.
    pub whole: f64,
    /// Each stage, from its first node's beginning to its last one's end.
    pub stages: [f64; 3],
    /// Of it only for watching that services stay up; of a shell's alone.
    pub watched: f64,
    /// What of it went into which step; empty for a shell's.
    pub steps: Steps,
}

impl Display for Took {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} s", self.whole)?;
        let stages = STAGES.iter().zip(self.stages).map(|(stage, took)| format!("{stage} {took:.1}"));
        write!(f, " ({})", stages.collect::<Vec<_>>().join(", "))
    }
}

/// The least and the greatest, in words.
pub fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.2} to {greatest:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_from_the_least_to_the_greatest() {
        assert_eq!(spread(&[1.05, 0.9, 1.0]), "0.90 to 1.05");
    }
}
