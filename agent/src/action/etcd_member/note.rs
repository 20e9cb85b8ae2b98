//! What is noted of an etcd that is stopped for an upgrade, before it is stopped: that it is down because of us, and who the
//! member was, so that whoever comes after a crash can tell it from one that lost its data.

use crate::action::{Context, failed};
use serde::{Deserialize, Serialize};
use wavegate_common::etcd::{ClusterId, MemberId, Part};
use wavegate_common::outcome::StepError;

/// An etcd that is stopped by us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The rollout that stopped it.
    pub rollout: String,
    /// Whether it was started again since.
    #[serde(default)]
    pub started: bool,
    /// How its service was configured to run it.
    #[serde(default)]
    pub was: Option<Configured>,
    /// The member, of one that is a member.
    #[serde(default)]
    pub member: Option<Member>,
}

/// How a service runs etcd by its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// In which part.
    pub part: Part,
    /// Under which name.
    pub name: String,
    /// With its data where; `None` for a gateway, and if the files do not tell.
    pub data_dir: Option<String>,
    /// The directory of its log, where that is not in there.
    #[serde(default)]
    pub wal_dir: Option<String>,
}

/// A member as it was before it was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub id: MemberId,
    /// What people call it.
    pub name: String,
    /// Its data directory.
    pub data_dir: String,
    /// The directory of its log, where that is not in there.
    #[serde(default)]
    pub wal_dir: Option<String>,
    /// Device and inode of `member` in it.
    pub identity: (u64, u64),
    /// The boot in which they were these: another one may number devices otherwise.
    #[serde(default)]
    pub boot: String,
    /// Whether its log was there.
    pub wal: bool,
    /// The last entry of the raft log that it knew.
    pub index: u64,
}

impl Note {
    /// What is noted of a service; `None` if nothing is.
    ///
    /// # Errors
    /// [`StepError`] if the note can't be read.
    pub fn of(unit: &str, cx: &Context<'_>) -> Result<Option<Self>, StepError> {
        let next = "see why the notes in the agent's state directory can't be read, then retry";
        let Some(text) = cx.host.note(&name(unit)).map_err(|error| failed(&error, next))? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|error| failed(&error, next))
    }

    /// Notes it.
    ///
    /// # Errors
    /// [`StepError`] if the note can't be written.
    pub fn write(&self, unit: &str, cx: &Context<'_>) -> Result<(), StepError> {
        let next = "make room in the agent's state directory, then retry";
        let text = serde_json::to_string(self).map_err(|error| failed(&error, next))?;
        cx.host.set_note(&name(unit), Some(&text)).map_err(|error| failed(&error, next))
    }

    /// Takes the note away.
    ///
    /// # Errors
    /// [`StepError`] if it can't be removed.
    pub fn forget(unit: &str, cx: &Context<'_>) -> Result<(), StepError> {
        let next = "see that the agent's state directory can be written, then retry";
        cx.host.set_note(&name(unit), None).map_err(|error| failed(&error, next))
    }

    /// Whether a service that is down is so because of us: one that was started again, and that somebody stopped since, is only
    /// as long as the rollout is at it.
    #[must_use]
    pub fn explains_down(&self, cx: &Context<'_>) -> bool {
        !self.started || self.rollout == rollout(cx)
    }

    /// Whether this rollout made it.
    #[must_use]
    pub fn is_ours(&self, cx: &Context<'_>) -> bool {
        self.rollout == rollout(cx)
    }
}

/// The rollout that a step belongs to: transactions are called after it first.
#[must_use]
pub fn rollout(cx: &Context<'_>) -> String {
    cx.transaction.split([':', '/']).next().unwrap_or_default().to_owned()
}

/// Of the service alone: a step that is tried after another one failed must know of it too.
fn name(unit: &str) -> String {
    format!("etcd.member:{unit}")
}
