//! ICMP and ICMPv6: queries are connections of their own, errors belong to the connection of the packet inside them.
//! nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c.
//!
//! ```text
//!  outer IP | ICMP error | inner IP | inner transport header, eight bytes of it at least
//!                          \- its tuple inverted is looked up: that side of the connection gets the error
//! ```
//!
//! Neighbour discovery and multicast listener messages are untracked. A redirect of IPv6 is an error whose packet lies in an
//! option. What neither is a query nor is about a packet is invalid: an answer without a query, an unknown type.
//!
//! What is inside came from anywhere, so nothing in it is believed before its length was looked at (`quoted`).

use super::{Outcome, Segment, View, quoted};
use crate::packet::{Family, Parsed};
use crate::table::conntrack::{Config, Direction, Tuple};
use crate::wire::{Protocol, checksum, icmp, icmpv6};

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
/// Length of an ICMPv6 redirect without its options, in bytes. RFC 4861, section 4.5.
const REDIRECT_LEN: usize = 40;
/// The option of a redirect that holds the packet which caused it, and what of it comes before that packet, in bytes. RFC
/// 4861, section 4.6.3.
const OPTION_REDIRECTED: u8 = 4;
const OPTION_HEADER_LEN: usize = 8;

/// Looks whether `packet` is an ICMP error, and about whom. Includes what every ICMP packet must pass first: that its header
/// is there, its checksum where `config` asks for it, its type.
pub fn icmp_error(packet: &Parsed, frame: &[u8], config: &Config, zone: u16) -> IcmpError {
    let segment = Segment::new(packet, frame);
    match (Protocol(packet.proto), packet.family) {
        (Protocol::ICMP, Family::V4) => error_v4(&segment, config, zone),
        (Protocol::ICMPV6, Family::V6) => error_v6(&segment, config, zone),
        _ => IcmpError::None,
    }
}

fn error_v4(segment: &Segment<'_>, config: &Config, zone: u16) -> IcmpError {
    let Ok(message) = icmp::Packet::new_checked(segment.bytes) else {
        return IcmpError::Invalid;
    };
    // The kernel's sum is over the IP header too, a zero of one's complement: either of the two zeros is right.
    if config.checksum && !matches!(checksum::fold(checksum::sum(segment.bytes)), 0 | 0xffff) {
        return IcmpError::Invalid;
    }
    if message.kind().0 > TYPES_V4 {
        return IcmpError::Invalid;
    }
    if message.kind().is_error() {
        about(Family::V4, message.payload(), zone)
    } else {
        IcmpError::None
    }
}

fn error_v6(segment: &Segment<'_>, config: &Config, zone: u16) -> IcmpError {
    let Ok(message) = icmpv6::Packet::new_checked(segment.bytes) else {
        return IcmpError::Invalid;
    };
    if config.checksum && !segment.sums_up(Protocol::ICMPV6, segment.bytes.len()) {
        return IcmpError::Invalid;
    }
    match message.kind() {
        // Multicast listeners, neighbour discovery, listeners version 2, multicast router discovery.
        icmpv6::Type(130..=136 | 143 | 151 | 152) => IcmpError::Untracked,
        icmpv6::Type::REDIRECT => redirect(segment, zone),
        kind if kind.is_error() => about(Family::V6, message.payload(), zone),
        _ => IcmpError::None,
    }
}

/// nf_conntrack_icmpv6_redirect.
fn redirect(segment: &Segment<'_>, zone: u16) -> IcmpError {
    let Some((redirect, options)) = segment.bytes.split_at_checked(REDIRECT_LEN) else {
        return IcmpError::Invalid;
    };
    if redirect[1] != 0 {
        return IcmpError::None; // and then invalid, for nothing answers it
    }
    let is_link_local = segment.packet.src >> 118 == 0xfe80 >> 6;
    if segment.packet.ttl != 255 || !is_link_local {
        return IcmpError::Invalid;
    }
    match *options {
        [] | [_] | [_, 0, ..] => IcmpError::Invalid,
        [OPTION_REDIRECTED, ..] => {
            let packet = options.get(OPTION_HEADER_LEN..).unwrap_or_default();
            about(Family::V6, packet, zone)
        }
        _ => IcmpError::None,
    }
}

fn about(family: Family, inner: &[u8], zone: u16) -> IcmpError {
    let tuple = quoted::tuple(family, inner, zone);
    tuple
        .and_then(|tuple| tuple.invert())
        .map_or(IcmpError::Invalid, IcmpError::About)
}

/// Whether an error that goes to `packet`'s destination may be about a connection whose side `about` was found: it must go
/// to the one that sent what it is about (nf_conntrack_inet_error).
pub fn error_agrees(packet: &Parsed, about: &Tuple) -> bool {
    packet.dst == about.dst
}

/// What a query or an answer does. Only queries begin a connection; of an ICMP connection the kernel asks with every packet
/// whether it began with one.
pub fn track(segment: &Segment<'_>, view: &View, direction: Direction, config: &Config) -> Outcome {
    let Some(&kind) = segment.bytes.first() else {
        return Outcome::Invalid(None);
    };
    let (may_be, timeout) = match segment.packet.family {
        Family::V4 => (is_query_v4(kind, direction), config.icmp),
        Family::V6 => (view.confirmed || matches!(kind, 128 | 139), config.icmpv6),
    };
    if !may_be {
        return Outcome::Invalid(None);
    }
    Outcome::valid(None, timeout)
}

/// Whether the original direction of a packet's connection is that of a query: echo, timestamp, information, address mask.
fn is_query_v4(kind: u8, direction: Direction) -> bool {
    match direction {
        Direction::Original => matches!(kind, 8 | 13 | 15 | 17),
        Direction::Reply => matches!(kind, 0 | 14 | 16 | 18),
    }
}
