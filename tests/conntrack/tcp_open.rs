//! How TCP connections begin: the handshake and what can come between, simultaneous open, an old SYN-ACK, a SYN of a
//! connection that one side has forgotten.

use crate::flow::{ACK, Flow, PSH, RST, SYN, Segment, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::{NOT_INVALID, STRICT};
use crate::script::{Step, play, play_for, wait};

/// Client and server open a connection.
pub fn handshake() -> Vec<Segment> {
    vec![
        c(SYN, 0, 0).mss().scale(7),
        s(SYN | ACK, 0, 1).mss().scale(7),
        c(ACK, 1, 1),
    ]
}

/// ... and then this happens.
pub fn after_handshake(more: Vec<Step>) -> Vec<Step> {
    handshake().into_iter().map(Step::from).chain(more).collect()
}

#[test]
fn handshake_and_data() {
    let mut twin = Twin::start(Setup::tracked("handshake_and_data", 2, STRICT));
    let steps = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 1, 1).data(100).passes(),
        s(ACK, 1, 101).passes(),
        s(ACK | PSH, 1, 101).data(1000).passes(),
        s(ACK | PSH, 1001, 101).data(1000).passes(),
        c(ACK, 101, 2001).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "plain", steps);
    play(
        &mut twin,
        "with options",
        after_handshake(vec![c(ACK, 1, 1).stamp(7).data(10).passes()]),
    );
    let with_data = [
        c(SYN, 0, 0).mss().data(20).says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 21).data(30).says("SYN_RECV"),
        c(ACK, 21, 31).data(5).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "data in the handshake", with_data);
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn retransmitted_syn() {
    let mut twin = Twin::start(Setup::tracked("retransmitted_syn", 2, STRICT));
    let steps = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        wait(1100),
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(SYN, 0, 0).mss().passes(),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
        s(SYN | ACK, 0, 1).mss().passes(),
        c(ACK, 1, 1).passes(),
    ];
    play(&mut twin, "the same", steps);
    let another = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        c(SYN, 70_000, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 70_001).mss().says("SYN_RECV"),
        c(ACK, 70_001, 1).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "another number", another);
    twin.finish(Share::AtLeast(0.9));
}

#[test]
fn refused() {
    let mut twin = Twin::start(Setup::tracked("refused", 2, STRICT));
    let refused = || {
        [
            c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
            s(RST | ACK, 0, 1).passes().says("gone"),
        ]
    };
    play(&mut twin, "once", refused());
    let again = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(RST | ACK, 0, 1).says("gone"),
        c(SYN, 9, 0).mss().says("SYN_SENT UNREPLIED"),
        s(RST | ACK, 0, 10).says("gone"),
        s(RST | ACK, 0, 10).lost().says("gone"),
        c(SYN, 9, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 10).mss().says("SYN_RECV"),
        c(ACK, 10, 1).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "and again", again);
    // The SEQ of a reset that answers a SYN is zero; others are judged by it.
    let odd = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        Step::from(s(RST, 77, 0)),
        Step::from(s(RST | ACK, 77, 1)),
        c(SYN, 0, 0).mss().passes(),
        Step::from(c(RST, 1, 0)),
    ];
    play(&mut twin, "of odd numbers", odd);
    twin.finish(Share::AtLeast(0.7));
}

#[test]
fn nothing_to_begin_with() {
    let mut twin = Twin::start(Setup::tracked("nothing_to_begin_with", 2, STRICT));
    for segment in [
        s(SYN, 0, 0).mss(),
        s(SYN | ACK, 0, 1).mss(),
        s(ACK, 1, 1),
        s(RST, 1, 0),
        c(SYN | ACK, 0, 1).mss(),
        c(RST, 1, 0),
        c(RST | ACK, 1, 1),
    ] {
        let title = format!("{} first", segment.text());
        play(&mut twin, &title, [segment.lost().says("gone")]);
    }
    twin.finish(Share::AtLeast(0.0));
}

#[test]
fn simultaneous_open() {
    let mut twin = Twin::start(Setup::tracked("simultaneous_open", 2, STRICT));
    let steps = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN, 0, 0).mss().passes().says("SYN_SENT2"),
        c(SYN | ACK, 0, 1).mss().passes(),
        s(SYN | ACK, 0, 1).mss().passes(),
        c(ACK, 1, 1).passes(),
        s(ACK, 1, 1).says("ESTABLISHED ASSURED"),
        c(ACK, 1, 1).data(10).passes(),
    ];
    play(&mut twin, "both", steps);
    let half = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN, 0, 0).mss().says("SYN_SENT2"),
        s(SYN, 0, 0).mss().passes(),
        s(SYN | ACK, 0, 1).mss().passes(),
        c(ACK, 1, 1).passes(),
    ];
    play(&mut twin, "half", half);
    let scaled = [
        c(SYN, 0, 0).mss().scale(7).says("SYN_SENT UNREPLIED"),
        s(SYN, 0, 0).mss().scale(9).says("SYN_SENT2"),
        c(SYN | ACK, 0, 1).mss().scale(7).passes(),
        s(SYN | ACK, 0, 1).mss().scale(9).passes(),
        c(ACK, 1, 1).window(1000).passes(),
        s(ACK, 1, 1).data(1400).window(1000).passes(),
        c(ACK, 1, 1401).data(1400).window(1000).passes(),
    ];
    play(&mut twin, "with scaling", scaled);
    twin.finish(Share::AtLeast(0.9));
}

/// A SYN-ACK for an older SYN of the tuple: not valid, but what it sets off must not keep the right one out.
#[test]
fn old_syn_ack() {
    let mut twin = Twin::start(Setup::tracked("old_syn_ack", 2, STRICT));
    let steps = [
        c(SYN, 0, 0).window(65_535).mss().scale(8).says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 145_824_453, 643_160_523)
            .mss()
            .lost()
            .says("SYN_SENT UNREPLIED"),
        c(SYN, 0, 0).window(65_535).mss().scale(8).passes(),
        s(SYN | ACK, 145_758_918, 1).mss().passes(),
        c(ACK, 1, 145_758_919).says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 1, 145_758_919).data(1).passes(),
    ];
    play(&mut twin, "not of this SYN", steps);
    let with_reset = [
        c(SYN, 0, 0).mss().scale(8).says("SYN_SENT UNREPLIED"),
        Step::from(s(SYN | ACK, 145_824_453, 643_160_523).mss()),
        Step::from(c(RST, 643_160_523, 0)),
        Step::from(c(SYN, 0, 0).mss().scale(8)),
        Step::from(s(SYN | ACK, 145_758_918, 1).mss()),
        Step::from(c(ACK, 1, 145_758_919)),
    ];
    play(&mut twin, "and the client resets it", with_reset);
    twin.finish(Share::AtLeast(0.6));
}

/// The client has forgotten the connection and begins anew; the server answers by an ACK of the old one, is reset, and the
/// next SYN is answered.
#[test]
fn syn_in_an_established_connection() {
    let mut twin = Twin::start(Setup::tracked("syn_in_established", 2, STRICT));
    let challenged = || {
        vec![
            c(ACK | PSH, 1, 1).data(100).passes(),
            s(ACK, 1, 101).passes(),
            c(SYN, 2000, 0).mss().passes().says("ESTABLISHED ASSURED"),
            s(ACK, 1, 101).passes(),
            c(RST, 101, 0).passes(),
        ]
    };
    let mut reopened = challenged();
    reopened.extend([
        c(SYN, 2000, 0).mss().passes().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 9000, 2001).mss().says("SYN_RECV"),
        c(ACK, 2001, 9001).says("ESTABLISHED ASSURED"),
    ]);
    play(&mut twin, "challenge ACK", after_handshake(reopened));
    // The server has forgotten it too: its SYN-ACK answers a SYN that was only noted.
    let in_sync = vec![
        c(SYN, 2_000_000, 0).mss().scale(3).passes().says("ESTABLISHED ASSURED"),
        s(SYN | ACK, 7_000_000, 2_000_001)
            .mss()
            .scale(4)
            .passes()
            .says("SYN_RECV ASSURED"),
        c(ACK, 2_000_001, 7_000_001).window(500).passes(),
        s(ACK, 7_000_001, 2_000_001).data(1000).window(500).passes(),
        c(ACK, 2_000_001, 7_001_001).data(1000).window(500).passes(),
    ];
    play(&mut twin, "answered", after_handshake(in_sync));
    let reset = vec![
        c(SYN, 2_000_000, 0).mss().passes(),
        s(RST | ACK, 0, 2_000_001).passes(),
        c(SYN, 2_000_000, 0).mss().passes(),
    ];
    play(&mut twin, "reset", after_handshake(reset));
    let from_the_server = vec![
        Step::from(s(SYN, 2_000_000, 0).mss()),
        Step::from(c(ACK, 1, 1)),
        Step::from(s(RST, 1, 0)),
        Step::from(s(SYN, 2_000_000, 0).mss()),
    ];
    play(&mut twin, "of the server", after_handshake(from_the_server));
    twin.finish(Share::AtLeast(0.85));
}

/// The server still has an old connection of the tuple, and answers the first SYN by an ACK of it.
#[test]
fn challenge_ack_before_the_handshake() {
    let mut twin = Twin::start(Setup::tracked("challenge_ack", 2, STRICT));
    let steps = [
        c(SYN, 0, 0).mss().scale(8).says("SYN_SENT UNREPLIED"),
        s(ACK, 145_824_453, 643_160_523).passes(),
        c(RST, 643_160_523, 0).window(0).passes(),
        c(SYN, 0, 0).mss().scale(8).passes(),
        s(SYN | ACK, 0, 1).mss().passes(),
        c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "reset", steps);
    let other = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(ACK, 500, 700).passes(),
        s(ACK, 500, 700).passes(),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "ignored", other);
    twin.finish(Share::AtLeast(0.75));
}

#[test]
fn a_second_syn_while_half_open() {
    let mut twin = Twin::start(Setup::tracked("second_syn_half_open", 2, NOT_INVALID));
    let steps = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        Step::from(c(SYN, 5000, 0).mss()),
        Step::from(s(SYN | ACK, 9000, 5001).mss()),
        Step::from(c(ACK, 5001, 9001)),
        Step::from(s(ACK, 9001, 5001).data(10)),
    ];
    play(&mut twin, "of the client", steps);
    let acked = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        Step::from(c(SYN | ACK, 0, 1).mss()),
        Step::from(s(ACK, 1, 1)),
        Step::from(c(ACK, 1, 1)),
    ];
    play(&mut twin, "with an ACK", acked);
    twin.finish(Share::AtLeast(0.6));
}

/// Many clients at once, so that windows are full and tables are not small.
#[test]
fn many_handshakes() {
    let mut twin = Twin::start(Setup::tracked("many_handshakes", 2, STRICT));
    let flows: Vec<Flow> = (0..300).map(|at| Flow::new(at % 2 == 0)).collect();
    let steps = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 1, 1).data(600).passes(),
        s(ACK, 1, 601).passes(),
    ];
    play_for(&mut twin, "many", &flows, steps);
    twin.finish(Share::AtLeast(0.99));
}
