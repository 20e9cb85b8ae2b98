//! Tests of the hand-back against agents that are this process: what is waited for, what is told, and what is refused.

use super::*;
use crate::host::fake::{FakeHost, FakeMachine};
use crate::output::Output;
use wavegate_common::action::Action;
use wavegate_common::action::{PackageInstall, PackageSpec, ServiceCheck};
use wavegate_common::id::{Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::journal::Record;
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::outcome::{Outcome, StepError};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

/// A node's state directory, and its machine.
struct Node {
    state: tempfile::TempDir,
    host: FakeHost,
    os: Os,
}

impl Node {
    fn new() -> Self {
        let machine = FakeMachine::debian();
        let os = Os { platform: machine.platform.clone() };
        let state = tempfile::tempdir().expect("a directory");
        let node = Self { state, host: FakeHost::new(machine), os };
        node.is_parent(1, 0);
        node.is_parent(std::process::id(), 1);
        node
    }

    fn is_parent(&self, pid: u32, parent: u32) {
        let stat = format!("{pid} (x) S {parent} 1 1");
        self.host.machine().put_file(format!("/proc/{pid}/stat"), stat);
    }

    /// A process that this one works for.
    fn ancestor(&self, line: &str) -> u32 {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let pid = self.host.machine().spawn(&argv);
        self.is_parent(std::process::id(), pid);
        self.is_parent(pid, 1);
        pid
    }

    fn journal(&self) -> SharedJournal {
        SharedJournal::new(JournalFile::open(self.state.path()).expect("nobody has it").0)
    }

    fn hand_back(
        &self,
        within: Duration,
        run_agent: RunAgent<'_>,
    ) -> (anyhow::Result<HandedBack>, Vec<String>) {
        let request =
            Request { state_directory: self.state.path(), within, host: &self.host, os: Some(&self.os) };
        let mut lines = Vec::new();
        let done = hand_back(&request, run_agent, &mut |line| lines.push(line.to_owned()));
        (done.map(|(_, handed_back)| handed_back), lines)
    }

    fn refused(&self, within: Duration) -> String {
        let (refused, _) = self.hand_back(within, &mut |_, _| panic!("an agent runs"));
        format!("{:#}", refused.expect_err("refused"))
    }
}

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(60);

fn id(text: &str) -> StepId {
    StepId::new(text).expect("an id")
}

fn key() -> TaskKey {
    let (rollout, node) = (RolloutId::new("r1").expect("an id"), NodeId::new("n1").expect("a name"));
    let plan = PlanId::new("p1").expect("an id");
    TaskKey { rollout, plan, stage: Stage::Compute, node, attempt: 1 }
}

fn accepted() -> Record {
    let felix = PackageSpec { name: "calico-felix".to_owned(), version: None };
    let install = PackageInstall { packages: vec![felix], ..PackageInstall::default() };
    let step = |name: &str, title: &str, action: Action| {
        let work = Work::Run { action, timeout_s: 60 };
        PlannedStep { id: id(name), title: title.to_owned(), work }
    };
    let steps = vec![
        step("install", "Install the packages", Action::PackageInstall(install)),
        step("look", "Look at the services", Action::ServiceCheck(ServiceCheck::default())),
    ];
    Record::Accepted {
        order: TaskOrder { key: key(), generation: Generation(1), planned: None, steps: steps.into() },
        at: Timestamp(1),
    }
}

fn started() -> Record {
    Record::StepStarted { key: key(), step: id("install"), at: Timestamp(1_763_841_600_000) }
}

/// The rest of the task as a runner leaves it that was asked before the second step.
fn ended() -> [Record; 3] {
    let outcome = Outcome::AlreadySo { evidence: "it is there".to_owned() };
    let error = StepError {
        what: "the agent is being taken off this node".to_owned(),
        output: Vec::new(),
        next: "install it again".to_owned(),
    };
    [
        Record::StepEnded { key: key(), step: id("install"), at: Timestamp(3), outcome },
        Record::StepEnded {
            key: key(),
            step: id("look"),
            at: Timestamp(4),
            outcome: Outcome::Failed { error },
        },
        Record::TaskEnded { key: key(), result: TaskResult::Failed, at: Timestamp(5) },
    ]
}

fn append(journal: &SharedJournal, records: &[Record]) {
    records.iter().for_each(|record| journal.append(record).expect("recorded"));
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG);
        std::thread::yield_now();
    }
}

#[test]
fn where_no_task_is_open_there_is_nothing_to_wait_for() {
    let node = Node::new();
    let nothing = |journal| {
        let (done, lines) = node.hand_back(Duration::ZERO, &mut |_, _| panic!("nothing to run"));
        assert_eq!((done.expect("done"), lines.len()), (HandedBack::nothing(node.state.path(), journal), 0));
    };
    nothing(false);
    let journal = node.journal();
    nothing(true);
    append(&journal, &[accepted(), started()]);
    append(&journal, &ended());
    append(&journal, &[Record::Acknowledged { key: key() }]);
    nothing(true);
    let gone =
        Request { state_directory: Path::new("/nowhere/at/all"), within: LONG, host: &node.host, os: None };
    let (held, done) = hand_back(&gone, &mut |_, _| panic!("nothing to run"), &mut |_| ()).expect("done");
    assert!(held.is_none());
    insta::assert_snapshot!(done.text(), @"No task is open on this node: there is no journal in /nowhere/at/all.");
    insta::assert_snapshot!(HandedBack::nothing(Path::new("/s"), true).text(), @"No task is open on this node, by the journal in /s.");
}

#[test]
fn the_end_of_the_task_and_its_acknowledgement_are_waited_for() {
    let node = Node::new();
    let journal = node.journal();
    append(&journal, &[accepted(), started()]);
    let (done, lines) = std::thread::scope(|scope| {
        let agent = scope.spawn(|| {
            wait_for(|| journal.is_leaving().expect("it can be told"));
            append(&journal, &ended());
            append(&journal, &[Record::Acknowledged { key: key() }]);
        });
        let done = node.hand_back(LONG, &mut |_, _| panic!("an agent runs"));
        agent.join().expect("no panic");
        done
    });
    let done = done.expect("handed back");
    insta::assert_snapshot!(done.text(), @r"
    Handed back: r1 compute n1 attempt 1 has ended at step look: the agent is being taken off this node
      next: install it again
    The coordinator has it in its log.
    ");
    insta::assert_snapshot!(lines.join("\n"), @"waiting for step install (package.install, 'Install the packages') of r1 compute n1 attempt 1, begun at 2025-11-22T20:00:00Z");
    let document = serde_json::to_string_pretty(&done).expect("a document");
    insta::assert_snapshot!(document.replace(&*node.state.path().to_string_lossy(), "STATE"), @r#"
    {
      "state_directory": "STATE",
      "journal": true,
      "task": {
        "key": {
          "rollout": "r1",
          "plan": "p1",
          "stage": "compute",
          "node": "n1",
          "attempt": 1
        },
        "result": "failed",
        "failed_step": {
          "id": "look",
          "what": "the agent is being taken off this node",
          "next": "install it again"
        },
        "acknowledged": true
      }
    }
    "#);
    assert!(!journal.is_leaving().expect("it can be told"), "the lock went with the answer");
}

#[test]
fn what_is_at_work_is_told_when_the_time_is_over() {
    let node = Node::new();
    let journal = node.journal();
    append(&journal, &[accepted()]);
    insta::assert_snapshot!(node.refused(Duration::ZERO), @"not handed back within 0 s: the agent is still at r1 compute n1 attempt 1, no step of which is begun at the moment. It goes on with its task. Let that step end, or solve what it waits for (`wavegate-agent status` shows it), then ask again; --within SECONDS gives it longer");
    append(&journal, &[started()]);
    let output = Output::kept_in(node.state.path());
    output.begin(&key(), &id("install"));
    output.line("waiting for unattended-upgrade (pid 12), which holds /var/lib/dpkg/lock");
    let (refused, _) = node.hand_back(Duration::ZERO, &mut |_, _| panic!("an agent runs"));
    let refused = refused.expect_err("refused");
    assert!(matches!(refused.downcast_ref(), Some(HandBackError::StillAtWork { .. })));
    insta::assert_snapshot!(format!("{refused:#}"), @"not handed back within 0 s: the agent is still at step install (package.install, 'Install the packages') of r1 compute n1 attempt 1, begun at 2025-11-22T20:00:00Z; its last word: waiting for unattended-upgrade (pid 12), which holds /var/lib/dpkg/lock. It goes on with its task. Let that step end, or solve what it waits for (`wavegate-agent status` shows it), then ask again; --within SECONDS gives it longer");
    assert!(!journal.is_leaving().expect("it can be told"), "the agent goes on");
}

/// `apt-get remove wavegate-agent` has the lock that the agent's step waits for.
#[test]
fn a_package_manager_that_waits_for_us_is_not_waited_for() {
    let node = Node::new();
    let apt = node.ancestor("/usr/bin/apt-get remove wavegate-agent");
    node.host.machine().locks.insert("/var/lib/dpkg/lock".into(), apt);
    let journal = node.journal();
    append(&journal, &[accepted(), started()]);
    insta::assert_snapshot!(node.refused(Duration::ZERO), @"not handed back: there is step install (package.install, 'Install the packages') of r1 compute n1 attempt 1, begun at 2025-11-22T20:00:00Z. It needs the package manager, and apt-get (pid 1000), which holds /var/lib/dpkg/lock, waits for this program to end: neither would end before the other. Let that one end without removing the agent; then hand the agent back by itself (`wavegate-agent hand-back`), which ends its task behind that step, and remove it after that");
    // Without an agent there is nobody who could be past that.
    journal.close();
    let (refused, _) = node.hand_back(LONG, &mut |_, _| panic!("it could not go on"));
    assert!(matches!(refused.expect_err("refused").downcast_ref(), Some(HandBackError::HeldUp { .. })));

    // The lock of somebody else that is found first hides nothing.
    let journal = node.journal();
    let elsewhere = node.host.machine().spawn(&["unattended-upgrade".to_owned()]);
    node.host.machine().locks.insert("/var/lib/dpkg/lock-frontend".into(), elsewhere);
    assert!(
        node.refused(Duration::ZERO)
            .contains("apt-get (pid 1000), which holds /var/lib/dpkg/lock, waits for this")
    );
    node.host.machine().locks.remove(Path::new("/var/lib/dpkg/lock-frontend"));
    journal.close();

    // Another step, or somebody else's lock, is waited for.
    let journal = node.journal();
    let other = node.host.machine().spawn(&["dpkg".to_owned()]);
    node.host.machine().locks.insert("/var/lib/dpkg/lock".into(), other);
    assert!(node.refused(Duration::ZERO).starts_with("not handed back within 0 s"));
    node.host.machine().locks.insert("/var/lib/dpkg/lock".into(), apt);
    let [installed, ..] = ended();
    append(&journal, &[installed, Record::StepStarted { key: key(), step: id("look"), at: Timestamp(3) }]);
    assert!(node.refused(Duration::ZERO).starts_with("not handed back within 0 s"));
}

#[test]
fn the_agents_own_transaction_is_refused_at_once() {
    let node = Node::new();
    node.ancestor("wavegate-agent transaction /var/lib/wavegate/agent/transactions/r1");
    let refused = node.refused(LONG);
    insta::assert_snapshot!(refused, @"this is asked inside a package transaction of the agent's own (wavegate-agent transaction /var/lib/wavegate/agent/transactions/r1), which would remove the agent: it is not handed back. See in the task's output (`wavegate logs NODE`) which package takes wavegate-agent away, and keep that one off this node");
}

#[test]
fn one_hand_back_waits_for_another() {
    let node = Node::new();
    let held = lock::take(node.state.path(), Instant::now()).expect("no error").expect("nobody has it");
    let refused = node.refused(Duration::ZERO).replace(&node.state.path().display().to_string(), "STATE");
    insta::assert_snapshot!(refused, @"somebody else is handing this agent back (STATE/hand-back.lock is locked) and was not done within 0 s; nothing was done. Wait for that one to end ('fuser -v' on that file names it), then ask again");
    drop(held);
    assert!(node.hand_back(Duration::ZERO, &mut |_, _| panic!("nothing to run")).0.is_ok());
}

#[test]
fn without_an_agent_this_program_is_it() {
    let node = Node::new();
    let journal = node.journal();
    append(&journal, &[accepted(), started()]);
    journal.close();
    let mut ran = 0;
    let (done, lines) = node.hand_back(LONG, &mut |journal, _| {
        ran += 1;
        assert!(journal.is_leaving()?);
        append(&journal, &ended());
        append(&journal, &[Record::Acknowledged { key: key() }]);
        Ok(())
    });
    assert!(done.expect("handed back").text().contains("has ended at step look"));
    assert_eq!((ran, lines[1].as_str()), (1, "no agent runs here: going on in its place"));
}

#[test]
fn what_no_agent_can_end_is_refused_and_what_none_can_tell_is_not() {
    let node = Node::new();
    let journal = node.journal();
    append(&journal, &[accepted(), started()]);
    journal.close();
    let mut fails = |_: SharedJournal, _| Err(anyhow::anyhow!("this node is not enrolled"));
    let (refused, _) = node.hand_back(LONG, &mut fails);
    let refused = refused.expect_err("refused");
    assert!(matches!(refused.downcast_ref(), Some(HandBackError::NoAgent)));
    insta::assert_snapshot!(format!("{refused:#}"), @"no agent runs here, and its task can't be ended without one; if it is to be given up, move the journal in the agent's state directory away: this node is not enrolled");
    let (refused, _) = node.hand_back(Duration::from_millis(1), &mut |_, until| {
        wait_for(|| Instant::now() >= until);
        Ok(())
    });
    assert!(matches!(refused.expect_err("refused").downcast_ref(), Some(HandBackError::NotEnded { .. })));

    append(&node.journal(), &ended());
    let (done, lines) = node.hand_back(LONG, &mut fails);
    insta::assert_snapshot!(done.expect("handed back").text(), @r"
    Handed back: r1 compute n1 attempt 1 has ended at step look: the agent is being taken off this node
      next: install it again
    The coordinator was not told: it takes this node for lost until an agent runs here again.
    ");
    assert_eq!(lines[1], "the coordinator can't be told: this node is not enrolled");
}

#[test]
fn a_coordinator_that_is_away_is_not_waited_for_twice() {
    let node = Node::new();
    let journal = node.journal();
    append(&journal, &[accepted(), started()]);
    append(&journal, &ended());
    journal.close();
    let mut ran = 0;
    let (done, lines) = node.hand_back(LONG, &mut |journal, _| {
        ran += 1;
        journal.close();
        Ok(())
    });
    assert!(done.expect("handed back").text().contains("The coordinator was not told"));
    assert_eq!((ran, lines.len()), (1, 1), "{lines:?}");
}

#[test]
fn an_open_task_whose_agent_can_not_be_told_is_refused_and_one_that_has_ended_is_not() {
    let node = Node::new();
    let journal = node.journal();
    let lock = node.state.path().join(lock::FILE);
    std::fs::create_dir(&lock).expect("what can't be locked");
    let refused = |node: &Node| {
        let (refused, _) = node.hand_back(LONG, &mut |_, _| panic!("nothing to run"));
        refused.expect_err("refused")
    };
    assert!(matches!(refused(&node).downcast_ref(), Some(HandBackError::File { .. })), "no task is open");
    append(&journal, &[accepted(), started()]);
    assert!(matches!(refused(&node).downcast_ref(), Some(HandBackError::NotTold)));
    std::fs::remove_dir(&lock).expect("removed");
    journal.close();
    // No agent can write this journal, and this program is none.
    let locked = node.state.path().join("lock");
    assert!(locked.is_file(), "what an agent locks");
    std::fs::remove_file(&locked).expect("removed");
    std::fs::create_dir(&locked).expect("what can't be locked");
    assert!(matches!(refused(&node).downcast_ref(), Some(HandBackError::NoAgent)));
}

#[test]
fn a_journal_that_can_not_be_read_is_told() {
    let node = Node::new();
    std::fs::write(journal::path_in(node.state.path()), "something else\n").expect("written");
    let (refused, _) = node.hand_back(LONG, &mut |_, _| panic!("nothing to run"));
    assert!(refused.expect_err("refused").is::<OpenError>());
}

#[tokio::test]
async fn an_agent_in_its_place_ends_when_the_task_was_told_or_the_time_is_over() {
    let node = Node::new();
    let journal = node.journal();
    until_told(journal.clone(), Instant::now() + LONG).await;
    append(&journal, &[accepted(), started()]);
    until_told(journal.clone(), Instant::now()).await;
    let told = tokio::spawn(until_told(journal.clone(), Instant::now() + LONG));
    append(&journal, &ended());
    append(&journal, &[Record::Acknowledged { key: key() }]);
    told.await.expect("no panic");
}
