//! Tests of `etcd.check_endpoint` on fake machines: proxies, gateways and clients, and what does not serve them.

use crate::action::bench::Bench;
use crate::host::fake::{FakeMachine, Place};
use wavegate_common::action::{Action, EtcdCheckEndpoint};
use wavegate_common::etcd::{ClusterId, EtcdVersion, Part};
use wavegate_common::facts::Component;
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::plan::{PlannedEtcd, PlannedNode};

fn action() -> Action {
    Action::EtcdCheckEndpoint(EtcdCheckEndpoint { within_s: 20 })
}

fn planned(bench: &Bench, part: Part, felix: Option<&str>, cluster: u64) -> PlannedNode {
    PlannedNode {
        roles: [].into(),
        platform: bench.machine().platform.clone(),
        release: None,
        versions: felix.map(|version| (Component::Felix, version.to_owned())).into_iter().collect(),
        etcd: Some(PlannedEtcd { part, cluster: ClusterId(cluster), member: None }),
        observed_at: Timestamp(0),
    }
}

/// A node that passes on what it is asked.
fn passing(place: Place, configuration: &str) -> Bench {
    let mut machine = FakeMachine::debian_etcd();
    machine.put_file("/etc/default/etcd", configuration);
    if let Some(seat) = &mut machine.etcd {
        seat.place = place;
    }
    Bench::new(machine)
}

fn proxy() -> Bench {
    let mut bench = passing(Place::Proxy, "ETCD_PROXY=on\n");
    bench.planned = Some(planned(&bench, Part::Proxy, Some("1.4.0"), 0xc1));
    bench
}

/// A compute node whose Felix asks a member elsewhere.
fn client(felix: &str) -> Bench {
    let mut machine = FakeMachine::debian_compute();
    machine.etcd = FakeMachine::debian_etcd().etcd;
    if let Some(seat) = &mut machine.etcd {
        seat.place = Place::Client;
    }
    machine.put_file("/etc/calico/felix.cfg", "[global]\nEtcdAddr = 10.0.0.2:2379\n");
    let mut bench = Bench::new(machine);
    bench.planned = Some(planned(&bench, Part::Client, Some(felix), 0xc1));
    bench
}

fn left(bench: &Bench) -> usize {
    let machine = bench.machine();
    let cluster = machine.seat().cluster();
    cluster
        .keys
        .keys()
        .chain(cluster.v2_keys.keys())
        .chain(&cluster.v2_dirs)
        .filter(|key| key.contains("wavegate"))
        .count()
}

#[test]
fn a_key_is_written_read_watched_and_taken_away() {
    let bench = proxy();
    insta::assert_snapshot!(bench.already_so(&action()), @"a key was written, read and watched through http://127.0.0.1:2379 by version 2 of the API");
    assert_eq!(left(&bench), 0);
    insta::assert_snapshot!(client("2.6.8").already_so(&action()), @"a key was written, read and watched through http://10.0.0.2:2379 by version 2 of the API");
    insta::assert_snapshot!(client("1:3.3.7").already_so(&action()), @"a key was written, read and watched through http://10.0.0.2:2379 by version 3 of the API");
}

/// A control node: no Felix, and a driver that is told a host alone.
#[test]
fn a_node_without_felix_is_proven_as_its_driver_asks() {
    let with = |driver: &str, port: &str| {
        let mut bench = client("");
        bench.machine().files.remove(std::path::Path::new("/etc/calico/felix.cfg"));
        bench
            .machine()
            .put_file("/etc/neutron/neutron.conf", format!("[calico]\netcd_host = 10.0.0.2\n{port}"));
        for member in &mut bench.machine().seat().cluster().members {
            member.version = EtcdVersion::new(3, 4, 23);
        }
        let planned = bench.planned.as_mut().expect("planned");
        planned.versions = [(Component::NetworkingCalico, driver.to_owned())].into();
        bench
    };
    insta::assert_snapshot!(with("1:3.26.1", "").already_so(&action()), @"a key was written, read and watched through http://10.0.0.2:2379 by version 3 of the API");
    // An old one asks the version 2 API, whatever version 3 would answer.
    let refused = with("1:1.4.3~trusty", "etcd_port = 2379\n").refused(&action());
    assert!(refused.contains("http://10.0.0.2:2379 does not serve that: PUT of a key"), "{refused}");
    // It also asks another port.
    insta::assert_snapshot!(with("1:1.4.3~trusty", "").refused(&action()), @r"
    clients of this node are not served at http://10.0.0.2:4001 within 20 s: http://10.0.0.2:4001 does not answer: connection refused
    next: see on the node whether what listens there runs and leads to members that run ('ss -lnt', its log); where nothing is served that a client asks for, the version of etcd is too new for it: then the members can still go back as long as one of them runs the older version
    ");
}

#[test]
fn a_gateway_passes_on_whatever_calico_speaks() {
    let mut bench = passing(Place::Gateway, "");
    {
        let mut machine = bench.machine();
        let service = machine.services.get_mut("etcd").expect("etcd");
        service.argv.extend(["gateway", "start", "--listen-addr=127.0.0.1:2379"].map(str::to_owned));
        let pid = service.main_pid.expect("it runs");
        let argv = service.argv.clone();
        machine.processes.get_mut(&pid).expect("it runs").cmdline = argv;
    }
    bench.planned = Some(planned(&bench, Part::Gateway, None, 0xc1));
    insta::assert_snapshot!(bench.already_so(&action()), @"a key was written, read and watched through http://127.0.0.1:2379 by version 3 of the API");
    // In front of a cluster of 2.3 there is version 2 alone.
    for member in &mut bench.machine().seat().cluster().members {
        member.version = EtcdVersion::new(2, 3, 8);
    }
    insta::assert_snapshot!(bench.already_so(&action()), @"a key was written, read and watched through http://127.0.0.1:2379 by version 2 of the API");
}

#[test]
fn what_does_not_serve_clients_is_named() {
    let with = |mut bench: Bench, change: &dyn Fn(&mut FakeMachine)| {
        change(&mut bench.machine());
        bench.planned.get_or_insert_with(|| unreachable!("set before"));
        let said = bench.refused(&action());
        assert_eq!(left(&bench), 0);
        said
    };
    let deaf = |machine: &mut FakeMachine| machine.etcd.as_mut().expect("a seat").deaf = true;
    insta::assert_snapshot!(with(proxy(), &deaf), @r"
    clients of this node are not served at http://127.0.0.1:2379 within 20 s: http://127.0.0.1:2379: a watch of /wavegate/probe/node brings nothing in place of what was just written
    next: see on the node whether what listens there runs and leads to members that run ('ss -lnt', its log); where nothing is served that a client asks for, the version of etcd is too new for it: then the members can still go back as long as one of them runs the older version
    ");
    let newer = |machine: &mut FakeMachine| {
        for member in &mut machine.seat().cluster().members {
            member.version = EtcdVersion::new(3, 4, 23);
        }
    };
    insta::assert_snapshot!(with(client("2.6.8"), &newer), @r"
    clients of this node are not served at http://10.0.0.2:2379 within 20 s: http://10.0.0.2:2379 does not serve that: PUT of a key: 404 page not found
    next: see on the node whether what listens there runs and leads to members that run ('ss -lnt', its log); where nothing is served that a client asks for, the version of etcd is too new for it: then the members can still go back as long as one of them runs the older version
    ");
    let unnamed =
        |machine: &mut FakeMachine| drop(machine.files.remove(std::path::Path::new("/etc/calico/felix.cfg")));
    insta::assert_snapshot!(with(client("2.6.8"), &unnamed), @r"
    where Calico's software on this node asks etcd is not configured anywhere that was looked at: /etc/calico/felix.cfg, the environment of calico-felix, [calico] of /etc/neutron/neutron.conf and /etc/neutron/plugins/ml2/ml2_conf.ini
    next: set etcd.endpoints in the agent.toml of this node to where it is, restart the agent, then retry
    ");
    let full = |machine: &mut FakeMachine| {
        let alarm = wavegate_common::etcd::Alarm {
            member: wavegate_common::etcd::MemberId(0xa001),
            kind: "NOSPACE".to_owned(),
        };
        machine.seat().cluster().alarms.push(alarm);
    };
    insta::assert_snapshot!(with(client("3.3.7"), &full), @r"
    clients of this node are not served at http://10.0.0.2:2379 within 20 s: http://10.0.0.2:2379 refuses: etcdserver: mvcc: database space exceeded
    next: see on the node whether what listens there runs and leads to members that run ('ss -lnt', its log); where nothing is served that a client asks for, the version of etcd is too new for it: then the members can still go back as long as one of them runs the older version
    ");
    let mut elsewhere = client("3.3.7");
    elsewhere.planned = Some(planned(&elsewhere, Part::Client, Some("3.3.7"), 7));
    insta::assert_snapshot!(elsewhere.refused(&action()), @r"
    at http://10.0.0.2:2379 cluster c1 answers, and the plan saw 7
    next: see where that leads (of a proxy: its --initial-cluster, and the file 'cluster' in its data directory), and plan again
    ");
}

#[test]
fn a_member_that_is_just_away_is_waited_for() {
    let bench = client("3.3.7");
    let m2 = wavegate_common::etcd::MemberId(0xa002);
    bench.machine().seat().cluster().goes_down(m2);
    bench.machine().seat().cluster().to_come = vec![(5, crate::host::fake::Happening::Returns(m2))];
    bench.already_so(&action());
    assert!(bench.said.borrow().iter().any(|line| line.contains("http://10.0.0.2:2379 does not answer")));
}

#[test]
fn probes_of_nodes_with_one_host_name_are_not_in_each_others_way() {
    let mut bench = client("2.6.8");
    bench.node = Some(NodeId::new("compute-7").expect("a name"));
    let other = "/wavegate/probe/node".to_owned();
    {
        let machine = bench.machine();
        let mut cluster = machine.seat().cluster();
        cluster.v2_dirs.extend(["/wavegate", "/wavegate/probe"].map(str::to_owned));
        cluster.v2_keys.insert(other.clone(), "another node's".to_owned());
    }
    bench.already_so(&action());
    assert!(bench.history().contains("etcd PUT /v2/keys/wavegate/probe/compute-7"), "{}", bench.history());
    // The other one's is in the directory still.
    assert_eq!(left(&bench), 3);
    assert!(bench.machine().seat().cluster().v2_keys.contains_key(&other));
}
