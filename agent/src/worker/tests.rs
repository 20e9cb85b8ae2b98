//! Tests of the worker: a panic in an action fails its step and ends nothing else.

use super::*;
use crate::etcd::EtcdSettings;
use crate::host::etcd::{Endpoint, Etcd};
use crate::host::fake::{FakeHost, FakeMachine};
use crate::host::{Command, Digested, Exit, Fetched, HostError, HttpAnswer, OnLine, Process, SystemInfo};
use crate::journal::JournalFile;
use crate::journal::medium::fake::FakeMedium;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use wavegate_common::action::{Action, IniSet};
use wavegate_common::id::{Generation, PlanId, RolloutId, Timestamp};
use wavegate_common::order::TaskOrder;
use wavegate_common::rollout::TaskResult;

/// A machine on which looking at one file is more than the agent can take.
struct Trap(FakeHost);

const TRAP: &str = "/etc/trap.conf";

impl Host for Trap {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, HostError> {
        assert!(path != Path::new(TRAP), "index out of bounds");
        self.0.read(path)
    }
    fn digest(&self, path: &Path) -> Result<Option<Digested>, HostError> {
        self.0.digest(path)
    }
    fn now(&self) -> Timestamp {
        self.0.now()
    }
    fn system(&self) -> SystemInfo {
        self.0.system()
    }
    fn sleep(&self, time: Duration) {
        self.0.sleep(time);
    }
    fn run(&self, command: &Command) -> Result<Exit, HostError> {
        self.0.run(command)
    }
    fn transact(&self, name: &str, command: &Command, on_line: OnLine<'_>) -> Result<Exit, HostError> {
        self.0.transact(name, command, on_line)
    }
    fn transaction_known(&self, name: &str) -> bool {
        self.0.transaction_known(name)
    }
    fn forget_transaction(&self, name: &str) -> Result<(), HostError> {
        self.0.forget_transaction(name)
    }
    fn forget_other_transactions(&self, keep: &[String]) -> Result<(), HostError> {
        self.0.forget_other_transactions(keep)
    }
    fn note(&self, name: &str) -> Result<Option<String>, HostError> {
        self.0.note(name)
    }
    fn set_note(&self, name: &str, text: Option<&str>) -> Result<(), HostError> {
        self.0.set_note(name, text)
    }
    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.0.lock_holder(path)
    }
    fn etcd(&self, endpoint: &Endpoint) -> Box<dyn Etcd + '_> {
        self.0.etcd(endpoint)
    }
    fn identity(&self, path: &Path) -> Option<(u64, u64)> {
        self.0.identity(path)
    }
    fn free_bytes(&self, directory: &Path) -> Option<u64> {
        self.0.free_bytes(directory)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), HostError> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<(), HostError> {
        self.0.remove(path)
    }
    fn replace(
        &self,
        path: &Path,
        content: &[u8],
        backup: Option<&Path>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.0.replace(path, content, backup, executable)
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }
    fn modified_at(&self, path: &Path) -> Option<Timestamp> {
        self.0.modified_at(path)
    }
    fn changed_at(&self, path: &Path) -> Option<Timestamp> {
        self.0.changed_at(path)
    }
    fn list(&self, directory: &Path) -> Vec<String> {
        self.0.list(directory)
    }
    fn which(&self, program: &str) -> Option<PathBuf> {
        self.0.which(program)
    }
    fn processes(&self) -> Vec<Process> {
        self.0.processes()
    }
    fn process(&self, pid: u32) -> Option<Process> {
        self.0.process(pid)
    }
    fn end_process(&self, process: &Process, kill: bool) -> Result<bool, HostError> {
        self.0.end_process(process, kill)
    }
    fn http_get(&self, url: &str, timeout: Duration) -> Result<HttpAnswer, HostError> {
        self.0.http_get(url, timeout)
    }
    fn fetch(&self, url: &str, expected_sha256: &str, timeout: Duration) -> Result<Fetched, HostError> {
        self.0.fetch(url, expected_sha256, timeout)
    }
}

fn tools(state: &Path) -> Tools {
    let machine = FakeMachine::debian_compute();
    Tools {
        os: Os { platform: machine.platform.clone() },
        policy: crate::policy::tests::policy_in(
            state,
            "ini = [{ file = \"/etc/trap.conf\", section = \"a\", keys = [\"b\"] }]",
        ),
        host: Arc::new(Trap(FakeHost::new(machine))),
        node: NodeId::new("n1").expect("a name"),
        extra_roles: BTreeSet::new(),
        etcd: EtcdSettings::default(),
        journal: SharedJournal::new(JournalFile::open(state).expect("a journal").0),
        output: Arc::new(Output::default()),
    }
}

fn trapped() -> PlannedStep {
    let (section, key, value) = ("a".to_owned(), "b".to_owned(), "c".to_owned());
    let action = Action::IniSet(IniSet { file: TRAP.to_owned(), section, key, value });
    let id = StepId::new("set").expect("an id");
    PlannedStep { id, title: "Set".to_owned(), work: Work::Run { action, timeout_s: 60 } }
}

#[test]
fn a_panic_in_an_action_fails_its_step_and_the_worker_lives_on() {
    let state = tempfile::tempdir().expect("a directory");
    let tools = tools(state.path());
    let journal = tools.journal.clone();
    let key = TaskKey {
        rollout: RolloutId::new("r1").expect("an id"),
        plan: PlanId::new("p1").expect("an id"),
        stage: Stage::Compute,
        node: tools.node.clone(),
        attempt: 1,
    };
    let order = TaskOrder {
        key: key.clone(),
        generation: Generation(1),
        planned: None,
        steps: vec![trapped()].into(),
    };
    journal.append(&Record::Accepted { order, at: Timestamp(1) }).expect("accepted");
    let (send, told) = mpsc::channel();
    let jobs = start(tools, move |told| send.send(told).is_ok()).expect("a thread");
    jobs.send(Job::Advance).expect("sent");
    let preview = PreviewJob { request: 3, stage: Stage::Compute, steps: vec![trapped()] };
    jobs.send(Job::Preview(preview)).expect("sent");
    drop(jobs);
    let told: Vec<Told> = told.iter().collect();
    let task = journal.read(|journal| journal.current().cloned()).expect("a task");
    assert_eq!(task.result, Some(TaskResult::Failed));
    let Outcome::Failed { error } = &task.steps[0].outcome else { panic!("{:?}", task.steps) };
    assert_eq!(error.what, "the agent itself failed: index out of bounds");
    assert!(error.next.contains("report it"), "{}", error.next);
    let previewed = told.iter().find_map(|told| match told {
        Told::Previewed(done) => Some(done.previews[0].preview.clone()),
        _ => None,
    });
    assert!(matches!(previewed, Some(Preview::Blocked { .. })), "{told:?}");
    assert!(matches!(told.last(), Some(Told::Ended)));
}

#[test]
fn a_closed_journal_ends_the_worker() {
    let state = tempfile::tempdir().expect("a directory");
    let tools = tools(state.path());
    let journal = tools.journal.clone();
    let key = TaskKey {
        rollout: RolloutId::new("r1").expect("an id"),
        plan: PlanId::new("p1").expect("an id"),
        stage: Stage::Compute,
        node: tools.node.clone(),
        attempt: 1,
    };
    let order = TaskOrder { key, generation: Generation(1), planned: None, steps: vec![trapped()].into() };
    journal.append(&Record::Accepted { order, at: Timestamp(1) }).expect("accepted");
    journal.close();
    JournalFile::open(state.path()).expect("free for another agent");
    let (send, told) = mpsc::channel();
    let jobs = start(tools, move |told| send.send(told).is_ok()).expect("a thread");
    jobs.send(Job::Advance).expect("sent");
    assert!(matches!(told.iter().last(), Some(Told::Ended)));
}

#[test]
fn a_task_whose_records_find_no_room_says_so_once_and_that_it_goes_on() {
    let (state, medium) = (tempfile::tempdir().expect("a directory"), FakeMedium::default());
    let file = JournalFile::open_on(Box::new(medium.clone())).expect("a journal").0;
    let tools = Tools { journal: SharedJournal::new(file), ..tools(state.path()) };
    let order = TaskOrder {
        key: TaskKey {
            rollout: RolloutId::new("r1").expect("an id"),
            plan: PlanId::new("p1").expect("an id"),
            stage: Stage::Compute,
            node: tools.node.clone(),
            attempt: 1,
        },
        generation: Generation(1),
        planned: None,
        steps: vec![trapped()].into(),
    };
    tools.journal.append(&Record::Accepted { order, at: Timestamp(1) }).expect("accepted");
    let mut doing = Doing::new(Job::Advance);
    let mut told = Vec::new();
    let mut go_on = |told: &mut Vec<Told>| {
        doing.go_on(&tools, &mut |what| {
            told.push(what);
            true
        })
    };
    medium.set_room(Some(0));
    for _ in 0..3 {
        assert_eq!(go_on(&mut told), Pace::GoesOn);
    }
    let [Told::StandsStill(Some(why))] = told.as_slice() else { panic!("{told:?}") };
    assert!(why.contains("journal"), "{why}");
    told.clear();
    medium.set_room(None);
    while go_on(&mut told) == Pace::GoesOn {}
    let still: Vec<_> = told.iter().filter(|told| matches!(told, Told::StandsStill(_))).collect();
    assert!(matches!(still.as_slice(), [Told::StandsStill(None)]), "{told:?}");
    let result = tools.journal.read(|journal| journal.current().and_then(|task| task.result));
    assert_eq!(result, Some(TaskResult::Failed), "its step panics, and is over");
}
