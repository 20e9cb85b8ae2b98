//! The agent's settings: what they mean, and which values they can have. What is wrong is named with file, key and what would be
//! right; a key that is not known is refused. Where settings are written is `parts`'.

mod parts;

pub use parts::Place;

use crate::etcd::EtcdSettings;
use crate::{admission, causes, policy};
use config::Environment;
use parts::Parts;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::filter::{ParseError, Targets};
use wavegate_common::id::NodeId;
use wavegate_common::platform::{Role, UnknownWord};

/// Where the file stands if no other is named.
pub const DEFAULT_FILE: &str = "/etc/wavegate/agent.toml";

const ENVIRONMENT: &str = "WAVEGATE_AGENT";

/// The agent's configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that was read, or would have been.
    pub file: PathBuf,
    /// Where `node` is set, or would be.
    pub node_is_set_in: Place,
    /// The coordinator as `HOST:PORT`; `None` if none is set.
    pub coordinator: Option<Address>,
    /// The node's name; `None` leaves it to the certificate, or to the host name when there is none yet.
    pub node: Option<NodeId>,
    /// Roles beside those that the agent finds.
    pub roles: BTreeSet<Role>,
    /// How to get at etcd, where what is found on the node is not enough.
    pub etcd: EtcdSettings,
    /// Where the agent keeps its journal, its credentials and its transactions.
    pub state_directory: PathBuf,
    /// The file with what orders may touch on this node; it need not be there.
    pub policy_file: PathBuf,
    /// The file in which an agent that is not enrolled finds its join token; it need not be there.
    pub join_token_file: PathBuf,
    /// What is logged, as `tracing` filters say it, e.g. `info` or `info,wavegate_agent=debug`.
    pub log: String,
    /// The first wait before the coordinator is dialled again is at most this long; then it grows.
    pub reconnect_min: Duration,
    /// No wait is longer than this.
    pub reconnect_max: Duration,
}

/// Where a coordinator listens: `HOST:PORT`, `ADDRESS:PORT` or `[IPV6]:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the address of a coordinator: write HOST:PORT, e.g. coordinator.example:7443")]
pub struct BadAddress(String);

impl Address {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Address {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_one = !host.is_empty()
            && !host.contains(|c: char| c.is_whitespace() || c == '/')
            && (bracketed || !host.contains(':'));
        match port.parse::<u16>() {
            Ok(port) if port > 0 && host_is_one => Ok(Self(text.to_owned())),
            _ => Err(bad()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file is not there.
    #[error("there is no configuration file {}: write one, or name another with --config", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// A file of the configuration, or the directory of its drop-ins, can't be read.
    #[error("cannot read {} of the configuration", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not TOML, or a key in it is unknown or of another type.
    #[error("the configuration in {place} cannot be used")]
    Unreadable {
        /// Where.
        place: Place,
        /// Which key, and what would be right.
        source: Box<config::ConfigError>,
    },
    /// A value that can't be.
    #[error("{key} in {place}: {wrong}")]
    Value {
        /// Where it is set.
        place: Place,
        /// The key.
        key: &'static str,
        /// What is wrong, and what would be right.
        wrong: String,
    },
    /// The coordinator is needed and not set.
    #[error(
        "the coordinator's address is not known: {or}write coordinator = \"HOST:PORT\" into {}",
        file.display()
    )]
    NoCoordinator {
        /// What would do as well, with an `or` behind it.
        or: &'static str,
        /// A file where it could be set.
        file: PathBuf,
    },
}

impl ConfigError {
    /// The error with everything that it came from, in one line: where first, and without the excerpt that TOML's errors show.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let text = match self {
            Self::Unreadable { place, source } => format!("{place}: {source}"),
            other => causes::told(other),
        };
        let is_excerpt = |line: &str| {
            let before = line.split_once('|').map(|(before, _)| before);
            before.is_some_and(|before| before.chars().all(|c| c == ' ' || c.is_ascii_digit()))
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_excerpt(line));
        lines.collect::<Vec<_>>().join(": ")
    }
}

/// The file's keys, as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    coordinator: Option<String>,
    node: Option<String>,
    roles: Vec<String>,
    etcd: EtcdSettings,
    state_directory: PathBuf,
    policy_file: PathBuf,
    join_token_file: PathBuf,
    log: String,
    reconnect_min_s: u64,
    reconnect_max_s: u64,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            coordinator: None,
            node: None,
            roles: Vec::new(),
            etcd: EtcdSettings::default(),
            state_directory: "/var/lib/wavegate/agent".into(),
            policy_file: policy::DEFAULT_FILE.into(),
            join_token_file: admission::DEFAULT_TOKEN_FILE.into(),
            log: "info".to_owned(),
            reconnect_min_s: 1,
            reconnect_max_s: 20,
        }
    }
}

impl Config {
    /// What is logged. Levels and targets alone: what a person writes needs no regular expressions, which a program of this size
    /// would have to carry along.
    ///
    /// # Errors
    /// [`ParseError`], though not after the configuration was read.
    pub fn log_filter(&self) -> Result<Targets, ParseError> {
        self.log.parse()
    }

    /// Reads the configuration. Without `file` the default one is read, if it is there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(path) = file
            && !path.exists()
        {
            return Err(ConfigError::NoFile { path: path.to_owned() });
        }
        Self::read(file.unwrap_or(Path::new(DEFAULT_FILE)), environment())
    }

    /// What holds where nothing is set.
    ///
    /// # Errors
    /// [`ConfigError`]; none is expected.
    pub fn of_defaults() -> Result<Self, ConfigError> {
        let (file, written) = (Path::new(DEFAULT_FILE), Written::default());
        checked(file, &Parts::none(file), written)
    }

    fn read(path: &Path, environment: Environment) -> Result<Self, ConfigError> {
        let parts = Parts::read(path, environment)?;
        // Each by itself first, so that it is known whose key it is that nobody knows.
        parts.each_is::<Written>()?;
        let written = parts.together::<Written>()?;
        checked(path, &parts, written)
    }

    /// The coordinator, which only some commands need. `or` is what would do as well as to set it, with an `or` behind it.
    ///
    /// # Errors
    /// [`ConfigError::NoCoordinator`] if none is set.
    pub fn coordinator(&self, or: &'static str) -> Result<&Address, ConfigError> {
        let missing = || ConfigError::NoCoordinator { or, file: self.site_file() };
        self.coordinator.as_ref().ok_or_else(missing)
    }

    /// The directory of the files that are read over the file.
    #[must_use]
    pub fn drop_ins(&self) -> PathBuf {
        parts::drop_ins_of(&self.file)
    }

    /// The file among them in which people are told to write what holds for their site; it need not be there.
    #[must_use]
    pub fn site_file(&self) -> PathBuf {
        self.drop_ins().join("site.toml")
    }
}

fn environment() -> Environment {
    Environment::with_prefix(ENVIRONMENT)
        .prefix_separator("_")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("roles")
        .with_list_parse_key("etcd.endpoints")
}

fn checked(file: &Path, parts: &Parts, written: Written) -> Result<Config, ConfigError> {
    check(file, parts, written).map_err(|(key, wrong)| {
        let place = parts.place_of(key);
        ConfigError::Value { place, key, wrong }
    })
}

fn check(file: &Path, parts: &Parts, written: Written) -> Result<Config, (&'static str, String)> {
    let coordinator = written.coordinator.map(|text| text.parse::<Address>()).transpose();
    let node = written.node.map(NodeId::new).transpose();
    let roles = written.roles.iter().map(|role| role.parse()).collect::<Result<_, UnknownWord>>();
    let paths = [
        ("state_directory", &written.state_directory),
        ("policy_file", &written.policy_file),
        ("join_token_file", &written.join_token_file),
    ];
    for (key, path) in paths {
        if !path.is_absolute() {
            return Err((key, format!("'{}' is not an absolute path", path.display())));
        }
    }
    written.etcd.check()?;
    written.log.parse::<Targets>().map_err(|error| {
        (
            "log",
            format!(
                "{error}; write a level (error, warn, info, debug, trace) or TARGET=LEVEL, divided by commas"
            ),
        )
    })?;
    let (min, max) = (written.reconnect_min_s, written.reconnect_max_s);
    if min == 0 {
        return Err(("reconnect_min_s", "0 must be at least 1".to_owned()));
    }
    if max < min {
        // The one that was written last does not fit the other.
        return Err(if parts.rank("reconnect_max_s") > parts.rank("reconnect_min_s") {
            ("reconnect_max_s", format!("{max} must be at least reconnect_min_s, {min}"))
        } else {
            ("reconnect_min_s", format!("{min} must be at most reconnect_max_s, {max}"))
        });
    }
    Ok(Config {
        file: file.to_owned(),
        node_is_set_in: parts.place_of("node"),
        coordinator: coordinator.map_err(|error| ("coordinator", error.to_string()))?,
        node: node.map_err(|error| ("node", error.to_string()))?,
        etcd: written.etcd,
        roles: roles.map_err(|error| ("roles", error.to_string()))?,
        state_directory: written.state_directory,
        policy_file: written.policy_file,
        join_token_file: written.join_token_file,
        log: written.log,
        reconnect_min: Duration::from_secs(min),
        reconnect_max: Duration::from_secs(max),
    })
}

#[cfg(test)]
mod tests;
