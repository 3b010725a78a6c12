//! Builds frames, right ones and wrong ones.
//!
//! A `Packet` is the fields of one Ethernet frame that carries IPv4 or IPv6; `build` lays them out and computes lengths and
//! checksums, and then applies the wanted faults (`ip_sum_fault`, `length_fault`, ...). Written for tests alone and apart
//! from src/wire on purpose: the judge shares no code with the judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The router's address on port `port`, in both labs.
pub fn router_mac(port: usize) -> Mac {
    [0x02, 0, 0, 0, 0, 0x10 + port as u8]
}

/// The far end's address on port `port`.
pub fn wire_mac(port: usize) -> Mac {
    neighbor_mac(port, 0)
}

/// The address of neighbour `host` behind port `port`; host 0 is the far end itself.
pub fn neighbor_mac(port: usize, host: u8) -> Mac {
    [0x02, 0, 0, 1, host, port as u8]
}

/// Whether a frame comes from a neighbour or a far end, by its source.
pub fn is_stations(frame: &[u8]) -> bool {
    frame.get(6..10) == Some(&[0x02, 0, 0, 1])
}

/// Where bridges tell of their spanning tree (IEEE 802.1D).
pub const SPANNING_TREE: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];

/// A link address as text.
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// IP protocol numbers.
pub mod proto {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const FRAGMENT: u8 = 44;
    pub const ICMPV6: u8 = 58;
}

/// IPv4's "don't fragment" bit, in the fragment field.
pub const DF: u16 = 0x4000;
/// IPv4's "more fragments" bit.
pub const MF: u16 = 0x2000;

/// One frame, field by field.
#[derive(Clone)]
pub struct Packet {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    /// (TPID, TCI) of each VLAN tag, outermost first.
    pub tags: Vec<(u16, u16)>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub tos: u8,
    /// IPv4: identification.
    pub id: u16,
    /// IPv4: flags and fragment offset.
    pub fragment: u16,
    /// IPv4: option bytes, a multiple of 4.
    pub options: Vec<u8>,
    /// IPv6: extension headers as (their protocol number, their bytes; the first is overwritten by the next header).
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub flow_label: u32,
    pub protocol: u8,
    /// Layer 4 header and payload.
    pub body: Vec<u8>,
    /// Where in `body` the checksum is computed, if anywhere.
    pub sum_at: Option<usize>,
    /// Bytes behind the IP packet.
    pub padding: usize,
    /// XORed into the computed IPv4 header checksum.
    pub ip_sum_fault: u16,
    /// XORed into the computed layer 4 checksum.
    pub sum_fault: u16,
    /// Added to the IP length field.
    pub length_fault: i32,
    /// The first byte of the IP header (version, IPv4 header length) if not the right one.
    pub first_byte: Option<u8>,
    /// Bytes cut off the end of the frame.
    pub cut: usize,
}

/// A payload whose every byte tells its place.
fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 256) as u8).collect()
}

/// A packet of any protocol with this body, and where in it a checksum belongs.
pub fn packet(src: IpAddr, dst: IpAddr, protocol: u8, body: Vec<u8>, sum_at: Option<usize>) -> Packet {
    Packet {
        dst_mac: router_mac(0),
        src_mac: wire_mac(0),
        tags: Vec::new(),
        src,
        dst,
        ttl: 64,
        tos: 0,
        id: 0x1234,
        fragment: 0,
        options: Vec::new(),
        extensions: Vec::new(),
        flow_label: 0,
        protocol,
        body,
        sum_at,
        padding: 0,
        ip_sum_fault: 0,
        sum_fault: 0,
        length_fault: 0,
        first_byte: None,
        cut: 0,
    }
}

/// An address given as text; a test's own constant, so a wrong one is a bug of the test.
pub fn ip(address: &str) -> IpAddr {
    address.parse().unwrap_or_else(|_| panic!("`{address}` is no address"))
}

/// UDP with `length` bytes of payload.
pub fn udp(src: IpAddr, dst: IpAddr, ports: (u16, u16), length: usize) -> Packet {
    let mut body = Vec::with_capacity(8 + length);
    body.extend(ports.0.to_be_bytes());
    body.extend(ports.1.to_be_bytes());
    body.extend(((8 + length) as u16).to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload(length));
    packet(src, dst, proto::UDP, body, Some(6))
}

/// TCP with these flags and `length` bytes of payload.
pub fn tcp(src: IpAddr, dst: IpAddr, ports: (u16, u16), flags: u8, length: usize) -> Packet {
    let mut body = Vec::with_capacity(20 + length);
    body.extend(ports.0.to_be_bytes());
    body.extend(ports.1.to_be_bytes());
    body.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    body.extend(payload(length));
    packet(src, dst, proto::TCP, body, Some(16))
}

/// An echo request of the addresses' family.
pub fn ping(src: IpAddr, dst: IpAddr, id: u16, sequence: u16, length: usize) -> Packet {
    let (protocol, kind) = if src.is_ipv4() {
        (proto::ICMP, 8)
    } else {
        (proto::ICMPV6, 128)
    };
    let mut body = vec![kind, 0, 0, 0];
    body.extend(id.to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend(payload(length));
    packet(src, dst, protocol, body, Some(2))
}

/// Any protocol, without a checksum.
pub fn raw(src: IpAddr, dst: IpAddr, protocol: u8, length: usize) -> Packet {
    packet(src, dst, protocol, payload(length), None)
}

impl Packet {
    /// Addressed from the far end of `port` to the router.
    pub fn at(mut self, port: usize) -> Self {
        self.dst_mac = router_mac(port);
        self.src_mac = wire_mac(port);
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn df(mut self) -> Self {
        self.fragment |= DF;
        self
    }

    /// Changes any field, within a chain.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Lengthens or shortens the payload until the IP packet is `length` bytes long.
    pub fn ip_length(mut self, length: usize) -> Self {
        let head = match self.src {
            IpAddr::V4(_) => 20 + self.options.len(),
            IpAddr::V6(_) => 40 + self.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
        };
        let body = length.checked_sub(head).expect("longer than its headers");
        let from = self.body.len().min(body);
        self.body.truncate(body);
        self.body.extend(&payload(body)[from..]);
        if self.protocol == proto::UDP && body >= 8 {
            self.body[4..6].copy_from_slice(&(body as u16).to_be_bytes());
        }
        self
    }

    /// The fragments of this packet whose bodies are `piece` bytes (a multiple of 8) but for the last.
    pub fn fragments(mut self, piece: usize) -> Vec<Packet> {
        self.complete_sum();
        let count = self.body.len().div_ceil(piece);
        let part = |(index, bytes): (usize, &[u8])| {
            let more = index + 1 < count;
            let offset = (index * piece / 8) as u16;
            let mut part = self.clone();
            part.body = bytes.to_vec();
            part.sum_at = None;
            match part.src {
                IpAddr::V4(_) => part.fragment = (part.fragment & DF) | offset | if more { MF } else { 0 },
                IpAddr::V6(_) => {
                    let [hi, lo] = ((offset << 3) | u16::from(more)).to_be_bytes();
                    part.extensions
                        .push((proto::FRAGMENT, vec![0, 0, hi, lo, 0, 0, 0x12, 0x34]));
                }
            }
            part
        };
        self.body.chunks(piece).enumerate().map(part).collect()
    }

    fn complete_sum(&mut self) {
        let Some(at) = self.sum_at else { return };
        if self.body.len() < at + 2 {
            return;
        }
        self.body[at..at + 2].fill(0);
        let pseudo = match (self.src, self.dst) {
            _ if self.protocol == proto::ICMP => 0,
            (IpAddr::V4(src), IpAddr::V4(dst)) => add(add(0, &src.octets()), &dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => add(add(0, &src.octets()), &dst.octets()),
            _ => panic!("addresses of two families"),
        };
        let pseudo = match self.protocol {
            proto::ICMP => 0,
            other => pseudo + u32::from(other) + self.body.len() as u32,
        };
        let sum = match fold(add(pseudo, &self.body)) {
            0 if self.protocol == proto::UDP => 0xffff,
            sum => sum,
        };
        // Not by chance the pseudo-header's alone: that is no fault, but work left to the hardware.
        let fault = match fold(pseudo) ^ sum ^ self.sum_fault {
            0xffff if self.sum_fault != 0 => self.sum_fault ^ 1,
            _ => self.sum_fault,
        };
        self.body[at..at + 2].copy_from_slice(&(sum ^ fault).to_be_bytes());
    }

    /// The frame.
    pub fn build(mut self) -> Vec<u8> {
        self.complete_sum();
        let mut frame = Vec::with_capacity(14 + 60 + self.body.len());
        frame.extend(self.dst_mac);
        frame.extend(self.src_mac);
        for (protocol, tag) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(&mut frame, src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(&mut frame, src, dst),
            _ => panic!("addresses of two families"),
        }
        frame.extend(&self.body);
        frame.extend(std::iter::repeat_n(0xaa, self.padding));
        frame.truncate(frame.len().saturating_sub(self.cut).max(14));
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, src: Ipv4Addr, dst: Ipv4Addr) {
        frame.extend([0x08, 0x00]);
        let start = frame.len();
        let head = 20 + self.options.len();
        let length = (head + self.body.len()) as i32 + self.length_fault;
        frame.extend([self.first_byte.unwrap_or(0x40 | (head / 4) as u8), self.tos]);
        frame.extend((length as u16).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([self.ttl, self.protocol, 0, 0]);
        frame.extend(src.octets());
        frame.extend(dst.octets());
        frame.extend(&self.options);
        let sum = fold(add(0, &frame[start..])) ^ self.ip_sum_fault;
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }

    fn ipv6(&self, frame: &mut Vec<u8>, src: Ipv6Addr, dst: Ipv6Addr) {
        frame.extend([0x86, 0xdd]);
        let head: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let length = (head + self.body.len()) as i32 + self.length_fault;
        let first = u32::from(self.first_byte.unwrap_or(0x60)) << 24;
        frame.extend((first | u32::from(self.tos) << 20 | self.flow_label).to_be_bytes());
        frame.extend((length as u16).to_be_bytes());
        let following: Vec<u8> = self
            .extensions
            .iter()
            .map(|(protocol, _)| *protocol)
            .chain([self.protocol])
            .collect();
        frame.extend([following[0], self.ttl]);
        frame.extend(src.octets());
        frame.extend(dst.octets());
        for ((_, bytes), next) in self.extensions.iter().zip(&following[1..]) {
            frame.push(*next);
            frame.extend(&bytes[1..]);
        }
    }
}

/// The one's complement sum of big-endian words, unfolded.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + pair.get(1).map_or(0, |&low| u32::from(low))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sets the IPv4 header checksum of a frame without tags anew; for frames that were changed after `build`.
pub fn fix_ipv4_sum(frame: &mut [u8]) {
    let head = 14 + usize::from(frame.get(14).map_or(0, |byte| byte & 0xf)) * 4;
    if head >= 34 && frame.len() >= head {
        frame[24..26].fill(0);
        let sum = fold(add(0, &frame[14..head]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// SCTP's checksum (RFC 9260, appendix A): Castagnoli's polynomial, reflected.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (0u32.wrapping_sub(sum & 1)))
        })
    };
    !bytes.iter().fold(!0, step)
}
