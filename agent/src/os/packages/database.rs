//! What decides about a transaction, told without asking a package manager: the package database, the lists of the
//! repositories, and what people configure. By files' identities and times alone; nothing of them is read.

use crate::host::{Digested, Host};
use crate::os::Os;
use std::path::Path;
use wavegate_common::id::Timestamp;
use wavegate_common::platform::OsFamily;

/// dpkg writes its database anew, under the same name.
const DPKG: [&str; 1] = ["/var/lib/dpkg/status"];

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

/// Lists, sources, pins, options; see apt_preferences(5), sources.list(5), apt.conf(5).
const APT: [&str; 8] = [
    "/var/lib/apt/lists",
    "/etc/apt",
    "/etc/apt/apt.conf",
    "/etc/apt/apt.conf.d",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
];

/// Repositories, options, locks on versions; see yum.conf(5), dnf.conf(5), the plugins versionlock of both.
const YUM: [&str; 9] = [
    "/etc/yum.conf",
    "/etc/yum.repos.d",
    "/etc/yum/pluginconf.d",
    "/etc/yum/vars",
    "/etc/dnf/dnf.conf",
    "/etc/dnf/plugins",
    "/etc/dnf/modules.d",
    "/etc/dnf/vars",
    "/etc/dnf/protected.d",
];

/// Of each file and directory which it is, and when anything about it last changed; of logs what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState(Vec<Seen>, Vec<Option<Digested>>);

type Seen = (String, Option<(u64, u64)>, Option<Timestamp>);

impl Os {
    /// How it all is now: the same again as long as nothing was changed. `None` where no package database is found.
    #[must_use]
    pub fn database_state(&self, host: &dyn Host) -> Option<DatabaseState> {
        let (database, others): (&[&str], &[&str]) = match self.platform.family {
            OsFamily::Debian => (&DPKG, &APT),
            OsFamily::RedHat => (&RPM, &YUM),
        };
        if !database.iter().any(|path| host.exists(Path::new(path))) {
            return None;
        }
        let mut all = Vec::new();
        for path in database.iter().chain(others) {
            all.push(seen(path.to_string(), host));
            // A file that is written in its place leaves its directory as it was.
            if others.contains(path) && *path != APT[0] {
                let below = host.list(Path::new(path)).into_iter().map(|name| format!("{path}/{name}"));
                all.extend(below.map(|path| seen(path, host)));
            }
        }
        let log = |path: &&str| host.digest(Path::new(&format!("{path}{LOG}")));
        let logs = database.iter().map(log).collect::<Result<_, _>>().ok()?;
        Some(DatabaseState(all, logs))
    }
}

fn seen(path: String, host: &dyn Host) -> Seen {
    let (identity, changed) = (host.identity(Path::new(&path)), host.changed_at(Path::new(&path)));
    (path, identity, changed)
}
