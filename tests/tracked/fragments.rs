//! Fragments of a known connection are the kernel's, where they keep it alive: so do they here, or it would end, and its copy in
//! the kernel with it.

use super::*;
use bypath::wire::{checksum, ipv4};

const FRAGMENT: Verdict = Verdict::Punt(PuntReason::Fragment);

/// A first fragment of it.
fn first_fragment(port: u16) -> Vec<u8> {
    let mut bytes = packet(Family::V4, port, &Transport { payload: 480, ..UDP });
    let (more, before) = (0x20, bytes[14 + 6]);
    bytes[14 + 6] = more;
    let mut ip = ipv4::Packet::new_checked(&mut bytes[14..]).expect("IPv4");
    let check = checksum::update16(ip.checksum(), u16::from(before) << 8, u16::from(more) << 8);
    ip.set_checksum(check);
    bytes
}

#[test]
fn a_connection_lives_on_by_its_fragments() {
    let mut tracker = Tracker::new(stateful());
    let config = tracker.snapshot.conntrack.clone();
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &UDP)), OUT);
    assert_eq!(tracker.walk(1, &packet(Family::V4, 1, &UDP)), BACK);
    for round in 0..8 {
        tracker.now += config.udp[0] - 100;
        assert_eq!(tracker.walk(round % 2, &first_fragment(round % 2)), FRAGMENT);
        let records = tracker.records();
        let original = records[0].original;
        assert_eq!(tracker.flows.aside.leaving, Some(Leaving::AsItIs(original)), "{round}");
        assert_eq!(records[0].deadline, tracker.now + config.udp[0]);
    }
    assert_eq!(tracker.walk(1, &packet(Family::V4, 1, &UDP)), BACK, "an answer");
    // A stream lives longer.
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &UDP)), OUT);
    assert_eq!(tracker.walk(1, &first_fragment(1)), FRAGMENT);
    assert_eq!(tracker.records()[0].deadline, tracker.now + config.udp[1]);
}

#[test]
fn one_of_the_kernels_stays_known_by_its_fragments() {
    let mut tracker = Tracker::new(stateful());
    assert_eq!(tracker.walk(0, &first_fragment(0)), FRAGMENT);
    for round in 0..4 {
        tracker.now += 900;
        assert_eq!(tracker.walk(round % 2, &first_fragment(round % 2)), FRAGMENT);
        assert_eq!(tracker.records().len(), 1, "{round}");
    }
}

/// Some kernels have a tracker for it, with ports.
#[test]
fn dccp_is_the_kernels() {
    let mut tracker = Tracker::new(stateful());
    let mut bytes = packet(Family::V4, 0, &UDP);
    let [ttl, before] = [bytes[14 + 8], bytes[14 + 9]].map(u16::from);
    bytes[14 + 9] = 33;
    let mut ip = ipv4::Packet::new_checked(&mut bytes[14..]).expect("IPv4");
    let check = checksum::update16(ip.checksum(), ttl << 8 | before, ttl << 8 | 33);
    ip.set_checksum(check);
    let kernels = Verdict::Punt(PuntReason::KernelConnection);
    assert_eq!(tracker.walk(0, &bytes), kernels);
    assert_eq!(tracker.walk_watched(0, &bytes), kernels);
    assert!(tracker.records().is_empty() && tracker.flows.aside.leaving.is_none());
}
