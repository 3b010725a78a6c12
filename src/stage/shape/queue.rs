//! A qdisc at work: what all kinds have in common (struct Qdisc of the kernel), around what each kind does in its own file.
//!
//! Frames that wait are counted here and not in the kinds, by one rule: what was put in, less what was taken out, less what was
//! `lost` meanwhile by this qdisc or one below it. So the counts of a qdisc and of its parents agree whatever the kinds do, where the
//! kernel carries the differences upwards (qdisc_tree_reduce_backlog).
//!
//! A parent that must know a frame before it takes it peeks: a fifo shows its head, prio that of its first band, so that a frame of a
//! better band that comes meanwhile goes first; the other kinds give it up, and it waits here (qdisc_peek_dequeued).

use super::Stats;
use super::fifo::Fifo;
use super::fq::Fq;
use super::fq_codel::FqCodel;
use super::frames::{Marks, Waiting};
use super::htb::Htb;
use super::prio::Prio;
use super::sfq::Sfq;
use super::tbf::Tbf;
use crate::table::bucket::Amount;
use crate::table::filter::Facts;
use crate::table::qdisc::{Handle, Kind, Qdisc};
use std::sync::Arc;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Queue {
    config: Arc<Qdisc>,
    stats: Stats,
    peeked: Option<Waiting>,
    /// As of when it was last told of the kernel's part.
    told: Told,
    how: How,
}

/// How a queue stood when it was told of what the kernel sent beside.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Bytes that had left.
    bytes: u64,
    /// Packets that will have left when all are gone that waited.
    packets: u64,
    /// How often in a row those that waited had next to nothing beside the kernel.
    in_vain: u8,
}

/// Frames that wait have next to nothing where the kernel sends so many times as much.
const LEFT_OUT_TIMES: u64 = 7;
/// ... and that is said when it was so that often in a row.
const LEFT_OUT_LOOKS: u8 = 2;

/// How it queues.
#[derive(Debug)]
enum How {
    Fifo(Fifo),
    Prio(Box<Prio>),
    Tbf(Box<Tbf>),
    Htb(Box<Htb>),
    FqCodel(Box<FqCodel>),
    Sfq(Box<Sfq>),
    Fq(Box<Fq>),
}

impl Queue {
    /// Empty, with full buckets.
    pub fn new(config: &Arc<Qdisc>, now_ns: u64) -> Self {
        Self {
            config: config.clone(),
            stats: Stats::default(),
            peeked: None,
            told: Told::default(),
            how: How::new(config, now_ns),
        }
    }

    /// Takes a frame; those that there is no room for go to `lost`. Whether the frame's own flow lost one, itself or another (the kernel's
    /// NET_XMIT_DROP and NET_XMIT_CN): a class of htb counts such frames, and not what other flows lose for it.
    #[inline]
    pub fn enqueue(&mut self, frame: Waiting, facts: &Facts<'_>, now_ns: u64, lost: &mut Vec<Waiting>) -> bool {
        let (before, peeked) = (lost.len(), u64::from(self.peeked.is_some()));
        self.stats.backlog_packets += 1;
        self.stats.backlog_bytes += u64::from(frame.size);
        let is_refused = match &mut self.how {
            How::Fifo(fifo) => fifo.enqueue(frame, lost),
            How::Prio(prio) => prio.enqueue(&self.config, frame, facts, now_ns, lost),
            How::Tbf(tbf) => tbf.enqueue(frame, facts, now_ns, lost),
            How::Htb(htb) => htb.enqueue(&self.config, frame, facts, now_ns, lost, &mut self.stats),
            How::FqCodel(fq_codel) => fq_codel.enqueue(&self.config, frame, facts, peeked, now_ns, lost),
            How::Sfq(sfq) => sfq.enqueue(&self.config, frame, facts, peeked, now_ns, lost),
            How::Fq(fq) => fq.enqueue(frame, facts, peeked, now_ns, lost),
        };
        if lost.len() > before {
            self.count_lost(&lost[before..]);
        }
        is_refused
    }

    /// See [`super::Shaper::passes`]. A fifo, which most qdiscs have below, is asked here.
    #[inline(always)]
    pub fn passes(&mut self, size: u32, facts: &Facts<'_>, now_ns: u64) -> bool {
        if !self.is_empty() {
            return false;
        }
        let passes = match &mut self.how {
            How::Fifo(fifo) => fifo.passes(size),
            _ => self.others_pass(size, facts, now_ns),
        };
        self.stats.packets += u64::from(passes);
        self.stats.bytes += if passes { size.into() } else { 0 };
        passes
    }

    fn others_pass(&mut self, size: u32, facts: &Facts<'_>, now_ns: u64) -> bool {
        match &mut self.how {
            How::Fifo(fifo) => fifo.passes(size),
            How::Prio(prio) => prio.passes(&self.config, size, facts, now_ns),
            How::Tbf(tbf) => tbf.passes(size, facts, now_ns),
            How::Htb(htb) => htb.passes(&self.config, size, facts, now_ns, &mut self.stats),
            How::Fq(fq) => fq.passes(),
            // Their queues have clocks and turns of their own, which a frame in passing moves too.
            How::FqCodel(_) | How::Sfq(_) => false,
        }
    }

    /// The next frame that may leave.
    #[inline]
    pub fn dequeue(&mut self, now_ns: u64, marks: &mut dyn Marks, lost: &mut Vec<Waiting>) -> Option<Waiting> {
        let frame = match self.peeked.take() {
            Some(frame) => frame,
            None => self.pull(now_ns, marks, lost)?,
        };
        self.stats.backlog_packets -= 1;
        self.stats.backlog_bytes -= u64::from(frame.size);
        self.stats.packets += 1;
        self.stats.bytes += u64::from(frame.size);
        Some(frame)
    }

    /// How long the frame is that [`Queue::dequeue`] will give.
    #[inline]
    pub fn peek(&mut self, now_ns: u64, marks: &mut dyn Marks, lost: &mut Vec<Waiting>) -> Option<u32> {
        let before = lost.len();
        match &mut self.how {
            How::Fifo(fifo) => return fifo.front(),
            How::Prio(prio) => {
                let bytes = prio.peek(now_ns, marks, lost);
                self.count_lost(&lost[before..]);
                return bytes;
            }
            _ => {}
        }
        if self.peeked.is_none() {
            self.peeked = self.pull(now_ns, marks, lost);
        }
        self.peeked.map(|frame| frame.size)
    }

    #[inline]
    fn pull(&mut self, now_ns: u64, marks: &mut dyn Marks, lost: &mut Vec<Waiting>) -> Option<Waiting> {
        let before = lost.len();
        let frame = match &mut self.how {
            How::Fifo(fifo) => fifo.dequeue(),
            How::Prio(prio) => prio.dequeue(now_ns, marks, lost),
            How::Tbf(tbf) => tbf.dequeue(now_ns, marks, lost, &mut self.stats),
            // Asked in vain, it does not look at the time (htb_dequeue).
            How::Htb(_) if self.stats.backlog_packets == 0 => None,
            How::Htb(htb) => htb.dequeue(now_ns, marks, lost, &mut self.stats),
            How::FqCodel(fq_codel) => fq_codel.dequeue(now_ns, marks, lost, &mut self.stats),
            How::Sfq(sfq) => sfq.dequeue(),
            How::Fq(fq) => fq.dequeue(now_ns, marks, &mut self.stats),
        };
        if lost.len() > before {
            self.count_lost(&lost[before..]);
        }
        frame
    }

    #[cold]
    fn count_lost(&mut self, lost: &[Waiting]) {
        for frame in lost {
            self.stats.drops += 1;
            self.stats.backlog_packets -= 1;
            self.stats.backlog_bytes -= u64::from(frame.size);
        }
    }

    /// When [`Queue::dequeue`] may have something; `None` when nothing waits. Nothing was found at a time that is not before it.
    #[inline]
    pub fn due_ns(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        if self.peeked.is_some() {
            return Some(0);
        }
        match &self.how {
            How::Fifo(_) | How::FqCodel(_) | How::Sfq(_) => Some(0),
            How::Prio(prio) => prio.due_ns(),
            How::Tbf(tbf) => tbf.due_ns(),
            How::Htb(htb) => htb.due_ns(),
            How::Fq(fq) => fq.due_ns(),
        }
    }

    /// Whether it gives what it has whenever it is asked.
    #[inline]
    pub fn is_fifo(&self) -> bool {
        matches!(self.how, How::Fifo(_))
    }

    /// Whether the frame that was peeked stays the next one when others come.
    #[inline]
    pub fn keeps_first(&self) -> bool {
        match &self.how {
            How::Fifo(fifo) => fifo.keeps_first(),
            How::Prio(_) => false,
            _ => true,
        }
    }

    /// How many frames wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.stats.backlog_packets as usize
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.stats.backlog_packets == 0
    }

    /// What it works by.
    pub fn config(&self) -> &Arc<Qdisc> {
        &self.config
    }

    /// Goes on by another configuration: with its frames and tokens where it is the same qdisc, of one kind, else from the start.
    pub fn change(&mut self, config: &Arc<Qdisc>, now_ns: u64, lost: &mut Vec<Waiting>) {
        let (before, peeked) = (lost.len(), u64::from(self.peeked.is_some()));
        let which = |config: &Qdisc| (config.handle, config.generation);
        let changed = which(&self.config) == which(config) && self.how.change(config, peeked, now_ns, lost);
        if changed {
            self.config = config.clone();
            self.count_lost(&lost[before..]);
        } else {
            self.purge(lost);
            *self = Self::new(config, now_ns);
        }
    }

    /// How many frames the longest queue has of those at the bottom, which are no other's parents.
    pub fn longest(&mut self) -> usize {
        match &mut self.how {
            How::Fifo(_) | How::FqCodel(_) | How::Sfq(_) | How::Fq(_) => self.len(),
            How::Prio(prio) => prio.longest(),
            How::Tbf(tbf) => tbf.longest(),
            How::Htb(htb) => htb.longest(self.stats.backlog_packets),
        }
        .max(usize::from(self.peeked.is_some()))
    }

    /// Has the longest queue lose a frame as if it were full (fq_codel some, as it does then): memory is short. It counts as dropped
    /// there and above. Something is lost unless nothing waits.
    pub fn shed(&mut self, lost: &mut Vec<Waiting>) {
        let before = lost.len();
        match &mut self.how {
            How::Fifo(fifo) => fifo.shed(lost),
            How::Prio(prio) => prio.shed(lost),
            How::Tbf(tbf) => tbf.shed(lost),
            How::Htb(htb) => htb.shed(self.stats.backlog_packets, lost),
            How::FqCodel(fq_codel) => _ = fq_codel.drop_from_longest(lost),
            How::Sfq(sfq) => _ = sfq.drop_from_longest(lost),
            How::Fq(fq) => fq.shed(lost),
        }
        if lost.len() == before {
            lost.extend(self.peeked.take());
        }
        self.count_lost(&lost[before..]);
    }

    /// Gives all frames back, as qdisc_reset does: they do not count as drops.
    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        lost.extend(self.peeked.take());
        match &mut self.how {
            How::Fifo(fifo) => fifo.purge(lost),
            How::Prio(prio) => prio.purge(lost),
            How::Tbf(tbf) => tbf.purge(lost),
            How::Htb(htb) => htb.purge(lost),
            How::FqCodel(fq_codel) => fq_codel.purge(lost),
            How::Sfq(sfq) => sfq.purge(lost),
            How::Fq(fq) => fq.purge(lost),
        }
        (self.stats.backlog_packets, self.stats.backlog_bytes) = (0, 0);
    }

    /// Pays for what the kernel sent by `of`; `None` if that is neither here nor below. Whether the kernel has so much of a rate that
    /// frames that wait for it here have next to nothing, or that rates above are not kept.
    pub fn charge(&mut self, of: Handle, sent: Amount, now_ns: u64) -> Option<bool> {
        let here = of == self.config.handle && of != Handle::default();
        let is_left_out = here.then(|| self.is_left_out(sent));
        match &mut self.how {
            How::Fifo(_) | How::FqCodel(_) | How::Sfq(_) | How::Fq(_) => is_left_out,
            How::Prio(prio) => is_left_out.or_else(|| prio.charge(of, sent, now_ns)),
            How::Tbf(tbf) => tbf.charge(is_left_out, of, sent, now_ns),
            // What went by htb itself went past its classes.
            How::Htb(htb) => is_left_out.or_else(|| htb.charge(of, sent, now_ns, &mut self.stats)),
        }
    }

    /// Takes in how much the kernel sent beside; whether frames that waited at the last time still do, and have next to nothing.
    pub fn is_left_out(&mut self, (by_kernel, _): Amount) -> bool {
        let now = &self.stats;
        let still_wait = !self.is_empty() && now.packets < self.told.packets;
        let is_little = (now.bytes - self.told.bytes).saturating_mul(LEFT_OUT_TIMES) < by_kernel;
        self.told = Told {
            bytes: now.bytes,
            packets: now.packets + now.backlog_packets,
            in_vain: if still_wait && is_little {
                self.told.in_vain.saturating_add(1)
            } else {
                0
            },
        };
        self.told.in_vain >= LEFT_OUT_LOOKS
    }

    /// What this qdisc and all below it counted. One without a handle is part of the class that it belongs to.
    pub fn stats(&self, into: &mut Vec<(Handle, Stats)>) {
        if self.config.handle != Handle::default() {
            into.push((self.config.handle, self.stats));
        }
        match &self.how {
            How::Fifo(_) | How::FqCodel(_) | How::Sfq(_) | How::Fq(_) => {}
            How::Prio(prio) => prio.stats(self.config.handle, into),
            How::Tbf(tbf) => tbf.stats(into),
            How::Htb(htb) => htb.stats(into),
        }
    }

    /// What this qdisc alone counted.
    pub fn own_stats(&self) -> &Stats {
        &self.stats
    }
}

impl How {
    fn new(config: &Qdisc, now_ns: u64) -> Self {
        match &config.kind {
            Kind::Fifo(fifo) => Self::Fifo(Fifo::new(*fifo)),
            Kind::Prio(prio) => Self::Prio(Box::new(Prio::new(prio, now_ns))),
            Kind::Tbf(tbf) => Self::Tbf(Box::new(Tbf::new(tbf, now_ns))),
            Kind::Htb(htb) => Self::Htb(Box::new(Htb::new(config, htb, now_ns))),
            Kind::FqCodel(fq_codel) => Self::FqCodel(Box::new(FqCodel::new(fq_codel, now_ns))),
            Kind::Sfq(sfq) => Self::Sfq(Box::new(Sfq::new(sfq, now_ns))),
            Kind::Fq(fq) => Self::Fq(Box::new(Fq::new(fq, now_ns))),
        }
    }

    /// Whether it could go on by `config`, which it does then.
    fn change(&mut self, config: &Qdisc, peeked: u64, now_ns: u64, lost: &mut Vec<Waiting>) -> bool {
        match (self, &config.kind) {
            (Self::Fifo(fifo), Kind::Fifo(config)) => fifo.change(*config),
            (Self::Prio(prio), Kind::Prio(config)) => {
                prio.change(config, now_ns, lost);
                true
            }
            (Self::Tbf(tbf), Kind::Tbf(config)) => {
                tbf.change(config, now_ns, lost);
                true
            }
            (Self::Htb(htb), Kind::Htb(new)) => {
                htb.change(config, new, now_ns, lost);
                true
            }
            (Self::FqCodel(fq_codel), Kind::FqCodel(config)) => fq_codel.change(config, peeked, lost),
            (Self::Sfq(sfq), Kind::Sfq(config)) => sfq.change(config, peeked, lost),
            (Self::Fq(fq), Kind::Fq(config)) => {
                fq.change(config, peeked, now_ns, lost);
                true
            }
            _ => false,
        }
    }
}
