//! What is known of an etcd cluster and of a node's part in it, as etcd itself tells it. What follows from that for an
//! upgrade is judged in the files beside; who asks etcd is the agent.

mod calico;
pub mod clients;
pub mod fleet;
pub mod health;
pub mod path;
#[cfg(test)]
pub(crate) mod sample;
pub mod told;
pub mod version;

pub use calico::Calico;
pub use clients::{judge_clients, leaves_v2_keys};
pub use health::{Unfit, unfit, unwell};
pub use path::{Objection, Rule, judge};
pub use version::{EtcdVersion, NoVersion};

use crate::platform::{Role, words};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

words!(
    /// Which part etcd plays on a node.
    Part, "part in etcd" {
        /// A member of the cluster: it has data and a vote.
        Member = "member",
        /// `etcd --proxy`: passes the version 2 API on; gone in 3.6.
        Proxy = "proxy",
        /// `etcd gateway`: passes connections on.
        Gateway = "gateway",
        /// No etcd here: Calico's software asks one elsewhere.
        Client = "client",
    }
);

impl Part {
    /// What a node is for that has this part.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Member => Role::EtcdMember,
            Self::Proxy => Role::EtcdProxy,
            Self::Gateway => Role::EtcdGateway,
            Self::Client => Role::EtcdClient,
        }
    }
}

/// Why a text is not an id of etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id of etcd's: up to 16 hexadecimal digits")]
pub struct BadEtcdId(String);

macro_rules! etcd_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u64);

        /// As etcd's own programs print it: hexadecimal, without zeros before it.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadEtcdId;
            fn from_str(text: &str) -> Result<Self, BadEtcdId> {
                let digits = !text.is_empty() && text.len() <= 16 && text.chars().all(|c| c.is_ascii_hexdigit());
                let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
                number.map(Self).ok_or_else(|| BadEtcdId(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadEtcdId;
            fn try_from(text: String) -> Result<Self, BadEtcdId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

etcd_id!(
    /// A cluster, by the id that it drew from its first members.
    ClusterId
);
etcd_id!(
    /// A member of a cluster.
    MemberId
);

/// What one member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The version that it runs.
    pub version: EtcdVersion,
    /// Its raft term. 0 from a member that has the version 2 API alone, which does not tell.
    #[serde(default)]
    pub term: u64,
    /// The last entry of its raft log that it knows to be committed; of version 2, the index of its store.
    pub index: u64,
    /// The last entry that it has applied; told from 3.4 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// The leader, as this member knows it; `None` if it knows none.
    pub leader: Option<MemberId>,
    /// Size of its database in bytes; 0 where it does not tell.
    #[serde(default)]
    pub db_bytes: u64,
    /// Whether it answers that it is healthy (`GET /health`).
    pub healthy: bool,
    /// Errors that it tells of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// Where a member is, as somebody who asked it found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum MemberState {
    /// It answered.
    Up(MemberStatus),
    /// It did not.
    Down {
        /// Why, e.g. `connection refused`.
        why: String,
    },
}

/// A member, as the cluster lists it and as it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty for one that never started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it, as it says.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet (from 3.4).
    #[serde(default)]
    pub learner: bool,
    /// Where it is.
    #[serde(flatten)]
    pub state: MemberState,
}

impl MemberView {
    /// What it says of itself, if it answered.
    #[must_use]
    pub const fn status(&self) -> Option<&MemberStatus> {
        match &self.state {
            MemberState::Up(status) => Some(status),
            MemberState::Down { .. } => None,
        }
    }

    /// What people call it: its name, or its id where it has none.
    #[must_use]
    pub fn called(&self) -> String {
        if self.name.is_empty() { format!("member {}", self.id) } else { self.name.clone() }
    }
}

/// An alarm that the cluster raised and nobody disarmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The member it is about.
    pub member: MemberId,
    /// Its kind as etcd writes it: `NOSPACE`, `CORRUPT`.
    pub kind: String,
}

/// A cluster, as its members tell it when each is asked by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Its id.
    pub id: ClusterId,
    /// The version that all members speak with each other: the lowest of theirs, without a patch number.
    pub version: Option<EtcdVersion>,
    /// Its members, by id.
    pub members: Vec<MemberView>,
    /// Alarms in force; always empty where only the version 2 API is there, which knows none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
    /// Whether it asks for a user and password; `None` if that can't be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<bool>,
    /// Whether keys of the version 2 API are there; `None` if that API is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2_keys: Option<bool>,
    /// How many keys of the version 3 API are there; `None` if that API is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v3_keys: Option<u64>,
}

impl ClusterView {
    /// A member by its id.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&MemberView> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The leader that most members name; `None` if none does.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        let named = || self.members.iter().filter_map(|member| member.status()?.leader);
        named().max_by_key(|candidate| (named().filter(|other| other == candidate).count(), *candidate))
    }
}

/// etcd on a node, and how Calico's software on it reaches one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdFacts {
    /// Which part it plays.
    pub part: Part,
    /// The version that the process here runs; `None` for a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<EtcdVersion>,
    /// The cluster that it is of or leads to; `None` for a client, which nobody asks, and where nothing answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<ClusterId>,
    /// The member that runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// Its data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// The file system that its data directory is on, e.g. `ext4`, `tmpfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_filesystem: Option<String>,
    /// Where it is configured to listen for clients; empty for its version's defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<String>,
    /// Whether it is configured to serve the version 2 API (`--enable-v2`); `None` if it is not configured: it then does
    /// up to 3.3, and from 3.4 on it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_v2: Option<bool>,
    /// Where Calico's software on this node is configured to ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The cluster as its members tell it; found out on members alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterView>,
    /// What could not be found out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl EtcdFacts {
    /// The same without what changes all the time while nothing happens: how far raft's log and the data have grown.
    #[must_use]
    pub fn without_growth(mut self) -> Self {
        if let Some(view) = &mut self.cluster {
            // Whether there are any keys of version 3 counts, and not how many.
            view.v3_keys = view.v3_keys.map(|count| count.min(1));
            for member in &mut view.members {
                if let MemberState::Up(status) = &mut member.state {
                    (status.index, status.applied, status.db_bytes) = (0, None, 0);
                }
            }
        }
        self
    }

    /// A node of which nothing but its part is known.
    #[must_use]
    pub const fn of(part: Part) -> Self {
        Self {
            part,
            version: None,
            cluster_id: None,
            member: None,
            data_dir: None,
            data_filesystem: None,
            listens: Vec::new(),
            enable_v2: None,
            endpoints: Vec::new(),
            cluster: None,
            unknown: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_etcd_writes_them() {
        let id: MemberId = "8e9e05c52164694d".parse().expect("an id");
        assert_eq!(id.0, 0x8e9e_05c5_2164_694d);
        assert_eq!(serde_json::to_string(&id).expect("json"), "\"8e9e05c52164694d\"");
        for bad in ["", "x", "8e9e05c52164694d0", "+1", "-1", " 1"] {
            assert!(bad.parse::<MemberId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_leader_is_the_one_that_most_name() {
        let view = |leaders: [Option<u64>; 3]| {
            let mut view = sample::cluster(3);
            for (member, leader) in view.members.iter_mut().zip(leaders) {
                sample::status(member).leader = leader.map(MemberId);
            }
            view
        };
        assert_eq!(view([Some(2), Some(2), Some(3)]).leader(), Some(MemberId(2)));
        assert_eq!(view([Some(2), None, None]).leader(), Some(MemberId(2)));
        assert_eq!(view([None, None, None]).leader(), None);
        let text = serde_json::to_string(&view([Some(1), None, Some(3)])).expect("json");
        assert_eq!(
            serde_json::from_str::<ClusterView>(&text).expect("a view"),
            view([Some(1), None, Some(3)])
        );
    }
}
