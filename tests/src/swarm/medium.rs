//! What holds a swarm's journals: a directory in memory that keeps every byte and never fails. An agent that is started again
//! on it finds its journal.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wavegate_agent::journal::medium::{Lock, Medium, MediumFile};

/// A directory in memory; a clone is the same directory.
#[derive(Debug, Clone, Default)]
pub(super) struct InMemory(Arc<Mutex<BTreeMap<String, Content>>>);

type Content = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
struct OpenFile(Content);

/// One process has the swarm, and starts no agent twice.
#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

impl InMemory {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Content>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Medium for InMemory {
    fn path(&self) -> &Path {
        Path::new("/in-memory")
    }

    fn make(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Lock>, TryLockError> {
        Ok(Box::new(NoLock))
    }

    fn is_leaving(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let content = self.files().get(name).cloned();
        Ok(content.map(|content| OpenFile(content).bytes().clone()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let content = Content::default();
        self.files().insert(name.to_owned(), content.clone());
        Ok(Box::new(OpenFile(content)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let content = self.files().get(name).cloned();
        content.map(|content| Box::new(OpenFile(content)) as _).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let content = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl OpenFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MediumFile for OpenFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes().truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn place(&self) -> io::Result<(u64, u64)> {
        // As different as the places in memory.
        Ok((0, Arc::as_ptr(&self.0).addr() as u64))
    }
}
