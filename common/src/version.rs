//! Versions of wavegate's own programs, and which of them work together.
//!
//! Versions are `MAJOR.MINOR.PATCH`, as the packages have them. Programs of one major version whose minor versions differ by at most
//! one work together, whichever is newer; so a fleet goes up one minor version at a time, coordinator and agents in any order.

use serde::{Deserialize, Serialize};

/// A version of wavegate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// Programs with different ones don't work together.
    pub major: u16,
    /// Counts releases that change what the programs say to each other or keep.
    pub minor: u16,
    /// Counts repairs.
    pub patch: u16,
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version of wavegate: those are MAJOR.MINOR.PATCH, e.g. 0.1.0")]
pub struct BadVersion(pub String);

impl Version {
    /// This program's.
    ///
    /// # Errors
    /// [`BadVersion`]: never in a build that its tests passed on.
    pub fn own() -> Result<Self, BadVersion> {
        env!("CARGO_PKG_VERSION").parse()
    }

    /// Whether programs of these two versions work together: one major version, at most one minor version apart.
    #[must_use]
    pub const fn works_with(self, other: Self) -> bool {
        self.major == other.major && self.minor.abs_diff(other.minor) <= 1
    }
}

impl std::str::FromStr for Version {
    type Err = BadVersion;
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        // What follows a '-' or '+' (a pre-release, a build) is nothing that programs differ in.
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse::<u16>().ok(),
            false => None,
        });
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten(), parts.next()) {
            (Some(major), Some(minor), Some(patch), None) => Ok(Self { major, minor, patch }),
            _ => Err(BadVersion(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;
    fn try_from(text: String) -> Result<Self, BadVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn this_program_has_one() {
        assert_eq!(Version::own().map(|own| own.to_string()).as_deref(), Ok(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn one_minor_version_apart_works() {
        let works = |a: &str, b: &str| version(a).works_with(version(b)) && version(b).works_with(version(a));
        assert!(works("0.1.0", "0.1.9") && works("0.1.0", "0.2.0") && works("1.4.2", "1.3.0"));
        assert!(!works("0.1.0", "0.3.0") && !works("0.9.0", "1.0.0") && !works("1.9.0", "2.9.0"));
    }

    #[test]
    fn what_is_none_is_said() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1..3", "+1.2.3", "1.2.99999"] {
            assert_eq!(text.parse::<Version>(), Err(BadVersion(text.to_owned())));
        }
        assert_eq!(version("1.2.3-rc1+4"), version("1.2.3"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,20}") {
            drop(text.parse::<Version>());
        }

        #[test]
        fn a_version_is_read_as_it_is_written(major: u16, minor: u16, patch: u16) {
            let version = Version { major, minor, patch };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }
    }
}
