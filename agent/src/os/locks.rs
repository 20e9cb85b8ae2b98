//! Who is in the way of a package manager: the lock files of apt, dpkg, yum, dnf and rpm, and who holds them. Nothing here
//! removes a lock: it goes with its holder.

use super::Os;
use crate::host::Host;
use std::fmt;
use std::path::Path;
use wavegate_common::platform::OsFamily;

/// What a package manager is about to do, and so which locks it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To read the package lists, and to work out a transaction.
    Lists,
    /// To change packages.
    Packages,
}

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its id.
    pub pid: u32,
    /// Its program's name, or that of the script it runs; `a process` if it can't be seen any more.
    pub name: String,
    /// The lock.
    pub file: &'static str,
    /// Whether the lock is a file with a process id, which a process that was killed leaves behind: another process may
    /// have got that id.
    pub by_pid: bool,
}

/// `apt-get (pid 12), which holds /var/lib/dpkg/lock`.
impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}), which holds {}", self.name, self.pid, self.file)
    }
}

/// How a lock is held.
#[derive(Clone, Copy)]
enum How {
    /// By fcntl(2) on the file.
    Posix,
    /// By a live process whose id is in the file.
    PidFile,
}

/// Files of apt (apt-pkg/deb/debsystem.cc, apt-pkg/acquire.cc) and dpkg (lib/dpkg/dbmodify.c).
const DEBIAN: [(Need, How, &str); 4] = [
    (Need::Lists, How::Posix, "/var/lib/apt/lists/lock"),
    (Need::Packages, How::Posix, "/var/lib/dpkg/lock-frontend"),
    (Need::Packages, How::Posix, "/var/lib/dpkg/lock"),
    (Need::Packages, How::Posix, "/var/cache/apt/archives/lock"),
];

/// Files of yum 3.4 (yum/__init__.py), dnf 4 (dnf/lock.py; seen with 4.14) and rpm (lib/rpmlock.c).
const RED_HAT: [(Need, How, &str); 6] = [
    (Need::Lists, How::PidFile, "/var/run/yum.pid"),
    (Need::Lists, How::PidFile, "/var/cache/dnf/metadata_lock.pid"),
    // Who fetches or changes packages by what the lists say is about to make another answer of them.
    (Need::Lists, How::PidFile, "/var/cache/dnf/download_lock.pid"),
    (Need::Lists, How::PidFile, "/var/lib/dnf/rpmdb_lock.pid"),
    (Need::Packages, How::Posix, "/var/lib/rpm/.rpm.lock"),
    (Need::Packages, How::Posix, "/usr/lib/sysimage/rpm/.rpm.lock"),
];

impl Os {
    /// The first process found that holds a lock which is needed.
    #[must_use]
    pub fn lock_holder(&self, host: &dyn Host, need: Need) -> Option<LockHolder> {
        self.lock_holders(host, need).next()
    }

    /// Every process that holds a lock which is needed, once for every lock. On Red Hat's family packages need the locks of the
    /// lists too: the same program reads them.
    pub fn lock_holders<'a>(
        &self,
        host: &'a dyn Host,
        need: Need,
    ) -> impl Iterator<Item = LockHolder> + use<'a> {
        let (locks, together) = match self.platform.family {
            OsFamily::Debian => (DEBIAN.as_slice(), false),
            OsFamily::RedHat => (RED_HAT.as_slice(), true),
        };
        let needed = move |of: Need| of == need || (together && need == Need::Packages);
        locks.iter().filter(move |(of, _, _)| needed(*of)).filter_map(move |(_, how, file)| {
            let pid = match how {
                How::Posix => host.lock_holder(Path::new(file))?,
                How::PidFile => live(host, file)?,
            };
            let by_pid = matches!(how, How::PidFile);
            Some(LockHolder { pid, name: name_of(host, pid), file, by_pid })
        })
    }
}

fn live(host: &dyn Host, file: &str) -> Option<u32> {
    let content = host.read(Path::new(file)).ok()??;
    let pid = std::str::from_utf8(&content).ok()?.trim().parse().ok()?;
    host.process(pid).map(|process| process.pid)
}

fn name_of(host: &dyn Host, pid: u32) -> String {
    let Some(process) = host.process(pid) else { return "a process".to_owned() };
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut words = process.cmdline.iter();
    let first = words.next().map(|program| base(program)).unwrap_or_default();
    let script = words.find(|word| !word.starts_with('-')).map(|script| base(script));
    match script {
        // yum, dnf and unattended-upgrades are Python.
        Some(script) if ["python", "sh", "perl"].iter().any(|start| first.starts_with(start)) => script,
        _ if first.is_empty() => "a process".to_owned(),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::bench::Bench;
    use crate::host::fake::FakeMachine;

    fn holder(bench: &Bench, need: Need) -> Option<String> {
        bench.os.lock_holder(&bench.host, need).map(|holder| holder.to_string())
    }

    #[test]
    fn the_holder_is_named_with_the_lock_that_it_holds() {
        let bench = Bench::new(FakeMachine::debian());
        assert_eq!((holder(&bench, Need::Lists), holder(&bench, Need::Packages)), (None, None));
        let argv = ["/usr/bin/python3", "-u", "/usr/bin/unattended-upgrade"].map(str::to_owned);
        let pid = bench.machine().spawn(&argv);
        bench.machine().locks.insert("/var/lib/dpkg/lock".into(), pid);
        let held = "unattended-upgrade (pid 1000), which holds /var/lib/dpkg/lock";
        assert_eq!(holder(&bench, Need::Packages).as_deref(), Some(held));
        assert_eq!(holder(&bench, Need::Lists), None, "reading lists needs another lock");
    }

    #[test]
    fn a_pid_file_counts_while_its_process_lives() {
        let bench = Bench::new(FakeMachine::redhat());
        bench.machine().put_file("/var/run/yum.pid", "4711\n");
        assert_eq!(holder(&bench, Need::Packages), None, "nobody has this id");
        let pid = bench.machine().spawn(&["/usr/bin/python".to_owned(), "/usr/bin/yum".to_owned()]);
        bench.machine().put_file("/var/run/yum.pid", format!("{pid}\n"));
        let held = "yum (pid 1000), which holds /var/run/yum.pid";
        assert_eq!(holder(&bench, Need::Packages).as_deref(), Some(held));
        assert_eq!(holder(&bench, Need::Lists).as_deref(), Some(held));
        bench.machine().put_file("/var/run/yum.pid", "soon\n");
        assert_eq!(holder(&bench, Need::Lists), None);
    }
}
