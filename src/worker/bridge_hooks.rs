//! The hooks at a bridge as steps of the walk: chains of family bridge, and those of IP where br_netfilter has them.
//!
//! ```text
//!  plain   chains of family bridge alone
//!  hooked  an untagged packet of IP on a bridge with bridge-nf-call-*:
//!          Prerouting | tracking, IP's prerouting | the destination is another one now, and routed out by the same bridge?
//!            then its MAC is the next hop's; by another link? then it is the bridge's | BehindPrerouting -> FDB
//!              -> Input -> up: it is routed, past prerouting
//!              \-> Forward | IP's forward, from the bridge to the bridge | BehindForward
//!                  Postrouting | IP's postrouting, to the bridge -> tx: neither hop limit nor source MAC is touched
//! ```
//!
//! A plain frame (bridge_chains.rs) that goes up meets IP's rules anew, and what it changed in counters here is taken back should it
//! turn out to be the kernel's there. One that is hooked walks as a routed packet does, with these hooks in between
//! (pipeline.rs, hooks.rs): so its connection is exported before any punt, and its way is kept, for frames from its port and with
//! its addresses.
//!
//! As br_nf_pre_routing_finish, br_nf_pre_routing_finish_bridge, br_nf_forward and br_nf_post_routing of
//! net/bridge/br_netfilter_hooks.c. Where forwarding is off, or the packet is to be cut into fragments, it is the kernel's.

use super::bridge_chains::{AtPorts, plain};
use super::bridged::bridged;
use super::hooks::{self, AtHooks};
use super::observer::{Mac, Observer, Stage, Unobserved};
use super::pipeline::{Here, arrive_at, ip, tracked, transmit, untracked};
use crate::packet::{Family, Flags, Frame, Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::stage::bridge_check::{self, Head, Hooks, Member};
use crate::stage::bridging::{self, Exit, To};
use crate::stage::flow::{self, Way};
use crate::stage::neighbor;
use crate::stage::prerouting::{self, Tracked, Tracking, leaving};
use crate::stage::routing::{self, Flows};
use crate::stage::rules::Ports;
use crate::table::conntrack::table::Probe;
use crate::table::conntrack::ticks;
use crate::table::destination::{Bridged, Out};
use crate::table::iface::{Iface, IfaceIndex};
use crate::table::rules::live::BridgePoint;
use crate::wire::Mac as Address;
use std::ops::ControlFlow::{Break, Continue};

/// The walk of a frame that came in by a port of a bridge at which something stands. `ahead` is what was found out about it
/// as a packet of IP.
#[inline(never)]
pub(super) fn walk<O: Observer>(
    frame: &mut Frame,
    ahead: Option<(&Parsed, Option<&Probe>)>,
    member: &Member<'_>,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    let head = Head::of(frame.bytes())?;
    let rules = &here.snapshot.rules;
    if bridge_check::hooks(&head, member) == Hooks::Ip {
        if here.tracking.is_none() && here.snapshot.conntrack.tracked != [false; 2] {
            // Its connection may be one that is not at hand.
            return Verdict::punt(PuntReason::BridgeNetfilter);
        }
        let Some((packet, probe)) = ahead else {
            let (packet, link) = arrive_at(&head.dst, frame, here, seen)?;
            return ip(frame, &packet, link, here, flows, seen);
        };
        return hooked(frame, (packet, probe), (&head, member), here, flows, seen);
    }
    if rules.bridged.is_nothing() {
        if let Break(verdict) = bridged(frame, member, here, seen) {
            return Break(left(frame, verdict, here, flows));
        }
        let (packet, link) = arrive_at(&member.up.1.mac, frame, here, seen)?;
        return ip(frame, &packet, link, here, flows, seen);
    }
    flows.meet_rules();
    let step = plain(frame, &head, member, here, flows, seen);
    flows.frame_changes.keep();
    std::mem::swap(&mut flows.frame_changes, &mut flows.changes);
    let step = match step {
        Continue(Some(port)) => return Continue(port),
        Continue(None) => match arrive_at(&member.up.1.mac, frame, here, seen) {
            Continue((packet, link)) => ip(frame, &packet, link, here, flows, seen),
            Break(verdict) => Break(verdict),
        },
        Break(verdict) => Break(left(frame, verdict, here, flows)),
    };
    if let Break(Verdict::Punt(reason)) = step {
        hooks::give_back(reason, false, &mut flows.frame_changes, here);
    }
    step
}

/// rx of a frame that the hooks of IP may see, whomever it is for.
#[inline]
pub(super) fn arrive<'a>(frame: &mut Frame, here: &Here<'a>) -> Step<(Parsed, (IfaceIndex, &'a Iface))> {
    match frame.bytes().first_chunk().copied() {
        Some(mac) => arrive_at(&mac, frame, here, &mut Unobserved),
        None => Verdict::punt(PuntReason::Malformed),
    }
}

/// The walk of a packet that the hooks of IP see. In the middle of a connection whose way is decided it is short.
fn hooked<O: Observer>(
    frame: &mut Frame,
    (packet, probe): (&Parsed, Option<&Probe>),
    (head, member): (&Head, &Member<'_>),
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    let Some(tracking) = here.tracking(packet.family) else {
        return untracked(frame, packet, member.up, here, flows, seen);
    };
    // Who is not known here makes the packet the kernel's: it has to leave with its connection.
    let is_known = || bridge_check::check(head, member, ticks(here.now_ns)).is_continue();
    let is_short = member.up.1.family(packet.family).left.is_none() && here.snapshot.rules.bridged.is_nothing();
    if is_short
        && !O::ON
        && let Some(probe) = probe
        && is_known()
    {
        let (dst, src) = (head.dst, head.src);
        let comes_by = |way: &Way| is_of(way, (&dst, &src), member);
        if let Some(way) = flow::cached(packet, frame, probe, comes_by, here.snapshot, tracking, &flows.ways) {
            way.trail.count(&here.snapshot.rules.state, packet.l3_len().into());
            return transmit(frame, packet, (&way.out, &way.meta), here, seen);
        }
    }
    tracked(frame, packet, probe, here, flows, seen)
}

/// Whether a way is for the packet in a frame that came in by `member`.
#[inline]
pub(super) fn comes_by(way: &Way, bytes: &[u8], member: &Member<'_>) -> bool {
    match Head::of(bytes) {
        Continue(head) => is_of(way, (&head.dst, &head.src), member),
        Break(_) => false,
    }
}

/// What is routed bears the bridge's address, what is bridged that of the station, or any if it is to be translated to another.
#[inline]
fn is_of(way: &Way, (dst, src): (&Address, &Address), member: &Member<'_>) -> bool {
    let Way { iif, out, .. } = way;
    match out.bridged {
        Bridged::No => *iif == member.up.0 && *dst == member.up.1.mac,
        Bridged::Same => *iif == member.link.0 && *dst == out.to && *src == out.from,
        Bridged::Redirected => *iif == member.link.0 && *src == out.from,
    }
}

/// A frame ends at the bridge. If it ends in a punt and would have gone up, its connection may be one that the kernel does not
/// know: then it is exported.
pub(super) fn left(frame: &mut Frame, verdict: Verdict, here: &Here<'_>, flows: &mut Flows) -> Verdict {
    if let (Verdict::Punt(reason), Some(_)) = (verdict, &here.tracking) {
        export(frame, reason, here, flows);
    }
    verdict
}

#[cold]
fn export(frame: &mut Frame, reason: PuntReason, here: &Here<'_>, flows: &mut Flows) {
    let Some((_, up)) = here.link else { return };
    // What bears the address of the port itself goes up, too: the bridge had it before a port with a lower one joined.
    let own = here.member.as_ref().map(|member| member.link.1.mac);
    let mac = match own {
        Some(own) if reason == PuntReason::BridgeLocal && frame.bytes().starts_with(&own) => own,
        _ => up.mac,
    };
    let Continue((packet, (_, up))) = arrive_at(&mac, frame, here, &mut Unobserved) else {
        return;
    };
    let Some(tracking) = here.tracking(packet.family) else {
        return;
    };
    if up.family(packet.family).left.is_some() {
        return;
    }
    let probe = prerouting::probe(&packet, frame.bytes(), tracking.table);
    let mut walked = packet;
    flows.aside.saved.save(frame);
    let tracked = hooks::track(
        frame,
        &mut walked,
        probe.as_ref(),
        tracking,
        here,
        flows,
        &mut Unobserved,
    );
    flows.aside.saved.restore(frame);
    flows.changes.take_back(&here.snapshot.rules.state);
    if let Continue(tracked) = tracked {
        let bytes = frame.bytes();
        leaving::leave(
            reason,
            &packet,
            bytes,
            probe.as_ref(),
            &tracked,
            tracking,
            &mut flows.aside,
        );
    }
}

/// A hooked packet before its connection is known: may it be bridged here, and the chains before IP's prerouting.
pub(super) fn arrived<O: Observer>(
    frame: &Frame,
    member: &Member<'_>,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<()> {
    let head = Head::of(frame.bytes())?;
    bridge_check::check(&head, member, ticks(here.now_ns))?;
    seen.see(Stage::BridgeCheck, || {
        format!("port of {}, from {}", member.up.1.name, Mac(&head.src))
    });
    if here.snapshot.rules.bridged.is_nothing() {
        return Continue(());
    }
    let at = AtPorts::new(frame.bytes(), head.dst, member, here)?;
    at.run(
        BridgePoint::Prerouting,
        (Some(member.link.1), None),
        &mut flows.aside,
        &mut flows.changes,
        seen,
    )
}

/// A hooked packet behind IP's prerouting, before which its destination was `before`: its way out, if it is bridged; none if
/// it goes up.
pub(super) fn behind_prerouting<O: Observer>(
    hooked: &mut Hooked<'_, '_>,
    before: u128,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Option<(Out, bool)>> {
    let (member, here) = (hooked.member, hooked.here);
    let mut head = Head::of(hooked.frame.bytes())?;
    let Some(tagging) = bridge_check::tagging(&head, member) else {
        return Verdict::punt(PuntReason::BridgeNetfilter);
    };
    let becomes = match hooked.packet.dst == before {
        true => Becomes::Same,
        false => redirect(hooked, flows, seen)?,
    };
    if let Becomes::Routed = becomes {
        head.dst = member.up.1.mac;
    }
    let iif = Some(member.link.1);
    hooked.chains(BridgePoint::BehindPrerouting, &head, (iif, None), flows, seen)?;
    if let Becomes::Bridged(to, _) = becomes {
        head.dst = to;
    }
    match bridging::input(&head, &tagging, member, here.snapshot)? {
        To::Port(exit) => {
            seen.see(Stage::Bridging, || {
                format!("fdb {} dev {}", Mac(&head.dst), exit.iface.name)
            });
            let (bridged, constant) = match becomes {
                Becomes::Bridged(_, constant) => (Bridged::Redirected, constant),
                _ => (Bridged::Same, true),
            };
            let constant = constant && here.snapshot.rules.bridged.is_nothing();
            across(hooked, &head, &exit, bridged, flows, seen).map_continue(|out| Some((out, constant)))
        }
        // Of another station: nobody says that it is for the box.
        To::Up if matches!(becomes, Becomes::Bridged(..)) => Verdict::punt(PuntReason::BridgeLocal),
        To::Up => {
            hooked.chains(BridgePoint::Input, &head, (iif, None), flows, seen)?;
            seen.see(Stage::Bridging, || {
                format!("fdb {} dev {} permanent: up", Mac(&head.dst), member.up.1.name)
            });
            Continue(None)
        }
    }
}

/// Where a packet goes behind prerouting.
enum Becomes {
    /// Where it went.
    Same,
    /// To the station behind the same bridge that has this address; whether that is so for all of its connection.
    Bridged(Address, bool),
    /// It is routed.
    Routed,
}

/// What becomes of a packet whose destination is another one now.
fn redirect<O: Observer>(hooked: &mut Hooked<'_, '_>, flows: &mut Flows, seen: &mut O) -> Step<Becomes> {
    let (here, up, packet) = (hooked.here, hooked.member.up, &*hooked.packet);
    routing::admit(packet, up.1)?;
    if flows.aside.mark != 0 && here.snapshot.rules_by_mark[packet.family as usize] {
        return Verdict::punt(PuntReason::RouteNotCarried);
    }
    let way = routing::route(packet, hooked.frame.bytes(), up.0, here.snapshot, flows)?;
    if way.nexthop.iface != up.0 {
        return Continue(Becomes::Routed);
    }
    routing::validate(packet, up, way.nexthop.iface, here.snapshot)?;
    let to = neighbor::resolve(packet, &way, here.snapshot)?;
    seen.see(Stage::Neighbor, || {
        format!("behind the same bridge, lladdr {}", Mac(&to))
    });
    let constant = here.by_connection[packet.family as usize] && (way.only || packet.family == Family::V4);
    Continue(Becomes::Bridged(to, constant))
}

/// forward and postrouting of a packet that is bridged.
fn across<'a, O: Observer>(
    hooked: &mut Hooked<'_, 'a>,
    head: &Head,
    exit: &Exit<'a>,
    bridged: Bridged,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Out> {
    let (member, here) = (hooked.member, hooked.here);
    let mtu = exit.iface.mtu[Family::V4 as usize];
    let flags = hooked.packet.flags;
    if flags.any(Flags::FRAGMENT) {
        return Verdict::punt(PuntReason::Fragment);
    }
    if flags.any(Flags::OPTIONS) {
        return Verdict::punt(PuntReason::Options);
    }
    if flags.any(Flags::EXTENSION) {
        return Verdict::punt(PuntReason::Extension);
    }
    if u32::from(hooked.packet.l3_len()) > mtu {
        return Verdict::punt(PuntReason::MtuExceeded);
    }
    let (iif, oif) = (Some(member.link.1), Some(exit.iface));
    hooked.chains(BridgePoint::Forward, head, (iif, oif), flows, seen)?;
    let ports = Ports {
        input: member.link.1,
        output: oif,
        is_redirected: bridged == Bridged::Redirected,
    };
    hooked.at_ip(ports, mtu, flows).forward(here, seen)?;
    hooked.chains(BridgePoint::BehindForward, head, (iif, oif), flows, seen)?;
    hooked.chains(BridgePoint::Postrouting, head, (None, oif), flows, seen)?;
    hooked.at_ip(ports, mtu, flows).postrouting(here, seen)?;
    Continue(Out {
        iface: member.up.0,
        port: exit.port,
        mtu,
        from: head.src,
        to: head.dst,
        tag: [0; 4],
        bridged,
    })
}

/// A packet of IP on a bridge with the hooks of IP.
pub(super) struct Hooked<'w, 'a> {
    pub(super) frame: &'w mut Frame,
    pub(super) packet: &'w mut Parsed,
    pub(super) tracked: Option<(&'w Tracked<'a>, &'w Tracking<'a>)>,
    pub(super) member: &'w Member<'a>,
    pub(super) here: &'w Here<'a>,
}

impl<'a> Hooked<'_, 'a> {
    /// The chains of family bridge at a point, from one port to another.
    fn chains<O: Observer>(
        &self,
        point: BridgePoint,
        head: &Head,
        ports: (Option<&Iface>, Option<&Iface>),
        flows: &mut Flows,
        seen: &mut O,
    ) -> Step<()> {
        if self.here.snapshot.rules.bridged.at(point).bases.is_empty() {
            return Continue(());
        }
        // Without its padding.
        let bytes = &self.frame.bytes()[..usize::from(self.packet.end).min(self.frame.len())];
        let at = AtPorts::new(bytes, head.dst, self.member, self.here)?;
        at.run(point, ports, &mut flows.aside, &mut flows.changes, seen)
    }

    /// The same packet at the hooks of IP, from the bridge to the bridge.
    fn at_ip<'w>(&'w mut self, ports: Ports<'a>, mtu: u32, flows: &'w mut Flows) -> AtHooks<'w, 'a> {
        let (index, iface) = self.member.up;
        AtHooks {
            frame: self.frame,
            packet: self.packet,
            tracked: self.tracked,
            iif: (index, iface),
            oif: Some((index, iface, mtu)),
            ports: Some(ports),
            aside: &mut flows.aside,
            changes: &mut flows.changes,
        }
    }
}
