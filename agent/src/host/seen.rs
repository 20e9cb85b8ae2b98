//! What is seen of a file without reading it, by which a change is told.

use super::Host;
use std::path::Path;
use wavegate_common::id::Timestamp;

/// A file or directory as it is seen from outside: the same again as long as nobody changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    path: String,
    /// Device and inode.
    identity: Option<(u64, u64)>,
    /// When anything about it last changed; of a link, the link itself.
    changed: Option<Timestamp>,
    /// When it was last written; of a link, what that leads to.
    modified: Option<Timestamp>,
}

impl Seen {
    /// As it is now; also of one that is not there.
    #[must_use]
    pub fn of(path: String, host: &dyn Host) -> Self {
        let file = Path::new(&path);
        let (identity, changed, modified) =
            (host.identity(file), host.changed_at(file), host.modified_at(file));
        Self { path, identity, changed, modified }
    }

    /// The last moment at which it changed; `None` if it is not there.
    #[must_use]
    pub fn last_change(&self) -> Option<Timestamp> {
        self.changed.max(self.modified)
    }
}
