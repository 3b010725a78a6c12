//! A connection that takes the place of another with the same tuples: the kernel told of another one than we thought.
//!
//! ```text
//!  replace:  begun + 1 | end the old one | insert the new one | done + 1
//!  lookup:   found -> that                none, and nothing began since the guard -> there is none
//!                                         none, something did -> once more when it is done
//! ```
//!
//! Between the two steps a lookup finds neither, and a packet would begin a connection that is there. So who found none asks
//! [`Table::is_moving`], which is one load unless something moved. Like all of the table, this waits for nobody: how long to
//! wait is the caller's.

use super::slab::Slab;
use super::sync::{AtomicU32, Ordering, fence};
use super::{Connection, Guard, Refused, Table};
use crate::table::conntrack::{Record, Ticks};
use Ordering::{AcqRel, Acquire};

/// How many replacements began, and how many are done.
#[derive(Debug, Default)]
pub struct Moves {
    begun: AtomicU32,
    done: AtomicU32,
}

impl Slab {
    /// What a guard remembers: so many were done when it came.
    pub(super) fn moved(&self) -> u32 {
        self.moves.done.load(Acquire)
    }
}

impl Table {
    /// Puts a connection in the place of `old`.
    ///
    /// # Errors
    /// [`Refused`]: then the old one is gone all the same.
    pub fn replace<'g>(
        &'g self,
        old: Connection<'_>,
        record: &Record,
        now: Ticks,
        guard: &'g Guard<'_>,
    ) -> Result<Connection<'g>, Refused> {
        self.slab.moves.begun.fetch_add(1, AcqRel);
        self.remove(old, guard);
        let inserted = self.insert(record, now, guard);
        self.slab.moves.done.fetch_add(1, AcqRel);
        inserted
    }

    /// Whether a lookup under `guard` that found nothing may have come between the two steps of a replacement. `None`: it did
    /// not. `Some(true)`: one is under way. `Some(false)`: look again.
    #[inline]
    pub fn is_moving(&self, guard: &Guard<'_>) -> Option<bool> {
        // Pairs with the releases that took the old one out, whichever of them the lookup saw.
        fence(Acquire);
        let begun = self.slab.moves.begun.load(Acquire);
        if begun == guard.moved.get() {
            return None;
        }
        let done = self.slab.moves.done.load(Acquire);
        if begun == done {
            // The next look is behind all of them.
            guard.moved.set(done);
            return Some(false);
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::packet::Family;
    use crate::table::conntrack::table::Table;
    use crate::table::conntrack::{Marks, Record, Status, Tuple};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    fn record(turned: bool) -> Record {
        let one = Tuple {
            src: 1,
            dst: 2,
            sport: 3,
            dport: 4,
            proto: 17,
            family: Family::V4,
            zone: 0,
        };
        let other = one.invert().unwrap();
        let (original, reply) = if turned { (other, one) } else { (one, other) };
        Record {
            original,
            reply,
            status: Status::CONFIRMED,
            marks: Marks(0),
            deadline: 1000,
            mark: 0,
            proto: [0; 7],
            counters: Default::default(),
        }
    }

    /// While one thread turns a connection over and over, another always finds it, if it looks again when it may.
    #[test]
    fn a_connection_that_is_replaced_is_always_found() {
        // Entries come back by and by.
        let table = Table::new(1 << 16);
        let tuple = record(false).original;
        let hash = table.hash(&tuple);
        let handle = table.register();
        table.insert(&record(false), 0, &handle.pin()).unwrap();
        let (over, ready) = (AtomicBool::new(false), Barrier::new(2));
        let looks = std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                let handle = table.register();
                ready.wait();
                let (mut looks, mut again) = (0u64, 0u64);
                loop {
                    let guard = handle.pin();
                    looks += 1;
                    if over.load(Relaxed) {
                        break;
                    }
                    while table.lookup(&tuple, hash, 0, &guard).is_none() {
                        again += 1;
                        assert!(
                            table.is_moving(&guard).is_some(),
                            "after {looks} looks and {again} more"
                        );
                    }
                }
                looks
            });
            ready.wait();
            for round in 0..if cfg!(miri) { 20 } else { 5000 } {
                let guard = handle.pin();
                let (old, _) = table.lookup(&tuple, hash, 0, &guard).unwrap();
                table.replace(old, &record(round % 2 == 0), 0, &guard).unwrap();
            }
            over.store(true, Relaxed);
            looker.join().unwrap()
        });
        assert!(looks > 0, "nobody looked");
        assert_eq!(table.len(), 1);
    }
}
