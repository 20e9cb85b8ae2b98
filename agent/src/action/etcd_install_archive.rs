//! `etcd.install_archive`: etcd's programs out of a release archive, replaced one by one while the service is down.
//!
//! Everything that can fail without touching etcd is done before it is stopped: fetching, comparing the digest,
//! unpacking, and a look whether the new program runs on this machine at all. A check only looks: it runs nothing that
//! was fetched. What is around that for a member is in `etcd_member`.

mod program;

use super::archive::{find, unpacked};
use super::etcd_member::{Around, Stopping, around};
use super::{Applied, Check, Context, exit_failed, failed};
use crate::host::Command;
use std::path::{Path, PathBuf};
use wavegate_common::action::{EtcdInstallArchive, ProgramName};
use wavegate_common::etcd::EtcdVersion;
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

/// Compares the archive's programs with those installed.
///
/// # Errors
/// [`StepError`] if the service is not there, is kept down or runs another file, if a package owns one of the programs,
/// if the archive can't be had, has another digest, or does not hold the programs.
pub fn check(action: &EtcdInstallArchive, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let found = fitting(action, cx)?;
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let programs = programs(action, &directory, cx)?;
    let mut changes: Vec<Change> = programs
        .iter()
        .filter(|program| !program.installed)
        .map(|program| file(program, "would be replaced by the archive's"))
        .collect();
    let what = match (changes.is_empty(), found.down) {
        _ if found.stopped_by_us(cx) => "started",
        (false, false) => "stopped, and started with the new programs",
        (true, false) if runs_replaced_file(&found) => "restarted: it runs a program that was replaced",
        (true, _) => {
            found.settle(&action.unit, cx)?;
            return Ok(Check::AlreadySo { evidence: evidence(action, cx)? });
        }
        (false, true) => "",
    };
    if let (Some(to), false) = (version_of(&directory, cx), changes.is_empty()) {
        let from = found.running(cx).map(|version| version.to_string());
        changes.insert(0, Change::Version { of: "etcd".to_owned(), from, to: to.to_string() });
    }
    if !what.is_empty() {
        changes.push(Change::Service { unit: action.unit.clone(), what: what.to_owned() });
    }
    Ok(Check::WouldChange { changes })
}

/// Stops the service, replaces the programs, starts it again if it was running.
///
/// # Errors
/// As [`check`]; if a program does not run here or a file can't be replaced; and those of what is around it: the member can't be
/// taken down, its data is not what it was.
pub fn apply(action: &EtcdInstallArchive, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let found = fitting(action, cx)?;
    let directory = unpacked(&action.url, &action.sha256, cx)?;
    let programs = programs(action, &directory, cx)?;
    let mut to = None;
    for program in programs.iter().filter(|program| !program.installed) {
        let says = must_run(&program.source, cx)?;
        if program.path.file_name().is_some_and(|name| name == "etcd") {
            to = version_of(&directory, cx).or_else(|| says.parse().ok());
        }
    }
    let stopping = Stopping {
        unit: &action.unit,
        within_s: action.within_s,
        max_lag: action.max_lag,
        to: if found.down { None } else { to },
    };
    let changes = around(&stopping, &found, cx, &mut |cx| {
        programs.iter().filter(|program| !program.installed).map(|program| replace(program, cx)).collect()
    })?;
    Ok(Applied { changes, evidence: evidence(action, cx)? })
}

/// The version that an archive holds, by the folder that everything in it is in.
fn version_of(directory: &Path, cx: &Context<'_>) -> Option<EtcdVersion> {
    let tops = cx.host.list(directory);
    tops.iter().filter_map(|top| top.strip_prefix("etcd-v")).find_map(|rest| rest.parse().ok())
}

fn runs_replaced_file(found: &Around) -> bool {
    found.here.process.as_ref().is_some_and(|process| !process.exe_is_file_on_disk)
}

/// The service, if it is one whose program the step may replace.
fn fitting(action: &EtcdInstallArchive, cx: &Context<'_>) -> Result<Around, StepError> {
    let found = Around::of(&action.unit, cx)?;
    program::refuse_others(action, &found.state, cx)?;
    Ok(found)
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
