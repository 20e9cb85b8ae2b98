//! apt and dpkg as command lines and as output to read. Nothing is run here.
//!
//! Options and output forms: apt-get(8), apt.conf(5), dpkg(1), dpkg-query(1), and apt's private-install.cc for the
//! lists that it prints before a transaction.

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
/// which [`locked`] recognises.
const LOCK: [&str; 2] = ["-o", "DPkg::Lock::Timeout=600"];

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

/// The transactions that bring what is wanted, in order.
#[must_use]
pub fn transactions(wanted: &Wanted) -> Vec<Command> {
    let keep: &[&str] = if wanted.allow_removals { &[] } else { &["--no-remove"] };
    operations(wanted, &[&["-q", "-y"], &PLAIN, &CONFFILES, &LOCK, &UNPHASED, keep])
}

/// The same, simulated. Removals are not forbidden here, so that they can be named.
#[must_use]
pub fn simulations(wanted: &Wanted) -> Vec<Command> {
    operations(wanted, &[&["-s", "-q", "-y"], &UNPHASED])
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
    Command::new(["dpkg-query", "-W", "-f=${Package}\\t${db:Status-Status}\\n"])
}

/// Packages that dpkg began and did not finish (`dpkg --audit` lists them in prose; the states are those of dpkg(1)).
#[must_use]
pub fn read_audit(exit: &Exit) -> BTreeSet<String> {
    const BEGUN: [&str; 5] =
        ["half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"];
    let rows = exit.stdout.lines().filter_map(|line| line.split_once('\t'));
    rows.filter(|(_, state)| BEGUN.contains(state)).map(|(name, _)| name.to_owned()).collect()
}

/// Finishes what an interrupted dpkg began, with the same answers about configuration files, then mends dependencies.
#[must_use]
pub fn repairs() -> Vec<Command> {
    vec![
        quiet(Command::new(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"])),
        apt_get(&[&["-q", "-y"], &PLAIN, &CONFFILES, &LOCK, &["--no-remove", "-f", "install"]]),
    ]
}

/// Asks for the versions of packages.
#[must_use]
pub fn versions(names: &[&str]) -> Command {
    let query = ["dpkg-query", "-W", "-f=${Package}\\t${Version}\\t${db:Status-Status}\\n", "--"];
    Command::new(query.into_iter().chain(names.iter().copied()))
}

/// Installed packages with their versions. Names that dpkg does not know are left out, and make it exit 1.
///
/// # Errors
/// [`Unreadable`] for a row that was not asked for.
pub fn read_versions(exit: &Exit) -> Result<BTreeMap<String, String>, Unreadable> {
    let mut versions = BTreeMap::new();
    for line in exit.stdout.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Unreadable { what: "line of dpkg-query -W", text: line.to_owned() });
        };
        // A removed package with leftover configuration has a version, and is not installed.
        if !version.is_empty() && !matches!(state, "not-installed" | "config-files") {
            versions.insert(name.to_owned(), version.to_owned());
        }
    }
    Ok(versions)
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wavegate_common::action::PackageSpec;

    fn wanted(packages: &[&str]) -> Wanted {
        let spec = |text: &&str| PackageSpec::try_from((*text).to_owned()).expect("a package");
        Wanted { packages: packages.iter().map(spec).collect(), ..Wanted::default() }
    }

    fn printed(stdout: &str) -> Exit {
        Exit { code: 0, stdout: stdout.to_owned(), stderr: String::new() }
    }

    #[test]
    fn command_lines() {
        let whole = Wanted { distribution: true, allow_removals: true, ..wanted(&["etcd=2.3.8-1"]) };
        let mut commands = vec![refresh(), audit(), versions(&["etcd"]), owner("/usr/bin/etcd")];
        commands.extend(simulations(&wanted(&["calico-felix", "etcd=2.3.8-1"])));
        commands.extend(transactions(&wanted(&["calico-felix"])));
        commands.extend(transactions(&whole));
        commands.extend(repairs());
        let lines: Vec<String> = commands.iter().map(|command| command.argv.join(" ")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        apt-get -q -o Acquire::Retries=3 update
        dpkg-query -W -f=${Package}\t${db:Status-Status}\n
        dpkg-query -W -f=${Package}\t${Version}\t${db:Status-Status}\n -- etcd
        dpkg-query -S -- /usr/bin/etcd
        apt-get -s -q -y -o APT::Get::Always-Include-Phased-Updates=true install calico-felix etcd=2.3.8-1
        apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=600 -o APT::Get::Always-Include-Phased-Updates=true --no-remove install calico-felix
        apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=600 -o APT::Get::Always-Include-Phased-Updates=true install etcd=2.3.8-1
        apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=600 -o APT::Get::Always-Include-Phased-Updates=true dist-upgrade
        dpkg --force-confdef --force-confold --configure -a
        apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=600 --no-remove -f install
        ");
        let env: Vec<String> =
            commands[5].env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(env.join(" "), @"APT_LISTCHANGES_FRONTEND=none DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1");
    }

    #[test]
    fn simulations_are_read() {
        let text = "Reading package lists...\nInst libfoo:i386 (1.0 Debian:12.1/stable [i386])\n\
                    Inst calico-felix [1.3.1] (1.4.6 LP-PPA:16.04/xenial, other:1 [all]) [calico-common:amd64 ]\n\
                    Remv calico-dhcp-agent [1:1.1.2] [networking-calico ]\nConf calico-felix (1.4.6 x:1 [all])\n\
                    Conf broken broken\n";
        let simulated = read_simulation(&printed(text)).expect("it reads");
        assert_eq!(simulated.installs["calico-felix"], "1.4.6");
        assert_eq!(simulated.installs["libfoo:i386"], "1.0");
        assert_eq!(simulated.removes.into_iter().collect::<Vec<_>>(), ["calico-dhcp-agent"]);
        let downgrade =
            "The following packages will be DOWNGRADED:\n  a b\n  c\n0 upgraded, 3 downgraded\n  d\n";
        let simulated = read_simulation(&printed(downgrade)).expect("it reads");
        assert_eq!(simulated.downgrades.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        let error = read_simulation(&printed("Inst odd\n")).expect_err("another form");
        assert_eq!(error.to_string(), "unexpected line of apt-get -s: 'Inst odd'");
    }

    #[test]
    fn states_versions_and_owners_are_read() {
        let text = "a\t1.0\tinstalled\nb\t2:1-1\thalf-configured\nc\t1\tconfig-files\nd\t\tnot-installed\n";
        let versions = read_versions(&printed(text)).expect("it reads");
        assert_eq!(
            versions.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "1.0".to_owned()), ("b".to_owned(), "2:1-1".to_owned())]
        );
        let audit = read_audit(&printed("a\tinstalled\nb\thalf-configured\nc\ttriggers-pending\n"));
        assert_eq!(audit.into_iter().collect::<Vec<_>>(), ["b", "c"]);
        let owner = |text: &str| read_owner(&printed(text));
        assert_eq!(owner("diversion by dash from: /bin/sh\ndash: /bin/sh\n").as_deref(), Some("dash"));
        assert_eq!(owner("libc6:amd64, libc6:i386: /lib/x\n").as_deref(), Some("libc6"));
        assert_eq!(owner(""), None);
        let names = ["a.list", "a:amd64.list", "ab.list", "a.md5sums"].map(str::to_owned);
        assert_eq!(install_stamps("a", &names), ["a.list", "a:amd64.list"]);
    }

    #[test]
    fn complaints_are_recognised() {
        assert!(locked("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)"));
        assert!(locked("dpkg: error: dpkg frontend lock is locked by another process"));
        assert!(locked("dpkg: error: dpkg frontend lock was locked by another process with pid 296"));
        assert!(!locked("E: Unable to locate package x"));
        let down = "W: Failed to fetch http://y/InRelease  Could not connect to y:80 (10.0.0.1). - connect (113: No route to host)";
        assert!(unreachable(down) && unreachable("E: Failed to fetch http://y/a.deb  Could not resolve 'y'"));
        assert!(!unreachable("E: Failed to fetch http://y/a.deb  404  Not Found [IP: 10.0.0.1 80]"));
        let update = "Err:2 file:/x ./ Packages\nGet:2 file:/x ./ Packages [2290 B]\nW: Failed to fetch http://y/Release\n";
        assert_eq!(failed_sources(&printed(update)), ["W: Failed to fetch http://y/Release"]);
        let dpkg = "Configuration file '/etc/default/etcd'\n ==> Modified (by you or by a script) since installation.\n \
                    ==> Package distributor has shipped an updated version.\n ==> Keeping old config file as default.\n";
        assert_eq!(
            kept_files(dpkg),
            [(
                "/etc/default/etcd".to_owned(),
                "kept; the package's own is /etc/default/etcd.dpkg-dist".to_owned()
            )]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), lines in "((Inst|Remv|Conf)? ?[a-z:()\\[\\]\t., \n]{0,12}){0,6}") {
            for exit in [printed(&text), printed(&lines)] {
                let _ = (read_simulation(&exit), read_versions(&exit), read_audit(&exit), read_owner(&exit));
                let _ = (failed_sources(&exit), kept_files(&exit.stdout), locked(&exit.stdout));
            }
        }
    }
}
