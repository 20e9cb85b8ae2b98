//! Every small shape, whole, with every invariant. The larger ones are `make model`'s.

use std::collections::BTreeSet;
use wavegate_common::rollout::{Status, TaskState};
use wavegate_model::run::explore;
use wavegate_model::shapes::QUICK;

const THREADS: usize = 2;

#[test]
fn every_invariant_holds_in_every_world_of_small_fleets() {
    let mut reached = BTreeSet::new();
    for shape in QUICK {
        let explored = explore(*shape, false, THREADS, None).expect("a shape with a plan");
        println!("{explored}");
        assert!(explored.complete, "{explored}");
        assert!(explored.reached.contains("rollout finished"), "no rollout finishes: {explored}");
        reached.extend(explored.reached);
    }
    let rollouts = Status::ALL.iter().map(|status| format!("rollout {status}"));
    let tasks = TaskState::ALL.iter().map(|state| format!("task {state}"));
    for state in rollouts.chain(tasks).chain(["task applying, overdue".to_owned()]) {
        assert!(reached.contains(&state), "no world has a {state}: {reached:#?}");
    }
}

/// What is left out of a rollout's identity is left out on purpose: its place in the log, and moments.
#[test]
fn no_two_rollouts_that_differ_are_taken_for_the_same() {
    for name in ["etcd-careless", "barrier", "manual", "rest"] {
        let shape = QUICK.iter().find(|shape| shape.name == name).expect("a shape of that name");
        let explored = explore(*shape, true, THREADS, None).expect("a shape with a plan");
        assert!(explored.complete, "{explored}");
    }
}
