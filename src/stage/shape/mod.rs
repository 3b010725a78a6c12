//! shape: the last box before the wire. What a root qdisc says about a port is kept here, frames and tokens: plain state of the
//! one worker that owns it, without a lock. `now_ns` is monotonic time, an argument.
//!
//! ```text
//!  passes: nothing waits, tokens are there ----------------------------------------------------> transmit ring
//!     | no
//!  enqueue --> classify (filters, priority) --> queues --dequeue, when the tokens are there--> transmit ring
//!                                   \--full--> lost, counted as tc counts it
//! ```
//!
//! [`Shaper::passes`] does to tokens and counters what enqueue and dequeue would do, for the frame that nothing delays.

mod codel;
pub mod ecn;
mod fifo;
mod flow_hash;
mod fq;
mod fq_codel;
mod frames;
mod htb;
pub mod place;
mod prio;
mod queue;
mod sfq;
mod tbf;

use crate::table::bucket::Amount;
use crate::table::filter::Facts;
use crate::table::qdisc::{Handle, Qdisc};
use frames::{Frames, Waiting};
use queue::Queue;
use std::sync::Arc;

/// Which of so many queues a frame goes by, the same for all of a flow.
pub fn queue_of(frame: &[u8], queues: usize) -> usize {
    flow_hash::scale(flow_hash::flow_hash(frame, 0), queues as u32) as usize
}

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
    /// A class of htb: the tokens of its rate when it was last charged, in nanoseconds of that; negative what it owes.
    pub tokens_ns: i64,
    /// ... those of its ceil.
    pub ctokens_ns: i64,
    /// htb: packets longer than what buckets hold. fq_codel and fq: marks.
    pub special: u64,
}

/// A root qdisc at work.
#[derive(Debug)]
pub struct Shaper<P> {
    queue: Queue,
    frames: Frames<P>,
    /// What was lost in the call that runs.
    lost: Vec<Waiting>,
}

impl<P: Packet> Shaper<P> {
    /// Empty, with full buckets.
    pub fn new(root: Arc<Qdisc>, now_ns: u64) -> Self {
        Self {
            queue: Queue::new(&root, now_ns),
            frames: Frames::new(),
            lost: Vec::new(),
        }
    }

    /// Goes on by another configuration, as the kernel does when `tc` changes it: what keeps its handle, generation and kind
    /// keeps its frames and tokens; frames of what is gone go to `lost`. (tbf_change fills the buckets when it is about them.)
    pub fn change(&mut self, root: Arc<Qdisc>, now_ns: u64, lost: &mut Vec<P>) {
        self.queue.change(&root, now_ns, &mut self.lost);
        self.give_lost(lost);
    }

    /// The configuration it works by.
    pub fn root(&self) -> &Arc<Qdisc> {
        self.queue.config()
    }

    /// What a frame of `size` bytes counts (__qdisc_calculate_pkt_len).
    #[inline]
    fn counted(&self, size: u32) -> u32 {
        size.saturating_add_signed(self.root().overhead).max(1)
    }

    /// Takes a frame; those that it has no room for, of whatever class, go to `lost`.
    #[inline]
    pub fn enqueue(&mut self, packet: P, now_ns: u64, lost: &mut Vec<P>) {
        let size = self.counted(packet.size());
        let frame = self.frames.insert(packet, size);
        if let Some(packet) = self.frames.get(frame) {
            self.queue.enqueue(frame, &packet.facts(), now_ns, &mut self.lost);
        }
        if !self.lost.is_empty() {
            self.give_lost(lost);
        }
    }

    /// Whether a frame of `size` bytes may leave at `now_ns` at once, as if it had been put in and taken out; it is paid for and
    /// counted then. False where something waits, tokens lack, or only a queue can tell: then it is to be put in.
    #[inline]
    pub fn passes(&mut self, size: u32, facts: &Facts<'_>, now_ns: u64) -> bool {
        self.queue.passes(self.counted(size), facts, now_ns)
    }

    /// The next frame that may leave at `now_ns`. What it drops meanwhile (codel) goes to `lost`.
    #[inline]
    pub fn dequeue(&mut self, now_ns: u64, lost: &mut Vec<P>) -> Option<P> {
        if now_ns < self.due_ns()? {
            return None;
        }
        let frame = self.queue.dequeue(now_ns, &mut self.frames, &mut self.lost);
        if frame.is_some() && self.due_ns().is_none_or(|due_ns| due_ns > now_ns) {
            // The kernel asks until nothing comes: with that a flow of fq_codel or fq gives up its turn. By `due_ns` there is nothing; it
            // would be lost, and counted.
            let nothing = self.queue.dequeue(now_ns, &mut self.frames, &mut self.lost);
            debug_assert!(nothing.is_none(), "a frame came before it was due");
            self.lost.extend(nothing);
        }
        if !self.lost.is_empty() {
            self.give_lost(lost);
        }
        self.frames.take(frame?)
    }

    #[cold]
    fn give_lost(&mut self, lost: &mut Vec<P>) {
        lost.extend(self.lost.drain(..).filter_map(|frame| self.frames.take(frame)));
    }

    /// When [`Shaper::dequeue`] may have something again; `None` when nothing waits. A time in the past (0) says that nobody has
    /// looked since something changed; when dequeue gave nothing, it is later than its `now_ns`.
    #[inline]
    pub fn due_ns(&self) -> Option<u64> {
        self.queue.due_ns()
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many frames wait in its longest queue, of one class or band.
    pub fn longest(&mut self) -> usize {
        self.queue.longest()
    }

    /// Has its longest queue lose a frame, or some: there is no memory for all. They count as dropped there.
    pub fn shed(&mut self, lost: &mut Vec<P>) {
        self.queue.shed(&mut self.lost);
        self.give_lost(lost);
    }

    /// The kernel sent so much by the class or qdisc `of` (the box's own traffic, and punted frames), which is paid for here too, so that
    /// both together keep to the rate: from the buckets of `of` and of all above it, each with what it counts around a frame. So each
    /// packet is to be told once, by the lowest class or qdisc that it passed. What is not here pays nothing.
    ///
    /// Whether frames that wait by then get next to nothing of a rate beside the kernel's, or a class at the top cannot keep its own.
    pub fn charge(&mut self, of: Handle, sent: Amount, now_ns: u64) -> bool {
        self.queue.charge(of, sent, now_ns).unwrap_or(false)
    }

    /// Gives all frames back.
    pub fn purge(&mut self, lost: &mut Vec<P>) {
        self.queue.purge(&mut self.lost);
        self.give_lost(lost);
    }

    /// What each qdisc and class counted.
    pub fn stats(&self) -> Vec<(Handle, Stats)> {
        let mut stats = Vec::new();
        self.queue.stats(&mut stats);
        stats
    }
}
