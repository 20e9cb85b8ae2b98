//! The lab is what it claims to be: real hosts, in the state an upgrade starts from, that can be broken and ended.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use wavegate_tests::lab::wait::wait_for;
use wavegate_tests::lab::{Family, Fleet, FleetSpec, FleetState, Front, Lab, Node, Role, wait_until};
use wavegate_tests::writer::{Api, Writer, read_and_watch};

const SOON: Duration = Duration::from_secs(30);
const INSTALL: [&str; 6] = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install"];

#[test]
fn the_standard_fleet_is_the_one_an_upgrade_starts_from() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let fleet = Fleet::boot(&lab, FleetSpec::standard("hosts"))?;
    let state = fleet.state()?;
    for node in fleet.nodes() {
        assert_eq!(node.run(&["systemctl", "is-system-running"])?.trim(), "running", "{}", node.name());
        assert_eq!(node.run(&["hostname"])?.trim(), node.name());
        assert_eq!(node.run(&["systemctl", "--failed", "-q"])?, "", "{}", node.name());
    }
    etcd_is_old_and_whole(&fleet)?;
    for node in fleet.nodes().iter().filter(|node| node.role() == Role::Compute) {
        compute_is_old_and_serves(&fleet, node).with_context(|| node.name().to_owned())?;
    }
    for node in fleet.nodes().iter().filter(|node| node.role() == Role::Control) {
        let answer = wait_until("neutron-server to answer", SOON, || {
            node.run(&["curl", "-sfi", "http://localhost:9696/"]).map(Some)
        })?;
        let plugin = format!("X-Networking-Calico: {}", fleet.manifest.networking_calico.old);
        ensure!(answer.contains("200 OK") && answer.contains(&plugin), "{}: {answer}", node.name());
    }
    archives_are_served(&fleet)?;
    a_newer_dnsmasq_replaces_the_file_under_the_running_ones(&fleet)?;

    let dir = lab.dir.join("fleets/hosts");
    fleet.tear_down()?;
    nothing_is_left(&state, &dir)
}

#[test]
fn a_node_that_loses_power_keeps_its_disk_and_one_that_reboots_comes_back() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let fleet = Fleet::boot(&lab, FleetSpec::new("power").with(Role::Compute, Family::Apt))?;
    let node = fleet.node("compute-1");
    node.write_file("/var/lib/some/where", b"kept\n", 0o640)?;
    assert_eq!(node.run(&["stat", "-c", "%a", "/var/lib/some/where"])?.trim(), "640");
    let machine = node.read_file("/etc/machine-id")?;

    node.power_cut()?;
    assert!(!node.is_up());
    assert!(node.run(&["true"]).is_err(), "a node that is off runs nothing");
    node.power_on()?;
    node.wait_running(SOON)?;
    assert_eq!(node.read_file("/var/lib/some/where")?, "kept\n");
    assert_eq!(node.read_file("/etc/machine-id")?, machine);

    let before = node.leader_pid()?;
    node.reboot()?;
    assert_ne!(node.leader_pid()?, before);
    assert_eq!(node.read_file("/var/lib/some/where")?, "kept\n");
    wait_for("dnsmasqs after a reboot", SOON, || node.dnsmasqs(), |found| found.len() == 3)?;
    Ok(())
}

#[test]
fn a_node_whose_cable_is_cut_reaches_nobody_until_it_is_plugged_in() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let fleet = Fleet::boot(&lab, FleetSpec::new("cable").with(Role::Bare, Family::Apt))?;
    let node = fleet.node("bare-1");
    let reach =
        || node.output(&["curl", "-sf", "-m", "1", "http://deploy-1/"]).map(|out| out.status.success());
    wait_for("the repository to answer", SOON, reach, |reached| *reached)?;
    node.cut_link()?;
    assert!(!reach()?);
    node.restore_link()?;
    wait_for("the repository to answer again", SOON, reach, |reached| *reached)?;
    Ok(())
}

#[test]
fn etcd_is_written_read_and_watched_through_members_a_proxy_and_a_gateway() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let spec = FleetSpec::new("fronts")
        .with(Role::Etcd, Family::Apt)
        .with_fronted_compute(Front::Proxy)
        .with_fronted_compute(Front::Gateway);
    let fleet = Fleet::boot(&lab, spec)?;
    let member = format!("http://{}:2379", fleet.node("etcd-1").address());
    let local = "http://127.0.0.1:2379";
    // A proxy that found no member when it started tries again after 5 s.
    let places = [
        (fleet.network()?, Api::V2, member.as_str()),
        (fleet.network()?, Api::V3, member.as_str()),
        (fleet.node("compute-1").network()?, Api::V2, local),
        (fleet.node("compute-2").network()?, Api::V3, local),
    ];
    for (network, api, url) in places {
        let what = format!("{url} to be written and watched by {api:?}");
        wait_until(&what, SOON, || read_and_watch(&network, api, url).map(Some))?;
    }
    for compute in ["compute-1", "compute-2"] {
        let status = format!("{member}/v2/keys/calico/felix/v1/host/{compute}/status");
        wait_until(&format!("Felix on {compute} to report"), SOON, || {
            fleet.node("etcd-1").run(&["curl", "-sf", &status]).map(Some)
        })?;
    }
    for api in [Api::V2, Api::V3] {
        let writer = Writer::start(&fleet.network()?, api, std::slice::from_ref(&member), "/written");
        wait_until("writes to be acknowledged", SOON, || Ok((writer.count() > 20).then_some(())))?;
        let written = writer.finish()?;
        println!("{}", written.summary()?);
        written.must_all_be_there()?;
        let key = "/written/00000007";
        let (delete, version) = match api {
            Api::V2 => (["etcdctl", "rm", key], "ETCDCTL_API=2"),
            Api::V3 => (["etcdctl", "del", key], "ETCDCTL_API=3"),
        };
        fleet.node("etcd-1").run(&[&["env", version], &delete[..]].concat())?;
        let lost = written.must_all_be_there().expect_err("a write that is gone is not noticed");
        ensure!(lost.to_string().contains("1 acknowledged writes are gone: [7]"), "{lost:#}");
    }
    fleet.tear_down()
}

#[test]
fn an_rpm_node_can_be_an_etcd_member_from_a_release_archive() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let spec = FleetSpec::new("archive").with(Role::Etcd, Family::Rpm).with(Role::Bare, Family::Rpm);
    let fleet = Fleet::boot(&lab, spec)?;
    let version = || fleet.node("bare-1").run(&["curl", "-sf", "http://etcd-1:2379/version"]);
    let upstream = |version: &str| version.split(['-', '+']).next().unwrap_or_default().to_owned();
    let answers = |wanted: &str| {
        let wanted = format!("\"etcdserver\":\"{}\"", upstream(wanted));
        wait_for("etcd's version", SOON, version, |answer| answer.contains(&wanted))
    };
    answers(&fleet.manifest.etcd.old)?;
    let url = &fleet.manifest.etcd_archive.url;
    let node = fleet.node("etcd-1");
    node.run(&["systemctl", "stop", "etcd"])?;
    node.shell(&format!("curl -sf {url} | tar -xz -C /usr/local/bin --strip-components=1 --no-same-owner"))?;
    node.run(&["systemctl", "start", "etcd"])?;
    answers(&fleet.manifest.etcd.new)?;
    Ok(())
}

#[test]
fn packages_can_be_broken_slowed_and_mended_while_the_fleet_runs() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let spec = FleetSpec::new("faults").with(Role::Compute, Family::Apt).with(Role::Compute, Family::Rpm);
    let fleet = Fleet::boot(&lab, spec)?;
    let (apt, rpm) = (fleet.node("compute-1"), fleet.node("compute-2"));
    let status = || apt.run(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "calico-felix"]);
    let new = &fleet.manifest.calico.new;

    fleet.publish_refusing("calico-felix")?;
    assert!(upgrade(apt, "calico-felix").is_err());
    assert_eq!(status()?, format!("installed {}", fleet.manifest.calico.old));

    fleet.publish_broken("calico-felix")?;
    assert!(upgrade(apt, "calico-felix").is_err());
    assert_eq!(status()?, format!("half-configured {new}"));

    fleet.mend("calico-felix")?;
    upgrade(apt, "calico-felix")?;
    assert_eq!(status()?, format!("installed {new}+mended1"));
    assert_eq!(apt.run(&["calico-felix", "--version"])?.trim(), new);

    fleet.publish_slow("networking-calico", 3)?;
    apt.run(&["apt-get", "-q", "update"])?;
    let mut slow = apt.spawn(&[&INSTALL[..], &["networking-calico"]].concat())?;
    wait_until("the slow package to be half-configured", SOON, || {
        let state = apt.run(&["dpkg-query", "-W", "-f", "${db:Status-Status}", "networking-calico"])?;
        Ok((state == "half-configured").then_some(()))
    })?;
    ensure!(slow.wait()?.success(), "the slow package is a good one");

    fleet.publish_broken_rpm()?;
    assert!(rpm.run(&["dnf", "-y", "update", "calico-felix"]).is_err());
    assert_eq!(rpm.packages()?.get("calico-felix"), Some(&format!("{}-1", fleet.manifest.calico.old)));
    fleet.mend_rpm("calico-felix")?;
    rpm.run(&["dnf", "-y", "update", "calico-felix"])?;
    assert_eq!(rpm.packages()?.get("calico-felix"), Some(&format!("{new}-1")));
    Ok(())
}

#[test]
fn what_a_killed_run_left_is_ended_by_the_next() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let dir = lab.dir.join("fleets/orphan");
    let mut run = Command::new(env!("CARGO_BIN_EXE_lab")).args(["up", "--name", "orphan"]).spawn()?;
    // Other fleets may have to end first.
    let state = wait_until("a node of the fleet to run", SOON * 30, || {
        let state = FleetState::read(&dir)?.context("no record yet")?;
        Ok((!state.nspawn.is_empty()).then_some(state))
    })?;
    run.kill()?;
    run.wait()?;
    Lab::prepare()?;
    nothing_is_left(&state, &dir)
}

fn etcd_is_old_and_whole(fleet: &Fleet) -> Result<()> {
    let health = fleet
        .node("etcd-1")
        .run(&["env", "ETCDCTL_API=2", "etcdctl", "cluster-health"])
        .context("cluster-health")?;
    assert_eq!(health.matches("is healthy: got healthy result").count(), 3, "{health}");
    for name in ["etcd-1", "etcd-2", "etcd-3"] {
        let node = fleet.node(name);
        assert_eq!(node.packages()?.get("etcd-server"), Some(&fleet.manifest.etcd.old));
        let upstream = fleet.manifest.etcd.old.split(['-', '+']).next().context("a version")?;
        let answer = node.run(&["curl", "-sf", "http://localhost:2379/version"])?;
        ensure!(answer.contains(&format!("\"etcdserver\":\"{upstream}\"")), "{name}: {answer}");
    }
    Ok(())
}

fn compute_is_old_and_serves(fleet: &Fleet, node: &Node) -> Result<()> {
    let manifest = &fleet.manifest;
    let dnsmasqs = wait_for("three dnsmasqs", SOON, || node.dnsmasqs(), |found| found.len() == 3)?;
    assert_eq!(dnsmasqs.iter().filter(|dnsmasq| dnsmasq.neutron).count(), 2);
    assert!(dnsmasqs.iter().all(|dnsmasq| dnsmasq.exe_is_file_on_disk));

    assert_eq!(node.run(&["calico-felix", "--version"])?.trim(), manifest.calico.old);
    for unit in ["calico-felix", "neutron-dhcp-agent"] {
        let state = node.unit(unit)?;
        assert_eq!((state.active.as_str(), state.enabled.as_str()), ("active", "enabled"), "{unit}");
        assert!(state.main_pid.is_some() && state.started.is_some());
    }
    assert_eq!(node.unit("calico-dhcp-agent")?.load, "not-found");
    assert!(!node.packages()?.contains_key("calico-dhcp-agent"));

    let url = format!("http://etcd-1:2379/v2/keys/calico/felix/v1/host/{}/status", node.name());
    let status = wait_until("Felix's status in etcd", SOON, || node.run(&["curl", "-sf", &url]).map(Some))?;
    ensure!(status.contains("uptime") && status.contains("\"ttl\""), "{status}");

    let location =
        node.run(&["python3", "-c", "import networking_calico as n; print(n.__file__, n.__version__)"])?;
    let by_pip = ["compute-1", "compute-3"].contains(&node.name());
    assert_eq!(location.starts_with("/usr/local/"), by_pip, "{location}");
    ensure!(node.shell("ip route | grep -c 'dev tap'")?.trim() == "1");
    for from in [node, fleet.node("control-1")] {
        let vm = fleet.vm_address(node.name())?;
        wait_until("the VM to answer", SOON, || from.run(&["ping", "-c1", "-W1", &vm]).map(Some))?;
    }
    let tools = node.shell("command -v apt-get; command -v dpkg; command -v rpm; command -v dnf; true")?;
    match node.family() {
        Family::Apt => {
            ensure!(tools.lines().collect::<Vec<_>>() == ["/usr/bin/apt-get", "/usr/bin/dpkg"], "{tools}")
        }
        Family::Rpm => {
            ensure!(tools.lines().collect::<Vec<_>>() == ["/usr/bin/rpm", "/usr/bin/dnf"], "{tools}")
        }
    }
    Ok(())
}

fn archives_are_served(fleet: &Fleet) -> Result<()> {
    let node = fleet.node("compute-3");
    for archive in [&fleet.manifest.python_etcd_archive, &fleet.manifest.etcd_archive] {
        let sum = node.shell(&format!("curl -sf {} | sha256sum", archive.url))?;
        assert_eq!(sum.split(' ').next(), Some(archive.sha256.as_str()), "{}", archive.url);
    }
    Ok(())
}

fn a_newer_dnsmasq_replaces_the_file_under_the_running_ones(fleet: &Fleet) -> Result<()> {
    let (apt, rpm) = (fleet.node("compute-1"), fleet.node("compute-3"));
    let before = (apt.dnsmasqs()?, rpm.dnsmasqs()?);
    upgrade(apt, "dnsmasq-base")?;
    rpm.run(&["dnf", "-y", "update", "dnsmasq"])?;
    assert_eq!(apt.packages()?.get("dnsmasq-base"), Some(&fleet.manifest.dnsmasq.new));
    assert_eq!(rpm.packages()?.get("dnsmasq"), Some(&fleet.manifest.dnsmasq_rpm.new));
    for (node, before) in [(apt, before.0), (rpm, before.1)] {
        let after = node.dnsmasqs()?;
        assert_eq!(
            after.iter().map(|one| one.pid).collect::<Vec<_>>(),
            before.iter().map(|one| one.pid).collect::<Vec<_>>()
        );
        assert!(after.iter().all(|dnsmasq| !dnsmasq.exe_is_file_on_disk), "{}: {after:?}", node.name());
    }
    // The agent replaces one that is killed, by one that runs the file on disk.
    let killed = apt.dnsmasqs()?.into_iter().find(|one| one.neutron).context("a dnsmasq of Neutron's")?;
    apt.run(&["kill", "-9", &killed.pid.to_string()])?;
    let is_back = |found: &Vec<wavegate_tests::lab::Dnsmasq>| {
        found
            .iter()
            .any(|one| one.pid_file == killed.pid_file && one.pid != killed.pid && one.exe_is_file_on_disk)
    };
    wait_for("the agent to start another dnsmasq", SOON, || apt.dnsmasqs(), is_back)?;
    Ok(())
}

fn upgrade(node: &Node, package: &str) -> Result<String> {
    node.run(&["apt-get", "-q", "update"])?;
    node.run(&[&INSTALL[..], &[package]].concat())
}

/// No process, cgroup, mount, network namespace or directory of that fleet.
fn nothing_is_left(state: &FleetState, dir: &Path) -> Result<()> {
    let processes: Vec<i32> =
        state.nspawn.values().filter(|process| process.is_alive()).map(|process| process.pid).collect();
    ensure!(processes.is_empty(), "processes: {processes:?}");
    let netns = PathBuf::from("/run/netns").join(&state.netns);
    for path in state.cgroups.iter().chain([&netns, &dir.to_owned()]) {
        if path.exists() {
            bail!("{} is still there", path.display());
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(&dir.display().to_string()), "mounts: {mounts}");
    Ok(())
}
