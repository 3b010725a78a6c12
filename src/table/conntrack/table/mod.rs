//! The table of all connections: a fixed slab of entries, a hash of slots that name them, no lock. All workers share it.
//!
//! ```text
//!  tuple (probe.rs) -> hash -> line of slots (bucket.rs) -> entry (entry.rs) -> life (life.rs): live? -> Connection
//! ```
//!
//! insert.rs puts connections in, and says why of threads that insert one tuple at once exactly one does; end.rs takes
//! them out, moves.rs one for another; evict.rs makes room; epoch.rs says when an entry may be used again. Nothing waits for another thread, and but
//! for what crossbeam needs to defer the freeing of ended entries, nothing is allocated after [`Table::new`].
//!
//! Bounds: as many connections as `new` was told, at 128 bytes of entry, 36 of counters and the like, 2.5 of annexes, 21.6
//! of slots, 1.3 of spare entries and 1.7 of log: 192 at most. When it is full, an insertion ends another connection
//! first, unreplied ones before those that are not assured, and these before those that are closing; where [`EVICTION_MAX`]
//! entries have none such, it is refused.

mod awaited;
mod bucket;
mod connection;
mod counts;
mod end;
mod entry;
mod epoch;
mod evict;
mod hash;
mod insert;
mod life;
mod log;
pub(in crate::table) mod memory;
mod moves;
mod probe;
mod slab;
mod sync;

pub use awaited::{AWAITED_TICKS, Awaited};
pub use connection::Connection;
pub use counts::Counts;
pub use entry::Version;
pub use epoch::{Guard, Handle};
pub use hash::TupleHash;
pub use insert::Refused;
pub use log::{Event, Log};
pub use probe::Probe;
pub(in crate::table) use sync::prefetch;

use super::{Direction, Ticks, Tuple};
#[cfg(test)]
use super::{Marks, Record};
use bucket::{Buckets, ENTRIES_MAX};
use counts::Striped;
use crossbeam::utils::CachePadded;
use entry::{Entry, Key};
use epoch::Collector;
use hash::Seed;
use slab::Slab;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Entries that an insertion into a full table looks at, to end one.
pub const EVICTION_MAX: u32 = if cfg!(loom) { 4 } else { 256 };

/// Slots for ten connections: twenty are taken.
const SLOTS_FOR_TEN: u64 = 27;

/// See the file's head.
pub struct Table {
    // Before the slab: see epoch.rs.
    collector: Collector,
    slab: Arc<Slab>,
    buckets: Buckets,
    seed: Seed,
    connections_max: u32,
    len: CachePadded<AtomicU32>,
    swept: CachePadded<AtomicU32>,
    evicted: CachePadded<AtomicU32>,
    counts: Striped,
    handles: AtomicUsize,
    /// What the kernel will tell of.
    pub awaited: CachePadded<Awaited>,
    /// What happened.
    pub log: Log,
}

impl Table {
    /// Room for `connections_max` connections, at least one and at most 268 million. The memory is taken as they come.
    pub fn new(connections_max: u32) -> Table {
        Table::seeded(connections_max, Seed::random())
    }

    /// An empty one of as much room and with the same hash: what depends on the hash is the same in both.
    pub fn twin(&self) -> Table {
        Table::seeded(self.connections_max, self.seed)
    }

    fn seeded(connections_max: u32, seed: Seed) -> Table {
        let connections_max = connections_max.clamp(1, ENTRIES_MAX / 2);
        let slots = u64::from(connections_max) * SLOTS_FOR_TEN / 10;
        Table {
            collector: Collector::new(),
            slab: Arc::new(Slab::new(connections_max)),
            buckets: Buckets::new(slots as usize),
            seed,
            connections_max,
            len: CachePadded::default(),
            swept: CachePadded::default(),
            evicted: CachePadded::default(),
            counts: Striped::default(),
            handles: AtomicUsize::new(0),
            awaited: CachePadded::default(),
            log: Log::new(connections_max),
        }
    }

    /// How many connections there is room for.
    pub fn capacity(&self) -> u32 {
        self.connections_max
    }

    /// How many there are, those that nobody has noticed to be over included.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that it takes when it is full, in bytes, all included.
    pub fn bytes(&self) -> usize {
        size_of::<Table>() + self.slab.bytes() + self.buckets.bytes() + self.log.bytes()
    }

    /// A thread's access.
    pub fn register(&self) -> Handle {
        self.collector.register(&self.slab, self.handles.fetch_add(1, Relaxed))
    }

    /// Where `tuple` belongs.
    #[inline]
    pub fn hash(&self, tuple: &Tuple) -> TupleHash {
        self.seed.hash(tuple)
    }

    #[inline(always)]
    fn matches(&self, entry: &Entry, key: &Key, direction: Direction) -> bool {
        entry.matches(key, direction, |number| self.slab.annex(number))
    }

    #[inline(always)]
    fn connection<'g>(&'g self, index: u32, entry: &'g Entry) -> Connection<'g> {
        Connection {
            index,
            entry,
            slab: &self.slab,
        }
    }

    /// The connection with that number, if it is one and is not over. It may be another one than it once was.
    #[inline]
    pub fn at<'g>(&'g self, index: u32, now: Ticks, guard: &'g Guard<'_>) -> Option<Connection<'g>> {
        debug_assert!(self.owns(guard), "a guard of another table");
        let entry = self.slab.entries.get(index as usize)?;
        let life = entry.life();
        (life.is_live() && !life.is_expired(now)).then(|| self.connection(index, entry))
    }

    /// Shows every connection among `entries_max` entries from `from` on to `each`; where to go on, if that was not all.
    pub fn walk<'g>(
        &'g self,
        from: u32,
        entries_max: u32,
        _guard: &'g Guard<'_>,
        mut each: impl FnMut(Connection<'g>),
    ) -> Option<u32> {
        let used = self.slab.used();
        let to = from.saturating_add(entries_max).min(used);
        for index in from..to {
            let entry = &self.slab.entries[index as usize];
            if entry.life().is_live() {
                each(self.connection(index, entry));
            }
        }
        (to < used).then_some(to)
    }

    /// Every connection.
    pub fn iter<'g>(&'g self, _guard: &'g Guard<'_>) -> impl Iterator<Item = Connection<'g>> {
        let entries = self.slab.entries.iter().take(self.slab.used() as usize).enumerate();
        entries
            .filter(|(_, entry)| entry.life().is_live())
            .map(|(index, entry)| self.connection(index as u32, entry))
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts.sum()
    }

    fn owns(&self, guard: &Guard<'_>) -> bool {
        Arc::ptr_eq(&guard.handle.slab, &self.slab)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} of {} connections)", self.len(), self.connections_max)
    }
}

#[cfg(test)]
mod tests;
