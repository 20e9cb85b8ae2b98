//! etcd of fake machines: a cluster in memory, shared by the machines of its members. How a machine takes part in it is in
//! `etcd/seat`, what its servers answer in `etcd/door` and `etcd/v2`, its command line program in `etcd/etcdctl`.
//!
//! It behaves as etcd does in what matters to an upgrade: without a quorum there is no leader; the lowest id of those that run
//! wins an election; the cluster speaks the lowest version of its members once all are there, and never an older one again.
//! Nothing in it is random and it has no clock of its own: who asks, makes time pass.

mod door;
mod etcdctl;
mod seat;
mod v2;

pub(super) use door::FakeServer;
pub(super) use etcdctl::run;
pub use seat::{Place, Seat, WhenEmpty, join};
pub(super) use seat::{powerless, settle};

use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::etcd::{Alarm, ClusterId, EtcdVersion, MemberId};

/// A cluster. Everything is public: tests set it up and look at it.
#[derive(Debug, Clone)]
pub struct FakeCluster {
    /// Its id.
    pub id: ClusterId,
    /// Its members, by id.
    pub members: Vec<FakeMember>,
    /// Who leads; `None` without a quorum.
    pub leader: Option<MemberId>,
    /// The raft term: it grows with every election.
    pub term: u64,
    /// The last committed entry.
    pub index: u64,
    /// The version that it speaks.
    pub version: EtcdVersion,
    /// Alarms in force.
    pub alarms: Vec<Alarm>,
    /// Whether it asks for users and passwords.
    pub auth: bool,
    /// Keys of the version 3 API.
    pub keys: BTreeMap<String, String>,
    /// Keys of the version 2 API.
    pub v2_keys: BTreeMap<String, String>,
    /// Directories of the version 2 API: they stay when what is in them goes.
    pub v2_dirs: BTreeSet<String>,
    /// Every write of either API: its revision (of version 3) or index (of version 2), the key and the value.
    pub writes: Vec<(u64, String, String)>,
    /// What happens by itself, after so many more requests.
    pub to_come: Vec<(u64, Happening)>,
    /// How many requests came.
    pub requests: u64,
    /// Who was stopped by the service manager of its machine, and who was down already then.
    pub stops: Vec<Stopped>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeMember {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// Whether it runs.
    pub up: bool,
    /// The version that it runs, or ran last.
    pub version: EtcdVersion,
    /// Whether it says of itself that it is well.
    pub well: bool,
    /// The entry that it is at, while it is behind, and how many times it is asked for that until it has caught up.
    pub behind: Option<(u64, u32)>,
    /// How many times it is asked after a start until it has caught up.
    pub catches_up_after: u32,
}

/// A member that the service manager of its machine stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its name.
    pub member: String,
    /// Members that were down at that moment.
    pub beside: Vec<String>,
    /// Whether it was the leader.
    pub led: bool,
    /// How many requests had come by then.
    pub requests: u64,
}

/// Something that happens in a cluster by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A member dies.
    Dies(MemberId),
    /// A member comes back.
    Returns(MemberId),
    /// A member wins an election.
    Leads(MemberId),
}

impl FakeCluster {
    /// A cluster of healthy members of these names, the first of which leads. None has a machine yet.
    #[must_use]
    pub fn new(names: &[&str], version: EtcdVersion) -> Self {
        let member = |(at, name): (usize, &&str)| {
            let number = at + 1;
            FakeMember {
                id: MemberId(0xa000 + number as u64),
                name: (*name).to_owned(),
                client_url: format!("http://10.0.0.{number}:2379"),
                peer_url: format!("http://10.0.0.{number}:2380"),
                up: true,
                version,
                well: true,
                behind: None,
                catches_up_after: 0,
            }
        };
        let members: Vec<FakeMember> = names.iter().enumerate().map(member).collect();
        let keys = [("/calico/v1/Ready", "true"), ("/calico/v1/config/LogSeverityScreen", "info")];
        let keys: BTreeMap<String, String> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self {
            id: ClusterId(0xc1),
            leader: members.first().map(|member| member.id),
            members,
            term: 2,
            index: 5000,
            version: EtcdVersion::new(version.major, version.minor, 0),
            alarms: Vec::new(),
            auth: false,
            v2_keys: keys.clone(),
            keys,
            v2_dirs: BTreeSet::from(["/calico", "/calico/v1", "/calico/v1/config"].map(str::to_owned)),
            writes: Vec::new(),
            to_come: Vec::new(),
            requests: 0,
            stops: Vec::new(),
        }
    }

    /// The member of this name.
    ///
    /// # Panics
    /// If there is none: a test names one that it made.
    pub fn named(&mut self, name: &str) -> &mut FakeMember {
        let found = self.members.iter_mut().find(|member| member.name == name);
        found.unwrap_or_else(|| panic!("the cluster has no member {name}"))
    }

    /// The name of the leader.
    #[must_use]
    pub fn leads(&self) -> Option<&str> {
        self.members.iter().find(|member| Some(member.id) == self.leader).map(|member| member.name.as_str())
    }

    /// Members that are down.
    #[must_use]
    pub fn down(&self) -> Vec<String> {
        self.members.iter().filter(|member| !member.up).map(|member| member.name.clone()).collect()
    }

    fn member(&mut self, id: MemberId) -> Option<&mut FakeMember> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    /// Whether enough members run to decide anything.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.members.iter().filter(|member| member.up).count() * 2 > self.members.len()
    }

    /// A request comes: what was to come by now happens.
    fn asked(&mut self) {
        self.requests += 1;
        let due: Vec<Happening> =
            self.to_come.iter().filter(|(after, _)| *after == 0).map(|(_, what)| *what).collect();
        self.to_come.retain(|(after, _)| *after > 0);
        self.to_come.iter_mut().for_each(|(after, _)| *after -= 1);
        for what in due {
            match what {
                Happening::Dies(id) => self.goes_down(id),
                Happening::Returns(id) => {
                    let version = self.version;
                    let version = self.member(id).map_or(version, |member| member.version);
                    self.comes_up(id, version);
                }
                Happening::Leads(id) => {
                    (self.leader, self.term, self.index) = (Some(id), self.term + 1, self.index + 1);
                }
            }
        }
    }

    /// A member is gone.
    pub fn goes_down(&mut self, id: MemberId) {
        let index = self.index;
        if let Some(member) = self.member(id) {
            // What is written without it, it has to catch up with.
            (member.up, member.behind) = (false, Some((index, 0)));
        }
        self.elect();
    }

    /// A member has started and runs this version; `false` if the cluster is too new for it, so that it ends.
    pub fn comes_up(&mut self, id: MemberId, version: EtcdVersion) -> bool {
        if version.line() < self.version.line() {
            return false;
        }
        let index = self.index;
        if let Some(member) = self.member(id) {
            (member.up, member.version) = (true, version);
            let at = member.behind.map_or(index, |(at, _)| at);
            member.behind = (member.catches_up_after > 0).then_some((at, member.catches_up_after));
        }
        self.elect();
        let lowest = self.members.iter().map(|member| member.version).min();
        if let Some(lowest) = lowest.filter(|lowest| lowest.line() > self.version.line())
            && self.members.iter().all(|member| member.up)
        {
            self.version = EtcdVersion::new(lowest.major, lowest.minor, 0);
            self.index += 1;
        }
        true
    }

    fn elect(&mut self) {
        let mut running = self.members.iter().filter(|member| member.up).map(|member| member.id);
        let leader = self.leader.filter(|leader| running.clone().any(|id| id == *leader));
        self.leader = match (self.has_quorum(), leader) {
            (false, _) => None,
            (true, Some(leader)) => Some(leader),
            (true, None) => {
                (self.term, self.index) = (self.term + 1, self.index + 1);
                running.next()
            }
        };
    }

    /// Another member is made the leader.
    fn hand_over(&mut self, to: MemberId) -> bool {
        let runs = self.members.iter().any(|member| member.id == to && member.up);
        if runs {
            (self.leader, self.term, self.index) = (Some(to), self.term + 1, self.index + 1);
        }
        runs
    }

    fn write(&mut self, key: &str, value: &str) -> u64 {
        self.index += 1;
        self.writes.push((self.index, key.to_owned(), value.to_owned()));
        self.index
    }

    /// Where a member is in the log, as it tells when it is asked.
    fn index_of(&mut self, id: MemberId) -> u64 {
        let index = self.index;
        let Some(member) = self.member(id) else { return index };
        let Some((at, left)) = member.behind else { return index };
        member.behind = left.checked_sub(1).filter(|left| *left > 0).map(|left| (at, left));
        at
    }

    fn is_well(&self, member: &FakeMember) -> bool {
        member.up && member.well && self.has_quorum() && self.alarms.is_empty()
    }
}

#[cfg(test)]
mod tests;
