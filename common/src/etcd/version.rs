//! Versions of etcd: three numbers, however a package or a program decorates them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A version of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EtcdVersion {
    /// First number.
    pub major: u32,
    /// Second: upgrades go one at a time.
    pub minor: u32,
    /// Third.
    pub patch: u32,
}

/// Why a text has no version of etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' has no version of etcd: three numbers with dots between them, as 3.4.23")]
pub struct NoVersion(String);

impl EtcdVersion {
    /// A version of these numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Major and minor number.
    #[must_use]
    pub const fn line(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Reads `3.4.23`, a package's `1:3.4.23+dfsg-4`, a program's `etcd Version: 3.3.25` or `etcd 2.0.11`, `3.4.0-rc.1`: the first three numbers with dots between them.
/// An epoch before a colon is none of them.
impl FromStr for EtcdVersion {
    type Err = NoVersion;
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        let numbers = |word: &str| -> Option<Self> {
            let mut parts = word.split('.').map(str::parse::<u32>);
            let mut next = || parts.next()?.ok();
            Some(Self::new(next()?, next()?, next()?))
        };
        words.into_iter().find_map(numbers).ok_or_else(|| NoVersion(text.to_owned()))
    }
}

impl TryFrom<String> for EtcdVersion {
    type Error = NoVersion;
    fn try_from(text: String) -> Result<Self, NoVersion> {
        text.parse()
    }
}

impl From<EtcdVersion> for String {
    fn from(version: EtcdVersion) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decorated_versions_are_read() {
        for (text, version) in [
            ("3.4.23", (3, 4, 23)),
            ("1:3.4.23+dfsg-4", (3, 4, 23)),
            ("3.3.25+dfsg-6+b6", (3, 3, 25)),
            ("etcd 2.0.11", (2, 0, 11)),
            ("etcd Version: 3.5.16\nGit SHA: GitNotFound\nGo Version: go1.22.6\n", (3, 5, 16)),
            ("3.4.0-rc.1", (3, 4, 0)),
            ("etcd-v3.3.27-linux-amd64", (3, 3, 27)),
        ] {
            let (major, minor, patch) = version;
            assert_eq!(text.parse(), Ok(EtcdVersion::new(major, minor, patch)), "{text}");
        }
        for bad in ["", "3", "3.4", "x.y.z", "not found", "99999999999.1.1"] {
            assert!(bad.parse::<EtcdVersion>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "([0-9]|\\.|:|v| ){0,12}") {
            let _ = (text.parse::<EtcdVersion>(), soup.parse::<EtcdVersion>());
        }

        #[test]
        fn what_is_written_is_read(major in 0..99u32, minor in 0..99u32, patch in 0..999u32) {
            let version = EtcdVersion::new(major, minor, patch);
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }
    }
}
