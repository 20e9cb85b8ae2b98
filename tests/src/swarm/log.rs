//! The log of a rollout in which nothing goes wrong: how far it has come, and that nothing did.

use super::operator::Operator;
use super::wait;
use anyhow::{Result, ensure};
use std::time::Duration;
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Event, TaskResult};

/// How often it is looked whether a rollout has come to a place: seldom enough to cost nothing beside it.
const LOOK: Duration = Duration::from_millis(50);

/// Places in the log of a rollout in which nothing fails, is lost or asked for.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// The last event of stage etcd.
    pub etcd: u64,
    /// The last event of stage compute's canary.
    pub canary: u64,
    /// The last event of stage compute.
    pub compute: u64,
    /// The last event of all.
    pub end: u64,
}

impl Places {
    /// Of a rollout of this plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        // Each task is given out, accepted and ended, and so is each of its steps ended.
        let events =
            |stage: &StagePlan| stage.tasks.values().map(|steps| 3 + steps.len() as u64).sum::<u64>();
        let of = |wanted: Stage| plan.body.stages.iter().find(|stage| stage.stage == wanted);
        let all = |wanted: Stage| of(wanted).map_or(0, events);
        let canaries = of(Stage::Compute).and_then(|stage| Some((stage, stage.waves.first()?)));
        let canary = canaries.map_or(0, |(stage, nodes)| {
            nodes.iter().filter_map(|node| stage.tasks.get(node)).map(|steps| 3 + steps.len() as u64).sum()
        });
        // The first event is the rollout's beginning, the last its end.
        let etcd = 1 + all(Stage::Etcd);
        let compute = etcd + all(Stage::Compute);
        Self { etcd, canary: etcd + canary, compute, end: compute + all(Stage::Control) + 1 }
    }
}

/// Waits until the log of the newest rollout has come so far.
///
/// # Errors
/// When the bound is over: what the rollout waits for.
pub async fn reached(operator: &mut Operator, seq: u64, bound: Duration) -> Result<()> {
    let what = format!("event {seq}");
    let reached = wait(&what, bound, LOOK, async || Ok(operator.has_event(seq).await?.then_some(()))).await;
    match reached {
        Ok(()) => Ok(()),
        Err(error) => {
            let why = operator.why().await.unwrap_or_default();
            Err(error.context(format!("the rollout waits for: {why}")))
        }
    }
}

/// Nothing failed, nobody was lost, and it has finished.
///
/// # Errors
/// The first event that says otherwise.
pub fn ended_well(events: &[Entry]) -> Result<()> {
    let bad = events.iter().find(|entry| is_trouble(entry) || matches!(entry.event, Event::Paused { .. }));
    ensure!(bad.is_none(), "it did not go well: {bad:?}");
    ensure!(events.last().is_some_and(|last| last.event == Event::Finished), "it has not finished");
    Ok(())
}

/// Whether a node failed or was lost.
#[must_use]
pub fn is_trouble(entry: &Entry) -> bool {
    matches!(entry.event, Event::TaskLost { .. } | Event::TaskEnded { result: TaskResult::Failed, .. })
}
