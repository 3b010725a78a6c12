//! The order of it all: may a connection begin, what does the table of states say, what the windows, and what follows.
//!
//! nf_conntrack_tcp_packet of nf_conntrack_proto_tcp.c, and what it calls but for tcp_in_window.

use super::super::{Outcome, Segment, Update, View};
use super::established;
use super::state::{Side, Tcp, flag, number};
use super::transitions::{IGNORE, INVALID, Index, NEXT};
use super::window::{self, Verdict, before};
use crate::table::conntrack::config::{TCP_RETRANS, TCP_UNACK};
use crate::table::conntrack::{Config, Direction, Status, TICKS_PER_SECOND, Ticks};
use crate::wire::Protocol;
use crate::wire::tcp::{Flags, HEADER_LEN, Options};

/// What the trackers look at of a TCP header.
pub struct Header<'a> {
    pub seq: u32,
    pub ack: u32,
    /// seq + len, SYN and FIN counted.
    pub end: u32,
    pub window: u16,
    pub index: Index,
    pub syn: bool,
    pub has_ack: bool,
    pub rst: bool,
    pub options: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` where the header is cut, or its flags or its checksum make no sense (tcp_error).
    #[inline(always)]
    pub fn new(segment: &Segment<'a>, config: &Config) -> Option<Self> {
        let bytes = segment.bytes;
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let len = usize::from(header[12] >> 4) * 4;
        if len < HEADER_LEN || len > bytes.len() {
            return None;
        }
        if config.checksum && !segment.sums_up(Protocol::TCP, bytes.len()) {
            return None;
        }
        let flags = Flags(header[13]);
        if !makes_sense(flags) {
            return None;
        }
        let be32 = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let has = |bit| flags.any(bit);
        let seq = be32(4);
        let taken = (bytes.len() - len) as u32 + u32::from(has(Flags::SYN)) + u32::from(has(Flags::FIN));
        Some(Header {
            seq,
            ack: be32(8),
            end: seq.wrapping_add(taken),
            window: u16::from_be_bytes([header[14], header[15]]),
            index: index(flags),
            syn: has(Flags::SYN),
            has_ack: has(Flags::ACK),
            rst: has(Flags::RST),
            options: &bytes[HEADER_LEN..len],
        })
    }

    /// Whether there are no options, or a timestamp alone, as most segments carry it.
    #[inline(always)]
    pub fn has_no_sack(&self) -> bool {
        match *self.options {
            [] => true,
            [a, b, c, d, _, _, _, _, _, _, _, _] => [a, b, c, d] == [1, 1, 8, 10],
            _ => false,
        }
    }

    pub fn each_option(&self) -> Options<'a> {
        Options::new(self.options)
    }
}

#[inline]
fn index(flags: Flags) -> Index {
    if flags.any(Flags::RST) {
        Index::Rst
    } else if flags.any(Flags::SYN) {
        if flags.any(Flags::ACK) {
            Index::SynAck
        } else {
            Index::Syn
        }
    } else if flags.any(Flags::FIN) {
        Index::Fin
    } else if flags.any(Flags::ACK) {
        Index::Ack
    } else {
        Index::None
    }
}

/// Combinations of flags that a stack sends; PSH, ECE and CWR may stand with any.
#[inline]
fn makes_sense(flags: Flags) -> bool {
    const SENSE: u64 = {
        let (fin, syn, rst, ack, urg) = (Flags::FIN, Flags::SYN, Flags::RST, Flags::ACK, Flags::URG);
        1 << syn
            | 1 << (syn | urg)
            | 1 << (syn | ack)
            | 1 << rst
            | 1 << (rst | ack)
            | 1 << (fin | ack)
            | 1 << (fin | ack | urg)
            | 1 << ack
            | 1 << (ack | urg)
    };
    SENSE >> (flags.0 & 0x37) & 1 != 0
}

/// What a segment does to its connection.
#[inline]
pub fn track(segment: &Segment<'_>, view: &View, direction: Direction, config: &Config) -> Outcome {
    match Header::new(segment, config) {
        Some(header) => judge(&header, view, direction, config),
        None => Outcome::Invalid(None),
    }
}

/// The same for an ACK of an established connection in its windows; `None` for all else, which [`track`] judges.
#[inline(always)]
pub fn in_the_middle(segment: &Segment<'_>, view: &View, direction: Direction, config: &Config) -> Option<Update> {
    established::advance(&Header::new(segment, config)?, view, direction, config)
}

/// [`track`] of what is in a header.
#[inline]
pub(super) fn judge(header: &Header<'_>, view: &View, direction: Direction, config: &Config) -> Outcome {
    let mut tcp = if view.confirmed {
        Tcp::unpack(&view.proto)
    } else {
        match begin(header, config) {
            Some(tcp) => tcp,
            None => return Outcome::Invalid(None),
        }
    };
    match transition(&mut tcp, header, view, direction, config) {
        Next::To { old, new, check } => {
            if check {
                match window::judge(&mut tcp, header, direction, config) {
                    Verdict::In => {}
                    Verdict::Ignore => return passes(tcp),
                    Verdict::Out => return out_of_window(tcp, header, view, direction, config),
                }
            }
            advance(tcp, header, view, direction, config, (old, new))
        }
        Next::Passes => passes(tcp),
        Next::Invalid => Outcome::Invalid(None),
        Next::Reopen => Outcome::Reopen,
    }
}

/// The state of a connection that begins with this segment, if it may.
fn begin(header: &Header<'_>, config: &Config) -> Option<Tcp> {
    let new = NEXT[0][header.index as usize][usize::from(number::NONE)];
    if new >= INVALID {
        return None;
    }
    let mut tcp = Tcp {
        last_index: Index::None as u8,
        ..Tcp::default()
    };
    let window = u32::from(header.window).max(1);
    let sender = &mut tcp.sides[0];
    (sender.end, sender.maxend, sender.maxwin) = (header.end, header.end, window);
    if new == number::SYN_SENT {
        window::options(sender, header);
    } else if config.tcp_loose {
        // Its history is lost: anything may have been agreed on.
        sender.maxend = header.end.wrapping_add(window);
        tcp.sides
            .iter_mut()
            .for_each(|side| side.flags = flag::SACK_PERM | flag::BE_LIBERAL);
    } else {
        return None;
    }
    Some(tcp)
}

/// What the table of states says, and what corrects it.
enum Next {
    /// From a state to a state, if the segment is in the window (`check`).
    To {
        old: u8,
        new: u8,
        check: bool,
    },
    /// It passes, and the state is what was noted of it.
    Passes,
    Invalid,
    Reopen,
}

#[inline]
fn transition(tcp: &mut Tcp, header: &Header<'_>, view: &View, direction: Direction, config: &Config) -> Next {
    let old = tcp.state;
    let new = NEXT[direction as usize][header.index as usize][usize::from(old.min(number::SYN_SENT2))];
    let to = |new| Next::To { old, new, check: true };
    match new {
        number::SYN_SENT if old >= number::TIME_WAIT => {
            // The old connection was closed, or its client is gone: this one is new. RFC 1122, 4.2.2.13.
            let closing = (tcp.sides[0].flags | tcp.sides[1].flags) & flag::CLOSE_INIT != 0;
            if closing || last_was(tcp, Index::Rst) && tcp.last_dir == direction as u8 {
                return Next::Reopen;
            }
            ignore(tcp, header, direction, old)
        }
        IGNORE => ignore(tcp, header, direction, old),
        INVALID => Next::Invalid,
        number::TIME_WAIT
            if old == number::LAST_ACK
                && header.index == Index::Ack
                && tcp.last_dir != direction as u8
                && last_was(tcp, Index::Syn)
                && tcp.last_flags & flag::EXP_CHALLENGE_ACK != 0 =>
        {
            // RFC 5961's challenge, and no acknowledgement of the FIN.
            tcp.last_flags &= !flag::EXP_CHALLENGE_ACK;
            Next::Passes
        }
        number::SYN_SENT2 => {
            tcp.last_flags |= flag::SIMULTANEOUS_OPEN;
            to(new)
        }
        number::SYN_RECV
            if direction == Direction::Reply
                && header.index == Index::Ack
                && tcp.last_flags & flag::SIMULTANEOUS_OPEN != 0 =>
        {
            to(number::ESTABLISHED)
        }
        number::CLOSE if header.index == Index::Rst => reset(tcp, header, view, direction, config),
        _ => to(new),
    }
}

fn last_was(tcp: &Tcp, index: Index) -> bool {
    tcp.last_index == index as u8
}

/// A segment that may belong to a connection which is not the one that we know: it is noted, and passes. If it is wrong the
/// other end answers with an RST; if it is right, with what gets us in step again.
fn ignore(tcp: &mut Tcp, header: &Header<'_>, direction: Direction, old: u8) -> Next {
    let answers_syn = header.index == Index::SynAck
        && last_was(tcp, Index::Syn)
        && tcp.last_dir != direction as u8
        && header.ack == tcp.last_end;
    if answers_syn {
        // It acknowledges the SYN that was let through: both ends agree, so that SYN was right.
        tcp.last_flags &= !flag::EXP_CHALLENGE_ACK;
        let (flags, scale) = (tcp.last_flags, tcp.last_scale);
        let (end, window) = (tcp.last_end, u32::from(tcp.last_win).max(1));
        let (answerer, opener) = tcp.both(direction);
        *opener = Side {
            end,
            maxend: end,
            maxwin: window,
            scale,
            flags,
            ..*opener
        };
        *answerer = Side {
            flags: answerer.flags & flag::BE_LIBERAL,
            ..Side::default()
        };
        return Next::To {
            old: number::SYN_SENT,
            new: number::SYN_RECV,
            check: true,
        };
    }
    tcp.last_index = header.index as u8;
    tcp.last_dir = direction as u8;
    (tcp.last_seq, tcp.last_end, tcp.last_win) = (header.seq, header.end, header.window);
    if header.index == Index::Syn && direction == Direction::Original {
        let mut seen = Side::default();
        window::options(&mut seen, header);
        tcp.last_flags = seen.flags & (flag::WINDOW_SCALE | flag::SACK_PERM);
        tcp.last_scale = seen.scale;
        if old == number::LAST_ACK {
            tcp.last_flags |= flag::EXP_CHALLENGE_ACK;
        }
    }
    // It may be a challenge, which an RST will answer.
    if old == number::SYN_SENT && header.index == Index::Ack && direction == Direction::Reply {
        tcp.last_ack = header.ack;
    }
    Next::Passes
}

/// An RST: closes at once, stays in doubt, or is invalid. RFC 5961, section 3.
fn reset(tcp: &mut Tcp, header: &Header<'_>, view: &View, direction: Direction, config: &Config) -> Next {
    let old = tcp.state;
    let mut new = number::CLOSE;
    let to = |new, check| Next::To { old, new, check };
    // Closing anyway: what is known of the windows may be of a connection before.
    if old > number::ESTABLISHED && old != number::SYN_SENT2 {
        return to(new, false);
    }
    let seen_reply = view.status.any(Status::SEEN_REPLY);
    let assured = view.status.any(Status::ASSURED);
    let (_, other) = tcp.both(direction);
    let other = *other;
    if other.flags & flag::MAXACK_SET != 0 && !last_was(tcp, Index::Syn) {
        let established = old == number::ESTABLISHED && assured;
        // The answer to a SYN that was let through.
        if header.seq == 0 && !established {
            return to(new, true);
        }
        if before(header.seq, other.maxack) && !config.tcp_ignore_invalid_rst {
            return Next::Invalid;
        }
        if !established || header.seq == other.maxack {
            return to(new, true);
        }
        // Right behind the data of the same side.
        if last_was(tcp, Index::Ack) && tcp.last_dir == direction as u8 && header.seq == tcp.last_end {
            return to(new, true);
        }
        // Not exactly where it should be: the other end will ask for proof.
        new = old;
    }
    // The field counts, with the flag ACK or without. Until June 2026 (bed6e04be8e6) kernels let the side that sent the SYN
    // answer it, too.
    let answers_syn = seen_reply && last_was(tcp, Index::Syn) && tcp.last_dir != direction as u8;
    let answers_ack = !assured && last_was(tcp, Index::Ack);
    let answers_ignored = (answers_syn || answers_ack) && header.ack == tcp.last_end;
    let answers_challenge = old == number::SYN_SENT
        && last_was(tcp, Index::Ack)
        && tcp.last_dir == Direction::Reply as u8
        && header.seq == tcp.last_ack;
    to(new, !(answers_ignored || answers_challenge))
}

/// It passes; what was noted is kept, and neither state nor timeout change.
fn passes(tcp: Tcp) -> Outcome {
    Outcome::Valid(Update {
        proto: Some(tcp.pack()),
        timeout: None,
        set: Status(0),
        kill: false,
    })
}

/// Out of the window. An assured connection whose ends try to close it, as it seems, need not be kept for days
/// (nf_tcp_handle_invalid).
#[cold]
fn out_of_window(mut tcp: Tcp, header: &Header<'_>, view: &View, direction: Direction, config: &Config) -> Outcome {
    const LEFT_MIN: Ticks = 120 * TICKS_PER_SECOND;
    let mut timeout = None;
    let may = view.status.any(Status::ASSURED) && !view.status.any(Status::FIXED_TIMEOUT);
    if may && matches!(header.index, Index::Rst | Index::Fin) {
        let answered = tcp.last_dir != direction as u8 && (last_was(&tcp, Index::Fin) || last_was(&tcp, Index::Rst));
        if !answered {
            tcp.last_index = header.index as u8;
            tcp.last_dir = direction as u8;
        } else if view.left >= LEFT_MIN && view.left > config.tcp[TCP_UNACK] {
            timeout = Some(config.tcp[TCP_UNACK]);
        }
    }
    Outcome::Invalid(Some(Update {
        proto: Some(tcp.pack()),
        timeout,
        set: Status(0),
        kill: false,
    }))
}

/// A segment in the window: state, timeout, status.
#[inline]
fn advance(
    mut tcp: Tcp,
    header: &Header<'_>,
    view: &View,
    direction: Direction,
    config: &Config,
    (old, new): (u8, u8),
) -> Outcome {
    tcp.last_index = header.index as u8;
    tcp.last_dir = direction as u8;
    tcp.state = new;
    if old != new && new == number::FIN_WAIT {
        tcp.sides[direction as usize].flags |= flag::CLOSE_INIT;
    }
    let mut timeout = timeout(&tcp, header, config);
    let seen_reply = view.status.any(Status::SEEN_REPLY);
    // Nothing but an RST came back: that is no connection.
    let kill = !seen_reply && header.rst;
    if !seen_reply && new == number::ESTABLISHED {
        timeout = timeout.min(config.tcp[TCP_UNACK]);
    }
    // Whoever sends SYNs from the same ports again and again must not keep it alive.
    let again = !seen_reply && header.index == Index::Syn && old == number::SYN_SENT;
    let assured = seen_reply && new == number::ESTABLISHED && matches!(old, number::SYN_RECV | number::ESTABLISHED);
    Outcome::Valid(Update {
        proto: Some(tcp.pack()),
        timeout: (!again).then_some(timeout),
        set: if assured { Status::ASSURED } else { Status(0) },
        kill,
    })
}

#[inline]
fn timeout(tcp: &Tcp, header: &Header<'_>, config: &Config) -> Ticks {
    let flags = tcp.sides[0].flags | tcp.sides[1].flags;
    timeout_of(tcp.state, tcp.retrans, flags, tcp.last_win, header.index, config)
}

/// The timeout of a state: less after retransmissions without an answer, after an RST, while data is not acknowledged, and
/// while a window is closed. `flags` are those of both sides.
#[inline(always)]
pub(super) fn timeout_of(state: u8, retrans: u8, flags: u8, last_win: u16, index: Index, config: &Config) -> Ticks {
    let usual = config.tcp[usize::from(state)];
    let [most_retrans, unack] = [TCP_RETRANS, TCP_UNACK].map(|place| config.tcp[place]);
    if retrans >= config.tcp_max_retrans && usual > most_retrans {
        most_retrans
    } else if index == Index::Rst {
        config.tcp[usize::from(number::CLOSE)]
    } else if flags & flag::DATA_UNACKNOWLEDGED != 0 && usual > unack {
        unack
    } else if last_win == 0 && usual > most_retrans {
        most_retrans
    } else {
        usual
    }
}
