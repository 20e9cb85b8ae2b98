//! The program `wavegate-agent`: its start and its end; its other parts are in `program`. The agent itself and its command line are the library's.

mod program;

use anyhow::Context;
use clap::Parser;
use program::{enrol, exit, hand_back, print, settings};
use sd_notify::NotifyState;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use wavegate_agent::admission::{self, Waiting};
use wavegate_agent::agent::{self, Setup};
use wavegate_agent::command_line::{Arguments, Command};
use wavegate_agent::config::{Config, ConfigError};
use wavegate_agent::credentials::Enrolled;
use wavegate_agent::facts;
use wavegate_agent::host::Host;
use wavegate_agent::host::real::{RealHost, run_transaction};
use wavegate_agent::journal::{JournalFile, SharedJournal};
use wavegate_agent::os::Os;
use wavegate_agent::output::Output;
use wavegate_agent::policy::PolicyFile;
use wavegate_agent::service_manager::{Signs, notify};
use wavegate_common::policy::SHIPPED;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wavegate-agent: {error:#}");
            exit::code_of(&error)
        }
    }
}

fn carry_out(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Transaction { directory }) = &arguments.command {
        // Nothing of the configuration matters here, and a broken one must not break an upgrade in its middle.
        return run_transaction(directory);
    }
    let command = arguments.command.unwrap_or(Command::Run);
    let (config, unread) = settings::load_for(&command, arguments.config.as_deref())?;
    let set_log = log_to_stderr(&config)?;
    match command {
        Command::Run => run(arguments.config.as_deref(), config, &set_log),
        Command::Enrol { token, coordinator, node, force } => {
            enrol::enrol(&config, &token, coordinator, node, force)
        }
        Command::Facts { output } => print::facts(&config, output),
        Command::Status { output } => print::status(&config, output),
        Command::Policy { shipped: true, .. } => print::say(SHIPPED),
        Command::HandBack { within, output, then } => {
            hand_back::hand_back(&config, unread, within, output, then)
        }
        Command::Policy { check, output, .. } => print::policy(&config, check, output),
        Command::Transaction { directory } => run_transaction(&directory),
    }
}

/// Sets what is logged.
type SetLog = Box<dyn Fn(&Config) -> anyhow::Result<()>>;

/// Logs by the setting `log`; the result sets it anew. A span that the setting lets through says at its end how long it took.
fn log_to_stderr(config: &Config) -> anyhow::Result<SetLog> {
    let (filter, set) = reload::Layer::new(config.log_filter().context("reading the setting log")?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_span_events(FmtSpan::CLOSE);
    let all = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The system's journal has a clock of its own. The layer's `without_time` would take the spans' times away too.
        all.with(lines.event_format(tracing_subscriber::fmt::format().without_time())).init();
    } else {
        all.with(lines).init();
    }
    Ok(Box::new(move |config| {
        let filter = config.log_filter().context("reading the setting log")?;
        set.reload(filter).context("setting what is logged")
    }))
}

fn run(file: Option<&Path>, config: Config, set_log: &SetLog) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut stop = std::pin::pin!(asked_to_end()?);
        let mut signs = Signs::for_service_manager();
        // Whoever installs or starts the agent does not wait for its enrolment.
        notify(&[NotifyState::Ready]);
        let waiting = Waiting {
            begin_with: config,
            config: || Config::load(file),
            host_name,
            look_every: admission::LOOK_EVERY,
            seed: agent::seed(&host_name(), &RealHost::new(PathBuf::new())),
        };
        let (config, enrolled) = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            admitted = admission::admitted(waiting, &mut signs) => admitted?,
        };
        set_log(&config)?;
        PolicyFile::new(&config.policy_file).warn_if_unusable();
        let journal = open_journal(&config)?;
        agent::run(set_up(config, enrolled, journal, signs)?, stop).await.map_err(anyhow::Error::from)
    });
    notify(&[NotifyState::Stopping]);
    // Not waited for: the worker may be in the middle of a package transaction, which goes on without the agent.
    runtime.shutdown_background();
    ended
}

fn open_journal(config: &Config) -> anyhow::Result<SharedJournal> {
    let (journal, torn) = JournalFile::open(&config.state_directory)?;
    if let Some(torn) = torn {
        tracing::warn!(
            line = torn.line,
            bytes = torn.bytes,
            "the last line of the journal was not completely written when the agent or the machine stopped; it is cut \
             off, and what it was about is looked at again"
        );
    }
    Ok(SharedJournal::new(journal))
}

/// Everything that an enrolled agent works with.
fn set_up(config: Config, enrolled: Enrolled, journal: SharedJournal, signs: Signs) -> anyhow::Result<Setup> {
    let coordinator = config.coordinator("")?.clone();
    if let Some(node) = config.node.as_ref().filter(|node| **node != enrolled.node) {
        let wrong = format!(
            "it is {node}, the node's certificate says {}: take the setting out, or enrol again with --force",
            enrolled.node
        );
        return Err(ConfigError::Value { place: config.node_is_set_in, key: "node", wrong }.into());
    }
    let host = Arc::new(RealHost::new(config.state_directory.clone()));
    let os = Os { platform: facts::platform(&*host).context("finding out what this node runs on")? };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), node = %enrolled.node, fleet = %enrolled.fleet,
        platform = %os.platform, coordinator = %coordinator, "started"
    );
    Ok(Setup {
        output: Output::kept_in(&config.state_directory),
        coordinator,
        enrolled,
        extra_roles: config.roles,
        etcd: config.etcd,
        reconnect_min: config.reconnect_min,
        reconnect_max: config.reconnect_max,
        host,
        os,
        policy: PolicyFile::new(config.policy_file),
        journal,
        signs,
    })
}

fn runtime() -> anyhow::Result<LocalRuntime> {
    // One connection and a few timers: what blocks has threads of its own. A runtime that never has more threads leaves the
    // code for them, and what that needs, out of the program.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(LocalOptions::default()).context("starting the asynchronous runtime")
}

/// Ready when the service manager or a person asks the agent to end.
fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending; an open task goes on at the next start"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending; an open task goes on at the next start"),
        }
    })
}

fn host_name() -> String {
    RealHost::new(PathBuf::new()).system().hostname
}
