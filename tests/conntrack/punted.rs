//! TCP segments that are the kernel's for their header, and what becomes of their connection: the kernel's table must judge
//! them as bypath's does, and bypath's must go on where the kernel's has been.

use crate::flow::{ACK, FIN, PSH, RST, SYN, Segment, c, s};
use crate::lab::packet::Packet;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, play, wait};
use crate::tcp_close::closed_and;
use crate::tcp_open::after_handshake;

/// IPv4 options, or an IPv6 extension header.
fn with_options(segment: Segment) -> Step {
    segment.with("with options", |packet: &mut Packet| match packet.src.is_ipv4() {
        true => packet.options = vec![1, 1, 1, 0],
        false => packet.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
    })
}

fn spent(segment: Segment) -> Step {
    segment.with("with a spent hop limit", |packet: &mut Packet| packet.ttl = 1)
}

/// An option is no way round the windows.
#[test]
fn out_of_the_window() {
    let mut twin = Twin::start(Setup::tracked("punted_out_of_window", 2, STRICT));
    let data = |more: Vec<Step>| {
        let steps = vec![
            c(ACK | PSH, 1, 1).data(100).passes(),
            s(ACK | PSH, 1, 101).data(100).passes(),
            c(ACK, 101, 101).says("ESTABLISHED ASSURED"),
        ];
        after_handshake(steps.into_iter().chain(more).collect())
    };
    let steps = data(vec![
        with_options(c(ACK | PSH, 400_000_000, 101).data(10)).lost(),
        with_options(s(ACK | PSH, 400_000_000, 101).data(10)).lost(),
        with_options(c(RST, 400_000_000, 0)).lost(),
        with_options(s(ACK, 101, 90_000)).lost().says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 101, 101).data(10).passes(),
        with_options(c(ACK | PSH, 111, 101).data(10)).passes(),
        with_options(s(ACK, 101, 121)).passes().says("ESTABLISHED ASSURED"),
        with_options(c(ACK | PSH, 400_000_000, 101).data(10)).lost(),
        s(ACK | PSH, 101, 121).data(10).passes(),
    ]);
    play(&mut twin, "data", steps);
    // The kernel has had a copy for a while.
    let steps = data(vec![
        wait(2500),
        with_options(s(RST, 400_000_000, 0)).lost().says("ESTABLISHED ASSURED"),
        with_options(s(RST, 101, 0)).passes().says("CLOSE ASSURED"),
    ]);
    play(&mut twin, "copied", steps);
    twin.finish(Share::AtLeast(0.4));
}

/// A reset as the only answer ends a connection, whoever forwards it.
#[test]
fn refused() {
    let mut twin = Twin::start(Setup::tracked("punted_refused", 2, STRICT));
    for (title, punted) in [("options", with_options as fn(Segment) -> Step), ("hop limit", spent)] {
        let steps = vec![
            c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
            punted(s(RST | ACK, 0, 1)).says("gone"),
            c(SYN, 700, 0).mss().says("SYN_SENT UNREPLIED"),
            s(SYN | ACK, 0, 701).mss().says("SYN_RECV"),
        ];
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.5));
}

/// What opens a closed connection anew ends the kernel's copy of it.
#[test]
fn begun_anew() {
    let mut twin = Twin::start(Setup::tracked("punted_begun_anew", 2, STRICT));
    let steps = closed_and(vec![spent(c(SYN, 80_000, 0).mss()).says("gone")]);
    play(&mut twin, "hop limit", steps);
    let steps = closed_and(vec![
        with_options(c(SYN, 80_000, 0).mss())
            .passes()
            .says("SYN_SENT UNREPLIED"),
        s(RST | ACK, 0, 80_001).says("gone"),
    ]);
    play(&mut twin, "options", steps);
    // Long enough closed for the kernel to have a copy, which nobody takes over.
    let steps = closed_and(vec![
        wait(2500),
        c(SYN, 80_000, 0).mss().says("SYN_SENT UNREPLIED"),
        s(RST | ACK, 0, 80_001).passes().says("gone"),
    ]);
    play(&mut twin, "not punted", steps);
    twin.finish(Share::AtLeast(0.5));
}

/// The kernel saw the handshake; the windows are those of the handshake all the same.
#[test]
fn begun_in_the_kernel() {
    let mut twin = Twin::start(Setup::tracked("punted_handshake", 2, STRICT));
    let steps = vec![
        with_options(c(SYN, 0, 0).window(3000).mss())
            .passes()
            .says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).window(60_000).mss().passes().says("SYN_RECV"),
        c(ACK, 1, 1).window(3000).passes().says("ESTABLISHED ASSURED"),
        wait(300),
        s(ACK | PSH, 1, 1).window(60_000).data(10).passes(),
        c(ACK | PSH, 1, 11).window(3000).data(1300).passes(),
        c(ACK | PSH, 1301, 11).window(3000).data(1300).passes(),
        c(ACK | PSH, 2601, 11).window(3000).data(1300).passes(),
        c(ACK | PSH, 3901, 11).window(3000).data(1300).passes(),
        s(ACK | PSH, 9000, 1).window(60_000).data(10).lost(),
        c(FIN | ACK, 5201, 11).window(3000).says("FIN_WAIT ASSURED"),
    ];
    play(&mut twin, "slow start", steps);
    twin.finish(Share::AtLeast(0.4));
}
