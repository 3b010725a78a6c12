//! Random frames over a network of bridges: mostly between stations that are known, and odd ones.

use super::config::{HOSTS, Network};
use super::pick;
use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::packet::{Mac, Packet, fix_ipv4_sum, ip, ping, raw, tcp, udp};
use crate::lab::plan;
use crate::net::{Station, bridge_mac, port_mac};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// Part of the frames that are not plain.
const ODD: f64 = 0.1;

/// Every station of a port says hello, to nobody.
pub fn hello(network: &Network, port: usize) -> Vec<Vec<u8>> {
    let one = |station: Station| plain_frame(unknown_mac(0x200), station.mac(), 46);
    network.behind(port).into_iter().map(one).collect()
}

/// A frame of a station that was elsewhere, and speaks from `port` from now on.
pub fn moving(random: &mut ChaCha8Rng, network: &mut Network, port: usize) -> Vec<u8> {
    let from = network.peer(random, port);
    network.away.insert((from.port, from.host), port);
    plain_frame(network.peer(random, port).mac(), from.mac(), 46)
}

/// `count` frames that arrive at `port`.
pub fn burst(random: &mut ChaCha8Rng, network: &Network, port: usize, count: usize) -> Vec<Vec<u8>> {
    // A port that is routed has hosts behind it instead.
    let one = |random: &mut ChaCha8Rng| match random.random_bool(ODD) {
        true => odd(random, network, port),
        false if network.bridge_of[port].is_none() => down(random, network, port).build(),
        false if random.random_bool(0.15) => up(random, network, port).build(),
        false if random.random_bool(0.1) => other(random, network, port),
        false => across(random, network, port).build(),
    };
    (0..count).map(|_| one(random)).collect()
}

fn own(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Station {
    match network.behind(port) {
        none if none.is_empty() => network.station(port, HOSTS),
        behind => *pick(random, &behind),
    }
}

fn of(random: &mut ChaCha8Rng, src: std::net::IpAddr, dst: std::net::IpAddr) -> Packet {
    let (id, length) = (random.random(), random.random_range(0..200));
    let dport = *pick(random, &[9, 20, 53, 80, 443]);
    let packet = match random.random_range(0..10) {
        0..5 => udp(src, dst, (id, dport), length),
        5..8 => tcp(src, dst, (id, dport), random.random_range(0..64), length),
        8 => ping(src, dst, id, 1, length),
        _ => raw(src, dst, *pick(random, &[47, 50, 89, 132]), length + 8),
    };
    packet.with(|packet| {
        packet.id = id;
        packet.ttl = random.random_range(2..=255);
        packet.tos = if random.random_bool(0.1) { random.random() } else { 0 };
        packet.fragment = if random.random_bool(0.5) { 0x4000 } else { 0 };
        packet.padding = if random.random_bool(0.1) {
            random.random_range(1..30)
        } else {
            0
        };
    })
}

/// From station to station of one bridge.
fn across(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Packet {
    let (from, to) = (own(random, network, port), network.peer(random, port));
    let (src, dst) = from.addresses(to, random.random_bool(0.4));
    from.sends(to, of(random, src, dst))
}

/// The same with another EtherType.
fn other(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Vec<u8> {
    let (from, to) = (own(random, network, port), network.peer(random, port));
    let mut frame = plain_frame(to.mac(), from.mac(), random.random_range(46..300));
    let ethertype: u16 = *pick(random, &[0x88b5, 0x8863, 0x8864, 0x0026, 0x9000, 0x22f0]);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

/// By the bridge's address: to another bridge, or behind a port that is routed.
fn up(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Packet {
    let from = own(random, network, port);
    let bridge = network.bridge_of[port].unwrap_or(0);
    let v6 = random.random_bool(0.4);
    let routed: Vec<_> = (0..network.ports)
        .filter(|&port| network.bridge_of[port].is_none())
        .collect();
    let src = if v6 { from.v6() } else { from.v4() };
    let dst = match routed.is_empty() || random.random_bool(0.3) {
        true => known(random, network, v6),
        false => plan::pairs(0, *pick(random, &routed), random.random_range(1..50))[usize::from(v6)].1,
    };
    let packet = of(random, src, dst);
    let mac = if random.random_bool(0.8) {
        bridge_mac(bridge)
    } else {
        port_mac(port)
    };
    from.sends_to(mac, packet)
}

/// A station that IP knows, and perhaps a bridge: the neighbours of a bridge are the hosts 0 and 1 of each port.
fn known(random: &mut ChaCha8Rng, network: &Network, v6: bool) -> std::net::IpAddr {
    let members = network.members();
    let station = network.station(*pick(random, &members), random.random_range(0..2));
    if v6 { station.v6() } else { station.v4() }
}

/// From behind a port that is routed to a station.
fn down(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Packet {
    let v6 = random.random_bool(0.4);
    let src = plan::pairs(port, port, random.random_range(1..50))[usize::from(v6)].0;
    let dst = known(random, network, v6);
    of(random, src, dst).at(port)
}

/// Something about it is not plain.
fn odd(random: &mut ChaCha8Rng, network: &Network, port: usize) -> Vec<u8> {
    // Steer leaves groups to the kernel at once, so they overtake frames that are punted: what the kernel learns from them, on a
    // locked port those of IEEE's link-local groups, must not concern who sent those.
    let stranger = [0x06, 1, 1, 2, port as u8, random.random_range(0..30)];
    let mut packet = match network.bridge_of[port] {
        Some(_) if random.random_bool(0.7) => across(random, network, port),
        Some(_) => up(random, network, port),
        None => down(random, network, port),
    };
    let groups: [Mac; 7] = [
        [0xff; 6],
        [1, 0, 0x5e, 1, 2, 3],
        [0x33, 0x33, 0, 1, 0, 3],
        [1, 0x80, 0xc2, 0, 0, 0],
        [1, 0x80, 0xc2, 0, 0, 3],
        [1, 0x80, 0xc2, 0, 0, 0x0e],
        [1, 0x80, 0xc2, 0, 0, 0x21],
    ];
    match random.random_range(0..18) {
        0 => packet.dst_mac = unknown_mac(random.random_range(0..8)),
        1 => (packet.dst_mac, packet.src_mac) = (*pick(random, &groups), stranger),
        2 => return plain_frame(*pick(random, &groups), stranger, random.random_range(0..100)),
        // A new station.
        3 => packet.src_mac = [0x06, 1, 1, 1, port as u8, random.random_range(0..30)],
        4 => {
            packet.src_mac = *pick(
                random,
                &[[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], bridge_mac(0), port_mac(0)],
            )
        }
        5 => packet.tags = vec![(*pick(random, &[0x8100, 0x88a8]), *pick(random, &[0, 1, 5, 4095]))],
        6 => {
            let length = *pick(random, &[1279, 1280, 1281, 1300, 1304, 1305, 1400, 1404, 1405, 1500]);
            packet = packet.ip_length(length);
        }
        7 => packet.ttl = random.random_range(0..2),
        8 => packet.ip_sum_fault = random.random(),
        9 => packet.length_fault = random.random_range(-60..60),
        10 => packet.cut = random.random_range(0..80),
        11 => packet.first_byte = Some(random.random()),
        12 => packet.padding = random.random_range(0..60),
        13 if packet.src.is_ipv4() => {
            packet.options = pick(random, &[vec![1, 1, 1, 0], vec![7, 3, 4, 0], vec![99, 9, 0, 0]]).clone()
        }
        13 => packet.extensions = vec![(*pick(random, &[0, 60, 43]), vec![0, 0, 1, 4, 0, 0, 0, 0])],
        // Entries that were made by hand.
        14 => {
            packet.dst_mac = crate::net::at(*pick(random, &network.members()), HOSTS + random.random_range(0..3)).mac()
        }
        15 => {
            packet.dst_mac = *pick(
                random,
                &[bridge_mac(0), bridge_mac(1), port_mac(0), port_mac(1), port_mac(port)],
            )
        }
        16 => {
            let four = packet.src.is_ipv4();
            let groups = match four {
                true => ["224.0.0.5", "127.0.0.1", "255.255.255.255"],
                false => ["ff02::1", "::1", "ff0e::9"],
            };
            packet.dst = ip(groups[random.random_range(0..3)]);
        }
        _ => {
            let mut frame = packet.build();
            let at = random.random_range(12..frame.len());
            frame[at] ^= 1 << random.random_range(0..8);
            if random.random_bool(0.5) {
                fix_ipv4_sum(&mut frame);
            }
            return frame;
        }
    }
    packet.build()
}
