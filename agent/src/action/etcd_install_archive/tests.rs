//! Tests of `etcd.install_archive` on fake machines: what is replaced and when, crashes, and what is refused beforehand.

use crate::action::bench::{Bench, shown};
use crate::host::Host;
use crate::host::fake::{ETCD_ARCHIVE_URL, FakeMachine, FakePackage, FakeService, FakeUnit, archive, sha256};
use crate::os::systemd;
use std::path::Path;
use wavegate_common::action::{Action, EtcdInstallArchive};

fn action(machine: &FakeMachine) -> Action {
    Action::EtcdInstallArchive(EtcdInstallArchive {
        url: ETCD_ARCHIVE_URL.to_owned(),
        sha256: sha256(&machine.fetchable[ETCD_ARCHIVE_URL]).try_into().expect("a digest"),
        binaries: ["etcd", "etcdctl"].map(|name| name.to_owned().try_into().expect("a name")).into(),
        directory: "/usr/local/bin".to_owned(),
        unit: "etcd".to_owned(),
        within_s: 10,
        max_lag: 100,
    })
}

fn bench() -> (Bench, Action) {
    let machine = FakeMachine::redhat_etcd();
    let action = action(&machine);
    (Bench::new(machine), action)
}

#[test]
fn programs_are_replaced_while_etcd_is_down() {
    let (bench, action) = bench();
    insta::assert_snapshot!(bench.would(&action), @r"
    etcd will run 3.3.27, runs 3.2.17
    /usr/local/bin/etcd: would be replaced by the archive's
    /usr/local/bin/etcdctl: would be replaced by the archive's
    etcd: stopped, and started with the new programs
    ");
    let before = bench.main_pid("etcd");
    assert!(before.is_some());
    bench.machine().history.clear();
    insta::assert_snapshot!(bench.done(&action), @r"
    /usr/local/bin/etcd: replaced; the one before is /usr/local/bin/etcd.wavegate-old
    /usr/local/bin/etcdctl: replaced; the one before is /usr/local/bin/etcdctl.wavegate-old
    etcd: stopped, and started with what is installed now
    etcd, etcdctl in /usr/local/bin are those of archive 08d9f4e810d2: etcd Version: 3.3.27
    ");
    assert_ne!(bench.main_pid("etcd"), before);
    let history = bench.history();
    let order = [
        "systemctl stop",
        "replace /usr/local/bin/etcd",
        "replace /usr/local/bin/etcdctl",
        "systemctl start",
    ];
    let at: Vec<Option<usize>> = order.iter().map(|text| history.find(text)).collect();
    assert!(at.is_sorted() && at.iter().all(Option::is_some), "{history}");
    let old = bench.machine().files[Path::new("/usr/local/bin/etcd.wavegate-old")].clone();
    assert!(String::from_utf8_lossy(&old.content).contains("3.2.17"));
}

#[test]
fn an_etcd_that_was_down_stays_down() {
    let (bench, action) = bench();
    bench.machine().services.get_mut("etcd").expect("etcd").active = false;
    assert!(!bench.would(&action).contains("started"));
    bench.apply(&action).expect("it applies");
    bench.already_so(&action);
    assert!(!bench.machine().services["etcd"].active);
}

/// An etcd of the archive's on Ubuntu 14.04, with the job of Calico's documentation.
fn trusty_etcd() -> FakeMachine {
    let mut machine = FakeMachine::trusty();
    for program in ["etcd", "etcdctl"] {
        machine.put_program(format!("/usr/local/bin/{program}"), &format!("{program} Version: 3.2.17\n"));
    }
    machine
        .install("site-etcd-job", &job("/usr/local/bin/etcd --name a --data-dir /var/lib/etcd"))
        .expect("it installs");
    machine.fetchable = FakeMachine::redhat_etcd().fetchable;
    machine.put_file("/etc/default/etcd", "ETCD_DATA_DIR=/var/lib/etcd\n");
    machine.take_a_seat();
    machine
}

/// A package that brings a service of etcd's and no program.
fn job(command_line: &str) -> FakePackage {
    let argv = command_line.split(' ').map(str::to_owned).collect();
    let service = FakeService { argv, ..FakeService::default() };
    let unit = FakeUnit { name: "etcd".to_owned(), service, starts: true, restarts: true };
    FakePackage { version: "1".to_owned(), units: vec![unit], ..FakePackage::default() }
}

#[test]
fn after_a_kill_anywhere_the_end_is_the_same() {
    let both = [(FakeMachine::redhat_etcd(), "systemctl"), (trusty_etcd(), "initctl")];
    for (machine, program) in both {
        let [stop, start] = ["stop", "start"].map(|verb| format!("{program} {verb}"));
        for point in [stop.as_str(), "replace /usr/local/bin/etcd", "replace /usr/local/bin/etcdctl", &start]
        {
            for after in [false, true] {
                let action = action(&machine);
                let bench = Bench::new(machine.clone());
                if after {
                    bench.machine().faults.kill_after(point);
                } else {
                    bench.machine().faults.kill_before(point);
                }
                bench.apply_killed(&action);
                bench.done(&action);
                let machine = bench.machine();
                assert!(machine.services["etcd"].active, "{point} {after}");
                let old = &machine.files[Path::new("/usr/local/bin/etcd.wavegate-old")];
                assert!(String::from_utf8_lossy(&old.content).contains("3.2.17"), "{point} {after}");
                for path in ["/usr/local/bin/etcd", "/usr/local/bin/etcdctl"] {
                    let replaced = machine.history.iter().filter(|line| **line == format!("replace {path}"));
                    assert_eq!(replaced.count(), 1, "{point} {after}");
                }
            }
        }
    }
}

#[test]
fn on_upstart_programs_are_replaced_while_the_job_is_down() {
    let machine = trusty_etcd();
    let action = action(&machine);
    let bench = Bench::new(machine);
    bench.machine().history.clear();
    bench.done(&action);
    let history = bench.history();
    let order: Vec<&str> = history
        .lines()
        .filter(|line| ["initctl", "replace"].iter().any(|start| line.starts_with(start)))
        .collect();
    insta::assert_snapshot!(order.join("\n"), @r"
    initctl stop etcd
    replace /usr/local/bin/etcd
    replace /usr/local/bin/etcdctl
    initctl start etcd
    ");
}

/// What is said when a step's etcd is not the one that the service runs; nothing is fetched, and etcd is not touched.
fn refused_untouched(bench: &Bench, action: &Action) -> String {
    bench.machine().history.clear();
    let error = bench.check(action).expect_err("refused");
    assert_eq!(bench.apply(action).expect_err("refused").what, error.what);
    let history = bench.history();
    let touched = ["tar -x", "replace", "systemctl stop", "initctl stop"];
    assert!(!touched.iter().any(|word| history.contains(word)), "{history}");
    shown(&error)
}

#[test]
fn the_file_that_the_service_really_runs_must_be_the_steps() {
    // A package's etcd, which runs.
    let mut packaged = FakeMachine::redhat_etcd();
    packaged.services.clear();
    packaged.processes.clear();
    let mut package = job("/usr/bin/etcd");
    package.programs = vec![("/usr/bin/etcd".into(), "etcd Version: 3.2.17\n".to_owned())];
    packaged.install("etcd", &package).expect("it installs");
    let bench = Bench::new(packaged);
    let step = action(&FakeMachine::redhat_etcd());
    insta::assert_snapshot!(refused_untouched(&bench, &step), @r"
    the service etcd runs /usr/bin/etcd, and etcd_directory says /usr/local/bin/etcd, which it does not run
    next: /usr/bin/etcd belongs to package etcd: let the package bring etcd (etcd_from_archive = false), or name another etcd_directory; then plan again
    ");
    // The same where it is down, and where the step's directory is the package's.
    bench.host.run(&systemd::stop("etcd")).expect("it stops");
    assert!(
        refused_untouched(&bench, &step)
            .starts_with("the service etcd runs /usr/bin/etcd, and etcd_directory")
    );
    let Action::EtcdInstallArchive(mut there) = step else { unreachable!("see above") };
    there.directory = "/usr/bin".to_owned();
    insta::assert_snapshot!(refused_untouched(&bench, &Action::EtcdInstallArchive(there)), @r"
    /usr/bin/etcd belongs to package etcd: an archive must not replace it
    next: let the package bring etcd (etcd_from_archive = false), or name another etcd_directory; then plan again
    ");

    // One that somebody put elsewhere.
    let mut elsewhere = FakeMachine::redhat_etcd();
    elsewhere.put_program("/opt/etcd-3.2/etcd", "etcd Version: 3.2.17\n");
    elsewhere.services.get_mut("etcd").expect("etcd").argv = vec!["/opt/etcd-3.2/etcd".to_owned()];
    let bench = Bench::new(elsewhere);
    bench.host.run(&systemd::restart("etcd")).expect("it restarts");
    insta::assert_snapshot!(refused_untouched(&bench, &action(&FakeMachine::redhat_etcd())), @r"
    the service etcd runs /opt/etcd-3.2/etcd, and etcd_directory says /usr/local/bin/etcd, which it does not run
    next: plan with etcd_directory = /opt/etcd-3.2, or have the service run /usr/local/bin/etcd; then plan again
    ");
}

#[test]
fn an_etcd_behind_a_shell_or_a_script_is_found() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let script = "#!/bin/sh\n# as /usr/bin/etcd\nmkdir -p /var/lib/etcd\nETCD_NAME=a exec /usr/local/bin/etcd \"$@\"\n";
    let fits = [
        "/bin/bash -c GOMAXPROCS=$(nproc) /usr/local/bin/etcd --data-dir=\"/var/lib/etcd\"",
        "/usr/local/bin/start-etcd",
    ];
    for command_line in fits {
        let mut machine = FakeMachine::redhat_etcd();
        machine.put_program("/usr/local/bin/start-etcd", script);
        machine.put_program("/usr/bin/etcd", "etcd Version: 3.0.0\n");
        machine.put_file("/var/lib/etcd", "a directory");
        let step = action(&machine);
        let bench = Bench::new(machine);
        // It runs as etcd, whatever started it.
        bench.machine().services.get_mut("etcd").expect("etcd").argv = words(command_line);
        bench.would(&step);
        // It is down.
        bench.host.run(&systemd::stop("etcd")).expect("it stops");
        bench.would(&step);
    }
    // The script stays, with etcd as its child.
    let mut machine = FakeMachine::redhat_etcd();
    machine.put_program("/usr/local/bin/start-etcd", script);
    machine.services.get_mut("etcd").expect("etcd").argv = words("/usr/local/bin/start-etcd");
    let step = action(&machine);
    let bench = Bench::new(machine);
    bench.host.run(&systemd::restart("etcd")).expect("it restarts");
    bench.machine().spawn(&words("/usr/local/bin/etcd"));
    bench.would(&step);

    // Down, with a script that does not name it: nothing tells.
    bench.host.run(&systemd::stop("etcd")).expect("it stops");
    bench.machine().processes.clear();
    bench.machine().put_program("/usr/local/bin/start-etcd", "#!/bin/sh\nexec $ETCD\n");
    insta::assert_snapshot!(refused_untouched(&bench, &step), @r"
    etcd does not run, and its command line does not tell which etcd it would: /usr/local/bin/start-etcd
    next: start etcd on the node, so that its process tells; then retry
    ");
    // By its name alone it is the first one in the path.
    bench.machine().put_program("/usr/local/bin/start-etcd", "#!/bin/sh\nexec etcd\n");
    bench.would(&step);
}

#[test]
fn a_service_that_is_not_there_or_kept_down_is_told() {
    let (bench, action) = bench();
    bench.host.run(&systemd::stop("etcd")).expect("it stops");
    bench.host.run(&systemd::mask("etcd")).expect("it is masked");
    assert!(refused_untouched(&bench, &action).starts_with("etcd is masked: somebody decided"));
    bench.machine().services.clear();
    assert!(refused_untouched(&bench, &action).starts_with("there is no service etcd on this node"));
}

#[test]
fn what_is_not_the_archive_is_refused_before_etcd_is_touched() {
    let (bench, action) = bench();
    let tampered = archive(&[("etcd", "etcd Version: 6.6.6\n")]);
    bench.machine().fetchable.insert(ETCD_ARCHIVE_URL.to_owned(), tampered);
    insta::assert_snapshot!(bench.refused(&action), @r"
    https://archives.example/etcd-v3.3.27-linux-amd64.tar.gz has SHA-256 e527851f0dd751dbf5ece2c2c877c029b067184b92bb0f54267aa1a85f1ac0cf, not 08d9f4e810d2e6cbb6bb460e1aecb82bb8b81b15681da08426de29c117e44767: it is not installed
    next: find out which of the two is right; do not take the digest of a file that nobody vouches for
    ");
    bench.machine().fetchable.clear();
    insta::assert_snapshot!(bench.refused(&action), @r"
    cannot fetch https://archives.example/etcd-v3.3.27-linux-amd64.tar.gz: no such file there
    next: see that the node reaches this address, or put the archive where it does and plan with that url
    ");

    let empty = archive(&[("README", "")]);
    let Action::EtcdInstallArchive(mut other) = action else { unreachable!("see above") };
    other.sha256 = sha256(&empty).try_into().expect("a digest");
    bench.machine().fetchable.insert(ETCD_ARCHIVE_URL.to_owned(), empty);
    insta::assert_snapshot!(bench.refused(&Action::EtcdInstallArchive(other)), @r"
    https://archives.example/etcd-v3.3.27-linux-amd64.tar.gz holds no etcd
    next: see what the archive holds (tar -tzf), and plan with the right one
    ");
    assert!(!bench.history().contains("systemctl stop"));
    assert!(bench.machine().services["etcd"].active);
}
