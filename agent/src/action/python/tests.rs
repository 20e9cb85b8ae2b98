//! Tests of what Python finds: when an interpreter is asked again, and what a real one prints.

use super::*;
use crate::action::bench::{Bench, step};
use crate::host::fake::{FakeDistribution, FakeMachine, PYTHON_ETCD_ARCHIVE_URL, sha256};
use std::time::Duration;
use wavegate_common::action::{PipUninstall, PythonInstallArchive};
use wavegate_common::order::PlannedStep;

const PLACE: &str = "/usr/local/lib/python3/dist-packages";

fn uninstall() -> Action {
    Action::PipUninstall(PipUninstall { distribution: "networking-calico".to_owned() })
}

fn install(bench: &Bench) -> Action {
    Action::PythonInstallArchive(PythonInstallArchive {
        distribution: "python-etcd".to_owned(),
        version: "0.4.3".to_owned(),
        url: PYTHON_ETCD_ARCHIVE_URL.to_owned(),
        sha256: sha256(&bench.machine().fetchable[PYTHON_ETCD_ARCHIVE_URL]).try_into().expect("a digest"),
    })
}

fn copy(name: &str, version: &str) -> FakeDistribution {
    let path = format!("{PLACE}/{name}-{version}.dist-info").into();
    FakeDistribution { name: name.to_owned(), version: version.to_owned(), path }
}

/// A node with copies of distributions that no package owns, laid down a while ago.
fn bench(copies: &[FakeDistribution]) -> Bench {
    let mut machine = FakeMachine::redhat_compute();
    for copy in copies {
        machine.put_file(copy.path.join("METADATA"), copy.version.as_str());
        machine.distributions.push(copy.clone());
    }
    let bench = Bench::new(machine);
    bench.host.sleep(Duration::from_secs(60));
    bench
}

/// Times that the interpreter was asked.
fn asked(bench: &Bench) -> usize {
    bench.machine().history.iter().filter(|line| line.contains("sys.path:")).count()
}

#[test]
fn it_is_asked_for_a_whole_task_once_and_again_after_each_change() {
    let mut bench = bench(&[copy("networking-calico", "1.0.0"), copy("python-etcd", "0.4.1")]);
    let (uninstall, install) = (uninstall(), install(&bench));
    let work = Work::Run { action: install.clone(), timeout_s: 600 };
    bench.to_come = vec![PlannedStep { id: step("install"), title: "Install".to_owned(), work }];
    assert!(bench.would(&uninstall).contains("networking-calico 1.0.0"));
    assert_eq!(asked(&bench), 1);
    bench.apply(&uninstall).expect("it is removed");
    assert_eq!(asked(&bench), 2, "after the removal alone");
    bench.already_so(&uninstall);
    assert_eq!(bench.would(&install), "python-etcd 0.4.1 -> 0.4.3", "what was asked along");
    assert_eq!(asked(&bench), 2);
    assert!(bench.apply(&install).expect("it is installed").evidence.ends_with("python-etcd 0.4.3"));
    assert_eq!(asked(&bench), 3, "after the installation alone");
}

#[test]
fn what_somebody_else_changes_is_seen() {
    let bench = bench(&[copy("networking-calico", "1.0.0")]);
    let of_calico = format!("{PLACE}/networking-calico-1.0.0.dist-info/METADATA");
    let looks = |why: &str| {
        let before = asked(&bench);
        bench.check(&uninstall()).expect("a check");
        let again = asked(&bench) > before;
        bench.host.sleep(Duration::from_secs(1));
        (why.to_owned(), again)
    };
    assert!(looks("nothing is known").1);
    assert!(!looks("nothing changed").1);
    for path in [
        format!("{PLACE}/site.pth"),
        format!("{PLACE}/other-2.0.egg-info"),
        of_calico,
        "/usr/bin/python3".to_owned(),
    ] {
        if path.starts_with("/usr/bin") {
            bench.machine().put_program(path.as_str(), "3.12\n");
        } else {
            bench.machine().put_file(path.as_str(), "new");
        }
        assert_eq!(looks(&path), (path.clone(), true));
        // It changed in the moment of that look.
        assert_eq!(looks(&path), (path.clone(), true));
        assert_eq!(looks(&path), (path.clone(), false));
    }
    bench.host.sleep(Duration::from_millis(LISTED_MS));
    assert!(looks("it is long ago").1);
    // A transaction of packages, of whichever step.
    bench.with(|cx| cx.memory.changes());
    assert!(looks("packages changed").1);
}

#[test]
fn whose_a_copy_is_is_asked_each_time() {
    let bench = bench(&[copy("networking-calico", "1.0.0")]);
    assert!(bench.would(&uninstall()).contains("which no package owns"));
    let owned = bench.machine().distributions[0].path.clone();
    bench.machine().installed.get_mut("networking-calico").expect("it is installed").files.push(owned);
    let evidence = bench.already_so(&uninstall());
    assert!(evidence.ends_with("belongs to package networking-calico"), "{evidence}");
    assert_eq!(asked(&bench), 1);
}

#[test]
fn names_are_compared_in_one_form() {
    for (name, one) in
        [("Networking_Calico", "networking-calico"), ("a._-b", "a-b"), ("_x.", "-x-"), ("", "")]
    {
        assert_eq!(plain(name), one);
    }
}

/// The listing of a real interpreter, with a place of our own first.
#[test]
fn a_real_interpreter_tells_places_and_copies() {
    let place = tempfile::tempdir().expect("a directory");
    let metadata = place.path().join("Networking_Calico-9.1.dist-info");
    std::fs::create_dir(&metadata).expect("a directory");
    let text = "Metadata-Version: 2.1\nName: Networking_Calico\nVersion: 9.1\n";
    std::fs::write(metadata.join("METADATA"), text).expect("written");
    let command = Command::new(["python3", "-c", LIST, "networking-calico", "no-such"])
        .env("PYTHONPATH", &place.path().display().to_string());
    let real = std::process::Command::new("python3").args(&command.argv[1..]).envs(&command.env).output();
    let Ok(real) = real else {
        println!("SKIPPED: there is no python3 here");
        return;
    };
    let exit = Exit { stdout: String::from_utf8_lossy(&real.stdout).into_owned(), ..Exit::default() };
    let host = crate::host::fake::FakeHost::new(FakeMachine::redhat());
    let asked = BTreeSet::from(["networking-calico".to_owned(), "no-such".to_owned()]);
    let listing = Listing::read(&exit, Path::new("/usr/bin/python3"), asked, host.now(), &host);
    let found = Found { name: "networking-calico".to_owned(), version: "9.1".to_owned(), path: metadata };
    assert_eq!(listing.of("networking-calico").first(), Some(&found), "{exit:?}");
    assert!(listing.of("no-such").is_empty());
    assert_eq!(listing.places.first().map(String::as_str), Some("/"));
    assert!(listing.places.contains(&place.path().display().to_string()), "{:?}", listing.places);
}
