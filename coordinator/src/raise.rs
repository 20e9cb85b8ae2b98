//! `wavegate-coordinator raise-generation`: the way out for a store that was restored from a backup, whose generation the
//! nodes have passed. An operator takes it knowingly; a coordinator never does.

use crate::config::Config;
use crate::pki::Authority;
use crate::store::{AuditRecord, Store};
use anyhow::{Context, Result};
use wavegate_common::id::{Generation, Timestamp};

/// Makes the next start's generation higher than `above`, and says which it will be. No coordinator may run on the store.
///
/// # Errors
/// What could not be read or written, and why.
pub fn generation(config: &Config, above: Generation, now: Timestamp) -> Result<Generation> {
    let authority = Authority::load(&config.pki_folder()).context("cannot load the certificate authority")?;
    let file = config.store_file();
    anyhow::ensure!(file.exists(), "there is no store {}; restore it first", file.display());
    let store = Store::open(&file, authority.fleet()).context("cannot open the store")?;
    let next = store.raise_generation(above).context("the generation cannot be raised")?;
    let record = AuditRecord {
        at: now,
        who: "wavegate-coordinator".to_owned(),
        what: format!("raise-generation --above {above}"),
        result: "done".to_owned(),
    };
    store.audit(&record).context("the generation is raised, and the audit list cannot be written")?;
    store.shut();
    Ok(next)
}
