//! A fake cluster behaves as etcd does in what matters to an upgrade.

use super::*;
use crate::host::Host;
use crate::host::etcd::{Endpoint, V2Call};
use crate::host::fake::{FakeHost, FakeMachine};
use crate::os::systemd;

fn at(url: &str) -> Endpoint {
    Endpoint { url: url.to_owned(), ..Endpoint::default() }
}

fn v2(method: &'static str, path: &str) -> V2Call {
    V2Call { method, path: path.to_owned(), form: vec![("value", "x".to_owned())] }
}

/// Three machines that share a cluster.
fn three() -> Vec<FakeHost> {
    let mut machines =
        vec![FakeMachine::debian_etcd(), FakeMachine::redhat_etcd(), FakeMachine::debian_etcd()];
    join(["a", "b", "c"].into_iter().zip(&mut machines));
    machines.into_iter().map(FakeHost::new).collect()
}

fn run(host: &FakeHost, command: &crate::host::Command) -> i32 {
    host.run(command).expect("it runs").code
}

#[test]
fn a_member_is_up_while_its_service_runs_and_runs_what_its_program_prints() {
    let hosts = three();
    let own = "http://127.0.0.1:2379";
    let status = hosts[1].etcd(&at(own)).status().expect("it answers");
    assert_eq!((status.version, status.leader), (EtcdVersion::new(3, 2, 17), Some(MemberId(0xa001))));
    assert_eq!(run(&hosts[0], &systemd::stop("etcd")), 0);
    assert!(hosts[0].etcd(&at(own)).status().is_err());
    // Another one leads, and says so.
    assert_eq!(hosts[1].etcd(&at(own)).status().expect("it answers").leader, Some(MemberId(0xa002)));
    assert_eq!(run(&hosts[1], &systemd::stop("etcd")), 0);
    let alone = hosts[2].etcd(&at(own));
    assert_eq!(alone.status().expect("it answers").leader, None);
    assert!(alone.health().is_err() && alone.get("/x").is_err());
    let stops = hosts[2].machine().seat().cluster().stops.clone();
    let told: Vec<_> =
        stops.iter().map(|stop| (stop.member.as_str(), stop.beside.join(" "), stop.led)).collect();
    assert_eq!(told, [("a", String::new(), true), ("b", "a".to_owned(), true)]);
    assert_eq!(run(&hosts[1], &systemd::start("etcd")), 0);
    assert!(alone.health().is_ok());
}

#[test]
fn the_cluster_follows_when_the_last_member_is_newer_and_no_member_goes_back() {
    let hosts = three();
    let update = |host: &FakeHost| {
        for program in ["/usr/bin/etcd", "/usr/local/bin/etcd"] {
            host.machine().put_program(program, "etcd Version: 3.3.27\n");
        }
        run(host, &systemd::restart("etcd"))
    };
    let spoken = || hosts[0].machine().seat().cluster().version;
    assert_eq!((update(&hosts[0]), update(&hosts[1])), (0, 0));
    assert_eq!(spoken(), EtcdVersion::new(3, 2, 0));
    assert_eq!(update(&hosts[2]), 0);
    assert_eq!(spoken(), EtcdVersion::new(3, 3, 0));
    hosts[0].machine().put_program("/usr/bin/etcd", "etcd Version: 3.2.17\n");
    assert_ne!(run(&hosts[0], &systemd::restart("etcd")), 0);
    assert_eq!(hosts[0].machine().seat().cluster().down(), ["a"]);
}

#[test]
fn a_member_without_its_data_does_not_start_or_comes_back_empty() {
    let hosts = three();
    let lose = |host: &FakeHost| {
        assert_eq!(run(host, &systemd::stop("etcd")), 0);
        host.machine().files.retain(|path, _| !path.starts_with("/var/lib/etcd"));
    };
    lose(&hosts[0]);
    assert_ne!(run(&hosts[0], &systemd::start("etcd")), 0);
    assert_eq!(hosts[1].machine().seat().cluster().down(), ["a"]);
    let before = hosts[1].identity("/var/lib/etcd/member".as_ref()).expect("it is there");
    lose(&hosts[1]);
    assert_eq!(hosts[1].identity("/var/lib/etcd/member".as_ref()), None);
    hosts[1].machine().etcd.as_mut().expect("a seat").when_empty = WhenEmpty::ComesBackEmpty;
    assert_eq!(run(&hosts[1], &systemd::start("etcd")), 0);
    assert_ne!(hosts[1].identity("/var/lib/etcd/member".as_ref()), Some(before));
}

#[test]
fn power_and_copies_are_the_machines_own() {
    let hosts = three();
    let copy = hosts[0].machine().clone();
    hosts[0].machine().lose_power();
    assert_eq!(hosts[1].machine().seat().cluster().down(), ["a"]);
    assert_eq!(copy.seat().cluster().down(), Vec::<String>::new());
    hosts[0].machine().reboot();
    assert_eq!(hosts[1].machine().seat().cluster().down(), Vec::<String>::new());
    assert!(hosts[1].machine().seat().cluster().stops.is_empty());
}

#[test]
fn who_was_away_has_to_catch_up_and_things_happen_when_they_are_told_to() {
    let host = FakeHost::new(FakeMachine::debian_etcd());
    {
        let machine = host.machine();
        let mut cluster = machine.seat().cluster();
        cluster.named("m2").catches_up_after = 2;
        let m2 = cluster.named("m2").id;
        cluster.goes_down(m2);
        cluster.index += 1000;
        cluster.to_come = vec![(0, Happening::Returns(m2)), (3, Happening::Leads(m2))];
    }
    let indexes: Vec<u64> =
        (0..3).map(|_| host.etcd(&at("http://10.0.0.2:2379")).status().expect("it answers").index).collect();
    assert_eq!(indexes, [5000, 5000, 6000]);
    assert_eq!(host.machine().seat().cluster().leads(), Some("m1"));
    host.etcd(&at("http://10.0.0.3:2379")).health().expect("well");
    assert_eq!(host.machine().seat().cluster().leads(), Some("m2"));
}

#[test]
fn both_apis_keep_their_keys() {
    let host = FakeHost::new(FakeMachine::redhat_etcd());
    let own = host.etcd(&at("http://localhost:2379"));
    let written = own.put("/a", "1", std::time::Duration::ZERO).expect("written");
    assert_eq!(own.get("/a").expect("read").value.as_deref(), Some("1"));
    assert_eq!(own.watch("/a", written).expect("it came"), "1");
    own.delete("/a").expect("taken away");
    assert_eq!(own.get("/a").expect("read").value, None);
    assert_eq!(own.v2(&v2("PUT", "/v2/keys/b")).expect("answered").status, 201);
    let got = own.v2(&v2("GET", "/v2/keys/b?quorum=true")).expect("answered");
    assert!(got.body.contains(r#""value":"x""#) && got.cluster == Some(ClusterId(0xc1)), "{}", got.body);
    let all = own.v2(&v2("GET", "/v2/keys/?recursive=true")).expect("answered").body;
    assert!(all.contains("/calico/v1/Ready") && all.contains("\"/b\""), "{all}");
    assert_eq!(own.v2(&v2("DELETE", "/v2/keys/b")).expect("answered").status, 200);
    assert_eq!(own.v2(&v2("GET", "/v2/keys/b")).expect("answered").status, 404);
}
