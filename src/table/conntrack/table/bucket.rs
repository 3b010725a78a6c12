//! The hash: lines of eight slots, changed by compare-and-swap, two slots per connection.
//!
//! ```text
//!  63        43 42         29 28         27          0
//!  |  spilled  | fingerprint | direction | index + 1 |       0 in the low 43 bits: empty
//! ```
//!
//! A tuple's home is one line (any number of lines: the hash is multiplied by it, and the upper half of the product
//! taken). Where that is full, the slot goes into one of fourteen lines behind it, at growing distances within 7 KiB. How many
//! slots of a home lie there is counted in the home's first slot, by pairs of lines (`spilled`, seven counters of 3 bits):
//! so a lookup reads the home only, unless something did spill, and then only pairs that have something. No tombstones: a
//! counter goes down when its slot is cleared.
//!
//! With 2.7 slots per connection a table half full spills one slot in a hundred, one that is full to the last connection
//! one in four. What bounds it: fifteen lines, and seven slots per counter; where that is not enough (simulated: fewer than
//! one slot in a million, of a full table) the insertion ends another connection there, as if the table were full.
//!
//! Only the thread that inserts or ends a connection writes its slots; the counters are another's business too. So a slot
//! is taken by compare-and-swap and cleared by a store, in the first of a line by an AND that leaves the counters.

use super::hash::TupleHash;
use super::memory::Memory;
use super::sync::{AtomicU64, Ordering, fence, prefetch};
use crate::table::conntrack::Direction;
use Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Slots of a line. Loom gets a smaller world with the same laws.
const SLOTS: usize = if cfg!(loom) { 2 } else { 8 };
/// Where a home's slots go when it is full: so many lines on. Those of a pair share a counter.
const DISTANCES: &[&[usize]] = if cfg!(loom) {
    &[&[1]]
} else {
    &[
        &[1, 3],
        &[6, 10],
        &[15, 21],
        &[28, 36],
        &[45, 55],
        &[66, 78],
        &[91, 105],
    ]
};
/// So that all these are different lines.
const LINES_MIN: usize = if cfg!(loom) { 2 } else { 106 };

const INDEX: u64 = (1 << 28) - 1;
const DIRECTION: u64 = 1 << 28;
const FINGERPRINT_SHIFT: u32 = 29;
const FINGERPRINT: u64 = ((1 << 14) - 1) << FINGERPRINT_SHIFT;
const SPILLED_SHIFT: u32 = 43;
const SPILLED: u64 = !0 << SPILLED_SHIFT;
/// Of each counter.
const SPILLED_BITS: u32 = 3;
const SPILLED_MAX: u64 = (1 << SPILLED_BITS) - 1;

/// The largest number of entries that slots can name.
pub const ENTRIES_MAX: u32 = INDEX as u32 - 1;

#[repr(C, align(64))]
#[cfg_attr(loom, derive(Default))]
struct Line([AtomicU64; SLOTS]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 64);

#[cfg(not(loom))]
mod zeroed {
    // SAFETY: made of atomic integers only: zeros are a value, and they need no drop.
    unsafe impl super::super::memory::Zeroed for super::Line {}
}

/// See the file's head.
pub struct Buckets {
    lines: Memory<Line>,
}

/// The part of a slot that a hash determines. Odd, so that an empty slot never matches.
#[inline(always)]
fn fingerprint(TupleHash(hash): TupleHash) -> u64 {
    (hash << FINGERPRINT_SHIFT & FINGERPRINT) | 1 << FINGERPRINT_SHIFT
}

#[inline(always)]
fn named(slot: u64) -> (u32, Direction) {
    let direction = match slot & DIRECTION {
        0 => Direction::Original,
        _ => Direction::Reply,
    };
    (((slot & INDEX) as u32).wrapping_sub(1), direction)
}

/// How many slots of a home lie in a pair of lines.
fn spilled(home: u64, pair: usize) -> u64 {
    home >> (SPILLED_SHIFT + SPILLED_BITS * pair as u32) & SPILLED_MAX
}

fn one_spilled(pair: usize) -> u64 {
    1 << (SPILLED_SHIFT + SPILLED_BITS * pair as u32)
}

/// The pairs where some lie.
fn pairs(home: u64) -> impl Iterator<Item = usize> {
    (0..DISTANCES.len()).filter(move |&pair| spilled(home, pair) > 0)
}

impl Line {
    #[inline(always)]
    fn load(&self) -> [u64; SLOTS] {
        let mut slots = [0; SLOTS];
        let mut at = 0;
        while at < SLOTS {
            slots[at] = self.0[at].load(Relaxed);
            at += 1;
        }
        slots
    }

    /// Which slots have that fingerprint, by bits. Without branches: which one it is cannot be predicted. And without a copy
    /// of the line, which the processor would have to wait for.
    #[inline(always)]
    fn matching(&self, key: u64) -> u32 {
        let (mut bits, mut at) = (0, 0);
        while at < SLOTS {
            bits |= u32::from((self.0[at].load(Relaxed) ^ key) & FINGERPRINT == 0) << at;
            at += 1;
        }
        bits
    }

    /// Hands each entry that a slot with that fingerprint names to `each`, until it answers. A slot that changes meanwhile
    /// names another entry, of which `each` says no.
    #[inline(always)]
    fn find<T>(&self, key: u64, each: &mut impl FnMut(u32, Direction) -> Option<T>) -> Option<T> {
        let mut matching = self.matching(key);
        while matching != 0 {
            // Acquire pairs with the release of `place`: the entry is seen as it was filled.
            let (index, direction) = named(self.0[matching.trailing_zeros() as usize].load(Acquire));
            if let Some(found) = each(index, direction) {
                return Some(found);
            }
            matching &= matching - 1;
        }
        None
    }

    #[inline(always)]
    fn spilled_any(&self) -> bool {
        self.0[0].load(Relaxed) & SPILLED != 0
    }

    /// Puts a slot where one is empty.
    fn place(&self, value: u64) -> bool {
        self.0.iter().any(|slot| {
            let mut old = slot.load(Relaxed);
            while old & !SPILLED == 0 {
                match slot.compare_exchange(old, old | value, AcqRel, Relaxed) {
                    Ok(_) => return true,
                    Err(now) => old = now,
                }
            }
            false
        })
    }

    fn clear(&self, value: u64) -> bool {
        let Some(at) = self.load().iter().position(|slot| slot & !SPILLED == value) else {
            return false;
        };
        if at == 0 {
            self.0[0].fetch_and(SPILLED, AcqRel);
        } else {
            self.0[at].store(0, Release);
        }
        true
    }

    /// One more slot of this home in that pair, unless there are too many to count.
    fn spill(&self, pair: usize) -> bool {
        let mut old = self.0[0].load(Relaxed);
        while spilled(old, pair) < SPILLED_MAX {
            match self.0[0].compare_exchange(old, old + one_spilled(pair), AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    fn unspill(&self, pair: usize) {
        self.0[0].fetch_sub(one_spilled(pair), AcqRel);
    }

    fn is_full(&self) -> bool {
        self.load().iter().all(|slot| slot & !SPILLED != 0)
    }
}

impl Buckets {
    /// Lines for `slots` slots.
    pub fn new(slots: usize) -> Buckets {
        Buckets {
            lines: Memory::zeroed((slots / SLOTS).max(LINES_MIN)),
        }
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    #[inline(always)]
    fn home_of(&self, TupleHash(hash): TupleHash) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    fn lines_at(&self, home: usize, pair: usize) -> impl Iterator<Item = &Line> {
        DISTANCES[pair].iter().map(move |distance| {
            let at = home + distance;
            let len = self.lines.len();
            &self.lines[if at < len { at } else { at - len }]
        })
    }

    /// Asks for the home of a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: TupleHash) {
        prefetch(&self.lines[self.home_of(hash)]);
    }

    /// What the first slot that may have that hash names, one elsewhere only if there is none at home.
    #[inline(always)]
    pub fn likely(&self, hash: TupleHash) -> Option<(u32, Direction)> {
        let at = self.home_of(hash);
        let home = &self.lines[at];
        let matching = home.matching(fingerprint(hash));
        if matching != 0 {
            return Some(named(home.0[matching.trailing_zeros() as usize].load(Relaxed)));
        }
        if !home.spilled_any() {
            return None;
        }
        self.find_spilled(at, hash, |index, direction| Some((index, direction)))
    }

    /// Hands each entry that may have that hash to `each`, until it answers.
    #[inline(always)]
    pub fn find<T>(&self, hash: TupleHash, mut each: impl FnMut(u32, Direction) -> Option<T>) -> Option<T> {
        let at = self.home_of(hash);
        let home = &self.lines[at];
        if let Some(found) = home.find(fingerprint(hash), &mut each) {
            return Some(found);
        }
        if !home.spilled_any() {
            return None;
        }
        self.find_spilled(at, hash, each)
    }

    #[inline(never)]
    fn find_spilled<T>(
        &self,
        at: usize,
        hash: TupleHash,
        mut each: impl FnMut(u32, Direction) -> Option<T>,
    ) -> Option<T> {
        // A counter is up before its slot is placed: who has seen it sees that slot's line as it was then, or later.
        let home = self.lines[at].0[0].load(Acquire);
        pairs(home)
            .flat_map(|pair| self.lines_at(at, pair))
            .find_map(|line| line.find(fingerprint(hash), &mut each))
    }

    /// Places a slot for an entry; false if all lines where it may stand are full.
    pub fn place(&self, hash: TupleHash, index: u32, direction: Direction) -> bool {
        let value = value(hash, index, direction);
        let at = self.home_of(hash);
        let home = &self.lines[at];
        if home.place(value) {
            return true;
        }
        (0..DISTANCES.len()).any(|pair| {
            if self.lines_at(at, pair).all(Line::is_full) || !home.spill(pair) {
                return false;
            }
            let placed = self.lines_at(at, pair).any(|line| line.place(value));
            if !placed {
                home.unspill(pair);
            }
            placed
        })
    }

    /// Clears a slot that this thread, having inserted or ended the entry, is the only one to clear. Harmless if it was
    /// never placed.
    pub fn clear(&self, hash: TupleHash, index: u32, direction: Direction) {
        let value = value(hash, index, direction);
        let at = self.home_of(hash);
        let home = &self.lines[at];
        if home.clear(value) {
            return;
        }
        let pair = pairs(home.0[0].load(Acquire)).find(|&pair| self.lines_at(at, pair).any(|line| line.clear(value)));
        if let Some(pair) = pair {
            home.unspill(pair);
        }
    }

    /// All entries that stand where one of that hash could, until `each` answers.
    pub fn neighborhood<T>(&self, hash: TupleHash, mut each: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let at = self.home_of(hash);
        let others = (0..DISTANCES.len()).flat_map(|pair| self.lines_at(at, pair));
        std::iter::once(&self.lines[at]).chain(others).find_map(|line| {
            let slots = line.load();
            fence(Acquire);
            let taken = slots.into_iter().filter(|slot| slot & !SPILLED != 0);
            taken.map(|slot| named(slot).0).find_map(&mut each)
        })
    }

    /// Every slot that is taken: whether it can be found from `home_of` its hash is for the caller to say.
    #[cfg(test)]
    pub fn all(&self) -> Vec<(u32, Direction)> {
        let slots = self.lines.iter().flat_map(|line| line.load());
        slots.filter(|slot| slot & !SPILLED != 0).map(named).collect()
    }

    /// The sum of all counters.
    #[cfg(test)]
    pub fn spilled(&self) -> u64 {
        let homes = self.lines.iter().map(|line| line.load()[0]);
        homes
            .flat_map(|home| (0..DISTANCES.len()).map(move |pair| spilled(home, pair)))
            .sum()
    }
}

fn value(hash: TupleHash, index: u32, direction: Direction) -> u64 {
    let direction = if direction == Direction::Reply { DIRECTION } else { 0 };
    fingerprint(hash) | direction | (u64::from(index) + 1)
}
