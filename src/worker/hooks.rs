//! The hooks of netfilter as steps of the walk: chains of rules, and NAT where they decide so.
//!
//! ```text
//!               chains before tracking: some packets are not to be tracked
//!  prerouting   chains -> destination NAT: decided by a connection's first packet, done to all -> chains
//!  forward      chains
//!  postrouting  chains -> source NAT, likewise -> chains
//! ```
//!
//! What is translated is the frame itself, so that everything behind sees it as the kernel's code would: [`Saved`] has its
//! headers as they came, for a packet that turns out to be the kernel's. A family without chains and NAT does not come here.
//!
//! As nf_nat_inet_fn of net/netfilter/nf_nat_core.c.
//!
//! [`Saved`]: crate::stage::nat::Saved

use super::bridge_hooks;
use super::pipeline::{Here, Observer, Stage};
use crate::packet::{DropReason, Family, Flags, Frame, Parsed, PuntReason, Step, Verdict};
use crate::stage::flow;
use crate::stage::nat::{self, Translated};
use crate::stage::prerouting::{self, Aside, Of, Tracked, Tracking, leaving, reset};
use crate::stage::routing::Flows;
use crate::stage::rules::{self, AtHook, Ports};
use crate::table::Snapshot;
use crate::table::conntrack::table::{Connection, Probe};
use crate::table::conntrack::{CtState, Direction, Marks, Status, Tuple, ticks};
use crate::table::fib::{FibKey, Found, Gateway};
use crate::table::iface::{Iface, IfaceIndex};
use crate::table::nat::{Live, Manip, Range, setup};
use crate::table::rules::carried::Depends;
use crate::table::rules::expr::{NatKind, Reject};
use crate::table::rules::interpret::{Changes, NatRequest, Outcome, Place};
use crate::table::rules::live::{Point, Rules};
use crate::wire::Protocol;
use std::ops::ControlFlow::{Break, Continue};

/// A packet at the hooks.
pub(super) struct AtHooks<'w, 'a> {
    pub(super) frame: &'w mut Frame,
    pub(super) packet: &'w mut Parsed,
    /// Its connection, where its family is tracked.
    pub(super) tracked: Option<(&'w Tracked<'a>, &'w Tracking<'a>)>,
    pub(super) iif: (IfaceIndex, &'a Iface),
    /// With the longest packet that fits.
    pub(super) oif: Option<(IfaceIndex, &'a Iface, u32)>,
    /// Of a bridge with the hooks of IP.
    pub(super) ports: Option<Ports<'a>>,
    pub(super) aside: &'w mut Aside,
    pub(super) changes: &'w mut Changes,
}

/// Chains before tracking; on a bridge with the hooks of IP, what comes before those.
pub(super) fn raw<O: Observer>(
    frame: &mut Frame,
    packet: &mut Parsed,
    here: &Here<'_>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<()> {
    let Some(iif) = here.link else {
        return Verdict::punt(PuntReason::LeftIngress);
    };
    if let Some(member) = here.hooked(packet.family) {
        bridge_hooks::arrived(frame, member, here, flows, seen)?;
    }
    let mut at = AtHooks {
        frame,
        ports: here.ports(packet.family),
        packet,
        tracked: None,
        iif,
        oif: None,
        aside: &mut flows.aside,
        changes: &mut flows.changes,
    };
    at.filter(Point::Raw, here, seen)
}

/// prerouting up to the connection: chains before tracking, then whose the packet is.
pub(super) fn track<'a, O: Observer>(
    frame: &mut Frame,
    packet: &mut Parsed,
    probe: Option<&Probe>,
    tracking: &Tracking<'a>,
    here: &Here<'a>,
    flows: &mut Flows,
    seen: &mut O,
) -> Step<Tracked<'a>> {
    flows.meet_rules();
    // Fragments are reassembled before, and that in the kernel.
    let said = match packet.flags.any(Flags::FRAGMENT) {
        true => Continue(()),
        false => raw(frame, packet, here, flows, seen),
    };
    if let Break(verdict @ Verdict::Drop(_)) = said {
        return Break(verdict);
    }
    if flows.aside.untracked {
        seen.see(Stage::Prerouting, || "not to be tracked".into());
        return said.map_continue(|()| Tracked::UNTRACKED);
    }
    let tracked = prerouting::track(packet, frame, probe, tracking, &mut flows.aside)?;
    if let Break(verdict) = said {
        if let Verdict::Punt(reason) = verdict {
            let aside = &mut flows.aside;
            leaving::leave(reason, packet, frame.bytes(), probe, &tracked, tracking, aside);
        }
        return Break(verdict);
    }
    Continue(tracked)
}

impl<'a> AtHooks<'_, 'a> {
    /// Chains, destination NAT, chains.
    pub(super) fn prerouting<O: Observer>(&mut self, here: &Here<'a>, seen: &mut O) -> Step<()> {
        if self.begins_there(&here.snapshot.rules) {
            seen.see(Stage::Prerouting, || {
                "it begins in the kernel, which tells its age".into()
            });
            return Verdict::punt(PuntReason::Rule);
        }
        self.filter(Point::Prerouting, here, seen)?;
        self.nat(Point::Dnat, here, seen)?;
        self.filter(Point::BehindDnat, here, seen)
    }

    /// Chains.
    pub(super) fn forward<O: Observer>(&mut self, here: &Here<'a>, seen: &mut O) -> Step<()> {
        self.filter(Point::Forward, here, seen)
    }

    /// Chains, source NAT, chains.
    pub(super) fn postrouting<O: Observer>(&mut self, here: &Here<'a>, seen: &mut O) -> Step<()> {
        self.filter(Point::Postrouting, here, seen)?;
        self.nat(Point::Snat, here, seen)?;
        self.filter(Point::BehindSnat, here, seen)
    }

    fn filter<O: Observer>(&mut self, point: Point, here: &Here<'a>, seen: &mut O) -> Step<()> {
        if here.snapshot.rules.at(self.packet.family, point).bases.is_empty() {
            return Continue(());
        }
        if self.packet.flags.any(Flags::EXTENSION) {
            // It is the kernel's in any case, and rules see another transport header there: behind AH, or none.
            return Verdict::punt(PuntReason::Extension);
        }
        // A chain of another type than nat has no NAT.
        self.run(point, here, seen).map_continue(drop)
    }

    /// What the chains at `point` say: a translation, if they ask for one.
    fn run<O: Observer>(&mut self, point: Point, here: &Here<'a>, seen: &mut O) -> Step<Option<NatRequest>> {
        let live = &here.snapshot.rules;
        let at = AtHook {
            point,
            packet: &mut *self.packet,
            frame: self.frame,
            iif: self.iif.1,
            oif: self.oif.map(|(_, oif, mtu)| (oif, mtu)),
            ports: self.ports,
            tracked: self.tracked.map(|(tracked, _)| tracked),
            aside: self.aside,
            snapshot: here.snapshot,
            now: ticks(here.now_ns),
        };
        let stage = stage(point);
        match rules::run(at, live, here.now_ns, self.changes) {
            Outcome::Accept => Continue(None),
            Outcome::Nat(request, _) => Continue(Some(request)),
            Outcome::Drop(at) => {
                seen.see(stage, || format!("{} says drop", show(live, &at)));
                Verdict::drop(DropReason::Filter)
            }
            Outcome::Reject(reject, at) => {
                seen.see(stage, || format!("{} is the kernel's", show(live, &at)));
                if let (Reject::TcpReset, Some((tracked, tracking))) = (reject, self.tracked) {
                    reset::reset(self.packet, self.frame.bytes(), tracked, tracking);
                }
                Verdict::punt(PuntReason::Rule)
            }
            Outcome::Punt(at) => {
                seen.see(stage, || format!("{} is the kernel's", show(live, &at)));
                Verdict::punt(PuntReason::Rule)
            }
        }
    }

    /// Whether a connection that begins with the packet must begin in the kernel: see [`Hook::asks_assured`].
    ///
    /// [`Hook::asks_assured`]: crate::table::rules::live::Hook::asks_assured
    fn begins_there(&self, rules: &Rules) -> bool {
        let begins = self
            .tracked
            .is_some_and(|(tracked, _)| matches!(tracked.of, Of::Unconfirmed));
        begins && self.packet.proto == Protocol::UDP.0 && rules.sum(self.packet.family).asks_assured
    }

    /// NAT's hook at `point`.
    fn nat<O: Observer>(&mut self, point: Point, here: &Here<'a>, seen: &mut O) -> Step<()> {
        let family = self.packet.family;
        let Some((tracked, tracking)) = self.tracked.filter(|_| here.snapshot.rules.nat[family as usize]) else {
            return Continue(());
        };
        if self.packet.flags.any(Flags::EXTENSION) {
            // It is the kernel's in any case, and what is written behind extension headers is not taken back.
            return Verdict::punt(PuntReason::Extension);
        }
        let manip = match point {
            Point::Dnat => Manip::Destination,
            _ => Manip::Source,
        };
        match &tracked.of {
            Of::Nothing => Continue(()),
            Of::Unconfirmed => {
                let request = self.run(point, here, seen)?;
                let range = self.range(request.as_ref(), manip, here)?;
                self.decide(&range, manip, tracking)?;
                let begun = &self.aside.begun;
                let target = nat::applies(begun.status, Direction::Original, manip).then(|| begun.reply.invert());
                self.rewrite(target.flatten(), manip, point, seen)
            }
            Of::Connection(connection, direction) if is_error(tracked, self.packet) => {
                let tuples = [Direction::Original, Direction::Reply].map(|direction| connection.tuple(direction));
                let tuples = [&tuples[0], &tuples[1]];
                step(nat::icmp_error(
                    self.frame,
                    self.packet,
                    connection.status(),
                    *direction,
                    tuples,
                    manip,
                ))
            }
            Of::Connection(connection, direction) => {
                let status = connection.status();
                if is_older_than_nat(tracked.state, status) {
                    // They are asked all the same, but it is too late for what they say.
                    self.run(point, here, seen)?;
                }
                if let (Point::Snat, Some((oif, ..))) = (point, self.oif) {
                    still_masquerades(self.packet, (tracked, tracking), oif, here)?;
                }
                let target = nat::applies(status, *direction, manip).then(|| target(connection, *direction));
                self.rewrite(target.flatten(), manip, point, seen)
            }
        }
    }

    /// What a rule asks for, as a range; without one nothing changes but a port that clashes (nf_nat_alloc_null_binding).
    fn range(&mut self, request: Option<&NatRequest>, manip: Manip, here: &Here<'a>) -> Step<Range> {
        let Some(request) = request else {
            return Continue(Range::null_binding(&self.aside.begun, manip));
        };
        let own = match request.kind {
            NatKind::Source | NatKind::Destination => None,
            // To the box itself.
            NatKind::Redirect => return Verdict::punt(PuntReason::Local),
            NatKind::Masquerade => {
                let Some(oif) = self.oif else {
                    return Verdict::punt(PuntReason::Rule);
                };
                self.aside.begun.marks = Marks(self.aside.begun.marks.0 | Marks::MASQUERADED);
                Some(self.source(oif, here)?)
            }
        };
        match Range::of(request, self.packet.family, own) {
            Some((range, _)) => Continue(range),
            None => Verdict::punt(PuntReason::Rule),
        }
    }

    /// The address that it is masqueraded with. What is bridged has no next hop to choose one by.
    fn source(&self, oif: (IfaceIndex, &Iface, u32), here: &Here<'a>) -> Step<u128> {
        let is_bridged = self.ports.is_some_and(|ports| ports.output.is_some());
        match &*oif.1.sources[self.packet.family as usize] {
            [_, _, ..] if is_bridged => Verdict::punt(PuntReason::Rule),
            _ => source(self.packet, self.iif.0, oif, here.snapshot),
        }
    }

    fn decide(&mut self, range: &Range, manip: Manip, tracking: &Tracking<'a>) -> Step<()> {
        let Aside { begun, random, .. } = &mut *self.aside;
        let mut live = Live {
            table: tracking.table,
            by_source: tracking.by_source,
            guard: tracking.guard,
            now: tracking.now,
            random,
        };
        match setup(begun, range, manip, &mut live) {
            Ok(()) => Continue(()),
            Err(_) => Verdict::drop(DropReason::Nat),
        }
    }

    fn rewrite<O: Observer>(&mut self, target: Option<Tuple>, manip: Manip, point: Point, seen: &mut O) -> Step<()> {
        let Some(target) = target else {
            return Continue(());
        };
        if !nat::manip(self.frame, self.packet, &target, manip) {
            return Verdict::drop(DropReason::Nat);
        }
        seen.see(stage(point), || format!("translated: {}", self.packet));
        Continue(())
    }
}

/// A masqueraded connection whose packets leave by another link now is over (nf_nat_oif_changed), and with it the kernel's copy.
/// Which one it was is not known, but that it has the address that was chosen then. An address that no link has for its
/// packets any more was deprecated where it is, or has gone, which ends the connection elsewhere.
pub(super) fn still_masquerades<'a>(
    packet: &Parsed,
    (tracked, tracking): (&Tracked<'a>, &Tracking<'a>),
    oif: IfaceIndex,
    here: &Here<'a>,
) -> Step<()> {
    let Of::Connection(connection, Direction::Original) = &tracked.of else {
        return Continue(());
    };
    if !connection.marks().any(Marks::MASQUERADED) || is_error(tracked, packet) {
        return Continue(());
    }
    let chosen = connection.tuple(Direction::Reply).dst;
    let has = |iface: &Iface| {
        let sources = &iface.sources[packet.family as usize];
        sources.iter().any(|source| source.addr == chosen)
    };
    if here.snapshot.iface(oif).is_some_and(has) || !here.snapshot.ifaces.iter().any(has) {
        return Continue(());
    }
    // What was given to the kernel is a copy all the same.
    connection.clear_marks(Marks::KERNEL | Marks::ADOPTABLE | Marks::FOLLOWED);
    tracking.table.remove(*connection, tracking.guard);
    Verdict::drop(DropReason::Nat)
}

/// A packet past rules is punted: it meets them in the kernel, which counts it, and chooses anew where they choose by chance.
/// So choices are left to the kernel that led to a rule of its own, or, if the packet `is_led` elsewhere by NAT, to where it goes.
pub(super) fn give_back(reason: PuntReason, is_led: bool, changes: &mut Changes, here: &Here<'_>) {
    let state = &here.snapshot.rules.state;
    match reason {
        PuntReason::Rule | PuntReason::RouteNotCarried => changes.give_away(state, here.now_ns),
        _ if is_led && reason.is_for_destination() => changes.give_away(state, here.now_ns),
        _ => changes.take_back(state),
    }
}

/// Both translations at once, of a packet whose way is known.
pub(super) fn translate(frame: &mut Frame, packet: &Parsed, tracked: &Tracked<'_>) -> Step<()> {
    let Of::Connection(connection, direction) = &tracked.of else {
        return Continue(());
    };
    let status = connection.status();
    if !status.any(Status::SRC_NAT | Status::DST_NAT) {
        return Continue(());
    }
    let Some(target) = target(connection, *direction) else {
        return Continue(());
    };
    let mut packet = *packet;
    for manip in [Manip::Destination, Manip::Source] {
        if nat::applies(status, *direction, manip) && !nat::manip(frame, &mut packet, &target, manip) {
            return Verdict::drop(DropReason::Nat);
        }
    }
    Continue(())
}

/// Whether a decision may be kept that the rules had a part in: it holds for all packets of the connection, direction and state.
#[inline]
pub(super) fn may_keep(packet: &Parsed, bytes: &[u8], tracked: &Tracked<'_>, rules: &Rules) -> bool {
    let by_rules = match rules.sum(packet.family).depends {
        Depends::Flow => true,
        Depends::FlowWithPorts => packet.flags.any(Flags::PORTS),
        Depends::FlowWithFlags => packet.flags.any(Flags::PORTS) && !flow::is_edge(packet, bytes),
        Depends::Packet => false,
    };
    let older = match &tracked.of {
        Of::Connection(connection, _) => {
            rules.nat[packet.family as usize] && is_older_than_nat(tracked.state, connection.status())
        }
        _ => false,
    };
    by_rules && !older
}

/// What a packet in `direction` is to become: an answer to what is answered.
fn target(connection: &Connection<'_>, direction: Direction) -> Option<Tuple> {
    connection.tuple(direction.opposite()).invert()
}

/// Whether NAT's chains are asked about each packet: none was there when the connection began.
fn is_older_than_nat(state: CtState, status: Status) -> bool {
    state == CtState::NEW && !status.any(Status::SRC_NAT_DONE | Status::DST_NAT_DONE)
}

fn is_error(tracked: &Tracked<'_>, packet: &Parsed) -> bool {
    let icmp = match packet.family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    tracked.state == CtState::RELATED && packet.proto == icmp.0
}

fn step(done: Translated) -> Step<()> {
    match done {
        Translated::Done => Continue(()),
        Translated::Drop => Verdict::drop(DropReason::Nat),
        Translated::Punt => Verdict::punt(PuntReason::Rule),
    }
}

/// The address of the box that a packet is masqueraded with (inet_select_addr, ipv6_dev_get_saddr). Where the link has
/// several, IPv4 takes the first one in whose subnet the next hop is, or the first; IPv6 has rules of its own: the kernel's.
fn source(packet: &Parsed, iif: IfaceIndex, (_, oif, _): (IfaceIndex, &Iface, u32), snapshot: &Snapshot) -> Step<u128> {
    let sources = &oif.sources[packet.family as usize];
    match **sources {
        [ref one] => Continue(one.addr),
        [] => Verdict::punt(PuntReason::Rule),
        _ if packet.family == Family::V6 => Verdict::punt(PuntReason::Rule),
        [ref first, ..] => {
            let key = FibKey {
                src: packet.src,
                dst: packet.dst,
                iif: Some(iif),
                tos: packet.tos,
            };
            let nexthop = match snapshot.fib(Family::V4).lookup(&key) {
                Found::Route(_, route) => match *route.nexthops {
                    [one] => one,
                    _ => return Verdict::punt(PuntReason::Rule),
                },
                _ => return Verdict::punt(PuntReason::Rule),
            };
            let to = match nexthop.gateway {
                Gateway::Via(Family::V4, gateway) => gateway,
                _ => packet.dst,
            };
            let near = sources.iter().find(|source| source.covers(to));
            Continue(near.unwrap_or(first).addr)
        }
    }
}

fn stage(point: Point) -> Stage {
    match point {
        Point::Raw | Point::Prerouting | Point::Dnat | Point::BehindDnat => Stage::Prerouting,
        Point::Forward => Stage::Forward,
        Point::Postrouting | Point::Snat | Point::BehindSnat => Stage::Postrouting,
    }
}

pub(super) fn show(live: &Rules, place: &Place) -> String {
    match live.rule_of(place) {
        Some(rule) => format!("{}, rule handle {}", live.ruleset.describe(place.chain), rule.handle),
        None => live.ruleset.describe(place.chain),
    }
}
