//! What a rollout keeps in a tally, counted again from its tasks alone: every question that is asked after an event, answered by
//! looking at every node, as whoever reads the rules would.

use super::invariants::{acts, nodes, stages};
use super::scenarios::{ONE_AT_A_TIME, task};
use super::world::{World, plan, plan_of, with_members};
use proptest::prelude::*;
use std::collections::BTreeSet;
use wavegate_common::id::{Actor, Generation, NodeId, Timestamp};
use wavegate_common::order::Work;
use wavegate_common::plan::{Limits, StagePlan};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{
    Counts, Event, Hold, Link, Mode, Observed, PauseReason, Rollout, StageState, Status, Task, TaskRef,
    TaskState,
};

/// A rollout whose tally is not believed.
pub struct Recount<'r>(pub &'r Rollout);

impl Recount<'_> {
    /// Compares all that the tally answers.
    pub fn check(&self, observed: Observed<'_>) {
        let rollout = self.0;
        assert_eq!(rollout.current_stage(), self.current_stage());
        for planned in self.stages() {
            let stage = planned.stage;
            assert_eq!(rollout.counts(stage), self.counts(stage), "{stage}");
            assert_eq!(rollout.current_wave(planned), self.current_wave(planned), "{stage}");
            assert_eq!(rollout.stage_state(planned), self.stage_state(planned), "{stage}");
            assert_eq!(rollout.stage_times(stage).1, self.ended(stage), "{stage}");
            let held = rollout.is_held_by_failures(stage, observed.now);
            assert_eq!(held, self.is_held_by_failures(planned, observed.now), "{stage}");
            for wave in 0..planned.waves.len() {
                assert_eq!(
                    rollout.soaks_until(stage, wave),
                    self.soaks_until(planned, wave),
                    "{stage} {wave}"
                );
            }
            for node in planned.tasks.keys() {
                let (own, counted) = (
                    rollout.may_start(stage, node, observed.now),
                    self.may_start(planned, node, observed.now),
                );
                assert_eq!(own, counted, "{node} in {stage}");
                let waiver =
                    rollout.waivers().iter().find(|waiver| waiver.in_force() && waiver.node == *node);
                assert_eq!(rollout.waiver(node), waiver);
            }
        }
        assert_eq!(rollout.decide(observed), self.decide(observed));
        self.check_orders();
    }

    fn check_orders(&self) {
        let (rollout, generation) = (self.0, Generation(1));
        let open: Vec<_> = rollout.open_orders(generation).map(|order| order.key).collect();
        let expected = self.stages().iter().flat_map(|planned| {
            rollout.tasks(planned.stage).filter(|(_, task)| {
                (in_flight(task) || task.progress == TaskState::Unknown)
                    && !rollout.ended()
                    && (task.accepted || rollout.status().0 == Status::Running && !task.waived)
            })
        });
        assert_eq!(
            open.iter().map(|key| &key.node).collect::<Vec<_>>(),
            expected.map(|(n, _)| n).collect::<Vec<_>>()
        );
        let nodes: BTreeSet<&NodeId> =
            self.stages().iter().flat_map(|planned| planned.tasks.keys()).collect();
        for node in nodes {
            let own: Vec<_> = rollout.open_orders_of(generation, node).map(|order| order.key).collect();
            let expected: Vec<_> = open.iter().filter(|key| key.node == *node).cloned().collect();
            assert_eq!(own, expected);
        }
    }

    fn stages(&self) -> &[StagePlan] {
        &self.0.plan().body.stages
    }

    fn task(&self, stage: Stage, node: &NodeId) -> &Task {
        self.0.tasks(stage).find(|(known, _)| *known == node).map(|(_, task)| task).expect("a task")
    }

    fn in_state(&self, stage: Stage, state: TaskState) -> u32 {
        let tasks = self.0.tasks(stage).filter(|(_, task)| task.state() == state);
        u32::try_from(tasks.count()).expect("a few")
    }

    fn counts(&self, stage: Stage) -> Counts {
        let count = |state| self.in_state(stage, state);
        Counts {
            not_tried: count(TaskState::Scheduled) + count(TaskState::Canceled),
            running: count(TaskState::Preparing) + count(TaskState::Applying),
            finished: count(TaskState::Finished),
            failed: count(TaskState::Failed),
            unknown: count(TaskState::Unknown),
            waived: count(TaskState::Waived),
        }
    }

    fn current_stage(&self) -> Option<&StagePlan> {
        self.stages().iter().find(|planned| self.0.tasks(planned.stage).any(|(_, task)| !task.settled()))
    }

    fn is_alone(&self, stage: Stage, node: &NodeId) -> bool {
        stage == Stage::Etcd && self.0.plan().is_etcd_member(node)
    }

    fn is_canary(&self, planned: &StagePlan, wave: usize) -> bool {
        let members = |wave: &[NodeId]| wave.iter().any(|node| self.is_alone(planned.stage, node));
        wave == 0 || members(&planned.waves[wave - 1]) && !members(&planned.waves[wave])
    }

    fn is_over(&self, planned: &StagePlan, wave: usize) -> bool {
        planned.waves[wave].iter().all(|node| match self.task(planned.stage, node).state() {
            TaskState::Finished | TaskState::Waived => true,
            TaskState::Failed => !self.is_canary(planned, wave),
            _ => false,
        })
    }

    fn current_wave(&self, planned: &StagePlan) -> Option<usize> {
        (0..planned.waves.len()).find(|wave| !self.is_over(planned, *wave))
    }

    fn ended(&self, stage: Stage) -> Option<Timestamp> {
        let settled = self.0.tasks(stage).all(|(_, task)| task.settled());
        self.0.tasks(stage).map(|(_, task)| task.since).max().filter(|_| settled)
    }

    fn stage_state(&self, planned: &StagePlan) -> StageState {
        let count = |state| self.in_state(planned.stage, state) as usize;
        let all = planned.tasks.len();
        if count(TaskState::Finished) + count(TaskState::Waived) == all {
            StageState::Done
        } else if count(TaskState::Failed) + count(TaskState::Unknown) > 0 {
            StageState::Error
        } else if count(TaskState::Scheduled) + count(TaskState::Canceled) == all {
            StageState::Unstarted
        } else if self.0.ended() {
            StageState::Stopped
        } else if self.current_wave(planned) == Some(0) {
            StageState::Canary
        } else {
            StageState::Active
        }
    }

    fn soaks_until(&self, planned: &StagePlan, wave: usize) -> Option<Timestamp> {
        let (of, waves) = if wave > 0 {
            (planned, wave)
        } else {
            let earlier = |of: &&StagePlan| of.stage < planned.stage && !of.waves.is_empty();
            let of = self.stages().iter().rfind(earlier)?;
            (of, of.waves.len())
        };
        let tasks = of.waves.iter().take(waves).flatten().map(|node| self.task(of.stage, node));
        let ended = tasks.filter(|task| task.attempt > 0).map(|task| task.since).max()?;
        (of.limits.soak_s > 0).then(|| Timestamp(ended.0 + of.limits.soak_s * 1000))
    }

    fn begins(&self, planned: &StagePlan, wave: usize, now: Timestamp) -> Result<(), Hold> {
        let begun = planned.waves[wave].iter().any(|node| self.task(planned.stage, node).attempt > 0);
        if begun || self.0.is_released(planned.stage, wave) {
            return Ok(());
        }
        if self.0.is_manual(planned) {
            return Err(Hold::NotReleased { wave });
        }
        match self.soaks_until(planned, wave).filter(|until| *until > now) {
            Some(until) => Err(Hold::Soaking { wave, left_s: (until.0 - now.0).div_ceil(1000) }),
            None => Ok(()),
        }
    }

    fn may_start(&self, planned: &StagePlan, node: &NodeId, now: Timestamp) -> Result<(), Hold> {
        let (stage, status) = (planned.stage, self.0.status().0);
        if status != Status::Running {
            return Err(Hold::NotRunning { status });
        }
        let state = self.task(stage, node).state();
        if state != TaskState::Scheduled {
            return Err(Hold::NotScheduled { state });
        }
        for earlier in self.stages().iter().filter(|earlier| earlier.stage < stage) {
            let unfinished = self.0.tasks(earlier.stage).filter(|(_, task)| !task.settled()).count();
            if unfinished > 0 {
                return Err(Hold::Barrier { stage: earlier.stage, unfinished });
            }
        }
        let wave = planned.waves.iter().position(|wave| wave.contains(node)).expect("a wave");
        if let Some(open) = (0..wave).find(|earlier| !self.is_over(planned, *earlier)) {
            let wrong = |node: &NodeId| {
                matches!(self.task(stage, node).state(), TaskState::Failed | TaskState::Unknown)
            };
            let canary = self.is_canary(planned, open) && planned.waves[open].iter().any(wrong);
            return Err(if canary { Hold::Canary } else { Hold::EarlierWave { wave: open } });
        }
        self.begins(planned, wave, now)?;
        self.beside(planned, node)?;
        self.within_limits(planned)
    }

    /// Groups and members.
    fn beside(&self, planned: &StagePlan, node: &NodeId) -> Result<(), Hold> {
        let stage = planned.stage;
        let at_work = |task: &Task| in_flight(task) || task.state() == TaskState::Unknown;
        for (other, _) in self.0.tasks(stage).filter(|(_, task)| at_work(task)) {
            if let (Some(own), Some(group)) = (planned.groups.get(node), planned.groups.get(other))
                && own != group
            {
                return Err(Hold::OtherGroup { node: other.clone(), group: group.clone() });
            }
        }
        let away = self.0.tasks(stage).filter(|(_, task)| at_work(task) || task.state() == TaskState::Failed);
        let away: Vec<&NodeId> = away.map(|(node, _)| node).collect();
        if let Some(member) = away.iter().find(|node| self.is_alone(stage, node)) {
            return Err(Hold::EtcdMember { member: (*member).clone() });
        }
        match away.first().filter(|_| self.is_alone(stage, node)) {
            Some(other) => Err(Hold::NotAlone { node: (*other).clone() }),
            None => Ok(()),
        }
    }

    fn unavailable(&self, stage: Stage) -> u32 {
        let counts = self.counts(stage);
        let waived = self.0.tasks(stage).filter(|(_, task)| task.waived && in_flight(task)).count();
        let beside = if stage == Stage::Etcd { u32::try_from(waived).expect("a few") } else { 0 };
        counts.running + counts.failed + counts.unknown + beside
    }

    fn at_once(&self, planned: &StagePlan) -> u32 {
        let most = planned.limits.max_unavailable;
        let Some(wave) = self.current_wave(planned) else { return most };
        let canary = (0..=wave).rfind(|wave| self.is_canary(planned, *wave)).expect("the first wave");
        let finished = |node: &NodeId| self.task(planned.stage, node).progress == TaskState::Finished;
        let tried = planned.waves.iter().skip(canary).flatten().any(finished);
        if wave > canary && !tried { most.min(planned.limits.canary) } else { most }
    }

    fn within_limits(&self, planned: &StagePlan) -> Result<(), Hold> {
        let overdue = self.0.tasks(planned.stage).filter(|(_, task)| task.is_overdue()).count();
        let counts = self.counts(planned.stage);
        let errors = counts.failed + counts.unknown + u32::try_from(overdue).expect("a few");
        let allowed = planned.limits.errors_allowed;
        if errors > allowed {
            return Err(Hold::Errors { errors, allowed });
        }
        let (unavailable, allowed) = (self.unavailable(planned.stage), self.at_once(planned));
        if unavailable >= allowed {
            return Err(Hold::MaxUnavailable { unavailable, allowed });
        }
        Ok(())
    }

    fn is_held_by_failures(&self, planned: &StagePlan, now: Timestamp) -> bool {
        let scheduled = self.0.tasks(planned.stage).filter(|(_, task)| task.state() == TaskState::Scheduled);
        let holds: Vec<_> = scheduled.map(|(node, _)| self.may_start(planned, node, now)).collect();
        let by_failures = |hold: &Result<(), Hold>| {
            matches!(
                hold,
                Err(Hold::Canary
                    | Hold::EtcdMember { .. }
                    | Hold::NotAlone { .. }
                    | Hold::Errors { .. }
                    | Hold::MaxUnavailable { .. })
            )
        };
        let failed = self.in_state(planned.stage, TaskState::Failed) > 0;
        failed && holds.iter().all(Result::is_err) && holds.iter().any(by_failures)
    }

    fn decide(&self, observed: Observed<'_>) -> Vec<Event> {
        let status = self.0.status().0;
        if self.0.ended() || status == Status::Ready {
            return Vec::new();
        }
        let over = self.0.waivers().iter().filter(|it| it.in_force() && it.until <= observed.now);
        let mut passed: Vec<Event> =
            over.map(|waiver| Event::WaiverEnded { node: waiver.node.clone(), by: None }).collect();
        for planned in self.stages() {
            passed.extend(self.lost(planned, observed));
        }
        if !passed.is_empty() {
            return passed;
        }
        let any_in_flight =
            self.stages().iter().any(|of| self.0.tasks(of.stage).any(|(_, task)| in_flight(task)));
        match status {
            Status::Stopping if !any_in_flight => vec![Event::Stopped],
            Status::Running => self.advance(observed),
            _ => Vec::new(),
        }
    }

    fn lost(&self, planned: &StagePlan, observed: Observed<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        for (node, task) in self.0.tasks(planned.stage).filter(|(_, task)| in_flight(task)) {
            let about = TaskRef { stage: planned.stage, node: node.clone(), attempt: task.attempt };
            let here = observed.now.millis_since(task.since);
            let gone = match observed.link(node) {
                Link::Online { .. } => false,
                Link::Offline { since } => observed.now.millis_since(since) >= observed.lost_after_ms,
            };
            let unconfirmed = self.0.status().0 == Status::Stopping
                && task.progress == TaskState::Preparing
                && here >= observed.lost_after_ms;
            let steps = planned.tasks[node].iter().map(|step| match step.work {
                Work::Run { timeout_s, .. } => timeout_s,
                Work::Skip { .. } => 0,
            });
            let together: u64 = steps.sum();
            if gone || unconfirmed {
                events.push(Event::TaskLost { task: about });
            } else if task.progress == TaskState::Applying
                && !task.overdue
                && here >= (together + together / 2 + 600) * 1000
            {
                events.push(Event::TaskOverdue { task: about });
            }
        }
        events
    }

    fn advance(&self, observed: Observed<'_>) -> Vec<Event> {
        let Some(planned) = self.current_stage() else { return vec![Event::Finished] };
        for of in self.stages() {
            let (failed, allowed) = (self.counts(of.stage).failed, of.limits.errors_allowed);
            if failed > allowed {
                let reason = PauseReason::ErrorThreshold { stage: of.stage, failed, allowed };
                return vec![Event::Paused { reason }];
            }
        }
        let kind = |node: &NodeId| (planned.groups.get(node), self.is_alone(planned.stage, node));
        let may = |node: &&NodeId| {
            observed.link(node).is_online() && self.may_start(planned, node, observed.now).is_ok()
        };
        let ready: Vec<&NodeId> = planned.waves.iter().flatten().filter(may).collect();
        let Some(first) = ready.first().map(|node| kind(node)) else { return Vec::new() };
        let free = self.at_once(planned).saturating_sub(self.unavailable(planned.stage));
        let room = if first.1 { 1 } else { free as usize };
        let started = ready.into_iter().filter(|node| kind(node) == first).take(room).map(|node| {
            let attempt = self.task(planned.stage, node).attempt + 1;
            Event::TaskStarted { task: TaskRef { stage: planned.stage, node: node.clone(), attempt } }
        });
        started.collect()
    }
}

fn in_flight(task: &Task) -> bool {
    matches!(task.progress, TaskState::Preparing | TaskState::Applying)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_tally_is_right_after_every_event(
        (machines, stages, members) in (1..8usize).prop_flat_map(|n| (Just(n), stages(n), nodes(n))),
        groups in 1..3usize,
        acts in acts(),
    ) {
        let plan = with_members(&plan_of(&stages, 1, groups), &members);
        let mut world = World::new(plan, machines, Mode::Auto);
        world.recounts = true;
        acts.iter().for_each(|act| world.act(act));
        world.finish()?;
    }
}

/// Time may go backwards, where a clock was set: the tally is right all the same.
#[test]
fn a_clock_that_is_set_back_leaves_the_tally_right() {
    let soaking = Limits { soak_s: 60, errors_allowed: 2, ..ONE_AT_A_TIME };
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1, 2], soaking), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 3, Mode::Auto);
    world.now = 1_000_000;
    world.machines[0].broken = true;
    world.go_on();
    world.now = 500_000;
    let by = Actor("op".into());
    world.record(Event::TaskRetried { task: task(Stage::Compute, 0, 1), by }).expect("it failed");
    world.machines[0].broken = false;
    world.go_on();
    world.observe(|observed| Recount(&world.rollout).check(observed));
    assert_eq!(world.rollout.soaks_until(Stage::Compute, 1), Some(Timestamp(560_000)));
}
