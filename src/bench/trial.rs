//! One trial after the other by two ports: the sender's thread and the receiver's, each in its port's namespace and on its core,
//! and this one between them.
//!
//! ```text
//!   this thread          sender                     receiver
//!     begin ─────────────────────────────────────────> begin(run)
//!     go ────────────────> run(work, run, limit)         turn, turn, ...
//!       <── tick ───────── offered     arrived ───────── every few milliseconds
//!     drain  <──────────── Sent, CPU time                until all are there, or nothing comes any more
//!     end ───────────────────────────────────────────> end ──> Found ──> Outcome
//! ```
//!
//! The CPU time is from the first frame to the end of the sending, as the source tells of both: of what is made ready before and
//! of the waiting after it (the end of a live run among it) a program that polls would have a core's time in each frame, and one
//! that sleeps nothing.
//!
//! Times of both ends are CLOCK_MONOTONIC of this machine. Each trial has a number of its own, so that what is late of one is not
//! taken for the next one's. A trial is over when everything has arrived, or when nothing has for [`QUIET`], at most [`DRAIN_MAX`]
//! after the last frame was sent (RFC 2544, section 23, waits two seconds).
//!
//! Ports stay open from trial to trial: a search of hundreds of trials binds its sockets once. Open them once per namespace and
//! keep them; frame memory is not given back before the process ends (port/umem.rs).

use super::clock::Clocks;
use super::cpu::busy_ns;
use super::job_thread::JobThread;
use super::outcome::{Outcome, Trial};
use super::sink::{Found, Sink};
use super::source::{Limit, Sent, Source};
use super::work::{Rate, Size, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Nothing that takes longer to come than this after the frame before is waited for.
pub const QUIET: Duration = Duration::from_millis(300);
/// Nothing is waited for longer than this.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often this thread looks.
const TICK: Duration = Duration::from_millis(100);
/// How often the receiver counts, and this thread looks when it waits for the rest.
const COUNT_EVERY: Duration = Duration::from_millis(5);
/// A receiver that has never seen a frame is given up after so long.
const NOTHING_MAX: Duration = Duration::from_secs(3);
/// A source that does not end by itself is given up so long after it should have.
const OVERDUE: Duration = Duration::from_secs(10);
/// A paced source is said not to have reached its rate below this part of it.
const REACHED: f64 = 0.99;

/// How a trial goes while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    /// Seconds since it began.
    pub elapsed: f64,
    /// Seconds that it is to take; nothing of a burst.
    pub seconds: Option<f64>,
    /// Frames sent so far.
    pub offered: u64,
    /// Frames that arrived so far.
    pub arrived: u64,
}

/// What both threads and this one look at while a trial runs.
#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    arrived: AtomicU64,
    stop: AtomicBool,
    finish: AtomicBool,
}

#[derive(Debug)]
struct Job {
    work: Work,
    run: u16,
    limit: Limit,
}

#[derive(Debug)]
struct Look {
    run: u16,
    flows: u32,
    begun: Sender<()>,
}

/// What was sent, and the time of all cores meanwhile; nothing where /proc does not say, or no frame was seen to leave.
type Sending = (Sent, Option<f64>);

/// What is called ten times a second while a trial runs; `false` ends the trial.
pub type OnTick = Box<dyn FnMut(&Tick) -> bool>;

/// What tells the clocks' time.
type Clock = Box<dyn FnMut() -> Clocks>;

/// Two ports, and what is sent between them.
pub struct Pair {
    work: Work,
    names: (String, String),
    sender: JobThread<Job, Sending>,
    receiver: JobThread<Look, Found>,
    shared: Arc<Shared>,
    run: u16,
    seen: bool,
    hint: String,
    on_tick: OnTick,
    clock: Clock,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// An end before and after each trial: an error where its link is down.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send>;

/// One end: what opens it, on its thread, and what looks after its link.
pub struct End<T: ?Sized> {
    /// The port's name, for messages.
    pub name: String,
    /// Runs on the thread of the end.
    pub open: Box<dyn FnOnce() -> Result<Box<T>, String> + Send>,
    /// Runs there too.
    pub check: Check,
}

impl<T: ?Sized> std::fmt::Debug for End<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pair {
    /// Opens both ends. `first` is the number before the first trial's; `work` says all but size, rate and time.
    ///
    /// # Errors
    /// One of them cannot be opened, and what to do.
    pub fn open(sender: End<dyn Source>, receiver: End<dyn Sink>, work: Work, first: u16) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let names = (sender.name, receiver.name);
        // The receiver first: a link whose peer has an XDP program takes more from the source.
        let receiver = JobThread::start("receiver", {
            let shared = shared.clone();
            move || {
                let mut sink = (receiver.open)()?;
                Ok(move |look| receive(&mut *sink, &receiver.check, look, &shared))
            }
        })?;
        let sender = JobThread::start("sender", {
            let shared = shared.clone();
            move || {
                let mut source = (sender.open)()?;
                Ok(move |send| send_frames(&mut *source, &sender.check, &send, &shared))
            }
        })?;
        Ok(Self {
            work,
            names,
            sender,
            receiver,
            shared,
            run: first,
            seen: false,
            hint: String::new(),
            on_tick: Box::new(|_| true),
            clock: Box::new(Clocks::now),
        })
    }

    /// What is to be said besides where nothing arrives.
    pub fn set_hint(&mut self, hint: String) {
        self.hint = hint;
    }

    /// Has `on_tick` be called while trials run.
    pub fn on_tick(&mut self, on_tick: OnTick) {
        self.on_tick = on_tick;
    }

    /// What is sent.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Changes what is sent from the next trial on: another destination, other flows.
    pub fn set_work(&mut self, work: Work) {
        self.work = work;
    }

    fn trial(&mut self, work: Work, limit: Limit) -> Result<Outcome, String> {
        self.run = self.run.wrapping_add(1);
        for count in [&self.shared.offered, &self.shared.arrived] {
            count.store(0, Relaxed);
        }
        for flag in [&self.shared.stop, &self.shared.finish] {
            flag.store(false, Relaxed);
        }
        let (begun, has_begun) = channel();
        self.receiver.ask(Look {
            run: self.run,
            flows: work.flows.count,
            begun,
        })?;
        if has_begun.recv().is_err() {
            return Err(self.found().err().unwrap_or_else(|| "the receiver ended early".into()));
        }
        let rate = work.rate;
        let clocks = (self.clock)();
        let sent = self.send_while(work, limit);
        if let Ok((sent, _)) = &sent {
            self.drain(sent.offered);
        }
        let leap = clocks.judge(&(self.clock)());
        let found = self.found()?;
        let (sent, busy) = sent?;
        let mut outcome = found.outcome(sent, rate);
        self.judge_nothing(&mut outcome)?;
        if outcome.received > 0 {
            // What was over between two ticks of /proc/stat is not known to have cost nothing.
            let busy = busy.filter(|&ns| ns > 0.0);
            outcome.cpu_ns_per_frame = busy.map(|ns| ns / outcome.received as f64);
        }
        outcome.notes.extend(unreached(&outcome, rate));
        outcome.void = leap.is_some();
        // First, before what is to be said of numbers that are none.
        outcome
            .notes
            .splice(0..0, leap.map(|leap| format!("does not count: {leap}")));
        Ok(outcome)
    }

    /// Has the sender send, and looks on.
    fn send_while(&mut self, work: Work, limit: Limit) -> Result<Sending, String> {
        let seconds = match limit {
            Limit::Time(time) => Some(time.as_secs_f64()),
            Limit::Frames(_) => None,
        };
        let job = Job {
            work,
            run: self.run,
            limit,
        };
        self.sender.ask(job)?;
        let (began, mut first, mut ended_by) = (Instant::now(), None, None);
        loop {
            if let Some(sent) = self.sender.answer(TICK) {
                let (mut sent, busy) = sent?;
                sent.notes.extend(ended_by);
                return Ok((sent, busy));
            }
            let elapsed = began.elapsed();
            let tick = Tick {
                elapsed: elapsed.as_secs_f64(),
                seconds,
                offered: self.shared.offered.load(Relaxed),
                arrived: self.shared.arrived.load(Relaxed),
            };
            if !(self.on_tick)(&tick) {
                self.shared.stop.store(true, Relaxed);
                ended_by = Some(format!("this trial was ended after {:.1} s", tick.elapsed));
            }
            // Ten million flows take their time to be made ready.
            if tick.offered > 0 && first.is_none() {
                first = Some(Instant::now());
            }
            let sending = first.map_or(Duration::ZERO, |first: Instant| first.elapsed());
            let hopeless = !self.seen && tick.arrived == 0 && sending > NOTHING_MAX;
            let over = seconds
                .map(Duration::from_secs_f64)
                .is_some_and(|time| sending > time + OVERDUE);
            if hopeless || over {
                self.shared.stop.store(true, Relaxed);
            }
            if over && sending > OVERDUE * 3 + Duration::from_secs_f64(seconds.unwrap_or_default()) {
                return Err(format!(
                    "the sender on {} does not end: this is a bug of bypath",
                    self.names.0
                ));
            }
        }
    }

    /// Waits for what is still on its way.
    fn drain(&self, offered: u64) {
        let began = Instant::now();
        let (mut last, mut since) = (self.shared.arrived.load(Relaxed), began);
        while began.elapsed() < DRAIN_MAX && since.elapsed() < QUIET {
            let arrived = self.shared.arrived.load(Relaxed);
            if arrived >= offered {
                // One more look, for what comes twice.
                std::thread::sleep(COUNT_EVERY * 2);
                return;
            }
            if arrived != last {
                (last, since) = (arrived, Instant::now());
            }
            std::thread::sleep(COUNT_EVERY);
        }
    }

    /// Has the receiver end, and takes what it found.
    fn found(&self) -> Result<Found, String> {
        self.shared.finish.store(true, Relaxed);
        match self.receiver.answer(OVERDUE) {
            Some(found) => found,
            None => Err(format!(
                "the receiver on {} does not end: this is a bug of bypath",
                self.names.1
            )),
        }
    }

    /// An error where nothing has ever come out; a note where something has before.
    fn judge_nothing(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        self.seen |= outcome.received > 0 || outcome.corrupted > 0;
        if outcome.received > 0 || outcome.offered == 0 {
            return Ok(());
        }
        let (from, to) = &self.names;
        if self.seen {
            outcome.notes.push(format!("nothing of this trial arrived at {to}"));
            return Ok(());
        }
        let [a, b, c, d, e, f] = self.work.dst_mac;
        Err(format!(
            "{to} received none of the {} frames that {from} sent ({} others arrived there): does what is between take frames \
             to {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} (--dst-mac), and forward {} (--dst) to {to}? See its routes, \
             neighbours and rules, and `ip -s link`{}",
            outcome.offered, outcome.foreign, self.work.dst, self.hint
        ))
    }
}

/// Says it where a paced source did not reach its rate and has not said so itself.
fn unreached(outcome: &Outcome, rate: Rate) -> Option<String> {
    let Rate::Paced(wanted) = rate else { return None };
    let said = outcome.notes.iter().any(|note| note.contains("rate was not reached"));
    let reached = outcome.offered_pps();
    (!said && outcome.offered > 1 && reached < wanted * REACHED).then(|| {
        format!("the rate was not reached: {wanted:.0} frames per second were asked for, {reached:.0} were sent")
    })
}

fn send_frames(source: &mut dyn Source, check: &Check, job: &Job, shared: &Shared) -> Result<Sending, String> {
    check()?;
    let (mut first, mut last) = (None, None);
    let mut progress = |offered| {
        if offered > 0 {
            last = busy_ns();
            first = first.or(last);
        }
        shared.offered.store(offered, Relaxed);
        !shared.stop.load(Relaxed)
    };
    let sent = source.run(&job.work, job.run, job.limit, &mut progress)?;
    let busy = last.zip(first).map(|(now, then): (f64, f64)| now - then);
    shared.offered.store(sent.offered, Relaxed);
    check()?;
    Ok((sent, busy))
}

fn receive(sink: &mut dyn Sink, check: &Check, job: Look, shared: &Shared) -> Result<Found, String> {
    check()?;
    sink.begin(job.run, job.flows)?;
    let _ = job.begun.send(());
    drop(job.begun);
    let mut counted = Instant::now();
    while !shared.finish.load(Relaxed) {
        let taken = sink.turn();
        if counted.elapsed() >= COUNT_EVERY {
            shared.arrived.store(sink.arrived()?, Relaxed);
            counted = Instant::now();
        }
        if taken == 0 {
            std::thread::sleep(sink.pause());
        }
    }
    let found = sink.end()?;
    check()?;
    Ok(found)
}

impl Trial for Pair {
    fn send(&mut self, size: Size, rate: Rate, seconds: f64) -> Result<Outcome, String> {
        let duration =
            Duration::try_from_secs_f64(seconds).map_err(|_| format!("{seconds} s is no time to send for"))?;
        let work = Work {
            size,
            rate,
            duration,
            ..self.work.clone()
        };
        self.trial(work, Limit::Time(duration))
    }

    fn burst(&mut self, size: Size, frames: u64) -> Result<Outcome, String> {
        let work = Work {
            size,
            rate: Rate::Unpaced,
            ..self.work.clone()
        };
        self.trial(work, Limit::Frames(frames))
    }
}

#[cfg(test)]
#[path = "trial/tests.rs"]
mod tests;
