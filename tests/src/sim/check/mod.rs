//! What must hold, judged from the outside: from the event log read by rules of its own (`log`), and, independent of it, from
//! what hosts did and when (`hosts`) and how they look in the end (`ending`). Nothing here asks production code for a verdict.

pub mod ending;
pub mod hosts;
pub mod log;

use std::fmt;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: the barrier.
    Barrier,
    /// I2: never more than max_unavailable nodes.
    Unavailable,
    /// I3: an etcd member is worked on alone.
    OneMember,
    /// I4: a step takes effect once.
    EffectOnce,
    /// I5: nothing new after pause or stop; nothing is sent that is not stored.
    NothingNew,
    /// I6: no order from the past or from elsewhere changes anything.
    Fenced,
    /// I7: the counts add up.
    Counts,
    /// I8: what is not over says what it waits for.
    SaysWhy,
    /// I9: a willing operator and working nodes reach the end.
    Ends,
    /// The log only grows, and what was stored stays.
    LogStays,
    /// The log, replayed, is the state in memory.
    Replay,
    /// Processes that are nobody's business live on.
    Bystanders,
    /// What a journal says was done can be told from what was not: acknowledged ends, no damage.
    Journal,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Barrier => "I1 (the barrier)",
            Self::Unavailable => "I2 (max_unavailable)",
            Self::OneMember => "I3 (one etcd member)",
            Self::EffectOnce => "I4 (a step takes effect once)",
            Self::NothingNew => "I5 (nothing new after pause or stop, nothing sent that is not stored)",
            Self::Fenced => "I6 (orders from the past or from elsewhere)",
            Self::Counts => "I7 (the counts add up)",
            Self::SaysWhy => "I8 (says what it waits for)",
            Self::Ends => "I9 (reaches the end)",
            Self::LogStays => "the log stays",
            Self::Replay => "replay",
            Self::Bystanders => "bystanders",
            Self::Journal => "the journal",
        })
    }
}

/// Something that must hold and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is broken: {what}")]
pub struct Violation {
    /// What must hold.
    pub invariant: Invariant,
    /// What was seen.
    pub what: String,
}

/// That something must hold, or else what was seen.
///
/// # Errors
/// [`Violation`] if it does not hold.
pub fn must(invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, what: what() }) }
}
