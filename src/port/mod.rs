//! How packets enter and leave. A port is a network interface; a [`Queue`] is one (port, queue) pair of it, owned by exactly
//! one worker.
//!
//! ```text
//!            +------------------ worker ------------------+
//!  free ---->| refill                            transmit |----> tx ring ----> NIC
//!            |   |                                  ^     |                     |
//!            |   v                                  |     |                     v
//!            | fill ring --> NIC --> rx ring --> receive  |<- complete <- completion ring
//!            +--------------------------------------------+
//! ```
//!
//! `xsk` is the AF_XDP queue, on top of `umem` (who has which frame) and `socket` (the kernel's interface, with its `ring`s); `mem` and `pcap` are queues without a kernel, for tests and benches. Layer 2,
//! and one of the few rooms where `unsafe` may live.

mod audit;
#[cfg(feature = "xdp")]
mod bind;
pub mod bpf_query;
mod ethtool;
#[cfg(feature = "xdp")]
pub mod interrupt;
mod ioctl;
pub mod link;
#[cfg(feature = "xdp")]
pub mod live;
mod mem;
mod netdev;
pub mod netns;
mod pcap;
#[cfg(feature = "xdp")]
mod promiscuous;
#[cfg(feature = "xdp")]
pub mod ring;
#[cfg(feature = "xdp")]
pub mod socket;
pub mod socket_filter;
mod stamp;
#[cfg(feature = "xdp")]
pub mod umem;
pub mod wait;
#[cfg(feature = "xdp")]
pub mod xsk;

pub use audit::{AuditError, audit};
#[cfg(feature = "xdp")]
pub use bind::{OpenError, QUEUES_MAX};
pub use mem::{Fault, MemConfig, MemPool, MemPort, MemQueue, mem_port};
pub use pcap::{PcapError, PcapQueue, PcapReader, PcapWriter};
#[cfg(feature = "xdp")]
pub use promiscuous::Promiscuous;
pub use stamp::{STAMP_LEN, STAMP_MAGIC, put_stamp, take_stamp};

use crate::packet::Frame;
use std::os::fd::RawFd;

/// One (port, queue) pair, as the worker that owns it sees it. No call blocks, none allocates.
pub trait Queue {
    /// Appends up to `max` frames that arrived to `into`; how many.
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize;

    /// Moves frames from the front of `frames` into the transmit ring, as many as it has room for; how many. What found no
    /// room stays, in order.
    fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize;

    /// For how many frames the transmit ring has room. Those that were sent take room until they are taken back.
    fn room(&self) -> usize;

    /// Has the kernel send what is in the transmit ring, until the ring is empty or the kernel takes no more. How many frames
    /// it left there: nothing sends them but another kick.
    fn kick(&mut self) -> usize;

    /// Appends the frames that were sent to `into`; how many. They may belong to another worker's slab.
    fn complete(&mut self, into: &mut Vec<Frame>) -> usize;

    /// Moves frames from the back of `free` into the fill ring, as many as it has room for; how many.
    fn refill(&mut self, free: &mut Vec<Frame>) -> usize;

    /// What poll(2) may wait on for arrivals, where there is such a thing.
    fn fd(&self) -> Option<RawFd>;

    /// Where the frames are that this queue holds for the kernel, for the frame audit.
    fn held(&self) -> Held;

    /// Counts since the queue was made.
    fn counters(&self) -> QueueCounters;
}

/// Frames in the rings of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Given to the kernel to receive into, or received and not yet taken.
    pub fill: u32,
    /// Given to the kernel to send, or sent and not yet taken back.
    pub tx: u32,
}

/// What happened on one queue, in frames or calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Frames received.
    pub rx: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames put into the transmit ring.
    pub tx: u64,
    /// Bytes put into the transmit ring.
    pub tx_bytes: u64,
    /// sendto calls.
    pub kicks: u64,
    /// ... that said EAGAIN: more to send, call again.
    pub kick_again: u64,
    /// ... that said EBUSY: the driver or qdisc dropped the frame, the ring went on.
    pub kick_busy: u64,
    /// ... that said ENOBUFS: the socket's send buffer is too small.
    pub kick_nobufs: u64,
    /// ... that said ENETDOWN or ENXIO: the port is down or gone.
    pub kick_down: u64,
    /// ... that said anything else.
    pub kick_other: u64,
    /// Frames that came in pieces (larger than a buffer), dropped.
    pub rx_oversize: u64,
    /// XDP_STATISTICS: dropped by the kernel for other reasons than the next two.
    pub xsk_rx_dropped: u64,
    /// XDP_STATISTICS: the receive ring was full.
    pub xsk_rx_ring_full: u64,
    /// XDP_STATISTICS: the fill ring was empty.
    pub xsk_fill_empty: u64,
    /// XDP_STATISTICS: descriptors of ours that the kernel found invalid.
    pub xsk_invalid: u64,
}

impl QueueCounters {
    /// Adds what happened on the queue before it was opened again.
    pub fn add(&mut self, other: &QueueCounters) {
        self.rx += other.rx;
        self.rx_bytes += other.rx_bytes;
        self.tx += other.tx;
        self.tx_bytes += other.tx_bytes;
        self.kicks += other.kicks;
        self.kick_again += other.kick_again;
        self.kick_busy += other.kick_busy;
        self.kick_nobufs += other.kick_nobufs;
        self.kick_down += other.kick_down;
        self.kick_other += other.kick_other;
        self.rx_oversize += other.rx_oversize;
        self.xsk_rx_dropped += other.xsk_rx_dropped;
        self.xsk_rx_ring_full += other.xsk_rx_ring_full;
        self.xsk_fill_empty += other.xsk_fill_empty;
        self.xsk_invalid += other.xsk_invalid;
    }
}
