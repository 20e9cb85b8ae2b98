//! The virtual clock and what is due when. Nothing waits: the clock jumps to whatever is due next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What is to come, in the order of time; of what is due at the same moment, what was put in first comes first.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: u64,
    sequence: u64,
    due: BinaryHeap<Due<E>>,
}

#[derive(Debug)]
struct Due<E> {
    at: u64,
    sequence: u64,
    event: E,
}

impl<E> Scheduler<E> {
    /// At time 0, with nothing to come.
    #[must_use]
    pub const fn new() -> Self {
        Self { now: 0, sequence: 0, due: BinaryHeap::new() }
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Puts something in that is due after so many milliseconds.
    pub fn after(&mut self, delay_ms: u64, event: E) {
        self.at(self.now.saturating_add(delay_ms), event);
    }

    /// Puts something in that is due at a time; at once, if that is past.
    pub fn at(&mut self, time: u64, event: E) {
        self.sequence += 1;
        self.due.push(Due { at: time.max(self.now), sequence: self.sequence, event });
    }

    /// Lets time pass until something is due, and returns it; `None` if nothing is to come.
    pub fn advance(&mut self) -> Option<E> {
        let next = self.due.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Due<E> {
    const fn key(&self) -> (u64, u64) {
        (self.at, self.sequence)
    }
}

/// The heap gives its greatest, and that is to be the earliest.
impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Due<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_at_one_moment_what_was_put_in_first() {
        let mut scheduler = Scheduler::new();
        scheduler.after(20, "late");
        scheduler.after(10, "first");
        scheduler.after(10, "second");
        assert_eq!((scheduler.advance(), scheduler.now()), (Some("first"), 10));
        scheduler.at(3, "past");
        let rest: Vec<_> = std::iter::from_fn(|| scheduler.advance()).collect();
        assert_eq!((rest, scheduler.now()), (vec!["second", "past", "late"], 20));
    }
}
