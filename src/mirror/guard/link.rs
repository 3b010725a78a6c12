//! Links: a port that has a master, or on which another device sits; and the same of a bridge that has ports of ours.
//!
//! A master (bond, team, VRF, Open vSwitch) takes the frames of its member, or routes them elsewhere; but for a bridge, which
//! is carried: IP arrives by its own link, and what stands there stands in the path of IP. A macvlan,
//! ipvlan or macsec device takes frames that arrive on the device below it (`rx_handler` in net/core/dev.c). Devices that
//! sit on a port and take nothing that the kernel would have routed from it are listed in [`HARMLESS`]. A VLAN is not among
//! them: a driver (rxvlan) or a veth's peer (txvlan) may keep the tag beside the frame, where XDP does not see it, and the
//! frame looks like one of the port's own.
//!
//! An upper device in another namespace does not show among the links here. A macvlan there has its own Ethernet address,
//! whose frames are never ours (but in its modes passthru and source); an ipvlan shares the port's, and is not seen.

use super::findings::{Collector, Way};
use crate::packet::Family;
use std::sync::Arc;

/// Kinds whose IFLA_LINK names a port from which they take nothing that would be routed: pairs (it is the peer), and tunnels
/// (their packets are addressed to the box).
const HARMLESS: &[&str] = &[
    "veth",
    "netkit",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ipip",
    "sit",
    "ip6tnl",
    "vti",
    "vti6",
    "vxlan",
    "geneve",
    "bareudp",
    "xfrm",
    "wireguard",
];

/// What the guard must know of a link; the caller fills it from its own mirror of the links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// The kernel's number.
    pub ifindex: u32,
    /// The kernel's name.
    pub name: Arc<str>,
    /// IFLA_INFO_KIND, none for a physical device.
    pub kind: Option<String>,
    /// IFLA_MASTER.
    pub master: Option<u32>,
    /// IFLA_LINK: the link that it sits on, or its peer.
    pub link: Option<u32>,
    /// IFLA_LINK_NETNSID: set where `link` is a number of another namespace.
    pub link_netnsid: Option<i32>,
    /// Whether it is a port of this process.
    pub is_port: bool,
    /// The links of a ring or of redundant networks (HSR, PRP), whose frames it takes without being their master.
    pub takes: Box<[u32]>,
    /// It had an XDP program when it last said anything of itself.
    pub has_xdp: bool,
    /// What of it the kernel gets unasked, if anything.
    pub unasked: Option<Unasked>,
}

/// What of a port no program redirects, so that the kernel gets it and nobody asks whose connection it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// It is a TAP whose guest may merge segments beyond the MTU.
    Tap,
    /// Segments that were merged beyond the MTU have come.
    Merged,
    /// What comes on some of its receive queues.
    Queues {
        /// Receive queues in use.
        rx: u32,
        /// ... with a socket.
        sockets: u32,
    },
}

impl LinkFacts {
    /// Whether it is a bridge of the kernel.
    pub(super) fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }
}

pub(super) fn read(found: &mut Collector, links: &[LinkFacts]) {
    for (ifindex, _) in found.passed() {
        let Some(port) = links.iter().find(|l| l.ifindex == ifindex) else {
            continue;
        };
        let master = |ifindex: u32| links.iter().find(|l| l.ifindex == ifindex);
        match port.master.map(|ifindex| (ifindex, master(ifindex))) {
            None => {}
            Some((_, Some(master))) if master.is_bridge() => {}
            Some((ifindex, master)) => {
                let kind = master.and_then(|m| m.kind.as_deref()).unwrap_or("device");
                let name = master.map_or_else(|| ifindex.to_string(), |m| m.name.to_string());
                found.leave_port(
                    port.ifindex,
                    Way::Both,
                    format!("{} is a member of {kind} {name}", port.name),
                    "only plain ports and those of bridges are carried; `ip link set DEV nomaster`",
                );
            }
        }
        if port.kind.as_deref() == Some("netkit") {
            let text = format!(
                "{} is a netkit device, whose BPF programs decide where its packets go",
                port.name
            );
            found.leave_port(
                port.ifindex,
                Way::Both,
                text,
                "BPF programs in the path are not carried",
            );
        }
    }
    for ring in links {
        for &taken in &ring.takes {
            found.leave_port(
                taken,
                Way::Both,
                format!("hsr {} takes what arrives", ring.name),
                "links of HSR and PRP are not carried; delete it, or use another port",
            );
        }
    }
    for upper in links {
        let (Some(below), None) = (upper.link, upper.link_netnsid) else {
            continue;
        };
        if below == upper.ifindex || upper.kind.as_deref().is_some_and(|k| HARMLESS.contains(&k)) {
            continue;
        }
        let kind = upper.kind.as_deref().unwrap_or("device");
        let text = format!("{kind} {} sits on the port and may take what arrives", upper.name);
        found.leave_port(
            below,
            Way::Ingress,
            text,
            "devices on top of a port are not carried; delete it, or use another port",
        );
    }
}

/// Leaves the families whose connections are tracked where the kernel gets some of a port unasked: it would meet packets of
/// connections that it does not know. Of a bridge's port, IP is what passes by the bridge. After tracking was read.
pub(super) fn read_unasked(found: &mut Collector, links: &[LinkFacts]) {
    let tracked: Vec<Family> = Family::ALL.into_iter().filter(|f| found.is_tracked(*f)).collect();
    if tracked.is_empty() {
        return;
    }
    for port in links.iter().filter(|link| link.is_port) {
        let Some(unasked) = port.unasked else { continue };
        let name = &port.name;
        let (what, remedy) = match unasked {
            Unasked::Tap => (
                format!("the guest of the TAP {name} may merge segments, which no socket has room for"),
                "a TAP without vnet_hdr is carried (QEMU: `-netdev tap,vnet_hdr=off`)".to_owned(),
            ),
            Unasked::Merged => (
                format!("segments that were merged arrive on {name}, which no socket has room for"),
                "turn that off at its other end, `ethtool -K DEV tso off gso off`, and start again".to_owned(),
            ),
            Unasked::Queues { rx, sockets } => (
                format!("{name} receives on {rx} queues and has sockets on {sockets}"),
                format!("as many of both, `ethtool -L {name}`, and start again"),
            ),
        };
        let bridge = links.iter().find(|l| Some(l.ifindex) == port.master && l.is_bridge());
        let by = bridge.map_or(port.ifindex, |bridge| bridge.ifindex);
        let text = format!("{what}: the kernel gets these, and must know their connections");
        found.leave_tracked((port.ifindex, by), &tracked, text, &remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, kind: &str, master: Option<u32>) -> LinkFacts {
        LinkFacts {
            ifindex,
            name: format!("{kind}{ifindex}").into(),
            kind: Some(kind.into()),
            master,
            is_port: kind == "veth",
            ..LinkFacts::default()
        }
    }

    #[test]
    fn a_bridge_takes_nothing_from_its_port_and_other_masters_do() {
        let links = [
            link(1, "veth", Some(8)),
            link(2, "veth", Some(9)),
            link(3, "veth", Some(77)),
            link(7, "vrf", None),
            link(8, "bridge", Some(7)),
            link(9, "bond", None),
            link(10, "bridge", Some(7)),
        ];
        let mut found = Collector::new(&links);
        read(&mut found, &links);
        let found = found.finish();
        let mut left: Vec<_> = found.by_iface.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3, 8], "{:#?}", found.notes);
        assert!(found.bridging.is_empty());
        let why = |ifindex| {
            found
                .on(ifindex, crate::packet::Family::V4)
                .unwrap()
                .egress
                .clone()
                .unwrap()
        };
        assert_eq!(&*why(2), "veth2 is a member of bond bond9");
        assert_eq!(&*why(3), "veth3 is a member of device 77");
        assert_eq!(&*why(8), "bridge8 is a member of vrf vrf7");
    }

    /// What is tracked is left both ways, on the bridge where the port is a bridge's: that bridges on.
    #[test]
    fn what_the_kernel_gets_unasked_leaves_what_is_tracked() {
        let unasked = |link: LinkFacts, unasked| LinkFacts {
            unasked: Some(unasked),
            ..link
        };
        let queues = Unasked::Queues { rx: 4, sockets: 2 };
        let links = [
            unasked(link(1, "veth", None), queues),
            link(2, "veth", None),
            unasked(link(3, "veth", Some(8)), Unasked::Merged),
            link(8, "bridge", None),
        ];
        let left = |tracked: &[Family]| {
            let mut found = Collector::new(&links);
            found.track(tracked, String::new());
            read_unasked(&mut found, &links);
            found.finish()
        };
        assert!(!left(&[]).leaves());
        let found = left(&[Family::V4]);
        let mut by: Vec<_> = found.by_iface.keys().copied().collect();
        by.sort_unstable();
        assert_eq!(by, [1, 8], "{:#?}", found.notes);
        assert!(found.bridging.is_empty());
        for ifindex in by {
            let v4 = found.on(ifindex, Family::V4).unwrap();
            assert!(v4.ingress.is_some() && v4.egress == v4.ingress);
            assert!(
                found
                    .on(ifindex, Family::V6)
                    .is_none_or(|v6| v6.ingress.is_none() && v6.egress.is_none())
            );
        }
        let scopes: Vec<String> = found.notes.iter().map(|note| note.scope.to_string()).collect();
        assert_eq!(scopes, ["veth1", "veth3"]);
    }

    #[test]
    fn rings_of_hsr_take_what_arrives_without_being_masters() {
        let ring = LinkFacts {
            takes: [1, 3].into(),
            ..link(9, "hsr", None)
        };
        let links = [link(1, "veth", None), link(2, "veth", None), ring];
        let mut found = Collector::new(&links);
        read(&mut found, &links);
        let found = found.finish();
        assert_eq!(found.by_iface.keys().collect::<Vec<_>>(), [&1], "{:#?}", found.notes);
    }
}
