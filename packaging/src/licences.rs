//! The texts that a crate comes with: licences, notices, copyrights, also of what it has copied from others.

use anyhow::{Context, Result};
use std::path::Path;

/// Every such text under a crate's directory: its path there and what it says, in the order of the paths.
///
/// # Errors
///
/// When a directory or a file can't be read.
pub fn texts(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    gather(directory, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn gather(directory: &Path, below: &str, found: &mut Vec<(String, String)>) -> Result<()> {
    let cannot = || format!("cannot read {}", directory.display());
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{below}{name}");
        // What a link names is the crate's too, and is found where it is.
        let kind = entry.file_type().with_context(cannot)?;
        if kind.is_dir() {
            gather(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file() && is_licence(&name) {
            let text = std::fs::read(entry.path())
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            found.push((path, String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Ok(())
}

/// Whether a file's name says that it is such a text, and not source code about licences.
fn is_licence(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let begins =
        ["licen", "copying", "copyright", "notice", "unlicense"].iter().any(|word| name.starts_with(word));
    begins && ![".rs", ".html", ".json", ".toml", ".py", ".c", ".h"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_known_by_name_at_any_depth() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = [
            "LICENSE-MIT",
            "COPYING",
            "src/license.rs",
            "third_party/fiat/LICENSE",
            "README.md",
            "licence.txt",
        ];
        for file in files {
            crate::write(&directory.path().join(file), file).expect("a file");
        }
        let found = texts(directory.path()).expect("texts");
        let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["COPYING", "LICENSE-MIT", "licence.txt", "third_party/fiat/LICENSE"]);
    }
}
