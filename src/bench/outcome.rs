//! What came of one trial: what was offered, what arrived, how long it took. The numbers are those of the sender and of the
//! receiver alone; nothing that was measured says what it did itself.
//!
//! ```text
//!   offered = received + lost        received counts each number once; duplicated, corrupted and foreign are beside it
//! ```

use super::work::{Rate, Size};
use serde::{Deserialize, Serialize};

/// Counts, times and delays of one trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Frames that were asked for, per second; nothing where the source went as fast as it could.
    pub wanted_pps: Option<f64>,
    /// Frames that were given to the sending port.
    pub offered: u64,
    /// Of these, how many the port said it dropped at once: its ring, or on veth the ring of its peer, was full. They count
    /// as offered, since on a wire the sender would not know; where nothing says so, 0.
    pub refused: u64,
    /// Frames of a paced trial that the source was over 5 ms late with and left out; they are not offered.
    #[serde(default)]
    pub missed: u64,
    /// Seconds from the first frame sent to the last.
    pub seconds: f64,
    /// Frames of this trial that arrived, each number once.
    pub received: u64,
    /// Frames that did not: `offered - received`.
    pub lost: u64,
    /// Frames that arrived after one of their flow with a higher number.
    pub reordered: u64,
    /// Frames that arrived once more.
    pub duplicated: u64,
    /// Frames of this trial whose bytes are not what was sent.
    pub corrupted: u64,
    /// Frames that are not of this trial.
    pub foreign: u64,
    /// One-way delay of the frames received; nothing where the sink only counts.
    pub latency: Option<Latency>,
    /// Non-idle time of all cores (user, nice, system, irq, softirq of /proc/stat, of all that ran) per frame received, from
    /// the first frame offered until the sender was done; nothing where that was too short to be seen.
    pub cpu_ns_per_frame: Option<f64>,
    /// It does not count: the clock jumped meanwhile, or the machine slept. It is kept for whoever looks, and is in no median and no
    /// ratio. A search makes it once more, and so does whoever measures the measurement itself; where that one does not count either they
    /// take it, and it is said.
    #[serde(default)]
    pub void: bool,
    /// What is to be said of it, one line each: a rate that was not reached, a clock that jumped.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Frames per second that arrived.
    pub fn received_pps(&self) -> f64 {
        if self.seconds > 0.0 {
            self.received as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Frames per second that were offered.
    pub fn offered_pps(&self) -> f64 {
        if self.seconds > 0.0 {
            self.offered as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// The lost part of what was offered, 0 to 1.
    pub fn loss(&self) -> f64 {
        if self.offered > 0 {
            self.lost as f64 / self.offered as f64
        } else {
            0.0
        }
    }
}

/// The lost share of all that was offered in all rounds, 0 to 1: a median of the rounds would hide the one that failed.
pub fn loss_of_all(rounds: &[&Outcome]) -> f64 {
    let sum = |count: fn(&Outcome) -> u64| rounds.iter().map(|outcome| count(outcome)).sum::<u64>();
    let (lost, offered) = (sum(|outcome| outcome.lost), sum(|outcome| outcome.offered));
    if offered > 0 { lost as f64 / offered as f64 } else { 0.0 }
}

/// `in 2 of 5 rounds` where some lost frames and others did not; nothing where all rounds are alike.
pub fn losing_rounds(rounds: &[&Outcome]) -> Option<String> {
    let losing = rounds.iter().filter(|outcome| outcome.lost > 0).count();
    (losing > 0 && losing < rounds.len()).then(|| format!("in {losing} of {} rounds", rounds.len()))
}

/// Delays, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Frames timed.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The middle.
    pub p50_ns: u64,
    /// 90 % are at most so long.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// 99.99 %.
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The whole histogram: HdrHistogram's V2 encoding, compressed, in base64, as its log format and its plotter read it.
    pub hdr: String,
}

/// Makes a trial, and once more where it does not count; what comes of that is taken.
///
/// # Errors
/// As `make`.
pub fn made_to_count(mut make: impl FnMut() -> Result<Outcome, String>) -> Result<Outcome, String> {
    match make()? {
        outcome if outcome.void => make(),
        outcome => Ok(outcome),
    }
}

/// How a trial is sent, for whoever decides about rates and sizes (RFC 2544, the lab).
pub trait Trial {
    /// Sends frames of one size at one rate for `seconds` and says what came of it. An error ends the whole run: one line
    /// that names the remedy.
    fn send(&mut self, size: Size, rate: Rate, seconds: f64) -> Result<Outcome, String>;

    /// Sends so many frames of one size as fast as the source goes, and no more (RFC 2544, section 26.4).
    fn burst(&mut self, size: Size, frames: u64) -> Result<Outcome, String> {
        let _ = size;
        Err(format!(
            "this source cannot send a burst of just {frames} frames: leave out back-to-back"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_does_not_count_is_made_once_more_and_not_again() {
        for (void, taken) in [([false, false], 0), ([true, false], 1), ([true, true], 1)] {
            let mut made = 0;
            let outcome = made_to_count(|| {
                made += 1;
                Ok(Outcome {
                    void: void[made as usize - 1],
                    offered: made - 1,
                    ..Outcome::default()
                })
            });
            assert_eq!(
                (outcome.map(|outcome| outcome.offered), made),
                (Ok(taken), taken + 1),
                "{void:?}"
            );
        }
    }
}
