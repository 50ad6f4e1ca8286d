//! Keys in order, of which it is known how many come before which.

/// Keys of one chunk at most: what is moved when one comes or goes is a few KiB then, and a
/// hundred thousand keys are some hundred chunks.
const CHUNK: usize = 256;

/// A sorted set. It counts what comes before a key without looking at each, which a
/// `BTreeSet` cannot.
#[derive(Debug, Clone)]
pub(in crate::scheduler) struct Line<K> {
    /// Sorted, none of them empty.
    chunks: Vec<Vec<K>>,
}

impl<K: Ord + Copy> Line<K> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    pub(super) fn first(&self) -> Option<&K> {
        self.chunks.first()?.first()
    }

    pub(super) fn last(&self) -> Option<&K> {
        self.chunks.last()?.last()
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.chunks.iter().flatten()
    }

    /// The chunk in which a key is or would be.
    fn chunk_of(&self, key: &K) -> usize {
        let ends_before = |chunk: &Vec<K>| chunk.last().is_some_and(|last| last < key);
        self.chunks.partition_point(ends_before)
    }

    /// False for one that is there already.
    pub(super) fn insert(&mut self, key: K) -> bool {
        // Behind all others means in the last chunk.
        let last = self.chunks.len().saturating_sub(1);
        let at = self.chunk_of(&key).min(last);
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(vec![key]);
            return true;
        };
        let Err(place) = chunk.binary_search(&key) else {
            return false;
        };
        if chunk.len() < CHUNK {
            chunk.insert(place, key);
        } else if place == CHUNK {
            // Whoever comes is mostly the last: chunks stay full then.
            self.chunks.insert(at + 1, vec![key]);
        } else {
            let mut upper = chunk.split_off(CHUNK / 2);
            match place.checked_sub(CHUNK / 2) {
                Some(place) => upper.insert(place, key),
                None => chunk.insert(place, key),
            }
            self.chunks.insert(at + 1, upper);
        }
        true
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let at = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return false;
        };
        let Ok(place) = chunk.binary_search(key) else {
            return false;
        };
        chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        true
    }

    /// In order, from a key on.
    pub(super) fn from(&self, key: K) -> impl Iterator<Item = &K> {
        let at = self.chunk_of(&key);
        let of_first = self.chunks.get(at).into_iter().flatten();
        let later = self.chunks.iter().skip(at + 1).flatten();
        of_first.skip_while(move |other| **other < key).chain(later)
    }

    /// How many are less than a key, which need not be there.
    pub(super) fn before(&self, key: &K) -> usize {
        let at = self.chunk_of(key);
        let whole: usize = self.chunks.iter().take(at).map(Vec::len).sum();
        let part = self.chunks.get(at).map_or(0, |chunk| {
            chunk.binary_search(key).unwrap_or_else(|place| place)
        });
        whole + part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn it_is_a_sorted_set_that_counts(
            rising in 0u32..2,
            steps in prop::collection::vec((0u32..3000, 0u8..4), 1..3000),
        ) {
            let (mut line, mut set) = (Line::new(), BTreeSet::new());
            for (number, (key, what)) in (0u32..).zip(steps) {
                let key = key + number * 2 * rising;
                match what {
                    0 => prop_assert_eq!(line.remove(&key), set.remove(&key)),
                    1 => {
                        let first = set.first().copied();
                        prop_assert_eq!(line.first().copied(), first);
                        if let Some(first) = first {
                            prop_assert!(line.remove(&first) && set.remove(&first));
                        }
                    }
                    _ => prop_assert_eq!(line.insert(key), set.insert(key)),
                }
                prop_assert_eq!(line.before(&key), set.range(..key).count());
                prop_assert_eq!(line.last(), set.last());
                prop_assert_eq!(line.from(key).next(), set.range(key..).next());
            }
            prop_assert!(line.iter().eq(set.iter()) && line.len() == set.len());
        }
    }
}
