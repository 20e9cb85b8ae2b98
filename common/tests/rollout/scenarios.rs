//! Single rollouts that are worth telling.

use super::invariants::Act;
use super::world::{LOST_AFTER_MS, World, node, plan};
use wavegate_common::id::{Actor, Generation, StepId, Timestamp};
use wavegate_common::journal::Journal;
use wavegate_common::outcome::{Outcome, StepError};
use wavegate_common::plan::Limits;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{
    Event, IllegalEvent, Mode, Observed, PauseReason, Status, TaskRef, TaskResult, TaskState,
};

pub const ONE_AT_A_TIME: Limits =
    Limits { canary: 1, max_unavailable: 1, errors_allowed: 0, soak_s: 0, start: Mode::Auto };

pub fn task(stage: Stage, index: usize, attempt: u32) -> TaskRef {
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
fn steps_end_in_the_order_of_the_plan_and_nothing_ends_before_them() {
    let stages = [(vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 2), 2, Mode::Auto);
    let task = |node| task(Stage::Etcd, node, 1);
    let ended = |node, step, outcome| Event::StepEnded {
        task: task(node),
        step: StepId::new(step).expect("an id"),
        ended_at: Timestamp(1),
        outcome,
    };
    let so = || Outcome::AlreadySo { evidence: "it is so".to_owned() };
    let failure = StepError { what: "broken".to_owned(), output: Vec::new(), next: "mend it".to_owned() };
    let over = |result| Event::TaskEnded { task: task(0), result };
    let refused = |told: Result<(), IllegalEvent>| told.expect_err("it is not so").to_string();

    world.record(Event::TaskStarted { task: task(0) }).expect("it is next");
    assert_eq!(refused(world.record(ended(0, "s0", so()))), "n0 is preparing in stage etcd");
    world.record(Event::TaskAccepted { task: task(0) }).expect("it has it");
    let next = "step s1 of n0 in stage etcd ended, expected s0";
    assert_eq!(refused(world.record(ended(0, "s1", so()))), next);
    world.record(ended(0, "s0", so())).expect("the first");
    let contradicted = "n0 reports stage etcd as Finished, its steps say otherwise";
    assert_eq!(refused(world.record(over(TaskResult::Finished))), contradicted);
    world.record(ended(0, "s1", Outcome::Failed { error: failure })).expect("the second");
    let none = "step s1 of n0 in stage etcd ended, expected none";
    assert_eq!(refused(world.record(ended(0, "s1", so()))), none);
    assert_eq!(refused(world.record(over(TaskResult::Finished))), contradicted);
    world.record(over(TaskResult::Failed)).expect("a step failed");

    let stranger = "the plan has no task of stage etcd on node n7";
    assert_eq!(refused(world.record(ended(7, "s0", so()))), stranger);
    let kept = &world.rollout.task(Stage::Etcd, &node(0)).expect("a task").steps[0].step;
    let planned = &world.rollout.plan().stage(Stage::Etcd).expect("a stage").tasks[&node(0)][0].id;
    assert_eq!(kept.as_str().as_ptr(), planned.as_str().as_ptr(), "its name is there once");
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
        world.hear();
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
        world.hear();
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

/// Crowds that wait for the same hands wait for other things, and are told apart by what would unblock them.
#[test]
fn crowds_that_are_away_for_different_reasons_are_told_apart() {
    let wide = Limits { max_unavailable: 63, errors_allowed: 63, ..ONE_AT_A_TIME };
    let stages = [(vec![], ONE_AT_A_TIME), ((0..64).collect(), wide), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 64, Mode::Auto);
    let off = |world: &mut World, nodes: std::ops::Range<usize>| {
        nodes.for_each(|index| world.act(&Act::Off(index)));
    };
    world.decide();
    world.deliver_orders();
    (0..3).for_each(|_| world.machines[0].work(false));
    world.hear();
    off(&mut world, 43..64);
    world.decide();
    world.deliver_orders();
    world.hear();
    off(&mut world, 1..22);
    world.now += LOST_AFTER_MS;
    world.decide();
    off(&mut world, 22..43);
    let waiting = world.observe(|observed| world.rollout.waiting(observed));
    let told: Vec<String> = waiting.iter().map(|w| format!("{}\n  {}", w.why, w.unblock)).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    21 nodes (n1, n2, n3, n4, n5 and 16 more) were lost while applying stage compute; what they did is unknown until they return
      switch them on, or start their agents there: systemctl start wavegate-agent; when they are back, they say what they did and go on from there. To go on without one of them: wavegate waive NODE; if one is gone for good: wavegate stop, then wavegate node remove NODE
    21 nodes (n22, n23, n24, n25, n26 and 16 more) went offline while applying stage compute
      switch them on, or start their agents there: systemctl start wavegate-agent; when they are back, they go on by themselves with what they were at. To go on without one of them: wavegate waive NODE; if one is gone for good: wavegate stop, then wavegate node remove NODE
    21 nodes (n43, n44, n45, n46, n47 and 16 more) are offline and have not done stage compute
      switch them on, or start their agents there: systemctl start wavegate-agent; when they are back, their turn comes by itself. To go on without one of them: wavegate waive NODE; if one is gone for good: wavegate stop, then wavegate node remove NODE
    ");
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
