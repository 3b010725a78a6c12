//! The way out of a packet that is to be routed: routing, forward's look at the way out, neighbor, and where that leads to a bridge,
//! bridging as output.
//!
//! Walked once per destination and generation where nothing but the destination decides: an entry of a bridge that moves or
//! goes begins a generation, as any change of configuration does. A packet that is watched walks it all.

use super::bridged::Vlan;
use super::observer::{Mac, Observer, Stage};
use super::pipeline::Here;
use crate::packet::{Family, Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::stage::routing::{Flows, Way};
use crate::stage::{bridging, forward, neighbor, routing};
use crate::table::Snapshot;
use crate::table::bridge::Bridge;
use crate::table::destination::{Bridged, Destinations, Out};
use crate::table::fib::Gateway;
use crate::table::iface::IfaceIndex;
use crate::table::rules::live::BridgePoint;
use std::fmt;
use std::ops::ControlFlow::Continue;

/// The way out of an earlier packet to the same destination, where nothing but the destination decides.
#[inline]
pub(super) fn known<'a>(packet: &Parsed, here: &Here<'_>, destinations: &'a Destinations) -> Option<&'a Out> {
    let family = packet.family;
    if !here.by_destination[family as usize] {
        return None;
    }
    destinations.get(here.snapshot.generation, family, packet.dst)
}

/// routing, forward's look at the way out, and neighbor: walked once per destination and generation where nothing but the
/// destination decides. A packet that is watched walks them all. Also says whether the way is the same for every packet of
/// the connection.
#[inline(never)]
pub(super) fn way_out<O: Observer>(
    packet: &Parsed,
    bytes: &[u8],
    iif: IfaceIndex,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<(Out, bool)> {
    let (snapshot, family) = (here.snapshot, packet.family);
    if let Some(out) = known(packet, here, &flows.destinations)
        && !O::ON
    {
        flows.aside.routed_to = Some(out.iface);
        return Continue((*out, true));
    }
    let way = routing::route(packet, bytes, iif, snapshot, flows)?;
    flows.aside.routed_to = Some(way.nexthop.iface);
    seen.see(Stage::Routing, || {
        format!("prefix /{} {}", way.prefix_len, Show(&way, snapshot))
    });

    let egress = forward::egress(family, &way, snapshot)?;
    let mtu = forward::mtu(family, &way, egress);
    seen.see(Stage::Forward, || format!("out by {}, mtu {mtu}", egress.name));

    let to = neighbor::resolve(packet, &way, snapshot)?;
    seen.see(Stage::Neighbor, || format!("lladdr {}", Mac(&to)));

    let mut out = Out {
        iface: way.nexthop.iface,
        port: PortIndex::default(),
        mtu,
        from: egress.mac,
        to,
        tag: [0; 4],
        bridged: Bridged::No,
    };
    match (&egress.bridge, egress.port) {
        (Some(bridge), _) => by_bridge(&mut out, bridge, here, seen)?,
        (None, Some(port)) => out.port = port,
        (None, None) => return Verdict::punt(PuntReason::EgressNotPort),
    }
    if here.by_destination[family as usize] && way.only {
        flows.destinations.insert(snapshot.generation, family, packet.dst, out);
    }
    // Several nexthops: IPv6 hashes the flow label, which a connection may change.
    let constant = here.by_connection[family as usize] && (way.only || family == Family::V4);
    Continue((out, constant))
}

/// bridging, as output, where no chain of family bridge stands: the port of `bridge`, by which the packet leaves, behind which the next hop is.
fn by_bridge<O: Observer>(out: &mut Out, bridge: &Bridge, here: &Here<'_>, seen: &mut O) -> Step<()> {
    let bridged = &here.snapshot.rules.bridged;
    let has_chains = |point| !bridged.at(point).bases.is_empty();
    if has_chains(BridgePoint::Output) || has_chains(BridgePoint::Postrouting) {
        return Verdict::punt(PuntReason::Rule);
    }
    let found = bridging::output((out.iface, bridge), &out.to, here.snapshot)?;
    seen.see(Stage::Bridging, || {
        let dev = here.snapshot.iface(found.iface).map_or("?", |iface| &iface.name);
        format!("fdb {} dev {dev}{}", Mac(&out.to), Vlan(found.tag))
    });
    (out.port, out.tag) = (found.port, found.tag);
    out.mtu = out.mtu.min(found.mtu);
    Continue(())
}

/// A way out in the words of `ip route`.
struct Show<'a>(&'a Way, &'a Snapshot);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Show(way, snapshot) = self;
        if let Gateway::Via(family, addr) = way.nexthop.gateway {
            write!(f, "via {} ", family.show(addr))?;
        }
        match snapshot.iface(way.nexthop.iface) {
            Some(iface) => write!(f, "dev {}", iface.name),
            None => write!(f, "dev ?"),
        }
    }
}
