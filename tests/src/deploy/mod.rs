//! Wavegate on a fleet of the lab: its packages installed, a coordinator on deploy-1, an agent on every other node.

mod install;
pub mod journal;
pub mod packages;
mod site;

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::{Fleet, Node, Role, wait_until};

pub use install::{TOKEN_FILE, start_where_the_family_does_not};
pub use packages::{Package, Packages};
pub use site::{POLICY_FILE, SITE_FILE};

/// Where the coordinator runs.
pub const COORDINATOR: &str = "deploy-1";
/// The port that agents dial.
pub const PORT: u16 = 7443;
/// Where the coordinator's further settings are.
pub const COORDINATOR_DROP_INS: &str = "/etc/wavegate/coordinator.d";
/// A generous bound for one thing to happen on a loaded machine.
pub const SOON: Duration = Duration::from_secs(120);
/// A generous bound for a whole upgrade of the default fleet.
pub const UPGRADE: Duration = Duration::from_secs(900);

/// Wavegate as it is installed on a fleet.
pub struct Wavegate<'a> {
    fleet: &'a Fleet,
    /// The coordinator's socket, where the CLI would look for another one.
    socket: Option<String>,
}

impl<'a> Wavegate<'a> {
    /// Installs coordinator and agents, enrols every node, and waits until all are online.
    ///
    /// # Errors
    ///
    /// When a package was not made, or a part does not start: names the node.
    pub fn install(fleet: &'a Fleet) -> Result<Self> {
        let (wavegate, packages) = (Self::on(fleet), Packages::made()?);
        packages.install(Package::Coordinator, wavegate.coordinator())?;
        wavegate.set_up_coordinator()?;
        wavegate.install_agents(&packages)?;
        wavegate.wait_online()?;
        Ok(wavegate)
    }

    /// Wavegate on a fleet where it is installed already.
    #[must_use]
    pub const fn on(fleet: &'a Fleet) -> Self {
        Self { fleet, socket: None }
    }

    /// The same fleet by another coordinator of the coordinator's host, which has this socket.
    #[must_use]
    pub fn by_socket(&self, socket: &str) -> Self {
        Self { fleet: self.fleet, socket: Some(format!("unix:{socket}")) }
    }

    /// The nodes with an agent.
    pub fn managed(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.fleet.nodes().iter().filter(|node| node.role() != Role::Deploy)
    }

    /// The coordinator's host.
    #[must_use]
    pub fn coordinator(&self) -> &'a Node {
        self.fleet.node(COORDINATOR)
    }

    /// A join token for one node.
    ///
    /// # Errors
    ///
    /// When the coordinator makes none.
    pub fn token(&self, node: &str) -> Result<String> {
        let created = self.json(&["token", "create", "--node", node])?;
        created["token"].as_str().map(str::to_owned).with_context(|| format!("no token in {created}"))
    }

    /// Waits until every agent is connected.
    ///
    /// # Errors
    ///
    /// When the bound is over: says who is missing.
    pub fn wait_online(&self) -> Result<()> {
        let expected = self.managed().count();
        wait_until("every agent to be online", SOON, || {
            let nodes = self.json(&["nodes"])?;
            let online = |node: &&Value| node["link"]["link"] == "online";
            let count = nodes.as_array().into_iter().flatten().filter(online).count();
            if count == expected {
                return Ok(Some(()));
            }
            bail!("{count} of {expected} are: {nodes}")
        })
    }

    /// Runs the CLI on the coordinator's host and returns all of its output, whatever its exit code.
    ///
    /// # Errors
    ///
    /// When the host is off.
    pub fn cli_output(&self, arguments: &[&str]) -> Result<Output> {
        let socket: Vec<&str> =
            self.socket.iter().flat_map(|socket| ["--coordinator", socket.as_str()]).collect();
        self.coordinator().output(&[&["wavegate"], socket.as_slice(), arguments].concat())
    }

    /// Runs the CLI on the coordinator's host and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it exits with anything but 0: the error has all it printed.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli_output(arguments)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("wavegate {}: {}\n{stdout}{stderr}", arguments.join(" "), output.status);
        }
        Ok(stdout)
    }

    /// Runs the CLI with `--output json` and returns the document.
    ///
    /// # Errors
    ///
    /// Like [`Wavegate::cli`].
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.cli(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("wavegate {}: understanding {text}", arguments.join(" ")))
    }

    /// The status of the newest rollout.
    ///
    /// # Errors
    ///
    /// When there is none or the coordinator is down.
    pub fn status(&self) -> Result<Value> {
        self.json(&["status"])
    }

    /// Makes a plan with the site's parameters and starts it; returns at once.
    ///
    /// # Errors
    ///
    /// When the plan has problems or can't be started.
    pub fn start(&self) -> Result<()> {
        self.cli(&["plan", "--parameters", SITE_FILE])?;
        self.cli(&[&["start"], self.acknowledged()].concat())?;
        Ok(())
    }

    /// What is known of this fleet when etcd on it is upgraded: with one or two members etcd is not served meanwhile.
    #[must_use]
    pub fn acknowledged(&self) -> &'static [&'static str] {
        match self.managed().filter(|node| node.role() == Role::Etcd).count() {
            1 | 2 => &["--acknowledge", "etcd-no-spare-member"],
            _ => &[],
        }
    }

    /// Waits until the newest rollout has this status; fails at once when it has ended or paused otherwise.
    ///
    /// # Errors
    ///
    /// When it does not come to that.
    pub fn wait_status(&self, wanted: &str, bound: Duration) -> Result<Value> {
        let waited = wait_until(&format!("the rollout to be {wanted}"), bound, || {
            let status = self.status()?;
            let now = status["status"].as_str().unwrap_or_default().to_owned();
            if now == wanted || matches!(now.as_str(), "finished" | "stopped" | "paused") {
                return Ok(Some(status));
            }
            bail!("{}", self.cli(&["status"])?)
        })?;
        if waited["status"] == wanted {
            return Ok(waited);
        }
        bail!("the rollout is not {wanted}:\n{}", self.cli(&["status"])?)
    }

    /// Every event of the newest rollout, in order.
    ///
    /// # Errors
    ///
    /// When the coordinator is down.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = self.cli(&["events", "--output", "json"])?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("understanding {line}")))
            .collect()
    }
}

/// A program of this workspace, built beside the one that runs.
///
/// # Errors
///
/// When it was not built.
pub fn binary(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the running program")?;
    let found =
        own.ancestors().skip(1).take(2).map(|directory| directory.join(program)).find(|path| path.exists());
    found.with_context(|| format!("{program} is not built beside {}: run `make build`", own.display()))
}
