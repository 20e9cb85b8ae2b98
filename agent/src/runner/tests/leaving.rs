//! What the runner makes of a task while its agent is being taken off the node.

use super::*;
use crate::hand_back::lock;
use std::time::Instant;

fn take(node: &Node) -> lock::Held {
    lock::take(node.state.path(), Instant::now()).expect("no error").expect("nobody has it")
}

#[test]
fn no_further_step_is_begun_and_the_task_ends_as_failed() {
    let node = Node::new();
    node.order(1, &[set_lock_path(), skip(), check(&["nothing"])]);
    let mut held = None;
    let hand_back = |progress: Progress<'_>| {
        // The first record is that the first step was started.
        if matches!(progress, Progress::Recorded(_)) && held.is_none() {
            held = Some(take(&node));
        }
    };
    advance(&node.journal, node.machine(), &mut { hand_back }).expect("advanced");
    let (steps, result) = node.last();
    let words: Vec<_> = steps.iter().map(|step| step.outcome.word()).collect();
    assert_eq!(
        (words.as_slice(), result),
        (&["changed", "skipped", "failed"][..], Some(TaskResult::Failed)),
        "the step at hand is brought to its end"
    );
    let error = steps[2].outcome.error().expect("an error").clone();
    insta::assert_snapshot!(format!("{}\nnext: {}", error.what, error.next), @r"
    the agent is being taken off this node (hand-back), so it does not begin 'look'; the steps before it are done, nothing of this one is
    next: install wavegate-agent on the node again, then: wavegate retry n1
    ");
    let text = std::fs::read_to_string(crate::journal::path_in(node.state.path())).expect("a journal");
    assert_eq!(text.matches("step_started").count(), 1, "{text}");
    // A task that comes meanwhile is not begun either.
    node.order(2, &[set_lock_path()]);
    node.advance();
    assert_eq!((node.outcomes().len(), node.last().1), (1, Some(TaskResult::Failed)));

    drop(held);
    node.order(3, &[set_lock_path(), skip(), check(&["nothing"])]);
    node.advance();
    assert_eq!(node.last().1, Some(TaskResult::Finished));
}

#[test]
fn a_step_that_an_agent_before_was_at_is_brought_to_its_end() {
    let node = Node::new();
    let key = node.order(1, &[set_lock_path(), check(&["nothing"])]);
    node.append(Record::StepStarted { key, step: id("set"), at: Timestamp(2) });
    let _held = take(&node);
    node.advance();
    let outcomes = node.outcomes();
    assert!(outcomes[0].starts_with("changed") && outcomes[1].starts_with("failed"), "{outcomes:?}");
}

#[test]
fn a_task_of_which_nothing_is_left_to_do_finishes() {
    let node = Node::new();
    node.order(1, &[skip()]);
    let _held = take(&node);
    node.advance();
    assert_eq!(node.last().1, Some(TaskResult::Finished));
}

#[test]
fn a_lock_that_can_not_be_asked_for_holds_the_next_step_back() {
    let node = Node::new();
    std::os::unix::fs::symlink("hand-back.lock", node.state.path().join("hand-back.lock")).expect("a loop");
    node.order(1, &[set_lock_path()]);
    node.advance();
    insta::assert_snapshot!(node.outcomes()[0], @"failed: whether the agent is being taken off this node can't be told: Too many levels of symbolic links (os error 40)");
    assert!(node.host.machine().history.is_empty());
}
