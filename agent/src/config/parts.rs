//! Where the agent's settings are written: one TOML file, the drop-ins in the directory beside it, and the environment, each over
//! those before it (`WAVEGATE_AGENT_ETCD__CA` is `ca` of `[etcd]`). What the settings mean is `config`'s.

use super::{ConfigError, ENVIRONMENT};
use config::builder::DefaultState;
use config::{Config, ConfigBuilder, Environment, File, FileFormat, Source, ValueKind};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a setting is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In the environment.
    Environment,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment => write!(f, "the environment ({ENVIRONMENT}_*)"),
        }
    }
}

/// The parts of a configuration; each is over those before it.
pub(super) struct Parts {
    file: PathBuf,
    parts: Vec<Part>,
}

struct Part {
    place: Place,
    read: Config,
    /// Its keys, those of a section as `etcd.ca`, and the section itself.
    keys: BTreeSet<String>,
}

/// The directory of the drop-ins of a file: `agent.d` beside `agent.toml`.
pub(super) fn drop_ins_of(file: &Path) -> PathBuf {
    file.with_extension("d")
}

impl Parts {
    /// Reads every part. The file and the directory need not be there.
    pub(super) fn read(file: &Path, environment: Environment) -> Result<Self, ConfigError> {
        let mut parts = Vec::new();
        for path in std::iter::once(file.to_owned()).chain(drop_ins(&drop_ins_of(file))?) {
            let text = match std::fs::read_to_string(&path) {
                // The file is not there, or a drop-in was taken away a moment ago. A link to nothing is there.
                Err(error) if error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                    continue;
                }
                read => read.map_err(|source| ConfigError::File { path: path.clone(), source })?,
            };
            parts.push(Part::new(Place::File(path), File::from_str(&text, FileFormat::Toml))?);
        }
        parts.push(Part::new(Place::Environment, environment)?);
        Ok(Self { file: file.to_owned(), parts })
    }

    /// No part.
    pub(super) fn none(file: &Path) -> Self {
        Self { file: file.to_owned(), parts: Vec::new() }
    }

    /// Whether each part by itself has the keys and the types of `T`.
    pub(super) fn each_is<T: DeserializeOwned>(&self) -> Result<(), ConfigError> {
        self.parts.iter().try_for_each(|part| {
            part.read.clone().try_deserialize::<T>().map_err(|source| part.unreadable(source)).map(drop)
        })
    }

    /// All parts, each over those before it.
    pub(super) fn together<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let over = |before: ConfigBuilder<DefaultState>, part: &Part| before.add_source(part.read.clone());
        let both = self.parts.iter().fold(Config::builder(), over).build();
        let place = || Place::File(self.file.clone());
        both.and_then(Config::try_deserialize)
            .map_err(|source| ConfigError::Unreadable { place: place(), source: source.into() })
    }

    /// How late a key is set: more than those that are set in parts before; least if no part sets it.
    pub(super) fn rank(&self, key: &str) -> Option<usize> {
        self.parts.iter().rposition(|part| part.keys.contains(key))
    }

    /// Where a key is set last. One that is missing: where its section is, else in the file.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let section = key.split_once('.').map_or("", |(section, _)| section);
        let part = self.rank(key).or_else(|| self.rank(section)).and_then(|rank| self.parts.get(rank));
        part.map_or_else(|| Place::File(self.file.clone()), |part| part.place.clone())
    }
}

impl Part {
    fn new(place: Place, source: impl Source + Send + Sync + 'static) -> Result<Self, ConfigError> {
        let read = Config::builder().add_source(source).build();
        let (read, keys) = read
            .and_then(|read| {
                let keys = keys(&read)?;
                Ok((read, keys))
            })
            .map_err(|source| ConfigError::Unreadable { place: place.clone(), source: source.into() })?;
        Ok(Self { place, read, keys })
    }

    fn unreadable(&self, source: config::ConfigError) -> ConfigError {
        ConfigError::Unreadable { place: self.place.clone(), source: source.into() }
    }
}

fn keys(read: &Config) -> Result<BTreeSet<String>, config::ConfigError> {
    let mut keys = BTreeSet::new();
    for (key, value) in read.collect()? {
        if let ValueKind::Table(section) = value.kind {
            keys.extend(section.into_keys().map(|inner| format!("{key}.{inner}")));
        }
        keys.insert(key);
    }
    Ok(keys)
}

/// The drop-ins in a directory, in name order: every `*.toml` that is not hidden, as what an editor has open is.
fn drop_ins(directory: &Path) -> Result<BTreeSet<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::File { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
            files.insert(directory.join(name));
        }
    }
    Ok(files)
}
