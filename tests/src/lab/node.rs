//! A node: who it is, and switching it on and off. What runs on it is in the files below.

mod exec;
mod files;
mod link;
mod look;
mod service;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

pub use look::{Dnsmasq, Process};
pub use service::UnitState;

use super::fleet::node_dir;
use super::process::ProcessId;
use super::spec::{Family, NodeSpec, Role, System};
use super::state::FleetState;
use super::teardown::empty_cgroup;
use super::wait::wait_until;
use super::{interrupt, network};

const POWER: Duration = Duration::from_secs(60);

/// One host of a fleet.
pub struct Node {
    spec: NodeSpec,
    fleet: PathBuf,
    netns: String,
    state: Arc<Mutex<FleetState>>,
}

impl Node {
    pub(super) fn new(spec: NodeSpec, fleet: PathBuf, netns: String, state: Arc<Mutex<FleetState>>) -> Self {
        Self { spec, fleet, netns, state }
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its address in the fleet's network.
    pub fn address(&self) -> &str {
        &self.spec.address
    }

    /// What it says it is.
    pub fn system(&self) -> System {
        self.spec.system
    }

    /// Its package family.
    pub fn family(&self) -> Family {
        self.spec.system.family()
    }

    /// What it was provisioned as.
    pub fn role(&self) -> Role {
        self.spec.role
    }

    fn dir(&self) -> PathBuf {
        node_dir(&self.fleet, &self.spec)
    }

    fn record(&self) -> Result<MutexGuard<'_, FleetState>> {
        self.state.lock().map_err(|_| anyhow!("the fleet's record is poisoned"))
    }

    /// The cgroups of this node alone.
    fn cgroups(&self) -> Result<Vec<PathBuf>> {
        Ok(self.record()?.cgroups.iter().map(|fleet| fleet.join(self.name())).collect())
    }

    /// The cgroups commands run in: below those systemd-nspawn gave the node, so that they are the node's own.
    fn exec_cgroups(&self) -> Result<Vec<PathBuf>> {
        let groups: Vec<PathBuf> =
            self.cgroups()?.into_iter().map(|cgroup| cgroup.join("payload/lab-exec")).collect();
        for group in &groups {
            std::fs::create_dir_all(group).with_context(|| format!("making {}", group.display()))?;
        }
        Ok(groups)
    }

    /// The systemd-nspawn process that holds it, while it runs. Read from disk when another process switched it on.
    fn nspawn(&self) -> Result<Option<ProcessId>> {
        let own = self.record()?.nspawn.get(self.name()).copied();
        if let Some(process) = own.filter(|process| process.is_alive()) {
            return Ok(Some(process));
        }
        let stored = FleetState::read(&self.fleet)?.and_then(|state| state.nspawn.get(self.name()).copied());
        Ok(stored.filter(|process| process.is_alive()))
    }

    /// The pid, on this machine, of the node's process 1.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn leader_pid(&self) -> Result<i32> {
        self.leader().map(|leader| leader.pid)
    }

    fn leader(&self) -> Result<ProcessId> {
        let nspawn = self.nspawn()?.with_context(|| format!("{} is off", self.name()))?;
        nspawn.leader().with_context(|| format!("{} has no process 1 yet", self.name()))
    }

    /// Whether it is switched on and its process 1 exists.
    pub fn is_up(&self) -> bool {
        self.leader().is_ok()
    }

    /// Switches it on; does not wait for it to boot. Its disk is as it was left.
    ///
    /// # Errors
    ///
    /// When it is on already or cannot be started.
    pub fn power_on(&self) -> Result<()> {
        if self.nspawn()?.is_some() {
            bail!("{} is on already", self.name());
        }
        let _taking = interrupt::uninterrupted();
        for cgroup in self.cgroups()? {
            empty_cgroup(&cgroup)?;
            std::fs::create_dir_all(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        }
        let mut child =
            self.nspawn_command()?.spawn().with_context(|| format!("starting {}", self.name()))?;
        let process = i32::try_from(child.id()).ok().and_then(ProcessId::of);
        // Somebody has to collect its exit status, or it stays as a zombie.
        std::thread::spawn(move || child.wait());
        let process =
            process.with_context(|| format!("{} ended at once: {}", self.name(), self.console()))?;
        let mut record = self.record()?;
        record.nspawn.insert(self.name().to_owned(), process);
        record.write(&self.fleet)
    }

    fn nspawn_command(&self) -> Result<Command> {
        let console = File::create(self.dir().join("console.log")).context("opening the console's log")?;
        let mut command = Command::new("sh");
        command.args(["-c", &enter_cgroups(&self.cgroups()?), "sh"]);
        command.arg("nsenter").arg(format!("--net={}", network::path(&self.netns).display()));
        command.args(["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--resolv-conf=off"]);
        command
            .args(["--timezone=off", "--link-journal=no", "-M", self.name(), "-D"])
            .arg(self.dir().join("root"));
        command.arg(format!("--network-bridge={}", network::BRIDGE));
        if self.role() == Role::Deploy {
            command.arg(format!("--bind-ro={}:/srv/lab", self.fleet.join("repo").display()));
        }
        // The stand-in for upstart is no init that systemd-nspawn would know how to shut down.
        command.arg(if self.system().has_upstart() { "/sbin/init" } else { "-b" });
        // The clean environment of a host, and out of reach of the Ctrl-C meant for us.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .stdin(Stdio::null())
            .stdout(console.try_clone().context("sharing the console's log")?)
            .stderr(console);
        Ok(command)
    }

    /// What systemd-nspawn and the node's console said.
    fn console(&self) -> String {
        std::fs::read_to_string(self.dir().join("console.log")).unwrap_or_default()
    }

    /// Waits until its systemd says that everything was started and nothing failed, or its upstart that it is in
    /// runlevel 2 and no job is on its way to another state.
    ///
    /// # Errors
    ///
    /// On `degraded`, with the failed units, or when the bound is over.
    pub fn wait_running(&self, bound: Duration) -> Result<()> {
        let what = format!("{} to be running", self.name());
        if self.system().has_upstart() {
            return wait_until(&what, bound, || self.upstart_is_settled()).with_context(|| self.console());
        }
        let state = wait_until(&what, bound, || {
            let output = self.output(&["systemctl", "is-system-running"])?;
            match String::from_utf8_lossy(&output.stdout).trim() {
                ended @ ("running" | "degraded") => Ok(Some(ended.to_owned())),
                other => bail!("{other} {}", String::from_utf8_lossy(&output.stderr).trim()),
            }
        })
        .with_context(|| self.console())?;
        if state == "degraded" {
            bail!(
                "{}: failed units: {}",
                self.name(),
                self.run(&["systemctl", "--failed", "--plain", "--no-legend"])?
            );
        }
        Ok(())
    }

    /// Ends it hard: every process is killed, nothing is told. Its disk stays as it is (the page cache of this machine
    /// survives, so what was written and not yet synced is there too).
    ///
    /// # Errors
    ///
    /// When it is off already or does not end.
    pub fn power_cut(&self) -> Result<()> {
        let nspawn = self.nspawn()?.with_context(|| format!("{} is off", self.name()))?;
        let leader = nspawn.leader();
        nspawn.kill()?;
        if let Some(leader) = leader {
            leader.kill()?;
        }
        for cgroup in self.cgroups()? {
            empty_cgroup(&cgroup)?;
        }
        let link = format!("vb-{}", self.name());
        wait_until(&format!("{link} to be gone"), POWER, || {
            Ok((!network::has_link(&self.netns, &link)).then_some(()))
        })
    }

    /// Restarts it the clean way and waits until it is running again. A node that reboots by itself ends instead: with
    /// `--keep-unit`, systemd-nspawn leaves the second half to whoever started it.
    ///
    /// # Errors
    ///
    /// When it does not end or does not come back.
    pub fn reboot(&self) -> Result<()> {
        let nspawn = self.nspawn()?.with_context(|| format!("{} is off", self.name()))?;
        // The connection to process 1 may end before it answers.
        let _ = self.output(&["reboot"]);
        wait_until(&format!("{} to shut down", self.name()), POWER * 2, || {
            Ok((!nspawn.is_alive()).then_some(()))
        })?;
        self.power_on()?;
        self.wait_running(POWER * 2)
    }
}

/// A shell script that puts itself into the cgroups and becomes its arguments.
fn enter_cgroups(cgroups: &[PathBuf]) -> String {
    let mut script = String::new();
    for cgroup in cgroups {
        script.push_str(&format!("echo $$ > '{}/cgroup.procs'\n", cgroup.display()));
    }
    script + "exec \"$@\""
}
