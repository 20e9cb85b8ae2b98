//! What a node runs on: OS family and release, package manager, service manager; and what it is for: its roles.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A closed set of words, one spelling for data, wire, CLI and logs.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $type {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands in data and output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::platform::UnknownWord;
            fn from_str(text: &str) -> Result<Self, $crate::platform::UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::platform::UnknownWord { what: $what, text: text.to_owned(), known: &[$($word),+] }),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

/// A word that is not in a closed set; the message lists the set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{text}'; known: {}", known.join(", "))]
pub struct UnknownWord {
    /// What kind of word was expected, e.g. `role`.
    pub what: &'static str,
    /// The word that was found.
    pub text: String,
    /// The words that would have been right.
    pub known: &'static [&'static str],
}

words!(
    /// What a node is for; a node may have several roles.
    Role, "role" {
        /// Runs a member of the etcd cluster.
        EtcdMember = "etcd-member",
        /// Runs an etcd v2 proxy in front of local clients.
        EtcdProxy = "etcd-proxy",
        /// Runs an `etcd gateway` in front of local clients.
        EtcdGateway = "etcd-gateway",
        /// Runs Calico's software and no etcd of its own: its configuration names one elsewhere.
        EtcdClient = "etcd-client",
        /// Runs Felix and VMs.
        Compute = "compute",
        /// Runs neutron-server.
        Control = "control",
    }
);

words!(
    /// A stage of the procedure. The order is the order of the upgrade; between two stages stands the barrier.
    Stage, "stage" {
        /// etcd, on every machine that runs it.
        Etcd = "etcd",
        /// Felix and the DHCP agent, on every machine with VMs.
        Compute = "compute",
        /// neutron-server and the Calico driver.
        Control = "control",
    }
);

words!(
    /// The family whose package and file layout conventions a node follows.
    OsFamily, "platform" {
        /// Debian, Ubuntu and derivatives: apt and dpkg.
        Debian = "debian",
        /// RHEL, CentOS, Rocky, Alma, Oracle: yum or dnf, and rpm.
        RedHat = "redhat",
    }
);

words!(
    /// The program that installs packages.
    PackageManager, "package manager" {
        /// `apt-get` over dpkg.
        Apt = "apt",
        /// `yum` (RHEL 7 family) over rpm.
        Yum = "yum",
        /// `dnf` (RHEL 8 and later) over rpm.
        Dnf = "dnf",
    }
);

words!(
    /// The program that is PID 1 and runs services.
    ServiceManager, "service manager" {
        /// systemd, told by `/run/systemd/system`.
        Systemd = "systemd",
        /// upstart (Ubuntu 14.04).
        Upstart = "upstart",
    }
);

/// The platform of a node as the agent found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Conventions the node follows.
    pub family: OsFamily,
    /// `ID` of os-release, e.g. `ubuntu`, `rocky`.
    pub id: String,
    /// `VERSION_ID` of os-release, e.g. `16.04`; empty for a rolling release.
    pub version_id: String,
    /// `PRETTY_NAME` of os-release.
    pub pretty_name: String,
    /// What installs packages here.
    pub package_manager: PackageManager,
    /// What runs services here.
    pub service_manager: ServiceManager,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}/{}", self.id, self.version_id, self.package_manager, self.service_manager)
    }
}

/// An OpenStack release; the order is the order in time.
///
/// Source of the version numbers: releases of neutron, `2014.1` to `2015.1`, then `7.0.0` (Liberty) onward, one major a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release(usize);

const RELEASES: &[&str] = &[
    "icehouse", "juno", "kilo", "liberty", "mitaka", "newton", "ocata", "pike", "queens", "rocky", "stein",
    "train", "ussuri", "victoria", "wallaby", "xena", "yoga", "zed", "antelope", "bobcat", "caracal",
];

impl Release {
    /// The release whose Neutron has this version, as a package or Python version tells it (an epoch is ignored).
    #[must_use]
    pub fn of_neutron(version: &str) -> Option<Self> {
        let version = version.split_once(':').map_or(version, |(_, rest)| rest);
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let major: usize = numbers.next()?.parse().ok()?;
        let index = match (major, numbers.next().unwrap_or("")) {
            (2014, "1") => 0,
            (2014, "2") => 1,
            (2015, "1") => 2,
            (7..2000, _) => major - 4,
            _ => return None,
        };
        (index < RELEASES.len()).then_some(Self(index))
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        RELEASES[self.0]
    }
}

impl std::str::FromStr for Release {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        RELEASES.iter().position(|name| *name == text).map(Self).ok_or_else(|| UnknownWord {
            what: "OpenStack release",
            text: text.to_owned(),
            known: RELEASES,
        })
    }
}

impl TryFrom<String> for Release {
    type Error = UnknownWord;
    fn try_from(text: String) -> Result<Self, UnknownWord> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.as_str().to_owned()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_follow_neutrons_versions() {
        for (version, name) in [
            ("2014.1.3-0ubuntu1", "icehouse"),
            ("1:2014.2-1", "juno"),
            ("1:2015.1.4-0ubuntu2", "kilo"),
            ("2:7.0.4-0ubuntu0.16.04.1", "liberty"),
            ("8.4.0", "mitaka"),
            ("24.0.0", "caracal"),
        ] {
            assert_eq!(Release::of_neutron(version).map(Release::as_str), Some(name), "{version}");
        }
        for unknown in ["", "abc", "3.1", "2013.2", "99.0"] {
            assert_eq!(Release::of_neutron(unknown), None, "{unknown}");
        }
        let liberty: Release = "liberty".parse().expect("a release");
        assert!("kilo".parse::<Release>().expect("a release") < liberty);
        assert!(
            "Liberty".parse::<Release>().expect_err("case matters").to_string().contains("liberty, mitaka")
        );
    }

    #[test]
    fn words_are_one_spelling() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().as_ref(), Ok(role));
            assert_eq!(serde_json::to_string(role).expect("json"), format!("\"{role}\""));
        }
        assert!("etcd".parse::<Role>().expect_err("no role").to_string().contains("etcd-member"));
    }
}
