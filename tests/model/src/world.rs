//! The world as the checker sees it: coordinator, nodes and what is on its way between them, and everything that can happen.
//!
//! The network keeps every order that was ever sent, and every report that could ever have been made: each may arrive at any
//! time, any number of times, in any order, or never. So delay, loss, repetition and reordering are all there without a
//! message ever being taken out. A coordinator that was replaced and goes on sending is there too: its orders are sent before
//! the restart and arrive after it. What it would record is refused by the store, which is not modelled here.

use crate::coordinator::{Coordinator, Verb};
use crate::entry::{CoordinatorEntry, Decision, Input, NodeEntry, happens};
use crate::invariant::{Broken, Invariant};
use crate::node::{Node, effect, place};
use crate::shape::{ATTEMPTS, GENERATIONS, NODES, Shape, StageShape, node_id, node_number};
use crate::table::{Identity, Table};
use crate::willing::Known;
use stateright::{Model, Property};
use std::sync::{Arc, OnceLock};
use wavegate_common::id::Generation;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Report};

const ORDERS: usize = 3 * NODES * ATTEMPTS as usize * GENERATIONS as usize;

/// One state of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    /// The coordinator, by its number.
    pub coordinator: u32,
    /// Its generation.
    pub generation: u8,
    /// Orders that were sent: a bit each.
    pub sent: u128,
    /// The nodes, by their numbers.
    pub nodes: [u32; NODES],
    /// What was seen broken on the way here; nothing follows then.
    pub broken: Broken,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The coordinator decides and records it.
    Decide(u16),
    /// An operator asks for something, and it is recorded.
    Command(u16),
    /// An order is sent.
    Send(u8),
    /// A long time passes.
    Later,
    /// The coordinator is killed and started again.
    Restart,
    /// Something happens to a node, which is another one then.
    Node {
        /// Its number in the fleet.
        node: u8,
        /// What happens.
        input: Input,
        /// Its number afterwards.
        to: u32,
    },
    /// A report arrives, and what is new in it is recorded.
    Report {
        /// The report.
        report: u32,
        /// The coordinator afterwards.
        to: u32,
    },
}

/// A fleet with all that is known of its nodes and coordinators.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) shape: Shape,
    plan: Arc<Plan>,
    pub(crate) nodes: Table<NodeEntry>,
    pub(crate) coordinators: Table<CoordinatorEntry>,
    pub(crate) reports: Table<Report>,
    orders: [OnceLock<TaskOrder>; ORDERS],
    possible: Vec<Vec<TaskOrder>>,
    first: World,
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
    fn decisions<'a>(&self, of: &'a CoordinatorEntry) -> &'a [Decision] {
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

    fn commanded<'a>(&self, of: &'a CoordinatorEntry) -> &'a [(Verb, u32)] {
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

    fn with_coordinator(&self, world: World, number: u32) -> World {
        self.checked(World { coordinator: number, ..world })
    }

    fn with_node(&self, world: World, node: usize, number: u32) -> World {
        let mut nodes = world.nodes;
        nodes[node] = number;
        self.checked(World { nodes, ..world })
    }

    /// What is broken in a world: by its parts, and by what only the whole can tell.
    fn checked(&self, mut world: World) -> World {
        let coordinator = self.coordinators.get(world.coordinator);
        let mut broken = world.broken.and(coordinator.broken);
        let mut unavailable = coordinator.unavailable;
        let finished = coordinator.coordinator.finished();
        for number in 0..self.shape.nodes() {
            let node = self.nodes.get(world.nodes[number]);
            broken = broken.and(node.broken);
            if let Some(stage) = node.at_work {
                unavailable[stage] |= 1 << number;
            }
            let waived = coordinator.waived & (1 << number) != 0;
            broken.unless(!finished || waived || self.all_done(&node, number, 3), Invariant::I4);
        }
        for (stage, shape) in self.shape.stages.iter().enumerate() {
            let counted = (unavailable[stage] & !coordinator.was_waived).count_ones();
            broken.unless(counted <= shape.limits.max_unavailable, Invariant::I2);
            broken.unless(stage > 0 || unavailable[stage].count_ones() <= 1, Invariant::I3);
        }
        world.broken = broken;
        world
    }

    /// Whether every step of the first so many stages has taken effect on a node.
    fn all_done(&self, node: &NodeEntry, number: usize, stages: usize) -> bool {
        let planned = Stage::ALL.iter().zip(&self.shape.stages).take(stages);
        let mut steps = planned
            .filter(|(_, shape)| shape.nodes().any(|node| node == number))
            .flat_map(|(stage, _)| (0..self.shape.steps).map(move |step| effect(*stage, step)));
        steps.all(|bit| node.node.effects() & bit != 0)
    }

    fn decide(&self, world: World, which: u16) -> World {
        let entry = self.coordinators.get(world.coordinator);
        let decision = &self.decisions(&entry)[usize::from(which)];
        let mut after = self.with_coordinator(world, decision.to);
        for event in &decision.events {
            if let Event::TaskStarted { task } = event {
                after.broken = after.broken.and(self.given_out(&after, place(task.stage)));
            }
        }
        after
    }

    /// What is broken in a world in which a task of a stage has just been given out. Waived nodes do not count, but one
    /// whose waiver has ended does.
    fn given_out(&self, world: &World, stage: usize) -> Broken {
        let (mut broken, entry) = (Broken::default(), self.coordinators.get(world.coordinator));
        let (mut unavailable, mut busy) = (entry.unavailable[stage], entry.busy[stage]);
        for number in 0..self.shape.nodes() {
            let node = self.nodes.get(world.nodes[number]);
            let waived = entry.waived & (1 << number) != 0;
            broken.unless(waived || self.all_done(&node, number, stage), Invariant::I1);
            if node.at_work == Some(stage) {
                unavailable |= 1 << number;
                busy |= 1 << number;
            }
        }
        let StageShape { limits, grouped, .. } = &self.shape.stages[stage];
        let counted = (unavailable & !entry.waived).count_ones();
        broken.unless(counted <= limits.max_unavailable, Invariant::I2);
        // Each node is a group of its own.
        broken.unless(!grouped || (busy & !entry.waived).count_ones() <= 1, Invariant::I2);
        broken
    }

    fn send(&self, mut world: World, at: u8) -> World {
        let entry = self.coordinators.get(world.coordinator);
        world.sent |= 1 << at;
        if let Some(TaskKey { stage, node, attempt, .. }) =
            self.orders[usize::from(at)].get().map(|order| &order.key)
            && let Some(number) = node_number(node)
        {
            let had = self.nodes.get(world.nodes[number]).node.has_had(*stage, *attempt);
            world.broken.unless(had || !entry.coordinator.reading().holds(), Invariant::I5);
        }
        world
    }

    fn on_node(&self, world: &World, number: usize, actions: &mut Vec<Action>) {
        let entry = self.nodes.get(world.nodes[number]);
        let mut inputs = vec![Input::Welcome(world.generation), Input::Work, Input::Fails, Input::Crash];
        if self.shape.loses_journals {
            inputs.push(Input::LosesJournal);
        }
        let of_stage = |stage: usize| {
            let first = (stage * NODES + number) * (ATTEMPTS as usize * GENERATIONS as usize);
            first..first + ATTEMPTS as usize * GENERATIONS as usize
        };
        let sent = (0..3).flat_map(of_stage).filter(|at| world.sent & (1 << at) != 0);
        inputs.extend(sent.filter_map(|at| Some(Input::Order(u8::try_from(at).ok()?))));
        let node = u8::try_from(number).unwrap_or(u8::MAX);
        let act = |input| self.after(&entry, input).map(|to| Action::Node { node, input, to });
        actions.extend(inputs.into_iter().filter_map(act));
        let coordinator = self.coordinators.get(world.coordinator);
        for report in self.reports_of(&entry) {
            let (to, acknowledged) = self.told(&coordinator, *report);
            actions.extend(to.map(|to| Action::Report { report: *report, to }));
            if acknowledged && to.is_none() && self.shape.acknowledges {
                actions.extend(act(Input::Acknowledged(*report)));
            }
        }
    }

    /// What happens, in words.
    #[must_use]
    pub fn words(&self, world: &World, action: &Action) -> String {
        let coordinator = self.coordinators.get(world.coordinator);
        match action {
            Action::Decide(which) => {
                format!(
                    "the coordinator records {:?}",
                    self.decisions(&coordinator)[usize::from(*which)].events
                )
            }
            Action::Command(which) => {
                format!("an operator asks for {:?}", self.commanded(&coordinator)[usize::from(*which)].0)
            }
            Action::Send(at) => format!("the coordinator sends {}", self.order_words(*at)),
            Action::Later => "a long time passes".to_owned(),
            Action::Restart => format!("the coordinator restarts with generation {}", world.generation + 1),
            Action::Node { node, input: Input::Order(at), .. } => {
                format!("n{node} gets {}", self.order_words(*at))
            }
            Action::Node { node, input, .. } => format!("n{node}: {input:?}"),
            Action::Report { report, .. } => {
                let report = self.reports.get(*report);
                format!(
                    "a report arrives: {}, {} step(s), {:?}",
                    report.key,
                    report.steps.len(),
                    report.result
                )
            }
        }
    }

    fn order_words(&self, at: u8) -> String {
        let order = self.orders[usize::from(at)].get();
        order.map_or_else(String::new, |order| {
            format!("order {} of generation {}", order.key, order.generation)
        })
    }

    /// The plan that is executed.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}

/// The orders that the plan could ever have for a node, of the first attempt.
fn possible_orders(coordinator: &Coordinator, number: usize) -> anyhow::Result<Vec<TaskOrder>> {
    let (rollout, node) = (coordinator.rollout(), node_id(number)?);
    let order = |stage: &wavegate_common::plan::StagePlan| {
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

impl Model for Fleet {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.checked(self.first)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if !world.broken.is_empty() {
            return;
        }
        let entry = self.coordinators.get(world.coordinator);
        let count = |many: usize| 0..u16::try_from(many).unwrap_or(u16::MAX);
        actions.extend(count(self.decisions(&entry).len()).map(Action::Decide));
        actions.extend(count(self.commanded(&entry).len()).map(Action::Command));
        let places = self.orders(&entry).iter().filter_map(|order| self.order_place(order, world.generation));
        actions.extend(places.filter(|at| world.sent & (1 << at) == 0).map(Action::Send));
        if self.shape.time && self.later(world.coordinator) != world.coordinator {
            actions.push(Action::Later);
        }
        if u64::from(world.generation) < self.shape.generations {
            actions.push(Action::Restart);
        }
        for number in 0..self.shape.nodes() {
            self.on_node(world, number, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(match action {
            Action::Decide(which) => self.decide(*world, which),
            Action::Command(which) => {
                let entry = self.coordinators.get(world.coordinator);
                self.with_coordinator(*world, self.commanded(&entry)[usize::from(which)].1)
            }
            Action::Send(at) => self.send(*world, at),
            Action::Later => self.with_coordinator(*world, self.later(world.coordinator)),
            Action::Restart => World { generation: world.generation + 1, ..*world },
            Action::Node { node, to, .. } => self.with_node(*world, node.into(), to),
            Action::Report { to, .. } => self.with_coordinator(*world, to),
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(Invariant::I9.text(), |fleet: &Self, world: &World| fleet.can_end(world)),
            Property::sometimes("a rollout finishes", |fleet: &Self, world: &World| {
                fleet.coordinators.get(world.coordinator).coordinator.finished()
            }),
        ];
        macro_rules! unbroken {
            ($($invariant:ident)*) => {
                $(properties.push(Property::always(Invariant::$invariant.text(), |_, world: &World| {
                    !world.broken.has(Invariant::$invariant)
                }));)*
            };
        }
        unbroken!(I1 I2 I3 I4 I5 I6 I7 I8 Waves Legal Replay);
        properties
    }
}
