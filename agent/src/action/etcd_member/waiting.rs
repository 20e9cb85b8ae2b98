//! Waiting for something of a cluster that passes by itself, with a word every now and then about what is waited for.

use crate::action::Context;
use std::time::Duration;
use wavegate_common::id::Timestamp;

/// How long to wait before it is looked again: shortly at first, for most of what is waited for is about to be there (members elect
/// another leader within seconds), and a seventh longer each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(60);
const PAUSE: Duration = Duration::from_secs(1);

/// How often it is said again.
const AGAIN_MS: u64 = 10_000;

/// A wait that has a limit.
pub struct Waiting {
    until: Timestamp,
    told: Option<Timestamp>,
    pause: Duration,
}

impl Waiting {
    /// Waits for at most so long from now on.
    #[must_use]
    pub fn new(within_s: u64, cx: &Context<'_>) -> Self {
        let until = cx.host.now().0.saturating_add(within_s.saturating_mul(1000));
        Self { until: Timestamp(until), told: None, pause: FIRST_PAUSE }
    }

    /// Waits a moment, and says for what, unless it said something a moment ago. `false` if the time is up; then it does not
    /// wait.
    pub fn goes_on(&mut self, what: &str, cx: &mut Context<'_>) -> bool {
        let now = cx.host.now();
        if now >= self.until {
            return false;
        }
        if self.told.is_none_or(|told| now.millis_since(told) >= AGAIN_MS) {
            (cx.output)(&format!("waiting: {what}"));
            self.told = Some(now);
        }
        cx.host.sleep(self.pause);
        self.pause = PAUSE.min(self.pause * 8 / 7);
        true
    }
}
