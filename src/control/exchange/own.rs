//! Connections of the box itself, and addresses of the box that others use: what NAT has the exchange know.
//!
//! Without NAT no tuple of a forwarded connection bears an address of the box, so the box's own are left out. With NAT they
//! are in our table as the kernel's (KERNEL, never ADOPTABLE), so that their tuples are taken where a port is sought. Those
//! within the box (loopback) are not: no frame bears them.
//!
//! The kernel's event of a connection that the box begins is here within a millisecond, as a rule, and one of ours is in the
//! kernel's table within two seconds; in that time both may take one tuple. Then the kernel's stays and ours ends, counted as
//! `displaced`: its next packet begins anew and gets another port. Until it does, steer gives the answers to the box where a
//! socket waits for them, the worker to the client where none does.
//!
//! A connection whose packets the kernel alone sees (steer passes those of the box; the other link may be no port) is
//! refreshed there without an event. So shortly before it would end here, and its port be free, the kernel is asked again
//! ([`SOON_TICKS`], at most [`ASKED_MAX`] for a piece of the table; what is beyond that ends here a little early).
//!
//! An address that goes takes its masqueraded connections along, as inet_cmp of nf_nat_masquerade.c has it: here those whose
//! source is translated to it, of any rule and on any link, for neither is known of a connection. It is looked at when the
//! address is gone, also by its link going down; one that comes back at once may not be seen to have gone.

use super::import::Told;
use super::{Exchange, Inner, now};
use crate::packet::{Addr, Family};
use crate::table::conntrack::table::{Connection, Guard, Handle};
use crate::table::conntrack::{Direction, Marks, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use std::collections::HashSet;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

/// Addresses of the box itself.
pub type Local = HashSet<(Family, Addr)>;

/// What is left of a connection when the kernel is asked whether it lives longer: some walks over the table.
const SOON_TICKS: i32 = 3 * TICKS_PER_SECOND as i32;

/// Connections that are asked for at a time.
const ASKED_MAX: usize = 1000;

/// Connections that one guard covers.
const PIECE: u32 = 4096;

/// Whose ends a connection has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// It is forwarded.
    Others,
    /// The box began it, or answers.
    Box,
    /// It never leaves the box.
    Loopback,
}

/// Who answers is where NAT leads to, if there is any.
pub(super) fn ends(record: &Record, local: &Local) -> Ends {
    let own = |addr| local.contains(&(record.original.family, addr));
    match (own(record.original.src), own(record.reply.src)) {
        (false, false) => Ends::Others,
        (true, true) => Ends::Loopback,
        _ => Ends::Box,
    }
}

/// Whether NAT made its reply something else than its inverse.
pub(super) fn is_translated(original: &Tuple, reply: &Tuple) -> bool {
    original.invert().is_none_or(|untranslated| untranslated != *reply)
}

impl Exchange {
    /// Says which addresses are the box's own. What was masqueraded behind one that is none any more ends, soon.
    pub fn set_local(&self, local: Local) {
        let before = self.local.swap(local.into());
        let local = self.local.load();
        if Family::ALL.into_iter().any(|family| self.translates(family)) {
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.extend(before.difference(&local));
        }
    }

    /// Whether NAT is in force for a family.
    pub(super) fn translates(&self, family: Family) -> bool {
        self.nat[family as usize].load(Relaxed)
    }

    /// NAT comes into force, or goes. Where it comes, the box's own connections must be known first.
    pub(super) fn change_nat(&self, inner: &mut Inner, nat: [bool; 2]) -> io::Result<()> {
        let before = Family::ALL.map(|family| self.translates(family));
        if nat == before {
            return Ok(());
        }
        self.set_nat(nat);
        if (0..2).any(|family| nat[family] && !before[family]) {
            self.import(inner).inspect_err(|_| self.set_nat(before))?;
        }
        let ends = [0, 1].map(|family| before[family] && !nat[family]);
        if ends != [false; 2] {
            self.export_everything(inner, super::HAND_BACK);
            self.leave_translated(&inner.handle, ends);
        }
        Ok(())
    }

    pub(super) fn set_nat(&self, nat: [bool; 2]) {
        for (known, nat) in self.nat.iter().zip(nat) {
            known.store(nat, Relaxed);
        }
    }

    /// Without a chain of NAT the kernel translates nothing, whatever its connections say: it decides about those of ours.
    fn leave_translated(&self, handle: &Handle, families: [bool; 2]) {
        self.each(handle, |connection, _| {
            let original = connection.tuple(Direction::Original);
            if families[original.family as usize] && is_translated(&original, &connection.tuple(Direction::Reply)) {
                connection.set_marks(Marks::KERNEL);
                connection.clear_marks(Marks::ADOPTABLE);
            }
        });
    }

    /// Ends what was masqueraded behind addresses that are gone. The kernel ends its own, but not what was given to it: to
    /// that it does not belong to any link.
    pub(super) fn end_masqueraded(&self, handle: &Handle) {
        let gone: Local = {
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *gone)
        };
        if gone.is_empty() {
            return;
        }
        self.each(handle, |connection, guard| {
            let marks = connection.marks();
            let kernels = marks.any(Marks::KERNEL) && !marks.any(Marks::ADOPTABLE);
            if kernels || !connection.status().any(Status::SRC_NAT) {
                return;
            }
            let reply = connection.tuple(Direction::Reply);
            if gone.contains(&(reply.family, reply.dst)) {
                // So that its entry there is a copy like others.
                connection.clear_marks(Marks::KERNEL | Marks::ADOPTABLE);
                self.table.remove(connection, guard);
            }
        });
    }

    /// Notes a connection that the kernel should be asked for again.
    pub(super) fn note_soon(&self, soon: &mut Vec<Tuple>, connection: &Connection<'_>, now: Ticks) {
        let marks = connection.marks();
        let left = connection.deadline().wrapping_sub(now) as i32;
        if !marks.any(Marks::KERNEL) || !marks.any(Marks::EXPORTED) || left > SOON_TICKS || soon.len() == ASKED_MAX {
            return;
        }
        let original = connection.tuple(Direction::Original);
        if self.translates(original.family) {
            soon.push(original);
        }
    }

    /// Asks for them.
    pub(super) fn ask_again(&self, inner: &mut Inner, soon: &[Tuple]) {
        let now = now();
        let Inner { link, handle, .. } = inner;
        let _ = link.get(soon, now, |place, entry| match entry {
            Some(entry) => self.enter(handle, &entry, Told::Dump, &self.local.load(), now),
            None => self.lost(handle, &soon[place], now),
        });
    }

    fn each(&self, handle: &Handle, mut each: impl FnMut(Connection<'_>, &Guard<'_>)) {
        let mut from = Some(0);
        while let Some(at) = from {
            let guard = handle.pin();
            from = self
                .table
                .walk(at, PIECE, &guard, |connection| each(connection, &guard));
        }
    }
}
