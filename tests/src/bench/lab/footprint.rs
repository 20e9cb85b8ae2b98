//! What an agent takes of its host: memory, processor, the program's size. Looked at from outside, by the kernel's own counts.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::{Limit, Row};
use crate::deploy::{Package, Wavegate};
use crate::lab::Node;

/// How often an agent looks at its node by itself, in seconds.
const OBSERVES_EVERY_S: f64 = wavegate_agent::agent::OBSERVE_EVERY.as_secs() as f64;

/// What was found, of the agent that takes most.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    idle: Idle,
    peak_kib: f64,
    binary_bytes: f64,
}

/// What an agent takes that has nothing to do.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    resident_kib: f64,
    /// Of the agent alone, between two observations.
    percent: f64,
    /// What one observation takes, by the agent and the programs that it asks, spread over the time between two.
    observing_percent: f64,
    seconds: f64,
}

/// Watches the agents while nothing is asked of them.
///
/// # Errors
///
/// When one does not run, or the kernel does not say.
pub fn idle(wavegate: &Wavegate<'_>, seconds: u64) -> Result<Idle> {
    let nodes: Vec<&Node> = wavegate.managed().collect();
    let used = || nodes.iter().map(|node| nanoseconds(node)).collect::<Result<Vec<f64>>>();
    let (began, before) = (Instant::now(), used()?);
    sleep(Duration::from_secs(seconds));
    let (took, after) = (began.elapsed().as_secs_f64(), used()?);
    let mut most = Idle { resident_kib: 0.0, percent: 0.0, observing_percent: 0.0, seconds: took };
    for ((node, before), after) in nodes.iter().zip(before).zip(after) {
        let percent = (after - before) / took / 1e7;
        let resident_kib = status(node, "VmRSS")?;
        let own_kib = status(node, "RssAnon")?;
        let observing_percent = observation(node)? / OBSERVES_EVERY_S * 100.0;
        eprintln!(
            "{}: the agent has {resident_kib:.0} KiB, {own_kib:.0} of them its own and no file's, uses {percent:.4} % of a core, and {observing_percent:.4} % for its observations",
            node.name()
        );
        most.percent = most.percent.max(percent);
        most.resident_kib = most.resident_kib.max(resident_kib);
        most.observing_percent = most.observing_percent.max(observing_percent);
    }
    Ok(most)
}

/// What there is to say after an upgrade.
///
/// # Errors
///
/// Like [`idle`].
pub fn after(wavegate: &Wavegate<'_>, idle: Idle) -> Result<Footprint> {
    let (mut peak_kib, mut binary_bytes) = (0.0_f64, 0.0_f64);
    for node in wavegate.managed() {
        peak_kib = peak_kib.max(status(node, "VmHWM")?);
        let size = node.run(&["stat", "-L", "-c", "%s", "/usr/bin/wavegate-agent"])?;
        binary_bytes = binary_bytes.max(size.trim().parse().context("understanding a file's size")?);
    }
    Ok(Footprint { idle, peak_kib, binary_bytes })
}

impl Footprint {
    /// The rows of the table.
    pub fn rows(self) -> Vec<Row> {
        let Self { idle, peak_kib, binary_bytes } = self;
        let percent = idle.percent + idle.observing_percent;
        let note = format!(
            "{:.4} over {:.0} s, and {:.4} for a look at the node every {OBSERVES_EVERY_S:.0} s with all programs that it runs",
            idle.percent, idle.seconds, idle.observing_percent
        );
        let most = Some(Limit::AtMost(8.0));
        vec![
            Row::new("an agent's memory, idle", "MiB resident", most)
                .value(idle.resident_kib / 1024.0)
                .note("the largest of the fleet's"),
            Row::new("- its peak, after an upgrade", "MiB resident", None).value(peak_kib / 1024.0),
            Row::new("an agent's processor time, idle", "% of a core", Some(Limit::AtMost(0.1)))
                .value(percent)
                .note(note),
            Row::new("an agent's program", "MiB", most).value(binary_bytes / 1024.0 / 1024.0),
        ]
    }
}

/// A line of the kernel's status of the agent's process, in KiB.
fn status(node: &Node, line: &str) -> Result<f64> {
    let text = node.read_file(&format!("/proc/{}/status", pid(node)?))?;
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("{}: no {line} of the agent", node.name()))
}

/// Nanoseconds that all threads of the agent have run.
fn nanoseconds(node: &Node) -> Result<f64> {
    let text = node.shell(&format!("cat /proc/{}/task/*/schedstat", pid(node)?))?;
    let run = |line: &str| line.split_whitespace().next().and_then(|run| run.parse::<f64>().ok());
    text.lines().map(run).sum::<Option<f64>>().context("understanding schedstat")
}

/// Seconds of processor time that an observation of the node takes, with what it runs, of the same program as a person would
/// run it: its own start is in it too.
fn observation(node: &Node) -> Result<f64> {
    const MEASURE: &str = "import os,resource,subprocess\n\
        subprocess.run(['wavegate-agent','facts'],stdout=subprocess.DEVNULL,check=True)\n\
        used=resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime+used.ru_stime)";
    let text = node.run(&["python3", "-c", MEASURE])?;
    text.trim().parse().with_context(|| format!("{}: understanding {text}", node.name()))
}

fn pid(node: &Node) -> Result<i32> {
    let main = node.unit(Package::Agent.name())?.main_pid;
    main.with_context(|| format!("{}: no agent runs", node.name()))
}
