//! What control wants of a worker, between bursts: not hot, so it may allocate. Queues come and go, counts are told, the end.
//! One command between two bursts, so that a mailbox that is full delays no frame by more than that. What a port that goes had
//! pending is lost, and counted.

use super::shared::{Command, Shared};
use super::turn::{BURSTS, Owned, Worker};
use super::{Latency, PortCount, QueueReport, Report};
use crate::packet::{BURST, DropReason, Frame, PortIndex};
use crate::port::Queue;
use std::sync::Arc;

impl<Q: Queue> Worker<Q> {
    /// Takes at most one command, orders first; `false` ends the loop.
    pub fn obey(&mut self) -> bool {
        let order = self.shared.orders[self.index].pop();
        let Some(command) = order.or_else(|| self.shared.mailbox[self.index].pop()) else {
            return true;
        };
        match command {
            Command::Open(port, number, queue) => self.open(port, number, queue),
            Command::Close(port, reply) => {
                self.close(port).into_iter().for_each(|queue| drop(reply.send(queue)));
            }
            Command::Forget(port) => {
                *self.report.port(port) = PortCount::default();
                self.latency[usize::from(port.0)] = None;
            }
            Command::Answer(reply) => drop(reply.send(())),
            Command::Report { latency: false, reply } => drop(reply.send(self.report())),
            Command::Report { latency: true, reply } => drop(reply.send(self.report_with_latency())),
            Command::Trace(tracer) => self.tracer = tracer,
            Command::Charge(charges) => self.shaping.charges.extend(charges),
            Command::Stop(reply) => {
                self.lose_shaped(|_| true, DropReason::QdiscGone);
                let report = self.report();
                self.shaping.forget_places();
                let queues = self.queues.drain(..).map(|owned| owned.queue).collect();
                let _ = reply.send((report, queues));
                return false;
            }
        }
        true
    }

    /// Pays for what the kernel sent.
    pub(super) fn pay(&mut self, now_ns: u64) {
        for (port, sent) in std::mem::take(&mut self.shaping.charges) {
            let of_port = self.queues.iter_mut().filter(|owned| owned.port == port);
            let mut is_left_out = false;
            for shaper in of_port.filter_map(|owned| owned.shaper.as_mut()) {
                for &(of, sent) in &sent {
                    is_left_out |= shaper.charge(of, sent, now_ns);
                }
            }
            if is_left_out {
                self.shared.note_left_out(port, now_ns);
            }
        }
    }

    /// The frames that are still in the worker's own hands, after its end: for the frame audit.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.free.into_iter().chain(self.done).chain(self.burst)
    }

    /// The worker's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What workers and control have in common.
    pub fn shared(&self) -> &Arc<Shared<Q>> {
        &self.shared
    }

    /// What poll(2) may wait on.
    pub fn fds(&self) -> impl Iterator<Item = std::os::fd::RawFd> + '_ {
        self.queues.iter().filter_map(|owned| owned.queue.fd())
    }

    /// Whether it has no frame left to receive into, and so its fill rings may lack some.
    pub fn is_short(&self) -> bool {
        self.free.is_empty() && !self.queues.is_empty()
    }

    /// Counts one sleep.
    pub fn slept(&mut self) {
        self.report.sleeps += 1;
    }

    /// Owns `queue` from now on. The first queue of a port transmits for it.
    pub fn open(&mut self, port: PortIndex, number: u32, queue: Q) {
        let place = self.queues.len() as u16;
        self.egress[usize::from(port.0)].get_or_insert(place);
        self.latency[usize::from(port.0)].get_or_insert_default();
        let send_at = (queue.room() / 4).clamp(BURST, BURSTS * BURST);
        let (pending, arrivals) = (Vec::with_capacity(send_at), Vec::with_capacity(2 * BURST));
        self.queues.push(Owned {
            port,
            number,
            queue,
            pending,
            send_at,
            arrivals,
            listed: false,
            shaper: None,
        });
        self.unsent.reserve(self.queues.len());
        self.unkicked.places.reserve(self.queues.len());
        self.shaping.is_stale = true;
    }

    pub(super) fn close(&mut self, port: PortIndex) -> Vec<Q> {
        // Places change.
        self.unsent.clear();
        self.queues.iter_mut().for_each(|owned| owned.listed = false);
        self.lose_shaped(|owned| owned.port == port, DropReason::PortGone);
        let mut closed = Vec::new();
        while let Some(place) = self.queues.iter().position(|owned| owned.port == port) {
            let owned = self.queues.remove(place);
            for frame in owned.pending {
                self.report.dropped[DropReason::PortGone as usize] += 1;
                self.report.port(port).dropped += 1;
                self.shared.send_home(frame);
            }
            closed.push(owned.queue);
        }
        self.shaping.forget_places();
        self.find_ways_out();
        self.unkicked.look_at_all(self.queues.len());
        closed
    }

    /// All counts, with the state of the rings; no latencies.
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.free = (self.free.len() + self.done.len() + self.shared.home[self.index].len()) as u64;
        report.pending = self.queues.iter().map(|owned| owned.pending.len() as u64).sum();
        report.shaped = self.shaped();
        report.shaping = self.shaping_report();
        let of = |o: &Owned<Q>| QueueReport {
            port: o.port,
            queue: o.number,
            held: o.queue.held(),
            counters: o.queue.counters(),
        };
        report.queues = self.queues.iter().map(of).collect();
        report
    }

    /// ... and a copy of all latencies, some 30 KiB for each port.
    pub fn report_with_latency(&self) -> Report {
        let sampled = |(port, latency): (usize, &Option<Box<Latency>>)| {
            let copy = Arc::new(Latency::clone(latency.as_ref()?));
            Some((PortIndex(port as u16), copy))
        };
        Report {
            latency: self.latency.iter().enumerate().filter_map(sampled).collect(),
            ..self.report()
        }
    }
}
