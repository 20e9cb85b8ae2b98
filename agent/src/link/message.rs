//! What agent and coordinator say to each other in the core's words, and to and from the wire's.

use crate::output::Piece;
use crate::worker::{PreviewDone, PreviewJob};
use serde::Deserialize;
use wavegate_common::facts::Facts;
use wavegate_common::id::{FleetId, NodeId, StepId};
use wavegate_common::journal::TaskInJournal;
use wavegate_common::leader::Leader;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_proto::convert::{
    BadMessage, document, leader_from_wire, leader_id_to_wire, read_document, result_to_wire,
};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as Out;
use wavegate_proto::v1::coordinator_message::Message as In;

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToCoordinator {
    /// First message of a session.
    Hello {
        /// The node.
        node: NodeId,
        /// Highest generation in the journal, and whose it was.
        seen: Leader,
        /// The last facts; `None` if the node could not be observed.
        facts: Option<Box<Facts>>,
    },
    /// A sign of life.
    Heartbeat {
        /// Counts up within a session.
        sequence: u64,
        /// The task and step being worked on.
        at: Option<(TaskKey, Option<StepId>)>,
        /// What the task stands still for, if it does.
        stands_still: Option<String>,
    },
    /// All that the journal has of a task.
    Report(Box<TaskInJournal>),
    /// An order that is not obeyed.
    Refused {
        /// Its key.
        key: TaskKey,
        /// Why.
        reason: String,
    },
    /// Output of a step.
    Output(Piece),
    /// A preview that was asked for.
    Preview(PreviewDone),
    /// Fresh facts.
    Facts(Box<Facts>),
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromCoordinator {
    /// First message of a session.
    Welcome(Welcome),
    /// Run a task.
    Order(TaskOrder),
    /// An order that this agent can't read, with its key.
    UnreadableOrder {
        /// Its key.
        key: TaskKey,
        /// Why.
        reason: String,
    },
    /// The end of the task is in the coordinator's log.
    Acknowledged(TaskKey),
    /// Say what steps would change.
    Preview(PreviewJob),
}

/// What the coordinator says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its generation, and which start of it this is.
    pub leader: Leader,
    /// Its version.
    pub version: String,
    /// How often it wants a sign of life, in seconds.
    pub heartbeat_interval_s: u32,
}

/// A message for the wire. One that can't be written is logged and left out.
pub fn to_wire(message: ToCoordinator) -> Option<v1::AgentMessage> {
    match written(message) {
        Ok(message) => Some(v1::AgentMessage { message: Some(message) }),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a message can't be written: please report it"
            );
            None
        }
    }
}

fn written(message: ToCoordinator) -> Result<Out, BadMessage> {
    let facts_document = |facts: &Facts| document("facts", facts);
    Ok(match message {
        ToCoordinator::Hello { node, seen, facts } => Out::Hello(v1::Hello {
            node: node.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            generation_seen: seen.generation.0,
            leader_seen: leader_id_to_wire(seen.id),
            facts: facts.as_deref().map(facts_document).transpose()?,
        }),
        ToCoordinator::Heartbeat { sequence, at, stands_still } => {
            let (task, step) = at.unzip();
            let step = step.flatten().map(String::from).unwrap_or_default();
            let (task, stands_still) = (task.as_ref().map(Into::into), stands_still.unwrap_or_default());
            Out::Heartbeat(v1::Heartbeat { sequence, task, step, stands_still })
        }
        ToCoordinator::Report(task) => Out::TaskReport(v1::TaskReport {
            key: Some((&task.order.key).into()),
            ended_steps: Some(document("ended_steps", &task.steps)?),
            current_step: task.started.map(String::from).unwrap_or_default(),
            result: result_to_wire(task.result).into(),
        }),
        ToCoordinator::Refused { key, reason } => {
            Out::OrderRefused(v1::OrderRefused { key: Some((&key).into()), reason })
        }
        ToCoordinator::Output(Piece { key, step, offset, data }) => {
            Out::Output(v1::Output { key: Some((&key).into()), step: step.into(), offset, data })
        }
        ToCoordinator::Preview(done) => Out::PreviewReport(v1::PreviewReport {
            request: done.request,
            stage: done.stage.to_string(),
            step_previews: Some(document("step_previews", &done.previews)?),
        }),
        ToCoordinator::Facts(facts) => Out::Facts(facts_document(&facts)?),
    })
}

/// A message off the wire. One that can't be understood is logged and left out: the session has others.
pub fn from_wire(message: v1::CoordinatorMessage) -> Option<FromCoordinator> {
    match understood(message) {
        Ok(said) => Some(said),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "a message of the coordinator is not understood; is this agent of its version?"
            );
            None
        }
    }
}

fn understood(message: v1::CoordinatorMessage) -> Result<FromCoordinator, BadMessage> {
    Ok(match message.message.ok_or(BadMessage::Missing("content that this agent knows"))? {
        In::Welcome(welcome) => FromCoordinator::Welcome(Welcome {
            fleet: FleetId::new(welcome.fleet)?,
            leader: leader_from_wire(welcome.generation, &welcome.leader)?,
            version: welcome.coordinator_version,
            heartbeat_interval_s: welcome.heartbeat_interval_s,
        }),
        In::TaskOrder(order) => match read_document("task_order", Some(&order)) {
            Ok(order) => FromCoordinator::Order(order),
            Err(error) => unreadable(&order, error)?,
        },
        In::Acknowledge(acknowledge) => {
            FromCoordinator::Acknowledged(acknowledge.key.ok_or(BadMessage::Missing("task key"))?.try_into()?)
        }
        In::PreviewRequest(asked) => FromCoordinator::Preview(PreviewJob {
            request: asked.request,
            stage: asked.stage.parse()?,
            steps: read_document("planned_steps", asked.planned_steps.as_ref())?,
        }),
    })
}

/// The part of an order that says which it is.
#[derive(Deserialize)]
struct OnlyKey {
    key: TaskKey,
}

/// An order that can't be read is refused by its key, so that it is seen on the coordinator and not on this node alone.
fn unreadable(order: &v1::Document, error: BadMessage) -> Result<FromCoordinator, BadMessage> {
    let Ok(OnlyKey { key }) = serde_json::from_slice(&order.json) else { return Err(error) };
    let version = env!("CARGO_PKG_VERSION");
    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    let reason = format!(
        "the agent, version {version}, cannot read the order: {error}{cause}; install the agent of the coordinator's version"
    );
    Ok(FromCoordinator::UnreadableOrder { key, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(message: In) -> v1::CoordinatorMessage {
        v1::CoordinatorMessage { message: Some(message) }
    }

    #[test]
    fn an_order_of_a_newer_coordinator_is_refused_by_its_key() {
        let json = r#"{"key":{"rollout":"r1","plan":"p1","stage":"compute","node":"n1","attempt":1},"generation":3,
            "steps":[{"id":"s","title":"t","work":{"do":"run","action":"moon.fly","timeout_s":5}}]}"#;
        let order = v1::Document { schema: "task_order".to_owned(), json: json.into() };
        let said = from_wire(wire(In::TaskOrder(order))).expect("understood so far");
        let FromCoordinator::UnreadableOrder { key, reason } = said else { panic!("{said:?}") };
        assert_eq!(key.to_string(), "r1 compute n1 attempt 1");
        assert!(reason.contains("moon.fly") && reason.contains("install the agent"), "{reason}");
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        assert_eq!(from_wire(v1::CoordinatorMessage { message: None }), None);
        let nonsense = v1::Document { schema: "task_order".to_owned(), json: b"{}".to_vec() };
        assert_eq!(from_wire(wire(In::TaskOrder(nonsense))), None);
        assert_eq!(from_wire(wire(In::Acknowledge(v1::Acknowledge { key: None }))), None);
    }

    proptest! {
        #[test]
        fn arbitrary_orders_never_panic(schema in "task_order|plan", json in any::<Vec<u8>>()) {
            let _ = from_wire(wire(In::TaskOrder(v1::Document { schema, json })));
        }
    }
}
