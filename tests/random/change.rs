//! Changes of a random network while it forwards: routes, nexthop objects, neighbours, addresses, rules, sysctls, links.
//!
//! Each is a few commands that cannot fail, whatever was changed before: what is deleted was added here, and the rest is
//! `replace`. What a change does to flows is the kernel's word: they are asked about anew after each (see `traffic`).

use super::config::{Network, inside, pick};
use crate::lab::packet::{neighbor_mac, text};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// What was added, to be taken away again.
#[derive(Default)]
pub struct Changes {
    routes: Vec<String>,
    addresses: Vec<String>,
    rules: Vec<(&'static str, u32)>,
    made: u32,
}

impl Changes {
    /// The commands of one change; often of several kinds at once.
    pub fn draw(&mut self, random: &mut ChaCha8Rng, network: &Network) -> Vec<String> {
        let kinds = random.random_range(1..=3);
        (0..kinds).flat_map(|_| self.one(random, network)).collect()
    }

    fn one(&mut self, random: &mut ChaCha8Rng, network: &Network) -> Vec<String> {
        let port = random.random_range(0..network.ports);
        match random.random_range(0..16) {
            0..5 => self.routes(random, network),
            5..7 => nexthops(random, network),
            7..9 => neighbours(random, port),
            9..11 => self.addresses(random, network, port),
            11..13 => self.rules(random, network),
            13 => vec![format!("ip link set d{port} mtu {}", pick(random, &[1280, 1400, 1500]))],
            14 => sysctls(random, network, port),
            _ => flap(network, port),
        }
    }

    fn routes(&mut self, random: &mut ChaCha8Rng, network: &Network) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..random.random_range(1..=8) {
            if !self.routes.is_empty() && random.random_bool(0.3) {
                let at = random.random_range(0..self.routes.len());
                lines.push(format!("ip route del {}", self.routes.swap_remove(at)));
                continue;
            }
            let (address, length) = *pick(random, &network.prefixes);
            let route = network.target(random, address.is_ipv4(), None);
            // A metric of its own, so that nothing but `del` here takes it away. A multipath route of IPv6 is several.
            self.made += 1;
            let key = format!("{}{address}/{length} metric {}", route.kind, 50 + self.made % 40);
            lines.push(format!("ip route replace {key} {}", route.rest));
            if address.is_ipv4() || !route.rest.contains("nexthop ") {
                self.routes.retain(|other| *other != key);
                // A link that went down took its routes with it: only what has no link is sure to be there.
                if route.rest.is_empty() {
                    self.routes.push(key);
                }
            }
        }
        lines
    }

    fn addresses(&mut self, random: &mut ChaCha8Rng, network: &Network, port: usize) -> Vec<String> {
        if !self.addresses.is_empty() && random.random_bool(0.5) {
            let at = random.random_range(0..self.addresses.len());
            return vec![format!("ip addr del {}", self.addresses.swap_remove(at))];
        }
        let (prefix, length) = *pick(random, &network.prefixes);
        let host = if prefix.is_ipv4() { 32 } else { 128 };
        let address = format!("{}/{host} dev d{port}", inside(random, prefix, length));
        let line = format!("ip addr replace {address}{}", if host == 128 { " nodad" } else { "" });
        // IPv6 addresses go with a link that goes down.
        if host == 32 && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        vec![line]
    }

    fn rules(&mut self, random: &mut ChaCha8Rng, network: &Network) -> Vec<String> {
        if !self.rules.is_empty() && random.random_bool(0.4) {
            let at = random.random_range(0..self.rules.len());
            let (v, pref) = self.rules.swap_remove(at);
            return vec![format!("ip {v}rule del pref {pref}")];
        }
        let four = random.random_bool(0.5);
        self.made += 1;
        let v = if four { "" } else { "-6 " };
        let action = *pick(
            random,
            &[
                "lookup 101",
                "lookup 102",
                "lookup main",
                "prohibit",
                "goto 32766",
                "nop",
            ],
        );
        let pref = 2000 + self.made;
        let selector = network.selector(random, four);
        self.rules.push((v, pref));
        vec![format!("ip {v}rule add {selector} {action} pref {pref}")]
    }
}

/// Another way behind an object of its own, or another group.
fn nexthops(random: &mut ChaCha8Rng, network: &Network) -> Vec<String> {
    let four = random.random_bool(0.5);
    let first = if four { 10 } else { 20 };
    if random.random_bool(0.5) {
        let id = first + random.random_range(6..9);
        let (gateway, port) = network.gateway(random, four);
        return vec![format!("ip nexthop replace id {id} via {gateway} dev d{port}")];
    }
    let members: Vec<String> = (first..first + random.random_range(1..=3))
        .map(|id| format!("{id},{}", random.random_range(1..=5)))
        .collect();
    vec![format!(
        "ip nexthop replace id {} group {}",
        first + 5,
        members.join("/")
    )]
}

/// Other Ethernet addresses; now and then of an entry that was gone in between.
fn neighbours(random: &mut ChaCha8Rng, port: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..random.random_range(1..=4) {
        let host = random.random_range(2..=5);
        let address = match random.random_bool(0.5) {
            true => format!("10.200.{port}.{host}"),
            false => format!("fd01:0:0:{port}::{host}"),
        };
        if random.random_bool(0.3) {
            lines.push(format!("ip neigh del {address} dev d{port}"));
        }
        let mac = text(neighbor_mac(port, random.random_range(0..8)));
        lines.push(format!(
            "ip neigh replace {address} lladdr {mac} dev d{port} nud permanent"
        ));
    }
    lines
}

fn sysctls(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Vec<String> {
    let bit = u32::from(random.random_bool(0.5));
    let last = network.ports - 1;
    vec![match random.random_range(0..6) {
        0 => format!("sysctl net.ipv4.conf.d{port}.rp_filter={}", random.random_range(0..=2)),
        1 => format!("sysctl net.ipv4.fib_multipath_hash_policy={bit}"),
        2 => format!("sysctl net.ipv6.fib_multipath_hash_policy={bit}"),
        3 => format!("sysctl net.ipv4.conf.d{last}.forwarding={bit}"),
        4 => format!("sysctl net.ipv6.conf.d{last}.forwarding={bit}"),
        _ => format!("sysctl net.ipv4.conf.all.rp_filter={bit}"),
    }]
}

/// A link that goes down and comes up again; what goes with it and is shared comes back by hand, its routes do not.
fn flap(network: &Network, port: usize) -> Vec<String> {
    let mut lines = vec![format!("ip link set d{port} down"), format!("ip link set d{port} up")];
    lines.extend(network.link(port));
    lines.extend(network.nexthops.iter().cloned());
    lines
}
