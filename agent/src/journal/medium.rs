//! Where a journal is kept, as little of a file system as it takes: `directory` is a real one, `fake` is one in memory that
//! loses its power, is full or broken when a test says so. What is written is `file`'s business.

mod directory;
pub mod fake;

pub use directory::Directory;

use std::fmt::Debug;
use std::fs::TryLockError;
use std::io;
use std::path::Path;

/// A directory for one agent's state.
pub trait Medium: Debug + Send {
    /// Its name, for messages.
    fn path(&self) -> &Path;

    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    /// The system's reason.
    fn make(&self) -> io::Result<()>;

    /// Locks the directory for this agent, until the lock is dropped.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if another agent has it, otherwise the system's reason.
    fn lock(&self) -> Result<Box<dyn Lock>, TryLockError>;

    /// Whether somebody is taking the agent off its node; see `hand_back`.
    ///
    /// # Errors
    /// The system's reason, if that can't be told.
    fn is_leaving(&self) -> io::Result<bool>;

    /// A file's bytes; `None` if there is none.
    ///
    /// # Errors
    /// The system's reason.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file that is empty, also if there was one, for this agent's user alone.
    ///
    /// # Errors
    /// The system's reason.
    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Opens a file to add to its end.
    ///
    /// # Errors
    /// The system's reason.
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Gives a file another name, in place of what has it.
    ///
    /// # Errors
    /// The system's reason.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Comes back when every name is on disk.
    ///
    /// # Errors
    /// The system's reason; nobody knows then which names are.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is added to.
pub trait MediumFile: Debug + Send {
    /// Adds bytes to the end.
    ///
    /// # Errors
    /// The system's reason; part of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Comes back when every byte is on disk.
    ///
    /// # Errors
    /// The system's reason; nobody knows then what is on disk.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts it to this length in bytes, on disk.
    ///
    /// # Errors
    /// The system's reason.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's reason.
    fn length(&self) -> io::Result<u64>;

    /// Device and inode: what tells it from every other file, whatever its name.
    ///
    /// # Errors
    /// The system's reason.
    fn place(&self) -> io::Result<(u64, u64)>;
}

/// A lock, held as long as it lives.
pub trait Lock: Debug + Send {}
