//! Tests of the agent's decisions, on one thread: without timers, sockets and waiting.

use super::*;
use crate::agent::skew::OWN;
use crate::etcd::EtcdSettings;
use crate::host::fake::{FakeHost, FakeMachine};
use crate::journal::JournalFile;
use crate::journal::medium::fake::{FakeMedium, Operation};
use crate::link::{FromCoordinator, Told, UnreadablePreview, Welcome};
use crate::os::Os;
use crate::policy::PolicyFile;
use crate::worker::{Doing, Pace, PreviewJob, Tools};
use std::collections::{BTreeSet, VecDeque};
use wavegate_common::id::{Generation, LeaderId, PlanId, RolloutId, StepId};
use wavegate_common::leader::Leader;
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::outcome::Preview;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

/// No wait between two sessions is longer.
const RECONNECT_MAX: Duration = Duration::from_secs(20);

/// An agent whose effects are carried out by the test.
struct Node {
    state: tempfile::TempDir,
    core: Core,
    tools: Tools,
    jobs: VecDeque<Job>,
    /// What it did and said, in order.
    log: Vec<String>,
    session: u64,
}

fn fleet() -> FleetId {
    FleetId::new("test").expect("a name")
}

fn node() -> NodeId {
    NodeId::new("n1").expect("a name")
}

fn key(attempt: u32) -> TaskKey {
    let (rollout, plan) = (RolloutId::new("r1").expect("an id"), PlanId::new("p1").expect("an id"));
    TaskKey { rollout, plan, stage: Stage::Compute, node: node(), attempt }
}

fn order(generation: u64, attempt: u32) -> TaskOrder {
    let work = Work::Skip { reason: "nothing to do".to_owned() };
    let step = PlannedStep { id: StepId::new("a").expect("an id"), title: "A".to_owned(), work };
    TaskOrder {
        key: key(attempt),
        generation: Generation(generation),
        planned: None,
        steps: vec![step].into(),
    }
}

fn leader(generation: u64, id: u64) -> Leader {
    Leader { generation: Generation(generation), id: Some(LeaderId::new(id)) }
}

impl Node {
    fn new() -> Self {
        Self::on(tempfile::tempdir().expect("a directory"))
    }

    /// An agent on the state that another left.
    fn on(state: tempfile::TempDir) -> Self {
        let (file, _) = JournalFile::open(state.path()).expect("a journal");
        Self::with(state, file)
    }

    fn with(state: tempfile::TempDir, file: JournalFile) -> Self {
        let journal = SharedJournal::new(file);
        let machine = FakeMachine::debian_compute();
        let os = Os { platform: machine.platform.clone() };
        let (host, output) = (Arc::new(FakeHost::new(machine)), Arc::new(Output::default()));
        let core = Core::new(Beginning {
            fleet: fleet(),
            node: node(),
            coordinator: "coordinator.example:7600".parse().expect("an address"),
            host: host.clone(),
            journal: journal.clone(),
            output: output.clone(),
            backoff: Backoff::new(Duration::from_secs(1), RECONNECT_MAX, 7),
        });
        let policy = PolicyFile::new(state.path().join("policy.toml"));
        let (extra_roles, etcd) = (BTreeSet::new(), EtcdSettings::default());
        let tools = Tools { host, os, policy, node: node(), extra_roles, etcd, journal, output };
        let mut node = Self { state, core, tools, jobs: VecDeque::new(), log: Vec::new(), session: 0 };
        let begin = node.core.begin();
        node.carry_out(begin);
        node
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.log.push(match effect {
                Effect::Dial { session, after } => {
                    self.session = session;
                    format!("dial {session} after {} ms", after.as_millis())
                }
                Effect::Heartbeat { every } => format!("heartbeat every {} s", every.as_secs()),
                Effect::Work(job) => {
                    let name = match &job {
                        Job::Advance => "advance",
                        Job::Observe => "observe",
                        Job::Preview(_) => "preview",
                    };
                    self.jobs.push_back(job);
                    format!("work {name}")
                }
                Effect::Status(status) => status,
            });
        }
    }

    fn take(&mut self, event: Event) {
        let effects = self.core.take(event).expect("it goes on");
        self.carry_out(effects);
    }

    fn told(&mut self, told: Told) {
        self.take(Event::Link { session: self.session, told });
    }

    fn said(&mut self, said: FromCoordinator) {
        self.told(Told::Said(Box::new(said)));
    }

    fn welcome(&mut self, fleet: FleetId, generation: u64) {
        self.welcome_of(fleet, leader(generation, 1));
    }

    fn welcome_of(&mut self, fleet: FleetId, leader: Leader) {
        let version = OWN.to_owned();
        self.said(FromCoordinator::Welcome(Welcome { fleet, leader, version, heartbeat_interval_s: 3 }));
    }

    /// Does every job and says everything, until neither is left.
    fn settle(&mut self) {
        loop {
            while self.core.has_to_say() {
                let message = self.core.next_message().expect("something to say");
                self.log.push(format!("say {}", word(&message)));
            }
            let Some(job) = self.jobs.pop_front() else { return };
            let mut doing = Doing::new(job);
            loop {
                let mut told = Vec::new();
                let pace = doing.go_on(&self.tools, &mut |what| {
                    told.push(what);
                    true
                });
                told.into_iter().for_each(|what| self.take(Event::Worker(what)));
                if pace != Pace::GoesOn {
                    assert_eq!(pace, Pace::Done);
                    break;
                }
            }
        }
    }

    fn new_log(&mut self) -> String {
        std::mem::take(&mut self.log).join("\n")
    }

    fn connected() -> Self {
        let mut node = Self::new();
        node.settle();
        node.told(Told::Connected);
        node.settle();
        node.welcome(fleet(), 3);
        node.settle();
        node
    }
}

fn word(message: &ToCoordinator) -> String {
    match message {
        ToCoordinator::Hello { seen, facts, .. } => format!("hello, {seen}, facts {}", facts.is_some()),
        ToCoordinator::Heartbeat { sequence, .. } => format!("heartbeat {sequence}"),
        ToCoordinator::Report(task) => format!("report {} {:?}", task.order.key.attempt, task.result),
        ToCoordinator::Refused { reason, .. } => format!("refused: {reason}"),
        ToCoordinator::Output(piece) => format!("output of {}", piece.step),
        ToCoordinator::Preview(done) => format!("preview {}", done.request),
        ToCoordinator::Facts(_) => "facts".to_owned(),
    }
}

#[test]
fn a_task_from_the_first_dial_to_its_acknowledgement() {
    let mut node = Node::connected();
    node.said(FromCoordinator::Order(order(3, 1)));
    node.settle();
    node.said(FromCoordinator::Order(order(3, 1)));
    node.said(FromCoordinator::Acknowledged(key(1)));
    node.take(Event::HeartbeatDue);
    node.settle();
    insta::assert_snapshot!(node.new_log(), @"
    work observe
    dial 1 after 0 ms
    say hello, generation 0, facts true
    connected to coordinator.example:7600
    heartbeat every 3 s
    say heartbeat 1
    work advance
    say report 1 None
    say report 1 Some(Finished)
    say facts
    say output of a
    say heartbeat 2
    say report 1 Some(Finished)
    ");
    let task = node.tools.journal.read(|journal| journal.task(&key(1)).cloned()).expect("the task");
    assert_eq!((task.result, task.acknowledged), (Some(TaskResult::Finished), true));
}

#[test]
fn whoever_is_not_to_be_obeyed_is_left_and_dialled_again_later_and_later() {
    let mut node = Node::connected();
    node.new_log();
    let expected = |why: &str| format!("not connected to coordinator.example:7600: {why}\ndial");
    for (said, why) in [
        (FromCoordinator::Order(order(9, 1)), "it gave an order before it said who it is"),
        (
            FromCoordinator::Welcome(Welcome {
                fleet: FleetId::new("other").expect("a name"),
                leader: leader(9, 1),
                version: OWN.to_owned(),
                heartbeat_interval_s: 3,
            }),
            "it is of fleet other, this node of test",
        ),
    ] {
        node.told(Told::Down(LinkError::Closed { address: node.core.coordinator.clone() }));
        node.told(Told::Connected);
        node.settle();
        node.new_log();
        node.said(said);
        let log = node.new_log();
        assert!(log.starts_with(&expected(why)), "{log}");
        assert!(!node.core.has_to_say(), "the new session is not connected yet");
    }
    node.told(Told::Connected);
    node.welcome(fleet(), 2);
    let log = node.new_log();
    assert!(
        log.starts_with("not connected to coordinator.example:7600: its orders are not obeyed"),
        "an older generation than the one seen: {log}"
    );
    assert_eq!(node.tools.journal.read(Journal::generation), Generation(3));
    assert!(node.tools.journal.read(|journal| journal.current().is_none()));
}

#[test]
fn of_two_coordinators_of_one_generation_the_one_that_was_obeyed_first_is_obeyed() {
    let mut node = Node::connected();
    node.new_log();
    node.welcome_of(fleet(), leader(3, 2));
    assert!(node.new_log().contains("dial 2 after"), "it is left");
    node.told(Told::Connected);
    node.settle();
    assert_eq!(node.new_log(), "say hello, generation 3, leader 0000000000000001, facts true");
    node.welcome_of(fleet(), leader(4, 2));
    assert_eq!(node.tools.journal.read(Journal::leader), leader(4, 2));
    node.welcome_of(fleet(), leader(4, 1));
    assert_eq!(node.tools.journal.read(Journal::leader), leader(4, 2));
    assert!(node.tools.journal.read(|journal| journal.current().is_none()));
}

#[test]
fn the_last_words_of_a_session_that_was_given_up_are_ignored() {
    let mut node = Node::connected();
    let old = node.session;
    node.told(Told::Down(LinkError::Closed { address: node.core.coordinator.clone() }));
    assert_ne!(node.session, old);
    node.new_log();
    node.take(Event::Link { session: old, told: Told::Said(Box::new(FromCoordinator::Order(order(3, 1)))) });
    node.take(Event::Link { session: old, told: Told::Connected });
    node.settle();
    assert_eq!(node.new_log(), "");
}

#[test]
fn an_open_task_goes_on_before_there_is_a_coordinator() {
    let mut node = Node::connected();
    node.said(FromCoordinator::Order(order(3, 1)));
    let Node { state, core, tools, .. } = node;
    drop((core, tools));
    let mut node = Node::on(state);
    node.settle();
    insta::assert_snapshot!(node.new_log(), @"
    work observe
    work advance
    dial 1 after 0 ms
    ");
    assert_eq!(node.tools.journal.read(Journal::next), Next::Idle);
}

#[test]
fn previews_that_wait_are_bounded() {
    let mut node = Node::connected();
    node.new_log();
    for request in 0..40 {
        let job = PreviewJob { request, stage: Stage::Compute, steps: order(3, 1).steps.to_vec() };
        node.said(FromCoordinator::Preview(job));
    }
    let asked = node.jobs.len();
    node.settle();
    let log = node.new_log();
    assert_eq!((asked, log.matches("say preview").count()), (16, 16), "{log}");
    assert_eq!(node.core.previews, 0);
}

#[test]
fn heartbeats_say_what_the_task_stands_still_for_until_it_goes_on() {
    let mut node = Node::connected();
    let mut heartbeat = |told: worker::Told| {
        node.take(Event::Worker(told));
        match node.core.next_message() {
            Some(ToCoordinator::Heartbeat { stands_still, .. }) => stands_still,
            other => panic!("a heartbeat, not {other:?}"),
        }
    };
    let why = Some("the disk is full".to_owned());
    assert_eq!(heartbeat(worker::Told::StandsStill(why.clone())), why);
    assert_eq!(heartbeat(worker::Told::StandsStill(None)), None);
    node.take(Event::Worker(worker::Told::StandsStill(why.clone())));
    node.told(Told::Down(LinkError::Closed { address: node.core.coordinator.clone() }));
    node.told(Told::Connected);
    node.welcome(fleet(), 3);
    let mut said = std::iter::from_fn(|| node.core.next_message());
    let again = said.find_map(|message| match message {
        ToCoordinator::Heartbeat { stands_still, .. } => Some(stands_still),
        _ => None,
    });
    assert_eq!(again, Some(why), "the next session hears it too");
}

#[test]
fn a_worker_that_ended_ends_the_agent() {
    let mut node = Node::connected();
    let error = node.core.take(Event::Worker(worker::Told::Ended)).expect_err("it can't go on");
    assert!(matches!(error, AgentError::Worker), "{error}");
}

/// It would refuse every order and give up every session for ever, and nobody but the next agent can read the journal again.
#[test]
fn an_agent_ends_when_what_is_on_its_disk_is_not_known_any_more() {
    let welcomed = |node: &mut Node| {
        node.settle();
        node.told(Told::Connected);
        node.welcome(fleet(), 3);
        node.settle();
    };
    let key = || key(1);
    let said = [
        FromCoordinator::Welcome(Welcome {
            fleet: fleet(),
            leader: leader(4, 2),
            version: OWN.to_owned(),
            heartbeat_interval_s: 3,
        }),
        FromCoordinator::Order(order(3, 2)),
        FromCoordinator::Acknowledged(key()),
    ];
    for said in said {
        let (medium, state) = (FakeMedium::default(), tempfile::tempdir().expect("a directory"));
        let (file, _) = JournalFile::open_on(Box::new(medium.clone())).expect("a journal");
        let mut node = Node::with(state, file);
        welcomed(&mut node);
        node.said(FromCoordinator::Order(order(3, 1)));
        node.settle();
        medium.fail_next(Operation::Sync);
        let event = Event::Link { session: node.session, told: Told::Said(Box::new(said.clone())) };
        let ended = node.core.take(event).expect_err("it can't go on");
        assert!(matches!(ended, AgentError::Journal(_)), "{said:?}: {ended}");
    }
}

#[test]
fn a_coordinator_that_is_too_far_from_this_version_is_left_for_a_long_while() {
    let mut node = Node::connected();
    node.said(FromCoordinator::Order(order(3, 1)));
    node.settle();
    let before = node.tools.journal.read(Journal::leader);
    let mut delays = Vec::new();
    for version in ["99.0.0", "", "1", "99.0.0"] {
        node.told(Told::Down(LinkError::Closed { address: node.core.coordinator.clone() }));
        node.told(Told::Connected);
        node.settle();
        node.new_log();
        let (version, leader) = (version.to_owned(), leader(9, 9));
        let welcome = Welcome { fleet: fleet(), leader, version, heartbeat_interval_s: 3 };
        let said = Told::Said(Box::new(FromCoordinator::Welcome(welcome)));
        let effects = node.core.take(Event::Link { session: node.session, told: said }).expect("it goes on");
        delays.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Dial { after, .. } => Some(*after),
            _ => None,
        }));
        node.carry_out(effects);
        let log = node.new_log();
        let status = log.lines().next().unwrap_or_default();
        assert!(status.contains("version") && status.contains(OWN) && status.contains("install"), "{log}");
    }
    assert_eq!(delays.len(), 4);
    assert!(delays.iter().all(|delay| *delay >= RECONNECT_MAX / 2), "{delays:?}");
    assert_eq!(node.tools.journal.read(Journal::leader), before, "its generation is not believed");
    node.told(Told::Connected);
    node.welcome(fleet(), 3);
    node.settle();
    assert!(node.new_log().contains("connected to coordinator.example:7600"), "one that fits is");
}

#[test]
fn a_session_that_did_not_come_about_says_why_and_one_that_a_person_must_mend_waits_long() {
    let mut node = Node::connected();
    let mut waits = Vec::new();
    for for_a_person in [true, false].repeat(20) {
        node.new_log();
        let address = node.core.coordinator.clone();
        let reason = "this agent's version is too old".to_owned();
        let ended = LinkError::Ended { address, reason, next: "", for_a_person };
        let event = Event::Link { session: node.session, told: Told::Down(ended) };
        let effects = node.core.take(event).expect("it goes on");
        waits.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Dial { after, .. } => Some((for_a_person, *after)),
            _ => None,
        }));
        node.carry_out(effects);
        let log = node.new_log();
        let status = "not connected to coordinator.example:7600: the session with coordinator.example:7600 ended: this agent's \
                      version is too old\ndial";
        assert!(log.starts_with(status), "{log}");
    }
    assert_eq!(waits.len(), 40);
    assert!(waits.iter().all(|(long, wait)| !long || *wait >= RECONNECT_MAX / 2), "{waits:?}");
    assert!(waits.iter().any(|(long, wait)| !long && *wait < RECONNECT_MAX / 2), "{waits:?}");
}

#[test]
fn an_agent_that_is_turned_away_says_so_and_comes_back_later() {
    let mut node = Node::connected();
    for _ in 0..20 {
        node.new_log();
        let (address, reason) = (node.core.coordinator.clone(), "it is full".to_owned());
        let event = Event::Link {
            session: node.session,
            told: Told::Down(LinkError::TurnedAway { address, reason }),
        };
        let effects = node.core.take(event).expect("it goes on");
        let wait = effects.iter().find_map(|effect| match effect {
            Effect::Dial { after, .. } => Some(*after),
            _ => None,
        });
        assert!(wait.is_some_and(|wait| (RECONNECT_MAX / 2..=RECONNECT_MAX).contains(&wait)), "{wait:?}");
        node.carry_out(effects);
        let log = node.new_log();
        insta::allow_duplicates! {
            insta::assert_snapshot!(
                log.lines().next().unwrap_or_default(),
                @"not connected to coordinator.example:7600: the coordinator at coordinator.example:7600 has turned this agent away: it is full"
            );
        }
    }
}

#[test]
fn what_can_not_be_read_is_refused_with_both_versions_and_changes_nothing() {
    let mut node = Node::connected();
    node.new_log();
    let before = node.tools.journal.read(Journal::clone);
    let (key, what) = (key(1).into(), "unknown action 'moon.fly'".to_owned());
    node.said(FromCoordinator::UnreadableOrder { key, what: what.clone() });
    node.settle();
    let log = node.new_log().replace(OWN, "OWN");
    insta::assert_snapshot!(log, @"say refused: wavegate-agent OWN on this node cannot read the order of wavegate-coordinator OWN: unknown action 'moon.fly'; report this as a defect of wavegate, with the agent's log");
    let steps = vec![StepId::new("a").expect("an id"), StepId::new("b").expect("an id")];
    let asked = UnreadablePreview { request: 7, stage: "verify".to_owned(), steps, what };
    node.said(FromCoordinator::UnreadablePreview(asked));
    let Some(ToCoordinator::Preview(done)) = node.core.next_message() else { panic!("an answer") };
    assert_eq!((done.request, done.stage.as_str(), done.previews.len()), (7, "verify", 2));
    for given in done.previews {
        let Preview::Blocked { error } = given.preview else { panic!("{given:?}") };
        assert!(error.what.contains("moon.fly") && error.what.contains(OWN), "{}", error.what);
    }
    assert_eq!(node.tools.journal.read(Journal::clone), before);
}
