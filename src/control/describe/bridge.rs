//! Bridges, their ports and what they know, as rows of `show bridge` and `show fdb`.
//!
//! All of it is in the snapshot but the entries themselves, which come and go in a table that workers share: what is shown of
//! them is of this moment, and not of one moment. Bounded by the ports, and by what a table has room for.

use super::dev;
use crate::control::report::{self, BridgeLink, FdbEntry};
use crate::table::Snapshot;
use crate::table::bridge::{Bridge, BridgePort, Vlans};
use crate::table::conntrack::{TICKS_PER_SECOND, Ticks};
use crate::table::fdb::EntryFlags;
use crate::table::iface::{Iface, Left};
use crate::worker::pipeline::Mac;
use std::ops::ControlFlow;

/// Every bridge, and behind it its ports.
pub fn bridges(snapshot: &Snapshot) -> Vec<BridgeLink> {
    let mut rows = Vec::new();
    for (at, iface) in snapshot.ifaces.iter().enumerate() {
        let Some(bridge) = &iface.bridge else { continue };
        rows.push(of_bridge(iface, bridge));
        for port in snapshot.ifaces.iter() {
            if let Some(of_port) = port
                .bridge_port
                .as_ref()
                .filter(|port| usize::from(port.bridge.0) == at)
            {
                rows.push(of_port_link(iface, bridge, port, of_port));
            }
        }
    }
    rows
}

fn of_bridge(iface: &Iface, bridge: &Bridge) -> BridgeLink {
    let protocol = match bridge.vlan_protocol {
        0x88a8 => "802.1ad",
        _ => "802.1Q",
    };
    BridgeLink {
        bridge: Some(report::Bridge {
            ageing_time: bridge.ageing_time,
            vlan_filtering: bridge.vlans.is_some(),
            vlan_protocol: protocol.into(),
            nf_call_iptables: bridge.nf_call[0],
            nf_call_ip6tables: bridge.nf_call[1],
            fdb_entries: bridge.fdb.len() as u64,
            fdb_capacity: bridge.fdb.capacity() as u64,
            fdb_refused: bridge.fdb.refused(),
        }),
        vlans: bridge.vlans.as_ref().map(vlans).unwrap_or_default(),
        left: text(&bridge.left),
        ..link(iface)
    }
}

fn of_port_link(master: &Iface, bridge: &Bridge, iface: &Iface, port: &BridgePort) -> BridgeLink {
    BridgeLink {
        master: Some(master.name.to_string()),
        port: Some(report::BridgePort {
            forwarding: port.forwarding,
            ours: iface.port.is_some(),
            hairpin: port.hairpin,
            learning: port.learning,
            isolated: port.isolated,
            locked: port.locked,
        }),
        vlans: bridge.vlans.as_ref().map(|_| vlans(&port.vlans)).unwrap_or_default(),
        left: text(&port.left),
        left_egress: text(&port.left_egress),
        ..link(iface)
    }
}

fn link(iface: &Iface) -> BridgeLink {
    BridgeLink {
        ifindex: iface.ifindex,
        ifname: iface.name.to_string(),
        mtu: iface.mtu[0],
        ..BridgeLink::default()
    }
}

fn text(left: &Left) -> Option<String> {
    left.as_deref().map(str::to_owned)
}

fn vlans(vlans: &Vlans) -> Vec<report::Vlan> {
    let row = |(vlan, untagged): (u16, bool)| {
        let flags = [(vlan == vlans.pvid, "PVID"), (untagged, "Egress Untagged")];
        report::Vlan {
            vlan,
            flags: words(&flags),
        }
    };
    vlans.iter().map(row).collect()
}

fn words(flags: &[(bool, &str)]) -> Vec<String> {
    let on = flags.iter().filter(|flag| flag.0);
    on.map(|flag| flag.1.to_owned()).collect()
}

/// Shows every entry to `each` until it breaks, `now` being the time for how long ago its owner was seen.
pub fn fdb(snapshot: &Snapshot, now: Ticks, each: &mut dyn FnMut(FdbEntry) -> ControlFlow<()>) {
    for iface in snapshot.ifaces.iter() {
        let entries = iface.bridge.iter().flat_map(|bridge| bridge.fdb.iter());
        for (mac, vid, entry, seen) in entries {
            let state = match entry.flags {
                flags if flags.any(EntryFlags::LOCAL) => "permanent",
                flags if flags.any(EntryFlags::STATIC) => "static",
                _ => "",
            };
            let is = |flag| entry.flags.any(flag);
            let flags = [
                (is(EntryFlags::STICKY), "sticky"),
                (is(EntryFlags::LOCKED), "locked"),
                (is(EntryFlags::EXTERN), "extern_learn"),
            ];
            let ago_ms = u64::from(now.wrapping_sub(seen)) * 1000 / u64::from(TICKS_PER_SECOND);
            let row = FdbEntry {
                mac: Mac(&mac).to_string(),
                ifname: dev(snapshot, entry.port),
                vlan: (vid != 0).then_some(vid),
                master: iface.name.to_string(),
                state: state.into(),
                flags: words(&flags),
                seen_ms: (seen != 0).then_some(ago_ms),
            };
            if each(row).is_break() {
                return;
            }
        }
    }
}
