//! sfq (net/sched/sch_sfq.c): flows in turn, each up to a depth; when all is full, the longest flow loses a frame. Without its variant
//! with RED, which is not carried.
//!
//! The kernel finds the longest flow by lists of flows of each length, the last that came to that length first; here it is a scan of the
//! flows that have frames, at each drop.

use super::flow_hash::{Choice, flow_hash, rehash, scale};
use super::frames::Waiting;
use crate::table::filter::Facts;
use crate::table::qdisc::{self, Qdisc};
use std::collections::VecDeque;

/// No slot.
const NONE: u32 = u32::MAX;

/// An sfq at work.
#[derive(Debug)]
pub(super) struct Sfq {
    config: qdisc::Sfq,
    /// The slot of each hash.
    by_hash: Vec<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Whose turn it is, first.
    turns: VecDeque<u32>,
    packets: u64,
    /// Counts changes of lengths.
    clock: u64,
    seed: u64,
    rehash_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// With a number that says again which flow it is, when hashes change.
    frames: VecDeque<(Waiting, u32)>,
    hash: u32,
    allot: i64,
    changed: u64,
}

impl Sfq {
    pub fn new(config: &qdisc::Sfq, now_ns: u64) -> Self {
        let slots = config.flows.max(1);
        Self {
            config: config.clone(),
            by_hash: vec![NONE; config.divisor.max(1) as usize],
            slots: vec![Slot::default(); slots as usize],
            free: (0..slots).rev().collect(),
            turns: VecDeque::new(),
            packets: 0,
            clock: 0,
            seed: now_ns,
            rehash_ns: now_ns,
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
        self.perturb(root, now_ns, lost);
        let whole = flow_hash(facts.bytes, 0);
        let hash = match Choice::of(root, facts, self.by_hash.len() as u32) {
            Choice::Flow(hash) => hash,
            Choice::Hash => self.place(whole),
            Choice::Lost => {
                lost.push(frame);
                return true;
            }
        };
        self.insert(frame, whole, hash, peeked, lost)
    }

    fn place(&self, whole: u32) -> u32 {
        scale(rehash(whole, self.seed), self.by_hash.len() as u32)
    }

    fn insert(&mut self, frame: Waiting, whole: u32, hash: u32, peeked: u64, lost: &mut Vec<Waiting>) -> bool {
        let mut at = self.by_hash[hash as usize];
        if at == NONE {
            let Some(free) = self.free.pop() else {
                lost.push(frame);
                return true;
            };
            at = free;
            self.by_hash[hash as usize] = at;
            self.slots[at as usize].hash = hash;
        }
        let slot = &mut self.slots[at as usize];
        if slot.frames.len() >= self.config.depth.max(1) as usize {
            if !self.config.drops_head {
                lost.push(frame);
                return true;
            }
            lost.extend(slot.frames.pop_front().map(|(frame, _)| frame));
            slot.frames.push_back((frame, whole));
            return true;
        }
        slot.frames.push_back((frame, whole));
        self.clock += 1;
        slot.changed = self.clock;
        if slot.frames.len() == 1 {
            slot.allot = self.config.quantum.max(1).into();
            self.turns.push_back(at);
        }
        self.packets += 1;
        self.packets + peeked > self.config.limit.into() && self.drop_from_longest(lost) == Some(at)
    }

    /// sfq_drop; the slot that lost one.
    pub fn drop_from_longest(&mut self, lost: &mut Vec<Waiting>) -> Option<u32> {
        let key = |&at: &u32| (self.slots[at as usize].frames.len(), self.slots[at as usize].changed);
        let longest = self.turns.iter().copied().max_by_key(key)?;
        // All have one frame: whoever has the turn loses it.
        let are_short = self.slots[longest as usize].frames.len() == 1;
        let at = if are_short {
            self.turns.pop_front().unwrap_or(longest)
        } else {
            longest
        };
        let slot = &mut self.slots[at as usize];
        let frame = if self.config.drops_head {
            slot.frames.pop_front()
        } else {
            slot.frames.pop_back()
        };
        lost.extend(frame.map(|(frame, _)| frame));
        self.packets -= 1;
        self.shortened(at);
        Some(at)
    }

    fn shortened(&mut self, at: u32) {
        self.clock += 1;
        let slot = &mut self.slots[at as usize];
        slot.changed = self.clock;
        if slot.frames.is_empty() {
            self.by_hash[slot.hash as usize] = NONE;
            self.free.push(at);
        }
    }

    pub fn dequeue(&mut self) -> Option<Waiting> {
        loop {
            let at = *self.turns.front()?;
            let slot = &mut self.slots[at as usize];
            if slot.allot <= 0 {
                slot.allot += i64::from(self.config.quantum.max(1));
                self.turns.rotate_left(1);
                continue;
            }
            let (frame, _) = slot.frames.pop_front()?;
            self.packets -= 1;
            if slot.frames.is_empty() {
                self.turns.pop_front();
            } else {
                slot.allot -= i64::from(frame.size);
            }
            self.shortened(at);
            return Some(frame);
        }
    }

    /// Hashes flows anew when it is time, so that two that met do not do so for ever (sfq_rehash).
    fn perturb(&mut self, root: &Qdisc, now_ns: u64, lost: &mut Vec<Waiting>) {
        let every_ns = u64::from(self.config.perturb_s) * 1_000_000_000;
        if every_ns == 0 || now_ns < self.rehash_ns + every_ns {
            return;
        }
        (self.rehash_ns, self.seed) = (now_ns, now_ns);
        if !root.filters.is_empty() {
            return;
        }
        let frames: Vec<(Waiting, u32)> = self
            .turns
            .iter()
            .flat_map(|&at| self.slots[at as usize].frames.clone())
            .collect();
        self.clear();
        // One whose flow has all that it may have by now is dropped itself, also where others drop the oldest.
        let drops_head = std::mem::replace(&mut self.config.drops_head, false);
        for (frame, whole) in frames {
            let hash = self.place(whole);
            self.insert(frame, whole, hash, 0, lost);
        }
        self.config.drops_head = drops_head;
    }

    fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.frames.clear());
        self.by_hash.fill(NONE);
        self.free.clear();
        self.free.extend((0..self.slots.len() as u32).rev());
        self.turns.clear();
        self.packets = 0;
    }

    /// Goes on by another configuration; what is over its limit is dropped. False where its tables have another size.
    pub fn change(&mut self, config: &qdisc::Sfq, peeked: u64, lost: &mut Vec<Waiting>) -> bool {
        if (config.flows, config.divisor) != (self.config.flows, self.config.divisor) {
            return false;
        }
        self.config = config.clone();
        while self.packets > 0 && self.packets + peeked > self.config.limit.into() {
            self.drop_from_longest(lost);
        }
        true
    }

    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        for slot in &mut self.slots {
            lost.extend(slot.frames.drain(..).map(|(frame, _)| frame));
        }
        self.clear();
    }
}
