//! Soak times, groups and the operators' word for a wave.

use super::scenarios::{ONE_AT_A_TIME, task};
use super::world::{World, node, plan, plan_of};
use wavegate_common::id::{Actor, Timestamp};
use wavegate_common::plan::Limits;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Hold, IllegalEvent, Mode, Subject, TaskState};

fn started(world: &World) -> Vec<String> {
    let name = |event: &Event| match event {
        Event::TaskStarted { task } => Some(format!("{} {}", task.stage, task.node)),
        _ => None,
    };
    world.log.iter().filter_map(|entry| name(&entry.event)).collect()
}

#[test]
fn a_wave_rests_after_the_one_before_it_also_over_the_barrier() {
    let soaking = Limits { soak_s: 60, ..ONE_AT_A_TIME };
    let stages = [(vec![0], soaking), (vec![0, 1], soaking), (vec![1], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.go_on();
    assert_eq!(started(&world), ["etcd n0"]);
    let early = world.record(Event::TaskStarted { task: task(Stage::Compute, 0, 1) });
    let hold = Hold::Soaking { wave: 0, left_s: 60 };
    assert!(matches!(early, Err(IllegalEvent::Held { hold: held, .. }) if held == hold));
    let subject = Subject::Wave { stage: Stage::Compute, wave: 0 };
    let why = world.observe(|observed| world.rollout.waiting_for(&subject, observed));
    insta::assert_snapshot!(why[0].why, @"wave 1 of stage compute rests for 60 s more, so that what was done before it proves itself");
    world.now += 59_999;
    world.go_on();
    assert_eq!(started(&world).len(), 1, "a millisecond is left");
    world.now += 1;
    world.go_on();
    assert_eq!(started(&world), ["etcd n0", "compute n0"]);
    let by = Actor("op".into());
    world
        .record(Event::WaveReleased { stage: Stage::Compute, wave: 1, by })
        .expect("an operator's word ends a rest");
    world.go_on();
    assert_eq!(started(&world).last().map(String::as_str), Some("compute n1"));
    world.now += 60_000;
    world.go_on();
    assert!(world.rollout.ended(), "there is no rest after the last stage");
}

#[test]
fn a_manual_stage_waits_for_an_operator_in_a_rollout_that_goes_by_itself() {
    let manual = Limits { start: Mode::Manual, ..ONE_AT_A_TIME };
    let stages = [(vec![0], ONE_AT_A_TIME), (vec![0, 1], manual), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan(&stages, 1), 2, Mode::Auto);
    world.now += 5_000;
    world.go_on();
    assert_eq!(started(&world), ["etcd n0"]);
    let ended = world.now;
    world.now += 7_000;
    let subject = Subject::Wave { stage: Stage::Compute, wave: 0 };
    let why = world.observe(|observed| world.rollout.waiting_for(&subject, observed));
    assert_eq!(why[0].since, Timestamp(ended), "it waits since the stage before it ended");
    for wave in 0..2 {
        let by = Actor("op".into());
        world.record(Event::WaveReleased { stage: Stage::Compute, wave, by }).expect("it waits");
        world.go_on();
    }
    assert_eq!(started(&world), ["etcd n0", "compute n0", "compute n1"]);
    assert!(world.rollout.ended());
}

#[test]
fn two_groups_are_never_at_work_at_once_also_when_a_node_is_tried_again() {
    let wide = Limits { canary: 1, max_unavailable: 3, errors_allowed: 2, ..ONE_AT_A_TIME };
    // In the order of the waves: n0 (g0); n2 (g0); n1, n3 (g1).
    let stages = [(vec![], ONE_AT_A_TIME), (vec![0, 2, 1, 3], wide), (vec![], ONE_AT_A_TIME)];
    let mut world = World::new(plan_of(&stages, 1, 2), 4, Mode::Auto);
    world.machines[2].broken = true;
    world.machines[1].online = false;
    world.machines[3].online = false;
    world.go_on();
    assert_eq!(started(&world), ["compute n0", "compute n2"]);
    world.machines[1].online = true;
    world.decide();
    assert_eq!(started(&world).last().map(String::as_str), Some("compute n1"));
    world.retry_failed();
    let hold = Hold::OtherGroup { node: node(1), group: "g1".into() };
    let now = wavegate_common::id::Timestamp(world.now);
    assert_eq!(world.rollout.may_start(Stage::Compute, &node(2), now), Err(hold));
    world.machines[2].broken = false;
    world.machines[3].online = true;
    world.finish().expect("it ends");
    let finished =
        world.rollout.tasks(Stage::Compute).filter(|(_, task)| task.state() == TaskState::Finished);
    assert_eq!(finished.count(), 4);
}
