//! The packet that an ICMP error quotes: its tuple, as nf_ct_get_tuplepr of net/netfilter/nf_conntrack_core.c reads it.
//!
//! What is quoted may be cut anywhere, and is what a stranger says: the views of `wire` would refuse most of it, for its
//! lengths lead beyond what is there. The kernel asks only that the bytes it needs be there, and looks at neither version
//! nor checksum; a header length below 20 reads the ports from within the IP header. Nothing comes of it but a look-up.
//!
//! The walk over extension headers (ipv6_skip_exthdr) is as long as the quote: each is at least eight bytes.

use super::keys;
use crate::packet::{Addr, Family};
use crate::table::conntrack::Tuple;
use crate::wire::{Protocol, ipv4, ipv6};

/// The tuple of the packet that `quote` begins with; `None` where the kernel finds none.
pub(super) fn tuple(family: Family, quote: &[u8], zone: u16) -> Option<Tuple> {
    match family {
        Family::V4 => tuple_v4(quote, zone),
        Family::V6 => tuple_v6(quote, zone),
    }
}

fn tuple_v4(quote: &[u8], zone: u16) -> Option<Tuple> {
    let header = quote.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    if is_later_fragment {
        return None;
    }
    let segment = quote.get(usize::from(header[0] & 0x0f) * 4..)?;
    let address = |at: usize| {
        Addr::from(u32::from_be_bytes([
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
        ]))
    };
    let proto = Protocol(header[9]);
    let (sport, dport) = keys(proto, segment)?;
    Some(Tuple {
        src: address(12),
        dst: address(16),
        sport,
        dport,
        proto: proto.0,
        family: Family::V4,
        zone,
    })
}

fn tuple_v6(quote: &[u8], zone: u16) -> Option<Tuple> {
    let (header, behind) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let address = |at: usize| {
        header[at..at + 16]
            .iter()
            .fold(0, |number, byte| number << 8 | Addr::from(*byte))
    };
    let (proto, segment) = upper(Protocol(header[6]), behind)?;
    let (sport, dport) = keys(proto, segment)?;
    Some(Tuple {
        src: address(8),
        dst: address(24),
        sport,
        dport,
        proto: proto.0,
        family: Family::V6,
        zone,
    })
}

/// Where the transport header lies in a quoted IPv6 packet; `None` where the walk over its extension headers does not come to
/// one.
pub fn quoted_transport_v6(quote: &[u8]) -> Option<usize> {
    let (header, behind) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let (_, segment) = upper(Protocol(header[6]), behind)?;
    Some(quote.len() - segment.len())
}

/// The upper layer behind `proto`, the first header in `rest`. An extension header that leads beyond the end has nothing
/// behind it.
fn upper(mut proto: Protocol, mut rest: &[u8]) -> Option<(Protocol, &[u8])> {
    while proto.is_extension() {
        let [next, units, ..] = *rest else { return None };
        let len = match proto {
            Protocol::FRAGMENT => {
                let &[_, _, a, b, ..] = rest else { return None };
                if u16::from_be_bytes([a, b]) & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            Protocol::AH => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        proto = Protocol(next);
        rest = rest.get(len..).unwrap_or_default();
    }
    (proto != Protocol::NO_NEXT).then_some((proto, rest))
}
