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
const LOOK: Duration = Duration::from_millis(200);

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
    if process.cmdline.is_empty() {
        return Err(format!("{shown} names process {pid}, which has ended and was not waited for yet"));
    }
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
            what: format!(
                "not every {program} process of {pid_files} runs, after {within_s} s: {}",
                wrong[0]
            ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::bench::Bench;
    use crate::host::fake::FakeMachine;
    use wavegate_common::action::Action;

    const FIRST: &str = "/var/lib/neutron/dhcp/2b8d2a0c-6c0f-4c1d-9d57-0c5a4a2a1f01/pid";
    const SECOND: &str = "/var/lib/neutron/dhcp/7f1c6a52-51f4-4a39-8a53-3a7f3d8d9e02";

    fn action() -> Action {
        let (program, pid_files) = ("dnsmasq".to_owned(), "/var/lib/neutron/dhcp".to_owned());
        Action::ProcessCheck(ProcessCheck { program, pid_files, within_s: 30 })
    }

    fn stop_agent(bench: &Bench) {
        bench.host.run(&crate::os::systemd::stop("neutron-dhcp-agent")).expect("it stops");
    }

    fn pid(bench: &Bench) -> u32 {
        let content = bench.host.read(Path::new(FIRST)).expect("a read").expect("a pid file");
        String::from_utf8_lossy(&content).trim().parse().expect("a pid")
    }

    #[test]
    fn live_processes_from_the_file_on_disk_are_good() {
        let bench = Bench::new(FakeMachine::debian_compute());
        let evidence = bench.already_so(&action());
        assert!(evidence.starts_with("dnsmasq runs from the file on disk as process "), "{evidence}");
        let empty = Bench::new(FakeMachine::debian_control());
        assert_eq!(empty.already_so(&action()), "no networks on this node: /var/lib/neutron/dhcp is empty");
    }

    #[test]
    fn those_that_are_to_come_are_waited_for() {
        let bench = Bench::new(FakeMachine::debian_compute());
        let pid = pid(&bench);
        let process = bench.host.process(pid).expect("a process");
        bench.host.end_process(&process, false).expect("it ends");
        bench.machine().files.remove(Path::new(FIRST));
        bench.machine().put_file("/var/lib/neutron/dhcp/2b8d2a0c-6c0f-4c1d-9d57-0c5a4a2a1f01/leases", "");
        let evidence = bench.already_so(&action());
        assert!(!evidence.contains(&pid.to_string()) && !evidence.contains("without"), "{evidence}");
    }

    #[test]
    fn a_dead_one_and_a_stale_one_are_told_when_the_time_is_up() {
        let bench = Bench::new(FakeMachine::debian_compute());
        stop_agent(&bench);
        let process = bench.host.process(pid(&bench)).expect("a process");
        bench.host.end_process(&process, true).expect("it ends");
        bench.update("dnsmasq-base");
        let before = bench.machine().now;
        let error = bench.check(&action()).expect_err("a dead one");
        assert!(bench.machine().now.millis_since(before) >= 30_000);
        assert!(
            error.what.starts_with("not every dnsmasq process of /var/lib/neutron/dhcp runs, after 30 s: "),
            "{error}"
        );
        assert_eq!(error.output.len(), 2, "{:?}", error.output);
        assert!(
            error.output[0].ends_with("which is gone") && error.output[1].contains("(deleted)"),
            "{:?}",
            error.output
        );
    }

    #[test]
    fn a_reused_pid_does_not_count() {
        let bench = Bench::new(FakeMachine::debian_compute());
        stop_agent(&bench);
        let felix = bench.main_pid("calico-felix").expect("it runs");
        bench.machine().put_file(FIRST, format!("{felix}\n"));
        let error = bench.check(&action()).expect_err("another program's");
        assert!(error.output[0].ends_with("which is another program's"), "{:?}", error.output);
        bench.machine().put_file(FIRST, "soon");
        let error = bench.check(&action()).expect_err("no pid");
        assert!(error.output[0].ends_with("holds no process id"), "{:?}", error.output);
    }

    #[test]
    fn one_that_has_ended_and_still_has_its_id_does_not_count() {
        let bench = Bench::new(FakeMachine::trusty_compute());
        bench.already_so(&action());
        bench.host.run(&crate::os::upstart::stop("neutron-dhcp-agent")).expect("it stops");
        let pid = pid(&bench);
        bench.machine().processes.get_mut(&pid).expect("a process").cmdline.clear();
        let error = bench.check(&action()).expect_err("a zombie");
        assert!(
            error.output[0].ends_with("which has ended and was not waited for yet"),
            "{:?}",
            error.output
        );
    }

    #[test]
    fn a_directory_that_was_left_behind_is_named_and_fails_only_if_nothing_runs() {
        let bench = Bench::new(FakeMachine::debian_compute());
        bench.machine().put_file("/var/lib/neutron/dhcp/left-behind/leases", "");
        let evidence = bench.already_so(&action());
        assert!(evidence.ends_with("; without a process: left-behind"), "{evidence}");

        stop_agent(&bench);
        bench.machine().files.retain(|path, _| !path.starts_with(SECOND) && path != Path::new(FIRST));
        let error = bench.check(&action()).expect_err("nothing runs");
        assert_eq!(error.output, ["/var/lib/neutron/dhcp/left-behind has no pid file"]);
    }
}
