//! The door to etcd: one server, asked by itself. `real` asks over the network, `fake` has a cluster in memory.
//!
//! Every call asks the server at its one address and no other: what a proxy or a balancer says is the cluster's answer, not
//! that of the process that is meant.

use std::path::{Path, PathBuf};
use std::time::Duration;
use wavegate_common::etcd::{Alarm, ClusterId, EtcdVersion, MemberId};

/// Where etcd is asked, and who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// Who asks.
    pub access: Access,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What proves to etcd who asks, and to whoever asks that it is etcd. Files are read when they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The authority that signed the server's certificate, as PEM; the system's where none is named.
    pub ca: Option<PathBuf>,
    /// Certificate and key of whoever asks, as PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// User, and the file that holds the password.
    pub user: Option<(String, PathBuf)>,
}

/// Why etcd did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// Nothing answered there.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why, e.g. `connection refused`.
        reason: String,
    },
    /// It answered that it can't or won't.
    #[error("{url} refuses: {reason}")]
    Refused {
        /// Where.
        url: String,
        /// What it said.
        reason: String,
    },
    /// It is of a version, or configured so, that it does not know the call.
    #[error("{url} does not serve that: {reason}")]
    Unsupported {
        /// Where.
        url: String,
        /// What it said.
        reason: String,
    },
    /// Its answer, or a file that is needed to ask, can't be used.
    #[error("{what}")]
    Unusable {
        /// What is wrong with what.
        what: String,
    },
}

/// What `GET /version` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The version of the process.
    pub server: EtcdVersion,
    /// The version that the cluster speaks; `None` where it is not decided, and from 2.0, which does not tell.
    pub cluster: Option<EtcdVersion>,
}

impl Running {
    /// Whether the version 3 API is served: a server that has it refuses it until the last member of its cluster has it too.
    #[must_use]
    pub fn serves_v3(&self) -> bool {
        self.server.major >= 3 && self.cluster.is_none_or(|cluster| cluster.major >= 3)
    }
}

/// What a member says of itself by the version 3 API (`Maintenance.Status`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// The leader that it knows.
    pub leader: Option<MemberId>,
    /// Its raft term.
    pub term: u64,
    /// The last committed entry of its raft log.
    pub index: u64,
    /// The last applied one; told from 3.4 on.
    pub applied: Option<u64>,
    /// Size of its database in bytes.
    pub db_bytes: u64,
    /// Its version.
    pub version: EtcdVersion,
    /// Errors that it tells of itself.
    pub errors: Vec<String>,
}

/// The members of a cluster by the version 3 API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its members, by id.
    pub members: Vec<Member>,
}

/// A member as its cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty for one that never started.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub learner: bool,
}

/// A key that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The cluster that answered.
    pub cluster: ClusterId,
    /// The value; `None` if there is no such key.
    pub value: Option<String>,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Size of the file in bytes, the digest at its end included.
    pub bytes: u64,
    /// SHA-256 of the database, lower-case hexadecimal: the one that etcd sent after it, which is that of what was written.
    pub sha256: String,
}

/// A call of the version 2 API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V2Call {
    /// `GET`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path and query, e.g. `/v2/keys/calico?recursive=true`.
    pub path: String,
    /// Fields of the form that is sent.
    pub form: Vec<(&'static str, String)>,
}

/// An answer of the version 2 API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V2Answer {
    /// Status code.
    pub status: u16,
    /// `X-Etcd-Cluster-Id`.
    pub cluster: Option<ClusterId>,
    /// `X-Raft-Index`, which comes with keys: the last entry of its raft log that the server has applied.
    pub raft_index: Option<u64>,
    /// `X-Raft-Term`, which comes with keys.
    pub raft_term: Option<u64>,
    /// The body, at most 256 MiB of it.
    pub body: String,
}

/// One server of etcd.
pub trait Etcd {
    /// `GET /version`.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn version(&self) -> Result<Running, EtcdError>;

    /// `GET /health`.
    ///
    /// # Errors
    /// [`EtcdError::Refused`] if it says that it is not healthy; else [`EtcdError`].
    fn health(&self) -> Result<(), EtcdError>;

    /// What the member says of itself, by the version 3 API.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn status(&self) -> Result<Status, EtcdError>;

    /// The members of its cluster, by the version 3 API.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn members(&self) -> Result<Members, EtcdError>;

    /// Alarms in force.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn alarms(&self) -> Result<Vec<Alarm>, EtcdError>;

    /// Whether users and passwords are asked for.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn auth(&self) -> Result<bool, EtcdError>;

    /// How many keys of the version 3 API there are.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn count(&self) -> Result<u64, EtcdError>;

    /// Makes another member the leader; only the leader itself can be asked.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn move_leader(&self, to: MemberId) -> Result<(), EtcdError>;

    /// Writes a snapshot of the version 3 API's data to a new file, readable by root alone, in a directory that is made if need be.
    /// What was written is compared with the digest that etcd sends after it, and is on the disk.
    ///
    /// # Errors
    /// [`EtcdError`]; no file of that name is then there.
    fn snapshot(&self, to: &Path) -> Result<Snapshot, EtcdError>;

    /// Reads a key, linearizably.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn get(&self, key: &str) -> Result<Got, EtcdError>;

    /// Writes a key that goes away after a while; returns the revision of the write.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<u64, EtcdError>;

    /// Takes a key away.
    ///
    /// # Errors
    /// [`EtcdError`].
    fn delete(&self, key: &str) -> Result<(), EtcdError>;

    /// Watches a key from a revision on, and returns the first value that was written to it.
    ///
    /// # Errors
    /// [`EtcdError`]; [`EtcdError::Refused`] if none came in time.
    fn watch(&self, key: &str, from: u64) -> Result<String, EtcdError>;

    /// A call of the version 2 API.
    ///
    /// # Errors
    /// [`EtcdError::Unreachable`] if no answer came; an answer of any status is not an error.
    fn v2(&self, call: &V2Call) -> Result<V2Answer, EtcdError>;
}

/// A place where nothing listens: every call is refused.
#[derive(Debug, Clone)]
pub struct Silent(pub Endpoint);

impl Silent {
    fn no<T>(&self) -> Result<T, EtcdError> {
        Err(EtcdError::Unreachable { url: self.0.url.clone(), reason: "connection refused".to_owned() })
    }
}

impl Etcd for Silent {
    fn version(&self) -> Result<Running, EtcdError> {
        self.no()
    }
    fn health(&self) -> Result<(), EtcdError> {
        self.no()
    }
    fn status(&self) -> Result<Status, EtcdError> {
        self.no()
    }
    fn members(&self) -> Result<Members, EtcdError> {
        self.no()
    }
    fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.no()
    }
    fn auth(&self) -> Result<bool, EtcdError> {
        self.no()
    }
    fn count(&self) -> Result<u64, EtcdError> {
        self.no()
    }
    fn move_leader(&self, _: MemberId) -> Result<(), EtcdError> {
        self.no()
    }
    fn snapshot(&self, _: &Path) -> Result<Snapshot, EtcdError> {
        self.no()
    }
    fn get(&self, _: &str) -> Result<Got, EtcdError> {
        self.no()
    }
    fn put(&self, _: &str, _: &str, _: Duration) -> Result<u64, EtcdError> {
        self.no()
    }
    fn delete(&self, _: &str) -> Result<(), EtcdError> {
        self.no()
    }
    fn watch(&self, _: &str, _: u64) -> Result<String, EtcdError> {
        self.no()
    }
    fn v2(&self, _: &V2Call) -> Result<V2Answer, EtcdError> {
        self.no()
    }
}
