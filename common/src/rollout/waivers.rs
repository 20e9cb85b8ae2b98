//! The waivers of a rollout: all that there were, and which are in force.

use super::Waiver;
use crate::id::{Actor, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Every waiver in the order in which it was given, with those in force by node and by the moment at which they end.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Waivers {
    given: Vec<Waiver>,
    in_force: BTreeMap<NodeId, usize>,
    by_end: BTreeSet<(Timestamp, usize)>,
}

impl Waivers {
    pub(super) fn given(&self) -> &[Waiver] {
        &self.given
    }

    /// The waiver of a node, if one is in force.
    pub(super) fn of(&self, node: &NodeId) -> Option<&Waiver> {
        self.in_force.get(node).and_then(|index| self.given.get(*index))
    }

    /// The waivers whose time is over, in the order in which they were given.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<&Waiver> {
        let over = self.by_end.iter().take_while(|(until, _)| *until <= now);
        let over: BTreeSet<usize> = over.map(|(_, index)| *index).collect();
        over.into_iter().filter_map(|index| self.given.get(index)).collect()
    }

    /// A waiver begins. One that is in force for its node must have been ended.
    pub(super) fn begin(&mut self, waiver: Waiver) {
        self.in_force.insert(waiver.node.clone(), self.given.len());
        self.by_end.insert((waiver.until, self.given.len()));
        self.given.push(waiver);
    }

    /// The waiver of a node ends, if one is in force.
    pub(super) fn end(&mut self, node: &NodeId, by: Option<&Actor>, at: Timestamp) {
        let Some(index) = self.in_force.remove(node) else { return };
        let Some(waiver) = self.given.get_mut(index) else { return };
        self.by_end.remove(&(waiver.until, index));
        waiver.ended = Some(at);
        waiver.ended_by = by.cloned();
    }
}

/// What there was alone: the rest follows from it.
impl fmt::Debug for Waivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.given.fmt(f)
    }
}
