//! What the scenarios of bridges share: bridges as commands, stations behind their ports, and frames between these.
//!
//! ```text
//!   bridge b:   brB, 02:00:00:00:00:bB; where it routes, 10.9.B.1/24 and fd09:0:0:B::1/64
//!   station h behind port p of bridge b:   02:00:00:01:HH:PP, 10.9.B.(16 + 16 p + h), fd09:0:0:B::(16 + 16 p + h)
//! ```
//!
//! Off is what a timer alone decides: spanning tree, snooping, and the neighbours' own timers. Bridged packets meet no hook
//! of IP (`bridge-nf-call-* 0`) unless a scenario says so.

use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::bypath::BINARY;
use crate::lab::packet::{Mac, Packet, ip, neighbor_mac, packet, ping, proto, router_mac, tcp, text, udp};
use crate::lab::router::Layout;
use crate::lab::twin::{Fence, Outcome, Setup, Share, Twin};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What the kernel learned is known to bypath by then, on a busy machine too, and to the workers a little later.
const LEARNED_WITHIN: Duration = Duration::from_secs(2);
const IN_FORCE_WITHIN: Duration = Duration::from_millis(100);

/// The address of bridge `b`.
pub fn bridge_mac(b: usize) -> Mac {
    [0x02, 0, 0, 0, 0, 0xb0 + b as u8]
}

/// The address of port `port` of the router, a member or not.
pub fn port_mac(port: usize) -> Mac {
    router_mac(port)
}

/// Bridge `b` with these members, `more` of it in the words of `ip link add type bridge`.
pub fn bridge_with(b: usize, ports: &[usize], more: &str) -> Vec<String> {
    let mac = text(bridge_mac(b));
    let mut lines = vec![format!(
        "ip link add br{b} address {mac} type bridge mcast_snooping 0 forward_delay 0 {more}"
    )];
    lines.extend(ports.iter().map(|port| format!("ip link set d{port} master br{b}")));
    lines.push(format!("ip link set br{b} up"));
    lines
}

/// Bridge `b` with these members.
pub fn bridge(b: usize, ports: &[usize]) -> Vec<String> {
    bridge_with(b, ports, "")
}

/// The router's addresses on bridge `b`, and as its neighbours the stations 0 and 1 behind these ports.
pub fn routed(b: usize, ports: &[usize]) -> Vec<String> {
    let mut lines = vec![
        format!("ip addr add 10.9.{b}.1/24 dev br{b}"),
        format!("ip addr add fd09:0:0:{b}::1/64 dev br{b} nodad"),
        format!("ip addr add fe80::b{b}:1/64 dev br{b} nodad"),
    ];
    for station in ports.iter().flat_map(|&port| [at(port, 0).on(b), at(port, 1).on(b)]) {
        let mac = text(station.mac());
        lines.extend(
            [station.v4(), station.v6()]
                .map(|address| format!("ip neigh replace {address} lladdr {mac} dev br{b} nud permanent")),
        );
    }
    lines
}

/// Whether bridged packets meet the hooks of IP.
pub fn nf_call(on: bool) -> Vec<String> {
    ["iptables", "ip6tables"]
        .map(|program| format!("sysctl net.bridge.bridge-nf-call-{program}={}", u8::from(on)))
        .to_vec()
}

/// A ruleset in one line, as a command: nft wants an end of line behind each block.
pub fn ruleset(words: &str) -> String {
    format!("ruleset {}", words.replace(" }", " }\n"))
}

/// A host behind a port of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    pub port: usize,
    pub host: u8,
    bridge: usize,
}

/// Host `host` behind port `port`, on bridge 0.
pub fn at(port: usize, host: u8) -> Station {
    Station { port, host, bridge: 0 }
}

impl Station {
    /// The same on another bridge.
    pub fn on(self, bridge: usize) -> Self {
        Station { bridge, ..self }
    }

    pub fn mac(self) -> Mac {
        neighbor_mac(self.port, self.host)
    }

    fn number(self) -> usize {
        16 + 16 * self.port + usize::from(self.host)
    }

    pub fn v4(self) -> IpAddr {
        ip(&format!("10.9.{}.{}", self.bridge, self.number()))
    }

    pub fn v6(self) -> IpAddr {
        ip(&format!("fd09:0:0:{}::{:x}", self.bridge, self.number()))
    }

    /// A packet with the addresses of both on the wire.
    pub fn sends(self, to: Station, packet: Packet) -> Packet {
        self.sends_to(to.mac(), packet)
    }

    /// A packet to an address of Ethernet.
    pub fn sends_to(self, to: Mac, packet: Packet) -> Packet {
        packet.with(|packet| (packet.dst_mac, packet.src_mac) = (to, self.mac()))
    }

    /// A datagram of IPv4, or of IPv6.
    pub fn udp(self, to: Station, v6: bool, ports: (u16, u16)) -> Packet {
        let (src, dst) = self.addresses(to, v6);
        self.sends(to, udp(src, dst, ports, 40))
    }

    /// Addresses of IP from here to there.
    pub fn addresses(self, to: Station, v6: bool) -> (IpAddr, IpAddr) {
        match v6 {
            false => (self.v4(), to.v4()),
            true => (self.v6(), to.v6()),
        }
    }
}

/// Frames that bypath can carry between two stations, of many kinds.
pub fn carried(from: Station, to: Station, count: usize) -> Vec<Vec<u8>> {
    let one = |number: usize| {
        let id = number as u16;
        let (src, dst) = from.addresses(to, number % 2 == 1);
        let plain = match number / 2 % 8 {
            0 => return plain_frame(to.mac(), from.mac(), 46 + number % 100),
            1 => tcp(src, dst, (1000 + id, 80), 0x10, number % 300),
            2 => ping(src, dst, id, 1, 30),
            // No hop is taken on the way from port to port.
            3 => udp(src, dst, (id, 1), 5).ttl(1),
            4 => udp(src, dst, (id, 2), 5).ttl(0),
            5 => udp(src, dst, (id, 3), 10).with(|packet| packet.padding = 18),
            6 => packet(src, dst, 89, vec![2; 32], None),
            _ => udp(src, dst, (id, 53), number % 200),
        };
        from.sends(to, plain.with(|packet| packet.id = id)).build()
    };
    (0..count).map(one).collect()
}

/// Frames of no protocol to an address.
pub fn plain(from: Station, to: Mac, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| plain_frame(to, from.mac(), 46 + number))
        .collect()
}

/// ARP between two stations, unicast: left to the kernel by steer.
pub fn arp_reply(from: Station, to: Station) -> Vec<u8> {
    match (from.v4(), to.v4()) {
        (IpAddr::V4(own), IpAddr::V4(peer)) => crate::lab::neighbor::arp_reply(from.mac(), own, to.mac(), peer),
        _ => unreachable!("both are of IPv4"),
    }
}

/// A neighbour advertisement between two stations.
pub fn advertisement(from: Station, to: Station) -> Vec<u8> {
    let (src, dst) = from.addresses(to, true);
    let mut body = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    match src {
        IpAddr::V6(target) => body.extend(target.octets()),
        IpAddr::V4(_) => unreachable!("asked for IPv6"),
    }
    body.extend([2, 1]);
    body.extend(from.mac());
    from.sends(to, packet(src, dst, proto::ICMPV6, body, Some(2)).ttl(255))
        .build()
}

/// A twin of bridges: a router of `ports` ports with this configuration.
pub fn setup(name: &str, ports: usize, config: Vec<String>) -> Setup {
    let mut all = nf_call(false);
    all.extend(config);
    Setup {
        drops: true,
        fence: Fence::Flood,
        layout: Layout::ports(ports),
        ..Setup::new(&format!("bridge_{name}"), ports, all)
    }
}

/// A twin whose ports are all members of bridge 0.
pub fn one_bridge(name: &str, ports: usize) -> Twin {
    let members: Vec<usize> = (0..ports).collect();
    Twin::start(setup(name, ports, bridge(0, &members)))
}

/// Has the stations be learned where they are: each sends one frame that is flooded.
pub fn learn(twin: &mut Twin, stations: &[Station]) {
    twin.settle_links();
    for station in stations {
        let number = 0xf000 | (station.port as u16) << 8 | u16::from(station.host);
        twin.inject(station.port, &[plain_frame(unknown_mac(number), station.mac(), 46)]);
    }
    wait_learned(twin, stations.iter().map(|station| station.mac()));
}

/// Waits until bypath knows these addresses where the kernel's lab has learned them, if it has.
pub fn wait_learned(twin: &Twin, macs: impl IntoIterator<Item = Mac>) {
    let macs: BTreeSet<String> = macs.into_iter().map(text).collect();
    let places = |shown: String| -> BTreeSet<[String; 2]> {
        let rows: Vec<serde_json::Value> = serde_json::from_str(&shown).expect("a list in JSON");
        let of_bridges = rows.iter().filter(|row| row["master"].is_string());
        let places =
            of_bridges.map(|row| ["mac", "ifname"].map(|key| row[key].as_str().unwrap_or_default().to_owned()));
        places.filter(|[mac, _]| macs.contains(mac)).collect()
    };
    if let Some(bypath) = twin.bypath() {
        let wanted = places(twin.kernel_router().run("bridge -j fdb show"));
        let until = Instant::now() + LEARNED_WITHIN;
        let show = format!("{BINARY} show fdb --json");
        while !places(bypath.namespace().run(&show)).is_superset(&wanted) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::thread::sleep(IN_FORCE_WITHIN);
}

/// Sends `count` frames each way.
pub fn talk(twin: &mut Twin, one: Station, other: Station, count: usize) {
    twin.inject(one.port, &carried(one, other, count));
    twin.inject(other.port, &carried(other, one, count));
}

/// How many frames bypath has forwarded by now; 0 without it.
pub fn forwarded(twin: &Twin) -> u64 {
    twin.bypath().map_or(0, |bypath| bypath.totals_at_rest().forwarded)
}

/// Panics unless bypath forwarded at least `least` frames in `what`.
pub fn forwards(twin: &mut Twin, least: u64, what: impl FnOnce(&mut Twin)) {
    let before = forwarded(twin);
    what(twin);
    twin.settle();
    let now = forwarded(twin) - before;
    assert!(
        twin.bypath().is_none() || now >= least,
        "forwarded {now}, wanted {least}: {:?}",
        twin.bypath().map(|bypath| bypath.totals())
    );
}

/// Panics if bypath forwarded anything in `what`.
pub fn forwards_nothing(twin: &mut Twin, what: impl FnOnce(&mut Twin)) {
    let before = forwarded(twin);
    what(twin);
    twin.settle();
    assert_eq!(forwarded(twin), before, "forwarded what the kernel should have seen");
}

/// The end of a scenario: databases, captures and share.
pub fn finish(mut twin: Twin, share: Share) -> Outcome {
    twin.settle();
    twin.compare_fdbs("at the end");
    finish_aged(twin, share)
}

/// The same where entries age meanwhile, in each lab by its own clock.
pub fn finish_aged(twin: Twin, share: Share) -> Outcome {
    twin.finish(share)
}
