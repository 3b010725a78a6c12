//! `--metrics ADDR:PORT`: the instance's counters as Prometheus text (exposition format 0.0.4) over HTTP/1.0.
//!
//! Built from the typed answers of [`report`](super::report), so that it agrees with `bypath show`. One thread, one client
//! at a time, at most 8 KiB and two seconds for each: a scraper comes every few seconds, and nobody else
//! should. There is no authentication, as is usual for exporters: bind it to an address that only the scraper reaches.

mod bridge;
mod port;
mod qdisc;

use super::Error;
use super::api::{Backend, end_accept};
use super::report::{ByReason, Conntrack, Latency, Totals, Worker};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest request in bytes, headers included.
const REQUEST_MAX: usize = 8192;

/// How long one client may take to ask, and how long one write to it may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// A running exporter. Dropping it ends it.
#[derive(Debug)]
pub struct MetricsHandle {
    stop: Arc<AtomicBool>,
    listener: Arc<TcpListener>,
    addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl MetricsHandle {
    /// Where it listens: with the port that the kernel chose, if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for MetricsHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        end_accept(&*self.listener);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves `backend`'s counters on `addr`, in the calling thread's network namespace.
///
/// # Errors
/// [`Error::Metrics`] where the address cannot be bound.
pub fn serve(backend: Arc<dyn Backend>, addr: SocketAddr) -> Result<MetricsHandle, Error> {
    let failed = |source| Error::Metrics { addr, source };
    let listener = Arc::new(TcpListener::bind(addr).map_err(failed)?);
    let addr = listener.local_addr().map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let thread = thread::Builder::new()
        .name("metrics".into())
        .spawn({
            let (stop, listener) = (Arc::clone(&stop), Arc::clone(&listener));
            move || accept(&listener, &stop, &*backend)
        })
        .map_err(failed)?;
    Ok(MetricsHandle {
        stop,
        listener,
        addr,
        thread: Some(thread),
    })
}

fn accept(listener: &TcpListener, stop: &AtomicBool, backend: &dyn Backend) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            // A scraper that goes away, or dawdles, tries again at its next interval.
            Ok((stream, _)) => drop(client(&stream, backend)),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn client(mut stream: &TcpStream, backend: &dyn Backend) -> io::Result<()> {
    stream.set_write_timeout(Some(DEADLINE))?;
    let (status, body) = match path(&request(stream)?) {
        Some("/metrics" | "/") => ("200 OK", render(backend)),
        Some(_) => ("404 Not Found", "metrics are at /metrics\n".into()),
        None => ("400 Bad Request", "only GET is served\n".into()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let length = body.len();
    write!(
        stream,
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body.as_bytes())
}

/// The request up to the empty line that ends its headers.
fn request(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let end = Instant::now() + DEADLINE;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() >= REQUEST_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => request.extend_from_slice(&part[..n]),
        }
    }
    Ok(request)
}

/// The path of a GET request, without its query.
fn path(request: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(request.split(|&byte| byte == b'\r').next()?).ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    target.split('?').next()
}

/// All counters as Prometheus text.
fn render(backend: &dyn Backend) -> String {
    let mut text = String::new();
    totals(&mut text, &backend.totals());
    port::ports(&mut text, &backend.ports());
    workers(&mut text, &backend.workers());
    drops(&mut text, backend);
    latency(&mut text, &backend.latency());
    rules(&mut text, &backend.rules_taken());
    conntrack(&mut text, &backend.conntrack());
    bridge::bridges(&mut text, &backend.bridges());
    qdisc::qdiscs(&mut text, &backend.qdiscs());
    text
}

/// Appends one metric: its head, and a sample per label set. Writing to a String cannot fail.
fn metric<L: AsRef<str>>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, u64)>,
) {
    let _ = writeln!(text, "# HELP bypath_{name} {help}\n# TYPE bypath_{name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "bypath_{name}{} {value}", labels.as_ref());
    }
}

/// A name as the value of a label: a device may be called almost anything.
fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

fn reasons(counts: &ByReason) -> impl Iterator<Item = (String, u64)> + '_ {
    counts
        .iter()
        .map(|(reason, &count)| (format!("{{reason=\"{reason}\"}}"), count))
}

fn totals(text: &mut String, totals: &Totals) {
    metric(
        text,
        "received_frames_total",
        "counter",
        "Frames taken from receive rings.",
        [("", totals.received)],
    );
    metric(
        text,
        "forwarded_frames_total",
        "counter",
        "Frames forwarded.",
        [("", totals.forwarded)],
    );
    let help = "Frames handed back to the kernel, by reason.";
    metric(text, "punted_frames_total", "counter", help, reasons(&totals.punted));
    metric(
        text,
        "dropped_frames_total",
        "counter",
        "Frames lost in bypath, by reason.",
        reasons(&totals.dropped),
    );
    metric(
        text,
        "held_frames",
        "gauge",
        "Frames on their way through bypath.",
        [("", totals.held)],
    );
}

fn workers(text: &mut String, workers: &[Worker]) {
    let label = |worker: &Worker| format!("{{worker=\"{}\"}}", worker.worker);
    let heartbeat = workers.iter().map(|worker| (label(worker), worker.heartbeat_age_ms));
    metric(
        text,
        "worker_heartbeat_age_milliseconds",
        "gauge",
        "Time since the worker's heartbeat.",
        heartbeat,
    );
    let free = workers.iter().map(|worker| (label(worker), worker.frames.free));
    metric(
        text,
        "worker_free_frames",
        "gauge",
        "Frames in the worker's pool.",
        free,
    );
}

fn drops(text: &mut String, backend: &dyn Backend) {
    let rows = backend.drops();
    let samples = rows.iter().map(|row| {
        (
            format!("{{place=\"{}\",reason=\"{}\"}}", escaped(&row.place), row.reason),
            row.frames,
        )
    });
    metric(
        text,
        "lost_frames_total",
        "counter",
        "Frames lost, the kernel's rings included.",
        samples,
    );
}

fn latency(text: &mut String, ports: &[Latency]) {
    let quantiles = ports.iter().flat_map(|row| {
        let values = [
            ("0.5", row.p50_ns),
            ("0.9", row.p90_ns),
            ("0.99", row.p99_ns),
            ("0.999", row.p999_ns),
        ];
        values.map(|(quantile, ns)| {
            let labels = format!("{{port=\"{}\",quantile=\"{quantile}\"}}", escaped(&row.port));
            (labels, ns)
        })
    });
    metric(
        text,
        "latency_nanoseconds",
        "gauge",
        "Latency from arrival to transmit, by egress port.",
        quantiles,
    );
    let counts = ports
        .iter()
        .map(|row| (format!("{{port=\"{}\"}}", escaped(&row.port)), row.count));
    metric(
        text,
        "latency_measured_frames_total",
        "counter",
        "Frames whose latency was measured.",
        counts,
    );
}

fn rules(text: &mut String, taken: &ByReason) {
    let ways = taken.iter();
    let ways = ways.map(|(way, &count)| (format!("{{way=\"{way}\"}}"), count));
    let help = "How rules were taken over from the kernel: whole readings, commits by their elements alone, elements found wrong.";
    metric(text, "rules_taken_total", "counter", help, ways);
}

fn conntrack(text: &mut String, conntrack: &Conntrack) {
    let gauges = [
        (
            "conntrack_connections",
            "Connections in the table.",
            conntrack.connections,
        ),
        (
            "conntrack_connections_max",
            "Connections for which there is room.",
            conntrack.connections_max,
        ),
    ];
    for (name, help, value) in gauges {
        metric(text, name, "gauge", help, [("", value)]);
    }
    let events = conntrack.events.iter();
    let events = events.map(|(event, &count)| (format!("{{event=\"{event}\"}}"), count));
    let help = "What happened to connections, the exchange with the kernel included.";
    metric(text, "conntrack_events_total", "counter", help, events);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::TraceFilter;
    use crate::control::connections::{ConnectionFilter, ConnectionRow};
    use crate::control::report::{self, BridgeLink, DropRow, Neighbor, Port, Queue, Route, TracePacket};
    use crossbeam::channel::Receiver;
    use std::ops::ControlFlow;

    struct Fake;

    impl Backend for Fake {
        fn connections(&self, _: &ConnectionFilter, _: &mut dyn FnMut(ConnectionRow) -> ControlFlow<()>) {}
        fn delete_connections(&self, _: &ConnectionFilter) -> u64 {
            0
        }
        fn connection_events(&self, _: &ConnectionFilter) -> Receiver<ConnectionRow> {
            crossbeam::channel::bounded(1).1
        }
        fn conntrack(&self) -> Conntrack {
            Conntrack {
                connections: 7,
                connections_max: 9,
                events: ByReason::from([("exported".into(), 3)]),
            }
        }
        fn totals(&self) -> Totals {
            Totals {
                received: 5,
                forwarded: 2,
                punted: report::punted(&[3]),
                dropped: report::dropped(&[]),
                held: 0,
                stale_workers: Vec::new(),
            }
        }
        fn ports(&self) -> Vec<Port> {
            let queues = vec![Queue {
                rx: 9,
                ..Queue::default()
            }];
            let steer = ByReason::from([("redirect".into(), 4)]);
            vec![Port {
                port: "d0".into(),
                state: "up".into(),
                queues,
                steer,
                ..Port::default()
            }]
        }
        fn workers(&self) -> Vec<Worker> {
            vec![Worker::default()]
        }
        fn drops(&self) -> Vec<DropRow> {
            vec![DropRow {
                place: "d0:0".into(),
                reason: "xsk_rx_ring_full".into(),
                frames: 6,
            }]
        }
        fn latency(&self) -> Vec<Latency> {
            vec![Latency {
                port: "d0".into(),
                count: 1,
                p99_ns: 8,
                ..Latency::default()
            }]
        }
        fn routes(&self, _: &mut dyn FnMut(Route) -> ControlFlow<()>) {}
        fn neighbors(&self, _: &mut dyn FnMut(Neighbor) -> ControlFlow<()>) {}
        fn bridges(&self) -> Vec<BridgeLink> {
            let bridge = report::Bridge {
                fdb_entries: 12,
                fdb_refused: 3,
                ..report::Bridge::default()
            };
            vec![BridgeLink {
                ifname: "br0".into(),
                bridge: Some(bridge),
                ..BridgeLink::default()
            }]
        }
        fn fdb(&self, _: &mut dyn FnMut(report::FdbEntry) -> ControlFlow<()>) {}
        fn qdiscs(&self) -> Vec<report::Qdisc> {
            vec![]
        }
        fn rules(&self) -> Vec<report::Rule> {
            vec![]
        }
        fn rules_taken(&self) -> ByReason {
            ByReason::from([("reading".into(), 4)])
        }
        fn trace(
            &self,
            _: &TraceFilter,
            _: std::sync::Weak<()>,
        ) -> Result<crossbeam::channel::Receiver<TracePacket>, String> {
            Err("not here".into())
        }
    }

    fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_scrape_reads_every_kind_of_counter() {
        let server = serve(Arc::new(Fake), "127.0.0.1:0".parse().unwrap()).unwrap();
        let text = ask(server.addr(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.0 200 OK\r\n") && head.contains(&format!("Content-Length: {}\r\n", body.len()))
        );
        for line in [
            "# TYPE bypath_received_frames_total counter",
            "bypath_received_frames_total 5",
            "bypath_punted_frames_total{reason=\"not_ours\"} 3",
            "bypath_dropped_frames_total{reason=\"tx_ring_full\"} 0",
            "bypath_queue_receive_frames_total{port=\"d0\",queue=\"0\",worker=\"0\"} 9",
            "bypath_steer_frames_total{port=\"d0\",decision=\"redirect\"} 4",
            "bypath_lost_frames_total{place=\"d0:0\",reason=\"xsk_rx_ring_full\"} 6",
            "bypath_latency_nanoseconds{port=\"d0\",quantile=\"0.99\"} 8",
            "bypath_rules_taken_total{way=\"reading\"} 4",
            "bypath_conntrack_connections 7",
            "bypath_conntrack_events_total{event=\"exported\"} 3",
            "bypath_fdb_entries{bridge=\"br0\"} 12",
            "bypath_fdb_refused_total{bridge=\"br0\"} 3",
        ] {
            assert!(body.lines().any(|have| have == line), "{line}\n{body}");
        }
        let page = include_str!("../../docs/CLI.md");
        let listed = |head: &str| page.contains(&format!("`{}`", head.split(' ').next().unwrap_or_default()));
        let mut heads = body.split("# TYPE bypath_").skip(1);
        assert!(heads.all(listed), "docs/CLI.md lacks one of\n{body}");
    }

    #[test]
    fn a_label_may_hold_any_name() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }

    #[test]
    fn anything_but_a_scrape_is_refused_and_the_next_scrape_works() {
        let server = serve(Arc::new(Fake), "127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(ask(server.addr(), "GET /secrets HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
        assert!(ask(server.addr(), "POST /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 400 "));
        drop(TcpStream::connect(server.addr()).unwrap());
        let mut endless = TcpStream::connect(server.addr()).unwrap();
        let _ = endless.write_all(&vec![b'x'; 4 * REQUEST_MAX]);
        assert!(ask(server.addr(), "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
    }

    #[test]
    fn an_address_in_use_is_named() {
        let server = serve(Arc::new(Fake), "127.0.0.1:0".parse().unwrap()).unwrap();
        let error = serve(Arc::new(Fake), server.addr()).unwrap_err().to_string();
        assert!(
            error.contains(&server.addr().to_string()) && error.contains("--metrics"),
            "{error}"
        );
    }
}
