//! Handshakes, ends, collisions and forgeries of SCTP.

use super::super::testing::{Flow, Seen, packet};
use super::*;
use crate::packet::Family;
use crate::table::conntrack::Direction::{Original, Reply};
use crate::wire::Protocol;
use proptest::prelude::*;

/// A chunk with the fixed part of an INIT behind it, which holds `tag`.
fn chunk(kind: ChunkType, flags: u8, tag: u32) -> Vec<u8> {
    let [a, b, c, d] = tag.to_be_bytes();
    let mut chunk = vec![kind.0, flags, 0, 20, a, b, c, d];
    chunk.resize(20, 0);
    chunk
}

fn send(flow: &mut Flow, direction: Direction, tag: u32, chunks: &[Vec<u8>]) -> Seen {
    let ports = match direction {
        Original => [0x12, 0x34, 0x0b, 0x59],
        Reply => [0x0b, 0x59, 0x12, 0x34],
    };
    let mut segment = [&ports[..], &tag.to_be_bytes(), &[0; 4], &chunks.concat()].concat();
    Packet::new_checked(&mut segment[..]).unwrap().fill_checksum();
    flow.take(&packet(Family::V4, Protocol::SCTP, direction, &segment), direction)
}

fn plain(kind: ChunkType) -> [Vec<u8>; 1] {
    [chunk(kind, 0, 0)]
}

/// The tags that the original and the reply direction bear.
const ORIGINAL_TAG: u32 = 0xbbbb;
const REPLY_TAG: u32 = 0xaaaa;

fn established() -> Flow {
    let mut flow = Flow::new();
    let steps = [
        (Original, 0, chunk(ChunkType::INIT, 0, REPLY_TAG), "CLOSED", 10),
        (
            Reply,
            REPLY_TAG,
            chunk(ChunkType::INIT_ACK, 0, ORIGINAL_TAG),
            "COOKIE_WAIT",
            3,
        ),
        (
            Original,
            ORIGINAL_TAG,
            chunk(ChunkType::COOKIE_ECHO, 0, 0),
            "COOKIE_ECHOED",
            3,
        ),
        (Reply, REPLY_TAG, chunk(ChunkType::COOKIE_ACK, 0, 0), "ESTABLISHED", 210),
    ];
    for (direction, tag, chunk, word, left) in steps {
        assert!(!flow.assured());
        assert_eq!(send(&mut flow, direction, tag, &[chunk]), Seen::Valid, "{word}");
        assert_eq!((flow.word(), flow.left()), (word, left));
    }
    assert!(flow.assured());
    flow
}

#[test]
fn a_handshake_data_and_the_end() {
    let mut flow = established();
    assert_eq!(exported(&flow.view.proto), (ESTABLISHED, [ORIGINAL_TAG, REPLY_TAG]));
    assert_eq!(
        send(&mut flow, Original, ORIGINAL_TAG, &plain(ChunkType::DATA)),
        Seen::Valid
    );
    assert_eq!(send(&mut flow, Reply, REPLY_TAG, &plain(ChunkType::SACK)), Seen::Valid);
    let steps = [
        (Original, ORIGINAL_TAG, ChunkType::SHUTDOWN, "SHUTDOWN_SENT"),
        (Reply, REPLY_TAG, ChunkType::SHUTDOWN_ACK, "SHUTDOWN_ACK_SENT"),
        (Original, ORIGINAL_TAG, ChunkType::SHUTDOWN_COMPLETE, "CLOSED"),
    ];
    for (direction, tag, kind, word) in steps {
        assert_eq!(send(&mut flow, direction, tag, &plain(kind)), Seen::Valid);
        assert_eq!(flow.word(), word);
    }
    assert_eq!(flow.left(), 10);
}

#[test]
fn a_wrong_tag_is_invalid() {
    for kind in [
        ChunkType::DATA,
        ChunkType::SACK,
        ChunkType::SHUTDOWN,
        ChunkType::ABORT,
        ChunkType::COOKIE_ECHO,
    ] {
        let mut flow = established();
        assert_eq!(send(&mut flow, Original, 0x666, &plain(kind)), Seen::Invalid);
        assert_eq!(
            send(&mut flow, Reply, ORIGINAL_TAG, &plain(kind)),
            Seen::Invalid,
            "the other side's"
        );
        assert_eq!(flow.word(), "ESTABLISHED");
    }
    let mut flow = established();
    assert_eq!(
        send(&mut flow, Original, 1, &[chunk(ChunkType::INIT, 0, 5)]),
        Seen::Invalid,
        "INIT has none"
    );
    // With the T flag an ABORT bears the tag of the other side.
    assert_eq!(
        send(&mut flow, Original, ORIGINAL_TAG, &[chunk(ChunkType::ABORT, 1, 0)]),
        Seen::Invalid
    );
    assert_eq!(
        send(&mut flow, Original, REPLY_TAG, &[chunk(ChunkType::ABORT, 1, 0)]),
        Seen::Valid
    );
    assert_eq!(flow.word(), "CLOSED");
}

#[test]
fn what_may_begin_a_connection() {
    let begins = |tag, chunks: &[Vec<u8>]| send(&mut Flow::new(), Original, tag, chunks) == Seen::Valid;
    assert!(begins(0, &[chunk(ChunkType::INIT, 0, 1)]));
    assert!(!begins(1, &[chunk(ChunkType::INIT, 0, 1)]));
    assert!(!begins(0, &[chunk(ChunkType::INIT, 0, 1)[..12].to_vec()]), "a cut INIT");
    assert!(begins(9, &plain(ChunkType::HEARTBEAT)));
    assert!(begins(9, &plain(ChunkType::SHUTDOWN_ACK)));
    for kind in [
        ChunkType::DATA,
        ChunkType::SACK,
        ChunkType::ABORT,
        ChunkType::SHUTDOWN_COMPLETE,
        ChunkType::COOKIE_ACK,
    ] {
        assert!(!begins(9, &plain(kind)), "{kind:?}");
    }
    assert!(!begins(0, &[]), "no chunk");
}

#[test]
fn chunks_that_cannot_stand_together() {
    let mut flow = established();
    let mut seen = |chunks: &[ChunkType]| {
        let chunks: Vec<_> = chunks.iter().map(|&kind| chunk(kind, 0, REPLY_TAG)).collect();
        send(&mut flow, Original, ORIGINAL_TAG, &chunks)
    };
    assert_eq!(seen(&[ChunkType::SACK, ChunkType::DATA]), Seen::Valid);
    assert_eq!(seen(&[ChunkType::COOKIE_ECHO, ChunkType::DATA]), Seen::Valid);
    assert_eq!(seen(&[ChunkType::DATA, ChunkType::COOKIE_ECHO]), Seen::Invalid);
    assert_eq!(seen(&[ChunkType::DATA, ChunkType::SHUTDOWN_COMPLETE]), Seen::Invalid);
    assert_eq!(seen(&[ChunkType::INIT_ACK, ChunkType::DATA]), Seen::Invalid);
    let mut without_length = chunk(ChunkType::DATA, 0, 0);
    without_length[3] = 0;
    assert_eq!(
        send(&mut flow, Original, ORIGINAL_TAG, &[without_length]),
        Seen::Invalid
    );
}

#[test]
fn a_wrong_crc_is_invalid_unless_nobody_asks() {
    let mut flow = established();
    let segment = [
        &[0x12, 0x34, 0x0b, 0x59][..],
        &ORIGINAL_TAG.to_be_bytes(),
        &[1; 4],
        &chunk(ChunkType::DATA, 0, 0),
    ];
    let packet = packet(Family::V6, Protocol::SCTP, Original, &segment.concat());
    assert_eq!(flow.take(&packet, Original), Seen::Invalid);
    flow.config.checksum = false;
    assert_eq!(flow.take(&packet, Original), Seen::Valid);
}

#[test]
fn a_repeated_init_refreshes_nothing() {
    let mut flow = Flow::new();
    let init = [chunk(ChunkType::INIT, 0, REPLY_TAG)];
    send(&mut flow, Original, 0, &init);
    flow.pass(500);
    assert_eq!(send(&mut flow, Original, 0, &init), Seen::Valid);
    assert_eq!(flow.left(), 5);
}

/// Both open, and the INIT ACK of the handshake that was given up comes late: it must not replace the tags that stand.
#[test]
fn a_late_init_ack_after_a_collision_is_invalid() {
    let mut flow = Flow::new();
    send(&mut flow, Original, 0, &[chunk(ChunkType::INIT, 0, 0xa1)]);
    assert_eq!(
        send(&mut flow, Reply, 0, &[chunk(ChunkType::INIT, 0, 0xb1)]),
        Seen::Valid
    );
    assert_eq!(
        send(&mut flow, Original, 0xb1, &[chunk(ChunkType::INIT_ACK, 0, 0xa1)]),
        Seen::Valid
    );
    assert_eq!(
        send(&mut flow, Reply, 0xa1, &[chunk(ChunkType::INIT_ACK, 0, 0xb2)]),
        Seen::Invalid
    );
    assert_eq!(exported(&flow.view.proto).1, [0xb1, 0xa1]);
}

/// An INIT that is late itself does not open the way for the late INIT ACK that it brings about.
#[test]
fn a_stale_init_is_not_noted() {
    let mut flow = established();
    assert_eq!(
        send(&mut flow, Original, 0, &[chunk(ChunkType::INIT, 0, REPLY_TAG)]),
        Seen::Valid
    );
    assert_eq!(
        send(&mut flow, Reply, REPLY_TAG, &[chunk(ChunkType::INIT_ACK, 0, 0xdead)]),
        Seen::Invalid
    );
    assert_eq!(exported(&flow.view.proto).1, [ORIGINAL_TAG, REPLY_TAG]);
    // A restart has another tag, and its INIT ACK counts.
    assert_eq!(
        send(&mut flow, Original, 0, &[chunk(ChunkType::INIT, 0, 0xa2)]),
        Seen::Valid
    );
    assert_eq!(
        send(&mut flow, Reply, 0xa2, &[chunk(ChunkType::INIT_ACK, 0, 0xb2)]),
        Seen::Valid
    );
    assert_eq!(exported(&flow.view.proto).1, [0xb2, 0xa2]);
}

#[test]
fn heartbeats_open_another_path() {
    let mut flow = Flow::new();
    send(&mut flow, Original, 0xb, &plain(ChunkType::HEARTBEAT));
    assert_eq!((flow.word(), flow.left()), ("HEARTBEAT_SENT", 30));
    assert_eq!(
        send(&mut flow, Reply, 0xa, &plain(ChunkType::DATA)),
        Seen::Invalid,
        "no tag is known yet"
    );
    assert_eq!(
        send(&mut flow, Reply, 0xa, &plain(ChunkType::HEARTBEAT_ACK)),
        Seen::Valid
    );
    assert_eq!((flow.word(), flow.assured()), ("ESTABLISHED", true));
    assert_eq!(exported(&flow.view.proto).1, [0xb, 0xa]);
}

#[test]
fn a_heartbeat_with_a_new_tag_waits_for_its_answer() {
    let mut flow = established();
    flow.pass(1000);
    assert_eq!(
        send(&mut flow, Original, 0xb2, &plain(ChunkType::HEARTBEAT)),
        Seen::Valid
    );
    assert_eq!(flow.left(), 200, "it refreshes nothing");
    let bundled = [chunk(ChunkType::HEARTBEAT, 0, 0), chunk(ChunkType::DATA, 0, 0)];
    assert_eq!(
        send(&mut flow, Original, 0xb2, &bundled),
        Seen::Invalid,
        "data must have the right one"
    );
    assert_eq!(
        send(&mut flow, Reply, 0xa2, &plain(ChunkType::HEARTBEAT_ACK)),
        Seen::Valid
    );
    assert_eq!(exported(&flow.view.proto).1, [0, 0xa2]);
    assert_eq!(
        send(&mut flow, Reply, 0xa3, &plain(ChunkType::HEARTBEAT_ACK)),
        Seen::Invalid,
        "not asked for"
    );
}

proptest! {
    #[test]
    fn packing_loses_nothing(state in 0u8..9, heartbeat_failed: bool, last_dir in 0u8..2, init: [bool; 2], tags: [u32; 2]) {
        let sctp = Sctp { state, heartbeat_failed, last_dir, init, tags };
        let words = sctp.pack();
        prop_assert!(words[0] < 1 << 40);
        prop_assert_eq!(Sctp::unpack(&words), sctp);
        prop_assert_eq!(exported(&imported(state, tags)), (state, tags));
    }
}
