//! Things that are built once and kept: a directory named by what it is and the hash of all that went into it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::mounts;
use super::progress::say;

/// The hash of an artifact's inputs, as it grows.
#[derive(Clone, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Adds a word, such as another artifact's key.
    #[must_use]
    pub fn word(mut self, word: &str) -> Self {
        self.0.update(word.as_bytes());
        self.0.update([0]);
        self
    }

    /// Adds a file, or all files below a directory, by relative path and content.
    pub fn path(mut self, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(path, &mut files)?;
        files.sort();
        for file in files {
            let content = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let name = file.strip_prefix(path).unwrap_or(&file).display().to_string();
            self = self.word(&name).word(&content.len().to_string());
            self.0.update(&content);
        }
        Ok(self)
    }

    fn key(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        list(&entry?.path(), files)?;
    }
    Ok(())
}

/// A built directory.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Where it is; the last part holds its key.
    pub path: PathBuf,
}

impl Artifact {
    /// The name with the key: an input of what is built from this one.
    pub fn key(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The artifact for these inputs, built by `build` into a directory beside its place unless it is there.
    pub fn get(
        cache: &Path,
        name: &str,
        inputs: Inputs,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let path = cache.join(format!("{name}-{}", inputs.key()));
        if path.exists() {
            return Ok(Self { path });
        }
        say(&format!("building {name}"));
        let partial = cache.join(format!("{name}.partial"));
        build(&partial).with_context(|| format!("building {name}"))?;
        std::fs::rename(&partial, &path).with_context(|| format!("keeping {name}"))?;
        say(&format!("built {name}"));
        Ok(Self { path })
    }
}

/// Removes what a killed build left: its overlay mounts and its `*.partial` files.
pub fn sweep(cache: &Path) -> Result<()> {
    for mounted in mounts::mounted_below(cache)?.iter().rev() {
        mounts::unmount(mounted)?;
    }
    for entry in std::fs::read_dir(cache).with_context(|| format!("listing {}", cache.display()))? {
        let path = entry?.path();
        if path.display().to_string().contains(".partial") {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes every artifact that is neither wanted nor a layer of a running fleet.
pub fn prune(cache: &Path, wanted: &[&Artifact]) -> Result<()> {
    for entry in std::fs::read_dir(cache).with_context(|| format!("listing {}", cache.display()))? {
        let path = entry?.path();
        if !wanted.iter().any(|artifact| artifact.path == path) && !mounts::is_layer_in_use(&path)? {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.with_context(|| format!("removing {}", path.display()))
}
