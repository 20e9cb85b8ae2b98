//! Stage etcd: a member alone, what is no member in waves after them, with a canary of its own.

use super::scenarios::ONE_AT_A_TIME;
use super::world::{LOST_AFTER_MS, World, node, plan, with_members};
use std::sync::Arc;
use wavegate_common::id::{Actor, Timestamp};
use wavegate_common::plan::{Limits, Plan};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Hold, Mode, Status, TaskState};

/// Three nodes may be away at a time, and two may fail.
const WIDE: Limits = Limits { max_unavailable: 3, errors_allowed: 2, ..ONE_AT_A_TIME };

/// Members n0 and n1, proxies n2 to n6, in the waves that the compiler makes of them.
fn etcd() -> Arc<Plan> {
    let stages = [((0..7).collect(), WIDE), (vec![], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut body = with_members(&plan(&stages, 1), &[0, 1]).body.clone();
    let waves: [&[usize]; 5] = [&[0], &[1], &[2], &[3, 4, 5], &[6]];
    body.stages[0].waves = waves.iter().map(|wave| wave.iter().map(|n| node(*n)).collect()).collect();
    Arc::new(Plan::seal(body).expect("a plan"))
}

fn in_flight(world: &World) -> Vec<String> {
    let tasks = world.rollout.tasks(Stage::Etcd).filter(|(_, task)| task.in_flight());
    tasks.map(|(node, _)| node.to_string()).collect()
}

/// What is in flight ends.
fn end(world: &mut World) {
    world.deliver_orders();
    world.machines.iter_mut().for_each(|machine| (0..3).for_each(|_| machine.work(false)));
    world.hear();
    world.decide();
}

fn hold(world: &World, index: usize) -> Hold {
    let now = Timestamp(world.now);
    world.rollout.may_start(Stage::Etcd, &node(index), now).expect_err("it is held")
}

#[test]
fn members_are_alone_and_what_asks_them_follows_in_waves_with_a_canary() {
    let mut world = World::new(etcd(), 7, Mode::Auto);
    world.decide();
    let mut seen = vec![in_flight(&world)];
    while !in_flight(&world).is_empty() {
        end(&mut world);
        seen.push(in_flight(&world));
    }
    assert_eq!(seen, [vec!["n0"], vec!["n1"], vec!["n2"], vec!["n3", "n4", "n5"], vec!["n6"], vec![]]);
    assert_eq!(world.rollout.status().0, Status::Finished);
}

#[test]
fn beside_a_member_that_is_not_back_nothing_begins_though_failures_are_allowed() {
    let mut world = World::new(etcd(), 7, Mode::Auto);
    world.machines[1].broken = true;
    world.go_on();
    assert_eq!(world.rollout.status().0, Status::Running, "two may fail");
    assert_eq!(in_flight(&world), Vec::<String>::new());
    assert_eq!(hold(&world, 2), Hold::EtcdMember { member: node(1) });
    assert!(world.rollout.is_held_by_failures(Stage::Etcd, Timestamp(world.now)));
    let why = world.observe(|observed| world.rollout.waiting_for_node(&node(2), observed)).expect("it waits");
    insta::assert_snapshot!(format!("{}\n{}", why.why, why.unblock), @r"
    n2 waits in stage etcd: etcd member n1 is in flight, failed or unknown, and nothing of stage etcd is begun beside it
    n1 finishes (wavegate why n1)
    ");
    world.machines[1].broken = false;
    world.retry_failed();
    world.decide();
    assert_eq!(in_flight(&world), ["n1"], "alone again");
    world.deliver_orders();
    world.now += 1;
    world.machines[1].online = false;
    world.offline_since.insert(node(1), Timestamp(world.now));
    world.now += LOST_AFTER_MS;
    world.decide();
    assert_eq!(world.rollout.counts(Stage::Etcd).unknown, 1);
    assert_eq!(hold(&world, 2), Hold::EarlierWave { wave: 1 });
    assert!(!world.rollout.is_held_by_failures(Stage::Etcd, Timestamp(world.now)), "it may come back");
    world.finish().expect("it ends");
    assert_eq!(world.rollout.counts(Stage::Etcd).finished, 7);
}

#[test]
fn a_member_waits_for_what_else_of_the_stage_is_away_whatever_the_plan_is() {
    let stages = [(vec![0, 1], WIDE), (vec![], ONE_AT_A_TIME), (vec![], ONE_AT_A_TIME)];
    let mut body = with_members(&plan(&stages, 1), &[1]).body.clone();
    body.stages[0].waves = vec![vec![node(0), node(1)]];
    let mut world = World::new(Arc::new(Plan::seal(body).expect("a plan")), 2, Mode::Auto);
    world.decide();
    assert_eq!(in_flight(&world), ["n0"]);
    assert_eq!(hold(&world, 1), Hold::NotAlone { node: node(0) });
    let why = world.observe(|observed| world.rollout.waiting_for_node(&node(1), observed)).expect("it waits");
    insta::assert_snapshot!(format!("{}\n{}", why.why, why.unblock), @r"
    n1 waits in stage etcd: it is an etcd member, and none is taken down while n0 is in flight, failed or unknown
    n0 finishes, or is waived (wavegate why n0)
    ");
    world.go_on();
    assert_eq!(world.rollout.status().0, Status::Finished);
}

#[test]
fn where_the_canary_of_the_proxies_failed_the_others_wait_though_failures_are_allowed() {
    let mut world = World::new(etcd(), 7, Mode::Auto);
    world.machines[2].broken = true;
    world.go_on();
    assert_eq!(world.rollout.status().0, Status::Running);
    assert_eq!((in_flight(&world), hold(&world, 3)), (vec![], Hold::Canary));
    assert!(world.rollout.is_held_by_failures(Stage::Etcd, Timestamp(world.now)));
    let until = Timestamp(world.now + 1_000_000);
    let waived = Event::NodeWaived { node: node(2), reason: "dead".into(), until, by: Actor("anna".into()) };
    world.record(waived).expect("a proxy that is not at work is waived");
    world.decide();
    assert_eq!(in_flight(&world), ["n3"], "no proxy was tried yet: as few at a time as the canary");
    end(&mut world);
    assert_eq!(in_flight(&world), ["n4", "n5"]);
    world.go_on();
    assert_eq!(world.rollout.task(Stage::Etcd, &node(2)).map(|task| task.state()), Some(TaskState::Waived));
    assert_eq!(world.rollout.status().0, Status::Finished);
}

#[test]
fn beside_a_waived_proxy_that_is_back_at_work_others_begin() {
    let mut world = World::new(etcd(), 7, Mode::Auto);
    world.decide();
    (0..3).for_each(|_| end(&mut world));
    assert_eq!(in_flight(&world), ["n3", "n4", "n5"]);
    world.deliver_orders();
    world.hear();
    world.machines[3].online = false;
    world.offline_since.insert(node(3), Timestamp(world.now));
    world.now += LOST_AFTER_MS;
    world.decide();
    let until = Timestamp(world.now + 1_000_000);
    let waived = Event::NodeWaived { node: node(3), reason: "dead".into(), until, by: Actor("anna".into()) };
    world.record(waived).expect("it is lost");
    world.machines[3].online = true;
    world.hear();
    assert_eq!(in_flight(&world), ["n3", "n4", "n5"], "it is back and at work");
    for index in [4, 5] {
        (0..3).for_each(|_| world.machines[index].work(false));
    }
    world.hear();
    world.decide();
    assert_eq!(in_flight(&world), ["n3", "n6"]);
    world.go_on();
    assert_eq!(world.rollout.counts(Stage::Etcd).finished, 7);
}
