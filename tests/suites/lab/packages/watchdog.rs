//! An agent that stands still is noticed by its service manager, which starts another one; a package transaction that it had
//! begun is none of the service manager's business.

use anyhow::{Context, Result, ensure};
use wavegate_tests::deploy::{Package, SITE_FILE, SOON, UPGRADE, Wavegate, journal};
use wavegate_tests::evidence::{packages_are_whole, packages_changed_once};
use wavegate_tests::lab::{FleetSpec, Role, System, wait_until};

use super::{AGENT, boot};
use crate::faults::in_the_transaction;

/// Longer than systemd needs: three seconds until it is noticed, and ten that it gives a process to end.
const SLOW: u32 = 20;
const IMPATIENT: &str = "[Service]\nWatchdogSec=3\n";

#[test]
fn an_agent_that_stands_still_is_replaced_and_its_transaction_goes_on() -> Result<()> {
    let Some(fleet) = boot(FleetSpec::new("watchdog").with(Role::Compute, System::Debian))? else {
        return Ok(());
    };
    fleet.publish_slow("calico-felix", SLOW)?;
    let wavegate = Wavegate::install(&fleet)?;
    for (node, service) in
        [(fleet.node("compute-1"), AGENT), (wavegate.coordinator(), Package::Coordinator.name())]
    {
        let drop_in = format!("/etc/systemd/system/{service}.service.d/50-impatient.conf");
        node.write_file(&drop_in, IMPATIENT.as_bytes(), 0o644)?;
        node.run(&["systemctl", "daemon-reload"])?;
        node.run(&["systemctl", "restart", service])?;
    }
    wavegate.wait_online()?;
    wavegate.cli(&["plan", "--parameters", SITE_FILE])?;
    wavegate.cli(&["start"])?;

    let node = fleet.node("compute-1");
    let script = in_the_transaction(node)?;
    let stands_still = |node: &wavegate_tests::lab::Node, service: &str| -> Result<()> {
        let before = node.unit(service)?.main_pid.with_context(|| format!("{service} does not run"))?;
        node.run(&["kill", "-STOP", &before.to_string()])?;
        wait_until(&format!("{service} to be started anew"), SOON, || {
            let now = node.unit(service)?;
            Ok((now.active == "active" && now.main_pid.is_some_and(|pid| pid != before)).then_some(()))
        })?;
        let log = node.run(&["journalctl", "--no-pager", "--unit", service])?;
        ensure!(log.contains("Watchdog timeout"), "it was not systemd's watchdog:\n{log}");
        Ok(())
    };
    stands_still(node, AGENT)?;
    let runs = node.output(&["test", "-d", &format!("/proc/{script}")])?.status.success();
    ensure!(runs, "the package's script was ended with the agent");
    stands_still(wavegate.coordinator(), Package::Coordinator.name())?;

    wavegate.wait_status("finished", UPGRADE)?;
    let changes = journal::changes(node)?;
    ensure!(changes.values().all(|times| *times == 1), "{changes:?}");
    packages_changed_once(node)?;
    packages_are_whole(node)?;
    fleet.tear_down()
}
