//! SCTP, as nf_conntrack_proto_sctp.c has it: a table of states, and verification tags.
//!
//! ```text
//!  INIT(tag a) ->                    closed
//!              <- INIT ACK(tag b)    cookie_wait        tags: what the original direction bears is b, the reply a
//!  COOKIE ECHO ->                    cookie_echoed
//!              <- COOKIE ACK         established, assured
//!  SHUTDOWN    ->                    shutdown_sent      <- SHUTDOWN ACK: shutdown_ack_sent; SHUTDOWN COMPLETE: closed
//! ```
//!
//! A packet must bear the tag of its direction, but for the chunks that have rules of their own (RFC 9260, section 8.5.1).
//! Both ends may open at once: `init` notes whose INIT was seen, so that the INIT ACK of a handshake given up is told from
//! that of the one that stands. A HEARTBEAT on another path begins a connection of its own. Each chunk moves the state; what
//! chunks before an invalid one did stays, as in the kernel. A packet has at most one chunk per four bytes.
//!
//! ```text
//!  word 0   state 4 | flags 1 | last_dir 1 | init of original, of reply        (7 bits)
//!  word 1   tag of reply << 32 | tag of original
//! ```

use super::{Outcome, Segment, Update, View};
use crate::table::conntrack::{Config, Direction, ProtoState, Status};
use crate::wire::sctp::{Chunk, ChunkType, Packet};

/// The states by their kernel numbers (enum sctp_conntrack), in the words of conntrack-tools.
pub const WORDS: [&str; 9] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];

const NONE: u8 = 0;
const CLOSED: u8 = 1;
const ESTABLISHED: u8 = 4;
const SHUTDOWN_SENT: u8 = 5;
const SHUTDOWN_ACK_SENT: u8 = 7;
const HEARTBEAT_SENT: u8 = 8;
/// Not part of any connection in this state.
const INVALID: u8 = 9;

/// A row of [`NEXT`]: per old state (see [`WORDS`]) the new one, as its digit; `-` invalid.
const fn row(text: &[u8; 9]) -> [u8; 9] {
    let mut row = [INVALID; 9];
    let mut at = 0;
    while at < 9 {
        if text[at] != b'-' {
            row[at] = text[at] - b'0';
        }
        at += 1;
    }
    row
}

/// By direction, chunk (see [`place`]) and old state (sctp_conntracks).
static NEXT: [[[u8; 9]; 11]; 2] = [
    [
        row(b"112341172"), // INIT
        row(b"112345671"), // INIT ACK
        row(b"111111111"), // ABORT
        row(b"112355671"), // SHUTDOWN
        row(b"712347777"), // SHUTDOWN ACK
        row(b"112345671"), // ERROR
        row(b"113345671"), // COOKIE ECHO
        row(b"112445671"), // COOKIE ACK
        row(b"112345611"), // SHUTDOWN COMPLETE
        row(b"812345678"), // HEARTBEAT
        row(b"112345678"), // HEARTBEAT ACK
    ],
    [
        row(b"-1234567-"),
        row(b"-2234567-"),
        row(b"-1111111-"),
        row(b"-1236567-"),
        row(b"-1234777-"),
        row(b"-1214567-"),
        row(b"-1334567-"),
        row(b"-1244567-"),
        row(b"-1234561-"),
        row(b"-12345678"),
        row(b"-12345674"),
    ],
];

/// A chunk's row in [`NEXT`]; `None` for one that moves no state, such as DATA.
fn place(kind: ChunkType) -> Option<usize> {
    Some(match kind {
        ChunkType::INIT => 0,
        ChunkType::INIT_ACK => 1,
        ChunkType::ABORT => 2,
        ChunkType::SHUTDOWN => 3,
        ChunkType::SHUTDOWN_ACK => 4,
        ChunkType::ERROR => 5,
        ChunkType::COOKIE_ECHO => 6,
        ChunkType::COOKIE_ACK => 7,
        ChunkType::SHUTDOWN_COMPLETE => 8,
        ChunkType::HEARTBEAT => 9,
        ChunkType::HEARTBEAT_ACK => 10,
        _ => return None,
    })
}

fn next(direction: Direction, old: u8, kind: ChunkType) -> u8 {
    match place(kind) {
        Some(place) => NEXT[direction as usize][place][usize::from(old.min(HEARTBEAT_SENT))],
        None => old,
    }
}

/// A connection's state, unpacked (struct ip_ct_sctp).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sctp {
    state: u8,
    /// A HEARTBEAT with a wrong tag was let through, in direction `last_dir`: the answer may say that it was right.
    heartbeat_failed: bool,
    last_dir: u8,
    /// By direction: its INIT stands.
    init: [bool; 2],
    /// By direction: the tag that its packets bear.
    tags: [u32; 2],
}

impl Sctp {
    fn unpack(words: &ProtoState) -> Self {
        let bit = |at: u32| words[0] >> at & 1 != 0;
        Sctp {
            state: state(words).min(HEARTBEAT_SENT),
            heartbeat_failed: bit(4),
            last_dir: bit(5).into(),
            init: [bit(6), bit(7)],
            tags: [words[1] as u32, (words[1] >> 32) as u32],
        }
    }

    fn pack(&self) -> ProtoState {
        let small = u64::from(self.state)
            | u64::from(self.heartbeat_failed) << 4
            | u64::from(self.last_dir) << 5
            | u64::from(self.init[0]) << 6
            | u64::from(self.init[1]) << 7;
        let tags = u64::from(self.tags[0]) | u64::from(self.tags[1]) << 32;
        [small, tags, 0, 0, 0, 0, 0]
    }
}

/// The state's number.
#[inline]
pub fn state(words: &ProtoState) -> u8 {
    words[0] as u8 & 0x0f
}

/// What the kernel tells of a connection by ctnetlink: state, and verification tags by direction.
pub fn imported(state: u8, tags: [u32; 2]) -> ProtoState {
    Sctp {
        state: state.min(HEARTBEAT_SENT),
        tags,
        ..Sctp::default()
    }
    .pack()
}

/// What the kernel is told of a connection: state, and verification tags by direction.
pub fn exported(words: &ProtoState) -> (u8, [u32; 2]) {
    let sctp = Sctp::unpack(words);
    (sctp.state, sctp.tags)
}

/// The state of a connection as the kernel must be told it, for it to take `segment`, which is part of the connection, for that:
/// it cannot be told whose INIT stands, nor of a HEARTBEAT that awaits its answer. An INIT ACK is welcome where no tag is
/// known, and an answer to a HEARTBEAT where it bears the known one.
pub fn told(segment: &[u8], words: &ProtoState, direction: Direction) -> ProtoState {
    let mut sctp = Sctp::unpack(words);
    let Ok(packet) = Packet::new_checked(segment) else {
        return *words;
    };
    match packet.chunks().next().map(|chunk| chunk.kind) {
        Some(ChunkType::INIT_ACK) => sctp.tags[1 - direction as usize] = 0,
        Some(ChunkType::HEARTBEAT_ACK) => sctp.tags[direction as usize] = packet.tag(),
        _ => {}
    }
    sctp.pack()
}

/// Whether its ends have begun to shut it down (sctp_can_early_drop).
pub fn can_early_drop(words: &ProtoState) -> bool {
    (SHUTDOWN_SENT..=SHUTDOWN_ACK_SENT).contains(&state(words))
}

/// Whether all that was seen is what begins a connection.
pub fn is_beginning(words: &ProtoState) -> bool {
    matches!(state(words), CLOSED | HEARTBEAT_SENT)
}

/// The types of a packet's chunks.
#[derive(Clone, Copy)]
struct Kinds([u64; 4]);

impl Kinds {
    fn has_any(&self, kinds: &[ChunkType]) -> bool {
        kinds
            .iter()
            .any(|kind| self.0[usize::from(kind.0 / 64)] >> (kind.0 % 64) & 1 != 0)
    }
}

/// What an SCTP packet does (nf_conntrack_sctp_packet).
pub(super) fn track(segment: &Segment<'_>, view: &View, direction: Direction, config: &Config) -> Outcome {
    let Ok(packet) = Packet::new_checked(segment.bytes) else {
        return Outcome::Invalid(None);
    };
    if config.checksum && !packet.verify_checksum() {
        return Outcome::Invalid(None);
    }
    let Some(kinds) = kinds(&packet) else {
        return Outcome::Invalid(None);
    };
    let sctp = if view.confirmed {
        Some(Sctp::unpack(&view.proto))
    } else {
        begin(&packet, &kinds)
    };
    let Some(mut sctp) = sctp else {
        return Outcome::Invalid(None);
    };
    const OF_THEIR_OWN: [ChunkType; 7] = [
        ChunkType::INIT,
        ChunkType::SHUTDOWN_COMPLETE,
        ChunkType::COOKIE_ECHO,
        ChunkType::ABORT,
        ChunkType::SHUTDOWN_ACK,
        ChunkType::HEARTBEAT,
        ChunkType::HEARTBEAT_ACK,
    ];
    if !kinds.has_any(&OF_THEIR_OWN) && packet.tag() != sctp.tags[direction as usize] {
        return Outcome::Invalid(None);
    }
    let mut walk = Walk {
        sctp: &mut sctp,
        tag: packet.tag(),
        direction: direction as usize,
        has_data: kinds.has_any(&[ChunkType::DATA]),
        confirmed: view.confirmed,
        ignored: false,
        assured: false,
    };
    let valid = packet.chunks().all(|chunk| walk.chunk(&chunk, direction).is_some());
    let (ignored, assured) = (walk.ignored, walk.assured);
    let update = Update {
        proto: Some(sctp.pack()),
        timeout: (valid && !ignored).then(|| config.sctp[usize::from(sctp.state)]),
        set: if assured { Status::ASSURED } else { Status(0) },
        kill: false,
    };
    match valid {
        true => Outcome::Valid(update),
        false => Outcome::Invalid(Some(update)),
    }
}

/// The types of the chunks, if these can stand together: INIT, INIT ACK and SHUTDOWN COMPLETE alone, COOKIE ECHO and COOKIE
/// ACK first, none without a length, and one at least (do_basic_checks).
fn kinds(packet: &Packet<&[u8]>) -> Option<Kinds> {
    let mut kinds = [0; 4];
    let mut alone = false;
    for (count, chunk) in packet.chunks().enumerate() {
        alone |= matches!(
            chunk.kind,
            ChunkType::INIT | ChunkType::INIT_ACK | ChunkType::SHUTDOWN_COMPLETE
        );
        let first = alone || matches!(chunk.kind, ChunkType::COOKIE_ACK | ChunkType::COOKIE_ECHO);
        if first && count != 0 || chunk.len == 0 {
            return None;
        }
        kinds[usize::from(chunk.kind.0 / 64)] |= 1 << (chunk.kind.0 % 64);
    }
    (kinds != [0; 4]).then_some(Kinds(kinds))
}

/// The state of a connection that begins with this packet, if it may: RFC 9260, section 8.4, and sctp_new.
fn begin(packet: &Packet<&[u8]>, kinds: &Kinds) -> Option<Sctp> {
    let mut sctp = Sctp::default();
    if kinds.has_any(&[ChunkType::ABORT, ChunkType::SHUTDOWN_COMPLETE, ChunkType::COOKIE_ACK]) {
        return None;
    }
    for chunk in packet.chunks() {
        if matches!(next(Direction::Original, NONE, chunk.kind), NONE | INVALID) {
            return None;
        }
        match chunk.kind {
            ChunkType::INIT if packet.tag() != 0 => return None,
            ChunkType::INIT => sctp.tags[1] = chunk.initiate_tag()?,
            ChunkType::HEARTBEAT | ChunkType::HEARTBEAT_ACK => sctp.tags[0] = packet.tag(),
            _ => sctp.tags[1] = packet.tag(),
        }
    }
    Some(sctp)
}

/// The walk over a packet's chunks.
struct Walk<'a> {
    sctp: &'a mut Sctp,
    tag: u32,
    direction: usize,
    has_data: bool,
    confirmed: bool,
    /// The packet passes, and refreshes nothing.
    ignored: bool,
    assured: bool,
}

impl Walk<'_> {
    /// Takes one chunk in; `None` if the packet is invalid by it.
    fn chunk(&mut self, chunk: &Chunk<'_>, direction: Direction) -> Option<()> {
        if !self.has_right_tag(chunk)? {
            return Some(());
        }
        let old = self.sctp.state;
        let new = next(direction, old, chunk.kind);
        if new == INVALID {
            return None;
        }
        match chunk.kind {
            ChunkType::INIT => self.init(chunk.initiate_tag()?, old, new),
            ChunkType::INIT_ACK => self.init_ack(chunk.initiate_tag()?)?,
            _ => {}
        }
        self.sctp.state = new;
        self.assured |= new == ESTABLISHED && old != new;
        Some(())
    }

    /// The chunk's own rule about the tag; `false` for one that passes and is not looked at further.
    fn has_right_tag(&mut self, chunk: &Chunk<'_>) -> Option<bool> {
        let (own, other) = (self.direction, 1 - self.direction);
        let right = match chunk.kind {
            ChunkType::INIT => self.tag == 0,
            ChunkType::ABORT | ChunkType::SHUTDOWN_COMPLETE => {
                let whose = if chunk.reflects_tag() { other } else { own };
                self.tag == self.sctp.tags[whose]
            }
            ChunkType::COOKIE_ECHO => self.tag == self.sctp.tags[own],
            ChunkType::COOKIE_ACK => {
                self.sctp.init = [false; 2];
                true
            }
            ChunkType::HEARTBEAT | ChunkType::HEARTBEAT_ACK => return self.heartbeat(chunk.kind),
            _ => true,
        };
        right.then_some(true)
    }

    /// A HEARTBEAT with another tag may come from an end that restarted: it passes, and the answer in the other direction
    /// tells whether its tag holds from now on.
    fn heartbeat(&mut self, kind: ChunkType) -> Option<bool> {
        let (own, other) = (self.direction, 1 - self.direction);
        let sctp = &mut *self.sctp;
        if sctp.tags[own] == 0 {
            sctp.tags[own] = self.tag;
            return Some(true);
        }
        if self.tag == sctp.tags[own] {
            sctp.heartbeat_failed = false;
            return Some(true);
        }
        if self.has_data || self.ignored {
            return None;
        }
        if kind == ChunkType::HEARTBEAT {
            sctp.heartbeat_failed = true;
            sctp.last_dir = own as u8;
            self.ignored = true;
            return Some(false);
        }
        if !sctp.heartbeat_failed || usize::from(sctp.last_dir) == own {
            return None;
        }
        sctp.heartbeat_failed = false;
        sctp.tags[own] = self.tag;
        sctp.tags[other] = 0;
        Some(true)
    }

    fn init(&mut self, tag: u32, old: u8, new: u8) {
        let (own, other) = (self.direction, 1 - self.direction);
        // With the tag that is known it is a retransmission, or stale (6.18.x: it must not undo what an INIT ACK settled).
        if old == NONE || self.sctp.tags[other] != tag {
            if self.sctp.init == [true; 2] {
                self.sctp.init[other] = false;
            }
            self.sctp.init[own] = true;
        }
        self.sctp.tags[other] = tag;
        // Whoever uses the ports again and again must not keep it alive.
        self.ignored |= new == CLOSED && old == CLOSED && self.confirmed;
    }

    fn init_ack(&mut self, tag: u32) -> Option<()> {
        let (own, other) = (self.direction, 1 - self.direction);
        let known = self.sctp.tags[other];
        let stale = !self.sctp.init[other] && known != 0 && known != tag;
        let collides = self.sctp.init == [true; 2] && known != tag;
        if stale || collides {
            return None;
        }
        debug_assert!(own != other);
        self.sctp.tags[other] = tag;
        Some(())
    }
}

#[cfg(test)]
mod tests;
