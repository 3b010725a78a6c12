//! Windows: the four inequalities, scaling, SACK, and what a sender may get wrong.
//!
//! conntrack_ack_loss_stall of the kernel's packetdrill selftests is the theme of one.

use super::*;

/// Window scaling by 2^7 and SACK.
const SCALE_SACK: [u8; 8] = [3, 3, 7, 4, 2, 0, 0, 0];

fn judged(tcp: &mut Tcp, direction: Direction, segment: Segment<'_>) -> Seen {
    let before = tcp.0.view;
    let seen = tcp.send(direction, segment);
    tcp.0.view = before;
    seen
}

#[test]
fn data_must_lie_where_the_receiver_allows_it() {
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    let edge = 1 + i32::from(WINDOW);
    assert_eq!(
        judged(&mut tcp, Original, data(edge, 1, 1)),
        Seen::Valid,
        "I: at the edge"
    );
    assert_eq!(
        judged(&mut tcp, Original, data(200_000, 1, 1)),
        Seen::Invalid,
        "I: beyond it"
    );
    // What is late is only late: it passes, and changes nothing.
    let before = tcp.0.view.proto;
    assert_eq!(tcp.c(data(-200_000, 1, 1)).0, "ESTABLISHED", "II");
    assert_eq!(tcp.0.view.proto, before);
}

#[test]
fn acknowledgements_must_be_of_what_was_seen() {
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    assert_eq!(judged(&mut tcp, Reply, seg(ACK, 1, 101)), Seen::Valid, "III: all of it");
    assert_eq!(judged(&mut tcp, Reply, seg(ACK, 1, 102)), Seen::Invalid, "III: more");
    let before = tcp.0.view.proto;
    assert_eq!(tcp.s(seg(ACK, 1, 101 - 66_001)).0, "ESTABLISHED", "IV: too old");
    assert_eq!(tcp.0.view.proto, before);
    tcp.s(seg(ACK, 1, 101 - 66_000));
    assert_ne!(tcp.0.view.proto, before, "IV: just not too old");
}

#[test]
fn a_liberal_configuration_takes_all_but_learns_from_none_of_it() {
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    tcp.0.config.tcp_be_liberal = true;
    let sides = tcp.sides();
    assert_eq!(tcp.c(data(2_000_000, 1, 1)).0, "ESTABLISHED");
    assert_eq!(tcp.s(seg(ACK, 1, 2_000_001)).0, "ESTABLISHED");
    assert_eq!(tcp.sides(), sides);
    assert_eq!(tcp.send(Original, seg(RST, -20, 0)), Seen::Invalid, "but not an RST");
}

#[test]
fn windows_are_scaled_if_both_sides_do() {
    let reach = |syn: &[u8], syn_ack: &[u8]| {
        let mut tcp = Tcp::established(syn, syn_ack);
        tcp.s(seg(ACK, 1, 1));
        judged(&mut tcp, Original, data(1 + 128 * i32::from(WINDOW), 1, 1))
    };
    assert_eq!(reach(&SCALE_SACK, &SCALE_SACK), Seen::Valid);
    assert_eq!(reach(&SCALE_SACK, &[]), Seen::Invalid);
    assert_eq!(reach(&[], &SCALE_SACK), Seen::Invalid);
}

#[test]
fn the_window_of_a_syn_is_not_scaled() {
    let mut tcp = Tcp::new();
    tcp.c(Segment {
        options: &SCALE_SACK,
        ..seg(SYN, 0, 0)
    });
    tcp.s(Segment {
        options: &SCALE_SACK,
        ..seg(SYN_ACK, 0, 1)
    });
    assert_eq!(tcp.sides().map(|side| side.maxwin), [u32::from(WINDOW); 2]);
    assert_eq!(tcp.sides()[0].maxend, CLIENT.wrapping_add(1 + u32::from(WINDOW)));
}

/// A SACK option with one block, aligned: two NOPs before it.
fn sack(left: i32, right: i32) -> [u8; 12] {
    let mut option = [1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    option[4..8].copy_from_slice(&CLIENT.wrapping_add_signed(left).to_be_bytes());
    option[8..].copy_from_slice(&CLIENT.wrapping_add_signed(right).to_be_bytes());
    option
}

#[test]
fn sack_counts_as_an_acknowledgement() {
    let with = |option: &[u8]| {
        let mut tcp = Tcp::established(&SCALE_SACK, &SCALE_SACK);
        tcp.c(data(1, 1, 100));
        tcp.c(data(101, 1, 100));
        tcp.send(
            Reply,
            Segment {
                options: option,
                ..seg(ACK, 1, 1)
            },
        )
    };
    assert_eq!(with(&sack(101, 201)), Seen::Valid);
    assert_eq!(with(&sack(101, 202)), Seen::Invalid, "of what was not seen");
    let mut malformed = sack(101, 202);
    malformed[3] = 9;
    assert_eq!(with(&malformed), Seen::Valid, "a length that no blocks have");
    malformed[3] = 11;
    assert_eq!(with(&malformed), Seen::Valid, "cut");
    // Behind a malformed one, the next counts.
    let both = [&[5, 3, 0, 1][..], &sack(101, 202)].concat();
    assert_eq!(with(&both), Seen::Invalid);
    let timestamp = [1, 1, 8, 10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(with(&timestamp), Seen::Valid);
    // Nobody agreed on SACK: it says nothing.
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    let options = sack(101, 9_000);
    let segment = Segment {
        options: &options,
        ..seg(ACK, 1, 1)
    };
    assert_eq!(tcp.send(Reply, segment), Seen::Valid);
}

/// A sender that overruns the window a little is not told so: were its data not noted, all acknowledgements of it would be
/// of data that was never seen, and the connection would stall.
#[test]
fn acknowledgements_of_what_overran_the_window_are_good() {
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    let edge = 1 + i32::from(WINDOW);
    tcp.c(data(1, 1, usize::from(WINDOW)));
    tcp.0.pass(100);
    let left = tcp.0.left();
    assert_eq!(
        tcp.c(data(edge + 1, 1, 100)),
        ("ESTABLISHED", left),
        "it passes, and refreshes nothing"
    );
    assert_eq!(tcp.s(seg(ACK, 1, edge + 101)), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.c(data(edge + 101, 1, 100)).0, "ESTABLISHED");
    // More than a window too much is another thing.
    assert_eq!(judged(&mut tcp, Original, data(3 * edge, 1, 30_000)), Seen::Invalid);
}

#[test]
fn data_shortens_the_timeout_until_it_is_acknowledged() {
    let mut tcp = Tcp::plain();
    assert_eq!(tcp.s(data(1, 1, 10)), ("ESTABLISHED", UNACK));
    assert_eq!(tcp.s(data(11, 1, 10)), ("ESTABLISHED", UNACK));
    assert_eq!(tcp.c(seg(ACK, 1, 11)), ("ESTABLISHED", UNACK), "not all of it");
    assert_eq!(tcp.c(seg(ACK, 1, 21)), ("ESTABLISHED", DAYS));
    tcp.0.config.tcp[11] = 100 * DAYS;
    assert_eq!(tcp.s(data(21, 1, 10)), ("ESTABLISHED", DAYS), "it only ever shortens");
}

#[test]
fn a_keepalive_and_its_answer_pass() {
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    assert_eq!(tcp.c(seg(ACK, 0, 1)), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.s(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
    // Picked up by a keepalive, which has the number before the next: the answer acknowledges one more.
    let mut tcp = Tcp::new();
    tcp.c(seg(ACK, 99, 50));
    assert_eq!(tcp.s(seg(ACK, 50, 100)).0, "ESTABLISHED");
    assert_eq!(tcp.sides()[0].end, CLIENT.wrapping_add(100));
}
