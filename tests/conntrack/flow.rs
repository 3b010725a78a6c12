//! The two ends of a connection, and the packets that they send each other.
//!
//! A flow has a pair of addresses of its own, the client's behind port 0 and the server's behind port 1, so that a table can
//! be asked about it whatever its protocol. Sequence and acknowledgement numbers of TCP are told relative to the sides'
//! initial ones.
//!
//! Where NAT stands between, the server has another view: who it is and who the client is, as it sees them.

use crate::lab::packet::{Packet, crc32c, packet, proto, udp};
use crate::lab::plan;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

/// The end that begins; also the router's port that it is behind.
pub const CLIENT: usize = 0;
/// The other end, and its port.
pub const SERVER: usize = 1;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

/// IP protocol numbers that `lab` has no need of.
pub const GRE: u8 = 47;
pub const SCTP: u8 = 132;
pub const UDPLITE: u8 = 136;

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Addresses by end.
    pub ends: [IpAddr; 2],
    /// Ports by end; an ICMP query's identifier is the client's.
    pub ports: [u16; 2],
    /// Initial sequence numbers of TCP by end.
    pub isn: [u32; 2],
    /// Some of its packets are such that bypath leaves them to the kernel (`generator`).
    pub mixed: bool,
    /// Addresses and ports by end as the server sees them, where they are others.
    pub beyond: Option<([IpAddr; 2], [u16; 2])>,
}

static NEXT: AtomicU16 = AtomicU16::new(1);

impl Flow {
    /// A new flow of IPv4 or not.
    pub fn new(four: bool) -> Self {
        let host = NEXT.fetch_add(1, Ordering::Relaxed);
        let (client, server) = plan::pairs(CLIENT, SERVER, host)[usize::from(!four)];
        Flow {
            ends: [client, server],
            ports: [10_000 + host % 50_000, 80],
            isn: [1000, 5_000_000],
            mixed: false,
            beyond: None,
        }
    }

    /// As the end `by` sees it: its packets are those that arrive there.
    pub fn seen_by(&self, by: usize) -> Flow {
        match self.beyond {
            Some((ends, ports)) if by == SERVER => Flow {
                ends,
                ports,
                beyond: None,
                ..self.clone()
            },
            _ => Flow {
                beyond: None,
                ..self.clone()
            },
        }
    }

    /// The addresses by end that `from` writes.
    fn ends_for(&self, from: usize) -> [IpAddr; 2] {
        self.seen_by(from).ends
    }

    /// What `from` has sent, as it arrives at the other end.
    pub fn arrived(&self, from: usize, packet: &Packet) -> Packet {
        let mut packet = packet.clone();
        if self.beyond.is_none() {
            return packet;
        }
        let Flow { ends, ports, .. } = self.seen_by(1 - from);
        if packet.protocol == UDPLITE && packet.sum_at.is_none() && packet.body.len() >= 8 {
            // What `udplite_judged` has computed once.
            let length = packet.body.len() - 8;
            return self.seen_by(1 - from).udplite_judged(from, length).at(from);
        }
        (packet.src, packet.dst) = (ends[from], ends[1 - from]);
        let word = |port: u16| port.to_be_bytes();
        match packet.protocol {
            proto::TCP | proto::UDP | SCTP | UDPLITE if packet.body.len() >= 4 => {
                packet.body[..2].copy_from_slice(&word(ports[from]));
                packet.body[2..4].copy_from_slice(&word(ports[1 - from]));
            }
            proto::ICMP | proto::ICMPV6 if packet.body.len() >= 6 => {
                packet.body[4..6].copy_from_slice(&word(ports[CLIENT]));
            }
            _ => {}
        }
        packet
    }

    /// One of each family, and once more with sequence numbers that are about to wrap.
    pub fn several() -> Vec<Flow> {
        let near_the_end = [0xffff_fff0, 0xffff_fc00];
        [(true, [1000, 5_000_000]), (false, [1000, 5_000_000])]
            .into_iter()
            .chain([(true, near_the_end), (false, near_the_end)])
            .map(|(four, isn)| Flow { isn, ..Flow::new(four) })
            .collect()
    }

    /// With ports and sequence numbers of chance.
    pub fn shuffled(mut self, random: &mut ChaCha8Rng) -> Self {
        self.ports = [random.random(), random.random()];
        self.isn = [random.random(), random.random()];
        self
    }

    /// Its family.
    pub fn is_ipv4(&self) -> bool {
        self.ends[0].is_ipv4()
    }

    /// ICMP of its family.
    pub fn icmp(&self) -> u8 {
        if self.is_ipv4() { proto::ICMP } else { proto::ICMPV6 }
    }

    fn packet(&self, from: usize, protocol: u8, body: Vec<u8>, sum_at: Option<usize>) -> Packet {
        let ends = self.ends_for(from);
        packet(ends[from], ends[1 - from], protocol, body, sum_at).at(from)
    }

    fn ports_of(&self, from: usize) -> [u8; 4] {
        let ports = self.seen_by(from).ports;
        let [src, dst] = [ports[from], ports[1 - from]].map(u16::to_be_bytes);
        [src[0], src[1], dst[0], dst[1]]
    }

    /// A UDP datagram.
    pub fn udp(&self, from: usize, length: usize) -> Packet {
        let Flow { ends, ports, .. } = self.seen_by(from);
        udp(ends[from], ends[1 - from], (ports[from], ports[1 - from]), length).at(from)
    }

    /// UDP-Lite that covers all of itself.
    pub fn udplite(&self, from: usize, length: usize) -> Packet {
        let mut lite = self.udp(from, length);
        lite.protocol = UDPLITE;
        lite
    }

    /// UDP-Lite of the sum that the kernel's tracker takes for right: it computes with UDP's number (udplite_error of
    /// nf_conntrack_proto_udp.c).
    pub fn udplite_judged(&self, from: usize, length: usize) -> Packet {
        let frame = self.udp(from, length).build();
        let body = frame[frame.len() - 8 - length..].to_vec();
        self.packet(from, UDPLITE, body, None)
    }

    /// A protocol without ports.
    pub fn other(&self, from: usize, protocol: u8, length: usize) -> Packet {
        self.packet(from, protocol, vec![0x5a; length], None)
    }

    /// GRE version 0, without a key or with one.
    pub fn gre(&self, from: usize, key: Option<u32>) -> Packet {
        let mut body = vec![0, 0, 0x08, 0];
        if let Some(key) = key {
            body[0] = 0x20;
            body.extend(key.to_be_bytes());
        }
        body.extend([0x45; 30]);
        self.packet(from, GRE, body, None)
    }

    /// An ICMP query or its answer, of the client's identifier.
    pub fn query(&self, from: usize, kind: u8, code: u8, sequence: u16) -> Packet {
        let mut body = vec![kind, code, 0, 0];
        body.extend(self.seen_by(from).ports[CLIENT].to_be_bytes());
        body.extend(sequence.to_be_bytes());
        body.extend([0x77; 24]);
        self.packet(from, self.icmp(), body, Some(2))
    }

    /// An echo request from the client, or its answer from the server.
    pub fn echo(&self, from: usize, sequence: u16) -> Packet {
        let kind = match (self.is_ipv4(), from) {
            (true, CLIENT) => 8,
            (true, _) => 0,
            (false, CLIENT) => 128,
            (false, _) => 129,
        };
        self.query(from, kind, 0, sequence)
    }

    /// SCTP with these chunks.
    pub fn sctp(&self, from: usize, vtag: u32, chunks: &[Vec<u8>]) -> Packet {
        let mut body = self.ports_of(from).to_vec();
        body.extend(vtag.to_be_bytes());
        body.extend([0; 4]);
        chunks.iter().for_each(|chunk| body.extend(chunk));
        let sum = crc32c(&body);
        body[8..12].copy_from_slice(&sum.to_le_bytes());
        self.packet(from, SCTP, body, None)
    }

    /// A TCP segment.
    pub fn tcp(&self, segment: &Segment) -> Packet {
        let from = segment.from;
        let mut options = segment.options.clone();
        options.resize(options.len().next_multiple_of(4), 1);
        let ack = match segment.ack {
            Some(ack) => self.isn[1 - from].wrapping_add(ack),
            None => 0,
        };
        let mut body = self.ports_of(from).to_vec();
        body.extend(self.isn[from].wrapping_add(segment.seq).to_be_bytes());
        body.extend(ack.to_be_bytes());
        body.extend([(((20 + options.len()) / 4) << 4) as u8, segment.flags]);
        body.extend(segment.window.to_be_bytes());
        body.extend([0; 4]);
        body.extend(self.absolute_sack(segment, options));
        body.extend((0..segment.length).map(|at| at as u8));
        self.packet(from, proto::TCP, body, Some(16))
    }

    /// SACK blocks are told relative to the other side's initial number, too.
    fn absolute_sack(&self, segment: &Segment, mut options: Vec<u8>) -> Vec<u8> {
        if let Some(at) = segment.sack_at {
            for edge in options[at..at + usize::from(segment.sack_blocks) * 8].chunks_exact_mut(4) {
                let relative = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
                edge.copy_from_slice(&self.isn[1 - segment.from].wrapping_add(relative).to_be_bytes());
            }
        }
        options
    }

    /// An ICMP error from somebody behind `from`'s port to the other end, that quotes `length` bytes of the IP packet `of`.
    pub fn error(&self, from: usize, kind: u8, code: u8, rest: u32, of: &Packet, length: usize) -> Packet {
        let mut quoted = of.clone().build().split_off(14);
        quoted.truncate(length);
        let mut body = vec![kind, code, 0, 0];
        body.extend(rest.to_be_bytes());
        body.extend(quoted);
        let mut error = self.packet(from, self.icmp(), body, Some(2));
        error.src = plan::pairs(CLIENT, SERVER, 0xee)[usize::from(!self.is_ipv4())].0;
        if from == SERVER {
            error.src = plan::pairs(CLIENT, SERVER, 0xee)[usize::from(!self.is_ipv4())].1;
        }
        error
    }

    /// "Port unreachable" of its family, about a packet of `length` bytes of data as it arrived at `from`.
    pub fn unreachable_udp(&self, from: usize, length: usize) -> Packet {
        self.unreachable(from, &self.seen_by(from).udp(1 - from, length))
    }

    /// "Port unreachable" of its family.
    pub fn unreachable(&self, from: usize, of: &Packet) -> Packet {
        let (kind, code) = if self.is_ipv4() { (3, 3) } else { (1, 4) };
        self.error(from, kind, code, 0, of, 64)
    }
}

/// A TCP segment, told relative.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: usize,
    pub flags: u8,
    pub seq: u32,
    /// None: the field is zero.
    pub ack: Option<u32>,
    pub window: u16,
    pub length: usize,
    pub options: Vec<u8>,
    sack_at: Option<usize>,
    sack_blocks: u8,
}

fn segment(from: usize, flags: u8, seq: u32, ack: u32) -> Segment {
    Segment {
        from,
        flags,
        seq,
        ack: (flags & ACK != 0).then_some(ack),
        window: 8192,
        length: 0,
        options: Vec::new(),
        sack_at: None,
        sack_blocks: 0,
    }
}

/// A segment from the client.
pub fn c(flags: u8, seq: u32, ack: u32) -> Segment {
    segment(CLIENT, flags, seq, ack)
}

/// A segment from the server.
pub fn s(flags: u8, seq: u32, ack: u32) -> Segment {
    segment(SERVER, flags, seq, ack)
}

impl Segment {
    /// With so many bytes of data.
    pub fn data(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    /// With this window field.
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// That acknowledges up to there.
    pub fn ack_of(mut self, ack: u32) -> Self {
        self.ack = Some(ack);
        self
    }

    /// With an acknowledgement field of zero.
    pub fn ack_zero(mut self) -> Self {
        self.ack = None;
        self
    }

    /// With more option bytes.
    pub fn option(mut self, bytes: &[u8]) -> Self {
        self.options.extend(bytes);
        self
    }

    /// With the option for a maximum segment size.
    pub fn mss(self) -> Self {
        self.option(&[2, 4, 5, 0xb4])
    }

    /// With window scaling by this shift.
    pub fn scale(self, shift: u8) -> Self {
        self.option(&[1, 3, 3, shift])
    }

    /// With "SACK permitted".
    pub fn sack_permitted(self) -> Self {
        self.option(&[4, 2, 1, 1])
    }

    /// With a time stamp.
    pub fn stamp(self, value: u32) -> Self {
        let value = value.to_be_bytes();
        self.option(&[1, 1, 8, 10]).option(&value).option(&[0; 4])
    }

    /// With SACK blocks.
    pub fn sack(mut self, blocks: &[(u32, u32)]) -> Self {
        self = self.option(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
        self.sack_at = Some(self.options.len());
        self.sack_blocks = blocks.len() as u8;
        for (left, right) in blocks {
            self = self.option(&left.to_be_bytes()).option(&right.to_be_bytes());
        }
        self
    }

    /// In a few words: `c SA 0:0 ack 1 win 8192`.
    pub fn text(&self) -> String {
        let names = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (URG, 'U'), (ACK, '.')];
        let flags: String = names
            .iter()
            .filter(|(bit, _)| self.flags & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        format!(
            "{} {flags} {}+{} ack {:?} win {}",
            if self.from == CLIENT { "client" } else { "server" },
            self.seq,
            self.length,
            self.ack,
            self.window
        )
    }
}
