//! Kinds of routes: longest prefixes, several ways out, nexthop objects, refusals, several tables by rules.

use crate::lab::packet::{Packet, ip, ping, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};
use std::net::IpAddr;

fn twin(name: &str, ports: usize, more: &[&str]) -> Twin {
    Twin::start(Setup::new(name, ports, plan::config_with(ports, more)))
}

/// Flows that differ in addresses and ports, each of `packets` packets, interleaved, from behind port 0.
fn flows(dst: impl Fn(u16) -> IpAddr, count: u16, packets: u16) -> Vec<Packet> {
    let one = |round: u16, flow: u16| {
        let dst = dst(flow);
        let src = if dst.is_ipv4() {
            plan::behind4(0, flow)
        } else {
            plan::behind6(0, flow)
        };
        let ports = (1000 + flow * 3, 80 + flow % 7);
        match flow % 4 {
            0 => tcp(src, dst, ports, 0x10, usize::from(round)),
            1 => ping(src, dst, flow, round, 20),
            _ => udp(src, dst, ports, usize::from(round)).with(|packet| packet.flow_label = u32::from(flow) * 77),
        }
    };
    (0..packets)
        .flat_map(|round| (0..count).map(move |flow| (round, flow)))
        .map(|(round, flow)| one(round, flow))
        .collect()
}

#[test]
fn longest_prefix_wins() {
    let mut more = vec![
        "ip route add default via 10.0.1.2".to_string(),
        "ip route add default via fd00:0:0:1::2".into(),
    ];
    for length in (9..=32).rev().step_by(1) {
        let (port, host) = (1 + length % 2, 2 + length % 3);
        more.push(format!(
            "ip route add {}/{length} via 10.0.{port}.{host}",
            first_of("77.85.170.85", length)
        ));
    }
    for length in (17..=128).step_by(7) {
        let (port, host) = (1 + length % 2, 2 + length % 3);
        more.push(format!(
            "ip route add {}/{length} via fd00:0:0:{port}::{host}",
            first_of("2001:db8:5555:aaaa:5555:aaaa:5555:aaaa", length)
        ));
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut twin = twin("longest_prefix_wins", 3, &more);
    // Each destination leaves the long prefix at another bit.
    let flip = |address: &str, bit: u32| match ip(address) {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) ^ (1 << (31 - bit % 32))).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) ^ (1 << (127 - bit))).into()),
    };
    for bit in 0..32 {
        let dst = flip("77.85.170.85", bit);
        twin.send(0, (0..8).map(|at| udp(plan::behind4(0, at), dst, (at, 2), 30)));
    }
    for bit in 3..128 {
        let dst = flip("2001:db8:5555:aaaa:5555:aaaa:5555:aaaa", bit);
        twin.send(0, (0..4).map(|at| udp(plan::behind6(0, at), dst, (at, 2), 30)));
    }
    twin.finish(Share::AtLeast(0.9));
}

/// The network address of the prefix of this length around `address`.
fn first_of(address: &str, length: u32) -> IpAddr {
    match ip(address) {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & (u32::MAX << (32 - length))).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << (128 - length))).into()),
    }
}

const ECMP: &[&str] = &[
    "ip route add 10.50.0.0/16 nexthop via 10.0.1.2 weight 1 nexthop via 10.0.1.3 weight 2 nexthop via 10.0.2.2 weight 1",
    "ip route add fd00:50::/32 nexthop via fd00:0:0:1::2 weight 1 nexthop via fd00:0:0:1::3 weight 2 nexthop via fd00:0:0:2::2 weight 3",
];

fn ecmp(name: &str, policy: Option<u8>, least: f64) {
    let sysctls = policy.map(|policy| {
        [
            format!("sysctl net.ipv4.fib_multipath_hash_policy={policy}"),
            format!("sysctl net.ipv6.fib_multipath_hash_policy={policy}"),
        ]
    });
    let more: Vec<&str> = ECMP
        .iter()
        .copied()
        .chain(sysctls.iter().flatten().map(String::as_str))
        .collect();
    let mut twin = twin(name, 3, &more);
    twin.send(
        0,
        flows(|flow| ip(&format!("10.50.{}.{}", flow / 50, flow % 50)), 200, 12),
    );
    twin.send(0, flows(|flow| ip(&format!("fd00:50::{flow:x}")), 200, 12));
    // The ends answer: another direction, another hash. Errors that quote a flow go its way.
    twin.send(
        1,
        (0..50).map(|at| udp(ip("10.50.0.1"), plan::behind4(0, at), (80, at), 9)),
    );
    twin.send(0, icmp_errors());
    twin.finish(Share::AtLeast(least));
}

/// ICMP errors whose quoted packet is a flow of the other direction; the kernel hashes what is quoted.
fn icmp_errors() -> Vec<Packet> {
    let error = |flow: u16| {
        let (near, far) = (plan::behind4(0, flow), ip(&format!("10.50.0.{}", flow % 50)));
        let quoted = udp(far, near, (80, 1000 + flow), 20).build().split_off(14);
        ping(near, far, 0, 0, 0).with(|packet| packet.body = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat())
    };
    (0..40).map(error).collect()
}

#[test]
fn ecmp_by_addresses() {
    ecmp("ecmp_by_addresses", None, 0.8);
}

#[test]
fn ecmp_by_ports() {
    ecmp("ecmp_by_ports", Some(1), 0.8);
}

#[test]
fn ecmp_by_inner_addresses() {
    // Of IPv6 the kernel hashes more than it can be asked about: half of the packets are its own.
    ecmp("ecmp_by_inner_addresses", Some(2), 0.4);
}

#[test]
fn ecmp_with_a_known_seed() {
    let more = [ECMP, &["sysctl net.ipv4.fib_multipath_hash_seed=4711"]].concat();
    let mut twin = twin("ecmp_with_a_known_seed", 3, &more);
    twin.send(
        0,
        flows(|flow| ip(&format!("10.50.{}.{}", flow / 50, flow % 50)), 200, 12),
    );
    twin.send(0, flows(|flow| ip(&format!("fd00:50::{flow:x}")), 200, 12));
    twin.finish(Share::AtLeast(0.8));
}

/// IPv4 fragments hash by addresses, all of them alike.
#[test]
fn ecmp_of_fragments() {
    let more = [ECMP, &["sysctl net.ipv4.fib_multipath_hash_policy=1"]].concat();
    let mut twin = twin("ecmp_of_fragments", 3, &more);
    for flow in 0..60u16 {
        let dst = ip(&format!("10.50.1.{flow}"));
        twin.send(0, udp(plan::behind4(0, flow), dst, (flow, 9), 600).fragments(200));
        twin.send(0, udp(plan::behind4(0, flow), dst, (flow, 9), 100).fragments(200));
    }
    twin.finish(Share::AtLeast(0.0));
}

#[test]
fn nexthop_objects() {
    let more = [
        "ip nexthop add id 11 via 10.0.1.2 dev d1",
        "ip nexthop add id 12 via 10.0.1.3 dev d1",
        "ip nexthop add id 13 via 10.0.2.2 dev d2",
        "ip nexthop add id 14 blackhole",
        "ip nexthop add id 15 dev d1",
        "ip nexthop add id 20 group 11,3/12/13,2",
        "ip nexthop add id 61 via fd00:0:0:1::2 dev d1",
        "ip nexthop add id 62 via fd00:0:0:2::3 dev d2",
        "ip nexthop add id 70 group 61/62",
        "ip route add 10.50.0.0/16 nhid 11",
        "ip route add 10.51.0.0/16 nhid 20",
        "ip route add 10.52.0.0/16 nhid 14",
        "ip route add 10.53.0.0/24 nhid 62",
        "ip route add 10.54.0.4/32 nhid 15",
        "ip route add fd00:50::/32 nhid 61",
        "ip route add fd00:51::/32 nhid 70",
    ];
    let mut twin = twin("nexthop_objects", 3, &more);
    for network in 50..54 {
        twin.send(0, flows(|flow| ip(&format!("10.{network}.0.{flow}")), 60, 10));
    }
    for network in 50..52 {
        twin.send(0, flows(|flow| ip(&format!("fd00:{network}::{flow:x}")), 60, 10));
    }
    twin.finish(Share::AtLeast(0.65));
}

/// RFC 8950: an IPv4 route by an IPv6 neighbour; and a gateway that no connected network covers.
#[test]
fn gateways_of_another_family_and_onlink() {
    let more = [
        "ip route add 10.50.0.0/16 via inet6 fd00:0:0:1::3 dev d1",
        "ip route add 10.51.0.0/16 via 192.0.2.7 dev d1 onlink",
        "ip neigh replace 192.0.2.7 lladdr 02:00:00:00:aa:aa dev d1 nud permanent",
        "ip route add fd00:51::/32 via fe80::99 dev d1",
        "ip neigh replace fe80::99 lladdr 02:00:00:00:aa:bb dev d1 nud permanent",
    ];
    let mut twin = twin("gateways", 2, &more);
    for network in 50..52 {
        twin.send(0, flows(|flow| ip(&format!("10.{network}.0.{flow}")), 40, 5));
    }
    twin.send(0, flows(|flow| ip(&format!("fd00:51::{flow:x}")), 40, 5));
    twin.finish(Share::AtLeast(0.9));
}

#[test]
fn refusals() {
    let mut more = Vec::new();
    for (at, kind) in ["unreachable", "blackhole", "prohibit", "throw"]
        .into_iter()
        .enumerate()
    {
        more.push(format!("ip route add {kind} 10.{}.0.0/16", 50 + at));
        more.push(format!("ip route add {kind} fd00:{}::/32", 50 + at));
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut twin = twin("refusals", 2, &more);
    for network in 50..56 {
        twin.send(0, flows(|flow| ip(&format!("10.{network}.0.{flow}")), 40, 2));
        twin.send(0, flows(|flow| ip(&format!("fd00:{network}::{flow:x}")), 40, 2));
    }
    twin.send(0, flows(|flow| plan::behind4(1, flow), 100, 10));
    twin.send(0, flows(|flow| plan::behind6(1, flow), 100, 10));
    twin.finish(Share::AtLeast(0.65));
}

#[test]
fn tables_by_rules() {
    let mut more = Vec::new();
    for (v, via, to, prefix) in [
        ("", "10.0", "10.50.0.0/16", "10.100.0"),
        ("-6 ", "fd00:0:0:", "fd00:50::/32", ""),
    ] {
        let gateway = |port: u8, host: u8| {
            if v.is_empty() {
                format!("{via}.{port}.{host}")
            } else {
                format!("{via}{port}::{host}")
            }
        };
        more.push(format!("ip route add {to} via {} table 101", gateway(1, 2)));
        more.push(format!("ip route add {to} via {} table 102", gateway(1, 3)));
        more.push(format!("ip route add {to} via {} table 103", gateway(2, 2)));
        more.push(format!("ip route add throw {to} table 104"));
        more.push(format!("ip route add {to} via {}", gateway(2, 3)));
        let from = |host: u8| {
            if v.is_empty() {
                format!("{prefix}.{host}/32")
            } else {
                format!("fd00:100::{host:x}/128")
            }
        };
        more.push(format!("ip {v}rule add from {} lookup 101 pref 1001", from(1)));
        more.push(format!("ip {v}rule add from {} iif d0 lookup 102 pref 1002", from(2)));
        more.push(format!("ip {v}rule add from {} iif d1 lookup 101 pref 1003", from(3)));
        more.push(format!("ip {v}rule add from {} to {to} lookup 103 pref 1004", from(4)));
        more.push(format!("ip {v}rule add from {} lookup 104 pref 1005", from(5)));
        more.push(format!("ip {v}rule add from {} blackhole pref 1006", from(6)));
        more.push(format!("ip {v}rule add from {} prohibit pref 1007", from(7)));
        more.push(format!("ip {v}rule add from {} unreachable pref 1008", from(8)));
        more.push(format!("ip {v}rule add not from {} lookup 105 pref 1009", from(9)));
        more.push(format!("ip {v}rule add from {} goto 32766 pref 1000", from(10)));
        more.push(format!("ip {v}rule add from {} lookup 101 pref 1010", from(10)));
    }
    more.sort_by_key(|line| line.starts_with("ip -6"));
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut twin = twin("tables_by_rules", 3, &more);
    for host in 1..=16u16 {
        for (src, dst) in [
            (plan::behind4(0, host), ip("10.50.0.1")),
            (plan::behind6(0, host), ip("fd00:50::1")),
        ] {
            twin.send(0, (0..20).map(|at| udp(src, dst, (at, host), 30)));
        }
    }
    twin.finish(Share::AtLeast(0.7));
}

/// What a rule or a route looks at beyond addresses and ports of arrival need not be carried, only be right.
#[test]
fn exotic_rules_and_routes() {
    let more = [
        "ip route add 10.50.0.0/16 via 10.0.1.2",
        "ip route add 10.50.0.0/16 tos 0x10 via 10.0.1.3",
        "ip route add 10.50.0.0/16 via 10.0.1.3 table 101",
        "ip route add fd00:50::/32 via fd00:0:0:1::2",
        "ip route add fd00:50::/32 from fd00:100::1 via fd00:0:0:1::3",
        "ip route add fd00:50::/32 via fd00:0:0:1::4 table 101",
        "ip rule add tos 0x08 lookup 101 pref 900",
        "ip rule add ipproto udp dport 53 lookup 101 pref 901",
        "ip rule add ipproto tcp sport 1000-1010 lookup 101 pref 902",
        "ip rule add fwmark 7 lookup 101 pref 903",
        "ip rule add lookup main suppress_prefixlength 8 pref 904",
        "ip -6 rule add ipproto udp dport 53 lookup 101 pref 901",
        "ip -6 rule add tos 0x08 lookup 101 pref 902",
        "ip -6 rule add lookup main suppress_prefixlength 8 pref 904",
    ];
    let mut twin = twin("exotic_rules_and_routes", 2, &more);
    for tos in [0, 4, 8, 0x10, 0xb8] {
        for (host, port) in [(1, 53), (2, 54)] {
            for (src, dst) in [
                (plan::behind4(0, host), ip("10.50.0.1")),
                (plan::behind6(0, host), ip("fd00:50::1")),
            ] {
                let packets = [
                    udp(src, dst, (1000, port), 9),
                    tcp(src, dst, (1005, port), 2, 0),
                    ping(src, dst, 1, 1, 9),
                ];
                twin.send(0, packets.map(|packet| packet.with(|packet| packet.tos = tos)));
            }
        }
    }
    twin.finish(Share::AtLeast(0.0));
}

#[test]
fn metrics_and_preferences() {
    let more = [
        "ip route add 10.50.0.0/16 via 10.0.1.2 metric 200",
        "ip route add 10.50.0.0/16 via 10.0.1.3 metric 100",
        "ip route append 10.50.0.0/16 via 10.0.1.4 metric 100",
        "ip route add fd00:50::/32 via fd00:0:0:1::2 metric 200",
        "ip route add fd00:50::/32 via fd00:0:0:1::3 metric 100",
    ];
    let mut twin = twin("metrics", 2, &more);
    twin.send(0, flows(|flow| ip(&format!("10.50.0.{flow}")), 40, 5));
    twin.send(0, flows(|flow| ip(&format!("fd00:50::{flow:x}")), 40, 5));
    twin.change(&[
        "ip route del 10.50.0.0/16 via 10.0.1.3 metric 100",
        "ip route del fd00:50::/32 via fd00:0:0:1::3 metric 100",
    ]);
    twin.send(0, flows(|flow| ip(&format!("10.50.0.{flow}")), 40, 5));
    twin.send(0, flows(|flow| ip(&format!("fd00:50::{flow:x}")), 40, 5));
    // Two equal IPv4 routes (append) are the kernel's until one goes: a quarter of the packets.
    twin.finish(Share::AtLeast(0.74));
}
