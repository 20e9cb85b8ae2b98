//! Processes of this machine, named so that a reused pid is not mistaken for the old one.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::wait::wait_until;

/// A process: its pid and the time it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid here.
    pub pid: i32,
    /// When it started.
    pub start: u64,
}

impl ProcessId {
    /// The process that has this pid now, unless it is gone or a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Self { pid, start: fields.get(19)?.parse().ok()? })
    }

    /// This very process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills it, if it is still that process, and waits for its end.
    pub fn kill(self) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        // Gone in between is what we wanted.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        wait_until(&format!("process {} to end", self.pid), Duration::from_secs(20), || {
            Ok((!self.is_alive()).then_some(()))
        })
    }

    /// The host pid of the first process of the pid namespace this one made.
    pub fn leader(self) -> Option<Self> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid| is_init(*pid))
            .and_then(Self::of)
    }
}

/// Whether the process is number 1 in a pid namespace of its own.
fn is_init(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { return false };
    let pids: Vec<&str> = line.split_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&"1")
}
