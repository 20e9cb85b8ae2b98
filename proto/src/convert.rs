//! The edge: wire messages to the core's types and back. Nothing past here sees a wire type.

use crate::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wavegate_common::id::{BadId, Generation, LeaderId, NodeId, PlanId, RolloutId};
use wavegate_common::leader::Leader;
use wavegate_common::order::TaskKey;
use wavegate_common::platform::{Stage, UnknownWord};
use wavegate_common::rollout::TaskResult;

/// Why a message is not understood.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// A field that must be there is not.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] BadId),
    /// A word that is not in its set.
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// A document of another schema.
    #[error("a document of schema {expected} was expected, {found} came")]
    Schema {
        /// What was expected.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A document that can't be read or written.
    #[error("the {schema} document is not valid")]
    Document {
        /// Its schema.
        schema: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// A document that no message has room for.
    #[error(
        "the {schema} document has {megabytes} MiB, and no message may have more than {}; look at a part of it: wavegate \
         status, wavegate why, wavegate nodes NODE, wavegate events (all without --output json)",
        crate::OPERATOR_MESSAGE_MAX >> 20
    )]
    Large {
        /// Its schema.
        schema: &'static str,
        /// Its size.
        megabytes: usize,
    },
}

/// Bytes of a message beside its document's JSON.
const ROUND_IT: usize = 1 << 10;

impl From<BadMessage> for tonic::Status {
    fn from(bad: BadMessage) -> Self {
        let mut text = bad.to_string();
        let mut source = std::error::Error::source(&bad);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::invalid_argument(text)
    }
}

/// A leader off the wire: its generation, and its identity's text, empty if it is not known.
///
/// # Errors
/// If the identity is none.
pub fn leader_from_wire(generation: u64, id: &str) -> Result<Leader, BadId> {
    let id = if id.is_empty() { None } else { Some(id.parse()?) };
    Ok(Leader { generation: Generation(generation), id })
}

/// A leader's identity for the wire; empty if it is not known.
#[must_use]
pub fn leader_id_to_wire(id: Option<LeaderId>) -> String {
    id.map(String::from).unwrap_or_default()
}

/// A document of the core for the wire.
///
/// # Errors
/// [`BadMessage::Document`] if it can't be written as JSON.
pub fn document<T: Serialize + ?Sized>(schema: &'static str, value: &T) -> Result<v1::Document, BadMessage> {
    let json = serde_json::to_vec(value).map_err(|source| BadMessage::Document { schema, source })?;
    if json.len() + ROUND_IT > crate::OPERATOR_MESSAGE_MAX {
        return Err(BadMessage::Large { schema, megabytes: json.len() >> 20 });
    }
    Ok(v1::Document { schema: schema.to_owned(), json })
}

/// A document off the wire.
///
/// # Errors
/// [`BadMessage::Missing`], [`BadMessage::Schema`], [`BadMessage::Document`].
pub fn read_document<T: DeserializeOwned>(
    schema: &'static str,
    doc: Option<&v1::Document>,
) -> Result<T, BadMessage> {
    let doc = doc.ok_or(BadMessage::Missing(schema))?;
    if doc.schema != schema {
        return Err(BadMessage::Schema { expected: schema, found: doc.schema.clone() });
    }
    serde_json::from_slice(&doc.json).map_err(|source| BadMessage::Document { schema, source })
}

impl From<&TaskKey> for v1::TaskKey {
    fn from(key: &TaskKey) -> Self {
        Self {
            rollout: key.rollout.to_string(),
            stage: key.stage.to_string(),
            node: key.node.to_string(),
            attempt: key.attempt,
            plan: key.plan.to_string(),
        }
    }
}

impl TryFrom<v1::TaskKey> for TaskKey {
    type Error = BadMessage;
    fn try_from(key: v1::TaskKey) -> Result<Self, BadMessage> {
        Ok(Self {
            rollout: RolloutId::new(key.rollout)?,
            plan: PlanId::new(key.plan)?,
            stage: key.stage.parse::<Stage>()?,
            node: NodeId::new(key.node)?,
            attempt: key.attempt,
        })
    }
}

/// Whether a key off the wire is this one.
#[must_use]
pub fn same_key(said: &v1::TaskKey, key: &TaskKey) -> bool {
    let v1::TaskKey { rollout, stage, node, attempt, plan } = said;
    node == key.node.as_str()
        && *attempt == key.attempt
        && stage == key.stage.as_str()
        && rollout == key.rollout.as_str()
        && plan == key.plan.as_str()
}

/// A task's result for the wire; `None` while it is open.
#[must_use]
pub const fn result_to_wire(result: Option<TaskResult>) -> v1::TaskResult {
    match result {
        None => v1::TaskResult::Open,
        Some(TaskResult::Finished) => v1::TaskResult::Finished,
        Some(TaskResult::Failed) => v1::TaskResult::Failed,
    }
}

/// A task's result off the wire.
///
/// # Errors
/// [`BadMessage::Missing`] if none was given.
pub const fn result_from_wire(result: v1::TaskResult) -> Result<Option<TaskResult>, BadMessage> {
    match result {
        v1::TaskResult::Unspecified => Err(BadMessage::Missing("task result")),
        v1::TaskResult::Open => Ok(None),
        v1::TaskResult::Finished => Ok(Some(TaskResult::Finished)),
        v1::TaskResult::Failed => Ok(Some(TaskResult::Failed)),
    }
}
