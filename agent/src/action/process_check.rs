//! `process.check`: evidence that every process of a program that is ours runs, from the file on disk. Changes nothing.
//!
//! Each network has a directory, with the pid file of its process in it. A process that was ended by SIGTERM has
//! removed its pid file, so a directory without one is waited for too. It does not fail the check in the end if other
//! processes run: Neutron leaves directories of networks behind that are no longer on the host.

use super::Context;
use super::pid_files::{ours, pid_file, runs};
use crate::host::Host;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wavegate_common::action::ProcessCheck;
use wavegate_common::outcome::StepError;

/// How often to look.
const LOOK: Duration = Duration::from_millis(500);

/// What one look finds.
#[derive(Default)]
struct Look {
    /// Pids of processes that are as they must be.
    good: Vec<u32>,
    /// What is wrong, a line each.
    wrong: Vec<String>,
    /// Directories without a pid file.
    without: Vec<String>,
}

/// Gathers the evidence, waiting for the processes to come up.
///
/// # Errors
/// [`StepError`] with all that is wrong when the time is up.
pub fn verify(action: &ProcessCheck, cx: &mut Context<'_>) -> Result<String, StepError> {
    let deadline = cx.host.now().0.saturating_add(action.within_s.saturating_mul(1000));
    loop {
        let look = look(action, cx.host);
        let complete = look.wrong.is_empty() && look.without.is_empty();
        if complete || cx.host.now().0 >= deadline {
            return judge(action, look);
        }
        cx.host.sleep(LOOK);
    }
}

fn look(action: &ProcessCheck, host: &dyn Host) -> Look {
    let mut look = Look::default();
    let directory = Path::new(&action.pid_files);
    for name in host.list(directory) {
        let file = directory.join(&name).join("pid");
        if host.exists(&file) {
            match process_of(action, host, &file) {
                Ok(pid) => look.good.push(pid),
                Err(wrong) => look.wrong.push(wrong),
            }
        } else if !host.list(&directory.join(&name)).is_empty() {
            look.without.push(name);
        }
    }
    for process in ours(host, &action.program, &action.pid_files) {
        if !process.exe_is_file_on_disk {
            let exe = process.exe.display();
            look.wrong.push(format!("process {} runs {exe}, which is not the file on disk", process.pid));
        }
    }
    look
}

/// The live process that a pid file names.
fn process_of(action: &ProcessCheck, host: &dyn Host, file: &PathBuf) -> Result<u32, String> {
    let shown = file.display();
    let content = host.read(file).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let pid = text.trim().parse().map_err(|_| format!("{shown} holds no process id"))?;
    let process = host.process(pid).ok_or_else(|| format!("{shown} names process {pid}, which is gone"))?;
    if !runs(&process, &action.program) || pid_file(&process).map(PathBuf::from).as_ref() != Some(file) {
        return Err(format!("{shown} names process {pid}, which is another program's"));
    }
    Ok(pid)
}

fn judge(action: &ProcessCheck, look: Look) -> Result<String, StepError> {
    let ProcessCheck { program, pid_files, within_s } = action;
    let mut wrong = look.wrong;
    if look.good.is_empty() {
        wrong.extend(look.without.iter().map(|name| format!("{pid_files}/{name} has no pid file")));
    }
    if !wrong.is_empty() {
        return Err(StepError {
            what: format!("not every {program} process of {pid_files} runs, after {within_s} s: {}", wrong[0]),
            output: wrong,
            next: format!(
                "read the log of the agent that starts {program} on the node; \
                 if a network is no longer on this node, remove its directory; then retry"
            ),
        });
    }
    if look.good.is_empty() {
        return Ok(format!("no networks on this node: {pid_files} is empty"));
    }
    let pids = look.good.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut evidence = format!("{program} runs from the file on disk as process {pids}");
    if !look.without.is_empty() {
        evidence += &format!("; without a process: {}", look.without.join(", "));
    }
    Ok(evidence)
}
