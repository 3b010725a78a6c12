//! The small box with a bridge in it: stations behind three ports of br0, and a routed port d1 as in the plain box.
//!
//! ```text
//!   stations 0.. -- v0 (port 0) \
//!                   v2 (port 2) -- br0, 10.0.0.1/24 [ box ] d1 (port 1) -- 10.1.0.0/24, routes by 10.1.0.2
//!                   v3 (port 3) /
//! ```
#![allow(dead_code)]

use super::lab;
use bypath::packet::{Family, PortIndex};
use bypath::table::Snapshot;
use bypath::table::bridge::{Bridge, BridgePort, Vid};
use bypath::table::fdb::{Entry, EntryFlags};
use bypath::table::iface::{Iface, IfaceIndex};
use std::sync::Arc;

/// The bridge's link; its address is that of d0 in the plain box.
pub const BR0: IfaceIndex = IfaceIndex(0);

/// The ports of the bridge.
pub const MEMBERS: [PortIndex; 3] = [PortIndex(0), PortIndex(2), PortIndex(3)];

/// The link of a port.
pub fn link(port: PortIndex) -> IfaceIndex {
    IfaceIndex([2, 1, 3, 4][usize::from(port.0)])
}

/// The Ethernet address of station `n`.
pub fn station(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 7, n]
}

/// The source of [`lab::udp`].
pub const SENDER: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// Station `n`'s address in the bridge's network.
pub fn host(family: Family, n: u8) -> u128 {
    lab::net(family, 0).0 | (100 + u128::from(n))
}

/// A box whose bridge learns, filters no VLANs, and knows station 0 and [`SENDER`] behind port 0, station 2 behind port 2,
/// station 3 behind port 3. Routes as in [`lab::snapshot`].
pub fn snapshot(routes: u32, far: [u8; 6]) -> Snapshot {
    let mut snapshot = lab::snapshot(routes, far);
    let ifaces = Arc::make_mut(&mut snapshot.ifaces);
    let member = ifaces[0].clone();
    ifaces[0] = Iface {
        name: "br0".into(),
        kind: "bridge".into(),
        port: None,
        bridge: Some(Arc::new(Bridge {
            vlan_protocol: 0x8100,
            ageing_time: 30_000,
            ..Bridge::default()
        })),
        ..member.clone()
    };
    for port in MEMBERS {
        ifaces.push(Iface {
            ifindex: 10 + u32::from(port.0),
            name: format!("v{}", port.0).into(),
            mac: [2, 0, 0, 0, 0, 0x10 + port.0 as u8],
            port: Some(port),
            bridge_port: Some(Arc::new(BridgePort {
                bridge: BR0,
                forwarding: true,
                learning: true,
                ..BridgePort::default()
            })),
            ..member.clone()
        });
    }
    snapshot.ports = Arc::new((0..4).map(|port| Some(link(PortIndex(port)))).collect());
    learn(&snapshot, lab::mac(0), 0, BR0, EntryFlags::LOCAL);
    for port in MEMBERS {
        learn(&snapshot, station(port.0 as u8), 0, link(port), 0);
        for family in Family::ALL {
            let (addr, mac) = (host(family, port.0 as u8), station(port.0 as u8));
            snapshot.neighbors.insert(BR0, family, addr, mac);
        }
    }
    learn(&snapshot, SENDER, 0, link(PortIndex(0)), 0);
    snapshot
}

/// The bridge filters VLANs: all are in VLAN 1, without a tag.
pub fn filter_vlans(snapshot: &mut Snapshot) {
    let vlans = bridge_mut(snapshot).vlans.insert(Default::default());
    vlans.insert(1, true);
    vlans.pvid = 1;
    for port in MEMBERS {
        let vlans = &mut port_mut(snapshot, port).vlans;
        vlans.insert(1, true);
        vlans.pvid = 1;
    }
    let entries: Vec<_> = bridge(snapshot).fdb.iter().collect();
    for (mac, _, entry, _) in entries {
        learn(snapshot, mac, 1, entry.port, entry.flags.0);
    }
}

/// Enters an address into the bridge's FDB.
pub fn learn(snapshot: &Snapshot, mac: [u8; 6], vid: Vid, port: IfaceIndex, flags: u8) {
    let flags = EntryFlags(flags);
    bridge(snapshot)
        .fdb
        .insert(&mac, vid, Entry { port, flags })
        .expect("room for an entry");
}

/// The bridge.
pub fn bridge(snapshot: &Snapshot) -> &Bridge {
    let iface = snapshot.iface(BR0).expect("br0");
    iface.bridge.as_ref().expect("a bridge")
}

/// The bridge's link, to be changed.
pub fn br0(snapshot: &mut Snapshot) -> &mut Iface {
    &mut Arc::make_mut(&mut snapshot.ifaces)[usize::from(BR0.0)]
}

/// The bridge, to be changed.
pub fn bridge_mut(snapshot: &mut Snapshot) -> &mut Bridge {
    Arc::make_mut(br0(snapshot).bridge.as_mut().expect("a bridge"))
}

/// A port's link, to be changed.
pub fn iface_mut(snapshot: &mut Snapshot, port: PortIndex) -> &mut Iface {
    &mut Arc::make_mut(&mut snapshot.ifaces)[usize::from(link(port).0)]
}

/// A port of the bridge, to be changed.
pub fn port_mut(snapshot: &mut Snapshot, port: PortIndex) -> &mut BridgePort {
    let iface = iface_mut(snapshot, port);
    Arc::make_mut(iface.bridge_port.as_mut().expect("a port of the bridge"))
}

/// A frame from `src` to `dst` of `len` bytes behind its header, which is `head`: a type, or tags and a type.
pub fn frame(dst: [u8; 6], src: [u8; 6], head: &[u8], len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
    [&dst[..], &src[..], head, &payload].concat()
}

/// A UDP packet between two stations' addresses, from `src` to `dst` on Ethernet, with `payload` bytes.
pub fn udp(family: Family, dst: [u8; 6], src: [u8; 6], payload: usize) -> Vec<u8> {
    let mut packet = lab::udp(family, host(family, dst[5]), payload);
    packet[..6].copy_from_slice(&dst);
    packet[6..12].copy_from_slice(&src);
    packet
}
