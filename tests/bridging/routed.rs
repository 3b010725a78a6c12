//! What goes up from a bridge into IP, and what comes down from it: routed packets in and out by br0.

use super::bridge::*;
use super::{Walks, lab};
use bypath::packet::{Family, PortIndex, PuntReason, Verdict};
use bypath::table::Snapshot;
use bypath::table::conntrack;
use bypath::table::fdb::EntryFlags;
use std::sync::Arc;

const P0: PortIndex = PortIndex(0);
const D1: PortIndex = PortIndex(1);
const P2: PortIndex = PortIndex(2);

/// A packet from the far side, for station `n`'s address.
fn down(family: Family, n: u8, payload: usize) -> Vec<u8> {
    let mut packet = lab::udp(family, host(family, n), payload);
    packet[..6].copy_from_slice(&lab::mac(1));
    packet
}

#[test]
fn a_packet_to_the_bridge_is_routed_as_if_it_had_arrived_by_that() {
    let snapshot = snapshot(1, lab::FAR);
    let mut walks = Walks::new();
    for family in Family::ALL {
        let packet = lab::udp(family, lab::gateway(family), 18);
        let (port, out) = walks.out(&snapshot, P0, &packet);
        assert_eq!(port, D1);
        assert_eq!(out[..12], [lab::FAR, lab::mac(1)].concat());
        // Not to a port's own address, which the kernel does not route either.
        let mut wrong = packet.clone();
        wrong[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x10]);
        let unknown = Verdict::Punt(PuntReason::BridgeUnknown);
        assert_eq!(walks.verdict(&snapshot, P0, &wrong), unknown);
        // Who sends it must be known, too.
        let mut new = packet.clone();
        new[6..12].copy_from_slice(&station(9));
        let source = Verdict::Punt(PuntReason::BridgeSource);
        assert_eq!(walks.verdict(&snapshot, P0, &new), source);
        let own = lab::udp(family, lab::own(family), 18);
        assert_eq!(walks.verdict(&snapshot, P0, &own), Verdict::Punt(PuntReason::Local));
    }
}

#[test]
fn a_routed_packet_leaves_by_the_port_behind_which_its_next_hop_is() {
    let mut snapshot = snapshot(1, lab::FAR);
    let mut walks = Walks::new();
    for family in Family::ALL {
        for port in MEMBERS {
            let n = port.0 as u8;
            let (out_by, out) = walks.out(&snapshot, D1, &down(family, n, 18));
            assert_eq!((out_by, &out[..12]), (port, &[station(n), lab::mac(0)].concat()[..]));
            let hops = if family == Family::V4 { 22 } else { 21 };
            assert_eq!(out[hops], 254);
        }
    }
    let packet = down(Family::V4, 2, 18);
    // What is remembered of destinations ends with the generation, and every change of an entry begins one.
    learn(&snapshot, station(2), 0, link(PortIndex(3)), 0);
    snapshot.generation += 1;
    assert_eq!(walks.out(&snapshot, D1, &packet).0, PortIndex(3));
    let mut punted = |snapshot: &mut Snapshot, reason| {
        snapshot.generation += 1;
        assert_eq!(walks.verdict(snapshot, D1, &packet), Verdict::Punt(reason));
    };
    learn(&snapshot, station(2), 0, link(P2), EntryFlags::LOCAL);
    punted(&mut snapshot, PuntReason::BridgeLocal);
    bridge(&snapshot).fdb.remove(&station(2), 0);
    punted(&mut snapshot, PuntReason::BridgeUnknown);
    learn(&snapshot, station(2), 0, link(P2), 0);
    port_mut(&mut snapshot, P2).forwarding = false;
    punted(&mut snapshot, PuntReason::LeftEgress);
    port_mut(&mut snapshot, P2).forwarding = true;
    port_mut(&mut snapshot, P2).left_egress = Some("a test".into());
    punted(&mut snapshot, PuntReason::LeftEgress);
    port_mut(&mut snapshot, P2).left_egress = None;
    bridge_mut(&mut snapshot).left = Some("a test".into());
    punted(&mut snapshot, PuntReason::LeftEgress);
    bridge_mut(&mut snapshot).left = None;
    br0(&mut snapshot).family[0].left_egress = Some("a test".into());
    punted(&mut snapshot, PuntReason::LeftEgress);
    br0(&mut snapshot).family[0].left_egress = None;
    iface_mut(&mut snapshot, P2).port = None;
    punted(&mut snapshot, PuntReason::EgressNotPort);
    iface_mut(&mut snapshot, P2).port = Some(P2);
    snapshot
        .neighbors
        .insert(BR0, Family::V4, host(Family::V4, 2), [3, 0, 0, 0, 0, 1]);
    punted(&mut snapshot, PuntReason::BridgeUnknown);
}

#[test]
fn a_bridge_that_filters_gives_what_comes_down_the_tag_of_its_own_vlan() {
    let mut snapshot = snapshot(1, lab::FAR);
    let bridge = bridge_mut(&mut snapshot);
    let vlans = bridge.vlans.insert(Default::default());
    vlans.insert(10, true);
    vlans.pvid = 10;
    for (port, untagged) in [(P0, true), (P2, false)] {
        port_mut(&mut snapshot, port).vlans.insert(10, untagged);
        port_mut(&mut snapshot, port).vlans.pvid = if untagged { 10 } else { 0 };
        learn(&snapshot, station(port.0 as u8), 10, link(port), 0);
    }
    learn(&snapshot, lab::mac(0), 10, BR0, EntryFlags::LOCAL);
    learn(&snapshot, SENDER, 10, link(P0), 0);
    let mut walks = Walks::new();
    let plain = walks.out(&snapshot, D1, &down(Family::V4, 0, 18));
    assert_eq!((plain.0, &plain.1[12..16]), (P0, &[8, 0, 0x45, 0][..]));
    let tagged = walks.out(&snapshot, D1, &down(Family::V4, 2, 18));
    assert_eq!((tagged.0, &tagged.1[12..18]), (P2, &[0x81, 0, 0, 10, 8, 0][..]));
    assert_eq!(tagged.1[..12], [station(2), lab::mac(0)].concat());
    assert_eq!(tagged.1.len(), plain.1.len() + 4);
    // Up: without a tag, in a VLAN that the bridge has without a tag.
    let up = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    assert_eq!(walks.out(&snapshot, P0, &up).0, D1);
    bridge_mut(&mut snapshot).vlans.as_mut().unwrap().insert(10, false);
    snapshot.generation += 1;
    assert_eq!(
        walks.verdict(&snapshot, P0, &up),
        Verdict::Punt(PuntReason::BridgeLocal)
    );
    // Down: the bridge must have a VLAN, and the port must carry it.
    let mut punted = |snapshot: &mut Snapshot| {
        snapshot.generation += 1;
        let verdict = walks.verdict(snapshot, D1, &down(Family::V4, 2, 18));
        assert_eq!(verdict, Verdict::Punt(PuntReason::LeftEgress));
    };
    port_mut(&mut snapshot, P2).vlans = Default::default();
    punted(&mut snapshot);
    bridge_mut(&mut snapshot).vlans.as_mut().unwrap().pvid = 0;
    punted(&mut snapshot);
}

#[test]
fn a_routed_packet_fits_bridge_and_port() {
    let mut snapshot = snapshot(1, lab::FAR);
    let mut walks = Walks::new();
    let exceeded = Verdict::Punt(PuntReason::MtuExceeded);
    for (bridge_mtu, port_mtu, longest) in [(1500, 1500, 1500), (1000, 1500, 1000), (1500, 1000, 1004)] {
        br0(&mut snapshot).mtu = [bridge_mtu; 2];
        iface_mut(&mut snapshot, P2).mtu = [port_mtu; 2];
        snapshot.generation += 1;
        let fits = down(Family::V4, 2, longest - 28);
        assert_eq!(walks.out(&snapshot, D1, &fits).0, P2);
        assert_eq!(
            walks.verdict(&snapshot, D1, &down(Family::V4, 2, longest - 27)),
            exceeded
        );
    }
}

/// Such packets may be bridged, with another destination and no hop less: their connections must be known.
#[test]
fn what_hooks_see_is_the_kernels_where_connections_are_not_at_hand() {
    let mut snapshot = snapshot(1, lab::FAR);
    br0(&mut snapshot).family[0].redirects = false;
    let packet = lab::udp(Family::V4, host(Family::V4, 2), 18);
    let mut walks = Walks::new();
    assert_eq!(walks.out(&snapshot, P0, &packet).0, P2);
    snapshot.conntrack = Arc::new(conntrack::Config {
        tracked: [true, false],
        ..conntrack::Config::default()
    });
    snapshot.generation += 1;
    assert_eq!(walks.out(&snapshot, P0, &packet).0, P2, "they see none");
    bridge_mut(&mut snapshot).nf_call = [true; 2];
    snapshot.generation += 1;
    let kernel = Verdict::Punt(PuntReason::BridgeNetfilter);
    assert_eq!(walks.verdict(&snapshot, P0, &packet), kernel);
    let away = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    assert_eq!(walks.verdict(&snapshot, P0, &away), kernel);
    // With VLANs they are the kernel's in any case, but for what is routed away.
    filter_vlans(&mut snapshot);
    snapshot.generation += 1;
    assert_eq!(walks.verdict(&snapshot, P0, &packet), kernel);
    assert_eq!(walks.out(&snapshot, P0, &away).0, D1);
}
