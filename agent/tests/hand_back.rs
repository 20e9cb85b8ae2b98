//! `wavegate-agent hand-back` as a program of its own, beside an agent that is this process: the lock between the two, what a kill
//! of either leaves, and exit codes. The steps are looks at a machine in memory.

// Clippy takes only functions marked as tests for tests, and these have a bench.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{FakeHost, FakeMachine};
use wavegate_agent::host::real::RealHost;
use wavegate_agent::host::{Command, Host};
use wavegate_agent::journal::{JournalFile, SharedJournal, Store};
use wavegate_agent::os::Os;
use wavegate_agent::policy::PolicyFile;
use wavegate_agent::runner::{At, Machine, go_on};
use wavegate_common::action::{Action, ServiceCheck};
use wavegate_common::id::{Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::journal::Record;
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wavegate-agent");

/// How long a machine under load may take for what is a moment otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node whose agent is this process.
struct Node {
    directory: tempfile::TempDir,
    host: FakeHost,
}

fn key(attempt: u32) -> TaskKey {
    let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new("n1").expect("a name"));
    let plan = PlanId::new("p1").expect("an id");
    TaskKey { rollout, plan, stage: Stage::Compute, node, attempt }
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let host = FakeHost::new(FakeMachine::debian());
        let node = Self { directory, host };
        std::fs::create_dir(node.state()).expect("a directory");
        let text = format!("coordinator = \"127.0.0.1:1\"\nstate_directory = {:?}\n", node.state());
        std::fs::write(node.config(), text).expect("written");
        node
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("agent.toml")
    }

    fn journal(&self) -> SharedJournal {
        SharedJournal::new(JournalFile::open(&self.state()).expect("nobody has it").0)
    }

    /// Takes an order of three looks.
    fn order(&self, journal: &SharedJournal, attempt: u32) {
        let look = |name: &str| {
            let inactive = vec!["calico-felix".to_owned()];
            let action = Action::ServiceCheck(ServiceCheck { inactive, ..ServiceCheck::default() });
            let work = Work::Run { action, timeout_s: 60 };
            PlannedStep { id: StepId::new(name).expect("an id"), title: format!("Look at {name}"), work }
        };
        let steps = ["first", "second", "third"].map(look).to_vec();
        let order =
            TaskOrder { key: key(attempt), generation: Generation(1), planned: None, steps: steps.into() };
        journal.append(&Record::Accepted { order, at: Timestamp(1) }).expect("recorded");
    }

    /// Does the next piece of the task; `None` if none is open.
    fn go_on(&self, journal: &SharedJournal, at: At) -> Option<At> {
        let os = Os { platform: self.host.machine().platform.clone() };
        let policy = PolicyFile::new(self.directory.path().join("policy.toml"));
        let (extra_roles, etcd) = (BTreeSet::new(), EtcdSettings::default());
        let machine =
            Machine { host: &self.host, os: &os, policy: &policy, extra_roles: &extra_roles, etcd: &etcd };
        go_on(journal, machine, at, &mut |_| ()).expect("recorded")
    }

    fn to_the_end(&self, journal: &SharedJournal, mut at: At) {
        while let Some(next) = self.go_on(journal, at) {
            at = next;
        }
    }

    fn program(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(PROGRAM);
        command.env_clear().arg("--config").arg(self.config()).arg("hand-back").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Begins to hand back, and has the lock.
    fn hands_back(&self, journal: &SharedJournal, arguments: &[&str]) -> Child {
        let child = self.program(arguments).spawn().expect("it starts");
        wait_for("its lock", || journal.is_leaving().expect("it can be told"));
        child
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Exit code, stdout and stderr.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it was not killed"), text(&output.stdout), text(&output.stderr))
}

fn result(journal: &SharedJournal) -> (usize, Option<TaskResult>) {
    journal.read(|journal| journal.current().map(|task| (task.steps.len(), task.result))).expect("a task")
}

#[test]
fn the_task_ends_behind_the_step_at_hand_and_the_agent_can_be_stopped_without_another_one_beginning() {
    let node = Node::new();
    let journal = node.journal();
    node.order(&journal, 1);
    let at = node.go_on(&journal, At::default()).expect("the first step is begun");
    // What stops the agent looks itself whether a step could begin.
    let stop = node.directory.path().join("stopped");
    let script = format!(
        "flock --nonblock --shared {}/hand-back.lock true || touch {}",
        node.state().display(),
        stop.display()
    );
    let child = node.hands_back(&journal, &["--output", "json", "--", "sh", "-c", &script]);
    node.to_the_end(&journal, at);
    assert_eq!(result(&journal), (2, Some(TaskResult::Failed)));
    journal.append(&Record::Acknowledged { key: key(1) }).expect("recorded");
    let (code, stdout, stderr) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, 0, "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("a document");
    assert_eq!(document["task"]["failed_step"]["id"], "second", "{document}");
    assert_eq!(document["task"]["acknowledged"], true, "{document}");
    assert!(
        stderr.contains("waiting for step first (service.check, 'Look at first') of r1 compute n1 attempt 1")
    );
    assert!(stop.exists(), "it was run with the lock held: {stderr}");
    // Installed again, and retried.
    node.order(&journal, 2);
    node.to_the_end(&journal, At::default());
    assert_eq!(result(&journal), (3, Some(TaskResult::Finished)));
}

#[test]
fn a_hand_back_that_is_killed_leaves_the_agent_going_on() {
    let node = Node::new();
    let journal = node.journal();
    node.order(&journal, 1);
    let at = node.go_on(&journal, At::default()).expect("the first step is begun");
    let mut child = node.hands_back(&journal, &[]);
    child.kill().expect("it is ours");
    child.wait().expect("it ended");
    assert!(!journal.is_leaving().expect("it can be told"));
    node.to_the_end(&journal, at);
    assert_eq!(result(&journal), (3, Some(TaskResult::Finished)));
}

#[test]
fn an_agent_that_is_killed_under_a_hand_back_is_replaced_by_it() {
    let node = Node::new();
    let journal = node.journal();
    node.order(&journal, 1);
    node.go_on(&journal, At::default()).expect("the first step is begun");
    let child = node.hands_back(&journal, &["--within", "60"]);
    drop(journal);
    // It goes on in its place, and says what it lacks: this node was never enrolled.
    let (code, _, stderr) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, 9, "{stderr}");
    assert!(stderr.contains("no agent runs here: going on in its place"), "{stderr}");
    assert!(stderr.contains("its task can't be ended without one"), "{stderr}");
    let journal = node.journal();
    node.to_the_end(&journal, At::default());
    assert_eq!(result(&journal), (3, Some(TaskResult::Finished)), "nothing was lost");
}

#[test]
fn the_exit_code_says_that_the_agent_is_still_at_work() {
    let node = Node::new();
    let (code, stdout, stderr) = told(&node.program(&["--within", "0"]).output().expect("it runs"));
    let nothing =
        format!("No task is open on this node: there is no journal in {}.\n", node.state().display());
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, nothing.as_str(), ""));
    let journal = node.journal();
    node.order(&journal, 1);
    node.go_on(&journal, At::default()).expect("the first step is begun");
    let (code, stdout, stderr) =
        told(&node.program(&["--within", "0", "--", "false"]).output().expect("it runs"));
    assert_eq!((code, stdout.as_str()), (7, ""), "{stderr}");
    assert!(stderr.contains("not handed back within 0 s: the agent is still at step first"), "{stderr}");
    journal.close();
    std::fs::remove_file(wavegate_agent::journal::path_in(&node.state())).expect("given up");
    let (code, _, stderr) = told(&node.program(&["--", "false"]).output().expect("it runs"));
    assert_eq!(code, 10);
    assert!(
        stderr.contains("the agent is handed back, but 'false'") && stderr.contains("exit code 1"),
        "{stderr}"
    );
    std::fs::write(wavegate_agent::journal::path_in(&node.state()), "something else\n").expect("written");
    let (code, _, stderr) = told(&node.program(&[]).output().expect("it runs"));
    assert_eq!(code, 5, "{stderr}");
}

#[test]
fn the_agents_own_transaction_can_not_remove_the_agent() {
    let node = Node::new();
    let host = RealHost::with_runner(node.state(), PathBuf::from(PROGRAM));
    // As a package's script asks: a few processes further down.
    let script =
        format!("sh -c '\"{PROGRAM}\" --config \"{}\" hand-back; exit $?'; exit $?", node.config().display());
    let command = Command::new(["sh", "-c", script.as_str()]).timeout(PATIENCE);
    let mut lines = Vec::new();
    let exit = host.transact("r1:compute:1:install", &command, &mut |line| lines.push(line.to_owned()));
    assert_eq!(exit.expect("it ends").code, 8, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("would remove the agent")), "{lines:?}");
    assert!(!Path::new(&node.state()).join("hand-back.lock").exists());
}
