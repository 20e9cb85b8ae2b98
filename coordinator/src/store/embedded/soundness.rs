//! Whether the file is as it was written, before anything in it is believed: a damaged page may read as other nodes, other
//! events or none, and redb ends the program where it meets one in the middle of its work.

use crate::store::StoreError;
use redb::{DatabaseError, StorageError};
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::Path;

/// Bytes of the file that are kept in memory meanwhile: every page is read once and not needed again.
const CACHE: usize = 4 << 20;

/// Looks at every page of the store's file; one that is not there yet is fine.
///
/// # Errors
/// [`StoreError::Damaged`]; [`StoreError::InUse`] or [`StoreError::Unusable`] if it can't be looked at.
pub(super) fn look(path: &Path) -> Result<(), StoreError> {
    let place = || path.display().to_string();
    let unusable = |source: redb::Error| StoreError::Unusable { place: place(), source: Box::new(source) };
    let damaged = |reason: String| StoreError::Damaged { place: place(), reason };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(StorageError::Io(error).into())),
        // redb would take it for a new one, and the fleet's history would be gone without a word.
        Ok(file) if file.len() == 0 => return Err(damaged("it is empty".to_owned())),
        Ok(_) => {}
    }
    match catch_unwind(|| redb::Builder::new().set_cache_size(CACHE).open(path)?.check_integrity()) {
        // `false` is a file that a crash left, mended by what redb wrote down for that.
        Ok(Ok(true | false)) => Ok(()),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::InUse { place: place() }),
        Ok(Err(DatabaseError::Storage(StorageError::Corrupted(reason)))) => Err(damaged(reason)),
        Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Err(damaged(error.to_string()))
        }
        Ok(Err(error)) => Err(unusable(error.into())),
        Err(_) => Err(damaged("what is in it contradicts itself".to_owned())),
    }
}
