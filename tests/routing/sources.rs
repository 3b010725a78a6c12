//! Addresses that no forwarded packet may have, and source validation.

use crate::lab::packet::{ip, ping, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};

const SOURCES4: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.9.9.9",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "10.0.0.0",
    "10.0.0.255",
    "10.0.1.255",
    "10.0.0.1",
    "10.0.1.1",
    "169.254.1.1",
    "192.0.2.1",
    "10.101.0.5",
    "10.0.1.2",
];

const DESTINATIONS4: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.9.9.9",
    "224.0.0.1",
    "224.0.0.22",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "10.0.0.0",
    "10.0.0.255",
    "10.0.1.0",
    "10.0.1.255",
    "10.0.0.1",
    "10.0.1.1",
    "169.254.1.1",
    "192.0.2.1",
    "10.101.0.5",
];

const SOURCES6: &[&str] = &[
    "::",
    "::1",
    "ff02::1",
    "ff0e::5",
    "fe80::7",
    "::ffff:10.1.1.1",
    "::10.1.1.1",
    "fd00:0:0:0::1",
    "fd00:0:0:1::1",
    "fd00:0:0:0::",
    "2001:db8::1",
    "fec0::1",
    "fd00:101::5",
    "64:ff9b::1",
];

const DESTINATIONS6: &[&str] = &[
    "::",
    "::1",
    "ff01::1",
    "ff02::1",
    "ff02::2",
    "ff05::2",
    "ff0e::5",
    "fe80::7",
    "fe80::0:1",
    "::ffff:10.101.0.5",
    "::10.101.0.5",
    "fd00:0:0:0::1",
    "fd00:0:0:1::1",
    "fd00:0:0:0::",
    "fd00:0:0:1::",
    "2001:db8::1",
    "fec0::1",
    "fd00:101::5",
];

#[test]
fn martians() {
    // With default routes, so that only what an address is can stop a packet.
    let more = [
        "ip route add default via 10.0.1.2",
        "ip route add default via fd00:0:0:1::2",
    ];
    let mut twin = Twin::start(Setup::new("martians", 2, plan::config_with(2, &more)));
    for (sources, destinations) in [(SOURCES4, DESTINATIONS4), (SOURCES6, DESTINATIONS6)] {
        for src in sources.iter().map(|src| ip(src)) {
            for dst in destinations.iter().map(|dst| ip(dst)) {
                twin.send(
                    0,
                    [
                        udp(src, dst, (1, 2), 20),
                        ping(src, dst, 1, 1, 20),
                        udp(src, dst, (1, 2), 20).ttl(1),
                    ],
                );
            }
        }
    }
    twin.finish(Share::AtLeast(0.05));
}

fn validation(name: &str, mode: &[&str], least: f64) {
    let more = [
        "ip route add 10.60.0.0/16 via 10.0.1.2",
        "ip route add 10.61.0.0/16 via 10.0.0.2",
        "ip route add 10.61.1.0/24 via 10.0.2.2",
        "ip route add blackhole 10.62.0.0/16",
        "ip route add 10.63.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.1.2",
        "ip route add 10.64.0.0/16 via 10.0.0.2 table 101",
        "ip rule add from 10.101.0.0/16 lookup 101 pref 500",
        "ip rule add to 10.101.0.0/16 iif d0 lookup main pref 501",
    ];
    let more: Vec<&str> = more.iter().chain(mode).copied().collect();
    let mut twin = Twin::start(Setup::new(name, 3, plan::config_with(3, &more)));
    for third in [60, 61, 62, 63, 64, 65, 100, 101, 102] {
        for last in ["0.7", "1.7"] {
            let src = ip(&format!("10.{third}.{last}"));
            for (from, to) in [(0, 1), (0, 2), (1, 0), (2, 1)] {
                let dst = plan::behind4(to, 9);
                twin.send(from, (0..6).map(|at| udp(src, dst, (at, 2), 20)));
                twin.send(
                    from,
                    [tcp(src, dst, (1, 2), 2, 0), ping(src, plan::own(from)[0], 1, 1, 8)],
                );
            }
        }
    }
    for src in ["10.0.0.2", "10.0.0.9", "10.0.1.2", "10.0.2.2"] {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            twin.send(from, (0..6).map(|at| udp(ip(src), plan::behind4(to, 9), (at, 2), 20)));
        }
    }
    twin.finish(Share::AtLeast(least));
}

#[test]
fn not_validated() {
    validation("rp_filter_off", &[], 0.4);
}

#[test]
fn strict() {
    validation("rp_filter_strict", &["sysctl net.ipv4.conf.all.rp_filter=1"], 0.15);
}

#[test]
fn loose() {
    validation("rp_filter_loose", &["sysctl net.ipv4.conf.all.rp_filter=2"], 0.3);
}

#[test]
fn strict_on_one_port_alone() {
    validation("rp_filter_one_port", &["sysctl net.ipv4.conf.d0.rp_filter=1"], 0.25);
}

/// A port that has no address at all, and then one again: what came by it is refused if the way back is another.
#[test]
fn loose_without_an_address() {
    let more = [
        "sysctl net.ipv4.conf.all.rp_filter=2",
        "ip addr flush dev d0 scope global",
        "ip route add 10.0.0.0/24 dev d0",
        "ip route add 10.100.0.0/24 via 10.0.0.2 dev d0",
    ];
    let mut twin = Twin::start(Setup::new("rp_filter_loose_unnumbered", 3, plan::config_with(3, &more)));
    let send = |twin: &mut Twin| {
        for (src, host) in [(0, 1), (1, 2), (2, 3)] {
            twin.send(
                0,
                (0..20).map(|at| udp(plan::behind4(src, host), plan::behind4(2 - src / 2, 9), (at, 2), 20)),
            );
        }
    };
    send(&mut twin);
    twin.change(&["ip addr add 192.168.77.1/24 dev d0"]);
    send(&mut twin);
    twin.change(&[
        "ip addr del 192.168.77.1/24 dev d0",
        "ip route replace 10.0.0.0/24 dev d0",
    ]);
    send(&mut twin);
    twin.finish(Share::AtLeast(0.3));
}

/// With a default route, loose accepts every routable source.
#[test]
fn loose_with_default() {
    validation(
        "rp_filter_loose_default",
        &[
            "sysctl net.ipv4.conf.d0.rp_filter=2",
            "ip route add default via 10.0.2.2",
        ],
        0.4,
    );
}

/// The way back is looked up as if the packet came in where it leaves, so that a rule for that link refuses it; and a refused
/// source counts only where the port validates sources.
#[test]
fn rules_by_the_link_that_it_leaves_by() {
    for (mode, least) in [("0", 0.8), ("1", 0.2), ("2", 0.2)] {
        let sysctl = format!("sysctl net.ipv4.conf.all.rp_filter={mode}");
        let more = [
            "ip rule add to 10.100.0.0/28 iif d1 unreachable pref 500",
            "ip rule add to 10.102.0.0/28 iif d0 blackhole pref 501",
            "ip route add prohibit 10.100.0.64/28",
            &sysctl,
        ];
        let name = format!("rp_filter_{mode}_rules_by_link");
        let mut twin = Twin::start(Setup::new(&name, 3, plan::config_with(3, &more)));
        for host in [1, 5, 65, 200] {
            for (from, to) in [(0, 1), (0, 2), (2, 0), (2, 1)] {
                let (src, dst) = (plan::behind4(from, host), plan::behind4(to, 200));
                twin.send(from, (0..6).map(|at| udp(src, dst, (at, 2), 20)));
            }
        }
        twin.finish(Share::AtLeast(least));
    }
}
