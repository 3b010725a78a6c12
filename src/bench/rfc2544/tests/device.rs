//! A simulated device, and the source that sends to it: what is lost is what is above a rate when a queue is full, by
//! chance, or in each so many-th trial. A trial can be held up, as a source is that shares its core, or be void. The right answers of
//! RFC 2544 follow from its numbers.

use super::super::*;
use crate::bench::latency::recorder;
use crate::bench::outcome::Latency;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// A device that forwards so many frames per second, with a queue in front of it, and the source that sends to it.
pub(super) struct Device {
    /// What it forwards, frames per second.
    pub(super) limit_pps: f64,
    /// Its queue, in frames; empty when a trial begins.
    pub(super) queue: f64,
    /// Each frame is lost with this probability, whatever the rate.
    pub(super) noise: f64,
    /// Each so many-th trial loses one frame more, if any.
    pub(super) flake: Option<usize>,
    /// The so many-th trial, from 1, is sent at this share of its rate: the source is held up.
    pub(super) held_up: Option<(usize, f64)>,
    /// The so many-th trials, from 1, in which the clock jumps: whatever the device does, all frames but one are lost then.
    pub(super) void: Vec<usize>,
    /// What the source offers unpaced.
    pub(super) source_pps: f64,
    /// What it offers at most when it is paced.
    pub(super) paced_pps: f64,
    /// Whether delays are taken.
    pub(super) timed: bool,
    /// What each trial says, from the one of this number on, with the number of the trial before it.
    pub(super) says: Option<(usize, &'static str)>,
    pub(super) rng: ChaCha8Rng,
    /// The rates that were asked for, and seconds; nothing for a burst.
    pub(super) asked: Vec<(Rate, f64)>,
}

impl Device {
    pub(super) fn new(limit_pps: f64, source_pps: f64) -> Self {
        Device {
            limit_pps,
            queue: 0.0,
            noise: 0.0,
            flake: None,
            held_up: None,
            void: Vec::new(),
            source_pps,
            paced_pps: source_pps,
            timed: true,
            says: None,
            rng: ChaCha8Rng::seed_from_u64(7),
            asked: Vec::new(),
        }
    }

    /// How many of so many frames noise takes: Poisson's law, for few by its definition, for many by a normal.
    fn taken(&mut self, frames: f64) -> f64 {
        let expected = frames * self.noise;
        if expected > 50.0 {
            let normal = (0..12).map(|_| self.rng.random::<f64>()).sum::<f64>() - 6.0;
            return (expected + normal * expected.sqrt()).round().clamp(0.0, frames);
        }
        let (mut count, mut left) = (0.0, (-expected).exp());
        let mut sum = left;
        let point = self.rng.random::<f64>();
        while sum < point && count < frames {
            count += 1.0;
            left *= expected / count;
            sum += left;
        }
        count
    }

    fn notes(&self) -> Vec<String> {
        let trial = self.asked.len();
        let saying = self.says.filter(|&(from, _)| trial >= from);
        saying.into_iter().map(|(_, what)| format!("{trial} {what}")).collect()
    }

    fn outcome(&mut self, pps: f64, frames: f64) -> Outcome {
        let seconds = frames / pps;
        let mut lost = (frames - self.limit_pps * seconds - self.queue).max(0.0).floor();
        lost += self.taken(frames - lost);
        if self.flake.is_some_and(|each| self.asked.len().is_multiple_of(each)) {
            lost += 1.0;
        }
        let void = self.void.contains(&self.asked.len());
        let lost = if void { frames - 1.0 } else { lost.min(frames) };
        let received = (frames - lost) as u64;
        let mut histogram = recorder();
        histogram.saturating_record_n(5000, received);
        Outcome {
            offered: frames as u64,
            seconds,
            received,
            lost: lost as u64,
            void,
            notes: self.notes(),
            latency: self.timed.then(|| Latency::of(&histogram)),
            ..Outcome::default()
        }
    }
}

impl Trial for Device {
    fn send(&mut self, _: Size, rate: Rate, seconds: f64) -> Result<Outcome, String> {
        self.asked.push((rate, seconds));
        let pps = match rate {
            Rate::Paced(pps) => pps.min(self.paced_pps),
            Rate::Unpaced => self.source_pps,
        };
        let share = self.held_up.filter(|&(trial, _)| trial == self.asked.len());
        let pps = pps * share.map_or(1.0, |(_, share)| share);
        Ok(self.outcome(pps, (pps * seconds).floor()))
    }

    fn burst(&mut self, _: Size, frames: u64) -> Result<Outcome, String> {
        self.asked.push((Rate::Unpaced, 0.0));
        Ok(self.outcome(self.source_pps, frames as f64))
    }
}
