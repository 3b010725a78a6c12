//! Insertion: place the slots, look for competitors, commit.
//!
//! ```text
//!  take an entry -> fill it: pending -> place both slots -> fence -> look for others that have one of our tuples
//!      another is live      -> refused (it is ended instead if its time is over)
//!      another is pending   -> the lower index wins: it is killed, or we are refused
//!  -> pending to live, one compare-and-swap for both tuples, unless we were killed meanwhile
//! ```
//!
//! Why no tuple is ever in the table twice: both have placed their slots before their fences, so at least the one whose fence
//! is the later one sees the other. Say A has the lower index. If B sees A, B gives way, unless A is dead. If B does
//! not, A sees B, and either kills it before it commits or finds it live and gives way. Why one is left: of those that
//! insert one tuple the lowest pending one gives way to a live one only. (Where more tuples are in play, a winner may itself
//! lose to a third; then the refused ones find nothing, and their packets are treated as the kernel treats a clash.)
//!
//! A tuple that is its own inverse has one slot, and belongs to the reply: the kernel finds it so, since it adds the
//! reply's to the front of the chain last.

use super::counts::Count;
use super::entry::Key;
use super::life::{Life, Stage};
use super::sync::{Ordering, fence};
use super::{Connection, Guard, Table, TupleHash};
use crate::table::conntrack::{Direction, Record, Ticks};
use std::sync::atomic::Ordering::Relaxed;

/// Why a connection was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another connection has one of its tuples.
    Clash,
    /// There is no room.
    Full,
    /// There is none for IPv6 with NAT: a sixteenth of all may be such.
    NoAnnex,
}

impl Table {
    /// Puts a connection into the table.
    ///
    /// # Errors
    /// [`Refused`]: then nothing of it is left.
    pub fn insert<'g>(&'g self, record: &Record, now: Ticks, guard: &'g Guard<'_>) -> Result<Connection<'g>, Refused> {
        assert!(self.owns(guard), "a guard of another table");
        let inserted = self.try_insert(record, now, guard);
        let count = match inserted {
            Ok(_) => Count::Inserted,
            Err(Refused::Clash) => Count::Clash,
            Err(Refused::Full | Refused::NoAnnex) => Count::Full,
        };
        self.counts.add(guard.handle.stripe, count);
        inserted
    }

    fn try_insert<'g>(&'g self, record: &Record, now: Ticks, guard: &'g Guard<'_>) -> Result<Connection<'g>, Refused> {
        let keys = [Key::new(&record.original), Key::new(&record.reply)];
        let hashes = [self.hash(&record.original), self.hash(&record.reply)];
        // Most clashes are plain to see, and cost no entry: to try one NAT port after another is cheap.
        self.yield_to_live(&keys, &hashes, now)?;
        let index = self.take(now, guard).ok_or(Refused::Full)?;
        let entry = &self.slab.entries[index as usize];
        let mut annex = None;
        if keys[0].needs_annex(&keys[1]) {
            annex = self.slab.take_annex();
            if annex.is_none() {
                guard.starved();
                self.give_up(index, guard);
                return Err(Refused::NoAnnex);
            }
        }
        let pending = Life::new(record.deadline, record.status, record.marks, Stage::Pending);
        entry.fill(record, &keys, pending, &self.slab.cold[index as usize], annex);

        let committed = self
            .place(record, &hashes, index, now, guard)
            .and_then(|()| self.compete(&keys, &hashes, index, now, guard))
            .and_then(|()| {
                let commit = entry.change_life(pending, pending.at(Stage::Live));
                commit.map_err(|_| Refused::Clash)
            });
        if let Err(refused) = committed {
            // Or another has killed it already.
            let _ = entry.change_life(pending, pending.at(Stage::Dead));
            self.unlink(index, &hashes);
            self.give_up(index, guard);
            return Err(refused);
        }
        Ok(self.connection(index, entry))
    }

    fn yield_to_live(&self, keys: &[Key; 2], hashes: &[TupleHash; 2], now: Ticks) -> Result<(), Refused> {
        let taken = keys.iter().zip(hashes).any(|(key, &hash)| {
            let found = self.buckets.find(hash, |other, direction| {
                let entry = self.slab.entries.get(other as usize)?;
                let life = entry.life();
                (life.is_live() && !life.is_expired(now) && self.matches(entry, key, direction)).then_some(())
            });
            found.is_some()
        });
        if taken { Err(Refused::Clash) } else { Ok(()) }
    }

    /// An entry of our own, counted; ends another connection if there are as many as may be.
    fn take(&self, now: Ticks, guard: &Guard<'_>) -> Option<u32> {
        if self.len.fetch_add(1, Relaxed) >= self.connections_max && !self.evict(now, guard) {
            self.len.fetch_sub(1, Relaxed);
            return None;
        }
        let index = self.slab.take();
        if index.is_none() {
            guard.starved();
            self.len.fetch_sub(1, Relaxed);
        }
        index
    }

    fn place(
        &self,
        record: &Record,
        hashes: &[TupleHash; 2],
        index: u32,
        now: Ticks,
        guard: &Guard<'_>,
    ) -> Result<(), Refused> {
        let is_own_inverse = record.original == record.reply;
        for direction in [Direction::Original, Direction::Reply] {
            if is_own_inverse && direction == Direction::Original {
                continue;
            }
            let hash = hashes[direction as usize];
            let place = || self.buckets.place(hash, index, direction);
            if !(place() || self.make_room(hash, now, guard) && place()) {
                return Err(Refused::Full);
            }
        }
        Ok(())
    }

    /// Leaves no competitor for either tuple, or is refused.
    fn compete(
        &self,
        keys: &[Key; 2],
        hashes: &[TupleHash; 2],
        index: u32,
        now: Ticks,
        guard: &Guard<'_>,
    ) -> Result<(), Refused> {
        // Ours are placed before we look for others, and theirs before they look for ours.
        fence(Ordering::SeqCst);
        let beaten = keys
            .iter()
            .zip(hashes)
            .any(|(key, &hash)| self.is_beaten(index, key, hash, now, guard));
        if beaten { Err(Refused::Clash) } else { Ok(()) }
    }

    /// Whether another connection has the tuple that `key` is of, and is before us; those that are over, or behind us, end.
    fn is_beaten(&self, index: u32, key: &Key, hash: TupleHash, now: Ticks, guard: &Guard<'_>) -> bool {
        let beaten = self.buckets.find(hash, |other, direction| {
            let entry = self.slab.entries.get(other as usize)?;
            if other == index || !self.matches(entry, key, direction) {
                return None;
            }
            let mut life = entry.life();
            loop {
                let changed = match life.stage() {
                    Stage::Free | Stage::Dead => return None,
                    Stage::Live if !life.is_expired(now) => return Some(()),
                    Stage::Live => self.end(other, life, Count::Expired, guard),
                    Stage::Pending if other < index => return Some(()),
                    // Its own thread clears up behind it.
                    Stage::Pending => entry.change_life(life, life.at(Stage::Dead)).is_ok(),
                };
                if changed {
                    return None;
                }
                life = entry.life();
            }
        });
        beaten.is_some()
    }
}
