//! `service.disable`: a service that is stopped and stays down, over a reboot and over package installs.
//!
//! The order is stop, disable, mask: a unit that is masked while it runs loses its settings at the next reload, its
//! `KillMode=process` among them, and its stop would then end processes that are to outlive it. On upstart the mask is
//! `manual` in the job's override file, which disables the job too.

use super::service_control::{self, masked_word, with_log};
use super::{Applied, Check, Context};
use crate::os::service::{KeptDown, ServiceState};
use wavegate_common::action::ServiceDisable;
use wavegate_common::outcome::{Change, StepError};

/// Looks whether the service is down and masked, or not there at all.
///
/// # Errors
/// [`StepError`] if the service manager does not say.
pub fn check(action: &ServiceDisable, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let state = cx.os.service(cx.host, &action.unit)?;
    if let Some(evidence) = down_for_good(&state) {
        return Ok(Check::AlreadySo { evidence });
    }
    let word = masked_word(cx);
    let what = if state.is_down() { word.to_owned() } else { format!("stopped and {word}") };
    Ok(Check::WouldChange { changes: vec![Change::Service { unit: action.unit.clone(), what }] })
}

/// Stops, disables and masks the service.
///
/// # Errors
/// [`StepError`] if it does not stop, can't be masked, or is up again afterwards.
pub fn apply(action: &ServiceDisable, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let (unit, word) = (&action.unit, masked_word(cx));
    let before = cx.os.service(cx.host, unit)?;
    if let Some(evidence) = down_for_good(&before) {
        return Ok(Applied { changes: Vec::new(), evidence });
    }
    if !before.is_down() {
        service_control::stop(cx, unit)?;
    }
    if before.enabled {
        service_control::disable(cx, unit)?;
    }
    service_control::mask(cx, unit)?;
    if !cx.os.service(cx.host, unit)?.is_down() {
        // Something started it between the stop and the mask; nothing can any more.
        service_control::stop(cx, unit)?;
    }
    let after = cx.os.service(cx.host, unit)?;
    let Some(evidence) = down_for_good(&after) else {
        let what =
            format!("{unit} was stopped and {word}, and is still {}, {}", after.words, after.boot_words);
        return Err(with_log(cx, unit, StepError { what, output: Vec::new(), next: String::new() }));
    };
    let what = match before.main_pid {
        Some(pid) => format!("stopped and {word}, process {pid} ended"),
        None => word.to_owned(),
    };
    Ok(Applied { changes: vec![Change::Service { unit: unit.clone(), what }], evidence })
}

/// The evidence that nothing of it runs and nothing will start it.
fn down_for_good(state: &ServiceState) -> Option<String> {
    if !state.installed {
        return Some("it is not installed".to_owned());
    }
    (state.is_down() && state.kept_down == KeptDown::ForGood)
        .then(|| format!("it is {}, {}", state.words, state.boot_words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::bench::Bench;
    use crate::host::Host;
    use crate::host::fake::FakeMachine;
    use crate::os::systemd;
    use wavegate_common::action::Action;

    fn disable(unit: &str) -> Action {
        Action::ServiceDisable(ServiceDisable { unit: unit.to_owned() })
    }

    #[test]
    fn it_is_stopped_first_and_masked_last_and_what_it_started_lives_on() {
        let bench = Bench::new(FakeMachine::debian_compute());
        let before = bench.machine().processes.len();
        let action = disable("neutron-dhcp-agent");
        assert_eq!(bench.would(&action), "neutron-dhcp-agent: stopped and masked");
        let done = bench.done(&action);
        assert!(done.ends_with("ended\nit is inactive (dead), masked"), "{done}");
        insta::assert_snapshot!(bench.history(), @r"
        systemctl stop -- neutron-dhcp-agent.service
        systemctl disable --no-reload -- neutron-dhcp-agent.service
        systemctl mask -- neutron-dhcp-agent.service
        ");
        assert_eq!(bench.machine().processes.len(), before - 1);

        // It stays down over an update of its package and a boot.
        bench.update("neutron-dhcp-agent");
        bench.machine().reboot();
        bench.already_so(&action);
    }

    #[test]
    fn what_is_down_is_masked_and_what_is_not_there_is_left_so() {
        let bench = Bench::new(FakeMachine::debian_compute());
        assert_eq!(bench.already_so(&disable("neutron-metadata-agent")), "it is not installed");
        bench.host.run(&systemd::stop("neutron-dhcp-agent")).expect("it stops");
        assert_eq!(bench.would(&disable("neutron-dhcp-agent")), "neutron-dhcp-agent: masked");
        assert_eq!(
            bench.done(&disable("neutron-dhcp-agent")),
            "neutron-dhcp-agent: masked\nit is inactive (dead), masked"
        );
    }

    #[test]
    fn an_agent_killed_on_the_way_goes_on_where_it_was() {
        for program in ["systemctl stop", "systemctl disable", "systemctl mask"] {
            let bench = Bench::new(FakeMachine::redhat_compute());
            bench.machine().faults.kill_after(program);
            bench.apply_killed(&disable("neutron-dhcp-agent"));
            bench.done(&disable("neutron-dhcp-agent"));
            assert_eq!(bench.history().matches(program).count(), 1);
        }
    }

    #[test]
    fn a_mask_that_fails_is_told() {
        let bench = Bench::new(FakeMachine::debian_compute());
        let reason =
            "Failed to mask unit: File /etc/systemd/system/neutron-dhcp-agent.service already exists.";
        bench.machine().faults.fail("systemctl mask", 1, reason);
        let error = bench.refused(&disable("neutron-dhcp-agent"));
        assert!(
            error.starts_with("'systemctl mask -- neutron-dhcp-agent.service' failed with exit code 1\n| "),
            "{error}"
        );
        assert!(error.contains(reason));
    }

    const OVERRIDE: &str = "/etc/init/neutron-dhcp-agent.override";

    #[test]
    fn on_upstart_it_is_stopped_and_set_to_manual_and_stays_down() {
        let bench = Bench::new(FakeMachine::trusty_compute());
        bench.machine().put_file(OVERRIDE, "limit nofile 8192 8192");
        let before = bench.machine().processes.len();
        let action = disable("neutron-dhcp-agent");
        assert_eq!(bench.would(&action), "neutron-dhcp-agent: stopped and set to manual");
        let done = bench.done(&action);
        assert!(done.ends_with("ended\nit is stop/waiting, manual"), "{done}");
        insta::assert_snapshot!(bench.history(), @r"
        initctl stop neutron-dhcp-agent
        replace /etc/init/neutron-dhcp-agent.override
        initctl reload-configuration
        ");
        let content = bench.machine().files[std::path::Path::new(OVERRIDE)].content.clone();
        insta::assert_snapshot!(String::from_utf8_lossy(&content), @r"
        limit nofile 8192 8192
        # Kept down by wavegate (service.disable); without these two lines the job starts at boot again.
        manual
        ");
        // Its dnsmasqs live on.
        assert_eq!(bench.machine().processes.len(), before - 1);

        bench.update("neutron-dhcp-agent");
        bench.machine().reboot();
        bench.already_so(&action);
    }

    #[test]
    fn on_upstart_an_agent_killed_on_the_way_goes_on_where_it_was() {
        for point in ["initctl stop", "replace /etc/init", "initctl reload"] {
            for after in [false, true] {
                let bench = Bench::new(FakeMachine::trusty_compute());
                if after {
                    bench.machine().faults.kill_after(point);
                } else {
                    bench.machine().faults.kill_before(point);
                }
                bench.apply_killed(&disable("neutron-dhcp-agent"));
                bench.apply(&disable("neutron-dhcp-agent")).expect("it goes on");
                bench.already_so(&disable("neutron-dhcp-agent"));
                let content = bench.machine().files[std::path::Path::new(OVERRIDE)].content.clone();
                let manual = String::from_utf8_lossy(&content).matches("\nmanual\n").count();
                assert_eq!((manual, bench.history().matches("replace").count()), (1, 1), "{point} {after}");
            }
        }
    }

    #[test]
    fn what_somebody_else_set_to_manual_is_stopped_and_its_file_left_alone() {
        let bench = Bench::new(FakeMachine::trusty_compute());
        bench.machine().put_file(OVERRIDE, "# by hand\nmanual\n");
        let applied = bench.apply(&disable("neutron-dhcp-agent")).expect("it applies");
        assert_eq!(applied.evidence, "it is stop/waiting, manual");
        assert!(!bench.history().contains("replace"), "{}", bench.history());
        assert_eq!(bench.already_so(&disable("neutron-metadata-agent")), "it is not installed");
    }
}
