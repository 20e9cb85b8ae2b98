//! How the tasks of a stage stand, counted as they change, so that what is asked after every event need not look at every task.
//! What follows from it is `hold`'s and `decide`'s business; nobody but `tasks` changes it.

use super::chunks::Chunks;
use super::index::StageIndex;
use super::places::{Place, PlaceSet};
use super::state::{Counts, Task, TaskState};
use crate::id::Timestamp;
use std::collections::BTreeMap;

/// What of a task is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    progress: TaskState,
    state: TaskState,
    overdue: bool,
    /// Since when it is where it is, if it was ever tried.
    pub(super) since: Option<Timestamp>,
}

impl Standing {
    pub(super) fn of(task: &Task) -> Self {
        let since = (task.attempt > 0).then_some(task.since);
        Self { progress: task.progress, state: task.state(), overdue: task.is_overdue(), since }
    }

    const fn in_flight(self) -> bool {
        matches!(self.progress, TaskState::Preparing | TaskState::Applying)
    }

    const fn settled(self) -> bool {
        matches!(self.state, TaskState::Finished | TaskState::Waived)
    }
}

/// How the tasks of one wave stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WaveTally {
    /// Tasks that are neither finished nor waived, and nodes that have no task.
    unsettled: u32,
    failed: u32,
    unknown: u32,
    tried: u32,
    /// The latest moment since when a task that was tried is where it is.
    pub(super) since: Option<Timestamp>,
}

impl WaveTally {
    /// Whether any task of it was ever given out.
    pub(super) const fn begun(&self) -> bool {
        self.tried > 0
    }

    /// Whether a node failed or is lost.
    pub(super) const fn gone_wrong(&self) -> bool {
        self.failed + self.unknown > 0
    }

    fn count(&mut self, of: Standing, is_in: bool) {
        step(&mut self.unsettled, !of.settled(), is_in);
        step(&mut self.failed, of.state == TaskState::Failed, is_in);
        step(&mut self.unknown, of.state == TaskState::Unknown, is_in);
        step(&mut self.tried, of.since.is_some(), is_in);
        if is_in {
            self.since = self.since.max(of.since);
        }
    }
}

/// How the tasks of a stage stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many are where.
    pub(super) counts: Counts,
    /// Tasks that take longer than they may.
    pub(super) overdue: u32,
    /// Waived tasks that are in flight.
    pub(super) waived_in_flight: u32,
    /// Tasks that are in flight, waived or not.
    pub(super) in_flight: PlaceSet,
    /// Tasks whose node is lost, waived or not.
    pub(super) lost: PlaceSet,
    /// Tasks that wait to be started and are not waived, in the order of work.
    scheduled: PlaceSet,
    waves: Chunks<WaveTally>,
    first_open: usize,
    /// Finished tasks by section.
    finished: Vec<u32>,
    /// By group, nodes that are at work or may be: in flight, or lost and not waived.
    at_work: BTreeMap<u32, PlaceSet>,
    /// Nodes that may be down beside one that is worked on alone: in flight, or failed or lost and not waived. Where nobody is
    /// worked on alone, nobody is noted.
    away: PlaceSet,
    away_alone: PlaceSet,
}

impl Tally {
    /// The tally of tasks that all are alike.
    pub(super) fn new(index: &StageIndex, nodes_of_waves: &[usize], task: &Task) -> Self {
        let places = index.nodes().len();
        let none = || PlaceSet::new(places);
        let missing = nodes_of_waves.iter().zip(0..).map(|(nodes, wave)| nodes - index.in_wave(wave).len());
        let waves = missing.map(|missing| WaveTally {
            unsettled: u32::try_from(missing).unwrap_or(u32::MAX),
            ..WaveTally::default()
        });
        let mut tally = Self {
            counts: Counts::default(),
            overdue: 0,
            waived_in_flight: 0,
            in_flight: none(),
            lost: none(),
            scheduled: none(),
            waves: Chunks::new(&waves.collect::<Vec<_>>()),
            first_open: 0,
            finished: vec![0; index.section(index.waves()) + 1],
            at_work: BTreeMap::new(),
            away: none(),
            away_alone: none(),
        };
        (0..places).for_each(|number| tally.count(index, Place::new(number), Standing::of(task), true));
        tally.pass_waves(index);
        tally
    }

    /// A task stands otherwise than before.
    pub(super) fn moved(&mut self, index: &StageIndex, place: Place, before: Standing, after: Standing) {
        self.count(index, place, before, false);
        self.count(index, place, after, true);
        if let Some(wave) = index.wave(place) {
            if !self.wave_is_over(index, wave) {
                self.first_open = self.first_open.min(wave);
            }
            self.pass_waves(index);
        }
    }

    /// The latest moment of a wave, where a task went back in time.
    pub(super) fn correct_since(&mut self, wave: usize, since: Option<Timestamp>) {
        if let Some(tally) = self.waves.get_mut(wave) {
            tally.since = since;
        }
    }

    pub(super) fn wave(&self, wave: usize) -> Option<&WaveTally> {
        self.waves.get(wave)
    }

    /// The first wave that is not over.
    pub(super) fn first_open(&self, index: &StageIndex) -> Option<usize> {
        Some(self.first_open).filter(|wave| *wave < index.waves())
    }

    /// The tasks of a wave that wait to be started and are not waived, in the order of work.
    pub(super) fn scheduled_in<'a>(
        &'a self,
        index: &'a StageIndex,
        wave: usize,
    ) -> impl Iterator<Item = Place> + 'a {
        let turns = index.turns(wave);
        let open = self.scheduled.from(Place::new(turns.start));
        open.take_while(move |turn| turn.number() < turns.end).filter_map(|turn| index.at_turn(turn))
    }

    /// Tasks that are neither finished nor waived.
    pub(super) const fn unsettled(&self) -> u32 {
        self.counts.total() - self.counts.finished - self.counts.waived
    }

    /// Whether a task of a section or of a later one has finished.
    pub(super) fn any_finished_from(&self, section: usize) -> bool {
        self.finished.iter().skip(section).any(|finished| *finished > 0)
    }

    /// The first node at work that is of another group, with its group.
    pub(super) fn at_work_beside(&self, group: u32) -> Option<(Place, u32)> {
        let others = self.at_work.iter().filter(|(other, _)| **other != group);
        others.filter_map(|(other, places)| Some((places.first()?, *other))).min()
    }

    /// The first node that may be down beside one that is worked on alone.
    pub(super) fn first_away(&self) -> Option<Place> {
        self.away.first()
    }

    /// The first of those that itself is worked on alone.
    pub(super) fn first_away_alone(&self) -> Option<Place> {
        self.away_alone.first()
    }

    /// Whether every node of a wave is finished, waived or, but for a canary, failed. A canary that failed has not done what it
    /// is for.
    fn wave_is_over(&self, index: &StageIndex, wave: usize) -> bool {
        let open = |tally: &WaveTally| match index.is_canary(wave) {
            true => tally.unsettled > 0,
            false => tally.unsettled > tally.failed,
        };
        !self.waves.get(wave).is_some_and(open)
    }

    fn pass_waves(&mut self, index: &StageIndex) {
        while self.first_open < index.waves() && self.wave_is_over(index, self.first_open) {
            self.first_open += 1;
        }
    }

    fn count(&mut self, index: &StageIndex, place: Place, of: Standing, is_in: bool) {
        step(self.counts.part(of.state), true, is_in);
        step(&mut self.overdue, of.overdue, is_in);
        step(&mut self.waived_in_flight, of.in_flight() && of.state == TaskState::Waived, is_in);
        self.in_flight.set(place, is_in && of.in_flight());
        self.lost.set(place, is_in && of.progress == TaskState::Unknown);
        if let Some(turn) = index.turn(place) {
            self.scheduled.set(turn, is_in && of.state == TaskState::Scheduled);
        }
        if let Some(wave) = index.wave(place) {
            if let Some(tally) = self.waves.get_mut(wave) {
                tally.count(of, is_in);
            }
            if let Some(finished) = self.finished.get_mut(index.section(wave)) {
                step(finished, of.state == TaskState::Finished, is_in);
            }
        }
        let at_work = of.in_flight() || of.state == TaskState::Unknown;
        if let Some(group) = index.group(place).filter(|_| at_work) {
            self.note_group(index, group, place, is_in);
        }
        if index.has_alone() {
            let away = at_work || of.state == TaskState::Failed;
            self.away.set(place, is_in && away);
            self.away_alone.set(place, is_in && away && index.is_alone(place));
        }
    }

    fn note_group(&mut self, index: &StageIndex, group: u32, place: Place, is_in: bool) {
        let places = self.at_work.entry(group).or_insert_with(|| PlaceSet::new(index.nodes().len()));
        places.set(place, is_in);
        if places.is_empty() {
            self.at_work.remove(&group);
        }
    }
}

fn step(count: &mut u32, counts: bool, is_in: bool) {
    match (counts, is_in) {
        (true, true) => *count += 1,
        (true, false) => *count -= 1,
        (false, _) => {}
    }
}
