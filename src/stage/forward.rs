//! forward: may the packet leave that way? Hop limit, redirects, MTU, and what stands at the way out. As ip_forward
//! (net/ipv4/ip_forward.c) and ip6_forward (net/ipv6/ip6_output.c); RFC 1812 5.2.7, RFC 8200 3. Everything refused here is
//! punted: the kernel sends the ICMP error, fragments, or says nothing, as configured.

use super::routing::Way;
use crate::packet::{Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::iface::{Iface, IfaceIndex};
use std::ops::ControlFlow::Continue;

/// Checks `packet`, which came in by `iif`, against the way out; answers with the egress link and the port that it is.
#[inline]
pub fn check<'a>(
    packet: &Parsed,
    (iif, iface): (IfaceIndex, &Iface),
    way: &Way,
    snapshot: &'a Snapshot,
) -> Step<(&'a Iface, PortIndex)> {
    if packet.ttl <= 1 {
        return Verdict::punt(PuntReason::TtlExceeded);
    }
    let Some(egress) = snapshot.iface(way.nexthop.iface) else {
        return Verdict::punt(PuntReason::EgressNotPort);
    };
    let Some(port) = egress.port else {
        return Verdict::punt(PuntReason::EgressNotPort);
    };
    if egress.family(packet.family).left_egress.is_some() || !egress.up {
        return Verdict::punt(PuntReason::LeftEgress);
    }
    if way.nexthop.iface == iif && iface.family(packet.family).redirects {
        return Verdict::punt(PuntReason::Redirect);
    }
    let link_mtu = egress.mtu[packet.family as usize];
    let mtu = if way.mtu != 0 { way.mtu.min(link_mtu) } else { link_mtu };
    if u32::from(packet.l3_len()) > mtu {
        return Verdict::punt(PuntReason::MtuExceeded);
    }
    Continue((egress, port))
}
