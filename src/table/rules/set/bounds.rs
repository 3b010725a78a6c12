//! Intervals as bounds in order: the greatest that is not above a key says what the key is in. They lie in chunks that sets
//! share, so that a set with another interval copies one of them and not all.
//!
//! ```text
//!  10.0.0.0 starts | 10.0.1.0 ends | 10.0.1.0 starts | 10.0.2.0 ends       of equal keys the end comes first, and so
//!                                                                          the start is the greater
//! ```
//!
//! The end of one interval and the start of the next are two elements of the kernel's set (nft_set_rbtree.c), of which either
//! may go alone: so both are kept. A change costs a chunk, [`CHUNK_MAX`] bounds, and a pointer for each of the others.

use super::Entry;
use std::sync::Arc;

/// Bounds of a chunk that becomes two.
const CHUNK_MAX: usize = 512;

/// A key, and what starts there; nothing does where an interval only ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    key: Box<[u8]>,
    starts: Option<Entry>,
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    /// None is empty.
    chunks: Vec<Arc<Vec<Bound>>>,
    len: usize,
}

impl Bounds {
    /// Of these bounds, in whatever order; of equal ones the first counts.
    pub(super) fn new(bounds: impl Iterator<Item = (Box<[u8]>, Option<Entry>)>) -> Self {
        let mut bounds: Vec<Bound> = bounds.map(|(key, starts)| Bound { key, starts }).collect();
        bounds.sort_by(|a, b| a.order().cmp(&b.order()));
        bounds.dedup_by(|b, a| a.order() == b.order());
        let len = bounds.len();
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK_MAX / 2));
        let mut rest = bounds.into_iter();
        loop {
            let chunk: Vec<_> = rest.by_ref().take(CHUNK_MAX / 2).collect();
            if chunk.is_empty() {
                return Self { chunks, len };
            }
            chunks.push(Arc::new(chunk));
        }
    }

    /// What starts at the greatest bound that is not above `key`.
    pub(super) fn at(&self, key: &[u8]) -> Option<&Entry> {
        let above = self.chunks.partition_point(|chunk| *chunk[0].key <= *key);
        let chunk = self.chunks.get(above.checked_sub(1)?)?;
        let above = chunk.partition_point(|bound| *bound.key <= *key);
        chunk.get(above.checked_sub(1)?)?.starts.as_ref()
    }

    /// Adds a bound; whether there was one like it, and then nothing is changed.
    pub(super) fn add(&mut self, key: Box<[u8]>, starts: Option<Entry>) -> bool {
        let bound = Bound { key, starts };
        let number = self.chunk_of(&bound.key, bound.starts.is_some());
        if self.chunks.is_empty() {
            self.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.chunks[number]);
        let Err(place) = chunk.binary_search_by(|other| other.order().cmp(&bound.order())) else {
            return true;
        };
        chunk.insert(place, bound);
        self.len += 1;
        if chunk.len() > CHUNK_MAX {
            let behind = chunk.split_off(CHUNK_MAX / 2);
            self.chunks.insert(number + 1, Arc::new(behind));
        }
        false
    }

    /// Takes a bound away; whether it was there.
    pub(super) fn remove(&mut self, key: &[u8], starts: bool) -> bool {
        let number = self.chunk_of(key, starts);
        let Some(chunk) = self.chunks.get_mut(number) else {
            return false;
        };
        let Ok(place) = chunk.binary_search_by(|other| other.order().cmp(&(key, starts))) else {
            return false;
        };
        let chunk = Arc::make_mut(chunk);
        chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(number);
        }
        self.len -= 1;
        true
    }

    /// The chunk in whose range a bound is.
    fn chunk_of(&self, key: &[u8], starts: bool) -> usize {
        let above = self.chunks.partition_point(|chunk| chunk[0].order() <= (key, starts));
        above.saturating_sub(1)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let bounds = self.chunks.iter().flat_map(|chunk| chunk.iter());
        bounds.filter_map(|bound| bound.starts.as_ref())
    }
}

/// How they are cut into chunks does not matter.
impl PartialEq for Bounds {
    fn eq(&self, other: &Self) -> bool {
        let [ours, theirs] = [self, other].map(|it| it.chunks.iter().flat_map(|chunk| chunk.iter()));
        ours.eq(theirs)
    }
}

impl Bound {
    fn order(&self) -> (&[u8], bool) {
        (&self.key, self.starts.is_some())
    }
}
