//! What the plan of a stage alone determines, found out once: the place, the wave and the group of every node, who is worked on
//! alone, which waves are tried before all that follows, and how long a task may take.

use super::places::{Place, PlaceSet};
use crate::id::NodeId;
use crate::order::{PlannedStep, Steps, Work};
use crate::plan::{Plan, StagePlan};
use crate::platform::Stage;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::Range;

/// What makes nodes alike to the rules: of scheduled ones that are of one kind, all may be started or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// The wave; the number of waves for a node that is in none.
    pub(super) wave: usize,
    /// The group, as a number.
    pub(super) group: Option<u32>,
    /// Whether it is worked on alone: an etcd member, in stage etcd.
    pub(super) alone: bool,
}

/// What is asked of a stage's plan all the time. Places are those by name, where it is not said otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StageIndex {
    nodes: Vec<NodeId>,
    /// Of ten thousand names a search would compare fourteen, each of them somewhere else in memory, at every event.
    place_of: HashMap<NodeId, Place, BuildHasherDefault<DefaultHasher>>,
    /// The nodes in the order of work, wave after wave.
    work: Vec<Place>,
    /// Where in `work` each wave begins, and where the last one ends.
    begins: Vec<usize>,
    /// Where in `work` each node is.
    turn_of: Vec<Option<Place>>,
    group_of: Vec<Option<u32>>,
    groups: Vec<String>,
    alone: PlaceSet,
    canaries: Vec<usize>,
    steps: Vec<Steps>,
    limit_ms: Vec<u64>,
}

impl StageIndex {
    pub(super) fn new(plan: &Plan, planned: &StagePlan) -> Self {
        let nodes: Vec<NodeId> = planned.tasks.keys().cloned().collect();
        let place_of: HashMap<_, _, _> = nodes.iter().cloned().zip((0..).map(Place::new)).collect();
        let (mut work, mut begins) = (Vec::with_capacity(nodes.len()), vec![0]);
        for wave in &planned.waves {
            work.extend(wave.iter().filter_map(|node| place_of.get(node).copied()));
            begins.push(work.len());
        }
        let mut turn_of = vec![None; nodes.len()];
        for (turn, place) in work.iter().enumerate().rev() {
            turn_of[place.number()] = Some(Place::new(turn));
        }
        let numbers = numbered(planned);
        let group = |node| planned.groups.get(node).and_then(|group| numbers.get(group.as_str()).copied());
        let mut alone = PlaceSet::new(nodes.len());
        for (number, node) in nodes.iter().enumerate() {
            alone.set(Place::new(number), is_alone(plan, planned, node));
        }
        Self {
            place_of,
            work,
            begins,
            turn_of,
            group_of: nodes.iter().map(group).collect(),
            groups: numbers.keys().map(|group| (*group).to_owned()).collect(),
            canaries: (0..planned.waves.len()).filter(|wave| is_canary(plan, planned, *wave)).collect(),
            steps: planned.tasks.values().cloned().collect(),
            limit_ms: planned.tasks.values().map(|steps| limit_ms(steps)).collect(),
            alone,
            nodes,
        }
    }

    /// The nodes by name.
    pub(super) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    pub(super) fn place(&self, node: &NodeId) -> Option<Place> {
        self.place_of.get(node).copied()
    }

    pub(super) fn node(&self, place: Place) -> Option<&NodeId> {
        self.nodes.get(place.number())
    }

    /// How many waves there are.
    pub(super) const fn waves(&self) -> usize {
        self.begins.len() - 1
    }

    /// The places of a wave's nodes, in the order of work.
    pub(super) fn in_wave(&self, wave: usize) -> &[Place] {
        self.work.get(self.turns(wave)).unwrap_or_default()
    }

    /// The places that a wave's nodes have in the order of work.
    pub(super) fn turns(&self, wave: usize) -> Range<usize> {
        match (self.begins.get(wave), self.begins.get(wave + 1)) {
            (Some(begin), Some(end)) => *begin..*end,
            _ => 0..0,
        }
    }

    /// The place by name of the node that has a place in the order of work.
    pub(super) fn at_turn(&self, turn: Place) -> Option<Place> {
        self.work.get(turn.number()).copied()
    }

    /// The place that a node has in the order of work, if it is in a wave.
    pub(super) fn turn(&self, place: Place) -> Option<Place> {
        self.turn_of.get(place.number()).copied().flatten()
    }

    pub(super) fn wave(&self, place: Place) -> Option<usize> {
        let turn = self.turn(place)?.number();
        self.begins.partition_point(|begin| *begin <= turn).checked_sub(1)
    }

    pub(super) fn kind(&self, place: Place) -> Kind {
        let wave = self.wave(place).unwrap_or_else(|| self.waves());
        Kind { wave, group: self.group(place), alone: self.is_alone(place) }
    }

    /// The group that a node is of, as a number.
    pub(super) fn group(&self, place: Place) -> Option<u32> {
        self.group_of.get(place.number()).copied().flatten()
    }

    pub(super) fn group_name(&self, group: u32) -> &str {
        self.groups.get(group as usize).map_or("", String::as_str)
    }

    /// Whether a node is worked on alone: an etcd member, in stage etcd.
    pub(super) fn is_alone(&self, place: Place) -> bool {
        self.alone.contains(place)
    }

    /// Whether any node of the stage is worked on alone.
    pub(super) const fn has_alone(&self) -> bool {
        !self.alone.is_empty()
    }

    pub(super) fn is_canary(&self, wave: usize) -> bool {
        self.canaries.binary_search(&wave).is_ok()
    }

    /// How many canaries there are up to a wave: 1 at least. The waves with one number are a section, a canary and what follows.
    pub(super) fn section(&self, wave: usize) -> usize {
        self.canaries.partition_point(|canary| *canary <= wave)
    }

    /// The wave with which a section begins.
    pub(super) fn canary_of(&self, section: usize) -> usize {
        section.checked_sub(1).and_then(|before| self.canaries.get(before)).copied().unwrap_or(0)
    }

    /// The steps of a node's task.
    pub(super) fn steps(&self, place: Place) -> &[PlannedStep] {
        self.steps.get(place.number()).map_or(&[], |steps| steps)
    }

    /// Milliseconds that a node may work on its task without anybody wondering.
    pub(super) fn limit_ms(&self, place: Place) -> u64 {
        self.limit_ms.get(place.number()).copied().unwrap_or(u64::MAX)
    }
}

/// Every group of a stage with its number.
fn numbered(planned: &StagePlan) -> BTreeMap<&str, u32> {
    let mut groups: BTreeMap<&str, u32> = planned.groups.values().map(|group| (group.as_str(), 0)).collect();
    groups.values_mut().zip(0..).for_each(|(number, counted)| *number = counted);
    groups
}

/// Whether a node is worked on alone in a stage.
fn is_alone(plan: &Plan, planned: &StagePlan, node: &NodeId) -> bool {
    planned.stage == Stage::Etcd && plan.is_etcd_member(node)
}

/// Whether a wave is tried before all that follows: the first of a stage, and in stage etcd also the first of those that
/// are no members, after the members. It is over when all of it has finished, not when it has failed.
fn is_canary(plan: &Plan, planned: &StagePlan, wave: usize) -> bool {
    let members = |wave: &Vec<NodeId>| wave.iter().any(|node| is_alone(plan, planned, node));
    match wave.checked_sub(1).map(|before| (planned.waves.get(before), planned.waves.get(wave))) {
        None => true,
        Some((Some(before), Some(own))) => members(before) && !members(own),
        Some(_) => false,
    }
}

/// What the steps of a task may take together, half as much again, and ten minutes.
fn limit_ms(steps: &[PlannedStep]) -> u64 {
    let limits = steps.iter().map(|step| match step.work {
        Work::Run { timeout_s, .. } => timeout_s,
        Work::Skip { .. } => 0,
    });
    let together = limits.fold(0u64, u64::saturating_add);
    together.saturating_add(together / 2).saturating_add(600).saturating_mul(1000)
}
