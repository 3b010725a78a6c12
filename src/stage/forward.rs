//! forward: may the packet leave that way? Hop limit, redirects, MTU, and what stands at the way out. As ip_forward
//! (net/ipv4/ip_forward.c) and ip6_forward (net/ipv6/ip6_output.c); RFC 1812 5.2.7, RFC 8200 3. Everything refused here is
//! punted: the kernel sends the ICMP error, fragments, or says nothing, as configured.

use super::prerouting::Aside;
use super::routing::Way;
use crate::packet::{Family, Parsed, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::destination::Out;
use crate::table::iface::{Iface, IfaceIndex};
use std::ops::ControlFlow::Continue;

/// The egress link, a port or a bridge, if packets of `family` may leave there.
#[inline]
pub fn egress<'a>(family: Family, way: &Way, snapshot: &'a Snapshot) -> Step<&'a Iface> {
    let is_way_out = |egress: &&Iface| egress.port.is_some() || egress.bridge.is_some();
    let Some(egress) = snapshot.iface(way.nexthop.iface).filter(is_way_out) else {
        return Verdict::punt(PuntReason::EgressNotPort);
    };
    if egress.family(family).left_egress.is_some() || !egress.up {
        return Verdict::punt(PuntReason::LeftEgress);
    }
    Continue(egress)
}

/// The longest packet that fits: the link's MTU, or the route's where it is lower.
#[inline]
pub fn mtu(family: Family, way: &Way, egress: &Iface) -> u32 {
    let link = egress.mtu[family as usize];
    if way.mtu != 0 { way.mtu.min(link) } else { link }
}

/// Checks `packet`, which came in by `iif`, against its way out.
#[inline]
pub fn check(packet: &Parsed, (iif, iface): (IfaceIndex, &Iface), out: &Out) -> Step<()> {
    if packet.ttl <= 1 {
        return Verdict::punt(PuntReason::TtlExceeded);
    }
    if out.iface == iif && iface.family(packet.family).redirects {
        return Verdict::punt(PuntReason::Redirect);
    }
    if u32::from(packet.l3_len()) > out.mtu {
        return Verdict::punt(PuntReason::MtuExceeded);
    }
    Continue(())
}

/// Gives an IPv4 packet the priority that its TOS says (rt_tos2priority); one of IPv6 keeps what rules have said. It is for
/// rules alone: qdiscs that look at it are not carried.
#[inline]
pub fn prioritize(packet: &Parsed, aside: &mut Aside) {
    const BY_TOS: [u32; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
    if packet.family == Family::V4 {
        aside.priority = BY_TOS[usize::from(packet.tos >> 1 & 0x0f)];
    }
}
