//! The server side of the control socket: one thread that accepts, one short-lived thread per client.
//!
//! Nothing here touches a worker: a [`Backend`] answers from counters and snapshots that workers publish. Dropping the
//! [`ServerHandle`] closes the socket and every client, and waits for their threads.

use super::{
    CLIENTS_MAX, Connections, ConnectionsDo, Line, REQUEST_MAX, Request, Show, TIMEOUT, TraceFilter, end_accept,
    peer_trusted,
};
use crate::control::connections::{ConnectionCount, ConnectionFilter, ConnectionRow};
use crate::control::report::{
    BridgeLink, DropRow, FdbEntry, Latency, Neighbor, Port, Qdisc, Route, Rule, Totals, TracePacket, Worker,
};
use crate::control::{Error, log};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use serde::Serialize;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a trace that sees no packet looks whether its client is still there.
const TRACE_TICK: Duration = Duration::from_millis(100);

/// What answers: the running instance, or a fake one in tests. Called from client threads.
pub trait Backend: Send + Sync + 'static {
    /// Where all frames went.
    fn totals(&self) -> Totals;
    /// All ports.
    fn ports(&self) -> Vec<Port>;
    /// All workers.
    fn workers(&self) -> Vec<Worker>;
    /// Where frames are lost.
    fn drops(&self) -> Vec<DropRow>;
    /// Latency per egress port.
    fn latency(&self) -> Vec<Latency>;
    /// Calls `each` with every route until it breaks. There may be millions, so they are not collected.
    fn routes(&self, each: &mut dyn FnMut(Route) -> ControlFlow<()>);
    /// Calls `each` with every neighbour until it breaks.
    fn neighbors(&self, each: &mut dyn FnMut(Neighbor) -> ControlFlow<()>);
    /// Bridges and their ports.
    fn bridges(&self) -> Vec<BridgeLink>;
    /// Calls `each` with every address that a bridge knows until it breaks.
    fn fdb(&self, each: &mut dyn FnMut(FdbEntry) -> ControlFlow<()>);
    /// The qdiscs and classes by which ports are shaped.
    fn qdiscs(&self) -> Vec<Qdisc>;
    /// The rules that are run.
    fn rules(&self) -> Vec<Rule>;
    /// Calls `each` with every connection that `filter` selects until it breaks.
    fn connections(&self, filter: &ConnectionFilter, each: &mut dyn FnMut(ConnectionRow) -> ControlFlow<()>);
    /// Deletes the connections that `filter` selects; how many.
    fn delete_connections(&self, filter: &ConnectionFilter) -> u64;
    /// Connections as they begin, change and end, from now on, in a bounded channel. It ends when the receiver is dropped.
    fn connection_events(&self, filter: &ConnectionFilter) -> Receiver<ConnectionRow>;
    /// Starts a trace. It ends with `client`, and when the receiver is dropped; the channel must be bounded, and what it cannot take counted
    /// in [`TracePacket::lost`].
    ///
    /// # Errors
    /// In words: why this filter cannot be traced, and what to do.
    fn trace(&self, filter: &TraceFilter, client: Weak<()>) -> Result<Receiver<TracePacket>, String>;
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
    listener: Arc<UnixListener>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    clients: Mutex<Vec<(UnixStream, JoinHandle<()>)>>,
}

/// Listens on `@bypath`, or `@bypath.NAME`, in the calling thread's network namespace and answers from `backend`.
///
/// # Errors
/// [`Error::AlreadyRunning`] where the name is taken, [`Error::ControlName`], [`Error::System`].
pub fn serve(backend: Arc<dyn Backend>, name: Option<&str>) -> Result<ServerHandle, Error> {
    let name = super::socket_name(name)?;
    let socket = format!("@{name}");
    let failed = |source| Error::System {
        what: format!("cannot listen on control socket {socket}"),
        source,
        remedy: "choose another name with --control NAME".into(),
    };
    let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
    let listener = match UnixListener::bind_addr(&address) {
        Ok(listener) => Arc::new(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return Err(Error::already_running(format!("control socket {socket}")));
        }
        Err(error) => return Err(failed(error)),
    };
    let shared = Arc::new(Shared::default());
    let accept = thread::Builder::new()
        .name("control".into())
        .spawn({
            let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
            move || accept(&listener, &shared, &backend)
        })
        .map_err(failed)?;
    Ok(ServerHandle {
        shared,
        listener,
        accept: Some(accept),
    })
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        end_accept(&*self.listener);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        let clients = std::mem::take(&mut *self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for (stream, thread) in clients {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>, backend: &Arc<dyn Backend>) {
    while !shared.stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => {
                // A client that cannot be served (no thread, no descriptor) sees its connection close.
                let _ = admit(stream, shared, backend);
            }
            // Out of descriptors, or the socket was shut down: never a busy loop.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Gives a client a thread, unless there are too many or it is somebody else's.
fn admit(stream: UnixStream, shared: &Arc<Shared>, backend: &Arc<dyn Backend>) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut clients = shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
    clients.retain(|(_, thread)| !thread.is_finished());
    if !peer_trusted(&stream)? {
        return refuse(stream, "this instance belongs to another user: ask as root");
    }
    if clients.len() >= CLIENTS_MAX {
        return refuse(stream, "too many clients at once: end a `bypath trace`, or try again");
    }
    let (ours, shared, backend) = (stream.try_clone()?, Arc::clone(shared), Arc::clone(backend));
    let thread = thread::Builder::new().name("control-client".into()).spawn(move || {
        let answered = client(&stream, &shared, &*backend);
        // One that went has nobody left to be told; one that is too slow sees its answer end.
        if answered.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)) {
            let seconds = TIMEOUT.as_secs();
            let line =
                format_args!("bypath: a client of the control socket stood still for {seconds} s: it is cut off");
            log::line(log::Stream::Err, line);
        }
        // The list of clients keeps a second descriptor, so closing this one would not end the connection.
        let _ = stream.shutdown(Shutdown::Both);
    })?;
    clients.push((ours, thread));
    Ok(())
}

fn refuse(stream: UnixStream, why: &str) -> io::Result<()> {
    Answer::new(&stream).finish(Some(why.into()))
}

fn client(stream: &UnixStream, shared: &Shared, backend: &dyn Backend) -> io::Result<()> {
    let mut answer = Answer::new(stream);
    let error = match read_request(stream)? {
        Err(why) => Some(why),
        Ok(Request::Show(what)) => {
            show(&mut answer, what, backend)?;
            None
        }
        Ok(Request::Trace(filter)) => {
            let client = Arc::new(());
            match backend.trace(&filter, Arc::downgrade(&client)) {
                Err(why) => Some(why),
                Ok(packets) => {
                    trace(&mut answer, stream, &packets, &filter, shared)?;
                    None
                }
            }
        }
        Ok(Request::Connections(what)) => {
            connections(&mut answer, stream, &what, shared, backend)?;
            None
        }
    };
    answer.finish(error)
}

/// The one request line, or in words what is wrong with it.
fn read_request(stream: &UnixStream) -> io::Result<Result<Request, String>> {
    // The timeout bounds each read; the deadline a client that sends a byte now and then.
    let deadline = Instant::now() + TIMEOUT;
    let mut reader = BufReader::new(stream.take(REQUEST_MAX as u64));
    let mut line = Vec::new();
    loop {
        let part = reader.fill_buf()?;
        let end = part.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(part.len(), |at| at + 1);
        line.extend_from_slice(&part[..used]);
        reader.consume(used);
        if end.is_some() {
            break;
        }
        if used == 0 {
            return Ok(Err(format!(
                "the request is not one line of at most {REQUEST_MAX} bytes"
            )));
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(serde_json::from_slice(&line)
        .map_err(|error| format!("the request is not understood ({error}): use the same version of bypath for both")))
}

fn show(answer: &mut Answer<'_>, what: Show, backend: &dyn Backend) -> io::Result<()> {
    match what {
        Show::Totals => answer.row(&backend.totals()),
        Show::Ports => answer.rows(&backend.ports()),
        Show::Workers => answer.rows(&backend.workers()),
        Show::Drops => answer.rows(&backend.drops()),
        Show::Latency => answer.rows(&backend.latency()),
        Show::Rules => answer.rows(&backend.rules()),
        Show::Bridge => answer.rows(&backend.bridges()),
        Show::Qdisc => answer.rows(&backend.qdiscs()),
        Show::Fdb => answer.each(|each| backend.fdb(each)),
        Show::Routes => answer.each(|each| backend.routes(each)),
        Show::Neighbors => answer.each(|each| backend.neighbors(each)),
    }
}

fn connections(
    answer: &mut Answer<'_>,
    stream: &UnixStream,
    Connections { what, filter }: &Connections,
    shared: &Shared,
    backend: &dyn Backend,
) -> io::Result<()> {
    match what {
        ConnectionsDo::List => answer.each(|each| backend.connections(filter, each)),
        ConnectionsDo::Count => {
            let mut connections = 0;
            backend.connections(filter, &mut |row| {
                connections += u64::from(!row.kernel);
                ControlFlow::Continue(())
            });
            answer.row(&ConnectionCount { connections })
        }
        ConnectionsDo::Delete => answer.row(&ConnectionCount {
            connections: backend.delete_connections(filter),
        }),
        ConnectionsDo::Events => events(answer, stream, &backend.connection_events(filter), shared),
    }
}

fn events(
    answer: &mut Answer<'_>,
    stream: &UnixStream,
    events: &Receiver<ConnectionRow>,
    shared: &Shared,
) -> io::Result<()> {
    while !shared.stop.load(Ordering::Acquire) {
        match events.recv_timeout(TRACE_TICK) {
            Ok(row) => {
                answer.row(&row)?;
                if events.is_empty() {
                    answer.out.flush()?;
                }
            }
            Err(RecvTimeoutError::Timeout) if client_gone(stream)? => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

fn trace(
    answer: &mut Answer<'_>,
    stream: &UnixStream,
    packets: &Receiver<TracePacket>,
    filter: &TraceFilter,
    shared: &Shared,
) -> io::Result<()> {
    let mut left = filter.count.unwrap_or(u64::MAX);
    while left > 0 && !shared.stop.load(Ordering::Acquire) {
        match packets.recv_timeout(TRACE_TICK) {
            Ok(packet) => {
                if packet.lost > 0 {
                    answer.line(&Line::<()>::Lost(packet.lost))?;
                }
                answer.rows(&packet.lines)?;
                left -= 1;
                if packets.is_empty() {
                    answer.out.flush()?;
                }
            }
            Err(RecvTimeoutError::Timeout) if client_gone(stream)? => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

/// Whether the client has closed its end: it sends nothing after its request, so whatever can be read is the end.
fn client_gone(mut stream: &UnixStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false)?;
    Ok(!matches!(read, Err(ref error) if error.kind() == io::ErrorKind::WouldBlock))
}

/// Writes the lines of one answer.
struct Answer<'a> {
    out: BufWriter<&'a UnixStream>,
}

impl<'a> Answer<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, stream),
        }
    }

    fn line<T: Serialize>(&mut self, line: &Line<T>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    fn row<T: Serialize>(&mut self, row: &T) -> io::Result<()> {
        self.line(&Line::Row(row))
    }

    fn rows<T: Serialize>(&mut self, rows: &[T]) -> io::Result<()> {
        rows.iter().try_for_each(|row| self.row(row))
    }

    /// Writes rows as `walk` produces them, and stops it when the client is gone.
    fn each<T: Serialize>(&mut self, walk: impl FnOnce(&mut dyn FnMut(T) -> ControlFlow<()>)) -> io::Result<()> {
        let mut result = Ok(());
        walk(&mut |row| {
            result = self.row(&row);
            if result.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        result
    }

    fn finish(&mut self, error: Option<String>) -> io::Result<()> {
        self.line(&error.map_or(Line::<()>::End, Line::Error))?;
        self.out.flush()
    }
}
