//! What servers of a fake cluster answer. A machine reaches its own server on the loopback addresses, and members by their
//! client URLs.

use super::super::{FakeHost, FakeMachine, When, sha256};
use super::{FakeCluster, FakeMember, Place, settle, v2};
use crate::host::etcd::{
    Endpoint, Etcd, EtcdError, Got, Member, Members, Running, Snapshot, Status, V2Answer, V2Call,
};
use std::path::Path;
use std::time::Duration;
use wavegate_common::etcd::{Alarm, EtcdVersion, MemberId};

/// The first version with the version 3 API, and the first with the call that moves leadership.
const V3: (u32, u32) = (3, 0);
const MOVES_LEADER: (u32, u32) = (3, 3);
/// The first version that tells what it has applied, and that does not serve version 2 unasked.
const NEW_DEFAULTS: (u32, u32) = (3, 4);

/// A server at a place, as somebody on a machine reaches it.
pub(in crate::host::fake) struct FakeServer<'a> {
    pub(in crate::host::fake) host: &'a FakeHost,
    pub(in crate::host::fake) endpoint: Endpoint,
}

/// Who answers there.
struct Answers {
    member: FakeMember,
    /// Through what, if not the member itself.
    through: Option<Place>,
    deaf: bool,
    enable_v2: bool,
}

impl FakeServer<'_> {
    /// Does something with the cluster, as the server at this address.
    fn ask<T>(
        &self,
        work: impl FnOnce(&mut FakeCluster, &Answers) -> Result<T, EtcdError>,
    ) -> Result<T, EtcdError> {
        let mut machine = self.host.machine();
        machine.now.0 += 1;
        settle(&mut machine, false);
        let Some(seat) = &machine.etcd else { return Err(self.unreachable()) };
        let mut cluster = seat.cluster();
        cluster.asked();
        let answers = self.answers(&machine, &cluster)?;
        work(&mut cluster, &answers)
    }

    fn answers(&self, machine: &FakeMachine, cluster: &FakeCluster) -> Result<Answers, EtcdError> {
        let seat = machine.etcd.as_ref().ok_or_else(|| self.unreachable())?;
        let url = self.endpoint.url.trim_end_matches('/');
        let (_, place) = url.split_once("://").unwrap_or(("", url));
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        let member = |id: MemberId| cluster.members.iter().find(|member| member.id == id && member.up);
        let here = |member: &FakeMember, through| Answers {
            member: member.clone(),
            through,
            deaf: seat.deaf,
            enable_v2: seat.enable_v2,
        };
        if !["127.0.0.1", "localhost", "[::1]"].contains(&host) {
            let found = cluster.members.iter().find(|member| member.client_url == url && member.up);
            return found
                .map(|member| Answers { deaf: false, ..here(member, None) })
                .ok_or_else(|| self.unreachable());
        }
        let runs = machine.services.get(&seat.unit).is_some_and(|service| service.active);
        let answering = match seat.place {
            Place::Member(id) => member(id).map(|member| here(member, None)),
            Place::Proxy | Place::Gateway => {
                cluster.members.iter().find(|member| member.up).map(|member| here(member, Some(seat.place)))
            }
            Place::Client => None,
        };
        answering.filter(|_| runs).ok_or_else(|| self.unreachable())
    }

    fn unreachable(&self) -> EtcdError {
        EtcdError::Unreachable { url: self.endpoint.url.clone(), reason: "connection refused".to_owned() }
    }

    fn refused(&self, reason: &str) -> EtcdError {
        EtcdError::Refused { url: self.endpoint.url.clone(), reason: reason.to_owned() }
    }

    /// By the version 3 API, which a server of version 2 and its proxy do not have, and which none serves whose cluster still
    /// speaks version 2.
    fn v3<T>(
        &self,
        work: impl FnOnce(&mut FakeCluster, &FakeMember) -> Result<T, EtcdError>,
    ) -> Result<T, EtcdError> {
        self.ask(|cluster, answers| {
            let why = if answers.member.version.line() < V3 || answers.through == Some(Place::Proxy) {
                "no version 3 API there"
            } else if cluster.version.line() < V3 {
                "etcdserver: not capable"
            } else {
                return work(cluster, &answers.member);
            };
            Err(EtcdError::Unsupported { url: self.endpoint.url.clone(), reason: why.to_owned() })
        })
    }

    /// What needs a quorum.
    fn agreed<T>(
        &self,
        work: impl FnOnce(&mut FakeCluster, &FakeMember) -> Result<T, EtcdError>,
    ) -> Result<T, EtcdError> {
        self.v3(|cluster, member| {
            if !cluster.has_quorum() {
                return Err(self.refused("etcdserver: no leader"));
            }
            work(cluster, member)
        })
    }

    /// Something that is done to the cluster: it is in the machine's history, and faults may wait for it.
    fn does<T>(&self, line: &str, work: impl FnOnce() -> Result<T, EtcdError>) -> Result<T, EtcdError> {
        self.host.die_if(line, When::Before);
        self.host.machine().history.push(line.to_owned());
        let done = work();
        self.host.die_if(line, When::After);
        done
    }
}

impl Etcd for FakeServer<'_> {
    fn version(&self) -> Result<Running, EtcdError> {
        self.ask(|cluster, answers| {
            Ok(Running { server: answers.member.version, cluster: Some(cluster.version) })
        })
    }

    fn health(&self) -> Result<(), EtcdError> {
        self.ask(
            |cluster, answers| {
                if cluster.is_well(&answers.member) { Ok(()) } else { Err(self.refused("health is false")) }
            },
        )
    }

    fn status(&self) -> Result<Status, EtcdError> {
        self.v3(|cluster, member| {
            let index = cluster.index_of(member.id);
            Ok(Status {
                cluster: cluster.id,
                member: member.id,
                leader: cluster.leader,
                term: cluster.term,
                index,
                applied: (member.version.line() >= NEW_DEFAULTS).then_some(index),
                db_bytes: 20_480,
                version: member.version,
                errors: Vec::new(),
            })
        })
    }

    fn members(&self) -> Result<Members, EtcdError> {
        self.v3(|cluster, _| {
            let listed = |member: &FakeMember| Member {
                id: member.id,
                name: member.name.clone(),
                peer_urls: vec![member.peer_url.clone()],
                client_urls: vec![member.client_url.clone()],
                learner: false,
            };
            Ok(Members { cluster: cluster.id, members: cluster.members.iter().map(listed).collect() })
        })
    }

    fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.v3(|cluster, _| Ok(cluster.alarms.clone()))
    }

    fn auth(&self) -> Result<bool, EtcdError> {
        self.v3(|cluster, _| Ok(cluster.auth))
    }

    fn count(&self) -> Result<u64, EtcdError> {
        self.v3(|cluster, _| Ok(cluster.keys.len() as u64))
    }

    fn move_leader(&self, to: MemberId) -> Result<(), EtcdError> {
        self.does(&format!("etcd move-leader {to}"), || {
            self.agreed(|cluster, member| {
                if member.version.line() < MOVES_LEADER {
                    let (url, reason) = (self.endpoint.url.clone(), "unknown method MoveLeader".to_owned());
                    return Err(EtcdError::Unsupported { url, reason });
                }
                if cluster.leader != Some(member.id) {
                    return Err(self.refused("etcdserver: not leader"));
                }
                if cluster.hand_over(to) {
                    return Ok(());
                }
                Err(self.refused("etcdserver: bad leader transferee"))
            })
        })
    }

    fn snapshot(&self, to: &Path) -> Result<Snapshot, EtcdError> {
        self.does(&format!("etcd snapshot {}", to.display()), || {
            let content = self.v3(|cluster, _| Ok(serde_json::to_vec(&cluster.keys).unwrap_or_default()))?;
            let mut machine = self.host.machine();
            if machine.free_bytes < content.len() as u64 {
                let what = format!("cannot write {}: No space left on device", to.display());
                return Err(EtcdError::Unusable { what });
            }
            let taken = Snapshot { bytes: content.len() as u64, sha256: sha256(&content) };
            machine.put_file(to, content);
            Ok(taken)
        })
    }

    fn get(&self, key: &str) -> Result<Got, EtcdError> {
        self.agreed(|cluster, _| Ok(Got { cluster: cluster.id, value: cluster.keys.get(key).cloned() }))
    }

    fn put(&self, key: &str, value: &str, _: Duration) -> Result<u64, EtcdError> {
        self.does(&format!("etcd put {key}"), || {
            self.agreed(|cluster, _| {
                if cluster.alarms.iter().any(|alarm| alarm.kind == "NOSPACE") {
                    return Err(self.refused("etcdserver: mvcc: database space exceeded"));
                }
                cluster.keys.insert(key.to_owned(), value.to_owned());
                Ok(cluster.write(key, value))
            })
        })
    }

    fn delete(&self, key: &str) -> Result<(), EtcdError> {
        self.does(&format!("etcd delete {key}"), || {
            self.agreed(|cluster, _| {
                cluster.keys.remove(key);
                cluster.index += 1;
                Ok(())
            })
        })
    }

    fn watch(&self, key: &str, from: u64) -> Result<String, EtcdError> {
        self.ask(|cluster, answers| {
            let came = v2::written(cluster, key, from).filter(|_| !answers.deaf);
            came.ok_or_else(|| {
                self.refused(&format!("nothing came within {} s", self.endpoint.timeout.as_secs()))
            })
        })
    }

    fn v2(&self, call: &V2Call) -> Result<V2Answer, EtcdError> {
        let work = || {
            self.ask(|cluster, answers| {
                let served = serves_v2(answers.member.version, answers.enable_v2);
                Ok(v2::answer(cluster, &answers.member, served, answers.deaf, call))
            })
        };
        if call.method == "GET" {
            return work();
        }
        self.does(&format!("etcd {} {}", call.method, call.path), work)
    }
}

fn serves_v2(version: EtcdVersion, enabled: bool) -> bool {
    version.line() < NEW_DEFAULTS || (enabled && version.line() < (3, 6))
}
