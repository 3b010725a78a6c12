//! TCP under other switches: pickup in the middle, liberal windows, checksums, retransmission limits, timeouts.

use crate::flow::{ACK, FIN, PSH, RST, SYN, c, s};
use crate::lab::packet::Packet;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, change, play, wait};
use crate::tcp_open::after_handshake;

fn twin(name: &str, sysctls: &[&str]) -> Twin {
    let lines: Vec<String> = sysctls
        .iter()
        .map(|line| format!("sysctl net.netfilter.nf_conntrack_{line}"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Twin::start(Setup::tracked(name, 2, STRICT).with(&lines))
}

/// The router has come up in the middle of it.
fn middle() -> Vec<Step> {
    vec![
        Step::from(c(ACK | PSH, 5001, 7001).data(100).window(300)),
        Step::from(s(ACK | PSH, 7001, 5101).data(1400).window(100)),
        Step::from(s(ACK | PSH, 8401, 5101).data(1400).window(100)),
        Step::from(c(ACK, 5101, 9801).window(300)),
        Step::from(c(ACK | PSH, 900_000, 9801).data(100).window(300)),
        Step::from(s(ACK, 9801, 5101).window(100)),
        Step::from(c(FIN | ACK, 5101, 9801).window(300)),
        Step::from(s(FIN | ACK, 9801, 5102).window(100)),
        Step::from(c(ACK, 5102, 9802).window(300)),
    ]
}

#[test]
fn pickup() {
    let mut loose = twin("pickup_loose", &["tcp_loose=1"]);
    play(&mut loose, "loose", middle());
    let first = [c(ACK | PSH, 1, 1).data(10).passes().says("ESTABLISHED UNREPLIED")];
    play(&mut loose, "one way", first);
    let fin = [
        Step::from(c(FIN | ACK, 1, 1)),
        Step::from(s(FIN | ACK, 1, 2)),
        Step::from(c(ACK, 2, 2)),
    ];
    play(&mut loose, "a FIN first", fin);
    let answered = [
        Step::from(c(ACK, 1, 1)),
        Step::from(s(ACK, 1, 1)),
        Step::from(s(RST, 1, 0)),
    ];
    play(&mut loose, "and reset", answered);
    let unanswered = [
        Step::from(c(ACK, 1, 1)),
        Step::from(s(RST, 1, 0)),
        Step::from(c(ACK, 1, 1)),
    ];
    play(&mut loose, "reset at once", unanswered);
    loose.finish(Share::AtLeast(0.85));
    let mut strict = twin("pickup_never", &["tcp_loose=0"]);
    play(&mut strict, "not loose", middle());
    play(
        &mut strict,
        "a handshake",
        after_handshake(vec![c(ACK | PSH, 1, 1).data(10).passes()]),
    );
    strict.finish(Share::AtLeast(0.25));
}

#[test]
fn liberal() {
    let mut twin = twin("liberal", &["tcp_be_liberal=1"]);
    let steps = vec![
        c(ACK | PSH, 900_000, 1).data(100).passes(),
        s(ACK | PSH, 0u32.wrapping_sub(900_000), 1).data(100).passes(),
        s(ACK, 1, 70_000_000).passes(),
        Step::from(c(RST, 900_000, 0)),
        Step::from(s(RST, 0u32.wrapping_sub(9_000_000), 0)),
        Step::from(c(SYN, 5000, 0)),
        Step::from(c(ACK, 1, 1)),
    ];
    play(&mut twin, "out of the window", after_handshake(steps));
    twin.finish(Share::AtLeast(0.75));
}

fn wrong(packet: &mut Packet) {
    packet.sum_fault = 0x0101;
}

#[test]
fn checksums() {
    for (name, value, least) in [("checksums_judged", 1, 0.55), ("checksums_not_judged", 0, 0.99)] {
        let mut twin = twin(name, &[&format!("checksum={value}")]);
        let steps = [
            c(SYN, 0, 0).mss().with("wrong sum", wrong),
            c(SYN, 0, 0).mss().passes(),
            s(SYN | ACK, 0, 1).mss().with("wrong sum", wrong),
            s(SYN | ACK, 0, 1).mss().passes(),
            c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
            c(ACK | PSH, 1, 1).data(333).with("wrong sum", wrong),
            c(ACK | PSH, 1, 1).data(333).passes(),
            c(ACK | PSH, 334, 1)
                .data(333)
                .with("padded", |packet| packet.padding = 9)
                .passes(),
        ];
        play(&mut twin, name, steps);
        twin.finish(Share::AtLeast(least));
    }
}

/// A segment sent again and again, and data that nobody acknowledges, shorten the timeout.
#[test]
fn retransmissions() {
    let mut twin = twin("retransmissions", &[]);
    let mut steps = vec![c(ACK | PSH, 1, 1).data(100).passes()];
    steps.extend((0..5).map(|_| c(ACK | PSH, 1, 1).data(100).passes()));
    steps.extend([
        s(ACK, 1, 101).passes(),
        c(ACK | PSH, 101, 1).data(100).passes(),
        c(ACK, 201, 1).passes(),
        c(ACK, 201, 1).passes(),
        c(ACK, 201, 1).passes(),
        c(ACK, 201, 1).passes(),
        c(ACK, 201, 1).passes(),
        s(ACK, 1, 201).passes(),
        s(ACK, 1, 201).window(9000).passes(),
    ]);
    play(&mut twin, "by default", after_handshake(steps));
    let commands = [
        "sysctl net.netfilter.nf_conntrack_tcp_max_retrans=1",
        "sysctl net.netfilter.nf_conntrack_tcp_timeout_max_retrans=77",
        "sysctl net.netfilter.nf_conntrack_tcp_timeout_unacknowledged=55",
    ];
    let mut steps = vec![change(&commands)];
    steps.extend((0..3).map(|_| Step::from(c(ACK | PSH, 1, 1).data(100))));
    steps.push(s(ACK, 1, 101).passes());
    steps.extend((0..3).map(|_| Step::from(s(ACK, 1, 101))));
    play(&mut twin, "after one", after_handshake(steps));
    twin.finish(Share::AtLeast(0.95));
}

/// Timeouts that change while connections live: they count from the next packet on.
#[test]
fn timeouts_change() {
    let mut twin = twin(
        "timeouts_change",
        &["tcp_timeout_established=1000", "tcp_timeout_syn_sent=90"],
    );
    let steps = vec![
        c(ACK | PSH, 1, 1).data(10).passes(),
        s(ACK, 1, 11).passes(),
        wait(1200),
        change(&["sysctl net.netfilter.nf_conntrack_tcp_timeout_established=200"]),
        c(ACK | PSH, 11, 1).data(10).passes(),
        s(ACK, 1, 21).passes(),
        change(&[
            "sysctl net.netfilter.nf_conntrack_tcp_timeout_fin_wait=33",
            "sysctl net.netfilter.nf_conntrack_tcp_timeout_close_wait=44",
            "sysctl net.netfilter.nf_conntrack_tcp_timeout_last_ack=22",
            "sysctl net.netfilter.nf_conntrack_tcp_timeout_time_wait=2",
        ]),
        c(FIN | ACK, 21, 1).passes(),
        s(ACK, 1, 22).passes(),
        s(FIN | ACK, 1, 22).passes(),
        c(ACK, 22, 2).says("TIME_WAIT ASSURED"),
        wait(3200),
        s(ACK, 2, 22).lost().says("gone"),
        c(SYN, 90_000, 0).mss().says("SYN_SENT UNREPLIED"),
    ];
    play(&mut twin, "shorter", after_handshake(steps));
    twin.finish(Share::AtLeast(0.85));
}
