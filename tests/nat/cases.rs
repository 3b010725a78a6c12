//! The router's configuration, and what its rules ask for, as nft and as ranges.

use bypath::packet::{Addr, Family};
use bypath::table::nat::{Range, flag};
use std::net::IpAddr;

use crate::lab::packet::{text, wire_mac};

/// What packets to one server go through.
pub struct Case {
    pub name: &'static str,
    pub server: IpAddr,
    /// The rules take packets with ports only.
    pub ports_only: bool,
    pub destination: Option<Range>,
    pub source: Option<Range>,
    /// The rules behind `ip daddr` and `ct original ip daddr`.
    rules: [&'static str; 2],
}

fn address(text: &str) -> Addr {
    Family::of(text.parse().expect("an address")).1
}

fn range(addresses: Option<[&str; 2]>, ports: Option<(u16, u16)>, flags: u32) -> Option<Range> {
    Some(Range {
        addresses: addresses.map(|[first, last]| (address(first), address(last))),
        ports,
        base: 0,
        flags,
    })
}

/// The cases of a family: a name, whether only packets with ports are meant, what the rules ask for, and the rules.
pub fn cases(family: Family) -> Vec<Case> {
    type Line = (&'static str, bool, Option<Range>, Option<Range>, [&'static str; 2]);
    let lines: Vec<Line> = match family {
        Family::V4 => {
            let own = Some(["192.0.2.1"; 2]);
            let pool = Some(["203.0.113.1", "203.0.113.20"]);
            let wide = Some(["203.0.113.7", "203.0.127.19"]);
            let backends = Some(["198.51.100.100", "198.51.100.120"]);
            let one = Some(["198.51.100.200"; 2]);
            let gate = Some(["203.0.113.1"; 2]);
            vec![
                ("nothing", false, None, None, ["", ""]),
                ("masquerade", false, None, range(own, None, 0), ["", "masquerade"]),
                (
                    "a pool",
                    false,
                    None,
                    range(pool, None, 0),
                    ["", "snat to 203.0.113.1-203.0.113.20"],
                ),
                (
                    "a wide pool",
                    false,
                    None,
                    range(wide, None, 0),
                    ["", "snat to 203.0.113.7-203.0.127.19"],
                ),
                (
                    "persistent",
                    false,
                    None,
                    range(pool, None, flag::PERSISTENT),
                    ["", "snat to 203.0.113.1-203.0.113.20 persistent"],
                ),
                (
                    "few ports",
                    true,
                    None,
                    range(gate, Some((1000, 1002)), 0),
                    [
                        "",
                        "meta l4proto { tcp, udp, sctp, udplite } snat to 203.0.113.1:1000-1002",
                    ],
                ),
                (
                    "one port",
                    true,
                    None,
                    range(gate, Some((5000, 5000)), 0),
                    ["", "meta l4proto { tcp, udp, sctp, udplite } snat to 203.0.113.1:5000"],
                ),
                (
                    "backends",
                    false,
                    range(backends, None, 0),
                    None,
                    ["dnat to 198.51.100.100-198.51.100.120", ""],
                ),
                (
                    "ports of a backend",
                    true,
                    range(one, Some((8000, 8010)), 0),
                    None,
                    [
                        "meta l4proto { tcp, udp, sctp, udplite } dnat to 198.51.100.200:8000-8010",
                        "",
                    ],
                ),
                (
                    "one port of a backend",
                    true,
                    range(one, Some((80, 80)), 0),
                    None,
                    ["meta l4proto { tcp, udp, sctp, udplite } dnat to 198.51.100.200:80", ""],
                ),
                (
                    "both",
                    false,
                    range(one, None, 0),
                    range(own, None, 0),
                    ["dnat to 198.51.100.200", "masquerade"],
                ),
                (
                    "both from pools",
                    false,
                    range(backends, None, flag::PERSISTENT),
                    range(pool, None, 0),
                    [
                        "dnat to 198.51.100.100-198.51.100.120 persistent",
                        "snat to 203.0.113.1-203.0.113.20",
                    ],
                ),
                (
                    "random",
                    false,
                    None,
                    range(own, None, flag::RANDOM),
                    ["", "masquerade random"],
                ),
            ]
        }
        Family::V6 => {
            let own = Some(["fd00:1::1"; 2]);
            let pool = Some(["2001:db8:f::1", "2001:db8:f::20"]);
            let wide = Some(["2001:db8:f::5", "2001:db8:f:7:0:3:8000:9"]);
            let one = Some(["2001:db8:5::200"; 2]);
            let backends = Some(["2001:db8:5::100", "2001:db8:5::120"]);
            vec![
                ("nothing", false, None, None, ["", ""]),
                ("masquerade", false, None, range(own, None, 0), ["", "masquerade"]),
                (
                    "a pool",
                    false,
                    None,
                    range(pool, None, 0),
                    ["", "snat to 2001:db8:f::1-2001:db8:f::20"],
                ),
                (
                    "a wide pool",
                    false,
                    None,
                    range(wide, None, 0),
                    ["", "snat to 2001:db8:f::5-2001:db8:f:7:0:3:8000:9"],
                ),
                (
                    "a wide pool, persistent",
                    false,
                    None,
                    range(wide, None, flag::PERSISTENT),
                    ["", "snat to 2001:db8:f::5-2001:db8:f:7:0:3:8000:9 persistent"],
                ),
                (
                    "backends",
                    false,
                    range(backends, None, 0),
                    None,
                    ["dnat to 2001:db8:5::100-2001:db8:5::120", ""],
                ),
                (
                    "one port of a backend",
                    true,
                    range(one, Some((80, 80)), 0),
                    range(own, None, 0),
                    [
                        "meta l4proto { tcp, udp, sctp, udplite } dnat to [2001:db8:5::200]:80",
                        "meta l4proto { tcp, udp, sctp, udplite } masquerade",
                    ],
                ),
            ]
        }
    };
    let case = |(number, (name, ports_only, destination, source, rules)): (u16, Line)| Case {
        name,
        server: match family {
            Family::V4 => IpAddr::from([198, 51, 100, number as u8]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 5, 0, 0, 0, 0, number]),
        },
        ports_only,
        destination,
        source,
        rules,
    };
    (1..).zip(lines).map(case).collect()
}

/// All of the router's configuration.
pub fn configuration() -> Vec<String> {
    let mut commands: Vec<String> = [
        "ip addr add 10.0.0.1/24 dev d0",
        "ip addr add 192.0.2.1/24 dev d1",
        "ip addr add fd00::1/64 dev d0 nodad",
        "ip addr add fd00:1::1/64 dev d1 nodad",
    ]
    .map(String::from)
    .to_vec();
    for (port, gateways) in [["10.0.0.2", "fd00::2"], ["192.0.2.2", "fd00:1::2"]].iter().enumerate() {
        for gateway in gateways {
            let mac = text(wire_mac(port));
            commands.push(format!("ip neigh add {gateway} lladdr {mac} dev d{port} nud permanent"));
        }
    }
    commands.extend(
        [
            "ip route add 10.1.0.0/16 via 10.0.0.2 dev d0",
            "ip route add 198.51.100.0/24 via 192.0.2.2 dev d1",
            "ip -6 route add 2001:db8:c::/64 via fd00::2 dev d0",
            "ip -6 route add 2001:db8:5::/64 via fd00:1::2 dev d1",
        ]
        .map(String::from),
    );
    let mut ruleset = String::from("ruleset ");
    for (family, word) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        let mut chains = [String::new(), String::new()];
        for case in cases(family) {
            let [destination, source] = case.rules;
            let server = case.server;
            if !destination.is_empty() {
                chains[0] += &format!("{word} daddr {server} {destination}; ");
            }
            if !source.is_empty() {
                chains[1] += &format!("ct original {word} daddr {server} {source}; ");
            }
        }
        let [pre, post] = chains;
        ruleset += &format!(
            "table {word} n {{ chain pre {{ type nat hook prerouting priority -100; {pre} }}; \
             chain post {{ type nat hook postrouting priority 100; {post} }}; }}; "
        );
    }
    commands.push(ruleset);
    // Conntrack's sysctls are there once it is in use.
    commands.push("sysctl net.netfilter.nf_conntrack_checksum=0".into());
    for state in ["cookie_wait", "cookie_echoed"] {
        commands.push(format!("sysctl net.netfilter.nf_conntrack_sctp_timeout_{state}=100"));
    }
    commands
}
