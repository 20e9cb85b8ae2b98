//! Tests of the look at the node before a task first touches it.

use super::*;
use crate::facts;
use crate::host::Exit;
use crate::host::fake::{FakePackage, Fault, When};

/// A node with Felix on it, and what a plan saw of it.
fn planned() -> (Node, PlannedNode) {
    let node = Node::new();
    install(&node, "calico-felix", "1.4.0");
    let name = NodeId::new("n1").expect("a name");
    let facts = facts::observe(&node.host, name, &node.extra_roles, &node.etcd).expect("facts");
    let planned = PlannedNode {
        roles: facts.roles,
        platform: facts.platform,
        release: facts.release,
        versions: facts.versions,
        etcd: None,
        observed_at: facts.observed_at,
    };
    (node, planned)
}

fn install(node: &Node, name: &str, version: &str) {
    let package = FakePackage { version: version.to_owned(), ..FakePackage::default() };
    node.host.machine().install(name, &package).expect("it installs");
}

fn remove(node: &Node, name: &str) {
    node.host.machine().installed.remove(name);
}

/// Gives the order once more, for what the plan saw; the last outcome.
fn attempt(node: &Node, attempt: u32, planned: &PlannedNode) -> String {
    node.order_as_planned(attempt, &[skip(), set_lock_path()], Some(planned.clone()));
    node.advance();
    node.outcomes().pop().expect("an outcome")
}

fn lock_path_is_set(node: &Node) -> bool {
    let file = node.host.machine().files[std::path::Path::new(FILE)].content.clone();
    String::from_utf8_lossy(&file).contains("lock_path")
}

#[test]
fn a_node_that_is_as_planned_is_worked_on() {
    let (node, planned) = planned();
    assert!(attempt(&node, 1, &planned).starts_with("changed: "));
    assert_eq!(node.last().1, Some(TaskResult::Finished));
}

#[test]
fn a_node_that_has_changed_since_the_plan_is_not_touched_until_it_is_put_back() {
    let (node, planned) = planned();
    install(&node, "calico-felix", "1.4.1");
    install(&node, "calico-control", "1.4.1");
    insta::assert_snapshot!(attempt(&node, 1, &planned), @"failed: this node is not as the plan saw it: roles compute -> compute, control, felix 1.4.0 -> 1.4.1");
    let (steps, result) = node.last();
    let Outcome::Failed { error } = &steps[1].outcome else { panic!("{steps:?}") };
    insta::assert_snapshot!(error.next, @"make a new plan: wavegate stop, wavegate plan, wavegate start (nodes that are done are looked at again and left as they are); or put the node back as it was: wavegate retry n1");
    assert_eq!((steps.len(), result), (2, Some(TaskResult::Failed)));
    let text = std::fs::read_to_string(crate::journal::path_in(node.state.path())).expect("a journal");
    assert!(!text.contains("step_started") && !lock_path_is_set(&node), "{text}");

    // Whoever is refused has not begun: the next attempt looks at the versions again.
    remove(&node, "calico-control");
    insta::assert_snapshot!(attempt(&node, 2, &planned), @"failed: this node is not as the plan saw it: felix 1.4.0 -> 1.4.1");
    install(&node, "calico-felix", "1.4.0");
    assert!(attempt(&node, 3, &planned).starts_with("changed: "));
}

#[test]
fn roles_of_the_configuration_are_the_nodes_too() {
    let (mut node, mut planned) = planned();
    planned.roles.insert(Role::Control);
    insta::assert_snapshot!(attempt(&node, 1, &planned), @"failed: this node is not as the plan saw it: roles compute, control -> compute");
    node.extra_roles.insert(Role::Control);
    assert!(attempt(&node, 2, &planned).starts_with("changed: "));
}

#[test]
fn a_node_that_this_rollout_has_worked_on_has_other_versions_and_maybe_services_that_are_down() {
    let (node, planned) = planned();
    let key = node.order_as_planned(1, &[set_lock_path()], Some(planned.clone()));
    let (step, at) = (id("set"), Timestamp(2));
    node.append(Record::StepStarted { key: key.clone(), step: step.clone(), at });
    let error = StepError { what: "it broke".to_owned(), output: Vec::new(), next: "look".to_owned() };
    node.append(Record::StepEnded { key: key.clone(), step, at, outcome: Outcome::Failed { error } });
    node.append(Record::TaskEnded { key, result: TaskResult::Failed, at });
    remove(&node, "calico-felix");
    install(&node, "calico-control", "1.4.1");
    insta::assert_snapshot!(attempt(&node, 2, &planned), @"failed: this node is not as the plan saw it: roles compute -> compute, control");
    remove(&node, "calico-control");
    assert!(attempt(&node, 3, &planned).starts_with("changed: "));
}

#[test]
fn a_step_that_was_interrupted_is_gone_on_with_whatever_the_node_looks_like() {
    let (node, planned) = planned();
    let key = node.order_as_planned(1, &[set_lock_path()], Some(planned));
    node.append(Record::StepStarted { key, step: id("set"), at: Timestamp(2) });
    install(&node, "calico-control", "1.4.1");
    node.advance();
    assert_eq!(node.last().1, Some(TaskResult::Finished));
}

#[test]
fn a_plan_from_before_versions_were_noted_is_carried_out() {
    let (node, mut planned) = planned();
    planned.versions.clear();
    assert!(attempt(&node, 1, &planned).starts_with("changed: "));
}

#[test]
fn a_node_that_cannot_be_looked_at_is_not_touched() {
    let (node, planned) = planned();
    let exit =
        Exit { code: 2, stderr: "dpkg-query: error: database is damaged".to_owned(), ..Exit::default() };
    node.host.machine().faults.add("dpkg-query -W", When::Instead, Fault::Exit(exit));
    insta::assert_snapshot!(attempt(&node, 1, &planned), @"failed: whether this node is as the plan saw it cannot be found out: dpkg-query cannot read its database: dpkg-query: error: database is damaged: dpkg-query: error: database is damaged; look whether the package database of the node is in order, then retry");
    assert!(!lock_path_is_set(&node));
}
