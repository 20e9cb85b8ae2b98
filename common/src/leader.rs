//! Who leads: which start of which coordinator an agent obeys, and when a coordinator has been replaced. Who says so to
//! whom is the shells' business.

use crate::id::{Generation, LeaderId};
use crate::journal::Journal;
use std::fmt;

/// A coordinator as an agent meets it: its generation and which start of which coordinator began that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leader {
    /// Its generation; 0 before any was seen.
    pub generation: Generation,
    /// Which start; `None` of coordinators and in journals from before there were leader identities.
    pub id: Option<LeaderId>,
}

impl Leader {
    /// Whether whoever has seen `self` must not obey `other`: it is of a lower generation, or of the same one and another
    /// start. Of two starts of one generation neither is the newer one, so each replaces the other.
    #[must_use]
    pub fn replaces(self, other: Self) -> bool {
        self.generation > other.generation
            || (self.generation == other.generation && self.id.is_some() && self.id != other.id)
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "generation {}, leader {id}", self.generation),
            None => write!(f, "generation {}", self.generation),
        }
    }
}

/// Why an agent does not obey a coordinator of its own fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaderRefusal {
    /// The node has seen a later generation.
    #[error(
        "the coordinator is of generation {}, and this node has seen generation {}: it was replaced, or its store was \
         restored from before. If another coordinator serves the fleet, end this one. If this one is right, on its host: \
         systemctl stop wavegate-coordinator && wavegate-coordinator raise-generation --above {} && systemctl start \
         wavegate-coordinator", said.generation, seen.generation, seen.generation
    )]
    Older {
        /// What the coordinator says of itself.
        said: Leader,
        /// What the node has seen.
        seen: Leader,
    },
    /// The node obeys another start of the same generation.
    #[error(
        "two coordinators work on copies of one store: this one ({said}) and the one that this node obeys ({seen}). End \
         one of them for good; then restart the one that stays: systemctl restart wavegate-coordinator"
    )]
    Other {
        /// What the coordinator says of itself.
        said: Leader,
        /// What the node has seen.
        seen: Leader,
    },
}

impl Journal {
    /// Whether a coordinator that says who it is may be obeyed; true if that is to be recorded first
    /// ([`Record::Generation`](crate::journal::Record::Generation)).
    ///
    /// # Errors
    /// Why it may not be obeyed.
    pub fn judge_leader(&self, said: Leader) -> Result<bool, LeaderRefusal> {
        let seen = self.leader();
        if seen.generation > said.generation {
            return Err(LeaderRefusal::Older { said, seen });
        }
        if seen.replaces(said) {
            return Err(LeaderRefusal::Other { said, seen });
        }
        Ok(seen != said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Record;

    fn leader(generation: u64, id: Option<u64>) -> Leader {
        Leader { generation: Generation(generation), id: id.map(LeaderId::new) }
    }

    fn record(leader: Leader) -> Record {
        Record::Generation { generation: leader.generation, leader: leader.id }
    }

    fn seen(leaders: &[Leader]) -> Journal {
        let mut journal = Journal::default();
        for leader in leaders {
            journal.apply(&record(*leader)).expect("it fits");
        }
        journal
    }

    #[test]
    fn a_lower_generation_and_another_start_of_the_same_one_are_refused() {
        let (ours, twin, nameless) = (leader(7, Some(1)), leader(7, Some(2)), leader(7, None));
        let journal = seen(&[ours]);
        assert_eq!(journal.judge_leader(ours), Ok(false));
        assert_eq!(journal.judge_leader(leader(8, Some(2))), Ok(true));
        assert_eq!(journal.judge_leader(twin), Err(LeaderRefusal::Other { said: twin, seen: ours }));
        assert_eq!(journal.judge_leader(nameless), Err(LeaderRefusal::Other { said: nameless, seen: ours }));
        for id in [Some(1), Some(2), None] {
            let said = leader(6, id);
            assert_eq!(journal.judge_leader(said), Err(LeaderRefusal::Older { said, seen: ours }));
        }
    }

    #[test]
    fn a_journal_from_before_leader_identities_takes_the_first_leader_of_its_generation() {
        let old: Record =
            serde_json::from_str(r#"{"record":"generation","generation":7}"#).expect("an old record");
        assert_eq!(old, record(leader(7, None)));
        let mut journal = seen(&[leader(7, None)]);
        assert_eq!(journal.judge_leader(leader(7, None)), Ok(false));
        assert_eq!(journal.judge_leader(leader(7, Some(1))), Ok(true));
        journal.apply(&record(leader(7, Some(1)))).expect("it fits");
        assert!(journal.judge_leader(leader(7, Some(2))).is_err());
    }

    #[test]
    fn the_leader_outlives_compaction_and_is_not_replaced_by_a_lower_generation() {
        let journal = seen(&[leader(3, Some(1)), leader(7, Some(2)), leader(5, Some(3)), leader(7, None)]);
        assert_eq!(journal.leader(), leader(7, Some(2)));
        let mut again = Journal::default();
        for record in journal.compacted() {
            again.apply(&record).expect("it fits");
        }
        assert_eq!(again, journal);
    }

    #[test]
    fn the_refusals_say_what_to_do() {
        let (ours, twin, older) = (leader(7, Some(1)), leader(7, Some(2)), leader(6, Some(3)));
        let refused = |said| seen(&[ours]).judge_leader(said).expect_err("refused").to_string();
        insta::assert_snapshot!(refused(older), @"the coordinator is of generation 6, and this node has seen generation 7: it was replaced, or its store was restored from before. If another coordinator serves the fleet, end this one. If this one is right, on its host: systemctl stop wavegate-coordinator && wavegate-coordinator raise-generation --above 7 && systemctl start wavegate-coordinator");
        insta::assert_snapshot!(refused(twin), @"two coordinators work on copies of one store: this one (generation 7, leader 0000000000000002) and the one that this node obeys (generation 7, leader 0000000000000001). End one of them for good; then restart the one that stays: systemctl restart wavegate-coordinator");
    }
}
