//! One server of etcd over the network: version 3 by gRPC, version 2, `/version` and `/health` by HTTP.
//!
//! What the servers' answers amount to is judged elsewhere.

mod access;
mod grpc;
mod http;
mod snapshot;

use crate::host::etcd::{
    Endpoint, Etcd, EtcdError, Got, Member, Members, Running, Snapshot, Status, V2Answer, V2Call,
};
use etcd_client::{AlarmAction, AlarmType, Error, EventType, GetOptions, PutOptions, WatchOptions};
use std::path::Path;
use std::time::Duration;
use wavegate_common::etcd::{Alarm, ClusterId, MemberId};

/// One server of etcd.
#[derive(Debug)]
pub(super) struct Server(pub(super) Endpoint);

impl Server {
    fn unusable(&self, what: &str) -> EtcdError {
        EtcdError::Unusable { what: format!("the answer of {} can't be used: {what}", self.0.url) }
    }

    fn refused(&self, reason: impl ToString) -> EtcdError {
        EtcdError::Refused { url: self.0.url.clone(), reason: reason.to_string() }
    }

    fn cluster(&self, header: Option<&etcd_client::ResponseHeader>) -> Result<ClusterId, EtcdError> {
        let header = header.ok_or_else(|| self.unusable("it has no header"))?;
        Ok(ClusterId(header.cluster_id()))
    }

    fn text(&self, value: &[u8]) -> Result<String, EtcdError> {
        let text = std::str::from_utf8(value).map_err(|_| self.unusable("the value is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

/// Why a watch was ended. Some versions give no words for what was compacted.
fn ended(answer: &etcd_client::WatchResponse) -> String {
    match (answer.compact_revision(), answer.cancel_reason()) {
        (0, reason) => format!("it ended the watch: {reason}"),
        (revision, _) => format!("it ended the watch: what was before revision {revision} is compacted"),
    }
}

impl Etcd for Server {
    fn version(&self) -> Result<Running, EtcdError> {
        http::version(&self.0)
    }

    fn health(&self) -> Result<(), EtcdError> {
        http::health(&self.0)
    }

    fn status(&self) -> Result<Status, EtcdError> {
        let answer = grpc::ask(&self.0, async |client| client.status().await)?;
        let header = answer.header().ok_or_else(|| self.unusable("it has no header"))?;
        let version = answer.version().parse().map_err(|error| self.unusable(&format!("{error}")))?;
        Ok(Status {
            cluster: ClusterId(header.cluster_id()),
            member: MemberId(header.member_id()),
            // Nobody is 0.
            leader: Some(answer.leader()).filter(|id| *id != 0).map(MemberId),
            term: answer.raft_term(),
            index: answer.raft_index(),
            // Servers before 3.4 don't send it, which reads as 0; nothing has applied nothing.
            applied: Some(answer.raft_applied_index()).filter(|index| *index != 0),
            db_bytes: u64::try_from(answer.db_size()).unwrap_or_default(),
            version,
            errors: answer.errors().to_vec(),
        })
    }

    fn members(&self) -> Result<Members, EtcdError> {
        let answer = grpc::ask(&self.0, async |client| client.member_list().await)?;
        let member = |member: &etcd_client::Member| Member {
            id: MemberId(member.id()),
            name: member.name().to_owned(),
            peer_urls: member.peer_urls().to_vec(),
            client_urls: member.client_urls().to_vec(),
            learner: member.is_learner(),
        };
        let mut members: Vec<Member> = answer.members().iter().map(member).collect();
        members.sort_by_key(|member| member.id);
        Ok(Members { cluster: self.cluster(answer.header())?, members })
    }

    fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        let all = async |client: &mut etcd_client::Client| {
            client.alarm(AlarmAction::Get, AlarmType::None, None).await
        };
        let answer = grpc::ask(&self.0, all)?;
        let alarm = |alarm: &etcd_client::AlarmMember| Alarm {
            member: MemberId(alarm.member_id()),
            kind: alarm.alarm().as_str_name().to_owned(),
        };
        Ok(answer.alarms().iter().map(alarm).collect())
    }

    fn auth(&self) -> Result<bool, EtcdError> {
        grpc::auth(&self.0)
    }

    fn count(&self) -> Result<u64, EtcdError> {
        // Of this member's own store: a cluster without a quorum has keys too.
        let all = GetOptions::new().with_all_keys().with_count_only().with_serializable();
        let answer = grpc::ask(&self.0, async |client| client.get("", Some(all)).await)?;
        Ok(u64::try_from(answer.count()).unwrap_or_default())
    }

    fn move_leader(&self, to: MemberId) -> Result<(), EtcdError> {
        grpc::ask(&self.0, async |client| client.move_leader(to.0).await).map(|_| ())
    }

    fn snapshot(&self, to: &Path) -> Result<Snapshot, EtcdError> {
        snapshot::save(&self.0, to)
    }

    fn get(&self, key: &str) -> Result<Got, EtcdError> {
        let answer = grpc::ask(&self.0, async |client| client.get(key, None).await)?;
        let value = answer.kvs().first().map(|pair| self.text(pair.value())).transpose()?;
        Ok(Got { cluster: self.cluster(answer.header())?, value })
    }

    fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<u64, EtcdError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let answer = grpc::ask(&self.0, async |client| {
            let lease = client.lease_grant(seconds, None).await?;
            client.put(key, value, Some(PutOptions::new().with_lease(lease.id()))).await
        })?;
        let header = answer.header().ok_or_else(|| self.unusable("it has no header"))?;
        u64::try_from(header.revision()).map_err(|_| self.unusable("its revision is negative"))
    }

    fn delete(&self, key: &str) -> Result<(), EtcdError> {
        grpc::ask(&self.0, async |client| client.delete(key, None).await).map(|_| ())
    }

    fn watch(&self, key: &str, from: u64) -> Result<String, EtcdError> {
        let revision = i64::try_from(from).unwrap_or(i64::MAX);
        let value = grpc::talk(&self.0, async |mut client, until| {
            let first = async {
                let options = WatchOptions::new().with_start_revision(revision);
                let mut stream = client.watch(key, Some(options)).await?;
                while let Some(answer) = stream.message().await? {
                    if answer.canceled() {
                        return Ok(Err(self.refused(ended(&answer))));
                    }
                    let put = answer.events().iter().find(|event| event.event_type() == EventType::Put);
                    if let Some(pair) = put.and_then(etcd_client::Event::kv) {
                        return Ok(Ok(pair.value().to_vec()));
                    }
                }
                Ok::<_, Error>(Err(self.refused("it ended the watch")))
            };
            match tokio::time::timeout_at(until, first).await {
                Ok(value) => value.map_err(|error| grpc::told(&self.0, &error))?,
                Err(_) => {
                    let waited = self.0.timeout.as_secs_f64();
                    let reason =
                        format!("a watch of {key} from revision {from} brought nothing within {waited:.0} s");
                    Err(self.refused(reason))
                }
            }
        })?;
        self.text(&value)
    }

    fn v2(&self, call: &V2Call) -> Result<V2Answer, EtcdError> {
        http::v2(&self.0, call)
    }
}
