//! Tests of what is observed on fake machines.

use super::*;
use crate::host::fake::{FakeHost, FakeMachine};
use wavegate_common::facts::DhcpAgent;
use wavegate_common::platform::{OsFamily, PackageManager};

fn observed(machine: FakeMachine, extra: &[Role]) -> Facts {
    let node = NodeId::new("node-1").expect("a name");
    observe(&FakeHost::new(machine), node, &extra.iter().copied().collect(), &EtcdSettings::default())
        .expect("facts")
}

fn roles(machine: FakeMachine) -> Vec<Role> {
    observed(machine, &[]).roles.into_iter().collect()
}

/// Roles, release, DHCP agent and versions, a line each.
fn summary(machine: FakeMachine) -> String {
    let facts = observed(machine, &[]);
    let roles: Vec<&str> = facts.roles.iter().map(|role| role.as_str()).collect();
    let release = facts.release.map_or("-", Release::as_str);
    let versions = facts.versions.iter().map(|(component, version)| format!("\n{component} {version}"));
    format!(
        "{}\n{} {release} {}{}",
        facts.platform,
        roles.join(" "),
        facts.dhcp_agent,
        versions.collect::<String>()
    )
}

#[test]
fn a_compute_node() {
    insta::assert_snapshot!(summary(FakeMachine::debian_compute()), @r"
    ubuntu 16.04, apt/systemd
    compute mitaka neutron
    felix 1.3.1
    networking-calico 1:1.1.2
    neutron 2:8.0.0-0ubuntu1
    dnsmasq 2.75-1
    ");
    insta::assert_snapshot!(summary(FakeMachine::redhat_compute()), @r"
    centos 7, yum/systemd
    compute mitaka neutron
    felix 1.3.1-1.el7
    networking-calico 1:1.1.2-1.el7
    neutron 1:8.0.0-1.el7
    dnsmasq 2.75-1.el7
    ");
}

#[test]
fn a_control_node() {
    insta::assert_snapshot!(summary(FakeMachine::debian_control()), @r"
    ubuntu 16.04, apt/systemd
    control mitaka none
    networking-calico 1:1.1.2
    neutron 2:8.0.0-0ubuntu1
    ");
    assert_eq!(roles(FakeMachine::redhat_control()), [Role::Control]);
    let mut without = FakeMachine::redhat_control();
    without.remove("calico-control");
    assert_eq!(roles(without), [], "openstack-neutron is on compute nodes too");
}

#[test]
fn an_etcd_member() {
    insta::assert_snapshot!(summary(FakeMachine::debian_etcd()), @r"
    ubuntu 16.04, apt/systemd
    etcd-member - none
    etcd 3.2.17+dfsg-1
    ");
    // Here no package owns the program, and it tells its version itself.
    insta::assert_snapshot!(summary(FakeMachine::redhat_etcd()), @r"
    centos 7, yum/systemd
    etcd-member - none
    etcd 3.2.17
    ");
}

#[test]
fn an_etcd_proxy_or_gateway_is_told_by_how_it_is_run() {
    let mut proxy = FakeMachine::redhat_etcd();
    proxy.put_file("/etc/sysconfig/etcd", "ETCD_DATA_DIR=/var/lib/etcd\nETCD_PROXY=on\n");
    assert_eq!(roles(proxy), [Role::EtcdProxy]);

    // What the process was given counts more than what a file says by now.
    let mut member = FakeMachine::redhat_etcd();
    member.put_file("/etc/sysconfig/etcd", "ETCD_PROXY=on\n");
    let pid = member.services["etcd"].main_pid.expect("it runs");
    member.put_file(format!("/proc/{pid}/environ"), "PATH=/bin\0ETCD_PROXY=off\0");
    assert_eq!(roles(member), [Role::EtcdMember]);

    let mut gateway = FakeMachine::debian_compute();
    gateway.put_program("/usr/bin/etcd", "etcd Version: 3.2.17\n");
    let words = ["/usr/bin/etcd", "gateway", "start"].map(str::to_owned);
    gateway.spawn(&words);
    assert_eq!(roles(gateway), [Role::EtcdGateway, Role::Compute]);

    let mut configured = FakeMachine::debian_etcd();
    let pid = configured.services["etcd"].main_pid.expect("it runs");
    let process = configured.processes.get_mut(&pid).expect("a process");
    process.cmdline.extend(["--config-file".to_owned(), "/etc/etcd.yml".to_owned()]);
    configured.put_file("/etc/etcd.yml", "name: a\nproxy: 'on'\n");
    assert_eq!(roles(configured), [Role::EtcdProxy]);
}

#[test]
fn an_etcd_that_does_not_run_counts_unless_it_is_masked() {
    let mut down = FakeMachine::debian_etcd();
    down.processes.clear();
    let service = down.services.get_mut("etcd").expect("etcd");
    (service.active, service.main_pid) = (false, None);
    assert_eq!(roles(down.clone()), [Role::EtcdMember]);
    down.services.get_mut("etcd").expect("etcd").masked = true;
    assert_eq!(roles(down), []);
}

#[test]
fn the_configuration_adds_roles() {
    let facts = observed(FakeMachine::debian_control(), &[Role::EtcdProxy]);
    assert_eq!(facts.roles.into_iter().collect::<Vec<_>>(), [Role::EtcdProxy, Role::Control]);
    assert_eq!((facts.hostname.as_str(), facts.boot_id.as_str()), ("node", "boot-1"));
    assert_eq!(facts.agent_version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn both_dhcp_agents_at_once_are_seen() {
    let mut machine = FakeMachine::debian_compute();
    let agent = machine.available["calico-dhcp-agent"].clone();
    machine.install("calico-dhcp-agent", &agent).expect("it installs");
    assert_eq!(observed(machine, &[]).dhcp_agent, DhcpAgent::Both);
}

#[test]
fn upstart_is_observed_too() {
    insta::assert_snapshot!(summary(FakeMachine::trusty_compute()), @r"
    ubuntu 14.04, apt/upstart
    compute mitaka neutron
    felix 1.3.1
    networking-calico 1:1.1.2
    neutron 2:8.0.0-0ubuntu1
    dnsmasq 2.75-1
    ");
    insta::assert_snapshot!(summary(FakeMachine::trusty_control()), @r"
    ubuntu 14.04, apt/upstart
    control mitaka none
    networking-calico 1:1.1.2
    neutron 2:8.0.0-0ubuntu1
    ");
    insta::assert_snapshot!(summary(FakeMachine::trusty_etcd()), @r"
    ubuntu 14.04, apt/upstart
    etcd-member - none
    etcd 3.2.17+dfsg-1
    ");
    let mut kept_down = FakeMachine::trusty_etcd();
    kept_down.put_file("/etc/init/etcd.override", "manual\n");
    kept_down.reboot();
    assert_eq!(roles(kept_down), []);
}

#[test]
fn neither_systemd_nor_a_fitting_upstart_is_told() {
    let mut machine = FakeMachine::trusty();
    machine.faults.fail("initctl version", 1, "initctl: Unable to connect to Upstart: Connection refused");
    insta::assert_snapshot!(platform(&FakeHost::new(machine)).expect_err("neither"), @"neither systemd (/run/systemd/system) nor upstart ('initctl version') runs this node's services; wavegate runs on those two");
    let mut old = FakeMachine::trusty();
    let exit = crate::host::Exit { stdout: "init (upstart 0.6.5)\n".to_owned(), ..Default::default() };
    old.faults.add("initctl version", crate::host::fake::When::Instead, crate::host::fake::Fault::Exit(exit));
    insta::assert_snapshot!(platform(&FakeHost::new(old)).expect_err("too old"), @"upstart 0.6 reads no override files, so that no service could be kept down; wavegate runs on 1.3 and later (Ubuntu 14.04)");
}

#[test]
fn an_unknown_system_is_told_with_what_to_do() {
    let mut machine = FakeMachine::debian();
    machine.put_file("/etc/os-release", "ID=gentoo\n");
    insta::assert_snapshot!(
        platform(&FakeHost::new(machine.clone())).expect_err("unknown"),
        @"'gentoo' is neither of Debian's nor of Red Hat's family; wavegate runs on those; if it derives from one, say so with ID_LIKE in /etc/os-release"
    );
    machine.files.clear();
    assert!(platform(&FakeHost::new(machine.clone())).is_err());
    // The second place counts where the first is empty.
    machine.put_file("/usr/lib/os-release", "ID=rocky\nVERSION_ID=\"9.3\"\n");
    machine.put_file("/run/systemd/system/here", "");
    machine.put_program("/usr/bin/dnf", "4\n");
    let platform = platform(&FakeHost::new(machine)).expect("a platform");
    assert_eq!((platform.family, platform.package_manager), (OsFamily::RedHat, PackageManager::Dnf));
}
