//! The demo: a real fleet taken through etcd, compute and control, and what that changed on each host.

mod snapshot;
mod table;

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::deploy::{SITE_FILE, Wavegate};
use crate::lab::{Fleet, FleetSpec, Lab};

pub use snapshot::{Snapshot, must_be_upgraded};

/// The demo's fleet.
pub const NAME: &str = "demo";

/// Boots the fleet, installs wavegate, upgrades, and shows before and after. `keep` leaves the fleet up.
///
/// # Errors
///
/// When any part of it fails; the fleet is then removed unless `keep`.
pub fn run(keep: bool) -> Result<()> {
    let lab = Lab::prepare()?;
    heading("Booting three etcd members, three compute nodes and two control nodes");
    let mut fleet = Fleet::boot(&lab, FleetSpec::standard(NAME))?;
    if keep {
        fleet.keep()?;
    }
    heading("Installing the coordinator on deploy-1 and an agent on every node");
    let wavegate = Wavegate::install(&fleet)?;
    print!("{}", wavegate.cli(&["nodes"])?);
    let before = Snapshot::of_all(&wavegate)?;
    heading(&format!("deploy-1# wavegate upgrade --yes --parameters {SITE_FILE}"));
    let started = Instant::now();
    upgrade(&wavegate)?;
    let took = started.elapsed();
    let after = Snapshot::of_all(&wavegate)?;
    heading("Before and after, read from the hosts");
    println!("{}", table::before_and_after(&before, &after));
    println!("{}", table::stage_times(&wavegate.status()?)?);
    println!("The whole upgrade, planning included, took {:.0} s.", took.as_secs_f64());
    must_be_upgraded(&wavegate, &before, &after)?;
    println!("Every node is upgraded; libvirt's dnsmasq is the same process on every compute node.");
    if keep {
        println!("\nThe fleet is up. Look around with:");
        println!(
            "  target/debug/lab shell deploy-1     then: wavegate status, wavegate events, wavegate logs compute-1"
        );
        println!(
            "  target/debug/lab shell compute-3    then: wavegate-agent status, journalctl -u wavegate-agent"
        );
        println!("Remove it with: make demo-down");
    }
    Ok(())
}

/// The operator's command, on this terminal.
fn upgrade(wavegate: &Wavegate<'_>) -> Result<()> {
    let mut command =
        wavegate.coordinator().command(&["wavegate", "upgrade", "--yes", "--parameters", SITE_FILE])?;
    if let Some(terminal) = std::env::var_os("TERM").filter(|_| std::io::stdout().is_terminal()) {
        command.env("TERM", terminal);
    }
    let status = command.status().context("running wavegate upgrade")?;
    if !status.success() {
        bail!("wavegate upgrade: {status}");
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}
