//! Tests of `etcd.install_packages` on fake machines: what is done in which order, what is refused before etcd is stopped, crashes,
//! and that a member never comes back without its data.

use crate::action::bench::Bench;
use crate::action::etcd_member::{Around, Stopping, around};
use crate::host::Host;
use crate::host::etcd::Endpoint;
use crate::host::fake::{FakeMachine, FakePackage, Fault, Happening, Place, Stopped, WhenEmpty};
use crate::os::systemd;
use wavegate_common::action::{
    Action, EtcdCheckCluster, EtcdCheckMember, EtcdInstallPackages, PackageInstall, PackageSpec,
};
use wavegate_common::etcd::{Alarm, ClusterId, EtcdVersion, MemberId, Part};
use wavegate_common::id::{NodeId, StepId};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::plan::{PlannedEtcd, PlannedNode};

const M2: MemberId = MemberId(0xa002);
const M3: MemberId = MemberId(0xa003);

fn action() -> Action {
    Action::EtcdInstallPackages(EtcdInstallPackages {
        packages: vec![PackageSpec { name: "etcd".to_owned(), version: None }],
        also: Vec::new(),
        allow_downgrades: false,
        unit: "etcd".to_owned(),
        within_s: 30,
        max_lag: 100,
    })
}

/// A member of 3.3 that leads, and packages of 3.4.
fn leader() -> Bench {
    let bench = Bench::new(FakeMachine::debian_etcd_of("3.3.25", "3.4.23"));
    bench.machine().history.clear();
    bench
}

/// The same, and another one leads.
fn follower() -> Bench {
    let bench = leader();
    bench.machine().seat().cluster().leader = Some(M2);
    bench
}

/// A proxy of the same cluster.
fn proxy() -> Bench {
    let bench = follower();
    {
        let mut machine = bench.machine();
        machine.put_file("/etc/default/etcd", "ETCD_PROXY=on\nETCD_DATA_DIR=/var/lib/etcd\n");
        machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd/member"));
        machine.etcd.as_mut().expect("a seat").place = Place::Proxy;
    }
    bench
}

/// What was done to etcd and its packages, in order.
fn done(bench: &Bench) -> String {
    let machine = bench.machine();
    let about = |line: &&String| {
        let starts = ["etcd ", "systemctl st", "systemctl mask", "systemctl unmask", "rename", "replace"];
        starts.iter().any(|start| line.starts_with(start))
            || (line.starts_with("apt-get") && line.contains(" install"))
    };
    let short = |line: &String| {
        let kind = if line.contains(" -s ") {
            "simulate"
        } else if line.contains("--download-only") {
            "download"
        } else {
            "install"
        };
        if line.starts_with("apt-get") {
            format!("{kind} {}", line.rsplit(' ').next().unwrap_or_default())
        } else {
            line.clone()
        }
    };
    machine.history.iter().filter(about).map(short).collect::<Vec<_>>().join("\n")
}

fn stops(bench: &Bench) -> usize {
    bench.machine().seat().cluster().stops.len()
}

/// Refused, and etcd was not touched.
fn refused(bench: &Bench) -> String {
    let before = bench.main_pid("etcd");
    let error = bench.apply(&action()).expect_err("refused");
    assert_eq!((stops(bench), bench.main_pid("etcd")), (0, before));
    assert!(!done(bench).contains("\ninstall"), "{}", done(bench));
    format!("{}\nnext: {}", error.what, error.next)
}

#[test]
fn a_leader_hands_over_and_is_stopped_last_of_all() {
    let bench = leader();
    insta::assert_snapshot!(bench.would(&action()), @r"
    etcd will run 3.4.23, runs 3.3.25
    etcd 3.3.25+dfsg-1 -> 3.4.23+dfsg-1
    etcd: stopped, and started with the new packages
    ");
    bench.machine().history.clear();
    insta::assert_snapshot!(bench.done(&action()), @r"
    etcd 3.3.25+dfsg-1 -> 3.4.23+dfsg-1
    etcd: stopped, and started with what is installed now
    etcd 3.4.23+dfsg-1, etcd runs it as process 1001
    ");
    insta::assert_snapshot!(done(&bench), @r"
    download etcd
    etcd move-leader a002
    systemctl stop -- etcd.service
    replace /usr/sbin/policy-rc.d
    install etcd
    systemctl start -- etcd.service
    simulate etcd
    ");
    insta::assert_snapshot!(bench.said.borrow().iter().filter(|line| line.contains("m1")).cloned().collect::<Vec<_>>().join("\n"), @r"
    handing leadership from m1 to m2
    stopping m1: cluster c1 speaks 3.3: m1 3.3.25, m2 3.3.25 leads, m3 3.3.25; raft index 5001
    ");
    let machine = bench.machine();
    let cluster = machine.seat().cluster();
    assert_eq!((cluster.leads(), cluster.stops[0].led, cluster.stops.len()), (Some("m2"), false, 1));
    assert_eq!((cluster.down(), cluster.members[0].version), (Vec::new(), EtcdVersion::new(3, 4, 23)));
}

/// A member whose server is packaged under a name of the site's own.
fn named_otherwise(name: &str, version: &str) -> (Bench, Action) {
    let bench = follower();
    {
        let mut machine = bench.machine();
        let offered = machine.available.remove("etcd").expect("offered");
        machine.available.insert(name.to_owned(), FakePackage { version: version.to_owned(), ..offered });
        let installed = machine.installed.remove("etcd").expect("installed");
        machine.installed.insert("coreos-etcd".to_owned(), installed);
    }
    let Action::EtcdInstallPackages(action) = action() else { unreachable!("it is one") };
    let packages = vec![PackageSpec { name: name.to_owned(), version: None }];
    (bench, Action::EtcdInstallPackages(EtcdInstallPackages { packages, ..action }))
}

#[test]
fn a_server_package_of_another_name_is_known_by_the_file_of_its_program() {
    let (bench, action) = named_otherwise("coreos-etcd", "3.4.23-7");
    insta::assert_snapshot!(bench.would(&action), @r"
    etcd will run 3.4.23, runs 3.3.25
    coreos-etcd 3.3.25+dfsg-1 -> 3.4.23-7
    etcd: stopped, and started with the new packages
    ");
    // Two minor versions at once are as wrong with that name.
    let (bench, action) = named_otherwise("coreos-etcd", "3.5.16-7");
    let error = bench.apply(&action).expect_err("refused");
    assert_eq!(stops(&bench), 0);
    insta::assert_snapshot!(error.what, @"the cluster can't go to 3.5.16: m1, m2 and m3 run 3.3.25, and 3.5.16 is further than the next minor version");
}

#[test]
fn packages_whose_version_of_etcd_can_not_be_told_are_refused_beforehand() {
    for (name, version) in [("etcd3", "3.4.23-7"), ("coreos-etcd", "20240101")] {
        let (bench, action) = named_otherwise(name, version);
        let refused = bench.refused(&action);
        let error = bench.apply(&action).expect_err("refused");
        assert!(refused.starts_with(&error.what), "{refused}");
        assert_eq!(stops(&bench), 0);
        assert!(error.what.contains(&format!("with {name} {version} can't be told")), "{error}");
    }
    let (bench, action) = named_otherwise("etcd3", "3.4.23-7");
    insta::assert_snapshot!(bench.refused(&action), @r"
    which version of etcd the service etcd would run with etcd3 3.4.23-7 can't be told: /usr/bin/etcd belongs to package coreos-etcd, and no version of etcd is read from what would be installed of that, etcd-server and etcd
    next: name the package that brings etcd's server, whose version begins with etcd's own (--set etcd_packages=NAME=VERSION), and see that the service runs that package's program; nothing was stopped
    ");
}

#[test]
fn leadership_goes_rather_to_a_member_that_runs_the_older_version() {
    let bench = leader();
    bench.machine().seat().cluster().named("m2").version = EtcdVersion::new(3, 4, 23);
    bench.apply(&action()).expect("it applies");
    assert_eq!(bench.machine().seat().cluster().leads(), Some("m3"));
}

#[test]
fn a_version_that_can_not_hand_over_is_stopped_as_it_is() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    bench.apply(&action()).expect("it applies");
    assert!(bench.said.borrow().iter().any(|line| line.contains("its version can't hand that over")));
    assert!(bench.machine().seat().cluster().stops[0].led);
}

#[test]
fn whatever_is_wrong_with_the_others_is_named_and_nothing_is_stopped() {
    let with = |change: &dyn Fn(&mut crate::host::fake::FakeCluster)| {
        let bench = follower();
        change(&mut bench.machine().seat().cluster());
        refused(&bench)
    };
    insta::assert_snapshot!(with(&|cluster| cluster.goes_down(M3)), @r"
    m1 can't be taken down within 30 s: m3: does not answer: connection refused (http://10.0.0.3:2379)
    next: bring what is named here to health first, then retry; nothing was stopped on this node
    ");
    insta::assert_snapshot!(with(&|cluster| cluster.named("m2").well = false), @r"
    m1 can't be taken down within 30 s: m2: says that it is not healthy
    next: bring what is named here to health first, then retry; nothing was stopped on this node
    ");
    insta::assert_snapshot!(with(&|cluster| cluster.named("m2").behind = Some((10, u32::MAX))), @r"
    m1 can't be taken down within 30 s: m2: is 4990 entries behind, at most 100 may be
    next: bring what is named here to health first, then retry; nothing was stopped on this node
    ");
    let alarm = || Alarm { member: M2, kind: "NOSPACE".to_owned() };
    insta::assert_snapshot!(with(&|cluster| cluster.alarms.push(alarm())), @r"
    m1 can't be taken down within 30 s: m2: says that it is not healthy; m3: says that it is not healthy; alarm NOSPACE of m2 is in force
    next: bring what is named here to health first, then retry; nothing was stopped on this node
    ");
    insta::assert_snapshot!(with(&|cluster| {
        for member in &mut cluster.members[1..] {
            member.version = EtcdVersion::new(3, 2, 17);
        }
        cluster.version = EtcdVersion::new(3, 2, 0);
    }), @r"
    the cluster can't go to 3.4.23: m2 and m3 run 3.2.17, and 3.4.23 is further than the next minor version
    next: upgrade etcd to 3.3 first and then to 3.4, each in a rollout of its own; nothing was stopped on this node
    ");
}

#[test]
fn another_cluster_or_member_than_planned_is_refused() {
    let with = |cluster: u64, member: u64| {
        let mut bench = follower();
        let platform = bench.machine().platform.clone();
        bench.planned = Some(PlannedNode {
            roles: [].into(),
            platform,
            release: None,
            versions: [].into(),
            etcd: Some(PlannedEtcd {
                part: Part::Member,
                cluster: ClusterId(cluster),
                member: Some(MemberId(member)),
            }),
            observed_at: wavegate_common::id::Timestamp(0),
        });
        bench
    };
    insta::assert_snapshot!(refused(&with(7, 0xa001)), @r"
    etcd on this node is of cluster c1, and the plan saw it in 7
    next: find out on the node whether it started without its data or with another configuration: m2, m3 keep the quorum without it; then plan again
    ");
    insta::assert_snapshot!(refused(&with(0xc1, 9)), @r"
    etcd on this node is member a001, and the plan saw it as 9
    next: find out on the node whether it started without its data or with another configuration: m2, m3 keep the quorum without it; then plan again
    ");
    with(0xc1, 0xa001).apply(&action()).expect("as planned");
}

#[test]
fn who_is_away_for_a_moment_is_waited_for() {
    let bench = follower();
    bench.machine().seat().cluster().goes_down(M3);
    bench.machine().seat().cluster().named("m3").catches_up_after = 3;
    bench.machine().seat().cluster().index += 1000;
    bench.machine().seat().cluster().to_come = vec![(40, Happening::Returns(M3))];
    bench.apply(&action()).expect("it comes back");
    let said = bench.said.borrow().join("\n");
    assert!(said.contains("waiting: m3: does not answer"), "{said}");
    assert!(bench.machine().seat().cluster().stops[0].beside.is_empty());
}

/// Requests that one look at the cluster takes.
fn requests_of_a_look() -> u64 {
    let bench = leader();
    let endpoint = Endpoint { url: "http://127.0.0.1:2379".to_owned(), ..Endpoint::default() };
    crate::etcd::view(&bench.host, &[endpoint]).expect("a view");
    let machine = bench.machine();
    machine.seat().cluster().requests
}

#[test]
fn whenever_another_member_dies_none_is_stopped_beside_it() {
    let look = requests_of_a_look();
    let (mut stopped, mut refused) = (0, 0);
    for after in 0..6 * look {
        let bench = leader();
        bench.machine().seat().cluster().to_come = vec![(after, Happening::Dies(M3))];
        let applied = bench.apply(&action());
        let machine = bench.machine();
        let cluster = machine.seat().cluster();
        // Who dies while the others are asked for the last time was well a moment ago.
        let in_time = |stop: &Stopped| stop.beside.is_empty() || stop.requests - after <= look;
        assert!(cluster.stops.iter().all(in_time), "after {after}: {:?}", cluster.stops);
        assert_eq!(applied.is_ok(), cluster.stops.len() == 1, "after {after}: {applied:?}");
        stopped += cluster.stops.len();
        refused += usize::from(applied.is_err());
    }
    assert!(stopped > 0 && refused as u64 >= 2 * look, "{stopped} {refused}");
}

#[test]
fn a_member_that_leads_again_hands_over_again() {
    for after in 0..60 {
        let bench = follower();
        bench.machine().seat().cluster().to_come = vec![(after, Happening::Leads(MemberId(0xa001)))];
        bench.apply(&action()).expect("it applies");
        let stop = bench.machine().seat().cluster().stops[0].clone();
        let moved = done(&bench).contains("move-leader");
        let pending = !bench.machine().seat().cluster().to_come.is_empty();
        assert!(!stop.led || !moved, "after {after}");
        assert!(moved || pending || after >= 1, "after {after}");
    }
}

#[test]
fn what_can_fail_fails_before_etcd_is_stopped() {
    for (text, stderr) in [
        (" update", "E: Could not resolve 'archive.example'\n"),
        ("-s -q -y", "E: Unable to locate package etcd\n"),
        ("--download-only", "E: Failed to fetch http://archive.example/etcd.deb  404  Not Found\n"),
    ] {
        let bench = follower();
        bench.machine().faults.fail(text, 100, stderr);
        let said = refused(&bench);
        assert!(said.contains("failed with exit code 100") || said.contains("can't do it"), "{said}");
    }
}

#[test]
fn a_transaction_that_fails_leaves_the_member_running() {
    let bench = follower();
    // The third time that install is run: simulated, fetched, and done.
    bench.machine().faults.fail("--no-remove install etcd", 100, "E: dpkg: broken\n");
    let first = bench.apply(&action()).expect_err("the download fails");
    assert_eq!(stops(&bench), 0, "{first:?}");
    bench.machine().available.get_mut("etcd").expect("etcd").breaks = true;
    let error = bench.apply(&action()).expect_err("its script fails");
    assert_eq!(stops(&bench), 1);
    assert!(error.next.starts_with("etcd runs again with what is installed now; "), "{error:?}");
    assert!(bench.machine().services["etcd"].active);
}

#[test]
fn after_a_kill_anywhere_the_end_is_the_same_and_nothing_is_done_twice() {
    let whole = leader();
    whole.apply(&action()).expect("it applies");
    let mut points: Vec<String> = whole.machine().history.clone();
    points.extend(["note etcd.member:etcd", "note package.install"].map(str::to_owned));
    points.dedup();
    for point in &points {
        for after in [false, true] {
            let bench = leader();
            if after {
                bench.machine().faults.kill_after(point);
            } else {
                bench.machine().faults.kill_before(point);
            }
            bench.apply_killed(&action());
            bench
                .with(|cx| -> Result<(), wavegate_common::outcome::StepError> {
                    // As the next agent does.
                    if matches!(
                        crate::action::check(&action(), cx)?,
                        crate::action::Check::WouldChange { .. }
                    ) {
                        crate::action::apply(&action(), cx)?;
                    }
                    Ok(())
                })
                .unwrap_or_else(|error| panic!("{point} {after}: {error:?}"));
            bench.already_so(&action());
            let machine = bench.machine();
            let cluster = machine.seat().cluster();
            assert_eq!(cluster.down(), Vec::<String>::new(), "{point} {after}");
            assert_eq!(cluster.members[0].version, EtcdVersion::new(3, 4, 23), "{point} {after}");
            let stops: Vec<_> = cluster.stops.iter().map(|stop| (stop.beside.len(), stop.led)).collect();
            assert_eq!(stops, [(0, false)], "{point} {after}");
            for once in ["systemctl stop", "systemctl start"] {
                let times = machine.history.iter().filter(|line| line.starts_with(once)).count();
                assert_eq!(times, 1, "{once}: {point} {after}");
            }
        }
    }
}

#[test]
fn a_power_cut_anywhere_ends_the_same() {
    let whole = leader();
    whole.apply(&action()).expect("it applies");
    let points: Vec<String> = whole.machine().history.clone();
    for point in &points {
        for when in
            [crate::host::fake::When::Before, crate::host::fake::When::Midway, crate::host::fake::When::After]
        {
            let bench = leader();
            bench.machine().faults.add(point, when, Fault::PowerCut);
            let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.apply(&action())));
            if cut.is_ok() {
                continue;
            }
            bench.machine().reboot();
            bench
                .with(|cx| crate::action::apply(&action(), cx))
                .unwrap_or_else(|error| panic!("{point} {when:?}: {error:?}"));
            bench.already_so(&action());
            let machine = bench.machine();
            let cluster = machine.seat().cluster();
            assert_eq!(
                (cluster.down(), cluster.members[0].version),
                (Vec::new(), EtcdVersion::new(3, 4, 23)),
                "{point}"
            );
            assert!(cluster.stops.iter().all(|stop| stop.beside.is_empty()), "{point}");
        }
    }
}

/// Killed after the stop; then something happens to the data.
fn stopped_and(happens: impl FnOnce(&mut FakeMachine)) -> Bench {
    let bench = follower();
    bench.machine().faults.kill_after("systemctl stop");
    bench.apply_killed(&action());
    happens(&mut bench.machine());
    bench
}

#[test]
fn a_member_whose_data_is_not_what_it_was_is_not_started() {
    let left_down = |bench: &Bench| {
        let error = bench.apply(&action()).expect_err("it is not started");
        assert!(!bench.machine().services["etcd"].active);
        assert!(!done(bench).contains("systemctl start"), "{}", done(bench));
        let again = bench.apply(&action()).expect_err("nor the next time");
        assert_eq!(again.what, error.what);
        format!("{}\nnext: {}", error.what, error.next)
    };
    let of_member = |path: &std::path::PathBuf| path.starts_with("/var/lib/etcd");
    let gone = stopped_and(|machine| machine.files.retain(|path, _| !of_member(path)));
    insta::assert_snapshot!(left_down(&gone), @r"
    the data directory of m1 is not the one it had, and so it is not started: /var/lib/etcd/member is gone
    next: touch no other member: they keep the quorum without m1. If the data is still there (a file system that is not mounted, a directory that was renamed), bring it back to /var/lib/etcd and retry. If it is lost, take the member out and add it anew on one of the others ('etcdctl member remove a001', 'etcdctl member add'), start it with an empty /var/lib/etcd and --initial-cluster-state=existing, wait until it has caught up, then plan again
    ");
    let anew = stopped_and(|machine| {
        machine.files.retain(|path, _| !of_member(path));
        machine.put_file("/var/lib/etcd/member/wal/0.wal", "");
        if let Some(seat) = &mut machine.etcd {
            seat.when_empty = WhenEmpty::ComesBackEmpty;
        }
    });
    insta::assert_snapshot!(left_down(&anew).lines().next().unwrap_or_default(), @"the data directory of m1 is not the one it had, and so it is not started: /var/lib/etcd/member was made anew");
    let without_log =
        stopped_and(|machine| machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd/member/wal")));
    assert!(left_down(&without_log).contains("it is not started: /var/lib/etcd/member/wal is empty"));
    let proxy = stopped_and(|machine| machine.put_file("/var/lib/etcd/proxy/cluster", "{}"));
    insta::assert_snapshot!(left_down(&proxy).lines().next().unwrap_or_default(), @"the data directory of m1 is not the one it had, and so it is not started: /var/lib/etcd/proxy has come beside it, the data of a proxy");
    // Once the data is back it goes on.
    let mut kept = Vec::new();
    let hidden = stopped_and(|machine| {
        kept = machine
            .files
            .iter()
            .filter(|(path, _)| of_member(path))
            .map(|(path, file)| (path.clone(), file.clone()))
            .collect();
        machine.files.retain(|path, _| !of_member(path));
    });
    left_down(&hidden);
    hidden.machine().files.extend(kept);
    hidden.apply(&action()).expect("it goes on");
    assert!(hidden.machine().services["etcd"].active);
}

#[test]
fn a_member_whose_log_has_a_disk_of_its_own_is_not_started_without_it() {
    let bench = follower();
    {
        let mut machine = bench.machine();
        machine.put_file("/etc/default/etcd", "ETCD_DATA_DIR=/var/lib/etcd\nETCD_WAL_DIR=/srv/wal\n");
        machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd/member/wal"));
        machine.put_file("/srv/wal/0.wal", "");
    }
    bench.machine().faults.kill_after("systemctl stop");
    bench.apply_killed(&action());
    bench.machine().files.retain(|path, _| !path.starts_with("/srv/wal"));
    let error = bench.apply(&action()).expect_err("it is not started");
    assert!(error.what.ends_with("it is not started: /srv/wal is empty"), "{error:?}");
    bench.machine().put_file("/srv/wal/0.wal", "");
    bench.apply(&action()).expect("it goes on");
}

#[test]
fn a_member_whose_configuration_was_replaced_is_not_started() {
    let with = |unit: &str| {
        let bench = follower();
        let unit = format!("[Service]\n{unit}\n");
        let mut replaced = bench.machine().available["etcd"].clone();
        replaced.files.push(("/lib/systemd/system/etcd.service".into(), unit.clone()));
        bench.machine().available.insert("etcd".to_owned(), replaced);
        // Its unit wins: the file that said otherwise is gone.
        bench.machine().put_file(
            "/lib/systemd/system/etcd.service",
            "[Service]\nEnvironment=ETCD_DATA_DIR=/var/lib/etcd\n",
        );
        bench.machine().files.remove(std::path::Path::new("/etc/default/etcd"));
        let error = bench.apply(&action()).expect_err("it is not started");
        let again = bench.apply(&action()).expect_err("nor by the next agent, who finds it replaced");
        assert_eq!(again.what, error.what);
        assert!(!bench.machine().services["etcd"].active);
        bench.machine().put_file("/etc/default/etcd", "ETCD_DATA_DIR=/var/lib/etcd/\n");
        (bench, error.what)
    };
    insta::assert_snapshot!(with("ExecStart=/usr/bin/etcd --proxy on").1, @"etcd was a member by its configuration, and now it would be a proxy: it is not started");
    let (bench, error) = with("Environment=ETCD_DATA_DIR=/var/lib/etcd/default");
    insta::assert_snapshot!(error, @"etcd had its data in /var/lib/etcd by its configuration, and now it would look for it in /var/lib/etcd/default: it is not started");
    bench.apply(&action()).expect("it is started once its configuration is back");
    assert!(bench.machine().services["etcd"].active);
    insta::assert_snapshot!(with("Environment=ETCD_DATA_DIR=/var/lib/etcd ETCD_WAL_DIR=/srv/wal").1, @"etcd had its log in its data by its configuration, and now it would look for it in /srv/wal: it is not started");
    insta::assert_snapshot!(with("Environment=ETCD_DATA_DIR=/var/lib/etcd ETCD_NAME=other").1, @"etcd was called default by its configuration, and now it would be called other: it is not started");
}

#[test]
fn a_service_that_somebody_starts_meanwhile_is_not_taken_for_one_that_is_down() {
    let bench = follower();
    bench.host.run(&systemd::stop("etcd")).expect("stopped");
    let stops = stops(&bench);
    let found = bench.with(|cx| Around::of("etcd", cx)).expect("it is found");
    bench.host.run(&systemd::start("etcd")).expect("started");
    let stopping = Stopping { unit: "etcd", within_s: 30, max_lag: 100, to: None };
    let error = bench
        .with(|cx| around(&stopping, &found, cx, &mut |_| panic!("nothing is done")))
        .expect_err("it runs now");
    insta::assert_snapshot!(error.what, @"etcd was down when the step began, and was started by somebody since");
    assert_eq!(bench.machine().seat().cluster().stops.len(), stops);
}

#[test]
fn another_boot_may_number_devices_otherwise() {
    let bench = stopped_and(FakeMachine::reboot);
    bench.machine().services.get_mut("etcd").expect("etcd").enabled = true;
    bench.machine().reboot();
    let at = std::path::Path::new("/var/lib/etcd/member");
    assert_eq!(bench.host.identity(at).map(|(device, _)| device), Some(3));
    bench.apply(&action()).expect("it goes on");
    let check = EtcdCheckMember { within_s: 60, settle_s: 5, max_lag: 100 };
    bench.machine().reboot();
    assert!(bench.already_so(&Action::EtcdCheckMember(check)).starts_with("m1 is back with its data"));
}

#[test]
fn an_etcd_that_was_down_stays_down_and_a_proxy_needs_no_gate() {
    let bench = follower();
    bench.host.run(&systemd::stop("etcd")).expect("stopped");
    bench.apply(&action()).expect("it applies");
    assert!(!bench.machine().services["etcd"].active);
    insta::assert_snapshot!(bench.already_so(&action()), @"etcd 3.4.23+dfsg-1, etcd is down, as it was");

    let proxy = proxy();
    proxy.machine().seat().cluster().goes_down(M3);
    proxy.apply(&action()).expect("it applies");
    assert!(proxy.machine().services["etcd"].active && proxy.machine().notes.is_empty());
    insta::assert_snapshot!(done(&proxy), @r"
    simulate etcd
    download etcd
    systemctl stop -- etcd.service
    replace /usr/sbin/policy-rc.d
    install etcd
    systemctl start -- etcd.service
    ");
}

/// Whoever stops the proxy later must not be taken for us.
#[test]
fn what_was_noted_of_a_proxy_is_gone_once_it_runs_again() {
    let mut proxy = proxy();
    proxy.machine().faults.kill_after("systemctl start");
    proxy.apply_killed(&action());
    let noted = |bench: &Bench| bench.machine().notes.contains_key("etcd.member:etcd");
    assert!(noted(&proxy) && proxy.machine().services["etcd"].active);
    proxy.already_so(&action());
    assert!(noted(&proxy), "a preview takes nothing away");
    proxy.node = Some(NodeId::new("n1").expect("a name"));
    proxy.already_so(&action());
    assert!(!noted(&proxy));
    proxy.host.run(&systemd::stop("etcd")).expect("stopped");
    proxy.already_so(&action());

    let mut member = follower();
    member.node = Some(NodeId::new("n1").expect("a name"));
    member.apply(&action()).expect("it applies");
    member.already_so(&action());
    assert!(noted(&member), "whether it is back with its data is still to be seen");
}

/// What the gate is for: without it the same packages stop a member beside one that is down, and the tests above would see it.
#[test]
fn a_transaction_without_the_gate_is_found() {
    let bench = follower();
    bench.machine().seat().cluster().goes_down(M3);
    let plain = PackageInstall {
        packages: vec![PackageSpec { name: "etcd".to_owned(), version: None }],
        ..PackageInstall::default()
    };
    bench.apply(&Action::PackageInstall(plain)).expect("its scripts restart etcd");
    let stops = bench.machine().seat().cluster().stops.clone();
    assert_eq!(stops.iter().map(|stop| stop.beside.join(" ")).collect::<Vec<_>>(), ["m3"]);
}

/// A retry begins with the first step of the task again.
#[test]
fn a_member_that_could_not_be_started_does_not_keep_its_own_retry_from_it() {
    let bench = follower();
    let first = Action::EtcdCheckCluster(EtcdCheckCluster { within_s: 5, max_lag: 100 });
    bench.machine().faults.fail("systemctl start", 1, "Job for etcd.service failed.\n");
    let error = bench.apply(&action()).expect_err("it does not start");
    assert!(error.what.starts_with("'systemctl start"), "{error:?}");
    insta::assert_snapshot!(bench.already_so(&first), @"m1 is down since an earlier attempt, which found all others well: it is to be brought back");
    bench.apply(&action()).expect("it is brought back");
    assert!(bench.already_so(&first).starts_with("all are well"));
}

/// `activating (auto-restart)` for ever, or up and mute: for its service manager it is not down.
#[test]
fn a_member_that_ends_after_every_start_does_not_keep_its_own_retry_from_it() {
    let bench = follower();
    bench.apply(&action()).expect("it is started");
    let me = bench.machine().seat().member().expect("a member");
    bench.machine().seat().cluster().goes_down(me);
    let (first, _) = before("etcd");
    insta::assert_snapshot!(bench.already_so(&first), @"m1 is down since an earlier attempt, which found all others well: it is to be brought back");
    bench.apply(&action()).expect("it is brought back");
    assert_eq!(bench.machine().seat().cluster().down(), Vec::<String>::new());
    assert!(bench.machine().services["etcd"].active);
    let stops = bench.machine().seat().cluster().stops.clone();
    assert_eq!(stops.len(), 2, "{stops:?}");
    assert!(stops.iter().all(|stop| stop.beside.iter().all(|down| *down == "m1")), "{stops:?}");
    assert!(
        bench.said.borrow().iter().any(|line| line.contains("answers nobody")),
        "{:?}",
        bench.said.borrow()
    );
}

/// One that is only slow is not stopped again.
#[test]
fn a_member_that_answers_after_a_while_is_not_down() {
    let bench = follower();
    bench.apply(&action()).expect("it is started");
    let me = bench.machine().seat().member().expect("a member");
    bench.machine().seat().cluster().goes_down(me);
    bench.machine().seat().cluster().to_come = vec![(5, Happening::Returns(me))];
    let (first, _) = before("etcd");
    assert!(bench.already_so(&first).starts_with("all are well"));
}

/// The steps before and after it, as in the task.
fn before(unit: &str) -> (Action, Vec<PlannedStep>) {
    let Action::EtcdInstallPackages(install) = action() else { panic!("packages") };
    let install = Action::EtcdInstallPackages(EtcdInstallPackages { unit: unit.to_owned(), ..install });
    let step = PlannedStep {
        id: StepId::new("install-etcd").expect("a name"),
        title: "install".to_owned(),
        work: Work::Run { action: install, timeout_s: 600 },
    };
    (Action::EtcdCheckCluster(EtcdCheckCluster { within_s: 5, max_lag: 100 }), vec![step])
}

#[test]
fn a_member_that_a_killed_agent_left_masked_is_brought_back_by_a_retry() {
    let mut bench = Bench::new(FakeMachine::redhat_packaged_etcd());
    let (first, to_come) = before("etcd");
    bench.to_come = to_come;
    bench.machine().faults.kill_after("systemctl mask --runtime -- etcd.service");
    bench.apply_killed(&action());
    assert!(bench.machine().services["etcd"].masked_for_now);
    insta::assert_snapshot!(bench.already_so(&first), @"m1 is down since an earlier attempt, which found all others well: it is to be brought back");
    bench.apply(&action()).expect("it is brought back");
    let machine = bench.machine();
    assert!(machine.services["etcd"].active && !machine.services["etcd"].masked_for_now);
    assert_eq!(machine.seat().cluster().down(), Vec::<String>::new());
}

#[test]
fn a_service_of_any_name_that_could_not_be_started_is_brought_back_by_a_retry() {
    for (text, part) in [("ETCD_DATA_DIR=/var/lib/etcd\n", Part::Member), ("ETCD_PROXY=on\n", Part::Proxy)] {
        let mut bench = follower();
        {
            let mut machine = bench.machine();
            let service = machine.services.remove("etcd").expect("etcd");
            machine.services.insert("etcd-cluster".to_owned(), service);
            machine.available.get_mut("etcd").expect("etcd").units.clear();
            let file = machine.files.remove(std::path::Path::new("/etc/default/etcd")).expect("its file");
            machine.files.insert("/etc/default/etcd-cluster".into(), file);
            machine.put_file("/etc/default/etcd-cluster", text);
            let seat = machine.etcd.as_mut().expect("a seat");
            seat.unit = "etcd-cluster".to_owned();
            if part == Part::Proxy {
                seat.place = Place::Proxy;
            }
        }
        let (first, to_come) = before("etcd-cluster");
        let Work::Run { action: install, .. } = to_come[0].work.clone() else { panic!("an action") };
        bench.to_come = to_come;
        bench.machine().faults.fail("systemctl start", 1, "Job for etcd-cluster.service failed.\n");
        bench.apply(&install).expect_err("it does not start");
        assert!(bench.already_so(&first).contains("is down since an earlier attempt"));
        let found = bench.with(|cx| Around::of("etcd-cluster", cx)).expect("it is found");
        assert_eq!((found.here.part, found.here.unit.as_str()), (part, "etcd-cluster"));
        bench.apply(&install).expect("it is brought back");
        assert!(bench.machine().services["etcd-cluster"].active, "{part}");
    }
}
