//! What happened, line by line: a digest of all of it, by which two runs are the same or not, and the last lines in words.

use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fmt;

/// Lines that are kept for whoever looks at a failure.
const KEPT: usize = 60;

/// What happened so far.
#[derive(Debug, Clone)]
pub struct Trace {
    digest: Sha256,
    last: VecDeque<String>,
    aloud: bool,
}

impl Trace {
    /// Nothing so far. `aloud` prints every line as it comes.
    #[must_use]
    pub fn new(aloud: bool) -> Self {
        Self { digest: Sha256::new(), last: VecDeque::new(), aloud }
    }

    /// Something happened, at a time of the simulation.
    pub fn line(&mut self, at: u64, what: fmt::Arguments<'_>) {
        let line = format!("{:>9}.{:03} {what}", at / 1000, at % 1000);
        self.digest.update(line.as_bytes());
        if self.aloud {
            eprintln!("{line}");
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Bytes that belong to it.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// SHA-256 of everything, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        let digest = self.digest.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The last lines.
    #[must_use]
    pub fn last(&self) -> String {
        self.last.iter().map(|line| format!("{line}\n")).collect()
    }
}
