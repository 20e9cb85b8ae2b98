//! The shell's side: a script for each node and stage, started on all nodes of a stage at once, members of etcd one after
//! the other, the next stage when all are done.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::script;
use super::took::Took;
use crate::deploy::Wavegate;
use crate::lab::{Manifest, Node, Role};

/// Where the scripts lie on a node.
const DIRECTORY: &str = "/root/by-hand";

/// Reads package lists and answers what would be done, so that both sides begin with the same caches.
///
/// # Errors
///
/// When a node's package manager fails.
pub fn warm(nodes: &Wavegate<'_>) -> Result<()> {
    let nodes: Vec<&Node> = nodes.managed().collect();
    put(&nodes, "warm", &|node| script::warm(node.role(), node.family()))?;
    at_once(&nodes, "warm")
}

/// Upgrades the fleet.
///
/// # Errors
///
/// When a script fails: the error has what it printed.
pub fn upgrade(nodes: &Wavegate<'_>, manifest: &Manifest) -> Result<Took> {
    let of = |role: Role| nodes.managed().filter(|node| node.role() == role).collect::<Vec<_>>();
    let stages = [of(Role::Etcd), of(Role::Compute), of(Role::Control)];
    for nodes in &stages {
        let last = nodes.last().map(|node| node.name());
        let script =
            |node: &Node| script::upgrade(node.role(), node.family(), last == Some(node.name()), manifest);
        put(nodes, "upgrade", &script)?;
    }
    let began = Instant::now();
    let mut took = Took::default();
    for ((nodes, one_by_one), stage) in stages.iter().zip([true, false, false]).zip(&mut took.stages) {
        let began = Instant::now();
        if one_by_one {
            for node in nodes {
                at_once(&[*node], "upgrade")?;
            }
        } else {
            at_once(nodes, "upgrade")?;
        }
        *stage = began.elapsed().as_secs_f64();
        took.watched += if one_by_one { 0.0 } else { longest_watch(nodes)? };
    }
    took.whole = began.elapsed().as_secs_f64();
    Ok(took)
}

/// Seconds that the node which did so for longest only watched services, at its script's end.
fn longest_watch(nodes: &[&Node]) -> Result<f64> {
    let mut longest = 0.0_f64;
    for node in nodes {
        let hundredths: f64 =
            node.read_file(script::WATCHED)?.trim().parse().context("understanding a number")?;
        longest = longest.max(hundredths / 100.0);
    }
    Ok(longest)
}

fn put(nodes: &[&Node], name: &str, script: &dyn Fn(&Node) -> String) -> Result<()> {
    for node in nodes {
        node.write_file(&format!("{DIRECTORY}/{name}.sh"), script(node).as_bytes(), 0o755)?;
    }
    Ok(())
}

/// Runs a script on these nodes at the same time, and waits for all.
fn at_once(nodes: &[&Node], name: &str) -> Result<()> {
    // What waits for something in vain ends too.
    let script = format!("timeout 900 {DIRECTORY}/{name}.sh >{DIRECTORY}/{name}.log 2>&1");
    let started = nodes.iter().map(|node| Ok((*node, node.spawn(&["sh", "-c", &script])?)));
    let started: Vec<_> = started.collect::<Result<_>>()?;
    for (node, mut child) in started {
        let status = child.wait().with_context(|| format!("{}: waiting for {name}", node.name()))?;
        if !status.success() {
            let log = node.read_file(&format!("{DIRECTORY}/{name}.log"))?;
            ensure!(false, "{}: {name}: {status}:\n{log}", node.name());
        }
    }
    Ok(())
}
