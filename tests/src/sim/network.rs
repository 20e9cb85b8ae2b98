//! The network in memory: sessions whose messages are the wire's bytes, late by chance and in order within their session.
//! A session may be cut, at each end noticed at another time; nodes may be out of reach for a while; and what was said in an
//! earlier session may be said again in a later one.

use super::chance::Chance;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wavegate_coordinator::rpc::session::{Incoming, Opened};

/// Messages of an agent that may be under way; it makes no more before one has arrived.
pub const UNDER_WAY: usize = 8;
/// Messages kept to be said again later, of each node and each direction.
const REMEMBERED: usize = 12;

/// Something that the network does.
#[derive(Debug)]
pub enum Event {
    /// An agent dials.
    Dial {
        /// Its node.
        node: usize,
        /// Which of the node's agents.
        life: u64,
        /// The number that the agent gives the session.
        session: u64,
    },
    /// Nobody answers an agent that dials.
    Refused {
        /// Its node.
        node: usize,
        /// Which of the node's agents.
        life: u64,
        /// The number that the agent gives the session.
        session: u64,
    },
    /// An agent has a connection.
    Connected {
        /// Which.
        connection: u64,
    },
    /// Bytes arrive.
    Arrives {
        /// Where.
        connection: u64,
        /// From the agent to the coordinator.
        upward: bool,
        /// A message.
        bytes: Vec<u8>,
        /// Said in this session, not an echo of an earlier one.
        genuine: bool,
    },
    /// An end learns that the connection is over.
    Ends {
        /// Which.
        connection: u64,
        /// The agent's end.
        agents: bool,
    },
    /// An agent has waited long enough for an answer.
    Silence {
        /// Where.
        connection: u64,
    },
}

/// A connection, with the session on it.
pub struct Connection {
    /// The node.
    pub node: usize,
    /// Which of the node's agents.
    pub life: u64,
    /// The number that the agent gives the session.
    pub session: u64,
    /// Which of the coordinators.
    pub coordinator: u64,
    /// Whether the agent believes in it.
    pub agent_has: bool,
    /// Whether the coordinator believes in it.
    pub coordinator_has: bool,
    /// Whether nothing arrives any more.
    pub cut: bool,
    /// Whether the coordinator has said anything.
    pub answered: bool,
    /// Messages of the agent that are under way.
    pub under_way: usize,
    /// The engine's session, once it has one.
    pub opened: Option<Opened>,
    /// What the coordinator makes of messages, once the hello was taken.
    pub incoming: Option<Incoming>,
    last: [u64; 2],
}

/// The network.
pub struct Network {
    /// Its decisions.
    pub chance: Chance,
    /// Every connection that there was.
    pub connections: BTreeMap<u64, Connection>,
    /// Those on which the engine has a session.
    pub live: BTreeSet<u64>,
    /// Until when nodes are out of reach.
    pub unreachable: BTreeMap<usize, u64>,
    /// One message in so many is very late; 0 for none.
    pub late_one_in: u64,
    /// Messages that were sent.
    pub messages: u64,
    said: BTreeMap<(usize, bool), VecDeque<Vec<u8>>>,
}

impl Network {
    /// Without any connection.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed, "network"),
            connections: BTreeMap::new(),
            live: BTreeSet::new(),
            unreachable: BTreeMap::new(),
            late_one_in: 0,
            messages: 0,
            said: BTreeMap::new(),
        }
    }

    /// How long something takes to the other end.
    pub fn latency(&mut self) -> u64 {
        if self.chance.one_in(self.late_one_in) {
            self.chance.within(500..=20_000)
        } else {
            self.chance.within(1..=20)
        }
    }

    /// Until when a node is out of reach, if it is.
    #[must_use]
    pub fn out_of_reach(&self, node: usize, now: u64) -> Option<u64> {
        self.unreachable.get(&node).copied().filter(|until| *until > now)
    }

    /// A new connection; returns its number.
    pub fn connect(&mut self, node: usize, life: u64, session: u64, coordinator: u64) -> u64 {
        let number = self.connections.len() as u64;
        let connection = Connection {
            node,
            life,
            session,
            coordinator,
            agent_has: true,
            coordinator_has: true,
            cut: false,
            answered: false,
            under_way: 0,
            opened: None,
            incoming: None,
            last: [0, 0],
        };
        self.connections.insert(number, connection);
        number
    }

    /// When something that is sent now arrives: behind everything that was sent before it in the same direction.
    pub fn arrival(&mut self, connection: u64, upward: bool, now: u64) -> u64 {
        let earliest = now + self.latency();
        let Some(connection) = self.connections.get_mut(&connection) else { return earliest };
        let reachable = self.unreachable.get(&connection.node).copied().unwrap_or_default();
        let last = &mut connection.last[usize::from(upward)];
        *last = earliest.max(*last).max(reachable);
        *last
    }

    /// A message arrived: it may be said again later.
    pub fn remember(&mut self, node: usize, upward: bool, bytes: &[u8]) {
        let said = self.said.entry((node, upward)).or_default();
        if said.len() == REMEMBERED {
            said.pop_front();
        }
        said.push_back(bytes.to_vec());
    }

    /// Something that arrived before, in this session or an earlier one.
    pub fn echo(&mut self, node: usize, upward: bool) -> Option<Vec<u8>> {
        let said = self.said.get(&(node, upward))?;
        let at = self.chance.below(said.len());
        said.get(at).cloned()
    }

    /// Connections to one of the coordinators that an end still believes in, also those on which nothing was said yet.
    #[must_use]
    pub fn of_coordinator(&self, life: u64) -> Vec<u64> {
        let open = |connection: &Connection| {
            connection.coordinator == life && (connection.agent_has || connection.coordinator_has)
        };
        self.connections
            .iter()
            .filter(|(_, connection)| open(connection))
            .map(|(number, _)| *number)
            .collect()
    }

    /// The coordinator has no session on a connection any more.
    pub fn closed_by_coordinator(&mut self, connection: u64) -> Option<Incoming> {
        self.live.remove(&connection);
        let connection = self.connections.get_mut(&connection)?;
        connection.coordinator_has = false;
        connection.opened = None;
        connection.incoming.take()
    }
}
