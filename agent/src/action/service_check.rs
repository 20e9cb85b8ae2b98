//! `service.check`: evidence that services run, and that others do not. Those that an earlier step restarted are watched until they
//! have settled. Changes nothing.

use super::Context;
use super::service_control::{mask_by_hand, with_log};
use super::service_restart::is_older_than;
use super::settling::{SETTLING, Young, died_since, is_restarted_earlier, left};
use crate::host::Process;
use crate::os::service::ServiceState;
use std::time::Duration;
use wavegate_common::action::ServiceCheck;
use wavegate_common::outcome::StepError;

/// How long a service may be on its way up or down before that counts as not being there.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// How often to look.
const LOOK: Duration = Duration::from_millis(200);

/// Gathers the evidence.
///
/// # Errors
/// [`StepError`] naming the first service that is not as it must be.
pub fn verify(action: &ServiceCheck, cx: &mut Context<'_>) -> Result<String, StepError> {
    let mut evidence = Vec::new();
    let (mut young, mut wait) = (Vec::new(), Duration::ZERO);
    for unit in &action.active {
        let state = at_rest(cx, unit)?;
        let process = active(cx, unit, &state).map_err(|what| wrong(cx, unit, what))?;
        let newer = newer(action, cx, unit, &process)?;
        let mut runs = format!("{unit} runs as process {}{newer}", process.pid);
        if is_restarted_earlier(unit, cx) {
            if let Some(what) = died_since(unit, &state, cx) {
                return Err(wrong(cx, unit, what));
            }
            runs += &format!(", for {} s at least", SETTLING.as_secs());
            if let Some(left) = left(&process, cx) {
                young.push(Young::new(unit, &state, Some(process)));
                wait = wait.max(left);
            }
        }
        evidence.push(runs);
    }
    settle(&young, wait, cx)?;
    for unit in &action.inactive {
        let state = at_rest(cx, unit)?;
        evidence.push(inactive(unit, &state).map_err(|what| StepError {
            what,
            output: Vec::new(),
            next: format!("{}, then retry", mask_by_hand(cx, unit)),
        })?);
    }
    Ok(evidence.join(", "))
}

/// Watches those that were started a moment ago.
fn settle(young: &[Young<'_>], wait: Duration, cx: &Context<'_>) -> Result<(), StepError> {
    if !wait.is_zero() {
        cx.host.sleep(wait);
    }
    for service in young {
        service.stayed(cx)?.map_err(|what| wrong(cx, service.unit(), what))?;
    }
    Ok(())
}

/// The state, once the service is no longer on its way up or down.
fn at_rest(cx: &Context<'_>, unit: &str) -> Result<ServiceState, StepError> {
    let deadline = cx.host.now().0 + u64::try_from(ON_ITS_WAY.as_millis()).unwrap_or(u64::MAX);
    loop {
        let state = cx.os.service(cx.host, unit)?;
        if state.is_active() || state.is_down() || cx.host.now().0 >= deadline {
            return Ok(state);
        }
        cx.host.sleep(LOOK);
    }
}

/// The evidence that the process started after the packages came: those of them that are installed, with versions.
fn newer(
    action: &ServiceCheck,
    cx: &Context<'_>,
    unit: &str,
    process: &Process,
) -> Result<String, StepError> {
    let names: Vec<&str> = action.newer_than_packages.iter().map(String::as_str).collect();
    let mut evidence = Vec::new();
    for (package, installed) in cx.os.installed(cx.host, &names)? {
        let version = &installed.version;
        if is_older_than(process, &installed) {
            return Err(StepError {
                what: format!(
                    "{unit}, process {}, started before {package} {version} was installed",
                    process.pid
                ),
                output: Vec::new(),
                next: format!("restart {unit} on the node, then retry"),
            });
        }
        evidence.push(format!("{package} {version}"));
    }
    let newer = if evidence.is_empty() { "" } else { ", newer than " };
    Ok(format!("{newer}{}", evidence.join(" and ")))
}

fn active(cx: &Context<'_>, unit: &str, state: &ServiceState) -> Result<Process, String> {
    if !state.installed {
        return Err(format!("there is no service {unit} on this node"));
    }
    if !state.is_active() {
        return Err(format!("{unit} is {}", state.words));
    }
    let Some(process) = state.main_pid.and_then(|pid| cx.host.process(pid)) else {
        return Err(format!("{unit} is {} and has no main process", state.words));
    };
    if !process.exe_is_file_on_disk {
        let exe = process.exe.display();
        return Err(format!("{unit}, process {}, runs {exe}, which is not the file on disk", process.pid));
    }
    Ok(process)
}

fn inactive(unit: &str, state: &ServiceState) -> Result<String, String> {
    if !state.installed {
        return Ok(format!("{unit} is not installed"));
    }
    if !state.is_down() {
        return Err(format!("{unit} is {}, and must not run", state.words));
    }
    if state.enabled {
        return Err(format!("{unit} is down, and would come up again at the next boot"));
    }
    Ok(format!("{unit} is {}, {}", state.words, state.boot_words))
}

fn wrong(cx: &Context<'_>, unit: &str, what: String) -> StepError {
    with_log(cx, unit, StepError { what, output: Vec::new(), next: String::new() })
}

#[cfg(test)]
mod tests {
    use crate::action::bench::{Bench, shown, step};
    use crate::host::Host;
    use crate::host::fake::{FakeMachine, services};
    use crate::os::{systemd, upstart};
    use wavegate_common::action::{Action, ServiceCheck, ServiceRestart};
    use wavegate_common::order::{PlannedStep, Work};

    /// Restarts of services, as steps of the task.
    fn restarts(units: &[&str]) -> Vec<PlannedStep> {
        let step = |unit: &&str| {
            let action = Action::ServiceRestart(restart_of(unit));
            PlannedStep {
                id: step(&format!("restart-{unit}")),
                title: "as it is called".to_owned(),
                work: Work::Run { action, timeout_s: 180 },
            }
        };
        units.iter().map(step).collect()
    }

    fn restart_of(unit: &str) -> ServiceRestart {
        ServiceRestart {
            unit: unit.to_owned(),
            newer_than_packages: Vec::new(),
            newer_than_steps: Vec::new(),
            enable: false,
        }
    }

    const BOTH: [&str; 2] = ["calico-felix", "neutron-dhcp-agent"];

    #[test]
    fn services_that_were_restarted_are_watched_together_until_they_have_settled() {
        for machine in
            [FakeMachine::debian_compute(), FakeMachine::redhat_compute(), FakeMachine::trusty_compute()]
        {
            let mut bench = Bench::new(machine);
            bench.earlier = restarts(&BOTH);
            bench.machine().now.0 += 60_000;
            let watched = |bench: &Bench| {
                let began = bench.host.now();
                let evidence = bench.already_so(&check(&BOTH, &[]));
                (bench.host.now().millis_since(began), evidence)
            };
            assert!(watched(&bench).0 < 100, "both are old");

            BOTH.iter().for_each(|unit| assert!(services::restart(&mut bench.machine(), unit)));
            let earlier = std::mem::take(&mut bench.earlier);
            assert!(watched(&bench).0 < 100, "no step of this task restarted them");
            bench.earlier = earlier;
            let (together, evidence) = watched(&bench);
            assert!((2_800..3_100).contains(&together), "once for both: {together}");
            let pid = bench.main_pid("calico-felix").expect("it runs");
            let start = format!("calico-felix runs as process {pid}, for 3 s at least, neutron");
            assert!(evidence.starts_with(&start), "{evidence}");
        }
    }

    #[test]
    fn a_service_that_dies_while_it_is_watched_has_not_settled() {
        let mut bench = Bench::new(FakeMachine::debian_compute());
        bench.earlier = restarts(&BOTH);
        bench.host.run(&systemd::restart("calico-felix")).expect("it starts");
        bench.machine().services.get_mut("calico-felix").expect("felix").flaps = true;
        let error = bench.check(&check(&["neutron-dhcp-agent", "calico-felix"], &[])).expect_err("it dies");
        insta::assert_snapshot!(shown(&error), @r"
        calico-felix died within 3 s and was started again
        | calico-felix: exited, status=1/FAILURE
        next: read 'systemctl status calico-felix' and 'journalctl -u calico-felix' on the node, mend the service, then retry
        ");
    }

    #[test]
    fn a_service_that_died_once_since_its_restart_is_told_however_long_ago_that_was() {
        let mut bench = Bench::new(FakeMachine::debian_compute());
        bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
        let look = check(&["calico-felix"], &[]);
        bench.to_come = vec![PlannedStep {
            id: step("check-felix"),
            title: "as it is called".to_owned(),
            work: Work::Run { action: look.clone(), timeout_s: 120 },
        }];
        bench.apply(&Action::ServiceRestart(restart_of("calico-felix"))).expect("it restarts");
        (bench.to_come, bench.earlier) = (Vec::new(), restarts(&["calico-felix"]));
        // Somebody restarts it, which is no death.
        bench.host.run(&systemd::restart("calico-felix")).expect("it starts");
        bench.machine().now.0 += 60_000;
        bench.already_so(&look);

        services::restart_by_itself(&mut bench.machine(), "calico-felix");
        bench.machine().now.0 += 60_000;
        insta::assert_snapshot!(shown(&bench.check(&look).expect_err("it died")), @r"
        calico-felix died once since it was restarted, and was started again
        | calico-felix: exited, status=1/FAILURE
        next: read 'systemctl status calico-felix' and 'journalctl -u calico-felix' on the node, mend the service, then retry
        ");
        bench.forget();
        bench.already_so(&look);
    }

    fn check(active: &[&str], inactive: &[&str]) -> Action {
        let names = |units: &[&str]| units.iter().map(|unit| (*unit).to_owned()).collect();
        Action::ServiceCheck(ServiceCheck {
            active: names(active),
            inactive: names(inactive),
            ..ServiceCheck::default()
        })
    }

    #[test]
    fn what_runs_and_what_does_not_is_evidence() {
        let bench = Bench::new(FakeMachine::debian_compute());
        let pid = bench.main_pid("calico-felix").expect("it runs");
        let evidence = bench.already_so(&check(&["calico-felix"], &["calico-dhcp-agent"]));
        assert_eq!(
            evidence,
            format!("calico-felix runs as process {pid}, calico-dhcp-agent is not installed")
        );
    }

    #[test]
    fn each_way_to_be_wrong_is_told() {
        let bench = Bench::new(FakeMachine::debian_compute());
        let wrong = |active: &[&str], inactive: &[&str]| {
            shown(&bench.check(&check(active, inactive)).expect_err("wrong"))
        };
        insta::assert_snapshot!(wrong(&[], &["neutron-dhcp-agent"]), @r"
        neutron-dhcp-agent is active (running), and must not run
        next: 'systemctl disable --now neutron-dhcp-agent' and 'systemctl mask neutron-dhcp-agent' on the node, then retry
        ");
        bench.host.run(&systemd::stop("neutron-dhcp-agent")).expect("it stops");
        assert!(
            wrong(&[], &["neutron-dhcp-agent"]).contains("is down, and would come up again at the next boot")
        );
        insta::assert_snapshot!(wrong(&["neutron-dhcp-agent"], &[]), @r"
        neutron-dhcp-agent is inactive (dead)
        | neutron-dhcp-agent: exited, status=1/FAILURE
        next: read 'systemctl status neutron-dhcp-agent' and 'journalctl -u neutron-dhcp-agent' on the node, mend the service, then retry
        ");
        bench.machine().put_program("/usr/bin/calico-felix", "1.4.6\n");
        assert!(
            wrong(&["calico-felix"], &[])
                .contains("runs /usr/bin/calico-felix (deleted), which is not the file on disk")
        );
        assert!(wrong(&["absent"], &[]).starts_with("there is no service absent on this node"));
    }

    fn newer(active: &str, packages: &[&str]) -> Action {
        Action::ServiceCheck(ServiceCheck {
            active: vec![active.to_owned()],
            inactive: Vec::new(),
            newer_than_packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn a_process_must_be_newer_than_its_packages() {
        let machines =
            [FakeMachine::debian_control(), FakeMachine::redhat_control(), FakeMachine::trusty_control()];
        for machine in machines {
            let bench = Bench::new(machine);
            let check = newer("neutron-server", &["networking-calico", "not-installed"]);
            let pid = bench.main_pid("neutron-server").expect("it runs");
            let evidence = bench.already_so(&check);
            let start = format!("neutron-server runs as process {pid}, newer than networking-calico 1:1.1.2");
            assert!(evidence.starts_with(&start) && !evidence.contains("not-installed"), "{evidence}");

            bench.update("networking-calico");
            let error = shown(&bench.check(&check).expect_err("it is older"));
            let what = format!("neutron-server, process {pid}, started before networking-calico 1:1.3.0");
            assert!(error.starts_with(&what), "{error}");
            assert!(error.ends_with("next: restart neutron-server on the node, then retry"), "{error}");
        }
    }

    #[test]
    fn on_upstart_each_way_to_be_wrong_is_told() {
        let bench = Bench::new(FakeMachine::trusty_compute());
        let wrong = |active: &[&str], inactive: &[&str]| {
            shown(&bench.check(&check(active, inactive)).expect_err("wrong"))
        };
        bench.already_so(&check(&["calico-felix", "neutron-dhcp-agent"], &["calico-dhcp-agent"]));
        insta::assert_snapshot!(wrong(&[], &["neutron-dhcp-agent"]), @r"
        neutron-dhcp-agent is start/running, and must not run
        next: 'stop neutron-dhcp-agent', a line 'manual' in /etc/init/neutron-dhcp-agent.override and 'initctl reload-configuration' on the node, then retry
        ");
        bench.host.run(&upstart::stop("neutron-dhcp-agent")).expect("it stops");
        assert!(
            wrong(&[], &["neutron-dhcp-agent"]).contains("is down, and would come up again at the next boot")
        );
        insta::assert_snapshot!(wrong(&["neutron-dhcp-agent"], &[]), @r"
        neutron-dhcp-agent is stop/waiting
        next: read 'initctl status neutron-dhcp-agent' and /var/log/upstart/neutron-dhcp-agent.log on the node, mend the service, then retry
        ");
    }
}
