//! Tests of `etcd.back_up` on fake machines: what is taken of which API, where it goes, and that it is taken once.

use crate::action::bench::Bench;
use crate::action::{Check, apply, check};
use crate::host::Exit;
use crate::host::fake::{FakeMachine, Fault, When};
use std::path::Path;
use wavegate_common::action::{Action, EtcdBackUp, EtcdCheckMember, EtcdInstallPackages, PackageSpec};
use wavegate_common::id::{NodeId, StepId};
use wavegate_common::order::{PlannedStep, Work};

const DIRECTORY: &str = "/var/lib/wavegate/etcd-backups";

fn action() -> Action {
    Action::EtcdBackUp(EtcdBackUp { directory: DIRECTORY.to_owned() })
}

fn files(bench: &Bench) -> Vec<String> {
    let machine = bench.machine();
    let below = machine.files.keys().filter_map(|path| path.strip_prefix(DIRECTORY).ok());
    below.map(|path| path.display().to_string()).collect()
}

fn manifest(bench: &Bench) -> String {
    let machine = bench.machine();
    let found = machine.files.iter().find(|(path, _)| path.ends_with("manifest.json")).expect("a manifest");
    String::from_utf8_lossy(&found.1.content).into_owned()
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

fn step(id: &str, action: Action) -> PlannedStep {
    let id = StepId::new(id).expect("a name");
    PlannedStep { id, title: String::new(), work: Work::Run { action, timeout_s: 600 } }
}

#[test]
fn both_apis_are_copied_counted_and_listed() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    insta::assert_snapshot!(bench.would(&action()), @"/var/lib/wavegate/etcd-backups: a copy of what m1 holds would be taken below it, up to 64 MiB");
    insta::assert_snapshot!(bench.done(&action()), @r"
    /var/lib/wavegate/etcd-backups/2026-11-19T110641Z-c1-a001: a copy of etcd's data was taken
    /var/lib/wavegate/etcd-backups/2026-11-19T110641Z-c1-a001 holds a snapshot of 2 keys of version 3 and 2 keys of version 2 with the data directory, 303 bytes; the digest of the snapshot was compared, and etcdctl reads it
    ");
    insta::assert_snapshot!(files(&bench).join("\n"), @r"
    2026-11-19T110641Z-c1-a001/manifest.json
    2026-11-19T110641Z-c1-a001/snapshot.db
    2026-11-19T110641Z-c1-a001/v2-data/member/snap/db
    2026-11-19T110641Z-c1-a001/v2-data/member/wal/0000000000000000-0000000000000000.wal
    2026-11-19T110641Z-c1-a001/v2-keys.json
    ");
    insta::assert_snapshot!(manifest(&bench), @r#"
    {
      "taken_at": "2026-11-19T11:06:41Z",
      "cluster": "c1",
      "member": "a001",
      "name": "m1",
      "version": "3.2.17",
      "v3_keys": 2,
      "v2_keys": 2,
      "snapshot_status": "{\"hash\":1,\"revision\":5000,\"totalKey\":2,\"totalSize\":20480}",
      "files": [
        {
          "path": "snapshot.db",
          "bytes": 72,
          "sha256": "0d85f96d9af7fbe9222d96a03380dfedeeee23bc38a92b0c4332980a3b16399f"
        },
        {
          "path": "v2-data/member/snap/db",
          "bytes": 0,
          "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        },
        {
          "path": "v2-data/member/wal/0000000000000000-0000000000000000.wal",
          "bytes": 0,
          "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        },
        {
          "path": "v2-keys.json",
          "bytes": 231,
          "sha256": "95061bcbddfe958eb46e51585821159c2d0ec68237238b87622b92dfe42ebaf1"
        }
      ]
    }
    "#);
    let history = bench.history();
    for line in [
        "mkdir -p -m 0700 -- /var/lib/wavegate/etcd-backups",
        "chmod -R go= -- ",
        "chmod 0600 -- ",
        " -exec sync -- /var/lib/wavegate/etcd-backups /var/lib/wavegate /var/lib /var / {} +",
        "snapshot status",
    ] {
        assert!(history.contains(line), "{line}: {history}");
    }
}

#[test]
fn only_what_is_there_is_copied() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    {
        let machine = bench.machine();
        let mut cluster = machine.seat().cluster();
        cluster.v2_keys.clear();
        // What probes left is no data.
        cluster.v2_dirs = ["/wavegate", "/wavegate/probe"].map(str::to_owned).into();
    }
    bench.apply(&action()).expect("it applies");
    assert!(files(&bench).iter().all(|file| !file.contains("v2")), "{:?}", files(&bench));
    assert!(!manifest(&bench).contains("v2_keys"));
}

#[test]
fn where_nothing_is_installed_afterwards_no_copy_is_taken() {
    let check = EtcdCheckMember { within_s: 60, settle_s: 10, max_lag: 100 };
    let mut bench = Bench::new(FakeMachine::debian_etcd_of("3.3.25", "3.4.23"));
    let install = install();
    bench.to_come = vec![step("check", Action::EtcdCheckMember(check)), step("install", install.clone())];
    assert!(matches!(bench.check(&action()), Ok(Check::WouldChange { .. })), "etcd would be upgraded");
    bench.apply(&install).expect("it is upgraded by somebody else");
    let Ok(Check::AlreadySo { evidence }) = bench.check(&action()) else { panic!("it is upgraded already") };
    insta::assert_snapshot!(evidence, @"no copy is taken: what follows would change nothing of etcd here");
    bench.to_come.truncate(1);
    assert!(matches!(bench.check(&action()), Ok(Check::WouldChange { .. })), "it is wanted for itself");
}

/// A member of 3.4.23 as the repositories have it, and a task that would install what they have.
fn as_wanted() -> Bench {
    let mut bench = Bench::new(FakeMachine::debian_etcd_of("3.3.25", "3.4.23"));
    bench.apply(&install()).expect("it is upgraded");
    bench.to_come = vec![step("install", install())];
    bench.node = Some(NodeId::new("n1").expect("a name"));
    bench
}

/// The mirror gets another version, and its lists are read again a minute later.
fn publish(bench: &Bench, from: &str, to: &str) {
    let mut machine = bench.machine();
    machine.now.0 += 60_000;
    let etcd = machine.available.get_mut("etcd").expect("etcd");
    etcd.version = etcd.version.replace(from, to);
    etcd.programs.iter_mut().for_each(|(_, says)| *says = says.replace(from, to));
}

#[test]
fn a_version_that_appears_after_no_copy_was_taken_is_not_installed_without_one() {
    let bench = as_wanted();
    bench.already_so(&action());
    publish(&bench, "3.4.23", "3.4.24");
    let stops = |bench: &Bench| bench.machine().seat().cluster().stops.len();
    let (stopped, pid) = (stops(&bench), bench.main_pid("etcd"));
    assert!(matches!(bench.check(&install()), Ok(Check::WouldChange { .. })));
    insta::assert_snapshot!(bench.refused(&install()), @r"
    no copy of etcd's data was taken here, because nothing of etcd was to change; something is now: the package repository, or what is installed here, has changed since
    next: retry: a copy is taken first then; nothing was stopped on this node
    ");
    assert_eq!((stops(&bench), bench.main_pid("etcd")), (stopped, pid));
    // A retry, which begins with the copy.
    assert!(bench.would(&action()).contains("a copy of what m1 holds would be taken"));
    bench.machine().faults.kill_after("note etcd.back_up:declined");
    bench.apply_killed(&action());
    bench.apply(&action()).expect("the next agent takes it");
    assert!(files(&bench).iter().any(|file| file.ends_with("snapshot.db")), "{:?}", files(&bench));
    bench.apply(&install()).expect("it goes on");
    assert_eq!(stops(&bench), stopped + 1);
    // What another rollout decided is no longer of interest.
    publish(&bench, "3.4.24", "3.4.25");
    bench.machine().notes.insert("etcd.back_up:declined".to_owned(), "r0".to_owned());
    bench.apply(&install()).expect("it applies");
}

#[test]
fn a_preview_decides_nothing() {
    let mut bench = as_wanted();
    bench.node = None;
    let notes = bench.machine().notes.clone();
    bench.already_so(&action());
    assert_eq!(bench.machine().notes, notes);
}

#[test]
fn a_rollout_takes_one_and_the_next_rollout_another() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    bench.apply(&action()).expect("it applies");
    let first = files(&bench);
    let again = bench.apply(&action()).expect("it is there");
    assert!(again.changes.is_empty());
    // Another attempt of the same rollout, and another rollout.
    let as_task = |name: &str| {
        bench.with(|cx| {
            cx.transaction = name.to_owned();
            matches!(check(&action(), cx), Ok(Check::AlreadySo { .. }))
        })
    };
    assert!(as_task("r1:etcd:2:back-up") && !as_task("r2:etcd:1:back-up"));
    assert_eq!(files(&bench), first);
    // One that somebody removed is not there.
    bench.machine().files.retain(|path, _| !path.starts_with(DIRECTORY));
    assert!(!as_task("r1:etcd:2:back-up"));
}

#[test]
fn what_a_crash_left_half_done_is_removed_and_taken_anew() {
    let whole = Bench::new(FakeMachine::debian_etcd());
    whole.apply(&action()).expect("it applies");
    let kinds = |bench: &Bench| {
        let names = files(bench);
        names.iter().filter_map(|name| Some(name.split_once('/')?.1.to_owned())).collect::<Vec<_>>()
    };
    let mut points = whole.machine().history.clone();
    points.push("note etcd.back_up".to_owned());
    // What depends on the time is told by what does not.
    let words = [
        "mkdir",
        "etcd snapshot",
        "snapshot status",
        "etcdctl backup",
        "chmod",
        "sync",
        "replace",
        "note etcd.back_up",
    ];
    for word in words {
        assert!(points.iter().any(|point| point.contains(word)), "{word}");
        for after in [false, true] {
            let bench = Bench::new(FakeMachine::debian_etcd());
            if after {
                bench.machine().faults.kill_after(word);
            } else {
                bench.machine().faults.kill_before(word);
            }
            bench.apply_killed(&action());
            bench.machine().now.0 += 5000;
            bench.with(|cx| apply(&action(), cx)).unwrap_or_else(|error| panic!("{word} {after}: {error:?}"));
            assert_eq!(kinds(&bench), kinds(&whole), "{word} {after}");
            bench.already_so(&action());
        }
    }
}

#[test]
fn what_an_earlier_rollout_left_half_done_is_removed_too() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    bench.machine().faults.kill_after("etcd snapshot");
    bench.apply_killed(&action());
    assert!(files(&bench).iter().any(|file| file.ends_with("snapshot.db")), "{:?}", files(&bench));
    bench.machine().now.0 += 5000;
    bench.with(|cx| {
        cx.transaction = "r2:etcd:1:back-up".to_owned();
        apply(&action(), cx).expect("it applies");
    });
    let all = files(&bench);
    assert_eq!(all.iter().filter(|file| file.ends_with("snapshot.db")).count(), 1, "{all:?}");
}

#[test]
fn what_was_compared_is_told_and_no_more() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    bench.machine().seat().cluster().v2_keys.clear();
    bench.machine().seat().cluster().v2_dirs.clear();
    let as_etcdctl = |code: i32, stdout: &str, stderr: &str| {
        let exit = Exit { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        bench.machine().faults.add("etcdctl snapshot status", When::Instead, Fault::Exit(exit));
        bench.machine().notes.clear();
        bench.machine().now.0 += 5000;
        let evidence = bench.apply(&action()).expect("it applies").evidence;
        evidence.split_once("; ").expect("what was compared").1.to_owned()
    };
    let digest = "the digest of the snapshot was compared, and no program here reads it";
    // The etcdctl of version 2, and one that does not mind.
    assert_eq!(as_etcdctl(1, "No help topic for 'snapshot'\n", ""), digest);
    assert_eq!(as_etcdctl(0, "No help topic for 'snapshot'\n", ""), digest);
    assert_eq!(as_etcdctl(1, "", "Error: unknown command \"status\" for \"etcdctl snapshot\"\n"), digest);
    let status = "{\"hash\":1,\"revision\":9,\"totalKey\":2,\"totalSize\":20480}\n";
    let read = as_etcdctl(0, status, "");
    assert_eq!(read, "the digest of the snapshot was compared, and etcdctl reads it");
}

#[test]
fn a_log_in_a_directory_of_its_own_is_copied_too() {
    let mut machine = FakeMachine::debian_etcd();
    machine.put_file("/etc/default/etcd", "ETCD_DATA_DIR=/var/lib/etcd\nETCD_WAL_DIR=/srv/wal\n");
    machine.files.retain(|path, _| !path.starts_with("/var/lib/etcd/member/wal"));
    machine.put_file("/srv/wal/0.wal", vec![0; 3 << 20]);
    let bench = Bench::new(machine);
    assert!(bench.would(&action()).ends_with("up to 67 MiB"), "{}", bench.would(&action()));
    bench.apply(&action()).expect("it applies");
    assert!(
        files(&bench).iter().any(|file| file.ends_with("v2-data/member/wal/0.wal")),
        "{:?}",
        files(&bench)
    );
}

#[test]
fn what_would_not_keep_a_copy_is_refused() {
    let refused = |change: &dyn Fn(&mut FakeMachine)| {
        let bench = Bench::new(FakeMachine::debian_etcd());
        change(&mut bench.machine());
        let said = bench.refused(&action());
        assert!(files(&bench).iter().all(|file| !file.ends_with("manifest.json")));
        said
    };
    insta::assert_snapshot!(refused(&|machine| machine.free_bytes = 1 << 20), @r"
    /var/lib/wavegate/etcd-backups has 1 MiB left, and a copy of m1 may take 64 MiB
    next: make room there, or name another directory and plan again
    ");
    insta::assert_snapshot!(refused(&|machine| {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 22 0:40 / /var/lib/wavegate rw - tmpfs tmpfs rw\n";
        machine.put_file("/proc/self/mountinfo", mounts);
    }), @r"
    /var/lib/wavegate/etcd-backups is on a RAM disk (tmpfs): a copy there is gone with the power
    next: name a directory on a disk (and permit it in the node's policy, etcd.backups), then plan again
    ");
    let linked = refused(&|machine| {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 22 0:40 / /run rw - tmpfs tmpfs rw\n";
        machine.put_file("/proc/self/mountinfo", mounts);
        let exit = Exit { stdout: "/run/backups\n".to_owned(), ..Exit::default() };
        machine.faults.add("readlink", When::Instead, Fault::Exit(exit));
    });
    assert!(linked.starts_with("/var/lib/wavegate/etcd-backups is on a RAM disk (tmpfs)"), "{linked}");
    insta::assert_snapshot!(refused(&|machine| machine.faults.fail("etcdctl snapshot status", 1, "Error: snapshot file has been modified\n")), @r"
    etcdctl does not take /var/lib/wavegate/etcd-backups/2026-11-19T110641Z-c1-a001/snapshot.db for a snapshot (exit code 1)
    | Error: snapshot file has been modified
    next: mend what is named here on the node, then retry; etcd was not touched
    ");
    insta::assert_snapshot!(refused(&|machine| machine.faults.fail("etcdctl backup", 1, "open db: permission denied\n")), @r"
    etcdctl could not back /var/lib/etcd up (exit code 1)
    | open db: permission denied
    next: mend what is named here on the node, then retry; etcd was not touched
    ");
    insta::assert_snapshot!(refused(&|machine| {
        machine.services.get_mut("etcd").expect("etcd").active = false;
    }), @r"
    http://127.0.0.1:2379 does not answer: connection refused
    next: see that etcd runs on the node and that [etcd] of its agent.toml says how to ask it, then retry
    ");
}

#[test]
fn a_note_of_elsewhere_removes_nothing() {
    let bench = Bench::new(FakeMachine::debian_etcd());
    bench.machine().notes.insert(
        "etcd.back_up".to_owned(),
        "{\"rollout\":\"r1\",\"directory\":\"/var/lib/etcd\",\"evidence\":null}".to_owned(),
    );
    bench.apply(&action()).expect("it applies");
    assert!(bench.machine().files.contains_key(Path::new("/var/lib/etcd/member/snap/db")));
}
