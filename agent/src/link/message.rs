//! What agent and coordinator say to each other in the core's words, and to and from the wire's.

use crate::causes;
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
        key: KeyAsGiven,
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
    /// An order that this agent can't read.
    UnreadableOrder {
        /// Its key.
        key: KeyAsGiven,
        /// What can't be read.
        what: String,
    },
    /// The end of the task is in the coordinator's log.
    Acknowledged(TaskKey),
    /// Say what steps would change.
    Preview(PreviewJob),
    /// The same with words that this agent can't read.
    UnreadablePreview(UnreadablePreview),
}

/// The key of a task as the coordinator wrote it, whatever its words; so that an order can be refused of which no more is understood.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeyAsGiven {
    rollout: String,
    plan: String,
    stage: String,
    node: String,
    attempt: u32,
}

impl From<TaskKey> for KeyAsGiven {
    fn from(key: TaskKey) -> Self {
        let TaskKey { rollout, plan, stage, node, attempt } = key;
        let (rollout, plan, stage) = (rollout.to_string(), plan.to_string(), stage.to_string());
        Self { rollout, plan, stage, node: node.to_string(), attempt }
    }
}

impl std::fmt::Display for KeyAsGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} attempt {}", self.rollout, self.stage, self.node, self.attempt)
    }
}

/// A preview that was asked for in words that this agent can't read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadablePreview {
    /// The request's id.
    pub request: u64,
    /// The stage, as it was asked for.
    pub stage: String,
    /// The steps that would run, as far as their ids can be read.
    pub steps: Vec<StepId>,
    /// What can't be read.
    pub what: String,
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
            let KeyAsGiven { rollout, plan, stage, node, attempt } = key;
            let key = v1::TaskKey { rollout, plan, stage, node, attempt };
            Out::OrderRefused(v1::OrderRefused { key: Some(key), reason })
        }
        ToCoordinator::Output(Piece { key, step, offset, data }) => {
            Out::Output(v1::Output { key: Some((&key).into()), step: step.into(), offset, data })
        }
        ToCoordinator::Preview(done) => Out::PreviewReport(v1::PreviewReport {
            request: done.request,
            stage: done.stage,
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
        In::PreviewRequest(asked) => preview(asked),
    })
}

/// The part of an order that says which it is.
#[derive(Deserialize)]
struct OnlyKey {
    key: KeyAsGiven,
}

/// An order that can't be read is refused by its key, so that it is seen on the coordinator and not on this node alone.
fn unreadable(order: &v1::Document, error: BadMessage) -> Result<FromCoordinator, BadMessage> {
    let Ok(OnlyKey { key }) = serde_json::from_slice(&order.json) else { return Err(error) };
    Ok(FromCoordinator::UnreadableOrder { key, what: causes::told(&error) })
}

fn preview(asked: v1::PreviewRequest) -> FromCoordinator {
    let v1::PreviewRequest { request, stage, planned_steps } = asked;
    let read = || {
        let (stage, steps) = (stage.parse()?, read_document("planned_steps", planned_steps.as_ref())?);
        Ok::<_, BadMessage>(PreviewJob { request, stage, steps })
    };
    match read() {
        Ok(job) => FromCoordinator::Preview(job),
        Err(error) => {
            let steps = planned_steps.map(|steps| ids(&steps)).unwrap_or_default();
            FromCoordinator::UnreadablePreview(UnreadablePreview {
                request,
                stage,
                steps,
                what: causes::told(&error),
            })
        }
    }
}

/// The part of a step that says which it is, and whether it does anything.
#[derive(Deserialize)]
struct OnlyId {
    id: StepId,
    work: OnlyDo,
}

#[derive(Deserialize)]
struct OnlyDo {
    #[serde(rename = "do")]
    what: String,
}

/// The ids of the steps of a list that would run.
fn ids(steps: &v1::Document) -> Vec<StepId> {
    let steps: Vec<serde_json::Value> = serde_json::from_slice(&steps.json).unwrap_or_default();
    let steps = steps.into_iter().filter_map(|step| serde_json::from_value::<OnlyId>(step).ok());
    steps.filter(|step| step.work.what != "skip").map(|step| step.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(message: In) -> v1::CoordinatorMessage {
        v1::CoordinatorMessage { message: Some(message) }
    }

    const KEY: &str = r#"{"rollout":"r1","plan":"p1","stage":"compute","node":"n1","attempt":1}"#;

    /// What an order with this key and these steps is to the agent.
    fn ordered(key: &str, steps: &str) -> FromCoordinator {
        let json = format!(r#"{{"key":{key},"generation":3,"steps":[{steps}],"of_a_later_version":[1]}}"#);
        let order = v1::Document { schema: "task_order".to_owned(), json: json.into() };
        from_wire(wire(In::TaskOrder(order))).expect("understood so far")
    }

    fn step(id: &str, action: &str) -> String {
        format!(
            r#"{{"id":"{id}","title":"t","of_a_later_version":1,"work":{{"do":"run","timeout_s":5,{action}}}}}"#
        )
    }

    const KNOWN: &str = r#""action":"service.check","inactive":["nothing"]"#;

    fn previewed(stage: &str, steps: &str) -> FromCoordinator {
        let planned_steps = Some(v1::Document { schema: "planned_steps".to_owned(), json: steps.into() });
        let asked = v1::PreviewRequest { request: 7, stage: stage.to_owned(), planned_steps };
        from_wire(wire(In::PreviewRequest(asked))).expect("understood so far")
    }

    #[test]
    fn fields_of_a_later_version_are_not_seen() {
        let said = ordered(&KEY.replace('{', r#"{"of_a_later_version":true,"#), &step("a", KNOWN));
        let FromCoordinator::Order(order) = said else { panic!("{said:?}") };
        assert_eq!((order.steps.len(), order.planned), (1, None));
        let said = previewed("compute", &format!("[{}]", step("a", KNOWN)));
        assert!(matches!(said, FromCoordinator::Preview(_)), "{said:?}");
    }

    #[test]
    fn an_order_with_words_of_a_later_version_is_refused_by_its_key() {
        let planned = r#"{"rollout":"r1","plan":"p1","stage":"verify","node":"n1","attempt":1}"#;
        let moon = r#""action":"moon.fly""#;
        let argument = r#""action":"service.check","inactive":["nothing"],"moons":3"#;
        for (key, action, expected, what) in [
            (KEY, moon, "r1 compute n1 attempt 1", "moon.fly"),
            (KEY, argument, "r1 compute n1 attempt 1", "moons"),
            (planned, KNOWN, "r1 verify n1 attempt 1", "verify"),
        ] {
            let said = ordered(key, &step("a", action));
            let FromCoordinator::UnreadableOrder { key, what: said } = said else { panic!("{said:?}") };
            assert_eq!(key.to_string(), expected);
            assert!(said.contains(what), "{said}");
            let refused = to_wire(ToCoordinator::Refused { key, reason: "r".to_owned() });
            let Some(Out::OrderRefused(refused)) = refused.and_then(|message| message.message) else {
                panic!("{what}")
            };
            let key = refused.key.expect("a key");
            assert_eq!(
                format!("{} {} {} attempt {}", key.rollout, key.stage, key.node, key.attempt),
                expected
            );
        }
    }

    #[test]
    fn a_preview_in_words_of_a_later_version_is_answered_step_by_step() {
        let skipped = r#"{"id":"c","title":"t","work":{"do":"skip","reason":"r"}}"#;
        let known = step("a", KNOWN);
        let steps = format!(r#"[{known},{},{skipped},{{"no":"id"}}]"#, step("b", r#""action":"moon.fly""#));
        for (stage, steps, ids, expected) in [
            ("compute", steps, vec!["a", "b"], "moon.fly"),
            ("verify", format!("[{known}]"), vec!["a"], "verify"),
            ("compute", "{}".to_owned(), vec![], "planned_steps"),
        ] {
            let said = previewed(stage, &steps);
            let FromCoordinator::UnreadablePreview(asked) = said else { panic!("{said:?}") };
            let found: Vec<&str> = asked.steps.iter().map(StepId::as_str).collect();
            assert_eq!((asked.request, asked.stage.as_str(), found), (7, stage, ids));
            assert!(asked.what.contains(expected), "{}", asked.what);
        }
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
        fn arbitrary_previews_never_panic(stage in "\\PC{0,8}", json in any::<Vec<u8>>()) {
            let planned_steps = Some(v1::Document { schema: "planned_steps".to_owned(), json });
            let asked = v1::PreviewRequest { request: 1, stage, planned_steps };
            prop_assert!(from_wire(wire(In::PreviewRequest(asked))).is_some());
        }

        #[test]
        fn arbitrary_orders_never_panic(schema in "task_order|plan", json in any::<Vec<u8>>()) {
            let _ = from_wire(wire(In::TaskOrder(v1::Document { schema, json })));
        }
    }
}
