//! One worker alone: no other one's frames come back to it.

use super::lab;
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
