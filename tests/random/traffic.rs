//! Random packets: flows that the kernel says it forwards, and mutations of them.
//!
//! A flow is a port of arrival, a source, a destination, a protocol and ports. The kernel is asked for each drawn flow
//! (`ip route get DST from SRC iif DEV`, in one batch), so that "transit that should be carried" is the kernel's word and
//! not a second model of routing: it has a route by another port, with a neighbour that is known.

use super::config::{Network, inside, pick};
use crate::lab::packet::{Packet, fix_ipv4_sum, ip, ping, raw, tcp, udp};
use crate::lab::twin::Twin;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Flows drawn per configuration; about half of them turn out as transit.
const DRAWN: usize = 500;
/// Flows of which most packets are, so that each has several.
const CARRIED_MAX: usize = 48;
/// Payload of a plain packet; with its headers below every MTU here.
const LENGTH_MAX: usize = 1180;
/// Part of the packets that are not plain transit.
const ODD: f64 = 0.12;

const BAD_SOURCES: [&[&str]; 2] = [
    &[
        "127.0.0.1",
        "0.0.0.0",
        "224.1.1.1",
        "255.255.255.255",
        "240.1.1.1",
        "10.200.0.255",
    ],
    &["::1", "::", "ff02::1", "fe80::5"],
];
const BAD_DESTINATIONS: [&[&str]; 2] = [
    &[
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.5",
        "255.255.255.255",
        "240.1.1.1",
        "10.200.0.255",
    ],
    &["::1", "ff02::1", "ff0e::9", "fe80::7", "fd01::"],
];

#[derive(Clone)]
struct Flow {
    src: IpAddr,
    dst: IpAddr,
    ports: (u16, u16),
    kind: u8,
}

/// The flows of a configuration, per port of arrival.
pub struct Flows {
    carried: Vec<Vec<Flow>>,
    others: Vec<Vec<Flow>>,
}

impl Flows {
    /// Draws flows and asks the kernel about them.
    pub fn ask(random: &mut ChaCha8Rng, network: &Network, twin: &Twin) -> Self {
        let drawn: Vec<(usize, Flow)> = (0..DRAWN).map(|_| draw(random, network)).collect();
        let (mut carried, mut others) = (vec![Vec::new(); network.ports], vec![Vec::new(); network.ports]);
        let mut count = 0;
        for ((port, flow), answer) in drawn.iter().zip(answers(&drawn, twin)) {
            if is_carried(&answer, *port) && count < CARRIED_MAX {
                carried[*port].push(flow.clone());
                count += 1;
            } else if others[*port].len() < 30 {
                others[*port].push(flow.clone());
            }
        }
        Flows { carried, others }
    }

    /// `count` frames that arrive on `port`, and how many of them are plain transit. Where a port has none, few and odd ones.
    pub fn burst(&self, random: &mut ChaCha8Rng, port: usize, count: usize) -> (Vec<Vec<u8>>, u64) {
        let (carried, others) = (&self.carried[port], &self.others[port]);
        if carried.is_empty() {
            let flow = if others.is_empty() {
                return (vec![vec![0xff; 60]], 0);
            } else {
                pick(random, others)
            };
            return (vec![odd(random, flow, port)], 0);
        }
        let mut transit = 0;
        let frames = (0..count).map(|_| {
            if !random.random_bool(ODD) {
                transit += 1;
                let flow = pick(random, carried);
                return plain(random, flow).at(port).build();
            }
            let from = if others.is_empty() || random.random_bool(0.7) {
                carried
            } else {
                others
            };
            let flow = pick(random, from).clone();
            odd(random, &flow, port)
        });
        (frames.collect(), transit)
    }
}

fn draw(random: &mut ChaCha8Rng, network: &Network) -> (usize, Flow) {
    let port = random.random_range(0..network.ports);
    let (prefix, length) = *pick(random, &network.prefixes);
    let dst = match random.random_range(0..20) {
        0 => neighbour(random, network, prefix.is_ipv4(), 1..=6),
        _ => inside(random, prefix, length),
    };
    let src = match random.random_range(0..10) {
        0..4 => neighbour_of(random, port, prefix.is_ipv4(), 2..=9),
        _ => {
            let same: Vec<_> = network
                .prefixes
                .iter()
                .filter(|(other, _)| other.is_ipv4() == dst.is_ipv4())
                .collect();
            let (prefix, length) = **pick(random, &same);
            inside(random, prefix, length)
        }
    };
    let ports = (
        random.random_range(1..=u16::MAX),
        *pick(random, &[53, 80, 443, 4500, 20000]),
    );
    (
        port,
        Flow {
            src,
            dst,
            ports,
            kind: *pick(random, &[0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 6, 6, 7]),
        },
    )
}

fn neighbour(random: &mut ChaCha8Rng, network: &Network, four: bool, hosts: std::ops::RangeInclusive<u8>) -> IpAddr {
    let port = random.random_range(0..network.ports);
    neighbour_of(random, port, four, hosts)
}

fn neighbour_of(random: &mut ChaCha8Rng, port: usize, four: bool, hosts: std::ops::RangeInclusive<u8>) -> IpAddr {
    let host = random.random_range(hosts);
    ip(&if four {
        format!("10.200.{port}.{host}")
    } else {
        format!("fd01:0:0:{port}::{host}")
    })
}

/// What the kernel says of each flow: its first line, or nothing where it has no way.
fn answers(drawn: &[(usize, Flow)], twin: &Twin) -> Vec<String> {
    let mut questions = String::new();
    for (port, flow) in drawn {
        let (sport, dport) = flow.ports;
        // With ports, where a packet of the flow has some: the choice among several nexthops may look at them.
        let ports = match flow.kind {
            0..4 => format!("ipproto udp sport {sport} dport {dport}"),
            4..6 => format!("ipproto tcp sport {sport} dport {dport}"),
            _ => String::new(),
        };
        let _ = writeln!(
            questions,
            "route get {} from {} iif d{port} {ports}",
            flow.dst, flow.src
        );
    }
    let output = twin.kernel_router().output("ip -o -force -batch -", &questions);
    let failed: Vec<usize> = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter_map(|line| line.strip_prefix("Command failed -:")?.trim().parse().ok())
        .collect();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut said = said.lines();
    let answers: Vec<String> = (1..=drawn.len())
        .map(|line| {
            if failed.contains(&line) {
                String::new()
            } else {
                said.next().unwrap_or_default().to_string()
            }
        })
        .collect();
    assert!(said.next().is_none(), "more answers than questions");
    answers
}

/// A route by another port, with a gateway or to a neighbour that is known: `DST from SRC via GW dev dN ...`.
fn is_carried(answer: &str, port: usize) -> bool {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let after = |word: &str| {
        words
            .iter()
            .position(|other| *other == word)
            .and_then(|at| words.get(at + 1))
            .copied()
    };
    let is_address = words.first().is_some_and(|first| first.parse::<IpAddr>().is_ok());
    let elsewhere = after("dev").is_some_and(|device| device.starts_with('d') && device != format!("d{port}"));
    let known = |address: &str| {
        let host = address.rsplit(['.', ':']).next().unwrap_or_default();
        (address.starts_with("10.200.") || address.starts_with("fd01:")) && matches!(host, "2" | "3" | "4" | "5")
    };
    is_address && elsewhere && (after("via").is_some() || words.first().is_some_and(|dst| known(dst)))
}

fn plain(random: &mut ChaCha8Rng, flow: &Flow) -> Packet {
    let length = match random.random_range(0..4) {
        0 => random.random_range(0..=LENGTH_MAX),
        _ => random.random_range(0..64),
    };
    let packet = match flow.kind {
        0..4 => udp(flow.src, flow.dst, flow.ports, length),
        4..6 => tcp(flow.src, flow.dst, flow.ports, random.random_range(0..64), length),
        6 => ping(flow.src, flow.dst, flow.ports.0, random.random(), length),
        _ => raw(
            flow.src,
            flow.dst,
            *pick(random, &[47, 50, 89, 103, 132, 136]),
            length + 8,
        ),
    };
    packet.with(|packet| {
        packet.ttl = random.random_range(2..=255);
        packet.tos = if random.random_bool(0.2) { random.random() } else { 0 };
        packet.id = random.random();
        // The flow label is hashed; a flow keeps its own.
        packet.flow_label = u32::from(flow.ports.0) << 4 | u32::from(flow.kind);
        packet.fragment = if random.random_bool(0.5) { 0x4000 } else { 0 };
        packet.padding = if random.random_bool(0.1) {
            random.random_range(1..30)
        } else {
            0
        };
        packet.sum_fault = if random.random_bool(0.02) { random.random() } else { 0 };
    })
}

/// A packet of the flow with something about it that is not plain.
fn odd(random: &mut ChaCha8Rng, flow: &Flow, port: usize) -> Vec<u8> {
    let mut packet = plain(random, flow).at(port);
    let four = packet.src.is_ipv4();
    match random.random_range(0..20) {
        0 => packet.ttl = random.random_range(0..2),
        1 | 2 => {
            let size = random.random_range(0..12) + *pick(random, &[1270, 1294, 1344, 1394, 1444, 1490, 1500]);
            packet = packet.ip_length(size);
        }
        3 if four => {
            packet.options = pick(
                random,
                &[
                    vec![1, 1, 1, 0],
                    vec![7, 3, 4, 0],
                    vec![148, 4, 0, 0],
                    vec![99, 9, 0, 0],
                ],
            )
            .clone()
        }
        3 => packet.extensions = vec![(*pick(random, &[0, 60, 43, 44]), vec![0, 0, 1, 4, 0, 0, 0, 0])],
        4 | 5 => {
            let parts = packet.fragments(8 * random.random_range(1..40));
            return pick(random, &parts).clone().build();
        }
        6 => packet.ip_sum_fault = random.random(),
        7 => packet.length_fault = random.random_range(-60..60),
        8 => packet.cut = random.random_range(0..80),
        9 => packet.first_byte = Some(random.random()),
        10 => packet.src = any_of(random, BAD_SOURCES[usize::from(!four)]),
        11 => packet.dst = any_of(random, BAD_DESTINATIONS[usize::from(!four)]),
        12 => {
            packet.dst = ip(&if four {
                format!("10.200.{port}.1")
            } else {
                format!("fd01:0:0:{port}::1")
            })
        }
        13 => {
            packet.src = ip(&if four {
                format!("10.200.{port}.1")
            } else {
                format!("fd01:0:0:{port}::1")
            })
        }
        14 => {
            packet.dst_mac = *pick(
                random,
                &[
                    [0xff; 6],
                    [1, 0, 0x5e, 0, 0, 1],
                    [0x33, 0x33, 0, 0, 0, 1],
                    [2, 5, 5, 5, 5, 5],
                ],
            )
        }
        15 => packet.tags = vec![(0x8100, *pick(random, &[0, 1, 7, 4095]))],
        16 => packet.fragment = random.random(),
        17 => packet.dst = neighbour_of(random, port, four, 2..=30),
        18 => packet.dst = ip(if four { "192.0.2.77" } else { "3fff::77" }),
        _ => {
            let mut frame = packet.build();
            let at = random.random_range(14..frame.len());
            frame[at] ^= 1 << random.random_range(0..8);
            if four && random.random_bool(0.5) {
                fix_ipv4_sum(&mut frame);
            }
            return frame;
        }
    }
    packet.build()
}

fn any_of(random: &mut ChaCha8Rng, addresses: &[&str]) -> IpAddr {
    ip(addresses[random.random_range(0..addresses.len())])
}
