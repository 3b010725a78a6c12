//! ICMP and ICMPv6: queries are connections of their own, errors belong to the connection of the packet inside them.
//! nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c.
//!
//! ```text
//!  outer IP | ICMP error | inner IP | inner transport header, its ports at least
//!                          \- its tuple inverted is looked up: that side of the connection gets the error
//! ```
//!
//! What is inside came from anywhere, so nothing in it is believed before its length was looked at; nothing here allocates
//! or loops over more than the extension headers of IPv6.

use super::{Outcome, Segment, View, elements};
use crate::packet::{Family, Flags, Parsed};
use crate::table::conntrack::{Config, Tuple};
use crate::wire::{Protocol, checksum, icmp, icmpv6, ipv4, ipv6};

/// What an ICMP packet is to conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No error, or no ICMP: track it like any other.
    None,
    /// Malformed, or about nothing that can be told.
    Invalid,
    /// Neighbour discovery and the like: not to be tracked.
    Untracked,
    /// An error: whose packet it is about, as the side that gets the error is known by.
    About(Tuple),
}

/// The highest ICMP type that the kernel knows (NR_ICMP_TYPES).
const TYPES_V4: u8 = 18;

/// Looks whether `packet` is an ICMP error, and about whom.
pub fn icmp_error(packet: &Parsed, frame: &[u8], config: &Config, zone: u16) -> IcmpError {
    let segment = Segment::new(packet, frame);
    match (Protocol(packet.proto), packet.family) {
        (Protocol::ICMP, Family::V4) => error_v4(&segment, config, zone),
        (Protocol::ICMPV6, Family::V6) => error_v6(&segment, config, zone),
        _ => IcmpError::None,
    }
}

fn error_v4(segment: &Segment<'_>, config: &Config, zone: u16) -> IcmpError {
    let Some((header, inner)) = segment.bytes.split_first_chunk::<{ icmp::HEADER_LEN }>() else {
        return IcmpError::Invalid;
    };
    if config.checksum && !checksum::holds(segment.bytes) {
        return IcmpError::Invalid;
    }
    let kind = icmp::Type(header[0]);
    if kind.0 > TYPES_V4 {
        return IcmpError::Invalid;
    }
    let about = [
        icmp::Type::DEST_UNREACHABLE,
        icmp::Type::SOURCE_QUENCH,
        icmp::Type::REDIRECT,
        icmp::Type::TIME_EXCEEDED,
        icmp::Type::PARAMETER_PROBLEM,
    ];
    if !about.contains(&kind) {
        return IcmpError::None;
    }
    inner_v4(inner, zone).map_or(IcmpError::Invalid, IcmpError::About)
}

/// The packet inside may be cut, so its length fields and checksums say nothing.
fn inner_v4(inner: &[u8], zone: u16) -> Option<Tuple> {
    let header = inner.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let be16 = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let address = |at: usize| u128::from(u32::from(be16(at)) << 16 | u32::from(be16(at + 2)));
    let header_len = usize::from(header[0] & 0x0f) * 4;
    // Not the first fragment: its ports are elsewhere.
    if header_len < ipv4::HEADER_LEN || be16(6) & 0x1fff != 0 {
        return None;
    }
    let behind = inner.get(header_len..)?;
    inner_tuple(Family::V4, header[9], address(12), address(16), behind, zone)
}

fn error_v6(segment: &Segment<'_>, config: &Config, zone: u16) -> IcmpError {
    let Some((header, inner)) = segment.bytes.split_first_chunk::<{ icmpv6::HEADER_LEN }>() else {
        return IcmpError::Invalid;
    };
    if config.checksum && !segment.sums_up(Protocol::ICMPV6, segment.bytes.len()) {
        return IcmpError::Invalid;
    }
    match header[0] {
        // Router and neighbour discovery, redirects; multicast listener reports, advertisements of multicast routers.
        130..=132 | 133..=137 | 143 | 151 => IcmpError::Untracked,
        // All errors have types below 128.
        0..128 => inner_v6(inner, zone).map_or(IcmpError::Invalid, IcmpError::About),
        _ => IcmpError::None,
    }
}

fn inner_v6(inner: &[u8], zone: u16) -> Option<Tuple> {
    let header = inner.first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let address = |at: usize| {
        let bytes = header[at..].first_chunk::<16>().copied().unwrap_or_default();
        u128::from_be_bytes(bytes)
    };
    let (mut next, mut at) = (Protocol(header[6]), ipv6::HEADER_LEN);
    let mut fragment = false;
    for _ in 0..ipv6::EXTENSIONS_MAX {
        if !next.is_extension() {
            break;
        }
        let extension = inner.get(at..)?.first_chunk::<8>()?;
        let units = usize::from(extension[1]);
        let len = match next {
            Protocol::FRAGMENT => {
                fragment |= u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0;
                8
            }
            Protocol::AH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next = Protocol(extension[0]);
        at += len;
    }
    if fragment || next.is_extension() {
        return None;
    }
    inner_tuple(Family::V6, next.0, address(8), address(24), inner.get(at..)?, zone)
}

fn inner_tuple(family: Family, proto: u8, src: u128, dst: u128, bytes: &[u8], zone: u16) -> Option<Tuple> {
    let be16 = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (sport, dport) = match Protocol(proto) {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
            // The ports are enough.
            bytes.get(..4)?;
            (be16(0), be16(2))
        }
        _ => {
            let parsed = Parsed {
                src,
                dst,
                port: Default::default(),
                l3: 0,
                l4: 0,
                end: 0,
                sport: 0,
                dport: 0,
                proto,
                ttl: 0,
                tos: 0,
                flags: Flags(0),
                family,
            };
            elements(&parsed, bytes)?
        }
    };
    let tuple = Tuple {
        src,
        dst,
        sport,
        dport,
        proto,
        family,
        zone,
    };
    tuple.invert()
}

/// Whether an error that goes to `packet`'s destination may be about a connection whose side `about` was found: it must go
/// to the one that sent what it is about (nf_conntrack_inet_error).
pub fn error_agrees(packet: &Parsed, about: &Tuple) -> bool {
    packet.dst == about.dst
}

/// What a query or an answer does. Only queries begin a connection.
pub fn track(segment: &Segment<'_>, view: &View, config: &Config) -> Outcome {
    let Some(&kind) = segment.bytes.first() else {
        return Outcome::Invalid(None);
    };
    let (begins, timeout) = match segment.packet.family {
        Family::V4 => (matches!(kind, 8 | 13 | 15 | 17), config.icmp),
        Family::V6 => (matches!(kind, 128 | 139), config.icmpv6),
    };
    if !view.confirmed && !begins {
        return Outcome::Invalid(None);
    }
    Outcome::valid(view.proto, timeout)
}
