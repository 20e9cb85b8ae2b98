//! An agent's session without its connection: the wire's messages in the engine's words and back, and which of them the
//! engine need not see. Sockets, waiting and who may speak are `agent`'s.

use crate::engine::{Connected, FromAgent, Input, Reply, Session, ToAgent, told};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use wavegate_common::facts::Facts;
use wavegate_common::id::{NodeId, StepId};
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::Report;
use wavegate_proto::convert::{
    BadMessage, document, leader_from_wire, leader_id_to_wire, read_document, result_from_wire, same_key,
};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as In;
use wavegate_proto::v1::coordinator_message::Message as Out;

/// Messages that may wait for an agent to read them: a welcome, an order, acknowledgements, a preview for each stage.
const OUTBOUND: usize = 64;

/// The connection's end of a session.
pub struct Opened {
    /// What the engine says to the agent.
    pub messages: mpsc::Receiver<Box<ToAgent>>,
    /// Closed when the engine has ended the session.
    pub ended: oneshot::Receiver<()>,
    /// When the agent was last heard, by [`Clock::elapsed_ms`](crate::clock::Clock::elapsed_ms); the engine reads it.
    pub heard: Arc<AtomicU64>,
}

/// A session as it begins, for the engine and for the connection: `node` said `hello` at `elapsed_ms` of the engine's
/// clock, with the certificate of this fingerprint. The session's number will go to `reply`.
///
/// # Errors
/// [`BadMessage`] if whom it has obeyed can't be read. Facts that can't be are not its end: they may be a newer agent's.
pub fn open(
    node: NodeId,
    fingerprint: String,
    hello: &v1::Hello,
    elapsed_ms: u64,
    reply: Reply<u64>,
) -> Result<(Connected, Opened), BadMessage> {
    let facts: Result<Option<Facts>, BadMessage> =
        hello.facts.is_some().then(|| read_document("facts", hello.facts.as_ref())).transpose();
    let (facts, not_understood) = match facts {
        Ok(facts) => (facts, None),
        Err(bad) => (None, Some(told(&bad))),
    };
    let (outbound, messages) = mpsc::channel(OUTBOUND);
    let (alive, ended) = oneshot::channel();
    let heard = Arc::new(AtomicU64::new(elapsed_ms));
    let connected = Connected {
        node,
        fingerprint,
        agent_version: printable(&hello.agent_version),
        seen: leader_from_wire(hello.generation_seen, &hello.leader_seen)?,
        facts,
        not_understood,
        session: Session { outbound, heard: heard.clone(), alive },
        reply,
    };
    Ok((connected, Opened { messages, ended, heard }))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// What comes in on an open session.
pub struct Incoming {
    node: NodeId,
    session: u64,
    heard: Arc<AtomicU64>,
    /// What the agent last said it works on: a heartbeat that says the same only counts as heard.
    last: Option<FromAgent>,
    /// The task that it last spoke of, which is mostly the one that it speaks of next.
    key: Option<TaskKey>,
}

impl Incoming {
    /// Of a node's session with this number; `heard` is [`Opened::heard`].
    #[must_use]
    pub const fn new(node: NodeId, session: u64, heard: Arc<AtomicU64>) -> Self {
        Self { node, session, heard, last: None, key: None }
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        &self.node
    }

    /// That the agent was heard at `elapsed_ms` of the engine's clock.
    pub fn heard(&self, elapsed_ms: u64) {
        self.heard.store(elapsed_ms, Ordering::Relaxed);
    }

    /// That the session has ended.
    #[must_use]
    pub fn gone(self) -> Input {
        Input::Gone { node: self.node, session: self.session }
    }

    /// What a message that came at `elapsed_ms` of the engine's clock is to the engine; `None` if the engine need not see it.
    ///
    /// # Errors
    /// [`BadMessage`] if it breaks the protocol; the session is to end then. A message that can't be read does not: a newer agent's
    /// words are refused by themselves, else it would come back with them again and again.
    pub fn take(&mut self, message: v1::AgentMessage, elapsed_ms: u64) -> Result<Option<Input>, BadMessage> {
        self.heard(elapsed_ms);
        // A newer agent may say something that we don't know.
        let Some(message) = message.message else { return Ok(None) };
        if matches!(message, In::Hello(_)) {
            return Err(BadMessage::Missing("place here: a hello is the first message and no other"));
        }
        let message = self.read(message).unwrap_or_else(|bad| FromAgent::NotUnderstood(told(&bad)));
        if matches!(message, FromAgent::Working(..)) {
            if self.last.as_ref() == Some(&message) {
                return Ok(None);
            }
            self.last = Some(message.clone());
        } else if matches!(message, FromAgent::Report(..)) {
            self.last = None;
        }
        let (node, session) = (self.node.clone(), self.session);
        Ok(Some(Input::Said { node, session, message: Box::new(message) }))
    }

    fn read(&mut self, message: In) -> Result<FromAgent, BadMessage> {
        let step = |step: String| if step.is_empty() { Ok(None) } else { StepId::new(step).map(Some) };
        Ok(match message {
            In::Hello(_) => return Err(BadMessage::Missing("place here")),
            In::Heartbeat(v1::Heartbeat { task, step: at, stands_still, .. }) => {
                let working = if task.is_some() { Some((self.key(task)?, step(at)?)) } else { None };
                FromAgent::Working(working, Some(stands_still).filter(|why| !why.is_empty()))
            }
            In::TaskReport(report) => {
                let result = result_from_wire(report.result())?;
                let current = step(report.current_step)?;
                let steps = read_document("ended_steps", report.ended_steps.as_ref())?;
                FromAgent::Report(Report { key: self.key(report.key)?, steps, result }, current)
            }
            In::OrderRefused(refused) => {
                FromAgent::OrderRefused { key: self.key(refused.key)?, reason: refused.reason }
            }
            In::Output(output) => FromAgent::Output {
                key: self.key(output.key)?,
                step: StepId::new(output.step)?,
                offset: output.offset,
                data: output.data,
            },
            In::PreviewReport(report) => FromAgent::Preview {
                request: report.request,
                stage: report.stage.parse()?,
                previews: read_document("step_previews", report.step_previews.as_ref())?,
            },
            In::Facts(facts) => FromAgent::Facts(Box::new(read_document("facts", Some(&facts))?)),
        })
    }

    fn key(&mut self, said: Option<v1::TaskKey>) -> Result<TaskKey, BadMessage> {
        let said = said.ok_or(BadMessage::Missing("task key"))?;
        if let Some(known) = self.key.as_ref().filter(|known| same_key(&said, known)) {
            return Ok(known.clone());
        }
        let key = TaskKey::try_from(said)?;
        self.key = Some(key.clone());
        Ok(key)
    }
}

/// What the engine says, for the wire.
///
/// # Errors
/// [`BadMessage`] if it can't be written.
pub fn to_wire(message: ToAgent) -> Result<v1::CoordinatorMessage, BadMessage> {
    let message = match message {
        ToAgent::Welcome { fleet, leader, heartbeat_interval_s } => Out::Welcome(v1::Welcome {
            fleet: fleet.to_string(),
            generation: leader.generation.0,
            leader: leader_id_to_wire(leader.id),
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_s,
        }),
        ToAgent::Order(order) => Out::TaskOrder(document("task_order", &*order)?),
        ToAgent::Acknowledge(key) => Out::Acknowledge(v1::Acknowledge { key: Some((&key).into()) }),
        ToAgent::Preview { request, stage, steps } => Out::PreviewRequest(v1::PreviewRequest {
            request,
            stage: stage.to_string(),
            planned_steps: Some(document("planned_steps", &steps)?),
        }),
    };
    Ok(v1::CoordinatorMessage { message: Some(message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> v1::TaskKey {
        let [rollout, stage, node, plan] = ["r1", "compute", "n1", "p1"].map(str::to_owned);
        v1::TaskKey { rollout, stage, node, attempt: 1, plan }
    }

    fn taken(incoming: &mut Incoming, key: &v1::TaskKey) -> TaskKey {
        let refused = v1::OrderRefused { key: Some(key.clone()), reason: String::new() };
        let message = v1::AgentMessage { message: Some(In::OrderRefused(refused)) };
        let Ok(Some(Input::Said { message, .. })) = incoming.take(message, 1) else { panic!("it is said") };
        let FromAgent::OrderRefused { key, .. } = *message else { panic!("of a task: {message:?}") };
        key
    }

    #[test]
    fn whichever_task_an_agent_spoke_of_before_it_is_taken_for_the_one_that_it_speaks_of() {
        let mut incoming = Incoming::new(NodeId::new("n1").expect("a name"), 1, Arc::default());
        let others = [
            v1::TaskKey { rollout: "r2".to_owned(), ..key() },
            v1::TaskKey { stage: "control".to_owned(), ..key() },
            v1::TaskKey { node: "n2".to_owned(), ..key() },
            v1::TaskKey { attempt: 2, ..key() },
            v1::TaskKey { plan: "p2".to_owned(), ..key() },
        ];
        for other in others {
            for said in [key(), key(), other.clone(), other, key()] {
                let expected = TaskKey::try_from(said.clone()).expect("a key");
                assert_eq!(taken(&mut incoming, &said), expected);
            }
        }
    }
}
