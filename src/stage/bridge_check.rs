//! bridge_check: did the frame arrive on a port of a bridge, in which VLAN, and is its sender known behind this port?
//!
//! ```text
//!  Here: the port is none ----> rx, as ever
//!     \-> Member: its bridge, where what goes up arrives ----> check: VLAN (ingress) -> source ----> bridging
//!                                                                      \--> drop, punt  \--> punt: new, moved; drop: not let in
//! ```
//!
//! As br_handle_frame, br_handle_frame_finish (net/bridge/br_input.c) and __allowed_ingress (net/bridge/br_vlan.c). The
//! kernel's bridge is the only one that learns: a frame of a sender that it would enter, move or refuse is punted whole, before
//! anything else is done, and what it learned comes back as an event. Who is known is marked as seen, so that control can
//! keep the entry alive where the kernel does not see the frames any more. Where a port does not learn and is not locked, or
//! the bridge forgets at once (ageing time 0), nobody asks for the sender, and nobody is marked. What a locked port keeps out
//! without a word is lost here, where the whole of the database is known.
//!
//! The VLAN of a frame is that of its tag, where that is of the bridge's protocol; else the port's own (PVID), and a tag of
//! another protocol belongs to what the frame carries. A bridge that does not filter VLANs does not look: they all are 0. A
//! tagged frame that does not get in is punted: before the bridge sees it, the kernel gives it to a VLAN device on the port
//! (vlan_do_receive), which does not show here where another namespace has it.

use crate::packet::{DropReason, Family, PortIndex, PuntReason, Step, Verdict};
use crate::table::Snapshot;
use crate::table::bridge::{Bridge, BridgePort, Vid};
use crate::table::conntrack::Ticks;
use crate::table::fdb::EntryFlags;
use crate::table::iface::{Iface, IfaceIndex};
use crate::wire::ether::{self, EtherType};
use crate::wire::{Mac, ipv6, vlan};
use std::ops::ControlFlow::Continue;

/// What stands around bridged IP packets of a family (net/bridge/br_netfilter_hooks.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// Nothing: they are frames like others.
    Off,
    /// The hooks of IP, where nothing stands: a packet is validated and loses its padding, no more.
    Empty,
    /// The hooks of IP, where something stands: they walk through them.
    Ip,
    /// The hooks of IP, where something stands that is not carried: they are the kernel's.
    Kernel,
}

/// The port of arrival as a bridge's, looked up once for a burst.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The port's link.
    pub link: (IfaceIndex, &'a Iface),
    /// What it is as a port.
    pub port: &'a BridgePort,
    /// The bridge.
    pub bridge: &'a Bridge,
    /// The bridge's link: by that, what goes up arrives.
    pub up: (IfaceIndex, &'a Iface),
    /// By [`Family`].
    pub hooks: [Hooks; 2],
    /// Nothing that arrives here is carried.
    pub is_left: bool,
    /// No frame meets any hook that does something.
    pub is_plain: bool,
    checks_source: bool,
}

/// The link by which IP sees packets arrive that came in by `port`: its own, or its bridge's; none for a port that just went
/// away, or whose bridge is not known.
pub fn arrival(snapshot: &Snapshot, port: PortIndex) -> (Option<(IfaceIndex, &Iface)>, Option<Member<'_>>) {
    match snapshot.port(port) {
        Some((index, iface)) if iface.bridge_port.is_some() => {
            let member = Member::of((index, iface), snapshot);
            (member.map(|member| member.up), member)
        }
        link => (link, None),
    }
}

impl<'a> Member<'a> {
    /// `link` as a port of its bridge.
    pub fn of(link: (IfaceIndex, &'a Iface), snapshot: &'a Snapshot) -> Option<Self> {
        let port = link.1.bridge_port.as_deref()?;
        let up = (port.bridge, snapshot.iface(port.bridge)?);
        let bridge = up.1.bridge.as_deref()?;
        let hooks = |family: Family| {
            let here = up.1.family(family);
            let rules = &snapshot.rules;
            let something_stands = !rules.sum(family).is_nothing
                || !rules.bridged.is_nothing()
                || snapshot.conntrack.tracked[family as usize];
            match (bridge.nf_call[family as usize], something_stands) {
                (false, _) => Hooks::Off,
                // What stands at the hooks of IP and is not carried leaves the family.
                _ if here.left.is_some() => Hooks::Kernel,
                (true, false) => Hooks::Empty,
                _ if here.left_egress.is_some() => Hooks::Kernel,
                // A bridge that filters VLANs has tags beside frames, and packets with such are none for some of the hooks.
                _ if bridge.vlans.is_some() || rules.bridged.beside_ip => Hooks::Kernel,
                (true, true) => Hooks::Ip,
            }
        };
        let hooks = Family::ALL.map(hooks);
        let learns = port.learning && bridge.ageing_time != 0;
        Some(Self {
            link,
            port,
            bridge,
            up,
            hooks,
            is_plain: snapshot.rules.bridged.is_nothing() && !hooks.contains(&Hooks::Ip),
            is_left: !port.forwarding || port.left.is_some() || bridge.left.is_some(),
            checks_source: learns || port.locked,
        })
    }
}

impl Member<'_> {
    /// Why nothing that arrives here is carried, in words for the log.
    pub fn why_left(&self) -> Option<String> {
        let (port, bridge) = (&self.link.1.name, &self.up.1.name);
        match (&self.port.left, &self.bridge.left) {
            (Some(why), _) => Some(format!("{port}: {why}")),
            (None, Some(why)) => Some(format!("{bridge}: {why}")),
            (None, None) => (!self.port.forwarding).then(|| format!("{port}: not forwarding in {bridge}")),
        }
    }
}

/// The head of a frame, as far as bridging looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// To whom.
    pub dst: Mac,
    /// From whom.
    pub src: Mac,
    /// What follows the addresses: a tag's protocol, or the frame's type.
    pub outer: EtherType,
    /// The outer tag's control information.
    pub tci: Option<u16>,
    /// What follows the outer tag; without one, as `outer`.
    pub inner: EtherType,
    /// A neighbour solicitation or advertisement, behind the outer tag too.
    pub is_neighbor_discovery: bool,
    /// The frame's length in bytes.
    pub len: usize,
}

/// A tag, behind the addresses: its protocol, its control information, and a type.
const TAGGED_LEN_MIN: usize = ether::HEADER_LEN + 6;

impl Head {
    /// Of the frame `bytes`. A frame that ends in its header or tag is malformed: the kernel drops it.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Step<Self> {
        let Some(&[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]) = bytes.first_chunk() else {
            return Verdict::punt(PuntReason::Malformed);
        };
        let outer = EtherType(u16::from_be_bytes([t0, t1]));
        let (mut tci, mut inner) = (None, outer);
        if outer.is_tag() {
            let Some(&[t0, t1, i0, i1, ..]) = bytes.get(ether::HEADER_LEN..TAGGED_LEN_MIN) else {
                return Verdict::punt(PuntReason::Malformed);
            };
            tci = Some(u16::from_be_bytes([t0, t1]));
            inner = EtherType(u16::from_be_bytes([i0, i1]));
        }
        Continue(Self {
            dst: [d0, d1, d2, d3, d4, d5],
            src: [s0, s1, s2, s3, s4, s5],
            outer,
            tci,
            inner,
            is_neighbor_discovery: inner == EtherType::IPV6 && is_neighbor_discovery(bytes, tci.is_some()),
            len: bytes.len(),
        })
    }
}

/// The VLAN of a frame, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagging {
    /// Its number; 0 where the bridge does not filter VLANs.
    pub vid: Vid,
    /// The control information that it leaves with, where it leaves with a tag.
    pub tci: u16,
    /// The frame has it in a tag of the bridge's protocol.
    pub inside: bool,
}

const VID_MASK: u16 = 0x0fff;

/// The VLAN of a frame that arrived on `member`; `None` where it does not get in.
#[inline(always)]
pub fn tagging(head: &Head, member: &Member<'_>) -> Option<Tagging> {
    if member.bridge.vlans.is_none() {
        let (vid, tci, inside) = (0, 0, head.tci.is_some());
        return Some(Tagging { vid, tci, inside });
    }
    let vlans = &member.port.vlans;
    let inside = head.outer.0 == member.bridge.vlan_protocol;
    let mut tci = head.tci.filter(|_| inside).unwrap_or(0);
    if tci & VID_MASK == 0 {
        if vlans.pvid == 0 {
            return None;
        }
        tci |= vlans.pvid;
    }
    let vid = tci & VID_MASK;
    vlans.contains(vid).then_some(Tagging { vid, tci, inside })
}

/// Checks a frame that arrived on `member` at `now`: whether it is one to bridge, its VLAN, its sender.
#[inline(always)]
pub fn check(head: &Head, member: &Member<'_>, now: Ticks) -> Step<Tagging> {
    if member.is_left {
        return Verdict::punt(PuntReason::LeftIngress);
    }
    let is_answered = is_answered(head.inner) || head.is_neighbor_discovery && member.bridge.neigh_suppress;
    if is_group(&head.dst) || is_answered {
        return Verdict::punt(PuntReason::NotOurs);
    }
    if is_group(&head.src) || head.src == [0; 6] {
        return Verdict::punt(PuntReason::BridgeSource);
    }
    let Some(tagging) = tagging(head, member) else {
        return stranger(head, member);
    };
    if member.checks_source {
        source(head, &tagging, member, now)?;
    }
    Continue(tagging)
}

#[inline(always)]
fn source(head: &Head, tagging: &Tagging, member: &Member<'_>, now: Ticks) -> Step<()> {
    let Some(hit) = member.bridge.fdb.lookup(&head.src, tagging.vid) else {
        return refused(head, member, EntryFlags::default());
    };
    let flags = hit.entry.flags;
    let is_here = hit.entry.port == member.link.0;
    let stays = is_here || flags.any(EntryFlags::STICKY) && !member.port.locked;
    if !stays || flags.any(EntryFlags::LOCAL | EntryFlags::LOCKED) {
        return refused(head, member, flags);
    }
    if member.port.learning {
        hit.see(now);
    }
    Continue(())
}

/// A frame of no VLAN that gets in.
#[cold]
#[inline(never)]
fn stranger(head: &Head, member: &Member<'_>) -> Step<Tagging> {
    // The hooks come before.
    if hooks(head, member) == Hooks::Kernel {
        return Verdict::punt(PuntReason::BridgeNetfilter);
    }
    match head.tci {
        Some(tci) if tci & VID_MASK != 0 => Verdict::punt(PuntReason::BridgeTag),
        _ => Verdict::drop(DropReason::BridgeVlan),
    }
}

/// A sender that the kernel would learn, move or refuse; `flags` are those of what is known of it. A locked port refuses it
/// without a word, but for an entry that says so (`locked`), which it renews, and with `mab`, which makes such entries.
#[cold]
#[inline(never)]
fn refused(head: &Head, member: &Member<'_>, flags: EntryFlags) -> Step<()> {
    let port = member.port;
    let is_silent = port.locked && !port.mab && !flags.any(EntryFlags::LOCKED) && member.bridge.fdb.is_whole();
    // The hooks come before.
    match hooks(head, member) {
        Hooks::Off | Hooks::Empty if is_silent => Verdict::drop(DropReason::BridgeLocked),
        _ => Verdict::punt(PuntReason::BridgeSource),
    }
}

/// What stands around the frame as an IP packet. One in a tag is none, for br_netfilter.
#[inline(always)]
pub fn hooks(head: &Head, member: &Member<'_>) -> Hooks {
    match head.outer {
        EtherType::IPV4 => member.hooks[Family::V4 as usize],
        EtherType::IPV6 => member.hooks[Family::V6 as usize],
        _ => Hooks::Off,
    }
}

/// ICMPv6 of these types, which a bridge with `neigh_suppress` may answer or keep (br_do_suppress_nd).
#[inline(always)]
fn is_neighbor_discovery(bytes: &[u8], is_tagged: bool) -> bool {
    const NEXT_HEADER_AT: usize = 6;
    const ICMPV6: u8 = 58;
    let l3 = ether::HEADER_LEN + if is_tagged { vlan::HEADER_LEN } else { 0 };
    let byte = |at: usize| bytes.get(l3 + at).copied();
    byte(NEXT_HEADER_AT) == Some(ICMPV6) && matches!(byte(ipv6::HEADER_LEN), Some(135 | 136))
}

/// Multicast or broadcast.
#[inline(always)]
pub fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 != 0
}

/// Types that the kernel's bridge looks into, and answers or keeps: ARP, RARP, 802.1X, MRP, CFM. As in bpf/steer.bpf.c, and behind
/// a tag, which the kernel has taken off by then.
#[inline(always)]
fn is_answered(ethertype: EtherType) -> bool {
    matches!(ethertype.0, 0x0806 | 0x8035 | 0x888e | 0x88e3 | 0x8902)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::bridge::Vlans;

    fn member<'a>(port: &'a BridgePort, bridge: &'a Bridge, iface: &'a Iface) -> Member<'a> {
        Member {
            link: (IfaceIndex(1), iface),
            port,
            bridge,
            up: (IfaceIndex(0), iface),
            hooks: [Hooks::Off; 2],
            is_left: false,
            is_plain: true,
            checks_source: true,
        }
    }

    fn head(outer: u16, tci: Option<u16>) -> Head {
        Head {
            dst: [2, 0, 0, 0, 0, 1],
            src: [2, 0, 0, 0, 0, 2],
            outer: EtherType(outer),
            tci,
            inner: EtherType::IPV4,
            is_neighbor_discovery: false,
            len: 64,
        }
    }

    #[test]
    fn the_vlan_is_that_of_the_tag_or_the_ports() {
        let mut port = BridgePort::default();
        for (vid, untagged) in [(10, true), (20, false)] {
            port.vlans.insert(vid, untagged);
        }
        port.vlans.pvid = 10;
        let bridge = Bridge {
            vlans: Some(Vlans::default()),
            vlan_protocol: 0x8100,
            ..Bridge::default()
        };
        let iface = Iface::default();
        let here = member(&port, &bridge, &iface);
        let vlan = |outer, tci| tagging(&head(outer, tci), &here).map(|t| (t.vid, t.tci, t.inside));
        assert_eq!(vlan(0x0800, None), Some((10, 10, false)), "untagged: the port's");
        assert_eq!(vlan(0x8100, Some(0x6014)), Some((20, 0x6014, true)));
        assert_eq!(vlan(0x8100, Some(0x6000)), Some((10, 0x600a, true)), "a priority alone");
        assert_eq!(vlan(0x8100, Some(30)), None);
        assert_eq!(vlan(0x8100, Some(0x0fff)), None);
        assert_eq!(
            vlan(0x88a8, Some(20)),
            Some((10, 10, false)),
            "a tag of another protocol"
        );
        let mut none = port.clone();
        none.vlans.pvid = 0;
        let here = member(&none, &bridge, &iface);
        assert_eq!(tagging(&head(0x0800, None), &here), None);
        assert_eq!(tagging(&head(0x8100, Some(0)), &here), None);
        assert!(tagging(&head(0x8100, Some(10)), &here).is_some());
    }

    #[test]
    fn frames_that_end_in_their_header_are_malformed() {
        let malformed = Verdict::punt(PuntReason::Malformed);
        let mut frame = vec![2u8; 12];
        assert_eq!(Head::of(&frame), malformed);
        frame.extend([0x81, 0x00, 0x20, 0x05, 0x08]);
        assert_eq!(Head::of(&frame), malformed);
        frame.extend([0, 0, 0]);
        assert_eq!(Head::of(&frame).map_continue(|head| head.tci), Continue(Some(0x2005)));
        assert!(matches!(Head::of(&[2; 14]), Continue(Head { tci: None, .. })));
    }
}
