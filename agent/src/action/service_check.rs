//! `service.check`: evidence that services run, and that others do not. Changes nothing.

use super::Context;
use super::service_control::{by_hand_mask, with_log};
use crate::os::service::ServiceState;
use std::time::Duration;
use wavegate_common::action::ServiceCheck;
use wavegate_common::outcome::StepError;

/// How long a service may be on its way up or down before that counts as not being there.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// Gathers the evidence.
///
/// # Errors
/// [`StepError`] naming the first service that is not as it must be.
pub fn verify(action: &ServiceCheck, cx: &mut Context<'_>) -> Result<String, StepError> {
    let mut evidence = Vec::new();
    for unit in &action.active {
        let state = at_rest(cx, unit)?;
        evidence.push(active(cx, unit, &state).map_err(|what| wrong(cx, unit, what))?);
    }
    for unit in &action.inactive {
        let state = at_rest(cx, unit)?;
        evidence.push(inactive(unit, &state).map_err(|what| StepError {
            what,
            output: Vec::new(),
            next: format!("{}, then retry", by_hand_mask(unit)),
        })?);
    }
    Ok(evidence.join(", "))
}

/// The state, once the service is no longer on its way up or down.
fn at_rest(cx: &Context<'_>, unit: &str) -> Result<ServiceState, StepError> {
    let deadline = cx.host.now().0 + u64::try_from(ON_ITS_WAY.as_millis()).unwrap_or(u64::MAX);
    loop {
        let state = cx.os.service(cx.host, unit)?;
        if state.is_active() || state.is_down() || cx.host.now().0 >= deadline {
            return Ok(state);
        }
        cx.host.sleep(Duration::from_secs(1));
    }
}

fn active(cx: &Context<'_>, unit: &str, state: &ServiceState) -> Result<String, String> {
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
    Ok(format!("{unit} runs as process {}", process.pid))
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
    use crate::action::bench::{Bench, shown};
    use crate::host::Host;
    use crate::host::fake::FakeMachine;
    use crate::os::systemd;
    use wavegate_common::action::{Action, ServiceCheck};

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
}
