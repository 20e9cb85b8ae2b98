//! apt and dpkg as command lines and as output to read. Nothing is run here.
//!
//! Options and output forms: apt-get(8), apt.conf(5), dpkg(1), dpkg-query(1), and apt's private-install.cc for the
//! lists that it prints before a transaction. The oldest to work with are apt 1.0.1 and dpkg 1.17.5 of Ubuntu 14.04:
//! dpkg-query knows `${Status}` there, but `${db:Status-Status}` only from 1.17.11 (its changelog); options of `-o` that an
//! apt does not know are ignored.

use super::packages::{Simulated, Unreadable, Wanted};
use crate::host::{Command, Exit};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where dpkg keeps what it knows of installed packages.
pub const INFO: &str = "/var/lib/dpkg/info";

/// A modified configuration file stays, the new one lands beside it as `.dpkg-dist`: where there is a default action it
/// is taken (confdef), and otherwise the old file is kept (confold).
const CONFFILES: [&str; 4] =
    ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"];

/// Hosts of one fleet get one version: Ubuntu's phased updates would give it to some of them only. Older apt ignores it.
const UNPHASED: [&str; 2] = ["-o", "APT::Get::Always-Include-Phased-Updates=true"];

/// apt-get does not wait for dpkg's lock by itself; from apt 1.9.11 it can. Older apt ignores the option and fails,
/// which [`locked`] recognises. Not for long: whoever holds the lock is named and waited for by us.
const LOCK: [&str; 2] = ["-o", "DPkg::Lock::Timeout=30"];

/// A terminal would get a progress line that is drawn over itself.
const PLAIN: [&str; 2] = ["-o", "Dpkg::Use-Pty=0"];

fn quiet(command: Command) -> Command {
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBIAN_PRIORITY", "critical")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .env("UCF_FORCE_CONFFOLD", "1")
        // Ubuntu 24.04's needrestart restarts services by itself, etcd and neutron among them.
        .env("NEEDRESTART_SUSPEND", "1")
}

fn apt_get(parts: &[&[&str]]) -> Command {
    quiet(Command::new(std::iter::once("apt-get").chain(parts.iter().flat_map(|part| part.iter().copied()))))
}

/// Reads the package lists again.
#[must_use]
pub fn refresh() -> Command {
    apt_get(&[&["-q", "-o", "Acquire::Retries=3", "update"]]).timeout(Duration::from_secs(600))
}

/// The sources that a refresh could not read. apt-get exits 0 then, and goes on with the lists it had. `Err:` lines do
/// not count: another try may have succeeded after them.
#[must_use]
pub fn failed_sources(exit: &Exit) -> Vec<String> {
    let failed = |line: &&str| {
        ["W: Failed to fetch", "E: Failed to fetch"].iter().any(|start| line.starts_with(start))
    };
    exit.stdout.lines().chain(exit.stderr.lines()).filter(failed).map(str::to_owned).collect()
}

/// Asks apt which one it is.
#[must_use]
pub fn apt_version() -> Command {
    Command::new(["apt-get", "--version"])
}

/// The option that lets `-y` take packages back to an older version: `--allow-downgrades` came with apt 1.1. Before that
/// there is only `--force-yes`, which also takes packages that are held or whose origin can't be verified; it is used where
/// there is nothing else, and only for a step that allows downgrades.
///
/// # Errors
/// [`Unreadable`] if the first line is not `apt VERSION ...`.
pub fn downgrade_option(exit: &Exit) -> Result<&'static str, Unreadable> {
    let line = exit.stdout.lines().next().unwrap_or_default();
    let version = line.strip_prefix("apt ").and_then(|rest| {
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse::<u32>().ok()?, numbers.next()?.parse::<u32>().ok()?))
    });
    match version {
        Some(version) if version < (1, 1) => Ok("--force-yes"),
        Some(_) => Ok("--allow-downgrades"),
        None => Err(Unreadable { what: "line of apt-get --version", text: line.to_owned() }),
    }
}

/// The transactions that bring what is wanted, in order. `downgrade` is the option that allows downgrades, if they are.
#[must_use]
pub fn transactions(wanted: &Wanted, downgrade: Option<&str>) -> Vec<Command> {
    let keep: &[&str] = if wanted.allow_removals { &[] } else { &["--no-remove"] };
    let options: &[&[&str]] =
        &[&["-q", "-y"], &PLAIN, &CONFFILES, &LOCK, &UNPHASED, keep, downgrade.as_slice()];
    operations(wanted, options)
}

/// What makes a transaction only fetch its packages, into `/var/cache/apt/archives`, where it finds them later (apt-get(8)).
pub const DOWNLOAD_ONLY: &str = "--download-only";

/// The same, simulated. Removals are not forbidden here, so that they can be named.
#[must_use]
pub fn simulations(wanted: &Wanted, downgrade: Option<&str>) -> Vec<Command> {
    operations(wanted, &[&["-s", "-q", "-y"], &UNPHASED, downgrade.as_slice()])
}

/// `dist-upgrade` takes no packages in older apt, so that the whole distribution is a second transaction.
fn operations(wanted: &Wanted, options: &[&[&str]]) -> Vec<Command> {
    let specs: Vec<String> = wanted.packages.iter().map(ToString::to_string).collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let mut commands = Vec::new();
    if !specs.is_empty() {
        commands.push(apt_get(&[options, &[&["install"], specs.as_slice()]].concat()));
    }
    if wanted.distribution {
        commands.push(apt_get(&[options, &[&["dist-upgrade"]]].concat()));
    }
    commands
}

/// Reads a simulation.
///
/// # Errors
/// [`Unreadable`] for an `Inst` or `Remv` line of another form than apt-get(8) gives.
pub fn read_simulation(exit: &Exit) -> Result<Simulated, Unreadable> {
    let mut simulated = Simulated::default();
    let mut downgrades = false;
    for line in exit.stdout.lines() {
        let unreadable = || Unreadable { what: "line of apt-get -s", text: line.to_owned() };
        if let Some(rest) = line.strip_prefix("Inst ") {
            let (name, rest) = rest.split_once(' ').ok_or_else(unreadable)?;
            let (_, offered) = rest.split_once('(').ok_or_else(unreadable)?;
            let version = offered.split([' ', ')']).next().filter(|version| !version.is_empty());
            simulated.installs.insert(name.to_owned(), version.ok_or_else(unreadable)?.to_owned());
        } else if let Some(rest) = line.strip_prefix("Remv ").or_else(|| line.strip_prefix("Purg ")) {
            let name = rest.split(' ').next().filter(|name| !name.is_empty());
            simulated.removes.insert(name.ok_or_else(unreadable)?.to_owned());
        } else if line.ends_with("will be DOWNGRADED:") {
            downgrades = true;
            continue;
        } else if downgrades && line.starts_with("  ") {
            simulated.downgrades.extend(line.split_whitespace().map(str::to_owned));
            continue;
        }
        downgrades = false;
    }
    Ok(simulated)
}

/// Whether apt says that it could not reach a repository.
#[must_use]
pub fn unreachable(output: &str) -> bool {
    // Texts of apt (methods/connect.cc).
    [
        "Could not connect to ",
        "Could not resolve '",
        "Temporary failure resolving '",
        "Something wicked happened resolving '",
        "Unable to connect to ",
        "Cannot initiate the connection to ",
        "Connection failed",
        "Connection timed out",
    ]
    .iter()
    .any(|text| output.contains(text))
}

/// Whether apt or dpkg gave up because another one is at work.
#[must_use]
pub fn locked(output: &str) -> bool {
    // Texts of apt (apt-pkg/deb/debsystem.cc, apt-pkg/acquire.cc) and dpkg (lib/dpkg/file.c).
    ["Could not get lock /", "Unable to acquire the dpkg frontend lock", " locked by another process"]
        .iter()
        .any(|text| output.contains(text))
}

/// Asks for packages that are not completely installed: an interrupted dpkg leaves them.
#[must_use]
pub fn audit() -> Command {
    Command::new(["dpkg-query", "-W", "-f=${Package}\\t${Status}\\n"])
}

/// Packages that dpkg began and did not finish (`dpkg --audit` lists them in prose).
///
/// # Errors
/// [`Unreadable`] for a row that was not asked for.
pub fn read_audit(exit: &Exit) -> Result<BTreeSet<String>, Unreadable> {
    let mut begun = BTreeSet::new();
    for line in exit.stdout.lines() {
        let unreadable = || Unreadable { what: "line of dpkg-query -W", text: line.to_owned() };
        let (name, status) = line.split_once('\t').ok_or_else(unreadable)?;
        match state(status).ok_or_else(unreadable)? {
            State::Begun => drop(begun.insert(name.to_owned())),
            State::Installed | State::Gone => {}
        }
    }
    Ok(begun)
}

/// How far a package is.
enum State {
    Installed,
    Begun,
    Gone,
}

/// Reads `${Status}`: what is wanted, whether it must be installed again, and the state, as dpkg(1) has them.
fn state(status: &str) -> Option<State> {
    let mut words = status.split(' ');
    let (_wanted, flag, state) = (words.next()?, words.next()?, words.next()?);
    Some(match (flag, state) {
        (_, "not-installed" | "config-files") => State::Gone,
        ("ok", "installed") => State::Installed,
        (
            _,
            "installed" | "half-installed" | "unpacked" | "half-configured" | "triggers-awaited"
            | "triggers-pending",
        ) => State::Begun,
        _ => return None,
    })
}

/// Where dpkg keeps what it has done to its database and not yet written into it; empty unless it was interrupted.
pub const UPDATES: &str = "/var/lib/dpkg/updates";

/// Those of the names in [`UPDATES`] that say that dpkg was interrupted: apt's test too (apt-pkg/deb/debsystem.cc,
/// `CheckUpdates`).
#[must_use]
pub fn interrupted(names: &[String]) -> Vec<String> {
    let number = |name: &&String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    names.iter().filter(number).map(|name| format!("{UPDATES}/{name}")).collect()
}

/// Finishes what an interrupted dpkg began, with the same answers about configuration files, then mends dependencies.
#[must_use]
pub fn repairs() -> Vec<Command> {
    vec![
        quiet(Command::new(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"])),
        apt_get(&[&["-q", "-y"], &PLAIN, &CONFFILES, &LOCK, &["--no-remove", "-f", "install"]]),
    ]
}

/// The same as [`repairs`]' second, simulated: it may bring packages that nobody asked for.
#[must_use]
pub fn repair_simulation() -> Command {
    apt_get(&[&["-s", "-q", "-y"], &UNPHASED, &["-f", "install"]])
}

/// Asks for the versions of packages.
#[must_use]
pub fn versions(names: &[&str]) -> Command {
    let query = ["dpkg-query", "-W", "-f=${Package}\\t${Version}\\t${Status}\\n", "--"];
    Command::new(query.into_iter().chain(names.iter().copied()))
}

/// Installed packages with their versions. Names that dpkg does not know are left out, and make it exit 1.
///
/// # Errors
/// [`Unreadable`] for a row that was not asked for.
pub fn read_versions(exit: &Exit) -> Result<BTreeMap<String, String>, Unreadable> {
    let mut versions = BTreeMap::new();
    for line in exit.stdout.lines() {
        let unreadable = || Unreadable { what: "line of dpkg-query -W", text: line.to_owned() };
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(status)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(unreadable());
        };
        // A removed package with leftover configuration has a version, and is not installed.
        match state(status).ok_or_else(unreadable)? {
            State::Installed | State::Begun if !version.is_empty() => {
                versions.insert(name.to_owned(), version.to_owned());
            }
            State::Installed | State::Begun | State::Gone => {}
        }
    }
    Ok(versions)
}

/// What dpkg-query says when it gives no answer at all (exit status 2, or a signal); 1 is that it does not know all names
/// (dpkg-query(1), EXIT STATUS). Without this, a node whose database can't be read would look like one without packages.
#[must_use]
pub fn damaged<'a>(command: &Command, exit: &'a Exit) -> Option<&'a str> {
    let asked = command.argv.first().is_some_and(|program| program == "dpkg-query");
    (asked && exit.code > 1).then(|| exit.stderr.lines().next().unwrap_or("it says nothing"))
}

/// The files of [`INFO`] whose time of change is the time of a package's installation, among those that are there.
#[must_use]
pub fn install_stamps<'a>(package: &str, names: &'a [String]) -> Vec<&'a str> {
    // `PACKAGE.list`, or `PACKAGE:ARCHITECTURE.list` for a package that can be there in several architectures.
    let stamp = |name: &&String| {
        let stem = name.strip_suffix(".list").unwrap_or("");
        stem == package || stem.strip_prefix(package).is_some_and(|rest| rest.starts_with(':'))
    };
    names.iter().filter(stamp).map(String::as_str).collect()
}

/// Asks which package a file belongs to.
#[must_use]
pub fn owner(path: &str) -> Command {
    Command::new(["dpkg-query", "-S", "--", path])
}

/// The package of `PACKAGE[:ARCH][, PACKAGE...]: PATH`; `None` if dpkg knows none.
#[must_use]
pub fn read_owner(exit: &Exit) -> Option<String> {
    let owned = exit.stdout.lines().find(|line| !line.starts_with("diversion by "))?;
    let (packages, _) = owned.split_once(": ")?;
    let first = packages.split([',', ':']).next()?.trim();
    (!first.is_empty()).then(|| first.to_owned())
}

/// Asks for the configuration files of packages.
#[must_use]
pub fn configuration_files(names: &[&str]) -> Command {
    Command::new(["dpkg-query", "-W", "-f=${Conffiles}\\n", "--"].into_iter().chain(names.iter().copied()))
}

/// Reads them: ` PATH DIGEST`, perhaps with `obsolete` or `remove-on-upgrade` behind, a line each.
///
/// # Errors
/// [`Unreadable`] for a line of another form.
pub fn read_configuration_files(exit: &Exit) -> Result<Vec<String>, Unreadable> {
    let lines = exit.stdout.lines().map(str::trim).filter(|line| !line.is_empty());
    let path = |line: &str| {
        let (path, rest) = line.split_once(' ')?;
        // The file of one that is to go is the node's alone.
        Some((path.starts_with('/').then(|| path.to_owned())?, rest.ends_with(" obsolete")))
    };
    let mut paths = Vec::new();
    for line in lines {
        let unreadable = || Unreadable { what: "line of dpkg-query's Conffiles", text: line.to_owned() };
        let (path, obsolete) = path(line).ok_or_else(unreadable)?;
        if !obsolete {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Names that dpkg gives to the file that it did not install, and to one that it replaced, with what each means.
pub const BESIDE: [(&str, &str); 2] = [
    (".dpkg-dist", "kept; the package's own is "),
    (".dpkg-old", "replaced by the package's own; the one before is "),
];

/// Configuration files that the transaction left as they were, though the package brings others.
#[must_use]
pub fn kept_files(output: &str) -> Vec<(String, String)> {
    let mut asked = None;
    let mut kept = Vec::new();
    for line in output.lines() {
        if let Some(rest) = line.strip_prefix("Configuration file '") {
            asked = rest.strip_suffix('\'');
        } else if line.trim() == "==> Keeping old config file as default."
            && let Some(path) = asked.take()
        {
            kept.push((path.to_owned(), format!("kept; the package's own is {path}.dpkg-dist")));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
