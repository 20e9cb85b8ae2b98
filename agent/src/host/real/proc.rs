//! Processes as `/proc` shows them (proc(5)), and signals that reach only the process that was seen.

use crate::host::{HostError, Process, exe};
use crate::os::packages::Unreadable;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wavegate_common::id::Timestamp;

/// Clock ticks a second in `/proc`: `USER_HZ`, 100 on every architecture that the agent is built for.
const TICKS_A_SECOND: u64 = 100;

/// One process.
pub(super) fn process(pid: u32, now: Timestamp) -> Option<Process> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let start_ticks = start_ticks(pid)?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let started_at = told(started_at(start_ticks, &uptime, now))?;
    let cmdline = std::fs::read(directory.join("cmdline")).ok()?;
    // A kernel thread has none.
    let exe = std::fs::read_link(directory.join("exe")).unwrap_or_default();
    Some(Process {
        pid,
        start_ticks,
        started_at,
        cmdline: arguments(&cmdline),
        exe_is_file_on_disk: is_file_on_disk(&directory, &exe),
        exe,
    })
}

/// Whether a process is one of this system's, and not of a container, whose paths mean other files. A container has process ids
/// of its own (pid_namespaces(7)); `ip netns exec`, with which Neutron starts dnsmasq, changes only mounts and networks.
pub(super) fn is_of_this_system(pid: u32) -> bool {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    // Of one that may not be looked at nothing is known.
    namespace(&pid.to_string()).is_none_or(|other| namespace("self").is_none_or(|own| own == other))
}

fn start_ticks(pid: u32) -> Option<u64> {
    told(parse_start_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
}

/// What can't be read at all is a process that is gone; what is there and has another form must not pass for that
/// without a word.
fn told<T>(read: Result<T, Unreadable>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "a process is passed over")).ok()
}

/// Field 22 of `/proc/PID/stat`, counted after the program's name, which may hold anything, brackets and blanks too.
fn parse_start_ticks(stat: &str) -> Result<u64, Unreadable> {
    let ticks = || {
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_ascii_whitespace().nth(19)?.parse().ok()
    };
    ticks().ok_or_else(|| Unreadable { what: "content of /proc/PID/stat", text: stat.trim_end().to_owned() })
}

/// Counted back from now, so that a clock that was set since boot does no harm.
fn started_at(start_ticks: u64, uptime: &str, now: Timestamp) -> Result<Timestamp, Unreadable> {
    let milliseconds = || {
        let (seconds, hundredths) = uptime.split_ascii_whitespace().next()?.split_once('.')?;
        let hundredths = hundredths.parse::<u64>().ok()?.min(99);
        seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(hundredths * 10)
    };
    let up: u64 = milliseconds()
        .ok_or_else(|| Unreadable { what: "content of /proc/uptime", text: uptime.trim_end().to_owned() })?;
    let age = up.saturating_sub(start_ticks.saturating_mul(1000 / TICKS_A_SECOND));
    Ok(Timestamp(now.0.saturating_sub(age)))
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(cmdline.strip_suffix(&[0]).unwrap_or(cmdline)).into_owned();
    if text.is_empty() { Vec::new() } else { text.split('\0').map(str::to_owned).collect() }
}

/// Whether the file that runs is the one at its path, as seen from the process's own root directory.
fn is_file_on_disk(directory: &Path, link: &Path) -> bool {
    let Some(path) = link.to_str().map(exe::path_of) else { return false };
    let Ok(relative) = Path::new(path).strip_prefix("/") else { return false };
    let running = std::fs::metadata(directory.join("exe"));
    let on_disk = std::fs::metadata(directory.join("root").join(relative));
    match (running, on_disk) {
        (Ok(running), Ok(on_disk)) => (running.dev(), running.ino()) == (on_disk.dev(), on_disk.ino()),
        _ => false,
    }
}

/// Signals a process, if it is still the one that was seen.
pub(super) fn end(process: &Process, kill: bool) -> Result<bool, HostError> {
    let signal = if kill { Signal::KILL } else { Signal::TERM };
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    // Once opened, the descriptor means this process and no later one with its id; so the start time is compared after.
    let opened = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    let same = || start_ticks(process.pid) == Some(process.start_ticks);
    let sent = match opened {
        Ok(_) if !same() => return Ok(false),
        Ok(descriptor) => rustix::process::pidfd_send_signal(&descriptor, signal),
        // Kernels before 5.3: the moment between comparing and signalling remains.
        Err(rustix::io::Errno::NOSYS) if same() => rustix::process::kill_process(pid, signal),
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(HostError::Signal { pid: process.pid, source: error.into() }),
    }
}

/// The process that holds a POSIX lock on a file, as the kernel tells whoever would like to have it.
pub(super) fn lock_holder(path: &Path) -> Option<u32> {
    let file = std::fs::File::open(path).ok()?;
    let asked = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
    let held = rustix::process::fcntl_getlk(&file, &asked).ok()??;
    u32::try_from(held.pid?.as_raw_nonzero().get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Child, Command, Stdio};

    fn start(program: &Path) -> Child {
        Command::new(program).arg("600").stdin(Stdio::null()).spawn().expect("a child")
    }

    fn now() -> Timestamp {
        super::super::timestamp(std::time::SystemTime::now())
    }

    #[test]
    fn a_replaced_program_is_noticed_and_its_process_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("dnsmasq");
        std::fs::copy("/bin/sleep", &program).expect("a copy");
        let before = now();
        let mut child = start(&program);
        let seen = process(child.id(), now()).expect("it runs");
        assert!(seen.exe_is_file_on_disk && seen.exe == program, "{seen:?}");
        assert!(seen.started_at.0 + 1000 > before.0 && seen.started_at.0 < before.0 + 10_000, "{seen:?}");

        // As rpm does it: the old file is renamed before it is unlinked.
        let renamed = directory.path().join("dnsmasq;557576d7");
        std::fs::rename(&program, &renamed).expect("renamed");
        std::fs::copy("/bin/sleep", &program).expect("a new one");
        let stale = process(child.id(), now()).expect("it runs");
        assert!(!stale.exe_is_file_on_disk && stale.exe == renamed, "{stale:?}");
        std::fs::remove_file(&renamed).expect("removed");
        let stale = process(child.id(), now()).expect("it runs");
        assert!(!stale.exe_is_file_on_disk, "{stale:?}");
        assert!(stale.exe.to_string_lossy().ends_with("dnsmasq;557576d7 (deleted)"), "{stale:?}");

        let other = Process { start_ticks: stale.start_ticks + 1, ..stale.clone() };
        assert!(!end(&other, true).expect("no error"), "a reused id is not hit");
        assert!(child.try_wait().expect("a child").is_none());
        assert!(end(&stale, true).expect("it can be ended"));
        child.wait().expect("it ended");
        assert!(!end(&stale, true).expect("no error"), "it is gone");
        assert_eq!(process(child.id(), now()), None);
    }

    #[test]
    fn a_process_of_a_container_is_not_this_systems() {
        assert!(is_of_this_system(std::process::id()));
        let mut unshare = Command::new("unshare");
        // It says that the namespace is there by its first process, which says so itself.
        unshare.args(["--user", "--map-root-user", "--pid", "--fork", "sh", "-c", "echo up; read line"]);
        let spawned = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = spawned else { return println!("SKIPPED: no unshare") };
        let mut said = [0; 3];
        let mut stdout = child.stdout.take().expect("its output");
        if std::io::Read::read_exact(&mut stdout, &mut said).is_err() {
            child.wait().expect("it ended");
            return println!("SKIPPED: no namespaces can be made here");
        }
        let pid = child.id();
        let first =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
        assert!(is_of_this_system(pid), "unshare itself stays");
        assert!(!is_of_this_system(first.trim().parse().expect("one pid")));
        drop(child.stdin.take());
        child.wait().expect("it ended");
    }

    #[test]
    fn what_proc_says_is_read() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8675309 0 0";
        assert_eq!(parse_start_ticks(stat), Ok(8_675_309));
        let error = parse_start_ticks("42 (a) S 1").expect_err("too short");
        assert_eq!(error.to_string(), "unexpected content of /proc/PID/stat: '42 (a) S 1'");
        assert!(started_at(500, "up 3 days", Timestamp(0)).is_err());
        assert_eq!(started_at(500, "10.25 3.0", Timestamp(100_000)), Ok(Timestamp(94_750)));
        assert_eq!(arguments(b"a\0b c\0\0"), ["a", "b c", ""]);
        assert_eq!(arguments(b""), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), ticks in any::<u64>(), now in any::<u64>()) {
            let _ = parse_start_ticks(&text);
            let _ = started_at(ticks, &text, Timestamp(now));
            let _ = started_at(ticks, &format!("{now}.{ticks}"), Timestamp(now));
        }
    }
}
