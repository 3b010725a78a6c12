//! The table of all connections: a fixed slab of entries, a hash of slots that name them, no lock. All workers share it.
//!
//! ```text
//!  hash of a tuple -> line of slots (bucket.rs) -> entry (entry.rs) -> life (life.rs): live? -> Connection
//!                                                     \- 24 bytes of slots, 168 of entry: at most 192 a connection
//! ```
//!
//! An insertion takes an entry, fills it, places the slots of both its tuples, and only then looks for others that bear one
//! of them: whoever did the same at that time did it in the same order, so at least one of the two sees the other. A live
//! one is the winner; of two pending ones the lower index is, and kills the other. The commit is one compare-and-swap of
//! the life word, for both tuples at once; who was killed finds out by it, and answers [`Refused::Clash`].
//!
//! When the table is full, an insertion ends another connection first, unreplied ones before those that are not assured;
//! where [`EVICTION_MAX`] entries have none such, it is refused. What is over is ended by whoever looks at it: [`Table::sweep`]
//! goes round in bounded pieces, an insertion replaces what stands in its way. Ended entries come back by epochs.

mod bucket;
mod connection;
mod entry;
mod epoch;
mod evict;
mod hash;
mod life;
mod log;
mod memory;
mod slab;
mod sync;

pub use connection::Connection;
pub use entry::Version;
pub use epoch::{Guard, Handle};
pub use hash::TupleHash;
pub use log::{Event, Log};

use super::{Direction, Marks, Record, Ticks, Tuple};
use bucket::{Buckets, ENTRIES_MAX};
use crossbeam::utils::CachePadded;
use entry::{Entry, Key};
use epoch::Collector;
use hash::Seed;
use life::{Life, Stage};
use slab::Slab;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use sync::{Ordering, fence};

/// Entries that an insertion into a full table looks at, to end one.
pub const EVICTION_MAX: u32 = if cfg!(loom) { 4 } else { 256 };

/// Slots per connection, in fifths: two are taken.
const SLOTS_FIFTHS: u64 = 14;

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
    stats: Stats,
    /// What happened.
    pub log: Log,
}

#[derive(Default)]
struct Stats {
    inserted: CachePadded<AtomicU64>,
    ended: CachePadded<AtomicU64>,
    expired: CachePadded<AtomicU64>,
    early_dropped: CachePadded<AtomicU64>,
    full: CachePadded<AtomicU64>,
    clashes: CachePadded<AtomicU64>,
}

/// What was counted since the table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were inserted.
    pub inserted: u64,
    /// ... and ended, for whatever reason.
    pub ended: u64,
    /// ... because their time was over.
    pub expired: u64,
    /// ... to make room.
    pub early_dropped: u64,
    /// Insertions that were refused because all others were worth more.
    pub full: u64,
    /// ... or because another connection has the tuple.
    pub clashes: u64,
}

/// Why a connection was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another connection has one of its tuples.
    Clash,
    /// There is no room.
    Full,
}

impl Table {
    /// Room for `connections_max` connections, at least one and at most 268 million. The memory is taken as they come.
    pub fn new(connections_max: u32) -> Table {
        let connections_max = connections_max.clamp(1, ENTRIES_MAX / 2);
        let slots = u64::from(connections_max) * SLOTS_FIFTHS / 5;
        Table {
            collector: Collector::new(),
            slab: Arc::new(Slab::new(connections_max)),
            buckets: Buckets::new(slots as usize),
            seed: Seed::random(),
            connections_max,
            len: CachePadded::default(),
            swept: CachePadded::default(),
            evicted: CachePadded::default(),
            stats: Stats::default(),
            log: Log::new(),
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

    /// The memory that it takes when it is full, in bytes.
    pub fn bytes(&self) -> usize {
        self.slab.bytes() + self.buckets.bytes()
    }

    /// A thread's access.
    pub fn register(&self) -> Handle {
        self.collector.register(&self.slab)
    }

    /// Where `tuple` belongs.
    #[inline]
    pub fn hash(&self, tuple: &Tuple) -> TupleHash {
        self.seed.hash(tuple)
    }

    /// Asks for the slots of a hash, to be read soon.
    #[inline]
    pub fn prefetch_bucket(&self, hash: TupleHash) {
        self.buckets.prefetch(hash);
    }

    /// Asks for the entries that the slots of a hash name.
    #[inline]
    pub fn prefetch_entry(&self, hash: TupleHash) {
        self.buckets.find(hash, |index, _| {
            if let Some(entry) = self.slab.entries.get(index as usize) {
                entry.prefetch();
            }
            None::<()>
        });
    }

    /// The connection that has `tuple`, and which of its directions that is.
    #[inline]
    pub fn lookup<'g>(
        &'g self,
        tuple: &Tuple,
        hash: TupleHash,
        now: Ticks,
        _guard: &'g Guard<'_>,
    ) -> Option<(Connection<'g>, Direction)> {
        let key = Key::new(tuple);
        self.buckets.find(hash, |index, direction| {
            let entry = self.slab.entries.get(index as usize)?;
            let life = entry.life();
            let found = life.is_live() && self.matches(entry, index, &key, direction) && !life.is_expired(now);
            found.then(|| (self.connection(index, entry), direction))
        })
    }

    #[inline(always)]
    fn matches(&self, entry: &Entry, index: u32, key: &Key, direction: Direction) -> bool {
        entry.matches(key, direction, || self.slab.annex(index))
    }

    #[inline(always)]
    fn connection<'g>(&'g self, index: u32, entry: &'g Entry) -> Connection<'g> {
        Connection {
            index,
            entry,
            slab: &self.slab,
        }
    }

    /// Puts a connection into the table.
    ///
    /// # Errors
    /// [`Refused`]: then nothing of it is left.
    pub fn insert<'g>(&'g self, record: &Record, now: Ticks, guard: &'g Guard<'_>) -> Result<Connection<'g>, Refused> {
        let keys = [Key::new(&record.original), Key::new(&record.reply)];
        let hashes = [self.hash(&record.original), self.hash(&record.reply)];
        let index = self.take(now, guard).ok_or_else(|| self.refused(Refused::Full))?;
        let entry = &self.slab.entries[index as usize];
        let annex = if keys[0].needs_annex(&keys[1]) {
            let annex = self.slab.take_annex(index);
            if annex.is_none() {
                self.give_up(index, guard);
                return Err(self.refused(Refused::Full));
            }
            annex
        } else {
            None
        };
        let pending = Life::new(record.deadline, record.status, record.marks, Stage::Pending);
        entry.fill(record, &keys, pending, &self.slab.cold[index as usize], annex);

        let directions = [Direction::Original, Direction::Reply];
        let placed = hashes.iter().zip(directions).all(|(&hash, direction)| {
            self.buckets.place(hash, index, direction)
                || self.make_room(hash, now, guard) && self.buckets.place(hash, index, direction)
        });
        // Ours are placed before we look for others, and theirs before they look for ours.
        fence(Ordering::SeqCst);
        let lost = !placed
            || keys
                .iter()
                .zip(hashes)
                .any(|(key, hash)| self.is_beaten(index, key, hash, now, guard));
        if lost || entry.change_life(pending, pending.at(Stage::Live)).is_err() {
            let _ = entry.change_life(pending, pending.at(Stage::Dead));
            self.unlink(index, &hashes);
            self.give_up(index, guard);
            let why = if placed { Refused::Clash } else { Refused::Full };
            return Err(self.refused(why));
        }
        self.stats.inserted.fetch_add(1, Relaxed);
        Ok(self.connection(index, entry))
    }

    fn refused(&self, why: Refused) -> Refused {
        match why {
            Refused::Clash => self.stats.clashes.fetch_add(1, Relaxed),
            Refused::Full => self.stats.full.fetch_add(1, Relaxed),
        };
        why
    }

    /// An entry of our own, counted; ends another connection if there are as many as may be.
    fn take(&self, now: Ticks, guard: &Guard<'_>) -> Option<u32> {
        if self.len.fetch_add(1, Relaxed) >= self.connections_max && !self.evict(now, guard) {
            self.len.fetch_sub(1, Relaxed);
            return None;
        }
        let index = self.slab.take();
        if index.is_none() {
            self.len.fetch_sub(1, Relaxed);
        }
        index
    }

    /// Gives an entry back that is no connection, or no more.
    fn give_up(&self, index: u32, guard: &Guard<'_>) {
        guard.retire(index);
        self.len.fetch_sub(1, Relaxed);
    }

    fn unlink(&self, index: u32, hashes: &[TupleHash; 2]) {
        self.buckets.clear(hashes[0], index, Direction::Original);
        self.buckets.clear(hashes[1], index, Direction::Reply);
    }

    /// Whether another connection has the tuple that `key` is of, and is before us; those that are over, or behind us, end.
    fn is_beaten(&self, index: u32, key: &Key, hash: TupleHash, now: Ticks, guard: &Guard<'_>) -> bool {
        let beaten = self.buckets.find(hash, |other, direction| {
            let entry = self.slab.entries.get(other as usize)?;
            if other == index || !self.matches(entry, other, key, direction) {
                return None;
            }
            let mut life = entry.life();
            loop {
                match life.stage() {
                    Stage::Live if !life.is_expired(now) => return Some(()),
                    Stage::Live => {
                        if self.end(other, life, guard) {
                            self.stats.expired.fetch_add(1, Relaxed);
                            return None;
                        }
                    }
                    Stage::Pending if other < index => return Some(()),
                    Stage::Pending => {
                        if entry.change_life(life, life.at(Stage::Dead)).is_ok() {
                            return None;
                        }
                    }
                    Stage::Free | Stage::Dead => return None,
                }
                life = entry.life();
            }
        });
        beaten.is_some()
    }

    /// Ends a connection; true for the one caller that did.
    pub fn remove(&self, connection: Connection<'_>, guard: &Guard<'_>) -> bool {
        loop {
            let life = connection.entry.life();
            if !life.is_live() {
                return false;
            }
            if self.end(connection.index, life, guard) {
                return true;
            }
        }
    }

    /// Ends the connection at `index` if it is as `life` says.
    fn end(&self, index: u32, life: Life, guard: &Guard<'_>) -> bool {
        let entry = &self.slab.entries[index as usize];
        if entry.change_life(life, life.at(Stage::Dead)).is_err() {
            return false;
        }
        let connection = self.connection(index, entry);
        let hashes = [Direction::Original, Direction::Reply].map(|direction| self.hash(&connection.tuple(direction)));
        if life.marks().any(Marks::EXPORTED) || self.log.is_watched() {
            let record = Record {
                status: life.status(),
                marks: life.marks(),
                deadline: life.deadline(),
                ..connection.record()
            };
            self.log.push(Event::Destroy, record);
        }
        self.unlink(index, &hashes);
        self.stats.ended.fetch_add(1, Relaxed);
        self.give_up(index, guard);
        true
    }

    /// Ends what is over among the next `entries_max` entries of a round over all; how many.
    pub fn sweep(&self, now: Ticks, entries_max: u32, guard: &Guard<'_>) -> u32 {
        let used = self.slab.used();
        if used == 0 {
            return 0;
        }
        let piece = entries_max.min(used);
        let start = self.swept.fetch_add(piece, Relaxed);
        let mut ended = 0;
        for n in 0..piece {
            let index = start.wrapping_add(n) % used;
            let life = self.slab.entries[index as usize].life();
            if life.is_live() && life.is_expired(now) && self.end(index, life, guard) {
                ended += 1;
            }
        }
        self.stats.expired.fetch_add(u64::from(ended), Relaxed);
        ended
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
        let of = |count: &AtomicU64| count.load(Relaxed);
        let stats = &self.stats;
        Counts {
            inserted: of(&stats.inserted),
            ended: of(&stats.ended),
            expired: of(&stats.expired),
            early_dropped: of(&stats.early_dropped),
            full: of(&stats.full),
            clashes: of(&stats.clashes),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} of {} connections)", self.len(), self.connections_max)
    }
}

#[cfg(test)]
mod tests;
