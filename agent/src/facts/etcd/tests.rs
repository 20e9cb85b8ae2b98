//! What is observed of etcd on fake machines: members, what passes requests on, clients, and what can't be found out.

use crate::etcd::{EtcdSettings, here};
use crate::facts::observe;
use crate::host::Exit;
use crate::host::fake::{FakeHost, FakeMachine, Fault, Place, Seat, When};
use crate::os::Os;
use wavegate_common::etcd::{EtcdFacts, EtcdVersion, MemberView};
use wavegate_common::facts::Facts;
use wavegate_common::id::NodeId;
use wavegate_common::platform::Role;

const FELIX: &str = "/etc/calico/felix.cfg";

fn observed(machine: FakeMachine, settings: &EtcdSettings) -> Facts {
    let node = NodeId::new("node-1").expect("a name");
    observe(&FakeHost::new(machine), node, &[].into(), settings).expect("facts")
}

fn etcd(machine: FakeMachine) -> EtcdFacts {
    observed(machine, &EtcdSettings::default()).etcd.expect("etcd is there")
}

fn with_mounts(mut machine: FakeMachine) -> FakeMachine {
    machine.put_file(
        "/proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 22 0:40 / /var/lib/etcd rw - tmpfs tmpfs rw\n",
    );
    machine
}

/// The same machine in front of the cluster instead of in it.
fn passing_on(place: Place, argv: &[&str]) -> FakeMachine {
    let mut machine = FakeMachine::debian_etcd();
    let cluster = machine.seat().cluster().clone();
    machine.etcd = Some(Seat::new(cluster, place));
    let pid = machine.services["etcd"].main_pid.expect("it runs");
    let process = machine.processes.get_mut(&pid).expect("a process");
    process.cmdline = argv.iter().map(|&word| word.to_owned()).collect();
    machine
}

#[test]
fn a_member_tells_of_itself_and_of_the_whole_cluster() {
    let facts = etcd(with_mounts(FakeMachine::debian_etcd()));
    assert_eq!(facts.version, Some(EtcdVersion::new(3, 2, 17)));
    assert_eq!(
        (facts.data_dir.as_deref(), facts.data_filesystem.as_deref()),
        (Some("/var/lib/etcd"), Some("tmpfs"))
    );
    let view = facts.cluster.as_ref().expect("a cluster");
    assert_eq!((Some(view.id), facts.member), (facts.cluster_id, Some(view.members[0].id)));
    assert!(view.members.iter().all(|member| member.status().is_some_and(|status| status.healthy)));
    assert_eq!(facts.unknown, [""; 0]);
}

#[test]
fn a_member_that_is_down_is_told_with_what_is_not_known_of_it() {
    let mut machine = FakeMachine::debian_etcd();
    machine.processes.clear();
    let service = machine.services.get_mut("etcd").expect("etcd");
    (service.active, service.main_pid) = (false, None);
    machine.put_file(
        "/etc/default/etcd",
        "ETCD_NAME=m1\nETCD_DATA_DIR=/var/lib/etcd\nETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:2379\n",
    );
    let alone = etcd(machine.clone());
    assert_eq!((alone.version, alone.member, alone.cluster_id), (None, None, None));
    insta::assert_snapshot!(alone.unknown.join("\n"), @r"
    its version: service etcd does not run
    its cluster: the member here does not answer, and no other is known to ask
    ");
    // Where Calico here asks another member, that one tells of the cluster, and of the member that is down.
    machine.put_file(FELIX, "[global]\nEtcdEndpoints = http://10.0.0.2:2379\n");
    let seen = etcd(with_mounts(machine));
    let down = |member: &MemberView| member.status().is_none();
    let view = seen.cluster.expect("a cluster");
    assert_eq!(view.members.iter().filter(|member| down(member)).map(|member| member.id).next(), seen.member);
    assert_eq!(seen.endpoints, ["http://10.0.0.2:2379"]);
}

#[test]
fn what_passes_requests_on_tells_where_to_and_by_its_program_its_version() {
    let proxy =
        etcd(passing_on(Place::Proxy, &["/usr/bin/etcd", "--proxy", "on", "--data-dir", "/var/lib/etcd"]));
    let member = etcd(FakeMachine::debian_etcd());
    assert_eq!((proxy.version, proxy.cluster_id), (Some(EtcdVersion::new(3, 2, 17)), member.cluster_id));
    assert_eq!((proxy.cluster, proxy.member, proxy.unknown), (None, None, Vec::new()));

    let gateway = passing_on(
        Place::Gateway,
        &["/usr/bin/etcd", "gateway", "start", "--endpoints=10.0.0.1:2379", "--listen-addr=127.0.0.1:2379"],
    );
    let seen = etcd(gateway.clone());
    assert_eq!((seen.version, seen.cluster_id), (Some(EtcdVersion::new(3, 2, 17)), member.cluster_id));
    assert_eq!((seen.listens, seen.data_dir), (vec!["127.0.0.1:2379".to_owned()], None));

    // A file that was replaced is not the program that runs.
    let mut replaced = gateway;
    replaced.put_program("/usr/bin/etcd", "etcd Version: 3.3.27\n");
    insta::assert_snapshot!(etcd(replaced.clone()).unknown.join("\n").replace(|c: char| c.is_ascii_digit(), "N"), @"its version: cannot run /proc/NNNN/exe: entity not found");
    let exit = Exit { stdout: "etcd Version: 3.2.17\n".to_owned(), ..Exit::default() };
    replaced.faults.add("/proc/", When::Instead, Fault::Exit(exit));
    assert_eq!(etcd(replaced).version, Some(EtcdVersion::new(3, 2, 17)));
}

#[test]
fn who_asks_an_etcd_elsewhere_and_has_none_is_a_client() {
    let mut machine = FakeMachine::debian_compute();
    assert_eq!(observed(machine.clone(), &EtcdSettings::default()).etcd, None);
    machine.put_file(FELIX, "[global]\nEtcdAddr = 10.0.0.1:2379\n");
    let seen = observed(machine.clone(), &EtcdSettings::default());
    assert_eq!(seen.roles.into_iter().collect::<Vec<_>>(), [Role::EtcdClient, Role::Compute]);
    let etcd = seen.etcd.expect("a client");
    assert_eq!((etcd.endpoints.join(" "), etcd.unknown.len()), ("http://10.0.0.1:2379".to_owned(), 0));
    assert!(machine.history.is_empty());

    let named =
        EtcdSettings { endpoints: vec!["https://10.0.0.9:2379".to_owned()], ..EtcdSettings::default() };
    assert_eq!(observed(machine, &named).etcd.expect("a client").endpoints, ["https://10.0.0.9:2379"]);
}

#[test]
fn what_nobody_answers_is_unknown_and_the_node_is_observed_all_the_same() {
    let mut machine = FakeMachine::debian_etcd();
    machine.etcd = None;
    let facts = etcd(machine);
    assert_eq!((facts.version, facts.cluster_id, facts.member), (None, None, None));
    insta::assert_snapshot!(facts.unknown.join("\n"), @r"
    its version: http://127.0.0.1:2379 does not answer: connection refused
    its cluster: the member here does not answer, and no other is known to ask
    ");
    let mut proxy = passing_on(Place::Proxy, &["/usr/bin/etcd", "--proxy=on"]);
    proxy.etcd = None;
    insta::assert_snapshot!(etcd(proxy).unknown.join("\n"), @"which cluster it leads to: http://127.0.0.1:2379 does not answer: connection refused");
}

#[test]
fn the_service_of_a_process_is_told_by_its_cgroup() {
    let mut machine = FakeMachine::debian_etcd();
    let pid = machine.services["etcd"].main_pid.expect("it runs");
    machine.put_file(format!("/proc/{pid}/cgroup"), "0::/system.slice/etcd-two.service\n");
    machine.put_file(format!("/proc/{pid}/environ"), "ETCD_LISTEN_CLIENT_URLS=https://0.0.0.0:2379\0ETCD_ADVERTISE_CLIENT_URLS=https://m1:2379\0ETCD_CERT_FILE=/c.pem\0ETCD_KEY_FILE=/k.pem\0ETCD_TRUSTED_CA_FILE=/ca.pem\0");
    let os = Os { platform: machine.platform.clone() };
    let found = here(&FakeHost::new(machine), &os, &EtcdSettings::default()).expect("read").expect("etcd");
    assert_eq!((found.unit.as_str(), found.local.as_str()), ("etcd-two", "https://m1:2379"));
    assert_eq!(found.access.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
    assert!(found.access.certificate.is_some() && found.process.is_some());
}

/// A member that its own machine asks without TLS, and everybody else with it.
#[test]
fn what_proves_who_asks_is_there_for_the_others_where_the_member_here_wants_none() {
    let mut machine = FakeMachine::debian_etcd();
    let pid = machine.services["etcd"].main_pid.expect("it runs");
    machine.put_file(format!("/proc/{pid}/environ"), "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379,https://10.0.0.1:2379\0ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.1:2379\0ETCD_CERT_FILE=/c.pem\0ETCD_KEY_FILE=/k.pem\0ETCD_TRUSTED_CA_FILE=/ca.pem\0");
    let of = |machine: &FakeMachine| {
        let os = Os { platform: machine.platform.clone() };
        here(&FakeHost::new(machine.clone()), &os, &EtcdSettings::default()).expect("read").expect("etcd")
    };
    let found = of(&machine);
    assert_eq!(found.local, "http://127.0.0.1:2379");
    assert_eq!(found.access.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
    assert!(found.access.certificate.is_some());
    // Calico's own comes first.
    machine.put_file(
        FELIX,
        "[global]\nEtcdScheme = https\nEtcdAddr = 10.0.0.2:2379\nEtcdCaFile = /calico/ca.pem\n",
    );
    assert_eq!(of(&machine).access.ca.as_deref(), Some(std::path::Path::new("/calico/ca.pem")));
}
