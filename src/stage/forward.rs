//! forward: may the packet leave that way? Hop limit, redirects, MTU, and what stands at the way out. As ip_forward
//! (net/ipv4/ip_forward.c) and ip6_forward (net/ipv6/ip6_output.c); RFC 1812 5.2.7, RFC 8200 3. Everything refused here is
//! punted: the kernel sends the ICMP error, fragments, or says nothing, as configured.

use super::prerouting::Aside;
use super::routing::Way;
use crate::packet::{Family, Frame, Parsed, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::destination::{Bridged, Out};
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

/// What skb's fields would tell a qdisc of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Its mark, which rules set.
    pub mark: u32,
    /// Its priority; `None` where no rule has set it: of what is routed by IPv4, its TOS decides.
    pub priority: Option<u32>,
}

impl Meta {
    /// Of a packet of which no rule says anything.
    pub const NONE: Self = Self {
        mark: 0,
        priority: None,
    };
}

/// Gives an IPv4 packet the priority that its TOS says, where ip_forward_update_priority has it so; one of IPv6 keeps what rules
/// have said.
#[inline]
pub fn prioritize(packet: &Parsed, aside: &mut Aside, snapshot: &Snapshot) {
    if let Some(priority) = by_tos(packet, snapshot) {
        (aside.priority, aside.priority_by_tos) = (priority, true);
    }
}

/// Has `frame` say to a qdisc what is known of it.
#[inline]
pub fn label(frame: &mut Frame, packet: &Parsed, bridged: Bridged, meta: &Meta, snapshot: &Snapshot) {
    let routed = || by_tos(packet, snapshot).filter(|_| bridged == Bridged::No).unwrap_or(0);
    frame.set_meta(meta.mark, meta.priority.unwrap_or_else(routed));
}

/// The priority of a packet that is routed, by its TOS (rt_tos2priority); none where that is not asked for.
#[inline]
fn by_tos(packet: &Parsed, snapshot: &Snapshot) -> Option<u32> {
    const BY_TOS: [u32; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
    let is_asked_for = packet.family == Family::V4 && snapshot.update_priority;
    is_asked_for.then(|| BY_TOS[usize::from(packet.tos >> 1 & 0x0f)])
}
