//! Whether a file or directory is in the hands of root: what root tells the agent by a file, nobody else may have written.

use rustix::process::geteuid;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Group and others may write.
const OTHERS_WRITE: u32 = 0o022;
/// Files in the directory can be replaced by their owners alone.
const STICKY: u32 = 0o1000;

/// Somebody else than root could have written it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {why}", path.display())]
pub struct Untrusted {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it; what to do.
    pub why: String,
}

/// Whether a directory, by its name without links, and those above it are in the hands of root.
pub(crate) fn trusted_directories(directory: &Path) -> std::io::Result<Result<(), Untrusted>> {
    for (depth, directory) in directory.ancestors().enumerate() {
        let metadata = directory.metadata()?;
        let excused_by = if depth == 0 { 0 } else { STICKY };
        if let Err(untrusted) = in_the_hands_of_root(directory, &metadata, excused_by) {
            return Ok(Err(untrusted));
        }
    }
    Ok(Ok(()))
}

/// Whether a file is in the hands of root, as far as it can be told by the file alone.
pub(crate) fn trusted(path: &Path, metadata: &Metadata) -> Result<(), Untrusted> {
    in_the_hands_of_root(path, metadata, 0)
}

/// Whether a file or directory is in the hands of root, or of the user that the agent runs as, who could do what the
/// agent does without any file.
fn in_the_hands_of_root(path: &Path, metadata: &Metadata, excused_by: u32) -> Result<(), Untrusted> {
    let untrusted = |why| Err(Untrusted { path: path.to_owned(), why });
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return untrusted(format!(
            "belongs to user {owner}, not to root; give it to root: chown root {}",
            path.display()
        ));
    }
    if metadata.mode() & OTHERS_WRITE != 0 && metadata.mode() & excused_by == 0 {
        return untrusted(format!(
            "can be written by others than its owner; take that from them: chmod go-w {}",
            path.display()
        ));
    }
    Ok(())
}
