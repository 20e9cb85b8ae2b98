//! Where a simulation's decisions come from: one seed, and a stream of numbers of its own for each subject, so that what one
//! subject asks for does not move what another one gets.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use std::ops::RangeInclusive;

/// A stream of decisions.
#[derive(Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream of a subject under a seed.
    #[must_use]
    pub fn new(seed: u64, subject: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(subject).finalize();
        Self(ChaCha8Rng::from_seed(digest.into()))
    }

    /// A number in a range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// True once in so many times on average; never for 0.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.0.random_range(0..times) == 0
    }

    /// An index below a count, which must not be 0.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// One of several; `None` if there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// One of several, each as likely as its weight says.
    ///
    /// # Panics
    /// If there are none, or all weigh nothing.
    pub fn weighed<T: Copy>(&mut self, from: &[(u64, T)]) -> T {
        let total: u64 = from.iter().map(|(weight, _)| weight).sum();
        let mut at = self.0.random_range(0..total);
        for (weight, choice) in from {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *choice,
            }
        }
        unreachable!("the number drawn is below the sum of the weights")
    }

    /// How long until the next of things that happen by chance, in milliseconds, at least 1: `mean` on average, sometimes
    /// much sooner or later.
    pub fn interval(&mut self, mean_ms: u64) -> u64 {
        let unit: f64 = self.0.random_range(f64::EPSILON..1.0);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // Times of a simulation are far below 2^52 ms.
        let interval = (-unit.ln() * mean_ms as f64) as u64;
        interval.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_all_and_subjects_do_not_move_each_other() {
        let draw = |seed, subject| {
            let mut chance = Chance::new(seed, subject);
            (0..8).map(|_| chance.within(0..=1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "network"), draw(7, "network"));
        assert_ne!(draw(7, "network"), draw(7, "faults"));
        assert_ne!(draw(7, "network"), draw(8, "network"));
    }

    #[test]
    fn weights_and_intervals_are_what_they_say() {
        let mut chance = Chance::new(1, "test");
        let heavy = (0..1000).filter(|_| chance.weighed(&[(9, true), (0, false), (1, false)])).count();
        assert!((850..950).contains(&heavy), "{heavy}");
        let sum: u64 = (0..1000).map(|_| chance.interval(500)).sum();
        assert!((400_000..600_000).contains(&sum), "{sum}");
    }
}
