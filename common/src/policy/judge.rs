//! What of an action is outside a policy. Every argument of every action is named here, so that a new one can't be
//! forgotten.

use super::{IniKeys, Policy, Processes, Programs, UrlPrefix};
use crate::action::{
    Action, EtcdBackUp, EtcdCheckCluster, EtcdCheckEndpoint, EtcdCheckMember, EtcdInstallArchive,
    EtcdInstallPackages, HttpCheck, IniSet, PackageInstall, PackageSpec, PipUninstall, ProcessCheck,
    ProcessKillStale, PythonInstallArchive, Scope, ServiceCheck, ServiceDisable, ServiceRestart,
    VersionCheck,
};
use std::fmt;

/// One thing of an order that a policy does not permit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// What is outside, e.g. `package openssh-server`.
    pub what: String,
    /// The key that would have to permit it, e.g. `services.restart`; `None` for what no policy permits.
    pub key: Option<&'static str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write!(f, "{} is not permitted by '{key}'", self.what),
            None => write!(f, "{}; no policy permits that", self.what),
        }
    }
}

impl Policy {
    /// Everything of an action that is outside the policy; empty if it is permitted.
    #[must_use]
    pub fn refusals(&self, action: &Action) -> Vec<Refusal> {
        let mut judge = Judge { policy: self, refusals: Vec::new() };
        match action {
            Action::PackageInstall(action) => judge.package_install(action),
            Action::EtcdInstallArchive(action) => judge.etcd_install_archive(action),
            Action::EtcdInstallPackages(action) => judge.etcd_install_packages(action),
            Action::EtcdBackUp(EtcdBackUp { directory }) => judge.etcd_backups(directory),
            // They look at the node's own cluster alone, and the probe that one writes has a fixed name and goes away.
            Action::EtcdCheckCluster(EtcdCheckCluster { within_s: _, max_lag: _ })
            | Action::EtcdCheckMember(EtcdCheckMember { within_s: _, settle_s: _, max_lag: _ })
            | Action::EtcdCheckEndpoint(EtcdCheckEndpoint { within_s: _ }) => {}
            Action::PipUninstall(PipUninstall { distribution }) => {
                judge.distribution(distribution, &self.python.uninstall, "python.uninstall");
            }
            Action::PythonInstallArchive(action) => judge.python_install_archive(action),
            Action::ServiceRestart(action) => judge.service_restart(action),
            Action::ServiceDisable(ServiceDisable { unit }) => {
                judge.service(unit, &[&self.services.disable], "services.disable");
            }
            Action::ProcessKillStale(action) => judge.process_kill_stale(action),
            Action::IniSet(action) => judge.ini_set(action),
            Action::ServiceCheck(action) => judge.service_check(action),
            Action::ProcessCheck(ProcessCheck { program, pid_files, within_s: _ }) => {
                judge.processes(program, pid_files);
            }
            // What is asked for its version is one of a closed set.
            Action::VersionCheck(VersionCheck { component: _, package }) => {
                judge.looked_at(std::slice::from_ref(package));
            }
            Action::HttpCheck(HttpCheck { url, contains: _, within_s: _ }) => {
                judge.url(url, &self.http_checks, "http_checks");
            }
        }
        judge.refusals.dedup();
        judge.refusals
    }

    /// Whether a transaction of named packages may change this one.
    #[must_use]
    pub fn permits_package(&self, name: &str) -> bool {
        self.packages.iter().any(|pattern| pattern.matches(name))
    }
}

struct Judge<'p> {
    policy: &'p Policy,
    refusals: Vec<Refusal>,
}

impl Judge<'_> {
    fn refuse(&mut self, what: String, key: &'static str) {
        self.refusals.push(Refusal { what, key: Some(key) });
    }

    fn package_install(&mut self, action: &PackageInstall) {
        let PackageInstall {
            packages,
            if_installed,
            scope,
            also,
            allow_removals,
            allow_downgrades,
            keep_down,
        } = action;
        // A pattern is covered where it would be as a name: the policy's '*' takes the order's along with what it stands
        // for, and no other part of the policy's pattern can.
        let patterns = also.iter().map(|pattern| pattern.as_str());
        let names = packages.iter().chain(if_installed).map(|spec| spec.name.as_str());
        for name in names.chain(patterns).filter(|name| !self.policy.permits_package(name)) {
            self.refuse(format!("package {name}"), "packages");
        }
        let Policy { whole_distribution, removals, downgrades, .. } = *self.policy;
        if *scope == Scope::Distribution && !whole_distribution {
            self.refuse("an upgrade of the whole distribution".to_owned(), "whole_distribution");
        }
        if *allow_removals && !removals {
            self.refuse("the removal of packages".to_owned(), "removals");
        }
        if *allow_downgrades && !downgrades {
            self.refuse("going back to older versions of packages".to_owned(), "downgrades");
        }
        keep_down.iter().for_each(|unit| self.some_service(unit));
    }

    fn etcd_install_archive(&mut self, action: &EtcdInstallArchive) {
        let EtcdInstallArchive { url, sha256: _, binaries, directory, unit, within_s: _, max_lag: _ } =
            action;
        self.url(url, &self.policy.archives, "archives");
        let permitted = |of: &&Programs| same_directory(&of.directory, directory);
        let of: Vec<&Programs> = self.policy.programs.iter().filter(permitted).collect();
        for program in binaries.iter().filter(|name| !of.iter().any(|of| of.names.contains(name))) {
            self.refuse(format!("program {program} in {directory}"), "programs");
        }
        self.service(unit, &[&self.policy.services.restart], "services.restart");
    }

    fn etcd_install_packages(&mut self, action: &EtcdInstallPackages) {
        let EtcdInstallPackages { packages, also, allow_downgrades, unit, within_s: _, max_lag: _ } = action;
        self.package_install(&PackageInstall {
            packages: packages.clone(),
            also: also.clone(),
            allow_downgrades: *allow_downgrades,
            ..PackageInstall::default()
        });
        self.service(unit, &[&self.policy.services.restart], "services.restart");
    }

    fn etcd_backups(&mut self, directory: &str) {
        if !self.policy.etcd.backups.iter().any(|permitted| same_directory(permitted, directory)) {
            self.refuse(format!("backing etcd up to {directory}"), "etcd.backups");
        }
    }

    fn python_install_archive(&mut self, action: &PythonInstallArchive) {
        let PythonInstallArchive { distribution, version: _, url, sha256: _ } = action;
        self.distribution(distribution, &self.policy.python.install, "python.install");
        self.url(url, &self.policy.archives, "archives");
    }

    fn service_restart(&mut self, action: &ServiceRestart) {
        let ServiceRestart { unit, newer_than_packages, newer_than_steps: _, enable: _ } = action;
        self.service(unit, &[&self.policy.services.restart], "services.restart");
        self.looked_at(newer_than_packages);
    }

    fn process_kill_stale(&mut self, action: &ProcessKillStale) {
        let ProcessKillStale { program, pid_files, packages, owner } = action;
        self.processes(program, pid_files);
        self.looked_at(packages);
        owner.iter().for_each(|unit| self.some_service(unit));
    }

    fn ini_set(&mut self, action: &IniSet) {
        let IniSet { file, section, key, value } = action;
        let permitted = |keys: &IniKeys| {
            (&keys.file, &keys.section) == (file, section) && keys.keys.iter().any(|known| known == key)
        };
        if !self.policy.ini.iter().any(permitted) {
            self.refuse(format!("key {key} of section [{section}] in {file}"), "ini");
        }
        if value.chars().any(char::is_control) {
            let what = format!("the value of {key} has a line break or a control character");
            self.refusals.push(Refusal { what, key: None });
        }
    }

    fn service_check(&mut self, action: &ServiceCheck) {
        let ServiceCheck { active, inactive, newer_than_packages } = action;
        active.iter().chain(inactive).for_each(|unit| self.some_service(unit));
        self.looked_at(newer_than_packages);
    }

    fn service(&mut self, unit: &str, lists: &[&Vec<String>], key: &'static str) {
        if !lists.iter().any(|list| list.iter().any(|known| known == unit)) {
            self.refuse(format!("service {unit}"), key);
        }
    }

    /// A service that is looked at, or kept from being started by others.
    fn some_service(&mut self, unit: &str) {
        let services = &self.policy.services;
        self.service(unit, &[&services.restart, &services.disable], "services");
    }

    fn distribution(&mut self, name: &str, list: &[String], key: &'static str) {
        if !list.iter().any(|known| known == name) {
            self.refuse(format!("Python distribution {name}"), key);
        }
    }

    fn processes(&mut self, program: &str, pid_files: &str) {
        let permitted =
            |of: &Processes| of.program.as_str() == program && same_directory(&of.pid_files, pid_files);
        if !self.policy.processes.iter().any(permitted) {
            self.refuse(format!("ending or checking processes of {program} in {pid_files}"), "processes");
        }
    }

    fn url(&mut self, url: &str, list: &[UrlPrefix], key: &'static str) {
        let covered = list.iter().map(|prefix| prefix.covers(url)).collect::<Result<Vec<_>, _>>();
        match covered {
            Ok(covered) if covered.contains(&true) => {}
            Ok(_) => self.refuse(format!("URL {url}"), key),
            Err(error) => self.refusals.push(Refusal { what: error.to_string(), key: None }),
        }
    }

    fn looked_at(&mut self, packages: &[String]) {
        let is_name =
            |name: &String| PackageSpec::try_from(name.clone()).is_ok_and(|spec| spec.version.is_none());
        for name in packages.iter().filter(|name| !is_name(name)) {
            let what = format!("'{}' is no package's name", name.escape_debug());
            self.refusals.push(Refusal { what, key: None });
        }
    }
}

fn same_directory(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}
