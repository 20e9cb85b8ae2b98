//! Which file the service of etcd really runs, and whether a step may replace it: one that the service does not run would
//! be replaced for nothing, and one that a package owns would be the package's again with its next update.

use super::super::{Context, failed};
use crate::action::pid_files::runs;
use crate::host::{Command, Process, exe};
use crate::os::service::ServiceState;
use std::path::{Path, PathBuf};
use wavegate_common::action::{EtcdInstallArchive, ProgramName};
use wavegate_common::outcome::StepError;

/// The program of the archive that is a daemon.
const DAEMON: &str = "etcd";

/// Refuses programs that are a package's, and a directory that the service does not take etcd from.
///
/// # Errors
/// [`StepError`] naming both files, and what to set.
pub(super) fn refuse_others(
    action: &EtcdInstallArchive,
    state: &ServiceState,
    cx: &Context<'_>,
) -> Result<(), StepError> {
    let paths = action.binaries.iter().map(|name| Path::new(&action.directory).join(name.as_str()));
    for path in paths {
        if let Some(package) = owner(cx, &path)? {
            return Err(StepError {
                what: format!(
                    "{} belongs to package {package}: an archive must not replace it",
                    path.display()
                ),
                output: Vec::new(),
                next: BY_PACKAGE.to_owned(),
            });
        }
    }
    let daemon = action.binaries.iter().map(ProgramName::as_str).find(|name| *name == DAEMON);
    let Some(wanted) = daemon.map(|name| Path::new(&action.directory).join(name)) else { return Ok(()) };
    let real = match running(cx, state, &wanted) {
        Some(real) => real,
        None => configured(cx, &action.unit, &wanted)?,
    };
    if same_file(cx, &real, &wanted) {
        return Ok(());
    }
    let (unit, real_shown, wanted_shown) = (&action.unit, real.display(), wanted.display());
    let next = match (owner(cx, &real)?, real.parent()) {
        (Some(package), _) => format!("{real_shown} belongs to package {package}: {BY_PACKAGE}"),
        (None, Some(directory)) => format!(
            "plan with etcd_directory = {}, or have the service run {wanted_shown}; then plan again",
            directory.display()
        ),
        (None, None) => format!("have the service run {wanted_shown}, then plan again"),
    };
    Err(StepError {
        what: format!(
            "the service {unit} runs {real_shown}, and etcd_directory says {wanted_shown}, which it does not run"
        ),
        output: Vec::new(),
        next,
    })
}

/// What to do where etcd is a package's.
const BY_PACKAGE: &str =
    "let the package bring etcd (etcd_from_archive = false), or name another etcd_directory; then plan again";

fn owner(cx: &Context<'_>, path: &Path) -> Result<Option<String>, StepError> {
    match cx.os.owner(cx.host, path)? {
        Some(package) => Ok(Some(package)),
        // By the name without links, too: `/bin` leads to `/usr/bin` on most systems.
        None => match canonical(cx, path) {
            other if other == path => Ok(None),
            other => cx.os.owner(cx.host, &other),
        },
    }
}

/// The file that the service's process runs; `None` if nothing runs. Behind a script that does not give way to etcd
/// (`exec`) it is the etcd that runs on this node.
fn running(cx: &Context<'_>, state: &ServiceState, wanted: &Path) -> Option<PathBuf> {
    let main = cx.host.process(state.main_pid?)?;
    if let Some(path) = path_of_daemon(&main) {
        return Some(path);
    }
    let others: Vec<PathBuf> = cx
        .host
        .processes()
        .iter()
        .filter(|process| runs(process, DAEMON))
        .filter_map(path_of_daemon)
        .collect();
    others.iter().find(|path| same_file(cx, path, wanted)).or(others.first()).cloned()
}

fn path_of_daemon(process: &Process) -> Option<PathBuf> {
    let link = process.exe.to_string_lossy();
    let path = Path::new(exe::path_of(&link));
    path.file_name().is_some_and(|name| name == DAEMON).then(|| path.to_owned())
}

/// The file that the service would run, by what it is configured to run: etcd itself, a shell's command line, or a
/// script that starts it.
fn configured(cx: &Context<'_>, unit: &str, wanted: &Path) -> Result<PathBuf, StepError> {
    let command_line = cx.os.command_line(cx.host, unit)?;
    if let Some(path) = named(cx, &command_line, wanted) {
        return Ok(path);
    }
    for script in
        words(&command_line).map(Path::new).filter(|path| path.is_absolute() && is_program(cx, path))
    {
        let content =
            cx.host.read(script).map_err(|error| failed(&error, "see why it can't be read, then retry"))?;
        let text = content.filter(|content| content.starts_with(b"#!"));
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        if let Some(path) = text.and_then(|text| named(cx, &text, wanted)) {
            return Ok(path);
        }
    }
    Err(StepError {
        what: format!(
            "{unit} does not run, and its command line does not tell which etcd it would: {command_line}"
        ),
        output: Vec::new(),
        next: format!("start {unit} on the node, so that its process tells; then retry"),
    })
}

/// The first program named etcd in a command line or script: by its path, or by its name where a command begins.
fn named(cx: &Context<'_>, text: &str, wanted: &Path) -> Option<PathBuf> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let is_etcd = |path: &&Path| {
        let name = path.is_absolute() && path.file_name().is_some_and(|name| name == DAEMON);
        // Not its data, which often has the same name.
        name && (*path == wanted || is_program(cx, path))
    };
    if let Some(path) = lines().flat_map(words).map(Path::new).find(is_etcd) {
        return Some(path.to_owned());
    }
    let begins =
        |line: &str| line.strip_prefix("exec ").unwrap_or(line).split_whitespace().next() == Some(DAEMON);
    lines().any(begins).then(|| cx.host.which(DAEMON))?
}

/// The words of a line, quotes and what a shell puts between commands taken off.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| c.is_whitespace() || "\"'`;&|=(){}".contains(c);
    line.split(between).filter(|word| !word.is_empty())
}

fn is_program(cx: &Context<'_>, path: &Path) -> bool {
    path.to_str().is_some_and(|path| cx.host.which(path).is_some())
}

fn same_file(cx: &Context<'_>, one: &Path, other: &Path) -> bool {
    one == other || canonical(cx, one) == canonical(cx, other)
}

/// The path without links; the path itself where that can't be told.
fn canonical(cx: &Context<'_>, path: &Path) -> PathBuf {
    let asked = cx.host.run(&Command::new(["readlink", "-f", "--", &path.to_string_lossy()]));
    let told =
        asked.ok().filter(|exit| exit.code == 0).map(|exit| exit.stdout.trim_end_matches('\n').to_owned());
    told.filter(|path| path.starts_with('/')).map_or_else(|| path.to_owned(), PathBuf::from)
}
