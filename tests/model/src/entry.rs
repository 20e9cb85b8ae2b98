//! Nodes and coordinators as a world's numbers stand for them, with what production code made of each, asked once.

use crate::coordinator::{Coordinator, Verb};
use crate::invariant::Broken;
use crate::node::{Happens, Node, place};
use crate::shape::node_number;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{OnceLock, PoisonError, RwLock};
use wavegate_common::id::{Generation, NodeId};
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, TaskState};

/// Answers that are remembered.
#[derive(Debug)]
pub struct Remembered<Q, A>(RwLock<HashMap<Q, A>>);

impl<Q, A> Default for Remembered<Q, A> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<Q: Eq + Hash + Copy, A: Copy> Remembered<Q, A> {
    /// The answer; `ask` is asked for it the first time. Two threads may both ask: the answer is the same.
    pub fn get(&self, question: Q, ask: impl FnOnce() -> A) -> A {
        if let Some(answer) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&question) {
            return *answer;
        }
        let answer = ask();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(question, answer);
        answer
    }
}

/// What can happen to a node, with orders and reports by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// See [`Happens::Welcome`].
    Welcome(u8),
    /// See [`Happens::Order`]; its place among the orders.
    Order(u8),
    /// See [`Happens::Work`].
    Work,
    /// See [`Happens::Fails`].
    Fails,
    /// See [`Happens::Crash`].
    Crash,
    /// See [`Happens::Acknowledged`]; the report that was answered.
    Acknowledged(u32),
    /// See [`Happens::LosesJournal`].
    LosesJournal,
}

/// A set of nodes: a bit each, by number.
pub type Nodes = u8;

/// A node.
#[derive(Debug)]
pub struct NodeEntry {
    /// The node.
    pub node: Node,
    /// What is wrong with it by itself.
    pub broken: Broken,
    /// The place of the stage that it works on by its journal.
    pub at_work: Option<usize>,
    /// All reports that may be on their way from it.
    pub reports: OnceLock<Vec<u32>>,
    /// What it says at the begin of a session.
    pub says: OnceLock<Vec<u32>>,
    /// What becomes of it.
    pub after: Remembered<Input, Option<u32>>,
}

impl NodeEntry {
    /// A node, looked at once.
    #[must_use]
    pub fn new(node: Node, possible: &[TaskOrder]) -> Self {
        Self {
            broken: node.broken(possible),
            at_work: node.at_work().map(place),
            node,
            reports: OnceLock::new(),
            says: OnceLock::new(),
            after: Remembered::default(),
        }
    }
}

/// A decision, recorded.
#[derive(Debug)]
pub struct Decision {
    /// What was decided.
    pub events: Vec<Event>,
    /// The coordinator after it.
    pub to: u32,
}

/// A coordinator.
#[derive(Debug)]
pub struct CoordinatorEntry {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// What is wrong with it by itself.
    pub broken: Broken,
    /// By stage, the nodes that are in flight, failed or unknown to it.
    pub unavailable: [Nodes; 3],
    /// By stage, the nodes that are in flight or unknown to it.
    pub busy: [Nodes; 3],
    /// Nodes that are waived, by its log.
    pub waived: Nodes,
    /// Nodes that are or were waived, by its log.
    pub was_waived: Nodes,
    /// What becomes of it when a long time passes.
    pub later: OnceLock<u32>,
    /// Everything that it may decide.
    pub decisions: OnceLock<Vec<Decision>>,
    /// The orders that it may send, as of the first generation.
    pub orders: OnceLock<Vec<TaskOrder>>,
    /// Everything that operators may bring about.
    pub commanded: OnceLock<Vec<(Verb, u32)>>,
    /// What comes of a report: the coordinator afterwards, if anything is new, and whether it is acknowledged.
    pub told: Remembered<u32, (Option<u32>, bool)>,
    /// What becomes of it with a willing operator and all nodes there; itself if there is nothing to do.
    pub willing: OnceLock<u32>,
}

impl CoordinatorEntry {
    /// A coordinator, looked at once.
    #[must_use]
    pub fn new(coordinator: Coordinator) -> Self {
        Self {
            broken: coordinator.broken(),
            unavailable: in_state(&coordinator, true),
            busy: in_state(&coordinator, false),
            waived: nodes(&coordinator, |node| coordinator.reading().is_waived(node)),
            was_waived: nodes(&coordinator, |node| coordinator.reading().was_waived(node)),
            later: OnceLock::new(),
            coordinator,
            decisions: OnceLock::new(),
            orders: OnceLock::new(),
            commanded: OnceLock::new(),
            told: Remembered::default(),
            willing: OnceLock::new(),
        }
    }
}

fn nodes(coordinator: &Coordinator, which: impl Fn(&NodeId) -> bool) -> Nodes {
    let all = coordinator.rollout().plan().body.nodes.keys();
    all.filter(|node| which(node)).filter_map(node_number).fold(0, |nodes, number| nodes | 1 << number)
}

/// By stage, the nodes that are in flight or unknown, or failed if these are asked for too.
fn in_state(coordinator: &Coordinator, failed: bool) -> [Nodes; 3] {
    [Stage::Etcd, Stage::Compute, Stage::Control].map(|stage| {
        let task = |node: &NodeId| coordinator.rollout().task(stage, node).map(|task| task.progress);
        nodes(coordinator, |node| match task(node) {
            Some(TaskState::Preparing | TaskState::Applying | TaskState::Unknown) => true,
            Some(TaskState::Failed) => failed,
            Some(TaskState::Scheduled | TaskState::Finished | TaskState::Canceled | TaskState::Waived)
            | None => false,
        })
    })
}

/// What an input is to a node.
pub(crate) fn happens<'a>(
    input: Input,
    order: Option<&'a TaskOrder>,
    acknowledged: Option<&'a TaskKey>,
) -> Option<Happens<'a>> {
    Some(match input {
        Input::Welcome(generation) => Happens::Welcome(Generation(generation.into())),
        Input::Order(_) => Happens::Order(order?),
        Input::Work => Happens::Work,
        Input::Fails => Happens::Fails,
        Input::Crash => Happens::Crash,
        Input::Acknowledged(_) => Happens::Acknowledged(acknowledged?),
        Input::LosesJournal => Happens::LosesJournal,
    })
}
