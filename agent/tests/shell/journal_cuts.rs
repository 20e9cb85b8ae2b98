//! Every task of the procedure that ships, on every platform, with the agent killed and the power cut at everything that the
//! agent does to its journal, whatever the disk keeps of what was not synced: another agent goes on from there, it ends the
//! same, nothing takes effect twice (invariant I4), and nothing that was reported is unknown then.
//!
//! `WAVEGATE_EXHAUSTIVE=1` takes every cut of every task. Otherwise one task has them all, the others those that differ in
//! what is in the journal, and a few of the rest.

use crate::task::{Case, Death, End, Node, cases, same, same_after_power_cut};
use std::sync::atomic::{AtomicUsize, Ordering};
use wavegate_agent::journal::medium::fake::{Operation, Unsynced, When};
use wavegate_common::rollout::TaskResult;

/// Of the cuts that differ from others in the state of the file alone, one in so many is taken. Nothing divides both this
/// and their number at a record, so that every kind has its turn.
const ONE_IN: usize = 29;

/// Where an agent's life is cut, and how.
#[derive(Debug, Clone, Copy)]
struct Cut {
    operation: usize,
    when: When,
    death: Death,
}

impl Cut {
    /// Whether what is in the journal after it is not what is there after another.
    fn is_plain(self, operations: &[Operation]) -> bool {
        let at = (operations[self.operation], self.when);
        let without_or_with_the_record =
            matches!(at, (Operation::Append, When::Before) | (Operation::Sync, When::After));
        without_or_with_the_record && matches!(self.death, Death::Killed | Death::PowerCut(Unsynced::Lost))
    }
}

/// Every cut of a life that did these operations.
fn all_cuts(operations: &[Operation]) -> Vec<Cut> {
    let power_cuts = Unsynced::ALL.map(Death::PowerCut);
    let deaths = || std::iter::once(Death::Killed).chain(power_cuts);
    let mut cuts = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        for when in [When::Before, When::Torn, When::After] {
            if when != When::Torn || operation.is_divisible() {
                cuts.extend(deaths().map(|death| Cut { operation: number, when, death }));
            }
        }
    }
    cuts
}

fn whole(case: &Case) -> (Vec<Operation>, End) {
    let mut node = Node::new(case);
    node.live();
    let (operations, whole) = (node.medium.operations(), node.end());
    assert_eq!((whole.result, &whole.failed), (Some(TaskResult::Finished), &Vec::new()));
    // Two records a step and three around them, unless the plan skips it.
    assert!(operations.len() > 2 * case.order.steps.len(), "{operations:?}");
    (operations, whole)
}

/// Cuts the life of the agent that has this task everywhere, or in enough places; the number of operations and of cuts.
fn cut_everywhere(case: &Case, every_cut: bool) -> (usize, usize) {
    let (operations, whole) = whole(case);
    let mut taken = 0;
    for (number, cut) in all_cuts(&operations).into_iter().enumerate() {
        if !(every_cut || cut.is_plain(&operations) || number % ONE_IN == 0) {
            continue;
        }
        let mut node = Node::new(case);
        node.medium.stop_at(cut.operation, cut.when);
        node.live();
        assert_eq!(node.medium.operations().len(), cut.operation + 1, "{cut:?}: nothing comes after it");
        node.die(cut.death);
        node.live();
        let what = format!("{cut:?} at {:?}", operations[cut.operation]);
        match cut.death {
            Death::Killed => same(&node.end(), &whole, &what),
            Death::PowerCut(_) => same_after_power_cut(node.end(), &whole, &what),
        }
        taken += 1;
    }
    (operations.len(), taken)
}

#[test]
fn a_journal_that_is_cut_anywhere_leads_to_the_same_end() {
    let exhaustive = std::env::var_os("WAVEGATE_EXHAUSTIVE").is_some_and(|value| value == "1");
    let cases = cases();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut writes, mut cuts) = (0, 0);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return (writes, cuts) };
            let (more_writes, more_cuts) = cut_everywhere(case, exhaustive || index == 0);
            (writes, cuts) = (writes + more_writes, cuts + more_cuts);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (writes, cuts) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("all ended alike"));
        ended.fold((0, 0), |sum: (usize, usize), one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("journal cuts: {} tasks, {writes} writes, {cuts} cuts, all ended alike", cases.len());
}
