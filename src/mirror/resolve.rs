//! From a route as the kernel says it to a [`Route`] as stages use it: nexthop objects resolved, ifindexes replaced by the
//! snapshot's indexes, dead ways out skipped as the kernel skips them (fib_lookup_good_nhc, find_match), and everything that
//! is not carried marked as left to the kernel with the reason.

use super::fibs::World;
use super::nexthop::Resolved;
use super::route::{Hop, Shape, now_s};
use crate::packet::Family;
use crate::table::fib::{Gateway, Nexthop, Route, RouteKind};
use crate::table::iface::Left;
use std::collections::HashSet;

const RTPROT_RA: u8 = 9;

/// What of the configuration, beside the routes, decides what a route means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `ip_forward_use_pmtu` (IPv4): PMTU exceptions, which are invisible, hold for forwarded packets.
    pub use_pmtu: bool,
    /// `fib_multipath_use_neigh` (IPv4): the kernel chooses among routers whose neighbour entry is valid.
    pub use_neigh: bool,
    /// IPv6 `conf/all/forwarding` is 0 and some link forces forwarding: the kernel then prefers reachable routers.
    pub reachability: bool,
    /// Links on which redirects are accepted, by ifindex: the kernel may hold other nexthops than its routes say.
    pub redirected: HashSet<u32>,
}

/// What routes are resolved with.
pub struct Resolver<'a> {
    /// What routes refer to.
    pub world: &'a World,
    /// See there.
    pub policy: &'a Policy,
    /// Links that routes named and nobody knows (yet).
    pub unknown: &'a mut HashSet<u32>,
}

/// A route that is left to the kernel.
pub fn left(why: &str) -> Route {
    Route {
        kind: RouteKind::Unicast,
        nexthops: Box::default(),
        mtu: 0,
        left: Some(why.into()),
    }
}

/// A route without ways out.
fn plain(kind: RouteKind) -> Route {
    Route {
        kind,
        nexthops: Box::default(),
        mtu: 0,
        left: None,
    }
}

impl Resolver<'_> {
    /// What `shape` means; `None` if all its ways out are dead, so that the kernel passes it over.
    pub fn route(&mut self, shape: &Shape) -> Option<Route> {
        if shape.until != 0 && shape.until <= now_s() {
            return Some(left("its lifetime is over"));
        }
        match shape.kind {
            libc::RTN_UNICAST => {}
            libc::RTN_LOCAL | libc::RTN_ANYCAST => return Some(plain(RouteKind::Local)),
            libc::RTN_BROADCAST | libc::RTN_MULTICAST => return Some(plain(RouteKind::Broadcast)),
            libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT => return self.refused(shape),
            libc::RTN_THROW => return Some(plain(RouteKind::Throw)),
            other => return Some(left(&format!("route type {other}"))),
        }
        if shape.nh_id == 0 {
            return self.unicast(shape, &shape.hops);
        }
        match self.world.nexthops.resolve(shape.nh_id) {
            Resolved::Blackhole => Some(plain(RouteKind::Refused)),
            Resolved::Left(why) => Some(left(why)),
            Resolved::Hops(hops) => self.unicast(shape, &hops),
        }
    }

    /// A route that the kernel says is refused. It says so, too, of a route over a blackhole nexthop object.
    fn refused(&self, shape: &Shape) -> Option<Route> {
        match shape.nh_id {
            0 => Some(plain(RouteKind::Refused)),
            id => match self.world.nexthops.resolve(id) {
                Resolved::Blackhole => Some(plain(RouteKind::Refused)),
                _ => Some(left("a nexthop object that changed its kind")),
            },
        }
    }

    fn unicast(&mut self, shape: &Shape, hops: &[Hop]) -> Option<Route> {
        let alive: Vec<&Hop> = hops.iter().filter(|hop| !hop.dead).collect();
        if alive.is_empty() {
            return None;
        }
        if let Some(why) = self.not_carried(shape, hops) {
            return Some(Route {
                left: Some(why),
                ..left("")
            });
        }
        let mut nexthops = Vec::with_capacity(alive.len());
        for hop in alive {
            let Some(iface) = self.world.links.index(hop.oif) else {
                self.unknown.insert(hop.oif);
                return Some(left("its link is unknown"));
            };
            let gateway = hop
                .gateway
                .map_or(Gateway::Onlink, |(family, addr)| Gateway::Via(family, addr));
            nexthops.push(Nexthop { iface, gateway });
        }
        Some(Route {
            kind: RouteKind::Unicast,
            nexthops: nexthops.into(),
            mtu: shape.mtu,
            left: None,
        })
    }

    /// Why a unicast route is not carried, if so.
    fn not_carried(&self, shape: &Shape, hops: &[Hop]) -> Left {
        if let Some(hop) = hops.iter().find(|hop| hop.encap != 0) {
            return Some(format!("encapsulation ({})", encap_name(hop.encap)).into());
        }
        if shape.unknown != 0 {
            return Some(format!("attribute {} is unknown here", shape.unknown).into());
        }
        if shape.mtu_locked {
            return Some("locked MTU (PMTU exceptions apply)".into());
        }
        if self.policy.use_pmtu {
            return Some("ip_forward_use_pmtu (PMTU exceptions apply)".into());
        }
        // Such a router meant "on the link" if it was one when the route was made (nhc_scope), which cannot be seen.
        let is_own =
            |hop: &Hop| matches!(hop.gateway, Some((Family::V4, addr)) if self.world.addresses.is_or_was_own(addr));
        if hops.iter().any(is_own) {
            return Some("its router is or was an address of the box".into());
        }
        if hops.iter().any(|hop| self.policy.redirected.contains(&hop.oif)) {
            return Some("accept_redirects (the kernel may hold redirected nexthops)".into());
        }
        if self.policy.use_neigh && hops.len() > 1 {
            return Some("fib_multipath_use_neigh (the kernel's choice follows neighbour states)".into());
        }
        let has_router = hops.iter().any(|hop| hop.gateway.is_some());
        if self.policy.reachability && has_router {
            return Some("force_forwarding without conf/all/forwarding (the kernel prefers reachable routers)".into());
        }
        None
    }
}

/// Whether IPv6 takes `shape` into a multipath group with others of its metric (rt6_qualify_for_ecmp).
pub fn may_be_sibling(shape: &Shape) -> bool {
    let routed = shape.hops.iter().all(|hop| hop.gateway.is_some());
    shape.kind == libc::RTN_UNICAST && shape.nh_id == 0 && shape.protocol != RTPROT_RA && routed
}

/// LWTUNNEL_ENCAP_* in words.
fn encap_name(encap: u16) -> &'static str {
    const NAMES: [&str; 11] = [
        "unknown",
        "mpls",
        "ip",
        "ila",
        "ip6",
        "seg6",
        "bpf",
        "seg6local",
        "rpl",
        "ioam6",
        "xfrm",
    ];
    NAMES.get(usize::from(encap)).copied().unwrap_or("unknown")
}
