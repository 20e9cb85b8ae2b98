//! The closed set of things a step can do. What they do to a machine is the agent's business.
//!
//! Each action is check (observe; already so? what would change?), apply, verify (evidence that it took), and
//! each is safe to be looked at again after a crash. There is no action that runs a free-form command.

use crate::facts::Component;
use crate::id::StepId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A package, and the version it is pinned to if it is: `name` or `name=version` in data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageSpec {
    /// The package's name in the node's package manager.
    pub name: String,
    /// The exact version wanted; `None` takes the newest that the node's repositories offer.
    pub version: Option<String>,
}

/// Why a text is not a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a package: write 'name' or 'name=version', of letters, digits and '+ - . _ : ~'")]
pub struct BadPackage(String);

impl TryFrom<String> for PackageSpec {
    type Error = BadPackage;
    fn try_from(text: String) -> Result<Self, BadPackage> {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text.as_str(), None),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._:~".contains(c);
        let well_formed = |part: &str| {
            !part.is_empty()
                && part.chars().all(allowed)
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        if well_formed(name) && version.is_none_or(well_formed) {
            return Ok(Self { name: name.to_owned(), version: version.map(str::to_owned) });
        }
        Err(BadPackage(text))
    }
}

impl From<PackageSpec> for String {
    fn from(spec: PackageSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for PackageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}={version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Names of packages: a name in which `*` stands for any letters, as `python-*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackagePattern(String);

/// Why a text is not a pattern of package names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a pattern of package names: a name of letters, digits and '+ - . _ :', with '*' for any letters, not '*' alone"
)]
pub struct BadPattern(String);

impl PackagePattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a package of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl TryFrom<String> for PackagePattern {
    type Error = BadPattern;
    fn try_from(text: String) -> Result<Self, BadPattern> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._:*".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
            return Ok(Self(text));
        }
        Err(BadPattern(text))
    }
}

impl From<PackagePattern> for String {
    fn from(pattern: PackagePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for PackagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The base name of a program's file: it can't lead to another directory, nor be taken for an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProgramName(String);

/// Why a text is not a program's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a program's name: a file name without a directory, of letters, digits and '+ - . _', not beginning with '-' or '.'"
)]
pub struct BadProgramName(String);

impl ProgramName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProgramName {
    type Error = BadProgramName;
    fn try_from(text: String) -> Result<Self, BadProgramName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
            return Ok(Self(text));
        }
        Err(BadProgramName(text))
    }
}

impl From<ProgramName> for String {
    fn from(name: ProgramName) -> Self {
        name.0
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A SHA-256 digest as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

/// Why a text is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a SHA-256 digest: 64 hexadecimal digits, as `sha256sum FILE` prints them")]
pub struct BadSha256(String);

impl Sha256 {
    /// The digits, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sha256 {
    type Error = BadSha256;
    fn try_from(text: String) -> Result<Self, BadSha256> {
        if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(BadSha256(text))
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.0
    }
}

/// Which packages a transaction touches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The named packages and what they need.
    #[default]
    Named,
    /// Everything the repositories have newer versions of (`apt-get dist-upgrade`, `yum update`), and the named ones.
    Distribution,
}

/// `package.install`: one transaction that installs what is missing and updates what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageInstall {
    /// Packages that must be there afterwards, at the wanted version.
    pub packages: Vec<PackageSpec>,
    /// Packages brought to the wanted version in the same transaction, but only where they are installed already.
    #[serde(default)]
    pub if_installed: Vec<PackageSpec>,
    /// Named packages or the whole distribution.
    #[serde(default)]
    pub scope: Scope,
    /// Other packages that a transaction of named packages may install, update or remove on the way. One that would change any
    /// further package is refused.
    #[serde(default)]
    pub also: Vec<PackagePattern>,
    /// Whether the transaction may remove packages. A transaction that would is refused unless this is set.
    #[serde(default)]
    pub allow_removals: bool,
    /// Whether the transaction may take packages back to an older version. One that would is refused unless this is set.
    #[serde(default)]
    pub allow_downgrades: bool,
    /// Services, without `.service`, that the transaction must not start: one of these that is down stays down, whatever the
    /// scripts of its package do. One that runs already is left to the package.
    #[serde(default)]
    pub keep_down: Vec<String>,
}

/// `etcd.install_archive`: etcd's binaries from a release archive (a gzipped tar file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdInstallArchive {
    /// Where the archive is: `http://`, `https://` or `file:///`.
    pub url: String,
    /// The archive's digest; an archive with another digest is refused.
    pub sha256: Sha256,
    /// Programs of the archive to install.
    pub binaries: Vec<ProgramName>,
    /// Directory on the node that they go to.
    pub directory: String,
    /// The service stopped before and started after the binaries are replaced.
    pub unit: String,
    /// How long the other members of the cluster are waited for to be well before this one is stopped, in seconds.
    #[serde(default)]
    pub within_s: u64,
    /// How many entries of the raft log another member may be behind then.
    #[serde(default)]
    pub max_lag: u64,
}

/// `etcd.install_packages`: etcd by its packages, with the service stopped before and started after. A member is stopped only while every
/// other member of its cluster is well, with its leadership handed over, and started again only on the data that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdInstallPackages {
    /// Packages that must be there afterwards, at the wanted version.
    pub packages: Vec<PackageSpec>,
    /// Other packages that the transaction may change on the way.
    #[serde(default)]
    pub also: Vec<PackagePattern>,
    /// Whether packages may go back to an older version.
    #[serde(default)]
    pub allow_downgrades: bool,
    /// The service, without `.service`.
    pub unit: String,
    /// How long the other members of the cluster are waited for to be well before this one is stopped, in seconds.
    pub within_s: u64,
    /// How many entries of the raft log another member may be behind then.
    pub max_lag: u64,
}

/// `etcd.check_cluster`: evidence that the cluster of this node may be worked on: every member healthy and caught up, no alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdCheckCluster {
    /// How long to wait for that, in seconds.
    pub within_s: u64,
    /// How many entries of the raft log a member may be behind.
    pub max_lag: u64,
}

/// `etcd.back_up`: a copy of what the cluster holds, from this member: of the version 3 API a snapshot, of the version 2
/// API, where it has keys, a backup of the data directory and the keys as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdBackUp {
    /// The directory on the node that copies go to, one below it for each.
    pub directory: String,
}

/// `etcd.check_member`: evidence that the member of this node is back: the same member of the same cluster with its data, on the
/// version that is installed, healthy, caught up, and so for a while. Where it was the last, the cluster's version must follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdCheckMember {
    /// How long it may take to be so, in seconds.
    pub within_s: u64,
    /// How long it must stay so, in seconds; counted within `within_s`.
    pub settle_s: u64,
    /// How many entries of the raft log it may be behind.
    pub max_lag: u64,
}

/// `etcd.check_endpoint`: evidence that etcd answers clients of this node, through its proxy or gateway or where Calico's software
/// is configured to ask: a read and a watch through each endpoint, of the cluster that the plan saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdCheckEndpoint {
    /// How long it may take, in seconds.
    pub within_s: u64,
}

/// `pip.uninstall`: removes a distribution that pip installed and no package owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipUninstall {
    /// The Python distribution's name, e.g. `networking-calico`.
    pub distribution: String,
}

/// `python.install_archive`: a Python distribution from a source archive (`setup.py install`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonInstallArchive {
    /// The Python distribution's name, e.g. `python-etcd`.
    pub distribution: String,
    /// The version the archive holds; installed already means nothing to do.
    pub version: String,
    /// Where the archive is: `http://`, `https://` or `file:///`.
    pub url: String,
    /// The archive's digest; an archive with another digest is refused.
    pub sha256: Sha256,
}

/// `service.restart`: a service whose process is newer than everything it is made of.
///
/// Already so, if the service is active, its executable is the file on disk, and its main process started after the
/// named packages were last installed and after the named steps last changed something on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRestart {
    /// The service, without `.service`.
    pub unit: String,
    /// Packages whose installation makes a running process old.
    #[serde(default)]
    pub newer_than_packages: Vec<String>,
    /// Steps of the same stage whose change makes a running process old.
    #[serde(default)]
    pub newer_than_steps: Vec<StepId>,
    /// Whether the service must also come up at boot.
    #[serde(default)]
    pub enable: bool,
}

/// `service.disable`: a service that is stopped and stays down, over a reboot and over package installs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDisable {
    /// The service, without `.service`. A service that is not installed is already so.
    pub unit: String,
}

/// `process.kill_stale`: ends processes of one program whose executable was replaced under them.
///
/// Only processes whose pid file lies under `pid_files` count as ours; any other process of the program is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessKillStale {
    /// Base name of the program, e.g. `dnsmasq`.
    pub program: String,
    /// Directory that the processes' `--pid-file=` argument must lie under.
    pub pid_files: String,
    /// Packages that own the program's file; used to foresee, in a plan, that it will be replaced.
    pub packages: Vec<String>,
    /// The service that is to own the processes from now on. Where it is not active, none of them is its own, and
    /// all are ended, so that it starts its own.
    #[serde(default)]
    pub owner: Option<String>,
}

/// `ini.set`: one key of one section of an ini file in oslo.config's dialect; every other line stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IniSet {
    /// The file's absolute path.
    pub file: String,
    /// The section's name, without brackets.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value, as it is to stand after `key = `.
    pub value: String,
}

/// `service.check`: evidence that services run, and that others do not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceCheck {
    /// Services that must be active, with a process whose executable is the file on disk.
    #[serde(default)]
    pub active: Vec<String>,
    /// Services that must be stopped and must stay down over a reboot.
    #[serde(default)]
    pub inactive: Vec<String>,
    /// Packages that the processes of the active services must be newer than, those of them that are installed.
    #[serde(default)]
    pub newer_than_packages: Vec<String>,
}

/// `version.check`: evidence that a program reports the version that its package has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionCheck {
    /// What to ask for its version.
    pub component: Component,
    /// The package whose version it must report.
    pub package: String,
}

/// `http.check`: evidence that a server on the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// What to GET, e.g. `http://127.0.0.1:9696/`. Any answer below 500 counts: 401 is an answer too.
    pub url: String,
    /// Text that the body must hold; empty for none.
    #[serde(default)]
    pub contains: String,
    /// How long to keep asking, in seconds.
    pub within_s: u64,
}

/// `process.check`: evidence that every process of a program that is ours runs from the file on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessCheck {
    /// Base name of the program, e.g. `dnsmasq`.
    pub program: String,
    /// Directory whose pid files say which processes are ours; each pid file there must belong to a live process.
    pub pid_files: String,
    /// How long to wait for the processes to come up, in seconds.
    pub within_s: u64,
}

/// What a step does: one of a closed set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action")]
pub enum Action {
    /// See [`PackageInstall`].
    #[serde(rename = "package.install")]
    PackageInstall(PackageInstall),
    /// See [`EtcdInstallArchive`].
    #[serde(rename = "etcd.install_archive")]
    EtcdInstallArchive(EtcdInstallArchive),
    /// See [`EtcdInstallPackages`].
    #[serde(rename = "etcd.install_packages")]
    EtcdInstallPackages(EtcdInstallPackages),
    /// See [`EtcdCheckCluster`].
    #[serde(rename = "etcd.check_cluster")]
    EtcdCheckCluster(EtcdCheckCluster),
    /// See [`EtcdBackUp`].
    #[serde(rename = "etcd.back_up")]
    EtcdBackUp(EtcdBackUp),
    /// See [`EtcdCheckMember`].
    #[serde(rename = "etcd.check_member")]
    EtcdCheckMember(EtcdCheckMember),
    /// See [`EtcdCheckEndpoint`].
    #[serde(rename = "etcd.check_endpoint")]
    EtcdCheckEndpoint(EtcdCheckEndpoint),
    /// See [`PipUninstall`].
    #[serde(rename = "pip.uninstall")]
    PipUninstall(PipUninstall),
    /// See [`PythonInstallArchive`].
    #[serde(rename = "python.install_archive")]
    PythonInstallArchive(PythonInstallArchive),
    /// See [`ServiceRestart`].
    #[serde(rename = "service.restart")]
    ServiceRestart(ServiceRestart),
    /// See [`ServiceDisable`].
    #[serde(rename = "service.disable")]
    ServiceDisable(ServiceDisable),
    /// See [`ProcessKillStale`].
    #[serde(rename = "process.kill_stale")]
    ProcessKillStale(ProcessKillStale),
    /// See [`IniSet`].
    #[serde(rename = "ini.set")]
    IniSet(IniSet),
    /// See [`ServiceCheck`].
    #[serde(rename = "service.check")]
    ServiceCheck(ServiceCheck),
    /// See [`ProcessCheck`].
    #[serde(rename = "process.check")]
    ProcessCheck(ProcessCheck),
    /// See [`VersionCheck`].
    #[serde(rename = "version.check")]
    VersionCheck(VersionCheck),
    /// See [`HttpCheck`].
    #[serde(rename = "http.check")]
    HttpCheck(HttpCheck),
}

impl Action {
    /// The action's name in procedures, logs and errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PackageInstall(_) => "package.install",
            Self::EtcdInstallArchive(_) => "etcd.install_archive",
            Self::EtcdInstallPackages(_) => "etcd.install_packages",
            Self::EtcdCheckCluster(_) => "etcd.check_cluster",
            Self::EtcdBackUp(_) => "etcd.back_up",
            Self::EtcdCheckMember(_) => "etcd.check_member",
            Self::EtcdCheckEndpoint(_) => "etcd.check_endpoint",
            Self::PipUninstall(_) => "pip.uninstall",
            Self::PythonInstallArchive(_) => "python.install_archive",
            Self::ServiceRestart(_) => "service.restart",
            Self::ServiceDisable(_) => "service.disable",
            Self::ProcessKillStale(_) => "process.kill_stale",
            Self::IniSet(_) => "ini.set",
            Self::ServiceCheck(_) => "service.check",
            Self::ProcessCheck(_) => "process.check",
            Self::VersionCheck(_) => "version.check",
            Self::HttpCheck(_) => "http.check",
        }
    }

    /// Whether the action only gathers evidence and never changes the node.
    #[must_use]
    pub const fn is_check(&self) -> bool {
        match self {
            Self::ServiceCheck(_)
            | Self::ProcessCheck(_)
            | Self::VersionCheck(_)
            | Self::HttpCheck(_)
            | Self::EtcdCheckCluster(_)
            | Self::EtcdCheckMember(_)
            | Self::EtcdCheckEndpoint(_) => true,
            Self::PackageInstall(_)
            | Self::EtcdInstallArchive(_)
            | Self::EtcdInstallPackages(_)
            | Self::EtcdBackUp(_)
            | Self::PipUninstall(_)
            | Self::PythonInstallArchive(_)
            | Self::ServiceRestart(_)
            | Self::ServiceDisable(_)
            | Self::ProcessKillStale(_)
            | Self::IniSet(_) => false,
        }
    }
}

/// One line for people: what the action is about, without what it would change.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |specs: &[PackageSpec]| specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::PackageInstall(a) => match a.scope {
                Scope::Named => write!(f, "install {}", list(&a.packages)),
                Scope::Distribution => {
                    write!(f, "upgrade the whole distribution and install {}", list(&a.packages))
                }
            },
            Self::EtcdInstallArchive(a) => {
                let names: Vec<&str> = a.binaries.iter().map(ProgramName::as_str).collect();
                write!(f, "install {} from {}", names.join(", "), a.url)
            }
            Self::EtcdInstallPackages(a) => write!(f, "install {} with {} down", list(&a.packages), a.unit),
            Self::EtcdCheckCluster(_) => f.write_str("check that every member of the etcd cluster is well"),
            Self::EtcdBackUp(a) => write!(f, "back etcd up to {}", a.directory),
            Self::EtcdCheckMember(a) => {
                write!(
                    f,
                    "check that the etcd member is back with its data, and stays so for {} s",
                    a.settle_s
                )
            }
            Self::EtcdCheckEndpoint(_) => f.write_str("read and watch through the node's etcd endpoints"),
            Self::PipUninstall(a) => write!(f, "pip uninstall {}", a.distribution),
            Self::PythonInstallArchive(a) => {
                write!(f, "install {} {} from {}", a.distribution, a.version, a.url)
            }
            Self::ServiceRestart(a) => write!(f, "restart {}", a.unit),
            Self::ServiceDisable(a) => write!(f, "stop {} and keep it down", a.unit),
            Self::ProcessKillStale(a) => write!(f, "end stale {} processes of {}", a.program, a.pid_files),
            Self::IniSet(a) => write!(f, "set [{}] {} = {} in {}", a.section, a.key, a.value, a.file),
            Self::ServiceCheck(a) => {
                write!(f, "check that {} run", a.active.join(", "))?;
                if a.inactive.is_empty() {
                    Ok(())
                } else {
                    write!(f, " and {} do not", a.inactive.join(", "))
                }
            }
            Self::ProcessCheck(a) => {
                write!(f, "check that every {} of {} runs and is current", a.program, a.pid_files)
            }
            Self::VersionCheck(a) => {
                write!(f, "check that {} reports the version of {}", a.component, a.package)
            }
            Self::HttpCheck(a) => write!(f, "check that {} answers", a.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_name_or_name_and_version() {
        let spec = PackageSpec::try_from("calico-felix=1:1.4.6~trusty+1".to_owned()).expect("a package");
        assert_eq!((spec.name.as_str(), spec.version.as_deref()), ("calico-felix", Some("1:1.4.6~trusty+1")));
        for bad in ["", "=1", "a=", "-y", "a b", "a;b", "$(x)", "a=1 2", "--force"] {
            assert!(PackageSpec::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let pattern = |text: &str| PackagePattern::try_from(text.to_owned()).expect(text);
        for (text, name, meant) in [
            ("etcd", "etcd", true),
            ("etcd", "etcd-server", false),
            ("python*-etcd", "python3-etcd", true),
            ("python*-etcd", "python-etcd", true),
            ("python*-etcd", "python3-etcd3gw", false),
            ("lib*-*1", "libipset-x11", true),
            ("lib*", "lib", true),
            ("a*ba", "aba", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(pattern(text).matches(name), meant, "{text} {name}");
        }
        for bad in ["", "*", "*-dev", "-y", "a b", "a=1"] {
            assert!(PackagePattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn program_names_lead_nowhere_else() {
        assert!(ProgramName::try_from("etcd-3.3".to_owned()).is_ok());
        for bad in ["", "/usr/bin/sudo", "../etcd", ".", "-x", "a b", "a/b"] {
            let error = ProgramName::try_from(bad.to_owned()).expect_err(bad).to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn names_are_those_of_the_data() {
        let step = Action::IniSet(IniSet {
            file: "/etc/neutron/neutron.conf".into(),
            section: "oslo_concurrency".into(),
            key: "lock_path".into(),
            value: "$state_path/lock".into(),
        });
        let json = serde_json::to_value(&step).expect("json");
        assert_eq!(json["action"], step.name());
        assert_eq!(serde_json::from_value::<Action>(json).expect("an action"), step);
    }
}
