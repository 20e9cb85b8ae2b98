//! The coordinator's daemon: reads its configuration, runs until it is told to end.
//!
//! Exit codes: 0 it was told to end; 1 it failed; 2 the command line; 3 the configuration; 4 its state directory, which a person
//! must mend. The unit starts it again after 1 alone.

use anyhow::{Context, Result};
use clap::Parser;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use wavegate_common::id::Generation;
use wavegate_coordinator::by_hand;
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::command_line::{Arguments, Command};
use wavegate_coordinator::config::Config;
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::engine::LoadError;
use wavegate_coordinator::open_files;
use wavegate_coordinator::owner::OwnerError;
use wavegate_coordinator::pki::PkiError;
use wavegate_coordinator::store::StoreError;
use wavegate_coordinator::watchdog::Watchdog;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let (Command::Run { config } | Command::RaiseGeneration { config, .. } | Command::NewStore { config }) =
        &command;
    let config = match Config::load(config) {
        Ok(config) => config,
        Err(error) => return ended(&error.into(), 3),
    };
    let now = Clock::system().now();
    let by_hand = match command {
        Command::Run { .. } => return serve(&config),
        Command::RaiseGeneration { above, .. } => by_hand::raise_generation(&config, Generation(above), now)
            .map(|next| format!("the next start of the coordinator begins generation {next}")),
        Command::NewStore { .. } => by_hand::new_store(&config, now)
            .map(|()| "an empty store has begun; start the coordinator, then enrol every node".to_owned()),
    };
    match by_hand {
        Ok(text) => said(&text),
        Err(error) => ended(&error, 1),
    }
}

fn serve(config: &Config) -> ExitCode {
    let filter = match EnvFilter::try_new(&config.log) {
        Ok(filter) => filter,
        Err(error) => {
            let error =
                anyhow::Error::new(error).context(format!("log = \"{}\" is not understood", config.log));
            return ended(&error, 3);
        }
    };
    // A span says at its end how long it took; those that the setting leaves out cost nothing.
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    lines.with_span_events(FmtSpan::CLOSE).with_env_filter(filter).init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ended(&error, if only_a_person_mends(&error) { 4 } else { 1 }),
    }
}

/// Whether another start would fail in the same way until somebody has done something about the state directory.
fn only_a_person_mends(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of = |cause: &PkiError| {
            matches!(cause, PkiError::NoAuthority { .. } | PkiError::NoKey { .. } | PkiError::Unusable { .. })
        };
        cause.is::<OwnerError>()
            || cause.downcast_ref::<PkiError>().is_some_and(of)
            || cause.downcast_ref::<StoreError>().is_some_and(StoreError::stays)
            || cause.downcast_ref::<LoadError>().is_some_and(|cause| !matches!(cause, LoadError::Store(_)))
    })
}

fn said(text: &str) -> ExitCode {
    use std::io::Write;
    // It is done, whether or not somebody reads it.
    drop(writeln!(std::io::stdout(), "{text}"));
    ExitCode::SUCCESS
}

fn ended(error: &anyhow::Error, code: u8) -> ExitCode {
    use std::io::Write;
    // Nobody to tell if standard error is closed.
    drop(writeln!(std::io::stderr(), "wavegate-coordinator: {error:#}"));
    ExitCode::from(code)
}

fn run(config: &Config) -> Result<()> {
    let config = &within_open_files(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut daemon = Daemon::start_watched(config, Clock::system(), Watchdog::of_service()).await?;
        tracing::info!(address = %daemon.address(), socket = %daemon.socket().display(), "listening");
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "the service manager could not be told that it is ready");
        }
        let failed = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            failed = daemon.failed() => failed,
        };
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Stopping]) {
            tracing::debug!(%error, "the service manager could not be told that it ends");
        }
        let ended = daemon.shutdown().await;
        failed.and(ended)
    })
}

/// The configuration with as many connections of agents as the system lets us have.
fn within_open_files(config: &Config) -> Result<Config> {
    let room = open_files::make_room(config)?;
    let (wanted, agents, limit) = (config.max_connections, room.agents, room.limit);
    if agents < wanted {
        tracing::warn!(
            "max_connections is {wanted}, and the limit on open files ({limit}) leaves room for {agents} agents: more are turned \
             away. Raise LimitNOFILE of the service (systemctl edit wavegate-coordinator), or lower max_connections"
        );
    }
    Ok(Config { max_connections: agents, ..config.clone() })
}
