//! A task of the procedure that ships on a fake machine, the agents that run it one after the other, and what the machine looks
//! like in the end.

use crate::support::{key, order_as_planned, os, policy, shipped_steps};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{AgentKilled, FakeDistribution, FakeHost, FakeMachine, has_effect};
use wavegate_agent::journal::medium::fake::{FakeMedium, Unsynced};
use wavegate_agent::journal::{JournalFile, SharedJournal, Store};
use wavegate_agent::os::Os;
use wavegate_agent::policy::PolicyFile;
use wavegate_agent::runner::{At, Machine, Progress, advance, go_on};
use wavegate_common::id::Timestamp;
use wavegate_common::journal::{Record, TaskInJournal};
use wavegate_common::order::{PlannedStep, TaskOrder};
use wavegate_common::outcome::Outcome;
use wavegate_common::platform::{Role, Stage};
use wavegate_common::rollout::TaskResult;

/// A task: the steps of a stage of the shipped procedure on a machine.
pub struct Case {
    pub machine: FakeMachine,
    pub order: TaskOrder,
    pub os: Os,
    pub policy: PolicyFile,
    _directory: tempfile::TempDir,
}

impl Case {
    pub fn new(machine: FakeMachine, stage: Stage, settings: &[&str]) -> Self {
        let steps = shipped_steps(&machine, stage, settings);
        Self::of(machine, &steps)
    }

    /// A task of these steps.
    pub fn of(machine: FakeMachine, steps: &[PlannedStep]) -> Self {
        let order = order_as_planned(1, 1, steps, &machine);
        let directory = tempfile::tempdir().expect("a directory");
        Self { order, os: os(&machine), policy: policy(directory.path()), machine, _directory: directory }
    }
}

/// How an agent ends, and what its successor finds.
#[derive(Debug, Clone, Copy)]
pub enum Death {
    /// The agent is killed.
    Killed,
    /// The machine loses its power.
    PowerCut(Unsynced),
}

/// A node that has the task: its machine and its disk outlive its agents.
pub struct Node<'a> {
    case: &'a Case,
    pub host: FakeHost,
    pub medium: FakeMedium,
    /// What the last report of the task was made of.
    told: Option<TaskInJournal>,
}

impl<'a> Node<'a> {
    pub fn new(case: &'a Case) -> Self {
        let host = FakeHost::new(case.machine.clone());
        Self { case, host, medium: FakeMedium::default(), told: None }
    }

    /// An agent that is given the order, as after every connection, and goes on to the acknowledgement, or is killed.
    pub fn live(&mut self) {
        let lived = catch_unwind(AssertUnwindSafe(|| self.work()));
        assert!(lived.is_ok() || lived.is_err_and(|payload| payload.is::<AgentKilled>()));
    }

    /// What the next agent finds.
    pub fn die(&mut self, death: Death) {
        self.medium = match death {
            Death::Killed => self.medium.after_kill(),
            Death::PowerCut(unsynced) => {
                self.host.machine().reboot();
                self.medium.after_power_cut(unsynced)
            }
        };
    }

    /// An agent that is taken off the node after so many pieces of the task; what became of that then.
    pub fn leave_after(&mut self, pieces: usize) -> TaskInJournal {
        let journal = self.journal();
        let (extra_roles, etcd) = (BTreeSet::new(), EtcdSettings::default());
        let machine = self.machine(&extra_roles, &etcd);
        journal.take(&self.case.order, Timestamp(1)).expect("taken or known");
        let mut at = Some(At::default());
        for _ in 0..pieces {
            at = at.and_then(|at| go_on(&journal, machine, at, &mut |_| ()).expect("recorded"));
        }
        self.medium.set_leaving(true);
        while let Some(next) = at {
            at = go_on(&journal, machine, next, &mut |_| ()).expect("recorded");
        }
        self.medium.set_leaving(false);
        journal.append(&Record::Acknowledged { key: key(1) }).expect("noted");
        in_journal(&journal).expect("the task")
    }

    /// Another attempt at the task, by an agent that was installed again.
    pub fn retry(&mut self) {
        let journal = self.journal();
        let (extra_roles, etcd) = (BTreeSet::new(), EtcdSettings::default());
        let order = TaskOrder { key: key(2), ..self.case.order.clone() };
        journal.take(&order, Timestamp(2)).expect("taken");
        advance(&journal, self.machine(&extra_roles, &etcd), &mut |_| ()).expect("advanced");
    }

    fn journal(&self) -> SharedJournal {
        let (file, _) = JournalFile::open_on(Box::new(self.medium.clone())).expect("torn, not damaged");
        SharedJournal::new(file)
    }

    fn machine<'m>(&'m self, extra_roles: &'m BTreeSet<Role>, etcd: &'m EtcdSettings) -> Machine<'m> {
        Machine { host: &self.host, os: &self.case.os, policy: &self.case.policy, extra_roles, etcd }
    }

    fn work(&mut self) {
        let journal = self.journal();
        self.nothing_is_lost(&journal);
        // Not through `self`, which learns what is told.
        let machine = Machine {
            host: &self.host,
            os: &self.case.os,
            policy: &self.case.policy,
            extra_roles: &[].into(),
            etcd: &EtcdSettings::default(),
        };
        journal.take(&self.case.order, Timestamp(1)).expect("taken or known");
        let told = &mut self.told;
        let mut tell = |progress: Progress<'_>| {
            if matches!(progress, Progress::Recorded(_) | Progress::Ended(_)) {
                *told = in_journal(&journal);
            }
        };
        tell(Progress::Recorded(&key(1)));
        advance(&journal, machine, &mut tell).expect("advanced");
        journal.append(&Record::Acknowledged { key: key(1) }).expect("noted");
    }

    /// Nothing that was reported is unknown to the next agent.
    fn nothing_is_lost(&self, journal: &SharedJournal) {
        let Some(told) = &self.told else { return };
        let known = in_journal(journal).expect("a task that was accepted is known");
        assert!(known.steps.starts_with(&told.steps), "{:#?} instead of {:#?}", known.steps, told.steps);
        assert!(told.result.is_none() || known.result == told.result);
        let goes_on = told.started.is_none() || known.started == told.started;
        assert!(goes_on || known.steps.len() > told.steps.len(), "the start of {:?} is lost", told.started);
    }

    /// The end of the task, and what the machine then looks like.
    pub fn end(&self) -> End {
        end(&self.host, &self.journal())
    }
}

fn in_journal(journal: &SharedJournal) -> Option<TaskInJournal> {
    journal.read(|journal| journal.task(&key(1)).cloned())
}

/// What a node looks like that matters after an upgrade: not its clock, nor process ids.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub result: Option<TaskResult>,
    pub failed: Vec<String>,
    packages: BTreeMap<String, String>,
    services: BTreeMap<String, (bool, bool, bool)>,
    files: BTreeMap<PathBuf, String>,
    processes: Vec<Vec<String>>,
    /// Programs that change something, each with how often it was run.
    pub effects: BTreeMap<String, u32>,
    /// The cluster of etcd that it is in: who is down, what its own member runs, and who was stopped beside another that was down.
    etcd: Option<String>,
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
        etcd: machine.etcd.as_ref().map(|seat| {
            let cluster = seat.cluster();
            let beside: Vec<_> = cluster.stops.iter().filter(|stop| !stop.beside.is_empty()).collect();
            format!(
                "down {:?}, runs {}, stopped beside another {beside:?}",
                cluster.down(),
                cluster.members[0].version
            )
        }),
        stale: stale.map(|process| process.cmdline.join(" ")).collect(),
        processes,
        effects,
    }
}

impl End {
    /// The same, with copies of files called as the first attempt would have called them.
    pub fn named_after_the_first_attempt(mut self) -> Self {
        let name =
            |path: PathBuf| PathBuf::from(path.to_string_lossy().replace("-compute-2-", "-compute-1-"));
        self.files = self.files.into_iter().map(|(path, text)| (name(path), text)).collect();
        self
    }
}

fn version_of(debug: &str) -> String {
    debug.split("version: \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

pub fn same(end: &End, whole: &End, what: &str) {
    let (left, right) = (format!("{end:#?}"), format!("{whole:#?}"));
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert!(end == whole, "{what}: it ends with\n{}instead of\n{}", only(&left, &right), only(&right, &left));
}

/// A power cut undoes what was going on, so that it has to be done again, and what comes up at boot needs no restart.
/// Processes that no service of the machine starts do not come back.
pub fn same_after_power_cut(mut end: End, whole: &End, what: &str) {
    let libvirts = |process: &Vec<String>| process.iter().any(|word| word.contains("libvirt"));
    end.effects.clone_from(&whole.effects);
    end.processes.extend(whole.processes.iter().filter(|process| libvirts(process)).cloned());
    end.processes.sort();
    end.stale.extend(whole.stale.iter().filter(|line| line.contains("libvirt")).cloned());
    same(&end, whole, what);
}

/// With a networking-calico that pip installed.
pub fn with_pip(mut machine: FakeMachine) -> FakeMachine {
    machine.distributions.push(FakeDistribution {
        name: "networking-calico".to_owned(),
        version: "1.0.0".to_owned(),
        path: "/usr/local/lib/python3/dist-packages/networking_calico-1.0.0.dist-info".into(),
    });
    machine
}

/// The tasks of the procedure that ships: every stage on every platform, and the compute stage in its variants.
pub fn cases() -> Vec<Case> {
    let (debian, redhat, trusty) =
        (FakeMachine::debian_compute(), FakeMachine::redhat_compute(), FakeMachine::trusty_compute());
    let kilo = &["openstack_release=kilo"][..];
    let distribution = &["package_scope=distribution"][..];
    [
        (with_pip(debian.clone()), Stage::Compute, &[][..]),
        (FakeMachine::debian_etcd(), Stage::Etcd, &[]),
        (FakeMachine::trusty_etcd(), Stage::Etcd, &[]),
        (FakeMachine::redhat_etcd(), Stage::Etcd, &[]),
        (with_pip(redhat.clone()), Stage::Compute, &[]),
        (with_pip(trusty.clone()), Stage::Compute, &[]),
        (debian.clone(), Stage::Compute, kilo),
        (redhat.clone(), Stage::Compute, kilo),
        (trusty, Stage::Compute, kilo),
        (debian, Stage::Compute, distribution),
        (redhat, Stage::Compute, distribution),
        (FakeMachine::debian_control(), Stage::Control, &[]),
        (FakeMachine::redhat_control(), Stage::Control, &[]),
        (FakeMachine::trusty_control(), Stage::Control, &[]),
    ]
    .into_iter()
    .map(|(machine, stage, settings)| Case::new(machine, stage, settings))
    .collect()
}
