//! With which configuration a command of the program works. What is in one is the library's.

use std::path::Path;
use wavegate_agent::admission;
use wavegate_agent::command_line::Command;
use wavegate_agent::config::{Config, ConfigError};
use wavegate_agent::credentials;

/// A configuration, and why the one that was asked for can't be used if it is the defaults.
type Loaded = Result<(Config, Option<ConfigError>), ConfigError>;

/// The configuration for a command. A hand-back goes by the journal where the configuration can't be used, which is then beside it:
/// a package with a broken configuration must be removable.
pub fn load_for(command: &Command, file: Option<&Path>) -> Loaded {
    match command {
        Command::Run => {
            let wait = |error: &ConfigError| {
                eprintln!("wavegate-agent: {error}; reading it again, in case that it is being written");
                std::thread::sleep(admission::LOOK_EVERY);
            };
            load_for_agent(file, Config::of_defaults()?, wait)
        }
        Command::HandBack { .. } => match Config::load(file) {
            Ok(config) => Ok((config, None)),
            Err(error @ ConfigError::NoFile { .. }) => Err(error),
            Err(error) => Ok((Config::of_defaults()?, Some(error))),
        },
        _ => Config::load(file).map(|config| (config, None)),
    }
}

/// The configuration for an agent. One that isn't enrolled begins with the defaults where there is none that can be used: it waits for
/// that as for all else. For one that is enrolled, what is wrong may be right after `wait`, which is given the reason.
fn load_for_agent(file: Option<&Path>, defaults: Config, wait: impl FnOnce(&ConfigError)) -> Loaded {
    match Config::load(file) {
        Ok(config) => Ok((config, None)),
        Err(error @ ConfigError::NoFile { .. }) => Err(error),
        Err(error) if !credentials::directory_in(&defaults.state_directory).exists() => {
            Ok((defaults, Some(error)))
        }
        Err(error) => {
            wait(&error);
            Config::load(file).map(|config| (config, None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_agent::command_line::Format;

    #[test]
    fn an_agent_that_is_not_enrolled_begins_with_the_defaults_until_its_configuration_can_be_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("agent.toml");
        let defaults = || {
            let defaults = Config::of_defaults().expect("defaults");
            Config { state_directory: directory.path().join("state"), ..defaults }
        };
        let begin = || load_for_agent(Some(&file), defaults(), |error| panic!("it waits later: {error}"));
        assert!(matches!(begin(), Err(ConfigError::NoFile { .. })), "named by hand");
        std::fs::write(&file, "cordinator = \"a:1\"\n").expect("written");
        let (config, unread) = begin().expect("defaults");
        assert_eq!(config, defaults());
        assert!(matches!(unread, Some(ConfigError::Unreadable { .. })), "{unread:?}");
        std::fs::write(&file, "coordinator = \"a:1\"\n").expect("written");
        let (config, unread) = begin().expect("a configuration");
        assert!(unread.is_none() && config.coordinator.is_some());
    }

    #[test]
    fn an_agent_that_is_enrolled_reads_what_is_half_written_again_and_ends_if_it_stays_wrong() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("agent.toml");
        let state_directory = directory.path().join("state");
        std::fs::create_dir_all(credentials::directory_in(&state_directory)).expect("made");
        let defaults = Config { state_directory, ..Config::of_defaults().expect("defaults") };
        std::fs::write(&file, "log = \"de").expect("written");
        let mut waited = Vec::new();
        let wrong = load_for_agent(Some(&file), defaults.clone(), |error| waited.push(error.to_string()));
        assert!(wrong.is_err() && waited.len() == 1, "{waited:?}");
        let (config, unread) = load_for_agent(Some(&file), defaults, |_| {
            std::fs::write(&file, "log = \"debug\"\n").expect("written");
        })
        .expect("right now");
        assert!(unread.is_none() && config.log == "debug");
    }

    #[test]
    fn a_hand_back_goes_by_the_defaults_where_the_configuration_can_not_be_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("agent.toml");
        let hand_back = Command::HandBack { within: 1, output: Format::Text, then: Vec::new() };
        assert!(
            matches!(load_for(&hand_back, Some(&file)), Err(ConfigError::NoFile { .. })),
            "named by hand"
        );
        std::fs::write(&file, "cordinator = \"a:1\"\nstate_directory = \"/elsewhere\"\n").expect("written");
        let (config, unread) = load_for(&hand_back, Some(&file)).expect("defaults");
        assert_eq!(config.state_directory, Path::new("/var/lib/wavegate/agent"));
        assert!(matches!(unread, Some(ConfigError::Unreadable { .. })), "{unread:?}");
        let facts = Command::Facts { output: Format::Text };
        assert!(load_for(&facts, Some(&file)).is_err(), "no other command does");
        std::fs::write(&file, "state_directory = \"/elsewhere\"\n").expect("written");
        let (config, unread) = load_for(&hand_back, Some(&file)).expect("a configuration");
        assert!(unread.is_none() && config.state_directory == Path::new("/elsewhere"));
    }
}
