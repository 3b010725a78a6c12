//! The AF_XDP source: frames of a UMEM are written and given to the transmit ring of one queue of the port.
//!
//! ```text
//!   free --write--> burst --transmit, kick--> NIC --complete--> free        the last that came back is the first to go
//! ```
//!
//! On veth, and wherever the driver has no zero-copy, a transmit is work of this core in the kernel (an skb and a copy per
//! frame), some 0.7 us each; what is done here is a tenth of that. What a veth's peer had no room for is dropped at once, and
//! told (EBUSY): such frames are offered, and counted as refused.
//!
//! Paced, a burst is what is due: one frame at 100,000 a second, as long as the core keeps up. Between frames the core spins,
//! or sleeps where the next is over 150 us away. The time in a frame is taken once per burst, just before it is written.

use super::watch::{End, Shared, watch};
use super::{Limit, Sent, Source, SourceOptions};
use crate::bench::frames::{Fields, Frames, Sender};
use crate::bench::order::Picker;
use crate::bench::pace::Pace;
use crate::bench::tag::time_field;
use crate::bench::work::{Rate, Work};
use crate::packet::Frame;
use crate::port::Queue;
use crate::port::link::{Link, mtu_max};
use crate::port::umem::{Umem, UmemConfig};
use crate::port::wait::{monotonic_ns, wait_ns, wake_on_time};
use crate::port::xsk::{Config, XskQueue};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Frames of the largest burst.
const BURST: usize = 64;
/// Entries of the transmit ring, and as many frames.
const RING: u32 = 2048;
/// Below this a wait is spent spinning, and a sleep ends so long before its time.
const SPIN_NS: u64 = 150_000;
const SLEEP_EARLY_NS: u64 = 100_000;
/// How long frames may stay in the ring at the end.
const DRAIN_NS: u64 = 100_000_000;

/// Sends by an AF_XDP socket.
#[derive(Debug)]
pub struct XskSource {
    link: Link,
    options: SourceOptions,
    queue: Option<XskQueue>,
    free: Vec<Frame>,
    picker: Option<Picker>,
}

impl XskSource {
    /// A source on queue `options.queue` of the interface `port`.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn open(port: &str, options: SourceOptions) -> Result<Self, String> {
        let link = super::sending_link(port)?;
        let umem = Umem::create(UmemConfig {
            frames_per_worker: RING,
            frame_size: if link.mtu > mtu_max(2048) { 4096 } else { 2048 },
            fill_size: 64,
            completion_size: RING,
            ..UmemConfig::default()
        })
        .map_err(|e| e.to_string())?;
        let config = Config {
            rx_size: 64,
            tx_size: RING,
            fill_frames: 0,
            ..Config::default()
        };
        let queue = XskQueue::open(&umem, &link.name, options.queue, &config).map_err(|e| e.to_string())?;
        Ok(Self {
            link,
            options,
            free: umem.take_slab(0),
            queue: Some(queue),
            picker: None,
        })
    }

    /// Whether the socket is in zero-copy mode.
    pub fn zero_copy(&self) -> bool {
        self.queue.as_ref().is_some_and(XskQueue::zero_copy)
    }
}

impl Drop for XskSource {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.close(&mut self.free);
        }
    }
}

impl Source for XskSource {
    fn run(
        &mut self,
        work: &Work,
        run: u16,
        limit: Limit,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sent, String> {
        let sender = Sender {
            mac: self.link.mac,
            mtu: self.link.mtu,
        };
        let frames = Frames::new(work, run, &sender)?;
        let picker = super::picker_for(&mut self.picker, work)?;
        let pace = match work.rate {
            Rate::Paced(rate) => Some(Pace::new(rate, 0)?),
            Rate::Unpaced => None,
        };
        let queue = self.queue.as_mut().ok_or("the source is closed")?;
        let (offered, first_ns, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared {
            offered: &offered,
            first_ns: &first_ns,
            stop: &stop,
        };
        let (after, most) = match limit {
            Limit::Time(after) => (Some(after), u64::MAX),
            Limit::Frames(frames) => (None, frames),
        };
        let end = End { after, frames: None };
        queue.kick();
        queue.complete(&mut self.free);
        if queue.held().tx > 0 {
            return Err(format!(
                "{} has kept the frames of the last run in its ring: is its peer up, and does its driver send on queue {}?",
                self.link.name, self.options.queue
            ));
        }
        let blank = frames.blank();
        for frame in &mut self.free {
            frame.fill(&blank);
        }
        let mut sending = Sending {
            queue,
            free: &mut self.free,
            burst: Vec::with_capacity(BURST),
            frames: &frames,
            picker,
            timed: self.options.timed,
            sequence: 0,
        };
        let mut sent = watch(&shared, self.options.cpu, end, progress, || {
            Ok(sending.run(pace, most, &shared))
        })?;
        sent.notes = frames.notes;
        sent.note_rate(work.rate);
        Ok(sent)
    }
}

/// One run.
struct Sending<'a> {
    queue: &'a mut XskQueue,
    free: &'a mut Vec<Frame>,
    burst: Vec<Frame>,
    frames: &'a Frames,
    picker: &'a Picker,
    timed: bool,
    sequence: u64,
}

impl Sending<'_> {
    fn run(&mut self, mut pace: Option<Pace>, most: u64, shared: &Shared<'_>) -> Sent {
        wake_on_time();
        let refused = self.queue.counters().kick_busy;
        let first_ns = monotonic_ns();
        let mut last_ns = first_ns;
        if let Some(pace) = &mut pace {
            pace.start(first_ns);
        }
        shared.first_ns.store(first_ns, Relaxed);
        while shared.stop.load(Relaxed) == 0 && self.sequence < most {
            let now = monotonic_ns();
            let room = self.queue.room().min(self.free.len()).min(BURST) as u64;
            let left = room.min(most - self.sequence);
            let n = match &mut pace {
                Some(pace) => pace.due(now, left),
                None => left,
            };
            if n > 0 {
                self.send(n as usize, first_ns, now);
                last_ns = now;
                shared.offered.store(self.sequence, Relaxed);
            }
            if let Some(pace) = &mut pace {
                pace.sent(n);
                if n == 0 && room > 0 {
                    pause(pace.next_ns());
                }
            }
            self.queue.kick();
            self.queue.complete(self.free);
        }
        self.drain();
        let unsent = u64::from(self.queue.held().tx);
        Sent {
            offered: self.sequence - unsent,
            refused: self.queue.counters().kick_busy - refused,
            missed: pace.map_or(0, |pace| pace.missed()),
            first_ns,
            last_ns,
            notes: Vec::new(),
        }
    }

    /// Writes `n` frames and puts them into the ring, which has room for them.
    fn send(&mut self, n: usize, first_ns: u64, now: u64) {
        let gone = self.picker.gone(now - first_ns);
        let time = if self.timed { time_field(now) } else { 0 };
        let from = self.free.len() - n;
        self.burst.extend(self.free.drain(from..).rev());
        for frame in &mut self.burst {
            let shape = self.frames.shape(self.sequence);
            let flow = self.picker.flow(self.picker.slot(self.sequence), gone);
            let fields = Fields {
                sequence: self.sequence,
                flow,
                time,
            };
            frame.set_range(usize::from(frame.head()), shape.len);
            self.frames.write(shape, &fields, frame.bytes_mut());
            self.sequence += 1;
        }
        self.queue.transmit(&mut self.burst);
    }

    /// Has what is in the ring sent. A port that takes no more keeps its frames until the source is closed.
    fn drain(&mut self) {
        let end = monotonic_ns() + DRAIN_NS;
        while self.queue.held().tx > 0 && monotonic_ns() < end {
            self.queue.kick();
            if self.queue.complete(self.free) == 0 {
                std::thread::yield_now();
            }
        }
    }
}

/// Waits for a time that is near, and goes to sleep for one that is not.
fn pause(until_ns: u64) {
    let now = monotonic_ns();
    if until_ns > now + SPIN_NS {
        // Bounded, so that a slow pace is ended in time.
        wait_ns([], (until_ns - now - SLEEP_EARLY_NS).min(50_000_000));
    } else {
        std::hint::spin_loop();
    }
}
