//! How long to wait before the coordinator is dialled again: exponential, with full jitter, so that a fleet that lost
//! its coordinator does not come back in one moment. The seed is an argument: the same seed waits the same times.

use std::time::Duration;

/// The waits before the next attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// Waits that are at first at most `min`, and never more than `max`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, failures: 0, state: seed }
    }

    /// The wait after one more failure: anything from 0 to `min`, then to twice as much and so on, up to `max`.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.min.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let ceiling_ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.random() % (ceiling_ms + 1))
    }

    /// The wait before something that will not be otherwise soon, such as what a person must mend first: at least half of the longest,
    /// and no more than that.
    pub fn long_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let half_ms = u64::try_from(self.max.as_millis() / 2).unwrap_or(u64::MAX - 1);
        self.max - Duration::from_millis(self.random() % (half_ms + 1))
    }

    /// It worked: the next failure is the first again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): well spread from any seed, which is all that is needed here.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_again() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(20));
        for seed in 0..200 {
            let mut backoff = Backoff::new(min, max, seed);
            for ceiling in [1, 2, 4, 8, 16, 20, 20, 20] {
                assert!(backoff.next_delay() <= Duration::from_secs(ceiling), "seed {seed}");
            }
            (0..100).for_each(|_| assert!(backoff.next_delay() <= max));
            backoff.reset();
            assert!(backoff.next_delay() <= min);
        }
    }

    #[test]
    fn a_long_wait_is_long_at_once() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(20));
        for seed in 0..200 {
            let delay = Backoff::new(min, max, seed).long_delay();
            assert!((max / 2..=max).contains(&delay), "seed {seed}: {delay:?}");
        }
    }

    #[test]
    fn a_fleet_spreads_over_the_whole_wait() {
        let wait = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(20), seed);
            (0..10).fold(Duration::ZERO, |_, _| backoff.next_delay())
        };
        let mut tenths = [0_u32; 10];
        (0..10_000).for_each(|seed| tenths[(wait(seed).as_millis() / 2001) as usize] += 1);
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
    }
}
