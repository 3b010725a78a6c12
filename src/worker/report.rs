//! What a worker counts, as plain integers of its own, and tells control when asked: no counter is shared, so counting costs
//! an increment. Bounded: one array place per port and reason. Every packet is in `received` of its port and, once its walk
//! has ended, in exactly one of the others; what is between the two is held.

use super::Latency;
use crate::packet::{DropReason, PORTS_MAX, PortIndex, PuntReason};
use crate::port::{Held, QueueCounters};
use crate::stage::shape::Stats;
use crate::table::qdisc::Handle;
use std::sync::Arc;

/// What happened to the packets that arrived on one port, and what left by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCount {
    /// Packets that arrived here.
    pub received: u64,
    /// ... of which forwarded, by any port.
    pub forwarded: u64,
    /// ... of which given to the punt thread.
    pub punted: u64,
    /// ... of which lost.
    pub dropped: u64,
    /// Packets that left here.
    pub sent: u64,
}

/// One queue of the worker.
#[derive(Clone, Copy, Debug)]
pub struct QueueReport {
    /// The port it belongs to.
    pub port: PortIndex,
    /// Its queue number there.
    pub queue: u32,
    /// Frames in its rings.
    pub held: Held,
    /// What it counted.
    pub counters: QueueCounters,
}

/// What the qdiscs and classes of one shaper counted: its port, the queue there, their counts.
pub type Shaped = (PortIndex, u32, Vec<(Handle, Stats)>);

/// All that a worker counted since its start.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which worker.
    pub worker: usize,
    /// Of an earlier time: it did not answer when it was asked now.
    pub stale: bool,
    /// Turns of the loop, and turns that moved a frame.
    pub turns: u64,
    /// Turns that moved at least one frame.
    pub busy_turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Packets received.
    pub received: u64,
    /// Packets put into a transmit ring, handed over by other workers or not.
    pub forwarded: u64,
    /// Packets given to the punt thread, by reason.
    pub punted: [u64; PuntReason::ALL.len()],
    /// Packets lost, by reason.
    pub dropped: [u64; DropReason::ALL.len()],
    /// Packets given to other workers for transmit.
    pub handed_off: u64,
    /// Packets taken from other workers for transmit, or lost on the way there.
    pub taken_over: u64,
    /// Frames in the pool.
    pub free: u64,
    /// Frames waiting for room in a transmit ring.
    pub pending: u64,
    /// Frames waiting in shapers.
    pub shaped: u64,
    /// What its shapers counted.
    pub shaping: Vec<Shaped>,
    /// By ingress port.
    pub ports: Vec<PortCount>,
    /// Its queues.
    pub queues: Vec<QueueReport>,
    /// By egress port, where they were asked for.
    pub latency: Vec<(PortIndex, Arc<Latency>)>,
}

impl Report {
    /// Zeroes for `worker`.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            stale: false,
            turns: 0,
            busy_turns: 0,
            sleeps: 0,
            received: 0,
            forwarded: 0,
            punted: [0; PuntReason::ALL.len()],
            dropped: [0; DropReason::ALL.len()],
            handed_off: 0,
            taken_over: 0,
            free: 0,
            pending: 0,
            shaped: 0,
            shaping: Vec::new(),
            ports: vec![PortCount::default(); PORTS_MAX],
            queues: Vec::new(),
            latency: Vec::new(),
        }
    }

    /// The counts of `port`, which a ring or a table named.
    #[inline]
    pub fn port(&mut self, port: PortIndex) -> &mut PortCount {
        &mut self.ports[usize::from(port.0) % PORTS_MAX]
    }
}
