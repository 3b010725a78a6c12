//! A connection that a lookup found, under a guard: what it is, what may be changed of it, each by one atomic step.
//!
//! It stays what it is while the guard lives, but it may end at any time: [`Connection::refresh`] says so. Status and marks
//! share the life word with the deadline; the protocol's state has a version, and is committed or not.

use super::entry::{Entry, Version};
use super::life::Life;
use super::slab::Slab;
use super::sync::Ordering::Relaxed;
use crate::packet::Family;
use crate::table::conntrack::{Counter, Direction, Marks, ProtoState, Record, Status, Ticks, Tuple};

/// A connection that was found: it stays what it is while the guard lives, though it may end.
#[derive(Clone, Copy)]
pub struct Connection<'g> {
    pub(super) index: u32,
    pub(super) entry: &'g Entry,
    pub(super) slab: &'g Slab,
}

impl Connection<'_> {
    /// Its number: stable while it lives.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its tuple of a direction.
    pub fn tuple(&self, direction: Direction) -> Tuple {
        self.entry.tuple(direction, |number| self.slab.annex(number))
    }

    /// What a TCP or UDP packet of a direction becomes: the inverse of its tuple of the other direction. `family` is its own.
    #[inline(always)]
    pub fn target(&self, family: Family, direction: Direction) -> Option<Tuple> {
        match family {
            Family::V4 => Some(self.entry.target_v4(direction)),
            Family::V6 => self.tuple(direction.opposite()).invert(),
        }
    }

    /// All of it, as plain data.
    pub fn record(&self) -> Record {
        let life = self.entry.life();
        Record {
            original: self.tuple(Direction::Original),
            reply: self.tuple(Direction::Reply),
            status: life.status(),
            marks: life.marks(),
            deadline: life.deadline(),
            mark: self.mark(),
            proto: self.proto().1,
            counters: self.counters(),
        }
    }

    /// The kernel's bits.
    #[inline(always)]
    pub fn status(&self) -> Status {
        self.entry.life().status()
    }

    /// Ours.
    #[inline(always)]
    pub fn marks(&self) -> Marks {
        self.entry.life().marks()
    }

    /// When it ends.
    #[inline(always)]
    pub fn deadline(&self) -> Ticks {
        self.entry.life().deadline()
    }

    /// Sets status bits; says what they were.
    pub fn set_status(&self, bits: Status) -> Status {
        self.entry.set_bits(Life::of_status(bits)).status()
    }

    /// Sets marks; says what they were.
    pub fn set_marks(&self, bits: u16) -> Marks {
        self.entry.set_bits(Life::of_marks(bits)).marks()
    }

    /// Sets marks; false if it had ended already, and so without them.
    pub fn mark_alive(&self, bits: u16) -> bool {
        self.entry.set_bits(Life::of_marks(bits)).is_live()
    }

    /// Clears marks; says what they were.
    pub fn clear_marks(&self, bits: u16) -> Marks {
        self.entry.clear_bits(Life::of_marks(bits)).marks()
    }

    /// It ends at `deadline`; false if it ended already.
    #[inline(always)]
    pub fn refresh(&self, deadline: Ticks) -> bool {
        let mut life = self.entry.life();
        loop {
            if !life.is_live() {
                return false;
            }
            if life.deadline() == deadline {
                return true;
            }
            match self.entry.change_life(life, life.until(deadline)) {
                Ok(()) => return true,
                Err(now) => life = now,
            }
        }
    }

    /// `ct mark`.
    pub fn mark(&self) -> u32 {
        self.entry.mark()
    }

    /// Sets it to what the kernel says.
    pub fn set_mark(&self, mark: u32) {
        self.entry.set_mark(mark);
    }

    /// Sets it to what a rule here says: the kernel's copy is [old](Marks::REMARKED) from now on.
    pub fn remark(&self, mark: u32) {
        self.entry.set_mark(mark);
        self.entry.raise_bits(Life::of_marks(Marks::REMARKED));
    }

    /// The protocol's state, and which version of it that is.
    #[inline(always)]
    pub fn proto(&self) -> (Version, ProtoState) {
        self.entry.proto()
    }

    /// Keeps what was computed from `version`; false if somebody was quicker: compute again.
    #[inline(always)]
    pub fn commit(&self, version: Version, state: &ProtoState) -> bool {
        self.entry.commit(version, state)
    }

    /// Counts a packet of `bytes`.
    #[inline(always)]
    pub fn count(&self, direction: Direction, bytes: u32) {
        self.slab.cold[self.index as usize].count(direction, bytes);
    }

    /// By direction.
    pub fn counters(&self) -> [Counter; 2] {
        self.slab.cold[self.index as usize].counters()
    }

    /// What the flow stage keeps for a direction; 0 at first.
    #[inline(always)]
    pub fn decision(&self, direction: Direction) -> u64 {
        self.entry.decision(direction)
    }

    /// Sets it.
    #[inline(always)]
    pub fn set_decision(&self, direction: Direction, decision: u64) {
        self.entry.set_decision(direction, decision);
    }

    /// When the kernel's copy of it expires, 0 if there never was one.
    pub fn kernel_deadline(&self) -> Ticks {
        self.slab.kernel_deadlines[self.index as usize].0.load(Relaxed)
    }

    /// Sets it.
    pub fn set_kernel_deadline(&self, deadline: Ticks) {
        self.slab.kernel_deadlines[self.index as usize]
            .0
            .store(deadline, Relaxed);
    }
}
