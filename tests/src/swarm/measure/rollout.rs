//! Rollouts that change nothing: how long stage compute takes, and what a node costs.

use super::{BOUND, Measuring};
use crate::bench::{Limit, Row, median};
use crate::swarm::Usage;
use crate::swarm::log::{Places, ended_well, reached};
use anyhow::{Context, Result, ensure};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Event};

/// The row with processor time a node, whose growth has a target.
pub const CPU_A_NODE: &str = "coordinator's CPU for a rollout that changes nothing, per node";
/// The row with time a node, likewise.
pub const WALL_A_NODE: &str = "stage compute that changes nothing, per node";

/// Small fleets have several rollouts, since what a few nodes cost is too little to measure: so many nodes in all, and no more
/// than so many rollouts.
const NODES_MEASURED: usize = 2000;
const ROLLOUTS: usize = 20;
/// What one rollout took.
struct Took {
    compute: Duration,
    coordinator: Duration,
    swarm: Duration,
    all: Duration,
}

impl Measuring {
    pub(super) async fn rollouts_that_change_nothing(&mut self) -> Result<()> {
        let from = Instant::now();
        let plan = self.operator.plan().await?;
        let planning = self.at(Row::new("planning", "s", None), from.elapsed().as_secs_f64());
        self.row(planning.note("every node asked, every step previewed"));
        let nodes = self.swarm.count();
        let mut took = vec![self.rollout(&plan).await?];
        while took.len() * nodes < NODES_MEASURED && took.len() < ROLLOUTS {
            let plan = self.operator.plan().await?;
            took.push(self.rollout(&plan).await?);
        }
        let sum = |of: fn(&Took) -> Duration| took.iter().map(of).sum::<Duration>().as_secs_f64();
        let per_node = 1000.0 / (took.len() * nodes) as f64;
        let mut compute: Vec<f64> = took.iter().map(|took| took.compute.as_secs_f64()).collect();
        compute.sort_by(f64::total_cmp);
        let median = median(&compute);
        let (coordinator, swarm, all) =
            (sum(|took| took.coordinator), sum(|took| took.swarm), sum(|took| took.all));
        let note = match took.len() {
            1 => "from the first task given out to the last one's end stored".to_owned(),
            times => format!("median of {times}, {:.2} to {:.2}", compute[0], compute[times - 1]),
        };
        let stage = Row::new("a stage that changes nothing", "s", Some(Limit::AtMost(2.0)));
        let row = self.at(stage, median).note(note);
        self.row(row);
        let cores = available_parallelism().context("asking how many cores there are")?.get();
        let row = self.at(Row::new(CPU_A_NODE, "ms", None), coordinator * per_node);
        self.row(row.note(format!(
            "all stages; the swarm itself {:.2} ms, {:.0}% of {cores} cores busy",
            swarm * per_node,
            100.0 * (coordinator + swarm) / all / cores as f64
        )));
        let row = self.at(Row::new(WALL_A_NODE, "ms", None), median * 1000.0 / nodes as f64);
        self.row(row);
        Ok(())
    }

    async fn rollout(&mut self, plan: &Plan) -> Result<Took> {
        let own = || Usage::of(std::process::id());
        let (before, own_before, from) = (self.coordinator.usage()?, own()?, Instant::now());
        self.operator.begin(plan).await?;
        let places = Places::of(plan);
        reached(&mut self.operator, places.end, BOUND).await?;
        let (after, own_after, all) = (self.coordinator.usage()?, own()?, from.elapsed());
        let events = self.operator.events().await?;
        ended_well(&events)?;
        ensure!(events.len() as u64 == places.end, "{} events in place of {}", events.len(), places.end);
        Ok(Took {
            compute: time_of(&events, Stage::Compute)?,
            coordinator: after.cpu.saturating_sub(before.cpu),
            swarm: own_after.cpu.saturating_sub(own_before.cpu),
            all,
        })
    }
}

/// From the first task of a stage given out to the last one's end.
fn time_of(events: &[Entry], wanted: Stage) -> Result<Duration> {
    let mut times = events.iter().filter_map(|entry| match &entry.event {
        Event::TaskStarted { task } | Event::TaskEnded { task, .. } if task.stage == wanted => Some(entry.at),
        _ => None,
    });
    let first = times.next().context("the stage has no tasks")?;
    Ok(Duration::from_millis(times.next_back().unwrap_or(first).millis_since(first)))
}
