//! All that workers, the punt thread, the oracle thread and control have in common: bounded lock-free queues, one snapshot
//! pointer, and who owns which port. Nothing here blocks.
//!
//! ```text
//!  worker a --inbox[b]--> worker b           a frame whose egress ring b owns
//!         <--home[a]----                     ... comes home after completion
//!         --punts-----> punt thread          a frame for the kernel; comes home after the write
//!         --questions-> oracle thread --answers[a]--> worker a
//!  control --orders[a]---> worker a          queues come and go, the end
//!         --mailbox[a]--> worker a           reports, traces
//! ```

use super::Report;
use super::trace::Tracer;
use crate::packet::{Frame, FrameId, PORTS_MAX, PortIndex, PuntReason};
use crate::port::wait::Waker;
use crate::stage::prerouting::leaving::Leaving;
use crate::table::Snapshot;
use crate::table::bucket::Amount;
use crate::table::conntrack::table::Table;
use crate::table::nat::BySource;
use crate::table::oracle::Asked;
use crate::table::qdisc::Handle;
use arc_swap::ArcSwap;
use crossbeam::channel::Sender;
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::CachePadded;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

/// A frame on its way to the worker that owns its egress port.
#[derive(Debug)]
pub struct Handoff {
    /// The frame, already rewritten.
    pub frame: Frame,
    /// Where it leaves.
    pub egress: PortIndex,
    /// Where it came in, for the count.
    pub ingress: PortIndex,
    /// Its arrival in monotonic nanoseconds, 0 if it is not sampled.
    pub arrival_ns: u64,
}

/// A frame on its way to the kernel.
#[derive(Debug)]
pub struct Punted {
    /// The frame as it arrived.
    pub frame: Frame,
    /// The port it arrived on.
    pub port: PortIndex,
    /// Why.
    pub reason: PuntReason,
    /// What the kernel must be told first of its connection.
    pub leaving: Option<Leaving>,
    /// By which configuration.
    pub generation: u64,
}

/// What the kernel sent by the classes or qdiscs of a port.
pub type Charge = (PortIndex, Vec<(Handle, Amount)>);

/// What control tells a worker, between bursts.
pub enum Command<Q> {
    /// Own this queue from now on.
    Open(PortIndex, u32, Q),
    /// Give this port's queues back, to be closed.
    Close(PortIndex, Sender<Q>),
    /// Forget what was counted of this port: another one gets its number.
    Forget(PortIndex),
    /// Say that all before this was done, and a turn after it.
    Answer(Sender<()>),
    /// Say what was counted.
    Report {
        /// With the latencies, which are large.
        latency: bool,
        /// To whom.
        reply: Sender<Report>,
    },
    /// Watch packets from now on, or stop.
    Trace(Option<Tracer>),
    /// The kernel sent so much by the classes or qdiscs of these ports: it is paid for here, too.
    Charge(Vec<Charge>),
    /// End: give everything back and leave the loop.
    Stop(Sender<(Report, Vec<Q>)>),
}

/// How much of everything there is; all queues are sized by it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Workers.
    pub workers: usize,
    /// Frames of one worker's slab.
    pub slab_frames: u32,
    /// Frames of one slab that may wait in shapers, of all workers together; more are dropped, `qdisc_memory`.
    pub shaped: u32,
    /// Frames on the way to one worker; more are dropped, `handoff_full`.
    pub handoffs: usize,
    /// Frames on the way to the kernel; more are dropped, `punt_queue_full`.
    pub punts: usize,
    /// Connections; what happens beyond is written at the table.
    pub connections: u32,
}

impl Limits {
    /// For `workers` workers with slabs of `slab_frames`, a quarter of which may wait in shapers.
    pub fn new(workers: usize, slab_frames: u32) -> Self {
        Self {
            workers,
            slab_frames,
            shaped: slab_frames / 4,
            handoffs: 2048,
            punts: 1024,
            connections: 1 << 16,
        }
    }
}

/// See the module's head.
pub struct Shared<Q> {
    /// Sizes.
    pub limits: Limits,
    /// The current configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The connections.
    pub conntrack: Arc<Table>,
    /// Where the sources of translated ones went.
    pub by_source: BySource,
    /// Frames to transmit, by worker.
    pub inbox: Vec<ArrayQueue<Handoff>>,
    /// Frames coming home, by worker; room for the whole slab, so a frame always finds home.
    pub home: Vec<ArrayQueue<Frame>>,
    /// Frames for the kernel.
    pub punts: ArrayQueue<Punted>,
    /// Wakes the punt thread.
    pub punt_waker: Unparker,
    /// Questions for the oracle.
    pub questions: ArrayQueue<Asked>,
    /// Wakes the oracle thread.
    pub oracle_waker: Unparker,
    /// Answers of the oracle, by worker.
    pub answers: Vec<ArrayQueue<Asked>>,
    /// What control must not lose: a worker that stalls may have a full mailbox. As long as ports come and go meanwhile.
    pub orders: Vec<SegQueue<Command<Q>>>,
    /// Commands of control, by worker.
    pub mailbox: Vec<ArrayQueue<Command<Q>>>,
    /// Ends a worker's sleep.
    pub wakers: Vec<Waker>,
    /// Whether a worker sleeps, or is about to.
    pub asleep: Vec<CachePadded<AtomicBool>>,
    /// Monotonic time of a worker's last turn, in nanoseconds.
    pub alive_ns: Vec<CachePadded<AtomicU64>>,
    /// When the last turn of control began that it got through, in monotonic nanoseconds: workers have what the kernel said by
    /// then. 0 where nobody looks after that.
    pub control_ns: CachePadded<AtomicU64>,
    /// The worker that owns a port's transmit ring, by port; [`NOBODY`] if none.
    owners: Vec<AtomicU16>,
    /// When a worker last found that the kernel leaves next to nothing of a rate to what waits, by port; in monotonic nanoseconds, 0
    /// for never.
    left_out_ns: Vec<AtomicU64>,
}

/// No worker owns the port.
pub const NOBODY: u16 = u16::MAX;

impl<Q> Shared<Q> {
    /// Empty queues for `limits`, and what the punt and the oracle thread park on.
    pub fn new(limits: Limits, snapshot: Snapshot) -> io::Result<(Self, Parker, Parker)> {
        let (punt, oracle) = (Parker::new(), Parker::new());
        let per_worker = 0..limits.workers;
        let shared = Self {
            limits,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            conntrack: Arc::new(Table::new(limits.connections)),
            by_source: BySource::new(limits.connections),
            inbox: per_worker.clone().map(|_| ArrayQueue::new(limits.handoffs)).collect(),
            home: per_worker
                .clone()
                .map(|_| ArrayQueue::new(limits.slab_frames as usize))
                .collect(),
            punts: ArrayQueue::new(limits.punts),
            punt_waker: punt.unparker().clone(),
            questions: ArrayQueue::new(1024),
            oracle_waker: oracle.unparker().clone(),
            answers: per_worker.clone().map(|_| ArrayQueue::new(1024)).collect(),
            orders: per_worker.clone().map(|_| SegQueue::new()).collect(),
            mailbox: per_worker.clone().map(|_| ArrayQueue::new(PORTS_MAX)).collect(),
            wakers: per_worker.clone().map(|_| Waker::new()).collect::<io::Result<_>>()?,
            asleep: per_worker.clone().map(|_| CachePadded::default()).collect(),
            alive_ns: per_worker.map(|_| CachePadded::default()).collect(),
            control_ns: CachePadded::default(),
            owners: (0..PORTS_MAX).map(|_| AtomicU16::new(NOBODY)).collect(),
            left_out_ns: (0..PORTS_MAX).map(|_| AtomicU64::new(0)).collect(),
        };
        Ok((shared, punt, oracle))
    }

    /// The worker whose slab the frame is from.
    #[inline]
    pub fn home_of(&self, id: FrameId) -> usize {
        (id.0 / self.limits.slab_frames) as usize % self.limits.workers
    }

    /// Whether that is `worker`. Without the divisions, which every forwarded frame would wait for.
    #[inline]
    pub fn is_home(&self, id: FrameId, worker: usize) -> bool {
        let slab = self.limits.slab_frames;
        id.0.wrapping_sub(worker as u32 * slab) < slab || self.home_of(id) == worker
    }

    /// Sends a frame home. Room is made for every frame of a slab, so none is ever lost here.
    #[inline]
    pub fn send_home(&self, frame: Frame) {
        let stray = self.home[self.home_of(frame.id())].push(frame);
        debug_assert!(stray.is_ok(), "a slab has more frames than it was made with");
    }

    /// The worker that owns `port`'s transmit ring.
    #[inline]
    pub fn owner(&self, port: PortIndex) -> Option<usize> {
        match self.owners.get(usize::from(port.0))?.load(Ordering::Relaxed) {
            NOBODY => None,
            worker => Some(usize::from(worker)),
        }
    }

    /// Says who owns `port`'s transmit ring.
    pub fn set_owner(&self, port: PortIndex, worker: Option<usize>) {
        if let Some(owner) = self.owners.get(usize::from(port.0)) {
            owner.store(worker.map_or(NOBODY, |w| w as u16), Ordering::Relaxed);
        }
    }

    /// At `now_ns` the kernel leaves next to nothing to what waits at `port`.
    pub fn note_left_out(&self, port: PortIndex, now_ns: u64) {
        if let Some(noted) = self.left_out_ns.get(usize::from(port.0)) {
            noted.store(now_ns, Ordering::Relaxed);
        }
    }

    /// Whether that was so at `since_ns` or later.
    pub fn was_left_out(&self, port: PortIndex, since_ns: u64) -> bool {
        let noted = self.left_out_ns.get(usize::from(port.0));
        noted.is_some_and(|noted| noted.load(Ordering::Relaxed) >= since_ns.max(1))
    }

    /// The workers whose last turn was more than `limit_ns` before `now_ns`. One that has not started yet is not among them.
    pub fn stalled(&self, now_ns: u64, limit_ns: u64) -> Vec<usize> {
        let age = |alive_ns: &AtomicU64| match alive_ns.load(Ordering::Relaxed) {
            0 => 0,
            last => now_ns.saturating_sub(last),
        };
        (0..self.limits.workers)
            .filter(|&worker| age(&self.alive_ns[worker]) > limit_ns)
            .collect()
    }

    /// Whether what workers have may be older than `limit_ns` at `now_ns`.
    #[inline]
    pub fn is_control_late(&self, now_ns: u64, limit_ns: u64) -> bool {
        let last = self.control_ns.load(Ordering::Relaxed);
        last != 0 && now_ns.saturating_sub(last) > limit_ns
    }

    /// Has `worker` obey a command before all that is in its mailbox, and wakes it.
    pub fn order(&self, worker: usize, command: Command<Q>) {
        self.orders[worker].push(command);
        self.wakers[worker].wake();
    }

    /// Puts a command into `worker`'s mailbox and wakes it; false if the mailbox is full.
    pub fn tell(&self, worker: usize, command: Command<Q>) -> bool {
        let fits = self.mailbox[worker].push(command).is_ok();
        self.wakers[worker].wake();
        fits
    }

    /// Wakes `worker` if it sleeps. Call after pushing to one of its queues.
    #[inline]
    pub fn rouse(&self, worker: usize) {
        // Pairs with the fence in `run`: either the sleeper sees what was pushed, or we see that it sleeps.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep[worker].load(Ordering::Relaxed) {
            self.wakers[worker].wake();
        }
    }
}
