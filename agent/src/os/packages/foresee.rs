//! What a transaction would do, and the transactions that do it: asked of the package manager, whatever the family.

use super::{LOOK_AT_DATABASE, Unreadable};
use crate::action::{exit_failed, failed};
use crate::host::{Command, Exit, Host};
use crate::os::{Os, debian, redhat};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::action::PackageSpec;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::OsFamily;

/// What a transaction is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Packages that must be there afterwards.
    pub packages: Vec<PackageSpec>,
    /// Versions of those of them that are there now.
    pub installed: BTreeMap<String, String>,
    /// Whether everything else is updated too.
    pub distribution: bool,
    /// Whether packages may be removed on the way.
    pub allow_removals: bool,
    /// Whether packages may be taken back to an older version.
    pub allow_downgrades: bool,
}

/// What would be done, and the transactions that do it, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// What they would do together.
    pub simulated: Simulated,
    /// None if there is nothing to do.
    pub transactions: Vec<Command>,
}

/// Runs a question to a package manager, waiting where another one is in the way.
pub type Ask<'a> = &'a mut dyn FnMut(&Command) -> Result<Exit, StepError>;

/// What a transaction would do, as the package manager foresees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simulated {
    /// Packages that would be installed, updated or downgraded, with the version they would have.
    pub installs: BTreeMap<String, String>,
    /// Packages that would be removed or replaced by another.
    pub removes: BTreeSet<String>,
    /// Those of `installs` that would go back to an older version.
    pub downgrades: BTreeSet<String>,
    /// Packages that have a newer version which something else that is installed does not let in.
    pub kept_back: BTreeSet<String>,
}

impl Simulated {
    /// Whether nothing would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.installs.is_empty() && self.removes.is_empty()
    }

    /// With what a following transaction would do.
    #[must_use]
    pub fn and(mut self, next: Self) -> Self {
        self.installs.extend(next.installs);
        self.removes.extend(next.removes);
        self.downgrades.extend(next.downgrades);
        self.kept_back.extend(next.kept_back);
        self
    }
}

/// Why a package manager can't say what it would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unforeseen {
    /// It refuses: a package that does not exist, dependencies that can't be met. Its own words.
    #[error("{0}")]
    Refused(String),
    /// Its output has another form than expected.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Os {
    /// What would be done for what is wanted, and the transactions that do it. On Red Hat's family the last thing that is
    /// simulated is what is then to be run.
    ///
    /// # Errors
    /// [`StepError`] with the program's last lines if it can't tell: a package that does not exist, broken
    /// dependencies, a repository that does not answer. Those of `ask`.
    pub fn foresee(&self, ask: Ask<'_>, wanted: &Wanted) -> Result<Foreseen, StepError> {
        match self.platform.family {
            OsFamily::Debian => self.foresee_apt(ask, wanted),
            OsFamily::RedHat => self.foresee_yum(ask, wanted),
        }
    }

    fn foresee_apt(&self, ask: Ask<'_>, wanted: &Wanted) -> Result<Foreseen, StepError> {
        let downgrade = if wanted.allow_downgrades {
            let next = "see that 'apt-get --version' works on the node, then retry";
            let option = debian::downgrade_option(&ask(&debian::apt_version())?);
            Some(option.map_err(|error| failed(&error, next))?)
        } else {
            None
        };
        let transactions = debian::transactions(wanted, downgrade);
        let mut found = Foreseen::default();
        for (simulation, transaction) in debian::simulations(wanted, downgrade).iter().zip(transactions) {
            let exit = ask(simulation)?;
            let simulated = self.read_simulation(wanted, simulation, &exit)?;
            // One that a transaction before a crash has brought about is not run again.
            if !simulated.is_empty() {
                found.transactions.push(transaction);
            }
            found.simulated = found.simulated.and(simulated);
        }
        Ok(found)
    }

    fn foresee_yum(&self, ask: Ask<'_>, wanted: &Wanted) -> Result<Foreseen, StepError> {
        let manager = self.platform.package_manager;
        let mut simulate = |operation: &redhat::Operation| {
            let command = operation.simulation(manager);
            let exit = ask(&command)?;
            self.read_simulation(wanted, &command, &exit)
        };
        let mut found = Foreseen::default();
        let mut changing = Vec::new();
        for operation in redhat::operations(wanted) {
            let simulated = simulate(&operation)?;
            if !simulated.is_empty() {
                changing.push(operation);
            }
            found.simulated = found.simulated.and(simulated);
        }
        if changing.len() > 1 && !wanted.distribution {
            let together = redhat::together(wanted, &found.simulated);
            found.simulated = simulate(&together)?;
            changing = vec![together];
        }
        if let Some(downgrade) = redhat::downgrade(manager, wanted, &found.simulated) {
            found.simulated = found.simulated.and(simulate(&downgrade)?);
            changing.push(downgrade);
        }
        found.transactions = changing.iter().map(|operation| operation.transaction(manager)).collect();
        Ok(found)
    }

    fn read_simulation(
        &self,
        wanted: &Wanted,
        command: &Command,
        exit: &Exit,
    ) -> Result<Simulated, StepError> {
        const NEXT: &str =
            "check the package names and versions and the node's repositories, then plan again";
        let refused = |why: &str| exit_failed(format!("{} can't do it: {why}", command.argv[0]), exit, NEXT);
        let simulated = match self.platform.family {
            OsFamily::Debian => {
                let simulated = debian::read_simulation(exit).map_err(|error| refused(&error.to_string()))?;
                // With downgrades, apt-get simulates nothing and fails: what it named is the better reason.
                if exit.code != 0 && simulated.downgrades.is_empty() {
                    let reason = exit.stderr.lines().find(|line| line.starts_with("E: "));
                    return Err(refused(reason.unwrap_or("it gives no reason")));
                }
                simulated
            }
            OsFamily::RedHat => redhat::read_simulation(exit).map_err(|error| refused(&error.to_string()))?,
        };
        let named = wanted.packages.iter().map(|spec| &spec.name);
        let kept_back: Vec<&str> =
            named.filter(|name| simulated.kept_back.contains(*name)).map(String::as_str).collect();
        if kept_back.is_empty() {
            return Ok(simulated);
        }
        Err(refused(&format!("what is installed does not let in the newer {}", kept_back.join(", "))))
    }

    /// The packages that finishing would install, update or remove beyond what was left unfinished.
    ///
    /// # Errors
    /// [`StepError`] if the package manager can't be asked or its answer can't be read.
    pub fn foresee_repair(&self, host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
        match self.platform.family {
            OsFamily::Debian => {
                let exit = self.ask(host, &debian::repair_simulation())?;
                let simulated = debian::read_simulation(&exit);
                let simulated = simulated.map_err(|error| failed(&error, LOOK_AT_DATABASE))?;
                Ok(simulated.installs.into_keys().chain(simulated.removes).collect())
            }
            // These finish a transaction or remove older copies, and bring nothing.
            OsFamily::RedHat => Ok(BTreeSet::new()),
        }
    }
}
