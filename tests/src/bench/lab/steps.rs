//! Where the time of a rollout went, by the agents' own journals.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use anyhow::Result;
use serde_json::Value;

use crate::deploy::{Wavegate, journal};
use crate::evidence::STAGES;
use crate::lab::Role;

/// What is no step: from the order to the first step, and between steps.
const AROUND: &str = "(around steps)";

/// Seconds by stage and step: of the node of the stage that took longest, and of stage etcd, whose members come one after
/// the other, of all members together.
#[derive(Debug, Clone, Default)]
pub struct Steps(BTreeMap<(usize, usize, String), f64>);

impl Steps {
    /// Those of a rollout.
    ///
    /// # Errors
    ///
    /// When a journal can't be read.
    pub fn of(wavegate: &Wavegate<'_>, rollout: &str) -> Result<Self> {
        let mut nodes = Vec::new();
        for node in wavegate.managed() {
            let mut records = journal::records(node)?;
            records.retain(|record| key(record)["rollout"] == rollout);
            nodes.push((node.role(), records));
        }
        let mut all = BTreeMap::new();
        for (place, stage) in STAGES.iter().enumerate() {
            let of_nodes = nodes.iter().map(|(role, records)| (*role, of_task(records, stage)));
            let (members, others): (Vec<_>, Vec<_>) =
                of_nodes.partition(|(role, _)| *role == Role::Etcd && *stage == "etcd");
            let sum = |steps: &[(String, f64)]| steps.iter().map(|(_, seconds)| seconds).sum::<f64>();
            let longest = others.into_iter().max_by(|(_, a), (_, b)| sum(a).total_cmp(&sum(b)));
            for (_, steps) in members.into_iter().chain(longest) {
                for (index, (step, seconds)) in steps.into_iter().enumerate() {
                    *all.entry((place, index, step)).or_default() += seconds;
                }
            }
        }
        Ok(Self(all))
    }

    /// The so many longest steps, in words.
    pub fn slowest(&self, count: usize) -> String {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let words = |((place, _, step), seconds): &(&(usize, usize, String), &f64)| {
            format!("{}/{step} {seconds:.1} s", STAGES[*place])
        };
        all.iter().take(count).map(words).collect::<Vec<_>>().join(", ")
    }
}

impl Display for Steps {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for ((place, _, step), seconds) in &self.0 {
            writeln!(f, "    {:8} {step:32} {seconds:6.2} s", STAGES[*place])?;
        }
        Ok(())
    }
}

/// The task's key, wherever a record has it.
fn key(record: &Value) -> &Value {
    if record["record"] == "accepted" { &record["order"]["key"] } else { &record["key"] }
}

/// The steps of a node's task in their order with the time of each, and the time around them last.
fn of_task(records: &[Value], stage: &str) -> Vec<(String, f64)> {
    let mut steps = Vec::new();
    let (mut first, mut began, mut last) = (None, None, None);
    for record in records.iter().filter(|record| key(record)["stage"] == stage) {
        let Some(at) = record["at"].as_u64() else { continue };
        first.get_or_insert(at);
        last = Some(at);
        match record["record"].as_str() {
            Some("step_started") => began = Some(at),
            Some("step_ended") => {
                if let Some(began) = began.take() {
                    let step = record["step"].as_str().unwrap_or_default().to_owned();
                    steps.push((step, seconds(began, at)));
                }
            }
            _ => {}
        }
    }
    let (Some(first), Some(last)) = (first, last) else { return steps };
    let in_steps: f64 = steps.iter().map(|(_, took)| took).sum();
    steps.push((AROUND.to_owned(), seconds(first, last) - in_steps));
    steps
}

/// From one moment in milliseconds to another.
pub fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}
