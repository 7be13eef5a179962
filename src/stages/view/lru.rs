//! What was used last stays: a bounded number of things of known size.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most `capacity` units of values; those that were not used for longest leave first.
pub(super) struct Lru<K, V> {
    capacity: usize,
    held: usize,
    now: u64,
    values: HashMap<K, Slot<V>>,
    /// Moment of last use → key.
    by_use: BTreeMap<u64, K>,
}

struct Slot<V> {
    value: V,
    units: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, held: 0, now: 0, values: HashMap::new(), by_use: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, key: K) -> Option<V> {
        self.now += 1;
        let slot = self.values.get_mut(&key)?;
        self.by_use.remove(&slot.used);
        slot.used = self.now;
        self.by_use.insert(self.now, key);
        Some(slot.value.clone())
    }

    /// Keeps a value of so many units; one that is larger than everything that is kept is not kept at all.
    pub(super) fn put(&mut self, key: K, value: V, units: usize) {
        self.remove(key);
        if units > self.capacity {
            return;
        }
        while self.held + units > self.capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(slot) = self.values.remove(&oldest) {
                self.held -= slot.units;
            }
        }
        self.now += 1;
        self.held += units;
        self.by_use.insert(self.now, key);
        self.values.insert(key, Slot { value, units, used: self.now });
    }

    pub(super) fn remove(&mut self, key: K) {
        if let Some(slot) = self.values.remove(&key) {
            self.by_use.remove(&slot.used);
            self.held -= slot.units;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_leaves() {
        let mut kept = Lru::new(10);
        for key in 0..5 {
            kept.put(key, key * 10, 2);
        }
        assert_eq!(kept.get(0), Some(0));
        kept.put(5, 50, 3);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|key| kept.get(key).is_some()), [true, false, false, true, true, true]);
        kept.put(6, 60, 11);
        assert_eq!((kept.get(6), kept.get(0)), (None, Some(0)), "too large to be kept, and nothing left for it");
        kept.put(0, 1, 1);
        assert_eq!((kept.get(0), kept.held), (Some(1), 8));
        assert_eq!(kept.values.len(), kept.by_use.len());
    }
}
