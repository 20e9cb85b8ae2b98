//! How many hosts this machine has room for at once. A fleet that finds none waits until another one ends.
//!
//! What is short is root's instances of inotify, of which Linux gives each user 128 by default: without one systemd starts
//! no service.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::prepare::lock;
use super::progress::say;
use super::spec::FleetSpec;
use super::state::FleetState;
use super::teardown;

const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
/// What this machine's own programs may have of them, and dnsmasqs on the hosts, one each.
const RESERVE: usize = 16;
/// What a host with systemd has: five are of process 1, one is logind's.
const OF_SYSTEMD: usize = 6;
/// What a host with upstart may come to need.
const OF_UPSTART: usize = 1;
/// Longer than any other fleet is up, unless somebody keeps it.
const LONGEST: Duration = Duration::from_secs(30 * 60);
const POLL: Duration = Duration::from_millis(500);

fn needed(spec: &FleetSpec) -> usize {
    spec.nodes.iter().map(|node| if node.system.has_upstart() { OF_UPSTART } else { OF_SYSTEMD }).sum()
}

fn limit() -> Result<usize> {
    let text = std::fs::read_to_string(LIMIT).with_context(|| format!("reading {LIMIT}"))?;
    let limit: usize = text.trim().parse().with_context(|| format!("{LIMIT} is '{text}'"))?;
    Ok(limit.saturating_sub(RESERVE))
}

/// Waits until there is room for the fleet beside those of this lab that are up, and returns with the lab's lock: what is
/// recorded under it is room that nobody else takes. A fleet that is alone has room in any case.
///
/// # Errors
///
/// When there is none for half an hour: names the fleets that are up.
pub fn wait(lab: &Path, spec: &FleetSpec) -> Result<File> {
    let (began, limit) = (Instant::now(), limit()?);
    loop {
        let lock = lock(lab)?;
        teardown::abandoned(lab)?;
        let others: Vec<FleetState> = others(lab, spec)?;
        let taken: usize = others.iter().map(|other| needed(&other.spec)).sum();
        if others.is_empty() || taken + needed(spec) <= limit {
            if began.elapsed() > Duration::from_secs(1) {
                say(&format!("{} had to wait {:.0} s for room", spec.name, began.elapsed().as_secs_f64()));
            }
            return Ok(lock);
        }
        drop(lock);
        if began.elapsed() > LONGEST {
            let names: Vec<&str> = others.iter().map(|other| other.spec.name.as_str()).collect();
            bail!(
                "no room for fleet '{}' beside {}: end one (`lab down --name N`), or raise {LIMIT}",
                spec.name,
                names.join(", ")
            );
        }
        std::thread::sleep(POLL);
    }
}

fn others(lab: &Path, spec: &FleetSpec) -> Result<Vec<FleetState>> {
    let Ok(fleets) = std::fs::read_dir(lab.join("fleets")) else { return Ok(Vec::new()) };
    let mut others = Vec::new();
    for entry in fleets {
        others.extend(FleetState::read(&entry.context("listing the fleets")?.path())?);
    }
    others.retain(|other| other.spec.name != spec.name);
    Ok(others)
}
