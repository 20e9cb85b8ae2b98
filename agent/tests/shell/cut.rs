//! Every task of the procedure that ships, on every platform, with the agent killed at everything that it does to the machine,
//! before, in the middle and after, and with the power of the whole machine cut there: it always ends the same, and no kill of
//! the agent makes anything take effect twice (invariant I4). What happens between two effects is `journal_cuts`'s.

use crate::support::member_steps;
use crate::task::{Case, Death, Node, same, same_after_power_cut, with_pip};
use wavegate_agent::host::fake::{FakeMachine, Fault, When};
use wavegate_agent::journal::medium::fake::Unsynced;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

fn every_cut_ends_the_same(case: &Case) {
    every_cut_and_these(case, &[]);
}

/// At these points too, of which nothing says in the end how often they were passed.
fn every_cut_and_these(case: &Case, more: &[&str]) {
    let mut node = Node::new(case);
    node.live();
    let whole = node.end();
    assert_eq!((whole.result, &whole.failed), (Some(TaskResult::Finished), &Vec::new()));
    assert!(
        !whole.effects.is_empty() && whole.effects.values().all(|times| *times == 1),
        "{:#?}",
        whole.effects
    );
    let points: Vec<&str> = whole.effects.keys().map(String::as_str).chain(more.iter().copied()).collect();
    for effect in points {
        for when in [When::Before, When::Midway, When::After] {
            let run = |fault, death| {
                let mut node = Node::new(case);
                node.host.machine().faults.add(effect, when, fault);
                node.live();
                node.die(death);
                node.live();
                node.end()
            };
            let end = run(Fault::AgentKilled, Death::Killed);
            same(&end, &whole, &format!("killed {when:?} '{effect}'"));
            let end = run(Fault::PowerCut, Death::PowerCut(Unsynced::Lost));
            same_after_power_cut(end, &whole, &format!("power cut {when:?} '{effect}'"));
        }
    }
}

#[test]
fn etcd_from_packages() {
    for machine in [FakeMachine::debian_etcd(), FakeMachine::trusty_etcd()] {
        every_cut_ends_the_same(&Case::new(machine, Stage::Etcd, &[]));
    }
    let redhat = FakeMachine::redhat_packaged_etcd();
    every_cut_ends_the_same(&Case::new(redhat, Stage::Etcd, &["etcd_from_archive=false"]));
}

#[test]
fn etcd_from_the_release_archive() {
    every_cut_ends_the_same(&Case::new(FakeMachine::redhat_etcd(), Stage::Etcd, &[]));
}

/// What is done to a member around the change of its packages: the agent or the machine may be gone before and after each. It is
/// stopped once, never beside another one that is down, and comes back with its data in the new version.
#[test]
fn a_member_of_etcd_that_hands_over() {
    let case = Case::of(FakeMachine::debian_etcd_of("3.3.25", "3.4.23"), &member_steps());
    let around = [
        "etcd snapshot",
        "note etcd.back_up",
        "mkdir",
        "sync",
        "--download-only",
        "etcd move-leader",
        "note etcd.member",
        "policy-rc.d",
        "note package.install",
    ];
    every_cut_and_these(&case, &around);
}

#[test]
fn a_compute_node_on_debian() {
    every_cut_ends_the_same(&Case::new(with_pip(FakeMachine::debian_compute()), Stage::Compute, &[]));
}

#[test]
fn a_compute_node_on_red_hat() {
    every_cut_ends_the_same(&Case::new(with_pip(FakeMachine::redhat_compute()), Stage::Compute, &[]));
}

#[test]
fn a_compute_node_with_upstart() {
    every_cut_ends_the_same(&Case::new(with_pip(FakeMachine::trusty_compute()), Stage::Compute, &[]));
}

#[test]
fn a_compute_node_before_liberty() {
    for machine in
        [FakeMachine::debian_compute(), FakeMachine::redhat_compute(), FakeMachine::trusty_compute()]
    {
        every_cut_ends_the_same(&Case::new(machine, Stage::Compute, &["openstack_release=kilo"]));
    }
}

#[test]
fn a_compute_node_whose_whole_distribution_is_upgraded() {
    for machine in [FakeMachine::debian_compute(), FakeMachine::redhat_compute()] {
        every_cut_ends_the_same(&Case::new(machine, Stage::Compute, &["package_scope=distribution"]));
    }
}

#[test]
fn a_control_node() {
    for machine in
        [FakeMachine::debian_control(), FakeMachine::redhat_control(), FakeMachine::trusty_control()]
    {
        every_cut_ends_the_same(&Case::new(machine, Stage::Control, &[]));
    }
}

#[test]
fn a_second_run_of_an_ended_task_does_nothing() {
    let case = Case::new(FakeMachine::debian_compute(), Stage::Compute, &[]);
    let mut node = Node::new(&case);
    node.live();
    let (end, history) = (node.end(), node.host.machine().history.clone());
    node.live();
    assert_eq!(node.end(), end);
    assert_eq!(node.host.machine().history, history);
}
