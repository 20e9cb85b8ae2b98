//! What is measured on a swarm of one size, in the order in which it is: memory, an idle fleet, a stage that changes nothing,
//! the coordinator killed and started, questions while a stage runs, a start alone. Each gives rows of the benchmark's table.

mod idle;
mod questions;
mod restart;
mod rollout;

pub use rollout::{CPU_A_NODE, WALL_A_NODE};

use super::{Coordinator, Fleet, Operator, Shape, Swarm, Usage};
use crate::bench::{Limit, Row};
use crate::sim::fleet::policy;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything may take that is waited for: what is slow is to be measured, and only what hangs to be given up.
const BOUND: Duration = Duration::from_secs(600);

/// How often it is looked whether the coordinator still runs.
const LOOK: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nodes of the fleet.
    pub nodes: usize,
    /// Where the coordinator's program is; `None` for where the running one is.
    pub binaries: Option<PathBuf>,
    /// How long the fleet is watched while it is idle.
    pub idle: Duration,
    /// How long a program takes on a machine of a stage that takes its time.
    pub pace: Duration,
}

/// A fleet that is connected, and what was measured of it.
struct Measuring {
    options: Options,
    began: Instant,
    coordinator: Coordinator,
    operator: Operator,
    swarm: Swarm,
    /// Of a coordinator that has no node yet.
    empty: Usage,
    rows: Vec<Row>,
}

/// Measures everything on a fleet of one size.
///
/// # Errors
/// When something does not work: what is measured must first be right.
pub async fn measure(options: Options) -> Result<Vec<Row>> {
    let coordinator = Coordinator::set_up(options.binaries.as_deref())?;
    let fallen = coordinator.fallen(LOOK);
    // What is waited for does not come any more when the coordinator has died.
    tokio::select! {
        measured = measured(options, coordinator) => measured,
        fallen = fallen => Err(fallen),
    }
}

async fn measured(options: Options, coordinator: Coordinator) -> Result<Vec<Row>> {
    let mut this = Measuring::begin(options, coordinator).await?;
    if let Err(error) = this.everything().await {
        let log = this.coordinator.log_end();
        return Err(error.context(format!("the coordinator's log ends with:\n{log}")));
    }
    let Measuring { mut coordinator, swarm, mut rows, .. } = this;
    let nodes = swarm.count();
    swarm.end().await?;
    rows.push(restart::start_alone(&mut coordinator, nodes).await?);
    Ok(rows)
}

impl Measuring {
    async fn begin(options: Options, mut coordinator: Coordinator) -> Result<Self> {
        let began = Instant::now();
        coordinator.start().await?;
        let empty = coordinator.usage()?;
        coordinator.kill()?;
        let policy = policy(coordinator.directory())?;
        let fleet = Fleet::up_to_date(Shape::of(options.nodes), coordinator.directory())?;
        let enrolled = coordinator.enrol(&fleet.nodes())?;
        coordinator.start().await?;
        let swarm = Swarm::start(&coordinator, fleet, enrolled, &policy).await?;
        let operator = coordinator.operator().await?;
        let this = Self { options, began, coordinator, operator, swarm, empty, rows: Vec::new() };
        this.say("connected");
        Ok(this)
    }

    async fn everything(&mut self) -> Result<()> {
        self.memory("memory of the coordinator per connected agent", Some(Limit::AtMost(24.0)))?;
        self.idle().await?;
        self.rollouts_that_change_nothing().await?;
        self.memory("the same after a rollout", None)?;
        self.kill_and_start_idle().await?;
        self.stage_that_takes_its_time().await
    }

    /// Progress, for whoever waits.
    fn say(&self, what: &str) {
        eprintln!("{:7} nodes {:6.1} s  {what}", self.swarm.count(), self.began.elapsed().as_secs_f64());
    }

    fn row(&mut self, row: Row) {
        let values: Vec<f64> = row.values.iter().map(|value| value.value).collect();
        self.say(&format!("{}: {values:.3?} {}  {}", row.what, row.unit, row.note));
        self.rows.push(row);
    }

    /// A value of this fleet's size.
    fn at(&self, row: Row, value: f64) -> Row {
        row.at(u32::try_from(self.swarm.count()).unwrap_or(u32::MAX), value)
    }

    fn memory(&mut self, what: &str, limit: Option<Limit>) -> Result<()> {
        let now = self.coordinator.usage()?;
        let more = now.rss_kib.saturating_sub(self.empty.rss_kib) as f64 / self.swarm.count() as f64;
        let own =
            now.anonymous_kib.saturating_sub(self.empty.anonymous_kib) as f64 / self.swarm.count() as f64;
        let row = self.at(Row::new(what, "KiB", limit), more);
        self.row(row.note(format!("{own:.1} of it anonymous; {} MiB in all", now.rss_kib >> 10)));
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<()> {
        self.operator = self.coordinator.operator().await.context("connecting to the coordinator again")?;
        Ok(())
    }
}
