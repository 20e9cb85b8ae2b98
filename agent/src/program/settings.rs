//! With which configuration a command of the program works. What is in one is the library's.

use std::path::Path;
use wavegate_agent::admission;
use wavegate_agent::command_line::Command;
use wavegate_agent::config::{Config, ConfigError};

/// The configuration for a command. A hand-back goes by the journal where the configuration can't be used, which is then beside it:
/// a package with a broken configuration must be removable.
pub fn load_for(
    command: &Command,
    file: Option<&Path>,
) -> Result<(Config, Option<ConfigError>), ConfigError> {
    match command {
        Command::Run => {
            let wait = |error: &ConfigError| {
                eprintln!("wavegate-agent: {error}; reading it again, in case that it is being written");
                std::thread::sleep(admission::LOOK_EVERY);
            };
            Config::load_with_patience(file, wait).map(|config| (config, None))
        }
        Command::HandBack { .. } => match Config::load(file) {
            Ok(config) => Ok((config, None)),
            Err(error @ ConfigError::NoFile { .. }) => Err(error),
            Err(error) => Ok((Config::of_defaults()?, Some(error))),
        },
        _ => Config::load(file).map(|config| (config, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_agent::command_line::Format;

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
