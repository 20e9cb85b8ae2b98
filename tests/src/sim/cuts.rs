//! Every cut of the coordinator's store, one after the other: a whole rollout of a small mixed fleet, with the coordinator
//! stopped at one operation of its disk, before, in or after it, and started again on what the disk then has. Each must end as
//! a rollout that nothing disturbed.

use super::disk::{Stop, When};
use super::fleet::{self, Kind};
use super::settings::Settings;
use super::site::Site;
use super::world::World;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use wavegate_common::id::NodeId;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskState;

/// What becomes of what was not synced when the coordinator stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It was killed: all is kept.
    Kill,
    /// The power was cut: it is kept, lost or torn.
    Power,
}

/// How often the store was used by a rollout that nothing disturbed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Operations before the rollout's first: the fleet was set up by them.
    pub before: u64,
    /// Operations of its disk, from the first on.
    pub operations: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs.
    pub syncs: u64,
}

/// How a rollout ended: where every task is, and after how many attempts.
pub type Ending = BTreeMap<(Stage, NodeId), (TaskState, u32)>;

/// A rollout whose coordinator may be stopped.
pub struct Cutting<'a> {
    site: &'a Site,
    members: Vec<(String, Kind)>,
    calm: Ending,
    used: Used,
    /// The operations that are syncs.
    syncs: Vec<u64>,
}

impl<'a> Cutting<'a> {
    /// With a fleet of one etcd member and two nodes of each other stage, on three platforms; runs it once undisturbed.
    ///
    /// # Errors
    /// [`Failure`](super::Failure) if that goes wrong.
    pub fn new(site: &'a Site) -> Result<Self> {
        let kinds = fleet::one_of_each();
        let of = |name: &str| kinds.iter().find(|(known, _)| known == name).cloned();
        let names = ["debian-etcd", "redhat-compute", "trusty-compute", "debian-control"];
        let members =
            names.iter().map(|name| of(name).with_context(|| format!("no {name}"))).collect::<Result<_>>()?;
        let mut cutting =
            Self { site, members, calm: Ending::new(), used: Used::default(), syncs: Vec::new() };
        let mut world = cutting.world()?;
        world.go()?;
        cutting.calm = ending(&world)?;
        let disk = &world.coordinator.disk;
        let counts = disk.counts();
        cutting.used = Used {
            before: world.coordinator.founded_with,
            operations: counts.operations(),
            writes: counts.writes,
            syncs: counts.syncs,
        };
        cutting.syncs = disk.syncs();
        Ok(cutting)
    }

    fn world(&self) -> Result<World<'a>> {
        World::new(self.site, Settings { asks_agents: true, ..Settings::calm(7) }, self.members.clone())
    }

    /// How often the store was used.
    #[must_use]
    pub const fn used(&self) -> Used {
        self.used
    }

    /// The operations at which it is worth the most to stop: every sync, the one before and the one after it; and of the
    /// others every so manieth. All of them for 1.
    #[must_use]
    pub fn operations(&self, every: u64) -> Vec<u64> {
        let near = |operation: &u64| {
            operation.is_multiple_of(every.max(1)) || self.syncs.binary_search(operation).is_ok()
        };
        (self.used.before..self.used.operations).filter(near).collect()
    }

    /// Stops the coordinator at every operation that is worth it, in the six ways there are; in turn, unless all are to be
    /// seen (1). Returns how often it was stopped.
    ///
    /// # Errors
    /// As [`Cutting::run`].
    pub fn run_all(&self, every: u64) -> Result<u64> {
        let ways =
            [When::Before, When::Torn, When::After].map(|when| [(when, Cut::Kill), (when, Cut::Power)]);
        let (ways, mut cuts) = (ways.as_flattened(), 0);
        for (index, operation) in self.operations(every).into_iter().enumerate() {
            let some = if every == 1 { ways } else { &ways[index % ways.len()..=index % ways.len()] };
            for (when, cut) in some {
                self.run(operation, *when, *cut)?;
                cuts += 1;
            }
        }
        Ok(cuts)
    }

    /// Runs it with the coordinator stopped there, and compares how it ends.
    ///
    /// # Errors
    /// [`Failure`](super::Failure), or that it ends otherwise.
    pub fn run(&self, operation: u64, when: When, cut: Cut) -> Result<()> {
        let place = || format!("stopped {when:?} operation {operation} of the store, {cut:?}");
        let mut world = self.world()?;
        world.coordinator.disk.stop_at(Some(Stop { operation, when }));
        world.coordinator.stop_is_power_cut = cut == Cut::Power;
        world.go().map_err(anyhow::Error::from).with_context(place)?;
        let (ended, deaths) = (ending(&world)?, world.coordinator.deaths);
        anyhow::ensure!(deaths == 1, "{}: the coordinator was not stopped", place());
        anyhow::ensure!(ended == self.calm, "{}: it ended with {ended:?}, not {:?}", place(), self.calm);
        Ok(())
    }
}

fn ending(world: &World<'_>) -> Result<Ending> {
    let rollout =
        world.coordinator.engine.as_ref().and_then(|engine| engine.rollout()).context("no rollout")?;
    let mut ending = Ending::new();
    for stage in Stage::ALL {
        for (node, task) in rollout.tasks(*stage) {
            ending.insert((*stage, node.clone()), (task.state(), task.attempt));
        }
    }
    Ok(ending)
}
