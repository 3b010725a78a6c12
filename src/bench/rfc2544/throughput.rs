//! RFC 2544, section 26.1: the highest rate at which no frame is lost.
//!
//! ```text
//!   0 ────────── passed ├──────── ? ────────┤ failed ─────────── offered by the source
//!                        the middle is tried next; the end when they are within the resolution
//! ```
//!
//! Both ends are offered rates of trials that were made; 0 is the lower one until a trial passes. The first guess is
//! what came through when all was offered; from there it goes by growing steps until both ends are known. Where the
//! source gives less than was asked for, the upper end is what it could not reach, and the result is the source's, not
//! the device's. What the search finds by short trials is tried for the full time at the end, and sought
//! anew below where that loses.

use super::{Rate, Session, TRIALS_MAX, Test, Top, reached};
use crate::bench::outcome::Outcome;

/// So often a rate is tried that the source does not reach, before it counts as out of its reach.
const ATTEMPTS: u32 = 3;

/// What the search came to.
pub struct Found {
    /// Frames per second; 0 where each rate loses.
    pub pps: f64,
    /// Whether the source, not the device, is what ended the search.
    pub by_source: bool,
}

/// What came of a rate that was tried.
struct Judged {
    /// Whether no more was lost than is accepted.
    passes: bool,
    /// Of the trial that decided it.
    outcome: Outcome,
}

/// The two ends of a search, in frames per second that were offered.
struct Bracket {
    /// Nothing was lost at this rate; 0 where none is known.
    passed: f64,
    /// Above this rate nothing is tried.
    failed: f64,
    /// Whether that is because the source reached no more.
    by_source: bool,
    /// The next step from a guess, as a share of the rate.
    step: f64,
}

impl Bracket {
    /// What is tried next; `top` is the rate that the search began with.
    fn next(&mut self, top: f64) -> f64 {
        let middle = (self.passed + self.failed) / 2.0;
        let step = self.step;
        let by_step = if self.passed == 0.0 {
            self.failed * (1.0 - step)
        } else if self.failed == top {
            middle.min(self.passed * (1.0 + step))
        } else {
            return middle;
        };
        self.step = (step * 2.0).min(0.5);
        by_step
    }
}

impl Session<'_> {
    /// The throughput, from the first trial on.
    pub(super) fn throughput(&mut self, top: &Top) -> Result<Found, String> {
        let resolution = self.plan.resolution;
        let first = self.judged(top.outcome.clone(), top.rate, self.plan.search_seconds)?;
        // A repeat that was held up has passed at what it was offered, and says nothing of the highest rate.
        let keeps_up = first.passes && reached(&first.outcome, top.pps);
        let passed = if first.passes { first.outcome.offered_pps() } else { 0.0 };
        let mut bracket = Bracket {
            passed,
            failed: if keeps_up { passed } else { top.pps },
            by_source: keeps_up,
            step: 2.0 * resolution,
        };
        // Not so near to what has failed that nothing would be learned.
        let guess = top.outcome.received_pps().min(top.pps * (1.0 - resolution));
        let guess = Some(guess).filter(|&guess| guess > passed);
        self.search(&mut bracket, guess, self.plan.search_seconds, top.pps)?;
        let pps = self.confirmed(bracket.passed)?;
        let by_source = bracket.by_source && pps >= bracket.passed * (1.0 - resolution);
        self.conclude(pps, by_source, top);
        Ok(Found { pps, by_source })
    }

    /// Trials of so many seconds until both ends are within the resolution, or nothing is left to try.
    fn search(
        &mut self,
        bracket: &mut Bracket,
        mut guess: Option<f64>,
        seconds: f64,
        top_pps: f64,
    ) -> Result<(), String> {
        let (min, resolution) = (self.plan.pps_min, self.plan.resolution);
        let mut trials = 0;
        while bracket.failed - bracket.passed > resolution * bracket.failed && bracket.failed > min {
            if trials == TRIALS_MAX {
                self.note(format!(
                    "the search was ended after {TRIALS_MAX} trials: the source does not keep a rate as exactly as a \
                     resolution of {resolution} needs"
                ));
                break;
            }
            trials += 1;
            let wanted = guess.take().unwrap_or_else(|| bracket.next(top_pps));
            self.narrow(bracket, wanted.max(min), seconds)?;
        }
        Ok(())
    }

    /// One trial of a search, between the ends.
    fn narrow(&mut self, bracket: &mut Bracket, wanted: f64, seconds: f64) -> Result<(), String> {
        let Judged { passes, outcome } = self.tried(wanted, seconds)?;
        let offered = outcome.offered_pps();
        let reached = self.has_reached(&outcome, wanted);
        if passes {
            bracket.passed = bracket.passed.max(offered);
        }
        if passes && !reached {
            // What the source did not reach was not tried, and asking once more would not help.
            bracket.failed = bracket.passed;
            bracket.by_source = true;
        }
        if !passes {
            // What was offered is what failed, but never a rate below one that passed.
            bracket.failed = if offered > bracket.passed {
                offered.min(wanted)
            } else {
                wanted
            };
            bracket.by_source = false;
        }
        Ok(())
    }

    /// A rate, until it loses or the source has reached it; a source that was held up once may reach it the next time.
    fn tried(&mut self, wanted: f64, seconds: f64) -> Result<Judged, String> {
        let rate = Rate::Paced(wanted);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let outcome = self.send(Test::Throughput, rate, seconds)?;
            let judged = self.judged(outcome, rate, seconds)?;
            if !judged.passes || attempts == ATTEMPTS || reached(&judged.outcome, wanted) {
                return Ok(judged);
            }
        }
    }

    /// Whether a trial passes, and which one decided it: one that loses is repeated as often as the plan says, and the
    /// first repeat that does not lose passes, at the rate that this one was offered at. Where all lose, it is the one
    /// that was offered most: at a lower rate it was not tried so often.
    fn judged(&mut self, mut outcome: Outcome, rate: Rate, seconds: f64) -> Result<Judged, String> {
        let far_beyond = 100.0 * self.plan.accepted_loss.max(0.0001);
        let mut passes = self.counted(&outcome);
        // A device far beyond its limit need not be asked twice.
        let repeats = if outcome.loss() > far_beyond {
            0
        } else {
            self.plan.repeats
        };
        for _ in 0..repeats {
            if passes {
                break;
            }
            let again = self.send(Test::Throughput, rate, seconds)?;
            passes = self.counted(&again);
            if passes || again.offered_pps() > outcome.offered_pps() {
                outcome = again;
            }
        }
        Ok(Judged { passes, outcome })
    }

    fn counted(&mut self, outcome: &Outcome) -> bool {
        self.result.search.push((outcome.offered_pps(), outcome.loss()));
        outcome.offered > 0 && outcome.loss() <= self.plan.accepted_loss
    }

    /// Sends what was found for the full time; where that loses, the throughput is sought below, by trials of that time.
    fn confirmed(&mut self, found: f64) -> Result<f64, String> {
        let (seconds, short) = (self.plan.seconds, self.plan.search_seconds);
        if seconds <= short || found <= 0.0 {
            return Ok(found);
        }
        let Judged { passes, outcome } = self.tried(found, seconds)?;
        if passes {
            self.has_reached(&outcome, found);
            return Ok(outcome.offered_pps().min(found));
        }
        self.note(format!(
            "{found:.0} frames per second came through for {short} s, but not for {seconds} s: the throughput is lower"
        ));
        let mut below = Bracket {
            passed: 0.0,
            failed: found,
            by_source: false,
            step: self.plan.resolution,
        };
        self.search(&mut below, None, seconds, f64::INFINITY)?;
        Ok(below.passed)
    }

    fn conclude(&mut self, pps: f64, by_source: bool, top: &Top) {
        let accepted = self.plan.accepted_loss;
        if pps <= 0.0 {
            let lowest = self.result.search.iter().map(|&(pps, _)| pps).fold(f64::MAX, f64::min);
            let least = self.result.search.iter().map(|&(_, loss)| loss).fold(1.0, f64::min);
            self.note(format!(
                "no rate without loss: the lowest tried, {lowest:.0} frames per second, lost too; the least loss of \
                 all trials was {:.1} ppm, which an accepted loss can let pass",
                least * 1e6
            ));
        } else if by_source && self.plan.pps_max.is_some_and(|max| reached(&top.outcome, max)) {
            self.note(format!(
                "nothing was lost at {pps:.0} frames per second, the highest rate that was to be tried: the device \
                may do more"
            ));
        } else if by_source {
            self.note(format!(
                "nothing was lost of all that the source offers, {pps:.0} frames per second: that is the source's \
                 limit, and the device may do more"
            ));
        }
        if pps > 0.0 && accepted > 0.0 {
            self.note(format!(
                "up to {:.1} ppm of lost frames were accepted as none, where RFC 2544 accepts none",
                accepted * 1e6
            ));
        }
        let odd = [
            ("reordered", top.outcome.reordered),
            ("duplicated", top.outcome.duplicated),
            ("corrupted", top.outcome.corrupted),
        ];
        for (what, frames) in odd.into_iter().filter(|&(_, frames)| frames > 0) {
            self.note(format!(
                "{frames} frames arrived {what} when the source sent all it could"
            ));
        }
    }
}
