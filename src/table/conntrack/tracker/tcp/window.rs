//! The windows: is a segment one that the sender could send now, and what does it tell about both sides?
//!
//! tcp_in_window of nf_conntrack_proto_tcp.c; the inequalities stand at the head of tcp/mod.rs.

use super::state::{Side, Tcp, flag, number};
use super::track::Header;
use super::transitions::Index;
use crate::table::conntrack::{Config, Direction};
use crate::wire::tcp::OptionKind;

/// The least that is taken for a window when an acknowledgement is judged for its age.
pub const ACK_WINDOW_MIN: u32 = 66_000;

/// The largest window scale. RFC 7323, section 2.3.
const SCALE_MAX: u8 = 14;

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In the window; the state knows it.
    In,
    /// Late: it passes, and nothing changes.
    Ignore,
    /// Out of it.
    Out,
}

/// Whether `a` comes before `b`.
#[inline]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether `a` comes after `b`.
#[inline]
pub fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// Judges the segment that `header` is of and takes it in.
pub fn judge(tcp: &mut Tcp, header: &Header<'_>, direction: Direction, config: &Config) -> Verdict {
    let state = tcp.state;
    let (sender, receiver) = tcp.both(direction);
    let raw_window = u32::from(header.window);
    let (mut seq, mut end) = (header.seq, header.end);
    let mut ack = header.ack;
    let mut sack = if receiver.flags & flag::SACK_PERM != 0 {
        highest_sack(header, ack)
    } else {
        ack
    };

    if sender.maxwin == 0 {
        if header.syn {
            begin(sender, receiver, header, direction);
            // The other side opens too.
            if !header.has_ack {
                return Verdict::In;
            }
        } else {
            pick_up(sender, receiver, raw_window, end, sack);
        }
    } else if header.syn && after(end, sender.end) && matches!(state, number::SYN_SENT | number::SYN_RECV) {
        // RFC 9293, 3.4: an end that starts anew takes larger sequence numbers.
        begin(sender, receiver, header, direction);
        if direction == Direction::Reply && !header.has_ack {
            return Verdict::In;
        }
    }

    // No ACK, or an RST of a stack that leaves it 0: as if it acknowledged all.
    if !header.has_ack || header.rst && ack == 0 {
        (ack, sack) = (receiver.end, receiver.end);
    }
    // An RST that answers a SYN has no number of its own.
    if header.rst && seq == 0 && state == number::SYN_SENT {
        (seq, end) = (sender.end, sender.end);
    }

    if let Some(verdict) = outside(sender, receiver, (seq, end), sack, config) {
        return verdict;
    }
    take_in(sender, receiver, header, end, (ack, sack), raw_window);
    if header.index == Index::Ack {
        count_again(tcp, header, direction, (seq, end, ack));
    }
    Verdict::In
}

/// A side's SYN, or SYN and ACK.
fn begin(sender: &mut Side, receiver: &mut Side, header: &Header<'_>, direction: Direction) {
    sender.end = header.end;
    sender.maxend = header.end;
    sender.maxwin = u32::from(header.window).max(1);
    options(sender, header);
    // RFC 7323, 2.2: only where both sides scale does either.
    let both = sender.flags & receiver.flags & flag::WINDOW_SCALE != 0;
    if direction == Direction::Reply && !both {
        sender.scale = 0;
        receiver.scale = 0;
    }
}

/// A side's first packet, in the middle of a connection.
fn pick_up(sender: &mut Side, receiver: &mut Side, window: u32, end: u32, sack: u32) {
    sender.end = end;
    sender.maxwin = (window << sender.scale).max(1);
    sender.maxend = end.wrapping_add(sender.maxwin);
    if receiver.maxwin == 0 {
        // The other side was not seen either: what this one acknowledges is all there is to go by.
        receiver.end = sack;
        receiver.maxend = sack;
    } else if sack == receiver.end.wrapping_add(1) {
        // The answer to a keepalive.
        receiver.end = sack;
    }
}

/// Which inequality fails, and what follows; `None` if none does.
#[inline]
fn outside(sender: &mut Side, receiver: &Side, (seq, end): (u32, u32), sack: u32, config: &Config) -> Option<Verdict> {
    let liberal = sender.flags & flag::BE_LIBERAL != 0 || config.tcp_be_liberal;
    // A liberal side's segments are taken for what they are not: they pass as valid, but are not learned from.
    let failed = |strict| Some(if liberal { Verdict::In } else { strict });
    let reaches = |receiver: &Side, sender: &Side| after(end, sender.end.wrapping_sub(receiver.maxwin).wrapping_sub(1));
    let ack_min = receiver
        .end
        .wrapping_sub(sender.maxwin.max(ACK_WINDOW_MIN))
        .wrapping_sub(1);
    if !before(seq, sender.maxend.wrapping_add(1)) {
        let overshot = end.wrapping_sub(sender.maxend).wrapping_add(1);
        let only_that = receiver.maxwin != 0
            && reaches(receiver, sender)
            && after(sack, ack_min)
            && overshot <= receiver.maxwin
            && before(sack, receiver.end.wrapping_add(1));
        if only_that {
            // Some send more than the window allows: its acknowledgement will come.
            sender.end = end;
            sender.flags |= flag::DATA_UNACKNOWLEDGED;
            return failed(Verdict::Ignore);
        }
        return failed(Verdict::Out);
    }
    if !before(sack, receiver.end.wrapping_add(1)) {
        return failed(Verdict::Out);
    }
    if receiver.maxwin != 0 && !reaches(receiver, sender) || !after(sack, ack_min) {
        return failed(Verdict::Ignore);
    }
    None
}

/// What a segment in the window tells.
#[inline]
fn take_in(
    sender: &mut Side,
    receiver: &mut Side,
    header: &Header<'_>,
    end: u32,
    (ack, sack): (u32, u32),
    raw_window: u32,
) {
    // RFC 7323, 2.2: the window of a SYN is never scaled.
    let window = if header.syn {
        raw_window
    } else {
        raw_window << sender.scale
    };
    sender.maxwin = sender.maxwin.max(window.wrapping_add(sack.wrapping_sub(ack)));
    if after(end, sender.end) {
        sender.end = end;
        sender.flags |= flag::DATA_UNACKNOWLEDGED;
    }
    if header.has_ack && (sender.flags & flag::MAXACK_SET == 0 || after(ack, sender.maxack)) {
        sender.maxack = ack;
        sender.flags |= flag::MAXACK_SET;
    }
    if receiver.maxwin != 0 && after(end, sender.maxend) {
        receiver.maxwin = receiver.maxwin.wrapping_add(end.wrapping_sub(sender.maxend));
    }
    let edge = sack.wrapping_add(window);
    if after(edge, receiver.maxend.wrapping_sub(1)) {
        receiver.maxend = if window == 0 { edge.wrapping_add(1) } else { edge };
    }
    if ack == receiver.end {
        receiver.flags &= !flag::DATA_UNACKNOWLEDGED;
    }
}

/// Counts how often the same segment comes again.
fn count_again(tcp: &mut Tcp, header: &Header<'_>, direction: Direction, (seq, end, ack): (u32, u32, u32)) {
    let last = (tcp.last_dir, tcp.last_seq, tcp.last_ack, tcp.last_end, tcp.last_win);
    let this = (direction as u8, seq, ack, end, header.window);
    if last == this {
        tcp.retrans = tcp.retrans.wrapping_add(1);
    } else {
        (tcp.last_dir, tcp.last_seq, tcp.last_ack, tcp.last_end, tcp.last_win) = this;
        tcp.retrans = 0;
    }
}

/// Window scale and SACK of a SYN's options.
pub fn options(side: &mut Side, header: &Header<'_>) {
    if header.options.is_empty() {
        return;
    }
    side.scale = 0;
    side.flags &= flag::BE_LIBERAL;
    for (kind, data) in header.each_option() {
        match (kind, data) {
            (OptionKind::SACK_PERMITTED, []) => side.flags |= flag::SACK_PERM,
            (OptionKind::WINDOW_SCALE, [scale]) => {
                side.scale = (*scale).min(SCALE_MAX);
                side.flags |= flag::WINDOW_SCALE;
            }
            _ => {}
        }
    }
}

/// The highest right edge of the SACK blocks, if it is above `ack`.
#[inline]
fn highest_sack(header: &Header<'_>, ack: u32) -> u32 {
    if header.has_no_sack() {
        return ack;
    }
    let mut options = header.each_option();
    let blocks = options.find(|(kind, data)| *kind == OptionKind::SACK && !data.is_empty() && data.len() % 8 == 0);
    let Some((_, data)) = blocks else {
        return ack;
    };
    data.chunks_exact(8).fold(ack, |highest, block| {
        let right = u32::from_be_bytes([block[4], block[5], block[6], block[7]]);
        if after(right, highest) { right } else { highest }
    })
}
