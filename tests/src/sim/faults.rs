//! What goes wrong, and when: decided by the seed, counted by kind, and over when it is over.

use super::chance::Chance;
use super::check::Violation;
use super::disk::{Stop, When};
use super::network;
use super::node::Armed;
use super::world::{Event, World};
use wavegate_agent::host::fake::{Fault, Faults as MachineFaults, When as EffectWhen};
use wavegate_agent::journal::medium::fake::{Operation, When as RecordWhen};

/// Faults.
pub struct Faults {
    chance: Chance,
    begun: bool,
    /// Since when nothing goes wrong any more.
    pub calm_since: Option<u64>,
}

impl Faults {
    /// Before the first.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed, "faults"), begun: false, calm_since: None }
    }
}

/// Something that is wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// The coordinator's disk has no room.
    StoreFull,
    /// A node's disk has no room.
    JournalFull(usize),
    /// Many messages are very late.
    Slow,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    CutSession,
    Partition,
    Slow,
    EchoUp,
    EchoDown,
    ForgedOrder,
    KillCoordinator,
    PowerCutCoordinator,
    StopInStore,
    StoreFull,
    StoreError,
    KillAgent,
    PowerCutNode,
    KillAtEffect,
    KillAtRecord,
    JournalFull,
    JournalError,
    CoordinatorClock,
    NodeClock,
    ProgramFails,
}

const ALWAYS: &[(u64, What)] = &[
    (8, What::CutSession),
    (4, What::Partition),
    (3, What::Slow),
    (6, What::EchoUp),
    (6, What::EchoDown),
    (4, What::ForgedOrder),
    (3, What::KillCoordinator),
    (2, What::PowerCutCoordinator),
    (4, What::KillAgent),
    (2, What::PowerCutNode),
    (10, What::KillAtEffect),
    (6, What::KillAtRecord),
    (2, What::JournalFull),
    (2, What::JournalError),
    (1, What::CoordinatorClock),
    (1, What::NodeClock),
    (4, What::ProgramFails),
];
const OF_STORE: &[(u64, What)] = &[(8, What::StopInStore), (2, What::StoreFull), (3, What::StoreError)];

impl World<'_> {
    /// Things begin to go wrong, if they are to and have not.
    pub(super) fn faults_begin(&mut self) {
        if std::mem::replace(&mut self.faults.begun, true) {
            return;
        }
        match self.settings.fault_every_ms {
            Some(_) => {
                self.scheduler.after(1, Event::Fault);
                self.scheduler.after(self.settings.faults_for_ms, Event::Calm);
            }
            None => self.faults.calm_since = Some(self.scheduler.now()),
        }
    }

    /// Nothing goes wrong any more, and what is broken is mended.
    pub(super) fn calm(&mut self) {
        if self.faults.calm_since.is_some() {
            return;
        }
        self.note(format_args!("calm"));
        self.faults.calm_since = Some(self.scheduler.now());
        self.coordinator.disk.set_full(false);
        self.coordinator.disk.stop_at(None);
        self.network.late_one_in = 0;
        for node in &mut self.nodes {
            node.armed = None;
            node.host.machine().faults = MachineFaults::default();
            node.medium.set_room(None);
            node.medium.stop_at(usize::MAX, RecordWhen::Before);
        }
    }

    pub(super) fn passed(&mut self, passing: Passing) {
        match passing {
            Passing::StoreFull => self.coordinator.disk.set_full(false),
            Passing::JournalFull(node) => self.nodes[node].medium.set_room(None),
            Passing::Slow => self.network.late_one_in = 0,
        }
    }

    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        let Some(every) = self.settings.fault_every_ms.filter(|_| self.faults.calm_since.is_none()) else {
            return Ok(());
        };
        let next = self.faults.chance.interval(every);
        self.scheduler.after(next, Event::Fault);
        let mut all = ALWAYS.to_vec();
        if self.settings.store_faults {
            all.extend_from_slice(OF_STORE);
        }
        let node = self.faults.chance.below(self.nodes.len());
        let what = self.faults.chance.weighed(&all);
        if let Some(name) = self.goes_wrong(what, node)? {
            self.figures.fault(name);
            self.note(format_args!("fault: {name}, at {}", self.nodes[node].name.clone()));
        }
        Ok(())
    }

    /// What went wrong, in words; `None` if it could not just now.
    fn goes_wrong(&mut self, what: What, node: usize) -> Result<Option<&'static str>, Violation> {
        Ok(match what {
            What::CutSession => self.cut_session(node),
            What::Partition => self.partition(),
            What::Slow => self.slow(),
            What::EchoUp => self.echo(node, true),
            What::EchoDown => self.echo(node, false),
            What::ForgedOrder => self.forged_order(node),
            What::KillCoordinator | What::PowerCutCoordinator => {
                if self.coordinator.engine.is_none() {
                    return Ok(None);
                }
                let power = what == What::PowerCutCoordinator;
                self.coordinator_dies(power)?;
                Some(if power { "power cuts of the coordinator" } else { "kills of the coordinator" })
            }
            What::StopInStore => self.stop_in_store(),
            What::StoreFull => {
                self.coordinator.disk.set_full(true);
                let after = self.faults.chance.within(500..=60_000);
                self.scheduler.after(after, Event::Over(Passing::StoreFull));
                Some("full disks of the coordinator")
            }
            What::StoreError => {
                let after = self.faults.chance.within(0..=12);
                self.coordinator.disk.fail_after(after);
                Some("errors of the coordinator's disk")
            }
            What::KillAgent | What::PowerCutNode => {
                if self.nodes[node].agent.is_none() {
                    return Ok(None);
                }
                let power = what == What::PowerCutNode;
                self.agent_dies(node, power)?;
                Some(if power { "power cuts of nodes" } else { "kills of agents" })
            }
            What::KillAtEffect => self.kill_at_effect(node),
            What::KillAtRecord => self.kill_at_record(node),
            What::JournalFull => {
                let room = self.faults.chance.below(600);
                self.nodes[node].medium.set_room(Some(room));
                let after = self.faults.chance.within(500..=60_000);
                self.scheduler.after(after, Event::Over(Passing::JournalFull(node)));
                Some("full disks of nodes")
            }
            What::JournalError => {
                let operation =
                    if self.faults.chance.one_in(2) { Operation::Append } else { Operation::Sync };
                self.nodes[node].medium.fail_next(operation);
                Some("errors of nodes' disks")
            }
            What::CoordinatorClock => {
                self.coordinator.clock_wrong_by_ms += self.jump();
                Some("jumps of the coordinator's clock")
            }
            What::NodeClock => {
                self.nodes[node].clock_wrong_by_ms += self.jump();
                Some("jumps of nodes' clocks")
            }
            What::ProgramFails => self.program_fails(node),
        })
    }

    /// Seconds to minutes, forth or back.
    fn jump(&mut self) -> i64 {
        let most = if self.faults.chance.one_in(3) { 600_000 } else { 5000 };
        let by = i64::try_from(self.faults.chance.within(1..=most)).unwrap_or_default();
        if self.faults.chance.one_in(2) { by } else { -by }
    }

    /// Every session that there is ends soon, at both ends.
    pub(super) fn cut_every_session(&mut self) {
        for number in self.nodes.iter().filter_map(|node| node.connection).collect::<Vec<_>>() {
            let Some(connection) = self.network.connections.get_mut(&number) else { continue };
            connection.cut = true;
            for agents in [true, false] {
                let ends = network::Event::Ends { connection: number, agents };
                self.scheduler.after(1000, Event::Network(ends));
            }
        }
    }

    /// What is under way is lost, both ways; each end notices in its own time, or at once.
    fn cut_session(&mut self, node: usize) -> Option<&'static str> {
        let number = self.nodes[node].connection?;
        self.network.connections.get_mut(&number)?.cut = true;
        let one_sided = self.faults.chance.one_in(2);
        for agents in [true, false] {
            let late = one_sided && self.faults.chance.one_in(2);
            let after = self.faults.chance.within(if late { 20_000..=90_000 } else { 1..=3000 });
            self.scheduler.after(after, Event::Network(network::Event::Ends { connection: number, agents }));
        }
        Some(if one_sided { "sessions cut at one end first" } else { "sessions cut" })
    }

    /// Some nodes are out of reach for a while; connections that wait too long end, for each end in its own time.
    fn partition(&mut self) -> Option<&'static str> {
        let now = self.scheduler.now();
        let until = now + self.faults.chance.within(2000..=150_000);
        let share = self.faults.chance.within(2..=6);
        for node in 0..self.nodes.len() {
            if !self.faults.chance.one_in(share) {
                continue;
            }
            let later = self.network.unreachable.get(&node).copied().unwrap_or_default().max(until);
            self.network.unreachable.insert(node, later);
            let Some(number) = self.nodes[node].connection else { continue };
            let patience =
                [self.faults.chance.within(15_000..=40_000), self.faults.chance.within(15_000..=40_000)];
            if patience.iter().any(|patience| now + patience < until)
                && let Some(connection) = self.network.connections.get_mut(&number)
            {
                connection.cut = true;
                for (patience, agents) in patience.into_iter().zip([true, false]) {
                    let ends = network::Event::Ends { connection: number, agents };
                    self.scheduler.after(patience, Event::Network(ends));
                }
            }
        }
        Some("partitions")
    }

    fn slow(&mut self) -> Option<&'static str> {
        self.network.late_one_in = self.faults.chance.within(3..=60);
        let after = self.faults.chance.within(5000..=60_000);
        self.scheduler.after(after, Event::Over(Passing::Slow));
        Some("slow networks")
    }

    /// Something that arrived before arrives again, in the session of now.
    fn echo(&mut self, node: usize, upward: bool) -> Option<&'static str> {
        let connection = self.nodes[node].connection?;
        let bytes = self.network.echo(node, upward)?;
        let after = self.network.latency();
        let echo = network::Event::Arrives { connection, upward, bytes, genuine: false };
        self.scheduler.after(after, Event::Network(echo));
        Some(if upward { "messages of agents said again" } else { "messages to agents said again" })
    }

    /// The disk stops the coordinator before, in or after an operation that is to come.
    fn stop_in_store(&mut self) -> Option<&'static str> {
        self.coordinator.engine.as_ref()?;
        let operation = self.coordinator.disk.counts().operations() + self.faults.chance.within(0..=60);
        let when = *self.faults.chance.pick(&[When::Before, When::Torn, When::After])?;
        self.coordinator.stop_is_power_cut = self.faults.chance.one_in(2);
        self.coordinator.disk.stop_at(Some(Stop { operation, when }));
        Some("stops of the coordinator in its store")
    }

    /// The agent is killed, or the machine loses its power, before, in or after something that it will do.
    fn kill_at_effect(&mut self, node: usize) -> Option<&'static str> {
        let line = self.line_to_come(node)?;
        let when = *self.faults.chance.pick(&[EffectWhen::Before, EffectWhen::Midway, EffectWhen::After])?;
        let power = self.faults.chance.one_in(3);
        let fault = if power { Fault::PowerCut } else { Fault::AgentKilled };
        let node = &mut self.nodes[node];
        node.host.machine().faults.add(&line, when, fault);
        node.armed = Some(Armed::Kill { power });
        Some(if power { "power cuts at an action" } else { "kills at an action" })
    }

    fn program_fails(&mut self, node: usize) -> Option<&'static str> {
        let line = self.line_to_come(node)?;
        if ["kill", "replace", "rename", "remove"].iter().any(|word| line.starts_with(word)) {
            return None;
        }
        let node = &mut self.nodes[node];
        node.host.machine().faults.fail(&line, 100, "it is broken today");
        node.armed = Some(Armed::Failure { line });
        Some("failing programs")
    }

    /// Something that a machine of this kind does in a calm, if no other fault waits for it.
    fn line_to_come(&mut self, node: usize) -> Option<String> {
        if self.nodes[node].armed.is_some() {
            return None;
        }
        let calm = self.site.calm(&self.nodes[node].kind)?;
        let lines: Vec<&String> = calm.effects.keys().collect();
        self.faults.chance.pick(&lines).map(|line| (*line).clone())
    }

    /// The agent is killed, or the machine loses its power, at an operation of its journal that is to come.
    fn kill_at_record(&mut self, node: usize) -> Option<&'static str> {
        self.nodes[node].agent.as_ref()?;
        let operation = self.nodes[node].medium.operations().len() + self.faults.chance.below(24);
        let when = *self.faults.chance.pick(&[RecordWhen::Before, RecordWhen::Torn, RecordWhen::After])?;
        self.nodes[node].medium.stop_at(operation, when);
        self.nodes[node].stop_is_power_cut = self.faults.chance.one_in(2);
        Some("kills at a record")
    }
}
