//! The lab's hosts in another dress behave as what they say they are: Ubuntu 14.04 with upstart, CentOS 7 with yum.

use std::io::Read;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wavegate_tests::lab::wait::wait_for;
use wavegate_tests::lab::{Fleet, FleetSpec, Lab, Node, Role, System, wait_until};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn ubuntu_14_04_runs_its_services_by_upstart() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let spec = FleetSpec::new("trusty")
        .with(Role::Etcd, System::Trusty)
        .with(Role::Compute, System::Trusty)
        .with(Role::Control, System::Trusty);
    let fleet = Fleet::boot(&lab, spec)?;
    let node = fleet.node("compute-1");
    ensure!(node.read_file("/etc/os-release")?.contains("VERSION_ID=\"14.04\""));
    ensure!(node.run(&["ls", "/run/systemd/system"]).is_err(), "systemd's directory is there");
    ensure!(node.run(&["systemctl"]).is_err(), "systemctl is there");
    ensure!(node.read_file("/proc/1/cmdline")?.contains("/sbin/init"), "process 1 is something else");

    let url = "http://etcd-1:2379/v2/keys/calico/felix/v1/host/compute-1/status";
    wait_until("Felix's status in etcd", SOON, || node.run(&["curl", "-sf", url]).map(Some))?;
    wait_for("three dnsmasqs", SOON, || node.dnsmasqs(), |found| found.len() == 3)?;
    let vm = fleet.vm_address("compute-1")?;
    wait_until("the VM to answer", SOON, || {
        fleet.node("control-1").run(&["ping", "-c1", "-W1", &vm]).map(Some)
    })?;
    wait_until("neutron-server to answer", SOON, || {
        fleet.node("control-1").run(&["curl", "-sf", "http://localhost:9696/"]).map(Some)
    })?;

    upstart_speaks_as_it_does(node)?;
    a_stopped_agent_leaves_its_dnsmasqs_and_an_override_keeps_it_down(node)?;
    packages_start_services_as_debhelper_had_them(&fleet, node)?;

    let felix = node.unit("calico-felix")?;
    node.reboot()?;
    wait_until("Felix after a reboot", SOON, || {
        Ok((node.unit("calico-felix")?.active == "active").then_some(()))
    })?;
    ensure!(node.unit("calico-felix")?.started != felix.started, "it is the process from before");
    node.power_cut()?;
    node.power_on()?;
    node.wait_running(SOON)?;
    fleet.tear_down()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Texts and codes of upstart's initctl.c and job_class.c.
fn upstart_speaks_as_it_does(node: &Node) -> Result<()> {
    let answers = |argv: &[&str], code: i32, text: &str| -> Result<()> {
        let output = node.output(argv)?;
        let pid = node.unit("calico-felix")?.main_pid.unwrap_or_default().to_string();
        let wanted = text.replace("PID", &pid);
        ensure!(
            output.status.code() == Some(code) && said(&output).trim_end() == wanted,
            "{argv:?}: {} {:?}, not {code} {wanted:?}",
            output.status,
            said(&output)
        );
        Ok(())
    };
    answers(&["status", "calico-felix"], 0, "calico-felix start/running, process PID")?;
    answers(&["start", "calico-felix"], 1, "start: Job is already running: calico-felix")?;
    answers(&["restart", "calico-felix"], 0, "calico-felix start/running, process PID")?;
    answers(&["initctl", "stop", "calico-felix"], 0, "calico-felix stop/waiting")?;
    answers(&["stop", "calico-felix"], 1, "stop: Unknown instance:")?;
    answers(&["restart", "calico-felix"], 1, "restart: Unknown instance:")?;
    answers(&["status", "calico-felix"], 0, "calico-felix stop/waiting")?;
    answers(&["service", "calico-felix", "start"], 0, "calico-felix start/running, process PID")?;
    answers(&["initctl", "status", "calico-dhcp-agent"], 1, "initctl: Unknown job: calico-dhcp-agent")?;

    let before = node.unit("calico-felix")?;
    let pid = before.main_pid.context("Felix has no process")?;
    node.run(&["kill", "-9", &pid.to_string()])?;
    wait_until("upstart to start Felix again", SOON, || {
        let now = node.unit("calico-felix")?;
        Ok((now.active == "active" && now.main_pid != before.main_pid).then_some(()))
    })?;

    node.write_file("/etc/init/lab-fails.conf", b"respawn\nrespawn limit 3 5\nexec /bin/false\n", 0o644)?;
    node.output(&["start", "lab-fails"])?;
    wait_until("upstart to give up", SOON, || {
        Ok((node.unit("lab-fails")?.active == "inactive").then_some(()))
    })?;
    ensure!(node.journal(Some("init"), 20)?.contains("lab-fails respawning too fast, stopped"));
    node.write_file("/etc/init/lab-fails.conf", b"exec /no/such/program\n", 0o644)?;
    answers(&["start", "lab-fails"], 1, "start: Job failed to start")?;
    node.run(&["rm", "/etc/init/lab-fails.conf"]).map(|_| ())
}

fn a_stopped_agent_leaves_its_dnsmasqs_and_an_override_keeps_it_down(node: &Node) -> Result<()> {
    let before = node.dnsmasqs()?;
    node.write_file("/etc/init/neutron-dhcp-agent.override", b"manual\n", 0o644)?;
    ensure!(node.unit("neutron-dhcp-agent")?.active == "active", "an override stops nothing");
    ensure!(node.unit("neutron-dhcp-agent")?.enabled == "disabled");
    node.stop_service("neutron-dhcp-agent")?;
    assert_eq!(node.dnsmasqs()?, before);
    node.run(&["invoke-rc.d", "neutron-dhcp-agent", "start"])?;
    ensure!(
        node.unit("neutron-dhcp-agent")?.active == "inactive",
        "invoke-rc.d started a job that is manual"
    );

    node.run(&["rm", "/etc/init/neutron-dhcp-agent.override"])?;
    node.write_file("/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", 0o755)?;
    let denied = node.output(&["invoke-rc.d", "neutron-dhcp-agent", "start"])?;
    ensure!(denied.status.success() && said(&denied).contains("policy-rc.d denied execution of start."));
    ensure!(node.unit("neutron-dhcp-agent")?.active == "inactive", "invoke-rc.d did not ask policy-rc.d");
    node.run(&["rm", "/usr/sbin/policy-rc.d"])?;
    node.run(&["invoke-rc.d", "neutron-dhcp-agent", "start"])?;
    ensure!(node.unit("neutron-dhcp-agent")?.active == "active");
    assert_eq!(node.dnsmasqs()?, before);
    Ok(())
}

/// calico-felix is stopped before and started after its unpack; calico-dhcp-agent runs once it is installed.
fn packages_start_services_as_debhelper_had_them(fleet: &Fleet, node: &Node) -> Result<()> {
    let before = node.unit("calico-felix")?;
    node.write_file("/etc/calico/felix.cfg.example", b"# the operator's\n", 0o644)?;
    node.run(&["apt-get", "-q", "update"])?;
    let install = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-y",
        "-o",
        "Dpkg::Options::=--force-confdef",
    ];
    let more = ["-o", "Dpkg::Options::=--force-confold", "install", "calico-felix", "calico-dhcp-agent"];
    let output = node.run(&[&install[..], &more].concat())?;
    let after = node.unit("calico-felix")?;
    ensure!(
        after.active == "active" && after.main_pid != before.main_pid,
        "{before:?} -> {after:?}\n{output}"
    );
    ensure!(node.unit("calico-dhcp-agent")?.active == "active", "{output}");
    assert_eq!(node.packages()?.get("calico-felix"), Some(&fleet.manifest.calico.new));
    ensure!(node.run(&["ls", "/etc/calico"])?.contains("felix.cfg.example.dpkg-dist"), "{output}");
    Ok(())
}

#[test]
fn centos_7_installs_by_yum() -> Result<()> {
    let Some(lab) = Lab::for_suite()? else { return Ok(()) };
    let spec = FleetSpec::new("centos").with(Role::Etcd, System::Debian).with(Role::Compute, System::Centos7);
    let fleet = Fleet::boot(&lab, spec)?;
    let node = fleet.node("compute-1");
    ensure!(node.read_file("/etc/os-release")?.contains("ID=\"centos\"\n"));
    ensure!(node.run(&["dnf", "--version"]).is_err(), "dnf is there");
    yum_speaks_as_it_does(node)?;
    a_second_yum_waits_for_the_first(&fleet, node)?;
    what_a_killed_yum_left_is_finished(&fleet, node)?;
    fleet.tear_down()
}

/// Texts and codes of yum's cli.py and output.py.
fn yum_speaks_as_it_does(node: &Node) -> Result<()> {
    let answers = |argv: &[&str], code: i32, texts: &[&str]| -> Result<()> {
        let output = node.output(&[&["yum"], argv].concat())?;
        let all = said(&output);
        ensure!(output.status.code() == Some(code), "yum {argv:?}: {}\n{all}", output.status);
        for text in texts {
            ensure!(all.contains(text), "yum {argv:?} does not say {text:?}:\n{all}");
        }
        Ok(())
    };
    answers(
        &["-y", "update", "no-such-package"],
        0,
        &["No package no-such-package available.", "No packages marked for update"],
    )?;
    answers(
        &["-y", "update", "calico-dhcp-agent"],
        0,
        &["Package(s) calico-dhcp-agent available, but not installed.", "No packages marked for update"],
    )?;
    answers(
        &["-y", "install", "no-such-package"],
        1,
        &["No package no-such-package available.", "Nothing to do"],
    )?;
    answers(
        &["--assumeno", "update", "calico-felix"],
        1,
        &[
            "\nDependencies Resolved\n",
            "\nUpdating:\n calico-felix ",
            "\nUpdating for dependencies:\n calico-common ",
            "\nTransaction Summary\n====",
            "Upgrade  1 Package (+1 Dependent package)",
            "\nExiting on user command\n",
        ],
    )?;
    // Other than dnf, `install` brings what is there up to date.
    answers(&["--assumeno", "install", "calico-common"], 1, &["\nUpdating:\n calico-common "])?;
    answers(&["-y", "install", "dnsmasq"], 0, &["\nUpdated:\n  dnsmasq.x86_64 0:", "\nComplete!\n"])?;
    answers(&["-y", "install", "dnsmasq"], 0, &["already installed and latest version", "Nothing to do"])?;
    answers(&["-y", "downgrade", "dnsmasq"], 0, &["\nDowngrading:\n dnsmasq "])?;
    ensure!(node.read_file("/var/log/yum.log")?.contains(" Updated: dnsmasq-"));
    ensure!(node.run(&["ls", "/var/lib/yum"])?.is_empty(), "a transaction that ended left its files");
    Ok(())
}

fn a_second_yum_waits_for_the_first(fleet: &Fleet, node: &Node) -> Result<()> {
    fleet.publish_slow_rpm("calico-felix", 5)?;
    let mut first = node.spawn(&["yum", "-y", "update", "calico-felix"])?;
    let pid = wait_until("yum's lock", SOON, || node.read_file("/var/run/yum.pid").map(Some))?;
    let at_once = node.output(&["yum", "-y", "--setopt=exit_on_lock=True", "update", "calico-felix"])?;
    ensure!(
        at_once.status.code() == Some(1) && said(&at_once).contains("exiting as configured by exit_on_lock")
    );
    let second = node.output(&["yum", "-y", "update", "calico-felix"])?;
    let told = said(&second);
    ensure!(first.wait()?.success(), "the first yum failed");
    let existing = format!("Existing lock /var/run/yum.pid: another copy is running as pid {pid}.\n");
    for text in
        [existing.as_str(), "Another app is currently holding the yum lock; waiting for it to exit...\n"]
    {
        ensure!(told.contains(text), "{text:?} is not in\n{told}");
    }
    ensure!(told.contains("No packages marked for update"), "{told}");
    ensure!(node.run(&["cat", "/var/run/yum.pid"]).is_err(), "the lock is still there");
    node.run(&["yum", "-y", "downgrade", "calico-felix", "calico-common"]).map(|_| ())
}

fn what_a_killed_yum_left_is_finished(fleet: &Fleet, node: &Node) -> Result<()> {
    fleet.publish_slow_rpm("calico-felix", 600)?;
    let mut yum = node.spawn(&["yum", "-y", "update", "calico-felix"])?;
    let script = wait_until("the slow package's script", SOON, || {
        let found = node.shell("pgrep -x sleep | head -1")?;
        Ok((!found.trim().is_empty()).then(|| found.trim().to_owned()))
    })?;
    let pid = node.read_file("/var/run/yum.pid")?;
    node.run(&["kill", "-9", &pid, &script])?;
    yum.wait()?;
    let mut rest = String::new();
    yum.stdout.take().context("its output")?.read_to_string(&mut rest)?;
    let left = node.run(&["ls", "/var/lib/yum"])?;
    ensure!(left.contains("transaction-all.") && left.contains("transaction-done."), "{left}\n{rest}");
    ensure!(node.run(&["package-cleanup", "--dupes"])?.contains("calico-felix-"), "nothing is there twice");

    fleet.mend_rpm("calico-felix")?;
    let output = node.run(&["yum", "--assumeno", "update", "openstack-nova-api"]);
    ensure!(format!("{:?}", output.err()).contains("There are unfinished transactions remaining."));
    let finished = node.run(&["yum-complete-transaction", "-y"])?;
    ensure!(finished.contains("There are 1 outstanding transactions to complete."), "{finished}");
    ensure!(node.run(&["yum-complete-transaction", "-y"])?.contains("No unfinished transactions left."));
    node.run(&["package-cleanup", "-y", "--cleandupes"])?;
    ensure!(node.run(&["package-cleanup", "--dupes"])?.trim().is_empty(), "{finished}");
    let felix = format!("{}-1", fleet.manifest.calico.new);
    assert_eq!(node.packages()?.get("calico-felix"), Some(&felix));
    Ok(())
}
