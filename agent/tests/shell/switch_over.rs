//! The switch from Neutron's DHCP agent to Calico's, at every moment of it; and a node that has Calico's already.

use crate::support::{journal, order_as_planned, os, policy, shipped_steps};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{FakeHost, FakeMachine, Faults};
use wavegate_agent::journal::Store;
use wavegate_agent::runner::{Machine, advance};
use wavegate_common::id::Timestamp;
use wavegate_common::journal::Record;
use wavegate_common::outcome::Outcome;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

const AGENTS: [&str; 2] = ["neutron-dhcp-agent", "calico-dhcp-agent"];

/// Runs the compute task on a machine as far as it goes: to its end, or until a fault kills the agent.
fn run(machine: &FakeMachine, state: &std::path::Path) -> (FakeMachine, Option<TaskResult>) {
    // The plan is made before anything goes wrong.
    let mut calm = machine.clone();
    calm.faults = Faults::default();
    let order = order_as_planned(1, 1, &shipped_steps(&calm, Stage::Compute, &[]), &calm);
    let journal = journal(state);
    journal.append(&Record::Accepted { order, at: Timestamp(1) }).expect("accepted");
    let host = FakeHost::new(machine.clone());
    let os = os(machine);
    let policy = policy(state);
    let etcd = EtcdSettings::default();
    let kit = Machine { host: &host, os: &os, policy: &policy, extra_roles: &[].into(), etcd: &etcd };
    let _ = catch_unwind(AssertUnwindSafe(|| advance(&journal, kit, &mut |_| {}).expect("advanced")));
    let (result, failed) = journal.read(|journal| {
        let task = journal.current();
        let failed = task.and_then(|task| task.steps.iter().find(|step| step.outcome.error().is_some()));
        (task.and_then(|task| task.result), failed.map(|step| format!("{}: {}", step.step, step.outcome)))
    });
    println!("{result:?} {}", failed.unwrap_or_default());
    (host.machine().clone(), result)
}

fn platforms() -> [FakeMachine; 3] {
    [FakeMachine::debian_compute(), FakeMachine::redhat_compute(), FakeMachine::trusty_compute()]
}

fn active(machine: &FakeMachine) -> Vec<&'static str> {
    let runs = |unit: &&str| machine.services.get(*unit).is_some_and(|service| service.active);
    AGENTS.into_iter().filter(runs).collect()
}

fn dnsmasqs(machine: &FakeMachine) -> Vec<u32> {
    let ours = |words: &Vec<String>| words.iter().any(|word| word.starts_with("--pid-file=/var/lib/neutron"));
    machine.processes.values().filter(|process| ours(&process.cmdline)).map(|process| process.pid).collect()
}

#[test]
fn a_switch_over_never_leaves_a_node_with_two_agents_or_for_long_with_none() {
    for machine in platforms() {
        let state = tempfile::tempdir().expect("a directory");
        let (whole, result) = run(&machine, state.path());
        assert_eq!((result, active(&whole)), (Some(TaskResult::Finished), vec!["calico-dhcp-agent"]));
        let mut without = 0;
        for moment in &whole.history[machine.history.len()..] {
            let state = tempfile::tempdir().expect("a directory");
            let mut cut = machine.clone();
            cut.faults.kill_before(moment);
            let (seen, _) = run(&cut, state.path());
            match active(&seen).as_slice() {
                [_] => {}
                [] => {
                    without += 1;
                    let there = seen.installed.contains_key("calico-dhcp-agent");
                    assert!(there, "no agent runs before '{moment}', and the next is not even installed");
                }
                both => panic!("{both:?} run before '{moment}'"),
            }
        }
        assert!(without > 0, "the old agent stops before the new one starts");
    }
}

#[test]
fn a_new_agent_that_can_not_be_installed_leaves_the_old_one_running() {
    for mut machine in platforms() {
        machine.available.get_mut("calico-dhcp-agent").expect("it is offered").breaks = true;
        let state = tempfile::tempdir().expect("a directory");
        let (after, result) = run(&machine, state.path());
        assert_eq!((result, active(&after)), (Some(TaskResult::Failed), vec!["neutron-dhcp-agent"]));
        assert_eq!(dnsmasqs(&after).len(), 2);
    }
}

#[test]
fn a_felix_that_does_not_stay_up_fails_the_task_and_not_the_change_over() {
    for mut machine in platforms() {
        machine.services.get_mut("calico-felix").expect("felix").flaps = true;
        let state = tempfile::tempdir().expect("a directory");
        let (after, result) = run(&machine, state.path());
        assert_eq!((result, active(&after)), (Some(TaskResult::Failed), vec!["calico-dhcp-agent"]));
        assert!(!after.services["neutron-dhcp-agent"].enabled || after.services["neutron-dhcp-agent"].masked);
        assert_eq!(dnsmasqs(&after).len(), 2);
    }
}

#[test]
fn a_node_that_has_the_calico_agent_gets_it_restarted() {
    for machine in platforms() {
        let state = tempfile::tempdir().expect("a directory");
        let (mut machine, result) = run(&machine, state.path());
        assert_eq!(result, Some(TaskResult::Finished));
        machine.now.0 += 86_400_000;
        // The next release, which brings a newer dnsmasq and nothing else of what the agent is made of.
        let dnsmasq = if machine.installed.contains_key("dnsmasq") { "dnsmasq" } else { "dnsmasq-base" };
        machine.available.get_mut(dnsmasq).expect("it is offered").version += ".1";
        let untie = |needs: &mut Vec<String>| needs.retain(|need| !need.starts_with("dnsmasq"));
        machine.available.values_mut().for_each(|package| untie(&mut package.depends));
        machine.installed.values_mut().for_each(|package| untie(&mut package.depends));
        machine.history.clear();
        let (agent, old) = (machine.services["calico-dhcp-agent"].main_pid, dnsmasqs(&machine));

        let state = tempfile::tempdir().expect("a directory");
        let (after, result) = run(&machine, state.path());
        assert_eq!(result, Some(TaskResult::Finished));
        assert_ne!(after.services["calico-dhcp-agent"].main_pid, agent, "the agent is the one from before");
        let new = dnsmasqs(&after);
        assert!(new.len() == old.len() && new.iter().all(|pid| !old.contains(pid)), "{old:?} -> {new:?}");
        assert!(!active(&after).contains(&"neutron-dhcp-agent"));

        let state = tempfile::tempdir().expect("a directory");
        let again = run(&after, state.path()).0;
        assert_eq!(
            (dnsmasqs(&again), again.services),
            (new, after.services),
            "a third upgrade changes nothing"
        );
    }
}

#[test]
fn a_run_that_was_cut_off_after_dnsmasq_was_replaced_is_seen_on_the_processes() {
    let mut machine = FakeMachine::debian_compute();
    // An earlier run, of somebody's hand, updated dnsmasq and went no further.
    let offered = machine.available["dnsmasq-base"].clone();
    machine.install("dnsmasq-base", &offered).expect("it installs");
    let old = dnsmasqs(&machine);
    let state = tempfile::tempdir().expect("a directory");
    let (after, result) = run(&machine, state.path());
    assert_eq!(result, Some(TaskResult::Finished));
    let new = dnsmasqs(&after);
    assert!(new.len() == 2 && new.iter().all(|pid| !old.contains(pid)), "{old:?} -> {new:?}");
    let ended = |outcome: &Outcome| outcome.changed();
    let journal = journal(state.path());
    let kill = journal.read(|journal| {
        let task = journal.current().expect("a task");
        task.steps.iter().find(|step| step.step.as_str() == "kill-dnsmasq").map(|step| ended(&step.outcome))
    });
    assert_eq!(kill, Some(true));
}
