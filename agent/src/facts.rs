//! Observes the node: what it runs on, what it is for, which versions it has. Changes nothing and decides nothing.

mod etcd;
mod mounts;
mod roles;
mod versions;

use crate::etcd::{EtcdSettings, of_every_process};
use crate::host::{Command, Host};
use crate::os::Os;
use crate::os::os_release::{OsRelease, PATHS};
use crate::os::systemd::BOOTED;
use crate::os::upstart;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeSet;
use std::path::Path;
use wavegate_common::etcd::Calico;
use wavegate_common::facts::{Component, Facts};
use wavegate_common::id::NodeId;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::{Platform, Release, Role, ServiceManager};

/// Where the kernel tells one boot from another.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Observes the node. `extra_roles` are those that the agent's configuration adds to what is found, `settings` what it says of
/// access to etcd.
///
/// # Errors
/// If the system is not one that we know, or its package database or service manager can't be asked.
pub fn observe(
    host: &dyn Host,
    node: NodeId,
    extra_roles: &BTreeSet<Role>,
    settings: &EtcdSettings,
) -> Result<Facts> {
    let os = Os { platform: platform(host)? };
    let system = host.system();
    let versions = versions::versions(host, &os)?;
    let release = versions.get(&Component::Neutron).and_then(|version| Release::of_neutron(version));
    let here = of_every_process(host, &os, settings)?;
    let etcd = etcd::observe(host, settings, Calico::of(&versions), &here)?;
    let mut roles = roles::roles(host, &os, &here)?;
    roles.extend(etcd.as_ref().map(|etcd| etcd.part.role()));
    roles.extend(extra_roles);
    Ok(Facts {
        node,
        observed_at: host.now(),
        hostname: system.hostname,
        kernel: system.kernel,
        boot_id: read(host, BOOT_ID)?.unwrap_or_default().trim().to_owned(),
        dhcp_agent: roles::dhcp_agent(host, &os)?,
        etcd,
        platform: os.platform,
        roles,
        versions,
        release,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Finds out what the node runs on.
///
/// # Errors
/// If there is no os-release, it can't be read or names a system of neither family, or if neither systemd nor an upstart
/// that reads override files runs the services.
pub fn platform(host: &dyn Host) -> Result<Platform> {
    let mut found = None;
    for path in PATHS {
        if found.is_none() {
            found = read(host, path)?.map(|text| (path, text));
        }
    }
    let Some((path, text)) = found else {
        bail!("neither {} nor {} is there, so the operating system is not known", PATHS[0], PATHS[1]);
    };
    let release = OsRelease::parse(&text).with_context(|| format!("reading {path}, see os-release(5)"))?;
    let Some(family) = release.family() else {
        bail!(
            "'{}' is neither of Debian's nor of Red Hat's family; wavegate runs on those; if it derives from one, \
             say so with ID_LIKE in {}",
            release.id,
            PATHS[0]
        );
    };
    let has_dnf = host.which("dnf").is_some();
    Ok(Platform {
        family,
        package_manager: release.package_manager(family, has_dnf),
        service_manager: service_manager(host)?,
        id: release.id,
        version_id: release.version_id,
        pretty_name: release.pretty_name,
    })
}

/// What runs the services: what is there counts, not the release's name.
fn service_manager(host: &dyn Host) -> Result<ServiceManager> {
    if host.exists(Path::new(BOOTED)) {
        return Ok(ServiceManager::Systemd);
    }
    let answer = host.run(&upstart::version());
    let Some(exit) = answer.ok().filter(|exit| exit.code == 0) else {
        bail!(
            "neither systemd ({BOOTED}) nor upstart ('initctl version') runs this node's services; wavegate runs on \
             those two"
        );
    };
    let version = upstart::read_version(&exit.stdout).context("asking upstart for its version")?;
    if version < upstart::FIRST_WITH_OVERRIDES {
        let (major, minor) = upstart::FIRST_WITH_OVERRIDES;
        bail!(
            "upstart {}.{} reads no override files, so that no service could be kept down; wavegate runs on {major}.{minor} \
             and later (Ubuntu 14.04)",
            version.0,
            version.1
        );
    }
    Ok(ServiceManager::Upstart)
}

/// The type of the file system that a path is on, links followed, e.g. `ext4` or `tmpfs`; `None` if that can't be told. Nothing
/// needs to be there yet.
pub(crate) fn filesystem_of(host: &dyn Host, path: &Path) -> Option<String> {
    let mounts = read(host, "/proc/self/mountinfo").ok().flatten()?;
    let named = path.to_string_lossy();
    let followed =
        host.run(&Command::new(["readlink", "-m", "--", &named])).ok().filter(|exit| exit.code == 0);
    let followed =
        followed.map(|exit| exit.stdout.trim_end().to_owned()).filter(|path| path.starts_with('/'));
    mounts::filesystem_of(&mounts, Path::new(followed.as_deref().unwrap_or(&named))).map(str::to_owned)
}

/// A file as text; bytes that are none are replaced.
fn read(host: &dyn Host, path: &str) -> Result<Option<String>> {
    let content = host.read(Path::new(path)).with_context(|| format!("observing {path}"))?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

/// A step's error as the cause of what can't be observed.
fn unobserved(error: &StepError) -> anyhow::Error {
    anyhow!("{error}: {}; {}", error.output.join(" / "), error.next)
}

#[cfg(test)]
mod tests;
