//! Services, asked in one way whatever the service manager. Command lines and answers are in `systemd`; upstart has no
//! backend in this version, and says so.

use super::Os;
use super::systemd::{self, UnitState};
use crate::action::{exit_failed, failed};
use crate::host::Host;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::ServiceManager;

impl Os {
    /// The state of a service; of one that is not there, too.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked, or is upstart.
    pub fn service(&self, host: &dyn Host, unit: &str) -> Result<UnitState, StepError> {
        self.needs_systemd()?;
        let next = "see that 'systemctl show' works on the node, then retry";
        let exit = host.run(&systemd::show(unit)).map_err(|error| failed(&error, next))?;
        if exit.code != 0 {
            return Err(exit_failed(format!("systemd does not tell about {unit}"), &exit, next));
        }
        Ok(UnitState::parse(&exit.stdout))
    }

    /// # Errors
    /// [`StepError`] where services are not systemd's.
    fn needs_systemd(&self) -> Result<(), StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => Ok(()),
            ServiceManager::Upstart => Err(StepError {
                what: "services of this node are run by upstart, which this version of the agent does not support"
                    .to_owned(),
                output: Vec::new(),
                next: "leave this node out of the rollout and upgrade it by hand, or move it to a release with systemd"
                    .to_owned(),
            }),
        }
    }
}
