//! How TCP connections end by FIN, and begin again.

use crate::flow::{ACK, FIN, PSH, RST, SYN, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::{NOT_INVALID, STRICT};
use crate::script::{Step, play};
use crate::tcp_open::after_handshake;

/// The client closes first.
fn closed() -> Vec<Step> {
    vec![
        c(FIN | ACK, 1, 1).says("FIN_WAIT ASSURED"),
        s(ACK, 1, 2).says("CLOSE_WAIT ASSURED"),
        s(FIN | ACK, 1, 2).says("LAST_ACK ASSURED"),
        c(ACK, 2, 2).says("TIME_WAIT ASSURED"),
    ]
}

/// A connection that both sides have closed, and then this happens.
pub fn closed_and(more: Vec<Step>) -> Vec<Step> {
    after_handshake(closed().into_iter().chain(more).collect())
}

#[test]
fn both_sides_close() {
    let mut twin = Twin::start(Setup::tracked("both_sides_close", 2, STRICT));
    play(&mut twin, "the client first", after_handshake(closed()));
    let server_first = vec![
        s(FIN | ACK, 1, 1).says("FIN_WAIT ASSURED"),
        c(ACK, 1, 2).says("CLOSE_WAIT ASSURED"),
        c(ACK | PSH, 1, 2).data(500).passes(),
        s(ACK, 2, 501).passes(),
        c(FIN | ACK, 501, 2).says("LAST_ACK ASSURED"),
        s(ACK, 2, 502).says("TIME_WAIT ASSURED"),
        s(ACK, 2, 502).passes(),
    ];
    play(&mut twin, "the server first", after_handshake(server_first));
    let at_once = vec![
        c(FIN | ACK, 1, 1).says("FIN_WAIT ASSURED"),
        s(FIN | ACK, 1, 1).passes(),
        c(ACK, 2, 2).passes(),
        s(ACK, 2, 2).passes(),
    ];
    play(&mut twin, "at once", after_handshake(at_once));
    let with_data = vec![
        c(FIN | ACK | PSH, 1, 1).data(300).says("FIN_WAIT ASSURED"),
        s(FIN | ACK, 1, 302).says("LAST_ACK ASSURED"),
        c(ACK, 302, 2).says("TIME_WAIT ASSURED"),
    ];
    play(&mut twin, "with data", after_handshake(with_data));
    let again = vec![
        c(FIN | ACK, 1, 1).passes(),
        c(FIN | ACK, 1, 1).passes(),
        s(FIN | ACK, 1, 2).passes(),
        c(ACK, 2, 2).says("TIME_WAIT ASSURED"),
        s(FIN | ACK, 1, 2).passes(),
        c(ACK, 2, 2).passes(),
    ];
    play(&mut twin, "retransmitted", after_handshake(again));
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn half_closed_data() {
    let mut twin = Twin::start(Setup::tracked("half_closed_data", 2, STRICT));
    let mut steps = vec![c(FIN | ACK, 1, 1).passes(), s(ACK, 1, 2).passes()];
    for at in 0..8 {
        steps.push(s(ACK | PSH, 1 + 1000 * at, 2).data(1000).passes());
        steps.push(c(ACK, 2, 1001 + 1000 * at).says("CLOSE_WAIT ASSURED"));
    }
    play(&mut twin, "to the client", after_handshake(steps));
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn fin_too_early() {
    let mut twin = Twin::start(Setup::tracked("fin_too_early", 2, STRICT));
    let before_established = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        Step::from(c(FIN | ACK, 1, 1)),
        Step::from(s(FIN | ACK, 1, 1)),
        Step::from(s(SYN | ACK, 0, 1).mss()),
        Step::from(c(FIN | ACK, 1, 1)),
        Step::from(s(ACK, 1, 2)),
    ];
    play(&mut twin, "in the handshake", before_established);
    let at_once = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(FIN | ACK, 1, 1).says("FIN_WAIT"),
        Step::from(s(FIN | ACK, 1, 2)),
        Step::from(c(ACK, 2, 2)),
    ];
    play(&mut twin, "instead of the ACK", at_once);
    twin.finish(Share::AtLeast(0.6));
}

/// A closed tuple is used again before its entry has gone.
#[test]
fn reopening() {
    let mut twin = Twin::start(Setup::tracked("reopening", 2, STRICT));
    let reopened = || {
        vec![
            c(SYN, 80_000, 0).mss().passes().says("SYN_SENT UNREPLIED"),
            s(SYN | ACK, 90_000, 80_001).mss().passes().says("SYN_RECV"),
            c(ACK, 80_001, 90_001).says("ESTABLISHED ASSURED"),
            c(ACK | PSH, 80_001, 90_001).data(10).passes(),
        ]
    };
    play(&mut twin, "from TIME_WAIT", closed_and(reopened()));
    let mut reset = vec![c(RST | ACK, 1, 1).says("CLOSE ASSURED")];
    reset.extend(reopened());
    play(&mut twin, "from CLOSE", after_handshake(reset));
    let mut reset_by_server = vec![s(RST | ACK, 1, 1).says("CLOSE ASSURED")];
    reset_by_server.extend([
        Step::from(c(SYN, 80_000, 0).mss()),
        Step::from(s(SYN | ACK, 90_000, 80_001).mss()),
        Step::from(c(ACK, 80_001, 90_001)),
        Step::from(c(ACK | PSH, 80_001, 90_001).data(10)),
    ]);
    play(&mut twin, "from the server's CLOSE", after_handshake(reset_by_server));
    let mut last_ack = closed();
    last_ack.pop();
    last_ack.extend([
        Step::from(c(SYN, 80_000, 0).mss()),
        Step::from(s(SYN | ACK, 90_000, 80_001).mss()),
        Step::from(c(ACK, 80_001, 90_001)),
    ]);
    play(&mut twin, "from LAST_ACK", after_handshake(last_ack));
    // Behind the server nothing may begin.
    play(
        &mut twin,
        "by the server",
        closed_and(vec![
            Step::from(s(SYN, 80_000, 0).mss()),
            Step::from(c(SYN | ACK, 0, 80_001).mss()),
        ]),
    );
    twin.finish(Share::AtLeast(0.85));
}

#[test]
fn reopening_by_the_server() {
    let mut twin = Twin::start(Setup::tracked("reopening_by_server", 2, NOT_INVALID));
    let steps = vec![
        Step::from(s(SYN, 80_000, 0).mss()),
        Step::from(c(SYN | ACK, 60_000, 80_001).mss()),
        Step::from(s(ACK, 80_001, 60_001)),
        Step::from(s(ACK, 80_001, 60_001).data(10)),
    ];
    play(&mut twin, "from TIME_WAIT", closed_and(steps));
    let steps = vec![
        Step::from(s(RST | ACK, 1, 1)),
        Step::from(s(SYN, 80_000, 0).mss()),
        Step::from(c(SYN | ACK, 60_000, 80_001).mss()),
        Step::from(s(ACK, 80_001, 60_001)),
    ];
    play(&mut twin, "from CLOSE", after_handshake(steps));
    twin.finish(Share::AtLeast(0.7));
}

#[test]
fn after_the_end() {
    let mut twin = Twin::start(Setup::tracked("after_the_end", 2, STRICT));
    let late = vec![
        Step::from(s(ACK, 2, 2)),
        Step::from(c(ACK, 2, 2)),
        Step::from(s(ACK | PSH, 2, 2).data(10)),
        Step::from(c(ACK | PSH, 2, 2).data(10)),
        Step::from(s(SYN | ACK, 0, 1).mss()),
        Step::from(s(RST, 2, 0)),
        Step::from(c(RST, 2, 0)),
        Step::from(s(FIN | ACK, 2, 2)),
    ];
    play(&mut twin, "late segments", closed_and(late));
    twin.finish(Share::AtLeast(0.6));
}
