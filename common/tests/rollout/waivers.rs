//! Nodes that an operator lets not count for a while, and tasks that take too long.

use super::invariants::Act;
use super::scenarios::ONE_AT_A_TIME;
use super::world::{LOST_AFTER_MS, World, node, plan, with_members};
use std::sync::Arc;
use wavegate_common::id::{Actor, Generation, Timestamp};
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Hold, IllegalEvent, Mode, Status, TaskState};

fn waive(world: &mut World, index: usize, millis: u64) -> Result<(), IllegalEvent> {
    let until = Timestamp(world.now + millis);
    let by = Actor("anna".into());
    world.record(Event::NodeWaived { node: node(index), reason: "its disk is dead".into(), until, by })
}

fn withdraw(world: &mut World, index: usize) -> Result<(), IllegalEvent> {
    world.record(Event::WaiverEnded { node: node(index), by: Some(Actor("anna".into())) })
}

/// Two compute nodes, of which the second is in stage control too. The first one fails.
fn halted() -> World {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.machines[0].broken = true;
    world.go_on();
    assert_eq!(world.rollout.status().0, Status::Paused);
    world
}

#[test]
fn without_a_waived_node_the_others_go_on_and_it_is_named_for_ever() {
    let mut world = halted();
    waive(&mut world, 0, 1_000_000).expect("it failed, it is not at work");
    assert_eq!(world.rollout.counts(Stage::Compute).waived, 1);
    assert_eq!(world.rollout.counts(Stage::Control).waived, 1, "all that it has left to do");
    world.record(Event::Resumed { by: Actor("anna".into()) }).expect("nothing that counts has failed");
    world.go_on();
    assert_eq!(world.rollout.status().0, Status::Finished);
    let control = world.rollout.task(Stage::Control, &node(0)).map(|task| (task.state(), task.attempt));
    assert_eq!(control, Some((TaskState::Waived, 0)), "a waived node is given nothing");
    let waiver = &world.rollout.waivers()[0];
    assert_eq!((waiver.reason.as_str(), waiver.by.0.as_str()), ("its disk is dead", "anna"));
}

#[test]
fn a_waiver_that_is_over_lets_the_node_count_again() {
    let mut world = halted();
    waive(&mut world, 0, 10).expect("it failed");
    let early = world.record(Event::WaiverEnded { node: node(0), by: None });
    assert!(matches!(early, Err(IllegalEvent::WaiverNotOver { .. })), "{early:?}");
    world.record(Event::Resumed { by: Actor("anna".into()) }).expect("nothing that counts has failed");
    world.now += 10;
    world.decide();
    assert!(!world.rollout.waivers()[0].in_force());
    assert_eq!(world.rollout.status().0, Status::Paused, "the failure counts again");
    assert_eq!(world.rollout.counts(Stage::Compute).failed, 1);
    world.finish().expect("it ends");
    assert_eq!(world.rollout.status().0, Status::Finished);
    assert_eq!(world.rollout.counts(Stage::Compute).finished, 2);
}

#[test]
fn where_the_canary_is_waived_the_next_node_is_the_first_to_try() {
    let wide = wavegate_common::plan::Limits { max_unavailable: 3, errors_allowed: 2, ..ONE_AT_A_TIME };
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1, 2, 3], wide), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 4, Mode::Auto);
    world.machines[0].online = false;
    waive(&mut world, 0, 1_000_000).expect("it was not tried");
    let running = |world: &World| world.rollout.counts(Stage::Compute).running;
    world.decide();
    assert_eq!(running(&world), 1, "nothing has been tried yet");
    world.machines[1].broken = true;
    world.go_on();
    assert_eq!(world.rollout.counts(Stage::Compute).failed, 1);
    assert_eq!(running(&world), 0, "it failed, and no other begins");
    world.machines[1].broken = false;
    world.retry_failed();
    for _ in 0..3 {
        world.decide();
        world.deliver_orders();
        world.machines[1].work(false);
    }
    world.hear();
    world.decide();
    assert_eq!(running(&world), 2, "one has finished, the others may");
}

#[test]
fn who_is_at_work_or_done_or_an_etcd_member_is_not_waived() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.decide();
    assert!(matches!(waive(&mut world, 0, 10), Err(IllegalEvent::AtWork { .. })));
    assert!(matches!(waive(&mut world, 7, 10), Err(IllegalEvent::NothingToWaive { .. })), "not in the plan");
    assert!(matches!(waive(&mut world, 1, 0), Err(IllegalEvent::WaiverOver { .. })));
    assert!(matches!(withdraw(&mut world, 1), Err(IllegalEvent::NotWaived { .. })));
    waive(&mut world, 1, 10).expect("it was not tried");
    waive(&mut world, 1, 20).expect("another end");
    let ends: Vec<u64> = world.rollout.waivers().iter().map(|waiver| waiver.until.0 - world.now).collect();
    assert_eq!(ends, [10, 20]);
    assert_eq!(world.rollout.waivers().iter().filter(|waiver| waiver.in_force()).count(), 1);

    let stages = [(vec![0], ONE_AT_A_TIME), (vec![0], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(with_members(&plan(&stages, 1), &[0]), 1, Mode::Auto);
    world.machines[0].broken = true;
    world.go_on();
    assert!(matches!(waive(&mut world, 0, 10), Err(IllegalEvent::EtcdMember { .. })));
    let mut world = World::new(with_members(&plan(&stages, 1), &[0]), 1, Mode::Auto);
    world.decide();
    let at_work = waive(&mut world, 0, 10);
    assert!(matches!(at_work, Err(IllegalEvent::EtcdMember { .. })), "also when it has ended: {at_work:?}");
}

#[test]
fn a_lost_node_that_is_waived_and_comes_back_is_believed() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![1], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.decide();
    world.deliver_orders();
    world.act(&Act::Off(0));
    world.now += LOST_AFTER_MS;
    world.decide();
    waive(&mut world, 0, 1_000_000).expect("it is lost, nobody knows that it is at work");
    world.decide();
    let second = world.rollout.task(Stage::Compute, &node(1)).map(|task| task.state());
    assert_eq!(second, Some(TaskState::Preparing), "the next one begins");
    world.act(&Act::On(0));
    (0..3).for_each(|_| world.machines[0].work(false));
    world.hear();
    let first = world.rollout.task(Stage::Compute, &node(0)).map(|task| (task.state(), task.waived));
    assert_eq!(first, Some((TaskState::Finished, true)), "finished is finished");
}

/// Node 0 is lost in the first stage, waived, and back; `accepted` says whether it had had its order.
fn back(plan: Arc<Plan>, accepted: bool) -> World {
    let mut world = World::new(plan, 2, Mode::Auto);
    world.decide();
    if accepted {
        exchange(&mut world);
    }
    world.act(&Act::Off(0));
    world.now += LOST_AFTER_MS;
    world.decide();
    waive(&mut world, 0, 1_000_000).expect("it is lost");
    world.act(&Act::On(0));
    world
}

fn exchange(world: &mut World) {
    world.deliver_orders();
    world.hear();
}

#[test]
fn a_waived_node_is_not_sent_an_order_that_it_has_not_had() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut world = back(plan(&stages, 1), false);
    let open = |world: &World| world.rollout.open_orders(Generation(1)).count();
    assert_eq!(open(&world), 0, "somebody else may be at work by now");
    withdraw(&mut world, 0).expect("withdrawn");
    assert_eq!(open(&world), 1);
    world.finish().expect("it ends");
    assert_eq!(world.rollout.counts(Stage::Compute).finished, 2);
    assert_eq!(open(&back(plan(&stages, 1), true)), 1, "it had this one, and is asked what it did");
}

#[test]
fn beside_a_waived_node_that_is_back_at_work_no_etcd_member_and_no_other_group_begins() {
    let etcd = [(vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let compute = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut body = plan(&compute, 1).body.clone();
    body.stages[1].groups = [(node(0), "r1".to_owned()), (node(1), "r2".to_owned())].into();
    let grouped = Arc::new(Plan::seal(body).expect("a plan"));
    for (plan, stage) in [(plan(&etcd, 1), Stage::Etcd), (grouped, Stage::Compute)] {
        let mut world = back(plan, true);
        exchange(&mut world);
        assert!(world.rollout.task(stage, &node(0)).is_some_and(|task| task.waived && task.in_flight()));
        world.decide();
        assert_eq!(world.rollout.task(stage, &node(1)).map(|task| task.state()), Some(TaskState::Scheduled));
        let why = world.observe(|observed| world.rollout.waiting(observed));
        assert!(why[0].why.starts_with(&format!("n1 waits in stage {stage}: ")), "{why:?}");
        world.go_on();
        assert_eq!(world.rollout.status().0, Status::Finished);
        assert_eq!(world.rollout.counts(stage).finished, 2);
    }
}

#[test]
fn what_a_node_reports_after_the_end_is_believed() {
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    for stopped in [false, true] {
        let mut world = back(plan(&stages, 1), true);
        world.machines[0].online = false;
        if stopped {
            world.record(Event::StopRequested { by: Actor("anna".into()) }).expect("it runs");
        }
        world.go_on();
        let expected = if stopped { Status::Stopped } else { Status::Finished };
        assert_eq!(world.rollout.status().0, expected);
        world.act(&Act::On(0));
        world.go_on();
        assert_eq!(world.rollout.status().0, expected);
        let task = world.rollout.task(Stage::Compute, &node(0)).map(|task| task.state());
        assert_eq!(task, Some(TaskState::Finished));
        world.check().expect("all that holds, holds");
    }
}

#[test]
fn a_task_that_takes_too_long_holds_the_others_until_it_ends() {
    let wide = wavegate_common::plan::Limits { max_unavailable: 2, ..ONE_AT_A_TIME };
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 1, 2], wide), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 3, Mode::Auto);
    world.machines[2].online = false;
    let exchange = |world: &mut World| {
        world.decide();
        world.deliver_orders();
        world.hear();
    };
    exchange(&mut world);
    (0..3).for_each(|_| world.machines[0].work(false));
    exchange(&mut world);
    exchange(&mut world);
    // One step of 60 s: half as much again, and ten minutes.
    world.now += 690_000;
    world.machines[2].online = true;
    world.decide();
    assert!(world.rollout.task(Stage::Compute, &node(1)).is_some_and(|task| task.is_overdue()));
    assert_eq!(world.rollout.status().0, Status::Running, "it holds, it does not halt");
    let hold = Hold::Errors { errors: 1, allowed: 0 };
    assert_eq!(world.rollout.may_start(Stage::Compute, &node(2), Timestamp(world.now)), Err(hold));
    let why = world.observe(|observed| world.rollout.waiting(observed));
    insta::assert_snapshot!(format!("{}\n{}", why[0].why, why[0].unblock), @r"
    n1 is applying stage compute for longer than its steps may take together (11 min)
    see what it is at: wavegate logs n1; if it stands still, restart its agent there, which takes the task up again: systemctl restart wavegate-agent
    ");
    (0..3).for_each(|_| world.machines[1].work(false));
    world.go_on();
    assert_eq!(world.rollout.status().0, Status::Finished);
}
