//! One worker alone: no other one's frames come back to it.

use super::{bridge, lab};
use bypath::packet::{BURST, Family, PortIndex};
use bypath::port::{MemConfig, MemPool, mem_port};
use bypath::worker::{Limits, Shared, Worker};
use std::sync::Arc;

/// Frames that come back while a burst still waits for room are free like others: in a hundred bursts a slab of a thousand
/// would be used up.
#[test]
fn a_transmit_ring_shorter_than_a_burst_keeps_no_frames() {
    const SLAB: u32 = 1024;
    let limits = Limits::new(1, SLAB);
    let (shared, _, _) = Shared::new(limits, lab::snapshot(1, lab::FAR)).expect("eventfds");
    let shared = Arc::new(shared);
    let mut pool = MemPool::new(SLAB, 2048, 256);
    let mut worker = Worker::new(0, shared.clone(), pool.take_all(), &[]);
    let mut ends = Vec::new();
    for index in 0..2 {
        let tx = BURST / 2;
        let (queue, end) = mem_port(MemConfig { fill: 128, tx });
        worker.open(PortIndex(index), 0, queue);
        shared.set_owner(PortIndex(index), Some(0));
        ends.push(end);
    }
    worker.turn(&|| 1);
    let packet = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    for burst in 0..100 {
        (0..BURST).for_each(|_| assert!(ends[0].push(&packet), "no frame to receive into in burst {burst}"));
        while worker.turn(&|| 1) > 0 {}
    }
    assert_eq!(ends[1].sent_count(), 100 * BURST as u64);
}

/// A station that is silent, or one that is not let in, has frames punted without end, faster than the kernel takes them: those
/// may fill half of the queue to it.
#[test]
fn what_a_bridge_punts_without_end_leaves_room_for_others() {
    let (known, unknown) = (bridge::station(0), bridge::station(9));
    let untagged: &[u8] = &[0x12, 0x34];
    for (src, dst, head) in [
        (known, unknown, untagged),
        (unknown, bridge::station(2), untagged),
        (known, bridge::station(2), &[0x81, 0, 0, 7, 0x12, 0x34]),
    ] {
        let mut snapshot = bridge::snapshot(1, lab::FAR);
        bridge::filter_vlans(&mut snapshot);
        let limits = Limits::new(1, 4096);
        let (shared, _, _) = Shared::new(limits, snapshot).expect("eventfds");
        let shared = Arc::new(shared);
        let mut pool = MemPool::new(4096, 2048, 256);
        let mut worker = Worker::new(0, shared.clone(), pool.take_all(), &[]);
        let (queue, end) = mem_port(MemConfig { fill: 128, tx: 128 });
        worker.open(PortIndex(0), 0, queue);
        worker.turn(&|| 1);
        let mut bursts = |frame: &[u8], count: usize| {
            for _ in 0..count {
                (0..BURST).for_each(|_| assert!(end.push(frame), "no frame to receive into"));
                while worker.turn(&|| 1) > 0 {}
            }
            shared.punts.len()
        };
        let endless = bridge::frame(dst, src, head, 46);
        let half = limits.punts / 2;
        assert_eq!(bursts(&endless, limits.punts / BURST + 1), half);
        let own = lab::udp(Family::V4, lab::own(Family::V4), 18);
        assert_eq!(bursts(&own, 2), half + 2 * BURST);
        assert_eq!(bursts(&endless, 1), half + 2 * BURST);
    }
}
