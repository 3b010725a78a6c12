//! Resets: which close a connection, and which are not believed.

use crate::flow::{ACK, FIN, Flow, PSH, RST, SYN, Segment, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, one, play};
use crate::tcp_open::after_handshake;

/// A handshake, a thousand bytes each way, all acknowledged; then more.
fn with_data(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        c(ACK | PSH, 1, 1).data(1000).passes(),
        s(ACK | PSH, 1, 1001).data(1000).passes(),
        c(ACK, 1001, 1001).says("ESTABLISHED ASSURED"),
    ];
    steps.extend(more);
    after_handshake(steps)
}

fn alone(segment: Segment) -> Vec<Step> {
    with_data(vec![segment.passes().says("CLOSE ASSURED")])
}

#[test]
fn exact() {
    let mut twin = Twin::start(Setup::tracked("reset_exact", 2, STRICT));
    play(&mut twin, "of the client", alone(c(RST, 1001, 0)));
    play(&mut twin, "of the server", alone(s(RST, 1001, 0)));
    play(&mut twin, "with an ACK", alone(c(RST | ACK, 1001, 1001)));
    play(
        &mut twin,
        "with an ACK of zero",
        alone(s(RST | ACK, 1001, 0).ack_zero()),
    );
    play(&mut twin, "with data", alone(s(RST | ACK, 1001, 1001).data(40)));
    let both = with_data(vec![
        c(RST, 1001, 0).says("CLOSE ASSURED"),
        Step::from(s(RST, 1001, 0)),
        Step::from(s(ACK, 1001, 1001)),
        Step::from(c(ACK, 1001, 1001)),
        Step::from(c(RST, 1001, 0)),
    ]);
    play(&mut twin, "both", both);
    twin.finish(Share::AtLeast(0.9));
}

/// In the window, but not what the other side has acknowledged: such a reset closes no established connection.
#[test]
fn inexact() {
    let mut twin = Twin::start(Setup::tracked("reset_inexact", 2, STRICT));
    for (title, segment) in [
        ("ahead", c(RST, 1010, 0)),
        ("ahead of the server", s(RST, 1900, 0)),
        ("with an ACK", c(RST | ACK, 1010, 1001)),
    ] {
        let steps = with_data(vec![
            Step::from(segment.clone()),
            Step::from(s(ACK | PSH, 1001, 1001).data(10)),
            Step::from(c(ACK, 1001, 1011)),
            Step::from(segment),
        ]);
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.75));
}

/// When a side has closed, the other's inexact reset ends it all the same.
#[test]
fn inexact_after_fin() {
    let mut twin = Twin::start(Setup::tracked("reset_inexact_after_fin", 2, STRICT));
    let steps = with_data(vec![
        s(FIN | ACK, 1001, 1001).says("FIN_WAIT ASSURED"),
        c(ACK, 1001, 1002).says("CLOSE_WAIT ASSURED"),
        c(RST | ACK, 1001, 1002).says("CLOSE ASSURED"),
        Step::from(s(RST, 2001, 0)),
    ]);
    play(&mut twin, "of the client", steps);
    let steps = with_data(vec![
        c(FIN | ACK, 1001, 1001).passes(),
        s(ACK, 1001, 1002).passes(),
        Step::from(s(RST, 1500, 0)),
        Step::from(c(ACK, 1002, 1001)),
        Step::from(s(RST, 1001, 0)),
    ]);
    play(&mut twin, "of the server", steps);
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn out_of_window() {
    let mut twin = Twin::start(Setup::tracked("reset_out_of_window", 2, STRICT));
    for (title, segment) in [
        ("long past", s(RST, 0u32.wrapping_sub(200_000), 0)),
        ("already acknowledged", s(RST, 500, 0)),
        ("far ahead", s(RST, 3_000_000, 0)),
        ("far ahead of the client", c(RST | ACK, 3_000_000, 1001)),
        ("already acknowledged, of the client", c(RST, 10, 0)),
    ] {
        let steps = with_data(vec![
            segment.lost().says("ESTABLISHED ASSURED"),
            c(ACK | PSH, 1001, 1001).data(10).passes(),
            s(ACK, 1001, 1011).passes(),
        ]);
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn ignore_invalid() {
    let setup = Setup::tracked("reset_ignore_invalid", 2, STRICT)
        .with(&["sysctl net.netfilter.nf_conntrack_tcp_ignore_invalid_rst=1"]);
    let mut twin = Twin::start(setup);
    for (title, segment) in [
        ("already acknowledged", s(RST, 500, 0)),
        ("ahead", s(RST, 1900, 0)),
        ("far ahead", c(RST, 3_000_000, 0)),
        ("exact", c(RST, 1001, 0)),
    ] {
        let steps = with_data(vec![
            Step::from(segment),
            Step::from(c(ACK | PSH, 1001, 1001).data(10)),
            Step::from(s(ACK, 1001, 1011)),
        ]);
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.75));
}

/// A reset while the connection is half open, by either side, of a right and of a wrong number.
#[test]
fn half_open() {
    let mut twin = Twin::start(Setup::tracked("reset_half_open", 2, STRICT));
    for (title, segment) in [
        ("of the client", c(RST, 1, 0)),
        ("of the client, with an ACK", c(RST | ACK, 1, 1)),
        ("of the server", s(RST, 1, 0)),
        ("of the server, with an ACK", s(RST | ACK, 1, 1)),
        ("ahead", c(RST, 100, 0)),
        ("past", s(RST, 0u32.wrapping_sub(100), 0)),
    ] {
        let steps = vec![
            c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
            s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
            Step::from(segment),
            Step::from(c(ACK, 1, 1)),
            Step::from(s(ACK, 1, 1)),
        ];
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.6));
}

/// A segment whose field acknowledges up to `number` of what its own sender has sent, with the flag or without.
fn of_its_own(segment: Segment, number: u32) -> Step {
    let text = format!("{} of its own {number}", segment.text());
    let from = segment.from;
    one(&text, from, move |flow: &Flow| {
        let relative = flow.isn[from].wrapping_add(number).wrapping_sub(flow.isn[1 - from]);
        flow.tcp(&segment.clone().ack_of(relative))
    })
}

/// The client opens anew, which is let through. A reset about it is the server's to send; so is one of a wrong number, which is
/// not judged. Of the client itself it is judged like others.
#[test]
fn about_an_ignored_syn() {
    let mut twin = Twin::start(Setup::tracked("reset_about_a_syn", 2, STRICT));
    let far = 5_000_000;
    let ignored = |more: Vec<Step>| {
        let mut steps = vec![c(SYN, 300_000, 0).mss().passes()];
        steps.extend(more);
        with_data(steps)
    };
    let closes = s(RST | ACK, far, 300_001).passes().says("CLOSE ASSURED");
    play(&mut twin, "of the server", ignored(vec![closes]));
    let other = s(RST | ACK, far, 300_002).lost().says("ESTABLISHED ASSURED");
    play(&mut twin, "of the server, about another", ignored(vec![other]));
    for flags in [RST | ACK, RST] {
        let own = of_its_own(c(flags, far, 0), 300_001);
        let own = own.lost().says("ESTABLISHED ASSURED");
        let goes_on = c(ACK | PSH, 1001, 1001).data(10).passes();
        play(&mut twin, "of the client", ignored(vec![own, goes_on]));
    }
    twin.finish(Share::AtLeast(0.8));
}

/// The server has acknowledged once more, and that was the last: its reset whose field is the end of that is not judged, with
/// whatever flags. The client's is, for it must have the number that the server has acknowledged.
#[test]
fn about_the_last_ack_of_a_half_open_connection() {
    let mut twin = Twin::start(Setup::tracked("reset_about_an_ack", 2, STRICT));
    let far = 5_000_000;
    let half_open = |reset: Step| {
        vec![
            c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
            s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
            s(ACK, 1, 1).says("SYN_RECV"),
            reset,
        ]
    };
    for flags in [RST | ACK, RST] {
        let closes = |step: Step| step.passes().says("CLOSE");
        let own = of_its_own(s(flags, far, 0), 1);
        play(&mut twin, "of the server", half_open(closes(own)));
        let other = c(flags, far, 0).ack_of(1).lost();
        play(&mut twin, "of the client", half_open(other));
        let wrong = of_its_own(s(flags, far, 0), 2);
        play(&mut twin, "of the server, of more", half_open(wrong.lost()));
    }
    twin.finish(Share::AtLeast(0.7));
}
