//! `wavegate-agent hand-back` as the program does it: with the agent that it may have to be, and what stops the one that runs.

use super::print::{say, say_json};
use crate::{runtime, set_up};
use std::time::Duration;
use wavegate_agent::agent;
use wavegate_agent::command_line::Format;
use wavegate_agent::config::{Config, ConfigError};
use wavegate_agent::credentials;
use wavegate_agent::facts;
use wavegate_agent::hand_back::{self, HandBackError, Request};
use wavegate_agent::host::real::RealHost;
use wavegate_agent::host::{self, Host};
use wavegate_agent::journal::SharedJournal;
use wavegate_agent::os::Os;
use wavegate_agent::service_manager::Signs;

/// Hands the agent back; then runs what stops it, while no step can begin.
pub fn hand_back(
    config: &Config,
    unread: Option<ConfigError>,
    within: u64,
    output: Format,
    then: Vec<String>,
) -> anyhow::Result<()> {
    let mut unread = unread.map(anyhow::Error::from);
    if let Some(error) = &unread {
        let directory = config.state_directory.display();
        eprintln!(
            "wavegate-agent: {error:#}; going by the journal in the default state directory, {directory}"
        );
    }
    let host = RealHost::new(config.state_directory.clone());
    let os = facts::platform(&host).ok().map(|platform| Os { platform });
    let request = Request {
        state_directory: &config.state_directory,
        within: Duration::from_secs(within),
        host: &host,
        os: os.as_ref(),
    };
    let mut run_agent = |journal: SharedJournal, until| {
        if let Some(error) = unread.take() {
            return Err(error);
        }
        let enrolled = credentials::load(&config.state_directory)?;
        let setup = set_up(config.clone(), enrolled, journal.clone(), Signs::none())?;
        let runtime = runtime()?;
        let ended = runtime.block_on(agent::run(setup, hand_back::until_told(journal, until)));
        runtime.shutdown_background();
        ended.map_err(anyhow::Error::from)
    };
    let mut progress = |line: &str| eprintln!("wavegate-agent: {line}");
    let (held, handed_back) = hand_back::hand_back(&request, &mut run_agent, &mut progress)?;
    match output {
        Format::Text => say(&handed_back.text())?,
        Format::Json => say_json(&handed_back)?,
    }
    let ran = if then.is_empty() { Ok(()) } else { run_then(&host, then) };
    drop(held);
    ran
}

fn run_then(host: &RealHost, argv: Vec<String>) -> anyhow::Result<()> {
    let line = argv.join(" ");
    let failed = |error: anyhow::Error| error.context(HandBackError::Then { line: line.clone() });
    let exit = host.run(&host::Command::new(argv)).map_err(|error| failed(error.into()))?;
    eprint!("{}{}", exit.stdout, exit.stderr);
    if exit.code == 0 { Ok(()) } else { Err(failed(anyhow::anyhow!("exit code {}", exit.code))) }
}
