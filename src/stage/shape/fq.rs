//! fq (net/sched/sch_fq.c): flows in turn by credit, in three bands that share by weight, each flow up to its own limit, and, by `maxrate`,
//! at its own pace.
//!
//! ```text
//!  nobody has a turn --> fast queue, first in, first out ------------------------------------------------------> out
//!     | else, or by a maxrate
//!  band of the priority --> flow --> new flows of its band, then old ones --credit of band and flow, not too early--> out
//!                                             ^---- when its time comes ---- flows that must wait ----/ (throttled)
//! ```
//!
//! The kernel knows flows by their sockets, and what it forwards by a hash, of which `orphan_mask` leaves some bits: here all frames
//! are of that kind, without a departure time and a pacing rate of their own.

use super::Stats;
use super::flow_hash::flow_hash;
use super::frames::{Marks, Waiting};
use crate::table::filter::Facts;
use crate::table::qdisc;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// How many bands there are.
const BANDS: usize = qdisc::Fq::BANDS;
/// How many frames the fast queue takes beside flows that wait for their time.
const FAST_MAX: usize = 8;
/// An empty flow is forgotten after so long, when there are many (FQ_GC_AGE).
const FORGOTTEN_NS: u64 = 3_000_000_000;
/// How many flows are many.
const MANY: usize = 1024;
const SECOND: u64 = 1_000_000_000;

/// An fq at work.
#[derive(Debug)]
pub(super) struct Fq {
    config: qdisc::Fq,
    fast: VecDeque<Waiting>,
    bands: [Band; BANDS],
    /// Whose turn it is.
    band: usize,
    flows: Vec<Flow>,
    by_hash: HashMap<u32, u32, foldhash::fast::FixedState>,
    free: Vec<u32>,
    /// How many flows there may be until empty ones are looked for.
    many: usize,
    /// How many flows have frames.
    backlogged: usize,
    /// Flows that must wait: until when, who came first, and which.
    throttled: BTreeSet<(u64, u64, u32)>,
    throttles: u64,
    packets: u64,
    seed: u64,
}

#[derive(Debug, Default)]
struct Band {
    new: VecDeque<u32>,
    old: VecDeque<u32>,
    credit: i64,
    /// In the flows of the band, or of what was it.
    packets: u32,
}

#[derive(Debug)]
struct Flow {
    hash: u32,
    /// With the time that each came, and its band.
    frames: VecDeque<(Waiting, u64, u8)>,
    credit: i64,
    /// That of its last frame.
    band: u8,
    /// Since when it is in no list; `None` for one that is, or is throttled.
    detached_ns: Option<u64>,
    /// When its next frame may leave; 0 for one that was never paced.
    next_ns: u64,
}

impl Fq {
    pub fn new(config: &qdisc::Fq, now_ns: u64) -> Self {
        Self {
            config: config.clone(),
            fast: VecDeque::new(),
            bands: Default::default(),
            band: 0,
            flows: Vec::new(),
            by_hash: HashMap::default(),
            free: Vec::new(),
            many: MANY,
            backlogged: 0,
            throttled: BTreeSet::new(),
            throttles: 0,
            packets: 0,
            seed: now_ns,
        }
    }

    /// See [`super::Shaper::passes`]; nothing waits here: by the fast queue, which leaves no trace.
    #[inline]
    pub fn passes(&self) -> bool {
        self.config.max_rate.is_none() && self.config.limit > 0
    }

    /// With `peeked` more, which were taken out and still wait, it is not empty. See [`Queue::enqueue`](super::queue::Queue::enqueue).
    pub fn enqueue(
        &mut self,
        frame: Waiting,
        facts: &Facts<'_>,
        peeked: u64,
        now_ns: u64,
        lost: &mut Vec<Waiting>,
    ) -> bool {
        let band = self.config.priomap[(facts.priority & 15) as usize].min(BANDS as u8 - 1);
        if self.bands[usize::from(band)].packets >= self.config.limit {
            lost.push(frame);
            return true;
        }
        if self.is_fast(peeked, now_ns) {
            self.fast.push_back(frame);
            self.packets += 1;
            return false;
        }
        let index = self.flow(flow_hash(facts.bytes, self.seed) & self.config.orphan_mask, now_ns);
        let flow = &mut self.flows[index as usize];
        if flow.frames.len() >= self.config.flow_limit as usize {
            lost.push(frame);
            return true;
        }
        if let Some(since_ns) = flow.detached_ns.take() {
            // The band of the frame before this one, as the kernel has it.
            self.bands[usize::from(flow.band)].new.push_back(index);
            if now_ns > since_ns.saturating_add(self.config.refill_delay_ns) {
                flow.credit = flow.credit.max(self.config.quantum.into());
            }
        }
        flow.band = band;
        self.bands[usize::from(band)].packets += 1;
        self.backlogged += usize::from(flow.frames.is_empty());
        flow.frames.push_back((frame, now_ns, band));
        self.packets += 1;
        false
    }

    /// fq_fastpath_check: it is empty, or all that it has waits for its time.
    fn is_fast(&self, peeked: u64, now_ns: u64) -> bool {
        let all_wait = || {
            self.backlogged == self.throttled.len()
                && self.fast.len() < FAST_MAX
                && self.throttled.first().is_none_or(|&(due_ns, ..)| due_ns > now_ns)
        };
        self.config.max_rate.is_none() && (self.packets + peeked == 0 || all_wait())
    }

    fn flow(&mut self, hash: u32, now_ns: u64) -> u32 {
        if let Some(&index) = self.by_hash.get(&hash) {
            return index;
        }
        if self.by_hash.len() >= self.many {
            self.forget(now_ns);
        }
        let flow = Flow {
            hash,
            frames: VecDeque::new(),
            credit: self.config.initial_quantum.into(),
            band: 0,
            detached_ns: Some(now_ns),
            next_ns: 0,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.flows[index as usize] = flow;
                index
            }
            None => {
                self.flows.push(flow);
                self.flows.len() as u32 - 1
            }
        };
        self.by_hash.insert(hash, index);
        index
    }

    /// Forgets flows that have been empty for long (fq_gc), and looks again when there are twice as many as stay. While no flow has
    /// frames nobody takes empty ones out of the lists: that is done here.
    #[cold]
    fn forget(&mut self, now_ns: u64) {
        if self.backlogged == 0 {
            for band in &mut self.bands {
                band.new.clear();
                band.old.clear();
            }
            self.flows
                .iter_mut()
                .for_each(|flow| _ = flow.detached_ns.get_or_insert(now_ns));
        }
        for (index, flow) in (0..).zip(&mut self.flows) {
            let is_old = |since_ns: u64| now_ns > since_ns.saturating_add(FORGOTTEN_NS);
            if flow.detached_ns.is_some_and(is_old) && self.by_hash.get(&flow.hash) == Some(&index) {
                self.by_hash.remove(&flow.hash);
                self.free.push(index);
            }
        }
        self.many = (2 * self.by_hash.len()).max(MANY);
    }

    /// fq_dequeue.
    pub fn dequeue(&mut self, now_ns: u64, marks: &mut dyn Marks, stats: &mut Stats) -> Option<Waiting> {
        let (frame, waited_ns) = self.pick(now_ns)?;
        if self.config.ce_threshold_ns.is_some_and(|most_ns| waited_ns > most_ns) {
            marks.mark_congestion(frame);
            stats.special += 1;
        }
        Some(frame)
    }

    /// The next frame, and for how long it could have left.
    fn pick(&mut self, now_ns: u64) -> Option<(Waiting, u64)> {
        if let Some(frame) = self.fast.pop_front() {
            self.packets -= 1;
            return Some((frame, 0));
        }
        if self.packets == 0 {
            // Asked in vain, it does not look for whose turn it is.
            return None;
        }
        self.unthrottle(now_ns);
        loop {
            let (is_new, index) = self.turn()?;
            let flow = &mut self.flows[index as usize];
            let band = &mut self.bands[self.band];
            if flow.credit <= 0 {
                flow.credit += i64::from(self.config.quantum.max(1));
                self.bands[usize::from(flow.band)].old.push_back(index);
                continue;
            }
            let Some(&(frame, came_ns, of_band)) = flow.frames.front() else {
                // An empty new flow goes through the old ones once, so that it cannot starve them by coming again.
                if is_new {
                    self.bands[usize::from(flow.band)].old.push_back(index);
                } else {
                    flow.detached_ns = Some(now_ns);
                }
                continue;
            };
            let due_ns = came_ns.max(flow.next_ns);
            if now_ns < due_ns {
                flow.next_ns = due_ns;
                self.throttles += 1;
                self.throttled.insert((due_ns, self.throttles, index));
                continue;
            }
            let list = if is_new { &mut band.new } else { &mut band.old };
            list.push_front(index);
            band.credit -= i64::from(frame.size);
            self.bands[usize::from(of_band)].packets -= 1;
            flow.frames.pop_front();
            flow.credit -= i64::from(frame.size);
            self.backlogged -= usize::from(flow.frames.is_empty());
            self.packets -= 1;
            self.pace(index, frame.size, now_ns);
            return Some((frame, now_ns - due_ns));
        }
    }

    /// Takes the flow whose turn it is out of its list; whether it was a new one. Leaves `band` at the band that it was found in.
    fn turn(&mut self) -> Option<(bool, u32)> {
        let mut in_vain = 0;
        loop {
            let band = &mut self.bands[self.band];
            if band.credit > 0 {
                if let Some(index) = band.new.pop_front() {
                    return Some((true, index));
                }
                if let Some(index) = band.old.pop_front() {
                    return Some((false, index));
                }
                in_vain += 1;
                if in_vain > BANDS {
                    return None;
                }
            } else {
                in_vain = 1;
            }
            self.band = (self.band + 1) % BANDS;
            let weight = i64::from(self.config.weights[self.band].max(1));
            let band = &mut self.bands[self.band];
            band.credit = (band.credit + weight).min(weight);
        }
    }

    /// Says when the next frame of a flow may leave, after one of `size` bytes.
    fn pace(&mut self, index: u32, size: u32, now_ns: u64) {
        let Some(rate) = self.config.max_rate.filter(|_| self.config.paces) else {
            return;
        };
        let (flow, mut bytes) = (&mut self.flows[index as usize], u64::from(size));
        if rate <= self.config.low_rate_threshold {
            flow.credit = 0;
        } else {
            // As much as its turn may be goes at once, and is paid for then.
            bytes = bytes.max(self.config.quantum.into());
            if flow.credit > 0 {
                return;
            }
        }
        let mut ns = (bytes * SECOND / u64::from(rate.max(1))).min(SECOND);
        if flow.next_ns > 0 {
            // What it left too late does not slow it down.
            ns -= (now_ns - flow.next_ns).min(ns / 2);
        }
        flow.next_ns = now_ns + ns;
    }

    /// Flows whose time has come are old ones of their bands (fq_check_throttled).
    fn unthrottle(&mut self, now_ns: u64) {
        while let Some(&(due_ns, _, index)) = self.throttled.first() {
            if due_ns > now_ns {
                break;
            }
            self.throttled.pop_first();
            let band = usize::from(self.flows[index as usize].band);
            self.bands[band].old.push_back(index);
        }
    }

    /// When there may be a frame.
    #[inline]
    pub fn due_ns(&self) -> Option<u64> {
        if !self.fast.is_empty() || self.backlogged > self.throttled.len() {
            return Some(0);
        }
        self.throttled.first().map(|&(due_ns, ..)| due_ns)
    }

    /// Goes on by another configuration; what is over its limit is dropped, in the order in which it would leave.
    pub fn change(&mut self, config: &qdisc::Fq, peeked: u64, now_ns: u64, lost: &mut Vec<Waiting>) {
        self.config = config.clone();
        while self.packets > 0 && self.packets + peeked > self.config.limit.into() {
            let Some((frame, _)) = self.pick(now_ns) else { break };
            lost.push(frame);
        }
    }

    /// Loses the last frame of the longest flow. The kernel has no such thing: what finds its fq full is what comes.
    pub fn shed(&mut self, lost: &mut Vec<Waiting>) {
        let longest = (0..).zip(&mut self.flows).max_by_key(|(_, flow)| flow.frames.len());
        let Some((index, flow)) = longest.filter(|(_, flow)| flow.frames.len() >= self.fast.len()) else {
            self.packets -= u64::from(!self.fast.is_empty());
            return lost.extend(self.fast.pop_back());
        };
        let Some((frame, _, of_band)) = flow.frames.pop_back() else {
            return;
        };
        self.bands[usize::from(of_band)].packets -= 1;
        self.packets -= 1;
        lost.push(frame);
        if flow.frames.is_empty() {
            self.backlogged -= 1;
            // It waits for its time no more: as an old flow it is found empty in its turn.
            let (band, waited) = (usize::from(flow.band), self.throttled.len());
            self.throttled.retain(|&(.., of)| of != index);
            if self.throttled.len() < waited {
                self.bands[band].old.push_back(index);
            }
        }
    }

    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        lost.extend(self.fast.drain(..));
        for flow in &mut self.flows {
            lost.extend(flow.frames.drain(..).map(|(frame, ..)| frame));
        }
        *self = Self::new(&self.config, self.seed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each flow sends one frame, in five hours: few of them are kept.
    #[test]
    fn flows_are_bounded_by_what_came_lately() {
        let config = qdisc::Fq {
            limit: 10,
            flow_limit: 10,
            quantum: 1514,
            initial_quantum: 1514,
            orphan_mask: u32::MAX,
            refill_delay_ns: 0,
            paces: true,
            max_rate: Some(1_000_000),
            low_rate_threshold: 0,
            ce_threshold_ns: None,
            priomap: [0; 16],
            weights: [1; BANDS],
        };
        let (mut fq, mut lost) = (Fq::new(&config, 0), Vec::new());
        for number in 0..20_000u32 {
            let (bytes, now_ns) = (number.to_be_bytes().repeat(5), u64::from(number) * SECOND);
            let facts = Facts {
                bytes: &bytes,
                mark: 0,
                priority: 0,
            };
            let frame = Waiting { slot: 0, size: 500 };
            fq.enqueue(frame, &facts, 0, now_ns, &mut lost);
            assert!(fq.pick(now_ns).is_some());
        }
        assert!(fq.flows.len() <= 2 * MANY && lost.is_empty());
    }
}
