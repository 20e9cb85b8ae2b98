//! Other package managers in the way, interrupted ones, and full disks.

use super::{debian_step, installs, redhat_step};
use crate::action::bench::{Bench, shown};
use crate::host::Exit;
use crate::host::fake::{FakeMachine, Fault, When};
use std::time::Duration;
use wavegate_common::action::PackagePattern;
use wavegate_common::id::Timestamp;

/// A machine on which a program holds a lock for some seconds.
fn held(mut machine: FakeMachine, argv: &[&str], lock: &str, seconds: u64) -> Bench {
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let pid = machine.spawn(&argv);
    let ends_at = Timestamp(machine.now.0 + seconds * 1000);
    machine.processes.get_mut(&pid).expect("it runs").ends_at = Some(ends_at);
    if lock.ends_with(".pid") {
        machine.put_file(lock, format!("{pid}\n"));
    } else {
        machine.locks.insert(lock.into(), pid);
    }
    let mut bench = Bench::new(machine);
    bench.patience = Duration::from_secs(60);
    bench
}

const UNATTENDED: [&str; 2] = ["/usr/bin/python3", "/usr/bin/unattended-upgrade"];

fn waits(bench: &Bench) -> String {
    let said = bench.said.borrow();
    said.iter()
        .filter(|line| line.starts_with("waiting for"))
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn whoever_holds_a_lock_is_named_and_waited_for() {
    let bench = held(FakeMachine::debian_compute(), &UNATTENDED, "/var/lib/dpkg/lock-frontend", 130);
    bench.apply(&debian_step()).expect("it applies");
    // Again every minute.
    insta::assert_snapshot!(waits(&bench), @r"
    waiting for unattended-upgrade (pid 1005), which holds /var/lib/dpkg/lock-frontend
    waiting for unattended-upgrade (pid 1005), which holds /var/lib/dpkg/lock-frontend
    waiting for unattended-upgrade (pid 1005), which holds /var/lib/dpkg/lock-frontend
    ");
    let bench = held(
        FakeMachine::redhat_compute(),
        &["/usr/bin/python", "/usr/bin/yum", "update"],
        "/var/run/yum.pid",
        20,
    );
    bench.apply(&redhat_step()).expect("it applies");
    insta::assert_snapshot!(waits(&bench), @"waiting for yum (pid 1007), which holds /var/run/yum.pid");
    assert_eq!(installs(&bench), 1);
}

#[test]
fn what_was_left_is_looked_at_when_nobody_is_at_work_any_more() {
    let bench = held(FakeMachine::debian_compute(), &UNATTENDED, "/var/lib/dpkg/lock-frontend", 20);
    bench.machine().put_file("/var/lib/dpkg/updates/0003", "");
    bench.apply(&debian_step()).expect("it applies");
    let said = bench.said.borrow();
    assert!(said[0].starts_with("waiting for unattended-upgrade"), "{said:?}");
    assert!(said[1].starts_with("finishing what an interrupted transaction left"), "{said:?}");
}

#[test]
fn who_does_not_let_go_is_named_with_what_to_do() {
    let bench = held(FakeMachine::debian_compute(), &UNATTENDED, "/var/lib/dpkg/lock", 7200);
    insta::assert_snapshot!(shown(&bench.apply(&debian_step()).expect_err("it is locked")), @r"
    unattended-upgrade (pid 1005) holds /var/lib/dpkg/lock, and did not let go of it within 600 s
    next: see what it does on the node ('ps -fp 1005') and let it end, then retry; do not take its lock away
    ");
    assert_eq!(installs(&bench), 0);
    let mut bench = held(FakeMachine::redhat_compute(), &["/usr/sbin/sshd"], "/var/run/yum.pid", 7200);
    bench.patience = Duration::ZERO;
    let began = bench.machine().now;
    insta::assert_snapshot!(shown(&bench.check(&redhat_step()).expect_err("it is locked")), @r"
    sshd (pid 1007) holds /var/run/yum.pid, and did not let go of it within 10 s
    next: see what it does on the node ('ps -fp 1007') and let it end, then retry; do not take its lock away; if process 1007 is no package manager, one that was killed left /var/run/yum.pid behind: then remove it
    ");
    assert!(bench.machine().now.millis_since(began) < 20_000, "a preview does not wait long");
}

#[test]
fn a_program_that_finds_a_lock_is_tried_again() {
    let mut bench = Bench::new(FakeMachine::redhat_compute());
    bench.patience = Duration::from_secs(60);
    bench.machine().faults.fail("--assumeno", 200, "metadata already locked by 4711\n");
    bench.machine().faults.fail("yum -y", 200, "RPMDB already locked by 4711\n");
    bench.apply(&redhat_step()).expect("it applies");
    insta::assert_snapshot!(waits(&bench), @r"
    waiting for another package manager: metadata already locked by 4711
    waiting for another package manager: RPMDB already locked by 4711
    ");
    bench.forget();
    for _ in 0..200 {
        bench.machine().faults.fail("clean expire-cache", 200, "metadata already locked by 4711\n");
    }
    insta::assert_snapshot!(shown(&bench.apply(&redhat_step()).expect_err("it is locked")), @r"
    another package manager holds a lock, and did not let go of it within 600 s: metadata already locked by 4711
    | metadata already locked by 4711
    next: see on the node which package manager runs ('fuser -v' on the file named above) and let it end, then retry
    ");
}

#[test]
fn an_interrupted_dpkg_is_finished_first() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.apply(&debian_step()).expect("it applies");
    bench.machine().put_file("/var/lib/dpkg/updates/0003", "");
    let would = "/var/lib/dpkg/updates/0003: what the package manager was interrupted at would be finished";
    assert_eq!(bench.would(&debian_step()), would);
    bench.machine().history.clear();
    bench.done(&debian_step());
    assert!(bench.history().contains("dpkg --force-confdef --force-confold --configure -a"));
}

#[test]
fn what_yum_left_of_somebody_elses_transaction_is_told_and_left_alone() {
    let mut machine = FakeMachine::redhat_compute();
    machine.put_program("/usr/bin/yum-complete-transaction", "1\n");
    machine.put_file("/var/lib/yum/transaction-all.2019-01-01.10:00.00", "");
    let bench = Bench::new(machine);
    bench.done(&redhat_step());
    assert!(!bench.history().contains("yum-complete-transaction"), "{}", bench.history());
    let said = bench.said.borrow();
    let left = said.iter().find(|line| line.contains("transaction-all.")).expect("it is told");
    insta::assert_snapshot!(left, @"a transaction of yum was interrupted some time and is left alone: /var/lib/yum/transaction-all.2019-01-01.10:00.00 ('yum-complete-transaction' shows and finishes it, '--cleanup-only' forgets it)");
}

#[test]
fn a_damaged_rpm_database_is_told_with_its_cure() {
    let bench = Bench::new(FakeMachine::redhat_compute());
    let damage = "error: rpmdb: BDB0113 Thread/process 4711 failed\nerror: db5 error(-30973) from dbenv->failchk: BDB0087 \
                  DB_RUNRECOVERY: Fatal error, run database recovery\n";
    bench.machine().faults.fail("rpm -q", 1, damage);
    insta::assert_snapshot!(shown(&bench.check(&redhat_step()).expect_err("it is damaged")), @r"
    rpm cannot read its database: error: rpmdb: BDB0113 Thread/process 4711 failed
    | error: rpmdb: BDB0113 Thread/process 4711 failed
    | error: db5 error(-30973) from dbenv->failchk: BDB0087 DB_RUNRECOVERY: Fatal error, run database recovery
    next: the rpm database of the node is damaged: see that no rpm, yum or dnf runs, keep a copy of /var/lib/rpm, repair it with 'rpm --rebuilddb' (rpm.org/user_doc/db_recovery.html), then retry
    ");
}

#[test]
fn a_full_disk_is_told_with_where_to_look() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let full = "dpkg: error processing archive /var/cache/apt/archives/x.deb (--unpack):\n cannot copy extracted data for \
                './usr/bin/x': failed to write (No space left on device)\n";
    bench.machine().faults.fail("--no-remove install", 100, full);
    let error = bench.apply(&debian_step()).expect_err("it is full");
    assert!(error.what.ends_with("failed to write (No space left on device)"), "{}", error.what);
    assert_eq!(error.next, "make room on the node: 'df -h' and 'df -i' show which disk is full; then retry");
}

#[test]
fn a_repair_that_would_bring_what_the_policy_does_not_permit_is_not_run() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    let pattern = |text: &str| PackagePattern::try_from(text.to_owned()).expect("a pattern");
    bench.policy_mut().packages =
        ["calico-*", "networking-calico", "python-etcd", "dnsmasq-base"].map(pattern).into();
    bench.done(&debian_step());
    bench.machine().put_file("/var/lib/dpkg/updates/0003", "");
    let brings = Exit { stdout: "Inst haproxy (1.8 fake:stable [all])\n".to_owned(), ..Exit::default() };
    bench.machine().faults.add("-f install", When::Instead, Fault::Exit(brings));
    bench.machine().history.clear();
    bench.apply(&debian_step()).expect("dpkg alone finishes it");
    let history = bench.history();
    assert!(history.contains("dpkg --force-confdef --force-confold --configure -a"), "{history}");
    assert!(!history.contains("--no-remove -f install"), "{history}");
}
