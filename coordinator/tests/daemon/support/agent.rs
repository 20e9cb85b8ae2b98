//! A scripted agent: speaks the wire's words, keeps a journal over its connections, and does with an order what the test
//! says. It works on nothing.

use super::{Site, dial, within};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wavegate_common::facts::{DhcpAgent, Facts};
use wavegate_common::id::{Generation, NodeId, StepId, Timestamp};
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::outcome::{Change, Outcome, Preview, StepError};
use wavegate_common::plan::StepPreview;
use wavegate_common::platform::{OsFamily, PackageManager, Platform, Role, ServiceManager, Stage};
use wavegate_common::rollout::{EndedStep, TaskResult};
use wavegate_proto::convert::{document, read_document, result_to_wire};
use wavegate_proto::tls::Credentials;
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as Out;
use wavegate_proto::v1::agent_service_client::AgentServiceClient;
use wavegate_proto::v1::coordinator_message::Message as In;

/// What the journal has of a task.
#[derive(Debug, Clone)]
pub struct Journaled {
    pub order: TaskOrder,
    pub steps: Vec<EndedStep>,
    pub result: Option<TaskResult>,
    pub acknowledged: bool,
}

/// What the agent does, as the test says, and what it has done.
#[derive(Debug, Default)]
pub struct Book {
    /// It accepts orders and goes no further.
    pub hold: bool,
    /// It does not even accept them.
    pub deaf: bool,
    /// It answers no request for a preview.
    pub silent: bool,
    /// It refuses orders, for this reason.
    pub refuse: Option<String>,
    /// The first step of this stage and attempt fails.
    pub fail: BTreeSet<(Stage, u32)>,
    /// This step says that it is blocked when it is previewed.
    pub blocked: Option<String>,
    /// The version of etcd that would run after stage etcd.
    pub etcd: Option<String>,
    pub journal: BTreeMap<TaskKey, Journaled>,
    /// How often each order came.
    pub orders: BTreeMap<TaskKey, u32>,
    pub generation: Generation,
    /// Which start of which coordinator it obeys, and whether it minds.
    pub leader: String,
}

/// A scripted agent.
pub struct Agent {
    pub name: String,
    pub credentials: Credentials,
    pub facts: Facts,
    book: Arc<Mutex<Book>>,
    poke: watch::Sender<u64>,
    session: Mutex<Option<JoinHandle<()>>>,
}

impl Agent {
    pub fn new(name: &str, role: &str, credentials: Credentials) -> Self {
        Self {
            name: name.to_owned(),
            credentials,
            facts: facts(name, role),
            book: Arc::default(),
            poke: watch::Sender::new(0),
            session: Mutex::new(None),
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no test has failed while it wrote in the book")
    }

    /// Changes what the agent does; it looks at once.
    pub fn script(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book());
        self.poke.send_modify(|version| *version += 1);
    }

    /// Waits until its book says something.
    pub async fn until(&self, what: &str, holds: impl Fn(&Book) -> bool) {
        super::eventually(&format!("{}: {what}", self.name), || async { holds(&self.book()) }).await;
    }

    /// Opens a session and goes on with the journal in it. It is online when this returns.
    pub async fn connect(&self, site: &Site) {
        let mut wire = Wire::open(site, &self.credentials).await;
        let (generation, leader) = self.leader();
        wire.hello_of(&self.name, (generation, &leader), Some(&self.facts)).await;
        let In::Welcome(welcome) = wire.next().await else { panic!("a welcome comes first") };
        self.script(|book| {
            book.generation = Generation(welcome.generation);
            book.leader = welcome.leader;
        });
        let actor =
            Actor { wire, node: node_id(&self.name), book: self.book.clone(), poke: self.poke.subscribe() };
        let before = self.session.lock().expect("not poisoned").replace(tokio::spawn(actor.run()));
        if let Some(before) = before {
            before.abort();
        }
        site.until_link(&self.name, true).await;
    }

    /// The highest generation that it has seen, and whose it was.
    pub fn leader(&self) -> (Generation, String) {
        let book = self.book();
        (book.generation, book.leader.clone())
    }

    /// Breaks the connection.
    pub async fn disconnect(&self) {
        let session = self.session.lock().expect("not poisoned").take();
        if let Some(session) = session {
            session.abort();
            drop(session.await);
        }
    }
}

fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

/// One session, message by message.
pub struct Wire {
    send: mpsc::Sender<v1::AgentMessage>,
    receive: Option<Streaming<v1::CoordinatorMessage>>,
    opening: Option<JoinHandle<Result<Streaming<v1::CoordinatorMessage>, tonic::Status>>>,
}

impl Wire {
    pub async fn open(site: &Site, credentials: &Credentials) -> Self {
        Self::on(dial::channel(site.way(credentials)).await.expect("a connection"))
    }

    /// On a connection that was dialled already.
    pub fn on(channel: Channel) -> Self {
        let (send, messages) = mpsc::channel(64);
        let opening = tokio::spawn(async move {
            let opened = AgentServiceClient::new(channel).session(ReceiverStream::new(messages)).await;
            opened.map(tonic::Response::into_inner)
        });
        Self { send, receive: None, opening: Some(opening) }
    }

    /// Says something at once, if the other end takes it on; false if it does not.
    pub fn try_say(&self, message: Out) -> bool {
        self.send.try_send(v1::AgentMessage { message: Some(message) }).is_ok()
    }

    pub async fn say(&self, message: Out) {
        drop(self.send.send(v1::AgentMessage { message: Some(message) }).await);
    }

    pub async fn hello(&self, node: &str, generation_seen: Generation, facts: Option<&Facts>) {
        self.hello_of(node, (generation_seen, ""), facts).await;
    }

    /// Says hello as a node that has obeyed this leader.
    pub async fn hello_of(&self, node: &str, seen: (Generation, &str), facts: Option<&Facts>) {
        let facts = facts.map(|facts| document("facts", facts).expect("facts"));
        let (node, agent_version) = (node.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let (generation_seen, leader_seen) = (seen.0.0, seen.1.to_owned());
        self.say(Out::Hello(v1::Hello { node, agent_version, generation_seen, facts, leader_seen })).await;
    }

    /// What the coordinator says next; an error if it refuses or ends the session.
    pub async fn answer(&mut self) -> Result<Option<In>, tonic::Status> {
        if let Some(opening) = self.opening.take() {
            self.receive = Some(within(opening).await.expect("not aborted")?);
        }
        let receive = self.receive.as_mut().expect("opened");
        Ok(receive.message().await?.and_then(|message| message.message))
    }

    pub async fn next(&mut self) -> In {
        within(self.answer()).await.expect("no refusal").expect("a message")
    }

    pub async fn report(&self, task: &Journaled) {
        self.say(report(task)).await;
    }
}

pub fn report(task: &Journaled) -> Out {
    Out::TaskReport(v1::TaskReport {
        key: Some((&task.order.key).into()),
        ended_steps: Some(document("ended_steps", &task.steps).expect("steps")),
        current_step: task
            .order
            .steps
            .get(task.steps.len())
            .map(|step| step.id.to_string())
            .unwrap_or_default(),
        result: result_to_wire(task.result).into(),
    })
}

struct Actor {
    wire: Wire,
    node: NodeId,
    book: Arc<Mutex<Book>>,
    poke: watch::Receiver<u64>,
}

impl Actor {
    async fn run(mut self) {
        let unfinished: Vec<Journaled> =
            self.with(|book| book.journal.values().filter(|task| !task.acknowledged).cloned().collect());
        for task in unfinished {
            self.wire.report(&task).await;
        }
        loop {
            self.work().await;
            tokio::select! {
                message = self.wire.answer() => match message {
                    Ok(Some(message)) => self.take(message).await,
                    Ok(None) | Err(_) => return,
                },
                _ = self.poke.changed() => {}
            }
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.book.lock().expect("not poisoned"))
    }

    async fn take(&mut self, message: In) {
        match message {
            In::Welcome(_) => panic!("a second welcome"),
            In::TaskOrder(order) => {
                self.order(read_document("task_order", Some(&order)).expect("an order")).await
            }
            In::Acknowledge(acknowledge) => {
                let key = TaskKey::try_from(acknowledge.key.expect("a key")).expect("a key");
                self.with(|book| {
                    if let Some(task) = book.journal.get_mut(&key) {
                        task.acknowledged = true;
                    }
                });
            }
            In::PreviewRequest(request) => self.preview(request).await,
        }
    }

    async fn order(&mut self, order: TaskOrder) {
        assert_eq!(order.key.node, self.node, "an order for another node");
        let key = order.key.clone();
        let (deaf, refusal) = self.with(|book| {
            *book.orders.entry(key.clone()).or_default() += 1;
            (book.deaf, book.refuse.clone())
        });
        if deaf {
            return;
        }
        if let Some(reason) = refusal {
            self.wire.say(Out::OrderRefused(v1::OrderRefused { key: Some((&key).into()), reason })).await;
            return;
        }
        let task = self.with(|book| {
            let fresh = Journaled { order, steps: Vec::new(), result: None, acknowledged: false };
            book.journal.entry(key).or_insert(fresh).clone()
        });
        self.wire.report(&task).await;
    }

    async fn preview(&self, request: v1::PreviewRequest) {
        let (silent, blocked) = self.with(|book| (book.silent, book.blocked.clone()));
        let etcd = self.with(|book| book.etcd.clone()).filter(|_| request.stage == Stage::Etcd.as_str());
        if silent {
            return;
        }
        let steps: Vec<PlannedStep> =
            read_document("planned_steps", request.planned_steps.as_ref()).expect("steps");
        let steps = steps.into_iter().filter(|step| matches!(step.work, Work::Run { .. }));
        let previews: Vec<StepPreview> = steps
            .map(|step| {
                let to = etcd.clone().filter(|_| step.id.as_str() == "install");
                let version = to.map(|to| Change::Version { of: "etcd".to_owned(), from: None, to });
                let changes = version.into_iter().chain([package()]).collect();
                let preview = if blocked.as_deref() == Some(step.id.as_str()) {
                    Preview::Blocked { error: error("no such package") }
                } else {
                    Preview::WouldChange { changes }
                };
                StepPreview { step: step.id, preview }
            })
            .collect();
        let step_previews = Some(document("step_previews", &previews).expect("previews"));
        let (request, stage) = (request.request, request.stage);
        self.wire.say(Out::PreviewReport(v1::PreviewReport { request, stage, step_previews })).await;
    }

    /// Goes on with every open task, as far as the script lets it.
    async fn work(&mut self) {
        loop {
            let Some((task, printed)) = self.with(next_step) else { return };
            if let Some((step, data)) = printed {
                let key = Some((&task.order.key).into());
                self.wire.say(Out::Output(v1::Output { key, step: step.into(), offset: 0, data })).await;
            }
            self.wire.report(&task).await;
        }
    }
}

/// A step and what it printed.
type Printed = (StepId, Vec<u8>);

/// Does one step of an open task, or ends it. Tells the task as it is then, and what the step printed.
fn next_step(book: &mut Book) -> Option<(Journaled, Option<Printed>)> {
    if book.hold {
        return None;
    }
    let fail = &book.fail;
    let task = book.journal.values_mut().find(|task| task.result.is_none())?;
    let failed = matches!(task.steps.last(), Some(EndedStep { outcome: Outcome::Failed { .. }, .. }));
    let next = task.order.steps.get(task.steps.len()).filter(|_| !failed).cloned();
    let Some(step) = next else {
        task.result = Some(if failed { TaskResult::Failed } else { TaskResult::Finished });
        return Some((task.clone(), None));
    };
    let key = &task.order.key;
    let fails = task.steps.is_empty() && fail.contains(&(key.stage, key.attempt));
    let printed = format!("{} {} {} attempt {}\n", key.stage, key.node, step.id, key.attempt).into_bytes();
    task.steps
        .push(ended(&step.id, if fails { Outcome::Failed { error: error("it broke") } } else { changed() }));
    Some((task.clone(), Some((step.id, printed))))
}

pub fn ended(step: &StepId, outcome: Outcome) -> EndedStep {
    EndedStep { step: step.clone(), ended_at: Timestamp(1), outcome }
}

pub fn changed() -> Outcome {
    Outcome::Changed { changes: vec![package()], evidence: "it runs".to_owned() }
}

fn package() -> Change {
    Change::Package { name: "p".to_owned(), from: Some("1".to_owned()), to: Some("2".to_owned()) }
}

pub fn error(what: &str) -> StepError {
    StepError { what: what.to_owned(), output: Vec::new(), next: "mend it".to_owned() }
}

pub fn facts(name: &str, role: &str) -> Facts {
    Facts {
        node: node_id(name),
        observed_at: Timestamp(1),
        hostname: name.to_owned(),
        kernel: "6.1".to_owned(),
        boot_id: "1".to_owned(),
        platform: Platform {
            family: OsFamily::Debian,
            id: "ubuntu".to_owned(),
            version_id: "16.04".to_owned(),
            pretty_name: "Ubuntu 16.04".to_owned(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        },
        roles: BTreeSet::from([role.parse::<Role>().expect("a role")]),
        versions: BTreeMap::new(),
        release: None,
        dhcp_agent: DhcpAgent::None,
        etcd: None,
        agent_version: "0.1.0".to_owned(),
    }
}
