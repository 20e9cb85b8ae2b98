//! A coordinator of a test's own, and what tests ask of it. The scripted agent is `agent`'s.

pub mod agent;
pub mod by_itself;
pub mod dial;
pub mod flaky;

pub use agent::Agent;

use dial::Way;
use rcgen::{CertificateParams, KeyPair};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::Channel;
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Link, Status, TaskState, WaitingOn};
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::config::Config;
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::init::{InitOptions, OperatorFiles, init};
use wavegate_coordinator::status::view::{NodeStatus, RolloutStatus, TaskStatus};
use wavegate_coordinator::store::{AuditRecord, NodeRecord};
use wavegate_proto::convert::read_document;
use wavegate_proto::tls::{self, Credentials};
use wavegate_proto::token::JoinToken;
use wavegate_proto::v1;
use wavegate_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use wavegate_proto::v1::make_plan_response::Message;
use wavegate_proto::v1::operator_service_client::OperatorServiceClient;

/// Longer than anything here may take; a condition that does not come about fails the test then.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A procedure of three stages with two steps each.
pub const PROCEDURE: &str = include_str!("procedure.toml");

pub type Operator = OperatorServiceClient<Channel>;

/// A coordinator with its folder.
pub struct Site {
    folder: TempDir,
    pub config: Config,
    pub clock: Clock,
    daemon: Option<Daemon>,
}

impl Site {
    /// A coordinator that was set up and started.
    pub async fn start() -> Self {
        Self::start_with(|_| {}, Clock::system()).await
    }

    /// One whose clock is moved by hand.
    pub async fn start_with_manual_clock() -> Self {
        let now = Clock::system().now();
        let clock = Clock::Manual(Arc::new(AtomicU64::new(now.0)));
        Self::start_with(|_| {}, clock).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config), clock: Clock) -> Self {
        let mut site = Self::set_up(change, clock);
        site.start_again().await;
        site
    }

    /// Set up, and not started.
    pub fn set_up(change: impl FnOnce(&mut Config), clock: Clock) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            socket: folder.path().join("run/operator.sock"),
            state_directory: folder.path().join("state"),
            // The scripted agents give no signs of life.
            heartbeat_interval_s: 300,
            ..Config::default()
        };
        change(&mut config);
        let options = InitOptions {
            config_path: folder.path().join("coordinator.toml"),
            state_directory: Some(config.state_directory.clone()),
            fleet: "test".to_owned(),
            listen: Some(config.listen),
            operator: "alice".to_owned(),
        };
        init(&options).expect("set up");
        Self { folder, config, clock, daemon: None }
    }

    /// Another coordinator, not started, on a copy of all that this one has stored; it must be down.
    pub fn copied(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state_directory = folder.path().join("state");
        copy(&self.config.state_directory, &state_directory);
        let socket = folder.path().join("run/operator.sock");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = Config { listen, socket, state_directory, ..self.config.clone() };
        Self { folder, config, clock: self.clock.clone(), daemon: None }
    }

    pub fn set_daemon(&mut self, daemon: Daemon) {
        self.daemon = Some(daemon);
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the coordinator runs")
    }

    pub async fn start_again(&mut self) {
        let started = Daemon::start(&self.config, self.clock.clone()).await;
        // Agents come back to the address they know.
        let daemon = started.unwrap_or_else(|error| panic!("{error:#}"));
        self.config.listen = daemon.address();
        self.daemon = Some(daemon);
    }

    pub async fn shut_down(&mut self) {
        self.daemon.take().expect("it runs").shutdown().await.expect("a clean end");
    }

    pub async fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill().await;
    }

    /// Moves the clock forward.
    pub fn advance(&self, millis: u64) {
        match &self.clock {
            Clock::Manual(now) => drop(now.fetch_add(millis, Ordering::SeqCst)),
            Clock::Steady(_) => panic!("this site's clock is not set by hand"),
        }
    }

    /// Writes the configuration as a file that the programs can read, and says where.
    pub fn write_config(&self) -> PathBuf {
        let path = self.folder.path().join("run.toml");
        let Config { listen, socket, state_directory, heartbeat_interval_s, lost_after_s, .. } = &self.config;
        let text = format!(
            "listen = \"{listen}\"\nsocket = {socket:?}\nstate_directory = {state_directory:?}\n\
             heartbeat_interval_s = {heartbeat_interval_s}\nlost_after_s = {}\n",
            lost_after_s.max(&u64::from(*heartbeat_interval_s))
        );
        std::fs::write(&path, text).expect("written");
        path
    }

    pub fn state(&self) -> PathBuf {
        self.config.state_directory.clone()
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// The credentials of alice, the operator.
    pub fn alice(&self) -> Credentials {
        let files = OperatorFiles::under(&self.config.state_directory, "alice");
        let read = |path| std::fs::read_to_string(path).expect("a file");
        Credentials {
            certificate_pem: read(files.certificate),
            key_pem: read(files.key),
            ca_pem: read(files.ca),
        }
    }

    pub fn way(&self, credentials: &Credentials) -> Way {
        Way::Tls(self.daemon().address(), tls::client(credentials).expect("credentials"))
    }

    /// Alice's connection over TCP.
    pub async fn operator(&self) -> Operator {
        let channel = dial::channel(self.way(&self.alice())).await.expect("a connection");
        OperatorServiceClient::new(channel).max_decoding_message_size(usize::MAX)
    }

    /// The connection of this process's user over the unix socket.
    pub async fn local_operator(&self) -> Operator {
        let way = Way::Unix(self.daemon().socket().to_path_buf());
        OperatorServiceClient::new(dial::channel(way).await.expect("a connection"))
    }

    pub async fn token(&self, node: &str) -> JoinToken {
        let request = v1::CreateTokenRequest { node: node.to_owned(), ..v1::CreateTokenRequest::default() };
        self.token_as(request).await
    }

    /// A token that is valid for ten minutes, else as it is asked for.
    pub async fn token_as(&self, request: v1::CreateTokenRequest) -> JoinToken {
        let request = v1::CreateTokenRequest { valid_for_s: 600, ..request };
        let created = self.operator().await.create_token(request).await.expect("a token").into_inner();
        created.token.parse().expect("a token's text")
    }

    /// Enrols by a token with a key.
    pub async fn enrol_with(
        &self,
        token: &JoinToken,
        node: &str,
        key: &KeyPair,
    ) -> Result<v1::EnrolResponse, tonic::Status> {
        let way = Way::Tls(
            self.daemon().address(),
            tls::enrolling_client(token.ca_sha256).expect("a configuration"),
        );
        let channel = dial::channel(way).await.expect("a connection");
        let csr = CertificateParams::default().serialize_request(key).and_then(|csr| csr.pem());
        let request = v1::EnrolRequest {
            token_id: token.id.clone(),
            token_secret: token.secret.clone(),
            node: node.to_owned(),
            csr_pem: csr.expect("a request"),
        };
        EnrolmentServiceClient::new(channel).enrol(request).await.map(tonic::Response::into_inner)
    }

    /// Enrols a node by a token made for it.
    pub async fn enrol(&self, node: &str) -> Credentials {
        let token = self.token("").await;
        let key = KeyPair::generate().expect("a key");
        let answer = self.enrol_with(&token, node, &key).await.expect("enrolled");
        Credentials {
            certificate_pem: answer.certificate_pem,
            key_pem: key.serialize_pem(),
            ca_pem: answer.ca_pem,
        }
    }

    /// Enrols a node for each role and starts its agent; they are online when this returns.
    pub async fn fleet(&self, nodes: &[(&str, &str)]) -> Vec<Agent> {
        let mut agents = Vec::new();
        for (node, role) in nodes {
            let credentials = self.enrol(node).await;
            let agent = Agent::new(node, role, credentials);
            agent.connect(self).await;
            agents.push(agent);
        }
        agents
    }

    /// One node, e1, that holds its task of stage etcd: it has begun and does not end.
    pub async fn at_work() -> (Self, Agent) {
        let site = Self::start_with_manual_clock().await;
        let agent = site.fleet(&[("e1", "etcd-member")]).await.remove(0);
        agent.script(|book| book.hold = true);
        site.run_plan().await;
        site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
        (site, agent)
    }

    pub async fn make_plan(&self, request: v1::MakePlanRequest) -> Result<Plan, tonic::Status> {
        let mut updates = self.operator().await.make_plan(request).await?.into_inner();
        while let Some(update) = within(updates.message()).await? {
            if let Some(Message::Plan(plan)) = update.message {
                return Ok(read_document("plan", Some(&plan)).expect("a plan"));
            }
        }
        panic!("the stream ended without a plan");
    }

    pub async fn plan(&self) -> Plan {
        self.make_plan(plan_request()).await.expect("a plan")
    }

    /// Makes a plan and starts it; returns the rollout's id.
    pub async fn run_plan(&self) -> String {
        let plan = self.plan().await;
        assert_eq!(plan.body.problems, []);
        self.start_plan(plan.id.as_str(), false).await.expect("started").rollout
    }

    pub async fn start_plan(&self, plan: &str, manual: bool) -> Result<v1::Answer, tonic::Status> {
        let request = v1::StartRequest { plan: plan.to_owned(), manual, acknowledge: Vec::new() };
        Ok(self.operator().await.start(request).await?.into_inner())
    }

    pub async fn status(&self) -> RolloutStatus {
        let document = self.operator().await.get_status(newest()).await.expect("a status").into_inner();
        read_document("rollout_status", Some(&document)).expect("a status")
    }

    /// Watches the newest rollout until a condition holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&RolloutStatus) -> bool) -> RolloutStatus {
        let mut watch = self.operator().await.watch_status(newest()).await.expect("a stream").into_inner();
        let mut last = None;
        let watching = async {
            while let Some(document) = watch.message().await.expect("a status") {
                let status: RolloutStatus =
                    read_document("rollout_status", Some(&document)).expect("a status");
                let found = holds(&status);
                last = Some(status);
                if found {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, watching).await;
        assert_eq!(found, Ok(true), "{what}; last was {last:#?}");
        last.expect("a status was seen")
    }

    pub async fn until_status(&self, status: Status) -> RolloutStatus {
        self.until(status.as_str(), |seen| seen.status == status).await
    }

    pub async fn until_task(&self, stage: Stage, node: &str, state: TaskState) -> RolloutStatus {
        let what = format!("{node} {state} in {stage}");
        self.until(&what, |status| task(status, stage, node).is_some_and(|task| task.state == state)).await
    }

    pub async fn nodes(&self) -> Vec<NodeStatus<'static>> {
        let nodes = self.operator().await.list_nodes(v1::ListNodesRequest::default()).await.expect("nodes");
        read_document("node_list", Some(&nodes.into_inner())).expect("nodes")
    }

    pub async fn is_online(&self, node: &str) -> bool {
        let nodes = self.nodes().await;
        nodes.iter().any(|known| known.node.as_str() == node && matches!(known.link, Link::Online { .. }))
    }

    pub async fn until_link(&self, node: &str, online: bool) {
        eventually(&format!("{node} online: {online}"), || async { self.is_online(node).await == online })
            .await;
    }

    pub async fn why(&self, node: &str) -> Vec<WaitingOn> {
        let request = v1::WhyRequest { node: node.to_owned(), ..v1::WhyRequest::default() };
        let document = self.operator().await.why(request).await.expect("reasons").into_inner();
        read_document("waiting", Some(&document)).expect("reasons")
    }

    pub async fn events(&self, rollout: &str) -> Vec<Entry> {
        let request = v1::ListEventsRequest { rollout: rollout.to_owned(), after_seq: 0 };
        let mut stream = self.operator().await.list_events(request).await.expect("a stream").into_inner();
        let mut entries = Vec::new();
        while let Some(document) = within(stream.message()).await.expect("an entry") {
            entries.push(read_document("entry", Some(&document)).expect("an entry"));
        }
        entries
    }

    /// Waits until the audit list has such a record.
    pub async fn until_audited(&self, who: &str, what: &str) -> AuditRecord {
        let find = || {
            let all = self.daemon().store().audited(1000).expect("the audit list");
            all.into_iter().find(|record| record.who.contains(who) && record.what.contains(what))
        };
        eventually(&format!("an audit record of {who}: {what}"), || async { find().is_some() }).await;
        find().expect("just seen")
    }
}

fn copy(from: &Path, to: &Path) {
    let mode = std::fs::metadata(from).expect("it is there").permissions();
    std::fs::create_dir(to).expect("a folder");
    std::fs::set_permissions(to, mode).expect("its mode");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        if entry.is_dir() {
            copy(&entry, &to.join(name));
        } else {
            std::fs::copy(&entry, to.join(name)).expect("copied");
        }
    }
}

pub fn newest() -> v1::RolloutRequest {
    v1::RolloutRequest::default()
}

pub fn plan_request() -> v1::MakePlanRequest {
    v1::MakePlanRequest {
        procedure_text: PROCEDURE.to_owned(),
        procedure_file: "procedure.toml".to_owned(),
        ..v1::MakePlanRequest::default()
    }
}

pub fn task<'a>(status: &'a RolloutStatus, stage: Stage, node: &str) -> Option<&'a TaskStatus> {
    let stage = status.stages.iter().find(|known| known.stage == stage)?;
    stage.tasks.iter().find(|task| task.node.as_str() == node)
}

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

/// Waits for something, but not for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Waits until a condition holds that nothing tells of.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "it did not come about: {what}");
}

/// A node that has enrolled, as the store keeps it; whoever needs more of it says so.
pub fn enrolled(node: NodeId) -> NodeRecord {
    NodeRecord {
        node,
        enrolled_at: Timestamp(1),
        certificate_pem: String::new(),
        fingerprint: "f".to_owned(),
        public_key: String::new(),
        facts: None,
    }
}
