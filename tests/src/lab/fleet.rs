//! A booted fleet: made from a spec, found again by name, torn down when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::command::run;
use super::manifest::Manifest;
use super::node::Node;
use super::prepare::{Lab, directory};
use super::process::ProcessId;
use super::progress::say;
use super::requirements::cgroup_roots;
use super::spec::{FleetSpec, NodeSpec};
use super::state::FleetState;
use super::{configure, interrupt, mounts, network, room, teardown};

const BOOT: Duration = Duration::from_secs(120);

/// A fleet that is up.
pub struct Fleet {
    /// What its repository held when it was booted.
    pub manifest: Manifest,
    pub(super) dir: PathBuf,
    state: Arc<Mutex<FleetState>>,
    nodes: Vec<Node>,
    kept: bool,
}

impl Fleet {
    /// Boots a fleet, once this machine has room for it, and waits until every node's systemd says `running`.
    ///
    /// # Errors
    ///
    /// When a fleet of this name is up, or a node does not come up: names the node and its failed units.
    pub fn boot(lab: &Lab, spec: FleetSpec) -> Result<Self> {
        let started = std::time::Instant::now();
        let dir = fleet_dir(&lab.dir, &spec.name)?;
        let lock = room::wait(&lab.dir, &spec)?;
        clear(&dir, &spec.name)?;
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        interrupt::register(&dir);
        let state = record(&dir, &lab.dir, &spec);
        state.write(&dir)?;
        drop(lock);
        let fleet = Self::with_state(dir, state, lab.manifest.clone());
        fleet.build(lab, &spec)?;
        for node in &fleet.nodes {
            node.power_on()?;
        }
        for node in &fleet.nodes {
            node.wait_running(BOOT)?;
        }
        say(&format!(
            "{}: {} nodes up in {:.1} s",
            spec.name,
            spec.nodes.len(),
            started.elapsed().as_secs_f64()
        ));
        Ok(fleet)
    }

    /// The fleet of that name that is up and kept, or that another process has up. Dropping it leaves it up.
    ///
    /// # Errors
    ///
    /// When there is no such fleet.
    pub fn attach(name: &str) -> Result<Self> {
        let dir = fleet_dir(&directory()?, name)?;
        let state = FleetState::read(&dir)?.with_context(|| format!("no fleet '{name}' is up"))?;
        let manifest = Manifest::read(&dir)?;
        let mut fleet = Self::with_state(dir, state, manifest);
        fleet.kept = true;
        Ok(fleet)
    }

    /// The records of all fleets of this lab.
    ///
    /// # Errors
    ///
    /// When the lab's directory cannot be read.
    pub fn list() -> Result<Vec<FleetState>> {
        let Ok(entries) = std::fs::read_dir(directory()?.join("fleets")) else { return Ok(Vec::new()) };
        let mut fleets = Vec::new();
        for entry in entries {
            fleets.extend(FleetState::read(&entry.context("listing the fleets")?.path())?);
        }
        Ok(fleets)
    }

    /// Tears down the fleet of that name, whoever booted it.
    ///
    /// # Errors
    ///
    /// When there is none, or something of it cannot be ended.
    pub fn down(name: &str) -> Result<()> {
        let dir = fleet_dir(&directory()?, name)?;
        if !dir.exists() {
            bail!("no fleet '{name}' is up");
        }
        teardown::fleet(&dir)
    }

    fn with_state(dir: PathBuf, state: FleetState, manifest: Manifest) -> Self {
        let specs = state.spec.nodes.clone();
        let netns = state.netns.clone();
        let state = Arc::new(Mutex::new(state));
        let nodes = specs
            .into_iter()
            .map(|spec| Node::new(spec, dir.clone(), netns.clone(), Arc::clone(&state)))
            .collect();
        Self { manifest, dir, state, nodes, kept: false }
    }

    /// Makes the network, the repository and every node's root.
    fn build(&self, lab: &Lab, spec: &FleetSpec) -> Result<()> {
        let state = self.record()?;
        for part in ["repo", "next"] {
            run(Command::new("cp").arg("-R").arg(lab.packages.path.join(part)).arg(self.dir.join(part)))?;
        }
        let manifest = lab.packages.path.join("manifest.env");
        std::fs::copy(&manifest, self.dir.join("manifest.env")).context("copying the manifest")?;
        let taking = interrupt::uninterrupted();
        network::create(&state.netns)?;
        drop(taking);
        for node in &spec.nodes {
            let _taking = interrupt::uninterrupted();
            let own = node_dir(&self.dir, node);
            let (merged, disk) = (own.join("root"), own.join("disk"));
            let layers = if let Some(megabytes) = node.disk_mb {
                mounts::small_disk(&disk, megabytes)?;
                &disk
            } else {
                &own
            };
            mounts::overlay(&lab.lower(node)?, &layers.join("upper"), &layers.join("work"), &merged)?;
            configure::node(&merged, spec, node).with_context(|| format!("configuring {}", node.name))?;
        }
        Ok(())
    }

    fn record(&self) -> Result<FleetState> {
        self.state
            .lock()
            .map(|state| state.clone())
            .map_err(|_| anyhow::anyhow!("the fleet's record is poisoned"))
    }

    /// Its name.
    pub fn name(&self) -> Result<String> {
        Ok(self.record()?.spec.name)
    }

    /// Its network namespace, as `ip netns` names it.
    pub fn netns(&self) -> Result<String> {
        Ok(self.record()?.netns)
    }

    /// Its record, as it is on disk.
    pub fn state(&self) -> Result<FleetState> {
        self.record()
    }

    /// The node of that name.
    ///
    /// # Panics
    ///
    /// When the fleet has none: the test is wrong.
    pub fn node(&self, name: &str) -> &Node {
        match self.nodes.iter().find(|node| node.name() == name) {
            Some(node) => node,
            None => panic!("the fleet has no node {name}"),
        }
    }

    /// All nodes, in the order of the spec.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The address of the VM on a compute, which every node has a route to.
    ///
    /// # Errors
    ///
    /// When the fleet has no such node.
    pub fn vm_address(&self, compute: &str) -> Result<String> {
        let spec = self.record()?.spec;
        let node = spec.nodes.iter().find(|node| node.name == compute);
        Ok(configure::vm_address(&spec, node.with_context(|| format!("the fleet has no node {compute}"))?))
    }

    /// Its network namespace, as a file: every node is reached there by address.
    ///
    /// # Errors
    ///
    /// When its record can't be read.
    pub fn network(&self) -> Result<PathBuf> {
        Ok(network::path(&self.record()?.netns))
    }

    /// A command of this machine that runs in the fleet's network, where nodes are reached by address.
    pub fn command_in_network(&self) -> Result<Command> {
        Ok(network::inside(&self.record()?.netns))
    }

    /// Leaves the fleet up when this is dropped; `lab down` ends it.
    ///
    /// # Errors
    ///
    /// When that cannot be recorded.
    pub fn keep(&mut self) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| anyhow::anyhow!("the fleet's record is poisoned"))?;
        state.owner = None;
        state.write(&self.dir)?;
        self.kept = true;
        interrupt::forget(&self.dir);
        Ok(())
    }

    /// Ends everything now, and says what could not be ended.
    ///
    /// # Errors
    ///
    /// When something of it cannot be ended.
    pub fn tear_down(mut self) -> Result<()> {
        self.kept = true;
        interrupt::forget(&self.dir);
        teardown::fleet(&self.dir)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if std::env::var_os("WAVEGATE_LAB_KEEP").is_some() {
            match self.keep() {
                Ok(()) => say(&format!("kept up: {}", self.dir.display())),
                Err(error) => say(&format!("keeping {}: {error:#}", self.dir.display())),
            }
            return;
        }
        interrupt::forget(&self.dir);
        if let Err(error) = teardown::fleet(&self.dir) {
            say(&format!("tearing down {}: {error:#}", self.dir.display()));
        }
    }
}

fn fleet_dir(lab: &Path, name: &str) -> Result<PathBuf> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
        bail!("a fleet's name is 1 to 40 letters, digits and dashes, not '{name}'");
    }
    Ok(lab.join("fleets").join(name))
}

pub(super) fn node_dir(fleet: &Path, node: &NodeSpec) -> PathBuf {
    fleet.join("nodes").join(&node.name)
}

/// Makes the name free: refuses one that is in use, ends one whose owner is dead.
fn clear(dir: &Path, name: &str) -> Result<()> {
    match FleetState::read(dir)? {
        Some(FleetState { owner: None, .. }) => {
            bail!("fleet '{name}' is up and kept: attach to it or end it with `lab down --name {name}`")
        }
        Some(state) if !state.is_abandoned() => bail!("fleet '{name}' is in use: {:?}", state.owner),
        Some(_) | None => teardown::fleet(dir),
    }
}

/// What the fleet will take, before it takes any of it.
fn record(dir: &Path, lab: &Path, spec: &FleetSpec) -> FleetState {
    // Two labs on one machine may have fleets of the same name.
    let digest = Sha256::digest(lab.display().to_string().as_bytes());
    let which: String = digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let netns = format!("lab-{which}-{}", spec.name);
    let groups = cgroup_roots();
    FleetState {
        spec: spec.clone(),
        owner: ProcessId::own(),
        cgroups: groups.iter().map(|root| root.join(&netns)).collect(),
        // What lies on a node's disk is unmounted before it.
        mounts: ["root", "disk"]
            .into_iter()
            .flat_map(|mount| spec.nodes.iter().map(move |node| node_dir(dir, node).join(mount)))
            .collect(),
        netns,
        nspawn: std::collections::BTreeMap::new(),
    }
}
