//! Tests of the runner: what it records, and what it makes of a step that was begun before.

mod as_planned;
mod leaving;

use super::*;
use crate::etcd::EtcdSettings;
use crate::host::fake::{FakeHost, FakeMachine};
use crate::journal::{JournalFile, SharedJournal};
use crate::policy::tests::policy_in;
use wavegate_common::action::{IniSet, PipUninstall, ServiceCheck};
use wavegate_common::id::{Generation, NodeId, PlanId, RolloutId, Timestamp};
use wavegate_common::plan::PlannedNode;
use wavegate_common::rollout::{EndedStep, TaskResult};

const FILE: &str = "/etc/neutron/neutron.conf";

const POLICY: &str = r#"
services = { disable = ["felix", "nothing"] }
python = { uninstall = ["networking-calico"] }
ini = [{ file = "/etc/neutron/neutron.conf", section = "oslo_concurrency", keys = ["lock_path"] }]
"#;

struct Node {
    state: tempfile::TempDir,
    policy: PolicyFile,
    journal: SharedJournal,
    host: FakeHost,
    os: Os,
    extra_roles: BTreeSet<Role>,
    etcd: EtcdSettings,
}

impl Node {
    fn new() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let (file, _) = JournalFile::open(state.path()).expect("a journal");
        let mut machine = FakeMachine::debian();
        machine.put_file(FILE, "[oslo_concurrency]\n");
        let os = Os { platform: machine.platform.clone() };
        let policy = policy_in(state.path(), POLICY);
        Self {
            state,
            policy,
            journal: SharedJournal::new(file),
            host: FakeHost::new(machine),
            os,
            extra_roles: BTreeSet::new(),
            etcd: EtcdSettings::default(),
        }
    }

    fn order(&self, attempt: u32, steps: &[PlannedStep]) -> TaskKey {
        self.order_as_planned(attempt, steps, None)
    }

    fn order_as_planned(&self, attempt: u32, steps: &[PlannedStep], planned: Option<PlannedNode>) -> TaskKey {
        let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new("n1").expect("a name"));
        let plan = PlanId::new("p1").expect("an id");
        let key = TaskKey { rollout, plan, stage: Stage::Compute, node, attempt };
        let order =
            TaskOrder { key: key.clone(), generation: Generation(1), planned, steps: steps.to_vec().into() };
        self.append(Record::Accepted { order, at: Timestamp(1) });
        key
    }

    fn append(&self, record: Record) {
        self.journal.append(&record).expect("recorded");
    }

    fn advance(&self) -> Vec<String> {
        let mut told = Vec::new();
        let mut tell = |progress: Progress<'_>| {
            told.push(match progress {
                Progress::Recorded(key) => format!("recorded {}", key.attempt),
                Progress::Ended(key) => format!("ended {}", key.attempt),
                Progress::Step(_, step) => format!("step {step}"),
                Progress::Line(line) => line.to_owned(),
            });
        };
        advance(&self.journal, self.machine(), &mut tell).expect("advanced");
        told
    }

    fn machine(&self) -> Machine<'_> {
        let Self { host, os, policy, extra_roles, etcd, .. } = self;
        Machine { host, os, policy, extra_roles, etcd }
    }

    fn last(&self) -> (Vec<EndedStep>, Option<TaskResult>) {
        self.journal.read(|journal| {
            let task = journal.current().expect("a task");
            (task.steps.clone(), task.result)
        })
    }

    fn outcomes(&self) -> Vec<String> {
        self.last().0.iter().map(|step| step.outcome.to_string()).collect()
    }
}

fn id(text: &str) -> StepId {
    StepId::new(text).expect("an id")
}

fn run(name: &str, action: Action, timeout_s: u64) -> PlannedStep {
    PlannedStep { id: id(name), title: name.to_owned(), work: Work::Run { action, timeout_s } }
}

fn set_lock_path() -> PlannedStep {
    let (section, key, value) = ("oslo_concurrency".to_owned(), "lock_path".to_owned(), "/lock".to_owned());
    run("set", Action::IniSet(IniSet { file: FILE.to_owned(), section, key, value }), 60)
}

fn check(inactive: &[&str]) -> PlannedStep {
    let inactive = inactive.iter().map(|unit| (*unit).to_owned()).collect();
    run("look", Action::ServiceCheck(ServiceCheck { inactive, ..ServiceCheck::default() }), 60)
}

fn skip() -> PlannedStep {
    PlannedStep {
        id: id("skip"),
        title: "Skip".to_owned(),
        work: Work::Skip { reason: "before Liberty".to_owned() },
    }
}

#[test]
fn every_step_is_recorded_before_and_after() {
    let node = Node::new();
    node.order(1, &[set_lock_path(), skip(), check(&["nothing"])]);
    let told = node.advance();
    assert_eq!(
        told,
        [
            "step set",
            "recorded 1",
            "changed: /etc/neutron/neutron.conf: [oslo_concurrency] lock_path = /lock: line 2 added, the file before is \
             /etc/neutron/neutron.conf.wavegate-r1-compute-1-set",
            "recorded 1",
            "step skip",
            "skipped: before Liberty",
            "recorded 1",
            "step look",
            "recorded 1",
            "already so: nothing is not installed",
            "recorded 1",
            "ended 1"
        ]
    );
    let (steps, result) = node.last();
    let words: Vec<_> = steps.iter().map(|step| step.outcome.word()).collect();
    assert_eq!(
        (words.as_slice(), result),
        (&["changed", "skipped", "already so"][..], Some(TaskResult::Finished))
    );
    assert_eq!(
        node.journal.read(|journal| journal.changed_at(Stage::Compute, &id("set"))),
        Some(steps[0].ended_at)
    );
    assert!(node.advance().is_empty(), "nothing is open");
}

#[test]
fn a_failed_step_ends_the_task() {
    let node = Node::new();
    node.host
        .machine()
        .services
        .insert("felix".to_owned(), crate::host::fake::FakeService { active: true, ..Default::default() });
    node.order(1, &[check(&["felix"]), set_lock_path()]);
    node.advance();
    let (steps, result) = node.last();
    assert_eq!((steps.len(), steps[0].outcome.word(), result), (1, "failed", Some(TaskResult::Failed)));
    assert!(
        !String::from_utf8_lossy(&node.host.machine().files[std::path::Path::new(FILE)].content)
            .contains("lock_path")
    );
}

#[test]
fn a_step_that_was_completed_before_an_interruption_counts_as_a_change() {
    let node = Node::new();
    let key = node.order(1, &[set_lock_path(), check(&["nothing"])]);
    node.append(Record::StepStarted { key: key.clone(), step: id("set"), at: Timestamp(2) });
    node.host.machine().put_file(FILE, "[oslo_concurrency]\nlock_path = /lock\n");
    node.advance();
    let outcomes = node.outcomes();
    assert!(outcomes[0].starts_with("changed: completed before the interruption: "), "{outcomes:?}");
    assert!(node.journal.read(|journal| journal.changed_at(Stage::Compute, &id("set"))).is_some());
    assert!(
        node.host.machine().history.iter().all(|line| !line.starts_with("replace")),
        "it was not done again"
    );
}

#[test]
fn so_does_one_that_an_earlier_attempt_completed_before_it_failed() {
    let node = Node::new();
    let key = node.order(1, &[set_lock_path()]);
    let error = StepError { what: "it did not take".to_owned(), output: Vec::new(), next: "look".to_owned() };
    let (step, at) = (id("set"), Timestamp(2));
    node.append(Record::StepEnded { key: key.clone(), step, at, outcome: Outcome::Failed { error } });
    node.append(Record::TaskEnded { key, result: TaskResult::Failed, at });
    node.host.machine().put_file(FILE, "[oslo_concurrency]\nlock_path = /lock\n");
    node.order(2, &[set_lock_path()]);
    node.advance();
    assert!(
        node.outcomes()[0].starts_with("changed: completed by an earlier attempt: "),
        "{:?}",
        node.outcomes()
    );
    node.order(3, &[set_lock_path()]);
    node.advance();
    assert!(
        node.outcomes()[0].starts_with("already so: "),
        "settled by the second attempt: {:?}",
        node.outcomes()
    );
}

#[test]
fn evidence_never_counts_as_a_change() {
    let node = Node::new();
    let key = node.order(1, &[check(&["nothing"])]);
    node.append(Record::StepStarted { key, step: id("look"), at: Timestamp(2) });
    node.advance();
    assert!(node.outcomes()[0].starts_with("already so: "), "{:?}", node.outcomes());
}

#[test]
fn time_spent_on_looking_counts() {
    let node = Node::new();
    let action = Action::PipUninstall(PipUninstall { distribution: "networking-calico".to_owned() });
    node.order(1, &[run("pip", action, 0), set_lock_path()]);
    let (path, version) = ("/usr/lib/python3/networking_calico.egg-info".into(), "1.0".to_owned());
    let name = "networking-calico".to_owned();
    node.host.machine().distributions.push(crate::host::fake::FakeDistribution { name, version, path });
    node.advance();
    assert!(node.outcomes()[0].contains("took longer than the 0 s"), "{:?}", node.outcomes());
}

#[test]
fn a_task_with_a_step_outside_the_policy_is_not_begun() {
    let node = Node::new();
    let foreign = Action::ServiceDisable(wavegate_common::action::ServiceDisable { unit: "sshd".to_owned() });
    node.order(1, &[skip(), set_lock_path(), check(&["nothing"]), run("foreign", foreign, 60)]);
    node.advance();
    let (steps, result) = node.last();
    assert_eq!((steps.len(), result), (2, Some(TaskResult::Failed)));
    let Outcome::Failed { error } = &steps[1].outcome else { panic!("{steps:?}") };
    insta::assert_snapshot!(error.what, @"not begun, because of a later step, foreign: service.disable is outside this node's policy: service sshd is not permitted by 'services.disable'");
    assert!(node.host.machine().history.is_empty(), "{:?}", node.host.machine().history);
    let text = std::fs::read_to_string(crate::journal::path_in(node.state.path())).expect("a journal");
    assert!(!text.contains("step_started"), "{text}");
}

#[test]
fn a_policy_that_changes_under_a_task_counts_for_its_next_step() {
    let node = Node::new();
    node.order(1, &[set_lock_path(), check(&["nothing"])]);
    let edit = |progress: Progress<'_>| {
        // The first record is that the first step was started.
        if matches!(progress, Progress::Recorded(_)) {
            policy_in(node.state.path(), "nonsense");
        }
    };
    advance(&node.journal, node.machine(), &mut { edit }).expect("advanced");
    let outcomes = node.outcomes();
    assert!(outcomes[0].starts_with("changed"), "{outcomes:?}");
    assert!(outcomes[1].starts_with("failed: this node's policy cannot be used"), "{outcomes:?}");
    policy_in(node.state.path(), POLICY);
    node.order(2, &[set_lock_path(), check(&["nothing"])]);
    node.advance();
    assert_eq!(node.last().1, Some(TaskResult::Finished));
}

#[test]
fn transactions_are_named_after_attempt_and_step() {
    let node = Node::new();
    let key = node.order(2, &[set_lock_path()]);
    assert_eq!(transaction_name(&key, &id("set")), "r1:compute:2:set");
}

#[test]
fn a_piece_is_one_record_or_the_work_of_one_step() {
    let node = Node::new();
    node.order(1, &[set_lock_path(), skip()]);
    let text = || {
        let text = std::fs::read_to_string(crate::journal::path_in(node.state.path())).expect("a journal");
        let done = node.host.machine().history.len();
        (text.lines().count(), done)
    };
    let (mut at, mut seen) = (At::default(), vec![text()]);
    while let Some(next) = go_on(&node.journal, node.machine(), at, &mut |_| {}).expect("it goes on") {
        at = next;
        seen.push(text());
    }
    // Accepted; started; the file; ended; skipped; the end of the task.
    assert_eq!(seen, [(2, 0), (3, 0), (3, 1), (4, 1), (5, 1), (6, 1)]);
}
