//! The word that decides about an entry's life: the only word of it that two threads fight over.
//!
//! ```text
//!  63              32 31        16 15          2 1    0
//!  | deadline (ticks) | IPS status |    marks    | stage |      free -> pending -> live -> dead -> free
//! ```
//!
//! An insertion commits by `pending -> live`; who ends a connection does so by `live -> dead`. Both are compare-and-swaps of
//! the whole word: a refresh moves the deadline by another, so an expiry that looked at the old deadline fails, and a refresh that comes
//! after the end fails too. The stage never goes from dead to live: only epochs bring an entry back, when nobody can hold it.

use crate::table::conntrack::{Marks, Status, Ticks, is_past};

/// Where an entry is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// On the free list, or never used.
    Free,
    /// Its slots are being placed; nobody finds it yet.
    Pending,
    /// A connection.
    Live,
    /// Ended; it is freed when no guard is left that could have seen it.
    Dead,
}

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(pub u64);

/// How many bits marks have here.
pub const MARKS: u16 = 0x3fff;

impl Life {
    /// The word of a new entry.
    #[inline]
    pub const fn new(deadline: Ticks, status: Status, marks: Marks, stage: Stage) -> Life {
        let marks = (marks.0 & MARKS) as u64;
        Life((deadline as u64) << 32 | (status.0 as u64) << 16 | marks << 2 | stage as u64)
    }

    /// See [`Stage`].
    #[inline]
    pub const fn stage(self) -> Stage {
        match self.0 & 3 {
            0 => Stage::Free,
            1 => Stage::Pending,
            2 => Stage::Live,
            _ => Stage::Dead,
        }
    }

    /// Whether it is a connection.
    #[inline]
    pub const fn is_live(self) -> bool {
        self.0 & 3 == Stage::Live as u64
    }

    /// The same at another stage.
    #[inline]
    pub const fn at(self, stage: Stage) -> Life {
        Life(self.0 & !3 | stage as u64)
    }

    /// The same with another deadline.
    #[inline]
    pub const fn until(self, deadline: Ticks) -> Life {
        Life(self.0 & 0xffff_ffff | (deadline as u64) << 32)
    }

    /// When it ends.
    #[inline]
    pub const fn deadline(self) -> Ticks {
        (self.0 >> 32) as Ticks
    }

    /// Whether that has come.
    #[inline]
    pub const fn is_expired(self, now: Ticks) -> bool {
        is_past(self.deadline(), now)
    }

    /// The kernel's bits.
    #[inline]
    pub const fn status(self) -> Status {
        Status((self.0 >> 16) as u16)
    }

    /// Ours.
    #[inline]
    pub const fn marks(self) -> Marks {
        Marks((self.0 >> 2) as u16 & MARKS)
    }

    /// Status bits at their place in the word.
    #[inline]
    pub const fn of_status(status: Status) -> u64 {
        (status.0 as u64) << 16
    }

    /// Marks at their place in the word.
    #[inline]
    pub const fn of_marks(marks: u16) -> u64 {
        ((marks & MARKS) as u64) << 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_keeps_to_its_place() {
        let life = Life::new(u32::MAX, Status(0x1234), Marks(0x2aaa), Stage::Pending);
        assert_eq!(
            (life.deadline(), life.status(), life.marks(), life.stage()),
            (u32::MAX, Status(0x1234), Marks(0x2aaa), Stage::Pending)
        );
        let dead = life.at(Stage::Dead).until(7);
        assert_eq!(
            (dead.deadline(), dead.status(), dead.marks(), dead.stage()),
            (7, Status(0x1234), Marks(0x2aaa), Stage::Dead)
        );
        let all = Life::of_status(Status(u16::MAX)) | Life::of_marks(u16::MAX);
        assert_eq!(Life(all).status(), Status(u16::MAX));
        assert_eq!(
            (Life(all).marks(), Life(all).deadline(), Life(all).stage()),
            (Marks(MARKS), 0, Stage::Free)
        );
    }
}
