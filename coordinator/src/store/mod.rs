//! What the coordinator remembers, and why its store refuses. How records lie on disk is `embedded`'s business.
//!
//! One process has the store, and in it one thread, the engine's, writes; anybody in the process may read.

mod embedded;

pub use embedded::{AUDIT_KEPT, OUTPUT_KEPT, Opener, Store};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use wavegate_common::facts::Facts;
use wavegate_common::id::{Actor, FleetId, Generation, LeaderId, NodeId, PlanId, RolloutId, Timestamp};
use wavegate_common::inventory::Inventory;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::Entry;

/// The format of the store; another one is refused.
pub const FORMAT: u64 = 1;

/// A node that has enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// When it enrolled (last).
    pub enrolled_at: Timestamp,
    /// Its certificate, PEM. Only this one is accepted from it: one from an earlier enrolment is not.
    pub certificate_pem: String,
    /// SHA-256 of the certificate's DER, hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of the certificate's public key (SubjectPublicKeyInfo), hexadecimal.
    pub public_key: String,
    /// What its agent observed last; `None` before it first connected.
    pub facts: Option<Facts>,
}

/// What the engine has at hand of every node: its record without what only enrolment looks at, which is on disk alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KnownNode {
    /// The node.
    pub node: NodeId,
    /// When it enrolled (last).
    pub enrolled_at: Timestamp,
    /// SHA-256 of its certificate's DER, hexadecimal.
    pub fingerprint: String,
    /// What its agent observed last; `None` before it first connected.
    pub facts: Option<Facts>,
}

impl KnownNode {
    /// The same node with newer facts.
    #[must_use]
    pub fn with(&self, facts: Facts) -> Self {
        let Self { node, enrolled_at, fingerprint, facts: _ } = self;
        let (node, fingerprint) = (node.clone(), fingerprint.clone());
        Self { node, enrolled_at: *enrolled_at, fingerprint, facts: Some(facts) }
    }
}

impl From<NodeRecord> for KnownNode {
    fn from(record: NodeRecord) -> Self {
        let NodeRecord { node, enrolled_at, fingerprint, facts, certificate_pem: _, public_key: _ } = record;
        Self { node, enrolled_at, fingerprint, facts }
    }
}

/// A join token. The secret itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// SHA-256 of the secret's text, hexadecimal.
    pub secret_sha256: String,
    /// The only node that may use it, if it is for one.
    pub node: Option<NodeId>,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// When it was made; `None` if it was before this was kept.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// How many nodes may use it, each once.
    #[serde(default = "once")]
    pub uses: u32,
    /// Whether only nodes of the inventory may.
    #[serde(default)]
    pub declared: bool,
    /// How many nodes have; see [`TokenRecord::times_used`].
    #[serde(default)]
    pub times_used: u32,
    /// The last use, once there was one. The others are kept beside the record, which does not grow with them.
    pub used: Option<TokenUse>,
    /// Who has made it worth nothing, if somebody has.
    #[serde(default)]
    pub revoked: Option<Revocation>,
}

const fn once() -> u32 {
    1
}

impl TokenRecord {
    /// How many nodes have enrolled with it. Tokens of the time when each worked once have no count.
    #[must_use]
    pub fn times_used(&self) -> u32 {
        self.times_used.max(u32::from(self.used.is_some()))
    }
}

/// An operator's word that a token is worth nothing from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// A token that somebody shows to enrol a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownToken {
    /// The token.
    pub record: TokenRecord,
    /// When this node has enrolled with it, if it has.
    pub used_at: Option<Timestamp>,
}

/// A use of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// By which node.
    pub node: NodeId,
    /// When.
    pub at: Timestamp,
}

/// The inventory as an operator set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRecord {
    /// The file that it came from, as the operator named it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What the text says.
    #[serde(flatten)]
    pub inventory: Inventory,
    /// When it was set.
    pub set_at: Timestamp,
    /// Who set it.
    pub set_by: Actor,
}

/// Another coordinator that has taken over: a node has obeyed it, and its generation is higher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupersededRecord {
    /// The node that said so first.
    pub node: NodeId,
    /// The other one's generation.
    pub generation: Generation,
    /// Which start it is, as far as known.
    pub leader: Option<LeaderId>,
    /// Since when this is known.
    pub since: Timestamp,
}

/// A rollout; what happened in it is its events'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Its id: `r1`, `r2`, ...
    pub id: RolloutId,
    /// The plan it executes.
    pub plan: PlanId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who started it.
    pub created_by: Actor,
}

/// What lists say of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanHead {
    /// Its id.
    pub id: PlanId,
    /// Its digest, hexadecimal.
    pub digest: String,
    /// Its procedure's name.
    pub procedure: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many problems keep it from being started.
    pub problems: usize,
}

/// An operator's word that a plan may be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// Something that somebody asked for or tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Who, as authenticated; for refused connections the peer's address.
    pub who: String,
    /// What they asked for or tried.
    pub what: String,
    /// What came of it: `done`, `nothing to do`, or why it was refused.
    pub result: String,
}

/// What is written together: all of it is kept, or nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// Events.
    pub append: Option<Append<'a>>,
    /// What agents observed. Of nodes that are not in the fleet nothing is kept.
    pub facts: &'a [&'a Facts],
    /// What steps printed, in the order in which it came. What is known already of it is dropped.
    pub output: &'a [Printed],
    /// What is to be said in the audit list.
    pub audit: &'a [AuditRecord],
}

impl Batch<'_> {
    /// Whether there is nothing in it but output, which a crash may take: its step tells what came of it anyway.
    #[must_use]
    pub const fn is_output_alone(&self) -> bool {
        self.append.is_none() && self.facts.is_empty() && self.audit.is_empty()
    }
}

/// Events to append to a rollout's log.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// The rollout.
    pub rollout: &'a RolloutId,
    /// The seq of the last event in its log, as the writer knows it.
    pub expected_last_seq: u64,
    /// The generation of the writer.
    pub generation: Generation,
    /// The events.
    pub entries: &'a [Entry],
    /// The rollout's record, when this begins it.
    pub begin: Option<&'a RolloutRecord>,
}

/// Which step's output, in the order in which tasks and steps are run on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepPlace {
    /// The stage.
    pub stage: Stage,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The step's index in the task.
    pub step: u32,
}

/// A piece of a step's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPiece {
    /// Which step's.
    pub place: StepPlace,
    /// Where it begins, in bytes from the beginning of the step's output.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A piece of a step's output, and where the step ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The rollout.
    pub rollout: RolloutId,
    /// The node.
    pub node: NodeId,
    /// The piece.
    pub piece: OutputPiece,
}

/// Why the store refuses.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "the store {place} is in use by another process: a wavegate-coordinator is running; stop it first \
         (systemctl stop wavegate-coordinator)"
    )]
    InUse {
        /// The file.
        place: String,
    },
    /// It can't be read or written.
    #[error(
        "the store {place} cannot be read or written; look at space and permissions there (df -h, ls -l)"
    )]
    Unusable {
        /// The file.
        place: String,
        /// The reason.
        source: Box<redb::Error>,
    },
    /// It is not as it was written.
    #[error(
        "the store {place} is damaged ({reason}), so nothing in it is believed. Keep a copy of the file and restore it from a \
         backup; without one, move it away, begin an empty one (wavegate-coordinator new-store) and enrol every node anew"
    )]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is not there, though its fleet has been set up.
    #[error(
        "there is no store {place}, though fleet {fleet} has been set up here: it was lost, or its disk is not mounted. Restore \
         it from a backup. Only if there is none: wavegate-coordinator new-store begins an empty one, to which every node \
         has to enrol anew"
    )]
    Lost {
        /// The file.
        place: String,
        /// The fleet of the authority.
        fleet: FleetId,
    },
    /// The folder can't be made.
    #[error("the folder {} cannot be made; look at space and permissions there", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It was closed since the coordinator ends.
    #[error("the coordinator is ending; try again when it is back")]
    Shut,
    /// It has another format.
    #[error(
        "the store {place} has format {found}, this wavegate-coordinator reads format {FORMAT}; \
         run the version that wrote it"
    )]
    Format {
        /// The file.
        place: String,
        /// Its format.
        found: u64,
    },
    /// It is another fleet's.
    #[error(
        "the store {place} is fleet {found}'s, the certificate authority beside it is fleet {expected}'s; give each fleet a state_directory of its own"
    )]
    OtherFleet {
        /// The file.
        place: String,
        /// The fleet in the store.
        found: String,
        /// The fleet of the authority.
        expected: FleetId,
    },
    /// A record can't be read.
    #[error(
        "a record of {table} in the store cannot be read; restore the store from a backup, or run the version that wrote it"
    )]
    Record {
        /// The table.
        table: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// The log is not where the writer thinks it is.
    #[error("the log of {rollout} ends at event {found}, not at {expected} as expected")]
    Conflict {
        /// The rollout.
        rollout: RolloutId,
        /// What the writer expected.
        expected: u64,
        /// Where it ends.
        found: u64,
    },
    /// A coordinator that was started later owns the store.
    #[error("a coordinator of generation {found} has taken over from this one ({ours}); stop this one")]
    Fenced {
        /// The writer's.
        ours: Generation,
        /// The one stored.
        found: Generation,
    },
    /// An id that no rollout can have.
    #[error("'{0}' is not a rollout: rollouts are named r1, r2, ... (wavegate status)")]
    NoRolloutId(RolloutId),
}

impl StoreError {
    /// Whether the next one who opens the store meets the same, until a person has done something.
    #[must_use]
    pub const fn stays(&self) -> bool {
        match self {
            Self::Damaged { .. }
            | Self::Format { .. }
            | Self::OtherFleet { .. }
            | Self::Record { .. }
            | Self::Lost { .. } => true,
            Self::InUse { .. }
            | Self::Unusable { .. }
            | Self::Folder { .. }
            | Self::Shut
            | Self::Conflict { .. }
            | Self::Fenced { .. }
            | Self::NoRolloutId(_) => false,
        }
    }
}

/// The number in a rollout's id: `r12` is 12.
///
/// # Errors
/// [`StoreError::NoRolloutId`].
pub fn rollout_number(id: &RolloutId) -> Result<u64, StoreError> {
    let digits = id.as_str().strip_prefix('r').filter(|digits| !digits.starts_with(['0', '+']));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| StoreError::NoRolloutId(id.clone()))
}

/// The id of the rollout with this number.
#[must_use]
pub fn rollout_id(number: u64) -> RolloutId {
    RolloutId::new(format!("r{number}")).unwrap_or_else(|_| unreachable!("r and digits are a name"))
}
