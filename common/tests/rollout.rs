//! The invariants of a rollout, over random fleets, failures, losses, duplicates, restarts and operators.
//!
//! The coordinator's side is the production `Rollout`, the nodes' side the production `Journal`; only the world between is made up.

#![allow(clippy::expect_used)] // the way a test fails

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::action::{Action, ServiceRestart};
use wavegate_common::id::{Actor, Generation, NodeId, RolloutId, StepId, Timestamp};
use wavegate_common::journal::{Journal, Next, Record, Verdict};
use wavegate_common::order::{PlannedStep, TaskOrder, Work};
use wavegate_common::outcome::{Outcome, StepError};
use wavegate_common::plan::{FORMAT, Limits, Plan, PlanBody, StagePlan};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{
    Entry, Event, IllegalEvent, Link, Mode, Observed, PauseReason, Report, Rollout, Status, TaskRef,
    TaskState,
};

const LOST_AFTER_MS: u64 = 3;

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

fn node(index: usize) -> NodeId {
    NodeId::new(format!("n{index}")).expect("a node")
}

/// A plan: for every stage the nodes in it, and its limits.
fn plan(stages: &[(Vec<usize>, Limits)], steps: usize) -> Arc<Plan> {
    let stage_plan = |(stage, (nodes, limits)): (&Stage, &(Vec<usize>, Limits))| {
        let nodes: Vec<NodeId> = nodes.iter().map(|index| node(*index)).collect();
        let (canary, rest) = nodes.split_at(nodes.len().min(limits.canary as usize));
        let waves = std::iter::once(canary).chain(rest.chunks(limits.max_unavailable as usize));
        let tasks = nodes.iter().map(|n| (n.clone(), (0..steps).map(|s| step(&format!("s{s}"))).collect()));
        StagePlan {
            stage: *stage,
            limits: *limits,
            groups: BTreeMap::new(),
            waves: waves.filter(|wave| !wave.is_empty()).map(<[NodeId]>::to_vec).collect(),
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
        version_differences: Vec::new(),
        undeclared: BTreeSet::new(),
    };
    Arc::new(Plan::seal(body).expect("a plan"))
}

/// A node: what survives a crash is its journal and what its steps did.
#[derive(Default)]
struct Machine {
    journal: Journal,
    online: bool,
    /// Times that each step took effect, by stage and step.
    effects: BTreeMap<(Stage, StepId), u32>,
    /// Steps that fail when they are tried next.
    broken: bool,
}

impl Machine {
    fn receive(&mut self, order: &TaskOrder) {
        if self.journal.judge(order) == Verdict::Accept {
            let record = Record::Accepted { order: order.clone(), at: Timestamp(0) };
            self.journal.apply(&record).expect("judged acceptable");
        }
    }

    /// One record's worth of work. `crash` loses what was done after the last record.
    fn work(&mut self, crash: bool) {
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

    fn report(&self) -> Option<Report> {
        let task = self.journal.current()?;
        Some(Report { key: task.order.key.clone(), steps: task.steps.clone(), result: task.result })
    }
}

struct World {
    plan: Arc<Plan>,
    rollout: Rollout,
    log: Vec<Entry>,
    machines: Vec<Machine>,
    now: u64,
    offline_since: BTreeMap<NodeId, Timestamp>,
    generation: u64,
    /// Reports that are still on their way and may be delivered late or twice.
    in_transit: Vec<Report>,
    old_orders: Vec<TaskOrder>,
}

impl World {
    fn new(plan: Arc<Plan>, machines: usize, mode: Mode) -> Self {
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
        };
        world
            .record(Event::Started { mode, by: Actor("op".into()), approved_by: vec![] })
            .expect("a new rollout starts");
        world
    }

    fn record(&mut self, event: Event) -> Result<(), IllegalEvent> {
        let entry = Entry {
            seq: self.rollout.last_seq() + 1,
            at: Timestamp(self.now),
            generation: Generation(self.generation),
            event,
        };
        let before = self.rollout.clone();
        match self.rollout.apply(&entry) {
            Ok(()) => self.log.push(entry),
            Err(illegal) => {
                assert_eq!(before, self.rollout, "an illegal event must change nothing");
                return Err(illegal);
            }
        }
        Ok(())
    }

    fn links(&self) -> BTreeMap<NodeId, Link> {
        let link = |(index, machine): (usize, &Machine)| {
            let node = node(index);
            let since = self.offline_since.get(&node).copied().unwrap_or_default();
            (node, if machine.online { Link::Online { since } } else { Link::Offline { since } })
        };
        self.machines.iter().enumerate().map(link).collect()
    }

    fn decide(&mut self) {
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
    }

    fn deliver_orders(&mut self) {
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

    fn deliver(&mut self, report: &Report) {
        if let Ok(reported) = self.rollout.reported(report) {
            for event in reported.events {
                self.record(event).expect("what a report amounts to is legal");
            }
        }
    }

    fn collect_reports(&mut self) {
        let online = self.machines.iter().filter(|machine| machine.online);
        let reports: Vec<Report> = online.filter_map(Machine::report).collect();
        self.in_transit.extend(reports);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for planned in &self.plan.body.stages {
            let counts = self.rollout.counts(planned.stage);
            prop_assert_eq!(counts.total() as usize, planned.tasks.len(), "I7");
            let allowed = if planned.stage == Stage::Etcd { 1 } else { planned.limits.max_unavailable };
            prop_assert!(
                counts.unavailable() <= allowed,
                "I2, I3: {} in {}",
                counts.unavailable(),
                planned.stage
            );
        }
        for machine in &self.machines {
            for (what, times) in &machine.effects {
                prop_assert!(*times <= 1, "I4: {:?} took effect {} times", what, times);
            }
        }
        let links = self.links();
        let observed = Observed { now: Timestamp(self.now), links: &links, lost_after_ms: LOST_AFTER_MS };
        prop_assert_eq!(self.rollout.waiting(observed).is_empty(), self.rollout.ended(), "I8");
        self.check_barrier()
    }

    /// I1, from the log alone: a second, independent reading of it.
    fn check_barrier(&self) -> Result<(), TestCaseError> {
        let mut finished: BTreeSet<(Stage, NodeId)> = BTreeSet::new();
        let mut stopping = false;
        let mut paused = false;
        for entry in &self.log {
            match &entry.event {
                Event::TaskStarted { task } => {
                    prop_assert!(!stopping && !paused, "I5");
                    for earlier in self.plan.body.stages.iter().filter(|stage| stage.stage < task.stage) {
                        for node in earlier.tasks.keys() {
                            prop_assert!(finished.contains(&(earlier.stage, node.clone())), "I1");
                        }
                    }
                }
                Event::TaskEnded { task, result: wavegate_common::rollout::TaskResult::Finished } => {
                    finished.insert((task.stage, task.node.clone()));
                }
                Event::StopRequested { .. } => stopping = true,
                Event::Paused { .. } => paused = true,
                Event::Resumed { .. } => paused = false,
                _ => {}
            }
        }
        Ok(())
    }

    fn restart_coordinator(&mut self) {
        let mut replayed = Rollout::new(self.rollout.id().clone(), self.plan.clone());
        for entry in &self.log {
            replayed.apply(entry).expect("the log replays");
        }
        assert_eq!(replayed, self.rollout, "replay gives the same state");
        self.rollout = replayed;
        self.generation += 1;
    }

    fn act(&mut self, action: &Act) {
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
        }
    }

    fn retry_failed(&mut self) {
        let failed: Vec<TaskRef> = Stage::ALL
            .iter()
            .flat_map(|stage| self.rollout.tasks(*stage).map(move |(node, task)| (stage, node, task)))
            .filter(|(_, _, task)| task.state() == TaskState::Failed)
            .map(|(stage, node, task)| TaskRef { stage: *stage, node: node.clone(), attempt: task.attempt })
            .collect();
        for task in failed {
            let _ = self.record(Event::TaskRetried { task, by: Actor("op".into()) });
        }
    }

    /// I9: with willing operators and working nodes it ends, and how.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for machine in &mut self.machines {
            machine.online = true;
            machine.broken = false;
        }
        for _ in 0..2000 {
            if self.rollout.ended() {
                break;
            }
            self.now += 1;
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

#[derive(Debug, Clone)]
enum Act {
    Work(usize),
    CrashAgent(usize),
    Break(usize),
    Mend(usize),
    LoseJournal(usize),
    Off(usize),
    On(usize),
    Deliver(usize),
    Replay(usize),
    Report,
    Orders,
    Decide,
    RestartCoordinator,
    Pause,
    Resume,
    Stop,
    Retry,
    NextWave,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let any = 0..8usize;
    let act = prop_oneof![
        12 => any.clone().prop_map(Act::Work),
        2 => any.clone().prop_map(Act::CrashAgent),
        1 => any.clone().prop_map(Act::Break),
        1 => any.clone().prop_map(Act::Mend),
        1 => any.clone().prop_map(Act::LoseJournal),
        1 => any.clone().prop_map(Act::Off),
        2 => any.clone().prop_map(Act::On),
        6 => (0..100usize).prop_map(Act::Deliver),
        1 => (0..100usize).prop_map(Act::Replay),
        6 => Just(Act::Report),
        6 => Just(Act::Orders),
        6 => Just(Act::Decide),
        1 => Just(Act::RestartCoordinator),
        1 => Just(Act::Pause),
        2 => Just(Act::Resume),
        1 => Just(Act::Retry),
        2 => Just(Act::NextWave),
    ];
    let stop = prop_oneof![9 => Just(None), 1 => Just(Some(Act::Stop))];
    (prop::collection::vec(act, 0..300), stop).prop_map(|(mut acts, stop)| {
        let middle = acts.len() / 2;
        acts.splice(middle..middle, stop);
        acts
    })
}

fn stages(machines: usize) -> impl Strategy<Value = Vec<(Vec<usize>, Limits)>> {
    let limits = (1..3u32, 1..4u32, 0..2u32).prop_map(|(canary, max_unavailable, errors_allowed)| Limits {
        canary: canary.min(max_unavailable),
        max_unavailable,
        errors_allowed,
        soak_s: 0,
        start: Mode::Auto,
    });
    let members = prop::sample::subsequence((0..machines).collect::<Vec<_>>(), 0..=machines);
    prop::collection::vec((members, limits), 3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_whatever_happens(
        (machines, stages) in (1..6usize).prop_flat_map(|n| (Just(n), stages(n))),
        steps in 1..4usize,
        manual in any::<bool>(),
        acts in acts(),
    ) {
        let mode = if manual { Mode::Manual } else { Mode::Auto };
        let mut world = World::new(plan(&stages, steps), machines, mode);
        for act in &acts {
            world.act(act);
            world.check()?;
        }
        let stop_asked = world.log.iter().any(|entry| matches!(entry.event, Event::StopRequested { .. }));
        world.finish()?;
        let expected = if stop_asked { Status::Stopped } else { Status::Finished };
        prop_assert_eq!(world.rollout.status().0, expected);
        if expected == Status::Finished {
            for (stage, (nodes, _)) in Stage::ALL.iter().zip(&stages) {
                for index in nodes {
                    for s in 0..steps {
                        let what = (*stage, StepId::new(format!("s{s}")).expect("a step"));
                        prop_assert_eq!(world.machines[*index].effects.get(&what), Some(&1), "each step, once");
                    }
                }
            }
        }
    }
}

const ONE_AT_A_TIME: Limits =
    Limits { canary: 1, max_unavailable: 1, errors_allowed: 0, soak_s: 0, start: Mode::Auto };

fn task(stage: Stage, index: usize, attempt: u32) -> TaskRef {
    TaskRef { stage, node: node(index), attempt }
}

#[test]
fn a_start_that_decide_would_not_offer_is_illegal() {
    let stages = [(vec![0], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    let early = world.record(Event::TaskStarted { task: task(Stage::Compute, 0, 1) });
    assert_eq!(
        early.expect_err("the barrier").to_string(),
        "n0 may not start stage compute: stage etcd is not done: 1 nodes are not finished"
    );
    let wrong = world.record(Event::TaskStarted { task: task(Stage::Etcd, 0, 2) });
    assert!(matches!(wrong, Err(IllegalEvent::OtherAttempt { .. })), "{wrong:?}");
    world.record(Event::TaskStarted { task: task(Stage::Etcd, 0, 1) }).expect("it is next");
    let twice = world.record(Event::TaskStarted { task: task(Stage::Etcd, 0, 2) });
    assert!(matches!(twice, Err(IllegalEvent::Held { .. })), "{twice:?}");
}

#[test]
fn a_failed_canary_halts_and_retry_and_resume_go_on() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1, 2], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 3, Mode::Auto);
    world.machines[0].broken = true;
    for _ in 0..5 {
        world.decide();
        world.deliver_orders();
        world.machines[0].work(false);
        world.collect_reports();
        for report in std::mem::take(&mut world.in_transit) {
            world.deliver(&report);
        }
    }
    world.decide();
    assert_eq!(world.rollout.status().0, Status::Paused);
    let counts = world.rollout.counts(Stage::Compute);
    assert_eq!((counts.failed, counts.not_tried), (1, 2), "the other nodes are untouched");
    let resumed = world.record(Event::Resumed { by: Actor("op".into()) });
    assert!(matches!(resumed, Err(IllegalEvent::OverThreshold { .. })), "{resumed:?}");
    world.machines[0].broken = false;
    world.finish().expect("it ends");
    assert_eq!(world.rollout.status().0, Status::Finished);
}

#[test]
fn a_node_that_lost_its_journal_and_fails_where_it_had_succeeded_can_be_retried() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 3), 1, Mode::Auto);
    let work = |world: &mut World, records: usize| {
        world.decide();
        world.deliver_orders();
        (0..records).for_each(|_| world.machines[0].work(false));
        world.collect_reports();
        for report in std::mem::take(&mut world.in_transit) {
            world.deliver(&report);
        }
    };
    work(&mut world, 4);
    let known = |world: &World| world.rollout.task(Stage::Compute, &node(0)).map(|task| task.steps.len());
    assert_eq!(known(&world), Some(2));
    world.machines[0].journal = Journal::default();
    world.machines[0].broken = true;
    work(&mut world, 3);
    assert_eq!(known(&world), Some(1));
    assert_eq!(world.rollout.counts(Stage::Compute).failed, 1);
    world.machines[0].broken = false;
    world.finish().expect("it ends");
    assert_eq!(world.rollout.status().0, Status::Finished);
}

#[test]
fn a_lost_node_holds_the_stage_until_it_returns() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![1], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.decide();
    world.deliver_orders();
    world.act(&Act::Off(0));
    world.now += LOST_AFTER_MS;
    world.decide();
    assert_eq!(
        world.rollout.task(Stage::Compute, &node(0)).map(wavegate_common::rollout::Task::state),
        Some(TaskState::Unknown)
    );
    assert_eq!(world.rollout.status().0, Status::Running, "a lost node holds, it does not halt");
    let links = world.links();
    let observed = Observed { now: Timestamp(world.now), links: &links, lost_after_ms: LOST_AFTER_MS };
    let waiting = world.rollout.waiting(observed);
    assert!(
        waiting.iter().any(|w| w.nodes == [node(0)] && w.unblock.contains("switch n0 on")),
        "{waiting:#?}"
    );
    assert!(
        waiting.iter().any(|w| w.why.starts_with("stage control waits for stage compute")),
        "{waiting:#?}"
    );
    world.finish().expect("it ends");
    assert_eq!(world.rollout.status().0, Status::Finished);
}

/// A coordinator whose store was set back to an earlier copy gives the same number to another rollout.
#[test]
fn what_was_done_for_another_plan_under_the_same_number_does_not_count() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut before = World::new(plan(&stages, 1), 1, Mode::Auto);
    before.finish().expect("it ends");
    let old = before.machines[0].report().expect("a task that ended");

    let mut after = World::new(plan(&stages, 2), 1, Mode::Auto);
    after.machines = before.machines;
    after.machines[0].effects.clear();
    assert_eq!(after.rollout.id(), before.rollout.id());
    after.decide();
    let contradiction = after.rollout.reported(&old).expect_err("of another plan");
    assert_eq!(contradiction.to_string(), "r1 compute n0 attempt 1: the plan has no such task");
    after.deliver_orders();
    let current = after.machines[0].journal.current().expect("a task");
    assert_eq!((&current.order.key.plan, current.result), (&after.plan.id, None), "it is taken as a new one");
    after.finish().expect("it ends");
    assert_eq!(after.machines[0].effects.len(), 2, "every step was done");
}

#[test]
fn an_order_that_was_not_confirmed_is_held_by_a_pause_and_taken_back_by_a_stop() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let by = || Actor("op".into());
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.decide();
    world.record(Event::Paused { reason: PauseReason::Operator { by: by() } }).expect("it runs");
    assert_eq!(world.rollout.open_orders(Generation(1)).count(), 0, "the order is held");
    world.record(Event::Resumed { by: by() }).expect("it is paused");
    assert_eq!(world.rollout.open_orders(Generation(1)).count(), 1, "and sent when it goes on");
    world.record(Event::StopRequested { by: by() }).expect("it runs");
    world.decide();
    assert_eq!(world.rollout.status().0, Status::Stopping, "the node may have had it");
    world.now += LOST_AFTER_MS;
    world.decide();
    assert_eq!(world.rollout.status().0, Status::Stopped);
    let counts = world.rollout.counts(Stage::Compute);
    assert_eq!((counts.unknown, counts.not_tried), (1, 1), "whether it had it is not known");
}
