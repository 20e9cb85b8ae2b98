//! Agent and coordinator ask the kernel for nothing that 3.10 lacks without going on when it is not there. This machine's kernel is
//! a newer one: what came since is answered as 3.10 answers it, "function not implemented", to both and to all that they start.

use anyhow::{Context, Result, ensure};
use wavegate_tests::deploy::{Package, SITE_FILE, UPGRADE, Wavegate, journal};
use wavegate_tests::evidence::{packages_are_whole, packages_changed_once};
use wavegate_tests::lab::{FleetSpec, Node, Role, System};

use super::{AGENT, boot};

/// The system calls of x86_64 that came after `finit_module` (number 313), the last one of 3.10. A C library and systemd's own
/// table end somewhere in this list; nobody can call what is not in them by name, and the rest is skipped.
const SINCE: &str = "sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat \
    userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq \
    pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick \
    pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr quotactl_fd \
    landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv \
    set_mempolicy_home_node";

#[test]
fn on_a_kernel_3_10_agents_enrol_and_upgrades_end_well() -> Result<()> {
    let spec =
        FleetSpec::new("kernel").with(Role::Compute, System::Debian).with(Role::Compute, System::Rocky9);
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    for node in fleet.nodes() {
        let service = if node.role() == Role::Deploy { Package::Coordinator.name() } else { AGENT };
        let drop_in = format!("/etc/systemd/system/{service}.service.d/50-kernel.conf");
        let filter = format!("[Service]\nSystemCallFilter=~{SINCE}\nSystemCallErrorNumber=ENOSYS\n");
        node.write_file(&drop_in, filter.as_bytes(), 0o644)?;
        the_filter_answers(node).with_context(|| node.name().to_owned())?;
    }
    let wavegate = Wavegate::install(&fleet)?;
    is_filtered(wavegate.coordinator(), Package::Coordinator.name())?;
    for node in wavegate.managed() {
        is_filtered(node, AGENT)?;
    }
    wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    wavegate.wait_status("finished", UPGRADE)?;
    for node in wavegate.managed() {
        let changes = journal::changes(node)?;
        ensure!(changes.contains_key("compute/install-packages"), "{}: {changes:?}", node.name());
        packages_changed_once(node)?;
        packages_are_whole(node)?;
    }
    fleet.tear_down()
}

/// A program that needs one of these calls has it without the filter, and not with it.
fn the_filter_answers(node: &Node) -> Result<()> {
    let program = "import os; print(len(os.getrandom(4)), len(os.listdir('/')) > 0)";
    let run = ["systemd-run", "-q", "--wait", "--pipe"];
    let filter = [
        format!("--property=SystemCallFilter=~{SINCE}"),
        "--property=SystemCallErrorNumber=ENOSYS".to_owned(),
    ];
    let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
    let python = ["python3", "-c", program];
    ensure!(node.run(&[&run[..], &python].concat())?.trim() == "4 True");
    let filtered = node.output(&[&run[..], &filter, &python].concat())?;
    let said = String::from_utf8_lossy(&filtered.stderr).into_owned();
    ensure!(
        !filtered.status.success() && said.contains("[Errno 38] Function not implemented"),
        "{filtered:?}"
    );
    Ok(())
}

/// A service runs under it: `Seccomp: 2` is a filter.
fn is_filtered(node: &Node, service: &str) -> Result<()> {
    let pid = node.unit(service)?.main_pid.with_context(|| format!("{service} does not run"))?;
    let status = node.read_file(&format!("/proc/{pid}/status"))?;
    ensure!(
        status.lines().any(|line| line == "Seccomp:\t2"),
        "{service} on {} has no filter: {status}",
        node.name()
    );
    Ok(())
}
