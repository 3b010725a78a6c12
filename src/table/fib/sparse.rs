//! An array of 256 slots of which few are taken: one bit per slot, and the values of the taken slots side by side. The
//! place of a slot's value is the number of taken slots before it: one POPCNT in its own word, plus a count that is kept for
//! the words before.
//!
//! ```text
//!  bits    [ word 0 | word 1 | word 2 | word 3 ]     slot 70: bit 6 of word 1
//!  before  [ 0      | 2      | 5      | 5      ]     2 + POPCNT(word 1 below bit 6) = place in items
//!  items   [ v v | v v v | | v ]
//! ```
//!
//! Reading is constant time; a change moves the values behind it, at most 255. No capacity is kept in reserve: these are by
//! the hundred thousand, and are read a million times more often than they are changed.

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct Sparse<V> {
    bits: [u64; 4],
    before: [u8; 4],
    items: Box<[V]>,
}

impl<V> Default for Sparse<V> {
    fn default() -> Self {
        Sparse {
            bits: [0; 4],
            before: [0; 4],
            items: Box::default(),
        }
    }
}

impl<V> Sparse<V> {
    /// Which slots are taken: slot `s` is bit `s % 64` of word `s / 64`.
    #[inline]
    pub(super) fn bits(&self) -> &[u64; 4] {
        &self.bits
    }

    /// How many slots are taken.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The value in `slot`, if it is taken.
    #[inline]
    pub(super) fn get(&self, slot: u8) -> Option<&V> {
        let (word, bit) = place(slot);
        if self.bits[word] & bit == 0 {
            return None;
        }
        self.items.get(self.rank(word, bit))
    }

    /// The value in `slot`, if it is taken, to be changed.
    pub(super) fn get_mut(&mut self, slot: u8) -> Option<&mut V> {
        let (word, bit) = place(slot);
        if self.bits[word] & bit == 0 {
            return None;
        }
        let rank = self.rank(word, bit);
        self.items.get_mut(rank)
    }

    /// Puts `value` into `slot`; what was there before.
    pub(super) fn insert(&mut self, slot: u8, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(slot) {
            return Some(std::mem::replace(old, value));
        }
        let (word, bit) = place(slot);
        let rank = self.rank(word, bit);
        let mut items = std::mem::take(&mut self.items).into_vec();
        items.reserve_exact(1);
        items.insert(rank, value);
        self.items = items.into_boxed_slice();
        self.mark(word, bit);
        None
    }

    /// Empties `slot`; what was there.
    pub(super) fn remove(&mut self, slot: u8) -> Option<V> {
        self.get(slot)?;
        let (word, bit) = place(slot);
        let rank = self.rank(word, bit);
        let mut items = std::mem::take(&mut self.items).into_vec();
        let old = items.remove(rank);
        self.items = items.into_boxed_slice();
        self.mark(word, bit);
        Some(old)
    }

    /// The taken slots in ascending order, with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &V)> {
        let slots = (0..=u8::MAX).filter(|&slot| {
            let (word, bit) = place(slot);
            self.bits[word] & bit != 0
        });
        slots.zip(self.items.iter())
    }

    #[inline]
    fn rank(&self, word: usize, bit: u64) -> usize {
        usize::from(self.before[word]) + (self.bits[word] & (bit - 1)).count_ones() as usize
    }

    /// Flips one slot's bit and counts anew.
    fn mark(&mut self, word: usize, bit: u64) {
        self.bits[word] ^= bit;
        let mut sum = 0;
        for (before, bits) in self.before.iter_mut().zip(self.bits) {
            *before = sum;
            // At most 192 slots are before the last word; the sum behind it, which may be 256, is not used.
            sum = sum.wrapping_add(bits.count_ones() as u8);
        }
    }
}

/// The word and the bit of `slot`.
#[inline]
fn place(slot: u8) -> (usize, u64) {
    (usize::from(slot >> 6), 1 << (slot & 63))
}
