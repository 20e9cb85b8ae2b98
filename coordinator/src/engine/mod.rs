//! The engine: the coordinator's one loop over one closed set of inputs, on a thread of its own.
//!
//! A turn takes an input, or many that came together: finds the events that they amount to, applies them to the rollout as
//! it will be, decides what comes next, stores all of it in one transaction, and only then sends. At its end nothing is sent
//! that is not stored, and nothing of a rollout in memory is ahead of the store; what agents observe counts at once, and is
//! stored as soon as it can be. The turns are `run`'s, and how one ends is `commit`'s; this file says what the engine is. Time
//! is the `Clock`'s; connections and wire types are `rpc`'s.

mod agents;
mod approval;
mod ask;
mod commands;
mod commit;
mod door;
mod enrolment;
mod error;
mod input;
mod inventory;
mod links;
mod load;
mod look;
mod pace;
mod planning;
mod port;
mod reasons;
mod record;
mod refusals;
mod removal;
mod run;
mod start;
mod superseded;
mod turn;
mod waiver;
mod waves;
mod words;

pub use ask::Nodes;
pub use error::{RequestError, told};
pub use input::{
    Answer, Command, Connected, CreatedToken, Done, Enrol, Enrolled, FromAgent, Input, InventoryText,
    MakePlan, PlanUpdate, Reply, ToAgent, TokenWish,
};
pub use links::Session;
pub use load::LoadError;
pub use look::Look;
pub use port::Port;
pub use reasons::About;

use crate::clock::Clock;
use crate::pki::Authority;
use crate::skew::Skew;
use crate::store::{AuditRecord, InventoryRecord, KnownNode, Store};
use crate::watchdog::Watchdog;
use links::Links;
use look::Audience;
use pace::Pace;
use planning::Planning;
use reasons::Logged;
use refusals::Refusals;
use std::collections::BTreeMap;
use std::sync::Arc;
use superseded::Superseded;
use tokio::sync::{mpsc, watch};
use turn::Turn;
use wavegate_common::id::{Generation, LeaderId, NodeId, StepId, Timestamp};
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::{Observed, Report, Rollout};

/// Silence of so many heartbeat intervals takes a node offline.
const SILENT_INTERVALS: u64 = 3;
/// An order that was not confirmed is sent again after so long: the node was busy, or the order got lost.
const SEND_AGAIN_MS: u64 = 10_000;
/// Characters kept of what somebody who is refused says.
const TEXT_KEPT: usize = 500;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Seconds between an agent's heartbeats.
    pub heartbeat_interval_s: u32,
    /// After so many milliseconds offline, a node with a task in flight is lost.
    pub lost_after_ms: u64,
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

/// The store can't be written; tried again with every turn that has something to store, and with every tick.
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
    /// The newest rollout; within a turn as it will be, else as it is stored.
    rollout: Option<Rollout>,
    /// What agents last said they work on.
    steps: BTreeMap<NodeId, StepId>,
    complaints: BTreeMap<NodeId, Complaint>,
    not_taken: BTreeMap<NodeId, NotTaken>,
    /// Nodes whose task can't go on, as they say.
    stand_still: BTreeMap<NodeId, Complaint>,
    /// When an order was last sent to a node.
    ordered: BTreeMap<NodeId, (TaskKey, Timestamp)>,
    /// What this turn has collected.
    turn: Turn,
    /// Reports that could not be stored.
    unstored: BTreeMap<TaskKey, Report>,
    planning: Option<Planning>,
    next_preview: u64,
    refusals: Refusals,
    logged: Logged,
    trouble: Option<Trouble>,
    /// A write failed, and perhaps came about all the same: look at the store before the next one.
    unsure: bool,
    unflushed_output: bool,
    pace: Arc<Pace>,
    /// When time passed last, by [`Clock::elapsed_ms`].
    ticked_ms: u64,
    /// Nobody had told us: we found out ourselves.
    ticked_late: bool,
    changes: watch::Sender<u64>,
    output: watch::Sender<u64>,
    audience: Audience,
    watchdog: Option<Watchdog>,
}

impl Engine {
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
        let port = Port {
            inputs: send,
            approvals: self.approvals,
            store: self.store.clone(),
            clock: self.clock.clone(),
            changes: self.changes.subscribe(),
            output: self.output.subscribe(),
            asking: self.audience.0.clone(),
            pace: self.pace.clone(),
        };
        (port, receive)
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
        self.turn.unsettled = true;
        self.changed();
    }

    /// Somebody was refused, or said what can't be true. Their texts are theirs, so they are cut.
    fn refused(&mut self, who: String, mut what: String) {
        cut(&mut what);
        tracing::warn!(who, what, "refused");
        let now = self.clock.now();
        if let Some(record) = self.refusals.note(who, what, now) {
            self.turn.audit.push(record);
        }
    }

    fn audit(&mut self, who: &str, what: &str, result: &str) {
        tracing::info!(who, what, result, "a command had no effect");
        let record = self.audit_of(who, what, result);
        self.turn.audit.push(record);
    }

    fn audit_of(&self, who: &str, what: &str, result: &str) -> AuditRecord {
        let at = self.clock.now();
        AuditRecord { at, who: who.to_owned(), what: what.to_owned(), result: result.to_owned() }
    }

    /// The newest rollout, as it is stored.
    #[must_use]
    pub const fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    fn observed(&self) -> Observed<'_> {
        Observed { now: self.looked_at, links: self.links.all(), lost_after_ms: self.timing.lost_after_ms }
    }

    /// Wakes those who watch, when the turn has ended.
    const fn changed(&mut self) {
        self.turn.changed = true;
    }
}

/// Keeps what is worth keeping of a text that is somebody else's.
fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_KEPT) {
        text.truncate(end);
    }
}
