//! RFC 2544, sections 26.1 to 26.4, over whatever can make a trial: which rates are sent, and what is concluded from
//! what arrived. No clock, no port, no thread: a simulated device is measured by the same code as a real one.
//!
//! ```text
//!   for each size:  as fast as the source goes ──> throughput ──> latency at shares of it
//!                    (what it can offer)            (search)  └──> loss curve, from the top down
//!                                                             └──> back-to-back: the longest burst, several times
//! ```
//!
//! What is otherwise than in the RFC, which each result or its report says:
//!
//! - A rate is what the sender's port took, not what was asked for. Where the source cannot reach a rate, the device
//!   was not tried at it, and the result has a note; a source slower than the device measures itself.
//! - Each frame of one trial is timed, not one in a trial of 120 s, and not 20 times, so section 26.2 gives a distribution
//!   where the RFC has a mean; and at shares of the throughput, of which the RFC has the whole alone.
//! - A device that loses a few frames per million at any rate (a busy machine, a radio) has no rate without loss. It is
//!   said so, and an accepted loss may be given. A trial that loses may be repeated before it counts, as ETSI TST 009
//!   has it.
//! - A trial that does not count, since the clock jumped meanwhile, is made once more.
//! - A trial is over when nothing comes any more ([`super::trial::QUIET`], [`super::trial::DRAIN_MAX`]), and the next one
//!   follows at once: section 23 waits 2 s and lets the device rest for 5. Nothing is sent for it to learn by.
//! - Frames go one way, and none of section 11's modifiers (broadcasts, filters, management) is among them. Which sizes,
//!   how long and how many bursts is the plan's; the RFC's are [`Plan::default`], the command line's are less.
//!
//! Bounded: a search by [`TRIALS_MAX`], a curve by its step, bursts by [`Plan::burst_seconds_max`].

mod bursts;
mod said;
mod throughput;

use super::outcome::{Outcome, Trial};
use super::report::Rfc2544;
use super::work::{Rate, Size};
use said::{Said, is_of_rate};
use serde::{Deserialize, Serialize};
use throughput::Found;

/// More trials than this no search makes.
pub const TRIALS_MAX: u32 = 100;
/// A source that offers less than this share of what was asked for has not reached the rate.
const REACHED: f64 = 0.99;

/// What is measured, and how exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Sizes of frames, one after the other.
    pub sizes: Vec<Size>,
    /// The highest rate tried, frames per second; what the source can offer where nothing is given.
    pub pps_max: Option<f64>,
    /// The lowest rate tried: where this loses too, no rate is without loss.
    pub pps_min: f64,
    /// Whether the throughput is sought; delays and bursts need it.
    pub throughput: bool,
    /// Seconds of a trial whose result stands (60 in the RFC).
    pub seconds: f64,
    /// Seconds of a trial of the search; what it finds is then tried for `seconds`.
    pub search_seconds: f64,
    /// How near the rates that lose and lose not must come, as a share of the rate.
    pub resolution: f64,
    /// The lost share that still counts as none (0 in the RFC).
    pub accepted_loss: f64,
    /// How many times a trial that loses is repeated before it counts.
    pub repeats: u32,
    /// Delays are measured at these shares of the throughput.
    pub latency_shares: Vec<f64>,
    /// The loss curve goes down by this share of the highest rate (0.1 in the RFC at most); 0: no curve.
    pub loss_step: f64,
    /// How many times the longest burst is sought (50 in the RFC); 0: not at all.
    pub bursts: u32,
    /// The longest burst, in seconds at the highest rate (2 in the RFC).
    pub burst_seconds_max: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            sizes: [64, 128, 256, 512, 1024, 1280, 1518].map(Size::Bytes).to_vec(),
            pps_max: None,
            pps_min: 1000.0,
            throughput: true,
            seconds: 60.0,
            search_seconds: 10.0,
            resolution: 0.01,
            accepted_loss: 0.0,
            repeats: 0,
            latency_shares: vec![0.1, 0.5, 0.9, 1.0],
            loss_step: 0.1,
            bursts: 50,
            burst_seconds_max: 2.0,
        }
    }
}

impl Plan {
    /// Whether it can be carried out; what is wrong where not.
    pub fn validate(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(format!("{name} is {value}: give a number above 0")),
        };
        positive("the trial time", self.seconds)?;
        positive("the trial time of the search", self.search_seconds)?;
        positive("the lowest rate", self.pps_min)?;
        positive("the longest burst", self.burst_seconds_max)?;
        if self.sizes.is_empty() {
            return Err("no frame size: give at least one".into());
        }
        if let Some(pps) = self.pps_max.filter(|&pps| !pps.is_finite() || pps <= self.pps_min) {
            return Err(format!(
                "the highest rate, {pps}, is not above the lowest, {}: raise it or lower --min-pps",
                self.pps_min
            ));
        }
        let between = |name: &str, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} is {value}: give {low} to {high}")),
        };
        if !self.throughput && (!self.latency_shares.is_empty() || self.bursts > 0) {
            return Err("delays and bursts are measured by the throughput: measure that too".into());
        }
        if !self.throughput && self.loss_step == 0.0 {
            return Err("nothing is to be measured: a loss curve wants a --loss-step above 0".into());
        }
        between("the resolution", self.resolution, 0.0001, 0.5)?;
        between("the accepted loss", self.accepted_loss, 0.0, 0.5)?;
        for &share in &self.latency_shares {
            between("a share of the throughput", share, 0.001, 1.0)?;
        }
        if self.loss_step != 0.0 {
            between("the step of the loss curve", self.loss_step, 0.01, 0.5)?;
        }
        Ok(())
    }
}

/// Which of the tests a trial belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Section 26.1.
    Throughput,
    /// Section 26.2.
    Latency,
    /// Section 26.3.
    Loss,
    /// Section 26.4.
    BackToBack,
}

impl Test {
    /// Its name in progress lines.
    pub fn name(self) -> &'static str {
        match self {
            Test::Throughput => "throughput",
            Test::Latency => "latency",
            Test::Loss => "loss",
            Test::BackToBack => "back-to-back",
        }
    }
}

/// A trial that was made, as whoever watches is told.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The test that it belongs to.
    pub test: Test,
    /// The size of the frames.
    pub size: Size,
    /// The rate that was asked for.
    pub rate: Rate,
    /// What came of it.
    pub outcome: &'a Outcome,
}

/// Measures all of a plan. `case` and `subject` name what is measured; `watch` hears of each trial once it is made. What was
/// concluded until an error came is found too, and says in which section that was.
pub fn run(
    plan: &Plan,
    case: &str,
    subject: &str,
    trial: &mut dyn Trial,
    watch: &mut dyn FnMut(Step<'_>),
) -> (Vec<Rfc2544>, Result<(), String>) {
    let mut results = Vec::new();
    if let Err(error) = plan.validate() {
        return (results, Err(error));
    }
    for &size in &plan.sizes {
        let mut session = Session {
            plan,
            size,
            trial: &mut *trial,
            watch: &mut *watch,
            burst_pps: 0.0,
            section: Test::Throughput,
            concluded: false,
            said: Said::default(),
            result: Rfc2544 {
                case: case.to_owned(),
                subject: subject.to_owned(),
                size: size.to_string(),
                ..Rfc2544::default()
            },
        };
        let ended = session.measure();
        session.said.notes().into_iter().for_each(|note| session.note(note));
        if ended.is_err() {
            session.note(format!(
                "ended in {}: what would have come from there on is missing",
                session.section.name()
            ));
        }
        if session.concluded {
            results.push(session.result);
        }
        if ended.is_err() {
            return (results, ended);
        }
    }
    (results, Ok(()))
}

/// The measurement of one size.
struct Session<'a> {
    plan: &'a Plan,
    size: Size,
    trial: &'a mut dyn Trial,
    watch: &'a mut dyn FnMut(Step<'_>),
    /// The rate within the last burst that came through whole.
    burst_pps: f64,
    /// The test that is made.
    section: Test,
    /// Whether something is known: the throughput, or a point of the loss curve.
    concluded: bool,
    /// What trials have said.
    said: Said,
    result: Rfc2544,
}

impl Session<'_> {
    fn measure(&mut self) -> Result<(), String> {
        let top = self.top()?;
        if !self.plan.throughput {
            return self.loss_curve(&top);
        }
        let found = self.throughput(&top)?;
        self.result.throughput_pps = found.pps;
        self.concluded = true;
        self.latency(&found)?;
        self.loss_curve(&top)?;
        self.back_to_back(&top, &found)
    }

    /// The first trial: as fast as the source goes, or at the highest rate.
    fn top(&mut self) -> Result<Top, String> {
        let rate = self.plan.pps_max.map_or(Rate::Unpaced, Rate::Paced);
        let outcome = self.send(Test::Throughput, rate, self.plan.search_seconds)?;
        let pps = outcome.offered_pps();
        if outcome.offered == 0 || pps <= 0.0 {
            return Err(format!(
                "the source sent no frame of size {}: see whether its port is up and has carrier",
                self.size
            ));
        }
        if outcome.received == 0 {
            return Err(format!(
                "none of {} frames of size {} arrived: see whether what is between the ports forwards, and to these \
                addresses",
                outcome.offered, self.size
            ));
        }
        if let Some(wanted) = self.plan.pps_max {
            self.has_reached(&outcome, wanted);
        }
        Ok(Top { pps, rate, outcome })
    }

    /// Section 26.2: the delays at shares of the throughput.
    fn latency(&mut self, found: &Found) -> Result<(), String> {
        self.section = Test::Latency;
        if found.pps <= 0.0 {
            if !self.plan.latency_shares.is_empty() {
                self.note("no delays: there is no throughput to take shares of".into());
            }
            return Ok(());
        }
        for share in self.plan.latency_shares.clone() {
            let wanted = share * found.pps;
            let outcome = self.send(Test::Latency, Rate::Paced(wanted), self.plan.seconds)?;
            if outcome.void {
                continue;
            }
            self.has_reached(&outcome, wanted);
            if outcome.loss() > self.plan.accepted_loss {
                self.note(format!(
                    "delays at {:.0} % of the throughput: {} of {} frames were lost, and have none",
                    share * 100.0,
                    outcome.lost,
                    outcome.offered
                ));
            }
            // Such as frames that the receiver had no time for. Of the rate it is said above.
            for note in outcome.notes.iter().filter(|note| !is_of_rate(note)) {
                self.note(format!("delays at {:.0} % of the throughput: {note}", share * 100.0));
            }
            let Some(latency) = outcome.latency.filter(|latency| latency.count > 0) else {
                self.note("no delays: the receiver only counts".into());
                return Ok(());
            };
            self.result.latency.push((share, latency));
        }
        Ok(())
    }

    /// Section 26.3: the loss from the highest rate down, until two rates in a row lose nothing.
    fn loss_curve(&mut self, top: &Top) -> Result<(), String> {
        self.section = Test::Loss;
        if self.plan.loss_step == 0.0 {
            return Ok(());
        }
        let mut without = 0;
        for step in 0.. {
            let share = 1.0 - f64::from(step) * self.plan.loss_step;
            let wanted = share * top.pps;
            if share < self.plan.loss_step / 2.0 || wanted < self.plan.pps_min || without == 2 {
                break;
            }
            // The highest rate once more as it was asked for at first: paced, a source may not quite reach it.
            let rate = if step == 0 { top.rate } else { Rate::Paced(wanted) };
            let outcome = self.send(Test::Loss, rate, self.plan.seconds)?;
            if step > 0 {
                self.has_reached(&outcome, wanted);
            }
            let loss = outcome.loss();
            self.result.loss_curve.push((outcome.offered_pps(), loss));
            self.concluded = true;
            without = if loss > 0.0 { 0 } else { without + 1 };
        }
        Ok(())
    }

    fn send(&mut self, test: Test, rate: Rate, seconds: f64) -> Result<Outcome, String> {
        self.counting(test, rate, |trial, size| trial.send(size, rate, seconds))
    }

    /// Makes a trial, and once more where it does not count.
    fn counting(
        &mut self,
        test: Test,
        rate: Rate,
        mut make: impl FnMut(&mut dyn Trial, Size) -> Result<Outcome, String>,
    ) -> Result<Outcome, String> {
        let outcome = make(self.trial, self.size)?;
        self.tell(test, rate, &outcome);
        if !outcome.void {
            return Ok(outcome);
        }
        let again = make(self.trial, self.size)?;
        self.tell(test, rate, &again);
        let note = match again.void {
            true => "a trial that does not count (its clock) was made again, and that one does not either",
            false => "trials that do not count (their clock) were made again",
        };
        self.note(note.into());
        Ok(again)
    }

    fn tell(&mut self, test: Test, rate: Rate, outcome: &Outcome) {
        if test != Test::Latency {
            self.said.hear(outcome);
        }
        (self.watch)(Step {
            test,
            size: self.size,
            rate,
            outcome,
        });
    }

    /// Whether the source reached a rate; it is noted where not.
    fn has_reached(&mut self, outcome: &Outcome, wanted_pps: f64) -> bool {
        if reached(outcome, wanted_pps) {
            return true;
        }
        let offered = outcome.offered_pps();
        self.note(format!(
            "the source offered {offered:.0} frames per second where {wanted_pps:.0} were asked for"
        ));
        false
    }

    /// Keeps what is to be said, each once.
    fn note(&mut self, note: String) {
        if !self.result.notes.contains(&note) {
            self.result.notes.push(note);
        }
    }
}

/// What the first trial found.
struct Top {
    /// The rate that it was offered at.
    pps: f64,
    /// The rate that was asked for.
    rate: Rate,
    /// What came of it.
    outcome: Outcome,
}

fn reached(outcome: &Outcome, wanted_pps: f64) -> bool {
    outcome.offered_pps() >= wanted_pps * REACHED
}

#[cfg(test)]
mod tests;
