//! Early drop: an insertion into a full table ends another connection, as nf_conntrack_core.c does.
//!
//! First what is over, then what was never answered, then what is not assured (early_drop), and at last what is assured and
//! closing (gc_worker_can_early_drop). The kernel refuses what finds none but the last, and has its collector end all of them
//! a little later; here one gives way at once. Other assured connections stay, whatever floods in. What the kernel tracks has
//! a place here only so that its packets are punted: it is never assured. Bounded: [`EVICTION_MAX`] entries of the slab, or
//! the lines where a slot finds no place.

use super::counts::Count;
use super::entry::Entry;
use super::life::Life;
use super::{EVICTION_MAX, Guard, Table, TupleHash};
use crate::table::conntrack::{Direction, Marks, Status, Ticks, tracker};
use std::sync::atomic::Ordering::Relaxed;

impl Table {
    /// Ends one of the next connections of the slab, to make room: one that is over, else one that was never answered, else
    /// one that is not assured, else one that is closing.
    pub(super) fn evict(&self, now: Ticks, guard: &Guard<'_>) -> bool {
        let used = self.slab.used();
        if used == 0 {
            return false;
        }
        // Round and round: the next one goes on behind the last that was looked at.
        let start = self.evicted.load(Relaxed);
        let mut at = start;
        let candidates = (0..EVICTION_MAX.min(used)).map(|n| {
            at = start.wrapping_add(n);
            at % used
        });
        let found = self.evict_of(candidates, now, guard);
        self.evicted.store(at.wrapping_add(1), Relaxed);
        found
    }

    /// The same among those whose slots stand where one of `hash` could.
    pub(super) fn make_room(&self, hash: TupleHash, now: Ticks, guard: &Guard<'_>) -> bool {
        let mut candidates = [u32::MAX; 64];
        let mut len = 0;
        self.buckets.neighborhood(hash, |index| {
            if let Some(place) = candidates.get_mut(len) {
                *place = index;
                len += 1;
            }
            None::<()>
        });
        self.evict_of(candidates.into_iter().take(len), now, guard)
    }

    fn evict_of(&self, candidates: impl Iterator<Item = u32>, now: Ticks, guard: &Guard<'_>) -> bool {
        let mut best: Option<(u8, u32, Life)> = None;
        for index in candidates {
            let Some(entry) = self.slab.entries.get(index as usize) else {
                continue;
            };
            let life = entry.life();
            if !life.is_live() {
                continue;
            }
            let worth = match life.status() {
                _ if life.is_expired(now) => 0,
                status if status.any(Status::ASSURED) && !life.marks().any(Marks::KERNEL) => {
                    if best.is_some() || !self.is_closing(index, entry) {
                        continue;
                    }
                    3
                }
                status if !status.any(Status::SEEN_REPLY) => 1,
                _ => 2,
            };
            if best.is_none_or(|(least, ..)| worth < least) {
                best = Some((worth, index, life));
            }
            if worth <= 1 && self.end_best(&mut best, guard) {
                return true;
            }
        }
        self.end_best(&mut best, guard)
    }

    /// Whether an assured connection may go all the same. A look at its second line, which a flood of assured ones pays for.
    fn is_closing(&self, index: u32, entry: &Entry) -> bool {
        let proto = self.connection(index, entry).tuple(Direction::Original).proto;
        tracker::can_early_drop(proto, &entry.proto().1)
    }

    fn end_best(&self, best: &mut Option<(u8, u32, Life)>, guard: &Guard<'_>) -> bool {
        let Some((worth, index, life)) = best.take() else {
            return false;
        };
        let why = if worth == 0 {
            Count::Expired
        } else {
            Count::EarlyDropped
        };
        self.end(index, life, why, guard)
    }
}
