//! A node's services, asked of its systemd or its upstart, and what they wrote. Nothing else of a node.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Node;

/// A service, in systemd's words; upstart's jobs are translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitState {
    /// ActiveState: `active`, `inactive`, `failed`, ...; of a job `active` is `start/running`.
    pub active: String,
    /// SubState: `running`, `dead`, ...; of a job its goal and state, such as `stop/waiting`.
    pub sub: String,
    /// LoadState: `loaded`, `not-found`, `masked`.
    pub load: String,
    /// UnitFileState: `enabled`, `disabled`, `masked`, ...; empty for a unit without a file. A job that has no
    /// `start on` left is `disabled`.
    pub enabled: String,
    /// Its main process, if it has one.
    pub main_pid: Option<i32>,
    /// When the main process started, in clock ticks since boot.
    pub started: Option<u64>,
}

impl Node {
    /// A service's state; one that does not exist has `load` "not-found".
    ///
    /// # Errors
    ///
    /// When the node is off or its service manager does not answer.
    pub fn unit(&self, name: &str) -> Result<UnitState> {
        let mut state = if self.system().has_upstart() { self.job(name)? } else { self.systemd_unit(name)? };
        if let Some(pid) = state.main_pid {
            state.started = self.process(pid)?.map(|process| process.starttime);
        }
        Ok(state)
    }

    fn systemd_unit(&self, name: &str) -> Result<UnitState> {
        let wanted = "--property=ActiveState,SubState,LoadState,UnitFileState,MainPID";
        let text = self.run(&["systemctl", "show", wanted, name])?;
        let properties: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let property = |key: &str| properties.get(key).map(|value| (*value).to_owned()).unwrap_or_default();
        Ok(UnitState {
            active: property("ActiveState"),
            sub: property("SubState"),
            load: property("LoadState"),
            enabled: property("UnitFileState"),
            main_pid: property("MainPID").parse().ok().filter(|pid| *pid != 0),
            started: None,
        })
    }

    fn job(&self, name: &str) -> Result<UnitState> {
        let output = self.output(&["initctl", "status", name])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let not_found = || UnitState {
            active: "inactive".to_owned(),
            sub: "dead".to_owned(),
            load: "not-found".to_owned(),
            enabled: String::new(),
            main_pid: None,
            started: None,
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let Some(rest) = text.strip_prefix(&format!("{name} ")) else {
            if said.contains("Unknown job") {
                return Ok(not_found());
            }
            bail!("{}: initctl status {name}: {}{text}{said}", self.name(), output.status);
        };
        let (sub, process) = rest.trim_end().split_once(", process ").unwrap_or((rest.trim_end(), ""));
        let config = self.run(&["initctl", "show-config", "-e", name])?;
        let starts = config.lines().any(|line| line.starts_with("  start on"));
        let active = match sub {
            "start/running" => "active",
            "stop/waiting" => "inactive",
            goal if goal.starts_with("start/") => "activating",
            _ => "deactivating",
        };
        Ok(UnitState {
            active: active.to_owned(),
            sub: sub.to_owned(),
            load: "loaded".to_owned(),
            enabled: if starts { "enabled" } else { "disabled" }.to_owned(),
            main_pid: process.lines().next().and_then(|pid| pid.parse().ok()),
            started: None,
        })
    }

    /// Whether upstart has booted and every job is where it wants to be.
    pub(super) fn upstart_is_settled(&self) -> Result<Option<()>> {
        let runlevel = self.run(&["runlevel"])?;
        let jobs = self.run(&["initctl", "list"])?;
        let settled = |line: &str| line.contains(" start/running") || line.contains(" stop/waiting");
        let moving = jobs.lines().find(|line| line.contains('/') && !settled(line));
        match moving {
            None if runlevel.trim().ends_with(" 2") => Ok(Some(())),
            None => bail!("runlevel {}", runlevel.trim()),
            Some(job) => bail!("{job}"),
        }
    }

    /// Starts a service.
    ///
    /// # Errors
    ///
    /// When the service manager says so.
    pub fn start_service(&self, name: &str) -> Result<()> {
        let manager = if self.system().has_upstart() { "initctl" } else { "systemctl" };
        self.run(&[manager, "start", name]).map(|_| ())
    }

    /// Stops a service.
    ///
    /// # Errors
    ///
    /// When the service manager says so.
    pub fn stop_service(&self, name: &str) -> Result<()> {
        let manager = if self.system().has_upstart() { "initctl" } else { "systemctl" };
        self.run(&[manager, "stop", name]).map(|_| ())
    }

    /// The last lines of what services wrote: of the journal, of one unit or of all, or of the files that upstart keeps.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn journal(&self, unit: Option<&str>, lines: usize) -> Result<String> {
        let count = format!("-n{lines}");
        if self.system().has_upstart() {
            let files = unit.map_or_else(|| "*".to_owned(), str::to_owned);
            return self.shell(&format!("tail {count} /var/log/upstart/{files}.log"));
        }
        let mut arguments = vec!["journalctl", "--no-pager", "-o", "short-precise", &count];
        if let Some(unit) = unit {
            arguments.extend(["-u", unit]);
        }
        self.run(&arguments).context("reading the journal")
    }
}
