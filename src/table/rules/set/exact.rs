//! Whole keys: one hash lookup. The elements lie in shards that sets share, so that a set with another element copies one of
//! them and not all.
//!
//! ```text
//!  key -> hash -> shard, by bits that the shard's own table does not use -> element
//! ```
//!
//! A change costs a shard (some [`SHARD`] elements, four times as many until there are more shards) and a pointer for each of
//! the others; a lookup one load more than one table would.

use super::Entry;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Elements of a shard, about.
const SHARD: usize = 256;

/// By so much two clocks may see an element end at different times.
const SOON_NS: u64 = 1_000_000_000;

type Item = (Box<[u8]>, Entry);
type Shard = HashTable<Item>;

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Exact {
    hasher: foldhash::fast::RandomState,
    /// A power of two, or none where there are no elements.
    shards: Vec<Arc<Shard>>,
    len: usize,
}

impl Exact {
    /// Of these elements; the last of equal keys counts.
    pub(super) fn new(items: Vec<Item>) -> Self {
        let count = (items.len() / SHARD).next_power_of_two();
        let mut exact = Self {
            shards: (0..count).map(|_| Arc::default()).collect(),
            ..Self::default()
        };
        for (key, entry) in items {
            exact.insert(key, entry);
        }
        exact
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shards.get(self.place(hash))?;
        shard.find(hash, |(of, _)| **of == *key).map(|(_, entry)| entry)
    }

    /// The low bits and the topmost are the table's own.
    fn place(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.shards.len().wrapping_sub(1)
    }

    /// Adds an element, or has it replace that of its key; whether there was one.
    fn insert(&mut self, key: Box<[u8]>, entry: Entry) -> bool {
        let hash = self.hasher.hash_one(&*key);
        let place = self.place(hash);
        let shard = Arc::make_mut(&mut self.shards[place]);
        if let Some((_, there)) = shard.find_mut(hash, |(of, _)| *of == key) {
            *there = entry;
            return true;
        }
        let hasher = &self.hasher;
        shard.insert_unique(hash, (key, entry), |(key, _)| hasher.hash_one(&**key));
        self.len += 1;
        false
    }

    /// Adds an element; whether there was one of its key. One that has a time takes along what is over at `now_ns` in its shard.
    pub(super) fn add(&mut self, key: Box<[u8]>, entry: Entry, now_ns: u64) -> bool {
        if self.len >= self.shards.len() * SHARD * 4 {
            let old = std::mem::take(self);
            let items = old.shards.iter().flat_map(|shard| shard.iter().cloned());
            *self = Self::new(items.filter(|(_, entry)| entry.is_there(now_ns)).collect());
        }
        if entry.expires_ns == u64::MAX {
            return self.insert(key, entry);
        }
        let place = self.place(self.hasher.hash_one(&*key));
        let was_there = self.insert(key, entry);
        let shard = Arc::make_mut(&mut self.shards[place]);
        let before = shard.len();
        shard.retain(|(_, entry)| entry.is_there(now_ns));
        self.len -= before - shard.len();
        was_there
    }

    /// Takes an element away; whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let place = self.place(hash);
        let Some(shard) = self.shards.get_mut(place) else {
            return false;
        };
        let found = Arc::make_mut(shard).find_entry(hash, |(of, _)| **of == *key);
        let was_there = found.map(|found| found.remove()).is_ok();
        self.len -= usize::from(was_there);
        was_there
    }

    /// Whether all elements of `other` are here that do not end within [`SOON_NS`].
    pub(super) fn has_what(&self, other: &Self, now_ns: u64) -> bool {
        let lasts = |entry: &Entry| entry.is_there(now_ns.saturating_add(SOON_NS));
        let has = |(key, entry): &Item| self.get(key).is_some_and(|ours| ours.data == entry.data);
        let items = other.shards.iter().flat_map(|shard| shard.iter());
        items.filter(|(_, entry)| lasts(entry)).all(has)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards
            .iter()
            .flat_map(|shard| shard.iter().map(|(_, entry)| entry))
    }
}
