//! The output of the step that began last as a file, so that an agent that is started again goes on where it was. It is
//! not synced and nothing fails for its sake: a power cut may lose the last lines.

use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use wavegate_common::id::StepId;
use wavegate_common::order::TaskKey;

const NAME: &str = "output";

/// Whose output the file holds: its first line, as JSON. The bytes of the output follow as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heading {
    pub(super) key: TaskKey,
    pub(super) step: StepId,
    /// Bytes of the step's output before those of the file.
    pub(super) dropped: u64,
}

/// The file, open for what is printed next.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of output in it.
    pub(super) bytes: usize,
}

impl OutputFile {
    pub(super) fn in_directory(state_directory: &Path) -> Self {
        Self { path: state_directory.join(NAME), file: None, bytes: 0 }
    }

    /// What an earlier agent left; `None` if there is nothing that can be read.
    pub(super) fn load(&mut self) -> Option<(Heading, Vec<u8>)> {
        let (heading, text) = self.read()?;
        self.file = OpenOptions::new().append(true).open(&self.path).ok();
        self.bytes = text.len();
        Some((heading, text))
    }

    /// What is in the file, without touching it; `None` if there is nothing that can be read.
    pub(super) fn read(&self) -> Option<(Heading, Vec<u8>)> {
        let content = std::fs::read(&self.path).ok()?;
        let end = content.iter().position(|byte| *byte == b'\n')?;
        let heading = serde_json::from_slice(&content[..end]).ok()?;
        Some((heading, content[end + 1..].to_vec()))
    }

    /// Begins the file anew.
    pub(super) fn write(&mut self, heading: &Heading, text: &[u8]) {
        self.bytes = text.len();
        self.file = self.replace(heading, text).inspect_err(|error| self.complain(error)).ok();
    }

    /// Adds to it.
    pub(super) fn append(&mut self, text: &[u8]) {
        self.bytes += text.len();
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(text)) {
            self.complain(&error);
            // What came after a part that is missing would be told at wrong offsets.
            self.file = None;
        }
    }

    fn replace(&self, heading: &Heading, text: &[u8]) -> std::io::Result<File> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        let mut content = serde_json::to_vec(heading)?;
        content.push(b'\n');
        content.extend_from_slice(text);
        file.write_all(&content)?;
        std::fs::rename(&new, &self.path)?;
        Ok(file)
    }

    fn complain(&self, error: &std::io::Error) {
        tracing::warn!(file = %self.path.display(), %error, "the output of this step is not kept over a restart of the agent");
    }
}
