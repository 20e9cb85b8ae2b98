//! Ctrl-C and SIGTERM: the fleets of this process are torn down before it ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

use super::progress::say;
use super::teardown;

static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static WATCH: Once = Once::new();

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held while something of this machine is taken: an interrupt waits for it, and what would be taken after the
/// interrupt waits for ever.
pub fn uninterrupted() -> impl Drop {
    live()
}

/// From now on an interrupt tears this fleet down.
pub fn register(fleet: &Path) {
    live().insert(fleet.to_owned());
    WATCH.call_once(|| {
        std::thread::spawn(watch);
    });
}

/// From now on an interrupt leaves it alone.
pub fn forget(fleet: &Path) {
    live().remove(fleet);
}

fn watch() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let fleets = live();
        for fleet in fleets.iter() {
            say(&format!("interrupted: tearing down {}", fleet.display()));
            if let Err(error) = teardown::fleet(fleet) {
                say(&format!("tearing down {}: {error:#}", fleet.display()));
            }
        }
        std::process::exit(130);
    });
}
