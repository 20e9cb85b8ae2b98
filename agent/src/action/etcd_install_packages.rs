//! `etcd.install_packages`: etcd by its packages, fetched beforehand and installed while the service is down. What is around
//! that for a member is in `etcd_member`, how packages are installed in `package_install`.

use super::etcd_member::{Around, Stopping, around};
use super::package_install::{self, Prepared};
use super::{Applied, Check, Context, exit_failed, failed, service_restart};
use crate::host::{Command, exe};
use std::path::PathBuf;
use wavegate_common::action::{EtcdInstallPackages, PackageInstall, PackageSpec, ServiceRestart};
use wavegate_common::etcd::EtcdVersion;
use wavegate_common::outcome::{Change, StepError};

/// Packages that bring the server, the likelier first: where it comes in several, `etcd` is an empty one.
const SERVERS: [&str; 2] = ["etcd-server", "etcd"];

/// What would change: the version that will run, packages, and the service.
///
/// # Errors
/// [`StepError`] if the service is not there or kept down, or the packages can't be installed as the step wants.
pub fn check(action: &EtcdInstallPackages, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let found = Around::of(&action.unit, cx)?;
    let unit = |what: &str| Change::Service { unit: action.unit.clone(), what: what.to_owned() };
    let packages = match package_install::check(&packages(action), cx)? {
        Check::WouldChange { changes } => Some(changes),
        Check::AlreadySo { .. } => None,
    };
    let Some(mut changes) = packages else {
        return match restart(action, &found, cx)? {
            None if found.stopped_by_us(cx) => Ok(Check::WouldChange { changes: vec![unit("started")] }),
            None => {
                found.settle(&action.unit, cx)?;
                Ok(Check::AlreadySo { evidence: evidence(action, &found, cx)? })
            }
            Some(why) => Ok(Check::WouldChange { changes: vec![why] }),
        };
    };
    let to = match brought(action, &changes, &found, cx) {
        // Once it is down nothing is judged any more, it is to come up again.
        Err(_) if found.down => None,
        to => to?,
    };
    if let Some(to) = to {
        let from = found.running(cx).map(|version| version.to_string());
        changes.insert(0, Change::Version { of: "etcd".to_owned(), from, to: to.to_string() });
    }
    if !found.down || found.stopped_by_us(cx) {
        changes.push(unit("stopped, and started with the new packages"));
    }
    Ok(Check::WouldChange { changes })
}

/// Fetches, stops, installs, starts.
///
/// # Errors
/// As [`check`], and those of what is around it: the member can't be taken down, its data is not what it was.
pub fn apply(action: &EtcdInstallPackages, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let found = Around::of(&action.unit, cx)?;
    let packages = packages(action);
    // Everything that can fail without touching etcd; once it is down there is nothing to prepare, it is to come up again.
    let to = if found.down { None } else { Some(version_to_come(action, &packages, &found, cx)?) };
    let stopping = Stopping { unit: &action.unit, within_s: action.within_s, max_lag: action.max_lag, to };
    let changes = around(&stopping, &found, cx, &mut |cx| {
        package_install::apply_fetched(&packages, cx).map(|applied| applied.changes)
    })?;
    let evidence = evidence(action, &Around::of(&action.unit, cx)?, cx)?;
    Ok(Applied { changes, evidence })
}

/// The transaction, in which etcd must not be started or stopped by the packages' scripts.
fn packages(action: &EtcdInstallPackages) -> PackageInstall {
    PackageInstall {
        packages: action.packages.clone(),
        also: action.also.clone(),
        allow_downgrades: action.allow_downgrades,
        keep_down: vec![action.unit.clone()],
        ..PackageInstall::default()
    }
}

/// Fetches the packages and tells which version of etcd will run with them.
fn version_to_come(
    action: &EtcdInstallPackages,
    packages: &PackageInstall,
    found: &Around,
    cx: &mut Context<'_>,
) -> Result<EtcdVersion, StepError> {
    let Prepared { simulated, .. } = package_install::prepare(packages, cx)?;
    let installs = simulated.installs.iter();
    let changes: Vec<Change> = installs
        .map(|(name, to)| Change::Package {
            name: cx.os.plain_name(name).to_owned(),
            from: None,
            to: Some(to.clone()),
        })
        .collect();
    if let Some(to) = brought(action, &changes, found, cx)? {
        return Ok(to);
    }
    installed(found, cx).map_err(|error| StepError {
        what: format!("which version of etcd {} will run can't be told: {}", action.unit, error.what),
        ..error
    })
}

/// The version of etcd that a transaction with these changes brings; `None` if etcd's server stays as it is. Whose package has
/// a name of its own is known by the program's file.
///
/// # Errors
/// [`StepError`] if one of the named packages would be installed and it can't be told which version of etcd would run then.
fn brought(
    action: &EtcdInstallPackages,
    changes: &[Change],
    found: &Around,
    cx: &Context<'_>,
) -> Result<Option<EtcdVersion>, StepError> {
    let program = program(found, cx);
    let owner = program.as_deref().map(|program| cx.os.owner(cx.host, program)).transpose()?.flatten();
    let [server, whole] = SERVERS;
    let candidates = [Some(server), owner.as_deref(), Some(whole)];
    if let Some(to) = candidates.into_iter().flatten().find_map(|name| installs(changes, name)?.parse().ok())
    {
        return Ok(Some(to));
    }
    let named: Vec<String> = action
        .packages
        .iter()
        .filter_map(|spec| Some(format!("{} {}", spec.name, installs(changes, &spec.name)?)))
        .collect();
    let owner_stays = owner.as_deref().is_some_and(|owner| {
        action.packages.iter().any(|spec| spec.name == owner)
            && !changes.iter().any(|change| matches!(change, Change::Package { name, .. } if name == owner))
    });
    if named.is_empty() || owner_stays {
        return Ok(None);
    }
    let program = program.unwrap_or_else(|| PathBuf::from("its program"));
    let owner = owner.map_or_else(|| "to no package".to_owned(), |owner| format!("to package {owner}"));
    Err(StepError {
        what: format!(
            "which version of etcd the service {} would run with {} can't be told: {} belongs {owner}, and no version of etcd is read from \
             what would be installed of that, {server} and {whole}",
            action.unit,
            named.join(", "),
            program.display(),
        ),
        output: Vec::new(),
        next: "name the package that brings etcd's server, whose version begins with etcd's own (--set \
               etcd_packages=NAME=VERSION), and see that the service runs that package's program; nothing was stopped"
            .to_owned(),
    })
}

/// The version in which these changes install a package.
fn installs<'c>(changes: &'c [Change], package: &str) -> Option<&'c str> {
    changes.iter().find_map(|change| match change {
        Change::Package { name, to: Some(to), .. } if name == package => Some(to.as_str()),
        Change::Package { .. }
        | Change::Version { .. }
        | Change::Service { .. }
        | Change::Process { .. }
        | Change::File { .. } => None,
    })
}

/// The file of the program that the service's process runs; `None` if there is none.
fn program(found: &Around, cx: &Context<'_>) -> Option<PathBuf> {
    let of_process = found.here.process.as_ref().map(|process| {
        let link = process.exe.to_string_lossy().into_owned();
        PathBuf::from(exe::path_of(&link))
    });
    // What runs behind a shell is found by its name.
    let program = of_process.filter(|path| path.file_name().is_some_and(|name| name == "etcd"));
    program.or_else(|| cx.host.which("etcd"))
}

/// The version that the program of the service's process has on the disk.
///
/// # Errors
/// [`StepError`] if the program is not there or does not say.
pub(super) fn installed(found: &Around, cx: &Context<'_>) -> Result<EtcdVersion, StepError> {
    let next = "see that 'etcd --version' works on the node, then retry";
    let program = program(found, cx).unwrap_or_else(|| PathBuf::from("etcd"));
    let program = program.to_string_lossy();
    let command = Command::new([program.as_ref(), "--version"]);
    let exit = cx.host.run(&command).map_err(|error| failed(&error, next))?;
    let told = format!("{}\n{}", exit.stdout, exit.stderr);
    told.parse().map_err(|_| {
        exit_failed(
            format!("'{program} --version' ended with exit code {} and names no version", exit.code),
            &exit,
            next,
        )
    })
}

/// Why a service that runs has to be restarted although its packages are as they are wanted; `None` if it has not, and for one
/// that is down.
fn restart(
    action: &EtcdInstallPackages,
    found: &Around,
    cx: &mut Context<'_>,
) -> Result<Option<Change>, StepError> {
    if found.down {
        return Ok(None);
    }
    let names = action.packages.iter().map(|spec: &PackageSpec| spec.name.clone()).collect();
    let restart = ServiceRestart {
        unit: action.unit.clone(),
        newer_than_packages: names,
        newer_than_steps: Vec::new(),
        enable: false,
    };
    match service_restart::check(&restart, cx)? {
        Check::AlreadySo { .. } => Ok(None),
        Check::WouldChange { changes } => Ok(changes.into_iter().next()),
    }
}

fn evidence(action: &EtcdInstallPackages, found: &Around, cx: &mut Context<'_>) -> Result<String, StepError> {
    let names: Vec<&str> = action.packages.iter().map(|spec| spec.name.as_str()).collect();
    let versions = cx.os.versions(cx.host, &names)?;
    let mut all: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    all.push(match (found.down, found.state.main_pid) {
        (true, _) => format!("{} is down, as it was", action.unit),
        (false, Some(pid)) => format!("{} runs it as process {pid}", action.unit),
        (false, None) => format!("{} runs it", action.unit),
    });
    Ok(all.join(", "))
}

#[cfg(test)]
mod tests;
