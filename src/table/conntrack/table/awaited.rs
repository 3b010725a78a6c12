//! Connections that the kernel began for us and has not told of yet. What NAT made of one is not known until it does, so a
//! packet that is in no table may be its answer.
//!
//! Workers count what begins, the exchange what it is told of. What the kernel dropped it never tells of: so nothing is
//! awaited for longer than [`AWAITED_TICKS`], and when there was nothing for so long the count starts anew. Of threads that
//! do so at once one may forget what the other has just counted: then an answer is judged as if nothing was awaited.

use crate::table::conntrack::{TICKS_PER_SECOND, Ticks};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How long it may take until an event is here: of a busy box, with room.
pub const AWAITED_TICKS: Ticks = TICKS_PER_SECOND / 2;

/// See the file's head.
#[derive(Default)]
pub struct Awaited {
    began: AtomicU32,
    told: AtomicU32,
    last: AtomicU32,
}

impl Awaited {
    /// The kernel is about to begin one.
    pub fn begin(&self, now: Ticks) {
        if !self.is_recent(now) {
            self.told.store(self.began.load(Relaxed), Relaxed);
        }
        self.last.store(now, Relaxed);
        self.began.fetch_add(1, Relaxed);
    }

    /// It has told of one.
    pub fn tell(&self) {
        self.told.fetch_add(1, Relaxed);
    }

    /// Whether there is any.
    #[inline]
    pub fn any(&self, now: Ticks) -> bool {
        let (began, told) = (self.began.load(Relaxed), self.told.load(Relaxed));
        began.wrapping_sub(told) as i32 > 0 && self.is_recent(now)
    }

    fn is_recent(&self, now: Ticks) -> bool {
        now.wrapping_sub(self.last.load(Relaxed)) < AWAITED_TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_awaited_no_more_nor_what_takes_too_long() {
        let awaited = Awaited::default();
        assert!(!awaited.any(0) && !awaited.any(1000));
        awaited.begin(1000);
        awaited.begin(1010);
        assert!(awaited.any(1010));
        awaited.tell();
        assert!(awaited.any(1010 + AWAITED_TICKS - 1));
        assert!(!awaited.any(1010 + AWAITED_TICKS));
        // The other one was never told of, and the next one is.
        awaited.begin(2000);
        assert!(awaited.any(2000));
        awaited.tell();
        assert!(!awaited.any(2000));
        // Events of what nobody awaited.
        awaited.tell();
        assert!(!awaited.any(2000));
    }
}
