//! Storms over real hosts: coordinator and agents killed and cut off at random moments through whole upgrades, and two
//! coordinators at once. `WAVEGATE_STORM_ROUNDS` and `WAVEGATE_STORM_SEED` ask for more rounds, and for a storm that was.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use wavegate_tests::demo::{self, Snapshot};
use wavegate_tests::deploy::{PORT, SITE_FILE, SOON, UPGRADE, Wavegate, journal};
use wavegate_tests::evidence::{
    barrier_in_the_event_log, barrier_in_the_hosts_journals, packages_are_whole, packages_changed_once, tasks,
};
use wavegate_tests::lab::{Family, Fleet, FleetSpec, Lab, Role, wait_until};
use wavegate_tests::storm::{Blow, Storm};

/// Blows of a storm; it ends earlier when the rollout has finished.
const BLOWS: usize = 45;
/// A node is offline after 3 s of silence and lost after 4 more, so that some cuts are noticed, and in some nodes are lost.
const IMPATIENT: &str = "heartbeat_interval_s = 1\nlost_after_s = 4\n";

/// A number from the environment.
fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} is '{text}', not a number"))
}

#[test]
fn a_storm_changes_nothing_about_the_end_of_an_upgrade() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let first = number("WAVEGATE_STORM_SEED")?.unwrap_or(now);
    for round in 0..number("WAVEGATE_STORM_ROUNDS")?.unwrap_or(1) {
        let seed = first.wrapping_add(round);
        println!("storm: seed {seed} (again: make storm ROUNDS=1 SEED={seed})");
        one_storm(&lab, seed).with_context(|| format!("the storm of seed {seed}"))?;
    }
    Ok(())
}

fn one_storm(lab: &Lab, seed: u64) -> Result<()> {
    let fleet = Fleet::boot(lab, FleetSpec::standard("storm"))?;
    fleet.publish_slow("calico-felix", 4)?;
    fleet.publish_slow_rpm("calico-felix", 4)?;
    let wavegate = Wavegate::install(&fleet)?;
    let coordinator = wavegate.coordinator();
    wavegate.configure_coordinator("60-impatient", IMPATIENT)?;
    coordinator.run(&["systemctl", "restart", "wavegate-coordinator"])?;
    wavegate.wait_online()?;
    let vms = start_vms(&wavegate)?;
    let before = Snapshot::of_all(&wavegate)?;

    wavegate.start()?;
    let struck = Storm::new(&wavegate, seed).rage(BLOWS)?;
    let status = wavegate.wait_status("finished", UPGRADE)?;
    println!("storm: {struck:?}");
    for blow in [Blow::KillCoordinator, Blow::KillAgent, Blow::CutNode, Blow::CutCoordinator] {
        ensure!(struck.contains_key(&blow), "{blow:?} did not strike: {struck:?}");
    }
    // One that is killed again while it starts has not begun a generation.
    let (generation, killed) = (status["generation"].as_u64(), u64::from(struck[&Blow::KillCoordinator]));
    let expected = 3..=2 + killed;
    ensure!(
        generation.is_some_and(|g| expected.contains(&g)),
        "generation {generation:?}, killed {killed} times"
    );

    let after = Snapshot::of_all(&wavegate)?;
    demo::must_be_upgraded(&wavegate, &before, &after)?;
    let events = wavegate.events()?;
    barrier_in_the_event_log(&events, [8, 3, 2])?;
    barrier_in_the_hosts_journals(&wavegate)?;
    log_is_in_order(&events)?;
    for node in wavegate.managed() {
        for (step, times) in journal::changes(node)? {
            ensure!(times == 1, "{}: step {step} took effect {times} times", node.name());
        }
        packages_changed_once(node)?;
        packages_are_whole(node)?;
    }
    vms_are_untouched(&fleet, &wavegate, &vms)?;
    nothing_is_left_to_do(&wavegate)?;
    fleet.tear_down()
}

/// What a VM's processes are to a compute: not ours. Their pids, by node.
fn start_vms(wavegate: &Wavegate<'_>) -> Result<BTreeMap<String, i32>> {
    let mut vms = BTreeMap::new();
    for node in wavegate.managed().filter(|node| node.role() == Role::Compute) {
        node.shell("cp /bin/sleep /usr/local/bin/qemu-system-x86_64")?;
        node.run(&["systemd-run", "-q", "--unit=lab-qemu", "/usr/local/bin/qemu-system-x86_64", "infinity"])?;
        let pid = node.unit("lab-qemu")?.main_pid;
        vms.insert(node.name().to_owned(), pid.with_context(|| format!("no VM on {}", node.name()))?);
    }
    Ok(vms)
}

fn vms_are_untouched(fleet: &Fleet, wavegate: &Wavegate<'_>, vms: &BTreeMap<String, i32>) -> Result<()> {
    for (name, pid) in vms {
        let now = fleet.node(name).unit("lab-qemu")?.main_pid;
        ensure!(now == Some(*pid), "{name}: the VM's process {pid} is {now:?} now");
        let address = fleet.vm_address(name)?;
        wait_until(&format!("the VM of {name} to answer"), SOON, || {
            wavegate.coordinator().run(&["ping", "-c1", "-W1", &address]).map(Some)
        })?;
    }
    Ok(())
}

/// Every event has the next place in the log, and no earlier time than the one before it.
fn log_is_in_order(events: &[serde_json::Value]) -> Result<()> {
    for pair in events.windows(2) {
        let of = |what: &str| (pair[0][what].as_u64(), pair[1][what].as_u64());
        ensure!(of("seq").0.map(|seq| seq + 1) == of("seq").1, "out of place: {pair:?}");
        ensure!(of("at").0 <= of("at").1, "the time went back: {pair:?}");
        ensure!(of("generation").0 <= of("generation").1, "the generation went back: {pair:?}");
    }
    Ok(())
}

/// A calm upgrade afterwards finds every host as it would have left it.
fn nothing_is_left_to_do(wavegate: &Wavegate<'_>) -> Result<()> {
    wavegate.wait_online()?;
    let output = wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    ensure!(output.contains("Nothing was changed"), "a calm upgrade afterwards changed something:\n{output}");
    for task in tasks(&wavegate.status()?) {
        ensure!(task["changed"] == false, "a calm upgrade afterwards changed a node: {task}");
    }
    Ok(())
}

/// Where the second coordinator is, on the host of the first.
const SECOND_PORT: u16 = PORT + 1;
const SECOND_SOCKET: &str = "/run/second/operator.sock";

#[test]
fn of_two_coordinators_on_copies_of_a_store_one_gives_no_orders() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let spec = FleetSpec::new("twins")
        .with(Role::Etcd, Family::Apt)
        .with(Role::Compute, Family::Apt)
        .with(Role::Compute, Family::Rpm)
        .with(Role::Control, Family::Apt);
    let fleet = Fleet::boot(&lab, spec)?;
    fleet.publish_slow("calico-felix", 6)?;
    let first = Wavegate::install(&fleet)?;
    let before = Snapshot::of_all(&first)?;
    first.start()?;
    wait_until("the canary of stage compute to be worked on", UPGRADE, || {
        let at_work = |task: &serde_json::Value| task["node"] == "compute-1" && task["state"] == "applying";
        Ok(tasks(&first.status()?).iter().any(at_work).then_some(()))
    })?;

    // Both begin the same generation; every node has met the first one when its agent comes to the second.
    let host = first.coordinator();
    host.run(&["systemctl", "stop", "wavegate-coordinator"])?;
    copy_the_store(&first)?;
    host.run(&["systemctl", "start", "wavegate-coordinator"])?;
    first.wait_online()?;
    start_second(&first)?;
    let second = first.by_socket(SECOND_SOCKET);
    let copied = given_out(&second)?;
    move_agents(&first, SECOND_PORT)?;
    let why =
        wait_until("the second coordinator to find that it is the second", SOON, || superseded(&second))?;
    println!("{why}");
    ensure!(why.contains("another coordinator (generation 2, leader "), "{why}");
    ensure!(why.contains("raise-generation --above 2"), "it does not say what to do:\n{why}");
    for node in first.managed() {
        wait_until(&format!("{} to refuse the second coordinator", node.name()), SOON, || {
            let log = node.run(&["journalctl", "-u", "wavegate-agent", "--no-pager"])?;
            Ok(log.contains("two coordinators work on copies of one store").then_some(()))
        })?;
    }
    ensure!(given_out(&second)? == copied, "it gave orders: {copied:?} -> {:?}", given_out(&second)?);

    // An operator decides for the second: its next start begins a higher generation, and the nodes go on with it.
    let given = given_out(&first)?;
    host.run(&["systemctl", "stop", "wavegate-coordinator"])?;
    host.run(&["systemctl", "restart", "second"])?;
    second.wait_status("finished", UPGRADE)?;
    let after = Snapshot::of_all(&second)?;
    demo::must_be_upgraded(&second, &before, &after)?;
    barrier_in_the_event_log(&second.events()?, [4, 2, 1])?;
    barrier_in_the_hosts_journals(&second)?;
    for node in second.managed() {
        for (step, times) in journal::changes(node)? {
            ensure!(times == 1, "{}: step {step} took effect {times} times", node.name());
        }
        packages_changed_once(node)?;
    }

    // The first one comes back, with work that was done since; it learns whom the nodes obey, and gives none of it out.
    host.run(&["systemctl", "start", "wavegate-coordinator"])?;
    move_agents(&first, PORT)?;
    let why = wait_until("the first coordinator to find that it was replaced", SOON, || superseded(&first))?;
    ensure!(why.contains("another coordinator (generation 3, leader "), "{why}");
    ensure!(given_out(&first)? == given, "it gave orders: {given:?} -> {:?}", given_out(&first)?);
    fleet.tear_down()
}

fn copy_the_store(first: &Wavegate<'_>) -> Result<()> {
    let configuration = format!(
        "listen = \"0.0.0.0:{SECOND_PORT}\"\nsocket = \"{SECOND_SOCKET}\"\nstate_directory = \"/var/lib/wavegate/second\"\n"
    );
    let host = first.coordinator();
    host.write_file("/etc/wavegate/second.toml", configuration.as_bytes(), 0o644)?;
    host.run(&["cp", "-a", "/var/lib/wavegate/coordinator", "/var/lib/wavegate/second"]).map(|_| ())
}

fn start_second(first: &Wavegate<'_>) -> Result<()> {
    let unit = "[Service]\nType=notify\nUser=wavegate\nRuntimeDirectory=second\n\
        ExecStart=/usr/bin/wavegate-coordinator run --config /etc/wavegate/second.toml\n";
    let host = first.coordinator();
    host.write_file("/etc/systemd/system/second.service", unit.as_bytes(), 0o644)?;
    host.run(&["systemctl", "daemon-reload"])?;
    host.run(&["systemctl", "start", "second"]).map(|_| ())
}

/// Has every agent dial that port of the coordinator's host from now on.
fn move_agents(wavegate: &Wavegate<'_>, port: u16) -> Result<()> {
    for node in wavegate.managed() {
        wavegate.dial(node, port)?;
        node.run(&["systemctl", "restart", "wavegate-agent"])?;
    }
    Ok(())
}

/// What `wavegate why` says, once it says that another coordinator works with the nodes.
fn superseded(wavegate: &Wavegate<'_>) -> Result<Option<String>> {
    let why = wavegate.cli(&["why"])?;
    if why.contains("gives no orders until") {
        return Ok(Some(why));
    }
    bail!("{why}")
}

/// The nodes of the tasks that were given out, in order.
fn given_out(wavegate: &Wavegate<'_>) -> Result<Vec<String>> {
    let events = wavegate.events()?;
    let started = events.iter().filter(|event| event["event"] == "task_started");
    Ok(started.filter_map(|event| event["node"].as_str().map(str::to_owned)).collect())
}
