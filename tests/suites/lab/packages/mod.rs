//! Wavegate's own packages on real hosts, by the package managers that operators have. What runs meanwhile is an upgrade as in the
//! other suites.

mod old_kernel;
mod watchdog;

use anyhow::Result;
use wavegate_tests::deploy::Package;
use wavegate_tests::lab::{Fleet, FleetSpec, Lab};

const AGENT: &str = Package::Agent.name();

fn boot(spec: FleetSpec) -> Result<Option<Fleet>> {
    let Some(lab) = Lab::for_suite()? else { return Ok(None) };
    Fleet::boot(&lab, spec).map(Some)
}
