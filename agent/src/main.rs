//! The program `wavegate-agent`: its exit codes, its start and its end. The agent itself and its command line are the library's.

use anyhow::Context;
use clap::Parser;
use sd_notify::NotifyState;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use wavegate_agent::admission::{self, AdmissionError, Waiting};
use wavegate_agent::agent::{self, AgentError, Setup};
use wavegate_agent::command_line::{Arguments, Command, Format};
use wavegate_agent::config::{Address, Config, ConfigError};
use wavegate_agent::credentials::{self, CredentialsError, Enrolled};
use wavegate_agent::enrol::{self, EnrolError};
use wavegate_agent::hand_back::{self, HandBackError, Request};
use wavegate_agent::host::real::{RealHost, run_transaction};
use wavegate_agent::host::{self, Host};
use wavegate_agent::journal::{self, JournalFile, OpenError, SharedJournal, lines};
use wavegate_agent::os::Os;
use wavegate_agent::output::Output;
use wavegate_agent::policy::{InForce, PolicyError, PolicyFile};
use wavegate_agent::service_manager::{Signs, notify};
use wavegate_agent::{facts, show};
use wavegate_common::id::NodeId;
use wavegate_common::policy::{Policy, SHIPPED};
use wavegate_proto::token::{BadToken, JoinToken};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wavegate-agent: {error:#}");
            exit_code(&error)
        }
    }
}

fn carry_out(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Transaction { directory }) = &arguments.command {
        // Nothing of the configuration matters here, and a broken one must not break an upgrade in its middle.
        return run_transaction(directory);
    }
    let command = arguments.command.unwrap_or(Command::Run);
    let (config, unread) = load_for(&command, arguments.config.as_deref())?;
    let set_log = log_to_stderr(&config)?;
    match command {
        Command::Run => run(arguments.config.as_deref(), config, &set_log),
        Command::Enrol { token, coordinator, node, force } => enrol(config, &token, coordinator, node, force),
        Command::Facts { output } => print_facts(&config, output),
        Command::Status { output } => print_status(&config, output),
        Command::Policy { shipped: true, .. } => say(SHIPPED),
        Command::HandBack { within, output, then } => hand_back(&config, unread, within, output, then),
        Command::Policy { check, output, .. } => print_policy(&config, check, output),
        Command::Transaction { directory } => run_transaction(&directory),
    }
}

/// The configuration for a command. A hand-back goes by the journal where the configuration can't be used, which is then beside it:
/// a package with a broken configuration must be removable.
fn load_for(command: &Command, file: Option<&Path>) -> Result<(Config, Option<ConfigError>), ConfigError> {
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

/// Sets what is logged.
type SetLog = Box<dyn Fn(&Config) -> anyhow::Result<()>>;

/// Logs by the setting `log`; the result sets it anew.
fn log_to_stderr(config: &Config) -> anyhow::Result<SetLog> {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let filter = log_filter(config)?;
    let setting = "setting what is logged";
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The system's journal has a clock of its own.
        let builder = builder.without_time().with_env_filter(filter).with_filter_reloading();
        let filter = builder.reload_handle();
        builder.init();
        Ok(Box::new(move |config| filter.reload(log_filter(config)?).context(setting)))
    } else {
        let builder = builder.with_env_filter(filter).with_filter_reloading();
        let filter = builder.reload_handle();
        builder.init();
        Ok(Box::new(move |config| filter.reload(log_filter(config)?).context(setting)))
    }
}

fn log_filter(config: &Config) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(&config.log).context("reading the setting log")
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
            admitted = admission::admitted(waiting, &mut signs) => admitted.map_err(|error| match error {
                AdmissionError::Config(error) => anyhow::Error::from(error),
                AdmissionError::Credentials(error) => error.into(),
            })?,
        };
        set_log(&config)?;
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
    let coordinator = config.coordinator()?.clone();
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

/// Hands the agent back; then runs what stops it, while no step can begin.
fn hand_back(
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

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().context("starting the asynchronous runtime")
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

fn enrol(
    config: Config,
    token: &str,
    coordinator: Option<Address>,
    node: Option<NodeId>,
    force: bool,
) -> anyhow::Result<()> {
    let token: JoinToken = token.parse()?;
    let given = coordinator.clone();
    let coordinator = match coordinator {
        Some(coordinator) => coordinator,
        None => config
            .coordinator()
            .context("without --coordinator HOST:PORT the configuration must say it")?
            .clone(),
    };
    let node = match node.or_else(|| config.node.clone()) {
        Some(node) => node,
        None => admission::node_name(&config, &host_name())
            .map_err(|why| anyhow::anyhow!("{why}, or give a name with --node"))?,
    };
    let before = credentials::load(&config.state_directory).ok();
    let enrolled = enrol::enrol(&config.state_directory, &token, &coordinator, &node, force);
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
    if let Some(given) = given.filter(|given| config.coordinator.as_ref() != Some(given)) {
        let file = config.drop_ins().join("coordinator.toml");
        text += &format!(
            "The agent must be told where the coordinator is: echo 'coordinator = \"{given}\"' > {}\n",
            file.display()
        );
    }
    say(&text)
}

fn host_name() -> String {
    RealHost::new(PathBuf::new()).system().hostname
}

fn print_facts(config: &Config, output: Format) -> anyhow::Result<()> {
    let host = RealHost::new(config.state_directory.clone());
    let enrolled = credentials::load(&config.state_directory).ok().map(|enrolled| enrolled.node);
    let node = match enrolled.or_else(|| config.node.clone()) {
        Some(node) => node,
        None => admission::node_name(config, &host_name()).map_err(anyhow::Error::msg)?,
    };
    let facts = facts::observe(&host, node, &config.roles, &config.etcd).context("observing this node")?;
    match output {
        Format::Text => say(&show::facts(&facts)),
        Format::Json => say_json(&facts),
    }
}

fn print_status(config: &Config, output: Format) -> anyhow::Result<()> {
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

fn print_policy(config: &Config, check: Option<PathBuf>, output: Format) -> anyhow::Result<()> {
    let (policy, file, state) = match check {
        Some(file) => {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| PolicyError::File { path: file.clone(), source })?;
            let policy = Policy::parse(&file.display().to_string(), &text).map_err(PolicyError::Wrong)?;
            (policy, file, PolicyState::Right)
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
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("printing"),
    }
}

fn say_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
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

fn exit_code(error: &anyhow::Error) -> ExitCode {
    // First: what it comes from may be another's code.
    match error.downcast_ref() {
        Some(
            HandBackError::StillAtWork { .. }
            | HandBackError::NotEnded { .. }
            | HandBackError::HeldUp { .. }
            | HandBackError::Busy { .. },
        ) => return ExitCode::from(7),
        Some(HandBackError::OwnTransaction { .. }) => return ExitCode::from(8),
        Some(HandBackError::NoAgent | HandBackError::NotTold) => return ExitCode::from(9),
        Some(HandBackError::Then { .. }) => return ExitCode::from(10),
        Some(HandBackError::File { .. }) | None => {}
    }
    let journal = |error: &AgentError| matches!(error, AgentError::Journal(_));
    let credentials = |error: &AgentError| matches!(error, AgentError::Credentials(_));
    ExitCode::from(if error.is::<ConfigError>() || error.is::<PolicyError>() {
        3
    } else if error.is::<CredentialsError>() || error.downcast_ref().is_some_and(credentials) {
        4
    } else if error.is::<OpenError>() || error.downcast_ref().is_some_and(journal) {
        5
    } else if error.is::<EnrolError>() || error.is::<BadToken>() {
        6
    } else {
        1
    })
}
