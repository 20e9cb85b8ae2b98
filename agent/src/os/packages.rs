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
    /// Those of them that are there now, in whatever version.
    pub present: BTreeSet<String>,
    /// Whether everything else is updated too.
    pub distribution: bool,
    /// Whether packages may be removed on the way.
    pub allow_removals: bool,
}

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
    /// [`StepError`] if the package database can't be asked.
    pub fn unfinished(&self, host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
        Ok(match self.platform.family {
            OsFamily::Debian => debian::read_audit(&self.ask(host, &debian::audit())?),
            OsFamily::RedHat => redhat::read_audit(&self.ask(host, &redhat::audit())?),
        })
    }

    /// What finishes them, in order, of the programs that the node has.
    #[must_use]
    pub fn repairs(&self, host: &dyn Host) -> Vec<Command> {
        match self.platform.family {
            OsFamily::Debian => debian::repairs(),
            OsFamily::RedHat => {
                let has = |program: &str| host.which(program).is_some();
                redhat::repairs(self.platform.package_manager, has)
            }
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

    /// What the transactions would do together.
    ///
    /// # Errors
    /// [`StepError`] with the program's last lines if it can't tell: a package that does not exist, broken
    /// dependencies, a repository that does not answer.
    pub fn simulate(&self, host: &dyn Host, wanted: &Wanted) -> Result<Simulated, StepError> {
        let commands = match self.platform.family {
            OsFamily::Debian => debian::simulations(wanted),
            OsFamily::RedHat => redhat::simulations(self.platform.package_manager, wanted),
        };
        commands.iter().try_fold(Simulated::default(), |so_far, command| {
            let exit = self.ask(host, command)?;
            Ok(so_far.and(self.read_simulation(wanted, command, &exit)?))
        })
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

    /// The transactions that do it, in order.
    #[must_use]
    pub fn transactions(&self, wanted: &Wanted) -> Vec<Command> {
        match self.platform.family {
            OsFamily::Debian => debian::transactions(wanted),
            OsFamily::RedHat => redhat::transactions(self.platform.package_manager, wanted),
        }
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
        let without_epoch = installed.split_once(':').map_or(installed, |(_, rest)| rest);
        let without_release = |version: &str| version.rsplit_once('-').map(|(version, _)| version.to_owned());
        let wanted = wanted.strip_prefix("0:").unwrap_or(wanted);
        installed == wanted
            || (self.platform.family == OsFamily::RedHat
                && (without_epoch == wanted
                    || without_release(installed).as_deref() == Some(wanted)
                    || without_release(without_epoch).as_deref() == Some(wanted)))
    }

    fn ask(&self, host: &dyn Host, command: &Command) -> Result<Exit, StepError> {
        host.run(command).map_err(|error| failed(&error, LOOK_AT_DATABASE))
    }
}
