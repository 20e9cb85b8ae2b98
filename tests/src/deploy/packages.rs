//! Wavegate's packages as they were made, and their way onto a host and off it by the package manager that its users have.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::lab::{Family, Node, System};

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// The agent, on every node.
    Agent,
    /// The coordinator and the CLI.
    Coordinator,
}

impl Package {
    /// Its name, which is its service's too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "wavegate-agent",
            Self::Coordinator => "wavegate-coordinator",
        }
    }
}

/// What goes into the packages.
const SOURCES: [&str; 7] =
    ["Cargo.lock", "agent/src", "common/procedures", "common/src", "coordinator/src", "packaging", "proto"];

/// A directory of packages: a .deb and an .rpm of each.
pub struct Packages(PathBuf);

impl Packages {
    /// Those of `WAVEGATE_PACKAGES`, or of `make lab-packages`.
    ///
    /// # Errors
    ///
    /// When those of `make lab-packages` are not there, or older than what they are made of.
    pub fn made() -> Result<Self> {
        if let Some(named) = std::env::var_os("WAVEGATE_PACKAGES") {
            return Ok(Self(PathBuf::from(named)));
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let made = Self(workspace.join("target/packages"));
        let written = |path: &Path| -> Result<SystemTime> {
            let modified = path.metadata().and_then(|metadata| metadata.modified());
            modified.with_context(|| format!("looking at {}", path.display()))
        };
        let when = written(&made.file(Package::Coordinator, Family::Rpm)?)?;
        for source in SOURCES {
            for file in files(&workspace.join(source))? {
                if written(&file)? > when {
                    bail!(
                        "{} is newer than the packages in {}: run `make lab-packages`",
                        file.display(),
                        made.0.display()
                    );
                }
            }
        }
        Ok(made)
    }

    /// The same programs in packages of a later revision, for upgrades of wavegate itself.
    #[must_use]
    pub fn later(&self) -> Self {
        Self(self.0.join("later"))
    }

    /// The file of a package for a family.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one: says what to run.
    pub fn file(&self, package: Package, family: Family) -> Result<PathBuf> {
        let (mark, end) = match family {
            Family::Apt => ('_', ".deb"),
            Family::Rpm => ('-', ".rpm"),
        };
        let begin = format!("{}{mark}", package.name());
        let entries = std::fs::read_dir(&self.0)
            .with_context(|| format!("no packages in {}: run `make lab-packages`", self.0.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("listing {}", self.0.display()))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(&begin) && name.ends_with(end) {
                found.push(path);
            }
        }
        match found.as_slice() {
            [file] => Ok(file.clone()),
            [] => bail!("no {begin}*{end} in {}: run `make lab-packages`", self.0.display()),
            several => bail!("more than one {begin}*{end}: {several:?}: remove those that are not meant"),
        }
    }

    /// Installs a package as a user does who has downloaded it, or brings what is installed to it.
    ///
    /// # Errors
    ///
    /// When there is no such package, or the package manager fails: with what it said.
    pub fn install(&self, package: Package, node: &Node) -> Result<String> {
        let to = self.put(package, node)?;
        let said = node.run(&[installing(node.system()), &[&to]].concat());
        node.run(&["rm", &to])?;
        said
    }

    /// Copies a package onto a node, and says where it is there.
    ///
    /// # Errors
    ///
    /// When there is no such package, or the node is off.
    pub fn put(&self, package: Package, node: &Node) -> Result<String> {
        let file = self.file(package, node.family())?;
        let name = file.file_name().with_context(|| format!("{}: no file name", file.display()))?;
        let to = format!("/root/{}", name.display());
        node.put_file(&file, &to, 0o644)?;
        Ok(to)
    }
}

/// A file, or all files below a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        found.extend(files(&entry?.path())?);
    }
    Ok(found)
}

/// What installs a package's file. On Ubuntu 14.04 apt-get takes no file.
#[must_use]
pub const fn installing(system: System) -> &'static [&'static str] {
    match system {
        System::Debian => &[
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-q",
            "-y",
            "-o",
            "DPkg::Lock::Timeout=300",
            "install",
        ],
        System::Trusty => &["dpkg", "--install"],
        System::Rocky9 => &["dnf", "-y", "install"],
        System::Centos7 => &["yum", "-y", "install"],
    }
}

/// What takes an installed package away. `apt-get`, `dnf` and `yum` have the same word for it.
#[must_use]
pub const fn removing(system: System) -> &'static [&'static str] {
    match system {
        System::Debian | System::Trusty => {
            &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "remove"]
        }
        System::Rocky9 => &["dnf", "-y", "remove"],
        System::Centos7 => &["yum", "-y", "remove"],
    }
}

/// Takes a package away; its configuration and state stay.
///
/// # Errors
///
/// When the package manager fails: with what it said.
pub fn remove(package: Package, node: &Node) -> Result<String> {
    node.run(&[removing(node.system()), &[package.name()]].concat())
}

/// Takes a package away with its configuration and state. rpm knows no such thing.
///
/// # Errors
///
/// When the package manager fails: with what it said.
pub fn purge(package: Package, node: &Node) -> Result<String> {
    node.run(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "purge", package.name()])
}
