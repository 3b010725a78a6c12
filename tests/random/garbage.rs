//! Fuzzed frames: random bytes, valid packets with random damage, random headers behind a right Ethernet header.
//!
//! Neighbour messages are fuzzed too. They change the router's neighbour table, in both labs alike, since frames are
//! injected in one order. What the kernel does by the clock is kept out: no entry is asked for twice or grows stale, and
//! addresses on the links are drawn from few, since all namespaces of a machine share one bounded neighbour table.

use super::config::{pick, unanswered};
use crate::lab::neighbor;
use crate::lab::packet::{self, Packet, fix_ipv4_sum, ip, ping, raw, tcp, udp};
use crate::lab::plan;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The plan for two ports, with time standing still.
pub fn config() -> Vec<String> {
    plan::config(2).into_iter().chain((0..2).flat_map(unanswered)).collect()
}

/// One frame that arrives on `port`.
pub fn frame(random: &mut ChaCha8Rng, port: usize) -> Vec<u8> {
    match random.random_range(0..10) {
        0 => noise(random, port),
        1..3 => header_noise(random, port),
        _ => damaged(random, port),
    }
}

/// Random bytes, half of them behind the right link addresses.
fn noise(random: &mut ChaCha8Rng, port: usize) -> Vec<u8> {
    let mut frame = vec![0; random.random_range(14..200)];
    random.fill(&mut frame[..]);
    if random.random_bool(0.5) {
        frame[..6].copy_from_slice(&packet::router_mac(port));
        let ethertype: u16 = *pick(
            random,
            &[0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8864, 0x0004, 0x88cc],
        );
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    }
    frame
}

/// A right link header and first byte, then random bytes.
fn header_noise(random: &mut ChaCha8Rng, port: usize) -> Vec<u8> {
    let mut frame = valid(random, port).build();
    let from = random.random_range(15..24).min(frame.len());
    let to = random.random_range(from..=frame.len().min(from + 24));
    // Random addresses would fill the neighbour table; those of the plan stay.
    let addresses = if frame[12] == 0x08 { 26..34 } else { 22..54 };
    for at in (from..to).filter(|at| !addresses.contains(at)) {
        frame[at] = random.random();
    }
    maybe_fix(random, &mut frame);
    frame
}

/// A valid packet with a few random bytes or a random length.
fn damaged(random: &mut ChaCha8Rng, port: usize) -> Vec<u8> {
    let mut frame = valid(random, port).build();
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..frame.len());
        frame[at] = random.random();
    }
    match random.random_range(0..6) {
        0 => frame.truncate(random.random_range(14..=frame.len())),
        1 => frame.extend((0..random.random_range(0..60)).map(|_| random.random::<u8>())),
        _ => {}
    }
    maybe_fix(random, &mut frame);
    frame
}

fn maybe_fix(random: &mut ChaCha8Rng, frame: &mut [u8]) {
    if frame.len() > 14 && frame[12] == 0x08 && random.random_bool(0.7) {
        fix_ipv4_sum(frame);
    }
}

fn valid(random: &mut ChaCha8Rng, port: usize) -> Packet {
    let four = random.random_bool(0.5);
    let host = random.random_range(0..8);
    let (src, dst) = plan::pairs(port, 1 - port, host)[usize::from(!four)];
    let dst = match random.random_range(0..10) {
        0 => plan::own(port)[usize::from(!four)],
        1 => on_link(random, four),
        _ => dst,
    };
    let length = random.random_range(0..80);
    let mut packet = match random.random_range(0..5) {
        0 => tcp(src, dst, (random.random(), 80), random.random(), length),
        1 => ping(src, dst, 1, random.random(), length),
        2 => raw(src, dst, random.random(), length),
        _ => udp(src, dst, (random.random(), 53), length),
    };
    if random.random_bool(0.1) && four {
        packet.options = (0..4 * random.random_range(1..=10)).map(|_| random.random()).collect();
    }
    if random.random_bool(0.2) && !four {
        let header = (0..8 * random.random_range(1..=3)).map(|_| random.random()).collect();
        packet.extensions = vec![(*pick(random, &[0, 43, 44, 51, 60, 135]), header)];
    }
    packet.at(port)
}

fn on_link(random: &mut ChaCha8Rng, four: bool) -> IpAddr {
    let (port, host) = (random.random_range(0..2), random.random_range(2..12));
    ip(&if four {
        format!("10.0.{port}.{host}")
    } else {
        format!("fd00:0:0:{port}::{host:x}")
    })
}

/// Neighbour messages that arrive on `port`, each sender's first alone: of two within a tick of its clock the kernel takes
/// the first, of two further apart the second.
pub fn neighbour_messages(random: &mut ChaCha8Rng, port: usize) -> Vec<Vec<u8>> {
    let drawn: BTreeMap<IpAddr, Vec<u8>> = (0..64).map(|_| neighbour_message(random, port)).collect();
    drawn.into_values().collect()
}

/// ARP and neighbour messages for the router, right or damaged outside their addresses.
fn neighbour_message(random: &mut ChaCha8Rng, port: usize) -> (IpAddr, Vec<u8>) {
    let mac = packet::neighbor_mac(port, random.random_range(0..8));
    let four = random.random_bool(0.5);
    let (sender, target) = (on_link(random, four), on_link(random, four));
    let target = if random.random_bool(0.5) {
        plan::own(port)[usize::from(!four)]
    } else {
        target
    };
    let mut frame = match (sender, target) {
        (IpAddr::V4(sender), IpAddr::V4(target)) => match random.random_bool(0.5) {
            true => neighbor::arp_request(mac, sender, target),
            false => neighbor::arp_reply(mac, sender, packet::router_mac(port), target),
        },
        (IpAddr::V6(sender), IpAddr::V6(target)) => match random.random_bool(0.5) {
            true => neighbor::neighbor_solicitation(mac, sender, target),
            // To another host it would be transit, which is no matter of neighbours here.
            false => {
                let IpAddr::V6(own) = plan::own(port)[1] else {
                    unreachable!("IPv6 is second")
                };
                neighbor::neighbor_advertisement(mac, sender, packet::router_mac(port), own)
            }
        },
        _ => unreachable!("one family"),
    };
    if random.random_bool(0.3) {
        let at = random.random_range(12..22);
        frame[at] = random.random();
    }
    (sender, frame)
}
