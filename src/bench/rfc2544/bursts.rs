//! RFC 2544, section 26.4, with what RFC 9004 made clear: the longest burst at the highest rate of which no frame is
//! lost.
//!
//! A burst is longer than the device's queue, for the device forwards while it fills: with a throughput T and bursts at
//! rate R, a burst of N frames leaves N * (R - T) / R in the queue. That is said beside the bursts. Where the device
//! carries the highest rate for ever there is no such burst, and where the source is not faster than the device,
//! nothing is measured.
//!
//! The first search is from 1 frame to the longest burst allowed; the others begin around what was found before, as a
//! queue does not change its size.

use super::throughput::Found;
use super::{Rate, Session, Test, Top};

impl Session<'_> {
    /// The longest bursts, one of each search.
    pub(super) fn back_to_back(&mut self, top: &Top, found: &Found) -> Result<(), String> {
        self.section = Test::BackToBack;
        if self.plan.bursts == 0 {
            return Ok(());
        }
        if found.by_source {
            self.note("no back-to-back: nothing is lost at the highest rate tried, so no burst fills a queue".into());
            return Ok(());
        }
        let longest = ((top.pps * self.plan.burst_seconds_max) as u64).max(1);
        let mut last = None;
        // Bursts go as fast as the source can, which may be faster than any rate that was tried.
        self.burst_pps = top.pps;
        for _ in 0..self.plan.bursts {
            let frames = self.longest_burst(longest, last)?;
            self.result.back_to_back.push(frames);
            last = Some(frames);
            if frames == longest {
                self.note(format!(
                    "back-to-back: a burst of {longest} frames, the longest that is sent, lost nothing: its queue is \
                    longer"
                ));
                return Ok(());
            }
        }
        let mean = self.result.back_to_back.iter().sum::<u64>() as f64 / f64::from(self.plan.bursts);
        self.note(format!(
            "back-to-back: {mean:.0} frames on the mean; the device forwards while they come, so its queue holds \
             about {:.0} (RFC 9004)",
            mean * (1.0 - found.pps / self.burst_pps).max(0.0)
        ));
        Ok(())
    }

    /// The longest burst of at most `longest` frames that comes through whole; 0 where not one frame does.
    fn longest_burst(&mut self, longest: u64, last: Option<u64>) -> Result<u64, String> {
        let (mut passed, mut failed) = (0, longest + 1);
        // Around the last one first, then ever wider; the first search has nowhere to begin.
        if let Some(last) = last.filter(|&last| last > 0) {
            let mut width = (last / 16).max(1);
            while passed == 0 && width < last {
                let low = last - width;
                match self.whole(low)? {
                    true => passed = low,
                    false => failed = low,
                }
                width *= 2;
            }
            let mut width = (last / 16).max(1);
            while passed > 0 && failed > longest && last + width <= longest {
                let high = last + width;
                match self.whole(high)? {
                    true => passed = high,
                    false => failed = high,
                }
                width *= 2;
            }
        } else if self.whole(longest)? {
            return Ok(longest);
        }
        while failed - passed > self.burst_step(passed) {
            let middle = passed + (failed - passed) / 2;
            match self.whole(middle)? {
                true => passed = middle,
                false => failed = middle,
            }
        }
        Ok(passed)
    }

    /// So near the ends of a search must come: the plan's resolution, and one frame at least.
    fn burst_step(&self, passed: u64) -> u64 {
        ((passed as f64 * self.plan.resolution) as u64).max(1)
    }

    fn whole(&mut self, frames: u64) -> Result<bool, String> {
        let outcome = self.counting(Test::BackToBack, Rate::Unpaced, |trial, size| trial.burst(size, frames))?;
        if outcome.offered < frames {
            self.note(format!(
                "back-to-back: of a burst of {frames} frames the source sent {}; it counts as lost",
                outcome.offered
            ));
        }
        let whole = outcome.offered >= frames && outcome.loss() <= self.plan.accepted_loss;
        if whole && outcome.offered_pps() > 0.0 {
            self.burst_pps = outcome.offered_pps();
        }
        Ok(whole)
    }
}
