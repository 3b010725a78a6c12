//! A route as the kernel says it: RTM_NEWROUTE and RTM_DELROUTE of both families, taken apart into the key (table, prefix)
//! and a [`Shape`]: everything that tells one of the prefix's routes from another. Shapes are interned, since a million
//! routes have a few hundred of them; a route in the store is one pointer.
//!
//! Everything that mirror does not know is remembered as "not carried", never skipped. As fib_dump_info
//! (net/ipv4/fib_semantics.c) and rt6_fill_node (net/ipv6/route.c).

use super::netlink::{Attributes, Message, as_addr, as_u32, family, u16_at, u32_at};
use crate::packet::{Addr, Family};
use hashbrown::HashSet;
use std::sync::Arc;

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
}

impl Shape {
    /// Whether it is the same route as `other`, whose nexthops may be dead or alive.
    pub fn is_same(&self, other: &Shape) -> bool {
        let hop = |(a, b): (&Hop, &Hop)| (a.oif, a.gateway, a.encap, a.weight) == (b.oif, b.gateway, b.encap, b.weight);
        (self.kind, self.scope, self.protocol, self.tos) == (other.kind, other.scope, other.protocol, other.tos)
            && (self.priority, self.prefsrc, self.src) == (other.priority, other.prefsrc, other.src)
            && (self.nh_id, self.mtu, self.mtu_locked) == (other.nh_id, other.mtu, other.mtu_locked)
            && self.hops.len() == other.hops.len()
            && self.hops.iter().zip(&other.hops).all(hop)
    }
}

/// Shapes, each once.
#[derive(Debug, Default)]
pub struct Shapes {
    known: HashSet<Arc<Shape>, foldhash::fast::RandomState>,
    purge_at: usize,
}

impl Shapes {
    /// The one shape that equals `shape`.
    pub fn intern(&mut self, shape: Shape) -> Arc<Shape> {
        if let Some(known) = self.known.get(&shape) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.purge_at {
            self.known.retain(|shape| Arc::strong_count(shape) > 1);
            self.purge_at = (2 * self.known.len()).max(1024);
        }
        let shape = Arc::new(shape);
        self.known.insert(Arc::clone(&shape));
        shape
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
            libc::RTA_MULTIPATH => shape.realm |= multipath(value, &mut hops),
            RTA_NH_ID => shape.nh_id = as_u32(value),
            _ => hop_attribute(&mut first, kind, value),
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

/// What a route with one nexthop and a nexthop of several say alike.
fn hop_attribute(hop: &mut Hop, kind: u16, value: &[u8]) {
    match kind {
        libc::RTA_OIF => hop.oif = as_u32(value),
        libc::RTA_GATEWAY => hop.gateway = as_addr(value),
        RTA_VIA => hop.gateway = value.get(2..).and_then(as_addr),
        RTA_ENCAP_TYPE => hop.encap = u16_at(value, 0).unwrap_or(u16::MAX),
        RTA_ENCAP => hop.encap = hop.encap.max(1),
        _ => {}
    }
}

/// RTA_MULTIPATH: struct rtnexthop (length 2, flags 1, hops 1, ifindex 4) and its attributes, one after the other. Whether
/// one of them has a realm.
fn multipath(mut value: &[u8], hops: &mut Vec<Hop>) -> bool {
    let mut realm = false;
    while let (Some(len), Some(&[.., flags, weight])) = (u16_at(value, 0), value.first_chunk::<4>()) {
        let len = usize::from(len);
        let Some(attributes) = value.get(8..len) else { break };
        let oif = u32_at(value, 4).unwrap_or_default();
        let mut hop = Hop {
            oif,
            gateway: None,
            dead: flags & RTNH_F_DEAD != 0,
            encap: 0,
            weight,
        };
        for (kind, value) in Attributes(attributes) {
            realm |= kind == libc::RTA_FLOW && as_u32(value) != 0;
            hop_attribute(&mut hop, kind, value);
        }
        hops.push(hop);
        value = value.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    realm
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
