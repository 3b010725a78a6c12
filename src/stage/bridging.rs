//! bridging: to which port does a frame go, and in which form? As br_handle_frame_finish (net/bridge/br_input.c), should_deliver,
//! br_forward and br_dev_queue_push_xmit (net/bridge/br_forward.c), br_handle_vlan (net/bridge/br_vlan.c).
//!
//! ```text
//!  input   bridge_check -> FDB: the bridge's own address ------> up: IP, arrived by the bridge
//!                               another of its own, unknown ---> punt: the kernel takes it, or floods
//!                               a port -> may it leave there? -> leave: tag in or out, checksum whole -> tx
//!                                              \--> drop
//!  output  neighbor -> FDB: a port, as input; all else ----> punt
//! ```
//!
//! What the kernel's bridge drops is dropped and counted here, for it says nothing about it either. A frame is not rewritten but
//! for its VLAN tag, and for partial checksums as in rx. Where bridged IP passes the hooks of IP and nothing stands there, a
//! packet is validated and trimmed (br_validate_ipv4, br_validate_ipv6) as it would be by the kernel.
//!
//! The length that the MTU of a port bounds is without the tag that the kernel keeps beside the frame (is_skb_forwardable).

use super::bridge_check::{Head, Hooks, Member, Tagging, check, hooks, is_group, tagging};
use super::rx;
use crate::packet::{DropReason, Family, Flags, Frame, PortIndex, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::bridge::{Bridge, BridgePort, Vid};
use crate::table::conntrack::Ticks;
use crate::table::fdb::EntryFlags;
use crate::table::iface::{Iface, IfaceIndex};
use crate::wire::Mac;
use crate::wire::ether::{self, EtherType};
use crate::wire::vlan;
use std::cell::Cell;
use std::ops::ControlFlow::{Break, Continue};

/// A VLAN tag as it lies in a frame: protocol and control information; all 0 for none.
pub type Tag = [u8; 4];

/// A frame is longer than the MTU of its link by an Ethernet header and a tag, at most.
const AROUND_BYTES: usize = ether::HEADER_LEN + vlan::HEADER_LEN;

/// Where a frame goes.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// To the box: IP, arrived by the bridge.
    Up,
    /// Out by another port.
    Port(Exit<'a>),
}

/// The port by which a bridged frame leaves, and what becomes of its tag.
#[derive(Clone, Copy, Debug)]
pub struct Exit<'a> {
    /// The port.
    pub port: PortIndex,
    /// Its link.
    pub iface: &'a Iface,
    /// What becomes of the tag.
    pub retag: Retag,
    hooks: Hooks,
}

/// What becomes of a frame's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retag {
    /// It stays as it is.
    Keep,
    /// It goes in.
    Push(Tag),
    /// It goes out.
    Pop,
    /// Another control information goes in.
    Replace(u16),
}

/// What was decided of a frame, for those of its burst that follow it: of the same two stations, and of the same kind. Only of
/// an untagged frame that leaves as it came, of which nothing else but the length has a say. Nothing of it outlives the burst:
/// the next one may walk by another configuration, and the sender is to be seen anew.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    head: [u8; ether::HEADER_LEN],
    ethertype: EtherType,
    exit: PortIndex,
    room: usize,
}

impl Last {
    /// Of a frame that was bridged to `exit`.
    fn of(frame: &Frame, head: &Head, member: &Member<'_>, exit: &Exit<'_>) -> Option<Self> {
        let has_other_say = exit.hooks != Hooks::Off
            || exit.retag != Retag::Keep
            || head.tci.is_some()
            || head.outer == EtherType::IPV6 && member.bridge.neigh_suppress;
        let &head_bytes = frame.bytes().first_chunk()?;
        (!has_other_say).then_some(Self {
            head: head_bytes,
            ethertype: head.outer,
            exit: exit.port,
            room: room(exit.iface),
        })
    }

    #[inline(always)]
    fn is_followed_by(&self, bytes: &[u8]) -> bool {
        bytes.first_chunk() == Some(&self.head) && bytes.len() <= self.room
    }
}

/// Asks for what lookups of a burst's addresses will read.
#[inline(always)]
pub fn prefetch_all(burst: &[Frame], member: &Member<'_>) {
    let mut before = None;
    for frame in burst {
        let head = frame.bytes().first_chunk::<{ ether::HEADER_LEN }>();
        if head != before {
            prefetch(frame.bytes(), member);
        }
        before = head;
    }
}

/// Asks for what a lookup of the frame's addresses will read.
#[inline(always)]
pub fn prefetch(bytes: &[u8], member: &Member<'_>) {
    if let Continue(head) = Head::of(bytes)
        && let Some(tagging) = tagging(&head, member)
    {
        member.bridge.fdb.prefetch(&head.src, tagging.vid);
        member.bridge.fdb.prefetch(&head.dst, tagging.vid);
    }
}

/// Bridges a frame that arrived on `member`: it ends in a verdict, forwarded too, or goes up.
#[inline(always)]
pub fn bridge(
    frame: &mut Frame,
    member: &Member<'_>,
    last: &Cell<Option<Last>>,
    snapshot: &Snapshot,
    now: Ticks,
) -> Step<()> {
    if let Some(last) = last.get().filter(|last| last.is_followed_by(frame.bytes())) {
        rx::complete_inside(frame.bytes_mut(), ether::HEADER_LEN, last.ethertype);
        return Break(Verdict::Forward(last.exit));
    }
    let head = Head::of(frame.bytes())?;
    // Before anything may end in a punt: the kernel would take a partial one for whole.
    complete_checksum(frame, &head);
    let tagging = check(&head, member, now)?;
    match input(&head, &tagging, member, snapshot)? {
        To::Up => Continue(()),
        To::Port(exit) => {
            leave(frame, &exit)?;
            last.set(Last::of(frame, &head, member, &exit));
            Break(Verdict::Forward(exit.port))
        }
    }
}

/// Where a frame goes that passed bridge_check.
#[inline(always)]
pub fn input<'a>(head: &Head, tagging: &Tagging, member: &Member<'a>, snapshot: &'a Snapshot) -> Step<To<'a>> {
    let Some(hit) = member.bridge.fdb.lookup(&head.dst, tagging.vid) else {
        return Verdict::punt(PuntReason::BridgeUnknown);
    };
    if hit.entry.flags.any(EntryFlags::LOCAL) {
        return match goes_up(head, tagging, member) {
            true => Continue(To::Up),
            false => Verdict::punt(PuntReason::BridgeLocal),
        };
    }
    // A packet of the kernel's hooks would be seen by them before anything is dropped.
    let hooks = hooks(head, member);
    if hooks == Hooks::Kernel {
        return Verdict::punt(PuntReason::BridgeNetfilter);
    }
    let (iface, to, port) = exit(hit.entry.port, member.up.0, snapshot)?;
    if hit.entry.port == member.link.0 && !member.port.hairpin {
        return Verdict::drop(DropReason::BridgeSamePort);
    }
    if !to.forwarding {
        return Verdict::drop(DropReason::BridgeBlocked);
    }
    let filters = member.bridge.vlans.is_some();
    if filters && !to.vlans.contains(tagging.vid) {
        return Verdict::drop(DropReason::BridgeVlan);
    }
    if to.isolated && member.port.isolated {
        return Verdict::drop(DropReason::BridgeIsolated);
    }
    let retag = match filters {
        false => Retag::Keep,
        true => retag(head, tagging, to, member.bridge),
    };
    fits(head, tagging, iface, &retag, hooks)?;
    Continue(To::Port(Exit {
        port,
        iface,
        retag,
        hooks,
    }))
}

/// Whether a frame to a local address is one that IP gets by the bridge's link, without a tag.
#[inline(always)]
fn goes_up(head: &Head, tagging: &Tagging, member: &Member<'_>) -> bool {
    let untagged = |vid: Vid| match &member.bridge.vlans {
        None => head.tci.is_none(),
        Some(vlans) => !tagging.inside && vlans.contains(vid) && vlans.is_untagged(vid),
    };
    head.dst == member.up.1.mac && untagged(tagging.vid)
}

/// The link `index` as a port of the bridge at `bridge` by which frames may leave, as far as it is ours.
#[inline(always)]
fn exit(index: IfaceIndex, bridge: IfaceIndex, snapshot: &Snapshot) -> Step<(&Iface, &BridgePort, PortIndex)> {
    let of = |iface: &'_ Iface| {
        iface
            .bridge_port
            .as_deref()
            .filter(|port| port.bridge == bridge)
            .is_some()
    };
    let Some(iface) = snapshot.iface(index).filter(|iface| of(iface)) else {
        return Verdict::punt(PuntReason::EgressNotPort);
    };
    let (Some(to), Some(port)) = (iface.bridge_port.as_deref(), iface.port) else {
        return Verdict::punt(PuntReason::EgressNotPort);
    };
    if to.left_egress.is_some() || to.forwarding && !iface.up {
        return Verdict::punt(PuntReason::LeftEgress);
    }
    Continue((iface, to, port))
}

/// What becomes of the tag at `to`, where the bridge filters VLANs.
#[inline]
fn retag(head: &Head, tagging: &Tagging, to: &BridgePort, bridge: &Bridge) -> Retag {
    match (to.vlans.is_untagged(tagging.vid), tagging.inside) {
        (true, true) => Retag::Pop,
        (true, false) => Retag::Keep,
        (false, true) if head.tci == Some(tagging.tci) => Retag::Keep,
        (false, true) => Retag::Replace(tagging.tci),
        (false, false) => Retag::Push(tag(bridge, tagging.tci)),
    }
}

fn tag(bridge: &Bridge, tci: u16) -> Tag {
    let ([p0, p1], [t0, t1]) = (bridge.vlan_protocol.to_be_bytes(), tci.to_be_bytes());
    [p0, p1, t0, t1]
}

/// The length of a frame, without a tag, that may leave by the port.
#[inline(always)]
fn room(iface: &Iface) -> usize {
    iface.mtu[Family::V4 as usize] as usize + AROUND_BYTES
}

/// Whether a frame fits its way out.
#[inline(always)]
fn fits(head: &Head, tagging: &Tagging, iface: &Iface, retag: &Retag, hooks: Hooks) -> Step<()> {
    let beside = if tagging.inside { vlan::HEADER_LEN } else { 0 };
    let room = room(iface);
    if head.len - beside > room && hooks == Hooks::Off {
        return Verdict::drop(DropReason::BridgeMtu);
    }
    let len = match retag {
        Retag::Push(_) => head.len + vlan::HEADER_LEN,
        Retag::Pop => head.len - vlan::HEADER_LEN,
        Retag::Keep | Retag::Replace(_) => head.len,
    };
    // The kernel may have a tag beside such a frame, where it is in it here, or trim it first.
    if len > room {
        return Verdict::punt(PuntReason::MtuExceeded);
    }
    Continue(())
}

/// Gives a frame the form in which it leaves.
#[inline(always)]
pub fn leave(frame: &mut Frame, exit: &Exit<'_>) -> Step<()> {
    if exit.hooks == Hooks::Empty {
        validate(frame, exit)?;
    }
    match exit.retag {
        Retag::Keep => Continue(()),
        other => change_tag(frame, other),
    }
}

/// br_validate_ipv4, br_validate_ipv6; and what is longer than the MTU is fragmented, or not.
fn validate(frame: &mut Frame, exit: &Exit<'_>) -> Step<()> {
    let packet = rx::parse_any(frame, exit.port)?;
    if packet.family == Family::V6 && packet.flags.any(Flags::EXTENSION) {
        return Verdict::punt(PuntReason::Extension);
    }
    if u32::from(packet.l3_len()) > exit.iface.mtu[Family::V4 as usize] {
        return Verdict::punt(PuntReason::MtuExceeded);
    }
    frame.truncate(usize::from(packet.end));
    Continue(())
}

/// Completes a partial checksum, behind tags too; whether there was one.
#[inline(always)]
pub fn complete_checksum(frame: &mut Frame, head: &Head) -> bool {
    match head.outer {
        EtherType::IPV4 | EtherType::IPV6 => rx::complete_inside(frame.bytes_mut(), ether::HEADER_LEN, head.outer),
        outer if outer.is_tag() => complete_behind_tags(frame.bytes_mut()),
        _ => false,
    }
}

/// Two tags are looked behind: a bridge has one of its own, and one of its stations.
#[inline(never)]
fn complete_behind_tags(bytes: &mut [u8]) -> bool {
    const TAGS_MAX: usize = 2;
    let ethertype = |at: usize| match bytes.get(at - 2..at) {
        Some(&[high, low]) => EtherType(u16::from_be_bytes([high, low])),
        _ => EtherType(0),
    };
    let mut l3 = ether::HEADER_LEN;
    for _ in 0..TAGS_MAX {
        if ethertype(l3).is_tag() {
            l3 += vlan::HEADER_LEN;
        }
    }
    let ethertype = ethertype(l3);
    rx::complete_inside(bytes, l3, ethertype)
}

#[inline(never)]
fn change_tag(frame: &mut Frame, retag: Retag) -> Step<()> {
    const TCI: std::ops::Range<usize> = ether::HEADER_LEN..ether::HEADER_LEN + 2;
    let done = match retag {
        Retag::Keep => true,
        Retag::Push(tag) => frame.push_tag(tag),
        Retag::Pop => frame.pop_tag(),
        Retag::Replace(tci) => match frame.bytes_mut().get_mut(TCI) {
            Some(place) => {
                place.copy_from_slice(&tci.to_be_bytes());
                true
            }
            None => false,
        },
    };
    match done {
        true => Continue(()),
        false => Verdict::punt(PuntReason::Malformed),
    }
}

/// How a routed packet leaves a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub port: PortIndex,
    /// Its link.
    pub iface: IfaceIndex,
    /// The longest IP packet that fits there, in bytes; the bridge's own MTU may be lower.
    pub mtu: u32,
    /// The tag that it leaves with.
    pub tag: Tag,
}

/// By which port a routed packet leaves `bridge`, the link `index`, to `to`. What the bridge would drop is punted: by then
/// a connection may hang on it.
pub fn output((index, bridge): (IfaceIndex, &Bridge), to: &Mac, snapshot: &Snapshot) -> Step<Output> {
    if bridge.left.is_some() {
        return Verdict::punt(PuntReason::LeftEgress);
    }
    if is_group(to) {
        return Verdict::punt(PuntReason::BridgeUnknown);
    }
    let vid = match &bridge.vlans {
        None => 0,
        Some(vlans) if vlans.pvid == 0 || !vlans.contains(vlans.pvid) => {
            return Verdict::punt(PuntReason::LeftEgress);
        }
        Some(vlans) => vlans.pvid,
    };
    let Some(hit) = bridge.fdb.lookup(to, vid) else {
        return Verdict::punt(PuntReason::BridgeUnknown);
    };
    if hit.entry.flags.any(EntryFlags::LOCAL) {
        return Verdict::punt(PuntReason::BridgeLocal);
    }
    let (iface, egress, port) = exit(hit.entry.port, index, snapshot)?;
    let filters = bridge.vlans.is_some();
    if !egress.forwarding || filters && !egress.vlans.contains(vid) {
        return Verdict::punt(PuntReason::LeftEgress);
    }
    let (tag, beside) = match filters && !egress.vlans.is_untagged(vid) {
        true => (tag(bridge, vid), 0),
        false => (Tag::default(), vlan::HEADER_LEN as u32),
    };
    Continue(Output {
        port,
        iface: hit.entry.port,
        mtu: iface.mtu[Family::V4 as usize] + beside,
        tag,
    })
}
