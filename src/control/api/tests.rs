//! The control socket against a fake backend: every table comes back as it was given, and every kind of bad client meets
//! its bound. Needs no root: an abstract name of the test's own serves as the socket, and both ends are of one user.
//!
//! The fake counts how far its routes were walked and keeps the sending end of its trace, so that a test sees both end.

use super::*;
use crate::control::connections::{ConnectionCount, ConnectionFilter, ConnectionRow};
use crate::control::report::{
    BridgeLink, DropRow, FdbEntry, Latency, Neighbor, Port, Qdisc, Route, Rule, Totals, TraceLine, TracePacket, Worker,
};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Routes enough to fill every socket buffer many times.
const ROUTES: u32 = 50_000;

#[derive(Default)]
struct Fake {
    trace: Mutex<Option<Sender<TracePacket>>>,
    routes_given: Mutex<u32>,
}

impl Backend for Fake {
    fn connections(&self, _: &ConnectionFilter, each: &mut dyn FnMut(ConnectionRow) -> ControlFlow<()>) {
        for kernel in [false, true, false] {
            let _ = each(ConnectionRow {
                kernel,
                ..ConnectionRow::default()
            });
        }
    }
    fn delete_connections(&self, _: &ConnectionFilter) -> u64 {
        0
    }
    fn connection_events(&self, _: &ConnectionFilter) -> Receiver<ConnectionRow> {
        bounded(1).1
    }
    fn totals(&self) -> Totals {
        Totals {
            received: 7,
            forwarded: 7,
            ..Totals::default()
        }
    }
    fn ports(&self) -> Vec<Port> {
        vec![
            Port {
                port: "d0".into(),
                ..Port::default()
            },
            Port {
                port: "d1".into(),
                ..Port::default()
            },
        ]
    }
    fn workers(&self) -> Vec<Worker> {
        vec![Worker {
            worker: 3,
            ..Worker::default()
        }]
    }
    fn drops(&self) -> Vec<DropRow> {
        vec![]
    }
    fn latency(&self) -> Vec<Latency> {
        vec![Latency {
            port: "d1".into(),
            count: 1,
            ..Latency::default()
        }]
    }
    fn routes(&self, each: &mut dyn FnMut(Route) -> ControlFlow<()>) {
        for table in 0..ROUTES {
            *self.routes_given.lock().unwrap() = table + 1;
            if each(Route {
                table,
                destination: "10.0.0.0/24".into(),
                ..Route::default()
            })
            .is_break()
            {
                return;
            }
        }
    }
    fn neighbors(&self, each: &mut dyn FnMut(Neighbor) -> ControlFlow<()>) {
        let _ = each(Neighbor {
            dev: "d0".into(),
            ..Neighbor::default()
        });
    }
    fn bridges(&self) -> Vec<BridgeLink> {
        vec![BridgeLink {
            ifname: "br0".into(),
            ..BridgeLink::default()
        }]
    }
    fn fdb(&self, each: &mut dyn FnMut(FdbEntry) -> ControlFlow<()>) {
        let _ = each(FdbEntry {
            seen_ms: Some(5),
            ..FdbEntry::default()
        });
    }
    fn qdiscs(&self) -> Vec<Qdisc> {
        vec![Qdisc {
            options: [("rate".into(), 125_000.into())].into(),
            ..Qdisc::default()
        }]
    }
    fn rules(&self) -> Vec<Rule> {
        vec![Rule {
            handle: 7,
            packets: Some(2),
            ..Rule::default()
        }]
    }

    fn trace(&self, filter: &TraceFilter, _: std::sync::Weak<()>) -> Result<Receiver<TracePacket>, String> {
        if filter.port.as_deref() == Some("nope") {
            return Err("port nope is not one of this instance: `bypath show ports`".into());
        }
        let (send, receive) = bounded(8);
        for packet in 1..=3 {
            send.send(TracePacket {
                lost: packet - 1,
                lines: vec![TraceLine {
                    packet,
                    ..TraceLine::default()
                }],
            })
            .unwrap();
        }
        *self.trace.lock().unwrap() = Some(send);
        Ok(receive)
    }
}

fn start(name: &str) -> (Arc<Fake>, ServerHandle, String) {
    let (fake, name) = (Arc::new(Fake::default()), format!("test-{name}-{}", std::process::id()));
    let server = serve(Arc::clone(&fake) as Arc<dyn Backend>, Some(&name)).unwrap();
    (fake, server, name)
}

fn raw(name: &str) -> UnixStream {
    let address = SocketAddr::from_abstract_name(socket_name(Some(name)).unwrap()).unwrap();
    UnixStream::connect_addr(&address).unwrap()
}

fn answer(mut stream: UnixStream, request: &[u8]) -> String {
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn show<T: serde::de::DeserializeOwned>(name: &str, what: Show) -> Vec<T> {
    Client::connect(Some(name))
        .unwrap()
        .show(what)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn every_table_comes_back_as_it_was_given() {
    let (fake, _server, name) = start("tables");
    assert_eq!(show::<Totals>(&name, Show::Totals), [fake.totals()]);
    assert_eq!(show::<Port>(&name, Show::Ports), fake.ports());
    assert_eq!(show::<Worker>(&name, Show::Workers), fake.workers());
    assert_eq!(show::<DropRow>(&name, Show::Drops), []);
    assert_eq!(show::<Latency>(&name, Show::Latency), fake.latency());
    assert_eq!(show::<Neighbor>(&name, Show::Neighbors).len(), 1);
    assert_eq!(show::<BridgeLink>(&name, Show::Bridge).len(), 1);
    assert_eq!(show::<Qdisc>(&name, Show::Qdisc)[0].options["rate"], 125_000);
    assert_eq!(show::<FdbEntry>(&name, Show::Fdb).len(), 1);
    assert_eq!(show::<Rule>(&name, Show::Rules)[0].packets, Some(2));
    let routes = show::<Route>(&name, Show::Routes);
    assert!(routes.iter().map(|route| route.table).eq(0..ROUTES));
}

#[test]
fn what_the_kernel_decides_about_is_listed_and_not_counted() {
    let (_fake, _server, name) = start("connections");
    let of = |what| Connections {
        what,
        filter: ConnectionFilter::default(),
    };
    let ask = || Client::connect(Some(&name)).unwrap();
    let listed = ask().connections::<ConnectionRow>(&of(ConnectionsDo::List)).unwrap();
    assert_eq!(listed.map(Result::unwrap).filter(|row| row.kernel).count(), 1);
    let counted = ask().connections::<ConnectionCount>(&of(ConnectionsDo::Count)).unwrap();
    let counted: Vec<u64> = counted.map(|row| row.unwrap().connections).collect();
    assert_eq!(counted, [2]);
}

#[test]
fn the_lines_are_what_the_module_s_head_says() {
    let (_fake, _server, name) = start("lines");
    let row = r#"{"row":{"received":7,"forwarded":7,"punted":{},"dropped":{},"held":0}}"#;
    assert_eq!(
        answer(raw(&name), b"{\"show\":\"totals\"}\n"),
        format!("{row}\n\"end\"\n")
    );
}

#[test]
fn nobody_there_and_somebody_there_are_told_apart() {
    let (_fake, server, name) = start("twice");
    let fake: Arc<dyn Backend> = Arc::new(Fake::default());
    assert!(matches!(
        serve(Arc::clone(&fake), Some(&name)),
        Err(Error::AlreadyRunning { .. })
    ));
    drop(server);
    // Other tests serve theirs meanwhile.
    let error = Client::connect(Some(&name)).unwrap_err();
    assert!(
        matches!(&error, Error::NotRunning { socket } | Error::RunsElsewhere { socket, .. } if *socket == format!("@bypath.{name}")),
        "{error}"
    );
    drop(serve(fake, Some(&name)).unwrap());
}

#[test]
fn an_instance_of_another_name_is_found_with_its_process() {
    let (_fake, _server, name) = start("other");
    let own = Served {
        socket: format!("@bypath.{name}"),
        pid: i32::try_from(std::process::id()).ok(),
    };
    assert!(Served::list().contains(&own), "{:?}", Served::list());
    let error = Client::connect(Some("nobody-at-all")).unwrap_err().to_string();
    assert!(
        error.starts_with("no bypath serves control socket @bypath.nobody-at-all") && error.contains(&own.socket),
        "{error}"
    );
    let second = serve(Arc::new(Fake::default()), Some(&name)).unwrap_err().to_string();
    assert!(second.contains("stop it first, `kill "), "{second}");
}

#[test]
fn names_that_do_not_fit_are_refused() {
    assert_eq!(socket_name(None).unwrap(), "bypath");
    assert_eq!(socket_name(Some("a.b_c-1")).unwrap(), "bypath.a.b_c-1");
    for bad in ["", "a b", "a/b", "ä", &"x".repeat(NAME_MAX + 1)] {
        assert!(
            matches!(socket_name(Some(bad)), Err(Error::ControlName { .. })),
            "{bad:?}"
        );
    }
}

#[test]
fn bad_requests_get_a_reason() {
    let (_fake, _server, name) = start("bad");
    for bad in [&b"nonsense\n"[..], b"{\"show\":\"secrets\"}\n", b"\n", b"\xff\n"] {
        let text = answer(raw(&name), bad);
        assert!(text.starts_with("{\"error\":\"the request is not understood"), "{text}");
    }
    let text = answer(raw(&name), &[b' '; REQUEST_MAX]);
    assert!(text.contains("one line of at most"), "{text}");
    let stream = raw(&name);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    (&stream).read_to_string(&mut text).unwrap();
    assert!(text.contains("one line of at most"), "{text}");
}

#[test]
fn clients_are_bounded_and_a_silent_one_does_not_outlive_the_server() {
    let (_fake, server, name) = start("many");
    let silent: Vec<UnixStream> = (0..CLIENTS_MAX).map(|_| raw(&name)).collect();
    // Accepted in the order of connecting, so the next one meets a full house.
    let text = answer(raw(&name), b"");
    assert!(text.contains("too many clients"), "{text}");
    let begin = Instant::now();
    drop(server);
    assert!(begin.elapsed() < TIMEOUT, "the server waited for its clients");
    drop(silent);
}

#[test]
fn a_client_that_leaves_stops_the_walk_over_the_routes() {
    let (fake, server, name) = start("leaves");
    let mut stream = raw(&name);
    stream.write_all(b"{\"show\":\"routes\"}\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    drop(stream);
    drop(server);
    assert!(*fake.routes_given.lock().unwrap() < ROUTES);
}

#[test]
fn a_trace_ends_with_its_count_and_tells_what_it_lost() {
    let (_fake, _server, name) = start("count");
    let filter = TraceFilter {
        count: Some(2),
        ..TraceFilter::default()
    };
    let mut rows = Client::connect(Some(&name))
        .unwrap()
        .trace::<TraceLine>(filter)
        .unwrap();
    let seen: Vec<u64> = rows.by_ref().map(|line| line.unwrap().packet).collect();
    assert_eq!((seen, rows.take_lost()), (vec![1, 2], 1));
}

#[test]
fn a_trace_that_cannot_be_is_explained() {
    let (_fake, _server, name) = start("explained");
    let filter = TraceFilter {
        port: Some("nope".into()),
        ..TraceFilter::default()
    };
    let mut rows = Client::connect(Some(&name))
        .unwrap()
        .trace::<TraceLine>(filter)
        .unwrap();
    let error = rows.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("port nope is not one of this instance"), "{error}");
}

#[test]
fn a_trace_is_turned_off_when_its_client_leaves() {
    let (fake, _server, name) = start("off");
    let mut rows = Client::connect(Some(&name))
        .unwrap()
        .trace::<TraceLine>(TraceFilter::default())
        .unwrap();
    rows.next().unwrap().unwrap();
    drop(rows);
    let send = fake.trace.lock().unwrap().take().unwrap();
    let begin = Instant::now();
    // Longer than a tick between tries, so that it is the quiet server that finds out.
    while begin.elapsed() < TIMEOUT {
        std::thread::sleep(std::time::Duration::from_millis(250));
        if matches!(
            send.try_send(TracePacket::default()),
            Err(crossbeam::channel::TrySendError::Disconnected(_))
        ) {
            return;
        }
    }
    panic!("the trace went on without its client");
}

#[test]
fn an_answer_that_is_cut_off_is_an_error() {
    use std::os::unix::net::UnixListener;
    let name = format!("test-cut-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(socket_name(Some(&name)).unwrap()).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        let _ = stream.read(&mut request).unwrap();
        stream
            .write_all(b"{\"row\":{\"place\":\"d0\",\"reason\":\"x\",\"frames\":1}}\n")
            .unwrap();
    });
    let mut rows = Client::connect(Some(&name))
        .unwrap()
        .show::<DropRow>(Show::Drops)
        .unwrap();
    assert!(rows.next().unwrap().is_ok());
    assert!(rows.next().unwrap().unwrap_err().to_string().contains("cut off"));
    assert!(rows.next().is_none());
    thread.join().unwrap();
}
