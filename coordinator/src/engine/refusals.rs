//! Who was refused, for the audit list: each once a minute and so many at most, so that knocking at the door does not
//! fill the disk.

use crate::store::AuditRecord;
use std::collections::BTreeSet;
use wavegate_common::id::Timestamp;

const WINDOW_MS: u64 = 60_000;
const PER_WINDOW: usize = 100;

/// Refusals of the last minute.
#[derive(Default)]
pub(super) struct Refusals {
    since: Timestamp,
    seen: BTreeSet<(String, String)>,
    uncounted: u64,
}

impl Refusals {
    /// Notes a refusal, and says what of it goes into the audit list.
    pub(super) fn note(&mut self, who: String, what: String, now: Timestamp) -> Option<AuditRecord> {
        if self.seen.is_empty() {
            self.since = now;
        }
        if self.seen.len() >= PER_WINDOW || !self.seen.insert((who.clone(), what.clone())) {
            self.uncounted += 1;
            return None;
        }
        Some(AuditRecord { at: now, who, what, result: "refused".to_owned() })
    }

    /// After a minute: how many there were that have no record of their own.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<AuditRecord> {
        if self.seen.is_empty() || now.millis_since(self.since) < WINDOW_MS {
            return None;
        }
        self.seen.clear();
        let count = std::mem::take(&mut self.uncounted);
        let what = format!("{count} more refusals since the first of the last minute");
        (count > 0).then(|| AuditRecord {
            at: now,
            who: "several".to_owned(),
            what,
            result: "refused".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knocking_again_and_again_is_counted_not_kept() {
        let mut refusals = Refusals::default();
        let note = |refusals: &mut Refusals, who: &str, at| {
            refusals.note(who.to_owned(), "x".to_owned(), Timestamp(at))
        };
        assert!(note(&mut refusals, "a", 0).is_some());
        assert!(note(&mut refusals, "a", 1).is_none());
        assert!(note(&mut refusals, "b", 2).is_some());
        assert!(refusals.due(Timestamp(59_999)).is_none());
        let summary = refusals.due(Timestamp(60_000)).expect("one more");
        assert!(summary.what.starts_with("1 more"), "{summary:?}");
        assert!(refusals.due(Timestamp(200_000)).is_none());
        assert!(note(&mut refusals, "a", 200_001).is_some(), "a new minute");
        let kept = (0..1000).filter(|n| note(&mut refusals, &format!("c{n}"), 200_002).is_some()).count();
        assert_eq!(kept, PER_WINDOW - 1);
    }
}
