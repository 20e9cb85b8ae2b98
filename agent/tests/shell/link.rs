//! An agent against a coordinator on loopback: orders, reports, reconnects, fencing, who is believed.

use crate::coordinator::{Coordinator, Session, soon};
use crate::pki::{Authority, FLEET};
use crate::support::{compute_steps, journal, key, node, order, order_as_planned, os, policy};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use wavegate_agent::agent::{AgentError, Setup, run};
use wavegate_agent::credentials::Enrolled;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{FakeHost, FakeMachine};
use wavegate_agent::journal::{JournalFile, Store};
use wavegate_agent::link::dial::{self, DialError};
use wavegate_agent::output::Output;
use wavegate_agent::service_manager::Signs;
use wavegate_common::action::{Action, ServiceCheck};
use wavegate_common::facts::Facts;
use wavegate_common::id::{FleetId, NodeId, StepId};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::{Outcome, Preview};
use wavegate_common::plan::StepPreview;
use wavegate_proto::convert::{document, read_document};
use wavegate_proto::tls;
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as FromAgent;
use wavegate_proto::v1::coordinator_message::Message as ToAgent;

pub struct Fleet {
    authority: Authority,
    pub coordinator: Coordinator,
    pub state: tempfile::TempDir,
}

pub struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), AgentError>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(()).expect("it runs");
        soon(self.ended).await.expect("no panic").expect("a clean end");
    }
}

impl Fleet {
    pub async fn new() -> Self {
        let authority = Authority::new();
        let coordinator = Coordinator::start(&authority.coordinator()).await;
        Self { authority, coordinator, state: tempfile::tempdir().expect("a directory") }
    }

    pub fn agent(&self, host: Arc<FakeHost>) -> Running {
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(run(self.setup(host), async { drop(stopped.await) }));
        Running { stop, ended }
    }

    fn setup(&self, host: Arc<FakeHost>) -> Setup {
        let os = os(&host.machine());
        Setup {
            coordinator: self.coordinator.address.clone(),
            enrolled: Enrolled {
                fleet: FleetId::new(FLEET).expect("a name"),
                node: node(),
                credentials: self.authority.credentials("node/compute-1", false),
            },
            extra_roles: [].into(),
            etcd: EtcdSettings::default(),
            reconnect_min: Duration::from_millis(1),
            reconnect_max: Duration::from_millis(20),
            host,
            os,
            policy: policy(self.state.path()),
            journal: journal(self.state.path()),
            output: Output::kept_in(self.state.path()),
            signs: Signs::none(),
        }
    }
}

pub fn compute() -> Arc<FakeHost> {
    Arc::new(FakeHost::new(FakeMachine::debian_compute()))
}

pub fn check(name: &str) -> PlannedStep {
    let action = Action::ServiceCheck(ServiceCheck {
        inactive: vec!["nothing".to_owned()],
        ..ServiceCheck::default()
    });
    let work = Work::Run { action, timeout_s: 60 };
    PlannedStep { id: StepId::new(name).expect("an id"), title: name.to_owned(), work }
}

/// Everything that the agent says before it answers a preview: what it had to say came first.
pub async fn before_a_preview(session: &mut Session, request: u64) -> Vec<FromAgent> {
    session.preview(request, "compute", &[check("look")]).await;
    let mut said = Vec::new();
    loop {
        match session.next().await {
            FromAgent::PreviewReport(report) if report.request == request => return said,
            other => said.push(other),
        }
    }
}

fn reports(said: &[FromAgent]) -> usize {
    said.iter().filter(|message| matches!(message, FromAgent::TaskReport(_))).count()
}

fn is_open(state: &Path) -> bool {
    // The lock says whether an agent still works there.
    JournalFile::open(state).is_err()
}

#[tokio::test]
async fn a_task_is_reported_until_its_end_is_acknowledged() {
    let mut fleet = Fleet::new().await;
    let host = compute();
    let agent = fleet.agent(host.clone());
    let (mut session, hello) = fleet.coordinator.session().await;
    let facts: Facts = read_document("facts", hello.facts.as_ref()).expect("facts");
    assert_eq!((hello.node.as_str(), hello.generation_seen, facts.node), ("compute-1", 0, node()));
    session.welcome(3).await;
    let order = order(1, 3, &compute_steps(&host.machine()));
    session.order(&order).await;
    let (result, steps) = session.ended().await;
    assert_eq!((result, steps.len()), (v1::TaskResult::Finished, order.steps.len()));
    drop(session);

    // Not acknowledged: the next session hears it again, with the output from its beginning.
    let mut session = fleet.coordinator.welcomed(3).await;
    let (again, same) = session.ended().await;
    assert_eq!((again, same), (result, steps));
    let output = session
        .until(|message| match message {
            FromAgent::Output(output) => Some(output.clone()),
            _ => None,
        })
        .await;
    assert_eq!((output.key.expect("a key"), output.offset), ((&key(1)).into(), 0));
    // An order that comes twice is answered by a report, and nothing is done again.
    let history = host.machine().history.len();
    session.order(&order).await;
    session.ended().await;
    session.acknowledge(&key(1)).await;
    before_a_preview(&mut session, 1).await;
    assert!(host.machine().history.len() < history + 60);
    drop(session);

    // Acknowledged: no more of it.
    let mut session = fleet.coordinator.welcomed(3).await;
    let said = before_a_preview(&mut session, 2).await;
    assert_eq!(reports(&said), 0, "{said:?}");
    assert!(!said.iter().any(|message| matches!(message, FromAgent::Output(_))));
    agent.stop().await;
    assert!(!is_open(fleet.state.path()));
    let journal = journal(fleet.state.path());
    assert!(journal.read(|journal| journal.task(&key(1)).expect("the task").acknowledged));
}

#[tokio::test]
async fn facts_are_fresh_after_a_task_and_before_a_preview() {
    let mut fleet = Fleet::new().await;
    let host = compute();
    let agent = fleet.agent(host.clone());
    let mut session = fleet.coordinator.welcomed(1).await;
    session.order(&order(1, 1, &[check("look")])).await;
    session.ended().await;
    let after = session
        .until(|message| match message {
            FromAgent::Facts(facts) => Some(facts.clone()),
            _ => None,
        })
        .await;
    let after: Facts = read_document("facts", Some(&after)).expect("facts");
    host.machine().now.0 += 1000;
    let steps = compute_steps(&host.machine());
    session.preview(7, "compute", &steps).await;
    let mut fresh = None;
    let report = session
        .until(|message| match message {
            FromAgent::Facts(facts) => {
                fresh = read_document::<Facts>("facts", Some(facts)).ok();
                None
            }
            FromAgent::PreviewReport(report) => Some(report.clone()),
            _ => None,
        })
        .await;
    assert!(fresh.expect("facts before the preview").observed_at.0 >= after.observed_at.0 + 1000);
    assert_eq!((report.request, report.stage.as_str()), (7, "compute"));
    let previews: Vec<StepPreview> =
        read_document("step_previews", report.step_previews.as_ref()).expect("previews");
    assert!(previews.len() > 5);
    agent.stop().await;
}

#[tokio::test]
async fn an_order_before_the_welcome_is_not_obeyed() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    let (mut session, _) = fleet.coordinator.session().await;
    session.order(&order(1, 9, &[check("look")])).await;
    assert!(session.try_next().await.is_none());
    agent.stop().await;
    assert!(journal(fleet.state.path()).read(|journal| journal.current().is_none()));
}

#[tokio::test]
async fn orders_that_are_not_for_this_agent_are_refused_with_the_reason() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    let mut session = fleet.coordinator.welcomed(1).await;
    let mut other = order(1, 1, &[check("look")]);
    other.key.node = NodeId::new("compute-2").expect("a name");
    session.order(&other).await;
    assert_eq!(session.refusal().await, "this is compute-1, not the order's node");
    let mut newer = document("task_order", &order(1, 1, &[check("look")])).expect("a document");
    newer.json =
        String::from_utf8(newer.json).expect("text").replace("service.check", "moon.fly").into_bytes();
    session.say(ToAgent::TaskOrder(newer)).await;
    let reason = session.refusal().await;
    let version = env!("CARGO_PKG_VERSION");
    assert!(reason.contains("cannot read the order") && reason.contains("moon.fly"), "{reason}");
    assert!(reason.matches(version).count() == 2, "both versions: {reason}");
    let steps = [check("look")];
    let mut asked = document("planned_steps", &steps).expect("a document");
    asked.json =
        String::from_utf8(asked.json).expect("text").replace("service.check", "moon.fly").into_bytes();
    let asked = v1::PreviewRequest { request: 5, stage: "compute".to_owned(), planned_steps: Some(asked) };
    session.say(ToAgent::PreviewRequest(asked)).await;
    let report = session
        .until(|message| match message {
            FromAgent::PreviewReport(report) => Some(report.clone()),
            _ => None,
        })
        .await;
    let previews: Vec<StepPreview> =
        read_document("step_previews", report.step_previews.as_ref()).expect("previews");
    assert!(
        matches!(&previews[..], [StepPreview { preview: Preview::Blocked { error }, .. }] if error.what.contains("moon.fly")),
        "{previews:?}"
    );
    // The session goes on with what it can read.
    session.order(&order(1, 1, &[check("look")])).await;
    assert_eq!(session.ended().await.0, v1::TaskResult::Finished);
    agent.stop().await;
}

#[tokio::test]
async fn a_coordinator_of_a_version_too_far_away_gets_nothing_but_the_hello() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    let (mut session, _) = fleet.coordinator.session().await;
    session.welcome_as(5, "", "99.0.0").await;
    assert!(session.try_next().await.is_none());
    let mut session = fleet.coordinator.welcomed(1).await;
    assert!(matches!(session.next().await, FromAgent::Heartbeat(_)), "one that fits is obeyed");
    agent.stop().await;
    let generation = journal(fleet.state.path()).read(|journal| journal.leader().generation);
    assert_eq!(generation.0, 1, "the generation of the other one was not taken");
}

#[tokio::test]
async fn a_session_that_does_not_begin_with_a_welcome_that_can_be_read_is_given_up() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    let (mut session, _) = fleet.coordinator.session().await;
    session.welcome_of(1, "no leader's name").await;
    assert!(session.try_next().await.is_none(), "it would wait for a welcome for ever");
    let mut session = fleet.coordinator.welcomed(1).await;
    assert!(matches!(session.next().await, FromAgent::Heartbeat(_)));
    agent.stop().await;
}

#[tokio::test]
async fn a_task_goes_on_without_a_coordinator_and_after_a_restart() {
    let mut fleet = Fleet::new().await;
    let host = compute();
    host.machine().faults.kill_before("systemctl mask");
    let agent = fleet.agent(host.clone());
    let session = fleet.coordinator.welcomed(1).await;
    let order = order(1, 1, &compute_steps(&host.machine()));
    session.order(&order).await;
    let ended = soon(agent.ended).await.expect("no panic");
    assert!(matches!(ended, Err(AgentError::Worker)), "{ended:?}");
    drop(session);
    assert!(host.machine().faults.all_fired());

    let agent = fleet.agent(host.clone());
    let (session, hello) = fleet.coordinator.session().await;
    assert_eq!(hello.generation_seen, 1);
    drop(session);
    let mut session = fleet.coordinator.welcomed(1).await;
    let (result, steps) = session.ended().await;
    assert_eq!(result, v1::TaskResult::Finished, "{steps:#?}");
    assert!(steps.iter().all(|step| !matches!(step.outcome, Outcome::Failed { .. })));
    agent.stop().await;
}

#[tokio::test]
async fn heartbeats_say_what_is_worked_on_and_count_up() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    let mut session = fleet.coordinator.welcomed(1).await;
    let beat = |message: &FromAgent| match message {
        FromAgent::Heartbeat(beat) => Some(beat.clone()),
        _ => None,
    };
    let (first, second) = (session.until(beat).await, session.until(beat).await);
    assert_eq!((first.sequence, second.sequence, first.task), (1, 2, None));
    agent.stop().await;
}

#[tokio::test]
async fn only_the_coordinator_of_the_fleet_is_believed() {
    let authority = Authority::new();
    let tls = tls::client(&authority.credentials("node/compute-1", false)).expect("a TLS configuration");
    let fleet = FleetId::new(FLEET).expect("a name");
    for stranger in ["operator/mallory", "node/compute-2"] {
        let coordinator = Coordinator::start(&authority.credentials(stranger, true)).await;
        let address = &coordinator.address;
        let connection = dial::connect(address, tls.clone()).await.expect("the fleet's own authority");
        let error =
            dial::check_coordinator(address, &connection, &fleet).expect_err("a stranger").to_string();
        assert!(
            error.contains(&format!("is spiffe://test/{stranger}, not the coordinator of fleet test")),
            "{error}"
        );
    }
    let nameless = Coordinator::start(&authority.credentials("coordinator", false)).await;
    let error =
        dial::connect(&nameless.address, tls.clone()).await.expect_err("without the coordinator's DNS name");
    assert!(matches!(error, DialError::Trust { .. }), "{error}");
    let foreign = Coordinator::start(&Authority::new().coordinator()).await;
    let error = dial::connect(&foreign.address, tls.clone()).await.expect_err("another authority");
    assert!(
        error.to_string().contains("no trust between this node and what listens at 127.0.0.1"),
        "{error}"
    );
    let closed = foreign.address.clone();
    drop(foreign);
    let error = dial::connect(&closed, tls).await.expect_err("nobody there, or nobody any more");
    assert!(matches!(error, DialError::Reach { .. } | DialError::Silent { .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_somebody_changed_since_the_plan_says_so_and_is_left_as_it_is() {
    let mut fleet = Fleet::new().await;
    let host = compute();
    let planned = host.machine().clone();
    let order = order_as_planned(1, 1, &compute_steps(&planned), &planned);
    let mut newer = planned.available["calico-felix"].clone();
    newer.version = "9.9.9".to_owned();
    host.machine().install("calico-felix", &newer).expect("it installs");
    let before = host.machine().clone();
    let agent = fleet.agent(host.clone());
    let mut session = fleet.coordinator.welcomed(1).await;
    session.order(&order).await;
    let (result, steps) = session.ended().await;
    assert_eq!(result, v1::TaskResult::Failed);
    let Some(Outcome::Failed { error }) = steps.last().map(|step| &step.outcome) else {
        panic!("{steps:#?}")
    };
    insta::assert_snapshot!(error.what, @"this node is not as the plan saw it: felix 1.3.1 -> 9.9.9");
    assert!(error.next.contains("wavegate retry compute-1"), "{}", error.next);
    let after = host.machine().clone();
    assert_eq!((after.files, after.installed), (before.files, before.installed));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_stands_still_gives_the_watchdog_no_sign() {
    let fleet = Fleet::new().await;
    let (given, mut signs) = watch::channel(0);
    let give = move || given.send_modify(|given| *given += 1);
    let setup = fleet.setup(compute());
    let (hold, held) = std::sync::mpsc::channel::<std::sync::mpsc::Receiver<()>>();
    let (tell, mut stands_still) = mpsc::unbounded_channel();
    // The loop asks whether it is to end whenever it goes round. It is held up there, as by a disk that does not answer; it ends
    // when nobody can hold it up any more.
    let stop = std::future::poll_fn(move |_| match held.try_recv() {
        Ok(until) => {
            tell.send(()).expect("the test goes on");
            until.recv().expect("the test goes on");
            Poll::Pending
        }
        Err(TryRecvError::Empty) => Poll::Pending,
        Err(TryRecvError::Disconnected) => Poll::Ready(()),
    });
    // A runtime of its own: a thread that is held up may be the one that keeps its runtime's timers.
    let agent = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            run(Setup { signs: Signs::every(Duration::from_millis(1), give), ..setup }, stop).await
        })
    });
    soon(signs.wait_for(|given| *given > 3)).await.expect("the loop goes round");
    let (release, until) = std::sync::mpsc::channel();
    hold.send(until).expect("the loop goes round");
    soon(stands_still.recv()).await.expect("it stands still");
    let before = *signs.borrow();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..50 {
        ticks.tick().await;
    }
    assert_eq!(*signs.borrow(), before, "fifty were due");
    release.send(()).expect("the loop waits");
    soon(signs.wait_for(|given| *given > before)).await.expect("the loop goes round again");
    drop(hold);
    soon(agent).await.expect("no panic").expect("a clean end");
}
