//! Why the engine does not do what it was asked.

use crate::pki::PkiError;
use crate::skew::Skew;
use crate::store::StoreError;
use crate::token::Refusal;
use wavegate_common::id::NodeId;
use wavegate_common::plan::{CompileError, PlanError};
use wavegate_common::rollout::IllegalEvent;

/// Why the engine does not do what it was asked. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It can't be done as things are.
    #[error("{0}")]
    NotNow(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The rollout does not allow it.
    #[error("{what}: {why}; {next}")]
    Illegal {
        /// What was asked.
        what: String,
        /// The reason.
        why: Box<IllegalEvent>,
        /// What to do.
        next: String,
    },
    /// The plan can't be made.
    #[error("no plan can be made")]
    Compile(#[from] CompileError),
    /// A plan is not usable.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A machine may not enrol.
    #[error(transparent)]
    Enrol(#[from] Refusal),
    /// A node's certificate is not the one that it was given last.
    #[error(
        "the certificate of node {node} is not the one that it was given last; if it was just enrolled again: systemctl \
         restart wavegate-agent there; else enrol it again with a token made for it: wavegate token create --node {node}"
    )]
    OldCertificate {
        /// The node.
        node: NodeId,
    },
    /// A node has a certificate of this fleet, and no place in it.
    #[error(
        "node {node} is not in this fleet: it was removed or never enrolled; enrol again with a new token: \
         wavegate token create --node {node}"
    )]
    NotEnrolled {
        /// The node.
        node: NodeId,
    },
    /// A node's agent is of a version that this coordinator does not work with.
    #[error("node {node}: {}; {}", skew.agent(), skew.agent_next(node.as_str()))]
    Skew {
        /// The node.
        node: NodeId,
        /// The versions.
        skew: Skew,
    },
    /// A certificate can't be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The store refuses; nothing was done.
    #[error("nothing was done, since it could not be stored")]
    Store(#[from] StoreError),
    /// The coordinator ends.
    #[error("the coordinator is ending; try again when it is back (systemctl status wavegate-coordinator)")]
    Ending,
}

/// An error with all its causes, in one line.
#[must_use]
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
