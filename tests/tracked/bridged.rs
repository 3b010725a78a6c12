//! The client is behind a port of a bridge: its packets arrive by that, and what the bridge does not take is punted with its
//! connection.

use super::bridge::{BR0, MEMBERS, SENDER, frame, learn, link, station};
use super::*;
use bypath::table::fdb::EntryFlags;

/// A box that tracks, with the client behind port 0 of its bridge.
fn tracker() -> Tracker {
    let mut tracker = Tracker::new(Arc::default());
    let mut snapshot = bridge::snapshot(1, lab::FAR);
    (snapshot.conntrack, snapshot.rules) = (tracker.snapshot.conntrack.clone(), tracker.snapshot.rules.clone());
    for family in Family::ALL {
        let client = lab::net(family, 0).0 | CLIENT;
        snapshot.neighbors.insert(BR0, family, client, SENDER);
    }
    tracker.snapshot = snapshot;
    tracker
}

/// The bridge forgets the client.
fn forget(tracker: &mut Tracker) {
    bridge::bridge(&tracker.snapshot).fdb.remove(&SENDER, 0);
    tracker.snapshot.generation += 1;
}

const NEW: Verdict = Verdict::Punt(PuntReason::BridgeSource);
const UNKNOWN: Verdict = Verdict::Punt(PuntReason::BridgeUnknown);

#[test]
fn a_connection_by_a_bridge_is_tracked_and_its_way_is_remembered() {
    for family in Family::ALL {
        let mut tracker = tracker();
        for _ in 0..4 {
            assert_eq!(tracker.walk(0, &packet(family, 0, &UDP)), OUT);
            assert_eq!(tracker.walk(1, &packet(family, 1, &UDP)), BACK);
            assert_eq!(tracker.frame.bytes()[..12], [SENDER, lab::mac(0)].concat());
            tracker.now += 300;
        }
        assert!(tracker.records()[0].status.any(Status::ASSURED));
        // It moves to another port, and comes from there.
        learn(&tracker.snapshot, SENDER, 0, link(MEMBERS[1]), 0);
        assert_eq!(tracker.walk(0, &packet(family, 0, &UDP)), NEW, "a cached way asks, too");
        tracker.snapshot.generation += 1;
        assert_eq!(tracker.walk(1, &packet(family, 1, &UDP)), Verdict::Forward(MEMBERS[1]));
        assert_eq!(tracker.walk(MEMBERS[1].0, &packet(family, 0, &UDP)), OUT);
        assert_eq!(tracker.records().len(), 1);
    }
}

#[test]
fn a_sender_that_the_kernel_has_to_learn_takes_its_connection_along() {
    for watched in [false, true] {
        let mut tracker = tracker();
        let walk = |tracker: &mut Tracker, port: u16, packet: &[u8]| match watched {
            false => tracker.walk(port, packet),
            true => tracker.walk_watched(port, packet),
        };
        assert_eq!(walk(&mut tracker, 0, &packet(Family::V4, 0, &UDP)), OUT);
        let known = tracker.records().remove(0);
        forget(&mut tracker);
        assert_eq!(walk(&mut tracker, 0, &packet(Family::V4, 0, &UDP)), NEW);
        assert_eq!(tracker.flows.aside.leaving, Some(Leaving::AsItIs(known.original)));
        // Where nobody is behind the bridge the answer is flooded, by the kernel.
        assert_eq!(walk(&mut tracker, 1, &packet(Family::V4, 1, &UDP)), UNKNOWN);
        assert_eq!(tracker.flows.aside.leaving, Some(Leaving::AsItIs(known.original)));
        // What begins so is the kernel's, and its answers with it.
        let other = Transport { port: 7000, ..UDP };
        assert_eq!(walk(&mut tracker, 0, &packet(Family::V4, 0, &other)), NEW);
        assert_eq!(tracker.flows.aside.leaving, None);
        learn(&tracker.snapshot, SENDER, 0, link(MEMBERS[0]), 0);
        let kernels = Verdict::Punt(PuntReason::KernelConnection);
        assert_eq!(walk(&mut tracker, 1, &packet(Family::V4, 1, &other)), kernels);
        assert_eq!(walk(&mut tracker, 0, &packet(Family::V4, 0, &other)), kernels);
        assert_eq!(walk(&mut tracker, 0, &packet(Family::V4, 0, &UDP)), OUT);
        assert_eq!(tracker.records().len(), 2);
    }
}

/// Of a bridge that had the address of this port, until a port with a lower one joined: stations know it by that for a while.
#[test]
fn what_bears_the_ports_own_address_goes_up_in_the_kernel_with_its_connection() {
    let mut tracker = tracker();
    let own = [2, 0, 0, 0, 0, 0x10];
    learn(&tracker.snapshot, own, 0, BR0, EntryFlags::LOCAL);
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &UDP)), OUT);
    let known = tracker.records().remove(0);
    let mut up = packet(Family::V4, 0, &UDP);
    up[..6].copy_from_slice(&own);
    assert_eq!(tracker.walk(0, &up), Verdict::Punt(PuntReason::BridgeLocal));
    assert_eq!(tracker.flows.aside.leaving, Some(Leaving::AsItIs(known.original)));
}

#[test]
fn what_is_bridged_has_no_connection() {
    let mut tracker = tracker();
    learn(&tracker.snapshot, station(5), 0, BR0, EntryFlags::LOCAL);
    let mut bridged = packet(Family::V4, 0, &UDP);
    bridged[..6].copy_from_slice(&station(2));
    assert_eq!(tracker.walk(0, &bridged), Verdict::Forward(PortIndex(2)));
    bridged[..6].copy_from_slice(&station(5));
    assert_eq!(tracker.walk(0, &bridged), Verdict::Punt(PuntReason::BridgeLocal));
    bridged[..6].copy_from_slice(&station(9));
    assert_eq!(tracker.walk(0, &bridged), UNKNOWN);
    assert_eq!(
        tracker.walk(0, &frame(station(2), SENDER, &[0x12, 0x34], 46)),
        Verdict::Forward(PortIndex(2))
    );
    assert!(tracker.records().is_empty() && tracker.flows.aside.leaving.is_none());
}
