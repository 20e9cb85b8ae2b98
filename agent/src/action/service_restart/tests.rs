//! Tests of `service.restart` on a fake machine: when a process counts as old, and what becomes of crashes.

use super::*;
use crate::action::bench::{Bench, step};
use crate::host::Host;
use crate::host::fake::FakeMachine;
use crate::os::systemd;
use wavegate_common::action::Action;

fn restart(unit: &str, packages: &[&str], steps: &[&str]) -> Action {
    Action::ServiceRestart(ServiceRestart {
        unit: unit.to_owned(),
        newer_than_packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        newer_than_steps: steps.iter().map(|id| step(id)).collect(),
        enable: true,
    })
}

#[test]
fn a_service_that_is_newer_than_its_packages_is_left_alone() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let evidence =
        bench.already_so(&restart("calico-felix", &["calico-felix", "not-installed"], &["never-run"]));
    assert!(evidence.contains("process") && evidence.ends_with("s from the file on disk"), "{evidence}");
    assert_eq!(bench.history(), "");
}

#[test]
fn a_process_that_the_packages_own_script_started_is_not_older_than_the_package() {
    for machine in [FakeMachine::debian_compute(), FakeMachine::redhat_compute()] {
        let bench = Bench::new(machine);
        let before = bench.main_pid("calico-felix");
        bench.update("calico-felix");
        assert_ne!(bench.main_pid("calico-felix"), before);
        bench.already_so(&restart("calico-felix", &["calico-felix"], &[]));
    }
}

#[test]
fn a_python_service_is_restarted_after_a_module_of_its_was_updated() {
    for machine in [FakeMachine::debian_control(), FakeMachine::redhat_control()] {
        let bench = Bench::new(machine);
        bench.update("networking-calico");
        let action = restart("neutron-server", &["networking-calico"], &[]);
        assert!(bench.would(&action).ends_with("is older than the installed networking-calico"));
        let done = bench.done(&action);
        assert!(
            done.contains("neutron-server: restarted, process 1") && done.contains("has run for 3 s"),
            "{done}"
        );
        insta::allow_duplicates! {
            insta::assert_snapshot!(bench.history(), @r"
            systemctl daemon-reload
            systemctl reset-failed -- neutron-server.service
            systemctl restart -- neutron-server.service
            ");
        }
    }
}

#[test]
fn a_change_in_the_second_of_the_start_makes_it_old_and_the_restart_does_not() {
    let mut bench = Bench::new(FakeMachine::debian_control());
    let action = restart("neutron-server", &[], &["lock-path"]);
    let started = bench.host.process(bench.main_pid("neutron-server").expect("it runs")).expect("a process");
    bench.changed_at.insert(step("lock-path"), started.started_at);
    assert!(bench.would(&action).ends_with("is older than what step 'lock-path' changed"));

    // The change and the restart fall into the same second.
    let now = bench.machine().now;
    bench.changed_at.insert(step("lock-path"), now);
    bench.done(&action);
}

#[test]
fn a_replaced_executable_makes_it_old() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    let would = bench.would(&restart("calico-felix", &[], &[]));
    assert!(
        would.ends_with("runs /usr/bin/calico-felix (deleted), which is not the file on disk"),
        "{would}"
    );
}

#[test]
fn a_service_that_is_down_is_started_and_made_to_come_up_at_boot() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.host.run(&systemd::stop("calico-felix")).expect("it stops");
    bench.host.run(&systemd::disable("calico-felix")).expect("it is disabled");
    let action = restart("calico-felix", &[], &[]);
    assert_eq!(bench.would(&action), "calico-felix: restarted: it is inactive (dead)");
    let done = bench.done(&action);
    assert!(
        done.starts_with("calico-felix: made to come up at boot\ncalico-felix: started, process "),
        "{done}"
    );

    bench.host.run(&systemd::disable("calico-felix")).expect("it is disabled");
    let pid = bench.main_pid("calico-felix");
    assert_eq!(bench.would(&action), "calico-felix: made to come up at boot");
    bench.done(&action);
    assert_eq!(bench.main_pid("calico-felix"), pid);
}

#[test]
fn a_preview_sees_what_earlier_steps_will_do() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    bench.forecast.packages.insert("calico-felix".to_owned());
    bench.forecast.steps.insert(step("install"));
    let text = bench.would(&restart("calico-felix", &["calico-felix", "networking-calico"], &[]));
    assert_eq!(text, "calico-felix: restarted: calico-felix will have changed");
    let text = bench.would(&restart("calico-felix", &[], &["install"]));
    assert_eq!(text, "calico-felix: restarted: step 'install' will have changed the node");
    let text = bench.would(&restart("calico-dhcp-agent", &[], &[]));
    assert_eq!(text, "calico-dhcp-agent: started, once earlier steps have brought it");
}

#[test]
fn what_can_not_be_restarted_is_refused_with_what_to_do() {
    let bench = Bench::new(FakeMachine::debian_compute());
    insta::assert_snapshot!(bench.refused(&restart("calico-dhcp-agent", &[], &[])), @r"
    there is no service calico-dhcp-agent on this node
    next: install the package that brings calico-dhcp-agent, or take the node out of the stage, then plan again
    ");
    bench.host.run(&systemd::mask("calico-felix")).expect("it is masked");
    insta::assert_snapshot!(bench.refused(&restart("calico-felix", &[], &[])), @r"
    calico-felix is masked: somebody decided that it must not run on this node
    next: if it is to run here, 'systemctl unmask calico-felix' on the node and retry
    ");
}

#[test]
fn a_service_that_does_not_come_up_shows_its_log() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    bench.machine().services.get_mut("calico-felix").expect("felix").broken = true;
    insta::assert_snapshot!(bench.refused(&restart("calico-felix", &[], &[])), @r"
    'systemctl restart -- calico-felix.service' failed with exit code 1
    | Job for calico-felix.service failed because the control process exited with error code.
    | calico-felix: exited, status=1/FAILURE
    next: read 'systemctl status calico-felix' and 'journalctl -u calico-felix' on the node, mend the service, then retry
    ");
}

#[test]
fn a_service_that_dies_again_and_again_does_not_count_as_up() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    bench.machine().services.get_mut("calico-felix").expect("felix").flaps = true;
    let error = bench.refused(&restart("calico-felix", &[], &[]));
    assert!(error.starts_with("calico-felix died within 3 s and was started again by systemd\n|"), "{error}");
}

#[test]
fn an_agent_killed_after_the_restart_finds_it_done() {
    let bench = Bench::new(FakeMachine::debian_control());
    bench.update("networking-calico");
    let action = restart("neutron-server", &["networking-calico"], &[]);
    bench.machine().faults.kill_before("systemctl restart");
    bench.apply_killed(&action);
    assert!(bench.would(&action).contains("is older than"));
    bench.machine().faults.kill_after("systemctl restart");
    bench.apply_killed(&action);
    let restarted = bench.main_pid("neutron-server");
    bench.already_so(&action);
    bench.apply(&action).expect("nothing is left to do");
    assert_eq!(bench.main_pid("neutron-server"), restarted);
}

#[test]
fn a_clock_that_was_set_back_is_told_and_not_waited_for() {
    let bench = Bench::new(FakeMachine::debian_control());
    bench.update("networking-calico");
    bench.machine().now.0 -= 3_600_000;
    let error = bench.refused(&restart("neutron-server", &["networking-calico"], &[]));
    assert!(error.starts_with("the node's clock was set back"), "{error}");
    assert!(!bench.history().contains("restart"));
}

#[test]
fn upstart_is_told_apart() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    bench.os.platform.service_manager = wavegate_common::platform::ServiceManager::Upstart;
    insta::assert_snapshot!(bench.refused(&restart("calico-felix", &[], &[])), @r"
    services of this node are run by upstart, which this version of the agent does not support
    next: leave this node out of the rollout and upgrade it by hand, or move it to a release with systemd
    ");
}
