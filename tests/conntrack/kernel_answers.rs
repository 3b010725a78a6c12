//! Packets that only the kernel can handle, of new connections and of such that bypath tracks: TTL, options, extension
//! headers, too long, no route, an unknown neighbour, local delivery. What is established stays so.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, c, s};
use crate::lab::conntrack::Free;
use crate::lab::packet::{Packet, ip, neighbor_mac, ping, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, one, play};
use crate::tcp_open::after_handshake;
use std::time::Duration;

/// Each alteration of a packet in the middle of a UDP exchange, of a TCP connection, and as a first packet.
fn in_all_places(name: &str, least: f64, alter: fn(&mut Packet)) {
    let mut twin = Twin::start(Setup::tracked(name, 2, STRICT));
    let udp = move |from: usize| one("altered", from, move |flow: &Flow| flow.udp(from, 60).with(alter));
    let plain = |from: usize| one("plain", from, move |flow: &Flow| flow.udp(from, 60));
    play(
        &mut twin,
        "first",
        [udp(CLIENT), plain(SERVER), plain(CLIENT), plain(SERVER)],
    );
    play(
        &mut twin,
        "known",
        [
            plain(CLIENT),
            plain(SERVER),
            udp(CLIENT),
            plain(CLIENT),
            udp(SERVER),
            plain(SERVER),
            plain(CLIENT),
        ],
    );
    let steps = vec![
        c(ACK | PSH, 1, 1).data(100).passes(),
        s(ACK, 1, 101).passes(),
        c(ACK | PSH, 101, 1).data(100).with("altered", alter),
        c(ACK | PSH, 101, 1).data(100).passes(),
        s(ACK, 1, 201).passes(),
        s(ACK | PSH, 1, 201).data(100).with("altered", alter),
        s(ACK | PSH, 1, 201).data(100).passes(),
        c(ACK, 201, 101).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "tcp", after_handshake(steps));
    twin.finish(Share::AtLeast(least));
}

#[test]
fn spent_ttl() {
    in_all_places("tracked_ttl_1", 0.55, |packet| packet.ttl = 1);
    in_all_places("tracked_ttl_0", 0.55, |packet| packet.ttl = 0);
}

#[test]
fn options_and_extensions() {
    in_all_places("tracked_options", 0.5, |packet| match packet.src.is_ipv4() {
        true => packet.options = vec![1, 1, 1, 0],
        false => packet.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
    });
    in_all_places("tracked_record_route", 0.5, |packet| match packet.src.is_ipv4() {
        true => packet.options = vec![7, 7, 4, 0, 0, 0, 0, 0],
        false => packet.extensions = vec![(0, vec![0, 0, 1, 4, 0, 0, 0, 0])],
    });
}

#[test]
fn header_faults() {
    in_all_places("tracked_ip_sum", 0.5, |packet| packet.ip_sum_fault = 0x40);
    in_all_places("tracked_ip_length", 0.5, |packet| packet.length_fault = 900);
    in_all_places("tracked_ip_short", 0.4, |packet| packet.length_fault = -8);
}

/// Longer than the way out: fragmented, or answered.
#[test]
fn too_long() {
    let setup = Setup::tracked("tracked_too_long", 2, STRICT).with(&["ip link set d1 mtu 1400"]);
    let mut twin = Twin::start(setup);
    let long = |text: &str, length: usize, fragment: u16| {
        one(text, CLIENT, move |flow: &Flow| {
            flow.udp(CLIENT, 0)
                .ip_length(length)
                .with(|packet| packet.fragment = fragment)
        })
    };
    let plain = |from: usize| one("plain", from, move |flow: &Flow| flow.udp(from, 60));
    let steps = || {
        [
            long("just fits", 1400, 0x4000),
            long("too long, DF", 1401, 0x4000),
            long("too long", 1490, 0),
            long("fits", 1399, 0),
        ]
    };
    play(&mut twin, "first", steps().into_iter().skip(1));
    let known: Vec<Step> = [plain(CLIENT), plain(SERVER)]
        .into_iter()
        .chain(steps())
        .chain([plain(SERVER), plain(CLIENT)])
        .collect();
    play(&mut twin, "known", known);
    let segments = vec![
        c(ACK | PSH, 1, 1)
            .data(1440)
            .with("DF", |packet| packet.fragment = 0x4000),
        c(ACK | PSH, 1, 1)
            .data(1340)
            .with("DF", |packet| packet.fragment = 0x4000)
            .passes(),
        s(ACK, 1, 1341).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "tcp", after_handshake(segments));
    twin.finish(Share::AtLeast(0.5));
}

#[test]
fn no_way() {
    let setup = Setup::tracked("tracked_no_way", 2, STRICT);
    let mut twin = Twin::start(setup);
    for (src, dst) in [(plan::behind4(0, 9), "10.77.0.1"), (plan::behind6(0, 9), "fd00:77::1")] {
        twin.send(0, (0..20).map(|at| udp(src, ip(dst), (at, 2), 20)));
        twin.send(0, (0..20).map(|at| tcp(src, ip(dst), (at, 2), 2, 0)));
    }
    twin.compare_tables("without a route", Free::default());
    let steps = |dropped: bool| {
        let to = |step: Step| if dropped { step.lost() } else { step.passes() };
        [
            to(one("client", CLIENT, |flow| flow.udp(CLIENT, 9))),
            one("server", SERVER, |flow| flow.udp(SERVER, 9)),
        ]
    };
    let flows = Flow::several();
    crate::script::play_for(&mut twin, "with a route", &flows, steps(false));
    twin.set_fence(Fence::None);
    twin.change(&[
        "ip route replace blackhole 10.101.0.0/16",
        "ip route replace blackhole fd00:101::/32 metric 1",
    ]);
    crate::script::play_for(&mut twin, "blackhole", &flows, steps(true));
    twin.finish(Share::AtLeast(0.1));
}

/// The first packet has the kernel ask who has the next hop, and goes when the answer has come.
#[test]
fn unknown_neighbour() {
    let mut twin = Twin::start(Setup::tracked("tracked_unknown_neighbour", 2, STRICT));
    for host in 20..30u8 {
        for (src, dst) in [
            (plan::behind4(0, 3), ip(&format!("10.0.1.{host}"))),
            (plan::behind6(0, 3), ip(&format!("fd00:0:0:1::{host:x}"))),
        ] {
            twin.answer_for(1, dst, neighbor_mac(1, host));
            twin.send(0, [tcp(src, dst, (5000, 80), 2, 0)]);
            twin.settle();
            let answer = |flags: u8| {
                tcp(dst, src, (80, 5000), flags, 0).with(|packet| packet.body[8..12].copy_from_slice(&[0, 0, 0x10, 1]))
            };
            twin.send(1, [answer(0x12)]);
            twin.send(
                0,
                [tcp(src, dst, (5000, 80), 0x10, 0).with(|packet| {
                    packet.body[4..8].copy_from_slice(&[0, 0, 0x10, 1]);
                    packet.body[8..12].copy_from_slice(&[0, 0, 0x10, 1]);
                })],
            );
        }
    }
    twin.compare_tables("after all", Free::default());
    twin.finish(Share::AtLeast(0.0));
}

/// To the router itself: the kernel tracks it, and bypath is not asked.
#[test]
fn local_delivery() {
    let mut twin = Twin::start(Setup::tracked("tracked_local", 2, STRICT));
    for at in 0..10u16 {
        for (own, src) in [
            (plan::own(0)[0], plan::behind4(0, at)),
            (plan::own(1)[1], plan::behind6(0, at)),
        ] {
            twin.send(
                0,
                [
                    ping(src, own, at, 1, 30),
                    udp(src, own, (at, 9), 30),
                    tcp(src, own, (1000 + at, 9), 2, 0),
                ],
            );
        }
    }
    twin.compare_tables("after all", Free::default());
    twin.finish(Share::Nothing);
}

/// In and out by one port: the kernel forwards and redirects.
#[test]
fn hairpin() {
    let setup = Setup::tracked("tracked_hairpin", 2, STRICT).with(&[
        "ip route add 10.102.0.0/16 via 10.0.0.3",
        "ip route add fd00:102::/32 via fd00::3",
    ]);
    let mut twin = Twin::start(Setup {
        clock_free: true,
        ..setup
    });
    for at in 0..10 {
        let there = [
            (plan::behind4(0, at), ip(&format!("10.102.0.{at}"))),
            (plan::behind6(0, at), ip(&format!("fd00:102::{at:x}"))),
        ];
        for (src, dst) in there {
            twin.send(0, [udp(src, dst, (at, 5), 20)]);
            twin.send(0, [udp(dst, src, (5, at), 20)]);
            twin.send(0, [udp(src, dst, (at, 5), 20)]);
        }
    }
    twin.settle();
    twin.wait(Duration::from_millis(50));
    twin.compare_tables("after all", Free::default());
    twin.finish(Share::AtLeast(0.0));
}
