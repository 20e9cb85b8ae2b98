//! A directory in memory that fails as real ones do: the agent is killed or the power goes at any operation, what was not
//! synced is gone or there in part, there is no room, a disk reports errors. For tests and simulations.

use super::{Lock, Medium, MediumFile};
use crate::host::fake::AgentKilled;
use std::collections::{BTreeMap, VecDeque};
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What the directory is called in messages.
const NAME: &str = "/in-memory";

/// A directory in memory. A clone is the same directory.
#[derive(Debug, Clone, Default)]
pub struct FakeMedium(Arc<Mutex<State>>);

/// What changes a medium. Reading does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An empty file.
    Create,
    /// Bytes at the end of a file.
    Append,
    /// The bytes of a file get to disk.
    Sync,
    /// A file is cut, on disk too.
    Cut,
    /// A file gets another name.
    Rename,
    /// The names get to disk.
    SyncNames,
}

impl Operation {
    /// Whether it can be done in part.
    #[must_use]
    pub const fn is_divisible(self) -> bool {
        matches!(self, Self::Append | Self::Sync)
    }
}

/// Where in an operation somebody is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before it has any effect.
    Before,
    /// When half of its bytes are written, or on disk; before it, if it is not divisible.
    Torn,
    /// After all of it, and before whoever asked for it learns of that.
    After,
}

/// What a power cut leaves of that which was not synced: a file system may do any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// The names, and of the bytes the first half.
    Torn,
    /// The names and lengths; the first half of the bytes is zero.
    Holed,
    /// All.
    Kept,
}

impl Unsynced {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Torn, Self::Holed, Self::Kept];
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    names_on_disk: Names,
    files: BTreeMap<u64, Content>,
    lock: Weak<FakeLock>,
    done: Vec<Operation>,
    stop: Option<(usize, When)>,
    stopped: bool,
    room: Option<usize>,
    leaving: bool,
    failing: VecDeque<Operation>,
}

type Names = BTreeMap<String, u64>;

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    on_disk: Vec<u8>,
}

impl FakeMedium {
    /// The operations since this medium was made, begun ones included.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.state().done.clone()
    }

    /// Kills whoever does the operation of this number, from 0: it unwinds with [`AgentKilled`], which
    /// `std::panic::catch_unwind` catches. Nothing works on this medium after that; see [`FakeMedium::after_kill`] and
    /// [`FakeMedium::after_power_cut`].
    pub fn stop_at(&self, operation: usize, when: When) {
        self.state().stop = Some((operation, when));
    }

    /// From now on there is room for so many bytes; with `None` for any number again.
    pub fn set_room(&self, bytes: Option<usize>) {
        self.state().room = bytes;
    }

    /// From now on somebody is taking the agent off its node, or nobody is any more.
    pub fn set_leaving(&self, leaving: bool) {
        self.state().leaving = leaving;
    }

    /// The next operation of this kind fails with an error of the disk, without effect. Called again, so does the one after
    /// it.
    pub fn fail_next(&self, operation: Operation) {
        self.state().failing.push_back(operation);
    }

    /// The medium as the next agent finds it if this one is killed now: with everything that was written.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = self.state();
        Self::of(state.names.clone(), state.files.clone(), state.names_on_disk.clone())
    }

    /// The medium as the next agent finds it if the machine loses its power now.
    #[must_use]
    pub fn after_power_cut(&self, unsynced: Unsynced) -> Self {
        let state = self.state();
        let names = if unsynced == Unsynced::Lost { &state.names_on_disk } else { &state.names };
        let survives = |content: &Content| {
            let bytes = content.left(unsynced);
            Content { on_disk: bytes.clone(), bytes }
        };
        let files = state.files.iter().map(|(inode, content)| (*inode, survives(content))).collect();
        Self::of(names.clone(), files, names.clone())
    }

    fn of(names: Names, files: BTreeMap<u64, Content>, names_on_disk: Names) -> Self {
        Self(Arc::new(Mutex::new(State { names, files, names_on_disk, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does an operation: all of it, or as much as is to be done before somebody is killed in it. `work` is told whether to
    /// do it in part.
    fn operate<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        if state.stopped {
            return Err(io::Error::other("nothing works any more after the stop"));
        }
        let number = state.done.len();
        state.done.push(operation);
        let when = state.stop.filter(|(at, _)| *at == number).map(|(_, when)| when);
        let torn = when == Some(When::Torn) && operation.is_divisible();
        let result = if torn || matches!(when, None | Some(When::After)) {
            match state.failing.iter().position(|failing| *failing == operation) {
                Some(index) => {
                    state.failing.remove(index);
                    Err(io::Error::other("input/output error"))
                }
                None => work(&mut state, torn),
            }
        } else {
            Err(io::Error::other("not done"))
        };
        if when.is_some() {
            state.stopped = true;
            drop(state);
            // Without the panic hook: nothing is wrong with the code that was interrupted.
            std::panic::resume_unwind(Box::new(AgentKilled));
        }
        result
    }

    fn file(&self, inode: u64) -> Box<dyn MediumFile> {
        Box::new(OpenFile { medium: self.clone(), inode })
    }
}

impl Content {
    /// What a power cut leaves of it. A file is only added to or cut on disk, so that what is on disk is a beginning of it.
    fn left(&self, unsynced: Unsynced) -> Vec<u8> {
        let synced = self.on_disk.len().min(self.bytes.len());
        let half = synced + (self.bytes.len() - synced) / 2;
        match unsynced {
            Unsynced::Lost => self.on_disk.clone(),
            Unsynced::Torn => self.bytes[..half].to_vec(),
            Unsynced::Holed => {
                let mut bytes = self.bytes.clone();
                bytes[synced..half].fill(0);
                bytes
            }
            Unsynced::Kept => self.bytes.clone(),
        }
    }
}

impl Medium for FakeMedium {
    fn path(&self) -> &Path {
        Path::new(NAME)
    }

    fn make(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Lock>, TryLockError> {
        let mut state = self.state();
        if state.lock.strong_count() > 0 {
            return Err(TryLockError::WouldBlock);
        }
        let lock = Arc::new(FakeLock);
        state.lock = Arc::downgrade(&lock);
        Ok(Box::new(lock))
    }

    fn is_leaving(&self) -> io::Result<bool> {
        Ok(self.state().leaving)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        Ok(state
            .names
            .get(name)
            .and_then(|inode| state.files.get(inode))
            .map(|content| content.bytes.clone()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let inode = self.operate(Operation::Create, |state, _| {
            // As if one of that name had been removed: what is on disk of it stays what it was.
            let inode = state.files.keys().next_back().map_or(1, |last| last + 1);
            state.names.insert(name.to_owned(), inode);
            state.files.insert(inode, Content::default());
            Ok(inode)
        })?;
        Ok(self.file(inode))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let inode = self.state().names.get(name).copied();
        inode.map(|inode| self.file(inode)).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate(Operation::Rename, |state, _| {
            let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.operate(Operation::SyncNames, |state, _| {
            state.names_on_disk = state.names.clone();
            Ok(())
        })
    }
}

#[derive(Debug)]
struct OpenFile {
    medium: FakeMedium,
    inode: u64,
}

impl OpenFile {
    fn operate(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut Content, &mut Option<usize>, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        self.medium.operate(operation, |state, torn| {
            let content = state.files.get_mut(&self.inode).ok_or(ErrorKind::NotFound)?;
            work(content, &mut state.room, torn)
        })
    }
}

impl MediumFile for OpenFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.operate(Operation::Append, |content, room, torn| {
            let asked = if torn { bytes.len() / 2 } else { bytes.len() };
            let written = room.map_or(asked, |room| room.min(asked));
            *room = room.map(|room| room - written);
            content.bytes.extend_from_slice(&bytes[..written]);
            if written < asked { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operate(Operation::Sync, |content, _, torn| {
            content.on_disk = content.left(if torn { Unsynced::Torn } else { Unsynced::Kept });
            Ok(())
        })
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.operate(Operation::Cut, |content, _, _| {
            content.bytes.truncate(length);
            content.on_disk = content.bytes.clone();
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.medium.state();
        let content = state.files.get(&self.inode).ok_or(ErrorKind::NotFound)?;
        Ok(content.bytes.len() as u64)
    }

    fn place(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.inode))
    }
}

#[derive(Debug)]
struct FakeLock;

impl Lock for Arc<FakeLock> {}

#[cfg(test)]
mod tests;
