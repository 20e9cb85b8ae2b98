//! What the program prints when it is asked about its node. What is printed is made by `show` of the library.

use crate::host_name;
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;
use wavegate_agent::admission;
use wavegate_agent::command_line::Format;
use wavegate_agent::config::Config;
use wavegate_agent::credentials;
use wavegate_agent::host::real::RealHost;
use wavegate_agent::journal::{self, OpenError, lines};
use wavegate_agent::policy::{InForce, PolicyError, PolicyFile};
use wavegate_agent::show;
use wavegate_common::policy::Policy;

/// Prints what the agent finds out about its node.
pub fn facts(config: &Config, output: Format) -> anyhow::Result<()> {
    let host = RealHost::new(config.state_directory.clone());
    let enrolled = credentials::load(&config.state_directory).ok().map(|enrolled| enrolled.node);
    let node = match enrolled.or_else(|| config.node.clone()) {
        Some(node) => node,
        None => admission::node_name(config, &host_name()).map_err(anyhow::Error::msg)?,
    };
    let facts = wavegate_agent::facts::observe(&host, node, &config.roles, &config.etcd)
        .context("observing this node")?;
    match output {
        Format::Text => say(&show::facts(&facts)),
        Format::Json => say_json(&facts),
    }
}

/// Prints what the journal says.
pub fn status(config: &Config, output: Format) -> anyhow::Result<()> {
    let path = journal::path_in(&config.state_directory);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match output {
                Format::Text => {
                    say(&format!("There is no journal {} yet: no agent has run here.\n", path.display()))
                }
                Format::Json => say("null\n"),
            };
        }
        Err(error) => return Err(error).with_context(|| format!("reading the journal {}", path.display())),
    };
    let reading = lines::read(&text).map_err(|unread| OpenError::unread(path, unread))?;
    match output {
        Format::Text => say(&show::status(&reading.journal)),
        Format::Json => say_json(&reading.journal.current()),
    }
}

/// Prints what orders may touch.
pub fn policy(config: &Config, check: Option<PathBuf>, output: Format) -> anyhow::Result<()> {
    let (policy, file, state) = match check {
        Some(file) => {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| PolicyError::File { path: file.clone(), source })?;
            let policy = Policy::parse(&file.display().to_string(), &text).map_err(PolicyError::Wrong)?;
            (policy.into(), file, PolicyState::Right)
        }
        None => {
            let InForce { policy, file, built_in } = PolicyFile::new(&config.policy_file).read()?;
            (policy, file, if built_in { PolicyState::BuiltIn } else { PolicyState::InForce })
        }
    };
    match output {
        Format::Text => {
            let file = file.display();
            let heading = match state {
                PolicyState::Right => format!("{file} is right. It would permit:"),
                PolicyState::InForce => format!("{file} is in force. It permits:"),
                PolicyState::BuiltIn => {
                    format!("The built-in policy is in force: there is no {file}. It permits:")
                }
            };
            say(&format!("{heading}\n{}", show::policy(&policy)))
        }
        Format::Json => say_json(&serde_json::json!({ "file": file, "state": state, "policy": policy })),
    }
}

/// Prints a text. A reader that has seen enough of it (`| head`) is no error.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("printing"),
    }
}

/// Prints a document.
pub fn say_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    say(&(serde_json::to_string_pretty(document)? + "\n"))
}

/// What is said of a policy.
#[derive(Clone, Copy, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum PolicyState {
    /// It could be put in force.
    Right,
    /// Orders are judged by it.
    InForce,
    /// Orders are judged by it, for want of a file.
    BuiltIn,
}
