//! Random traffic past the hooks of IP at a bridge: a few services, by right and by other Ethernet addresses, in both
//! directions, with rules that look at connections, ports and marks, and translate. What is kept of one frame's way must hold
//! for the next one of its connection, whatever that bears.
//!
//! `BYPATH_TWIN_SEED` begins elsewhere.

use crate::lab::env::number;
use crate::lab::packet::{Mac, Packet, ip, ping, udp};
use crate::lab::plan;
use crate::lab::twin::{Share, Twin};
use crate::net::{at, bridge_mac, finish, port_mac, ruleset};
use crate::netfilter::{inject, start};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::net::IpAddr;

const SEEDS: u64 = 3;
const FRAMES: usize = 400;

/// One connection after the other, of two clients.
struct Service {
    /// Where clients send to.
    asked: (IpAddr, u16),
    /// The port behind which the server is, its Ethernet address, and that to which it answers.
    there: (usize, Mac, Mac),
    /// What the server takes for its own, and for the client's.
    served: (IpAddr, u16),
    seen: Option<IpAddr>,
    /// To whom frames to it may go.
    macs: Vec<Mac>,
}

fn services(nat: bool) -> Vec<Service> {
    let (same, other) = (at(1, 0), at(1, 1));
    let own = |station: crate::net::Station, port| Service {
        asked: (station.v4(), port),
        there: (1, station.mac(), at(0, 0).mac()),
        served: (station.v4(), port),
        seen: None,
        macs: vec![station.mac()],
    };
    let wire = (2, crate::lab::wire::mac(2), port_mac(2));
    let mut all = vec![
        own(same, 80),
        own(other, 9),
        Service {
            asked: (plan::behind4(2, 5), 53),
            there: wire,
            served: (plan::behind4(2, 5), 53),
            seen: nat.then(|| ip("10.0.2.1")),
            macs: vec![bridge_mac(0)],
        },
    ];
    if nat {
        // To a station of the same bridge, by the router's address and by another station's.
        for (asked, served) in [(ip("10.96.0.1"), 8080), (ip("10.9.0.34"), 8081)] {
            all.push(Service {
                asked: (asked, 80),
                there: (1, same.mac(), at(0, 0).mac()),
                served: (same.v4(), served),
                seen: None,
                macs: vec![bridge_mac(0), same.mac(), other.mac()],
            });
        }
        all.push(Service {
            asked: (ip("10.96.0.2"), 80),
            there: wire,
            served: (plan::behind4(2, 7), 8080),
            seen: Some(ip("10.0.2.1")),
            macs: vec![bridge_mac(0), other.mac()],
        });
        // Masqueraded on the bridge.
        all.push(Service {
            asked: (other.v4(), 81),
            there: (1, other.mac(), bridge_mac(0)),
            served: (other.v4(), 81),
            seen: Some(ip("10.9.0.1")),
            macs: vec![other.mac()],
        });
    }
    all
}

const FILTER: &str = "table inet f { chain f { type filter hook forward priority 0 ; policy drop ; \
    ct state established,related counter accept ; ct state invalid counter drop ; udp dport 9 counter drop ; \
    iifname \"br0\" oifname \"br0\" udp dport { 80, 81, 8080, 8081 } counter accept ; iifname \"br0\" counter accept ; icmp type echo-request accept ; } }";
const NAT: &str = "table ip n { chain pre { type nat hook prerouting priority -100 ; \
    ip daddr 10.96.0.1 udp dport 80 dnat to 10.9.0.32:8080 ; ip daddr 10.9.0.34 udp dport 80 dnat to 10.9.0.32:8081 ; \
    ip daddr 10.96.0.2 udp dport 80 dnat to 10.102.0.7:8080 ; } \
    chain post { type nat hook postrouting priority 100 ; oifname \"d2\" masquerade ; oifname \"br0\" ip daddr 10.9.0.33 udp dport 81 masquerade ; } }";
const MARKS: &str = "table bridge b { chain pre { type filter hook prerouting priority -300 ; \
    ether saddr 02:00:00:01:01:00 ether daddr != 02:00:00:00:00:b0 meta mark set 5 counter ; } \
    chain f { type filter hook forward priority -200 ; meta mark 5 udp dport 9 counter drop ; oifname \"d1\" ip ttl 63 counter drop ; } }
    table ip m { chain f { type filter hook forward priority 5 ; meta mark 5 udp dport 80 counter drop ; ip ttl < 3 counter drop ; ether saddr 02:00:00:01:00:00 udp dport 9 counter drop ; } }";
const PHYSDEV: &str = "iptables-nft-restore *filter\n:FORWARD ACCEPT [0:0]\n\
    -A FORWARD -m physdev ! --physdev-is-bridged -m physdev --physdev-in d0 -p udp --dport 53 -m length --length 60:80 -j DROP\n\
    -A FORWARD -m physdev --physdev-in d+ --physdev-out d0 -p udp --sport 9 -j DROP\n\
    -A FORWARD -m physdev --physdev-is-bridged ! --physdev-in d0 -p udp --sport 80 -m length --length 60:90 -j DROP\nCOMMIT";

/// A frame, and the port behind which it is sent. Answers are to what was `asked` for, so that no server begins a connection
/// that takes the place of a translated one.
fn frame(random: &mut ChaCha8Rng, services: &[Service], asked: &mut HashSet<(usize, u8, u16)>) -> (usize, Packet) {
    let number = random.random_range(0..services.len());
    let service = &services[number];
    let client = at(0, random.random_range(0..2));
    // Of its own, so that no two are masqueraded with one.
    let port = 1000 + 10 * u16::from(client.host) + random.random_range(0..3);
    let connection = (number, client.host, port);
    let length = random.random_range(0..60);
    let finish = |random: &mut ChaCha8Rng, mut packet: Packet| {
        packet.id = random.random_range(0..1000);
        packet.padding = *[0, 0, 0, 7].choose(random).expect("a few");
        match random.random_range(0..25) {
            0 => packet.ttl(2),
            1 => packet.ttl(63),
            _ => packet,
        }
    };
    if !asked.contains(&connection) || random.random_bool(0.5) {
        if asked.insert(connection) {
            let first = udp(client.v4(), service.asked.0, (port, service.asked.1), length);
            return (0, client.sends_to(service.macs[0], first));
        }
        let mac = match random.random_bool(0.9) {
            true => service.macs[0],
            false => *service.macs.choose(random).expect("one"),
        };
        let sent = match random.random_range(0..12) {
            0 => ping(client.v4(), service.asked.0, port, 1, length),
            _ => udp(client.v4(), service.asked.0, (port, service.asked.1), length),
        };
        return (0, finish(random, client.sends_to(mac, sent)));
    }
    let to = match service.there.0 {
        1 if service.seen.is_none() => client.mac(),
        _ => service.there.2,
    };
    let seen = service.seen.unwrap_or(client.v4());
    let answer = udp(service.served.0, seen, (service.served.1, port), length);
    let answer = answer.with(|packet| (packet.src_mac, packet.dst_mac) = (service.there.1, to));
    (service.there.0, finish(random, answer))
}

fn random_traffic(name: &str, call: bool, nat: bool, rules: &[String], share: f64) {
    let first = number("BYPATH_TWIN_SEED", 1);
    for seed in first..first + SEEDS {
        let mut lines = vec!["sysctl net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0".to_owned()];
        lines.extend(rules.iter().cloned());
        let mut twin: Twin = start(&format!("{name}_{seed}"), call, &lines);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let services = services(nat);
        let mut asked = HashSet::new();
        for _ in 0..FRAMES {
            let (port, packet) = frame(&mut random, &services, &mut asked);
            inject(&mut twin, port, [packet]);
        }
        finish(twin, Share::AtLeast(share));
    }
}

#[test]
fn connections() {
    random_traffic("random_connections", true, false, &[ruleset(FILTER)], 0.5);
}

#[test]
fn translated_connections() {
    random_traffic("random_nat", true, true, &[ruleset(&format!("{NAT} {FILTER}"))], 0.4);
}

#[test]
fn marks_and_family_bridge() {
    random_traffic("random_marks", true, true, &[ruleset(&format!("{NAT} {MARKS}"))], 0.4);
}

#[test]
fn ports_of_the_bridge() {
    random_traffic("random_physdev", true, false, &[PHYSDEV.to_owned()], 0.4);
}

/// The same rules, where bridged packets do not meet them.
#[test]
fn not_called() {
    random_traffic(
        "random_not_called",
        false,
        true,
        &[ruleset(&format!("{NAT} {FILTER}"))],
        0.3,
    );
}
