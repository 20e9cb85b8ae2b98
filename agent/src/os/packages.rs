//! Packages, asked in one way whatever the family: what is installed, since when, whose a file is. What a transaction would
//! do is in `packages/foresee`, command lines and their output in `debian` and `redhat`.

mod database;
mod foresee;

pub use database::{DatabaseState, SourcesState};
pub use foresee::{Ask, Foreseen, Simulated, Unforeseen, Wanted};

use super::{Os, debian, redhat};
use crate::action::{exit_failed, failed};
use crate::host::{Command, Exit, Host};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::OsFamily;

/// Output that has another form than the program's manual gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected {what}: '{text}'")]
pub struct Unreadable {
    /// What was read, e.g. `line of rpm -q`.
    pub what: &'static str,
    /// The line itself.
    pub text: String,
}

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its version.
    pub version: String,
    /// When this version was installed, to the second on Red Hat's family; `None` if nothing tells.
    pub at: Option<Timestamp>,
}

const LOOK_AT_DATABASE: &str = "look whether the package database of the node is in order, then retry";

/// Only a person can see that nothing else uses the database, and keep a copy of it first.
const REBUILD: &str = "the rpm database of the node is damaged: see that no rpm, yum or dnf runs, keep a copy of /var/lib/rpm, \
                       repair it with 'rpm --rebuilddb' (rpm.org/user_doc/db_recovery.html), then retry";

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

    /// Those of the packages that are installed, by name, with the moment of that: one question for all.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked or its answer can't be read.
    pub fn installed(
        &self,
        host: &dyn Host,
        names: &[&str],
    ) -> Result<BTreeMap<String, Installed>, StepError> {
        match self.platform.family {
            OsFamily::Debian => {
                let versions = self.versions(host, names)?;
                // dpkg keeps no time; it writes the list of files anew whenever it unpacks the package.
                let files = if versions.is_empty() { Vec::new() } else { host.list(Path::new(debian::INFO)) };
                let at = |name: &str| {
                    let stamps = debian::install_stamps(name, &files).into_iter();
                    stamps.filter_map(|file| host.modified_at(&Path::new(debian::INFO).join(file))).max()
                };
                Ok(versions
                    .into_iter()
                    .map(|(name, version)| {
                        let at = at(&name);
                        (name, Installed { version, at })
                    })
                    .collect())
            }
            OsFamily::RedHat if names.is_empty() => Ok(BTreeMap::new()),
            OsFamily::RedHat => {
                let rows = redhat::read_versions(&self.ask(host, &redhat::versions(names))?);
                let rows = rows.map_err(|error| failed(&error, LOOK_AT_DATABASE))?;
                let installed = |(version, at)| Installed { version, at: Some(at) };
                Ok(rows.into_iter().map(|(name, row)| (name, installed(row))).collect())
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

    /// Reads the package lists of the repositories again; `None` where a question does, see [`Os::with_new_lists`].
    #[must_use]
    pub fn refresh(&self) -> Option<Command> {
        match self.platform.family {
            OsFamily::Debian => Some(debian::refresh()),
            OsFamily::RedHat => redhat::refresh(self.platform.package_manager),
        }
    }

    /// The same question, answered by package lists that are read again, for where nothing else reads them.
    #[must_use]
    pub fn with_new_lists(&self, question: &Command) -> Command {
        with_option(question, redhat::NEW_LISTS)
    }

    /// The same transaction, which only fetches what it needs and changes nothing.
    #[must_use]
    pub fn download(&self, transaction: &Command) -> Command {
        let option = match self.platform.family {
            OsFamily::Debian => debian::DOWNLOAD_ONLY,
            OsFamily::RedHat => redhat::DOWNLOAD_ONLY,
        };
        with_option(transaction, option)
    }

    /// Repositories whose lists could not be read although the refresh said it succeeded.
    #[must_use]
    pub fn failed_sources(&self, exit: &Exit) -> Vec<String> {
        match self.platform.family {
            OsFamily::Debian => debian::failed_sources(exit),
            OsFamily::RedHat => Vec::new(),
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
        let damaged = match self.platform.family {
            OsFamily::Debian => {
                debian::damaged(command, &exit).map(|line| ("dpkg-query", line, LOOK_AT_DATABASE))
            }
            OsFamily::RedHat => redhat::damaged(&exit).map(|line| ("rpm", line, REBUILD)),
        };
        match damaged {
            Some((program, line, next)) => {
                Err(exit_failed(format!("{program} cannot read its database: {}", line.trim()), &exit, next))
            }
            None => Ok(exit),
        }
    }
}

/// An option of a package manager goes before what it is to do.
fn with_option(command: &Command, option: &str) -> Command {
    let mut command = command.clone();
    command.argv.insert(1, option.to_owned());
    command
}
