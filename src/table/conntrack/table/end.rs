//! How connections end: by hand, by expiry, to make room. All by one compare-and-swap from live to dead.
//!
//! Who wins it clears the slots, writes the log and retires the entry. A sweep goes over the entries in their order, 128
//! bytes each, as hardware likes it, a piece at a time from a cursor that all workers share. What has expired is collected a few at a time,
//! so that the lines of their slots are under way together before the first is cleared. Until it is swept an expired connection
//! is found by nobody, and gives way to whoever inserts its tuples.

use super::counts::Count;
use super::life::{Life, Stage};
use super::log::Event;
use super::{Connection, Guard, Table, TupleHash};
use crate::table::conntrack::{Direction, Marks, Record, Ticks};
use std::sync::atomic::Ordering::Relaxed;

/// So many are collected before they are ended.
const SWEPT_AT_ONCE: usize = 16;

/// A connection that is to end.
#[derive(Clone, Copy)]
struct Doomed {
    index: u32,
    life: Life,
    hashes: [TupleHash; 2],
}

impl Table {
    /// Ends a connection; true for the one caller that did.
    pub fn remove(&self, connection: Connection<'_>, guard: &Guard<'_>) -> bool {
        let own = self.owns(guard) && std::ptr::eq(connection.slab, &*self.slab);
        assert!(own, "of another table");
        loop {
            let life = connection.entry.life();
            if !life.is_live() {
                return false;
            }
            if self.end(connection.index, life, Count::Ended, guard) {
                return true;
            }
        }
    }

    /// Ends what is over among the next `entries_max` entries of a round over all; how many.
    pub fn sweep(&self, now: Ticks, entries_max: u32, guard: &Guard<'_>) -> u32 {
        assert!(self.owns(guard), "a guard of another table");
        let used = self.slab.used();
        let cursor = self.swept.load(Relaxed);
        let from = if cursor >= used { 0 } else { cursor };
        let piece = entries_max.min(used);
        let to = from.saturating_add(piece).min(used);
        // What is left of the piece when a round is over.
        let next = piece - (to - from);
        let cursor_after = if next > 0 { next } else { to };
        if self
            .swept
            .compare_exchange(cursor, cursor_after, Relaxed, Relaxed)
            .is_err()
        {
            // Another worker is at this piece.
            return 0;
        }
        let mut over = (from..to).chain(0..next).filter_map(|index| {
            let life = self.slab.entries[index as usize].life();
            (life.is_live() && life.is_expired(now)).then_some((index, life))
        });
        let mut ended = 0;
        loop {
            let mut doomed = [None; SWEPT_AT_ONCE];
            for place in &mut doomed {
                *place = over.next().map(|(index, life)| {
                    let doomed = self.doomed(index, life);
                    doomed.hashes.iter().for_each(|&hash| self.buckets.prefetch(hash));
                    doomed
                });
            }
            for doomed in doomed.iter().flatten() {
                ended += u32::from(self.bury(doomed, Count::Expired, guard));
            }
            if doomed[SWEPT_AT_ONCE - 1].is_none() {
                return ended;
            }
        }
    }

    /// Ends the connection at `index` if it is as `life` says.
    pub(super) fn end(&self, index: u32, life: Life, why: Count, guard: &Guard<'_>) -> bool {
        self.bury(&self.doomed(index, life), why, guard)
    }

    fn doomed(&self, index: u32, life: Life) -> Doomed {
        let connection = self.connection(index, &self.slab.entries[index as usize]);
        let hashes = [Direction::Original, Direction::Reply].map(|direction| self.hash(&connection.tuple(direction)));
        Doomed { index, life, hashes }
    }

    fn bury(
        &self,
        &Doomed {
            index,
            life,
            ref hashes,
        }: &Doomed,
        why: Count,
        guard: &Guard<'_>,
    ) -> bool {
        let entry = &self.slab.entries[index as usize];
        if entry.change_life(life, life.at(Stage::Dead)).is_err() {
            return false;
        }
        if life.marks().any(Marks::EXPORTED) || self.log.is_watched() {
            let record = Record {
                status: life.status(),
                marks: life.marks(),
                deadline: life.deadline(),
                ..self.connection(index, entry).record()
            };
            self.log.push(Event::Destroy, record);
        }
        self.unlink(index, hashes);
        self.counts.add(guard.handle.stripe, Count::Ended);
        if !matches!(why, Count::Ended) {
            self.counts.add(guard.handle.stripe, why);
        }
        self.give_up(index, guard);
        true
    }

    /// Gives an entry back that is no connection, or no more.
    pub(super) fn give_up(&self, index: u32, guard: &Guard<'_>) {
        guard.retire(index);
        self.len.fetch_sub(1, Relaxed);
    }

    pub(super) fn unlink(&self, index: u32, hashes: &[TupleHash; 2]) {
        self.buckets.clear(hashes[0], index, Direction::Original);
        self.buckets.clear(hashes[1], index, Direction::Reply);
    }
}
