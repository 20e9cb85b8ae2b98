//! How long programs take on fake machines by the clock on the wall, for load tests: otherwise they take no time at all. The
//! machines' own clocks know nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The pace of one machine, or of many: clones are the same. The default is no time at all.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<AtomicU64>);

impl Pace {
    /// Every program that is started from now on takes so long, in whole milliseconds.
    pub fn set(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn wait(&self) {
        let ms = self.0.load(Ordering::Relaxed);
        if ms > 0 {
            std::thread::sleep(Duration::from_millis(ms));
        }
    }
}
