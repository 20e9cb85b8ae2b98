//! yum, dnf and rpm as command lines and as output to read. Nothing is run here.
//!
//! Options and output forms: yum(8) 3.4, dnf(8) 4, rpm(8); the transaction table is the same in both programs.

use super::packages::{Simulated, Unforeseen, Unreadable, Wanted};
use crate::host::{Command, Exit};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wavegate_common::action::PackageSpec;
use wavegate_common::id::Timestamp;
use wavegate_common::platform::PackageManager;

/// Epoch only where there is one, as yum's and dnf's tables print it.
const VERSION: &str = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}";

fn program(manager: PackageManager) -> &'static str {
    match manager {
        PackageManager::Yum => "yum",
        PackageManager::Dnf | PackageManager::Apt => "dnf",
    }
}

/// Makes the next call read the repositories again. `makecache` would do it at once, but yum's fetches the lists of all
/// files with it. Both wait for the lock of whoever is at work, so there is time for that.
#[must_use]
pub fn refresh(manager: PackageManager) -> Command {
    Command::new([program(manager), "-q", "clean", "expire-cache"]).timeout(Duration::from_secs(600))
}

/// The transactions that bring what is wanted, in order.
#[must_use]
pub fn transactions(manager: PackageManager, wanted: &Wanted) -> Vec<Command> {
    operations(manager, wanted, "-y")
}

/// The same, answered with no after the table is printed.
#[must_use]
pub fn simulations(manager: PackageManager, wanted: &Wanted) -> Vec<Command> {
    let commands = operations(manager, wanted, "--assumeno").into_iter();
    commands.map(|command| command.timeout(Duration::from_secs(600))).collect()
}

/// What is there is updated, what is not is installed, in two transactions: `install` leaves alone what is there in any
/// version (dnf), and `update` of what is not there says so and exits 0 (yum).
fn operations(manager: PackageManager, wanted: &Wanted, answer: &str) -> Vec<Command> {
    let (present, absent): (Vec<_>, Vec<_>) =
        wanted.packages.iter().partition(|spec| wanted.present.contains(&spec.name));
    let command = |verb: &'static str, specs: Vec<String>| {
        let start = [program(manager), answer, verb].map(str::to_owned);
        Command::new(start.into_iter().chain(specs))
    };
    let mut commands = Vec::new();
    if wanted.distribution {
        commands.push(command("update", Vec::new()));
    } else if !present.is_empty() {
        commands.push(command("update", present.into_iter().map(operand).collect()));
    }
    if !absent.is_empty() {
        commands.push(command("install", absent.into_iter().map(operand).collect()));
    }
    commands
}

/// A package and its version as `NAME-[EPOCH:]VERSION[-RELEASE]`, which both programs take.
fn operand(spec: &PackageSpec) -> String {
    match &spec.version {
        Some(version) => format!("{}-{version}", spec.name),
        None => spec.name.clone(),
    }
}

#[derive(Clone, Copy)]
enum Section {
    Installs,
    Downgrades,
    Removes,
    Reinstalls,
    KeptBack,
}

fn section(line: &str) -> Option<Section> {
    let title = line.strip_suffix(':')?;
    // Titles of yum's and dnf's output.py; groups of packages beyond these do not change any.
    match title {
        "Downgrading" => Some(Section::Downgrades),
        "Reinstalling" => Some(Section::Reinstalls),
        _ if title.starts_with("Skip") => Some(Section::KeptBack),
        _ if title.starts_with("Removing") => Some(Section::Removes),
        _ if ["Installing", "Updating", "Upgrading"].iter().any(|word| title.starts_with(word)) => {
            Some(Section::Installs)
        }
        _ => None,
    }
}

/// Reads the table of a transaction that was answered with no.
///
/// # Errors
/// [`Unforeseen`] if it refuses, if there is neither a table nor the word that there is nothing to do, or a
/// row has another form.
pub fn read_simulation(exit: &Exit) -> Result<Simulated, Unforeseen> {
    let all = format!("{}{}", exit.stdout, exit.stderr);
    if let Some(line) = all.lines().find(|line| not_found(line)) {
        return Err(Unforeseen::Refused(line.trim().to_owned()));
    }
    let table = exit.stdout.split("Dependencies Resolved").nth(1).or_else(|| table_of_dnf(&exit.stdout));
    if let Some(table) = table {
        return Ok(read_table(table.split("Transaction Summary").next().unwrap_or(""))?);
    }
    let reason = |line: &&str| line.starts_with("Problem") || line.starts_with("Error: ");
    if let Some(line) = all.lines().map(str::trim).find(reason) {
        return Err(Unforeseen::Refused(line.to_owned()));
    }
    let nothing = ["Nothing to do", "No packages marked for update"];
    if all.lines().any(|line| nothing.iter().any(|text| line.trim().starts_with(text))) {
        return Ok(Simulated::default());
    }
    let last = all.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned();
    Err(Unreadable { what: "answer without a transaction", text: last }.into())
}

fn table_of_dnf(stdout: &str) -> Option<&str> {
    stdout.split("Dependencies resolved.").nth(1).filter(|rest| rest.contains("Transaction Summary"))
}

fn not_found(line: &str) -> bool {
    let line = line.trim();
    ["No match for argument: ", "No Match for argument: ", "Error: Unable to find a match: "]
        .iter()
        .any(|start| line.starts_with(start))
        || (line.starts_with("No package ") && line.contains(" available"))
}

fn read_table(table: &str) -> Result<Simulated, Unreadable> {
    let mut simulated = Simulated::default();
    let mut current = None;
    let mut row: Vec<&str> = Vec::new();
    // Advice in brackets stands between a title and its rows.
    for line in table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('(')) {
        if !line.starts_with(' ') {
            current = section(line.trim_end());
            row.clear();
            continue;
        }
        let Some(section) = current else { continue };
        if let Some(replaced) = line.trim_start().strip_prefix("replacing ") {
            let name = replaced.split_whitespace().next().and_then(|name| name.rsplit_once('.'));
            let unreadable = || Unreadable { what: "row of the transaction", text: line.trim().to_owned() };
            simulated.removes.insert(name.ok_or_else(unreadable)?.0.to_owned());
            continue;
        }
        // A column too long for its width goes on in the next line.
        row.extend(line.split_whitespace());
        let [name, _, version, _, _, ..] = row.as_slice() else { continue };
        if !version.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Unreadable { what: "row of the transaction", text: row.join(" ") });
        }
        let (name, version) = ((*name).to_owned(), plain(version));
        match section {
            Section::Removes => drop(simulated.removes.insert(name)),
            Section::Installs => drop(simulated.installs.insert(name, version)),
            Section::Downgrades => {
                simulated.downgrades.insert(name.clone());
                simulated.installs.insert(name, version);
            }
            Section::KeptBack => drop(simulated.kept_back.insert(name)),
            Section::Reinstalls => {}
        }
        row.clear();
    }
    Ok(simulated)
}

/// Epoch 0 is no epoch.
fn plain(version: &str) -> String {
    version.strip_prefix("0:").unwrap_or(version).to_owned()
}

/// Whether yum or dnf says that it could not reach a repository.
#[must_use]
pub fn unreachable(output: &str) -> bool {
    // Texts of libcurl, as librepo (dnf) and urlgrabber (yum) pass them on.
    [
        "Couldn't resolve host",
        "Could not resolve host",
        "Couldn't connect to server",
        "Failed to connect to ",
        "Failed connect to ",
        "Timeout was reached",
        "Operation too slow",
        "Connection timed out",
    ]
    .iter()
    .any(|text| output.contains(text))
}

/// Whether yum, dnf or rpm gave up because another one is at work.
#[must_use]
pub fn locked(output: &str) -> bool {
    [
        "Another app is currently holding the yum lock",
        "can't create transaction lock",
        "Failed to obtain the transaction lock",
    ]
    .iter()
    .any(|text| output.contains(text))
}

/// Asks rpm for installed packages by name alone, to find those that an interrupted update left there twice.
#[must_use]
pub fn audit() -> Command {
    Command::new(["rpm", "-qa", "--qf", &format!("%{{NAME}}.%{{ARCH}}\\t{VERSION}\\n")])
}

/// Packages installed in two versions, as an update that was cut off between install and erase leaves them. What rpm
/// means to keep in several versions (kernels, keys) does not count.
#[must_use]
pub fn read_audit(exit: &Exit) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for (package, _) in exit.stdout.lines().filter_map(|line| line.split_once('\t')) {
        let name = package.rsplit_once('.').map_or(package, |(name, _)| name);
        // installonlypkgs of yum.conf(5) and dnf.conf(5); gpg-pubkey is a key that rpm keeps as a package.
        let several = name == "gpg-pubkey" || name.starts_with("kernel") || name.starts_with("kmod-");
        if !several && !seen.insert(package) {
            twice.insert(name.to_owned());
        }
    }
    twice
}

/// Removes the older of packages that are there twice, with the programs that the node has.
#[must_use]
pub fn repairs(manager: PackageManager, has: impl Fn(&str) -> bool) -> Vec<Command> {
    // Both are of yum-utils, which a node may lack; the first finishes what is left of the transaction, the second what
    // the first can't. dnf does it itself, also where it is called yum.
    let of_yum = [["yum-complete-transaction", "-y"].as_slice(), &["package-cleanup", "-y", "--cleandupes"]];
    let mut commands: Vec<Command> = of_yum
        .into_iter()
        .filter(|argv| manager == PackageManager::Yum && has(argv[0]))
        .map(|argv| Command::new(argv.iter().copied()))
        .collect();
    if commands.is_empty() {
        commands.push(Command::new([program(manager), "-y", "remove", "--duplicates"]));
    }
    commands
}

/// Asks for versions and installation times of packages.
#[must_use]
pub fn versions(names: &[&str]) -> Command {
    let format = format!("%{{NAME}}\\t{VERSION}\\t%{{INSTALLTIME}}\\n");
    Command::new(["rpm", "-q", "--qf", &format, "--"].into_iter().chain(names.iter().copied()))
}

/// Installed packages with version and time of installation. Names that rpm does not know are left out (it says so
/// in a line of its own and counts them in its exit code); of several instances the one installed last counts.
///
/// # Errors
/// [`Unreadable`] for a row that was not asked for.
pub fn read_versions(exit: &Exit) -> Result<BTreeMap<String, (String, Timestamp)>, Unreadable> {
    let mut versions: BTreeMap<String, (String, Timestamp)> = BTreeMap::new();
    for line in exit.stdout.lines().filter(|line| !line.ends_with("is not installed")) {
        let unreadable = || Unreadable { what: "line of rpm -q", text: line.to_owned() };
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(time)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(unreadable());
        };
        let seconds: u64 = time.parse().map_err(|_| unreadable())?;
        let installed_at = Timestamp(seconds.saturating_mul(1000));
        let newer = versions.get(name).is_none_or(|(_, other)| *other <= installed_at);
        if newer {
            versions.insert(name.to_owned(), (plain(version), installed_at));
        }
    }
    Ok(versions)
}

/// Asks which package a file belongs to.
#[must_use]
pub fn owner(path: &str) -> Command {
    Command::new(["rpm", "-qf", "--qf", "%{NAME}\\n", "--", path])
}

/// The package that was named; `None` if rpm knows none.
#[must_use]
pub fn read_owner(exit: &Exit) -> Option<String> {
    let owned = exit.code == 0;
    exit.stdout
        .lines()
        .next()
        .filter(|name| owned && !name.is_empty() && !name.contains(' '))
        .map(str::to_owned)
}

/// Configuration files that were kept or moved away, as rpm warns of them.
#[must_use]
pub fn kept_files(output: &str) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for line in output.lines() {
        let Some((_, rest)) = line.split_once("warning: ") else { continue };
        if let Some((path, new)) = rest.split_once(" created as ") {
            kept.push((path.to_owned(), format!("kept; the package's own is {new}")));
        } else if let Some((path, old)) = rest.split_once(" saved as ") {
            kept.push((path.to_owned(), format!("replaced by the package's own; the one before is {old}")));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
