//! `etcd.install_archive`: etcd's programs out of a release archive, replaced one by one while the service is down.
//!
//! Everything that can fail without touching etcd is done before it is stopped: fetching, comparing the digest,
//! unpacking, and a look whether the new program runs on this machine at all. A check only looks: it runs nothing that
//! was fetched.

mod program;

use super::archive::{find, unpacked};
use super::service_control;
use super::service_restart::{absent, refuse_kept_down};
use super::{Applied, Check, Context, exit_failed, failed};
use crate::host::Command;
use crate::os::service::ServiceState;
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
/// [`StepError`] if the service is not there, is kept down or runs another file, if a package owns one of the programs,
/// if the archive can't be had, has another digest, or does not hold the programs.
pub fn check(action: &EtcdInstallArchive, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let state = fitting_service(action, cx)?;
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let programs = programs(action, &directory, cx)?;
    let mut changes: Vec<Change> = programs
        .iter()
        .filter(|program| !program.installed)
        .map(|program| file(program, "would be replaced by the archive's"))
        .collect();
    let stopped_by_us = state.is_down() && noted(&action.unit, cx)?;
    let what = match (changes.is_empty(), !state.is_down()) {
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
    let state = fitting_service(action, cx)?;
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let programs = programs(action, &directory, cx)?;
    let unit = &action.unit;
    let was_active = !state.is_down() || noted(&action.unit, cx)?;
    let mut changes = Vec::new();
    if programs.iter().any(|program| !program.installed) {
        for program in programs.iter().filter(|program| !program.installed) {
            must_run(&program.source, cx)?;
        }
        if was_active {
            // Written first: whoever comes after a crash must know that it is down because of us.
            note(unit, Some(WAS_ACTIVE), cx)?;
        }
        if !state.is_down() {
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

/// The service, if it is one whose program the step may replace.
fn fitting_service(action: &EtcdInstallArchive, cx: &Context<'_>) -> Result<ServiceState, StepError> {
    let state = cx.os.service(cx.host, &action.unit)?;
    if !state.installed {
        return Err(absent(&action.unit));
    }
    refuse_kept_down(&action.unit, &state, cx)?;
    program::refuse_others(action, &state, cx)?;
    Ok(state)
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
    // etcdctl has a command for it in place of the option, from 3.4 on; it runs all the same.
    if exit.code != 0 && !exit.stderr.contains("unknown flag: --version") {
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
mod tests;
