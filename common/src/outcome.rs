//! What came of a step, or would come of it: the evidence that operators read.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing on a node that changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Change {
    /// A package: `from` is `None` when it was not installed, `to` is `None` when it is removed.
    Package {
        /// The package's name.
        name: String,
        /// Version before.
        from: Option<String>,
        /// Version after.
        to: Option<String>,
    },
    /// The version that a service runs, whatever its packages say.
    Version {
        /// What it is of, e.g. `etcd`.
        of: String,
        /// Version before.
        from: Option<String>,
        /// Version after.
        to: String,
    },
    /// A service.
    Service {
        /// The service, without `.service`.
        unit: String,
        /// What happened, e.g. `restarted, process 123 -> 456`.
        what: String,
    },
    /// A process that is ended.
    Process {
        /// Its id.
        pid: u32,
        /// Its program.
        program: String,
        /// Why, e.g. `its executable /usr/sbin/dnsmasq was replaced`.
        why: String,
    },
    /// A file.
    File {
        /// Its path.
        path: String,
        /// What happened to it.
        what: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { name, from, to } => {
                let side = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".to_owned());
                write!(f, "{name} {} -> {}", side(from), side(to))
            }
            Self::Version { of, from: Some(from), to } => write!(f, "{of} will run {to}, runs {from}"),
            Self::Version { of, from: None, to } => write!(f, "{of} will run {to}"),
            Self::Service { unit, what } => write!(f, "{unit}: {what}"),
            Self::Process { pid, program, why } => write!(f, "{program} (pid {pid}): {why}"),
            Self::File { path, what } => write!(f, "{path}: {what}"),
        }
    }
}

/// Why a step failed, for people: what happened and what to do next. Node, stage and step are added by whoever reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// What happened, in a line.
    pub what: String,
    /// The last lines of output of the program that failed; empty if none was run.
    #[serde(default)]
    pub output: Vec<String>,
    /// What to do next.
    pub next: String,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for StepError {}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was applied and verified.
    Changed {
        /// What changed, read from the machine before and after.
        changes: Vec<Change>,
        /// Evidence, in a line.
        evidence: String,
    },
    /// The node was already so; nothing was touched.
    AlreadySo {
        /// Evidence, in a line.
        evidence: String,
    },
    /// The plan says not to do it here.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It failed.
    Failed {
        /// Why, and what to do next.
        error: StepError,
    },
}

impl Outcome {
    /// Whether the node was changed by the step.
    #[must_use]
    pub const fn changed(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    /// Why the step failed, if it did.
    #[must_use]
    pub const fn error(&self) -> Option<&StepError> {
        match self {
            Self::Failed { error } => Some(error),
            Self::Changed { .. } | Self::AlreadySo { .. } | Self::Skipped { .. } => None,
        }
    }

    /// The word for tables.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::AlreadySo { .. } => "already so",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// One line for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { changes, evidence } => {
                let changes = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                if changes.is_empty() {
                    write!(f, "changed: {evidence}")
                } else {
                    write!(f, "changed: {changes}")
                }
            }
            Self::AlreadySo { evidence } => write!(f, "already so: {evidence}"),
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
            Self::Failed { error } => write!(f, "failed: {error}"),
        }
    }
}

/// What a step would do, as its check saw it when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "preview", rename_all = "snake_case")]
pub enum Preview {
    /// It would change these.
    WouldChange {
        /// What would change.
        changes: Vec<Change>,
    },
    /// Nothing to do.
    AlreadySo {
        /// Evidence, in a line.
        evidence: String,
    },
    /// Evidence that is gathered after the changes; it says nothing beforehand.
    WouldCheck,
    /// It could not be done as things are.
    Blocked {
        /// Why, and what to do next.
        error: StepError,
    },
}

/// One line for people.
impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldChange { changes } => {
                f.write_str(&changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::AlreadySo { evidence } => write!(f, "already so: {evidence}"),
            Self::WouldCheck => f.write_str("checked afterwards"),
            Self::Blocked { error } => write!(f, "blocked: {error}"),
        }
    }
}
