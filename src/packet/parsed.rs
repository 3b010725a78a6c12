//! What rx found out about a packet, once, within one cache line. Later stages trust it and do not look at lengths again.
//!
//! Offsets count from the start of the frame, so that a rewrite needs no second parse.

use super::PortIndex;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network layer's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families, for loops over tables.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Address width in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// An address of either family as a number: an IPv4 address in the low 32 bits, an IPv6 address in all 128, both in host
/// order (so `192.0.2.1` is `0xc000_0201`). The family is told by what stands beside it.
pub type Addr = u128;

/// Facts about a packet that later stages branch on, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// An IPv4 fragment (offset or MF), or an IPv6 fragment header.
    pub const FRAGMENT: u8 = 1 << 0;
    /// IPv4 options are present.
    pub const OPTIONS: u8 = 1 << 1;
    /// An IPv6 extension header other than the upper layer's follows.
    pub const EXTENSION: u8 = 1 << 2;
    /// `sport` and `dport` are the packet's (TCP, UDP, UDP-Lite, SCTP, DCCP with their first bytes here).
    pub const PORTS: u8 = 1 << 3;

    /// Whether any of `bits` is set.
    #[inline]
    pub fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// A parsed IP packet. Offsets count from the first byte of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Parsed {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The port it came in by.
    pub port: PortIndex,
    /// Where the IP header starts.
    pub l3: u16,
    /// Where the transport header starts.
    pub l4: u16,
    /// Where the IP packet ends, by its own length field: the frame behind it is padding.
    pub end: u16,
    /// Source port, or 0 without [`Flags::PORTS`].
    pub sport: u16,
    /// Destination port, or 0 without [`Flags::PORTS`].
    pub dport: u16,
    /// IP protocol number (IPv6: of the header at `l4`).
    pub proto: u8,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Facts, see [`Flags`].
    pub flags: Flags,
    /// IPv4 or IPv6.
    pub family: Family,
}

impl Parsed {
    /// Length of the IP packet in bytes, header included: what the MTU bounds.
    #[inline]
    pub fn l3_len(&self) -> u16 {
        self.end - self.l3
    }
}

const _: () = assert!(size_of::<Parsed>() == 64, "a parsed packet is one cache line");

impl Family {
    /// `addr` as an address of this family.
    pub fn show(self, addr: Addr) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(addr as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(addr)),
        }
    }

    /// The family and number of `ip`.
    pub fn of(ip: IpAddr) -> (Family, Addr) {
        match ip {
            IpAddr::V4(v4) => (Family::V4, Addr::from(v4.to_bits())),
            IpAddr::V6(v6) => (Family::V6, v6.to_bits()),
        }
    }
}

impl fmt::Display for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (self.family.show(self.src), self.family.show(self.dst));
        if self.flags.any(Flags::PORTS) {
            write!(f, "{src}.{} > {dst}.{}", self.sport, self.dport)?;
        } else {
            write!(f, "{src} > {dst}")?;
        }
        write!(f, ", proto {}, ttl {}, length {}", self.proto, self.ttl, self.l3_len())
    }
}
