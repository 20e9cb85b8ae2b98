//! `wavegate-agent enrol` as the program does it: whose token, which coordinator and which name, and what is to be done then.

use super::print;
use crate::{host_name, runtime};
use anyhow::Context;
use std::io::{BufRead, Read};
use wavegate_agent::admission;
use wavegate_agent::config::{Address, Config};
use wavegate_agent::credentials;
use wavegate_agent::enrol;
use wavegate_common::id::NodeId;
use wavegate_proto::token::JoinToken;

/// The token that says that it is read from standard input.
const FROM_STDIN: &str = "-";

/// Bytes of the longest line that is read; a token has less than 200.
const LONGEST: u64 = 4096;

/// Enrols the node, and says what is to be done then.
pub fn enrol(
    config: &Config,
    token: &str,
    given: Option<Address>,
    node: Option<NodeId>,
    force: bool,
) -> anyhow::Result<()> {
    let token = token_of(token)?;
    let coordinator = match &given {
        Some(coordinator) => coordinator,
        None => config.coordinator("give --coordinator HOST:PORT, or ")?,
    };
    let node = match node.or_else(|| config.node.clone()) {
        Some(node) => node,
        None => admission::node_name(config, &host_name())
            .map_err(|why| anyhow::anyhow!("{why}, or give a name with --node"))?,
    };
    let before = credentials::load(&config.state_directory).ok();
    let enrolled = enrol::enrol(&config.state_directory, &token, coordinator, &node, force);
    let fleet = runtime()?.block_on(enrolled)?;
    let mut text = format!("{node} is enrolled in fleet {fleet}.\n");
    match before {
        Some(before) => {
            text += "An agent that runs here still has the certificate before: restart the agent (service wavegate-agent restart)\n";
            if before.node != node {
                let was = before.node;
                text +=
                    &format!("This node was {was}, which stays in the fleet: wavegate node remove {was}\n");
            }
        }
        None => {
            text += "An agent that runs here goes on by itself; if none does, enable and start the service wavegate-agent\n"
        }
    }
    text += &given.and_then(|given| untold(&given, config)).unwrap_or_default();
    print::say(&text)
}

/// What to do where the agent's configuration does not name the coordinator that the node was enrolled by.
fn untold(coordinator: &Address, config: &Config) -> Option<String> {
    let file = config.site_file();
    (config.coordinator.as_ref() != Some(coordinator)).then(|| {
        format!(
            "The agent must be told where the coordinator is: write coordinator = \"{coordinator}\" into {}\n",
            file.display()
        )
    })
}

fn token_of(given: &str) -> anyhow::Result<JoinToken> {
    if given != FROM_STDIN {
        return Ok(given.parse()?);
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(LONGEST).read_line(&mut line);
    read.context("reading the join token from standard input")?;
    Ok(line.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_written_counts_more_than_what_another_file_says() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("agent.toml");
        let drop_ins = directory.path().join("agent.d");
        std::fs::create_dir(&drop_ins).expect("made");
        std::fs::write(&file, "coordinator = \"a:1\"\n").expect("written");
        std::fs::write(drop_ins.join("coordinator.toml"), "coordinator = \"b:2\"\n").expect("written");
        let config = || Config::load(Some(&file)).expect("a configuration");
        let given: Address = "c:3".parse().expect("an address");
        let told = untold(&given, &config()).expect("it names another");
        let shown = told.replace(&*directory.path().to_string_lossy(), "DIR");
        assert_eq!(
            shown,
            "The agent must be told where the coordinator is: write coordinator = \"c:3\" into DIR/agent.d/site.toml\n"
        );
        let (_, told) = told.trim_end().split_once("write ").expect("what to write");
        let (line, into) = told.split_once(" into ").expect("and where");
        std::fs::write(into, format!("{line}\n")).expect("written");
        assert_eq!(config().coordinator.as_ref(), Some(&given));
        assert_eq!(untold(&given, &config()), None);
    }
}
