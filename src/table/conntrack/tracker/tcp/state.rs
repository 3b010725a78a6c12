//! What is kept of a TCP connection (struct ip_ct_tcp), and how it lies in the table's words.
//!
//! ```text
//!  word 0   state 4 | last_dir 1 | last_index 3 | retrans 8 | last_flags 8 | last_win 16          (40 bits)
//!  word 1   end of both sides           word 4   maxwin of both sides
//!  word 2   maxend of both sides        word 5   last_seq | last_ack
//!  word 3   maxack of both sides        word 6   last_end | scale, scale | flags, flags
//! ```
//!
//! The scale of the last SYN lies with last_end: three scales of 4 bits, two flags of 8 bits. Sequence numbers wrap, so
//! they are compared by their signed difference.

use crate::table::conntrack::{Direction, ProtoState};

/// The states by their kernel numbers (enum tcp_conntrack), in the words of conntrack-tools.
pub const WORDS: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// See [`WORDS`].
#[allow(missing_docs)]
pub mod number {
    pub const NONE: u8 = 0;
    pub const SYN_SENT: u8 = 1;
    pub const SYN_RECV: u8 = 2;
    pub const ESTABLISHED: u8 = 3;
    pub const FIN_WAIT: u8 = 4;
    pub const LAST_ACK: u8 = 6;
    pub const TIME_WAIT: u8 = 7;
    pub const CLOSE: u8 = 8;
    pub const SYN_SENT2: u8 = 9;
}

/// What is known of a side: IP_CT_TCP_FLAG_* of include/uapi/linux/netfilter/nf_conntrack_tcp.h.
pub mod flag {
    /// It offered window scaling.
    pub const WINDOW_SCALE: u8 = 0x01;
    /// It permits SACK.
    pub const SACK_PERM: u8 = 0x02;
    /// It began to close.
    pub const CLOSE_INIT: u8 = 0x04;
    /// What it sends is not held against its window.
    pub const BE_LIBERAL: u8 = 0x08;
    /// It sent what is not acknowledged yet.
    pub const DATA_UNACKNOWLEDGED: u8 = 0x10;
    /// `maxack` is known.
    pub const MAXACK_SET: u8 = 0x20;
    /// Of the last SYN: the answer may be a challenge ACK.
    pub const EXP_CHALLENGE_ACK: u8 = 0x40;
    /// Of the last SYN: both sides sent one.
    pub const SIMULTANEOUS_OPEN: u8 = 0x80;
}

/// What is known of a side; see the head of tcp/mod.rs. Sequence numbers and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Behind all that it sent.
    pub end: u32,
    /// Behind all that it may send.
    pub maxend: u32,
    /// Its largest window, 0 while none is known.
    pub maxwin: u32,
    /// The highest it acknowledged.
    pub maxack: u32,
    /// Its window scale, at most 14.
    pub scale: u8,
    /// [`flag`]s.
    pub flags: u8,
}

/// A connection's state, unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Both sides, by [`Direction`].
    pub sides: [Side; 2],
    /// Its kernel number, see [`WORDS`].
    pub state: u8,
    /// The direction of the last packet that was taken in.
    pub last_dir: u8,
    /// What it was (`Index`).
    pub last_index: u8,
    /// How often it came again.
    pub retrans: u8,
    /// Flags of the last SYN that was let through.
    pub last_flags: u8,
    /// Its window scale.
    pub last_scale: u8,
    /// The last packet's window, unscaled.
    pub last_win: u16,
    /// Its sequence number.
    pub last_seq: u32,
    /// What it acknowledged.
    pub last_ack: u32,
    /// Its end.
    pub last_end: u32,
}

#[inline]
fn pair(a: u32, b: u32) -> u64 {
    u64::from(a) << 32 | u64::from(b)
}

#[inline]
fn halves(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

impl Tcp {
    /// From the table's words.
    #[inline]
    pub fn unpack(words: &ProtoState) -> Self {
        let small = words[0];
        let (end, maxend, maxack, maxwin) = (halves(words[1]), halves(words[2]), halves(words[3]), halves(words[4]));
        let [last_seq, last_ack] = halves(words[5]);
        let [last_end, rest] = halves(words[6]);
        let side = |n: usize| Side {
            end: end[n],
            maxend: maxend[n],
            maxwin: maxwin[n],
            maxack: maxack[n],
            scale: (rest >> (24 - 4 * n)) as u8 & 0x0f,
            flags: (rest >> (8 - 8 * n)) as u8,
        };
        Tcp {
            sides: [side(0), side(1)],
            // No word of ours has another one; the table of states need not trust it.
            state: (small as u8 & 0x0f).min(number::SYN_SENT2),
            last_dir: (small >> 4) as u8 & 1,
            last_index: (small >> 5) as u8 & 7,
            retrans: (small >> 8) as u8,
            last_flags: (small >> 16) as u8,
            last_scale: (rest >> 16) as u8 & 0x0f,
            last_win: (small >> 24) as u16,
            last_seq,
            last_ack,
            last_end,
        }
    }

    /// Into the table's words.
    #[inline]
    pub fn pack(&self) -> ProtoState {
        let [a, b] = &self.sides;
        let small = u64::from(self.state)
            | u64::from(self.last_dir) << 4
            | u64::from(self.last_index) << 5
            | u64::from(self.retrans) << 8
            | u64::from(self.last_flags) << 16
            | u64::from(self.last_win) << 24;
        let rest = u32::from(a.scale) << 24
            | u32::from(b.scale) << 20
            | u32::from(self.last_scale) << 16
            | u32::from(a.flags) << 8
            | u32::from(b.flags);
        [
            small,
            pair(a.end, b.end),
            pair(a.maxend, b.maxend),
            pair(a.maxack, b.maxack),
            pair(a.maxwin, b.maxwin),
            pair(self.last_seq, self.last_ack),
            pair(self.last_end, rest),
        ]
    }

    /// The sender's and the receiver's side of a packet in `direction`.
    #[inline]
    pub(super) fn both(&mut self, direction: Direction) -> (&mut Side, &mut Side) {
        let [original, reply] = &mut self.sides;
        match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        }
    }
}

/// The state's number.
#[inline]
pub fn state(words: &ProtoState) -> u8 {
    words[0] as u8 & 0x0f
}

/// Whether all that was seen is SYNs of one side.
pub fn is_beginning(words: &ProtoState) -> bool {
    state(words) <= number::SYN_SENT
}

/// Whether it is about to end: a SYN may open it anew.
pub fn is_closing(words: &ProtoState) -> bool {
    matches!(state(words), number::TIME_WAIT | number::CLOSE)
}

/// Whether its ends have begun to close it (tcp_can_early_drop).
pub fn can_early_drop(words: &ProtoState) -> bool {
    (number::FIN_WAIT..=number::CLOSE).contains(&state(words))
}

/// The same connection when a rule has answered for one of its ends with a reset (nf_conntrack_tcp_set_closing).
pub fn closed(words: &ProtoState) -> ProtoState {
    let mut tcp = Tcp::unpack(words);
    tcp.state = number::CLOSE;
    tcp.pack()
}

/// What the kernel tells of a connection by ctnetlink: state, and by direction window scale and flags. Windows are taken up
/// from the next packets, and nothing is held against them, for acknowledgements may be of data that was not seen: as the kernel does with
/// a connection in whose middle it comes.
pub fn imported(state: u8, scale: [u8; 2], flags: [u8; 2]) -> ProtoState {
    let both_scale = flags[0] & flags[1] & flag::WINDOW_SCALE != 0;
    let side = |n: usize| Side {
        scale: if both_scale { scale[n].min(14) } else { 0 },
        flags: flags[n] & !(flag::MAXACK_SET | flag::DATA_UNACKNOWLEDGED) | flag::BE_LIBERAL,
        ..Side::default()
    };
    Tcp {
        sides: [side(0), side(1)],
        state: state.min(number::SYN_SENT2),
        last_index: super::transitions::Index::None as u8,
        ..Tcp::default()
    }
    .pack()
}

/// What the kernel is told of a connection: state, and by direction window scale and flags.
pub fn exported(words: &ProtoState) -> (u8, [u8; 2], [u8; 2]) {
    let tcp = Tcp::unpack(words);
    let [a, b] = tcp.sides;
    (tcp.state, [a.scale, b.scale], [a.flags, b.flags])
}

/// The same connection after packets that were not seen, and while more of them may come: windows are taken up anew, and
/// nothing is held against them, for an acknowledgement may be of data that was not seen.
pub fn forget_windows(words: &ProtoState) -> ProtoState {
    let mut tcp = Tcp::unpack(words);
    for side in &mut tcp.sides {
        *side = Side {
            scale: side.scale,
            flags: side.flags & !(flag::MAXACK_SET | flag::DATA_UNACKNOWLEDGED) | flag::BE_LIBERAL,
            ..Side::default()
        };
    }
    tcp.pack()
}
