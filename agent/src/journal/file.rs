//! The journal as a file: append only, every record synced before it counts, one agent at a time. What holds the file is
//! `medium`'s business.

use super::lines::{self, Damaged, FORMAT, Newer, Torn, Unread};
use super::medium::{Directory, Lock, Medium, MediumFile};
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use wavegate_common::journal::{BadRecord, Journal, Record};

/// The journal's file.
const FILE: &str = "journal";
/// The file that takes its place when it is rewritten.
const NEW: &str = "journal.new";

/// A journal is rewritten to what it adds up to when a task is over and the file is longer than this.
const COMPACT_AT: u64 = 1 << 20;

/// Why there is no journal to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried, e.g. `read`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another agent has it.
    #[error(
        "another agent works with the state in {}: end it first (service wavegate-agent stop), or use another \
         state_directory",
        directory.display()
    )]
    Locked {
        /// The state directory.
        directory: PathBuf,
    },
    /// A line before the last is not as it was written.
    #[error(
        "the journal {} cannot be trusted, so nothing is run on this node. Keep a copy of the file, find out which \
         steps were done (`wavegate logs`, the node itself), then move the file away and start the agent again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        source: Damaged,
    },
    /// It was written by a version of the agent that knows more.
    #[error(
        "the journal {} was written by another version of wavegate-agent, which knows more than this one ({}), so nothing is run \
         on this node. Install that version again, or a newer one; the journal is left as it is",
        path.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The line, and what is not understood.
        source: Newer,
    },
}

impl OpenError {
    /// Of a journal that can't be read.
    #[must_use]
    pub fn unread(path: PathBuf, unread: Unread) -> Self {
        match unread {
            Unread::Damaged(source) => Self::Damaged { path, source },
            Unread::Newer(source) => Self::Newer { path, source },
        }
    }
}

/// Why a record is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It could not be written, and the file is as it was before: it can be tried again.
    #[error("cannot write to the journal {}; make room or repair the file system", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What is on disk is not known any more: only a new start, which reads the file again, can go on.
    #[error("the journal {} is lost to this agent ({reason}); check the disk, then start the agent again", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The agent is ending.
    #[error("the agent is ending")]
    Closed,
    /// It does not fit the ones before it.
    #[error("the record does not fit the journal")]
    Unfit(#[from] BadRecord),
    /// It can't be written as JSON.
    #[error("the record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl AppendError {
    /// Whether trying again can help, without a new start of the agent.
    #[must_use]
    pub const fn can_be_tried_again(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

/// The journal of a node, and what it adds up to.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    medium: Box<dyn Medium>,
    file: Box<dyn MediumFile>,
    length: u64,
    compact_at: u64,
    journal: Journal,
    lost: Option<String>,
    _lock: Box<dyn Lock>,
}

/// The journal's file in a state directory.
#[must_use]
pub fn path_in(state_directory: &Path) -> PathBuf {
    state_directory.join(FILE)
}

impl JournalFile {
    /// Opens the journal of a state directory, or makes both. A last line that was not completely written is cut
    /// off, and returned so that somebody can be told.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(state_directory: &Path) -> Result<(Self, Option<Torn>), OpenError> {
        Self::open_on(Box::new(Directory::new(state_directory)))
    }

    /// The same on any medium.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(medium: Box<dyn Medium>) -> Result<(Self, Option<Torn>), OpenError> {
        let directory = medium.path().to_owned();
        let path = path_in(&directory);
        let failed = |verb| failed(verb, path.clone());
        medium.make().map_err(self::failed("make", directory))?;
        let lock = lock(&*medium)?;
        let mut text = medium.read(FILE).map_err(failed("read"))?;
        if text.is_none() {
            rewrite(&*medium, &[]).map_err(failed("make"))?;
            text = medium.read(FILE).map_err(failed("read"))?;
        }
        let reading = lines::read(&text.unwrap_or_default())
            .map_err(|unread| OpenError::unread(path.clone(), unread))?;
        let mut file = medium.open(FILE).map_err(failed("open"))?;
        match reading.torn {
            Some(_) => file.cut(reading.length).map_err(failed("cut"))?,
            // What an agent wrote that was killed before it synced can be read, and need not be on disk.
            None => file.sync().map_err(failed("sync"))?,
        }
        medium.sync().map_err(failed("sync"))?;
        let opened = Self {
            path,
            medium,
            file,
            length: reading.length,
            compact_at: COMPACT_AT,
            journal: reading.journal,
            lost: None,
            _lock: lock,
        };
        Ok((opened, reading.torn))
    }

    /// What the records add up to.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether somebody is taking the agent off its node.
    ///
    /// # Errors
    /// The system's reason, if that can't be told.
    pub fn is_leaving(&self) -> std::io::Result<bool> {
        self.medium.is_leaving()
    }

    /// Adds a record. When this returns, the record is on disk.
    ///
    /// # Errors
    /// [`AppendError`]; the journal is then as it was, in memory and, unless it is [`AppendError::Lost`], on disk.
    pub fn append(&mut self, record: &Record) -> Result<(), AppendError> {
        if let Some(reason) = &self.lost {
            return Err(AppendError::Lost { path: self.path.clone(), reason: reason.clone() });
        }
        // Memory follows the disk: what fits is added to it when it is written.
        self.journal.fits(record)?;
        let line = lines::line(record)?;
        self.write(line.as_bytes())?;
        self.length += line.len() as u64;
        self.journal.apply(record)?;
        let over = matches!(record, Record::TaskEnded { .. } | Record::Acknowledged { .. });
        if over && self.length > self.compact_at {
            self.compact();
        }
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> Result<(), AppendError> {
        if let Err(source) = self.file.append(line) {
            // Part of the line may be there. Without it the file is whole again.
            return Err(match self.file.cut(self.length) {
                Ok(()) => AppendError::Write { path: self.path.clone(), source },
                Err(_) => self.lose(&source),
            });
        }
        // After a failed sync nobody knows what is on disk, and a second sync may wrongly say that all is well.
        self.file.sync().map_err(|error| self.lose(&error))
    }

    fn lose(&mut self, error: &std::io::Error) -> AppendError {
        let reason = error.to_string();
        self.lost = Some(reason.clone());
        AppendError::Lost { path: self.path.clone(), reason }
    }

    /// Rewrites the file to the shortest records. If that fails before the new file is in place, the old one goes on.
    fn compact(&mut self) {
        let records = self.journal.compacted();
        let mut journal = Journal::default();
        if let Some(error) = records.iter().find_map(|record| journal.apply(record).err()) {
            tracing::error!(%error, "the journal can't be made shorter: a defect of wavegate, please report it");
            return;
        }
        // What the old length was is the measure for the next time, so that a journal that stays long is not
        // rewritten at every record.
        self.compact_at = self.length.saturating_mul(2);
        match rewrite(&*self.medium, &records).and_then(|()| reopen(&*self.medium)) {
            Ok((file, length)) => {
                (self.file, self.length, self.journal) = (file, length, journal);
                self.compact_at = COMPACT_AT.max(length.saturating_mul(2));
            }
            Err(error) => {
                tracing::warn!(%error, journal = %self.path.display(), "the journal could not be made shorter");
                // If the new file is in place already, the old one, which is still open, must not be written to.
                if !is_named(&*self.file, &*self.medium) {
                    self.lose(&error);
                }
            }
        }
    }
}

fn failed(verb: &'static str, path: PathBuf) -> impl FnOnce(std::io::Error) -> OpenError {
    move |source| OpenError::File { verb, path, source }
}

fn lock(medium: &dyn Medium) -> Result<Box<dyn Lock>, OpenError> {
    let directory = medium.path().to_owned();
    medium.lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::Locked { directory },
        TryLockError::Error(source) => OpenError::File { verb: "lock", path: directory, source },
    })
}

/// Puts a journal of these records in the place of the one that is there, all of it or nothing.
fn rewrite(medium: &dyn Medium, records: &[Record]) -> std::io::Result<()> {
    let mut text = format!("{FORMAT}\n");
    for record in records {
        text.push_str(&lines::line(record)?);
    }
    let mut file = medium.create(NEW)?;
    file.append(text.as_bytes())?;
    file.sync()?;
    medium.rename(NEW, FILE)?;
    medium.sync()
}

fn reopen(medium: &dyn Medium) -> std::io::Result<(Box<dyn MediumFile>, u64)> {
    let file = medium.open(FILE)?;
    let length = file.length()?;
    Ok((file, length))
}

fn is_named(file: &dyn MediumFile, medium: &dyn Medium) -> bool {
    let named = medium.open(FILE).and_then(|named| named.place());
    matches!((file.place(), named), (Ok(open), Ok(named)) if open == named)
}

#[cfg(test)]
mod tests;
