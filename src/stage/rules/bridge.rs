//! A frame as the rules of family bridge see it: its bytes, its tag, its ports and their bridge.
//!
//! ```text
//!  frame    | dst | src | tag | type | network header ...                 as it came; the tag may be another, or none, on its way out
//!  payload  link: as on the wire, with the tag that it has by now         network: behind all that, to the frame's end
//!           transport: only where the IP header is right and fits
//!  meta     length: from the network header to the frame's end, padding too; links are ports, none where the kernel has none
//! ```
//!
//! The kernel takes the outermost tag off the frame when it comes in, and keeps it beside it (skb_vlan_untag); loads of the link
//! layer put it back (nft_payload_copy_vlan). What is behind a second tag has no network header of IP. A frame of IPv6 with
//! extension headers is not judged here ([`Layers::is_known`]).
//!
//! `table::rules::carried` lists the keys that have an answer, and a test compares. As nft_do_chain_bridge of
//! net/netfilter/nft_chain_filter.c, nft_set_pktinfo_ipv{4,6}_validate, nft_meta_bridge.c.

use crate::stage::prerouting::Aside;
use crate::table::Snapshot;
use crate::table::bridge::Bridge;
use crate::table::iface::Iface;
use crate::table::rules::expr::{Base, ChecksumFix};
use crate::table::rules::interpret::{Changes, Interpreter, Outcome};
use crate::table::rules::keys::{CtKey, MetaKey};
use crate::table::rules::live::{BridgePoint, Rules};
use crate::table::rules::packet::{Answer, Fact, Packet};
use crate::table::rules::program::NFPROTO_BRIDGE;
use crate::wire::ether::{self, EtherType};
use crate::wire::{Mac, ipv4, ipv6, vlan};

/// Bytes of both addresses.
const MACS_LEN: usize = 12;
/// PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST.
const HOST: u8 = 0;
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;
const OTHERHOST: u8 = 3;

/// A tag as it lies in a frame: the type that announces it, and its control information.
pub type Tag = [u8; 4];

/// Where the layers of a frame begin, found once for all hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// The outermost tag that it came with.
    pub tag: Option<Tag>,
    /// Where the network header starts: behind that tag.
    pub l3: usize,
    /// Behind that tag, the type.
    pub ethertype: EtherType,
    /// Of a right packet of IP, what it carries.
    transport: Option<Transport>,
    /// Whether all of it is known here.
    pub is_known: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    proto: u8,
    at: usize,
    is_later_fragment: bool,
}

impl Layers {
    /// Those of a frame; none if it is shorter than its headers.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let frame = ether::Packet::new_checked(bytes).ok()?;
        let (mut l3, mut ethertype, mut tag) = (ether::HEADER_LEN, frame.ethertype(), None);
        if ethertype.is_tag() {
            let it = vlan::Packet::new_checked(frame.payload()).ok()?;
            tag = bytes.get(MACS_LEN..MACS_LEN + 4)?.first_chunk().copied();
            (l3, ethertype) = (l3 + vlan::HEADER_LEN, it.ethertype());
        }
        // Of a tagged frame that is shorter the kernel cannot take the tag off.
        let network = bytes.get(l3..).filter(|network| tag.is_none() || network.len() >= 2)?;
        let (transport, is_known) = match ethertype {
            EtherType::IPV4 => (transport_v4(network, l3), true),
            EtherType::IPV6 => transport_v6(network, l3),
            _ => (None, true),
        };
        Some(Self {
            tag,
            l3,
            ethertype,
            transport,
            is_known,
        })
    }
}

fn transport_v4(network: &[u8], l3: usize) -> Option<Transport> {
    let ip = ipv4::Packet::new_checked(network).ok()?;
    Some(Transport {
        proto: ip.protocol().0,
        at: l3 + ip.header_len(),
        is_later_fragment: ip.fragment_offset() != 0,
    })
}

fn transport_v6(network: &[u8], l3: usize) -> (Option<Transport>, bool) {
    let Ok(ip) = ipv6::Packet::new_checked(network) else {
        return (None, true);
    };
    if ip.next_header().is_extension() {
        return (None, false);
    }
    let transport = Transport {
        proto: ip.next_header().0,
        at: l3 + ipv6::HEADER_LEN,
        is_later_fragment: false,
    };
    (Some(transport), true)
}

/// A frame at a hook of its bridge.
#[derive(Debug)]
pub struct AtBridge<'a> {
    /// As it came, but for its destination.
    pub bytes: &'a [u8],
    /// Its destination by now.
    pub dst: Mac,
    /// Its layers.
    pub layers: &'a Layers,
    /// The tag that it has at this hook.
    pub tag: Option<Tag>,
    /// The port of arrival; none behind forward, and for what comes from routing.
    pub iif: Option<&'a Iface>,
    /// The port of departure, from forward on.
    pub oif: Option<&'a Iface>,
    /// Whom it is for (PACKET_*): see [`pkttype`].
    pub pkttype: u8,
    /// Its mark and its priority.
    pub aside: &'a mut Aside,
    /// The configuration.
    pub snapshot: &'a Snapshot,
}

/// Whom a frame is for that came in by a port of a bridge: the box, if it bears the port's address or the bridge's
/// (eth_type_trans, br_handle_frame).
pub fn pkttype(dst: &Mac, port: &Mac, bridge: &Mac) -> u8 {
    match dst {
        _ if *dst == [0xff; 6] => BROADCAST,
        [first, ..] if first & 1 != 0 => MULTICAST,
        _ if dst == port || dst == bridge => HOST,
        _ => OTHERHOST,
    }
}

/// What the rules there say of the frame. What they changed for it is added to `changes`, and can be taken back.
pub fn run(mut at: AtBridge<'_>, point: BridgePoint, rules: &Rules, now_ns: u64, changes: &mut Changes) -> Outcome {
    let before = std::mem::take(changes);
    let mut interpreter = Interpreter::new(&rules.ruleset, &rules.state, now_ns).going_on_from(before);
    let outcome = rules.bridged.run(point, &mut interpreter, &mut at);
    *changes = interpreter.into_changes();
    outcome
}

impl AtBridge<'_> {
    /// skb->protocol: the type, or what stands for a length (eth_type_trans, vlan_set_encap_proto).
    fn protocol(&self) -> [u8; 2] {
        const ETH_P_802_3: [u8; 2] = [0, 1];
        const ETH_P_802_2: [u8; 2] = [0, 4];
        const LENGTHS_END: u16 = 0x600;
        match self.layers.ethertype {
            EtherType(length) if length < LENGTHS_END => match self.bytes.get(self.layers.l3..self.layers.l3 + 2) {
                Some([0xff, 0xff]) => ETH_P_802_3,
                _ => ETH_P_802_2,
            },
            EtherType(it) => it.to_be_bytes(),
        }
    }

    /// One byte of the frame as it is on the wire by now.
    fn on_the_wire(&self, at: usize) -> Option<u8> {
        let Layers { l3, ethertype, .. } = *self.layers;
        let (tag, ethertype) = match &self.tag {
            Some(tag) => (&tag[..], self.protocol()),
            None => (&[][..], ethertype.0.to_be_bytes()),
        };
        if let Some(byte) = self.dst.get(at) {
            return Some(*byte);
        }
        let Some(behind) = at.checked_sub(MACS_LEN) else {
            return self.bytes.get(at).copied();
        };
        if let Some(byte) = tag.get(behind) {
            return Some(*byte);
        }
        let behind = behind - tag.len();
        match ethertype.get(behind) {
            Some(byte) => Some(*byte),
            None => self.bytes.get(l3 + behind - ethertype.len()).copied(),
        }
    }

    fn link(&self, offset: usize, out: &mut [u8]) -> Answer {
        /// From there to there kernels before 6.4 take the inner one of two tags for something else.
        const INNER_TAG: std::ops::Range<usize> = 18..22;
        if self.tag.is_some() && self.layers.ethertype.is_tag() && INNER_TAG.contains(&offset) {
            return Answer::Unknown;
        }
        for (at, byte) in (offset..).zip(out) {
            match self.on_the_wire(at) {
                Some(it) => *byte = it,
                None => return Answer::Break,
            }
        }
        Answer::Done
    }

    fn bridge_of(&self, port: Option<&Iface>) -> Option<(&Iface, &Bridge)> {
        let bridge = self.snapshot.iface(port?.bridge_port.as_ref()?.bridge)?;
        Some((bridge, bridge.bridge.as_ref()?))
    }

    /// A fact of the bridge of arrival where it filters VLANs.
    fn of_filtering(&self, fact: impl FnOnce(&Iface, &Bridge) -> Fact) -> Fact {
        match (self.iif, self.bridge_of(self.iif)) {
            (Some(port), Some((_, bridge))) if bridge.vlans.is_some() => fact(port, bridge),
            _ => Fact::Absent,
        }
    }
}

impl Packet for AtBridge<'_> {
    fn nfproto(&self) -> u8 {
        NFPROTO_BRIDGE
    }

    fn length(&self) -> u32 {
        (self.bytes.len() - self.layers.l3) as u32
    }

    fn l4proto(&self) -> Option<u8> {
        Some(self.layers.transport?.proto)
    }

    fn is_later_fragment(&self) -> bool {
        self.layers.transport.is_some_and(|it| it.is_later_fragment)
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        let from = match (base, self.layers.transport) {
            (Base::Link, _) => return self.link(offset, out),
            (Base::Network, _) => self.layers.l3,
            (Base::Transport, Some(it)) => it.at,
            (Base::Transport, None) => return Answer::Break,
        };
        match self.bytes.get(from + offset..from + offset + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn meta(&self, key: MetaKey) -> Fact {
        let (iif, oif) = (self.iif, self.oif);
        let group = |link: Option<&Iface>| link.map_or(Fact::Absent, |link| Fact::U32(link.group));
        let name = |link: Option<&Iface>| Fact::name(link.map_or("", |link| &link.name));
        let bridge = |link| name(self.bridge_of(link).map(|(bridge, _)| bridge));
        match key {
            MetaKey::Protocol => Fact::Bytes2(self.protocol()),
            MetaKey::Mark => Fact::U32(self.aside.mark),
            MetaKey::Priority => Fact::U32(self.aside.priority),
            MetaKey::Iif => Fact::U32(iif.map_or(0, |link| link.ifindex)),
            MetaKey::Oif => Fact::U32(oif.map_or(0, |link| link.ifindex)),
            MetaKey::Iifname => name(iif),
            MetaKey::Oifname => name(oif),
            // That of the link at which the frame is, whatever the kernel calls it.
            MetaKey::Iiftype => Fact::U16(1),
            // ARPHRD_ETHER: a bridge has no other ports.
            MetaKey::Oiftype => oif.map_or(Fact::Absent, |_| Fact::U16(1)),
            MetaKey::Iifgroup => group(iif),
            MetaKey::Oifgroup => group(oif),
            MetaKey::Iifkind => iif.map_or(Fact::Absent, super::kind),
            MetaKey::Oifkind => oif.map_or(Fact::Absent, super::kind),
            MetaKey::Skuid | MetaKey::Skgid | MetaKey::Cgroup => Fact::Absent,
            MetaKey::Pkttype => Fact::U8(self.pkttype),
            MetaKey::BriIifname => bridge(iif),
            MetaKey::BriOifname => bridge(oif),
            MetaKey::BriIifpvid => self.of_filtering(|port, _| {
                let pvid = port.bridge_port.as_ref().map(|port| port.vlans.pvid);
                pvid.map_or(Fact::Absent, Fact::U16)
            }),
            MetaKey::BriIifvproto => self.of_filtering(|_, bridge| Fact::Bytes2(bridge.vlan_protocol.to_be_bytes())),
            _ => Fact::Unknown,
        }
    }

    fn ct(&self, _: CtKey, _: Option<bool>) -> Fact {
        Fact::Unknown
    }

    fn random(&mut self) -> Option<u32> {
        Some(self.aside.random.next_u32())
    }

    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer {
        match key {
            MetaKey::Mark => self.aside.mark = u32::from_ne_bytes(value),
            MetaKey::Priority => self.aside.set_priority(u32::from_ne_bytes(value)),
            _ => return Answer::Unknown,
        }
        Answer::Done
    }

    fn set_ct(&mut self, _: CtKey, _: Option<bool>, _: [u8; 16]) -> Answer {
        Answer::Unknown
    }

    fn store(&mut self, _: Base, _: usize, _: &[u8], _: ChecksumFix) -> Answer {
        Answer::Unknown
    }

    fn store_tcp(&mut self, _: usize, _: &[u8]) -> Answer {
        Answer::Unknown
    }
}

#[cfg(test)]
mod tests;
