//! Bridges that route: by the bridge's own address up into IP with the bridge as the way in, down again as the way out, and
//! from bridge to bridge. Hop limits, MTUs, redirects and errors are those of the bridge's link.

use crate::lab::packet::{Packet, ip, ping, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Share, Twin};
use crate::net::{Station, at, bridge, bridge_mac, bridge_with, finish, forwards, learn, nf_call, routed, setup, talk};
use std::net::IpAddr;

/// Ports 0 and 1 are bridge 0; port 2 is routed, with the plan's networks behind it.
fn config(more: &[&str]) -> Vec<String> {
    let mut lines = bridge(0, &[0, 1]);
    lines.extend(routed(0, &[0, 1]));
    lines.extend(plan::addresses(2));
    lines.extend(plan::neighbours(2));
    lines.extend(plan::routes(2));
    lines.extend(more.iter().map(|line| line.to_string()));
    lines
}

fn start(name: &str, more: &[&str]) -> Twin {
    let mut twin = Twin::start(setup(&format!("routing_{name}"), 3, config(more)));
    learn(&mut twin, &[at(0, 0), at(0, 1), at(1, 0), at(1, 1)]);
    twin
}

/// From a station by the bridge's address to a host behind port 2.
fn up(from: Station, v6: bool, host: u16) -> Packet {
    let (src, dst) = match v6 {
        false => (from.v4(), plan::behind4(2, host)),
        true => (from.v6(), plan::behind6(2, host)),
    };
    from.sends_to(bridge_mac(0), udp(src, dst, (1000 + host, 7), 30))
}

/// From a host behind port 2 to a station.
fn down(to: Station, v6: bool, host: u16) -> Packet {
    let (src, dst) = match v6 {
        false => (plan::behind4(2, host), to.v4()),
        true => (plan::behind6(2, host), to.v6()),
    };
    udp(src, dst, (7, 1000 + host), 30).at(2)
}

fn frames(packets: impl IntoIterator<Item = Packet>) -> Vec<Vec<u8>> {
    packets.into_iter().map(Packet::build).collect()
}

/// `count` packets of each family each way, and from port to port.
fn both_ways(twin: &mut Twin, count: u16) {
    for v6 in [false, true] {
        for port in [0, 1] {
            twin.inject(
                port,
                &frames((0..count).map(|host| up(at(port, host as u8 % 2), v6, host))),
            );
            twin.inject(
                2,
                &frames((0..count).map(|host| down(at(port, host as u8 % 2), v6, host))),
            );
        }
    }
    talk(twin, at(0, 0), at(1, 0), usize::from(count));
}

#[test]
fn up_and_down() {
    let mut twin = start("both_ways", &[]);
    both_ways(&mut twin, 60);
    finish(twin, Share::AtLeast(0.9));
}

/// The hooks of IP are called for what is bridged too; there is nothing at them.
#[test]
fn up_and_down_with_nf_call() {
    let lines = nf_call(true);
    let mut twin = start("nf_call", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    both_ways(&mut twin, 60);
    finish(twin, Share::AtLeast(0.9));
}

/// The port's own address is one of the bridge's, so it leads up as well.
#[test]
fn by_a_ports_own_address() {
    let mut twin = start("port_address", &[]);
    for port in [0, 1] {
        for mac in [crate::net::port_mac(0), crate::net::port_mac(1)] {
            let packets = (0..20).map(|host| up(at(port, 0), host % 2 == 1, host).with(|packet| packet.dst_mac = mac));
            twin.inject(port, &frames(packets));
        }
    }
    talk(&mut twin, at(0, 0), at(1, 0), 60);
    finish(twin, Share::AtLeast(0.5));
}

/// The station is known to IP and not to the bridge: flooded, on the way out too.
#[test]
fn down_to_an_unknown_station() {
    let mut twin = Twin::start(setup("routing_unknown", 3, config(&[])));
    for v6 in [false, true] {
        twin.inject(2, &frames((0..20).map(|host| down(at(1, 0), v6, host))));
    }
    learn(&mut twin, &[at(1, 0), at(0, 0)]);
    forwards(&mut twin, 70, |twin| {
        for v6 in [false, true] {
            twin.inject(2, &frames((0..40).map(|host| down(at(1, 0), v6, host))));
        }
    });
    // It moves.
    twin.inject(0, &crate::net::carried(at(1, 0), at(0, 0), 1));
    crate::net::wait_learned(&twin, [at(1, 0).mac()]);
    forwards(&mut twin, 70, |twin| {
        for v6 in [false, true] {
            twin.inject(2, &frames((0..40).map(|host| down(at(1, 0), v6, host))));
        }
    });
    finish(twin, Share::AtLeast(0.6));
}

/// What it leaves by does not forward, or not that far.
#[test]
fn down_by_a_port_that_is_blocked_down_or_short() {
    let mut twin = start("down_blocked", &[]);
    for change in [
        "bridge link set dev d1 state 1",
        "bridge link set dev d1 state 3",
        "ip link set d1 down",
        "ip link set d1 up",
        "bridge link set dev d0 isolated on",
        "bridge link set dev d1 isolated on",
        "ip link set d1 mtu 1300",
        "ip link set br0 mtu 1500",
        "ip link set br0 mtu 1280",
    ] {
        twin.change(&[change]);
        learn(&mut twin, &[at(0, 0), at(1, 0), at(1, 1)]);
        both_ways(&mut twin, 10);
        for v6 in [false, true] {
            for length in [1280, 1281, 1299, 1300, 1301, 1304, 1305, 1400, 1500] {
                twin.inject(2, &frames([down(at(1, 0), v6, 7).ip_length(length).df()]));
            }
        }
        twin.inject(2, &frames([down(at(1, 0), false, 7).ip_length(1400)]));
    }
    finish(twin, Share::AtLeast(0.5));
}

/// A router's answers leave by the bridge.
#[test]
fn errors() {
    let more = [
        "ip route add prohibit 10.66.0.0/16",
        "ip route add unreachable fd66::/32",
    ];
    let mut twin = start("errors", &more);
    for v6 in [false, true] {
        let odd = [
            up(at(0, 0), v6, 1).ttl(1),
            up(at(0, 0), v6, 2).ttl(0),
            up(at(0, 0), v6, 3).ttl(2),
            up(at(0, 0), v6, 4).with(|packet| packet.dst = ip(if v6 { "fd66::1" } else { "10.66.0.1" })),
            up(at(0, 0), v6, 5).with(|packet| packet.dst = ip(if v6 { "3fff::1" } else { "192.0.2.1" })),
            up(at(0, 0), v6, 6).with(|packet| packet.dst = ip(if v6 { "fd09::1" } else { "10.9.0.1" })),
            up(at(0, 0), v6, 7).with(|packet| packet.src = ip(if v6 { "::1" } else { "127.0.0.1" })),
            up(at(0, 0), v6, 8).with(|packet| packet.ip_sum_fault = 3),
        ];
        for packet in odd {
            twin.inject(0, &frames([packet]));
        }
        twin.inject(2, &frames([down(at(1, 0), v6, 1).ttl(1), down(at(1, 0), v6, 2).ttl(2)]));
    }
    twin.change(&["ip link set d2 mtu 1300"]);
    for v6 in [false, true] {
        twin.inject(1, &frames([up(at(1, 0), v6, 9).ip_length(1400).df()]));
    }
    both_ways(&mut twin, 30);
    finish(twin, Share::AtLeast(0.7));
}

/// Back out of the bridge that it came in by: a redirect tells so, and the frame goes all the same.
#[test]
fn back_out_of_the_same_bridge() {
    for redirects in [0, 1] {
        let more = [
            format!("sysctl net.ipv4.conf.br0.send_redirects={redirects}"),
            format!("sysctl net.ipv4.conf.all.send_redirects={redirects}"),
        ];
        let mut twin = start(
            &format!("same_{redirects}"),
            &more.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        twin.settle();
        for v6 in [false, true] {
            let (src, dst) = at(0, 0).addresses(at(1, 0), v6);
            twin.inject(
                0,
                &frames([at(0, 0).sends_to(bridge_mac(0), udp(src, dst, (1, 2), 30))]),
            );
            // To a station behind the same port: a bridge does not send it back there, a router does.
            let (src, dst) = at(0, 0).addresses(at(0, 1), v6);
            twin.inject(
                0,
                &frames([at(0, 0).sends_to(bridge_mac(0), udp(src, dst, (1, 3), 30))]),
            );
        }
        both_ways(&mut twin, 20);
        finish(twin, Share::AtLeast(0.5));
    }
}

/// The kernel tells of no change of this one.
#[test]
fn redirects_are_switched() {
    let off = [
        "sysctl net.ipv4.conf.br0.send_redirects=0",
        "sysctl net.ipv4.conf.all.send_redirects=0",
    ];
    let mut twin = start("redirects", &off);
    for on in [0, 1, 0] {
        twin.change(&[&format!("sysctl net.ipv4.conf.br0.send_redirects={on}")]);
        let (src, dst) = at(0, 0).addresses(at(1, 0), false);
        twin.inject(
            0,
            &frames([at(0, 0).sends_to(bridge_mac(0), udp(src, dst, (1, 2), 30))]),
        );
        both_ways(&mut twin, 10);
    }
    finish(twin, Share::AtLeast(0.9));
}

/// Two bridges, with a route between.
#[test]
fn from_bridge_to_bridge() {
    let mut lines = bridge(0, &[0, 1]);
    lines.extend(bridge(1, &[2, 3]));
    lines.extend(routed(0, &[0, 1]));
    lines.extend(routed(1, &[2, 3]));
    let mut twin = Twin::start(setup("routing_two", 4, lines));
    let (here, there) = ([at(0, 0), at(1, 0)], [at(2, 0).on(1), at(3, 0).on(1)]);
    learn(&mut twin, &[here[0], here[1], there[0], there[1]]);
    let routed = |from: Station, to: Station, b: usize, count: u16| -> Vec<Vec<u8>> {
        let one = |number: u16| {
            let (src, dst) = from.addresses(to, number % 2 == 1);
            let packet = match number % 3 {
                0 => tcp(src, dst, (number, 80), 0x10, 20),
                1 => ping(src, dst, number, 1, 20),
                _ => udp(src, dst, (number, 9), 20),
            };
            from.sends_to(bridge_mac(b), packet)
        };
        frames((0..count).map(one))
    };
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        twin.inject(here[from].port, &routed(here[from], there[to], 0, 40));
        twin.inject(there[to].port, &routed(there[to], here[from], 1, 40));
    }
    talk(&mut twin, here[0], here[1], 40);
    talk(&mut twin, there[0], there[1], 40);
    // Frames for the other bridge's address are nobody's here.
    twin.inject(0, &routed(here[0], there[0], 1, 4));
    // By the way of Ethernet alone there is no way.
    twin.inject(0, &crate::net::carried(here[0], there[0], 4));
    // One of them goes.
    twin.change(&["ip link set br1 down"]);
    twin.inject(0, &routed(here[0], there[0], 0, 6));
    finish(twin, Share::AtLeast(0.85));
}

/// The way in is the bridge: source validation and rules by `iif` go by it, not by the port.
#[test]
fn the_way_in_is_the_bridge() {
    let more = [
        "ip rule add iif br0 to 10.102.3.0/24 prohibit pref 100",
        "ip rule add iif d0 to 10.102.4.0/24 prohibit pref 101",
        "sysctl net.ipv4.conf.br0.rp_filter=1",
        "sysctl net.ipv4.conf.d0.rp_filter=1",
    ];
    let mut twin = start("iif", &more);
    let to = |dst: &str| at(0, 0).sends_to(bridge_mac(0), udp(at(0, 0).v4(), ip(dst), (1, 2), 20));
    twin.inject(0, &frames([to("10.102.3.1"), to("10.102.4.1"), to("10.102.5.1")]));
    // A source that would be behind port 2.
    let spoofed = at(0, 0).sends_to(bridge_mac(0), udp(plan::behind4(2, 9), plan::behind4(2, 1), (1, 2), 20));
    twin.inject(0, &frames([spoofed]));
    both_ways(&mut twin, 40);
    finish(twin, Share::AtLeast(0.8));
}

/// Forwarding is switched on the bridge, and what the ports' own switches say is nothing to it.
#[test]
fn forwarding_is_the_bridges() {
    let mut twin = start("forwarding", &[]);
    for (link, on) in [("d0", 0), ("br0", 0), ("br0", 1), ("d0", 1)] {
        twin.change(&[
            &format!("sysctl net.ipv4.conf.{link}.forwarding={on}"),
            &format!("sysctl net.ipv6.conf.{link}.forwarding={on}"),
        ]);
        both_ways(&mut twin, 10);
    }
    finish(twin, Share::AtLeast(0.5));
}

/// Addresses, neighbours and routes of the bridge change; and its own Ethernet address does.
#[test]
fn the_bridges_configuration_changes() {
    let mut twin = start("config", &[]);
    for changes in [
        &["ip neigh replace 10.9.0.32 lladdr 02:00:00:01:01:01 dev br0 nud permanent"][..],
        &[
            "ip route add 10.102.8.0/24 via 10.9.0.33 dev br0",
            "ip route add 10.77.0.0/16 via 10.9.0.17 dev br0",
        ],
        &["ip addr add 10.9.7.1/24 dev br0"],
        &["ip addr del 10.9.7.1/24 dev br0"],
        &["ip link set br0 address 02:00:00:00:00:bb"],
        &["ip link set br0 address 02:00:00:00:00:b0"],
        &["ip link set d0 address 02:00:00:00:00:77"],
    ] {
        twin.change(changes);
        both_ways(&mut twin, 15);
        let far = (0..6).map(|host| down(at(0, 0), false, host).with(|packet| packet.dst = ip("10.77.0.1")));
        twin.inject(2, &frames(far));
        let new = [[0x02, 0, 0, 0, 0, 0xbb], [0x02, 0, 0, 0, 0, 0x77]];
        twin.inject(
            0,
            &frames(new.map(|mac| up(at(0, 0), false, 3).with(|packet| packet.dst_mac = mac))),
        );
    }
    finish(twin, Share::AtLeast(0.6));
}

/// A bridge with one port, and one with an address on a port of it (which takes no part in IP any more).
#[test]
fn a_member_with_addresses() {
    let more = ["ip addr add 10.44.0.1/24 dev d0", "ip addr add fd44::1/64 dev d0 nodad"];
    let mut twin = start("member_addresses", &more);
    both_ways(&mut twin, 20);
    let to: [(IpAddr, IpAddr); 2] = [(ip("10.44.0.2"), ip("10.44.0.1")), (ip("fd44::2"), ip("fd44::1"))];
    for (src, dst) in to {
        for mac in [bridge_mac(0), crate::net::port_mac(0)] {
            twin.inject(0, &frames([at(0, 0).sends_to(mac, ping(src, dst, 1, 1, 20))]));
        }
    }
    finish(twin, Share::AtLeast(0.7));
}

/// Snooping and a spanning tree do not touch what is routed.
#[test]
fn with_snooping() {
    let mut lines = bridge_with(0, &[0, 1], "mcast_snooping 1");
    lines.extend(config(&[]).into_iter().skip(4));
    let mut twin = Twin::start(setup("routing_snooping", 3, lines));
    learn(&mut twin, &[at(0, 0), at(0, 1), at(1, 0), at(1, 1)]);
    both_ways(&mut twin, 30);
    finish(twin, Share::AtLeast(0.85));
}
