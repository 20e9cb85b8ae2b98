//! A fleet of any size before a production engine, without agents and without connections: what agents would say is said
//! here, turn by turn. The shipped procedure, three members of etcd left out: compute and control nodes.

pub mod facts;

use facts::facts;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use wavegate_common::id::{Actor, FleetId, LeaderId, NodeId, PlanId, Timestamp};
use wavegate_common::leader::Leader;
use wavegate_common::order::{TaskOrder, Work};
use wavegate_common::outcome::{Outcome, Preview};
use wavegate_common::plan::StepPreview;
use wavegate_common::platform::Stage;
use wavegate_common::procedure::shipped;
use wavegate_common::rollout::{EndedStep, Mode, Report, TaskResult};
use wavegate_common::waves::WaveOverride;
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::engine::{
    Answer, Command, Connected, Engine, FromAgent, Input, MakePlan, PlanUpdate, RequestError, Session,
    Timing, ToAgent,
};
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::status::plan::PlanView;
use wavegate_coordinator::store::{NodeRecord, Store};

/// Control nodes of a fleet; the others are compute nodes.
pub const CONTROL: usize = 3;

/// The fleet.
pub struct Fleet {
    pub engine: Engine,
    pub store: Arc<Store>,
    agents: BTreeMap<NodeId, Agent>,
    now: Arc<AtomicU64>,
    _folder: TempDir,
}

/// The other end of a session.
struct Agent {
    session: u64,
    messages: mpsc::Receiver<Box<ToAgent>>,
    _alive: oneshot::Receiver<()>,
    orders: Vec<TaskOrder>,
}

fn by() -> Actor {
    Actor("alice".to_owned())
}

fn name(number: usize) -> NodeId {
    let kind = if number < CONTROL { "control" } else { "compute" };
    NodeId::new(format!("{kind}-{number:05}")).expect("a name")
}

impl Fleet {
    /// A fleet whose nodes have enrolled and are connected.
    pub fn new(nodes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now = Arc::new(AtomicU64::new(1_800_000_000_000));
        let clock = Clock::Manual(now.clone());
        let fleet = FleetId::new("f-0123456789abcdef").expect("a fleet");
        let authority = Authority::create(folder.path(), &fleet, clock.now()).expect("an authority");
        let store = Arc::new(Store::in_memory(&fleet).expect("a store"));
        for node in (0..nodes).map(name) {
            let record = NodeRecord {
                node,
                enrolled_at: Timestamp(1),
                certificate_pem: String::new(),
                fingerprint: "f".repeat(64),
                public_key: String::new(),
                facts: None,
            };
            store.put_node(&record).expect("kept");
        }
        let timing = Timing { heartbeat_interval_s: 300, lost_after_ms: 60_000 };
        let engine = Engine::load(store.clone(), Arc::new(authority), clock, timing, LeaderId::new(1));
        let mut fleet =
            Self { engine: engine.expect("loaded"), store, agents: BTreeMap::new(), now, _folder: folder };
        fleet.engine.take(Input::Tick);
        (0..nodes).map(name).for_each(|node| fleet.connect(node));
        fleet
    }

    fn connect(&mut self, node: NodeId) {
        let (outbound, messages) = mpsc::channel(64);
        let (alive, ended) = oneshot::channel();
        let (reply, mut number) = oneshot::channel();
        self.engine.take(Input::Connected(Box::new(Connected {
            node: node.clone(),
            fingerprint: "f".repeat(64),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            seen: Leader::default(),
            facts: Some(facts(&node)),
            not_understood: None,
            session: Session { outbound, heard: Arc::default(), alive },
            reply,
        })));
        let session = number.try_recv().expect("answered").expect("a session");
        self.agents.insert(node, Agent { session, messages, _alive: ended, orders: Vec::new() });
    }

    /// Time passes; the engine is not told of it.
    #[allow(dead_code)]
    pub fn pass(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// These nodes go offline.
    #[allow(dead_code)]
    pub fn lose(&mut self, nodes: usize) {
        for node in self.agents.keys().rev().take(nodes).cloned().collect::<Vec<_>>() {
            let Some(agent) = self.agents.remove(&node) else { continue };
            self.engine.take(Input::Gone { node, session: agent.session });
        }
    }

    /// A plan for all, and who was still waited for each time that it was told how far it was.
    pub fn plan(&mut self) -> (PlanView, Vec<Vec<NodeId>>) {
        let (updates, mut told) = mpsc::unbounded_channel();
        let (file, text) = shipped("calico-openstack").expect("it ships");
        let wide = WaveOverride {
            max_unavailable: Some("100%".parse().expect("all")),
            batches: Some("100%".parse().expect("one batch")),
            ..WaveOverride::default()
        };
        self.engine.take(Input::MakePlan(Box::new(MakePlan {
            by: by(),
            procedure: text.to_owned(),
            procedure_file: file.to_owned(),
            parameters: None,
            settings: ["etcd_archive_sha256", "python_etcd_archive_sha256"]
                .map(|name| format!("{name}={}", "0".repeat(64)))
                .into_iter()
                .chain(["python_etcd_version=0.4.3".to_owned()])
                .collect(),
            waves: BTreeMap::from([(Stage::Compute, wide)]),
            updates,
        })));
        self.say_what_is_asked();
        let mut progress = Vec::new();
        loop {
            match told.try_recv().expect("told").expect("a plan") {
                PlanUpdate::Progress { waiting_for, .. } => progress.push(waiting_for),
                PlanUpdate::Done(view) => return (*view, progress),
            }
        }
    }

    /// Agents read what they are sent: requests for previews are answered, orders kept.
    fn say_what_is_asked(&mut self) {
        let mut said = Vec::new();
        for (node, agent) in &mut self.agents {
            while let Ok(message) = agent.messages.try_recv() {
                match *message {
                    ToAgent::Preview { request, stage, steps } => {
                        let runs = steps.iter().filter(|step| matches!(step.work, Work::Run { .. }));
                        let so = || Preview::AlreadySo { evidence: "calico-felix 1.4.6 is installed".into() };
                        let previews = runs.map(|step| StepPreview { step: step.id.clone(), preview: so() });
                        let message = FromAgent::Preview { request, stage, previews: previews.collect() };
                        said.push((node.clone(), agent.session, message));
                    }
                    ToAgent::Order(order) => agent.orders.push(*order),
                    ToAgent::Welcome { .. } | ToAgent::Acknowledge(_) => {}
                }
            }
        }
        for (node, session, message) in said {
            self.engine.take(Input::Said { node, session, message: Box::new(message) });
        }
    }

    /// Starts a plan.
    pub fn start(&mut self, plan: &PlanId) -> Result<Answer, RequestError> {
        let (reply, mut answer) = oneshot::channel();
        let command = Command::Start { plan: Some(plan.clone()), mode: Mode::Auto, acknowledge: Vec::new() };
        self.engine.take(Input::Command { by: by(), command, reply });
        answer.try_recv().expect("answered")
    }

    /// Agents work on the orders that they have: of every `part` one does not get past its first step. How many ended.
    pub fn work(&mut self, part: usize) -> usize {
        while self.engine.has_more() {
            self.engine.take(Input::Look);
        }
        self.say_what_is_asked();
        let mut reports = Vec::new();
        for (node, agent) in &mut self.agents {
            for order in std::mem::take(&mut agent.orders) {
                reports.push((node.clone(), agent.session, order));
            }
        }
        let mut ended = 0;
        for (at, (node, session, order)) in reports.into_iter().enumerate() {
            let slow = at % part == part - 1;
            let steps = order.steps.iter().take(if slow { 1 } else { usize::MAX });
            let steps: Vec<EndedStep> = steps.map(done).collect();
            let result = (!slow).then_some(TaskResult::Finished);
            let working = order.steps.get(1).filter(|_| slow).map(|step| step.id.clone());
            ended += usize::from(!slow);
            let report = Report { key: order.key, steps, result };
            let message = Box::new(FromAgent::Report(report, working));
            self.engine.take(Input::Said { node, session, message });
        }
        ended
    }
}

fn done(step: &wavegate_common::order::PlannedStep) -> EndedStep {
    let outcome = match &step.work {
        Work::Run { .. } => {
            Outcome::AlreadySo { evidence: "calico-felix 1.4.6~trusty is installed".to_owned() }
        }
        Work::Skip { reason } => Outcome::Skipped { reason: reason.clone() },
    };
    EndedStep { step: step.id.clone(), ended_at: Timestamp(1_800_000_000_000), outcome }
}
