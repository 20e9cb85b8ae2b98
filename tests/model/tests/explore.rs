//! Every small shape, whole, with every invariant. The larger ones are `make model`'s.

use wavegate_model::run::explore;
use wavegate_model::shapes::QUICK;

const THREADS: usize = 2;

#[test]
fn every_invariant_holds_in_every_world_of_small_fleets() {
    for shape in QUICK {
        let explored = explore(*shape, false, THREADS, None).expect("a shape with a plan");
        println!("{explored}");
        assert!(explored.complete, "{explored}");
        assert!(explored.finishes, "no rollout ever finishes: {explored}");
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
