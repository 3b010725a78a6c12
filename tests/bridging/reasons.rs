//! Every reason by which a bridged frame is punted or dropped is reached, in the kernel's order.

use super::Walks;
use super::bridge::*;
use super::lab;
use bypath::packet::{DropReason, Family, PortIndex, PuntReason, Verdict};
use bypath::table::Snapshot;
use bypath::table::conntrack;
use bypath::table::fdb::EntryFlags;
use std::sync::Arc;

const P0: PortIndex = PortIndex(0);
const P2: PortIndex = PortIndex(2);
const P3: PortIndex = PortIndex(3);
const IP: &[u8] = &[0x08, 0];
const OTHER: &[u8] = &[0x12, 0x34];

const FORWARD: Verdict = Verdict::Forward(P2);

fn punt(reason: PuntReason) -> Verdict {
    Verdict::Punt(reason)
}

fn drop(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

/// The verdict on a frame of `head` from station 0 to station 2, after a change.
fn after(change: impl FnOnce(&mut Snapshot), head: &[u8]) -> Verdict {
    let mut snapshot = snapshot(1, lab::FAR);
    change(&mut snapshot);
    Walks::new().verdict(&snapshot, P0, &frame(station(2), station(0), head, 46))
}

fn between(dst: [u8; 6], src: [u8; 6]) -> Verdict {
    Walks::new().verdict(&snapshot(1, lab::FAR), P0, &frame(dst, src, OTHER, 46))
}

#[test]
fn a_known_frame_leaves_whatever_is_in_it() {
    for head in [
        OTHER,
        IP,
        &[0x86, 0xdd],
        &[0, 46],
        &[0x81, 0, 0, 5, 8, 0],
        &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6],
    ] {
        assert_eq!(after(|_| {}, head), FORWARD, "{head:02x?}");
    }
    assert_eq!(between(station(2), SENDER), FORWARD);
}

#[test]
fn what_is_not_bridged_is_the_kernels() {
    for head in [[0x08, 0x06], [0x80, 0x35], [0x88, 0x8e], [0x88, 0xe3], [0x89, 0x02]] {
        assert_eq!(after(|_| {}, &head), punt(PuntReason::NotOurs), "{head:02x?}");
    }
    let tagged_arp = [0x81, 0, 0, 5, 0x08, 0x06];
    assert_eq!(after(|_| {}, &tagged_arp), punt(PuntReason::NotOurs));
    for group in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0]] {
        assert_eq!(between(group, station(0)), punt(PuntReason::NotOurs));
    }
    let snapshot = snapshot(1, lab::FAR);
    let tagged = frame(station(2), station(0), &[0x81, 0, 0, 5, 8, 0], 46);
    for len in [0, 1, 13, 14, 17, 19] {
        let verdict = Walks::new().verdict(&snapshot, P0, &tagged[..len]);
        assert_eq!(verdict, punt(PuntReason::Malformed), "{len} bytes");
    }
    assert_eq!(Walks::new().verdict(&snapshot, P0, &tagged[..20]), FORWARD);
}

#[test]
fn where_the_bridge_may_answer_for_neighbours_their_discovery_is_the_kernels() {
    let mut snapshot = snapshot(1, lab::FAR);
    let solicitation = |kind: u8, tag: &[u8]| {
        let mut packet = udp(Family::V6, station(2), station(0), 20);
        (packet[14 + 6], packet[14 + 40]) = (58, kind);
        packet.splice(12..12, tag.iter().copied());
        packet
    };
    for suppressed in [false, true] {
        bridge_mut(&mut snapshot).neigh_suppress = suppressed;
        for tag in [&[][..], &[0x81, 0, 0, 5]] {
            for (kind, is_answered) in [(135, true), (136, true), (128, false), (134, false)] {
                let verdict = Walks::new().verdict(&snapshot, P0, &solicitation(kind, tag));
                let expected = if suppressed && is_answered {
                    punt(PuntReason::NotOurs)
                } else {
                    FORWARD
                };
                assert_eq!(verdict, expected, "type {kind}, tag {tag:02x?}");
            }
        }
    }
}

#[test]
fn a_sender_that_the_kernel_would_learn_move_or_refuse_is_punted() {
    let source = punt(PuntReason::BridgeSource);
    assert_eq!(between(station(2), station(9)), source, "new");
    assert_eq!(between(station(2), station(3)), source, "moved");
    assert_eq!(between(station(2), lab::mac(0)), source, "the bridge's own");
    assert_eq!(between(station(2), [0; 6]), source, "none");
    assert_eq!(between(station(2), [3, 0, 0, 0, 7, 0]), source, "a group");
    let entered = |at: PortIndex, flags: u8| {
        move |snapshot: &mut Snapshot| {
            learn(snapshot, station(0), 0, link(at), flags);
        }
    };
    assert_eq!(after(entered(P0, EntryFlags::LOCAL), OTHER), source);
    assert_eq!(after(entered(P0, EntryFlags::LOCKED), OTHER), source);
    assert_eq!(after(entered(P0, EntryFlags::STATIC), OTHER), FORWARD);
    assert_eq!(after(entered(P3, EntryFlags::STATIC), OTHER), source, "it moves");
    assert_eq!(after(entered(P3, EntryFlags::STICKY), OTHER), FORWARD, "it does not");
    let locked = |snapshot: &mut Snapshot| port_mut(snapshot, P0).locked = true;
    assert_eq!(after(locked, OTHER), FORWARD, "it is known");
    let sticky = |snapshot: &mut Snapshot| {
        locked(snapshot);
        entered(P3, EntryFlags::STICKY)(snapshot);
    };
    assert_eq!(after(sticky, OTHER), source, "known elsewhere");
}

#[test]
fn where_nobody_learns_nobody_is_asked_for_and_nobody_is_seen() {
    let seen = |snapshot: &Snapshot| {
        let mut all = bridge(snapshot).fdb.iter();
        all.find(|(mac, ..)| *mac == station(0)).map(|(.., seen)| seen)
    };
    for (learning, ageing_time, locked) in [(false, 30_000, false), (true, 0, false), (false, 0, true)] {
        let mut snapshot = snapshot(1, lab::FAR);
        bridge_mut(&mut snapshot).ageing_time = ageing_time;
        (port_mut(&mut snapshot, P0).learning, port_mut(&mut snapshot, P0).locked) = (learning, locked);
        let mut walks = Walks::new();
        let new = walks.verdict(&snapshot, P0, &frame(station(2), station(9), OTHER, 46));
        assert_eq!(
            new,
            if locked {
                punt(PuntReason::BridgeSource)
            } else {
                FORWARD
            }
        );
        assert_eq!(
            walks.verdict(&snapshot, P0, &frame(station(2), station(0), OTHER, 46)),
            FORWARD
        );
        assert_eq!(seen(&snapshot), Some(0));
    }
    let snapshot = snapshot(1, lab::FAR);
    Walks::new().verdict(&snapshot, P0, &frame(station(2), station(0), OTHER, 46));
    assert_eq!(seen(&snapshot), Some(conntrack::ticks(7_000_000_000)));
}

#[test]
fn a_destination_that_is_not_behind_a_port_of_ours_is_punted() {
    assert_eq!(between(station(9), station(0)), punt(PuntReason::BridgeUnknown));
    let other_port = |snapshot: &mut Snapshot| learn(snapshot, station(2), 0, link(P2), EntryFlags::LOCAL);
    assert_eq!(after(other_port, OTHER), punt(PuntReason::BridgeLocal));
    // To the bridge itself in a tag: a VLAN device of it.
    let snapshot_ = snapshot(1, lab::FAR);
    let tagged = frame(lab::mac(0), station(0), &[0x81, 0, 0, 5, 8, 0], 46);
    assert_eq!(
        Walks::new().verdict(&snapshot_, P0, &tagged),
        punt(PuntReason::BridgeLocal)
    );
    let no_port = punt(PuntReason::EgressNotPort);
    assert_eq!(after(|s| iface_mut(s, P2).port = None, OTHER), no_port);
    assert_eq!(after(|s| iface_mut(s, P2).bridge_port = None, OTHER), no_port);
    assert_eq!(
        after(|s| port_mut(s, P2).bridge = link(P3), OTHER),
        no_port,
        "another bridge's"
    );
    let left = punt(PuntReason::LeftEgress);
    assert_eq!(
        after(|s| port_mut(s, P2).left_egress = Some("a test".into()), OTHER),
        left
    );
    assert_eq!(after(|s| iface_mut(s, P2).up = false, OTHER), left);
}

#[test]
fn a_port_or_bridge_that_is_left_punts() {
    let left = punt(PuntReason::LeftIngress);
    assert_eq!(after(|s| port_mut(s, P0).left = Some("a test".into()), OTHER), left);
    assert_eq!(after(|s| bridge_mut(s).left = Some("a test".into()), OTHER), left);
    assert_eq!(after(|s| port_mut(s, P0).forwarding = false, OTHER), left);
    assert_eq!(
        after(|s| br0(s).bridge = None, OTHER),
        left,
        "a bridge that is not known"
    );
    assert_eq!(after(|s| port_mut(s, P2).left = Some("a test".into()), OTHER), FORWARD);
}

#[test]
fn what_the_kernels_bridge_drops_is_dropped_by_its_reason() {
    let same = |snapshot: &mut Snapshot| learn(snapshot, station(2), 0, link(P0), 0);
    assert_eq!(after(same, OTHER), drop(DropReason::BridgeSamePort));
    let hairpin = |snapshot: &mut Snapshot| {
        same(snapshot);
        port_mut(snapshot, P0).hairpin = true;
    };
    assert_eq!(after(hairpin, OTHER), Verdict::Forward(P0));
    let blocked = |snapshot: &mut Snapshot| port_mut(snapshot, P2).forwarding = false;
    assert_eq!(after(blocked, OTHER), drop(DropReason::BridgeBlocked));
    let isolated = |snapshot: &mut Snapshot, ports: &[PortIndex]| {
        ports.iter().for_each(|&port| port_mut(snapshot, port).isolated = true);
    };
    assert_eq!(after(|s| isolated(s, &[P0]), OTHER), FORWARD);
    assert_eq!(after(|s| isolated(s, &[P2]), OTHER), FORWARD);
    assert_eq!(
        after(|s| isolated(s, &[P0, P2]), OTHER),
        drop(DropReason::BridgeIsolated)
    );
    let filtering = |snapshot: &mut Snapshot| bridge_mut(snapshot).vlans = Some(Default::default());
    assert_eq!(after(filtering, OTHER), drop(DropReason::BridgeVlan), "no VLAN gets in");
    let ingress = |snapshot: &mut Snapshot| {
        filtering(snapshot);
        port_mut(snapshot, P0).vlans.insert(5, false);
        learn(snapshot, station(0), 5, link(P0), 0);
        learn(snapshot, station(2), 5, link(P2), 0);
    };
    assert_eq!(
        after(ingress, &[0x81, 0, 0, 5, 8, 0]),
        drop(DropReason::BridgeVlan),
        "none out"
    );
    assert_eq!(after(ingress, OTHER), drop(DropReason::BridgeVlan), "no PVID");
    let priority = [0x81, 0, 0xe0, 0, 8, 0];
    assert_eq!(
        after(ingress, &priority),
        drop(DropReason::BridgeVlan),
        "a priority alone"
    );
    for foreign in [[0x81, 0, 0, 6, 8, 0], [0x88, 0xa8, 0, 5, 8, 0]] {
        assert_eq!(
            after(ingress, &foreign),
            punt(PuntReason::BridgeTag),
            "a VLAN device's, perhaps"
        );
    }
}

#[test]
fn a_locked_port_loses_whom_it_does_not_let_in_where_the_kernel_would_without_a_word() {
    let keeps_out = |change: fn(&mut Snapshot), head: &[u8]| {
        let mut snapshot = snapshot(1, lab::FAR);
        bridge(&snapshot).fdb.set_whole(true);
        port_mut(&mut snapshot, P0).locked = true;
        learn(&snapshot, station(8), 0, link(P0), EntryFlags::LOCKED);
        change(&mut snapshot);
        [station(9), station(3), lab::mac(0), station(8), station(0)]
            .map(|src| Walks::new().verdict(&snapshot, P0, &frame(station(2), src, head, 46)))
    };
    let (lost, source) = (drop(DropReason::BridgeLocked), punt(PuntReason::BridgeSource));
    let kernels = [source, source, source, source, FORWARD];
    let all = [lost, lost, lost, source, FORWARD];
    assert_eq!(
        keeps_out(|_| {}, OTHER),
        all,
        "new, elsewhere, the bridge's, renewed, let in"
    );
    assert_eq!(keeps_out(|s| port_mut(s, P0).learning = false, OTHER), all);
    assert_eq!(keeps_out(|s| port_mut(s, P0).mab = true, OTHER), kernels);
    assert_eq!(keeps_out(|s| bridge(s).fdb.set_whole(false), OTHER), kernels);
    assert_eq!(keeps_out(|s| bridge(s).fdb.refuse(), OTHER), kernels, "it may be one");
    assert_eq!(keeps_out(|s| port_mut(s, P0).locked = false, OTHER), kernels);
    // Hooks come before.
    let hooked = |snapshot: &mut Snapshot| {
        bridge_mut(snapshot).nf_call = [true, false];
        br0(snapshot).family[0].left = Some("a test".into());
    };
    assert_eq!(keeps_out(hooked, IP)[..4], kernels[..4]);
    assert_eq!(keeps_out(hooked, OTHER), all);
}

#[test]
fn a_frame_is_as_long_as_the_mtu_and_what_is_around_it() {
    let verdict = |head: &[u8], len: usize, mtu: u32| {
        let mut snapshot = snapshot(1, lab::FAR);
        iface_mut(&mut snapshot, P2).mtu = [mtu; 2];
        Walks::new().verdict(&snapshot, P0, &frame(station(2), station(0), head, len))
    };
    let mtu = drop(DropReason::BridgeMtu);
    assert_eq!(verdict(OTHER, 1004, 1000), FORWARD);
    assert_eq!(verdict(OTHER, 1005, 1000), mtu);
    let tagged: &[u8] = &[0x81, 0, 0, 5, 8, 0];
    assert_eq!(verdict(tagged, 1000, 1000), FORWARD);
    // The kernel has the tag beside the frame; here there is no room for it.
    assert_eq!(verdict(tagged, 1001, 1000), punt(PuntReason::MtuExceeded));
    assert_eq!(verdict(tagged, 1005, 1000), mtu);
}

#[test]
fn bridged_ip_that_passes_hooks_where_something_not_carried_stands_is_the_kernels() {
    let left = |snapshot: &mut Snapshot| {
        bridge_mut(snapshot).nf_call = [true, false];
        br0(snapshot).family[0].left = Some("a test".into());
    };
    let kernel = punt(PuntReason::BridgeNetfilter);
    assert_eq!(after(left, IP), kernel);
    assert_eq!(after(left, &[0x86, 0xdd]), FORWARD, "the other family");
    assert_eq!(after(left, OTHER), FORWARD);
    assert_eq!(after(left, &[0x81, 0, 0, 5, 8, 0]), FORWARD, "in a tag it is none");
    let filtered = |snapshot: &mut Snapshot| {
        bridge_mut(snapshot).nf_call = [true, false];
        filter_vlans(snapshot);
        snapshot.conntrack = Arc::new(conntrack::Config {
            tracked: [true; 2],
            ..conntrack::Config::default()
        });
    };
    assert_eq!(after(filtered, IP), kernel, "with a tag beside it");
    assert_eq!(after(filtered, OTHER), FORWARD);
    // They come before the VLAN is looked at, and before anything is dropped.
    let no_vlan = |snapshot: &mut Snapshot| {
        left(snapshot);
        bridge_mut(snapshot).vlans = Some(Default::default());
    };
    assert_eq!(after(no_vlan, IP), kernel);
    let isolated = |snapshot: &mut Snapshot| {
        left(snapshot);
        (port_mut(snapshot, P0).isolated, port_mut(snapshot, P2).isolated) = (true, true);
    };
    assert_eq!(after(isolated, IP), kernel);
    assert_eq!(after(isolated, OTHER), drop(DropReason::BridgeIsolated));
}

#[test]
fn where_nothing_stands_at_the_hooks_packets_are_validated() {
    let mut snapshot = snapshot(1, lab::FAR);
    bridge_mut(&mut snapshot).nf_call = [true; 2];
    let mut walks = Walks::new();
    for family in Family::ALL {
        let packet = udp(family, station(2), station(0), 40);
        let padded = [&packet[..], &[0xee; 9]].concat();
        assert_eq!(walks.out(&snapshot, P0, &padded), (P2, packet.clone()), "trimmed");
        let mut short = packet.clone();
        short.truncate(packet.len() - 1);
        assert_eq!(walks.verdict(&snapshot, P0, &short), punt(PuntReason::Malformed));
        // As long as a frame may be it is bridged, and fragmented if the packet is longer than the MTU.
        let around = if family == Family::V4 { 28 } else { 48 };
        let longest = udp(family, station(2), station(0), 1500 - around);
        assert_eq!(walks.out(&snapshot, P0, &longest), (P2, longest));
        for more in [1, 4, 5] {
            let longer = udp(family, station(2), station(0), 1500 - around + more);
            let verdict = walks.verdict(&snapshot, P0, &longer);
            assert_eq!(verdict, punt(PuntReason::MtuExceeded), "{more} bytes longer");
        }
    }
    let mut wrong = udp(Family::V4, station(2), station(0), 40);
    wrong[14 + 10] ^= 1;
    assert_eq!(walks.verdict(&snapshot, P0, &wrong), punt(PuntReason::Checksum));
    let mut hop_by_hop = udp(Family::V6, station(2), station(0), 40);
    (hop_by_hop[14 + 6], hop_by_hop[54], hop_by_hop[55]) = (0, 17, 0);
    assert_eq!(walks.verdict(&snapshot, P0, &hop_by_hop), punt(PuntReason::Extension));
}
