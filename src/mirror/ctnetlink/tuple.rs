//! A connection's tuples as ctnetlink writes them, both ways (ctnetlink_parse_tuple, ctnetlink_dump_tuples and the protocols'
//! own attributes).
//!
//! What the ports of a [`Tuple`] mean differs by protocol: see table/conntrack/tuple.rs. Protocols that the kernel tracks
//! without ports have only their number here, so a tuple with ports of a protocol that has none with us is not read.

use super::super::nlattr::{Attrs, Request, get_be16};
use super::attr::{ip, proto, tuple as cta_tuple};
use crate::packet::{Addr, Family};
use crate::table::conntrack::Tuple;
use crate::wire::Protocol;

/// What stands in the places of the two ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    Two,
    Icmp(&'static [u16; 3]),
    None,
}

fn ports(protocol: u8) -> Ports {
    match Protocol(protocol) {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP | Protocol::GRE => Ports::Two,
        Protocol::ICMP => Ports::Icmp(&proto::ICMP),
        Protocol::ICMPV6 => Ports::Icmp(&proto::ICMPV6),
        _ => Ports::None,
    }
}

/// Whether the ports of such a tuple are ports, or the keys of GRE, which NAT treats alike.
pub fn has_ports(protocol: u8) -> bool {
    ports(protocol) == Ports::Two
}

/// Adds `tuple` as the attribute `kind`. Its zone is not part of it.
pub fn put(request: Request, kind: u16, tuple: &Tuple) -> Request {
    let (src, dst) = match tuple.family {
        Family::V4 => (ip::V4_SRC, ip::V4_DST),
        Family::V6 => (ip::V6_SRC, ip::V6_DST),
    };
    let width = 16 - usize::from(tuple.family.bits()) / 8;
    request.nest(kind, |r| {
        r.nest(cta_tuple::IP, |r| {
            r.attr(src, &tuple.src.to_be_bytes()[width..])
                .attr(dst, &tuple.dst.to_be_bytes()[width..])
        })
        .nest(cta_tuple::PROTO, |r| {
            put_ports(r.attr(proto::NUM, &[tuple.proto]), tuple)
        })
    })
}

fn put_ports(request: Request, tuple: &Tuple) -> Request {
    let [high, low] = tuple.dport.to_be_bytes();
    match ports(tuple.proto) {
        Ports::Two => request
            .attr(proto::SRC_PORT, &tuple.sport.to_be_bytes())
            .attr(proto::DST_PORT, &tuple.dport.to_be_bytes()),
        Ports::Icmp([id, kind, code]) => request
            .attr(*id, &tuple.sport.to_be_bytes())
            .attr(*kind, &[high])
            .attr(*code, &[low]),
        Ports::None => request,
    }
}

/// A tuple as it was told, and whether its zone is of this direction only (which a [`Tuple`] cannot say).
pub struct Told {
    /// The tuple, in zone 0.
    pub tuple: Tuple,
    /// See above.
    pub zoned: bool,
}

/// Reads the payload of a tuple attribute; `None` if it is no tuple that we can have.
pub fn get(payload: &[u8]) -> Option<Told> {
    let attrs = Attrs(payload);
    let addresses = Attrs(attrs.find(cta_tuple::IP)?);
    let (family, src, dst) = match addresses.find(ip::V4_SRC) {
        Some(src) => (Family::V4, v4(src)?, v4(addresses.find(ip::V4_DST)?)?),
        None => (
            Family::V6,
            v6(addresses.find(ip::V6_SRC)?)?,
            v6(addresses.find(ip::V6_DST)?)?,
        ),
    };
    let transport = Attrs(attrs.find(cta_tuple::PROTO)?);
    let protocol = *transport.find(proto::NUM)?.first()?;
    let be16 = |kind| get_be16(transport.find(kind)?);
    let (sport, dport) = match ports(protocol) {
        Ports::Two => (be16(proto::SRC_PORT)?, be16(proto::DST_PORT)?),
        Ports::Icmp([id, kind, code]) => {
            let byte = |kind| transport.find(kind)?.first().copied();
            (be16(*id)?, u16::from_be_bytes([byte(*kind)?, byte(*code)?]))
        }
        Ports::None if be16(proto::SRC_PORT).is_some() => return None,
        Ports::None => (0, 0),
    };
    Some(Told {
        tuple: Tuple {
            src,
            dst,
            sport,
            dport,
            proto: protocol,
            family,
            zone: 0,
        },
        zoned: attrs.find(cta_tuple::ZONE).is_some(),
    })
}

fn v4(bytes: &[u8]) -> Option<Addr> {
    bytes.first_chunk().map(|b| u32::from_be_bytes(*b).into())
}

fn v6(bytes: &[u8]) -> Option<Addr> {
    bytes.first_chunk().map(|b| u128::from_be_bytes(*b))
}
