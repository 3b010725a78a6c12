//! prerouting: which connection is this packet of, and what does it do to it? nf_conntrack_in of
//! net/netfilter/nf_conntrack_core.c, for the families that the kernel tracks.
//!
//! ```text
//!  fragment? ------------------------------> punt: only the kernel reassembles; and see sctp_without_crc; DCCP
//!  ICMP error? -> the packet inside: known? -> RELATED | INVALID
//!  lookup -- found, the kernel's own ------> punt
//!         |- found -> tracker -> commit ---> NEW | ESTABLISHED | INVALID
//!         \- none  -> tracker -------------> NEW, unconfirmed: on the stack until postrouting | INVALID
//! ```
//!
//! A new connection leaves nothing behind unless its packet survives: the [`Record`] is the packet's own until
//! [`postrouting`](super::postrouting) confirms it. What a packet does to a connection that is there is kept at once, as in
//! the kernel, whatever becomes of the packet. Two workers may advance one connection at a time: the loser of the commit
//! computes anew, at most 64 times.
//!
//! A packet that ends in a punt takes its connection along: see [`leaving`].

mod aside;
mod error;
mod kind;
pub mod leaving;
pub mod reset;

pub use self::aside::{Aside, CtMark};
use self::error::icmp_error;
use self::kind::{is_midway, sctp_without_crc};
use self::leaving::{KERNEL_TICKS, Leaving, await_answers, follow, is_awaited, kernel_owned, may_answer};
use crate::packet::{DropReason, Flags, Frame, Parsed, PuntReason, Step, Verdict};
use crate::table::conntrack::table::{Connection, Event, Guard, Probe, Table, Version};
use crate::table::conntrack::tracker::{self, Outcome, Update, View};
use crate::table::conntrack::{Config, CtState, Direction, Marks, Record, Status, Ticks, Tuple};
use crate::table::nat::BySource;
use crate::wire::Protocol;
use std::ops::ControlFlow::Continue;
use std::time::Duration;

/// Commits of one packet before it is given up, counted. Each lost one means that another worker advanced the connection.
const COMMITS_MAX: u32 = 64;

/// The only zone there is so far.
const ZONE: u16 = 0;

/// What tracking needs, the same for all packets of a burst.
#[derive(Clone, Copy)]
pub struct Tracking<'a> {
    /// The connections.
    pub table: &'a Table,
    /// Where the sources of translated ones went.
    pub by_source: &'a BySource,
    /// Keeps what a lookup found.
    pub guard: &'a Guard<'a>,
    /// How.
    pub config: &'a Config,
    /// The burst's time.
    pub now: Ticks,
}

/// A packet and its connection.
pub struct Tracked<'a> {
    /// What `ct state` says.
    pub state: CtState,
    /// The connection, if there is one.
    pub of: Of<'a>,
    /// The packet ends its connection, unless it is punted: then the kernel ends what was exported of it.
    pub kill: bool,
}

/// Whose a packet is.
pub enum Of<'a> {
    /// Nobody's: invalid, or untracked.
    Nothing,
    /// A connection's.
    Connection(Connection<'a>, Direction),
    /// That of a connection that begins with it: [`Aside::begun`].
    Unconfirmed,
}

impl Tracked<'_> {
    const INVALID: Self = Tracked {
        state: CtState::INVALID,
        of: Of::Nothing,
        kill: false,
    };
    /// Not to be tracked, and so of no connection.
    pub const UNTRACKED: Self = Tracked {
        state: CtState::UNTRACKED,
        of: Of::Nothing,
        kill: false,
    };
}

/// The tuple that the packet has, if any.
#[inline(always)]
pub fn tuple(packet: &Parsed, bytes: &[u8]) -> Option<Tuple> {
    tracker::tuple(packet, bytes, ZONE)
}

/// Whose the packet is, if anybody's: the first of the three steps of [`Probe`].
#[inline(always)]
pub fn probe(packet: &Parsed, bytes: &[u8], table: &Table) -> Option<Probe> {
    Some(table.probe(&tuple(packet, bytes)?))
}

/// Finds or begins the connection of the packet that has `probe`, and advances it.
#[inline]
pub fn track<'a>(
    packet: &Parsed,
    frame: &Frame,
    probe: Option<&Probe>,
    tracking: &Tracking<'a>,
    aside: &mut Aside,
) -> Step<Tracked<'a>> {
    let bytes = frame.bytes();
    if packet.flags.any(Flags::FRAGMENT) {
        return hand_over(packet, bytes, probe, PuntReason::Fragment, tracking, aside);
    }
    if packet.proto == Protocol::SCTP.0 && sctp_without_crc(packet, bytes) {
        return hand_over(packet, bytes, probe, PuntReason::Checksum, tracking, aside);
    }
    if packet.proto == Protocol::DCCP.0 {
        // Kernels before 6.17 have a tracker for it.
        return Verdict::punt(PuntReason::KernelConnection);
    }
    let is_icmp = packet.proto == Protocol::ICMP.0 || packet.proto == Protocol::ICMPV6.0;
    if is_icmp && let Some(tracked) = icmp_error(packet, bytes, tracking)? {
        return Continue(tracked);
    }
    let Some(probe) = probe else {
        return Continue(Tracked::INVALID);
    };
    if let Some((connection, direction)) =
        settled(tracking, || tracking.table.find(probe, tracking.now, tracking.guard))
    {
        match advance(packet, bytes, &connection, direction, tracking)? {
            Advanced::To(state, kill) => {
                return Continue(Tracked {
                    state,
                    of: Of::Connection(connection, direction),
                    kill,
                });
            }
            Advanced::Invalid => return Continue(Tracked::INVALID),
            Advanced::Reopened => {
                // The kernel may have a copy, which is over, too.
                if aside.before.is_none() {
                    aside.before = Some(connection.record());
                }
                // Of one that could be taken over the kernel's entry is a copy like others.
                connection.clear_marks(Marks::KERNEL | Marks::ADOPTABLE | Marks::FOLLOWED);
                tracking.table.remove(connection, tracking.guard);
            }
        }
    }
    begin(packet, bytes, tracking, aside)
}

/// What `look` finds, or finds again once a connection that is just taking the place of another one has it: mostly at once,
/// after some 20 ms at most, for the thread that does that may be off its CPU.
#[inline(always)]
fn settled<T>(tracking: &Tracking<'_>, look: impl Fn() -> Option<T>) -> Option<T> {
    look().or_else(|| look_again(tracking, look))
}

#[inline]
fn look_again<T>(tracking: &Tracking<'_>, look: impl Fn() -> Option<T>) -> Option<T> {
    const LOOKS_MAX: u32 = 400;
    for look_number in 0..LOOKS_MAX {
        match tracking.table.is_moving(tracking.guard)? {
            false => {
                if let Some(found) = look() {
                    return Some(found);
                }
            }
            true if look_number < LOOKS_MAX / 2 => std::thread::yield_now(),
            true => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    None
}

/// What became of a connection.
enum Advanced {
    /// It goes on, or ends if the packet gets through; the packet is of this state.
    To(CtState, bool),
    /// The packet is not part of it.
    Invalid,
    /// It was over, and the packet begins it anew.
    Reopened,
}

/// Advances a connection that is in the table by one packet.
#[inline]
fn advance(
    packet: &Parsed,
    bytes: &[u8],
    connection: &Connection<'_>,
    direction: Direction,
    tracking: &Tracking<'_>,
) -> Step<Advanced> {
    let marks = connection.marks();
    if marks.any(Marks::KERNEL) && !marks.any(Marks::ADOPTABLE) {
        stays_known(connection, tracking);
        if direction == Direction::Original && !marks.any(Marks::EXPORTED) {
            // What came before may have been dropped there: this may be what begins it.
            await_answers(&connection.tuple(direction), tracking);
        }
        if marks.any(Marks::FOLLOWED) {
            follow(packet, bytes, connection, direction, tracking);
        }
        return Verdict::punt(PuntReason::KernelConnection);
    }
    let status = connection.status();
    let state = state_of(status, direction);
    for _ in 0..COMMITS_MAX {
        let (version, proto) = connection.proto();
        let view = View {
            confirmed: true,
            status,
            left: connection.deadline().wrapping_sub(tracking.now),
            proto,
        };
        match tracker::track(packet, bytes, &view, direction, tracking.config, tracking.now) {
            Outcome::Valid(update) => {
                if !commit(connection, version, &update) {
                    continue;
                }
                let word = |proto: &_| tracker::state_word(packet.proto, proto);
                let changed =
                    tracking.table.log.is_watched() && update.proto.is_some_and(|new| word(&new) != word(&proto));
                keep(connection, direction, status, &update, changed, packet, tracking);
                return Continue(Advanced::To(state, update.kill));
            }
            Outcome::Invalid(kept) => {
                if let Some(kept) = kept {
                    if !commit(connection, version, &kept) {
                        continue;
                    }
                    if let Some(timeout) = kept.timeout {
                        connection.refresh(tracking.now.wrapping_add(timeout));
                    }
                    if kept.set.0 & !status.0 != 0 {
                        connection.set_status(kept.set);
                    }
                }
                return Continue(Advanced::Invalid);
            }
            Outcome::Reopen => return Continue(Advanced::Reopened),
        }
    }
    Verdict::drop(DropReason::ConntrackBusy)
}

/// One of the kernel's is in use; what it told of its end, if anything, is later.
#[inline]
fn stays_known(connection: &Connection<'_>, tracking: &Tracking<'_>) {
    if connection.deadline().wrapping_sub(tracking.now) < KERNEL_TICKS {
        connection.refresh(tracking.now.wrapping_add(KERNEL_TICKS));
    }
}

/// Keeps the new state, if there is one; false if somebody was quicker.
#[inline(always)]
fn commit(connection: &Connection<'_>, version: Version, update: &Update) -> bool {
    match &update.proto {
        Some(proto) => connection.commit(version, proto),
        None => true,
    }
}

/// The state of a packet in `direction` (resolve_normal_ct).
#[inline]
fn state_of(status: Status, direction: Direction) -> CtState {
    if direction == Direction::Reply || status.any(Status::SEEN_REPLY) {
        CtState::ESTABLISHED
    } else if status.any(Status::EXPECTED) {
        CtState::RELATED
    } else {
        CtState::NEW
    }
}

/// Timeout, status and counters after a valid packet.
#[inline]
fn keep(
    connection: &Connection<'_>,
    direction: Direction,
    status: Status,
    update: &Update,
    changed: bool,
    packet: &Parsed,
    tracking: &Tracking<'_>,
) {
    if let Some(timeout) = update.timeout
        && !status.any(Status::FIXED_TIMEOUT)
    {
        connection.refresh(tracking.now.wrapping_add(timeout));
    }
    let reply = match direction {
        Direction::Original => Status(0),
        Direction::Reply => Status::SEEN_REPLY,
    };
    let wanted = update.set | reply;
    let news = wanted.0 & !status.0 != 0;
    if news {
        connection.set_status(wanted);
    }
    // The kernel counts where it refreshes.
    if tracking.config.acct && (update.timeout.is_some() || update.kill) {
        connection.count(direction, packet.l3_len().into());
    }
    if (news || changed) && tracking.table.log.is_watched() {
        tracking.table.log.push(Event::Update, connection.record());
    }
}

/// A connection that is not in the table: one that begins, or a packet that is part of none.
#[inline(never)]
fn begin<'a>(packet: &Parsed, bytes: &[u8], tracking: &Tracking<'a>, aside: &mut Aside) -> Step<Tracked<'a>> {
    let tuples = tuple(packet, bytes).and_then(|tuple| Some((tuple, tuple.invert()?)));
    // Where the kernel forwards too, a packet in the middle of a connection may be of one that it has: it alone knows. And
    // so does it of the answers to one that it has just begun and translated.
    let kernel_knows = match is_midway(packet, bytes) {
        true => !tracking.config.alone[packet.family as usize] || is_awaited(packet.family, tracking),
        false => tuples.is_some_and(|(tuple, _)| may_answer(&tuple, tracking)),
    };
    if kernel_knows && !tuples.is_some_and(|(_, reply)| is_ours(&reply, tracking)) {
        return Verdict::punt(PuntReason::KernelConnection);
    }
    let Some((original, reply)) = tuples else {
        return Continue(Tracked::INVALID);
    };
    let view = View {
        confirmed: false,
        status: Status(0),
        left: 0,
        proto: [0; 7],
    };
    let direction = Direction::Original;
    match tracker::track(packet, bytes, &view, direction, tracking.config, tracking.now) {
        Outcome::Valid(update) => {
            aside.begun = Record {
                original,
                reply,
                status: update.set | Status::CONFIRMED,
                marks: Marks(0),
                deadline: tracking.now.wrapping_add(update.timeout.unwrap_or(0)),
                mark: 0,
                proto: update.proto.unwrap_or_default(),
                counters: Default::default(),
            };
            if tracking.config.acct {
                aside.begun.counters[0].packets = 1;
                aside.begun.counters[0].bytes = u64::from(packet.l3_len());
            }
            Continue(Tracked {
                state: CtState::NEW,
                of: Of::Unconfirmed,
                kill: false,
            })
        }
        Outcome::Invalid(_) | Outcome::Reopen => Continue(Tracked::INVALID),
    }
}

/// Whether a connection that the kernel need not know has the tuple. What goes the other way, and is none of its answers, which
/// are translated, begins a connection that gets another port; the kernel would not know that it has to.
fn is_ours(tuple: &Tuple, tracking: &Tracking<'_>) -> bool {
    let found = tracking
        .table
        .lookup(tuple, tracking.table.hash(tuple), tracking.now, tracking.guard);
    found.is_some_and(|(connection, _)| !connection.marks().any(Marks::KERNEL))
}

/// Fragments are the kernel's, which reassembles them, and so is what it alone understands: that of a connection of ours
/// takes it along, and lives on as it does there. What a TCP connection sends that way we do not see, so its windows are taken
/// up anew.
#[inline(never)]
fn hand_over<'a>(
    packet: &Parsed,
    bytes: &[u8],
    probe: Option<&Probe>,
    reason: PuntReason,
    tracking: &Tracking<'a>,
    aside: &mut Aside,
) -> Step<Tracked<'a>> {
    let found = probe.and_then(|probe| settled(tracking, || tracking.table.find(probe, tracking.now, tracking.guard)));
    if let Some((connection, _)) = found {
        let marks = connection.marks();
        if marks.any(Marks::KERNEL) && !marks.is_uncopied() {
            stays_known(&connection, tracking);
            if connection.clear_marks(Marks::FOLLOWED).any(Marks::FOLLOWED) {
                see_no_windows(packet, &connection);
            }
            return Verdict::punt(reason);
        }
        let (status, proto) = (connection.status(), connection.proto().1);
        if let Some(timeout) = tracker::timeout_unseen(packet.proto, status, &proto, tracking.config)
            && !status.any(Status::FIXED_TIMEOUT)
        {
            connection.refresh(tracking.now.wrapping_add(timeout));
        }
        aside.leaving = Some(Leaving::AsItIs(connection.tuple(Direction::Original)));
        see_no_windows(packet, &connection);
    } else if let Some(tuple) = tuple(packet, bytes) {
        kernel_owned(&tuple, None, true, tracking);
    }
    Verdict::punt(reason)
}

/// A packet of it is not looked into: windows of TCP are taken up anew behind it.
fn see_no_windows(packet: &Parsed, connection: &Connection<'_>) {
    if packet.proto == Protocol::TCP.0 {
        let (version, proto) = connection.proto();
        connection.commit(version, &tracker::tcp::forget_windows(&proto));
    }
}

/// Ends the connection of a packet that ends it, now that it is not punted.
#[inline]
pub fn end(tracked: &Tracked<'_>, tracking: &Tracking<'_>) {
    if tracked.kill
        && let Of::Connection(connection, _) = tracked.of
    {
        tracking.table.remove(connection, tracking.guard);
    }
}

/// The packet was not punted: if rules have set the mark of its connection, it is set now. False if they have not.
#[inline]
pub fn keep_mark(tracked: &Tracked<'_>, mark: CtMark, tracking: &Tracking<'_>) -> bool {
    let Of::Connection(connection, _) = &tracked.of else {
        return false;
    };
    if mark.now == mark.found {
        return false;
    }
    connection.remark(mark.now);
    if tracking.table.log.is_watched() {
        tracking.table.log.push(Event::Update, connection.record());
    }
    true
}

/// A packet of the kernel's connection was not punted: from now on it is ours.
#[inline]
pub fn adopt(tracked: &Tracked<'_>) {
    if tracked.state != CtState::RELATED
        && let Of::Connection(connection, _) = &tracked.of
        && connection.marks().any(Marks::KERNEL)
    {
        connection.clear_marks(Marks::KERNEL | Marks::ADOPTABLE | Marks::FOLLOWED);
    }
}
