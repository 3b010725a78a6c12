//! A random network of bridges, as commands, and random changes of it.

use super::pick;
use crate::lab::packet::text;
use crate::lab::plan;
use crate::net::{Station, at, bridge_with, nf_call, routed, ruleset};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::collections::BTreeMap;

/// Stations behind each port.
pub const HOSTS: u8 = 4;

/// See the file's head.
pub struct Network {
    pub ports: usize,
    pub mtu: Vec<u32>,
    /// The bridge that a port is a member of; none: it is routed.
    pub bridge_of: Vec<Option<usize>>,
    /// Nothing in it leaves all of its bridges, or all frames of a port's stations, to the kernel: who is never learned is
    /// flooded to.
    pub can_be_carried: bool,
    bridges: usize,
    /// Stations that are behind another port than their own: port and host, and where they are.
    pub away: BTreeMap<(usize, u8), usize>,
    /// Of each port, what flags it was given beside the usual.
    lines: Vec<String>,
}

/// Flags that leave most of a port's traffic as it is.
const MILD: [&str; 10] = [
    "hairpin on",
    "hairpin off",
    "isolated on",
    "isolated off",
    "learning off",
    "learning on",
    "flood off",
    "flood on",
    "mcast_flood off",
    "bcast_flood off",
];
/// Flags that stop it.
const HARD: [&str; 6] = ["state 4", "state 1", "state 2", "state 0", "locked on", "locked off"];

/// Rules that do not look at connections, at the hooks of IP.
const STATELESS: [&str; 3] = [
    "table inet t { chain f { type filter hook forward priority 0 ; udp dport 9 drop ; ip6 hoplimit 5 drop ; } }",
    "table ip t { chain p { type filter hook prerouting priority -300 ; udp dport 1-40 drop ; } }",
    "table inet t { chain p { type filter hook postrouting priority 0 ; oifname \"br0\" udp dport 53 drop ; } }",
];
/// Of family bridge.
const OF_BRIDGE: [&str; 3] = [
    "table bridge t { chain f { type filter hook forward priority 0 ; ether type 0x88b5 drop ; udp dport 9 drop ; } }",
    "table bridge t { chain p { type filter hook prerouting priority 0 ; iifname \"d0\" ip protocol udp drop ; } }",
    "table bridge t { chain p { type filter hook postrouting priority 0 ; oifname \"d1\" ether type ip6 drop ; } }",
];

impl Network {
    pub fn random(random: &mut ChaCha8Rng) -> Self {
        let ports = random.random_range(3..=5);
        let bridges = random.random_range(1..=2);
        let mut bridge_of: Vec<_> = (0..ports)
            .map(|_| match random.random_range(0..10) {
                0..6 => Some(0),
                6..8 => Some(bridges - 1),
                _ => None,
            })
            .collect();
        bridge_of[..2].fill(Some(0));
        let mtu = (0..ports)
            .map(|_| *pick(random, &[1500, 1500, 1500, 1400, 1300]))
            .collect();
        let mut network = Network {
            ports,
            mtu,
            bridge_of,
            can_be_carried: true,
            bridges,
            away: BTreeMap::new(),
            lines: Vec::new(),
        };
        for port in network.members() {
            for _ in 0..random.random_range(0..3) {
                let line = network.flags(random, port, &MILD);
                network.lines.push(line);
            }
            if random.random_bool(0.08) {
                let line = network.flags(random, port, &HARD);
                network.lines.push(line);
            }
        }
        for _ in 0..random.random_range(0..4) {
            let entry = network.entry(random);
            network.lines.push(entry);
        }
        let call = random.random_bool(0.4);
        network.lines.extend(nf_call(call));
        if random.random_bool(0.35) {
            let is_of_bridge = random.random_bool(0.5);
            let rules = if is_of_bridge { &OF_BRIDGE } else { &STATELESS };
            network.lines.push(ruleset(rules[random.random_range(0..3)]));
            network.can_be_carried &= !is_of_bridge && !call;
        }
        network
    }

    /// The members of all bridges.
    pub fn members(&self) -> Vec<usize> {
        (0..self.ports).filter(|&port| self.bridge_of[port].is_some()).collect()
    }

    /// The members of one.
    fn members_of(&self, bridge: usize) -> Vec<usize> {
        (0..self.ports)
            .filter(|&port| self.bridge_of[port] == Some(bridge))
            .collect()
    }

    pub fn commands(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for b in 0..self.bridges {
            lines.extend(bridge_with(b, &self.members_of(b), ""));
            lines.extend(routed(b, &(0..self.ports).collect::<Vec<_>>()));
            // A redirect is the clock's.
            lines.push(format!("sysctl net.ipv4.conf.br{b}.send_redirects=0"));
        }
        lines.push("sysctl net.ipv4.conf.all.send_redirects=0".into());
        for port in 0..self.ports {
            // A member's addresses would be the router's, and take the way to where the port's stations are.
            if self.bridge_of[port].is_none() {
                lines.extend(plan::addresses(port));
                lines.extend(plan::neighbours(port));
                lines.extend(plan::routes(port));
            }
        }
        lines.extend(self.lines.iter().cloned());
        lines
    }

    /// A station behind a port, on the port's bridge.
    pub fn station(&self, port: usize, host: u8) -> Station {
        at(port, host).on(self.bridge_of[port].unwrap_or(0))
    }

    /// The stations that are behind a port now.
    pub fn behind(&self, port: usize) -> Vec<Station> {
        let all = (0..self.ports).flat_map(|home| (0..HOSTS).map(move |host| (home, host)));
        let here = all.filter(|key| self.away.get(key).copied().unwrap_or(key.0) == port);
        here.map(|(home, host)| self.station(home, host)).collect()
    }

    /// A station of a port of the same bridge as `port`, or of any member.
    pub fn peer(&self, random: &mut ChaCha8Rng, port: usize) -> Station {
        let of_bridge = self.bridge_of[port].map_or(Vec::new(), |bridge| self.members_of(bridge));
        let others: Vec<_> = of_bridge.into_iter().filter(|other| *other != port).collect();
        let from = match others.is_empty() || random.random_bool(0.03) {
            true => self.members(),
            false => others,
        };
        let port = *pick(random, &from);
        self.station(port, random.random_range(0..HOSTS))
    }

    /// Some of these flags for a port.
    fn flags(&mut self, random: &mut ChaCha8Rng, port: usize, from: &[&str]) -> String {
        let flags = from[random.random_range(0..from.len())];
        let lets_all_in = ["learning off", "locked on"].iter().all(|word| *word != flags);
        self.can_be_carried &= lets_all_in && (!flags.starts_with("state") || flags == "state 3");
        format!("bridge link set dev d{port} {flags}")
    }

    /// An entry made by hand, of a station that nobody else says anything about.
    fn entry(&self, random: &mut ChaCha8Rng) -> String {
        let members = self.members();
        let (port, host) = (*pick(random, &members), HOSTS + random.random_range(0..3));
        // The kernel takes a dynamic one only while the port forwards, which it may not yet.
        let kind = *pick(random, &["static", "permanent", "static sticky"]);
        format!(
            "bridge fdb replace {} dev d{port} master {kind}",
            text(at(port, host).mac())
        )
    }

    /// The commands of one change; often several at once. None can fail.
    pub fn change(&mut self, random: &mut ChaCha8Rng) -> Vec<String> {
        (0..random.random_range(1..=3))
            .flat_map(|_| self.one_change(random))
            .collect()
    }

    fn one_change(&mut self, random: &mut ChaCha8Rng) -> Vec<String> {
        let members = self.members();
        let port = *pick(random, &members);
        match random.random_range(0..16) {
            0..5 => vec![self.flags(random, port, &MILD)],
            // Mostly back to what lets everything through.
            5 => vec![self.flags(random, port, &["state 3", "state 3", "state 4"])],
            6 => vec![self.flags(random, port, &["locked off", "locked off", "locked on"])],
            7..9 => vec![self.entry(random)],
            9 => vec![format!("ip link set d{port} mtu {}", pick(random, &[1280, 1400, 1500]))],
            10 => vec![format!("ip link set d{port} down"), format!("ip link set d{port} up")],
            11 => vec![format!(
                "ip link set br{} type bridge fdb_flush",
                random.random_range(0..self.bridges)
            )],
            12 => vec![format!("bridge fdb flush dev d{port} master")],
            13 if self.bridges == 2 => {
                let to = random.random_range(0..2);
                self.bridge_of[port] = Some(to);
                vec![format!("ip link set d{port} master br{to}")]
            }
            14 => {
                let bridge = self.bridge_of[port].unwrap_or(0);
                vec![
                    format!("ip link set br{bridge} down"),
                    format!("ip link set br{bridge} up"),
                ]
            }
            _ => {
                let bridge = self.bridge_of[port].unwrap_or(0);
                vec![
                    format!("ip link set d{port} nomaster"),
                    format!("ip link set d{port} master br{bridge}"),
                ]
            }
        }
    }
}
