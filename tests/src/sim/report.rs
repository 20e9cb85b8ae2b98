//! Figures: what a simulation did, added up over many.

use std::collections::BTreeMap;
use std::time::Duration;

/// What simulations did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Simulations.
    pub seeds: u64,
    /// Nodes of their fleets.
    pub nodes: u64,
    /// Messages that were sent, both ways.
    pub messages: u64,
    /// Events in the logs.
    pub events: u64,
    /// Times that something on the list of what was to happen happened.
    pub turns: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What operators did that had an effect, by verb.
    pub verbs: BTreeMap<&'static str, u64>,
    /// Rollouts that ended, by how.
    pub ended: BTreeMap<&'static str, u64>,
    /// Tasks that nodes took.
    pub tasks: u64,
    /// Writes to the coordinator's store.
    pub writes: u64,
    /// Syncs of the coordinator's store.
    pub syncs: u64,
    /// Milliseconds that passed in the simulations.
    pub virtual_ms: u64,
}

impl Figures {
    /// Counts a fault.
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (total, more) in [
            (&mut self.seeds, other.seeds),
            (&mut self.nodes, other.nodes),
            (&mut self.messages, other.messages),
            (&mut self.events, other.events),
            (&mut self.turns, other.turns),
            (&mut self.tasks, other.tasks),
            (&mut self.writes, other.writes),
            (&mut self.syncs, other.syncs),
            (&mut self.virtual_ms, other.virtual_ms),
        ] {
            *total += more;
        }
        for (total, more) in [
            (&mut self.faults, &other.faults),
            (&mut self.verbs, &other.verbs),
            (&mut self.ended, &other.ended),
        ] {
            for (kind, times) in more {
                *total.entry(kind).or_default() += times;
            }
        }
    }

    /// Them in words, with the time that they took.
    #[must_use]
    pub fn told(&self, wall: Duration) -> String {
        let hours = self.virtual_ms / 3_600_000;
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let parts: Vec<String> = counts.iter().map(|(kind, times)| format!("{times} {kind}")).collect();
            parts.join(", ")
        };
        let sum = |counts: &BTreeMap<&'static str, u64>| counts.values().sum::<u64>();
        format!(
            "simulated: {} seeds, {} nodes, {} tasks, {} events, {} messages, {} turns; {hours} virtual hours in {:.1} s\n\
             store: {} writes, {} syncs\nfaults: {} ({})\noperators: {}\nrollouts: {}",
            self.seeds,
            self.nodes,
            self.tasks,
            self.events,
            self.messages,
            self.turns,
            wall.as_secs_f64(),
            self.writes,
            self.syncs,
            sum(&self.faults),
            list(&self.faults),
            list(&self.verbs),
            list(&self.ended),
        )
    }
}
