//! The engine: the coordinator's one loop over one closed set of inputs, on a thread of its own.
//!
//! Receive, find the events it amounts to, check that they are legal, append them to the store, apply them, decide what
//! comes next, and only then send. Nothing is sent that is not stored, and what is in memory is never ahead of the store.
//! Time is the `Clock`'s; connections and wire types are `rpc`'s.

mod agents;
mod approval;
mod ask;
mod commands;
mod enrolment;
mod error;
mod input;
mod inventory;
mod links;
mod look;
mod planning;
mod port;
mod reasons;
mod record;
mod refusals;
mod removal;
mod start;
mod superseded;
mod waiver;
mod waves;
mod words;

pub use error::{RequestError, told};
pub use input::{
    Answer, Command, Connected, CreatedToken, Done, Enrol, Enrolled, FromAgent, Input, InventoryText,
    MakePlan, PlanUpdate, Reply, ToAgent, TokenWish,
};
pub use links::Session;
pub use look::Look;
pub use port::Port;
pub use reasons::About;

use crate::clock::Clock;
use crate::pki::Authority;
use crate::skew::Skew;
use crate::store::{AuditRecord, InventoryRecord, KnownNode, RolloutRecord, Store, StoreError};
use crate::watchdog::Watchdog;
use links::Links;
use look::Audience;
use planning::Planning;
use reasons::Logged;
use refusals::Refusals;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use superseded::Superseded;
use tokio::sync::{mpsc, watch};
use wavegate_common::id::{Generation, LeaderId, NodeId, StepId, Timestamp};
use wavegate_common::order::TaskKey;
use wavegate_common::plan::PlanError;
use wavegate_common::rollout::{IllegalEvent, Observed, Report, Rollout};

/// Silence of so many heartbeat intervals takes a node offline.
const SILENT_INTERVALS: u64 = 3;
/// An order that was not confirmed is sent again after so long: the node was busy, or the order got lost.
const SEND_AGAIN_MS: u64 = 10_000;
/// Characters kept of what somebody who is refused says.
const TEXT_KEPT: usize = 500;
/// Events read at once.
const EVENTS_AT_ONCE: usize = 10_000;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Seconds between an agent's heartbeats.
    pub heartbeat_interval_s: u32,
    /// After so many milliseconds offline, a node with a task in flight is lost.
    pub lost_after_ms: u64,
}

/// Why the engine can't begin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store can't be read, or the generation can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rollout's plan is gone.
    #[error("the plan of rollout {} ({}) is not in the store; restore the store from a backup", .0.id, .0.plan)]
    NoPlan(Box<RolloutRecord>),
    /// A rollout's plan is not usable.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The log does not replay.
    #[error(
        "the log of rollout {rollout} cannot be replayed: event {seq} does not follow from those before it; \
         run the version that wrote it, or restore the store from a backup"
    )]
    Replay {
        /// The rollout.
        rollout: String,
        /// The event's place.
        seq: u64,
        /// Why not.
        source: Box<IllegalEvent>,
    },
}

/// Something that is wrong with an agent, for `why`; forgotten when it reports or connects anew.
#[derive(Clone)]
struct Complaint {
    what: String,
    since: Timestamp,
}

/// A node whose agent was refused for its version, until one that is not comes.
#[derive(Clone)]
struct NotTaken {
    skew: Skew,
    since: Timestamp,
}

/// The store can't be written; tried again with every input.
#[derive(Clone)]
struct Trouble {
    what: String,
    since: Timestamp,
}

/// The engine.
pub struct Engine {
    store: Arc<Store>,
    authority: Arc<Authority>,
    clock: Clock,
    /// The time at which this turn began, and by which it decides: the moments of the links have been moved up to it.
    looked_at: Timestamp,
    timing: Timing,
    /// Whether somebody else than a plan's author must approve it before it is started.
    approvals: bool,
    generation: Generation,
    leader_id: LeaderId,
    /// Another coordinator works with our nodes: no order is given until this one is started again.
    superseded: Option<Superseded>,
    nodes: BTreeMap<NodeId, Arc<KnownNode>>,
    inventory: Option<Arc<InventoryRecord>>,
    links: Links,
    /// The newest rollout.
    rollout: Option<Rollout>,
    /// What agents last said they work on.
    steps: BTreeMap<NodeId, StepId>,
    complaints: BTreeMap<NodeId, Complaint>,
    not_taken: BTreeMap<NodeId, NotTaken>,
    /// Nodes whose task can't go on, as they say.
    stand_still: BTreeMap<NodeId, Complaint>,
    /// When an order was last sent to a node.
    ordered: BTreeMap<NodeId, (TaskKey, Timestamp)>,
    /// Reports that could not be stored.
    unstored: BTreeMap<NodeId, Report>,
    planning: Option<Planning>,
    next_preview: u64,
    refusals: Refusals,
    logged: Logged,
    trouble: Option<Trouble>,
    /// A write failed, and perhaps came about all the same: look at the store before the next one.
    unsure: bool,
    unflushed_output: bool,
    changes: watch::Sender<u64>,
    output: watch::Sender<u64>,
    audience: Audience,
    watchdog: Option<Watchdog>,
}

impl Engine {
    /// Loads what the store has and begins a generation, as `leader_id`, which is this start's own. Every node is offline
    /// until it connects.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(
        store: Arc<Store>,
        authority: Arc<Authority>,
        clock: Clock,
        timing: Timing,
        leader_id: LeaderId,
    ) -> Result<Self, LoadError> {
        let rollout = newest_rollout(&store)?;
        if let Some(rollout) = &rollout {
            clock.not_before(last_event(&store, rollout)?);
        }
        let generation = store.begin_generation(leader_id)?;
        let nodes = store.nodes()?.into_iter().map(|known| (known.node.clone(), Arc::new(known)));
        let nodes: BTreeMap<NodeId, Arc<KnownNode>> = nodes.collect();
        let inventory = store.inventory()?.map(Arc::new);
        let superseded = store.superseded()?.map(Superseded::from);
        let links = Links::new(nodes.keys().cloned(), clock.now());
        if let Some(rollout) = &rollout {
            let (status, _) = rollout.status();
            tracing::info!(rollout = %rollout.id(), %status, last_seq = rollout.last_seq(), "loaded");
        }
        tracing::info!(%generation, leader = %leader_id, nodes = nodes.len(), fleet = %authority.fleet(), "the coordinator begins");
        Ok(Self {
            store,
            authority,
            looked_at: clock.now(),
            clock,
            timing,
            approvals: false,
            generation,
            leader_id,
            superseded,
            nodes,
            inventory,
            links,
            rollout,
            steps: BTreeMap::new(),
            complaints: BTreeMap::new(),
            not_taken: BTreeMap::new(),
            stand_still: BTreeMap::new(),
            ordered: BTreeMap::new(),
            unstored: BTreeMap::new(),
            planning: None,
            next_preview: 1,
            refusals: Refusals::default(),
            logged: Logged::default(),
            trouble: None,
            unsure: false,
            unflushed_output: false,
            changes: watch::Sender::new(0),
            output: watch::Sender::new(0),
            audience: Audience::default(),
            watchdog: None,
        })
    }

    /// Asks, or does not ask, that somebody else than a plan's author approves it before it is started.
    #[must_use]
    pub fn asking_for_approvals(mut self, approvals: bool) -> Self {
        self.approvals = approvals;
        self
    }

    /// Gives signs of life from [`Engine::run`], after every turn.
    #[must_use]
    pub fn watched_by(mut self, watchdog: Option<Watchdog>) -> Self {
        self.watchdog = watchdog;
        self
    }

    /// The others' end, and the queue for [`Engine::run`].
    #[must_use]
    pub fn port(&self) -> (Port, mpsc::Receiver<Input>) {
        let (send, receive) = mpsc::channel(1024);
        let port = Port::new(
            send,
            self.approvals,
            self.store.clone(),
            self.clock.clone(),
            self.changes.subscribe(),
            self.output.subscribe(),
            self.audience.0.clone(),
        );
        (port, receive)
    }

    /// Runs until [`Input::Shutdown`], or until nobody is left who could ask for anything. When `killed` is set, it ends
    /// at once and leaves everything as it is, as a crash would.
    pub fn run(mut self, mut inputs: mpsc::Receiver<Input>, killed: &AtomicBool) {
        self.take(Input::Tick);
        self.alive();
        while let Some(input) = inputs.blocking_recv() {
            if killed.load(Ordering::SeqCst) {
                return;
            }
            if matches!(input, Input::Shutdown) {
                break;
            }
            self.take(input);
            self.alive();
        }
        self.end();
    }

    fn alive(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.alive(Instant::now());
        }
    }

    /// One turn of the loop: takes one input and does all that follows from it, as [`Engine::run`] does for each that it
    /// receives. Whoever drives the engine by turns, in a time of their own, begins with an [`Input::Tick`].
    pub fn take(&mut self, input: Input) {
        self.looked_at = self.clock.now();
        self.links.follow(self.looked_at, self.clock.elapsed_ms());
        self.become_sure();
        self.show();
        match input {
            Input::Connected(connected) => self.connected(*connected),
            Input::Said { node, session, message } => self.said(&node, session, *message),
            Input::Gone { node, session } => {
                if self.links.is_current(&node, session) {
                    tracing::info!(%node, "offline");
                    self.offline(&node);
                }
            }
            Input::Enrol(enrol, reply) => drop(reply.send(self.enrol(&enrol))),
            Input::Command { by, command, reply } => {
                let answer = self.command(&by, &command);
                self.settle();
                drop(reply.send(answer));
            }
            Input::CreateToken { by, wish, reply } => drop(reply.send(self.create_token(&by, wish))),
            Input::RevokeToken { by, id, reply } => drop(reply.send(self.revoke_token(&by, &id))),
            Input::RemoveNode { by, node, force, reply } => {
                drop(reply.send(self.remove_node(&by, &node, force)));
            }
            Input::SetInventory { by, inventory, reply } => {
                drop(reply.send(self.set_inventory(&by, inventory)));
            }
            Input::Approve { by, plan, reply } => drop(reply.send(self.approve(&by, &plan))),
            Input::MakePlan(request) => self.make_plan(*request),
            Input::Refused { who, what } => self.refused(who, what),
            Input::Tick => self.tick(),
            Input::Look | Input::Shutdown => {}
        }
        self.show();
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let silence = u64::from(self.timing.heartbeat_interval_s) * 1000 * SILENT_INTERVALS;
        for node in self.links.close_silent(silence, now, self.clock.elapsed_ms()) {
            tracing::warn!(%node, "offline: nothing was heard of it for {silence} ms");
            self.after_offline(&node);
        }
        self.store_reports();
        self.send_orders_again();
        self.planning_tick();
        if let Some(record) = self.refusals.due(now) {
            self.audit_record(&record);
        }
        if self.unflushed_output || self.trouble.is_some() {
            match self.store.flush() {
                Ok(()) => self.written(),
                Err(error) => self.note_trouble(&error),
            }
        }
        self.settle();
        self.log_reasons();
    }

    fn end(mut self) {
        if self.unflushed_output
            && let Err(error) = self.store.flush()
        {
            tracing::error!(error = told(&error), "the last output of steps could not be stored");
        }
        if let Some(planning) = self.planning.take() {
            planning.give_up(RequestError::Ending);
        }
        tracing::info!("the coordinator ends; a rollout goes on when it is started again");
    }

    /// A node's session has ended, for whatever reason.
    fn offline(&mut self, node: &NodeId) {
        self.links.close(node, self.clock.now());
        self.after_offline(node);
    }

    fn after_offline(&mut self, node: &NodeId) {
        self.steps.remove(node);
        self.stand_still.remove(node);
        self.ordered.remove(node);
        self.planning_lost(node);
        self.changed();
        self.settle();
    }

    /// Somebody was refused, or said what can't be true. Their texts are theirs, so they are cut.
    fn refused(&mut self, who: String, mut what: String) {
        cut(&mut what);
        tracing::warn!(who, what, "refused");
        let now = self.clock.now();
        if let Some(record) = self.refusals.note(who, what, now) {
            self.audit_record(&record);
        }
    }

    fn audit(&mut self, who: &str, what: &str, result: &str) {
        tracing::info!(who, what, result, "a command had no effect");
        let record = self.audit_of(who, what, result);
        self.audit_record(&record);
    }

    fn audit_of(&self, who: &str, what: &str, result: &str) -> AuditRecord {
        let at = self.clock.now();
        AuditRecord { at, who: who.to_owned(), what: what.to_owned(), result: result.to_owned() }
    }

    /// What is already refused or without effect is not held up by an audit list that can't be written; the log has it.
    fn audit_record(&mut self, record: &AuditRecord) {
        if let Err(error) = self.store.audit(record) {
            self.note_trouble(&error);
        }
    }

    /// The newest rollout, as it is in memory.
    #[must_use]
    pub const fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    fn observed(&self) -> Observed<'_> {
        Observed { now: self.looked_at, links: self.links.all(), lost_after_ms: self.timing.lost_after_ms }
    }

    /// Wakes those who watch.
    fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

/// Keeps what is worth keeping of a text that is somebody else's.
fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_KEPT) {
        text.truncate(end);
    }
}

/// The newest rollout, replayed from its log.
fn newest_rollout(store: &Store) -> Result<Option<Rollout>, LoadError> {
    let Some(record) = store.rollout(None)? else { return Ok(None) };
    replay(store, record).map(Some)
}

/// When the last event of a rollout was recorded.
fn last_event(store: &Store, rollout: &Rollout) -> Result<Timestamp, StoreError> {
    let last = store.events(rollout.id(), rollout.last_seq().saturating_sub(1), 1)?;
    Ok(last.last().map_or_else(Timestamp::default, |entry| entry.at))
}

/// A rollout, replayed from its log.
fn replay(store: &Store, record: RolloutRecord) -> Result<Rollout, LoadError> {
    let Some(plan) = store.plan(Some(&record.plan))? else { return Err(LoadError::NoPlan(Box::new(record))) };
    plan.verify()?;
    let mut rollout = Rollout::new(record.id, Arc::new(plan));
    loop {
        let entries = store.events(rollout.id(), rollout.last_seq(), EVENTS_AT_ONCE)?;
        if entries.is_empty() {
            return Ok(rollout);
        }
        for entry in entries {
            let seq = entry.seq;
            rollout.apply(&entry).map_err(|source| LoadError::Replay {
                rollout: rollout.id().to_string(),
                seq,
                source: Box::new(source),
            })?;
        }
    }
}
