//! The world: what happens next, and that everything that must hold is looked at as it happens.

use super::chance::Chance;
use super::check::ending::{Suffered, like_in_a_calm};
use super::check::hosts::Hosts;
use super::check::log::Logs;
use super::check::{Invariant, Violation, must};
use super::coordinator::Coordinator;
use super::faults::Faults;
use super::fleet::{self, Kind};
use super::looks::Looks;
use super::network::{self, Network};
use super::node::Node;
use super::operators::Operators;
use super::report::Figures;
use super::scheduler::Scheduler;
use super::settings::Settings;
use super::site::Site;
use super::trace::Trace;
use anyhow::Result;
use wavegate_agent::host::fake::join;
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::rollout::Event as LogEvent;

/// The moment at which every simulation begins, by a clock that is right.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// Whoever is willing has so long after the last fault to bring everything to its end: two days.
const PATIENCE_MS: u64 = 48 * 3_600_000;
/// So long after the end everything has been said that there was to say.
const LAST_WORDS_MS: u64 = 15 * 60_000;
/// How often all is looked at.
const LOOK_EVERY_MS: u64 = 20_000;

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// On the network.
    Network(network::Event),
    /// A second has passed for a coordinator.
    Tick {
        /// Which of the coordinators.
        life: u64,
    },
    /// The coordinator is started.
    CoordinatorStarts,
    /// An agent's worker goes on.
    Works {
        /// The node.
        node: usize,
        /// Which of its agents.
        life: u64,
    },
    /// An agent's sign of life is due.
    Heartbeat {
        /// The node.
        node: usize,
        /// Which of its agents.
        life: u64,
        /// In which of its sessions.
        session: u64,
    },
    /// An agent's observation is due.
    Observe {
        /// The node.
        node: usize,
        /// Which of its agents.
        life: u64,
    },
    /// A node's agent is started.
    AgentStarts {
        /// The node.
        node: usize,
    },
    /// Operators look at how things are.
    Operators,
    /// Something goes wrong.
    Fault,
    /// Nothing goes wrong any more, and what is broken is mended.
    Calm,
    /// Something that was wrong for a while is over.
    Over(super::faults::Passing),
    /// Everything that must hold is looked at.
    Look,
    /// All has been said.
    Enough,
}

/// A simulation that came to a bad end.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed} ({nodes} nodes), {}.{:03} s: {violation}\n{last}it is replayed, to the last byte, by: {}",
    at_ms / 1000, at_ms % 1000, self.command())]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The nodes, as they were asked for.
    pub nodes: usize,
    /// When, in the simulation's time.
    pub at_ms: u64,
    /// What.
    pub violation: Violation,
    /// What happened last.
    pub last: String,
}

impl Failure {
    fn command(&self) -> String {
        format!(
            "cargo run --package wavegate-tests --bin sim -- --seed {} --nodes {} --trace",
            self.seed, self.nodes
        )
    }
}

/// A simulation that came to a good end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it did.
    pub figures: Figures,
    /// SHA-256 over everything that happened: every message, journal, history and log.
    pub digest: String,
}

/// Simulates what these settings say.
///
/// # Errors
/// [`Failure`] if something that must hold does not; anything else if the simulation itself can't be set up.
pub fn run(site: &Site, settings: &Settings) -> Result<Outcome> {
    let mut chance = Chance::new(settings.seed, "fleet");
    let members = fleet::members(&mut chance, settings.nodes);
    let mut world = World::new(site, settings.clone(), members)?;
    world.go()?;
    world.figures.seeds = 1;
    Ok(Outcome { digest: world.digest(), figures: world.figures })
}

/// Everything that there is.
pub struct World<'a> {
    /// What simulations share.
    pub site: &'a Site,
    /// What this one is like.
    pub settings: Settings,
    /// What is due when.
    pub scheduler: Scheduler<Event>,
    /// The coordinator's side.
    pub coordinator: Coordinator,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What lies between.
    pub network: Network,
    /// What goes wrong.
    pub faults: Faults,
    /// Those who look after it.
    pub operators: Operators,
    /// What was seen on hosts.
    pub hosts: Hosts,
    /// What was read in logs.
    pub logs: Logs,
    /// Figures.
    pub figures: Figures,
    /// What happened.
    pub trace: Trace,
    /// When everything was brought to its end.
    pub ended_at: Option<u64>,
    /// Whether what is planted was done.
    pub grown: bool,
    over: bool,
}

impl<'a> World<'a> {
    /// A fleet of these members, everything switched off yet.
    ///
    /// # Errors
    /// If a name is none.
    pub fn new(site: &'a Site, settings: Settings, members: Vec<(String, Kind)>) -> Result<Self> {
        let seed = settings.seed;
        let mut nodes = Vec::new();
        for (name, kind) in members {
            nodes.push(Node::new(NodeId::new(name)?, kind));
        }
        let mut machines: Vec<_> =
            nodes.iter().map(|node| (node.name.as_str(), node.host.machine())).collect();
        join(machines.iter_mut().map(|(name, machine)| (*name, &mut **machine)));
        drop(machines);
        let figures = Figures { nodes: nodes.len() as u64, ..Figures::default() };
        Ok(Self {
            site,
            scheduler: Scheduler::new(),
            coordinator: Coordinator::new(seed),
            nodes,
            network: Network::new(seed),
            faults: Faults::new(seed),
            operators: Operators::new(seed),
            hosts: Hosts::default(),
            logs: Logs::default(),
            figures,
            trace: Trace::new(settings.aloud),
            ended_at: None,
            grown: false,
            over: false,
            settings,
        })
    }

    /// Lets everything happen, to the end.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn go(&mut self) -> Result<(), Failure> {
        let done = self.begin().and_then(|()| self.until_over()).and_then(|()| self.at_the_end());
        done.map_err(|violation| Failure {
            seed: self.settings.seed,
            nodes: self.settings.nodes,
            at_ms: self.scheduler.now(),
            violation,
            last: self.trace.last(),
        })
    }

    fn begin(&mut self) -> Result<(), Violation> {
        self.scheduler.after(0, Event::CoordinatorStarts);
        for node in 0..self.nodes.len() {
            self.scheduler.after(10 + node as u64, Event::AgentStarts { node });
        }
        self.scheduler.after(5000, Event::Operators);
        self.scheduler.after(LOOK_EVERY_MS, Event::Look);
        if self.settings.faults_at_once {
            self.faults_begin();
        }
        Ok(())
    }

    fn until_over(&mut self) -> Result<(), Violation> {
        while !self.over {
            let Some(event) = self.scheduler.advance() else { break };
            self.figures.turns += 1;
            self.happen(event)?;
            let since = self.faults.calm_since.unwrap_or_else(|| self.scheduler.now());
            must(
                Invariant::Ends,
                self.scheduler.now() - since <= PATIENCE_MS || self.ended_at.is_some(),
                || format!("two days after the last fault the end is not reached: {}", self.why()),
            )?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Network(event) => self.on_network(event),
            Event::Tick { life } => self.tick(life),
            Event::CoordinatorStarts => self.start_coordinator(),
            Event::Works { node, life } => self.work(node, life),
            Event::Heartbeat { node, life, session } => self.heartbeat(node, life, session),
            Event::Observe { node, life } => self.observe(node, life),
            Event::AgentStarts { node } => self.start_agent(node),
            Event::Operators => self.operate(),
            Event::Fault => self.fault(),
            Event::Calm => {
                self.calm();
                Ok(())
            }
            Event::Over(passing) => {
                self.passed(passing);
                Ok(())
            }
            Event::Look => self.look(),
            Event::Enough => {
                self.over = true;
                Ok(())
            }
        }
    }

    /// Something happened, for the trace.
    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.scheduler.now();
        self.trace.line(now, what);
    }

    /// The time by a clock that is wrong by so much.
    #[must_use]
    pub fn clock(&self, wrong_by_ms: i64) -> Timestamp {
        Timestamp((EPOCH_MS + self.scheduler.now()).saturating_add_signed(wrong_by_ms))
    }

    /// Everything was brought to its end; what is still to be said may be said.
    pub fn reached_the_end(&mut self) {
        if self.ended_at.is_none() {
            self.calm();
            self.ended_at = Some(self.scheduler.now());
            // What could not be written down when it was acknowledged is told once more in the next session.
            self.cut_every_session();
            self.scheduler.after(LAST_WORDS_MS, Event::Enough);
        }
    }

    fn look(&mut self) -> Result<(), Violation> {
        self.scheduler.after(LOOK_EVERY_MS, Event::Look);
        let Some(engine) = &self.coordinator.engine else { return Ok(()) };
        let Some(rollout) = engine.rollout() else { return Ok(()) };
        let Some(log) = self.logs.of(&rollout.plan().id) else { return Ok(()) };
        for stage in &rollout.plan().body.stages {
            log.counted(stage.stage, rollout.counts(stage.stage))?;
        }
        let ended = rollout.ended();
        let why = self.ask_why()?;
        must(Invariant::SaysWhy, why.is_empty() == ended, || {
            format!("ended is {ended}, and it waits for {why:?}")
        })
    }

    fn at_the_end(&mut self) -> Result<(), Violation> {
        self.replays()?;
        let mut tasks = 0;
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let text = node.medium_text();
            let history = node.host.machine().history.join("\n");
            let looks = Looks::of(&node.host.machine());
            if let Some(calm) = self.site.calm(&node.kind) {
                like_in_a_calm(node.name.as_str(), &looks, calm, &node.suffered)?;
            }
            must(Invariant::Journal, node.all_is_acknowledged(), || {
                format!("{} goes on reporting what ended", node.name)
            })?;
            tasks += node.tasks();
            self.trace.bytes(text.as_bytes());
            self.trace.bytes(history.as_bytes());
        }
        self.figures.tasks = tasks;
        self.figures.events = self.logs.events() as u64;
        self.figures.messages = self.network.messages;
        self.figures.virtual_ms = self.scheduler.now();
        let counts = self.coordinator.disk.counts();
        (self.figures.writes, self.figures.syncs) = (counts.writes, counts.syncs);
        for entries in self.logs.all() {
            let ended = |event: &LogEvent| entries.iter().any(|entry| entry.event == *event);
            let how = if ended(&LogEvent::Finished) { "finished" } else { "stopped" };
            *self.figures.ended.entry(how).or_default() += 1;
        }
        let log = serde_json::to_vec(&self.logs.all()).unwrap_or_default();
        self.trace.bytes(&log);
        Ok(())
    }

    /// SHA-256 of everything that happened.
    #[must_use]
    pub fn digest(&self) -> String {
        self.trace.digest()
    }
}

/// What a machine's looks in the end may show, when it is new.
#[must_use]
pub fn unscathed(machine: &wavegate_agent::host::fake::FakeMachine) -> Suffered {
    Suffered { bystanders: Looks::of(machine).bystanders, ..Suffered::default() }
}
