//! A random network: ports, addresses, neighbours, routes, rules, sysctls, as commands for `ip` and `sysctl`.
//!
//! ```text
//!   port i: 10.200.i.1/24, fd01:0:0:i::1/64, fe80::i:1; neighbours .2 to .5, static; .2 to .4 are the gateways
//!   pools:  IPv4 routes nest in a few /8 to /16 blocks, IPv6 routes in a few /32 blocks, so that they overlap
//! ```
//!
//! Nothing in it depends on time: neighbours that nobody answers for stay unresolved while the test runs.

use crate::lab::packet::{neighbor_mac, text};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A random network.
pub struct Network {
    /// Number of ports, 2 to 4.
    pub ports: usize,
    /// The MTU of each port.
    pub mtu: Vec<u32>,
    /// False where a rule or route looks at things beyond addresses and ports of arrival.
    pub can_be_carried: bool,
    /// Every prefix that has a route, to draw addresses from.
    pub prefixes: Vec<(IpAddr, u8)>,
    pub(super) base: Vec<String>,
    pub(super) nexthops: Vec<String>,
    routes: Vec<String>,
    rules: Vec<String>,
}

/// Gateways of a port are its neighbours `.2` to `.4`.
const GATEWAYS: std::ops::Range<u8> = 2..5;
/// Tables that rules lead to.
const TABLES: std::ops::Range<u32> = 101..104;

const BLOCKS4: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(20, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
];

const BLOCKS6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2a00, 0x1450, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0), 16),
];

impl Network {
    /// Draws one.
    pub fn random(random: &mut ChaCha8Rng) -> Self {
        let ports = random.random_range(2..=4);
        let mtu = (0..ports)
            .map(|_| *pick(random, &[1500, 1500, 1500, 1400, 1280]))
            .collect();
        let mut network = Network {
            ports,
            mtu,
            can_be_carried: !random.random_bool(0.1),
            prefixes: Vec::new(),
            base: Vec::new(),
            nexthops: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
        };
        network.base = network.links();
        network.sysctls(random);
        network.nexthop_objects(random);
        network.draw_prefixes(random);
        network.draw_routes(random);
        network.draw_rules(random);
        network
    }

    /// As commands, in order.
    pub fn commands(&self) -> Vec<String> {
        [&self.base[..], &self.nexthops[..], &self.routes[..], &self.rules[..]].concat()
    }

    fn links(&self) -> Vec<String> {
        (0..self.ports).flat_map(|port| self.link(port)).collect()
    }

    /// Addresses and neighbours of a port.
    pub(super) fn link(&self, port: usize) -> Vec<String> {
        let mut lines = Vec::new();
        {
            lines.push(format!("ip addr replace 10.200.{port}.1/24 dev d{port}"));
            lines.push(format!("ip addr replace fd01:0:0:{port}::1/64 dev d{port} nodad"));
            lines.push(format!("ip addr replace fe80::{port}:1/64 dev d{port} nodad"));
            for host in 2..=5u8 {
                let mac = text(neighbor_mac(port, host - 2));
                for address in [format!("10.200.{port}.{host}"), format!("fd01:0:0:{port}::{host}")] {
                    lines.push(format!(
                        "ip neigh replace {address} lladdr {mac} dev d{port} nud permanent"
                    ));
                }
            }
            lines.extend(unanswered(port));
        }
        lines
    }

    fn sysctls(&mut self, random: &mut ChaCha8Rng) {
        let mut set = |name: String, value: u32| self.base.push(format!("sysctl {name}={value}"));
        set("net.ipv4.fib_multipath_hash_policy".into(), random.random_range(0..=1));
        set("net.ipv6.fib_multipath_hash_policy".into(), random.random_range(0..=1));
        // With it on, IPv4 is the kernel's.
        let use_pmtu = !self.can_be_carried && random.random_bool(0.3);
        set("net.ipv4.ip_forward_use_pmtu".into(), use_pmtu.into());
        let redirects = random.random_bool(0.5);
        set("net.ipv4.conf.all.send_redirects".into(), redirects.into());
        // Where a port accepts redirects, which it does while it does not forward, the routes by it are the kernel's.
        set("net.ipv4.conf.all.accept_redirects".into(), 0);
        for port in 0..self.ports {
            let strictness = *pick(random, &[0, 0, 2, 1]);
            set(format!("net.ipv4.conf.d{port}.rp_filter"), strictness);
            set(format!("net.ipv4.conf.d{port}.send_redirects"), redirects.into());
            set(format!("net.ipv4.conf.d{port}.accept_redirects"), 0);
            set(format!("net.ipv6.conf.d{port}.accept_redirects"), 0);
        }
        // Now and then a port that does not forward one family; not the first, so that something is left.
        if random.random_bool(0.1) {
            let family = if random.random_bool(0.5) { "ipv4" } else { "ipv6" };
            set(format!("net.{family}.conf.d{}.forwarding", self.ports - 1), 0);
        }
    }

    /// Per family: a group of three nexthops, and three more for routes of their own. They are apart since the kernel keeps
    /// one cached route per nexthop and processor: of an IPv6 nexthop that a group and a route share, it tells the source
    /// address of the router's answers by whichever was used first, so that two equal kernels differ.
    fn nexthop_objects(&mut self, random: &mut ChaCha8Rng) {
        for (first, four) in [(10, true), (20, false)] {
            for id in (first..first + 3).chain(first + 6..first + 9) {
                let (gateway, port) = self.gateway(random, four);
                self.nexthops
                    .push(format!("ip nexthop replace id {id} via {gateway} dev d{port}"));
            }
            let weight = random.random_range(1..=5);
            self.nexthops.push(format!(
                "ip nexthop replace id {} group {first},{weight}/{}/{}",
                first + 5,
                first + 1,
                first + 2
            ));
        }
    }

    fn draw_prefixes(&mut self, random: &mut ChaCha8Rng) {
        for _ in 0..random.random_range(10..60) {
            let (block, least) = *pick(random, &BLOCKS4);
            let prefix = self.nest(
                random,
                IpAddr::V4(block),
                least,
                &[8, 12, 16, 20, 22, 24, 25, 28, 30, 31, 32],
            );
            self.prefixes.push(prefix);
        }
        for _ in 0..random.random_range(5..40) {
            let (block, least) = *pick(random, &BLOCKS6);
            let prefix = self.nest(
                random,
                IpAddr::V6(block),
                least,
                &[32, 40, 48, 52, 56, 64, 80, 127, 128],
            );
            self.prefixes.push(prefix);
        }
        self.prefixes.sort();
        self.prefixes.dedup();
    }

    /// A longer prefix within a block, half of the time within one that was drawn before.
    fn nest(&self, random: &mut ChaCha8Rng, block: IpAddr, least: u8, lengths: &[u8]) -> (IpAddr, u8) {
        let drawn: Vec<_> = self
            .prefixes
            .iter()
            .filter(|(other, _)| other.is_ipv4() == block.is_ipv4())
            .collect();
        let (outer, at_least) = match drawn.is_empty() || random.random_bool(0.5) {
            true => (block, least),
            false => **pick(random, &drawn),
        };
        let longer: Vec<u8> = lengths.iter().copied().filter(|length| *length >= at_least).collect();
        let length = longer
            .get(random.random_range(0..longer.len().max(1)))
            .copied()
            .unwrap_or(at_least);
        (network_of(inside(random, outer, at_least), length), length)
    }

    fn draw_routes(&mut self, random: &mut ChaCha8Rng) {
        for (address, length) in self.prefixes.clone() {
            for metric in [100, 200].into_iter().take(if random.random_bool(0.1) { 2 } else { 1 }) {
                let route = self.target(random, address.is_ipv4(), None);
                let line = format!("{}{address}/{length} metric {metric} {}", route.kind, route.rest);
                self.routes.push(format!("ip route replace {line}"));
            }
            if random.random_bool(0.15) {
                let table = random.random_range(TABLES);
                let route = self.target(random, address.is_ipv4(), Some(table));
                self.routes.push(format!(
                    "ip route replace {}{address}/{length} table {table} {}",
                    route.kind, route.rest
                ));
            }
        }
        for four in [true, false] {
            if random.random_bool(0.6) {
                let route = self.target(random, four, None);
                let all = if four { "0.0.0.0/0" } else { "::/0" };
                self.routes.push(format!(
                    "ip route replace {}{all} metric 100 {}",
                    route.kind, route.rest
                ));
            }
        }
        if !self.can_be_carried {
            let (gateway, port) = self.gateway(random, true);
            self.routes.push(format!(
                "ip route replace 20.0.0.0/8 tos 0x10 via {gateway} dev d{port}"
            ));
            let (gateway, port) = self.gateway(random, false);
            self.routes.push(format!(
                "ip route replace 2001:db8::/32 from fd77::/16 via {gateway} dev d{port}"
            ));
        }
    }

    fn draw_rules(&mut self, random: &mut ChaCha8Rng) {
        for (four, v) in [(true, ""), (false, "-6 ")] {
            for at in 0..random.random_range(0..5) {
                let selector = self.selector(random, four);
                let action = match random.random_range(0..12) {
                    0 => "prohibit".to_string(),
                    1 => "blackhole".to_string(),
                    2 => "unreachable".to_string(),
                    _ => format!("lookup {}", random.random_range(TABLES)),
                };
                self.rules
                    .push(format!("ip {v}rule add {selector} {action} pref {}", 1000 + at));
            }
            if !self.can_be_carried {
                let table = random.random_range(TABLES);
                self.rules.push(format!(
                    "ip {v}rule add ipproto udp dport 1000-30000 lookup {table} pref 900"
                ));
            }
        }
    }

    /// What a rule looks at: a narrow source, a destination, a port of arrival.
    pub(super) fn selector(&self, random: &mut ChaCha8Rng, four: bool) -> String {
        let of_family: Vec<_> = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| prefix.is_ipv4() == four)
            .collect();
        let (address, length) = **pick(random, &of_family);
        let host = if four { 32 } else { 128 };
        let narrow = length.max(host / 2);
        match random.random_range(0..4) {
            0 => format!("from {}/{narrow}", network_of(address, narrow)),
            1 => format!("to {address}/{length}"),
            2 => format!("to {address}/{length} iif d{}", random.random_range(0..self.ports)),
            _ => format!(
                "from {}/{narrow} to {}/{}",
                network_of(address, narrow),
                network_of(address, 8),
                8
            ),
        }
    }

    pub(super) fn gateway(&self, random: &mut ChaCha8Rng, four: bool) -> (String, usize) {
        let (port, host) = (random.random_range(0..self.ports), random.random_range(GATEWAYS));
        let address = if four {
            format!("10.200.{port}.{host}")
        } else {
            format!("fd01:0:0:{port}::{host}")
        };
        (address, port)
    }

    /// Where a route leads: mostly a gateway.
    pub(super) fn target(&self, random: &mut ChaCha8Rng, four: bool, table: Option<u32>) -> Target {
        let objects = if four { 10 } else { 20 };
        let plain = |rest: String| Target { kind: "", rest };
        match random.random_range(0..100) {
            0..4 => Target {
                kind: "blackhole ",
                rest: String::new(),
            },
            4..8 => Target {
                kind: "unreachable ",
                rest: String::new(),
            },
            8..10 => Target {
                kind: "prohibit ",
                rest: String::new(),
            },
            10..13 if table.is_some() => Target {
                kind: "throw ",
                rest: String::new(),
            },
            13..25 => {
                let hops = (0..random.random_range(2..=4)).map(|_| {
                    let (gateway, port) = self.gateway(random, four);
                    format!(
                        "nexthop via {gateway} dev d{port} weight {}",
                        random.random_range(1..=4)
                    )
                });
                plain(distinct(hops).join(" "))
            }
            25..32 => plain(format!("nhid {}", objects + 5)),
            32..36 => plain(format!("nhid {}", objects + random.random_range(6..9))),
            36..42 => {
                let (gateway, port) = self.gateway(random, four);
                plain(format!(
                    "via {gateway} dev d{port} mtu {}",
                    *pick(random, &[1300, 1350, 1450, 4000])
                ))
            }
            42..44 => plain(format!("dev d{}", random.random_range(0..self.ports))),
            44..47 if four => {
                let (gateway, port) = self.gateway(random, false);
                plain(format!("via inet6 {gateway} dev d{port}"))
            }
            _ => {
                let (gateway, port) = self.gateway(random, four);
                plain(format!("via {gateway} dev d{port}"))
            }
        }
    }
}

/// A question that nobody answers stays one question, and one packet at most waits for its answer: what waits is charged to
/// the socket of the router's ICMP, which the kernel has once per processor and for all namespaces, so that a few hundred
/// waiting answers keep each later one from being sent, on that processor.
pub fn unanswered(port: usize) -> impl Iterator<Item = String> {
    ["ipv4", "ipv6"].into_iter().flat_map(move |family| {
        let base = format!("sysctl net.{family}.neigh.d{port}");
        [
            format!("{base}.retrans_time_ms=600000"),
            format!("{base}.unres_qlen_bytes=1"),
            // How soon one answer may replace another is a matter of the clock.
            format!("{base}.locktime=0"),
        ]
    })
}

/// A route without its prefix.
pub struct Target {
    /// Its type with a space behind, nothing for unicast.
    pub kind: &'static str,
    /// What stands behind prefix and metric.
    pub rest: String,
}

/// IPv6 refuses a route that names one nexthop twice.
fn distinct(hops: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for hop in hops {
        let way = |hop: &str| hop.split(" weight").next().map(str::to_string);
        if !seen.iter().any(|other| way(other) == way(&hop)) {
            seen.push(hop);
        }
    }
    seen
}

/// One of them.
pub fn pick<'a, T>(random: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

/// The first address of the prefix of this length around `address`.
fn network_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// A random address within a prefix.
pub fn inside(random: &mut ChaCha8Rng, prefix: IpAddr, length: u8) -> IpAddr {
    match prefix {
        IpAddr::V4(prefix) => {
            let free = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(prefix) | random.random::<u32>() & free).into())
        }
        IpAddr::V6(prefix) => {
            let free = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(prefix) | random.random::<u128>() & free).into())
        }
    }
}
