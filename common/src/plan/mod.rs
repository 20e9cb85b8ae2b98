//! The plan: procedure x fleet x facts, compiled. Immutable, printable, storable, with a digest.
//!
//! Making one is `compile`'s job; this file says what a plan is.

mod alike;
mod compile;
mod drift;
mod etcd;
mod versions;

pub use compile::{CompileError, Options, compile};
pub use drift::{Difference, differences};
pub use etcd::{judge_etcd, settle_etcd};
pub use versions::{VersionDifference, version_differences};

use crate::etcd::{ClusterId, MemberId, Part};
use crate::facts::Component;
use crate::id::{Actor, NodeId, PlanId, StepId, Timestamp};
use crate::order::Steps;
use crate::outcome::{Preview, StepError};
use crate::platform::{Platform, Release, Role, Stage};
use crate::procedure::Value;
use crate::waves::Mode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};

/// The format of the plan document; a plan of another format is refused.
pub const FORMAT: u32 = 1;

/// How many nodes of a stage may be worked on, and how many may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Nodes in the first wave, at least 1.
    pub canary: u32,
    /// Nodes in flight, failed or unknown at the same time, at least 1.
    pub max_unavailable: u32,
    /// Failed nodes that are tolerated; one more halts the rollout. 0 halts at the first.
    pub errors_allowed: u32,
    /// Seconds between the end of a wave and the begin of the next, also when that is of the next stage.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub soak_s: u64,
    /// Who lets a wave begin, unless the rollout is manual as a whole.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub start: Mode,
}

const fn is_zero(soak_s: &u64) -> bool {
    *soak_s == 0
}

const fn is_auto(start: &Mode) -> bool {
    matches!(start, Mode::Auto)
}

/// A node as the plan saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// What it is for.
    pub roles: BTreeSet<Role>,
    /// What it runs on.
    pub platform: Platform,
    /// The OpenStack release used in the conditions of steps.
    pub release: Option<Release>,
    /// Installed versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<Component, String>,
    /// Its part in an etcd cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<PlannedEtcd>,
    /// When its facts were observed.
    pub observed_at: Timestamp,
}

/// What of etcd must be the same on a node when it is worked on as when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEtcd {
    /// Which part it plays.
    pub part: Part,
    /// The cluster that it is of, leads to or asks.
    pub cluster: ClusterId,
    /// The member that runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
}

/// What one step would change on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPreview {
    /// The step.
    pub step: StepId,
    /// What it would do.
    pub preview: Preview,
}

/// One stage of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Which stage.
    pub stage: Stage,
    /// Its limits.
    pub limits: Limits,
    /// The nodes in the order of work: waves, the first being the canary. Every node of `tasks` is in exactly one.
    pub waves: Vec<Vec<NodeId>>,
    /// The group of each node, where the stage is done group by group; else empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<NodeId, String>,
    /// The steps of each node.
    #[serde(deserialize_with = "alike::tasks", serialize_with = "alike::write")]
    pub tasks: BTreeMap<NodeId, Steps>,
}

/// Something that keeps a plan from being started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The node, if it is about one.
    pub node: Option<NodeId>,
    /// The stage, if it is about one.
    pub stage: Option<Stage>,
    /// The step, if it is about one.
    pub step: Option<StepId>,
    /// What is wrong and what to do.
    #[serde(flatten)]
    pub error: StepError,
}

/// Something that keeps a plan from being started until an operator says that it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What it is acknowledged by, e.g. `etcd-no-spare-member`: the same for the same kind of trouble in every plan.
    pub id: String,
    /// The node, if it is about one.
    pub node: Option<NodeId>,
    /// The stage, if it is about one.
    pub stage: Option<Stage>,
    /// What will or may happen.
    pub what: String,
    /// What can be done about it.
    pub next: String,
}

/// The part of a plan that its digest covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanBody {
    /// [`FORMAT`].
    pub format: u32,
    /// The procedure's name.
    pub procedure: String,
    /// The procedure's version.
    pub procedure_version: String,
    /// SHA-256 of the procedure's text.
    pub procedure_digest: String,
    /// Every parameter with its value.
    pub parameters: BTreeMap<String, Value>,
    /// When the plan was made.
    pub created_at: Timestamp,
    /// Who asked for it.
    pub created_by: Actor,
    /// Every node of the fleet, also those with nothing to do.
    pub nodes: BTreeMap<NodeId, PlannedNode>,
    /// The stages, in order. A stage without nodes is there, with no waves.
    pub stages: Vec<StagePlan>,
    /// What each step would change, by stage and node, as the agents saw it.
    pub previews: BTreeMap<Stage, BTreeMap<NodeId, Vec<StepPreview>>>,
    /// What keeps the plan from being started; empty for a plan that can.
    pub problems: Vec<Problem>,
    /// What an operator must acknowledge when the plan is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Packages of which nodes of one platform would get different versions. It keeps no plan from being started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub version_differences: Vec<VersionDifference>,
    /// Nodes that are enrolled and that the inventory does not declare; they take part all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undeclared: BTreeSet<NodeId>,
}

/// A plan: its body and the id that follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// First 12 hexadecimal digits of `digest`.
    pub id: PlanId,
    /// SHA-256 over the body's JSON, hexadecimal.
    pub digest: String,
    /// What is to be done.
    pub body: PlanBody,
}

/// Why a document is not a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The body can't be written as JSON.
    #[error("the plan cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
    /// The digest does not cover the body.
    #[error("plan {id} does not match its digest: it was changed after it was made; make a new plan")]
    Digest {
        /// The plan's id.
        id: PlanId,
    },
    /// Another format.
    #[error("plan {id} has format {found}, this wavegate reads format {FORMAT}; make a new plan")]
    Format {
        /// The plan's id.
        id: PlanId,
        /// Its format.
        found: u32,
    },
}

impl Plan {
    /// Seals a body: its digest and id follow from its content.
    ///
    /// # Errors
    /// [`PlanError::Unwritable`] if the body can't be written as JSON.
    pub fn seal(body: PlanBody) -> Result<Self, PlanError> {
        let digest = digest_of(&body)?;
        let id = PlanId::new(&digest[..12]).unwrap_or_else(|_| unreachable!("hexadecimal digits are a name"));
        Ok(Self { id, digest, body })
    }

    /// Checks that the body is the one that was sealed, in a format that we read.
    ///
    /// # Errors
    /// [`PlanError::Digest`] or [`PlanError::Format`].
    pub fn verify(&self) -> Result<(), PlanError> {
        if self.body.format != FORMAT {
            return Err(PlanError::Format { id: self.id.clone(), found: self.body.format });
        }
        let digest = digest_of(&self.body)?;
        if digest != self.digest || !digest.starts_with(self.id.as_str()) {
            return Err(PlanError::Digest { id: self.id.clone() });
        }
        Ok(())
    }

    /// Whether a node runs a member of the etcd cluster, as the plan saw it.
    #[must_use]
    pub fn is_etcd_member(&self, node: &NodeId) -> bool {
        self.body.nodes.get(node).is_some_and(|node| node.roles.contains(&Role::EtcdMember))
    }

    /// The plan of one stage, if the procedure has it.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Option<&StagePlan> {
        self.body.stages.iter().find(|planned| planned.stage == stage)
    }
}

fn digest_of(body: &PlanBody) -> Result<String, PlanError> {
    let mut hashed = BufWriter::with_capacity(64 * 1024, Hashed(Sha256::new()));
    serde_json::to_writer(&mut hashed, body)?;
    let hashed = hashed.into_inner().map_err(|unwritten| serde_json::Error::io(unwritten.into_error()))?;
    Ok(hashed.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is written is hashed and forgotten: the JSON of a large fleet's plan is never in memory as a whole.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
