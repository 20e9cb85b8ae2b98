//! The tasks of one stage. [`StageTasks::change`] is the one way to change a task, so that the tally is always right.

use super::chunks::Chunks;
use super::index::{Kind, StageIndex};
use super::places::{Place, PlaceSet};
use super::state::{Task, TaskState};
use super::tally::{Standing, Tally};
use crate::id::{NodeId, Timestamp};
use crate::plan::{Plan, StagePlan};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The tasks of one stage, with their tally and what the plan alone says of them. A copy shares every task that neither has
/// changed since.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StageTasks {
    index: Arc<StageIndex>,
    tasks: Chunks<Arc<Task>>,
    tally: Tally,
}

impl StageTasks {
    /// The tasks of a stage before anything was tried.
    pub(super) fn new(plan: &Plan, planned: &StagePlan) -> Self {
        let index = StageIndex::new(plan, planned);
        let fresh = Arc::new(Task {
            progress: TaskState::Scheduled,
            waived: false,
            attempt: 0,
            since: Timestamp::default(),
            started_at: None,
            accepted: false,
            overdue: false,
            steps: Vec::new(),
        });
        let nodes_of_waves: Vec<usize> = planned.waves.iter().map(Vec::len).collect();
        let tally = Tally::new(&index, &nodes_of_waves, &fresh);
        let tasks = Chunks::new(&vec![fresh; index.nodes().len()]);
        Self { index: Arc::new(index), tasks, tally }
    }

    pub(super) fn index(&self) -> &StageIndex {
        &self.index
    }

    pub(super) const fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn task(&self, place: Place) -> Option<&Task> {
        self.tasks.get(place.number()).map(AsRef::as_ref)
    }

    pub(super) fn of(&self, node: &NodeId) -> Option<&Task> {
        self.task(self.index.place(node)?)
    }

    /// Every node with its task, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Task)> {
        self.index.nodes().iter().zip(self.tasks.iter().map(AsRef::as_ref))
    }

    /// The nodes at some places, with their tasks.
    pub(super) fn at<'a>(
        &'a self,
        places: impl Iterator<Item = Place> + 'a,
    ) -> impl Iterator<Item = (&'a NodeId, &'a Task)> {
        places.filter_map(|place| Some((self.index.node(place)?, self.task(place)?)))
    }

    /// The nodes of a wave in the order of work, with their tasks.
    pub(super) fn in_wave(&self, wave: usize) -> impl Iterator<Item = (&NodeId, &Task)> {
        self.at(self.index.in_wave(wave).iter().copied())
    }

    /// The nodes of a wave that wait to be started and are not waived, in the order of work, each with its kind.
    pub(super) fn scheduled_in(&self, wave: usize) -> impl Iterator<Item = (&NodeId, &Task, Kind)> {
        self.tally
            .scheduled_in(&self.index, wave)
            .filter_map(|place| Some((self.index.node(place)?, self.task(place)?, self.index.kind(place))))
    }

    /// Of all nodes that wait to be started and are not waived, one of each kind.
    pub(super) fn scheduled_kinds(&self) -> BTreeMap<Kind, &NodeId> {
        let waves = (0..self.index.waves()).flat_map(|wave| self.scheduled_in(wave));
        waves.map(|(node, _, kind)| (kind, node)).collect()
    }

    /// The tasks that are in flight, waived or not, by name.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = (Place, &NodeId, &Task)> {
        let in_flight = self.tally.in_flight.iter();
        in_flight.filter_map(|place| Some((place, self.index.node(place)?, self.task(place)?)))
    }

    /// The tasks that were given out and are not known to have ended: in flight, or of a lost node, waived or not, by name.
    pub(super) fn given_out(&self) -> impl Iterator<Item = (&NodeId, &Task)> {
        self.at(PlaceSet::union(&self.tally.in_flight, &self.tally.lost))
    }

    /// The first wave that is not over.
    pub(super) fn current_wave(&self) -> Option<usize> {
        self.tally.first_open(&self.index)
    }

    /// Changes a task.
    pub(super) fn change(&mut self, place: Place, change: impl FnOnce(&mut Task)) {
        let Some(task) = self.tasks.get_mut(place.number()) else { return };
        let before = Standing::of(task);
        change(Arc::make_mut(task));
        let after = Standing::of(task);
        if before == after {
            return;
        }
        self.tally.moved(&self.index, place, before, after);
        let went_back = after.since < before.since;
        if let Some(wave) = self.index.wave(place).filter(|_| went_back) {
            let since = self.in_wave(wave).filter_map(|(_, task)| Standing::of(task).since).max();
            self.tally.correct_since(wave, since);
        }
    }

    /// Changes every task that is so.
    pub(super) fn change_all(&mut self, is_so: impl Fn(&Task) -> bool, change: impl Fn(&mut Task)) {
        for place in (0..self.index.nodes().len()).map(Place::new) {
            if self.task(place).is_some_and(&is_so) {
                self.change(place, &change);
            }
        }
    }
}

/// The tasks alone: the rest follows from them and from the plan.
impl fmt::Debug for StageTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
