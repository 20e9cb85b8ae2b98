//! Recorded answers of etcd 2.x. It was never run here: bodies and headers are put together from etcd's documentation and
//! handlers, as each says. Where 3.3 answers the same, it is asked for real in `tests/suites`.

use super::*;
use crate::host::etcd::{Got, Members, Running, Silent, Snapshot, Status};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use wavegate_common::etcd::Alarm;
use wavegate_common::etcd::health::unfit;

/// Servers by URL, and what each answers by path; one that is not there does not answer.
#[derive(Clone, Default)]
struct Recorded(BTreeMap<String, BTreeMap<String, V2Answer>>);

struct Server {
    silent: Silent,
    answers: Option<BTreeMap<String, V2Answer>>,
}

impl Recorded {
    fn put(&mut self, url: &str, path: &str, status: u16, body: &str) -> &mut V2Answer {
        let answer = V2Answer {
            status,
            cluster: path.starts_with("/v2/members").then_some(ClusterId(0x7e27_6521_22e8_b2ae)),
            body: body.to_owned(),
            ..V2Answer::default()
        };
        let server = self.0.entry(url.to_owned()).or_default();
        server.insert(path.to_owned(), answer);
        server.get_mut(path).expect("just put there")
    }

    fn view(&self, seeds: &[&str]) -> Result<ClusterView, EtcdError> {
        let seeds: Vec<Endpoint> = seeds
            .iter()
            .map(|url| Endpoint {
                url: (*url).to_owned(),
                timeout: Duration::from_secs(1),
                ..Endpoint::default()
            })
            .collect();
        let door = |endpoint: &Endpoint| -> Box<dyn Etcd> {
            let answers = self.0.get(&endpoint.url).cloned();
            Box::new(Server { silent: Silent(endpoint.clone()), answers })
        };
        view_through(&door, &seeds)
    }
}

impl Etcd for Server {
    fn v2(&self, call: &V2Call) -> Result<V2Answer, EtcdError> {
        let Some(answers) = &self.answers else { return self.silent.v2(call) };
        let nothing =
            || V2Answer { status: 404, body: "404 page not found\n".to_owned(), ..V2Answer::default() };
        Ok(answers.get(&call.path).cloned().unwrap_or_else(nothing))
    }
    fn version(&self) -> Result<Running, EtcdError> {
        let body = self.v2(&get("/version"))?.body;
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&body) else {
            return Ok(Running { server: body.parse().expect("a version"), cluster: None });
        };
        let version = |name: &str| json[name].as_str().and_then(|text| text.parse().ok());
        Ok(Running { server: version("etcdserver").expect("a version"), cluster: version("etcdcluster") })
    }
    fn health(&self) -> Result<(), EtcdError> {
        let answer = self.v2(&get("/health"))?;
        let refused = || EtcdError::Refused { url: self.silent.0.url.clone(), reason: answer.body.clone() };
        if answer.status == 200 { Ok(()) } else { Err(refused()) }
    }
    fn status(&self) -> Result<Status, EtcdError> {
        self.silent.status()
    }
    fn members(&self) -> Result<Members, EtcdError> {
        self.silent.members()
    }
    fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.silent.alarms()
    }
    fn auth(&self) -> Result<bool, EtcdError> {
        self.silent.auth()
    }
    fn count(&self) -> Result<u64, EtcdError> {
        self.silent.count()
    }
    fn move_leader(&self, to: MemberId) -> Result<(), EtcdError> {
        self.silent.move_leader(to)
    }
    fn snapshot(&self, to: &Path) -> Result<Snapshot, EtcdError> {
        self.silent.snapshot(to)
    }
    fn get(&self, key: &str) -> Result<Got, EtcdError> {
        self.silent.get(key)
    }
    fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<u64, EtcdError> {
        self.silent.put(key, value, ttl)
    }
    fn delete(&self, key: &str) -> Result<(), EtcdError> {
        self.silent.delete(key)
    }
    fn watch(&self, key: &str, from: u64) -> Result<String, EtcdError> {
        self.silent.watch(key, from)
    }
}

/// Documentation/v2/members_api.md, with a third member as it is listed before it first starts.
const MEMBERS: &str = r#"{"members":[
    {"id":"272e204152","name":"infra1","peerURLs":["http://10.0.0.10:2380"],"clientURLs":["http://10.0.0.10:2379"]},
    {"id":"2225373f43","name":"infra2","peerURLs":["http://10.0.0.11:2380"],"clientURLs":["http://127.0.0.1:2379"]},
    {"id":"3777296169","name":"","peerURLs":["http://10.0.0.12:2380"],"clientURLs":[]}]}"#;

/// Documentation/v2/api.md, "Self Statistics", without the rates, which nobody reads.
fn itself(id: &str, name: &str, state: &str, leader: &str) -> String {
    format!(
        r#"{{"id":"{id}","leaderInfo":{{"leader":"{leader}","startTime":"2014-10-24T13:15:51.186620747-07:00","uptime":"10m59.322358947s"}},
           "name":"{name}","recvAppendRequestCnt":5944,"startTime":"2014-10-24T13:15:50.072007085-07:00","state":"{state}"}}"#
    )
}

/// One of the two members that run, as 2.0.11 answers: `/version` is text, `/v2/members/leader` is not known (v2.0.11
/// etcdserver/etcdhttp/client.go), and there are no users. Headers: Documentation/v2/api.md, "Response Headers".
fn of_2_0(recorded: &mut Recorded, url: &str, (id, name, state): (&str, &str, &str), raft_index: u64) {
    recorded.put(url, "/v2/members", 200, MEMBERS);
    recorded.put(url, "/v2/members/leader", 404, r#"{"message":"Not found"}"#);
    recorded.put(url, "/v2/stats/self", 200, &itself(id, name, state, "272e204152"));
    recorded.put(url, "/version", 200, "etcd 2.0.11");
    recorded.put(url, "/health", 200, r#"{"health": "true"}"#);
    let root = r#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/calico","dir":true,"modifiedIndex":7,"createdIndex":7}]}}"#;
    let keys = recorded.put(url, "/v2/keys/", 200, root);
    (keys.raft_index, keys.raft_term) = (Some(raft_index), Some(1));
}

fn cluster_of_2_0() -> Recorded {
    let mut recorded = Recorded::default();
    of_2_0(&mut recorded, "http://10.0.0.10:2379", ("272e204152", "infra1", "StateLeader"), 5398);
    of_2_0(&mut recorded, "http://10.0.0.11:2379", ("2225373f43", "infra2", "StateFollower"), 5396);
    recorded
}

#[test]
fn a_cluster_of_2_0_is_seen() {
    let mut recorded = cluster_of_2_0();
    // Its own machine reaches infra2 at the address that it advertises.
    let own = recorded.0["http://10.0.0.11:2379"].clone();
    recorded.0.insert("http://127.0.0.1:2379".to_owned(), own);
    let view = recorded.view(&["http://127.0.0.1:4001", "http://127.0.0.1:2379"]).expect("a view");
    assert_eq!((view.id.to_string(), view.version), ("7e27652122e8b2ae".to_owned(), None));
    assert_eq!((view.auth, view.v2_keys, view.v3_keys), (Some(false), Some(true), None));
    assert_eq!(view.leader().map(|id| id.to_string()).as_deref(), Some("272e204152"));
    let members: Vec<String> =
        view.members.iter().map(|member| format!("{} {:?}", member.called(), member.state)).collect();
    insta::assert_snapshot!(members.join("\n"), @r#"
    infra2 Up(MemberStatus { version: EtcdVersion { major: 2, minor: 0, patch: 11 }, term: 1, index: 5396, applied: None, leader: Some(MemberId(168277590354)), db_bytes: 0, healthy: true, errors: [] })
    infra1 Up(MemberStatus { version: EtcdVersion { major: 2, minor: 0, patch: 11 }, term: 1, index: 5398, applied: None, leader: Some(MemberId(168277590354)), db_bytes: 0, healthy: true, errors: [] })
    member 3777296169 Down { why: "it lists no address for clients: it never started" }
    "#);
    let why: Vec<String> = unfit(&view, None, 100).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(why.join("\n"), @"member 3777296169: does not answer: it lists no address for clients: it never started");
}

/// An agent that was killed while it probed leaves its directory, and that keeps nobody from anything.
#[test]
fn what_probes_leave_is_no_data() {
    let mut recorded = cluster_of_2_0();
    for url in ["http://10.0.0.10:2379", "http://10.0.0.11:2379"] {
        let root = r#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/wavegate","dir":true,"modifiedIndex":7,"createdIndex":7}]}}"#;
        let keys = recorded.put(url, "/v2/keys/", 200, root);
        (keys.raft_index, keys.raft_term) = (Some(5398), Some(1));
    }
    assert_eq!(recorded.view(&["http://10.0.0.10:2379"]).expect("a view").v2_keys, Some(false));
}

#[test]
fn from_2_1_on_the_leader_is_asked_for_and_the_version_is_told() {
    let mut recorded = cluster_of_2_0();
    for url in ["http://10.0.0.10:2379", "http://10.0.0.11:2379"] {
        // Documentation/v2/api.md, "Getting etcd version"; the leader as etcdhttp/client.go of 2.1 writes it, as a member;
        // Documentation/v2/auth_api.md, "Is auth enabled".
        recorded.put(url, "/version", 200, r#"{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}"#);
        recorded.put(url, "/v2/auth/enable", 200, r#"{"enabled":true}"#);
        let leader = r#"{"id":"2225373f43","name":"infra2","peerURLs":["http://10.0.0.11:2380"],"clientURLs":["http://127.0.0.1:2379"]}"#;
        recorded.put(url, "/v2/members/leader", 200, leader);
    }
    let view = recorded.view(&["http://10.0.0.10:2379"]).expect("a view");
    assert_eq!((view.version, view.auth), (Some(EtcdVersion::new(2, 3, 0)), Some(true)));
    assert_eq!(view.leader().map(|id| id.to_string()).as_deref(), Some("2225373f43"));
    let infra1 = view.member(MemberId(0x27_2e20_4152)).and_then(MemberView::status).expect("it is up");
    assert_eq!((infra1.version, infra1.index, infra1.term), (EtcdVersion::new(2, 3, 8), 5398, 1));

    // During an election (etcdhttp/client.go), and without raft's progress (healthHandler).
    recorded.put("http://10.0.0.10:2379", "/v2/members/leader", 503, r#"{"message":"During election"}"#);
    recorded.put("http://10.0.0.10:2379", "/health", 503, "{\"health\": \"false\"}\n");
    let view = recorded.view(&["http://10.0.0.10:2379"]).expect("a view");
    let infra1 = view.member(MemberId(0x27_2e20_4152)).and_then(MemberView::status).expect("it is up");
    assert_eq!((infra1.leader, infra1.healthy), (None, false));
}

#[test]
fn who_does_not_answer_for_itself_is_down() {
    let mut recorded = cluster_of_2_0();
    let other = recorded.0["http://10.0.0.10:2379"].clone();
    recorded.0.insert("http://10.0.0.11:2379".to_owned(), other);
    let down = |recorded: &Recorded| {
        let view = recorded.view(&["http://10.0.0.10:2379"]).expect("a view");
        let state = &view.member(MemberId(0x22_2537_3f43)).expect("listed").state;
        format!("{state:?}")
    };
    insta::assert_snapshot!(down(&recorded), @r#"Down { why: "at http://10.0.0.11:2379 member 272e204152 answers, and not 2225373f43" }"#);
    recorded.0.remove("http://10.0.0.11:2379");
    insta::assert_snapshot!(down(&recorded), @r#"Down { why: "http://10.0.0.11:2379 does not answer: connection refused" }"#);
    of_2_0(&mut recorded, "http://10.0.0.11:2379", ("2225373f43", "infra2", "StateFollower"), 5396);
    // Documentation/v2/auth_api.md: a request without the right to it.
    recorded.put("http://10.0.0.11:2379", "/v2/keys/", 401, r#"{"message":"Insufficient credentials"}"#);
    insta::assert_snapshot!(down(&recorded), @r#"Down { why: "http://10.0.0.11:2379 refuses: /v2/keys/: status 401: {\"message\":\"Insufficient credentials\"}" }"#);
    let nobody = recorded.view(&["http://10.9.9.9:2379", "http://10.9.9.8:2379"]).expect_err("nobody");
    insta::assert_snapshot!(nobody, @"http://10.9.9.9:2379 does not answer: connection refused");
    let none = recorded.view(&[]).expect_err("nothing");
    insta::assert_snapshot!(none, @"no server of etcd is known to ask");
    recorded.put("http://10.0.0.10:2379", "/v2/members", 200, "<html>");
    insta::assert_snapshot!(recorded.view(&["http://10.0.0.10:2379"]).expect_err("no etcd"), @"the answer of http://10.0.0.10:2379/v2/members can't be used: expected value at line 1 column 1");
    // 3.4 and later serve none of it.
    recorded.put("http://10.0.0.10:2379", "/v2/members", 404, "404 page not found\n");
    insta::assert_snapshot!(recorded.view(&["http://10.0.0.10:2379"]).expect_err("no version 2"), @"http://10.0.0.10:2379 does not serve that: /v2/members: 404 page not found");
}

proptest! {
    #[test]
    fn arbitrary_answers_never_panic(body in any::<String>(), status in prop_oneof![Just(200u16), Just(404), Just(503), 0..999u16], path in 0..6usize) {
        let mut recorded = cluster_of_2_0();
        let path = ["/v2/members", "/v2/members/leader", "/v2/stats/self", "/v2/keys/", "/v2/auth/enable", "/health"][path];
        recorded.put("http://10.0.0.10:2379", path, status, &body);
        let _ = recorded.view(&["http://10.0.0.10:2379"]);
    }
}
