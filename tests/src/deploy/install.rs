//! Installing wavegate as its users do: the packages, drop-ins for the site, and for each agent a way to be let in.

use anyhow::{Context, Result, anyhow};

use super::packages::{Package, Packages};
use super::{COORDINATOR_DROP_INS, POLICY_FILE, PORT, SITE_FILE, Wavegate, site};
use crate::lab::{Family, Node};

/// Where provisioning puts a join token.
pub const TOKEN_FILE: &str = "/etc/wavegate/join-token";
/// Where the site's settings of an agent go.
const AGENT_DROP_IN: &str = "/etc/wavegate/agent.d/50-site.toml";

/// In which order an agent comes to a node, its settings and its token.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Installed, configured, and given a file with a token.
    TokenLast,
    /// Installed, configured, and enrolled by somebody with a shell on the node.
    ByHand,
    /// Configured and given a token by provisioning, and installed then.
    PackageLast,
}

const ORDERS: [Order; 3] = [Order::TokenLast, Order::ByHand, Order::PackageLast];

impl Wavegate<'_> {
    /// Sets the coordinator up, which is installed, and starts it.
    ///
    /// # Errors
    ///
    /// When one of that fails.
    pub fn set_up_coordinator(&self) -> Result<()> {
        let node = self.coordinator();
        let listen = format!("0.0.0.0:{PORT}");
        node.run(&["wavegate", "init", "--fleet", "lab", "--listen", &listen])?;
        node.write_file(SITE_FILE, site::parameters(&self.fleet.manifest).as_bytes(), 0o644)?;
        node.run(&["systemctl", "enable", "--now", "--quiet", Package::Coordinator.name()]).map(|_| ())
    }

    /// Installs an agent on every node, all at the same time, and lets each in by another of the ways there are.
    pub(super) fn install_agents(&self, packages: &Packages) -> Result<()> {
        std::thread::scope(|scope| {
            let installs: Vec<_> = self
                .managed()
                .zip(ORDERS.into_iter().cycle())
                .map(|(node, order)| (node, scope.spawn(move || self.install_agent(packages, node, order))))
                .collect();
            for (node, install) in installs {
                let done = install.join().map_err(|_| anyhow!("the test panicked"))?;
                done.with_context(|| format!("installing the agent on {}", node.name()))?;
            }
            Ok(())
        })
    }

    fn install_agent(&self, packages: &Packages, node: &Node, order: Order) -> Result<()> {
        let agent = Package::Agent;
        match order {
            Order::TokenLast => {
                packages.install(agent, node)?;
                self.configure_agent(node)?;
                self.drop_token(node)?;
            }
            Order::ByHand => {
                packages.install(agent, node)?;
                self.configure_agent(node)?;
                self.enrol(node)?;
            }
            Order::PackageLast => {
                self.configure_agent(node)?;
                self.drop_token(node)?;
                packages.install(agent, node)?;
            }
        }
        start_where_the_family_does_not(agent, node)
    }

    /// The site's settings and policy of a node.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub fn configure_agent(&self, node: &Node) -> Result<()> {
        self.dial(node, PORT)?;
        node.write_file(POLICY_FILE, site::policy().as_bytes(), 0o644)
    }

    /// Has a node's agent dial this port of the coordinator's host from its next start on.
    ///
    /// # Errors
    ///
    /// When its configuration can't be written.
    pub fn dial(&self, node: &Node, port: u16) -> Result<()> {
        let configuration = format!("coordinator = \"{}:{port}\"\n", self.coordinator().address());
        node.write_file(AGENT_DROP_IN, configuration.as_bytes(), 0o644)
    }

    /// Puts a file with a token for a node where its agent looks for one.
    ///
    /// # Errors
    ///
    /// When the coordinator makes no token, or it can't be written.
    pub fn drop_token(&self, node: &Node) -> Result<()> {
        let token = self.token(node.name())? + "\n";
        node.write_file(TOKEN_FILE, token.as_bytes(), 0o600)
    }

    /// Enrols a node as somebody does who is on it.
    ///
    /// # Errors
    ///
    /// When the coordinator makes no token, or does not take it.
    pub fn enrol(&self, node: &Node) -> Result<()> {
        let token = self.token(node.name())?;
        node.run(&["wavegate-agent", "enrol", "--token", &token]).map(|_| ())
    }

    /// Gives the coordinator settings, which count from its next start on.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub fn configure_coordinator(&self, name: &str, settings: &str) -> Result<()> {
        let path = format!("{COORDINATOR_DROP_INS}/{name}.toml");
        self.coordinator().write_file(&path, settings.as_bytes(), 0o644)
    }
}

/// An rpm neither enables nor starts what it brings; a deb does both.
///
/// # Errors
///
/// When its service can't be started.
pub fn start_where_the_family_does_not(package: Package, node: &Node) -> Result<()> {
    match node.family() {
        Family::Apt => Ok(()),
        Family::Rpm => node.run(&["systemctl", "enable", "--now", "--quiet", package.name()]).map(|_| ()),
    }
}
