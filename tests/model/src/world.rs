//! The world as the checker sees it: coordinator, nodes and what is on its way between them, and everything that can happen.
//!
//! The network keeps every order that was ever sent, and every report that could ever have been made: each may arrive at any
//! time, any number of times, in any order, or never. So delay, loss, repetition and reordering are all there without a
//! message ever being taken out. A coordinator that was replaced and goes on sending is there too: its orders are sent before
//! the restart and arrive after it. What it would record is refused by the store, which is not modelled here.

use crate::entry::Input;
use crate::fleet::Fleet;
use crate::invariant::{Broken, Invariant};
use crate::node::place;
use crate::shape::{ATTEMPTS, GENERATIONS, NODES, node_number};
use stateright::{Model, Property};
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::Event;

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

impl Fleet {
    fn with_coordinator(&self, world: World, number: u32) -> World {
        self.checked(World { coordinator: number, ..world })
    }

    fn with_node(&self, world: World, node: usize, number: u32) -> World {
        let mut nodes = world.nodes;
        nodes[node] = number;
        self.checked(World { nodes, ..world })
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
        let mut properties =
            vec![Property::always(Invariant::I9.text(), |fleet: &Self, world: &World| fleet.can_end(world))];
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
