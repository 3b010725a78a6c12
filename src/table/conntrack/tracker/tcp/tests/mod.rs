//! TCP connections as sequences of segments: what the kernel says of each, and the state after it. `reset` has the themes
//! of RST, challenge ACK and reuse, which the kernel's packetdrill selftests have too; `window` those of windows.
//!
//! Numbers count from the first segments, which lie just before the two places where sequence numbers wrap.

use super::super::testing::{Flow, Seen, checksum_of, packet};
use super::*;
use crate::packet::Family;
use crate::table::conntrack::Direction::{self, Original, Reply};
use crate::table::conntrack::Status;
use crate::wire::Protocol;
use crate::wire::tcp::Flags;
use proptest::prelude::*;

mod established;
mod reset;
mod window;

const SYN: u8 = Flags::SYN;
const ACK: u8 = Flags::ACK;
const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = Flags::FIN | ACK;
const RST: u8 = Flags::RST;
const RST_ACK: u8 = RST | ACK;

/// The numbers of the first segments: both wrap, one as an unsigned number and one as a signed one.
const CLIENT: u32 = 0xffff_fff0;
const SERVER: u32 = 0x7fff_fff0;
const WINDOW: u16 = 10_000;

/// Timeouts, in seconds.
const DAYS: u32 = 5 * 24 * 3600;
const UNACK: u32 = 300;

/// A segment; its numbers count from [`CLIENT`] and [`SERVER`].
#[derive(Clone, Copy)]
struct Segment<'a> {
    flags: u8,
    seq: i32,
    ack: i32,
    window: u16,
    len: usize,
    options: &'a [u8],
}

/// A segment without data.
fn seg(flags: u8, seq: i32, ack: i32) -> Segment<'static> {
    Segment {
        flags,
        seq,
        ack,
        window: WINDOW,
        len: 0,
        options: &[],
    }
}

fn data(seq: i32, ack: i32, len: usize) -> Segment<'static> {
    Segment {
        len,
        ..seg(ACK, seq, ack)
    }
}

impl Segment<'_> {
    fn bytes(&self, direction: Direction) -> Vec<u8> {
        let (ports, own, other) = match direction {
            Original => ([0x12, 0x34, 0, 80], CLIENT, SERVER),
            Reply => ([0, 80, 0x12, 0x34], SERVER, CLIENT),
        };
        let seq = own.wrapping_add_signed(self.seq).to_be_bytes();
        let ack = match self.flags & ACK {
            0 => 0,
            _ => other.wrapping_add_signed(self.ack),
        };
        let offset = (5 + self.options.len() as u8 / 4) << 4;
        let mut bytes = [&ports[..], &seq, &ack.to_be_bytes(), &[offset, self.flags]].concat();
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.options);
        bytes.resize(bytes.len() + self.len, 0x77);
        bytes
    }
}

/// A flow of TCP segments.
struct Tcp(Flow);

impl Tcp {
    fn new() -> Self {
        Tcp(Flow::new())
    }

    fn bytes(&mut self, direction: Direction, mut bytes: Vec<u8>) -> Seen {
        let (parsed, _) = packet(Family::V4, Protocol::TCP, direction, &bytes);
        let sum = checksum_of(&parsed, &bytes, Protocol::TCP);
        bytes[16..18].copy_from_slice(&sum);
        self.0
            .take(&packet(Family::V4, Protocol::TCP, direction, &bytes), direction)
    }

    fn send(&mut self, direction: Direction, segment: Segment<'_>) -> Seen {
        self.bytes(direction, segment.bytes(direction))
    }

    /// The client's segment passes.
    fn c(&mut self, segment: Segment<'_>) -> (&'static str, u32) {
        assert_eq!(self.send(Original, segment), Seen::Valid);
        (self.0.word(), self.0.left())
    }

    /// The server's segment passes.
    fn s(&mut self, segment: Segment<'_>) -> (&'static str, u32) {
        assert_eq!(self.send(Reply, segment), Seen::Valid);
        (self.0.word(), self.0.left())
    }

    /// A connection after its handshake.
    fn established(syn: &[u8], syn_ack: &[u8]) -> Self {
        let mut tcp = Tcp::new();
        tcp.c(Segment {
            options: syn,
            ..seg(SYN, 0, 0)
        });
        tcp.s(Segment {
            options: syn_ack,
            ..seg(SYN_ACK, 0, 1)
        });
        assert_eq!(tcp.c(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
        assert!(tcp.0.assured());
        tcp
    }

    fn plain() -> Self {
        Self::established(&[], &[])
    }

    fn sides(&self) -> [Side; 2] {
        super::Tcp::unpack(&self.0.view.proto).sides
    }
}

#[test]
fn a_connection_from_its_first_segment_to_its_last() {
    let mut tcp = Tcp::new();
    assert_eq!(tcp.c(seg(SYN, 0, 0)), ("SYN_SENT", 120));
    assert_eq!(tcp.s(seg(SYN_ACK, 0, 1)), ("SYN_RECV", 60));
    assert!(!tcp.0.assured());
    assert_eq!(tcp.c(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
    assert!(tcp.0.assured());
    assert_eq!(tcp.c(data(1, 1, 100)), ("ESTABLISHED", UNACK), "not acknowledged");
    assert_eq!(tcp.s(seg(ACK, 1, 101)), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.c(seg(FIN_ACK, 101, 1)), ("FIN_WAIT", 120));
    assert_eq!(tcp.s(seg(ACK, 1, 102)), ("CLOSE_WAIT", 60));
    assert_eq!(tcp.s(data(1, 102, 50)), ("CLOSE_WAIT", 60), "half closed");
    assert_eq!(tcp.c(seg(ACK, 102, 51)), ("CLOSE_WAIT", 60));
    assert_eq!(tcp.s(seg(FIN_ACK, 51, 102)), ("LAST_ACK", 30));
    assert_eq!(tcp.c(seg(ACK, 102, 52)), ("TIME_WAIT", 120));
    assert_eq!(tcp.send(Original, seg(SYN, 9_000, 0)), Seen::Reopened);
    assert_eq!((tcp.0.word(), tcp.0.left(), tcp.0.assured()), ("SYN_SENT", 120, false));
}

#[test]
fn a_repeated_syn_refreshes_nothing_and_a_new_one_begins_anew() {
    let mut tcp = Tcp::new();
    tcp.c(seg(SYN, 0, 0));
    tcp.0.pass(1000);
    assert_eq!(tcp.c(seg(SYN, 0, 0)), ("SYN_SENT", 110));
    let options = [3, 3, 7, 0];
    let again = Segment {
        options: &options,
        ..seg(SYN, 5000, 0)
    };
    assert_eq!(tcp.c(again), ("SYN_SENT", 110));
    assert_eq!(tcp.sides()[0].scale, 7);
    assert_eq!(tcp.s(seg(SYN_ACK, 0, 5001)), ("SYN_RECV", 60));
    assert_eq!(tcp.sides()[0].scale, 0, "only one side scales");
}

#[test]
fn both_sides_may_open() {
    let mut tcp = Tcp::new();
    tcp.c(seg(SYN, 0, 0));
    assert_eq!(tcp.s(seg(SYN, 0, 0)), ("SYN_SENT2", 120));
    assert_eq!(tcp.s(seg(SYN, 0, 0)), ("SYN_SENT2", 120));
    assert_eq!(tcp.c(seg(SYN_ACK, 0, 1)), ("SYN_RECV", 60));
    assert_eq!(tcp.s(seg(SYN_ACK, 0, 1)), ("SYN_RECV", 60));
    assert_eq!(tcp.s(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
    assert!(tcp.0.assured());
}

#[test]
fn a_connection_is_picked_up_in_its_middle_if_that_is_allowed() {
    let mut tcp = Tcp::new();
    assert_eq!(tcp.c(data(500, 700, 10)), ("ESTABLISHED", UNACK));
    assert_eq!(tcp.s(seg(ACK, 700, 510)), ("ESTABLISHED", UNACK));
    assert!(!tcp.0.assured());
    assert_eq!(tcp.c(seg(ACK, 510, 700)), ("ESTABLISHED", DAYS));
    assert!(tcp.0.assured());
    assert_eq!(
        tcp.send(Original, data(900_000, 700, 10)),
        Seen::Valid,
        "nothing is held against it"
    );

    for (flags, seen) in [
        (SYN, Seen::Valid),
        (ACK, Seen::Invalid),
        (FIN_ACK, Seen::Invalid),
        (SYN_ACK, Seen::Invalid),
        (RST, Seen::Invalid),
    ] {
        let mut tcp = Tcp::new();
        tcp.0.config.tcp_loose = false;
        assert_eq!(tcp.send(Original, seg(flags, 0, 0)), seen, "flags {flags:#x}");
    }
}

#[test]
fn the_server_cannot_open_nor_the_client_answer_itself() {
    let mut tcp = Tcp::new();
    tcp.c(seg(SYN, 0, 0));
    for flags in [SYN_ACK, FIN_ACK, ACK] {
        assert_eq!(tcp.send(Original, seg(flags, 1, 0)), Seen::Invalid, "flags {flags:#x}");
    }
    let mut tcp = Tcp::plain();
    assert_eq!(tcp.send(Reply, seg(SYN, 70, 0)), Seen::Invalid);
    assert_eq!(tcp.send(Original, seg(SYN_ACK, 70, 0)), Seen::Invalid);
    assert_eq!(tcp.0.word(), "ESTABLISHED");
}

#[test]
fn flags_that_make_no_sense_are_invalid() {
    let ok = [
        SYN,
        SYN | Flags::URG,
        SYN_ACK,
        RST,
        RST_ACK,
        FIN_ACK,
        FIN_ACK | Flags::URG,
        ACK,
        ACK | Flags::URG,
    ];
    for flags in 0..=255u8 {
        let mut tcp = Tcp::plain();
        let bare = flags & !(Flags::PSH | Flags::ECE | Flags::CWR);
        // An RST takes itself for exact, a SYN is ignored: of those flags that make sense, only SYN and ACK of the client.
        let expected = ok.contains(&bare) && bare != SYN_ACK;
        let seen = tcp.send(Original, seg(flags, 1, 1));
        assert_eq!(seen == Seen::Valid, expected, "flags {flags:#x}");
    }
}

#[test]
fn headers_that_are_cut_or_wrong_are_invalid() {
    let seen = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = seg(SYN, 0, 0).bytes(Original);
        change(&mut bytes);
        Tcp::new().bytes(Original, bytes)
    };
    assert_eq!(seen(&|_| {}), Seen::Valid);
    assert_eq!(seen(&|bytes| bytes.truncate(19)), Seen::Invalid);
    assert_eq!(seen(&|bytes| bytes[12] = 0x40), Seen::Invalid);
    assert_eq!(seen(&|bytes| bytes[12] = 0x60), Seen::Invalid);

    let wrong = packet(Family::V6, Protocol::TCP, Original, &seg(SYN, 0, 0).bytes(Original));
    let mut flow = Flow::new();
    assert_eq!(flow.take(&wrong, Original), Seen::Invalid, "its checksum is 0");
    flow.config.checksum = false;
    assert_eq!(flow.take(&wrong, Original), Seen::Valid);
}

#[test]
fn a_segment_that_comes_again_and_again_shortens_the_timeout() {
    let mut tcp = Tcp::plain();
    for _ in 0..3 {
        assert_eq!(tcp.c(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
        tcp.s(seg(ACK, 1, 1));
    }
    let keepalive = seg(ACK, 1, 1);
    assert_eq!(tcp.c(keepalive), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.c(keepalive), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.c(keepalive), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.c(keepalive), ("ESTABLISHED", 300), "for the third time again");
    tcp.0.config.tcp_max_retrans = 10;
    assert_eq!(tcp.c(keepalive), ("ESTABLISHED", DAYS));
    tcp.0.config.tcp_max_retrans = 3;
    assert_eq!(tcp.s(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS), "an answer");
}

#[test]
fn a_closed_window_shortens_the_timeout() {
    let mut tcp = Tcp::plain();
    let closed = Segment {
        window: 0,
        ..seg(ACK, 1, 1)
    };
    assert_eq!(tcp.s(closed), ("ESTABLISHED", 300));
    assert_eq!(tcp.c(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
}

#[test]
fn options_are_read_as_far_as_they_make_sense() {
    let of = |options: &[u8]| {
        let mut tcp = Tcp::new();
        tcp.c(Segment {
            options,
            ..seg(SYN, 0, 0)
        });
        let side = tcp.sides()[0];
        (side.scale, side.flags & (flag::WINDOW_SCALE | flag::SACK_PERM))
    };
    assert_eq!(of(&[]), (0, 0));
    assert_eq!(of(&[2, 4, 5, 180, 4, 2, 3, 3, 9, 0, 0, 0]), (9, 3));
    assert_eq!(of(&[1, 3, 3, 15]), (14, 1), "RFC 7323, 2.3");
    assert_eq!(of(&[3, 4, 9, 9, 4, 3, 0, 0]), (0, 0), "wrong lengths");
    assert_eq!(of(&[0, 3, 3, 9]), (0, 0), "behind the end of options");
    assert_eq!(of(&[4, 2, 3, 0]), (0, 2), "a length of 0");
    assert_eq!(of(&[1, 1, 1, 3]), (0, 0), "no length");
    assert_eq!(of(&[4, 2, 3, 9]), (0, 2), "cut");
}

#[test]
fn what_the_kernel_tells_is_taken_up() {
    let flags = flag::WINDOW_SCALE | flag::SACK_PERM;
    let mut tcp = Tcp::new();
    tcp.0.view.proto = imported(3, [7, 15], [flags | flag::MAXACK_SET, flags]);
    (tcp.0.view.confirmed, tcp.0.view.status) = (true, Status::SEEN_REPLY | Status::ASSURED);
    let told = flags | flag::BE_LIBERAL;
    assert_eq!(exported(&tcp.0.view.proto), (3, [7, 14], [told, told]));
    assert_eq!(tcp.s(data(900, 400, 10)).0, "ESTABLISHED");
    assert_eq!(tcp.c(seg(ACK, 400, 910)), ("ESTABLISHED", DAYS));
    // Five segments of the client's were under way, of which nothing is known: they are acknowledged one by one.
    for ack in [800, 1200, 1600, 2000, 2400] {
        assert_eq!(tcp.s(seg(ACK, 910, ack)).0, "ESTABLISHED");
    }
    // One of them is sent again, and all are acknowledged.
    assert_eq!(tcp.c(data(1200, 910, 400)).0, "ESTABLISHED");
    assert_eq!(tcp.s(seg(ACK, 910, 2800)).0, "ESTABLISHED");
    // Scales without both flags say nothing.
    assert_eq!(exported(&imported(3, [7, 7], [flags, 0])).1, [0, 0]);
    assert_eq!(state(&imported(77, [0; 2], [0; 2])), 9);
}

#[test]
fn what_was_not_seen_is_not_held_against_it() {
    let options = [4, 2, 3, 3, 7, 0, 0, 0];
    let mut tcp = Tcp::established(&options, &options);
    tcp.c(data(1, 1, 100));
    tcp.0.view.proto = forget_windows(&tcp.0.view.proto);
    // The client's data travels in fragments: acknowledgements come for what was never seen.
    for ack in [9_000, 18_000, 900_000] {
        assert_eq!(tcp.s(seg(ACK, 1, ack)).0, "ESTABLISHED");
    }
    let (state, scale, flags) = exported(&tcp.0.view.proto);
    assert_eq!((state, scale), (3, [7, 7]));
    assert!(
        flags
            .iter()
            .all(|flags| flags & (flag::BE_LIBERAL | flag::SACK_PERM | flag::WINDOW_SCALE) == 0x0b)
    );
    assert_eq!(
        tcp.c(seg(RST, 900_000, 0)),
        ("ESTABLISHED", 10),
        "exact or not, nobody can tell"
    );
}

fn side() -> impl Strategy<Value = Side> {
    (any::<[u32; 4]>(), 0u8..16, any::<u8>()).prop_map(|([end, maxend, maxwin, maxack], scale, flags)| Side {
        end,
        maxend,
        maxwin,
        maxack,
        scale,
        flags,
    })
}

proptest! {
    #[test]
    fn packing_loses_nothing(
        sides in [side(), side()], state in 0u8..10, last_dir in 0u8..2, last_index in 0u8..6, last_scale in 0u8..16,
        small: [u8; 2], last_win: u16, last: [u32; 3],
    ) {
        let tcp = super::Tcp {
            sides, state, last_dir, last_index, last_scale, last_win,
            retrans: small[0],
            last_flags: small[1],
            last_seq: last[0],
            last_ack: last[1],
            last_end: last[2],
        };
        let words = tcp.pack();
        prop_assert!(words[0] < 1 << 40);
        prop_assert_eq!(super::Tcp::unpack(&words), tcp);
        prop_assert_eq!(super::state(&words), state);
    }
}
