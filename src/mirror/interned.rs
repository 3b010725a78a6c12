//! Values that are kept once, however many refer to them: of a million routes most are equal but for their prefix.

use hashbrown::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Each value once. What nobody else holds any more goes when there are twice as many as were in use the last time, so it
/// has no more than twice what is referred to, or 1024.
#[derive(Debug)]
pub struct Interned<T> {
    known: HashSet<Arc<T>, foldhash::fast::RandomState>,
    purge_at: usize,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            known: HashSet::default(),
            purge_at: 0,
        }
    }
}

impl<T: Eq + Hash> Interned<T> {
    /// The one value that equals `value`.
    pub fn intern(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.known.get(&value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.purge_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.purge_at = (2 * self.known.len()).max(1024);
        }
        let value = Arc::new(value);
        self.known.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_those_of_nobody_go() {
        let mut interned = Interned::default();
        let kept = interned.intern(7);
        assert!(Arc::ptr_eq(&kept, &interned.intern(7)) && !Arc::ptr_eq(&kept, &interned.intern(8)));
        (0..10_000).for_each(|value| drop(interned.intern(value)));
        assert!(interned.known.len() <= 1024, "{}", interned.known.len());
        assert!(Arc::ptr_eq(&kept, &interned.intern(7)));
    }
}
