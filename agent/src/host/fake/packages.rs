//! Packages of a fake machine: what installing, updating and removing them does to it. The programs that are asked to do
//! so are in `package_programs`.

use super::{FakeMachine, FakeService, services};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use wavegate_common::id::Timestamp;
use wavegate_common::platform::OsFamily;

/// A package in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakePackage {
    /// Its version, with epoch where it has one.
    pub version: String,
    /// What it needs: `name` or `name=version`.
    pub depends: Vec<String>,
    /// Packages that are removed when it is installed.
    pub replaces: Vec<String>,
    /// Files that are no programs: path and content.
    pub files: Vec<(PathBuf, String)>,
    /// Programs: path and what they print when run with `--version`.
    pub programs: Vec<(PathBuf, String)>,
    /// Services that it brings.
    pub units: Vec<FakeUnit>,
    /// Whether its script fails after it was unpacked.
    pub breaks: bool,
    /// Services that its script stops and leaves so.
    pub leaves_down: Vec<String>,
}

/// A service as a package brings it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeUnit {
    /// Its name, without `.service`.
    pub name: String,
    /// What it is when the package is new on the machine.
    pub service: FakeService,
    /// Whether the first installation enables and starts it (unless it is masked).
    pub starts: bool,
    /// Whether an update restarts it, if it runs.
    pub restarts: bool,
}

/// How far an installed package is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PackageState {
    /// Its script did not run or failed.
    HalfConfigured,
    /// Completely.
    #[default]
    Configured,
}

/// A package on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeInstalled {
    /// Its version.
    pub version: String,
    /// When it was unpacked.
    pub installed_at: Timestamp,
    /// How far it is.
    pub state: PackageState,
    /// Its files, programs included.
    pub files: Vec<PathBuf>,
    /// What it is tied to: `name` or `name=version`.
    pub depends: Vec<String>,
}

/// A transaction, worked out.
#[derive(Debug, Default)]
pub(super) struct Solution {
    /// Packages to install or update, in order.
    pub(super) installs: Vec<String>,
    /// Packages to remove.
    pub(super) removes: BTreeSet<String>,
}

impl FakeMachine {
    /// Installs a package as its package manager would, with its scripts.
    ///
    /// # Errors
    /// What the script says, if the package is one that breaks.
    pub fn install(&mut self, name: &str, package: &FakePackage) -> Result<(), String> {
        let update = self.unpack(name, package);
        self.configure(name, package, update)
    }

    pub(super) fn unpack(&mut self, name: &str, package: &FakePackage) -> bool {
        self.now.0 += 1000;
        for (path, content) in &package.files {
            // A configuration file stays as it is, if it is there, and the package's own goes beside it.
            match self.files.get(path) {
                Some(there) if path.starts_with("/etc") => {
                    if there.content != content.as_bytes() {
                        self.put_file(beside(self.platform.family, path), content.as_str());
                    }
                }
                Some(_) | None => self.put_file(path.clone(), content.as_str()),
            }
        }
        for (path, version_output) in &package.programs {
            self.put_program(path.clone(), version_output);
        }
        let files = package.files.iter().chain(&package.programs).map(|(path, _)| path.clone()).collect();
        if self.platform.family == OsFamily::Debian {
            self.put_file(format!("/var/lib/dpkg/info/{name}.list"), "");
        }
        let installed = FakeInstalled {
            version: package.version.clone(),
            installed_at: self.now,
            state: PackageState::HalfConfigured,
            files,
            depends: package.depends.clone(),
        };
        let update = self.installed.insert(name.to_owned(), installed).is_some();
        self.database_is_written();
        update
    }

    /// The file of the package database is made anew whenever something in it changes. What is in it nobody reads.
    pub(super) fn database_is_written(&mut self) {
        self.put_file(
            match self.platform.family {
                OsFamily::Debian => "/var/lib/dpkg/status",
                OsFamily::RedHat => "/var/lib/rpm/Packages",
            },
            "",
        );
    }

    fn configure(&mut self, name: &str, package: &FakePackage, update: bool) -> Result<(), String> {
        if package.breaks && self.platform.family == OsFamily::Debian {
            return Err(format!(
                "installed {name} package post-installation script subprocess returned error exit status 1"
            ));
        }
        for unit in &package.units {
            services::configured(self, unit, update);
        }
        for unit in &package.leaves_down {
            services::stop(self, unit);
        }
        if let Some(installed) = self.installed.get_mut(name) {
            installed.state = PackageState::Configured;
        }
        self.database_is_written();
        Ok(())
    }

    /// Removes a package and its files.
    pub fn remove(&mut self, name: &str) {
        let files = self.installed.remove(name).map_or_else(Vec::new, |installed| installed.files);
        self.files.retain(|path, _| !files.contains(path));
        self.database_is_written();
    }

    fn satisfied(&self, solution: &Solution, need: &str) -> bool {
        let (name, version) = split(need);
        let installed = self.installed.get(name).map(|installed| installed.version.as_str());
        let coming = solution.installs.iter().any(|coming| coming == name);
        let will_be =
            if coming { self.available.get(name).map(|package| package.version.as_str()) } else { installed };
        will_be.is_some_and(|will_be| version.is_none_or(|version| version == will_be))
    }

    fn want(&self, solution: &mut Solution, spec: &str) -> Result<(), String> {
        let (name, version) = split(spec);
        let installed = self.installed.get(name).map(|installed| installed.version.as_str());
        if version.is_some() && version == installed {
            return Ok(());
        }
        let fits = |offered: &&FakePackage| version.is_none_or(|version| offered.version == version);
        let Some(offered) = self.available.get(name).filter(fits) else {
            let there = installed.is_some() && version.is_none();
            return if there { Ok(()) } else { Err(name.to_owned()) };
        };
        let newer = version.is_none() && installed.is_some_and(|there| is_older(&offered.version, there));
        if newer
            || installed == Some(offered.version.as_str())
            || solution.installs.iter().any(|coming| coming == name)
        {
            return Ok(());
        }
        solution
            .removes
            .extend(offered.replaces.iter().filter(|name| self.installed.contains_key(*name)).cloned());
        // The package counts as coming while its own needs are looked at, so that a circle of needs ends.
        solution.installs.push(name.to_owned());
        for need in &offered.depends {
            if !self.satisfied(solution, need) {
                self.want(solution, need)?;
            }
        }
        solution.installs.retain(|coming| coming != name);
        solution.installs.push(name.to_owned());
        Ok(())
    }

    pub(super) fn solve(&self, specs: &[String], everything: bool) -> Result<Solution, String> {
        let mut solution = Solution::default();
        for spec in specs {
            self.want(&mut solution, spec)?;
        }
        if everything {
            for name in self.installed.keys() {
                self.want(&mut solution, name)?;
            }
        }
        // What is tied to a version that goes away goes up too where dnf finds a newer one, and goes with it elsewhere.
        let mut tied = self.tied(&solution);
        if self.platform.family == OsFamily::RedHat {
            for name in tied {
                self.want(&mut solution, &name)?;
            }
            tied = self.tied(&solution);
        }
        solution.removes.extend(tied);
        Ok(solution)
    }

    /// Installed packages whose needs the solution no longer meets.
    fn tied(&self, solution: &Solution) -> Vec<String> {
        let unmet =
            |installed: &FakeInstalled| installed.depends.iter().any(|need| !self.satisfied(solution, need));
        let tied =
            self.installed.iter().filter(|(_, installed)| unmet(installed)).map(|(name, _)| name.clone());
        tied.filter(|name| !solution.installs.contains(name)).collect()
    }

    pub(super) fn carry_out(&mut self, solution: &Solution) -> Result<(), String> {
        for name in &solution.removes {
            self.remove(name);
        }
        let mut broken = Ok(());
        for name in &solution.installs {
            let Some(package) = self.available.get(name).cloned() else { continue };
            broken = broken.and(self.install(name, &package));
        }
        broken
    }

    pub(super) fn configure_pending(&mut self) -> Result<(), String> {
        for name in self.half_configured() {
            let package = self.available.get(&name).cloned().unwrap_or_default();
            self.configure(&name, &package, true)?;
        }
        Ok(())
    }

    pub(super) fn half_configured(&self) -> Vec<String> {
        let pending = self.installed.iter().filter(|(_, it)| it.state == PackageState::HalfConfigured);
        pending.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn owner_of(&self, path: &str) -> Option<&str> {
        let owns = |file: &PathBuf| file == Path::new(path) || file.starts_with(path);
        let found = self.installed.iter().find(|(_, installed)| installed.files.iter().any(owns));
        found.map(|(name, _)| name.as_str())
    }
}

/// Whether the first version is older, by the numbers in both.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    numbers(version) < numbers(than)
}

/// Where a package's own configuration file goes if the node's is another.
fn beside(family: OsFamily, path: &Path) -> PathBuf {
    let suffix = match family {
        OsFamily::Debian => "dpkg-dist",
        OsFamily::RedHat => "rpmnew",
    };
    format!("{}.{suffix}", path.display()).into()
}

fn split(spec: &str) -> (&str, Option<&str>) {
    spec.split_once('=').map_or((spec, None), |(name, version)| (name, Some(version)))
}

/// What `/proc/PID/exe` says of a program whose file was replaced: rpm renames the old file first.
pub(super) fn replaced_name(machine: &FakeMachine, exe: &Path) -> PathBuf {
    match machine.platform.family {
        OsFamily::Debian => format!("{} (deleted)", exe.display()).into(),
        OsFamily::RedHat => format!("{};557576d7 (deleted)", exe.display()).into(),
    }
}
