//! `-j SNAT`, `DNAT`, `MASQUERADE`, `REDIRECT`, `NETMAP`. As net/netfilter/xt_{nat,MASQUERADE,REDIRECT,NETMAP}.c.
//!
//! ```text
//!  nf_nat_ipv4_multi_range_compat  count (1) | flags | first, last address (4 each) | first, last port      20 bytes
//!  nf_nat_range                    flags | first, last address (16 each) | first, last port                 40
//!  nf_nat_range2                   the same, and the port that the first one is for                         44
//! ```
//!
//! Addresses and ports are in network order. NETMAP keeps the host's part of the packet's own address, and is for the source
//! where the packet is about to leave.

use super::info::Info;
use crate::table::rules::expr::{Base, NatKind};
use crate::table::rules::interpret::NatRequest;
use crate::table::rules::keys::MetaKey;
use crate::table::rules::packet::{Answer, Fact, Packet};
use crate::table::rules::program::NFPROTO_IPV4;

/// NF_NAT_RANGE_*.
const MAP_IPS: u32 = 1 << 0;
const PROTO_SPECIFIED: u32 = 1 << 1;
const RANGE_MASK: u32 = 0x7f;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NatTarget {
    /// None is NETMAP, which takes the kind of its hook.
    kind: Option<NatKind>,
    addresses: Option<([u8; 16], [u8; 16])>,
    ports: Option<(u16, u16)>,
    base: u16,
    flags: u32,
}

impl NatTarget {
    pub(super) fn decode(name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Self> {
        let kind = match name {
            "SNAT" => Some(NatKind::Source),
            "DNAT" => Some(NatKind::Destination),
            "MASQUERADE" => Some(NatKind::Masquerade),
            "REDIRECT" => Some(NatKind::Redirect),
            "NETMAP" => None,
            _ => return None,
        };
        let is_plain = matches!(kind, Some(NatKind::Source | NatKind::Destination));
        let target = match revision {
            0 if nfproto == NFPROTO_IPV4 => Self::compat(kind, info),
            1 if is_plain => Self::range(kind, info, 40),
            2 if is_plain => Self::range(kind, info, 44),
            // There is none of the two for IPv6.
            0 if !is_plain => Self::range(kind, info, 40),
            _ => None,
        }?;
        // Those two have no addresses of their own; this one has nothing else.
        let has_addresses = target.addresses.is_some();
        let fits = match kind {
            Some(NatKind::Masquerade | NatKind::Redirect) => !has_addresses,
            Some(_) => true,
            None => has_addresses,
        };
        fits.then_some(target)
    }

    fn compat(kind: Option<NatKind>, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 20)?;
        let address = |at: usize| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&info.bytes::<4>(at));
            address
        };
        let ports = (info.be16(16), info.be16(18));
        (info.u32(0) == 1).then_some(())?;
        Self::new(kind, info.u32(4), (address(8), address(12)), ports, 0)
    }

    /// Of either size; the smaller one has no base.
    fn range(kind: Option<NatKind>, info: &[u8], size: usize) -> Option<Self> {
        let info = Info::of(info, size)?;
        let addresses = (info.bytes(4), info.bytes(20));
        let base = if size > 40 { info.be16(40) } else { 0 };
        Self::new(kind, info.u32(0), addresses, (info.be16(36), info.be16(38)), base)
    }

    fn new(
        kind: Option<NatKind>,
        flags: u32,
        addresses: ([u8; 16], [u8; 16]),
        ports: (u16, u16),
        base: u16,
    ) -> Option<Self> {
        (flags & !RANGE_MASK == 0).then_some(Self {
            kind,
            addresses: (flags & MAP_IPS != 0).then_some(addresses),
            ports: (flags & PROTO_SPECIFIED != 0).then_some(ports),
            base,
            flags: flags & !(MAP_IPS | PROTO_SPECIFIED),
        })
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Some(NatKind::Source) => "SNAT",
            Some(NatKind::Destination) => "DNAT",
            Some(NatKind::Masquerade) => "MASQUERADE",
            Some(NatKind::Redirect) => "REDIRECT",
            None => "NETMAP",
        }
    }

    /// What it wants for the connection of `packet`; none if that is not known.
    pub(super) fn request(&self, packet: &impl Packet) -> Option<NatRequest> {
        let (kind, addresses) = match (self.kind, self.addresses) {
            (Some(kind), addresses) => (kind, addresses),
            (None, addresses) => {
                let kind = match packet.meta(MetaKey::Oif) {
                    Fact::U32(0) => NatKind::Destination,
                    Fact::U32(_) => NatKind::Source,
                    _ => return None,
                };
                (kind, Some(mapped(addresses?, kind, packet)?))
            }
        };
        Some(NatRequest {
            kind,
            addresses,
            ports: self.ports,
            base: self.base,
            flags: self.flags,
        })
    }
}

/// The packet's own address within the network that these are the first and last of, twice.
fn mapped((first, last): ([u8; 16], [u8; 16]), kind: NatKind, packet: &impl Packet) -> Option<([u8; 16], [u8; 16])> {
    let (start, len) = match packet.nfproto() {
        NFPROTO_IPV4 => (12, 4),
        _ => (8, 16),
    };
    let at = if kind == NatKind::Source { start } else { start + len };
    let mut own = [0; 16];
    if packet.payload(Base::Network, at, &mut own[..len]) != Answer::Done {
        return None;
    }
    for (byte, (first, last)) in own[..len].iter_mut().zip(first.iter().zip(last)) {
        let host = first ^ last;
        *byte = *byte & host | first & !host;
    }
    Some((own, own))
}
