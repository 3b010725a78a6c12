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

use super::kind::opens;
use super::{Aside, Of, Tracked, Tracking, tuple};
use crate::packet::{Family, Flags, Parsed, PuntReason};
use crate::table::conntrack::table::{Connection, Probe};
use crate::table::conntrack::tracker::{self, Outcome, View, tcp};
use crate::table::conntrack::{CtState, Direction, Marks, ProtoState, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::wire::Protocol;

/// How long a connection that was punted before it was confirmed stays known as the kernel's, unless the kernel tells of it:
/// time for its event to arrive, with room.
pub const KERNEL_TICKS: Ticks = 10 * TICKS_PER_SECOND;

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

/// Gives a connection to the kernel, which gets its packets from now on, or has got them: no window is what it was, and what
/// the kernel tells of it holds. Its first packet that walks takes it over again.
pub fn let_go(connection: &Connection<'_>) {
    if connection.marks().any(Marks::KERNEL) {
        return;
    }
    connection.set_marks(Marks::KERNEL | Marks::ADOPTABLE | Marks::TOUCHED);
    if connection.tuple(Direction::Original).proto == Protocol::TCP.0 {
        let (version, proto) = connection.proto();
        connection.commit(version, &tcp::forget_windows(&proto));
    }
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
        (Of::Connection(connection, direction), Some(record)) if tracked.state != CtState::RELATED => {
            if tracked.kill {
                // The kernel ends its copy by the same packet.
                connection.clear_marks(Marks::EXPORTED);
                tracking.table.remove(*connection, tracking.guard);
            }
            Some(Leaving::AsItWas(told(packet, bytes, record, *direction)))
        }
        (Of::Connection(connection, _), _) => Some(Leaving::AsItIs(connection.tuple(Direction::Original))),
        (Of::Unconfirmed, before) => {
            // What the kernel does not forward it does not confirm.
            if packet.ttl > 1 {
                let proto = tracker::has_states(packet.proto).then_some(aside.begun.proto);
                // The box itself answers its own connections: no answer comes by here, unless it was led there by a choice
                // that the kernel makes anew.
                let answered = reason != PuntReason::Local || aside.begun.status.any(Status::DST_NAT);
                kernel_owned(&aside.begun.original, proto, answered, tracking);
            }
            before.map(|record| Leaving::Over(record.original))
        }
        (Of::Nothing, Some(record)) if is_judged(packet, tracked) => match Protocol(packet.proto) {
            Protocol::TCP => tuple(packet, bytes).map(|packet| Leaving::Invalid {
                packet,
                original: record.original,
            }),
            // The kernel can be told all of its state, and finds the same.
            _ => Some(Leaving::AsItWas(record)),
        },
        (Of::Nothing, _) => None,
    };
}

/// Whether it matters that the kernel finds the packet invalid, and it might not.
fn is_judged(packet: &Parsed, tracked: &Tracked<'_>) -> bool {
    tracked.state == CtState::INVALID && packet.ttl > 1 && tracker::has_states(packet.proto)
}

/// The connection as it was before the packet, in words that the kernel understands.
fn told(packet: &Parsed, bytes: &[u8], mut record: Record, direction: Direction) -> Record {
    if packet.proto == Protocol::SCTP.0 {
        let segment = bytes.get(packet.l4.into()..packet.end.into()).unwrap_or_default();
        record.proto = tracker::sctp::told(segment, &record.proto, direction);
    }
    record
}

/// Advances a connection of the kernel's by a packet that is punted, as the kernel will: when it is ours its windows are known.
/// Where the kernel may have done otherwise it is followed no more, and [kept](Marks::KEPT) there: another worker's packet came
/// between, or another SYN, and the kernel has told of no entry that the first one made. What ends with the packet, ends; what
/// begins anew with it is followed from there.
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
        Outcome::Valid(update) if update.kill => {
            tracking.table.remove(*connection, tracking.guard);
            return;
        }
        Outcome::Valid(update) => (update.proto.unwrap_or(proto), update.set | reply),
        Outcome::Invalid(None) => return,
        Outcome::Invalid(Some(update)) => (update.proto.unwrap_or(proto), Status(0)),
        Outcome::Reopen => {
            tracking.table.remove(*connection, tracking.guard);
            begin_anew(packet, bytes, tracking);
            return;
        }
    };
    let told = connection.marks().any(Marks::EXPORTED);
    let again = tracker::is_beginning(packet.proto, &proto) && kept == proto;
    let another = direction == Direction::Original && !told && opens(packet, bytes) && !again;
    if another || !connection.commit(version, &kept) {
        keep_there(connection);
    }
    connection.set_status(set);
}

/// A packet that begins a connection anew, whose one before was the kernel's, too.
fn begin_anew(packet: &Parsed, bytes: &[u8], tracking: &Tracking<'_>) {
    let Some(original) = tuple(packet, bytes) else { return };
    let view = View {
        confirmed: false,
        status: Status(0),
        left: 0,
        proto: [0; 7],
    };
    let direction = Direction::Original;
    if let Outcome::Valid(update) = tracker::track(packet, bytes, &view, direction, tracking.config, tracking.now) {
        kernel_owned(&original, update.proto, true, tracking);
    }
}

/// It is the kernel's for good, and is followed no more.
pub fn keep_there(connection: &Connection<'_>) {
    connection.set_marks(Marks::KEPT);
    connection.clear_marks(Marks::FOLLOWED | Marks::ADOPTABLE);
}

/// Remembers a connection that the kernel begins, or has begun, and may translate; it is followed here if `begun` says how it
/// began, and its answers come by here if it is `answered`. A full table forgets: then an answer may be taken for a beginning.
pub(super) fn kernel_owned(original: &Tuple, begun: Option<ProtoState>, answered: bool, tracking: &Tracking<'_>) {
    if answered {
        await_answers(original, tracking);
    }
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

/// A packet goes to the kernel that begins a connection there, or began it: what NAT makes of that its event will tell.
pub(super) fn await_answers(original: &Tuple, tracking: &Tracking<'_>) {
    if tracking.config.nat[original.family as usize]
        && let Some(answer) = original.invert()
    {
        let table = tracking.table;
        table.awaited.begin(table.hash(&receiver(&answer)), tracking.now);
    }
}

/// Whom packets with this tuple go to, whoever they come from.
fn receiver(tuple: &Tuple) -> Tuple {
    let is_icmp = matches!(Protocol(tuple.proto), Protocol::ICMP | Protocol::ICMPV6);
    Tuple {
        src: 0,
        sport: if is_icmp { tuple.sport } else { 0 },
        ..*tuple
    }
}

/// Whether a packet of a protocol without states, in no table, may answer such a connection: it goes to who has begun that.
/// (One whose source is translated, too, is answered at an address of the box, and the kernel has those answers.)
pub(super) fn may_answer(tuple: &Tuple, tracking: &Tracking<'_>) -> bool {
    let table = tracking.table;
    !tracker::has_states(tuple.proto)
        && is_awaited(tuple.family, tracking)
        && table.awaited.any_to(table.hash(&receiver(tuple)), tracking.now)
}

/// Whether the kernel has just begun a connection of `family` for us and may have translated it: its answer bears a tuple that
/// nobody here knows, until its event is here.
pub(super) fn is_awaited(family: Family, tracking: &Tracking<'_>) -> bool {
    tracking.config.nat[family as usize] && tracking.table.awaited.any(tracking.now)
}
