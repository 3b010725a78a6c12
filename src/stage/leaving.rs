//! A packet ends in a punt: what must the kernel's table say of its connection first, so that the kernel does with the packet
//! what it would have done had it seen all of them?
//!
//! ```text
//!  begins a connection ----------------------> KERNEL in our table; what was there under its tuples is deleted there
//!  of one of ours, punted for where it goes -> the connection as it is now
//!  of one of ours, punted for its own header
//!       in the window, or of no windows -----> the connection as it was before: the kernel takes the same step as we
//!       invalid -----------------------------> an entry under which the kernel finds it invalid too
//! ```
//!
//! The kernel cannot be told of windows, so its copy of a TCP connection is liberal, and would let pass what ours finds out of
//! the window. A header (options, extensions, a spent hop limit) is seen before the connection is advanced, so there the state
//! of before can be laid aside; a sender cannot get round the windows by an option.

use super::prerouting::{Aside, Key, Of, Tracked, Tracking};
use crate::packet::{Flags, Parsed};
use crate::table::conntrack::tracker;
use crate::table::conntrack::{CtState, Direction, Marks, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::wire::Protocol;

/// How long a connection that was punted before it was confirmed stays known as the kernel's, unless the kernel tells of it:
/// time for its event to arrive, with room.
pub(super) const KERNEL_TICKS: Ticks = 10 * TICKS_PER_SECOND;

/// What the kernel is told before it gets a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The connection with this original tuple, as our table has it.
    AsItIs(Tuple),
    /// This connection, as it was before the packet.
    AsItWas(Record),
    /// There is none with this original tuple any more: the packet begins one.
    Over(Tuple),
    /// The packet is no part of its connection.
    Invalid {
        /// The packet's own tuple.
        packet: Tuple,
        /// The connection's.
        original: Tuple,
    },
}

/// Whether a packet of a tracked connection is the kernel's for its own header, whatever comes of it here.
#[inline(always)]
pub fn is_by_header(packet: &Parsed) -> bool {
    packet.flags.any(Flags::OPTIONS | Flags::EXTENSION) || packet.ttl <= 1
}

/// Lays the connection of such a packet aside, before the packet advances it.
#[cold]
pub fn look_before(key: Option<&Key>, tracking: &Tracking<'_>, aside: &mut Aside) {
    let found = key.and_then(|key| {
        tracking
            .table
            .lookup(&key.tuple, key.hash, tracking.now, tracking.guard)
    });
    aside.before = found.and_then(|(connection, _)| {
        let record = connection.record();
        (!record.marks.any(Marks::KERNEL)).then_some(record)
    });
}

/// A packet ends in a punt, after it was tracked: see the file's head.
#[cold]
pub fn leave(packet: &Parsed, key: Option<&Key>, tracked: &Tracked<'_>, tracking: &Tracking<'_>, aside: &mut Aside) {
    let before = if is_by_header(packet) {
        aside.before.take()
    } else {
        None
    };
    aside.leaving = match (&tracked.of, before) {
        (Of::Connection(connection, _), Some(record)) if tracked.state != CtState::RELATED => {
            if tracked.kill {
                // The kernel ends its copy by the same packet.
                connection.clear_marks(Marks::EXPORTED);
                tracking.table.remove(*connection, tracking.guard);
            }
            Some(Leaving::AsItWas(record))
        }
        (Of::Connection(connection, _), _) => Some(Leaving::AsItIs(connection.tuple(Direction::Original))),
        (Of::Unconfirmed, before) => {
            // What the kernel does not forward it does not confirm.
            if packet.ttl > 1 {
                kernel_owned(&aside.begun.original, tracking);
            }
            before.map(|record| Leaving::Over(record.original))
        }
        (Of::Nothing, Some(record)) if is_judged(packet, tracked) => key.map(|key| Leaving::Invalid {
            packet: key.tuple,
            original: record.original,
        }),
        (Of::Nothing, _) => None,
    };
}

/// Whether it matters that the kernel finds the packet invalid, and it might not.
fn is_judged(packet: &Parsed, tracked: &Tracked<'_>) -> bool {
    tracked.state == CtState::INVALID && packet.ttl > 1 && packet.proto == Protocol::TCP.0
}

/// Remembers that the kernel decides about a connection. A full table forgets: then an answer may be taken for a beginning.
pub(super) fn kernel_owned(original: &Tuple, tracking: &Tracking<'_>) {
    let Some(reply) = original.invert() else { return };
    let record = Record {
        original: *original,
        reply,
        status: Status(0),
        marks: Marks(Marks::KERNEL),
        deadline: tracking.now.wrapping_add(KERNEL_TICKS),
        mark: 0,
        proto: tracker::begun(original.proto, tracking.now),
        counters: Default::default(),
    };
    let _ = tracking.table.insert(&record, tracking.now, tracking.guard);
}
