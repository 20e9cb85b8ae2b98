//! Files of a node.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::Node;

/// Writes its input beside `$1` with mode `$2`, then renames it.
const REPLACE: &str = r#"set -e; mkdir -p "$(dirname "$1")"; umask 077; cat > "$1.lab-new"; chmod "$2" "$1.lab-new"; mv "$1.lab-new" "$1""#;

impl Node {
    /// The content of a text file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or the node is off.
    pub fn read_file(&self, path: &str) -> Result<String> {
        self.run(&["cat", "--", path])
    }

    /// Replaces a file atomically, making the directories above it.
    ///
    /// # Errors
    ///
    /// When it cannot be written or the node is off.
    pub fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let mut command = self.command(&["sh", "-c", REPLACE, "sh", path, &format!("{mode:o}")])?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let what = || format!("{}: writing {path}", self.name());
        let mut child = command.spawn().with_context(what)?;
        let written = match child.stdin.take() {
            Some(mut input) => input.write_all(content),
            None => Ok(()),
        };
        let output = child.wait_with_output().with_context(what)?;
        if !output.status.success() {
            bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        written.with_context(what)
    }

    /// Copies a file of this machine to the node.
    ///
    /// # Errors
    ///
    /// When it cannot be read here or written there.
    pub fn put_file(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.write_file(to, &content, mode)
    }
}
