//! Table types in words: how routes and neighbours of a snapshot look in reports.
//!
//! Tables hold numbers (an address is a `u128`, a link an index); people and JSON get what `ip` would print.
//! A link that is gone meanwhile is named by its index.

mod bridge;
mod policing;
mod qdisc;

pub use bridge::{bridges, fdb};
pub use policing::policers;
pub use qdisc::qdiscs;

use super::report;
use crate::packet::{Addr, Family};
use crate::table::Snapshot;
use crate::table::fib::{Gateway, Nexthop, Prefix, Route, RouteKind};
use crate::table::iface::IfaceIndex;

/// `inet` or `inet6`, as `ip` names families.
pub fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    }
}

/// The name of a link; its number where it is gone.
pub fn dev(snapshot: &Snapshot, index: IfaceIndex) -> String {
    match snapshot.iface(index) {
        Some(iface) if iface.ifindex != 0 => iface.name.to_string(),
        _ => format!("gone{}", index.0),
    }
}

/// The report on a route to `to`, found in the kernel's `table`.
pub fn route(snapshot: &Snapshot, of: Family, table: u32, to: Prefix, route: &Route) -> report::Route {
    let kind = match route.kind {
        RouteKind::Unicast => "unicast",
        RouteKind::Local => "local",
        RouteKind::Broadcast => "broadcast",
        RouteKind::Refused => "refused",
        RouteKind::Throw => "throw",
    };
    report::Route {
        family: family(of).into(),
        table,
        destination: to.show(of),
        kind: kind.into(),
        nexthops: route.nexthops.iter().map(|hop| nexthop(snapshot, hop)).collect(),
        mtu: (route.mtu != 0).then_some(route.mtu),
        left: route.left.as_deref().map(str::to_owned),
    }
}

fn nexthop(snapshot: &Snapshot, hop: &Nexthop) -> report::Nexthop {
    let via = match hop.gateway {
        Gateway::Onlink => None,
        Gateway::Via(family, addr) => Some(family.show(addr).to_string()),
    };
    report::Nexthop {
        via,
        dev: dev(snapshot, hop.iface),
    }
}

/// The report on a neighbour, as [`Neighbors::iter`](crate::table::neighbor::Neighbors::iter) yields it.
pub fn neighbor(snapshot: &Snapshot, on: IfaceIndex, of: Family, addr: Addr, mac: [u8; 6]) -> report::Neighbor {
    let lladdr: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    report::Neighbor {
        family: family(of).into(),
        address: of.show(addr).to_string(),
        dev: dev(snapshot, on),
        lladdr: lladdr.join(":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::iface::Iface;
    use std::sync::Arc;

    #[test]
    fn a_route_and_a_neighbour_read_as_ip_prints_them() {
        let iface = Iface {
            ifindex: 3,
            name: "d1".into(),
            ..Iface::default()
        };
        let snapshot = Snapshot {
            ifaces: Arc::new(vec![Iface::default(), iface]),
            ..Snapshot::default()
        };
        let hops = [
            Nexthop {
                iface: IfaceIndex(1),
                gateway: Gateway::Via(Family::V6, 0xfe80 << 112 | 1),
            },
            Nexthop {
                iface: IfaceIndex(0),
                gateway: Gateway::Onlink,
            },
        ];
        let made = Route {
            kind: RouteKind::Unicast,
            nexthops: hops.into(),
            mtu: 1400,
            left: None,
        };
        let to = Prefix {
            addr: 0x0a00_0000,
            len: 8,
        };
        let row = route(&snapshot, Family::V4, 254, to, &made);
        assert_eq!(
            (row.destination.as_str(), row.mtu, row.kind.as_str()),
            ("10.0.0.0/8", Some(1400), "unicast")
        );
        assert_eq!(
            row.nexthops[0],
            report::Nexthop {
                via: Some("fe80::1".into()),
                dev: "d1".into()
            }
        );
        assert_eq!(
            row.nexthops[1],
            report::Nexthop {
                via: None,
                dev: "gone0".into()
            }
        );

        let row = neighbor(&snapshot, IfaceIndex(1), Family::V6, 1, [2, 0, 0, 0, 0xab, 1]);
        assert_eq!(
            (row.address.as_str(), row.dev.as_str(), row.lladdr.as_str()),
            ("::1", "d1", "02:00:00:00:ab:01")
        );
    }
}
