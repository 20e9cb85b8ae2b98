//! What was looked at a moment ago and is not asked again: that the package lists were read, and what a transaction would do.
//! Of one task, or of one preview; after a crash nothing is remembered, and everything is looked at again.

use crate::host::Host;
use crate::os::Os;
use crate::os::packages::{DatabaseState, Foreseen, Wanted};
use std::cell::{Cell, RefCell};
use wavegate_common::id::Timestamp;

/// How long package lists count as just read: the steps of one node's task, one soon after the other.
const LISTS_MS: u64 = 60_000;

/// How long what a transaction would do counts, as long as nothing that decides about it has changed: from a step's check to its
/// work, and to the next step.
const FORESEEN_MS: u64 = 10_000;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Memory {
    lists_read: Cell<Option<Timestamp>>,
    foreseen: RefCell<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: Timestamp,
    state: DatabaseState,
    wanted: Wanted,
    foreseen: Foreseen,
}

impl Memory {
    /// Whether the package lists were read a moment ago.
    #[must_use]
    pub fn has_new_lists(&self, host: &dyn Host) -> bool {
        self.lists_read.get().is_some_and(|read| is_within(read, LISTS_MS, host))
    }

    /// That they were read now.
    pub fn lists_were_read(&self, host: &dyn Host) {
        self.lists_read.set(Some(host.now()));
    }

    /// What a transaction would do, or `ask`ed again if anything that decides about it may have changed since.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn foreseen<E>(
        &self,
        host: &dyn Host,
        os: &Os,
        wanted: &Wanted,
        ask: impl FnOnce() -> Result<Foreseen, E>,
    ) -> Result<Foreseen, E> {
        // Before it is asked: what changes meanwhile is a change.
        let (at, state) = (host.now(), os.database_state(host));
        if let (Some(seen), Some(state)) = (&*self.foreseen.borrow(), &state)
            && (&seen.wanted, &seen.state) == (wanted, state)
            && is_within(seen.at, FORESEEN_MS, host)
        {
            return Ok(seen.foreseen.clone());
        }
        self.foreseen.replace(None);
        let foreseen = ask()?;
        let seen = |state| Seen { at, state, wanted: wanted.clone(), foreseen: foreseen.clone() };
        self.foreseen.replace(state.map(seen));
        Ok(foreseen)
    }
}

/// A clock that was set back makes nothing new again.
fn is_within(moment: Timestamp, ms: u64, host: &dyn Host) -> bool {
    let now = host.now();
    now >= moment && now.millis_since(moment) < ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, FakeMachine};
    use std::convert::Infallible;
    use std::time::Duration;

    const STATUS: &str = "/var/lib/dpkg/status";

    fn asked(memory: &Memory, host: &FakeHost, wanted: &Wanted) -> bool {
        let os = Os { platform: host.machine().platform.clone() };
        let mut asked = false;
        let ask = || {
            asked = true;
            Ok::<_, Infallible>(Foreseen::default())
        };
        let Ok(_) = memory.foreseen(host, &os, wanted, ask);
        asked
    }

    #[test]
    fn what_would_be_done_is_asked_once_while_nothing_changes() {
        let host = FakeHost::new(FakeMachine::debian());
        host.machine().put_file(STATUS, "Package: felix\n");
        let (memory, wanted) = (Memory::default(), Wanted::default());
        assert!(asked(&memory, &host, &wanted));
        assert!(!asked(&memory, &host, &wanted));
        let other = Wanted { allow_removals: true, ..Wanted::default() };
        assert!(asked(&memory, &host, &other));
        assert!(asked(&memory, &host, &wanted), "one thing is remembered");
        host.sleep(Duration::from_millis(1));
        host.machine().put_file(STATUS, "Package: felix\n");
        assert!(asked(&memory, &host, &wanted), "the database was written");
        host.machine().put_file("/etc/apt/preferences.d/pin", "Package: *\n");
        assert!(asked(&memory, &host, &wanted), "a version was pinned");
        assert!(!asked(&memory, &host, &wanted));
        host.sleep(Duration::from_millis(FORESEEN_MS));
        assert!(asked(&memory, &host, &wanted), "it is long ago");
        host.machine().files.clear();
        assert!(
            asked(&memory, &host, &wanted) && asked(&memory, &host, &wanted),
            "no database that is known"
        );
    }

    #[test]
    fn lists_are_new_for_a_while() {
        let host = FakeHost::new(FakeMachine::debian());
        let memory = Memory::default();
        assert!(!memory.has_new_lists(&host));
        memory.lists_were_read(&host);
        assert!(memory.has_new_lists(&host));
        host.sleep(Duration::from_millis(LISTS_MS));
        assert!(!memory.has_new_lists(&host));
    }
}
