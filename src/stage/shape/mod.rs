//! shape: the last box before the wire. What a root qdisc says about a port is kept here, frames and tokens: plain state of the
//! one worker that owns it, without a lock. `now_ns` is monotonic time, an argument.
//!
//! ```text
//!  enqueue --> classify (filters, priority) --> queues --dequeue, when the tokens are there--> transmit ring
//!                                   \--full--> lost, counted as tc counts it
//! ```

pub mod ecn;
pub mod place;

use crate::table::filter::Facts;
use crate::table::qdisc::{Handle, Qdisc};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is shaped: a frame, or what a test takes for one.
pub trait Packet {
    /// Its length in bytes, from the Ethernet header on: what tokens are paid for (qdisc_pkt_len).
    fn size(&self) -> u32;
    /// What filters look at.
    fn facts(&self) -> Facts<'_>;
    /// Sets "congestion experienced" where its sender knows ECN; whether it did.
    fn mark_congestion(&mut self) -> bool;
}

/// What a qdisc or a class counted, in the words of `tc -s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that left.
    pub bytes: u64,
    /// Packets that left.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Times that a packet had to wait for tokens.
    pub overlimits: u64,
    /// Bytes that wait.
    pub backlog_bytes: u64,
    /// Packets that wait.
    pub backlog_packets: u64,
    /// htb: packets sent by a class's own rate.
    pub lended: u64,
    /// htb: packets sent by tokens of a class above.
    pub borrowed: u64,
    /// htb: packets longer than what buckets hold. fq_codel: ECN marks.
    pub special: u64,
}

/// A root qdisc at work.
#[derive(Debug)]
pub struct Shaper<P> {
    root: Arc<Qdisc>,
    waiting: VecDeque<P>,
}

impl<P: Packet> Shaper<P> {
    /// Empty, with full buckets.
    pub fn new(root: Arc<Qdisc>, _now_ns: u64) -> Self {
        Self {
            root,
            waiting: VecDeque::new(),
        }
    }

    /// Goes on by another configuration, as the kernel does when `tc` changes it: what keeps its handle and kind keeps its frames
    /// and tokens; frames of what is gone go to `lost`.
    pub fn change(&mut self, root: Arc<Qdisc>, _now_ns: u64, _lost: &mut Vec<P>) {
        self.root = root;
    }

    /// The configuration it works by.
    pub fn root(&self) -> &Arc<Qdisc> {
        &self.root
    }

    /// Takes a frame; those that it has no room for, of whatever class, go to `lost`.
    pub fn enqueue(&mut self, packet: P, _now_ns: u64, _lost: &mut Vec<P>) {
        self.waiting.push_back(packet);
    }

    /// The next frame that may leave at `now_ns`. What it drops meanwhile (codel) goes to `lost`.
    pub fn dequeue(&mut self, _now_ns: u64, _lost: &mut Vec<P>) -> Option<P> {
        self.waiting.pop_front()
    }

    /// When [`Shaper::dequeue`] may have something again; `None` when nothing waits.
    pub fn due_ns(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(0)
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The kernel sent `bytes` by the class or qdisc `of` (the box's own traffic, and punted frames), which are paid for here too, so that
    /// both together keep to the rate.
    pub fn charge(&mut self, _of: Handle, _bytes: u64, _now_ns: u64) {}

    /// Gives all frames back.
    pub fn purge(&mut self, lost: &mut Vec<P>) {
        lost.extend(self.waiting.drain(..));
    }

    /// What each qdisc and class counted.
    pub fn stats(&self) -> Vec<(Handle, Stats)> {
        Vec::new()
    }
}
