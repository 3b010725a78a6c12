//! Connections that the kernel began for us just now. What NAT made of one is not known until the kernel's event is here, so a
//! packet that is in no table may be its answer, for [`AWAITED_TICKS`]. Whether the event came before is not asked: it would
//! have to be told from one that a packet overtakes, and what is in the table by then is found there first.
//!
//! Whom an answer goes to is known, where the source is not translated, too. So each is remembered by that in a place of its hash:
//!
//! ```text
//!  63           32 31     0
//!  | hash, upper | since   |       the last one of a place counts: an answer to the one before is taken for a beginning
//! ```

use super::hash::TupleHash;
use crate::table::conntrack::{TICKS_PER_SECOND, Ticks};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How long it may take until an event is here: of a busy box, with room.
pub const AWAITED_TICKS: Ticks = TICKS_PER_SECOND / 2;

/// Places: what begins within the milliseconds that an event takes, with room.
const PLACES: usize = 1024;

/// See the file's head.
pub struct Awaited {
    last: AtomicU32,
    answers: Box<[AtomicU64]>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            last: AtomicU32::new(0),
            answers: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Awaited {
    /// The kernel is about to begin one, whose `answers` go there.
    pub fn begin(&self, answers: TupleHash, now: Ticks) {
        self.last.store(now, Relaxed);
        self.place(answers).store(word(answers, now), Relaxed);
    }

    /// Whether there is any.
    #[inline]
    pub fn any(&self, now: Ticks) -> bool {
        apart(now, self.last.load(Relaxed)) < AWAITED_TICKS
    }

    /// Whether there is one whose `answers` go there.
    pub fn any_to(&self, answers: TupleHash, now: Ticks) -> bool {
        let known = self.place(answers).load(Relaxed);
        let is_it = known >> 32 == word(answers, 0) >> 32;
        is_it && apart(now, known as Ticks) < AWAITED_TICKS
    }

    fn place(&self, answers: TupleHash) -> &AtomicU64 {
        &self.answers[answers.bits() as usize % PLACES]
    }
}

/// The clocks of two workers are not read at once: either may be the later one.
fn apart(one: Ticks, other: Ticks) -> Ticks {
    (one.wrapping_sub(other) as i32).unsigned_abs()
}

/// What is remembered: never that of an empty place.
fn word(answers: TupleHash, since: Ticks) -> u64 {
    (answers.bits() | 1 << 63) >> 32 << 32 | u64::from(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: TupleHash = TupleHash(7 << 40 | 5);
    const OTHER: TupleHash = TupleHash(8 << 40 | 5);

    #[test]
    fn what_began_just_now_is_awaited() {
        let awaited = Awaited::default();
        assert!(!awaited.any(1000));
        awaited.begin(TO, 1000);
        awaited.begin(TO, 1010);
        assert!(awaited.any(1010) && awaited.any(1010 + AWAITED_TICKS - 1));
        assert!(!awaited.any(1010 + AWAITED_TICKS));
        // A worker whose clock was read before.
        assert!(awaited.any(1009) && awaited.any_to(TO, 1009));
        awaited.begin(TO, u32::MAX);
        assert!(awaited.any(3) && awaited.any_to(TO, 3), "the clock begins anew");
    }

    #[test]
    fn whom_an_answer_goes_to_is_remembered() {
        let awaited = Awaited::default();
        assert!(!awaited.any_to(TO, 0) && !awaited.any_to(TupleHash(0), 0));
        awaited.begin(TO, 1000);
        assert!(awaited.any_to(TO, 1000) && !awaited.any_to(OTHER, 1000));
        assert!(awaited.any_to(TO, 1000 + AWAITED_TICKS - 1));
        assert!(!awaited.any_to(TO, 1000 + AWAITED_TICKS));
        awaited.begin(OTHER, 1001);
        assert!(
            awaited.any_to(OTHER, 1001) && !awaited.any_to(TO, 1001),
            "it has the place"
        );
    }
}
