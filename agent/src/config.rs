//! The agent's configuration: one TOML file, and `WAVEGATE_AGENT_*` of the environment over it (`WAVEGATE_AGENT_ETCD__CA` for
//! `ca` of `[etcd]`). What is wrong is named
//! with file, key and what would be right; a key that is not known is refused.

use crate::etcd::EtcdSettings;
use crate::policy;
use config::{Environment, File, FileFormat};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
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
    /// It can't be read.
    #[error("cannot read the configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not TOML, or a key in it is unknown or of another type.
    #[error("the configuration in {} (and {ENVIRONMENT}_* of the environment) cannot be used", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Which key, and what would be right.
        source: config::ConfigError,
    },
    /// A value that can't be.
    #[error("{key} in {}: {wrong}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong, and what would be right.
        wrong: String,
    },
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
            log: "info".to_owned(),
            reconnect_min_s: 1,
            reconnect_max_s: 20,
        }
    }
}

impl Config {
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

    fn read(path: &Path, environment: Environment) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| ConfigError::File { path: path.to_owned(), source })?,
        };
        let written = config::Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize::<Written>)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        check(path, written).map_err(|(key, wrong)| ConfigError::Value { path: path.to_owned(), key, wrong })
    }

    /// The coordinator, which only some commands need.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if none is set.
    pub fn coordinator(&self) -> Result<&Address, ConfigError> {
        let wrong = "it is not set; write coordinator = \"HOST:PORT\"";
        self.coordinator.as_ref().ok_or_else(|| self.wrong("coordinator", wrong.to_owned()))
    }

    /// A setting that can't be.
    #[must_use]
    pub fn wrong(&self, key: &'static str, wrong: String) -> ConfigError {
        ConfigError::Value { path: self.file.clone(), key, wrong }
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

fn check(file: &Path, written: Written) -> Result<Config, (&'static str, String)> {
    let coordinator = written.coordinator.map(|text| text.parse::<Address>()).transpose();
    let node = written.node.map(NodeId::new).transpose();
    let roles = written.roles.iter().map(|role| role.parse()).collect::<Result<_, UnknownWord>>();
    for (key, path) in [("state_directory", &written.state_directory), ("policy_file", &written.policy_file)]
    {
        if !path.is_absolute() {
            return Err((key, format!("'{}' is not an absolute path", path.display())));
        }
    }
    written.etcd.check()?;
    EnvFilter::try_new(&written.log).map_err(|error| {
        (
            "log",
            format!(
                "{error}; write a level (error, warn, info, debug, trace) or TARGET=LEVEL, divided by commas"
            ),
        )
    })?;
    let (min, max) = (written.reconnect_min_s, written.reconnect_max_s);
    if !(1..=max).contains(&min) {
        return Err((
            "reconnect_min_s",
            format!("{min} must be at least 1 and at most reconnect_max_s, {max}"),
        ));
    }
    Ok(Config {
        file: file.to_owned(),
        coordinator: coordinator.map_err(|error| ("coordinator", error.to_string()))?,
        node: node.map_err(|error| ("node", error.to_string()))?,
        etcd: written.etcd,
        roles: roles.map_err(|error| ("roles", error.to_string()))?,
        state_directory: written.state_directory,
        policy_file: written.policy_file,
        log: written.log,
        reconnect_min: Duration::from_secs(min),
        reconnect_max: Duration::from_secs(max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, text).expect("written");
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::read(&path, environment().source(Some(variables))).map_err(|error| {
            let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            text.replace(&*directory.path().to_string_lossy(), "DIR")
        })
    }

    #[test]
    fn an_empty_file_has_every_default() {
        let config = read("", &[]).expect("a configuration");
        assert_eq!((config.coordinator, config.node, config.log.as_str()), (None, None, "info"));
        assert_eq!(config.state_directory, Path::new("/var/lib/wavegate/agent"));
        assert_eq!((config.reconnect_min.as_secs(), config.reconnect_max.as_secs()), (1, 20));
    }

    #[test]
    fn the_shipped_file_is_valid_and_says_the_defaults() {
        let shipped = include_str!("../../packaging/config/agent.toml");
        let mut config = read(shipped, &[]).expect("a configuration");
        assert_eq!(config.coordinator.take().expect("an address").as_str(), "coordinator.example:7443");
        config.file = PathBuf::new();
        let empty = Config { file: PathBuf::new(), ..read("", &[]).expect("a configuration") };
        assert_eq!(config, empty);
        let uncommented: String = shipped
            .lines()
            .filter_map(|line| line.strip_prefix("#= "))
            .map(|line| format!("{line}\n"))
            .collect();
        read(&uncommented, &[]).expect("what is shown as an example is valid");
    }

    #[test]
    fn the_environment_wins() {
        let file = "coordinator = \"a:1\"\nroles = [\"compute\"]";
        let variables = [
            ("WAVEGATE_AGENT_COORDINATOR", "b:2"),
            ("WAVEGATE_AGENT_ROLES", "control,etcd-proxy"),
            ("WAVEGATE_AGENT_STATE_DIRECTORY", "/srv/w"),
            ("WAVEGATE_AGENT_RECONNECT_MAX_S", "7"),
            ("WAVEGATE_AGENT_ETCD__CA", "/ca.pem"),
            ("WAVEGATE_AGENT_ETCD__ENDPOINTS", "http://a:1,http://b:2"),
            ("OTHER", "x"),
        ];
        let config = read(file, &variables).expect("a configuration");
        assert_eq!(config.coordinator.expect("an address").as_str(), "b:2");
        assert_eq!(config.roles, BTreeSet::from([Role::EtcdProxy, Role::Control]));
        assert_eq!((config.state_directory, config.reconnect_max.as_secs()), ("/srv/w".into(), 7));
        assert_eq!(config.etcd.ca.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(config.etcd.endpoints, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |text: &str| read(text, &[]).expect_err("refused");
        insta::assert_snapshot!(message("cordinator = \"a:1\""), @"the configuration in DIR/agent.toml (and WAVEGATE_AGENT_* of the environment) cannot be used: unknown field `cordinator`, expected one of `coordinator`, `node`, `roles`, `etcd`, `state_directory`, `policy_file`, `log`, `reconnect_min_s`, `reconnect_max_s`");
        insta::assert_snapshot!(message("roles = [\"etcd\"]"), @r"
        roles in DIR/agent.toml: unknown role 'etcd'; known: etcd-member, etcd-proxy, etcd-gateway, etcd-client, compute, control
        ");
        insta::assert_snapshot!(message("reconnect_min_s = \"soon\""), @r#"
        the configuration in DIR/agent.toml (and WAVEGATE_AGENT_* of the environment) cannot be used: invalid type: string "soon", expected an integer for key `reconnect_min_s`
        "#);
        insta::assert_snapshot!(message("coordinator = \"https://a\""), @r"
        coordinator in DIR/agent.toml: 'https://a' is not the address of a coordinator: write HOST:PORT, e.g. coordinator.example:7443
        ");
        insta::assert_snapshot!(message("node = \"Compute 1\""), @r"
        node in DIR/agent.toml: 'Compute 1' is not a node name: use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit
        ");
        insta::assert_snapshot!(message("state_directory = \"state\""), @r"
        state_directory in DIR/agent.toml: 'state' is not an absolute path
        ");
        insta::assert_snapshot!(message("log = \"chatty=very\""), @r#"
        log in DIR/agent.toml: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; write a level (error, warn, info, debug, trace) or TARGET=LEVEL, divided by commas
        "#);
        insta::assert_snapshot!(message("reconnect_min_s = 30"), @r"
        reconnect_min_s in DIR/agent.toml: 30 must be at least 1 and at most reconnect_max_s, 20
        ");
        insta::assert_snapshot!(message("etcd.ca = \"ca.pem\""), @"etcd.ca in DIR/agent.toml: 'ca.pem' is not an absolute path");
        insta::assert_snapshot!(message("etcd.key = \"/k.pem\""), @"etcd.certificate in DIR/agent.toml: it must be set where etcd.key is: neither is of use alone");
        insta::assert_snapshot!(message("etcd.user = \"root\""), @"etcd.password_file in DIR/agent.toml: it must be set where etcd.user is: neither is of use alone");
        insta::assert_snapshot!(message("etcd.endpoints = [\"10.0.0.1:2379\"]"), @"etcd.endpoints in DIR/agent.toml: '10.0.0.1:2379' is not where etcd is asked: write http://HOST:PORT or https://HOST:PORT");
        insta::assert_snapshot!(message("etcd.peers = 1"), @"the configuration in DIR/agent.toml (and WAVEGATE_AGENT_* of the environment) cannot be used: unknown field `peers`, expected one of `ca`, `certificate`, `key`, `user`, `password_file`, `endpoints` for key `etcd`");
        insta::assert_snapshot!(message("node ="), @r"
        the configuration in DIR/agent.toml (and WAVEGATE_AGENT_* of the environment) cannot be used: TOML parse error at line 1, column 7
          |
        1 | node =
          |       ^
        string values must be quoted, expected literal string
        ");
        insta::assert_snapshot!(read("", &[("WAVEGATE_AGENT_NOD", "x")]).expect_err("refused"), @r"
        the configuration in DIR/agent.toml (and WAVEGATE_AGENT_* of the environment) cannot be used: unknown field `nod`, expected one of `coordinator`, `node`, `roles`, `etcd`, `state_directory`, `policy_file`, `log`, `reconnect_min_s`, `reconnect_max_s`
        ");
        let missing =
            Config::load(Some(Path::new("/nonexistent/agent.toml"))).expect_err("missing").to_string();
        insta::assert_snapshot!(missing, @r"
        there is no configuration file /nonexistent/agent.toml: write one, or name another with --config
        ");
    }

    #[test]
    fn addresses_have_host_and_port() {
        for good in ["c:7443", "10.0.0.1:1", "[::1]:7443", "coordinator.example:65535"] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in ["", "c", "c:", ":1", "c:0", "c:65536", "::1:7443", "http://c:1", "a b:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
