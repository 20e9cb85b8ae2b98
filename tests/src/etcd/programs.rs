//! etcd's programs, of every line that Debian's suites have: unpacked below the lab's directory once, and kept.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::lab::{Artifact, Inputs, directory, lock, run, sources};

/// The lines of etcd that can be had: 3.3.25 of bullseye, 3.4.23 of bookworm, 3.5.16 of trixie.
pub const LINES: [&str; 3] = ["3.3", "3.4", "3.5"];

/// The programs.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// The programs; none, saying so, when `WAVEGATE_NO_LAB=1` asks for suites that need downloads to be skipped.
    ///
    /// # Errors
    ///
    /// When they can't be fetched.
    pub fn for_suite() -> Result<Option<Self>> {
        if std::env::var("WAVEGATE_NO_LAB").is_ok_and(|value| value == "1") {
            eprintln!("SKIPPED: WAVEGATE_NO_LAB=1, so no etcd was started and nothing was tested");
            return Ok(None);
        }
        Self::fetched().map(Some)
    }

    /// The programs, fetched unless they are here. Waits while another process fetches them.
    ///
    /// # Errors
    ///
    /// When they can't be fetched.
    pub fn fetched() -> Result<Self> {
        // Not in the lab's own cache, where what no host is made of is thrown away.
        let cache = directory()?.join("etcd");
        std::fs::create_dir_all(&cache)?;
        let _lock = lock(&cache)?;
        let prepare = sources().join("prepare");
        let inputs = Inputs::default().path(&prepare.join("etcd.sh"))?.path(&prepare.join("mirror.sh"))?;
        let partial = cache.join("programs.partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial)?;
        }
        let programs = Artifact::get(&cache, "programs", inputs, |out| {
            std::fs::create_dir(out)?;
            run(Command::new("sh").arg(prepare.join("etcd.sh")).arg(out)).map(|_| ())
        })?;
        Ok(Self(programs.path))
    }

    /// A program (`etcd`, `etcdctl`, `etcdutl`) of a line, e.g. `3.4`.
    ///
    /// # Errors
    ///
    /// When that line has none.
    pub fn program(&self, line: &str, name: &str) -> Result<PathBuf> {
        let path = self.0.join(line).join(name);
        if !path.is_file() {
            bail!("there is no {name} of etcd {line}: {}", path.display());
        }
        Ok(path)
    }
}
