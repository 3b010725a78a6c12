//! RST, challenge ACK (RFC 5961), and tuples that are used again.
//!
//! The themes of the kernel's packetdrill selftests conntrack_inexact_rst, conntrack_rst_invalid,
//! conntrack_syn_challenge_ack, conntrack_synack_old and conntrack_synack_reuse.

use super::*;

#[test]
fn a_refused_connection_is_over_at_once() {
    let mut tcp = Tcp::new();
    tcp.c(seg(SYN, 0, 0));
    // An RST that answers a SYN has number 0.
    let refusal = seg(RST_ACK, 0i32.wrapping_sub_unsigned(SERVER), 1);
    assert_eq!(tcp.send(Reply, refusal), Seen::Valid);
    assert_eq!(tcp.0.word(), "-");
}

#[test]
fn an_exact_rst_closes() {
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    tcp.s(seg(ACK, 1, 101));
    assert_eq!(tcp.c(seg(RST, 101, 0)), ("CLOSE", 10));
}

#[test]
fn an_inexact_rst_closes_nothing_and_the_challenge_brings_the_connection_back() {
    let mut tcp = Tcp::plain();
    tcp.s(data(1, 1, 10));
    tcp.c(seg(ACK, 1, 11));
    assert_eq!(
        tcp.s(seg(RST, 500, 0)),
        ("ESTABLISHED", 10),
        "in the window, but not where it should be"
    );
    // The RST was taken for the end of what the server sent: what it acknowledges less of is not all of it.
    assert_eq!(
        tcp.c(seg(ACK, 1, 11)),
        ("ESTABLISHED", UNACK),
        "the client asks for proof"
    );
    assert_eq!(tcp.s(seg(RST, 11, 0)), ("CLOSE", 10), "there it is");
}

#[test]
fn an_rst_right_behind_data_is_exact_enough() {
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    tcp.c(data(1, 1, 19));
    assert_eq!(tcp.c(seg(RST_ACK, 20, 1)), ("CLOSE", 10));
}

#[test]
fn an_rst_out_of_the_window_is_invalid() {
    for (number, name) in [
        (0, "acknowledged before"),
        (-50_000, "long ago"),
        (2_000_000, "beyond the window"),
    ] {
        let mut tcp = Tcp::plain();
        tcp.c(data(1, 1, 100));
        tcp.s(seg(ACK, 1, 101));
        assert_eq!(tcp.send(Original, seg(RST, number, 0)), Seen::Invalid, "{name}");
        assert_eq!((tcp.0.word(), tcp.0.left()), ("ESTABLISHED", DAYS), "{name}");
    }
}

#[test]
fn an_rst_of_old_numbers_may_be_let_through() {
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    tcp.s(seg(ACK, 1, 101));
    tcp.0.config.tcp_ignore_invalid_rst = true;
    assert_eq!(tcp.c(seg(RST, 50, 0)), ("ESTABLISHED", 10));
}

#[test]
fn an_rst_of_a_closing_connection_is_not_judged() {
    let mut tcp = Tcp::plain();
    tcp.c(seg(FIN_ACK, 1, 1));
    assert_eq!(tcp.s(seg(RST, -900_000, 0)), ("CLOSE", 10));
    assert_eq!(tcp.c(seg(ACK, 2, 1)), ("CLOSE", 10));
}

#[test]
fn ends_that_close_out_of_the_window_need_not_be_kept_for_days() {
    let mut tcp = Tcp::plain();
    tcp.s(seg(ACK, 1, 1));
    let far = 2_000_000;
    assert_eq!(tcp.send(Original, seg(FIN_ACK, far, 1)), Seen::Invalid);
    assert_eq!(tcp.0.left(), DAYS, "one end alone says nothing");
    assert_eq!(tcp.send(Original, seg(FIN_ACK, far, 1)), Seen::Invalid);
    assert_eq!(tcp.0.left(), DAYS);
    assert_eq!(tcp.send(Reply, seg(RST, far, 0)), Seen::Invalid);
    assert_eq!((tcp.0.word(), tcp.0.left()), ("ESTABLISHED", UNACK));
    tcp.0.pass(20_000);
    assert_eq!(tcp.send(Reply, seg(RST, far, 0)), Seen::Invalid);
    assert_eq!(tcp.0.left(), 100, "soon over anyway");
}

/// The server still knows a connection before this one, asks for proof, and gets it.
#[test]
fn a_challenge_to_a_syn_is_let_through_and_its_rst_ends_the_connection() {
    let mut tcp = Tcp::new();
    tcp.c(seg(SYN, 0, 0));
    let challenge = seg(ACK, -70_000, -90_000);
    assert_eq!(tcp.s(challenge), ("SYN_SENT", 120));
    assert_eq!(tcp.c(seg(RST, -90_000, 0)), ("CLOSE", 10));
    assert_eq!(tcp.send(Original, seg(SYN, 0, 0)), Seen::Reopened);
    assert_eq!(tcp.s(seg(SYN_ACK, 0, 1)), ("SYN_RECV", 60));
    assert_eq!(tcp.c(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
}

#[test]
fn a_challenge_in_last_ack_does_not_acknowledge_the_fin() {
    let mut tcp = Tcp::plain();
    tcp.c(seg(FIN_ACK, 1, 1));
    tcp.s(seg(FIN_ACK, 1, 1));
    assert_eq!(tcp.0.word(), "LAST_ACK");
    // The client is gone, and opens anew.
    assert_eq!(tcp.c(seg(SYN, 40_000, 0)).0, "LAST_ACK");
    assert_eq!(tcp.s(seg(ACK, 2, 2)).0, "LAST_ACK", "the server asks for proof");
    assert_eq!(tcp.c(seg(RST, 2, 0)), ("CLOSE", 10));
    assert_eq!(tcp.send(Original, seg(SYN, 40_000, 0)), Seen::Reopened);
    // Without a SYN before it, that ACK is what it seems.
    let mut tcp = Tcp::plain();
    tcp.c(seg(FIN_ACK, 1, 1));
    tcp.s(seg(FIN_ACK, 1, 1));
    assert_eq!(tcp.s(seg(ACK, 2, 2)).0, "TIME_WAIT");
}

/// A SYN ACK of an earlier connection comes late. It is invalid, or too old; the right one is taken all the same, though its
/// number is lower.
#[test]
fn an_old_syn_ack_does_no_harm() {
    let edge = i32::from(WINDOW);
    for (ack, seen) in [(500_000, Seen::Invalid), (-500_000, Seen::Valid)] {
        let mut tcp = Tcp::new();
        tcp.c(seg(SYN, 0, 0));
        assert_eq!(tcp.send(Reply, seg(SYN_ACK, edge, ack)), seen);
        assert_eq!(tcp.c(seg(SYN, 0, 0)).0, "SYN_SENT");
        assert_eq!(tcp.s(seg(SYN_ACK, 0, 1)), ("SYN_RECV", 60));
        assert_eq!(tcp.c(seg(ACK, 1, 1)), ("ESTABLISHED", DAYS));
        assert!(tcp.0.assured());
    }
    // The client may reset it first: that is too old as well, and passes; then it begins again.
    let mut tcp = Tcp::new();
    tcp.c(seg(SYN, 0, 0));
    tcp.s(seg(SYN_ACK, edge, -500_000));
    assert_eq!(tcp.c(seg(RST, -500_000, 0)).0, "SYN_SENT");
    assert_eq!(
        tcp.send(Original, seg(RST, 500_000, 0)),
        Seen::Invalid,
        "nobody asked for that"
    );
    assert_eq!(tcp.c(seg(SYN, 0, 0)).0, "SYN_SENT");
}

/// The client lost its state, and opens anew with the same ports; the server agrees.
#[test]
fn a_syn_of_an_established_tuple_is_right_if_the_server_says_so() {
    let options = [4, 2, 3, 3, 5, 0, 0, 0];
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    let again = Segment {
        options: &options,
        ..seg(SYN, 300_000, 0)
    };
    assert_eq!(tcp.c(again), ("ESTABLISHED", UNACK), "perhaps");
    assert_eq!(
        tcp.s(seg(SYN_ACK, 700_000, 300_000)).0,
        "ESTABLISHED",
        "of something else"
    );
    assert_eq!(tcp.c(again).0, "ESTABLISHED");
    let answer = Segment {
        options: &options,
        ..seg(SYN_ACK, 700_000, 300_001)
    };
    assert_eq!(tcp.s(answer), ("SYN_RECV", 60));
    assert_eq!(tcp.c(seg(ACK, 300_001, 700_001)), ("ESTABLISHED", DAYS));
    let scales = tcp.sides().map(|side| side.scale);
    assert_eq!(scales, [5, 5], "what was agreed on counts");
}

/// The client lost its state, but the server has it: it asks for proof.
#[test]
fn a_syn_of_an_established_tuple_is_challenged() {
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    tcp.s(seg(ACK, 1, 101));
    assert_eq!(tcp.c(seg(SYN, 300_000, 0)).0, "ESTABLISHED");
    assert_eq!(tcp.s(seg(ACK, 1, 101)), ("ESTABLISHED", DAYS));
    assert_eq!(tcp.c(seg(RST, 101, 0)), ("CLOSE", 10));
    assert_eq!(tcp.send(Original, seg(SYN, 300_000, 0)), Seen::Reopened);
}

/// The server has no such connection, and says so about the SYN that was let through.
#[test]
fn an_rst_about_an_ignored_syn_is_not_judged_by_old_windows() {
    let mut tcp = Tcp::plain();
    tcp.c(data(1, 1, 100));
    assert_eq!(tcp.c(seg(SYN, 300_000, 0)).0, "ESTABLISHED");
    let refusal = seg(RST_ACK, 5_000_000, 300_001);
    assert_eq!(tcp.s(refusal), ("CLOSE", 10));
}

/// `segment` whose acknowledgement field has this number, with the flag or without.
fn with_field(segment: Segment<'_>, direction: Direction, number: u32) -> Vec<u8> {
    let mut bytes = segment.bytes(direction);
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Whoever sent the SYN does not answer it.
#[test]
fn an_rst_of_the_side_whose_syn_was_ignored_is_judged() {
    for flags in [RST, RST_ACK] {
        let mut tcp = Tcp::plain();
        tcp.c(data(1, 1, 100));
        tcp.s(seg(ACK, 1, 101));
        assert_eq!(tcp.c(seg(SYN, 300_000, 0)).0, "ESTABLISHED");
        let own = with_field(seg(flags, 5_000_000, 0), Original, CLIENT.wrapping_add(300_001));
        assert_eq!(tcp.bytes(Original, own), Seen::Invalid, "{flags:#x}");
        assert_eq!(tcp.0.word(), "ESTABLISHED", "{flags:#x}");
    }
}

/// Of one that is half open the reset of the server, of which the client has acknowledged nothing, is taken for an answer to
/// the last ACK, if its field fits, whatever its flags.
#[test]
fn an_rst_of_a_half_open_connection_is_not_judged_if_its_field_is_that_of_the_last_ack() {
    for flags in [RST, RST_ACK] {
        let mut tcp = Tcp::new();
        tcp.c(seg(SYN, 0, 0));
        tcp.s(seg(SYN_ACK, 0, 1));
        assert_eq!(tcp.s(seg(ACK, 1, 1)).0, "SYN_RECV");
        let reset = seg(flags, 5_000_000, 0);
        let (fits, other) = (SERVER.wrapping_add(1), SERVER.wrapping_add(2));
        for (direction, number) in [(Reply, other), (Original, fits)] {
            let mut judged = Tcp(tcp.0.clone());
            let seen = judged.bytes(direction, with_field(reset, direction, number));
            assert_eq!(seen, Seen::Invalid, "{flags:#x} {direction:?}");
        }
        assert_eq!(
            tcp.bytes(Reply, with_field(reset, Reply, fits)),
            Seen::Valid,
            "{flags:#x}"
        );
        assert_eq!(tcp.0.word(), "CLOSE", "{flags:#x}");
    }
}

#[test]
fn a_time_wait_of_either_end_may_be_opened_anew() {
    for opener in [Original, Reply] {
        let mut tcp = Tcp::plain();
        tcp.c(seg(FIN_ACK, 1, 1));
        tcp.s(seg(FIN_ACK, 1, 2));
        assert_eq!(tcp.c(seg(ACK, 2, 2)), ("TIME_WAIT", 120));
        assert_eq!(tcp.send(opener, seg(SYN, 500_000, 0)), Seen::Reopened, "{opener:?}");
        assert_eq!(tcp.0.word(), "SYN_SENT");
    }
}
