//! Whole upgrades of a fleet that has every platform of the procedure: Debian with systemd, Ubuntu 14.04 with upstart,
//! CentOS 7 with yum, Rocky 9 with dnf. What of these is a stand-in: tests/lab/README.md.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use wavegate_tests::demo::{self, Snapshot};
use wavegate_tests::deploy::{POLICY_FILE, SITE_FILE, SOON, Wavegate, journal};
use wavegate_tests::evidence::{
    barrier_in_the_event_log, barrier_in_the_hosts_journals, packages_are_whole, packages_changed_once,
    same_processes, tasks,
};
use wavegate_tests::lab::{Family, Fleet, FleetSpec, Lab, Node, Role, System, wait_until};

const SYSTEMS: [System; 4] = [System::Debian, System::Trusty, System::Centos7, System::Rocky9];

fn boot(spec: FleetSpec) -> Result<Option<Fleet>> {
    let Some(lab) = Lab::for_suite()? else { return Ok(None) };
    Fleet::boot(&lab, spec).map(Some)
}

/// compute-1 and control-1 are Debian's, 2 Ubuntu 14.04's, 3 CentOS 7's and 4 Rocky 9's; etcd-3 has etcd from a release
/// archive.
fn every_platform(name: &str) -> FleetSpec {
    let mut spec = FleetSpec::new(name)
        .with(Role::Etcd, System::Debian)
        .with(Role::Etcd, System::Trusty)
        .with(Role::Etcd, System::Centos7);
    for system in SYSTEMS {
        spec = spec.with_pip_compute(system).with(Role::Control, system);
    }
    spec
}

#[test]
fn every_platform_goes_through_all_stages() -> Result<()> {
    let Some(fleet) = boot(every_platform("platforms"))? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    platforms_are_told(&wavegate)?;
    let before = Snapshot::of_all(&wavegate)?;
    let neutron_conf = edit_what_operators_edit(&wavegate)?;
    let output = wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    let after = Snapshot::of_all(&wavegate)?;

    etcd_is_new(&fleet)?;
    demo::must_be_upgraded(&wavegate, &before, &after)?;
    barrier_in_the_event_log(&wavegate.events()?, [11, 4, 4])?;
    barrier_in_the_hosts_journals(&wavegate)?;
    for node in wavegate.managed().filter(|node| node.name() != "etcd-3") {
        packages_changed_once(node)?;
        packages_are_whole(node)?;
    }
    for node in wavegate.managed().filter(|node| node.role() == Role::Compute) {
        compute_is_as_the_procedure_says(&fleet, node, &after[node.name()])
            .with_context(|| node.name().to_owned())?;
        the_operators_files_are_kept(node, &neutron_conf).with_context(|| node.name().to_owned())?;
    }
    ensure!(output.contains("felix.cfg.example.dpkg-dist"), "the kept file is not reported:\n{output}");
    ensure!(output.contains("neutron.conf.rpmnew"), "the kept file is not reported:\n{output}");
    controls_answer_with_the_new_plugin(&fleet, &wavegate)?;

    let output = wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    ensure!(output.contains("Nothing was changed"), "the second upgrade changed something:\n{output}");
    for task in tasks(&wavegate.status()?) {
        ensure!(task["changed"] == false, "the second upgrade changed a node: {task}");
    }
    for (node, again) in Snapshot::of_all(&wavegate)? {
        ensure!(same_processes(&after[&node], &again), "{node}: {:?} -> {again:?}", after[&node]);
    }
    for node in ["compute-2", "compute-3"] {
        the_old_agent_stays_down_over_a_reboot(fleet.node(node))?;
    }
    fleet.tear_down()
}

/// By the facts that agents observe.
fn platforms_are_told(wavegate: &Wavegate<'_>) -> Result<()> {
    let nodes = wavegate.json(&["nodes"])?;
    for node in wavegate.managed() {
        let wanted = match node.system() {
            System::Debian => ["apt", "systemd"],
            System::Trusty => ["apt", "upstart"],
            System::Rocky9 => ["dnf", "systemd"],
            System::Centos7 => ["yum", "systemd"],
        };
        let found = nodes.as_array().into_iter().flatten().find(|found| found["node"] == node.name());
        let platform = &found.with_context(|| format!("{} is not in {nodes}", node.name()))?["platform"];
        let told = [&platform["package_manager"], &platform["service_manager"]];
        ensure!(told[0] == wanted[0] && told[1] == wanted[1], "{}: {platform}", node.name());
    }
    Ok(())
}

/// A comment in a configuration file of which the new package has another version: felix.cfg.example of the debs,
/// neutron.conf of the rpms. Returns neutron.conf as it is then.
fn edit_what_operators_edit(wavegate: &Wavegate<'_>) -> Result<String> {
    let mut neutron_conf = String::new();
    for node in wavegate.managed().filter(|node| node.role() == Role::Compute) {
        let path = match node.family() {
            Family::Apt => "/etc/calico/felix.cfg.example",
            Family::Rpm => "/etc/neutron/neutron.conf",
        };
        let text = node.read_file(path)? + "# edited on this host\n";
        node.write_file(path, text.as_bytes(), 0o640)?;
        neutron_conf = text;
    }
    Ok(neutron_conf)
}

fn the_operators_files_are_kept(node: &Node, neutron_conf: &str) -> Result<()> {
    match node.family() {
        Family::Apt => {
            let kept = node.read_file("/etc/calico/felix.cfg.example")?;
            ensure!(kept.ends_with("# edited on this host\n"), "the operator's file is gone: {kept}");
            let new = node.read_file("/etc/calico/felix.cfg.example.dpkg-dist")?;
            ensure!(new.contains("HealthEnabled"), "not the new package's file: {new}");
        }
        Family::Rpm => {
            let kept = node.read_file("/etc/neutron/neutron.conf")?;
            let without = |text: &str| {
                let lines = text.lines().filter(|line| !line.contains("lock_path"));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            ensure!(without(&kept) == without(neutron_conf), "more than lock_path is different: {kept}");
            let new = node.read_file("/etc/neutron/neutron.conf.rpmnew")?;
            ensure!(new.contains("quota_floatingip"), "not the new package's file: {new}");
            ensure!(
                node.run(&["stat", "-c", "%a", "/etc/neutron/neutron.conf"])?.trim() == "640",
                "another mode"
            );
        }
    }
    Ok(())
}

fn etcd_is_new(fleet: &Fleet) -> Result<()> {
    let upstream = fleet.manifest.etcd.new.split(['-', '+']).next().unwrap_or_default().to_owned();
    for name in ["etcd-1", "etcd-2", "etcd-3"] {
        let answer = fleet.node(name).run(&["curl", "-sf", "http://localhost:2379/version"])?;
        ensure!(answer.contains(&format!("\"etcdserver\":\"{upstream}\"")), "{name}: {answer}");
    }
    let health = fleet.node("etcd-1").run(&["env", "ETCDCTL_API=2", "etcdctl", "cluster-health"])?;
    ensure!(health.matches("is healthy: got healthy result").count() == 3, "{health}");
    Ok(())
}

fn compute_is_as_the_procedure_says(fleet: &Fleet, node: &Node, after: &Snapshot) -> Result<()> {
    let felix = &fleet.manifest.calico.new;
    ensure!(after.packages["calico-felix"].starts_with(felix.as_str()), "{:?}", after.packages);
    ensure!(node.run(&["calico-felix", "--version"])?.trim() == felix, "another Felix answers");
    ensure!(after.dhcp_agents == ["calico-dhcp-agent"], "{:?}", after.dhcp_agents);
    let lock_path = (node.family() == Family::Rpm).then_some("lock_path = $state_path/lock");
    ensure!(after.lock_path.as_deref() == lock_path, "{:?}", after.lock_path);
    let python =
        node.run(&["python3", "-c", "import networking_calico as n; print(n.__file__, n.__version__)"])?;
    ensure!(!python.starts_with("/usr/local"), "pip's networking-calico is still there: {python}");
    ensure!(python.trim().ends_with(&fleet.manifest.networking_calico.new), "{python}");
    if node.system() == System::Trusty {
        let override_file = node.read_file("/etc/init/neutron-dhcp-agent.override")?;
        ensure!(override_file.lines().any(|line| line == "manual"), "{override_file}");
    }
    Ok(())
}

fn controls_answer_with_the_new_plugin(fleet: &Fleet, wavegate: &Wavegate<'_>) -> Result<()> {
    let plugin = format!("X-Networking-Calico: {}", fleet.manifest.networking_calico.new);
    for node in wavegate.managed().filter(|node| node.role() == Role::Control) {
        let answer = node.run(&["curl", "-sfi", "http://localhost:9696/"])?;
        ensure!(answer.contains(&plugin), "{}: {answer}", node.name());
    }
    Ok(())
}

fn the_old_agent_stays_down_over_a_reboot(node: &Node) -> Result<()> {
    node.reboot()?;
    wait_until("the Calico DHCP agent to be up after the reboot", SOON, || {
        Ok((node.unit("calico-dhcp-agent")?.active == "active").then_some(()))
    })?;
    let old = node.unit("neutron-dhcp-agent")?;
    ensure!(old.active == "inactive", "{}: the old agent came up at boot: {old:?}", node.name());
    Ok(())
}

#[test]
fn before_liberty_the_neutron_agent_is_restarted_and_stays() -> Result<()> {
    let mut spec = FleetSpec::new("kilo");
    for system in SYSTEMS {
        spec = spec.with(Role::Compute, system);
    }
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    let before = Snapshot::of_all(&wavegate)?;
    let agents = agents(&wavegate)?;
    let kilo = ["upgrade", "--yes", "--parameters", SITE_FILE, "--set", "openstack_release=kilo"];
    let output = wavegate.cli(&kilo)?;
    ensure!(output.contains("install-calico-dhcp-agent"), "what is skipped is not named:\n{output}");
    for node in wavegate.managed() {
        let (name, old, new) = (node.name(), &before[node.name()], Snapshot::of(node)?);
        ensure!(new.dhcp_agents == ["neutron-dhcp-agent"], "{name}: {:?}", new.dhcp_agents);
        ensure!(
            !node.packages()?.contains_key("calico-dhcp-agent"),
            "{name}: the Calico agent was installed"
        );
        ensure!(
            node.unit("neutron-dhcp-agent")?.main_pid != agents[name],
            "{name}: its agent is the old process"
        );
        ensure!(new.packages["calico-felix"] != old.packages["calico-felix"], "{name}: {:?}", new.packages);
        ensure!(new.service.1 != old.service.1 && new.active, "{name}: Felix: {:?}", new.service);
        ensure!(new.strangers() == old.strangers(), "{name}: libvirt's dnsmasq was touched");
        ensure!(new.neutron_dnsmasqs().count() == 2, "{name}: {:?}", new.dnsmasqs);
        ensure!(new.neutron_dnsmasqs().all(|d| d.exe_is_file_on_disk), "{name}: a stale dnsmasq");
        ensure!(new.lock_path.is_none(), "{name}: lock_path was set before Liberty");
        let changed = journal::changes(node)?;
        ensure!(changed.contains_key("compute/restart-neutron-dhcp-agent"), "{name}: {changed:?}");
    }
    let output = wavegate.cli(&kilo)?;
    ensure!(output.contains("Nothing was changed"), "the second upgrade changed something:\n{output}");
    fleet.tear_down()
}

/// The main process of every node's neutron-dhcp-agent.
fn agents(wavegate: &Wavegate<'_>) -> Result<BTreeMap<String, Option<i32>>> {
    wavegate
        .managed()
        .map(|node| Ok((node.name().to_owned(), node.unit("neutron-dhcp-agent")?.main_pid)))
        .collect()
}

#[test]
fn the_whole_distribution_is_upgraded_only_where_the_procedure_and_the_node_say_so() -> Result<()> {
    let spec = FleetSpec::new("whole")
        .with(Role::Compute, System::Debian)
        .with(Role::Compute, System::Trusty)
        .with(Role::Control, System::Rocky9)
        .with(Role::Control, System::Centos7);
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    an_archive_of_another_digest_is_refused(&wavegate)?;

    // Packages that have newer versions and that no step names.
    let strangers = [
        ("compute-1", "neutron-common"),
        ("compute-2", "neutron-common"),
        ("control-1", "dnsmasq"),
        ("control-2", "dnsmasq"),
    ];
    let versions = || -> Result<Vec<Option<String>>> {
        strangers.iter().map(|(node, name)| Ok(fleet.node(node).packages()?.remove(*name))).collect()
    };
    let old = versions()?;
    wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    ensure!(versions()? == old, "packages that nobody named were changed: {old:?} -> {:?}", versions()?);

    let whole = ["plan", "--parameters", SITE_FILE, "--set", "package_scope=distribution"];
    let plan = wavegate.cli_output(&whole)?;
    let text = String::from_utf8_lossy(&plan.stdout);
    ensure!(plan.status.code() == Some(5), "the nodes' policies forbid it: {:?}\n{text}", plan.status);
    ensure!(text.contains("whole_distribution") && text.contains(POLICY_FILE), "{text}");

    for node in wavegate.managed() {
        let policy = node.read_file(POLICY_FILE)?;
        let policy = policy.replace("whole_distribution = false", "whole_distribution = true");
        node.write_file(POLICY_FILE, policy.as_bytes(), 0o644)?;
    }
    wavegate.cli(&[&["upgrade", "--yes"], &whole[1..]].concat())?;
    let new = versions()?;
    ensure!(
        old.iter().zip(&new).all(|(old, new)| old.is_some() && new.is_some() && old != new),
        "{old:?} -> {new:?}"
    );
    for node in wavegate.managed() {
        packages_are_whole(node)?;
    }
    let again = wavegate.cli(&[&["upgrade", "--yes"], &whole[1..]].concat())?;
    ensure!(again.contains("Nothing was changed"), "the second upgrade changed something:\n{again}");
    fleet.tear_down()
}

fn an_archive_of_another_digest_is_refused(wavegate: &Wavegate<'_>) -> Result<()> {
    let other = format!("python_etcd_archive_sha256={}", "0".repeat(64));
    let plan = wavegate.cli_output(&["plan", "--parameters", SITE_FILE, "--set", &other])?;
    let text = String::from_utf8_lossy(&plan.stdout);
    ensure!(plan.status.code() == Some(5), "a plan with a wrong digest: {:?}\n{text}", plan.status);
    for word in ["control-1", "control-2", "install-python-etcd", "has SHA-256"] {
        ensure!(text.contains(word), "the plan does not say '{word}':\n{text}");
    }
    Ok(())
}
