//! What decides about a transaction, told without asking a package manager: the package database, the lists of the
//! repositories, and what people configure. By files' identities and times alone; nothing of them is read.

use crate::host::seen::Seen;
use crate::host::{Digested, Host};
use crate::os::Os;
use std::path::Path;
use wavegate_common::platform::OsFamily;

/// dpkg writes its database anew, under the same name.
const DPKG: [&str; 1] = ["/var/lib/dpkg/status"];

/// What apt keeps beside it: the lists as it read them last, and which packages came along with others.
const APT_KEEPS: [&str; 2] = ["/var/lib/apt/lists", "/var/lib/apt/extended_states"];

/// rpm's, in each of the formats and places that it has had: Berkeley DB, ndb, SQLite; the last place is that of Debian's rpm.
const RPM: [&str; 7] = [
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/root/.rpmdb/rpmdb.sqlite",
];

/// SQLite's log beside a database. Who only reads makes it anew too, so what it holds counts, which is mostly nothing.
const LOG: &str = "-wal";

/// Sources, pins, options; see apt_preferences(5), sources.list(5), apt.conf(5).
const APT: [&str; 7] = [
    "/etc/apt",
    "/etc/apt/apt.conf",
    "/etc/apt/apt.conf.d",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
];

/// Repositories, options, locks on versions; see yum.conf(5), dnf.conf(5), the plugins versionlock of both.
const YUM: [&str; 11] = [
    "/etc/yum.conf",
    "/etc/yum.repos.d",
    "/etc/yum/repos.d",
    "/etc/distro.repos.d",
    "/etc/yum/pluginconf.d",
    "/etc/yum/vars",
    "/etc/dnf/dnf.conf",
    "/etc/dnf/plugins",
    "/etc/dnf/modules.d",
    "/etc/dnf/vars",
    "/etc/dnf/protected.d",
];

/// What people configure of the repositories and of the package manager, as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesState(Vec<Seen>);

/// All that decides about a transaction: the sources, the database and what is kept beside it as they are seen from outside; of
/// the database's logs what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState {
    sources: SourcesState,
    database: Vec<Seen>,
    logs: Vec<Option<Digested>>,
}

impl Os {
    /// How the sources are now: the same again as long as nobody changed them.
    #[must_use]
    pub fn sources_state(&self, host: &dyn Host) -> SourcesState {
        let all: &[&str] = match self.platform.family {
            OsFamily::Debian => &APT,
            OsFamily::RedHat => &YUM,
        };
        let mut sources = Vec::new();
        for path in all {
            sources.push(Seen::of((*path).to_owned(), host));
            // A file that is written in its place leaves its directory as it was.
            let below = host.list(Path::new(path)).into_iter().map(|name| format!("{path}/{name}"));
            sources.extend(below.map(|path| Seen::of(path, host)));
        }
        SourcesState(sources)
    }

    /// How it all is now: the same again as long as nothing was changed. `None` where no package database is found.
    #[must_use]
    pub fn database_state(&self, host: &dyn Host) -> Option<DatabaseState> {
        let (database, beside): (&[&str], &[&str]) = match self.platform.family {
            OsFamily::Debian => (&DPKG, &APT_KEEPS),
            OsFamily::RedHat => (&RPM, &[]),
        };
        if !database.iter().any(|path| host.exists(Path::new(path))) {
            return None;
        }
        let log = |path: &&str| host.digest(Path::new(&format!("{path}{LOG}")));
        let logs = database.iter().map(log).collect::<Result<_, _>>().ok()?;
        let database = database.iter().chain(beside).map(|path| Seen::of((*path).to_owned(), host)).collect();
        Some(DatabaseState { sources: self.sources_state(host), database, logs })
    }
}
