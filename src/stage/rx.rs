//! rx: the first box of the walk. Parses a frame once, so that no later stage looks at a length again, and completes
//! checksums that a sender on this machine left to the hardware.
//!
//! ```text
//! frame -> Ethernet: to this port? --no--> punt not_ours      -> IPv4: ip_rcv_core's checks  --> Parsed
//!          IPv4 or IPv6?           --no--> punt not_ours         IPv6: ip6_rcv_core's checks -/
//! ```
//!
//! The checks are those of the kernel (net/ipv4/ip_input.c, net/ipv6/ip6_input.c), in its order. What fails one is punted
//! and not dropped: the kernel counts it under its own name. IPv4 options and IPv6 extension headers are parsed and
//! flagged; a later box gives them back. Ethernet padding stays in the frame, behind [`Parsed::end`].
//!
//! What parses is always inlined into the walk: returned through memory, a [`Parsed`] is written in small pieces and read
//! back in large ones, for which the processor waits longer than parsing takes.
//!
//! Bounds: a frame is at most 65535 bytes (offsets are 16 bits), a walk over extension headers at most
//! [`ipv6::EXTENSIONS_MAX`] long.

use crate::packet::{Family, Flags, Frame, Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::wire::ether::{self, EtherType};
use crate::wire::{Mac, Protocol, checksum, ipv4, ipv6, tcp, udp};
use std::ops::ControlFlow::Continue;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// Parses the packet in `frame`, which arrived on `port`, whose Ethernet address is `mac`.
///
/// Ends with a punt: [`PuntReason::NotOurs`] for another destination address or another type than IPv4 and IPv6 (VLAN tags
/// are other types), [`PuntReason::Malformed`], [`PuntReason::Checksum`], [`PuntReason::Martian`] for the IPv6 addresses
/// that `ip6_rcv_core` refuses, [`PuntReason::Extension`] for an IPv6 jumbogram.
#[inline(always)]
pub fn parse(frame: &Frame, port: PortIndex, mac: &Mac) -> Step<Parsed> {
    parse_bytes(frame.bytes(), port, mac)
}

/// [`parse`] of a frame for whomever it is: for traces, for the punt thread, for a wire.
#[inline(always)]
pub fn parse_any(frame: &Frame, port: PortIndex) -> Step<Parsed> {
    match frame.bytes().first_chunk() {
        Some(mac) => parse(frame, port, mac),
        None => Verdict::punt(PuntReason::Malformed),
    }
}

/// [`parse`] over bytes that lie in no frame. More than 65535 of them are malformed.
#[inline(always)]
pub fn parse_bytes(bytes: &[u8], port: PortIndex, mac: &Mac) -> Step<Parsed> {
    if bytes.len() > usize::from(u16::MAX) {
        return Verdict::punt(PuntReason::Malformed);
    }
    let Ok(frame) = ether::Packet::new_checked(bytes) else {
        return Verdict::punt(PuntReason::Malformed);
    };
    if frame.dst() != *mac {
        return Verdict::punt(PuntReason::NotOurs);
    }
    match frame.ethertype() {
        EtherType::IPV4 => parse_v4(bytes, frame.payload(), port),
        EtherType::IPV6 => parse_v6(bytes, frame.payload(), port),
        _ => Verdict::punt(PuntReason::NotOurs),
    }
}

/// Where the network header starts: rx takes no tags.
const L3: usize = ether::HEADER_LEN;

#[inline(always)]
fn parse_v4(bytes: &[u8], payload: &[u8], port: PortIndex) -> Step<Parsed> {
    let Ok(ip) = ipv4::Packet::new_checked(payload) else {
        return Verdict::punt(PuntReason::Malformed);
    };
    if !ip.verify_checksum() {
        return Verdict::punt(PuntReason::Checksum);
    }
    let header_len = ip.header_len();
    let mut flags = flag(ip.is_fragment(), Flags::FRAGMENT) | flag(header_len > ipv4::HEADER_LEN, Flags::OPTIONS);
    let (l4, end) = (L3 + header_len, L3 + ip.total_len());
    let ports = ports(bytes, l4, end, ip.protocol(), ip.fragment_offset() == 0);
    flags |= flag(ports.is_some(), Flags::PORTS);
    let (sport, dport) = ports.unwrap_or_default();
    Continue(Parsed {
        src: ip.src().into(),
        dst: ip.dst().into(),
        port,
        l3: L3 as u16,
        l4: l4 as u16,
        end: end as u16,
        sport,
        dport,
        proto: ip.protocol().0,
        ttl: ip.ttl(),
        tos: ip.tos(),
        flags: Flags(flags),
        family: Family::V4,
    })
}

#[inline(always)]
fn parse_v6(bytes: &[u8], payload: &[u8], port: PortIndex) -> Step<Parsed> {
    let Ok(ip) = ipv6::Packet::new_checked(payload) else {
        return Verdict::punt(PuntReason::Malformed);
    };
    let (src, dst) = (ip.src(), ip.dst());
    if is_martian(src, dst) {
        return Verdict::punt(PuntReason::Martian);
    }
    if ip.payload_len() == 0 && ip.next_header() == Protocol::HOP_BY_HOP {
        return Verdict::punt(PuntReason::Extension); // a jumbogram, by its option
    }
    let next = ip.next_header();
    let (offset, proto, first, mut flags) = if next.is_extension() {
        behind_extensions(&ip)
    } else {
        (ipv6::HEADER_LEN, next, true, 0)
    };
    let (l4, end) = (L3 + offset, L3 + ipv6::HEADER_LEN + ip.payload_len());
    let ports = ports(bytes, l4, end, proto, first);
    flags |= flag(ports.is_some(), Flags::PORTS);
    let (sport, dport) = ports.unwrap_or_default();
    Continue(Parsed {
        src,
        dst,
        port,
        l3: L3 as u16,
        l4: l4 as u16,
        end: end as u16,
        sport,
        dport,
        proto: proto.0,
        ttl: ip.hop_limit(),
        tos: ip.traffic_class(),
        flags: Flags(flags),
        family: Family::V6,
    })
}

/// Where the upper layer starts, which it is, whether its first bytes are there, and the flags. Out of line: few packets
/// come here, and the others need not build an [`ipv6::Upper`].
#[cold]
fn behind_extensions(ip: &ipv6::Packet<&[u8]>) -> (usize, Protocol, bool, u8) {
    let upper = ip.upper();
    let flags = Flags::EXTENSION | flag(upper.fragment.is_some(), Flags::FRAGMENT);
    (
        upper.offset,
        upper.protocol,
        upper.fragment.is_none_or(|fragment| fragment.offset == 0),
        flags,
    )
}

/// The addresses that `ip6_rcv_core` refuses from an Ethernet port: loopback on either side, a multicast source, and a
/// multicast destination of the reserved or the interface-local scope. RFC 4291, sections 2.5.3 and 2.7.
#[inline(always)]
fn is_martian(src: u128, dst: u128) -> bool {
    let is_multicast = |address: u128| address >> 120 == 0xff;
    src == 1 || dst == 1 || is_multicast(src) || (is_multicast(dst) && dst >> 112 & 0x0f < 2)
}

/// Source and destination port, where the packet has any and their bytes are in it.
#[inline(always)]
fn ports(bytes: &[u8], l4: usize, end: usize, proto: Protocol, first: bool) -> Option<(u16, u16)> {
    if !first || !proto.has_ports() {
        return None;
    }
    let [a, b, c, d] = *bytes.get(l4..end)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[inline]
const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Completes a partial TCP or UDP checksum; whether there was one.
///
/// A sender on this machine, behind a veth or a tap, leaves the checksum to the hardware that it takes the port for: the
/// field then holds the pseudo-header's sum, folded and not complemented (CHECKSUM_PARTIAL). The frame does not say so;
/// that sum in the field does. A finished checksum has the same value once in 65536 packets, and is then computed anew, to
/// the value that it has. Must run before anything that brings a checksum after a rewrite, and before a punt.
///
/// The result is that of the kernel's `skb_checksum_help` (net/core/dev.c), which turns a 0 into 0xffff for TCP too. A UDP
/// field of 0, "none", is never taken for a sum: no pseudo-header folds to 0. Fragments are left alone: the field, if it is
/// in this one at all, covers bytes of others.
#[inline(always)]
pub fn complete_checksum(frame: &mut Frame, parsed: &Parsed) -> bool {
    complete_bytes(frame.bytes_mut(), parsed)
}

/// [`complete_checksum`] over bytes that lie in no frame; `parsed` is what [`parse_bytes`] said of them.
#[inline(always)]
pub fn complete_bytes(bytes: &mut [u8], parsed: &Parsed) -> bool {
    if parsed.flags.any(Flags::FRAGMENT) {
        return false;
    }
    let pseudo = || {
        let len = parsed.end - parsed.l4;
        match parsed.family {
            Family::V4 => checksum::pseudo_v4(parsed.src as u32, parsed.dst as u32, parsed.proto, len),
            Family::V6 => checksum::pseudo_v6(parsed.src, parsed.dst, parsed.proto, len.into()),
        }
    };
    let segment = usize::from(parsed.l4)..usize::from(parsed.end);
    complete_segment(bytes, segment, Protocol(parsed.proto), pseudo)
}

/// [`complete_bytes`] of a packet that nobody parsed and that may be for another station: IP of `ethertype`, its header at
/// `l3`. What contradicts itself is left alone, and a header's own checksum is not looked at.
#[inline(always)]
pub fn complete_inside(bytes: &mut [u8], l3: usize, ethertype: EtherType) -> bool {
    let Some(payload) = bytes.get(l3..) else { return false };
    match ethertype {
        EtherType::IPV4 => {
            let Ok(ip) = ipv4::Packet::new_checked(payload) else {
                return false;
            };
            if ip.is_fragment() {
                return false;
            }
            let (from, to, proto) = (ip.header_len(), ip.total_len(), ip.protocol());
            let (src, dst) = (ip.src(), ip.dst());
            let pseudo = || checksum::pseudo_v4(src, dst, proto.0, (to - from) as u16);
            complete_segment(bytes, l3 + from..l3 + to, proto, pseudo)
        }
        EtherType::IPV6 => {
            let Ok(ip) = ipv6::Packet::new_checked(payload) else {
                return false;
            };
            let next = ip.next_header();
            let (from, proto, flags) = if next.is_extension() {
                let (from, proto, _, flags) = behind_extensions(&ip);
                (from, proto, flags)
            } else {
                (ipv6::HEADER_LEN, next, 0)
            };
            let to = ipv6::HEADER_LEN + ip.payload_len();
            if flags & Flags::FRAGMENT != 0 || from > to {
                return false;
            }
            let (src, dst) = (ip.src(), ip.dst());
            let pseudo = || checksum::pseudo_v6(src, dst, proto.0, (to - from) as u32);
            complete_segment(bytes, l3 + from..l3 + to, proto, pseudo)
        }
        _ => false,
    }
}

/// Completes the checksum of `segment`, if it is of TCP or UDP and its field holds the pseudo-header's sum.
#[inline(always)]
fn complete_segment(bytes: &mut [u8], segment: Range<usize>, proto: Protocol, pseudo: impl FnOnce() -> u64) -> bool {
    let at = match proto {
        Protocol::TCP => tcp::CHECKSUM_AT,
        Protocol::UDP => udp::CHECKSUM_AT,
        _ => return false,
    };
    let Some(segment) = bytes.get_mut(segment) else {
        return false;
    };
    let partial = checksum::fold(pseudo()).to_be_bytes();
    if segment.get(at..at + 2) != Some(&partial[..]) {
        return false;
    }
    complete(segment, at);
    true
}

/// The field at `at` holds the pseudo-header's sum, so the sum of the segment as it lies is the whole one.
#[cold]
fn complete(segment: &mut [u8], at: usize) {
    let check = checksum::never_zero(checksum::checksum(segment));
    if let Some(field) = segment.get_mut(at..at + 2) {
        field.copy_from_slice(&check.to_be_bytes());
    }
}
