//! The coordinator's configuration: a TOML file, over it the drop-ins beside it, and over all `WAVEGATE_COORDINATOR_*` of the
//! environment. Finding the files is `layers`'.

pub mod layers;

use layers::{Layer, Unreadable};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the configuration is unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/wavegate/coordinator.toml";
/// The store's file in the state directory.
pub(crate) const STORE: &str = "store.redb";
const ENVIRONMENT: &str = "WAVEGATE_COORDINATOR";

/// The coordinator's configuration. Every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where agents, and operators from afar, connect.
    pub listen: SocketAddr,
    /// The unix socket for operators on this machine.
    pub socket: PathBuf,
    /// What the coordinator remembers: its store and its certificates.
    pub state_directory: PathBuf,
    /// A node with a task in flight that is offline for so many seconds is lost.
    pub lost_after_s: u64,
    /// Agents say so often, in seconds, that they are there. Three times this without a word and a node is offline.
    pub heartbeat_interval_s: u32,
    /// So many agents are connected at most; operators have room of their own.
    pub max_connections: usize,
    /// Whether a plan must be approved by somebody else than its author before it can be started.
    pub approvals: bool,
    /// What is logged: a level, or `tracing` directives such as `info,wavegate_coordinator=debug`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            socket: PathBuf::from("/run/wavegate/operator.sock"),
            state_directory: PathBuf::from("/var/lib/wavegate/coordinator"),
            lost_after_s: 30,
            heartbeat_interval_s: 5,
            max_connections: 12_000,
            approvals: false,
            log: "info".to_owned(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error("there is no configuration {}; make it with `wavegate init`, or name another with --config", path.display())]
    NoFile {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file can't be read.
    #[error("the configuration {} cannot be read; whoever runs the coordinator must be able to", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// The environment is wrong.
    #[error("the environment ({ENVIRONMENT}_*): {what}")]
    Environment {
        /// What is wrong.
        what: String,
    },
}

impl From<Unreadable> for ConfigError {
    fn from(Unreadable { path, source }: Unreadable) -> Self {
        Self::Unreadable { path, source }
    }
}

/// What a setting is called in the environment.
#[must_use]
pub(crate) fn environment_name(key: &str) -> String {
    format!("{ENVIRONMENT}_{}", key.to_uppercase())
}

/// Whether the environment says something of a setting.
#[must_use]
pub(crate) fn in_environment(key: &str) -> bool {
    std::env::var_os(environment_name(key)).is_some()
}

impl Config {
    /// Reads the configuration: the file, over it the drop-ins, and over them the environment.
    ///
    /// # Errors
    /// [`ConfigError`] with the place of what is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let environment = std::env::vars().filter(|(name, _)| name.starts_with(ENVIRONMENT)).collect();
        Self::load_with(path, environment)
    }

    fn load_with(path: &Path, environment: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let layers = layers::read(path)?;
        if layers.is_empty() {
            return Err(ConfigError::NoFile { path: path.to_path_buf() });
        }
        let wrong = |layer: &Layer, what: String| ConfigError::Wrong { path: layer.path.clone(), what };
        for layer in &layers {
            // Each by `toml` alone first, since it knows the line of what is wrong.
            toml::from_str::<Self>(&layer.text)
                .map_err(|error| error.to_string().trim_end().to_owned())
                .and_then(|alone| alone.check())
                .map_err(|what| wrong(layer, what))?;
        }
        let in_environment = |what: String| ConfigError::Environment { what };
        let all = merged(&layers, environment).map_err(|error| in_environment(error.to_string()))?;
        all.check().map_err(in_environment)?;
        let Err(what) = all.check_together() else { return Ok(all) };
        Err(match brought_by(&layers, &what) {
            Some(layer) => wrong(layer, what),
            None => in_environment(what),
        })
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=300).contains(&self.heartbeat_interval_s) {
            return Err(format!(
                "heartbeat_interval_s is {}; it must be 1 to 300",
                self.heartbeat_interval_s
            ));
        }
        if self.max_connections == 0 {
            return Err(
                "max_connections is 0, so that no agent could connect; it must be 1 or more".to_owned()
            );
        }
        if self.lost_after_s == 0 {
            return Err(
                "lost_after_s is 0, so that no node could reconnect in time; it must be 1 or more".to_owned()
            );
        }
        Ok(())
    }

    /// What no setting is to blame for alone.
    fn check_together(&self) -> Result<(), String> {
        let Self { lost_after_s, heartbeat_interval_s, .. } = self;
        if *lost_after_s >= u64::from(*heartbeat_interval_s) {
            return Ok(());
        }
        Err(format!(
            "heartbeat_interval_s is {heartbeat_interval_s} and lost_after_s is {lost_after_s}, so that a node whose link \
             broke would be lost before its next sign of life is due; make lost_after_s {heartbeat_interval_s} or more, or \
             heartbeat_interval_s {lost_after_s} or less"
        ))
    }

    /// The folder of the certificates.
    #[must_use]
    pub fn pki_folder(&self) -> PathBuf {
        self.state_directory.join("pki")
    }

    /// The store's file.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.state_directory.join(STORE)
    }
}

/// Layers in one, and the environment over them.
fn merged(layers: &[Layer], environment: Vec<(String, String)>) -> Result<Config, config::ConfigError> {
    let environment = config::Environment::with_prefix(ENVIRONMENT)
        .prefix_separator("_")
        .try_parsing(true)
        .source(Some(environment.into_iter().collect()));
    let builder = layers.iter().fold(config::Config::builder(), |builder, layer| {
        builder.add_source(config::File::from_str(&layer.text, config::FileFormat::Toml))
    });
    builder.add_source(environment).build()?.try_deserialize()
}

/// The layer that made settings contradict each other as they do in the end; `None` if the environment did.
fn brought_by<'l>(layers: &'l [Layer], what: &str) -> Option<&'l Layer> {
    let so_after = |count: &usize| {
        let until = merged(layers.get(..*count).unwrap_or_default(), Vec::new());
        until.is_ok_and(|until| until.check_together().is_err_and(|found| found == what))
    };
    let first = (1..=layers.len()).rev().take_while(so_after).last()?;
    layers.get(first - 1)
}

/// The text of a configuration file in which only these two are not as by default.
#[must_use]
pub fn commented(listen: SocketAddr, state_directory: &Path) -> String {
    let own = Config { listen, state_directory: state_directory.to_path_buf(), ..Config::default() };
    let default = Config::default();
    let line = |key: &str, value: String, is_default: bool| {
        format!("{}{key} = {value}\n", if is_default { "# " } else { "" })
    };
    let text = |value: String| toml::Value::String(value).to_string();
    [
        "# The wavegate coordinator. What is commented out is as by default.\n\n".to_owned(),
        "# Where agents, and operators from afar, connect.\n".to_owned(),
        line("listen", text(own.listen.to_string()), own.listen == default.listen),
        "\n# The unix socket for operators on this machine: root, and the user that the coordinator runs as.\n".to_owned(),
        line("socket", text(own.socket.display().to_string()), true),
        "\n# The store and the certificates. Back it up: without the authority's key no node can enrol.\n".to_owned(),
        line(
            "state_directory",
            text(own.state_directory.display().to_string()),
            own.state_directory == default.state_directory,
        ),
        "\n# A node with a task in flight that is offline for so many seconds is lost: its task is unknown until it\n# returns.\n".to_owned(),
        line("lost_after_s", own.lost_after_s.to_string(), true),
        "\n# Agents say so often, in seconds, that they are there. Three times this without a word is offline.\n".to_owned(),
        line("heartbeat_interval_s", own.heartbeat_interval_s.to_string(), true),
        "\n# So many agents are connected at most; the others are turned away and try again by themselves. Operators have room of\n# their own. Each takes a file descriptor of the service (LimitNOFILE=).\n".to_owned(),
        line("max_connections", own.max_connections.to_string(), true),
        "\n# Whether somebody else than its author must approve a plan (wavegate approve) before it can be started.\n".to_owned(),
        line("approvals", own.approvals.to_string(), true),
        "\n# error, warn, info, debug, trace; or directives such as \"info,wavegate_coordinator=debug\".\n".to_owned(),
        line("log", text(own.log), true),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, text).expect("written");
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let shorten = |error: ConfigError| error.to_string().replace(&path.display().to_string(), "FILE");
        Config::load_with(&path, environment).map_err(shorten)
    }

    /// With drop-ins: name and text of each.
    fn load_dropped(text: &str, dropped: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, text).expect("written");
        std::fs::create_dir(folder.path().join("coordinator.d")).expect("folder");
        for (name, text) in dropped {
            std::fs::write(folder.path().join("coordinator.d").join(name), text).expect("written");
        }
        let shorten =
            |error: ConfigError| error.to_string().replace(&folder.path().display().to_string(), "");
        Config::load_with(&path, Vec::new()).map_err(shorten)
    }

    #[test]
    fn drop_ins_win_over_the_file_and_the_last_one_over_the_others() {
        let dropped = [
            ("50.toml", "lost_after_s = 50\nlisten = \"127.0.0.1:5\"\n"),
            ("40.toml", "lost_after_s = 40\n"),
        ];
        let config = load_dropped("lost_after_s = 35\nheartbeat_interval_s = 7\n", &dropped).expect("good");
        assert_eq!((config.lost_after_s, config.heartbeat_interval_s, config.listen.port()), (50, 7, 5));
    }

    #[test]
    fn what_is_wrong_in_a_drop_in_is_said_with_its_name() {
        let (slow, wrong) = ("heartbeat_interval_s = 60\n", "lost_after = 1\n");
        insta::assert_snapshot!(load_dropped("", &[("a.toml", wrong)]).expect_err("unknown key"), @r"
        /coordinator.d/a.toml: TOML parse error at line 1, column 1
          |
        1 | lost_after = 1
          | ^^^^^^^^^^
        unknown field `lost_after`, expected one of `listen`, `socket`, `state_directory`, `lost_after_s`, `heartbeat_interval_s`, `max_connections`, `approvals`, `log`
        ");
        insta::assert_snapshot!(load_dropped("", &[("a.toml", slow), ("b.toml", "")]).expect_err("too rare"), @"/coordinator.d/a.toml: heartbeat_interval_s is 60 and lost_after_s is 30, so that a node whose link broke would be lost before its next sign of life is due; make lost_after_s 60 or more, or heartbeat_interval_s 30 or less");
        insta::assert_snapshot!(load_dropped(slow, &[("b.toml", "lost_after_s = 40\n")]).expect_err("still too rare"), @"/coordinator.d/b.toml: heartbeat_interval_s is 60 and lost_after_s is 40, so that a node whose link broke would be lost before its next sign of life is due; make lost_after_s 60 or more, or heartbeat_interval_s 40 or less");
        let none =
            Config::load_with(Path::new("/nowhere/coordinator.toml"), Vec::new()).expect_err("no file");
        insta::assert_snapshot!(none, @"there is no configuration /nowhere/coordinator.toml; make it with `wavegate init`, or name another with --config");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
        let file = "listen = \"127.0.0.1:1\"\nlost_after_s = 60\n";
        let config = load(file, &[("WAVEGATE_COORDINATOR_LOST_AFTER_S", "90")]).expect("good");
        assert_eq!((config.listen.port(), config.lost_after_s, config.heartbeat_interval_s), (1, 90, 5));
        let file = "heartbeat_interval_s = 60\n";
        let config = load(file, &[("WAVEGATE_COORDINATOR_LOST_AFTER_S", "60")]).expect("good together");
        assert_eq!((config.lost_after_s, config.heartbeat_interval_s), (60, 60));
        assert_eq!(load("", &[]), Ok(Config::default()));
        let address_of_the_cli = [("WAVEGATE_COORDINATOR", "host:7443")];
        assert_eq!(load("", &address_of_the_cli), Ok(Config::default()), "it is not ours");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        insta::assert_snapshot!(load("lost_after_s = 1\nlost_before = 2\n", &[]).expect_err("unknown key"), @r"
        FILE: TOML parse error at line 2, column 1
          |
        2 | lost_before = 2
          | ^^^^^^^^^^^
        unknown field `lost_before`, expected one of `listen`, `socket`, `state_directory`, `lost_after_s`, `heartbeat_interval_s`, `max_connections`, `approvals`, `log`
        ");
        insta::assert_snapshot!(load("listen = \"nowhere\"\n", &[]).expect_err("no address"), @r#"
FILE: TOML parse error at line 1, column 10
  |
1 | listen = "nowhere"
  |          ^^^^^^^^^
invalid socket address syntax
"#);
        insta::assert_snapshot!(load("lost_after_s = 0\n", &[]).expect_err("zero"), @"FILE: lost_after_s is 0, so that no node could reconnect in time; it must be 1 or more");
        let (file, environment) =
            ("heartbeat_interval_s = 60\n", [("WAVEGATE_COORDINATOR_LOST_AFTER_S", "4")]);
        insta::assert_snapshot!(load(file, &[]).expect_err("too rare"), @"FILE: heartbeat_interval_s is 60 and lost_after_s is 30, so that a node whose link broke would be lost before its next sign of life is due; make lost_after_s 60 or more, or heartbeat_interval_s 30 or less");
        insta::assert_snapshot!(load("", &environment).expect_err("too early"), @"the environment (WAVEGATE_COORDINATOR_*): heartbeat_interval_s is 5 and lost_after_s is 4, so that a node whose link broke would be lost before its next sign of life is due; make lost_after_s 5 or more, or heartbeat_interval_s 4 or less");
        insta::assert_snapshot!(load("", &[("WAVEGATE_COORDINATOR_LITSEN", "x")]).expect_err("unknown"), @"the environment (WAVEGATE_COORDINATOR_*): unknown field `litsen`, expected one of `listen`, `socket`, `state_directory`, `lost_after_s`, `heartbeat_interval_s`, `max_connections`, `approvals`, `log`");
        insta::assert_snapshot!(load("", &[("WAVEGATE_COORDINATOR_LISTEN", "x")]).expect_err("no address"), @"the environment (WAVEGATE_COORDINATOR_*): invalid socket address syntax for key `listen`");
    }

    #[test]
    fn the_commented_file_is_the_configuration_it_tells_of() {
        let own = Config {
            listen: SocketAddr::from(([10, 0, 0, 1], 99)),
            state_directory: PathBuf::from("/srv/\"state\""),
            ..Config::default()
        };
        let text = commented(own.listen, &own.state_directory);
        assert_eq!(load(&text, &[]), Ok(own));
        let default = Config::default();
        let text = commented(default.listen, &default.state_directory);
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
        let uncommented: Vec<&str> = text
            .lines()
            .filter(|line| line.contains(" = "))
            .map(|line| line.trim_start_matches("# "))
            .collect();
        assert_eq!(load(&uncommented.join("\n"), &[]), Ok(default));
    }
}
