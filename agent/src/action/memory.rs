//! What was looked at a moment ago and is not asked again: that the package lists were read, what a transaction would do, and what
//! Python's interpreters find. And how services were when a restart left them to be watched.
//! Of one task, or of one preview; after a crash nothing is remembered: what can be looked at again is, and who watches a service goes
//! by its age.

use super::python::Listing;
use crate::host::Host;
use crate::os::Os;
use crate::os::packages::{DatabaseState, Foreseen, SourcesState, Wanted};
use std::cell::RefCell;
use std::collections::BTreeMap;
use wavegate_common::id::Timestamp;

/// How long package lists count as just read: the steps of one node's task, one soon after the other.
const LISTS_MS: u64 = 60_000;

/// How long what a transaction would do counts, as long as nothing that decides about it has changed: from a step's check to its
/// work, and to the next step.
const FORESEEN_MS: u64 = 10_000;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Memory {
    lists_read: RefCell<Option<(Timestamp, SourcesState)>>,
    foreseen: RefCell<Option<Seen>>,
    listings: RefCell<Vec<Listing>>,
    young: RefCell<BTreeMap<String, u32>>,
}

#[derive(Debug)]
struct Seen {
    at: Timestamp,
    state: DatabaseState,
    wanted: Wanted,
    foreseen: Foreseen,
}

impl Memory {
    /// Whether the package lists were read a moment ago, from the sources as they are now.
    #[must_use]
    pub fn has_new_lists(&self, host: &dyn Host, os: &Os) -> bool {
        let read = self.lists_read.borrow();
        read.as_ref()
            .is_some_and(|(at, sources)| is_within(*at, LISTS_MS, host) && *sources == os.sources_state(host))
    }

    /// That they were read now, from the sources as they were before that. What a transaction would do is to be asked again: yum and
    /// dnf keep lists where [`DatabaseState`] does not see them.
    pub fn lists_were_read(&self, host: &dyn Host, sources: SourcesState) {
        self.foreseen.replace(None);
        self.lists_read.replace(Some((host.now(), sources)));
    }

    /// That they will be read by the next question: what a transaction would do is to be asked again.
    pub fn lists_are_to_be_read(&self) {
        self.foreseen.replace(None);
    }

    /// That the question which was just answered read them, from the sources as they were before that: by its answer they are judged.
    pub fn lists_were_read_by_the_question(&self, host: &dyn Host, sources: SourcesState) {
        self.lists_read.replace(Some((host.now(), sources)));
    }

    /// That a service was left to be watched by a later step, with how often its service manager had started it again by then; `None` if
    /// that is not counted.
    pub(super) fn was_left_young(&self, unit: &str, restarts: Option<u32>) {
        let mut young = self.young.borrow_mut();
        match restarts {
            Some(restarts) => young.insert(unit.to_owned(), restarts),
            None => young.remove(unit),
        };
    }

    /// How often its service manager had started a service again when it was left to be watched, if that is known.
    pub(super) fn restarts_when_young(&self, unit: &str) -> Option<u32> {
        self.young.borrow().get(unit).copied()
    }

    /// What was told by a listing of Python's distributions that `known` takes.
    pub(super) fn listing<T>(&self, known: impl Fn(&Listing) -> Option<T>) -> Option<T> {
        self.listings.borrow().iter().rev().find_map(known)
    }

    /// That Python's distributions were listed.
    pub(super) fn was_listed(&self, listing: Listing) {
        self.listings.borrow_mut().push(listing);
    }

    /// That a program is about to change the machine, or did: what Python's interpreters find is to be asked again.
    pub(super) fn changes(&self) {
        self.listings.borrow_mut().clear();
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

    fn os(host: &FakeHost) -> Os {
        Os { platform: host.machine().platform.clone() }
    }

    fn asked(memory: &Memory, host: &FakeHost, wanted: &Wanted) -> bool {
        let mut asked = false;
        let ask = || {
            asked = true;
            Ok::<_, Infallible>(Foreseen::default())
        };
        let Ok(_) = memory.foreseen(host, &os(host), wanted, ask);
        asked
    }

    #[test]
    fn what_would_be_done_is_asked_once_while_nothing_changes() {
        let host = FakeHost::new(FakeMachine::debian());
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
        assert!(!asked(&memory, &host, &wanted));
        memory.lists_were_read(&host, os(&host).sources_state(&host));
        assert!(asked(&memory, &host, &wanted), "the lists were read again");
        host.machine().files.clear();
        assert!(
            asked(&memory, &host, &wanted) && asked(&memory, &host, &wanted),
            "no database that is known"
        );
    }

    #[test]
    fn lists_are_new_for_a_while() {
        let host = FakeHost::new(FakeMachine::debian());
        let (memory, os) = (Memory::default(), os(&host));
        assert!(!memory.has_new_lists(&host, &os));
        memory.lists_were_read(&host, os.sources_state(&host));
        assert!(memory.has_new_lists(&host, &os));
        host.sleep(Duration::from_millis(LISTS_MS));
        assert!(!memory.has_new_lists(&host, &os));
    }

    #[test]
    fn lists_are_old_when_the_sources_change() {
        let of = [
            (FakeMachine::debian(), "/etc/apt/sources.list.d/site.list"),
            (FakeMachine::redhat(), "/etc/yum.repos.d/site.repo"),
            (FakeMachine::redhat(), "/etc/distro.repos.d/site.repo"),
        ];
        for (machine, file) in of {
            let host = FakeHost::new(machine);
            let (memory, os) = (Memory::default(), os(&host));
            let before = os.sources_state(&host);
            memory.lists_were_read(&host, before.clone());
            host.machine().put_file("/var/lib/apt/lists/site_Packages", "Package: felix\n");
            host.machine().put_file("/var/lib/apt/extended_states", "");
            assert!(memory.has_new_lists(&host, &os), "{file}: reading them writes them");
            host.machine().put_file(file, "new");
            assert!(!memory.has_new_lists(&host, &os), "{file} was written");
            memory.lists_were_read(&host, before);
            assert!(!memory.has_new_lists(&host, &os), "{file} was written while they were read");
        }
    }
}
