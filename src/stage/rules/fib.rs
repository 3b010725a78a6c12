//! What the routes say of a packet's addresses: `fib`.
//!
//! ```text
//!  type              RTN_* of an address
//!  oif, oifname      the link that the routes name for an address, or whether they name one
//!    . iif           whether that is the link of arrival: one of several nexthops will do
//! ```
//!
//! The kernel looks routes up as the box itself would, IPv4's for a source at forward as if it came in by the link of
//! departure, and with the packet's mark if the rule says so. A route that is not unicast names no link. Where the mirror is
//! not sure (rules that ask for marks, routes that are not carried, which one of several nexthops) the answer is not known,
//! and the packet is the kernel's. As net/ipv4/netfilter/nft_fib_ipv4.c, net/ipv6/netfilter/nft_fib_ipv6.c.

use super::AtHook;
use crate::packet::{Addr, Family};
use crate::table::Snapshot;
use crate::table::fib::{FibKey, Found, RouteKind, TABLE_LOCAL};
use crate::table::iface::{Iface, IfaceIndex};
use crate::table::rules::expr::FibFlags;
use crate::table::rules::keys::FibResult;
use crate::table::rules::live::Point;
use crate::table::rules::packet::Fact;

impl AtHook<'_> {
    /// See the file's head.
    pub(super) fn ask_fib(&self, result: FibResult, flags: FibFlags) -> Fact {
        let present = flags.0 & FibFlags::PRESENT != 0;
        match (result, self.fib_link(result, flags)) {
            (FibResult::Addrtype, _) => self.fib_type(flags),
            (_, None) => Fact::Unknown,
            (_, Some(link)) if present => Fact::U8(link.is_some().into()),
            (FibResult::Oif, Some(link)) => Fact::U32(link.map_or(0, |link| link.ifindex)),
            (FibResult::Oifname, Some(Some(link))) => Fact::name(&link.name),
            // The kernel clears no more than that of the register, and no name is like it.
            (FibResult::Oifname, Some(None)) => Fact::Bytes4([0; 4]),
        }
    }

    fn fib_type(&self, flags: FibFlags) -> Fact {
        let packet = &*self.packet;
        let (addr, other) = match flags.0 {
            FibFlags::SADDR => (packet.src, packet.dst),
            FibFlags::DADDR => (packet.dst, packet.src),
            _ => return Fact::Unknown,
        };
        addrtype(addr, (other, packet.tos), packet.family, self.snapshot).map_or(Fact::Unknown, Fact::U32)
    }

    /// The link that the routes name; none, where they name none; nothing, where it is not known.
    fn fib_link(&self, result: FibResult, flags: FibFlags) -> Option<Option<&Iface>> {
        let (snapshot, packet) = (self.snapshot, &*self.packet);
        let has = |flag: u32| flags.0 & flag != 0;
        let asks_marked = has(FibFlags::MARK) && self.aside.mark != 0 && snapshot.rules_by_mark[packet.family as usize];
        let odd = [packet.src, packet.dst].into_iter().any(|a| is_odd(a, packet.family));
        if result == FibResult::Addrtype || asks_marked || odd || has(FibFlags::OIF) {
            return None;
        }
        let (dst, src) = match has(FibFlags::DADDR) {
            true => (packet.dst, packet.src),
            false => (packet.src, packet.dst),
        };
        // Of routes with one prefix the kernel prefers that by the link which has this address, and only one is known here.
        if packet.family == Family::V6 && is_own(src, Family::V6, snapshot) {
            return None;
        }
        let comes_by_oif =
            packet.family == Family::V4 && self.point == Point::Forward && has(FibFlags::IIF) && !has(FibFlags::DADDR);
        let iif = match (comes_by_oif, self.oif) {
            (false, _) => None,
            (true, Some((oif, _))) => Some(index(oif, snapshot)?),
            (true, None) => return None,
        };
        let key = FibKey {
            src,
            dst,
            iif,
            tos: packet.tos,
        };
        let route = match snapshot.fib(packet.family).lookup(&key) {
            Found::Route(_, route) if route.left.is_none() => route,
            Found::Refused | Found::Nothing => return Some(None),
            Found::Route(..) | Found::Left(_) => return None,
        };
        let link = |at: IfaceIndex| snapshot.iface(at);
        match (route.kind, &*route.nexthops) {
            (RouteKind::Local | RouteKind::Refused, _) => Some(None),
            (RouteKind::Unicast, [one]) => {
                let link = link(one.iface)?;
                let wanted = !has(FibFlags::IIF) || link.ifindex == self.iif.ifindex;
                Some(wanted.then_some(link))
            }
            (RouteKind::Unicast, several) if packet.family == Family::V4 && has(FibFlags::IIF) => {
                let mut links = several.iter().filter_map(|nexthop| link(nexthop.iface));
                Some(links.find(|link| link.ifindex == self.iif.ifindex))
            }
            _ => None,
        }
    }
}

/// What is not looked up as others are: zero, multicast, limited broadcast and class E; unspecified, loopback, link-local.
fn is_odd(addr: Addr, family: Family) -> bool {
    match family {
        Family::V4 => addr >> 24 == 0 || addr >> 28 >= 0xe,
        Family::V6 => addr >> 120 == 0xff || addr >> 118 == 0x3fa || addr <= 1,
    }
}

fn index(iface: &Iface, snapshot: &Snapshot) -> Option<IfaceIndex> {
    let at = snapshot
        .ifaces
        .iter()
        .position(|other| other.ifindex == iface.ifindex)?;
    Some(IfaceIndex(at.try_into().ok()?))
}

/// RTN_* of an address (nft_fib4_eval_type, nft_fib6_eval_type), where it is known here; IPv6 asks for the way there as from
/// another one, with a traffic class.
fn addrtype(addr: Addr, (from, tos): (Addr, u8), family: Family, snapshot: &Snapshot) -> Option<u32> {
    const UNICAST: u32 = 1;
    const LOCAL: u32 = 2;
    const BROADCAST: u32 = 3;
    let fib = snapshot.fib(family);
    let local = fib.tables.iter().find(|(number, _)| *number == TABLE_LOCAL);
    let local = local.and_then(|(_, table)| table.lookup(addr)).map(|(_, route)| route);
    match (family, local) {
        // What never is of a forwarded packet.
        _ if is_odd(addr, family) => None,
        (_, Some(route)) if route.left.is_some() => None,
        (_, Some(route)) => match route.kind {
            // Or anycast, which is not told apart, or a route that somebody made.
            RouteKind::Local => is_own(addr, family, snapshot).then_some(LOCAL),
            RouteKind::Broadcast if family == Family::V4 => Some(BROADCAST),
            _ => None,
        },
        (Family::V4, None) => Some(UNICAST),
        // IPv6 asks the routes, nft as from the packet's other address and xtables as from none: an error has another type.
        (Family::V6, None) => {
            let key = |src, tos| FibKey {
                src,
                dst: addr,
                iif: None,
                tos,
            };
            let is_unicast = |key: FibKey| match fib.lookup(&key) {
                Found::Route(len, route) => {
                    route.left.is_none() && route.kind == RouteKind::Unicast && !may_be_anycast(addr, len)
                }
                _ => false,
            };
            [key(from, tos), key(0, 0)]
                .into_iter()
                .all(is_unicast)
                .then_some(UNICAST)
        }
    }
}

/// Whether an address is that of its own prefix, which routers of a link share (ipv6_anycast_destination).
fn may_be_anycast(addr: Addr, prefix_len: u8) -> bool {
    prefix_len < 127 && addr << prefix_len == 0
}

/// Whether it is an address of the box, as far as is known here: of IPv6 those that others see.
fn is_own(addr: Addr, family: Family, snapshot: &Snapshot) -> bool {
    let has = |iface: &Iface| iface.sources[Family::V6 as usize].iter().any(|own| own.addr == addr);
    match family {
        Family::V4 => snapshot.own_v4.contains(&addr),
        Family::V6 => snapshot.ifaces.iter().any(has),
    }
}
