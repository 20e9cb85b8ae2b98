//! Giving back what a fleet took, from its record alone: works for a fleet of this process, of another, of a dead one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::ProcessId;
use super::progress::say;
use super::state::FleetState;
use super::wait::wait_until;
use super::{mounts, network};

/// Ends a fleet's processes, then its mounts, its network and its directory. What is gone already is no error.
pub fn fleet(dir: &Path) -> Result<()> {
    if let Some(state) = FleetState::read(dir)? {
        for process in state.nspawn.values() {
            process.kill()?;
        }
        for cgroup in &state.cgroups {
            empty_cgroup(cgroup)?;
        }
        for mounted in &state.mounts {
            mounts::unmount(mounted)?;
        }
        network::remove(&state.netns)?;
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}

/// Tears down every fleet of this lab whose owner is dead.
pub fn abandoned(lab: &Path) -> Result<()> {
    let Ok(fleets) = std::fs::read_dir(lab.join("fleets")) else { return Ok(()) };
    for entry in fleets {
        let dir = entry.context("listing the fleets")?.path();
        if FleetState::read(&dir)?.is_some_and(|state| state.is_abandoned()) {
            say(&format!("tearing down {}, whose owner is gone", dir.display()));
            fleet(&dir)?;
        }
    }
    Ok(())
}

/// Kills every process of a cgroup the lab made and removes it.
pub fn empty_cgroup(cgroup: &Path) -> Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    let what = format!("cgroup {} to empty", cgroup.display());
    wait_until(&what, Duration::from_secs(20), || {
        for process in members(cgroup) {
            process.kill()?;
        }
        remove_tree(cgroup).with_context(|| format!("removing {}", cgroup.display()))?;
        Ok(Some(()))
    })
}

/// The processes of a cgroup and of those below it.
fn members(cgroup: &Path) -> Vec<ProcessId> {
    let own = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<ProcessId> =
        own.lines().filter_map(|pid| pid.parse().ok()).filter_map(ProcessId::of).collect();
    for child in children(cgroup) {
        found.extend(members(&child));
    }
    found
}

fn children(cgroup: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(cgroup) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for child in children(cgroup) {
        remove_tree(&child)?;
    }
    std::fs::remove_dir(cgroup)
}
