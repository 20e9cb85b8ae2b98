//! The lock by which an agent knows that it is being taken off its node: held by whoever takes it off, for as long as that one
//! lives. The agent tries it before every step.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The lock's file in the state directory. It stays; only its lock counts.
pub(super) const FILE: &str = "hand-back.lock";

/// How often the lock is tried: an agent that asks has it for a moment itself.
const POLL: Duration = Duration::from_millis(20);

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing alone leaves it locked as long as a child that is about to run another program has a copy.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the lock of the hand-back was left to the system");
        }
    }
}

/// Takes the lock of a state directory that is there; `None` if another one has it for all this time.
///
/// # Errors
/// The system's reason.
pub fn take(state_directory: &Path, until: Instant) -> io::Result<Option<Held>> {
    let mut options = OpenOptions::new();
    let file =
        options.create(true).truncate(false).write(true).mode(0o600).open(state_directory.join(FILE))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Held(file))),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
        }
    }
}

/// Whether somebody holds the lock, this process included. Nothing is made, and nobody is waited for.
///
/// # Errors
/// The system's reason.
pub fn is_held(state_directory: &Path) -> io::Result<bool> {
    let file = match File::open(state_directory.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_by_one_at_a_time_and_goes_with_its_holder() {
        let state = tempfile::tempdir().expect("a directory");
        let held = || is_held(state.path()).expect("it can be told");
        assert!(!held());
        assert!(!state.path().join(FILE).exists(), "asking makes nothing");
        let first = take(state.path(), Instant::now()).expect("no error").expect("nobody has it");
        assert!(held() && held());
        assert!(take(state.path(), Instant::now()).expect("no error").is_none());
        drop(first);
        assert!(!held());
        let asked = File::open(state.path().join(FILE)).expect("it is there");
        asked.lock_shared().expect("an agent asks");
        assert!(!held(), "another agent asks at the same time");
        assert!(take(state.path(), Instant::now()).expect("no error").is_none());
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| take(state.path(), Instant::now() + Duration::from_secs(60)));
            asked.unlock().expect("it has its answer");
            assert!(taken.join().expect("no panic").expect("no error").is_some());
        });
    }

    #[test]
    fn what_can_not_be_told_is_an_error() {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(state.path().join(FILE)).expect("a directory");
        assert!(take(state.path(), Instant::now()).is_err());
        assert!(is_held(&state.path().join("file\0name")).is_err());
    }
}
