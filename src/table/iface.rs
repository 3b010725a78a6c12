//! The interfaces of the namespace, as far as forwarding asks about them.
//!
//! One record per link, ports of this process or not; routes and neighbours name a link by its dense [`IfaceIndex`], not by
//! the kernel's sparse ifindex. What a link's addresses are is asked by masquerade alone ([`Source`]).

use super::bridge::{Bridge, BridgePort};
use super::police::Policing;
use super::qdisc::Shaping;
use crate::packet::{Addr, Family, PortIndex};
use std::sync::Arc;

/// A link's place in [`Snapshot::ifaces`](super::Snapshot::ifaces). Stable while the link lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfaceIndex(pub u16);

/// Why something is left to the kernel, in words for an operator: "nft table inet fw, chain forward: base chain".
/// `None` where it is carried.
pub type Left = Option<Arc<str>>;

/// Source validation, `rp_filter` (the maximum of `conf/all` and the interface's own). RFC 3704.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpFilter {
    /// No check but for martians and the box's own addresses.
    #[default]
    Off,
    /// The route back must leave by the interface of arrival.
    Strict,
    /// There must be a route back.
    Loose,
}

/// What holds for one family on one interface, when a packet arrives on it.
#[derive(Clone, Debug, Default)]
pub struct IfaceFamily {
    /// Packets that arrive here are forwarded (IPv4: the interface's `forwarding`; IPv6: `conf/all/forwarding` or the
    /// interface's `force_forwarding`).
    pub forwarding: bool,
    /// IPv4 source validation; always `Off` for IPv6, which has none outside netfilter.
    pub rp_filter: RpFilter,
    /// `accept_local`: the box's own addresses may be a source.
    pub accept_local: bool,
    /// The kernel sends redirects when a packet leaves by the interface it came in on (IPv4 `send_redirects`; IPv6 always).
    pub redirects: bool,
    /// Traffic of this family that arrives here stays with the kernel.
    pub left: Left,
    /// Traffic of this family that would leave here stays with the kernel.
    pub left_egress: Left,
}

/// A link.
#[derive(Clone, Debug, Default)]
pub struct Iface {
    /// The kernel's number, unique in the namespace.
    pub ifindex: u32,
    /// The kernel's name.
    pub name: Arc<str>,
    /// Its group, for rules.
    pub group: u32,
    /// Its kind: "veth", "bridge"; empty for a card.
    pub kind: Arc<str>,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The longest IP packet it sends, in bytes, by family (IPv6: `conf/<if>/mtu`).
    pub mtu: [u32; 2],
    /// Administratively up and with carrier.
    pub up: bool,
    /// The port of this process that it is, if it is one.
    pub port: Option<PortIndex>,
    /// What it is as a port of a bridge, if it is one.
    pub bridge_port: Option<Arc<BridgePort>>,
    /// The bridge that it is, if it is one.
    pub bridge: Option<Arc<Bridge>>,
    /// What polices what arrives here, if it is a port and anything does.
    pub policing: Option<Arc<Policing>>,
    /// How what leaves here is shaped.
    pub shaping: Shaping,
    /// What would leave here is the kernel's for now, and `shaping` is for what waits here since before: it leaves by that, and
    /// nothing is charged to it, for the kernel may take all of the rate.
    pub drains: bool,
    /// What holds per family, indexed by [`Family`].
    pub family: [IfaceFamily; 2],
    /// Its addresses that others may see the box by, indexed by [`Family`], in the kernel's order.
    pub sources: [Arc<[Source]>; 2],
}

/// An address of a link, of global scope: IPv4's primary ones; IPv6's that are neither tentative nor deprecated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub addr: Addr,
    /// Of a point-to-point link the peer's, else the same.
    pub peer: Addr,
    /// Of the subnet, in bits.
    pub prefix_len: u8,
}

impl Source {
    /// Whether the IPv4 address `to` is in its subnet (inet_ifa_match).
    pub fn covers(&self, to: Addr) -> bool {
        let mask = u32::MAX
            .checked_shl(32 - u32::from(self.prefix_len.min(32)))
            .unwrap_or(0);
        (self.peer ^ to) as u32 & mask == 0
    }
}

impl Iface {
    /// What holds here for `family`.
    #[inline]
    pub fn family(&self, family: Family) -> &IfaceFamily {
        &self.family[family as usize]
    }
}
