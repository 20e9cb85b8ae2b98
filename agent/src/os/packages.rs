//! Packages, asked in one way whatever the family: what is installed, since when, whose a file is, what a transaction
//! would do. Command lines and their output are in `debian` and `redhat`.

use super::{Os, debian, redhat};
use crate::action::{exit_failed, failed};
use crate::host::{Command, Exit, Host};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use wavegate_common::action::PackageSpec;
use wavegate_common::id::Timestamp;
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

/// Output that has another form than the program's manual gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected {what}: '{text}'")]
pub struct Unreadable {
    /// What was read, e.g. `line of rpm -q`.
    pub what: &'static str,
    /// The line itself.
    pub text: String,
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

const LOOK_AT_DATABASE: &str = "look whether the package database of the node is in order, then retry";

impl Os {
    /// Versions of those of the packages that are installed, by name.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked or its answer can't be read.
    pub fn versions(&self, host: &dyn Host, names: &[&str]) -> Result<BTreeMap<String, String>, StepError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let read = match self.platform.family {
            OsFamily::Debian => debian::read_versions(&self.ask(host, &debian::versions(names))?),
            OsFamily::RedHat => redhat::read_versions(&self.ask(host, &redhat::versions(names))?)
                .map(|rows| rows.into_iter().map(|(name, (version, _))| (name, version)).collect()),
        };
        read.map_err(|error| failed(&error, LOOK_AT_DATABASE))
    }

    /// When the installed version of a package was installed; `None` if it is not installed.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked or its answer can't be read.
    pub fn installed_at(&self, host: &dyn Host, package: &str) -> Result<Option<Timestamp>, StepError> {
        match self.platform.family {
            OsFamily::Debian => {
                if !self.versions(host, &[package])?.contains_key(package) {
                    return Ok(None);
                }
                // dpkg keeps no time; it writes the list of files anew whenever it unpacks the package.
                let names = host.list(Path::new(debian::INFO));
                let stamps = debian::install_stamps(package, &names).into_iter();
                Ok(stamps.filter_map(|name| host.modified_at(&Path::new(debian::INFO).join(name))).max())
            }
            OsFamily::RedHat => {
                let rows = redhat::read_versions(&self.ask(host, &redhat::versions(&[package]))?);
                let rows = rows.map_err(|error| failed(&error, LOOK_AT_DATABASE))?;
                Ok(rows.get(package).map(|(_, installed_at)| *installed_at))
            }
        }
    }

    /// The package that a file belongs to; `None` if it belongs to none.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked.
    pub fn owner(&self, host: &dyn Host, path: &Path) -> Result<Option<String>, StepError> {
        let path = path.to_string_lossy();
        Ok(match self.platform.family {
            OsFamily::Debian => debian::read_owner(&self.ask(host, &debian::owner(&path))?),
            OsFamily::RedHat => redhat::read_owner(&self.ask(host, &redhat::owner(&path))?),
        })
    }

    /// Packages that an interrupted transaction left unfinished.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked or its answer can't be read.
    pub fn unfinished(&self, host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
        let read = match self.platform.family {
            OsFamily::Debian => debian::read_audit(&self.ask(host, &debian::audit())?),
            OsFamily::RedHat => redhat::read_audit(&self.ask(host, &redhat::audit())?),
        };
        read.map_err(|error| failed(&error, LOOK_AT_DATABASE))
    }

    /// Files by which a package manager knows that it was interrupted, and without whose repair it does nothing else.
    #[must_use]
    pub fn interrupted(&self, host: &dyn Host) -> Vec<String> {
        match self.platform.family {
            OsFamily::Debian => debian::interrupted(&host.list(Path::new(debian::UPDATES))),
            OsFamily::RedHat => Vec::new(),
        }
    }

    /// Configuration files of packages that a transaction since `began` kept or moved away, with what happened to each: by
    /// what stands beside them, so also where the transaction's output is lost.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked or its answer can't be read.
    pub fn kept_beside(
        &self,
        host: &dyn Host,
        packages: &[&str],
        began: Timestamp,
    ) -> Result<Vec<(String, String)>, StepError> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let (files, names) = match self.platform.family {
            OsFamily::Debian => {
                let exit = self.ask(host, &debian::configuration_files(packages))?;
                (debian::read_configuration_files(&exit), debian::BESIDE.as_slice())
            }
            OsFamily::RedHat => {
                let exit = self.ask(host, &redhat::configuration_files(packages))?;
                (redhat::read_configuration_files(&exit), redhat::BESIDE.as_slice())
            }
        };
        let files = files.map_err(|error| failed(&error, LOOK_AT_DATABASE))?;
        let beside = |path: &String| {
            let found = names.iter().find(|(suffix, _)| {
                host.changed_at(Path::new(&format!("{path}{suffix}"))).is_some_and(|at| at >= began)
            });
            found.map(|(suffix, meaning)| (path.clone(), format!("{meaning}{path}{suffix}")))
        };
        Ok(files.iter().filter_map(beside).collect())
    }

    /// Files of yum that say what an interrupted transaction was to do. yum itself only mentions them, and goes on.
    #[must_use]
    pub fn left_by_yum(&self, host: &dyn Host) -> Vec<String> {
        match self.platform.family {
            OsFamily::Debian => Vec::new(),
            OsFamily::RedHat => redhat::interrupted(&host.list(Path::new(redhat::YUM_STATE))),
        }
    }

    /// What finishes what an interrupted transaction left, in order, of the programs that the node has. `unfinished` are
    /// packages; without any, it is only yum's own notes that are to be worked off.
    #[must_use]
    pub fn repairs(&self, host: &dyn Host, unfinished: &BTreeSet<String>) -> Vec<Command> {
        match self.platform.family {
            OsFamily::Debian => debian::repairs(),
            OsFamily::RedHat => {
                let has = |program: &str| host.which(program).is_some();
                redhat::repairs(self.platform.package_manager, has, !unfinished.is_empty())
            }
        }
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

    /// Reads the package lists of the repositories again.
    #[must_use]
    pub fn refresh(&self) -> Command {
        match self.platform.family {
            OsFamily::Debian => debian::refresh(),
            OsFamily::RedHat => redhat::refresh(self.platform.package_manager),
        }
    }

    /// Repositories whose lists could not be read although the refresh said it succeeded.
    #[must_use]
    pub fn failed_sources(&self, exit: &Exit) -> Vec<String> {
        match self.platform.family {
            OsFamily::Debian => debian::failed_sources(exit),
            OsFamily::RedHat => Vec::new(),
        }
    }

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

    /// Whether a program's output says that another one held the lock.
    #[must_use]
    pub fn locked(&self, output: &str) -> bool {
        match self.platform.family {
            OsFamily::Debian => debian::locked(output),
            OsFamily::RedHat => redhat::locked(output),
        }
    }

    /// Whether a step failed because a repository could not be reached; one that answers with a refusal was reached.
    #[must_use]
    pub fn unreachable(&self, error: &StepError) -> bool {
        let unreachable = match self.platform.family {
            OsFamily::Debian => debian::unreachable,
            OsFamily::RedHat => redhat::unreachable,
        };
        unreachable(&error.what) || error.output.iter().any(|line| unreachable(line))
    }

    /// Configuration files that a transaction kept or moved away, with what happened to each.
    #[must_use]
    pub fn kept_files(&self, output: &str) -> Vec<(String, String)> {
        match self.platform.family {
            OsFamily::Debian => debian::kept_files(output),
            OsFamily::RedHat => redhat::kept_files(output),
        }
    }

    /// Whether an installed version is the wanted one. On RPM systems the wanted one may leave out epoch and release.
    #[must_use]
    pub fn version_is(&self, installed: &str, wanted: &str) -> bool {
        match self.platform.family {
            OsFamily::Debian => installed == wanted.strip_prefix("0:").unwrap_or(wanted),
            OsFamily::RedHat => redhat::version_is(installed, wanted),
        }
    }

    /// The name of a package without its architecture, which apt adds where it is not the machine's own.
    #[must_use]
    pub fn plain_name<'a>(&self, name: &'a str) -> &'a str {
        match self.platform.family {
            OsFamily::Debian => name.split_once(':').map_or(name, |(name, _)| name),
            OsFamily::RedHat => name,
        }
    }

    fn ask(&self, host: &dyn Host, command: &Command) -> Result<Exit, StepError> {
        let exit = host.run(command).map_err(|error| failed(&error, LOOK_AT_DATABASE))?;
        match redhat::damaged(&exit) {
            Some(line) if self.platform.family == OsFamily::RedHat => {
                // Only a person can see that nothing else uses the database, and keep a copy of it first.
                let next = "the rpm database of the node is damaged: see that no rpm, yum or dnf runs, keep a copy of \
                            /var/lib/rpm, repair it with 'rpm --rebuilddb' (rpm.org/user_doc/db_recovery.html), then retry";
                Err(exit_failed(format!("rpm cannot read its database: {}", line.trim()), &exit, next))
            }
            Some(_) | None => Ok(exit),
        }
    }
}
