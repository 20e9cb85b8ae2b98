//! What only an operator can decide about the store, with the coordinator down: that a generation which nodes have passed
//! is raised, and that an empty store takes the place of one that was lost. A coordinator does neither by itself.

use crate::config::Config;
use crate::owner::as_owner;
use crate::pki::Authority;
use crate::store::{AuditRecord, Store, StoreError};
use anyhow::{Context, Result};
use wavegate_common::id::{Generation, Timestamp};

/// Makes the next start's generation higher than `above`, for a store that was restored from a backup, and says which it
/// will be. Root does it as the owner of the state directory.
///
/// # Errors
/// What could not be read or written, and why.
pub fn raise_generation(config: &Config, above: Generation, now: Timestamp) -> Result<Generation> {
    as_owner(&config.state_directory, || {
        let store = open(config)?;
        let next = store.raise_generation(above).context("the generation cannot be raised")?;
        noted(&store, format!("raise-generation --above {above}"), now)?;
        Ok(next)
    })
}

/// Begins an empty store where there is none. Root does it as the owner of the state directory.
///
/// # Errors
/// That there is one, or what could not be read or written, and why.
pub fn new_store(config: &Config, now: Timestamp) -> Result<()> {
    as_owner(&config.state_directory, || begin(config, now))
}

fn begin(config: &Config, now: Timestamp) -> Result<()> {
    let file = config.store_file();
    anyhow::ensure!(!file.exists(), "there is a store {}; move it away first", file.display());
    let authority = Authority::load(&config.pki_folder()).context("cannot load the certificate authority")?;
    let store = Store::open(&file, authority.fleet()).context("cannot begin the store")?;
    noted(&store, "new-store".to_owned(), now)
}

/// Opens the store of a fleet that has been set up.
///
/// # Errors
/// That it is not there: then it was lost, and an empty one in its place would forget every node and every rollout.
pub fn open(config: &Config) -> Result<Store> {
    let authority = Authority::load(&config.pki_folder()).context("cannot load the certificate authority")?;
    let (file, fleet) = (config.store_file(), authority.fleet());
    if !file.exists() {
        return Err(StoreError::Lost { place: file.display().to_string(), fleet: fleet.clone() }.into());
    }
    Store::open(&file, fleet).context("cannot open the store")
}

fn noted(store: &Store, what: String, at: Timestamp) -> Result<()> {
    let who = "wavegate-coordinator".to_owned();
    let record = AuditRecord { at, who, what, result: "done".to_owned() };
    store.audit(&record).context("it is done, and the audit list cannot be written")?;
    store.shut();
    Ok(())
}
