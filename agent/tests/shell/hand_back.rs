//! Every task of the procedure that ships, with the agent taken off the node at every piece of it: the step at hand is brought to
//! its end and no other is begun, and when the agent is installed again and the task retried, it ends as if nothing had been,
//! with nothing done twice.

use crate::task::{Case, Death, End, Node, cases, same};
use wavegate_agent::host::fake::{Fault, When};
use wavegate_common::journal::TaskInJournal;
use wavegate_common::outcome::Outcome;
use wavegate_common::rollout::TaskResult;

/// The first task is left everywhere, the others at one place in so many: each at others.
const ONE_IN: usize = 5;

fn has_its_turn(case: usize, place: usize) -> bool {
    case == 0 || place % ONE_IN == case % ONE_IN
}

fn whole(case: &Case) -> End {
    let mut node = Node::new(case);
    node.live();
    let whole = node.end();
    assert_eq!((whole.result, &whole.failed), (Some(TaskResult::Finished), &Vec::new()));
    whole
}

/// Whether it ended behind a step, and the next one was not begun.
fn ended_between_steps(task: &TaskInJournal, what: &str) -> bool {
    let (mut failed, mut others) = (0, 0);
    for step in &task.steps {
        match &step.outcome {
            Outcome::Failed { error } if error.what.contains("hand-back") => failed += 1,
            Outcome::Failed { error } => panic!("{what}: {error:?}"),
            _ => others += 1,
        }
    }
    assert_eq!(task.started, None, "{what}");
    match task.result {
        Some(TaskResult::Finished) => assert_eq!((failed, others), (0, task.order.steps.len()), "{what}"),
        result => assert_eq!((failed, result), (1, Some(TaskResult::Failed)), "{what}"),
    }
    failed == 1
}

#[test]
fn whenever_the_agent_is_taken_away_the_task_can_be_retried_as_if_nothing_had_been() {
    for (number, case) in cases().into_iter().enumerate() {
        let whole = whole(&case);
        let mut left_early = 0;
        // Three pieces a step, and its end.
        let places = (0..=case.order.steps.len() * 3).filter(|place| has_its_turn(number, *place));
        for pieces in places {
            let mut node = Node::new(&case);
            let what = format!("left after {pieces} pieces");
            if ended_between_steps(&node.leave_after(pieces), &what) {
                left_early += 1;
                node.retry();
            }
            same(&node.end().named_after_the_first_attempt(), &whole, &what);
        }
        assert!(left_early > case.order.steps.len() / ONE_IN, "{left_early}");
    }
}

#[test]
fn what_a_killed_agent_was_at_is_ended_by_the_one_that_is_taken_away() {
    for (number, case) in cases().into_iter().enumerate() {
        let whole = whole(&case);
        for (place, effect) in whole.effects.keys().enumerate() {
            if !has_its_turn(number, place) {
                continue;
            }
            let mut node = Node::new(&case);
            node.host.machine().faults.add(effect, When::Midway, Fault::AgentKilled);
            node.live();
            node.die(Death::Killed);
            let what = format!("killed in the middle of '{effect}', then left");
            if ended_between_steps(&node.leave_after(0), &what) {
                node.retry();
            }
            same(&node.end().named_after_the_first_attempt(), &whole, &what);
        }
    }
}
