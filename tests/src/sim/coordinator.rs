//! The coordinator's side: the production engine, turn by turn, on the production store on a disk in memory. It may be killed
//! between any two turns, or in the middle of one by its disk; what the disk has is all that stays.

use super::chance::Chance;
use super::check::{Invariant, Violation, must};
use super::disk::{Disk, Unsynced};
use super::network;
use super::world::{Event, World};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::oneshot;
use wavegate_common::id::{LeaderId, NodeId};
use wavegate_common::plan::Plan;
use wavegate_common::rollout::{Entry, Rollout, WaitingOn};
use wavegate_coordinator::clock::{Clock, Hands};
use wavegate_coordinator::engine::{About, Engine, Input, LoadError, Reply, RequestError, Timing, ToAgent};
use wavegate_coordinator::rpc::session::to_wire;
use wavegate_coordinator::store::{NodeRecord, Store, StoreError};

/// How often time passes for the engine.
const TICK_MS: u64 = 1000;
/// How long it takes until a coordinator that did not start is started again.
const START_AGAIN_MS: u64 = 2000;
/// A node that is away for so long is lost.
const LOST_AFTER_MS: u64 = 60_000;
/// Events read at once.
const ALL: usize = 1_000_000;

/// The coordinator's side.
pub struct Coordinator {
    /// Its disk.
    pub disk: Disk,
    /// The engine, while it runs.
    pub engine: Option<Engine>,
    /// Its store, while it runs.
    pub store: Option<Arc<Store>>,
    /// Which of the coordinators runs, or ran last.
    pub life: u64,
    /// How many ended otherwise than by themselves, also at their start.
    pub deaths: u64,
    /// By how much its clock is wrong.
    pub clock_wrong_by_ms: i64,
    /// Decisions about what a disk keeps.
    pub chance: Chance,
    /// A stop of the disk is that of the power, not of the process alone.
    pub stop_is_power_cut: bool,
    /// Its disk as it was a while ago, for whoever sets it back.
    pub earlier: Option<Disk>,
    /// What the last one had stored when it died.
    pub promised: Option<(Arc<Plan>, u64)>,
    hands: Arc<Hands>,
    founded: bool,
    /// Operations of its disk by which the fleet was set up.
    pub founded_with: u64,
}

impl Coordinator {
    /// One that was never started, on an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Disk::default(),
            engine: None,
            store: None,
            life: 0,
            deaths: 0,
            clock_wrong_by_ms: 0,
            chance: Chance::new(seed, "coordinator"),
            stop_is_power_cut: false,
            earlier: None,
            promised: None,
            hands: Arc::default(),
            founded: false,
            founded_with: 0,
        }
    }
}

/// The certificate that a node was given; what is in it is of no matter here.
pub fn fingerprint(node: &NodeId) -> String {
    format!("certificate of {node}")
}

impl World<'_> {
    /// Starts the coordinator on what its disk has; later again, if its disk does not let it.
    pub(super) fn start_coordinator(&mut self) -> Result<(), Violation> {
        if self.coordinator.engine.is_some() {
            return Ok(());
        }
        self.set_coordinator_clock();
        match self.loaded() {
            Ok((store, engine)) => {
                self.coordinator.life += 1;
                let (life, generation) =
                    (self.coordinator.life, store.generation().map(|g| g.0).unwrap_or_default());
                self.note(format_args!("coordinator {life} begins generation {generation}"));
                (self.coordinator.store, self.coordinator.engine) = (Some(store), Some(engine));
                if self.coordinator.disk.has_stopped() {
                    return self.coordinator_dies(self.coordinator.stop_is_power_cut);
                }
                self.read_log_anew()?;
                self.scheduler.after(TICK_MS, Event::Tick { life });
                self.turn(Input::Tick)
            }
            Err(LoadError::Store(error)) => {
                let text = error.to_string();
                self.note(format_args!("the coordinator does not start: {text}"));
                let passes = matches!(error, StoreError::Unusable { .. });
                must(Invariant::LogStays, passes, || format!("the store that is left is not taken: {text}"))?;
                if self.coordinator.disk.has_stopped() {
                    self.disk_survives(self.coordinator.stop_is_power_cut);
                }
                self.scheduler.after(START_AGAIN_MS, Event::CoordinatorStarts);
                Ok(())
            }
            // That this machine has no thread left is no fault of the simulated one, but ends the simulation all the same.
            Err(
                error @ (LoadError::Thread(_)
                | LoadError::NoPlan(_)
                | LoadError::Plan(_)
                | LoadError::Replay { .. }),
            ) => Err(Violation { invariant: Invariant::Replay, what: error.to_string() }),
        }
    }

    fn loaded(&mut self) -> Result<(Arc<Store>, Engine), LoadError> {
        if self.coordinator.founded {
            self.coordinator.disk.check()?;
        }
        let store = Arc::new(self.coordinator.disk.store(&self.site.fleet)?);
        if !self.coordinator.founded {
            let enrolled_at = self.clock(0);
            for node in &self.nodes {
                store.put_node(&NodeRecord {
                    node: node.name.clone(),
                    enrolled_at,
                    certificate_pem: String::new(),
                    fingerprint: fingerprint(&node.name),
                    public_key: String::new(),
                    facts: None,
                })?;
            }
            self.coordinator.founded = true;
            self.coordinator.founded_with = self.coordinator.disk.counts().operations();
        }
        let clock = Clock::by_hands(self.coordinator.hands.clone());
        let timing = Timing { heartbeat_interval_s: self.settings.heartbeat_s, lost_after_ms: LOST_AFTER_MS };
        let leader = LeaderId::new(self.coordinator.chance.within(0..=u64::MAX));
        let engine = Engine::load(store.clone(), self.site.authority.clone(), clock, timing, leader)?;
        Ok((store, engine))
    }

    pub(super) fn set_coordinator_clock(&self) {
        let now = self.clock(self.coordinator.clock_wrong_by_ms);
        self.coordinator.hands.wall.store(now.0, Ordering::SeqCst);
        self.coordinator.hands.elapsed.store(self.scheduler.now(), Ordering::SeqCst);
    }

    pub(super) fn tick(&mut self, life: u64) -> Result<(), Violation> {
        if self.coordinator.life != life || self.coordinator.engine.is_none() {
            return Ok(());
        }
        self.scheduler.after(TICK_MS, Event::Tick { life });
        self.turn(Input::Tick)
    }

    /// The engine takes an input, if it runs; what it says goes its way. If its disk stops it in the middle, nothing of what
    /// it said in this turn gets out.
    pub(super) fn turn(&mut self, input: Input) -> Result<(), Violation> {
        self.set_coordinator_clock();
        let Some(engine) = self.coordinator.engine.as_mut() else { return Ok(()) };
        engine.take(input);
        if self.coordinator.disk.has_stopped() {
            return self.coordinator_dies(self.coordinator.stop_is_power_cut);
        }
        self.read_log()?;
        self.send_what_was_said()
    }

    /// The engine answers a question or a request; `None` if it does not run, or stopped meanwhile.
    pub(super) fn asked<T>(
        &mut self,
        input: impl FnOnce(Reply<T>) -> Input,
    ) -> Result<Option<Result<T, RequestError>>, Violation> {
        let (reply, mut answer) = oneshot::channel();
        self.turn(input(reply))?;
        Ok(answer.try_recv().ok())
    }

    /// What the rollout waits for.
    pub(super) fn ask_why(&mut self) -> Result<Vec<WaitingOn>, Violation> {
        self.turn(Input::Look)?;
        let Coordinator { engine: Some(engine), store: Some(store), .. } = &self.coordinator else {
            return Ok(Vec::new());
        };
        Ok(engine.look().why(store, None, &About::default()).unwrap_or_default())
    }

    /// The same in words.
    pub(super) fn why(&mut self) -> String {
        let why = self.ask_why().unwrap_or_default();
        let lines: Vec<String> =
            why.iter().map(|waiting| format!("{} ({})", waiting.why, waiting.unblock)).collect();
        lines.join("; ")
    }

    /// The coordinator is gone at once; agents notice now or later.
    pub(super) fn coordinator_dies(&mut self, power: bool) -> Result<(), Violation> {
        let life = self.coordinator.life;
        self.note(format_args!("coordinator {life} dies{}", if power { " with its power" } else { "" }));
        let stored = self.coordinator.engine.as_ref().and_then(Engine::rollout);
        let stored = stored.map(|rollout| (rollout.plan().clone(), rollout.last_seq()));
        self.disk_survives(power);
        // What it still does to its old disk has no effect.
        (self.coordinator.engine, self.coordinator.store) = (None, None);
        self.coordinator.promised = stored;
        for connection in self.network.of_coordinator(life) {
            self.network.closed_by_coordinator(connection);
            let told = if power { self.network.chance.within(5000..=60_000) } else { self.network.latency() };
            self.scheduler.after(told, Event::Network(network::Event::Ends { connection, agents: true }));
        }
        let down = self.network.chance.within(200..=90_000);
        self.scheduler.after(down, Event::CoordinatorStarts);
        Ok(())
    }

    fn disk_survives(&mut self, power: bool) {
        let coordinator = &mut self.coordinator;
        let survivor = match (power, coordinator.chance.below(3)) {
            (false, _) => coordinator.disk.survivor(Unsynced::Kept),
            (true, 0) => coordinator.disk.survivor(Unsynced::Lost),
            (true, _) => coordinator.disk.survivor(Unsynced::Some(&mut coordinator.chance)),
        };
        coordinator.disk = survivor;
        coordinator.deaths += 1;
    }

    /// Reads what is new in the log. What is in memory is never ahead of it.
    fn read_log(&mut self) -> Result<(), Violation> {
        let Some(rollout) = self.coordinator.engine.as_ref().and_then(Engine::rollout) else { return Ok(()) };
        let (plan, last) = (rollout.plan().clone(), rollout.last_seq());
        let known = self.logs.of_plan(&plan).entries().len() as u64;
        if known == last {
            return Ok(());
        }
        let (id, now) = (rollout.id().clone(), self.scheduler.now());
        let Some(entries) = self.stored(&id, known) else { return Ok(()) };
        must(Invariant::LogStays, known + entries.len() as u64 == last, || {
            format!("{last} events are in memory, {} in the store", known + entries.len() as u64)
        })?;
        for entry in entries {
            self.trace.line(now, format_args!("log {} {}", entry.seq, short(&entry)));
            self.logs.of_plan(&plan).read(&entry, now)?;
        }
        Ok(())
    }

    /// After a start: everything that was stored before is there as it was, and at most what was being written came to it.
    fn read_log_anew(&mut self) -> Result<(), Violation> {
        let promised = self.coordinator.promised.take();
        let Some(rollout) = self.coordinator.engine.as_ref().and_then(Engine::rollout) else {
            return must(Invariant::LogStays, promised.is_none(), || "the rollout is gone".to_owned());
        };
        let (plan, last, id) = (rollout.plan().clone(), rollout.last_seq(), rollout.id().clone());
        if let Some((promised, upto)) = promised {
            must(Invariant::LogStays, promised.id != plan.id || last >= upto, || {
                format!("the log had {upto} events and has {last} after a restart")
            })?;
        }
        let Some(entries) = self.stored(&id, 0) else { return Ok(()) };
        let known = self.logs.of_plan(&plan).entries();
        let stays =
            entries.len() >= known.len() && known.iter().zip(&entries).all(|(one, other)| one == other);
        let before = known.len();
        must(Invariant::LogStays, stays, || format!("of {before} events not all are there after a restart"))?;
        self.read_log()
    }

    fn stored(&self, id: &wavegate_common::id::RolloutId, after: u64) -> Option<Vec<Entry>> {
        self.coordinator.store.as_ref()?.events(id, after, ALL).ok()
    }

    /// The log, replayed, is what the engine has in memory.
    pub(super) fn replays(&mut self) -> Result<(), Violation> {
        let Some(rollout) = self.coordinator.engine.as_ref().and_then(Engine::rollout) else { return Ok(()) };
        let mut replayed = Rollout::new(rollout.id().clone(), rollout.plan().clone());
        let Some(entries) = self.stored(rollout.id(), 0) else { return Ok(()) };
        for entry in &entries {
            let applied = replayed.apply(entry);
            must(Invariant::Replay, applied.is_ok(), || {
                format!("event {} does not replay: {applied:?}", entry.seq)
            })?;
        }
        must(Invariant::Replay, replayed == *rollout, || {
            "the log, replayed, is not what is in memory".to_owned()
        })
    }

    /// What the engine said goes its way, as the wire's bytes; where it ended a session, the agent will know.
    fn send_what_was_said(&mut self) -> Result<(), Violation> {
        for number in self.network.live.clone() {
            let (said, ended) = self.said_on(number);
            for message in said {
                if let ToAgent::Order(order) = &message {
                    let log = self.logs.of(&order.key.plan);
                    let known = must(Invariant::NothingNew, log.is_some(), || {
                        format!("{} is of no rollout", order.key)
                    });
                    known.and_then(|()| log.map_or(Ok(()), |log| log.sent(&order.key)))?;
                }
                match to_wire(message) {
                    Ok(message) => self.send(number, false, message.encode_to_vec()),
                    Err(error) => self.note(format_args!("not written: {error}")),
                }
            }
            if ended {
                self.network.closed_by_coordinator(number);
                let at = self.network.arrival(number, false, self.scheduler.now());
                self.scheduler
                    .at(at, Event::Network(network::Event::Ends { connection: number, agents: true }));
            }
        }
        Ok(())
    }

    fn said_on(&mut self, number: u64) -> (Vec<ToAgent>, bool) {
        let opened =
            self.network.connections.get_mut(&number).and_then(|connection| connection.opened.as_mut());
        let Some(opened) = opened else { return (Vec::new(), false) };
        let mut said = Vec::new();
        while let Ok(message) = opened.messages.try_recv() {
            said.push(*message);
        }
        let ended = matches!(opened.ended.try_recv(), Err(oneshot::error::TryRecvError::Closed))
            || matches!(opened.messages.try_recv(), Err(TryRecvError::Disconnected));
        (said, ended)
    }
}

fn short(entry: &Entry) -> String {
    let json = serde_json::to_string(&entry.event).unwrap_or_default();
    json.chars().take(160).collect()
}
