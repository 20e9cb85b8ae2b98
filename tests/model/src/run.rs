//! One exploration and its figures.

use crate::fleet::Fleet;
use crate::invariant::Invariant;
use crate::shape::Shape;
use stateright::{Checker as _, HasDiscoveries, Model as _};
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

/// What an exploration came to.
#[derive(Debug, Clone)]
pub struct Explored {
    /// The shape.
    pub shape: Shape,
    /// Worlds that were come to, each time counted.
    pub states: usize,
    /// Different worlds.
    pub unique: usize,
    /// The length of the longest way to a world.
    pub depth: usize,
    /// Different coordinators and nodes: what production code was asked about.
    pub parts: (usize, usize),
    /// How long it took.
    pub took: Duration,
    /// What did not hold, each with a way to a world where it does not.
    pub broken: Vec<(Invariant, Vec<String>)>,
    /// Whether every world was seen; not so if an invariant was broken, or there was no time left.
    pub complete: bool,
    /// States of rollouts and tasks that some world is in, in words.
    pub reached: BTreeSet<String>,
}

/// Explores every world of a shape, or until an invariant is broken or the time is over.
///
/// # Errors
/// If the shape has no plan.
pub fn explore(
    shape: Shape,
    compare: bool,
    threads: usize,
    limit: Option<Duration>,
) -> anyhow::Result<Explored> {
    let fleet = Fleet::new(shape)?;
    let fleet = if compare { fleet.comparing() } else { fleet };
    let began = Instant::now();
    let mut builder = fleet.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(limit) = limit {
        builder = builder.timeout(limit);
    }
    let checker = builder.spawn_bfs().join();
    let took = began.elapsed();
    let mut found = checker.discoveries();
    let mut broken = Vec::new();
    for invariant in Invariant::ALL {
        if let Some(path) = found.remove(invariant.text()) {
            let steps = path.into_vec().into_iter();
            let words = steps.filter_map(|(world, action)| Some(checker.model().words(&world, &action?)));
            broken.push((invariant, words.collect()));
        }
    }
    let in_time = limit.is_none_or(|limit| took < limit);
    Ok(Explored {
        shape,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        parts: (checker.model().coordinators.len(), checker.model().nodes.len()),
        took,
        complete: broken.is_empty() && in_time,
        broken,
        reached: reached(checker.model()),
    })
}

fn reached(fleet: &Fleet) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    for entry in fleet.coordinators.all() {
        let rollout = entry.coordinator.rollout();
        reached.insert(format!("rollout {}", rollout.status().0));
        let stages = rollout.plan().body.stages.iter();
        let tasks = stages.flat_map(|stage| rollout.tasks(stage.stage));
        reached.extend(tasks.map(|(_, task)| {
            format!("task {}{}", task.state(), if task.overdue { ", overdue" } else { "" })
        }));
    }
    reached
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<12} {:>11} states {:>10} unique  depth {:>3}  {:>7} rollouts {:>6} nodes  {:>6.1} s",
            self.shape.name,
            self.states,
            self.unique,
            self.depth,
            self.parts.0,
            self.parts.1,
            self.took.as_secs_f64()
        )?;
        if !self.complete && self.broken.is_empty() {
            f.write_str("  (not all: no time left)")?;
        }
        for (invariant, way) in &self.broken {
            write!(f, "\n  BROKEN {}", invariant.text())?;
            for (number, step) in way.iter().enumerate() {
                write!(f, "\n    {:>3}. {step}", number + 1)?;
            }
        }
        Ok(())
    }
}
