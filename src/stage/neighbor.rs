//! neighbor: who takes the packet on the link? An unresolved neighbour is the kernel's business: it queues the punted packet,
//! resolves, and sends; the next packet finds the entry here. (RFC 826, RFC 4861; net/core/neighbour.c.)

use super::routing::Way;
use crate::packet::{Parsed, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::fib::Gateway;
use std::ops::ControlFlow::Continue;

/// The Ethernet address of the next hop.
#[inline]
pub fn resolve(packet: &Parsed, way: &Way, snapshot: &Snapshot) -> Step<[u8; 6]> {
    let (family, addr) = match way.nexthop.gateway {
        Gateway::Onlink => (packet.family, packet.dst),
        Gateway::Via(family, addr) => (family, addr),
    };
    match snapshot.neighbors.resolve(way.nexthop.iface, family, addr) {
        Some(&mac) => Continue(mac),
        None => Verdict::punt(PuntReason::NeighborUnresolved),
    }
}
