//! Tests of `etcd.check_member` on fake machines: after a member was stopped and started with newer packages.

use crate::action::bench::Bench;
use crate::host::Host;
use crate::host::fake::{FakeMachine, Happening, WhenEmpty};
use crate::os::systemd;
use wavegate_common::action::{Action, EtcdCheckCluster, EtcdCheckMember, EtcdInstallPackages, PackageSpec};
use wavegate_common::etcd::{ClusterId, EtcdVersion, MemberId, Part};
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::plan::{PlannedEtcd, PlannedNode};

const WAL: &str = "/var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal";
const M1: MemberId = MemberId(0xa001);

fn action() -> Action {
    Action::EtcdCheckMember(EtcdCheckMember { within_s: 120, settle_s: 30, max_lag: 100 })
}

/// A member that was upgraded a moment ago.
fn upgraded() -> Bench {
    let bench = Bench::new(FakeMachine::debian_etcd());
    bench.apply(&install()).expect("it applies");
    bench.said.borrow_mut().clear();
    bench
}

fn install() -> Action {
    Action::EtcdInstallPackages(EtcdInstallPackages {
        packages: vec![PackageSpec { name: "etcd".to_owned(), version: None }],
        also: Vec::new(),
        allow_downgrades: false,
        unit: "etcd".to_owned(),
        within_s: 30,
        max_lag: 100,
    })
}

#[test]
fn a_member_that_is_back_is_watched_for_a_while_and_its_note_is_forgotten() {
    let bench = upgraded();
    let began = bench.machine().now;
    assert!(bench.machine().notes.contains_key("etcd.member:etcd"));
    insta::assert_snapshot!(bench.already_so(&action()), @"m1 is back with its data and was well for 30 s; cluster c1 speaks 3.2: m1 3.3.27, m2 3.2.17 leads, m3 3.2.17; raft index 5001; the cluster speaks 3.2 until m2, m3 is upgraded");
    let took = bench.machine().now.millis_since(began) / 1000;
    assert!((30..40).contains(&took), "{took}");
    assert!(bench.machine().notes.is_empty());
}

#[test]
fn after_the_last_member_the_cluster_must_speak_the_new_version() {
    let bench = upgraded();
    {
        let machine = bench.machine();
        let mut cluster = machine.seat().cluster();
        cluster.members.iter_mut().for_each(|member| member.version = EtcdVersion::new(3, 3, 27));
    }
    insta::assert_snapshot!(bench.refused(&action()), @r"
    m1 is not back within 120 s: every member runs 3.3, and the cluster still speaks 3.2
    | etcd: exited, status=1/FAILURE
    next: no other member is touched meanwhile; read 'systemctl status etcd' and 'journalctl -u etcd' on the node, mend the service, then retry; every member runs 3.3: the cluster can't go back but from a backup
    ");
    bench.machine().seat().cluster().version = EtcdVersion::new(3, 3, 0);
    insta::assert_snapshot!(bench.already_so(&action()), @"m1 is back with its data and was well for 30 s; cluster c1 speaks 3.3: m1 3.3.27, m2 3.3.27 leads, m3 3.3.27; raft index 5001");
}

#[test]
fn a_relapse_begins_the_watch_anew() {
    let bench = upgraded();
    let m3 = MemberId(0xa003);
    bench.machine().seat().cluster().to_come = vec![(60, Happening::Dies(m3)), (120, Happening::Returns(m3))];
    let began = bench.machine().now;
    bench.already_so(&action());
    let relapsed = bench.when_said("the watch begins anew");
    assert!(relapsed > began, "it was well before");
    // Of the watch before the relapse nothing counts, nor of the time that the other was gone.
    let watched = bench.machine().now.millis_since(relapsed);
    assert!(watched > 30_000, "{watched} ms");
}

#[test]
fn a_member_that_never_catches_up_is_not_back() {
    let bench = upgraded();
    bench.machine().seat().cluster().named("m1").behind = Some((10, u32::MAX));
    insta::assert_snapshot!(bench.refused(&action()), @r"
    m1 is not back within 120 s: m1: is 4991 entries behind, at most 100 may be
    | etcd: exited, status=1/FAILURE
    next: no other member is touched meanwhile; read 'systemctl status etcd' and 'journalctl -u etcd' on the node, mend the service, then retry; as long as m2, m3 runs an older version the cluster can go back: install that on the others again
    ");
    assert!(bench.machine().notes.contains_key("etcd.member:etcd"));
}

#[test]
fn a_member_that_does_not_run_what_is_installed_is_not_back() {
    let bench = upgraded();
    bench.machine().seat().cluster().named("m1").version = EtcdVersion::new(3, 2, 17);
    let said = bench.refused(&action());
    assert!(
        said.starts_with("m1 is not back within 120 s: it runs 3.2.17, and 3.3.27 is installed"),
        "{said}"
    );
    let bench = upgraded();
    bench.host.run(&systemd::stop("etcd")).expect("stopped");
    let said = bench.refused(&action());
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_member_that_came_back_without_its_data_is_told_at_once() {
    let bench = upgraded();
    {
        let mut machine = bench.machine();
        machine.lose_power();
        machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd"));
        machine.etcd.as_mut().expect("a seat").when_empty = WhenEmpty::ComesBackEmpty;
        machine.reboot();
    }
    let began = bench.machine().now;
    insta::assert_snapshot!(bench.refused(&action()), @r"
    the data directory of m1 is not the one it had, and it was started on that: /var/lib/etcd/member was made anew
    next: stop it on the node at once; touch no other member: they keep the quorum without m1. If the data is still there (a file system that is not mounted, a directory that was renamed), bring it back to /var/lib/etcd and retry. If it is lost, take the member out and add it anew on one of the others ('etcdctl member remove a001', 'etcdctl member add'), start it with an empty /var/lib/etcd and --initial-cluster-state=existing, wait until it has caught up, then plan again
    ");
    assert!(bench.machine().now.millis_since(began) < 5000);
}

#[test]
fn another_member_than_planned_is_told_at_once() {
    let mut bench = upgraded();
    let platform = bench.machine().platform.clone();
    bench.planned = Some(PlannedNode {
        roles: [].into(),
        platform,
        release: None,
        versions: [].into(),
        etcd: Some(PlannedEtcd { part: Part::Member, cluster: ClusterId(0xc1), member: Some(M1) }),
        observed_at: Timestamp(0),
    });
    bench.machine().seat().cluster().id = ClusterId(9);
    insta::assert_snapshot!(bench.refused(&action()).lines().next().unwrap_or_default(), @"etcd on this node is of cluster 9, and the plan saw it in c1");
    bench.planned = None;
    insta::assert_snapshot!(bench.refused(&action()).lines().next().unwrap_or_default(), @"m1 came back as another member: it is now member a001 of cluster 9, and was a001 of c1");
}

/// An earlier rollout ended with a member that had lost its data; its operators added it anew, then planned again.
#[test]
fn what_an_earlier_rollout_noted_of_a_member_that_was_added_anew_says_nothing() {
    let bench = upgraded();
    {
        let mut machine = bench.machine();
        let note = machine.notes["etcd.member:etcd"].replace("\"r1\"", "\"r0\"");
        assert!(note.contains("\"r0\"") && note.contains("a001"), "{note}");
        machine.notes.insert("etcd.member:etcd".to_owned(), note.replace("a001", "b001"));
        let wal = machine.files.remove(std::path::Path::new(WAL)).expect("its log");
        machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd/member"));
        machine.put_file(WAL, wal.content);
    }
    assert!(bench.already_so(&action()).starts_with("m1 is back with its data"));
    assert!(bench.machine().notes.is_empty());
}

/// What the look at the data before the start is for: without it a member is started empty, and this check would see it.
#[test]
fn a_start_without_a_look_at_the_data_is_found() {
    let bench = upgraded();
    bench.host.run(&systemd::stop("etcd")).expect("stopped");
    {
        let mut machine = bench.machine();
        machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd"));
        machine.etcd.as_mut().expect("a seat").when_empty = WhenEmpty::ComesBackEmpty;
    }
    assert_eq!(bench.host.run(&systemd::start("etcd")).expect("it runs").code, 0);
    let said = bench.refused(&action());
    assert!(
        said.contains("/var/lib/etcd/member was made anew") && said.contains("stop it on the node at once"),
        "{said}"
    );
}

/// While one member speaks version 2 alone, no other serves version 3, whatever it runs.
#[test]
fn a_cluster_goes_from_version_2_to_3_member_by_member() {
    let check = Action::EtcdCheckCluster(EtcdCheckCluster { within_s: 5, max_lag: 100 });
    let bench = Bench::new(FakeMachine::debian_etcd_of("2.3.8", "3.0.17"));
    assert!(bench.already_so(&check).starts_with("all are well: cluster c1 speaks 2.3"));
    bench.apply(&install()).expect("it applies");
    let said = bench.already_so(&action());
    insta::assert_snapshot!(said, @"m1 is back with its data and was well for 30 s; cluster c1 speaks 2.3: m1 3.0.17, m2 2.3.8 leads, m3 2.3.8; raft index 5001; the cluster speaks 2.3 until m2, m3 is upgraded");
    assert!(bench.already_so(&check).starts_with("all are well: cluster c1 speaks 2.3"));
    let facts = {
        let node = NodeId::new("m1").expect("a name");
        crate::facts::observe(&bench.host, node, &[].into(), &bench.etcd).expect("facts")
    };
    let seen = facts.etcd.expect("etcd is there");
    assert_eq!(
        (seen.member, seen.version, seen.unknown),
        (Some(M1), Some(EtcdVersion::new(3, 0, 17)), Vec::new())
    );
    // The last one is upgraded, and the cluster speaks version 3.
    {
        let machine = bench.machine();
        let mut cluster = machine.seat().cluster();
        for id in [MemberId(0xa002), MemberId(0xa003)] {
            cluster.goes_down(id);
            cluster.comes_up(id, EtcdVersion::new(3, 0, 17));
        }
    }
    insta::assert_snapshot!(bench.already_so(&action()), @"m1 is back with its data and was well for 30 s; cluster c1 speaks 3.0: m1 3.0.17 leads, m2 3.0.17, m3 3.0.17; raft index 5003");
}
