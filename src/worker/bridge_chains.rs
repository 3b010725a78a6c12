//! Chains of family bridge as steps of the walk: of a frame that no hook of IP sees, all of them; and one after the other, of
//! one that those see, too.
//!
//! ```text
//!  Prerouting, BehindPrerouting -> FDB -> Input -> up
//!                                     \-> Forward, BehindForward -> Postrouting -> tx
//! ```
//!
//! A frame is changed only when all of them have let it pass. What ends in a drop behind them in the kernel (the MTU) is punted,
//! so that they count it there.
//!
//! As net/bridge/br_input.c and br_forward.c.

use super::bridged::Show;
use super::hooks::show;
use super::observer::{Mac, Observer, Stage};
use super::pipeline::Here;
use crate::packet::{DropReason, Frame, PortIndex, PuntReason, Step, Verdict};
use crate::stage::bridge_check::{self, Head, Member};
use crate::stage::bridging::{self, Exit, Retag, To};
use crate::stage::prerouting::Aside;
use crate::stage::routing::Flows;
use crate::stage::rules::bridge::{self, AtBridge, Layers, Tag, pkttype};
use crate::table::conntrack::ticks;
use crate::table::iface::Iface;
use crate::table::rules::interpret::{Changes, Outcome};
use crate::table::rules::live::BridgePoint;
use crate::wire::Mac as Address;
use std::ops::ControlFlow::{Break, Continue};

/// A frame that no hook of IP sees: the port by which it leaves; none if it goes up.
pub(super) fn plain<O: Observer>(
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
    // The kernel takes a tag of another protocol than the bridge's for a part of what the frame carries, from here on.
    let is_swallowed = member.bridge.vlans.is_some() && head.tci.is_some() && !tagging.inside;
    if is_swallowed && here.snapshot.rules.bridged.is_behind_vlans() {
        return Verdict::punt(PuntReason::Rule);
    }
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
    if here.labels {
        frame.set_meta(flows.aside.mark, flows.aside.priority);
    }
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

/// A frame at the chains of family bridge.
pub(super) struct AtPorts<'w, 'a> {
    bytes: &'w [u8],
    dst: Address,
    layers: Layers,
    tag: Option<Tag>,
    member: &'w Member<'a>,
    here: &'w Here<'a>,
}

impl<'w, 'a> AtPorts<'w, 'a> {
    /// To `dst`, which is not that of the frame if it has changed.
    pub(super) fn new(bytes: &'w [u8], dst: Address, member: &'w Member<'a>, here: &'w Here<'a>) -> Step<Self> {
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
    pub(super) fn run<O: Observer>(
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
                changes.give_away(&live.state, self.here.now_ns);
                Verdict::punt(PuntReason::Rule)
            }
        }
    }
}
