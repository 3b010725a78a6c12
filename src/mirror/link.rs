//! Links: RTM_NEWLINK and RTM_DELLINK, and the dense [`IfaceIndex`] that each one gets.
//!
//! The same message carries the link's own sysctls (IFLA_AF_SPEC: `conf/<if>` of both families), so that ten thousand links
//! cost no file of /proc. The loopback always has index 0. The index of a link that is gone is used again only when no route
//! can name it any more: the kernel flushes IPv4 routes of a dead link without a word, so that is after routes were read
//! anew (see `fibs`). As net/core/rtnetlink.c (rtnl_fill_ifinfo), net/ipv4/devinet.c, net/ipv6/addrconf.c.
//!
//! Bounded by the width of an index, 65,536; a link beyond that gets none, and routes over it are left to the kernel.

use super::bridge::{BridgeConf, PortConf};
use super::netlink::{Attributes, Message, as_str, as_u32, u16_at, u32_at};
use crate::port::link::strips_vlan_tags;
use crate::table::iface::IfaceIndex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const HEADER: usize = 16;
const IFLA_GROUP: u16 = 27;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
/// IFLA_HSR_SLAVE1, SLAVE2, INTERLINK.
const HSR_LINKS: [u16; 3] = [1, 2, 8];
const IFLA_TUN_VNET_HDR: u16 = 5;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const BRIDGE: &str = "bridge";
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;

/// What control and the search for obstacles know of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's number.
    pub ifindex: u32,
    /// The kernel's name.
    pub name: Arc<str>,
    /// IFLA_INFO_KIND: "veth", "bridge", "vlan"; empty for a NIC.
    pub kind: String,
    /// Its group (`ip link set group`); 0 is the default one.
    pub group: u32,
    /// ARPHRD_*: 1 is Ethernet.
    pub hardware: u16,
    /// Its Ethernet address, zero if it has none.
    pub mac: [u8; 6],
    /// In bytes.
    pub mtu: u32,
    /// IFF_*.
    pub flags: u32,
    /// IF_OPER_*: 6 is up.
    pub operstate: u8,
    /// Whether there is carrier.
    pub carrier: bool,
    /// The ifindex of the bridge, bond or VRF it belongs to, 0 if none.
    pub master: u32,
    /// IFLA_LINK: the link it stands on, or a veth's peer; 0 if none.
    pub link: u32,
    /// The namespace that [`link`](Self::link) lives in, if it is another one.
    pub link_netnsid: Option<i32>,
    /// The links of a ring or of redundant networks (HSR, PRP), whose frames it takes without being their master.
    pub takes: Box<[u32]>,
    /// It is a TAP whose frames bear a virtio_net header, so that they may be segments which the guest has merged.
    pub vnet_hdr: bool,
    /// It takes frames that are not for it (IFLA_PROMISCUITY: by its flag, or for a device on it).
    pub promiscuous: bool,
    /// It had an XDP program when it last said anything of itself. (It says nothing when one comes or goes by a bpf_link.)
    pub has_xdp: bool,
    /// How many receive queues it has (as made; ethtool may use fewer).
    pub num_rx_queues: u32,
    /// How many transmit queues it has (as made).
    pub num_tx_queues: u32,
}

impl LinkInfo {
    /// Administratively up and with carrier: IFF_UP and IFF_RUNNING (which follows operstate) and IFF_LOWER_UP.
    pub fn is_up(&self) -> bool {
        const UP: u32 = (libc::IFF_UP | libc::IFF_RUNNING) as u32 | 1 << 16;
        self.flags & UP == UP
    }

    /// Administratively up, with carrier or not.
    pub fn is_admin_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// An Ethernet link: the only kind whose neighbours are carried.
    pub fn is_ethernet(&self) -> bool {
        self.hardware == libc::ARPHRD_ETHER
    }
}

/// `net.ipv4.conf.<if>` as far as it matters for forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conf4 {
    /// forwarding
    pub forwarding: bool,
    /// rp_filter: 0 off, 1 strict, 2 loose
    pub rp_filter: u32,
    /// send_redirects
    pub send_redirects: bool,
    /// accept_local
    pub accept_local: bool,
    /// accept_redirects
    pub accept_redirects: bool,
}

/// `net.ipv6.conf.<if>` as far as it matters for forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conf6 {
    /// forwarding
    pub forwarding: bool,
    /// force_forwarding (6.17)
    pub force_forwarding: bool,
    /// accept_redirects
    pub accept_redirects: bool,
    /// disable_ipv6
    pub disable_ipv6: bool,
    /// mtu
    pub mtu: u32,
}

/// A link with what mirror keeps about it. `None`: the link has no such family (an MTU below 1280 takes IPv6 away).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub info: LinkInfo,
    /// Its place in the snapshot, if there was one.
    pub index: Option<IfaceIndex>,
    /// Its IPv4 sysctls.
    pub conf4: Option<Conf4>,
    /// Its IPv6 sysctls.
    pub conf6: Option<Conf6>,
    /// The bridge that it is.
    pub bridge: Option<BridgeConf>,
    /// What it is as a port of the bridge that is its master.
    pub bridge_port: Option<PortConf>,
    /// A card that is a port of a bridge, and takes VLAN tags off before XDP.
    pub strips_tags: bool,
}

/// What a link message changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Anything at all.
    pub any: bool,
    /// A link came, went, or got another name.
    pub named: bool,
    /// Up, carrier or existence changed: the kernel may have flushed routes silently.
    pub state: bool,
    /// This link became a port of a bridge, or is one no more, or came as a bridge: its VLANs are others.
    pub member: Option<u32>,
    /// This link is new.
    pub new: Option<u32>,
    /// This index has no link any more.
    pub gone: Option<IfaceIndex>,
}

/// All links of the namespace, by ifindex.
#[derive(Debug, Default)]
pub struct Links {
    by_ifindex: BTreeMap<u32, Link>,
    /// How many places there are, used or not.
    pub places: usize,
    free: VecDeque<IfaceIndex>,
    retired: Vec<IfaceIndex>,
}

impl Links {
    /// The link with this ifindex.
    pub fn get(&self, ifindex: u32) -> Option<&Link> {
        self.by_ifindex.get(&ifindex)
    }

    /// The link with this ifindex, to change its sysctls.
    pub fn get_mut(&mut self, ifindex: u32) -> Option<&mut Link> {
        self.by_ifindex.get_mut(&ifindex)
    }

    /// The place of the link with this ifindex.
    pub fn index(&self, ifindex: u32) -> Option<IfaceIndex> {
        self.get(ifindex)?.index
    }

    /// The link of this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| &*link.info.name == name)
    }

    /// All of them, by ifindex.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_ifindex.values()
    }

    /// Takes in RTM_NEWLINK or RTM_DELLINK.
    pub fn apply(&mut self, message: Message<'_>) -> LinkChange {
        let Some((header, attributes)) = message.split(HEADER) else {
            return LinkChange::default();
        };
        let ifindex = u32_at(header, 4).unwrap_or_default();
        match i32::from(header[0]) {
            libc::AF_UNSPEC => {}
            libc::AF_BRIDGE => return self.apply_port(ifindex, message.kind, attributes),
            _ => return LinkChange::default(),
        }
        if message.kind == libc::RTM_DELLINK {
            return self.remove(ifindex);
        }
        let Some(mut new) = parse(header, attributes) else {
            return LinkChange::default();
        };
        // A change of an offload is told by a message that looks like the one before.
        let is_card = new.info.kind.is_empty() && new.bridge_port.is_some();
        new.strips_tags = is_card && strips_vlan_tags(&new.info.name);
        new.index = match self.by_ifindex.get(&ifindex) {
            Some(old) => old.index,
            None => self.take_index(ifindex),
        };
        let old = self.by_ifindex.get(&ifindex);
        let change = LinkChange {
            any: old != Some(&new),
            named: old.is_none_or(|old| old.info.name != new.info.name),
            state: old.is_some_and(|old| {
                let of = |link: &Link| (link.info.flags, link.info.carrier, link.info.mtu);
                of(old) != of(&new)
            }),
            member: {
                let of = |link: &Link| {
                    (
                        link.bridge_port.as_ref().map(|_| link.info.master),
                        link.bridge.is_some(),
                    )
                };
                (old.map_or((None, false), of) != of(&new)).then_some(ifindex)
            },
            new: old.is_none().then_some(ifindex),
            gone: None,
        };
        self.by_ifindex.insert(ifindex, new);
        change
    }

    /// Takes in what a bridge tells of its port, on the same group as links: some of it is told in this way only. A deleted
    /// one is a link that is a port no more.
    fn apply_port(&mut self, ifindex: u32, kind: u16, mut attributes: Attributes<'_>) -> LinkChange {
        let Some(link) = self.by_ifindex.get_mut(&ifindex) else {
            return LinkChange::default();
        };
        let new = match kind {
            libc::RTM_DELLINK => None,
            _ => attributes
                .find(|&(kind, _)| kind == libc::IFLA_PROTINFO)
                .and_then(|(_, data)| PortConf::parse(data)),
        };
        if new.is_none() && kind != libc::RTM_DELLINK {
            return LinkChange::default();
        }
        let any = link.bridge_port != new;
        let member = (link.bridge_port.is_some() != new.is_some()).then_some(ifindex);
        link.bridge_port = new;
        LinkChange {
            any,
            member,
            ..LinkChange::default()
        }
    }

    /// Takes a link out.
    pub fn remove(&mut self, ifindex: u32) -> LinkChange {
        let Some(link) = self.by_ifindex.remove(&ifindex) else {
            return LinkChange::default();
        };
        self.retired.extend(link.index);
        LinkChange {
            any: true,
            named: true,
            state: true,
            member: None,
            new: None,
            gone: link.index,
        }
    }

    /// The places of links that are gone may be used again: no route names them.
    pub fn release(&mut self) {
        self.free.extend(self.retired.drain(..));
    }

    fn take_index(&mut self, ifindex: u32) -> Option<IfaceIndex> {
        const LOOPBACK: u32 = 1;
        self.places = self.places.max(1); // index 0 is the loopback's
        if ifindex == LOOPBACK {
            return Some(IfaceIndex(0));
        }
        if let Some(index) = self.free.pop_front() {
            return Some(index);
        }
        let index = u16::try_from(self.places).ok().map(IfaceIndex)?;
        self.places += 1;
        Some(index)
    }
}

/// Reads RTM_NEWLINK; `None` for the short ones that wireless drivers send as events.
fn parse(header: &[u8], attributes: Attributes<'_>) -> Option<Link> {
    let mut info = LinkInfo {
        ifindex: u32_at(header, 4)?,
        name: Arc::from(""),
        kind: String::new(),
        group: 0,
        hardware: u16_at(header, 2)?,
        mac: [0; 6],
        mtu: 0,
        flags: u32_at(header, 8)?,
        operstate: 0,
        carrier: false,
        master: 0,
        link: 0,
        link_netnsid: None,
        takes: Box::default(),
        vnet_hdr: false,
        promiscuous: false,
        has_xdp: false,
        num_rx_queues: 1,
        num_tx_queues: 1,
    };
    let (mut conf4, mut conf6) = (None, None);
    let (mut bridge, mut bridge_port) = (None, None);
    for (kind, value) in attributes {
        match kind {
            libc::IFLA_IFNAME => info.name = as_str(value).into(),
            libc::IFLA_ADDRESS => info.mac = value.try_into().unwrap_or_default(),
            IFLA_GROUP => info.group = as_u32(value),
            libc::IFLA_MTU => info.mtu = as_u32(value),
            libc::IFLA_OPERSTATE => info.operstate = value.first().copied().unwrap_or_default(),
            libc::IFLA_MASTER => info.master = as_u32(value),
            libc::IFLA_LINK => info.link = as_u32(value),
            IFLA_LINK_NETNSID => info.link_netnsid = Some(as_u32(value) as i32),
            IFLA_PROMISCUITY => info.promiscuous = as_u32(value) != 0,
            IFLA_XDP => info.has_xdp = nested(value, IFLA_XDP_ATTACHED).is_some_and(|mode| mode != [0]),
            IFLA_CARRIER => info.carrier = value.first() == Some(&1),
            IFLA_NUM_RX_QUEUES => info.num_rx_queues = as_u32(value),
            IFLA_NUM_TX_QUEUES => info.num_tx_queues = as_u32(value),
            libc::IFLA_LINKINFO => {
                info.kind = nested(value, IFLA_INFO_KIND).map(as_str).unwrap_or_default();
                if info.kind == BRIDGE {
                    bridge = Some(nested(value, IFLA_INFO_DATA).map(BridgeConf::parse).unwrap_or_default());
                }
                if info.kind == "hsr" {
                    let taken = Attributes(nested(value, IFLA_INFO_DATA).unwrap_or_default());
                    info.takes = taken
                        .filter(|(kind, _)| HSR_LINKS.contains(kind))
                        .map(|(_, link)| as_u32(link))
                        .collect();
                }
                if info.kind == "tun" {
                    let vnet_hdr = nested(value, IFLA_INFO_DATA).and_then(|data| nested(data, IFLA_TUN_VNET_HDR));
                    info.vnet_hdr = vnet_hdr.is_some_and(|is_on| is_on != [0]);
                }
                if nested(value, IFLA_INFO_SLAVE_KIND).is_some_and(|kind| as_str(kind) == BRIDGE) {
                    bridge_port = nested(value, IFLA_INFO_SLAVE_DATA).and_then(PortConf::parse);
                }
            }
            libc::IFLA_AF_SPEC => {
                let conf = |af: i32, kind| nested(nested(value, af as u16)?, kind);
                conf4 = conf(libc::AF_INET, IFLA_INET_CONF).map(conf4_of);
                conf6 = conf(libc::AF_INET6, IFLA_INET6_CONF).map(conf6_of);
            }
            _ => {}
        }
    }
    (info.mtu != 0).then_some(Link {
        info,
        index: None,
        conf4,
        conf6,
        bridge,
        bridge_port,
        strips_tags: false,
    })
}

/// The first attribute of `kind` in a nest.
fn nested(nest: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(nest).find(|&(k, _)| k == kind).map(|(_, value)| value)
}

/// The array of IPV4_DEVCONF_* (linux/ip.h), which count from 1.
fn conf4_of(array: &[u8]) -> Conf4 {
    let value = |number: usize| u32_at(array, (number - 1) * 4).unwrap_or_default();
    Conf4 {
        forwarding: value(1) != 0,
        rp_filter: value(8),
        send_redirects: value(6) != 0,
        accept_local: value(23) != 0,
        accept_redirects: value(4) != 0,
    }
}

/// The array of DEVCONF_* (linux/ipv6.h), which count from 0.
fn conf6_of(array: &[u8]) -> Conf6 {
    const FORCE_FORWARDING: usize = 59;
    let value = |number: usize| u32_at(array, number * 4).unwrap_or_default();
    Conf6 {
        forwarding: value(0) != 0,
        force_forwarding: value(FORCE_FORWARDING) != 0,
        accept_redirects: value(4) != 0,
        disable_ipv6: value(26) != 0,
        mtu: value(2),
    }
}
