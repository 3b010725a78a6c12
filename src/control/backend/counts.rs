//! What workers counted, as the rows of answers.
//!
//! All of it is made from reports that the caller has asked for, so that an answer of several tables, such as a scrape, asks each
//! worker once, and its tables are of one moment. What workers do not count is added here: the punt thread's counts, steer's, those
//! of queues that are closed, and what the kernel has configured of qdiscs.

use super::{PortFacts, Running};
use crate::control::describe;
use crate::control::report::{self, DropRow, Frames, Latency, Port, Qdisc, Queue, Totals, Worker};
use crate::mirror::tc::Reader;
use crate::packet::{DropReason, PortIndex};
use crate::worker::Report;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl<Q: Send + 'static> Running<Q> {
    /// Where all frames went, from `reports`.
    pub fn totals_of(&self, reports: &[Report]) -> Totals {
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let written: Vec<u64> = self.punts.written.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let failed = self.punts.failed.load(Ordering::Relaxed);
        let mut dropped = [0; DropReason::ALL.len()];
        for report in reports {
            dropped
                .iter_mut()
                .zip(report.dropped)
                .for_each(|(all, one)| *all += one);
        }
        dropped[DropReason::PuntFailed as usize] += failed;
        let to_punt: u64 = reports.iter().flat_map(|report| report.punted).sum();
        let in_punt = to_punt.saturating_sub(written.iter().sum::<u64>() + failed);
        let in_handoff = sum(|r| r.handed_off).saturating_sub(sum(|r| r.taken_over));
        Totals {
            received: sum(|r| r.received),
            forwarded: sum(|r| r.forwarded),
            punted: report::punted(&written),
            dropped: report::dropped(&dropped),
            held: in_punt + in_handoff + sum(|r| r.pending + r.shaped),
            stale_workers: reports.iter().filter(|r| r.stale).map(|r| r.worker).collect(),
        }
    }

    /// The queues of a worker, as `port:queue`. One that stalls and was never asked before is known by its transmit rings.
    fn queues_of(&self, report: &Report) -> Vec<String> {
        if report.turns > 0 {
            let reported = report.queues.iter();
            return reported
                .map(|queue| format!("{}:{}", self.name_of(queue.port), queue.queue))
                .collect();
        }
        let facts = self.facts().into_iter();
        let owned = facts.filter(|facts| self.shared.owner(PortIndex(facts.index)) == Some(report.worker));
        owned.map(|facts| format!("{}:0", facts.port.port)).collect()
    }

    fn facts(&self) -> Vec<PortFacts> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn name_of(&self, port: PortIndex) -> String {
        let facts = self.facts();
        facts
            .iter()
            .find(|f| f.index == port.0)
            .map_or_else(|| format!("port {}", port.0), |f| f.port.port.clone())
    }

    /// All ports, with what their queues counted.
    pub(super) fn ports_of(&self, reports: &[Report]) -> Vec<Port> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let with_counts = |mut facts: PortFacts| {
            let index = PortIndex(facts.index);
            facts.port.steer = (self.steer)(index);
            let live = reports.iter().flat_map(|r| r.queues.iter().map(|q| (r.worker, *q)));
            // What a queue counted before it was closed goes on when it is opened again.
            let mut of_port: Vec<_> = live.filter(|(_, queue)| queue.port == index).collect();
            for gone in closed.iter().filter(|queue| queue.port == index) {
                match of_port.iter_mut().find(|(_, queue)| queue.queue == gone.queue) {
                    Some((_, queue)) => queue.counters.add(&gone.counters),
                    None => of_port.push((0, *gone)),
                }
            }
            let rows = of_port.iter();
            facts.port.queues = rows
                .map(|(worker, queue)| Queue::new(queue.queue, *worker, &queue.counters))
                .collect();
            facts.port
        };
        self.facts().into_iter().map(with_counts).collect()
    }

    /// All workers.
    pub(super) fn workers_of(&self, reports: &[Report]) -> Vec<Worker> {
        let now_ns = crate::port::wait::monotonic_ns();
        let generation = self.shared.snapshot.load().generation;
        let row = |report: &Report| {
            let alive_ns = self.shared.alive_ns[report.worker].load(Ordering::Relaxed);
            let (fill, tx) = report.queues.iter().fold((0, 0), |(fill, tx), q| {
                (fill + u64::from(q.held.fill), tx + u64::from(q.held.tx))
            });
            let all = u64::from(self.shared.limits.slab_frames);
            Worker {
                worker: report.worker,
                cpu: self.cpus.get(report.worker).copied().flatten(),
                queues: self.queues_of(report),
                heartbeat_age_ms: now_ns.saturating_sub(alive_ns) / 1_000_000,
                stale: report.stale,
                generation,
                totals: Totals {
                    received: report.received,
                    forwarded: report.forwarded,
                    punted: report::punted(&report.punted),
                    dropped: report::dropped(&report.dropped),
                    held: report.pending + report.shaped,
                    stale_workers: Vec::new(),
                },
                rounds: report.turns,
                sleeps: report.sleeps,
                frames: Frames {
                    free: report.free,
                    fill,
                    tx,
                    held: all.saturating_sub(report.free + fill + tx),
                    all,
                },
            }
        };
        reports.iter().map(row).collect()
    }

    /// Latency per egress port, of all workers.
    pub(super) fn latency_of(&self, reports: &[Report]) -> Vec<Latency> {
        let mut of_port: BTreeMap<PortIndex, crate::worker::Latency> = BTreeMap::new();
        for report in reports {
            for (port, latency) in &report.latency {
                of_port.entry(*port).or_default().add(latency);
            }
        }
        of_port
            .iter()
            .map(|(&port, latency)| Latency::new(self.name_of(port), latency.histogram()))
            .collect()
    }

    /// The qdiscs and classes by which ports are shaped, and policers: what is configured, and what was counted.
    pub(super) fn qdiscs_of(&self, reports: &[Report]) -> Vec<Qdisc> {
        let snapshot = self.shared.snapshot.load_full();
        let counted: Vec<_> = reports
            .iter()
            .flat_map(|report| report.shaping.iter().cloned())
            .collect();
        let mut reader = Reader::open().ok();
        let mut rows = describe::qdiscs(&snapshot, &counted, &mut |ifindex| {
            let reader = reader.as_mut();
            reader.and_then(|reader| reader.all(ifindex).ok()).unwrap_or_default()
        });
        rows.extend(describe::policers(&snapshot, &mut |ifindex| {
            let reader = reader.as_mut();
            reader
                .and_then(|reader| reader.policed(ifindex).ok())
                .unwrap_or_default()
        }));
        rows
    }
}

/// Where frames are lost, the kernel's rings included.
pub(super) fn drops_of(totals: Totals, ports: &[Port]) -> Vec<DropRow> {
    let ours = totals.dropped.into_iter();
    let mut rows: Vec<DropRow> = ours
        .map(|(reason, frames)| DropRow {
            place: "bypath".into(),
            reason,
            frames,
        })
        .collect();
    for port in ports {
        for queue in &port.queues {
            let place = format!("{}:{}", port.port, queue.queue);
            let row = |(reason, frames): (&str, u64)| DropRow {
                place: place.clone(),
                reason: reason.into(),
                frames,
            };
            rows.extend(queue.losses().map(row));
        }
    }
    rows
}
