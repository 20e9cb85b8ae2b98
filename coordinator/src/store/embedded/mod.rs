//! The embedded store: one redb file. Opening it, its format, its generation, and how a transaction is made; what is in
//! the tables is said in the files beside this one.
//!
//! After an I/O error redb refuses everything until it is reopened, so the file is closed then and opened again at the
//! next use: a disk that was full and has room again needs no restart of the coordinator.

mod approvals;
mod audit;
mod heads;
mod inventory;
mod log;
mod members;
mod output;
mod soundness;

pub use audit::AUDIT_KEPT;
pub use output::OUTPUT_KEPT;

use super::{Batch, FORMAT, StoreError, SupersededRecord};
use redb::{Database, Durability, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use wavegate_common::id::{FleetId, Generation, LeaderId};

const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("texts");
const FORMAT_KEY: &str = "format";
const GENERATION_KEY: &str = "generation";
const FLEET_KEY: &str = "fleet";
const LEADER_KEY: &str = "leader";
/// Who has taken over from this coordinator, as JSON.
const SUPERSEDED_KEY: &str = "superseded";

/// Bytes of the file that are kept in memory. By itself redb keeps up to 1 GiB, which the logs of a large fleet would fill.
const CACHE: usize = 64 << 20;

/// Opens the database, the first time and after an I/O error.
pub type Opener = Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send + Sync>;

/// The store.
pub struct Store {
    place: String,
    opener: Opener,
    database: RwLock<Option<Database>>,
    shut: AtomicBool,
}

/// Why a transaction was not made.
enum Failure {
    /// redb says so.
    Database(Box<redb::Error>),
    /// We do.
    Refused(StoreError),
}

macro_rules! from_redb {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })+
    };
}
from_redb!(StorageError, TableError, TransactionError, CommitError, CursorError, SetDurabilityError);

type Made<T> = Result<T, Failure>;

impl Store {
    /// Opens the store of a fleet, or begins it.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be, or is not that fleet's or not of our format.
    pub fn open(path: &Path, fleet: &FleetId) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            crate::files::private_folder(folder)
                .map_err(|source| StoreError::Folder { path: folder.to_path_buf(), source })?;
        }
        soundness::look(path)?;
        let file = path.to_path_buf();
        let opener = Box::new(move || {
            let database = builder().create(&file)?;
            crate::files::make_private(&file).map_err(redb::StorageError::Io)?;
            Ok(database)
        });
        Self::open_with(path.display().to_string(), opener, fleet)
    }

    /// A store in memory; it is gone when it is dropped.
    ///
    /// # Errors
    /// [`StoreError`], as [`Store::open`].
    pub fn in_memory(fleet: &FleetId) -> Result<Self, StoreError> {
        let opener = || builder().create_with_backend(redb::backends::InMemoryBackend::new());
        Self::open_with("in memory".to_owned(), Box::new(opener), fleet)
    }

    /// A store on whatever `opener` opens; `place` names it in messages.
    ///
    /// # Errors
    /// [`StoreError`], as [`Store::open`].
    pub fn open_with(place: String, opener: Opener, fleet: &FleetId) -> Result<Self, StoreError> {
        let store = Self { place, opener, database: RwLock::new(None), shut: AtomicBool::new(false) };
        store.begin(fleet)?;
        Ok(store)
    }

    fn begin(&self, fleet: &FleetId) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut numbers = tx.open_table(NUMBERS)?;
            let mut texts = tx.open_table(TEXTS)?;
            let found = numbers.get(FORMAT_KEY)?.map(|format| format.value());
            match found {
                None => {
                    numbers.insert(FORMAT_KEY, FORMAT)?;
                    texts.insert(FLEET_KEY, fleet.as_str())?;
                }
                Some(FORMAT) => {}
                Some(found) => {
                    return Err(Failure::Refused(StoreError::Format { place: self.place.clone(), found }));
                }
            }
            let found = texts.get(FLEET_KEY)?.map(|found| found.value().to_owned()).unwrap_or_default();
            if found != fleet.as_str() {
                let (place, expected) = (self.place.clone(), fleet.clone());
                return Err(Failure::Refused(StoreError::OtherFleet { place, found, expected }));
            }
            log::create(tx)?;
            inventory::create(tx)?;
            approvals::create(tx)?;
            members::create(tx)?;
            output::create(tx)?;
            audit::create(tx)
        })
    }

    /// Begins a generation: one more than the last, on disk with the identity of whoever begins it before it is returned.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn begin_generation(&self, leader: LeaderId) -> Result<Generation, StoreError> {
        self.write(|tx| {
            let mut numbers = tx.open_table(NUMBERS)?;
            let last = numbers.get(GENERATION_KEY)?.map_or(0, |last| last.value());
            // At the last number of all it would be the same again, and the agents tell it apart by its leader.
            let next = last.saturating_add(1);
            numbers.insert(GENERATION_KEY, next)?;
            tx.open_table(TEXTS)?.insert(LEADER_KEY, leader.to_string().as_str())?;
            Ok(Generation(next))
        })
    }

    /// Keeps who has taken over, until [`Store::raise_generation`] has passed it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn put_superseded(&self, superseded: &SupersededRecord) -> Result<(), StoreError> {
        self.write(|tx| {
            let record = encode("superseded", superseded)?;
            let text = String::from_utf8_lossy(&record);
            tx.open_table(TEXTS)?.insert(SUPERSEDED_KEY, &*text)?;
            Ok(())
        })
    }

    /// Who has taken over, if somebody has.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub fn superseded(&self) -> Result<Option<SupersededRecord>, StoreError> {
        self.read(|tx| {
            let texts = tx.open_table(TEXTS)?;
            let record = texts.get(SUPERSEDED_KEY)?;
            record.map(|record| decode("superseded", record.value().as_bytes())).transpose()
        })
    }

    /// Makes the next generation one above `above`, if it would not be higher anyway. Returns the next one. Whoever had taken
    /// over with a generation that is passed by this has not any more.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn raise_generation(&self, above: Generation) -> Result<Generation, StoreError> {
        self.write(|tx| {
            let mut numbers = tx.open_table(NUMBERS)?;
            let last = numbers.get(GENERATION_KEY)?.map_or(0, |last| last.value()).max(above.0);
            numbers.insert(GENERATION_KEY, last)?;
            let mut texts = tx.open_table(TEXTS)?;
            let known = texts.get(SUPERSEDED_KEY)?;
            let known = known.map(|known| decode::<SupersededRecord>("superseded", known.value().as_bytes()));
            if known.transpose()?.is_some_and(|known| known.generation.0 <= last) {
                texts.remove(SUPERSEDED_KEY)?;
            }
            Ok(Generation(last.saturating_add(1)))
        })
    }

    /// The generation that was begun last.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn generation(&self) -> Result<Generation, StoreError> {
        self.read(|tx| {
            let numbers = tx.open_table(NUMBERS)?;
            Ok(Generation(numbers.get(GENERATION_KEY)?.map_or(0, |last| last.value())))
        })
    }

    /// Who began it; `None` in a store from before there were leader identities.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn leader(&self) -> Result<Option<LeaderId>, StoreError> {
        self.read(|tx| {
            let texts = tx.open_table(TEXTS)?;
            Ok(texts.get(LEADER_KEY)?.and_then(|leader| leader.value().parse().ok()))
        })
    }

    /// Keeps a batch in one transaction. Returns whether it is on disk now: output alone is only readable, and on disk with the
    /// next batch that is, or by [`Store::flush`].
    ///
    /// # Errors
    /// [`StoreError::Fenced`], [`StoreError::Conflict`], or that it can't be written; nothing of it is kept then, as far as
    /// can be known: a write that failed may have come about.
    pub fn keep(&self, batch: &Batch<'_>) -> Result<bool, StoreError> {
        let on_disk = !batch.is_output_alone();
        let durability = if on_disk { Durability::Immediate } else { Durability::None };
        self.transact(durability, |tx| {
            batch.append.iter().try_for_each(|append| log::append(tx, append))?;
            if !batch.facts.is_empty() {
                members::put_facts(tx, batch.facts)?;
            }
            if !batch.output.is_empty() {
                output::put(tx, batch.output)?;
            }
            batch.audit.iter().try_for_each(|record| audit::add(tx, record))?;
            Ok(on_disk)
        })
    }

    /// Brings output that was kept to disk.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(()))
    }

    /// Makes a transaction that is on disk when this returns.
    fn write<T>(&self, make: impl FnOnce(&WriteTransaction) -> Made<T>) -> Result<T, StoreError> {
        self.transact(Durability::Immediate, make)
    }

    fn transact<T>(
        &self,
        durability: Durability,
        make: impl FnOnce(&WriteTransaction) -> Made<T>,
    ) -> Result<T, StoreError> {
        self.with_database(|database| {
            let mut tx = database.begin_write()?;
            tx.set_durability(durability)?;
            tx.set_quick_repair(matches!(durability, Durability::Immediate));
            let made = make(&tx)?;
            tx.commit()?;
            Ok(made)
        })
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Made<T>) -> Result<T, StoreError> {
        self.with_database(|database| look(&redb::ReadableDatabase::begin_read(database)?))
    }

    fn with_database<T>(&self, work: impl FnOnce(&Database) -> Made<T>) -> Result<T, StoreError> {
        self.ensure_open()?;
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let made = match guard.as_ref() {
            Some(database) => work(database),
            None => Err(redb::StorageError::DatabaseClosed.into()),
        };
        drop(guard);
        made.map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Database(source) => {
                self.close();
                StoreError::Unusable { place: self.place.clone(), source }
            }
        })
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if self.shut.load(Ordering::SeqCst) {
            return Err(StoreError::Shut);
        }
        if guard.is_none() {
            let opened = (self.opener)();
            *guard = Some(opened.map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { place: self.place.clone() },
                other => StoreError::Unusable { place: self.place.clone(), source: Box::new(other.into()) },
            })?);
        }
        Ok(())
    }

    /// Closes the file for good: whoever still has the store can do nothing with it, and another process can open it.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.close();
    }

    fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// redb as we have it.
fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

fn encode<T: Serialize>(table: &'static str, record: &T) -> Made<Vec<u8>> {
    serde_json::to_vec(record).map_err(|source| bad_record(table, source))
}

fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Made<T> {
    serde_json::from_slice(bytes).map_err(|source| bad_record(table, source))
}

/// That a record is none, or can't be made one.
const fn bad_record(table: &'static str, source: serde_json::Error) -> Failure {
    Failure::Refused(StoreError::Record { table, source })
}
