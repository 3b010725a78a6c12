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

use super::{Aside, Of, Tracked, Tracking, tuple};
use crate::packet::{Family, Flags, Parsed, PuntReason};
use crate::table::conntrack::table::{Connection, Probe};
use crate::table::conntrack::tracker::{self, Outcome, View};
use crate::table::conntrack::{CtState, Direction, Marks, ProtoState, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::wire::Protocol;

/// How long a connection that was punted before it was confirmed stays known as the kernel's, unless the kernel tells of it:
/// time for its event to arrive, with room.
pub(super) const KERNEL_TICKS: Ticks = 10 * TICKS_PER_SECOND;

/// How long it may take until the kernel's event of a connection is here that it began: of a busy box, with room.
const EVENT_TICKS: Ticks = TICKS_PER_SECOND / 2;

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
pub fn look_before(probe: Option<&Probe>, tracking: &Tracking<'_>, aside: &mut Aside) {
    let found = probe.and_then(|probe| tracking.table.find(probe, tracking.now, tracking.guard));
    aside.before = found.and_then(|(connection, _)| {
        let record = connection.record();
        (!record.marks.any(Marks::KERNEL)).then_some(record)
    });
}

/// A packet that has `probe` ends in a punt for `reason`, after it was tracked: see the file's head.
#[cold]
pub fn leave(
    reason: PuntReason,
    packet: &Parsed,
    bytes: &[u8],
    probe: Option<&Probe>,
    tracked: &Tracked<'_>,
    tracking: &Tracking<'_>,
    aside: &mut Aside,
) {
    if let (Of::Nothing, None) = (&tracked.of, &aside.before) {
        // It is not part of the connection, and has changed nothing that the kernel is told of: whose that is matters.
        look_before(probe, tracking, aside);
    }
    let before = aside.before.take();
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
                let proto = (packet.proto == Protocol::TCP.0).then_some(aside.begun.proto);
                own(&aside.begun.original, proto, tracking);
                // The box itself answers its own connections, whatever they are translated to: no answer comes by here.
                if reason != PuntReason::Local {
                    note_began(&aside.begun.original, tracking);
                }
            }
            before.map(|record| Leaving::Over(record.original))
        }
        (Of::Nothing, Some(record)) if is_judged(packet, tracked) => {
            tuple(packet, bytes).map(|packet| Leaving::Invalid {
                packet,
                original: record.original,
            })
        }
        (Of::Nothing, _) => None,
    };
}

/// Whether it matters that the kernel finds the packet invalid, and it might not.
fn is_judged(packet: &Parsed, tracked: &Tracked<'_>) -> bool {
    tracked.state == CtState::INVALID && packet.ttl > 1 && packet.proto == Protocol::TCP.0
}

/// Advances a connection of the kernel's by a packet that is punted, as the kernel will: when it is ours its windows are known.
/// Where the kernel may have done otherwise it is followed no more: another worker's packet came between, it begins anew, or
/// another SYN came, and the kernel has told of no entry that the first one made.
#[cold]
pub(super) fn follow(
    packet: &Parsed,
    bytes: &[u8],
    connection: &Connection<'_>,
    direction: Direction,
    tracking: &Tracking<'_>,
) {
    let (version, proto) = connection.proto();
    let view = View {
        confirmed: true,
        status: connection.status(),
        left: connection.deadline().wrapping_sub(tracking.now),
        proto,
    };
    let reply = match direction {
        Direction::Original => Status(0),
        Direction::Reply => Status::SEEN_REPLY,
    };
    let (kept, set) = match tracker::track(packet, bytes, &view, direction, tracking.config, tracking.now) {
        Outcome::Valid(update) => (Some(update.proto.unwrap_or(proto)), update.set | reply),
        Outcome::Invalid(None) => return,
        Outcome::Invalid(Some(update)) => (Some(update.proto.unwrap_or(proto)), Status(0)),
        Outcome::Reopen => (None, Status(0)),
    };
    let Some(kept) = kept else {
        connection.clear_marks(Marks::FOLLOWED);
        return;
    };
    let begins = tracker::tcp::is_beginning(&proto) && direction == Direction::Original;
    let windows = |proto: &ProtoState| [proto[1], proto[2], proto[3], proto[4]];
    let seen = connection.marks().any(Marks::EXPORTED);
    let another = begins && !seen && windows(&kept) != windows(&proto);
    if another || !connection.commit(version, &kept) {
        connection.clear_marks(Marks::FOLLOWED);
    }
    connection.set_status(set);
}

/// Remembers that the kernel decides about a connection, which is followed here if `begun` says how it began. A full table
/// forgets: then an answer may be taken for a beginning.
fn own(original: &Tuple, begun: Option<ProtoState>, tracking: &Tracking<'_>) {
    let Some(reply) = original.invert() else { return };
    let record = Record {
        original: *original,
        reply,
        status: Status(0),
        marks: Marks(Marks::KERNEL | begun.map_or(0, |_| Marks::FOLLOWED)),
        deadline: tracking.now.wrapping_add(KERNEL_TICKS),
        mark: 0,
        proto: begun.unwrap_or_else(|| tracker::begun(original.proto, tracking.now)),
        counters: Default::default(),
    };
    let _ = tracking.table.insert(&record, tracking.now, tracking.guard);
}

/// Remembers a connection that the kernel begins, and is not followed.
pub(super) fn kernel_owned(original: &Tuple, tracking: &Tracking<'_>) {
    own(original, None, tracking);
    note_began(original, tracking);
}

/// Remembers that the kernel has begun something that it may translate, the answers to which come by here.
fn note_began(original: &Tuple, tracking: &Tracking<'_>) {
    if tracking.config.nat[original.family as usize] {
        tracking.table.note_kernel_began(tracking.now);
    }
}

/// Whether what is not in our table is in no table: the kernel forwards nothing of `family` by itself, and has begun nothing
/// for us of late that it may have translated. The answers to that bear a tuple that it alone knows until its event is here.
pub(super) fn is_alone(family: Family, tracking: &Tracking<'_>) -> bool {
    let family = family as usize;
    let (alone, nat) = (tracking.config.alone[family], tracking.config.nat[family]);
    alone && !(nat && tracking.table.kernel_began_within(EVENT_TICKS, tracking.now))
}
