//! The short cut against the slow path, on segments and windows that lie close to each other.
//!
//! Numbers are drawn around two random origins, so that every inequality fails and holds about as often, wrapping
//! included.

use super::super::super::{Outcome, View};
use super::super::{established, track, transitions};
use super::*;
use crate::table::conntrack::Config;

const OPTIONS: [&[u8]; 4] = [
    &[],
    &[1, 1, 8, 10, 9, 9, 9, 9, 9, 9, 9, 9],
    &[1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 1],
    &[1, 1, 1, 0],
];

/// A side whose numbers lie around 0.
fn near_side() -> impl Strategy<Value = Side> {
    let near = || (-4i32..4).prop_map(i32::cast_unsigned);
    let window = prop::sample::select(vec![0u32, 1, 3, 500, 70_000, u32::MAX]);
    (near(), near(), near(), window, 0u8..16, any::<u8>()).prop_map(|(end, maxend, maxack, maxwin, scale, flags)| {
        Side {
            end,
            maxend,
            maxwin,
            maxack,
            scale,
            flags,
        }
    })
}

/// A connection around the origins, one by direction.
fn near_tcp(origins: [u32; 2]) -> impl Strategy<Value = super::super::Tcp> {
    let last = (0u8..2, 0u8..6, 0u8..16, any::<u8>(), 0u8..5);
    ([near_side(), near_side()], last).prop_map(
        move |(mut sides, (last_dir, last_index, last_scale, last_flags, retrans))| {
            for (side, own, other) in [(0, origins[0], origins[1]), (1, origins[1], origins[0])] {
                let side: &mut Side = &mut sides[side];
                side.end = side.end.wrapping_add(own);
                side.maxend = side.maxend.wrapping_add(own);
                side.maxack = side.maxack.wrapping_add(other);
            }
            super::super::Tcp {
                sides,
                state: 3,
                last_dir,
                last_index,
                retrans,
                last_flags,
                last_scale,
                ..Default::default()
            }
        },
    )
}

fn origins_and_tcp() -> impl Strategy<Value = ([u32; 2], super::super::Tcp)> {
    any::<[u32; 2]>().prop_flat_map(|origins| (Just(origins), near_tcp(origins)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_short_cut_is_the_slow_path(
        (origins, mut tcp) in origins_and_tcp(), offsets in [-3i32..3, -3i32..3], far in prop::bool::weighted(0.1),
        len in 0u32..3, window in prop::sample::select(vec![0u16, 1, 2, 500, u16::MAX]), again: bool, reply: bool,
        status: u16,
        options in prop::sample::select(OPTIONS.to_vec()),
    ) {
        let direction = if reply { Reply } else { Original };
        let other = direction.opposite() as usize;
        let seq = origins[direction as usize].wrapping_add_signed(offsets[0] * if far { 100_000 } else { 1 });
        let header = track::Header {
            seq,
            ack: origins[other].wrapping_add_signed(offsets[1]),
            end: seq.wrapping_add(len),
            window,
            index: transitions::Index::Ack,
            syn: false,
            has_ack: true,
            rst: false,
            options,
        };
        if again {
            (tcp.last_seq, tcp.last_ack, tcp.last_end, tcp.last_win) = (header.seq, header.ack, header.end, window);
        }
        let view = View { confirmed: true, status: Status(status), left: 0, proto: tcp.pack() };
        let config = Config::default();
        let slow = track::judge(&header, &view, direction, &config);
        match established::advance(&header, &view, direction, &config) {
            Some(update) => prop_assert_eq!(Outcome::Valid(update), slow),
            None => {
                let unknown = tcp.sides.iter().any(|side| side.maxwin == 0);
                let sack = tcp.sides[other].flags & flag::SACK_PERM != 0;
                let may_have_blocks = sack && !options.is_empty() && options != OPTIONS[1];
                // A segment in the windows is the last that was taken in, and so are the numbers of this one.
                let mut after = tcp;
                if let Outcome::Valid(update) = slow && let Some(words) = update.proto {
                    after = super::super::Tcp::unpack(&words);
                }
                let learned = !again && (after.last_seq, after.last_ack) != (tcp.last_seq, tcp.last_ack);
                prop_assert!(unknown || may_have_blocks || !learned, "it bails out for a reason");
            }
        }
    }
}

#[test]
fn only_acks_of_established_connections_take_the_short_cut() {
    let taken = |tcp: &Tcp, segment: Segment<'_>| {
        let bytes = segment.bytes(Original);
        let (parsed, frame) = packet(Family::V4, Protocol::TCP, Original, &bytes);
        let config = Config {
            checksum: false,
            ..Config::default()
        };
        let whole = super::super::super::Segment::new(&parsed, &frame);
        let header = track::Header::new(&whole, &config).unwrap();
        established::advance(&header, &tcp.0.view, Original, &config).is_some()
    };
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    assert!(taken(&tcp, data(1, 1, 100)));
    assert!(taken(&tcp, seg(ACK | Flags::PSH, 1, 1)));
    for flags in [SYN, SYN_ACK, FIN_ACK, RST, RST_ACK] {
        assert!(!taken(&tcp, seg(flags, 1, 1)), "flags {flags:#x}");
    }
    let mut new = Tcp::plain();
    new.0.view.confirmed = false;
    assert!(!taken(&new, seg(ACK, 1, 1)));
    tcp.c(seg(FIN_ACK, 1, 1));
    assert!(!taken(&tcp, seg(ACK, 2, 1)), "FIN_WAIT");
}
