//! A list that is cheap to copy: copies share what neither has changed since, a chunk of the list at a time.

use std::sync::Arc;

const CHUNK: usize = 64;

/// A list of a length that never changes, in chunks that copies share until one of them writes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks<T> {
    chunks: Vec<Arc<[T]>>,
}

impl<T: Clone> Chunks<T> {
    pub(super) fn new(items: &[T]) -> Self {
        Self { chunks: items.chunks(CHUNK).map(Arc::from).collect() }
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// To change an item: its chunk is copied first if another list shares it.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        Arc::make_mut(self.chunks.get_mut(index / CHUNK)?).get_mut(index % CHUNK)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shares_all_chunks_but_those_that_were_written_to() {
        let before = Chunks::new(&(0..200).collect::<Vec<i32>>());
        let mut after = before.clone();
        *after.get_mut(70).expect("an item") = -1;
        assert_eq!((before.get(70), after.get(70), after.get(200)), (Some(&70), Some(&-1), None));
        let shared = before.chunks.iter().zip(&after.chunks).map(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!(after.iter().filter(|item| **item >= 0).count(), 199);
    }
}
