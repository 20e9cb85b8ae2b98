//! Notes below the agent's state directory, a file each. What they say is the business of the actions that make them.

use super::{file_error, files};
use crate::host::HostError;
use std::path::{Path, PathBuf};

fn path(state: &Path, name: &str) -> PathBuf {
    state.join("notes").join(files::name_for(name))
}

/// What was noted; `None` if nothing is.
pub(super) fn note(state: &Path, name: &str) -> Result<Option<String>, HostError> {
    let content = files::read(&path(state, name))?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

/// Notes it durably, or takes the note away.
pub(super) fn set(state: &Path, name: &str, text: Option<&str>) -> Result<(), HostError> {
    let path = path(state, name);
    let Some(text) = text else { return files::remove(&path) };
    let directory = state.join("notes");
    std::fs::create_dir_all(&directory).map_err(file_error("make", &directory))?;
    files::write_durably(&path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_there_until_they_are_taken_away() {
        let state = tempfile::tempdir().expect("a directory");
        assert_eq!(note(state.path(), "a").expect("no error"), None);
        set(state.path(), "a", None).expect("nothing to take away");
        set(state.path(), "a", Some("one")).expect("noted");
        set(state.path(), "r1:a/b", Some("two")).expect("noted");
        set(state.path(), "a", Some("three")).expect("noted");
        assert_eq!(note(state.path(), "a").expect("no error").as_deref(), Some("three"));
        set(state.path(), "a", None).expect("taken away");
        assert_eq!(note(state.path(), "a").expect("no error"), None);
        assert_eq!(note(state.path(), "r1:a/b").expect("no error").as_deref(), Some("two"));
    }
}
