//! What a process costs, as the kernel counts it, what this one may have open, and whose work comes first in it.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Ticks of the times in `/proc/PID/stat` in a second: the same on every Linux that a program can ask (`USER_HZ`).
const TICKS: u64 = 100;

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is resident, in KiB.
    pub rss_kib: u64,
    /// The part of it that is the process's own.
    pub anonymous_kib: u64,
    /// Processor time since its start, of all its threads, in hundredths of a second.
    pub cpu: Duration,
}

impl Usage {
    /// Of a process now.
    ///
    /// # Errors
    /// If it is not there.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .with_context(|| format!("reading {name} of process {pid}"))
        };
        let status = read("status")?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
            number
                .and_then(|number| number.parse().ok())
                .with_context(|| format!("no {key} of process {pid}"))
        };
        Ok(Self {
            rss_kib: kib("VmRSS")?,
            anonymous_kib: kib("RssAnon")?,
            cpu: cpu(&read("stat")?).with_context(|| format!("reading the times of process {pid}"))?,
        })
    }
}

/// User and system time, fields 14 and 15 of proc(5); what follows the last parenthesis begins with field 3.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Descriptors that a process has open.
///
/// # Errors
/// If it is not there.
pub(super) fn open_files(pid: u32) -> Result<usize> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd"));
    Ok(folder.with_context(|| format!("counting the descriptors of process {pid}"))?.count())
}

/// Lets this process, and those that it starts, have as many descriptors as it may ask for; returns how many.
///
/// # Errors
/// If the system refuses.
pub fn raise_open_files() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking how many descriptors there may be")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("asking for more descriptors")?;
    Ok(hard)
}

/// The work on the machines comes last: real agents work on machines of their own, and ten thousand of them at once would leave
/// neither the links nor the coordinator anything of two processors. Threads inherit it from the one that starts them.
pub(super) const LAST: i32 = 19;
/// The links come before that, where this process may say so.
const LINKS: i32 = -10;
/// The coordinator, which is measured, comes first, and so does whoever asks it something.
pub(super) const FIRST: i32 = -20;

/// Gives the calling thread a priority, from -20, the highest, to 19; higher ones than it has are root's to give, and asked for
/// in vain by others.
pub(super) fn take_priority(nice: i32) {
    // Where it is refused things stay as they were, and the figures say so.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// A runtime for the links of a swarm.
///
/// # Errors
/// If the system has no threads left.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().on_thread_start(|| take_priority(LINKS));
    builder.build().context("starting the swarm's runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 5 0 100 1000 200";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let used = Usage::of(std::process::id()).expect("this process");
        assert!(used.rss_kib > 0 && used.anonymous_kib <= used.rss_kib, "{used:?}");
        assert!(open_files(std::process::id()).expect("its descriptors") >= 3);
    }
}
