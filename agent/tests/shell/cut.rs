//! Every task of the procedure that ships, on every platform, with the agent killed at every record of its journal and at
//! everything that it does to the machine, before and after, and with the power of the whole machine cut there: it always ends
//! the same, and no kill of the agent makes anything take effect twice (invariant I4).

use crate::support::{journal, key, order, os, policy, shipped_steps};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use wavegate_agent::host::fake::{AgentKilled, FakeDistribution, FakeHost, FakeMachine, Fault, When};
use wavegate_agent::journal::{AppendError, SharedJournal, Store};
use wavegate_agent::runner::{Machine, advance};
use wavegate_common::id::Timestamp;
use wavegate_common::journal::{Journal, Record};
use wavegate_common::order::PlannedStep;
use wavegate_common::outcome::Outcome;
use wavegate_common::platform::Stage;
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
    files: BTreeMap<PathBuf, String>,
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
    // yum's own note of a transaction that was cut off stays where yum-complete-transaction is not installed.
    let moving = |path: &PathBuf| {
        let elsewhere = ["/var/lib/wavegate", "/var/lib/yum"].iter().any(|start| path.starts_with(start));
        elsewhere || path.ends_with("pid") || path.ends_with("boot_id")
    };
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
            .map(|(path, file)| (path.clone(), String::from_utf8_lossy(&file.content).into_owned()))
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
    let harmless =
        ["show", "list-units", "list-unit-files", "is-active", "daemon-reload", "is-enabled", "reset-failed"];
    // What holds services down during a transaction is put in place again by whoever goes on with it.
    if words.contains(&"--runtime") || line.contains("policy-rc.d") {
        return false;
    }
    match words.as_slice() {
        ["apt-get", ..] => {
            words.contains(&"install") && !words.contains(&"-s") && !words.contains(&"--simulate")
        }
        ["yum" | "dnf", ..] => {
            !words.contains(&"--assumeno")
                && ["install", "update", "upgrade"].iter().any(|verb| words.contains(verb))
        }
        ["systemctl", verb, ..] => !harmless.contains(verb),
        // A stop of what is stopped does nothing, and what is stopped again while it runs is started again too.
        ["initctl", verb, ..] => *verb == "start",
        [program, ..] => {
            matches!(*program, "kill" | "replace")
                || line.contains("setup.py")
                || line.contains("pip uninstall -y")
        }
        [] => false,
    }
}

/// A task: a stage of the shipped procedure on a machine.
struct Case {
    machine: FakeMachine,
    steps: Vec<PlannedStep>,
}

impl Case {
    fn new(machine: FakeMachine, stage: Stage, settings: &[&str]) -> Self {
        let steps = shipped_steps(&machine, stage, settings);
        Self { machine, steps }
    }

    fn start(&self) -> (tempfile::TempDir, FakeHost) {
        let state = tempfile::tempdir().expect("a directory");
        let order = order(1, 1, &self.steps);
        journal(state.path()).append(&Record::Accepted { order, at: Timestamp(1) }).expect("accepted");
        (state, FakeHost::new(self.machine.clone()))
    }

    /// Runs to the end, killed once at a record or by what was done to the machine; the number of records that the first
    /// agent wrote, and the end.
    fn run(&self, cut: Cutting, prepare: impl Fn(&mut FakeMachine)) -> (usize, End) {
        let (state, host) = self.start();
        prepare(&mut host.machine());
        let os = os(&self.machine);
        let policy = policy(state.path());
        let kit = Machine { host: &host, os: &os, policy: &policy };
        let records = {
            let journal = journal(state.path());
            let cut = Cut { journal: &journal, records: Cell::new(0), at: cut.at, after: cut.after };
            let ran = catch_unwind(AssertUnwindSafe(|| advance(&cut, kit, &mut |_| {})));
            match ran {
                Ok(advanced) => advanced.expect("advanced"),
                Err(payload) => assert!(payload.is::<AgentKilled>()),
            }
            cut.records.get()
        };
        if cut.power {
            host.machine().reboot();
        }
        let journal = journal(state.path());
        advance(&journal, kit, &mut |_| {}).expect("advanced");
        let end = end(&host, &journal);
        (records, end)
    }
}

/// Where a run is cut, beside what faults do.
#[derive(Clone, Copy)]
struct Cutting {
    /// At this record of the journal.
    at: usize,
    /// After it got to disk, not before.
    after: bool,
    /// Whether the machine loses its power too.
    power: bool,
}

const NOWHERE: Cutting = Cutting { at: usize::MAX, after: false, power: false };

fn every_cut_ends_the_same(case: &Case) {
    let (records, whole) = case.run(NOWHERE, |_| ());
    assert_eq!((whole.result, &whole.failed), (Some(TaskResult::Finished), &Vec::new()));
    assert!(
        !whole.effects.is_empty() && whole.effects.values().all(|times| *times == 1),
        "{:#?}",
        whole.effects
    );
    assert!(records > case.steps.len(), "{records}");
    for at in 0..records {
        for after in [false, true] {
            let when = if after { "after" } else { "before" };
            let (_, end) = case.run(Cutting { at, after, power: false }, |_| ());
            same(&end, &whole, &format!("killed {when} record {at}"));
            let (_, end) = case.run(Cutting { at, after, power: true }, |_| ());
            same_after_power_cut(end, &whole, &format!("power cut {when} record {at}"));
        }
    }
    for effect in whole.effects.keys() {
        for when in [When::Before, When::Midway, When::After] {
            let kill = |machine: &mut FakeMachine| machine.faults.add(effect, when, Fault::AgentKilled);
            let (_, end) = case.run(NOWHERE, kill);
            same(&end, &whole, &format!("killed {when:?} '{effect}'"));
            let cut = |machine: &mut FakeMachine| machine.faults.add(effect, when, Fault::PowerCut);
            let (_, end) = case.run(Cutting { power: true, ..NOWHERE }, cut);
            same_after_power_cut(end, &whole, &format!("power cut {when:?} '{effect}'"));
        }
    }
}

fn same(end: &End, whole: &End, what: &str) {
    let (left, right) = (format!("{end:#?}"), format!("{whole:#?}"));
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert!(end == whole, "{what}: it ends with\n{}instead of\n{}", only(&left, &right), only(&right, &left));
}

/// A power cut undoes what was going on, so that it has to be done again, and what comes up at boot needs no restart.
/// Processes that no service of the machine starts do not come back.
fn same_after_power_cut(mut end: End, whole: &End, what: &str) {
    let libvirts = |process: &Vec<String>| process.iter().any(|word| word.contains("libvirt"));
    end.effects.clone_from(&whole.effects);
    end.processes.extend(whole.processes.iter().filter(|process| libvirts(process)).cloned());
    end.processes.sort();
    end.stale.extend(whole.stale.iter().filter(|line| line.contains("libvirt")).cloned());
    same(&end, whole, what);
}

#[test]
fn etcd_from_packages() {
    for machine in [FakeMachine::debian_etcd(), FakeMachine::trusty_etcd()] {
        every_cut_ends_the_same(&Case::new(machine, Stage::Etcd, &[]));
    }
}

#[test]
fn etcd_from_the_release_archive() {
    every_cut_ends_the_same(&Case::new(FakeMachine::redhat_etcd(), Stage::Etcd, &[]));
}

/// With a networking-calico that pip installed.
fn with_pip(mut machine: FakeMachine) -> FakeMachine {
    machine.distributions.push(FakeDistribution {
        name: "networking-calico".to_owned(),
        version: "1.0.0".to_owned(),
        path: "/usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info".into(),
    });
    machine
}

#[test]
fn a_compute_node_on_debian() {
    every_cut_ends_the_same(&Case::new(with_pip(FakeMachine::debian_compute()), Stage::Compute, &[]));
}

#[test]
fn a_compute_node_on_red_hat() {
    every_cut_ends_the_same(&Case::new(with_pip(FakeMachine::redhat_compute()), Stage::Compute, &[]));
}

#[test]
fn a_compute_node_with_upstart() {
    every_cut_ends_the_same(&Case::new(with_pip(FakeMachine::trusty_compute()), Stage::Compute, &[]));
}

#[test]
fn a_compute_node_before_liberty() {
    for machine in
        [FakeMachine::debian_compute(), FakeMachine::redhat_compute(), FakeMachine::trusty_compute()]
    {
        every_cut_ends_the_same(&Case::new(machine, Stage::Compute, &["openstack_release=kilo"]));
    }
}

#[test]
fn a_compute_node_whose_whole_distribution_is_upgraded() {
    for machine in [FakeMachine::debian_compute(), FakeMachine::redhat_compute()] {
        every_cut_ends_the_same(&Case::new(machine, Stage::Compute, &["package_scope=distribution"]));
    }
}

#[test]
fn a_control_node() {
    for machine in
        [FakeMachine::debian_control(), FakeMachine::redhat_control(), FakeMachine::trusty_control()]
    {
        every_cut_ends_the_same(&Case::new(machine, Stage::Control, &[]));
    }
}

#[test]
fn a_second_run_of_an_ended_task_does_nothing() {
    let case = Case::new(FakeMachine::debian_compute(), Stage::Compute, &[]);
    let (state, host) = case.start();
    let os = os(&case.machine);
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
