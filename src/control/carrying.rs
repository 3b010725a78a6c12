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
    let tracked = snapshot.conntrack.tracked;
    let hooked = |family: Family| {
        let is_ip = member.is_some_and(|member| member.hooks[family as usize] == Hooks::Ip);
        is_ip && tracked[family as usize]
    };
    Some(Carry {
        mac: iface.mac,
        family: Family::ALL.map(of),
        tracked,
        nat: snapshot.conntrack.nat,
        bridging: member.map(bridged),
        hooked: Family::ALL.map(hooked),
        mtu,
    })
}

/// The families whose connections are tracked and that some port stops carrying, whether they are routed or bridged. A port of a
/// bridge that goes, or is down, lets go of none: what it carried comes by others, or not at all.
pub fn lets_go_of_connections(before: &Snapshot, after: &Snapshot) -> [bool; 2] {
    let carried = |snapshot: &Snapshot, port: PortIndex, family: Family| {
        let routed = carry(snapshot, port).is_some_and(|carry| carry.family[family as usize]);
        let tracked = |member: Member<'_>| !member.is_left && member.hooks[family as usize] == Hooks::Ip;
        [routed, arrival(snapshot, port).1.is_some_and(tracked)]
    };
    let is_silent = |port: PortIndex| match arrival(after, port) {
        (_, Some(member)) => !member.port.forwarding,
        (_, None) => after.port(port).is_none(),
    };
    let lets_go = |port: PortIndex, family: Family| {
        let pairs = carried(before, port, family)
            .into_iter()
            .zip(carried(after, port, family));
        let is_less = pairs.into_iter().any(|(before, after)| before && !after);
        is_less && !(arrival(before, port).1.is_some() && is_silent(port))
    };
    Family::ALL.map(|family| {
        let mut ports = (0..before.ports.len()).map(|port| PortIndex(port as u16));
        before.conntrack.tracked[family as usize] && ports.any(|port| lets_go(port, family))
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
    say!("bypath: {why}; traffic that the kernel tracks is left to it");
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
        hooked: either(new.hooked, old.hooked),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::bridge::{Bridge, BridgePort};
    use crate::table::conntrack;
    use crate::table::iface::{Iface, IfaceFamily, IfaceIndex, Left};

    const PORT: PortIndex = PortIndex(0);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x80];

    /// What is changed in a test: br0's families, what it is, and what its only port v0 is.
    type Parts<'a> = (&'a mut [IfaceFamily; 2], &'a mut Bridge, &'a mut BridgePort);

    fn carried(change: impl FnOnce(Parts<'_>)) -> Carry {
        carry(&snapshot(change), PORT).expect("a port")
    }

    fn snapshot(change: impl FnOnce(Parts<'_>)) -> Snapshot {
        let forwards = IfaceFamily {
            forwarding: true,
            ..IfaceFamily::default()
        };
        let (mut family, mut bridge) = ([forwards.clone(), forwards], Bridge::default());
        let mut port = BridgePort {
            bridge: IfaceIndex(0),
            forwarding: true,
            ..BridgePort::default()
        };
        change((&mut family, &mut bridge, &mut port));
        let br0 = Iface {
            mac: MAC,
            bridge: Some(Arc::new(bridge)),
            family,
            ..Iface::default()
        };
        // As an interface of IP a port is always left.
        let left = || IfaceFamily {
            left: why(),
            ..IfaceFamily::default()
        };
        let v0 = Iface {
            mac: [2, 0, 0, 0, 0, 1],
            mtu: [1400; 2],
            port: Some(PORT),
            bridge_port: Some(Arc::new(port)),
            family: [left(), left()],
            ..Iface::default()
        };
        Snapshot {
            ifaces: Arc::new(vec![br0, v0]),
            ports: Arc::new(vec![Some(IfaceIndex(1))]),
            conntrack: Arc::new(conntrack::Config {
                tracked: [true; 2],
                ..conntrack::Config::default()
            }),
            ..Snapshot::default()
        }
    }

    fn why() -> Left {
        Some("a test".into())
    }

    fn bridged(family: [bool; 2], other: bool) -> Option<Bridged> {
        Some(Bridged { family, other })
    }

    #[test]
    fn what_arrives_at_a_port_of_a_bridge_arrives_by_the_bridge() {
        let all = carried(|_| {});
        assert_eq!((all.mac, all.mtu, all.family), (MAC, 1400, [true; 2]));
        assert_eq!(all.bridging, bridged([true; 2], true));
        let v6_off = carried(|(family, ..)| family[1].forwarding = false);
        assert_eq!(v6_off.family, [true, false]);
        assert_eq!(v6_off.bridging, bridged([true; 2], true));
    }

    #[test]
    fn what_is_left_of_bridge_or_port_leaves_all_and_of_a_family_that() {
        for left in [
            carried(|(_, bridge, _)| bridge.left = why()),
            carried(|(.., port)| port.left = why()),
            carried(|(.., port)| port.forwarding = false),
        ] {
            assert_eq!((left.family, left.bridging), ([false; 2], bridged([false; 2], false)));
        }
        let v4 = carried(|(family, ..)| family[0].left = why());
        assert_eq!((v4.family, v4.bridging), ([false, true], bridged([true; 2], true)));
        let hooked = carried(|(family, bridge, _)| {
            family[0].left = why();
            bridge.nf_call = [true; 2];
        });
        assert_eq!(hooked.bridging, bridged([false, true], true));
        assert_eq!(hooked.hooked, [false, true], "the kernel's, and ours");
    }

    #[test]
    fn what_is_bridged_has_connections_where_it_passes_the_hooks_of_ip_and_they_are_tracked() {
        let hooks = |nf_call: [bool; 2], tracked: [bool; 2]| {
            let mut snapshot = snapshot(|(_, bridge, _)| bridge.nf_call = nf_call);
            Arc::make_mut(&mut snapshot.conntrack).tracked = tracked;
            carry(&snapshot, PORT).expect("a port").hooked
        };
        assert_eq!(hooks([true; 2], [true; 2]), [true; 2]);
        assert_eq!(hooks([true, false], [true; 2]), [true, false]);
        assert_eq!(hooks([true; 2], [false, true]), [false, true]);
        assert_eq!(hooks([false; 2], [true; 2]), [false; 2]);
        // Until the workers have the new one, either may be in force.
        let hooked = carried(|(_, bridge, _)| bridge.nf_call = [true; 2]);
        assert_eq!(both(carried(|_| {}), hooked).hooked, [true; 2]);
    }

    #[test]
    fn a_port_of_a_bridge_lets_go_of_connections_only_while_frames_arrive_there() {
        let before = snapshot(|_| {});
        let lets_go = |after: Snapshot| lets_go_of_connections(&before, &after);
        assert_eq!(lets_go(snapshot(|_| {})), [false; 2]);
        assert_eq!(lets_go(snapshot(|(.., port)| port.forwarding = false)), [false; 2]);
        let mut gone = snapshot(|_| {});
        gone.ports = Arc::new(vec![None]);
        assert_eq!(lets_go(gone), [false; 2]);
        assert_eq!(lets_go(snapshot(|(.., port)| port.left = why())), [true; 2]);
        assert_eq!(lets_go(snapshot(|(_, bridge, _)| bridge.left = why())), [true; 2]);
        assert_eq!(lets_go(snapshot(|(family, ..)| family[0].left = why())), [true, false]);
        // Bridged ones, which the hooks of IP do not see here any more.
        let hooked = |filters: bool| {
            snapshot(|(_, bridge, _)| {
                bridge.nf_call = [true, false];
                bridge.vlans = filters.then(Default::default);
            })
        };
        assert_eq!(lets_go_of_connections(&hooked(false), &hooked(true)), [true, false]);
        assert_eq!(lets_go_of_connections(&hooked(false), &hooked(false)), [false; 2]);
    }

    #[test]
    fn under_two_snapshots_only_what_both_bridge_is_bridged() {
        let (all, none) = (carried(|_| {}), carried(|(.., port)| port.left = why()));
        assert_eq!(both(all, none).bridging, bridged([false; 2], false));
        assert_eq!(both(all, all).bridging, all.bridging);
        let no_member = Carry::default();
        assert_eq!(both(all, no_member).bridging, bridged([false; 2], false));
        assert_eq!(both(no_member, all).bridging, None);
    }
}
