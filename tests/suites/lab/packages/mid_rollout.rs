//! A deb and an rpm host through all that happens to wavegate's packages: installed, enrolled, upgraded in the middle of a
//! rollout, removed, installed again, removed, purged.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use wavegate_tests::deploy::packages::{purge, remove};
use wavegate_tests::deploy::{
    Package, Packages, SITE_FILE, UPGRADE, Wavegate, journal, start_where_the_family_does_not,
};
use wavegate_tests::evidence::{packages_are_whole, packages_changed_once};
use wavegate_tests::lab::{Family, Fleet, FleetSpec, Node, Role, System};
use wavegate_tests::members::now;

use super::{
    AGENT, agent_comes_online_by_itself, boot, coordinator_is_installed_and_set_up, inventory, is_there,
    left_since, revision, runs_what_is_installed,
};
use crate::faults::in_the_transaction;

/// How long the slow package's script takes, in seconds.
const SLOW: u32 = 8;
const EDITED: &str = "# edited on this host\n";
const AGENT_CONFIGURATION: &str = "/etc/wavegate/agent.toml";
const COORDINATOR_CONFIGURATION: &str = "/etc/wavegate/coordinator.toml";
const STORE: &str = "/var/lib/wavegate/coordinator";

#[test]
fn installed_enrolled_upgraded_in_mid_rollout_removed_and_purged() -> Result<()> {
    let spec =
        FleetSpec::new("packages").with(Role::Compute, System::Debian).with(Role::Compute, System::Rocky9);
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    fleet.publish_slow("calico-felix", SLOW)?;
    fleet.publish_slow_rpm("calico-felix", SLOW)?;
    let first = Packages::made()?;
    let second = first.later();
    let wavegate = Wavegate::on(&fleet);
    let before: BTreeMap<_, _> =
        fleet.nodes().iter().map(|node| Ok((node.name(), inventory(node)?))).collect::<Result<_>>()?;

    coordinator_is_installed_and_set_up(&first, &wavegate)?;
    for node in wavegate.managed() {
        agent_comes_online_by_itself(&first, &wavegate, node).with_context(|| node.name().to_owned())?;
        edit(node, AGENT_CONFIGURATION)?;
    }
    edit(wavegate.coordinator(), COORDINATOR_CONFIGURATION)?;

    wavegate.cli(&["plan", "--parameters", SITE_FILE])?;
    wavegate.cli(&["start"])?;
    let replaced = replaced_in_mid_rollout(&fleet, &wavegate, &second)?;
    let status = wavegate.wait_status("finished", UPGRADE)?;
    ensure!(status["generation"].as_u64() >= Some(2), "the coordinator was not restarted: {status}");
    the_rollout_saw_nothing_of_it(&wavegate, &replaced)?;

    for node in wavegate.managed() {
        what_is_removed_goes_on_when_it_is_back(&second, &wavegate, node)
            .with_context(|| node.name().to_owned())?;
    }
    wavegate.wait_online()?;
    let [apt, rpm] = ["compute-1", "compute-2"].map(|name| fleet.node(name));
    purge(Package::Agent, apt)?;
    nothing_of_ours(apt, &left_since(&before["compute-1"], apt)?, &[])?;
    remove(Package::Agent, rpm)?;
    // Also what a step of the rollout kept of a file that it changed.
    let kept = ["/etc/wavegate", "/var/lib/wavegate", "/etc/neutron/neutron.conf.wavegate-r1-"];
    nothing_of_ours(rpm, &left_since(&before["compute-2"], rpm)?, &kept)?;

    the_coordinator_goes_and_comes_and_goes(&second, &wavegate)?;
    let accounts = ["user wavegate", "group wavegate"];
    nothing_of_ours(
        wavegate.coordinator(),
        &left_since(&before["deploy-1"], wavegate.coordinator())?,
        &accounts,
    )?;
    fleet.tear_down()
}

fn edit(node: &Node, path: &str) -> Result<()> {
    let text = node.read_file(path)? + EDITED;
    node.write_file(path, text.as_bytes(), 0o644)
}

/// Upgrades each agent while its node's own transaction runs, the coordinator beside the first of them. Says when the last
/// of each was done.
fn replaced_in_mid_rollout(
    fleet: &Fleet,
    wavegate: &Wavegate<'_>,
    packages: &Packages,
) -> Result<BTreeMap<String, u64>> {
    let mut replaced = BTreeMap::new();
    for name in ["compute-1", "compute-2"] {
        let node = fleet.node(name);
        in_the_transaction(node)?;
        let (agent, coordinator) = (node.unit(AGENT)?.main_pid, wavegate.coordinator());
        std::thread::scope(|scope| {
            // It waits for the transaction's lock, and is in the middle of the task when it gets it.
            let upgrade = scope.spawn(|| packages.install(Package::Agent, node));
            if name == "compute-1" {
                let before = coordinator.unit(Package::Coordinator.name())?.main_pid;
                packages.install(Package::Coordinator, coordinator)?;
                runs_what_is_installed(coordinator, Package::Coordinator, before)?;
            }
            upgrade.join().map_err(|_| anyhow!("the test panicked"))?
        })?;
        replaced.insert(name.to_owned(), now() / 1000);
        runs_what_is_installed(node, Package::Agent, agent)?;
    }
    Ok(replaced)
}

/// Every step took effect once, by the nodes' journals and by the logs of their package managers; each agent was replaced before
/// its task had ended; what operators had edited is as they left it.
fn the_rollout_saw_nothing_of_it(wavegate: &Wavegate<'_>, replaced: &BTreeMap<String, u64>) -> Result<()> {
    for node in wavegate.managed() {
        let name = node.name();
        ensure!(revision(node, Package::Agent)? == "2", "{name}: {:?}", node.packages()?.get(AGENT));
        let changes = journal::changes(node)?;
        ensure!(changes.contains_key("compute/install-packages"), "{name}: {changes:?}");
        ensure!(changes.values().all(|times| *times == 1), "{name}: {changes:?}");
        packages_changed_once(node)?;
        packages_are_whole(node)?;
        let ended = journal::moments(node, "task_ended")?;
        let (_, ended) = ended.iter().find(|(stage, _)| stage == "compute").context("no end of its task")?;
        ensure!(replaced[name] < *ended, "{name}: replaced at {}, its task ended at {ended}", replaced[name]);
        kept_as_edited(node, AGENT_CONFIGURATION)?;
    }
    ensure!(revision(wavegate.coordinator(), Package::Coordinator)? == "2");
    kept_as_edited(wavegate.coordinator(), COORDINATOR_CONFIGURATION)
}

fn kept_as_edited(node: &Node, path: &str) -> Result<()> {
    ensure!(node.read_file(path)?.ends_with(EDITED), "{}: {path} is not as it was edited", node.name());
    let beside = node.shell(&format!("ls -d {path}.* 2>/dev/null || true"))?;
    ensure!(beside.is_empty(), "{}: {beside}", node.name());
    Ok(())
}

/// Removed, an agent leaves its configuration and its state; installed again, it goes on with them and is let in as it is.
fn what_is_removed_goes_on_when_it_is_back(
    packages: &Packages,
    wavegate: &Wavegate<'_>,
    node: &Node,
) -> Result<()> {
    let tasks = journal::records(node)?.len();
    let said = remove(Package::Agent, node)?;
    let unit = node.unit(AGENT)?;
    ensure!(unit.active == "inactive" && unit.load == "not-found", "after the removal: {unit:?}");
    ensure!(!is_there(node, "/usr/bin/wavegate-agent")?, "its program is still there");
    if node.family() == Family::Apt {
        kept_as_edited(node, AGENT_CONFIGURATION)?;
    }
    packages.install(Package::Agent, node)?;
    if node.family() == Family::Rpm {
        // rpm puts an edited file aside; its operator puts it back.
        ensure!(said.contains("agent.toml.rpmsave"), "rpm does not say where the edited file is: {said}");
        node.run(&["mv", &format!("{AGENT_CONFIGURATION}.rpmsave"), AGENT_CONFIGURATION])?;
    }
    start_where_the_family_does_not(Package::Agent, node)?;
    wavegate.wait_online()?;
    ensure!(journal::records(node)?.len() >= tasks, "its journal is another one");
    kept_as_edited(node, AGENT_CONFIGURATION)
}

/// Removed, the coordinator leaves its store; installed again, it goes on with it; purged, it takes it along.
fn the_coordinator_goes_and_comes_and_goes(packages: &Packages, wavegate: &Wavegate<'_>) -> Result<()> {
    let node = wavegate.coordinator();
    remove(Package::Coordinator, node)?;
    ensure!(node.unit(Package::Coordinator.name())?.active == "inactive");
    let owner = node.run(&["stat", "-c", "%U %a", STORE])?;
    ensure!(owner.trim() == "wavegate 700", "its store after the removal: {owner}");
    packages.install(Package::Coordinator, node)?;
    ensure!(wavegate.status()?["status"] == "finished", "it has forgotten the rollout");
    kept_as_edited(node, COORDINATOR_CONFIGURATION)?;
    // A file of the site's own: no package takes it along.
    node.run(&["rm", SITE_FILE])?;
    purge(Package::Coordinator, node).map(|_| ())
}

/// Nothing is left but what stands below these.
fn nothing_of_ours(node: &Node, left: &[String], allowed: &[&str]) -> Result<()> {
    // What the rollout brought is not wavegate's; the lab's own files carry its name too, and its newer dnsmasq.
    let ours = |path: &&String| {
        path.contains("wavegate") && !path.contains("wavegate-lab") && !path.contains("+wavegate1")
    };
    let below = |path: &&String| !allowed.iter().any(|allowed| path.starts_with(allowed));
    let unexpected: Vec<&String> = left.iter().filter(ours).filter(below).collect();
    ensure!(unexpected.is_empty(), "{}: left behind: {unexpected:#?}", node.name());
    Ok(())
}
