//! What the service manager is told: readiness, how things stand, and that the agent's loop goes round. Nothing is told where
//! nobody wants to be told.

use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Tells the service manager, if there is one that wants to be told.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Signs that a loop goes round, for a watchdog. The loop waits for [`Signs::due`] beside everything else, and gives them itself:
/// a loop that stands still gives none, whatever else of the program still runs.
pub struct Signs {
    due: Option<Interval>,
    give: Arc<dyn Fn() + Send + Sync>,
}

impl Signs {
    /// For the service manager's watchdog; none, if it has none for this process. Must be called inside a runtime.
    #[must_use]
    pub fn for_service_manager() -> Self {
        match sd_notify::watchdog_enabled() {
            // Three in its time: one may be late, and another get lost.
            Some(within) if !within.is_zero() => Self::every(within / 3, || notify(&[NotifyState::Watchdog])),
            _ => Self::none(),
        }
    }

    /// Signs so often. Must be called inside a runtime.
    #[must_use]
    pub fn every(period: Duration, give: impl Fn() + Send + Sync + 'static) -> Self {
        let mut due = interval(period);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { due: Some(due), give: Arc::new(give) }
    }

    /// No signs.
    #[must_use]
    pub fn none() -> Self {
        Self { due: None, give: Arc::new(|| {}) }
    }

    /// Ready when the next one is due, the first at once; never, if none are wanted.
    pub async fn due(&mut self) {
        match &mut self.due {
            Some(due) => {
                due.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Gives one.
    pub fn give(&self) {
        (self.give)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Signs every millisecond, and how many were given.
    fn counted() -> (Signs, Arc<AtomicUsize>) {
        let given = Arc::new(AtomicUsize::new(0));
        let counting = given.clone();
        let signs = Signs::every(Duration::from_millis(1), move || {
            counting.fetch_add(1, Ordering::Relaxed);
        });
        (signs, given)
    }

    #[tokio::test]
    async fn they_come_as_often_as_they_are_wanted() {
        let (mut signs, given) = counted();
        for wanted in 1..=5 {
            signs.due().await;
            signs.give();
            assert_eq!(given.load(Ordering::Relaxed), wanted);
        }
    }

    #[tokio::test]
    async fn none_are_due_where_none_are_wanted() {
        let mut ticks = interval(Duration::from_millis(1));
        let mut signs = Signs::none();
        for _ in 0..20 {
            tokio::select! {
                () = signs.due() => panic!("none are wanted"),
                _ = ticks.tick() => {}
            }
        }
    }
}
