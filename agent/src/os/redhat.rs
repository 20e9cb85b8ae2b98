//! yum, dnf and rpm as command lines and as output to read. Nothing is run here.
//!
//! Options and output forms: yum(8) 3.4 and its cli.py, output.py and yummain.py, dnf(8) 4 as seen with 4.14, rpm(8) 4.11 and
//! later; the transaction table is the same in both programs.

mod operations;

pub use operations::{Operation, downgrade, operations, together, version_is};

use super::packages::{Simulated, Unforeseen, Unreadable};
use crate::host::{Command, Exit};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
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

/// By default both wait for a lock for ever. With this they end at once and say who holds it (yum.conf(5), dnf.conf(5)), so
/// that the waiting has one place and an end.
const NO_WAITING: &str = "--setopt=exit_on_lock=True";

/// A repository that does not answer is an error, also where the node's configuration passes over it (`skip_if_unavailable`,
/// yum.conf(5), dnf.conf(5)): without it, what is old looks as if nothing were newer.
const EVERY_REPOSITORY: &str = "--setopt=*.skip_if_unavailable=False";

/// What makes a question of dnf read the repositories again before it answers (dnf(8)).
pub const NEW_LISTS: &str = "--refresh";

/// Makes the next call read the repositories again; `None` where [`NEW_LISTS`] does, which yum does not know. `makecache` would
/// do it at once, but yum's fetches the lists of all files with it.
#[must_use]
pub fn refresh(manager: PackageManager) -> Option<Command> {
    let argv = [program(manager), "-q", NO_WAITING, "clean", "expire-cache"];
    (manager == PackageManager::Yum).then(|| Command::new(argv).timeout(Duration::from_secs(600)))
}

#[derive(Clone, Copy)]
enum Section {
    Installs,
    Downgrades,
    Removes,
    Reinstalls,
    KeptBack,
    NoPackages,
}

/// The group of packages that a title is for, by the titles of yum's and dnf's output.py (`listTransaction`,
/// `list_transaction`).
fn section(title: &str) -> Option<Section> {
    if title.contains("module") || title.ends_with("Groups") {
        return Some(Section::NoPackages);
    }
    match title {
        "Downgrading" => Some(Section::Downgrades),
        "Reinstalling" => Some(Section::Reinstalls),
        "Not installed" | "Not available" => Some(Section::KeptBack),
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
    if let Some(line) = all.lines().find(|line| unreachable(line)) {
        return Err(Unforeseen::Refused(line.trim().to_owned()));
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
        || (line.starts_with("Package(s) ") && line.ends_with(" available, but not installed."))
}

fn read_table(table: &str) -> Result<Simulated, Unreadable> {
    let mut simulated = Simulated::default();
    let mut current = None;
    let mut row: Vec<&str> = Vec::new();
    // Advice in brackets stands between a title and its rows.
    for line in table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('(')) {
        if !line.starts_with(' ') {
            whole(&row)?;
            current = match line.trim_end().strip_suffix(':') {
                Some(title) => Some(section(title).ok_or_else(|| Unreadable {
                    what: "group of packages in the transaction",
                    text: line.to_owned(),
                })?),
                None => None,
            };
            row.clear();
            continue;
        }
        let Some(section) = current else { continue };
        if matches!(section, Section::NoPackages) {
            continue;
        }
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
            Section::Reinstalls | Section::NoPackages => {}
        }
        row.clear();
    }
    whole(&row)?;
    Ok(simulated)
}

/// That no row began and did not end.
fn whole(row: &[&str]) -> Result<(), Unreadable> {
    if row.is_empty() {
        return Ok(());
    }
    Err(Unreadable { what: "row of the transaction", text: row.join(" ") })
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
        // urlgrabber's numbers of the same, whatever words the libcurl of the node has.
        "curl#6 - ",
        "curl#7 - ",
        "curl#28 - ",
    ]
    .iter()
    .any(|text| output.contains(text))
}

/// Whether yum, dnf or rpm gave up because another one is at work.
#[must_use]
pub fn locked(output: &str) -> bool {
    // yum's yummain.py; dnf's lock.py: `metadata already locked by 12`; rpm's lib/rpmlock.c.
    ["Another app is currently holding the yum lock", " already locked by ", "can't create transaction lock"]
        .iter()
        .any(|text| output.contains(text))
}

/// The line in which rpm says that its database can't be read; `None` if it does not. Texts of rpm's lib/backend/db3.c and
/// sqlite.c, and of lib/rpmdb.c.
#[must_use]
pub fn damaged(exit: &Exit) -> Option<&str> {
    let texts =
        ["error: rpmdb", "rpmdb: ", "DB_RUNRECOVERY", "cannot open Packages", "error: sqlite failure"];
    exit.stderr.lines().find(|line| texts.iter().any(|text| line.contains(text)))
}

/// What makes a transaction only fetch its packages, into the cache, where it finds them later (yum(8) of 3.4.3, dnf(8)).
pub const DOWNLOAD_ONLY: &str = "--downloadonly";

/// Where yum keeps what a transaction is to do, until it is done (yum/misc.py, `find_unfinished_transactions`).
pub const YUM_STATE: &str = "/var/lib/yum";

/// Those of the names in [`YUM_STATE`] that say that a transaction of yum was interrupted.
#[must_use]
pub fn interrupted(names: &[String]) -> Vec<String> {
    let unfinished = |name: &&String| name.starts_with("transaction-all.") && !name.ends_with("disabled");
    names.iter().filter(unfinished).map(|name| format!("{YUM_STATE}/{name}")).collect()
}

/// Asks rpm for installed packages by name alone, to find those that an interrupted update left there twice.
#[must_use]
pub fn audit() -> Command {
    Command::new(["rpm", "-qa", "--qf", &format!("%{{NAME}}.%{{ARCH}}\\t{VERSION}\\n")])
}

/// Packages installed in two versions, as an update that was cut off between install and erase leaves them. What rpm
/// means to keep in several versions (kernels, keys) does not count.
///
/// # Errors
/// [`Unreadable`] for a row that was not asked for.
pub fn read_audit(exit: &Exit) -> Result<BTreeSet<String>, Unreadable> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for line in exit.stdout.lines() {
        let unreadable = || Unreadable { what: "line of rpm -qa", text: line.to_owned() };
        let (package, _) = line.split_once('\t').ok_or_else(unreadable)?;
        let name = package.rsplit_once('.').map_or(package, |(name, _)| name);
        // installonlypkgs of yum.conf(5) and dnf.conf(5); gpg-pubkey is a key that rpm keeps as a package.
        let several = name == "gpg-pubkey" || name.starts_with("kernel") || name.starts_with("kmod-");
        if !several && !seen.insert(package) {
            twice.insert(name.to_owned());
        }
    }
    Ok(twice)
}

/// Finishes what an interrupted transaction left, with the programs that the node has: removes the older of packages that are
/// there `twice`; without such, only works off what yum noted of it.
#[must_use]
pub fn repairs(manager: PackageManager, has: impl Fn(&str) -> bool, twice: bool) -> Vec<Command> {
    // Both are of yum-utils, which a node may lack; the first finishes what is left of the transaction, the second what
    // the first can't. dnf does it itself, also where it is called yum.
    let of_yum = [["yum-complete-transaction", "-y"].as_slice(), &["package-cleanup", "-y", "--cleandupes"]];
    let mut commands: Vec<Command> = of_yum
        .into_iter()
        .take(if twice { 2 } else { 1 })
        .filter(|argv| manager == PackageManager::Yum && has(argv[0]))
        .map(|argv| Command::new(argv.iter().copied()))
        .collect();
    if commands.is_empty() && twice {
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
    let absent = |line: &&str| line.starts_with("package ") && line.ends_with(" is not installed");
    for line in exit.stdout.lines().filter(|line| !absent(line)) {
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

/// Asks for the configuration files of packages.
#[must_use]
pub fn configuration_files(names: &[&str]) -> Command {
    Command::new(["rpm", "-qc", "--"].into_iter().chain(names.iter().copied()))
}

/// Reads them: a path a line; for a package without files, or one that is not there, rpm says so.
///
/// # Errors
/// [`Unreadable`] for a line of another form.
pub fn read_configuration_files(exit: &Exit) -> Result<Vec<String>, Unreadable> {
    let none = |line: &&str| *line == "(contains no files)" || line.ends_with(" is not installed");
    let lines = exit.stdout.lines().filter(|line| !line.is_empty() && !none(line));
    let path = |line: &str| line.starts_with('/').then(|| line.to_owned());
    lines
        .map(|line| path(line).ok_or_else(|| Unreadable { what: "line of rpm -qc", text: line.to_owned() }))
        .collect()
}

/// Names that rpm gives to the file that it did not install, and to ones that it moved away, with what each means.
pub const BESIDE: [(&str, &str); 3] = [
    (".rpmnew", "kept; the package's own is "),
    (".rpmsave", "replaced by the package's own; the one before is "),
    (".rpmorig", "replaced by the package's own; the one before is "),
];

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
