//! Loading what the store has, when the coordinator starts and after a write that failed.

use super::links::Links;
use super::look::Audience;
use super::reasons::Logged;
use super::refusals::Refusals;
use super::superseded::Superseded;
use super::turn::Turn;
use super::{Engine, Timing, told};
use crate::clock::Clock;
use crate::pki::Authority;
use crate::store::{KnownNode, RolloutRecord, Store, StoreError};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use tokio::sync::watch;
use wavegate_common::id::{LeaderId, NodeId, RolloutId};
use wavegate_common::plan::PlanError;
use wavegate_common::rollout::{Entry, IllegalEvent, Rollout};

/// Events read at once.
const EVENTS_AT_ONCE: usize = 1000;
/// So many times as many are read ahead of what is replayed, a few hundred bytes each: the log of ten thousand nodes, while
/// their plan is read and its seal is looked at.
const BATCHES_AHEAD: usize = 256;

/// Why the engine can't begin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store can't be read, or the generation can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rollout's plan is gone.
    #[error("the plan of rollout {} ({}) is not in the store; restore the store from a backup", .0.id, .0.plan)]
    NoPlan(Box<RolloutRecord>),
    /// There is no thread to read with.
    #[error("cannot start a thread that reads the store")]
    Thread(#[from] std::io::Error),
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
        let (rollout, nodes) = rollout_and_nodes(&store)?;
        if let Some(rollout) = &rollout
            && let Some(last) = store.last_event(rollout.id())?
        {
            clock.not_before(last.at);
        }
        let generation = store.begin_generation(leader_id)?;
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
            turn: Turn::default(),
            pace: Arc::default(),
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
            ticked_ms: 0,
            ticked_late: false,
            audience: Audience::default(),
            watchdog: None,
        })
    }

    /// After a failed write the log may or may not have the events: the store is looked at before anything else.
    pub(super) fn become_sure(&mut self) {
        if !self.unsure {
            return;
        }
        let looked = newest_rollout(&self.store, self.rollout.as_ref())
            .and_then(|rollout| Ok((rollout, self.store.inventory()?)));
        match looked {
            Ok((rollout, inventory)) => {
                (self.rollout, self.inventory) = (rollout, inventory.map(Arc::new));
                self.unsure = false;
            }
            Err(error) => tracing::debug!(error = told(&error), "the store cannot be read yet"),
        }
    }
}

type Nodes = BTreeMap<NodeId, Arc<KnownNode>>;

/// The newest rollout and the nodes of the fleet, read beside each other: there may be thousands of them.
fn rollout_and_nodes(store: &Store) -> Result<(Option<Rollout>, Nodes), LoadError> {
    let read = || {
        let nodes = store.nodes()?.into_iter().map(|known| (known.node.clone(), Arc::new(known)));
        Ok::<Nodes, StoreError>(nodes.collect())
    };
    thread::scope(|scope| {
        let nodes = thread::Builder::new().name("nodes".to_owned()).spawn_scoped(scope, read)?;
        let rollout = newest_rollout(store, None)?;
        let nodes = nodes.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok((rollout, nodes))
    })
}

/// The newest rollout. As far as it is `known` its log is not read again.
fn newest_rollout(store: &Store, known: Option<&Rollout>) -> Result<Option<Rollout>, LoadError> {
    let Some(record) = store.rollout(None)? else { return Ok(None) };
    let last_seq = store.last_event(&record.id)?.map_or(0, |last| last.seq);
    let known = known.filter(|known| {
        *known.id() == record.id && known.plan().id == record.plan && known.last_seq() <= last_seq
    });
    match known {
        Some(known) => {
            let mut after = known.last_seq();
            let batches = std::iter::from_fn(|| next_batch(store, &record.id, &mut after));
            follow(known.clone(), batches).map(Some)
        }
        None => replay(store, record).map(Some),
    }
}

/// A rollout, replayed from its log, which is read on a thread of its own meanwhile: in a large fleet plan and log are both
/// long.
pub(super) fn replay(store: &Store, record: RolloutRecord) -> Result<Rollout, LoadError> {
    thread::scope(|scope| {
        let (give, batches) = sync_channel(BATCHES_AHEAD);
        let id = record.id.clone();
        let read = move || {
            let mut after = 0;
            while let Some(batch) = next_batch(store, &id, &mut after) {
                let failed = batch.is_err();
                // Whoever waits for them may have given up.
                if give.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn_scoped(scope, read)?;
        let plan = store.plan(Some(&record.plan))?;
        let plan = plan.ok_or_else(|| LoadError::NoPlan(Box::new(record.clone())))?;
        plan.verify()?;
        follow(Rollout::new(record.id, Arc::new(plan)), batches)
    })
}

/// The next entries of a log; `None` at its end.
fn next_batch(store: &Store, rollout: &RolloutId, after: &mut u64) -> Option<Result<Vec<Entry>, StoreError>> {
    let batch = store.events(rollout, *after, EVENTS_AT_ONCE);
    if let Ok(entries) = &batch {
        *after = entries.last()?.seq;
    }
    Some(batch)
}

/// A rollout with all that its log has beyond it.
fn follow(
    mut rollout: Rollout,
    batches: impl IntoIterator<Item = Result<Vec<Entry>, StoreError>>,
) -> Result<Rollout, LoadError> {
    for batch in batches {
        for entry in batch? {
            let seq = entry.seq;
            rollout.apply(&entry).map_err(|source| LoadError::Replay {
                rollout: rollout.id().to_string(),
                seq,
                source: Box::new(source),
            })?;
        }
    }
    Ok(rollout)
}
