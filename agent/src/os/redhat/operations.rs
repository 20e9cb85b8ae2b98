//! What yum and dnf are told to do about packages, so that what is there and what is not become one transaction.

use super::{EVERY_REPOSITORY, NO_WAITING, program};
use crate::host::Command;
use crate::os::packages::{Simulated, Wanted};
use std::time::Duration;
use wavegate_common::action::PackageSpec;
use wavegate_common::platform::PackageManager;

/// Something to be done, not yet said whether really.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// `install`, `update` or `downgrade`.
    verb: &'static str,
    /// Packages, with versions or without; empty for everything.
    operands: Vec<String>,
}

impl Operation {
    /// As a transaction.
    #[must_use]
    pub fn transaction(&self, manager: PackageManager) -> Command {
        self.command(manager, "-y")
    }

    /// The same, answered with no after the table is printed.
    #[must_use]
    pub fn simulation(&self, manager: PackageManager) -> Command {
        self.command(manager, "--assumeno").timeout(Duration::from_secs(600))
    }

    fn command(&self, manager: PackageManager, answer: &str) -> Command {
        let start = [program(manager), answer, NO_WAITING, EVERY_REPOSITORY, self.verb].map(str::to_owned);
        Command::new(start.into_iter().chain(self.operands.iter().cloned()))
    }
}

/// What finds out the versions that are wanted. What is there is updated, what is not is installed: `install` leaves alone
/// what is there in any version (dnf), and `update` of what is not there says so and exits 0 (yum). A package with a
/// version is installed in either case: `update NAME-VERSION` of what is there in this version brings a newer one (yum), and
/// of what is there in a newer one does nothing (both).
#[must_use]
pub fn operations(wanted: &Wanted) -> Vec<Operation> {
    let there = |spec: &&PackageSpec| wanted.installed.contains_key(&spec.name);
    let (update, install): (Vec<_>, Vec<_>) =
        wanted.packages.iter().partition(|spec| there(spec) && spec.version.is_none());
    let operation = |verb, specs: Vec<&PackageSpec>| Operation {
        verb,
        operands: specs.into_iter().map(operand).collect(),
    };
    let mut operations = Vec::new();
    if wanted.distribution || !update.is_empty() {
        operations.push(operation("update", if wanted.distribution { Vec::new() } else { update }));
    }
    let install: Vec<&PackageSpec> = install.into_iter().filter(|spec| !already(wanted, spec)).collect();
    if !install.is_empty() {
        operations.push(operation("install", install));
    }
    operations
}

/// What takes packages back that yum's `install` leaves alone because they are there in a newer version, those that are not
/// among `resolved`. dnf's `install` takes them back itself.
#[must_use]
pub fn downgrade(manager: PackageManager, wanted: &Wanted, resolved: &Simulated) -> Option<Operation> {
    let older = |spec: &&PackageSpec| {
        spec.version.is_some()
            && wanted.installed.contains_key(&spec.name)
            && !already(wanted, spec)
            && !resolved.installs.contains_key(&spec.name)
    };
    let operands: Vec<String> = wanted.packages.iter().filter(older).map(operand).collect();
    (manager == PackageManager::Yum && !operands.is_empty())
        .then_some(Operation { verb: "downgrade", operands })
}

/// One transaction for all that two would do: every wanted package that would change, in the version found out. Both
/// programs update what is there when `install` is given a version (yum's cli.py, `installPkgs`; seen with dnf).
#[must_use]
pub fn together(wanted: &Wanted, resolved: &Simulated) -> Operation {
    let changed = wanted.packages.iter().filter_map(|spec| {
        let version = resolved.installs.get(&spec.name)?;
        Some(format!("{}-{version}", spec.name))
    });
    Operation { verb: "install", operands: changed.collect() }
}

fn already(wanted: &Wanted, spec: &PackageSpec) -> bool {
    let installed = wanted.installed.get(&spec.name);
    installed.zip(spec.version.as_ref()).is_some_and(|(installed, version)| version_is(installed, version))
}

/// Whether an installed version is the wanted one, which may leave out epoch and release.
#[must_use]
pub fn version_is(installed: &str, wanted: &str) -> bool {
    let without_epoch = installed.split_once(':').map_or(installed, |(_, rest)| rest);
    let without_release = |version: &str| version.rsplit_once('-').map(|(version, _)| version.to_owned());
    let wanted = wanted.strip_prefix("0:").unwrap_or(wanted);
    installed == wanted
        || without_epoch == wanted
        || without_release(installed).as_deref() == Some(wanted)
        || without_release(without_epoch).as_deref() == Some(wanted)
}

/// A package and its version as `NAME-[EPOCH:]VERSION[-RELEASE]`, which both programs take.
fn operand(spec: &PackageSpec) -> String {
    match &spec.version {
        Some(version) => format!("{}-{version}", spec.name),
        None => spec.name.clone(),
    }
}
