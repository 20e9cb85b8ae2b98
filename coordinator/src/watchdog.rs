//! Signs of life for the service manager, which ends and restarts a coordinator that gives none. The engine's loop gives them
//! between its turns, and nothing else does: a loop that stands still is noticed, whatever else of the process is well.

use std::time::{Duration, Instant};

/// Signs are given so much more often than they are waited for, since a turn of the loop may take long.
const MORE_OFTEN: u32 = 4;

/// Gives signs of life.
pub struct Watchdog {
    every: Duration,
    last: Option<Instant>,
    give: Box<dyn FnMut() + Send>,
}

impl Watchdog {
    /// The service manager's, if it waits for signs (`WATCHDOG_USEC`).
    #[must_use]
    pub fn of_service() -> Option<Self> {
        let within = sd_notify::watchdog_enabled().filter(|within| !within.is_zero())?;
        Some(Self::new(within, || {
            if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
                tracing::warn!(%error, "the service manager could not be given a sign of life");
            }
        }))
    }

    /// One that calls `give` at least once `within` a time, as long as it is asked to often enough.
    #[must_use]
    pub fn new(within: Duration, give: impl FnMut() + Send + 'static) -> Self {
        Self { every: within / MORE_OFTEN, last: None, give: Box::new(give) }
    }

    /// Whoever calls this is alive now.
    pub fn alive(&mut self, now: Instant) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every) {
            self.last = Some(now);
            (self.give)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn signs_are_given_often_enough_and_not_at_every_turn() {
        let given = Arc::new(AtomicU32::new(0));
        let count = given.clone();
        let mut watchdog = Watchdog::new(Duration::from_secs(120), move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let begin = Instant::now();
        let mut given_by = |second: u64| {
            watchdog.alive(begin + Duration::from_secs(second));
            given.load(Ordering::SeqCst)
        };
        assert_eq!([0, 1, 29, 30, 31, 59, 60, 200].map(&mut given_by), [1, 1, 1, 2, 2, 2, 3, 4]);
    }
}
