//! A tuple on its way to its connection, in three steps, so that a burst of packets waits for memory once and not a packet
//! at a time:
//!
//! ```text
//!  Table::probe  hash the tuple, ask for its line of slots
//!  Table::aim    the line has come: which slot is likely its own? ask for the entry that it names
//!  Table::find   the entry has come: is it the one? else look everywhere
//! ```
//!
//! A probe that was not aimed is only slower. It holds within the guard under which it was made: an entry is no other one
//! before that guard is gone.

use super::entry::Key;
use super::sync::{Ordering, fence};
use super::{Connection, Guard, Table, TupleHash};
use crate::table::conntrack::{Direction, Ticks, Tuple};

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    key: Key,
    hash: TupleHash,
    likely: Option<(u32, Direction)>,
}

impl Probe {
    /// Whether no slot is likely its own: the packet most likely begins a connection. Only after [`Table::aim`].
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.likely.is_none()
    }
}

impl Table {
    /// The first step.
    #[inline(always)]
    pub fn probe(&self, tuple: &Tuple) -> Probe {
        let hash = self.hash(tuple);
        self.buckets.prefetch(hash);
        Probe {
            key: Key::new(tuple),
            hash,
            likely: None,
        }
    }

    /// The second step.
    #[inline(always)]
    pub fn aim(&self, probe: &mut Probe) {
        probe.likely = self.buckets.likely(probe.hash);
        if let Some((index, _)) = probe.likely
            && let Some(entry) = self.slab.entries.get(index as usize)
        {
            entry.prefetch();
        }
    }

    /// Asks for the line of slots of a tuple that is about to be inserted.
    #[inline]
    pub fn prefetch(&self, tuple: &Tuple) {
        self.buckets.prefetch(self.hash(tuple));
    }

    /// The third step: the connection that has the tuple, and which of its directions that is.
    #[inline(always)]
    pub fn find<'g>(&'g self, probe: &Probe, now: Ticks, guard: &'g Guard<'_>) -> Option<(Connection<'g>, Direction)> {
        debug_assert!(self.owns(guard), "a guard of another table");
        // Pairs with the release that placed the slot, as in a lookup.
        fence(Ordering::Acquire);
        let likely = probe
            .likely
            .and_then(|(index, direction)| self.is_it(&probe.key, index, direction, now));
        likely.or_else(|| self.search(&probe.key, probe.hash, now))
    }

    /// [`Table::find`] without the steps before.
    #[inline]
    pub fn lookup<'g>(
        &'g self,
        tuple: &Tuple,
        hash: TupleHash,
        now: Ticks,
        guard: &'g Guard<'_>,
    ) -> Option<(Connection<'g>, Direction)> {
        debug_assert!(self.owns(guard), "a guard of another table");
        self.search(&Key::new(tuple), hash, now)
    }

    /// Not inlined: few packets get here.
    #[inline(never)]
    fn search(&self, key: &Key, hash: TupleHash, now: Ticks) -> Option<(Connection<'_>, Direction)> {
        self.buckets
            .find(hash, |index, direction| self.is_it(key, index, direction, now))
    }

    /// The entry, if it is a connection, has the key in that direction, and is not over.
    #[inline(always)]
    fn is_it(&self, key: &Key, index: u32, direction: Direction, now: Ticks) -> Option<(Connection<'_>, Direction)> {
        let entry = self.slab.entries.get(index as usize)?;
        let life = entry.life();
        let found = life.is_live() && self.matches(entry, key, direction) && !life.is_expired(now);
        found.then(|| (self.connection(index, entry), direction))
    }
}
