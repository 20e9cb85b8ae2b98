//! Names and numbers that identify things: nodes, rollouts, plans, steps, generations, moments.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what}: {rule}")]
pub struct BadId {
    what: &'static str,
    text: String,
    rule: &'static str,
}

fn is_name(text: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| begins(byte) || matches!(byte, b'-' | b'.' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(inner) && text.bytes().next().is_some_and(begins)
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the form: 1 to 64 of `a-z 0-9 - . _`, starting with a letter or digit.
            ///
            /// # Errors
            /// [`BadId`] with the text and the rule it breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, BadId> {
                let text = text.as_ref();
                if is_name(text) {
                    return Ok(Self(text.into()));
                }
                Err(BadId {
                    what: $what,
                    text: text.to_owned(),
                    rule: "use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit",
                })
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $type {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $what))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        $type::new(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// One machine with one agent and one certificate; by default its host name.
    NodeId,
    "node name"
);
name!(
    /// A step of a stage, unique in its stage and platform family.
    StepId,
    "step id"
);
name!(
    /// One execution of one plan.
    RolloutId,
    "rollout id"
);
name!(
    /// A plan, by the first 12 hexadecimal digits of its SHA-256 digest.
    PlanId,
    "plan id"
);
name!(
    /// The fleet that one coordinator and its certificate authority serve.
    FleetId,
    "fleet id"
);

/// The fencing number of the coordinator that gave an order: it grows at every start of the coordinator, and an
/// agent never obeys a lower one than it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// No coordinator gets further: a start a second for millions of years. A node that says that it has seen more has a wrong journal.
pub const HIGHEST_GENERATION: Generation = Generation(1 << 48);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One start of one coordinator, drawn at random, so that two that began the same generation on copies of one store are
/// told apart. Its text has 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaderId(u64);

impl LeaderId {
    /// The identity with these bits; where they come from is the shell's business.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for LeaderId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let bits = if text.len() == 16 && text.chars().all(digit) {
            u64::from_str_radix(text, 16).ok()
        } else {
            None
        };
        let bad = || BadId { what: "leader id", text: text.to_owned(), rule: "it has 16 of 0-9 and a-f" };
        bits.map(Self).ok_or_else(bad)
    }
}

impl TryFrom<String> for LeaderId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<LeaderId> for String {
    fn from(id: LeaderId) -> Self {
        id.to_string()
    }
}

/// A moment: milliseconds since 1970-01-01T00:00:00Z. The shells read the clock; the core only compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to this moment; 0 if it is not later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment as people read it everywhere, to the second: `2026-11-22T20:00:00Z`.
    #[must_use]
    pub fn utc(self) -> String {
        let (days, seconds) = (self.0 / 86_400_000, self.0 / 1000 % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the day so many days after 1970-01-01, in the Gregorian calendar. Years begin with March here, so
/// that the day that comes every four years is the last one (Howard Hinnant, "chrono-compatible low-level date algorithms").
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Who asked for something: an operator's name as authenticated, or `wavegate` itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(NodeId::new("compute-1.example").is_ok());
        for bad in ["", "Compute", "-a", "a b", "a/b", &"x".repeat(65)] {
            let error = NodeId::new(bad).expect_err(bad).to_string();
            assert!(error.contains("node name") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_leader_is_its_sixteen_digits() {
        let leader = LeaderId::new(0x2a);
        assert_eq!(leader.to_string(), "000000000000002a");
        assert_eq!("000000000000002a".parse(), Ok(leader));
        assert_eq!(serde_json::to_string(&leader).expect("written"), "\"000000000000002a\"");
        for bad in ["", "2a", "000000000000002A", "+00000000000002a", "0000000000000002a"] {
            let error = bad.parse::<LeaderId>().expect_err(bad).to_string();
            assert!(error.contains("leader id") && error.contains("16"), "{error}");
        }
    }

    #[test]
    fn moments_are_told_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_799_999, "2000-02-29T23:59:59Z"),
            (1_795_348_861_500, "2026-11-22T12:01:01Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(millis).utc(), text);
        }
        assert!(Timestamp(u64::MAX).utc().ends_with('Z'));
    }

    #[test]
    fn names_are_checked_when_deserialized() {
        assert!(serde_json::from_str::<StepId>("\"install\"").is_ok());
        assert!(serde_json::from_str::<StepId>("\"rm -rf\"").is_err());
    }
}
