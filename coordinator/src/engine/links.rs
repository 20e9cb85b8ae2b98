//! The agents' sessions, and which nodes are online. Of two sessions of a node the newer one counts.

use super::input::ToAgent;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::rollout::Link;

/// Less than this is not a clock that was set.
const SET_MS: u64 = 1000;

/// A moment moved by so much, and not past now.
fn later(moment: u64, by_ms: u64, now: u64) -> u64 {
    moment.saturating_add(by_ms).min(now).max(moment)
}

/// The engine's end of a session. Dropping it ends the session.
pub struct Session {
    /// Where messages to the agent go. Bounded: an agent that does not read is disconnected, and asks again. Boxed, since a queue
    /// has room for many and most are empty.
    pub outbound: mpsc::Sender<Box<ToAgent>>,
    /// When the agent was last heard, by [`Clock::elapsed_ms`](crate::clock::Clock::elapsed_ms); written as messages
    /// arrive, so that it is true also while the engine is busy.
    pub heard: Arc<AtomicU64>,
    /// Held as long as the session counts.
    pub alive: oneshot::Sender<()>,
}

struct Open {
    number: u64,
    session: Session,
    /// Whether it was silent for too long when that was last looked at.
    silent: bool,
}

/// Every node's link.
pub struct Links {
    links: BTreeMap<NodeId, Link>,
    open: BTreeMap<NodeId, Open>,
    next_number: u64,
    /// The time, and what had elapsed then, when it was last looked at.
    looked: Option<(Timestamp, u64)>,
}

impl Links {
    /// All these nodes are offline since now: when the coordinator starts, nobody has connected yet.
    pub fn new(nodes: impl Iterator<Item = NodeId>, now: Timestamp) -> Self {
        let links = nodes.map(|node| (node, Link::Offline { since: now })).collect();
        Self { links, open: BTreeMap::new(), next_number: 1, looked: None }
    }

    /// Looks at the time. If the clock was set forward since the last look, nobody was offline for longer by that: the
    /// moments since when nodes are offline are moved with it.
    pub fn follow(&mut self, now: Timestamp, elapsed_ms: u64) {
        let (before, elapsed_before) = self.looked.replace((now, elapsed_ms)).unwrap_or((now, elapsed_ms));
        let set_by = now.millis_since(before).saturating_sub(elapsed_ms.saturating_sub(elapsed_before));
        if set_by < SET_MS {
            return;
        }
        for link in self.links.values_mut() {
            if let Link::Offline { since } = link {
                since.0 = since.0.saturating_add(set_by);
            }
        }
    }

    /// Nobody could be heard for so long: nobody was silent or away for it.
    pub fn excuse(&mut self, for_ms: u64, now: Timestamp, elapsed_ms: u64) {
        for open in self.open.values() {
            let heard = open.session.heard.load(Ordering::Relaxed);
            open.session.heard.fetch_max(later(heard, for_ms, elapsed_ms), Ordering::Relaxed);
        }
        self.excuse_away(for_ms, now);
    }

    /// Nobody could connect for so long: nobody was away for it.
    pub fn excuse_away(&mut self, for_ms: u64, now: Timestamp) {
        for link in self.links.values_mut() {
            if let Link::Offline { since } = link {
                since.0 = later(since.0, for_ms, now.0);
            }
        }
    }

    /// A node was heard in a session; it may have waited for long until it was taken. False if that is not the session that counts.
    pub fn heard(&self, node: &NodeId, number: u64, elapsed_ms: u64) -> bool {
        let Some(open) = self.open.get(node).filter(|open| open.number == number) else { return false };
        open.session.heard.fetch_max(elapsed_ms, Ordering::Relaxed);
        true
    }

    /// Every node's link, for the core.
    pub const fn all(&self) -> &BTreeMap<NodeId, Link> {
        &self.links
    }

    /// A node that enrolled is known from then on.
    pub fn know(&mut self, node: &NodeId, now: Timestamp) {
        self.links.entry(node.clone()).or_insert(Link::Offline { since: now });
    }

    /// A node's session begins; an older one of it ends. Returns its number.
    pub fn open(&mut self, node: &NodeId, session: Session, now: Timestamp) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.open.insert(node.clone(), Open { number, session, silent: false });
        self.links.insert(node.clone(), Link::Online { since: now });
        number
    }

    /// Whether this is the session of the node that counts.
    pub fn is_current(&self, node: &NodeId, number: u64) -> bool {
        self.open.get(node).is_some_and(|open| open.number == number)
    }

    /// Ends a node's session, whatever its number.
    pub fn close(&mut self, node: &NodeId, now: Timestamp) {
        if self.open.remove(node).is_some() {
            self.links.insert(node.clone(), Link::Offline { since: now });
        }
    }

    /// Ends a node's session and knows the node no longer.
    pub fn forget(&mut self, node: &NodeId) {
        self.open.remove(node);
        self.links.remove(node);
    }

    /// Whether a node is online.
    pub fn is_online(&self, node: &NodeId) -> bool {
        self.open.contains_key(node)
    }

    /// Sends to a node, if it is online. A session that takes no more is closed; then this is false.
    pub fn send(&mut self, node: &NodeId, message: ToAgent, now: Timestamp) -> bool {
        let Some(open) = self.open.get(node) else { return false };
        if let Err(error) = open.session.outbound.try_send(Box::new(message)) {
            tracing::warn!(%node, %error, "the agent does not read what it is sent; its session is closed");
            self.close(node, now);
            return false;
        }
        true
    }

    /// Closes the sessions of agents that were not heard of for so long, and says whose. They are found silent twice first:
    /// when the whole machine stood still, what they said meanwhile is read between the two looks.
    pub fn close_silent(&mut self, silence_ms: u64, now: Timestamp, elapsed_ms: u64) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for (node, open) in &mut self.open {
            let heard = open.session.heard.load(Ordering::Relaxed);
            let before = std::mem::replace(&mut open.silent, elapsed_ms.saturating_sub(heard) >= silence_ms);
            if before && open.silent {
                nodes.push(node.clone());
            }
        }
        for node in &nodes {
            self.close(node, now);
        }
        nodes
    }
}
