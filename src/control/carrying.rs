//! What a snapshot means for steer and for the exchange: which families a port carries, what changes when the next snapshot
//! comes into force, and which addresses are the box's own.
//!
//! Plain functions of snapshots: instance.rs calls them in the order that keeps traffic safe.

use super::ports::{Bridged, Carry};
use super::steer::LocalKind;
use crate::packet::{Family, PortIndex};
use crate::stage::bridge_check::{Hooks, Member, arrival};
use crate::table::Snapshot;
use crate::table::fib::{RouteKind, TABLE_LOCAL};
use std::net::IpAddr;
use std::sync::Arc;

/// What steer is told to redirect on `port`; `None` if it is no port. Of a bridge's port, IP is what arrives by the bridge.
pub fn carry(snapshot: &Snapshot, port: PortIndex) -> Option<Carry> {
    let (_, link) = snapshot.port(port)?;
    let mtu = link.mtu[Family::V4 as usize];
    let (arrival, member) = arrival(snapshot, port);
    let Some((_, iface)) = arrival else {
        // A bridge that is not known.
        return Some(Carry {
            mtu,
            bridging: Some(Bridged::default()),
            ..Carry::default()
        });
    };
    let is_open = member.is_none_or(|member| !member.is_left);
    let of = |family: Family| is_open && iface.family(family).forwarding && iface.family(family).left.is_none();
    let bridged = |member: Member<'_>| Bridged {
        family: member.hooks.map(|hooks| is_open && hooks != Hooks::Kernel),
        other: is_open,
    };
    Some(Carry {
        mac: iface.mac,
        family: Family::ALL.map(of),
        tracked: snapshot.conntrack.tracked,
        nat: snapshot.conntrack.nat,
        bridging: member.map(bridged),
        mtu,
    })
}

/// The families whose connections are tracked and that some port stops carrying.
pub fn lets_go_of_connections(before: &Snapshot, after: &Snapshot) -> [bool; 2] {
    let carried = |snapshot: &Snapshot, port: usize, family: Family| {
        carry(snapshot, PortIndex(port as u16)).is_some_and(|carry| carry.family[family as usize])
    };
    Family::ALL.map(|family| {
        before.conntrack.tracked[family as usize]
            && (0..before.ports.len()).any(|port| carried(before, port, family) && !carried(after, port, family))
    })
}

/// Why a port does not carry one of `families`, in words for the log.
pub fn why_left(snapshot: &Snapshot, families: [bool; 2]) -> String {
    let of_families = |family: &Family| families[*family as usize];
    for port in 0..snapshot.ports.len() {
        let (Some((_, iface)), member) = arrival(snapshot, PortIndex(port as u16)) else {
            continue;
        };
        if let Some(why) = member.and_then(|member| member.why_left()) {
            return why;
        }
        for family in Family::ALL.into_iter().filter(of_families) {
            let here = iface.family(family);
            match &here.left {
                Some(why) => return format!("{}: {why}", iface.name),
                None if !here.forwarding => return format!("{}: forwarding is off", iface.name),
                None => {}
            }
        }
    }
    "a port is gone".into()
}

/// Leaves the families that are tracked to the kernel, on every link.
pub fn leave_tracked(snapshot: &mut Snapshot, why: &str) {
    eprintln!("bypath: {why}; traffic that the kernel tracks is left to it");
    let tracked = snapshot.conntrack.tracked;
    for iface in Arc::make_mut(&mut snapshot.ifaces) {
        for (family, _) in iface.family.iter_mut().zip(tracked).filter(|(_, tracked)| *tracked) {
            family.left = Some(why.into());
            family.left_egress = Some(why.into());
        }
    }
}

/// What holds under either snapshot: carried by both, and given to the worker first where one of them tracks or translates.
pub fn both(new: Carry, old: Carry) -> Carry {
    let family = [0, 1].map(|family| new.family[family] && old.family[family]);
    let bridging = new.bridging.map(|new| {
        let old = old.bridging.unwrap_or_default();
        Bridged {
            family: [0, 1].map(|family| new.family[family] && old.family[family]),
            other: new.other && old.other,
        }
    });
    let either = |new: [bool; 2], old: [bool; 2]| [new[0] || old[0], new[1] || old[1]];
    Carry {
        family,
        tracked: either(new.tracked, old.tracked),
        nat: either(new.nat, old.nat),
        bridging,
        ..new
    }
}

/// The box's own and broadcast addresses: the host routes of the local tables.
pub fn local_addresses(snapshot: &Snapshot) -> Vec<(IpAddr, LocalKind)> {
    let mut addresses = Vec::new();
    for family in Family::ALL {
        let fib = snapshot.fib(family);
        for (_, table) in fib.tables.iter().filter(|(number, _)| *number == TABLE_LOCAL) {
            let hosts = table.iter().filter(|(_, len, _)| *len == family.bits());
            addresses.extend(hosts.filter_map(|(addr, _, route)| {
                let kind = match route.kind {
                    RouteKind::Local => LocalKind::Unicast,
                    RouteKind::Broadcast => LocalKind::Broadcast,
                    _ => return None,
                };
                Some((family.show(addr), kind))
            }));
        }
    }
    addresses
}
