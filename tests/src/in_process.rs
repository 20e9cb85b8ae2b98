//! A whole fleet in one process: the production coordinator and agents over real mTLS on loopback, on machines in memory.
//! Operators use the `wavegate` program, as they would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wavegate_agent::agent::{self, AgentError, Setup};
use wavegate_agent::config::Address;
use wavegate_agent::credentials;
use wavegate_agent::enrol::enrol;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{FakeHost, FakeMachine, PYTHON_ETCD_ARCHIVE_URL, sha256};
use wavegate_agent::journal::{self, JournalFile, SharedJournal};
use wavegate_agent::os::Os;
use wavegate_agent::output::Output as AgentOutput;
use wavegate_agent::policy::PolicyFile;
use wavegate_agent::service_manager::Signs;
use wavegate_common::id::NodeId;
use wavegate_common::policy::SHIPPED;
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::config::Config;
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::init::{InitOptions, init};
use wavegate_proto::token::JoinToken;

use crate::deploy::binary;

/// A generous bound for anything that is waited for.
const BOUND: Duration = Duration::from_secs(120);
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(50);

struct RunningAgent {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), AgentError>>,
}

/// A node: its machine and its agent's directory outlive its agent.
pub struct FakeNode {
    /// The machine in memory.
    pub host: Arc<FakeHost>,
    /// The agent's state directory.
    pub state: PathBuf,
    agent: Option<RunningAgent>,
}

impl FakeNode {
    /// The node's policy; the agent reads it again for every order.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.state.join("policy.toml")
    }

    /// The node's journal, record by record.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub fn journal_text(&self) -> Result<String> {
        std::fs::read_to_string(journal::path_in(&self.state)).context("reading a node's journal")
    }
}

/// The shipped policy, with the place where these machines get their archives.
#[must_use]
pub fn site_policy() -> String {
    SHIPPED.replace("archives = [", &format!("archives = [\"{PYTHON_ETCD_ARCHIVE_URL}\","))
}

/// The fleet.
pub struct InProcess {
    directory: tempfile::TempDir,
    config: Config,
    daemon: Option<Daemon>,
    /// Its nodes, by name.
    pub nodes: BTreeMap<String, FakeNode>,
}

impl InProcess {
    /// A coordinator with an authority of its own, on a port of its own, and no node.
    ///
    /// # Errors
    ///
    /// When it can't be set up.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::tempdir().context("making a directory")?;
        let state_directory = directory.path().join("coordinator");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        init(&InitOptions {
            config_path: directory.path().join("coordinator.toml"),
            state_directory: Some(state_directory.clone()),
            fleet: "test".to_owned(),
            listen: Some(listen),
            operator: "op".to_owned(),
        })?;
        let config = Config {
            listen,
            socket: directory.path().join("operator.sock"),
            state_directory,
            lost_after_s: 5,
            heartbeat_interval_s: 1,
            ..Config::default()
        };
        let mut fleet = Self { directory, config, daemon: None, nodes: BTreeMap::new() };
        fleet.start_coordinator().await?;
        Ok(fleet)
    }

    /// Starts the coordinator, on the port it had.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start_coordinator(&mut self) -> Result<()> {
        let daemon = Daemon::start(&self.config, Clock::system()).await?;
        self.config.listen = daemon.address();
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Ends the coordinator as a crash would.
    pub async fn kill_coordinator(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill().await;
        }
    }

    /// Adds a machine, enrols it and starts its agent.
    ///
    /// # Errors
    ///
    /// When it can't enrol.
    pub async fn add(&mut self, name: &str, machine: FakeMachine) -> Result<()> {
        let state = self.directory.path().join("nodes").join(name);
        std::fs::create_dir_all(&state).context("making a node's directory")?;
        let created = self.json(&["token", "create", "--node", name])?;
        let token: JoinToken = created["token"].as_str().context("no token")?.parse()?;
        enrol(&state, &token, &self.address()?, &NodeId::new(name)?, false).await?;
        let node = FakeNode { host: Arc::new(FakeHost::new(machine)), state, agent: None };
        std::fs::write(node.policy_file(), site_policy()).context("writing a node's policy")?;
        self.nodes.insert(name.to_owned(), node);
        self.start_agent(name)
    }

    fn address(&self) -> Result<Address> {
        Ok(self.config.listen.to_string().parse::<Address>()?)
    }

    fn node(&mut self, name: &str) -> Result<&mut FakeNode> {
        self.nodes.get_mut(name).with_context(|| format!("the fleet has no node {name}"))
    }

    /// Starts a node's agent, on the journal it left.
    ///
    /// # Errors
    ///
    /// When its journal or credentials can't be used.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        let coordinator = self.address()?;
        let node = self.node(name)?;
        let (journal, _) = JournalFile::open(&node.state)?;
        let os = Os { platform: node.host.machine().platform.clone() };
        let setup = Setup {
            coordinator,
            enrolled: credentials::load(&node.state)?,
            extra_roles: [].into(),
            etcd: EtcdSettings::default(),
            reconnect_min: Duration::from_millis(10),
            reconnect_max: Duration::from_millis(300),
            host: node.host.clone(),
            os,
            policy: PolicyFile::new(node.policy_file()),
            journal: SharedJournal::new(journal),
            output: AgentOutput::kept_in(&node.state),
            signs: Signs::none(),
        };
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(agent::run(setup, async { drop(stopped.await) }));
        node.agent = Some(RunningAgent { stop, ended });
        Ok(())
    }

    /// Ends a node's agent wherever it is; what it has in its journal is all that stays.
    ///
    /// # Errors
    ///
    /// When it had failed before.
    pub async fn stop_agent(&mut self, name: &str) -> Result<()> {
        let Some(agent) = self.node(name)?.agent.take() else { bail!("{name} has no agent running") };
        // An agent that has ended by itself has nobody who listens; `ended` says why.
        let _ = agent.stop.send(());
        agent.ended.await.context("an agent panicked")??;
        // Its worker may be in the middle of an action, whose effect will be there and whose record will not.
        let state = self.node(name)?.state.clone();
        self.wait(&format!("{name}'s journal to be free"), |_| {
            Ok(JournalFile::open(&state).is_ok().then_some(()))
        })
        .await
    }

    /// Runs `wavegate` against this coordinator.
    ///
    /// # Errors
    ///
    /// When the program can't be run.
    pub fn cli_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = std::process::Command::new(binary("wavegate")?);
        command.env_clear().env("HOME", self.directory.path());
        command.env("WAVEGATE_COORDINATOR", format!("unix:{}", self.config.socket.display()));
        command.args(arguments).stdin(std::process::Stdio::null());
        command.output().context("running wavegate")
    }

    /// Runs `wavegate` and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it exits with anything but 0.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli_output(arguments)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "wavegate {}: {}\n{stdout}{stderr}",
            arguments.join(" "),
            output.status
        );
        Ok(stdout)
    }

    /// Runs `wavegate --output json` and returns the document.
    ///
    /// # Errors
    ///
    /// Like [`InProcess::cli`].
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.cli(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("understanding {text}"))
    }

    /// The event log of the newest rollout.
    ///
    /// # Errors
    ///
    /// Like [`InProcess::cli`].
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = self.cli(&["events", "--output", "json"])?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("understanding {line}")))
            .collect()
    }

    /// Writes the parameters that these machines need.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub fn site_file(&self) -> Result<PathBuf> {
        let served =
            |node: &FakeNode| node.host.machine().fetchable.get(PYTHON_ETCD_ARCHIVE_URL).map(|c| sha256(c));
        let digest = self.nodes.values().find_map(served).unwrap_or_else(|| "0".repeat(64));
        let text = format!(
            "python_etcd_archive_url = \"{PYTHON_ETCD_ARCHIVE_URL}\"\n\
             python_etcd_archive_sha256 = \"{digest}\"\npython_etcd_version = \"0.4.3\"\n"
        );
        let path = self.directory.path().join("site.toml");
        std::fs::write(&path, text).context("writing the site's parameters")?;
        Ok(path)
    }

    /// Makes a plan and starts it; returns at once.
    ///
    /// # Errors
    ///
    /// When the plan has problems.
    pub fn start_rollout(&self, start: &[&str]) -> Result<()> {
        let site = self.site_file()?;
        self.cli(&["plan", "--parameters", path_text(&site)?])?;
        self.cli(&[&["start"], start].concat())?;
        Ok(())
    }

    /// Waits for a condition.
    ///
    /// # Errors
    ///
    /// When the bound is over: says what was awaited and the status.
    pub async fn wait<T>(
        &self,
        what: &str,
        mut observe: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let end = tokio::time::Instant::now() + BOUND;
        loop {
            // The coordinator may be starting: an error is not the end.
            let last = match tokio::task::block_in_place(|| observe(self)) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => String::new(),
                Err(error) => format!("{error:#}"),
            };
            if tokio::time::Instant::now() >= end {
                bail!("waited for {what}; {last}\n{}", self.cli(&["status"])?);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the newest rollout has this status.
    ///
    /// # Errors
    ///
    /// When it does not come to that.
    pub async fn wait_status(&self, wanted: &str) -> Result<Value> {
        self.wait(&format!("the rollout to be {wanted}"), |fleet| {
            let status = fleet.json(&["status"])?;
            Ok((status["status"] == wanted).then_some(status))
        })
        .await
    }

    /// Waits until so many agents are connected.
    ///
    /// # Errors
    ///
    /// When the bound is over.
    pub async fn wait_online(&self, wanted: usize) -> Result<()> {
        self.wait("the agents to be online", |fleet| {
            let nodes = fleet.json(&["nodes"])?;
            let online =
                nodes.as_array().into_iter().flatten().filter(|node| node["link"]["link"] == "online");
            Ok((online.count() == wanted).then_some(()))
        })
        .await
    }

    /// Ends everything.
    ///
    /// # Errors
    ///
    /// When a part of it had failed.
    pub async fn end(mut self) -> Result<()> {
        let running: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.agent.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in running {
            self.stop_agent(&name).await?;
        }
        match self.daemon.take() {
            Some(daemon) => daemon.shutdown().await,
            None => Ok(()),
        }
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
