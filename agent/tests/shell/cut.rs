//! The compute task of the procedure that ships, with the agent killed at every record of its journal, before and after
//! the record gets to disk: it always ends the same, and nothing takes effect twice (invariant I4).

use crate::support::{compute_steps, journal, key, order, os, policy};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use wavegate_agent::host::fake::{AgentKilled, FakeHost, FakeMachine};
use wavegate_agent::journal::{AppendError, SharedJournal, Store};
use wavegate_agent::runner::{Machine, advance};
use wavegate_common::id::Timestamp;
use wavegate_common::journal::{Journal, Record};
use wavegate_common::outcome::Outcome;
use wavegate_common::rollout::TaskResult;

/// A journal whose agent is killed at a record: before it gets to disk, or after that and before it is acted upon.
struct Cut<'a> {
    journal: &'a SharedJournal,
    records: Cell<usize>,
    at: usize,
    after: bool,
}

impl Store for Cut<'_> {
    fn read<R>(&self, look: impl FnOnce(&Journal) -> R) -> R {
        self.journal.read(look)
    }

    fn append(&self, record: &Record) -> Result<(), AppendError> {
        let number = self.records.get();
        self.records.set(number + 1);
        if number == self.at && !self.after {
            resume_unwind(Box::new(AgentKilled));
        }
        let appended = self.journal.append(record);
        if number == self.at {
            resume_unwind(Box::new(AgentKilled));
        }
        appended
    }
}

/// What a node looks like that matters after an upgrade: not its clock, nor process ids.
#[derive(Debug, PartialEq, Eq)]
struct End {
    result: Option<TaskResult>,
    failed: Vec<String>,
    packages: BTreeMap<String, String>,
    services: BTreeMap<String, (bool, bool, bool)>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    processes: Vec<Vec<String>>,
    /// Programs that change something, each with how often it was run.
    effects: BTreeMap<String, u32>,
    /// Of every service: which of the services' processes are older than its files.
    stale: Vec<String>,
}

fn end(host: &FakeHost, journal: &SharedJournal) -> End {
    let machine = host.machine();
    let (result, failed) = journal.read(|journal| {
        let task = journal.current().expect("a task");
        let failed = task.steps.iter().filter(|step| matches!(step.outcome, Outcome::Failed { .. }));
        (task.result, failed.map(|step| format!("{}: {:?}", step.step, step.outcome)).collect())
    });
    let moving = |path: &PathBuf| path.ends_with("pid") || path.starts_with("/var/lib/wavegate");
    let mut processes: Vec<_> = machine.processes.values().map(|process| process.cmdline.clone()).collect();
    processes.sort();
    let current = |inode, path: &PathBuf| machine.files.get(path).is_some_and(|file| file.inode == inode);
    let stale = machine.processes.values().filter(|process| !current(process.inode, &process.exe));
    let mut effects = BTreeMap::new();
    for line in machine.history.iter().filter(|line| has_effect(line)) {
        *effects.entry(line.clone()).or_insert(0) += 1;
    }
    End {
        result,
        failed,
        packages: machine
            .installed
            .iter()
            .map(|(name, package)| (name.clone(), format!("{package:?}")))
            .map(|(name, text)| (name, version_of(&text)))
            .collect(),
        services: machine
            .services
            .iter()
            .map(|(name, s)| (name.clone(), (s.active, s.enabled, s.masked)))
            .collect(),
        files: machine
            .files
            .iter()
            .filter(|(path, _)| !moving(path))
            .map(|(path, file)| (path.clone(), file.content.clone()))
            .collect(),
        stale: stale.map(|process| process.cmdline.join(" ")).collect(),
        processes,
        effects,
    }
}

fn version_of(debug: &str) -> String {
    debug.split("version: \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

/// Whether running it twice would be doing something twice. Queries, simulations and refreshes of package lists are not.
fn has_effect(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let asks = ["show", "list-units", "list-unit-files", "is-active", "daemon-reload", "is-enabled"];
    match words.as_slice() {
        ["apt-get", ..] => {
            words.contains(&"install") && !words.contains(&"-s") && !words.contains(&"--simulate")
        }
        ["yum" | "dnf", ..] => {
            !words.contains(&"--assumeno")
                && ["install", "update", "upgrade"].iter().any(|verb| words.contains(verb))
        }
        ["systemctl", verb, ..] => !asks.contains(verb),
        [program, ..] => {
            matches!(*program, "kill" | "replace")
                || line.contains("setup.py")
                || line.contains("pip uninstall -")
        }
        [] => false,
    }
}

fn start(machine: &FakeMachine) -> (tempfile::TempDir, FakeHost) {
    let state = tempfile::tempdir().expect("a directory");
    let order = order(1, 1, &compute_steps(machine));
    journal(state.path()).append(&Record::Accepted { order, at: Timestamp(1) }).expect("accepted");
    (state, FakeHost::new(machine.clone()))
}

/// Runs to the end, with one kill; the number of records that the first agent wrote, and the end.
fn run(machine: &FakeMachine, at: usize, after: bool) -> (usize, End) {
    let (state, host) = start(machine);
    let os = os(machine);
    let policy = policy(state.path());
    let kit = Machine { host: &host, os: &os, policy: &policy };
    let records = {
        let journal = journal(state.path());
        let cut = Cut { journal: &journal, records: Cell::new(0), at, after };
        let ran = catch_unwind(AssertUnwindSafe(|| advance(&cut, kit, &mut |_| {})));
        match ran {
            Ok(advanced) => advanced.expect("advanced"),
            Err(payload) => assert!(payload.is::<AgentKilled>()),
        }
        cut.records.get()
    };
    let journal = journal(state.path());
    advance(&journal, kit, &mut |_| {}).expect("advanced");
    let end = end(&host, &journal);
    (records, end)
}

fn every_cut_ends_the_same(machine: &FakeMachine) {
    let (records, whole) = run(machine, usize::MAX, false);
    assert_eq!((whole.result, &whole.failed), (Some(TaskResult::Finished), &Vec::new()));
    assert!(
        !whole.effects.is_empty() && whole.effects.values().all(|times| *times == 1),
        "{:#?}",
        whole.effects
    );
    assert!(records > 15, "{records}");
    for at in 0..records {
        for after in [false, true] {
            let (_, end) = run(machine, at, after);
            assert_eq!(end, whole, "killed {} record {at}", if after { "after" } else { "before" });
        }
    }
}

#[test]
fn a_compute_task_on_debian_ends_the_same_wherever_the_agent_is_killed() {
    every_cut_ends_the_same(&FakeMachine::debian_compute());
}

#[test]
fn a_compute_task_under_upstart_ends_the_same_wherever_the_agent_is_killed() {
    every_cut_ends_the_same(&FakeMachine::trusty_compute());
}

#[test]
fn a_compute_task_on_red_hat_ends_the_same_wherever_the_agent_is_killed() {
    every_cut_ends_the_same(&FakeMachine::redhat_compute());
}

#[test]
fn a_second_run_of_an_ended_task_does_nothing() {
    let machine = FakeMachine::debian_compute();
    let (state, host) = start(&machine);
    let os = os(&machine);
    let policy = policy(state.path());
    let kit = Machine { host: &host, os: &os, policy: &policy };
    let journal = journal(state.path());
    advance(&journal, kit, &mut |_| {}).expect("advanced");
    let history = host.machine().history.len();
    advance(&journal, kit, &mut |_| {}).expect("nothing to do");
    assert_eq!(host.machine().history.len(), history);
    let (ended, current) =
        journal.read(|journal| (journal.task(&key(1)).cloned(), journal.current().cloned()));
    assert_eq!(ended, current);
}
