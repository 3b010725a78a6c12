//! A route as the kernel says it: RTM_NEWROUTE and RTM_DELROUTE of both families, taken apart into the key (table, prefix)
//! and a [`Shape`]: everything that tells one of the prefix's routes from another. Shapes are interned, since a million
//! routes have a few hundred of them; a route in the store is one pointer.
//!
//! Everything that mirror does not know is remembered as "not carried", never skipped. As fib_dump_info
//! (net/ipv4/fib_semantics.c) and rt6_fill_node (net/ipv6/route.c).

use super::netlink::{Attributes, Message, as_addr, as_u32, family, u16_at, u32_at};
use crate::packet::{Addr, Family};
use crate::port::wait::monotonic_ns;

const HEADER: usize = 12;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u8 = 1;
const RTAX_LOCK: u16 = 1;
const RTAX_MTU: u16 = 2;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;

/// A prefix in a store: an address in network order and a length. 17 bytes, because there are a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    addr: [u8; 16],
    /// In bits.
    pub len: u8,
}

impl Key {
    /// The prefix of `len` bits of `addr`.
    pub fn new(addr: Addr, len: u8) -> Self {
        Self {
            addr: addr.to_be_bytes(),
            len,
        }
    }

    /// The address.
    pub fn addr(&self) -> Addr {
        Addr::from_be_bytes(self.addr)
    }
}

/// One way out, as the kernel says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The link's ifindex, 0 if none.
    pub oif: u32,
    /// The router.
    pub gateway: Option<(Family, Addr)>,
    /// RTNH_F_DEAD: link down, or without carrier where that counts (ignore_routes_with_linkdown). The kernel changes it
    /// without a word.
    pub dead: bool,
    /// LWTUNNEL_ENCAP_* of its encapsulation, 0 if none.
    pub encap: u16,
    /// rtnh_hops: weight - 1.
    pub weight: u8,
}

/// All of a route but its table and prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// RTN_*
    pub kind: u8,
    /// RT_SCOPE_*
    pub scope: u8,
    /// RTPROT_*
    pub protocol: u8,
    /// TOS (IPv4).
    pub tos: u8,
    /// Metric; less is preferred.
    pub priority: u32,
    /// Preferred source, by which the kernel tells IPv4 routes apart.
    pub prefsrc: Addr,
    /// Source prefix (IPv6 subtrees): its address and length.
    pub src: (Addr, u8),
    /// The nexthop object, 0 if none; then `hops` is empty.
    pub nh_id: u32,
    /// The ways out.
    pub hops: Box<[Hop]>,
    /// RTAX_MTU in bytes, 0 if none.
    pub mtu: u32,
    /// RTAX_MTU is locked: PMTU exceptions apply to forwarded packets.
    pub mtu_locked: bool,
    /// Has a realm.
    pub realm: bool,
    /// The second (CLOCK_MONOTONIC) in which its lifetime ends (IPv6), 0 if it has none. The kernel lengthens it without a word.
    pub until: u64,
    /// An attribute that is not known here, 0 if none: who knows what it asks for.
    pub unknown: u16,
}

impl Shape {
    /// Whether it is the same route as `other`, whose nexthops may be dead or alive, and whose lifetime another.
    pub fn is_same(&self, other: &Shape) -> bool {
        let hop = |(a, b): (&Hop, &Hop)| (a.oif, a.gateway, a.encap, a.weight) == (b.oif, b.gateway, b.encap, b.weight);
        (self.kind, self.scope, self.protocol, self.tos) == (other.kind, other.scope, other.protocol, other.tos)
            && (self.priority, self.prefsrc, self.src) == (other.priority, other.prefsrc, other.src)
            && (self.nh_id, self.mtu, self.mtu_locked) == (other.nh_id, other.mtu, other.mtu_locked)
            && self.unknown == other.unknown
            && self.hops.len() == other.hops.len()
            && self.hops.iter().zip(&other.hops).all(hop)
    }
}

/// A route message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMessage {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The table's number.
    pub table: u32,
    /// The destination.
    pub key: Key,
    /// The rest.
    pub shape: Shape,
}

/// Reads a route message; `None` for other families and for cached entries (exceptions), which are not routes.
pub fn parse(message: Message<'_>) -> Option<RouteMessage> {
    let (header, attributes) = message.split(HEADER)?;
    let family = family(header[0])?;
    let flags = u32_at(header, 8)?;
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let mut table = u32::from(header[4]);
    let mut dst = 0;
    let mut first = Hop {
        oif: 0,
        gateway: None,
        dead: flags as u8 & RTNH_F_DEAD != 0,
        encap: 0,
        weight: 0,
    };
    let mut hops = Vec::new();
    let mut shape = Shape {
        kind: header[7],
        scope: header[6],
        protocol: header[5],
        tos: if family == Family::V4 { header[3] } else { 0 },
        priority: 0,
        prefsrc: 0,
        src: (0, header[2]),
        nh_id: 0,
        hops: Box::default(),
        mtu: 0,
        mtu_locked: false,
        realm: false,
        until: 0,
        unknown: 0,
    };
    for (kind, value) in attributes {
        match kind {
            libc::RTA_DST => dst = as_addr(value)?.1,
            libc::RTA_SRC => shape.src.0 = as_addr(value)?.1,
            libc::RTA_TABLE => table = as_u32(value),
            libc::RTA_PRIORITY => shape.priority = as_u32(value),
            libc::RTA_PREFSRC => shape.prefsrc = as_addr(value)?.1,
            libc::RTA_FLOW => shape.realm = as_u32(value) != 0,
            libc::RTA_METRICS => metrics(value, &mut shape),
            libc::RTA_MULTIPATH => multipath(value, &mut hops, &mut shape),
            RTA_NH_ID => shape.nh_id = as_u32(value),
            libc::RTA_CACHEINFO => shape.until = until(value),
            // RTA_IIF, MFC_STATS, PREF (only among equals), EXPIRES, PAD, UID, DEL_REASON
            libc::RTA_IIF | 17 | 20 | 23 | 24 | 25 | 32 => {}
            _ if hop_attribute(&mut first, kind, value) => {}
            _ => shape.unknown = kind,
        }
    }
    if hops.is_empty() {
        hops.push(first);
    }
    if shape.nh_id == 0 {
        shape.hops = hops.into();
    }
    Some(RouteMessage {
        family,
        table,
        key: Key::new(dst, header[1]),
        shape,
    })
}

/// CLOCK_MONOTONIC in seconds.
pub fn now_s() -> u64 {
    monotonic_ns() / 1_000_000_000
}

/// When the lifetime ends, by struct rta_cacheinfo: hundredths of a second from now, negative when it is over, 0 for none. A little
/// earlier than that: it is acted upon ten times a second.
fn until(cacheinfo: &[u8]) -> u64 {
    const EARLY: i64 = 15;
    match u32_at(cacheinfo, 8).map_or(0, u32::cast_signed) {
        0 => 0,
        hundredths => {
            let left_ns = (i64::from(hundredths) - EARLY) * 10_000_000;
            (monotonic_ns().saturating_add_signed(left_ns) / 1_000_000_000).max(1)
        }
    }
}

/// What a route with one nexthop and a nexthop of several say alike; whether `kind` is such.
fn hop_attribute(hop: &mut Hop, kind: u16, value: &[u8]) -> bool {
    match kind {
        libc::RTA_OIF => hop.oif = as_u32(value),
        libc::RTA_GATEWAY => hop.gateway = as_addr(value),
        RTA_VIA => hop.gateway = value.get(2..).and_then(as_addr),
        RTA_ENCAP_TYPE => hop.encap = u16_at(value, 0).unwrap_or(u16::MAX),
        RTA_ENCAP => hop.encap = hop.encap.max(1),
        _ => return false,
    }
    true
}

/// RTA_MULTIPATH: struct rtnexthop (length 2, flags 1, hops 1, ifindex 4) and its attributes, one after the other.
fn multipath(mut value: &[u8], hops: &mut Vec<Hop>, shape: &mut Shape) {
    while let (Some(len), Some(&[.., flags, weight])) = (u16_at(value, 0), value.first_chunk::<4>()) {
        let len = usize::from(len);
        let Some(attributes) = value.get(8..len) else { break };
        let mut hop = Hop {
            oif: u32_at(value, 4).unwrap_or_default(),
            gateway: None,
            dead: flags & RTNH_F_DEAD != 0,
            encap: 0,
            weight,
        };
        for (kind, value) in Attributes(attributes) {
            match kind {
                libc::RTA_FLOW => shape.realm |= as_u32(value) != 0,
                _ if hop_attribute(&mut hop, kind, value) => {}
                _ => shape.unknown = kind,
            }
        }
        hops.push(hop);
        value = value.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// RTA_METRICS. The kernel changes an IPv6 route's MTU without a word when its link's changes (rt6_mtu_change): then routes
/// are read anew.
fn metrics(value: &[u8], shape: &mut Shape) {
    for (kind, value) in Attributes(value) {
        match kind {
            RTAX_MTU => shape.mtu = as_u32(value),
            RTAX_LOCK => shape.mtu_locked = as_u32(value) & (1 << RTAX_MTU) != 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::attribute;
    use super::*;

    fn parsed(header: [u8; 12], attributes: &[Vec<u8>]) -> Option<RouteMessage> {
        let payload = [&header[..], &attributes.concat()].concat();
        parse(Message {
            kind: libc::RTM_NEWROUTE,
            flags: 0,
            payload: &payload,
        })
    }

    const V4: [u8; 12] = [2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];

    #[test]
    fn a_multipath_route_is_taken_apart() {
        let hop = |dead: u8, oif: u8, gateway: [u8; 4]| {
            let gateway = attribute(libc::RTA_GATEWAY, &gateway);
            [&[8 + gateway.len() as u8, 0, dead, 2, oif, 0, 0, 0][..], &gateway].concat()
        };
        let hops = [hop(0, 7, [10, 0, 0, 9]), hop(1, 8, [10, 0, 1, 9])].concat();
        let lock = [
            attribute(RTAX_LOCK, &4u32.to_ne_bytes()),
            attribute(RTAX_MTU, &1300u32.to_ne_bytes()),
        ]
        .concat();
        let route = parsed(
            V4,
            &[
                attribute(libc::RTA_TABLE, &1000u32.to_ne_bytes()),
                attribute(libc::RTA_DST, &[192, 0, 2, 0]),
                attribute(libc::RTA_METRICS, &lock),
                attribute(libc::RTA_MULTIPATH, &hops),
            ],
        )
        .unwrap();
        assert_eq!((route.table, route.key), (1000, Key::new(0xc000_0200, 24)));
        assert!(route.shape.mtu == 1300 && route.shape.mtu_locked && route.shape.unknown == 0);
        let [a, b] = &*route.shape.hops else {
            panic!("{route:?}")
        };
        assert_eq!(
            (a.oif, a.gateway, a.dead, a.weight),
            (7, Some((Family::V4, 0x0a00_0009)), false, 2)
        );
        assert!(b.dead && b.oif == 8);
    }

    #[test]
    fn what_is_not_known_is_remembered() {
        let route = parsed(V4, &[attribute(99, &[0; 4])]).unwrap();
        assert_eq!(route.shape.unknown, 99);
        let route = parsed(V4, &[attribute(RTA_ENCAP, &[0; 4]), attribute(RTA_ENCAP_TYPE, &[5, 0])]).unwrap();
        assert_eq!(route.shape.hops[0].encap, 5);
        let route = parsed(
            V4,
            &[
                attribute(RTA_NH_ID, &[3, 0, 0, 0]),
                attribute(libc::RTA_OIF, &[1, 0, 0, 0]),
            ],
        )
        .unwrap();
        assert!(route.shape.nh_id == 3 && route.shape.hops.is_empty());
    }

    #[test]
    fn cached_entries_and_other_families_are_no_routes() {
        let mut cloned = V4;
        cloned[8..].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
        assert_eq!(parsed(cloned, &[]), None);
        let mut mpls = V4;
        mpls[0] = 28;
        assert_eq!(parsed(mpls, &[]), None);
        assert_eq!(parsed(V4, &[attribute(libc::RTA_DST, &[1, 2])]), None);
    }
}
