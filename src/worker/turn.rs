//! One turn of a worker: take what others sent, serve each queue some bursts, send. The frames move like this:
//!
//! ```text
//!  free --refill--> rings --receive--> burst --walk--> egress[port].pending --transmit--> rings --complete--> free | home
//!                                          \         \--> shaper, until the tokens are there
//!                                           \--> punts, inbox of another worker
//! ```
//!
//! Every packet of a burst gets its verdict before the burst ends; what waits for room in a transmit ring (`pending`) is
//! tried once more after the kick and then dropped, counted, so that nothing piles up. What the kernel left in a ring is kicked
//! again in later turns (`unkicked.rs`). Completions come before receives: a worker under overload first gets its frames back.

use super::ahead::{AHEAD, Ahead};
use super::carry::Walked;
use super::pipeline::Here;
use super::shaping::{Shaping, Waiting};
use super::shared::{Handoff, Punted, Shared};
use super::trace::Tracer;
use super::unkicked::Unkicked;
use super::{Latency, Report};
use crate::packet::{BURST, DropReason, Frame, PORTS_MAX, PortIndex, PuntReason};
use crate::port::Queue;
use crate::stage::prerouting::leaving::Leaving;
use crate::stage::routing::Flows;
use crate::stage::shape::Shaper;
use crate::table::Snapshot;
use crate::table::conntrack::Ticks;
use crate::table::conntrack::table::Handle;
use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most bursts of one queue, while it has full ones, before what became of them is sent and the next queue has its turn: sending,
/// which is the kernel's, drives the walk out of the nearest caches. Bounds the latency that one busy queue can add to another.
pub(super) const BURSTS: usize = 4;

/// Flows with several ways out that a worker remembers the kernel's choice for.
const ANSWERS_MAX: usize = 1 << 16;

/// A (port, queue) pair of this worker.
pub(super) struct Owned<Q> {
    pub(super) port: PortIndex,
    pub(super) number: u32,
    pub(super) queue: Q,
    /// Rewritten frames for this port's ring.
    pub(super) pending: Vec<Frame>,
    /// So many of them are sent before more are put there.
    pub(super) send_at: usize,
    /// The arrivals of the sampled ones among them, in monotonic nanoseconds.
    pub(super) arrivals: Vec<u64>,
    /// It is among those to flush.
    pub(super) listed: bool,
    /// Where frames wait before that, if the port is shaped.
    pub(super) shaper: Option<Box<Shaper<Waiting>>>,
}

/// A worker: the queues it owns, its frames, its counts. `Q` is the kind of queue, so that the same worker runs on AF_XDP
/// and in plain memory.
pub struct Worker<Q> {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared<Q>>,
    pub(super) snapshot: Arc<Snapshot>,
    /// Says at the cost of a load whether that is still the current one.
    published: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    pub(super) queues: Vec<Owned<Q>>,
    /// The place in `queues` that transmits for a port; none where another worker has its shaper.
    pub(super) egress: Vec<Option<u16>>,
    /// Places that have got frames since the last flush: with many ports most have none.
    pub(super) unsent: Vec<u16>,
    /// Places whose rings the kernel did not take all of.
    pub(super) unkicked: Unkicked,
    /// The other port of a wire, by port; all `None` when routing.
    pub(super) peers: Vec<Option<PortIndex>>,
    pub(super) free: Vec<Frame>,
    pub(super) burst: Vec<Frame>,
    pub(super) done: Vec<Frame>,
    pub(super) flows: Flows,
    /// Packets that were looked at and are to walk.
    pub(super) ahead: Vec<Ahead>,
    /// What became of a burst's frames.
    pub(super) walked: Vec<Walked>,
    /// For each of them that was punted, what the kernel must be told first.
    pub(super) leaving: VecDeque<Option<Leaving>>,
    /// Our access to the connections; away while a burst uses it.
    pub(super) connections: Option<Handle>,
    pub(super) swept: Ticks,
    /// What all shapers here have in common.
    pub(super) shaping: Shaping,
    pub(super) latency: Vec<Option<Box<Latency>>>,
    pub(super) tracer: Option<Tracer>,
    pub(super) report: Report,
}

impl<Q: Queue> Worker<Q> {
    /// Worker `index` with its slab of free frames. `wires` are the port pairs of `bypath wire`; empty when routing.
    pub fn new(index: usize, shared: Arc<Shared<Q>>, slab: Vec<Frame>, wires: &[(PortIndex, PortIndex)]) -> Self {
        let mut peers = vec![None; PORTS_MAX];
        for &(a, b) in wires {
            peers[usize::from(a.0)] = Some(b);
            peers[usize::from(b.0)] = Some(a);
        }
        Self {
            index,
            snapshot: shared.snapshot.load_full(),
            published: Cache::new(Arc::clone(&shared.snapshot)),
            queues: Vec::new(),
            egress: vec![None; PORTS_MAX],
            unsent: Vec::new(),
            unkicked: Unkicked::default(),
            peers,
            free: slab,
            burst: Vec::with_capacity(BURST),
            done: Vec::with_capacity(shared.limits.slab_frames as usize),
            flows: Flows::new(index, ANSWERS_MAX),
            ahead: vec![Ahead::NOTHING; AHEAD],
            walked: Vec::with_capacity(BURST),
            leaving: VecDeque::with_capacity(BURST),
            connections: Some(shared.conntrack.register()),
            swept: 0,
            shaping: Shaping::new(shared.limits.workers),
            latency: (0..PORTS_MAX).map(|_| None).collect(),
            tracer: None,
            report: Report::new(index),
            shared,
        }
    }

    /// Does one turn; how many frames it moved. `clock` gives monotonic nanoseconds and is read once per burst.
    pub fn turn(&mut self, clock: &impl Fn() -> u64) -> usize {
        self.report.turns += 1;
        let shared = Arc::clone(&self.shared);
        let current = self.published.load();
        if !Arc::ptr_eq(current, &self.snapshot) {
            self.snapshot = Arc::clone(current);
            self.shaping.is_stale = true;
        }
        if self.shaping.is_stale {
            self.reshape(clock());
        } else if !self.shaping.charges.is_empty() {
            self.pay(clock());
        }
        // Looked at before anything is taken: a look is a load, and a pop that finds nothing a fence.
        while !shared.answers[self.index].is_empty()
            && let Some(asked) = shared.answers[self.index].pop()
        {
            if let Some(answer) = asked.answer {
                self.flows
                    .answers
                    .insert(asked.question, asked.route, asked.epoch, answer);
            }
        }
        while !shared.home[self.index].is_empty()
            && let Some(frame) = shared.home[self.index].pop()
        {
            self.free.push(frame);
        }
        let mut moved = self.take_over(clock);
        for place in 0..self.queues.len() {
            moved += self.serve(place, clock);
        }
        self.flush(clock);
        if !self.unkicked.places.is_empty() {
            self.kick_again(clock());
        }
        moved += std::mem::take(&mut self.shaping.released);
        self.sweep(clock);
        if moved > 0 {
            self.report.busy_turns += 1;
        }
        moved
    }

    /// Takes the frames that other workers rewrote for ports of this one.
    fn take_over(&mut self, clock: &impl Fn() -> u64) -> usize {
        let shared = Arc::clone(&self.shared);
        let mut moved = 0;
        while moved < BURSTS * BURST
            && !shared.inbox[self.index].is_empty()
            && let Some(Handoff {
                frame,
                egress,
                ingress,
                arrival_ns,
            }) = shared.inbox[self.index].pop()
        {
            if moved == 0 && !self.shaping.places.is_empty() {
                self.shaping.now_ns = clock();
            }
            moved += 1;
            self.report.taken_over += 1;
            match self.egress[usize::from(egress.0)] {
                Some(place) => self.queue_up(place, frame, arrival_ns),
                None => self.lose(frame, ingress, DropReason::PortGone),
            }
        }
        moved
    }

    /// Some bursts of one queue, from its completions to the sending of what became of them.
    fn serve(&mut self, place: usize, clock: &impl Fn() -> u64) -> usize {
        let owned = &mut self.queues[place];
        if self.shared.limits.workers == 1 {
            self.free.append(&mut self.done);
            owned.queue.complete(&mut self.free);
        } else {
            owned.queue.complete(&mut self.done);
            while let Some(frame) = self.done.pop() {
                if self.shared.is_home(frame.id(), self.index) {
                    self.free.push(frame)
                } else {
                    self.shared.send_home(frame)
                }
            }
        }
        let mut burst = std::mem::take(&mut self.burst);
        let mut moved = 0;
        for _ in 0..BURSTS {
            let received = self.serve_burst(place, &mut burst, clock);
            moved += received;
            if received < BURST {
                break;
            }
        }
        self.burst = burst;
        if moved > 0 {
            self.flush(clock);
        }
        moved
    }

    /// One burst of one queue, to the verdicts of its packets.
    #[inline(always)]
    fn serve_burst(&mut self, place: usize, burst: &mut Vec<Frame>, clock: &impl Fn() -> u64) -> usize {
        let owned = &mut self.queues[place];
        owned.queue.refill(&mut self.free);
        let received = owned.queue.receive(burst, BURST);
        let port = owned.port;
        if received > 0 {
            self.report.received += received as u64;
            self.report.port(port).received += received as u64;
            let snapshot = Arc::clone(&self.snapshot);
            let now_ns = clock();
            let here = Here {
                now_ns,
                labels: self.shaping.labels,
                ..Here::new(port, &snapshot)
            };
            self.shaping.now_ns = now_ns;
            if let Some(policing) = here.policing {
                self.police(burst, &here, policing);
            }
            self.carry(burst, here);
            self.ask();
            if !self.shaping.places.is_empty() {
                self.release(clock);
            }
        }
        received
    }

    /// A forwarded frame: to its ring if it is ours, else to the worker that owns it.
    #[inline(always)]
    pub(super) fn emit(&mut self, frame: Frame, ingress: PortIndex, egress: PortIndex, arrival_ns: u64) {
        if let Some(place) = self.egress[usize::from(egress.0)] {
            self.report.port(ingress).forwarded += 1;
            return self.queue_up(place, frame, arrival_ns);
        }
        self.hand_off(frame, ingress, egress, arrival_ns);
    }

    /// A forwarded frame, to the worker that transmits for its port.
    #[inline(never)]
    fn hand_off(&mut self, frame: Frame, ingress: PortIndex, egress: PortIndex, arrival_ns: u64) {
        let Some(owner) = self.shared.owner(egress) else {
            return self.lose(frame, ingress, DropReason::PortGone);
        };
        match self.shared.inbox[owner].push(Handoff {
            frame,
            egress,
            ingress,
            arrival_ns,
        }) {
            Ok(()) => {
                self.report.handed_off += 1;
                self.report.port(ingress).forwarded += 1;
                self.shared.rouse(owner);
            }
            Err(back) => self.lose(back.frame, ingress, DropReason::HandoffFull),
        }
    }

    /// A frame for a ring of this worker, or for the shaper before it.
    #[inline(always)]
    fn queue_up(&mut self, place: u16, frame: Frame, arrival_ns: u64) {
        match self.queues[usize::from(place)].shaper {
            None => self.line_up(place, frame, arrival_ns),
            Some(_) => self.shape(place, frame, arrival_ns),
        }
    }

    #[inline(always)]
    pub(super) fn line_up(&mut self, place: u16, frame: Frame, arrival_ns: u64) {
        let owned = &mut self.queues[usize::from(place)];
        if !owned.listed {
            owned.listed = true;
            self.unsent.push(place);
        }
        if arrival_ns != 0 && owned.arrivals.len() < owned.arrivals.capacity() {
            owned.arrivals.push(arrival_ns);
        }
        owned.pending.push(frame);
        if owned.pending.len() >= owned.send_at {
            self.send(usize::from(place));
        }
    }

    /// A frame for the kernel, to the punt thread.
    #[cold]
    #[inline(never)]
    pub(super) fn punt(&mut self, frame: Frame, port: PortIndex, reason: PuntReason) {
        self.police_punted(&frame, port);
        let leaving = self.leaving.pop_front().flatten();
        if reason.is_endless() && self.shared.punts.len() >= self.shared.punts.capacity() / 2 {
            return self.lose(frame, port, DropReason::PuntQueueFull);
        }
        match self.shared.punts.push(Punted {
            frame,
            port,
            reason,
            leaving,
            generation: self.snapshot.generation,
        }) {
            Ok(()) => {
                self.report.punted[reason as usize] += 1;
                self.report.port(port).punted += 1;
                self.shared.punt_waker.unpark();
            }
            Err(back) => self.lose(back.frame, port, DropReason::PuntQueueFull),
        }
    }

    /// A frame that is lost here.
    #[cold]
    #[inline(never)]
    pub(super) fn lose(&mut self, frame: Frame, port: PortIndex, reason: DropReason) {
        self.report.dropped[reason as usize] += 1;
        self.report.port(port).dropped += 1;
        self.shared.send_home(frame);
    }

    /// Puts this burst's questions to the oracle; those that find no room are asked with a later packet of their flow.
    #[inline]
    fn ask(&mut self) {
        if self.flows.questions.is_empty() {
            return;
        }
        for mut asked in self.flows.questions.drain(..) {
            asked.worker = self.index;
            let _ = self.shared.questions.push(asked);
        }
        self.shared.oracle_waker.unpark();
    }

    /// Sends what is pending on all queues and samples latencies.
    #[inline]
    fn flush(&mut self, clock: &impl Fn() -> u64) {
        if !self.shaping.places.is_empty() {
            self.release(clock);
        }
        let mut sampled = false;
        for at in 0..self.unsent.len() {
            let place = usize::from(self.unsent[at]);
            if !self.queues[place].pending.is_empty() {
                self.send(place);
            }
            sampled |= !self.queues[place].arrivals.is_empty();
            self.queues[place].listed = false;
        }
        if sampled {
            self.sample(clock());
        }
        self.unsent.clear();
    }

    /// Moves one queue's pending frames into its ring and kicks; what finds no room after a second try is lost.
    fn send(&mut self, place: usize) {
        let owned = &mut self.queues[place];
        let mut sent = owned.queue.transmit(&mut owned.pending);
        let mut left = owned.queue.kick();
        if !owned.pending.is_empty() {
            owned.queue.complete(&mut self.done);
            sent += owned.queue.transmit(&mut owned.pending);
            left = owned.queue.kick();
        }
        if left > 0 {
            self.unkicked.note(place as u16);
        }
        self.report.forwarded += sent as u64;
        let port = owned.port;
        self.report.port(port).sent += sent as u64;
        while let Some(frame) = self.queues[place].pending.pop() {
            self.lose(frame, port, DropReason::TxRingFull);
        }
    }

    fn sample(&mut self, now_ns: u64) {
        for &place in &self.unsent {
            let owned = &mut self.queues[usize::from(place)];
            for arrival_ns in owned.arrivals.drain(..) {
                if let Some(latency) = &mut self.latency[usize::from(owned.port.0)] {
                    latency.record(now_ns.saturating_sub(arrival_ns));
                }
            }
        }
    }
}
