//! Connections that the kernel began for us and has not told of yet. What NAT made of one is not known until it does, so a
//! packet that is in no table may be its answer.
//!
//! Workers count what begins, and mark it AWAITED; the exchange counts what it is told of, by the mark, once each. What the
//! kernel dropped it never tells of: so nothing is awaited for longer than [`AWAITED_TICKS`], and when there was nothing for
//! so long the count starts anew. Of threads that do so at once one may forget what the other has just counted: then an
//! answer is judged as if nothing was awaited.
//!
//! Whom an answer goes to is known, where the source is not translated, too. So each is remembered by that in a place of its hash:
//!
//! ```text
//!  63           32 31     0
//!  | hash, upper | since   |       the last one of a place counts: an answer to the one before is taken for a beginning
//! ```

use super::hash::TupleHash;
use crate::table::conntrack::{TICKS_PER_SECOND, Ticks};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// How long it may take until an event is here: of a busy box, with room.
pub const AWAITED_TICKS: Ticks = TICKS_PER_SECOND / 2;

/// Places: what begins within the milliseconds that an event takes, with room.
const PLACES: usize = 1024;

/// See the file's head.
pub struct Awaited {
    began: AtomicU32,
    told: AtomicU32,
    last: AtomicU32,
    answers: Box<[AtomicU64]>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            began: AtomicU32::new(0),
            told: AtomicU32::new(0),
            last: AtomicU32::new(0),
            answers: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Awaited {
    /// The kernel is about to begin one, whose `answers` go there.
    pub fn begin(&self, answers: TupleHash, now: Ticks) {
        if !self.lately(now) {
            self.told.store(self.began.load(Relaxed), Relaxed);
        }
        self.last.store(now, Relaxed);
        self.began.fetch_add(1, Relaxed);
        self.place(answers).store(word(answers, now), Relaxed);
    }

    /// It has told of one, which is in the table by now.
    pub fn tell(&self, answers: TupleHash) {
        self.told.fetch_add(1, Release);
        let place = self.place(answers);
        let known = place.load(Relaxed);
        if known >> 32 == word(answers, 0) >> 32 {
            // If another has come meanwhile, it stays.
            let _ = place.compare_exchange(known, 0, Release, Relaxed);
        }
    }

    /// Whether there is any.
    #[inline]
    pub fn any(&self, now: Ticks) -> bool {
        let (told, began) = (self.told.load(Acquire), self.began.load(Relaxed));
        began.wrapping_sub(told) as i32 > 0 && self.lately(now)
    }

    /// Whether there is one whose `answers` go there.
    pub fn any_to(&self, answers: TupleHash, now: Ticks) -> bool {
        let known = self.place(answers).load(Acquire);
        let is_it = known >> 32 == word(answers, 0) >> 32;
        is_it && apart(now, known as Ticks) < AWAITED_TICKS
    }

    fn place(&self, answers: TupleHash) -> &AtomicU64 {
        &self.answers[answers.bits() as usize % PLACES]
    }

    /// Whether there was any, told of or not.
    pub fn lately(&self, now: Ticks) -> bool {
        apart(now, self.last.load(Relaxed)) < AWAITED_TICKS
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
    fn what_was_told_is_awaited_no_more_nor_what_takes_too_long() {
        let awaited = Awaited::default();
        assert!(!awaited.any(0) && !awaited.any(1000));
        awaited.begin(TO, 1000);
        awaited.begin(TO, 1010);
        assert!(awaited.any(1010));
        awaited.tell(TO);
        assert!(awaited.any(1010 + AWAITED_TICKS - 1));
        assert!(!awaited.any(1010 + AWAITED_TICKS));
        // The other one was never told of, and the next one is.
        awaited.begin(TO, 2000);
        assert!(awaited.any(2000));
        awaited.tell(TO);
        assert!(!awaited.any(2000));
        // A worker whose clock was read before does not forget it.
        awaited.begin(TO, 5000);
        awaited.begin(OTHER, 4999);
        awaited.tell(OTHER);
        assert!(awaited.any(4999) && awaited.any_to(TO, 4999));
        awaited.tell(TO);
        // Events of what nobody awaited.
        awaited.tell(TO);
        assert!(!awaited.any(5000));
    }

    #[test]
    fn whom_an_answer_goes_to_is_remembered_until_it_is_told() {
        let awaited = Awaited::default();
        assert!(!awaited.any_to(TO, 0) && !awaited.any_to(TupleHash(0), 0));
        awaited.begin(TO, 1000);
        assert!(awaited.any_to(TO, 1000) && !awaited.any_to(OTHER, 1000));
        assert!(awaited.any_to(TO, 1000 + AWAITED_TICKS - 1));
        assert!(!awaited.any_to(TO, 1000 + AWAITED_TICKS));
        awaited.begin(OTHER, 2000);
        awaited.tell(TO);
        assert!(awaited.any_to(OTHER, 2000), "it has the place");
        awaited.tell(OTHER);
        assert!(!awaited.any_to(OTHER, 2000));
    }
}
