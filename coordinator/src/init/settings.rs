//! Where what `wavegate init` was asked for goes: into a configuration of its own where there is none, else into a drop-in beside
//! the one that is there, which is never edited. What contradicts it is refused by name.

use super::{InitError, InitOptions};
use crate::config::{self, Config, layers};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The drop-in that `wavegate init` writes.
const DROP_IN: &str = "init.toml";
const DROP_IN_HEAD: &str = "# Written by `wavegate init`: what it was asked for and coordinator.toml beside this folder does not say.\n";

/// The settings that hold, and the file that has yet to be written for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub listen: SocketAddr,
    pub state_directory: PathBuf,
    /// Path and text.
    pub write: Option<(PathBuf, String)>,
}

/// Finds out what has to be written so that what is asked for holds.
///
/// # Errors
/// [`InitError::OtherConfig`] if a file says something else, [`InitError::Config`] if one is wrong.
pub(super) fn settle(options: &InitOptions) -> Result<Settled, InitError> {
    let path = &options.config_path;
    let layers = layers::read(path).map_err(config::ConfigError::from)?;
    let default = Config::default();
    if layers.is_empty() {
        let listen = options.listen.unwrap_or(default.listen);
        let state_directory = options.state_directory.clone().unwrap_or(default.state_directory);
        let text = config::commented(listen, &state_directory);
        return Ok(Settled { listen, state_directory, write: Some((path.clone(), text)) });
    }
    let there = Config::load(path)?;
    let mut lines = String::new();
    let directory = |path: &Path| path.display().to_string();
    let asked = [
        (
            "listen",
            options.listen.map(|listen| listen.to_string()),
            there.listen.to_string(),
            default.listen.to_string(),
        ),
        (
            "state_directory",
            options.state_directory.as_deref().map(directory),
            directory(&there.state_directory),
            directory(&default.state_directory),
        ),
    ];
    for (key, asked, found, default) in asked {
        let Some(asked) = asked.filter(|asked| *asked != found) else { continue };
        let place = if config::in_environment(key) {
            Some(config::environment_name(key))
        } else {
            // What is as by default was not decided by anybody: the package's own file says all of it.
            let said = layers.iter().rfind(|layer| layer.value(key).is_some());
            said.filter(|said| said.path != *path || found != default).map(|said| directory(&said.path))
        };
        if let Some(place) = place {
            return Err(InitError::OtherConfig { place, key, found, asked });
        }
        lines.push_str(&format!("{key} = {}\n", toml::Value::String(asked)));
    }
    let drop_in = layers::folder(path).join(DROP_IN);
    let before = layers.iter().find(|layer| layer.path == drop_in).map(|layer| layer.text.as_str());
    let text = format!("{}{lines}", before.unwrap_or(DROP_IN_HEAD));
    Ok(Settled {
        listen: options.listen.unwrap_or(there.listen),
        state_directory: options.state_directory.clone().unwrap_or(there.state_directory),
        write: (!lines.is_empty()).then_some((drop_in, text)),
    })
}
