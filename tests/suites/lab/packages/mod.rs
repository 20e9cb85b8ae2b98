//! Wavegate's own packages on real hosts, by the package managers that operators have. What runs meanwhile is an upgrade as in the
//! other suites.

mod every_system;
mod mid_rollout;
mod old_kernel;
mod own_upgrade;
mod removal;
mod watchdog;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use wavegate_tests::deploy::{Package, Packages, SOON, TOKEN_FILE, Wavegate};
use wavegate_tests::lab::{Fleet, FleetSpec, Lab, Node, wait_until};

const AGENT: &str = Package::Agent.name();

fn boot(spec: FleetSpec) -> Result<Option<Fleet>> {
    let Some(lab) = Lab::for_suite()? else { return Ok(None) };
    Fleet::boot(&lab, spec).map(Some)
}

/// The coordinator, installed: it has nothing to run before it is set up, which is no failure. Then it is set up.
fn coordinator_is_installed_and_set_up(packages: &Packages, wavegate: &Wavegate<'_>) -> Result<()> {
    let node = wavegate.coordinator();
    packages.install(Package::Coordinator, node)?;
    let unit = node.unit(Package::Coordinator.name())?;
    ensure!(unit.active == "inactive" && unit.enabled == "enabled", "before `wavegate init`: {unit:?}");
    wavegate.set_up_coordinator()
}

/// The agent, installed before anything else is known: it waits for each thing that it needs, says which, and needs nobody to
/// start it again. Its token is in a file, which is gone once it has served.
fn agent_comes_online_by_itself(packages: &Packages, wavegate: &Wavegate<'_>, node: &Node) -> Result<()> {
    packages.install(Package::Agent, node)?;
    wavegate_tests::deploy::start_where_the_family_does_not(Package::Agent, node)?;
    waits_for(node, "waiting for the coordinator's address")?;
    let pid = node.unit(AGENT)?.main_pid;
    wavegate.configure_agent(node)?;
    waits_for(
        node,
        &format!("waiting for a join token (`wavegate token create` on the coordinator) in {TOKEN_FILE}"),
    )?;
    wavegate.drop_token(node)?;
    wait_until(&format!("{} to be online", node.name()), SOON, || {
        let nodes = wavegate.json(&["nodes"])?;
        let found = nodes.as_array().into_iter().flatten().find(|found| found["node"] == node.name());
        if found.is_some_and(|found| found["link"]["link"] == "online") {
            return Ok(Some(()));
        }
        bail!("{nodes}")
    })?;
    ensure!(!is_there(node, TOKEN_FILE)?, "the token that has served is still there");
    ensure!(node.unit(AGENT)?.main_pid == pid, "somebody had to start the agent again");
    Ok(())
}

/// Waits until the agent runs and says that it waits for that.
fn waits_for(node: &Node, words: &str) -> Result<()> {
    wait_until(&format!("the agent of {} to say '{words}'", node.name()), SOON, || {
        let unit = node.unit(AGENT)?;
        let said = if node.system().has_upstart() {
            node.journal(Some(AGENT), 5)?
        } else {
            node.run(&["systemctl", "show", "--property=StatusText", AGENT])?
        };
        if unit.active == "active" && said.contains(words) {
            return Ok(Some(()));
        }
        bail!("{unit:?}: {said}")
    })
}

fn is_there(node: &Node, path: &str) -> Result<bool> {
    Ok(node.output(&["test", "-e", path])?.status.success())
}

/// Every file, user and group of a host that a package could have brought.
fn inventory(node: &Node) -> Result<BTreeSet<String>> {
    let files = node.shell("find /etc /usr /var /run /root /tmp /opt -xdev")?;
    let accounts =
        node.shell("getent passwd | sed 's/:.*//; s/^/user /'; getent group | sed 's/:.*//; s/^/group /'")?;
    Ok(files.lines().chain(accounts.lines()).map(str::to_owned).collect())
}

/// What others write in passing: package managers, systemd, whoever logs.
const PASSING: [&str; 11] = [
    "/var/cache/",
    "/var/log/",
    "/var/lib/apt/",
    "/var/lib/dnf/",
    "/var/lib/dpkg/",
    "/var/lib/rpm/",
    "/var/lib/systemd/",
    "/var/lib/yum/",
    "/run/",
    "/tmp/",
    "/etc/.",
];

/// What is there now and was not before, without what others write in passing and does not carry wavegate's name.
fn left_since(before: &BTreeSet<String>, node: &Node) -> Result<Vec<String>> {
    let ours =
        |path: &str| path.contains("wavegate") || !PASSING.iter().any(|others| path.starts_with(others));
    Ok(inventory(node)?.difference(before).filter(|path| ours(path)).cloned().collect())
}

/// The installed revision of the agent's or the coordinator's package.
fn revision(node: &Node, package: Package) -> Result<String> {
    let packages = node.packages()?;
    let version =
        packages.get(package.name()).with_context(|| format!("{} is not installed", package.name()))?;
    Ok(version.rsplit('-').next().unwrap_or_default().to_owned())
}

/// A service's main process is another one than that, and runs the file that is installed now.
fn runs_what_is_installed(node: &Node, package: Package, before: Option<i32>) -> Result<()> {
    wait_until(&format!("{} on {} to run what is installed", package.name(), node.name()), SOON, || {
        let unit = node.unit(package.name())?;
        let pid = unit.main_pid.context("it does not run")?;
        let process = node.process(pid)?.context("it has just ended")?;
        if unit.active == "active" && Some(pid) != before && process.exe_is_file_on_disk {
            return Ok(Some(()));
        }
        bail!("{unit:?}, {process:?}, before {before:?}")
    })
}
