//! What only the kernel answers: local delivery, neighbours that are to be resolved, redirects, garbage.

use crate::lab::neighbor::{arp_request, neighbor_solicitation};
use crate::lab::packet::{ip, neighbor_mac, ping, raw, tcp, text, udp, wire_mac};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};
use std::net::IpAddr;
use std::time::Duration;

#[test]
fn local_delivery() {
    let mut twin = Twin::start(Setup::new("local_delivery", 2, plan::config(2)));
    for at in 0..20u16 {
        for port in 0..2 {
            for own in [plan::own(0), plan::own(1)] {
                for (own, src) in [(own[0], plan::behind4(0, at)), (own[1], plan::behind6(0, at))] {
                    let echo = ping(src, own, at, port, 100 + usize::from(at) * 80);
                    twin.send(0, [echo.clone(), echo.clone().ttl(1)]);
                    twin.send(0, echo.fragments(512));
                    twin.send(
                        0,
                        [
                            udp(src, own, (at, 9), 30),
                            tcp(src, own, (1000 + at, 9), 2, 0),
                            tcp(src, own, (1000 + at, 9), 0x10, 5),
                        ],
                    );
                    twin.send(
                        0,
                        [
                            raw(src, own, 200, 30),
                            udp(src, own, (at, 9), 30).with(|packet| packet.sum_fault = 1),
                        ],
                    );
                }
            }
        }
    }
    twin.finish(Share::Nothing);
}

#[test]
fn questions_for_neighbours() {
    let mut twin = Twin::start(Setup::new("questions_for_neighbours", 2, plan::config(2)));
    for target in ["10.0.0.1", "10.0.1.1", "10.0.0.2", "10.0.0.99", "10.101.0.1", "8.8.8.8"] {
        for sender in ["10.0.0.2", "10.0.0.77", "0.0.0.0", "10.101.0.1"] {
            let (IpAddr::V4(sender), IpAddr::V4(target)) = (ip(sender), ip(target)) else {
                unreachable!()
            };
            twin.inject(0, &[arp_request(wire_mac(0), sender, target)]);
        }
    }
    for target in [
        "fd00::1",
        "fd00:0:0:1::1",
        "fe80::1",
        "fe80::0:1",
        "fd00::2",
        "fd00::99",
    ] {
        for sender in ["fd00::2", "fd00::77", "fe80::77"] {
            let (IpAddr::V6(sender), IpAddr::V6(target)) = (ip(sender), ip(target)) else {
                unreachable!()
            };
            twin.inject(0, &[neighbor_solicitation(wire_mac(0), sender, target)]);
        }
    }
    twin.finish(Share::Nothing);
}

/// Destinations on the link whose address the far end tells when asked: the kernel holds the first packets, asks, and
/// sends them; then they are transit.
#[test]
fn neighbours_that_answer() {
    let mut twin = Twin::start(Setup::new("neighbours_that_answer", 2, plan::config(2)));
    let hosts: Vec<u8> = (20..40).collect();
    let addresses = |host: u8| [ip(&format!("10.0.1.{host}")), ip(&format!("fd00:0:0:1::{host:x}"))];
    for &host in &hosts {
        addresses(host)
            .into_iter()
            .for_each(|address| twin.answer_for(1, address, neighbor_mac(1, host)));
    }
    for round in 0..10u16 {
        for &host in &hosts {
            let [to4, to6] = addresses(host);
            twin.send(
                0,
                [
                    udp(plan::behind4(0, 1), to4, (round, 2), 20),
                    udp(plan::behind6(0, 1), to6, (round, 2), 20),
                ],
            );
        }
        twin.settle();
        if round == 0 {
            twin.wait(Duration::from_millis(150));
        }
    }
    twin.finish(Share::AtLeast(0.8));
}

/// Nobody answers: the kernel asks, waits, and tells the sources.
#[test]
fn neighbours_that_do_not_answer() {
    let quick = [
        "sysctl net.ipv4.neigh.d1.retrans_time_ms=100",
        "sysctl net.ipv6.neigh.d1.retrans_time_ms=100",
        "ip route add 10.50.0.0/16 via 10.0.1.50",
        "ip route add fd00:50::/32 via fd00:0:0:1::50",
    ];
    let mut twin = Twin::start(Setup::new(
        "neighbours_that_do_not_answer",
        2,
        plan::config_with(2, &quick),
    ));
    for round in 0..2u16 {
        for (src, dst) in [
            (plan::behind4(0, 1), "10.50.0.1"),
            (plan::behind6(0, 1), "fd00:50::1"),
            (plan::behind4(0, 2), "10.0.1.60"),
            (plan::behind6(0, 2), "fd00:0:0:1::60"),
        ] {
            twin.send(0, (0..3).map(|at| udp(src, ip(dst), (round, at), 20)));
        }
        twin.wait(Duration::from_millis(1500));
        twin.settle();
    }
    twin.finish(Share::Nothing);
}

/// In and out by one port, on one link: the kernel forwards and says that there is a shorter way. One packet per source,
/// since the kernel spaces its redirects by time.
#[test]
fn redirects() {
    let hosts = || (10..40u16).map(|host| (host, [ip(&format!("10.0.0.{host}")), ip(&format!("fd00::{host:x}"))]));
    // The sources are known, so that a redirect needs no question.
    let known = hosts().flat_map(|(host, addresses)| {
        let mac = text(neighbor_mac(0, host as u8));
        addresses.map(|address| format!("ip neigh replace {address} lladdr {mac} dev d0 nud permanent"))
    });
    let routes = [
        "ip route add 10.50.0.0/16 via 10.0.0.3",
        "ip route add fd00:50::/32 via fd00::3",
    ]
    .map(String::from);
    let config = plan::config(2).into_iter().chain(routes).chain(known).collect();
    let mut twin = Twin::start(Setup::new("redirects", 2, config));
    for (host, [src4, src6]) in hosts() {
        let by_route = host % 2 == 0;
        let (dst4, dst6) = if by_route {
            ("10.50.0.1", "fd00:50::1")
        } else {
            ("10.0.0.4", "fd00::4")
        };
        twin.send(
            0,
            [udp(src4, ip(dst4), (host, 2), 20), udp(src6, ip(dst6), (host, 2), 20)],
        );
    }
    twin.finish(Share::AtLeast(0.0));
}

/// The same with redirects switched off: plain forwarding.
#[test]
fn same_port_without_redirects() {
    let more = [
        "sysctl net.ipv4.conf.all.send_redirects=0",
        "sysctl net.ipv4.conf.d0.send_redirects=0",
        "ip route add 10.50.0.0/16 via 10.0.0.3",
    ];
    let mut twin = Twin::start(Setup::new(
        "same_port_without_redirects",
        2,
        plan::config_with(2, &more),
    ));
    twin.send(
        0,
        (0..200).map(|at| udp(plan::behind4(0, at), ip("10.50.0.1"), (at, 2), 20)),
    );
    twin.finish(Share::AtLeast(0.9));
}
