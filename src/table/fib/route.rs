//! A route as stages see it: what kind, which ways out, which limits. Equal routes are one object (mirror interns them), so
//! that a decision can name "the route it was made by" by its address.

use super::super::iface::{IfaceIndex, Left};
use crate::packet::{Addr, Family};

/// The kernel's route types (rtm_type), as far as they differ for a forwarded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Forward by a nexthop.
    Unicast,
    /// To the box itself (local, anycast).
    Local,
    /// Broadcast or multicast.
    Broadcast,
    /// Refused: blackhole, unreachable, prohibit.
    Refused,
    /// Go on with the next rule.
    Throw,
}

/// Who takes the packet on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gateway {
    /// The destination itself is on the link.
    Onlink,
    /// A router; for an IPv4 route it may have an IPv6 address (RFC 8950).
    Via(Family, Addr),
}

/// One way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexthop {
    /// The link.
    pub iface: IfaceIndex,
    /// Who takes the packet there.
    pub gateway: Gateway,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// What it does.
    pub kind: RouteKind,
    /// The ways out: none unless unicast; several mean that the kernel chooses per flow (see `table::oracle`).
    pub nexthops: Box<[Nexthop]>,
    /// The route's own MTU in bytes, 0 where the link's holds.
    pub mtu: u32,
    /// Not carried, and why: packets that reach it go to the kernel.
    pub left: Left,
}
