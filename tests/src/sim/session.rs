//! What comes of what arrives: at the coordinator, where it becomes the engine's inputs, and at the agents.

use super::check::Violation;
use super::coordinator::fingerprint;
use super::network::{Event, UNDER_WAY};
use super::world::{self, World};
use prost::Message;
use tokio::sync::oneshot;
use wavegate_agent::agent::Event as AgentEvent;
use wavegate_agent::link::{self, LinkError, Told};
use wavegate_coordinator::engine::Input;
use wavegate_coordinator::rpc::session::{self, Incoming, Opened};
use wavegate_proto::v1;

/// Nobody answers somebody who is out of reach; so long is waited for that.
const DIALLED_FOR_MS: u64 = 10_000;
/// An agent waits so long for the coordinator's first word.
const WELCOME_WITHIN_MS: u64 = 30_000;
/// Where the agents believe the coordinator to be.
pub const ADDRESS: &str = "coordinator.sim:7443";

impl World<'_> {
    pub(super) fn on_network(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Dial { node, life, session } => {
                self.dial(node, life, session);
                Ok(())
            }
            Event::Refused { node, life, session } => self.down(node, life, session),
            Event::Connected { connection } => self.connected(connection),
            Event::Arrives { connection, upward, bytes, genuine } => {
                self.arrives(connection, upward, bytes, genuine)
            }
            Event::Ends { connection, agents: true } => self.ends_for_agent(connection),
            Event::Ends { connection, agents: false } => self.ends_for_coordinator(connection),
            Event::Silence { connection } => {
                let silent =
                    self.network.connections.get(&connection).is_some_and(|c| c.agent_has && !c.answered);
                if silent { self.ends_for_agent(connection) } else { Ok(()) }
            }
        }
    }

    fn dial(&mut self, node: usize, life: u64, session: u64) {
        let waits = self.nodes[node].agent.as_ref().is_some_and(|agent| agent.session == session);
        if self.nodes[node].life != life || !waits {
            return;
        }
        let refused = world::Event::Network(Event::Refused { node, life, session });
        if self.network.out_of_reach(node, self.scheduler.now()).is_some() {
            self.scheduler.after(DIALLED_FOR_MS, refused);
        } else if self.coordinator.engine.is_none() {
            let latency = self.network.latency();
            self.scheduler.after(latency, refused);
        } else {
            let connection = self.network.connect(node, life, session, self.coordinator.life);
            self.nodes[node].connection = Some(connection);
            let latency = self.network.latency();
            self.scheduler.after(latency, world::Event::Network(Event::Connected { connection }));
        }
    }

    /// An agent learns that it has no session.
    fn down(&mut self, node: usize, life: u64, session: u64) -> Result<(), Violation> {
        if self.nodes[node].life != life {
            return Ok(());
        }
        let Ok(address) = ADDRESS.parse() else { return Ok(()) };
        self.tell_agent(node, AgentEvent::Link { session, told: Told::Down(LinkError::Closed { address }) })
    }

    fn connected(&mut self, number: u64) -> Result<(), Violation> {
        let Some(connection) =
            self.network.connections.get(&number).filter(|connection| connection.agent_has)
        else {
            return Ok(());
        };
        let (node, life, session) = (connection.node, connection.life, connection.session);
        if self.nodes[node].life != life {
            return Ok(());
        }
        self.scheduler.after(WELCOME_WITHIN_MS, world::Event::Network(Event::Silence { connection: number }));
        self.tell_agent(node, AgentEvent::Link { session, told: Told::Connected })
    }

    /// Bytes go their way.
    pub(super) fn send(&mut self, connection: u64, upward: bool, bytes: Vec<u8>) {
        self.network.messages += 1;
        let at = self.network.arrival(connection, upward, self.scheduler.now());
        self.scheduler
            .at(at, world::Event::Network(Event::Arrives { connection, upward, bytes, genuine: true }));
    }

    fn arrives(&mut self, number: u64, upward: bool, bytes: Vec<u8>, genuine: bool) -> Result<(), Violation> {
        let now = self.scheduler.now();
        let Some(connection) = self.network.connections.get_mut(&number) else { return Ok(()) };
        let (node, life) = (connection.node, connection.life);
        if connection.cut {
            return Ok(());
        }
        if self.network.out_of_reach(node, now).is_some() {
            let at = self.network.arrival(number, upward, now);
            let arrives = Event::Arrives { connection: number, upward, bytes, genuine };
            self.scheduler.at(at, world::Event::Network(arrives));
            return Ok(());
        }
        self.trace.bytes(&bytes);
        if genuine {
            self.network.remember(node, upward, &bytes);
        }
        if upward {
            if genuine && let Some(connection) = self.network.connections.get_mut(&number) {
                connection.under_way = connection.under_way.saturating_sub(1);
            }
            self.heard_by_coordinator(number, &bytes)?;
            return if self.nodes[node].connection == Some(number) { self.pump(node) } else { Ok(()) };
        }
        if self.nodes[node].life != life {
            return Ok(());
        }
        self.heard_by_agent(number, node, &bytes)
    }

    fn heard_by_agent(&mut self, number: u64, node: usize, bytes: &[u8]) -> Result<(), Violation> {
        let Some(connection) = self.network.connections.get_mut(&number) else { return Ok(()) };
        connection.answered = true;
        let session = connection.session;
        let said = v1::CoordinatorMessage::decode(bytes).ok().and_then(link::from_wire);
        // An agent has given the session up and something of it still comes: it must not mind.
        let Some(said) = said else { return Ok(()) };
        self.note(format_args!("{} hears {}", self.nodes[node].name.clone(), heard(&said)));
        self.tell_agent(node, AgentEvent::Link { session, told: Told::Said(Box::new(said)) })
    }

    fn heard_by_coordinator(&mut self, number: u64, bytes: &[u8]) -> Result<(), Violation> {
        let now = self.scheduler.now();
        let (ours, up) = (self.coordinator.life, self.coordinator.engine.is_some());
        let Some(connection) = self.network.connections.get_mut(&number) else { return Ok(()) };
        if !up || !connection.coordinator_has || connection.coordinator != ours {
            return Ok(());
        }
        let Ok(message) = v1::AgentMessage::decode(bytes) else { return Ok(()) };
        match connection.incoming.as_mut() {
            Some(incoming) => match incoming.take(message, now) {
                Ok(Some(input)) => self.turn(input),
                Ok(None) => Ok(()),
                Err(bad) => {
                    let who = format!("node {}", incoming.node());
                    self.turn(Input::Refused { who, what: bad.to_string() })?;
                    self.ends_for_coordinator(number)?;
                    self.agent_will_know(number);
                    Ok(())
                }
            },
            None => self.hello(number, message),
        }
    }

    /// The first word of a session.
    fn hello(&mut self, number: u64, message: v1::AgentMessage) -> Result<(), Violation> {
        let Some(connection) = self.network.connections.get_mut(&number) else { return Ok(()) };
        let name = self.nodes[connection.node].name.clone();
        let now = self.scheduler.now();
        let (reply, mut answer) = oneshot::channel();
        let hello = match message.message {
            Some(v1::agent_message::Message::Hello(hello)) if hello.node == name.as_str() => Some(hello),
            _ => None,
        };
        let begun =
            hello.and_then(|hello| session::open(name.clone(), fingerprint(&name), &hello, now, reply).ok());
        let Some((connected, opened)) = begun else {
            self.network.closed_by_coordinator(number);
            self.agent_will_know(number);
            return Ok(());
        };
        let heard = opened.heard.clone();
        self.opened(number, opened);
        self.turn(Input::Connected(Box::new(connected)))?;
        match answer.try_recv() {
            Ok(Ok(session)) => {
                if let Some(connection) =
                    self.network.connections.get_mut(&number).filter(|c| c.coordinator_has)
                {
                    connection.incoming = Some(Incoming::new(name, session, heard));
                }
            }
            Ok(Err(_)) | Err(_) => {
                self.network.closed_by_coordinator(number);
                self.agent_will_know(number);
            }
        }
        Ok(())
    }

    fn opened(&mut self, number: u64, opened: Opened) {
        if let Some(connection) = self.network.connections.get_mut(&number) {
            connection.opened = Some(opened);
            self.network.live.insert(number);
        }
    }

    fn agent_will_know(&mut self, connection: u64) {
        let at = self.network.arrival(connection, false, self.scheduler.now());
        self.scheduler.at(at, world::Event::Network(Event::Ends { connection, agents: true }));
    }

    fn ends_for_agent(&mut self, number: u64) -> Result<(), Violation> {
        let Some(connection) = self.network.connections.get_mut(&number) else { return Ok(()) };
        if !std::mem::take(&mut connection.agent_has) {
            return Ok(());
        }
        let (node, life, session) = (connection.node, connection.life, connection.session);
        self.down(node, life, session)
    }

    fn ends_for_coordinator(&mut self, number: u64) -> Result<(), Violation> {
        let ours = self.coordinator.life;
        let known = self.network.connections.get(&number);
        if known.is_none_or(|connection| connection.coordinator != ours || !connection.coordinator_has) {
            return Ok(());
        }
        match self.network.closed_by_coordinator(number) {
            Some(incoming) => self.turn(incoming.gone()),
            None => Ok(()),
        }
    }

    /// The agent gives its connection up; the coordinator will know.
    pub(super) fn hang_up(&mut self, node: usize, quietly: bool) {
        let Some(number) = self.nodes[node].connection.take() else { return };
        let Some(connection) = self.network.connections.get_mut(&number) else { return };
        connection.agent_has = false;
        let delay =
            if quietly { self.network.chance.within(10_000..=60_000) } else { self.network.latency() };
        // Behind what is under way.
        let at = self.network.arrival(number, true, self.scheduler.now()).max(self.scheduler.now() + delay);
        self.scheduler.at(at, world::Event::Network(Event::Ends { connection: number, agents: false }));
    }

    /// The agent says what it has to say, as far as there is room on the way.
    pub(super) fn pump(&mut self, node: usize) -> Result<(), Violation> {
        let Some(number) = self.nodes[node].connection else { return Ok(()) };
        loop {
            let Some(connection) = self.network.connections.get_mut(&number) else { return Ok(()) };
            if !connection.agent_has || connection.under_way >= UNDER_WAY {
                return Ok(());
            }
            let Some(agent) = self.nodes[node].agent.as_mut().filter(|agent| agent.core.has_to_say()) else {
                return Ok(());
            };
            let Some(message) = agent.core.next_message() else { return Ok(()) };
            let Some(message) = link::to_wire(message) else { continue };
            connection.under_way += 1;
            self.send(number, true, message.encode_to_vec());
        }
    }
}

fn heard(said: &link::FromCoordinator) -> String {
    match said {
        link::FromCoordinator::Welcome(welcome) => format!("welcome of {}", welcome.leader),
        link::FromCoordinator::Order(order) => {
            format!("order {} of generation {}", order.key, order.generation)
        }
        link::FromCoordinator::UnreadableOrder { key, what } => format!("unreadable order {key}: {what}"),
        link::FromCoordinator::Acknowledged(key) => format!("acknowledgement of {key}"),
        link::FromCoordinator::Preview(asked) => format!("question {} about {}", asked.request, asked.stage),
        link::FromCoordinator::UnreadablePreview(asked) => {
            format!("unreadable question {} about {}: {}", asked.request, asked.stage, asked.what)
        }
    }
}
