//! A fleet's network: one namespace with one bridge, and nothing that leads out of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::command::run;

/// The bridge every node of a fleet hangs on.
pub const BRIDGE: &str = "lab0";
/// The address of the lab itself on that bridge.
const LAB_ADDRESS: &str = "10.71.0.254/24";

/// Makes the namespace and its bridge.
pub fn create(netns: &str) -> Result<()> {
    run(Command::new("ip").args(["netns", "add", netns]))?;
    ip(netns, &["link", "set", "lo", "up"])?;
    ip(netns, &["link", "add", BRIDGE, "type", "bridge"])?;
    ip(netns, &["address", "add", LAB_ADDRESS, "dev", BRIDGE])?;
    ip(netns, &["link", "set", BRIDGE, "up"])
}

/// Removes the namespace, if it is there.
pub fn remove(netns: &str) -> Result<()> {
    if path(netns).exists() {
        run(Command::new("ip").args(["netns", "delete", netns]))?;
    }
    Ok(())
}

/// Runs `ip` inside the namespace.
pub fn ip(netns: &str, arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(["-n", netns]).args(arguments)).map(|_| ())
}

/// Whether the namespace has an interface of that name.
pub fn has_link(netns: &str, link: &str) -> bool {
    ip(netns, &["link", "show", link]).is_ok()
}

/// A command that runs in the namespace and sees the rest of the machine as it is. Not `ip netns exec`: that mounts
/// /sys anew, and systemd-nspawn no longer finds the cgroups.
pub fn inside(netns: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path(netns).display()));
    command
}

/// Where the namespace is mounted.
pub fn path(netns: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(netns)
}
