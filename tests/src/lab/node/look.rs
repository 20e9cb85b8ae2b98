//! Looking at a node: its processes, dnsmasqs and packages. Nothing here changes it. Its services are in `service`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Node;
use crate::lab::spec::Family;

const LOOK: &str = include_str!("../../../lab/look.py");
/// Where Neutron's DHCP driver keeps a directory for each network.
const NEUTRON_DHCP: &str = "/var/lib/neutron/dhcp/";

/// A process of a node; pids are the node's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid inside the node.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub starttime: u64,
    /// Its command name.
    pub name: String,
    /// Where `/proc/PID/exe` points.
    pub exe: String,
    /// Whether the file it runs is the one at that path now, by device and inode.
    pub exe_is_file_on_disk: bool,
    /// Its command line.
    pub argv: Vec<String>,
}

/// A running dnsmasq.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dnsmasq {
    /// Its pid inside the node.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub starttime: u64,
    /// Whether it runs the file that is at /usr/sbin/dnsmasq now, by device and inode.
    pub exe_is_file_on_disk: bool,
    /// The pid file in its arguments.
    pub pid_file: Option<String>,
    /// Whether it is one of Neutron's, by that pid file.
    pub neutron: bool,
}

impl From<Process> for Dnsmasq {
    fn from(process: Process) -> Self {
        let pid_file = process.argv.iter().find_map(|word| word.strip_prefix("--pid-file="));
        Self {
            neutron: pid_file.is_some_and(|path| path.starts_with(NEUTRON_DHCP)),
            pid_file: pid_file.map(str::to_owned),
            pid: process.pid,
            starttime: process.starttime,
            exe_is_file_on_disk: process.exe_is_file_on_disk,
        }
    }
}

impl Node {
    /// A process of the node by its pid there; none when there is none.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn process(&self, pid: i32) -> Result<Option<Process>> {
        let found: Vec<Option<Process>> = self.look(&pid.to_string())?;
        Ok(found.into_iter().flatten().next())
    }

    /// Every dnsmasq that runs, by pid.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn dnsmasqs(&self) -> Result<Vec<Dnsmasq>> {
        let found: Vec<Process> = self.look("dnsmasq")?;
        Ok(found.into_iter().map(Dnsmasq::from).collect())
    }

    fn look<T: for<'de> Deserialize<'de>>(&self, what: &str) -> Result<T> {
        let text = self.run(&["python3", "-c", LOOK, what])?;
        serde_json::from_str(&text).with_context(|| format!("{}: understanding {text}", self.name()))
    }

    /// The installed packages and their versions: dpkg's `[epoch:]version-revision` or rpm's `[epoch:]version-release`.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn packages(&self) -> Result<BTreeMap<String, String>> {
        let text = match self.family() {
            Family::Apt => {
                self.run(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"])?
            }
            Family::Rpm => self.run(&[
                "rpm",
                "-qa",
                "--qf",
                "installed %{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n",
            ])?,
        };
        let installed = text.lines().filter_map(|line| line.strip_prefix("installed "));
        Ok(installed
            .filter_map(|line| line.split_once(' '))
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect())
    }
}
