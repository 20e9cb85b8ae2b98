//! Values as numbers: a value that is equal to a known one in what identifies it gets that one's number.
//!
//! A rollout or a journal is a large value, and of each there are few; of the worlds that are put together from them there
//! are millions. So a world holds numbers, and what production code makes of a value is asked once and remembered with it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

/// What identifies a value: 128 bits of hash over a text that says all that matters of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u64, u64);

impl Identity {
    /// The identity of whatever the text says.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            text.hash(&mut hasher);
            hasher.finish()
        };
        Self(half(1), half(2))
    }
}

/// The values of one kind, by number.
#[derive(Debug)]
pub struct Table<T> {
    known: RwLock<HashMap<Identity, u32>>,
    values: RwLock<Vec<Arc<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { known: RwLock::default(), values: RwLock::default() }
    }
}

impl<T> Table<T> {
    /// The number of a value; `make` is asked for the value if it is new.
    pub fn number(&self, identity: Identity, make: impl FnOnce() -> T) -> u32 {
        if let Some(number) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&identity) {
            return *number;
        }
        let value = Arc::new(make());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known.entry(identity).or_insert_with(|| {
            let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
            values.push(value);
            u32::try_from(values.len() - 1).unwrap_or_else(|_| unreachable!("memory ends before that"))
        })
    }

    /// The value of a number that this table gave.
    #[must_use]
    pub fn get(&self, number: u32) -> Arc<T> {
        self.values.read().unwrap_or_else(PoisonError::into_inner)[number as usize].clone()
    }

    /// All values.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<T>> {
        self.values.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
