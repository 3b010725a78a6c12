//! A small box in memory, for tests and benches of the walk: two ports that route, some routes, resolved neighbours.
//!
//! ```text
//!   10.0.0.0/24 -- d0 [ box ] d1 -- 10.1.0.0/24, and whatever routes the test adds, by gateway 10.1.0.2
//! ```
#![allow(dead_code)]

use bypath::packet::{Family, PortIndex};
use bypath::table::Snapshot;
use bypath::table::fib::{Fib, Gateway, Nexthop, Route, RouteKind, TABLE_LOCAL, TABLE_MAIN};
use bypath::table::iface::{Iface, IfaceFamily, IfaceIndex};
use bypath::wire::{checksum, ipv4};
use std::sync::Arc;

/// The Ethernet address of port `n` of the box.
pub fn mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

/// What a gateway on the far side answers to; equal to `mac(0)` in benches, so that a frame can walk again.
pub const FAR: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// Ports d0 and d1, forwarding both families, MTU 1500.
pub fn ifaces() -> Vec<Iface> {
    let iface = |n: u16| Iface {
        ifindex: u32::from(n) + 1,
        name: format!("d{n}").into(),
        mac: mac(n as u8),
        mtu: [1500, 1500],
        up: true,
        port: Some(PortIndex(n)),
        family: [
            IfaceFamily {
                forwarding: true,
                redirects: true,
                ..IfaceFamily::default()
            },
            IfaceFamily {
                forwarding: true,
                redirects: true,
                ..IfaceFamily::default()
            },
        ],
        ..Iface::default()
    };
    vec![iface(0), iface(1)]
}

/// A unicast route out of `iface`.
pub fn route(iface: u16, gateway: Gateway) -> Arc<Route> {
    let nexthops = Box::new([Nexthop {
        iface: IfaceIndex(iface),
        gateway,
    }]);
    Arc::new(Route {
        kind: RouteKind::Unicast,
        nexthops,
        mtu: 0,
        left: None,
    })
}

/// A box with `routes` IPv4 routes /24 (and as many IPv6 /48) beside its connected ones, all by the far gateway whose
/// Ethernet address is `far`.
pub fn snapshot(routes: u32, far: [u8; 6]) -> Snapshot {
    let mut snapshot = Snapshot {
        generation: 1,
        ifaces: Arc::new(ifaces()),
        ..Snapshot::default()
    };
    snapshot.ports = Arc::new(vec![Some(IfaceIndex(0)), Some(IfaceIndex(1))]);
    let local = Arc::new(Route {
        kind: RouteKind::Local,
        nexthops: Box::default(),
        mtu: 0,
        left: None,
    });
    for family in Family::ALL {
        let fib = &mut snapshot.fib[family as usize];
        *fib = Fib::with_default_rules(family);
        let local_table = fib.table(TABLE_LOCAL);
        fib.tables[local_table]
            .1
            .insert(own(family), family.bits(), local.clone());
        let main = fib.table(TABLE_MAIN);
        let main = &mut fib.tables[main].1;
        let (connected, len) = net(family, 1);
        main.insert(connected, len, route(1, Gateway::Onlink));
        let (near, len) = net(family, 0);
        main.insert(near, len, route(0, Gateway::Onlink));
        let via = route(1, Gateway::Via(family, gateway(family)));
        for n in 0..routes {
            let (addr, len) = destination_net(family, n);
            main.insert(addr, len, via.clone());
        }
        snapshot.neighbors.insert(IfaceIndex(1), family, gateway(family), far);
    }
    snapshot
}

/// The box's own address on d0.
pub fn own(family: Family) -> u128 {
    net(family, 0).0 | 1
}

/// The far gateway, on d1.
pub fn gateway(family: Family) -> u128 {
    net(family, 1).0 | 2
}

/// The network on d0 (`side` 0) or d1 (1).
pub fn net(family: Family, side: u128) -> (u128, u8) {
    match family {
        Family::V4 => (0x0a00_0000 | side << 16, 24),
        Family::V6 => (0x2001_0db8 << 96 | side << 64, 64),
    }
}

/// The `n`-th network behind the far gateway; spread, so that tables are as deep as real ones.
pub fn destination_net(family: Family, n: u32) -> (u128, u8) {
    let spread = u128::from(n.wrapping_mul(0x9e37_79b1));
    match family {
        Family::V4 => ((0x1400_0000 + (spread & 0x3fff_ff00)) & 0xffff_ff00, 24),
        Family::V6 => (0x2a00 << 112 | (spread & 0xffff_ffff) << 80, 48),
    }
}

/// A UDP packet of `family` from the network on d0 to `dst`, with `payload` bytes behind its header and correct checksums.
pub fn udp(family: Family, dst: u128, payload: usize) -> Vec<u8> {
    use etherparse::PacketBuilder;
    let src = net(family, 0).0 | 77;
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], mac(0));
    let builder = match family {
        Family::V4 => ethernet.ipv4((src as u32).to_be_bytes(), (dst as u32).to_be_bytes(), 255),
        Family::V6 => ethernet.ipv6(src.to_be_bytes(), dst.to_be_bytes(), 255),
    };
    let builder = builder.udp(5000, 6000);
    let body = vec![0x5a; payload];
    let mut packet = Vec::with_capacity(builder.size(payload));
    builder.write(&mut packet, &body).expect("writing to a vector");
    packet
}

/// Gives a packet of IPv4 another TOS.
pub fn set_tos(packet: &mut [u8], tos: u8) {
    let mut ip = ipv4::Packet::new_checked(&mut packet[14..]).expect("IPv4");
    let check = checksum::update16(ip.checksum(), ip.tos().into(), tos.into());
    ip.set_tos(tos);
    ip.set_checksum(check);
}
