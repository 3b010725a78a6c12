//! What `show`, `trace` and metrics are answered from: reports that workers give when asked, the current snapshot, and the
//! table of ports. Runs on the threads of clients; a worker is asked by its mailbox and answers between two bursts, so a
//! stalled one costs its client [`PATIENCE`], never the traffic.

mod connections;
mod counts;

use super::api::{Backend, TraceFilter};
use super::connections::{ConnectionFilter, ConnectionRow, Subscribers};
use super::punt_thread::PuntCounts;
use super::report::{
    self, BridgeLink, DropRow, FdbEntry, Latency, Neighbor, Port, Route, Scrape, Totals, TraceLine, TracePacket, Worker,
};
use super::{describe, exchange};
use crate::packet::{Family, PortIndex, Verdict};
use crate::table::conntrack::ticks;
use crate::table::fib::Prefix;
use crate::worker::pipeline::Stage;
use crate::worker::trace::{Filter, Tracer, Watched, Within};
use crate::worker::{Command, Report, Shared};
use counts::drops_of;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
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
    /// Asks every worker for its report, with the latencies if `latency`. One that does not answer in time stands with its last
    /// answer, which says so, so that no counter runs backwards and a stalled worker is still in the list. Each asking costs the
    /// workers time, and a stalled one the client [`PATIENCE`]: once for a request.
    fn reports(&self, latency: bool) -> Vec<Report> {
        let deadline = Instant::now() + PATIENCE;
        let asked: Vec<_> = (0..self.shared.limits.workers)
            .map(|worker| {
                let (reply, answer) = bounded(1);
                let asked = self.shared.tell(worker, Command::Report { latency, reply });
                asked.then_some(answer)
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
                Some(mut answer) => {
                    // For a client who wants them while the worker stalls.
                    if !latency && let Some(last) = last {
                        answer.latency = std::mem::take(&mut last.latency);
                    }
                    *last = Some(answer);
                }
                None => last.get_or_insert_with(|| Report::new(worker)).stale = true,
            }
        }
        last.iter().flatten().cloned().collect()
    }

    /// All that metrics tell.
    pub fn scrape(&self) -> Scrape {
        let reports = self.reports(true);
        let (totals, ports) = (self.totals_of(&reports), self.ports_of(&reports));
        Scrape {
            drops: drops_of(totals.clone(), &ports),
            totals,
            ports,
            workers: self.workers_of(&reports),
            latency: self.latency_of(&reports),
            rules_taken: report::taken(&self.shared.snapshot.load().rules.taken),
            conntrack: self.exchanged.report(&self.shared.conntrack),
            bridges: self.bridges(),
            qdiscs: self.qdiscs_of(&reports),
        }
    }
}

impl<Q: Send + 'static> Backend for Running<Q> {
    fn totals(&self) -> Totals {
        self.totals_of(&self.reports(false))
    }

    fn ports(&self) -> Vec<Port> {
        self.ports_of(&self.reports(false))
    }

    fn workers(&self) -> Vec<Worker> {
        self.workers_of(&self.reports(false))
    }

    fn drops(&self) -> Vec<DropRow> {
        let reports = self.reports(false);
        drops_of(self.totals_of(&reports), &self.ports_of(&reports))
    }

    fn latency(&self) -> Vec<Latency> {
        self.latency_of(&self.reports(true))
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
        self.qdiscs_of(&self.reports(false))
    }

    fn rules(&self) -> Vec<report::Rule> {
        super::rules::rows(&self.shared.snapshot.load().rules)
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

#[cfg(test)]
mod tests;
