//! `etcd.install_archive`: etcd's programs out of a release archive, replaced one by one while the service is down.
//!
//! Everything that can fail without touching etcd is done before it is stopped: fetching, comparing the digest,
//! unpacking, and a look whether the new program runs on this machine at all. A check only looks: it runs nothing that
//! was fetched.

use super::archive::{find, unpacked};
use super::service_control;
use super::{Applied, Check, Context, exit_failed, failed};
use crate::host::Command;
use std::path::{Path, PathBuf};
use wavegate_common::action::{EtcdInstallArchive, ProgramName};
use wavegate_common::outcome::{Change, StepError};

/// A program of the archive.
struct Program {
    /// Where it is in the unpacked archive.
    source: PathBuf,
    /// Where it goes.
    path: PathBuf,
    /// Its content in the archive.
    content: Vec<u8>,
    /// Whether that is what stands there already.
    installed: bool,
}

/// The content of the note while the service is down because of us.
const WAS_ACTIVE: &str = "active";

/// Compares the archive's programs with those installed.
///
/// # Errors
/// [`StepError`] if the archive can't be had, has another digest, or does not hold the programs.
pub fn check(action: &EtcdInstallArchive, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let programs = programs(action, &directory, cx)?;
    let mut changes: Vec<Change> = programs
        .iter()
        .filter(|program| !program.installed)
        .map(|program| file(program, "would be replaced by the archive's"))
        .collect();
    let state = cx.os.service(cx.host, &action.unit)?;
    let stopped_by_us = !state.is_active() && noted(&action.unit, cx)?;
    let what = match (changes.is_empty(), state.is_active()) {
        (false, true) => "stopped, and started with the new programs",
        _ if stopped_by_us => "started",
        (true, _) => return Ok(Check::AlreadySo { evidence: evidence(action, cx)? }),
        (false, false) => return Ok(Check::WouldChange { changes }),
    };
    changes.push(Change::Service { unit: action.unit.clone(), what: what.to_owned() });
    Ok(Check::WouldChange { changes })
}

/// Stops the service, replaces the programs, starts it again if it was running.
///
/// # Errors
/// As [`check`], and if a program does not run here, the service can't be stopped or started, or a file can't be replaced.
pub fn apply(action: &EtcdInstallArchive, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let programs = programs(action, &directory, cx)?;
    let unit = &action.unit;
    let state = cx.os.service(cx.host, unit)?;
    let was_active = state.is_active() || noted(&action.unit, cx)?;
    let mut changes = Vec::new();
    if programs.iter().any(|program| !program.installed) {
        for program in programs.iter().filter(|program| !program.installed) {
            must_run(&program.source, cx)?;
        }
        if was_active {
            // Written first: whoever comes after a crash must know that it is down because of us.
            note(unit, Some(WAS_ACTIVE), cx)?;
        }
        if state.installed && !state.is_down() {
            service_control::stop(cx, unit)?;
        }
        for program in programs.iter().filter(|program| !program.installed) {
            changes.push(replace(program, cx)?);
        }
    }
    if was_active && !cx.os.service(cx.host, unit)?.is_active() {
        service_control::reset_failed(cx, unit)?;
        service_control::start(cx, unit)?;
        changes
            .push(Change::Service { unit: unit.clone(), what: "started with the new programs".to_owned() });
    }
    if noted(&action.unit, cx)? {
        note(unit, None, cx)?;
    }
    Ok(Applied { changes, evidence: evidence(action, cx)? })
}

fn programs(
    action: &EtcdInstallArchive,
    directory: &Path,
    cx: &Context<'_>,
) -> Result<Vec<Program>, StepError> {
    let next = "see that the directory is there and readable by root, then retry";
    let program = |name: &ProgramName| {
        let source = find(directory, name.as_str(), &action.url, cx)?;
        let read = |path: &Path| cx.host.read(path).map_err(|error| failed(&error, next));
        let path = Path::new(&action.directory).join(name.as_str());
        let content = read(&source)?.unwrap_or_default();
        let installed = read(&path)?.is_some_and(|there| there == content);
        Ok(Program { source, path, content, installed })
    };
    action.binaries.iter().map(program).collect()
}

/// A program built for another machine would be found out when etcd is down.
fn must_run(program: &Path, cx: &Context<'_>) -> Result<String, StepError> {
    let next = "take the archive that is built for this machine's processor and system";
    let command = Command::new([program.display().to_string(), "--version".to_owned()]);
    let exit = cx.host.run(&command).map_err(|error| failed(&error, next))?;
    if exit.code != 0 {
        let what = format!("'{}' failed with exit code {}", command.argv.join(" "), exit.code);
        return Err(exit_failed(what, &exit, next));
    }
    Ok(exit.stdout.lines().next().unwrap_or_default().trim().to_owned())
}

fn replace(program: &Program, cx: &mut Context<'_>) -> Result<Change, StepError> {
    let backup = PathBuf::from(format!("{}.wavegate-old", program.path.display()));
    (cx.output)(&format!("replacing {}", program.path.display()));
    cx.host
        .replace(&program.path, &program.content, Some(&backup), true)
        .map_err(|error| failed(&error, "make room and see that the directory can be written, then retry"))?;
    Ok(if cx.host.exists(&backup) {
        file(program, &format!("replaced; the one before is {}", backup.display()))
    } else {
        file(program, "installed")
    })
}

fn file(program: &Program, what: &str) -> Change {
    Change::File { path: program.path.display().to_string(), what: what.to_owned() }
}

fn note(unit: &str, text: Option<&str>, cx: &Context<'_>) -> Result<(), StepError> {
    let next = "make room in the agent's state directory, then retry";
    cx.host.set_note(&note_name(unit), text).map_err(|error| failed(&error, next))
}

fn noted(unit: &str, cx: &Context<'_>) -> Result<bool, StepError> {
    let next = "see why the agent's state directory can't be read, then retry";
    let note = cx.host.note(&note_name(unit)).map_err(|error| failed(&error, next))?;
    Ok(note.is_some_and(|note| note == WAS_ACTIVE))
}

/// Of the service alone: an archive that is tried after another one failed must know of it too.
fn note_name(unit: &str) -> String {
    format!("etcd.install_archive:{unit}")
}

/// What the first program says of itself, and the digest that all of them come from.
fn evidence(action: &EtcdInstallArchive, cx: &Context<'_>) -> Result<String, StepError> {
    let sha256 = &action.sha256.as_str()[..12];
    let names = action.binaries.iter().map(ProgramName::as_str).collect::<Vec<_>>().join(", ");
    let Some(first) = action.binaries.first() else { return Ok("no programs are asked for".to_owned()) };
    let says = must_run(&Path::new(&action.directory).join(first.as_str()), cx)?;
    Ok(format!("{names} in {} are those of archive {sha256}: {says}", action.directory))
}

#[cfg(test)]
mod tests {
    use crate::action::bench::Bench;
    use crate::host::fake::{ETCD_ARCHIVE_URL, FakeMachine, archive, sha256};
    use wavegate_common::action::{Action, EtcdInstallArchive};

    fn action(machine: &FakeMachine) -> Action {
        Action::EtcdInstallArchive(EtcdInstallArchive {
            url: ETCD_ARCHIVE_URL.to_owned(),
            sha256: sha256(&machine.fetchable[ETCD_ARCHIVE_URL]).try_into().expect("a digest"),
            binaries: ["etcd", "etcdctl"].map(|name| name.to_owned().try_into().expect("a name")).into(),
            directory: "/usr/local/bin".to_owned(),
            unit: "etcd".to_owned(),
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
        etcd: started with the new programs
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
        let old = bench.machine().files[std::path::Path::new("/usr/local/bin/etcd.wavegate-old")].clone();
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

    #[test]
    fn after_a_kill_anywhere_the_end_is_the_same() {
        let points = [
            "systemctl stop",
            "replace /usr/local/bin/etcd",
            "replace /usr/local/bin/etcdctl",
            "systemctl start",
        ];
        for point in points {
            for after in [false, true] {
                let (bench, action) = bench();
                let kill = |faults: &mut crate::host::fake::Faults| {
                    if after { faults.kill_after(point) } else { faults.kill_before(point) }
                };
                kill(&mut bench.machine().faults);
                bench.apply_killed(&action);
                bench.done(&action);
                let machine = bench.machine();
                assert!(machine.services["etcd"].active, "{point} {after}");
                let old = &machine.files[std::path::Path::new("/usr/local/bin/etcd.wavegate-old")];
                assert!(String::from_utf8_lossy(&old.content).contains("3.2.17"), "{point} {after}");
                for path in ["/usr/local/bin/etcd", "/usr/local/bin/etcdctl"] {
                    let replaced = machine.history.iter().filter(|line| **line == format!("replace {path}"));
                    assert_eq!(replaced.count(), 1, "{point} {after}");
                }
            }
        }
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
}
