//! The agent's journal for those who work with it: the loop and the runner share one. How it is kept on disk is
//! `file`'s, where that is `medium`'s, its text is `lines`'s, and what its records mean is `wavegate_common::journal`'s business.

pub mod file;
pub mod lines;
pub mod medium;

pub use file::{AppendError, JournalFile, OpenError, path_in};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wavegate_common::id::Timestamp;
use wavegate_common::journal::{Journal, Record, Verdict};
use wavegate_common::order::TaskOrder;

/// Where records are kept, each on disk before what it says is acted upon or told to anybody.
pub trait Store {
    /// Looks at what the records add up to.
    fn read<R>(&self, look: impl FnOnce(&Journal) -> R) -> R;

    /// Adds a record. When this returns, the record is on disk.
    ///
    /// # Errors
    /// [`AppendError`]; the journal is then as it was.
    fn append(&self, record: &Record) -> Result<(), AppendError>;

    /// Whether somebody is taking the agent off its node: then no further step is begun.
    ///
    /// # Errors
    /// The system's reason, if that can't be told.
    fn is_leaving(&self) -> std::io::Result<bool>;
}

/// One journal for the loop, which takes orders, and the runner, which carries them out.
///
/// The lock is held while a record goes to disk: whoever looks must see what is on disk, and neither has anything to
/// do that could go before it.
#[derive(Debug, Clone)]
pub struct SharedJournal(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Open(Box<JournalFile>),
    Closed(Box<Journal>),
}

impl SharedJournal {
    /// Shares a journal.
    #[must_use]
    pub fn new(file: JournalFile) -> Self {
        Self(Arc::new(Mutex::new(State::Open(Box::new(file)))))
    }

    /// Takes an order, if it is one to take: it is then on disk. Judging and recording are one, so that the runner
    /// can't end or begin anything in between.
    ///
    /// # Errors
    /// [`AppendError`]; the order is then not taken.
    pub fn take(&self, order: &TaskOrder, at: Timestamp) -> Result<Verdict, AppendError> {
        match &mut *self.state() {
            State::Closed(_) => Err(AppendError::Closed),
            State::Open(file) => {
                let verdict = file.journal().judge(order);
                if verdict == Verdict::Accept {
                    file.append(&Record::Accepted { order: order.clone(), at })?;
                }
                Ok(verdict)
            }
        }
    }

    /// Ends the writing: a record that is being written gets to disk, none comes after it, and the state directory
    /// is free for another agent. What an action does meanwhile goes on; the next agent looks at it.
    pub fn close(&self) {
        let mut state = self.state();
        if let State::Open(file) = &*state {
            *state = State::Closed(Box::new(file.journal().clone()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done by a panic: the journal in memory changes last, and nothing panics in the middle of that.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SharedJournal {
    fn read<R>(&self, look: impl FnOnce(&Journal) -> R) -> R {
        match &*self.state() {
            State::Open(file) => look(file.journal()),
            State::Closed(journal) => look(journal),
        }
    }

    fn append(&self, record: &Record) -> Result<(), AppendError> {
        match &mut *self.state() {
            State::Open(file) => file.append(record),
            State::Closed(_) => Err(AppendError::Closed),
        }
    }

    fn is_leaving(&self) -> std::io::Result<bool> {
        match &*self.state() {
            State::Open(file) => file.is_leaving(),
            // Nothing can be begun any more.
            State::Closed(_) => Ok(true),
        }
    }
}
