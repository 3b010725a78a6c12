//! The walk of a packet, as straight-line code: one box, one line. The picture below is [`WALK`]; docs/ARCHITECTURE.md shows
//! the same one, and a test compares them.
//!
//! A box answers with a step: `?` ends the walk in its verdict. With an [`Observer`] that is off, what it would see is not
//! even computed.

use super::bridge_hooks::{self, Hooked};
use super::bridged::bridged;
pub use super::here::Here;
use super::hooks::{self, AtHooks};
pub use super::observer::{Mac, Observer, Stage, Unobserved};
use super::way_out::{known, way_out};
use crate::packet::{DropReason, Frame, Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::stage::bridge_check::Head;
use crate::stage::flow::Way;
use crate::stage::forward::Meta;
use crate::stage::postrouting::{self, Confirmed};
use crate::stage::prerouting::{self, Tracked, Tracking, leaving, reset};
use crate::stage::routing::Flows;
use crate::stage::{bridging, flow, forward, routing, rx, tx};
use crate::table::conntrack::Status;
use crate::table::conntrack::table::Probe;
use crate::table::destination::{Bridged, Out};
use crate::table::iface::{Iface, IfaceIndex};
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

/// The boxes of this version's walk, in order.
pub const WALK: &str = "\
NIC -> XDP steer --pass--> kernel (local, ARP/ND, group, not ours)
          | redirect into the AF_XDP ring of this (port, queue)
          v
  ingress      has the port policers at its ingress? tokens, or dropped
          v
  rx           parse once, complete partial checksums
          v
  bridge_check a port of a bridge? its VLAN, is its sender known here?        -- none of a bridge --> flow
          v
  bridging     behind another port of the bridge? -> tx      to the bridge itself? then it arrived by that
          v
  flow         in the middle of a connection, its way decided? -> tx      (the cached walk)
          v
  prerouting   chains before tracking
               the connection: lookup, state machine; a new one stays with its packet; way decided? -> tx
               chains, destination NAT
          v
  routing      martians, rules, longest prefix, source validation, ECMP as the kernel chose
          v
  forward      hop limit, redirects, MTU, what stands at the way out, filter chains
          v
  neighbor     the next hop's Ethernet address; by a bridge: once more bridging, as output
          v
  postrouting  chains, source NAT; a new connection that survived enters the table
          v
  tx           rewrite
          v
  shape        has the way out a qdisc that limits? classes, queues, tokens; then the egress port's ring -> NIC

  any box --punt (reason)--> its connection exported --> bypath0 -> kernel, as if just arrived";

/// Walks one frame of a burst to its verdict. Only a frame that will be forwarded is rewritten.
#[inline]
pub fn walk<O: Observer>(frame: &mut Frame, here: &Here<'_>, flows: &mut Flows, seen: &mut O) -> Verdict {
    verdict(boxes(frame, here, flows, seen))
}

#[inline]
pub(super) fn verdict(step: Step<PortIndex>) -> Verdict {
    match step {
        Continue(egress) => Verdict::Forward(egress),
        Break(verdict) => verdict,
    }
}

#[inline]
fn boxes<O: Observer>(frame: &mut Frame, here: &Here<'_>, flows: &mut Flows, seen: &mut O) -> Step<PortIndex> {
    if let Some(member) = &here.member {
        if !member.is_plain {
            return bridge_hooks::walk(frame, None, member, here, flows, seen);
        }
        if let Break(verdict) = bridged(frame, member, here, seen) {
            return Break(bridge_hooks::left(frame, verdict, here, flows));
        }
    }
    let (packet, link) = arrive(frame, here, seen)?;
    ip(frame, &packet, link, here, flows, seen)
}

/// From flow on.
#[inline]
pub(super) fn ip<O: Observer>(
    frame: &mut Frame,
    packet: &Parsed,
    link: (IfaceIndex, &Iface),
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    match here.tracking(packet.family) {
        None => untracked(frame, packet, link, here, flows, seen),
        Some(tracking) => {
            let probe = prerouting::probe(packet, frame.bytes(), tracking.table);
            tracked(frame, packet, probe.as_ref(), here, flows, seen)
        }
    }
}

/// rx, on a port that is not left.
#[inline(always)]
pub(super) fn arrive<'a, O: Observer>(
    frame: &mut Frame,
    here: &Here<'a>,
    seen: &mut O,
) -> Step<(Parsed, (IfaceIndex, &'a Iface))> {
    let Some((_, iface)) = here.link else {
        return Verdict::punt(PuntReason::LeftIngress);
    };
    arrive_at(&iface.mac, frame, here, seen)
}

/// The same, for a frame that is to bear this address.
#[inline(always)]
pub(super) fn arrive_at<'a, O: Observer>(
    mac: &crate::wire::Mac,
    frame: &mut Frame,
    here: &Here<'a>,
    seen: &mut O,
) -> Step<(Parsed, (IfaceIndex, &'a Iface))> {
    let Some((iif, iface)) = here.link else {
        return Verdict::punt(PuntReason::LeftIngress);
    };
    let packet = rx::parse(frame, here.port, mac)?;
    let completed = rx::complete_checksum(frame, &packet);
    seen.see(Stage::Rx, || {
        let note = if completed { ", partial checksum completed" } else { "" };
        let by = here.hooked(packet.family).map_or(iface, |member| member.link.1);
        format!("in by {}, {packet}{note}", by.name)
    });
    Continue((packet, (iif, iface)))
}

/// The walk of a family that is not tracked.
#[inline]
pub(super) fn untracked<O: Observer>(
    frame: &mut Frame,
    packet: &Parsed,
    (iif, iface): (IfaceIndex, &Iface),
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    if here.hooked(packet.family).is_some() || !here.snapshot.rules.sum(packet.family).is_nothing {
        return by_rules(frame, *packet, here, flows, seen);
    }
    routing::admit(packet, iface)?;
    // What is known is read where it lies: a copy would be waited for.
    match known(packet, here, &flows.destinations) {
        Some(out) if !O::ON => {
            may_leave(packet, (iif, iface), out, here)?;
            transmit(frame, packet, (out, &Meta::NONE), here, seen)
        }
        _ => {
            let (out, _) = way_out(packet, frame.bytes(), iif, here, flows, seen)?;
            may_leave(packet, (iif, iface), &out, here)?;
            transmit(frame, packet, (&out, &Meta::NONE), here, seen)
        }
    }
}

/// The walk of a family that is not tracked, but has rules.
fn by_rules<'a, O: Observer>(
    frame: &mut Frame,
    mut packet: Parsed,
    here: &Here<'a>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    let rules = &here.snapshot.rules;
    if rules.sum(packet.family).rewrites {
        flows.aside.saved.save(frame);
    }
    flows.meet_rules();
    let step = match hooks::raw(frame, &mut packet, here, flows, seen) {
        Continue(()) => through_hooks(frame, &mut packet, None, here, flows, seen),
        Break(verdict) => Break(verdict),
    };
    match step {
        Continue((out, _)) => {
            flows.aside.saved.forget();
            let meta = flows.aside.meta();
            transmit(frame, &packet, (&out, &meta), here, seen)
        }
        Break(verdict) => {
            flows.aside.saved.restore(frame);
            if let Verdict::Punt(reason) = verdict {
                hooks::give_back(reason, false, &mut flows.changes, here);
            }
            Break(verdict)
        }
    }
}

/// How often a packet walks whose tuples another worker is just taking, until it has: at once, after letting others run, after
/// a pause. It is some 20 ms in all, for that worker may be off its CPU, or wait for the memory of a new table.
const WALKS_AT_ONCE: u32 = 64;
const WALKS_YIELDING: u32 = 256;
const WALKS_MAX: u32 = 400;
const PAUSE: Duration = Duration::from_micros(100);

/// The walk of a family that is tracked. A packet whose tuples another worker took meanwhile comes second: it walks again.
pub(super) fn tracked<O: Observer>(
    frame: &mut Frame,
    packet: &Parsed,
    probe: Option<&Probe>,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    let (Some(tracking), Some((_, iface))) = (here.tracking.as_ref(), here.link) else {
        return Verdict::punt(PuntReason::LeftIngress);
    };
    if iface.family(packet.family).left.is_some() {
        return Verdict::punt(PuntReason::LeftIngress);
    }
    let rules = &here.snapshot.rules;
    let may_punt = leaving::is_by_header(packet) || rules.sum(packet.family).punts;
    if may_punt {
        leaving::look_before(probe, tracking, &mut flows.aside);
    }
    let rewrites = rules.sum(packet.family).rewrites;
    for walk in 0..WALKS_MAX {
        if !may_punt {
            flows.aside.before = None;
        }
        if rewrites {
            flows.aside.saved.save(frame);
        }
        let mut walked = *packet;
        let tracked = match hooks::track(frame, &mut walked, probe, tracking, here, flows, seen) {
            Continue(tracked) => tracked,
            Break(verdict) => {
                flows.aside.saved.restore(frame);
                if let Verdict::Punt(reason) = verdict {
                    hooks::give_back(reason, false, &mut flows.changes, here);
                }
                return Break(verdict);
            }
        };
        seen.see(Stage::Prerouting, || format!("ct state {}", tracked.state.word()));
        let step = decided(frame, walked, &tracked, tracking, here, flows, seen);
        if rewrites && !matches!(step, Continue(Some(_))) {
            flows.aside.saved.restore(frame);
        }
        match step {
            Continue(Some(egress)) => {
                flows.aside.saved.forget();
                prerouting::end(&tracked, tracking);
                return Continue(egress);
            }
            // The other one is about to be found.
            Continue(None) => match walk {
                ..WALKS_AT_ONCE => std::hint::spin_loop(),
                WALKS_AT_ONCE..WALKS_YIELDING => std::thread::yield_now(),
                _ => std::thread::sleep(PAUSE),
            },
            Break(verdict) => {
                match verdict {
                    Verdict::Punt(reason) => {
                        let begins = matches!(tracked.of, prerouting::Of::Unconfirmed);
                        let is_led = begins && flows.aside.begun.status.any(Status::DST_NAT);
                        hooks::give_back(reason, is_led, &mut flows.changes, here);
                        let aside = &mut flows.aside;
                        leaving::leave(reason, packet, frame.bytes(), probe, &tracked, tracking, aside);
                        reset::note_reset(packet, frame.bytes(), &tracked, rules.sum(packet.family).resets);
                    }
                    _ => {
                        // The kernel does not see it: from now on its connection is ours.
                        prerouting::adopt(&tracked);
                        if rules.sum(packet.family).ct_marks {
                            prerouting::keep_mark(&tracked, flows.aside.ct_mark, tracking);
                        }
                        prerouting::end(&tracked, tracking);
                    }
                }
                return Break(verdict);
            }
        }
    }
    Verdict::drop(DropReason::ConntrackBusy)
}

/// From flow on. Everything that may end in a punt comes before the connection is confirmed, so that nothing is committed
/// that the kernel would have to be told of; `None` where another worker was first to commit. `packet` is as it is translated.
#[inline(always)]
fn decided<'a, O: Observer>(
    frame: &mut Frame,
    mut packet: Parsed,
    tracked: &Tracked<'a>,
    tracking: &Tracking<'a>,
    here: &Here<'a>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Option<PortIndex>> {
    let Some((iif, iface)) = here.link else {
        return Verdict::punt(PuntReason::LeftIngress);
    };
    let (generation, rules, family) = (here.snapshot.generation, &here.snapshot.rules, packet.family);
    let hooked = here.hooked(family);
    let bytes = frame.bytes();
    let comes_by = |way: &Way| match hooked {
        None => way.iif == iif,
        Some(member) => bridge_hooks::comes_by(way, bytes, member),
    };
    if let Some(way) = flow::current(&packet, bytes, tracked, comes_by, generation, &flows.ways) {
        if !O::ON {
            if rules.nat[family as usize] {
                hooks::translate(frame, &packet, tracked)?;
            }
            prerouting::adopt(tracked);
            // What the trail has, too.
            flows.changes.take_back(&rules.state);
            way.trail.count(&rules.state, packet.l3_len().into());
            return Continue(Some(transmit(frame, &packet, (&way.out, &way.meta), here, seen)?));
        }
        seen.see(Stage::Flow, || format!("decided in generation {generation}"));
    }
    let (out, constant) = if rules.sum(family).is_nothing && hooked.is_none() {
        routing::admit(&packet, iface)?;
        let (out, constant) = way_out(&packet, frame.bytes(), iif, here, flows, seen)?;
        may_leave(&packet, (iif, iface), &out, here)?;
        forward::prioritize(&packet, &mut flows.aside, here.snapshot);
        (out, constant)
    } else {
        through_hooks(frame, &mut packet, Some((tracked, tracking)), here, flows, seen)?
    };
    if postrouting::confirm(tracked, &flows.aside.begun, tracking)? == Confirmed::Clash {
        // It comes by again.
        flows.changes.take_back(&rules.state);
        return Continue(None);
    }
    if matches!(tracked.of, prerouting::Of::Unconfirmed) {
        seen.see(Stage::Postrouting, || "connection confirmed".into());
    }
    prerouting::adopt(tracked);
    let marks = rules.sum(family).ct_marks;
    let remarked = marks && prerouting::keep_mark(tracked, flows.aside.ct_mark, tracking);
    if constant && !remarked && hooks::may_keep(&packet, frame.bytes(), tracked, rules) {
        let mark = marks.then_some(flows.aside.ct_mark.found);
        let iif = match (out.bridged, hooked) {
            (Bridged::Same | Bridged::Redirected, Some(member)) => member.link.0,
            _ => iif,
        };
        let meta = match here.labels {
            true => flows.aside.meta_of_others(),
            false => Meta::NONE,
        };
        let Flows { changes, ways, .. } = flows;
        flow::keep(tracked, (iif, &out), changes, (mark, meta), generation, ways);
    }
    let meta = flows.aside.meta();
    Continue(Some(transmit(frame, &packet, (&out, &meta), here, seen)?))
}

/// prerouting's chains and destination NAT, routing, forward, neighbor, postrouting's chains and source NAT. Out of line: it
/// is large, and most packets of a connection do not come here.
///
/// What leaves by another link than it is masqueraded for is over, also where the kernel would have the packet: that link
/// may be no port, or have no neighbour yet, and the kernel's copy does not say for which link it is. A spent hop limit
/// ends before that.
#[inline(never)]
fn through_hooks<'a, O: Observer>(
    frame: &mut Frame,
    packet: &mut Parsed,
    tracked: Option<(&Tracked<'a>, &Tracking<'a>)>,
    here: &Here<'a>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<(Out, bool)> {
    flows.aside.routed_to = None;
    let step = by_hooks(frame, packet, tracked, here, flows, seen);
    if let (Break(Verdict::Punt(reason)), Some(of)) = (&step, tracked)
        && *reason != PuntReason::TtlExceeded
        && let Some(oif) = flows.aside.routed_to
    {
        hooks::still_masquerades(packet, of, oif, here)?;
    }
    step
}

#[inline(always)]
fn by_hooks<'a, O: Observer>(
    frame: &mut Frame,
    packet: &mut Parsed,
    tracked: Option<(&Tracked<'a>, &Tracking<'a>)>,
    here: &Here<'a>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<(Out, bool)> {
    let Some((iif, iface)) = here.link else {
        return Verdict::punt(PuntReason::LeftIngress);
    };
    if let Some((tracked, _)) = tracked {
        flows.aside.with_connection(tracked);
    }
    let (before, ports) = (packet.dst, here.ports(packet.family));
    let mut at = AtHooks {
        frame,
        packet,
        tracked,
        iif: (iif, iface),
        oif: None,
        ports,
        aside: &mut flows.aside,
        changes: &mut flows.changes,
    };
    at.prerouting(here, seen)?;
    if let Some(member) = here.hooked(packet.family) {
        let mut hooked = Hooked {
            frame,
            packet,
            tracked,
            member,
            here,
        };
        if let Some(way) = bridge_hooks::behind_prerouting(&mut hooked, before, flows, seen)? {
            return Continue(way);
        }
    }
    routing::admit(packet, iface)?;
    if flows.aside.mark != 0 && here.snapshot.rules_by_mark[packet.family as usize] {
        return Verdict::punt(PuntReason::RouteNotCarried);
    }
    let (out, constant) = way_out(packet, frame.bytes(), iif, here, flows, seen)?;
    may_leave(packet, (iif, iface), &out, here)?;
    let Some(oif) = here.snapshot.iface(out.iface) else {
        return Verdict::punt(PuntReason::EgressNotPort);
    };
    forward::prioritize(packet, &mut flows.aside, here.snapshot);
    let mut at = AtHooks {
        frame,
        packet,
        tracked,
        iif: (iif, iface),
        oif: Some((out.iface, oif, out.mtu)),
        ports,
        aside: &mut flows.aside,
        changes: &mut flows.changes,
    };
    at.forward(here, seen)?;
    at.postrouting(here, seen)?;
    // Chains of family bridge have a say about each frame.
    let is_asked = here.hooked(packet.family).is_some() && !here.snapshot.rules.bridged.is_nothing();
    Continue((out, constant && !is_asked))
}

/// Whether the packet may take its way out: source validation, and forward's checks.
#[inline]
fn may_leave(packet: &Parsed, (iif, iface): (IfaceIndex, &Iface), out: &Out, here: &Here<'_>) -> Step<()> {
    routing::validate(packet, (iif, iface), out.iface, here.snapshot)?;
    if out.iface == iif && here.is_hooked(packet.family) {
        return Verdict::punt(PuntReason::BridgeNetfilter);
    }
    forward::check(packet, (iif, iface), out)
}

/// tx.
#[inline(always)]
pub(super) fn transmit<O: Observer>(
    frame: &mut Frame,
    packet: &Parsed,
    (out, meta): (&Out, &Meta),
    here: &Here<'_>,
    seen: &mut O,
) -> Step<PortIndex> {
    tx::rewrite(frame, packet, out);
    if here.labels {
        forward::label(frame, packet, out.bridged, meta, here.snapshot);
    }
    seen.see(Stage::Tx, || {
        let (from, to) = (Mac(&out.from), Mac(&out.to));
        let ttl = packet.ttl - u8::from(out.bridged == Bridged::No);
        format!("{from} > {to}, ttl {} -> {ttl}", packet.ttl)
    });
    Continue(out.port)
}

/// The walk of `bypath wire`: a frame leaves by the peer of the port it came in on, untouched but for completing a partial
/// checksum, behind VLAN tags too.
#[inline]
pub fn wire(frame: &mut Frame, peer: PortIndex) -> Verdict {
    if let Continue(head) = Head::of(frame.bytes()) {
        bridging::complete_checksum(frame, &head);
    }
    Verdict::Forward(peer)
}
