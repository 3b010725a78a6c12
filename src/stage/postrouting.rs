//! postrouting: the packet has survived, and so does the connection that it begins (__nf_conntrack_confirm). From here on
//! every worker finds it.
//!
//! Another worker may have confirmed the same tuples meanwhile: then this packet comes second, and walks again.

use super::prerouting::{Of, Tracked, Tracking};
use crate::packet::{DropReason, PuntReason, Step, Verdict};
use crate::table::conntrack::Record;
use crate::table::conntrack::table::{Event, Refused};
use std::ops::ControlFlow::Continue;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It is in the table, or was.
    Yes,
    /// Another one has its tuples.
    Clash,
}

/// Whether the answers to what begins have the tuple of another connection, and will next time: without NAT nothing finds them
/// another one. That is where NAT was in force when that connection began, and is no more.
///
/// The answers' tuple is looked for first: whoever is found by it is live, so a connection that has both tuples is found by the
/// other one, too, even if it was confirmed between the two looks.
#[cold]
fn is_in_the_way(begun: &Record, tracking: &Tracking<'_>) -> bool {
    let is_taken = |tuple| {
        let Tracking { table, now, guard, .. } = *tracking;
        table.lookup(tuple, table.hash(tuple), now, guard).is_some()
    };
    let has_nat = tracking.config.nat[begun.original.family as usize];
    !has_nat && is_taken(&begun.reply) && !is_taken(&begun.original)
}

/// Puts the connection that begins with this packet, `begun`, into the table.
#[inline]
pub fn confirm(tracked: &Tracked<'_>, begun: &Record, tracking: &Tracking<'_>) -> Step<Confirmed> {
    let Of::Unconfirmed = tracked.of else {
        return Continue(Confirmed::Yes);
    };
    match tracking.table.insert(begun, tracking.now, tracking.guard) {
        Ok(connection) => {
            let Tracking { table, guard, now, .. } = *tracking;
            tracking.by_source.insert(&connection, table, now, guard);
            if tracking.table.log.is_watched() {
                tracking.table.log.push(Event::New, connection.record());
            }
            Continue(Confirmed::Yes)
        }
        Err(Refused::Clash) if is_in_the_way(begun, tracking) => Verdict::drop(DropReason::ConntrackBusy),
        Err(Refused::Clash) => Continue(Confirmed::Clash),
        // The kernel has room, maybe.
        Err(Refused::NoAnnex) => Verdict::punt(PuntReason::KernelConnection),
        Err(Refused::Full) => Verdict::drop(DropReason::ConntrackFull),
    }
}
