//! The disk under the coordinator's store: bytes in memory that remember what was synced. It can fill up, fail, stop the
//! coordinator at any operation, and lose in a power cut what no sync brought to it.

use super::chance::Chance;
use redb::{DatabaseError, StorageBackend, StorageError};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wavegate_common::id::FleetId;
use wavegate_coordinator::store::{Opener, Store, StoreError};

/// What a disk writes at once, or not at all.
const SECTOR: usize = 512;
/// What it is called in messages.
const PLACE: &str = "on a simulated disk";

/// A disk; every clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    bytes: Vec<u8>,
    /// What is there after a power cut, whatever happens.
    durable: Vec<u8>,
    /// What was done since the last sync.
    unsynced: Vec<Done>,
    counts: Counts,
    /// The numbers of those operations that were syncs.
    syncs: Vec<u64>,
    full: bool,
    failing: Option<u64>,
    stop: Option<Stop>,
    stopped: bool,
}

#[derive(Debug, Clone)]
enum Done {
    Length(u64),
    Write(u64, Vec<u8>),
}

/// What was asked of a disk so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes, and changes of the length.
    pub writes: u64,
    /// Syncs.
    pub syncs: u64,
}

impl Counts {
    /// All operations.
    #[must_use]
    pub const fn operations(self) -> u64 {
        self.writes + self.syncs
    }
}

/// Where a stop falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the operation does anything.
    Before,
    /// In its middle.
    Torn,
    /// After it, before anybody learns of that.
    After,
}

/// The process that uses the disk stops at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Which, from 0, counted from the disk's beginning.
    pub operation: u64,
    /// Where in it.
    pub when: When,
}

/// What becomes of what was not synced.
#[derive(Debug)]
pub enum Unsynced<'a> {
    /// The process was killed; the machine lives on, and all is kept.
    Kept,
    /// A power cut before any of it was brought to the disk.
    Lost,
    /// A power cut in the middle of it: each piece is kept, lost or torn.
    Some(&'a mut Chance),
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the store that is on this disk, or begins it.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn store(&self, fleet: &FleetId) -> Result<Store, StoreError> {
        let disk = self.clone();
        let opener: Opener = Box::new(move || redb::Builder::new().create_with_backend(disk.clone()));
        Store::open_with(PLACE.to_owned(), opener, fleet)
    }

    /// Looks at every page of the store, as a coordinator does before it believes what is in it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one is not as it was written; [`StoreError::Unusable`] if one can't be read.
    pub fn check(&self) -> Result<(), StoreError> {
        let look = || redb::Builder::new().create_with_backend(self.clone())?.check_integrity();
        let place = PLACE.to_owned();
        // `false` is what a crash left, mended by what redb wrote down for that.
        look().map(|_| ()).map_err(|error| match error {
            DatabaseError::Storage(StorageError::Corrupted(reason)) => StoreError::Damaged { place, reason },
            other => StoreError::Unusable { place, source: Box::new(other.into()) },
        })
    }

    /// What was asked of it so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// The numbers of those operations, since this disk was made or survived, that were syncs.
    #[must_use]
    pub fn syncs(&self) -> Vec<u64> {
        self.state().syncs.clone()
    }

    /// Whether there is no room for any write.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// The operation so many after the next one fails, once.
    pub fn fail_after(&self, operations: u64) {
        let mut state = self.state();
        state.failing = Some(state.counts.operations() + operations);
    }

    /// The process that uses it is to stop there: no operation after that one does anything.
    pub fn stop_at(&self, stop: Option<Stop>) {
        self.state().stop = stop;
    }

    /// Whether the process that used it has stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.state().stopped
    }

    /// A disk with the same on it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let (bytes, durable) = (state.bytes.clone(), state.bytes.clone());
        Self(Arc::new(Mutex::new(State { bytes, durable, counts: state.counts, ..State::default() })))
    }

    /// The disk as the next process finds it. Whoever still has the old one changes nothing any more.
    #[must_use]
    pub fn survivor(&self, unsynced: Unsynced<'_>) -> Self {
        let mut state = self.state();
        state.stopped = true;
        let bytes = match unsynced {
            Unsynced::Kept => state.bytes.clone(),
            Unsynced::Lost => state.durable.clone(),
            Unsynced::Some(chance) => {
                let mut bytes = state.durable.clone();
                for done in &state.unsynced {
                    apply_some(&mut bytes, done, chance);
                }
                bytes
            }
        };
        let (durable, counts, full) = (bytes.clone(), state.counts, state.full);
        drop(state);
        Self(Arc::new(Mutex::new(State { bytes, durable, counts, full, ..State::default() })))
    }
}

impl State {
    /// Begins an operation; where it is to be stopped, if it is.
    fn begin(&mut self, sync: bool) -> io::Result<Option<When>> {
        if self.stopped {
            return Err(io::Error::other("the process that used this disk has stopped"));
        }
        let number = self.counts.operations();
        if sync {
            self.counts.syncs += 1;
            self.syncs.push(number);
        } else {
            self.counts.writes += 1;
        }
        if self.full && !sync {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        if self.failing.take_if(|failing| *failing <= number).is_some() {
            return Err(io::Error::other("the disk did not answer"));
        }
        let when = self.stop.filter(|stop| stop.operation == number).map(|stop| stop.when);
        self.stopped = when.is_some();
        Ok(when)
    }

    fn write(&mut self, when: Option<When>, done: Done) -> io::Result<()> {
        let done = match (when, done) {
            (Some(When::Before), _) => return Err(stopped()),
            (Some(When::Torn), Done::Length(_)) => return Err(stopped()),
            (Some(When::Torn), Done::Write(offset, mut data)) => {
                data.truncate(data.len() / 2);
                Done::Write(offset, data)
            }
            (Some(When::After) | None, done) => done,
        };
        apply(&mut self.bytes, &done);
        self.unsynced.push(done);
        when.map_or(Ok(()), |_| Err(stopped()))
    }

    fn sync(&mut self, when: Option<When>) -> io::Result<()> {
        let upto = match when {
            Some(When::Before) => 0,
            // What was written first is not brought to a disk first.
            Some(When::Torn) => self.unsynced.len() / 2,
            Some(When::After) | None => self.unsynced.len(),
        };
        let from = if when == Some(When::Torn) { self.unsynced.len() - upto } else { 0 };
        let brought: Vec<Done> = self.unsynced.drain(from..from + upto).collect();
        for done in &brought {
            apply(&mut self.durable, done);
        }
        when.map_or(Ok(()), |_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the process that used this disk stopped here")
}

fn apply(bytes: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Length(length) => bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0),
        Done::Write(offset, data) => {
            let from = usize::try_from(*offset).unwrap_or(usize::MAX);
            if bytes.len() < from + data.len() {
                bytes.resize(from + data.len(), 0);
            }
            bytes[from..from + data.len()].copy_from_slice(data);
        }
    }
}

fn apply_some(bytes: &mut Vec<u8>, done: &Done, chance: &mut Chance) {
    match (done, chance.below(3)) {
        (_, 0) => {}
        (Done::Length(_), _) | (Done::Write(..), 1) => apply(bytes, done),
        (Done::Write(offset, data), _) => {
            for (index, sector) in data.chunks(SECTOR).enumerate() {
                if chance.one_in(2) {
                    apply(bytes, &Done::Write(offset + (index * SECTOR) as u64, sector.to_vec()));
                }
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let upto = from.saturating_add(out.len());
        let Some(bytes) = state.bytes.get(from..upto) else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "read behind the end of the disk"));
        };
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let when = state.begin(false)?;
        state.write(when, Done::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let when = state.begin(true)?;
        state.sync(when)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let when = state.begin(false)?;
        state.write(when, Done::Write(offset, data.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        let disk = Disk::default();
        disk.write(0, b"first").expect("written");
        disk.sync_data().expect("synced");
        disk.write(0, b"later").expect("written");
        disk
    }

    fn text(disk: &Disk) -> String {
        let mut bytes = vec![0; usize::try_from(disk.len().expect("a length")).expect("a size")];
        disk.read(0, &mut bytes).expect("read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_kill_keeps_what_was_written_and_a_power_cut_what_was_synced() {
        assert_eq!(text(&disk().survivor(Unsynced::Kept)), "later");
        assert_eq!(text(&disk().survivor(Unsynced::Lost)), "first");
        let kept = |seed| text(&disk().survivor(Unsynced::Some(&mut Chance::new(seed, "disk"))));
        let seen: std::collections::BTreeSet<String> = (0..20).map(kept).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["first", "later"]);
    }

    #[test]
    fn a_disk_stops_before_in_and_after_an_operation_and_does_nothing_then() {
        for (when, expected) in [(When::Before, "later"), (When::Torn, "abter"), (When::After, "abcde")] {
            let disk = disk();
            disk.stop_at(Some(Stop { operation: disk.counts().operations(), when }));
            assert!(disk.write(0, b"abcde").is_err() && disk.has_stopped());
            assert!(disk.write(0, b"never").is_err() && disk.sync_data().is_err());
            assert_eq!(text(&disk.survivor(Unsynced::Kept)), expected, "{when:?}");
        }
    }

    #[test]
    fn a_full_disk_and_a_failed_operation_are_errors_and_pass() {
        let disk = disk();
        disk.set_full(true);
        assert_eq!(disk.write(0, b"x").expect_err("full").kind(), io::ErrorKind::StorageFull);
        disk.set_full(false);
        disk.fail_after(1);
        disk.write(0, b"x").expect("the one before it");
        assert!(disk.sync_data().is_err(), "this one fails");
        disk.sync_data().expect("once");
        assert_eq!(text(&disk.survivor(Unsynced::Lost)), "xater");
    }
}
