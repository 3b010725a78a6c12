//! fq_codel (net/sched/sch_fq_codel.c, RFC 8290): flows in turn by deficit round robin, new ones first, each with its own [`Codel`].
//!
//! A frame's memory counts as the kernel's skb of a full-sized packet does, since here each frame has a buffer of that size. When all is
//! full, half of what the longest flow has is dropped, at most a batch: looking for it is a scan of all flows.

use super::Stats;
use super::codel::{Codel, Flow, Params};
use super::flow_hash::{Choice, flow_hash, scale};
use super::frames::{Marks, Waiting};
use crate::table::filter::Facts;
use crate::table::qdisc::{self, Qdisc};
use std::collections::VecDeque;

/// What a frame takes of the memory limit (skb->truesize).
const TRUESIZE: u64 = 2304;

/// An fq_codel at work.
#[derive(Debug)]
pub(super) struct FqCodel {
    config: qdisc::FqCodel,
    flows: Vec<OneFlow>,
    new: VecDeque<u32>,
    old: VecDeque<u32>,
    packets: u64,
    bytes: u64,
    seed: u64,
}

#[derive(Clone, Debug, Default)]
struct OneFlow {
    /// With the time that each came.
    frames: VecDeque<(Waiting, u64)>,
    bytes: u64,
    deficit: i64,
    is_listed: bool,
    codel: Codel,
}

impl FqCodel {
    pub fn new(config: &qdisc::FqCodel, now_ns: u64) -> Self {
        Self {
            config: config.clone(),
            flows: vec![OneFlow::default(); config.flows.max(1) as usize],
            new: VecDeque::new(),
            old: VecDeque::new(),
            packets: 0,
            bytes: 0,
            seed: now_ns,
        }
    }

    /// With `peeked` more, which were taken out and still wait, the limit holds. See [`Queue::enqueue`](super::queue::Queue::enqueue).
    pub fn enqueue(
        &mut self,
        root: &Qdisc,
        frame: Waiting,
        facts: &Facts<'_>,
        peeked: u64,
        now_ns: u64,
        lost: &mut Vec<Waiting>,
    ) -> bool {
        let flows = self.flows.len() as u32;
        let index = match Choice::of(root, facts, flows) {
            Choice::Flow(index) => index,
            Choice::Hash => scale(flow_hash(facts.bytes, self.seed), flows),
            Choice::Lost => {
                lost.push(frame);
                return true;
            }
        };
        let flow = &mut self.flows[index as usize];
        flow.frames.push_back((frame, now_ns));
        flow.bytes += u64::from(frame.size);
        self.packets += 1;
        self.bytes += u64::from(frame.size);
        if !flow.is_listed {
            (flow.is_listed, flow.deficit) = (true, self.config.quantum.max(1).into());
            self.new.push_back(index);
        }
        self.is_over(peeked) && self.drop_from_longest(lost) == Some(index)
    }

    fn is_over(&self, peeked: u64) -> bool {
        self.packets + peeked > self.config.limit.into() || self.packets * TRUESIZE > self.config.memory_limit.into()
    }

    /// fq_codel_drop; the flow that lost some.
    pub fn drop_from_longest(&mut self, lost: &mut Vec<Waiting>) -> Option<u32> {
        let flows = self.flows.iter_mut().enumerate();
        let (index, flow) = flows.rev().max_by_key(|(_, flow)| flow.bytes)?;
        let (enough, mut dropped, mut bytes) = (flow.bytes / 2, 0, 0);
        while let Some((frame, _)) = flow.frames.pop_front() {
            bytes += u64::from(frame.size);
            dropped += 1;
            lost.push(frame);
            if dropped >= self.config.drop_batch.max(1) || bytes >= enough {
                break;
            }
        }
        flow.bytes -= bytes;
        flow.codel.count = flow.codel.count.wrapping_add(dropped);
        self.bytes -= bytes;
        self.packets -= u64::from(dropped);
        Some(index as u32)
    }

    pub fn dequeue(
        &mut self,
        now_ns: u64,
        marks: &mut dyn Marks,
        lost: &mut Vec<Waiting>,
        stats: &mut Stats,
    ) -> Option<Waiting> {
        let params = Params {
            target_ns: self.config.target_ns,
            interval_ns: self.config.interval_ns,
            ce_threshold_ns: self.config.ce_threshold_ns,
            frame_max: self.config.frame_max.into(),
        };
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let index = list.pop_front()?;
            let flow = &mut self.flows[index as usize];
            if flow.deficit <= 0 {
                flow.deficit += i64::from(self.config.quantum.max(1));
                self.old.push_back(index);
                continue;
            }
            let mut codel = flow.codel;
            let mut source = Source {
                flow,
                packets: &mut self.packets,
                bytes: &mut self.bytes,
                ecn: self.config.ecn,
                marks,
                lost,
                stats,
            };
            let frame = codel.dequeue(&params, now_ns, &mut source);
            flow.codel = codel;
            let Some(frame) = frame else {
                // An empty new flow goes through the old ones once, so that it cannot starve them by coming again.
                if is_new && !self.old.is_empty() {
                    self.old.push_back(index);
                } else {
                    flow.is_listed = false;
                }
                continue;
            };
            flow.deficit -= i64::from(frame.size);
            let list = if is_new { &mut self.new } else { &mut self.old };
            list.push_front(index);
            return Some(frame);
        }
    }

    /// Goes on by another configuration; what is over its limits is dropped. False where the number of flows is another, which the
    /// kernel refuses to change.
    pub fn change(&mut self, config: &qdisc::FqCodel, peeked: u64, lost: &mut Vec<Waiting>) -> bool {
        if config.flows != self.config.flows {
            return false;
        }
        self.config = config.clone();
        while self.packets > 0 && self.is_over(peeked) {
            self.drop_from_longest(lost);
        }
        true
    }

    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        for flow in &mut self.flows {
            lost.extend(flow.frames.drain(..).map(|(frame, _)| frame));
            (flow.bytes, flow.is_listed, flow.codel) = (0, false, Codel::default());
        }
        self.new.clear();
        self.old.clear();
        (self.packets, self.bytes) = (0, 0);
    }
}

/// A flow as its [`Codel`] sees it.
struct Source<'a> {
    flow: &'a mut OneFlow,
    packets: &'a mut u64,
    bytes: &'a mut u64,
    ecn: bool,
    marks: &'a mut dyn Marks,
    lost: &'a mut Vec<Waiting>,
    stats: &'a mut Stats,
}

impl Flow for Source<'_> {
    fn next(&mut self) -> Option<(Waiting, u64, u64)> {
        let (frame, since_ns) = self.flow.frames.pop_front()?;
        self.flow.bytes -= u64::from(frame.size);
        *self.packets -= 1;
        *self.bytes -= u64::from(frame.size);
        Some((frame, since_ns, *self.bytes))
    }

    fn mark(&mut self, frame: Waiting) -> bool {
        let marked = self.ecn && self.marks.mark_congestion(frame);
        self.stats.special += u64::from(marked);
        marked
    }

    fn mark_late(&mut self, frame: Waiting) {
        self.stats.special += u64::from(self.marks.mark_congestion(frame));
    }

    fn lose(&mut self, frame: Waiting) {
        self.lost.push(frame);
    }
}
