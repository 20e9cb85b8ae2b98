//! Conditions of steps: what they say, and what they come to on a node.

use super::diagnostic::unknown_word;
use super::template::Lookup;
use super::value::{AUTO, Type, Value};
use crate::platform::Release;

/// A condition, each with the parameter that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `${flag}`: the flag is on.
    On(String),
    /// `not ${flag}`: the flag is off.
    Off(String),
    /// `${release} >= liberty`: the node's OpenStack release is this one or later.
    From(String, Release),
    /// `${release} < liberty`: the node's OpenStack release is earlier.
    Before(String, Release),
}

/// What a condition comes to on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Met,
    /// It does not, for this reason.
    Unmet(String),
    /// The node's OpenStack release decides, and nobody knows it; the parameter could tell it.
    UnknownRelease(String),
    /// The parameter has no value.
    Missing(String),
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong; what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parameter = |word: &str| word.strip_prefix("${")?.strip_suffix('}').map(str::to_owned);
        let release = |word: &str| word.parse::<Release>().map_err(|error| unknown_word(&error));
        let words: Vec<&str> = text.split_whitespace().collect();
        let read = match words.as_slice() {
            [flag] => parameter(flag).map(Self::On),
            ["not", flag] => parameter(flag).map(Self::Off),
            [name, ">=", from] => match parameter(name) {
                Some(name) => Some(Self::From(name, release(from)?)),
                None => None,
            },
            [name, "<", before] => match parameter(name) {
                Some(name) => Some(Self::Before(name, release(before)?)),
                None => None,
            },
            _ => None,
        };
        read.ok_or_else(|| {
            format!(
                "'{text}' is not a condition; write '${{flag}}', 'not ${{flag}}', '${{release}} >= liberty' or \
                 '${{release}} < liberty'"
            )
        })
    }

    /// The parameter that decides.
    #[must_use]
    pub fn parameter(&self) -> &str {
        match self {
            Self::On(name) | Self::Off(name) | Self::From(name, _) | Self::Before(name, _) => name,
        }
    }

    /// What type that parameter must have.
    #[must_use]
    pub const fn wants(&self) -> Type {
        match self {
            Self::On(_) | Self::Off(_) => Type::Flag,
            Self::From(..) | Self::Before(..) => Type::Release,
        }
    }

    /// What it comes to on a node whose agent found this release.
    #[must_use]
    pub fn judge(&self, value: Lookup<'_>, found: Option<Release>) -> Verdict {
        let name = self.parameter();
        let Some(set) = value(name) else { return Verdict::Missing(name.to_owned()) };
        let unless = |met: bool, reason: &dyn Fn() -> String| {
            if met { Verdict::Met } else { Verdict::Unmet(reason()) }
        };
        match self {
            Self::On(_) => unless(set == Value::Flag(true), &|| format!("parameter {name} is off")),
            Self::Off(_) => unless(set == Value::Flag(false), &|| format!("parameter {name} is on")),
            Self::From(_, release) => match release_of(&set, found) {
                Some(has) => {
                    unless(has >= *release, &|| format!("OpenStack release {has} is before {release}"))
                }
                None => Verdict::UnknownRelease(name.to_owned()),
            },
            Self::Before(_, release) => match release_of(&set, found) {
                Some(has) => {
                    unless(has < *release, &|| format!("OpenStack release {has} is not before {release}"))
                }
                None => Verdict::UnknownRelease(name.to_owned()),
            },
        }
    }
}

/// The release that a parameter's value means on a node whose agent found this one.
pub(crate) fn release_of(value: &Value, found: Option<Release>) -> Option<Release> {
    match value {
        Value::Text(text) if text == AUTO => found,
        Value::Text(text) => text.parse().ok(),
        Value::Flag(_) | Value::Number(_) | Value::List(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(condition: &str, value: Option<Value>, found: Option<&str>) -> Verdict {
        let found = found.map(|name| name.parse().expect("a release"));
        Condition::parse(condition).expect("a condition").judge(&|_| value.clone(), found)
    }

    #[test]
    fn flags() {
        assert_eq!(judge("${x}", Some(Value::Flag(true)), None), Verdict::Met);
        assert_eq!(
            judge("${x}", Some(Value::Flag(false)), None),
            Verdict::Unmet("parameter x is off".into())
        );
        assert_eq!(judge("not ${x}", Some(Value::Flag(false)), None), Verdict::Met);
        assert_eq!(
            judge("not  ${x}", Some(Value::Flag(true)), None),
            Verdict::Unmet("parameter x is on".into())
        );
        assert_eq!(judge("${x}", None, None), Verdict::Missing("x".into()));
    }

    #[test]
    fn releases() {
        let auto = || Some(Value::Text(AUTO.into()));
        assert_eq!(judge("${r} >= liberty", auto(), Some("liberty")), Verdict::Met);
        assert_eq!(
            judge("${r} >= liberty", auto(), Some("kilo")),
            Verdict::Unmet("OpenStack release kilo is before liberty".into())
        );
        assert_eq!(
            judge("${r} < liberty", auto(), Some("liberty")),
            Verdict::Unmet("OpenStack release liberty is not before liberty".into())
        );
        assert_eq!(judge("${r} < liberty", auto(), None), Verdict::UnknownRelease("r".into()));
        let kilo = Some(Value::Text("kilo".into()));
        assert_eq!(judge("${r} < liberty", kilo, Some("mitaka")), Verdict::Met, "the site knows better");
    }

    #[test]
    fn other_texts_are_no_conditions() {
        for text in ["", "x", "${x", "not x", "${r} > liberty", "release >= liberty", "${x} and ${y}"] {
            let error = Condition::parse(text).expect_err(text);
            assert!(error.starts_with(&format!("'{text}' is not a condition; write '${{flag}}'")), "{error}");
        }
        assert!(Condition::parse("${r} >= libert").expect_err("unknown").contains("did you mean 'liberty'?"));
    }
}
