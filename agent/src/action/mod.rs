//! Actions on a machine: check, apply, verify, one file an action. What an action is, is `wavegate_common::action`.

mod archive;
#[cfg(test)]
pub(crate) mod bench;
mod etcd_back_up;
mod etcd_check_cluster;
mod etcd_check_endpoint;
mod etcd_check_member;
mod etcd_install_archive;
mod etcd_install_packages;
mod etcd_member;
mod http_check;
mod ini_set;
mod memory;
mod package_install;
pub(crate) mod pid_files;
mod pip_uninstall;
mod process_check;
mod process_kill_stale;
mod python;
mod python_install_archive;
mod service_check;
pub mod service_control;
mod service_disable;
mod service_restart;
mod settling;
mod to_its_end;
mod version_check;

pub use memory::Memory;

use crate::causes;
use crate::etcd::EtcdSettings;
use crate::host::{Exit, Host};
use crate::os::Os;
use crate::policy::InForce;
use std::collections::BTreeSet;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::{NodeId, StepId, Timestamp};
use wavegate_common::order::PlannedStep;
use wavegate_common::outcome::{Change, StepError};
use wavegate_common::plan::PlannedNode;

/// What an action may use while it looks at the machine and works on it.
pub struct Context<'a> {
    /// The machine.
    pub host: &'a dyn Host,
    /// Its command lines and their output.
    pub os: &'a Os,
    /// What the node's policy permits. The action itself was judged by it already.
    pub policy: &'a InForce,
    /// The node; `None` in a preview.
    pub node: Option<&'a NodeId>,
    /// What the plan saw of the node; `None` in a preview, and under a coordinator that does not say.
    pub planned: Option<&'a PlannedNode>,
    /// What the agent's configuration says of access to etcd.
    pub etcd: &'a EtcdSettings,
    /// A name for this step's transaction: the same after a crash, different for every attempt and step.
    pub transaction: String,
    /// How long the step may take.
    pub timeout: Duration,
    /// How long something that passes by itself, such as a network that is down, is waited for; none in a preview.
    pub patience: Duration,
    /// Receives output for people.
    pub output: &'a mut dyn FnMut(&str),
    /// When the steps of this stage last changed something on this node, by the journal.
    pub changed_at: &'a dyn Fn(&StepId) -> Option<Timestamp>,
    /// What earlier steps of the same preview would change; empty when the step is really run.
    pub forecast: &'a Forecast,
    /// What the task remembers.
    pub memory: &'a Memory,
    /// The steps of the task before this one.
    pub earlier: &'a [PlannedStep],
    /// The steps of the task after this one.
    pub to_come: &'a [PlannedStep],
}

/// What earlier steps of a preview would have changed by now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Packages that would have been installed, updated or removed.
    pub packages: BTreeSet<String>,
    /// Steps that would have changed something.
    pub steps: BTreeSet<StepId>,
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Nothing to do.
    AlreadySo {
        /// Evidence, in a line.
        evidence: String,
    },
    /// Applying would change these.
    WouldChange {
        /// What would change.
        changes: Vec<Change>,
    },
}

/// What applying and verifying did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What changed, read from the machine before and after.
    pub changes: Vec<Change>,
    /// Evidence that it took, in a line.
    pub evidence: String,
}

/// Observes: is the node already so, and if not, what would change? Changes nothing. An action that only gathers
/// evidence gathers it here, and the node is already so if it holds.
///
/// # Errors
/// [`StepError`] if the step could not be applied as things are, or if evidence is missing.
pub fn check(action: &Action, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let holds = |evidence| Check::AlreadySo { evidence };
    match action {
        Action::PackageInstall(action) => package_install::check(action, cx),
        Action::EtcdInstallArchive(action) => etcd_install_archive::check(action, cx),
        Action::EtcdInstallPackages(action) => etcd_install_packages::check(action, cx),
        Action::EtcdCheckCluster(action) => etcd_check_cluster::verify(action, cx).map(holds),
        Action::EtcdCheckMember(action) => etcd_check_member::verify(action, cx).map(holds),
        Action::EtcdBackUp(action) => etcd_back_up::check(action, cx),
        Action::EtcdCheckEndpoint(action) => etcd_check_endpoint::verify(action, cx).map(holds),
        Action::PipUninstall(action) => pip_uninstall::check(action, cx),
        Action::PythonInstallArchive(action) => python_install_archive::check(action, cx),
        Action::ServiceRestart(action) => service_restart::check(action, cx),
        Action::ServiceDisable(action) => service_disable::check(action, cx),
        Action::ProcessKillStale(action) => process_kill_stale::check(action, cx),
        Action::IniSet(action) => ini_set::check(action, cx),
        Action::ServiceCheck(action) => service_check::verify(action, cx).map(holds),
        Action::ProcessCheck(action) => process_check::verify(action, cx).map(holds),
        Action::VersionCheck(action) => version_check::verify(action, cx).map(holds),
        Action::HttpCheck(action) => http_check::verify(action, cx).map(holds),
    }
}

/// Makes it so and verifies that it took. Looks at the machine first: what an earlier attempt did is not done again.
///
/// # Errors
/// [`StepError`] if it failed, or if what was done did not take.
pub fn apply(action: &Action, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let holds = |evidence| Applied { changes: Vec::new(), evidence };
    match action {
        Action::PackageInstall(action) => package_install::apply(action, cx),
        Action::EtcdInstallArchive(action) => etcd_install_archive::apply(action, cx),
        Action::EtcdInstallPackages(action) => etcd_install_packages::apply(action, cx),
        Action::EtcdCheckCluster(action) => etcd_check_cluster::verify(action, cx).map(holds),
        Action::EtcdCheckMember(action) => etcd_check_member::verify(action, cx).map(holds),
        Action::EtcdBackUp(action) => etcd_back_up::apply(action, cx),
        Action::EtcdCheckEndpoint(action) => etcd_check_endpoint::verify(action, cx).map(holds),
        Action::PipUninstall(action) => pip_uninstall::apply(action, cx),
        Action::PythonInstallArchive(action) => python_install_archive::apply(action, cx),
        Action::ServiceRestart(action) => service_restart::apply(action, cx),
        Action::ServiceDisable(action) => service_disable::apply(action, cx),
        Action::ProcessKillStale(action) => process_kill_stale::apply(action, cx),
        Action::IniSet(action) => ini_set::apply(action, cx),
        Action::ServiceCheck(action) => service_check::verify(action, cx).map(holds),
        Action::ProcessCheck(action) => process_check::verify(action, cx).map(holds),
        Action::VersionCheck(action) => version_check::verify(action, cx).map(holds),
        Action::HttpCheck(action) => http_check::verify(action, cx).map(holds),
    }
}

/// Lines of a program's output that go into a step's error.
const ERROR_LINES: usize = 20;

/// A step's error out of an error and its sources.
#[must_use]
pub fn failed(error: &dyn std::error::Error, next: impl Into<String>) -> StepError {
    StepError { what: causes::told(error), output: Vec::new(), next: next.into() }
}

/// A step's error out of a program that ended badly, with the last lines of its output.
#[must_use]
pub fn exit_failed(what: impl Into<String>, exit: &Exit, next: impl Into<String>) -> StepError {
    let lines: Vec<&str> = exit.stdout.lines().chain(exit.stderr.lines()).collect();
    let last = &lines[lines.len().saturating_sub(ERROR_LINES)..];
    StepError {
        what: what.into(),
        output: last.iter().map(|line| (*line).to_owned()).collect(),
        next: next.into(),
    }
}
