//! What a rollout left behind, read where it happened: the event log, the agents' journals, the package managers' logs, the
//! processes. For suites; nothing here changes anything but `kill_hard`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::demo::Snapshot;
use crate::deploy::{SOON, Wavegate, journal};
use crate::lab::{Family, Node, System, wait_until};

/// The stages, in their order.
pub const STAGES: [&str; 3] = ["etcd", "compute", "control"];

/// Every task of a status.
pub fn tasks(status: &Value) -> Vec<Value> {
    let stages = status["stages"].as_array().cloned().unwrap_or_default();
    stages.iter().flat_map(|stage| stage["tasks"].as_array().cloned().unwrap_or_default()).collect()
}

/// Whether a host runs the same processes of the same packages.
pub fn same_processes(old: &Snapshot, new: &Snapshot) -> bool {
    let dnsmasqs = |s: &Snapshot| s.dnsmasqs.iter().map(|d| (d.pid, d.starttime)).collect::<Vec<_>>();
    old.service == new.service && old.packages == new.packages && dnsmasqs(old) == dnsmasqs(new)
}

/// By the coordinator: no task of a stage was given out before the last task of the stage before had finished, and there
/// were as many in etcd, compute and control as given.
///
/// # Errors
///
/// Says what came too early, or how many there were.
pub fn barrier_in_the_event_log(events: &[Value], tasks: [usize; 3]) -> Result<()> {
    let seq_of = |name: &str, stage: &str| -> Vec<u64> {
        let of_stage = events.iter().filter(|event| event["event"] == name && event["stage"] == stage);
        of_stage.filter_map(|event| event["seq"].as_u64()).collect()
    };
    for pair in STAGES.windows(2) {
        let last_end = seq_of("task_ended", pair[0]).into_iter().max().context("no task ended")?;
        let first_start = seq_of("task_started", pair[1]).into_iter().min().context("no task started")?;
        ensure!(
            last_end < first_start,
            "{} began at event {first_start}, {} ended at {last_end}",
            pair[1],
            pair[0]
        );
    }
    for name in ["task_started", "task_ended"] {
        let counts: Vec<usize> = STAGES.iter().map(|stage| seq_of(name, stage).len()).collect();
        ensure!(counts == tasks, "{name} of etcd, compute, control: {counts:?}");
    }
    Ok(())
}

/// By the hosts: no step of a stage was begun on any host before the last task of the stage before had ended on every one.
///
/// # Errors
///
/// Says what began too early.
pub fn barrier_in_the_hosts_journals(wavegate: &Wavegate<'_>) -> Result<()> {
    let mut first_step: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_end: BTreeMap<String, u64> = BTreeMap::new();
    for node in wavegate.managed() {
        for (stage, at) in journal::moments(node, "step_started")? {
            first_step.entry(stage).and_modify(|first| *first = at.min(*first)).or_insert(at);
        }
        for (stage, at) in journal::moments(node, "task_ended")? {
            last_end.entry(stage).and_modify(|last| *last = at.max(*last)).or_insert(at);
        }
    }
    for pair in STAGES.windows(2) {
        let ended = last_end.get(pair[0]).with_context(|| format!("no host ended stage {}", pair[0]))?;
        let began = first_step.get(pair[1]).with_context(|| format!("no host began stage {}", pair[1]))?;
        ensure!(ended <= began, "a host began {} at {began}, another ended {} at {ended}", pair[1], pair[0]);
    }
    Ok(())
}

/// Kills a service's main process with SIGKILL, and waits until its service manager has another one.
///
/// # Errors
///
/// When it does not run, or is not started again.
pub fn kill_hard(node: &Node, unit: &str) -> Result<()> {
    let old = node.unit(unit)?.main_pid.with_context(|| format!("{unit} is not running"))?;
    node.run(&["kill", "-9", &old.to_string()])?;
    wait_until(&format!("{unit} to be started again on {}", node.name()), SOON, || {
        let state = node.unit(unit)?;
        Ok((state.active == "active" && state.main_pid.is_some_and(|pid| pid != old)).then_some(()))
    })
}

/// By the package manager's own log: packages were changed, and none twice.
///
/// # Errors
///
/// Names those that were.
pub fn packages_changed_once(node: &Node) -> Result<()> {
    let log = match node.system() {
        // dnf's first transaction is the lab's, which made the host; each names what it changed as
        // NAME-VERSION-RELEASE.ARCH.
        System::Rocky9 => {
            "for id in $(dnf history list | awk '$1 ~ /^[0-9]+$/ && $1 > 1 {print $1}'); do dnf history info $id; done \
             | awk '/^ +(Upgrade|Install|Reinstall) / {print $2}' | sed 's/-[^-]*-[^-]*$//'"
        }
        System::Centos7 => {
            "awk '/ (Updated|Installed): / {print $5}' /var/log/yum.log | sed 's/^[0-9]*://; s/-[^-]*-[^-]*$//'"
        }
        // Provisioning installed, it upgraded nothing.
        System::Debian | System::Trusty => "awk '$3 == \"upgrade\" {print $4}' /var/log/dpkg.log",
    };
    let changed = node.shell(log)?;
    // Wavegate's own came by hand.
    let mut names: Vec<&str> = changed.lines().filter(|name| !name.starts_with("wavegate-")).collect();
    ensure!(!names.is_empty(), "{}: the package manager's log has no change", node.name());
    names.sort_unstable();
    let twice: Vec<&str> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    ensure!(twice.is_empty(), "{}: changed twice: {twice:?}\n{changed}", node.name());
    Ok(())
}

/// No package is half there, damaged or there twice.
///
/// # Errors
///
/// Names those that are.
pub fn packages_are_whole(node: &Node) -> Result<()> {
    match node.family() {
        Family::Apt => {
            let audit = node.run(&["dpkg", "--audit"])?;
            ensure!(audit.is_empty(), "{}: {audit}", node.name());
        }
        Family::Rpm => {
            let names = "rpm -qa --qf '%{NAME}\\n' | grep -E 'calico|neutron|nova|dnsmasq' | sort | uniq -d";
            let twice = node.shell(names)?;
            ensure!(twice.is_empty(), "{}: there twice: {twice}", node.name());
            node.run(&["rpm", "--verifydb"])?;
        }
    }
    Ok(())
}
