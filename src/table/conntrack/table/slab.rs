//! The memory of all connections, and its free lists.
//!
//! Entries, counters, deadlines and annexes are arrays made once. A free list is a Treiber stack whose links lie in the free
//! entries themselves; its head carries a tag that changes with every push and pop, so that a pop that slept through a
//! reuse fails (ABA). Entries that were never used come from a counter instead, so an empty table has touched nothing.
//!
//! There are some more entries than connections (`SPARE_MIN`, or one in 128): those that wait for epochs, so that an
//! insertion into a full table, which ends another connection first, need not wait. When even those are gone (a thread
//! keeps a guard for long), insertions are refused.

use super::entry::{Annex, Cold, Entry, KernelDeadline};
use super::memory::Memory;
use super::moves::Moves;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use Ordering::{AcqRel, Acquire, Relaxed, Release};
use crossbeam::utils::CachePadded;

const SPARE_MIN: u32 = if cfg!(loom) { 1 } else { 2048 };

/// See the file's head.
pub struct Slab {
    pub entries: Memory<Entry>,
    pub cold: Memory<Cold>,
    pub kernel_deadlines: Memory<KernelDeadline>,
    annexes: Memory<Annex>,
    free: CachePadded<FreeList>,
    annex_free: CachePadded<FreeList>,
    pub moves: CachePadded<Moves>,
}

/// How many entries there are for so many connections.
pub const fn entries_of(connections_max: u32) -> u32 {
    let spare = connections_max / 128;
    connections_max + if spare > SPARE_MIN { spare } else { SPARE_MIN }
}

impl Slab {
    /// For so many connections.
    pub fn new(connections_max: u32) -> Slab {
        let entries = entries_of(connections_max);
        let annexes = connections_max.div_ceil(16);
        Slab {
            entries: Memory::zeroed(entries as usize),
            cold: Memory::zeroed(entries as usize),
            kernel_deadlines: Memory::zeroed(entries as usize),
            annexes: Memory::zeroed(annexes as usize),
            free: CachePadded::new(FreeList::new(entries)),
            annex_free: CachePadded::new(FreeList::new(annexes)),
            moves: CachePadded::default(),
        }
    }

    /// What it takes.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + self.cold.bytes() + self.kernel_deadlines.bytes() + self.annexes.bytes()
    }

    /// How many entries were ever used: the first so many.
    pub fn used(&self) -> u32 {
        self.free.used.load(Acquire)
    }

    /// An entry that is now the caller's alone.
    pub fn take(&self) -> Option<u32> {
        let index = self.free.pop(|index| self.entries[index as usize].next_free())?;
        self.kernel_deadlines[index as usize].0.store(0, Relaxed);
        Some(index)
    }

    /// Frees an entry, and its annex, that nobody can hold any more.
    pub fn give(&self, index: u32) {
        let entry = &self.entries[index as usize];
        if let Some(annex) = entry.annex() {
            let link = &self.annexes[annex as usize].0[0];
            self.annex_free.push(annex, |next| link.store(u64::from(next), Relaxed));
        }
        self.free.push(index, |next| entry.free(next));
    }

    /// An annex that is now the caller's alone, to be freed with the entry that is filled with it.
    pub fn take_annex(&self) -> Option<(u32, &Annex)> {
        let link = |annex: u32| self.annexes[annex as usize].0[0].load(Relaxed) as u32;
        let number = self.annex_free.pop(link)?;
        Some((number, &self.annexes[number as usize]))
    }

    /// By its number.
    pub fn annex(&self, number: u32) -> Option<&Annex> {
        self.annexes.get(number as usize)
    }
}

/// Indices below a bound: given back, or never used.
struct FreeList {
    /// tag (32) | index of the first + 1 (32)
    head: AtomicU64,
    used: AtomicU32,
    len: u32,
}

impl FreeList {
    fn new(len: u32) -> FreeList {
        FreeList {
            head: AtomicU64::new(0),
            used: AtomicU32::new(0),
            len,
        }
    }

    fn pop(&self, next: impl Fn(u32) -> u32) -> Option<u32> {
        let mut head = self.head.load(Acquire);
        while let Some(first) = (head as u32).checked_sub(1) {
            // Garbage if another has popped it meanwhile; then the tag has changed too.
            let new = tag_after(head) | u64::from(next(first));
            match self.head.compare_exchange_weak(head, new, AcqRel, Acquire) {
                Ok(_) => return Some(first),
                Err(now) => head = now,
            }
        }
        let unused = |used| (used < self.len).then(|| used + 1);
        self.used.fetch_update(AcqRel, Acquire, unused).ok()
    }

    fn push(&self, index: u32, link: impl Fn(u32)) {
        let mut head = self.head.load(Relaxed);
        loop {
            link(head as u32);
            let new = tag_after(head) | u64::from(index + 1);
            match self.head.compare_exchange_weak(head, new, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

fn tag_after(head: u64) -> u64 {
    (head >> 32).wrapping_add(1) << 32
}
