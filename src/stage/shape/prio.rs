//! prio (net/sched/sch_prio.c): bands, of which the first that has a frame goes first. The priority of a frame names the band, or
//! a filter does, or the priority is looked up in a map of 16.
//!
//! A band may be any qdisc; one that shapes lets the next one go first while it has to wait. A frame for a band that is not there is
//! dropped.

use super::Stats;
use super::frames::{Marks, Waiting};
use super::queue::Queue;
use crate::table::bucket::Amount;
use crate::table::filter::{Facts, classify};
use crate::table::qdisc::{self, Handle, Qdisc};

/// The priorities that the map knows.
const PRIO_MAX: u32 = 15;

/// A prio at work.
#[derive(Debug)]
pub(super) struct Prio {
    bands: Vec<Queue>,
    config: qdisc::Prio,
}

/// The band of a frame, from 0 on (prio_classify, pfifo_fast_enqueue).
pub(super) fn band_of(root: &Qdisc, prio: &qdisc::Prio, facts: &Facts<'_>) -> usize {
    let by_map = |priority: u32| usize::from(prio.priomap[(priority & PRIO_MAX) as usize]);
    if prio.by_map {
        return by_map(facts.priority);
    }
    let class = if Handle(facts.priority).of_qdisc() == root.handle {
        Handle(facts.priority)
    } else if let Some(class) = classify(&root.filters, facts) {
        class
    } else {
        let is_class = facts.priority > u16::MAX.into();
        return by_map(if is_class { 0 } else { facts.priority });
    };
    match class.minor().checked_sub(1) {
        Some(band) if (band as usize) < prio.bands.len() => band as usize,
        _ => by_map(0),
    }
}

impl Prio {
    pub fn new(config: &qdisc::Prio, now_ns: u64) -> Self {
        Self {
            bands: config.bands.iter().map(|band| Queue::new(band, now_ns)).collect(),
            config: config.clone(),
        }
    }

    /// See [`Queue::enqueue`].
    pub fn enqueue(
        &mut self,
        root: &Qdisc,
        frame: Waiting,
        facts: &Facts<'_>,
        now_ns: u64,
        lost: &mut Vec<Waiting>,
    ) -> bool {
        let band = band_of(root, &self.config, facts);
        match self.bands.get_mut(band) {
            Some(band) => band.enqueue(frame, facts, now_ns, lost),
            None => {
                lost.push(frame);
                true
            }
        }
    }

    /// See [`super::Shaper::passes`]. Better bands must be such as do not care whether they are asked for a frame in vain:
    /// fq_codel does, it takes flows from its lists then.
    pub fn passes(&mut self, root: &Qdisc, size: u32, facts: &Facts<'_>, now_ns: u64) -> bool {
        let band = band_of(root, &self.config, facts);
        match self.bands.split_at_mut_checked(band) {
            Some((better, [band, ..])) => better.iter().all(Queue::is_fifo) && band.passes(size, facts, now_ns),
            _ => false,
        }
    }

    /// How long the frame is that goes next as it stands.
    pub fn peek(&mut self, now_ns: u64, marks: &mut dyn Marks, lost: &mut Vec<Waiting>) -> Option<u32> {
        self.bands.iter_mut().find_map(|band| band.peek(now_ns, marks, lost))
    }

    pub fn dequeue(&mut self, now_ns: u64, marks: &mut dyn Marks, lost: &mut Vec<Waiting>) -> Option<Waiting> {
        self.bands.iter_mut().find_map(|band| band.dequeue(now_ns, marks, lost))
    }

    pub fn due_ns(&self) -> Option<u64> {
        self.bands.iter().filter_map(Queue::due_ns).min()
    }

    /// Bands keep what they have; those that are no more lose it.
    pub fn change(&mut self, config: &qdisc::Prio, now_ns: u64, lost: &mut Vec<Waiting>) {
        for mut band in self.bands.drain(config.bands.len().min(self.bands.len())..) {
            band.purge(lost);
        }
        for (n, config) in config.bands.iter().enumerate() {
            match self.bands.get_mut(n) {
                Some(band) => band.change(config, now_ns, lost),
                None => self.bands.push(Queue::new(config, now_ns)),
            }
        }
        self.config = config.clone();
    }

    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        self.bands.iter_mut().for_each(|band| band.purge(lost));
    }

    /// See [`Queue::longest`].
    pub fn longest(&mut self) -> usize {
        self.bands.iter_mut().map(Queue::longest).max().unwrap_or(0)
    }

    /// See [`Queue::shed`].
    pub fn shed(&mut self, lost: &mut Vec<Waiting>) {
        let bands = self.bands.iter_mut().map(|band| (band.longest(), band));
        if let Some((_, band)) = bands.max_by_key(|(longest, _)| *longest) {
            band.shed(lost);
        }
    }

    pub fn charge(&mut self, of: Handle, sent: Amount, now_ns: u64) -> Option<bool> {
        self.bands.iter_mut().find_map(|band| band.charge(of, sent, now_ns))
    }

    /// Its classes are its bands.
    pub fn stats(&self, handle: Handle, into: &mut Vec<(Handle, Stats)>) {
        for (n, band) in self.bands.iter().enumerate() {
            into.push((Handle(handle.0 | (n as u32 + 1)), *band.own_stats()));
            band.stats(into);
        }
    }
}
