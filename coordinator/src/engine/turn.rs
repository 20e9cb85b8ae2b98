//! A turn: what the inputs that are taken together amount to, until it is stored. How it is stored, and what becomes of it
//! then, is `commit`'s.

use super::Input;
use crate::store::{AuditRecord, Printed, RolloutRecord};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::NodeId;
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::{Entry, Report, Rollout};

/// Inputs of a turn at most: who asks something waits for its end.
const MOST_INPUTS: usize = 2000;
/// Bytes of output in a turn at most.
const MOST_BYTES: usize = 4 << 20;
/// A turn that has gone on for so long takes nothing more.
const LONG_MS: u64 = 20;

/// What a turn has collected. Nothing of it is stored, and nothing of it is sent.
#[derive(Default)]
pub(super) struct Turn {
    /// When it began, by [`Clock::elapsed_ms`](crate::clock::Clock::elapsed_ms).
    began_ms: u64,
    /// What happened in the rollout, once something has.
    pub(super) events: Option<Pending>,
    /// Nodes whose facts have news.
    pub(super) facts: BTreeSet<NodeId>,
    /// What steps printed.
    pub(super) output: Vec<Printed>,
    /// What is to be said in the audit list.
    pub(super) audit: Vec<AuditRecord>,
    /// Reports that the events came from, or that are to be acknowledged.
    pub(super) reports: BTreeMap<TaskKey, Report>,
    /// Ends of tasks that agents are told we have.
    pub(super) acknowledgements: Vec<TaskKey>,
    /// Nodes that are sent the order that is open for them.
    pub(super) orders: BTreeSet<NodeId>,
    /// Something has happened after which there may be something to decide.
    pub(super) unsettled: bool,
    /// Time has passed since nodes that are lost or late were last looked for.
    pub(super) look_for_lost: bool,
    /// Time has passed in it.
    pub(super) ticked: bool,
    /// What is told of the rollout or the fleet has changed.
    pub(super) changed: bool,
    inputs: usize,
    bytes: usize,
}

/// Events that the rollout in memory has and the store has not.
pub(super) struct Pending {
    /// The newest rollout as it is stored.
    pub(super) stored: Option<Rollout>,
    /// The record of the rollout that these begin, if they begin one.
    pub(super) begin: Option<RolloutRecord>,
    /// The events.
    pub(super) entries: Vec<Entry>,
}

impl Turn {
    /// Begins anew. What agents observed and could not be stored is tried again, and so are orders that could not be sent; what
    /// was left undecided is decided.
    pub(super) fn begin(&mut self, now_ms: u64) {
        let Self { facts, orders, unsettled, look_for_lost, .. } = std::mem::take(self);
        *self = Self { began_ms: now_ms, facts, orders, unsettled, look_for_lost, ..Self::default() };
    }

    /// Whether one more input can be taken in it.
    pub(super) const fn has_room(&self, now_ms: u64) -> bool {
        self.inputs < MOST_INPUTS && self.bytes < MOST_BYTES && now_ms.saturating_sub(self.began_ms) < LONG_MS
    }

    /// Counts an input.
    pub(super) const fn count(&mut self) {
        self.inputs += 1;
    }

    /// Adds a piece of output.
    pub(super) fn print(&mut self, printed: Printed) {
        self.bytes += printed.piece.data.len();
        self.output.push(printed);
    }

    /// Forgets what is stored now.
    pub(super) fn forget_stored(&mut self) {
        self.events = None;
        self.facts.clear();
        self.output.clear();
        self.audit.clear();
        self.reports.clear();
    }

    /// Whether there is anything to be stored.
    pub(super) fn has_news(&self) -> bool {
        self.events.as_ref().is_some_and(|pending| !pending.entries.is_empty())
            || !self.facts.is_empty()
            || !self.output.is_empty()
            || !self.audit.is_empty()
    }
}

impl Input {
    /// Whether it comes by the thousand and nobody waits for what comes of it, so that it shares its turn with others. Who
    /// asks for something has a turn alone: what is answered is stored.
    pub(super) const fn shares_a_turn(&self) -> bool {
        match self {
            Self::Connected(_)
            | Self::Said { .. }
            | Self::Gone { .. }
            | Self::Refused { .. }
            | Self::Look
            | Self::Tick => true,
            Self::Enrol(..)
            | Self::Command { .. }
            | Self::CreateToken { .. }
            | Self::RevokeToken { .. }
            | Self::RemoveNode { .. }
            | Self::SetInventory { .. }
            | Self::Approve { .. }
            | Self::MakePlan(_)
            | Self::Shutdown => false,
        }
    }
}
