//! A bench for tests of actions: one fake machine, and what an action's context is made of.

use super::{Applied, Check, Context, Forecast, Memory, apply, check};
use crate::etcd::EtcdSettings;
use crate::host::fake::{AgentKilled, FakeHost, FakeMachine};
use crate::os::Os;
use crate::policy::InForce;
use crate::policy::tests::any_package;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::{NodeId, StepId, Timestamp};
use wavegate_common::order::PlannedStep;
use wavegate_common::outcome::StepError;
use wavegate_common::plan::PlannedNode;
use wavegate_common::policy::Policy;

/// One machine, and an agent's view of it.
pub(crate) struct Bench {
    pub(crate) host: FakeHost,
    pub(crate) os: Os,
    pub(crate) policy: InForce,
    pub(crate) etcd: EtcdSettings,
    pub(crate) node: Option<NodeId>,
    pub(crate) planned: Option<PlannedNode>,
    pub(crate) forecast: Forecast,
    pub(crate) earlier: Vec<PlannedStep>,
    pub(crate) to_come: Vec<PlannedStep>,
    pub(crate) changed_at: BTreeMap<StepId, Timestamp>,
    pub(crate) patience: Duration,
    /// What the task remembers of what it looked at; [`Bench::forget`] begins another.
    memory: Memory,
    /// What the actions told people.
    pub(crate) said: RefCell<Vec<String>>,
    /// The same with its moments, of the whole test.
    log: RefCell<Vec<(Timestamp, String)>>,
}

impl Bench {
    pub(crate) fn new(machine: FakeMachine) -> Self {
        let os = Os { platform: machine.platform.clone() };
        let host = FakeHost::new(machine);
        let (forecast, changed_at) = (Forecast::default(), BTreeMap::new());
        Self {
            host,
            os,
            policy: any_package(),
            etcd: EtcdSettings::default(),
            node: None,
            planned: None,
            forecast,
            earlier: Vec::new(),
            to_come: Vec::new(),
            changed_at,
            patience: Duration::ZERO,
            memory: Memory::default(),
            said: RefCell::default(),
            log: RefCell::default(),
        }
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, FakeMachine> {
        self.host.machine()
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
        work(&mut Context {
            host: &self.host,
            os: &self.os,
            policy: &self.policy,
            node: self.node.as_ref(),
            planned: self.planned.as_ref(),
            etcd: &self.etcd,
            transaction: "r1/compute/1/step".to_owned(),
            timeout: Duration::from_secs(600),
            patience: self.patience,
            output: &mut |line| self.say(line),
            changed_at: &|step| self.changed_at.get(step).copied(),
            forecast: &self.forecast,
            memory: &self.memory,
            earlier: &self.earlier,
            to_come: &self.to_come,
        })
    }

    fn say(&self, line: &str) {
        self.said.borrow_mut().push(line.to_owned());
        let now = self.machine().now;
        self.log.borrow_mut().push((now, line.to_owned()));
    }

    /// When a line with these words was last told.
    pub(crate) fn when_said(&self, words: &str) -> Timestamp {
        let log = self.log.borrow();
        let line = log.iter().rev().find(|(_, line)| line.contains(words));
        line.unwrap_or_else(|| panic!("'{words}' was never said: {log:?}")).0
    }

    pub(crate) fn policy_mut(&mut self) -> &mut Policy {
        Arc::make_mut(&mut self.policy.policy)
    }

    /// What comes is done by another task, which remembers nothing of this one.
    pub(crate) fn forget(&mut self) {
        self.memory = Memory::default();
    }

    pub(crate) fn check(&self, action: &Action) -> Result<Check, StepError> {
        self.with(|cx| check(action, cx))
    }

    pub(crate) fn apply(&self, action: &Action) -> Result<Applied, StepError> {
        self.with(|cx| apply(action, cx))
    }

    /// Applies with an agent that a fault kills.
    pub(crate) fn apply_killed(&self, action: &Action) {
        let killed = catch_unwind(AssertUnwindSafe(|| self.apply(action))).expect_err("the agent is killed");
        assert!(killed.is::<AgentKilled>(), "another panic");
    }

    /// The evidence that the node is already so.
    pub(crate) fn already_so(&self, action: &Action) -> String {
        match self.check(action).expect("a check") {
            Check::AlreadySo { evidence } => evidence,
            Check::WouldChange { changes } => panic!("would change {changes:?}"),
        }
    }

    /// What would change, a line each.
    pub(crate) fn would(&self, action: &Action) -> String {
        match self.check(action).expect("a check") {
            Check::AlreadySo { evidence } => panic!("already so: {evidence}"),
            Check::WouldChange { changes } => lines(&changes),
        }
    }

    /// What changed, a line each, and the evidence. The node must be already so afterwards.
    pub(crate) fn done(&self, action: &Action) -> String {
        let applied = self.apply(action).expect("it applies");
        self.already_so(action);
        format!("{}\n{}", lines(&applied.changes), applied.evidence).trim_start().to_owned()
    }

    /// What the error shows to people.
    pub(crate) fn refused(&self, action: &Action) -> String {
        let looked = self.check(action);
        let error = match looked {
            Err(error) => error,
            Ok(_) => self.apply(action).expect_err("it fails"),
        };
        shown(&error)
    }

    /// Updates a package to what the repositories offer.
    pub(crate) fn update(&self, package: &str) {
        let mut machine = self.machine();
        let offered = machine.available[package].clone();
        machine.install(package, &offered).expect("it installs");
        machine.now.0 += 10_000;
    }

    /// Programs that were run, signals and replaced files, without the questions.
    pub(crate) fn history(&self) -> String {
        let asked = |line: &&String| {
            let question = [
                "systemctl show",
                "systemctl is-enabled",
                "systemctl list-",
                "initctl s",
                "dpkg-query",
                "rpm -q",
                "journalctl",
                "tail",
                "readlink",
            ];
            let started = ["initctl start", "initctl stop"];
            let starts = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
            !starts(&question) || starts(&started)
        };
        let machine = self.machine();
        machine.history.iter().filter(asked).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn main_pid(&self, unit: &str) -> Option<u32> {
        self.machine().services[unit].main_pid
    }
}

pub(crate) fn step(id: &str) -> StepId {
    StepId::new(id).expect("a step id")
}

pub(crate) fn shown(error: &StepError) -> String {
    let output: String = error.output.iter().map(|line| format!("| {line}\n")).collect();
    format!("{}\n{output}next: {}", error.what, error.next)
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
