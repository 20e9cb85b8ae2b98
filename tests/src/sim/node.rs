//! A node: its machine and the medium of its journal, which outlive its agents, and the production agent on them: what decides
//! (`Core`) and what works (`Doing`), piece by piece. The agent may be killed between any two pieces, in the middle of what an
//! action does to the machine, or at an operation of its journal's medium; the machine may lose its power there.

use super::check::ending::Suffered;
use super::check::{Invariant, Violation, must};
use super::fleet::Kind;
use super::network;
use super::session::ADDRESS;
use super::world::{Event, World, unscathed};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use wavegate_agent::agent::{Beginning, Core, Effect, Event as AgentEvent, OBSERVE_EVERY};
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{AgentKilled, FakeHost, Faults, has_effect};
use wavegate_agent::journal::medium::fake::{FakeMedium, Unsynced};
use wavegate_agent::journal::{JournalFile, OpenError, SharedJournal, Store};
use wavegate_agent::link::Backoff;
use wavegate_agent::os::Os;
use wavegate_agent::output::Output;
use wavegate_agent::worker::{Doing, Job, Pace, Told, Tools};
use wavegate_common::action::Action;
use wavegate_common::id::{Generation, NodeId};
use wavegate_common::journal::Journal;
use wavegate_common::order::{PlannedStep, TaskKey, Work};

const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the service manager takes to start an agent that has ended.
const STARTED_AGAIN_MS: u64 = 2000;

/// A node.
pub struct Node {
    /// Its name.
    pub name: NodeId,
    /// Its kind.
    pub kind: Kind,
    /// Its machine.
    pub host: Arc<FakeHost>,
    /// What is under its journal.
    pub medium: FakeMedium,
    /// Which of its agents runs, or ran last.
    pub life: u64,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// The agent's connection, while it has one.
    pub connection: Option<u64>,
    /// By how much its clock is wrong.
    pub clock_wrong_by_ms: i64,
    /// A fault that waits for the machine to come to it.
    pub armed: Option<Armed>,
    /// A stop of the medium is that of the power, not of the agent alone.
    pub stop_is_power_cut: bool,
    /// What happened to the machine.
    pub suffered: Suffered,
    /// The first task that it took.
    pub first_task: Option<TaskKey>,
    /// Whether it comes up from a power cut.
    pub boots: bool,
}

/// A fault that waits for a machine to come to it.
#[derive(Debug, Clone)]
pub enum Armed {
    /// The agent is killed there, or the machine loses its power.
    Kill {
        /// The machine's power.
        power: bool,
    },
    /// This program fails.
    Failure {
        /// Its command line.
        line: String,
    },
}

/// An agent that runs.
pub struct Agent {
    /// What decides.
    pub core: Core,
    /// The number of the session that it opened last.
    pub session: u64,
    tools: Tools,
    jobs: VecDeque<Job>,
    doing: Option<Doing>,
    told: Vec<Told>,
    at_work: bool,
    heartbeat_ms: u64,
}

impl Node {
    /// A new machine of a kind.
    #[must_use]
    pub fn new(name: NodeId, kind: Kind) -> Self {
        let machine = kind.machine();
        let suffered = unscathed(&machine);
        Self {
            name,
            kind,
            host: Arc::new(FakeHost::new(machine)),
            medium: FakeMedium::default(),
            life: 0,
            agent: None,
            connection: None,
            clock_wrong_by_ms: 0,
            armed: None,
            stop_is_power_cut: false,
            suffered,
            first_task: None,
            boots: false,
        }
    }

    fn read<R>(&self, look: impl FnOnce(&Journal) -> R) -> Option<R> {
        self.agent.as_ref().map(|agent| agent.tools.journal.read(look))
    }

    /// The highest generation that its journal has seen, while its agent runs.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.read(Journal::generation)
    }

    /// Whether the coordinator has the end of everything that its journal has as ended.
    #[must_use]
    pub fn all_is_acknowledged(&self) -> bool {
        let all =
            |journal: &Journal| journal.ended().iter().chain(journal.current()).all(|task| task.acknowledged);
        self.read(all).unwrap_or_default()
    }

    fn open_task(&self) -> Option<TaskKey> {
        let open = |journal: &Journal| {
            journal.current().filter(|task| task.result.is_none()).map(|task| task.order.key.clone())
        };
        self.read(open).flatten()
    }

    /// Whether it is in a step that stops etcd for what it does.
    fn is_around_etcd(&self) -> bool {
        let around = |step: &PlannedStep| {
            let Work::Run { action, .. } = &step.work else { return false };
            matches!(action, Action::EtcdInstallPackages(_) | Action::EtcdInstallArchive(_))
        };
        let here = |journal: &Journal| {
            let task = journal.current()?;
            let started = task.started.as_ref()?;
            Some(task.order.steps.iter().any(|step| step.id == *started && around(step)))
        };
        self.read(here).flatten().unwrap_or_default()
    }

    /// Its agent is gone, perhaps in the middle of a task.
    fn is_interrupted(&mut self) {
        let first = self.first_task.clone();
        self.suffered.interrupted.extend(self.open_task().filter(|key| first.as_ref() != Some(key)));
    }

    /// Whether every task of its journal has ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.read(|journal| journal.current().is_none_or(|task| task.result.is_some())).unwrap_or_default()
    }

    /// How many tasks its journal has.
    #[must_use]
    pub fn tasks(&self) -> u64 {
        self.read(|journal| journal.ended().len() + journal.current().iter().len()).unwrap_or_default() as u64
    }

    /// The journal, record by record.
    #[must_use]
    pub fn medium_text(&self) -> String {
        let records = self.read(|journal| format!("{journal:?}"));
        records.unwrap_or_default()
    }
}

impl World<'_> {
    fn set_node_clock(&self, index: usize) {
        let node = &self.nodes[index];
        node.host.machine().now = self.clock(node.clock_wrong_by_ms);
    }

    /// Starts a node's agent on what is left of the one before it.
    pub(super) fn start_agent(&mut self, index: usize) -> Result<(), Violation> {
        if self.nodes[index].agent.is_some() {
            return Ok(());
        }
        let node = &mut self.nodes[index];
        if std::mem::take(&mut node.boots) {
            node.host.machine().reboot();
        }
        node.life += 1;
        self.set_node_clock(index);
        let medium = Box::new(self.nodes[index].medium.clone());
        match killable(|| JournalFile::open_on(medium)) {
            None => self.agent_dies(index, self.nodes[index].stop_is_power_cut),
            Some(Ok((file, _))) => self.agent_begins(index, SharedJournal::new(file)),
            Some(Err(error)) => {
                let damaged = matches!(error, OpenError::Damaged { .. } | OpenError::Newer { .. });
                must(Invariant::Journal, !damaged, || format!("{}: {error}", self.nodes[index].name))?;
                self.scheduler.after(STARTED_AGAIN_MS, Event::AgentStarts { node: index });
                Ok(())
            }
        }
    }

    fn agent_begins(&mut self, index: usize, journal: SharedJournal) -> Result<(), Violation> {
        let seed = self.network.chance.within(0..=u64::MAX);
        let node = &mut self.nodes[index];
        let (host, output) = (node.host.clone(), Arc::new(Output::default()));
        let Ok(coordinator) = ADDRESS.parse() else { return Ok(()) };
        let mut core = Core::new(Beginning {
            fleet: self.site.fleet.clone(),
            node: node.name.clone(),
            coordinator,
            host: host.clone(),
            journal: journal.clone(),
            output: output.clone(),
            backoff: Backoff::new(RECONNECT.0, RECONNECT.1, seed),
        });
        let effects = core.begin();
        let os = Os { platform: host.machine().platform.clone() };
        let tools = Tools {
            host,
            os,
            policy: self.site.policy.clone(),
            node: node.name.clone(),
            extra_roles: [].into(),
            etcd: EtcdSettings::default(),
            journal,
            output,
        };
        let (jobs, told) = (VecDeque::new(), Vec::new());
        node.agent =
            Some(Agent { core, session: 0, tools, jobs, doing: None, told, at_work: false, heartbeat_ms: 0 });
        let (name, life) = (node.name.clone(), node.life);
        self.note(format_args!("{name} has agent {life}"));
        let every = u64::try_from(OBSERVE_EVERY.as_millis()).unwrap_or(u64::MAX);
        self.scheduler.after(every, Event::Observe { node: index, life });
        self.look_at_journal(index)?;
        self.carry_out(index, effects);
        Ok(())
    }

    pub(super) fn observe(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.nodes[index].life != life || self.nodes[index].agent.is_none() {
            return Ok(());
        }
        let every = u64::try_from(OBSERVE_EVERY.as_millis()).unwrap_or(u64::MAX);
        self.scheduler.after(every, Event::Observe { node: index, life });
        self.tell_agent(index, AgentEvent::ObserveDue)
    }

    pub(super) fn heartbeat(&mut self, index: usize, life: u64, session: u64) -> Result<(), Violation> {
        let node = &self.nodes[index];
        let Some(agent) = node.agent.as_ref().filter(|agent| node.life == life && agent.session == session)
        else {
            return Ok(());
        };
        self.scheduler.after(agent.heartbeat_ms, Event::Heartbeat { node: index, life, session });
        self.tell_agent(index, AgentEvent::HeartbeatDue)
    }

    /// Something happens to an agent; what it wants is done, and what it says goes its way.
    pub(super) fn tell_agent(&mut self, index: usize, event: AgentEvent) -> Result<(), Violation> {
        self.set_node_clock(index);
        let Some(agent) = self.nodes[index].agent.as_mut() else { return Ok(()) };
        match killable(|| agent.core.take(event)) {
            None => self.agent_dies(index, self.nodes[index].stop_is_power_cut),
            Some(Ok(effects)) => {
                self.look_at_journal(index)?;
                self.carry_out(index, effects);
                self.pump(index)
            }
            Some(Err(error)) => {
                self.note(format_args!("{}: {error}", self.nodes[index].name.clone()));
                self.agent_dies(index, false)
            }
        }
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial { session, after } => {
                    self.hang_up(index, false);
                    let life = self.nodes[index].life;
                    if let Some(agent) = &mut self.nodes[index].agent {
                        agent.session = session;
                    }
                    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    let dial = network::Event::Dial { node: index, life, session };
                    self.scheduler.after(after.max(1), Event::Network(dial));
                }
                Effect::Heartbeat { every } => {
                    let life = self.nodes[index].life;
                    let Some(agent) = &mut self.nodes[index].agent else { continue };
                    agent.heartbeat_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
                    let (session, every) = (agent.session, agent.heartbeat_ms);
                    self.scheduler.after(every, Event::Heartbeat { node: index, life, session });
                }
                Effect::Work(job) => self.give_work(index, job),
                Effect::Status(_) => {}
            }
        }
    }

    fn give_work(&mut self, index: usize, job: Job) {
        let life = self.nodes[index].life;
        let Some(agent) = &mut self.nodes[index].agent else { return };
        agent.jobs.push_back(job);
        if !std::mem::replace(&mut agent.at_work, true) {
            self.scheduler.after(1, Event::Works { node: index, life });
        }
    }

    /// The worker's last piece is done, and it goes on with the next.
    pub(super) fn work(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.nodes[index].life != life {
            return Ok(());
        }
        let told = self.nodes[index].agent.as_mut().map(|agent| std::mem::take(&mut agent.told));
        for told in told.unwrap_or_default() {
            self.tell_agent(index, AgentEvent::Worker(told))?;
        }
        if self.nodes[index].life != life {
            return Ok(());
        }
        let Some(agent) = self.nodes[index].agent.as_mut() else { return Ok(()) };
        if agent.doing.is_none() {
            agent.doing = agent.jobs.pop_front().map(Doing::new);
        }
        if agent.doing.is_none() {
            agent.at_work = false;
            // Steps may have printed something.
            return self.pump(index);
        }
        self.next_piece(index)
    }

    fn next_piece(&mut self, index: usize) -> Result<(), Violation> {
        self.set_node_clock(index);
        let node = &mut self.nodes[index];
        let Some(agent) = node.agent.as_mut() else { return Ok(()) };
        let Some(doing) = agent.doing.as_mut() else { return Ok(()) };
        let (began, before) = {
            let machine = node.host.machine();
            (machine.now, machine.history.len())
        };
        let key = agent.tools.journal.read(|journal| journal.current().map(|task| task.order.key.clone()));
        let mut told = Vec::new();
        let ran = killable(|| {
            doing.go_on(&agent.tools, &mut |what| {
                told.push(what);
                true
            })
        });
        agent.told = told;
        if ran != Some(Pace::GoesOn) {
            agent.doing = None;
        }
        let took = node.host.machine().now.millis_since(began);
        self.look_at_machine(index, key.as_ref(), before)?;
        match ran {
            Some(Pace::GoesOn | Pace::Done) => {
                let life = self.nodes[index].life;
                self.scheduler.after(took.max(1), Event::Works { node: index, life });
                self.look_at_journal(index)?;
                self.pump(index)
            }
            Some(Pace::Ended) => self.agent_dies(index, false),
            None => {
                let power = match self.nodes[index].armed.take() {
                    Some(Armed::Kill { power }) => power,
                    other => {
                        self.nodes[index].armed = other;
                        self.nodes[index].stop_is_power_cut
                    }
                };
                self.agent_dies(index, power)
            }
        }
    }

    /// What a machine was made to do by a piece of work, which is of this task if it is of any.
    fn look_at_machine(
        &mut self,
        index: usize,
        key: Option<&TaskKey>,
        before: usize,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        let lines: Vec<String> =
            node.host.machine().history[before..].iter().filter(|line| has_effect(line)).cloned().collect();
        let fired = node.armed.is_some() && node.host.machine().faults.all_fired();
        if fired && let Some(Armed::Failure { line }) = node.armed.clone() {
            node.armed = None;
            node.suffered.failed_around_etcd += u64::from(node.is_around_etcd());
            *node.suffered.failed.entry(line).or_default() += 1;
        }
        self.nobody_was_stopped_beside(index)?;
        for line in lines {
            self.note(format_args!("{} does {line}", self.nodes[index].name.clone()));
            match key {
                Some(key) => self.hosts.effect(key, &line, &self.logs)?,
                None => must(Invariant::EffectOnce, false, || format!("'{line}' was done without any task"))?,
            }
        }
        Ok(())
    }

    /// I3 by the machines' own history: no member of a cluster is stopped while another one of it is down.
    fn nobody_was_stopped_beside(&self, index: usize) -> Result<(), Violation> {
        let machine = self.nodes[index].host.machine();
        let Some(seat) = &machine.etcd else { return Ok(()) };
        let cluster = seat.cluster();
        let Some(stop) = cluster.stops.iter().find(|stop| !stop.beside.is_empty()) else { return Ok(()) };
        must(Invariant::OneMember, false, || {
            format!("{} was stopped while {} was down", stop.member, stop.beside.join(", "))
        })
    }

    pub(super) fn look_at_journal(&mut self, index: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if node.first_task.is_none() {
            node.first_task = node.open_task();
        }
        let Some(agent) = &node.agent else { return Ok(()) };
        let (hosts, logs) = (&mut self.hosts, &self.logs);
        agent.tools.journal.read(|journal| hosts.journal(&node.name, journal, logs))
    }

    /// A node's agent is gone at once, and perhaps its machine's power.
    pub(super) fn agent_dies(&mut self, index: usize, power: bool) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        node.is_interrupted();
        let (name, life) = (node.name.clone(), node.life);
        // Whatever is still under way for it finds nobody.
        node.life += 1;
        let medium = if power {
            let left = Unsynced::ALL[self.network.chance.below(Unsynced::ALL.len())];
            node.medium.after_power_cut(left)
        } else {
            node.medium.after_kill()
        };
        node.agent = None;
        node.medium = medium;
        if power {
            node.suffered.power_cuts += 1;
            node.boots = true;
            node.host.machine().lose_power();
        }
        if matches!(node.armed, Some(Armed::Kill { .. })) {
            node.armed = None;
            node.host.machine().faults = Faults::default();
        }
        self.note(format_args!(
            "{name}: agent {life} dies{}",
            if power { " with its machine's power" } else { "" }
        ));
        self.hang_up(index, power);
        let down = if power { self.network.chance.within(20_000..=180_000) } else { STARTED_AGAIN_MS };
        self.scheduler.after(down, Event::AgentStarts { node: index });
        Ok(())
    }
}

/// Runs something in which a fault may kill the agent; `None` if one did.
fn killable<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<AgentKilled>() => None,
        Err(payload) => resume_unwind(payload),
    }
}
