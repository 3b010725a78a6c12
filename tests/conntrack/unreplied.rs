//! Connections that nobody answers: floods and scans.

use crate::flow::{ACK, FIN, Flow, PSH, SYN, URG, c, s};
use crate::lab::conntrack::Free;
use crate::lab::packet::{Packet, tcp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{play, play_for};

/// SYNs of one source to one destination, in both families, from `count` ports; in `rounds`.
fn flood(twin: &mut Twin, count: u16, rounds: u16) {
    for _ in 0..rounds {
        for (src, dst) in plan::pairs(0, 1, 60) {
            twin.send(0, (0..count).map(|at| tcp(src, dst, (2000 + at, 80), SYN, 0)));
        }
    }
}

#[test]
fn syn_flood_from_one_source() {
    let mut twin = Twin::start(Setup::tracked("syn_flood", 2, STRICT));
    flood(&mut twin, 1000, 2);
    let table = twin.compare_tables("after the flood", Free::default());
    let unreplied = table
        .connections
        .values()
        .filter(|connection| connection.brief() == "SYN_SENT UNREPLIED");
    assert_eq!(unreplied.count(), 2000, "the kernel's table");
    // What is established before and during it goes on.
    let steps = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 0, 1).mss().says("SYN_RECV"),
        c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 1, 1).data(100).passes(),
    ];
    play(&mut twin, "behind it", steps);
    twin.finish(Share::AtLeast(0.99));
}

/// Some of a flood's SYNs come again much later; an entry lives by its last packet.
#[test]
fn unreplied_is_refreshed() {
    let setup = Setup::tracked("unreplied_is_refreshed", 2, STRICT).with(&[
        "sysctl net.netfilter.nf_conntrack_tcp_timeout_syn_sent=3",
        "sysctl net.netfilter.nf_conntrack_udp_timeout=3",
    ]);
    let mut twin = Twin::start(setup);
    let flows = Flow::several();
    play_for(
        &mut twin,
        "first",
        &flows,
        [c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED")],
    );
    play_for(
        &mut twin,
        "one more, that ends",
        &Flow::several(),
        [c(SYN, 0, 0).mss().passes()],
    );
    for _ in 0..2 {
        twin.wait(std::time::Duration::from_millis(1600));
        play_for(
            &mut twin,
            "again",
            &flows,
            [c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED")],
        );
    }
    twin.wait(std::time::Duration::from_millis(4400));
    let table = twin.compare_tables("at the end", Free::default());
    let left = table
        .connections
        .values()
        .filter(|connection| connection.protocol == "tcp")
        .count();
    assert_eq!(left, 0, "the kernel's table");
    play_for(&mut twin, "too late", &flows, [s(SYN | ACK, 0, 1).mss().lost()]);
    twin.finish(Share::AtLeast(0.75));
}

/// Scans from behind port 0 to many ports: SYN, ACK, FIN, NULL, XMAS; some ports answer.
#[test]
fn scans() {
    let mut twin = Twin::start(Setup::tracked("scans", 2, STRICT));
    for flags in [SYN, ACK, FIN, 0, FIN | PSH | URG, SYN | ACK, FIN | ACK] {
        for (src, dst) in plan::pairs(0, 1, 100 + u16::from(flags)) {
            let probe = |port: u16| tcp(src, dst, (40_000, port), flags, 0);
            let reset = |port: u16| -> Packet {
                tcp(dst, src, (port, 40_000), 0x14, 0)
                    .with(|packet| packet.body[8..12].copy_from_slice(&[0, 0, 0x10, 1]))
            };
            twin.send(0, (1..200).map(probe));
            twin.send(1, (1..200).step_by(2).map(reset));
        }
        twin.compare_tables(&format!("after the scan by {flags:#x}"), Free::default());
    }
    // Invalid ones and the resets that answer them are lost.
    twin.finish(Share::AtLeast(0.25));
}
