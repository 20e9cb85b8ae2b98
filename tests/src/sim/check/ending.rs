//! How the machines look when all is over, beside machines of the same kinds that were upgraded in a calm.

use super::{Invariant, Violation, must};
use crate::sim::looks::Looks;
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::order::TaskKey;

/// What happened to a machine on the way that its looks in the end may show.
#[derive(Debug, Clone, Default)]
pub struct Suffered {
    /// How often it lost its power.
    pub power_cuts: u64,
    /// How often each program failed without doing anything.
    pub failed: BTreeMap<String, u64>,
    /// How many of these failed in a step that stops etcd for what it does: etcd is started again with what is there, and
    /// stopped once more by the retry.
    pub failed_around_etcd: u64,
    /// Tasks in whose middle its agent was gone, but for its first one. A step that was interrupted counts as a change, also
    /// where it had done nothing, so that what must be newer than it is restarted: a restart too many rather than one too
    /// few.
    pub interrupted: BTreeSet<TaskKey>,
    /// Ids of its bystanders' processes when it was new.
    pub bystanders: Vec<u32>,
}

/// Whether a machine ended like one that was upgraded in a calm.
///
/// # Errors
/// [`Violation`] if not.
pub fn like_in_a_calm(node: &str, looks: &Looks, calm: &Looks, suffered: &Suffered) -> Result<(), Violation> {
    let differences = looks.differences(calm);
    must(Invariant::EffectOnce, differences.is_empty(), || {
        format!("{node} does not look like a machine upgraded in a calm:\n  {}", differences.join("\n  "))
    })?;
    // A power cut undoes what was going on, which is then done again; and of the processes that no service starts none is left.
    if suffered.power_cuts > 0 {
        return Ok(());
    }
    must(Invariant::Bystanders, looks.bystanders == suffered.bystanders, || {
        format!(
            "{node} had the processes {:?} of others, and has {:?}",
            suffered.bystanders, looks.bystanders
        )
    })?;
    for (line, times) in &looks.effects {
        let once = calm.effects.get(line).copied().unwrap_or_default();
        let restarts = if starts_a_service(line) { suffered.interrupted.len() as u64 } else { 0 };
        let brought_back = if stops_or_starts_etcd(line) { suffered.failed_around_etcd } else { 0 };
        let allowed = once + restarts + brought_back + suffered.failed.get(line).copied().unwrap_or_default();
        must(Invariant::EffectOnce, *times <= allowed, || {
            format!("{node} did '{line}' {times} times, {allowed} would do")
        })?;
    }
    Ok(())
}

fn stops_or_starts_etcd(line: &str) -> bool {
    let verbs = ["systemctl stop", "systemctl start", "initctl stop", "initctl start"];
    verbs.iter().any(|verb| line.starts_with(verb)) && line.split([' ', '.']).any(|word| word == "etcd")
}

fn starts_a_service(line: &str) -> bool {
    let verbs = ["systemctl restart", "systemctl start", "initctl start", "initctl restart"];
    verbs.iter().any(|verb| line.starts_with(verb))
}
