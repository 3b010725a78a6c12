//! Packets of connections, as clients and servers send them, with right and wrong checksums.

use crate::lab::packet::{self, Packet, packet};
use bypath::packet::{Family, PortIndex};
use bypath::stage::rx;
use bypath::table::conntrack::{Tuple, tracker};
use rand::prelude::*;
use std::net::IpAddr;
use std::ops::ControlFlow::Continue;

/// A packet that begins a connection.
pub struct First {
    pub frame: Vec<u8>,
    pub tuple: Tuple,
    seq: u32,
}

const SPORTS: [u16; 6] = [53, 600, 5000, 5001, 40000, 0xffff];
const DPORTS: [u16; 4] = [53, 80, 443, 8003];
const PROTOCOLS: [u8; 9] = [6, 6, 6, 17, 17, 132, 136, 1, 50];

fn ports(sport: u16, dport: u16) -> Vec<u8> {
    [sport.to_be_bytes(), dport.to_be_bytes()].concat()
}

/// The body of a packet of `proto`, and where its checksum lies.
fn body(
    proto: u8,
    (sport, dport): (u16, u16),
    is_answer: bool,
    seq: u32,
    rng: &mut impl Rng,
) -> (Vec<u8>, Option<usize>) {
    let mut data = vec![0; rng.random_range(0..40)];
    rng.fill(&mut data[..]);
    let mut body = ports(sport, dport);
    let sum_at = match proto {
        6 => {
            let (own, ack, flags) = if is_answer {
                (5000, seq + 1, 0x12)
            } else {
                (seq, 0, 0x02)
            };
            body.extend(own.to_be_bytes());
            body.extend(ack.to_be_bytes());
            body.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            return (body, Some(16));
        }
        17 | 136 => {
            body.extend((8 + data.len() as u16).to_be_bytes());
            body.extend([0, 0]);
            Some(6)
        }
        132 => {
            // INIT, or INIT ACK; the CRC is whatever.
            body.extend(if is_answer { 1u32 } else { 0 }.to_be_bytes());
            body.extend(rng.random::<u32>().to_be_bytes());
            body.extend([
                if is_answer { 2 } else { 1 },
                0,
                0,
                20,
                0,
                0,
                0,
                1,
                0,
                0,
                0xff,
                0xff,
                0,
                1,
                0,
                1,
                0,
                0,
                0,
                1,
            ]);
            return (body, None);
        }
        1 => {
            let kind = if is_answer { dport & 0xff00 } else { dport };
            body = [kind.to_be_bytes(), [0, 0], sport.to_be_bytes()].concat();
            body.extend([0, 1]);
            Some(2)
        }
        _ => None,
    };
    body.extend(data);
    (body, sum_at)
}

/// Spoils its checksum now and then: by anything, or to one of the zeros.
fn finish(packet: Packet, sum_at: Option<usize>, rng: &mut impl Rng) -> Vec<u8> {
    let header = if packet.src.is_ipv4() { 20 } else { 40 };
    // UDP-Lite without a checksum is no connection's.
    let may_be_none = packet.protocol != 136;
    let mut frame = packet.build();
    if let Some(at) = sum_at.map(|at| 14 + header + at) {
        match rng.random_range(0..12) {
            0 => rng.fill(&mut frame[at..at + 2]),
            1 if may_be_none => frame[at..at + 2].fill(0),
            2 => frame[at..at + 2].fill(0xff),
            _ => {}
        }
    }
    frame
}

/// The first packet of a connection to `server`.
pub fn first(family: Family, server: IpAddr, rng: &mut impl Rng) -> First {
    let host = rng.random_range(1..12u8);
    let client = match family {
        Family::V4 => IpAddr::from([10, 1, 0, host]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(host)]),
    };
    let proto = *PROTOCOLS.choose(rng).expect("some");
    let seq = rng.random_range(0..u32::MAX / 2);
    let sport = *SPORTS.choose(rng).expect("some");
    let dport = match (proto, family) {
        (1, Family::V4) => 8 << 8,
        (1, Family::V6) => 128 << 8,
        _ => *DPORTS.choose(rng).expect("some"),
    };
    let (body, sum_at) = body(proto, (sport, dport), false, seq, rng);
    let number = if (proto, family) == (1, Family::V6) { 58 } else { proto };
    let frame = finish(packet(client, server, number, body, sum_at), sum_at, rng);
    let Continue(parsed) = rx::parse_bytes(&frame, PortIndex(0), &packet::router_mac(0)) else {
        panic!("a right header");
    };
    let tuple = tracker::tuple(&parsed, &frame, 0).expect("a tuple");
    First { frame, tuple, seq }
}

/// The answer to it that a server sends whose tuple of it is `reply`.
pub fn answer(reply: &Tuple, first: &First, rng: &mut impl Rng) -> Vec<u8> {
    let (src, dst) = (reply.family.show(reply.src), reply.family.show(reply.dst));
    let proto = if reply.proto == 58 { 1 } else { reply.proto };
    let (body, sum_at) = body(proto, (reply.sport, reply.dport), true, first.seq, rng);
    finish(packet(src, dst, reply.proto, body, sum_at).at(1), sum_at, rng)
}

/// An error from behind `port` about an IP packet that was seen there, of which more or less is quoted.
pub fn error(port: usize, family: Family, seen: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let (header, number, kinds, sources): (_, _, &[u8], _) = match family {
        Family::V4 => (20, 1, &[3, 4, 11, 12], ["10.1.0.99", "198.51.100.99"]),
        Family::V6 => (40, 58, &[1, 2, 3, 4], ["2001:db8:c::99", "2001:db8:5::99"]),
    };
    let to = match family {
        Family::V4 => IpAddr::from(*seen[12..].first_chunk::<4>().expect("a source")),
        Family::V6 => IpAddr::from(*seen[8..].first_chunk::<16>().expect("a source")),
    };
    let least = (header + 8).min(seen.len());
    let quoted = rng.random_range(least..=seen.len());
    let mut body = vec![*kinds.choose(rng).expect("some"), 1, 0, 0, 0, 0, 5, 0];
    body.extend(&seen[..quoted]);
    let from = packet::ip(sources[port]);
    let mut packet = packet(from, to, number, body, Some(2)).at(port);
    if rng.random_ratio(1, 20) {
        packet.sum_fault = 0x0100;
    }
    packet.build()
}
