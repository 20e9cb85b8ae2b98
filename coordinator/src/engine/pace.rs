//! How long the store takes to write: told to operators when it is long, and nobody else's silence. The queue at the door, which
//! is nobody's absence, is `door`'s.

use super::door::Queue;
use crate::clock::Clock;
use std::sync::atomic::{AtomicU64, Ordering};
use wavegate_common::id::Timestamp;
use wavegate_common::rollout::{Subject, WaitingOn};

/// A write that takes so long is told of, and everybody who was not heard of meanwhile is excused.
const LONG_MS: u64 = 1000;
/// So long after its end a long write is still told of.
const TOLD_MS: u64 = 60_000;

/// The pace of the store's writes; moments and durations are by [`Clock::elapsed_ms`]. It may be looked at while a write goes
/// on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the write that is under way began, plus 1; 0 if none is.
    writing_since: AtomicU64,
    /// When the last long one ended, plus 1; 0 if there was none.
    long_ended: AtomicU64,
    /// How long that took.
    long_ms: AtomicU64,
    /// What the long ones took together, since it was asked for.
    stood_still_ms: AtomicU64,
    /// Who waits to be let in.
    pub(super) queue: Queue,
}

/// A write that takes long, or took long a while ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Long {
    took_ms: u64,
    began_ms_ago: u64,
    goes_on: bool,
}

impl Pace {
    /// Writes, and measures how long that takes.
    pub(super) fn measure<T>(&self, clock: &Clock, write: impl FnOnce() -> T) -> T {
        let began = clock.elapsed_ms();
        self.writing_since.store(began.saturating_add(1), Ordering::SeqCst);
        let made = write();
        let ended = clock.elapsed_ms();
        self.writing_since.store(0, Ordering::SeqCst);
        let took = ended.saturating_sub(began);
        if took >= LONG_MS {
            tracing::warn!(took_ms = took, "the store took long to write; what followed from it has waited");
            self.long_ms.store(took, Ordering::SeqCst);
            self.long_ended.store(ended.saturating_add(1), Ordering::SeqCst);
            self.stood_still_ms.fetch_add(took, Ordering::SeqCst);
        }
        made
    }

    /// How long long writes have held the engine up since this was last asked.
    pub(super) fn stood_still_ms(&self) -> u64 {
        self.stood_still_ms.swap(0, Ordering::SeqCst)
    }

    fn long(&self, now_ms: u64) -> Option<Long> {
        if let Some(since) = self.writing_since.load(Ordering::SeqCst).checked_sub(1) {
            let took_ms = now_ms.saturating_sub(since);
            if took_ms >= LONG_MS {
                return Some(Long { took_ms, began_ms_ago: took_ms, goes_on: true });
            }
        }
        let ended_ms_ago = now_ms.saturating_sub(self.long_ended.load(Ordering::SeqCst).checked_sub(1)?);
        let took_ms = self.long_ms.load(Ordering::SeqCst);
        let long = Long { took_ms, began_ms_ago: ended_ms_ago.saturating_add(took_ms), goes_on: false };
        (ended_ms_ago < TOLD_MS).then_some(long)
    }

    /// What there is to say of it, if it is slow; else of the queue at the door, if there is one.
    pub(super) fn reason(&self, clock: &Clock) -> Option<WaitingOn> {
        let slow = self.long(clock.elapsed_ms()).map(|long| long.told(clock.now()));
        slow.or_else(|| self.queue.reason(clock))
    }

    /// The same of a write that is under way.
    pub(super) fn writing(&self, clock: &Clock) -> Option<WaitingOn> {
        Some(self.long(clock.elapsed_ms()).filter(|long| long.goes_on)?.told(clock.now()))
    }
}

impl Long {
    fn told(self, now: Timestamp) -> WaitingOn {
        let Self { took_ms, began_ms_ago, goes_on } = self;
        let seconds = took_ms.div_ceil(1000);
        let why = if goes_on {
            format!("the coordinator's store has been writing for {seconds} s, and everything waits for it")
        } else {
            format!("the coordinator's store took {seconds} s to write, and everything waited for it")
        };
        WaitingOn {
            subject: Subject::Rollout,
            why,
            since: Timestamp(now.0.saturating_sub(began_ms_ago)),
            nodes: Vec::new(),
            by: None,
            unblock: "nothing is lost, and it goes on by itself; see what keeps the coordinator's disk busy (iostat -x 1, dmesg)"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hands;
    use std::sync::Arc;

    #[test]
    fn a_long_write_is_told_of_while_it_goes_on_and_for_a_minute() {
        let hands = Arc::new(Hands::default());
        let clock = Clock::by_hands(hands.clone());
        let pass = |ms| {
            hands.elapsed.fetch_add(ms, Ordering::SeqCst);
        };
        let pace = Pace::default();
        let why = |pace: &Pace| pace.reason(&clock).map(|reason| reason.why);
        pace.measure(&clock, || pass(999));
        assert_eq!((why(&pace), pace.stood_still_ms()), (None, 0));
        pace.measure(&clock, || {
            pass(2001);
            let why = why(&pace).expect("it goes on");
            assert_eq!(why, "the coordinator's store has been writing for 3 s, and everything waits for it");
            pass(1000);
        });
        let told = "the coordinator's store took 4 s to write, and everything waited for it";
        assert_eq!(why(&pace).as_deref(), Some(told));
        assert_eq!((pace.stood_still_ms(), pace.stood_still_ms()), (3001, 0));
        pass(59_999);
        assert_eq!(why(&pace).as_deref(), Some(told));
        pass(1);
        assert_eq!(why(&pace), None);
    }
}
