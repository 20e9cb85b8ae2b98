//! A coordinator, its nodes and the network between them, as far as a rollout goes: what each may do at any time, and what
//! must hold after it.

use super::invariants::Act;
use super::read::Read;
use super::recount::Recount;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeMap;
use std::sync::Arc;
use wavegate_common::action::{Action, ServiceRestart};
use wavegate_common::id::{Actor, Generation, NodeId, RolloutId, StepId, Timestamp};
use wavegate_common::journal::{Journal, Next, Record, TaskInJournal, Verdict};
use wavegate_common::order::{PlannedStep, TaskOrder, Work};
use wavegate_common::outcome::{Outcome, StepError};
use wavegate_common::plan::{FORMAT, Limits, Plan, PlanBody, PlannedNode, StagePlan};
use wavegate_common::platform::{OsFamily, PackageManager, Platform, Role, ServiceManager, Stage};
use wavegate_common::rollout::{
    Entry, Event, IllegalEvent, Link, Mode, Observed, PauseReason, Report, Rollout, Status, Subject, Task,
    TaskRef, TaskState,
};

pub const LOST_AFTER_MS: u64 = 3;

fn step(name: &str) -> PlannedStep {
    let action = ServiceRestart {
        unit: name.to_owned(),
        newer_than_packages: vec![],
        newer_than_steps: vec![],
        enable: false,
    };
    PlannedStep {
        id: StepId::new(name).expect("a step"),
        title: name.to_owned(),
        work: Work::Run { action: Action::ServiceRestart(action), timeout_s: 60 },
    }
}

pub fn node(index: usize) -> NodeId {
    NodeId::new(format!("n{index}")).expect("a node")
}

/// What a stage of a test's plan is made of: its nodes and its limits.
pub type Made = (Vec<usize>, Limits);

/// A plan whose nodes are in no groups.
pub fn plan(stages: &[Made], steps: usize) -> Arc<Plan> {
    plan_of(stages, steps, 1)
}

/// A plan: for every stage the nodes in it, and its limits. Nodes are in so many groups, in turn.
pub fn plan_of(stages: &[Made], steps: usize, groups: usize) -> Arc<Plan> {
    let stage_plan = |(stage, (nodes, limits)): (&Stage, &(Vec<usize>, Limits))| {
        let group = |index: usize| format!("g{}", index % groups);
        let of = |index: &usize| (node(*index), group(*index));
        let groups = if groups > 1 { nodes.iter().map(of).collect() } else { BTreeMap::new() };
        let nodes: Vec<NodeId> = nodes.iter().map(|index| node(*index)).collect();
        let (canary, rest) = nodes.split_at(nodes.len().min(limits.canary as usize));
        let rest = rest.chunk_by(|one, other| groups.get(one) == groups.get(other));
        let rest = rest.flat_map(|group| group.chunks(limits.max_unavailable as usize));
        let waves = std::iter::once(canary).chain(rest);
        let tasks = nodes.iter().map(|n| (n.clone(), (0..steps).map(|s| step(&format!("s{s}"))).collect()));
        StagePlan {
            stage: *stage,
            limits: *limits,
            waves: waves.filter(|wave| !wave.is_empty()).map(<[NodeId]>::to_vec).collect(),
            groups: groups.clone(),
            tasks: tasks.collect(),
        }
    };
    let body = PlanBody {
        format: FORMAT,
        procedure: "test".into(),
        procedure_version: "1".into(),
        procedure_digest: String::new(),
        parameters: BTreeMap::new(),
        created_at: Timestamp(0),
        created_by: Actor("test".into()),
        nodes: BTreeMap::new(),
        stages: Stage::ALL.iter().zip(stages).map(stage_plan).collect(),
        previews: BTreeMap::new(),
        problems: vec![],
        warnings: Vec::new(),
        version_differences: Vec::new(),
        undeclared: [].into(),
    };
    Arc::new(Plan::seal(body).expect("a plan"))
}

/// The plan with these nodes as members of etcd.
pub fn with_members(plan: &Plan, members: &[usize]) -> Arc<Plan> {
    let mut body = plan.body.clone();
    for index in members {
        let planned = PlannedNode {
            roles: [Role::EtcdMember].into(),
            platform: Platform {
                family: OsFamily::Debian,
                id: "debian".into(),
                version_id: "12".into(),
                pretty_name: "Debian".into(),
                package_manager: PackageManager::Apt,
                service_manager: ServiceManager::Systemd,
            },
            release: None,
            versions: [].into(),
            etcd: None,
            observed_at: Timestamp(0),
        };
        body.nodes.insert(node(*index), planned);
    }
    Arc::new(Plan::seal(body).expect("a plan"))
}

/// A node: what survives a crash is its journal and what its steps did.
#[derive(Default)]
pub struct Machine {
    pub journal: Journal,
    pub online: bool,
    /// Times that each step took effect, by stage and step.
    pub effects: BTreeMap<(Stage, StepId), u32>,
    /// Steps that fail when they are tried next.
    pub broken: bool,
}

impl Machine {
    pub fn receive(&mut self, order: &TaskOrder) {
        if self.journal.judge(order) == Verdict::Accept {
            let record = Record::Accepted { order: order.clone(), at: Timestamp(0) };
            self.journal.apply(&record).expect("judged acceptable");
        }
    }

    /// One record's worth of work. `crash` loses what was done after the last record.
    pub fn work(&mut self, crash: bool) {
        let Some(task) = self.journal.current() else { return };
        let (key, steps) = (task.order.key.clone(), task.order.steps.clone());
        let at = Timestamp(0);
        let record = match self.journal.next() {
            Next::Idle => return,
            Next::End { result } => Record::TaskEnded { key, result, at },
            Next::Step { index, interrupted: false } => {
                Record::StepStarted { key, step: steps[index].id.clone(), at }
            }
            Next::Step { index, interrupted: true } => {
                let step = steps[index].id.clone();
                let effects = self.effects.entry((key.stage, step.clone())).or_default();
                let outcome = if self.broken {
                    Outcome::Failed {
                        error: StepError { what: "broken".into(), output: vec![], next: "mend".into() },
                    }
                } else if *effects == 0 {
                    *effects += 1;
                    Outcome::Changed { changes: vec![], evidence: "done".into() }
                } else {
                    // Looked at again, not blindly repeated.
                    Outcome::AlreadySo { evidence: "done".into() }
                };
                Record::StepEnded { key, step, at, outcome }
            }
        };
        if !crash {
            self.journal.apply(&record).expect("a record that the journal asked for");
        }
    }

    pub fn report(&self) -> Option<Report> {
        self.journal.current().map(reported)
    }
}

fn reported(task: &TaskInJournal) -> Report {
    Report { key: task.order.key.clone(), steps: task.steps.clone(), result: task.result }
}

pub struct World {
    pub plan: Arc<Plan>,
    pub rollout: Rollout,
    pub log: Vec<Entry>,
    pub machines: Vec<Machine>,
    pub now: u64,
    pub offline_since: BTreeMap<NodeId, Timestamp>,
    pub generation: u64,
    /// Reports that are still on their way and may be delivered late or twice.
    pub in_transit: Vec<Report>,
    pub old_orders: Vec<TaskOrder>,
    /// Whether the rollout's tally is counted again after every event.
    pub recounts: bool,
}

impl World {
    pub fn new(plan: Arc<Plan>, machines: usize, mode: Mode) -> Self {
        let rollout = Rollout::new(RolloutId::new("r1").expect("an id"), plan.clone());
        let machines = (0..machines).map(|_| Machine { online: true, ..Machine::default() }).collect();
        let mut world = Self {
            plan,
            rollout,
            log: vec![],
            machines,
            now: 1,
            offline_since: BTreeMap::new(),
            generation: 1,
            in_transit: vec![],
            old_orders: vec![],
            recounts: false,
        };
        world
            .record(Event::Started {
                mode,
                by: Actor("op".into()),
                approved_by: vec![],
                acknowledged: vec![],
            })
            .expect("a new rollout starts");
        world
    }

    pub fn record(&mut self, event: Event) -> Result<(), IllegalEvent> {
        let entry = Entry {
            seq: self.rollout.last_seq() + 1,
            at: Timestamp(self.now),
            generation: Generation(self.generation),
            event,
        };
        let before = self.rollout.clone();
        match self.rollout.apply(&entry) {
            Ok(()) => {
                self.check_start(&entry.event);
                if self.recounts {
                    self.observe(|observed| Recount(&self.rollout).check(observed));
                }
                self.log.push(entry);
            }
            Err(illegal) => {
                assert_eq!(before, self.rollout, "an illegal event must change nothing");
                return Err(illegal);
            }
        }
        Ok(())
    }

    pub fn links(&self) -> BTreeMap<NodeId, Link> {
        let link = |(index, machine): (usize, &Machine)| {
            let node = node(index);
            let since = self.offline_since.get(&node).copied().unwrap_or_default();
            (node, if machine.online { Link::Online { since } } else { Link::Offline { since } })
        };
        self.machines.iter().enumerate().map(link).collect()
    }

    pub fn decide(&mut self) {
        loop {
            let links = self.links();
            let observed = Observed { now: Timestamp(self.now), links: &links, lost_after_ms: LOST_AFTER_MS };
            let events = self.rollout.decide(observed);
            if events.is_empty() {
                break;
            }
            for event in events {
                self.record(event).expect("what decide offers is legal");
            }
        }
        for (stage, index) in
            Stage::ALL.iter().flat_map(|stage| (0..self.machines.len()).map(move |n| (stage, n)))
        {
            let may = self.rollout.may_start(*stage, &node(index), Timestamp(self.now));
            assert!(
                may.is_err() || !self.machines[index].online,
                "n{index} may start {stage} and is not offered"
            );
        }
    }

    pub fn deliver_orders(&mut self) {
        for order in self.rollout.open_orders(Generation(self.generation)).collect::<Vec<_>>() {
            let index: usize = order.key.node.as_str()[1..].parse().expect("n<index>");
            let task = self.rollout.task(order.key.stage, &order.key.node).expect("a task");
            let running = self.rollout.status().0 == Status::Running;
            assert!(running || task.accepted, "I5: a new order is sent while the rollout does not run");
            if self.machines[index].online {
                self.machines[index].receive(&order);
            }
            self.old_orders.push(order);
        }
    }

    pub fn deliver(&mut self, report: &Report) {
        if let Ok(reported) = self.rollout.reported(report) {
            for event in reported.events {
                self.record(event).expect("what a report amounts to is legal");
            }
        }
    }

    /// Every node reports its task, and those before it whose end is not known: one that lost its journal may have taken an
    /// old order after the one that it ended.
    pub fn collect_reports(&mut self) {
        let online = self.machines.iter().filter(|machine| machine.online);
        let news = |report: &Report| self.rollout.reported(report).is_ok_and(|it| !it.events.is_empty());
        let ended =
            |machine: &Machine| machine.journal.ended().iter().map(reported).filter(news).collect::<Vec<_>>();
        let reports: Vec<Report> =
            online.flat_map(|machine| ended(machine).into_iter().chain(machine.report())).collect();
        self.in_transit.extend(reports);
    }

    /// I2 and I3, when a task was given out. Afterwards I2 can be broken by one thing only: a waiver that ends.
    pub fn check_start(&self, event: &Event) {
        if let Event::TaskStarted { task } = event {
            let planned = self.plan.stage(task.stage).expect("a stage");
            let (counts, allowed) = (self.rollout.counts(task.stage), planned.limits.max_unavailable);
            assert!(counts.unavailable() <= allowed, "I2: {counts:?} in {}", task.stage);
            let others = self.away_in_etcd().into_iter().filter(|other| *other != task.node);
            let with_member = |other: &NodeId| [other, &task.node].iter().any(|node| self.is_member(node));
            let beside: Vec<NodeId> = others.filter(with_member).collect();
            assert!(task.stage != Stage::Etcd || beside.is_empty(), "I3: {} beside {beside:?}", task.node);
        }
    }

    /// Nodes of stage etcd that are in flight, waived or not, or failed or unknown and not waived.
    fn away_in_etcd(&self) -> Vec<NodeId> {
        let away = |task: &Task| {
            let counts = !task.waived && matches!(task.progress, TaskState::Failed | TaskState::Unknown);
            counts || matches!(task.progress, TaskState::Preparing | TaskState::Applying)
        };
        self.rollout.tasks(Stage::Etcd).filter(|(_, task)| away(task)).map(|(node, _)| node.clone()).collect()
    }

    fn is_member(&self, node: &NodeId) -> bool {
        self.plan.body.nodes.get(node).is_some_and(|node| node.roles.contains(&Role::EtcdMember))
    }

    pub fn check(&self) -> Result<(), TestCaseError> {
        let waiver_ended = self.log.iter().any(|entry| matches!(entry.event, Event::WaiverEnded { .. }));
        for planned in &self.plan.body.stages {
            let counts = self.rollout.counts(planned.stage);
            prop_assert_eq!(counts.total() as usize, planned.tasks.len(), "I7");
            prop_assert!(
                waiver_ended || counts.unavailable() <= planned.limits.max_unavailable,
                "I2: {} in {}",
                counts.unavailable(),
                planned.stage
            );
            self.check_reasons(planned)?;
        }
        let members = self.away_in_etcd().into_iter().filter(|node| self.is_member(node)).count();
        prop_assert!(members <= 1, "I3: {} members in flight, failed or unknown", members);
        for machine in &self.machines {
            for (what, times) in &machine.effects {
                prop_assert!(*times <= 1, "I4: {:?} took effect {} times", what, times);
            }
        }
        self.observe(|observed| {
            prop_assert_eq!(self.rollout.waiting(observed).is_empty(), self.rollout.ended(), "I8");
            self.check_meanwhile(observed)
        })?;
        self.check_barrier()
    }

    /// What is decided without a look for lost nodes is legal, and the same where there are none or where a task starts.
    fn check_meanwhile(&self, observed: Observed<'_>) -> Result<(), TestCaseError> {
        let (decided, meanwhile) = (self.rollout.decide(observed), self.rollout.decide_meanwhile(observed));
        let lost = |event: &Event| matches!(event, Event::TaskLost { .. } | Event::TaskOverdue { .. });
        let starts = |event: &Event| matches!(event, Event::TaskStarted { .. });
        if !decided.iter().any(lost) || meanwhile.iter().any(starts) {
            prop_assert_eq!(&meanwhile, &decided);
        }
        let mut rollout = self.rollout.clone();
        for event in meanwhile {
            let entry = Entry {
                seq: rollout.last_seq() + 1,
                at: observed.now,
                generation: Generation(self.generation),
                event,
            };
            prop_assert!(rollout.apply(&entry).is_ok(), "{:?}", entry);
        }
        Ok(())
    }

    pub fn observe<R>(&self, look: impl FnOnce(Observed<'_>) -> R) -> R {
        let links = self.links();
        look(Observed { now: Timestamp(self.now), links: &links, lost_after_ms: LOST_AFTER_MS })
    }

    /// I8, for the stage, each of its waves and each of its nodes: a reason as long as it is not over, and none after.
    fn check_reasons(&self, planned: &StagePlan) -> Result<(), TestCaseError> {
        let stage = planned.stage;
        let settled = |node: &NodeId| self.rollout.task(stage, node).is_some_and(Task::settled);
        let expected = |nodes: &[NodeId]| !self.rollout.ended() && !nodes.iter().all(settled);
        let asked = |subject: Subject| self.observe(|observed| self.rollout.waiting_for(&subject, observed));
        let all: Vec<NodeId> = planned.tasks.keys().cloned().collect();
        prop_assert_eq!(!asked(Subject::Stage { stage }).is_empty(), expected(&all), "I8: stage {}", stage);
        for (wave, nodes) in planned.waves.iter().enumerate() {
            let reasons = asked(Subject::Wave { stage, wave });
            prop_assert_eq!(!reasons.is_empty(), expected(nodes), "I8: wave {} of {}", wave, stage);
        }
        for node in all.iter().filter(|node| expected(std::slice::from_ref(node))) {
            let reasons = asked(Subject::Node { stage, node: node.clone() });
            prop_assert!(!reasons.is_empty(), "I8: {} in {}", node, stage);
            prop_assert!(reasons.iter().all(|r| !r.why.is_empty() && !r.unblock.is_empty()), "{:?}", reasons);
        }
        Ok(())
    }

    /// I1, I5, groups and soak times, from the log alone: a second, independent reading of it.
    fn check_barrier(&self) -> Result<(), TestCaseError> {
        let mut read = Read::default();
        for entry in &self.log {
            read.entry(&self.plan, entry)?;
        }
        Ok(())
    }

    pub fn restart_coordinator(&mut self) {
        let mut replayed = Rollout::new(self.rollout.id().clone(), self.plan.clone());
        for entry in &self.log {
            replayed.apply(entry).expect("the log replays");
        }
        assert_eq!(replayed, self.rollout, "replay gives the same state");
        self.rollout = replayed;
        self.generation += 1;
    }

    pub fn act(&mut self, action: &Act) {
        self.now += 1;
        let count = self.machines.len();
        match action {
            Act::Work(index) => self.machines[index % count].work(false),
            Act::CrashAgent(index) => self.machines[index % count].work(true),
            Act::Break(index) => self.machines[index % count].broken = true,
            Act::Mend(index) => self.machines[index % count].broken = false,
            Act::LoseJournal(index) => self.machines[index % count].journal = Journal::default(),
            Act::Off(index) => {
                self.machines[index % count].online = false;
                self.offline_since.insert(node(index % count), Timestamp(self.now));
            }
            Act::On(index) => {
                self.machines[index % count].online = true;
                self.offline_since.insert(node(index % count), Timestamp(self.now));
            }
            Act::Deliver(index) if !self.in_transit.is_empty() => {
                let report = self.in_transit[index % self.in_transit.len()].clone();
                self.deliver(&report);
            }
            Act::Deliver(_) => {}
            Act::Replay(index) if !self.old_orders.is_empty() => {
                let order = self.old_orders[index % self.old_orders.len()].clone();
                let target: usize = order.key.node.as_str()[1..].parse().expect("n<index>");
                self.machines[target].receive(&order);
            }
            Act::Replay(_) => {}
            Act::Report => self.collect_reports(),
            Act::Orders => self.deliver_orders(),
            Act::Decide => self.decide(),
            Act::RestartCoordinator => self.restart_coordinator(),
            Act::Pause => {
                let by = Actor("op".into());
                let _ = self.record(Event::Paused { reason: PauseReason::Operator { by } });
            }
            Act::Resume => drop(self.record(Event::Resumed { by: Actor("op".into()) })),
            Act::Stop => drop(self.record(Event::StopRequested { by: Actor("op".into()) })),
            Act::Retry => self.retry_failed(),
            Act::NextWave => {
                if let Some((stage, wave)) = self.rollout.wave_to_release(Timestamp(self.now)) {
                    let _ = self.record(Event::WaveReleased { stage, wave, by: Actor("op".into()) });
                }
            }
            Act::Waive(index, millis) => {
                let (node, by) = (node(index % count), Actor("op".into()));
                let until = Timestamp(self.now + millis);
                let _ = self.record(Event::NodeWaived { node, reason: "dead".into(), until, by });
            }
            Act::Withdraw(index) => {
                let (node, by) = (node(index % count), Some(Actor("op".into())));
                let _ = self.record(Event::WaiverEnded { node, by });
            }
            Act::Wait(millis) => self.now += millis,
        }
    }

    /// What is under way arrives, and is recorded.
    pub fn hear(&mut self) {
        self.collect_reports();
        for report in std::mem::take(&mut self.in_transit) {
            self.deliver(&report);
        }
    }

    /// Everything happens that can without time passing.
    pub fn go_on(&mut self) {
        for _ in 0..20 {
            self.decide();
            self.deliver_orders();
            self.machines.iter_mut().for_each(|machine| machine.work(false));
            self.hear();
        }
    }

    pub fn retry_failed(&mut self) {
        let failed: Vec<TaskRef> = Stage::ALL
            .iter()
            .flat_map(|stage| self.rollout.tasks(*stage).map(move |(node, task)| (stage, node, task)))
            .filter(|(_, _, task)| task.progress == TaskState::Failed)
            .map(|(stage, node, task)| TaskRef { stage: *stage, node: node.clone(), attempt: task.attempt })
            .collect();
        for task in failed {
            let _ = self.record(Event::TaskRetried { task, by: Actor("op".into()) });
        }
    }

    /// I9: with willing operators and working nodes it ends, and how.
    pub fn finish(&mut self) -> Result<(), TestCaseError> {
        for machine in &mut self.machines {
            machine.online = true;
            machine.broken = false;
        }
        for _ in 0..2000 {
            if self.rollout.ended() {
                break;
            }
            self.now += 500;
            (0..self.machines.len()).for_each(|index| self.act(&Act::Withdraw(index)));
            self.retry_failed();
            let _ = self.record(Event::Resumed { by: Actor("op".into()) });
            self.act(&Act::NextWave);
            self.decide();
            self.deliver_orders();
            for machine in &mut self.machines {
                machine.work(false);
            }
            self.in_transit.clear();
            self.collect_reports();
            for report in std::mem::take(&mut self.in_transit) {
                self.deliver(&report);
            }
            self.check()?;
        }
        prop_assert!(self.rollout.ended(), "I9: {:?}", self.rollout.status());
        Ok(())
    }
}
