//! What a translation may choose from: addresses, ports, and how (struct nf_nat_range2).
//!
//! A rule says it ([`Range::of`]); masquerade and redirect leave the address to the moment. Without a rule it is the
//! connection's own address ([`Range::null_binding`]).

use super::Manip;
use crate::packet::{Addr, Family};
use crate::table::conntrack::{Record, Tuple};
use crate::table::rules::expr::NatKind;
use crate::table::rules::interpret::NatRequest;
use crate::wire::Protocol;

/// NF_NAT_RANGE_* of include/uapi/linux/netfilter/nf_nat.h, but for those that say that addresses or ports are given.
pub mod flag {
    /// `random`: never the port that it has.
    pub const RANDOM: u32 = 1 << 2;
    /// `persistent`: one address for a source, whatever its destination.
    pub const PERSISTENT: u32 = 1 << 3;
    /// `fully-random`: the same as `random` since Linux 5.0.
    pub const RANDOM_FULLY: u32 = 1 << 4;
    /// Ports are counted from a base.
    pub const PROTO_OFFSET: u32 = 1 << 5;
    /// Either of the two.
    pub const RANDOM_ALL: u32 = RANDOM | RANDOM_FULLY;
}

/// See the file's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First and last address; none: the address stays.
    pub addresses: Option<(Addr, Addr)>,
    /// First and last port, or identifier of ICMP; none: what the kernel thinks fit for the port that it has.
    pub ports: Option<(u16, u16)>,
    /// With [`flag::PROTO_OFFSET`], the port that is mapped to the first.
    pub base: u16,
    /// See [`flag`].
    pub flags: u32,
}

impl Range {
    /// For a connection that no rule translates: the address that it has (__nf_nat_alloc_null_binding).
    pub fn null_binding(record: &Record, manip: Manip) -> Range {
        let own = match manip {
            Manip::Source => record.reply.dst,
            Manip::Destination => record.reply.src,
        };
        Range {
            addresses: Some((own, own)),
            ..Range::default()
        }
    }

    /// What a rule asks for, and of which side. `own` is the address that masquerade and redirect mean; `None` if they
    /// have none: then the kernel drops the packet. (Masquerade of an IPv4 source of 0.0.0.0 is no request: the kernel
    /// accepts such a packet as it is.)
    pub fn of(request: &NatRequest, family: Family, own: Option<Addr>) -> Option<(Range, Manip)> {
        let manip = match request.kind {
            NatKind::Source | NatKind::Masquerade => Manip::Source,
            NatKind::Destination | NatKind::Redirect => Manip::Destination,
        };
        let addresses = match request.kind {
            NatKind::Source | NatKind::Destination => request
                .addresses
                .map(|(first, last)| (address(family, &first), address(family, &last))),
            NatKind::Masquerade | NatKind::Redirect => Some((own?, own?)),
        };
        let range = Range {
            addresses,
            ports: request.ports,
            base: request.base,
            flags: request.flags,
        };
        Some((range, manip))
    }

    pub(super) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Whether the source of `tuple` is within (nf_in_range).
    pub(super) fn has_source(&self, tuple: &Tuple) -> bool {
        let address = |(first, last): (Addr, Addr)| (first..=last).contains(&tuple.src);
        self.addresses.is_none_or(address) && self.ports.is_none_or(|ports| has_port(ports, tuple, Manip::Source))
    }
}

/// Whether the port on that side of `tuple` is within (l4proto_in_range). What has no port is in any range.
pub(super) fn has_port((first, last): (u16, u16), tuple: &Tuple, manip: Manip) -> bool {
    let port = match Protocol(tuple.proto) {
        Protocol::ICMP | Protocol::ICMPV6 => tuple.sport,
        Protocol::GRE | Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => match manip {
            Manip::Source => tuple.sport,
            Manip::Destination => tuple.dport,
        },
        _ => return true,
    };
    (first..=last).contains(&port)
}

fn address(family: Family, bytes: &[u8; 16]) -> Addr {
    match family {
        Family::V4 => u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into(),
        Family::V6 => Addr::from_be_bytes(*bytes),
    }
}
