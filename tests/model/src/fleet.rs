//! A fleet: its nodes, coordinators, orders and reports by their numbers, and what production code answered about each. What is
//! asked of it once is remembered, since millions of worlds ask the same.

use crate::coordinator::{Coordinator, Verb};
use crate::entry::{CoordinatorEntry, Decision, Input, NodeEntry, happens};
use crate::invariant::Broken;
use crate::node::{Node, place};
use crate::shape::{ATTEMPTS, GENERATIONS, NODES, Shape, node_id, node_number};
use crate::table::{Identity, Table};
use crate::willing::Known;
use crate::world::World;
use std::sync::{Arc, OnceLock};
use wavegate_common::id::Generation;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::rollout::Report;

const ORDERS: usize = 3 * NODES * ATTEMPTS as usize * GENERATIONS as usize;

/// A fleet with all that is known of its nodes and coordinators.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) shape: Shape,
    plan: Arc<Plan>,
    pub(crate) nodes: Table<NodeEntry>,
    pub(crate) coordinators: Table<CoordinatorEntry>,
    pub(crate) reports: Table<Report>,
    pub(crate) orders: [OnceLock<TaskOrder>; ORDERS],
    possible: Vec<Vec<TaskOrder>>,
    pub(crate) first: World,
    pub(crate) known: Known,
    /// Whether two rollouts taken for the same are compared whole.
    compare: Option<Table<Identity>>,
}

impl Fleet {
    /// A fleet before its rollout is started.
    ///
    /// # Errors
    /// If its plan cannot be made.
    pub fn new(shape: Shape) -> anyhow::Result<Self> {
        let plan = shape.plan()?;
        let coordinator = Coordinator::new(plan.clone())?;
        let possible =
            (0..shape.nodes()).map(|node| possible_orders(&coordinator, node)).collect::<Result<_, _>>()?;
        let nothing =
            World { coordinator: 0, generation: 1, sent: 0, nodes: [0; NODES], broken: Broken::default() };
        let mut fleet = Self {
            shape,
            plan,
            nodes: Table::default(),
            coordinators: Table::default(),
            reports: Table::default(),
            orders: [const { OnceLock::new() }; ORDERS],
            possible,
            first: nothing,
            known: Known::default(),
            compare: None,
        };
        fleet.first.coordinator = fleet.coordinator_number(coordinator);
        for number in 0..fleet.shape.nodes() {
            fleet.first.nodes[number] = fleet.node_number(Node::new(number));
        }
        Ok(fleet)
    }

    /// The same fleet, which proves on the way that rollouts taken for the same differ in nothing but their place in the log.
    #[must_use]
    pub fn comparing(mut self) -> Self {
        self.compare = Some(Table::default());
        self
    }

    /// The plan that is executed.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(crate) fn coordinator_number(&self, coordinator: Coordinator) -> u32 {
        let identity = coordinator.identity();
        if let Some(wholes) = &self.compare {
            let whole = coordinator.whole();
            let known = wholes.get(wholes.number(identity, || whole));
            assert!(*known == whole, "a rollout is taken for another one: {:#?}", coordinator.rollout());
        }
        self.coordinators.number(identity, || CoordinatorEntry::new(coordinator))
    }

    fn node_number(&self, node: Node) -> u32 {
        let identity = node.identity();
        self.nodes.number(identity, || {
            let possible = &self.possible[node.number()];
            NodeEntry::new(node, possible)
        })
    }

    fn report_number(&self, report: Report) -> u32 {
        self.reports.number(Identity::of(&format!("{report:?}")), || report)
    }

    /// Everything that a coordinator may decide.
    pub(crate) fn decisions<'a>(&self, of: &'a CoordinatorEntry) -> &'a [Decision] {
        of.decisions.get_or_init(|| {
            let decisions = of.coordinator.decisions().into_iter();
            decisions.map(|(events, after)| Decision { events, to: self.coordinator_number(after) }).collect()
        })
    }

    /// The coordinator after a long time.
    pub(crate) fn later(&self, number: u32) -> u32 {
        let entry = self.coordinators.get(number);
        *entry.later.get_or_init(|| self.coordinator_number(entry.coordinator.later()))
    }

    pub(crate) fn commanded<'a>(&self, of: &'a CoordinatorEntry) -> &'a [(Verb, u32)] {
        of.commanded.get_or_init(|| {
            let explored = |verb: &Verb| match verb {
                Verb::Retry(stage, node) => {
                    let task = of.coordinator.rollout().task(*stage, node);
                    task.is_some_and(|task| task.attempt < self.shape.attempts)
                }
                Verb::Waive(_) => of.coordinator.rollout().waivers().len() < self.shape.waivers,
                _ => true,
            };
            let verbs = of.coordinator.verbs().into_iter().filter(explored);
            let done = |verb: Verb| {
                let after = of.coordinator.commanded(&verb, self.shape.mode)?;
                Some((verb, self.coordinator_number(after)))
            };
            verbs.filter_map(done).collect()
        })
    }

    pub(crate) fn orders<'a>(&self, of: &'a CoordinatorEntry) -> &'a [TaskOrder] {
        of.orders.get_or_init(|| of.coordinator.orders(Generation(1)))
    }

    /// What comes of a report: the coordinator afterwards, if anything is new, and whether it is acknowledged.
    pub(crate) fn told(&self, of: &CoordinatorEntry, report: u32) -> (Option<u32>, bool) {
        of.told.get(report, || {
            let answered = of.coordinator.told(&self.reports.get(report));
            (answered.after.map(|after| self.coordinator_number(after)), answered.acknowledged)
        })
    }

    /// What becomes of a node; `None` if nothing does.
    pub(crate) fn after(&self, node: &NodeEntry, input: Input) -> Option<u32> {
        node.after.get(input, || {
            let order = match input {
                Input::Order(place) => self.orders[usize::from(place)].get(),
                _ => None,
            };
            let report = match input {
                Input::Acknowledged(report) => Some(self.reports.get(report)),
                _ => None,
            };
            let happens = happens(input, order, report.as_deref().map(|report| &report.key))?;
            Some(self.node_number(node.node.after(happens)?))
        })
    }

    pub(crate) fn reports_of<'a>(&self, node: &'a NodeEntry) -> &'a [u32] {
        node.reports.get_or_init(|| {
            let mut numbers: Vec<u32> =
                node.node.reports().into_iter().map(|report| self.report_number(report)).collect();
            numbers.dedup();
            numbers
        })
    }

    /// What an agent says at the begin of a session, by numbers.
    pub(crate) fn says<'a>(&self, node: &'a NodeEntry) -> &'a [u32] {
        node.says.get_or_init(|| {
            node.node.unacknowledged().into_iter().map(|report| self.report_number(report)).collect()
        })
    }

    /// The place of an order among all, which is also where it is kept.
    pub(crate) fn order_place(&self, order: &TaskOrder, generation: u8) -> Option<u8> {
        let node = node_number(&order.key.node)?;
        let attempt = order.key.attempt.checked_sub(1).filter(|attempt| *attempt < ATTEMPTS)? as usize;
        let task = (place(order.key.stage) * NODES + node) * ATTEMPTS as usize + attempt;
        let at = task * GENERATIONS as usize + usize::from(generation) - 1;
        self.orders[at].get_or_init(|| {
            let mut order = order.clone();
            order.generation = Generation(generation.into());
            order
        });
        u8::try_from(at).ok()
    }
}

/// The orders that the plan could ever have for a node, of the first attempt.
fn possible_orders(coordinator: &Coordinator, number: usize) -> anyhow::Result<Vec<TaskOrder>> {
    let (rollout, node) = (coordinator.rollout(), node_id(number)?);
    let order = |stage: &StagePlan| {
        let key = TaskKey {
            rollout: rollout.id().clone(),
            plan: rollout.plan().id.clone(),
            stage: stage.stage,
            node: node.clone(),
            attempt: 1,
        };
        let planned = rollout.plan().body.nodes.get(&node).cloned();
        Some(TaskOrder { key, generation: Generation(1), planned, steps: stage.tasks.get(&node)?.clone() })
    };
    Ok(rollout.plan().body.stages.iter().filter_map(order).collect())
}
