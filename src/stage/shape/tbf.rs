//! tbf (net/sched/sch_tbf.c): a queue behind a token bucket, or two: one for the rate over long times, with room for a burst, and one
//! that bounds how fast the burst itself goes (peakrate).
//!
//! The first frame of the queue leaves when both buckets can pay for it; a shorter one behind it does not pass it. One that came
//! before the buckets became too small for it is dropped (in the kernel it blocks the queue for good).

use super::Stats;
use super::frames::{Marks, Waiting};
use super::queue::Queue;
use crate::table::bucket::{Amount, Bucket};
use crate::table::filter::Facts;
use crate::table::qdisc::{self, Handle};

/// A tbf at work.
#[derive(Debug)]
pub(super) struct Tbf {
    rate: Bucket,
    peak: Option<Bucket>,
    config: qdisc::Tbf,
    /// When the first frame of the queue can be paid for, if it is known.
    due_ns: u64,
    child: Queue,
}

impl Tbf {
    pub fn new(config: &qdisc::Tbf, now_ns: u64) -> Self {
        let bucket = |rate, size_ns| Bucket::new(rate, size_ns, now_ns).holding(config.max_size);
        Self {
            rate: bucket(config.rate, config.buffer_ns),
            peak: config.peak.map(|(rate, size_ns)| bucket(rate, size_ns)),
            config: config.clone(),
            due_ns: 0,
            child: Queue::new(&config.child, now_ns),
        }
    }

    /// See [`Queue::enqueue`].
    #[inline]
    pub fn enqueue(&mut self, frame: Waiting, facts: &Facts<'_>, now_ns: u64, lost: &mut Vec<Waiting>) -> bool {
        if frame.size > self.config.max_size {
            lost.push(frame);
            return true;
        }
        if !self.child.keeps_first() {
            // Perhaps a shorter one is first now, that can be paid for.
            self.due_ns = 0;
        }
        self.child.enqueue(frame, facts, now_ns, lost)
    }

    /// See [`super::Shaper::passes`].
    #[inline(always)]
    pub fn passes(&mut self, size: u32, facts: &Facts<'_>, now_ns: u64) -> bool {
        if size > self.config.max_size {
            return false;
        }
        self.rate.fill(now_ns);
        if let Some(peak) = &mut self.peak {
            peak.fill(now_ns);
        }
        let can_pay = self.rate.can_pay(size) && self.peak.is_none_or(|peak| peak.can_pay(size));
        if !can_pay || !self.child.passes(size, facts, now_ns) {
            return false;
        }
        self.due_ns = 0;
        self.rate.take(size);
        if let Some(peak) = &mut self.peak {
            peak.take(size);
        }
        true
    }

    #[inline]
    pub fn dequeue(
        &mut self,
        now_ns: u64,
        marks: &mut dyn Marks,
        lost: &mut Vec<Waiting>,
        stats: &mut Stats,
    ) -> Option<Waiting> {
        let mut bytes = self.child.peek(now_ns, marks, lost)?;
        while bytes > self.config.max_size {
            let too_long = self.child.dequeue(now_ns, marks, lost);
            lost.extend(too_long);
            bytes = self.child.peek(now_ns, marks, lost)?;
        }
        self.rate.fill(now_ns);
        let mut wait_ns = self.rate.wait_ns(bytes);
        if let Some(peak) = &mut self.peak {
            peak.fill(now_ns);
            wait_ns = wait_ns.max(peak.wait_ns(bytes));
        }
        if wait_ns > 0 {
            self.due_ns = now_ns.saturating_add(wait_ns);
            stats.overlimits += 1;
            return None;
        }
        self.due_ns = 0;
        self.rate.take(bytes);
        if let Some(peak) = &mut self.peak {
            peak.take(bytes);
        }
        self.child.dequeue(now_ns, marks, lost)
    }

    pub fn due_ns(&self) -> Option<u64> {
        self.child.due_ns().map(|due_ns| due_ns.max(self.due_ns))
    }

    /// Another rate, size or limit begins with full buckets, as tbf_change has it; frames stay. What is only about its child leaves
    /// them alone.
    pub fn change(&mut self, config: &qdisc::Tbf, now_ns: u64, lost: &mut Vec<Waiting>) {
        let own = |tbf: &qdisc::Tbf| (tbf.rate, tbf.buffer_ns, tbf.peak, tbf.max_size, tbf.limit);
        if own(config) != own(&self.config) {
            let Self { rate, peak, .. } = Self::new(config, now_ns);
            (self.rate, self.peak) = (rate, peak);
        }
        self.child.change(&config.child, now_ns, lost);
        self.config = config.clone();
        self.due_ns = 0;
    }

    /// See [`Queue::purge`]. The buckets are full then (tbf_reset).
    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        self.child.purge(lost);
        self.rate = self.rate.holding(self.config.max_size);
        self.peak = self.peak.map(|peak| peak.holding(self.config.max_size));
        self.due_ns = 0;
    }

    /// See [`Queue::longest`].
    pub fn longest(&mut self) -> usize {
        self.child.longest()
    }

    /// See [`Queue::shed`].
    pub fn shed(&mut self, lost: &mut Vec<Waiting>) {
        self.child.shed(lost);
        // Perhaps a shorter one is first now.
        self.due_ns = 0;
    }

    /// By `here`, the kernel's frames left by this qdisc itself.
    pub fn charge(&mut self, here: Option<bool>, of: Handle, sent: Amount, now_ns: u64) -> Option<bool> {
        let is_left_out = here.or_else(|| self.child.charge(of, sent, now_ns))?;
        for bucket in std::iter::once(&mut self.rate).chain(&mut self.peak) {
            bucket.fill(now_ns);
            bucket.take_many(sent);
        }
        Some(is_left_out)
    }

    pub fn stats(&self, into: &mut Vec<(Handle, Stats)>) {
        self.child.stats(into);
    }
}
