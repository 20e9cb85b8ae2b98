//! Services, asked in one way whatever the service manager. Command lines and answers are in `systemd`; upstart has no
//! backend in this version, and says so.

use super::packages::Unreadable;
use super::{Os, systemd};
use crate::action::{exit_failed, failed};
use crate::host::{Command, Exit, Host};
use std::collections::BTreeSet;
use std::path::Path;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::ServiceManager;

/// Whether a service runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activity {
    /// It runs, as the service manager sees it.
    Active,
    /// Nothing of it runs and nothing is about to.
    #[default]
    Down,
    /// On its way up or down, or waiting to be started again.
    OnItsWay,
}

/// Whether somebody took care that a service does not start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeptDown {
    /// Nobody did.
    #[default]
    No,
    /// Until the next boot (`systemctl mask --runtime`).
    ForNow,
    /// Over a reboot too (`systemctl mask`; `manual` in an upstart override).
    ForGood,
}

/// What the service manager knows of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceState {
    /// Whether there is such a service at all. One that is kept down counts, even when the mask is all there is.
    pub installed: bool,
    /// Whether it runs.
    pub activity: Activity,
    /// Whether somebody took care that it does not start.
    pub kept_down: KeptDown,
    /// Whether it comes up at boot, by itself or because something that does needs it.
    pub starts_at_boot: bool,
    /// Whether it comes up at boot by a setting of its own, which can be taken away.
    pub enabled: bool,
    /// The main process, if there is one.
    pub main_pid: Option<u32>,
    /// How often the service manager restarted it by itself; `None` where it does not tell.
    pub restarts: Option<u32>,
    /// For people: `active (running)`, `failed (failed, exit-code)`, `start/running`.
    pub words: String,
    /// For people, whether it comes up at boot: `enabled`, `masked`, `manual`.
    pub boot_words: String,
}

impl ServiceState {
    /// Whether it runs, as the service manager sees it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.activity == Activity::Active
    }

    /// Whether nothing of it runs and nothing is about to.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.activity == Activity::Down
    }

    /// Whether somebody took care that it does not start, for now or for good.
    #[must_use]
    pub fn is_kept_down(&self) -> bool {
        self.kept_down != KeptDown::No
    }
}

impl Os {
    /// The state of a service; of one that is not there, too.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked, its answer can't be read, or it is upstart.
    pub fn service(&self, host: &dyn Host, unit: &str) -> Result<ServiceState, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => {
                let next = "see that 'systemctl show' works on the node, then retry";
                let exit = answer(host, &systemd::show(unit), next)?;
                systemd::read_state(&exit.stdout).map_err(|error| failed(&error, next))
            }
            ServiceManager::Upstart => Err(no_upstart()),
        }
    }

    /// Services that run now and come up at boot by themselves, without `.service`: what a node is there for. What was
    /// started on demand, for a user's session or by hand is not among them.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked or its answer can't be read.
    pub fn running_services(&self, host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => {
                let next = "see that 'systemctl list-units' works on the node, then retry";
                let read = |error: Unreadable| failed(&error, next);
                let running = systemd::read_running(&answer(host, &systemd::running(), next)?.stdout);
                let files = systemd::read_unit_files(&answer(host, &systemd::unit_files(), next)?.stdout);
                let scripts = host.list(Path::new(systemd::INIT_SCRIPTS));
                Ok(systemd::running_at_boot(&running.map_err(read)?, &files.map_err(read)?, &scripts))
            }
            ServiceManager::Upstart => Err(no_upstart()),
        }
    }
}

/// What a command that must not fail prints.
fn answer(host: &dyn Host, command: &Command, next: &str) -> Result<Exit, StepError> {
    let exit = host.run(command).map_err(|error| failed(&error, next))?;
    if exit.code == 0 {
        return Ok(exit);
    }
    Err(exit_failed(format!("'{}' failed with exit code {}", command.argv.join(" "), exit.code), &exit, next))
}

fn no_upstart() -> StepError {
    StepError {
        what: "services of this node are run by upstart, which this version of the agent does not support"
            .to_owned(),
        output: Vec::new(),
        next:
            "leave this node out of the rollout and upgrade it by hand, or move it to a release with systemd"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::action::bench::Bench;
    use crate::host::Host;
    use crate::host::fake::FakeMachine;
    use crate::os::systemd;

    #[test]
    fn what_runs_and_comes_up_at_boot_is_what_the_node_is_there_for() {
        let bench = Bench::new(FakeMachine::redhat_compute());
        let services =
            || bench.os.running_services(&bench.host).expect("services").into_iter().collect::<Vec<_>>();
        let all =
            ["calico-felix", "neutron-dhcp-agent", "openstack-nova-compute", "openstack-nova-metadata-api"];
        assert_eq!(services(), all);
        bench.host.run(&systemd::stop("openstack-nova-compute")).expect("it stops");
        bench.host.run(&systemd::disable("calico-felix")).expect("it is disabled");
        assert_eq!(services(), ["neutron-dhcp-agent", "openstack-nova-metadata-api"]);
    }
}
