//! The queue at the coordinator's own door: how long agents have stood in it, which is nobody's absence. Whoever accepts
//! connections says that there is a queue, and the engine looks.

use super::{Engine, Port};
use crate::clock::Clock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wavegate_common::id::Timestamp;
use wavegate_common::rollout::{Subject, WaitingOn};

/// The queue is looked at every few milliseconds while there is one: if it was not for so long, there was none in between.
const GAP_MS: u64 = 1000;
/// A queue is excused for so long from its beginning. A whole fleet is back sooner; who holds the door up on purpose must not keep
/// nodes that are gone from being found lost.
const MOST_MS: u64 = 300_000;
/// So long without a queue, and the next one is another.
const OVER_MS: u64 = 60_000;
/// Less than this is not worth looking at every node for.
const GRAIN_MS: u64 = 250;

/// The queue; moments are by [`Clock::elapsed_ms`].
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// When the queue began that was there last, and when it was seen last.
    last: Option<(u64, u64)>,
    /// How long there was one, since that was asked for.
    waited_ms: u64,
}

impl Queue {
    /// There is a queue now.
    fn is_there(&self, now_ms: u64) {
        let mut seen = self.seen();
        let began = match seen.last {
            Some((began, last)) if now_ms.saturating_sub(last) < OVER_MS => {
                let for_ms = now_ms.saturating_sub(last);
                if for_ms < GAP_MS && now_ms.saturating_sub(began) <= MOST_MS {
                    seen.waited_ms = seen.waited_ms.saturating_add(for_ms);
                }
                began
            }
            Some(_) | None => now_ms,
        };
        seen.last = Some((began, now_ms));
    }

    /// How long somebody has stood in it since this last said so.
    fn waited_ms(&self) -> u64 {
        let mut seen = self.seen();
        if seen.waited_ms < GRAIN_MS { 0 } else { std::mem::take(&mut seen.waited_ms) }
    }

    /// What there is to say of it, if there is one.
    pub(super) fn reason(&self, clock: &Clock) -> Option<WaitingOn> {
        let (began, last) = self.seen().last?;
        let now_ms = clock.elapsed_ms();
        if now_ms.saturating_sub(last) >= GAP_MS || last.saturating_sub(began) < GAP_MS {
            return None;
        }
        Some(WaitingOn {
            subject: Subject::Rollout,
            why: "more agents dial in than the coordinator can shake hands with at a time; those who wait for it are not counted as \
                  away for the first 5 minutes"
                .to_owned(),
            since: Timestamp(clock.now().0.saturating_sub(now_ms.saturating_sub(began))),
            nodes: Vec::new(),
            by: None,
            unblock: "nothing to do for a fleet that comes back: it gets in by itself; if it goes on for minutes, see what keeps the \
                      coordinator's processors busy (top), and in its log who dials in a loop"
                .to_owned(),
        })
    }

    /// Whoever panicked with it left it whole: no step in between could.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// Tells that somebody may be waiting to be let in: said every few milliseconds while that is so.
    pub fn door_has_a_queue(&self) {
        self.pace.queue.is_there(self.clock.elapsed_ms());
    }
}

impl Engine {
    /// Whoever stood in the queue was not away for it, and it may be any node that is not connected.
    pub(super) fn excuse_who_queued(&mut self) {
        let waited_ms = self.pace.queue.waited_ms();
        if waited_ms > 0 {
            self.links.excuse_away(waited_ms, self.looked_at);
            self.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hands;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    /// There is a queue, which is seen every so often.
    fn stands(queue: &Queue, from_ms: u64, to_ms: u64, every_ms: usize) {
        (from_ms..=to_ms).step_by(every_ms).for_each(|now| queue.is_there(now));
    }

    #[test]
    fn only_the_time_in_which_there_was_a_queue_counts() {
        let queue = Queue::default();
        assert_eq!(queue.waited_ms(), 0);
        stands(&queue, 5_000, 8_000, 10);
        assert_eq!((queue.waited_ms(), queue.waited_ms()), (3_000, 0));
        stands(&queue, 8_010, 8_200, 10);
        assert_eq!(queue.waited_ms(), 0, "not yet worth it");
        stands(&queue, 8_200, 8_300, 10);
        assert_eq!(queue.waited_ms(), 300);
        stands(&queue, 20_000, 21_000, 10);
        assert_eq!(queue.waited_ms(), 1_000, "nobody waited in between");
    }

    #[test]
    fn who_holds_the_door_up_for_ever_is_no_excuse_for_ever() {
        let queue = Queue::default();
        stands(&queue, 0, 3 * MOST_MS, 500);
        assert_eq!(queue.waited_ms(), MOST_MS);
        let pause = OVER_MS - 1;
        stands(&queue, 3 * MOST_MS + pause, 4 * MOST_MS, 500);
        assert_eq!(queue.waited_ms(), 0, "a short pause changes nothing");
        let next = 4 * MOST_MS + OVER_MS;
        stands(&queue, next, next + 10_000, 500);
        assert_eq!(queue.waited_ms(), 10_000);
    }

    #[test]
    fn a_queue_is_told_of_while_it_is_there() {
        let hands = Arc::new(Hands::default());
        let clock = Clock::by_hands(hands.clone());
        let queue = Queue::default();
        let at = |ms| {
            hands.wall.store(100_000 + ms, Ordering::SeqCst);
            hands.elapsed.store(ms, Ordering::SeqCst);
            queue.reason(&clock)
        };
        stands(&queue, 2_000, 2_900, 10);
        assert_eq!(at(2_900), None, "a moment's");
        stands(&queue, 2_900, 5_000, 10);
        assert_eq!(at(5_500).map(|told| told.since), Some(Timestamp(102_000)));
        assert_eq!(at(6_000), None, "it is over");
    }
}
