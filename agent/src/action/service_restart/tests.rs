//! Tests of `service.restart` on a fake machine: when a process counts as old, and what becomes of crashes.

use super::*;
use crate::action::bench::{Bench, step};
use crate::host::Host;
use crate::host::fake::{FakeMachine, Fault, When};
use crate::os::{systemd, upstart};
use wavegate_common::action::{Action, ServiceCheck};
use wavegate_common::order::{PlannedStep, Work};

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
fn a_change_about_when_it_started_makes_it_old_and_the_restart_does_not() {
    let mut bench = Bench::new(FakeMachine::debian_control());
    let action = restart("neutron-server", &[], &["lock-path"]);
    let started = bench.host.process(bench.main_pid("neutron-server").expect("it runs")).expect("a process");
    let started = started.started_at.0;
    for (changed, old) in [
        (started + 1, true),
        (started, true),
        (started - GRAIN_MS, true),
        (started - GRAIN_MS - 1, false),
        (started - 1000, false),
    ] {
        bench.changed_at.insert(step("lock-path"), Timestamp(changed));
        if old {
            let would = bench.would(&action);
            assert!(would.ends_with("is older than what step 'lock-path' changed"), "{changed}: {would}");
        } else {
            bench.already_so(&action);
        }
    }

    // The change and the restart follow each other at once: it is waited as long as what is started would seem as old.
    let now = bench.machine().now;
    bench.changed_at.insert(step("lock-path"), now);
    bench.done(&action);
    let waited = bench.when_said("systemctl restart").millis_since(now);
    assert!((2 * GRAIN_MS..=4 * GRAIN_MS).contains(&waited), "{waited}");
}

#[test]
fn a_package_of_the_same_second_is_not_waited_for() {
    for machine in [FakeMachine::debian_control(), FakeMachine::redhat_control()] {
        let bench = Bench::new(machine);
        bench.update("networking-calico");
        let installed = bench.machine().installed["networking-calico"].installed_at;
        let later_in_its_second = Timestamp(second(installed) * 1000 + 2 * GRAIN_MS);
        bench.machine().now = later_in_its_second;
        bench.done(&restart("neutron-server", &["networking-calico"], &[]));
        let waited = bench.when_said("systemctl restart").millis_since(later_in_its_second);
        assert!(waited < GRAIN_MS, "{waited}");
    }
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
    assert!(error.starts_with("calico-felix died within 3 s and was started again\n|"), "{error}");
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
fn on_upstart_a_job_is_stopped_and_started() {
    let bench = Bench::new(FakeMachine::trusty_control());
    let action = restart("neutron-server", &["networking-calico"], &[]);
    bench.already_so(&action);
    bench.update("networking-calico");
    assert!(bench.would(&action).ends_with("is older than the installed networking-calico"));
    let done = bench.done(&action);
    assert!(
        done.contains("neutron-server: restarted, process 1") && done.contains("has run for 3 s"),
        "{done}"
    );
    insta::assert_snapshot!(bench.history(), @r"
    initctl reload-configuration
    initctl stop neutron-server
    initctl start neutron-server
    ");
}

#[test]
fn on_upstart_a_job_that_is_down_is_started_and_one_that_was_started_meanwhile_is_no_error() {
    let bench = Bench::new(FakeMachine::trusty_compute());
    bench.host.run(&upstart::stop("calico-felix")).expect("it stops");
    let action = restart("calico-felix", &[], &[]);
    assert_eq!(bench.would(&action), "calico-felix: restarted: it is stop/waiting");
    assert!(bench.done(&action).starts_with("calico-felix: started, process "));

    bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    bench.machine().faults.fail("initctl start", 1, "initctl: Job is already running: calico-felix\n");
    let error = bench.refused(&action);
    assert!(error.starts_with("calico-felix did not stay up for 3 s: it is stop/waiting"), "{error}");
    bench.done(&action);
}

#[test]
fn on_upstart_a_failure_shows_the_jobs_own_log() {
    let bench = Bench::new(FakeMachine::trusty_compute());
    bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    bench.machine().services.get_mut("calico-felix").expect("felix").broken = true;
    insta::assert_snapshot!(bench.refused(&restart("calico-felix", &[], &[])), @r"
    'initctl start calico-felix' failed with exit code 1
    | initctl: Job failed to start
    | calico-felix: exited, status=1/FAILURE
    next: read 'initctl status calico-felix' and /var/log/upstart/calico-felix.log on the node, mend the service, then retry
    ");
    let dies = Bench::new(FakeMachine::trusty_compute());
    dies.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    dies.machine().services.get_mut("calico-felix").expect("felix").flaps = true;
    let error = dies.refused(&restart("calico-felix", &[], &[]));
    assert!(error.starts_with("calico-felix died within 3 s and was started again"), "{error}");
}

#[test]
fn on_upstart_a_job_set_to_manual_is_left_alone_and_told() {
    let bench = Bench::new(FakeMachine::trusty_compute());
    let before = bench.main_pid("calico-felix");
    bench.machine().put_file("/etc/init/calico-felix.override", "manual\n");
    bench.host.run(&upstart::reload_configuration()).expect("it is read");
    insta::assert_snapshot!(bench.refused(&restart("calico-felix", &[], &[])), @r"
    calico-felix is set to manual: somebody decided that it must not run on this node
    next: if it is to run here, take the line 'manual' out of /etc/init/calico-felix.override (or /etc/init/calico-felix.conf), 'initctl reload-configuration' on the node and retry
    ");
    assert_eq!(bench.main_pid("calico-felix"), before);

    // One that no event starts can't be made to come up at boot.
    let bench = Bench::new(FakeMachine::trusty_compute());
    bench.machine().put_file("/etc/init/calico-felix.conf", "exec /usr/bin/calico-felix\n");
    bench.host.run(&upstart::reload_configuration()).expect("it is read");
    insta::assert_snapshot!(bench.refused(&restart("calico-felix", &[], &[])), @r"
    no event starts calico-felix, so that it would not come up at boot
    next: write a 'start on' for it into /etc/init/calico-felix.override on the node, 'initctl reload-configuration', then retry
    ");
    insta::assert_snapshot!(bench.refused(&restart("calico-dhcp-agent", &[], &[])), @r"
    there is no service calico-dhcp-agent on this node
    next: install the package that brings calico-dhcp-agent, or take the node out of the stage, then plan again
    ");
    bench.machine().put_file("/etc/init.d/calico-dhcp-agent", "#!/bin/sh\n");
    insta::assert_snapshot!(bench.refused(&restart("calico-dhcp-agent", &[], &[])), @r"
    calico-dhcp-agent is run by /etc/init.d/calico-dhcp-agent, and not by upstart
    next: the agent runs upstart's jobs only: give the service a job in /etc/init/calico-dhcp-agent.conf, or leave the node out and do this step by hand
    ");
    bench.machine().put_file("/etc/init/calico-dhcp-agent.conf", "start no\n");
    insta::assert_snapshot!(bench.refused(&restart("calico-dhcp-agent", &[], &[])), @r"
    upstart does not know calico-dhcp-agent, although /etc/init/calico-dhcp-agent.conf is there
    next: 'initctl reload-configuration' on the node, and see in /var/log/syslog what upstart does not understand in /etc/init/calico-dhcp-agent.conf; then retry
    ");
}

#[test]
fn on_upstart_an_agent_killed_anywhere_ends_at_the_same() {
    for point in ["initctl reload", "initctl stop", "initctl start"] {
        for after in [false, true] {
            let bench = Bench::new(FakeMachine::trusty_control());
            bench.update("networking-calico");
            let action = restart("neutron-server", &["networking-calico"], &[]);
            if after {
                bench.machine().faults.kill_after(point);
            } else {
                bench.machine().faults.kill_before(point);
            }
            bench.apply_killed(&action);
            bench.apply(&action).expect("it goes on");
            bench.already_so(&action);
            let history = bench.history();
            assert_eq!(history.matches("initctl start").count(), 1, "{point} {after}: {history}");
        }
    }
}

#[test]
fn a_restart_that_only_says_so_is_not_believed() {
    for (machine, command) in [
        (FakeMachine::debian_compute(), "systemctl restart"),
        (FakeMachine::trusty_compute(), "initctl stop"),
    ] {
        let bench = Bench::new(machine);
        bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
        let nothing = Fault::Exit(crate::host::Exit::default());
        bench.machine().faults.add(command, When::Instead, nothing);
        let error = bench.refused(&restart("calico-felix", &[], &[]));
        assert!(
            error.starts_with("calico-felix was restarted and is still not current: process "),
            "{error}"
        );
    }
}

#[test]
fn a_process_that_was_just_started_counts_when_it_has_stayed_up() {
    for flaps in [false, true] {
        let mut bench = Bench::new(FakeMachine::debian_compute());
        bench.patience = Duration::from_secs(600);
        let offered = bench.machine().available["calico-felix"].clone();
        bench.machine().install("calico-felix", &offered).expect("it installs");
        bench.machine().services.get_mut("calico-felix").expect("felix").flaps = flaps;
        let action = restart("calico-felix", &["calico-felix"], &[]);
        if flaps {
            let would = bench.would(&action);
            assert!(would.ends_with("did not stay up for 3 s"), "{would}");
        } else {
            let evidence = bench.already_so(&action);
            assert!(evidence.ends_with("has run for 3 s from the file on disk"), "{evidence}");
        }
    }
}

#[test]
fn all_packages_are_asked_for_at_once_and_at_every_look_again() {
    for machine in [FakeMachine::debian_control(), FakeMachine::redhat_control()] {
        let bench = Bench::new(machine);
        let packages = ["calico-common", "networking-calico", "not-installed"];
        let action = restart("neutron-server", &packages, &[]);
        let questions = || {
            let machine = bench.machine();
            let of_packages = |line: &&String| line.starts_with("dpkg-query") || line.starts_with("rpm -q");
            machine.history.iter().filter(of_packages).count()
        };
        bench.already_so(&action);
        assert_eq!(questions(), 1);
        bench.update("networking-calico");
        assert!(bench.would(&action).ends_with("is older than the installed networking-calico"));
        assert_eq!(questions(), 2);
    }
}

/// A check that stands later in the task.
fn check_of(unit: &str) -> Vec<PlannedStep> {
    let action =
        Action::ServiceCheck(ServiceCheck { active: vec![unit.to_owned()], ..ServiceCheck::default() });
    vec![planned("check-felix", Work::Run { action, timeout_s: 120 })]
}

fn planned(id: &str, work: Work) -> PlannedStep {
    PlannedStep { id: step(id), title: "as it is called".to_owned(), work }
}

#[test]
fn a_restart_leaves_the_watch_to_a_later_step_that_does_it() {
    for machine in [FakeMachine::debian_compute(), FakeMachine::trusty_compute()] {
        let skipped = Work::Skip { reason: "not here".to_owned() };
        let others = [check_of("neutron-dhcp-agent"), vec![planned("check-felix", skipped)], Vec::new()];
        for (to_come, later) in
            [(check_of("calico-felix"), true)].into_iter().chain(others.map(|all| (all, false)))
        {
            let mut bench = Bench::new(machine.clone());
            bench.earlier = check_of("calico-felix");
            bench.to_come = to_come;
            bench.patience = Duration::from_secs(600);
            bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
            let began = bench.host.now();
            let applied = bench.apply(&restart("calico-felix", &[], &[])).expect("it restarts");
            let took = bench.host.now().millis_since(began);
            assert_eq!(took < 3_000, later, "{took}");
            assert!(applied.evidence.starts_with("restarted, process "), "{}", applied.evidence);
            let told = applied.evidence.ends_with("; step 'check-felix' watches whether it stays up");
            assert_eq!(told, later, "{}", applied.evidence);
        }
    }
}

#[test]
fn what_a_packages_script_has_just_started_is_left_to_a_later_step_too() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    bench.patience = Duration::from_secs(600);
    bench.to_come = check_of("calico-felix");
    let offered = bench.machine().available["calico-felix"].clone();
    bench.machine().install("calico-felix", &offered).expect("it installs");
    let began = bench.host.now();
    bench.already_so(&restart("calico-felix", &["calico-felix"], &[]));
    assert!(bench.host.now().millis_since(began) < 100);
}

#[test]
fn a_restart_that_leaves_the_watch_to_others_still_looks_at_what_it_started() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    bench.to_come = check_of("calico-felix");
    bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
    bench.machine().faults.add("systemctl restart", When::Instead, Fault::Exit(crate::host::Exit::default()));
    let error = bench.refused(&restart("calico-felix", &[], &[]));
    assert!(error.starts_with("calico-felix was restarted and is still not current: process "), "{error}");
}
