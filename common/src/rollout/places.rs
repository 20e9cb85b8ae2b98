//! Where a node stands in a stage, as a number, and sets of such numbers. Which node has which is `index`'s business.

/// The place of a node among the nodes of a stage, from 0: by name, or in the order of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32);

impl Place {
    /// The place with this number. A plan of more nodes than fit is beyond any memory.
    pub(super) fn new(number: usize) -> Self {
        Self(u32::try_from(number).unwrap_or(u32::MAX))
    }

    pub(super) const fn number(self) -> usize {
        self.0 as usize
    }

    const fn word(self) -> usize {
        self.number() / 64
    }

    const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// A set of places of one stage, a bit each: to put in, take out and look up is one step, and all of them come in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PlaceSet {
    words: Vec<u64>,
    len: usize,
}

impl PlaceSet {
    /// The empty set for a stage of so many nodes.
    pub(super) fn new(nodes: usize) -> Self {
        Self { words: vec![0; nodes.div_ceil(64)], len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, place: Place) -> bool {
        self.words.get(place.word()).is_some_and(|word| word & place.bit() != 0)
    }

    /// Puts a place in or takes it out.
    pub(super) fn set(&mut self, place: Place, is_in: bool) {
        let Some(word) = self.words.get_mut(place.word()) else { return };
        match (*word & place.bit() != 0, is_in) {
            (false, true) => self.len += 1,
            (true, false) => self.len -= 1,
            (true, true) | (false, false) => return,
        }
        *word ^= place.bit();
    }

    pub(super) fn first(&self) -> Option<Place> {
        self.iter().next()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Place> {
        self.from(Place(0))
    }

    /// The places from one on.
    pub(super) fn from(&self, first: Place) -> impl Iterator<Item = Place> {
        let words = self.words.iter().enumerate().skip(first.word());
        places(words.map(move |(index, word)| match index == first.word() {
            true => (index, word & (u64::MAX << (first.0 % 64))),
            false => (index, *word),
        }))
    }

    /// The places that are in one of two sets of a stage.
    pub(super) fn union<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Place> + 'a {
        places(self.words.iter().zip(&other.words).map(|(one, other)| one | other).enumerate())
    }
}

fn places(words: impl Iterator<Item = (usize, u64)>) -> impl Iterator<Item = Place> {
    words.filter(|(_, word)| *word != 0).flat_map(|(index, mut word)| {
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
            word &= word - 1;
            Some(Place::new(index * 64 + bit))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in_and_not_taken_out(
            changes in prop::collection::vec((0..200usize, any::<bool>()), 0..100),
            others in prop::collection::btree_set(0..200usize, 0..20),
            first in 0..250usize,
        ) {
            let (mut set, mut expected) = (PlaceSet::new(200), BTreeSet::new());
            for (number, is_in) in changes {
                set.set(Place::new(number), is_in);
                if is_in { expected.insert(number) } else { expected.remove(&number) };
                prop_assert_eq!(set.contains(Place::new(number)), is_in);
            }
            prop_assert_eq!(set.is_empty(), expected.is_empty());
            prop_assert_eq!(set.first().map(Place::number), expected.first().copied());
            let numbers: BTreeSet<usize> = set.iter().map(Place::number).collect();
            prop_assert_eq!(&numbers, &expected);
            let from: Vec<usize> = set.from(Place::new(first)).map(Place::number).collect();
            prop_assert_eq!(from, expected.range(first..).copied().collect::<Vec<_>>());
            let mut other = PlaceSet::new(200);
            others.iter().for_each(|number| other.set(Place::new(*number), true));
            let both: Vec<usize> = set.union(&other).map(Place::number).collect();
            prop_assert_eq!(both, expected.union(&others).copied().collect::<Vec<_>>());
        }
    }
}
