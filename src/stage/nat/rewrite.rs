//! One side of one packet, be it a frame's own or one that an ICMP error quotes (nf_nat_ipv4_manip_pkt,
//! nf_nat_ipv6_manip_pkt and the functions of protocols that they call).
//!
//! ```text
//!  protocol   needs   changes, beside the address and the IPv4 header's checksum
//!  TCP        8       port; checksum, if 20 bytes are there
//!  UDP        8       port; checksum, unless it is 0
//!  UDP-Lite   8       port; checksum
//!  SCTP       8       port; checksum anew, if 12 bytes are there
//!  ICMP       8       identifier and checksum, of queries and answers
//!  ICMPv6     8       checksum; identifier of echo
//!  GRE        8       call id of version 1, at the destination; of a version above, nothing comes through there
//!  others     0
//! ```
//!
//! Of a quoted packet there may be no more than it needs. What there is less of, the kernel drops.

use crate::packet::Family;
use crate::table::conntrack::Tuple;
use crate::table::nat::Manip;
use crate::wire::checksum::{Delta, never_zero};
use crate::wire::{Protocol, ipv4, ipv6, sctp, tcp, udp};

/// What must be there of any of the headers above.
const NEEDED: usize = 8;
const ICMP_CHECKSUM_AT: usize = 2;
const ICMP_IDENT_AT: usize = 4;
const GRE_CALL_ID_AT: usize = 6;

/// Where a packet's headers start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The IP header.
    pub l3: usize,
    /// The transport header, if there is one.
    pub l4: Option<usize>,
}

/// How many bytes of a transport header may change.
pub(super) fn reach(proto: u8) -> usize {
    match Protocol(proto) {
        Protocol::TCP => tcp::CHECKSUM_AT + 2,
        Protocol::SCTP => sctp::HEADER_LEN,
        _ => NEEDED,
    }
}

/// Changes the side `manip` of the packet at `place` in `bytes`, which end where the frame's IP packet ends, to that of
/// `target`. False: the kernel drops it, and nothing was changed.
pub(super) fn rewrite(bytes: &mut [u8], place: Place, target: &Tuple, manip: Manip) -> bool {
    match target.family {
        Family::V4 => rewrite_v4(bytes, place, target, manip),
        Family::V6 => rewrite_v6(bytes, place, target, manip),
    }
}

fn rewrite_v4(bytes: &mut [u8], Place { l3, l4 }: Place, target: &Tuple, manip: Manip) -> bool {
    let (at, new) = match manip {
        Manip::Source => (12, target.src as u32),
        Manip::Destination => (16, target.dst as u32),
    };
    let Some(header) = bytes
        .get(l3..)
        .and_then(|rest| rest.first_chunk::<{ ipv4::HEADER_LEN }>())
    else {
        return false;
    };
    let old = u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let delta = Delta::NONE.field32(old, new);
    if !l4.is_none_or(|l4| transport(bytes, l4, delta, target, manip)) {
        return false;
    }
    if let Some(header) = bytes
        .get_mut(l3..)
        .and_then(|rest| rest.first_chunk_mut::<{ ipv4::HEADER_LEN }>())
    {
        let check = delta.apply(u16::from_be_bytes([header[10], header[11]]));
        header[10..12].copy_from_slice(&check.to_be_bytes());
        header[at..at + 4].copy_from_slice(&new.to_be_bytes());
    }
    true
}

fn rewrite_v6(bytes: &mut [u8], Place { l3, l4 }: Place, target: &Tuple, manip: Manip) -> bool {
    let (at, new) = match manip {
        Manip::Source => (8, target.src),
        Manip::Destination => (24, target.dst),
    };
    let Some(header) = bytes
        .get(l3..)
        .and_then(|rest| rest.first_chunk::<{ ipv6::HEADER_LEN }>())
    else {
        return false;
    };
    let mut old = [0; 16];
    old.copy_from_slice(&header[at..at + 16]);
    let delta = Delta::NONE.field128(u128::from_be_bytes(old), new);
    if !l4.is_none_or(|l4| transport(bytes, l4, delta, target, manip)) {
        return false;
    }
    if let Some(header) = bytes
        .get_mut(l3..)
        .and_then(|rest| rest.first_chunk_mut::<{ ipv6::HEADER_LEN }>())
    {
        header[at..at + 16].copy_from_slice(&new.to_be_bytes());
    }
    true
}

/// The transport header at `l4`; `address` is the difference that the address makes.
fn transport(bytes: &mut [u8], l4: usize, address: Delta, target: &Tuple, manip: Manip) -> bool {
    let proto = Protocol(target.proto);
    let is_known = matches!(
        proto,
        Protocol::TCP
            | Protocol::UDP
            | Protocol::UDPLITE
            | Protocol::SCTP
            | Protocol::ICMP
            | Protocol::ICMPV6
            | Protocol::GRE
    );
    if !is_known {
        return true;
    }
    let Some(segment) = bytes.get_mut(l4..).filter(|segment| segment.len() >= NEEDED) else {
        return false;
    };
    let (port_at, port) = match manip {
        Manip::Source => (0, target.sport),
        Manip::Destination => (2, target.dport),
    };
    match proto {
        Protocol::TCP => {
            let old = replace(segment, port_at, port);
            if segment.len() >= tcp::HEADER_LEN {
                let delta = address.field16(old, port);
                update(segment, tcp::CHECKSUM_AT, |check| delta.apply(check));
            }
        }
        Protocol::UDP => {
            let delta = address.field16(replace(segment, port_at, port), port);
            update(segment, udp::CHECKSUM_AT, |check| delta.apply_udp(check));
        }
        Protocol::UDPLITE => {
            let delta = address.field16(replace(segment, port_at, port), port);
            update(segment, udp::CHECKSUM_AT, |check| never_zero(delta.apply(check)));
        }
        Protocol::SCTP => {
            replace(segment, port_at, port);
            if let Ok(mut sctp) = sctp::Packet::new_checked(segment) {
                sctp.fill_checksum();
            }
        }
        // Echo, timestamp, information and address mask; errors and others have no identifier.
        Protocol::ICMP if matches!(segment[0], 0 | 8 | 13..=18) => {
            let delta = Delta::NONE.field16(replace(segment, ICMP_IDENT_AT, target.sport), target.sport);
            update(segment, ICMP_CHECKSUM_AT, |check| delta.apply(check));
        }
        Protocol::ICMPV6 => {
            let delta = match segment[0] {
                128 | 129 => address.field16(replace(segment, ICMP_IDENT_AT, target.sport), target.sport),
                _ => address,
            };
            update(segment, ICMP_CHECKSUM_AT, |check| delta.apply(check));
        }
        Protocol::GRE if manip == Manip::Destination => match segment[1] & 7 {
            0 => {}
            1 => {
                replace(segment, GRE_CALL_ID_AT, target.dport);
            }
            _ => return false,
        },
        _ => {}
    }
    true
}

/// Sets a 16-bit field that is there; what it was.
fn replace(segment: &mut [u8], at: usize, new: u16) -> u16 {
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    segment[at..at + 2].copy_from_slice(&new.to_be_bytes());
    old
}

fn update(segment: &mut [u8], at: usize, new: impl Fn(u16) -> u16) {
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    segment[at..at + 2].copy_from_slice(&new(old).to_be_bytes());
}
