//! How a stage is cut into waves, and how much of it may be at work or go wrong at once: as people write it, and what
//! becomes of that for so many nodes. Who is in which wave is `plan`'s business.

use crate::plan::Limits;
use crate::platform::words;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

words!(
    /// Who lets a wave begin.
    #[derive(Default)]
    Mode, "mode" {
        /// A wave begins when the one before it has ended well.
        #[default]
        Auto = "auto",
        /// A wave begins when an operator says so (`wavegate wave next`).
        Manual = "manual",
    }
);

/// A number of nodes of a stage: `5`, or a part of them: `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many of a hundred, 0 to 100.
    Percent(u32),
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no number of nodes; write a whole number, e.g. 5, or a part of the stage, 1% to 100%")]
pub struct BadAmount {
    text: String,
}

impl Amount {
    /// How many of `nodes` these are: a part is rounded down, but part of something is at least one.
    #[must_use]
    pub fn of(self, nodes: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(0) => 0,
            Self::Percent(percent) => {
                let part = u64::from(nodes) * u64::from(percent) / 100;
                u32::try_from(part).unwrap_or(u32::MAX).max(1)
            }
        }
    }

    /// Whether it is none, of however many.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Count(0) | Self::Percent(0))
    }
}

impl FromStr for Amount {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse::<u32>() {
            Ok(count) if plain && digits.len() == text.len() => Ok(Self::Count(count)),
            Ok(percent) if plain && percent <= 100 => Ok(Self::Percent(percent)),
            Ok(_) | Err(_) => Err(BadAmount { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Amount {
    type Error = BadAmount;
    fn try_from(text: String) -> Result<Self, BadAmount> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The sizes of the waves after the canary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Batches {
    /// As many nodes as may be unavailable.
    #[default]
    MaxUnavailable,
    /// These, in order; the last is the size of all that follow.
    Sizes(Vec<Amount>),
    /// Each is twice as large as the one before it, beginning from the canary.
    Doubling,
}

/// The word for [`Batches::Doubling`].
pub const DOUBLING: &str = "doubling";

impl FromStr for Batches {
    type Err = BadAmount;

    /// `doubling`, or amounts with commas between them: `1,5,25%`.
    fn from_str(text: &str) -> Result<Self, BadAmount> {
        if text == DOUBLING {
            return Ok(Self::Doubling);
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::Sizes)
    }
}

/// How the waves of a stage are made and begun, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WavePolicy {
    /// Nodes in the first wave.
    pub canary: u32,
    /// The sizes of the waves after it.
    pub batches: Batches,
    /// The label by which nodes are grouped: a wave never takes nodes of two groups, nor are two groups worked on at once.
    pub group_by: Option<String>,
    /// Nodes in flight, failed or unknown at the same time.
    pub max_unavailable: Amount,
    /// Failed nodes that are tolerated.
    pub errors_allowed: Amount,
    /// Seconds between the end of a wave and the begin of the next one.
    pub soak_s: u64,
    /// Who lets a wave begin.
    pub start: Mode,
}

/// The same with what somebody wants otherwise; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaveOverride {
    /// See [`WavePolicy::canary`].
    pub canary: Option<u32>,
    /// See [`WavePolicy::batches`].
    pub batches: Option<Batches>,
    /// See [`WavePolicy::group_by`]; an empty text groups by nothing.
    pub group_by: Option<String>,
    /// See [`WavePolicy::max_unavailable`].
    pub max_unavailable: Option<Amount>,
    /// See [`WavePolicy::errors_allowed`].
    pub errors_allowed: Option<Amount>,
    /// See [`WavePolicy::soak_s`].
    pub soak_s: Option<u64>,
    /// See [`WavePolicy::start`].
    pub start: Option<Mode>,
}

/// No wave rests longer than this: 30 days.
pub const LONGEST_SOAK_S: u64 = 30 * 24 * 3600;

impl WavePolicy {
    /// This policy with what somebody wants otherwise.
    #[must_use]
    pub fn with(&self, other: &WaveOverride) -> Self {
        let group_by = other.group_by.clone().or_else(|| self.group_by.clone());
        Self {
            canary: other.canary.unwrap_or(self.canary),
            batches: other.batches.clone().unwrap_or_else(|| self.batches.clone()),
            group_by: group_by.filter(|label| !label.is_empty()),
            max_unavailable: other.max_unavailable.unwrap_or(self.max_unavailable),
            errors_allowed: other.errors_allowed.unwrap_or(self.errors_allowed),
            soak_s: other.soak_s.unwrap_or(self.soak_s),
            start: other.start.unwrap_or(self.start),
        }
    }

    /// What is wrong with it whatever the fleet is: a value with which a stage could never end.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        refuse_zero("canary", self.canary == 0)
            .or_else(|| refuse_zero("max_unavailable", self.max_unavailable.is_zero()))
            .or_else(|| match &self.batches {
                Batches::Sizes(sizes) if sizes.is_empty() => {
                    Some("batches has no size in it; leave it out, or name at least one".to_owned())
                }
                Batches::Sizes(sizes) => refuse_zero("batches", sizes.iter().any(|size| size.is_zero())),
                Batches::MaxUnavailable | Batches::Doubling => None,
            })
            .or_else(|| {
                (self.soak_s > LONGEST_SOAK_S).then(|| {
                    let soak_s = self.soak_s;
                    format!("soak_s {soak_s} is longer than 30 days; it must be {LONGEST_SOAK_S} at most")
                })
            })
    }

    /// What it comes to for a stage of so many nodes.
    ///
    /// # Errors
    /// What is wrong; what would be right.
    pub fn limits(&self, nodes: u32) -> Result<Limits, String> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if nodes > 0 && self.canary > nodes {
            return Err(format!(
                "canary {} is more than the {nodes} node(s) of the stage, so that nothing would be tried before \
                 everything; it must be {nodes} or less",
                self.canary
            ));
        }
        Ok(Limits {
            canary: self.canary,
            max_unavailable: self.max_unavailable.of(nodes),
            errors_allowed: self.errors_allowed.of(nodes),
            soak_s: self.soak_s,
            start: self.start,
        })
    }

    /// The size of a wave of a stage of so many nodes; the canary is wave 0.
    #[must_use]
    pub fn size(&self, wave: usize, nodes: u32) -> u32 {
        if wave == 0 {
            return self.canary;
        }
        let size = match &self.batches {
            Batches::MaxUnavailable => self.max_unavailable.of(nodes),
            Batches::Sizes(sizes) => sizes.get(wave - 1).or(sizes.last()).map_or(1, |size| size.of(nodes)),
            Batches::Doubling => u32::try_from(wave)
                .ok()
                .and_then(|wave| 1u32.checked_shl(wave))
                .map_or(u32::MAX, |factor| self.canary.saturating_mul(factor)),
        };
        size.max(1)
    }
}

/// Why a limit of 0 is refused.
fn refuse_zero(name: &str, zero: bool) -> Option<String> {
    zero.then(|| format!("{name} 0 would let no node start; it must be 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> WavePolicy {
        WavePolicy {
            canary: 1,
            batches: Batches::MaxUnavailable,
            group_by: None,
            max_unavailable: Amount::Count(5),
            errors_allowed: Amount::Count(0),
            soak_s: 0,
            start: Mode::Auto,
        }
    }

    fn sizes(policy: &WavePolicy, nodes: u32) -> Vec<u32> {
        (0..6).map(|wave| policy.size(wave, nodes)).collect()
    }

    #[test]
    fn amounts_are_counts_or_parts() {
        for (text, of_40, of_3) in
            [("5", 5, 5), ("25%", 10, 1), ("1%", 1, 1), ("100%", 40, 3), ("0", 0, 0), ("0%", 0, 0)]
        {
            let amount: Amount = text.parse().expect(text);
            assert_eq!((amount.of(40), amount.of(3), amount.to_string()), (of_40, of_3, text.to_owned()));
        }
        for bad in ["", "%", "-1", "+1", "5 %", "101%", "1.5", "many", "4294967296"] {
            let error = bad.parse::<Amount>().expect_err(bad).to_string();
            assert!(error.starts_with(&format!("'{bad}' is no number of nodes")), "{error}");
        }
    }

    #[test]
    fn waves_grow_as_they_are_told() {
        assert_eq!(sizes(&policy(), 100), [1, 5, 5, 5, 5, 5]);
        let batches = |text: &str| WavePolicy { batches: text.parse().expect(text), ..policy() };
        assert_eq!(sizes(&batches("1,5,25%"), 100), [1, 1, 5, 25, 25, 25]);
        assert_eq!(sizes(&WavePolicy { canary: 3, ..batches(DOUBLING) }, 100), [3, 6, 12, 24, 48, 96]);
        assert_eq!(policy().size(70, 100), 5);
        assert_eq!(batches(DOUBLING).size(70, 100), u32::MAX);
    }

    #[test]
    fn what_could_never_end_is_refused() {
        let wrong = |policy: WavePolicy, nodes| policy.limits(nodes).expect_err("refused");
        insta::assert_snapshot!(wrong(WavePolicy { canary: 0, ..policy() }, 3), @"canary 0 would let no node start; it must be 1 or more");
        insta::assert_snapshot!(wrong(WavePolicy { canary: 4, ..policy() }, 3), @"canary 4 is more than the 3 node(s) of the stage, so that nothing would be tried before everything; it must be 3 or less");
        insta::assert_snapshot!(wrong(WavePolicy { max_unavailable: Amount::Percent(0), ..policy() }, 3), @"max_unavailable 0 would let no node start; it must be 1 or more");
        let batches = Batches::Sizes(vec![Amount::Count(1), Amount::Count(0)]);
        insta::assert_snapshot!(wrong(WavePolicy { batches, ..policy() }, 3), @"batches 0 would let no node start; it must be 1 or more");
        insta::assert_snapshot!(wrong(WavePolicy { soak_s: u64::MAX, ..policy() }, 3), @"soak_s 18446744073709551615 is longer than 30 days; it must be 2592000 at most");
        assert!(WavePolicy { canary: 4, ..policy() }.limits(0).is_ok(), "a stage that nobody takes part in");
    }

    proptest! {
        #[test]
        fn a_size_is_never_nothing(
            canary in 1u32.., percent in 1u32..=100, wave in 0usize..100, nodes in any::<u32>(), doubling in any::<bool>(),
        ) {
            let batches = if doubling { Batches::Doubling } else { Batches::Sizes(vec![Amount::Percent(percent)]) };
            let policy = WavePolicy { canary, batches, max_unavailable: Amount::Percent(percent), ..policy() };
            prop_assert!(policy.size(wave, nodes) >= 1);
            prop_assert!(policy.max_unavailable.of(nodes) >= 1);
        }

        #[test]
        fn texts_are_read_or_refused(text in ".*") {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
            }
            let _ = text.parse::<Batches>();
        }
    }
}
