//! The walk of a packet, as straight-line code: one box, one line. The picture below is [`WALK`]; docs/ARCHITECTURE.md shows
//! the same one, and a test compares them.
//!
//! A box answers with a step: `?` ends the walk in its verdict. With an [`Observer`] that is off, what it would see is not
//! even computed.

use crate::packet::{Family, Frame, Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::stage::routing::{Flows, Way};
use crate::stage::{forward, neighbor, routing, rx, tx};
use crate::table::Snapshot;
use crate::table::destination::Out;
use crate::table::fib::Gateway;
use crate::table::iface::{Iface, IfaceIndex};
use std::fmt;
use std::ops::ControlFlow::{Break, Continue};

/// The boxes of this version's walk, in order.
pub const WALK: &str = "\
NIC -> XDP steer --pass--> kernel (local, ARP/ND, group, not ours)
          | redirect into the AF_XDP ring of this (port, queue)
          v
  rx        parse once, complete partial checksums
          v
  routing   martians, rules, longest prefix, source validation, ECMP as the kernel chose
          v
  forward   hop limit, redirects, MTU, what stands at the way out
          v
  neighbor  the next hop's Ethernet address
          v
  tx        rewrite, egress port's ring -> NIC

  any box --punt (reason)--> bypath0 -> kernel, as if just arrived";

/// A box of the walk: its word in traces, counters and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// stage/rx.rs
    Rx,
    /// stage/routing.rs
    Routing,
    /// stage/forward.rs
    Forward,
    /// stage/neighbor.rs
    Neighbor,
    /// stage/tx.rs
    Tx,
}

impl Stage {
    /// Every box, in order.
    pub const ALL: [Stage; 5] = [Stage::Rx, Stage::Routing, Stage::Forward, Stage::Neighbor, Stage::Tx];

    /// Its one word.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Rx => "rx",
            Stage::Routing => "routing",
            Stage::Forward => "forward",
            Stage::Neighbor => "neighbor",
            Stage::Tx => "tx",
        }
    }
}

/// Who watches a packet's walk.
pub trait Observer {
    /// Whether anybody watches.
    const ON: bool;

    /// The packet passed `stage`, and this is what happened there.
    fn see(&mut self, stage: Stage, what: impl FnOnce() -> String);
}

/// Nobody watches: costs nothing.
pub struct Unobserved;

impl Observer for Unobserved {
    const ON: bool = false;

    #[inline(always)]
    fn see(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

/// Where a burst arrived, looked up once for all of it.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// The port of arrival.
    pub port: PortIndex,
    /// The configuration that the burst walks by.
    pub snapshot: &'a Snapshot,
    /// The link that the port is, unless it just went away.
    pub link: Option<(IfaceIndex, &'a Iface)>,
    /// Whether routing looks at nothing but the destination, by family.
    pub by_destination: [bool; 2],
}

impl<'a> Here<'a> {
    /// `port` as it is in `snapshot`.
    pub fn new(port: PortIndex, snapshot: &'a Snapshot) -> Self {
        Self {
            port,
            snapshot,
            link: snapshot.port(port),
            by_destination: Family::ALL.map(|family| snapshot.fib(family).is_by_destination()),
        }
    }
}

/// Walks one frame of a burst to its verdict. Only a frame that will be forwarded is rewritten.
#[inline]
pub fn walk<O: Observer>(frame: &mut Frame, here: &Here<'_>, flows: &mut Flows, seen: &mut O) -> Verdict {
    match boxes(frame, here, flows, seen) {
        Continue(egress) => Verdict::Forward(egress),
        Break(verdict) => verdict,
    }
}

#[inline]
fn boxes<O: Observer>(frame: &mut Frame, here: &Here<'_>, flows: &mut Flows, seen: &mut O) -> Step<PortIndex> {
    let Here {
        port, snapshot, link, ..
    } = *here;
    let Some((iif, iface)) = link else {
        return Verdict::punt(PuntReason::LeftIngress);
    };

    let packet = rx::parse(frame, port, &iface.mac)?;
    let completed = rx::complete_checksum(frame, &packet);
    seen.see(Stage::Rx, || {
        let note = if completed { ", partial checksum completed" } else { "" };
        format!("in by {}, {packet}{note}", iface.name)
    });

    routing::admit(&packet, iface)?;
    let leave = |frame: &mut Frame, out: &Out, seen: &mut O| {
        routing::validate(&packet, (iif, iface), out.iface, snapshot)?;
        forward::check(&packet, (iif, iface), out)?;
        tx::rewrite(frame, &packet, out);
        seen.see(Stage::Tx, || {
            let (from, to) = (Mac(&out.from), Mac(&out.to));
            format!("{from} > {to}, ttl {} -> {}", packet.ttl, packet.ttl - 1)
        });
        Continue(out.port)
    };
    // What is known is read where it lies: a copy would be waited for.
    match known(&packet, here, flows) {
        Some(out) if !O::ON => leave(frame, out, seen),
        _ => {
            let out = way_out(&packet, frame.bytes(), iif, here, flows, seen)?;
            leave(frame, &out, seen)
        }
    }
}

/// The way out of an earlier packet to the same destination, where nothing but the destination decides.
#[inline]
fn known<'a>(packet: &Parsed, here: &Here<'_>, flows: &'a Flows) -> Option<&'a Out> {
    let family = packet.family;
    if !here.by_destination[family as usize] {
        return None;
    }
    flows.destinations.get(here.snapshot.generation, family, packet.dst)
}

/// routing, forward's look at the way out, and neighbor: walked once per destination and generation where nothing but the
/// destination decides. A packet that is watched walks them all.
#[inline(never)]
fn way_out<O: Observer>(
    packet: &Parsed,
    bytes: &[u8],
    iif: IfaceIndex,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Out> {
    let (snapshot, family) = (here.snapshot, packet.family);
    let way = routing::route(packet, bytes, iif, snapshot, flows)?;
    seen.see(Stage::Routing, || {
        format!("prefix /{} {}", way.prefix_len, Show(&way, snapshot))
    });

    let (egress, port) = forward::egress(family, &way, snapshot)?;
    let mtu = forward::mtu(family, &way, egress);
    seen.see(Stage::Forward, || format!("out by {}, mtu {mtu}", egress.name));

    let to = neighbor::resolve(packet, &way, snapshot)?;
    seen.see(Stage::Neighbor, || format!("lladdr {}", Mac(&to)));

    let out = Out {
        iface: way.nexthop.iface,
        port,
        mtu,
        from: egress.mac,
        to,
    };
    if here.by_destination[family as usize] && way.only {
        flows.destinations.insert(snapshot.generation, family, packet.dst, out);
    }
    Continue(out)
}

/// The walk of `bypath wire`: a frame leaves by the peer of the port it came in on, untouched but for completing a partial
/// checksum.
#[inline]
pub fn wire(frame: &mut Frame, port: PortIndex, peer: PortIndex) -> Verdict {
    if let Continue(packet) = rx::parse_any(frame, port) {
        rx::complete_checksum(frame, &packet);
    }
    Verdict::Forward(peer)
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

/// An Ethernet address in the usual form.
pub struct Mac<'a>(pub &'a [u8; 6]);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
