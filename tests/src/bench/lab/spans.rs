//! What the nodes logged meanwhile: the agents their spans, which say what is inside of a step, beside everything else there. What
//! is made of it is the reader's.

use std::path::Path;

use anyhow::{Context, Result};

use crate::deploy::{Package, Wavegate};

/// As docs/operating.md tells operators to set it.
const SETTING: &str = "log = \"info,wavegate_agent=debug\"\n";

/// Has every agent log its spans.
///
/// # Errors
///
/// When one does not come back.
pub fn have_logged(wavegate: &Wavegate<'_>) -> Result<()> {
    for node in wavegate.managed() {
        node.write_file("/etc/wavegate/agent.d/60-spans.toml", SETTING.as_bytes(), 0o644)?;
        node.run(&["systemctl", "restart", Package::Agent.name()])?;
    }
    wavegate.wait_online()
}

/// Writes the nodes' logs into a directory, a file for each node.
///
/// # Errors
///
/// When it can't be read or written.
pub fn keep(wavegate: &Wavegate<'_>, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    for node in wavegate.managed() {
        let log = node.run(&["journalctl", "-o", "short-iso-precise", "--no-pager"])?;
        let file = directory.join(format!("{}.log", node.name()));
        std::fs::write(&file, log).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
