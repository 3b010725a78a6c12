//! `--metrics ADDR:PORT`: the instance's counters as Prometheus text (exposition format 0.0.4) over HTTP/1.0.
//!
//! Built from the typed answers of [`report`](super::report), so that it agrees with `bypath show`. One thread, one client
//! at a time, with at most 8 KiB and two seconds to ask and five to take the whole answer, so that a client that reads slowly or
//! not at all keeps others waiting for no longer: a scraper comes every few seconds, and nobody else should. There is no authentication, as is usual for exporters: bind it to an address that only the scraper reaches.

mod bridge;
mod port;
mod qdisc;

use super::Error;
use super::api::end_accept;
use super::report::{ByReason, Conntrack, DropRow, Latency, Scrape, Totals, Worker};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest request in bytes, headers included.
const REQUEST_MAX: usize = 8192;

/// How long one client may take to ask.
const ASKING: Duration = Duration::from_secs(2);

/// How long it may take to read all of the answer.
const ANSWERING: Duration = Duration::from_secs(5);

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

/// Serves what `scrape` tells, on `addr`, in the calling thread's network namespace.
///
/// # Errors
/// [`Error::Metrics`] where the address cannot be bound.
pub fn serve(scrape: impl Fn() -> Scrape + Send + 'static, addr: SocketAddr) -> Result<MetricsHandle, Error> {
    let failed = |source| Error::Metrics { addr, source };
    let listener = Arc::new(TcpListener::bind(addr).map_err(failed)?);
    let addr = listener.local_addr().map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let thread = thread::Builder::new()
        .name("metrics".into())
        .spawn({
            let (stop, listener) = (Arc::clone(&stop), Arc::clone(&listener));
            move || accept(&listener, &stop, scrape)
        })
        .map_err(failed)?;
    Ok(MetricsHandle {
        stop,
        listener,
        addr,
        thread: Some(thread),
    })
}

fn accept(listener: &TcpListener, stop: &AtomicBool, scrape: impl Fn() -> Scrape) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            // A scraper that goes away, or dawdles, tries again at its next interval.
            Ok((stream, _)) => drop(client(&stream, &scrape)),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn client(stream: &TcpStream, scrape: impl Fn() -> Scrape) -> io::Result<()> {
    let (status, body) = match path(&request(stream)?) {
        Some("/metrics" | "/") => ("200 OK", render(&scrape())),
        Some(_) => ("404 Not Found", "metrics are at /metrics\n".into()),
        None => ("400 Bad Request", "only GET is served\n".into()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let length = body.len();
    let mut answer =
        format!("HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    answer.push_str(&body);
    write_by(stream, answer.as_bytes(), Instant::now() + ANSWERING)
}

/// Writes all of `bytes` until `end`: however little a client reads at a time, there is one deadline.
fn write_by(mut stream: &TcpStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left_until(end)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time until `end`; an error when it is over.
fn left_until(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// The request up to the empty line that ends its headers.
fn request(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let end = Instant::now() + ASKING;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        if request.len() >= REQUEST_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left_until(end)?))?;
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
fn render(scrape: &Scrape) -> String {
    let mut text = String::new();
    totals(&mut text, &scrape.totals);
    port::ports(&mut text, &scrape.ports);
    workers(&mut text, &scrape.workers);
    drops(&mut text, &scrape.drops);
    latency(&mut text, &scrape.latency);
    rules(&mut text, &scrape.rules_taken);
    conntrack(&mut text, &scrape.conntrack);
    bridge::bridges(&mut text, &scrape.bridges);
    qdisc::qdiscs(&mut text, &scrape.qdiscs);
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

fn drops(text: &mut String, rows: &[DropRow]) {
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
mod tests;
