//! What `show`, `trace` and metrics are answered from: reports that workers give when asked, the current snapshot, and the
//! table of ports. Runs on the threads of clients; a worker is asked by its mailbox and answers between two bursts, so a
//! stalled one costs its client [`PATIENCE`], never the traffic.

mod connections;

use super::api::{Backend, TraceFilter};
use super::connections::{ConnectionFilter, ConnectionRow, Subscribers};
use super::punting::PuntCounts;
use super::report::{
    self, BridgeLink, DropRow, FdbEntry, Frames, Latency, Neighbor, Port, Queue, Route, Totals, TraceLine, TracePacket,
    Worker,
};
use super::{describe, exchange};
use crate::mirror::tc::Reader;
use crate::packet::{DropReason, Family, PortIndex, Verdict};
use crate::table::conntrack::ticks;
use crate::table::fib::Prefix;
use crate::worker::pipeline::Stage;
use crate::worker::trace::{Filter, Tracer, Watched, Within};
use crate::worker::{Command, Report, Shared};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How long a worker may take to answer.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a port beside its counters.
#[derive(Clone, Debug, Default)]
pub struct PortFacts {
    /// The answer so far: names, state, modes.
    pub port: Port,
    /// Its number here.
    pub index: u16,
}

/// The table of ports, which control keeps and clients read.
pub type PortTable = Arc<Mutex<Vec<PortFacts>>>;

/// Reads steer's counters of a port by decision.
pub type SteerCounts = Box<dyn Fn(PortIndex) -> report::ByReason + Send + Sync>;

/// See the module's head.
pub struct Running<Q> {
    /// Workers and their queues.
    pub shared: Arc<Shared<Q>>,
    /// Ports.
    pub ports: PortTable,
    /// The punt thread's counts.
    pub punts: Arc<PuntCounts>,
    /// Steer's counts.
    pub steer: SteerCounts,
    /// The CPU each worker is pinned to.
    pub cpus: Vec<Option<usize>>,
    /// Final counts of queues that were closed with their port, by port.
    pub closed: Arc<Mutex<Vec<crate::worker::QueueReport>>>,
    /// The last report of each worker.
    pub last: Mutex<Vec<Option<Report>>>,
    /// Who wants to hear of connections.
    pub subscribers: Arc<Subscribers>,
    /// What the exchange of connections with the kernel did.
    pub exchanged: Arc<exchange::Counts>,
}

impl<Q: Send + 'static> Running<Q> {
    /// Asks every worker for its report. One that does not answer in time stands with its last answer, which says so, so that no
    /// counter runs backwards and a stalled worker is still in the list.
    pub fn reports(&self) -> Vec<Report> {
        let deadline = Instant::now() + PATIENCE;
        let asked: Vec<_> = (0..self.shared.limits.workers)
            .map(|worker| {
                let (reply, answer) = bounded(1);
                self.shared.tell(worker, Command::Report(reply)).then_some(answer)
            })
            .collect();
        let answers = asked
            .into_iter()
            .map(|answer| answer.and_then(|answer| answer.recv_deadline(deadline).ok()));
        let answers: Vec<Option<Report>> = answers.collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.resize_with(answers.len(), || None);
        for (worker, (last, answer)) in last.iter_mut().zip(answers).enumerate() {
            match answer {
                Some(answer) => *last = Some(answer),
                None => last.get_or_insert_with(|| Report::new(worker)).stale = true,
            }
        }
        last.iter().flatten().cloned().collect()
    }

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
}

impl<Q: Send + 'static> Backend for Running<Q> {
    fn totals(&self) -> Totals {
        self.totals_of(&self.reports())
    }

    fn conntrack(&self) -> report::Conntrack {
        self.exchanged.report(&self.shared.conntrack)
    }

    fn ports(&self) -> Vec<Port> {
        let reports = self.reports();
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

    fn workers(&self) -> Vec<Worker> {
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
        self.reports().iter().map(row).collect()
    }

    fn drops(&self) -> Vec<DropRow> {
        let totals = self.totals();
        let ours = totals.dropped.into_iter();
        let mut rows: Vec<DropRow> = ours
            .map(|(reason, frames)| DropRow {
                place: "bypath".into(),
                reason,
                frames,
            })
            .collect();
        for port in self.ports() {
            for queue in &port.queues {
                let losses = [
                    ("tx_driver_busy", queue.kick_busy),
                    ("rx_dropped", queue.xsk_rx_dropped),
                    ("rx_ring_full", queue.xsk_rx_ring_full),
                    ("fill_ring_empty", queue.xsk_fill_empty),
                    ("tx_invalid", queue.xsk_invalid),
                ];
                let place = format!("{}:{}", port.port, queue.queue);
                let row = |(reason, frames): (&str, u64)| DropRow {
                    place: place.clone(),
                    reason: reason.into(),
                    frames,
                };
                rows.extend(losses.map(row));
            }
        }
        rows
    }

    fn latency(&self) -> Vec<Latency> {
        let mut of_port: BTreeMap<PortIndex, crate::worker::Latency> = BTreeMap::new();
        for report in self.reports() {
            for (port, latency) in &report.latency {
                of_port.entry(*port).or_default().add(latency);
            }
        }
        of_port
            .iter()
            .map(|(&port, latency)| Latency::new(self.name_of(port), latency.histogram()))
            .collect()
    }

    fn routes(&self, each: &mut dyn FnMut(Route) -> ControlFlow<()>) {
        let snapshot = self.shared.snapshot.load_full();
        for family in Family::ALL {
            for (table, routes) in &snapshot.fib(family).tables {
                for (addr, len, route) in routes.iter() {
                    if each(describe::route(&snapshot, family, *table, Prefix { addr, len }, route)).is_break() {
                        return;
                    }
                }
            }
        }
    }

    fn neighbors(&self, each: &mut dyn FnMut(Neighbor) -> ControlFlow<()>) {
        let snapshot = self.shared.snapshot.load_full();
        for (iface, family, addr, mac) in snapshot.neighbors.iter() {
            if each(describe::neighbor(&snapshot, iface, family, addr, mac)).is_break() {
                return;
            }
        }
    }

    fn bridges(&self) -> Vec<BridgeLink> {
        describe::bridges(&self.shared.snapshot.load_full())
    }

    fn fdb(&self, each: &mut dyn FnMut(FdbEntry) -> ControlFlow<()>) {
        let now = ticks(crate::port::wait::monotonic_ns());
        describe::fdb(&self.shared.snapshot.load_full(), now, each);
    }

    fn qdiscs(&self) -> Vec<report::Qdisc> {
        let snapshot = self.shared.snapshot.load_full();
        let counted: Vec<_> = self.reports().into_iter().flat_map(|report| report.shaping).collect();
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

    fn rules(&self) -> Vec<report::Rule> {
        super::rules::rows(&self.shared.snapshot.load().rules)
    }

    fn rules_taken(&self) -> report::ByReason {
        report::taken(&self.shared.snapshot.load().rules.taken)
    }

    fn connections(&self, filter: &ConnectionFilter, each: &mut dyn FnMut(ConnectionRow) -> ControlFlow<()>) {
        self.list_connections(filter, each);
    }

    fn delete_connections(&self, filter: &ConnectionFilter) -> u64 {
        self.delete_all(filter)
    }

    fn connection_events(&self, filter: &ConnectionFilter) -> Receiver<ConnectionRow> {
        let events = self.subscribers.subscribe(filter);
        self.shared.conntrack.log.watch(true);
        events
    }

    fn trace(&self, filter: &TraceFilter, client: Weak<()>) -> Result<Receiver<TracePacket>, String> {
        let here = names(&self.ports);
        let port = match &filter.port {
            None => None,
            Some(name) => match here.iter().find(|(_, port)| *port == name) {
                Some((&index, _)) => Some(PortIndex(index)),
                None => {
                    return Err(format!(
                        "{name} is not a port of this bypath: `bypath show ports` lists them"
                    ));
                }
            },
        };
        let within = |(ip, len): (IpAddr, u8)| {
            let (family, addr) = Family::of(ip);
            Within { family, addr, len }
        };
        let filter = Filter {
            port,
            proto: filter.proto,
            src: filter.src.map(within),
            dst: filter.dst.map(within),
        };
        let (tracers, watched) = Tracer::pool(&filter, self.shared.limits.workers, u64::MAX, &client);
        let (lines, reader) = bounded(64);
        for (worker, tracer) in tracers.into_iter().enumerate() {
            self.shared.tell(worker, Command::Trace(Some(tracer)));
        }
        let ports = Arc::clone(&self.ports);
        let convert = move || {
            // Ends when the reader is gone; the workers' tracers end with their next packet, or with the next trace.
            let mut number = 0;
            loop {
                let one = match watched.recv_timeout(PATIENCE) {
                    Ok(one) => one,
                    Err(RecvTimeoutError::Timeout) if client.strong_count() > 0 => continue,
                    Err(_) => return,
                };
                number += 1;
                // Anew each time: ports of bridges come and go.
                if lines.send(trace_packet(number, &one, &names(&ports))).is_err() {
                    return;
                }
            }
        };
        match thread::Builder::new().name("bypath-trace".into()).spawn(convert) {
            Ok(_) => Ok(reader),
            Err(error) => Err(format!("no thread for the trace, {error}: try again")),
        }
    }
}

/// The names of the ports that there are, by number.
fn names(ports: &PortTable) -> BTreeMap<u16, String> {
    let ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
    ports.iter().map(|f| (f.index, f.port.port.clone())).collect()
}

fn trace_packet(number: u64, watched: &Watched, names: &BTreeMap<u16, String>) -> TracePacket {
    let name = |port: PortIndex| {
        names
            .get(&port.0)
            .cloned()
            .unwrap_or_else(|| format!("port {}", port.0))
    };
    let line = |stage: &str, looked_up: String| TraceLine {
        packet: number,
        worker: watched.worker,
        port: name(watched.port),
        stage: stage.into(),
        looked_up,
        ..TraceLine::default()
    };
    let mut lines: Vec<TraceLine> = Vec::new();
    for (stage, text) in &watched.boxes {
        let mut line = line(stage.word(), text.clone());
        if *stage == Stage::Tx {
            line.rewrite = Some(std::mem::take(&mut line.looked_up));
        }
        lines.push(line);
    }
    let (verdict, reason, ended_in) = match watched.verdict {
        Verdict::Forward(port) => ("forward", name(port), None),
        Verdict::Punt(reason) => ("punt", reason.word().to_owned(), Some(Stage::of_punt(reason))),
        Verdict::Drop(reason) => ("drop", reason.word().to_owned(), Some(Stage::of_drop(reason))),
    };
    // The box that ended the walk said nothing before: it gets its line here.
    if let Some(stage) = ended_in
        && lines.last().is_none_or(|line| line.stage != stage.word())
    {
        lines.push(line(stage.word(), String::new()));
    }
    if let Some(last) = lines.last_mut() {
        last.verdict = Some(verdict.into());
        last.reason = Some(reason);
    }
    TracePacket {
        lost: watched.lost,
        lines,
    }
}
