//! A node's own policy: what actions may touch there, whatever the coordinator says. Judging is pure; where the file
//! lies and whom it must belong to is the agent's business.
//!
//! Whatever an order names must be in a list of the policy. Names of packages that are only looked at must be names,
//! so that none is taken for an option of the program that is asked.

mod judge;
mod parse;
mod url;

pub use judge::Refusal;
pub use url::{BadUrl, UrlPrefix};

use crate::action::{PackagePattern, ProgramName};
use serde::Serialize;

/// The policy that ships, in force on a node that has no file of its own.
pub const SHIPPED: &str = include_str!("../../../packaging/config/policy.toml");

/// What actions may touch. The default permits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Packages that may be named, and those that a transaction may change on the way.
    pub packages: Vec<PackagePattern>,
    /// Whether an order may upgrade the whole distribution; it may change any package then.
    pub whole_distribution: bool,
    /// Whether an order may let a transaction remove packages.
    pub removals: bool,
    /// Whether an order may let a transaction take packages back to older versions.
    pub downgrades: bool,
    /// Where archives may come from.
    pub archives: Vec<UrlPrefix>,
    /// Servers that may be asked.
    pub http_checks: Vec<UrlPrefix>,
    /// Services.
    pub services: Services,
    /// etcd.
    pub etcd: EtcdPolicy,
    /// Python distributions.
    pub python: Python,
    /// Programs that an archive's may replace.
    pub programs: Vec<Programs>,
    /// Processes that may be ended or looked at.
    pub processes: Vec<Processes>,
    /// Keys of ini files that may be set.
    pub ini: Vec<IniKeys>,
}

/// Services, without `.service`. All of them may be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Services {
    /// May be restarted, started and enabled.
    pub restart: Vec<String>,
    /// May be stopped and kept down.
    pub disable: Vec<String>,
}

/// What may be done about etcd beside its packages, programs and services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EtcdPolicy {
    /// Directories that copies of its data may go to, absolute paths.
    pub backups: Vec<String>,
}

/// Python distributions that no package owns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Python {
    /// May be installed from an archive.
    pub install: Vec<String>,
    /// May be removed.
    pub uninstall: Vec<String>,
}

/// Programs of one directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Programs {
    /// The directory, an absolute path.
    pub directory: String,
    /// Names of files in it.
    pub names: Vec<ProgramName>,
}

/// Processes of one program that have their pid files below one directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Processes {
    /// Base name of the program.
    pub program: ProgramName,
    /// The directory, an absolute path.
    pub pid_files: String,
}

/// Keys of one section of one ini file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IniKeys {
    /// The file's absolute path.
    pub file: String,
    /// The section, without brackets.
    pub section: String,
    /// The keys.
    pub keys: Vec<String>,
}

#[cfg(test)]
mod tests;
