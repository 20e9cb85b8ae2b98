//! Tests of `etcd.check_cluster` on fake machines.

use crate::action::bench::Bench;
use crate::host::Host;
use crate::host::fake::{FakeCluster, FakeMachine, Happening, Place};
use crate::os::systemd;
use wavegate_common::action::{Action, EtcdCheckCluster};
use wavegate_common::etcd::{Alarm, ClusterId, MemberId, Part};
use wavegate_common::id::Timestamp;
use wavegate_common::plan::{PlannedEtcd, PlannedNode};

fn action() -> Action {
    Action::EtcdCheckCluster(EtcdCheckCluster { within_s: 20, max_lag: 100 })
}

#[test]
fn a_cluster_in_which_all_are_well_is_told_in_a_line() {
    let bench = Bench::new(FakeMachine::redhat_etcd());
    insta::assert_snapshot!(bench.already_so(&action()), @"all are well: cluster c1 speaks 3.2: m1 3.2.17 leads, m2 3.2.17, m3 3.2.17; raft index 5000");
    assert!(bench.said.borrow().is_empty());
}

#[test]
fn who_is_not_well_is_named() {
    let with = |change: &dyn Fn(&mut FakeCluster)| {
        let bench = Bench::new(FakeMachine::redhat_etcd());
        change(&mut bench.machine().seat().cluster());
        bench.refused(&action())
    };
    insta::assert_snapshot!(with(&|cluster| cluster.goes_down(MemberId(0xa003))), @r"
    the cluster is not well, and did not get so within 20 s: m3: does not answer: connection refused (http://10.0.0.3:2379)
    next: bring what is named here to health ('etcdctl endpoint status' and the log of etcd there say more; alarms are 'etcdctl alarm list'), then retry; nothing was touched
    ");
    insta::assert_snapshot!(with(&|cluster| {
        cluster.named("m1").well = false;
        cluster.named("m2").behind = Some((10, u32::MAX));
    }).lines().next().unwrap_or_default(), @"the cluster is not well, and did not get so within 20 s: m1: says that it is not healthy; m2: is 4990 entries behind, at most 100 may be");
    let alarm = || Alarm { member: MemberId(0xa001), kind: "CORRUPT".to_owned() };
    assert!(with(&|cluster| cluster.alarms.push(alarm())).contains("alarm CORRUPT of m1 is in force"));
}

#[test]
fn where_none_of_the_others_is_reached_this_node_is_the_likelier_cause() {
    let bench = Bench::new(FakeMachine::redhat_etcd());
    for id in [MemberId(0xa002), MemberId(0xa003)] {
        bench.machine().seat().cluster().goes_down(id);
    }
    insta::assert_snapshot!(bench.refused(&action()).lines().next().unwrap_or_default(), @"the cluster is not well, and did not get so within 20 s: none of the other members is reached from this node, so that its own network, or how it asks them ([etcd] of its agent.toml), is the likelier cause; m1: knows no leader; m2: does not answer: connection refused (http://10.0.0.2:2379); m3: does not answer: connection refused (http://10.0.0.3:2379)");
}

#[test]
fn a_proxy_that_is_down_is_named_and_not_the_cluster() {
    let mut machine = FakeMachine::redhat_etcd();
    machine.put_file("/etc/sysconfig/etcd", "ETCD_PROXY=on\n");
    if let Some(seat) = machine.etcd.as_mut() {
        seat.place = Place::Proxy;
    }
    let bench = Bench::new(machine);
    bench.host.run(&systemd::stop("etcd")).expect("stopped");
    insta::assert_snapshot!(bench.refused(&action()), @r"
    the proxy of this node, service etcd, is down (inactive (dead)): nobody can ask etcd through it
    next: start it and retry; or, where none is wanted here any more, disable and mask etcd, so that it is no longer found, and plan again
    ");
}

#[test]
fn what_passes_by_itself_is_waited_for_and_said_every_ten_seconds() {
    let bench = Bench::new(FakeMachine::redhat_etcd());
    bench.machine().seat().cluster().named("m2").behind = Some((10, 28));
    bench.already_so(&action());
    let said = bench.said.borrow();
    assert_eq!(said.len(), 2, "{said:?}");
    let bench = Bench::new(FakeMachine::redhat_etcd());
    bench.machine().seat().cluster().goes_down(MemberId(0xa003));
    bench.machine().seat().cluster().to_come = vec![(30, Happening::Returns(MemberId(0xa003)))];
    bench.already_so(&action());
}

#[test]
fn another_cluster_than_planned_and_a_node_without_etcd_are_refused() {
    let mut bench = Bench::new(FakeMachine::redhat_etcd());
    let platform = bench.machine().platform.clone();
    bench.planned = Some(PlannedNode {
        roles: [].into(),
        platform,
        release: None,
        versions: [].into(),
        etcd: Some(PlannedEtcd { part: Part::Member, cluster: ClusterId(7), member: None }),
        observed_at: Timestamp(0),
    });
    insta::assert_snapshot!(bench.refused(&action()), @r"
    etcd on this node is of cluster c1, and the plan saw it in 7
    next: find out what has changed on the node since, then plan again
    ");
    insta::assert_snapshot!(Bench::new(FakeMachine::redhat_compute()).refused(&action()), @r"
    no etcd is found on this node, whose cluster is to be looked at
    next: see what 'wavegate-agent facts' says of etcd on this node, and [etcd] of its agent.toml, then retry
    ");
}
