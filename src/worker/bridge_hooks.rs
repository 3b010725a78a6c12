//! The hooks at a bridge as steps of the walk: chains of family bridge, and the hooks of IP where br_netfilter has them.
//!
//! ```text
//!  plain   Prerouting, BehindPrerouting -> FDB -> Input -> up
//!                                             \-> Forward, BehindForward -> Postrouting -> tx
//!  hooked  an untagged packet of IP on a bridge with bridge-nf-call-*:
//!          Prerouting | tracking, IP's prerouting | the destination is another one now, and routed out by the same bridge?
//!            then its MAC is the next hop's; by another link? then it is the bridge's | BehindPrerouting -> FDB
//!              -> Input -> up: it is routed, past prerouting
//!              \-> Forward | IP's forward, from the bridge to the bridge | BehindForward
//!                  Postrouting | IP's postrouting, to the bridge -> tx: neither hop limit nor source MAC is touched
//! ```
//!
//! A frame of the first kind that goes up meets IP's rules anew, and what it changed in counters here is taken back should it
//! turn out to be the kernel's there. One of the second kind walks as a routed packet does, with these hooks in between
//! (pipeline.rs, hooks.rs): so its connection is exported before any punt. Its way is not kept.
//!
//! As br_nf_pre_routing_finish, br_nf_pre_routing_finish_bridge, br_nf_forward and br_nf_post_routing of
//! net/bridge/br_netfilter_hooks.c. Where forwarding is off, or the packet is to be cut into fragments, it is the kernel's.

use super::bridged::{Show, bridged};
use super::hooks::{self, AtHooks, show};
use super::observer::{Mac, Observer, Stage, Unobserved};
use super::pipeline::{Here, arrive_at, ip};
use crate::packet::{DropReason, Family, Flags, Frame, Parsed, PortIndex, PuntReason, Step, Verdict};
use crate::stage::bridge_check::{self, Head, Hooks, Member};
use crate::stage::bridging::{self, Exit, Retag, To};
use crate::stage::neighbor;
use crate::stage::prerouting::{self, Aside, Tracked, Tracking, leaving};
use crate::stage::routing::{self, Flows};
use crate::stage::rules::Ports;
use crate::stage::rules::bridge::{self, AtBridge, Layers, Tag, pkttype};
use crate::table::conntrack::ticks;
use crate::table::destination::Out;
use crate::table::iface::Iface;
use crate::table::rules::interpret::{Changes, Outcome};
use crate::table::rules::live::BridgePoint;
use crate::wire::Mac as Address;
use std::ops::ControlFlow::{Break, Continue};

/// The walk of a frame that came in by a port of a bridge at which something stands.
#[inline(never)]
pub(super) fn walk<O: Observer>(
    frame: &mut Frame,
    member: &Member<'_>,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<PortIndex> {
    let head = Head::of(frame.bytes())?;
    let rules = &here.snapshot.rules;
    if bridge_check::hooks(&head, member) == Hooks::Ip {
        let (packet, link) = arrive_at(&head.dst, frame, here, seen)?;
        return ip(frame, &packet, link, here, flows, seen);
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
    if let Break(Verdict::Punt(_)) = step {
        flows.frame_changes.take_back(&rules.state);
    }
    step
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
    let Continue((packet, (_, up))) = arrive_at(&up.mac, frame, here, &mut Unobserved) else {
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

/// A frame that no hook of IP sees: the port by which it leaves; none if it goes up.
fn plain<O: Observer>(
    frame: &mut Frame,
    head: &Head,
    member: &Member<'_>,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Option<PortIndex>> {
    bridging::complete_checksum(frame, head);
    seen.see(Stage::Rx, || format!("in by {}, {}", member.link.1.name, Show(head)));
    let checked = bridge_check::check(head, member, ticks(here.now_ns));
    if let Break(Verdict::Punt(reason)) = checked {
        return Verdict::punt(reason);
    }
    let mut at = AtPorts::new(frame.bytes(), head.dst, member, here)?;
    let iif = Some(member.link.1);
    for point in [BridgePoint::Prerouting, BridgePoint::BehindPrerouting] {
        at.run(point, (iif, None), &mut flows.aside, &mut flows.changes, seen)?;
    }
    let tagging = checked?;
    seen.see(Stage::BridgeCheck, || {
        format!("port of {}, from {}", member.up.1.name, Mac(&head.src))
    });
    let exit = match bridging::input(head, &tagging, member, here.snapshot) {
        Continue(To::Port(exit)) => exit,
        Continue(To::Up) => {
            at.run(
                BridgePoint::Input,
                (iif, None),
                &mut flows.aside,
                &mut flows.changes,
                seen,
            )?;
            seen.see(Stage::Bridging, || {
                format!("fdb {} dev {} permanent: up", Mac(&head.dst), member.up.1.name)
            });
            // What it says, IP's rules would read.
            return match (flows.aside.mark, flows.aside.priority) {
                (0, 0) => Continue(None),
                _ => Verdict::punt(PuntReason::Rule),
            };
        }
        // The chains come before that.
        Break(Verdict::Drop(DropReason::BridgeMtu)) => return Verdict::punt(PuntReason::MtuExceeded),
        Break(verdict) => return Break(verdict),
    };
    at.tag = tag_behind(at.tag, &exit);
    let oif = Some(exit.iface);
    for (point, iif) in [
        (BridgePoint::Forward, iif),
        (BridgePoint::BehindForward, iif),
        (BridgePoint::Postrouting, None),
    ] {
        at.run(point, (iif, oif), &mut flows.aside, &mut flows.changes, seen)?;
    }
    bridging::leave(frame, &exit)?;
    seen.see(Stage::Bridging, || {
        format!("fdb {} dev {}", Mac(&head.dst), exit.iface.name)
    });
    Continue(Some(exit.port))
}

/// The tag that a frame has on its way out.
fn tag_behind(tag: Option<Tag>, exit: &Exit<'_>) -> Option<Tag> {
    match (exit.retag, tag) {
        (Retag::Keep, tag) => tag,
        (Retag::Push(tag), _) => Some(tag),
        (Retag::Pop, _) => None,
        (Retag::Replace(tci), tag) => tag.map(|[a, b, ..]| {
            let [c, d] = tci.to_be_bytes();
            [a, b, c, d]
        }),
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
pub(super) fn behind_prerouting<'a, O: Observer>(
    hooked: &mut Hooked<'_, 'a>,
    before: u128,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Option<Out>> {
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
    if let Becomes::Bridged(to) = becomes {
        head.dst = to;
    }
    match bridging::input(&head, &tagging, member, here.snapshot)? {
        To::Port(exit) => {
            seen.see(Stage::Bridging, || {
                format!("fdb {} dev {}", Mac(&head.dst), exit.iface.name)
            });
            let is_redirected = matches!(becomes, Becomes::Bridged(_));
            across(hooked, &head, &exit, is_redirected, flows, seen).map_continue(Some)
        }
        // Of another station: nobody says that it is for the box.
        To::Up if matches!(becomes, Becomes::Bridged(_)) => Verdict::punt(PuntReason::BridgeLocal),
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
    /// To the station behind the same bridge that has this address.
    Bridged(Address),
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
    Continue(Becomes::Bridged(to))
}

/// forward and postrouting of a packet that is bridged.
fn across<'a, O: Observer>(
    hooked: &mut Hooked<'_, 'a>,
    head: &Head,
    exit: &Exit<'a>,
    is_redirected: bool,
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
        is_redirected,
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
        bridged: true,
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

/// A frame at the chains of family bridge.
struct AtPorts<'w, 'a> {
    bytes: &'w [u8],
    dst: Address,
    layers: Layers,
    tag: Option<Tag>,
    member: &'w Member<'a>,
    here: &'w Here<'a>,
}

impl<'w, 'a> AtPorts<'w, 'a> {
    /// To `dst`, which is not that of the frame if it has changed.
    fn new(bytes: &'w [u8], dst: Address, member: &'w Member<'a>, here: &'w Here<'a>) -> Step<Self> {
        let Some(layers) = Layers::of(bytes) else {
            return Verdict::punt(PuntReason::Malformed);
        };
        if !layers.is_known {
            return Verdict::punt(PuntReason::Extension);
        }
        Continue(Self {
            bytes,
            dst,
            tag: layers.tag,
            layers,
            member,
            here,
        })
    }

    /// Whom it is for: that does not change with its address, unless it is the bridge's now.
    fn pkttype(&self) -> u8 {
        let bridge = &self.member.up.1.mac;
        let came_to = self.bytes.first_chunk().filter(|_| self.dst != *bridge);
        pkttype(came_to.unwrap_or(bridge), &self.member.link.1.mac, bridge)
    }

    /// What the chains at `point` say.
    fn run<O: Observer>(
        &self,
        point: BridgePoint,
        (iif, oif): (Option<&Iface>, Option<&Iface>),
        aside: &mut Aside,
        changes: &mut Changes,
        seen: &mut O,
    ) -> Step<()> {
        let live = &self.here.snapshot.rules;
        if live.bridged.at(point).bases.is_empty() {
            return Continue(());
        }
        let at = AtBridge {
            bytes: self.bytes,
            dst: self.dst,
            layers: &self.layers,
            tag: self.tag,
            iif,
            oif,
            pkttype: self.pkttype(),
            aside,
            snapshot: self.here.snapshot,
        };
        match bridge::run(at, point, live, self.here.now_ns, changes) {
            Outcome::Accept => Continue(()),
            Outcome::Drop(place) => {
                seen.see(Stage::Bridging, || format!("{} says drop", show(live, &place)));
                Verdict::drop(DropReason::Filter)
            }
            Outcome::Punt(place) | Outcome::Reject(_, place) | Outcome::Nat(_, place) => {
                seen.see(Stage::Bridging, || format!("{} is the kernel's", show(live, &place)));
                changes.take_back(&live.state);
                Verdict::punt(PuntReason::Rule)
            }
        }
    }
}
