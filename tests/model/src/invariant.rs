//! The invariants by name, and sets of those that were seen broken. Where each is checked stands with its name.

/// What must hold in every reachable world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// When a task is given out, every step of every earlier stage has truly taken effect on every node of it
    /// (`world`, against what the nodes really did).
    I1,
    /// Nodes of a stage that work on it by their own journals, or are in flight, failed or unknown to the coordinator,
    /// are never more than max_unavailable, nor of two groups; waived ones do not count (`world`).
    I2,
    /// Of the members of etcd one at most works on its stage, is in flight, failed or unknown (`world`); and when a task of that
    /// stage is given out, no member is one of several nodes that are (`world`, `reading`).
    I3,
    /// No step takes effect twice, and when the rollout is finished every one has (`node`, `world`).
    I4,
    /// While the rollout is paused, being stopped or stopped, by a reading of the log of its own, nothing is given out and
    /// no order is sent to a node that has not had it (`coordinator`, `world`).
    I5,
    /// No journal takes an order of a generation lower than the node was told of, of an earlier attempt than it has had,
    /// nor one a second time, whatever rollout and plan it is of; and no coordinator of a lower generation, or of the same one
    /// and another start, is obeyed (`node`).
    I6,
    /// The parts of the counts are what is counted one by one, and add up to the nodes of the plan (`coordinator`).
    I7,
    /// What has not ended says what it waits for, whatever is seen of the nodes (`coordinator`).
    I8,
    /// From here a willing operator and working nodes reach the end (`willing`).
    I9,
    /// No task is given out before the waves before it are over and, for the first of its wave, an operator let it begin or
    /// what was done before has rested (`reading`).
    Waves,
    /// What `decide` offers and a report amounts to is legal, and no honest report is a contradiction (`coordinator`).
    Legal,
    /// The log, applied from its beginning, gives the same rollout: so does a restart (`coordinator`).
    Replay,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::Waves,
        Self::Legal,
        Self::Replay,
    ];

    /// Its name and what it says, in a line.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::I1 => "I1 no task is given out before the earlier stages are done",
            Self::I2 => "I2 never more than max_unavailable nodes, nor of two groups",
            Self::I3 => "I3 a member of etcd is alone",
            Self::I4 => "I4 every step takes effect once",
            Self::I5 => "I5 nothing new after pause and stop",
            Self::I6 => "I6 an old order changes nothing",
            Self::I7 => "I7 the counts add up",
            Self::I8 => "I8 what has not ended says what it waits for",
            Self::I9 => "I9 the end can be reached",
            Self::Waves => "waves: in their order, rested or released",
            Self::Legal => "legal: what is decided and reported can be recorded",
            Self::Replay => "replay: a restart gives the same rollout",
        }
    }
}

/// A set of invariants that were seen broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Broken(u16);

impl Broken {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is.
    #[must_use]
    pub const fn has(self, invariant: Invariant) -> bool {
        self.0 & (1 << invariant as u16) != 0
    }

    /// Notes one, unless it holds.
    pub const fn unless(&mut self, holds: bool, invariant: Invariant) {
        if !holds {
            self.0 |= 1 << invariant as u16;
        }
    }

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
